"""The async client as programs use it, on every loop: types, values, errors, owners, processes."""

import asyncio
import errno
import gc
import math
import multiprocessing
import os
import pickle
import queue
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import anyio
import pytest

import aiomanager
import aiomanager.sync
from aiomanager import MISSING
from aiomanager.client import _asyncio
from aiomanager.errors import (
    BadKey,
    BadParameters,
    ConnectionLost,
    NameConflict,
    NotOwner,
    ObjectGone,
    SessionLost,
    ShutDown,
    TooLarge,
)
from aiomanager.server.process import PrivateServer

from .helpers import SECONDS, start, until, waiting

Manager = aiomanager.Manager
ROOT = Path(aiomanager.__file__).parent.parent


@dataclass
class Point:
    """A value that msgpack cannot carry: it travels as a pickle."""

    x: int
    y: int


# Types


async def test_a_dict(manager: Manager) -> None:
    d = await manager.dict({"a": 1}, b=2)
    await d.set("k", [1, {"deep": (2, 3)}])
    assert await d.get("k") == [1, {"deep": (2, 3)}]
    assert await d.get("x") is None
    assert await d.get("x", 7) == 7
    assert await d.get_item("a") == 1
    assert await d.contains("b")
    assert not await d.contains("x")
    assert await d.length() == 3
    assert await d.keys() == ["a", "b", "k"]
    assert await d.items() == [("a", 1), ("b", 2), ("k", [1, {"deep": (2, 3)}])]
    assert await d.pop("k") == [1, {"deep": (2, 3)}]
    assert await d.pop("k", "none") == "none"
    await d.delete("a")
    assert await d.copy() == {"b": 2}
    await d.update({"c": 3}, d=4)
    assert await d.values() == [2, 3, 4]
    assert await d.popitem() == ("d", 4)
    assert await d.setdefault("c", 9) == 3
    assert await d.increment("hits") == 1
    assert await d.increment("hits", 2**63) == 2**63 + 1
    assert await d.increment("hits", 2**63) == 2**64 + 1
    await d.set("row", {7: ["a", "b"]})
    await d.update_nested(("row", 7, -1), "z")
    assert await d.get_nested(("row", 7)) == ["a", "z"]
    assert await d.increment_nested(("row", "hits"), 5) == 5
    assert await d.update_item("c", lambda old: old * 10) == 30
    assert await d.update_item("new", lambda old: old, default="made") == "made"
    await d.clear()
    assert await d.length() == 0


async def test_many_keys_in_one_step(manager: Manager) -> None:
    d = await manager.dict({n: n * n for n in range(100)})
    assert await d.get_many([3, 5, 1000, 7]) == {3: 9, 5: 25, 7: 49}
    assert await d.pop_many([3, 1000, 5]) == {3: 9, 5: 25}
    assert await d.delete_many([3, 7, 8]) == 2
    await d.update(dict.fromkeys(range(10), 0))
    assert await d.get_many(range(10)) == dict.fromkeys(range(10), 0)
    assert await d.length() == 100


async def test_a_list(manager: Manager) -> None:
    items = await manager.list([3, 1, 2])
    await items.append(9)
    await items.extend([8, 7])
    await items.insert(0, 5)
    assert await items.copy() == [5, 3, 1, 2, 9, 8, 7]
    assert await items.pop() == 7
    assert await items.pop(0) == 5
    await items.sort()
    assert await items.get_slice(1, 3) == [2, 3]
    await items.sort(key=lambda item: -item)
    assert await items.copy() == [9, 8, 3, 2, 1]
    assert await items.index(3) == 2
    assert await items.count(8) == 1
    assert await items.contains(2)
    await items.remove(8)
    await items.reverse()
    assert await items.get_item(-1) == 9
    await items.set(0, "x")
    await items.delete(0)
    assert await items.length() == 3
    assert await items.increment(0, 0.5) == 2.5


async def test_a_value(manager: Manager) -> None:
    value = await manager.Value("i", 5)
    assert await value.exchange(6) == 5
    assert await value.increment() == 7
    assert await value.compare_and_set(7, [1])
    assert not await value.compare_and_set(7, [2])
    assert await value.update(lambda old: [*old, 2]) == [1, 2]
    assert await value.get() == [1, 2]


async def test_an_event_wakes_all_who_wait(manager: Manager) -> None:
    event = await manager.Event()
    assert not await event.is_set()
    async with anyio.create_task_group() as group:
        tasks = [start(group, event.wait) for _ in range(20)]
        await waiting(manager, 20)
        await event.set()
        assert [await task.result() for task in tasks] == [True] * 20
    assert await event.wait()
    await event.clear()
    assert not await event.wait(timeout=0.01)


