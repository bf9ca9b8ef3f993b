"""Sessions without KEEP: the next call keeps what was granted, or how its client dies."""

import pytest

from aiomanager.protocol.handshake import Resume
from aiomanager.protocol.messages import (
    BYE,
    CALL,
    CALLS,
    CANCEL,
    CANCELLED,
    HOLD,
    POST,
    RELEASE,
    RESULT,
)

from .test_server import GRACE, Line, World


class Getter:
    """A client whose session keeps implicitly, and one beside it that looks."""

    def __init__(self, *, implicit_keep: bool = True) -> None:
        self.world = World()
        self.other = self.world.line()
        self.queue = self.other.make("Queue")
        self.other.value(self.queue, "put_many", [1, 2, 3])
        self.world.lines += 1
        self.line = Line(self.world, self.world.lines)
        self.line.attach(implicit_keep=implicit_keep)

    def get(self) -> int:
        answer = self.line.call(self.queue, "get", False)
        assert answer[0] == RESULT, answer
        return answer[3]

    def left(self) -> list[tuple[int, bool]]:
        """Empty the queue."""
        size = self.other.value(self.queue, "qsize")
        found = [self.other.value(self.queue, "get_delivery", False) for _ in range(size)]
        return [(item, marked) for item, marked in found]

    def lose(self) -> None:
        """End the session as one whose client is gone."""
        self.line.session.finish()


@pytest.fixture
def getter() -> Getter:
    return Getter()


def test_an_item_that_nothing_has_kept_goes_back(getter: Getter) -> None:
    assert getter.get() == 1
    assert getter.line.session.unconfirmed
    getter.lose()
    assert getter.left() == [(1, True), (2, False), (3, False)]


CONFIRMING = {
    "CALL": [CALL, 50, 0, "names", [], 0],
    "a CALL that is refused": [CALL, 50, 0, "nothing", [], 0],
    "POST": [POST, 50, 0, "names", [], 0],
    "CALLS": [CALLS, [[50, 0, "names", [], 0]]],
    "BYE": [BYE],
}


@pytest.mark.parametrize("message", CONFIRMING.values(), ids=CONFIRMING)
def test_the_next_call_keeps_it(getter: Getter, message: list[object]) -> None:
    assert getter.get() == 1
    getter.line.send(message)
    assert not getter.line.session.unconfirmed
    getter.lose()
    assert getter.left() == [(2, False), (3, False)]


@pytest.mark.parametrize("message", [[HOLD, [1]], [RELEASE, [77]]], ids=["HOLD", "RELEASE"])
def test_a_note_does_not(getter: Getter, message: list[object]) -> None:
    assert getter.get() == 1
    getter.line.send(message)
    getter.lose()
    assert getter.left() == [(1, True), (2, False), (3, False)]


def test_each_call_keeps_one_and_no_more(getter: Getter) -> None:
    assert [getter.get(), getter.get()] == [1, 2]
    getter.lose()
    assert getter.left() == [(2, True), (3, False)]


def test_a_call_keeps_only_what_its_count_covers(getter: Getter) -> None:
    line = getter.line
    calls = [[CALL, number, getter.queue, "get", [False], 0] for number in (50, 51)]
    assert len(line.send(*calls)) == 2  # the second was sent before the first was answered
    getter.lose()
    assert getter.left() == [(1, True), (2, True), (3, False)]


def test_items_of_one_batch_are_not_kept_by_it(getter: Getter) -> None:
    batch = [[number, getter.queue, "get", [False], 0] for number in (50, 51)]
    answers = getter.line.send([CALLS, batch])
    assert [answer[0] for answer in answers] == [RESULT, RESULT]
    getter.line.send([CALL, 52, 0, "names", [], 0])
    getter.lose()
    assert getter.left() == [(3, False)]


def test_it_can_be_taken_back_until_then(getter: Getter) -> None:
    assert getter.get() == 1
    assert getter.line.send([CANCEL, 1]) == [[CANCELLED, 2, 1, 0]]
    assert getter.left() == [(1, True), (2, False), (3, False)]


