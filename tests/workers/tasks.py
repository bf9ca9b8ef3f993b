"""What worker processes do in the tests: a module of its own, so that they import no more."""

import asyncio
import ctypes
import os
import signal
import sys
import threading
from typing import Any

shared: dict[str, Any] = {}
"""What `initialize` was given: the globals of a worker."""


def initialize(**named: Any) -> None:
    shared.update(named)


def use_all(d: Any, l: Any, v: Any, e: Any, lock: Any, q: Any, number: int) -> int:  # noqa: E741
    """Use a proxy of each type once."""
    assert e.wait(30)
    with lock:
        d["total"] = d["total"] + 1
    d.increment("sum", number)
    l.append(number)
    v.increment(2)
    q.put(number)
    return os.getpid()


def use_shared(number: int) -> int:
    """As `use_all`, with proxies that came as globals."""
    return use_all(**shared, number=number)


def use_contained(things: dict[str, Any]) -> int:
    """Use proxies that came inside containers, and one inside a shared value."""
    first, (second, third) = things["first"], things["others"]
    first["seen"] = True
    second.append(first["inner"]["deep"])
    with third:
        return len(second)


async def _use_async(d: Any, lock: Any, q: Any, times: int) -> int:
    async def one() -> None:
        async with lock:
            await d.set("total", await d.get("total") + 1)
        await d.increment("sum")

    await asyncio.gather(*[one() for _ in range(times)])
    await q.put(os.getpid())
    return os.getpid()


def use_async(d: Any, lock: Any, q: Any, times: int = 5) -> int:
    """Use async proxies on a loop of the worker's own."""
    return asyncio.run(_use_async(d, lock, q, times))


def use_both(d: Any) -> list[Any]:
    """Use the other face of a proxy, whichever came."""

    async def ask() -> Any:
        await d.aio.increment("async")
        return await d.aio.get("async")

    d.sync["sync"] = d.sync.get("sync", 0) + 1
    return [d.sync["sync"], asyncio.run(ask()), type(d).__name__]


def count(d: Any, times: int) -> None:
    for _ in range(times):
        d.increment("hits")


def count_nested(d: Any, times: int) -> None:
    for _ in range(times):
        d.increment_nested(("stats", "hits", 0))


def count_comparing(d: Any, times: int) -> None:
    for _ in range(times):
        while True:
            old = d["compared"]
            if d.compare_and_set("compared", old, old + 1):
                break


def count_in_row(d: Any, name: str, times: int) -> None:
    """Each answer must be this process's own."""
    for number in range(times):
        d[name] = number
        assert d[name] == number
        assert d.increment(f"{name}'s", 1) == number + 1


def hold(lock: Any, ready: Any) -> None:
    """Acquire a lock and stay until killed."""
    assert lock.acquire()
    ready.set()
    threading.Event().wait()


def _fork_unseen() -> int:
    """Fork a child of which Python does not know, so that it closes nothing; return its pid."""
    libc = ctypes.CDLL(None)
    pid = int(libc.fork())
    if pid == 0:
        while True:
            libc.pause()
    return pid


def hold_with_grandchild(lock: Any, ready: Any, pids: Any) -> None:
    """As `hold`; a process that Python did not fork keeps the connection open meanwhile."""
    assert lock.acquire()
    pids.append(_fork_unseen())
    ready.set()
    threading.Event().wait()


def hold_all(things: Any, grandchild: bool, ready: Any, pids: Any) -> None:
    """Hold, or wait for, something of each kind until killed."""
    rlock, semaphore, table, condition, barrier = things
    for _ in range(3):
        assert rlock.acquire()
    assert semaphore.acquire()
    assert semaphore.acquire()
    assert table.acquire("a", "b")

    def sleep() -> None:
        with condition:
            condition.wait()

    threading.Thread(target=sleep, daemon=True).start()
    threading.Thread(target=barrier.wait, daemon=True).start()
    if grandchild:
        pids.append(_fork_unseen())
    ready.set()
    threading.Event().wait()


def get_and_tell(q: Any, told: Any) -> None:
    told.append(q.get())


def acquire_and_end(lock: Any, how: str) -> None:
    assert lock.acquire(timeout=30)
    if how == "exit":
        sys.exit(0)
    if how == "_exit":
        os._exit(0)


def manager_in_worker(method: str) -> list[Any]:
    """Start a manager inside a worker, which is a daemon and may have no children."""
    if method == "native":
        from aiomanager.sync import Manager
    else:
        from aiomanager.multiprocessing import Manager
    with Manager() as manager:
        d = manager.dict(a=1)
        d["pid"] = os.getpid()
        return [d.copy() == {"a": 1, "pid": os.getpid()}, len(d)]


def end_abruptly(d: Any) -> None:
    d["ended"] = True
    os._exit(0)


