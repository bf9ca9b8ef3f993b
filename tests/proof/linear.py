"""A checker of linearizability: can one object, used by one at a time, explain what callers saw?

A history is what concurrent callers were told. It is linearizable if each call can be given one
moment between its start and its end so that the sequential object, asked in that order, gives the
same answers.

The search goes through time once, with all that may have been so far: which of the calls under way
are placed, and the state they lead to. A call is placed when it is over, behind those of the others
that had to come first. The ways to explain a history stay few because one is dropped when another
can do all that it can, because a call that changes nothing is placed as soon as it is legal, and
because gets that may have had an item of a queue are told apart only when one of them is over.

A call is split into parts, each of which has a moment of its own, where its caller does not know
how it ended. One that was cancelled, or whose session was lost, may have been granted an item or a
lock that was then taken back: between those two moments others see it gone.
"""

import ast
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import accumulate, count, pairwise
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
    """Whether it may be left out, and with it what comes behind it."""
    looks: bool = False
    """Whether it changes nothing, whenever it is legal."""


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

    def refuted(self, calls: Sequence[Call]) -> Sequence[Call]:
        """Return calls that cannot all be explained, whatever the other ones are.

        The search would find out as well, but only once it has tried all that came before.
        """
        ...

    def rank(self, state: Any) -> tuple[Hashable, int, int]:
        """Return what tells a state from others, and as bits what is left to be used, and what
        else is of use: of two that differ in the bits only, one that has all those of the other
        can do all that the other can."""
        ...

    def lurks(self, number: int) -> bool:
        """Tell whether a call has no parts, but allows moves that nobody sees while it is under
        way: of such calls it need not be known which one has made which move."""
        ...

    def begun(self, state: Any, number: int) -> State:
        """Return the state once a call that lurks is under way."""
        ...

    def over(self, state: Any, number: int) -> State:
        """Return the state once it is over, or ILLEGAL if it cannot be yet."""
        ...

    def unseen(self, state: Any) -> Iterable[State]:
        """Return the states that one more move leads to which nobody sees."""
        ...


# --- the search ---------------------------------------------------------------------------------

ROUNDS = (
    (10, False), (30, True), (30, False), (100, True), (100, False), (300, True), (300, False),
    (1000, True), (inf, False),
)  # fmt: skip
"""How many ways are kept at a time, and whether they are mixed. Few are mostly enough to find one
that goes on to the end. They do not tell that there is none, unless there are no more of them."""
TRIED = 3
"""How many times as many are looked at when a call is over, of those that lead to them."""


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


class _Step(NamedTuple):
    """A part with its place in the history."""

    bit: int
    part: Part
    earlier: int
    """The bits of the parts of other calls that must come before it."""


class _Placing(NamedTuple):
    """A call with the bits of its parts."""

    number: int
    call: Call
    steps: Sequence[_Step]
    bits: int
    optional: bool

    def next(self, placed: int) -> _Step | None:
        """Return the part that is next."""
        for step in self.steps:
            if not placed & step.bit:
                return step
        return None


class _Way(NamedTuple):
    """What may have been so far; those in which most can still be done sort first."""

    order: tuple[int, int, int]
    """No two have the same."""
    placed: int
    """Which parts are placed, of the calls under way."""
    state: Any
    key: tuple[int, Hashable]
    """The parts that must be placed and are, and what tells the state from others."""
    left: int
    use: int


class _Ways:
    """Ways of which none does without another."""

    def __init__(self) -> None:
        self._known: dict[Hashable, list[tuple[int, int]]] = {}

    def add(self, way: _Way) -> bool:
        """Add a way, and return True, unless another one can do all that it can."""
        known = self._known.setdefault(way.key, [])
        if any(not (way.left & ~left or way.use & ~use) for left, use in known):
            return False
        known.append((way.left, way.use))
        return True


def _mixed(ways: Iterable[_Way]) -> list[_Way]:
    """Return the best ways of each sort first, then the second best: which sort it takes shows
    only later."""
    places: Counter[Hashable] = Counter()
    ranked: list[tuple[int, _Way]] = []
    for way in ways:
        sort = way.key[0], way.left
        ranked.append((places[sort], way))
        places[sort] += 1
    return [way for _, way in sorted(ranked)]


