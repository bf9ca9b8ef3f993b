"""What shared objects answer, written once: each function runs on every rig.

A rig makes objects and carries out calls on them: on the classes themselves with plain Python
values, through both ends of a session without a socket, or by one of the clients from a server
process. Nothing here depends on which of them it is.
"""

import queue
from array import array
from collections.abc import Awaitable, Callable, Coroutine
from decimal import Decimal
from fractions import Fraction
from typing import Any, Protocol

import pytest

from aiomanager import MISSING
from aiomanager.errors import (
    BrokenBarrierError,
    NotOwner,
    ResultTimeout,
    ShutDown,
    VersionConflict,
    WorkerLost,
)
from aiomanager.objects.array import Array
from aiomanager.objects.barrier import Barrier
from aiomanager.objects.condition import Condition
from aiomanager.objects.dict import Dict
from aiomanager.objects.event import Event
from aiomanager.objects.list import List
from aiomanager.objects.lock import Lock
from aiomanager.objects.lock_table import LockTable
from aiomanager.objects.namespace import Namespace
from aiomanager.objects.pool import Pool
from aiomanager.objects.queue import JoinableQueue, Queue
from aiomanager.objects.rlock import RLock
from aiomanager.objects.semaphore import BoundedSemaphore, Semaphore
from aiomanager.objects.set import Set
from aiomanager.objects.value import Value
from aiomanager.operation import SharedObject

__all__ = ("SCENARIOS", "SHORT", "Pending", "Rig")

SHORT = 0.02
"""Seconds of a deadline that runs out."""


class Pending(Protocol):
    """A call that waits."""

    async def result(self) -> Any:
        """Return what it came to, or raise its error."""
        ...


class Rig(Protocol):
    """Where the scenario runs."""

    async def make(self, kind: type[SharedObject], *given: Any, **named: Any) -> Any:
        """Make an object and return what its methods are called on."""
        ...

    async def do(self, made: Any) -> Any:
        """Return what a call came to, given what it returned."""
        ...

    async def start(self, method: Callable[..., Any], *given: Any, **named: Any) -> Pending:
        """Make a call in a task or thread of its own."""
        ...

    async def parked(self, count: int) -> None:
        """Return when so many calls wait."""
        ...


Scenario = Callable[[Rig], Coroutine[Any, Any, None]]
SCENARIOS: dict[str, Scenario] = {}


def scenario(function: Scenario) -> Scenario:
    SCENARIOS[function.__name__] = function
    return function


async def fails(
    rig: Rig, error: type[BaseException], method: Callable[..., Any], *given: Any, **named: Any
) -> BaseException:
    """Return the error that a call ends with."""
    with pytest.raises(error) as caught:
        await rig.do(method(*given, **named))
    assert caught.type is error or error in caught.type.__mro__[1:]
    return caught.value


async def many(rig: Rig, *expected: tuple[Any, Any]) -> None:
    """Carry out calls in order and compare what each comes to."""
    for position, (made, answer) in enumerate(expected):
        found = await rig.do(made())
        assert found == answer, f"call {position} returned {found!r}, not {answer!r}"
        assert type(found) is type(answer), f"call {position} returned {found!r}, not {answer!r}"


Made = Callable[[], Awaitable[Any]]


@scenario
async def dict_of_single_keys(rig: Rig) -> None:
    d = await rig.make(Dict, {"a": 1}, b=[2])
    await many(
        rig,
        (lambda: d.get("a"), 1),
        (lambda: d.get("x"), None),
        (lambda: d.get("x", "default"), "default"),
        (lambda: d.get_item("b"), [2]),
        (lambda: d.set("c", {"deep": (1, 2)}), None),
        (lambda: d.get("c"), {"deep": (1, 2)}),
        (lambda: d.contains("c"), True),
        (lambda: d.contains("C"), False),
        (lambda: d.length(), 3),
        (lambda: d.keys(), ["a", "b", "c"]),
        (lambda: d.values(), [1, [2], {"deep": (1, 2)}]),
        (lambda: d.items(), [("a", 1), ("b", [2]), ("c", {"deep": (1, 2)})]),
        (lambda: d.delete("c"), None),
        (lambda: d.pop("b"), [2]),
        (lambda: d.pop("b", None), None),
        (lambda: d.pop("b", "default"), "default"),
        (lambda: d.setdefault("a", 9), 1),
        (lambda: d.setdefault("z", 9), 9),
        (lambda: d.setdefault("none"), None),
        (lambda: d.popitem(), ("none", None)),
        (lambda: d.copy(), {"a": 1, "z": 9}),
        (lambda: d.clear(), None),
        (lambda: d.length(), 0),
        (lambda: d.copy(), {}),
    )
    for method in (d.get_item, d.delete, d.pop):
        assert (await fails(rig, KeyError, method, "gone")).args == ("gone",)
    await fails(rig, KeyError, d.popitem)


@scenario
async def dict_keys_fold_as_in_python(rig: Rig) -> None:
    d = await rig.make(Dict, {1: "int"})
    await rig.do(d.set(1.0, "float"))
    await rig.do(d.set(True, "bool"))
    await rig.do(d.set("1", "str"))
    await rig.do(d.set((1, "x"), "tuple"))
    await rig.do(d.set(None, "none"))
    assert [type(key) for key in await rig.do(d.keys())] == [int, str, tuple, type(None)]
    await many(
        rig,
        (lambda: d.get(1), "bool"),
        (lambda: d.get((1.0, "x")), "tuple"),
        (lambda: d.get(None), "none"),
        (lambda: d.get(b"1"), None),
        (lambda: d.length(), 4),
    )
    assert (await fails(rig, KeyError, d.get_item, (2, "x"))).args == ((2, "x"),)


@scenario
async def dict_of_many_keys(rig: Rig) -> None:
    d = await rig.make(Dict, [(n, n * n) for n in range(6)])
    await many(
        rig,
        (lambda: d.get_many([1, 3, 99]), {1: 1, 3: 9}),
        (lambda: d.pop_many([3, 99, 1]), {3: 9, 1: 1}),
        (lambda: d.delete_many([3, 4, 5, 5]), 2),
        (lambda: d.update({"x": 1}, y=2), None),
        (lambda: d.update([("z", 3)]), None),
        (lambda: d.copy(), {0: 0, 2: 4, "x": 1, "y": 2, "z": 3}),
        (lambda: d.increment_many({"x": 5, "new": 1}), {"x": 6, "new": 1}),
        (lambda: d.extend_many({"list": [1, 2]}), None),
        (lambda: d.extend_many({"list": [3]}), None),
        (lambda: d.get("list"), [1, 2, 3]),
    )


