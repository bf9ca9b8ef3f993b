"""Runners wait for an Event, and note the order of what they saw."""

import multiprocessing


def run(name, ready, gun, log):
    early = gun.wait(0.01)
    ready.put(name)
    log.append((early, gun.wait(), gun.is_set()))


if __name__ == "__main__":
    with multiprocessing.Manager() as manager:
        gun, ready, log = manager.Event(), manager.Queue(), manager.list()
        runners = [
            multiprocessing.Process(target=run, args=(name, ready, gun, log)) for name in "abc"
        ]
        for runner in runners:
            runner.start()
        print(sorted(ready.get() for _ in runners), len(log))
        gun.set()
        for runner in runners:
            runner.join()
        print(log)
        gun.clear()
        print(gun.is_set(), gun.wait(timeout=0.01))
