"""A circle of waits is found and broken at its last one, and nothing else is refused.

Owners act at random on locks of all kinds; which wait closes a circle is found by brute force,
out of what the test itself saw being acquired. AIOMANAGER_SEEDS says how many runs there are.
"""

import os
import random
import re
from typing import Any, cast

import pytest

from aiomanager.deadlock import PATIENCE
from aiomanager.errors import DeadlockDetected
from aiomanager.objects.barrier import Barrier
from aiomanager.objects.condition import Condition
from aiomanager.objects.event import Event
from aiomanager.objects.lock import Lock
from aiomanager.objects.lock_table import LockTable
from aiomanager.objects.queue import Queue
from aiomanager.objects.rlock import RLock
from aiomanager.objects.semaphore import Semaphore
from aiomanager.waiter import ANYBODY

from .rigs import Parked, PureRig, Rig, SessionRig

SEEDS = int(os.environ.get("AIOMANAGER_SEEDS", "100"))
Owner = tuple[int, int]


@pytest.fixture(params=[PureRig, SessionRig])
def rig(request: pytest.FixtureRequest) -> Rig:
    return request.param()  # type: ignore[no-any-return]


def patience(rig: Rig) -> None:
    """Let as much time pass as it takes to find what began until now."""
    rig.clock.advance(PATIENCE)
    rig.pump()


def caller_of(waiter: Any) -> Any:
    """Return who waits for a lock, or for keys."""
    return getattr(waiter, "caller", None) or waiter.request.caller


def call(rig: Rig, owner: Owner, method: Any, *given: Any, free: bool = False) -> Any:
    with rig.as_(*owner, free=free):
        return method(*given)


