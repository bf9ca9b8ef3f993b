"""The vectors of frames, messages, sessions and errors against both ends, and the pages' tables.

Every dialogue of sessions.json is played twice: its client's bytes to a `ServerCore`, and its
server's bytes to `ClientSession`s, which are made to say what the client says.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from aiomanager import errors
from aiomanager.cli.operations import table
from aiomanager.errors import (
    BadEncoding,
    FrameTooLarge,
    ManagerError,
    ProtocolError,
    SessionLost,
    SessionMoved,
    code_of,
    exception_of,
)
from aiomanager.objects import TYPES
from aiomanager.protocol import messages as message_types
from aiomanager.protocol.frames import MAX_FRAME, FrameBuffer, frame
from aiomanager.protocol.handshake import Hello, Resume
from aiomanager.protocol.keys import KeyCodec
from aiomanager.protocol.messages import decode, encode
from aiomanager.protocol.stream import ACK_BYTES, ACK_FRAMES
from aiomanager.protocol.values import ValueCodec
from aiomanager.sessions import server as server_room
from aiomanager.sessions.client import ClientSession, error_of
from aiomanager.sessions.server import DEFAULT_LIMITS, LINGER, OUTPUT, ServerCore, ServerSession
from aiomanager.sessions.store import Manager as SharedManager
from aiomanager.sessions.store import Store

ROOT = Path(__file__).parents[2]
PAGES = {path.name: path.read_text() for path in sorted((ROOT / "protocol").glob("*.md"))}


def vectors(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((ROOT / "protocol" / "vectors" / name).read_text())
    assert len({json.dumps(vector) for vector in found}) == len(found)
    return found


FRAMES = vectors("frames.json")
MESSAGES = [vector for vector in vectors("messages.json") if "fields" in vector]
REJECTED = [vector for vector in vectors("messages.json") if "error" in vector]
DIALOGUES = vectors("sessions.json")
ERRORS = vectors("errors.json")

GRACE = 10.0
ANSWERS = (message_types.RESULT, message_types.ERROR)
LIMITS = DEFAULT_LIMITS | {"frame": 1 << 24}


def by_id(vector: dict[str, Any]) -> str:
    return str(vector["id"])


def bytes_of(parts: str | list[Any]) -> bytes:
    """Bytes are hex, or a list of pairs: hex, and how often it comes."""
    if isinstance(parts, str):
        return bytes.fromhex(parts)
    return b"".join(bytes.fromhex(hexadecimal) * times for hexadecimal, times in parts)


def untagged(value: Any) -> Any:
    """Lists stand for arrays, `{"bytes": hex}` for bin, all else for itself."""
    if isinstance(value, list):
        return [untagged(item) for item in value]
    if isinstance(value, dict):
        return bytes.fromhex(value["bytes"]) if "bytes" in value else value
    return value


# Frames -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", FRAMES, ids=by_id)
def test_frames(vector: dict[str, Any]) -> None:
    buffer = FrameBuffer(vector["limit"])
    pieces = [bytes_of(piece) for piece in vector["pieces"]]
    found: list[bytes] = []
    error: ManagerError | None = None
    for piece in pieces:
        try:
            found += buffer.feed(piece)
        except ManagerError as caught:
            error = caught
    assert found == [bytes_of(payload) for payload in vector["payloads"]]
    assert (None if error is None else error.code) == vector.get("error")
    if error is None:
        together = b"".join(pieces)
        whole = b"".join(map(frame, found))
        assert together.startswith(whole)
        assert len(buffer) <= len(together) - len(whole)


# Messages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", MESSAGES, ids=by_id)
def test_messages(vector: dict[str, Any]) -> None:
    data, fields = bytes.fromhex(vector["hex"]), untagged(vector["fields"])
    assert decode(data) == fields
    assert msgpack.unpackb(data) == fields
    assert getattr(message_types, vector["type"]) == fields[0]
    if vector.get("form") != "decode":
        assert encode(fields) == data


def test_every_type_of_message_has_vectors() -> None:
    assert {vector["type"] for vector in MESSAGES} == set(message_numbers())


def message_numbers() -> dict[str, int]:
    """The types of messages that the code knows."""
    return {
        name: number
        for name, number in vars(message_types).items()
        if name.isupper() and type(number) is int and not name.startswith(("_", "FIRST_"))
    }


@pytest.mark.parametrize(
    "vector", [vector for vector in REJECTED if vector["to"] != "client"], ids=by_id
)
def test_a_server_rejects(vector: dict[str, Any]) -> None:
    server = Server(["a"])
    server.receive("a", frame(bytes.fromhex(vector["hex"])))
    assert decode(server.written["a"][4:])[:3] == [33, server["a"].stream.received, vector["error"]]
    assert "a" in server.closed
    assert server["a"].ended


@pytest.mark.parametrize(
    "vector", [vector for vector in REJECTED if vector["to"] != "server"], ids=by_id
)
def test_a_client_rejects(vector: dict[str, Any]) -> None:
    session: ClientSession[int] = ClientSession(bytes(16), LIMITS)
    with pytest.raises(ProtocolError) as caught:
        session.receive_data(frame(bytes.fromhex(vector["hex"])))
    assert caught.value.code == vector["error"]


# Sessions ---------------------------------------------------------------------------------------


class Timer:
    def __init__(self, due: float, function: Callable[[], None]) -> None:
        self.due = due
        self.function = function
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeHands:
    """Time that stands until it is moved, and ids in order."""

    def __init__(self) -> None:
        self.time = 0.0
        self.timers: list[Timer] = []
        self.ids = iter(range(1, 256))

    def call_later(self, seconds: float, function: Callable[[], None], /) -> Timer:
        timer = Timer(self.time + seconds, function)
        self.timers.append(timer)
        return timer

    def now(self) -> float:
        return self.time

    def new_id(self) -> bytes:
        return bytes([next(self.ids)]) * 16

    def report(self, message: str, error: BaseException, /) -> None:
        raise AssertionError(message) from error

    def advance(self, seconds: float) -> None:
        self.time += seconds
        while due := [timer for timer in self.timers if timer.due <= self.time]:
            first = min(due, key=lambda timer: timer.due)
            self.timers.remove(first)
            if not first.cancelled:
                first.function()


def hello_of(name: str, resume: Resume | None) -> Hello:
    return Hello(
        versions=(1,),
        auth=("peer",),
        nonce=bytes(32),
        agent="vectors",
        client=name.encode() * 16,
        pid=ord(name),
        host="",
        resume=resume,
        capabilities=(),
    )


class Server:
    """A server core and the connections to it, as a listener would keep them."""

    def __init__(self, names: list[str], implicit: list[str] | None = None) -> None:
        self.implicit = implicit or ()
        self.hands = FakeHands()
        self.core = ServerCore(Store(TYPES), self.hands, limits=LIMITS)
        self.sessions: dict[str, ServerSession] = {}
        self.written = dict.fromkeys(names, b"")
        self.closed: set[str] = set()
        for name in names:
            self.connect(name, None)

    def __getitem__(self, name: str) -> ServerSession:
        return self.sessions[name]

    def connect(self, name: str, resume: Resume | None) -> int:
        """Attach a session; return how many messages it has received."""
        session = self.core.session_of(hello_of(name, resume), "peer:1", f"pid {name}", GRACE)
        self.sessions[name] = session
        self.closed.discard(name)
        received = session.stream.received

        def write(data: bytes) -> None:
            self.written[name] += data

        session.attach(
            write,
            lambda: self.closed.add(name),
            resume.received if resume else 0,
            implicit_keep=name in self.implicit,
        )
        return received

    def receive(self, name: str, data: bytes) -> None:
        session = self.sessions[name]
        try:
            session.receive_data(data)
        except ProtocolError as error:
            session.close(error.code, str(error))
            session.finish()
            self.core.flush()

    def take(self, name: str) -> bytes:
        written, self.written[name] = self.written[name], b""
        return written


def split(data: bytes) -> list[list[Any]]:
    """Read frames apart without the code under test."""
    found = []
    while data:
        size = int.from_bytes(data[:4], "big")
        found.append(msgpack.unpackb(data[4 : 4 + size], strict_map_key=False))
        data = data[4 + size :]
    return found


def without_words(data: bytes) -> list[bytes | list[Any]]:
    """The frames; of ERROR and GOAWAY, whose words are free, the fields without them."""
    found: list[bytes | list[Any]] = []
    while data:
        size = 4 + int.from_bytes(data[:4], "big")
        if len(data) > 5 and data[5] in (message_types.ERROR, message_types.GOAWAY):
            fields = msgpack.unpackb(data[4:size])
            place = 4 if fields[0] == message_types.ERROR else 3
            assert isinstance(fields.pop(place), str)
            found.append(fields)
        else:
            found.append(data[:size])
        data = data[size:]
    return found


@pytest.mark.parametrize("dialogue", DIALOGUES, ids=by_id)
def test_the_server_in_dialogues(dialogue: dict[str, Any]) -> None:
    server = Server(dialogue["sessions"], dialogue.get("implicit"))
    for step in dialogue["steps"]:
        name = step.get("on", "a")
        if "client" in step:
            if not step.get("lost"):
                server.receive(name, bytes_of(step["client"]))
        elif "server" in step:
            expected = bytes_of(step["server"])
            assert without_words(server.take(name)) == without_words(expected), step["says"]
        elif "wait" in step:
            server.hands.advance(step["wait"])
        elif "cut" in step:
            assert server.take(name) == b""
            server[name].detach()
            server.core.flush()
        elif "dies" in step:
            if step.get("read"):
                server[name].answers_read(server[name].written)
            server.core.client_died(name.encode() * 16)
        elif "closed" in step:
            assert name in server.closed
        elif "refused" in step:
            with pytest.raises(ManagerError) as caught:
                server.connect(name, resume_of(server[name].session_id, step))
            assert caught.value.code == step["refused"]
        else:
            if "old" in step:
                assert server.take(name) == b""
            assert server.connect(name, resume_of(server[name].session_id, step)) == step["welcome"]
            if "old" in step:
                goaway = bytes.fromhex(step["old"])
                written = server.take(name)
                assert without_words(written)[:1] == without_words(goaway)
                assert name in server.closed
                server.closed.discard(name)
                server.written[name] = written[4 + int.from_bytes(written[:4], "big") :]
    assert all(written == b"" for written in server.written.values())


def resume_of(session_id: bytes, step: dict[str, Any]) -> Resume:
    received, attachment = step["resume"]
    return Resume(session_id, received, attachment)


@pytest.mark.parametrize(
    "dialogue", [one for one in DIALOGUES if not one.get("server_only")], ids=by_id
)
def test_the_client_in_dialogues(dialogue: dict[str, Any]) -> None:
    sessions = {
        name: ClientSession[int](bytes([place]) * 16, LIMITS)
        for place, name in enumerate(dialogue["sessions"], 1)
    }
    again = dict.fromkeys(sessions, b"")
    crossing = dict.fromkeys(sessions, b"")
    asked: dict[str, set[int]] = {name: set() for name in sessions}
    for step in dialogue["steps"]:
        session = sessions[name := step.get("on", "a")]
        if "client" in step:
            data = bytes_of(step["client"])
            for one in frames_of(data):
                if again[name]:
                    assert again[name].startswith(one)
                    again[name] = again[name][len(one) :]
                else:
                    message = decode(one[4:])
                    say(session, message)
                    if message[0] == message_types.CALL:
                        asked[name].add(message[2])
                    elif message[0] == message_types.CALLS:
                        asked[name] |= {call_id for call_id, *_ in message[2]}
                    elif message[0] == message_types.CANCEL:
                        asked[name].discard(message[2])
                    assert b"".join(session.data_to_send()) == one, step["says"]
        elif "server" in step:
            data = crossing[name] + bytes_of(step["server"])
            crossing[name] = data if step.get("crosses") else b""
            if not step.get("lost") and not step.get("crosses"):
                answered = session.receive_data(data)
                # After a CANCEL, a call is answered by its CANCELLED alone.
                assert [message for _, message in answered] == [
                    message
                    for message in one_by_one(split(data))
                    if message[0] == message_types.CANCELLED
                    or (message[0] in ANSWERS and message[2] in asked[name])
                ]
                assert all(waiting == message[2] for waiting, message in answered)
                asked[name] -= {waiting for waiting, _ in answered}
        elif "cut" in step:
            session.detach()
        elif "refused" in step:
            assert session.resumption() == resume_of(session.session_id, step)
            assert isinstance(exception_of(step["refused"], ""), SessionLost)
            session.end()
        elif "resume" in step:
            session.detach()
            assert session.resumption() == resume_of(session.session_id, step)
            session.attach(step["welcome"])
            again[name] = b"".join(session.data_to_send())
        elif "closed" in step:
            assert isinstance(session.goaway, SessionLost)
            session.detach()
    assert not any(again.values())


def one_by_one(messages: list[list[Any]]) -> Iterator[list[Any]]:
    """The same messages, but each part of a RESULTS as a RESULT."""
    for message in messages:
        if message[0] == message_types.RESULTS:
            yield from ([message_types.RESULT, message[1], *item] for item in message[2])
        else:
            yield message


def frames_of(data: bytes) -> Iterator[bytes]:
    while data:
        size = 4 + int.from_bytes(data[:4], "big")
        yield data[:size]
        data = data[size:]


def say(session: ClientSession[int], message: list[Any]) -> None:
    """Have a client's session say what `message` says."""
    kind, _, *fields = message
    if kind == message_types.CALL:
        call_id, object_id, name, arguments, owner = fields
        assert session.call(call_id, object_id, name, arguments, owner) == call_id
    elif kind == message_types.CALLS:
        for call_id, object_id, name, arguments, owner in fields[0]:
            assert session.call(call_id, object_id, name, arguments, owner) == call_id
    elif kind == message_types.POST:
        _, object_id, name, arguments, owner = fields
        session.post(object_id, name, arguments, owner)
    elif kind == message_types.CANCEL:
        assert session.cancel(fields[0], fields[0])
    elif kind == message_types.KEEP:
        for call_id in fields[0]:
            session.keep(call_id)
    elif kind == message_types.HOLD:
        session.hold(fields[0])
    elif kind == message_types.RELEASE:
        session.release(fields[0])
    elif kind == message_types.BYE:
        session.bye()


