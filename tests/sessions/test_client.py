"""The client's end of a session: what it sends, what it holds back, what it makes of answers."""

from typing import Any

import pytest
from interrupts import interrupted

from aiomanager.errors import (
    BadEncoding,
    ConnectionLost,
    FrameTooLarge,
    NotOwner,
    ProtocolError,
    SessionLost,
    TooLarge,
)
from aiomanager.protocol.frames import FrameBuffer, frame
from aiomanager.protocol.messages import (
    ACK,
    BYE,
    CALL,
    CALLS,
    CANCEL,
    CANCELLED,
    ERROR,
    GOAWAY,
    HOLD,
    KEEP,
    POST,
    RELEASE,
    RESULT,
    RESULTS,
    decode,
    encode,
)
from aiomanager.protocol.stream import ACK_BYTES, ACK_FRAMES, BATCH
from aiomanager.sessions.client import ClientSession, error_of

LIMITS = {"frame": 1 << 20, "calls": 1024, "window": 1 << 22}


class Server:
    """The other end, by hand."""

    def __init__(self, **limits: int) -> None:
        self.session: ClientSession[str] = ClientSession(b"s" * 16, {**LIMITS, **limits})
        self.frames = FrameBuffer(1 << 30)
        self.received = 0

    def read(self) -> list[list[Any]]:
        """Return the messages that the client has to send."""
        data = b"".join(self.session.data_to_send())
        found = [decode(payload) for payload in self.frames.feed(data)]
        self.received += sum(message[0] < 32 for message in found)
        return found

    def bytes(self, *sent: list[Any]) -> bytes:
        return b"".join(
            frame(encode([message[0], self.received, *message[1:]])) for message in sent
        )

    def send(self, *sent: list[Any]) -> list[tuple[str, list[Any]]]:
        """Send messages to the client; return who is answered, and with what behind the ack."""
        answered = self.session.receive_data(self.bytes(*sent))
        return [(who, [message[0], *message[2:]]) for who, message in answered]

    def call(self, who: str, *arguments: Any, name: str = "set") -> int:
        return self.session.call(who, 5, name, list(arguments), 7)


@pytest.fixture
def server() -> Server:
    return Server()


# What goes out


def test_a_call_is_sent_and_answered(server: Server) -> None:
    assert not server.session.has_output
    call_id = server.call("a", b"k", 1)
    assert server.session.has_output
    assert server.read() == [[CALL, 0, call_id, 5, "set", [b"k", 1], 7]]
    assert not server.session.has_output
    assert server.send([RESULT, call_id, "result"]) == [("a", [RESULT, call_id, "result"])]
    assert server.session.calls == {}
    assert server.session.stream.unacknowledged == 0


def test_light_calls_leave_together_and_keep_their_order(server: Server) -> None:
    first, second = server.call("a", 1), server.call("b", 2)
    heavy = server.call("c", b"x" * 5000)
    server.call("d", 3)
    server.call("e", [1])
    assert [message[0] for message in server.read()] == [CALLS, CALL, CALL, CALL]
    assert (first, second, heavy) == (1, 2, 3)
    ids = [server.call(str(n), n) for n in range(BATCH + 3)]
    messages = server.read()
    assert [message[0] for message in messages] == [CALLS, CALLS]
    assert [item[0] for message in messages for item in message[2]] == ids


def test_everything_that_is_sent_keeps_its_place_behind_light_calls(server: Server) -> None:
    call_id = server.call("a", 1)
    server.session.post(6, "release", [], 7)
    server.call("b", 2)
    server.session.cancel(call_id, "a")
    server.call("c", 3)
    server.session.keep(9)
    server.session.hold([8])
    server.call("d", 4)
    server.session.release([8])
    server.session.bye()
    kinds = [message[0] for message in server.read()]
    assert kinds == [CALL, POST, CALL, CANCEL, KEEP, CALL, HOLD, CALL, RELEASE, BYE]


