"""What goes wrong with the standard library's managers goes well here: one test for each fault.

The numbers are those of CPython's issues where there is one.
"""

import gc
import os
import pickle
import queue as plain
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import aiomanager.multiprocessing
from aiomanager.errors import ObjectGone
from aiomanager.multiprocessing.managers import BaseManager, RemoteError, SyncManager

from . import hosted
from .helpers import METHODS, SECONDS, environment

NOT_YET = pytest.mark.xfail(reason="has not landed")


@pytest.fixture(scope="module")
def things() -> Iterator[Any]:
    with hosted.ThingManager(ctx=aiomanager.multiprocessing.get_context("fork")) as manager:
        yield manager


@pytest.fixture
def thing(things: Any) -> Any:
    return things.Thing()


def in_child(method: str, target: Callable[..., None], *arguments: Any) -> None:
    context = aiomanager.multiprocessing.get_context(method)
    child = context.Process(target=target, args=arguments)
    child.start()
    child.join(SECONDS)
    assert child.exitcode == 0


# Proxies in children and on the way


@pytest.mark.parametrize("method", METHODS)
def test_methods_that_return_proxies_work_in_children(method: str, things: Any) -> None:
    """99595: `'NoneType' object has no attribute '_registry'`."""
    thing, results = things.Thing(), things.Queue()
    in_child(method, hosted.use_parts, thing, results)
    assert results.get(timeout=SECONDS) == [1, 2, [0, 1, 2]]
    assert thing.part("one").add() == 3


@pytest.mark.parametrize("method", METHODS)
def test_proxies_nested_in_proxies_work_in_children(method: str, things: Any) -> None:
    """74442, 78740: proxies of proxies could not be unpickled, or asked for the wrong key."""
    thing, queue = things.Thing(), things.Queue()
    outer = things.dict(queue=queue, inner=things.dict(b=1, a=2), things=things.list([thing]))
    in_child(method, hosted.use_nested, outer)
    assert queue.get(timeout=SECONDS) == ["a", "b"]
    assert thing.part("nested").add() == 2


def test_a_pickled_proxy_keeps_its_object() -> None:
    """The reference was held by nobody between `dumps` and `loads`: RemoteError(KeyError)."""
    with SyncManager() as manager:
        blob = pickle.dumps(manager.list([1]))
        gc.collect()
        assert manager._number_of_objects() == 1
        proxy = pickle.loads(blob)
        proxy.append(2)
        assert list(proxy) == [1, 2]


def test_a_proxy_sent_through_a_queue_and_dropped_at_once(things: Any) -> None:
    queue = things.Queue()
    queue.put(things.list(["sent"]))
    gc.collect()
    results = things.Queue()
    in_child("fork", hosted.get_from, queue, results)
    assert results.get(timeout=SECONDS) == ["sent", "received"]


def test_a_proxy_sent_through_a_queue_by_a_process_that_is_killed() -> None:
    with SyncManager(authkey=b"a key for children") as manager:
        queue = manager.Queue()
        context = aiomanager.multiprocessing.get_context("fork")
        child = context.Process(
            target=hosted.put_and_die, args=(manager.address, b"a key for children", queue)
        )
        child.start()
        child.join(SECONDS)
        assert child.exitcode == -signal.SIGKILL
        assert list(queue.get(timeout=SECONDS)) == ["made", "by a dead one"]


def test_nested_proxies_of_a_manager_with_a_key_of_its_own() -> None:
    """What lay inside was asked for with the process's key: `digest sent was rejected`."""
    with SyncManager(("127.0.0.1", 0), b"a key of its own") as manager:
        outer = manager.list([manager.dict(a=1)])
        outer[0]["b"] = 2
        assert dict(outer[0]) == {"a": 1, "b": 2}
        assert [sorted(inner) for inner in outer] == [["a", "b"]]


def test_nested_objects_are_given_back() -> None:
    """103136: what lay inside shared objects was never released."""
    with SyncManager() as manager:
        outer = manager.dict()
        for _ in range(100):
            outer["inner"] = manager.dict(innermost=manager.list([manager.Lock()]))
        del outer["inner"]
        gc.collect()
        assert manager._number_of_objects() == 1


def test_a_manager_that_nobody_keeps() -> None:
    """The proxy alone keeps the server."""
    table = aiomanager.multiprocessing.Manager().dict(a=1)
    gc.collect()
    table["b"] = 2
    assert dict(table) == {"a": 1, "b": 2}


