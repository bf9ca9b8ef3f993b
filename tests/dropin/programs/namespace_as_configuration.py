"""A Namespace holds the settings of all workers; one of them changes it for the others."""

import multiprocessing


def switch(settings, done):
    settings.mode = "fast" if settings.verbose else "slow"
    settings.extra = {"from": "child"}
    done.set()


def report(settings, done, results):
    done.wait()
    results.append((settings.mode, settings.limit, settings.extra))


if __name__ == "__main__":
    with multiprocessing.Manager() as manager:
        settings = manager.Namespace(verbose=True, limit=10)
        settings.mode = None
        settings._mine = "stays with this proxy"
        done, results = manager.Event(), manager.list()
        workers = [
            multiprocessing.Process(target=report, args=(settings, done, results)) for _ in range(2)
        ]
        workers.append(multiprocessing.Process(target=switch, args=(settings, done)))
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        print(settings)
        print(results[:])
        del settings.extra
        print(hasattr(settings, "extra"), hasattr(settings, "limit"), settings._mine)
        try:
            print(settings.extra)
        except AttributeError as error:
            print(type(error).__name__)