async def test_iteration(manager: Manager) -> None:
    d = await manager.dict(dict.fromkeys("abc"))
    found: list[Any] = []
    async for key in d:
        await d.set(key * 2, None)  # keys that come later are not seen
        found.append(key)
    assert found == ["a", "b", "c"]
    items = await manager.list([1, 2])
    found = []
    async for item in items:
        found.append(item)
        if item < 3:
            await items.append(item + 2)
    assert found == [1, 2, 3, 4]


async def test_a_queue_is_iterated_until_it_is_shut_down(manager: Manager) -> None:
    q = await manager.Queue()
    got: list[int] = []

    async def consume() -> None:
        async for item in q:
            got.append(item)  # noqa: PERF401

    async with anyio.create_task_group() as group:
        consumer = start(group, consume)
        await waiting(manager, 1)
        await q.put_many(range(5))
        await q.shutdown()
        await consumer.result()
    assert got == [0, 1, 2, 3, 4]
    with pytest.raises(ShutDown):
        await q.put(5)


UNAWAITABLE: dict[str, tuple[str, Callable[[Any], object], str]] = {
    "d[k]": ("dict", lambda d: d["k"], "await d.get_item(k)"),
    "d[k] = v": ("dict", lambda d: d.__setitem__("k", 1), "await d.set(k, v)"),
    "del d[k]": ("dict", lambda d: d.__delitem__("k"), "await d.delete(k)"),
    "k in d": ("dict", lambda d: "k" in d, "await d.contains(k)"),
    "len(d)": ("dict", len, "await d.length()"),
    "bool(d)": ("dict", bool, "await d.length()"),
    "for k in d": ("dict", list, "async for k in d"),
    "len(list)": ("list", len, "await d.length()"),
    "list[0]": ("list", lambda items: items[0], "await d.get_item(k)"),
    "for item in queue": ("Queue", list, "async for k in d"),
    "with lock": ("Lock", lambda lock: lock.__enter__(), "async with x"),
    "with event": ("Event", lambda event: event.__enter__(), "does not offer it"),
    "lock[0]": ("Lock", lambda lock: lock[0], "does not offer it"),
}


@pytest.mark.parametrize("case", UNAWAITABLE)
async def test_what_cannot_be_awaited_names_the_fix(manager: Manager, case: str) -> None:
    kind, use, fix = UNAWAITABLE[case]
    proxy = await getattr(manager, kind)()
    with pytest.raises(TypeError) as caught:
        use(proxy)
    assert fix in str(caught.value)
    assert type(proxy).__name__ in str(caught.value)


# Values


VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    2**63 - 1,
    2**63,
    -(2**63) - 1,
    2**200,
    0.0,
    -0.0,
    math.inf,
    1.5,
    "",
    "text",
    "é" * 2000,
    b"",
    b"\x00\xff",
    bytearray(b"ab"),
    [],
    [1, [2, [3]]],
    (),
    (1, (2,)),
    {},
    {"a": {"b": [1, (2, {3})]}},
    {1: "int", "1": "str", (1, 2): "tuple"},
    {1, 2},
    frozenset({("a", 1)}),
    1 + 2j,
    Decimal("1.10"),
    uuid.UUID(int=5),
    datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=UTC),
    datetime(2024, 2, 29, 12, 30).date(),
    timedelta(days=-1, microseconds=7),
    Point(1, 2),
    {"nested": [Point(3, 4)]},
]


def exactly(value: Any) -> Any:
    """Return a form of a value that compares types as well, inside containers too."""
    if isinstance(value, dict):
        return (dict, [(exactly(k), exactly(v)) for k, v in value.items()])
    if isinstance(value, list | tuple):
        return (type(value), [exactly(item) for item in value])
    if isinstance(value, set | frozenset):
        return (type(value), sorted(map(repr, value)))
    return (type(value), repr(value))


async def test_values_come_back_as_they_were(manager: Manager) -> None:
    d = await manager.dict()
    q = await manager.Queue()
    for value in VALUES:
        await d.set("k", value)
        assert exactly(await d.get("k")) == exactly(value)
        await q.put(value)
        assert exactly(await q.get()) == exactly(value)
    await d.set("nan", math.nan)
    assert math.isnan(await d.get("nan"))
    items = await manager.list(VALUES)
    assert exactly(await items.copy()) == exactly(VALUES)


