"""The counters of a session: what is kept, confirmed and sent again, and what is said when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomanager.errors import ProtocolError
from aiomanager.protocol.stream import ACK_BYTES, ACK_FRAMES, Stream


def sent(*frames: bytes) -> Stream:
    stream = Stream()
    for frame in frames:
        stream.send(frame)
    return stream


def test_what_was_sent_is_kept_until_it_is_confirmed() -> None:
    stream = sent(b"a", b"bb", b"ccc")
    assert (stream.sent, stream.unacknowledged, stream.kept_bytes) == (3, 3, 6)
    stream.acknowledge(2)
    assert (stream.acknowledged, stream.unacknowledged, stream.kept_bytes) == (2, 1, 3)
    stream.acknowledge(1)
    assert (stream.acknowledged, stream.unacknowledged) == (2, 1)
    stream.acknowledge(3)
    assert (stream.unacknowledged, stream.kept_bytes) == (0, 0)


def test_nothing_can_be_confirmed_that_was_not_sent() -> None:
    stream = sent(b"a")
    with pytest.raises(ProtocolError, match="message 2 was acknowledged, only 1 were sent"):
        stream.acknowledge(2)
    assert stream.unacknowledged == 1


def test_a_message_that_claims_too_much_is_not_counted() -> None:
    stream = sent(b"a")
    with pytest.raises(ProtocolError):
        stream.receive(2, 10)
    assert stream.received == 0
    stream.receive(1, 10)
    assert (stream.received, stream.unacknowledged) == (1, 0)


def test_after_a_new_connection_the_rest_is_sent_again() -> None:
    stream = sent(b"a", b"bb", b"ccc")
    stream.acknowledge(1)
    assert stream.resume(2) == [b"ccc"]
    assert (stream.sent, stream.acknowledged, stream.kept_bytes) == (3, 2, 3)
    assert stream.resume(2) == [b"ccc"]
    stream.send(b"d")
    assert stream.resume(3) == [b"d"]
    assert stream.resume(4) == []


@pytest.mark.parametrize("count", [0, 4])
def test_a_count_that_cannot_be_right_is_refused_and_changes_nothing(count: int) -> None:
    stream = sent(b"a", b"bb", b"ccc")
    stream.acknowledge(1)
    for refuse in (stream.check, stream.resume):
        with pytest.raises(ProtocolError):
            refuse(count)
    assert (stream.acknowledged, stream.unacknowledged, stream.kept_bytes) == (1, 2, 5)


def test_the_other_side_is_told_after_so_many_messages() -> None:
    stream = Stream()
    for _ in range(ACK_FRAMES - 1):
        stream.receive(0, 1)
    assert not stream.ack_due
    stream.receive(0, 1)
    assert stream.ack_due
    assert stream.tell() == ACK_FRAMES
    assert not stream.ack_due


def test_the_other_side_is_told_after_so_many_bytes() -> None:
    stream = Stream()
    stream.receive(0, ACK_BYTES - 1)
    assert not stream.ack_due
    stream.receive(0, 1)
    assert stream.ack_due
    stream.send(b"which says so")
    assert not stream.ack_due


def test_a_message_made_before_says_nothing_new() -> None:
    stream = Stream()
    stream.receive(0, ACK_BYTES)
    stream.send_late(b"late")
    assert stream.ack_due
    assert (stream.sent, stream.kept_bytes) == (1, 4)
    assert stream.resume(0) == [b"late"]


def test_a_new_connection_tells_both_sides() -> None:
    stream = Stream()
    stream.receive(0, ACK_BYTES)
    stream.resume(0)
    assert not stream.ack_due
    stream.receive(0, 1)
    assert not stream.ack_due


def test_a_send_that_was_interrupted_is_whole_after_the_next_connection() -> None:
    stream = sent(b"a")
    # A signal handler raised between the two: it is kept, and not counted.
    stream.kept.append((2, b"bb"))
    assert stream.resume(0) == [b"a", b"bb"]
    assert (stream.sent, stream.kept_bytes) == (2, 3)


class Side:
    """One side with the messages that it has received, and the bytes on their way to it."""

    def __init__(self) -> None:
        self.stream = Stream()
        self.coming: list[tuple[int, bytes]] = []
        self.got: list[bytes] = []

    def send(self, frame: bytes, other: "Side") -> None:
        ack = self.stream.received
        self.stream.send(frame)
        other.coming.append((ack, frame))

    def take(self) -> None:
        if self.coming:
            ack, frame = self.coming.pop(0)
            self.stream.receive(ack, len(frame))
            self.got.append(frame)


@given(st.lists(st.sampled_from(["send", "send", "take", "take", "cut"])), st.integers(0, 3))
def test_each_message_arrives_once_and_in_order(steps: list[str], lost: int) -> None:
    left, right = Side(), Side()
    number = 0
    for step in steps:
        for one, other in ((left, right), (right, left)):
            if step == "send":
                number += 1
                one.send(b"%d" % number, other)
            elif step == "take":
                one.take()
        if step == "cut":
            del left.coming[lost:], right.coming[lost:]
            while left.coming or right.coming:
                left.take()
                right.take()
            for one, other in ((left, right), (right, left)):
                again = one.stream.resume(other.stream.received)
                other.coming = [(0, frame) for frame in again]
    while left.coming or right.coming:
        left.take()
        right.take()
    assert left.got == [b"%d" % one for one in range(1, number + 1) if one % 2 == 0]
    assert right.got == [b"%d" % one for one in range(1, number + 1) if one % 2]
