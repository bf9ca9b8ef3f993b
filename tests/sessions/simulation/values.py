"""Containers and single values: nothing is lost, nothing happens twice, every count is exact."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from aiomanager.errors import TooLarge
from aiomanager.objects.array import Array
from aiomanager.objects.dict import Dict
from aiomanager.objects.list import List
from aiomanager.objects.namespace import Namespace
from aiomanager.objects.set import Set
from aiomanager.objects.value import Value
from aiomanager.operation import Operation
from aiomanager.stored import ABSENT, MISSING

from .books import Book, Books, Fates, Program, not_failed
from .clients import Pause, Reply, Request, Steps, Task
from .network import Broken

__all__ = ("Cells", "Containers", "Tree")


class Total:
    """A number that is incremented: every caller saw another sum, and none is missing."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.told: Counter[bool | None] = Counter()
        self.seen: set[int] = set()

    def add(
        self, object_id: int, operation: Operation[..., Any], arguments: tuple[Any, ...]
    ) -> Steps:
        """Increment it."""
        self.told[None] += 1
        reply: Reply = yield Request(object_id, operation, arguments)
        self.told[None] -= 1
        self.told[reply.happened] += 1
        not_failed(reply)
        if reply.how == "done":
            if reply.value in self.seen:
                raise Broken(f"two increments of the {self.name} came to {reply.value}")
            self.seen.add(reply.value)

    def check(self, final: int) -> None:
        """Compare it with what is there."""
        if not self.told[True] <= final <= self.told[True] + self.told[None]:
            raise Broken(
                f"{final} increments of the {self.name} were executed; their callers were told "
                f"{self.told}"
            )


class Containers(Book):
    """A list, dicts and a set."""

    objects = (
        ("log", "list", []),
        ("table", "dict", []),
        ("shelf", "dict", []),
        ("members", "set", []),
    )
    log = table = shelf = members = 0

    def __init__(self, books: Books) -> None:
        super().__init__(books)
        self.appends: Fates = {}
        self.append_order: dict[int, list[int]] = {}
        self.hits = Total("hits")
        self.claims: dict[int, Fates] = {}
        self.added: Fates = {}
        books.dwell = self.dwell

    def programs(self) -> Iterable[Program]:
        return self.append, self.hit, self.claim, self.large, self.join_set, self.too_much

    def append(self, task: Task) -> Steps:
        number = self.books.number()
        self.appends[number] = None
        self.append_order.setdefault(task.owner, []).append(number)
        reply: Reply = yield Request(self.log, List.operations["append"], (number,))
        self.appends[number] = reply.happened
        not_failed(reply)

    def dwell(self, task: Task) -> Steps:
        """Do something while holding something."""
        if self.log and self.random.random() < 0.5:
            yield from self.append(task)
        else:
            yield Pause(self.random.choice((0.0, 0.01, 0.3)))

    def hit(self, task: Task) -> Steps:
        yield from self.hits.add(self.table, Dict.operations["increment"], ("hits",))

    def claim(self, task: Task) -> Steps:
        number = self.books.number()
        key = self.random.randint(0, 20)
        mine = self.claims.setdefault(key, {})
        mine[number] = None
        operation = Dict.operations["compare_and_set"]
        reply: Reply = yield Request(self.table, operation, (key, MISSING, number))
        not_failed(reply)
        if reply.how == "done":
            mine[number] = reply.value
        elif reply.happened is False:
            mine[number] = False

    def large(self, task: Task) -> Steps:
        """Carry a value that is larger than all limits together, there and back."""
        number = self.books.number()
        value = [number] * self.random.choice((10, 300, 3000))
        operation = Dict.operations["setdefault"]
        reply: Reply = yield Request(self.shelf, operation, (number, value))
        not_failed(reply)
        if reply.how == "done" and reply.value != value:
            raise Broken("an answer belongs to another call")
        reply = yield Request(self.shelf, Dict.operations["pop"], (number, None))
        if reply.how == "done" and reply.value not in (value, ABSENT):
            raise Broken("an answer belongs to another call")

    def too_much(self, task: Task) -> Steps:
        """Pop more than one answer can carry: then it must all be there still."""
        values = {}
        for _ in range(3):
            key = f"heavy {self.books.number()}"
            values[key] = key[-1] * 25_000
            reply: Reply = yield Request(self.shelf, Dict.operations["set"], (key, values[key]))
            not_failed(reply)
            if reply.how != "done":
                return
        reply = yield Request(self.shelf, Dict.operations["pop_many"], (list(values),))
        not_failed(reply, TooLarge)
        if reply.how == "done" and reply.value != values:
            raise Broken("what was popped is not what was there")
        if reply.how != "failed":
            return
        self.facts["put back"] += 1
        for key, value in values.items():
            reply = yield Request(self.shelf, Dict.operations["pop"], (key, None))
            if reply.how == "done" and reply.value != value:
                raise Broken(f"{key} was not put back, though nobody got it")

    def join_set(self, task: Task) -> Steps:
        number = self.books.number()
        self.added[number] = None
        reply: Reply = yield Request(self.members, Set.operations["add"], (number,))
        self.added[number] = reply.happened
        not_failed(reply)
        found: Reply = yield Request(self.members, Set.operations["contains"], (number,))
        if found.how == "done" and reply.happened is not None and found.value != reply.happened:
            raise Broken(
                f"member {number} was added: {reply.happened}, and is there: {found.value}"
            )

    def close(self, task: Task) -> Steps:
        yield from self.read(
            task, ("log", List, "copy"), ("table", Dict, "copy"), ("members", Set, "copy")
        )

    def check(self) -> None:
        log = self.final["log"]
        times = Counter(log)
        for number, happened in self.appends.items():
            if times[number] > 1:
                raise Broken(f"append {number} was executed {times[number]} times")
            if happened is not None and times[number] != happened:
                raise Broken(f"append {number} was executed {times[number]} times, not {happened}")
        for numbers in self.append_order.values():
            mine = set(numbers)
            if [one for one in log if one in mine] != [one for one in numbers if times[one]]:
                raise Broken("one task's appends changed their order")
        table = self.final["table"]
        self.hits.check(table.get("hits", 0))
        for key, claims in self.claims.items():
            winners = [number for number, won in claims.items() if won]
            if len(winners) > 1:
                raise Broken(f"{winners} all won {key}")
            if winners and table[key] != winners[0]:
                raise Broken(f"{winners[0]} won {key}, which is {table[key]}")
            if claims.get(table.get(key), False) is False and key in table:
                raise Broken(f"{table[key]} was told that it did not win {key}")
        for number, happened in self.added.items():
            if happened is not None and (number in self.final["members"]) != happened:
                raise Broken(f"member {number} was added: {happened}; that is not what is there")


