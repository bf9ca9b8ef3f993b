"""Programs as users write them, which both type checkers must read as is said here; never run.

A wrong type is an error by `assert_type`, a mistake that goes unnoticed one by its needless ignore.
"""

import asyncio
from array import array
from collections.abc import Coroutine
from typing import Any, assert_type

import anyio
from tally import SyncTallyProxy, TallyProxy

import aiomanager
import aiomanager.sync
from aiomanager import (
    MISSING,
    ArrayProxy,
    BarrierProxy,
    BoundedSemaphoreProxy,
    ConditionProxy,
    DictProxy,
    EventProxy,
    JoinableQueueProxy,
    ListProxy,
    LockProxy,
    LockTableProxy,
    NamespaceProxy,
    PlaceView,
    QueueProxy,
    RLockProxy,
    SemaphoreProxy,
    SetProxy,
    SyncArrayProxy,
    SyncBarrierProxy,
    SyncBoundedSemaphoreProxy,
    SyncConditionProxy,
    SyncDictProxy,
    SyncEventProxy,
    SyncJoinableQueueProxy,
    SyncListProxy,
    SyncLockProxy,
    SyncLockTableProxy,
    SyncNamespaceProxy,
    SyncPlaceView,
    SyncQueueProxy,
    SyncRLockProxy,
    SyncSemaphoreProxy,
    SyncSetProxy,
    SyncValueProxy,
    ValueProxy,
)

# Managers


async def managers() -> None:
    async with aiomanager.Manager() as manager:
        assert_type(manager, aiomanager.Manager)
        assert_type(manager.url, str)
        assert_type(await manager.names(), dict[str, str])
        assert_type(await manager.delete("name"), None)
        assert_type(await manager.statistics(), dict[str, int])
        assert_type(await manager.collect(), int)
    async with aiomanager.connect("unix:///socket", authkey=b"k" * 16) as joined:
        assert_type(joined, aiomanager.Manager)
    started = await aiomanager.connect(("127.0.0.1", 5000)).start()
    assert_type(started, aiomanager.Manager)
    assert_type(await started.aclose(), None)


def sync_managers() -> None:
    with aiomanager.sync.Manager(allow_pickle=False) as manager:
        assert_type(manager, aiomanager.sync.Manager)
        assert_type(manager.url, str)
        assert_type(manager.names(), dict[str, str])
        assert_type(manager.delete("name"), None)
        assert_type(manager.statistics(), dict[str, int])
        assert_type(manager.collect(), int)
        assert_type(manager.close(), None)
    with aiomanager.sync.connect() as joined:
        assert_type(joined, aiomanager.sync.Manager)


# Factories


async def factories(m: aiomanager.Manager) -> None:
    assert_type(await m.dict({"a": 1}), DictProxy[str, int])
    pairs = [(1, "a")]
    assert_type(await m.dict(pairs), DictProxy[int, str])
    assert_type(await m.dict({"a": 1}, b=2), DictProxy[str, int])
    assert_type(await m.list([1, 2]), ListProxy[int])
    assert_type(await m.set([1, 2]), SetProxy[int])
    assert_type(await m.Value("i", 1), ValueProxy[int])
    assert_type(await m.Event(), EventProxy)
    assert_type(await m.Lock(), LockProxy)
    assert_type(await m.RLock(), RLockProxy)
    assert_type(await m.LockTable(), LockTableProxy[Any])
    assert_type(await m.Barrier(3, timeout=5), BarrierProxy)
    assert_type(await m.Condition(await m.Lock()), ConditionProxy)
    assert_type(await m.Semaphore(2), SemaphoreProxy)
    assert_type(await m.BoundedSemaphore(2), BoundedSemaphoreProxy)
    assert_type(await m.Queue(3), QueueProxy[Any])
    assert_type(await m.JoinableQueue(3), JoinableQueueProxy[Any])
    assert_type(await m.Namespace(a=1), NamespaceProxy)
    assert_type(await m.Array("i", [1]), ArrayProxy)
    assert_type(await m.Array("d", 3), ArrayProxy)
    assert_type(await m.dict(a=1), DictProxy[str, int])
    # What the arguments do not say, the annotation does; without one it is anything.
    assert_type(await m.dict(), DictProxy[Any, Any])
    assert_type(await m.list(), ListProxy[Any])
    assert_type(await m.set(), SetProxy[Any])
    empty_dict: DictProxy[str, int] = await m.dict()
    assert_type(empty_dict, DictProxy[str, int])
    empty_list: ListProxy[bytes] = await m.list()
    assert_type(empty_list, ListProxy[bytes])
    queue: QueueProxy[str] = await m.Queue(maxsize=3)
    assert_type(queue, QueueProxy[str])