@scenario
async def dict_numbers(rig: Rig) -> None:
    d = await rig.make(Dict, text="x", none=None)
    await many(
        rig,
        (lambda: d.increment("n"), 1),
        (lambda: d.increment("n", 2.5), 3.5),
        (lambda: d.increment("n", -3), 0.5),
        (lambda: d.increment("big", 2**62), 2**62),
        (lambda: d.increment("big", 2**62), 2**63),
        (lambda: d.increment("big", 2**62), 3 * 2**62),
        (lambda: d.get("big"), 3 * 2**62),
        (lambda: d.increment("big", 2**70), 2**70 + 3 * 2**62),
        (lambda: d.increment("exact", Decimal("0.10")), Decimal("0.10")),
        (lambda: d.increment("exact", Decimal("0.20")), Decimal("0.30")),
        (lambda: d.increment_many({"exact": 1, "part": Fraction(1, 3)}),
         {"exact": Decimal("1.30"), "part": Fraction(1, 3)}),
    )  # fmt: skip
    for key in ("text", "none"):
        await fails(rig, TypeError, d.increment, key)
    assert await rig.do(d.get("text")) == "x"


@scenario
async def dict_compare_and_set(rig: Rig) -> None:
    d = await rig.make(Dict)
    await many(
        rig,
        (lambda: d.compare_and_set("k", 1, 2), False),
        (lambda: d.compare_and_set("k", MISSING, 1), True),
        (lambda: d.compare_and_set("k", MISSING, 2), False),
        (lambda: d.compare_and_set("k", 1.0, [1, {"a": (2,)}]), True),
        (lambda: d.compare_and_set("k", [1, {"a": [2]}], 0), False),
        (lambda: d.compare_and_set("k", [1, {"a": (2,)}], None), True),
        (lambda: d.compare_and_set("k", MISSING, 0), False),
        (lambda: d.compare_and_set("k", None, MISSING), True),
        (lambda: d.contains("k"), False),
        (lambda: d.compare_and_set("k", MISSING, MISSING), True),
        (lambda: d.contains("k"), False),
    )


