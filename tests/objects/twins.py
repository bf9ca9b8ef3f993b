"""Both rigs and a model side by side: every step must come to the same on all three.

`values` and `keys` are what the tests of all types put into shared objects.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from aiomanager.operation import SharedObject

from .rigs import Parked, PureRig, Rig, SessionRig

__all__ = ("Point", "Twins", "exact", "keys", "outcome", "paths", "values")


@dataclass(frozen=True, order=True)
class Point:
    """A value that travels as a pickle, so that the server cannot look into it."""

    x: int


def exact(value: Any) -> Any:
    """Return what two values have in common only if they are equal and of equal types."""
    kind = type(value)
    if kind is dict:
        return "dict", tuple((exact(key), exact(item)) for key, item in value.items())
    if kind in (list, tuple):
        return kind.__name__, tuple(map(exact, value))
    if kind in (set, frozenset):
        return kind.__name__, frozenset(map(exact, value))
    if kind is float:
        return "float", math.copysign(1.0, value), repr(value)
    return kind.__name__, value


def outcome(function: Callable[[], Any]) -> Any:
    """Return what a call comes to: its result, the class and key of its error, or that it waits."""
    try:
        value = function()
    except Exception as error:
        # A CallError is also of the builtin class that it stands for.
        kind = next(one for one in type(error).__mro__ if one.__module__ == "builtins"
                    or one.__module__ in ("_queue", "queue"))  # fmt: skip
        if kind is KeyError and error.args and not isinstance(error.args[0], str):
            return "error", kind, exact(error.args[0])
        return "error", kind
    if isinstance(value, Parked):
        return "waits" if not value.done else outcome(value.result)
    return "value", exact(value)


class Twins:
    """One shared object on each rig, and the model of it."""

    def __init__(self, kind: type[SharedObject], model: Any, *given: Any, **named: Any) -> None:
        self.rigs: tuple[Rig, ...] = (PureRig(), SessionRig())
        self.proxies = [rig.make(kind, *given, **named) for rig in self.rigs]  # type: ignore[attr-defined]
        self.model = model
        self.names_steps = False
        """Whether a KeyError has a text that names the step of a path, in place of the key."""

    def check_path(self, *arguments: Any) -> Any:
        """As `check`, for an operation along a path."""
        self.names_steps = True
        try:
            return self.check(*arguments)
        finally:
            self.names_steps = False

    def check(
        self,
        shared: Callable[..., Any] | str,
        expected: Callable[..., Any],
        *arguments: Any,
        **named: Any,
    ) -> Any:
        """Call an operation of both, and the model; compare and return what it comes to."""
        want = outcome(lambda: expected(self.model, *copy.deepcopy(arguments)))
        if self.names_steps and want[:2] == ("error", KeyError):
            want = want[:2]
        call = shared if callable(shared) else _method(shared)
        for rig, proxy in zip(self.rigs, self.proxies, strict=True):
            got = outcome(
                lambda proxy=proxy: call(proxy, *copy.deepcopy(arguments), **copy.deepcopy(named))
            )
            assert got == want, (type(rig).__name__, shared, arguments, got, want)
        return want


def _method(name: str) -> Callable[..., Any]:
    return lambda proxy, *given, **named: getattr(proxy, name)(*given, **named)


atoms = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([2**63 - 1, 2**64, -(2**70)]),
    st.sampled_from([0.0, -0.0, 1.0, 0.5, math.inf]),
    st.sampled_from(["", "a", "b", "\N{SNOWMAN}", "x" * 2000, "\udc80"]),
    st.sampled_from([b"", b"a", bytearray(b"a"), Decimal("1.5"), Decimal("1.50")]),
)

keys = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-1, 2),
        st.sampled_from([0.0, -0.0, 1.0, 2.0, 0.5, 2**70, Decimal(1), "", "a", "b", b"a"]),
    ),
    lambda inner: st.one_of(st.tuples(inner), st.frozensets(inner, max_size=1)),
    max_leaves=2,
)

values = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner),
        st.dictionaries(st.sampled_from(["a", "b", 0, 1]), inner, max_size=3),
        st.frozensets(st.integers(0, 2), max_size=2),
    ),
    max_leaves=5,
)

with_points = st.one_of(values, st.builds(Point, st.integers(0, 1)), st.builds(lambda: [Point(0)]))

paths = st.lists(st.sampled_from(["a", "b", 0, 1, -1, True, 2]), max_size=4).map(tuple)