async def test_keys_fold_as_those_of_a_dict(manager: Manager) -> None:
    d = await manager.dict({1: "one"})
    await d.set(1.0, "float")
    await d.set(True, "bool")
    assert await d.items() == [(1, "bool")]
    assert exactly(await d.keys()) == exactly([1])
    with pytest.raises(BadKey):
        await d.set(math.nan, 0)
    with pytest.raises(TypeError):
        await d.set(["unhashable"], 0)  # type: ignore[list-item]


async def test_proxies_inside_values(manager: Manager) -> None:
    outer = await manager.dict()
    inner = await manager.list([1])
    before = (await manager.statistics())["objects"]
    await outer.set("row", {"inner": inner, "more": [inner]})
    del inner
    gc.collect()
    found = await outer.get("row")
    await found["inner"].append(2)
    assert await found["more"][0].copy() == [1, 2]
    assert type(found["inner"]) is aiomanager.ListProxy
    del found
    gc.collect()
    # The container alone keeps it now.
    assert await (await outer.get_item("row"))["inner"].copy() == [1, 2]
    await outer.clear()
    gc.collect()

    async def freed() -> bool:
        await outer.length()
        return (await manager.statistics())["objects"] <= before - 1

    await until(freed, "the inner list should be freed")


async def test_compare_and_set(manager: Manager) -> None:
    d = await manager.dict()
    assert await d.compare_and_set("k", MISSING, 1)
    assert not await d.compare_and_set("k", MISSING, 2)
    assert not await d.compare_and_set("k", 7, 2)
    assert await d.compare_and_set("k", 1, {"a": [1]})
    assert await d.compare_and_set("k", {"a": [1]}, MISSING)
    assert not await d.contains("k")
    assert not await d.compare_and_set("k", 1, MISSING)
    assert await d.compare_and_set("k", MISSING, MISSING)
    # Values that only clients can open are compared by the client.
    await d.set("p", Point(1, 2))
    assert not await d.compare_and_set("p", Point(1, 3), "no")
    assert not await d.compare_and_set("p", MISSING, "no")
    assert await d.compare_and_set("p", Point(1, 2), Point(5, 6))
    assert await d.get("p") == Point(5, 6)
    assert await d.compare_and_set("p", Point(5, 6), MISSING)
    assert await d.compare_and_set("p", MISSING, Point(0, 0))
    items = await manager.list([Point(1, 1), 2])
    assert await items.compare_and_set(0, Point(1, 1), "x")
    assert await items.contains("x")
    assert not await items.contains(Point(1, 1))


async def test_a_swap_loop_loses_nothing(manager: Manager) -> None:
    d = await manager.dict(n=0, p=Point(0, 0))

    async def count() -> None:
        for _ in range(10):
            while True:
                old = await d.get_item("n")
                if await d.compare_and_set("n", old, old + 1):
                    break
            await d.update_item("p", lambda old: Point(old.x + 1, old.y))

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(count)
    assert await d.get("n") == 100
    assert await d.get("p") == Point(100, 0)


# Errors


async def test_errors_are_the_classes_of_plain_python(manager: Manager) -> None:
    d = await manager.dict(s="text")
    for key in ("x", 7, ("a", 1)):
        with pytest.raises(KeyError) as missing:
            await d.get_item(key)
        assert missing.value.args == (key,)
        with pytest.raises(KeyError):
            await d.delete(key)
        with pytest.raises(KeyError):
            await d.pop(key)
    with pytest.raises(TypeError, match="increment"):
        await d.increment("s")
    with pytest.raises(KeyError):
        await d.get_nested(("no", "way"))
    with pytest.raises(KeyError):
        await (await manager.dict()).popitem()
    items = await manager.list()
    with pytest.raises(IndexError):
        await items.get_item(0)
    with pytest.raises(IndexError):
        await items.pop()
    with pytest.raises(ValueError, match="not in"):
        await items.remove(1)
    with pytest.raises(TypeError):
        await (await manager.list([1, "a"])).sort()
    q = await manager.Queue(1)
    with pytest.raises(queue.Empty) as empty:
        await q.get_nowait()
    assert empty.value.args == ()
    await q.put(1)
    with pytest.raises(queue.Full):
        await q.put_nowait(2)
    with pytest.raises(queue.Full):
        await q.put(2, timeout=0.01)
    with pytest.raises(ValueError, match="non-negative"):
        await q.get(timeout=-1)
    await q.task_done()
    with pytest.raises(ValueError, match="too many"):
        await q.task_done()
    lock = await manager.Lock()
    with pytest.raises(RuntimeError, match="not held"):
        await lock.release()


