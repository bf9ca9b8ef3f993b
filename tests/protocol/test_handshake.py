"""The two ends of the handshake against each other, against liars and against noise."""

import hashlib
import hmac
import json
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aiomanager.errors import (
    AuthenticationFailed,
    BadEncoding,
    ConnectionLost,
    FrameTooLarge,
    ManagerError,
    ProtocolError,
    SessionLost,
    VersionMismatch,
    code_of,
    exception_of,
)
from aiomanager.protocol.handshake import (
    MAX_HANDSHAKE_FRAME,
    PREFACE,
    ClientHandshake,
    Resume,
    ServerHandshake,
    WrongPreface,
    refuse,
)

VECTORS = json.loads(
    (Path(__file__).parents[2] / "protocol" / "vectors" / "handshake.json").read_text()
)

KEY = b"correct horse battery staple"
CLIENT_NONCE = bytes(range(32))
SERVER_NONCE = bytes(range(32, 64))
SERVER = b"S" * 16
SESSION = b"s" * 16
LIMITS = {"frame": 1 << 24, "calls": 1024}
GRANT: dict[str, Any] = {"session": SESSION, "grace": 15.0, "limits": LIMITS, "agent": "server"}

LISTED = (ProtocolError, AuthenticationFailed, ConnectionLost)


def a_client(**changes: Any) -> ClientHandshake:
    arguments: dict[str, Any] = {
        "nonce": CLIENT_NONCE,
        "client": b"c" * 16,
        "pid": 42,
        "host": "boot 1",
        "agent": "test",
        "key": KEY,
        "offer_peer": False,
        "peer_trusted": False,
    }
    return ClientHandshake(**arguments | changes)


def a_peer(**changes: Any) -> ClientHandshake:
    return a_client(**{"key": None, "offer_peer": True, "peer_trusted": True} | changes)


def a_server(**changes: Any) -> ServerHandshake:
    arguments: dict[str, Any] = {"nonce": SERVER_NONCE, "server": SERVER, "key": KEY}
    return ServerHandshake(**arguments | changes)


def frame(*message: Any) -> bytes:
    payload = msgpack.packb(list(message))
    return len(payload).to_bytes(4, "big") + payload


def messages(data: bytes) -> list[list[Any]]:
    """Read frames apart without the code under test."""
    found = []
    while data:
        size = int.from_bytes(data[:4], "big")
        found.append(msgpack.unpackb(data[4 : 4 + size]))
        data = data[4 + size :]
    return found


def mac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


class Wire:
    """Carries what two machines say until both are silent; `alter` may lie on the way."""

    def __init__(
        self,
        client: ClientHandshake,
        server: ServerHandshake,
        *,
        size: int = 1 << 20,
        alter: Callable[[str, int, bytes], bytes] = lambda sender, turn, data: data,
        grant: dict[str, Any] = GRANT,
        tail: bytes = b"",
    ) -> None:
        self.client, self.server = client, server
        self.said: dict[str, list[bytes]] = {"client": [], "server": []}
        self.client_error: Exception | None = None
        self.server_error: Exception | None = None
        self.welcomed = False
        data = client.start()
        while data:
            self.said["client"].append(data)
            data = alter("client", len(self.said["client"]) - 1, data)
            answer = b""
            for piece in pieces(data, size):
                try:
                    answer += server.receive_data(piece)
                except LISTED as error:
                    self.server_error = error
                    answer += server.refusal
                    break
                if server.authenticated and not self.welcomed:
                    answer += server.welcome(**grant) + tail
                    self.welcomed = True
            if not answer:
                return
            self.said["server"].append(answer)
            answer = alter("server", len(self.said["server"]) - 1, answer)
            data = b""
            for piece in pieces(answer, size):
                try:
                    data += client.receive_data(piece)
                except LISTED as error:
                    self.client_error = error
                    return


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def feed(machine: ClientHandshake | ServerHandshake, data: bytes, size: int) -> None:
    for piece in pieces(data, size):
        assert machine.receive_data(piece) == b""


# The two together -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 1 << 20])
@pytest.mark.parametrize("tail", [b"", b"\x00\x00\x00\x01\x90" * 3])
@pytest.mark.parametrize("key", [KEY, b"", bytes(200)])
def test_key(size: int, tail: bytes, key: bytes) -> None:
    wire = Wire(a_client(key=key), a_server(key=key), size=size, tail=tail)
    welcome = wire.client.welcome
    assert welcome is not None
    assert welcome.auth == "hmac-sha256"
    assert welcome.session == SESSION
    assert welcome.server == SERVER
    assert (welcome.received, welcome.resumed, welcome.grace) == (0, False, 15.0)
    assert welcome.limits == LIMITS
    assert wire.client.trailing == tail
    assert wire.server.principal == "key"
    assert wire.server.hello == wire.client.hello
    assert wire.server.trailing == b""
    assert wire.server_error is wire.client_error is None


@pytest.mark.parametrize("size", [1, 5, 1 << 20])
@pytest.mark.parametrize("both", [False, True])
def test_peer(size: int, both: bool) -> None:
    client = a_peer(key=KEY if both else None)
    wire = Wire(client, a_server(peer_uid=1000), size=size, tail=b"tail")
    assert client.welcome is not None
    assert client.welcome.auth == "peer"
    assert client.trailing == b"tail"
    assert wire.server.principal == "peer:1000"
    assert len(wire.said["client"]) == 1  # one round trip


