"""Classes of a program's own, as the tests register them: they live in servers."""

import asyncio
import os
import queue
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from aiomanager.multiprocessing.managers import (
    BaseManager,
    BaseProxy,
    DictProxy,
    IteratorProxy,
    ListProxy,
    MakeProxyType,
    NamespaceProxy,
)


class Awkward(Exception):
    """Cannot be unpickled: its arguments are not those of its `__init__`."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


class Closed(Exception):
    """Cannot be pickled."""

    def __reduce__(self) -> Any:
        raise TypeError("not me")


class Thing:
    """Has a number, and methods that behave in all sorts of ways."""

    def __init__(self, number: int = 0, **more: Any) -> None:
        if number < 0:
            raise ValueError(f"{number} is negative")
        self.number = number
        self.more = more
        self._lock = threading.RLock()

    def add(self, number: int = 1, *, times: int = 1) -> int:
        """Add to the number and return it."""
        self.number += number * times
        return self.number

    def slow_add(self) -> None:
        """Add 1 as one does who wants to lose updates among threads."""
        number = self.number
        time.sleep(0.01)
        self.number = number + 1

    def pid(self) -> int:
        """Return where this runs."""
        return os.getpid()

    def thread(self) -> int:
        """Return in which thread this runs."""
        return threading.get_ident()

    def acquire(self) -> bool:
        """Acquire a lock that belongs to a thread."""
        return self._lock.acquire(blocking=False)

    def release(self) -> None:
        """Release it."""
        self._lock.release()

    def fails(self, kind: str) -> Any:
        """Raise, or return, something difficult."""
        if kind == "plain":
            raise LookupError("as expected", 7)
        if kind == "awkward":
            raise Awkward(1, 2)
        if kind == "closed":
            raise Closed("x")
        if kind == "exit":
            sys.exit(3)
        if kind == "interrupt":
            raise KeyboardInterrupt
        if kind == "stop":
            raise StopIteration("value")
        return threading.Lock()  # "result"

    async def later(self, number: int) -> int:
        """Return a number after a turn of a loop."""
        await asyncio.sleep(0)
        return number + 1

    async def fails_later(self) -> int:
        """Raise after a turn of a loop."""
        await asyncio.sleep(0)
        raise LookupError("later")

    def items(self) -> list[Any]:
        """Return what is made a proxy of."""
        return [self.number]

    def itself(self) -> "Thing":
        """Return what is made a proxy of the same object."""
        return self

    def put(self, shared: Any, key: Any, value: Any) -> None:
        """Use a proxy inside of the server."""
        shared[key] = value

    def keep(self, shared: Any) -> None:
        """Keep a proxy for `use`."""
        self.kept = shared

    def use(self) -> Any:
        """Return what the kept proxy holds."""
        return dict(self.kept.items())

    def view(self) -> Any:
        """Return the view of a dict."""
        return {"a": 1}.items()

    def block(self, event: Any) -> bool:
        """Wait for a shared event, inside of the server."""
        return bool(event.wait(30))

    def _hidden(self) -> str:
        return "found"

    class Nested:
        """A class is callable too."""


ONE = Thing(100)
"""The same object for all who ask."""
QUEUE: "queue.Queue[Any]" = queue.Queue()
STACK: "queue.LifoQueue[Any]" = queue.LifoQueue()
FINALIZED = []


class Mortal:
    """Notes when it is gone."""

    def __del__(self) -> None:
        FINALIZED.append(threading.get_ident())

    def dead(self) -> int:
        """Return how many are gone."""
        return len(FINALIZED)

    def in_the_main_thread(self) -> bool:
        """Tell whether one of them died where the loop runs."""
        return threading.main_thread().ident in FINALIZED


def squares(count: int) -> Iterator[int]:
    """Yield squares."""
    for number in range(count):
        yield number * number


class Config:
    """Has attributes."""

    def __init__(self) -> None:
        self.name = "x"
        self.limit = 3

    def describe(self) -> str:
        """Return both."""
        return f"{self.name} {self.limit}"


class ConfigProxy(NamespaceProxy):
    """Offers the attributes, and a method."""

    _exposed_ = ("__getattribute__", "__setattr__", "__delattr__", "describe")

    def describe(self) -> Any:
        """Return what the object says."""
        return self._callmethod("describe")


class CountingProxy(DictProxy[Any, Any]):
    """Counts what is set by it."""

    _exposed_ = (*DictProxy._exposed_, "move_to_end")
    count = 0

    def __setitem__(self, key: Any, value: Any) -> None:
        CountingProxy.count += 1
        self._callmethod("__setitem__", (key, value))


ThingProxy = MakeProxyType("ThingProxy", ("add", "_hidden", "items"))


class OwnProxy(BaseProxy):
    """Written by hand."""

    _exposed_ = ("add", "pid")

    def twice(self) -> Any:
        """Call two methods."""
        return self._callmethod("add", (1,), {"times": 2}), self._callmethod("pid")


class ThingManager(BaseManager):
    """Makes them all."""


ThingManager.register("Thing", Thing)
ThingManager.register("Some", Thing, exposed=("add", "_hidden"))
ThingManager.register("Made", Thing, ThingProxy)
ThingManager.register("Own", Thing, OwnProxy)
ThingManager.register(
    "Lister", Thing, method_to_typeid={"items": "list", "itself": "Same", "view": "Items"}
)
ThingManager.register("Same")
ThingManager.register("Items", list, exposed=("__len__", "__getitem__"))
ThingManager.register("list", list, ListProxy)
ThingManager.register("dict", dict, DictProxy)
ThingManager.register("defaultdict", defaultdict, DictProxy)
ThingManager.register("squares", squares, IteratorProxy)
ThingManager.register("Config", Config, ConfigProxy)
ThingManager.register("one", lambda: ONE)
ThingManager.register("queue", lambda: QUEUE)
ThingManager.register("stack", lambda: STACK)
ThingManager.register("Mortal", Mortal)
ThingManager.register("wrapped", exposed=("upper",))
ThingManager.register("hidden", Thing, create_method=False)
