"""Proxy classes of the library, and classes derived from them, over a program's own objects."""

import array
import threading
from collections import UserDict
from multiprocessing.managers import (
    AcquirerProxy,
    ArrayProxy,
    BarrierProxy,
    BaseManager,
    ConditionProxy,
    DictProxy,
    EventProxy,
    ListProxy,
    Namespace,
    NamespaceProxy,
    SyncManager,
    Value,
    ValueProxy,
)

shared_list = [3, 1, 2]
shared_dict = {"a": 1, "b": 2}
shared_array = array.array("i", [1, 2, 3])
condition = threading.Condition()
barrier = threading.Barrier(2)
event = threading.Event()
lock = threading.Lock()
value = Value("i", 5)
namespace = Namespace(x=1)


class OwnList(list):
    pass


class MyDict(DictProxy):
    def __getitem__(self, key):
        return ("mine", super().__getitem__(key))

    def get(self, key, default=None):
        return ("mine", super().get(key, default))

    def double(self):
        return 2 * len(self)


class Loud:
    def append(self, item):
        print("append", item)
        super().append(item)


class MyList(Loud, ListProxy):
    def __iadd__(self, items):
        print("more", items)
        return super().__iadd__(items)


class MyCondition(ConditionProxy):
    def notify(self, n=1):
        print("notify", n)
        return super().notify(n)


class MyLock(AcquirerProxy):
    def __enter__(self):
        print("enter", super().__enter__())
        return self


class MyEvent(EventProxy):
    def wait(self, timeout=None):
        return ("waited", super().wait(timeout))


class MyNamespace(NamespaceProxy):
    def __getattr__(self, name):
        if name == "own":
            return "own"
        return super().__getattr__(name)


class MyManager(SyncManager):
    pass


class Small(BaseManager):
    pass


for kind in (MyManager, Small):
    kind.register("l", lambda: shared_list, ListProxy)
    kind.register("a", lambda: shared_array, ArrayProxy)
    kind.register("c", lambda: condition, ConditionProxy)
    kind.register("b", lambda: barrier, BarrierProxy)
    kind.register("e", lambda: event, EventProxy)
    kind.register("v", lambda: value, ValueProxy)
    kind.register("n", lambda: namespace, NamespaceProxy)
    kind.register("lock", lambda: lock, AcquirerProxy)
    kind.register("own_list", OwnList, ListProxy)
    kind.register("user_dict", UserDict, DictProxy)
    kind.register("my_dict", dict, MyDict)
    kind.register("my_shared_dict", lambda: shared_dict, MyDict)
    kind.register("my_list", list, MyList)
    kind.register("my_c", threading.Condition, MyCondition)
    kind.register("my_e", threading.Event, MyEvent)
    kind.register("my_lock", threading.Lock, MyLock)
    kind.register("my_n", Namespace, MyNamespace)


def use_list(items):
    print(list(items), sorted(items), len(items), items[0], items[1:], 2 in items)
    items.append(7)
    items += [8, 9]
    items *= 1
    items[0] = 30
    del items[1]
    items.insert(0, "first")
    print(list(items), items.pop(), items.index(7), items.count(8), type(items).__name__)
    items.reverse()
    print(list(reversed(items)), str(items), items.__add__(["more"]))
    for missing in ("increment", "get_item", "compare_and_set", "live"):
        print(missing, hasattr(items, missing))


def waiting(proxy, out):
    with proxy:
        out.append(proxy.wait(10))


def use_condition(proxy):
    out = []
    thread = threading.Thread(target=waiting, args=(proxy, out))
    with proxy:
        thread.start()
        print(proxy.wait(0.01))
    while "1)" not in str(proxy):
        pass
    with proxy:
        proxy.notify()
    thread.join()
    print(out, proxy.acquire(), proxy.acquire(True, 1), proxy.release(), proxy.release())
    with proxy:
        print(proxy.wait_for(lambda: 5), proxy.notify_all(), proxy.wait_for(lambda: 0, 0.01))
    try:
        proxy.notify()
    except RuntimeError as error:
        print(error)


def use_barrier(proxy):
    print(proxy.parties, proxy.n_waiting, proxy.broken)
    out = []
    thread = threading.Thread(target=lambda: out.append(proxy.wait(10)))
    thread.start()
    out.append(proxy.wait())
    thread.join()
    print(sorted(out))
    proxy.abort()
    print(proxy.broken, proxy.reset(), proxy.broken)


def use_dict(table):
    table["x"] = 1
    table.update(y=2)
    print(table["x"], table.get("y"), table.get("z", 0), len(table), "x" in table)
    print(sorted(table), sorted(table.keys()), sorted(table.items()), table.copy(), str(table))
    print(table.pop("x"), table.setdefault("z", 5), {**table}["y"], dict(table) == table.copy())
    try:
        table["gone"]
    except KeyError as error:
        print(repr(error))


def use_rest(manager):
    numbers = manager.a()
    print(list(numbers), len(numbers), numbers[1], numbers[0:2])
    numbers[1] = 20
    print(numbers, numbers[:], [x + 1 for x in numbers])
    flag = manager.e()
    print(flag.is_set(), flag.wait(0.01), flag.set(), flag.wait(), flag.clear(), flag.is_set())
    number = manager.v()
    number.value += 1
    print(number.value, number.get(), number.set(4), number.value, number)
    names = manager.n()
    names.y = [1]
    print(names.x, names.y, hasattr(names, "z"), names)
    del names.y
    print(hasattr(names, "y"))
    held = manager.lock()
    with held:
        print(held.acquire(False), held.acquire(True, 0.01))
    print(held.acquire(), held.release())


def use_mine(manager):
    table = manager.my_dict(q=1)
    use_dict(table)
    print(table.double(), type(table).__name__, isinstance(table, MyDict))
    print(manager.my_shared_dict()["a"], manager.my_shared_dict()["a"])
    items = manager.my_list([1])
    items.append(2)
    items += [3]
    print(list(items), type(items).__name__)
    flag = manager.my_e()
    print(flag.wait(0.01), flag.set(), flag.wait())
    with manager.my_lock() as held:
        print(held.acquire(False))
    names = manager.my_n(x=3)
    print(names.own, names.x)
    use_condition(manager.my_c())


for kind in (MyManager, Small):
    with kind() as manager:
        use_list(manager.l())
        use_list(manager.own_list([3, 1, 2]))
        use_condition(manager.c())
        use_barrier(manager.b())
        use_rest(manager)
with MyManager() as manager:
    use_dict(manager.user_dict())
    use_mine(manager)