def test_a_server_that_does_not_know_the_user_asks_for_the_key() -> None:
    client = a_peer(key=KEY)
    wire = Wire(client, a_server(peer_uid=None))
    assert client.welcome is not None
    assert client.welcome.auth == "hmac-sha256"
    assert wire.server.principal == "key"


def test_an_explicit_key_is_used_even_where_the_user_would_do() -> None:
    client = a_client()
    wire = Wire(client, a_server(peer_uid=1000))
    assert client.welcome is not None
    assert client.welcome.auth == "hmac-sha256"
    assert wire.server.principal == "key"


def test_later_bytes_of_either_side_belong_to_the_session() -> None:
    wire = Wire(a_client(), a_server(), tail=b"a")
    assert wire.client.receive_data(b"b") == b""
    assert wire.client.trailing == b"ab"
    assert wire.server.receive_data(b"c") == b""
    assert wire.server.trailing == b"c"


def test_resume() -> None:
    client = a_client(resume=Resume(SESSION, 7, 1))
    wire = Wire(client, a_server(), grant=GRANT | {"resumed": True, "received": 9})
    assert wire.server.hello is not None
    assert wire.server.hello.resume == Resume(SESSION, 7, 1)
    assert client.welcome is not None
    assert client.welcome.resumed
    assert client.welcome.received == 9


def test_capabilities_are_what_both_have() -> None:
    client = a_client(capabilities=["a", "b", "c"])
    Wire(client, a_server(capabilities=["c", "x", "a"]))
    assert client.welcome is not None
    assert client.welcome.capabilities == ("c", "a")


def test_the_proofs_are_those_of_the_specification() -> None:
    wire = Wire(a_client(), a_server())
    (opening, proof), (challenge, welcome) = wire.said["client"], wire.said["server"]
    transcript = hashlib.sha256(opening + challenge).digest()
    client_proof = mac(mac(KEY, b"aiomanager 1 client"), transcript)
    assert messages(proof) == [[66, {"proof": client_proof}]]
    ((_, body, server_proof),) = messages(welcome)
    key = mac(KEY, b"aiomanager 1 server")
    assert server_proof == mac(key, transcript + client_proof + body)


# Refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ours", "theirs"), [(KEY, b"x"), (b"", KEY), (KEY, b""), (KEY, KEY[:-1])])
def test_wrong_key(ours: bytes, theirs: bytes) -> None:
    wire = Wire(a_client(key=ours, hint="from AIOMANAGER_AUTHKEY"), a_server(key=theirs))
    assert wire.client.welcome is None
    assert not wire.server.authenticated
    assert isinstance(wire.server_error, AuthenticationFailed)
    assert isinstance(wire.client_error, AuthenticationFailed)
    assert wire.client.refused == 104
    assert "from AIOMANAGER_AUTHKEY" in str(wire.client_error)
    assert "authkey=" in str(wire.client_error)


def test_no_way_in_common() -> None:
    for client, server in [
        (a_peer(), a_server()),
        (a_peer(), a_server(key=None)),
        (a_client(), a_server(key=None, peer_uid=1000)),
    ]:
        wire = Wire(client, server)
        assert isinstance(wire.server_error, AuthenticationFailed)
        assert isinstance(wire.client_error, AuthenticationFailed)
        assert not server.authenticated
        assert server.principal == ""
        assert client.welcome is None


@pytest.mark.parametrize("auth", [[], ["later"], ["PEER"], ["hmac-md5"]])
def test_unknown_ways_are_no_ways(auth: list[str]) -> None:
    server = a_server(peer_uid=1000)
    with pytest.raises(AuthenticationFailed):
        server.receive_data(PREFACE + hello(auth=auth))


def test_no_common_version() -> None:
    server = a_server()
    with pytest.raises(VersionMismatch, match="version 1"):
        server.receive_data(PREFACE + frame(64, {"versions": [2, 3]}))
    client = a_client()
    client.start()
    with pytest.raises(VersionMismatch, match="version 1"):
        client.receive_data(server.refusal)


def test_session_lost() -> None:
    client, server = a_client(resume=Resume(SESSION, 3, 1)), a_server()
    server.receive_data(client.receive_data(server.receive_data(client.start())))
    assert server.authenticated
    with pytest.raises(ValueError, match="session"):  # neither resumed nor refused
        server.welcome(**GRANT)
    with pytest.raises(ValueError, match="session"):
        server.welcome(**GRANT | {"session": b"o" * 16, "resumed": True})
    data = server.refuse(200, "the session is over")
    assert not server.authenticated
    with pytest.raises(SessionLost, match="over"):
        client.receive_data(data)
    assert client.refused == 200


@pytest.mark.parametrize("code", [105, 106, 107, 109, 110, 199])
def test_a_listener_can_refuse_before_it_reads(code: int) -> None:
    client = a_client()
    client.start()
    with pytest.raises(ManagerError, match="not now"):
        client.receive_data(refuse(code, "not now"))
    assert client.refused == code


@pytest.mark.parametrize("code", [0, -1, 99, 200, 300, 400, 500, 10**12])
def test_codes_that_mean_nothing_in_a_handshake(code: int) -> None:
    client = a_client()  # asks for no session: it cannot lose one
    client.start()
    with pytest.raises(ProtocolError, match="means nothing"):
        client.receive_data(frame(68, code, "boo"))
    assert client.refused is None