class Town:
    """Locks, keys of a table, and owners who want them."""

    def __init__(self, rig: Rig, seed: int) -> None:
        self.rig = rig
        self.dice = random.Random(seed)
        self.table = rig.make(LockTable)
        self.locks = [rig.make(kind) for kind in (Lock, Lock, RLock, RLock)]
        self.keys = ["a", "b", "c"]
        self.owners = [(session, owner) for session in range(3) for owner in (1, 2)]
        self.holds: dict[Any, Owner | None] = {}
        """Who has what; None: somebody who can be released by others."""
        self.depths: dict[Any, int] = {}
        self.names: dict[Owner, Owner | None] = {}
        """As whom each one will have what he waits for."""
        self.waits: dict[Owner, tuple[Parked, list[Any], bool]] = {}
        """What each one waits for, and whether for ever; in the order in which they began."""
        self.away: dict[Owner, Any] = {}
        """Those whose session has no connection at the moment."""
        self.refused = 0

    def in_front(self, owner: Owner) -> set[Owner]:
        """Return all who must let go, or leave, before an owner has what he waits for."""
        things = set(self.waits[owner][1])
        found = {has for one in things if (has := self.holds.get(one)) is not None}
        for other, (_, others, for_ever) in self.waits.items():
            if other == owner:
                break
            if for_ever and other not in self.away and things.intersection(others):
                found.add(other)
        return found

    def closes_a_circle(self, start: Owner) -> bool:
        reached: set[Owner] = set()
        edge = {start}
        while edge:
            edge = {
                other
                for one in edge
                if one in self.waits and self.waits[one][2] and one not in self.away
                for other in self.in_front(one)
            } - reached
            reached |= edge
        return start in reached

    def acquire(self, owner: Owner) -> None:
        dice = self.dice
        for_ever = dice.random() < 0.8
        timeout = None if for_ever else 1000.0
        name = "job" if dice.random() < 0.1 else None
        if dice.random() < 0.5:
            things: list[Any] = dice.sample(self.keys, dice.randint(1, 2))
            made = call(self.rig, owner, self.table.acquire_keys, things, timeout, name)
        else:
            lock = dice.choice(self.locks)
            things = [self.locks.index(lock)]
            made = call(self.rig, owner, lock.acquire_fenced, True, timeout, name)
        has = owner if name is None else None
        if not isinstance(made, Parked):
            self.got(things, has)
            return
        if made.done:
            made.result()
            self.got(things, has)
            return
        self.waits[owner] = made, things, for_ever
        expected = for_ever and self.closes_a_circle(owner)
        self.names[owner] = has
        self.see(owner, refused=expected)

    def see(self, owner: Owner, *, refused: bool) -> None:
        """Check that the wait that has just begun is refused, or is not."""
        patience(self.rig)
        parked, *_ = wait = self.waits[owner]
        assert parked.done == refused, (owner, wait, self.holds, self.waits)
        if refused:
            self.refused += 1
            with pytest.raises(DeadlockDetected) as error:
                parked.result()
            assert f"session {owner[0]}, task or thread {owner[1]}" in str(error.value)
            del self.waits[owner]
        self.take_notice()

    def lose(self, owner: Owner) -> None:
        """Let the connection of one who waits be lost; others may pass."""
        (waiter,) = (
            waiter
            for session, waiter in cast("PureRig", self.rig).parked
            if waiter.state == "parked"
            and caller_of(waiter).blocked[1] == owner[1]
            and session == owner[0]
        )
        self.away[owner] = waiter
        waiter.suspend()
        self.take_notice()

    def return_(self, owner: Owner) -> None:
        self.away.pop(owner).resume()
        self.take_notice()
        if owner in self.waits:
            self.see(owner, refused=self.waits[owner][2] and self.closes_a_circle(owner))

    def got(self, things: list[Any], has: Owner | None) -> None:
        for thing in things:
            self.holds[thing] = has
            self.depths[thing] = self.depths.get(thing, 0) + 1

    def take_notice(self) -> None:
        """See who has what he waited for."""
        for owner, (parked, things, for_ever) in list(self.waits.items()):
            if parked.done:
                del self.waits[owner]
                try:
                    fence = parked.result()
                except TimeoutError:
                    fence = 0
                assert fence or not for_ever
                if fence:
                    self.got(things, self.names[owner])

    def release(self, owner: Owner) -> bool:
        mine = [thing for thing, has in self.holds.items() if has == owner]
        if mine:
            self.give_back(owner, self.dice.choice(mine), None)
        return bool(mine)

    def release_named(self, owner: Owner) -> bool:
        theirs = [thing for thing, has in self.holds.items() if has is None]
        if theirs:
            self.give_back(owner, self.dice.choice(theirs), "job")
        return bool(theirs)

    def give_back(self, owner: Owner, thing: Any, name: str | None) -> None:
        self.depths[thing] -= 1
        if not self.depths[thing]:
            del self.depths[thing], self.holds[thing]
        if thing in self.keys:
            call(self.rig, owner, self.table.release_keys, [thing], name)
        else:
            call(self.rig, owner, self.locks[thing].release, name)
        self.take_notice()

    def rest(self) -> None:
        """Let all who can go on let go of what they have, until nobody waits."""
        for owner in list(self.away):
            self.return_(owner)
        self.rig.clock.advance(1001)
        self.rig.pump()
        self.take_notice()
        while self.holds:
            releases = [self.release(owner) for owner in self.owners if owner not in self.waits]
            releases.append(self.release_named((2, 9)))
            assert any(releases), "nobody can go on"

    def deadlocks(self) -> Any:
        rig: Any = self.rig
        return rig.deadlocks if isinstance(rig, PureRig) else rig.store.deadlocks

    def step(self) -> None:
        owner = self.dice.choice(self.owners)
        what = self.dice.random()
        if owner in self.waits:
            if owner in self.away:
                self.return_(owner)
            elif what < 0.3 and isinstance(self.rig, PureRig):
                self.lose(owner)
            return
        if what < 0.7:
            self.acquire(owner)
        elif what < 0.9:
            self.release(owner)
        else:
            self.release_named(owner)


