"""Three processes go through phases together: none begins one before all have ended the last."""

import multiprocessing


def work(number, barrier, log, phases):
    for phase in range(phases):
        log.append(phase)
        seat = barrier.wait(timeout=30)
        if seat == 0:
            log.append(f"end of {phase}")
        barrier.wait()


if __name__ == "__main__":
    with multiprocessing.Manager() as manager:
        barrier, log = manager.Barrier(3), manager.list()
        workers = [
            multiprocessing.Process(target=work, args=(number, barrier, log, 3))
            for number in range(3)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        print(log)
        print(barrier.parties, barrier.n_waiting, barrier.broken)
        barrier.abort()
        print(str(barrier)[-9:])
        try:
            barrier.wait()
        except Exception as error:
            print(type(error).__module__, type(error).__name__, barrier.broken)
        barrier.reset()
        print(barrier.broken)
