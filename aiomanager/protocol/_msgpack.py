"""The one door to the msgpack library, with types; it knows nothing of what the bytes mean."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, cast

import msgpack  # pyright: ignore[reportMissingTypeStubs]

if TYPE_CHECKING:

    class ExtType(NamedTuple):
        """An extension part: its code (0 to 127) and its payload."""

        code: int
        data: bytes

    class Timestamp:
        """The instant of msgpack's own extension -1."""

        seconds: int
        nanoseconds: int

        def __init__(self, seconds: int, nanoseconds: int = 0) -> None: ...

else:
    ExtType = msgpack.ExtType
    Timestamp = msgpack.Timestamp

__all__ = (
    "MAX_DEPTH",
    "ExtType",
    "Packer",
    "Timestamp",
    "ext",
    "new_packer",
    "pack_ext",
    "read_front",
    "unpack",
    "walk",
)

MAX_DEPTH: Final = 128
"""`walk` refuses arrays and maps nested deeper than this."""

_library: Any = cast("Any", msgpack)


class Packer(Protocol):
    """What this package uses of `msgpack.Packer`; one that is at work must not be entered again."""

    def pack(self, obj: object, /) -> bytes: ...
    def pack_ext_type(self, typecode: int, data: bytes, /) -> bytes: ...


def new_packer() -> Packer:
    """Return a packer: plain types, bytes as bin, surrogates and too big integers refused."""
    return cast("Packer", _library.Packer(buf_size=1024))


_unpackb: Callable[..., Any] = _library.unpackb
_new_ext: Callable[..., Any] = cast("Any", tuple).__new__


def ext(code: int, data: bytes) -> ExtType:
    """Return an extension part; much quicker than the class, which checks its arguments."""
    return cast("ExtType", _new_ext(ExtType, (code, data)))


def pack_ext(code: int, *parts: bytes | memoryview) -> bytes:
    """Return an encoded extension part whose payload is `parts`, with one copy of them."""
    size = sum(map(len, parts))
    if size in _FIXEXT:
        head = bytes((_FIXEXT[size], code))
    elif size < 1 << 8:
        head = bytes((0xC7, size, code))
    elif size < 1 << 16:
        head = b"\xc8" + size.to_bytes(2, "big") + bytes((code,))
    else:
        head = b"\xc9" + size.to_bytes(4, "big") + bytes((code,))
    return b"".join((head, *parts))


_FIXEXT: Final = {1: 0xD4, 2: 0xD5, 4: 0xD6, 8: 0xD7, 16: 0xD8}


def unpack(
    data: bytes,
    ext_hook: Callable[[int, bytes], Any],
    pairs_hook: Callable[[list[tuple[Any, Any]]], Any] | None = None,
) -> Any:
    """Return the one value that `data` holds.

    Raises ValueError for bytes that are no encoding of one value, TypeError for an unhashable map
    key, and whatever a hook raises.
    """
    return _unpackb(data, ext_hook=ext_hook, object_pairs_hook=pairs_hook, strict_map_key=False)


def read_front(data: bytes) -> tuple[Any, int]:
    """Return the value at the front of `data` and its length; raises ValueError when incomplete."""
    reader: Any = _library.Unpacker(None, max_buffer_size=len(data), strict_map_key=False)
    reader.feed(data)
    try:
        value = reader.unpack()
    except _library.OutOfData:
        raise ValueError("incomplete") from None
    return value, reader.tell()


_prefix: bytes | None = None


def walk(data: bytes) -> None:
    """Check headers, lengths and depth of `data` without building anything.

    Raises ValueError when it is not exactly one value, or nested deeper than MAX_DEPTH.
    """
    global _prefix
    if _prefix is None:
        _prefix = _probe()
    reader: Any = _library.Unpacker(None, max_buffer_size=len(_prefix) + len(data))
    reader.feed(_prefix)
    reader.feed(data)
    try:
        reader.skip()
    except _library.OutOfData:
        raise ValueError("incomplete, or a header promises too much") from None
    if reader.tell() != len(_prefix) + len(data):
        raise ValueError("bytes after the end of the value")


def _probe() -> bytes:
    """Find how many arrays around a value leave room for MAX_DEPTH levels inside.

    The library's own limit is fixed when it is compiled (1024) and cannot be asked for.
    """

    def nests(levels: int) -> bool:
        reader: Any = _library.Unpacker(None)
        reader.feed(b"\x91" * levels + b"\xc0")
        try:
            reader.skip()
        except (ValueError, RecursionError):
            return False
        return True

    low, high = MAX_DEPTH, 1 << 16
    if not nests(low) or nests(high):
        return b""  # an implementation without a fixed limit: only the later check counts
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if nests(middle) else (low, middle)
    return b"\x91" * (low - MAX_DEPTH)
