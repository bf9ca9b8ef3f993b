"""The drop-in's proxy of each shared type: the blocking one, looking as the standard library's."""

import threading
from array import array
from collections.abc import Iterator, Mapping
from multiprocessing import managers as _managers
from multiprocessing.managers import Namespace as _PlainNamespace
from queue import Queue as _PlainQueue
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from aiomanager.multiprocessing.channel import DropInChannel
from aiomanager.multiprocessing.proxies import AutoProxy, BaseProxy, NativeProxy
from aiomanager.objects.array import Array, SyncArrayProxy
from aiomanager.objects.barrier import Barrier, SyncBarrierProxy
from aiomanager.objects.condition import Condition, SyncConditionProxy
from aiomanager.objects.dict import Dict, SyncDictProxy
from aiomanager.objects.event import Event, SyncEventProxy
from aiomanager.objects.jobs import Job, SyncJobProxy
from aiomanager.objects.list import List, SyncListProxy
from aiomanager.objects.lock import Lock, SyncLockProxy
from aiomanager.objects.namespace import Namespace
from aiomanager.objects.pool import Pool, SyncPoolProxy
from aiomanager.objects.queue import JoinableQueue, Queue, SyncJoinableQueueProxy, SyncQueueProxy
from aiomanager.objects.rlock import RLock, SyncRLockProxy
from aiomanager.objects.semaphore import (
    BoundedSemaphore,
    Semaphore,
    SyncBoundedSemaphoreProxy,
    SyncSemaphoreProxy,
)
from aiomanager.objects.set import Set, SyncSetProxy
from aiomanager.objects.value import SyncValueProxy, Value
from aiomanager.operation import K, V
from aiomanager.waiter import ANYBODY

__all__ = (
    "AcquirerProxy",
    "ArrayProxy",
    "AsyncResultProxy",
    "BarrierProxy",
    "BoundedSemaphoreProxy",
    "ConditionProxy",
    "DictProxy",
    "EventProxy",
    "IteratorProxy",
    "JoinableQueueProxy",
    "ListProxy",
    "LockProxy",
    "NamespaceProxy",
    "PoolProxy",
    "QueueProxy",
    "RLockProxy",
    "SemaphoreProxy",
    "SetProxy",
    "ValueProxy",
    "native_face",
)

Self = TypeVar("Self", bound=BaseProxy)
R = TypeVar("R")


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


class DictProxy(NativeProxy, SyncDictProxy[K, V]):
    """A shared dict."""

    _exposed_ = (
        "__contains__", "__delitem__", "__getitem__", "__iter__", "__len__", "__setitem__",
        "clear", "copy", "get", "items", "keys", "pop", "popitem", "setdefault", "update", "values",
    )  # fmt: skip
    _method_to_typeid_ = {"__iter__": "Iterator"}
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

    def _getvalue(self) -> Any:
        return cast("Any", _managers).Value(self.typecode(), self.get())


class EventProxy(NativeProxy, SyncEventProxy):
    """A shared event."""

    _exposed_ = ("is_set", "set", "clear", "wait")
    _typeid = "Event"

    def _shown(self) -> str:
        state = "set" if self.is_set() else "unset"
        return f"<threading.Event at {self._reference.object_id:#x}: {state}>"


