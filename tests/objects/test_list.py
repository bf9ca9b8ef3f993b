"""The shared list does what Python's own does, on plain values and through a session."""

from typing import Any

from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from aiomanager.objects.list import List

from .machines import NestedMachine, amounts
from .reference import add
from .twins import Point, Twins, with_points

items = st.lists(with_points, max_size=4)
indices = st.integers(-4, 4)
bounds = st.one_of(st.none(), indices)
steps = st.one_of(st.none(), st.sampled_from([1, -1, 2, -2, 0]))


def assign(
    model: list[Any], new: list[Any], start: Any = None, stop: Any = None, step: Any = None
) -> None:
    model[start:stop:step] = new


def remove(model: list[Any], *bounds: int | None) -> None:
    del model[slice(*bounds)]


def increment(model: list[Any], index: int, amount: Any) -> Any:
    model[index] = add(model[index], amount)
    return model[index]


def compare_and_set(model: list[Any], index: int, expected: Any, value: Any) -> bool:
    if model[index] != expected:
        return False
    model[index] = value
    return True


def sort(model: list[Any], **how: Any) -> None:
    # Python's own may leave a list half sorted when two values have no order.
    model[:] = sorted(model, **how)


class ListMachine(NestedMachine):
    @initialize(start=items)
    def make(self, start: list[Any]) -> None:
        self.twins = Twins(List, list(start), start)

    @invariant()
    def same(self) -> None:
        self.twins.check("copy", list)

    @rule(index=indices)
    def get_item(self, index: int) -> None:
        self.twins.check("get_item", list.__getitem__, index)

    @rule(start=bounds, stop=bounds, step=steps)
    def get_slice(self, start: Any, stop: Any, step: Any) -> None:
        self.twins.check("get_slice", lambda m, *s: m[slice(*s)], start, stop, step)

    @rule(index=indices, value=with_points)
    def set(self, index: int, value: Any) -> None:
        self.twins.check("set", list.__setitem__, index, value)

    @rule(new=items, start=bounds, stop=bounds, step=steps)
    def set_slice(self, new: Any, start: Any, stop: Any, step: Any) -> None:
        self.twins.check("set_slice", assign, new, start, stop, step)

    @rule(index=indices)
    def delete(self, index: int) -> None:
        self.twins.check("delete", list.__delitem__, index)

    @rule(start=bounds, stop=bounds, step=steps)
    def delete_slice(self, start: Any, stop: Any, step: Any) -> None:
        self.twins.check("delete_slice", remove, start, stop, step)

    @rule(value=with_points)
    def append(self, value: Any) -> None:
        self.twins.check("append", list.append, value)

    @rule(new=items)
    def extend(self, new: Any) -> None:
        self.twins.check("extend", list.extend, new)

    @rule(new=st.sampled_from(["ab", b"ab", (1, 2), {"k": 1}, ""]))
    def extend_by_what_iterates(self, new: Any) -> None:
        self.twins.check("extend", list.extend, new)

    @rule(index=indices, value=with_points)
    def insert(self, index: int, value: Any) -> None:
        self.twins.check("insert", list.insert, index, value)

    @rule()
    def pop_last(self) -> None:
        self.twins.check("pop", list.pop)

    @rule(index=indices)
    def pop(self, index: int) -> None:
        self.twins.check("pop", list.pop, index)

    @rule()
    def look(self) -> None:
        self.twins.check("length", len)

    @rule()
    def clear(self) -> None:
        self.twins.check("clear", list.clear)

    @rule()
    def reverse(self) -> None:
        self.twins.check("reverse", list.reverse)

    @rule(count=st.integers(-1, 2))
    def multiply(self, count: int) -> None:
        # Plain values that repeat are one object, stored ones are not.
        assume(len(self.twins.model) < 20)
        assume(not any(isinstance(one, list | dict | bytearray) for one in self.twins.model))
        self.twins.check("multiply", lambda m, c: assign(m, m * c), count)

    def from_there(self, value: Any, index: int) -> Any:
        """Return a value that may be in the list."""
        model = self.twins.model
        return model[index] if -len(model) <= index < len(model) else value

    @rule(value=with_points, index=indices)
    def contains(self, value: Any, index: int) -> None:
        value = self.from_there(value, index)
        self.twins.check("contains", list.__contains__, value)
        self.twins.check("count", list.count, value)

    @rule(value=with_points, index=indices, start=indices, stop=indices)
    def index(self, value: Any, index: int, start: int, stop: int) -> None:
        value = self.from_there(value, index)
        self.twins.check("index", list.index, value)
        self.twins.check("index", list.index, value, start)
        self.twins.check("index", list.index, value, start, stop)

    @rule(value=with_points, index=indices)
    def remove(self, value: Any, index: int) -> None:
        self.twins.check("remove", list.remove, self.from_there(value, index))

    @rule(reverse=st.booleans())
    def sort(self, reverse: bool) -> None:
        self.twins.check(lambda p, r: p.sort(reverse=r), lambda m, r: sort(m, reverse=r), reverse)

    @rule(new=st.lists(st.builds(Point, st.integers(0, 5)), max_size=4), reverse=st.booleans())
    def sort_what_clients_alone_can_open(self, new: Any, reverse: bool) -> None:
        self.twins.check("set_slice", assign, new)
        self.twins.check(lambda p, r: p.sort(reverse=r), lambda m, r: sort(m, reverse=r), reverse)

    @rule()
    def sort_by_key(self) -> None:
        self.twins.check(lambda p: p.sort(key=repr), lambda m: m.sort(key=repr))

    @rule(index=indices, amount=amounts)
    def increment(self, index: int, amount: Any) -> None:
        self.twins.check("increment", increment, index, amount)

    @rule(index=indices, expected=with_points, value=with_points, from_there=st.booleans())
    def compare_and_set(self, index: int, expected: Any, value: Any, from_there: bool) -> None:
        if from_there:
            expected = self.from_there(expected, index)
        self.twins.check("compare_and_set", compare_and_set, index, expected, value)


TestList = ListMachine.TestCase
TestList.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
