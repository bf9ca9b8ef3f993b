"""Proxies work in threads, in Pool and executor workers, and in processes of every start method."""

import asyncio
import multiprocessing
import os
import threading
from array import array
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

import aiomanager
import aiomanager.sync

from . import tasks
from .helpers import FORKING, METHODS, SECONDS

pytestmark = [
    pytest.mark.filterwarnings(FORKING),
    pytest.mark.parametrize("method", METHODS),
]


@pytest.fixture
def things(manager: aiomanager.sync.Manager) -> dict[str, Any]:
    things: dict[str, Any] = {
        "d": manager.dict({"total": 0, "sum": 0}),
        "l": manager.list(),
        "v": manager.Value("i", 0),
        "e": manager.Event(),
        "lock": manager.Lock(),
        "q": manager.Queue(),
    }
    things["e"].set()
    return things


def check(things: dict[str, Any], numbers: range) -> None:
    d, q = things["d"], things["q"]
    assert d.copy() == {"total": len(numbers), "sum": sum(numbers)}
    assert sorted(things["l"]) == list(numbers)
    assert things["v"].value == 2 * len(numbers)
    assert sorted(q.get(timeout=SECONDS) for _ in numbers) == list(numbers)
    assert q.empty()


def test_pool(method: str, things: dict[str, Any]) -> None:
    with multiprocessing.get_context(method).Pool(2) as pool:
        pids = pool.starmap(tasks.use_all, [(*things.values(), n) for n in range(20)])
    assert os.getpid() not in pids
    check(things, range(20))


def test_initializer(method: str, things: dict[str, Any]) -> None:
    context = multiprocessing.get_context(method)
    initialize = tasks.initialize
    with context.Pool(2, _Initializer(initialize, things)) as pool:
        pids = pool.map(tasks.use_shared, range(20))
    assert os.getpid() not in pids
    check(things, range(20))


class _Initializer:
    """Pool's initializers get no keyword arguments."""

    def __init__(self, function: Any, named: dict[str, Any]) -> None:
        self.function, self.named = function, named

    def __call__(self) -> None:
        self.function(**self.named)


def test_process(method: str, things: dict[str, Any]) -> None:
    context = multiprocessing.get_context(method)
    workers = [context.Process(target=tasks.use_all, args=(*things.values(), n)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(SECONDS)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    check(things, range(3))


def test_executor(method: str, things: dict[str, Any]) -> None:
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        futures = [executor.submit(tasks.use_all, *things.values(), n) for n in range(10)]
        pids = {future.result(SECONDS) for future in futures}
    assert os.getpid() not in pids
    check(things, range(10))


def test_proxies_in_containers(method: str, manager: aiomanager.sync.Manager) -> None:
    inner = manager.dict({"deep": "down"})
    first: Any = manager.dict({"inner": inner})
    second: Any = manager.list()
    lock = manager.Lock()
    del inner  # it lives on inside the shared value
    with multiprocessing.get_context(method).Pool(1) as pool:
        argument = {"first": first, "others": [second, lock]}
        assert pool.apply(tasks.use_contained, (argument,)) == 1
    assert first["seen"] is True
    assert second[:] == ["down"]
    assert lock.acquire(False)


def test_async_proxies(method: str) -> None:
    async def main() -> None:
        async with aiomanager.Manager() as manager:
            d = await manager.dict({"total": 0, "sum": 0})
            lock, q = await manager.Lock(), await manager.Queue()
            pool = multiprocessing.get_context(method).Pool(2)
            try:
                results = [pool.apply_async(tasks.use_async, (d, lock, q)) for _ in range(4)]
                # The parent's own tasks go on meanwhile, on the loop that it forked from.
                await d.increment("sum", 100)
                pids = [await asyncio.to_thread(result.get, SECONDS) for result in results]
            finally:
                pool.terminate()
                await asyncio.to_thread(pool.join)
            assert os.getpid() not in pids
            assert await d.copy() == {"total": 20, "sum": 120}
            assert sorted([await q.get() for _ in pids]) == sorted(pids)

    asyncio.run(main())


def test_faces_in_a_worker(method: str, manager: aiomanager.sync.Manager) -> None:
    d = manager.dict()
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(tasks.use_both, (d,)) == [1, 1, "SyncDictProxy"]
        assert pool.apply(tasks.use_both, (d.aio,)) == [2, 2, "DictProxy"]
    assert d.copy() == {"sync": 2, "async": 2}


def test_threads_beside_processes(method: str, things: dict[str, Any]) -> None:
    context = multiprocessing.get_context(method)
    numbers = range(8)
    threads = [
        threading.Thread(target=tasks.use_all, args=(*things.values(), n)) for n in numbers[:4]
    ]
    workers = [
        context.Process(target=tasks.use_all, args=(*things.values(), n)) for n in numbers[4:]
    ]
    everybody: list[Any] = [*threads, *workers]
    for one in everybody:
        one.start()
    for one in everybody:
        one.join(SECONDS)
    check(things, numbers)


def test_iteration(method: str, manager: aiomanager.sync.Manager) -> None:
    things = (
        manager.dict({"a": 1, "b": 2}),
        manager.list([1, 2]),
        manager.set([1, 2]),
        manager.Array("i", [1, 2]),
        manager.Namespace(),
    )
    expected = [["a", "b"], ["b", "a"], [1, 2], [1, 2], [1, 2], array("i", [2]), {1, 2, 9}]
    expected.append(["a", "b"])
    assert tasks.iterate(*things) == expected
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.starmap(tasks.iterate, [things]) == [expected]
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(tasks.iterate(*things)))
    thread.start()
    thread.join(SECONDS)
    assert found == [expected]
