"""The shared semaphores do what threading's do, and know who has their permits."""

import threading
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
from aiomanager.objects.semaphore import BoundedSemaphore, Semaphore
from aiomanager.waiter import ANYBODY

from .rigs import PureRig, Rig, SessionRig
from .twins import Model, PatientTwins

sessions = st.integers(0, 2)
owners = st.integers(1, 2)
names = st.sampled_from([None, None, "job", ANYBODY])
leases = st.sampled_from([None, None, 0.731, 1.877])
"""No sum of these is one of the times at which something else happens."""


@dataclass(eq=False)
class Out:
    """A permit that is out."""

    identity: Any
    session: int
    until: float | None
    lapsed: bool = False


class SemaphoreModel(Model):
    """Python's own semaphore, who has its permits, and who waits for one."""

    def __init__(self, bounded: bool, value: int) -> None:
        super().__init__()
        self.semaphore = (threading.BoundedSemaphore if bounded else threading.Semaphore)(value)
        self.bounded = bounded
        self.out: list[Out] = []
        self.signals = False

    @property
    def value(self) -> int:
        return self.semaphore._value

    def identity(self, name: str | None) -> Any:
        return self.acting if name is None else name

    def take(self, identity: Any, session: int, lease: float | None) -> bool:
        if not self.semaphore.acquire(blocking=False):
            return False
        if not self.signals or lease is not None:
            until = None if lease is None else self.time + lease
            self.out.append(Out(identity, session, until))
        return True

    def acquire(
        self, blocking: bool, timeout: float | None, lease: float | None, name: str | None
    ) -> Any:
        if not blocking and timeout is not None:
            self.semaphore.acquire(blocking, timeout)  # which raises
        who = (self.identity(name), self.acting[0], lease)
        if self.take(*who):
            return True
        if not blocking or (timeout is not None and timeout <= 0):
            return False
        return self.park("permit", timeout, lambda: False, who)

    def back(self) -> None:
        self.semaphore.release()
        self.serve()

    def release(self, name: str | None) -> None:
        identity, session = self.identity(name), self.acting[0]
        mine = [one for one in self.out if one.identity == identity]
        live = [one for one in self.out if not one.lapsed]
        near = [one for one in live if one.session == session]
        found = (
            [one for one in mine if not one.lapsed]
            or mine
            or near
            or ([] if self.signals else live)
        )
        if found:
            self.out.remove(found[0])
            if found[0].lapsed:
                raise RuntimeError("the lease has ended")
        elif not self.bounded:
            self.signals = True
        self.back()

    def renew(self, lease: float, name: str | None) -> None:
        identity = self.identity(name)
        mine = [one for one in self.out if one.identity == identity and not one.lapsed]
        if not mine:
            raise RuntimeError("no permit")
        for one in mine:
            one.until = self.time + lease

    def serve(self) -> None:
        while self.value and (waiting := self.first("permit")):
            self.answer(waiting, lambda waiting=waiting: self.take(*waiting.request))

    def advance(self, seconds: float) -> None:
        end = self.time + seconds
        while True:
            due = [one for one in self.out if not one.lapsed and one.until is not None]
            first = min(due, key=lambda one: one.until or 0, default=None)
            if first is None or first.until is None or first.until > end:
                break
            super().advance(first.until - self.time)
            self.time = first.until
            first.lapsed = True
            self.back()
        super().advance(end - self.time)

    def end(self, session: int, *, well: bool = True) -> None:
        super().end(session, well=well)
        for one in [one for one in self.out if one.session == session]:
            if well and one.identity == ANYBODY:
                one.session = -1
            else:
                self.out.remove(one)
                if not one.lapsed:
                    self.back()


class SemaphoreMachine(RuleBasedStateMachine):
    @initialize(bounded=st.booleans(), value=st.integers(0, 3))
    def make(self, bounded: bool, value: int) -> None:
        kind = BoundedSemaphore if bounded else Semaphore
        self.twins = PatientTwins(kind, SemaphoreModel(bounded, value), value)

    @invariant()
    def same(self) -> None:
        self.twins.compare()
        self.twins.check("value", lambda m: m.value)
        self.twins.check("locked", lambda m: m.value == 0)
        self.twins.check("waiting", lambda m: len(m.waits))
        self.twins.check(
            lambda p: len(p.holders()), lambda m: len([o for o in m.out if not o.lapsed])
        )

    @rule(
        session=sessions,
        owner=owners,
        blocking=st.booleans(),
        timeout=st.sampled_from([None, None, 0, 1, 2.5, -1]),
        lease=leases,
        name=names,
    )
    def acquire(
        self, session: int, owner: int, blocking: bool, timeout: Any, lease: Any, name: Any
    ) -> None:
        self.twins.act(
            session, owner, "acquire", SemaphoreModel.acquire, blocking, timeout, lease, name
        )

    @rule(session=sessions, owner=owners, name=names)
    def release(self, session: int, owner: int, name: Any) -> None:
        self.twins.act(session, owner, "release", SemaphoreModel.release, name)

    @rule(session=sessions, owner=owners, lease=st.sampled_from([0.731, 1.877]), name=names)
    def renew(self, session: int, owner: int, lease: float, name: Any) -> None:
        self.twins.act(session, owner, "renew", SemaphoreModel.renew, lease, name)

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


