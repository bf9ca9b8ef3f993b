"""A checker of linearizability: can one object, used by one at a time, explain what callers saw?

A history is what concurrent callers were told. It is linearizable if each call can be given one
moment between its start and its end so that the sequential object, asked in that order, gives the
same answers. The search is Wing and Gong's, with Lowe's memory of what was tried: the set of calls
that are placed, and the state they lead to.

A call is split into parts, each of which has a moment of its own, where its caller does not know
how it ended. One that was cancelled, or whose session was lost, may have been granted an item or a
lock that was then taken back: between those two moments others see it gone.
"""

import ast
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, NamedTuple, Protocol, TypeAlias

__all__ = (
    "Call", "Mutex", "Object", "Part", "Queue", "Register", "Semaphore", "Verdict", "check",
    "history",
)  # fmt: skip

RETURNED, CANCELLED, UNKNOWN = "returned", "cancelled", "unknown"

State: TypeAlias = Hashable
Move: TypeAlias = Callable[[Any], State]
"""Returns the state that follows, or ILLEGAL."""
ILLEGAL: Any = object()


@dataclass(frozen=True)
class Call:
    """One call as its caller saw it."""

    who: str
    """The task or thread; its calls do not overlap."""
    name: str
    arguments: tuple[Any, ...]
    start: float
    end: float = inf
    """When it was over: returned, or known to have no effect any more."""
    result: Any = None
    outcome: str = RETURNED
    """returned: with its result. cancelled: by `end` it has happened or never will, and what it
    was granted is taken back. unknown: its caller died or lost its session."""

    def __str__(self) -> str:
        arguments = ", ".join(map(repr, self.arguments))
        how = f" = {self.result!r}" if self.outcome == RETURNED else f" ({self.outcome})"
        return f"{self.who} {self.start}-{self.end} {self.name}({arguments}){how}"


class Part(NamedTuple):
    """A part of a call that takes effect at one moment; those of one call do so in their order."""

    move: Move
    optional: bool = False


class Object(Protocol):
    """A sequential object: its first state, and what calls do to it."""

    initial: State

    def among(self, calls: Sequence[Call]) -> "Object":
        """Return what knows the whole history, and leaves out what cannot have been."""
        ...

    def parts(self, call: Call, number: int) -> Sequence[Part]:
        """Return the parts of a call, which has this number in its history."""
        ...

    def orders(self, calls: Sequence[Call]) -> Iterable[tuple[int, int]]:
        """Return pairs of calls, by number, of which the first must have begun to take effect
        before the second does, though their times allow the other order as well.

        What follows from answers that come much later is known here at once.
        """
        ...

    def simpler(self) -> "Object | None":
        """Return one that allows less, to be tried first: what that explains is explained."""
        ...


# --- the search ---------------------------------------------------------------------------------


class Verdict(NamedTuple):
    """What the search came to."""

    linearizable: bool | None
    """None: it was given up."""
    states: int
    """How many states were looked at."""
    stuck: Sequence[Call] = ()
    """Where the furthest attempt ended: the calls of which one would have had to be next."""

    def __str__(self) -> str:
        how = {True: "linearizable", False: "NOT linearizable", None: "undecided"}
        told = "".join(f"\n    {call}" for call in self.stuck)
        return f"{how[self.linearizable]} after {self.states} states{told and '; stuck at'}{told}"


@dataclass
class _Step:
    """A part with its place in the history."""

    call: Call
    part: Part
    later: int = 0
    """The bits of the parts of the same call that come behind it."""
    earlier: int = 0
    """The bits of the parts of other calls that must come before it."""
    bit: int = field(default=0)


def _steps(calls: Sequence[Call], it: Object) -> list[_Step]:
    it = it.among(calls)
    groups = [[_Step(call, part) for part in it.parts(call, n)] for n, call in enumerate(calls)]
    steps = sorted((step for group in groups for step in group), key=lambda step: step.call.start)
    for number, step in enumerate(steps):
        step.bit = 1 << number
    for group in groups:
        later = 0
        for step in reversed(group):
            step.later = later
            later |= step.bit
    for first, second in it.orders(calls):
        if groups[first] and groups[second]:
            groups[second][0].earlier |= groups[first][0].bit
    return steps


