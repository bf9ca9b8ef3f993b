"""Permits, locks, conditions and barriers keep their promises, and no rule of them can be spared.

AIOMANAGER_MODEL_DEPTH chooses how far the walks go: 1, the default, takes some forty seconds; 2
takes some ten minutes and 2 GB of memory.
"""

import os
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from random import Random
from typing import Any, NamedTuple

import pytest

from .owners import Model, check
from .search import AnyExcuse, AnyFault, Report
from .twin import Different, Twin
from .world import Bounds, Excuse, Fault, Place, Rules, Thing

DEPTH = int(os.environ.get("AIOMANAGER_MODEL_DEPTH", "1"))

pytestmark = pytest.mark.timeout(240 if DEPTH == 1 else 3600)

# Each task in a session and a client of its own; two sessions of one client, and another; two
# tasks of one session, and another; two who name the same owner, and another; all at once.
PAIR = (Place(0, 0), Place(1, 1))
THREE = (*PAIR, Place(2, 2))
SESSIONS = (Place(0, 0), Place(0, 1), Place(1, 2))
TASKS = (Place(0, 0), Place(0, 0), Place(1, 1))
NAMED = (Place(0, 0, name=1), Place(1, 1, name=1), Place(2, 2))
MIXED = (Place(0, 0), Place(0, 0), Place(0, 1), Place(1, 2))


class Walk(NamedTuple):
    """A walk through all states of a thing as designed, and how many there are at least."""

    thing: Thing
    states: int
    bounds: Bounds

    def __str__(self) -> str:
        names = [field.name for field in fields(Bounds)[1:]]
        words = [f"{name}={value}" for name in names if (value := getattr(self.bounds, name))]
        return f"{self.thing} of {len(self.bounds.places)}: {' '.join(words)}"


def walk(thing: Thing, states: int, places: tuple[Place, ...], *calls: int, **more: Any) -> Walk:
    return Walk(thing, states, Bounds(places=places, calls=calls, **more))


# What each walk must at least visit keeps an exploration that stops early from passing.
WALKS = {
    1: [
        walk(Thing.SEMAPHORE, 24_000, SESSIONS, 1, 1, 1, permits=2, cuts=1, crashes=1, timeouts=1),
        walk(Thing.SEMAPHORE, 21_000, TASKS, 1, 1, 1, permits=1, cuts=1, cancels=1, timeouts=1),
        walk(Thing.SEMAPHORE, 9_500, PAIR, 1, 1, cuts=1, crashes=1, cancels=1, extras=2),
        walk(
            Thing.BOUNDED, 5_500, PAIR, 1, 1,
            permits=1, cuts=1, crashes=1, cancels=1, timeouts=1, extras=1,
        ),
        walk(Thing.RLOCK, 17_000, PAIR, 2, 1, cuts=1, crashes=1, cancels=1, timeouts=1),
        walk(Thing.RLOCK, 17_000, SESSIONS, 1, 1, 1, cuts=1, crashes=1, timeouts=1),
        walk(Thing.RLOCK, 17_000, TASKS, 2, 1, 1, crashes=1, cancels=1),
        walk(Thing.RLOCK, 27_000, NAMED, 1, 1, 1, crashes=1, cancels=1),
        walk(Thing.CONDITION, 43_000, PAIR, 3, 2, cuts=1, cancels=1),
        walk(Thing.CONDITION, 16_000, PAIR, 2, 2, crashes=1, cancels=1, timeouts=1),
        walk(Thing.CONDITION, 30_000, SESSIONS, 2, 2, 2, crashes=1),
        walk(
            Thing.BARRIER, 17_000, THREE, 1, 1, 1,
            parties=3, cuts=1, crashes=1, cancels=1, timeouts=1,
        ),
        walk(Thing.BARRIER, 6_000, THREE, 1, 2, 1, action=True, timeouts=1, extras=1),
        walk(Thing.BARRIER, 6_500, SESSIONS, 2, 1, 1, action=True, cuts=1, crashes=1),
        walk(
            Thing.BARRIER, 23_000, PAIR, 2, 1,
            action=True, cuts=1, crashes=1, cancels=1, timeouts=1, extras=1,
        ),
    ],
    2: [
        walk(Thing.SEMAPHORE, 150_000, SESSIONS, 2, 1, 1, permits=2, cuts=1, crashes=1, cancels=1),
        walk(Thing.SEMAPHORE, 75_000, TASKS, 1, 1, 1, cuts=1, crashes=1, cancels=1, extras=2),
        walk(
            Thing.BOUNDED, 100_000, PAIR, 2, 2,
            permits=1, cuts=2, crashes=1, cancels=2, timeouts=1, extras=1,
        ),
        walk(Thing.RLOCK, 440_000, PAIR, 3, 2, cuts=2, crashes=1, cancels=2, timeouts=1),
        walk(Thing.RLOCK, 120_000, SESSIONS, 2, 1, 1, cuts=1, crashes=1, cancels=1),
        walk(Thing.RLOCK, 270_000, NAMED, 1, 1, 1, cuts=1, crashes=1, cancels=1, timeouts=1),
        walk(Thing.CONDITION, 230_000, PAIR, 3, 2, cuts=1, crashes=1, cancels=1, timeouts=1),
        walk(Thing.CONDITION, 620_000, THREE, 2, 2, 2, cuts=1, cancels=1),
        walk(Thing.CONDITION, 450_000, SESSIONS, 2, 2, 2, crashes=1, cancels=1, timeouts=1),
        walk(
            Thing.BARRIER, 150_000, PAIR, 3, 3,
            action=True, cuts=2, crashes=1, cancels=2, extras=1,
        ),
        walk(
            Thing.BARRIER, 130_000, THREE, 1, 2, 1,
            action=True, crashes=1, cancels=1, timeouts=1, extras=1,
        ),
        walk(Thing.BARRIER, 38_000, SESSIONS, 2, 1, 1, action=True, cuts=1, crashes=1, cancels=1),
    ],
}[DEPTH]  # fmt: skip


