"""The shared Lock: its operations, its two proxies and its factories."""

from collections.abc import Coroutine
from typing import Any

from aiomanager.objects.locking import Lockable, LockableProxy, Mutex, SyncLockableProxy
from aiomanager.proxy import AsyncFactory, SyncFactory

__all__ = ("Lock", "LockProxy", "SyncLockProxy")


class Lock(Lockable):
    """A lock that belongs to the task or thread that acquired it, first come, first served.

    When the session of its owner ends, the lock passes on to the next who waits.
    """

    def __init__(self) -> None:
        self._mutex = Mutex(reentrant=False)


class LockProxy(LockableProxy, Lock):
    """A shared lock for async code: `async with lock`."""

    sync: "SyncLockProxy"


class SyncLockProxy(SyncLockableProxy, Lock):  # pyright: ignore[reportIncompatibleVariableOverride]
    """A shared lock for blocking code: `with lock`."""

    aio: "LockProxy"


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
