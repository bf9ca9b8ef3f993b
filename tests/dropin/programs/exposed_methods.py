"""`exposed` says which methods a proxy has, special and private ones included."""

from multiprocessing.managers import BaseManager


class Box:
    def __init__(self, items):
        self.items = list(items)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, place):
        return self.items[place]

    def _peek(self):
        return self.items[-1]

    def push(self, item):
        self.items.append(item)

    def clear(self):
        self.items.clear()


class BoxManager(BaseManager):
    pass


BoxManager.register("Box", Box, exposed=("__len__", "__getitem__", "_peek", "push"))
BoxManager.register("Other", Box)

if __name__ == "__main__":
    manager = BoxManager()
    manager.start()
    box = manager.Box("abc")
    box.push("d")
    print(box.__len__(), box.__getitem__(0), box._peek())
    print(hasattr(box, "clear"), hasattr(manager.Other("x"), "clear"))
    try:
        print(box._callmethod("clear"))
    except Exception as error:
        print(type(error).__name__, "not in" in str(error))
    print(box._callmethod("_peek"), str(box).startswith("<"))
    manager.shutdown()
