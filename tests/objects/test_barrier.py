"""The shared Barrier lets all parties through together, and runs its action in one client."""

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

import aiomanager
import aiomanager.sync
from aiomanager.errors import BrokenBarrierError
from aiomanager.objects.barrier import Barrier

from .rigs import PureRig, Rig, SessionRig
from .twins import Model, PatientTwins, Wait

sessions = st.integers(0, 2)


class BarrierModel(Model):
    """A barrier in the plainest words."""

    def __init__(self, parties: int, action: Any) -> None:
        super().__init__()
        self.parties = parties
        self.action = action
        self.broken = False
        self.turn = self.last = 0
        self.acting_session = -1
        self.runner: Any = None
        """The task or thread that runs the action, unless it does not wait for its calls."""
        self.overdue: list[Wait] = []

    def of(self, what: str) -> list[Wait]:
        return [wait for wait in self.waits if wait.what == what]

    def serve(self) -> None:
        while not self.turn and len(self.of("seat")) >= self.parties:
            for wait in self.of("seat")[: self.parties]:
                wait.what = "inside"
            if self.action is None:
                self.let_through()
                continue
            self.last += 1
            self.turn = self.last
            runner = self.of("inside")[0]
            self.acting_session = runner.acting[0]
            self.runner = None if runner.free else runner.acting
            self.answer(runner, lambda: (0, self.turn, self.action))

    def let_through(self) -> None:
        first = 1 if self.turn else 0
        self.turn = 0
        for index, wait in enumerate(self.of("inside"), first):
            self.answer(wait, lambda index=index: (index, 0, None))

    def fail_all(self) -> None:
        def fail() -> None:
            raise BrokenBarrierError

        self.turn = 0
        for wait in list(self.waits):
            self.answer(wait, fail)

    def look(self) -> None:
        if not self.turn and any(wait in self.overdue for wait in self.of("seat")):
            self.abort()

    def arrive(self, timeout: float | None) -> Any:
        if self.turn and self.runner == self.acting and not self.beside:
            self.abort()
        if self.broken:
            raise BrokenBarrierError
        parked = self.park("seat", timeout, lambda: None)
        wait = self.waits[-1]
        self.serve()
        if timeout is not None and timeout <= 0 and not parked.done:
            self.overdue.append(wait)
            self.look()
        return parked

    def pass_on(self, turn: int) -> None:
        if not turn or turn != self.turn:
            raise BrokenBarrierError
        self.let_through()
        self.serve()
        self.look()

    def reset(self) -> None:
        self.broken = False
        self.fail_all()

    def abort(self) -> None:
        self.broken = True
        self.fail_all()

    def advance(self, seconds: float) -> None:
        end = self.time + seconds
        while due := [w for w in self.waits if w.until is not None and w.until <= end]:
            first = min(due, key=lambda wait: wait.until)
            first.until = None
            self.overdue.append(first)
            self.look()
        self.time = end

    def end(self, session: int, *, well: bool = True) -> None:
        super().end(session, well=well)
        if self.turn and self.acting_session == session:
            self.abort()


class BarrierMachine(RuleBasedStateMachine):
    @initialize(parties=st.integers(1, 3), action=st.sampled_from([None, "action"]))
    def make(self, parties: int, action: Any) -> None:
        self.twins = PatientTwins(Barrier, BarrierModel(parties, action), parties, action)

    @invariant()
    def same(self) -> None:
        self.twins.compare()
        self.twins.check(lambda p: p.broken, lambda m: m.broken)
        self.twins.check(lambda p: p.parties, lambda m: m.parties)
        self.twins.check(lambda p: p.n_waiting, lambda m: len(m.waits) + bool(m.turn))

    @rule(
        session=sessions,
        owner=st.integers(1, 3),
        timeout=st.sampled_from([None, None, None, 0, -1, 1, 2.5]),
    )
    def arrive(self, session: int, owner: int, timeout: Any) -> None:
        self.twins.act(session, owner, "arrive", BarrierModel.arrive, timeout)

    @rule(session=sessions, behind=st.sampled_from([0, 0, 1]))
    def pass_on(self, session: int, behind: int) -> None:
        turn = self.twins.model.last - behind
        self.twins.act(session, 1, "pass_on", BarrierModel.pass_on, max(turn, 0))

    @rule(session=sessions)
    def reset(self, session: int) -> None:
        self.twins.act(session, 1, "reset", BarrierModel.reset)

    @precondition(lambda self: self.twins.waiting)
    @rule(session=sessions)
    def abort(self, session: int) -> None:
        self.twins.act(session, 1, "abort", BarrierModel.abort)

    @rule(seconds=st.sampled_from([0.5, 1, 2]))
    def advance(self, seconds: float) -> None:
        self.twins.advance(seconds)

    @precondition(lambda self: self.twins.waiting)
    @rule(position=st.integers(0, 9))
    def cancel(self, position: int) -> None:
        self.twins.cancel(position)

    @rule(session=sessions, well=st.booleans())
    def end(self, session: int, well: bool) -> None:
        self.twins.end(session, well=well)


