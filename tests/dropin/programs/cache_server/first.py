"""The first client: it fills the cache under the lock."""

from multiprocessing.managers import AcquirerProxy, BaseManager, DictProxy


class CacheManager(BaseManager):
    pass


CacheManager.register("cache", proxytype=DictProxy)
CacheManager.register("lock", proxytype=AcquirerProxy)
CacheManager.register("tickets")

if __name__ == "__main__":
    manager = CacheManager(("127.0.0.1", 50000), b"a key")
    manager.connect()
    with manager.lock():
        cache = manager.cache()
        cache["colour"] = "blue"
        cache.update({"sizes": [1, 2]})
    print(sorted(cache.keys()), manager.tickets().draw(), manager.tickets().draw())