TestSemaphore = SemaphoreMachine.TestCase
TestSemaphore.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


@pytest.fixture(params=[PureRig, SessionRig])
def rig(request: pytest.FixtureRequest) -> Rig:
    return request.param()  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", [Semaphore, BoundedSemaphore])
def test_there_are_no_less_than_no_permits(rig: Rig, kind: Any) -> None:
    with pytest.raises(ValueError, match="0 or more, not -1"):
        rig.make(kind, -1)


@pytest.mark.parametrize("lease", [0, -1, float("nan"), float("inf")])
def test_a_lease_has_an_end_in_the_future(rig: Rig, lease: float) -> None:
    semaphore = rig.make(Semaphore, 2)
    assert semaphore.acquire()
    with pytest.raises(ValueError, match="lease"):
        semaphore.acquire(lease=lease)
    with pytest.raises(ValueError, match="lease"):
        semaphore.renew(lease)
    assert semaphore.value() == 1


def test_a_cancelled_acquire_gives_its_permit_to_the_next(rig: Rig) -> None:
    semaphore = rig.make(Semaphore, 1)
    rig.keeps = False
    first = semaphore.acquire()
    with rig.as_(1):
        second = semaphore.acquire()
    assert first.result() is True
    assert not second.done
    assert first.take_back()
    assert second.result() is True


def test_a_cancelled_acquire_gives_nothing_back_twice(rig: Rig) -> None:
    semaphore = rig.make(Semaphore, 1)
    rig.keeps = False
    first = semaphore.acquire()
    with rig.as_(1):
        semaphore.release()  # the one that is out
    assert semaphore.value() == 1
    first.take_back()
    assert semaphore.value() == 1


def test_a_cancelled_acquire_gives_a_signal_back(rig: Rig) -> None:
    semaphore = rig.make(Semaphore, 0)
    semaphore.release()
    rig.keeps = False
    taken = semaphore.acquire()
    assert semaphore.value() == 0
    assert taken.take_back()
    assert semaphore.value() == 1


def test_signals_are_used_up(rig: Rig) -> None:
    semaphore = rig.make(Semaphore, 0)
    with rig.as_(1):
        semaphore.release()
        semaphore.release()
    with rig.as_(2):
        assert semaphore.acquire()
    rig.end(2, well=False)
    assert semaphore.value() == 1


def test_who_releases_after_the_lease_is_told(rig: Rig) -> None:
    semaphore = rig.make(BoundedSemaphore, 1)
    with rig.as_(1):
        assert semaphore.acquire(lease=2)
    with rig.as_(2):
        waiting = semaphore.acquire()
    rig.clock.advance(2)
    rig.pump()
    assert waiting.result() is True
    rig.clock.advance(1)
    with rig.as_(1), pytest.raises(NotOwner, match=r"ended 1\.000 s ago"):
        semaphore.renew(2)
    with rig.as_(1), pytest.raises(NotOwner, match=r"ended 1\.000 s ago"):
        semaphore.release()
    assert [who for who, _ in semaphore.holders()] == ["session 2, task or thread 1"]


def test_a_lease_ends_also_when_its_session_is_away_and_gone(rig: Rig) -> None:
    semaphore = rig.make(Semaphore, 1)
    with rig.as_(1):
        assert semaphore.acquire(lease=5, owner=ANYBODY)
    rig.end(1, well=True)
    assert semaphore.value() == 0
    rig.clock.advance(5)
    assert semaphore.value() == 1


def test_ended_leases_are_not_remembered_without_end(rig: Rig, monkeypatch: Any) -> None:
    monkeypatch.setattr("aiomanager.objects.semaphore.REMEMBERED", 2)
    semaphore = rig.make(Semaphore, 4)
    for owner in range(1, 5):
        with rig.as_(1, owner):
            semaphore.acquire(lease=owner)
    rig.clock.advance(4)
    assert semaphore.value() == 4
    for owner in (3, 4):
        with rig.as_(1, owner), pytest.raises(NotOwner):
            semaphore.release()
    assert semaphore.value() == 4


def test_more_releases_than_permits(rig: Rig) -> None:
    semaphore = rig.make(BoundedSemaphore, 1)
    with pytest.raises(ValueError, match="all of its 1 permits"):
        semaphore.release()
    assert semaphore.value() == 1