async def test_wrong_arguments_are_refused_before_they_are_sent(manager: Manager) -> None:
    d = await manager.dict()
    with pytest.raises(TypeError):
        await d.set("k")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        await d.get("k", nonsense=1)  # type: ignore[call-arg]
    with pytest.raises(BadParameters):
        await (await manager.list()).get_item("x")  # type: ignore[arg-type]
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        await d.set("k", lambda: None)
    assert await d.length() == 0


# Names


async def test_a_name_that_is_none_makes_no_object_of_ones_own(manager: Manager) -> None:
    before = (await manager.statistics())["objects"]
    with pytest.raises(TypeError, match="the name must be a str, not None"):
        await manager.named.Lock(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="the name must be a str, not None"):
        await manager.named.create(aiomanager.LockProxy, None)  # type: ignore[arg-type]
    blocking = aiomanager.sync.connect(manager.url)
    with blocking, pytest.raises(TypeError, match="the name must be a str, not None"):
        blocking.named.Lock(None)  # type: ignore[arg-type]
    assert (await manager.statistics())["objects"] == before


async def test_nothing_is_sent_where_encryption_is_asked_for() -> None:
    with pytest.raises(ValueError, match="does not encrypt"):
        aiomanager.sync.connect("tls://127.0.0.1:1", authkey=b"k" * 16)
    with pytest.raises(ValueError, match="does not encrypt"):
        await aiomanager.connect("tls://127.0.0.1:1", authkey=b"k" * 16).start()


async def test_a_private_server_lives_as_long_as_a_proxy_can_reach_it() -> None:
    async def made() -> "tuple[aiomanager.DictProxy[str, int], Any]":
        manager = await aiomanager.Manager().start()
        return await manager.dict({"a": 1}), manager._server._process

    d, process = await made()
    gc.collect()
    assert process.poll() is None
    assert await d.get("a") == 1
    channel: Any = d._channel
    await channel.aclose()
    server, channel.server = channel.server, None
    server.stop()


async def test_named_objects(manager: Manager) -> None:
    name = f"votes-{uuid.uuid4()}"
    votes = await manager.named.dict(name, {"a": 1})
    again = await manager.named.dict(name, {"b": 2})
    assert await again.items() == [("a", 1)]
    assert (await manager.names())[name] == "dict"
    with pytest.raises(NameConflict) as conflict:
        await manager.named.Lock(name)
    assert isinstance(conflict.value, ValueError)
    del votes, again
    gc.collect()
    assert await (await manager.named.dict(name)).get("a") == 1
    await manager.delete(name)
    with pytest.raises(KeyError):
        await manager.delete(name)
    assert name not in await manager.names()
    q = await manager.named.Queue(name, maxsize=3)
    with pytest.raises(NameConflict, match="maxsize 3"):
        await manager.named.Queue(name, maxsize=4)
    assert await q.maxsize() == 3
    await manager.delete(name)


async def test_a_deleted_object_is_gone_for_those_who_wait(manager: Manager) -> None:
    name = f"gone-{uuid.uuid4()}"
    q = await manager.named.Queue(name)
    async with anyio.create_task_group() as group:
        tasks = [start(group, q.get) for _ in range(3)]
        await waiting(manager, 3)
        await manager.delete(name)
        for task in tasks:
            with pytest.raises(ObjectGone):
                await task.result()
    with pytest.raises(ObjectGone) as gone:
        await q.put(1)
    assert isinstance(gone.value, ReferenceError)


# Many tasks


async def test_thousands_of_tasks_share_one_connection(manager: Manager) -> None:
    before = await manager.statistics()
    counts = await manager.dict(n=0)
    seen: set[int] = set()

    async def hit() -> None:
        seen.add(await counts.increment("n"))

    async with anyio.create_task_group() as group:
        for _ in range(3000):
            group.start_soon(hit)
    assert seen == set(range(1, 3001))
    assert (await manager.statistics())["attached"] == before["attached"]


async def test_a_blocked_call_holds_up_nobody(manager: Manager) -> None:
    q = await manager.Queue()
    d = await manager.dict()
    async with anyio.create_task_group() as group:
        getter = start(group, q.get)
        await waiting(manager, 1)
        for n in range(100):
            await d.set(n, n)
        assert await d.length() == 100
        assert (await manager.statistics())["waiting"] == 1
        await q.put("at last")
        assert await getter.result() == "at last"


