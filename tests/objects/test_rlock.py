"""The shared RLock does what threading.RLock does in the thread of each owner."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import count
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
from aiomanager.objects.rlock import RLock
from aiomanager.waiter import ANYBODY

from .rigs import PureRig, Rig, SessionRig
from .twins import Model, PatientTwins, Wait

sessions = st.integers(0, 2)
owners = st.integers(1, 2)
names = st.sampled_from([None, None, "job"])


@cache
def thread_of(identity: Any) -> ThreadPoolExecutor:
    """Return the one thread that acts for an owner."""
    return ThreadPoolExecutor(1, f"owner {identity}")


class RLockModel(Model):
    """Python's own lock, used by a thread for each owner, and who waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.RLock()
        self.holder: Any = None
        self.depths: Counter[int] = Counter()
        """How many times each session acquired it, the first one first."""
        self.fences = count(1)
        self.fence = 0
        self.since = 0.0

    def in_front(self, wait: Wait) -> list[Any]:
        return [self.holder]

    def identity_of(self, wait: Wait) -> Any:
        return wait.request[0]

    def identity(self, name: str | None) -> Any:
        return self.acting if name is None else name

    def take(self, identity: Any, session: int) -> int:
        """Acquire without waiting; return the fence, 0 if that did not work."""
        if not thread_of(identity).submit(self.lock.acquire, False).result():
            return 0
        if self.holder is None:
            self.holder, self.since, self.fence = identity, self.time, next(self.fences)
        self.depths[session] += 1
        return self.fence

    def acquire_fenced(
        self, blocking: bool = True, timeout: float | None = None, name: str | None = None
    ) -> Any:
        # Python's own says what is wrong with the arguments.
        threading.RLock().acquire(blocking, -1 if timeout is None else timeout)
        who = self.identity(name), self.acting[0]
        fence = self.take(*who)
        if fence or not blocking or timeout == 0:
            return fence
        return self.park("lock", None if timeout == -1 else timeout, lambda: 0, who)

    def give(self, session: int) -> None:
        thread_of(self.holder).submit(self.lock.release).result()
        self.depths[session] -= 1
        self.depths = +self.depths
        if not self.depths:
            self.holder = None
            self.serve()

    def release(self, name: str | None = None) -> None:
        identity, session = self.identity(name), self.acting[0]
        if self.holder != identity:
            thread_of(identity).submit(self.lock.release).result()  # which raises
            raise AssertionError("somebody released what another holds")
        self.give(session if self.depths[session] else next(iter(self.depths)))

    def serve(self) -> None:
        while self.holder is None and (waiting := self.first("lock")):
            self.answer(waiting, lambda waiting=waiting: self.take(*waiting.request))

    def end(self, session: int, *, well: bool = True) -> None:
        super().end(session, well=well)
        for _ in range(self.depths[session]):
            self.give(session)

    def held(self) -> Any:
        return (self.time - self.since, self.fence) if self.holder is not None else None


class RLockMachine(RuleBasedStateMachine):
    @initialize()
    def make(self) -> None:
        self.twins = PatientTwins(RLock, RLockModel())

    def teardown(self) -> None:
        for session in range(3):
            if hasattr(self, "twins"):
                self.twins.end(session, well=False)

    @invariant()
    def same(self) -> None:
        self.twins.compare()
        self.twins.check("locked", lambda m: m.holder is not None)
        self.twins.check("waiting", lambda m: len(m.waits))
        self.twins.check(lambda p: (held := p.holder()) and held[1:], RLockModel.held)

    @rule(
        session=sessions,
        owner=owners,
        blocking=st.booleans(),
        timeout=st.sampled_from([None, 0, 1.25, 2.75, -1, -2]),
        name=names,
    )
    def acquire(self, session: int, owner: int, blocking: bool, timeout: Any, name: Any) -> None:
        model = RLockModel.acquire_fenced
        self.twins.act(session, owner, "acquire_fenced", model, blocking, timeout, name)

    @rule(session=sessions, owner=owners, name=names)
    def release(self, session: int, owner: int, name: Any) -> None:
        self.twins.act(session, owner, "release", RLockModel.release, name)

    @precondition(lambda self: self.twins.model.holder)
    @rule(acquire=st.booleans())
    def act_as_holder(self, acquire: bool) -> None:
        holder, depths = self.twins.model.holder, self.twins.model.depths
        named = isinstance(holder, str)
        session = next(iter(depths)) if named else holder[0]
        owner, name = (1, holder) if named else (holder[1], None)
        if acquire:
            again = RLockModel.acquire_fenced
            self.twins.act(session, owner, "acquire_fenced", again, True, None, name)
        else:
            self.twins.act(session, owner, "release", RLockModel.release, name)

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


TestRLock = RLockMachine.TestCase
TestRLock.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)


@pytest.fixture(params=[PureRig, SessionRig])
def rig(request: pytest.FixtureRequest) -> Rig:
    return request.param()  # type: ignore[no-any-return]


def test_a_cancelled_acquire_leaves_those_before_it(rig: Rig) -> None:
    lock = rig.make(RLock)
    assert lock.acquire()
    rig.keeps = False
    again = lock.acquire_fenced()
    rig.keeps = True
    assert again.result() == lock.fence
    assert again.take_back()
    lock.release()
    assert not lock.locked()


def test_the_fence_stays_while_the_lock_is_held(rig: Rig) -> None:
    lock = rig.make(RLock)
    assert [lock.acquire_fenced() for _ in range(3)] == [1, 1, 1]
    for _ in range(3):
        lock.release()
    assert lock.acquire_fenced() == 2


def test_the_holder_is_named_to_who_has_not_the_lock(rig: Rig) -> None:
    lock = rig.make(RLock)
    with rig.as_(1, 7):
        lock.acquire()
    rig.clock.advance(2)
    with pytest.raises(NotOwner, match=r"session 1, task or thread 7 since 2\.000 s"):
        lock.release()


def test_nobody_re_enters_a_lock_of_everybody(rig: Rig) -> None:
    lock = rig.make(RLock)
    assert lock.acquire(owner=ANYBODY)
    assert not lock.acquire(blocking=False, owner=ANYBODY)
    lock.release(owner=ANYBODY)
    assert not lock.locked()


def test_a_session_that_ends_takes_only_its_own_share_of_a_named_owner(rig: Rig) -> None:
    lock = rig.make(RLock)
    for session in (1, 2):
        with rig.as_(session):
            lock.acquire(owner="job")
    rig.end(1, well=False)
    assert lock.locked()
    holder = lock.holder()
    assert holder is not None
    assert holder[0] == "session 2, job"  # not the one that is gone
    rig.end(2, well=False)
    assert not lock.locked()
