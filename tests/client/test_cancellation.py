"""A cancelled call loses no item, keeps no lock and leaves nobody waiting, whenever it comes.

The first half runs against a server process. The second stops a call at each tick of its life,
alone and together with what races it: the item that arrives, the release, a connection that
breaks. There the server is in this process, and each hop takes one tick of the loop.
"""

import asyncio
import gc
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

import aiomanager
from aiomanager.client._async import SILENCE
from aiomanager.errors import SessionLost, ShutDown
from aiomanager.objects.dict import Dict
from aiomanager.objects.event import Event
from aiomanager.objects.lock import Lock
from aiomanager.objects.queue import Queue
from aiomanager.server.process import PrivateServer
from aiomanager.sessions.store import Manager as SharedManager

from .helpers import SECONDS, Task, start, until, waiting
from .memory import Client, Memory, ticks

Manager = aiomanager.Manager
ASYNCIO = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
]
asyncio_only = pytest.mark.parametrize("anyio_backend", ASYNCIO, indirect=True, scope="module")


# Against a server process


async def test_a_cancelled_get_leaves_the_item(manager: Manager) -> None:
    q = await manager.Queue()
    async with anyio.create_task_group() as group:
        first = start(group, q.get)
        await waiting(manager, 1)
        second = start(group, q.get)
        await waiting(manager, 2)
        await first.end()
        assert (await manager.statistics())["waiting"] == 1
        await q.put("item")
        assert await second.result() == "item"
        third = start(group, q.get)
        await waiting(manager, 1)
        await third.end()
    # It ended when the server had taken the call back, not before.
    assert (await manager.statistics())["waiting"] == 0
    await q.put("next")
    assert await q.get_delivery() == ("next", False)


async def test_a_cancelled_put_puts_nothing(manager: Manager) -> None:
    q = await manager.Queue(1)
    await q.put("a")
    async with anyio.create_task_group() as group:
        putter = start(group, lambda: q.put("b"))
        await waiting(manager, 1)
        await putter.end()
    assert await q.get() == "a"
    assert await q.empty()
    await waiting(manager, 0)


async def test_a_cancelled_acquire_passes_the_lock_on(manager: Manager) -> None:
    lock = await manager.Lock()
    await lock.acquire()
    async with anyio.create_task_group() as group:
        first = start(group, lock.acquire)
        await waiting(manager, 1)
        # Its lock outlives the task.
        second = start(group, lambda: lock.acquire(owner="second"))
        await waiting(manager, 2)
        await first.end()
        await lock.release()
        assert await second.result()
        third = start(group, lock.acquire)
        await waiting(manager, 1)
        await third.end()
        assert (await manager.statistics())["waiting"] == 0


async def test_a_server_that_is_stopped_holds_up_nobody_who_is_cancelled(
    server: PrivateServer,
) -> None:
    async with aiomanager.connect(server.address.url) as manager:
        q, lock = await manager.Queue(), await manager.Lock()
        os.kill(server.pid, signal.SIGSTOP)
        try:
            with anyio.fail_after(SECONDS):
                for wait in (q.get, lock.acquire):
                    with anyio.move_on_after(0.01) as scope:
                        await wait()
                    assert scope.cancelled_caught
        finally:
            os.kill(server.pid, signal.SIGCONT)
        # What it was asked meanwhile is taken back before anything that comes now.
        await q.put("item")
        assert await q.get_delivery() == ("item", False)
        assert not await lock.locked()
        assert (await manager.statistics())["waiting"] == 0


async def test_who_must_have_a_lock_again_waits_for_it_though_cancelled(manager: Manager) -> None:
    condition, released = await manager.Condition(), anyio.Event()

    async def sleep() -> None:
        async with condition:
            with anyio.CancelScope() as scope:
                scopes.append(scope)
                await condition.wait()
            released.set()

    scopes: list[anyio.CancelScope] = []
    async with anyio.create_task_group() as group:
        group.start_soon(sleep)
        await waiting(manager, 1)
        async with condition:
            scopes[0].cancel()
            # Longer than a silent server would be waited for: this one is not silent.
            await anyio.sleep(1.3 * SILENCE)
            assert not released.is_set()
        with anyio.fail_after(SECONDS):
            await released.wait()
    assert not await condition.locked()


