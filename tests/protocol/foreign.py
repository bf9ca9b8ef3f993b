"""A client written from the pages in protocol/ alone, of level 3: it never imports aiomanager.

It makes one call at a time, except that `send_call` leaves a call under way. Values are those that
travel as themselves; keys are text. The numbers in comments are those of the rules.
"""

import hashlib
import hmac
import os
import socket
import time
from collections import deque
from typing import Any
from urllib.parse import unquote, urlsplit

import msgpack

PREFACE = bytes.fromhex("41494f4d010d0a00")
CALL, POST, CANCEL, KEEP, HOLD, RELEASE, BYE = range(7)
RESULT, ERROR, CANCELLED, ACK, GOAWAY = 16, 17, 18, 32, 33
HELLO, CHALLENGE, PROOF, WELCOME, REFUSED = range(64, 69)
MANAGER = 0


class RemoteError(Exception):
    """An ERROR, GOAWAY or REFUSED: its code, its words, its data."""

    def __init__(self, code: int, words: str, data: Any = None) -> None:
        super().__init__(code, words, data)
        self.code = code
        self.data = data


def key(text: str) -> bytes:
    """The canonical bytes of a key that is text (K-6)."""
    return msgpack.packb(text)


def frame(*fields: Any) -> bytes:
    """A message with its length (F-1)."""
    payload = msgpack.packb(list(fields))
    return len(payload).to_bytes(4, "big") + payload


def mac(secret: bytes, data: bytes) -> bytes:
    return hmac.new(secret, data, hashlib.sha256).digest()


