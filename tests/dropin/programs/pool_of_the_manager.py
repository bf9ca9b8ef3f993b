"""A Pool in the server: its results and iterators are proxies."""

import multiprocessing


def square(number):
    return number * number


def fail(number):
    raise ValueError(f"no {number}")


if __name__ == "__main__":
    with multiprocessing.Manager() as manager:
        pool = manager.Pool(2)
        result = pool.apply_async(square, (7,))
        print(result.get(timeout=30), result.ready(), result.successful())
        print(pool.map(square, range(5)), pool.apply(square, (9,)), pool.starmap(pow, [(2, 3)]))
        print(list(pool.imap(square, range(4))), sorted(pool.imap_unordered(square, range(4))))
        try:
            pool.apply(fail, (3,))
        except ValueError as error:
            print("ValueError:", error)
        print(type(pool).__name__)
        pool.close()
        pool.join()
        with manager.Pool(1) as pool:
            print(pool.map_async(square, [1, 2]).get())