TestBarrier = BarrierMachine.TestCase
TestBarrier.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


@pytest.fixture(params=[PureRig, SessionRig])
def rig(request: pytest.FixtureRequest) -> Rig:
    return request.param()  # type: ignore[no-any-return]


def test_who_takes_his_turn_back_leaves_the_others_waiting(rig: Rig) -> None:
    barrier = rig.make(Barrier, 2, "action")
    with rig.as_(1):
        first = barrier.arrive()
    rig.keeps = False
    with rig.as_(2):
        second = barrier.arrive()
    runner, other = (first, second) if first.done else (second, first)
    assert runner.result() == (0, 1, "action")
    assert runner.take_back()
    assert not other.done
    assert not barrier.broken
    assert barrier.n_waiting == 1
    rig.keeps = True
    third = barrier.arrive()
    done = [one for one in (other, third) if not hasattr(one, "done") or one.done]
    assert len(done) == 1


def test_who_was_through_but_for_the_action_has_the_old_place_again(rig: Rig) -> None:
    barrier = rig.make(Barrier, 2, "action")
    second = barrier.arrive()
    rig.keeps = False
    with rig.as_(0, 2):
        runner = barrier.arrive()
    if second.done:
        runner, second = second, runner
    rig.keeps = True
    with rig.as_(1):
        later = [barrier.arrive(), barrier.arrive()]
    assert runner.take_back()
    assert second.done  # the first of the two who go on, before those who came later
    assert [one.done for one in later] == [False, False]


def test_an_action_that_fails_breaks_its_own_turn_only(rig: Rig) -> None:
    barrier = rig.make(Barrier, 2, "action")
    with rig.as_(1):
        first = barrier.arrive()
    second = barrier.arrive()
    waits = second if first.done else first
    barrier.reset()
    with pytest.raises(BrokenBarrierError, match="reset"):
        waits.result()
    with rig.as_(2):
        third = barrier.arrive()
    barrier.fail(1)  # which others have left behind
    assert not third.done
    assert not barrier.broken
    fourth = barrier.arrive()
    waits = fourth if third.done else third
    barrier.fail(2)
    assert barrier.broken
    with pytest.raises(BrokenBarrierError, match="its action failed"):
        waits.result()


def test_who_dies_in_his_turn_breaks_the_barrier(rig: Rig) -> None:
    barrier = rig.make(Barrier, 2, "action")
    with rig.as_(1):
        first = barrier.arrive()
    with rig.as_(2):
        second = barrier.arrive()
    assert first.done
    rig.end(1, well=False)
    with pytest.raises(BrokenBarrierError, match="is gone"):
        second.result()


def test_who_comes_back_without_having_passed_his_turn_on_breaks_the_barrier(rig: Rig) -> None:
    barrier = rig.make(Barrier, 2, "action")
    with rig.as_(1):
        first = barrier.arrive()
    with rig.as_(2):
        second = barrier.arrive()
        assert first.done
        with rig.as_(1, 1, free=True):
            barrier.arrive()  # not he: a task that he made
        with rig.as_(1, 2):
            barrier.arrive()
        assert not barrier.broken
    with rig.as_(1), pytest.raises(BrokenBarrierError):
        barrier.arrive()
    with pytest.raises(BrokenBarrierError, match="has come back without"):
        second.result()
    assert barrier.broken