def check(calls: Iterable[Call], it: Object, limit: int = 500_000) -> Verdict:
    """Tell whether a history is linearizable; give up after so many states."""
    calls = list(calls)
    looked_at = 0
    if (simpler := it.simpler()) is not None:
        verdict = _search(_steps(calls, simpler), simpler.initial, _soonest, limit // 5)
        if verdict.linearizable:
            return verdict
        looked_at = verdict.states
    steps = _steps(calls, it)
    verdict = Verdict(None, 0)
    # Which order finds the way at once differs: each is given a little before one is given much.
    for order, share in (
        (_soonest, limit // 20),
        (_required_first, limit // 20),
        (_soonest, limit),
    ):
        verdict = _search(steps, it.initial, order, share)
        looked_at += verdict.states
        if verdict.linearizable is not None:
            break
    return verdict._replace(states=looked_at)


def _soonest(must: list[_Step], may: list[_Step]) -> list[_Step]:
    return sorted((*may, *must), key=lambda step: -step.call.end)


def _required_first(must: list[_Step], may: list[_Step]) -> list[_Step]:
    return [*may, *sorted(must, key=lambda step: -step.call.end)]


def _search(
    steps: list[_Step],
    initial: State,
    order: Callable[[list[_Step], list[_Step]], list[_Step]],
    limit: int,
) -> Verdict:
    """Search depth first; `order` says what is tried, the last one first."""
    required = sum(step.bit for step in steps if not step.part.optional)
    seen: set[tuple[int, State]] = set()
    best, stuck = -1, list[Call]()
    # What is placed, the state it leads to, the first that is not placed, the latest start of
    # those placed: nothing that ended before it can come any more.
    stack: list[tuple[int, State, int, float]] = [(0, initial, 0, -inf)]
    while stack:
        placed, state, first, latest = stack.pop()
        if placed & required == required:
            return Verdict(True, len(seen))
        if (placed, state) in seen:
            continue
        seen.add((placed, state))
        if len(seen) > limit:
            return Verdict(None, limit, stuck)
        while steps[first].bit & placed:
            first += 1
        must, may = _next(steps, first, placed, latest)
        if (progress := (placed & required).bit_count()) > best:
            best, stuck = progress, [step.call for step in must]
        for step in order(must, may):
            following = ILLEGAL if step.earlier & ~placed else step.part.move(state)
            if following is not ILLEGAL:
                stack.append((placed | step.bit, following, first, max(latest, step.call.start)))
    return Verdict(False, len(seen), stuck)


def _next(
    steps: list[_Step], first: int, placed: int, latest: float
) -> tuple[list[_Step], list[_Step]]:
    """Return the steps of which one may be next: those that must be placed, and the others."""
    bound = inf  # the first end of what must still be placed
    must: list[_Step] = []
    may: list[_Step] = []
    for index in range(first, len(steps)):
        step = steps[index]
        if step.call.start > bound:
            break
        if placed & step.bit:
            continue
        if not step.part.optional:
            must.append(step)
            bound = min(bound, step.call.end)
        elif step.call.end >= latest and not placed & step.later:
            may.append(step)
    return (
        [step for step in must if step.call.start <= bound],
        [step for step in may if step.call.start <= bound],
    )


# --- the objects --------------------------------------------------------------------------------


def _if(legal: bool, state: State) -> State:
    return state if legal else ILLEGAL


class _Plain:
    """An object of which all is to be tried."""

    def among(self, calls: Sequence[Call]) -> Any:
        return self

    def orders(self, calls: Sequence[Call]) -> Iterable[tuple[int, int]]:
        return ()

    def simpler(self) -> Object | None:
        return None


class Register(_Plain):
    """One value: read, write v, cas old, new (compare and set), add n (returns the sum).

    Where there are reads and writes only, each value is written once at most.
    """

    def __init__(self, initial: Hashable = 0, seen: frozenset[Any] | None = None) -> None:
        self.initial = initial
        self._seen = seen
        """What somebody read, if a write that nobody saw makes no difference: what may have been
        written was, or need not be thought of."""

    def among(self, calls: Sequence[Call]) -> "Register":
        if any(call.name in ("cas", "add") for call in calls):
            return self
        seen = {call.result for call in calls if call.name == "read" and call.outcome == RETURNED}
        return Register(self.initial, frozenset(seen))

    def parts(self, call: Call, number: int) -> Sequence[Part]:
        known, result, given = call.outcome == RETURNED, call.result, call.arguments

        def read(state: Any) -> State:
            return _if(state == result, state)

        def write(state: Any) -> State:
            return given[0]  # type: ignore[no-any-return]

        def cas(state: Any) -> State:
            hit = state == given[0]
            return _if(hit == result if known else hit, given[1] if hit else state)

        def add(state: Any) -> State:
            return _if(not known or state + given[0] == result, state + given[0])

        if call.name == "expire" or (call.name == "read" and not known):
            return ()
        if call.name == "write" and not known and self._seen is not None:
            return (Part(write),) if given[0] in self._seen else ()
        moves = {"read": read, "write": write, "cas": cas, "add": add}
        return (Part(moves[call.name], not known),)


class _Items(NamedTuple):
    """The state of a queue."""

    next: int = 1
    items: tuple[tuple[int, Any, bool], ...] = ()
    """Each with its position, and whether it was handed out before."""
    held: tuple[tuple[int, int, Any], ...] = ()
    """What is handed out to calls, by number, whose callers may not have it."""
    unseen: int = 0
    """How many were put that nobody says to have got."""


class Queue:
    """First in, first out: put v (None or Full), get ((v, redelivered) or Empty), size.

    Each value is put once at most.
    """

    initial = _Items()

    def __init__(self, maxsize: int = 0, *, once: bool = False) -> None:
        self._maxsize = maxsize
        self._once = once
        """Whether no item is handed out and taken back more than once."""
        self._got: dict[Any, bool] = {}
        """What somebody got, and whether it was handed out before: then it was, else it never
        was. Without this knowledge, each call that was cancelled is tried with each item."""
        self._drained = -inf
        """Since when nothing is in it."""
        self._dead = 0
        """How many may have got something and died: so many of what was put before may be gone."""

    def among(self, calls: Sequence[Call]) -> "Queue":
        known = Queue(self._maxsize, once=self._once)
        gets = [call for call in calls if call.name == "get"]
        for call in gets:
            if call.outcome != RETURNED:
                continue
            if call.result == "Empty":
                known._drained = max(known._drained, call.start)
            else:
                known._got[call.result[0]] = call.result[1]
        known._dead = sum(call.outcome == UNKNOWN for call in gets)
        return known

    def simpler(self) -> Object | None:
        return None if self._once else Queue(self._maxsize, once=True)

    def orders(self, calls: Sequence[Call]) -> Iterable[tuple[int, int]]:
        """What was got before an item that was never handed out to another was put before it."""
        put = {call.arguments[0]: n for n, call in enumerate(calls) if call.name == "put"}
        got = [
            (call, *call.result)
            for call in calls
            if call.name == "get" and call.outcome == RETURNED and call.result != "Empty"
        ]
        for behind, value, redelivered in got:
            if not redelivered and value in put:
                for before, other, _ in got:
                    if before.end < behind.start and other in put:
                        yield put[other], put[value]

    def parts(self, call: Call, number: int) -> Sequence[Part]:
        known, result = call.outcome == RETURNED, call.result
        got = call.name == "put" and call.arguments[0] in self._got
        unseen = not known and not got and call.end <= self._drained

        def put(state: _Items) -> State:
            full = 0 < self._maxsize <= len(state.items)
            if known and result == "Full":
                return _if(full, state)
            if full or (unseen and state.unseen == self._dead):
                return ILLEGAL
            item = (state.next, call.arguments[0], False)
            return state._replace(
                next=state.next + 1, items=(*state.items, item), unseen=state.unseen + unseen
            )

        def get(state: _Items) -> State:
            if result == "Empty":
                return _if(not state.items, state)
            if not state.items or state.items[0][1:] != result:
                return ILLEGAL
            return state._replace(items=state.items[1:])

        def hand_out(state: _Items) -> State:
            if not state.items:
                return ILLEGAL
            position, value, again = state.items[0]
            if not self._got.get(value, True) or (again and self._once):
                return ILLEGAL
            held = (*state.held, (number, position, value))
            return state._replace(items=state.items[1:], held=held)

        def take_back(state: _Items) -> State:
            for held in state.held:
                if held[0] == number:
                    items = tuple(sorted((*state.items, (held[1], held[2], True))))
                    rest = tuple(other for other in state.held if other is not held)
                    return state._replace(items=items, held=rest)
            return _if(call.outcome == CANCELLED, state)

        def size(state: _Items) -> State:
            return _if(len(state.items) == result, state)

        if call.name == "put":
            if unseen and not self._dead:
                return ()
            return (Part(put, not known and not got),)
        if known:
            return (Part({"get": get, "size": size}[call.name]),)
        if call.name in ("size", "expire"):
            return ()
        # Its caller may have had it, and died before it could say so.
        return Part(hand_out, True), Part(take_back, call.outcome == UNKNOWN)


class _Mutex(NamedTuple):
    """The state of a lock."""

    owner: str | None = None
    depth: int = 0
    fence: int = 0
    tentative: frozenset[int] = frozenset()
    """The calls, by number, that acquired it and whose callers may not know."""

    def rise(self, depth: int) -> "_Mutex":
        """Return the state after it was released to this depth."""
        if depth:
            return self._replace(depth=depth)
        return _Mutex(fence=self.fence)


class Mutex(_Plain):
    """A lock: acquire (the fence, or 0), release (None, NotOwner, RuntimeError), locked.

    `expire` is the end of its caller's session, which nobody calls.
    """

    initial = _Mutex()

    def __init__(self, *, reentrant: bool = False) -> None:
        self._reentrant = reentrant

    def parts(self, call: Call, number: int) -> Sequence[Part]:
        known, result, who = call.outcome == RETURNED, call.result, call.who

        def acquire(state: _Mutex) -> State:
            again = self._reentrant and state.owner == who
            if result == 0:
                return _if(state.owner is not None and not again, state)
            if again:
                return _if(state.fence == result, state._replace(depth=state.depth + 1))
            if state.owner is not None or result <= state.fence:
                return ILLEGAL
            return _Mutex(who, 1, result)

        def hand_out(state: _Mutex) -> State:
            if state.owner is not None and not (self._reentrant and state.owner == who):
                return ILLEGAL
            tentative = state.tentative | {number}
            # It has used up a fence, which nobody was told.
            fence = state.fence + (state.owner is None)
            return _Mutex(who, state.depth + 1, fence, tentative)

        def take_back(state: _Mutex) -> State:
            if number not in state.tentative:
                return _if(call.outcome == CANCELLED, state)
            return state._replace(tentative=state.tentative - {number}).rise(state.depth - 1)

        def release(state: _Mutex) -> State:
            if known and result == "RuntimeError":
                return _if(state.owner is None, state)
            if known and result == "NotOwner":
                return _if(state.owner not in (None, who), state)
            return state.rise(state.depth - 1) if state.owner == who else ILLEGAL

        def locked(state: _Mutex) -> State:
            return _if((state.owner is not None) == result, state)

        def expire(state: _Mutex) -> State:
            return state.rise(0) if state.owner == who else ILLEGAL

        if call.name == "acquire" and not known:
            return Part(hand_out, True), Part(take_back, call.outcome == UNKNOWN)
        if call.name == "locked" and not known:
            return ()
        moves = {"acquire": acquire, "release": release, "locked": locked, "expire": expire}
        return (Part(moves[call.name], not known),)


class _Permits(NamedTuple):
    """The state of a semaphore."""

    value: int
    holders: tuple[str, ...] = ()
    """Who has the permits that are out, sorted."""
    tentative: frozenset[int] = frozenset()

    def take(self, who: str) -> "_Permits":
        holders = tuple(sorted((*self.holders, who)))
        return self._replace(value=self.value - 1, holders=holders)

    def give(self, who: str) -> "_Permits":
        at = self.holders.index(who)
        holders = self.holders[:at] + self.holders[at + 1 :]
        return self._replace(value=self.value + 1, holders=holders)


class Semaphore(_Plain):
    """Permits: acquire (True or False), release (None or ValueError), value; `expire` as a lock's.

    Whoever releases has acquired; one too many is the ValueError of a bounded semaphore.
    """

    def __init__(self, value: int = 1) -> None:
        self._value = value
        self.initial = _Permits(value)

    def parts(self, call: Call, number: int) -> Sequence[Part]:
        known, result, who = call.outcome == RETURNED, call.result, call.who

        def acquire(state: _Permits) -> State:
            if not result:
                return _if(state.value == 0, state)
            return state.take(who) if state.value else ILLEGAL

        def hand_out(state: _Permits) -> State:
            if not state.value:
                return ILLEGAL
            return state.take(who)._replace(tentative=state.tentative | {number})

        def take_back(state: _Permits) -> State:
            if number not in state.tentative:
                return _if(call.outcome == CANCELLED, state)
            left = state.tentative - {number}
            state = state._replace(tentative=left)
            # The end of the session may have done it.
            return state.give(who) if who in state.holders else state

        def release(state: _Permits) -> State:
            if known and result == "ValueError":
                return _if(state.value == self._value, state)
            return state.give(who) if who in state.holders else ILLEGAL

        def value(state: _Permits) -> State:
            return _if(state.value == result, state)

        def expire(state: _Permits) -> State:
            if who not in state.holders:
                return ILLEGAL
            while who in state.holders:
                state = state.give(who)
            return state

        if call.name == "acquire" and not known:
            return Part(hand_out, True), Part(take_back, call.outcome == UNKNOWN)
        if call.name == "value" and not known:
            return ()
        moves = {"acquire": acquire, "release": release, "value": value, "expire": expire}
        return (Part(moves[call.name], not known),)


# --- histories as text --------------------------------------------------------------------------


def history(text: str) -> list[Call]:
    """Read a history from lines such as `A 0-3 put 7`, `B 1-2 get = (7, False)`.

    `A 0-?` has an unknown end, and `A 0-3x` is cancelled; what is no literal is a word.
    """
    calls: list[Call] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        given, _, result = line.partition("=")
        who, when, name, *arguments = given.split(None, 3)
        start, _, end = when.partition("-")
        outcome = UNKNOWN if end == "?" else CANCELLED if end.endswith("x") else RETURNED
        over = inf if end == "?" else float(end.rstrip("x"))
        told = _literal(result.strip()) if result else None
        values = _literal(f"({arguments[0]},)") if arguments else ()
        calls.append(Call(who, name, values, float(start), over, told, outcome))
    return calls


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except ValueError:
        return text