class AcquirerProxy(BaseProxy):
    """The base of what is acquired and released; also for a program's own classes of that kind."""

    _exposed_: ClassVar[tuple[str, ...]] = ("acquire", "release")

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Acquire it and tell whether, within `timeout` seconds if given."""
        given = (blocking,) if timeout is None else (blocking, timeout)
        acquired: bool = self._callmethod("acquire", given)
        return acquired  # nothing is called behind it: a signal handler could raise there

    def release(self) -> None:
        """Release it."""
        self._callmethod("release")

    def __enter__(self) -> Any:
        return self._callmethod("acquire")

    def __exit__(self, *_error: object) -> None:
        self._callmethod("release")


class LockProxy(NativeProxy, SyncLockProxy, AcquirerProxy):
    """A shared lock, which one may acquire and another release."""

    _exposed_ = ("acquire", "release", "locked")
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
        super().release(owner)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

    def __exit__(self, *_error: object) -> None:
        self._post(Lock.release, ANYBODY)


class RLockProxy(NativeProxy, SyncRLockProxy, AcquirerProxy):  # type: ignore[misc]  # pyright: ignore[reportIncompatibleVariableOverride]
    """A shared lock that belongs to a thread, which may acquire it again."""

    _exposed_ = ("acquire", "release", "locked")
    _typeid = "RLock"

    def _shown(self) -> str:
        state = "locked" if self.locked() else "unlocked"
        return f"<{state} _thread.RLock object at {self._reference.object_id:#x}>"


class SemaphoreProxy(NativeProxy, SyncSemaphoreProxy, AcquirerProxy):
    """A shared semaphore, which one may acquire and another release."""

    _exposed_ = ("acquire", "release")
    _typeid = "Semaphore"

    def _shown(self) -> str:
        number = self._reference.object_id
        return f"<threading.{self._typeid} at {number:#x}: value={self.value()}>"

    def acquire(  # pyright: ignore[reportIncompatibleVariableOverride]
        self,
        blocking: bool = True,
        timeout: float | None = None,
        lease: float | None = None,
        owner: str | None = ANYBODY,
    ) -> bool:
        """Take a permit, once there is one; tell whether that was within `timeout` seconds.

        Anybody may give it back, unless `owner` is named. With a `lease` it comes back by itself
        after so many seconds.

        Raises:
            ValueError: a timeout for a call that does not block, or a lease that is not positive.
        """
        # Nothing is called behind it, not even cast(): a signal handler could raise there.
        return super().acquire(blocking, timeout, lease, owner)  # type: ignore[call-arg]  # pyright: ignore

    def release(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, owner: str | None = ANYBODY
    ) -> None:
        """Give a permit back; the longest waiting caller gets it.

        Raises:
            ValueError: of a BoundedSemaphore, when no permit is out.
        """
        super().release(owner)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

    def __exit__(self, *_error: object) -> None:
        self._post(Semaphore.release, ANYBODY)


class BoundedSemaphoreProxy(SemaphoreProxy, SyncBoundedSemaphoreProxy):  # pyright: ignore[reportIncompatibleVariableOverride]
    """A shared semaphore that never has more permits than it was made with."""

    _typeid = "BoundedSemaphore"


class ConditionProxy(NativeProxy, SyncConditionProxy, AcquirerProxy):  # type: ignore[misc]  # pyright: ignore[reportIncompatibleVariableOverride]
    """A shared condition."""

    _exposed_ = ("acquire", "release", "wait", "notify", "notify_all", "locked")
    _typeid = "Condition"

    def _shown(self) -> str:
        state = "locked" if self.locked() else "unlocked"
        return f"<Condition({state}, {self.sleeping()})>"


class BarrierProxy(NativeProxy, SyncBarrierProxy):
    """A shared barrier."""

    _exposed_ = ("__getattribute__", "wait", "abort", "reset", "parties", "n_waiting", "broken")
    _typeid = "Barrier"

    def _shown(self) -> str:
        number = self._reference.object_id
        state = "broken" if self.broken else f"waiters={self.n_waiting}/{self.parties}"
        return f"<threading.Barrier at {number:#x}: {state}>"


# The standard library has one class for all of them; programs see its name.
for _face in (LockProxy, RLockProxy, SemaphoreProxy, BoundedSemaphoreProxy):
    _face.__name__ = AcquirerProxy.__name__


class SetProxy(NativeProxy, SyncSetProxy[K]):
    """A shared set."""

    _exposed_ = (
        "__and__", "__class_getitem__", "__contains__", "__iand__", "__ior__", "__isub__",
        "__iter__", "__ixor__", "__len__", "__or__", "__rand__", "__ror__", "__rsub__", "__rxor__",
        "__sub__", "__xor__", "__ge__", "__gt__", "__le__", "__lt__", "add", "clear", "copy",
        "difference", "difference_update", "discard", "intersection", "intersection_update",
        "isdisjoint", "issubset", "issuperset", "pop", "remove", "symmetric_difference",
        "symmetric_difference_update", "union", "update",
    )  # fmt: skip
    _typeid = "set"

    def _shown(self) -> str:
        return repr(self.copy())

    def _getvalue(self) -> set[K]:
        return self.copy()


class QueueProxy(NativeProxy, SyncQueueProxy[V]):
    """A shared queue."""

    _exposed_ = (
        "empty", "full", "get", "get_nowait", "join", "put", "put_nowait", "qsize", "shutdown",
        "task_done",
    )  # fmt: skip
    _typeid = "Queue"

    def _shown(self) -> str:
        return f"<queue.Queue object at {self._reference.object_id:#x}>"


class JoinableQueueProxy(QueueProxy[V], SyncJoinableQueueProxy[V]):
    """A shared joinable queue."""

    _typeid = "JoinableQueue"


# The standard library makes these classes when they are first needed; programs see their names.
QueueProxy.__name__ = "AutoProxy[Queue]"
JoinableQueueProxy.__name__ = "AutoProxy[JoinableQueue]"


class PoolProxy(NativeProxy, SyncPoolProxy):
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
    _typeid = "Pool"

    def _shown(self) -> str:
        counted = self.statistics()
        return (
            f"<multiprocessing.pool.Pool processes={counted['processes']} jobs={counted['jobs']}>"
        )


class AsyncResultProxy(NativeProxy, SyncJobProxy[R]):
    """The result to come of a pool; as `multiprocessing.pool.AsyncResult`."""

    _exposed_ = ("get", "ready", "successful", "wait")
    _typeid = "AsyncResult"

    def _shown(self) -> str:
        state = "ready" if self.ready() else "not ready"
        return (
            f"<multiprocessing.pool.ApplyResult object at {self._reference.object_id:#x}: {state}>"
        )


AsyncResultProxy.__name__ = "AutoProxy[AsyncResult]"


class ArrayProxy(NativeProxy, SyncArrayProxy):
    """A shared array of numbers."""

    _exposed_ = ("__len__", "__getitem__", "__setitem__")
    _typeid = "Array"

    def _shown(self) -> str:
        return repr(self.copy())

    def _getvalue(self) -> Any:
        return self.copy()


class NamespaceProxy(NativeProxy, shared=Namespace):
    """A shared namespace: each public name is an attribute of it.

    Also the base of proxies of a program's own objects whose attributes are to be used.
    """

    _exposed_ = ("__getattribute__", "__setattr__", "__delattr__")
    _typeid = "Namespace"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            return object.__getattribute__(self, name)  # raises, as it was looked for already
        return self._callmethod("__getattribute__", (name,))

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            object.__setattr__(self, name, value)
        else:
            self._callmethod("__setattr__", (name, value))

    def __delattr__(self, name: str) -> None:
        if name.startswith("_"):
            object.__delattr__(self, name)
        else:
            self._callmethod("__delattr__", (name,))

    def _callmethod(
        self, methodname: str, args: tuple[Any, ...] = (), kwds: Mapping[str, Any] | None = None
    ) -> Any:
        """As `BaseProxy._callmethod`; the methods are those of attributes alone."""
        operation = _OF_ATTRIBUTES.get(methodname)
        if operation is not None:
            return self._call(self, operation, args)
        return super()._callmethod(methodname, args, kwds)

    def _shown(self) -> str:
        return repr(self._getvalue())

    def _getvalue(self) -> _PlainNamespace:
        return _PlainNamespace(**self._call(self, Namespace.copy, ()))

    if not TYPE_CHECKING:
        # A shared attribute may have the name of what other proxies have.
        sync = property(lambda self: self.__getattr__("sync"))
        aio = property(lambda self: self.__getattr__("aio"))


_OF_ATTRIBUTES: dict[str, Any] = {
    "__getattribute__": Namespace.get,
    "__setattr__": Namespace.set,
    "__delattr__": Namespace.delete,
}

DropInChannel.faces.update(
    cast(
        "Any",
        {
            Dict: DictProxy,
            List: ListProxy,
            Value: ValueProxy,
            Event: EventProxy,
            Lock: LockProxy,
            RLock: RLockProxy,
            Semaphore: SemaphoreProxy,
            BoundedSemaphore: BoundedSemaphoreProxy,
            Barrier: BarrierProxy,
            Condition: ConditionProxy,
            Set: SetProxy,
            Queue: QueueProxy,
            JoinableQueue: JoinableQueueProxy,
            Pool: PoolProxy,
            Job: AsyncResultProxy,
            Array: ArrayProxy,
            Namespace: NamespaceProxy,
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
    (set, SetProxy): SetProxy,
    (array, ArrayProxy): ArrayProxy,
    (cast("Any", _managers).Value, ValueProxy): ValueProxy,
    (_PlainQueue, None): QueueProxy,
    (_PlainNamespace, NamespaceProxy): NamespaceProxy,
    (threading.Event, EventProxy): EventProxy,
    (threading.Barrier, BarrierProxy): BarrierProxy,
    (threading.Condition, ConditionProxy): ConditionProxy,
    (threading.Lock, AcquirerProxy): LockProxy,
    (threading.RLock, AcquirerProxy): RLockProxy,
    (threading.Semaphore, AcquirerProxy): SemaphoreProxy,
    (threading.BoundedSemaphore, AcquirerProxy): BoundedSemaphoreProxy,
}
"""By what was registered, and its proxy class: the one of the shared type in its place."""
