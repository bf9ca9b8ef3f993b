"""Tests of how a thread waits for an answer: awake for a moment, then asleep."""

import select
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import aiomanager.sync
from aiomanager.client import _waiting
from aiomanager.client._channel import READ
from aiomanager.client._waiting import AWAKE, TOO_LONG, UNTRIED, Wait, leave_it, waiting_for
from aiomanager.errors import ConnectionLost
from aiomanager.protocol.frames import frame
from aiomanager.protocol.messages import ACK, encode
from aiomanager.sessions.plans import AHEAD

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    here, there = socket.socketpair()
    with here, there:
        yield here, there


class Machine:
    """A clock that only moves when others are let go first, and counts of what was done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.let = 0
        """How many times others were let go first."""
        self.looked = 0
        self.takes = AWAKE / 3.5
        """How long others take."""
        self.then: Callable[[], object] = lambda: None
        """What they do."""
        machine = self

        class Poll:
            def __init__(self) -> None:
                self._poll = real()
                self.register = self._poll.register

            def poll(self, *timeout: int) -> Any:
                machine.looked += 1
                return self._poll.poll(*timeout)

        real = select.poll
        monkeypatch.setattr(_waiting.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
        monkeypatch.setattr(_waiting.select, "poll", Poll)
        monkeypatch.setattr(_waiting.os, "sched_yield", self._let_others)
        monkeypatch.setattr(_waiting.time, "monotonic", lambda: self.now)

    def _let_others(self) -> None:
        self.let += 1
        self.now += self.takes
        self.then()

    def counts(self, wait: Wait) -> tuple[int, int]:
        """Wait; return how often others were let go first, and how often it looked."""
        before = self.let, self.looked
        wait()
        return self.let - before[0], self.looked - before[1]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_who_has_the_servers_only_core_leaves_it_to_the_server(
    machine: Machine, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_waiting.os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert waiting_for(pair[0], [1]) is leave_it


def test_what_is_there_is_not_waited_for(machine: Machine, pair: Pair) -> None:
    here, there = pair
    wait = waiting_for(here, [1])
    there.send(b"1")
    assert machine.counts(wait) == (0, 1)
    there.close()
    here.recv(1)
    assert machine.counts(wait) == (0, 1)  # the end, as well


def test_what_comes_soon_is_found_awake(machine: Machine, pair: Pair) -> None:
    here, there = pair
    wait = waiting_for(here, [1])
    machine.then = lambda: machine.let == 3 and there.send(b"1")
    assert machine.counts(wait) == (3, 4)


def test_what_comes_late_is_left_to_the_one_who_reads(machine: Machine, pair: Pair) -> None:
    wait = waiting_for(pair[0], [1])
    for _ in range(3):
        assert machine.counts(wait) == (4, 5)


@pytest.mark.parametrize("found", [False, True])
def test_where_others_take_long_it_is_not_tried_for_some_time(
    machine: Machine, pair: Pair, found: bool
) -> None:
    here, there = pair
    wait = waiting_for(here, [1])
    machine.takes = TOO_LONG + AWAKE
    machine.then = lambda: found and there.send(b"1")
    assert machine.counts(wait) == (1, 2)
    machine.then = lambda: there.send(b"1")
    for _ in range(UNTRIED):
        assert machine.counts(wait) == (0, 0)
    assert machine.counts(wait) == ((0, 1) if found else (1, 2))


def test_with_several_threads_who_reads_waits(machine: Machine, pair: Pair) -> None:
    used: list[int] = []
    wait = waiting_for(pair[0], used)
    used += [1, 2]
    assert machine.counts(wait) == (0, 0)
    del used[0]
    machine.then = lambda: pair[1].send(b"1")
    assert machine.counts(wait) == (1, 2)


def test_threads_that_have_ended_do_not_count() -> None:
    with aiomanager.sync.Manager() as manager:
        shared = manager.dict()
        used = shared._channel.used
        assert len(used) == 1
        ready = threading.Barrier(4)
        seen: list[int] = []

        def call() -> None:
            shared.increment("calls")
            ready.wait(30)
            seen.append(len(used))
            ready.wait(30)

        threads = [threading.Thread(target=call) for _ in range(3)]
        for thread in threads:
            thread.start()
        ready.wait(30)
        ready.wait(30)
        for thread in threads:
            thread.join()
        assert seen == [4] * 3
        assert shared["calls"] == 3
        assert len(used) == 1


def test_the_real_thing() -> None:
    with aiomanager.sync.Manager() as manager:
        shared = manager.dict()
        event = manager.Event()
        assert shared._channel._slot.connection._wait is not leave_it
        for number in range(3 * UNTRIED):
            shared["k"] = number
            assert shared["k"] == number
        timer = threading.Timer(0.1, event.set)
        timer.start()
        assert event.wait(30)
        timer.join()


def test_what_came_behind_a_handshake_is_read_first() -> None:
    with aiomanager.sync.Manager() as manager:
        shared = manager.dict(a=1)
        connection = shared._channel._slot.connection
        connection._pending = frame(encode([ACK, connection.session.stream.acknowledged]))
        assert shared["a"] == 1
        assert connection._pending == b""


def test_a_socket_that_another_thread_has_closed_is_a_lost_connection() -> None:
    with aiomanager.sync.Manager() as manager:
        shared = manager.dict(a=1)
        connection = shared._channel._slot.connection
        sock = connection._socket
        calls = connection.session.lone_call

        def lone_call(*call: Any) -> Any:
            connection._drop()
            connection.lost = ConnectionLost("the manager was closed")
            return calls(*call)

        connection.session.lone_call = lone_call
        with pytest.raises(ConnectionLost, match="the manager was closed"):
            shared.get("a")
        assert sock.fileno() == -1


def test_where_poll_was_taken_away_who_reads_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "poll")  # as eventlet.monkey_patch() does
    with aiomanager.sync.Manager() as manager:
        shared = manager.dict(a=1)
        assert shared["a"] == 1


def test_long_answers_are_read_at_once_from_the_second_on() -> None:
    with aiomanager.sync.Manager() as manager:
        shared = manager.dict()
        plan = shared._channel._plans.of(type(shared).operations["get"])
        for size, ahead in ((10, AHEAD), (5000, READ), (200_000, READ), (10, READ)):
            shared["k"] = "x" * size
            assert shared.get("k") == "x" * size
            assert plan.ahead == ahead
        for size in range(AHEAD - 40, AHEAD + 40):  # around the first read's end
            plan.ahead = AHEAD
            shared["k"] = "x" * size
            assert [shared.get("k"), shared.get("k")] == ["x" * size] * 2
