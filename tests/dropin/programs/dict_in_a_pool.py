"""P1: a hundred tasks of a pool each set one key of a shared dict; there is no main guard."""

import multiprocessing


def store(number, table):
    table[number] = number


manager = multiprocessing.Manager()
table = manager.dict()
pool = multiprocessing.Pool(4)
for number in range(100):
    pool.apply_async(store, (number, table))
pool.close()
pool.join()
print(len(table), sum(table.values()))
print(sorted(str(table)) == sorted(str(table.copy())), type(table).__name__)
