"""Shared locks, events and queues behave as the standard library's, which runs the same tests."""

import queue
import threading
import time
from typing import Any

import pytest

from . import tasks
from .helpers import METHODS, SECONDS

# Lock


def test_lock(manager: Any) -> None:
    lock = manager.Lock()
    assert lock.acquire() is True
    assert lock.acquire(False) is False
    assert lock.acquire(True, 0.01) is False
    assert lock.acquire(timeout=0) is False
    assert lock.acquire(blocking=False) is False
    assert lock.release() is None
    with pytest.raises(RuntimeError):
        lock.release()
    with pytest.raises(ValueError, match="timeout"):
        lock.acquire(False, 1.0)
    with pytest.raises(ValueError, match="timeout"):
        lock.acquire(True, -2)
    with lock as entered:
        assert entered is True
        assert lock.acquire(False) is False
    assert lock.acquire(timeout=SECONDS) is True
    lock.release()


def test_a_lock_that_another_thread_releases(manager: Any) -> None:
    lock = manager.Lock()
    lock.acquire()
    thread = threading.Thread(target=lock.release)
    thread.start()
    thread.join(SECONDS)
    assert lock.acquire(False)


@pytest.mark.parametrize("method", METHODS)
def test_a_lock_that_one_process_acquires_and_another_releases(
    method: str, manager: Any, package: Any
) -> None:
    lock = manager.Lock()
    context = package.get_context(method)
    for how in ("returns", "sys.exit"):
        child = context.Process(target=tasks.acquire, args=(lock, how))
        child.start()
        child.join(SECONDS)
        assert child.exitcode == 0
        # It ended in good order, so what it did stays as it is.
        assert lock.acquire(False) is False
        lock.release()
    lock.acquire()
    child = context.Process(target=tasks.release, args=(lock,))
    child.start()
    child.join(SECONDS)
    assert child.exitcode == 0
    assert lock.acquire(False) is True
    lock.release()


def test_a_lock_of_pool_workers(manager: Any, package: Any) -> None:
    lock, d = manager.Lock(), manager.dict(n=0)
    with package.get_context("fork").Pool(4) as pool:
        pool.starmap(tasks.add_locked, [(d, lock)] * 40)
        pool.starmap(tasks.add_acquired, [(d, lock)] * 40)
    assert d["n"] == 80


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("how", ["sys.exit(1)", "raises"])
def test_a_lock_of_a_process_that_ended_badly_is_released(ours: Any, method: str, how: str) -> None:
    """The standard library leaves it locked for ever."""
    from aiomanager.multiprocessing import get_context

    lock, condition = ours.Lock(), ours.Condition()
    for thing in (lock, condition):
        child = get_context(method).Process(target=tasks.acquire, args=(thing, how))
        child.start()
        child.join(SECONDS)
        assert child.exitcode == 1
        assert thing.acquire(timeout=SECONDS)


def test_a_dead_processs_lock_is_released(ours: Any) -> None:
    """The standard library leaves it locked for ever."""
    import os
    import signal

    from aiomanager.multiprocessing import get_context

    lock, ready = ours.Lock(), ours.Event()
    child = get_context("fork").Process(target=tasks.acquire_and_stay, args=(lock, ready))
    child.start()
    assert ready.wait(SECONDS)
    assert lock.acquire(False) is False
    os.kill(child.pid or 0, signal.SIGKILL)
    assert lock.acquire(timeout=SECONDS) is True
    child.join(SECONDS)


def test_locks_of_many_processes_that_end_well(ours: Any) -> None:
    """The goodbye of a process comes before its death, however quickly that follows."""
    from aiomanager.multiprocessing import get_context

    locks = [ours.Lock() for _ in range(20)]
    context = get_context("fork")
    children = [context.Process(target=tasks.acquire, args=(lock, "returns")) for lock in locks]
    for child in children:
        child.start()
    for child in children:
        child.join(SECONDS)
    deadline = time.monotonic() + SECONDS
    while (
        ours._channel.root.statistics()["sessions"] > 1
    ):  # until the server knows that all have ended
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert [lock.acquire(False) for lock in locks] == [False] * 20


def test_names_of_owners(ours: Any) -> None:
    """aiomanager's own: a lock for a named owner is no one else's."""
    lock = ours.Lock()
    assert lock.acquire(owner="me")
    with pytest.raises(RuntimeError, match="me"):
        lock.release()
    lock.release("me")
    with lock:
        assert lock.fence > 0


# Event


def test_event(manager: Any) -> None:
    event = manager.Event()
    assert event.is_set() is False
    assert event.wait(0) is False
    assert event.wait(0.01) is False
    assert event.set() is None
    assert event.is_set() is True
    assert event.wait() is True
    assert event.wait(timeout=1) is True
    event.clear()
    assert event.is_set() is False


@pytest.mark.parametrize("method", METHODS)
def test_an_event_between_processes(method: str, manager: Any, package: Any) -> None:
    there, back = manager.Event(), manager.Event()
    child = package.get_context(method).Process(target=tasks.answer, args=(there, back))
    child.start()
    there.set()
    assert back.wait(SECONDS)
    child.join(SECONDS)
    assert child.exitcode == 0


# Queue


def test_queue(manager: Any, package: Any) -> None:
    q = manager.Queue(maxsize=3)
    assert q.empty() is True
    assert q.full() is False
    for item in (1, None, ["x"]):
        assert q.put(item) is None
    assert q.full() is True
    assert q.qsize() == 3
    for call in (
        lambda: q.put(4, False), lambda: q.put(4, True, 0.01), lambda: q.put_nowait(4),
        lambda: q.put(4, block=True, timeout=0),
    ):  # fmt: skip
        with pytest.raises(queue.Full):
            call()
    assert [q.get(), q.get(True, None), q.get_nowait()] == [1, None, ["x"]]
    for call in (
        q.get_nowait, lambda: q.get(False), lambda: q.get(True, 0.01), lambda: q.get(timeout=0),
    ):  # fmt: skip
        with pytest.raises(queue.Empty):
            call()
    with pytest.raises(ValueError, match="timeout"):
        q.get(True, -1)
    q.put("x")
    q.get()
    for _ in range(4):
        q.task_done()
    q.join()
    with pytest.raises(ValueError, match="too many times"):
        q.task_done()


def test_a_queue_hands_items_to_who_waits(manager: Any) -> None:
    q = manager.Queue(1)
    got: list[int] = []
    getter = threading.Thread(target=lambda: got.extend(q.get() for _ in range(20)))
    getter.start()
    for number in range(20):
        q.put(number)
    getter.join(SECONDS)
    assert got == list(range(20))


@pytest.mark.parametrize("method", METHODS)
def test_a_queue_between_processes(method: str, manager: Any, package: Any) -> None:
    work, results = manager.Queue(), manager.Queue()
    context = package.get_context(method)
    children = [
        context.Process(target=tasks.square_until_none, args=(work, results)) for _ in range(2)
    ]
    for child in children:
        child.start()
    for item in [*range(20), None, None]:
        work.put(item)
    assert sorted(results.get(timeout=SECONDS) for _ in range(20)) == [n * n for n in range(20)]
    for child in children:
        child.join(SECONDS)
        assert child.exitcode == 0
    assert work.empty()


def test_exceptions_pass_processes(manager: Any, package: Any) -> None:
    q, d = manager.Queue(), manager.dict()
    with package.get_context("fork").Pool(1) as pool:
        with pytest.raises(queue.Empty):
            pool.apply(tasks.get_now, (q,))
        with pytest.raises(KeyError, match="missing"):
            pool.apply(tasks.get_item, (d, "missing"))
