"""Frames whole, byte by byte and with a tail; their limits hold before they cost memory."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomanager.errors import BadEncoding, FrameTooLarge, ProtocolError
from aiomanager.protocol.frames import MAX_FRAME, FrameBuffer, frame

SIZES = [1, 2, 3, 255, 256, 4095, 4096, 4097, 10_000, 1 << 17]

payloads = st.lists(st.sampled_from(SIZES).map(lambda size: bytes([size % 251]) * size), max_size=5)


def fed(buffer: FrameBuffer, *pieces: bytes) -> list[bytes]:
    return [bytes(payload) for piece in pieces for payload in buffer.feed(piece)]


def test_a_frame_is_its_length_and_its_payload() -> None:
    assert frame(b"abc") == b"\0\0\0\3abc"


@pytest.mark.parametrize("size", SIZES)
def test_a_frame_comes_whole(size: int) -> None:
    payload = b"x" * size
    buffer = FrameBuffer(1 << 20)
    assert fed(buffer, frame(payload)) == [payload]
    assert len(buffer) == 0


@pytest.mark.parametrize("size", [1, 2, 255, 4096, 4097, 10_000])
def test_a_frame_comes_byte_by_byte(size: int) -> None:
    payload = bytes(range(256)) * (size // 256 + 1)
    payload = payload[:size]
    buffer = FrameBuffer(1 << 20)
    data = frame(payload)
    for position in range(len(data) - 1):
        assert buffer.feed(data[position : position + 1]) == []
        assert len(buffer) in (position + 1, position - 3)
    assert fed(buffer, data[-1:]) == [payload]
    assert len(buffer) == 0


@pytest.mark.parametrize("size", [1, 4096, 4097])
@pytest.mark.parametrize("tail", [1, 3, 4, 5, 100])
def test_a_frame_comes_with_the_beginning_of_the_next(size: int, tail: int) -> None:
    first, second = b"a" * size, b"b" * 200
    following = frame(second)
    buffer = FrameBuffer(1 << 20)
    assert fed(buffer, frame(first) + following[:tail]) == [first]
    assert fed(buffer, following[tail:]) == [second]
    assert len(buffer) == 0


@given(payloads, st.data())
def test_frames_come_in_any_pieces(expected: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(map(frame, expected))
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8).map(sorted))
    buffer = FrameBuffer(1 << 20)
    pieces = [stream[start:stop] for start, stop in zip([0, *cuts], [*cuts, None], strict=True)]
    assert fed(buffer, *pieces) == expected
    assert len(buffer) == 0


def test_an_empty_piece_changes_nothing() -> None:
    buffer = FrameBuffer(100)
    assert fed(buffer, b"", b"\0\0", b"", b"\0\1", b"", b"a", b"") == [b"a"]


@pytest.mark.parametrize("pieces", [1, 2, 4])
def test_a_length_beyond_the_limit_is_refused_when_it_is_read(pieces: int) -> None:
    buffer = FrameBuffer(1000)
    head = (1001).to_bytes(4, "big")
    step = 4 // pieces
    for position in range(0, 4 - step, step):
        assert buffer.feed(head[position : position + step]) == []
    with pytest.raises(FrameTooLarge, match="1001 bytes; the limit is 1000"):
        buffer.feed(head[4 - step :])


def test_a_payload_of_just_the_limit_passes() -> None:
    assert fed(FrameBuffer(1000), frame(b"x" * 1000)) == [b"x" * 1000]
    assert fed(FrameBuffer(5000), frame(b"x" * 5000)[:50], frame(b"x" * 5000)[50:]) == [b"x" * 5000]


def test_a_frame_without_payload_is_refused() -> None:
    for data in (b"\0\0\0\0", b"\0\0\0\1a\0\0\0\0"):
        with pytest.raises(BadEncoding):
            FrameBuffer(1000).feed(data)


def test_what_is_refused_breaks_the_protocol() -> None:
    assert issubclass(FrameTooLarge, ProtocolError)
    assert issubclass(BadEncoding, ProtocolError)


@pytest.mark.parametrize("size", [MAX_FRAME, (1 << 32) - 1])
def test_a_promise_takes_no_memory(size: int) -> None:
    buffer = FrameBuffer(MAX_FRAME)
    tracemalloc.start()
    try:
        try:
            buffer.feed(size.to_bytes(4, "big") + b"some bytes of it")
        except FrameTooLarge:
            assert size > MAX_FRAME
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
    assert len(buffer) <= 16


def test_a_large_frame_that_drips_in_is_copied_about_once() -> None:
    size, piece = 16 << 20, 1 << 12
    buffer = FrameBuffer(MAX_FRAME)
    data = memoryview(frame(bytes(size)))
    pieces = [bytes(data[position : position + piece]) for position in range(0, len(data), piece)]
    tracemalloc.start()
    try:
        for one in pieces[:-1]:
            assert buffer.feed(one) == []
        # Were it joined anew for each piece, a second copy would be there at a time.
        assert tracemalloc.get_traced_memory()[1] < 1.5 * size
    finally:
        tracemalloc.stop()
    assert len(buffer) == size + 4 - len(pieces[-1]) - 4
    (payload,) = buffer.feed(pieces[-1])
    assert len(payload) == size


def test_a_large_frame_that_drips_in_is_not_joined_anew_for_each_piece() -> None:
    size, piece = 1 << 20, 64
    buffer = FrameBuffer(MAX_FRAME)
    data = frame(bytes(size))
    for position in range(0, len(data) - piece, piece):
        buffer.feed(data[position : position + piece])
        # What stands here would be copied with the next piece.
        assert len(buffer.rest) == 0