def make_and_return(url: str) -> Any:
    """Return a proxy, the only one of its object."""
    import aiomanager.sync

    return aiomanager.sync.connect(url).dict({"made": "there"})


def length(d: Any) -> int:
    return len(d)


def keep_one(d: Any) -> None:
    shared["kept"] = d


def kept_length(_: Any) -> int:
    return len(shared["kept"])


def take_turn(lock: Any, order: Any, number: int) -> None:
    with lock:
        order.append(number)


def get_and_die(q: Any) -> None:
    q.get()
    os.kill(os.getpid(), 9)


def get_and_note(q: Any, notes: int) -> None:
    """Get items for ever, and note each one, in one write, once it is there."""
    while True:
        item, redelivered = q.get_delivery()
        os.write(notes, bytes(f"{item} {int(redelivered)}\n", "ascii"))


def get_and_leave(q: Any, how: str) -> None:
    """Get an item as the last call of a process, and let the process end."""
    item = q.get()
    if how == "exit":
        sys.exit(0 if item == "item" else 1)
    if how == "_exit":
        os._exit(0)
    if how == "with a child that holds the socket":
        libc = ctypes.CDLL(None)
        if libc.fork() == 0:
            os.kill(os.getppid(), signal.SIGKILL)
            libc.sleep(3)
            libc._exit(0)
        threading.Event().wait()


def get_and_drop(q: Any, dropped: Any) -> None:
    """Get an item, and lose the connection, as one whose call is interrupted by a signal."""
    q.get()
    (connection,) = q._channel._all
    connection._socket.close()
    dropped.set()
    threading.Event().wait()


class _Interrupting:
    """A socket whose reader is interrupted when it has read something."""

    def __init__(self, sock: Any, read: Any, go: Any) -> None:
        self._sock = sock
        self._read = read
        self._go = go

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def recv(self, size: int) -> bytes:
        self._sock.recv(size)
        self._read.set()
        self._go.wait()
        raise KeyboardInterrupt


def get_and_be_interrupted(q: Any, read: Any, go: Any, dropped: Any) -> None:
    """Get an item, be interrupted, and come as far as to the connection that takes it back."""
    q.qsize()
    (connection,) = q._channel._all
    connection._socket = _Interrupting(connection._socket, read, go)

    def connect(*_: Any) -> None:
        dropped.set()
        threading.Event().wait()

    connection._connect = connect
    q.get()


def iterate(d: Any, l: Any, s: Any, a: Any, n: Any) -> list[Any]:  # noqa: E741
    """Iterate over everything, and use what has operators and attributes."""
    n.seen = sorted(d)
    return [list(d), list(reversed(d)), list(l), sorted(s), list(a), a[1:], s | {9}, n.seen]


def write_item(d: Any, i: int) -> None:
    d["test"][i] = i


def write_many(d: Any, numbers: Any) -> None:
    for i in numbers:
        d["test"][i] = i


def write_live(d: Any, i: int) -> None:
    """Write into nested values by plain statements."""
    d["test"][i] = i
    d["rows"][0]["tags"].append(i)
    d["rows"][0]["tags"] += [i]
    d["rows"][0]["tags"].extend([i])
    d["rows"][0].setdefault("n", {})[str(i)] = i
    d["rows"].append({"from": i})


def write_node(node: Any, value: int) -> Any:
    node["written"] = value
    return node


def append_everywhere(outer: Any) -> list[int]:
    """Use the proxies inside a value at several depths."""
    found = [
        outer["tuple"][0]["deep"][0],
        outer["record"].inner,
        outer["pair"][0].inner["in"][0],
        outer["dict"]["a"]["b"],
    ]
    for one in found:
        one.append("there")
    return [one[0] for one in found]


def make_and_drop(url: str, outer: Any, number: int) -> None:
    """Nest many objects in one, of which one stays."""
    import aiomanager.sync

    manager = aiomanager.sync.connect(url)
    for _ in range(50):
        outer[number] = manager.list([number])
    manager.close()


def read_record(outer: Any) -> int:
    outer[0].inner["seen"] = True
    return int(outer[0].inner["n"])


class Holder:
    """A Python object with a proxy in it, which only pickle can carry."""

    def __init__(self, proxy: Any) -> None:
        self.proxy = proxy


def cross(first: Any, second: Any, barrier: Any, told: Any) -> None:
    """Acquire one lock, and then another one that somebody has who wants the first."""
    with first:
        barrier.wait()
        said = None
        try:
            with second:
                pass
        except RuntimeError as error:
            said = str(error)
            told.append((os.getpid(), said))
    if said is None:
        told.append((os.getpid(), None))


def cross_keys(table: Any, lock: Any, barrier: Any, told: Any) -> None:
    """As `cross`, with a key of a table and a lock."""
    said = None
    with table("k"):
        barrier.wait()
        try:
            with lock:
                pass
        except RuntimeError as error:
            said = str(error)
    told.append(said)
