"""Every state of the model keeps the protocol's promises, and no rule of it can be spared.

AIOMANAGER_MODEL_DEPTH chooses how far the walks through the protocol as designed go: 1, the
default, takes some twenty seconds; 2 takes some five minutes and 1 GB of memory.
"""

import os
from dataclasses import dataclass
from functools import cache

import pytest

from .model import Bounds, Excuse, Fault, FullBuffer, Resource, Rules, check
from .search import Report

DEPTH = int(os.environ.get("AIOMANAGER_MODEL_DEPTH", "1"))

pytestmark = pytest.mark.timeout(120 if DEPTH == 1 else 1800)


# What each walk must at least visit keeps an exploration that stops early from passing.
WALKS = {
    1: {
        Bounds(acquires=2, cuts=1, crashes=1, cancels=1, timeouts=1): 160_000,
        Bounds(acquires=2, cuts=2, cancels=1): 300_000,
        Bounds(acquires=1, cuts=2, crashes=1, cancels=1, timeouts=1): 140_000,
        Bounds(acquires=2, cuts=1, crashes=1, cancels=1, buffer=1): 180_000,
    },
    2: {
        Bounds(acquires=2, cuts=2, crashes=1, cancels=2, timeouts=1): 4_600_000,
        Bounds(acquires=1, cuts=3, crashes=1, cancels=2, timeouts=1): 1_100_000,
        Bounds(acquires=2, cuts=2, crashes=1, cancels=1, buffer=1): 950_000,
        Bounds(acquires=2, cuts=1, crashes=1, cancels=2, timeouts=1, buffer=2): 3_000_000,
    },
}[DEPTH]

# Wide enough for every mutant; the walk ends at the first fault.
WIDE = Bounds(acquires=2, cuts=2, crashes=1, cancels=1, timeouts=1)
BUFFERED = Bounds(acquires=2, cuts=1, crashes=1, cancels=1, timeouts=1, buffer=1)


# The same for sessions without KEEP.
IMPLICIT_WALKS = {
    1: {
        Bounds(acquires=2, cuts=1, crashes=1, cancels=1): 150_000,
        Bounds(acquires=1, cuts=2, crashes=1, timeouts=1): 25_000,
        Bounds(acquires=2, crashes=2, cancels=1, timeouts=1): 40_000,
    },
    2: {
        Bounds(acquires=2, cuts=2, crashes=1, cancels=1, timeouts=1): 500_000,
        Bounds(acquires=2, cuts=1, crashes=2, cancels=2): 400_000,
        Bounds(acquires=2, cuts=1, crashes=1, cancels=1, buffer=1): 150_000,
    },
}[DEPTH]


@cache
def walk(resource: Resource, bounds: Bounds, *, implicit: bool = False) -> Report:
    return check(resource, Rules(implicit=implicit), bounds)


@pytest.mark.parametrize("bounds", WALKS, ids=str)
@pytest.mark.parametrize("resource", Resource)
def test_the_protocol_keeps_its_promises(resource: Resource, bounds: Bounds) -> None:
    report = walk(resource, bounds)
    assert report.fault is None, report.trace
    assert report.states >= WALKS[bounds]
    assert report.at_rest >= 50


@pytest.mark.parametrize("bounds", IMPLICIT_WALKS, ids=str)
@pytest.mark.parametrize("resource", Resource)
def test_sessions_without_keep_keep_the_same_promises(resource: Resource, bounds: Bounds) -> None:
    report = walk(resource, bounds, implicit=True)
    assert report.fault is None, report.trace
    assert report.states >= IMPLICIT_WALKS[bounds]
    assert report.at_rest >= 50
    assert not any("KEEP" in move for move in report.moves)


@pytest.mark.parametrize(
    ("rules", "excuses"),
    [
        (Rules(implicit=True), frozenset[Excuse]()),
        (Rules(implicit=True, read_is_kept=False), frozenset({Excuse.TAKER_CRASHED})),
    ],
    ids=["as designed", "a death keeps nothing"],
)
def test_where_no_connection_is_lost_no_item_is_delivered_twice(
    rules: Rules, excuses: frozenset[Excuse]
) -> None:
    report = check(Resource.ITEM, rules, Bounds(acquires=2, crashes=2, cancels=1))
    assert report.fault is None, report.trace
    assert report.excuses == excuses


@pytest.mark.parametrize("resource", Resource)
def test_two_applications_have_the_unit_only_where_no_protocol_can_help(
    resource: Resource,
) -> None:
    excuses = {excuse for bounds in WALKS for excuse in walk(resource, bounds).excuses}
    if resource is Resource.LOCK:
        assert excuses == {Excuse.HOLDER_NOT_TOLD}
    else:
        assert excuses == {Excuse.TAKER_CRASHED, Excuse.TAKER_EXPIRED}


@pytest.mark.parametrize("resource", Resource)
def test_the_walks_meet_everything_that_can_happen(resource: Resource) -> None:
    moves = {move for bounds in WALKS for move in walk(resource, bounds).moves}
    assert moves >= {
        "acquire",
        "take",
        "release",
        "cancel",
        "return detached",
        "be killed",
        "connect",
        "lose connection",
        "notice cut",
        "receive WELCOME",
        "receive RESULT 1",
        "receive RESULT 1: timed out",
        "receive RESULT 2",
        "receive CANCELLED 1 with outcome 0",
        "receive CANCELLED 1 with outcome 1",
        "receive CANCELLED 2 with outcome 1",
        "receive ACK",
        "learn that the session is lost",
        "acknowledge",
        "server loses connection",
        "server notices cut",
        "server reads HELLO",
        "server reads CALL 1",
        "server reads KEEP 1",
        "server reads CANCEL 1",
        "server reads RELEASE 2",
        "server reads CALL 3",
        "server reads ACK",
        "server reads ahead",
        "server acknowledges",
        "session expires",
        "time out",
    }


