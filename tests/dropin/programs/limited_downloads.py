"""A Semaphore of two lets no more than two of six downloads run at a time."""

import multiprocessing
import time


def download(number, semaphore, running, most, lock):
    with semaphore:
        with lock:
            running.value += 1
            most.value = max(most.value, running.value)
        time.sleep(0.02)
        with lock:
            running.value -= 1


if __name__ == "__main__":
    manager = multiprocessing.Manager()
    semaphore, lock = manager.Semaphore(2), manager.Lock()
    running, most = manager.Value("i", 0), manager.Value("i", 0)
    with multiprocessing.Pool(6) as pool:
        pool.starmap(download, [(number, semaphore, running, most, lock) for number in range(12)])
    print(running.value, 1 <= most.value <= 2)
    print(semaphore.acquire(), semaphore.acquire(), semaphore.acquire(False))
    semaphore.release()
    semaphore.release()
    bounded = manager.BoundedSemaphore(1)
    print(bounded.acquire(timeout=1))
    bounded.release()
    try:
        bounded.release()
    except ValueError as error:
        print(type(error).__name__)