def test_refusals_cannot_forge_log_lines() -> None:
    client = a_client()
    client.start()
    with pytest.raises(AuthenticationFailed) as caught:
        client.receive_data(frame(68, 104, "a\n\x1b[31mERROR\u202e" + "x" * 4000))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("message", ["", "x" * 5000, "\udcff", "é" * 400, "\U0001f600" * 300])
def test_refusals_are_short_and_valid(message: str) -> None:
    data = refuse(104, message)
    assert len(data) < 400
    ((kind, code, _),) = messages(data)
    assert (kind, code) == (68, 104)


@pytest.mark.parametrize("code", [0, 99, 300, 400, 500])
def test_refuse_takes_codes_of_connections_and_sessions_only(code: int) -> None:
    with pytest.raises(ValueError, match="no code"):
        refuse(code, "")


# Liars ------------------------------------------------------------------------------------------


def fake_challenge(**changes: Any) -> bytes:
    fields = {"version": 1, "auth": "hmac-sha256", "nonce": SERVER_NONCE, "server": SERVER}
    return frame(65, fields | changes)


def body(**changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "version": 1,
        "auth": "hmac-sha256",
        "server": SERVER,
        "session": SESSION,
        "received": 0,
        "resumed": False,
        "grace": 15.0,
        "limits": LIMITS,
        "agent": "server",
        "capabilities": [],
    }
    fields |= changes
    return msgpack.packb({name: value for name, value in fields.items() if value is not ...})


def hello(**changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "versions": [1],
        "auth": ["hmac-sha256"],
        "nonce": CLIENT_NONCE,
        "agent": "test",
        "client": b"c" * 16,
        "pid": 42,
        "host": "",
        "resume": None,
        "capabilities": [],
    }
    fields |= changes
    return frame(64, {name: value for name, value in fields.items() if value is not ...})


def fake_server(client: ClientHandshake, key: bytes, data: bytes) -> None:
    """Go through the handshake as a server that knows `key`, and welcome with the body `data`."""
    opening, challenge = client.start(), fake_challenge()
    ((_, fields),) = messages(client.receive_data(challenge))
    transcript = hashlib.sha256(opening + challenge).digest()
    proof = mac(mac(key, b"aiomanager 1 server"), transcript + fields["proof"] + data)
    client.receive_data(frame(67, data, proof))


def test_the_fake_server_is_a_good_one() -> None:
    client = a_client()
    fake_server(client, KEY, body())
    assert client.welcome is not None


def test_a_server_without_the_key() -> None:
    client = a_client(hint="the key of this process")
    with pytest.raises(AuthenticationFailed, match=r"the key of this process.*impostor"):
        fake_server(client, b"guess", body())
    assert client.welcome is None


@pytest.mark.parametrize("proof", [None, b"", bytes(32), bytes(31), "x" * 32, 0, True, [], {}])
def test_a_server_with_something_else_than_a_proof(proof: Any) -> None:
    client = a_client()
    client.start()
    client.receive_data(fake_challenge())
    with pytest.raises(AuthenticationFailed):
        client.receive_data(frame(67, body(), proof))
    assert client.welcome is None


def test_reflection_of_the_proof() -> None:
    client = a_client()
    client.start()
    ((_, fields),) = messages(client.receive_data(fake_challenge()))
    with pytest.raises(AuthenticationFailed):
        client.receive_data(frame(67, body(), fields["proof"]))
    assert client.welcome is None


def test_reflection_of_everything() -> None:
    """A client's own words, and those of another client, are no server's."""
    client, other = a_client(), a_client(nonce=SERVER_NONCE)
    client.start()
    with pytest.raises(ProtocolError):
        client.receive_data(other.start()[len(PREFACE) :])
    client = a_client()
    client.start()
    proof = client.receive_data(fake_challenge())
    with pytest.raises(ProtocolError):
        client.receive_data(proof)


def test_reflection_of_a_challenge() -> None:
    """A liar in the middle of two clients cannot make one prove the key for the other."""
    victim, server = a_client(), a_server()
    challenge = server.receive_data(PREFACE + hello(nonce=b"x" * 32))  # the liar's own opening
    victim.start()
    proof = victim.receive_data(challenge)
    with pytest.raises(AuthenticationFailed):
        server.receive_data(proof)


def test_replay_of_a_client() -> None:
    wire = Wire(a_client(), a_server())
    opening, proof = wire.said["client"]
    assert not a_server().authenticated
    server = a_server(nonce=b"N" * 32)
    server.receive_data(opening)
    with pytest.raises(AuthenticationFailed):
        server.receive_data(proof)
    assert not server.authenticated


def test_replay_of_a_server() -> None:
    wire = Wire(a_client(), a_server())
    challenge, welcome = wire.said["server"]
    client = a_client(nonce=b"N" * 32)
    client.start()
    client.receive_data(challenge)
    with pytest.raises(AuthenticationFailed):
        client.receive_data(welcome)
    assert client.welcome is None


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("proof", [None, bytes(32)])
@pytest.mark.parametrize("auth", ["peer", "hmac-sha256", "none"])
def test_no_downgrade_of_an_explicit_key(trusted: bool, proof: bytes | None, auth: str) -> None:
    client = a_client(peer_trusted=trusted)
    client.start()
    with pytest.raises(AuthenticationFailed):
        client.receive_data(frame(67, body(auth=auth), proof))
    assert client.welcome is None