async def test_cancelled_waits_for_an_event_and_for_a_queue(manager: Manager) -> None:
    event, q = await manager.Event(), await manager.Queue()
    await q.put(1)
    async with anyio.create_task_group() as group:
        for wait in (event.wait, q.join):
            task = start(group, wait)
            await waiting(manager, 1)
            await task.end()
            assert (await manager.statistics())["waiting"] == 0
    await event.set()
    assert await event.wait()


async def test_time_limits_of_anyio(manager: Manager) -> None:
    q, lock = await manager.Queue(), await manager.Lock()
    with anyio.move_on_after(0.01) as scope:
        await q.get()
    assert scope.cancelled_caught
    with pytest.raises(TimeoutError):
        with anyio.fail_after(0.01):
            await q.get()
    await lock.acquire(owner="other")
    with anyio.move_on_after(0.01) as scope:
        async with lock:
            raise AssertionError("the lock is another's")
    assert scope.cancelled_caught
    assert (await manager.statistics())["waiting"] == 0
    await q.put("item")
    assert await q.get() == "item"
    await lock.release(owner="other")
    assert await lock.acquire(blocking=False)


async def test_a_cancelled_group_takes_all_its_calls_back(manager: Manager) -> None:
    q, lock, event = await manager.Queue(), await manager.Lock(), await manager.Event()
    await lock.acquire(owner="other")
    async with anyio.create_task_group() as group:
        for _ in range(200):
            group.start_soon(q.get)
            group.start_soon(lock.acquire)
            group.start_soon(event.wait)
        await waiting(manager, 600)
        group.cancel_scope.cancel()
    assert (await manager.statistics())["waiting"] == 0


async def test_a_manager_whose_block_is_cancelled_leaves_in_good_order(manager: Manager) -> None:
    lock = await manager.Lock()
    before = (await manager.statistics())["attached"]
    with anyio.CancelScope() as scope:
        async with aiomanager.connect(manager.url) as other:
            theirs = await other.named.Lock("theirs")
            await theirs.acquire()
            scope.cancel()
            await lock.acquire()
    assert scope.cancelled_caught
    assert (await manager.statistics())["attached"] == before
    # At once, not after the grace of a session that is lost.
    assert await (await manager.named.Lock("theirs")).acquire(blocking=False)
    await manager.delete("theirs")
    assert await lock.acquire(blocking=False)


async def test_calls_in_a_scope_that_is_cancelled_already(manager: Manager) -> None:
    q = await manager.Queue()
    await q.put("item")
    with anyio.CancelScope() as scope:
        scope.cancel()
        await q.get()
    assert scope.cancelled_caught
    assert (await manager.statistics())["waiting"] == 0
    assert await q.get_nowait() == "item"


async def test_a_cancelled_call_that_was_not_sent_yet_is_not_executed(manager: Manager) -> None:
    """Behind a full window; the cancelled ones are never sent."""
    d = await manager.dict()
    large = "x" * 100_000
    async with anyio.create_task_group() as group:
        tasks = [start(group, partial(d.set, n, large)) for n in range(200)]
        await checkpoint()
        last = start(group, lambda: d.set("last", 1))
        await checkpoint()
        await last.end()
        for task in tasks:
            await task.result()
    assert await d.length() == 200


async def test_a_cancelled_factory_leaves_no_object(manager: Manager) -> None:
    before = (await manager.statistics())["objects"]
    for _ in range(30):
        for steps in range(12):
            async with anyio.create_task_group() as group:
                task = start(group, manager.dict)
                await ticks(steps)
                task.cancel()
    del task
    gc.collect()

    async def freed() -> bool:
        # Some of before may be freed as well.
        return (await manager.statistics())["objects"] <= before

    await until(freed, "what nobody got should be freed")


