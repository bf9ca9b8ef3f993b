"""manager.Pool(): as the standard library's, with workers that are children of the server."""

import os
import pickle
import signal
import time
from collections.abc import Iterator
from multiprocessing import pool as standard_pool
from typing import Any

import pytest
from workers import pool_tasks as tasks
from workers.helpers import alive, until

import aiomanager
import aiomanager.multiprocessing
from aiomanager.multiprocessing.managers import BaseManager, PoolProxy, RemoteError, SyncManager

from .helpers import METHODS, SECONDS

Context = aiomanager.multiprocessing.get_context


@pytest.fixture(scope="module", params=METHODS)
def started(request: pytest.FixtureRequest) -> Iterator[SyncManager]:
    with Context(request.param).Manager() as manager:
        yield manager


@pytest.fixture
def pool(started: SyncManager) -> Iterator[Any]:
    pool = started.Pool(2)
    yield pool
    pool.terminate()
    pool.join()


# As in the standard library


def test_nothing_begins_once_it_was_terminated(manager: Any) -> None:
    with manager.Pool(1) as pool:
        assert pool.apply(tasks.square, (2,)) == 4
    for method in ("map", "map_async", "starmap", "starmap_async", "imap", "imap_unordered"):
        with pytest.raises(ValueError, match="Pool not running"):
            getattr(pool, method)(tasks.square, [(1,)])
    for method in ("apply", "apply_async"):
        with pytest.raises(ValueError, match="Pool not running"):
            getattr(pool, method)(tasks.square, (1,))
    pool.join()


def test_methods(manager: Any, package: Any) -> None:
    squares = [n * n for n in range(10)]
    with manager.Pool(2) as pool:
        assert type(pool).__name__ == "PoolProxy"
        assert pool.apply(tasks.square, (3,)) == 9
        result = pool.apply_async(tasks.square, (3,))
        assert type(result).__name__ == "AutoProxy[AsyncResult]"
        assert result.get(SECONDS) == 9
        assert result.ready()
        assert result.successful()
        assert pool.map(tasks.square, list(range(10))) == squares
        assert pool.map_async(tasks.square, list(range(10)), chunksize=3).get() == squares
        assert pool.starmap(divmod, [(7, 2)]) == [(3, 1)]
        assert list(pool.imap(tasks.square, list(range(10)))) == squares
        found = pool.imap_unordered(tasks.square, list(range(10)), chunksize=3)
        assert sorted(found) == squares
        with pytest.raises(KeyError, match="here"):
            pool.apply(tasks.fail, ("here",))
        late = pool.apply_async(time.sleep, (SECONDS,))
        with pytest.raises(package.TimeoutError):
            late.get(timeout=0.01)
        assert pool._callmethod("apply", (tasks.square, (4,))) == 16
    closed = manager.Pool(1)
    closed.close()
    with pytest.raises(ValueError, match="not running"):
        closed.apply(tasks.square, (1,))
    closed.join()
    for arguments in ((0,), (-1,), (1, "initializer")):
        with pytest.raises(package.managers.RemoteError):
            manager.Pool(*arguments)


def test_callbacks_may_use_proxies(manager: Any) -> None:
    calls = manager.list()
    with manager.Pool(1) as pool:
        pool.map_async(int, ["1"], callback=calls.append, error_callback=calls.append).wait()
        pool.map_async(int, ["a"], callback=calls.append, error_callback=calls.append).wait()
    assert calls[0] == [1]
    assert isinstance(calls[1], ValueError)


def test_initializer_and_lifetime(manager: Any) -> None:
    with manager.Pool(1, tasks.initialize, ("a", "b"), 2) as pool:
        assert pool.apply(tasks.started) == ["a", "b"]
        pids = [pool.apply(tasks.pid) for _ in range(5)]
    assert len(set(pids)) == 3


# Under every start method