class _Search:
    """The search in one history."""

    def __init__(self, calls: Sequence[Call], it: Object, limit: int) -> None:
        self._it = it = it.among(calls)
        self._limit = limit
        self.states = 0
        self._numbers = count()
        parts = [it.parts(call, number) for number, call in enumerate(calls)]
        ends = list(accumulate(map(len, parts), initial=0))
        earlier = [0] * len(calls)
        for first, second in it.orders(calls):
            if parts[first]:
                earlier[second] |= 1 << ends[first]
        self._optional = 0
        """The bits of what may be left out."""
        events: list[tuple[float, bool, _Placing]] = []
        for number, call in enumerate(calls):
            steps = [
                _Step(1 << bit, part, 0 if bit > ends[number] else earlier[number])
                for bit, part in enumerate(parts[number], ends[number])
            ]
            if not steps and not it.lurks(number):
                continue
            optional = not steps or steps[0].part.optional
            placing = _Placing(number, call, steps, sum(step.bit for step in steps), optional)
            self._optional |= placing.bits if optional else 0
            events.append((call.start, False, placing))
            if call.end < inf or not optional:
                events.append((call.end, True, placing))
        self._events = sorted(events, key=lambda event: event[:2])

    def run(self, width: float, mixed: bool = False) -> Verdict:
        """Go through time; keep so many ways."""
        kept = [self._way(0, self._it.initial)]
        under_way: list[_Placing] = []
        over = 0
        all_of_them = True
        for _, ends, placing in self._events:
            if not ends:
                under_way.append(placing)
                if not placing.steps:
                    kept = [
                        self._way(way.placed, self._it.begun(way.state, placing.number))
                        for way in kept
                    ]
                continue
            kept, all_tried = self._end(placing, kept, under_way, over, width)
            all_of_them = all_of_them and all_tried
            if not kept or self.states > self._limit:
                linearizable = False if all_of_them and not kept else None
                stuck = [other.call for other in under_way if not other.optional]
                return Verdict(linearizable, self.states, stuck)
            under_way.remove(placing)
            over |= placing.bits
            kept = self._latest(kept, under_way, over)
            if len(kept) > width:
                kept = (_mixed(kept) if mixed else kept)[: int(width)]
                all_of_them = False
        return Verdict(True, self.states)

    def _latest(self, ways: list[_Way], under_way: list[_Placing], over: int) -> list[_Way]:
        """Leave out the ways to which another one leads: it still can when the next call is over.

        Moves lead no way back, so of those that are left out one leads to each.
        """
        reached = _Ways()
        for way in ways:
            for placed, state in self._moves(way, under_way, over):
                reached.add(self._way(placed, state))
        return [way for way in ways if reached.add(way)]

    def _way(self, placed: int, state: State) -> _Way:
        key, left, use = self._it.rank(state)
        # What may be left out is better not placed: it still may be.
        left = left << self._optional.bit_length() | self._optional & ~placed
        order = -left.bit_count(), -use.bit_count(), next(self._numbers)
        return _Way(order, placed, state, (placed & ~self._optional, key), left, use)

    def _end(
        self,
        placing: _Placing,
        kept: list[_Way],
        under_way: list[_Placing],
        over: int,
        width: float,
    ) -> tuple[list[_Way], bool]:
        """Return the ways that go on when a call is over, the best ones first, and whether they
        are all."""
        following: list[_Way] = []
        waiting: list[_Way] = []
        for way in kept:
            if placing.steps and placing.next(way.placed) is None:
                following.append(self._way(way.placed & ~placing.bits, way.state))
            else:
                waiting.append(way)
        heapify(waiting)
        tried = _Ways()
        most = self.states + TRIED * width
        while waiting and self.states <= self._limit:
            if self.states > most and len(following) > width:
                break
            way = heappop(waiting)
            if not tried.add(way):
                continue
            self.states += 1
            if not placing.steps:
                state = self._it.over(way.state, placing.number)
                if state is not ILLEGAL:
                    following.append(self._way(way.placed, state))
            elif (step := placing.next(way.placed)) is not None and step.part.optional:
                following.append(self._way(way.placed & ~placing.bits, way.state))
            for placed, state in self._moves(way, under_way, over):
                if placing.steps and not placing.bits & ~placed:
                    # What may come behind it may as well come when the next call is over.
                    following.append(self._way(placed & ~placing.bits, state))
                else:
                    heappush(waiting, self._way(placed, state))
        ways = _Ways()
        return [way for way in sorted(following) if ways.add(way)], not waiting

    def _moves(
        self, way: _Way, under_way: list[_Placing], over: int
    ) -> Sequence[tuple[int, State]]:
        """Return what may come next: the parts that are placed then, and the state."""
        moves: list[tuple[int, State]] = []
        for placing in under_way:
            step = placing.next(way.placed)
            if step is None or step.earlier & ~(way.placed | over):
                continue
            state = step.part.move(way.state)
            if state is ILLEGAL:
                continue
            moves.append((way.placed | step.bit, state))
            if step.part.looks and not step.part.optional:
                return moves[-1:]  # nothing is gained by waiting
        moves.extend((way.placed, state) for state in self._it.unseen(way.state))
        return moves


