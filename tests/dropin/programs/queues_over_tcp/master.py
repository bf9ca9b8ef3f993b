"""The master: it owns two queues, gives out ten tasks and collects the results."""

import queue
from multiprocessing.managers import BaseManager

tasks, results = queue.Queue(), queue.Queue()


class QueueManager(BaseManager):
    pass


def get_tasks():
    return tasks


def get_results():
    return results


QueueManager.register("get_tasks", callable=get_tasks)
QueueManager.register("get_results", callable=get_results)

if __name__ == "__main__":
    manager = QueueManager(address=("127.0.0.1", 50000), authkey=b"abc")
    manager.start()
    tasks, results = manager.get_tasks(), manager.get_results()
    for number in range(10):
        tasks.put(number)
    print("ready", flush=True)
    print(sorted(results.get(timeout=30) for _ in range(10)))
    try:
        results.get(timeout=0.05)
    except queue.Empty:
        print("nothing more")
    manager.shutdown()
