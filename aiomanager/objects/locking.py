"""What Lock, RLock and Condition have in common: an owner, a fence, and a fair line.

A `Mutex` is the state and its rules; `Lockable` declares the operations on it once for all three.
A Condition over somebody's lock has the same mutex as that lock, so both always agree.
"""

from collections.abc import Generator, Hashable
from functools import partial
from typing import Any, NamedTuple, Self

from aiomanager.deadlock import Notes
from aiomanager.errors import NotOwner
from aiomanager.operation import Home, SharedObject, acquires, composite, owned, reads
from aiomanager.proxy import AsyncProxy, SyncProxy
from aiomanager.waiter import ANYBODY, Caller, Holder, Waiter, WaitQueue

__all__ = ("Lockable", "LockableProxy", "Mutex", "SyncLockableProxy", "wait_time")


def wait_time(blocking: bool, timeout: float | None) -> float | None:
    """Return how long an acquire waits: None for ever, 0 not at all, else seconds.

    Raises:
        ValueError: the two contradict each other, or the timeout is negative.
    """
    if timeout is None or timeout == -1:
        return None if blocking else 0.0
    if not blocking:
        raise ValueError("can't specify a timeout for a non-blocking call")
    if timeout < 0:
        raise ValueError("timeout value must be a non-negative number")
    return timeout


class Place(NamedTuple):
    """Where a lock can be found by those who read of it."""

    home: Home
    type_name: str
    object_id: int

    def __str__(self) -> str:
        name = self.home.name_of(self.object_id)
        return f"{self.type_name} {self.object_id}" + ("" if name is None else f", {name!r}")


class Claim(NamedTuple):
    """What one who waits for a lock will have."""

    caller: Caller
    depth: int
    """How many times over."""
    deadlock: bool | None
    """Whether the wait ends with an error when it would never end; None: it has a deadline."""


class _Line(WaitQueue[Any]):
    """Those who wait for a lock, of whom some might wait in a circle."""

    __slots__ = ("_mutex",)

    def __init__(self, mutex: "Mutex") -> None:
        super().__init__(mutex.serve)
        self._mutex = mutex

    def enter(self, waiter: Waiter[Any]) -> None:
        super().enter(waiter)
        self._note(waiter)

    def pop(self, *, suspended: bool = False) -> Waiter[Any] | None:
        waiter = super().pop(suspended=suspended)
        if waiter is not None:
            self._strike(waiter)
        return waiter

    def discard(self, waiter: Waiter[Any]) -> None:
        self._strike(waiter)
        super().discard(waiter)

    def suspend(self, waiter: Waiter[Any]) -> None:
        # Whoever has no connection may not be there any more.
        self._strike(waiter)
        super().suspend(waiter)

    def resume(self, waiter: Waiter[Any]) -> None:
        if waiter in self._suspended:
            self._note(waiter, again=True)
            super().resume(waiter)

    def _note(self, waiter: Waiter[Any], *, again: bool = False) -> None:
        caller, _, deadlock = waiter.request
        if deadlock is not None:
            deadlocks = caller.holder.deadlocks
            deadlocks.add(waiter, caller, self._mutex, refusable=deadlock, again=again)

    def _strike(self, waiter: Waiter[Any]) -> None:
        waiter.request.caller.holder.deadlocks.remove(waiter)