@cache
def report_of(walk: Walk) -> Report:
    return check(walk.thing, Rules(), walk.bounds)


@pytest.mark.parametrize("walk", WALKS, ids=str)
def test_owners_are_kept_their_promises(walk: Walk) -> None:
    report = report_of(walk)
    assert report.fault is None, report.trace
    assert report.states >= walk.states
    assert report.at_rest >= 20


def test_more_have_a_unit_than_there_are_only_where_no_protocol_can_help() -> None:
    excuses = {excuse for walk in WALKS for excuse in report_of(walk).excuses}
    assert excuses == set(Excuse)


MOVES = {
    Thing.SEMAPHORE: {"acquire", "release", "release too many", "hear granted", "hear late"},
    Thing.BOUNDED: {"release", "release too many", "hear refused"},
    Thing.RLOCK: {"release", "hear granted", "hear late", "interrupt", "hear refused"},
    Thing.CONDITION: {
        "wait",
        "notify",
        "hear notified",
        "hear not notified",
        "interrupt",
        "server reads wait",
        "server reads notify",
    },
    Thing.BARRIER: {
        "arrive",
        "pass_on",
        "abort",
        "reset",
        "interrupt",
        "hear act",
        "hear passed",
        "hear broken",
        "server reads pass_on",
    },
}
"""What happens to one thing; and to each of them:"""
EVERYWHERE = {
    "cancel",
    "time out",
    "be killed",
    "server sees the death",
    "lose connection",
    "resume",
    "session expires",
    "learn that the session is lost",
    "server reads CANCEL",
    "server reads KEEP",
    "hear done",
    "hear stands",
    "hear undone",
}


@pytest.mark.parametrize("thing", Thing)
def test_the_walks_meet_everything_that_can_happen(thing: Thing) -> None:
    moves = {move for walk in WALKS if walk.thing is thing for move in report_of(walk).moves}
    assert moves >= MOVES[thing] | EVERYWHERE


class Mutant(NamedTuple):
    """A walk with one rule broken, and the first harm that it does."""

    rule: str
    fault: Fault
    thing: Thing
    bounds: Bounds

    def __str__(self) -> str:
        return f"{self.rule} of a {self.thing}"


def mutant(
    rule: str, fault: Fault, thing: Thing, places: tuple[Place, ...], *calls: int, **more: Any
) -> Mutant:
    return Mutant(rule, fault, thing, Bounds(places=places, calls=calls, **more))


