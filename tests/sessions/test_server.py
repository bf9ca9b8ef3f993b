"""The server's end of a session: what breaks the protocol, what is wrong with one call alone."""

import struct
from typing import Any

import pytest
from objects.rigs import Clock

from aiomanager.errors import (
    BadEncoding,
    BadParameters,
    FrameTooLarge,
    ProtocolError,
    SessionLost,
    SessionMoved,
    exception_of,
)
from aiomanager.objects import TYPES
from aiomanager.operation import SharedObject, V, reads, writes
from aiomanager.protocol import messages
from aiomanager.protocol.frames import FrameBuffer, frame
from aiomanager.protocol.handshake import Hello, Resume
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
from aiomanager.protocol.stream import ACK_FRAMES, BATCH
from aiomanager.sessions import server as room
from aiomanager.sessions.server import ServerCore, ServerSession
from aiomanager.sessions.store import Store

GRACE = 5.0


class Broken(SharedObject, name="broken"):
    """A type of a user's, with faults."""

    def __init__(self) -> None:
        self._done = 0

    @writes
    def fail(self) -> None:
        raise ZeroDivisionError("a fault \udc80 of the user's")

    @writes
    def leave(self) -> None:
        raise SystemExit("the end")

    @writes
    def fail_at_length(self) -> None:
        raise ValueError("x" * 100_000)

    @writes
    def fail_with_bytes(self) -> None:
        raise KeyError(b"\xc1 no key")

    @reads
    def large(self, size: int) -> bytes:
        return b"x" * size

    @reads
    def echo(self, value: V) -> V:
        return value


class Line:
    """One client's end, by hand: it sends messages as they are written here."""

    def __init__(self, world: "World", name: int, resume: Resume | None = None) -> None:
        self.world = world
        self.name = name
        self.session = world.core.session_of(self.hello(resume), "peer:0", f"pid {name}", GRACE)
        self.incoming = FrameBuffer(1 << 30)
        self.received = 0
        self.got: list[list[Any]] = []
        self.closed = False
        self.next_id = 0

    def hello(self, resume: Resume | None = None) -> Hello:
        client = self.name.to_bytes(16, "big")
        return Hello((1,), ("peer",), b"n" * 32, "test", client, self.name, "", resume, ())

    def attach(self, received: int = 0, *, implicit_keep: bool = False) -> "Line":
        self.session.attach(self.take, self.close, received, implicit_keep=implicit_keep)
        return self

    def take(self, data: bytes) -> None:
        for payload in self.incoming.feed(data):
            message = decode(payload)
            self.received += message[0] < messages.FIRST_UNSEQUENCED
            self.got.append(message)

    def close(self) -> None:
        self.closed = True

    def send(self, *sent: list[Any]) -> list[list[Any]]:
        """Send messages in one piece, each with the right ack; return what came back."""
        data = b"".join(
            frame(encode([message[0], self.received, *message[1:]])) for message in sent
        )
        return self.send_bytes(data)

    def send_bytes(self, data: bytes) -> list[list[Any]]:
        self.got.clear()
        self.session.receive_data(data)
        return list(self.got)

    def call(self, object_id: int, name: str, *arguments: Any, owner: int = 1) -> list[Any]:
        """Call an operation, and return what came back without its type and ack."""
        self.next_id += 1
        answers = self.send([CALL, self.next_id, object_id, name, list(arguments), owner])
        assert len(answers) <= 1
        return answers[0] if answers else []

    def value(self, *call: Any) -> Any:
        answer = self.call(*call)
        assert answer[0] == RESULT, answer
        return answer[3]

    def error(self, *call: Any) -> Exception:
        answer = self.call(*call)
        assert answer[0] == ERROR, answer
        return exception_of(answer[3], answer[4])

    def make(self, kind: str, *arguments: Any) -> int:
        return self.value(0, "create", kind, list(arguments))


class World:
    """A server core with a clock by hand."""

    def __init__(self, **limits: int) -> None:
        self.clock = Clock()
        self.reports: list[tuple[str, BaseException]] = []
        self.clock.report = lambda message, error: self.reports.append((message, error))  # type: ignore[method-assign]
        self.store = Store([*TYPES, Broken])
        self.core = ServerCore(self.store, self.clock, limits=limits)
        self.lines = 0

    def line(self) -> Line:
        self.lines += 1
        return Line(self, self.lines).attach()


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def line(world: World) -> Line:
    return world.line()


def ids(answers: list[list[Any]]) -> set[int]:
    """Return the calls that were answered."""
    return {
        call_id
        for answer in answers
        for call_id in ([one[0] for one in answer[2]] if answer[0] == RESULTS else [answer[2]])
    }


# What breaks the protocol

