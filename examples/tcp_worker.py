"""A worker of tcp_master.py: it joins the master over TCP and works until there is nothing to do.

AIOMANAGER_AUTHKEY=... python examples/tcp_worker.py [--address HOST:PORT]
"""

import argparse
import os
import socket
import sys

import aiomanager.sync
from aiomanager import SyncQueueProxy


def main() -> int:
    parser = argparse.ArgumentParser(description="Work on tasks that come over TCP.")
    parser.add_argument("--address", default="127.0.0.1:5000")
    options = parser.parse_args()
    if "AIOMANAGER_AUTHKEY" not in os.environ:
        print("AIOMANAGER_AUTHKEY must be set, as for the master", file=sys.stderr)
        return 2
    name = f"{socket.gethostname()}/{os.getpid()}"
    done = 0
    try:
        with aiomanager.sync.connect(f"tcp://{options.address}") as manager:
            tasks: SyncQueueProxy[int] = manager.named.Queue("tasks")
            results: SyncQueueProxy[tuple[int, int, str]] = manager.named.Queue("results")
            for task in tasks:  # until the master shuts the queue down
                results.put((task, sum(range(task)), name))
                done += 1
                print(f"task {task} done", flush=True)
    except aiomanager.ConnectionLost as error:
        print(f"the master has ended: {error}", file=sys.stderr)
    print(f"{name}: {done} tasks done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