class Mutex:
    """Who holds a lock and how many times over, and who waits for it."""

    __slots__ = (
        "__weakref__",
        "_depths",
        "fence",
        "owner",
        "place",
        "reentrant",
        "since",
        "waiting",
    )

    def __init__(self, *, reentrant: bool) -> None:
        self.reentrant = reentrant
        self.owner: Caller | None = None
        self.fence = 0
        self.since = 0.0
        self.waiting: WaitQueue[Any] = _Line(self)
        """Each one's request is a `Claim`."""
        self.place: Place | None = None
        self._depths: dict[Holder, int] = {}
        """How many times each session acquired it: an owner that was named may be in several."""

    def acquire(self, caller: Caller, seconds: float | None) -> int | Waiter[int]:
        """Give the lock to `caller`, once it is free; answer with the fence, or 0 if too late."""
        if self.owner is None:
            self._begin(caller, 1)
        elif self._again(caller):
            self._deepen(caller, 1)
        elif seconds == 0:
            return 0
        else:
            claim = Claim(caller, 1, None if seconds is not None else True)
            return self.waiting.park(seconds, lambda: 0, claim)
        return Waiter.granted(self.fence, partial(self._undo, self.fence, caller.holder))

    def _again(self, caller: Caller) -> bool:
        """Tell whether `caller` may have the lock once more; not where everybody is one owner."""
        return (
            self.reentrant
            and self.owner is not None
            and self.owner.identity == caller.identity != ANYBODY
        )

    def _begin(self, caller: Caller, depth: int) -> None:
        self.owner = caller
        self.since = caller.holder.now()
        self.fence = next(caller.holder.fences)
        self._deepen(caller, depth)

    def _deepen(self, caller: Caller, depth: int) -> None:
        holder = caller.holder
        if holder in self._depths:
            self._depths[holder] += depth
        else:
            self._depths[holder] = depth
            holder.hold(self, partial(self._abandon, holder), stays=caller.owner == ANYBODY)

    def _rise(self, holder: Holder) -> None:
        """Take one acquisition back, of this session's if it has one."""
        if holder not in self._depths:
            holder = next(iter(self._depths))
        self._depths[holder] -= 1
        if not self._depths[holder]:
            del self._depths[holder]
            holder.let_go(self)
            self._free_if_done()

    def _abandon(self, holder: Holder) -> None:
        self._depths.pop(holder, None)
        self._free_if_done()

    def _free_if_done(self) -> None:
        if not self._depths:
            self.owner = None
            self.serve()
        elif self.owner is not None and self.owner.holder not in self._depths:
            # One of the same name has it still, in another session.
            holder = next(iter(self._depths))
            self.owner = Caller(holder, self.owner.owner, self.owner.now)

    def _undo(self, fence: int, holder: Holder) -> None:
        if self.owner is not None and self.fence == fence:
            self._rise(holder)

    def serve(self) -> None:
        """Give the lock, if it is free, to who waits longest."""
        while self.owner is None and (waiter := self.waiting.pop()) is not None:
            caller, depth, _ = waiter.request
            self._begin(caller, depth)
            caller.holder.deadlocks.given_to(caller)
            waiter.grant(self.fence, partial(self._undo, self.fence, caller.holder))

    @property
    def identity(self) -> Hashable | None:
        """Who holds the lock, as ownership is compared."""
        return None if self.owner is None else self.owner.identity

    def in_front(self, _notes: Notes) -> tuple[tuple[Hashable, ...], ...]:
        """Return whom all wait for: the owner, or nobody where any other may release as well."""
        return () if self.owner is None else ((self.owner.identity,),)

    def tell(self, _whom: Hashable, now: float) -> str:
        """Return what is waited for, and who has it since when."""
        return f"{self.place or 'a lock'}, which {self.owner} holds since {now - self.since:.3f} s"

    def check(self, caller: Caller, what: str) -> None:
        """Raise RuntimeError or NotOwner unless the lock is the caller's, who may `what` it."""
        if self.owner is None:
            raise RuntimeError(f"cannot {what} a lock that is not held")
        if self.owner.identity != caller.identity:
            raise NotOwner(
                f"the lock is held by {self.owner} since {caller.now - self.since:.3f} s, and "
                f"only its owner may {what} it; this is {caller}. Do so in the task or thread "
                "that acquired it, or name one owner in both: acquire(owner='...')"
            )

    def release(self, caller: Caller) -> None:
        """Take the lock from its owner once; raise as `check`."""
        self.check(caller, "release")
        self._rise(caller.holder)

    def give_up(self) -> int:
        """Take the lock from its owner entirely; return how many times over it was held."""
        depths, self._depths = self._depths, {}
        for holder in depths:
            holder.let_go(self)
        self._free_if_done()
        return sum(depths.values())