BREACHES: dict[str, Any] = {
    "no msgpack": b"\xc1\xc1",
    "no array": b"\x05",
    "an array that is too short": encode([CALL]),
    "an ack of what was not sent": encode([CALL, 99, 50, 0, "names", [], 0]),
    "an ACK of what was not sent": encode([ACK, 99]),
    "an ack below zero": encode([CALL, -1, 50, 0, "names", [], 0]),
    "a type that nobody knows": [15],
    "a type below zero": [-3],
    "a type of the server's": [RESULT, 1, None],
    "another one": [CANCELLED, 1, 0],
    "a call without owner": [CALL, 50, 0, "names", []],
    "a call id that is text": [CALL, "50", 0, "names", [], 0],
    "a call id that is a bool": [CALL, True, 0, "names", [], 0],
    "a call id that is a float": [CALL, 50.0, 0, "names", [], 0],
    "a call id below zero": [CALL, -1, 0, "names", [], 0],
    "a call id that not every language has": [CALL, 2**53, 0, "names", [], 0],
    "an object id that is a bool": [CALL, 50, False, "names", [], 0],
    "an object id that is a float": [CALL, 50, 0.0, "names", [], 0],
    "an object id that is an array": [CALL, 50, [], "names", [], 0],
    "an object id that is nil": [POST, 50, None, "names", [], 0],
    "an operation that is bytes": [CALL, 50, 0, b"names", [], 0],
    "an operation that is an array": [CALL, 50, 0, ["names"], [], 0],
    "an operation that is a number": [CALL, 50, 0, 5, [], 0],
    "arguments that are no array": [CALL, 50, 0, "names", None, 0],
    "arguments that are bytes": [CALL, 50, 0, "names", b"", 0],
    "an owner that is text": [CALL, 50, 0, "names", [], "me"],
    "an owner that is a bool": [CALL, 50, 0, "names", [], True],
    "an owner below zero": [CALL, 50, 0, "names", [], -1],
    "an owner that not every language has": [CALL, 50, 0, "names", [], 2**53],
    "a batch that is no array": [CALLS, None],
    "a batch of what is no call": [CALLS, [5]],
    "a batch with a call without owner": [CALLS, [[50, 0, "names", []]]],
    "a batch with an owner that is text": [CALLS, [[50, 0, "names", [], "me"]]],
    "a batch without anything": [CALLS],
    "a batch that is too large": [CALLS, [[n, 0, "names", [], 0] for n in range(BATCH + 1)]],
    "a CANCEL of nothing": [CANCEL],
    "a CANCEL of text": [CANCEL, "1"],
    "a CANCEL of a number below zero": [CANCEL, -1],
    "a KEEP of nothing": [KEEP],
    "a KEEP of a number": [KEEP, 1],
    "a KEEP of text": [KEEP, ["1"]],
    "a HOLD of nil": [HOLD, [None]],
    "a HOLD of a bool": [HOLD, [True]],
    "a RELEASE of an array": [RELEASE, [[1]]],
    "a RELEASE of a number below zero": [RELEASE, [-1]],
}


@pytest.mark.parametrize("before", [True, False], ids=["behind a call", "alone"])
@pytest.mark.parametrize("breach", BREACHES.values(), ids=BREACHES)
def test_a_breach_ends_the_connection_and_harms_nobody_else(
    world: World, line: Line, breach: Any, before: bool
) -> None:
    other = world.line()
    table = other.make("dict", [])
    data = b""
    if before:
        set_it = [CALL, line.received, 40, table, "set", [b"\xa1a", 1], 0]
        data = frame(encode(set_it))
    if isinstance(breach, list):
        breach = encode([breach[0], line.received, *breach[1:]])
    with pytest.raises(ProtocolError):
        line.send_bytes(data + frame(breach))
    # What came before has taken effect; what broke the protocol has changed nothing.
    assert [message[:3] for message in line.got] == ([[RESULT, 1, 40]] if before else [])
    assert other.value(table, "items") == ([[b"\xa1a", 1]] if before else [])
    # The shell ends the session; nothing of it is left, and all others are well.
    line.session.close(100, "out of order")
    line.session.finish()
    assert line.got[-1] == [GOAWAY, line.session.stream.received, 100, "out of order"]
    assert line.closed
    assert set(world.core.sessions.values()) == {other.session}
    assert other.value(0, "names") == []
    assert not world.reports


def test_a_frame_beyond_the_limit_is_refused_before_it_comes(world: World, line: Line) -> None:
    with pytest.raises(FrameTooLarge):
        line.send_bytes(struct.pack(">I", world.core.limits["frame"] + 1))


def test_a_session_survives_bytes_that_were_no_frame(world: World, line: Line) -> None:
    line.call(0, "names")
    with pytest.raises(ProtocolError):
        line.send_bytes(frame(b"\xc1"))
    # Nothing was counted: had it been a fault of the line, the session could go on.
    line.session.detach()
    line.incoming = FrameBuffer(1 << 30)
    again = resumed(world, line, 1, 1)
    assert (again, again.stream.received) == (line.session, 1)
    line.attach(1)
    assert line.value(0, "names") == []


def test_the_id_of_a_call_that_waits_is_taken(line: Line) -> None:
    event = line.make("Event")
    line.send([CALL, 70, event, "wait", [], 0])
    with pytest.raises(ProtocolError, match="call 70 is under way already"):
        line.send([CALL, 70, event, "is_set", [], 0])


def test_elements_of_a_later_version_are_ignored(line: Line) -> None:
    table = line.make("dict", [])
    assert line.send([CALL, 50, table, "length", [], 0, "later", {}])[0][2:] == [50, 0]
    assert line.send([CALLS, [[51, table, "length", [], 0, None]], "later"])[0][2:] == [51, 0]
    assert line.send([CANCEL, 5, "later"])[0][2:] == [5, 1]
    assert line.send([KEEP, [5], "later"]) == []
    assert line.send([40, "an unsequenced message of a later version"]) == []
    assert line.value(table, "length") == 0


# What is wrong with one call alone

KEY = b"\xa1a"  # "a"