async def named_factories(m: aiomanager.Manager) -> None:
    assert_type(await m.named.dict("d", {"a": 1}), DictProxy[str, int])
    assert_type(await m.named.list("l", [1]), ListProxy[int])
    assert_type(await m.named.set("s", [1]), SetProxy[int])
    assert_type(await m.named.Value("v", "i", 1), ValueProxy[int])
    assert_type(await m.named.Event("e"), EventProxy)
    assert_type(await m.named.Lock("k"), LockProxy)
    assert_type(await m.named.RLock("k"), RLockProxy)
    assert_type(await m.named.Barrier("b", 3, print), BarrierProxy)
    assert_type(await m.named.Condition("k"), ConditionProxy)
    assert_type(await m.named.Semaphore("k", 2), SemaphoreProxy)
    assert_type(await m.named.BoundedSemaphore("k", 2), BoundedSemaphoreProxy)
    assert_type(await m.named.dict("d", a=1), DictProxy[str, int])
    assert_type(await m.named.dict("d"), DictProxy[Any, Any])
    assert_type(await m.named.list("l"), ListProxy[Any])
    assert_type(await m.named.set("s"), SetProxy[Any])
    votes: DictProxy[str, int] = await m.named.dict("votes")
    assert_type(votes, DictProxy[str, int])
    assert_type(await m.named.Namespace("n", a=1), NamespaceProxy)
    assert_type(await m.named.Array("a", "i", [1]), ArrayProxy)
    jobs: JoinableQueueProxy[str] = await m.named.JoinableQueue("jobs")
    assert_type(jobs, JoinableQueueProxy[str])
    queue: QueueProxy[str] = await m.named.Queue("q", 3)
    assert_type(queue, QueueProxy[str])


def sync_factories(m: aiomanager.sync.Manager) -> None:
    assert_type(m.dict({"a": 1}), SyncDictProxy[str, int])
    pairs = [(1, "a")]
    assert_type(m.dict(pairs), SyncDictProxy[int, str])
    assert_type(m.dict({"a": 1}, b=2), SyncDictProxy[str, int])
    assert_type(m.list([1, 2]), SyncListProxy[int])
    assert_type(m.set([1, 2]), SyncSetProxy[int])
    assert_type(m.Value("i", 1), SyncValueProxy[int])
    assert_type(m.Event(), SyncEventProxy)
    assert_type(m.Lock(), SyncLockProxy)
    assert_type(m.RLock(), SyncRLockProxy)
    assert_type(m.Barrier(3), SyncBarrierProxy)
    assert_type(m.Condition(m.RLock()), SyncConditionProxy)
    assert_type(m.Semaphore(2), SyncSemaphoreProxy)
    assert_type(m.BoundedSemaphore(2), SyncBoundedSemaphoreProxy)
    assert_type(m.Queue(3), SyncQueueProxy[Any])
    assert_type(m.JoinableQueue(3), SyncJoinableQueueProxy[Any])
    assert_type(m.Namespace(a=1), SyncNamespaceProxy)
    assert_type(m.Array("i", [1]), SyncArrayProxy)
    assert_type(m.dict(a=1), SyncDictProxy[str, int])
    assert_type(m.dict(), SyncDictProxy[Any, Any])
    assert_type(m.list(), SyncListProxy[Any])
    assert_type(m.set(), SyncSetProxy[Any])
    empty_dict: SyncDictProxy[str, int] = m.dict()
    assert_type(empty_dict, SyncDictProxy[str, int])
    queue: SyncQueueProxy[str] = m.Queue()
    assert_type(queue, SyncQueueProxy[str])


