"""A search through all states of a model, breadth first, for the shortest way to a fault.

It knows nothing of what a model is about: a `Machine` says where it starts, what can happen next,
and which promises a state breaks.
"""

from collections.abc import Hashable, Iterable
from enum import StrEnum
from typing import Generic, NamedTuple, Protocol, TypeVar

S = TypeVar("S", bound=Hashable)


class AnyFault(StrEnum):
    """A broken promise."""


class AnyExcuse(StrEnum):
    """A reason for which a state breaks no promise, though it seems to."""


class Step(NamedTuple, Generic[S]):
    """Something that one of those in the model does or meets, and the state after it."""

    name: str
    who: int
    state: S
    fault: AnyFault | None


class Machine(Protocol[S]):
    """What a model is to the search."""

    def start(self) -> S: ...
    def steps(self, state: S, /) -> Iterable[Step[S]]:
        """All that can happen next."""
        ...

    def canonical(self, state: S, /) -> S:
        """The one of several states alike that stands for all of them."""
        ...

    def at_rest(self, state: S, /) -> bool:
        """Whether nothing happens any more unless somebody wants something."""
        ...

    def judge(self, state: S, /) -> Iterable[AnyFault | AnyExcuse]: ...


class Report(NamedTuple):
    """What a search found."""

    states: int
    at_rest: int  # how many of the states had nothing left that must happen
    moves: frozenset[str]  # the names of the moves that happened
    excuses: frozenset[AnyExcuse]
    fault: AnyFault | None
    trace: tuple[str, ...] | None  # the shortest way to the fault


def search(machine: Machine[S], ignored: frozenset[AnyFault] = frozenset()) -> Report:
    """Search all states breadth first, until none is left or one has a fault not ignored."""
    start = machine.start()
    before: dict[S, S | None] = {start: None}
    level = [start]
    excuses: set[AnyExcuse] = set()
    at_rest = 0
    names: set[str] = set()

    def report(fault: AnyFault | None, trace: tuple[str, ...] | None) -> Report:
        return Report(len(before), at_rest, frozenset(names), frozenset(excuses), fault, trace)

    while level:
        following: list[S] = []
        for state in level:
            at_rest += machine.at_rest(state)
            for name, _, after, fault in machine.steps(state):
                names.add(name)
                after = machine.canonical(after)
                if fault is not None and fault not in ignored:
                    return report(fault, _trace(machine, before, state, after))
                if after in before:
                    continue
                before[after] = state
                for verdict in machine.judge(after):
                    if isinstance(verdict, AnyExcuse):
                        excuses.add(verdict)
                    elif verdict not in ignored:
                        return report(verdict, _trace(machine, before, state, after))
                following.append(after)
        level = following
    return report(None, None)


def _trace(machine: Machine[S], before: dict[S, S | None], last: S, target: S) -> tuple[str, ...]:
    """Walk from the start to a fault, and name each step; A, B and so on stay who they are."""
    path = [target]
    state: S | None = last
    while state is not None:
        path.append(state)
        state = before[state]
    here = path.pop()
    trace: list[str] = []
    while path:
        target = path.pop()
        steps = [step for step in machine.steps(here) if machine.canonical(step.state) == target]
        step = next((step for step in steps if step.fault), steps[0])
        trace.append(f"{'ABCD'[step.who]}: {step.name}")
        here = step.state
    return tuple(trace)
