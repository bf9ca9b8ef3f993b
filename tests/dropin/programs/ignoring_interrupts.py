"""Workers and the server ignore Ctrl-C by their initializers, so that the parent alone ends all."""

import os
import signal
from multiprocessing import Pool
from multiprocessing.managers import SyncManager


def ignore():
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def work(table, number):
    os.kill(os.getpid(), signal.SIGINT)
    table[number] = number * number
    return number


if __name__ == "__main__":
    manager = SyncManager()
    manager.start(ignore)
    table = manager.dict()
    pool = Pool(2, ignore)
    try:
        print(pool.starmap(work, [(table, number) for number in range(5)]))
        os.kill(os.getpid(), signal.SIGINT)
        signal.pause()
    except KeyboardInterrupt:
        print("interrupted")
        pool.terminate()
    else:
        pool.close()
    pool.join()
    print(sorted(table.items()))
    manager.shutdown()
