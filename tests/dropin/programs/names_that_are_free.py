"""A class and a Namespace of the program's own use what names they like."""

import multiprocessing
from multiprocessing.managers import SyncManager

NAMES = ["aio", "at", "cached", "close", "described", "is_proxy", "live", "shared_type", "sync"]


class Store:
    """Its methods are called what an aiomanager proxy might be tempted to call its own."""

    def log(self, name):
        return f"the store's {name}"

    def sync(self):
        return self.log("sync")

    def aio(self):
        return self.log("aio")

    def live(self):
        return self.log("live")

    def at(self):
        return self.log("at")

    def cached(self):
        return self.log("cached")

    def close(self):
        return self.log("close")

    def described(self):
        return self.log("described")

    def is_proxy(self):
        return self.log("is_proxy")

    def shared_type(self):
        return self.log("shared_type")


class StoreManager(SyncManager):
    pass


StoreManager.register("Store", Store)


def use(store, space, results):
    results.put([getattr(store, name)() for name in NAMES])
    results.put([getattr(space, name) for name in NAMES])


if __name__ == "__main__":
    with StoreManager() as manager:
        store, results = manager.Store(), manager.Queue()
        space = manager.Namespace(**{name: f"{name} of the namespace" for name in NAMES})
        space.live = "changed"
        process = multiprocessing.Process(target=use, args=(store, space, results))
        process.start()
        process.join()
        for _ in range(2 if process.exitcode == 0 else 0):
            print(results.get())
        use(store, space, results)
        print(results.get(), results.get(), process.exitcode)
        for name in NAMES:
            delattr(space, name)
        print(space, [hasattr(space, name) for name in NAMES])
