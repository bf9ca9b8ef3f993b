"""Daemon workers of a JoinableQueue: the parent joins the queue, not the workers."""

import multiprocessing


def work(tasks, done):
    while True:
        name, numbers = tasks.get()
        try:
            done[name] = sum(numbers)
        finally:
            tasks.task_done()


if __name__ == "__main__":
    manager = multiprocessing.Manager()
    tasks, done = manager.JoinableQueue(), manager.dict()
    workers = [
        multiprocessing.Process(target=work, args=(tasks, done), daemon=True) for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    for number in range(8):
        tasks.put((f"task {number}", list(range(number))))
    tasks.join()
    for worker in workers:
        worker.terminate()
        worker.join()
    for name in sorted(done.keys()):
        print(name, done[name])
    print(tasks.empty())
    try:
        tasks.task_done()
    except ValueError as error:
        print("ValueError:", error)
