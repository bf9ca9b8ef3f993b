"""Who waits for whom: finds waits that would never end, because they go round in a circle.

It knows the waits without a deadline for what only its owner gives back, and whom each of them
holds up. That something is held is not noted anywhere: whoever is waited for is asked of the
thing itself. There is no clock here: a holder's `now` and `later` are asked for the time.

A wait is looked at once, when it has lasted for `PATIENCE`: a task may be inside of a timeout
that only its client knows of, or may have been asked to stop. Only what was there before it is
followed, so the wait that closed a circle is the one that is refused.
"""

from collections.abc import Hashable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from aiomanager.errors import DeadlockDetected

if TYPE_CHECKING:
    from aiomanager.waiter import Caller, Holder, Waiter

__all__ = ("PATIENCE", "Contested", "Deadlocks", "Notes")

PATIENCE: Final = 1.0
"""Seconds for which a circle of waits must have been there."""


Notes: TypeAlias = dict[Hashable, Any]


class Contested(Protocol):
    """Something that is waited for, and that only its owner gives back."""

    def in_front(self, notes: Notes, /) -> Iterable[Iterable[Hashable]]:
        """Return who must let go before the one who waits has it: the identities of owners.

        They come in rows: in each, whoever follows one that is held up is waited for by that
        one as well. Who can be passed over, or leaves by himself in time, need not be there.
        What `notes` say stays true while several are asked.
        """
        ...

    def tell(self, whom: Hashable, now: float, /) -> str:
        """Return what is waited for, and since when `whom`, who is in front, has it."""
        ...


class _Wait:
    """One wait without a deadline, and whom it holds up."""

    __slots__ = ("blocked", "caller", "number", "refusable", "since", "thing", "waiter")

    def __init__(
        self, waiter: "Waiter[Any]", caller: "Caller", thing: Contested, refusable: bool
    ) -> None:
        self.waiter = waiter
        self.caller = caller
        self.blocked = caller.blocked
        self.thing = thing
        self.refusable = refusable
        self.since = caller.holder.now()
        self.number = 0


