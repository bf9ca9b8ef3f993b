"""The shared dict does what Python's own does, on plain values and through a session."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from aiomanager.objects.dict import Dict
from aiomanager.stored import MISSING

from .machines import NestedMachine, amounts
from .reference import add
from .twins import Twins, keys, values, with_points

pairs = st.lists(st.tuples(keys, values), max_size=3)


def increment(model: dict[Any, Any], key: Any, amount: Any) -> Any:
    model[key] = add(model[key], amount) if key in model else amount
    return model[key]


def compare_and_set(model: dict[Any, Any], key: Any, expected: Any, value: Any) -> bool:
    if key not in model or model[key] != expected:
        return False
    model[key] = value
    return True


def set_missing(model: dict[Any, Any], key: Any, value: Any) -> bool:
    if key in model:
        return False
    model[key] = value
    return True


class DictMachine(NestedMachine):
    @initialize(items=pairs)
    def make(self, items: list[tuple[Any, Any]]) -> None:
        self.twins = Twins(Dict, dict(items), items, named=[1])
        self.twins.model["named"] = [1]

    @invariant()
    def same(self) -> None:
        self.twins.check("items", lambda m: list(m.items()))

    @rule(key=keys)
    def get(self, key: Any) -> None:
        self.twins.check("get", dict.get, key)

    @rule(key=keys, default=with_points)
    def get_or_default(self, key: Any, default: Any) -> None:
        self.twins.check("get", dict.get, key, default)

    @rule(key=keys)
    def get_item(self, key: Any) -> None:
        self.twins.check("get_item", lambda m, k: m[k], key)

    @rule(key=keys, value=with_points)
    def set(self, key: Any, value: Any) -> None:
        self.twins.check("set", dict.__setitem__, key, value)

    @rule(key=keys)
    def delete(self, key: Any) -> None:
        self.twins.check("delete", dict.__delitem__, key)

    @rule(key=keys)
    def contains(self, key: Any) -> None:
        self.twins.check("contains", dict.__contains__, key)

    @rule()
    def look(self) -> None:
        self.twins.check("length", len)
        self.twins.check("keys", list)
        self.twins.check("values", lambda m: list(m.values()))
        self.twins.check("copy", dict)

    @rule(key=keys)
    def pop(self, key: Any) -> None:
        self.twins.check("pop", dict.pop, key)

    @rule(key=keys, default=with_points)
    def pop_or_default(self, key: Any, default: Any) -> None:
        self.twins.check("pop", dict.pop, key, default)

    @rule()
    def popitem(self) -> None:
        self.twins.check("popitem", dict.popitem)

    @rule(key=keys)
    def setdefault_none(self, key: Any) -> None:
        self.twins.check("setdefault", dict.setdefault, key)

    @rule(key=keys, value=values)
    def setdefault(self, key: Any, value: Any) -> None:
        self.twins.check("setdefault", dict.setdefault, key, value)

    @rule(items=pairs, named=st.dictionaries(st.sampled_from(["a", "items"]), values))
    def update(self, items: Any, named: Any) -> None:
        self.twins.check(
            lambda proxy, items, named: proxy.update(items, **named),
            lambda m, items, named: m.update(items, **named),
            items,
            named,
        )

    @rule(items=st.dictionaries(keys, values, max_size=2))
    def update_from_mapping(self, items: Any) -> None:
        self.twins.check("update", dict.update, items)

    @rule()
    def clear(self) -> None:
        self.twins.check("clear", dict.clear)

    @rule(some=st.lists(keys, max_size=3))
    def get_many(self, some: Any) -> None:
        self.twins.check("get_many", lambda m, s: {k: m[k] for k in s if k in m}, some)

    @rule(some=st.lists(keys, max_size=3))
    def pop_many(self, some: Any) -> None:
        self.twins.check("pop_many", lambda m, s: {k: m.pop(k) for k in s if k in m}, some)

    @rule(some=st.lists(keys, max_size=3))
    def delete_many(self, some: Any) -> None:
        self.twins.check("delete_many", lambda m, s: len([m.pop(k) for k in s if k in m]), some)

    @rule(key=keys, amount=amounts)
    def increment(self, key: Any, amount: Any) -> None:
        self.twins.check("increment", increment, key, amount)

    @rule(key=keys)
    def increment_by_one(self, key: Any) -> None:
        self.twins.check("increment", lambda m, k: increment(m, k, 1), key)

    @rule(key=keys, expected=with_points, value=with_points, from_there=st.booleans())
    def compare_and_set(self, key: Any, expected: Any, value: Any, from_there: bool) -> None:
        if from_there:
            expected = self.twins.model.get(key, expected)
        self.twins.check("compare_and_set", compare_and_set, key, expected, value)

    @rule(key=keys, value=with_points)
    def set_missing(self, key: Any, value: Any) -> None:
        self.twins.check(
            lambda proxy, k, v: proxy.compare_and_set(k, MISSING, v), set_missing, key, value
        )

    @rule(key=keys)
    def remove_as_it_is(self, key: Any) -> None:
        if key in self.twins.model:
            self.twins.check(
                lambda proxy, k, e: proxy.compare_and_set(k, e, MISSING),
                lambda m, k, e: (m.pop(k) is m and False) or True,
                key,
                self.twins.model[key],
            )

    @rule(key=keys, value=values)
    def update_item(self, key: Any, value: Any) -> None:
        self.twins.check(
            lambda proxy, k, v: proxy.update_item(k, lambda old: [old, v], "new"),
            lambda m, k, v: m.__setitem__(k, [m.get(k, "new"), v]) or m[k],
            key,
            value,
        )


TestDict = DictMachine.TestCase
TestDict.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
