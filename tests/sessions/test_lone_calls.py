"""A call that comes alone takes a shorter way: it must do exactly what the general one does.

Two servers get the same messages, one of them each in a piece of its own, the other one cut in
the middle of each frame's header, which takes the general way.
"""

from random import Random
from typing import Any

import pytest

from aiomanager.errors import ProtocolError
from aiomanager.protocol.frames import frame
from aiomanager.protocol.messages import (
    ACK,
    CALL,
    CALLS,
    CANCEL,
    KEEP,
    POST,
    RESULT,
    encode,
)
from aiomanager.sessions.client import ClientSession

from .test_server import Line, World

KINDS = {
    "dict": [[]],
    "list": [[]],
    "Queue": [2],
    "Lock": [],
    "RLock": [],
    "Semaphore": [1],
    "Event": [],
    "Condition": [],
    "LockTable": [],
    "broken": [],
}
OPERATIONS: dict[str, list[tuple[str, list[Any]]]] = {
    "dict": [
        ("set", [b"\xa1k", 1]), ("set", [b"\xa1k", "x" * 700]), ("get", [b"\xa1k"]),
        ("get_item", [b"\xa1q"]), ("pop", [b"\xa1k"]), ("increment", [b"\xa1n"]), ("get", []),
        ("no_such_thing", []), ("items", []),
    ],
    "list": [("append", ["a"]), ("copy", []), ("pop", []), ("extend", [[1, 2]])],
    "Queue": [
        ("put", ["item"]), ("put", ["late", True, 5.0]), ("get", []), ("get", [False]),
        ("get_many", [3]), ("task_done", []), ("join", []), ("put", ["x" * 600]),
    ],
    "Lock": [("acquire_fenced", []), ("release", []), ("locked", []), ("acquire_fenced", [False])],
    "RLock": [("acquire_fenced", []), ("release", []), ("acquire_fenced", [True, 2.0])],
    "Semaphore": [("acquire", []), ("release", []), ("acquire", [False]), ("value", [])],
    "Event": [("set", []), ("clear", []), ("wait", []), ("wait", [1.0])],
    "Condition": [
        ("acquire_fenced", []), ("release", []), ("wait_fenced", []), ("notify", [1]),
        ("wait_fenced", [1.5]),
    ],
    "LockTable": [("acquire_keys", [[b"\xa1a", b"\xa1b"]]), ("release_keys", [[b"\xa1a"]])],
    "broken": [("fail", []), ("echo", [7]), ("large", [600])],
}  # fmt: skip


class Pair:
    """The same client at two servers."""

    def __init__(self, name: int, worlds: "tuple[World, World]", implicit: bool) -> None:
        self.lines = tuple(Line(world, name).attach(implicit_keep=implicit) for world in worlds)
        self.ack = 0
        """How many answers the client says it has; not always the newest of it."""
        self.next_id = 100

    def send(self, message: list[Any], *, current: bool) -> None:
        alone, cut = self.lines
        assert alone.received == cut.received
        if current:
            self.ack = alone.received
        data = frame(encode([message[0], self.ack, *message[1:]]))
        alone.session.receive_data(data)
        cut.session.receive_data(data[:2])
        cut.session.receive_data(data[2:])


def same(pairs: list[Pair]) -> None:
    for pair in pairs:
        alone, cut = pair.lines
        assert alone.got == cut.got
        one, other = alone.session.stream, cut.session.stream
        for name in one.__slots__:
            assert getattr(one, name) == getattr(other, name), name
        assert alone.session.waiting == cut.session.waiting
        assert alone.session.parked == cut.session.parked
        alone.got.clear()
        cut.got.clear()


def random_message(random: Random, pair: Pair, objects: dict[str, int]) -> list[Any]:
    kind = random.choice(list(objects))
    name, arguments = random.choice(OPERATIONS[kind])
    owner = random.choice((0, 1, 1, 2))
    what = random.random()
    if what < 0.06:
        return [CANCEL, random.randrange(pair.next_id - 12, pair.next_id + 1)]
    if what < 0.14:
        return [KEEP, [random.randrange(pair.next_id - 6, pair.next_id + 1)]]
    pair.next_id += 1
    if what < 0.2:
        return [CALLS, [[pair.next_id, objects[kind], name, arguments, owner]]]
    if what < 0.26:
        return [POST, pair.next_id, objects[kind], name, arguments, owner]
    return [CALL, pair.next_id, objects[kind], name, arguments, owner]


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("seed", range(40))
def test_it_does_what_the_general_way_does(seed: int, implicit: bool) -> None:
    random = Random(f"{seed} {implicit}")
    worlds = World(), World()
    pairs = [Pair(name, worlds, implicit) for name in (1, 2, 3)]
    objects: dict[str, int] = {}
    for kind, given in KINDS.items():
        pairs[0].send([CALL, 50, 0, "create", [kind, given], 0], current=True)
        objects[kind] = pairs[0].lines[0].got[-1][3]
        same(pairs)
    careless = random.random() < 0.5
    for _ in range(300):
        pair = random.choice(pairs)
        message = random_message(random, pair, objects)
        pair.send(message, current=not careless or random.random() < 0.7)
        if random.random() < 0.05:
            pair.send([ACK], current=True)
        if random.random() < 0.1:
            for world in worlds:
                world.clock.advance(0.7)
        same(pairs)