def test_no_welcome_by_a_user_that_is_not_trusted() -> None:
    for key in (None, KEY):
        client = a_peer(key=key, peer_trusted=False)
        wire = Wire(client, a_server(peer_uid=1000))
        assert isinstance(wire.client_error, AuthenticationFailed)
        assert "authkey=" in str(wire.client_error)
        assert client.welcome is None


def test_a_challenged_client_is_not_satisfied_with_less() -> None:
    client = a_peer(key=KEY)
    client.start()
    client.receive_data(fake_challenge())
    with pytest.raises(AuthenticationFailed):
        client.receive_data(frame(67, body(auth="peer"), None))
    client = a_peer(key=KEY)
    with pytest.raises(AuthenticationFailed):  # proven, but contradicting what happened
        fake_server(client, KEY, body(auth="peer"))
    client = a_peer()
    client.start()
    with pytest.raises(AuthenticationFailed):
        client.receive_data(frame(67, body(auth="hmac-sha256"), None))


def test_a_proof_that_was_not_asked_for() -> None:
    client = a_peer()
    client.start()
    with pytest.raises(ProtocolError, match="not asked"):
        client.receive_data(frame(67, body(auth="peer"), bytes(32)))


def test_stripping_an_offer_on_the_way_is_noticed() -> None:
    """Whoever removes what the client offered changes the transcript."""

    def alter(sender: str, turn: int, data: bytes) -> bytes:
        if (sender, turn) != ("client", 0):
            return data
        ((_, fields),) = messages(data[len(PREFACE) :])
        return PREFACE + frame(64, fields | {"auth": ["hmac-sha256"]})

    wire = Wire(a_peer(key=KEY), a_server(peer_uid=1000), alter=alter)
    assert isinstance(wire.server_error, AuthenticationFailed)
    assert wire.client.welcome is None


def test_a_client_without_a_key_is_not_challenged() -> None:
    client = a_peer()
    client.start()
    with pytest.raises(ProtocolError, match="not offered"):
        client.receive_data(fake_challenge())


@pytest.mark.parametrize(
    "changes",
    [
        {"server": b"O" * 16},
        {"capabilities": ["unasked"]},
        {"resumed": True},
        {"received": 1},
        {"version": 2},
        {"version": True},
        {"server": b"S" * 15},
        {"session": "s" * 16},
        {"received": -1},
        {"received": 1 << 53},
        {"received": False},
        {"resumed": 0},
        {"grace": -1.0},
        {"grace": float("nan")},
        {"grace": float("inf")},
        {"grace": "1"},
        {"grace": True},
        {"limits": {}},
        {"limits": {"frame": 1}},
        {"limits": {"frame": 1, "calls": 1.0}},
        {"limits": {"frame": 1, "calls": -1}},
        {"limits": []},
        {"agent": b"x"},
        {"agent": "x" * 201},
        {"capabilities": [1]},
        {"capabilities": "abc"},
        *({name: ...} for name in msgpack.unpackb(body())),
    ],
)
def test_a_proven_welcome_must_still_be_right(changes: dict[str, Any]) -> None:
    client = a_client()
    with pytest.raises(ProtocolError):
        fake_server(client, KEY, body(**changes))
    assert client.welcome is None


@pytest.mark.parametrize(
    "changes", [{"resumed": False}, {"session": b"o" * 16, "resumed": True}, {"received": 4}]
)
def test_a_session_is_resumed_or_refused(changes: dict[str, Any]) -> None:
    client = a_client(resume=Resume(SESSION, 3, 1))
    with pytest.raises(ProtocolError, match="neither"):
        fake_server(client, KEY, body(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"version": None},
        {"auth": "peer"},
        {"auth": 1},
        {"nonce": bytes(31)},
        {"nonce": "x" * 32},
        {"server": bytes(17)},
    ],
)
def test_bad_challenges(changes: dict[str, Any]) -> None:
    client = a_client()
    client.start()
    with pytest.raises(ProtocolError):
        client.receive_data(fake_challenge(**changes))


def test_a_client_proves_itself_once() -> None:
    client = a_client()
    client.start()
    client.receive_data(fake_challenge())
    with pytest.raises(ProtocolError, match="no message 65"):
        client.receive_data(fake_challenge(nonce=bytes(32)))


@pytest.mark.parametrize(
    "changes",
    [
        {"versions": 1},
        {"versions": [True]},
        {"versions": [1, "2"]},
        {"auth": "peer"},
        {"auth": [1]},
        {"nonce": bytes(33)},
        {"agent": "x" * 201},
        {"agent": None},
        {"client": bytes(15)},
        {"pid": -1},
        {"pid": 1.0},
        {"pid": True},
        {"pid": 1 << 63},
        {"host": None},
        {"host": "é" * 101},
        {"resume": False},
        {"resume": []},
        {"resume": [SESSION]},
        {"resume": [SESSION, 1]},
        {"resume": [SESSION, -1, 1]},
        {"resume": [SESSION, 1, -1]},
        {"resume": [SESSION, 1, True]},
        {"resume": [SESSION, 1, 1 << 53]},
        {"resume": ["s" * 16, 1, 1]},
        {"resume": [bytes(15), 1, 1]},
        {"capabilities": None},
        {"capabilities": ["x" * 201]},
        {"capabilities": {}},
        *({name: ...} for name in messages(hello())[0][1]),
    ],
)
def test_bad_hellos(changes: dict[str, Any]) -> None:
    server = a_server(peer_uid=1000)
    with pytest.raises(ProtocolError):
        server.receive_data(PREFACE + hello(**changes))
    assert not server.authenticated
    assert messages(server.refusal)[0][:2] in ([68, 102], [68, 103])


