"""Whoever dies gives back what it held and leaves what it had not received."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from typing import Any

import pytest

import aiomanager.sync

from . import tasks
from .helpers import SECONDS, alive, until

context = multiprocessing.get_context("fork")


@pytest.fixture
def workers() -> Iterator[list[BaseProcess]]:
    """Processes that are ended whatever happens."""
    workers: list[BaseProcess] = []
    yield workers
    for worker in workers:
        worker.kill()
        worker.join(SECONDS)


def start(workers: list[BaseProcess], target: Any, *arguments: Any) -> BaseProcess:
    worker = context.Process(target=target, args=arguments)
    worker.start()
    workers.append(worker)
    return worker


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_a_dead_holders_lock_passes_on(
    sign: signal.Signals, manager: aiomanager.sync.Manager, workers: list[BaseProcess]
) -> None:
    lock, ready, order = manager.Lock(), manager.Event(), manager.list()
    holder = start(workers, tasks.hold, lock, ready)
    assert ready.wait(SECONDS)
    for number in range(3):
        start(workers, tasks.take_turn, lock, order, number)
        until(lambda n=number: lock.waiting() == n + 1, "the next one does not wait")  # type: ignore[misc]
    assert not lock.acquire(False)
    assert holder.pid is not None
    os.kill(holder.pid, sign)
    until(lambda: len(order) == 3, "the lock was not passed on")
    assert order[:] == [0, 1, 2]
    until(lambda: not lock.locked(), "the last one keeps the lock")


def test_a_grandchild_keeps_the_socket_open(
    manager: aiomanager.sync.Manager, workers: list[BaseProcess]
) -> None:
    lock, ready, pids = manager.Lock(), manager.Event(), manager.list()
    holder = start(workers, tasks.hold_with_grandchild, lock, ready, pids)
    try:
        assert ready.wait(SECONDS)
        assert alive(pids[0])
        holder.kill()
        # Long before the grace in which a session without connection is kept.
        assert lock.acquire(timeout=4)
        assert alive(pids[0])
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)


def test_a_getter_that_waits_takes_nothing(
    manager: aiomanager.sync.Manager, workers: list[BaseProcess]
) -> None:
    q, told = manager.Queue(), manager.list()
    getter = start(workers, tasks.get_and_tell, q, told)
    until(lambda: manager.statistics()["waiting"] == 1, "the getter does not wait")
    getter.kill()
    until(lambda: manager.statistics()["waiting"] == 0, "the dead getter still waits")
    q.put("item")
    assert q.get_delivery(timeout=SECONDS) == ("item", False)
    assert not told


def test_an_item_on_its_way_comes_back(
    manager: aiomanager.sync.Manager, workers: list[BaseProcess]
) -> None:
    q, told = manager.Queue(), manager.list()
    getter = start(workers, tasks.get_and_tell, q, told)
    until(lambda: manager.statistics()["waiting"] == 1, "the getter does not wait")
    assert getter.pid is not None
    os.kill(getter.pid, signal.SIGSTOP)
    q.put_many(["first", "second"])
    assert q.qsize() == 1  # the first is granted to the getter, which cannot take it
    getter.kill()
    until(lambda: q.qsize() == 2, "the first item did not come back")
    assert q.get_delivery(timeout=SECONDS) == ("first", True)
    assert q.get_delivery(timeout=SECONDS) == ("second", False)
    assert not told


def test_an_item_that_was_got_does_not_come_back(
    manager: aiomanager.sync.Manager, workers: list[BaseProcess]
) -> None:
    q, told = manager.Queue(), manager.list()
    q.put("item")
    getter = start(workers, tasks.get_and_die, q)
    getter.join(SECONDS)
    assert getter.exitcode == -signal.SIGKILL
    until(lambda: manager.statistics()["sessions"] == 1, "the dead getter's session is there")
    assert q.empty()
    assert not told
