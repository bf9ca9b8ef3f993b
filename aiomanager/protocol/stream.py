"""One direction-aware stream of a session: what was sent and not yet confirmed, what was received.

A session outlives its connections by this: both sides count the sequenced messages that they
received, keep what they sent until the other side's count covers it, and after a new connection
send the rest again, in order. So each message takes effect exactly once. No bytes are read or
written here.
"""

from collections import deque
from typing import Final

from aiomanager.errors import ProtocolError

__all__ = ("ACK_BYTES", "ACK_FRAMES", "BATCH", "LIGHT", "Stream")

ACK_BYTES: Final = 1 << 16
ACK_FRAMES: Final = 256
"""Who received so much since it last said so, and has nothing else to send, sends an ACK."""
BATCH: Final = 128
"""The most calls, or results, that travel in one message."""
LIGHT: Final = 4096
"""Only those whose parts are smaller than this travel together with others."""


class Stream:
    """The counters of one side of a session, and its output that is not confirmed yet.

    A signal handler may raise in the middle of any method here. Each step is therefore one that
    `resume`, which always follows, finds whole: what was sent is numbered where it is kept.
    """

    __slots__ = ("acknowledged", "kept", "kept_bytes", "received", "sent", "told", "unsaid")

    def __init__(self) -> None:
        self.received = 0
        """How many sequenced messages came in: what `ack` says in each message sent."""
        self.sent = 0
        """How many sequenced messages were sent."""
        self.acknowledged = 0
        """How many of them are confirmed."""
        self.kept_bytes = 0
        self.kept: deque[tuple[int, bytes]] = deque()
        self.told = 0
        self.unsaid = 0
        """How many bytes came in since the other side was told of any."""

    @property
    def unacknowledged(self) -> int:
        """How many of the messages sent are not confirmed."""
        return len(self.kept)

    def send(self, frame: bytes) -> None:
        """Keep a sequenced frame that is about to be sent; it says the current `received`."""
        number = self.sent + 1
        self.kept.append((number, frame))
        self.sent = number
        self.kept_bytes += len(frame)
        self.told = self.received
        self.unsaid = 0

    def send_late(self, frame: bytes) -> None:
        """Keep a sequenced frame as `send`; it was made before and says an older `received`."""
        number = self.sent + 1
        self.kept.append((number, frame))
        self.sent = number
        self.kept_bytes += len(frame)

    def receive(self, ack: int, size: int) -> None:
        """Count a sequenced message of `size` bytes that came in with this `ack`.

        Raises:
            ProtocolError: the ack claims more than was sent; the message is not counted.
        """
        if ack > self.acknowledged:
            self.acknowledge(ack)
        self.received += 1
        self.unsaid += size

    def acknowledge(self, count: int) -> None:
        """Let go of what the other side has received; an older count says nothing new.

        Raises:
            ProtocolError: it claims more than was sent.
        """
        if count <= self.acknowledged:
            return
        if count > self.sent:
            raise ProtocolError(f"message {count} was acknowledged, only {self.sent} were sent")
        self.acknowledged = count
        kept = self.kept
        while kept and kept[0][0] <= count:
            self.kept_bytes -= len(kept.popleft()[1])

    @property
    def ack_due(self) -> bool:
        """Whether the other side must hear of what came in, though there is nothing to send."""
        return self.unsaid >= ACK_BYTES or self.received - self.told >= ACK_FRAMES

    def tell(self) -> int:
        """Return `received`, which an unsequenced message is about to say."""
        self.told = self.received
        self.unsaid = 0
        return self.received

    def check(self, count: int) -> None:
        """Check how many messages the other side says it has received, before `resume`.

        Raises:
            ProtocolError: it lies before what was confirmed already, or behind what was sent.
        """
        if count < self.acknowledged:
            raise ProtocolError(
                f"the other side has received {count} messages, "
                f"but confirmed {self.acknowledged} before"
            )
        if count > self.sent:
            raise ProtocolError(f"message {count} was acknowledged, only {self.sent} were sent")

    def resume(self, count: int) -> list[bytes]:
        """Begin again on a new connection, whose other side has received `count` messages.

        Returns what must be sent again, in order.

        Raises:
            ProtocolError: the count cannot be right, as `check` says.
        """
        kept = self.kept
        if kept:
            self.sent = kept[-1][0]
        self.check(count)
        self.acknowledge(count)
        while kept and kept[0][0] <= self.acknowledged:
            kept.popleft()
        self.kept_bytes = sum(len(frame) for _, frame in kept)
        self.told = self.received
        self.unsaid = 0
        return [frame for _, frame in kept]