def test_it_cannot_be_taken_back_behind_the_next_call(getter: Getter) -> None:
    assert getter.get() == 1
    getter.line.send([CALL, 50, 0, "names", [], 0])
    assert getter.line.send([CANCEL, 1])[0][3] == 1
    assert getter.left() == [(2, False), (3, False)]


def test_who_dies_having_read_everything_has_it(getter: Getter) -> None:
    assert getter.get() == 1
    getter.line.session.answers_read(getter.line.session.written)
    getter.line.session.detach()
    getter.lose()
    assert getter.left() == [(2, False), (3, False)]


def test_a_waiter_that_is_answered_and_dies_unread_leaves_it(getter: Getter) -> None:
    getter.left()
    assert getter.line.call(getter.queue, "get") == []
    getter.other.value(getter.queue, "put", 4)
    assert getter.line.got[0][3] == 4
    getter.lose()
    assert getter.left() == [(4, True)]


def test_a_waiter_that_dies_takes_nothing_though_it_has_read_everything(getter: Getter) -> None:
    getter.left()
    assert getter.line.call(getter.queue, "get") == []
    getter.line.session.answers_read(getter.line.session.written)
    getter.lose()
    getter.other.value(getter.queue, "put", 4)
    assert getter.left() == [(4, False)]


@pytest.mark.parametrize("received", [0, 1], ids=["not received", "received"])
def test_a_lost_connection_leaves_it_open(getter: Getter, received: int) -> None:
    assert getter.get() == 1
    session = getter.line.session
    session.detach()
    assert getter.other.value(getter.queue, "qsize") == 2
    again = Line(getter.world, 2, Resume(session.session_id, received, 1))
    again.next_id = 1
    again.received = received
    again.attach(received, implicit_keep=True)
    assert [answer[3] for answer in again.got] == [1] * (1 - received)
    assert again.send([CANCEL, 1])[-1][3] == 0
    assert getter.left() == [(1, True), (2, False), (3, False)]


def test_a_lost_connection_that_is_not_resumed_gives_it_back(getter: Getter) -> None:
    assert getter.get() == 1
    getter.line.session.detach()
    getter.world.clock.advance(GRACE + 1)
    assert getter.left() == [(1, True), (2, False), (3, False)]


def test_what_was_read_before_a_resumption_says_nothing_of_the_end(getter: Getter) -> None:
    assert getter.get() == 1
    session = getter.line.session
    session.answers_read(session.written)
    session.detach()
    Line(getter.world, 2, Resume(session.session_id, 0, 1)).attach(0, implicit_keep=True)
    session.finish()  # the answer was sent again, and not read
    assert getter.left() == [(1, True), (2, False), (3, False)]


@pytest.mark.parametrize("speaks", [False, True])
def test_who_resumes_and_dies_had_it_if_it_said_something(getter: Getter, *, speaks: bool) -> None:
    assert getter.get() == 1
    session = getter.line.session
    session.detach()
    again = Line(getter.world, 2, Resume(session.session_id, 1, 1))
    again.received = 1
    again.attach(1, implicit_keep=True)
    if speaks:
        again.send([HOLD, [1]])
    session.answers_read(session.written)
    session.finish()
    assert getter.left()[0] == ((2, False) if speaks else (1, True))


def test_statistics_count_who_waits_alone(getter: Getter) -> None:
    assert getter.get() == 1
    assert getter.line.session.waiting == 0
    getter.left()
    assert getter.line.call(getter.queue, "get") == []
    assert getter.line.session.waiting == 1


def test_a_lock_of_everybodys_stays_behind_a_bye(getter: Getter) -> None:
    lock = getter.other.make("Lock")
    assert getter.line.value(lock, "acquire_fenced", True, None, "") > 0
    getter.line.send([BYE])
    assert getter.line.closed
    assert getter.other.value(lock, "locked") is True


def test_a_session_with_keep_is_none_of_these() -> None:
    getter = Getter(implicit_keep=False)
    assert getter.get() == 1
    assert not getter.line.session.unconfirmed
    getter.line.send([CALL, 50, 0, "names", [], 0])
    getter.line.session.answers_read(getter.line.session.written)
    getter.lose()
    assert getter.left() == [(1, True), (2, False), (3, False)]