class Cells(Book):
    """A number that is counted up, and a cell that is exchanged, in each of three types."""

    objects = (
        ("counter", "Value", ["i", 0]),
        ("cell", "Value", ["i", 0]),
        ("numbers", "Array", ["q", 2]),
        ("space", "Namespace", [[["count", 0], ["cell", 0]]]),
    )
    counter = cell = numbers = space = 0

    def __init__(self, books: Books) -> None:
        super().__init__(books)
        self.totals = {name: Total(name) for name in ("counter", "numbers", "space")}
        self.moves: dict[str, dict[int, Fates]] = {"cell": {}, "numbers": {}, "space": {}}
        """By object and the value before: who wanted to replace it."""

    def programs(self) -> Iterable[Program]:
        return self.count, self.swap

    def count(self, task: Task) -> Steps:
        name, operation, arguments = self.random.choice((
            ("counter", Value.operations["increment"], ()),
            ("numbers", Array.operations["increment"], (1,)),
            ("space", Namespace.operations["increment"], ("count",)),
        ))  # fmt: skip
        yield from self.totals[name].add(getattr(self, name), operation, arguments)

    def swap(self, task: Task) -> Steps:
        """Replace a value by another one, unless somebody was faster."""
        name, kind, where = self.random.choice(
            (("cell", Value, ()), ("numbers", Array, (0,)), ("space", Namespace, ("cell",)))
        )
        it = getattr(self, name)
        get = kind.operations["get_item" if kind is Array else "get"]
        reply: Reply = yield Request(it, get, where)
        not_failed(reply)
        if reply.how != "done":
            return
        number, before = self.books.number(), reply.value
        rivals = self.moves[name].setdefault(before, {})
        rivals[number] = None
        operation = kind.operations["compare_and_set"]
        reply = yield Request(it, operation, (*where, before, number))
        not_failed(reply)
        if reply.how == "done":
            rivals[number] = reply.value
            self.facts["swapped"] += reply.value
        elif reply.happened is False:
            rivals[number] = False

    def close(self, task: Task) -> Steps:
        for name, kind, operation, arguments in (
            ("counter", Value, "get", ()),
            ("cell", Value, "get", ()),
            ("numbers", Array, "copy", ()),
            ("space", Namespace, "copy", ()),
        ):
            reply = yield Request(getattr(self, name), kind.operations[operation], arguments)
            self.final[name] = reply.value

    def check(self) -> None:
        final = self.final
        self.totals["counter"].check(final["counter"])
        self.totals["numbers"].check(final["numbers"][1])
        self.totals["space"].check(final["space"]["count"])
        for name, last in (
            ("cell", final["cell"]),
            ("numbers", final["numbers"][0]),
            ("space", final["space"]["cell"]),
        ):
            moves = self.moves[name]
            for before, rivals in moves.items():
                winners = [number for number, won in rivals.items() if won]
                if len(winners) > 1:
                    raise Broken(f"{winners} all replaced {before} in the {name}")
                for number in winners:
                    later = moves.get(number, {}).values()
                    if number != last and all(won is False for won in later):
                        raise Broken(f"{number} replaced {before} in the {name}, and is lost")
            if last and not any(last in rivals for rivals in moves.values()):
                raise Broken(f"nobody has put {last} into the {name}")
            if any(rivals.get(last, True) is False for rivals in moves.values()):
                raise Broken(f"{last} is in the {name}, and was told that it is not")