def test_a_party_that_dies_gives_up_its_seat(rig: Rig) -> None:
    barrier = rig.make(Barrier, 2)
    with rig.as_(1):
        barrier.arrive()
    rig.end(1, well=False)
    assert barrier.n_waiting == 0
    with rig.as_(2):
        second = barrier.arrive()
    barrier.arrive()
    assert second.result() == (0, 0, None)


def test_no_time_runs_out_during_the_action(rig: Rig) -> None:
    barrier = rig.make(Barrier, 2, "action")
    with rig.as_(1):
        barrier.arrive()
    with rig.as_(2):
        second = barrier.arrive(5)
    rig.clock.advance(10)
    assert not second.done
    with rig.as_(1):
        barrier.pass_on(1)
    rig.pump()
    assert second.result() == (1, 0, None)


def test_blocking_and_async_parties_pass_a_thousand_times() -> None:
    async def main() -> list[list[int]]:
        async with aiomanager.connect(server.url) as manager:
            barrier = await manager.named.Barrier("barrier", 3)
            return await asyncio.gather(passes(barrier), passes(barrier))

    async def passes(barrier: aiomanager.BarrierProxy) -> list[int]:
        return [await barrier.wait() for _ in range(1000)]

    with aiomanager.sync.Manager() as server:
        barrier = server.named.Barrier("barrier", 3)
        found: list[int] = []
        thread = threading.Thread(
            target=lambda: found.extend(barrier.wait() for _ in range(1000)), daemon=True
        )
        thread.start()
        rows = asyncio.run(main())
        thread.join(60)
        assert all({0, 1, 2} == set(row) for row in zip(found, *rows, strict=True))
        assert (barrier.n_waiting, barrier.broken, barrier.parties) == (0, False, 3)


calls: list[int] = []


def note() -> None:
    calls.append(threading.get_ident())


async def note_later() -> None:
    await asyncio.sleep(0)
    calls.append(0)


def fail() -> None:
    raise ZeroDivisionError("the action fails")


class Interrupt(Exception):
    """What a signal handler raises."""


class Interrupted:
    """A barrier of two: the first party, who runs the action, is interrupted; the other waits."""

    def __init__(self, manager: aiomanager.sync.Manager, action: Any) -> None:
        self.barrier = manager.Barrier(2, action)
        self.channel: Any = self.barrier._channel
        self.found: list[Any] = []
        self.other = threading.Thread(target=self._other, daemon=True)

    def _other(self) -> None:
        try:
            while not self.barrier.n_waiting:
                time.sleep(0.001)
            self.found.append(self.barrier.wait())
        except BrokenBarrierError as error:
            self.found.append(error)

    def wait(self, expected: type[BaseException]) -> Any:
        """Wait as the first party, and return what the other one has come to."""
        self.other.start()
        with pytest.raises(expected):
            self.barrier.wait()
        self.other.join(10)
        assert self.found, "the other party waits for ever"
        return self.found[0]

    def interrupt(self, patch: pytest.MonkeyPatch, name: str, *, sent: bool) -> None:
        """Have a handler raise once, where this operation is called, before or after it is sent."""
        done: list[str] = []

        def interrupted(act: Any) -> Any:
            def run(proxy: Any, operation: Any, *given: Any) -> Any:
                if operation.name != name or done:
                    return act(proxy, operation, *given)
                done.append(name)
                if sent:
                    act(proxy, operation, *given)
                raise Interrupt

            return run

        object.__setattr__(self.barrier, "_call", interrupted(self.channel.call))
        patch.setattr(self.channel, "post", interrupted(self.channel.post))


@pytest.fixture(scope="module")
def manager() -> Iterator[aiomanager.sync.Manager]:
    with aiomanager.sync.Manager() as manager:
        yield manager


def nothing() -> None:
    pass