@pytest.mark.parametrize("size", [10, 10_000])
def test_what_looks_like_a_call_inside_of_another_is_none(size: int) -> None:
    line = World().line()
    table = line.make("dict", [])
    inner = frame(encode([CALL, line.received, 51, table, "set", [b"\xa1k", 1], 0]))
    outer = [CALL, 50, table, "set", [b"\xa1v", b"\xc4" + b"x" * size + inner], 0]
    data = frame(encode([outer[0], line.received, *outer[1:]]))
    at = data.index(inner)
    # Cut just there, and the end of the outer one just behind it.
    for piece in (data[:at], inner, data[at + len(inner) :]):
        line.send_bytes(piece)
    assert line.value(table, "length") == 1
    assert line.value(table, "contains", b"\xa1v")


@pytest.mark.parametrize("size", [10, 10_000])
def test_what_looks_like_an_answer_inside_of_another_is_none(size: int) -> None:
    session: ClientSession[str] = ClientSession(b"s" * 16, {"frame": 1 << 20, "calls": 1024})
    assert session.lone_call("caller", 1, "get", [], 0) is not None
    inner = frame(encode([RESULT, 1, 1, "wrong"]))
    data = frame(encode([RESULT, 1, 1, b"x" * size + inner]))
    at = data.index(inner)
    assert session.lone_answer(data[:at]) is None
    assert session.receive_data(data[:at]) == []
    assert session.lone_answer(inner) is None
    ((who, message),) = session.receive_data(inner + data[at + len(inner) :])
    assert (who, message[3][-5:]) == ("caller", b"wrong")


def test_nothing_is_an_answer_behind_a_breach_of_the_protocol() -> None:
    session: ClientSession[str] = ClientSession(b"s" * 16, {"frame": 1 << 20, "calls": 1024})
    session.lone_call("first", 1, "get", [], 0)
    session.call("second", 1, "get", [], 0)
    session.data_to_send()
    answers = [frame(encode([RESULT, 2, number, None])) for number in (1, 2)]
    breach = frame(encode([20, 2, 2, None]))
    assert [who for who, _ in session.receive_data(answers[0] + breach)] == ["first"]
    assert session.lone_answer(answers[1]) is None
    with pytest.raises(ProtocolError):
        session.receive_data(answers[1])


def test_a_session_that_ended_or_lost_its_connection_answers_nothing() -> None:
    world = World()
    one, other = world.line(), world.line()
    table = one.make("dict", [])
    other.value(table, "length")
    one.session.finish()
    assert one.call(table, "set", b"\xa1k", 1) == []
    other.session.detach()
    assert other.call(table, "length") == []
    assert world.store.entries[table].object.length() == 0


@pytest.mark.parametrize("place", [1, 2, 3, 6], ids=["ack", "call", "object", "owner"])
@pytest.mark.parametrize("kind", [float, bool])
def test_a_number_that_only_equals_the_right_one_is_refused(place: int, kind: type[Any]) -> None:
    world = World()
    line = world.line()
    table = line.make("dict", [])
    # Other numbers are larger: one that is 1 may be looked at twice anyway.
    message: list[Any] = [CALL, line.received, 50, table, "length", [], 50]
    assert (line.received, table) == (1, 1)
    if place in (2, 6):
        message[place] = 1
    message[place] = kind(message[place])
    with pytest.raises(ProtocolError):
        line.send_bytes(frame(encode(message)))


@pytest.mark.parametrize("none", [0.0, False])
def test_nothing_received_is_a_number_too(none: object) -> None:
    line = World().line()
    with pytest.raises(ProtocolError):
        line.send_bytes(frame(encode([CALL, none, 50, 0, "names", [], 50])))


@pytest.mark.parametrize(
    ("place", "number"),
    [(0, True), (0, -1), (0, 2**53), (1, False), (1, 0.0), (4, True), (4, -1), (4, 2**53)],
)
def test_numbers_in_a_batch_are_as_strict(place: int, number: object) -> None:
    line = World().line()
    item: list[Any] = [50, 0, "names", [], 50]
    item[place] = number
    with pytest.raises(ProtocolError):
        line.send([CALLS, [[49, 0, "names", [], 50], item]])
