"""The shared Lock: its operations, its two proxies and its factories."""

from collections.abc import Coroutine, Generator
from functools import partial
from typing import Any

from aiomanager.errors import NotOwner
from aiomanager.operation import SharedObject, acquires, composite, owned, reads
from aiomanager.proxy import AsyncFactory, AsyncProxy, SyncFactory, SyncProxy
from aiomanager.waiter import ANYBODY, Caller, Waiter, WaitQueue

__all__ = ("Lock", "LockProxy", "SyncLockProxy", "wait_time")


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


class Lock(SharedObject):
    """A lock that belongs to the task or thread that acquired it, first come, first served.

    When the session of its owner ends, the lock passes on to the next who waits.
    """

    fence: int = 0
    """On a proxy: the fence of its last acquisition, to pass on to what the lock protects."""

    def __init__(self) -> None:
        self._owner: Caller | None = None
        self._fence = 0
        self._since = 0.0
        self._waiting = WaitQueue[int](self._serve)

    def _take(self, caller: Caller) -> int:
        self._owner = caller
        self._since = caller.holder.now()
        self._fence = next(caller.holder.fences)
        caller.holder.hold(self, self._free, stays=caller.owner == ANYBODY)
        return self._fence

    def _free(self) -> None:
        if self._owner is not None:
            self._owner.holder.let_go(self)
            self._owner = None
        self._serve()

    def _undo(self, fence: int) -> None:
        if self._fence == fence and self._owner is not None:
            self._free()

    def _serve(self) -> None:
        while self._owner is None:
            waiter = self._waiting.pop()
            if waiter is None:
                return
            fence = self._take(waiter.request)
            waiter.grant(fence, partial(self._undo, fence))

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
            ValueError: a negative timeout, or one for a call that does not block.
        """
        seconds = wait_time(blocking, timeout)
        caller = caller.named(owner)
        if self._owner is None:
            fence = self._take(caller)
            return Waiter.granted(fence, partial(self._undo, fence))
        if seconds == 0:
            return 0
        return self._waiting.park(seconds, lambda: 0, caller)

    @owned
    def release(self, caller: Caller, owner: str | None = None) -> None:
        """Release the lock, as `owner` if named; the longest waiting caller gets it.

        Raises:
            NotOwner: the lock belongs to somebody else, whom the message names.
            RuntimeError: the lock is not held.
        """
        if self._owner is None:
            raise RuntimeError("release of a lock that is not held")
        caller = caller.named(owner)
        if self._owner.identity != caller.identity:
            raise NotOwner(
                f"the lock is held by {self._owner} since {caller.now - self._since:.3f} s, "
                f"and only its owner may release it; this is {caller}. Release it in the task or "
                "thread that acquired it, or name one owner in both: acquire(owner='...')"
            )
        self._free()

    @reads
    def locked(self) -> bool:
        """Tell whether somebody holds the lock."""
        return self._owner is not None

    @owned
    def holder(self, caller: Caller) -> tuple[str, float, int] | None:
        """Return who holds the lock, since how many seconds, and its fence; None if nobody."""
        if self._owner is None:
            return None
        return str(self._owner), caller.now - self._since, self._fence

    @reads
    def waiting(self) -> int:
        """Return how many wait for the lock."""
        return len(self._waiting)

    @composite
    def acquire(
        self, blocking: bool = True, timeout: float | None = None, owner: str | None = None
    ) -> Generator[Any, Any, bool]:
        """Acquire the lock as `acquire_fenced`, keep its fence in `fence`, and tell whether.

        Raises:
            ValueError: a negative timeout, or one for a call that does not block.
        """
        fence: int = yield self.acquire_fenced(blocking, timeout, owner)
        if fence:
            self.fence = fence
        return fence > 0


class LockProxy(AsyncProxy, Lock):
    """A shared lock for async code: `async with lock`."""

    sync: "SyncLockProxy"

    async def __aenter__(self) -> "LockProxy":
        await self.acquire()
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._post(Lock.release)


class SyncLockProxy(SyncProxy, Lock):
    """A shared lock for blocking code: `with lock`."""

    aio: "LockProxy"

    def acquire(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, blocking: bool = True, timeout: float | None = None, owner: str | None = None
    ) -> bool:
        """Acquire the lock as `acquire_fenced`, keep its fence in `fence`, and tell whether.

        Raises:
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
        self._post(Lock.release)


class LockFactory(AsyncFactory):
    """Makes anonymous locks for async code."""

    def Lock(self) -> Coroutine[Any, Any, LockProxy]:  # noqa: N802
        """Make a shared lock."""
        return self._make(LockProxy, None, (), {})


class NamedLockFactory(AsyncFactory):
    """Finds or makes named locks for async code."""

    def Lock(self, name: str, /) -> Coroutine[Any, Any, LockProxy]:  # noqa: N802
        """Find or make the shared lock of this name."""
        return self._make(LockProxy, name, (), {})


class SyncLockFactory(SyncFactory):
    """Makes anonymous locks for blocking code."""

    def Lock(self) -> SyncLockProxy:  # noqa: N802
        """Make a shared lock."""
        return self._make(SyncLockProxy, None, (), {})  # type: ignore[no-any-return]


class SyncNamedLockFactory(SyncFactory):
    """Finds or makes named locks for blocking code."""

    def Lock(self, name: str, /) -> SyncLockProxy:  # noqa: N802
        """Find or make the shared lock of this name."""
        return self._make(SyncLockProxy, name, (), {})  # type: ignore[no-any-return]