@pytest.mark.parametrize("size", [1, 5_000], ids=["light", "heavy"])
def test_a_keep_is_ahead_of_the_calls_that_follow_it(server: Server, size: int) -> None:
    """If it came behind them, the item could go to another when its work is done already."""
    server.session.keep(server.call("get", 1))
    server.read()
    server.session.keep(1)
    server.call("task_done", b"x" * size)
    assert [message[0] for message in server.read()] == [KEEP, CALL]
    server.session.keep(2)
    server.session.post(6, "release", [], 7)
    assert [message[0] for message in server.read()] == [KEEP, POST]


def test_what_was_granted_is_kept_before_the_end(server: Server) -> None:
    server.session.keep(3)
    server.session.release([4])
    server.session.bye()
    assert [message[0] for message in server.read()] == [KEEP, RELEASE, BYE]


def test_keeps_and_releases_travel_together(server: Server) -> None:
    for number in (1, 2, 3):
        server.session.keep(number)
        server.session.release([number, number])
    assert server.session.has_output
    assert server.read() == [[KEEP, 0, [1, 2, 3]], [RELEASE, 0, [1, 1, 2, 2, 3, 3]]]
    server.session.keep(4)
    server.session.unkeep(4)
    server.session.unkeep(5)
    assert server.read() == []


def test_a_call_that_is_too_large_is_refused_alone() -> None:
    server = Server(frame=1000)
    server.call("a", 1)
    with pytest.raises(TooLarge, match=r"takes at most 1000: send it in parts$"):
        server.call("b", b"x" * 990)
    with pytest.raises(TooLarge):
        server.session.post(5, "set", [b"x" * 990], 0)
    assert list(server.session.calls.values()) == ["a"]
    assert len(server.session.posted) == 0
    assert [message[0] for message in server.read()] == [CALL]


def test_light_calls_that_are_too_large_together_leave_alone() -> None:
    server = Server(frame=1 << 15)
    for n in range(3):
        server.call(str(n), "\N{SNOWMAN}" * 3800)
    assert [message[0] for message in server.read()] == [CALL, CALL, CALL]


# The quick way for one call at a time


def test_a_lone_call_is_as_any_other(server: Server) -> None:
    message = server.session.lone_call("a", 5, "get", [b"k"], 7)
    assert message is not None
    assert decode(message[4:]) == [CALL, 0, 1, 5, "get", [b"k"], 7]
    server.received += 1
    assert server.session.stream.resume(0) == [message]
    answer = server.session.lone_answer(server.bytes([RESULT, 1, "v"]))
    assert answer == [RESULT, 1, 1, "v"]
    assert server.session.calls == {}
    assert (server.session.stream.received, server.session.stream.unacknowledged) == (1, 0)


def test_a_lone_call_waits_for_nothing_that_is_to_be_said(server: Server) -> None:
    session = server.session
    for prepare in (
        lambda: session.keep(1),
        lambda: session.hold([1]),
        lambda: session.release([1]),
        lambda: session.post(5, "release", [], 7),
        lambda: server.call("other"),
    ):
        prepare()
        assert session.lone_call("a", 5, "get", [], 7) is None
        assert "a" not in session.calls.values()
        server.read()
    assert session.lone_call("a", 5, "get", [b"x" * LIMITS["frame"]], 7) is None


def test_a_lone_call_does_not_overtake_what_is_still_to_leave() -> None:
    server = Server(calls=1)
    session = server.session
    first = session.call("first", 5, "get", [], 7)
    server.read()
    assert session.lone_call("a", 5, "get", [], 7) is not None  # it may itself be one too many
    for hold_up in (
        lambda: session.post(5, "release", [], 7),
        lambda: session.release([1]),
    ):
        hold_up()
        assert session.lone_call("b", 5, "get", [], 7) is None
        session.data_to_send()  # there is no room
        assert session.lone_call("b", 5, "get", [], 7) is None
    assert session.cancel(first, "first")
    assert session.lone_call("b", 5, "get", [], 7) is None