@dataclass(frozen=True)
class Mutant:
    """The protocol with one rule broken, and the first harm that it does."""

    rules: Rules
    fault: Fault
    bounds: Bounds = WIDE
    resources: tuple[Resource, ...] = tuple(Resource)


MUTANTS = {
    "the client's output is not kept": Mutant(
        Rules(requests_kept=False),
        Fault.UNANSWERED,
    ),
    "the server's output is not kept": Mutant(
        Rules(answers_kept=False),
        Fault.LOST_UNIT,
    ),
    "bytes of older attachments are accepted": Mutant(
        Rules(old_bytes_discarded=False),
        Fault.TWICE,
    ),
    "the client does not trim on resume": Mutant(
        Rules(client_trims=False),
        Fault.TWICE,
    ),
    "trimming takes one frame too many": Mutant(
        Rules(trims_exactly=False),
        Fault.UNANSWERED,
    ),
    "a full buffer evicts its oldest frame": Mutant(
        Rules(full_buffer=FullBuffer.EVICT),
        Fault.OUT_OF_ORDER,
        BUFFERED,
    ),
    # The count that would make room stands behind the frame that waits for room.
    "a full buffer stops reading": Mutant(
        Rules(full_buffer=FullBuffer.STOP_READING),
        Fault.UNDELIVERED,
        BUFFERED,
    ),
    "counts travel only with other frames": Mutant(
        Rules(acks_alone=False),
        Fault.UNDELIVERED,
        BUFFERED,
    ),
    "the next call takes any answer": Mutant(
        Rules(answers_by_id=False),
        Fault.WRONG_ANSWER,
    ),
    "KEEP is sent before the task has the result": Mutant(
        Rules(keep_at_handover=False),
        Fault.LOST_UNIT,
    ),
    "a cancel without a connection is dropped": Mutant(
        Rules(cancel_sent_detached=False),
        Fault.LOST_UNIT,
    ),
    "a cancel does not undo": Mutant(
        Rules(cancel_undoes=False),
        Fault.OWNED,
    ),
    "a withdrawn waiter is served": Mutant(
        Rules(cancel_withdraws=False),
        Fault.OWNED,
    ),
    "a cancelled call's timeout is not looked at": Mutant(
        Rules(refusal_settles=False),
        Fault.FALSE_OUTCOME,
    ),
    "grants are taken back at a cut": Mutant(
        Rules(grants_survive_cut=False),
        Fault.TWO_HOLDERS,
    ),
    "a resumed waiter is not looked at": Mutant(
        Rules(resume_serves=False),
        Fault.STUCK,
    ),
    "expiry undoes nothing": Mutant(
        Rules(expiry_undoes=False),
        Fault.LOST_UNIT,
    ),
    "an attached session expires": Mutant(
        Rules(expiry_detached_only=False),
        Fault.UNANSWERED,
    ),
    "a kept item comes back at expiry": Mutant(
        Rules(kept_item_stays_taken=False),
        Fault.TWO_HOLDERS,
        resources=(Resource.ITEM,),
    ),
    "without KEEP: the next call keeps nothing": Mutant(
        Rules(implicit=True, call_keeps=False),
        Fault.FOREIGN_RELEASE,
    ),
    "without KEEP: who dies unread keeps the item": Mutant(
        Rules(implicit=True, unread_is_undone=False),
        Fault.LOST_UNIT,
        resources=(Resource.ITEM,),
    ),
    "without KEEP: a connection given up counts as a death": Mutant(
        Rules(implicit=True, drop_is_no_death=False),
        Fault.LOST_UNIT,
        resources=(Resource.ITEM,),
    ),
    "without KEEP: a resumed client that dies without a word has what it had": Mutant(
        Rules(implicit=True, resumed_first_heard=False),
        Fault.LOST_UNIT,
        resources=(Resource.ITEM,),
    ),
    "without KEEP: a cancel does not undo": Mutant(
        Rules(implicit=True, cancel_undoes=False),
        Fault.OWNED,
    ),
    "a returned item is not marked": Mutant(
        Rules(returned_item_marked=False),
        Fault.TWO_HOLDERS,
        resources=(Resource.ITEM,),
    ),
}


@pytest.mark.parametrize(
    ("mutant", "resource"),
    [
        pytest.param(mutant, resource, id=f"{name}-{resource}")
        for name, mutant in MUTANTS.items()
        for resource in mutant.resources
    ],
)
def test_no_rule_can_be_spared(mutant: Mutant, resource: Resource) -> None:
    # A wrong count is a fault of the protocol's own; here it must do harm that a program sees.
    report = check(resource, mutant.rules, mutant.bounds, ignored=frozenset({Fault.GAP}))
    assert report.fault is mutant.fault, report.trace
    assert report.trace


@pytest.mark.parametrize("resource", Resource)
def test_a_server_that_does_not_trim_on_resume_miscounts(resource: Resource) -> None:
    # The harm to a program needs 25 steps, among them two cuts and a timeout: this is its cause.
    report = check(resource, Rules(server_trims=False), WIDE)
    assert report.fault is Fault.GAP
    assert report.trace
    assert report.trace[-1] == "A: receive RESULT 1"


def test_a_trace_tells_how_the_fault_came_about() -> None:
    report = check(Resource.LOCK, Rules(cancel_undoes=False), WIDE)
    assert report.trace is not None
    assert sorted(report.trace) == [
        "A: acquire",
        "A: cancel",
        "A: receive CANCELLED 1 with outcome 0",
        "A: receive RESULT 1",
        "A: server reads CALL 1",
        "A: server reads CANCEL 1",
    ]
