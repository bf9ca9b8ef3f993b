"""Types of the standard library registered with SyncManager: OrderedDict, defaultdict, Counter."""

from collections import Counter, OrderedDict, defaultdict
from multiprocessing import Process
from multiprocessing.managers import DictProxy, MakeProxyType, SyncManager

SyncManager.register("OrderedDict", OrderedDict, DictProxy)
SyncManager.register("defaultdict", defaultdict, DictProxy)

CounterMethods = MakeProxyType(
    "CounterMethods", ("update", "most_common", "__getitem__", "__len__")
)


class CounterProxy(CounterMethods):
    pass


SyncManager.register("Counter", Counter, CounterProxy)


def fill(ordered, groups, letters, text):
    for letter in text:
        groups[letter] += [text]
    ordered[text] = len(text)
    letters.update(text)


if __name__ == "__main__":
    with SyncManager() as manager:
        ordered, groups, letters = (
            manager.OrderedDict(),
            manager.defaultdict(list),
            manager.Counter(),
        )
        for text in ("abca", "cab"):
            process = Process(target=fill, args=(ordered, groups, letters, text))
            process.start()
            process.join()
        print(ordered.copy(), ordered)
        print(groups["a"], groups["nothing"], len(groups))
        print(letters.most_common(1), letters["b"], len(letters), type(letters).__name__)
        plain = manager.dict(x=1)
        print(plain)