def sync_named_factories(m: aiomanager.sync.Manager) -> None:
    assert_type(m.named.dict("d", {"a": 1}), SyncDictProxy[str, int])
    assert_type(m.named.dict("d", a=1), SyncDictProxy[str, int])
    assert_type(m.named.dict("d"), SyncDictProxy[Any, Any])
    assert_type(m.named.list("l"), SyncListProxy[Any])
    assert_type(m.named.set("s"), SyncSetProxy[Any])
    assert_type(m.named.list("l", [1]), SyncListProxy[int])
    assert_type(m.named.set("s", [1]), SyncSetProxy[int])
    assert_type(m.named.Value("v", "i", 1), SyncValueProxy[int])
    assert_type(m.named.Event("e"), SyncEventProxy)
    assert_type(m.named.Lock("k"), SyncLockProxy)
    assert_type(m.named.Namespace("n", a=1), SyncNamespaceProxy)
    assert_type(m.named.Array("a", "i", [1]), SyncArrayProxy)
    jobs: SyncJoinableQueueProxy[str] = m.named.JoinableQueue("jobs")
    assert_type(jobs, SyncJoinableQueueProxy[str])
    assert_type(m.named.RLock("k"), SyncRLockProxy)
    assert_type(m.named.LockTable("t"), SyncLockTableProxy[Any])
    assert_type(m.named.Barrier("b", 3), SyncBarrierProxy)
    assert_type(m.named.Condition("k"), SyncConditionProxy)
    assert_type(m.named.Semaphore("k", 2), SyncSemaphoreProxy)
    assert_type(m.named.BoundedSemaphore("k", 2), SyncBoundedSemaphoreProxy)
    queue: SyncQueueProxy[str] = m.named.Queue("q")
    assert_type(queue, SyncQueueProxy[str])


# Operations


async def dicts(d: DictProxy[str, int]) -> None:
    assert_type(await d.get("k"), int | None)
    assert_type(await d.get("k", None), int | None)
    assert_type(await d.get("k", 0), int)
    assert_type(await d.get("k", ""), int | str)
    assert_type(await d.get("k", default=b""), int | bytes)
    assert_type(await d.get_item("k"), int)
    assert_type(await d.set("k", 1), None)
    assert_type(await d.delete("k"), None)
    assert_type(await d.contains("k"), bool)
    assert_type(await d.length(), int)
    assert_type(await d.keys(), list[str])
    assert_type(await d.values(), list[int])
    assert_type(await d.items(), list[tuple[str, int]])
    assert_type(await d.copy(), dict[str, int])
    assert_type(await d.pop("k"), int)
    assert_type(await d.pop("k", None), int | None)
    assert_type(await d.pop("k", ""), int | str)
    assert_type(await d.popitem(), tuple[str, int])
    assert_type(await d.setdefault("k", 1), int)
    assert_type(await d.update({"k": 1}, more=2), None)
    assert_type(await d.update([("k", 1)]), None)
    assert_type(await d.clear(), None)
    assert_type(await d.get_many(["k", "l"]), dict[str, int])
    assert_type(await d.pop_many(("k", "l")), dict[str, int])
    assert_type(await d.delete_many(["k"]), int)
    assert_type(await d.increment("k"), int)
    assert_type(await d.increment("k", 2.5), int)
    assert_type(await d.increment_many({"k": 1, "l": 2}), dict[str, int])
    assert_type(await d.compare_and_set("k", 1, 2), bool)
    assert_type(await d.compare_and_set("k", MISSING, 2), bool)
    assert_type(await d.compare_and_set("k", 2, MISSING), bool)
    assert_type(await d.update_item("k", lambda value: value + 1, 0), int)
    assert_type(await d.get_nested(("k", 0, "x")), Any)
    assert_type(await d.update_nested(("k", 0), "anything"), None)
    assert_type(await d.contains_nested(("k", 0)), bool)
    assert_type(await d.append_nested(("k",), 1), int)
    async for key in d:
        assert_type(key, str)
    assert_type(d.sync, SyncDictProxy[str, int])


async def views(d: DictProxy[str, int], items: ListProxy[str], value: ValueProxy[int]) -> None:
    assert_type(d.cached(), DictProxy[str, int])
    assert_type(items.cached(2.5), ListProxy[str])
    assert_type(await value.cached().get(), int)
    place = d.at("row", 7)
    assert_type(place, PlaceView)
    assert_type(place.at("n").sync, SyncPlaceView)
    assert_type(await place.get(), Any)
    assert_type(await place.exists(), bool)
    assert_type(await place.set([1]), None)
    assert_type(await place.append(2), int)
    assert_type(await place.update({"k": 1}), None)
    assert_type(await place.compare_and_set(MISSING, 1), bool)
    assert_type(await place.length(), int)
    await d.mutate_nested(("row",), "clear")
    d.live()  # type: ignore[attr-defined]  # pyright: ignore


