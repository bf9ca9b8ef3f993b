"""Live nodes do what Python's own dicts and lists do, and the server has what they hold."""

import copy
import json
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from aiomanager.objects.dict import Dict
from aiomanager.objects.list import List
from aiomanager.objects.live import LiveDict, LiveList
from aiomanager.objects.namespace import Namespace, operations
from aiomanager.objects.value import Value

from .rigs import PureRig, Rig, SessionRig
from .twins import Point, exact, outcome, values

steps = st.sampled_from(["a", "b", 0, 1, True, (1, "x")])
positions = st.integers(-4, 4)
bounds = st.one_of(st.none(), positions)
slices = st.builds(slice, bounds, bounds, st.sampled_from([None, 1, 2, -1]))
pairs = st.dictionaries(steps, values, max_size=3)
items = st.lists(values, max_size=3)
trees = st.recursive(
    values,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["a", "b", 0]), inner)
    ),
    max_leaves=8,
)


def plain(value: Any) -> Any:
    """Return what `exact` can compare."""
    if isinstance(value, LiveDict):
        return {key: plain(item) for key, item in value.items()}
    if type(value) is tuple:
        return tuple(map(plain, value))
    return [plain(item) for item in value] if isinstance(value, LiveList) else value


def containers(value: Any) -> list[Any]:
    """Return all dicts and lists that a path leads to, outermost first."""
    if isinstance(value, dict):
        return [value, *(one for item in value.values() for one in containers(item))]
    if isinstance(value, list):
        return [value, *(one for item in value for one in containers(item))]
    return []


