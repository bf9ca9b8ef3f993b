"""Views of places and cached views: what they do, and what they never show."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import aiomanager
from aiomanager.objects.dict import Dict
from aiomanager.objects.list import List
from aiomanager.objects.value import Value
from aiomanager.objects.views import PlaceView, SyncPlaceView
from aiomanager.operation import Operation
from aiomanager.stored import MISSING

from .rigs import PureRig, Rig, SessionRig


@pytest.fixture(params=[PureRig, SessionRig])
def rig(request: pytest.FixtureRequest) -> Rig:
    return request.param()  # type: ignore[no-any-return]


class Counted:
    """Counts the calls that reach a rig."""

    def __init__(self, rig: Rig) -> None:
        self.names: list[str] = []
        call = rig.call  # type: ignore[attr-defined]

        def counting(proxy: Any, operation: Operation[..., Any], *more: Any) -> Any:
            self.names.append(operation.name)
            return call(proxy, operation, *more)

        rig.call = counting  # type: ignore[attr-defined]

    def take(self) -> list[str]:
        names, self.names = self.names, []
        return names


# Places


def test_a_place(rig: Rig) -> None:
    d = rig.make(Dict, {"row": {7: {"n": 1, "tags": ["a"]}}})
    row = d.at("row", 7)
    assert row.get() == {"n": 1, "tags": ["a"]}
    assert row.path == ("row", 7)
    assert row.exists()
    assert not d.at("row", 8).exists()
    assert row.at("n").increment() == 2
    assert row.at("new").increment(5) == 5
    assert row.at("tags").append("b") == 2
    row.at("tags").extend(iter("cd"))
    row.at("tags").insert(0, "_")
    row.at("tags").remove("c")
    assert row.at("tags").get() == ["_", "a", "b", "d"]
    assert row.at("tags", -1).pop() == "d"
    row.update({"x": 1, "y": 2})
    assert row.length() == len(row) == 5
    assert row.at("x").compare_and_set(1, 10)
    assert not row.at("x").compare_and_set(1, 11)
    assert row.at("x").compare_and_set(10, MISSING)
    assert row.at("z").setdefault([]) == []
    assert row.at("z").change(lambda items: [*items, 1]) == [1]
    row.at("z").clear()
    row.at("y").delete()
    row.at("z").set(None)
    assert row.at("gone").get("default") == row.at("gone").pop("default") == "default"
    assert d["row"] == {7: {"n": 2, "tags": ["_", "a", "b"], "new": 5, "z": None}}


def test_a_place_in_python_s_spelling(rig: Rig) -> None:
    place = rig.make(List, [{"n": 1}]).at(0)
    place["m"] = [2]
    assert place["m"] == [2]
    assert "m" in place
    assert list(place) == ["n", "m"]
    del place["n"]
    assert len(place) == 1
    place.clear()
    assert place
    assert rig.make(Value, "x", {"a": 1}).at("a").increment() == 2
    assert isinstance(place, SyncPlaceView)


@pytest.mark.parametrize(
    ("act", "error", "says"),
    [
        (lambda d: d.at("x", "y").get(), KeyError, r"path \('x', 'y'\), step 1 \('x'\)"),
        (lambda d: d.at("rows", 5, "y").set(1), IndexError, r"step 2 \(5\): the list has 1"),
        (lambda d: d.at("rows", 0, "y", "z").delete(), KeyError, r"step 3 \('y'\)"),
        (lambda d: d.at("rows", "y").get(), TypeError, r"step 2 \('y'\): a list position"),
        (lambda d: d.at("n", "y").get(), TypeError, r"step 2 \('y'\): .* type int"),
        (lambda d: d.at("n").update({}), TypeError, r"path \('n',\): .* type int"),
        (
            lambda d: d.at("n").length(),
            TypeError,
            r"path \('n',\): .* no length of a value of type int",
        ),
        (lambda d: d.at("rows").update({}), TypeError, "leads to a list, which has no 'update'"),
        (lambda d: d.at("rows").remove(9), ValueError, r"path \('rows',\): the value is not"),
        (lambda d: d.at("rows").insert("a", 9), TypeError, "str"),
        (lambda d: d.at(), ValueError, "at least one step"),
        (lambda d: d.mutate_nested(("rows",), "__init__"), TypeError, "it has append, clear"),
        (lambda d: d.mutate_nested(("rows",), "extend", [{}]), TypeError, "expected a list"),
        (lambda d: d.mutate_nested(("rows",), "append", []), TypeError, "missing"),
    ],
)
def test_mistakes_are_named(rig: Rig, act: Any, error: type[Exception], says: str) -> None:
    d = rig.make(Dict, {"rows": [{}], "n": 1})
    with pytest.raises(error, match=says):
        act(d)
    assert d.copy() == {"rows": [{}], "n": 1}


async def test_a_place_for_async_code(manager: aiomanager.Manager) -> None:
    d = await manager.dict({"row": {7: {"n": 1}}})
    row = d.at("row", 7)
    assert isinstance(row, PlaceView)
    assert await row.at("n").increment() == 2
    await row.update({"tags": []})
    await row.at("tags").extend([3, 1])
    assert await row.at("tags").change(sorted) == [1, 3]
    with pytest.raises(KeyError, match=r"step 2 \(8\)"):
        await d.at("row", 8).get()
    assert await d.at("row", 8).get(None) is None
    assert await d.copy() == {"row": {7: {"n": 2, "tags": [1, 3]}}}


async def test_a_live_view_is_for_blocking_code(manager: aiomanager.Manager) -> None:
    d: Any = await manager.dict()
    with pytest.raises(TypeError, match=r"d\.at\('a', 'b'\)\.set\(1\).*d\.sync\.live\(\)"):
        d.live()
    assert d.at("a").sync.aio.path == ("a",)


# Cached views


def test_a_cached_view_asks_for_what_has_changed_only(rig: Rig) -> None:
    calls = Counted(rig)
    d = rig.make(Dict, {"a": 1, "b": [1]})
    cached = d.cached()
    calls.take()
    assert cached["a"] == 1
    assert calls.take() == ["get_state"]
    assert cached.copy() == {"a": 1, "b": [1]}
    d["a"] = 2
    calls.take()
    assert cached["a"] == 2
    assert calls.take() == ["get_state"]


def test_every_way_to_read_from_a_copy(rig: Rig) -> None:
    d = rig.make(Dict, {"a": 1, "b": [1, 2]}).cached()
    default: list[int] = []
    assert (d["a"], d.get("z"), d.get("z", default) is default) == (1, None, True)
    assert ("a" in d, len(d), list(d), d.values()) == (True, 2, ["a", "b"], [1, [1, 2]])
    assert d.get_nested(("b", 1)) == d.at("b", -1).get() == 2
    assert d.get_many(["a", "z"]) == {"a": 1}
    with pytest.raises(KeyError, match="z"):
        d["z"]
    rows = rig.make(List, [3, 1]).cached()
    assert (rows[0], rows[-1], rows[:], rows.index(1), rows.count(3)) == (3, 1, [3, 1], 1, 1)
    assert (1 in rows, len(rows), list(rows)) == (True, 2, [3, 1])
    with pytest.raises(IndexError):
        rows[5]
    value = rig.make(Value, "i", 7).cached()
    assert (value.value, value.typecode()) == (7, "i")


def test_what_is_read_may_be_changed(rig: Rig) -> None:
    d = rig.make(Dict, {"a": {"b": [1], "s": {1}}}).cached()
    d["a"]["b"].append(2)
    d["a"]["s"].add(2)
    d.copy()["a"] = 3
    assert d["a"] == {"b": [1], "s": {1}}


def test_nobody_is_asked_while_the_copy_is_young(rig: Rig) -> None:
    calls = Counted(rig)
    d = rig.make(Dict, {"a": 1})
    cached = d.cached(10)
    assert cached["a"] == 1
    calls.take()
    d["a"] = 2
    rig.clock.advance(9)
    calls.take()
    assert cached["a"] == 1
    assert calls.take() == []
    rig.clock.advance(2)
    assert cached["a"] == 2
    assert calls.take() == ["get_state"]


def test_changes_of_its_own_are_seen_at_once(rig: Rig) -> None:
    cached = rig.make(Dict, {"a": {"n": 1}}).cached(1000)
    assert cached["a"] == {"n": 1}
    cached["b"] = 2
    assert cached["b"] == 2
    cached.at("a", "n").increment()
    assert cached["a"] == {"n": 2}
    live = cached.live()
    live["a"]["m"] = 3
    assert live["a"] == cached["a"] == {"n": 2, "m": 3}
    both = cached.live().cached(5)
    both["a"]["k"] = 4
    assert both["a"]["k"] == 4
    with pytest.raises(KeyError):
        del cached["z"]
    assert cached.pop("b") == 2
    assert "b" not in cached


def meanwhile(rig: Rig, *acting: Callable[[], object]) -> None:
    """Have something done after the server has answered, before the view hears of the answer."""
    left = list(acting)
    call = rig.call  # type: ignore[attr-defined]

    def late(proxy: Any, operation: Operation[..., Any], *more: Any) -> Any:
        result = call(proxy, operation, *more)
        if operation.name == "get_state" and left:
            left.pop(0)()
        return result

    rig.call = late  # type: ignore[attr-defined]


def test_an_answer_that_was_under_way_during_a_change_of_its_own(rig: Rig) -> None:
    meanwhile(rig, lambda: cached.set("a", 2))
    cached = rig.make(Dict, {"a": 1}).cached(1000)
    cached.get("a")
    assert cached["a"] == 2


def test_an_older_answer_that_comes_late(rig: Rig) -> None:
    seen: list[int] = []

    def others() -> None:
        d["a"] = 2
        seen.append(cached["a"])

    meanwhile(rig, others)
    d = rig.make(Dict, {"a": 1})
    cached = d.cached()
    seen.append(cached["a"])
    assert seen == [2, 2]


class CacheMachine(RuleBasedStateMachine):
    """Versions of one value, seen through views of several ages; time passes."""

    @initialize()
    def make(self) -> None:
        self.rig = SessionRig()
        self.d = self.rig.make(Dict, {"a": 0, "b": 0})
        self.views = [self.d.cached(), self.d.cached(0), self.d.cached(5), self.d.cached(5)]
        self.ages: list[float] = [0, 0, 5, 5]
        self.number = 0
        self.history = [(0.0, 0)]
        self.own = [0] * 4
        self.shown = [0] * 4

    @rule(view=st.integers(0, 3), key=st.sampled_from("ab"))
    def read(self, view: int, key: str) -> None:
        found = self.views[view][key]
        assert found >= self.shown[view], "older than what was shown"
        assert found >= self.own[view], "a change of its own is not seen"
        limit = self.rig.clock.now() - self.ages[view]
        oldest = max(number for when, number in self.history if when <= limit or number == 0)
        assert found >= oldest, "older than it may be"
        self.shown[view] = found

    @rule(view=st.integers(0, 3))
    def write(self, view: int) -> None:
        self.number += 1
        self.views[view].update(a=self.number, b=self.number)
        self.own[view] = self.number
        self.history.append((self.rig.clock.now(), self.number))

    @rule()
    def write_elsewhere(self) -> None:
        self.number += 1
        self.d.update(a=self.number, b=self.number)
        self.history.append((self.rig.clock.now(), self.number))

    @rule(seconds=st.sampled_from([0.5, 2.0, 5.0]))
    def wait(self, seconds: float) -> None:
        self.rig.clock.advance(seconds)

    @invariant()
    def few_copies(self) -> None:
        for view in self.views:
            assert len(view._channel._copies) <= 1


TestCache = CacheMachine.TestCase
TestCache.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


async def test_cached_for_async_code(manager: aiomanager.Manager) -> None:
    d = await manager.dict({"a": 1})
    cached = d.cached(1000)
    assert await cached.get("a") == 1
    await d.set("a", 2)
    assert await cached.get("a") == 1
    waiting = cached.get_item("z")  # raises when it is awaited, not before
    with pytest.raises(KeyError):
        await waiting
    await cached.set("b", 3)
    assert await cached.copy() == {"a": 2, "b": 3}
    assert await cached.sync.aio.get("a") == 2
    async for key in cached:
        assert key in ("a", "b")