def sync_views(
    d: SyncDictProxy[str, list[int]], items: SyncListProxy[str], value: SyncValueProxy[int]
) -> None:
    live = d.live()
    assert_type(live, SyncDictProxy[str, list[int]])
    live["k"][0] = 1
    live["k"] += [2]
    assert_type(items.live().cached(1), SyncListProxy[str])
    assert_type(value.cached().value, int)
    place = d.at("row", 7)
    assert_type(place, SyncPlaceView)
    assert_type(place.aio, PlaceView)
    assert_type(place.exists(), bool)
    assert_type(place.append(1), int)
    assert_type(len(place), int)
    place["n"] = 1
    assert_type(place.set(1), None)


async def dicts_of_lists(d: DictProxy[str, list[int]]) -> None:
    assert_type(await d.extend_many({"k": [1], "l": []}), None)
    assert_type(await d.get("k", []), list[int])


def sync_dicts(d: SyncDictProxy[str, int]) -> None:
    assert_type(d.get("k"), int | None)
    assert_type(d.get("k", 0), int)
    assert_type(d.get("k", ""), int | str)
    assert_type(d["k"], int)
    assert_type("k" in d, bool)
    assert_type(len(d), int)
    assert_type(list(d), list[str])
    assert_type(dict(d.items()), dict[str, int])
    assert_type(dict(d), dict[str, int])
    assert_type({**d}, dict[str, int])
    assert_type(d | {"k": 1}, dict[str, int])
    assert_type(d.pop("k"), int)
    assert_type(d.pop("k", None), int | None)
    assert_type(d.items(), list[tuple[str, int]])
    assert_type(d.increment("k"), int)
    assert_type(d.increment_many({"k": 1}), dict[str, int])
    assert_type(d.compare_and_set("k", MISSING, 1), bool)
    assert_type(d.update_item("k", lambda value: value + 1), int)
    assert_type(d.aio, DictProxy[str, int])
    d["k"] = 1
    d |= {"k": 2}
    assert_type(d, SyncDictProxy[str, int])
    del d["k"]


async def lists(items: ListProxy[str]) -> None:
    assert_type(await items.get_item(0), str)
    assert_type(await items.get_slice(1, None), list[str])
    assert_type(await items.append("x"), None)
    assert_type(await items.extend(["x"]), None)
    assert_type(await items.pop(), str)
    assert_type(await items.length(), int)
    assert_type(await items.copy(), list[str])
    assert_type(await items.index("x"), int)
    assert_type(await items.contains("x"), bool)
    assert_type(await items.sort(key=len, reverse=True), None)
    assert_type(await items.compare_and_set(0, "x", "y"), bool)
    async for item in items:
        assert_type(item, str)
    assert_type(items.sync, SyncListProxy[str])


def sync_lists(items: SyncListProxy[str]) -> None:
    assert_type(items[0], str)
    assert_type(items[1:], list[str])
    assert_type(list(items), list[str])
    assert_type(items * 2, list[str])
    assert_type(len(items), int)
    assert_type(items.pop(0), str)
    items[0] = "x"
    items[1:] = ["x"]
    items += ["x"]
    assert_type(items, SyncListProxy[str])
    assert_type(items.aio, ListProxy[str])


async def values(value: ValueProxy[float]) -> None:
    assert_type(await value.get(), float)
    assert_type(await value.set(1.5), None)
    assert_type(await value.exchange(2.0), float)
    assert_type(await value.increment(), float)
    assert_type(await value.compare_and_set(1.0, 2.0), bool)
    assert_type(await value.update(lambda number: number * 2), float)
    assert_type(value.sync, SyncValueProxy[float])


def sync_values(value: SyncValueProxy[float]) -> None:
    assert_type(value.value, float)
    value.value = 2.5
    assert_type(value.get(), float)
    assert_type(value.aio, ValueProxy[float])


async def sets(elements: SetProxy[str]) -> None:
    assert_type(await elements.add("x"), None)
    assert_type(await elements.add_new("x"), bool)
    assert_type(await elements.pop(), str)
    assert_type(await elements.copy(), set[str])
    assert_type(await elements.union(["x"], {"y"}), set[str])
    assert_type(await elements.update(["x"], {"y"}), None)
    assert_type(await elements.issubset(["x"]), bool)
    async for element in elements:
        assert_type(element, str)
    assert_type(elements.sync, SyncSetProxy[str])