def check(calls: Iterable[Call], it: Object, limit: int = 500_000) -> Verdict:
    """Tell whether a history is linearizable; give up after so many states."""
    calls = list(calls)
    if wrong := it.among(calls).refuted(calls):
        return Verdict(False, 0, wrong)
    search = _Search(calls, it, limit)
    verdict = Verdict(None, 0)
    for width, mixed in ROUNDS:
        verdict = search.run(width, mixed)
        if verdict.linearizable is not None or search.states > limit:
            break
    return verdict


# --- the objects --------------------------------------------------------------------------------


def _if(legal: bool, state: State) -> State:
    return state if legal else ILLEGAL


class _Plain:
    """An object of which all is to be tried."""

    def among(self, calls: Sequence[Call]) -> Any:
        return self

    def orders(self, calls: Sequence[Call]) -> Iterable[tuple[int, int]]:
        return ()

    def refuted(self, calls: Sequence[Call]) -> Sequence[Call]:
        return ()

    def rank(self, state: Any) -> tuple[Hashable, int, int]:
        return state, 0, 0

    def lurks(self, number: int) -> bool:
        return False

    def begun(self, state: Any, number: int) -> State:
        return state

    def over(self, state: Any, number: int) -> State:
        return state

    def unseen(self, state: Any) -> Iterable[State]:
        return ()


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
        looks = call.name == "read" or (call.name == "cas" and known and not result)
        return (Part(moves[call.name], not known, looks),)


class _Item(NamedTuple):
    """An item in a queue, or one that somebody has who may not know."""

    value: Any
    """None if nobody says to have got it: those are all alike."""
    again: bool = False
    """Whether it was handed out before."""
    holders: int = 0
    """If it is handed out: the bits of the gets of which one may have it, those that were under
    way then. What is in the queue has none."""


class _Items(NamedTuple):
    """The state of a queue."""

    items: tuple[_Item, ...] = ()
    """In their order: what is handed out and taken back is where it was."""
    gets: int = 0
    """The bits of the gets under way that may have an item, or may yet be handed one."""
    unseen: int = 0
    """How many were put that nobody says to have got."""

    def first(self) -> int | None:
        """Return where the item is that is next."""
        for at, item in enumerate(self.items):
            if not item.holders:
                return at
        return None

    def size(self) -> int:
        return sum(not item.holders for item in self.items)

    def put(self, at: int, *items: _Item) -> "_Items":
        """Return the state with other items, or none, instead of one."""
        return self._replace(items=(*self.items[:at], *items, *self.items[at + 1 :]))

    def without(self, get: int) -> "_Items | None":
        """Return the state without a get, if the others are enough to have what is handed out.

        Of two items, those that may have the one that was handed out first may have the other one
        as well. So it is enough to count them.
        """
        items = tuple(
            item._replace(holders=item.holders & ~get) if item.holders else item
            for item in self.items
        )
        counts = sorted(
            after.holders.bit_count()
            for before, after in zip(self.items, items, strict=True)
            if before.holders
        )
        if any(few <= before for before, few in enumerate(counts)):
            return None
        return self._replace(items=items, gets=self.gets & ~get)