class ForeignClient:
    """One session with the server at a URL, by a key or as the server's own user."""

    def __init__(self, url: str, secret: bytes | None = None) -> None:
        self.url = urlsplit(url)
        self.secret = secret
        self.client = os.urandom(16)
        self.socket: Any = None
        self.session: bytes | None = None
        self.attachment = 0
        self.received = self.sent = self.confirmed = self.unsaid = self.told = 0
        self.kept: deque[bytes] = deque()
        self.last_call = 0
        self.answers: dict[int, list[Any]] = {}
        self.outcomes: dict[int, int] = {}
        self.resume()

    # The connection and the handshake

    def _connect(self) -> socket.socket:
        if self.url.scheme == "unix":
            connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connected.connect(unquote(self.url.path))
        else:
            connected = socket.create_connection((self.url.hostname, self.url.port))
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.settimeout(20)
        return connected

    def _shake_hands(self) -> None:
        resume = None
        if self.session is not None:
            self.attachment += 1  # H-23
            resume = [self.session, self.received, self.attachment]
        hello = frame(
            HELLO,
            {
                "versions": [1],
                "auth": ["peer"] if self.secret is None else ["hmac-sha256"],  # H-11
                "nonce": os.urandom(32),
                "agent": "foreign/1",
                "client": self.client,
                "pid": os.getpid(),
                "host": "",
                "resume": resume,
                "capabilities": [],
            },
        )
        self.socket.sendall(PREFACE + hello)
        answer = self._read_frame()
        proven = b""
        if self.secret is not None and msgpack.unpackb(answer[4:])[0] == CHALLENGE:
            transcript = hashlib.sha256(PREFACE + hello + answer).digest()
            proof = mac(mac(self.secret, b"aiomanager 1 client"), transcript)
            self.socket.sendall(frame(PROOF, {"proof": proof}))
            proven = transcript + proof
            answer = self._read_frame()
        kind, *fields = msgpack.unpackb(answer[4:])
        if kind == REFUSED:
            raise RemoteError(*fields[:2])
        assert kind == WELCOME
        body, theirs = fields[:2]
        if self.secret is not None:  # H-12, H-15
            ours = mac(mac(self.secret, b"aiomanager 1 server"), proven + body)
            assert proven
            assert hmac.compare_digest(ours, theirs)
        welcome = msgpack.unpackb(body)
        assert welcome["resumed"] == (self.session is not None)
        self.session, self.limits = welcome["session"], welcome["limits"]
        self._confirm(welcome["received"])
        self.told, self.unsaid = self.received, 0
        for kept in self.kept:  # S-3
            self.socket.sendall(kept)

    def _read(self, size: int) -> bytes:
        pieces = []
        while size:
            piece = self.socket.recv(min(size, 1 << 16))
            if not piece:
                raise ConnectionResetError("the server closed the connection")
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def _read_frame(self) -> bytes:
        length = self._read(4)
        return length + self._read(int.from_bytes(length, "big"))

    def cut(self) -> None:
        """Lose the connection, with whatever was on its way."""
        self.socket.close()

    def resume(self) -> None:
        """Go on over a new connection, or begin."""
        older, self.socket = self.socket, self._connect()
        try:
            self._shake_hands()
        except BaseException:
            self.socket.close()
            raise
        finally:
            if older is not None:
                older.close()  # whatever it still brings is not read (F-10)

    # The stream

    def _confirm(self, count: int) -> None:
        assert count <= self.sent
        while self.confirmed < count:
            self.confirmed += 1
            self.kept.popleft()

    def _send(self, kind: int, *fields: Any) -> None:
        data = frame(kind, self.received, *fields)
        self.sent += 1
        self.kept.append(data)
        self.told, self.unsaid = self.received, 0
        try:
            self.socket.sendall(data)
        except OSError:
            pass  # it is kept, and sent when the session is resumed

    def _receive(self) -> None:
        """Read one message and note what it says."""
        data = self._read_frame()[4:]
        kind, ack, *fields = msgpack.unpackb(data)
        self._confirm(ack)
        if kind == GOAWAY:
            raise RemoteError(*fields[:2])
        if kind >= ACK:  # M-6
            return
        self.received += 1
        self.unsaid += len(data)
        if kind == CANCELLED:
            self.outcomes[fields[0]] = fields[1]
        else:
            self.answers[fields[0]] = [kind, *fields[1:]]
        if self.unsaid >= 1 << 16 or self.received - self.told >= 256:  # S-6
            self.socket.sendall(frame(ACK, self.received))
            self.told, self.unsaid = self.received, 0

    # Calls

    def send_call(self, object_id: int, operation: str, *arguments: Any, owner: int = 0) -> int:
        """Send a call and return its id."""
        assert len(self.kept) < self.limits["calls"]  # S-7: one call at a time stays below
        self.last_call += 1
        self._send(CALL, self.last_call, object_id, operation, list(arguments), owner)
        return self.last_call

    def answer(self, call_id: int) -> Any:
        """Wait for a call's answer and return its result."""
        while call_id not in self.answers:
            self._receive()
        kind, *fields = self.answers.pop(call_id)
        if kind == ERROR:
            raise RemoteError(*fields[:3])
        return fields[0]

    def call(self, object_id: int, operation: str, *arguments: Any, owner: int = 0) -> Any:
        return self.answer(self.send_call(object_id, operation, *arguments, owner=owner))

    def post(self, object_id: int, operation: str, *arguments: Any, owner: int = 0) -> None:
        self.last_call += 1
        self._send(POST, self.last_call, object_id, operation, list(arguments), owner)

    def cancel(self, call_id: int) -> int:
        """Take a call back and return the outcome (S-31)."""
        self._send(CANCEL, call_id)
        while call_id not in self.outcomes:
            self._receive()
        outcome = self.outcomes.pop(call_id)
        if outcome == 0:
            self.answers.pop(call_id, None)
        return outcome

    def keep(self, call_id: int) -> None:
        self._send(KEEP, [call_id])

    def get(self, queue: int, *arguments: Any) -> Any:
        """Get an item from a queue: it is ours before it is returned (S-34)."""
        item = self.call(queue, "get", *arguments)
        self.keep(self.last_call)
        return item

    def create(self, type_name: str, *arguments: Any) -> int:
        made: int = self.call(MANAGER, "create", type_name, list(arguments))
        return made

    def named(self, type_name: str, name: str, *arguments: Any) -> int:
        found: int = self.call(MANAGER, "named", type_name, name, list(arguments))
        return found

    def hold(self, object_id: int) -> None:
        self._send(HOLD, [object_id])

    def release(self, object_id: int) -> None:
        self._send(RELEASE, [object_id])

    def bye(self) -> None:
        """End the session; what the server still says is of no interest."""
        self._send(BYE)
        self.socket.close()

    def wait_until(self, question: Any, *, seconds: float = 10.0) -> None:
        """Ask until the answer is true."""
        end = time.monotonic() + seconds
        while not question():
            assert time.monotonic() < end
            time.sleep(0.005)
