"""A manager's pools: real workers beside a real server, for async and blocking code."""

import os
import signal
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator, Iterator
from multiprocessing import TimeoutError as StandardTimeout
from multiprocessing.pool import MaybeEncodingError, RemoteTraceback
from pathlib import Path
from typing import Any

import anyio
import pytest

import aiomanager
import aiomanager.sync
from aiomanager.errors import TooLarge

from . import pool_tasks as tasks
from .helpers import SECONDS, alive, environment, until

Sync = aiomanager.sync.Manager


@pytest.fixture
def pool(manager: Sync) -> Any:
    return manager.Pool(2)


@pytest.fixture
async def shared() -> AsyncIterator[aiomanager.Manager]:
    async with aiomanager.Manager() as manager:
        yield manager


def numbers(last: int) -> Iterator[int]:
    yield from range(last)


def broken(last: int) -> Iterator[int]:
    yield from range(last)
    raise LookupError("the iterable")


def gate_of(manager: Sync) -> Any:
    return manager.Event(), manager.list()


# Calls and their results


def test_all_methods(pool: aiomanager.SyncPoolProxy) -> None:
    squares = [n * n for n in range(30)]
    assert pool.apply(tasks.square, (7,)) == 49
    assert pool.apply(tasks.square, kwds={"number": 7}) == 49
    assert pool.apply_async(tasks.square, (7,)).get(SECONDS) == 49
    assert pool.map(tasks.square, range(30)) == squares
    assert pool.map(tasks.square, numbers(30), chunksize=7) == squares
    assert pool.map(tasks.square, []) == []
    assert pool.map_async(tasks.square, list(range(30)), 1).get() == squares
    assert pool.starmap(divmod, [(7, 2), (9, 4)]) == [(3, 1), (2, 1)]
    assert pool.starmap_async(divmod, iter([(7, 2)])).get() == [(3, 1)]
    for chunksize in (1, 7):
        assert list(pool.imap(tasks.square, range(30), chunksize)) == squares
        assert list(pool.imap(tasks.square, numbers(30), chunksize)) == squares
        assert sorted(pool.imap_unordered(tasks.square, numbers(30), chunksize)) == squares
    assert list(pool.imap(tasks.square, [])) == []
    for chunksize in (0, -1):
        with pytest.raises(ValueError, match="Chunksize"):
            pool.map(tasks.square, [1], chunksize)
        with pytest.raises(ValueError, match="Chunksize"):
            pool.imap(tasks.square, [1], chunksize)


async def test_all_methods_of_async_code(shared: aiomanager.Manager) -> None:
    squares = [n * n for n in range(30)]
    async with await shared.Pool(2) as pool:
        assert await pool.apply(tasks.square, (7,)) == 49
        assert await (await pool.apply_async(tasks.square, (7,))).get(SECONDS) == 49
        assert await pool.map(tasks.square, range(30)) == squares
        assert await (await pool.map_async(tasks.square, numbers(30))).get() == squares
        assert await pool.starmap(divmod, [(7, 2)]) == [(3, 1)]
        assert await (await pool.starmap_async(divmod, [(7, 2)])).get() == [(3, 1)]
        assert [n async for n in pool.imap(tasks.square, numbers(30))] == squares
        assert [n async for n in pool.imap(tasks.square, range(30), 7)] == squares
        assert sorted([n async for n in pool.imap_unordered(tasks.square, range(30))]) == squares
        with pytest.raises(KeyError, match="here"):
            await pool.apply(tasks.fail, ("here",))
        job = await pool.apply_async(tasks.wait_for, ((await shared.Event(), await shared.list()),))
        with pytest.raises(StandardTimeout):
            await job.get(0.01)
        assert not await job.wait(0.01)
        assert not await job.ready()
    with pytest.raises(aiomanager.WorkerLost, match="terminated"):
        await job.get()


