"""The checker of histories accepts the good ones and rejects the bad ones.

Each bad history is wrong for one reason, which its name says; beside the hand-made ones, good ones
are recorded from a sequential object and spoilt in one place.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from math import inf
from random import Random
from typing import Any

import pytest

from . import linear
from .linear import (
    CANCELLED,
    RETURNED,
    UNKNOWN,
    Call,
    Mutex,
    Object,
    Queue,
    Register,
    Semaphore,
    check,
    history,
)

OBJECTS: dict[str, Object] = {
    "register": Register(),
    "cas": Register(),
    "queue": Queue(),
    "bounded": Queue(2),
    "lock": Mutex(),
    "rlock": Mutex(reentrant=True),
    "semaphore": Semaphore(2),
}

GOOD: dict[str, dict[str, str]] = {
    "register": {
        "in turn": "A 0-1 write 5 \n B 2-3 read = 5",
        "either, while it is written": "A 0-9 write 5 \n B 1-2 read = 0 \n B 3-4 read = 5",
        "two at once, in any order": """
            A 0-5 write 1
            B 0-5 write 2
            C 6-7 read = 1
        """,
        "who does not know may have written": "A 0-? write 5 \n B 8-9 read = 5",
        "who does not know may not have written": "A 0-? write 5 \n B 8-9 read = 0",
        "cancelled, and yet written": "A 0-3x write 5 \n B 4-5 read = 5",
        "written late, by one whose session was lost": """
            A 0-? write 5
            B 1-2 read = 0
            B 3-4 read = 5
        """,
    },
    "cas": {
        "one wins": "A 0-5 cas 0, 1 = True \n B 0-5 cas 0, 2 = False \n C 6-7 read = 1",
        "one after the other": "A 0-5 cas 0, 1 = True \n B 0-5 cas 1, 2 = True",
        "the sums of counters": "A 0-5 add 1 = 2 \n B 0-5 add 1 = 1 \n C 6-7 read = 2",
        "a lost one may have won": "A 0-? cas 0, 1 \n B 2-3 cas 0, 2 = False",
        "a cancelled one may have counted": "A 0-2x add 1 \n B 3-4 add 1 = 2",
        "a cancelled one may not have counted": "A 0-2x add 1 \n B 3-4 add 1 = 1",
    },
    "queue": {
        "in order": """
            A 0-1 put 1
            A 2-3 put 2
            B 4-5 get = (1, False)
            B 6-7 get = (2, False)
            B 8-9 get = Empty
        """,
        "two at once, in any order": """
            A 0-5 put 1
            B 0-5 put 2
            C 6-7 get = (2, False)
            C 8-9 get = (1, False)
        """,
        "taken back and marked": """
            A 0-1 put 1
            B 2-5x get
            C 6-7 get = (1, True)
        """,
        "gone meanwhile": """
            A 0-1 put 1
            B 2-9x get
            C 3-4 get = Empty
            C 10-11 get = (1, True)
        """,
        "back at its old place": """
            A 0-1 put 1
            A 2-3 put 2
            B 4-20x get
            C 5-6 get = (2, False)
            C 21-22 get = (1, True)
        """,
        "with one who died": "A 0-1 put 1 \n B 2-? get \n C 3-4 get = Empty",
        "back from one who died, later": """
            A 0-1 put 1
            B 2-? get
            C 3-4 get = Empty
            C 5-6 get = (1, True)
        """,
        "put and gone, unseen": """
            A 0-2x put 1
            B 1-4 size = 1
            C 3-? get
            D 5-6 get = Empty
        """,
        "held, when it is empty, by one who is cancelled later": """
            A 0-1x put 1
            B 1-2 size = 1
            C 3-9x get
            D 4-5 get = Empty
        """,
        "put at the moment at which it is empty no more": """
            A 0-1x put 1
            B 1-5 size = 1
            C 1-5 get = Empty
        """,
        "back from the one that is over first, with what the other one had": """
            A 0-1 put 1
            A 2-3 put 2
            B 4-9x get
            C 4-20x get
            D 5-6 get = Empty
            D 10-11 get = (2, True)
            D 12-13 get = Empty
            D 21-22 get = (1, True)
        """,
        "not touched by one who died": "A 0-1 put 1 \n B 2-? get \n C 3-4 get = (1, False)",
    },
    "bounded": {
        "full": "A 0-1 put 1 \n A 2-3 put 2 \n A 4-5 put 3 = Full \n A 6-7 size = 2",
        "room made meanwhile": """
            A 0-1 put 1
            A 2-3 put 2
            A 4-9 put 3
            B 5-8 get = (1, False)
        """,
        "more than full when one comes back": """
            A 0-1 put 1
            A 2-3 put 2
            B 4-20x get
            A 5-6 put 3
            A 21-22 size = 3
        """,
    },
    "lock": {
        "in turn": """
            A 0-1 acquire = 1
            B 2-9 acquire = 2
            A 4-5 release
            B 10-11 release
            C 12-13 locked = False
        """,
        "not in time": "A 0-1 acquire = 3 \n B 2-4 acquire = 0 \n A 5-6 release",
        "not the owner": "A 0-1 acquire = 3 \n B 2-4 release = NotOwner",
        "nobody's": "B 2-4 release = RuntimeError",
        "held for a moment by one who is cancelled": """
            A 0-5x acquire
            B 1-2 acquire = 0
            B 6-7 acquire = 4
        """,
        "from one who died": """
            A 0-1 acquire = 1
            A 2-? expire
            B 1-9 acquire = 2
        """,
        "released, or not, by one whose session was lost": """
            A 0-1 acquire = 1
            A 2-? release
            B 3-4 acquire = 0
            B 5-6 acquire = 2
        """,
    },
    "rlock": {
        "again": """
            A 0-1 acquire = 1
            A 2-3 acquire = 1
            A 4-5 release
            B 6-7 acquire = 0
            A 8-9 release
            B 10-11 acquire = 2
        """,
        "again, but cancelled": """
            A 0-1 acquire = 1
            A 2-3x acquire
            A 4-5 release
            B 6-7 acquire = 2
        """,
        "dies while it has it twice": """
            A 0-1 acquire = 1
            A 2-3 acquire = 1
            A 3-? expire
            B 4-5 acquire = 0
            B 6-7 acquire = 9
        """,
    },
    "semaphore": {
        "two at a time": """
            A 0-1 acquire = True
            B 2-3 acquire = True
            C 4-5 acquire = False
            A 6-7 release
            C 8-9 acquire = True
            C 10-11 value = 0
        """,
        "too many": "A 0-1 release = ValueError",
        "taken for a moment by one who is cancelled": """
            A 0-1 acquire = True
            B 2-9x acquire
            C 3-4 acquire = False
            C 10-11 acquire = True
        """,
        "dies with two": """
            A 0-1 acquire = True
            A 2-3 acquire = True
            A 3-? expire
            B 4-5 value = 0
            B 6-7 value = 2
        """,
    },
}

BAD: dict[str, dict[str, str]] = {
    "register": {
        "never written": "A 0-1 read = 5",
        "written later": "A 0-1 read = 5 \n B 2-3 write 5",
        "forgotten": "A 0-1 write 5 \n B 2-3 read = 0",
        "overwritten": "A 0-1 write 5 \n A 2-3 write 6 \n B 4-5 read = 5",
        "back and forth": "A 0-9 write 5 \n B 1-2 read = 5 \n B 3-4 read = 0",
        "back and forth, two readers": "A 0-9 write 5 \n B 1-2 read = 5 \n C 3-4 read = 0",
        "three values of two writers": """
            A 0-9 write 1
            B 0-9 write 2
            C 10-11 read = 1
            C 12-13 read = 2
        """,
        "two readers disagree on the order": """
            A 0-20 write 1
            B 0-20 write 2
            C 1-2 read = 1
            D 1-2 read = 2
            C 3-4 read = 2
            D 3-4 read = 1
            C 5-6 read = 2
            D 7-8 read = 1
            C 9-10 read = 2
        """,
        "a lost write that comes and goes": """
            A 0-? write 5
            B 1-2 read = 5
            B 3-4 read = 0
        """,
        "a cancelled write that comes late": """
            A 0-2x write 5
            B 3-4 read = 0
            B 5-6 read = 5
        """,
        "a lost write twice": """
            A 0-? write 5
            B 1-2 read = 5
            B 3-4 write 6
            B 5-6 read = 5
        """,
        "own write not seen": "A 0-1 write 5 \n A 2-3 read = 4",
        "a write before its start": "B 0-1 read = 7 \n A 2-? write 7",
    },
    "cas": {
        "two winners": "A 0-5 cas 0, 1 = True \n B 0-5 cas 0, 2 = True",
        "two winners in turn": "A 0-1 cas 0, 1 = True \n B 2-3 cas 0, 2 = True",
        "no winner": "A 0-1 cas 0, 1 = False \n B 2-3 read = 0",
        "nobody wins": "A 0-5 cas 0, 1 = False \n B 0-5 cas 0, 2 = False",
        "the loser's value": """
            A 0-5 cas 0, 1 = True
            B 0-5 cas 0, 2 = False
            C 6-7 read = 2
        """,
        "won and not written": "A 0-1 cas 0, 1 = True \n B 2-3 read = 0",
        "lost and yet written": "A 0-1 cas 5, 1 = False \n B 2-3 read = 1",
        "a chain out of order": "A 0-1 cas 1, 2 = True \n B 2-3 cas 0, 1 = True",
        "a sum twice": "A 0-5 add 1 = 1 \n B 0-5 add 1 = 1",
        "a sum left out": "A 0-1 add 1 = 1 \n B 2-3 add 1 = 3",
        "counted twice": "A 0-1 add 1 = 2 \n B 2-3 read = 2",
        "a lost one counted twice": "A 0-? add 1 \n B 2-3 add 1 = 3",
        "a cancelled one counted late": """
            A 0-2x add 1
            B 3-4 read = 0
            B 5-6 read = 1
        """,
        "a lost one that wins against what is there": """
            A 0-? cas 0, 1
            B 0-1 write 7
            B 2-3 cas 7, 8 = True
            B 4-5 read = 1
        """,
        "a sum that goes back": "A 0-9 add 1 = 1 \n B 1-2 read = 1 \n B 3-4 read = 0",
    },
    "queue": {
        "never put": "A 0-1 get = (1, False)",
        "got before it was put": "A 0-1 get = (1, False) \n B 2-3 put 1",
        "got twice": "A 0-1 put 1 \n B 2-3 get = (1, False) \n C 4-5 get = (1, False)",
        "got twice at once": "A 0-1 put 1 \n B 2-5 get = (1, False) \n C 2-5 get = (1, False)",
        "got and redelivered": "A 0-1 put 1 \n B 2-3 get = (1, False) \n C 4-5 get = (1, True)",
        "lost": "A 0-1 put 1 \n B 2-3 get = Empty",
        "lost by one who was cancelled": """
            A 0-1 put 1
            B 2-3x get
            C 4-5 get = Empty
        """,
        "out of order": """
            A 0-1 put 1
            A 2-3 put 2
            B 4-5 get = (2, False)
            B 6-7 get = (1, False)
        """,
        "overtaken by two getters": """
            A 0-1 put 1
            A 2-3 put 2
            B 4-5 get = (2, False)
            C 6-7 get = (1, False)
        """,
        "redelivered without a mark": """
            A 0-1 put 1
            B 2-9x get
            C 3-4 get = Empty
            C 10-11 get = (1, False)
        """,
        "marked without a reason": "A 0-1 put 1 \n B 2-3 get = (1, True)",
        "back at the end": """
            A 0-1 put 1
            A 2-3 put 2
            A 4-5 put 3
            B 6-20x get
            C 7-8 get = (2, False)
            C 21-22 get = (3, False)
            C 23-24 get = (1, True)
        """,
        "a lost put twice": """
            A 0-? put 1
            B 1-2 get = (1, False)
            B 3-4 get = (1, False)
        """,
        "a cancelled put that comes late": """
            A 0-2x put 1
            B 3-4 get = Empty
            B 5-6 get = (1, False)
        """,
        "two go with one who died": """
            A 0-1 put 1
            A 2-3 put 2
            B 4-? get
            C 5-6 get = Empty
        """,
        "a size that is not": "A 0-1 put 1 \n A 2-3 size = 2",
        "two gone, with one get under way": """
            A 0-1 put 1
            A 2-3 put 2
            B 4-9x get
            C 5-6 get = Empty
        """,
        "gone before the get that would have it begins": """
            A 0-1 put 1
            A 2-3 put 2
            B 4-9x get
            C 5-6 size = 1
            D 7-20x get
            C 10-11 get = (2, True)
        """,
        "gone for ever, with one who was cancelled": """
            A 0-1x put 1
            B 1-2 size = 1
            C 3-9x get
            D 4-5 get = Empty
            D 10-11 get = Empty
            E 12-13 size = 1
        """,
    },
    "bounded": {
        "more than there is room for": "A 0-1 put 1 \n A 2-3 put 2 \n A 4-5 put 3",
        "full while there is room": "A 0-1 put 1 \n A 2-3 put 2 = Full",
        "full, and yet put": """
            A 0-1 put 1
            A 2-3 put 2
            A 4-5 put 3 = Full
            B 6-7 get = (1, False)
            B 8-9 get = (2, False)
            B 10-11 get = (3, False)
        """,
        "room that nobody made": """
            A 0-1 put 1
            A 2-3 put 2
            A 4-6 put 3
            B 7-8 get = (1, False)
        """,
        "full when all is gone": """
            A 0-1 put 1
            B 2-3 get = (1, False)
            A 4-5 put 2 = Full
        """,
    },
    "lock": {
        "two at once": "A 0-1 acquire = 1 \n B 2-3 acquire = 2 \n A 4-5 release",
        "two at the same moment": "A 0-5 acquire = 1 \n B 0-5 acquire = 2 \n C 6-7 locked = True",
        "the same fence twice": """
            A 0-1 acquire = 4
            A 2-3 release
            B 4-5 acquire = 4
        """,
        "a fence that falls": """
            A 0-1 acquire = 4
            A 2-3 release
            B 4-5 acquire = 3
        """,
        "refused while it is free": "A 0-1 acquire = 0",
        "refused after the release": """
            A 0-1 acquire = 1
            A 2-3 release
            B 4-5 acquire = 0
        """,
        "released by another": "A 0-1 acquire = 1 \n B 2-3 release",
        "not released": "A 0-1 acquire = 1 \n A 2-3 release \n B 4-5 locked = True",
        "released by itself": "A 0-1 acquire = 1 \n B 2-3 locked = False \n A 4-5 release",
        "its owner is refused": "A 0-1 acquire = 1 \n A 2-3 release = NotOwner",
        "its owner has nothing": "A 0-1 acquire = 1 \n A 2-3 release = RuntimeError",
        "released twice": "A 0-1 acquire = 1 \n A 2-3 release \n A 4-5 release",
        "kept by one who was cancelled": "A 0-2x acquire \n B 3-4 acquire = 0",
        "a fence that was used up in between": """
            A 0-1 acquire = 1
            A 2-3 release
            B 2-9x acquire
            C 4-5 acquire = 0
            C 10-11 acquire = 2
        """,
        "passed on while its owner lives": """
            A 0-1 acquire = 1
            A 6-? expire
            B 2-3 acquire = 2
        """,
        "passed on from the dead, to two": """
            A 0-1 acquire = 1
            A 2-? expire
            B 3-4 acquire = 2
            C 5-6 acquire = 3
        """,
        "acquired again": "A 0-1 acquire = 1 \n A 2-3 acquire = 2",
        "somebody's when it is nobody's": "A 0-1 release = NotOwner",
    },
    "rlock": {
        "two at once": "A 0-1 acquire = 1 \n B 2-3 acquire = 2",
        "refused to its owner": "A 0-1 acquire = 1 \n A 2-3 acquire = 0",
        "another fence within": "A 0-1 acquire = 1 \n A 2-3 acquire = 2",
        "the same fence afterwards": """
            A 0-1 acquire = 1
            A 2-3 release
            A 4-5 acquire = 1
        """,
        "free too soon": """
            A 0-1 acquire = 1
            A 2-3 acquire = 1
            A 4-5 release
            B 6-7 acquire = 2
        """,
        "free too late": """
            A 0-1 acquire = 1
            A 2-3 acquire = 1
            A 4-5 release
            A 6-7 release
            B 8-9 acquire = 0
        """,
        "released once too often": """
            A 0-1 acquire = 1
            A 2-3 acquire = 1
            A 4-5 release
            A 6-7 release
            A 8-9 release
        """,
        "deeper by a call that was cancelled": """
            A 0-1 acquire = 1
            A 2-3x acquire
            A 4-5 release
            B 6-7 acquire = 0
        """,
        "less deep by a call that was cancelled": """
            A 0-1 acquire = 1
            A 2-3x acquire
            B 4-5 acquire = 2
        """,
        "released by another": "A 0-1 acquire = 1 \n B 2-3 release",
        "half free after a death": """
            A 0-1 acquire = 1
            A 2-3 acquire = 1
            A 4-? expire
            B 5-6 acquire = 2
            C 7-8 locked = False
        """,
        "two of the dead's": """
            A 0-1 acquire = 1
            A 2-? expire
            B 3-4 acquire = 2
            C 5-6 acquire = 3
        """,
        "locked by nobody": "A 0-1 locked = True",
        "not its owner's": "A 0-1 acquire = 1 \n A 2-3 release = NotOwner",
    },
    "semaphore": {
        "three": "A 0-1 acquire = True \n B 2-3 acquire = True \n C 4-5 acquire = True",
        "three at the same moment": """
            A 0-5 acquire = True
            B 0-5 acquire = True
            C 0-5 acquire = True
        """,
        "refused while there is one": "A 0-1 acquire = True \n B 2-3 acquire = False",
        "refused after a release": """
            A 0-1 acquire = True
            B 2-3 acquire = True
            A 4-5 release
            C 6-7 acquire = False
        """,
        "more than at first": "A 0-1 acquire = True \n A 2-3 release \n A 4-5 value = 3",
        "too many in silence": "A 0-1 release",
        "too many, while one is out": "A 0-1 acquire = True \n A 2-3 release = ValueError",
        "a value that is not": "A 0-1 acquire = True \n B 2-3 value = 2",
        "kept by one who was cancelled": """
            A 0-1 acquire = True
            B 2-3x acquire
            C 4-5 value = 0
        """,
        "given back twice": """
            A 0-1 acquire = True
            A 2-3 release
            A 4-5 release
        """,
        "given back by a cancelled call that never had it": """
            A 0-1 acquire = True
            B 2-3x acquire
            C 4-5 value = 2
        """,
        "more of the dead's than it had": """
            A 0-1 acquire = True
            A 2-? expire
            B 0-1 acquire = True
            C 4-5 value = 2
        """,
        "of one who lives": """
            A 0-1 acquire = True
            A 9-? expire
            C 4-5 value = 2
        """,
        "released once, given twice": """
            A 0-1 acquire = True
            B 2-3 acquire = True
            A 4-5 release
            C 6-7 acquire = True
            D 8-9 acquire = True
        """,
    },
}


def named(texts: dict[str, dict[str, str]]) -> list[Any]:
    return [
        pytest.param(OBJECTS[kind], history(text), id=f"{kind}: {name}")
        for kind, histories in texts.items()
        for name, text in histories.items()
    ]


@pytest.mark.parametrize(("it", "calls"), named(GOOD))
def test_good_histories(it: Object, calls: list[Call]) -> None:
    verdict = check(calls, it)
    assert verdict.linearizable, str(verdict)


@pytest.mark.parametrize(("it", "calls"), named(BAD))
def test_bad_histories(it: Object, calls: list[Call]) -> None:
    verdict = check(calls, it)
    assert verdict.linearizable is False, str(verdict)
    assert verdict.stuck


@pytest.mark.parametrize(("it", "calls"), named(BAD))
def test_what_is_bad_at_first_sight_is_found_by_the_search_as_well(
    it: Object, calls: list[Call], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Queue, "refuted", lambda self, calls: ())
    monkeypatch.setattr(Mutex, "refuted", lambda self, calls: ())
    verdict = check(calls, it)
    assert verdict.linearizable is False, str(verdict)


def test_there_are_a_dozen_bad_ones_of_each() -> None:
    counts = {kind: len(histories) for kind, histories in BAD.items()}
    counts["queue"] += counts.pop("bounded")
    assert all(count >= 12 for count in counts.values()), counts


# --- recorded from the sequential object, by many at once ---------------------------------------


class Recorder:
    """Calls of several callers that overlap; each takes effect at a moment drawn within it."""

    def __init__(self, kind: str, seed: int) -> None:
        self.kind = kind
        self.random = Random(seed)
        self.free = dict.fromkeys("ABCDE", 0.0)
        """Since when each caller may call again."""
        self.value = 0
        self.items: list[int] = []
        self.owner: str | None = None
        self.depth = self.fence = 0
        self.permits = 2
        self.held: list[str] = []

    def record(self, count: int) -> list[Call]:
        calls: list[Call] = []
        moment = 0.0
        for number in range(count):
            # Somebody whose last call is over.
            moment = max(moment, min(self.free.values())) + 1
            who = self.random.choice([who for who, end in self.free.items() if end + 0.5 < moment])
            name, arguments, result = getattr(self, self.kind)(who, number)
            start = max(self.free[who] + 0.25, moment - self.random.uniform(0.1, 5))
            end = moment + self.random.uniform(0.1, 3)
            self.free[who] = end
            calls.append(Call(who, name, arguments, start, end, result))
        return calls

    def register(self, who: str, number: int) -> Any:
        if self.random.random() < 0.5:
            return "read", (), self.value
        self.value = number
        return "write", (number,), None

    def cas(self, who: str, number: int) -> Any:
        if self.random.random() < 0.3:
            self.value += 1
            return "add", (1,), self.value
        old = self.random.choice((self.value, self.value - 1))
        won = old == self.value
        self.value = self.value + 2 if won else self.value
        return "cas", (old, old + 2), won

    def queue(self, who: str, number: int) -> Any:
        if self.random.random() < 0.5:
            self.items.append(number)
            return "put", (number,), None
        return "get", (), (self.items.pop(0), False) if self.items else "Empty"

    def lock(self, who: str, number: int, *, reentrant: bool = False) -> Any:
        if self.owner == who and self.random.random() < 0.6:
            self.depth -= 1
            if not self.depth:
                self.owner = None
            return "release", (), None
        if self.owner is None:
            self.fence += 1
        elif not (reentrant and self.owner == who):
            return "acquire", (), 0
        self.owner = who
        self.depth += 1
        return "acquire", (), self.fence

    def rlock(self, who: str, number: int) -> Any:
        return self.lock(who, number, reentrant=True)

    def semaphore(self, who: str, number: int) -> Any:
        if who in self.held:
            self.held.remove(who)
            return "release", (), None
        if len(self.held) == self.permits:
            return "acquire", (), False
        self.held.append(who)
        return "acquire", (), True


def spoilt(calls: list[Call], random: Random) -> list[Call]:
    """Return the history with the answer of one call put wrong."""
    wrong: dict[str, Any] = {
        "read": lambda call: -1,
        "add": lambda call: call.result + 1000,
        "cas": lambda call: not call.result,
        "get": lambda call: (10**6, False) if call.result == "Empty" else "Empty",
    }
    at = random.choice([n for n, call in enumerate(calls) if call.name in wrong])
    call = calls[at]
    changed = Call(
        call.who, call.name, call.arguments, call.start, call.end, wrong[call.name](call)
    )
    return [*calls[:at], changed, *calls[at + 1 :]]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["register", "cas", "queue", "lock", "rlock", "semaphore"])
def test_long_histories(kind: str, seed: int) -> None:
    calls = Recorder(kind, seed).record(300)
    verdict = check(calls, OBJECTS[kind])
    assert verdict.linearizable, str(verdict)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["register", "queue"])
def test_long_histories_with_one_wrong_answer(kind: str, seed: int) -> None:
    calls = Recorder(kind, seed).record(300)
    verdict = check(spoilt(calls, Random(seed)), OBJECTS[kind])
    assert verdict.linearizable is False, str(verdict)


def handed_out_and_taken_back(random: Random, count: int, pace: float = 1) -> list[Call]:
    """Return a history of a queue in which some gets are cancelled while they have an item; the
    smaller the pace is, the more calls overlap."""
    items: list[tuple[int, bool]] = []
    calls: list[Call] = []
    held: list[tuple[int, float, tuple[int, bool] | None]] = []
    for number in range(count):
        moment = pace * number
        start, end = moment - random.uniform(0.1, 4), moment + random.uniform(0.1, 4)
        dice = random.random()
        if dice < 0.4:
            items.append((number, False))
            calls.append(Call(f"P{number}", "put", (number,), start, end))
        elif dice < 0.6:
            held.append((number, start, items.pop(0) if items else None))
        else:
            got: Any = items.pop(0) if items else "Empty"
            calls.append(Call(f"G{number}", "get", (), start, end, got))
        if held and random.random() < 0.4:
            cancelled, start, item = held.pop(random.randrange(len(held)))
            if item is not None:
                items = sorted((*items, (item[0], True)))
            end = moment + random.uniform(0.1, 4)
            calls.append(Call(f"C{cancelled}", "get", (), start, end, None, CANCELLED))
    for cancelled, start, item in held:
        if item is not None:
            items = sorted((*items, (item[0], True)))
        calls.append(Call(f"C{cancelled}", "get", (), start, pace * count + 5, None, CANCELLED))
    rest: list[Any] = [*items, "Empty"]
    for number, answer in enumerate(rest, int(pace * count) + 10):
        calls.append(Call("Z", "get", (), number, number + 0.5, answer))
    return calls


def of_one_item(calls: Sequence[Call]) -> list[tuple[int, Call, Call]]:
    """Return the gets of what was never handed out to another, by number, with the puts."""
    puts = {call.arguments[0]: call for call in calls if call.name == "put"}
    return [
        (number, call, puts[call.result[0]])
        for number, call in enumerate(calls)
        if call.name == "get" and isinstance(call.result, tuple) and not call.result[1]
    ]


def swapped(calls: list[Call], random: Random) -> list[Call]:
    """Two that were put one after the other, and got so, are got the other way round."""
    pairs = [
        (one, two)
        for one in of_one_item(calls)
        for two in of_one_item(calls)
        if one[1].end < two[1].start and one[2].end < two[2].start
    ]
    (one, first, _), (two, second, _) = random.choice(pairs)
    calls = calls.copy()
    calls[one] = replace(first, result=second.result)
    calls[two] = replace(second, result=first.result)
    return calls


def twice(calls: list[Call], random: Random) -> list[Call]:
    """What one got another got as well."""
    _, call, _ = random.choice(of_one_item(calls))
    return [*calls, replace(call, who="X")]


def lost(calls: list[Call], random: Random) -> list[Call]:
    """Nobody got what was put, and yet nothing is left."""
    drained = max(call.start for call in calls if call.result == "Empty")
    assert all(
        call.end < drained for call in calls if call.name == "get" and call.outcome != RETURNED
    )
    surely = [
        number
        for number, _, put in of_one_item(calls)
        if put.outcome == RETURNED and put.end < drained
    ]
    number = random.choice(surely)
    return [*calls[:number], *calls[number + 1 :]]


def intruded(calls: list[Call], random: Random) -> list[Call]:
    """Others acquire, and as many as there is room for, while one surely has a lock or a permit."""
    spans: list[tuple[Call, Call]] = []
    for who in sorted({call.who for call in calls}):
        own = sorted((c for c in calls if c.who == who), key=lambda call: call.start)
        spans += [
            (one, two)
            for one, two in pairwise(own)
            if one.outcome == two.outcome == RETURNED
            and (one.name, two.name, two.result) == ("acquire", "release", None)
            and one.result
            and one.end < two.start
        ]
    one, two = random.choice(spans)
    third = (two.start - one.end) / 3
    start, end = one.end + third, two.start - third
    if one.result is True:
        return [*calls, *(Call(who, "acquire", (), start, end, True) for who in "XY")]
    # There is room for a fence that nobody else was told.
    calls = [
        replace(call, result=2 * call.result) if call.name == "acquire" and call.result else call
        for call in calls
    ]
    return [*calls, Call("X", "acquire", (), start, end, 2 * one.result + 1)]


SPOIL: dict[str, Sequence[Any]] = {
    "queue": (swapped, twice, lost),
    "lock": (intruded,),
    "rlock": (intruded,),
    "semaphore": (intruded,),
}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("kind", "spoil"), [(k, each) for k in SPOIL for each in SPOIL[k]])
def test_long_histories_that_are_spoilt(kind: str, spoil: Any, seed: int) -> None:
    random = Random(seed)
    it = Queue() if kind == "queue" else OBJECTS[kind]
    if kind == "queue":
        calls = handed_out_and_taken_back(random, 300, 3)
    else:
        calls = Recorder(kind, seed).record(300)
    verdict = check(calls, it)
    assert verdict.linearizable, str(verdict)
    verdict = check(spoil(calls, random), it)
    assert verdict.linearizable is False, str(verdict)
    assert verdict.stuck


# --- compared with what tries everything --------------------------------------------------------


class Plain:
    """The same objects once more, as plainly as can be: every order of all calls is tried."""

    def __init__(self, kind: str, calls: Sequence[Call]) -> None:
        self._kind = kind
        self._calls = calls
        self._tried: set[Any] = set()

    def explains(self) -> bool:
        first: Any = {
            "queue": (), "unbounded": (), "semaphore": ((), frozenset()),
            "lock": (None, 0, 0, frozenset()), "rlock": (None, 0, 0, frozenset()),
        }.get(self._kind, 0)  # fmt: skip
        return self._explains((0,) * len(self._calls), first)

    def _explains(self, done: tuple[int, ...], state: Any) -> bool:
        """`done` says of each call whether it has not begun (0), has happened (2), or has been
        handed something that was not taken back yet (1)."""
        if (done, state) in self._tried:
            return False
        self._tried.add((done, state))
        needed = [
            call.end
            for call, so_far in zip(self._calls, done, strict=True)
            if (call.outcome == RETURNED and so_far < 2)
            or (call.outcome == CANCELLED and so_far == 1)
        ]
        latest = max(
            (c.start for c, so_far in zip(self._calls, done, strict=True) if so_far), default=0
        )
        return not needed or any(
            self._explains((*done[:n], so_far, *done[n + 1 :]), after)
            for n, call in enumerate(self._calls)
            if done[n] < 2 and latest <= call.end and call.start <= min(needed)
            for after, so_far in getattr(self, self._kind)(state, call, n, done[n])
        )

    def register(self, value: int, call: Call, number: int, done: int) -> Iterable[Any]:
        known, result = call.outcome == RETURNED, call.result
        if call.name == "read" and (not known or value == result):
            yield value, 2
        if call.name == "write":
            yield call.arguments[0], 2
        if call.name == "add" and (not known or value + 1 == result):
            yield value + 1, 2
        if call.name == "cas" and (not known or (value == call.arguments[0]) == result):
            yield call.arguments[1] if value == call.arguments[0] else value, 2

    cas = register

    def queue(
        self, items: Any, call: Call, number: int, done: int, room: float = 2
    ) -> Iterable[Any]:
        """An item is its value, whether it was handed out before, and who has it."""
        there = [at for at, item in enumerate(items) if item[2] is None]
        result = call.result
        if call.name == "put":
            full = len(there) >= room
            if full == (result == "Full"):
                yield items if full else (*items, (call.arguments[0], False, None)), 2
        elif call.name == "size" or result == "Empty":
            if call.outcome != RETURNED or len(there) == (0 if result == "Empty" else result):
                yield items, 2
        elif done:
            yield tuple((i[0], True, None) if i[2] == number else i for i in items), 2
        elif there:
            before, item, behind = items[: there[0]], items[there[0]], items[there[0] + 1 :]
            if call.outcome != RETURNED:
                yield (*before, (item[0], True, number), *behind), 1
            elif item[:2] == result:
                yield before + behind, 2

    def unbounded(self, items: Any, call: Call, number: int, done: int) -> Iterable[Any]:
        return self.queue(items, call, number, done, room=inf)

    def lock(
        self, state: Any, call: Call, number: int, done: int, again: bool = False
    ) -> Iterable[Any]:
        """A lock is its owner, how often he has it, the last fence, and the calls that have
        acquired it and whose callers may not know."""
        owner, depth, fence, unknown = state
        known, result, mine = call.outcome == RETURNED, call.result, owner == call.who
        free = (None, 0, fence, frozenset[int]())
        if call.name == "acquire" and (owner is None or (mine and again)):
            fence = result if known and not mine else fence + (not known and not mine)
            if not known and not done:
                yield (call.who, depth + 1, fence, unknown | {number}), 1
            elif known and result and fence == result and (mine or result > state[2]):
                yield (call.who, depth + 1, fence, unknown), 2
        elif call.name == "acquire" and known and not result:
            yield state, 2
        if call.name == "acquire" and done:
            less = (owner, depth - 1, state[2], unknown - {number})
            if number in unknown:
                yield less if depth > 1 else free, 2
            elif call.outcome == CANCELLED:
                yield state, 2
        refused = {"RuntimeError": owner is None, "NotOwner": owner is not None and not mine}
        if call.name == "release" and refused.get(result, mine):
            less = (owner, depth - 1, fence, unknown) if depth > 1 else free
            yield state if result else less, 2
        if call.name == "locked" and (not known or (owner is not None) == result):
            yield state, 2
        if call.name == "expire" and mine:
            yield free, 2

    def rlock(self, state: Any, call: Call, number: int, done: int) -> Iterable[Any]:
        return self.lock(state, call, number, done, again=True)

    def semaphore(self, state: Any, call: Call, number: int, done: int) -> Iterable[Any]:
        """A semaphore is who has its permits, and the calls that have one and whose callers may
        not know."""
        holders, unknown = state
        known, result = call.outcome == RETURNED, call.result
        at = holders.index(call.who) if call.who in holders else len(holders)
        less = holders[:at] + holders[at + 1 :]
        if done:
            yield (less if number in unknown else holders, unknown - {number}), 2
        elif call.name == "acquire" and (not known or result) and len(holders) < 2:
            more = tuple(sorted((*holders, call.who)))
            yield ((more, unknown), 2) if known else ((more, unknown | {number}), 1)
        elif call.name == "acquire" and known and not result and len(holders) == 2:
            yield state, 2
        elif call.name == "release" and result:
            if not holders:
                yield state, 2
        elif call.name == "release" and call.who in holders:
            yield (less, unknown), 2
        elif call.name == "value" and (not known or 2 - len(holders) == result):
            yield state, 2
        elif call.name == "expire" and call.who in holders:
            yield (tuple(who for who in holders if who != call.who), unknown), 2


def at_random(kind: str, random: Random) -> list[Call]:
    """Return calls with answers drawn at random, of which many fit together by accident."""
    calls: list[Call] = []
    free: dict[str, float] = {}
    span = random.choice([4, 8, 14])
    for number in range(1, random.randint(4, 9)):
        who = random.choice("ABC")
        start = max(0, free.get(who, 0) + random.choice([0, 1, 2, -2]))
        end: float = start + random.randint(1, span)
        name, arguments, result = drawn(kind, number, random)
        outcome = random.choices((RETURNED, CANCELLED, UNKNOWN), (12, 5, 3))[0]
        if name == "expire":
            outcome = UNKNOWN
        free[who] = end
        end = inf if outcome == UNKNOWN or (outcome == CANCELLED and random.random() < 0.1) else end
        result = result if outcome == RETURNED else None
        calls.append(Call(who, name, arguments, start, end, result, outcome))
    return calls


def drawn(kind: str, number: int, random: Random) -> tuple[str, tuple[Any, ...], Any]:
    """Return a call with an answer."""
    few = random.randrange(3)
    choices: dict[str, list[tuple[str, tuple[Any, ...], Any]]] = {
        "register": [("read", (), random.randrange(number)), ("write", (number,), None)],
        "cas": [
            ("read", (), few),
            ("write", (few,), None),
            ("add", (1,), few + 1),
            *[("cas", (few, random.randrange(3)), random.random() < 0.6)] * 2,
        ],
        "queue": [
            *[("put", (number,), random.choice((None, None, None, None, None, "Full")))] * 3,
            *[("get", (), (random.randint(1, number), random.random() < 0.4))] * 3,
            ("get", (), "Empty"),
            ("size", (), few),
        ],
        "semaphore": [
            *[("acquire", (), random.random() < 0.7)] * 3,
            *[("release", (), random.choice((None, None, None, "ValueError")))] * 2,
            ("value", (), few),
            ("expire", (), None),
        ],
        "lock": [
            *[("acquire", (), random.choice((0, 1, 1, 2, 3, 4)))] * 3,
            *[("release", (), random.choice((None, None, None, "NotOwner", "RuntimeError")))] * 2,
            ("locked", (), random.random() < 0.5),
            ("expire", (), None),
        ],
    }  # fmt: skip
    return random.choice(choices["lock" if kind == "rlock" else kind])


@pytest.mark.parametrize("rounds", [linear.ROUNDS, ((1, False), (2, True), (inf, False))])
@pytest.mark.parametrize("kind", ["register", "cas", "queue", "lock", "rlock", "semaphore"])
def test_it_says_what_one_says_who_tries_everything(
    kind: str, rounds: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it keeps one way at first, and has to begin again; and where it sees nothing at
    first sight."""
    if rounds is not linear.ROUNDS:
        monkeypatch.setattr(linear, "ROUNDS", rounds)
        monkeypatch.setattr(Queue, "refuted", lambda self, calls: ())
        monkeypatch.setattr(Mutex, "refuted", lambda self, calls: ())
    it = OBJECTS["bounded" if kind == "queue" else kind]
    verdicts: Counter[bool | None] = Counter()
    for seed in range(1500):
        calls = at_random(kind, Random(seed))
        verdict = check(calls, it)
        assert verdict.linearizable is Plain(kind, calls).explains(), (seed, calls)
        verdicts[verdict.linearizable] += 1
    assert min(verdicts[True], verdicts[False]) >= 300, verdicts


