"""The batches of a dict that change values: in one step, and all or nothing."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import aiomanager.sync
from aiomanager.objects.dict import Dict

from .machines import amounts
from .reference import add
from .twins import Point, Twins, keys, values, with_points

lists = st.lists(with_points, max_size=2)


def increment_many(model: dict[Any, Any], changes: dict[Any, Any]) -> dict[Any, Any]:
    totals = {
        key: add(model[key], amount) if key in model else amount for key, amount in changes.items()
    }
    model.update(totals)
    return totals


def extend_many(model: dict[Any, Any], more: dict[Any, Any]) -> None:
    for key, items in more.items():
        if type(items) is not list or type(model.get(key, [])) is not list:
            raise TypeError(key)
    for key, items in more.items():
        model.setdefault(key, []).extend(items)


class BatchMachine(RuleBasedStateMachine):
    @initialize(items=st.dictionaries(keys, lists | st.integers(0, 2), max_size=3))
    def make(self, items: dict[Any, Any]) -> None:
        self.twins = Twins(Dict, dict(items), items)

    @invariant()
    def same(self) -> None:
        self.twins.check("items", lambda m: list(m.items()))

    @rule(key=keys, value=with_points)
    def set(self, key: Any, value: Any) -> None:
        self.twins.check("set", dict.__setitem__, key, value)

    @rule(changes=st.dictionaries(keys, amounts, max_size=3))
    def increment_many(self, changes: dict[Any, Any]) -> None:
        self.twins.check("increment_many", increment_many, changes)

    @rule(more=st.dictionaries(keys, lists, max_size=3))
    def extend_many(self, more: dict[Any, Any]) -> None:
        self.twins.check("extend_many", extend_many, more)

    @rule(more=st.dictionaries(keys, values, max_size=2))
    def extend_many_by_anything(self, more: dict[Any, Any]) -> None:
        self.twins.check("extend_many", extend_many, more)


TestBatches = BatchMachine.TestCase
TestBatches.settings = settings(max_examples=80, stateful_step_count=20, deadline=None)


def test_nothing_is_changed_when_one_value_cannot_be() -> None:
    with aiomanager.sync.Manager() as manager:
        d = manager.dict({"list": [1], "number": 1, "point": Point(1)})
        before = d.copy()
        for more in ({"list": [2], "number": [2]}, {"list": [2], "point": [2]}, {"list": (2,)}):
            with pytest.raises(TypeError, match="expected a list"):
                d.extend_many(more)
        for amounts in ({"number": 1, "list": 1}, {"new": 1, "number": 1, "point": 1}):
            with pytest.raises(TypeError):
                d.increment_many(amounts)
        assert d.copy() == before


def test_proxies_in_lists_stay_alive() -> None:
    with aiomanager.sync.Manager() as manager:
        d = manager.dict()
        d.extend_many({"a": [manager.list([1])], "b": []})
        d.extend_many({"a": [manager.list([2])], "b": [manager.list([3]), Point(4)]})
        # The next call tells the server that the proxies above are gone.
        assert d.length() == 2
        assert [inner[:] for inner in d["a"]] == [[1], [2]]
        assert d["b"][0][:] == [3]
        assert d["b"][1] == Point(4)
        assert d.get_nested(("b", 1)) == Point(4)
        assert d.append_nested(("a",), 5) == 3
        d.clear()
        assert manager.statistics()["objects"] == 1
