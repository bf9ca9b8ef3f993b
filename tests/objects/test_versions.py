"""What is worked out in the client is guarded by the version of the very value it is made from."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum, StrEnum
from typing import Any

import pytest

import aiomanager.sync
from aiomanager.errors import VersionConflict
from aiomanager.objects.dict import Dict
from aiomanager.objects.list import List
from aiomanager.objects.namespace import Namespace, operations
from aiomanager.objects.value import Value
from aiomanager.operation import Operation
from aiomanager.server.process import PrivateServer
from aiomanager.stored import MISSING, Stored, version_of

from .rigs import PureRig, Rig, SessionRig
from .twins import Point


@pytest.fixture(params=[PureRig, SessionRig])
def rig(request: pytest.FixtureRequest) -> Rig:
    return request.param()  # type: ignore[no-any-return]


class Meddler:
    """Does something of another client's right before an operation that stores, or puts in order.

    It must be there before the proxies are.
    """

    STORING = frozenset(
        {"set_versioned", "update_nested_versioned", "rearrange", "sort_ranked", "remove_known"}
    )

    def __init__(self, rig: Rig) -> None:
        self.times = 0
        self.meddle: Callable[[int], object] = lambda time: None
        call = rig.call  # type: ignore[attr-defined]

        def meddling(proxy: Any, operation: Operation[..., Any], *more: Any) -> Any:
            if operation.name in self.STORING:
                self.times += 1
                self.meddle(self.times)
            return call(proxy, operation, *more)

        rig.call = meddling  # type: ignore[attr-defined]

    def next(self, *meddles: Callable[[], object]) -> None:
        """Do these before the next operations, one before each."""
        rest = list(meddles)
        self.meddle = lambda _: rest.pop(0)() if rest else None


def make_namespace(rig: Rig, **values: Any) -> Any:
    return operations(rig.make(Namespace, **values))


class Calls:
    """A function for `update_item` that notes what it was called with."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.given: list[Any] = []
        self.function = function

    def __call__(self, old: Any) -> Any:
        self.given.append(old)
        return self.function(old)


@dataclass
class Near:
    """A value that travels as a pickle, and is equal to others that look otherwise."""

    x: int
    unlike: str = ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Near) and other.x == self.x

    __hash__ = None  # type: ignore[assignment]


@dataclass
class AlwaysEqual:
    """A value that travels as a pickle, and is equal to any."""

    x: int

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


# Writers of other values


def test_an_update_is_not_held_up_by_who_writes_other_values(rig: Rig) -> None:
    d = rig.make(Dict, a=1, row={"n": 1})
    namespace = make_namespace(rig, a=1)

    def change(old: int) -> int:
        d.increment("log")  # also the function itself may write elsewhere
        d.increment_nested(("row", "other"))
        namespace.increment("log")
        return old + 1

    for update, name in ((d.update_item, "a"), (namespace.update_item, "a"),
                         (d.change_nested, ("row", "n"))):  # fmt: skip
        once = Calls(change)
        assert update(name, once) == 2
        assert once.given == [1]
    assert d.copy() == {"a": 2, "row": {"n": 2, "other": 3}, "log": 3}
    assert namespace.copy() == {"a": 2, "log": 3}


def test_a_place_is_not_held_up_by_who_writes_beside_it(rig: Rig) -> None:
    meddler = Meddler(rig)
    d = rig.make(Dict, {"row": {"n": [1], "m": 0}, "x": 0})
    meddler.meddle = lambda _: (d.increment_nested(("row", "m")), d.increment("x"))
    assert d.at("row", "n").change(lambda old: [*old, 2]) == [1, 2]
    assert meddler.times == 1
    assert d.copy() == {"row": {"n": [1, 2], "m": 1}, "x": 1}


