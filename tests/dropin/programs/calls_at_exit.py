"""Finalizers that call proxies when the interpreter ends, and the server has ended before."""

import multiprocessing


class Remembers:
    def __init__(self, manager):
        self.table = manager.dict()
        self.lock = manager.Lock()

    def __del__(self):
        calls = [
            lambda: self.table.update(x=1),
            lambda: self.table["x"],
            lambda: self.lock.acquire(),
            lambda: str(self.table)[-21:],
        ]
        for call in calls:
            try:
                print(call())
            except (OSError, EOFError):
                print("no connection")


if __name__ == "__main__":
    manager = multiprocessing.Manager()
    first = Remembers(manager)
    second = Remembers(manager)
    second.itself = second
    print("end")