@pytest.mark.parametrize("kind", [PureRig, SessionRig])
def test_every_circle_is_found_and_nothing_else(kind: type[Rig]) -> None:
    refused = 0
    for seed in range(SEEDS):
        town = Town(kind(), seed)
        for _ in range(200):
            town.step()
        refused += town.refused
        town.rest()
        assert not town.waits
        assert len(town.deadlocks()) == 0
    assert refused >= SEEDS / 2


def test_all_who_wait_are_named(rig: Rig) -> None:
    """Three sessions, and locks of three types."""
    first, second, third = rig.make(Lock), rig.make(RLock), rig.make(LockTable)
    call(rig, (0, 5), first.acquire_fenced)
    call(rig, (1, 6), second.acquire_fenced)
    call(rig, (2, 7), third.acquire_keys, ["k"])
    rig.clock.advance(2)
    waits = [call(rig, (0, 5), second.acquire_fenced)]
    rig.clock.advance(0.5)
    waits.append(call(rig, (1, 6), third.acquire_keys, ["j", "k"]))
    rig.clock.advance(0.5)
    waits.append(call(rig, (2, 7), first.acquire_fenced))
    patience(rig)
    assert [wait.done for wait in waits] == [False, False, True]
    with pytest.raises(DeadlockDetected) as error:
        waits[2].result()
    said = str(error.value)
    assert isinstance(error.value, RuntimeError)
    assert re.search(
        r"session 2, task or thread 7 \(this call\) waits since 1\.000 s for Lock \d+, which "
        r"session 0, task or thread 5 holds since 4\.000 s; "
        r"session 0, task or thread 5 waits since 2\.000 s for RLock \d+, which "
        r"session 1, task or thread 6 holds since 4\.000 s; "
        r"session 1, task or thread 6 waits since 1\.500 s for key 2 of 2 of LockTable \d+, which "
        r"session 2, task or thread 7 holds since 4\.000 s",
        said,
    ), said
    call(rig, (2, 7), third.release_keys, ["k"])
    assert waits[1].done
    call(rig, (1, 6), second.release)
    assert waits[0].done


def test_a_lock_that_its_holder_wants_again(rig: Rig) -> None:
    lock = rig.make(Lock)
    lock.acquire()
    again = lock.acquire_fenced()
    rig.clock.advance(PATIENCE * 0.99)
    assert not again.done
    patience(rig)
    with pytest.raises(DeadlockDetected):
        again.result()
    lock.release()
    assert not lock.locked()


def crossed(rig: Rig, first: Any, second: Any) -> tuple[Any, Any]:
    """Return two waits for what the other one holds, each without a deadline."""
    call(rig, (0, 1), first.acquire_fenced)
    call(rig, (1, 1), second.acquire_fenced)
    return call(rig, (0, 1), second.acquire_fenced), call(rig, (1, 1), first.acquire_fenced)


def test_nobody_is_refused_who_has_a_deadline_or_waits_for_one(rig: Rig) -> None:
    first, second = rig.make(Lock), rig.make(Lock)
    call(rig, (0, 1), first.acquire_fenced)
    call(rig, (1, 1), second.acquire_fenced)
    one = call(rig, (0, 1), second.acquire_fenced, True, 100)
    other = call(rig, (1, 1), first.acquire_fenced)
    rig.clock.advance(50)
    rig.pump()
    assert not one.done
    assert not other.done
    rig.clock.advance(51)
    rig.pump()
    assert one.result() == 0


@pytest.mark.parametrize("name", ["job", ANYBODY])
def test_what_others_may_release_is_no_reason(rig: Rig, name: str) -> None:
    first, second = rig.make(Lock), rig.make(RLock)
    call(rig, (0, 1), first.acquire_fenced, True, None, name)
    call(rig, (1, 1), second.acquire_fenced)
    waits = [call(rig, (0, 1), second.acquire_fenced), call(rig, (1, 1), first.acquire_fenced)]
    again = call(rig, (2, 1), first.acquire_fenced, True, None, name)
    patience(rig)
    assert not any(wait.done for wait in [*waits, again])
    call(rig, (2, 2), first.release, name)
    assert waits[1].done


