"""Keys whose classes are in the main script itself, which has another name in some children."""

import enum
from dataclasses import dataclass
from multiprocessing import Manager, Process
from pathlib import Path
from typing import NamedTuple


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Right(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass(frozen=True)
class Place:
    x: int
    y: int


class Point(NamedTuple):
    x: int
    y: int


class Pair:
    def __init__(self, left, right):
        self.left = left
        self.right = right

    def __eq__(self, other):
        return (self.left, self.right) == (other.left, other.right)

    def __hash__(self):
        return hash((self.left, self.right))


def function():
    pass


def keys():
    yield Color.RED
    yield Right.READ | Right.WRITE
    yield Place(1, 2)
    yield Point(1, 2)
    yield Pair(1, "x")
    yield Pair(Color.BLUE, Place(3, 4))
    yield Pair(Pair, function)
    yield Pair(frozenset(["spam", "eggs", "ham"]), Path("/a") / "b")
    yield Path("/a") / "b"
    yield Color
    yield function
    yield (Color.RED, 1)
    yield (Place(1, 2), (Pair(5, 6), Pair))
    yield frozenset([Color.RED, Place(1, 2), Pair(7, 8), function])


def use(table, made):
    for number, key in enumerate(keys()):
        print(number, table[key], key in table, table.pop(key))
        made[key] = number
    print(sorted(made.values()), len(table))


if __name__ == "__main__":
    with Manager() as manager:
        table, made = manager.dict(), manager.dict()
        for number, key in enumerate(keys()):
            table[key] = number
        process = Process(target=use, args=(table, made))
        process.start()
        process.join()
        print([made.get(key) for key in keys()])
        print(all(key in made.copy() for key in keys()))
        print(made[Path("/a/b")], made[Pair(frozenset(["ham", "eggs", "spam"]), Path("/a/b"))])
        print([type(key).__name__ for key in made])
        print(made.keys()[0] is Color.RED, made.keys()[2] == Place(1, 2))