@scenario
async def dict_versions(rig: Rig) -> None:
    d = await rig.make(Dict, a=1)
    version, found = await rig.do(d.get_versioned("a"))
    assert found == [1]
    await rig.do(d.set("b", 1))  # another key does not matter
    await rig.do(d.set_versioned("a", 2, version))
    await fails(rig, VersionConflict, d.set_versioned, "a", 3, version)
    await rig.do(d.set("a", 1))  # one that was changed back is as it was
    await rig.do(d.set_versioned("a", 1.0, version))
    await fails(rig, VersionConflict, d.set_versioned, "a", 3, version)
    assert await rig.do(d.get_versioned("x")) == (b"", [])
    await fails(rig, VersionConflict, d.set_versioned, "x", MISSING, version)
    await rig.do(d.set_versioned("x", [1] * 99, b""))
    await fails(rig, VersionConflict, d.set_versioned, "x", 1, b"")
    version, found = await rig.do(d.get_versioned("x"))
    assert found == [[1] * 99]
    await rig.do(d.set_versioned("x", MISSING, version))
    assert await rig.do(d.get("x", 7)) == 7
    version, found = await rig.do(d.get_versioned("a"))
    await rig.do(d.set_versioned("a", MISSING, version))
    await many(
        rig,
        (lambda: d.contains("a"), False),
        (lambda: d.update_item("n", lambda old: old + 1, 10), 11),
        (lambda: d.update_item("n", lambda old: [old]), [11]),
        (lambda: d.get("n"), [11]),
    )
    await fails(rig, ZeroDivisionError, d.update_item, "n", lambda old: 1 // 0)
    assert await rig.do(d.get("n")) == [11]


@scenario
async def nested_values(rig: Rig) -> None:
    d = await rig.make(Dict, row={7: ["a", {"hits": 1}]})
    await many(
        rig,
        (lambda: d.get_nested(("row", 7, 1, "hits")), 1),
        (lambda: d.get_nested(("row", 7, -2)), "a"),
        (lambda: d.get_nested(("row", 8), "default"), "default"),
        (lambda: d.get_nested(("row", 7)), ["a", {"hits": 1}]),
        (lambda: d.contains_nested(("row", 7, 1)), True),
        (lambda: d.contains_nested(("row", 7, 2)), False),
        (lambda: d.contains_nested(("no", 7)), False),
        (lambda: d.update_nested(("row", 7, 0), ["new"]), None),
        (lambda: d.update_nested(("row", "more"), {}), None),
        (lambda: d.setdefault_nested(("row", "more", "x"), 5), 5),
        (lambda: d.setdefault_nested(("row", "more", "x"), 6), 5),
        (lambda: d.increment_nested(("row", 7, 1, "hits"), 4), 5),
        (lambda: d.increment_nested(("row", "more", "y")), 1),
        (lambda: d.append_nested(("row", "list"), "first"), 1),
        (lambda: d.append_nested(("row", "list"), "second"), 2),
        (lambda: d.pop_nested(("row", "list", 0)), "first"),
        (lambda: d.pop_nested(("row", "none"), "default"), "default"),
        (lambda: d.delete_nested(("row", "more", "x")), None),
        (lambda: d.compare_and_set_nested(("row", "list"), ["second"], ["third"]), True),
        (lambda: d.compare_and_set_nested(("row", "list"), ["second"], ["fourth"]), False),
        (lambda: d.compare_and_set_nested(("row", "flag"), MISSING, True), True),
        (lambda: d.compare_and_set_nested(("row", "flag"), True, MISSING), True),
        (lambda: d.get("row"), {7: [["new"], {"hits": 5}], "more": {"y": 1}, "list": ["third"]}),
    )
    await fails(rig, KeyError, d.get_nested, ("row", "x", "y"))
    await fails(rig, IndexError, d.get_nested, ("row", 7, 9))
    await fails(rig, KeyError, d.update_nested, ("row", "x", "y"), 1)
    await fails(rig, TypeError, d.update_nested, ("row", 7, "x"), 1)
    await fails(rig, TypeError, d.update_nested, ("row", "more", "y", "z"), 1)
    await fails(rig, KeyError, d.delete_nested, ("row", "x"))
    await fails(rig, TypeError, d.increment_nested, ("row", "list"))
    await fails(rig, TypeError, d.append_nested, ("row", "more"), 1)
    await fails(rig, ValueError, d.get_nested, ())
    assert await rig.do(d.get_nested(("row", "more"))) == {"y": 1}


@scenario
async def nested_values_of_lists_and_values(rig: Rig) -> None:
    items = await rig.make(List, [{"a": [1]}, 2])
    value = await rig.make(Value, "i", {"a": [1]})
    await many(
        rig,
        (lambda: items.get_nested((0, "a", 0)), 1),
        (lambda: items.update_nested((1,), "two"), None),
        (lambda: items.increment_nested((0, "a", 0)), 2),
        (lambda: items.append_nested((0, "a"), 3), 2),
        (lambda: items.contains_nested((2,)), False),
        (lambda: items.setdefault_nested((0, "b"), 1), 1),
        (lambda: items.pop_nested((0, "b")), 1),
        (lambda: items.compare_and_set_nested((1,), "two", 2), True),
        (lambda: items.delete_nested((1,)), None),
        (lambda: items.copy(), [{"a": [2, 3]}]),
        (lambda: value.get_nested(("a", 0)), 1),
        (lambda: value.contains_nested(("b",)), False),
        (lambda: value.update_nested(("b",), 2), None),
        (lambda: value.setdefault_nested(("b",), 3), 2),
        (lambda: value.increment_nested(("b",)), 3),
        (lambda: value.append_nested(("a",), 2), 2),
        (lambda: value.pop_nested(("a", 0)), 1),
        (lambda: value.compare_and_set_nested(("b",), 3, 4), True),
        (lambda: value.delete_nested(("a",)), None),
        (lambda: value.get(), {"b": 4}),
    )
    await fails(rig, IndexError, items.get_nested, (5,))
    await fails(rig, TypeError, items.get_nested, ("x",))


@scenario
async def list_items(rig: Rig) -> None:
    items = await rig.make(List, [3, 1, 2])
    await many(
        rig,
        (lambda: items.append("x"), None),
        (lambda: items.extend([4, 5]), None),
        (lambda: items.insert(1, (0,)), None),
        (lambda: items.copy(), [3, (0,), 1, 2, "x", 4, 5]),
        (lambda: items.length(), 7),
        (lambda: items.get_item(-1), 5),
        (lambda: items.set(1, 9), None),
        (lambda: items.pop(), 5),
        (lambda: items.pop(0), 3),
        (lambda: items.delete(-1), None),
        (lambda: items.copy(), [9, 1, 2, "x"]),
        (lambda: items.contains("x"), True),
        (lambda: items.contains("y"), False),
        (lambda: items.index(2), 2),
        (lambda: items.index(2, 1, 3), 2),
        (lambda: items.count(1), 1),
        (lambda: items.remove("x"), None),
        (lambda: items.reverse(), None),
        (lambda: items.copy(), [2, 1, 9]),
        (lambda: items.increment(0, 3), 5),
        (lambda: items.multiply(2), None),
        (lambda: items.copy(), [5, 1, 9, 5, 1, 9]),
        (lambda: items.compare_and_set(0, 5, "five"), True),
        (lambda: items.compare_and_set(0, 5, "six"), False),
        (lambda: items.clear(), None),
        (lambda: items.copy(), []),
    )
    for method in (items.get_item, items.delete, items.pop):
        await fails(rig, IndexError, method, 0)
    await fails(rig, IndexError, items.set, 0, "x")
    await fails(rig, IndexError, items.compare_and_set, 0, 1, 2)
    await fails(rig, IndexError, items.increment, 0)
    await fails(rig, ValueError, items.remove, "x")
    await fails(rig, ValueError, items.index, "x")


@scenario
async def list_slices(rig: Rig) -> None:
    items = await rig.make(List, range(8))
    await many(
        rig,
        (lambda: items.get_slice(2, 5), [2, 3, 4]),
        (lambda: items.get_slice(None, None, -3), [7, 4, 1]),
        (lambda: items.get_slice(-2), [6, 7]),
        (lambda: items.get_slice(9), []),
        (lambda: items.set_slice(["a", "b", "c"], 1, 3), None),
        (lambda: items.delete_slice(5, None), None),
        (lambda: items.copy(), [0, "a", "b", "c", 3]),
        (lambda: items.set_slice([1, 2, 3], None, None, 2), None),
        (lambda: items.copy(), [1, "a", 2, "c", 3]),
        (lambda: items.delete_slice(None, None, 2), None),
        (lambda: items.copy(), ["a", "c"]),
    )
    await fails(rig, ValueError, items.get_slice, None, None, 0)
    await fails(rig, ValueError, items.set_slice, [1, 2], None, None, 2)


@scenario
async def list_order_and_versions(rig: Rig) -> None:
    items = await rig.make(List, [3, 1.5, 2])
    await many(
        rig,
        (lambda: items.sort(), None),
        (lambda: items.copy(), [1.5, 2, 3]),
        (lambda: items.sort(reverse=True), None),
        (lambda: items.copy(), [3, 2, 1.5]),
        (lambda: items.sort(key=lambda item: item % 2), None),
        (lambda: items.copy(), [2, 3, 1.5]),
        (lambda: items.sort_values(), None),
        (lambda: items.copy(), [1.5, 2, 3]),
    )
    await rig.do(items.append("x"))
    await fails(rig, TypeError, items.sort)
    assert await rig.do(items.copy()) == [1.5, 2, 3, "x"]
    version, value = await rig.do(items.get_versioned(-1))
    assert value == "x"
    await rig.do(items.set(0, 1))  # the rest of the list does not matter
    await rig.do(items.set_versioned(3, "y", version))
    await fails(rig, VersionConflict, items.set_versioned, 3, "z", version)
    await fails(rig, IndexError, items.set_versioned, 4, "z", version)
    await fails(rig, IndexError, items.get_versioned, 4)
    whole, copy = await rig.do(items.copy_versioned())
    assert copy == [1, 2, 3, "y"]
    for order in ([0, 0, 1, 2], [0, 1, 2, 4], [-1, 0, 1, 2]):
        await fails(rig, ValueError, items.rearrange, order, whole)
    await rig.do(items.rearrange([3, 0, 2], whole))
    await fails(rig, VersionConflict, items.rearrange, [], whole)
    assert await rig.do(items.copy()) == ["y", 1, 3]
    await rig.do(items.set_slice(copy))
    unranked = await rig.do(items.sort_ranked({}))
    assert [value for _, value in unranked] == [1, 2, 3, "y"]
    ranks = {version: 1 if value == "y" else 2 for version, value in unranked}
    await rig.do(items.set(0, "new"))
    ((version, value),) = await rig.do(items.sort_ranked(ranks))
    assert (value, await rig.do(items.copy())) == ("new", ["new", 2, 3, "y"])
    await many(
        rig,
        (lambda: items.sort_ranked({**ranks, version: 2}), []),
        (lambda: items.copy(), ["y", "new", 2, 3]),
        (lambda: items.sort_ranked({**ranks, version: 2}, True), []),
        (lambda: items.copy(), ["new", 2, 3, "y"]),
    )
    unknown = await rig.do(items.remove_known({version: False}))
    assert sorted(map(str, unknown.values())) == ["2", "3", "y"]
    equal = {version: value == 3 for version, value in unknown.items()}
    assert await rig.do(items.remove_known(equal)) == {version: "new"}
    assert await rig.do(items.remove_known({**equal, version: False})) == {}
    assert await rig.do(items.copy()) == ["new", 2, "y"]
    await fails(rig, ValueError, items.remove_known, {**equal, version: False})


@scenario
async def set_operations(rig: Rig) -> None:
    elements = await rig.make(Set, [1, "a", 1.0])
    await many(
        rig,
        (lambda: elements.length(), 2),
        (lambda: elements.contains(True), True),
        (lambda: elements.add((1, "x")), None),
        (lambda: elements.add_new((1, "x")), False),
        (lambda: elements.add_new("b"), True),
        (lambda: elements.discard("gone"), None),
        (lambda: elements.remove("b"), None),
        (lambda: elements.copy(), {1, "a", (1, "x")}),
        (lambda: elements.isdisjoint("bc"), True),
        (lambda: elements.issubset([1, "a", (1, "x"), None]), True),
        (lambda: elements.issuperset("a"), True),
        (lambda: elements.union("ab", [None]), {1, "a", (1, "x"), "b", None}),
        (lambda: elements.intersection("ab", ["a", 1]), {"a"}),
        (lambda: elements.intersection(), {1, "a", (1, "x")}),
        (lambda: elements.difference("ab", [1]), {(1, "x")}),
        (lambda: elements.symmetric_difference("ab"), {1, (1, "x"), "b"}),
        (lambda: elements.update("bc", [None]), None),
        (lambda: elements.difference_update("b", [(1, "x")]), None),
        (lambda: elements.symmetric_difference_update("cd"), None),
        (lambda: elements.copy(), {1, "a", None, "d"}),
        (lambda: elements.intersection_update(["d", 1]), None),
        (lambda: elements.copy(), {1, "d"}),
        (lambda: elements.remove(1), None),
        (lambda: elements.pop(), "d"),
    )
    assert (await fails(rig, KeyError, elements.remove, (2,))).args == ((2,),)
    await fails(rig, KeyError, elements.pop)
    await rig.do(elements.add(1))
    await rig.do(elements.clear())
    assert await rig.do(elements.copy()) == set()


@scenario
async def value_operations(rig: Rig) -> None:
    value = await rig.make(Value, "i", 5)
    await many(
        rig,
        (lambda: value.typecode(), "i"),
        (lambda: value.get(), 5),
        (lambda: value.set([1]), None),
        (lambda: value.exchange({"a": 1}), [1]),
        (lambda: value.compare_and_set({"a": 2}, 0), False),
        (lambda: value.compare_and_set({"a": 1}, 0), True),
        (lambda: value.increment(), 1),
        (lambda: value.increment(0.5), 1.5),
        (lambda: value.update(lambda old: str(old)), "1.5"),
        (lambda: value.get(), "1.5"),
    )
    await fails(rig, TypeError, value.increment)
    version, found = await rig.do(value.get_versioned())
    assert found == "1.5"
    await rig.do(value.set_versioned("new", version))
    await fails(rig, VersionConflict, value.set_versioned, "newer", version)
    assert await rig.do(value.get()) == "new"


@scenario
async def namespace_operations(rig: Rig) -> None:
    names = await rig.make(Namespace, a=1, get=[2])
    await many(
        rig,
        (lambda: names.get("a"), 1),
        (lambda: names.get("x", "default"), "default"),
        (lambda: names.set("b", (1, 2)), None),
        (lambda: names.contains("b"), True),
        (lambda: names.names(), ["a", "get", "b"]),
        (lambda: names.items(), [("a", 1), ("get", [2]), ("b", (1, 2))]),
        (lambda: names.delete("b"), None),
        (lambda: names.copy(), {"a": 1, "get": [2]}),
        (lambda: names.update({"a": {}}, c=3), None),
        (lambda: names.increment("c"), 4),
        (lambda: names.increment("d", 2.5), 2.5),
        (lambda: names.compare_and_set("c", 3, 5), False),
        (lambda: names.compare_and_set("c", 4, 5), True),
        (lambda: names.compare_and_set("c", 5, MISSING), True),
        (lambda: names.compare_and_set("c", MISSING, [0]), True),
        (lambda: names.compare_and_set("c", MISSING, 1), False),
        (lambda: names.update_item("c", lambda old: [*old, 1]), [0, 1]),
        (lambda: names.update_nested(("a", "x"), 7), None),
        (lambda: names.append_nested(("a", "list"), "first"), 1),
        (lambda: names.setdefault_nested(("new",), 1), 1),
        (lambda: names.increment_nested(("new",)), 2),
        (lambda: names.compare_and_set_nested(("new",), 2, [3]), True),
        (lambda: names.contains_nested(("new", 0)), True),
        (lambda: names.delete_nested(("new", 0)), None),
        (lambda: names.pop_nested(("new",)), []),
        (lambda: names.get_nested(("a",)), {"x": 7, "list": ["first"]}),
        (lambda: names.copy(), {"a": {"x": 7, "list": ["first"]}, "get": [2], "d": 2.5,
                                "c": [0, 1]}),
    )  # fmt: skip
    for method in (names.get, names.delete):
        assert "'gone'" in str(await fails(rig, AttributeError, method, "gone"))
    await fails(rig, TypeError, names.get_nested, (1,))
    version, found = await rig.do(names.get_versioned("d"))
    assert found == [2.5]
    await rig.do(names.set_versioned("d", MISSING, version))
    await fails(rig, VersionConflict, names.set_versioned, "d", 1, version)
    await rig.do(names.clear())
    assert await rig.do(names.names()) == []


@scenario
async def array_operations(rig: Rig) -> None:
    numbers = await rig.make(Array, "h", array("h", [1, 2, 3]))
    await many(
        rig,
        (lambda: numbers.typecode(), "h"),
        (lambda: numbers.length(), 3),
        (lambda: numbers.get_item(-1), 3),
        (lambda: numbers.get_slice(1), array("h", [2, 3])),
        (lambda: numbers.get_slice(None, None, -1), array("h", [3, 2, 1])),
        (lambda: numbers.set(0, -5), None),
        (lambda: numbers.set_slice(array("h", [7, 8, 9]), 1), None),
        (lambda: numbers.set_slice([0, 0], 0, 4, 2), None),
        (lambda: numbers.copy(), array("h", [0, 7, 0, 9])),
        (lambda: numbers.fill(4, 2), None),
        (lambda: numbers.increment(2), 5),
        (lambda: numbers.compare_and_set(0, 1, 2), False),
        (lambda: numbers.compare_and_set(0, 0, 2), True),
        (lambda: numbers.copy(), array("h", [2, 7, 5, 4])),
    )
    await fails(rig, IndexError, numbers.get_item, 4)
    await fails(rig, IndexError, numbers.set, 4, 1)
    await fails(rig, OverflowError, numbers.set, 0, 32768)
    await fails(rig, TypeError, numbers.set, 0, 0.5)
    await fails(rig, TypeError, numbers.set_slice, array("d", [1.0]))
    await fails(rig, ValueError, numbers.set_slice, array("h", [1]), None, None, 2)
    await fails(rig, OverflowError, numbers.increment, 0, 40000)
    assert await rig.do(numbers.copy()) == array("h", [2, 7, 5, 4])
    zeros = await rig.make(Array, "d", 2)
    assert await rig.do(zeros.copy()) == array("d", [0.0, 0.0])


@scenario
async def event_wakes_all(rig: Rig) -> None:
    event = await rig.make(Event)
    assert await rig.do(event.is_set()) is False
    assert await rig.do(event.wait(SHORT)) is False
    assert await rig.do(event.wait(0)) is False
    waiting = [await rig.start(event.wait) for _ in range(3)]
    await rig.parked(3)
    await rig.do(event.set())
    assert [await one.result() for one in waiting] == [True, True, True]
    await rig.parked(0)
    assert await rig.do(event.is_set()) is True
    assert await rig.do(event.wait()) is True
    assert await rig.do(event.wait(0)) is True
    await rig.do(event.clear())
    assert await rig.do(event.is_set()) is False


@scenario
async def lock_excludes(rig: Rig) -> None:
    lock = await rig.make(Lock)
    assert await rig.do(lock.locked()) is False
    assert await rig.do(lock.holder()) is None
    assert await rig.do(lock.acquire()) is True
    first = lock.fence
    assert first > 0
    assert await rig.do(lock.locked()) is True
    who, since, fence = await rig.do(lock.holder())
    assert isinstance(who, str)
    assert since >= 0
    assert fence == first
    # It is no RLock.
    assert await rig.do(lock.acquire(False)) is False
    assert await rig.do(lock.acquire_fenced(True, SHORT)) == 0
    assert await rig.do(lock.acquire_fenced(timeout=0)) == 0
    assert lock.fence == first
    await rig.do(lock.release())
    assert await rig.do(lock.acquire(timeout=SHORT)) is True
    assert lock.fence > first
    await rig.do(lock.release())
    assert type(await fails(rig, RuntimeError, lock.release)) is RuntimeError
    await fails(rig, ValueError, lock.acquire, True, -2)
    await fails(rig, ValueError, lock.acquire, False, 1)


@scenario
async def lock_passes_on_in_order(rig: Rig) -> None:
    lock = await rig.make(Lock)
    await rig.do(lock.acquire(owner="zero"))
    waiting = []
    for number in range(3):
        waiting.append(await rig.start(lock.acquire_fenced, owner=f"number {number}"))
        await rig.parked(number + 1)
    assert await rig.do(lock.waiting()) == 3
    fences: list[int] = []
    await rig.do(lock.release("zero"))
    for number, one in enumerate(waiting):
        fences.append(await one.result())
        who, _, fence = await rig.do(lock.holder())
        assert f"number {number}" in who
        assert fence == fences[-1]
        await rig.do(lock.release(owner=f"number {number}"))
    assert fences == sorted(set(fences))
    assert await rig.do(lock.locked()) is False
    assert await rig.do(lock.waiting()) == 0


@scenario
async def lock_belongs_to_its_owner(rig: Rig) -> None:
    lock = await rig.make(Lock)
    await rig.do(lock.acquire())
    elsewhere = await rig.start(lock.release)
    with pytest.raises(NotOwner, match="only its owner may release it"):
        await elsewhere.result()
    assert await rig.do(lock.locked()) is True
    assert await (await rig.start(lock.acquire_fenced, False)).result() == 0
    await rig.do(lock.release())
    await rig.do(lock.acquire(owner="job"))
    await fails(rig, NotOwner, lock.release)
    await fails(rig, NotOwner, lock.release, "another job")
    assert await (await rig.start(lock.release, "job")).result() is None
    assert await rig.do(lock.locked()) is False


@scenario
async def rlock_is_acquired_again_by_its_owner(rig: Rig) -> None:
    lock = await rig.make(RLock)
    assert await rig.do(lock.acquire()) is True
    first = lock.fence
    assert await rig.do(lock.acquire(timeout=SHORT)) is True
    assert await rig.do(lock.acquire_fenced(False)) == first
    assert await (await rig.start(lock.acquire_fenced, False)).result() == 0
    with pytest.raises(NotOwner, match="only its owner may release it"):
        await (await rig.start(lock.release)).result()
    waiting = await rig.start(lock.acquire_fenced, True, None, "job")  # which outlives its task
    await rig.parked(1)
    assert await rig.do(lock.waiting()) == 1
    for _ in range(2):
        await rig.do(lock.release())
        assert (await rig.do(lock.holder()))[2] == first
    await rig.do(lock.release())
    assert await waiting.result() > first
    assert await rig.do(lock.locked()) is True
    await fails(rig, NotOwner, lock.release)
    await fails(rig, ValueError, lock.acquire, False, 1)


async def shown(rig: Rig, member: Any) -> Any:
    """Return what a method of async proxies returns, and a property of blocking ones is."""
    return await rig.do(member()) if callable(member) else member


@scenario
async def barrier_lets_all_through_together(rig: Rig) -> None:
    barrier = await rig.make(Barrier, 3)
    assert await shown(rig, barrier.parties) == 3
    for _ in range(2):
        waiting = [await rig.start(barrier.arrive) for _ in range(2)]
        await rig.parked(2)
        last = await rig.do(barrier.arrive())
        found = [last, *[await one.result() for one in waiting]]
        assert sorted(index for index, _, _ in found) == [0, 1, 2]
        assert {turn for _, turn, _ in found} == {0}
    first = await rig.start(barrier.arrive)
    await rig.parked(1)
    await fails(rig, BrokenBarrierError, barrier.arrive, SHORT)
    with pytest.raises(BrokenBarrierError):
        await first.result()
    await fails(rig, BrokenBarrierError, barrier.arrive)
    assert await shown(rig, barrier.broken) is True
    await rig.do(barrier.reset())
    assert await shown(rig, barrier.broken) is False
    first = await rig.start(barrier.arrive)
    await rig.parked(1)
    assert await shown(rig, barrier.n_waiting) == 1
    await rig.do(barrier.abort())
    with pytest.raises(BrokenBarrierError):
        await first.result()
    alone = await rig.make(Barrier, 1, "an action")
    assert await rig.do(alone.arrive()) == (0, 1, "an action")
    await rig.do(alone.pass_on(1))
    await fails(rig, BrokenBarrierError, alone.pass_on, 1)
    assert (await rig.do(alone.arrive()))[1] == 2
    await rig.do(alone.fail(1))
    assert await shown(rig, alone.broken) is False
    await rig.do(alone.fail(2))
    assert await shown(rig, alone.broken) is True
    await rig.do(alone.reset())
    await fails(rig, ValueError, alone.arrive, float("nan"))


@scenario
async def lock_table_gives_all_keys_or_none(rig: Rig) -> None:
    table = await rig.make(LockTable)
    first = await rig.do(table.acquire_keys(["a", ("b", 1)]))
    assert first > 0
    assert await rig.do(table.locked("a")) is True
    assert await rig.do(table.locked("c")) is False
    held = await rig.do(table.holders())
    assert {key: fence for key, (_, _, fence) in held.items()} == {"a": first, ("b", 1): first}
    await fails(rig, RuntimeError, table.acquire_keys, ["c", "a"])
    late = await fails(rig, TimeoutError, table.acquire_keys, ["c", "a"], SHORT)
    assert "key 2 of 2 is held by" in str(late)
    with pytest.raises(NotOwner, match="only its owner may release it"):
        await (await rig.start(table.release_keys, ["a"])).result()
    waiting = await rig.start(table.acquire_keys, [("b", 1), "d"], owner="job")
    await rig.parked(1)
    assert await rig.do(table.waiting()) == 1
    await rig.do(table.release_keys([("b", 1)]))
    assert await waiting.result() > first
    await rig.do(table.release_keys(["d", ("b", 1)], "job"))
    await rig.do(table.release_keys(["a"]))
    await fails(rig, RuntimeError, table.release_keys, ["a"])
    await fails(rig, ValueError, table.acquire_keys, [])
    await fails(rig, ValueError, table.acquire_keys, ["a"], -1)
    assert await rig.do(table.holders()) == {}
    assert await rig.do(table.waiting()) == 0


@scenario
async def condition_wakes_who_sleeps(rig: Rig) -> None:
    condition = await rig.make(Condition, await rig.make(RLock))
    await fails(rig, RuntimeError, condition.wait_fenced)
    await fails(rig, RuntimeError, condition.notify)
    assert await rig.do(condition.acquire()) is True
    assert await rig.do(condition.acquire()) is True
    notified, fence = await rig.do(condition.wait_fenced(SHORT))
    assert (notified, fence) == (False, (await rig.do(condition.holder()))[2])
    assert (await rig.do(condition.wait_until(SHORT)))[0] is False
    await rig.do(condition.release())
    await rig.do(condition.release())
    waiting = []
    for number in range(3):
        owner = f"number {number}"
        assert await rig.do(condition.acquire(owner=owner)) is True
        waiting.append(await rig.start(condition.wait_fenced, owner=owner))
        await rig.parked(number + 1)
    assert await rig.do(condition.sleeping()) == 3
    assert await rig.do(condition.acquire()) is True
    await rig.do(condition.notify())
    assert await rig.do(condition.sleeping()) == 2
    await rig.do(condition.notify_all())
    assert await rig.do(condition.sleeping()) == 0
    assert await rig.do(condition.waiting()) == 3
    await rig.do(condition.release())
    for number, one in enumerate(waiting):
        who, _, fence = await rig.do(condition.holder())
        assert await one.result() == (True, fence)
        assert f"number {number}" in who
        await rig.do(condition.release(owner=f"number {number}"))
    assert await rig.do(condition.locked()) is False
    assert await rig.do(condition.acquire()) is True
    await fails(rig, NotOwner, condition.release, "somebody else")
    await rig.do(condition.release())


@scenario
async def semaphore_lets_so_many_in(rig: Rig) -> None:
    semaphore = await rig.make(Semaphore, 2)
    assert await rig.do(semaphore.acquire()) is True
    assert await rig.do(semaphore.acquire(True, SHORT)) is True
    assert await rig.do(semaphore.value()) == 0
    assert await rig.do(semaphore.locked()) is True
    assert await rig.do(semaphore.acquire(False)) is False
    assert await rig.do(semaphore.acquire(timeout=SHORT)) is False
    assert len(await rig.do(semaphore.holders())) == 2
    waiting = await rig.start(semaphore.acquire)
    await rig.parked(1)
    assert await rig.do(semaphore.waiting()) == 1
    await rig.do(semaphore.release())
    assert await waiting.result() is True
    await rig.do(semaphore.release())
    await rig.do(semaphore.release())  # of another, which it knows
    await rig.do(semaphore.release())  # one more than there were
    assert await rig.do(semaphore.value()) == 3
    await fails(rig, ValueError, semaphore.acquire, False, 1)


@scenario
async def semaphore_permits_come_back_when_their_lease_ends(rig: Rig) -> None:
    semaphore = await rig.make(BoundedSemaphore, 1)
    assert await rig.do(semaphore.acquire(lease=60)) is True
    await rig.do(semaphore.renew(SHORT))
    assert await rig.do(semaphore.acquire()) is True  # waits until then
    await rig.do(semaphore.release())
    await fails(rig, NotOwner, semaphore.release)  # the one whose lease has ended
    await fails(rig, NotOwner, semaphore.renew, 1)
    await fails(rig, ValueError, semaphore.release)
    assert await rig.do(semaphore.value()) == 1
    assert await rig.do(semaphore.locked()) is False
    assert await rig.do(semaphore.waiting()) == 0
    assert await rig.do(semaphore.holders()) == []


@scenario
async def queue_in_order(rig: Rig) -> None:
    q = await rig.make(Queue)
    items = [1, "two", (3,), None, {"five": [5]}]
    for item in items[:2]:
        await rig.do(q.put(item))
    await rig.do(q.put_nowait(items[2]))
    await rig.do(q.put_many(items[3:]))
    await many(
        rig,
        (lambda: q.qsize(), 5),
        (lambda: q.empty(), False),
        (lambda: q.full(), False),
        (lambda: q.maxsize(), 0),
        (lambda: q.get(), 1),
        (lambda: q.get_nowait(), "two"),
        (lambda: q.get_delivery(), ((3,), False)),
        (lambda: q.get_many(5), [None, {"five": [5]}]),
        (lambda: q.empty(), True),
    )
    await fails(rig, queue.Empty, q.get_nowait)
    await fails(rig, queue.Empty, q.get, False)
    await fails(rig, queue.Empty, q.get, True, SHORT)
    await fails(rig, queue.Empty, q.get_many, 3, timeout=SHORT)
    await fails(rig, queue.Empty, q.get_delivery, block=False)
    await fails(rig, ValueError, q.get, timeout=-1)
    await fails(rig, ValueError, q.get_many, 0)


@scenario
async def queue_getters_are_served_in_order(rig: Rig) -> None:
    q = await rig.make(Queue)
    waiting = []
    for number in range(3):
        waiting.append(await rig.start(q.get))
        await rig.parked(number + 1)
    await rig.do(q.put_many("abcd"))
    assert [await one.result() for one in waiting] == ["a", "b", "c"]
    assert await rig.do(q.get()) == "d"
    many_of_them = await rig.start(q.get_many, 2)
    await rig.parked(1)
    await rig.do(q.put_many("ef"))
    found = await many_of_them.result()
    found += await rig.do(q.get_many(9)) if len(found) == 1 else []
    assert found == ["e", "f"]


@scenario
async def queue_that_is_full(rig: Rig) -> None:
    q = await rig.make(Queue, 2)
    await rig.do(q.put_many([1, 2]))
    await many(rig, (lambda: q.full(), True), (lambda: q.maxsize(), 2))
    await fails(rig, queue.Full, q.put_nowait, 3)
    await fails(rig, queue.Full, q.put, 3, False)
    await fails(rig, queue.Full, q.put, 3, True, SHORT)
    waiting = []
    for number in (3, 4):
        waiting.append(await rig.start(q.put, number))
        await rig.parked(len(waiting))
    assert await rig.do(q.get()) == 1
    assert await waiting[0].result() is None
    await rig.parked(1)
    assert await rig.do(q.get()) == 2
    assert await waiting[1].result() is None
    assert await rig.do(q.get_many(5)) == [3, 4]
    await fails(rig, queue.Full, q.put_many, [1, 2, 3])
    assert await rig.do(q.qsize()) == 0


@scenario
async def queue_join(rig: Rig) -> None:
    q = await rig.make(Queue)
    assert await rig.do(q.join()) is None
    await rig.do(q.put_many("ab"))
    await fails(rig, TimeoutError, q.join, SHORT)
    joining = await rig.start(q.join)
    await rig.parked(1)
    await rig.do(q.get())
    await rig.do(q.task_done())
    await rig.do(q.get())
    await rig.parked(1)
    await rig.do(q.task_done())
    assert await joining.result() is None
    await fails(rig, ValueError, q.task_done)


@scenario
async def joinable_queue(rig: Rig) -> None:
    jobs = await rig.make(JoinableQueue, 2)
    await many(
        rig,
        (lambda: jobs.put("a"), None),
        (lambda: jobs.put_nowait("b"), None),
        (lambda: jobs.full(), True),
        (lambda: jobs.get(), "a"),
        (lambda: jobs.task_done(), None),
        (lambda: jobs.get_nowait(), "b"),
        (lambda: jobs.task_done(), None),
        (lambda: jobs.join(), None),
    )
    await fails(rig, ValueError, jobs.task_done)


@scenario
async def queue_shutdown(rig: Rig) -> None:
    q = await rig.make(Queue, 1)
    await rig.do(q.put("last"))
    putter = await rig.start(q.put, "too late")
    await rig.parked(1)
    assert await rig.do(q.is_shut_down()) is False
    await rig.do(q.shutdown())
    with pytest.raises(ShutDown):
        await putter.result()
    assert await rig.do(q.is_shut_down()) is True
    await fails(rig, ShutDown, q.put, "x")
    await fails(rig, ShutDown, q.put_nowait, "x")
    assert await rig.do(q.get()) == "last"
    await fails(rig, ShutDown, q.get)
    await fails(rig, ShutDown, q.get_nowait)
    other = await rig.make(Queue)
    getter = await rig.start(other.get)
    await rig.parked(1)
    await rig.do(other.shutdown(immediate=True))
    with pytest.raises(ShutDown):
        await getter.result()
    await rig.parked(0)


@scenario
async def what_views_ask_for(rig: Rig) -> None:
    """State by version, for views that keep a copy, and changes in place, for those that do not."""
    d = await rig.make(Dict, {"rows": [3, 1], "row": {"a": 1}})
    version = await rig.do(d.get_version())
    assert await rig.do(d.get_state(version)) == (version, None)
    assert await rig.do(d.get_state()) == (version, [("rows", [3, 1]), ("row", {"a": 1})])
    await many(
        rig,
        (lambda: d.length_nested(("rows",)), 2),
        (lambda: d.mutate_nested(("rows",), "append", [2]), None),
        (lambda: d.mutate_nested(("rows",), "sort", [False]), None),
        (lambda: d.mutate_nested(("rows",), "pop", [0]), 1),
        (lambda: d.mutate_nested(("row",), "update", [{"b": 2}]), None),
        (lambda: d.mutate_nested(("row",), "popitem"), ("b", 2)),
        (lambda: d.copy(), {"rows": [2, 3], "row": {"a": 1}}),
    )
    assert await rig.do(d.get_version()) > version
    await fails(rig, TypeError, d.length_nested, ("row", "a"))
    await fails(rig, TypeError, d.mutate_nested, ("row",), "append", [1])
    await fails(rig, IndexError, d.mutate_nested, ("rows",), "pop", [9])
    await fails(rig, KeyError, d.mutate_nested, ("gone",), "clear")
    version, found = await rig.do(d.get_nested_versioned(("row", "a")))
    assert found == [1]
    await rig.do(d.update_nested(("row", "b"), 1))  # what is elsewhere does not matter
    await rig.do(d.delete_nested(("row", "b")))
    await rig.do(d.update_nested_versioned(("row", "a"), found, version))
    await fails(rig, VersionConflict, d.update_nested_versioned, ("row", "a"), 2, version)
    assert await rig.do(d.get_nested_versioned(("row", "b"))) == (b"", [])
    await rig.do(d.update_nested_versioned(("row", "b"), 2, b""))
    await fails(rig, VersionConflict, d.update_nested_versioned, ("row", "b"), MISSING, version)
    version, _ = await rig.do(d.get_nested_versioned(("row", "b")))
    await rig.do(d.update_nested_versioned(("row", "b"), MISSING, version))
    await fails(rig, KeyError, d.get_nested_versioned, ("gone", "b"))
    await fails(rig, KeyError, d.change_nested, ("row", "b"), str)
    assert await rig.do(d.get_item("row")) == {"a": [1]}
    items = await rig.make(List, "abc")
    assert await rig.do(items.get_placed(-1)) == (2, "c")
    await fails(rig, IndexError, items.get_placed, 3)
    version = await rig.do(items.get_version())
    assert await rig.do(items.get_state()) == (version, ["a", "b", "c"])
    assert await rig.do(items.get_state(version)) == (version, None)
    value = await rig.make(Value, "i", 7)
    version, state = await rig.do(value.get_state())
    assert state == ["i", 7]
    assert await rig.do(value.get_state(version)) == (version, None)
    await rig.do(value.set(8))
    assert (await rig.do(value.get_state(version)))[1] == ["i", 8]
    names = await rig.make(Namespace, a=1)
    version, attributes = await rig.do(names.get_state())
    assert attributes == [("a", 1)]
    assert await rig.do(names.get_state(version)) == (version, None)


@scenario
async def pool_answers_without_its_workers(rig: Rig) -> None:
    """What a pool says where it makes no difference whether there are worker processes."""
    with pytest.raises(ValueError, match="at least 1"):
        await rig.make(Pool, 0)
    pool = await rig.make(Pool, 2)
    assert await rig.do(pool.processes()) == 2
    assert (await rig.do(pool.statistics()))["workers"] == 2
    assert isinstance(await rig.do(pool.pids()), list)
    assert await rig.do(pool.enlist()) == (None, None, None)
    await fails(rig, ValueError, pool.submit, "whatever", "function", [])
    job = await rig.do(pool.submit("each", "function", []))
    assert await rig.do(job.ready()) is True
    assert await rig.do(job.successful()) is True
    assert await rig.do(job.wait()) is True
    assert await rig.do(job.outcome()) == (True, False, [])
    assert await rig.do(job.get()) == []
    assert await rig.do(job.parts()) == 0
    await fails(rig, IndexError, job.part, 0)
    await fails(rig, ValueError, job.add, [], True)
    later = await rig.do(pool.submit("each", "function", [], False))
    assert await rig.do(later.ready()) is False
    await fails(rig, ValueError, later.successful)
    assert await rig.do(later.wait(SHORT)) is False
    await fails(rig, ResultTimeout, later.outcome, SHORT)
    waiting = await rig.start(later.outcome)
    await rig.parked(1)
    await rig.do(later.add([], True))
    assert await waiting.result() == (True, False, [])
    results = await rig.do(pool.submit_each("each", "function", [], False, True))
    assert await rig.do(results.room()) == 8
    await fails(rig, ResultTimeout, results.take, 1, SHORT)
    await fails(rig, ValueError, results.take, 0)
    assert await rig.do(results.feed([], True)) == 8
    assert await rig.do(results.take(1)) == []
    await fails(rig, ValueError, results.feed, [], True)
    # Of workers that it has not started
    assert await rig.do(pool.finish(10**9, True, None)) is None
    assert await rig.do(pool.unfit(10**9, "it is no worker")) is None
    await fails(rig, ValueError, pool.join)
    waiting = await rig.start((await rig.do(pool.submit("each", "function", [], False))).outcome)
    await rig.parked(1)
    await rig.do(pool.terminate())
    with pytest.raises(WorkerLost, match="terminated"):
        await waiting.result()
    assert await rig.do(pool.take(10**9)) is None
    await fails(rig, ValueError, pool.submit, "each", "function", [])
    await rig.do(pool.join())
    closed = await rig.make(Pool, 1)
    await rig.do(closed.close())
    await fails(rig, ValueError, closed.submit, "each", "function", [])
    await rig.do(closed.terminate())
    await rig.do(closed.join())
