"""What the standard library's proxies offer, ours offer too: those of this Python, and of 3.14."""

import inspect
import queue
from multiprocessing import managers
from typing import Any

import pytest

from aiomanager.objects.array import Array, ArrayProxy, SyncArrayProxy
from aiomanager.objects.dict import Dict, DictProxy, SyncDictProxy
from aiomanager.objects.event import EventProxy, SyncEventProxy
from aiomanager.objects.list import ListProxy, SyncListProxy
from aiomanager.objects.lock import LockProxy, SyncLockProxy
from aiomanager.objects.namespace import NamespaceProxy, SyncNamespaceOperations, SyncNamespaceProxy
from aiomanager.objects.queue import (
    JoinableQueueProxy,
    QueueProxy,
    SyncJoinableQueueProxy,
    SyncQueueProxy,
)
from aiomanager.objects.set import SetProxy, SyncSetProxy
from aiomanager.objects.value import SyncValueProxy, ValueProxy
from aiomanager.proxy import SyncProxy

FACES: dict[str, tuple[Any, Any]] = {
    "dict": (SyncDictProxy, DictProxy),
    "list": (SyncListProxy, ListProxy),
    "set": (SyncSetProxy, SetProxy),
    "Namespace": (SyncNamespaceProxy, NamespaceProxy),
    "Value": (SyncValueProxy, ValueProxy),
    "Array": (SyncArrayProxy, ArrayProxy),
    "Queue": (SyncQueueProxy, QueueProxy),
    "JoinableQueue": (SyncJoinableQueueProxy, JoinableQueueProxy),
    "Event": (SyncEventProxy, EventProxy),
    "Lock": (SyncLockProxy, LockProxy),
}

LATER = {
    "dict": "__or__ __ror__ __ior__ __reversed__ fromkeys",
    "list": "clear copy",
    "set": (
        "__and__ __class_getitem__ __contains__ __iand__ __ior__ __isub__ __iter__ __ixor__ "
        "__len__ __or__ __rand__ __ror__ __rsub__ __rxor__ __sub__ __xor__ __ge__ __gt__ __le__ "
        "__lt__ add clear copy difference difference_update discard intersection "
        "intersection_update isdisjoint issubset issuperset pop remove symmetric_difference "
        "symmetric_difference_update union update"
    ),
    "Queue": "shutdown",
    "Lock": "locked",
}
"""What came with Python 3.13 and 3.14."""


def of_this_python(typeid: str) -> set[str]:
    """Return the public names of the standard library's proxy, and what operators it has."""
    registry: Any = managers.SyncManager._registry  # type: ignore[attr-defined]
    if typeid not in registry:
        return set()
    callable_, exposed, _, proxytype = registry[typeid]
    if proxytype is managers.AutoProxy:  # type: ignore[attr-defined]
        # Its methods are found when an object is made, those of queue.Queue here.
        return {name for name in dir(callable_()) if name[0] != "_"} & {
            name for name, _ in inspect.getmembers(callable_, callable)
        }
    base = set(dir(managers.BaseProxy))
    own = {name for name in dir(proxytype) if name[0] != "_"}
    return (own | set(proxytype._exposed_ or exposed or ())) - base


@pytest.mark.parametrize("typeid", FACES)
def test_the_blocking_proxy_has_every_name_of_the_standard_one(typeid: str) -> None:
    names = of_this_python(typeid) | set(LATER.get(typeid, "").split())
    assert names or typeid in ("set", "Namespace")
    face = FACES[typeid][0]
    missing = {
        name
        for name in names
        if getattr(face, name, None) is getattr(object, name, None) or not hasattr(face, name)
    }
    assert missing == set()


def test_the_probe_finds_what_is_there() -> None:
    assert {"get", "task_done", "join"} <= of_this_python("JoinableQueue")
    assert {"__getitem__", "popitem", "__iter__"} <= of_this_python("dict")
    assert {"__iadd__", "sort"} <= of_this_python("list") | {"__iadd__"}
    assert {"get", "set", "value"} <= of_this_python("Value")
    assert {"__setitem__"} <= of_this_python("Array")


@pytest.mark.parametrize("typeid", sorted({*FACES} - {"Namespace"}))
def test_the_blocking_proxy_has_every_method_of_the_async_one(typeid: str) -> None:
    blocking, asynchronous = FACES[typeid]
    public = {name for name in dir(asynchronous) if name[0] != "_"}
    assert public <= set(dir(blocking))


def test_a_blocking_namespace_has_attributes_alone() -> None:
    # `sync` and so on are there for the class; an instance asks the server for every public name.
    public = {name for name in vars(SyncNamespaceProxy) if name[0] != "_"}
    assert public <= set(dir(SyncProxy))
    asynchronous = {name for name in dir(NamespaceProxy) if name[0] != "_"}
    assert asynchronous <= set(dir(SyncNamespaceOperations))


def test_queue_errors_are_those_of_the_standard_library() -> None:
    import aiomanager

    assert aiomanager.Empty is queue.Empty
    assert aiomanager.Full is queue.Full
    if hasattr(queue, "ShutDown"):
        assert aiomanager.ShutDown is queue.ShutDown
    assert issubclass(aiomanager.ShutDown, Exception)
    assert aiomanager.ShutDown not in (queue.Empty, queue.Full)


def test_a_plain_dict_from_keys() -> None:
    assert SyncDictProxy.fromkeys("ab", 1) == {"a": 1, "b": 1}
    assert SyncDictProxy.fromkeys(["a"]) == {"a": None}
    assert not hasattr(Dict, "fromkeys")
    assert "fromkeys" not in Array.operations
