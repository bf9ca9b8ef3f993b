"""A counter of Value and Lock: four processes add a hundred times each."""

import multiprocessing


class Counter:
    def __init__(self, manager, start=0):
        self.value = manager.Value("i", start)
        self.lock = manager.Lock()

    def add(self, amount=1):
        with self.lock:
            self.value.value += amount


def work(counter):
    for _ in range(100):
        counter.add()


if __name__ == "__main__":
    manager = multiprocessing.Manager()
    counter = Counter(manager, 5)
    workers = [multiprocessing.Process(target=work, args=(counter,)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print(counter.value.value, counter.value.get(), counter.value)
    counter.value.set("anything")
    print(counter.value.value, [worker.exitcode for worker in workers])
