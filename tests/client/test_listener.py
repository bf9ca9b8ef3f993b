"""What a server's listener does with connections that come too many, too slow, or say goodbye."""

import resource
import socket
from collections.abc import Iterator

import pytest

import aiomanager.sync
from aiomanager.protocol.frames import FrameBuffer
from aiomanager.protocol.handshake import IMPLICIT_KEEP, PREFACE, ServerHandshake
from aiomanager.protocol.messages import decode
from aiomanager.server.listener import PENDING
from aiomanager.server.process import PrivateServer

from .chaos import Chaos

SECONDS = 30.0


@pytest.fixture
def own_server() -> Iterator[PrivateServer]:
    server = PrivateServer()
    yield server
    server.stop()


def test_a_server_takes_as_many_connections_as_the_system_allows() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
    try:
        server = PrivateServer()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        clients = [aiomanager.sync.connect(server.address.url) for _ in range(300)]
        votes = [client.named.dict("votes") for client in clients]
        assert [vote.increment("yes") for vote in votes] == list(range(1, 301))
        for client in clients:
            client.close()
    finally:
        server.stop()


def opened(server: PrivateServer) -> socket.socket:
    """Return a connection that has said nothing yet."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(SECONDS)
    sock.connect(server.address.path)
    return sock


def all_of(sock: socket.socket) -> bytes:
    """Return what comes until the other end closes."""
    found = b""
    while data := sock.recv(4096):
        found += data
    return found


def refusal(data: bytes) -> int:
    """Return the code of a REFUSED."""
    ((kind, code, _),) = [decode(payload) for payload in FrameBuffer(4096).feed(data)]
    assert kind == 68
    return int(code)


def test_who_says_nothing_is_sent_away_and_who_is_slow_is_told(own_server: PrivateServer) -> None:
    with opened(own_server) as silent, opened(own_server) as slow:
        slow.sendall(PREFACE)
        assert all_of(silent) == b""
        assert refusal(all_of(slow)) == 105


def test_too_many_at_once_are_told_and_come_again(own_server: PrivateServer) -> None:
    crowd = [opened(own_server) for _ in range(PENDING)]
    try:
        with opened(own_server) as one_more:
            one_more.sendall(PREFACE)
            assert refusal(all_of(one_more)) == 106
        # It asks again until those who say nothing are sent away.
        with aiomanager.sync.connect(own_server.address.url) as manager:
            assert manager.names() == {}
    finally:
        for sock in crowd:
            sock.close()


async def test_async_clients_come_again_too(own_server: PrivateServer) -> None:
    crowd = [opened(own_server) for _ in range(PENDING)]
    try:
        async with aiomanager.connect(own_server.address.url) as manager:
            assert await manager.names() == {}
    finally:
        for sock in crowd:
            sock.close()


def test_the_server_closes_behind_a_bye(own_server: PrivateServer) -> None:
    with aiomanager.sync.connect(own_server.address.url) as manager:
        d = manager.dict()
        (connection,) = d._channel._all  # type: ignore[attr-defined]
        connection._say_bye(SECONDS)
        assert connection._socket.recv(1) == b""


def test_keeping_without_keep_is_agreed_on_with_the_process_itself_alone(
    own_server: PrivateServer,
) -> None:
    with aiomanager.sync.connect(own_server.address.url) as manager:
        (connection,) = manager.dict()._channel._all  # type: ignore[attr-defined]
        assert connection._implicit
    from multiprocessing import get_context

    # The proxy stands in this process, the client in another one.
    with Chaos(own_server.address) as proxy, get_context("spawn").Pool(1) as pool:
        assert pool.apply(_agreed, (proxy.url,)) is False
        assert pool.apply(_agreed, (own_server.address.url,)) is True


def _agreed(url: str) -> bool:
    with aiomanager.sync.connect(url) as manager:
        (connection,) = manager.dict()._channel._all  # type: ignore[attr-defined]
        return bool(connection._implicit)


def test_a_server_that_offers_it_takes_it_back_when_it_sees_the_hello() -> None:
    handshake = ServerHandshake(
        nonce=b"n" * 32, server=b"s" * 16, key=None, capabilities=(IMPLICIT_KEEP,)
    )
    assert handshake.agreed == ()  # nobody has offered anything yet
    handshake.capabilities = ()
    assert handshake.agreed == ()