@pytest.mark.parametrize("method", METHODS)
def test_children_started_while_a_thread_waits(method: str, things: Any) -> None:
    """A fork copied the connection of the thread that was in the middle of a call."""
    table, waited, results = things.dict(), things.Queue(), things.Queue()
    thread = threading.Thread(target=waited.get)
    thread.start()
    try:
        in_child(method, hosted.use_at_once, table, results)
        assert results.get(timeout=SECONDS) == {"child": 0}
    finally:
        waited.put(None)
        thread.join(SECONDS)


# Connections that break


class Interrupted(Exception):
    pass


@pytest.fixture
def alarm() -> Iterator[Callable[[], None]]:
    """Return what makes a signal handler raise, a moment later."""

    def raise_it(*_: Any) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, raise_it)
    yield lambda: signal.setitimer(signal.ITIMER_REAL, 0.05) and None
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_an_interrupted_call_leaves_no_answer_behind(things: Any, alarm: Any) -> None:
    """Every later call of the thread returned the answer of the one before."""
    queue, table = things.Queue(), things.dict(a="A", b="B")
    alarm()
    with pytest.raises(Interrupted):
        queue.get()
    assert [table["a"], table["b"]] == ["A", "B"]
    queue.put("not lost")
    assert queue.qsize() == 1
    assert queue.get(timeout=SECONDS) == "not lost"


def test_an_interrupted_acquire_leaves_no_lock_behind(things: Any, alarm: Any) -> None:
    lock, held, release = things.Lock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            release.wait(SECONDS)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(SECONDS)
    alarm()
    with pytest.raises(Interrupted):
        lock.acquire()
    release.set()
    thread.join(SECONDS)
    assert lock.acquire(timeout=SECONDS)
    lock.release()


@pytest.mark.parametrize("code", [None, 0, 3, "a reason"])
def test_sys_exit_in_a_method(code: Any, thing: Any) -> None:
    """The caller got an EOFError, and every later call of its thread a BrokenPipeError."""
    with pytest.raises((SystemExit, RemoteError)):
        thing.leave(code)
    assert thing.well() == "well"


def test_other_exceptions_that_end_threads(thing: Any) -> None:
    with pytest.raises((KeyboardInterrupt, RemoteError)):
        thing.interrupt()
    with pytest.raises((StopIteration, RemoteError)):
        thing.stop()
    assert thing.well() == "well"


def test_an_exception_that_does_not_unpickle(thing: Any) -> None:
    """120810: a TypeError about `__init__` in place of what happened."""
    with pytest.raises((hosted.TwoArguments, RemoteError), match="what happened"):
        thing.two_arguments()
    assert thing.well() == "well"


def test_an_exception_that_does_not_pickle(thing: Any) -> None:
    with pytest.raises(RemoteError, match="what is held"):
        thing.holding()
    assert thing.well() == "well"


def test_a_result_that_does_not_pickle(thing: Any) -> None:
    with pytest.raises(RemoteError, match="lock"):
        thing.unsendable()
    assert thing.well() == "well"


def test_an_argument_that_does_not_pickle(thing: Any) -> None:
    with pytest.raises(TypeError, match="lock"):
        thing.well(threading.Lock())
    assert thing.well() == "well"


def test_where_it_failed_is_told(thing: Any) -> None:
    """78279: the traceback ended at the proxy."""
    with pytest.raises((hosted.TwoArguments, RemoteError)) as caught:
        thing.two_arguments()
    told = "".join(traceback.format_exception(caught.value))
    assert "in two_arguments" in told
    assert Path(hosted.__file__).name in told


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.0\r\n\r\n", b"\0\0\0\4abcd"])
def test_strangers_do_not_stop_the_server(sent: bytes) -> None:
    """Who connected and said nothing ended the thread that accepts connections."""
    with SyncManager(("127.0.0.1", 0), b"a key of this test") as manager:
        for _ in range(3):
            with socket.create_connection(manager.address) as stranger:
                stranger.sendall(sent)
        other = SyncManager(manager.address, b"a key of this test")
        other.connect()
        assert len(other.list([1, 2])) == 2


def test_a_crowd_of_threads_connects_at_once(things: Any) -> None:
    """101225: connections beyond the backlog were refused."""
    table, together, failed = things.dict(), threading.Barrier(64), []

    def work(number: int) -> None:
        together.wait(SECONDS)
        try:
            table[number] = number
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert not failed
    assert len(table) == 64


the_queue: plain.Queue[Any] = plain.Queue()


class QueueManager(BaseManager):
    pass


QueueManager.register("get_queue", callable=lambda: the_queue)


