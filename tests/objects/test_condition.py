"""The shared Condition: whoever comes out of a wait has the lock, and no notification is lost."""

from dataclasses import dataclass
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

from aiomanager.errors import NotOwner
from aiomanager.objects.condition import Condition
from aiomanager.objects.lock import Lock
from aiomanager.objects.rlock import RLock
from aiomanager.waiter import ANYBODY

from .rigs import Parked, PureRig, Rig, SessionRig
from .twins import Model, PatientTwins, Wait

sessions = st.integers(0, 2)
owners = st.integers(1, 2)


@dataclass
class Back:
    """What one who stands in line for the lock is owed when he has it."""

    identity: tuple[int, int]
    depth: int
    answer: Any
    notified: bool = False
    taken_back: bool = False


class ConditionModel(Model):
    """A condition with a re-entrant lock, in the plainest words."""

    def __init__(self) -> None:
        super().__init__()
        self.owner: Any = None
        self.depth = 0
        self.fence = 0

    def begin(self, identity: tuple[int, int], depth: int) -> None:
        self.owner, self.depth = identity, depth
        self.fence += 1

    def line(self) -> list[Wait]:
        return [wait for wait in self.waits if wait.what == "lock"]

    def asleep(self) -> list[Wait]:
        return [wait for wait in self.waits if wait.what == "asleep"]

    def serve(self) -> None:
        while self.owner is None and (first := self.first("lock")):
            back: Back = first.request
            self.begin(back.identity, back.depth)
            if back.taken_back:
                self.waits.remove(first)
            else:
                acquires = back.answer is None
                answer = self.fence if acquires else (back.answer, self.fence)
                self.answer(first, lambda: answer)  # noqa: B023

    def check(self) -> None:
        if self.owner != self.acting:
            raise RuntimeError("not the owner")

    def acquire(self, blocking: bool, timeout: float | None) -> Any:
        if self.owner == self.acting:
            self.depth += 1
            return self.fence
        if self.owner is None:
            self.begin(self.acting, 1)
            return self.fence
        if not blocking or timeout == 0:
            return 0
        return self.park("lock", timeout, lambda: 0, Back(self.acting, 1, None))

    def release(self) -> None:
        self.check()
        self.depth -= 1
        if not self.depth:
            self.owner = None
            self.serve()

    def wait(self, timeout: float | None) -> Any:
        self.check()
        back = Back(self.acting, self.depth, False)
        parked = self.park("asleep", timeout, lambda: False, back)
        self.owner, self.depth = None, 0
        self.serve()
        if timeout is not None and timeout <= 0:
            self.wake(self.waits[-1], notified=False)
        return parked

    def wake(self, wait: Wait, *, notified: bool) -> None:
        self.waits.remove(wait)
        wait.what, wait.until = "lock", None
        wait.request.answer = wait.request.notified = notified
        self.waits.append(wait)
        self.serve()

    def notify(self, n: int) -> None:
        self.check()
        self.pass_on(n)

    def pass_on(self, n: int = 1) -> None:
        for wait in self.asleep()[: max(n, 0)]:
            self.wake(wait, notified=True)

    def notify_all(self) -> None:
        self.notify(len(self.asleep()))

    def advance(self, seconds: float) -> None:
        end = self.time + seconds
        while due := [w for w in self.waits if w.until is not None and w.until <= end]:
            first = min(due, key=lambda wait: wait.until)
            self.time = first.until
            if first.what == "asleep":
                self.wake(first, notified=False)
            else:
                self.answer(first, first.on_timeout)
        self.time = end

    def take_back(self, wait: Wait) -> None:
        """A sleeper has the lock again before he is gone; others just leave."""
        back: Back = wait.request
        if wait.what == "asleep":
            back.taken_back = True
            self.wake(wait, notified=False)
        elif back.answer is None:  # it acquires
            self.waits.remove(wait)
        else:
            back.taken_back = True
            if back.notified:
                back.notified = False
                self.pass_on()

    def end(self, session: int, *, well: bool = True) -> None:
        gone = [wait for wait in self.waits if wait.acting[0] == session]
        super().end(session, well=well)
        for _ in [wait for wait in gone if wait.request.notified]:
            self.pass_on()
        if self.owner is not None and self.owner[0] == session:
            self.owner, self.depth = None, 0
            self.serve()