@pytest.mark.parametrize("count", [8, 10])
def test_so_it_does_where_much_is_handed_out_and_taken_back(count: int) -> None:
    verdicts: Counter[bool | None] = Counter()
    for seed in range(200):
        random = Random(seed)
        calls = handed_out_and_taken_back(random, count)
        if seed % 2:
            got = [n for n, call in enumerate(calls) if call.result not in (None, "Empty")]
            if len(got) > 1:  # two change what they got
                one, two = random.sample(got, 2)
                first, second = calls[one], calls[two]
                calls[one] = replace(first, result=second.result)
                calls[two] = replace(second, result=first.result)
        verdict = check(calls, Queue())
        assert verdict.linearizable is Plain("unbounded", calls).explains(), seed
        verdicts[verdict.linearizable] += 1
    assert min(verdicts[True], verdicts[False]) >= 20, verdicts


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (kind, text)
        for texts in (GOOD, BAD)
        for kind, all_of_them in texts.items()
        for text in all_of_them.values()
    ],
)
def test_who_tries_everything_is_right(kind: str, text: str) -> None:
    calls = history(text)
    plain = Plain({"queue": "unbounded", "bounded": "queue"}.get(kind, kind), calls)
    assert plain.explains() == (text in GOOD[kind].values())


def test_a_search_that_takes_too_long_is_given_up() -> None:
    calls = [Call(f"W{n}", "write", (n,), 0, 9) for n in range(15)]
    verdict = check([*calls, Call("R", "read", (), 10, 11, -1)], Register(), limit=1000)
    assert verdict.linearizable is None
    assert "undecided" in str(verdict)