def test_a_task_that_acquires_for_another_owner_is_held_up_all_the_same(rig: Rig) -> None:
    first, second = rig.make(Lock), rig.make(Lock)
    call(rig, (0, 1), first.acquire_fenced)
    call(rig, (1, 1), second.acquire_fenced)
    call(rig, (0, 1), second.acquire_fenced, True, None, "job")
    closing = call(rig, (1, 1), first.acquire_fenced)
    patience(rig)
    with pytest.raises(DeadlockDetected, match=r"task or thread 1 \(as 'job'\) waits"):
        closing.result()


def test_tasks_that_are_not_held_up_wait_on(rig: Rig) -> None:
    """A task is made of the call, and its owner goes on: he can still release what he holds."""
    first, second = rig.make(Lock), rig.make(Lock)
    call(rig, (0, 1), first.acquire_fenced)
    call(rig, (1, 1), second.acquire_fenced)
    one = call(rig, (0, 1), second.acquire_fenced, free=True)
    other = call(rig, (1, 1), first.acquire_fenced)
    again = call(rig, (0, 1), first.acquire_fenced, free=True)
    patience(rig)
    assert not one.done
    assert not other.done
    call(rig, (0, 1), first.release)
    assert other.done
    assert not again.done


def test_what_a_task_is_given_meanwhile_may_close_a_circle(rig: Rig) -> None:
    first, second = rig.make(Lock), rig.make(Lock)
    call(rig, (2, 1), first.acquire_fenced)
    call(rig, (1, 1), second.acquire_fenced)
    call(rig, (0, 1), first.acquire_fenced, free=True)
    waits = [call(rig, (1, 1), first.acquire_fenced), call(rig, (0, 1), second.acquire_fenced)]
    patience(rig)
    assert not any(wait.done for wait in waits)
    call(rig, (2, 1), first.release)
    patience(rig)
    assert [wait.done for wait in waits] == [False, True]
    with pytest.raises(DeadlockDetected):
        waits[1].result()


def test_two_tasks_of_a_session_are_two_owners(rig: Rig) -> None:
    first, second = rig.make(Lock), rig.make(Lock)
    call(rig, (0, 1), first.acquire_fenced)
    call(rig, (0, 2), second.acquire_fenced)
    other = call(rig, (0, 3), first.acquire_fenced)
    one = call(rig, (0, 1), second.acquire_fenced)
    closing = call(rig, (0, 2), first.acquire_fenced)
    patience(rig)
    assert [one.done, other.done, closing.done] == [False, False, True]


def test_owners_without_a_task_are_not_held_up(rig: Rig) -> None:
    """As of a client that has nothing of the kind, and gives all its calls the owner 0."""
    lock = rig.make(Lock)
    call(rig, (0, 0), lock.acquire_fenced)
    waiting = call(rig, (0, 0), lock.acquire_fenced)
    patience(rig)
    call(rig, (0, 0), lock.release)
    assert waiting.done


def test_who_waits_twice_is_held_up_by_neither_until_one_ends(rig: Rig) -> None:
    """Nobody does who runs one line after the other: this client does not tell its tasks apart."""
    first, second, third = [rig.make(Lock) for _ in range(3)]
    call(rig, (0, 1), first.acquire_fenced)
    call(rig, (1, 1), second.acquire_fenced)
    call(rig, (2, 1), third.acquire_fenced)
    waits = [
        call(rig, (0, 1), second.acquire_fenced),
        call(rig, (0, 1), third.acquire_fenced),
        call(rig, (1, 1), first.acquire_fenced),
    ]
    patience(rig)
    assert not any(wait.done for wait in waits)
    assert waits[1].take_back()
    patience(rig)
    with pytest.raises(DeadlockDetected):
        waits[0].result()
    assert not waits[2].done


