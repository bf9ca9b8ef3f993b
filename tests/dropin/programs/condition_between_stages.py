"""A Condition: the second stage starts when the first has notified it."""

import multiprocessing


def first(condition, log):
    with condition:
        log.append("stage 1")
        condition.notify_all()


def second(condition, log, waiting):
    with condition:
        waiting.put(True)
        condition.wait()
        log.append("stage 2")


def third(condition, log):
    with condition:
        if condition.wait_for(lambda: len(log) >= 3, timeout=30):
            log.append("stage 3")
            condition.notify()


if __name__ == "__main__":
    with multiprocessing.Manager() as manager:
        condition, log, waiting = manager.Condition(), manager.list(), manager.Queue()
        later = [
            multiprocessing.Process(target=second, args=(condition, log, waiting)) for _ in range(2)
        ]
        last = multiprocessing.Process(target=third, args=(condition, log))
        last.start()
        for process in later:
            process.start()
        for _ in later:
            waiting.get()
        start = multiprocessing.Process(target=first, args=(condition, log))
        start.start()
        for process in [*later, start]:
            process.join()
        with condition:
            condition.notify_all()
        last.join()
        print(list(log))
        try:
            condition.notify()
        except RuntimeError as error:
            print(type(error).__name__)
        with condition:
            print(condition.wait(0.01), condition.wait_for(lambda: False, 0.01))