class Tree(Book):
    """A dict inside a dict, which is changed along paths."""

    objects = (("tree", "dict", []),)
    tree = 0

    def __init__(self, books: Books) -> None:
        super().__init__(books)
        self.planted: Fates = {}
        self.picked: dict[int, list[bool | None]] = {}
        """Of each leaf: what came of everybody's trying to have it."""
        self.shakes = Total("shakes")

    def programs(self) -> Iterable[Program]:
        return self.plant, self.pick, self.shake

    def start(self, task: Task) -> Steps:
        row = {"hits": 0, "leaves": {}}
        yield Request(self.tree, Dict.operations["set"], ("row", row))

    def plant(self, task: Task) -> Steps:
        number = self.books.number()
        self.planted[number] = None
        path = ("row", "leaves", number)
        reply: Reply = yield Request(self.tree, Dict.operations["update_nested"], (path, number))
        self.planted[number] = reply.happened
        not_failed(reply)

    def pick(self, task: Task) -> Steps:
        """Take a leaf away that others may want as well: one gets it."""
        if not self.planted:
            return
        number = self.random.choice(list(self.planted)[-8:])
        path = ("row", "leaves", number)
        mine = self.picked.setdefault(number, [])
        place = len(mine)
        mine.append(None)
        if self.random.random() < 0.5:
            request = Request(self.tree, Dict.operations["pop_nested"], (path, "gone"))
        else:
            request = Request(self.tree, Dict.operations["delete_nested"], (path,))
        reply: Reply = yield request
        not_failed(reply, KeyError)
        if reply.how == "done":
            if reply.value not in (number, None, ABSENT):
                raise Broken(f"leaf {number} was {reply.value!r}")
            mine[place] = reply.value is not ABSENT
            self.facts["picked"] += 1
        elif reply.happened is False:
            mine[place] = False

    def shake(self, task: Task) -> Steps:
        operation = Dict.operations["increment_nested"]
        yield from self.shakes.add(self.tree, operation, (("row", "hits"),))

    def close(self, task: Task) -> Steps:
        yield from self.read(task, ("tree", Dict, "copy"))

    def check(self) -> None:
        row = self.final["tree"]["row"]
        self.shakes.check(row["hits"])
        for number, planted in self.planted.items():
            there = number in row["leaves"]
            fates = self.picked.get(number, [])
            if fates.count(True) + there > 1:
                raise Broken(f"leaf {number} was had {fates.count(True)} times; there: {there}")
            if planted and not there and not any(one is not False for one in fates):
                raise Broken(f"leaf {number} was planted and is lost")
            if planted is False and (there or True in fates):
                raise Broken(f"leaf {number} was never planted, and was there")
