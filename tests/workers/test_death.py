"""Whoever dies gives back what it held and leaves what it had not received.

AIOMANAGER_KILLS says how many getters are killed at random moments.
"""

import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from typing import Any

import pytest

import aiomanager.sync

from . import tasks
from .helpers import SECONDS, alive, until

KILLS = int(os.environ.get("AIOMANAGER_KILLS", "60"))

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


@pytest.mark.parametrize(
    "grandchild", [False, True], ids=["alone", "a grandchild holds the socket"]
)
def test_whatever_a_dead_process_had_or_waited_for_is_free(
    grandchild: bool, manager: aiomanager.sync.Manager, workers: list[BaseProcess]
) -> None:
    rlock, semaphore, table = manager.RLock(), manager.Semaphore(2), manager.LockTable()
    condition, barrier = manager.Condition(), manager.Barrier(2)
    ready, pids = manager.Event(), manager.list()
    things = (rlock, semaphore, table, condition, barrier)
    holder = start(workers, tasks.hold_all, things, grandchild, ready, pids)
    try:
        assert ready.wait(SECONDS)
        until(lambda: condition.sleeping() == 1, "it does not sleep")
        until(lambda: barrier.n_waiting == 1, "it does not wait at the barrier")
        with condition:
            condition.notify()  # in vain: the one who is notified dies before it has the lock
            fence = rlock.holder()[2]
            holder.kill()
            assert rlock.acquire(timeout=4)
        assert rlock.fence > fence
        assert semaphore.acquire(timeout=4)
        assert semaphore.acquire(timeout=4)
        with table("a", "b", timeout=4):
            pass
        assert condition.acquire(timeout=4)
        assert condition.sleeping() == condition.waiting() == 0
        until(lambda: barrier.n_waiting == 0, "the dead one's seat is taken")
        assert not barrier.broken
        assert all(alive(pid) for pid in pids)
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


@pytest.mark.parametrize("how", ["exit", "_exit", "with a child that holds the socket"])
def test_the_last_item_of_a_process_stays_its_own(
    how: str, manager: aiomanager.sync.Manager, workers: list[BaseProcess]
) -> None:
    q = manager.Queue()
    q.put("item")
    getter = start(workers, tasks.get_and_leave, q, how)
    getter.join(SECONDS)
    until(lambda: manager.statistics()["sessions"] == 1, "the getter's session is there")
    assert q.empty()


def test_who_is_killed_while_it_takes_an_item_back_leaves_it(
    manager: aiomanager.sync.Manager, workers: list[BaseProcess]
) -> None:
    q, dropped = manager.Queue(), context.Event()
    q.put("item")
    getter = start(workers, tasks.get_and_drop, q, dropped)
    assert dropped.wait(SECONDS)
    until(lambda: manager.statistics()["attached"] == 1, "the connection is there")
    assert q.empty()  # a live process may come back, whatever it wants
    getter.kill()
    until(lambda: q.qsize() == 1, "the item did not come back")
    assert q.get_delivery() == ("item", True)


def test_so_it_does_if_the_server_looks_only_when_it_is_dead(
    manager: aiomanager.sync.Manager, workers: list[BaseProcess]
) -> None:
    """A dead process that had read everything had its item, but for one that was to say no."""
    q = manager.Queue()
    read, go, dropped = context.Event(), context.Event(), context.Event()
    q.put("item")
    getter = start(workers, tasks.get_and_be_interrupted, q, read, go, dropped)
    assert read.wait(SECONDS)
    server = manager._server.pid
    os.kill(server, signal.SIGSTOP)
    go.set()
    try:
        assert dropped.wait(SECONDS)
        getter.kill()
        getter.join(SECONDS)
    finally:
        os.kill(server, signal.SIGCONT)
    until(lambda: q.qsize() == 1, "the item did not come back")
    assert q.get_delivery() == ("item", True)


def test_a_program_that_drops_its_last_proxy_keeps_its_item() -> None:
    with aiomanager.sync.Manager() as manager:
        q = manager.named.Queue("q")
        q.put("item")
        with aiomanager.sync.connect(manager.url) as other:
            theirs = other.named.Queue("q")
            assert theirs.get() == "item"
            channel = theirs._channel
            # As the garbage collector, which closes without a word of the program's.
            for connection in list(channel._all):  # type: ignore[attr-defined]
                connection.__del__()
            until(lambda: manager.statistics()["sessions"] == 1, "the session did not end")
            assert q.empty()


def test_a_lock_that_was_just_acquired_passes_on_from_a_child_that_holds_the_socket(
    manager: aiomanager.sync.Manager, workers: list[BaseProcess]
) -> None:
    lock, ready, pids = manager.Lock(), manager.Event(), manager.list()
    holder = start(workers, tasks.hold_with_grandchild, lock, ready, pids)
    try:
        assert ready.wait(SECONDS)
        holder.kill()
        assert lock.acquire(timeout=4)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)


def test_large_items_that_are_half_read_come_back(
    manager: aiomanager.sync.Manager, workers: list[BaseProcess]
) -> None:
    q, told = manager.Queue(), manager.list()
    getter = start(workers, tasks.get_and_tell, q, told)
    until(lambda: manager.statistics()["waiting"] == 1, "the getter does not wait")
    assert getter.pid is not None
    os.kill(getter.pid, signal.SIGSTOP)
    q.put(b"x" * (1 << 24))  # more than the sockets hold: the server keeps the rest
    assert q.empty()
    getter.kill()
    until(lambda: q.qsize() == 1, "the item did not come back")
    item, redelivered = q.get_delivery(timeout=SECONDS)
    assert len(item) == 1 << 24
    assert redelivered
    assert not told


@pytest.mark.timeout(60 + KILLS)
@pytest.mark.parametrize("waits", [False, True], ids=["items wait", "the getter waits"])
def test_killed_at_any_moment_a_getter_loses_at_most_what_it_got(
    waits: bool, manager: aiomanager.sync.Manager, workers: list[BaseProcess]
) -> None:
    dice = random.Random(KILLS + waits)
    q = manager.Queue()
    put = 0
    noted: list[tuple[int, bool]] = []
    missing_after: set[int] = set()
    for number in range(KILLS):
        reader, writer = os.pipe()
        getter = start(workers, tasks.get_and_note, q, writer)
        os.close(writer)
        deadline = time.monotonic() + dice.uniform(0.0, 0.02)
        if waits:
            until(lambda: manager.statistics()["waiting"] == 1, "the getter does not wait")
        while time.monotonic() < deadline:
            if waits or q.qsize() < 50:
                q.put_many(range(put, put + (1 if waits else 200)))
                put += 1 if waits else 200
        getter.kill()
        getter.join(SECONDS)
        with open(reader, encoding="ascii") as notes:  # noqa: PTH123
            for line in notes:
                item, redelivered = map(int, line.split())
                noted.append((item, bool(redelivered)))
        until(lambda: manager.statistics()["sessions"] == 1, "the getter's session is there")
        if number % 10 == 9:
            rest = [q.get_delivery(timeout=SECONDS) for _ in range(q.qsize())]
            noted += rest
            missing = set(range(put)) - {item for item, _ in noted}
            # get() may have returned it, and its process was killed before it could say so.
            assert len(missing - missing_after) <= 10
            missing_after = missing
    times = Counter(item for item, _ in noted)
    marked = {item for item, redelivered in noted if redelivered}
    assert all(count == 1 or item in marked for item, count in times.items())
    assert all(count <= 2 for count in times.values())
    assert put > KILLS
