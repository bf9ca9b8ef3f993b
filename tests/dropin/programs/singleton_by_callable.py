"""A registered callable that returns one object: everybody gets a proxy of the same."""

from multiprocessing import get_context
from multiprocessing.managers import BaseManager


class Store:
    def __init__(self):
        self.entries = {}

    def put(self, key, value):
        self.entries[key] = value

    def all(self):
        return dict(self.entries)


the_store = Store()


class StoreManager(BaseManager):
    pass


# A lambda reaches the server by fork alone.
StoreManager.register("store", callable=lambda: the_store)


def work(address, key, number):
    class Client(BaseManager):
        pass

    Client.register("store")
    manager = Client(address=address, authkey=b"one store")
    manager.connect()
    manager.store().put(key, number)


context = get_context("fork")
manager = StoreManager(authkey=b"one store", ctx=context)
manager.start()
workers = [
    context.Process(target=work, args=(manager.address, key, at)) for at, key in enumerate("abc")
]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
first, second = manager.store(), manager.store()
print(sorted(first.all().items()), first.all() == second.all(), the_store.all())
del first, second
print(len(manager.store().all()))
manager.shutdown()
