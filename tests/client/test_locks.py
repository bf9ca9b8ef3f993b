"""Locks over real sockets: tasks that are cancelled in a wait, and processes that are killed."""

import multiprocessing
import threading
from contextlib import suppress
from typing import Any

import anyio
import pytest

import aiomanager
import aiomanager.multiprocessing
import aiomanager.sync

SECONDS = 30


async def until(condition: Any, value: object) -> None:
    """Return when an operation answers so."""
    with anyio.fail_after(SECONDS):
        while await condition() != value:  # noqa: ASYNC110
            await anyio.sleep(0.002)


@pytest.mark.parametrize("with_lock", [False, True])
async def test_a_cancelled_wait_has_the_lock_again(
    manager: aiomanager.Manager, with_lock: bool
) -> None:
    lock = await manager.RLock()
    condition = await manager.Condition(lock if with_lock else None)
    held: list[bool] = []

    async def wait(scope: anyio.CancelScope) -> None:
        with scope:
            async with condition:
                try:
                    await condition.wait()
                finally:
                    with anyio.CancelScope(shield=True):
                        await condition.notify()  # which only the owner may
                        held.append(True)

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as group:
        group.start_soon(wait, scope)
        await until(condition.sleeping, 1)
        async with condition:
            scope.cancel()
            await until(condition.waiting, 1)  # it stands in line for the lock
            assert held == []
    assert held == [True]
    await until(condition.locked, False)


async def test_a_cancelled_waiter_passes_its_notification_on(manager: aiomanager.Manager) -> None:
    condition = await manager.Condition()
    woken: list[int] = []
    scopes = [anyio.CancelScope() for _ in range(2)]

    async def wait(number: int) -> None:
        with scopes[number]:
            async with condition:
                assert await condition.wait()
                woken.append(number)

    async with anyio.create_task_group() as group:
        for number in range(2):
            group.start_soon(wait, number)
            await until(condition.sleeping, number + 1)
        async with condition:
            await condition.notify()
            scopes[0].cancel()
            await until(condition.sleeping, 0)  # the other one has it now
    assert woken == [1]


async def test_who_comes_out_of_a_wait_knows_the_new_fence(
    manager: aiomanager.Manager,
) -> None:
    """Others had the lock meanwhile, with fences above the old one."""
    condition = await manager.Condition()
    told: list[tuple[int, int]] = []
    ready = False

    async def wait(how: str) -> None:
        async with condition:
            before = condition.fence
            await (condition.wait() if how == "wait" else condition.wait_for(lambda: ready))
            holder = await condition.holder()
            assert holder is not None
            told.append((condition.fence, holder[2]))
            assert condition.fence > before

    for how in ("wait", "wait_for"):
        ready = False
        async with anyio.create_task_group() as group:
            group.start_soon(wait, how)
            await until(condition.sleeping, 1)
            assert await condition.acquire_fenced()
            ready = True
            await condition.notify()
            await condition.release()
    assert len(told) == 2
    assert all(fence == real for fence, real in told)


def test_who_comes_out_of_a_blocking_wait_knows_it_too() -> None:
    with aiomanager.sync.Manager() as manager:
        condition = manager.Condition()
        with condition:
            assert not condition.wait(0)
            holder = condition.holder()
            assert holder is not None
            assert condition.fence == holder[2] > 1
            assert not condition.wait_for(lambda: False, 0.001)
            holder = condition.holder()
            assert holder is not None
            assert condition.fence == holder[2] > 2


async def test_a_predicate_may_be_a_coroutine_function(manager: aiomanager.Manager) -> None:
    condition = await manager.Condition()
    counter = await manager.Value("i", 0)

    async def three() -> bool:
        return await counter.get() == 3

    async def count() -> None:
        for number in range(1, 4):
            async with condition:
                await counter.set(number)
                await condition.notify()

    async with anyio.create_task_group() as group, condition:
        group.start_soon(count)
        assert await condition.wait_for(three, SECONDS)
        assert await condition.wait_for(lambda: False, 0.01) is False


def hold_all(url: str, ready: Any) -> None:
    """Hold one of each, and wait to be killed."""
    manager = aiomanager.sync.connect(url)
    named = manager.named
    assert named.RLock("rlock").acquire()
    assert named.RLock("rlock").acquire()
    assert named.Semaphore("semaphore", 2).acquire()
    assert named.BoundedSemaphore("bounded", 1).acquire(lease=1000)
    assert named.LockTable("table").acquire("a", "b")
    condition = named.Condition("condition")
    condition.acquire()
    ready.set()
    condition.wait()