def test_a_lone_call_comes_behind_a_cancel_and_what_is_sent_again(server: Server) -> None:
    session = server.session
    call_id = session.call("first", 5, "get", [], 7)
    server.read()
    session.cancel(call_id, "first")
    assert session.lone_call("a", 5, "get", [], 7) is None
    server.read()
    session.detach()
    session.attach(0)
    assert session.lone_call("a", 5, "get", [], 7) is None


def test_an_answer_that_is_not_just_the_one_takes_the_general_way(server: Server) -> None:
    session = server.session
    assert session.lone_call("a", 5, "get", [], 7)
    server.received += 1
    for data in (
        b"",
        server.bytes([ERROR, 1, 400, "no", None]),
        server.bytes([RESULT, 2, "v"]),
        server.bytes([RESULT, 1, "v"]) + b"\0",
        server.bytes([RESULT, 1, "v"])[:-1],
        server.bytes([RESULT, 1, "x" * 100_000]),
        server.bytes([ACK]),
        frame(encode([RESULT, 0, 1, "v"])),
        frame(encode([RESULT, 5, 1, "v"])),
        frame(b"\xc1\xc1"),
    ):
        assert session.lone_answer(data) is None
    assert (session.calls, session.stream.received) == ({1: "a"}, 0)
    # Half of a frame came before: what looks like one is the middle of another.
    session.receive_data(server.bytes([RESULT, 1, "v"])[:3])
    assert session.lone_answer(server.bytes([RESULT, 1, "v"])) is None


# What is held back


def test_calls_beyond_the_limit_are_held_and_sent_in_order() -> None:
    server = Server(calls=3)
    for n in range(6):
        server.call(str(n), [n])
    assert [message[2] for message in server.read()] == [1, 2, 3]
    server.call("light", 1)
    assert server.read() == []
    answered = server.send([RESULT, 1, None])
    assert answered == [("0", [RESULT, 1, None])]
    assert [message[2] for message in server.read()] == [4, 5, 6]
    server.send([ACK])
    assert [message[2] for message in server.read()] == [7]


def test_bytes_beyond_the_window_are_held() -> None:
    server = Server(window=1000)
    server.call("a", [b"x" * 900])
    server.call("b", [b"x" * 900])
    server.call("c", [b"x" * 900])
    assert [message[2] for message in server.read()] == [1, 2]
    server.send([ACK])
    assert [message[2] for message in server.read()] == [3]


def test_a_large_call_does_not_wait_for_what_nobody_will_confirm() -> None:
    server = Server(window=1 << 17)
    # The server has nothing to say to these.
    server.session.post(5, "release", [], 7)
    server.session.keep(1)
    server.read()
    server.call("large", b"x" * (1 << 18))
    assert [message[0] for message in server.read()] == [CALL]


def test_a_held_call_that_is_cancelled_was_never_sent() -> None:
    server = Server(calls=1)
    sent, held, other = (server.call(name, [1]) for name in "abc")
    assert server.session.cancel(held, "b") is False
    assert server.session.cancel(sent, "a") is True
    assert server.session.cancelling == {sent: "a"}
    assert [message[0] for message in server.read()] == [CALL, CANCEL]
    server.send([ACK])
    assert [message[2] for message in server.read()] == [other]


def test_a_light_call_that_is_cancelled_before_it_is_sent_was_never_sent(server: Server) -> None:
    first, second = server.call("a", 1), server.call("b", 2)
    assert server.session.cancel(first, "a") is False
    assert [message[2] for message in server.read()] == [second]
    assert server.session.cancel(second, "b") is True


def test_what_was_held_is_sent_on_the_next_connection() -> None:
    server = Server(calls=2)
    for n in range(4):
        server.session.post(5, "set", [n], 7)
    server.read()
    server.session.detach()
    # The server has received both, and has nothing to say to them.
    server.session.attach(2)
    assert [message[2] for message in server.read()] == [3, 4]


