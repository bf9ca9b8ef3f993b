"""A server that runs for ever: a cache, a lock, and a class, for whoever knows the key."""

import threading
from multiprocessing.managers import AcquirerProxy, BaseManager, DictProxy

cache = {"started": True}
lock = threading.Lock()


class Tickets:
    def __init__(self):
        self.last = 0

    def draw(self):
        self.last += 1
        return self.last


tickets = Tickets()


class CacheManager(BaseManager):
    pass


CacheManager.register("cache", lambda: cache, DictProxy)
CacheManager.register("lock", lambda: lock, AcquirerProxy)
CacheManager.register("tickets", lambda: tickets)

if __name__ == "__main__":
    server = CacheManager(("127.0.0.1", 50000), b"a key").get_server()
    print("ready", server.address[0], flush=True)
    server.serve_forever()
