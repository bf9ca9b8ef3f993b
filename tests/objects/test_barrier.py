"""The shared Barrier lets all parties through together, and runs its action in one client."""

import asyncio
import threading
from typing import Any

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
    runner = barrier.arrive()
    if second.done:
        runner, second = second, runner
    rig.keeps = True
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
