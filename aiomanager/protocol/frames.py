"""Frames: a length of four bytes, then that many bytes. Bytes in, payloads out; nothing else."""

from typing import Final

from aiomanager.errors import BadEncoding, FrameTooLarge

__all__ = ("HEADERS", "MAX_FRAME", "MIN_FRAME", "SHORT", "FrameBuffer", "frame")

MAX_FRAME: Final = 1 << 30
"""The largest payload that the format allows; both sides agree on a smaller one or this."""

MIN_FRAME: Final = 1 << 13
"""The smallest limit that the two may agree on: whatever travels together with others also fits
alone, and so does any error's message."""

SHORT: Final = 512
HEADERS: Final = tuple(size.to_bytes(4, "big") for size in range(SHORT + 1))
"""The headers of short frames, by the size of their payload: quicker than to make and read them."""

_SMALL = 1 << 12


def frame(payload: bytes) -> bytes:
    """Return `payload` as a frame."""
    return len(payload).to_bytes(4, "big") + payload


class FrameBuffer:
    """Takes bytes in any pieces and returns whole payloads.

    A length beyond `limit` is refused when it is read, before anything is allocated for it. The
    memory in use is that of the bytes received. A large payload comes as the bytearray that it was
    gathered in: one copy less.
    """

    __slots__ = ("_pieces", "limit", "missing", "rest")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.rest: bytes = b""
        """The beginning of a small frame, or of a length."""
        self._pieces = bytearray()
        """The beginning of a large frame's payload."""
        self.missing = 0
        """How many bytes the large frame still lacks."""

    def feed(self, data: bytes) -> list[bytes | bytearray]:
        """Take bytes and return the payloads that are now complete.

        Raises:
            FrameTooLarge: a frame beyond the limit; nothing more may be fed.
            BadEncoding: a frame without payload.
        """
        if not self.missing and not self.rest:
            # As a rule one call or answer comes alone.
            size = int.from_bytes(data[:4], "big")
            if size + 4 == len(data) and 0 < size <= self.limit:
                return [data[4:]]
        payloads: list[bytes | bytearray] = []
        start = 0
        if self.missing:
            if len(data) < self.missing:
                self._pieces += data
                self.missing -= len(data)
                return payloads
            start = self.missing
            self._pieces += memoryview(data)[:start]
            payloads.append(self._pieces)
            self._pieces = bytearray()
            self.missing = 0
        elif self.rest:
            data = self.rest + data
            self.rest = b""
        end = len(data)
        while end - start >= 4:
            size = int.from_bytes(data[start : start + 4], "big")
            if not 0 < size <= self.limit:
                if size == 0:
                    raise BadEncoding("a frame without payload")
                raise FrameTooLarge(f"a frame of {size} bytes; the limit is {self.limit}")
            stop = start + 4 + size
            if stop > end:
                if size > _SMALL:
                    self._pieces += memoryview(data)[start + 4 :]
                    self.missing = stop - end
                    return payloads
                break
            payloads.append(data[start + 4 : stop])
            start = stop
        self.rest = data[start:]
        return payloads

    def __len__(self) -> int:
        """The number of bytes that wait for the rest of their frame."""
        return len(self.rest) + len(self._pieces)
