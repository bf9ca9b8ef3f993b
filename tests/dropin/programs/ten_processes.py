"""P12: ten processes each set one key; the parent reads all by dict()."""

import multiprocessing


def double(number, table):
    table[number] = number * 2


manager = multiprocessing.Manager()
table = manager.dict()
processes = [multiprocessing.Process(target=double, args=(n, table)) for n in range(10)]
for process in processes:
    process.start()
for process in processes:
    process.join()
for place, key in enumerate(sorted(dict(table))):
    print(place, key, table[key])
