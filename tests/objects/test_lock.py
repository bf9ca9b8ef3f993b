"""The shared Lock does what threading.Lock does, has an owner, and goes to who waits longest."""

import threading
from itertools import count
from typing import Any, NamedTuple

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
from aiomanager.objects.lock import Lock
from aiomanager.waiter import ANYBODY

from .rigs import PureRig, Rig, SessionRig
from .twins import Model, PatientTwins, Wait

sessions = st.integers(0, 2)
owners = st.integers(1, 2)
names = st.sampled_from([None, None, "job", ANYBODY])


class Who(NamedTuple):
    """An owner as the model compares it, and the session that acquired."""

    identity: Any
    session: int


class LockModel(Model):
    """Python's own lock, those who wait for it, and who holds it."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()
        self.holder: Who | None = None
        self.fences = count(1)
        self.fence = 0
        self.since = 0.0

    def in_front(self, wait: Wait) -> list[Any]:
        return [] if self.holder is None else [self.holder.identity]

    def identity_of(self, wait: Wait) -> Any:
        return wait.request.identity

    def who(self, name: str | None) -> Who:
        return Who(self.acting if name is None else name, self.acting[0])

    def take(self, who: Who) -> int:
        assert self.lock.acquire(blocking=False)
        self.holder, self.since = who, self.time
        self.fence = next(self.fences)
        return self.fence

    def serve(self) -> None:
        while not self.lock.locked() and (waiting := self.first("lock")):
            self.answer(waiting, lambda waiting=waiting: self.take(waiting.request))

    def acquire_fenced(
        self, blocking: bool = True, timeout: float | None = None, name: str | None = None
    ) -> Any:
        # Python's own says what is wrong with the arguments.
        threading.Lock().acquire(blocking, -1 if timeout is None else timeout)
        who = self.who(name)
        if not self.lock.locked():
            return self.take(who)
        if not blocking or timeout == 0:
            return 0
        return self.park("lock", None if timeout == -1 else timeout, lambda: 0, who)

    def free(self) -> None:
        self.lock.release()
        self.holder = None
        self.serve()

    def release(self, name: str | None = None) -> None:
        if self.lock.locked() and self.holder is not None:
            if self.holder.identity != self.who(name).identity:
                raise RuntimeError("not the owner")
            self.free()
        else:
            self.lock.release()  # which raises

    def end(self, session: int, *, well: bool = True) -> None:
        super().end(session, well=well)
        holder = self.holder
        if holder is not None and holder.session == session:
            if not well or holder.identity != ANYBODY:
                self.free()
            else:
                self.holder = Who(ANYBODY, -1)

    def held(self) -> Any:
        return (self.time - self.since, self.fence) if self.lock.locked() else None


class LockMachine(RuleBasedStateMachine):
    @initialize()
    def make(self) -> None:
        self.twins = PatientTwins(Lock, LockModel())

    @invariant()
    def same(self) -> None:
        self.twins.compare()
        self.twins.check("locked", lambda m: m.lock.locked())
        self.twins.check("waiting", lambda m: len(m.waits))
        self.twins.check(lambda p: (held := p.holder()) and held[1:], LockModel.held)

    @rule(
        session=sessions,
        owner=owners,
        blocking=st.booleans(),
        timeout=st.sampled_from([None, 0, 1.25, 2.75, -1, -2]),
        name=names,
    )
    def acquire(self, session: int, owner: int, blocking: bool, timeout: Any, name: Any) -> None:
        model = LockModel.acquire_fenced
        self.twins.act(session, owner, "acquire_fenced", model, blocking, timeout, name)

    @rule(session=sessions, owner=owners)
    def acquire_for_ever(self, session: int, owner: int) -> None:
        self.twins.act(session, owner, "acquire_fenced", LockModel.acquire_fenced)

    @rule(session=sessions, owner=owners, name=names)
    def release(self, session: int, owner: int, name: Any) -> None:
        self.twins.act(session, owner, "release", LockModel.release, name)

    @precondition(lambda self: self.twins.model.holder)
    @rule()
    def release_as_holder(self) -> None:
        identity, session = self.twins.model.holder
        named = isinstance(identity, str)
        owner, name = (1, identity) if named else (identity[1], None)
        self.twins.act(max(session, 0), owner, "release", LockModel.release, name)

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


TestLock = LockMachine.TestCase
TestLock.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)


@pytest.fixture(params=[PureRig, SessionRig])
def rig(request: pytest.FixtureRequest) -> Rig:
    return request.param()  # type: ignore[no-any-return]


def granted(rig: Rig, lock: Any, session: int) -> Any:
    """Acquire without a word that this is known."""
    rig.keeps = False
    with rig.as_(session):
        parked = lock.acquire_fenced()
    rig.keeps = True
    return parked


def test_a_cancelled_acquire_lets_the_next_one_in(rig: Rig) -> None:
    lock = rig.make(Lock)
    first = granted(rig, lock, 1)
    with rig.as_(2):
        second = lock.acquire_fenced()
    assert first.result() == 1
    assert not second.done
    assert first.take_back()
    assert second.result() == 2


def test_a_cancel_does_not_take_the_lock_from_its_next_owner(rig: Rig) -> None:
    lock = rig.make(Lock)
    first = granted(rig, lock, 1)
    with rig.as_(1):
        lock.release()
    with rig.as_(2):
        assert lock.acquire_fenced() == 2
    first.take_back()
    assert lock.locked()
    with rig.as_(2):
        lock.release()


def test_the_holder_is_named_with_the_time_since_it_has_the_lock(rig: Rig) -> None:
    lock = rig.make(Lock)
    with rig.as_(1, 7):
        assert lock.acquire_fenced() == 1
    with rig.as_(2, 8):
        second = lock.acquire_fenced()
    rig.clock.advance(10)
    with rig.as_(1, 7):
        lock.release()
    assert second.done
    rig.clock.advance(3)
    who, seconds, fence = lock.holder()
    assert who == "session 2, task or thread 8"
    assert (seconds, fence) == (3, 2)
    with pytest.raises(NotOwner, match=r"session 2, task or thread 8 since 3\.000 s"):
        lock.release()


def test_acquire_keeps_the_fence_on_the_proxy(rig: Rig) -> None:
    lock = rig.make(Lock)
    assert lock.acquire()
    assert lock.fence == 1
    with rig.as_(1):
        assert not lock.acquire(blocking=False)
    assert lock.fence == 1
    lock.release()
    assert lock.acquire()
    assert lock.fence == 2


@pytest.mark.parametrize("well", [True, False])
def test_what_everybody_may_release_stays_when_its_session_ends_well(rig: Rig, well: bool) -> None:
    lock = rig.make(Lock)
    with rig.as_(1):
        lock.acquire(owner=ANYBODY)
    with rig.as_(2):
        waiting = lock.acquire_fenced()
    rig.end(1, well=well)
    assert waiting.done is not well
    if well:
        lock.release(owner=ANYBODY)
    assert waiting.result() == 2


def test_a_named_owner_is_the_same_in_every_session(rig: Rig) -> None:
    lock = rig.make(Lock)
    with rig.as_(1):
        lock.acquire(owner="job")
    with rig.as_(2), pytest.raises(NotOwner):
        lock.release()
    with rig.as_(2):
        lock.release(owner="job")
    assert not lock.locked()
    rig.end(1)
    assert lock.acquire(blocking=False)
