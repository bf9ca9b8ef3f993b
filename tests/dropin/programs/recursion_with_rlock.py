"""An RLock is taken again by who holds it, as deep as a recursion goes."""

import multiprocessing


def countdown(number, lock, log):
    with lock:
        log.append(number)
        if number:
            countdown(number - 1, lock, log)


def attempt(lock, log):
    log.append(f"acquired: {lock.acquire(False)}")
    try:
        lock.release()
    except RuntimeError:
        log.append("not mine")


if __name__ == "__main__":
    with multiprocessing.Manager() as manager:
        lock, log = manager.RLock(), manager.list()
        workers = [multiprocessing.Process(target=countdown, args=(4, lock, log)) for _ in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        print(log)
        lock.acquire()
        lock.acquire()
        other = multiprocessing.Process(target=attempt, args=(lock, log))
        other.start()
        other.join()
        lock.release()
        lock.release()
        print(log[-2:])
        try:
            lock.release()
        except (RuntimeError, AssertionError) as error:
            print(type(error).__name__)
