"""P4: as the one without a lock, with a shared lock: none is lost."""

import multiprocessing


def store(number, table, lock):
    lock.acquire()
    row = table["row"]
    row[number] = number
    table["row"] = row
    lock.release()


manager = multiprocessing.Manager()
table = manager.dict()
lock = manager.Lock()
table["row"] = {}
pool = multiprocessing.Pool(4)
for number in range(100):
    pool.apply_async(store, (number, table, lock))
pool.close()
pool.join()
print(len(table["row"]))
print(sorted(table["row"]) == list(range(100)))
