"""P14: a manager as a context manager; a child uses keys of several types and reverses a list."""

from multiprocessing import Manager, Process


def fill(table, numbers):
    table[1] = "1"
    table["2"] = 2
    table[0.25] = None
    numbers.reverse()


with Manager() as manager:
    table = manager.dict()
    numbers = manager.list(range(10))
    process = Process(target=fill, args=(table, numbers))
    process.start()
    process.join()
    print(table)
    print(numbers)