@pytest.mark.parametrize("sent", [False, True])
def test_who_is_interrupted_while_he_passes_his_turn_on_leaves_nobody_behind(
    manager: aiomanager.sync.Manager, monkeypatch: pytest.MonkeyPatch, sent: bool
) -> None:
    party = Interrupted(manager, nothing)
    party.interrupt(monkeypatch, "pass_on", sent=sent)
    found = party.wait(Interrupt)
    assert found == 1 if sent else isinstance(found, BrokenBarrierError)
    assert party.barrier.broken == (not sent)


def interrupted_action() -> None:
    raise Interrupt


def test_who_is_interrupted_again_while_he_says_so_leaves_nobody_behind(
    manager: aiomanager.sync.Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    party = Interrupted(manager, interrupted_action)
    party.interrupt(monkeypatch, "fail", sent=False)
    assert isinstance(party.wait(Interrupt), BrokenBarrierError)


def test_nothing_is_called_between_a_turn_and_the_try(manager: aiomanager.sync.Manager) -> None:
    """Where functions begin, and behind calls of others, the interpreter lets handlers in."""
    party = Interrupted(manager, nothing)
    begun: list[str] = []

    def arrives(timeout: float | None) -> Any:
        answer = party.channel.call(party.barrier, Barrier.arrive, (timeout,), 1)
        sys.setprofile(profile)
        return answer

    def profile(frame: Any, event: str, _argument: Any) -> None:
        if event in ("call", "c_call") and frame.f_code.co_name != "arrives":
            begun.append(frame.f_code.co_name)
            sys.setprofile(None)
            raise Interrupt

    object.__setattr__(party.barrier, "arrive", arrives)
    try:
        found = party.wait(Interrupt)
    finally:
        sys.setprofile(None)
    assert begun == ["nothing"]
    assert isinstance(found, BrokenBarrierError)


def test_a_blocking_party_runs_no_coroutine_function(manager: aiomanager.sync.Manager) -> None:
    party = Interrupted(manager, note_later)
    assert isinstance(party.wait(TypeError), BrokenBarrierError)


scope: Any = None


def cancel_here() -> None:
    scope.cancel()


async def cancel_and_wait() -> None:
    scope.cancel()
    await anyio.sleep(5)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("action", [cancel_here, cancel_and_wait])
def test_who_is_cancelled_during_the_action_leaves_nobody_behind(
    manager: aiomanager.sync.Manager, action: Any, backend: str
) -> None:
    async def first(barrier: aiomanager.BarrierProxy) -> None:
        global scope
        with anyio.CancelScope() as scope:
            await barrier.wait()

    async def second(barrier: aiomanager.BarrierProxy) -> Any:
        try:
            return await barrier.wait()
        except BrokenBarrierError:
            return "broken"

    async def main() -> None:
        async with aiomanager.connect(manager.url) as there:
            # On trio it is chance whether the word is out before its task is cancelled.
            for _ in range(10):
                barrier = await there.Barrier(2, action)
                with anyio.fail_after(10):
                    async with anyio.create_task_group() as group:
                        group.start_soon(first, barrier)
                        while await barrier.n_waiting() < 1:  # noqa: ASYNC110
                            await anyio.sleep(0.001)
                        found = await second(barrier)
                assert found == "broken" or (found == 1 and action is cancel_here)

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("action", [note, note_later])
def test_the_action_runs_once_for_each_pass(action: Any) -> None:
    calls.clear()

    async def main() -> None:
        async with aiomanager.Manager() as manager:
            barrier = await manager.Barrier(3, action)
            for done in range(1, 4):
                indexes = await asyncio.gather(*(barrier.wait() for _ in range(3)))
                assert sorted(indexes) == [0, 1, 2]
                assert len(calls) == done

    asyncio.run(main())


def test_an_action_that_fails_breaks_the_barrier() -> None:
    with aiomanager.sync.Manager() as manager:
        barrier = manager.Barrier(1, fail)
        with pytest.raises(ZeroDivisionError):
            barrier.wait()
        assert barrier.broken
        with pytest.raises(threading.BrokenBarrierError):
            barrier.wait()