SEMAPHORE, RLOCK, CONDITION, BARRIER = Thing.SEMAPHORE, Thing.RLOCK, Thing.CONDITION, Thing.BARRIER
MUTANTS = [
    # Whoever waits.
    mutant(
        "absent_passed_over", Fault.ABSENT_FIRST, SEMAPHORE, THREE, 1, 1, 1, permits=1, cuts=1
    ),
    mutant("absent_passed_over", Fault.ABSENT_FIRST, CONDITION, THREE, 2, 2, 2, cuts=1),
    mutant("place_kept", Fault.OUT_OF_TURN, RLOCK, THREE, 1, 1, 1, cuts=1),
    mutant("resume_serves", Fault.STUCK, SEMAPHORE, PAIR, 1, 1, permits=1, cuts=1),
    mutant("cancel_withdraws", Fault.OWNED, SEMAPHORE, PAIR, 1, 1, permits=1, cancels=1),
    mutant("cancel_withdraws", Fault.MIXED, BARRIER, PAIR, 1, 1, cancels=1),
    mutant("cancel_undoes", Fault.OWNED, SEMAPHORE, PAIR, 1, 1, permits=1, cancels=1),
    mutant("cancel_undoes", Fault.OWNED, RLOCK, PAIR, 1, 1, cancels=1),
    mutant("kept_undone", Fault.FALSE_OUTCOME, RLOCK, PAIR, 1, 1, cancels=1),
    mutant("end_withdraws", Fault.MIXED, BARRIER, PAIR, 1, 1, crashes=1),
    mutant("end_gives_back", Fault.LOST, SEMAPHORE, PAIR, 1, 1, permits=1, crashes=1),
    mutant("end_gives_back", Fault.LOST, RLOCK, PAIR, 1, 1, cuts=1),
    mutant("waits_end_first", Fault.LOST, RLOCK, TASKS, 1, 1, 1, crashes=1),
    mutant("waits_end_first", Fault.LOST, RLOCK, SESSIONS, 1, 1, 1, crashes=1),
    mutant("death_ends_all", Fault.LOST, RLOCK, SESSIONS, 1, 1, 1, crashes=1),
    # Semaphores.
    mutant("own_permit_first", Fault.OWNED, SEMAPHORE, PAIR, 1, 1, permits=2),
    mutant("bounded_refuses", Fault.TOO_MANY, Thing.BOUNDED, PAIR, 1, 1, permits=1, extras=1),
    mutant("signals_used_up", Fault.TOO_MANY, SEMAPHORE, PAIR, 1, 1, crashes=1, extras=1),
    # Locks.
    mutant("owner_is_task", Fault.FENCE, RLOCK, TASKS, 1, 1, 1),
    mutant("again_at_once", Fault.STUCK, RLOCK, PAIR, 2, 1),
    mutant("levels_counted", Fault.OWNED, RLOCK, PAIR, 2, 1),
    mutant("levels_by_session", Fault.OWNED, RLOCK, NAMED, 1, 1, 1, cuts=1),
    mutant("undo_by_level", Fault.OWNED, RLOCK, PAIR, 2, 1, cancels=1),
    mutant("undo_by_fence", Fault.OWNED, RLOCK, NAMED, 1, 1, 1, cancels=1),
    mutant("fence_at_grant", Fault.FENCE, RLOCK, THREE, 1, 1, 1, cuts=1),
    # Conditions.
    mutant("gives_up_all", Fault.LEVELS, CONDITION, PAIR, 3, 2),
    mutant("levels_restored", Fault.LEVELS, CONDITION, PAIR, 3, 2),
    mutant("late_has_lock", Fault.LEVELS, CONDITION, PAIR, 2, 2, timeouts=1),
    mutant("cancelled_has_lock", Fault.LEVELS, CONDITION, PAIR, 2, 2, cancels=1),
    mutant("notified_stays", Fault.NOTIFICATION_LOST, CONDITION, THREE, 2, 2, 2, timeouts=1),
    mutant("cancel_passes_on", Fault.NOTIFICATION_LOST, CONDITION, THREE, 2, 2, 2, cancels=1),
    mutant("undo_passes_on", Fault.NOTIFICATION_LOST, CONDITION, THREE, 2, 2, 2, cancels=1),
    mutant("end_passes_on", Fault.NOTIFICATION_LOST, CONDITION, THREE, 2, 2, 2, crashes=1),
    # Barriers.
    mutant("late_breaks", Fault.DIVIDED, BARRIER, THREE, 1, 1, 1, parties=3, timeouts=1),
    mutant(
        "inside_not_late", Fault.DIVIDED, BARRIER, THREE, 1, 1, 1,
        parties=3, action=True, timeouts=1,
    ),
    mutant("absent_counted", Fault.STUCK, BARRIER, PAIR, 1, 1, cuts=1),
    mutant("broken_refuses", Fault.PASSED_BROKEN, BARRIER, PAIR, 2, 2, timeouts=1),
    mutant("reset_ends_waits", Fault.MIXED, BARRIER, THREE, 1, 1, 1, extras=1),
    mutant("reset_ends_action", Fault.MIXED, BARRIER, THREE, 1, 1, 1, action=True, extras=1),
    mutant("pass_on_by_actor", Fault.EARLY, BARRIER, THREE, 1, 2, 1, action=True, extras=1),
    mutant("actor_gone_breaks", Fault.UNANSWERED, BARRIER, PAIR, 1, 1, action=True, crashes=1),
    mutant("actor_undone_returns", Fault.UNANSWERED, BARRIER, PAIR, 1, 1, action=True, cancels=1),
]  # fmt: skip