class LiveMachine(RuleBasedStateMachine):
    """The same statements on Python's own containers, and on nodes from each rig."""

    @initialize(kind=st.sampled_from([Dict, List, Value]), tree=trees)
    def make(self, kind: Any, tree: Any) -> None:
        self.model: Any = {"top": tree}
        self.proxies: list[Any] = []
        for rig in (PureRig(), SessionRig()):
            if kind is Dict:
                self.proxies.append(rig.make(Dict, {"root": self.model}).live())
            elif kind is List:
                self.proxies.append(rig.make(List, [None, self.model]).live())
            else:
                self.proxies.append(rig.make(Value, "x", self.model).live())
        self.step = {Dict: "root", List: 1, Value: None}[kind]
        self.roots = [self.read(proxy) for proxy in self.proxies]
        self.held: list[list[Any]] = []

    def read(self, proxy: Any) -> Any:
        return proxy.get() if self.step is None else proxy[self.step]

    @invariant()
    def same(self) -> None:
        for proxy, root in zip(self.proxies, self.roots, strict=True):
            assert exact(plain(root)) == exact(self.model)
            assert exact(plain(self.read(proxy))) == exact(self.model)

    def act(self, number: int, kind: type, statement: Any, *arguments: Any) -> None:
        """Carry a statement out on one of the containers of a kind, wherever that lies."""
        found = [
            [one for one in containers(root) if isinstance(one, kind)]
            for root in (self.model, *self.roots)
        ]
        found = [
            [*mine, *(held[place] for held in self.held if isinstance(held[place], kind))]
            for place, mine in enumerate(found)
        ]
        if not found[0]:
            return
        chosen = [mine[number % len(mine)] for mine in found]
        want, *got = [
            outcome(lambda one=one: plain(statement(one, *copy.deepcopy(arguments))))
            for one in chosen
        ]
        for one in got:
            # A path's error names the step, a dict's own the key.
            assert one[:2] == want[:2] if want[0] == "error" else one == want

    @rule(number=st.integers(0, 9))
    def hold(self, number: int) -> None:
        """Keep a container, to be used when it may be elsewhere, or nowhere."""
        inside = [containers(root) for root in (self.model, *self.roots)]
        self.held = [*self.held[-4:], [mine[number % len(mine)] for mine in inside]]

    # Dicts

    @rule(number=st.integers(0, 9), key=steps, value=values)
    def set_item(self, number: int, key: Any, value: Any) -> None:
        def statement(d: Any, key: Any, value: Any) -> None:
            d[key] = value

        self.act(number, dict, statement, key, value)

    @rule(number=st.integers(0, 9), key=steps)
    def delete_item(self, number: int, key: Any) -> None:
        def statement(d: Any, key: Any) -> None:
            del d[key]

        self.act(number, dict, statement, key)

    @rule(number=st.integers(0, 9), more=pairs)
    def update(self, number: int, more: Any) -> None:
        self.act(number, dict, lambda d, more: d.update(more), more)
        self.act(number, dict, lambda d, more: d.update(list(more.items()), n=1), more)

    @rule(number=st.integers(0, 9), key=steps, more=pairs)
    def augment(self, number: int, key: Any, more: Any) -> None:
        def statement(d: Any, more: Any) -> None:
            if isinstance(d.get(key), list):
                d[key] += [1]
            elif isinstance(d.get(key), dict):
                d[key] |= more

        self.act(number, dict, statement, more)

    @rule(number=st.integers(0, 9), key=steps, value=values)
    def setdefault(self, number: int, key: Any, value: Any) -> None:
        self.act(number, dict, lambda d, key, value: d.setdefault(key, value), key, value)

    @rule(number=st.integers(0, 9), key=steps)
    def setdefault_and_append(self, number: int, key: Any) -> None:
        def statement(d: Any, key: Any) -> None:
            found = d.setdefault(key, [])
            if isinstance(found, list):
                found.append(1)

        self.act(number, dict, statement, key)

    @rule(number=st.integers(0, 9), key=steps, default=values)
    def pop(self, number: int, key: Any, default: Any) -> None:
        self.act(number, dict, lambda d, key: d.pop(key), key)
        self.act(number, dict, lambda d, key, default: d.pop(key, default), key, default)

    @rule(number=st.integers(0, 9))
    def popitem(self, number: int) -> None:
        self.act(number, dict, lambda d: d.popitem())

    @rule(number=st.integers(0, 9), kind=st.sampled_from([dict, list]))
    def clear(self, number: int, kind: type) -> None:
        self.act(number, kind, lambda d: d.clear())

    # Lists

    @rule(number=st.integers(0, 9), index=st.one_of(positions, slices), value=values, many=items)
    def set_position(self, number: int, index: Any, value: Any, many: Any) -> None:
        def statement(rows: Any, value: Any) -> None:
            rows[index] = value

        self.act(number, list, statement, many if isinstance(index, slice) else value)

    @rule(number=st.integers(0, 9), index=st.one_of(positions, slices))
    def delete_position(self, number: int, index: Any) -> None:
        def statement(rows: Any) -> None:
            del rows[index]

        self.act(number, list, statement)

    @rule(number=st.integers(0, 9), value=values)
    def append(self, number: int, value: Any) -> None:
        self.act(number, list, lambda rows, value: rows.append(value), value)

    @rule(number=st.integers(0, 9), more=items)
    def extend(self, number: int, more: Any) -> None:
        self.act(number, list, lambda rows, more: rows.extend(iter(more)), more)

    @rule(number=st.integers(0, 9), index=positions, value=values)
    def insert(self, number: int, index: int, value: Any) -> None:
        self.act(number, list, lambda rows, index, value: rows.insert(index, value), index, value)

    @rule(number=st.integers(0, 9), index=positions)
    def pop_position(self, number: int, index: int) -> None:
        self.act(number, list, lambda rows, index: rows.pop(index), index)
        self.act(number, list, lambda rows: rows.pop())

    @rule(number=st.integers(0, 9), value=values, place=st.integers(0, 3))
    def remove(self, number: int, value: Any, place: int) -> None:
        def statement(rows: Any, value: Any) -> None:
            rows.remove(plain(rows[place]) if place < len(rows) else value)

        self.act(number, list, statement, value)

    @rule(number=st.integers(0, 9), reverse=st.booleans(), by_text=st.booleans())
    def sort(self, number: int, reverse: bool, by_text: bool) -> None:
        def statement(rows: Any) -> None:
            key = (lambda item: repr(plain(item))) if by_text else None
            sorted(rows, key=key)  # Python's own changes the list even if that fails
            rows.sort(key=key, reverse=reverse)

        self.act(number, list, statement)

    @rule(number=st.integers(0, 9))
    def reverse(self, number: int) -> None:
        self.act(number, list, lambda rows: rows.reverse())

    @rule(number=st.integers(0, 9), times=st.integers(-1, 2))
    def multiply(self, number: int, times: int) -> None:
        def statement(rows: Any) -> None:
            if not containers(rows)[1:] and len(rows) < 10:  # else Python repeats objects
                rows *= times

        self.act(number, list, statement)


TestLive = LiveMachine.TestCase
TestLive.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)


@pytest.fixture(params=[PureRig, SessionRig])
def rig(request: pytest.FixtureRequest) -> Rig:
    return request.param()  # type: ignore[no-any-return]


def test_a_node_is_a_dict_or_a_list(rig: Rig) -> None:
    d = rig.make(Dict, {"test": {"rows": [1, {"n": 2}]}}).live()
    test = d["test"]
    assert isinstance(test, dict)
    assert isinstance(test["rows"], list)
    assert isinstance(test["rows"][1], dict)
    assert json.dumps(test) == '{"rows": [1, {"n": 2}]}'
    assert json.loads(json.dumps(d.copy())) == {"test": {"rows": [1, {"n": 2}]}}
    assert repr(test) == "{'rows': [1, {'n': 2}]}"
    assert test == {"rows": [1, {"n": 2}]}
    assert {**test, "more": 1} == {"rows": [1, {"n": 2}], "more": 1}
    assert test | {"more": 1} == {"rows": [1, {"n": 2}], "more": 1}
    assert [*test["rows"]] == test["rows"] + [] == test["rows"].copy()


