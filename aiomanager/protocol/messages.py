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
_LARGE_HEADERS: Final = (b"\xdc", b"\xdd", b"\xde", b"\xdf")
_MAX_DEPTH: Final = 32
"""No operation of any type has arguments or a result nested so deeply: values are bytes here."""


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


def decode(payload: bytes) -> list[Any]:
    """Return the message in a frame's payload, `[type, ack, ...]`, both being numbers.

    Raises:
        BadEncoding: the payload is no such message.
    """
    # Each large header makes the library allocate room for what it promises, so several of them
    # are checked first. They occur by chance inside large values: the check is quick.
    if len(payload) > _SMALL and sum(map(payload.count, _LARGE_HEADERS)) > 4:
        try:
            walk(payload, _MAX_DEPTH)
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