def test_what_a_killed_process_holds_passes_on() -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    with aiomanager.sync.Manager() as manager:
        named = manager.named
        process = context.Process(target=hold_all, args=(manager.url, ready))
        process.start()
        assert ready.wait(SECONDS)
        condition = named.Condition("condition")
        assert condition.acquire(timeout=SECONDS)
        condition.notify()
        process.kill()
        process.join()
        assert named.RLock("rlock").acquire(timeout=SECONDS)
        semaphore = named.Semaphore("semaphore", 2)
        assert semaphore.acquire(timeout=SECONDS)
        assert semaphore.acquire(timeout=SECONDS)
        assert named.BoundedSemaphore("bounded", 1).acquire(timeout=SECONDS)
        assert named.LockTable("table").acquire("b", "a", timeout=SECONDS)
        assert condition.sleeping() == condition.waiting() == 0
        condition.release()
        assert not condition.locked()
        with pytest.raises(aiomanager.NameConflict, match="2 permits, not 3"):
            named.Semaphore("semaphore", 3)


def in_a_thread(work: Any) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(SECONDS)


@pytest.mark.parametrize("start", [aiomanager.sync.Manager, aiomanager.multiprocessing.Manager])
def test_a_lock_is_free_when_its_thread_has_ended(start: Any) -> None:
    with start() as manager:
        for lock in (manager.RLock(), manager.Condition()):
            in_a_thread(lock.acquire)
            assert lock.acquire(timeout=SECONDS)  # nobody could release it any more
            lock.release()


def test_other_locks_are_free_when_their_thread_has_ended() -> None:
    with aiomanager.sync.Manager() as manager:
        lock, table = manager.Lock(), manager.LockTable()
        in_a_thread(lambda: (lock.acquire(), table.acquire("a", "b")))
        assert lock.acquire(timeout=SECONDS)
        assert table.acquire("a", timeout=SECONDS)


def test_what_is_held_for_a_named_owner_outlives_the_thread() -> None:
    with aiomanager.sync.Manager() as manager:
        lock, table = manager.Lock(), manager.LockTable()
        in_a_thread(lambda: (lock.acquire(owner="job"), table.acquire("a", owner="job")))
        assert not lock.acquire(timeout=0.1)
        assert table.locked("a")
        lock.release(owner="job")
        table.release("a", owner="job")


@pytest.mark.parametrize("start", [aiomanager.sync.Manager, aiomanager.multiprocessing.Manager])
def test_other_releases_do_not_hide_what_an_ended_thread_had(start: Any) -> None:
    with start() as manager:
        kept, lock, condition = manager.RLock(), manager.Lock(), manager.Condition()

        def plain() -> None:
            kept.acquire()
            with lock:  # in the drop-in, anybody may release it
                pass

        def again() -> None:
            with lock, condition:
                kept.acquire()
                kept.acquire()
            kept.release()

        def in_vain() -> None:
            kept.acquire()
            with lock:
                lock.release()  # and once more at the end

        for work in (plain, again, in_vain):
            in_a_thread(work)
            assert kept.acquire(timeout=SECONDS)
            kept.release()


def test_a_named_owners_release_does_not_hide_what_an_ended_thread_had() -> None:
    with aiomanager.sync.Manager() as manager:
        kept, lock, table = manager.RLock(), manager.Lock(), manager.LockTable()

        def work() -> None:
            kept.acquire()
            lock.acquire(owner="job")
            lock.release(owner="job")
            with table("a", owner="job"):
                pass

        in_a_thread(work)
        assert kept.acquire(timeout=SECONDS)


def test_keys_that_an_ended_thread_has_not_released_are_free() -> None:
    with aiomanager.sync.Manager() as manager:
        table = manager.LockTable()

        def work() -> None:
            table.acquire("a", 1.0, True)
            table.release("a", "a")

        in_a_thread(work)
        assert table.acquire(1, timeout=SECONDS)


def test_threads_that_release_their_locks_hand_their_session_on() -> None:
    with aiomanager.sync.Manager() as manager:
        lock, table, condition = manager.RLock(), manager.LockTable(), manager.Condition()

        def work() -> None:
            with lock, lock, table("a", "b", "a"):
                pass
            with table("a", "b"):
                table.acquire("c", owner="job")
                table.release("c", owner="job")
            table.acquire("a", "b")
            table.release("b")
            table.release("a")
            with condition:
                condition.wait(0.001)
            lock.acquire()
            lock.release()

        for _ in range(20):
            in_a_thread(work)
        assert manager.statistics()["sessions"] == 2