class Deadlocks:
    """The waits of one server in which circles are looked for."""

    __slots__ = ("_alarmed", "_next_number", "_of", "_waits", "_young")

    def __init__(self) -> None:
        self._waits: dict[Waiter[Any], _Wait] = {}
        self._of: dict[Hashable, list[_Wait]] = {}
        """By the task or thread that is held up. One that waits twice is not held up by either:
        nobody who runs one line after the other does that."""
        self._young: dict[_Wait, tuple[float, bool]] = {}
        """Those that are still to be looked at: since when they count, and whether nobody can
        wait for whom they hold up unless he holds something."""
        self._next_number = 0
        self._alarmed = False

    def __len__(self) -> int:
        return len(self._waits)

    def add(
        self,
        waiter: "Waiter[Any]",
        caller: "Caller",
        thing: Contested,
        *,
        refusable: bool = True,
        again: bool = False,
    ) -> None:
        """Take note that `waiter` waits for `thing` without a deadline; it holds up `caller`.

        One that is not `refusable` cannot end with an error. One that waits `again` is back at a
        place that it had before.
        """
        blocked = caller.blocked
        if blocked is None:
            return
        wait = self._waits[waiter] = _Wait(waiter, caller, thing, refusable)
        self._of.setdefault(blocked, []).append(wait)
        self._look_at(wait, last=not again)

    def remove(self, waiter: "Waiter[Any]") -> None:
        """Forget a wait that has ended, or that others may pass for now."""
        wait = self._waits.pop(waiter, None)
        if wait is None:
            return
        self._young.pop(wait, None)
        others = self._of[wait.blocked]
        others.remove(wait)
        if not others:
            del self._of[wait.blocked]
        elif len(others) == 1:
            self._look_at(others[0])

    def given_to(self, caller: "Caller") -> None:
        """Take note that who may be held up already was given something that others wait for."""
        wait = self._only(caller.identity)
        if wait is not None:
            self._look_at(wait)

    def _look_at(self, wait: _Wait, *, last: bool = False) -> None:
        """Have a wait looked at, as the last one that began."""
        self._next_number += 1
        wait.number = self._next_number
        self._young.pop(wait, None)
        holder = wait.caller.holder
        self._young[wait] = holder.now(), last
        self._call_later(holder, PATIENCE)

    def _call_later(self, holder: "Holder", seconds: float) -> None:
        # One alarm for all: as a rule a wait is over before its turn, and has cost no timer.
        if not self._alarmed:
            self._alarmed = True
            holder.later(seconds, self._look)

    def _look(self) -> None:
        """Look at all that have waited long enough."""
        self._alarmed = False
        due: list[_Wait] = []
        holding: dict[Holder, set[Hashable]] = {}
        while self._young:
            wait, (since, last) = next(iter(self._young.items()))
            holder = wait.caller.holder
            left = since + PATIENCE - holder.now()
            if left > 1e-6:
                self._call_later(holder, max(left, PATIENCE / 10))
                break
            del self._young[wait]
            # Most who wait hold nothing meanwhile, and nobody waits for them. It is asked for
            # here, and for a session at once, so that to acquire what is free costs nothing.
            if last:
                if holder not in holding:
                    holding[holder] = holder.owners()
                if wait.blocked not in holding[holder]:
                    continue
            due.append(wait)
        if due:
            entangled = self._entangled(due)
            for wait in due:
                if wait in entangled and wait not in self._young:
                    self._break_circle(wait)

    def _entangled(self, starts: list[_Wait]) -> set[_Wait]:
        """Return all that could be in a circle, of what can be reached from some waits."""
        notes: Notes = {}
        ahead: dict[_Wait, list[_Wait]] = {}
        limit = self._next_number
        to_do = list(starts)
        while to_do:
            wait = to_do.pop()
            if wait not in ahead:
                ahead[wait] = list(self._ahead(wait, limit, notes))
                to_do += ahead[wait]
        # A circle remains when those are taken away who wait for nobody, and for whom nobody does.
        return set(_without_ends(_turned(_without_ends(ahead))))

    def _ahead(self, wait: _Wait, limit: int, notes: Notes) -> Iterator[_Wait]:
        """Return the waits of those for whom one waits, up to the last one that counts."""
        for row in wait.thing.in_front(notes):
            for identity in row:
                other = self._only(identity)
                if other is not None and other.number <= limit:
                    yield other
                    break

    def _break_circle(self, wait: _Wait) -> None:
        while circle := self._circle(wait):
            refusable = [one for one in circle if one.refusable]
            if not refusable:
                return
            youngest = max(refusable, key=lambda one: one.number)
            youngest.waiter.fail(DeadlockDetected(_story(circle, youngest)))

    def _circle(self, start: _Wait) -> list[_Wait]:
        """Return a circle of waits, each for the next one's owner, of which `start` is the last."""
        if self._only(start.blocked) is not start:
            return []
        notes: Notes = {}
        seen = {start}
        path = [start]
        ways = [self._ahead(start, start.number, notes)]
        while path:
            for wait in ways[-1]:
                if wait is start:
                    return path
                if wait not in seen:
                    seen.add(wait)
                    path.append(wait)
                    ways.append(self._ahead(wait, start.number, notes))
                    break
            else:
                path.pop()
                ways.pop()
        return []

    def _only(self, identity: Hashable) -> _Wait | None:
        """Return the wait that holds somebody up, if one does."""
        waits = self._of.get(identity)
        return waits[0] if waits is not None and len(waits) == 1 else None


def _turned(graph: dict[_Wait, list[_Wait]]) -> dict[_Wait, list[_Wait]]:
    """Return a graph with the directions of its edges reversed."""
    turned: dict[_Wait, list[_Wait]] = {node: [] for node in graph}
    for node, others in graph.items():
        for other in others:
            turned[other].append(node)
    return turned


def _without_ends(graph: dict[_Wait, list[_Wait]]) -> dict[_Wait, list[_Wait]]:
    """Return a graph without the nodes from which every way ends."""
    behind = _turned(graph)
    left = {node: len(others) for node, others in graph.items()}
    ends = [node for node, count in left.items() if not count]
    while ends:
        end = ends.pop()
        del left[end]
        for node in behind[end]:
            left[node] -= 1
            if not left[node]:
                ends.append(node)
    return {node: [other for other in graph[node] if other in left] for node in left}


def _story(circle: list[_Wait], refused: _Wait) -> str:
    """Tell who waits for whom, beginning with the one that is refused."""
    at = circle.index(refused)
    circle = circle[at:] + circle[:at]
    now = refused.caller.holder.now()
    lines: list[str] = []
    for wait, ahead in zip(circle, circle[1:] + circle[:1], strict=True):
        who = wait.caller.waiting_as()
        this = " (this call)" if wait is refused else ""
        lines.append(
            f"{who}{this} waits since {now - wait.since:.3f} s for "
            f"{wait.thing.tell(ahead.blocked, now)}"
        )
    return (
        "a deadlock, found when the last of its waits began: "
        + "; ".join(lines)
        + ". This call was refused, so that the others can go on. Acquire locks in the same order "
        "everywhere, several at once with a LockTable, or with a timeout"
    )