@pytest.mark.parametrize(
    ("call", "code", "said"),
    [
        (("length", 1), 301, "takes 0 arguments, not 1"),
        (("set",), 301, "takes 2 arguments, not 0"),
        (("set", KEY), 301, "takes 2 arguments, not 1"),
        (("set", KEY, 1, 2), 301, "takes 2 arguments, not 3"),
        (("get", KEY, None, None), 301, "takes 1 to 2 arguments, not 3"),
        (("set", "text is no key", 1), 301, "key"),
        (("set", b"", 1), 301, ""),
        (("set", b"\xff\xff", 1), 301, ""),
        (("set", None, 1), 301, "key"),
        (("set", [KEY], 1), 301, "key"),
        (("set", KEY, {}), 301, "no value"),
        (("set", KEY, []), 301, ""),
        (("set", KEY, b""), 301, "no value"),
        (("set", KEY, [b"\x01"]), 301, ""),
        (("set", KEY, [b"\x01", 5]), 301, ""),
        (("set", KEY, [b"\x01", [True]]), 301, "object id"),
        (("set", KEY, [b"\x01", [-1]]), 301, "object id"),
        (("set", KEY, ["text", [1]]), 301, ""),
        (("set", KEY, [b"\x01", [999]]), 302, "object 999 is gone"),
        (("increment", KEY, "much"), 301, "expected a number, not str"),
        (("increment", KEY, b"\xa11"), 301, "expected a number, not str"),
        (("increment", KEY, b"\xc1"), 301, ""),
        (("increment", KEY, None), 301, "expected a number, not nil"),
        (("increment", KEY, True), 301, "expected a number, not bool"),
        (("increment_many", [[KEY, 1], [b"\xa1b", "much"]]), 301, "expected a number, not str"),
        (("update", 5), 301, "expected an array of pairs"),
        (("update", [5]), 301, "expected a pair"),
        (("update", [[KEY]]), 301, "expected a pair"),
        (("update", [[KEY, 1], [KEY, []]]), 301, ""),
        (("get_many", KEY), 301, "expected an array"),
        (("get_nested", KEY), 301, "an array of steps"),
        (("get_nested", []), 402, "the path is empty"),
        (("get_nested", [KEY] * 65), 307, "65 steps"),
        (("set_versioned", KEY, 1, 1.5), 301, "expected bytes, not float"),
        (("set_versioned", KEY, 1, "1"), 301, "expected bytes"),
        (("set_versioned", KEY, 1, b"1"), 411, "version"),
        (("get_item", KEY), 400, "the key is not there"),
        (("explode",), 300, "a dict has no operation 'explode'"),
        (("_place",), 300, "no operation"),
        (("update_item",), 300, "no operation"),
        (("__class__",), 300, "no operation"),
    ],
    ids=str,
)
@pytest.mark.parametrize("way", ["alone", "in a batch", "posted", "among others"])
def test_a_call_that_is_wrong_is_refused_alone(
    world: World, line: Line, call: Any, code: int, said: str, way: str
) -> None:
    table = line.make("dict", [])
    name, *arguments = call
    item = [50, table, name, arguments, 0]
    if way == "alone":
        answers = line.send([CALL, *item])
    elif way == "posted":
        answers = line.send([POST, *item])
    elif way == "in a batch":
        answers = line.send([CALLS, [[49, table, "length", [], 0], item, [51, 0, "names", [], 0]]])
    else:
        answers = line.send([CALL, 49, table, "length", [], 0], [CALL, *item])
    (error,) = [answer for answer in answers if answer[0] == ERROR]
    assert (error[2], error[3]) == (50, code)
    assert said in error[4]
    assert ids(answers) == {"in a batch": {49, 50, 51}, "among others": {49, 50}}.get(way, {50})
    # Nothing else has changed.
    assert line.value(table, "items") == []
    assert line.value(table, "get_state") == [0, []]
    assert world.store.count() == {"objects": 1, "names": 0}
    assert world.store.handed_out == []
    assert not world.reports


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("table", []), 311, "there is no shared type 'table'"),
        (("dict",), 301, "takes 2 arguments"),
        ((5, []), 301, "expected str"),
        (("dict", None), 301, "an array"),
        (("dict", b"ab"), 301, "an array"),
        (("dict", "ab"), 301, "an array"),
        (("dict", [5]), 301, "an array of pairs"),
        (("dict", [[], []]), 301, "takes 0 to 1 arguments"),
        (("Queue", ["many"]), 301, "expected int"),
        (("Value", []), 301, "takes 2 to 3 arguments"),
    ],
    ids=str,
)
def test_an_object_that_cannot_be_made_is_not_there(
    world: World, line: Line, arguments: Any, code: int, said: str
) -> None:
    for call in (("create", *arguments), ("named", *arguments[:1], "name", *arguments[1:])):
        answer = line.call(0, *call)
        assert (answer[0], answer[3]) == (ERROR, code)
        if arguments != ("dict",):
            assert said in answer[4]
    assert world.store.count() == {"objects": 0, "names": 0}


def test_an_object_that_is_gone_says_so(line: Line) -> None:
    error = line.error(99, "length")
    assert type(error).__name__ == "ObjectGone"
    table = line.make("dict", [])
    line.send([RELEASE, [table]])
    assert "object 1 is gone" in str(line.error(table, "length"))


@pytest.mark.parametrize("name", ["get", "put", "join"])
def test_a_timeout_that_is_no_number_is_refused(world: World, line: Line, name: str) -> None:
    q = line.make("Queue", 1)
    line.value(q, "put", 1)
    call = {
        "get": (line.make("Queue"), "get", True, float("nan")),
        "put": (q, "put", 2, True, float("nan")),
        "join": (q, "join", float("nan")),
    }[name]
    assert isinstance(line.error(*call), ValueError)
    assert (line.session.waiting, world.clock.running) == (0, 0)


def test_what_may_wait_cannot_be_posted(line: Line) -> None:
    lock, q = line.make("Lock"), line.make("Queue")
    line.value(q, "put", 5)
    for call_id, (object_id, name) in enumerate(
        [(lock, "acquire_fenced"), (q, "get"), (q, "join")], 50
    ):
        (answer,) = line.send([POST, call_id, object_id, name, [], 1])
        assert (answer[0], answer[2], answer[3]) == (ERROR, call_id, 301)
    assert line.value(lock, "locked") is False
    assert line.value(q, "qsize") == 1
    assert line.session.waiting == 0