@pytest.mark.parametrize("proof", [bytes(31), bytes(33), "x" * 32, None, ...])
def test_bad_proofs(proof: Any) -> None:
    server = a_server()
    server.receive_data(PREFACE + hello())
    with pytest.raises(BadEncoding):
        server.receive_data(frame(66, {} if proof is ... else {"proof": proof}))


def test_messages_out_of_order() -> None:
    for message in (frame(66, {"proof": bytes(32)}), frame(65, {}), frame(0, 1, 2), frame(68, 104)):
        server = a_server()
        with pytest.raises(ProtocolError, match="no message"):
            server.receive_data(PREFACE + message)
    server = a_server()
    server.receive_data(PREFACE + hello())
    with pytest.raises(ProtocolError, match="no message 64"):
        server.receive_data(hello())


def test_clients_wait_for_their_answers() -> None:
    """Nothing slips in ahead of an answer, whole or in part."""
    for more in (b"\0", hello(), frame(66, {"proof": bytes(32)})):
        for server in (a_server(), a_server(peer_uid=1000)):
            opening = a_peer(key=KEY).start()
            with pytest.raises(ProtocolError, match="wait"):
                server.receive_data(opening + more)
            assert not server.authenticated
    server = a_server(peer_uid=1000)
    server.receive_data(a_peer().start())
    assert server.authenticated
    with pytest.raises(ProtocolError, match="wait"):
        server.receive_data(b"\0")
    assert not server.authenticated
    with pytest.raises(RuntimeError):
        server.welcome(**GRANT)


# Damage -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("peer", [False, True])
def test_every_truncation(peer: bool) -> None:
    client, server = (a_peer(), a_server(peer_uid=1)) if peer else (a_client(), a_server())
    said = Wire(client, server).said
    for sender in ("client", "server"):
        for turn, data in enumerate(said[sender]):
            for size in range(len(data)):

                def alter(
                    who: str,
                    when: int,
                    data: bytes,
                    at: tuple[str, int, int] = (sender, turn, size),
                ) -> bytes:
                    return data[: at[2]] if (who, when) == at[:2] else data

                client, server = (
                    (a_peer(), a_server(peer_uid=1)) if peer else (a_client(), a_server())
                )
                wire = Wire(client, server, alter=alter)
                assert wire.server_error is wire.client_error is None
                assert client.welcome is None
                assert server.authenticated is (sender == "server" and (peer or turn == 1))
                with pytest.raises(ConnectionLost, match="closed"):
                    client.receive_eof()
                with pytest.raises(ProtocolError):
                    client.receive_data(b"")


def flipped(data: bytes, at: int, mask: int) -> bytes:
    return data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]


# Every bit, and masks that turn one type of msgpack or one letter into another.
MASKS = [1 << bit for bit in range(8)] + [0xFF, 0x03, 0x30, 0x60]


@pytest.mark.parametrize("key_offered", ["key", "both"])
def test_every_corruption_with_a_key(key_offered: str) -> None:
    """The transcript and the proofs cover every byte: no client gets a welcome that was altered.

    A server whose WELCOME is damaged on the way has authenticated its client rightly.
    """

    def a_pair() -> tuple[ClientHandshake, ServerHandshake]:
        return (a_client() if key_offered == "key" else a_peer(key=KEY)), a_server()

    said = Wire(*a_pair()).said
    tried = 0
    for sender in ("client", "server"):
        for turn, data in enumerate(said[sender]):
            for at in range(len(data)):
                for mask in MASKS:

                    def alter(
                        who: str, when: int, data: bytes, it: Any = (sender, turn, at, mask)
                    ) -> bytes:
                        return flipped(data, *it[2:]) if (who, when) == it[:2] else data

                    wire = Wire(*a_pair(), alter=alter)
                    assert wire.client.welcome is None, (sender, turn, at, mask)
                    if (sender, turn) != ("server", 1):
                        assert not wire.server.authenticated, (sender, turn, at, mask)
                        assert not wire.welcomed
                    tried += 1
    assert tried > 4000


def test_every_corruption_without_a_key() -> None:
    """Between processes of one user the kernel vouches for the bytes, and nothing else does.

    So what is altered either breaks a rule or is taken as it came: an altered name or id is
    believed. Nobody is let in otherwise than as this user, and nothing else is raised.
    """
    said = Wire(a_peer(), a_server(peer_uid=1000)).said
    for sender in ("client", "server"):
        (data,) = said[sender]
        for at in range(len(data)):
            for mask in MASKS:

                def alter(who: str, when: int, data: bytes, it: Any = (sender, at, mask)) -> bytes:
                    return flipped(data, *it[1:]) if who == it[0] else data

                wire = Wire(a_peer(), a_server(peer_uid=1000, key=None), alter=alter)
                welcome = wire.client.welcome
                assert welcome is None or welcome.auth == "peer"
                assert wire.server.principal in ("", "peer:1000")
                if sender == "client" and at < len(PREFACE):
                    assert isinstance(wire.server_error, WrongPreface)


