"""What child processes do in the tests: a module of its own, so that they import no more."""

import os
import sys
import threading
from typing import Any


def acquire(lock: Any, how: str) -> None:
    assert lock.acquire(timeout=30)
    if how == "sys.exit":
        sys.exit()
    if how == "sys.exit(1)":  # as handlers of SIGTERM do
        sys.exit(1)
    if how == "raises":
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115
        raise ValueError("a fault of the process")


def release(lock: Any) -> None:
    lock.release()


def acquire_and_stay(lock: Any, ready: Any) -> None:
    assert lock.acquire()
    ready.set()
    threading.Event().wait()


def add_locked(d: Any, lock: Any) -> None:
    with lock:
        d["n"] = d["n"] + 1


def add_acquired(d: Any, lock: Any) -> None:
    lock.acquire()
    try:
        d["n"] += 1
    finally:
        lock.release()


def answer(there: Any, back: Any) -> None:
    assert there.wait(30)
    back.set()


def square_until_none(work: Any, results: Any) -> None:
    while (number := work.get()) is not None:
        results.put(number * number)


def get_now(q: Any) -> Any:
    return q.get_nowait()


def get_item(d: Any, key: Any) -> Any:
    return d[key]


shared: Any = None


def initialize(proxy: Any) -> None:
    global shared
    shared = proxy


def use_initialized(key: Any) -> int:
    shared[key] = os.getpid()
    return os.getpid()


def iterate(d: Any) -> list[Any]:
    """What the standard library's proxies can do in the process that made them only."""
    return [list(d), sorted(d), [key for key in d if key != "x"], str(d), repr(d)[:38]]


def nest(outer: Any) -> str:
    """Change a shared dict that lies in another one, and show what it looks like here."""
    outer["inner"]["child"] = os.getpid()
    return f"{outer['inner'].__class__.__module__}.{outer['inner'].__class__.__qualname__}"


class Key:
    """A key that only Python knows."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)


def use_key(d: Any) -> Any:
    return d[Key("k")]


def make_and_end(d: Any, number: int) -> None:
    """Make objects that nobody else refers to, and end with them in hand."""
    global kept
    d[number] = d._channel.make(type(d), ({"a": 1},), {})
    kept = [d[number], *(d._channel.make(type(d), ((),), {}) for _ in range(5))]


kept: list[Any] = []


def use_later(go: Any, q: Any, done: Any) -> None:
    go.wait()
    q.put("used")
    done.put(q.get())