def test_a_client_says_an_ack_of_its_own() -> None:
    session: ClientSession[int] = ClientSession(bytes(16), LIMITS)
    for call_id in range(1, ACK_FRAMES + 1):
        session.call(call_id, 0, "names", [], 0)
        session.data_to_send()
    for call_id in range(1, ACK_FRAMES):
        session.receive_data(frame(encode([16, 256, call_id, None])))
    assert not session.has_output
    session.receive_data(frame(encode([16, 256, ACK_FRAMES, None])))
    assert split(b"".join(session.data_to_send())) == [[32, 256]]
    session.call(257, 0, "names", [], 0)
    session.data_to_send()
    session.receive_data(frame(encode([16, 257, 257, bytes(ACK_BYTES)])))
    assert split(b"".join(session.data_to_send())) == [[32, 257]]


def test_a_goaway_tells_whether_to_resume() -> None:
    for code in (100, 101, 102, 103, 104, 109, 110, 199, 200, 250, 500):
        session: ClientSession[int] = ClientSession(bytes(16), LIMITS)
        session.receive_data(frame(encode([33, 0, code, "words"])))
        assert isinstance(session.goaway, SessionLost), code
    for code in (105, 106, 107, 108, 111):
        session = ClientSession(bytes(16), LIMITS)
        session.receive_data(frame(encode([33, 0, code, "words"])))
        assert not isinstance(session.goaway, SessionLost), code
        session.detach()
        assert session.goaway is None