@pytest.mark.parametrize("kind", [Dict, Namespace])
def test_what_only_clients_can_compare_is_not_held_up_either(kind: Any) -> None:
    rig = SessionRig()
    meddler = Meddler(rig)
    d = rig.make(kind, a=Near(1), row={"p": Near(1)}, rows=[Near(1), Near(2)])
    d = operations(d) if kind is Namespace else d
    meddler.meddle = lambda _: d.increment("other")
    assert d.compare_and_set("a", Near(1, "x"), Near(2))
    assert d.compare_and_set_nested(("row", "p"), Near(1, "x"), Near(2))
    d.mutate_nested(("rows",), "remove", [Near(1, "x")])
    assert d.copy() == {"a": Near(2), "row": {"p": Near(2)}, "rows": [Near(2)], "other": 3}
    assert meddler.times == 3


def test_an_item_of_a_list_is_not_held_up_by_its_neighbours() -> None:
    rig = SessionRig()
    meddler = Meddler(rig)
    items = rig.make(List, [Near(1), 0])
    meddler.meddle = lambda _: (items.increment(1), items.append(0))
    assert items.compare_and_set(0, Near(1, "x"), Near(2))
    assert meddler.times == 1
    assert items.copy() == [Near(2), 1, 0]


def test_a_sort_looks_again_only_at_what_is_new(rig: Rig) -> None:
    meddler = Meddler(rig)
    items = rig.make(List, ["ccc", "a", "dddd", "bb"])
    key = Calls(len)

    def meddle(time: int) -> None:
        items.append("a")
        if time < 3:
            key.given.clear()
        elif time == 4:
            items.insert(0, "eeeee")
        elif time > 4:
            items.pop(0)  # what is gone, or moves, is known
            items.insert(2, "eeeee")

    meddler.meddle = meddle
    items.sort(key=key)
    assert items.copy() == [*"aaaaaa", "bb", "ccc", "dddd", "eeeee"]
    assert sorted(key.given) == [*"aaaa", "bb", "ccc", "dddd", "eeeee"]


def test_a_list_that_nobody_else_writes_is_sorted_at_once(rig: Rig) -> None:
    meddler = Meddler(rig)
    items = rig.make(List, ["ccc", "a", "bb"])
    key = Calls(len)
    items.sort(key=key)
    assert (items.copy(), key.given, meddler.times) == (["a", "bb", "ccc"], ["ccc", "a", "bb"], 1)


