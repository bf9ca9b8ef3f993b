"""A worker: it joins the master by its address, and works until no task comes any more."""

import queue
from multiprocessing.managers import BaseManager


class QueueManager(BaseManager):
    pass


QueueManager.register("get_tasks")
QueueManager.register("get_results")

if __name__ == "__main__":
    manager = QueueManager(address=("127.0.0.1", 50000), authkey=b"abc")
    manager.connect()
    tasks, results = manager.get_tasks(), manager.get_results()
    done = 0
    while done < 5:
        try:
            number = tasks.get(timeout=10)
        except queue.Empty:
            break
        results.put(f"{number} * {number} = {number * number}")
        done += 1
    print("worked on", done, hasattr(manager, "shutdown"))