def test_a_full_server_takes_a_cancel_and_a_keep_for_each_of_its_calls() -> None:
    """However many calls wait, all can be taken back while the server executes nothing."""
    server = Server(["a"])
    many = LIMITS["calls"] * 3
    value = bytes_of([["c600500000", 1], ["00", 5 << 20]])
    server.receive("a", frame(encode([0, 0, 1, 0, "create", ["Queue", []], 0])))
    server.receive("a", frame(encode([0, 1, 2, 0, "create", ["dict", [[[b"\xa1k", value]]]], 0])))
    for call_id in range(3, 3 + many):
        server.receive("a", frame(encode([0, 2, call_id, 1, "get", [], 0])))
    for call_id in (many + 3, many + 4):
        server.receive("a", frame(encode([0, 2, call_id, 2, "get", [b"\xa1k"], 0])))
    assert server["a"].stream.kept_bytes > OUTPUT
    received = server["a"].stream.received
    server.take("a")
    for call_id in range(3, 3 + many):
        server.receive("a", frame(encode([2, 2, call_id])))
    assert not server["a"].ended
    assert server["a"].stream.received == received  # nothing is carried out, nothing is confirmed
    assert server.take("a") == b""
    server.receive("a", frame(encode([32, 4])))
    assert server["a"].stream.received == received + many
    told = [message for message in split(server.take("a")) if message[0] == 18]
    assert [message[2:] for message in told] == [[call_id, 0] for call_id in range(3, 3 + many)]


