"""P2: what a task changes inside a plain dict that a shared dict holds is lost."""

import multiprocessing


def store(number, table):
    table["row"][number] = number


manager = multiprocessing.Manager()
table = manager.dict({"row": {}})
pool = multiprocessing.Pool(4)
for number in range(100):
    pool.apply_async(store, args=(number, table))
pool.close()
pool.join()
print(table)
