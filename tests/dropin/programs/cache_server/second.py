"""The second client: it finds what the first one left; a wrong key is refused."""

from multiprocessing import AuthenticationError
from multiprocessing.managers import BaseManager, DictProxy


class CacheManager(BaseManager):
    pass


CacheManager.register("cache", proxytype=DictProxy)
CacheManager.register("tickets")

if __name__ == "__main__":
    try:
        CacheManager(("127.0.0.1", 50000), b"another key").connect()
    except AuthenticationError:
        print("refused")
    manager = CacheManager(("127.0.0.1", 50000), b"a key")
    manager.connect()
    print(manager.cache(), manager.tickets().draw())
    try:
        manager.cache()["no such key"]
    except KeyError as error:
        print("KeyError:", error)
    try:
        manager.no_such_type()
    except AttributeError:
        print("AttributeError")
