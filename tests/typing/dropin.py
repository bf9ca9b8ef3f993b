"""Programs for the standard library whose import was changed, as type checkers read them."""

import multiprocessing as standard
from queue import Empty
from typing import Any, assert_type

import aiomanager.multiprocessing as multiprocessing
from aiomanager.multiprocessing.connection import Connection
from aiomanager.multiprocessing.context import SpawnContext
from aiomanager.multiprocessing.faces import LockProxy
from aiomanager.multiprocessing.managers import (
    BaseManager,
    DictProxy,
    EventProxy,
    ListProxy,
    SyncManager,
    ValueProxy,
)
from aiomanager.multiprocessing.pool import ThreadPool
from aiomanager.multiprocessing.shared_memory import SharedMemory


def managers() -> None:
    manager = multiprocessing.Manager()
    assert_type(manager, SyncManager)
    assert_type(multiprocessing.get_context("spawn"), SpawnContext)
    assert_type(multiprocessing.get_context("spawn").Manager(), SyncManager)
    with SyncManager(("127.0.0.1", 5000), authkey=b"key") as entered:
        assert_type(entered, SyncManager)
        assert_type(entered.connect(), None)
    base: BaseManager = manager
    assert_type(base.start(), None)


def containers(manager: SyncManager) -> None:
    d = manager.dict({"a": 1})
    assert_type(d, DictProxy[str, int])
    assert_type(d["a"], int)
    assert_type(d.live(), DictProxy[str, int])
    assert_type(d.cached(1), DictProxy[str, int])
    assert_type(d.keys(), list[str])
    assert_type(d.get("a"), int | None)
    for key in d:
        assert_type(key, str)
    d["a"] = "text"  # type: ignore[assignment]  # pyright: ignore[reportArgumentType]
    # As the standard library's, which need no annotation.
    assert_type(manager.dict(), DictProxy[Any, Any])
    assert_type(manager.dict(a=1), DictProxy[str, int])
    assert_type(manager.list(), ListProxy[Any])
    assert_type(dict(d), dict[str, int])
    numbers = manager.list([1.5])
    assert_type(numbers, ListProxy[float])
    assert_type(numbers[0], float)
    assert_type(numbers[1:], list[float])
    numbers += [2.5]
    assert_type(numbers, ListProxy[float])
    value = manager.Value("i", 5)
    assert_type(value, ValueProxy[int])
    assert_type(value.value, int)
    value.value = 6


def synchronization(manager: SyncManager) -> None:
    lock, event, q = manager.Lock(), manager.Event(), manager.Queue(5)
    assert_type(lock, LockProxy)
    assert_type(lock.acquire(timeout=1.5), bool)
    with lock as acquired:
        assert_type(acquired, bool)
    assert_type(event, EventProxy)
    assert_type(event.wait(1), bool)
    q.put("item")
    try:
        assert_type(q.get(timeout=1), Any)
    except Empty:
        pass


def the_rest() -> None:
    assert_type(multiprocessing.cpu_count(), int)
    process: standard.Process = multiprocessing.Process(target=the_rest)
    process.start()
    with multiprocessing.Pool(2) as pool:
        assert_type(pool.map(len, ["a"]), list[int])
    with ThreadPool(2) as threads:
        assert_type(threads.map(len, ["a"]), list[int])
    assert_type(multiprocessing.pool.ThreadPool, type[ThreadPool])
    assert_type(SharedMemory(create=True, size=1).size, int)
    first, second = multiprocessing.Pipe()
    assert_type(first, Connection[Any, Any])
    assert_type(second, Connection[Any, Any])