@asyncio_only
async def test_time_limits_of_asyncio(manager: Manager) -> None:
    q, lock = await manager.Queue(), await manager.Lock()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(q.get(), 0.01)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await q.get()
    await lock.acquire(owner="other")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(lock.acquire(), 0.01)
    assert (await manager.statistics())["waiting"] == 0
    await q.put(1)
    assert await asyncio.wait_for(q.get(), SECONDS) == 1
    await lock.release(owner="other")
    # The owner is this task, also where wait_for makes another one.
    assert await asyncio.wait_for(lock.acquire(), SECONDS)
    await lock.release()


@asyncio_only
async def test_gather_and_shield(manager: Manager) -> None:
    q = await manager.Queue()
    d = await manager.dict()
    await asyncio.gather(*[d.set(n, n) for n in range(50)])
    assert await asyncio.gather(*[d.get(n) for n in range(50)]) == list(range(50))
    everything = asyncio.gather(q.get(), q.get())
    await waiting(manager, 2)
    everything.cancel()
    with pytest.raises(asyncio.CancelledError):
        await everything
    assert (await manager.statistics())["waiting"] == 0
    getter = asyncio.ensure_future(q.get())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await asyncio.shield(getter)
    await waiting(manager, 1)
    await q.put("item")
    assert await getter == "item"


@asyncio_only
async def test_a_task_that_is_cancelled_over_and_over(manager: Manager) -> None:
    q = await manager.Queue()
    for times in range(2, 6):
        task = asyncio.ensure_future(q.get())
        await waiting(manager, 1)
        asked = 0
        for _ in range(times):
            asked += task.cancel()
            await checkpoint()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelling() == asked
        assert (await manager.statistics())["waiting"] == 0
    await q.put("item")
    assert await q.get_nowait() == "item"


@asyncio_only
async def test_a_time_limit_inside_a_cancelled_task(manager: Manager) -> None:
    """Both at once: the time limit does not hide that the task was cancelled."""
    q = await manager.Queue()
    timeout = asyncio.timeout(None)

    async def work() -> None:
        async with timeout:
            await q.get()

    task = asyncio.ensure_future(work())
    await waiting(manager, 1)
    timeout.reschedule(0)
    await checkpoint()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await manager.statistics())["waiting"] == 0


@asyncio_only
async def test_a_scope_of_anyio_inside_a_cancelled_task(manager: Manager) -> None:
    q = await manager.Queue()
    scope = anyio.CancelScope()

    async def work() -> None:
        with scope:
            await q.get()
        raise AssertionError("the scope has hidden that the task was cancelled")

    task = asyncio.ensure_future(work())
    await waiting(manager, 1)
    scope.cancel()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await manager.statistics())["waiting"] == 0


@asyncio_only
async def test_a_coroutine_that_is_thrown_away(manager: Manager) -> None:
    """Closed in the middle of a call, it cannot wait; the call is taken back all the same."""
    q = await manager.Queue()
    getting = q.get()
    getting.send(None)
    await waiting(manager, 1)
    getting.close()
    await waiting(manager, 0)
    await q.put("item")
    assert await q.get_nowait() == "item"


# At each tick


LIFE = 16
"""Ticks after which a call of these tests has come to its end by itself."""


async def settle(clients: list[Client]) -> None:
    """Let everything happen that is under way."""
    await ticks(6)
    with anyio.fail_after(SECONDS):
        while clients[0].waiting() or any(client.channel._connection is None for client in clients):
            await checkpoint()
    await ticks(6)
    assert not clients[0].memory.hands.faults
    for client in clients:
        channel = client.channel
        assert channel._session is not None
        assert not channel._session.calls
        assert not channel._session.cancelling
        assert not channel._missed


async def race(
    group: Any, call: Callable[[], Coroutine[Any, Any, Any]], at: int, rival: Any, rival_at: int
) -> Task[Any]:
    """Start a call, cancel it at one tick, and have its rival act at another."""
    task = start(group, call)
    for tick in range(max(at, rival_at) + 1):
        if tick == rival_at:
            made = rival()
            if isinstance(made, Awaitable):
                group.start_soon(start_now, made)
        if tick == at:
            task.cancel()
        await checkpoint()
    await task.over.wait()
    return task


