"""Shared objects in a ProcessPoolExecutor: submitted, mapped, and stopped by an Event."""

from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import Manager


def work(number, cache, lock, stop):
    if stop.is_set():
        return None
    with lock:
        cache[number] = cache.get(number - 1, 0) + number
    if number == 5:
        stop.set()
    return number


if __name__ == "__main__":
    with Manager() as manager:
        cache, lock, stop = manager.dict(), manager.Lock(), manager.Event()
        with ProcessPoolExecutor(max_workers=1) as executor:
            futures = [executor.submit(work, number, cache, lock, stop) for number in range(10)]
            done = [future.result() for future in as_completed(futures)]
        print(sorted(number for number in done if number is not None), done.count(None))
        print(dict(cache))
