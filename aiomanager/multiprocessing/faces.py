"""The drop-in's proxy of each shared type: the blocking one, looking as the standard library's."""

from collections.abc import Iterator
from queue import Queue as _PlainQueue
from typing import Any, TypeVar, cast

from aiomanager.multiprocessing.channel import DropInChannel
from aiomanager.multiprocessing.proxies import AutoProxy, BaseProxy, NativeProxy, forwarding
from aiomanager.objects.dict import Dict, SyncDictProxy
from aiomanager.objects.event import Event, SyncEventProxy
from aiomanager.objects.list import List, SyncListProxy
from aiomanager.objects.lock import Lock, SyncLockProxy
from aiomanager.objects.queue import Queue, SyncQueueProxy
from aiomanager.objects.value import SyncValueProxy, Value
from aiomanager.operation import K, V
from aiomanager.waiter import ANYBODY

__all__ = (
    "AcquirerProxy",
    "DictProxy",
    "EventProxy",
    "IteratorProxy",
    "ListProxy",
    "PoolProxy",
    "QueueProxy",
    "ValueProxy",
    "native_face",
)

Self = TypeVar("Self", bound=BaseProxy)


class IteratorProxy(BaseProxy):
    """An iterator or generator of a program's own, in the server."""

    _exposed_ = ("__next__", "send", "throw", "close")

    def __iter__(self: Self) -> Self:
        return self

    def __next__(self, *args: Any) -> Any:
        return self._callmethod("__next__", args)

    def send(self, *args: Any) -> Any:
        """Send a value into a generator."""
        return self._callmethod("send", args)

    def throw(self, *args: Any) -> Any:
        """Raise an exception in a generator."""
        return self._callmethod("throw", args)

    def close(self, *args: Any) -> Any:
        """Close a generator."""
        return self._callmethod("close", args)


class PoolProxy(BaseProxy):
    """A pool of worker processes beside the server; as `multiprocessing.pool.Pool`."""

    _exposed_ = (
        "apply", "apply_async", "close", "imap", "imap_unordered", "join", "map", "map_async",
        "starmap", "starmap_async", "terminate",
    )  # fmt: skip
    _method_to_typeid_ = {
        "apply_async": "AsyncResult",
        "map_async": "AsyncResult",
        "starmap_async": "AsyncResult",
        "imap": "Iterator",
        "imap_unordered": "Iterator",
    }

    apply = forwarding("apply")
    apply_async = forwarding("apply_async")
    close = forwarding("close")
    imap = forwarding("imap")
    imap_unordered = forwarding("imap_unordered")
    join = forwarding("join")
    map = forwarding("map")
    map_async = forwarding("map_async")
    starmap = forwarding("starmap")
    starmap_async = forwarding("starmap_async")
    terminate = forwarding("terminate")

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.terminate()


class DictProxy(NativeProxy, SyncDictProxy[K, V]):
    """A shared dict."""

    _exposed_ = (
        "__contains__", "__delitem__", "__getitem__", "__iter__", "__len__", "__setitem__",
        "clear", "copy", "get", "items", "keys", "pop", "popitem", "setdefault", "update", "values",
    )  # fmt: skip
    _typeid = "dict"

    def _shown(self) -> str:
        return repr(self.copy())

    def _getvalue(self) -> dict[K, V]:
        return self.copy()

    def __iter__(self) -> Iterator[K]:
        """Iterate over the keys; raise RuntimeError as soon as their number has changed."""
        return self._iterate(self.keys())

    def _iterate(self, keys: list[K]) -> Iterator[K]:
        for position in range(len(keys) + 1):
            if self.length() != len(keys):
                raise RuntimeError("dictionary changed size during iteration")
            if position < len(keys):
                yield keys[position]


class ListProxy(NativeProxy, SyncListProxy[V]):
    """A shared list."""

    _exposed_ = (
        "__add__", "__contains__", "__delitem__", "__getitem__", "__len__", "__mul__",
        "__reversed__", "__rmul__", "__setitem__", "append", "count", "extend", "index", "insert",
        "pop", "remove", "reverse", "sort", "__imul__",
    )  # fmt: skip
    _typeid = "list"

    def _shown(self) -> str:
        return repr(self.copy())

    def _getvalue(self) -> list[V]:
        return self.copy()


class ValueProxy(NativeProxy, SyncValueProxy[V]):
    """A shared value."""

    _exposed_ = ("get", "set")
    _typeid = "Value"

    def _shown(self) -> str:
        return f"Value({self.typecode()!r}, {self.get()!r})"


class EventProxy(NativeProxy, SyncEventProxy):
    """A shared event."""

    _exposed_ = ("is_set", "set", "clear", "wait")
    _typeid = "Event"

    def _shown(self) -> str:
        state = "set" if self.is_set() else "unset"
        return f"<threading.Event at {self._reference.object_id:#x}: {state}>"


class AcquirerProxy(NativeProxy, SyncLockProxy):
    """A shared lock, which one may acquire and another release."""

    _exposed_ = ("acquire", "release")
    _typeid = "Lock"

    def _shown(self) -> str:
        state = "locked" if self.locked() else "unlocked"
        return f"<{state} _thread.lock object at {self._reference.object_id:#x}>"

    def acquire(
        self, blocking: bool = True, timeout: float | None = None, owner: str | None = ANYBODY
    ) -> bool:
        """Acquire the lock and tell whether; anybody may release it, unless `owner` is named.

        Waits at most `timeout` seconds, for ever by default, not at all unless `blocking`.

        Raises:
            ValueError: a negative timeout, or one for a call that does not block.
        """
        return super().acquire(blocking, timeout, owner)

    def release(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, owner: str | None = ANYBODY
    ) -> None:
        """Release the lock, whoever acquired it; the longest waiting caller gets it.

        Raises:
            RuntimeError: the lock is not held, or was acquired for an `owner`.
        """
        super().release(owner)

    def __exit__(self, *_error: object) -> None:
        self._post(Lock.release, ANYBODY)


class QueueProxy(NativeProxy, SyncQueueProxy[V]):
    """A shared queue."""

    _exposed_ = (
        "empty", "full", "get", "get_nowait", "join", "put", "put_nowait", "qsize", "shutdown",
        "task_done",
    )  # fmt: skip
    _typeid = "Queue"

    def _shown(self) -> str:
        return f"<queue.Queue object at {self._reference.object_id:#x}>"


# The standard library makes this class when it is first needed; programs see its name only.
QueueProxy.__name__ = "AutoProxy[Queue]"

DropInChannel.faces.update(
    cast(
        "Any",
        {
            Dict: DictProxy,
            List: ListProxy,
            Value: ValueProxy,
            Event: EventProxy,
            Lock: AcquirerProxy,
            Queue: QueueProxy,
        },
    )
)


def native_face(
    make: Any, face: Any, exposed: Any, method_to_typeid: Any
) -> type[BaseProxy] | None:
    """Return the proxy class of our own type that does what was registered, if there is one."""
    if exposed is not None and exposed != getattr(face, "_exposed_", None):
        return None
    if method_to_typeid and dict(method_to_typeid) != getattr(face, "_method_to_typeid_", None):
        return None
    return _NATIVE.get((make, None if face is AutoProxy else face))


_NATIVE: dict[tuple[Any, Any], type[BaseProxy]] = {
    (dict, DictProxy): DictProxy,
    (list, ListProxy): ListProxy,
    (_PlainQueue, None): QueueProxy,
}