# Noise ------------------------------------------------------------------------------------------

OTHER_PROTOCOLS = [
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"*1\r\n$4\r\nPING\r\n",
    b"PING\r\n",
    bytes.fromhex("16030100f8010000f40303"),
    b"SSH-2.0-OpenSSH_9.6\r\n",
    b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
    b"AIOM\x02\r\n\x00",
    b"AIOM\x01\n\x00",  # a line end that was translated on the way
    b"\x00",
    b"\r\n",
]


@pytest.mark.parametrize("noise", OTHER_PROTOCOLS)
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_other_protocols_get_no_answer(noise: bytes, size: int) -> None:
    server = a_server(peer_uid=1000)
    with pytest.raises(WrongPreface):
        feed(server, noise, size)
    assert server.refusal == b""
    assert not server.authenticated
    assert server.hello is None


@pytest.mark.parametrize("noise", OTHER_PROTOCOLS[:6])
def test_other_servers_are_recognized_at_the_header(noise: bytes) -> None:
    client = a_client()
    client.start()
    with pytest.raises(FrameTooLarge, match="speak this protocol"):
        client.receive_data(noise[:4])


@pytest.mark.parametrize("size", [0, MAX_HANDSHAKE_FRAME + 1, 1 << 24, 1 << 31, (1 << 32) - 1])
def test_bad_headers_are_refused_at_the_header(size: int) -> None:
    header = size.to_bytes(4, "big")
    expected = FrameTooLarge if size else BadEncoding
    server = a_server()
    with pytest.raises(expected):
        server.receive_data(PREFACE + header)
    assert messages(server.refusal)[0][:2] == [68, 101 if size else 102]
    server = a_server()
    server.receive_data(PREFACE + hello())
    with pytest.raises(expected):
        server.receive_data(header)
    client = a_client()
    client.start()
    with pytest.raises(expected):
        client.receive_data(header)
    client = a_client()
    client.start()
    client.receive_data(fake_challenge())
    with pytest.raises(expected):
        client.receive_data(header)


BOMBS = {
    "nested arrays": b"\x91" * 4096,
    "nested arrays with counts": b"\xdc\x0f\xff" * 1365,
    "nested big arrays": b"\xdd\x00\x00\x0f\xff" * 819,
    "an array without end": b"\xdd\xff\xff\xff\xff",
    "a map without end": b"\xdf\xff\xff\xff\xff",
    "nested maps": b"\x81\xa1a" * 1365,
    "bin without end": b"\xc6\xff\xff\xff\xff",
    "str without end": b"\xdb\xff\xff\xff\xff",
    "ext without end": b"\xc9\xff\xff\xff\xff\x01",
    "never used": b"\xc1",
    "bad UTF-8": b"\x92\x40\x81\xa1\xff\x01",
    "surrogate": b"\x92\x40\x81\xa3\xed\xa0\x80\x01",
    "trailing": b"\x92\x40\x80\x00",
    "list as key": b"\x92\x40\x81\x90\x01",
    "integer as key": b"\x92\x40\x81\x01\x01",
    "bytes as key": b"\x92\x40\x81\xc4\x01a\x01",
    "double key": b"\x92\x40\x82\xa1a\x01\xa1a\x01",
    "extension": b"\x92\x40\x81\xa1a\xd4\x05\x00",
    "timestamp": b"\x92\x40\x81\xa1a\xd6\xff\x00\x00\x00\x00",
    "bad timestamp": b"\x92\x40\x81\xa1a\xd4\xff\x00",
    "depth 17": b"\x92\x40" + b"\x81\xa1a" + b"\x91" * 14 + b"\x90",
    "no array": b"\x80",
    "empty array": b"\x90",
    "text as type": b"\x91\xa1a",
    "true as type": b"\x92\xc3\x80",
    "no map": b"\x91\x40",
    "array for map": b"\x92\x40\x90",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name: str) -> None:
    payload = BOMBS[name]
    data = len(payload).to_bytes(4, "big") + payload
    server, client = a_server(), a_client()
    client.start()
    for machine, start in ((server, PREFACE), (client, b"")):
        tracemalloc.start()
        try:
            with pytest.raises(ProtocolError):
                machine.receive_data(start + data)
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
        finally:
            tracemalloc.stop()


def test_depth_16_is_allowed_in_what_is_ignored() -> None:
    deep: Any = []
    for _ in range(13):
        deep = [deep]
    assert a_server().receive_data(PREFACE + hello(later=deep))  # array, map and 14 more
    with pytest.raises(BadEncoding, match=r"deeper|StackError"):
        a_server().receive_data(PREFACE + hello(later=[deep]))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (b"\xa5later\x01\xa5later\x01", "same key twice"),
        (b"\xa5agent\xa4test\xa3new\x01", "same key twice"),
        (b"\x01\x01\xa5later\x01", "no text"),
        (b"\xc4\x05agent\xa1x\xa5later\x01", "no text"),
        (b"\xa5later\xd4\x05\x00\xa1x\x01", "extension"),
        (b"\xa5later\xd6\xff\x00\x00\x00\x00\xa1x\x01", "extension"),
        (b"\xa5later\x81\x01\x01\xa1x\x01", "no text"),
        (b"\xa5later\x91\x82\xa1a\x01\xa1a\x02\xa1x\x01", "same key twice"),
    ],
)
def test_an_otherwise_good_hello_with_a_bad_map(more: bytes, message: str) -> None:
    good = hello()[4:]
    assert good[2] == 0x89  # a map of nine fields: give it two more
    payload = good[:2] + b"\x8b" + good[3:] + more
    with pytest.raises(BadEncoding, match=message):
        a_server().receive_data(PREFACE + len(payload).to_bytes(4, "big") + payload)