def test_a_post_is_answered_only_when_it_fails(line: Line) -> None:
    table = line.make("dict", [])
    assert line.send([POST, 50, table, "set", [KEY, 1], 0]) == []
    assert line.value(table, "items") == [[KEY, 1]]


def test_a_type_that_wants_to_leave_fails_as_any_other(world: World, line: Line) -> None:
    broken = line.make("broken")
    words = "SystemExit: the end"
    assert line.call(broken, "leave")[3:5] == [500, words]
    answers = line.send(
        [CALLS, [[51, broken, "leave", [], 0], [52, broken, "echo", [5], 0]]],
        [CALL, 53, broken, "leave", [], 0],
    )
    assert [answer[3:5] for answer in answers if answer[0] == ERROR] == [[500, words]] * 2
    assert len(world.reports) == 3
    assert line.value(broken, "echo", 5) == 5


def test_a_fault_of_a_type_is_reported_and_told(world: World, line: Line) -> None:
    broken = line.make("broken")
    answer = line.call(broken, "fail")
    assert answer[3:5] == [500, "ZeroDivisionError: a fault \\udc80 of the user's"]
    ((said, error),) = world.reports
    assert said == "call 2 of pid 1 failed"
    assert isinstance(error, ZeroDivisionError)
    assert line.value(broken, "echo", 5) == 5


def test_a_long_message_is_cut(line: Line) -> None:
    answer = line.call(line.make("broken"), "fail_at_length")
    assert answer[3] == 402
    assert 1000 < len(answer[4]) < 10_000


def test_a_key_error_of_a_type_with_bytes_of_its_own_is_told(line: Line) -> None:
    assert line.call(line.make("broken"), "fail_with_bytes")[3] == 400


def test_an_answer_beyond_the_limit_is_an_error_of_its_call() -> None:
    world = World(frame=1 << 13)
    line = world.line()
    broken = line.make("broken")
    assert len(line.value(broken, "large", 8000)) == 8000
    for size in (8190, 100_000):
        answer = line.call(broken, "large", size)
        assert answer[3] == 307
        assert answer[4].endswith("the limit is 8192: ask for less at a time")
    assert line.value(broken, "echo", 1) == 1


def test_an_item_beyond_the_limit_stays_in_its_queue() -> None:
    world = World(frame=1 << 13)
    line, other = world.line(), world.line()
    q = line.make("Queue")
    for _ in range(3):
        line.value(q, "put", b"x" * 3000)
    answer = line.call(q, "get_many", 3)
    assert answer[3] == 307
    assert line.session.waiting == 0
    assert other.value(q, "get_delivery") == [b"x" * 3000, True]


A, B = b"\xa1a", b"\xa1b"


@pytest.mark.parametrize(
    ("kind", "items", "call"),
    [
        ("dict", [[A, b"x" * 2500], [B, b"x" * 2500]], ("pop_many", [A, B])),
        ("dict", [[A, b"x" * 5000]], ("pop", A)),
        ("dict", [[A, b"x" * 5000]], ("popitem",)),
        ("list", [1, b"x" * 5000, 3, 4], ("pop", 1)),
        ("list", [1, 2, b"x" * 5000, 4], ("pop", -2)),
        ("list", [1, 2, 3, b"x" * 5000], ("pop",)),
    ],
)
@pytest.mark.parametrize("batch", [False, True])
def test_what_cannot_be_sent_is_not_removed(
    kind: str,
    items: list[Any],
    call: tuple[Any, ...],
    monkeypatch: pytest.MonkeyPatch,
    *,
    batch: bool,
) -> None:
    world = World(frame=1 << 13)
    line = world.line()
    shared = line.make(kind)
    put = "update" if kind == "dict" else "extend"
    for item in items:
        line.value(shared, put, [item])
    version = world.store.entries[shared].object.version
    # As if the values had grown where they are, or there were more of them.
    monkeypatch.setitem(world.core.limits, "frame", 4500)
    name, *arguments = call
    if batch:
        answer = line.send([CALLS, [[900, shared, name, arguments, 0]]])[0]
        assert answer[3] == 307
    else:
        assert line.call(shared, *call)[3] == 307
    monkeypatch.undo()
    world.core.limits["frame"] = 1 << 20
    assert line.value(shared, "items" if kind == "dict" else "copy") == items
    assert world.store.entries[shared].object.version > version


def test_waits_are_limited() -> None:
    world = World(waits=2)
    line = world.line()
    event = line.make("Event")
    assert line.call(event, "wait") == line.call(event, "wait") == []
    answer = line.call(event, "wait")
    assert answer[3] == 308
    assert line.session.waiting == 2
    assert len(line.send([CALL, 90, event, "set", [], 0])) >= 2
    assert line.session.waiting == 0


@pytest.mark.parametrize("limits", [{"calls": ACK_FRAMES - 1}, {"window": 1000}])
def test_limits_that_would_leave_clients_waiting_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="for ever"):
        World(**limits)


# Answers and acks


def test_calls_in_one_piece_are_answered_in_one_piece(line: Line) -> None:
    table = line.make("dict", [])
    writes: list[bytes] = []
    line.session.attach(writes.append, line.close, line.received)
    data = b"".join(
        frame(encode([CALL, 1, number, table, "length", [], 0])) for number in range(50, 60)
    )
    line.session.receive_data(data)
    assert len(writes) == 1


def test_calls_in_a_batch_are_answered_in_their_order(line: Line) -> None:
    table = line.make("dict", [])
    items = [[50 + n, table, "increment", [KEY], 0] for n in range(BATCH)]
    (answer,) = line.send([CALLS, items])
    assert answer[0] == RESULTS
    assert answer[2] == [[50 + n, n + 1] for n in range(BATCH)]