class ConditionMachine(RuleBasedStateMachine):
    @initialize()
    def make(self) -> None:
        self.twins = PatientTwins(Condition, ConditionModel())

    @invariant()
    def same(self) -> None:
        self.twins.compare()
        self.twins.check("locked", lambda m: m.owner is not None)
        self.twins.check("waiting", lambda m: len(m.line()))
        self.twins.check("sleeping", lambda m: len(m.asleep()))

    def act(self, who: tuple[int, int], name: str, model: Any, *given: Any) -> None:
        busy = {wait.acting for wait in self.twins.model.waits}
        if who not in busy:  # a task does one thing at a time
            self.twins.act(*who, name, model, *given)

    def somebody(self, as_owner: bool, session: int, owner: int) -> tuple[int, int]:
        holder = self.twins.model.owner
        return holder if as_owner and holder is not None else (session, owner)

    @rule(
        session=sessions,
        owner=owners,
        blocking=st.booleans(),
        timeout=st.sampled_from([None, None, 0, 1.5]),
    )
    def acquire(self, session: int, owner: int, blocking: bool, timeout: Any) -> None:
        if blocking or timeout is None:
            name = "acquire_fenced"
            self.act((session, owner), name, ConditionModel.acquire, blocking, timeout)

    @rule(as_owner=st.booleans(), session=sessions, owner=owners)
    def release(self, as_owner: bool, session: int, owner: int) -> None:
        who = self.somebody(as_owner, session, owner)
        self.act(who, "release", ConditionModel.release)

    @rule(
        as_owner=st.booleans(),
        session=sessions,
        owner=owners,
        timeout=st.sampled_from([None, None, 0, -1, 1, 2.5]),
    )
    def wait(self, as_owner: bool, session: int, owner: int, timeout: Any) -> None:
        who = self.somebody(as_owner, session, owner)
        self.act(who, "wait_fenced", ConditionModel.wait, timeout)

    @rule(as_owner=st.booleans(), session=sessions, owner=owners, n=st.integers(-1, 3))
    def notify(self, as_owner: bool, session: int, owner: int, n: int) -> None:
        who = self.somebody(as_owner, session, owner)
        self.act(who, "notify", ConditionModel.notify, n)

    @rule(as_owner=st.booleans(), session=sessions, owner=owners)
    def notify_all(self, as_owner: bool, session: int, owner: int) -> None:
        who = self.somebody(as_owner, session, owner)
        self.act(who, "notify_all", ConditionModel.notify_all)

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


TestCondition = ConditionMachine.TestCase
TestCondition.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


@pytest.fixture(params=[PureRig, SessionRig])
def rig(request: pytest.FixtureRequest) -> Rig:
    return request.param()  # type: ignore[no-any-return]


def test_a_condition_and_its_lock_are_one(rig: Rig) -> None:
    lock = rig.make(Lock)
    condition = rig.make(Condition, lock)
    assert lock.acquire()
    assert condition.locked()
    with rig.as_(1):
        assert not condition.acquire(blocking=False)
    condition.notify()
    condition.release()
    assert not lock.locked()


def test_two_conditions_share_a_lock(rig: Rig) -> None:
    lock = rig.make(RLock)
    full, empty = rig.make(Condition, lock), rig.make(Condition, lock)
    with rig.as_(1):
        assert lock.acquire()
        first = full.wait_fenced()
    with rig.as_(2):
        assert lock.acquire()
        second = empty.wait_fenced()
    assert lock.acquire()
    full.notify_all()
    lock.release()
    assert first.result()[0] is True
    assert not second.done


def test_a_condition_wants_a_lock(rig: Rig) -> None:
    with pytest.raises(TypeError, match="Lock or RLock"):
        rig.make(Condition, rig.make(_queue()))


def _queue() -> Any:
    from aiomanager.objects.queue import Queue

    return Queue


