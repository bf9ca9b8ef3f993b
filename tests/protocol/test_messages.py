"""Messages: what goes in comes out, and what is no message is refused before it costs anything."""

import random
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomanager.errors import BadEncoding
from aiomanager.protocol import messages
from aiomanager.protocol.messages import decode, encode

GOOD: list[list[Any]] = [
    [messages.CALL, 0, 1, 0, "create", ["dict", [[[b"a", 1]]]], 7],
    [messages.CALL, 5, 2, 1, "set", [b"key", b"value"], 0],
    [messages.CALL, 5, 2**53 - 1, 1, "set", [[b"k", True], [b"value", [3, 4]]], 2**53 - 1],
    [messages.POST, 0, 3, 1, "release", [], 1],
    [messages.CANCEL, 0, 1],
    [messages.KEEP, 0, [1, 2]],
    [messages.HOLD, 0, [1]],
    [messages.RELEASE, 0, [1, 1]],
    [messages.BYE, 0],
    [messages.CALLS, 0, [[1, 0, "names", [], 0], [2, 0, "names", [], 0]]],
    [messages.RESULT, 0, 1, None],
    [messages.RESULT, 0, 1, [[b"k", 1.5], [b"l", "text"]]],
    [messages.ERROR, 0, 1, 400, "the key is not there", b"k"],
    [messages.CANCELLED, 0, 1, 0],
    [messages.RESULTS, 0, [[1, None], [2, b"value"]]],
    [messages.ACK, 2**40],
    [messages.GOAWAY, 0, 109, "moved"],
]


@pytest.mark.parametrize("message", GOOD, ids=lambda message: str(message[0]))
def test_what_is_encoded_is_decoded(message: list[Any]) -> None:
    assert decode(encode(message)) == message
    assert decode(bytearray(encode(message))) == message


def test_what_is_inside_of_values_is_of_no_concern() -> None:
    random.seed(5)
    # Every byte that could be a header, over and over, inside of a value.
    for value in (random.randbytes(100_000), b"\xdd" * 600, b"\xdf\xff\xff\xff\xff" * 600):
        message = [messages.CALL, 0, 1, 1, "set", [b"key", value], 0]
        assert decode(encode(message)) == message


def nest(depth: int) -> bytes:
    return b"\x92\x00\x00"[:2] + b"\x91" * depth + b"\x00"


BAD = {
    "nothing": b"",
    "a number": b"\x05",
    "a map": b"\x82\x00\x00\x01\x00",
    "text": encode("text"),
    "an empty array": b"\x90",
    "a type alone": b"\x91\x00",
    "a type that is a bool": encode([True, 0]),
    "a type that is a float": encode([0.0, 0]),
    "a type that is text": encode(["0", 0]),
    "an ack that is nil": encode([0, None]),
    "an ack that is a bool": encode([0, False]),
    "an ack below zero": encode([0, -1]),
    "an ack that is an array": encode([0, [0]]),
    "an ack that is a float": encode([0, 1.0]),
    "cut short": encode(GOOD[0])[:-1],
    "bytes behind the end": encode(GOOD[0]) + b"\0",
    "two messages": encode(GOOD[0]) * 2,
    "text that is no UTF-8": b"\x94\x00\x00\x01\xa2\xff\xfe",
    "the byte c1": b"\x93\x00\x00\xc1",
    "a timestamp of a wrong length": b"\x93\x10\x00\xd4\xff\x00",
    "an array within a map key": b"\x93\x10\x00\x81\x90\x00",
    "a number as a map key": b"\x93\x10\x00\x81\x01\x00",
    "an array that promises much": b"\x93\x00\x00\xdd\xff\xff\xff\xff",
    "a map that promises much": b"\x93\x00\x00\xdf\x7f\xff\xff\xff",
    "text that promises much": b"\x93\x00\x00\xdb\xff\xff\xff\xff",
    "bytes that promise much": b"\x93\x00\x00\xc6\xff\xff\xff\xff",
    "arrays that promise much, many times": b"\x93\x00\x00" + b"\xdd\x00\x0f\xff\xff" * 1000,
    "maps that promise much, many times": b"\x93\x00\x00" + b"\xde\xff\xff" * 1000,
    "a thousand arrays within each other": nest(1000),
    "many thousand arrays within each other": nest(100_000),
}


@pytest.mark.parametrize("payload", BAD.values(), ids=BAD)
def test_what_is_no_message_is_refused(payload: bytes) -> None:
    with pytest.raises(BadEncoding, match=r"message.*\w"):
        decode(payload)


def test_arrays_that_promise_much_take_no_memory() -> None:
    # Each of these has the library allocate eight bytes for each byte of the payload.
    payload = b"\x93\x00\x00" + b"\xdd\x00\x0f\xff\xff" * 1000 + bytes(1 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(BadEncoding):
            decode(payload)
        assert tracemalloc.get_traced_memory()[1] < 10 * len(payload)
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_refused(payload: bytes) -> None:
    try:
        message = decode(payload)
    except BadEncoding:
        return
    assert type(message) is list
    assert type(message[0]) is type(message[1]) is int
    assert message[1] >= 0


@given(st.sampled_from(GOOD), st.data())
def test_a_message_with_a_changed_byte_is_a_message_or_refused(
    message: list[Any], data: st.DataObject
) -> None:
    payload = bytearray(encode(message))
    payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(bytes(payload))
    except BadEncoding:
        pass
