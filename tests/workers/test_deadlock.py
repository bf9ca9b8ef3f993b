"""Processes, threads and tasks that wait for each other in a circle: one is refused, by name.

That something is not refused is seen when a circle is that began later.
"""

import asyncio
import multiprocessing
import os
import threading
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from typing import Any

import anyio
import pytest

import aiomanager
import aiomanager.sync
from aiomanager import DeadlockDetected

from . import tasks
from .helpers import FORKING, SECONDS, until

pytestmark = pytest.mark.filterwarnings(FORKING)

context = multiprocessing.get_context("fork")


@pytest.fixture
def workers() -> Iterator[list[BaseProcess]]:
    workers: list[BaseProcess] = []
    yield workers
    for worker in workers:
        worker.kill()
        worker.join(SECONDS)


def start(workers: list[BaseProcess], target: Any, *arguments: Any) -> int:
    worker = context.Process(target=target, args=arguments)
    worker.start()
    workers.append(worker)
    assert worker.pid is not None
    return worker.pid


def test_two_processes(manager: aiomanager.sync.Manager, workers: list[BaseProcess]) -> None:
    first, second = manager.named.Lock("first"), manager.named.RLock("second")
    told, barrier = manager.list(), manager.Barrier(2)
    pids = [
        start(workers, tasks.cross, first, second, barrier, told),
        start(workers, tasks.cross, second, first, barrier, told),
    ]
    until(lambda: len(told) == 2, "both have not ended")
    # The one who was refused let go of what it had, and so the other one went on.
    (loser, said), (winner, nothing) = told
    assert {loser, winner} == set(pids)
    assert nothing is None
    assert "'first'" in said
    assert "'second'" in said
    for pid in pids:
        assert f"pid {pid}" in said
    assert not first.locked()
    assert not second.locked()


def test_a_process_a_thread_and_a_task(
    manager: aiomanager.sync.Manager, workers: list[BaseProcess]
) -> None:
    table, lock, rlock = manager.LockTable(), manager.Lock(), manager.RLock()
    told, barrier = manager.list(), manager.Barrier(3)
    ended: list[Any] = []

    def in_a_thread() -> None:
        with lock:
            barrier.wait()
            try:
                with rlock:
                    ended.append(None)
            except DeadlockDetected as error:
                ended.append(error)

    async def in_a_task(url: str) -> None:
        async with aiomanager.connect(url), rlock.aio:
            await barrier.aio.wait()
            try:
                async with table.aio("k"):
                    ended.append(None)
            except DeadlockDetected as error:
                ended.append(error)

    start(workers, tasks.cross_keys, table, lock, barrier, told)
    thread = threading.Thread(target=in_a_thread)
    thread.start()
    asyncio.run(asyncio.wait_for(in_a_task(manager.url), SECONDS))
    thread.join(SECONDS)
    assert not thread.is_alive()
    until(lambda: len(told) == 1, "the process has not ended")
    errors = [error for error in [*ended, told[0]] if error is not None]
    assert len(ended) == 2
    assert len(errors) == 1


def test_threads_of_one_process(manager: aiomanager.sync.Manager) -> None:
    first, second, barrier = manager.Lock(), manager.Lock(), threading.Barrier(2)
    ended: list[Any] = []

    def cross(mine: Any, other: Any) -> None:
        with mine:
            barrier.wait()
            try:
                with other:
                    ended.append(None)
            except DeadlockDetected as error:
                ended.append(error)

    threads = [
        threading.Thread(target=cross, args=pair) for pair in ((first, second), (second, first))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert [type(one) for one in ended] == [DeadlockDetected, type(None)]
    assert str(ended[0]).count(f"pid {os.getpid()}") == 4


def test_a_thread_that_wants_its_lock_again(manager: aiomanager.sync.Manager) -> None:
    lock = manager.Lock()
    with lock:
        assert not lock.acquire(timeout=0.01)
        with pytest.raises(RuntimeError, match="this call"):
            lock.acquire()
        assert lock.locked()
    assert not lock.locked()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_tasks_that_go_on_are_not_refused(backend: str) -> None:
    """A call that is made a task of, or waits inside of a timeout, holds nobody up."""

    async def main() -> None:
        async with aiomanager.Manager() as manager, anyio.create_task_group() as group:
            lock, other, twice = [await manager.Lock() for _ in range(3)]
            ended: list[str] = []

            async def run(name: str, call: Any) -> None:
                try:
                    await call
                    ended.append(name)
                except DeadlockDetected:
                    ended.append(f"{name} was refused")

            async def hold_and_want() -> None:
                await other.acquire()
                await run("another", lock.acquire())

            async def want_twice() -> None:
                await twice.acquire()
                await run("twice", twice.acquire())

            await lock.acquire()
            # Both calls are this task's own, which waits for neither: it can still release.
            group.start_soon(run, "again", lock.acquire())
            group.start_soon(hold_and_want)
            while await lock.waiting() < 2:  # noqa: ASYNC110
                await anyio.sleep(0.002)
            group.start_soon(run, "across", other.acquire())
            with pytest.raises(TimeoutError), anyio.fail_after(0.05):
                await lock.acquire()
            while await other.waiting() < 1:  # noqa: ASYNC110
                await anyio.sleep(0.002)
            group.start_soon(want_twice)
            with anyio.fail_after(SECONDS):
                while not ended:  # noqa: ASYNC110
                    await anyio.sleep(0.01)
                assert ended == ["twice was refused"]
                await lock.release()
                while len(ended) < 2:  # noqa: ASYNC110
                    await anyio.sleep(0.01)
                assert ended[1] == "again"
                await lock.release()
                while len(ended) < 3:  # noqa: ASYNC110
                    await anyio.sleep(0.01)
                assert ended[2] == "another"
            group.cancel_scope.cancel()

    anyio.run(main, backend=backend)


def test_trio_knows_of_its_timeouts() -> None:
    """Who would be interrupted anyway, after longer than it takes to find a circle."""

    async def main() -> None:
        async with aiomanager.Manager() as manager:
            lock, control = await manager.Lock(), await manager.Lock()
            await lock.acquire()
            outcome: list[str] = []

            async def want_twice() -> None:
                await control.acquire()
                try:
                    await control.acquire()
                except DeadlockDetected:
                    outcome.append("refused")
                    scope.cancel()

            async with anyio.create_task_group() as group:
                with anyio.move_on_after(SECONDS) as scope:
                    group.start_soon(want_twice)
                    await lock.acquire()
            assert outcome == ["refused"]
            assert scope.cancelled_caught

    anyio.run(main, backend="trio")