async def start_now(made: Awaitable[Any]) -> None:
    await made


async def test_get_cancelled_at_each_tick() -> None:
    outcomes: set[bool] = set()
    for at in range(LIFE):
        async with Memory().client() as client, anyio.create_task_group() as group:
            q = await client.make(Queue)
            await q.put("item")
            task = await race(group, q.get, at, lambda: None, 0)
            await settle([client])
            outcomes.add(task.cancelled)
            if task.cancelled:
                assert await q.get_nowait() == "item"
            else:
                assert await task.result() == "item"
                assert await q.empty()
    assert outcomes == {True, False}


async def test_a_cancelled_task_goes_on_when_the_server_has_taken_the_call_back() -> None:
    async with Memory().client() as client, anyio.create_task_group() as group:
        q, lock, event = [await client.make(kind) for kind in (Queue, Lock, Event)]
        await lock.acquire(owner="other")
        for wait in (q.get, lock.acquire, event.wait):
            task = start(group, wait)
            await until_waiting(client, 1)
            task.cancel()
            await task.over.wait()
            # Not a tick later: the server is in this process.
            assert client.waiting() == 0
            assert task.cancelled


async def test_get_cancelled_while_the_item_arrives() -> None:
    """Each tick of the one with each of the other; the same tick as well."""
    outcomes: set[bool] = set()
    for at in range(LIFE):
        for put_at in range(LIFE):
            memory = Memory()
            async with memory.client() as one, memory.client() as two:
                q = await one.make(Queue)
                other = two.same(q)
                async with anyio.create_task_group() as group:
                    task = await race(group, q.get, at, partial(other.put, "item"), put_at)
                await settle([one, two])
                outcomes.add(task.cancelled)
                if task.cancelled:
                    assert await other.get_nowait() == "item"
                else:
                    assert await task.result() == "item"
                assert await other.empty()
    assert outcomes == {True, False}


async def test_put_cancelled_while_room_is_made() -> None:
    outcomes: set[bool] = set()
    for at in range(LIFE):
        for get_at in range(0, LIFE, 2):
            memory = Memory()
            async with memory.client() as one, memory.client() as two:
                q = await one.make(Queue, 1)
                await q.put("first")
                other = two.same(q)
                async with anyio.create_task_group() as group:
                    task = await race(group, partial(q.put, "second"), at, other.get, get_at)
                await settle([one, two])
                outcomes.add(task.cancelled)
                items = await other.qsize()
                # A put that was done before it could be taken back may end as cancelled.
                assert items == 1 if not task.cancelled else items in (0, 1)
                await other.shutdown()
                if items:
                    assert await q.get() == "second"
                with pytest.raises(ShutDown):
                    await q.get()
    assert outcomes == {True, False}


async def test_acquire_cancelled_while_the_lock_is_released() -> None:
    outcomes: set[bool] = set()
    for at in range(LIFE):
        for release_at in range(LIFE):
            memory = Memory()
            async with memory.client() as one, memory.client() as two:
                lock = await one.make(Lock)
                other = two.same(lock)
                await other.acquire(owner="other")
                async with anyio.create_task_group() as group:
                    task = await race(
                        group,
                        partial(lock.acquire, owner="mine"),
                        at,
                        partial(other.release, owner="other"),
                        release_at,
                    )
                await settle([one, two])
                outcomes.add(task.cancelled)
                if not task.cancelled:
                    assert await lock.locked()
                    await lock.release(owner="mine")
                assert await other.acquire(blocking=False)
    assert outcomes == {True, False}


async def test_a_cancelled_getter_passes_the_item_to_the_next() -> None:
    for at in range(LIFE):
        memory = Memory()
        async with memory.client() as one, memory.client() as two:
            q = await one.make(Queue)
            other = two.same(q)
            async with anyio.create_task_group() as group:
                first = start(group, q.get)
                await until_waiting(one, 1)
                second = start(group, other.get)
                await until_waiting(one, 2)
                group.start_soon(other.put, "item")
                await ticks(at)
                first.cancel()
                await first.over.wait()
                if not first.cancelled:
                    assert await first.result() == "item"
                    await other.put("more")
                    assert await second.result() == "more"
                else:
                    assert await second.result() == "item"
            await settle([one, two])