# Errors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", ERRORS, ids=lambda vector: f"{vector['code']}")
def test_errors(vector: dict[str, Any]) -> None:
    message = decode(bytes.fromhex(vector["hex"]))
    kind, _, _, code, text, data = message
    assert (kind, code) == (message_types.ERROR, vector["code"])
    assert data == untagged(vector["data"])
    keys = KeyCodec(ValueCodec(allow_pickle=False))
    error = error_of(message, keys.decode)
    assert type(error).__name__ == vector["python"]
    if data is not None:
        assert error.args == (keys.decode(data),)
    else:
        assert error.args == (text,)
    if vector["name"] is not None and vector["python"] != "ConnectionLost":
        assert code_of(error) == code


# The pages --------------------------------------------------------------------------------------


def table_rows(page: str) -> list[list[str]]:
    """The cells of every row of every table, without code marks."""
    lines = [line.strip() for line in PAGES[page].splitlines()]
    return [
        [cell.strip().replace("`", "") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in lines
        if line.startswith("|") and not line.startswith("|---")
    ]


def test_the_page_of_errors_is_the_code() -> None:
    rows = {int(row[0]): row[1:] for row in table_rows("errors.md") if row[0].isdigit()}
    known = {vector["code"]: vector for vector in ERRORS if vector["name"]}
    assert rows.keys() == known.keys()
    for code, (name, python, *_) in rows.items():
        assert name == known[code]["name"]
        assert python == known[code]["python"]
        assert type(exception_of(code, "")).__name__ == python
    classes = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, ManagerError)
    ]
    assert {kind.code for kind in classes} <= rows.keys()
    assert set(errors._BUILTIN) <= rows.keys()


