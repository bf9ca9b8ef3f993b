"""Messages of an open session: their numbers, their encoding, their strict decoding.

A message is one msgpack array, `[type, ack, ...]`: `ack` is how many sequenced messages its
sender has received in the session. Nothing here knows what a call means.
"""

from typing import Any, Final

from aiomanager.errors import BadEncoding
from aiomanager.protocol._msgpack import new_packer, unpack_message, walk

__all__ = (
    "ACK",
    "BYE",
    "CALL",
    "CALLS",
    "CANCEL",
    "CANCELLED",
    "ERROR",
    "FIRST_UNSEQUENCED",
    "GOAWAY",
    "HOLD",
    "KEEP",
    "POST",
    "RELEASE",
    "RESULT",
    "RESULTS",
    "decode",
    "encode",
)

# Sequenced, client to server
CALL: Final = 0
"""`[0, ack, call id, object id, operation, [arguments], owner]`, answered by RESULT or ERROR."""
POST: Final = 1
"""As CALL, answered only when it fails."""
CANCEL: Final = 2
"""`[2, ack, call id]`, answered by CANCELLED."""
KEEP: Final = 3
"""`[3, ack, [call ids]]`: what these calls were granted is theirs for good."""
HOLD: Final = 4
"""`[4, ack, [object ids]]`: the client now refers to these objects."""
RELEASE: Final = 5
"""`[5, ack, [object ids]]`: one reference less to each."""
BYE: Final = 6
"""`[6, ack]`: the session ends in good order."""
CALLS: Final = 7
"""`[7, ack, [[call id, object id, operation, [arguments], owner], ...]]`: up to BATCH calls."""

# Sequenced, server to client
RESULT: Final = 16
"""`[16, ack, call id, result]`."""
ERROR: Final = 17
"""`[17, ack, call id, code, message, data]`."""
CANCELLED: Final = 18
"""`[18, ack, call id, outcome]`: 0 the call never happened, 1 it was completed."""
RESULTS: Final = 19
"""`[19, ack, [[call id, result], ...]]`: the results of several calls."""

FIRST_UNSEQUENCED: Final = 32
"""Messages from here on are not counted, kept or sent again."""
ACK: Final = 32
"""`[32, ack]`, either way: nothing else to say."""
GOAWAY: Final = 33
"""`[33, ack, code, message]`, server to client: this connection ends."""

encode = new_packer().pack
"""Return a message as the payload of a frame."""

_SMALL: Final = 512
"""Too few bytes to promise much: a header's promise is limited by the size of the whole."""
_FEW: Final = 4
_LARGE_HEADERS: Final = (b"\xdc", b"\xdd", b"\xde", b"\xdf")
_HEADERS: Final = 256
_FIXED: Final = {
    **dict.fromkeys((0xC0, 0xC2, 0xC3), 1),
    **{0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9, 0xD0: 2, 0xD1: 3, 0xD2: 5, 0xD3: 9},
    **{0xCA: 5, 0xCB: 9, 0xD4: 3, 0xD5: 4, 0xD6: 6, 0xD7: 10, 0xD8: 18},
}
"""Bytes of the values of one size, by their first byte."""
_SIZED: Final = {
    **{0xC4: (1, 0, 0), 0xC5: (2, 0, 0), 0xC6: (4, 0, 0)},
    **{0xD9: (1, 0, 0), 0xDA: (2, 0, 0), 0xDB: (4, 0, 0)},
    **{0xC7: (1, 1, 0), 0xC8: (2, 1, 0), 0xC9: (4, 1, 0)},
    **{0xDC: (2, 0, 1), 0xDD: (4, 0, 1), 0xDE: (2, 0, 2), 0xDF: (4, 0, 2)},
}
"""By first byte: bytes of the length, bytes besides, and parts for each counted by it."""
_MAX_DEPTH: Final = 32
"""No operation of any type has arguments or a result nested so deeply: values are bytes here."""


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


def _suspicious(payload: bytes | bytearray) -> bool:
    """Tell whether more than a few bytes could be the header of a large array or map."""
    found = 0
    for header in _LARGE_HEADERS:
        place = payload.find(header)
        while place >= 0:
            found += 1
            if found > _FEW:
                return True
            place = payload.find(header, place + 1)
    return False


def _check_headers(payload: bytes | bytearray) -> None:
    """Follow the headers of a message and skip over its values, which are not copied for it.

    Raises:
        ValueError: it is not exactly one msgpack value, or a header promises too much.
    """
    end = len(payload)
    left, at = 1, 0
    for _ in range(_HEADERS):
        if not left:
            break
        first = payload[at] if at < end else 0xC1
        left -= 1
        if first < 0x80 or first >= 0xE0:
            at += 1
        elif first < 0xA0:
            left += (first & 0x0F) * (1 if first >= 0x90 else 2)
            at += 1
        elif first < 0xC0:
            at += 1 + (first & 0x1F)
        elif first in _SIZED:
            width, fixed, per_item = _SIZED[first]
            size = int.from_bytes(payload[at + 1 : at + 1 + width], "big")
            at += 1 + width + fixed
            if per_item:
                left += size * per_item
            else:
                at += size
        elif first in _FIXED:
            at += _FIXED[first]
        else:
            raise ValueError("a byte that begins no value, or bytes are missing")
        if left > end - at:
            raise ValueError("a header promises more than there is")
    else:
        walk(payload, _MAX_DEPTH)  # so many parts are followed quicker by the library
        return
    if at != end:
        raise ValueError("bytes after the end of the value")


def decode(payload: bytes | bytearray) -> list[Any]:
    """Return the message in a frame's payload, `[type, ack, ...]`, both being numbers.

    Raises:
        BadEncoding: the payload is no such message.
    """
    # Each large header makes the library allocate room for what it promises, so several of them
    # are checked first. They occur by chance inside large values: the check is quick.
    if len(payload) > _SMALL and _suspicious(payload):
        try:
            _check_headers(payload)
        except (ValueError, RecursionError) as error:
            raise BadEncoding(f"a malformed message: {_said(error)}") from None
    try:
        message: list[Any] = unpack_message(payload)
    except (ValueError, TypeError, RecursionError) as error:
        raise BadEncoding(f"a malformed message: {_said(error)}") from None
    if (
        type(message) is not list
        or len(message) < 2
        or type(message[0]) is not int
        or type(message[1]) is not int
        or message[1] < 0
    ):
        raise BadEncoding("a message must be an array that begins with its type and an ack")
    return message