async def test_thousands_may_wait_at_a_time(manager: Manager) -> None:
    """More than may be unconfirmed: what waits is confirmed, and does not count."""
    q = await manager.Queue()
    async with anyio.create_task_group() as group:
        tasks = [start(group, q.get) for _ in range(3000)]
        await waiting(manager, 3000)
        await q.put_many(range(3000))
        assert sorted([await task.result() for task in tasks]) == list(range(3000))
    await waiting(manager, 0)


async def test_large_values_do_not_jam_the_connection(manager: Manager) -> None:
    """Values beyond the window of what may be unconfirmed, both ways at the same time."""
    large = os.urandom(20 << 20)
    d = await manager.dict()

    async def carry(n: int) -> None:
        await d.set(n, large)
        assert await d.get_item(n) == large
        await d.set(n, None)

    async def small() -> None:
        for n in range(200):
            await d.set(("small", n), n)

    with anyio.fail_after(2 * SECONDS):
        async with anyio.create_task_group() as group:
            for n in range(3):
                group.start_soon(carry, n)
            group.start_soon(small)
    assert await d.length() == 203


async def test_many_middling_values_at_once(manager: Manager) -> None:
    text = "x" * 30_000
    d = await manager.dict()
    with anyio.fail_after(2 * SECONDS):
        async with anyio.create_task_group() as group:
            for n in range(1500):
                group.start_soon(d.set, n, text)
        assert await d.length() == 1500

        found: list[str] = []

        async def read(n: int) -> None:
            found.append(await d.get_item(n))

        async with anyio.create_task_group() as group:
            for n in range(1500):
                group.start_soon(read, n)
    assert found == [text] * 1500


async def test_a_call_beyond_the_limit_is_refused_alone(manager: Manager) -> None:
    d = await manager.dict()
    with pytest.raises(TooLarge):
        await d.set("k", bytes(1 << 28))
    assert await d.length() == 0


# Owners


async def test_the_owner_of_a_lock_is_the_task(manager: Manager) -> None:
    lock = await manager.Lock()
    assert await lock.acquire()
    async with anyio.create_task_group() as group:
        # Another task of this process: the lock excludes it, and it may not release it.
        assert await start(group, lambda: lock.acquire(timeout=0.01)).result() is False
        assert await start(group, lambda: lock.acquire(blocking=False)).result() is False
        with pytest.raises(NotOwner) as refused:
            await start(group, lock.release).result()
        assert isinstance(refused.value, RuntimeError)
        assert f"pid {os.getpid()}" in str(refused.value)
        assert await lock.locked()
        second = start(group, lock.acquire)
        await waiting(manager, 1)
        assert not second.over.is_set()
        await lock.release()
        assert await second.result()
    with anyio.fail_after(SECONDS):
        assert await lock.acquire()  # the second task has ended


async def test_the_owner_is_who_calls_not_who_awaits(manager: Manager) -> None:
    """gather, wait_for and shield await a coroutine in a task of their own."""
    lock = await manager.Lock()
    acquiring = lock.acquire()

    async def elsewhere() -> bool:
        return await acquiring

    async with anyio.create_task_group() as group:
        assert await start(group, elsewhere).result()
    await lock.release()
    assert not await lock.locked()


async def test_an_owner_that_is_named_is_the_same_everywhere(manager: Manager) -> None:
    lock = await manager.Lock()
    assert await lock.acquire(owner="job 7")
    with pytest.raises(NotOwner, match="job 7"):
        await lock.release()
    async with anyio.create_task_group() as group:
        assert not await start(group, lambda: lock.acquire(False, owner="job 8")).result()
        await start(group, lambda: lock.release(owner="job 7")).result()
    assert not await lock.locked()
    # In another session, too.
    await lock.acquire(owner="job 9")
    blocking = lock.sync
    with pytest.raises(NotOwner, match="job 9"):
        await anyio.to_thread.run_sync(blocking.release)
    await anyio.to_thread.run_sync(lambda: blocking.release(owner="job 9"))
    blocking._channel.close()
    assert not await lock.locked()


async def test_fences_rise(manager: Manager) -> None:
    lock = await manager.Lock()
    fences: list[int] = []
    for _ in range(3):
        async with lock:
            fences.append(lock.fence)
            holder = await lock.holder()
            assert holder is not None
            assert holder[2] == lock.fence
    assert fences == sorted(set(fences))


async def test_locks_exclude_each_other(manager: Manager) -> None:
    lock = await manager.Lock()
    inside = 0

    async def work() -> None:
        nonlocal inside
        for _ in range(5):
            async with lock:
                inside += 1
                assert inside == 1
                await anyio.lowlevel.checkpoint()
                inside -= 1

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(work)
    assert not await lock.locked()