def test_a_sort_is_stable_and_fails_as_python_s_own(rig: Rig) -> None:
    items = rig.make(List, [(2, "x"), (1, "y"), (2, "a"), (1, "y"), (1, "b")])
    items.sort(key=lambda item: item[0])
    assert items.copy() == [(1, "y"), (1, "y"), (1, "b"), (2, "x"), (2, "a")]
    items.sort(key=lambda item: item[0], reverse=True)
    assert items.copy() == [(2, "x"), (2, "a"), (1, "y"), (1, "y"), (1, "b")]
    before = items.copy()
    with pytest.raises(TypeError, match="not supported between"):
        items.sort(key=lambda item: item[1] if item[0] == 1 else None)
    with pytest.raises(ZeroDivisionError):
        items.sort(key=lambda item: 1 // 0)
    assert items.copy() == before
    items.clear()
    items.sort(key=lambda item: 1 // 0)
    items.append(object)
    items.sort()  # one alone is in order


def test_a_removal_is_not_held_up_by_what_is_known() -> None:
    rig = SessionRig()
    meddler = Meddler(rig)
    items = rig.make(List, [Near(0), Near(1), Near(2), Near(1)])
    meddler.meddle = lambda time: (items.append(Near(time)), items.insert(0, Near(2)))
    items.remove(Near(1, "x"))
    assert [near.x for near in items.copy()] == [2, 2, 2, 2, 0, 2, 1, 1, 2, 3, 4]
    assert meddler.times == 4
    meddler.next()
    with pytest.raises(ValueError, match="not in list"):
        items.remove(Near(7))


def test_a_value_that_is_new_is_looked_at_before_one_behind_it_is_removed() -> None:
    rig = SessionRig()
    meddler = Meddler(rig)
    items = rig.make(List, [Point(1)])
    again = (lambda: items.append(Point(2)), lambda: items.pop())
    meddler.next(*again, lambda: None, lambda: items.insert(0, AlwaysEqual(5)))
    items.remove(AlwaysEqual(7))
    assert items.copy() == [Point(1)]
    assert meddler.times == 5


# Writers of the same value


def test_who_was_slower_makes_it_again_from_the_new_value(rig: Rig) -> None:
    meddler = Meddler(rig)
    d = rig.make(Dict, a=[1], row={"n": [1]})
    namespace = make_namespace(rig, a=[1])
    value = rig.make(Value, "i", [1])
    proxies = (d, namespace)

    def meddle(time: int) -> None:
        if time % 2:
            for one in proxies:
                one.append_nested(("a",), 2)
            d.append_nested(("row", "n"), 2)
            value.set([1, 2])

    meddler.meddle = meddle
    for update in (
        lambda change: d.update_item("a", change),
        lambda change: namespace.update_item("a", change),
        lambda change: d.change_nested(("row", "n"), change),
        lambda change: value.update(change),
    ):
        for one in (d, namespace):
            one.set("a", [1])
        d.set("row", {"n": [1]})
        value.set([1])
        change = Calls(lambda old: [*old, 3])
        assert update(change) == [1, 2, 3]
        assert change.given == [[1], [1, 2]]


def test_keys_that_come_and_go(rig: Rig) -> None:
    meddler = Meddler(rig)
    d = rig.make(Dict)
    change = Calls(lambda old: old + 1)
    meddler.next(lambda: d.set("k", 10))
    assert d.update_item("k", change, 0) == 11
    meddler.next(lambda: d.delete("k"))
    assert d.update_item("k", change, 5) == 6
    meddler.next(lambda: (d.delete("k"), d.set("k", 6)))  # as it was: nobody can tell
    assert d.update_item("k", change) == 7
    meddler.next(lambda: d.set("k", 7.0))  # equal, but another value
    assert d.update_item("k", change) == 8.0
    assert change.given == [0, 10, 11, 5, 6, 7, 7.0]
    meddler.next(lambda: d.set("k", None))
    assert d.update_item("k", repr, 0) == "None"
    meddler.next(lambda: d.set("row", {}))
    d.set("row", {"n": 1})
    with pytest.raises(KeyError, match="'n'"):
        d.change_nested(("row", "n"), change)
    d.set("row", {"n": 1})
    meddler.next(lambda: d.delete("row"))
    with pytest.raises(KeyError, match="'row'"):
        d.change_nested(("row", "n"), change)


def test_an_opaque_value_that_goes_away_while_it_is_compared() -> None:
    rig = SessionRig()
    meddler = Meddler(rig)
    d = rig.make(Dict)
    for meddle in (
        lambda: d.delete_nested(("row", "p")),
        lambda: d.update_nested(("row", "p"), Near(3)),
        lambda: d.update_nested(("row", "p"), 1),
    ):
        d.set("row", {"p": Near(1)})
        meddler.next(meddle)
        assert not d.compare_and_set_nested(("row", "p"), Near(1, "x"), 2)
    d.set("row", {"p": Near(1)})
    assert d.compare_and_set_nested(("row", "p"), Near(1, "x"), MISSING)
    assert d.get("row") == {}
    d.set("row", {"p": Near(1)})
    meddler.next(lambda: d.delete("row"))
    with pytest.raises(KeyError, match="'row'"):
        d.compare_and_set_nested(("row", "p"), Near(1, "x"), 2)


def test_one_that_cannot_get_through_ends_by_an_error_that_says_so(rig: Rig) -> None:
    d = rig.make(Dict, a=0, row={"n": 0})
    value = rig.make(Value, "i", 0)
    namespace = make_namespace(rig, a=0)
    items = rig.make(List)
    for what, call, write in (
        ("update_item", lambda f: d.update_item("a", f), lambda: d.increment("a")),
        ("update_item", lambda f: namespace.update_item("a", f), lambda: namespace.increment("a")),
        ("change_nested", lambda f: d.change_nested(("row", "n"), f),
         lambda: d.increment_nested(("row", "n"))),
        ("update", value.update, value.increment),
        ("sort", lambda f: items.sort(key=f), lambda: items.append(items.length()) or 0),
    ):  # fmt: skip
        items.append(-1)
        calls = Calls(lambda old, write=write: write())
        with pytest.raises(VersionConflict, match=rf"^{what} was tried 1000? times.*Lock$"):
            call(calls)
        assert 100 <= len(calls.given) <= 3000
    assert (d.get("a"), value.get(), namespace.get("a")) == (1000, 1000, 1000)


# What versions are made of


def test_versions_tell_values_apart_that_are_equal() -> None:
    values = [
        0, 0.0, -0.0, False, 1, 1.0, True, None, "", "1", "None", 10, 0x1E5, 1e5, 2**70, -(2**70),
        float(2**70), float("inf"), "inf", 49, "c1",
    ]  # fmt: skip
    assert len({version_of(value) for value in values}) == len(values)
    assert version_of(float("nan")) == version_of(float("nan"))
    assert version_of(1 << 60000) != version_of((1 << 60000) + 1)  # beyond Python's decimal limit
    assert version_of(Stored(b"1")) != version_of(1)
    assert version_of(Stored(b"x" * 64)) != version_of(Stored(b"x" * 65))
    assert len(version_of(Stored(b"x" * 10**6))) == 18
    assert b"" not in {version_of(value) for value in values}


def test_a_value_that_was_looked_into_is_as_it_was() -> None:
    rig = SessionRig()
    d = rig.make(Dict, row={"n": 1, "p": Point(1), "big": ["x" * 100]})
    version, _ = d.get_versioned("row")
    inner, _ = d.get_nested_versioned(("row", "big"))
    assert not d.compare_and_set_nested(("row", "n"), 5, 6)  # opens it in place
    assert d.get_versioned("row")[0] == version
    d.update_nested(("row", "n"), 2)
    assert d.get_nested_versioned(("row", "big"))[0] == inner
    assert d.get_versioned("row")[0] != version
    d.update_nested(("row", "n"), 1)
    d.set_versioned("row", 0, version)
    assert d.get("row") == 0


def test_references_and_cached_views(server: PrivateServer) -> None:
    with aiomanager.sync.connect(server.address.url) as manager:
        inner, other = manager.dict(a=1), manager.dict(a=2)
        d = manager.dict(one=inner, row=[inner], n=0)
        view = d.cached()

        def exchange(old: Any) -> Any:
            d.increment("n")
            view.increment("n")
            return other if old.get("a") == 1 else inner

        assert d.update_item("one", exchange).get("a") == 2
        assert view.update_item("one", exchange).get("a") == 1
        assert view.change_nested(("row", 0), exchange).get("a") == 2
        assert d.get_item("row")[0].get("a") == 2
        assert d.get_item("n") == 6
        old = manager.dict(n=0).cached(60.0)
        assert old.get("n") == 0
        assert old.update_item("n", lambda value: value + 1) == 1
        names = operations(manager.Namespace(n=1)).cached(60.0)
        assert names.update_item("n", lambda value: value + 1) == 2
        assert manager.Value("i", 1).cached(60.0).update(lambda value: value + 1) == 2


# Equality along a path


class Number(IntEnum):
    ONE = 1


class Text(StrEnum):
    A = "a"


class Colour(Enum):
    RED = 1
    BLUE = 2


class Own(int):
    pass


@dataclass
class Plain:
    x: int


VALUES = [
    1, Number.ONE, Own(1), True, 1.0, "a", Text.A, Colour.RED, Colour.BLUE, Plain(1), Plain(2),
    [1], [Number.ONE], {"a": 1}, {Text.A: 1}, {"a": Own(1)}, (1,), (Own(1),), None, b"a",
]  # fmt: skip


@pytest.mark.parametrize("held", VALUES, ids=repr)
def test_a_comparison_along_a_path_is_python_s_own(held: Any) -> None:
    rig = SessionRig()
    d = rig.make(Dict)
    items = rig.make(List, [0])
    for expected in VALUES:
        d.set("row", {"x": held})
        items.set(0, held)
        want = held == expected
        assert d.compare_and_set_nested(("row", "x"), expected, 0) is want, expected
        assert d.get("row") == {"x": 0 if want else held}
        assert items.compare_and_set_nested((0,), expected, 0) is want, expected
        assert d.at("row", "x").compare_and_set(MISSING, 0) is False