def test_a_batch_of_all_kinds_of_calls(line: Line) -> None:
    event, q = line.make("Event"), line.make("Queue")
    answers = line.send(
        [
            CALLS,
            [
                [50, event, "wait", [], 0],
                [51, q, "get", [], 0],
                [52, q, "put", ["item"], 0],
                [53, q, "put", [b"x" * 9000], 0],
                [54, event, "set", [], 0],
                [55, q, "get", [], 0],
                [56, q, "nothing", [], 0],
            ],
        ]
    )
    results: dict[int, Any] = {}
    for answer in answers:
        if answer[0] == RESULTS:
            results |= dict(answer[2])
        else:
            results[answer[2]] = answer[3]
    assert results == {
        50: True, 51: "item", 52: None, 53: None, 54: None, 55: b"x" * 9000, 56: 300,
    }  # fmt: skip
    assert line.session.waiting == 2  # the two items, until they are kept


def test_what_comes_without_answers_is_acknowledged(line: Line) -> None:
    table = line.make("dict", [])
    posts = [[POST, number, table, "clear", [], 0] for number in range(100, 100 + ACK_FRAMES)]
    assert line.send(*posts) == [[ACK, ACK_FRAMES + 1]]
    # Also behind an answer that was made before the last of them came.
    call = [CALL, 99, table, "length", [], 0]
    answers = line.send(call, *posts)
    assert [answer[:2] for answer in answers] == [
        [RESULT, ACK_FRAMES + 2],
        [ACK, 2 * ACK_FRAMES + 2],
    ]


def test_calls_that_wait_are_acknowledged_though_each_came_alone(line: Line) -> None:
    queue = line.make("Queue")
    before = line.received
    answers = [line.call(queue, "get") for _ in range(2 * ACK_FRAMES)]
    acks = [[ACK, before + count] for count in (ACK_FRAMES, 2 * ACK_FRAMES)]
    assert [answer for answer in answers if answer] == acks


def test_large_calls_that_wait_are_acknowledged_by_their_bytes(line: Line) -> None:
    queue = line.make("Queue", 1)
    line.call(queue, "put", 0)
    answers = [line.call(queue, "put", "x" * 400) for _ in range(ACK_FRAMES - 1)]
    assert [answer[0] for answer in answers if answer] == [ACK]


def test_any_number_of_keeps_may_come_in_one_piece(line: Line) -> None:
    queue = line.make("Queue")
    line.call(queue, "put_many", [1, 2])
    line.value(queue, "get")
    item = line.next_id
    line.value(queue, "get")
    received = line.session.stream.received
    line.send(*([KEEP, [item]] for _ in range(3000)), [CALL, 50, queue, "qsize", [], 0])
    assert line.session.stream.received == received + 3001
    line.session.finish()
    other = line.world.line()
    assert other.value(queue, "get_delivery") == [2, True]


def test_what_a_call_causes_for_another_of_its_session_goes_out_first(line: Line) -> None:
    event = line.make("Event")
    line.send([CALL, 50, event, "wait", [], 0])
    # A call that comes alone, with everything confirmed: it takes the quick way.
    answers = line.send([CALL, 51, event, "set", [], 0])
    numbers = [number for number, _ in line.session.stream.kept]
    assert [answer[2] for answer in answers] == [50, 51]
    assert numbers == sorted(numbers)
    assert [decode(message[4:]) for _, message in line.session.stream.kept] == answers
    assert line.session.stream.kept_bytes == sum(
        len(message) for _, message in line.session.stream.kept
    )


# Too many answers that nobody has confirmed


@pytest.fixture
def small_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "OUTPUT", 1000)


def fill(line: Line) -> int:
    """Have more answers unconfirmed than the server keeps; return a list that counts calls."""
    log = line.make("list", [])
    broken = line.make("broken")
    line.send([CALL, 50, broken, "large", [2000], 0])
    line.received -= 1  # which the client has not seen yet
    return log


@pytest.mark.usefixtures("small_output")
def test_nothing_is_executed_while_too_many_answers_are_unconfirmed(line: Line) -> None:
    log = fill(line)
    received = line.session.stream.received
    assert line.send([CALL, 51, log, "append", [1], 0], [POST, 52, log, "append", [2], 0]) == []
    assert line.send([CALLS, [[53, log, "append", [3], 0]]]) == []
    # Not received either: the client may send no more than its window, and would send it again.
    assert line.session.stream.received == received
    line.received += 1
    answers = line.send([ACK])
    assert [answer[2] for answer in answers] == [51, 53]
    assert line.session.stream.received == received + 3
    assert line.value(log, "copy") == [1, 2, 3]


@pytest.mark.usefixtures("small_output")
def test_a_call_does_not_overtake_those_that_are_not_executed_yet(line: Line) -> None:
    log = fill(line)
    line.send([CALL, 51, log, "append", [1], 0])
    line.received += 1
    # This one confirms everything, and comes alone.
    line.send([CALL, 52, log, "append", [2], 0])
    assert line.value(log, "copy") == [1, 2]


@pytest.mark.usefixtures("small_output")
def test_what_was_not_executed_comes_again_after_a_cut(world: World, line: Line) -> None:
    log = fill(line)
    calls = [
        [CALL, 51, log, "append", [1], 0],
        [CALLS, [[52, log, "append", [2], 0], [53, log, "append", [3], 0]]],
    ]
    line.send(*calls)
    line.session.detach()
    resume = Resume(line.session.session_id, line.received, 1)
    session = world.core.session_of(line.hello(resume), "peer:0", "", GRACE)
    assert session.stream.received == 3
    line.incoming = FrameBuffer(1 << 30)
    line.attach(line.received)
    assert line.send(*calls)
    assert line.value(log, "copy") == [1, 2, 3]


