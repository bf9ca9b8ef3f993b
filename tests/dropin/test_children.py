"""The drop-in's proxies in children of every start method, in pools and executors."""

import gc
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.pool import ThreadPool
from typing import Any

import pytest

import aiomanager.multiprocessing
from aiomanager.multiprocessing.managers import SyncManager

from . import tasks
from .helpers import METHODS, SECONDS

pytestmark = pytest.mark.parametrize("method", METHODS)


@pytest.fixture
def context(method: str) -> Any:
    return aiomanager.multiprocessing.get_context(method)


def test_iteration_in_a_child(method: str, context: Any, ours: Any) -> None:
    d = ours.dict(x=1, y=2)
    with context.Pool(1) as pool:
        assert pool.apply(tasks.iterate, (d,)) == [
            ["x", "y"], ["x", "y"], ["y"], "{'x': 1, 'y': 2}", repr(d)[:38],
        ]  # fmt: skip


def test_initializer(method: str, context: Any, ours: Any) -> None:
    d = ours.dict()
    with context.Pool(2, tasks.initialize, (d,)) as pool:
        pids = set(pool.map(tasks.use_initialized, range(10)))
    assert os.getpid() not in pids
    assert set(d.values()) == pids
    assert sorted(d) == list(range(10))


def test_executor(method: str, context: Any, ours: Any) -> None:
    d, lock = ours.dict(n=0), ours.Lock()
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        for future in [executor.submit(tasks.add_locked, d, lock) for _ in range(10)]:
            future.result(SECONDS)
    assert d["n"] == 10


def test_arguments_that_the_parent_forgets(method: str, context: Any, ours: Any) -> None:
    go, done = ours.Event(), ours.Queue()
    # Its start() forgets the arguments; under fork nothing was pickled.
    process = context.Process(target=tasks.use_later, args=(go, ours.Queue(), done))
    process.start()
    gc.collect()
    go.set()
    assert done.get(timeout=SECONDS) == "used"
    process.join(SECONDS)
    assert process.exitcode == 0


def test_thread_pool(method: str, context: Any, ours: Any) -> None:
    d, lock = ours.dict(n=0), ours.Lock()
    with ThreadPool(4) as pool:
        pool.starmap(tasks.add_locked, [(d, lock)] * 20)
    with context.Manager() as other, ThreadPool(4) as pool:
        theirs = other.dict(n=0)
        pool.starmap(tasks.add_acquired, [(theirs, lock)] * 20)
        assert theirs["n"] == 20
    assert d["n"] == 20


def test_nested_proxies_in_a_child(method: str, context: Any, ours: Any) -> None:
    outer = ours.dict(inner=ours.dict())
    with context.Pool(1) as pool:
        kind = pool.apply(tasks.nest, (outer,))
    assert kind == "aiomanager.multiprocessing.faces.DictProxy"
    assert outer["inner"]["child"] != os.getpid()


def test_keys_that_only_python_knows(method: str, context: Any, ours: Any) -> None:
    d = ours.dict()
    d[tasks.Key("k")] = "found"
    with context.Pool(1) as pool:
        assert pool.apply(tasks.use_key, (d,)) == "found"


@pytest.mark.parametrize("address", [None, ("127.0.0.1", 0)])
def test_keys_of_managers(method: str, context: Any, address: Any) -> None:
    # As an argument of the process itself: only then does the key travel, as in the standard
    # library; the tasks of a pool rely on the key that the workers have.
    with SyncManager(address, b"k") as manager:
        lock = manager.Lock()
        child = context.Process(target=tasks.acquire, args=(lock, "returns"))
        child.start()
        child.join(SECONDS)
        assert child.exitcode == 0
        assert not lock.acquire(False)


def test_the_processs_own_key(method: str, context: Any) -> None:
    with SyncManager(("127.0.0.1", 0)) as manager:
        d = manager.dict(key="value")
        with context.Pool(1) as pool:
            assert pool.apply(tasks.get_item, (d, "key")) == "value"


def test_the_standard_librarys_pool(method: str, context: Any, ours: Any) -> None:
    d = ours.dict(key="value")
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(tasks.get_item, (d, "key")) == "value"


def test_what_a_child_alone_referred_to_goes_with_it(method: str, context: Any, ours: Any) -> None:
    d = ours.dict()
    before = ours._number_of_objects()
    children = [context.Process(target=tasks.make_and_end, args=(d, n)) for n in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(SECONDS)
        assert child.exitcode == 0
    assert ours._number_of_objects() >= before + 3
    d.clear()
    deadline = time.monotonic() + SECONDS  # less than the minute that a dead client's linger
    while ours._number_of_objects() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert ours._number_of_objects() == before
