"""The drop-in's proxies: the blocking ones of aiomanager, looking as the standard library's do."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, TypeVar, cast

from aiomanager.objects.dict import Dict, SyncDictProxy
from aiomanager.objects.event import Event, SyncEventProxy
from aiomanager.objects.list import List, SyncListProxy
from aiomanager.objects.lock import Lock, SyncLockProxy
from aiomanager.objects.queue import Queue, SyncQueueProxy
from aiomanager.objects.value import SyncValueProxy, Value
from aiomanager.operation import K, SharedObject, V
from aiomanager.proxy import SyncProxy
from aiomanager.waiter import ANYBODY

__all__ = (
    "FACES",
    "AcquirerProxy",
    "BaseProxy",
    "DictProxy",
    "EventProxy",
    "ListProxy",
    "QueueProxy",
    "RemoteError",
    "ValueProxy",
)

Self = TypeVar("Self", bound="BaseProxy")


class RemoteError(Exception):
    """What went wrong on the way to a method, rather than in it; it holds the traceback's text."""

    def __str__(self) -> str:
        line = "-" * 75
        return f"\n{line}\n{self.args[0]}{line}"


class BaseProxy(SyncProxy):
    """The base of the drop-in's proxies."""

    _exposed_: ClassVar[tuple[str, ...]] = ()
    """The methods of the standard library's proxy."""
    _typeid: ClassVar[str] = ""

    def _shown(self) -> str:
        """Return the representation of the shared object."""
        raise NotImplementedError

    def _getvalue(self) -> Any:
        """Return a copy of the shared object, as a plain one."""
        raise RemoteError(f"Unserializable message: a shared {self._typeid} cannot be copied\n")

    def _callmethod(
        self, methodname: str, args: tuple[Any, ...] = (), kwds: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a method of the shared object by its name.

        Raises:
            RemoteError: there is no such method.
        """
        if methodname == "#GETVALUE":
            return self._getvalue()
        if methodname in ("__str__", "__repr__"):
            return self._shown()
        if methodname not in self._exposed_:
            raise RemoteError(
                f"AttributeError: method {methodname!r} of a shared {self._typeid} "
                f"is not in exposed={self._exposed_!r}\n"
            )
        return getattr(self, methodname)(*args, **(kwds or {}))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} object, typeid {self._typeid!r} at {id(self):#x}>"

    def __str__(self) -> str:
        try:
            return self._shown()
        except Exception:
            return repr(self)[:-1] + "; '__str__()' failed>"

    def __copy__(self: Self) -> Self:
        return type(self)(self._channel, self._reference)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self._getvalue()


class DictProxy(BaseProxy, SyncDictProxy[K, V]):
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


class ListProxy(BaseProxy, SyncListProxy[V]):
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


class ValueProxy(BaseProxy, SyncValueProxy[V]):
    """A shared value."""

    _exposed_ = ("get", "set")
    _typeid = "Value"

    def _shown(self) -> str:
        return f"Value({self.typecode()!r}, {self.get()!r})"


class EventProxy(BaseProxy, SyncEventProxy):
    """A shared event."""

    _exposed_ = ("is_set", "set", "clear", "wait")
    _typeid = "Event"

    def _shown(self) -> str:
        state = "set" if self.is_set() else "unset"
        return f"<threading.Event at {self._reference.object_id:#x}: {state}>"


class AcquirerProxy(BaseProxy, SyncLockProxy):
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


class QueueProxy(BaseProxy, SyncQueueProxy[V]):
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

FACES: dict[type[SharedObject], type[BaseProxy]] = cast(
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
"""The proxy class of each shared type."""