async def until_waiting(client: Client, count: int) -> None:
    with anyio.fail_after(SECONDS):
        while client.waiting() != count:
            await checkpoint()


@pytest.mark.parametrize(
    ("up", "down"), [(True, True), (True, False), (False, True), (False, False)]
)
async def test_cancelled_while_the_connection_breaks(up: bool, down: bool) -> None:
    """What is under way arrives or not, in each direction; the item is in one place in the end."""
    outcomes: set[bool] = set()
    for at in range(0, LIFE):
        for cut_at in range(0, LIFE):
            memory = Memory()
            async with memory.client() as one, memory.client() as two:
                q = await one.make(Queue)
                other = two.same(q)
                await other.put("item")
                async with anyio.create_task_group() as group:
                    task = await race(group, q.get, at, partial(one.wire.cut, up, down), cut_at)
                await settle([one, two])
                outcomes.add(task.cancelled)
                if task.cancelled:
                    assert await other.get_nowait() == "item"
                else:
                    assert await task.result() == "item"
                assert await other.empty()
    assert outcomes == {True, False}


@pytest.mark.parametrize(("up", "down"), [(True, False), (False, True)])
async def test_calls_while_the_connection_breaks(up: bool, down: bool) -> None:
    """Each takes effect once, and in order."""
    for cut_at in range(LIFE):
        memory = Memory()
        async with memory.client() as one, memory.client() as two:
            d = await one.make(Dict)
            async with anyio.create_task_group() as group:
                tasks = []
                for tick in range(LIFE):
                    if tick == cut_at:
                        one.wire.cut(up, down)
                    tasks.append(start(group, partial(d.increment, "n")))
                    await checkpoint()
                assert [await task.result() for task in tasks] == list(range(1, LIFE + 1))
            assert await two.same(d).get("n") == LIFE


async def test_a_grant_that_was_lost_before_its_task_could_run() -> None:
    """The server has taken it back: it must not look as if it were had."""
    memory = Memory()
    async with memory.client() as one, memory.client() as two:
        q = await one.make(Queue)
        other = two.same(q)
        await q.put("item")
        channel = two.channel
        receive = channel.data_received

        def receive_and_lose(connection: Any, data: bytes) -> None:
            receive(connection, data)
            two.wire.session.finish()
            channel._lose(SessionLost("the server forgot it"))

        channel.data_received = receive_and_lose  # type: ignore[method-assign]
        with pytest.raises(SessionLost, match="taken back"):
            await other.get()
        channel.data_received = receive  # type: ignore[method-assign]
        assert await q.get_delivery() == ("item", True)


async def test_a_proxy_counts_from_its_first_use() -> None:
    memory = Memory()
    async with memory.client() as one, memory.client() as two:
        d = await one.make(Dict)
        other = two.same(d)
        assert await other.length() == 0
        number = d._reference.object_id
        del d
        gc.collect()
        one.channel._flush_soon()
        await ticks(LIFE)
        assert memory.core.store.entries[number].references == 1
        assert await other.length() == 0
        del other
        gc.collect()
        two.channel._flush_soon()
        await ticks(LIFE)
        assert number not in memory.core.store.entries


async def test_aclose_returns_when_the_server_has_ended_the_session() -> None:
    memory = Memory()
    async with memory.client() as client:
        lock = await client.make(Lock)
        assert await lock.acquire()
        assert len(memory.core.sessions) == 1
    assert not memory.core.sessions
    assert client.wire.lost


async def test_connections_that_are_lost_before_they_are_of_use() -> None:
    memory = Memory()
    memory.stillborn = 2
    async with memory.client() as client:
        d = await client.make(Dict)
        assert await d.increment("n") == 1
        memory.stillborn = 2
        client.wire.cut(False, False)
        assert await d.increment("n") == 2
    assert memory.stillborn == 0