def test_other_waits_are_no_reason(rig: Rig) -> None:
    """Semaphores, events, queues, barriers, and sleepers of conditions."""
    lock, semaphore = rig.make(Lock), rig.make(Semaphore, 1)
    condition, event = rig.make(Condition), rig.make(Event)
    queue, barrier = rig.make(Queue), rig.make(Barrier, 2)
    call(rig, (0, 1), semaphore.acquire)
    call(rig, (1, 1), lock.acquire_fenced)
    waits = [call(rig, (0, 1), lock.acquire_fenced), call(rig, (1, 1), semaphore.acquire)]
    for owner, method in ((2, event.wait), (3, queue.get), (4, barrier.arrive)):
        other = rig.make(Lock)
        call(rig, (2, owner), other.acquire_fenced)
        waits.append(call(rig, (2, owner), method))
        waits.append(call(rig, (1, owner), other.acquire_fenced))
    held = rig.make(Lock)
    call(rig, (2, 5), held.acquire_fenced)
    call(rig, (2, 5), condition.acquire_fenced)
    waits.append(call(rig, (2, 5), condition.wait_fenced))
    call(rig, (1, 5), condition.acquire_fenced)
    waits.append(call(rig, (1, 5), held.acquire_fenced))
    for _ in range(3):
        patience(rig)
    assert not any(wait.done for wait in waits)


def test_a_sleeper_that_comes_back_closes_a_circle_and_is_not_refused(rig: Rig) -> None:
    held, condition = rig.make(Lock), rig.make(Condition)
    call(rig, (0, 1), held.acquire_fenced)
    call(rig, (0, 1), condition.acquire_fenced)
    sleeper = call(rig, (0, 1), condition.wait_fenced, 10)
    call(rig, (1, 1), condition.acquire_fenced)
    blocked = call(rig, (1, 1), held.acquire_fenced)
    rig.clock.advance(9)
    rig.pump()
    assert not blocked.done
    rig.clock.advance(2)
    rig.pump()
    with pytest.raises(DeadlockDetected):
        blocked.result()
    call(rig, (1, 1), condition.release)
    assert sleeper.result()[0] is False


def test_who_has_no_connection_holds_nobody_up_until_he_is_back() -> None:
    rig = PureRig()
    first, second = rig.make(Lock), rig.make(Lock)
    one, other = crossed(rig, first, second)
    away = rig.parked[-1][1]
    away.suspend()
    patience(rig)
    assert not one.done
    assert not other.done
    away.resume()
    patience(rig)
    assert not one.done
    with pytest.raises(DeadlockDetected):
        other.result()


def test_a_wait_that_ends_in_time_leaves_nothing() -> None:
    rig = PureRig()
    first, second = rig.make(Lock), rig.make(Lock)
    _, other = crossed(rig, first, second)
    assert len(rig.deadlocks) == 2
    assert other.take_back()
    assert len(rig.deadlocks) == 1
    patience(rig)
    rig.end(0, well=False)
    assert len(rig.deadlocks) == 0
    assert rig.clock.running == 0


def test_a_crowd_is_looked_at_in_time() -> None:
    """Thousands wait, each with a key in his hand, for a key of one who waits as well."""
    rig = PureRig()
    table, gate = rig.make(LockTable), rig.make(Lock)
    call(rig, (1, 1), gate.acquire_fenced)
    call(rig, (0, 1), table.acquire_keys, ["shared"])
    call(rig, (0, 1), gate.acquire_fenced)
    waits = []
    for number in range(2, 2000):
        call(rig, (2, number), table.acquire_keys, [number])
        waits.append(call(rig, (2, number), table.acquire_keys, ["shared", -number]))
    claim = type(rig.parked[-1][1])
    in_front = claim.in_front
    asked = 0

    def counted(*given: Any) -> Any:
        nonlocal asked
        asked += 1
        return in_front(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(claim, "in_front", counted)
        patience(rig)
        assert len(waits) <= asked < 3 * len(waits)
        assert not any(wait.done for wait in waits)
        # Also when there is a circle at the end of it.
        call(rig, (1, 1), table.acquire_keys, ["shared"])
        asked = 0
        patience(rig)
    assert rig.parked[-1][1].state == "ended"
    assert asked < 6 * len(waits)
    assert not any(wait.done for wait in waits)