def test_proxies_in_workers(pool: Any, started: SyncManager) -> None:
    d = started.dict()
    assert sorted(pool.starmap(tasks.count, [(d, "n")] * 20, 1)) == list(range(1, 21))
    assert d["n"] == 20
    assert pool.apply(tasks.kind_of, (d,)) == "DictProxy"
    nested = started.list([d])
    assert pool.apply(tasks.count, (nested[0], "n")) == 21
    assert pool.apply(d.get, ("n",)) == 21
    assert pool.apply(nested_apply, (pool,)) == 25


def nested_apply(pool: Any) -> Any:
    return pool.apply(tasks.square, (5,))


def test_a_killed_worker_loses_nothing(pool: Any, started: SyncManager) -> None:
    event, here = gate = started.Event(), started.list()
    jobs = [pool.apply_async(tasks.wait_for, (gate,)) for _ in range(4)]
    until(lambda: len(here) == 2, "both workers are busy")
    victim = here[0]
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(here) == 3, "another worker has the task")
    event.set()
    assert victim not in [job.get(SECONDS) for job in jobs]
    with pytest.raises(aiomanager.WorkerLost, match="3 workers died"):
        pool.apply(tasks.kill_myself, (started.dict(), 3))
    assert pool.apply(tasks.square, (3,)) == 9


def test_what_is_wrong_is_told(pool: Any, started: SyncManager) -> None:
    with pytest.raises(standard_pool.MaybeEncodingError):
        pool.apply(tasks.unsendable)
    with pytest.raises(standard_pool.MaybeEncodingError):
        pool.apply(tasks.fail_unopenably)
    with pytest.raises(KeyError) as caught:
        pool.apply(tasks.fail, ("here",))
    assert "in fail" in str(caught.value.__cause__)
    other = started.Pool(1, tasks.fail_to_start)
    with pytest.raises(aiomanager.WorkerLost, match="there is no database"):
        other.map(tasks.square, [1])


def test_a_result_is_passed_on(pool: Any) -> None:
    result = pool.apply_async(tasks.square, (3,))
    copy = pickle.loads(pickle.dumps(result))
    assert copy.get(SECONDS) == result.get(SECONDS) == 9
    assert pool.apply(get, (result,)) == 9


def get(result: Any) -> Any:
    return result.get(SECONDS)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("how", ["shutdown", "kill"])
def test_workers_end_with_the_manager(method: str, how: str) -> None:
    manager = Context(method).Manager()
    pool = manager.Pool(2)
    here = manager.list()
    pool.apply_async(tasks.ignore_signals, (here,))
    until(lambda: len(here) == 1 and len(pool.pids()) == 2, "one is busy, one is not")
    workers = pool.pids()
    if how == "kill":
        os.kill(manager._process.pid, signal.SIGKILL)
    else:
        manager.shutdown()
    until(lambda: not any(map(alive, workers)), "workers outlive their server")
    manager.shutdown()


# Forked workers have what the program has


def test_forked_workers_know_the_program() -> None:
    offset = 100

    def add(number: int) -> int:
        return number + offset

    globals()["made_later"] = add
    add.__qualname__ = add.__name__ = "made_later"
    with Context("fork").Manager() as manager, manager.Pool(1) as pool:
        assert pool.map(add, [1, 2]) == [101, 102]


class Registering(BaseManager):
    """A manager of the program's own."""


Registering.register("Pool", standard_pool.Pool, PoolProxy)
Registering.register("AsyncResult", create_method=False)


def test_a_pool_that_the_program_registered() -> None:
    with Registering() as manager:
        pool = manager.Pool(1)  # type: ignore[attr-defined]
        assert pool.map(tasks.square, [1, 2]) == [1, 4]
        assert pool.apply_async(tasks.square, (3,)).get() == 9
        with pytest.raises(RemoteError):
            manager.Pool(0)  # type: ignore[attr-defined]
        pool.terminate()