def test_a_held_call_does_not_say_what_came_meanwhile() -> None:
    server = Server(calls=1)
    server.call("a", [1])
    server.call("b", [2])
    server.read()
    # Large answers, after which the server waits for a word.
    server.send([RESULT, 1, b"x" * ACK_BYTES])
    kinds = [message[:2] for message in server.read()]
    assert kinds == [[ACK, 1], [CALL, 0]]


def test_a_held_call_does_not_hide_what_was_not_said() -> None:
    server = Server(calls=1)
    server.call("a", [1])
    server.call("b", [2])
    server.call("c", [3])
    server.read()
    server.send([RESULT, 1, b"x" * (ACK_BYTES - 100)])
    assert [message[:2] for message in server.read()] == [[CALL, 0]]
    server.send([RESULT, 2, b"x" * 200])
    assert [message[:2] for message in server.read()] == [[ACK, 2], [CALL, 0]]


def test_references_are_counted_before_the_call_that_uses_them(server: Server) -> None:
    server.session.hold([8])
    server.session.hold([9])
    server.call("a", [b"", [8]])
    assert server.read() == [[HOLD, 0, [8, 9]], [CALL, 0, 1, 5, "set", [[b"", [8]]], 7]]


def test_the_server_hears_of_what_came_without_a_call(server: Server) -> None:
    call_id = server.call("a")
    server.read()
    server.send(*[[CANCELLED, 99, 0]] * (ACK_FRAMES - 1))
    assert not server.session.has_output
    server.call("b")
    server.send([CANCELLED, 99, 0])
    server.send(*[[CANCELLED, 99, 0]] * ACK_FRAMES)
    assert [message[:2] for message in server.read()] == [[CALL, 2 * ACK_FRAMES]]
    server.session.post(5, "release", [], 1)  # made before the next ones come
    server.send(*[[CANCELLED, 99, 0]] * ACK_FRAMES)
    assert [message[:2] for message in server.read()] == [
        [POST, 2 * ACK_FRAMES],
        [ACK, 3 * ACK_FRAMES],
    ]
    assert server.send([RESULT, call_id, 1]) == [("a", [RESULT, call_id, 1])]


# What comes in


def test_answers_come_in_any_order(server: Server) -> None:
    for name in "abcd":
        server.call(name)
    server.read()
    assert server.send([RESULT, 3, None], [ERROR, 1, 400, "", None]) == [
        ("c", [RESULT, 3, None]),
        ("a", [ERROR, 1, 400, "", None]),
    ]
    assert server.send([RESULTS, [[4, "four"], [2, "two"], [77, "nobody"]]]) == [
        ("d", [RESULT, 4, "four"]),
        ("b", [RESULT, 2, "two"]),
    ]
    assert server.session.calls == {}


def test_an_answer_of_a_cancelled_call_is_dropped(server: Server) -> None:
    call_id = server.call("a")
    server.read()
    server.session.cancel(call_id, "cancelled")
    assert server.send([RESULT, call_id, 1]) == []
    assert server.send([CANCELLED, call_id, 0]) == [("cancelled", [CANCELLED, call_id, 0])]
    assert server.send([CANCELLED, call_id, 0]) == []


def test_a_post_that_failed_is_known_by_its_object(server: Server) -> None:
    server.session.post(6, "release", [], 7)
    server.read()
    assert server.send([ERROR, 1, 408, "it is not yours", None]) == []
    loss = server.session.losses.pop(6)
    assert isinstance(loss, NotOwner)
    assert str(loss) == "it is not yours"


def test_a_result_of_a_post_is_of_no_concern(server: Server) -> None:
    server.session.post(6, "release", [], 7)
    server.read()
    assert server.send([RESULT, 1, None]) == []
    assert server.session.losses == {}