# Tasks that end


ACQUISITIONS = {
    "Lock": lambda lock: lock.acquire(),
    "RLock": lambda lock: lock.acquire_fenced(),
    "Condition": lambda condition: condition.acquire(timeout=SECONDS),
    "LockTable": lambda table: table.acquire("a", "b"),
}


@pytest.mark.parametrize("kind", ACQUISITIONS)
async def test_locks_of_a_task_that_has_ended_are_free(
    manager: aiomanager.Manager, kind: str
) -> None:
    thing: Any = await getattr(manager, kind)()
    acquire = ACQUISITIONS[kind]

    async def leave_taken() -> None:
        assert await acquire(thing)
        if kind == "RLock":
            assert await acquire(thing)

    async def release_one() -> None:
        async with thing("c") if kind == "LockTable" else thing:
            pass
        await leave_taken()

    for work in (leave_taken, release_one, leave_taken):
        async with anyio.create_task_group() as group:
            group.start_soon(work)
        with anyio.fail_after(SECONDS):
            assert await acquire(thing)  # nobody else could release it
        await (thing.release("a", "b") if kind == "LockTable" else thing.release())
    assert len(manager._channel._held) == 1  # type: ignore[union-attr]


async def test_who_ends_gives_back_to_who_waits(manager: aiomanager.Manager) -> None:
    lock = await manager.Lock()
    taken = anyio.Event()

    async def take_and_fail() -> None:
        with suppress(ZeroDivisionError):
            await lock.acquire()
            taken.set()
            await until(lock.waiting, 2)
            raise ZeroDivisionError

    async def wait() -> None:
        await taken.wait()
        with anyio.fail_after(SECONDS):
            async with lock:
                pass

    async with anyio.create_task_group() as group:
        group.start_soon(take_and_fail)
        group.start_soon(wait)
        group.start_soon(wait)
    assert await lock.locked() is False


async def test_a_lock_that_comes_when_its_task_has_ended_is_free(
    manager: aiomanager.Manager,
) -> None:
    lock, late = await manager.Lock(), await manager.Lock()
    calls: list[Any] = []
    results: list[bool] = []

    async def make_calls() -> None:
        calls.extend([lock.acquire(), late.acquire()])  # this task is their owner

    async def wait() -> None:
        results.extend([await call for call in calls])

    await late.acquire()
    async with anyio.create_task_group() as group:
        group.start_soon(make_calls)
    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await until(late.waiting, 1)
        await late.release()
    assert results == [True, True]
    with anyio.fail_after(SECONDS):
        assert await lock.acquire()
        assert await late.acquire()


async def test_what_anybody_may_release_outlives_the_task(manager: aiomanager.Manager) -> None:
    lock, semaphore = await manager.Lock(), await manager.Semaphore(1)
    mine = await manager.Lock()

    async def work() -> None:
        await lock.acquire(owner="job")
        await semaphore.acquire()
        await mine.acquire()

    async with anyio.create_task_group() as group:
        group.start_soon(work)
    await until(mine.locked, False)  # it has ended, and that is known
    assert await lock.locked()
    assert await semaphore.value() == 0
    await lock.release(owner="job")
    await semaphore.release()


async def test_a_task_that_lives_has_its_locks_until_it_releases_them(
    manager: aiomanager.Manager,
) -> None:
    lock, other = await manager.Lock(), await manager.Lock()
    await lock.acquire()

    async def work() -> None:
        await other.acquire()

    for _ in range(3):
        async with anyio.create_task_group() as group:
            group.start_soon(work)
        await until(other.locked, False)
    assert await lock.locked()
    await lock.release()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_first_owner_of_a_proxy_that_came_where_no_loop_ran(backend: str) -> None:
    """Who calls is asked for before the channel of the loop is there."""

    async def main(lock: Any) -> None:
        assert await lock.acquire()
        assert await lock.locked()
        await lock.release()
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(work, lock)

    async def work(lock: Any) -> None:
        async with lock:
            await lock.locked()

    with aiomanager.sync.Manager() as manager:
        for _ in range(2):  # on a loop of its own each
            anyio.run(main, manager.Lock().aio, backend=backend)