def sync_sets(elements: SyncSetProxy[str]) -> None:
    assert_type("x" in elements, bool)
    assert_type(len(elements), int)
    assert_type(list(elements), list[str])
    assert_type(elements | {"x"}, set[str])
    assert_type(elements - elements, set[str])
    assert_type(elements <= {"x"}, bool)
    assert_type(elements.difference(["x"]), set[str])
    elements |= {"y"}
    assert_type(elements, SyncSetProxy[str])
    assert_type(elements.aio, SetProxy[str])


async def namespaces(namespace: NamespaceProxy) -> None:
    assert_type(await namespace.get("x"), Any)
    assert_type(await namespace.set("x", [1]), None)
    assert_type(await namespace.delete("x"), None)
    assert_type(await namespace.names(), list[str])
    assert_type(await namespace.items(), list[tuple[str, Any]])
    assert_type(await namespace.update({"x": 1}, y=2), None)
    assert_type(await namespace.compare_and_set("x", MISSING, 1), bool)
    assert_type(namespace.sync, SyncNamespaceProxy)


def sync_namespaces(namespace: SyncNamespaceProxy) -> None:
    namespace.x = 1
    assert_type(namespace.y, Any)
    del namespace.x
    methods = aiomanager.sync.operations(namespace)
    assert_type(methods.increment("x"), Any)
    assert_type(methods.copy(), dict[str, Any])
    assert_type(methods.aio, NamespaceProxy)


async def arrays(numbers: ArrayProxy) -> None:
    assert_type(await numbers.get_item(0), Any)
    assert_type(await numbers.get_slice(1, 2), Any)
    assert_type(await numbers.set(0, 1.5), None)
    assert_type(await numbers.set_slice([1, 2], 3), None)
    assert_type(await numbers.fill(0), None)
    assert_type(await numbers.length(), int)
    assert_type(await numbers.typecode(), str)
    assert_type(await numbers.compare_and_set(0, 1, 2), bool)
    async for number in numbers:
        assert_type(number, Any)
    assert_type(numbers.sync, SyncArrayProxy)


def sync_arrays(numbers: SyncArrayProxy) -> None:
    assert_type(numbers[0], Any)
    assert_type(numbers[1:], array[Any])
    assert_type(len(numbers), int)
    numbers[0] = 1
    numbers[1:] = array("i", [2, 3])
    assert_type(numbers.aio, ArrayProxy)


async def queues(queue: QueueProxy[str]) -> None:
    assert_type(await queue.put("x"), None)
    assert_type(await queue.put("x", timeout=1.5), None)
    assert_type(await queue.put_many(["x", "y"]), None)
    assert_type(await queue.get(), str)
    assert_type(await queue.get(timeout=2), str)
    assert_type(await queue.get_nowait(), str)
    assert_type(await queue.get_many(10), list[str])
    assert_type(await queue.get_delivery(), tuple[str, bool])
    assert_type(await queue.qsize(), int)
    assert_type(await queue.task_done(), None)
    assert_type(await queue.join(), None)
    assert_type(await queue.shutdown(immediate=True), None)
    async for item in queue:
        assert_type(item, str)
    assert_type(queue.sync, SyncQueueProxy[str])


def sync_queues(queue: SyncQueueProxy[str]) -> None:
    assert_type(queue.put("x", block=False), None)
    assert_type(queue.get(), str)
    assert_type(queue.get_many(10, timeout=1), list[str])
    assert_type(queue.get_delivery(), tuple[str, bool])
    assert_type(list(queue), list[str])
    assert_type(queue.aio, QueueProxy[str])


async def joinable_queues(queue: JoinableQueueProxy[str]) -> None:
    assert_type(await queue.get(), str)
    assert_type(await queue.task_done(), None)
    assert_type(await queue.join(), None)
    assert_type(queue.sync, SyncJoinableQueueProxy[str])
    assert_type(queue.sync.aio, JoinableQueueProxy[str])


