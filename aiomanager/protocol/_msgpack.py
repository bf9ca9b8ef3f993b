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
    "ExtType",
    "Packer",
    "Timestamp",
    "ext",
    "fixed_depth",
    "new_packer",
    "new_tell_tale",
    "pack_ext",
    "read_front",
    "unpack",
    "unpack_message",
    "walk",
)

_library: Any = cast("Any", msgpack)


class Packer(Protocol):
    """What this package uses of `msgpack.Packer`; one that is at work must not be entered again."""

    def pack(self, obj: object, /) -> bytes: ...
    def pack_ext_type(self, typecode: int, data: bytes, /) -> bytes: ...


def new_packer() -> Packer:
    """Return a packer of exact plain types, which takes bytearray and memoryview for bytes.

    It raises TypeError for other types, OverflowError for too big integers, UnicodeEncodeError for
    surrogates, and ValueError for too many levels.
    """
    return cast("Packer", _library.Packer(strict_types=True, buf_size=1024))


def new_tell_tale() -> Packer:
    """Return a packer that differs from `new_packer` in nothing but how it writes bytes.

    Two equal results say that there are no bytes, bytearrays or memoryviews inside.
    """
    return cast("Packer", _library.Packer(strict_types=True, use_bin_type=False, buf_size=1024))


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


class _Unpack(Protocol):
    def __call__(
        self,
        data: bytes,
        *,
        ext_hook: Callable[[int, bytes], Any],
        object_pairs_hook: Callable[[list[tuple[Any, Any]]], Any] | None,
        strict_map_key: bool,
    ) -> Any: ...


unpack: Final = cast("_Unpack", _library.unpackb)
unpack_message: Final = cast("Callable[[bytes | bytearray], Any]", _library.unpackb)
"""As `unpack`, with the library's defaults: extensions stay `ExtType`, map keys are text."""
"""Return the one value that `data` holds.

Raises ValueError for bytes that are no encoding of one value, TypeError for an unhashable map
key, and whatever a hook raises.
"""


def read_front(data: bytes) -> tuple[Any, int]:
    """Return the value at the front of `data` and its length; raises ValueError when incomplete."""
    reader: Any = _library.Unpacker(None, max_buffer_size=len(data), strict_map_key=False)
    reader.feed(data)
    try:
        value = reader.unpack()
    except _library.OutOfData:
        raise ValueError("incomplete") from None
    return value, reader.tell()


fixed_depth: Final = not str(_library.Packer.__module__).endswith("fallback")
"""Whether `walk` checks the depth; msgpack in pure Python recurses and has no limit of its own."""

_levels: int | None = None if fixed_depth else 0


def walk(data: bytes | bytearray, depth: int) -> None:
    """Check headers, lengths and depth of `data` without building anything.

    Raises ValueError when it is not exactly one value, or arrays and maps are nested deeper than
    `depth`, if `fixed_depth`.
    """
    global _levels
    if _levels is None:
        _levels = _probe()
    around = b"\x91" * (_levels - depth)
    reader: Any = _library.Unpacker(None, max_buffer_size=len(around) + len(data))
    reader.feed(around)
    reader.feed(data)
    try:
        reader.skip()
    except _library.OutOfData:
        raise ValueError("incomplete, or a header promises too much") from None
    if reader.tell() != len(around) + len(data):
        raise ValueError("bytes after the end of the value")


def _probe() -> int:
    """Find how many levels the library takes.

    The limit is set when it is compiled (1024) and cannot be asked for.
    """

    def nests(levels: int) -> bool:
        reader: Any = _library.Unpacker(None)
        reader.feed(b"\x91" * levels + b"\xc0")
        try:
            reader.skip()
        except (ValueError, RecursionError):
            return False
        return True

    low, high = 128, 1 << 16
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if nests(middle) else (low, middle)
    return low
