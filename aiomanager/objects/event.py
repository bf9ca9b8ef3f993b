"""The shared Event: its operations, its two proxies and its factories."""

from collections.abc import Coroutine
from typing import Any

from aiomanager.operation import SharedObject, reads, waits, writes
from aiomanager.proxy import AsyncFactory, AsyncProxy, SyncFactory, SyncProxy
from aiomanager.waiter import Waiter, WaitQueue

__all__ = ("Event", "EventProxy", "SyncEventProxy")


class Event(SharedObject):
    """A flag that many may wait for."""

    def __init__(self) -> None:
        self._flag = False
        self._waiting = WaitQueue[bool](self._serve)

    def _serve(self) -> None:
        if self._flag:
            # Suspended waiters are told as well: a flag that was up is no longer waited for.
            for waiter in self._waiting.pop_all():
                waiter.grant(True)

    @reads
    def is_set(self) -> bool:
        """Tell whether the flag is up."""
        return self._flag

    @writes
    def set(self) -> None:
        """Put the flag up and wake all who wait."""
        self._flag = True
        self._serve()

    @writes
    def clear(self) -> None:
        """Take the flag down."""
        self._flag = False

    @waits
    def wait(self, timeout: float | None = None) -> bool | Waiter[bool]:
        """Wait until the flag is up; return whether it was within `timeout` seconds."""
        if self._flag:
            return True
        if timeout is not None and timeout <= 0:
            return False
        return self._waiting.park(timeout, lambda: False)


class EventProxy(AsyncProxy, Event):
    """A shared event for async code."""

    sync: "SyncEventProxy"


class SyncEventProxy(SyncProxy, Event):
    """A shared event for blocking code."""

    aio: "EventProxy"


class EventFactory(AsyncFactory):
    """Makes anonymous events for async code."""

    def Event(self) -> Coroutine[Any, Any, EventProxy]:  # noqa: N802
        """Make a shared event, its flag down."""
        return self._make(EventProxy, None, (), {})


class NamedEventFactory(AsyncFactory):
    """Finds or makes named events for async code."""

    def Event(self, name: str, /) -> Coroutine[Any, Any, EventProxy]:  # noqa: N802
        """Find or make the shared event of this name."""
        return self._make(EventProxy, name, (), {})


class SyncEventFactory(SyncFactory):
    """Makes anonymous events for blocking code."""

    def Event(self) -> SyncEventProxy:  # noqa: N802
        """Make a shared event, its flag down."""
        return self._make(SyncEventProxy, None, (), {})  # type: ignore[no-any-return]


class SyncNamedEventFactory(SyncFactory):
    """Finds or makes named events for blocking code."""

    def Event(self, name: str, /) -> SyncEventProxy:  # noqa: N802
        """Find or make the shared event of this name."""
        return self._make(SyncEventProxy, name, (), {})  # type: ignore[no-any-return]
