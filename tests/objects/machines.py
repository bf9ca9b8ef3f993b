"""The steps along a path, for the stateful tests of every type that holds values."""

from typing import Any

from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from aiomanager.stored import MISSING

from . import reference
from .twins import Twins, paths, values

__all__ = ("NestedMachine",)

amounts = st.sampled_from([1, -2, 0.5, 2**62])


class NestedMachine(RuleBasedStateMachine):
    """The rules; a subclass makes `twins`, whose model is a `reference.Nest` or has one."""

    twins: Twins

    def nest(self, model: Any) -> reference.Nest:
        """Return the model as a value that paths lead into."""
        return reference.Nest(model)

    def found(self, path: Any) -> list[Any]:
        """Return the value at `path` in a list, empty if there is none.

        What only a client can open is no business of a test that compares on the server.
        """
        try:
            value = self.nest(self.twins.model).get(path)
        except Exception:
            return []
        assume("Point" not in repr(value))
        return [value]

    @rule(path=paths)
    def get_nested(self, path: Any) -> None:
        self.twins.check_path("get_nested", lambda m, p: self.nest(m).get(p), path)

    @rule(path=paths, default=values)
    def get_nested_or_default(self, path: Any, default: Any) -> None:
        self.twins.check_path("get_nested", lambda m, p, d: self.nest(m).get(p, d), path, default)

    @rule(path=paths)
    def contains_nested(self, path: Any) -> None:
        self.twins.check_path("contains_nested", lambda m, p: self.nest(m).contains(p), path)

    @rule(path=paths, value=values)
    def update_nested(self, path: Any, value: Any) -> None:
        self.twins.check_path(
            "update_nested", lambda m, p, v: self.nest(m).update(p, v), path, value
        )

    @rule(path=paths, value=values)
    def setdefault_nested(self, path: Any, value: Any) -> None:
        self.twins.check_path(
            "setdefault_nested", lambda m, p, v: self.nest(m).setdefault(p, v), path, value
        )

    @rule(path=paths)
    def delete_nested(self, path: Any) -> None:
        self.twins.check_path("delete_nested", lambda m, p: self.nest(m).delete(p), path)

    @rule(path=paths)
    def pop_nested(self, path: Any) -> None:
        self.twins.check_path("pop_nested", lambda m, p: self.nest(m).pop(p), path)

    @rule(path=paths, default=values)
    def pop_nested_or_default(self, path: Any, default: Any) -> None:
        self.twins.check_path("pop_nested", lambda m, p, d: self.nest(m).pop(p, d), path, default)

    @rule(path=paths, amount=amounts)
    def increment_nested(self, path: Any, amount: Any) -> None:
        self.twins.check_path(
            "increment_nested", lambda m, p, a: self.nest(m).increment(p, a), path, amount
        )

    @rule(path=paths, value=values)
    def append_nested(self, path: Any, value: Any) -> None:
        self.twins.check_path(
            "append_nested", lambda m, p, v: self.nest(m).append(p, v), path, value
        )

    @rule(path=paths, expected=values, value=values, from_there=st.booleans())
    def compare_and_set_nested(
        self, path: Any, expected: Any, value: Any, from_there: bool
    ) -> None:
        found = self.found(path)
        if from_there and found:
            expected = found[0]
        self.twins.check_path(
            "compare_and_set_nested",
            lambda m, p, e, v: self.nest(m).compare_and_set(p, e, v),
            path,
            expected,
            value,
        )

    @rule(path=paths, value=values)
    def set_nested_that_is_missing(self, path: Any, value: Any) -> None:
        self.twins.check_path(
            lambda proxy, p, v: proxy.compare_and_set_nested(p, MISSING, v),
            lambda m, p, v: self.nest(m).compare_and_set(p, reference.MISSING, v),
            path,
            value,
        )

    @rule(path=paths)
    def remove_nested_that_is_there(self, path: Any) -> None:
        found = self.found(path)
        if found:
            self.twins.check_path(
                lambda proxy, p, e: proxy.compare_and_set_nested(p, e, MISSING),
                lambda m, p, e: self.nest(m).compare_and_set(p, e, reference.MISSING),
                path,
                found[0],
            )