def test_a_position_counted_from_the_end_stays_the_same_place(rig: Rig) -> None:
    rows = rig.make(Dict, {"rows": [1, 2, 3]}).live()["rows"]
    rows[-2] = []
    held = rows[-2]
    rows.pop()
    del rows[0]
    held.append("here")
    assert rows == [["here"]]


def test_copies_are_plain(rig: Rig) -> None:
    d = rig.make(Dict, {"test": {"rows": [{"n": 2}]}}).live()
    for duplicate in (copy.deepcopy(d["test"]), json.loads(json.dumps(d["test"]))):
        duplicate["rows"][0]["n"] = 3
        duplicate["rows"].append(4)
        duplicate["x"] = 5
        assert type(duplicate) is type(duplicate["rows"][0]) is dict
    for shallow in (copy.copy(d["test"]), d["test"].copy()):
        assert type(shallow) is dict
        shallow["x"] = 5
    assert d["test"] == {"rows": [{"n": 2}]}


def test_every_way_to_read_is_live(rig: Rig) -> None:
    d = rig.make(Dict, {"a": {}, "b": [{}, {}]}).live()
    d.get("a")["get"] = 1
    d.values()[0]["values"] = 1
    dict(d.items())["a"]["items"] = 1
    d.copy()["a"]["copy"] = 1
    d.get_many(["a", "z"])["a"]["get_many"] = 1
    d.setdefault("a", None)["setdefault"] = 1
    d.get_nested(("b", -1))["get_nested"] = 1
    d.setdefault_nested(("b", 0, "new"), {})["setdefault_nested"] = 1
    for row in d["b"]:
        row["loop"] = 1
    {**d}["a"]["stars"] = 1
    assert list(d["a"]) == ["get", "values", "items", "copy", "get_many", "setdefault", "stars"]
    assert d["b"] == [
        {"new": {"setdefault_nested": 1}, "loop": 1},
        {"get_nested": 1, "loop": 1},
    ]

    rows = rig.make(List, [{}, {}, {}]).live()
    rows[-1]["last"] = 1
    rows[1:][0]["slice"] = 1
    rows[-2:][0]["from the end"] = 1
    rows[::-1][0]["backwards"] = 1
    for row in rows:
        row["loop"] = 1
    for row in reversed(rows):
        row["back"] = 1
    assert rows[:] == [
        {"loop": 1, "back": 1},
        {"slice": 1, "from the end": 1, "loop": 1, "back": 1},
        {"last": 1, "backwards": 1, "loop": 1, "back": 1},
    ]

    value = rig.make(Value, "x", [1]).live()
    value.value.append(2)
    value.value += [3]
    assert value.value == [1, 2, 3]


def test_without_it_values_are_copies(rig: Rig) -> None:
    d = rig.make(Dict, {"test": {}})
    d["test"]["lost"] = 1
    assert d["test"] == {}
    assert type(d["test"]) is dict


def test_what_is_not_there(rig: Rig) -> None:
    live = rig.make(Dict, {"a": {}}).live()
    for missing in (
        lambda: live["b"],
        lambda: live.get_nested(("a", "b")),
        lambda: live.at("a", "b").get(),
        lambda: live["a"]["b"],
    ):
        with pytest.raises(KeyError, match="b"):
            missing()
    assert live.get("b") is None
    assert live.at("a", "b").get(3) == 3


def test_a_default_is_the_caller_s_own() -> None:
    rig = SessionRig()
    default: dict[str, int] = {}
    assert rig.make(Dict).live().get("x", default) is default
    assert rig.make(Dict).live().get_nested(("x",), default) is default


def test_operators_do_not_undo_what_others_did(rig: Rig) -> None:
    d = rig.make(Dict, {"test": {}, "rows": [[]]})
    live = d.live()
    node, inner = live["test"], live["rows"]
    d.update_nested(("test", "theirs"), 1)
    d.append_nested(("rows", 0), "theirs")
    # What `live["test"] |= {"ours": 2}` does, with a change by others in between.
    node |= {"ours": 2}
    d.update_nested(("test", "late"), 3)
    live["test"] = node
    assert d["test"] == {"theirs": 1, "ours": 2, "late": 3}
    inner[0] += ["ours"]
    assert d["rows"] == [["theirs", "ours"]]
    live["rows"] += [[]]
    assert d["rows"] == [["theirs", "ours"], []]
    outer = d.live()
    outer["deep"] = {"in": {}}
    node = outer["deep"]
    d.update_nested(("deep", "in", "theirs"), 1)
    node["in"] |= {"ours": 2}
    assert d["deep"] == {"in": {"theirs": 1, "ours": 2}}
    # An assignment of its own is meant as one.
    node = live["test"]
    del d["test"]
    live["test"] = node
    assert d["test"] == {"theirs": 1, "ours": 2, "late": 3}