async def test_a_cancelled_block_terminates(shared: aiomanager.Manager) -> None:
    here = await shared.list()
    with anyio.CancelScope() as scope:
        async with await shared.Pool(1) as pool:
            await pool.apply_async(tasks.ignore_signals, (here,))
            scope.cancel()
            await anyio.sleep(SECONDS)
    await pool.join()
    assert await pool.pids() == []
    with pytest.raises(ValueError, match="not running"):
        await pool.apply(tasks.square, (1,))
    async with pool.sync.aio:
        pass


def test_both_faces_are_one_pool(pool: aiomanager.SyncPoolProxy) -> None:
    import asyncio

    async def square() -> int:
        return await pool.aio.apply(tasks.square, (5,))

    assert asyncio.run(square()) == 25


def test_a_thousand_small_tasks(pool: aiomanager.SyncPoolProxy, manager: Sync) -> None:
    jobs = [pool.apply_async(tasks.square, (n,)) for n in range(1000)]
    assert [job.get() for job in jobs] == [n * n for n in range(1000)]
    del jobs
    assert manager.names() == {}  # takes along what was dropped
    assert manager.statistics().get("objects.pool.job", 0) == 0
    assert pool.statistics()["completed"] == 1000


def test_large_values(pool: aiomanager.SyncPoolProxy) -> None:
    large = b"x" * 5_000_000
    assert pool.apply(len, (large,)) == 5_000_000
    assert pool.map(bytes, [5_000_000] * 3, 1) == [bytes(5_000_000)] * 3