def test_the_whole_depth_is_given_up_and_comes_back(rig: Rig) -> None:
    condition = rig.make(Condition)
    for _ in range(3):
        condition.acquire()
    sleeping = condition.wait_fenced()
    with rig.as_(1):
        assert condition.acquire(blocking=False)
        condition.notify()
        condition.release()
    assert sleeping.result()[0] is True
    for _ in range(3):
        assert condition.locked()
        condition.release()
    assert not condition.locked()


def test_a_lock_of_everybody_will_do(rig: Rig) -> None:
    lock = rig.make(Lock)
    condition = rig.make(Condition, lock)
    assert lock.acquire(owner=ANYBODY)
    sleeping = condition.wait_fenced()
    assert not lock.locked()
    with rig.as_(1):
        assert lock.acquire(owner=ANYBODY)
    with rig.as_(2):
        condition.notify()
        condition.release()
    assert sleeping.result()[0] is True
    lock.release(owner=ANYBODY)
    assert not lock.locked()


def test_errors_name_the_holder(rig: Rig) -> None:
    condition = rig.make(Condition)
    for call in (condition.wait_fenced, condition.notify, condition.notify_all, condition.release):
        with pytest.raises(RuntimeError, match="not held") as plain:
            call()
        assert type(plain.value) is RuntimeError
    with rig.as_(1, 7):
        condition.acquire()
    for call in (condition.wait_fenced, condition.notify, condition.notify_all, condition.release):
        with pytest.raises(NotOwner, match="session 1, task or thread 7"):
            call()


def asleep(rig: Rig, condition: Any, session: int) -> Parked:
    with rig.as_(session):
        assert condition.acquire()
        parked: Parked = condition.wait_fenced()
        return parked


def test_what_was_notified_and_not_received_goes_to_the_next(rig: Rig) -> None:
    condition = rig.make(Condition)
    first, second = asleep(rig, condition, 1), asleep(rig, condition, 2)
    condition.acquire()
    condition.notify()
    rig.keeps = False
    condition.release()
    assert first.result()[0] is True
    assert not second.done
    assert first.take_back()  # it has the lock, and has not seen the answer
    assert condition.locked()
    assert not second.done
    with rig.as_(1):
        condition.release()
    assert second.result()[0] is True


def test_a_session_that_dies_with_a_notification_passes_it_on(rig: Rig) -> None:
    condition = rig.make(Condition)
    first, second = asleep(rig, condition, 1), asleep(rig, condition, 2)
    condition.acquire()
    condition.notify()
    rig.end(1, well=False)
    assert not first.done
    condition.release()
    assert second.result()[0] is True


def test_a_session_that_dies_after_it_was_answered_passes_it_on(rig: Rig) -> None:
    condition = rig.make(Condition)
    first, second = asleep(rig, condition, 1), asleep(rig, condition, 2)
    condition.acquire()
    condition.notify()
    rig.keeps = False
    condition.release()
    assert first.done
    rig.end(1, well=False)
    assert second.result()[0] is True


def test_whose_time_is_over_has_the_lock_before_he_is_told(rig: Rig) -> None:
    condition = rig.make(Condition)
    condition.acquire()
    sleeping = condition.wait_fenced(2)
    with rig.as_(1):
        condition.acquire()
    rig.clock.advance(5)
    rig.pump()
    assert not sleeping.done
    with rig.as_(1):
        condition.notify()  # too late for him
        condition.release()
    assert sleeping.result()[0] is False


def test_not_a_number_changes_nothing(rig: Rig) -> None:
    condition = rig.make(Condition)
    condition.acquire()
    with pytest.raises(ValueError, match="NaN"):
        condition.wait_fenced(float("nan"))
    condition.release()


def test_wait_for_has_one_deadline(rig: Rig) -> None:
    condition = rig.make(Condition)
    condition.acquire()
    first = condition.wait_until(5)
    with rig.as_(1):
        rig.clock.advance(3)
        condition.acquire()
        condition.notify()
        condition.release()
    notified, deadline, _ = first.result()
    assert notified
    second = condition.wait_until(5, deadline)
    rig.clock.advance(1)
    rig.pump()
    assert not second.done
    rig.clock.advance(1)
    rig.pump()
    assert second.result()[:2] == (False, deadline)
    assert condition.wait_for(lambda: "yes", 0) == "yes"