@cache
def report_of_mutant(mutant: Mutant) -> Report:
    return check(mutant.thing, Rules(**{mutant.rule: False}), mutant.bounds)


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_no_rule_can_be_spared(mutant: Mutant) -> None:
    report = report_of_mutant(mutant)
    assert report.fault is mutant.fault, report.trace
    assert report.trace


def test_each_rule_has_a_mutant_and_each_fault_is_met() -> None:
    assert {mutant.rule for mutant in MUTANTS} == {field.name for field in fields(Rules)}
    assert {mutant.fault for mutant in MUTANTS} == set(Fault)


def test_a_trace_tells_how_the_fault_came_about() -> None:
    bounds = Bounds(places=PAIR, calls=(1, 1), action=True, crashes=1)
    report = check(BARRIER, Rules(actor_gone_breaks=False), bounds)
    assert report.trace is not None
    assert sorted(report.trace) == [
        "A: arrive",
        "A: be killed",
        "A: hear act",
        "A: server reads KEEP",
        "A: server reads arrive",
        "A: server sees the death",
        "B: arrive",
        "B: server reads arrive",
    ]


# Random walks further than a search comes, in step with the real server.
MANY = {"cuts": 3, "crashes": 1, "cancels": 3, "timeouts": 3, "extras": 3}
TWINS = [
    walk(Thing.SEMAPHORE, 1, MIXED, 4, 4, 4, 4, permits=2, **MANY),
    walk(Thing.SEMAPHORE, 1, MIXED, 4, 4, 4, 4, **MANY),
    walk(Thing.BOUNDED, 1, MIXED, 1, 1, 1, 1, permits=2, **MANY),
    walk(Thing.RLOCK, 1, MIXED, 4, 4, 4, 4, **MANY),
    walk(Thing.RLOCK, 1, NAMED, 1, 1, 1, **MANY),
    walk(Thing.CONDITION, 1, MIXED, 6, 6, 6, 6, **MANY),
    walk(Thing.BARRIER, 1, MIXED, 4, 4, 4, 4, **MANY),
    walk(Thing.BARRIER, 1, MIXED, 4, 4, 4, 4, parties=3, action=True, **MANY),
    walk(Thing.BARRIER, 1, MIXED, 4, 4, 4, 4, action=True, **MANY),
]
SEEDS = 100 if DEPTH == 1 else 3000
LENGTH = 100


@pytest.mark.parametrize("walk", TWINS, ids=str)
def test_the_server_does_what_the_model_does(walk: Walk) -> None:
    model = Model(walk.thing, Rules(), walk.bounds)
    steps = 0
    for seed in range(SEEDS):
        trace: list[str] = []
        try:
            for verdict in _side_by_side(model, walk.thing, Random(seed), trace):
                assert not isinstance(verdict, Fault), verdict
        except Exception as error:
            error.add_note("\n".join(trace))
            raise
        steps += len(trace)
    assert steps >= 10 * SEEDS


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_the_server_keeps_each_rule(mutant: Mutant) -> None:
    with pytest.raises(Different):
        _lead(mutant)


def _lead(mutant: Mutant) -> None:
    """Lead the server to where the mutant does harm, and from there on somewhere."""
    model = Model(mutant.thing, Rules(**{mutant.rule: False}), mutant.bounds)
    way = report_of_mutant(mutant).trace or ()
    for seed in range(100):
        list(_side_by_side(model, mutant.thing, Random(seed), [], way))


def _side_by_side(
    model: Model, thing: Thing, random: Random, trace: list[str], way: tuple[str, ...] = ()
) -> Iterator[AnyFault | AnyExcuse]:
    """Take steps of the model with the server beside it, `way` first; yield what is judged."""
    twin = Twin(thing, model.bounds)
    state = model.start()
    while len(trace) < LENGTH and (steps := list(model.steps(state))):
        named = {f"{'ABCD'[step.who]}: {step.name}": step for step in steps}
        assert len(named) == len(steps)
        name = way[len(trace)] if len(trace) < len(way) else random.choice(list(named))
        step = named[name]
        trace.append(name)
        twin.follow(state, step)
        twin.compare(step.state)
        if step.fault is not None:
            yield step.fault
        state = step.state
        yield from model.judge(state)