def test_bodies_are_read_as_strictly() -> None:
    for payload in (*BOMBS.values(), body() + b"\0", body()[:-1], b""):
        if len(payload) < 4000:
            with pytest.raises(ProtocolError):
                fake_server(a_client(), KEY, payload)


def test_what_is_unknown_is_ignored() -> None:
    server = a_server()
    later = {"a": [1, None, 1.5, b"x", {"b": True}]}
    data = frame(
        64, messages(hello(later=later, resume=[SESSION, 1, 2, "later"]))[0][1], "later", 9
    )
    assert messages(server.receive_data(PREFACE + data))[0][0] == 65
    assert server.hello is not None
    assert server.hello.resume == Resume(SESSION, 1, 2)
    client = a_client()
    fake_server(client, KEY, body(later=later, limits=LIMITS | {"later": 5}, grace=15))
    assert client.welcome is not None
    assert client.welcome.limits["later"] == 5
    assert type(client.welcome.grace) is float


def test_little_is_kept_and_little_is_said_before_authentication() -> None:
    """However the bytes come, a stranger costs one frame of memory and 1 KiB of output."""
    longest = PREFACE + MAX_HANDSHAKE_FRAME.to_bytes(4, "big") + bytes(MAX_HANDSHAKE_FRAME - 1)
    server = a_server()
    for piece in pieces(longest, 1):
        assert server.receive_data(piece) == b""
    assert len(server._buffer) <= 4 + MAX_HANDSHAKE_FRAME
    with pytest.raises(ProtocolError):
        server.receive_data(bytes(1 << 20))
    assert len(server._buffer) == 0
    assert len(server.refusal) < 1024
    server = a_server()
    said = len(server.receive_data(PREFACE + hello(later="x" * 3500)))
    with pytest.raises(ManagerError):
        server.receive_data(bytes(5000))
    assert said + len(server.refusal) < 1024


def test_a_failed_handshake_stays_failed() -> None:
    server = a_server()
    with pytest.raises(WrongPreface):
        server.receive_data(b"G")
    with pytest.raises(ProtocolError, match="failed before"):
        server.receive_data(a_client().start())
    assert not server.authenticated
    client = a_client()
    client.start()
    with pytest.raises(ProtocolError):
        client.receive_data(b"HTTP")
    with pytest.raises(ProtocolError, match="failed before"):
        client.receive_data(fake_challenge())


FRAGMENTS = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [
            PREFACE,
            hello(),
            hello(auth=["peer"]),
            hello(resume=[SESSION, 1, 1]),
            fake_challenge(),
            frame(66, {"proof": bytes(32)}),
            frame(67, body(), bytes(32)),
            frame(67, body(auth="peer"), None),
            frame(68, 104, "no"),
            frame(68, 200, "no"),
            b"\0\0\0\x03",
        ]
    ),
    st.lists(
        st.recursive(
            st.none() | st.booleans() | st.integers(-5, 1 << 60) | st.text() | st.binary(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=8), inner),
            max_leaves=8,
        ),
        max_size=4,
    ).map(lambda items: frame(*items)),
    st.integers(60, 70).map(lambda kind: frame(kind, {})),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(FRAGMENTS, max_size=6), st.booleans(), st.booleans())
def test_any_bytes_to_the_server(fragments: list[bytes], peer: bool, at_once: bool) -> None:
    server = a_server(peer_uid=1000 if peer else None)
    said, error = b"", None
    try:
        for data in [b"".join(fragments)] if at_once else fragments:
            said += server.receive_data(data)
    except (ProtocolError, AuthenticationFailed) as caught:
        error = caught
    if error is not None:
        assert not server.authenticated
        assert (server.refusal == b"") is isinstance(error, WrongPreface)
        said += server.refusal
    assert server.principal != "key"
    assert server.authenticated is (server.principal == "peer:1000")
    assert len(said) < 1024
    assert all(kind in (65, 68) for kind, *_ in messages(said))


@settings(max_examples=300, deadline=None)
@given(st.lists(FRAGMENTS, max_size=6), st.booleans(), st.booleans(), st.booleans())
@example([frame(68, 200, "no")], True, True, True)
def test_any_bytes_to_the_client(
    fragments: list[bytes], at_once: bool, offer_peer: bool, resume: bool
) -> None:
    client = a_client(offer_peer=offer_peer, resume=Resume(SESSION, 1, 1) if resume else None)
    client.start()
    said = b""
    try:
        for data in [b"".join(fragments)] if at_once else fragments:
            said += client.receive_data(data)
    except (ProtocolError, AuthenticationFailed, ConnectionLost):
        pass
    assert client.welcome is None
    assert len(messages(said)) <= 1