@pytest.mark.usefixtures("small_output")
def test_a_batch_stops_where_too_many_answers_are_unconfirmed(world: World, line: Line) -> None:
    log, broken = line.make("list", []), line.make("broken")
    batch = [
        [50, broken, "large", [5000], 0],
        [51, log, "append", [1], 0],
        [52, log, "append", [2], 0],
    ]
    answers = line.send([CALLS, batch])
    assert [answer[2] for answer in answers] == [50]
    line.received -= 1
    assert line.send([CALL, 53, log, "append", [3], 0]) == []
    # A resumed client has nothing to say: the rest is executed as soon as there is room.
    line.session.detach()
    line.got.clear()
    line.attach(line.received + 1)
    assert [answer[0] for answer in line.got] == [RESULTS]
    line.send([CALL, 53, log, "append", [3], 0])
    assert line.value(log, "copy") == [1, 2, 3]


@pytest.mark.usefixtures("small_output")
def test_a_call_does_not_overtake_the_rest_of_a_batch(line: Line) -> None:
    log, broken = line.make("list", []), line.make("broken")
    batch = [[50, broken, "large", [5000], 0], [51, log, "append", [1], 0]]
    line.send([CALLS, batch])
    # This one confirms everything, and comes alone.
    line.send([CALL, 52, log, "append", [2], 0])
    assert line.value(log, "copy") == [1, 2]


@pytest.mark.usefixtures("small_output")
def test_who_sends_on_and_on_is_stopped(line: Line) -> None:
    log = fill(line)
    data = frame(encode([POST, line.received, 51, log, "append", [1], 0])) * 1000

    def go_on() -> None:
        for _ in range(1000):
            line.send_bytes(data)

    with pytest.raises(ProtocolError, match="more was sent than the limits allow"):
        go_on()
    assert len(line.session._inbox) < 10**6


# A connection that takes no more


def test_nothing_is_executed_while_what_was_written_is_not_read(line: Line) -> None:
    log = line.make("list", [])
    received = line.session.stream.received
    line.session.hold_back()
    # One that comes alone, several in one piece, a batch.
    assert line.send([CALL, 51, log, "append", [1], 0]) == []
    assert line.send([CALL, 52, log, "append", [2], 0], [POST, 53, log, "append", [3], 0]) == []
    assert line.send([CALLS, [[54, log, "append", [4], 0], [55, log, "append", [5], 0]]]) == []
    assert line.session.stream.received == received
    line.session.go_on()
    assert [answer[0] for answer in line.got] == [RESULT, RESULT, RESULTS]
    assert line.session.stream.received == received + 4
    assert line.value(log, "copy") == [1, 2, 3, 4, 5]


def test_it_goes_on_when_both_answers_and_connection_have_room(
    line: Line, small_output: None
) -> None:
    log = fill(line)
    line.session.hold_back()
    line.send([CALL, 51, log, "append", [1], 0])
    line.session.go_on()
    assert line.got == []
    line.session.hold_back()
    line.received += 1
    assert line.send([ACK]) == []
    line.session.go_on()
    assert [answer[2] for answer in line.got] == [51]


def test_who_held_back_is_told_how_much_was_received(line: Line) -> None:
    log = line.make("list", [])
    posts = [[POST, 100 + number, log, "append", [1], 0] for number in range(ACK_FRAMES)]
    line.session.hold_back()
    assert line.send(*posts) == []
    line.session.go_on()
    assert line.got == [[ACK, 1 + ACK_FRAMES]]


def test_what_others_cause_is_told_though_nothing_is_executed(world: World, line: Line) -> None:
    event = line.make("Event")
    line.call(event, "wait")
    line.session.hold_back()
    line.got.clear()
    world.line().call(event, "set")
    assert [answer[0] for answer in line.got] == [RESULT]


def test_a_new_connection_takes_everything_again(world: World, line: Line) -> None:
    log = line.make("list", [])
    line.session.hold_back()
    line.send([CALL, 51, log, "append", [1], 0])
    line.session.detach()
    line.session.go_on()  # by the old connection
    line.incoming = FrameBuffer(1 << 30)
    resumed(world, line, line.received, 1)
    line.attach(line.received)
    assert [answer[2] for answer in line.send([CALL, 51, log, "append", [1], 0])] == [51]
    assert line.value(log, "copy") == [1]


def test_what_waits_and_is_out_of_order_is_told_to_who_goes_on(line: Line) -> None:
    line.session.hold_back()
    line.send([CALLS, "nothing"])
    with pytest.raises(BadEncoding):
        line.session.go_on()


def test_who_confirms_what_he_cannot_have_read_breaks_the_protocol(line: Line) -> None:
    # The second call was written before the answer of the first one, which it confirms.
    calls = (
        encode([CALL, line.received, 51, 0, "names", [], 0]),
        encode([CALL, line.received + 1, 52, 0, "names", [], 0]),
    )
    with pytest.raises(ProtocolError, match="only 0 were written"):
        line.send_bytes(b"".join(map(frame, calls)))


@pytest.mark.parametrize("kind", [ACK, BYE])
def test_nor_may_another_message_confirm_it(line: Line, kind: int) -> None:
    call = encode([CALL, line.received, 51, 0, "names", [], 0])
    with pytest.raises(ProtocolError, match="only 0 were written"):
        line.send_bytes(frame(call) + frame(encode([kind, line.received + 1])))


# Connections


def resumed(world: World, line: Line, received: int, attachment: int) -> ServerSession:
    resume = Resume(line.session.session_id, received, attachment)
    return world.core.session_of(line.hello(resume), "peer:0", "", GRACE)