async def test_a_lost_release_is_told_by_the_next_call(manager: Manager) -> None:
    """`async with` does not wait for the answer of its release."""
    lock = await manager.Lock()
    async with lock:
        await lock.release()
    await manager.names()  # it is answered after the release
    with pytest.raises(RuntimeError, match="not held"):
        await lock.acquire()
    assert await lock.acquire()


# Deadlines are the server's


async def test_deadlines(manager: Manager) -> None:
    q = await manager.Queue()
    with pytest.raises(queue.Empty):
        await q.get(timeout=0.01)
    with pytest.raises(queue.Empty):
        await q.get(block=False)
    lock = await manager.Lock()
    await lock.acquire(owner="other")
    assert await lock.acquire(timeout=0.01) is False
    assert await lock.acquire_fenced(timeout=0) == 0
    event = await manager.Event()
    assert await event.wait(0.01) is False
    await q.put(1)
    with pytest.raises(TimeoutError):
        await q.join(timeout=0.01)
    await waiting(manager, 0)


# Managers


async def test_a_private_server(anyio_backend_name: str) -> None:
    manager = aiomanager.Manager()
    assert "not started" in repr(manager)
    assert await manager.start() is manager
    try:
        with pytest.raises(RuntimeError, match="started already"):
            await manager.start()
        d = await manager.dict(a=1)
        path = manager.url.removeprefix("unix://")
        async with aiomanager.connect(manager.url) as other:
            assert await other.statistics() == await manager.statistics()
    finally:
        await manager.aclose()
        await manager.aclose()
    assert not os.path.exists(path)  # noqa: ASYNC240, PTH110
    with pytest.raises(RuntimeError, match="not started"):
        _ = manager.url
    with pytest.raises(ConnectionLost, match="closed"):
        await d.get("a")
    # The same manager can be started anew.
    async with manager:
        assert await (await manager.dict(b=2)).get("b") == 2


async def test_use_before_start_says_what_to_do() -> None:
    manager = aiomanager.Manager()
    for use in (manager.dict, manager.names, manager.statistics, lambda: manager.named.Lock("l")):
        with pytest.raises(RuntimeError, match=r"async with aiomanager\.Manager"):
            await use()
    await manager.aclose()


async def test_nobody_there(tmp_path: Path) -> None:
    manager = aiomanager.connect(f"unix://{tmp_path}/none")
    with pytest.raises(ConnectionLost, match="aiomanager serve"):
        await manager.start()
    with pytest.raises(ConnectionLost):
        async with aiomanager.connect("tcp://127.0.0.1:9", authkey=b"k" * 16):
            pass
    await manager.aclose()


async def test_a_start_that_is_cancelled_leaves_nothing(server: PrivateServer) -> None:
    """Stopped at each of its steps; what it opened is closed."""
    async with aiomanager.connect(server.address.url) as watcher:
        for steps in range(30):
            manager = aiomanager.connect(server.address.url)
            async with anyio.create_task_group() as group:
                task = start(group, manager.start)
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                task.cancel()
                await task.over.wait()
            await manager.aclose()

        async def alone() -> bool:
            return (await watcher.statistics())["attached"] == 1

        await until(alone, "one connection should be left")


@pytest.mark.parametrize("scheme", ["unix", "tcp"])
async def test_an_explicit_key(scheme: str, tmp_path: Path) -> None:
    key = b"0123456789abcdef"
    address = f"unix://{tmp_path}/s" if scheme == "unix" else "tcp://127.0.0.1:0"
    async with aiomanager.Manager(address, authkey=key) as manager:
        assert await (await manager.dict(a=1)).get("a") == 1
        async with aiomanager.connect(manager.url, authkey=key) as other:
            await other.named.dict("n", b=2)
        wrong = aiomanager.connect(manager.url, authkey=b"fedcba9876543210")
        with pytest.raises(multiprocessing.AuthenticationError):
            await wrong.start()
        with pytest.raises(aiomanager.AuthenticationFailed):
            await wrong.start()
        assert await manager.names() == {"n": "dict"}


async def test_a_server_that_goes_away() -> None:
    server = PrivateServer()
    try:
        async with aiomanager.connect(server.address.url) as manager:
            q = await manager.Queue()
            async with anyio.create_task_group() as group:
                tasks = [start(group, q.get) for _ in range(5)]
                await waiting(manager, 5)
                await anyio.to_thread.run_sync(server.stop)
                for task in tasks:
                    with pytest.raises(SessionLost):
                        await task.result()
            with pytest.raises(ConnectionLost):
                await q.qsize()
    finally:
        server.stop()


