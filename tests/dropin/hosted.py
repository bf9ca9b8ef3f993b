"""Classes that the tests register with managers, and what their children do with them."""

import asyncio
import gc
import os
import signal
import sys
import threading
from typing import Any

from aiomanager.multiprocessing.managers import BaseProxy, SyncManager


class TwoArguments(Exception):
    """Pickles, and does not unpickle: its class wants another argument."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(what)
        self.why = why


class Holding(Exception):
    """Does not pickle at all."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class Part:
    def __init__(self) -> None:
        self.number = 0

    def add(self) -> int:
        self.number += 1
        return self.number


class Thing:
    """Whose methods do what breaks the standard library's connection, or should."""

    def __init__(self) -> None:
        self.parts: dict[str, Part] = {}

    def well(self, answer: Any = "well") -> Any:
        return answer

    def leave(self, code: Any) -> None:
        sys.exit(code)

    def interrupt(self) -> None:
        raise KeyboardInterrupt("from the method")

    def stop(self) -> None:
        raise StopIteration("enough")

    def two_arguments(self) -> None:
        raise TwoArguments("what happened", "why")

    def holding(self) -> None:
        raise Holding("what is held")

    def unsendable(self) -> Any:
        return threading.Lock()

    def part(self, name: str) -> Part:
        return self.parts.setdefault(name, Part())

    async def later(self, answer: Any) -> Any:
        await asyncio.sleep(0)
        return answer

    def numbers(self) -> Any:
        yield from range(3)


class Iterating(BaseProxy):
    _exposed_ = ("__next__",)

    def __iter__(self) -> "Iterating":
        return self

    def __next__(self) -> Any:
        return self._callmethod("__next__")


class ThingManager(SyncManager):
    pass


ThingManager.register("Thing", Thing, method_to_typeid={"part": "Part", "numbers": "Numbers"})
ThingManager.register("Part", create_method=False)
ThingManager.register("Numbers", proxytype=Iterating, create_method=False)


# What children do


def use_parts(thing: Any, results: Any) -> None:
    results.put([thing.part("one").add(), thing.part("one").add(), list(thing.numbers())])


def use_nested(outer: Any) -> None:
    outer["things"][0].part("nested").add()
    outer["things"][0] = outer["things"][0]
    outer["queue"].put(sorted(outer["inner"]))


def put_and_die(address: Any, key: bytes, queue: Any) -> None:
    """Make a list, send its proxy, and be killed before anybody has it."""
    manager = SyncManager(address, key)
    manager.connect()
    made = manager.list(["made", "by a dead one"])
    queue.put(made)
    os.kill(os.getpid(), signal.SIGKILL)


def get_from(queue: Any, results: Any) -> None:
    proxy = queue.get()
    gc.collect()
    proxy.append("received")
    results.put(list(proxy))


def use_at_once(table: Any, queue: Any) -> None:
    table["child"] = len(table)
    queue.put(dict(table))


def hold_permit(semaphore: Any, ready: Any) -> None:
    semaphore.acquire()
    ready.set()
    signal.pause()


def wait_on(condition: Any, ready: Any, log: Any) -> None:
    with condition:
        ready.set()
        log.append(condition.wait(30))