def test_answers_that_did_not_arrive_are_sent_again(world: World, line: Line) -> None:
    line.call(0, "names")
    line.call(0, "statistics")
    first, second = (list(message) for _, message in line.session.stream.kept), line.got
    line.session.detach()
    line.incoming, line.got = FrameBuffer(1 << 30), []
    assert resumed(world, line, 1, 1) is line.session
    line.attach(1)
    assert line.got == second
    assert len(list(first)) == 1


def test_an_older_connection_is_told_and_its_bytes_do_not_count(world: World, line: Line) -> None:
    old = line.got
    half = frame(encode([CALL, 0, 60, 0, "names", [], 0]))
    line.send_bytes(half[:5])
    resumed(world, line, 0, 1)
    line.session.attach(lambda data: None, lambda: None, 0)
    assert [message[0] for message in old] == [GOAWAY]
    assert old[0][2] == 109
    assert line.closed
    # What the old one brought of a frame is forgotten: a new connection begins anew.
    line.session.receive_data(half)
    assert line.session.stream.received == 1


@pytest.mark.parametrize("attachment", [0, 1])
def test_an_attempt_that_was_overtaken_is_refused(
    world: World, line: Line, attachment: int
) -> None:
    resumed(world, line, 0, 1)
    with pytest.raises(SessionMoved):
        resumed(world, line, 0, attachment)
    resumed(world, line, 0, 2)


def test_a_session_belongs_to_its_principal(world: World, line: Line) -> None:
    resume = Resume(line.session.session_id, 0, 1)
    with pytest.raises(SessionLost):
        world.core.session_of(line.hello(resume), "peer:1", "", GRACE)


def test_a_count_that_cannot_be_right_leaves_the_session_where_it_is(
    world: World, line: Line
) -> None:
    line.call(0, "names")
    with pytest.raises(ProtocolError):
        resumed(world, line, 2, 1)
    assert line.session.attached
    line.send([ACK])
    with pytest.raises(ProtocolError):
        resumed(world, line, 0, 1)
    assert resumed(world, line, 1, 1) is line.session


def test_a_session_waits_for_its_client_and_ends(world: World, line: Line) -> None:
    line.session.detach()
    line.session.detach()
    world.clock.advance(GRACE - 1)
    assert resumed(world, line, 0, 1) is line.session
    line.attach()
    world.clock.advance(10 * GRACE)
    assert not line.session.ended
    line.session.detach()
    world.clock.advance(GRACE)
    assert line.session.ended
    with pytest.raises(SessionLost):
        resumed(world, line, 0, 2)
    with pytest.raises(SessionLost):
        line.attach()


def test_a_connection_that_is_closed_leaves_a_session_that_waits(world: World, line: Line) -> None:
    line.session.close(111, "nobody there")
    assert line.got == [[GOAWAY, 0, 111, "nobody there"]]
    assert line.closed
    assert not line.session.attached
    line.session.close(111, "nobody there")
    line.session.detach()
    assert world.clock.running == 1
    world.clock.advance(GRACE)
    assert line.session.ended


def test_a_session_that_has_ended_executes_nothing(world: World, line: Line) -> None:
    other = world.line()
    log = other.make("list", [])
    append = [CALL, 50, log, "append", [1], 0]
    assert line.send([BYE], append) == []
    assert line.session.ended
    assert line.send(append) == []
    assert line.send(append, append) == []
    assert other.value(log, "length") == 0


def test_who_waits_is_passed_over_while_it_is_away(world: World, line: Line) -> None:
    other = world.line()
    q = other.make("Queue")
    line.send([CALL, 50, q, "get", [], 0])
    other.send([CALL, 60, q, "get", [], 0])
    line.session.detach()
    other.send([CALL, 61, q, "put", [1], 0])
    assert line.session.stream.sent == 0
    other.value(q, "put", 2)
    line.got.clear()
    line.attach()
    assert [message[2:] for message in line.got] == [[50, 2]]


def test_an_ending_session_gives_nothing_to_itself(world: World, line: Line) -> None:
    other = world.line()
    lock = other.make("Lock")
    line.send([CALL, 50, lock, "acquire_fenced", [], 1])
    line.send([CALL, 51, lock, "acquire_fenced", [], 2])
    other.send([CALL, 60, lock, "acquire_fenced", [], 1])
    other.got.clear()
    line.send([BYE])
    assert [message[2:] for message in other.got] == [[60, 2]]


def test_a_client_that_died_loses_all_its_sessions(world: World) -> None:
    line = world.line()
    second = Line(world, line.name).attach()
    other = world.line()
    lock = other.make("Lock")
    second.send([CALL, 50, lock, "acquire_fenced", [], 1])
    world.core.client_died(line.name.to_bytes(16, "big"))
    assert (line.session.ended, second.session.ended, other.session.ended) == (True, True, False)
    assert line.got[-1][0] == second.got[-1][0] == GOAWAY
    assert line.closed
    assert second.closed
    assert other.value(lock, "locked") is False
    world.core.client_died(b"nobody")


def test_the_sessions_of_a_dead_client_end_at_once(world: World, line: Line) -> None:
    second = Line(world, line.name).attach()
    other = world.line()
    barriers = [other.make("Barrier", 2, "action") for _ in range(2)]
    for barrier, (acts, waits) in zip(barriers, [(line, second), (second, line)], strict=True):
        acts.send([CALL, 50 + barrier, barrier, "arrive", [], 1])
        waits.send([CALL, 60 + barrier, barrier, "arrive", [1.0], 1])
    world.clock.advance(1.0)  # too late, but for the action
    world.core.client_died(line.name.to_bytes(16, "big"))
    # A party that is dead breaks nothing, whichever session came first.
    assert [other.value(barrier, "broken") for barrier in barriers] == [False, False]
    assert [other.value(barrier, "n_waiting") for barrier in barriers] == [0, 0]


