"""After a fork, parent and child have nothing in common but the proxies."""

import asyncio
import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import aiomanager
import aiomanager.sync
from aiomanager.errors import SessionLost

from . import tasks
from .helpers import FORKING, SECONDS, until

pytestmark = pytest.mark.filterwarnings(FORKING)


def fork(work: Callable[[], object]) -> int:
    """Fork a child that does `work`; it ends with code 0 if that goes well."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def ended_well(pid: int) -> bool:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def sockets() -> set[str]:
    """Return the kernel's numbers of this process's sockets."""
    found: set[str] = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            target = str(link.readlink())
        except FileNotFoundError:
            continue  # the one that lists the directory
        found.update(re.findall(r"socket:\[(\d+)\]", target))
    return found


def test_fork_while_threads_call(manager: aiomanager.sync.Manager) -> None:
    d: Any = manager.dict()
    stop = threading.Event()
    wrong: list[object] = []

    def call(name: str) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            d[name] = number
            if (found := d[name]) != number:
                wrong.append((name, number, found))

    threads = [threading.Thread(target=call, args=(f"thread {i}",)) for i in range(3)]
    for thread in threads:
        thread.start()
    try:
        children = [
            fork(lambda i=i: tasks.count_in_row(d, f"child {i}", 30))  # type: ignore[misc]
            for i in range(10)
        ]
        assert [ended_well(pid) for pid in children] == [True] * 10
    finally:
        stop.set()
        for thread in threads:
            thread.join(SECONDS)
    assert not wrong
    assert [d[f"child {i}"] for i in range(10)] == [29] * 10


def test_parent_and_child_at_the_same_time(manager: aiomanager.sync.Manager) -> None:
    d: Any = manager.dict()
    d["before"] = 1  # the parent's connection is there
    child = fork(lambda: tasks.count_in_row(d, "child", 300))
    tasks.count_in_row(d, "parent", 300)
    assert ended_well(child)
    assert d.copy() == {
        "before": 1, "child": 299, "child's": 300, "parent": 299, "parent's": 300,
    }  # fmt: skip


def test_fork_in_a_running_loop() -> None:
    async def main() -> None:
        async with aiomanager.Manager() as manager:
            d = await manager.dict({"n": 0})
            q = await manager.Queue()
            waiting = asyncio.create_task(q.get())
            counting = [asyncio.create_task(d.increment("n")) for _ in range(50)]
            await asyncio.sleep(0)  # the calls are on their way

            def work() -> None:
                d.sync["blocking"] = d.sync.increment("blocking")
                asyncio.run(d.increment("async"))
                asyncio.run(d.increment("async"))

            child = fork(work)
            assert await asyncio.to_thread(ended_well, child)
            assert sorted(await asyncio.gather(*counting)) == list(range(1, 51))
            await q.put("the parent's")
            assert await waiting == "the parent's"
            assert await d.copy() == {"n": 50, "blocking": 1, "async": 2}

    asyncio.run(main())


@pytest.mark.parametrize("face", ["sync", "aio"])
def test_inherited_sockets_are_closed(face: str, manager: aiomanager.sync.Manager) -> None:
    async def main() -> None:
        d: Any = manager.dict()
        d["x"] = 1
        before = sockets()
        other = aiomanager.sync.connect(manager.url)
        d = other.named.dict("d")
        if face == "aio":
            d = d.aio
            await d.set("x", 2)
        connected = sockets() - before
        assert connected
        child = fork(lambda: _assert(not sockets() & connected))
        assert ended_well(child)
        other.close()

    asyncio.run(main())


def _assert(truth: object) -> None:
    assert truth


def test_the_end_of_a_child_leaves_the_parent_alone(manager: aiomanager.sync.Manager) -> None:
    d: Any = manager.dict()
    lock, q = manager.Lock(), manager.Queue()
    got: list[object] = []
    getter = threading.Thread(target=lambda: got.append(q.get()))
    getter.start()
    assert lock.acquire()
    until(lambda: manager.statistics()["waiting"] >= 1, "the getter does not wait")
    context = multiprocessing.get_context("fork")
    for target in (tasks.use_both, tasks.end_abruptly):
        child = context.Process(target=target, args=(d,))
        child.start()
        child.join(SECONDS)
        assert child.exitcode == 0
    assert lock.locked()
    q.put("for the parent")
    getter.join(SECONDS)
    assert got == ["for the parent"]
    lock.release()


def test_a_fork_leaves_the_locks_of_other_threads(manager: aiomanager.sync.Manager) -> None:
    """They end in the child, where nobody is to say so to the server."""
    lock, holding, over = manager.Lock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            holding.set()
            over.wait(SECONDS)

    holder = threading.Thread(target=hold)
    holder.start()
    assert holding.wait(SECONDS)
    child = multiprocessing.get_context("fork").Process(target=lock.locked)
    child.start()
    child.join(SECONDS)
    assert child.exitcode == 0
    assert lock.locked()
    over.set()
    holder.join(SECONDS)
    assert lock.acquire(timeout=SECONDS)
    lock.release()


def test_a_grandchild_calls_too(manager: aiomanager.sync.Manager) -> None:
    d: Any = manager.dict()
    d["n"] = 0

    def child() -> None:
        d.increment("n")
        assert ended_well(fork(lambda: d.increment("n")))
        d.increment("n")

    assert ended_well(fork(child))
    assert d.increment("n") == 4


@pytest.mark.parametrize("calls", [False, True])
def test_a_fork_out_of_a_signal_handler_ends_the_childs_call(
    calls: bool, manager: aiomanager.sync.Manager
) -> None:
    shared = manager.dict(a=1)
    children: list[int] = []

    def handler(*_: object) -> None:
        pid = os.fork()
        if pid:
            children.append(pid)
        elif calls:
            assert shared["a"] == 1  # on a new connection, which may have the old one's number

    main = threading.get_ident()

    def disturb() -> None:
        # By a manager of its own: two threads of one wait otherwise than one alone.
        with aiomanager.sync.connect(manager.url) as other:
            until(lambda: other.statistics()["waiting"] == 1, "the event is not waited for")
            signal.pthread_kill(main, signal.SIGALRM)
            until(lambda: children, "there is no child")
            other.named.Event("set").set()

    event = manager.named.Event("set")
    before = signal.signal(signal.SIGALRM, handler)
    setter = threading.Thread(target=disturb)
    code = 1
    try:
        setter.start()
        assert event.wait(SECONDS)
        code = 0
    except SessionLost:  # the call under way is the parent's
        code = 42
    finally:
        if not children:
            os._exit(code)
    setter.join()
    signal.signal(signal.SIGALRM, before)
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 42
