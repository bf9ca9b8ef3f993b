"""A blocking call that is interrupted: nothing of it is left over, and what must be done is."""

import gc
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from interrupts import Interrupt, interrupted

import aiomanager.sync
from aiomanager.client import _blocking
from aiomanager.client._channel import Book

SECONDS = 30


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
def sockets(manager: aiomanager.sync.Manager) -> Callable[[], Socket]:
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
    manager: aiomanager.sync.Manager, sockets: Callable[[], Socket], size: int, short_of: int
) -> None:
    d: Any = manager.dict()
    d["k"] = "old"
    new = b"\xff" * size
    sock = sockets()
    sock.short_of = short_of
    with pytest.raises(Interrupt):
        d["k"] = new
    assert sock.sent == []  # it would be the call's next byte
    assert d["k"] in ("old", new)
    d["k"] = new
    assert d["k"] == new


def test_who_is_interrupted_again_and_again_says_once_that_it_goes_on(
    manager: aiomanager.sync.Manager, sockets: Callable[[], Socket]
) -> None:
    d: Any = manager.dict()
    q: Any = manager.Queue()
    for turn in range(3):
        q.put(turn)
        sock = sockets()
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


# Handlers that raise what sockets raise


class Alarm(TimeoutError):
    """What many a handler raises."""


@pytest.fixture
def alarm() -> Iterator[None]:
    """A handler of SIGUSR1 that raises."""

    def handler(*_: object) -> None:
        raise Alarm("the user's own")

    before = signal.signal(signal.SIGUSR1, handler)
    yield
    signal.signal(signal.SIGUSR1, before)


class Alarming(Socket):
    """A socket in whose calls a signal comes."""

    def __init__(self, real: Any, where: str) -> None:
        super().__init__(real)
        self.where = where

    def sendall(self, data: bytes) -> None:
        self.alarm("sendall")
        super().sendall(data)

    def recv(self, size: int) -> bytes:
        self.alarm("recv")
        return super().recv(size)

    def alarm(self, where: str) -> None:
        if where == self.where:
            self.where = ""
            os.kill(os.getpid(), signal.SIGUSR1)


@pytest.mark.usefixtures("alarm")
@pytest.mark.parametrize("where", ["sendall", "recv"])
@pytest.mark.parametrize("size", [1, 500_000])
def test_what_a_handler_raises_is_no_broken_connection(
    manager: aiomanager.sync.Manager, where: str, size: int
) -> None:
    d: Any = manager.dict({"k": b"x" * size})
    q: Any = manager.Queue()
    connection = manager._channel._slot.connection
    for call in (q.get, lambda: d.set("k", b"y" * size), lambda: d["k"]):
        connection._socket = Alarming(connection._socket, where)
        with pytest.raises(Alarm, match="the user's own"):
            call()
    q.put(1)
    assert q.get(timeout=SECONDS) == 1


@pytest.mark.usefixtures("alarm")
def test_nor_is_it_a_server_that_does_not_answer(
    manager: aiomanager.sync.Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Any = _blocking._connected

    def connected(*given: Any) -> Any:
        os.kill(os.getpid(), signal.SIGUSR1)
        return real(*given)

    monkeypatch.setattr(_blocking, "_connected", connected)
    with pytest.raises(Alarm, match="the user's own"):
        aiomanager.sync.connect(manager.url)
    monkeypatch.setattr(_blocking, "tune", connected)
    with pytest.raises(Alarm, match="the user's own"):
        aiomanager.sync.connect(manager.url)


def test_a_timeout_that_is_thrown_into_a_call_is_the_callers(
    manager: aiomanager.sync.Manager, sockets: Callable[[], Socket]
) -> None:
    """As by PyThreadState_SetAsyncExc, which makes it without arguments."""
    d: Any = manager.dict()

    class Thrown(Socket):
        def recv(self, size: int) -> bytes:
            raise TimeoutError

    connection = manager._channel._slot.connection
    connection._socket = Thrown(connection._socket)
    with pytest.raises(TimeoutError):
        d["k"] = 1
    d["k"] = 2
    assert d["k"] == 2


# What must be done all the same


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "LockTable"])
def test_what_with_acquired_is_released_wherever_that_is_interrupted(
    manager: aiomanager.sync.Manager, kind: str
) -> None:
    thing: Any = getattr(manager, kind)()
    free = (lambda: thing.value() == 1) if kind == "Semaphore" else lambda: not thing.locked()
    if kind == "LockTable":
        table, thing = thing, thing("a", "b")
        free = lambda: not (table.locked("a") or table.locked("b"))  # noqa: E731
    number = 0
    going_on = True
    while going_on:
        number += 1
        thing.__enter__()
        assert not free()
        going_on = interrupted(
            number, lambda: thing.__exit__(None, None, None), "BlockingChannel._post"
        )
        assert free(), number
    assert number > 30


def test_a_release_is_posted_once_wherever_that_is_interrupted(
    manager: aiomanager.sync.Manager,
) -> None:
    lock = manager.RLock()
    number = 0
    going_on = True
    while going_on:
        number += 1
        assert lock.acquire()
        assert lock.acquire()
        going_on = interrupted(
            number, lambda: lock.__exit__(None, None, None), "BlockingChannel._post"
        )
        assert lock.locked(), number
        lock.release()
        assert not lock.locked(), number


def test_a_session_of_an_interrupted_thread_start_is_used_again(
    manager: aiomanager.sync.Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    d: Any = manager.dict({"k": 1})
    real: Any = _blocking._Keeper

    class Keeper(real):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            raise Interrupt

    for part in (Keeper, lambda *_: (_ for _ in ()).throw(Interrupt)):
        outcome: list[Any] = []

        def work(part: Any = part, outcome: list[Any] = outcome) -> None:
            monkeypatch.setattr(_blocking, "_Keeper", part)
            with pytest.raises(Interrupt):
                d["k"]
            monkeypatch.setattr(_blocking, "_Keeper", real)
            outcome.append(d["k"])

        thread = threading.Thread(target=work)
        thread.start()
        thread.join(SECONDS)
        assert outcome == [1]
    assert manager.statistics()["sessions"] == 2


def objects_of(manager: aiomanager.sync.Manager) -> int:
    """Return how many objects the server has when it knows what was dropped here."""
    gc.collect()
    for _ in range(2):  # a call takes along what was dropped, and is ahead of it
        manager.names()
    return manager.statistics()["objects"]


def test_objects_in_an_answer_that_nobody_gets_are_let_go_of(
    manager: aiomanager.sync.Manager, sockets: Callable[[], Socket]
) -> None:
    q: Any = manager.Queue()
    inner: Any = manager.dict({"k": 1})
    q.put(inner)
    for make in (manager.dict, q.get):
        before = objects_of(manager)
        sock = sockets()
        sock.short_of = 0  # it is written, and answered on the next connection
        with pytest.raises(Interrupt):
            make()  # type: ignore[operator]
        assert objects_of(manager) == before
    del inner, q, make
    assert objects_of(manager) == 0


def test_several_threads_may_take_what_was_dropped() -> None:
    class Contested(deque[int]):
        def popleft(self) -> int:
            self.clear()  # by another thread, since it was looked at
            return super().popleft()

    book = Book()
    book.dropped = Contested([1, 2])
    assert book.take_dropped() == []