async def locks(lock: LockProxy) -> None:
    async with lock as held:
        assert_type(held, LockProxy)
        assert_type(held.fence, int)
    assert_type(await lock.acquire(), bool)
    assert_type(await lock.acquire(timeout=1.5, owner="job 7"), bool)
    assert_type(await lock.acquire_fenced(blocking=False), int)
    try:
        await lock.acquire()
    except aiomanager.DeadlockDetected as error:
        refused: RuntimeError = error
        assert_type(str(refused), str)
    assert_type(await lock.release(), None)
    assert_type(await lock.locked(), bool)
    assert_type(await lock.holder(), tuple[str, float, int] | None)
    assert_type(lock.sync, SyncLockProxy)


async def rlocks(lock: RLockProxy) -> None:
    async with lock as held:
        assert_type(held, RLockProxy)
    assert_type(await lock.acquire(), bool)
    assert_type(await lock.release(owner="job 7"), None)
    assert_type(lock.sync, SyncRLockProxy)
    with lock.sync as acquired:
        assert_type(acquired, bool)
    assert_type(lock.sync.acquire(timeout=1), bool)
    assert_type(lock.sync.fence, int)


async def conditions(condition: ConditionProxy) -> None:
    async def later() -> list[int]:
        return [1]

    async with condition as held:
        assert_type(held, ConditionProxy)
        assert_type(await condition.wait(1.5), bool)
        assert_type(await condition.wait_for(lambda: 1, timeout=2), int)
        assert_type(await condition.wait_for(later), list[int])
        assert_type(await condition.notify(2), None)
        assert_type(await condition.notify_all(), None)
    assert_type(condition.sync, SyncConditionProxy)
    with condition.sync:
        assert_type(condition.sync.wait(), bool)
        assert_type(condition.sync.wait_for(lambda: "x"), str)


async def barriers(barrier: BarrierProxy) -> None:
    assert_type(await barrier.wait(1.5), int)
    assert_type(await barrier.parties(), int)
    assert_type(await barrier.n_waiting(), int)
    assert_type(await barrier.broken(), bool)
    assert_type(await barrier.reset(), None)
    assert_type(barrier.sync, SyncBarrierProxy)
    assert_type(barrier.sync.wait(), int)
    assert_type(barrier.sync.parties, int)
    assert_type(barrier.sync.broken, bool)


async def lock_tables(table: LockTableProxy[str]) -> None:
    async with table("a", "b", timeout=1.5) as held:
        assert_type(held.fence, int)
    assert_type(await table.acquire("a", "b", owner="job 7"), bool)
    assert_type(await table.release("a", "b", owner="job 7"), None)
    assert_type(await table.locked("a"), bool)
    assert_type(await table.holders(), dict[str, tuple[str, float, int]])
    assert_type(table.sync, SyncLockTableProxy[str])
    with table.sync("a") as held_here:
        assert_type(held_here.fence, int)
    assert_type(table.sync.acquire("a", timeout=0), bool)


async def semaphores(semaphore: SemaphoreProxy, bounded: BoundedSemaphoreProxy) -> None:
    async with semaphore, bounded:
        pass
    assert_type(await semaphore.acquire(timeout=1.5, lease=10), bool)
    assert_type(await semaphore.renew(10), None)
    assert_type(await semaphore.release(), None)
    assert_type(await semaphore.value(), int)
    assert_type(await semaphore.holders(), list[tuple[str, float]])
    assert_type(semaphore.sync, SyncSemaphoreProxy)
    assert_type(bounded.sync, SyncBoundedSemaphoreProxy)
    with bounded.sync as acquired:
        assert_type(acquired, bool)
    assert_type(bounded.sync.acquire(False), bool)


def sync_locks(lock: SyncLockProxy) -> None:
    with lock as acquired:
        assert_type(acquired, bool)
    assert_type(lock.acquire(timeout=1), bool)
    assert_type(lock.release(owner="job 7"), None)
    assert_type(lock.fence, int)
    assert_type(lock.aio, LockProxy)


async def events(event: EventProxy) -> None:
    assert_type(await event.wait(), bool)
    assert_type(await event.wait(timeout=1), bool)
    assert_type(await event.set(), None)
    assert_type(await event.clear(), None)
    assert_type(await event.is_set(), bool)
    assert_type(event.sync, SyncEventProxy)


def sync_events(event: SyncEventProxy) -> None:
    assert_type(event.wait(0.5), bool)
    assert_type(event.is_set(), bool)
    assert_type(event.aio, EventProxy)


# A coroutine may be made in one place and awaited in another.


