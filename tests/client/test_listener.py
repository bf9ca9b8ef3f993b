"""What a server's listener does with connections that come too many, too slow, or say goodbye."""

import asyncio
import os
import queue
import resource
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

import aiomanager.sync
from aiomanager.objects import TYPES
from aiomanager.objects.dict import Dict
from aiomanager.protocol.address import parse_address
from aiomanager.protocol.frames import FrameBuffer, frame
from aiomanager.protocol.handshake import IMPLICIT_KEEP, PREFACE, ServerHandshake
from aiomanager.protocol.messages import CALL, decode, encode
from aiomanager.server import listener
from aiomanager.server.listener import PENDING, Server
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


# Who does not read


class Deaf:
    """A client that confirms answers which it does not read, and a dict out of which it takes."""

    def __init__(self, url: str, server: Server) -> None:
        self.server = server
        self.beside = aiomanager.sync.connect(url)
        self.values = self.beside.dict({number: os.urandom(1 << 20) for number in range(40)})
        before = set(server.carriers)
        self.manager = aiomanager.sync.connect(url)
        self.manager.names()
        (self.carrier,) = set(server.carriers) - before
        channel: Any = self.manager._channel
        connection = channel._slot.connection
        self.socket: socket.socket = connection._socket
        self.socket.settimeout(SECONDS)
        self.encode = channel._plans.of(Dict.operations["pop"]).encode
        self.said = connection.session.stream.received
        self.last_id = connection.session.last_id

    def take(self, number: int) -> None:
        """Ask for a value, as if all answers so far had come."""
        self.last_id += 1
        which = self.encode((number,))
        where = self.values._reference.object_id
        self.socket.sendall(frame(encode([CALL, self.said, self.last_id, where, "pop", which, 1])))
        self.said += 1

    def left(self, expected: int) -> int:
        """Return how many values are left, once it is so many or for some time is not."""
        deadline = time.monotonic() + 0.3
        while (found := self.values.length()) != expected and time.monotonic() < deadline:
            time.sleep(0.001)
        return found

    def take_all(self) -> int:
        """Ask for one value after another, until one is not given; return how many were."""
        for number in range(40):
            self.take(number)
            if self.left(39 - number) > 39 - number:
                return number
        return 40

    def close(self) -> None:
        self.manager.close()
        self.beside.close()


@pytest.fixture
def deaf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deaf]:
    """A deaf client, of a server that runs in a thread of this process."""
    monkeypatch.setattr(listener, "LAST_WORDS_SECONDS", 0.05, raising=False)
    ready: queue.Queue[tuple[Any, ...]] = queue.Queue()

    async def main() -> None:
        server = Server(types=TYPES)
        address = await server.listen(parse_address(f"unix://{tmp_path / 's'}"))
        over = asyncio.Event()
        ready.put((address.url, server, asyncio.get_running_loop(), over))
        await over.wait()
        await server.close()

    thread = threading.Thread(target=uvloop.run, args=(main(),), daemon=True)
    thread.start()
    url, server, loop, over = ready.get(timeout=SECONDS)
    deaf = Deaf(url, server)
    yield deaf
    deaf.close()
    loop.call_soon_threadsafe(over.set)
    thread.join(SECONDS)


def test_nothing_is_executed_for_who_confirms_answers_without_reading_them(deaf: Deaf) -> None:
    taken = deaf.take_all()
    assert 8 <= taken <= 12
    # He reads: what waits is executed, and all of it comes.
    buffer, found = FrameBuffer(1 << 30), 0
    while found <= taken:
        found += sum(len(one) > 1 << 20 for one in buffer.feed(deaf.socket.recv(1 << 20)))
    assert found == taken + 1
    assert deaf.values.length() == 39 - taken
    deaf.take(taken + 1)
    assert deaf.left(38 - taken) == 38 - taken


def test_the_last_words_to_who_does_not_read_are_not_kept_for_ever(deaf: Deaf) -> None:
    taken = deaf.take_all()
    assert taken < 40
    # Now he confirms what was never made.
    deaf.take(taken + 1)
    deadline = time.monotonic() + SECONDS
    while deaf.carrier.descriptor() >= 0:
        assert time.monotonic() < deadline, "the connection is there for ever"
        time.sleep(0.005)
