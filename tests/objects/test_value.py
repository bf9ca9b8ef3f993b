"""The shared Value does what a variable does, on plain values and through a session."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from aiomanager.objects.value import Value

from .machines import NestedMachine, amounts
from .reference import Nest, add
from .twins import Twins, values, with_points


def compare_and_set(model: Nest, expected: Any, value: Any) -> bool:
    if model.root != expected:
        return False
    model.root = value
    return True


def exchange(model: Nest, value: Any) -> Any:
    old, model.root = model.root, value
    return old


def increment(model: Nest, amount: Any) -> Any:
    model.root = add(model.root, amount)
    return model.root


class ValueMachine(NestedMachine):
    def nest(self, model: Any) -> Nest:
        return model  # type: ignore[no-any-return]

    @initialize(start=values)
    def make(self, start: Any) -> None:
        self.twins = Twins(Value, Nest(start), "i", start)

    @invariant()
    def same(self) -> None:
        self.twins.check("get", lambda m: m.root)

    @rule(value=with_points)
    def set(self, value: Any) -> None:
        self.twins.check("set", lambda m, v: setattr(m, "root", v), value)

    @rule(value=with_points)
    def exchange(self, value: Any) -> None:
        self.twins.check("exchange", exchange, value)

    @rule(amount=amounts)
    def increment(self, amount: Any) -> None:
        self.twins.check("increment", increment, amount)

    @rule(expected=with_points, value=with_points, from_there=st.booleans())
    def compare_and_set(self, expected: Any, value: Any, from_there: bool) -> None:
        if from_there:
            expected = self.twins.model.root
        self.twins.check("compare_and_set", compare_and_set, expected, value)

    @rule(value=values)
    def update(self, value: Any) -> None:
        self.twins.check(
            lambda proxy, v: proxy.update(lambda old: [v, type(old).__name__]),
            lambda m, v: setattr(m, "root", [v, type(m.root).__name__]) or m.root,
            value,
        )


TestValue = ValueMachine.TestCase
TestValue.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
