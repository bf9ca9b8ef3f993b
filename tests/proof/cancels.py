"""Cancelled calls: at each point at which they wait, and at random, by every means there is.

A call is driven step by step: when it has waited for the n-th time, its task is cancelled, and
perhaps once more while it takes the call back. Others are cancelled from outside, by time limits
and scopes. Meanwhile rivals put items and release locks, so that what is granted meets what is
taken back. Afterwards every item must be somewhere, once, and nothing may be held or waited for.
"""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from random import Random
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

import aiomanager
from aiomanager.server.process import PrivateServer

from .campaign import SECONDS, Report

__all__ = ("cancels",)

GONE: Any = object()
"""Stands for the result of a call that was cancelled."""
PERMITS = 2
ROOM = 3
BATCH = 2000
BACKENDS: dict[str, dict[str, Any]] = {
    "asyncio": {"backend": "asyncio"},
    "uvloop": {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
    "trio": {"backend": "trio"},
}


class _Stepped:
    """Awaits a coroutine, and cancels at the given times that it waits."""

    def __init__(
        self, coroutine: Coroutine[Any, Any, Any], at: set[int], cancel: Callable[[], Any]
    ) -> None:
        self._coroutine = coroutine
        self._at = at
        self._cancel = cancel
        self.waited = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        resume: Callable[[], Any] = partial(self._coroutine.send, None)
        while True:
            try:
                asked = resume()
            except StopIteration as stop:
                return stop.value
            self.waited += 1
            if self.waited in self._at:
                self._cancel()
            try:
                sent = yield asked
            except BaseException as error:
                resume = partial(self._coroutine.throw, error)
            else:
                resume = partial(self._coroutine.send, sent)


async def _stepped(coroutine: Coroutine[Any, Any, Any], at: set[int]) -> tuple[Any, int]:
    """Return the result of a call, or GONE, and how many times it waited."""
    with anyio.CancelScope() as scope:
        stepped = _Stepped(coroutine, at, scope.cancel)
        result = await stepped
        return result, stepped.waited
    return GONE, stepped.waited


async def _stepped_task(coroutine: Coroutine[Any, Any, Any], at: set[int]) -> tuple[Any, int]:
    """Return as `_stepped`; an asyncio task is cancelled, once for each number."""
    stepped = _Stepped(coroutine, at, lambda: task.cancel())

    async def run() -> Any:
        return await stepped

    task = asyncio.ensure_future(run())
    return await _end_of(task), stepped.waited


async def _end_of(task: "asyncio.Future[Any]") -> Any:
    """Return the result of a task, or GONE; it does not outlive who waits here."""
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        task.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([task])
        if task.cancelled():
            raise
        # What it got in spite of that is to be given back.
    return GONE if task.cancelled() else task.result()


async def _pause(random: Random) -> None:
    if random.random() < 0.3:
        await anyio.sleep(random.uniform(0.0, 0.002))
    else:
        for _ in range(random.randrange(6)):
            await checkpoint()


# Each means gets a coroutine, and returns its result or GONE.


async def _by_steps(random: Random, coroutine: Coroutine[Any, Any, Any]) -> Any:
    first = random.choice((1, 1, 2))
    # One that has come to wait for something else by then is not left to wait for ever.
    with anyio.move_on_after(0.02):
        result, _ = await _stepped(coroutine, {first, first + 1})
        return result
    return GONE


async def _by_scope(random: Random, coroutine: Coroutine[Any, Any, Any]) -> Any:
    with anyio.move_on_after(random.choice((0.0, 0.0005, 0.002))):
        return await coroutine
    return GONE


async def _by_task(random: Random, coroutine: Coroutine[Any, Any, Any]) -> Any:
    task = asyncio.ensure_future(coroutine)
    await _pause(random)
    task.cancel()
    if random.random() < 0.5:
        await _pause(random)
        task.cancel()
    return await _end_of(task)


async def _by_timeout(random: Random, coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        async with asyncio.timeout(random.choice((0.0, 0.0005, 0.002))):
            return await coroutine
    except TimeoutError:
        return GONE


async def _by_wait_for(random: Random, coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await asyncio.wait_for(coroutine, random.choice((0.0, 0.0005, 0.002)))
    except TimeoutError:
        return GONE


ANYWHERE = {"step by step": _by_steps, "scope": _by_scope}
ON_ASYNCIO = {"task": _by_task, "timeout": _by_timeout, "wait_for": _by_wait_for}


class _Batch:
    """Some shared objects, those who cancel their calls on them, and their rivals."""

    def __init__(self, report: Report, manager: aiomanager.Manager, backend: str) -> None:
        self.report = report
        self.manager = manager
        self.means: dict[str, Any] = {**ANYWHERE, **(ON_ASYNCIO if backend != "trio" else {})}
        self.put = 0
        self.got: list[int] = []
        self.offered = 0
        self.accepted: list[int] = []
        self.inside: dict[str, int] = {}

    async def make(self) -> None:
        manager = self.manager
        self.q, self.full = await manager.Queue(), await manager.Queue(ROOM)
        for _ in range(ROOM):
            await self.full.put(-1)
        self.lock, self.rlock = await manager.Lock(), await manager.RLock()
        self.permits = await manager.Semaphore(PERMITS)
        self.condition, self.event = await manager.Condition(), await manager.Event()
        self.barrier = await manager.Barrier(1000)
        self.joined = await manager.JoinableQueue()
        await self.joined.put(0)

    # What is tried

    async def get(self, give_up: Callable[[Any], Awaitable[Any]]) -> bool:
        item = await give_up(self.q.get())
        if item is not GONE:
            self.got.append(item)
        return item is GONE

    async def put_into_full(self, give_up: Callable[[Any], Awaitable[Any]]) -> bool:
        self.offered += 1
        item = self.offered
        gone = await give_up(self.full.put(item)) is GONE
        if not gone:
            self.accepted.append(item)
        return gone

    async def acquire(self, give_up: Callable[[Any], Awaitable[Any]]) -> bool:
        return await self._held("lock", self.lock, 1, give_up)

    async def acquire_again(self, give_up: Callable[[Any], Awaitable[Any]]) -> bool:
        if not await self.rlock.acquire(timeout=0.005):
            return False
        gone = await self._held("rlock", self.rlock, 1, give_up)
        await self.rlock.release()
        return gone

    async def acquire_rlock(self, give_up: Callable[[Any], Awaitable[Any]]) -> bool:
        return await self._held("rlock", self.rlock, 1, give_up)

    async def take_permit(self, give_up: Callable[[Any], Awaitable[Any]]) -> bool:
        return await self._held("permit", self.permits, PERMITS, give_up)

    async def _held(self, name: str, it: Any, most: int, give_up: Any) -> bool:
        if await give_up(it.acquire()) is GONE:
            return True
        self.inside[name] = self.inside.get(name, 0) + 1
        self.report.expect(self.inside[name] <= most, f"{self.inside[name]} have the {name}")
        await checkpoint()
        self.inside[name] -= 1
        await it.release()
        return False

    async def wait_condition(self, give_up: Callable[[Any], Awaitable[Any]]) -> bool:
        if not await self.condition.acquire(timeout=0.005):
            return False
        gone = await give_up(self.condition.wait()) is GONE
        await self.condition.release()  # an error, if a cancelled wait came back without it
        return gone

    async def wait_event(self, give_up: Callable[[Any], Awaitable[Any]]) -> bool:
        return await give_up(self.event.wait()) is GONE

    async def wait_barrier(self, give_up: Callable[[Any], Awaitable[Any]]) -> bool:
        return await give_up(self.barrier.wait()) is GONE

    async def join(self, give_up: Callable[[Any], Awaitable[Any]]) -> bool:
        return await give_up(self.joined.join()) is GONE

    @property
    def tries(self) -> list[Any]:
        return [
            self.get, self.put_into_full, self.acquire, self.acquire_again, self.acquire_rlock,
            self.take_permit, self.wait_condition, self.wait_event, self.wait_barrier, self.join,
        ]  # fmt: skip

    # Those who race it

    async def feed(self, random: Random) -> None:
        while True:
            await _pause(random)
            await anyio.sleep(random.choice((0.0, 0.001)))
            with anyio.CancelScope(shield=True):
                if await self.q.qsize() < 5:
                    self.put += 1
                    await self.q.put(self.put)
                with anyio.move_on_after(0.005):
                    # Its own item, unless somebody's got in.
                    item = await self.full.get()
                    if item > 0:
                        self.accepted.append(-item)
                    await self.full.put(-1)

    async def wake(self, random: Random) -> None:
        while True:
            await anyio.sleep(random.uniform(0.0, 0.003))
            with anyio.CancelScope(shield=True):
                await self.event.set()
                await self.event.clear()
                if await self.condition.acquire(timeout=0.005):
                    await self.condition.notify(2)
                    await self.condition.release()
                if await self.lock.acquire(timeout=0.005):
                    await _pause(random)
                    await self.lock.release()

    # All together

    async def random(self, seed: str, count: int) -> None:
        """Cancel about so many calls, from many tasks."""
        cancelled = 0

        async def work(number: int) -> None:
            nonlocal cancelled
            random = Random(f"{seed} {number}")
            while cancelled < count:
                name, means = random.choice(list(self.means.items()))
                attempt = random.choice(self.tries)
                gone = await attempt(partial(means, random))
                cancelled += gone
                if gone:
                    self.report.done[f"cancelled by {name}"] += 1
                    self.report.done[f"cancelled: {attempt.__name__}"] += 1
                else:
                    self.report.done["had it before"] += 1

        async with anyio.create_task_group() as rivals:
            rivals.start_soon(self.feed, Random(f"{seed} feed"))
            rivals.start_soon(self.wake, Random(f"{seed} wake"))
            async with anyio.create_task_group() as group:
                for number in range(12):
                    group.start_soon(work, number)
            rivals.cancel_scope.cancel()

    async def each_point(self) -> None:
        """Cancel each call at each point at which it waits, and again at each behind that."""
        for attempt in self.tries:
            for steps in (_stepped, _stepped_task) if len(self.means) > 2 else (_stepped,):
                waits = 1
                first = 0
                while first < waits:
                    first += 1
                    for second in range(first, first + 3):
                        seen = 0

                        async def give_up(
                            call: Any,
                            steps: Any = steps,
                            at: Any = frozenset({first, second}),
                            seconds: float = 0.05 if first > 1 else SECONDS,
                        ) -> Any:
                            nonlocal seen
                            # For the call alone: what it got is released in peace.
                            with anyio.move_on_after(seconds):
                                result, seen = await steps(call, at)
                                return result
                            return GONE

                        async with anyio.create_task_group() as rivals:
                            # What is waited for comes at last, where nothing is cancelled.
                            rivals.start_soon(self.feed, Random(first))
                            rivals.start_soon(self.wake, Random(second))
                            gone = await attempt(give_up)
                            self.report.done["cancelled step by step"] += gone
                            waits = max(waits, min(seen, 4))
                            rivals.cancel_scope.cancel()
                self.report.figures["points"] = self.report.figures.get("points", 0) + waits

    async def check(self) -> None:
        """Compare what is left with what everybody was told."""
        expect = self.report.expect
        for _ in range(2000):
            if not (await self.manager.statistics())["waiting"]:
                break
            await anyio.sleep(0.005)
        waiting = (await self.manager.statistics())["waiting"]
        leaked = [f"{waiting} calls wait"] * bool(waiting)
        leaked += [
            name
            for name, it in (
                ("lock", self.lock), ("rlock", self.rlock), ("condition", self.condition),
            )
            if await it.locked()
        ]  # fmt: skip
        if (value := await self.permits.value()) != PERMITS:
            holders = await self.permits.holders()
            leaked.append(f"permits: {value} of {PERMITS} are there, the others at {holders}")
        if await self.barrier.n_waiting() or await self.barrier.broken():
            leaked.append("seats of the barrier")
        rest = [await self.q.get(timeout=0) for _ in range(await self.q.qsize())]
        expect(rest == sorted(rest), f"items are not at their old places: {rest}")
        self.report.check_items(range(1, self.put + 1), [*self.got, *rest])
        in_full = [await self.full.get(timeout=0) for _ in range(await self.full.qsize())]
        told = {item for item in self.accepted if item > 0}
        taken = [-item for item in self.accepted if item < 0]
        found = [*taken, *(item for item in in_full if item > 0)]
        expect(len(found) == len(set(found)), "an item was put twice")
        expect(told <= set(found), f"put and lost: {sorted(told - set(found))}")
        self.report.figures["leaked"] = self.report.figures.get("leaked", 0) + len(leaked)
        expect(not leaked, f"leaked: {leaked}")


async def _starts(report: Report, url: str, steps: Any) -> None:
    """Cancel the start of a manager at each point at which it waits."""
    async with aiomanager.connect(url) as manager:
        before = (await manager.statistics())["attached"]
        waits, at = 1, 0
        while at < waits:
            at += 1
            other = aiomanager.connect(url)
            result, waits = await steps(other.start(), {at})
            report.done["cancelled starts"] += result is GONE
            if result is not GONE:
                await other.aclose()
        for _ in range(2000):
            if (await manager.statistics())["attached"] == before:
                return
            await anyio.sleep(0.005)
        report.violations.append("leaked: connections of starts that were cancelled")


async def _run(report: Report, url: str, backend: str, seed: str, count: int, points: bool) -> None:
    async with aiomanager.connect(url) as manager:
        before = (await manager.statistics())["objects"]
        batch = _Batch(report, manager, backend)
        await batch.make()
        if points:
            await batch.each_point()
            await _starts(report, url, _stepped)
            if backend != "trio":
                await _starts(report, url, _stepped_task)
        else:
            await batch.random(seed, count)
        await batch.check()
        del batch
        gc.collect()  # tasks and their errors refer to each other
        for _ in range(400):
            objects = (await manager.statistics())["objects"] - before
            if objects <= 0:
                return
            await anyio.sleep(0.005)
        report.violations.append(f"leaked: {objects} objects")


def cancels(count: int, seed: int) -> Report:
    """Cancel at least so many calls that wait, on asyncio, uvloop and trio."""
    report = Report("cancels", count, seed)
    server = PrivateServer()
    try:
        with report.watched():

            def run(backend: str, name: str, many: int, points: bool) -> None:
                anyio.run(
                    _run, report, server.address.url, backend, name, many, points,
                    **BACKENDS[backend],
                )  # fmt: skip

            for backend in BACKENDS:
                run(backend, "", 0, True)
            number = 0
            while (done := _cancelled(report)) < count:
                backend = list(BACKENDS)[number % len(BACKENDS)]
                run(backend, f"{seed} {number}", min(BATCH, (count - done) // 3 + 30), False)
                number += 1
            report.figures["cancelled"] = _cancelled(report)
    finally:
        server.stop()
    return report


def _cancelled(report: Report) -> int:
    return sum(n for what, n in report.done.items() if what.startswith("cancelled by"))
