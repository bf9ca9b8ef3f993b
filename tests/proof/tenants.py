"""What the clients of a soak do for as long as they live: a module of its own, for children."""

import asyncio
import contextlib
import os
import threading
import time
from random import Random
from typing import Any

import aiomanager
import aiomanager.sync
from aiomanager.errors import ConnectionLost, Empty, Full, ManagerError

__all__ = ("ROOM", "dwell", "watched")

ROOM = 50
PAUSE = 0.02


def _blocking_visit(url: str, random: Random, calls: list[int]) -> None:
    """Join, use everything, leave."""
    with aiomanager.sync.connect(url) as manager:
        named = manager.named
        d, q, lock = named.dict("d"), named.Queue("q", ROOM), named.Lock("lock")
        permits, event = named.Semaphore("permits", 3), named.Event("event")
        for _ in range(random.randrange(5, 60)):
            d.increment("n")
            with contextlib.suppress(Full):
                q.put(random.random(), timeout=0.01)
            with contextlib.suppress(Empty):
                q.get(timeout=0.01)
            if lock.acquire(timeout=0.05):
                d["k"] = "x" * random.randrange(2000)
                lock.release()
            if permits.acquire(timeout=0.05):
                permits.release()
            event.wait(0.001)
            mine: Any = manager.dict({"list": [1, 2, 3]})
            mine["other"] = manager.list([1])
            mine["other"].append(2)
            calls[0] += 12
            time.sleep(random.uniform(0, 2 * PAUSE))


async def _async_visit(url: str, random: Random, calls: list[int]) -> None:
    """Join, use everything from several tasks and give up now and then, leave."""
    async with aiomanager.connect(url) as manager:
        named = manager.named
        d, q, lock = await named.dict("d"), await named.Queue("q", ROOM), await named.Lock("lock")

        async def task() -> None:
            for _ in range(random.randrange(5, 60)):
                await d.increment("n")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await q.put(random.random())
                        await q.get()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05), lock:
                        await d.set("k", "x" * random.randrange(2000))
                mine = await manager.dict({"a": 1})
                await mine.update({"b": random.random()})
                calls[0] += 7
                await asyncio.sleep(random.uniform(0, 2 * PAUSE))

        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(task())


def _visit(url: str, number: int, random: Random, calls: list[int]) -> None:
    try:
        if number % 2:
            asyncio.run(_async_visit(url, random, calls))
        else:
            _blocking_visit(url, random, calls)
    except ConnectionLost:
        pass  # the first connection was cut, before there was anything to resume
    except BaseExceptionGroup as group:
        rest = group.split(ConnectionLost)[1]
        if rest is not None:
            raise rest from None


def dwell(pipe: Any, url: str, number: int, seed: str) -> None:
    """Visit the server again and again; say what goes wrong, and how much was done."""
    random = Random(f"{seed} {number}")
    calls = [0]
    while True:
        try:
            _visit(url, number, random, calls)
        except (ManagerError, AssertionError) as error:
            pipe.send(f"client {number}: {type(error).__name__}: {error}")
        pipe.send(calls[0])
        calls[0] = 0


def watched(pipe: Any, url: str) -> None:
    """Be a client that stays: with tasks on asyncio and threads; say how many tasks there are."""

    def thread() -> None:
        manager = aiomanager.sync.connect(url)
        d = manager.named.dict("d")
        while True:
            d.increment("n")
            d["watched"] = os.getpid()
            time.sleep(PAUSE)

    async def main() -> None:
        async with aiomanager.connect(url) as manager:
            d, q = await manager.named.dict("d"), await manager.named.Queue("q", ROOM)

            async def task() -> None:
                while True:
                    await d.increment("n")
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.005):
                            await q.get()
                    mine = await manager.list([1])
                    await mine.append(2)
                    await asyncio.sleep(PAUSE)

            tasks = [asyncio.create_task(task()) for _ in range(5)]
            while not any(task.done() for task in tasks):
                pipe.send(len(asyncio.all_tasks()))
                await asyncio.sleep(0.25)
            for one in tasks:
                if one.done():
                    one.result()

    for _ in range(2):
        threading.Thread(target=thread, daemon=True).start()
    try:
        asyncio.run(main())
    except Exception as error:
        pipe.send(f"the watched client: {type(error).__name__}: {error}")
