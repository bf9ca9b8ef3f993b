"""The shared RLock: its operations, its two proxies and its factories."""

from collections.abc import Coroutine
from typing import Any

from aiomanager.objects.locking import Lockable, LockableProxy, Mutex, SyncLockableProxy
from aiomanager.proxy import AsyncFactory, SyncFactory

__all__ = ("RLock", "RLockProxy", "SyncRLockProxy")


class RLock(Lockable):
    """A lock that its owner, a task or thread, may acquire again; others wait, first come first.

    It is free when it was released as often as it was acquired. Its fence stays the same until
    then. When the session of its owner ends, the lock passes on to the next who waits.
    """

    def __init__(self) -> None:
        self._mutex = Mutex(reentrant=True)


class RLockProxy(LockableProxy, RLock):
    """A shared re-entrant lock for async code: `async with rlock`."""

    sync: "SyncRLockProxy"


class SyncRLockProxy(SyncLockableProxy, RLock):  # pyright: ignore[reportIncompatibleVariableOverride]
    """A shared re-entrant lock for blocking code: `with rlock`."""

    aio: "RLockProxy"


class RLockFactory(AsyncFactory):
    """Makes anonymous re-entrant locks for async code."""

    def RLock(self) -> Coroutine[Any, Any, RLockProxy]:  # noqa: N802
        """Make a shared lock that its owner may acquire again."""
        return self._make(RLockProxy, None, (), {})


class NamedRLockFactory(AsyncFactory):
    """Finds or makes named re-entrant locks for async code."""

    def RLock(self, name: str, /) -> Coroutine[Any, Any, RLockProxy]:  # noqa: N802
        """Find or make the shared re-entrant lock of this name."""
        return self._make(RLockProxy, name, (), {})


class SyncRLockFactory(SyncFactory):
    """Makes anonymous re-entrant locks for blocking code."""

    def RLock(self) -> SyncRLockProxy:  # noqa: N802
        """Make a shared lock that its owner may acquire again."""
        return self._make(SyncRLockProxy, None, (), {})  # type: ignore[no-any-return]


class SyncNamedRLockFactory(SyncFactory):
    """Finds or makes named re-entrant locks for blocking code."""

    def RLock(self, name: str, /) -> SyncRLockProxy:  # noqa: N802
        """Find or make the shared re-entrant lock of this name."""
        return self._make(SyncRLockProxy, name, (), {})  # type: ignore[no-any-return]