def test_a_client_meets_the_successor_of_its_server() -> None:
    """86320, 87495: the proxies of a server that was restarted stayed broken."""
    context = aiomanager.multiprocessing.get_context("fork")
    first = QueueManager(("127.0.0.1", 0), b"key of both", ctx=context)
    first.start()
    client = QueueManager(first.address, b"key of both")
    client.connect()
    old = client.get_queue()
    old.put(1)
    os.kill(first._process.pid, signal.SIGKILL)
    first._process.join(SECONDS)
    with QueueManager(client.address, b"key of both", ctx=context):
        new = client.get_queue()
        new.put(2)
        assert new.get(timeout=SECONDS) == 2
        with pytest.raises(ObjectGone):
            old.qsize()  # of an object that went with its server, never another one's answer
        assert new.qsize() == 0


# Locks and those who hold them


@pytest.mark.parametrize("kind", ["RLock", "Lock"])
def test_a_condition_of_a_lock_that_is_shared_already(kind: str, things: Any) -> None:
    """85106: an RLock's proxy has no `_is_owned`."""
    lock = getattr(things, kind)()
    condition, ready, log = things.Condition(lock), things.Event(), things.list()
    context = aiomanager.multiprocessing.get_context("fork")
    child = context.Process(target=hosted.wait_on, args=(condition, ready, log))
    child.start()
    assert ready.wait(SECONDS)
    with lock:  # the child waits, for it has let go
        condition.notify()
    child.join(SECONDS)
    assert list(log) == [True]


def test_a_dead_processs_permit_is_given_back(things: Any) -> None:
    semaphore, ready = things.Semaphore(1), things.Event()
    context = aiomanager.multiprocessing.get_context("fork")
    child = context.Process(target=hosted.hold_permit, args=(semaphore, ready))
    child.start()
    assert ready.wait(SECONDS)
    assert semaphore.acquire(False) is False
    child.kill()
    assert semaphore.acquire(timeout=SECONDS) is True
    child.join(SECONDS)


def test_an_rlock_is_not_taken_for_anothers(things: Any) -> None:
    """A thread that got the ident of a dead owner passed for it."""
    lock, fences = things.RLock(), set[int]()

    def acquire() -> None:
        if lock.acquire(timeout=SECONDS):
            fences.add(lock.fence)

    for _ in range(7):
        thread = threading.Thread(target=acquire)
        thread.start()
        thread.join(SECONDS)
    assert len(fences) == 7  # each had it anew, as its owner before had ended


# What the server is made of


def test_coroutine_methods(thing: Any) -> None:
    """The coroutine itself was sent, and could not be pickled."""
    assert thing.later("after a while") == "after a while"


def test_a_directory_of_a_long_name(tmp_path: Path) -> None:
    """93852: `AF_UNIX path too long`."""
    long = tmp_path / ("d" * 100) / ("e" * 100)
    long.mkdir(parents=True)
    code = (
        "from aiomanager.multiprocessing import Manager\n"
        "if __name__ == '__main__':\n"
        "    with Manager() as manager:\n"
        "        print(dict(manager.dict(a=1)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment(), "TMPDIR": str(long)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("{'a': 1}\n", "")
    assert not list(long.iterdir())


def test_the_server_ends_with_its_parent() -> None:
    """A parent that was killed left its manager's process behind for ever."""
    code = (
        "import os, signal\n"
        "from aiomanager.multiprocessing import get_context\n"
        "manager = get_context('fork').Manager()\n"
        "print(manager._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    # All that hold the pipe have ended when it does.
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    pid = int(done.stdout)
    deadline = time.monotonic() + SECONDS
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not Path(f"/proc/{pid}").exists()


def test_an_interrupt_of_the_whole_group_spares_the_server() -> None:
    """Ctrl-C reached the server before the parent could use it once more."""
    code = (
        "import os, signal\n"
        "from aiomanager.multiprocessing import Manager\n"
        "table = Manager().dict()\n"
        "try:\n"
        "    os.killpg(0, signal.SIGINT)\n"
        "    signal.pause()\n"
        "except KeyboardInterrupt:\n"
        "    table['saved'] = True\n"
        "    print(table)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("{'saved': True}\n", "")


def test_what_later_versions_of_python_have(things: Any) -> None:
    """103134, 115942, 129948: here on every version."""
    table = things.dict(a=1)
    assert table | {"b": 2} == {"a": 1, "b": 2}
    assert {"b": 2} | table == {"b": 2, "a": 1}
    table |= {"c": 3}
    assert dict(table) == {"a": 1, "c": 3}
    numbers = things.list([1, 2])
    assert numbers.copy() == [1, 2]
    numbers.clear()
    assert len(numbers) == 0
    lock = things.Lock()
    assert lock.locked() is False
    with lock:
        assert lock.locked() is True
    shared = things.set([1, 2])
    shared.add(3)
    assert 3 in shared
    assert shared & {3, 4} == {3}
    assert shared.copy() == {1, 2, 3}
