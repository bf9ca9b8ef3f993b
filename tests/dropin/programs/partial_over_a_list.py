"""Pool.map with functools.partial: each task appends to the same shared list."""

from functools import partial
from multiprocessing import Manager, Pool


def collect(number, found):
    if number % 7 == 0:
        found.append(number)
    return number % 7


if __name__ == "__main__":
    with Manager() as manager:
        found = manager.list()
        with Pool(3) as pool:
            rests = pool.map(partial(collect, found=found), range(50))
        print(sorted(found), sum(rests), len(found))
