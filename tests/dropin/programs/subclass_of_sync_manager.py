"""A SyncManager of the program's own: its types beside the usual ones, objects inside objects."""

from multiprocessing import Pool
from multiprocessing.managers import SyncManager


class Statistics:
    def __init__(self):
        self.count = 0
        self.total = 0.0

    def add(self, value):
        self.count += 1
        self.total += value

    def mean(self):
        return self.total / self.count


class MathManager(SyncManager):
    pass


MathManager.register("Statistics", Statistics)


def work(given):
    statistics, log, value = given
    statistics.add(value)
    log.append(value)


if __name__ == "__main__":
    manager = MathManager()
    manager.start()
    statistics, log = manager.Statistics(), manager.list()
    with Pool(2) as pool:
        pool.map(work, [(statistics, log, value) for value in range(10)])
    print(statistics.mean(), sorted(log), hasattr(SyncManager, "Statistics"))
    holder = manager.dict(inner=statistics)
    holder["inner"].add(15.5)
    print(statistics.mean())
    manager.shutdown()
    try:
        manager.Statistics()
    except AssertionError as error:
        print("AssertionError:", error)
