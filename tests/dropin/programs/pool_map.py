"""P17: Pool.map, which is the standard library's own."""

import multiprocessing as mul


def square(number):
    return number * number


pool = mul.Pool(5)
print(pool.map(square, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]))
pool.close()
pool.join()
