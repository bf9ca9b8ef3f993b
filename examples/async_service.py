"""An asyncio service whose tasks share a cache, counters and locks with its pool processes.

    python examples/async_service.py [--requests N] [--workers N]

Requests ask for the prime factors of numbers. A result that is not in the shared cache is computed
by a pool process, under a lock of its own key, so that a crowd of equal requests computes it once.
The pool processes count and store through the same objects, with blocking proxies. The same code
serves several processes: those would `connect()` to one server instead of starting their own.
"""

import argparse
import asyncio
import multiprocessing
import os
import random
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import aiomanager
from aiomanager import DictProxy, SyncDictProxy


def factorize(
    number: int, cache: SyncDictProxy[int, list[int]], counters: SyncDictProxy[str, int]
) -> list[int]:
    """Be a pool process: compute, store the result, count it."""
    factors: list[int] = []
    rest, candidate = number, 2
    while candidate * candidate <= rest:
        while rest % candidate == 0:
            factors.append(candidate)
            rest //= candidate
        candidate += 1
    if rest > 1:
        factors.append(rest)
    cache[number] = factors
    counters.increment_many({"computed": 1, f"by process {os.getpid()}": 1})
    return factors


class Service:
    """Answers requests; every process of a real service would have one."""

    def __init__(
        self,
        manager: aiomanager.Manager,
        pool: ProcessPoolExecutor,
        cache: DictProxy[int, list[int]],
        counters: DictProxy[str, int],
    ) -> None:
        self._manager = manager
        self._pool = pool
        self._cache = cache
        self._counters = counters

    async def handle(self, number: int) -> list[int]:
        """Return the prime factors of `number`."""
        await self._counters.increment("requests")
        found = await self._cache.get(number)
        if found is not None:
            return found
        # The lock passes on if its holder is cancelled or killed: nobody waits for a dead one.
        async with await self._manager.named.Lock(f"factorize:{number}"):
            found = await self._cache.get(number)
            if found is not None:
                await self._counters.increment("waited for another's result")
                return found
            return await asyncio.get_running_loop().run_in_executor(
                self._pool, factorize, number, self._cache.sync, self._counters.sync
            )


async def run(requests: int, workers: int) -> list[str]:
    """Serve random requests; return what is wrong with the answers or the counters."""
    numbers = [10**12 + 39 + n for n in range(max(1, requests // 20))]
    chooser = random.Random(7)
    asked = [chooser.choice(numbers) for _ in range(requests)]
    context = multiprocessing.get_context("spawn")
    async with aiomanager.Manager() as manager:
        cache: DictProxy[int, list[int]] = await manager.named.dict("cache")
        counters: DictProxy[str, int] = await manager.named.dict("counters")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            service = Service(manager, pool, cache, counters)
            begin = time.perf_counter()
            answers = await asyncio.gather(*map(service.handle, asked))
            seconds = time.perf_counter() - begin
        counted = await counters.copy()
    for name, count in counted.items():
        print(f"{count:7}  {name}")
    print(f"{requests} requests for {len(set(asked))} different numbers in {seconds:.2f} s")

    faults: list[str] = []
    for number, factors in zip(asked, answers, strict=True):
        product = 1
        for factor in factors:
            product *= factor
        if product != number:
            faults.append(f"{factors} are not the factors of {number}")
    if counted["requests"] != requests:
        faults.append(f"{requests} requests, but {counted['requests']} counted")
    if counted["computed"] != len(set(asked)):
        faults.append(f"{len(set(asked))} numbers, but {counted['computed']} computations")
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description="An asyncio service on shared objects.")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    faults = asyncio.run(run(options.requests, options.workers))
    for fault in faults:
        print(f"check: {fault}", file=sys.stderr)
    print(f"check: {'FAILED' if faults else 'ok'}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
