"""A blocking call that is interrupted as it writes: no half of it, and no more, is carried out."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import aiomanager.sync


class Interrupt(BaseException):
    """What a signal handler raises."""


class Socket:
    """A connection's own socket; its calls are interrupted as by a signal handler that raises."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.short_of: int | None = None
        """How many bytes the next sendall() leaves unsent when it is interrupted."""
        self.behind = False
        """Whether recv() and send() are interrupted, when they are done."""
        self.sent: list[bytes] = []
        """What was sent by send()."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def sendall(self, data: bytes) -> None:
        if self.short_of is None:
            self._real.sendall(data)
            return
        self._real.sendall(data[: len(data) - self.short_of])
        raise Interrupt

    def recv(self, size: int) -> bytes:
        data: bytes = self._real.recv(size)
        if self.behind:
            raise Interrupt
        return data

    def send(self, data: bytes, flags: int) -> None:
        self.sent.append(data)
        self._real.send(data, flags)
        if self.behind:
            raise Interrupt


@pytest.fixture
def manager() -> Iterator[aiomanager.sync.Manager]:
    with aiomanager.sync.Manager() as manager:
        yield manager


@pytest.fixture
def interrupted(manager: aiomanager.sync.Manager) -> Callable[[], Socket]:
    """What puts a Socket into the connection of this thread."""
    channel: Any = manager.dict()._channel

    def put() -> Socket:
        connection = channel._slot.connection
        sock = connection._socket = Socket(connection._socket)
        return sock

    return put


@pytest.mark.parametrize("size", [1, 5_000, 300_000])
@pytest.mark.parametrize("short_of", [0, 1, 2, 3, 4, 5])
def test_no_call_is_carried_out_that_was_not_written_whole(
    manager: aiomanager.sync.Manager, interrupted: Callable[[], Socket], size: int, short_of: int
) -> None:
    d: Any = manager.dict()
    d["k"] = "old"
    new = b"\xff" * size
    sock = interrupted()
    sock.short_of = short_of
    with pytest.raises(Interrupt):
        d["k"] = new
    assert sock.sent == []  # it would be the call's next byte
    assert d["k"] in ("old", new)
    d["k"] = new
    assert d["k"] == new


def test_who_is_interrupted_again_and_again_says_once_that_it_goes_on(
    manager: aiomanager.sync.Manager, interrupted: Callable[[], Socket]
) -> None:
    d: Any = manager.dict()
    q: Any = manager.Queue()
    for turn in range(3):
        q.put(turn)
        sock = interrupted()
        sock.behind = True
        with pytest.raises(Interrupt) as caught:
            q.get()
        assert isinstance(
            caught.value.__context__, Interrupt
        )  # it came as the first was dealt with
        d["k"] = turn
        assert sock.sent == [b"\0"]
        assert d["k"] == turn
        assert q.get_delivery() == (turn, True)
        assert q.empty()