def test_posts_are_not_remembered_for_ever(server: Server) -> None:
    for _ in range(3000):
        server.session.post(6, "release", [], 7)
    assert len(server.session.posted) <= 1024


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (105, ConnectionLost),
        (109, SessionLost),
        (110, SessionLost),
        (200, SessionLost),
        (100, SessionLost),
    ],
)
def test_a_goaway_says_whether_there_is_something_to_resume(
    server: Server, code: int, kind: type[Exception]
) -> None:
    assert server.send([GOAWAY, code, "why"]) == []
    assert isinstance(server.session.goaway, kind)
    assert isinstance(server.session.goaway, SessionLost) == (kind is SessionLost)
    server.session.detach()
    assert server.session.goaway is None


BREACHES: dict[str, Any] = {
    "no msgpack": b"\xc1\xc1",
    "an ack of what was not sent": encode([RESULT, 99, 1, None]),
    "an ACK of what was not sent": encode([ACK, 99]),
    "a message of the client's": [CALL, 1, 0, "names", [], 0],
    "a type that nobody knows": [25, 1, 1],
    "a result of no call": [RESULT],
    "a result without value": [RESULT, 1],
    "a result of text": [RESULT, "1", None],
    "an error without message": [ERROR, 1, 400],
    "an error with a code that is text": [ERROR, 1, "400", "", None],
    "an error with a code that is an array": [ERROR, 1, [], "", None],
    "results that are no array": [RESULTS, None],
    "results of what is no pair": [RESULTS, [[1]]],
    "results of text": [RESULTS, [["1", None]]],
    "no results at all": [RESULTS],
    "no outcome": [CANCELLED, 1],
}


@pytest.mark.parametrize("breach", BREACHES.values(), ids=BREACHES)
def test_a_breach_is_raised_after_those_who_are_answered(server: Server, breach: Any) -> None:
    server.call("a")
    server.call("b")
    server.read()
    bad = frame(breach) if isinstance(breach, bytes) else server.bytes(breach)
    good = server.bytes([RESULT, 2, None])
    assert [who for who, _ in server.session.receive_data(good + bad)] == ["b"]
    with pytest.raises(ProtocolError):
        server.session.receive_data(b"")
    with pytest.raises(ProtocolError):
        server.session.receive_data(server.bytes([RESULT, 1, None]))
    # Two messages of the broken connection may be missing before this one.
    assert server.session.lone_call("c", 5, "get", [], 7)
    server.received += 1
    assert server.session.lone_answer(server.bytes([RESULT, 3, None])) is None


@pytest.mark.parametrize("breach", BREACHES.values(), ids=BREACHES)
def test_a_breach_is_raised_at_once_when_nobody_is_answered(server: Server, breach: Any) -> None:
    server.call("a")
    server.read()
    with pytest.raises(ProtocolError):
        server.session.receive_data(
            frame(breach) if isinstance(breach, bytes) else server.bytes(breach)
        )


def test_a_frame_beyond_the_limit_is_refused(server: Server) -> None:
    with pytest.raises(FrameTooLarge):
        server.session.receive_data(b"\xff\xff\xff\xff")
    with pytest.raises(BadEncoding):
        Server().session.receive_data(b"\0\0\0\0")


# Connections


def test_what_was_not_received_is_sent_again(server: Server) -> None:
    for name in "abc":
        server.call(name, [1])
    first = server.read()
    server.call("d", [2])
    server.session.keep(9)
    server.session.detach()
    server.call("e", [3])
    assert server.session.resumption()[:2] == (b"s" * 16, 0)
    server.session.attach(2)
    again = server.read()
    assert again[0] == first[2]
    assert [message[0] for message in again] == [CALL, CALL, KEEP, CALL]


def test_a_frame_that_was_cut_is_forgotten(server: Server) -> None:
    server.call("a")
    server.read()
    answer = server.bytes([RESULT, 1, "v"])
    server.session.receive_data(answer[:-1])
    server.session.detach()
    server.session.attach(1)
    assert server.send([RESULT, 1, "v"]) == [("a", [RESULT, 1, "v"])]