def test_the_page_of_messages_is_the_code() -> None:
    rows = {row[1]: row for row in table_rows("messages.md") if row[0].isdigit()}
    numbers = message_numbers()
    assert {name: int(row[0]) for name, row in rows.items()} == numbers
    for name in numbers:
        assert re.search(rf"\*\*M-\d+\*\* [^\n]*{name}", PAGES["messages.md"]), name
    # The examples are vectors.
    examples = re.findall(r"^ {4,6}((?:[0-9a-f]{2} ?)+)(?: |$)", PAGES["messages.md"], re.MULTILINE)
    known = {vector["hex"] for vector in MESSAGES}
    assert len(examples) >= len(numbers)
    assert {example.replace(" ", "") for example in examples} <= known


def test_the_pages_of_operations_and_shapes_are_the_code() -> None:
    kinds = {row[0]: row[1:] for row in table_rows("operations.md")}
    shapes = {row[0] for row in table_rows("messages.md") if len(row) == 2}
    told = " ".join(shapes)
    listed = {kind["name"]: kind for kind in json.loads(table())["types"]}
    for shared in (SharedManager, *TYPES):
        operations = {one["name"]: one for one in listed[shared.type_name]["operations"]}
        assert operations.keys() == shared.operations.keys()
        for name, operation in shared.operations.items():
            later, undone, owned = kinds[operations[name]["kind"]]
            assert later.startswith("at once or later") == operation.waits
            assert (undone == "yes") == operation.consumes
            assert (owned == "yes") == operation.owned
            for shape in (operation.signature.result, *(one.shape for one in operation.parameters)):
                assert set(re.findall(r"[a-z_]+", str(shape))) <= set(re.findall(r"[a-z_]+", told))


