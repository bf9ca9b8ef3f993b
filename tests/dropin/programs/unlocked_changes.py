"""P3: tasks read a row, change their copy and put it back, without a lock; some may be lost."""

import multiprocessing


def store(number, table):
    row = table["row"]
    row[number] = number
    table["row"] = row


manager = multiprocessing.Manager()
table = manager.dict()
table["row"] = {}
pool = multiprocessing.Pool(4)
for number in range(100):
    pool.apply_async(store, (number, table))
pool.close()
pool.join()
row = table["row"]
print(0 < len(row) <= 100, all(key == value for key, value in row.items()))