def test_a_deadline_runs_while_the_client_is_away(world: World, line: Line) -> None:
    q = line.make("Queue")
    line.send([CALL, 50, q, "get", [True, 2.0], 0])
    line.session.detach()
    world.clock.advance(2.0)
    line.got.clear()
    line.attach(line.received)
    assert [message[2:4] for message in line.got] == [[50, 405]]
    assert line.session.waiting == 0


def test_a_timer_of_a_call_that_was_answered_is_cancelled(world: World, line: Line) -> None:
    q = line.make("Queue")
    line.send([CALL, 50, q, "get", [True, 2.0], 0])
    assert world.clock.running == 1
    line.send([CALL, 51, q, "put", [1], 0])
    assert world.clock.running == 0
    line.send([CALL, 52, q, "get", [True, 2.0], 0])
    assert line.send([CANCEL, 52])[0][2:] == [52, 0]
    assert world.clock.running == 0


def test_an_object_that_is_deleted_ends_the_waits_for_it(world: World, line: Line) -> None:
    other = world.line()
    q = line.value(0, "named", "Queue", "jobs", [])
    line.send([CALL, 50, q, "get", [], 0])
    line.got.clear()
    other.value(0, "delete", "jobs")
    assert [message[2:4] for message in line.got] == [[50, 302]]
    assert line.session.waiting == 0


# Keep and cancel


@pytest.mark.parametrize(
    ("between", "outcome"),
    [
        ([], 0),
        ([[KEEP, [50]]], 0),
        ([[KEEP, [50]], [KEEP, [50]]], 0),
        ([[KEEP, [50]], [POST, 51, 0, "names", [], 0]], 1),
        ([[KEEP, [50]], [CALL, 51, 0, "names", [], 0]], 1),
        ([[KEEP, [50]], [CANCEL, 49]], 1),
    ],
    ids=str,
)
def test_a_cancel_undoes_what_was_not_kept_or_kept_last(
    line: Line, between: list[Any], outcome: int
) -> None:
    q = line.make("Queue")
    line.value(q, "put", "item")
    line.send([CALL, 50, q, "get", [], 0])
    for message in between:
        line.send(message)
    answers = line.send([CANCEL, 50])
    assert answers[-1][2:] == [50, outcome]
    assert line.value(q, "qsize") == 1 - outcome
    assert line.session.waiting == 0


def test_a_cancel_of_what_is_done_says_so(line: Line) -> None:
    event = line.make("Event")
    line.send([CALL, 50, event, "is_set", [], 0])
    assert line.send([CANCEL, 50])[0][:4:2] == [CANCELLED, 50]
    assert line.send([CANCEL, 50])[0][3] == 1
    assert line.send([CANCEL, 77])[0][3] == 1


def test_a_keep_of_what_waits_or_is_not_known_does_no_harm(line: Line) -> None:
    event = line.make("Event")
    line.send([CALL, 50, event, "wait", [], 0])
    line.send([KEEP, [50, 77]])
    assert line.session.waiting == 1
    answers = line.send([CALL, 51, event, "set", [], 0])
    assert sorted(answer[2] for answer in answers) == [50, 51]


@pytest.mark.parametrize("well", [True, False])
def test_what_was_not_kept_comes_back_when_the_session_ends(
    world: World, line: Line, well: bool
) -> None:
    other = world.line()
    q = other.make("Queue")
    for number in range(3):
        other.value(q, "put", number)
    for call_id in (50, 51):
        line.send([CALL, call_id, q, "get", [], 0])
    line.send([KEEP, [50]])
    if well:
        line.send([BYE])
    else:
        world.core.client_died(line.session.client.id)
    assert other.value(q, "get_many", 9) == [1, 2]


def test_errors_are_of_the_classes_that_their_codes_say(line: Line) -> None:
    assert isinstance(line.error(0, "nothing"), AttributeError)
    assert isinstance(line.error(0, "names", 1), TypeError)
    assert isinstance(line.error(0, "delete", "x"), KeyError)
    with pytest.raises(BadEncoding):
        line.send([KEEP, None])


# What travels as a plain type is of exactly that type


@pytest.mark.parametrize(
    ("kind", "name", "arguments"),
    [
        ("Queue", "get", [0]),
        ("Queue", "get", [1]),
        ("Lock", "acquire_fenced", [1]),
        ("list", "get_item", [True]),
        ("list", "get_item", [0.0]),
        ("list", "get_item", ["0"]),
        ("Queue", "get", [False, True]),
        ("Queue", "get", [False, "1"]),
        ("Lock", "acquire_fenced", [True, None, b"owner"]),
    ],
)
def test_numbers_are_no_bools_and_bools_no_numbers(
    line: Line, kind: str, name: str, arguments: list[Any]
) -> None:
    assert isinstance(line.error(line.make(kind), name, *arguments), BadParameters)


def test_an_integer_is_taken_for_a_float(line: Line) -> None:
    assert line.value(line.make("Event"), "wait", 0) is False


# What a server is made with


@pytest.mark.parametrize("size", [0, 8191, (1 << 30) + 1])
def test_limits_of_frames_are_limited(size: int) -> None:
    with pytest.raises(ValueError, match="from 8192 to 1073741824 bytes"):
        World(frame=size)


class Impostor(SharedObject, name="dict"):
    """A type of a user's, named like a built-in one."""


def test_no_type_replaces_another_one() -> None:
    with pytest.raises(ValueError, match=r"objects\.dict\.Dict and .*test_server\.Impostor"):
        Store([*TYPES, Impostor])
    Store([*TYPES, Broken, Broken])  # named twice, but one