# Use --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"nonce": bytes(16)},
        {"client": bytes(15)},
        {"pid": -1},
        {"agent": "x" * 201},
        {"agent": "\ud800"},
        {"host": "x" * 201},
        {"resume": Resume(b"", 1, 1)},
        {"resume": Resume(SESSION, 1, -1)},
        {"key": None},
        {"capabilities": ["x" * 150] * 40},
    ],
)
def test_wrong_arguments_of_a_client(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        a_client(**changes)


@pytest.mark.parametrize("changes", [{"nonce": bytes(31)}, {"server": b""}])
def test_wrong_arguments_of_a_server(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="bytes"):
        a_server(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"session": b"short"},
        {"limits": {}},
        {"limits": {"frame": 1, "calls": -1}},
        {"grace": -1},
        {"agent": "x" * 201},
        {"received": 1},
        {"resumed": True},
        {"limits": LIMITS | {f"limit {n}": n for n in range(400)}},
    ],
)
def test_wrong_welcomes_are_not_sent(changes: dict[str, Any]) -> None:
    client, server = a_client(), a_server()
    server.receive_data(client.receive_data(server.receive_data(client.start())))
    with pytest.raises(ValueError):  # noqa: PT011
        server.welcome(**GRANT | changes)
    client.receive_data(server.welcome(**GRANT))  # the failed attempt changed nothing
    assert client.welcome is not None


def test_order_of_calls() -> None:
    client, server = a_client(), a_server()
    with pytest.raises(RuntimeError):
        server.welcome(**GRANT)
    client.start()
    with pytest.raises(RuntimeError):
        client.start()
    client, server = a_client(), a_server()
    with pytest.raises(ProtocolError):
        client.receive_data(fake_challenge())  # before the client has said anything
    Wire(client := a_client(), server)
    client.receive_eof()  # that is the session's affair now
    with pytest.raises(RuntimeError):
        server.welcome(**GRANT)


def test_any_kind_of_buffer_is_taken() -> None:
    client, server = a_client(), a_server()
    challenge = server.receive_data(memoryview(client.start()))  # type: ignore[arg-type]
    server.receive_data(bytearray(client.receive_data(bytearray(challenge))))
    client.receive_data(memoryview(server.welcome(**GRANT) + b"x"))  # type: ignore[arg-type]
    assert client.trailing == b"x"


def test_no_secret_is_shown() -> None:
    for machine in (a_client(), a_server()):
        assert KEY.decode() not in repr(machine)
    wire = Wire(a_client(), a_server(key=b"another secret"))
    for error in (wire.client_error, wire.server_error):
        assert KEY.decode() not in str(error)
        assert "secret" not in str(error)


# Vectors ----------------------------------------------------------------------------------------


def machine_of(vector: dict[str, Any]) -> ClientHandshake | ServerHandshake:
    config = vector["config"]
    key = None if vector["key"] is None else bytes.fromhex(vector["key"])
    if vector["role"] == "server":
        return ServerHandshake(
            key=key,
            nonce=bytes.fromhex(config["nonce"]),
            server=bytes.fromhex(config["server"]),
            peer_uid=config["peer_uid"],
            capabilities=config["capabilities"],
        )
    resume = config["resume"]
    return ClientHandshake(
        key=key,
        nonce=bytes.fromhex(config["nonce"]),
        client=bytes.fromhex(config["client"]),
        resume=resume and Resume(bytes.fromhex(resume[0]), *resume[1:]),
        **{
            name: config[name]
            for name in ("pid", "host", "agent", "offer_peer", "peer_trusted", "capabilities")
        },
    )


def without_words(data: bytes) -> bytes | list[Any]:
    """A refusal's words are free: only its type and code are compared."""
    return messages(data)[0][:2] if data[4:6] == b"\x93\x44" else data


@pytest.mark.parametrize("size", [1, 1 << 20])
@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"])
def test_vectors(vector: dict[str, Any], size: int) -> None:
    machine = machine_of(vector)
    config, result = vector["config"], vector["result"]
    error: Exception | None = None
    output = machine.start() if isinstance(machine, ClientHandshake) else b""
    for step in vector["steps"]:
        if "expect" in step:
            assert without_words(output) == without_words(bytes.fromhex(step["expect"]))
            output = b""
            continue
        assert output == b""
        for piece in pieces(bytes.fromhex(step["send"]), size):
            try:
                output += machine.receive_data(piece)
            except LISTED as caught:
                error = caught
                if isinstance(machine, ServerHandshake):
                    output = machine.refusal
                break
        if isinstance(machine, ServerHandshake) and machine.authenticated:
            if "welcome" in config:
                session = bytes.fromhex(config["welcome"]["session"])
                output += machine.welcome(**config["welcome"] | {"session": session})
            else:
                output += machine.refuse(*config["refuse"])
                error = exception_of(*config["refuse"])
    assert output == b""
    if "error" in result:
        assert error is not None
        assert code_of(error) == result["error"]
        if result.get("silent"):
            assert isinstance(error, WrongPreface)
        return
    assert error is None
    assert machine.trailing.hex() == result["trailing"]
    if isinstance(machine, ServerHandshake):
        assert machine.principal == result["principal"]
        return
    welcome = machine.welcome
    assert welcome is not None
    expected = result["welcome"]
    assert welcome._asdict() == expected | {
        "server": bytes.fromhex(expected["server"]),
        "session": bytes.fromhex(expected["session"]),
        "capabilities": tuple(expected["capabilities"]),
        "version": 1,
    }


def test_vectors_are_many_and_distinct() -> None:
    assert len(VECTORS) >= 30
    assert len({vector["id"] for vector in VECTORS}) == len(VECTORS)
    assert {vector["role"] for vector in VECTORS} == {"client", "server"}