async def test_a_factory_cancelled_at_each_tick_leaves_no_object() -> None:
    outcomes: set[bool] = set()
    for at in range(LIFE):
        memory = Memory()
        async with memory.client() as client:
            async with anyio.create_task_group() as group:
                task = await race(group, partial(client.make, Event), at, lambda: None, 0)
            outcomes.add(task.cancelled)
            kept = 0 if task.cancelled else 1
            await settle([client])
            with anyio.fail_after(SECONDS):
                while memory.core.count()["objects"] != kept:
                    client.channel._flush_soon()
                    await checkpoint()
    assert outcomes == {True, False}


async def test_a_proxy_in_an_answer_that_nobody_gets_is_let_go() -> None:
    for at in range(LIFE):
        memory = Memory()
        async with memory.client() as client:
            d = await client.make(Dict)
            await d.set("inner", await client.make(Event))
            async with anyio.create_task_group() as group:
                await race(group, partial(d.get, "inner"), at, lambda: None, 0)
            await d.clear()
            with anyio.fail_after(SECONDS):
                while memory.core.count()["objects"] != 1:
                    gc.collect()
                    client.channel._flush_soon()
                    await checkpoint()


async def test_an_item_that_cannot_be_opened_goes_back() -> None:
    memory = Memory()
    async with memory.client() as one, memory.client() as two:
        q = await one.make(Queue)
        other = two.same(q)
        await q.put(Exception("opaque"))
        two.channel._plans.of(Queue.operations["get"]).decode_result = refuse
        with pytest.raises(ValueError, match="may not open"):
            await other.get()
        assert two.waiting() == 0
        assert str(await q.get_nowait()) == "opaque"


def refuse(_wire: Any) -> Any:
    raise ValueError("this client may not open that")


@asyncio_only
async def test_get_cancelled_twice_at_each_pair_of_ticks() -> None:
    outcomes: set[bool] = set()
    for at in range(LIFE):
        for again_at in range(at, LIFE):
            async with Memory().client() as client:
                q = await client.make(Queue)
                await q.put("item")
                left: list[int] = []
                task = asyncio.ensure_future(noting(q.get, client, left))
                for tick in range(LIFE):
                    if tick == at:
                        task.cancel()
                    if tick == again_at:
                        task.cancel()
                    await checkpoint()
                await asyncio.wait((task,))
                await settle([client])
                outcomes.add(task.cancelled())
                if task.cancelled():
                    # The second one did not end it before the server had taken the call back.
                    assert left in ([0], [])
                    assert await q.get_nowait() == "item"
                else:
                    assert task.result() == "item"
                    assert await q.empty()
    assert outcomes == {True, False}


async def noting(call: Callable[[], Awaitable[Any]], client: Client, left: list[int]) -> Any:
    try:
        return await call()
    finally:
        left.append(client.waiting())


@asyncio_only
async def test_a_scope_and_its_task_cancelled_at_each_pair_of_ticks() -> None:
    """Whichever is first: that the task was cancelled does not stay in the scope."""
    for scope_at in range(LIFE):
        for task_at in range(LIFE):
            async with Memory().client() as client:
                q = await client.make(Queue)
                scope = anyio.CancelScope()
                task = asyncio.ensure_future(get_in_scope(scope, q))
                for tick in range(LIFE):
                    if tick == scope_at:
                        scope.cancel()
                    if tick == task_at:
                        assert task.cancel()
                    await checkpoint()
                await asyncio.wait((task,), timeout=SECONDS)
                assert task.cancelled()
                await settle([client])


async def get_in_scope(scope: anyio.CancelScope, q: Any) -> None:
    with scope:
        await q.get()
    await asyncio.get_running_loop().create_future()


async def test_the_end_of_the_session_ends_a_cancelled_call() -> None:
    """The server is gone before it says how the cancellation went."""
    memory = Memory()
    client = memory.client()
    async with client, anyio.create_task_group() as group:
        q = await client.make(Queue)
        task = start(group, q.get)
        await until_waiting(client, 1)
        memory.up = False
        task.cancel()
        client.wire.cut(False, False)
        with anyio.fail_after(SECONDS):
            await task.over.wait()
        assert task.cancelled
    assert SharedManager.type_name == "manager"