def test_setdefault_leaves_a_node_in_its_place(rig: Rig) -> None:
    node = rig.make(Dict, {"a": {"rows": []}}).live()["a"]
    rows = node["rows"]
    assert node.setdefault("rows", []) is rows
    rows.append(1)
    assert node == {"rows": [1]}


def test_attributes_of_a_namespace(rig: Rig) -> None:
    namespace = operations(rig.make(Namespace, rows=[{}])).live()
    namespace.get("rows")[0]["n"] = 1
    namespace.copy()["rows"].append(2)
    assert namespace.get("rows") == [{"n": 1}, 2]
    assert namespace.cached().get("rows") == [{"n": 1}, 2]
    assert namespace.at("rows", 0, "n").increment() == 2
    with pytest.raises(AttributeError, match="x"):
        namespace.get("x")


def test_changed_by_others(rig: Rig) -> None:
    d = rig.make(Dict, {"a": {"b": [{"c": 1}]}})
    a = d.live()["a"]
    row = a["b"][0]
    d.delete_nested(("a", "b", 0))
    with pytest.raises(IndexError, match=r"path \('a', 'b', 0, 'c'\), step 3 \(0\)"):
        row["c"] = 2
    with pytest.raises(IndexError, match=r"step 3 \(0\)"):
        row.update(c=2)
    assert row == {"c": 1}
    d["a"] = {"b": 1}
    with pytest.raises(TypeError, match=r"path \('a', 'b'\).* type int"):
        a["b"].append(1)
    d["a"] = {"b": {}}
    with pytest.raises(TypeError, match=r"path \('a', 'b'\): leads to a dict.*'append'"):
        a["b"].append(1)
    with pytest.raises(TypeError, match=r"path \('a', 'b'\): "):
        a["b"].sort(key=repr)
    del d["a"]
    with pytest.raises(KeyError, match=r"step 1 \('a'\)"):
        row["c"] = 2
    # A node stands for a place, not for what was there.
    d["a"] = {"b": [{}]}
    row["c"] = 3
    assert d["a"] == {"b": [{"c": 3}]}


def test_the_server_s_own_list_counts(rig: Rig) -> None:
    d = rig.make(Dict, {"rows": [1]})
    rows = d.live()["rows"]
    d["rows"] = [1, 2, 3]
    assert rows.pop() == 3
    rows[1] = 4
    rows.remove(4)
    del rows[0]
    assert d["rows"] == []
    with pytest.raises(IndexError, match="cannot pop position -1 of a list with 0 items"):
        rows.pop()


def test_a_node_is_stored_as_what_it_holds(rig: Rig) -> None:
    d = rig.make(Dict, {"a": {"b": [1]}}).live()
    d["copy"] = d["a"]
    d["list"] = [d["a"]["b"], (d["a"],)]
    d["a"]["b"].append(d["a"])
    assert type(d["list"][1][0]) is dict
    d["copy"]["b"].append(2)
    assert d.copy() == {
        "a": {"b": [1, {"b": [1]}]},
        "copy": {"b": [1, 2]},
        "list": [[1], ({"b": [1]},)],
    }


def test_values_that_only_a_client_can_open() -> None:
    d = SessionRig().make(Dict, {"rows": [Point(2), Point(1)]}).live()
    rows = d["rows"]
    rows.sort()
    assert rows == d["rows"] == [Point(1), Point(2)]
    rows.sort(key=lambda point: -point.x)
    rows.append(Point(3))
    rows.remove(Point(1))
    assert rows == d["rows"] == [Point(2), Point(3)]
    with pytest.raises(ValueError, match="not in the list"):
        rows.remove(Point(9))
    rows[0] = {"p": Point(5)}
    rows[0]["q"] = Point(6)
    assert d["rows"] == [{"p": Point(5), "q": Point(6)}, Point(3)]


def test_limits(rig: Rig) -> None:
    d = rig.make(Dict, {"rows": [0] * 1000}).live()
    with pytest.raises(ValueError, match="cannot be repeated"):
        d["rows"] *= 10**6
    assert len(d["rows"]) == 1000


def test_a_container_made_by_a_node_s_class_stands_nowhere(rig: Rig) -> None:
    live = rig.make(Dict, {"a": {}, "b": []}).live()
    made = type(live["a"])({"x": 1})
    made["y"] = 2
    made.update(z=3)
    assert made == {"x": 1, "y": 2, "z": 3}
    other = type(live["b"])([1])
    other.append(2)
    assert other == [1, 2]
    live["a"] = made
    assert live["a"] == {"x": 1, "y": 2, "z": 3}