async def coroutines(d: DictProxy[str, int], queue: QueueProxy[str]) -> None:
    later: Coroutine[Any, Any, int] = d.get_item("k")
    assert_type(await later, int)
    assert_type(await asyncio.gather(d.length(), queue.get()), tuple[int, str])
    assert_type(await asyncio.wait_for(queue.get(), 1.5), str)
    async with asyncio.TaskGroup() as group:
        assert_type(group.create_task(queue.get()), asyncio.Task[str])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(d.set, "k", 1)
        tasks.start_soon(d.set, 1, 1)  # type: ignore[arg-type]  # pyright: ignore


# A user's own type


async def own_type(m: aiomanager.Manager) -> None:
    tally = await m.create(TallyProxy, ["ann", "bob"], seats=2)
    assert_type(tally, TallyProxy)
    assert_type(await m.named.create(TallyProxy, "election", ["ann"]), TallyProxy)
    assert_type(await tally.vote("ann"), int)
    assert_type(await tally.vote("ann", owner="bob"), int)
    assert_type(await tally.votes(), dict[str, int])
    assert_type(await tally.wait(2, timeout=1.5), int)
    assert_type(await tally.take_seat(), bool)
    assert_type(await tally.winner(), str)
    assert_type(tally.sync, SyncTallyProxy)


def own_type_blocking(m: aiomanager.sync.Manager) -> None:
    tally = m.create(SyncTallyProxy, ["ann", "bob"])
    assert_type(tally, SyncTallyProxy)
    assert_type(m.named.create(SyncTallyProxy, "election", ["ann"]), SyncTallyProxy)
    assert_type(tally.vote("ann"), int)
    assert_type(tally.wait(2), int)
    assert_type(tally.take_seat(), bool)
    assert_type(tally.winner(), str)
    assert_type(tally.aio, TallyProxy)


# Mistakes that are found before the program runs


async def forgotten_await(d: DictProxy[str, int], queue: QueueProxy[str], lock: LockProxy) -> None:
    d.set("k", 1)  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
    queue.put("x")  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
    lock.release()  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
    total: int = d.get_item("k")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    print(total, 1 + d.get_item("k"))  # type: ignore[operator]  # pyright: ignore


async def cannot_be_awaited(
    d: DictProxy[str, int],
    items: ListProxy[str],
    value: ValueProxy[int],
    lock: LockProxy,
    namespace: NamespaceProxy,
) -> None:
    print(namespace.x)  # type: ignore[attr-defined]  # pyright: ignore
    namespace.x = 1  # type: ignore[attr-defined]  # pyright: ignore
    d["k"]  # type: ignore[index]  # pyright: ignore
    d["k"] = 1  # type: ignore[index]  # pyright: ignore[reportIndexIssue]
    del d["k"]  # type: ignore[attr-defined]  # pyright: ignore[reportIndexIssue]
    len(d)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    print("k" in d)  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]
    for key in d:  # type: ignore[attr-defined]  # pyright: ignore
        del key
    with lock:  # type: ignore[attr-defined]  # pyright: ignore
        pass
    print(value.value)  # type: ignore[attr-defined]  # pyright: ignore
    value.value = 5  # type: ignore[attr-defined]  # pyright: ignore
    d.colour = 5  # type: ignore[attr-defined]  # pyright: ignore
    print(d | {"k": 1})  # type: ignore[operator]  # pyright: ignore
    print(items + items, 2 * items)  # type: ignore[operator]  # pyright: ignore
    print(dict(d))  # type: ignore[call-overload]  # pyright: ignore
    with aiomanager.Manager():  # type: ignore[attr-defined]  # pyright: ignore
        pass


async def wrong_types(
    d: DictProxy[str, int], queue: QueueProxy[str], m: aiomanager.Manager
) -> None:
    await d.set("k", "x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await d.get(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await d.increment("k", "x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await d.no_such_operation()  # type: ignore[attr-defined]  # pyright: ignore
    await queue.put(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await queue.get(patience=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await m.create(SyncTallyProxy)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]


def wrong_types_blocking(d: SyncDictProxy[str, int], m: aiomanager.sync.Manager) -> None:
    d["k"] = "x"  # type: ignore[assignment]  # pyright: ignore[reportArgumentType]
    d.set(1, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    m.create(TallyProxy)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]


async def blocking_is_not_awaited(d: SyncDictProxy[str, int]) -> None:
    await d.get_item("k")  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
