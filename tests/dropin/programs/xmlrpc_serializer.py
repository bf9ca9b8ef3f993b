"""A manager whose serializer knows few types: what goes in and comes out is narrower."""

import datetime
from multiprocessing.managers import RemoteError, SyncManager


class Things:
    def pair(self):
        return (1, (2, "x"))

    def kind(self, value):
        return type(value).__name__

    def same(self, value):
        return value

    def a_set(self):
        return {1, 2}

    def some_bytes(self):
        return b"bytes"


def get_things():
    return things


things = Things()


class MyManager(SyncManager):
    pass


MyManager.register("Things", callable=get_things)


def show(value):
    print(type(value).__name__, value)


if __name__ == "__main__":
    with MyManager(serializer="xmlrpclib") as manager:
        proxy = manager.Things()
        show(proxy.pair())
        show(proxy.some_bytes())
        show(proxy.kind((1, 2)))
        show(proxy.kind(b"x"))
        show(proxy.same(b"x"))
        show(proxy.same(datetime.datetime(2020, 1, 2, 3, 4, 5)))
        for value in (None, True, 2.5, "hallå", [1, [2]], {"a": (1,)}):
            show(proxy.same(value))
        try:
            proxy.a_set()
        except RemoteError as error:
            print("RemoteError", str(error).splitlines()[2][:22])
        q = manager.Queue()
        for value in (1, None, "text", b"bytes", (1, 2), [3], {"k": 4}):
            q.put(value)
            show(q.get())
        items = manager.list([1, (2, 3)])
        items.append((4, 5))
        show(items[1])
        show(items[2])
        show(items.pop())
        table = manager.dict(a=(1, 2))
        table["b"] = b"x"
        show(table["a"])
        show(table["b"])
        show(table.get("c"))
