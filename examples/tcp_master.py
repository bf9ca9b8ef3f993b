"""The master of a computation on several machines: it gives out tasks and collects the results.

    export AIOMANAGER_AUTHKEY="a secret of at least 16 bytes"
    python examples/tcp_master.py [--address HOST:PORT] [--tasks N]
    python examples/tcp_worker.py [--address HOST:PORT]     # elsewhere, often

Workers may come late, and may be killed: what they had in hand is given out again. Beyond one
machine see the README's remarks on plain TCP.
"""

import argparse
import os
import queue
import sys

import aiomanager.sync
from aiomanager import SyncQueueProxy

PATIENCE = 2.0
"""Seconds without a result after which the missing tasks are given out once more."""


def collect(
    tasks: SyncQueueProxy[int], results: SyncQueueProxy[tuple[int, int, str]], missing: set[int]
) -> dict[int, tuple[int, str]]:
    """Return the result of each task, and who sent it."""
    found: dict[int, tuple[int, str]] = {}
    while missing:
        try:
            task, result, worker = results.get(timeout=PATIENCE)
        except queue.Empty:
            if tasks.empty():  # a worker was lost with its task, or is slow: then it comes twice
                tasks.put_many(sorted(missing))
            continue
        found[task] = result, worker
        missing.discard(task)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Give out tasks over TCP.")
    parser.add_argument("--address", default="127.0.0.1:5000")
    parser.add_argument("--tasks", type=int, default=40)
    options = parser.parse_args()
    if "AIOMANAGER_AUTHKEY" not in os.environ:
        print("AIOMANAGER_AUTHKEY must be set, here and for the workers", file=sys.stderr)
        return 2
    with aiomanager.sync.Manager(f"tcp://{options.address}") as manager:
        tasks: SyncQueueProxy[int] = manager.named.Queue("tasks")
        results: SyncQueueProxy[tuple[int, int, str]] = manager.named.Queue("results")
        tasks.put_many(range(options.tasks))
        print(f"listening on {manager.url}", flush=True)
        found = collect(tasks, results, set(range(options.tasks)))
        tasks.shutdown()  # the workers' loops end
        workers = sorted({worker for _, worker in found.values()})
        for worker in workers:
            done = sorted(task for task, (_, by) in found.items() if by == worker)
            print(f"{worker}: {len(done)} tasks")
    right = all(result == sum(range(task)) for task, (result, _) in found.items())
    print(f"{len(found)} results of {len(workers)} workers")
    print(f"check: {'ok' if right and len(found) == options.tasks else 'FAILED'}")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