def test_a_session_that_was_broken_can_go_on_over_a_new_connection(server: Server) -> None:
    server.call("a")
    server.call("b")
    server.read()
    server.session.receive_data(server.bytes([RESULT, 1, None]) + frame(b"\xc1"))
    server.session.detach()
    assert server.session.resumption().received == 1
    server.session.attach(1)
    assert server.send([RESULT, 2, None]) == [("b", [RESULT, 2, None])]


def test_each_attempt_to_resume_has_a_number_of_its_own(server: Server) -> None:
    numbers = [server.session.resumption().attachment for _ in range(3)]
    assert numbers == [1, 2, 3]


def test_a_count_that_cannot_be_right_is_refused(server: Server) -> None:
    server.call("a")
    server.read()
    with pytest.raises(ProtocolError):
        server.session.attach(2)


def test_an_ended_session_tells_who_waits(server: Server) -> None:
    server.call("a")
    server.read()
    server.session.cancel(1, "cancelled")
    server.call("b", 1)
    assert sorted(server.session.end()) == ["b", "cancelled"]
    assert server.session.calls == server.session.cancelling == {}
    assert server.read() == []


# Errors


@pytest.mark.parametrize(
    ("message", "kind", "arguments"),
    [
        ([ERROR, 0, 1, 400, "the key is not there", b"\xa1a"], KeyError, ("a",)),
        ([ERROR, 0, 1, 400, "there is no name 'x'", None], KeyError, ("there is no name 'x'",)),
        ([ERROR, 0, 1, 400, "the key is not there", b"\xc1"], KeyError, ("the key is not there",)),
        ([ERROR, 0, 1, 405, "", None], Exception, ()),
        ([ERROR, 0, 1, 402, "wrong", None], ValueError, ("wrong",)),
        ([ERROR, 0, 1, 499, "of a later version", None], Exception, ("of a later version",)),
    ],
    ids=str,
)
def test_an_error_message_is_an_exception(
    message: list[Any], kind: type[Exception], arguments: Any
) -> None:
    def decode_key(wire: Any) -> Any:
        if wire == b"\xc1":
            raise BadEncoding("no key")
        return "a"

    error = error_of(message, decode_key)
    assert isinstance(error, kind)
    assert error.args == arguments


# A signal handler raises


def resumed(server: Server) -> list[list[Any]]:
    """Return all that is sent once the session goes on over a new connection."""
    server.session.detach()
    server.session.attach(0)
    return server.read()


def test_what_was_noted_is_not_lost_wherever_sending_it_is_interrupted() -> None:
    number = 0
    going_on = True
    while going_on:
        number += 1
        server = Server()
        server.session.keep(9)
        server.session.hold([8])
        server.session.release([7])
        going_on = interrupted(number, server.session.data_to_send)
        sent = resumed(server)
        assert [KEEP, 0, [9]] in sent, number
        assert [HOLD, 0, [8]] in sent, number
        assert sent.count([RELEASE, 0, [7]]) <= 1, number
        assert sent.index([HOLD, 0, [8]]) > 0
    assert number > 20
    assert [RELEASE, 0, [7]] in sent


def test_who_is_interrupted_in_a_post_can_tell_whether_it_is_posted() -> None:
    number = 0
    outcomes = set[bool]()
    going_on = True
    while going_on:
        number += 1
        server = Server()
        server.session.post(4, "release", [], 7)  # of the same words, and not confirmed yet
        server.session.keep(9)
        going_on = interrupted(number, lambda: server.session.post(4, "release", [], 7))  # noqa: B023
        posted = server.session.has_posted(2)
        outcomes.add(posted)
        sent = [message for message in resumed(server) if message[0] == POST]
        assert [message[2] for message in sent] == [1, 2] if posted else [1]
        assert not server.session.has_posted(3)
    assert outcomes == {False, True}
    assert number > 20


def test_a_post_that_waits_for_room_is_posted() -> None:
    server = Server(calls=256)
    for _ in range(256):
        server.session.post(4, "release", [], 7)
    server.session.post(4, "release", [], 7)
    assert server.session.has_posted(257)
    assert len(server.read()) == 256