class Queue(_Plain):
    """First in, first out: put v (None or Full), get ((v, redelivered) or Empty), size.

    Each value is put once at most.

    A get that was cancelled, or whose caller died, may have had an item for a while. Which of them
    has which item is left open until one of them is over, or its item is back.
    """

    initial = _Items()

    def __init__(self, maxsize: int = 0) -> None:
        self._maxsize = maxsize
        self._got: dict[Any, bool] = {}
        """What somebody got, and whether it was handed out before: then it was, else it never
        was. Without this knowledge, each item is tried with each call that was cancelled."""
        self._drained = -inf
        """Since when nothing is in it."""
        self._told = inf
        """Since when nobody is told anything any more, but that it is empty."""
        self._kept = 0
        """How many gets may keep something that was put before nothing was in it."""
        self._lurking: dict[int, int] = {}
        """The bits of the gets that may have had something, by number; those that began first
        are lower."""
        self._ends: list[float] = []
        """When they are over, in the order of their bits."""

    def among(self, calls: Sequence[Call]) -> "Queue":
        known = Queue(self._maxsize)
        gets = [(call, number) for number, call in enumerate(calls) if call.name == "get"]
        for call, _ in gets:
            if call.outcome == RETURNED and call.result == "Empty":
                known._drained = max(known._drained, call.start)
            elif call.outcome == RETURNED:
                known._got[call.result[0]] = call.result[1]
        known._told = max(
            (
                call.end
                for call in calls
                if call.outcome == RETURNED
                and (call.result != "Empty" or call.start < known._drained)
            ),
            default=-inf,
        )
        lurking = sorted(
            ((call, number) for call, number in gets if call.outcome != RETURNED),
            key=lambda one: one[0].start,
        )
        known._lurking = {number: 1 << bit for bit, (_, number) in enumerate(lurking)}
        known._ends = [call.end for call, _ in lurking]
        known._kept = sum(end >= known._drained for end in known._ends)
        return known

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

    def refuted(self, calls: Sequence[Call]) -> Sequence[Call]:
        put = {
            call.arguments[0]: call
            for call in calls
            if call.name == "put" and call.result != "Full"
        }
        got: dict[Any, Call] = {}
        for call in calls:
            if call.name == "get" and call.outcome == RETURNED and call.result != "Empty":
                value = call.result[0]
                if value in got:  # twice
                    return got[value], call
                if value not in put or call.end < put[value].start:
                    return (call,)
                got[value] = call
        for first, second in self.orders(calls):
            if calls[second].end < calls[first].start:
                return calls[first], calls[second]
        lost = [
            call
            for value, call in put.items()
            if call.outcome == RETURNED and value not in got and call.end < self._drained
        ]
        return lost if len(lost) > self._kept else ()

    def rank(self, state: _Items) -> tuple[Hashable, int, int]:
        # More gets are better, also to have an item, and so is a mark: only what somebody got with
        # one has it.
        left = state.gets << self._kept | (1 << (self._kept - state.unseen)) - 1
        use = 0
        for item in state.items:
            use = use << len(self._ends) + 1 | (item.holders or item.again)
        return tuple((item.value, not item.holders) for item in state.items), left, use

    def lurks(self, number: int) -> bool:
        return number in self._lurking

    def begun(self, state: _Items, number: int) -> State:
        return state._replace(gets=state.gets | self._lurking[number])

    def over(self, state: _Items, number: int) -> State:
        get = self._lurking[number]
        if not state.gets & get:
            return state
        after = state.without(get)
        return ILLEGAL if after is None else after

    def unseen(self, state: _Items) -> Iterable[State]:
        at = state.first()
        if at is not None and state.gets:
            value = state.items[at].value
            if self._got.get(value, True):
                after = state.put(at, _Item(value, value in self._got, state.gets)).without(0)
                if after is not None:
                    yield after
        for at, item in enumerate(state.items):
            if item.holders:
                yield from self._taken_back(state.put(at, item._replace(holders=0)), item.holders)

    def _taken_back(self, state: _Items, holders: int) -> Iterable[State]:
        """Return what may be if one of these gets has had an item that is back."""
        soonest: float | None = None
        while holders:
            last = holders.bit_length() - 1
            holders &= ~(1 << last)
            # One that is over later and began sooner is better left for another item.
            if soonest is None or self._ends[last] < soonest:
                after = state.without(1 << last)
                if after is not None:
                    soonest = self._ends[last]
                    yield after

    def parts(self, call: Call, number: int) -> Sequence[Part]:
        known, result = call.outcome == RETURNED, call.result
        value = call.arguments[0] if call.name == "put" else None
        got = value in self._got
        # It was put before nothing was in it, if it makes any difference that it was put.
        early = call.end < self._drained or self._told < self._drained
        unseen = not known and not got and early

        def put(state: _Items) -> State:
            full = 0 < self._maxsize <= state.size()
            if known and result == "Full":
                return _if(full, state)
            if full or (unseen and state.unseen == self._kept):
                return ILLEGAL
            items = (*state.items, _Item(value if got else None))
            return state._replace(items=items, unseen=state.unseen + unseen)

        def get(state: _Items) -> State:
            at = state.first()
            if result == "Empty" or at is None:
                return _if(result == "Empty" and at is None, state)
            return state.put(at) if state.items[at][:2] == result else ILLEGAL

        def size(state: _Items) -> State:
            return _if(state.size() == result, state)

        if call.name == "put":
            if unseen and not self._kept:
                return ()
            return (Part(put, not known and not got, result == "Full"),)
        if not known or call.name == "expire":
            return ()
        return (
            Part(
                {"get": get, "size": size}[call.name],
                looks=result == "Empty" or call.name == "size",
            ),
        )


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
        self._fences: dict[int, set[str]] = {}
        """Those somebody was told, in their order, and who was."""
        self._before: dict[int, int] = {}
        """The one before each of them: it must have been given by then."""
        self._unknown = 0
        """How many may have used up a fence that nobody was told."""

    def among(self, calls: Sequence[Call]) -> "Mutex":
        acquires = [call for call in calls if call.name == "acquire"]
        known = Mutex(reentrant=self._reentrant)
        for call in sorted(acquires, key=lambda call: call.result or 0):
            if call.outcome == RETURNED and call.result:
                known._fences.setdefault(call.result, set()).add(call.who)
        known._before = dict(zip(known._fences, (0, *known._fences), strict=False))
        known._unknown = sum(call.outcome != RETURNED for call in acquires)
        return known

    def refuted(self, calls: Sequence[Call]) -> Sequence[Call]:
        # Since when and until when who surely has it: to the next call of his that may end that.
        spans: list[tuple[float, float, Call]] = []
        for call in calls:
            if call.name == "acquire" and call.outcome == RETURNED and call.result:
                until = min(
                    (
                        other.start
                        for other in calls
                        if other.who == call.who
                        and other.name in ("release", "expire")
                        and other.end >= call.start
                    ),
                    default=inf,
                )
                if call.end < until:
                    spans.append((call.end, until, call))
        spans.sort(key=lambda span: span[:2])
        for (_, until, one), (since, _, two) in pairwise(spans):
            if one.who != two.who and since < until:
                return one, two
        return ()

    def rank(self, state: _Mutex) -> tuple[Hashable, int, int]:
        if state.owner is not None:
            return state, 0, 0
        # The fewer were used up since the last one that somebody was told, the more are left.
        told = list(self._fences)
        last = ([0, *told])[bisect_right(told, state.fence)]
        return state._replace(fence=last), (1 << (self._unknown - (state.fence - last))) - 1, 0

    def parts(self, call: Call, number: int) -> Sequence[Part]:
        known, result, who = call.outcome == RETURNED, call.result, call.who

        def acquire(state: _Mutex) -> State:
            again = self._reentrant and state.owner == who
            if result == 0:
                return _if(state.owner is not None and not again, state)
            if again:
                return _if(state.fence == result, state._replace(depth=state.depth + 1))
            if state.owner is not None or not self._before[result] <= state.fence < result:
                return ILLEGAL
            return _Mutex(who, 1, result)

        def hand_out(state: _Mutex) -> State:
            if state.owner is not None and not (self._reentrant and state.owner == who):
                return ILLEGAL
            tentative = state.tentative | {number}
            # It has used up a fence, which nobody else was told.
            fence = state.fence + (state.owner is None)
            if state.owner is None and not self._fences.get(fence, {who}) <= {who}:
                return ILLEGAL
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
        looks = call.name == "locked" or result in (0, "NotOwner", "RuntimeError")
        return (Part(moves[call.name], not known, looks),)


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
        looks = call.name == "value" or result in (False, "ValueError")
        return (Part(moves[call.name], not known, looks),)


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