def test_the_hello_world_is_a_vector() -> None:
    """The session's bytes on the first page, in order."""
    page = PAGES["README.md"].partition("The session begins")[2]
    shown = re.findall(r"^    ([SC])  ((?:[0-9a-f]{2} ?)+)", page, re.MULTILINE)
    dialogue = next(one for one in DIALOGUES if one["id"] == "hello-world")
    steps = [
        ("C", step["client"]) if "client" in step else ("S", step["server"])
        for step in dialogue["steps"]
    ]
    told: list[tuple[str, str]] = []
    for who, data in shown:
        if told and told[-1][0] == who:
            told[-1] = (who, told[-1][1] + data.replace(" ", ""))
        else:
            told.append((who, data.replace(" ", "")))
    assert told == steps


def test_numbers_of_the_pages_are_those_of_the_code() -> None:
    text = " ".join(PAGES["sessions.md"].split())
    assert (ACK_FRAMES, ACK_BYTES, OUTPUT, LINGER) == (256, 1 << 16, 1 << 23, 60.0)
    for told in ("256 sequenced messages", "64 KiB", "8 MiB", "60 s"):
        assert told in text, told
    assert DEFAULT_LIMITS["calls"] == 1024
    assert DEFAULT_LIMITS["window"] == 4 << 20
    assert DEFAULT_LIMITS["waits"] == 100_000
    assert server_room.MAX_ID == 2**53 - 1
    assert MAX_FRAME == 1 << 30
    assert "2^30" in PAGES["framing.md"]


def test_rules_have_numbers_of_their_own_and_links_lead_somewhere() -> None:
    defined: list[str] = []
    for name, page in PAGES.items():
        defined += re.findall(r"^\s*- \*\*([A-Z]-\d+)\*\*", page, re.MULTILINE)
        for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", page):
            there = ROOT / "protocol" / (target or name)
            assert there.exists(), f"{name}: {target}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE)
                assert anchor in {heading.lower().replace(" ", "-") for heading in headings}
    assert len(set(defined)) == len(defined)
    letters = {rule[0] for rule in defined}
    assert letters == set("EFHKMOSV")
    named: dict[str, str] = {}
    for path in (*(ROOT / "tests").rglob("*.py"), *(ROOT / "aiomanager").rglob("*.py")):
        named |= dict.fromkeys(
            re.findall(r"\b([EFHKMOSV]-\d+)\b(?!\.\d)", path.read_text()), path.name
        )
    for name, page in PAGES.items():
        named |= dict.fromkeys(re.findall(r"\b([EFHKMOSV]-\d+)\b", page), name)
    unknown = {rule: place for rule, place in named.items() if rule not in defined}
    assert not unknown


def test_protocol_errors_keep_their_codes() -> None:
    assert (ProtocolError.code, FrameTooLarge.code, BadEncoding.code) == (100, 101, 102)
    assert (SessionLost.code, SessionMoved.code) == (200, 109)