async def test_a_server_that_is_killed_and_another_in_its_place(tmp_path: Path) -> None:
    address = aiomanager.connect(f"unix://{tmp_path}/s")
    where = tmp_path / "s"
    from aiomanager.protocol.address import parse_address

    first = PrivateServer(parse_address(f"unix://{where}"))
    second = None
    try:
        async with address as manager:
            anonymous = await manager.dict(a=1)
            lock = await manager.named.Lock("lock")
            async with anyio.create_task_group() as group:
                await lock.acquire()
                waiter = start(group, lock.acquire)
                await waiting(manager, 1)
                os.kill(first.pid, 9)
                with pytest.raises(SessionLost):
                    await waiter.result()
            second = await anyio.to_thread.run_sync(PrivateServer, parse_address(f"unix://{where}"))
            # The first call finds the new server; what the old one had is gone.
            assert await manager.names() == {}
            # Not even its number is used again.
            kept = [await manager.dict(a="another") for _ in range(5)]
            with pytest.raises(ObjectGone):
                await anonymous.get("a")
            assert await kept[0].get("a") == "another"
    finally:
        first.stop()
        if second is not None:
            second.stop()


async def test_aclose_ends_calls_that_wait(server: PrivateServer) -> None:
    async with aiomanager.connect(server.address.url) as watcher:
        before = (await watcher.statistics())["attached"]
        manager = aiomanager.connect(server.address.url)
        await manager.start()
        q = await manager.Queue()
        async with anyio.create_task_group() as group:
            getter = start(group, q.get)
            await waiting(watcher, 1)
            await manager.aclose()
            with pytest.raises(ConnectionLost, match="closed"):
                await getter.result()
        # It returned when the server knew.
        assert (await watcher.statistics())["waiting"] == 0
        assert (await watcher.statistics())["attached"] == before


async def test_dropped_proxies_free_their_objects(manager: Manager) -> None:
    kept = await manager.dict()
    dropped = [await manager.dict() for _ in range(50)]
    before = (await manager.statistics())["objects"]
    del dropped
    gc.collect()

    async def freed() -> bool:
        return (await manager.statistics())["objects"] <= before - 50

    await until(freed, "the dicts that were dropped should be freed")
    assert await kept.length() == 0


# Loops and processes


async def test_another_loop_may_not_use_a_connection(
    manager: Manager, anyio_backend_name: str
) -> None:
    d = await manager.dict(a=1)
    caught: list[BaseException] = []

    def elsewhere(backend: str) -> None:
        async def use() -> None:
            await d.get("a")

        try:
            anyio.run(use, backend=backend)
        except BaseException as error:
            caught.append(error)

    for backend in ("asyncio", "trio"):
        thread = threading.Thread(target=elsewhere, args=(backend,))
        thread.start()
        await anyio.to_thread.run_sync(thread.join)
    assert [type(error) for error in caught] == [RuntimeError, RuntimeError]
    assert all("aiomanager.connect(url)" in str(error) for error in caught)
    assert await d.get("a") == 1


async def test_proxies_are_shared_by_pickle(manager: Manager) -> None:
    d = await manager.dict(a=1)
    other = pickle.loads(pickle.dumps(d))
    assert type(other) is type(d)
    await other.set("b", 2)
    assert await d.get("b") == 2
    blocking = pickle.loads(pickle.dumps(d.sync))
    assert type(blocking) is aiomanager.SyncDictProxy
    assert await anyio.to_thread.run_sync(blocking.copy) == {"a": 1, "b": 2}
    blocking._channel.close()
    # It uses this loop's connection, not one of its own.
    assert other._channel is d._channel


def use_elsewhere(backend: str, d: Any, q: Any, lock: Any) -> None:
    """Run in another process, on a loop of its own."""

    async def main() -> None:
        async with lock:
            await d.increment("n")
        await q.put((os.getpid(), await d.get("n")))

    async def managed() -> None:
        async with aiomanager.connect(d._channel.describe()):
            await main()

    anyio.run(main, backend=backend)
    # Another loop, after the first is over.
    anyio.run(managed, backend=backend)


