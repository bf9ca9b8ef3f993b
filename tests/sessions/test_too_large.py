"""An operation whose answer is too large to be sent is undone, by whichever way it was called."""

from collections.abc import Callable
from typing import Any

import pytest

from aiomanager import SharedObject, reads, writes
from aiomanager.errors import TooLarge, exception_of
from aiomanager.operation import V
from aiomanager.protocol.messages import CALLS, ERROR, RELEASE
from aiomanager.protocol.values import reference

from .test_server import Line, World


class Bag(SharedObject, name="bag"):
    """A type of a user's whose answers are large, and what takes them back needs the arguments."""

    def __init__(self) -> None:
        self._items: list[Any] = []

    @writes
    def push(self, value: V) -> None:
        self._items.append(value)

    @writes
    def push_and_show(self, value: V) -> bytes:
        self._items.append(value)
        return bytes(9000)

    @push_and_show.put_back
    def _pull(self, result: bytes, value: V) -> None:
        del self._items[next(i for i, item in enumerate(self._items) if item is value)]

    @writes
    def drop(self, value: V) -> bytes:
        self._items.clear()
        return bytes(9000)

    @drop.put_back
    def _restore(self, result: bytes, value: V) -> None:
        self._items.append(value)

    @reads
    def length(self) -> int:
        return len(self._items)


def alone(line: Line, *call: Any) -> list[Any]:
    return line.call(*call)


def generally(line: Line, *call: Any) -> list[Any]:
    line.session._quiet = False
    return line.call(*call)


def in_a_batch(line: Line, object_id: int, name: str, *arguments: Any) -> list[Any]:
    first = line.next_id = line.next_id + 2
    answers = line.send(
        [CALLS, [[first, 0, "names", [], 1], [first + 1, object_id, name, list(arguments), 1]]]
    )
    line.next_id += 1
    return next(answer for answer in answers if answer[0] == ERROR)


@pytest.fixture
def line() -> Line:
    world = World(frame=8192)
    world.store.types["bag"] = Bag
    line = world.line()
    line.value(0, "names")
    line.value(0, "names")  # so that the next call is one of many
    return line


WAYS = pytest.mark.parametrize("way", [alone, generally, in_a_batch])


@WAYS
def test_what_undoes_it_gets_the_very_arguments(line: Line, way: Callable[..., list[Any]]) -> None:
    bag = line.make("bag")
    answer = way(line, bag, "push_and_show", b"\x93\x01\x02\x03")
    assert isinstance(exception_of(answer[3], answer[4]), TooLarge)
    assert line.value(bag, "length") == 0


@WAYS
def test_what_only_the_arguments_refer_to_lives_until_it_is_undone(
    line: Line, way: Callable[..., list[Any]]
) -> None:
    bag = line.make("bag")
    inner = line.make("list", [])
    referring = line.world.store._codec.encode(reference(inner, "list"))
    line.value(bag, "push", referring)
    line.send([RELEASE, [inner]])  # the bag has the last reference
    answer = way(line, bag, "drop", referring)
    assert isinstance(exception_of(answer[3], answer[4]), TooLarge)
    assert line.value(bag, "length") == 1
    assert line.value(inner, "length") == 0
