"""Both rigs and a model side by side: every step must come to the same on all three.

`values` and `keys` are what the tests of all types put into shared objects.
"""

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from itertools import count
from typing import Any

from hypothesis import strategies as st

from aiomanager.deadlock import PATIENCE
from aiomanager.errors import DeadlockDetected
from aiomanager.operation import SharedObject

from .rigs import Parked, PureRig, Rig, SessionRig

__all__ = ("Model", "PatientTwins", "Point", "Twins", "exact", "keys", "outcome", "paths", "values")


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

    rig_types: tuple[Callable[[], Rig], ...] = (PureRig, SessionRig)

    def __init__(self, kind: type[SharedObject], model: Any, *given: Any, **named: Any) -> None:
        self.rigs = tuple(make() for make in self.rig_types)
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


class Model:
    """The base of models in which calls wait: who waits, since when, for how long.

    A model that says who is in front of a wait refuses those that close a circle.
    """

    def __init__(self) -> None:
        self.time = 0.0
        self.acting: tuple[int, int] = (0, 1)
        self.beside = False
        """Whether who acts does not wait for what he calls: he waits for something else."""
        self.waits: list[Wait] = []
        self.numbers = count(1)

    def in_front(self, wait: "Wait") -> Iterable[Any]:
        """Return the identities of those for whom a call waits."""
        return ()

    def identity_of(self, wait: "Wait") -> Any:
        """Return as whom a call waits."""
        return wait.acting

    def note(self, wait: "Wait") -> None:
        """Have a wait looked at, as the last one that began."""
        wait.number, wait.look = next(self.numbers), self.time + PATIENCE

    def closes_a_circle(self, start: "Wait") -> bool:
        """Tell whether a wait comes back to itself by waits that began before it."""
        nodes = [wait for wait in self.waits if 0 < wait.number <= start.number]
        ahead = {
            wait.number: {
                other.number for other in nodes if other.acting in set(self.in_front(wait))
            }
            for wait in nodes
        }
        for _ in nodes:
            ahead = {
                number: found.union(*(ahead[one] for one in found))
                for number, found in ahead.items()
            }
        return start.number in ahead[start.number]

    def refuse(self, wait: "Wait") -> None:
        """End a wait that would never end."""

        def say() -> None:
            raise DeadlockDetected

        self.answer(wait, say)
        self.serve()

    def park(
        self, what: str, timeout: float | None, on_timeout: Callable[[], Any], request: Any = None
    ) -> Parked:
        """Let a call wait."""
        until = None if timeout is None else self.time + timeout
        wait = Wait(Parked(), what, self.acting, until, on_timeout, request, self.beside)
        self.waits.append(wait)
        if until is None and not self.beside:
            self.note(wait)
        return self.waits[-1].parked

    def first(self, what: str) -> "Wait | None":
        """Return who waits longest for this."""
        return next((wait for wait in self.waits if wait.what == what), None)

    def answer(self, wait: "Wait", function: Callable[[], Any]) -> None:
        """Give one who waits its result, or the error that `function` raises."""
        self.waits.remove(wait)
        try:
            value = function()
        except Exception as error:
            wait.parked.answer(None, error)
        else:
            wait.parked.answer(value)
            if wait.free and self.identity_of(wait) == wait.acting:
                # Now that he has this too, what he waits for may go round.
                for other in self.waits:
                    if other.acting == wait.acting and other.number:
                        self.note(other)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        end = self.time + seconds
        while due := [wait for wait in self.waits if wait.next <= end]:
            first = min(due, key=lambda wait: (wait.next, wait.number))
            self.time = first.next
            if first.look is None:
                self.late(first)
            else:
                first.look = None
                if self.closes_a_circle(first):
                    self.refuse(first)
        self.time = end

    def late(self, wait: "Wait") -> None:
        """End a wait whose time is over."""
        self.answer(wait, wait.on_timeout)

    def take_back(self, wait: "Wait") -> None:
        """Let one who waits go at his own wish."""
        self.waits.remove(wait)
        self.serve()

    def serve(self) -> None:
        """Give those who wait what there is."""
        raise NotImplementedError

    def end(self, session: int, *, well: bool = True) -> None:
        """End a session: it waits for nothing any more."""
        self.waits = [wait for wait in self.waits if wait.acting[0] != session]


@dataclass(eq=False)
class Wait:
    """One call that waits in a model."""

    parked: Parked
    what: str
    acting: tuple[int, int]
    until: Any
    on_timeout: Callable[[], Any]
    request: Any
    free: bool = False
    number: int = 0
    """Its place among those that hold somebody up; 0: it is none of these."""
    look: float | None = None
    """When it is looked at."""

    @property
    def next(self) -> float:
        """When something is to happen."""
        when = self.until if self.look is None else self.look
        return math.inf if when is None else float(when)


class PatientTwins(Twins):
    """As `Twins`, for objects whose operations may wait."""

    model: Model

    def __init__(self, kind: type[SharedObject], model: Model, *given: Any) -> None:
        super().__init__(kind, model, *given)
        self.waiting: list[tuple[int, tuple[Parked, ...]]] = []

    def act(
        self, session: int, owner: int, name: str, expected: Callable[..., Any], *arguments: Any
    ) -> Any:
        """As `check`, by a task of one of the sessions; who waits is kept in `waiting`."""
        self.model.acting = (session, owner)
        # Whoever waits and acts nevertheless does not wait for that himself.
        busy = any(wait.acting == (session, owner) for wait in self.model.waits)
        self.model.beside = busy
        started: list[Parked] = []

        def shared(proxy: Any, *given: Any) -> Any:
            with proxy._channel.as_(session, owner, free=busy):
                return note(getattr(proxy, name)(*given))

        def note(result: Any) -> Any:
            if isinstance(result, Parked):
                started.append(result)
            return result

        want = self.check(shared, lambda m, *given: note(expected(m, *given)), *arguments)
        if want == "waits":
            self.waiting.append((session, tuple(started)))
        return want

    def compare(self) -> None:
        """Check that the same calls have been answered, and how."""
        for session, calls in list(self.waiting):
            ends = [outcome(lambda call=call: call) for call in calls]
            assert ends[0] == ends[1] == ends[2], (session, ends)
            if ends[0] != "waits":
                self.waiting.remove((session, calls))

    def advance(self, seconds: float) -> None:
        """Let time pass everywhere."""
        self.model.advance(seconds)
        for rig in self.rigs:
            rig.clock.advance(seconds)
            rig.pump()

    def cancel(self, position: int) -> None:
        """Take one of the calls that wait back."""
        _session, calls = self.waiting.pop(position % len(self.waiting))
        wait = next(wait for wait in self.model.waits if wait.parked in calls)
        self.model.take_back(wait)
        for call in calls:
            if call is not wait.parked:
                assert call.take_back(), "a call that waits cannot be taken back"

    def end(self, session: int, *, well: bool = True) -> None:
        """End a session everywhere; another takes its place."""
        self.waiting = [one for one in self.waiting if one[0] != session]
        self.model.end(session, well=well)
        for rig in self.rigs:
            rig.end(session, well=well)


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