async def test_proxies_in_another_process(manager: Manager, anyio_backend_name: str) -> None:
    d = await manager.dict(n=0)
    q = await manager.Queue()
    lock = await manager.Lock()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=use_elsewhere, args=(anyio_backend_name, d, q, lock))
    process.start()
    try:
        with anyio.fail_after(SECONDS):
            assert await q.get() == (process.pid, 1)
            assert await q.get() == (process.pid, 2)
    finally:
        await anyio.to_thread.run_sync(process.join)
    assert process.exitcode == 0
    process.close()
    assert not await lock.locked()


FORK = """
import asyncio, os, sys, threading, traceback, anyio, aiomanager

async def use(d):
    assert await d.increment("n") == 2
    return await d.get("n")

def child(d):
    # A loop of the child's own, in a thread: the parent's still runs here.
    found = []
    thread = threading.Thread(target=lambda: found.append(asyncio.run(use(d))))
    thread.start()
    thread.join()
    assert found == [2], found
    assert d.sync["n"] == 2

async def main():
    async with aiomanager.Manager() as manager, anyio.create_task_group() as group:
        d = await manager.dict(n=1)
        q = await manager.Queue()
        got = []

        async def get():
            got.append(await q.get())

        group.start_soon(get)
        while not (await manager.statistics())["waiting"]:
            pass
        pid = os.fork()
        if not pid:
            try:
                child(d)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        assert await anyio.to_thread.run_sync(os.waitpid, pid, 0) == (pid, 0)
        # The parent's connection is as it was.
        assert await d.get("n") == 2
        await q.put("x")
        while not got:
            await anyio.sleep(0.001)
        assert (await manager.statistics())["attached"] == 1

RUN
print("well")
"""


@pytest.mark.parametrize(
    "run",
    ["asyncio.run(main())", "import uvloop; uvloop.run(main())", "import trio; trio.run(main)"],
)
def test_a_forked_child_connects_anew(run: str) -> None:
    code = FORK.replace("RUN", run)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=2 * SECONDS,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "well\n"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_loop_that_ends_leaves_its_session(server: PrivateServer, backend: str) -> None:
    """A proxy from elsewhere connects by itself, and nobody closes that."""
    with aiomanager.sync.connect(server.address.url) as manager:
        before = manager.statistics()["attached"]
        lock = manager.Lock()
        data = pickle.dumps(lock.aio)

        async def use() -> None:
            assert await pickle.loads(data).acquire()
            assert manager.statistics()["attached"] == before + 1

        anyio.run(use, backend=backend)
        # In good order: at once, not after the grace.
        assert lock.acquire(timeout=2)
        assert manager.statistics()["attached"] == before


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there are no eager tasks")
def test_eager_tasks(server: PrivateServer) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
        async with aiomanager.connect(server.address.url) as manager:
            d, lock = await manager.dict(), await manager.Lock()
            assert sorted(await asyncio.gather(*[d.increment("n") for _ in range(20)])) == list(
                range(1, 21)
            )

            async def work() -> None:
                async with lock:
                    old = await d.get_item("n")
                    await d.set("n", old + 1)

            await asyncio.gather(*[work() for _ in range(20)])
            assert await d.get("n") == 40

    asyncio.run(main())


def test_a_proxy_outlives_its_loop(server: PrivateServer) -> None:
    with aiomanager.sync.connect(server.address.url) as manager:
        d = manager.dict(n=0).aio
        for n in range(3):
            assert asyncio.run(count(d)) == n + 1


async def count(d: Any) -> int:
    total: int = await d.increment("n")
    return total


@pytest.mark.parametrize("name", ["trio", "asyncio"])
def test_a_library_that_another_thread_is_importing(
    name: str, server: PrivateServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands in sys.modules from the first line on, with nothing in it."""
    with aiomanager.sync.connect(server.address.url) as manager:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
        d: Any = pickle.loads(pickle.dumps(manager.dict()))
        d["k"] = 1
        assert d["k"] == 1
        assert isinstance(d.aio, aiomanager.DictProxy)


class _Broken(asyncio.Transport):
    """A connection that breaks as soon as something was written."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = False

    def write(self, data: Any) -> None:
        pass

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return False

    def write_eof(self) -> None:
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))

    def abort(self) -> None:
        self.aborted = True


def test_the_last_words_on_a_connection_that_breaks() -> None:
    async def main() -> bool:
        channel: Any = SimpleNamespace(loop=asyncio.get_running_loop())
        connection = _asyncio._Connection(channel, cast("Any", None))
        connection.transport = broken = _Broken()
        connection.finish(b"bye")
        return broken.aborted

    # The reset may come between the last bytes and the end behind them.
    assert asyncio.run(main())