class Lockable(SharedObject):
    """The operations of what can be acquired by one at a time."""

    fence: int = 0
    """On a proxy: the fence of its last acquisition, to pass on to what the lock protects."""

    _mutex: Mutex

    def _moved_in(self, home: Home, object_id: int) -> None:
        # A Condition over another's lock is not the first to be here.
        if self._mutex.place is None:
            self._mutex.place = Place(home, self.type_name, object_id)

    def _claim(self, caller: Caller, owner: str | None) -> Caller:
        """Return as whom `caller` wants to have the lock."""
        return caller.named(owner)

    @acquires
    def acquire_fenced(
        self,
        caller: Caller,
        blocking: bool = True,
        timeout: float | None = None,
        owner: str | None = None,
    ) -> int | Waiter[int]:
        """Acquire the lock and return its fence, a token that only rises; 0 if not acquired.

        Waits at most `timeout` seconds, for ever by default, not at all unless `blocking`. The
        lock belongs to the calling task or thread, or to `owner`: whoever names the same owner
        may release it, in any process.

        Raises:
            DeadlockDetected: a wait without a timeout would never end: for a second, those who
                hold what is waited for have waited for each other, and this call came last.
            ValueError: a negative timeout, or one for a call that does not block.
        """
        return self._mutex.acquire(caller.named(owner), wait_time(blocking, timeout))

    @acquire_fenced.released_by
    @owned
    def release(self, caller: Caller, owner: str | None = None) -> None:
        """Release the lock, as `owner` if named; the longest waiting caller gets it.

        Raises:
            NotOwner: the lock belongs to somebody else, whom the message names.
            RuntimeError: the lock is not held.
        """
        self._mutex.release(self._claim(caller, owner))

    @reads
    def locked(self) -> bool:
        """Tell whether somebody holds the lock."""
        return self._mutex.owner is not None

    @owned
    def holder(self, caller: Caller) -> tuple[str, float, int] | None:
        """Return who holds the lock, since how many seconds, and its fence; None if nobody."""
        mutex = self._mutex
        if mutex.owner is None:
            return None
        return str(mutex.owner), caller.now - mutex.since, mutex.fence

    @reads
    def waiting(self) -> int:
        """Return how many wait for the lock."""
        return len(self._mutex.waiting)

    @composite
    def acquire(
        self, blocking: bool = True, timeout: float | None = None, owner: str | None = None
    ) -> Generator[Any, Any, bool]:
        """Acquire the lock as `acquire_fenced`, keep its fence in `fence`, and tell whether.

        Raises:
            DeadlockDetected: a wait without a timeout would never end.
            ValueError: a negative timeout, or one for a call that does not block.
        """
        fence: int = yield self.acquire_fenced(blocking, timeout, owner)
        if fence:
            self.fence = fence
        return fence > 0


class LockableProxy(AsyncProxy, Lockable):
    """The base of async proxies of locks: `async with lock`."""

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._post(Lockable.release)


class SyncLockableProxy(SyncProxy, Lockable):
    """The base of blocking proxies of locks: `with lock`."""

    def acquire(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, blocking: bool = True, timeout: float | None = None, owner: str | None = None
    ) -> bool:
        """Acquire the lock as `acquire_fenced`, keep its fence in `fence`, and tell whether.

        Raises:
            DeadlockDetected: a wait without a timeout would never end.
            ValueError: a negative timeout, or one for a call that does not block.
        """
        # Written out: behind the call nothing runs in which a signal handler could raise and
        # leave the lock with a caller who does not know.
        fence = self.acquire_fenced(blocking, timeout, owner)
        if fence:
            self.fence = fence
        return fence > 0

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_error: object) -> None:
        self._post(Lockable.release)
