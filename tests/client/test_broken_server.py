"""A server that breaks the protocol: all clients say the same of it."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

import aiomanager.sync
from aiomanager.client._channel import unreachable
from aiomanager.errors import ConnectionLost, ProtocolError, SessionLost
from aiomanager.protocol.address import parse_address
from aiomanager.protocol.frames import frame
from aiomanager.protocol.handshake import ServerHandshake
from aiomanager.protocol.messages import RESULT, encode

BROKEN = {
    "no message": frame(b"\xc1"),
    "no frame": b"\x00\x00\x00\x00",
    "a message of a client's": frame(encode([2, 0, 1])),
    "an ack of what was not sent": frame(encode([RESULT, 99, 1, None])),
}


@pytest.fixture(params=BROKEN.values(), ids=BROKEN)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a server that answers the first bytes of each session so."""
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        with _serving(listening, lambda sock: _break(sock, request.param)):
            yield f"unix://{path}"


@contextmanager
def _serving(listening: socket.socket, serve: Callable[[socket.socket], None]) -> Iterator[None]:
    """Have a thread serve those who connect, one after the other, and close each connection."""

    def accept() -> None:
        while True:
            try:
                sock, _ = listening.accept()
            except OSError:
                return
            with sock:
                serve(sock)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def _break(sock: socket.socket, answer: bytes) -> None:
    handshake = ServerHandshake(
        nonce=os.urandom(32), server=b"s" * 16, key=None, peer_uid=os.geteuid()
    )
    while not handshake.authenticated:
        data = sock.recv(4096)
        if not data:
            return
        handshake.receive_data(data)
    hello = handshake.hello
    assert hello is not None
    sock.sendall(
        handshake.welcome(
            session=b"i" * 16 if hello.resume is None else hello.resume.session,
            resumed=hello.resume is not None,
            grace=5.0,
            limits={"frame": 1 << 20, "calls": 1024},
            agent="broken",
        )
    )
    if sock.recv(4096):
        sock.sendall(answer)
    while sock.recv(4096):
        pass


SAID = "may or may not have been executed.*the server broke the protocol"


def test_a_blocking_client_loses_the_session(url: str) -> None:
    manager = aiomanager.sync.connect(url)
    try:
        with pytest.raises(SessionLost, match=SAID):
            manager.names()
    finally:
        manager.close()


async def test_an_async_client_loses_the_session(url: str) -> None:
    manager = aiomanager.connect(url)
    await manager.start()
    try:
        with pytest.raises(SessionLost, match=SAID):
            await manager.names()
    finally:
        await manager.aclose()


async def test_the_next_session_begins_while_the_lost_one_is_closed(url: str) -> None:
    manager = aiomanager.connect(url)
    await manager.start()
    try:
        with anyio.fail_after(30):
            for _ in range(20):
                with pytest.raises(SessionLost, match=SAID):
                    await manager.names()
    finally:
        await manager.aclose()


@pytest.fixture(params=[b"HTTP/1.1 400 Bad Request\r\n", b"\0" * 64, b"\0\0\0\x04abcd", b""])
def other(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of what is no server of ours: it says something and closes."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        _serving(listening, lambda sock: sock.sendall(request.param)),
    ):
        yield f"tcp://127.0.0.1:{listening.getsockname()[1]}"


def test_an_error_without_a_word_is_told_by_its_cause_or_its_class() -> None:
    address = parse_address("tcp://h:1")
    error = anyio.BrokenResourceError()
    assert "at tcp://h:1 (BrokenResourceError). Is" in str(unreachable(address, error))
    error.__cause__ = ConnectionResetError("reset by peer")
    assert "at tcp://h:1 (reset by peer). Is" in str(unreachable(address, error))


async def test_what_is_no_server_is_named(other: str) -> None:
    said = f"(no server answers at|what answers at) {other} |no server of aiomanager"
    for _ in range(5):  # what was read before the end of the connection is a matter of luck
        with pytest.raises((ProtocolError, ConnectionLost), match=said) as caught:
            aiomanager.sync.connect(other, authkey=b"k" * 16)
        assert "()" not in str(caught.value)
        with pytest.raises((ProtocolError, ConnectionLost), match=said) as caught:
            await aiomanager.connect(other, authkey=b"k" * 16).start()
        assert "()" not in str(caught.value)