def test_results_that_are_too_large_together(
    pool: aiomanager.SyncPoolProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = pool.map_async(bytes, [100_000] * 4, 1)
    results = pool.imap(bytes, [100_000] * 4)
    assert job.wait(SECONDS)
    # As if a frame had only room for one of them.
    called: list[str] = []
    call = pool._channel.call

    def refuse(proxy: Any, operation: Any, arguments: Any, owner: int = 0) -> Any:
        called.append(operation.name)
        if operation.name == "outcome" or (operation.name == "take" and arguments[0] > 1):
            raise TooLarge("the answer")
        return call(proxy, operation, arguments, owner)

    for proxy in (job, results._results):
        monkeypatch.setattr(proxy, "_call", refuse)
    assert job.get() == list(results) == [bytes(100_000)] * 4
    assert {"outcome", "part", "take"} <= set(called)


def test_arguments_that_are_too_large_together(
    pool: aiomanager.SyncPoolProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = pool._call

    def refuse(proxy: Any, operation: Any, arguments: Any, owner: int = 0) -> Any:
        if operation.name == "submit" and arguments[2]:
            raise TooLarge("the call")
        return call(proxy, operation, arguments, owner)

    monkeypatch.setattr(pool, "_call", refuse)
    assert pool.map(tasks.square, range(5), 1) == [0, 1, 4, 9, 16]


@pytest.mark.parametrize("scheme", ["unix", "tcp"])
def test_pools_of_a_server_for_many(tmp_path: Path, scheme: str) -> None:
    """One that others reach over the network starts no processes for them."""
    url = f"unix://{tmp_path}/s" if scheme == "unix" else "tcp://127.0.0.1:0"
    key = "0123456789abcdef"
    command = [sys.executable, "-m", "aiomanager", "serve", url]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env=environment({"AIOMANAGER_AUTHKEY": key}),
    ) as server:  # fmt: skip
        try:
            assert server.stdout is not None
            where = server.stdout.readline().strip()
            with aiomanager.sync.connect(where, authkey=key.encode(), allow_pickle=True) as manager:
                if scheme == "unix":
                    assert manager.Pool(1).map(tasks.square, [1, 2]) == [1, 4]
                else:
                    with pytest.raises(PermissionError, match="starts no worker processes"):
                        manager.Pool(1)
        finally:
            server.terminate()


def test_an_exception_has_the_workers_traceback(pool: aiomanager.SyncPoolProxy) -> None:
    with pytest.raises(KeyError, match="here") as caught:
        pool.map(tasks.fail, ["here"])
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert "in fail" in str(caught.value.__cause__)
    assert "worker.py" not in str(caught.value.__cause__)
    assert "in fail" in "".join(traceback.format_exception(caught.value))
    job = pool.apply_async(tasks.fail, ("there",))
    assert job.wait(SECONDS)
    assert not job.successful()
    results = pool.imap(tasks.fail, ["one", "two"])
    for name in ("one", "two"):
        with pytest.raises(KeyError, match=name):
            next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_what_cannot_be_sent_is_an_error_of_its_job(pool: aiomanager.SyncPoolProxy) -> None:
    before = sorted(pool.map(tasks.pid_of, range(20), 1))
    with pytest.raises(MaybeEncodingError, match="lambda"):
        pool.apply(tasks.unsendable)
    with pytest.raises(MaybeEncodingError, match="two arguments"):
        pool.apply(tasks.fail_unopenably)
    with pytest.raises(AttributeError):
        pool.apply(_Elsewhere("no_such_function"))
    assert set(pool.map(tasks.pid_of, range(20), 1)) <= {*before, *pool.pids()}
    assert pool.statistics()["replaced"] == 0


class _Elsewhere:
    """A function that the worker does not find."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self) -> None: ...

    def __reduce__(self) -> Any:
        return tasks.find, (self.name,)


def test_an_iterable_that_raises(pool: aiomanager.SyncPoolProxy) -> None:
    with pytest.raises(LookupError, match="the iterable"):
        pool.map(tasks.square, broken(3))
    for chunksize in (1, 2):
        results = pool.imap(tasks.square, broken(3), chunksize)
        assert [next(results) for _ in range(3)] == [0, 1, 4]
        with pytest.raises(LookupError, match="the iterable"):
            next(results)
        with pytest.raises(StopIteration):
            next(results)


def test_imap_reads_a_little_ahead(pool: aiomanager.SyncPoolProxy) -> None:
    read: list[int] = []

    def endless() -> Iterator[int]:
        while True:
            read.append(len(read))
            yield read[-1]

    results = pool.imap(tasks.square, endless())
    assert [next(results) for _ in range(20)] == [n * n for n in range(20)]
    assert len(read) < 40
    del results
    assert pool.apply(tasks.square, (3,)) == 9


def test_close_has_everything_done(pool: aiomanager.SyncPoolProxy, manager: Sync) -> None:
    done = manager.dict()
    results = pool.imap(tasks.square, numbers(50))
    unread = pool.starmap_async(tasks.count, [(done, "n")] * 50, 1)
    pool.close()
    with pytest.raises(ValueError, match="not running"):
        pool.apply(tasks.square, (1,))
    pool.join()
    assert pool.pids() == []
    assert list(results) == [n * n for n in range(50)]
    assert unread.get() == list(range(1, 51)) or sorted(unread.get()) == list(range(1, 51))
    assert done["n"] == 50


def test_join_needs_an_end(pool: aiomanager.SyncPoolProxy) -> None:
    with pytest.raises(ValueError, match="still running"):
        pool.join()


def test_a_late_result(pool: aiomanager.SyncPoolProxy, manager: Sync) -> None:
    event, here = gate = gate_of(manager)
    job = pool.apply_async(tasks.wait_for, (gate,))
    for error in (StandardTimeout, TimeoutError, aiomanager.ManagerError):
        with pytest.raises(error):
            job.get(timeout=0.01)
    with pytest.raises(ValueError, match="not ready"):
        job.successful()
    results = pool.imap(tasks.wait_for, [gate])
    with pytest.raises(StandardTimeout):
        results.next(timeout=0.01)
    event.set()
    assert job.get(SECONDS) in list(here)
    assert results.next(SECONDS) in list(here)


# Callbacks, proxies, programs


def test_callbacks_run_before_the_job_is_ready(
    pool: aiomanager.SyncPoolProxy, manager: Sync
) -> None:
    calls = manager.list()
    pool.map_async(tasks.square, range(4), 1, calls.append, tasks.fail).wait()
    pool.apply_async(tasks.square, (9,), callback=calls.append).wait()
    pool.apply_async(tasks.fail, ("x",), {}, tasks.fail, calls.append).wait()
    squares, number, error = calls
    assert (squares, number) == ([0, 1, 4, 9], 81)
    assert isinstance(error, KeyError)
    failing = pool.apply_async(tasks.square, (9,), callback=tasks.fail)
    assert failing.get(SECONDS) == 81


def test_nested_proxies_arrive(pool: aiomanager.SyncPoolProxy, manager: Sync) -> None:
    inner = manager.dict()
    outer = manager.list([inner, {"deep": inner}])
    assert pool.apply(tasks.count, (inner, "n")) == 1
    assert pool.apply(tasks.count, (outer[1]["deep"], "n")) == 2
    assert pool.apply(tasks.kind_of, (outer,)) == "SyncListProxy"
    assert pool.map(tasks.total_of, [manager.list([1, 2]), manager.list([3])]) == [3, 3]
    assert pool.map(tasks.square, manager.list([1, 2, 3])) == [1, 4, 9]
    assert pool.apply(inner.get, ("n",)) == 2
    made = pool.apply(_same, (manager.list(["mine"]),))
    assert list(made) == ["mine"]


def _same(value: Any) -> Any:
    return value


async def test_async_proxies_are_blocking_ones_there(shared: aiomanager.Manager) -> None:
    pool = await shared.Pool(1)
    d = await shared.dict()
    assert await pool.apply(tasks.count, (d, "n")) == 1
    assert await pool.apply(tasks.kind_of, (d,)) == "SyncDictProxy"
    with pytest.raises(TypeError, match="async proxy"):
        await pool.map(tasks.square, await shared.list([1]))
    assert await d.get("n") == 1


def test_a_pool_is_passed_on(pool: aiomanager.SyncPoolProxy, manager: Sync) -> None:
    job = pool.apply_async(tasks.square, (3,))
    kept = manager.list([pool, job])
    assert kept[0].apply(tasks.square, (4,)) == 16
    assert kept[1].get(SECONDS) == 9
    assert pool.apply(_nested, (pool,)) == 25
    with pytest.raises(TypeError, match="reads the iterable"):
        manager.list([pool.imap(tasks.square, [1])])


def _nested(pool: Any) -> Any:
    """Have another worker of the same pool do it."""
    return pool.apply(tasks.square, (5,))


def test_a_named_pool_is_shared(manager: Sync) -> None:
    pool = manager.named.Pool("workers", 1)
    with aiomanager.sync.connect(manager.url) as other:
        same = other.named.Pool("workers")
        assert same.apply(tasks.pid) == pool.apply(tasks.pid)
        with pytest.raises(aiomanager.NameConflict):
            other.named.Pool("workers", 2)
    (worker,) = pool.pids()
    manager.delete("workers")
    until(lambda: not alive(worker), "the worker of a deleted pool lives on")


PROGRAM = """
import sys
import aiomanager.sync
from dataclasses import dataclass

@dataclass
class Point:
    x: int

def double(point):
    print("in the worker", flush=True)
    return Point(point.x * 2)

def start(*given):
    global given_at_start
    given_at_start = given

def look():
    return given_at_start, sys.argv[1:]

if __name__ == "__main__":
    with aiomanager.sync.Manager() as manager:
        with manager.Pool(1, start, ("at", "start")) as pool:
            print(pool.apply(double, (Point(21),)))
            print(pool.apply(look))
"""


@pytest.mark.parametrize("as_module", [False, True])
def test_functions_of_the_main_program(tmp_path: Path, as_module: bool) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    how = ["-m", "program"] if as_module else ["program.py"]
    done = subprocess.run(
        [sys.executable, *how, "an", "argument"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True,
        timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = ["in the worker", "Point(x=42)", "(('at', 'start'), ['an', 'argument'])"]
    assert done.stdout.splitlines() == lines


def test_a_program_without_a_guard_is_told(tmp_path: Path) -> None:
    program = tmp_path / "unguarded.py"
    program.write_text(
        "import aiomanager.sync\n"
        "manager = aiomanager.sync.Manager()\n"
        "print(manager.Pool(1).map(abs, [-1]))\n"
    )
    done = subprocess.run(
        [sys.executable, program],
        env=environment(), capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "WorkerLost" in done.stderr
    assert 'if __name__ == "__main__":' in done.stderr


# Workers


def test_initializer_and_lifetime(manager: Sync) -> None:
    pool = manager.Pool(1, tasks.initialize, ("one", manager.list([2])), maxtasksperchild=2)
    one, two = pool.apply(tasks.started)
    assert (one, list(two)) == ("one", [2])
    pids = [pool.apply(tasks.pid) for _ in range(7)]
    # One task of the first one was done before.
    assert [len(set(pair)) for pair in zip(pids[1::2], pids[2::2], strict=True)] == [1, 1, 1]
    assert len(set(pids)) == 4
    assert pool.statistics()["replaced"] >= 3


def test_a_worker_that_is_killed_loses_nothing(
    pool: aiomanager.SyncPoolProxy, manager: Sync
) -> None:
    event, here = gate = gate_of(manager)
    jobs = [pool.apply_async(tasks.wait_for, (gate,)) for _ in range(6)]
    until(lambda: len(here) == 2, "both workers are busy")
    victim = here[0]
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(here) == 3, "another worker has the task")
    event.set()
    found = [job.get(SECONDS) for job in jobs]
    assert victim not in found
    assert len(pool.pids()) == 2
    assert pool.statistics()["replaced"] == 1


def test_a_campaign_of_kills(pool: aiomanager.SyncPoolProxy) -> None:
    jobs = [pool.apply_async(tasks.square_slowly, (n,)) for n in range(400)]
    results = pool.imap(tasks.square_slowly, numbers(100))
    for number, job in enumerate(jobs):
        assert job.get(SECONDS) == number * number
        if number % 80 == 40:
            os.kill(pool.pids()[-1], signal.SIGKILL)
    assert list(results) == [n * n for n in range(100)]
    counted = pool.statistics()
    assert counted["completed"] == 500
    assert counted["replaced"] >= 4


def test_killed_again_and_again(pool: aiomanager.SyncPoolProxy, manager: Sync) -> None:
    assert pool.apply(tasks.kill_myself, (manager.dict(), 2)) == "alive"
    with pytest.raises(aiomanager.WorkerLost, match="3 workers died"):
        pool.apply(tasks.kill_myself, (manager.dict(), 3))
    calls = manager.list()
    pool.apply_async(tasks.kill_myself, (manager.dict(), 9), {}, None, calls.append).wait()
    assert isinstance(calls[0], aiomanager.WorkerLost)
    results = pool.imap(_die_for, [0, 1, 2])
    assert next(results) == 0
    with pytest.raises(aiomanager.WorkerLost):
        next(results)
    assert next(results) == 2
    assert pool.map(tasks.square, range(5)) == [0, 1, 4, 9, 16]


def _die_for(number: int) -> int:
    if number == 1:
        os._exit(3)
    return number


def test_a_task_that_exits_ends_its_job_only(pool: aiomanager.SyncPoolProxy) -> None:
    with pytest.raises(aiomanager.WorkerLost, match=r"SystemExit\(3\)"):
        pool.apply(tasks.leave, (3,))
    assert pool.apply(tasks.square, (3,)) == 9


def test_a_killed_worker_frees_what_it_holds(pool: aiomanager.SyncPoolProxy, manager: Sync) -> None:
    lock, here = manager.Lock(), manager.list()
    pool.apply_async(tasks.hold, (lock, here))
    until(lambda: len(here) == 1, "the worker has the lock")
    assert not lock.acquire(timeout=0.01)
    pool.terminate()
    assert lock.acquire(timeout=SECONDS)


@pytest.mark.parametrize(
    ("initializer", "reason"),
    [(tasks.fail_to_start, "there is no database"), (tasks.die_at_start, "exit code 7")],
)
def test_an_initializer_that_fails(manager: Sync, initializer: Any, reason: str) -> None:
    pool = manager.Pool(2, initializer)
    with pytest.raises(aiomanager.WorkerLost, match=reason):
        pool.apply(tasks.square, (2,))
    with pytest.raises(aiomanager.WorkerLost, match=reason):
        pool.map(tasks.square, [1])
    pool.close()
    pool.join()
    assert pool.pids() == []


def test_arguments_of_a_pool(manager: Sync) -> None:
    for processes in (0, -1):
        with pytest.raises(ValueError, match="at least 1"):
            manager.Pool(processes)
    with pytest.raises(ValueError, match="maxtasksperchild"):
        manager.Pool(1, maxtasksperchild=0)
    with pytest.raises(TypeError, match="callable"):
        manager.Pool(1, "initializer")  # type: ignore[arg-type]
    assert manager.Pool().processes() == (getattr(os, "process_cpu_count", os.cpu_count)() or 1)


def test_with_terminates(manager: Sync) -> None:
    with manager.Pool(2) as pool:
        here = manager.list()
        job = pool.apply_async(tasks.ignore_signals, (here,))
        until(lambda: len(here) == 1, "the task runs")
        workers = pool.pids()
    with pytest.raises(aiomanager.WorkerLost, match="terminated"):
        job.get(SECONDS)
    pool.join()  # also the one that ignores signals
    assert not any(map(alive, workers))


def test_a_dropped_pool_ends_its_workers(manager: Sync) -> None:
    pool = manager.Pool(2)
    pool.map(tasks.square, range(9))
    workers = pool.pids()
    del pool
    manager.names()
    until(lambda: not any(map(alive, workers)), "the workers of a dropped pool live on")
    manager.names()
    assert manager.statistics().get("objects.Pool", 0) == 0


def test_a_dropped_pool_finishes_first(manager: Sync) -> None:
    event, here = gate = gate_of(manager)
    job = manager.Pool(1).apply_async(tasks.wait_for, (gate,))
    manager.names()
    until(lambda: len(here) == 1, "the task runs")
    event.set()
    assert job.get(SECONDS) == here[0]
    until(lambda: not alive(here[0]), "the worker of a dropped pool lives on")


@pytest.mark.parametrize("how", ["close", "kill"])
def test_workers_end_with_their_server(how: str) -> None:
    manager = Sync()
    pool = manager.Pool(2)
    here = manager.list()
    pool.apply_async(tasks.ignore_signals, (here,))
    until(lambda: len(here) == 1 and len(pool.pids()) == 2, "one is busy, one is not")
    workers = pool.pids()
    if how == "kill":
        os.kill(manager._server.pid, signal.SIGKILL)
    else:
        manager.close()
    until(lambda: not any(map(alive, workers)), "workers outlive their server")
    manager.close()


def test_workers_ignore_ctrl_c(pool: aiomanager.SyncPoolProxy) -> None:
    pids = {pool.apply(tasks.pid) for _ in range(10)}
    for worker in pool.pids():
        os.kill(worker, signal.SIGINT)
    assert {pool.apply(tasks.pid) for _ in range(10)} <= {*pids, *pool.pids()}
    assert pool.statistics()["replaced"] == 0


def test_over_tcp_with_a_key() -> None:
    with Sync("tcp://127.0.0.1:0", authkey=b"0123456789abcdef") as manager:
        pool = manager.Pool(1)
        assert pool.map(tasks.square, range(3)) == [0, 1, 4]
        assert pool.apply(tasks.count, (manager.dict(), "n")) == 1
