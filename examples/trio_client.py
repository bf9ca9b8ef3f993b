"""A trio program whose tasks share a queue, a dict and a lock, and are cancelled all the time.

    python examples/trio_client.py [--items N]

Producers and consumers work on a shared queue, and another process adds to it with a blocking
client. Impatient consumers give up again and again in the middle of `get()`; impatient editors give
up waiting for the lock. In the end no item is lost or delivered twice, and nobody left the lock
behind. Needs `pip install trio`.
"""

import argparse
import random
import sys
from functools import partial

import trio

import aiomanager
from aiomanager import DictProxy, LockProxy, QueueProxy

PRODUCERS = 4
CONSUMERS = 4


async def produce(queue: QueueProxy[int], items: range) -> None:
    """Put `items`, pausing now and then."""
    for item in items:
        await queue.put(item)
        await trio.sleep(random.random() * 0.002)


async def consume(queue: QueueProxy[int], results: DictProxy[str, int], delivered: set[int]) -> int:
    """Get items until the queue is shut down and empty; return how often patience ran out."""
    gave_up = 0
    while True:
        # Cancelled within get(): the item stays in the queue, at its old place.
        with trio.move_on_after(random.random() * 0.003) as patience:
            try:
                item = await queue.get()
            except aiomanager.ShutDown:
                return gave_up
            delivered.add(item)
            with trio.CancelScope(shield=True):  # ours now: count it, whatever the clock says
                await results.increment_many({"items": 1, "sum": item})
                await queue.task_done()
        gave_up += patience.cancelled_caught


async def edit(lock: LockProxy, page: DictProxy[str, int], edits: int) -> None:
    """Read, change and write a page under the lock; only patient edits count."""
    for _ in range(edits):
        with trio.move_on_after(random.random() * 0.01):
            async with lock:
                with trio.CancelScope(shield=True):
                    text = await page.get_item("text")
                    await trio.sleep(0.0005)
                    await page.set("text", text + 1)
                    await page.increment("edits")


def put_from_another_process(url: str, first: int, last: int) -> None:
    """Be another process, one without trio: join by URL, and find the queue by its name."""
    import aiomanager.sync

    with aiomanager.sync.connect(url) as manager:
        for item in range(first, last):
            manager.named.Queue("items").put(item)


async def run(items: int) -> list[str]:
    """Run all tasks; return what is wrong with what they leave."""
    share = items // (PRODUCERS + 1)
    total = share * (PRODUCERS + 1)
    delivered: set[int] = set()
    gave_up: list[int] = []
    async with aiomanager.Manager() as manager:
        queue: QueueProxy[int] = await manager.named.Queue("items")
        results = await manager.dict({"items": 0, "sum": 0})
        page = await manager.dict({"text": 0, "edits": 0})
        lock = await manager.Lock()

        async def consumer() -> None:
            gave_up.append(await consume(queue, results, delivered))

        async with trio.open_nursery() as everybody:
            for _ in range(CONSUMERS):
                everybody.start_soon(consumer)
            for _ in range(4):
                everybody.start_soon(edit, lock, page, items // 20)
            async with trio.open_nursery() as producers:
                for number in range(PRODUCERS):
                    part = range(number * share, (number + 1) * share)
                    producers.start_soon(produce, queue, part)
                other = f"{PRODUCERS * share} {total}"
                command = [sys.executable, __file__, "--join", manager.url, *other.split()]
                producers.start_soon(partial(trio.run_process, command))
            await queue.shutdown()
        counted, edited, left = await results.copy(), await page.copy(), await queue.qsize()
        locked = await lock.locked()

    print(f"{counted['items']} items got; {sum(gave_up)} times a getter was cancelled")
    print(f"{edited['edits']} of {items // 20 * 4} edits; the others did not wait for the lock")
    faults: list[str] = []
    if (counted["items"], counted["sum"], left) != (total, sum(range(total)), 0):
        faults.append(f"put {total} items, got {counted['items']}, {left} left")
    if delivered != set(range(total)):
        faults.append("an item was lost, or delivered twice")
    if edited["text"] != edited["edits"]:
        faults.append(f"{edited['edits']} edits, but the text says {edited['text']}")
    if locked:
        faults.append("the lock was left behind")
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description="Trio tasks that share objects.")
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--join", nargs=3, metavar=("URL", "FIRST", "LAST"), help="for itself")
    options = parser.parse_args()
    if options.join:
        url, first, last = options.join
        put_from_another_process(url, int(first), int(last))
        return 0
    faults = trio.run(run, max(PRODUCERS + 1, options.items))
    for fault in faults:
        print(f"check: {fault}", file=sys.stderr)
    print(f"check: {'FAILED' if faults else 'ok'}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
