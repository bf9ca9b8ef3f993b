"""Both ends of the handshake, as machines from bytes to bytes; they never touch a socket or clock.

The rules, with the number of each, are in protocol/handshake.md. A shell feeds what it received
to `receive_data`, in any pieces, and writes what that returns. Time limits and the source of
random bytes are the shell's.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias, cast

from aiomanager.errors import (
    AuthenticationFailed,
    BadEncoding,
    ConnectionLost,
    FrameTooLarge,
    ManagerError,
    ProtocolError,
    VersionMismatch,
    exception_of,
)
from aiomanager.protocol._msgpack import new_packer, unpack, walk
from aiomanager.protocol.frames import MAX_FRAME, MIN_FRAME

__all__ = (
    "IMPLICIT_KEEP",
    "MAX_HANDSHAKE_FRAME",
    "PREFACE",
    "VERSION",
    "ClientHandshake",
    "Hello",
    "Resume",
    "ServerHandshake",
    "Welcome",
    "WrongPreface",
    "refuse",
)

PREFACE: Final = b"AIOM\x01\r\n\x00"
VERSION: Final = 1
MAX_HANDSHAKE_FRAME: Final = 4096
IMPLICIT_KEEP: Final = "implicit-keep"
"""The capability of sessions that need no KEEP: the next call says it, or how the client ends."""

_HELLO: Final = 64
_CHALLENGE: Final = 65
_PROOF: Final = 66
_WELCOME: Final = 67
_REFUSED: Final = 68

_PEER: Final = "peer"
_HMAC: Final = "hmac-sha256"
_CLIENT_LABEL: Final = b"aiomanager 1 client"
_SERVER_LABEL: Final = b"aiomanager 1 server"

_MAX_TEXT: Final = 200
_MAX_REASON: Final = 350
_MAX_DEPTH: Final = 16
_MAX_UINT: Final = 2**53 - 1


class WrongPreface(ProtocolError):
    """The connection does not begin as this protocol does: close it without an answer."""


class Resume(NamedTuple):
    """A session to take up again, and where its client stands."""

    session: bytes
    received: int
    """How many of its messages the client has received."""
    attachment: int
    """A number that rises with each attempt of the client's, the session's first connection
    being 0: bytes of an attempt that was overtaken cannot move the session back."""


class Hello(NamedTuple):
    """What a client says of itself; nothing of it is proven before `authenticated`."""

    versions: tuple[int, ...]
    auth: tuple[str, ...]
    nonce: bytes
    agent: str
    client: bytes
    pid: int
    host: str
    resume: Resume | None
    capabilities: tuple[str, ...]


class Welcome(NamedTuple):
    """What the server granted: a session, how much of it the server has received, the limits."""

    auth: str
    server: bytes
    session: bytes
    received: int
    resumed: bool
    grace: float
    limits: dict[str, int]
    agent: str
    version: int
    capabilities: tuple[str, ...]


# Messages ---------------------------------------------------------------------------------------


def _frame(message: list[object]) -> bytes:
    payload = new_packer().pack(message)
    if len(payload) > MAX_HANDSHAKE_FRAME:
        raise ValueError(
            f"a handshake message of {len(payload)} bytes; the limit is {MAX_HANDSHAKE_FRAME}"
        )
    return len(payload).to_bytes(4, "big") + payload


def _unique(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    if not all(_is(name, str) for name, _ in pairs):
        raise BadEncoding("a map has a key that is no text")
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise BadEncoding("a map has the same key twice")
    return fields


def _no_extension(code: int, _: bytes) -> Any:
    raise BadEncoding(f"an extension type in the handshake: {code}")


def _is(value: Any, kind: type) -> bool:
    """Tell whether `value` is exactly of `kind`: True is no integer here."""
    return type(value) is kind


def _check_plain(value: Any, depth: int) -> None:
    """Refuse what a handshake cannot hold, in fields that nobody knows too."""
    if _is(value, list) or _is(value, dict):
        if depth == _MAX_DEPTH:
            raise BadEncoding(f"arrays and maps nested deeper than {_MAX_DEPTH}")
        for item in value.values() if _is(value, dict) else value:
            _check_plain(item, depth + 1)
    elif value is not None and type(value) not in (bool, int, float, str, bytes):
        raise BadEncoding("an extension type in the handshake: -1")


def _unpack(payload: bytes) -> Any:
    try:
        # The library allocates what the headers claim, 44 MB for 4 KiB of nested ones: let them
        # be walked over first, which allocates nothing.
        walk(payload, _MAX_DEPTH)
        value = unpack(
            payload, ext_hook=_no_extension, object_pairs_hook=_unique, strict_map_key=False
        )
    except BadEncoding:
        raise
    except (ValueError, RecursionError) as error:
        raise BadEncoding(f"no msgpack message: {str(error) or type(error).__name__}") from None
    _check_plain(value, 0)
    return value


def _message(frame: bytes) -> tuple[int, list[Any]]:
    message = _unpack(frame[4:])
    if not _is(message, list) or not message or not _is(message[0], int):
        raise BadEncoding("a handshake frame must hold an array that begins with its type")
    return message[0], message[1:]


def _fields(items: list[Any]) -> dict[str, Any]:
    if not items or not _is(items[0], dict):
        raise BadEncoding("the message must hold a map")
    fields: dict[str, Any] = items[0]
    return fields


# Fields -----------------------------------------------------------------------------------------


def _is_uint(value: Any) -> bool:
    return _is(value, int) and 0 <= value <= _MAX_UINT


def _is_text(value: Any) -> bool:
    return _is(value, str) and len(value.encode()) <= _MAX_TEXT


def _is_id(value: Any) -> bool:
    return _is(value, bytes) and len(value) == 16


def _is_nonce(value: Any) -> bool:
    return _is(value, bytes) and len(value) == 32


def _is_seconds(value: Any) -> bool:
    # Some languages write a whole float as an integer.
    return type(value) in (int, float) and 0 <= value <= _MAX_UINT


def _is_limits(value: Any) -> bool:
    return (
        _is(value, dict)
        and {"frame", "calls"} <= value.keys()
        and all(map(_is_uint, value.values()))
        and MIN_FRAME <= value["frame"] <= MAX_FRAME
    )


def _is_resume(value: Any) -> bool:
    return value is None or (
        _is(value, list) and len(value) >= 3 and _is_id(value[0]) and all(map(_is_uint, value[1:3]))
    )


_Kind: TypeAlias = tuple[Callable[[Any], bool], str]

_UINT: Final[_Kind] = (_is_uint, "an integer from 0 to 2**53 - 1")
_UINTS: Final[_Kind] = (lambda v: _is(v, list) and all(map(_is_uint, v)), "a list of integers")
_TEXT: Final[_Kind] = (_is_text, f"text of at most {_MAX_TEXT} bytes")
_TEXTS: Final[_Kind] = (lambda v: _is(v, list) and all(map(_is_text, v)), "a list of texts")
_ID: Final[_Kind] = (_is_id, "16 bytes")
_NONCE: Final[_Kind] = (_is_nonce, "32 bytes")
_BOOL: Final[_Kind] = (lambda v: _is(v, bool), "true or false")
_SECONDS: Final[_Kind] = (_is_seconds, "a number of seconds")
_LIMITS: Final[_Kind] = (
    _is_limits,
    f"a map of integers with 'calls', and with 'frame' from {MIN_FRAME} to {MAX_FRAME}",
)
_RESUME: Final[_Kind] = (_is_resume, "nil, or 16 bytes and two integers")


def _take(fields: Mapping[str, Any], name: str, kind: _Kind) -> Any:
    try:
        value = fields[name]
    except KeyError:
        raise BadEncoding(f"the field {name!r} is missing") from None
    fits, description = kind
    if not fits(value):
        raise BadEncoding(f"the field {name!r} must be {description}")
    return value


def _read_hello(fields: Mapping[str, Any]) -> Hello:
    # The versions stand first and alone: a later version may change all other fields.
    versions = tuple(_take(fields, "versions", _UINTS))
    if VERSION not in versions:
        raise VersionMismatch(
            f"the server speaks version {VERSION} of the protocol, the client {versions[:8]}"
        )
    resume = _take(fields, "resume", _RESUME)
    return Hello(
        versions=versions,
        auth=tuple(_take(fields, "auth", _TEXTS)),
        nonce=_take(fields, "nonce", _NONCE),
        agent=_take(fields, "agent", _TEXT),
        client=_take(fields, "client", _ID),
        pid=_take(fields, "pid", _UINT),
        host=_take(fields, "host", _TEXT),
        resume=resume and Resume(*resume[:3]),
        capabilities=tuple(_take(fields, "capabilities", _TEXTS)),
    )


def _check_version(fields: Mapping[str, Any]) -> None:
    version = _take(fields, "version", _UINT)
    if version != VERSION:
        raise VersionMismatch(
            f"the server chose version {version} of the protocol, the client speaks {VERSION}"
        )


def _read_welcome(body: bytes) -> Welcome:
    fields = _unpack(body)
    if not _is(fields, dict):
        raise BadEncoding("the body of the WELCOME must be a map")
    _check_version(fields)
    return Welcome(
        auth=_take(fields, "auth", _TEXT),
        server=_take(fields, "server", _ID),
        session=_take(fields, "session", _ID),
        received=_take(fields, "received", _UINT),
        resumed=_take(fields, "resumed", _BOOL),
        grace=float(_take(fields, "grace", _SECONDS)),
        limits=_take(fields, "limits", _LIMITS),
        agent=_take(fields, "agent", _TEXT),
        version=VERSION,
        capabilities=tuple(_take(fields, "capabilities", _TEXTS)),
    )


def refuse(code: int, message: str) -> bytes:
    """Return the REFUSED frame, of less than 400 bytes; whoever sends it closes next.

    It needs no machine, so a listener can refuse before it reads. Raises ValueError for a code
    that is none of connections (100 to 199) or sessions (200 to 299).
    """
    if not 100 <= code < 300:
        raise ValueError(f"{code} is no code of a refusal: they are 100 to 299")
    text = message.encode(errors="replace")[:_MAX_REASON].decode(errors="ignore")
    return _frame([_REFUSED, code, text])


# Proofs -----------------------------------------------------------------------------------------


def _transcript(hello: bytes, challenge: bytes) -> bytes:
    from hashlib import sha256  # only who uses a key pays for these imports

    return sha256(PREFACE + hello + challenge).digest()


def _proof(key: bytes, label: bytes, message: bytes) -> bytes:
    from hmac import digest

    return digest(digest(key, label, "sha256"), message, "sha256")


def _same(ours: bytes, theirs: Any) -> bool:
    from hmac import compare_digest

    return type(theirs) is bytes and compare_digest(ours, theirs)


# Machines ---------------------------------------------------------------------------------------


class _Machine:
    """What both ends share: the buffer, frames off it, and the bytes behind the end."""

    __slots__ = ("_buffer", "_state", "trailing")

    def __init__(self, state: str) -> None:
        self._state = state
        self._buffer = bytearray()
        self.trailing = b""
        """What came behind the handshake: it belongs to the session."""

    def _receive(self, data: bytes) -> bytes:
        if self._state == "open":
            self.trailing += data
            return b""
        if self._state == "failed":
            raise ProtocolError("the handshake has failed before")
        self._buffer += data
        try:
            return self._advance()
        except ManagerError as error:
            self._fail(error)
            raise

    def _advance(self) -> bytes:
        raise NotImplementedError

    def _fail(self, error: ManagerError) -> None:
        self._state = "failed"
        self._buffer.clear()

    def _next_frame(self) -> bytes | None:
        """Return the next frame with its header, None when it is not there yet."""
        buffer = self._buffer
        if len(buffer) < 4:
            return None
        size = int.from_bytes(buffer[:4], "big")
        if not size:
            raise BadEncoding("an empty frame")
        if size > MAX_HANDSHAKE_FRAME:
            raise FrameTooLarge(
                f"a frame of {size} bytes in the handshake, where {MAX_HANDSHAKE_FRAME} is the "
                "limit: does the other end speak this protocol?"
            )
        if len(buffer) < 4 + size:
            return None
        frame = bytes(buffer[: 4 + size])
        del buffer[: 4 + size]
        return frame


class ClientHandshake(_Machine):
    """The client's end: `start()`, then `receive_data` until `welcome` is set.

    `nonce` is 32 fresh random bytes, `client` the 16 that this process has for life. `key` is
    the key or None; `offer_peer` is whether to offer that the same user needs none, which is
    accepted only with `peer_trusted`: the shell has seen that the other end of the socket runs
    as this user. `resume` is the session to take up again. `hint` says where the key came from,
    for the user who reads that it did not fit.
    """

    __slots__ = (
        "_challenge",
        "_hello",
        "_hint",
        "_key",
        "_peer_trusted",
        "_proven",
        "hello",
        "refused",
        "welcome",
    )

    def __init__(
        self,
        *,
        nonce: bytes,
        client: bytes,
        pid: int,
        host: str,
        agent: str,
        key: bytes | None,
        offer_peer: bool,
        peer_trusted: bool,
        resume: Resume | None = None,
        capabilities: Iterable[str] = (),
        hint: str = "",
    ) -> None:
        """Raises ValueError when a value does not fit, or no way to authenticate is left."""
        super().__init__("new")
        auth = [_PEER] * offer_peer + [_HMAC] * (key is not None)
        if not auth:
            raise ValueError("no way to authenticate: give a key, or offer the same user")
        fields: dict[str, object] = {
            "versions": [VERSION],
            "auth": auth,
            "nonce": nonce,
            "agent": agent,
            "client": client,
            "pid": pid,
            "host": host,
            "resume": None if resume is None else list(resume),
            "capabilities": list(capabilities),
        }
        self.hello = _read_hello(fields)
        self._hello = _frame([_HELLO, fields])
        self._key = key
        self._peer_trusted = peer_trusted
        self._hint = f" ({hint})" if hint else ""
        self._challenge: dict[str, Any] | None = None
        self._proven = b""
        self.welcome: Welcome | None = None
        """What the server granted, once it is authenticated; None before."""
        self.refused: int | None = None
        """The code of the server's refusal. Nothing proves it: it may be an impostor's."""

    def start(self) -> bytes:
        """Return the bytes that open the connection."""
        if self._state != "new":
            raise RuntimeError("a handshake starts once")
        self._state = "hello sent"
        return PREFACE + self._hello

    def receive_data(self, data: bytes) -> bytes:
        """Take bytes from the server, in any pieces; return the bytes to write to it.

        Raises AuthenticationFailed when one end did not convince the other, ProtocolError (with
        VersionMismatch, BadEncoding, FrameTooLarge) when the server does not keep to the
        protocol, and what the server's refusal stands for, such as SessionLost. Close then.
        """
        return self._receive(data)

    def receive_eof(self) -> None:
        """Raise ConnectionLost, because the stream ended, unless the handshake is over."""
        if self._state not in ("open", "failed"):
            self._state = "failed"
            raise ConnectionLost(
                "the server closed the connection during the handshake: it is shutting down, "
                "or it is no server of aiomanager"
            )

    def _advance(self) -> bytes:
        output = b""
        while self._state != "open" and (frame := self._next_frame()) is not None:
            kind, items = _message(frame)
            if kind == _REFUSED:
                raise self._refusal(items)
            if kind == _WELCOME:
                self._receive_welcome(items)
            elif kind == _CHALLENGE and self._state == "hello sent":
                output += self._receive_challenge(frame, _fields(items))
            else:
                raise ProtocolError(f"the handshake has no message {kind} at this point")
        return output

    def _receive_challenge(self, frame: bytes, fields: dict[str, Any]) -> bytes:
        _check_version(fields)
        if _take(fields, "auth", _TEXT) != _HMAC or self._key is None:
            raise ProtocolError("the server chose a way to authenticate that was not offered")
        _take(fields, "nonce", _NONCE)
        _take(fields, "server", _ID)
        transcript = _transcript(self._hello, frame)
        proof = _proof(self._key, _CLIENT_LABEL, transcript)
        self._challenge = fields
        self._proven = transcript + proof
        self._state = "proof sent"
        return _frame([_PROOF, {"proof": proof}])

    def _receive_welcome(self, items: list[Any]) -> None:
        if len(items) < 2 or not _is(items[0], bytes):
            raise BadEncoding("a WELCOME must hold a body and a proof")
        body, proof = items[:2]
        # The body means nothing before it is known who wrote it.
        auth = self._authenticate(body, proof)
        welcome = _read_welcome(body)
        if welcome.auth != auth:
            raise AuthenticationFailed("the server claims another way of authentication")
        if self._challenge is not None and welcome.server != self._challenge["server"]:
            raise ProtocolError("the WELCOME names another server than the CHALLENGE")
        if not set(welcome.capabilities) <= set(self.hello.capabilities):
            raise ProtocolError("the server chose a capability that was not offered")
        resume = self.hello.resume
        if resume is None:
            if welcome.resumed or welcome.received:
                raise ProtocolError("the server resumed a session, which nobody asked for")
        elif not welcome.resumed or welcome.session != resume[0]:
            raise ProtocolError("the server neither resumed the session nor refused to")
        self.welcome = welcome
        self._state = "open"
        self.trailing = bytes(self._buffer)
        self._buffer.clear()

    def _authenticate(self, body: bytes, proof: Any) -> str:
        """Return how the server has proven who it is."""
        if self._key is not None and self._state == "proof sent":
            if not _same(_proof(self._key, _SERVER_LABEL, self._proven + body), proof):
                raise AuthenticationFailed(
                    f"the server did not prove that it knows the key{self._hint}: "
                    "it is another server, or an impostor"
                )
            return _HMAC
        if _PEER not in self.hello.auth:
            raise AuthenticationFailed(
                f"the server skipped the proof that it knows the key{self._hint}: it is an impostor"
            )
        if not self._peer_trusted:
            raise AuthenticationFailed(
                "the server asks for no key, but is not known to run as the same user: "
                "give both sides the same key (authkey= or AIOMANAGER_AUTHKEY)"
            )
        if proof is not None:
            raise ProtocolError("the server proves what it was not asked to prove")
        return _PEER

    def _refusal(self, items: list[Any]) -> Exception:
        if len(items) < 2 or not _is(items[0], int) or not _is(items[1], str):
            return BadEncoding("a REFUSED must hold a code and a message")
        code, text = items[:2]
        if not 100 <= code < (200 if self.hello.resume is None else 300):
            return ProtocolError(f"the server refused with a code that means nothing here: {code}")
        self.refused = code
        # Anybody may have written this: it must not steer a terminal or forge a line of a log.
        text = "".join(c if c.isprintable() else "?" for c in text[:_MAX_REASON])
        error = exception_of(code, f"the server refused: {text}")
        if isinstance(error, AuthenticationFailed):
            return AuthenticationFailed(
                f"the server refused: {text}{self._hint}; "
                "give both sides the same key (authkey= or AIOMANAGER_AUTHKEY)"
            )
        return error


class ServerHandshake(_Machine):
    """The server's end: `receive_data` until `authenticated`, then `welcome` or `refuse`.

    `nonce` is 32 fresh random bytes, `server` the 16 that this server has for life. `key` is the
    key or None. `peer_uid` is the user at the other end of a unix socket when being that user
    is enough to be let in, else None. When `receive_data` raises, write `refusal`, then close.
    """

    __slots__ = (
        "_key",
        "_nonce",
        "_peer_uid",
        "_proven",
        "_server",
        "authenticated",
        "capabilities",
        "hello",
        "principal",
        "refusal",
    )

    def __init__(
        self,
        *,
        nonce: bytes,
        server: bytes,
        key: bytes | None,
        peer_uid: int | None = None,
        capabilities: Iterable[str] = (),
    ) -> None:
        """Raises ValueError when a value does not fit."""
        super().__init__("preface")
        if not _is_nonce(nonce) or not _is_id(server):
            raise ValueError("the nonce must be 32 bytes and the server's id 16")
        self._nonce = nonce
        self._server = server
        self._key = key
        self._peer_uid = peer_uid
        self.capabilities = tuple(capabilities)
        """What this end offers; the shell may take some back when it has seen the HELLO."""
        self._proven = b""
        self.hello: Hello | None = None
        """What the client says of itself; act on nothing of it before `authenticated`."""
        self.authenticated = False
        """Whether the client has proven who it is."""
        self.principal = ""
        """Who it is: "peer:" and the user's number, or "key"; a session belongs to one of them."""
        self.refusal = b""
        """After an error: what to write before closing; empty when nothing may be said."""

    def receive_data(self, data: bytes) -> bytes:
        """Take bytes from the client, in any pieces; return the bytes to write to it.

        Raises WrongPreface when the client speaks something else, AuthenticationFailed when it
        may not enter, ProtocolError (with VersionMismatch, BadEncoding, FrameTooLarge) when it
        does not keep to the protocol. Write `refusal` then, and close.
        """
        return self._receive(data)

    def welcome(
        self,
        *,
        session: bytes,
        grace: float,
        limits: Mapping[str, int],
        agent: str,
        received: int = 0,
        resumed: bool = False,
    ) -> bytes:
        """Return the WELCOME, which ends the handshake.

        Raises RuntimeError when no client is authenticated, ValueError for what a WELCOME cannot
        say: a client that asked for its session gets that very one, or `refuse(200, ...)`.
        """
        hello = self.hello
        if self._state != "authenticated" or hello is None:
            raise RuntimeError("there is no authenticated client to welcome")
        wanted = None if hello.resume is None else hello.resume[0]
        if wanted != (session if resumed else None):
            raise ValueError("a client gets the session that it asked for, or is refused")
        if received and not resumed:
            raise ValueError("nothing can have been received in a new session")
        by_key = self.principal == "key"
        body = new_packer().pack(
            {
                "version": VERSION,
                "auth": _HMAC if by_key else _PEER,
                "server": self._server,
                "session": session,
                "received": received,
                "resumed": resumed,
                "grace": float(grace),
                "limits": dict(limits),
                "agent": agent,
                "capabilities": list(self.agreed),
            }
        )
        _read_welcome(body)
        proof = None
        if by_key:
            proof = _proof(cast("bytes", self._key), _SERVER_LABEL, self._proven + body)
        frame = _frame([_WELCOME, body, proof])
        self._state = "open"
        return frame

    @property
    def agreed(self) -> tuple[str, ...]:
        """The capabilities that both ends have."""
        offered = () if self.hello is None else self.hello.capabilities
        return tuple(one for one in self.capabilities if one in offered)

    def refuse(self, code: int, message: str) -> bytes:
        """Return the REFUSED frame and end the handshake: write it, then close.

        Raises ValueError for a code that is none of connections or sessions.
        """
        frame = refuse(code, message)
        self._end()
        return frame

    def _advance(self) -> bytes:
        buffer = self._buffer
        if self._state == "preface":
            start = bytes(buffer[: len(PREFACE)])
            if not PREFACE.startswith(start):
                raise WrongPreface("the connection does not begin as this protocol does")
            if len(start) < len(PREFACE):
                return b""
            del buffer[: len(PREFACE)]
            self._state = "hello"
        output = b""
        if self._state != "authenticated":
            frame = self._next_frame()
            if frame is None:
                return b""
            kind, items = _message(frame)
            if kind == _HELLO and self._state == "hello":
                output = self._receive_hello(frame, _fields(items))
            elif kind == _PROOF and self._state == "challenge sent":
                self._receive_proof(_fields(items))
            else:
                raise ProtocolError(f"the handshake has no message {kind} at this point")
        # A client has nothing to say before it has its answer. What it sent ahead of that, it
        # would have told a server that has proven nothing.
        if buffer:
            raise ProtocolError("the client did not wait for its answer")
        return output

    def _receive_hello(self, frame: bytes, fields: dict[str, Any]) -> bytes:
        hello = self.hello = _read_hello(fields)
        if self._peer_uid is not None and _PEER in hello.auth:
            self._authenticate(f"peer:{self._peer_uid}")
            return b""
        if self._key is None:
            raise AuthenticationFailed(
                "this server has no key: only its own user may connect, by its unix socket"
            )
        if _HMAC not in hello.auth:
            raise AuthenticationFailed("this server asks for a key")
        challenge = _frame(
            [
                _CHALLENGE,
                {"version": VERSION, "auth": _HMAC, "nonce": self._nonce, "server": self._server},
            ]
        )
        self._proven = _transcript(frame, challenge)
        self._state = "challenge sent"
        return challenge

    def _receive_proof(self, fields: dict[str, Any]) -> None:
        proof = _take(fields, "proof", _NONCE)
        if not _same(_proof(cast("bytes", self._key), _CLIENT_LABEL, self._proven), proof):
            raise AuthenticationFailed("the key is not the one of this server")
        self._proven += proof
        self._authenticate("key")

    def _authenticate(self, principal: str) -> None:
        self._state = "authenticated"
        self.authenticated = True
        self.principal = principal

    def _fail(self, error: ManagerError) -> None:
        self._end()
        if not isinstance(error, WrongPreface):
            self.refusal = refuse(error.code, str(error))

    def _end(self) -> None:
        self._state = "failed"
        self._buffer.clear()
        self.authenticated = False
        self.principal = ""
