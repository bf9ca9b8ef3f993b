"""Values and their bytes, as protocol/values.md describes them; the server's half never unpickles.

Plain data goes straight to the C packer. Whatever msgpack would change in silence (a tuple, a
bytearray) or cannot carry is first lowered to extension parts.
"""

import datetime
import struct
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, TypeAlias, cast

from aiomanager.errors import BadEncoding, Denied, NeedsNeutralValue, TooLarge
from aiomanager.stored import MISSING, Packed

from ._msgpack import (
    ExtType,
    Packer,
    Timestamp,
    ext,
    fixed_depth,
    new_packer,
    new_tell_tale,
    pack_ext,
    read_front,
    unpack,
    walk,
)

__all__ = ("NeutralCodec", "ValueCodec", "check_packed", "reference")

Refer: TypeAlias = Callable[[object], tuple[int, str] | None]
Resolve: TypeAlias = Callable[[int, str], object]
Gather: TypeAlias = Callable[[Callable[[], bytes]], tuple[bytes, list[int]]]

TUPLE: Final = 1
SET: Final = 2
FROZENSET: Final = 3
BIG_INT: Final = 4
COMPLEX: Final = 5
DECIMAL: Final = 6
UUID: Final = 7
DATETIME: Final = 8
DATE: Final = 9
TIME: Final = 10
TIMEDELTA: Final = 11
ARRAY: Final = 12
REFERENCE: Final = 13
OPAQUE: Final = 14
STR: Final = 16
BYTEARRAY: Final = 17
FRACTION: Final = 21

MIN_INT: Final = -(1 << 63)
MAX_INT: Final = (1 << 64) - 1
MAX_SCALAR_STR: Final = 1024
MAX_BIG_INT: Final = 8192  # bytes of magnitude: 64 Kibit
MAX_DECIMAL: Final = 4096
MAX_ENCODE_DEPTH: Final = 100
MAX_DECODE_DEPTH: Final = 128

# Every extension part inside another one copies its payload. Up to here nobody minds; deeper
# than FREE_NESTING, level times length must stay below NESTING_BUDGET.
FREE_NESTING: Final = 16
NESTING_BUDGET: Final = 1 << 20

# Below SMALL no nesting can do harm; up to MEDIUM a count of header bytes tells.
_SMALL: Final = 128
_MEDIUM: Final = 2048
_HEADERS: Final = bytes((*range(0x80, 0xA0), *range(0xDC, 0xE0)))

# A packer keeps the buffer of the largest value that it packed.
_KEEP_PACKER: Final = 1 << 23
_LARGE: Final = 1 << 16

NAIVE: Final = 0x7FFFFFFF
_EPOCH: Final = datetime.datetime(1970, 1, 1)
_DAY_ZERO: Final = _EPOCH.toordinal()
_MICROSECOND: Final = datetime.timedelta(microseconds=1)
_SECOND: Final = datetime.timedelta(seconds=1)
_DAY_MICROSECONDS: Final = 86_400_000_000

_DATETIME: Final = struct.Struct(">qiB")
_DATE: Final = struct.Struct(">i")
_COMPLEX: Final = struct.Struct(">dd")

_NONE: Final = type(None)
_kind_of = cast("Callable[[object], type[Any]]", type)
_SCALARS: Final[frozenset[type]] = frozenset({_NONE, bool, int, float, str, bytes})
# The packer refuses some integers and strings: after that they are looked at one by one.
_CAREFUL: Final[frozenset[type]] = frozenset({_NONE, bool, float, bytes})

_DTYPES: Final = {
    "b1": 1, "i1": 1, "i2": 2, "i4": 4, "i8": 8, "u1": 1, "u2": 2, "u4": 4, "u8": 8,
    "f2": 2, "f4": 4, "f8": 8, "c8": 8, "c16": 16,
}  # fmt: skip
_TYPECODES: Final = {
    "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q",
    "f4": "f", "f8": "d",
}  # fmt: skip
_MAX_DIMENSIONS: Final = 32
_MAX_ARRAY_HEADER: Final = 1024
_HINT_NUMPY: Final = "numpy"
_HINT_ARRAY: Final = "array:"


# --- encoding ---------------------------------------------------------------------------------


class _Lowering:
    """One value on its way to msgpack's own types; holds what the whole way needs to know."""

    __slots__ = ("atoms", "fallback", "level", "packer", "references")

    def __init__(
        self,
        packer: Packer,
        atoms: frozenset[type],
        fallback: Callable[["_Lowering", Any], ExtType],
    ) -> None:
        self.packer = packer
        self.atoms = atoms
        self.fallback = fallback
        self.level = 0
        self.references: list[int] = []

    def lower(self, value: Any, depth: int) -> Any:
        """Return `value` as the packer takes it; `depth` containers are around it."""
        kind = _kind_of(value)
        if kind in self.atoms:
            return value
        lower = _LOWER.get(kind) or _lower_of(kind)
        return lower(self, value, depth)

    def enter(self) -> None:
        """Begin the payload of a part that holds values."""
        self.level += 1

    def leave(self, code: int, payload: bytes) -> ExtType:
        """Return the part whose payload is complete."""
        level = self.level
        self.level = level - 1
        if level > FREE_NESTING and level * len(payload) > NESTING_BUDGET:
            raise TooLarge(
                f"{len(payload)} bytes lie {level} tuples or sets deep; flatten the value"
            )
        return ext(code, payload)


_Lower: TypeAlias = Callable[[_Lowering, Any, int], Any]


def _deeper(depth: int) -> int:
    if depth >= MAX_ENCODE_DEPTH:
        raise TooLarge(
            f"the value is nested more than {MAX_ENCODE_DEPTH} levels deep, or contains itself"
        )
    return depth + 1


def _lower_int(low: _Lowering, value: int, depth: int) -> int | ExtType:
    if MIN_INT <= value <= MAX_INT:
        return value
    return ext(BIG_INT, big_int(value))


def big_int(value: int) -> bytes:
    """Return the payload of a big integer; raises TooLarge beyond the limit."""
    size = (value.bit_length() + 7) // 8
    if size > MAX_BIG_INT:
        raise TooLarge(f"an integer of {size} bytes; the limit is {MAX_BIG_INT}")
    return (b"\1" if value < 0 else b"\0") + abs(value).to_bytes(size, "big")


def _lower_str(low: _Lowering, value: str, depth: int) -> str | ExtType:
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return ext(STR, value.encode("utf-8", "surrogatepass"))
    return value


def _lower_list(low: _Lowering, value: list[Any], depth: int) -> list[Any]:
    depth = _deeper(depth)
    if low.atoms.issuperset(map(type, value)):
        return value
    lower = low.lower
    return [lower(item, depth) for item in value]


def _lower_dict(low: _Lowering, value: dict[Any, Any], depth: int) -> dict[Any, Any]:
    depth = _deeper(depth)
    atoms = low.atoms
    lower = low.lower
    if atoms.issuperset(map(type, value)):
        if atoms.issuperset(map(type, value.values())):
            return value
        return {key: lower(item, depth) for key, item in value.items()}
    result = {lower(key, depth): lower(item, depth) for key, item in value.items()}
    if len(result) != len(value):
        raise TypeError("two keys of a dict have the same encoding; one of them would be lost")
    return result


def _lower_tuple(low: _Lowering, value: tuple[Any, ...], depth: int) -> ExtType:
    if (
        depth < MAX_ENCODE_DEPTH
        and low.level < FREE_NESTING
        and low.atoms.issuperset(map(type, value))
    ):
        return ext(TUPLE, low.packer.pack(list(value)))
    depth = _deeper(depth)
    low.enter()
    if not low.atoms.issuperset(map(type, value)):
        lower = low.lower
        items = [lower(item, depth) for item in value]
    else:
        items = list(value)
    return low.leave(TUPLE, low.packer.pack(items))


def _lower_set(low: _Lowering, value: set[Any] | frozenset[Any], depth: int) -> ExtType:
    depth = _deeper(depth)
    low.enter()
    pack = low.packer.pack
    items = sorted([pack(low.lower(item, depth)) for item in value])
    return low.leave(SET if type(value) is set else FROZENSET, array_of(items))


def array_of(items: list[bytes]) -> bytes:
    """Return the msgpack array of encoded `items`."""
    size = len(items)
    if size < 16:
        head = bytes((0x90 | size,))
    elif size < 1 << 16:
        head = b"\xdc" + size.to_bytes(2, "big")
    else:
        head = b"\xdd" + size.to_bytes(4, "big")
    return head + b"".join(items)


def _lower_complex(low: _Lowering, value: complex, depth: int) -> ExtType:
    return ext(COMPLEX, _COMPLEX.pack(value.real, value.imag))


def _lower_bytearray(low: _Lowering, value: bytearray, depth: int) -> ExtType:
    return ext(BYTEARRAY, bytes(value))


def _zone_of(tz: datetime.tzinfo | None) -> str | None:
    """Return the name of a zone, "" for none or a plain offset, None for what only pickle carries.

    A fixed offset that was given a name of its own would lose it.
    """
    if tz is None:
        return ""
    kind = type(tz)
    if kind is datetime.timezone:
        return "" if len(cast("Any", tz).__getinitargs__()) == 1 else None
    zoneinfo = sys.modules.get("zoneinfo")
    if zoneinfo is not None and kind is zoneinfo.ZoneInfo:
        return cast("str | None", cast("Any", tz).key)
    return None


def _offset_of(offset: datetime.timedelta | None) -> int | None:
    """Return whole seconds, NAIVE without an offset, None for fractions of a second."""
    if offset is None:
        return NAIVE
    return None if offset.microseconds else offset // _SECOND


def _lower_datetime(low: _Lowering, value: datetime.datetime, depth: int) -> ExtType:
    zone = _zone_of(value.tzinfo)
    offset = _offset_of(value.utcoffset())
    if zone is None or offset is None:
        return low.fallback(low, value)
    return ext(
        DATETIME, _DATETIME.pack(wall_microseconds(value), offset, value.fold) + zone.encode()
    )


def wall_microseconds(value: datetime.datetime) -> int:
    """Return the microseconds since 1970 that the clock on the wall shows, whatever its zone."""
    seconds = (value.hour * 60 + value.minute) * 60 + value.second
    return ((value.toordinal() - _DAY_ZERO) * 86_400 + seconds) * 1_000_000 + value.microsecond


def _lower_time(low: _Lowering, value: datetime.time, depth: int) -> ExtType:
    zone = _zone_of(value.tzinfo)
    offset = _offset_of(value.utcoffset())
    if zone is None or offset is None:
        return low.fallback(low, value)
    return ext(TIME, _DATETIME.pack(time_of_day(value), offset, value.fold) + zone.encode())


def time_of_day(value: datetime.time) -> int:
    """Return the microseconds since midnight, as the clock on the wall counts them."""
    seconds = (value.hour * 60 + value.minute) * 60 + value.second
    return seconds * 1_000_000 + value.microsecond


def _lower_date(low: _Lowering, value: datetime.date, depth: int) -> ExtType:
    return ext(DATE, date_payload(value))


def date_payload(value: datetime.date) -> bytes:
    """Return the days since 1970-01-01."""
    return _DATE.pack(value.toordinal() - _DAY_ZERO)


def _lower_timedelta(low: _Lowering, value: datetime.timedelta, depth: int) -> ExtType:
    return ext(TIMEDELTA, timedelta_payload(value))


def timedelta_payload(value: datetime.timedelta) -> bytes:
    """Return the microseconds, in 8 bytes when they fit and else in 16."""
    microseconds = value // _MICROSECOND
    size = 8 if -(1 << 63) <= microseconds < 1 << 63 else 16
    return microseconds.to_bytes(size, "big", signed=True)


def _lower_decimal(low: _Lowering, value: Any, depth: int) -> ExtType:
    return ext(DECIMAL, decimal_payload(value))


_decimal_context: Any = None


def exact_decimals() -> Any:
    """Return a decimal context that neither rounds nor depends on the user's own."""
    global _decimal_context
    if _decimal_context is None:
        import decimal

        _decimal_context = decimal.Context(
            prec=decimal.MAX_PREC,
            Emin=decimal.MIN_EMIN,
            Emax=decimal.MAX_EMAX,
            capitals=1,
            clamp=0,
            traps=[decimal.InvalidOperation],
        )
    return _decimal_context


def decimal_payload(value: Any) -> bytes:
    """Return the exact scientific notation of a Decimal; raises TooLarge beyond the limit."""
    text: str = exact_decimals().to_sci_string(value)
    if len(text) > MAX_DECIMAL:
        raise TooLarge(f"a Decimal of {len(text)} characters; the limit is {MAX_DECIMAL}")
    return text.encode("ascii")


def _lower_fraction(low: _Lowering, value: Any, depth: int) -> ExtType:
    return ext(FRACTION, fraction_payload(value.numerator, value.denominator, low.packer))


def fraction_payload(numerator: int, denominator: int, packer: Packer) -> bytes:
    """Return the array of a fraction's two integers."""
    return packer.pack([_lower_any_int(numerator), _lower_any_int(denominator)])


def _lower_any_int(value: int) -> int | ExtType:
    return value if MIN_INT <= value <= MAX_INT else ext(BIG_INT, big_int(value))


def _lower_uuid(low: _Lowering, value: Any, depth: int) -> ExtType:
    return ext(UUID, value.bytes)


def _lower_array(low: _Lowering, value: Any, depth: int) -> ExtType:
    kind: str = value.typecode
    letter = "f" if kind in "fd" else "i" if kind in "bhilq" else "u"
    dtype = f"{letter}{value.itemsize}"
    if dtype not in _DTYPES:
        return low.fallback(low, value)
    if sys.byteorder == "big":
        value = value[:]
        value.byteswap()
    head = low.packer.pack([dtype, [len(value)], "C", _HINT_ARRAY + kind])
    return ext(ARRAY, b"".join((head, memoryview(value).cast("B") if len(value) else b"")))


def _lower_ndarray(low: _Lowering, value: Any, depth: int) -> ExtType:
    dtype: str = value.dtype.str
    # "<i4", "|b1": little-endian or of one byte; anything else only pickle carries exactly.
    if dtype[1:] not in _DTYPES or dtype[0] == ">" or value.dtype.metadata:
        return low.fallback(low, value)
    if value.ndim > _MAX_DIMENSIONS:
        return low.fallback(low, value)
    order = "C"
    if not value.flags.c_contiguous:
        if value.flags.f_contiguous:
            order, value = "F", value.T
        else:
            value = value.copy("C")
    shape = value.shape if order == "C" else value.shape[::-1]
    head = low.packer.pack([dtype[1:], list(shape), order, _HINT_NUMPY])
    return ext(ARRAY, b"".join((head, value.reshape(-1).view("u1"))))


def _lower_ext(low: _Lowering, value: ExtType, depth: int) -> ExtType:
    code, data = value
    if code == REFERENCE:
        try:
            object_id = reference_of(data)[0]
        except BadEncoding as error:
            raise TypeError(f"not an object reference: {error}") from None
        low.references.append(object_id)
    elif code == OPAQUE and data[:1] == _REFERRING:
        low.references += _referred(data)
    elif code in _READ or TUPLE <= code <= FROZENSET:
        raise TypeError(f"extension code {code} is aiomanager's own: pass the value itself")
    return value


def _lower_timestamp(low: _Lowering, value: Timestamp, depth: int) -> Timestamp:
    return value


def _lower_unknown(low: _Lowering, value: object, depth: int) -> ExtType:
    return low.fallback(low, value)


_LOWER: Final[dict[type, _Lower]] = {
    _NONE: lambda low, value, depth: value,
    int: _lower_int,
    str: _lower_str,
    list: _lower_list,
    dict: _lower_dict,
    tuple: _lower_tuple,
    set: _lower_set,
    frozenset: _lower_set,
    complex: _lower_complex,
    bytearray: _lower_bytearray,
    datetime.datetime: _lower_datetime,
    datetime.date: _lower_date,
    datetime.time: _lower_time,
    datetime.timedelta: _lower_timedelta,
    ExtType: _lower_ext,
    Timestamp: _lower_timestamp,
}

# Modules that a program pays for only when it uses them itself.
# Live nodes are dicts and lists, and travel as what they hold.
_LOWER_LATER: Final[dict[tuple[str, str], _Lower]] = {
    ("aiomanager.objects.live", "LiveDict"): lambda low, value, depth: _lower_dict(
        low, dict(value), depth
    ),
    ("aiomanager.objects.live", "LiveList"): lambda low, value, depth: _lower_list(
        low, list(value), depth
    ),
    ("decimal", "Decimal"): _lower_decimal,
    ("fractions", "Fraction"): _lower_fraction,
    ("uuid", "UUID"): _lower_uuid,
    ("array", "array"): _lower_array,
    ("numpy", "ndarray"): _lower_ndarray,
}


def _lower_of(kind: type) -> _Lower:
    lower = _LOWER_LATER.get((kind.__module__, kind.__qualname__))
    if lower is None or getattr(sys.modules.get(kind.__module__), kind.__name__, None) is not kind:
        return _lower_unknown
    _LOWER[kind] = lower
    return lower


def _plain(value: list[Any] | dict[Any, Any], depth: int) -> bool:
    """Tell whether the packer takes `value` as it is and changes nothing."""
    if depth > MAX_ENCODE_DEPTH:
        _deeper(depth)
    items: Iterable[Any]
    if type(value) is dict:
        if not _SCALARS.issuperset(map(type, value)):
            return False
        items = value.values()
    else:
        items = value
    if _SCALARS.issuperset(map(type, items)):
        return True
    for item in items:
        kind = _kind_of(item)
        if kind not in _SCALARS and not (
            (kind is list or kind is dict) and _plain(item, depth + 1)
        ):
            return False
    return True


def _no_bytes(data: bytes, tell_tale: Packer, value: Any) -> bool:
    """Tell whether `data`, which the packer made of `value`, holds neither bytes nor their kin.

    The packer takes bytearray and memoryview for bytes: only without any of them it is right.
    """
    if b"\xc4" in data or b"\xc5" in data or b"\xc6" in data:
        items: Iterable[Any] = value.values() if _kind_of(value) is dict else value
        return bytes not in map(type, items) and tell_tale.pack(value) == data
    return True


def _shallow(data: bytes) -> bool:
    """Tell whether `data` is surely within the depth that may be encoded."""
    size = len(data)
    if size <= MAX_ENCODE_DEPTH:
        return True
    if size <= _MEDIUM and size - len(data.translate(None, _HEADERS)) <= MAX_ENCODE_DEPTH:
        return True
    if not fixed_depth:
        return False
    try:
        walk(data, MAX_ENCODE_DEPTH)
    except ValueError:
        return False
    return True


# --- decoding ---------------------------------------------------------------------------------


class _InsideError(Exception):
    """Carries what user code raised through the library, so that it is not taken for bad bytes."""

    def __init__(self, error: Exception) -> None:
        self.error = error


_Load: TypeAlias = Callable[[bytes], Any]
_Read: TypeAlias = Callable[["_Base", bytes, _Load], Any]
_Pairs: TypeAlias = Callable[[list[tuple[Any, Any]]], dict[Any, Any]]


def _items(data: bytes, load: _Load) -> list[Any]:
    items: list[Any] = load(data)
    if _kind_of(items) is not list:
        raise BadEncoding("a part that must hold an array")
    return items


def _read_big_int(codec: "_Base", data: bytes, load: _Load) -> int:
    if not 9 <= len(data) <= MAX_BIG_INT + 1 or data[0] > 1 or not data[1]:
        raise BadEncoding("not a minimal big integer")
    value = int.from_bytes(data[1:], "big")
    if data[0]:
        value = -value
    if MIN_INT <= value <= MAX_INT:
        raise BadEncoding("a big integer that msgpack could carry")
    return value


def _read_complex(codec: "_Base", data: bytes, load: _Load) -> complex:
    if len(data) != 16:
        raise BadEncoding("a complex number takes 16 bytes")
    return complex(*_COMPLEX.unpack(data))


def _read_decimal(codec: "_Base", data: bytes, load: _Load) -> Any:
    if len(data) > MAX_DECIMAL:
        raise BadEncoding("a Decimal is too long")
    import decimal

    text = data.decode("ascii")
    context = exact_decimals()
    try:
        value = decimal.Decimal(text, context)
    except decimal.InvalidOperation:
        raise BadEncoding("not a Decimal") from None
    if context.to_sci_string(value) != text:
        raise BadEncoding("not the canonical notation of a Decimal")
    return value


def _read_fraction(codec: "_Base", data: bytes, load: _Load) -> Any:
    pair = _items(data, load)
    if len(pair) != 2 or type(pair[0]) is not int or type(pair[1]) is not int or pair[1] < 1:
        raise BadEncoding("a fraction is two integers, the second above zero")
    from fractions import Fraction

    value = Fraction(pair[0], pair[1])
    if value.denominator != pair[1]:
        raise BadEncoding("not a fraction in lowest terms")
    return value


def _read_uuid(codec: "_Base", data: bytes, load: _Load) -> Any:
    if len(data) != 16:
        raise BadEncoding("a UUID takes 16 bytes")
    from uuid import UUID as Uuid  # noqa: N811

    return Uuid(bytes=data)


def _zone(name: bytes, offset: int) -> datetime.tzinfo | None:
    """Return the named zone, or the offset where this machine does not know the name."""
    if name:
        import zoneinfo

        key = name.decode()
        try:
            return zoneinfo.ZoneInfo(key)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            pass
    if offset == NAIVE:
        return None
    if not -86_400 < offset < 86_400:
        raise BadEncoding("a UTC offset of a day or more")
    return datetime.timezone(datetime.timedelta(seconds=offset))


def _read_datetime(codec: "_Base", data: bytes, load: _Load) -> datetime.datetime:
    if len(data) < 13:
        raise BadEncoding("a datetime takes 13 bytes or more")
    wall, offset, fold = _DATETIME.unpack_from(data)
    if fold > 1 or (len(data) > 13 and offset == NAIVE):
        raise BadEncoding("a datetime with a fold beyond 1, or a zone without an offset")
    tz = _zone(data[13:], offset)
    try:
        value = _EPOCH + datetime.timedelta(microseconds=wall)
    except OverflowError:
        raise BadEncoding("a datetime outside the years 1 to 9999") from None
    return value.replace(tzinfo=tz, fold=fold)


def _read_date(codec: "_Base", data: bytes, load: _Load) -> datetime.date:
    if len(data) != 4:
        raise BadEncoding("a date takes 4 bytes")
    try:
        return datetime.date.fromordinal(_DATE.unpack(data)[0] + _DAY_ZERO)
    except (ValueError, OverflowError):
        raise BadEncoding("a date outside the years 1 to 9999") from None


def _read_time(codec: "_Base", data: bytes, load: _Load) -> datetime.time:
    if len(data) < 13:
        raise BadEncoding("a time takes 13 bytes or more")
    wall, offset, fold = _DATETIME.unpack_from(data)
    if fold > 1 or not 0 <= wall < _DAY_MICROSECONDS:
        raise BadEncoding("a time beyond its day, or with a fold beyond 1")
    seconds, microsecond = divmod(wall, 1_000_000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    tz = _zone(data[13:], offset)
    return datetime.time(hour, minute, second, microsecond, tz, fold=fold)


def _read_timedelta(codec: "_Base", data: bytes, load: _Load) -> datetime.timedelta:
    microseconds = int.from_bytes(data, "big", signed=True)
    if len(data) != 8 and (len(data) != 16 or -(1 << 63) <= microseconds < 1 << 63):
        raise BadEncoding("a timedelta takes 8 bytes, or 16 when it must")
    days, rest = divmod(microseconds, _DAY_MICROSECONDS)
    try:
        return datetime.timedelta(days=days, microseconds=rest)
    except OverflowError:
        raise BadEncoding("a timedelta beyond 999999999 days") from None


def _read_array(codec: "_Base", data: bytes, load: _Load) -> Any:
    dtype, shape, order, hint, start = array_header(data)
    if hint != _HINT_NUMPY and len(shape) == 1 and dtype in _TYPECODES:
        return _make_array(dtype, hint, data, start)
    try:
        import numpy  # type: ignore[import-not-found,unused-ignore]  # pyright: ignore
    except ImportError:
        return ext(ARRAY, data)  # it still can be handed on
    np = cast("Any", numpy)
    flat = np.frombuffer(data, np.dtype("<" + dtype), offset=start)
    if dtype == "b1" and flat.size and flat.view("u1").max() > 1:
        raise BadEncoding("a truth value beyond 1")
    return flat.reshape(shape, order=order).copy("K")


def array_header(data: bytes) -> tuple[str, list[int], str, str, int]:
    """Return dtype, shape, order and hint of a typed array, and where its data begin.

    Raises BadEncoding when they are not what they may be, or do not fit the length.
    """
    try:
        head, start = read_front(data[:_MAX_ARRAY_HEADER])
    except (ValueError, TypeError) as error:
        raise BadEncoding(f"a typed array without a header: {error}") from None
    if _kind_of(head) is not list or len(head) != 4:
        raise BadEncoding("a typed array's header has four items")
    dtype, shape, order, hint = head
    width = _DTYPES.get(dtype) if type(dtype) is str else None
    if width is None or order not in ("C", "F") or type(hint) is not str:
        raise BadEncoding("a typed array with an unknown dtype or order")
    if _kind_of(shape) is not list or len(shape) > _MAX_DIMENSIONS:
        raise BadEncoding("a typed array's shape is a list of up to 32 integers")
    size = width
    for edge in shape:
        if type(edge) is not int or not 0 <= edge < 1 << 63:
            raise BadEncoding("a typed array's edges are integers from 0 to 2^63 - 1")
        size *= edge
    if size != len(data) - start:
        raise BadEncoding("a typed array whose shape does not fit its length")
    return dtype, shape, order, hint, start


def _make_array(dtype: str, hint: str, data: bytes, start: int) -> Any:
    import array

    kind = hint.removeprefix(_HINT_ARRAY) if hint.startswith(_HINT_ARRAY) else ""
    letter = "f" if kind in "fd" else "i" if kind in "bhilq" else "u"
    if len(kind) != 1 or kind not in array.typecodes + "uw" or letter != dtype[0]:
        kind = _TYPECODES[dtype]
    elif kind == "w" and "w" not in array.typecodes:
        kind = "u"  # Python before 3.13
    make = cast("Callable[[str], Any]", array.array)
    result = make(kind)
    if result.itemsize != _DTYPES[dtype]:  # made on another platform
        kind = _TYPECODES[dtype]
        result = make(kind)
    result.frombytes(memoryview(data)[start:])
    if sys.byteorder == "big":
        result.byteswap()
    if kind in "uw":
        try:
            result.tounicode()
        except ValueError:
            raise BadEncoding("a character beyond U+10FFFF") from None
    return result


def reference(object_id: int, type_name: str) -> ExtType:
    """Return the reference to an object as a part of a value."""
    return ext(REFERENCE, new_packer().pack([object_id, type_name]))


def reference_of(data: bytes) -> tuple[int, str]:
    """Return object id and type name of a reference's payload; raises BadEncoding."""
    try:
        pair, size = read_front(data[: _MAX_ARRAY_HEADER + 1])
    except (ValueError, TypeError) as error:
        raise BadEncoding(f"not an object reference: {error}") from None
    if _kind_of(pair) is list and len(pair) == 2 and size == len(data):
        object_id, name = pair
        if _kind_of(object_id) is int and object_id >= 0 and _kind_of(name) is str:
            return object_id, name
    raise BadEncoding("an object reference is an object id and a type name")


def _read_reference(codec: "_Base", data: bytes, load: _Load) -> Any:
    object_id, name = reference_of(data)
    if codec.resolve is None:
        # From now on a bare reference may come back inside of any value, to be counted.
        codec.quick = False
        return ext(REFERENCE, data)
    try:
        return codec.resolve(object_id, name)
    except Exception as error:
        raise _InsideError(error) from None


def _read_opaque(codec: "_Base", data: bytes, load: _Load) -> Any:
    start = len(_PICKLE) + 5
    size = len(data) - start
    if size >= _LARGE and data[:start] == _PICKLE + b"\xc6" + size.to_bytes(4, "big"):
        return _open_pickle(codec, memoryview(data)[start:])  # the usual form, without a copy
    parts = _opaque_parts(data, load)
    if parts[0] != "py" or parts[1] != "pickle":
        return ext(OPAQUE, data)  # another language's: it can only be handed on
    if type(parts[2]) is not bytes:
        raise BadEncoding("a pickle is bytes")
    return _open_pickle(codec, parts[2])


def _opaque_parts(data: bytes, load: _Load) -> list[Any]:
    """Return language, codec and content of an opaque part, and the ids of what it refers to."""
    parts = _items(data, load)
    if not 3 <= len(parts) <= 4 or type(parts[0]) is not str or type(parts[1]) is not str:
        raise BadEncoding("an opaque part is a language, a codec and bytes")
    if len(parts) == 4 and not (
        _kind_of(parts[3]) is list
        and parts[3]
        and all(_kind_of(one) is int and one >= 0 for one in parts[3])
    ):
        raise BadEncoding("an opaque part refers to an array of object ids")
    return parts


def _referred(data: bytes) -> list[int]:
    """Return the objects that a closed opaque part refers to; none for one that is malformed."""
    try:
        return cast("list[int]", _opaque_parts(data, _load_closed)[3])
    except (ValueError, TypeError):
        return []


def _load_closed(data: bytes) -> Any:
    return unpack(data, ext_hook=ext, object_pairs_hook=None, strict_map_key=False)


_REFERRING: Final = b"\x94"  # an opaque part of four
_PICKLE: Final = b"\x93\xa2py\xa6pickle"  # before the bin header


def _open_pickle(codec: "_Base", data: bytes | memoryview) -> Any:
    if not codec.allow_pickle:
        raise Denied(
            "this value holds a pickled Python object; to open it, connect with allow_pickle=True "
            "(only where you trust everybody who writes)"
        )
    import pickle

    try:
        try:
            return pickle.loads(data)
        except ModuleNotFoundError as error:
            if error.name != "__mp_main__":
                raise
            return _open_from_child(data)
    except (pickle.UnpicklingError, EOFError) as error:
        raise BadEncoding(f"not a complete pickle: {error}") from None
    except Exception as error:
        # It may look like a fault of the call that met the value.
        error.add_note(
            "Raised while a stored value was unpickled: its class must be importable here, and "
            "unpickle what it pickles."
        )
        raise _InsideError(error) from None


def _open_from_child(data: bytes | memoryview) -> Any:
    """Open a pickle from a child of multiprocessing, for which the main script has another name.

    Wherever multiprocessing is imported the script has both names, so this is for elsewhere.
    """
    import io
    import pickle

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            return super().find_class("__main__" if module == "__mp_main__" else module, name)

    return Unpickler(io.BytesIO(data)).load()


def _read_str(codec: "_Base", data: bytes, load: _Load) -> str:
    value = data.decode("utf-8", "surrogatepass")
    try:
        value.encode()
    except UnicodeEncodeError:
        return value
    raise BadEncoding("a string that msgpack could carry")


def _read_bytearray(codec: "_Base", data: bytes, load: _Load) -> bytearray:
    return bytearray(data)


_READ: Final[dict[int, _Read]] = {
    BIG_INT: _read_big_int,
    COMPLEX: _read_complex,
    DECIMAL: _read_decimal,
    UUID: _read_uuid,
    DATETIME: _read_datetime,
    DATE: _read_date,
    TIME: _read_time,
    TIMEDELTA: _read_timedelta,
    STR: _read_str,
    BYTEARRAY: _read_bytearray,
    FRACTION: _read_fraction,
}
_READ_ALL: Final = {
    **_READ,
    ARRAY: _read_array,
    REFERENCE: _read_reference,
    OPAQUE: _read_opaque,
}


def _unique(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise BadEncoding("a key of a map comes twice")
    return result


def _unique_unharmful(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    if len(pairs) > _FEW:
        _check_hashes([key for key, _ in pairs])
    return _unique(pairs)


_FEW: Final = 64


def _check_hashes(items: list[Any]) -> None:
    """Refuse elements that were chosen to share a hash: a table of them takes quadratic time."""
    if len(items) > _FEW and len(set(map(hash, items))) * 2 < len(items):
        raise BadEncoding("the hashes of most keys collide")


class _Reader:
    """Reads values in which neither depth nor headers can do harm; kept, and shared by threads."""

    __slots__ = ("codec", "hook", "pairs", "table")

    def __init__(self, codec: "_Base") -> None:
        self.codec = codec
        self.table = codec.table
        self.pairs = codec.pairs
        self.hook = self.part

    def load(self, data: bytes) -> Any:
        return unpack(data, ext_hook=self.hook, object_pairs_hook=self.pairs, strict_map_key=False)

    def part(self, code: int, data: bytes) -> Any:
        if TUPLE <= code <= FROZENSET:  # here, and not in the table: each call costs stack
            items = self.load(data)
            if _kind_of(items) is not list:
                raise BadEncoding("a part that must hold an array")
            return tuple(items) if code == TUPLE else self.set_of(code, items)
        read = self.table.get(code)
        if read is None:
            return ExtType(code, data)  # refuses a negative code
        return read(self.codec, data, self.load)

    def set_of(self, code: int, items: list[Any]) -> set[Any] | frozenset[Any]:
        if self.codec.strict:
            _check_hashes(items)
        result = set(items) if code == SET else frozenset(items)
        if len(result) != len(items):
            raise BadEncoding("an element of a set comes twice")
        return result


class _CarefulReader(_Reader):
    """Reads one value that may be hostile: headers are walked first, levels are counted."""

    __slots__ = ("doubt", "level", "path")

    def __init__(self, codec: "_Base") -> None:
        super().__init__(codec)
        self.level = 0  # parts around
        self.path = 0  # levels around, at most
        self.doubt = not fixed_depth

    def load(self, data: bytes) -> Any:
        level = self.level
        if level > FREE_NESTING and level * len(data) > NESTING_BUDGET:
            raise BadEncoding("too many bytes in nested parts")
        if level > MAX_DECODE_DEPTH:
            raise BadEncoding(f"nested more than {MAX_DECODE_DEPTH} levels deep")
        depth = 0
        if data and data[0] in _HEADERS:
            depth = _USUAL_DEPTH
            try:
                walk(data, depth)
            except ValueError:
                depth = MAX_DECODE_DEPTH
                walk(data, depth)
        self.level = level + 1
        self.path += depth
        if self.path > MAX_DECODE_DEPTH:
            self.doubt = True
        try:
            return unpack(
                data, ext_hook=self.hook, object_pairs_hook=self.pairs, strict_map_key=False
            )
        finally:
            self.level = level
            self.path -= depth

    def part(self, code: int, data: bytes) -> Any:
        if len(data) <= MAX_DECODE_DEPTH - self.path:  # too short to be too deep
            return self.codec.reader.part(code, data)
        return super().part(code, data)


_USUAL_DEPTH: Final = 24


def _too_deep(value: Any, left: int) -> bool:
    """Tell whether `value` holds more than `left` levels of containers."""
    kind = _kind_of(value)
    items: Iterable[Any]
    if kind is dict:
        if left > 0 and any(_too_deep(key, left - 1) for key in value):
            return True
        items = value.values()
    elif kind in _CONTAINERS:
        items = value
    else:
        return False
    if left <= 0:
        return True
    if _SCALARS.issuperset(map(type, items)):
        return False
    left -= 1
    return any(type(item) not in _SCALARS and _too_deep(item, left) for item in items)


_CONTAINERS: Final[frozenset[type]] = frozenset({list, dict, tuple, set, frozenset})


# --- codecs -----------------------------------------------------------------------------------


class _Base:
    """What both codecs share: the kept packers, and the way from bytes to a value."""

    quick: bool
    strict: bool
    allow_pickle: bool
    resolve: Resolve | None
    table: dict[int, _Read]
    pairs: _Pairs | None

    def __init__(self) -> None:
        # A packer that is at work must not be entered: a finalizer or a thread takes another one.
        self._packers: list[tuple[Packer, Packer]] = []
        self.reader = _Reader(self)
        self._hook = self.reader.hook

    def encode(self, value: Any) -> Packed:
        """Return `value` as it travels.

        Raises TypeError for a value that cannot be sent, TooLarge beyond a limit of size or depth.
        """
        kind = _kind_of(value)
        if kind is int:
            if MIN_INT <= value <= MAX_INT:
                return value  # type: ignore[no-any-return]
        elif kind is str:
            size = len(value)
            if size <= MAX_SCALAR_STR and (value.isascii() or _short(value)):
                return value  # type: ignore[no-any-return]
        elif kind is float or kind is bool or value is None:
            return value  # type: ignore[no-any-return]
        try:
            pair = self._packers.pop()
        except IndexError:
            pair = (new_packer(), new_tell_tale())
        packer, tell_tale = pair
        data = b""
        try:
            try:
                if kind is dict or kind is list:
                    if self.quick:
                        data = packer.pack(value)
                        if (_no_bytes(data, tell_tale, value) and _shallow(data)) or _plain(
                            value, 1
                        ):
                            return data
                    elif _plain(value, 1):
                        data = packer.pack(value)
                        return data
                elif kind is tuple:
                    if _SCALARS.issuperset(map(type, value)):
                        data = packer.pack_ext_type(TUPLE, packer.pack(list(value)))
                        return data
                elif kind is bytes and len(value) > _LARGE:
                    return _large_bytes(value)
            except (TypeError, ValueError, OverflowError, BufferError, RecursionError):
                pass  # not plain, or not well: the slow way knows what it is
            data, references = self._encode_slowly(packer, value)
            return [data, references] if references else data
        finally:
            if len(data) < _KEEP_PACKER:
                self._packers.append(pair)

    def _encode_slowly(self, packer: Packer, value: Any) -> tuple[bytes, list[int]]:
        try:
            try:
                low = _Lowering(packer, _SCALARS, self._fall_back)
                data = _pack_lowered(packer, low.lower(value, 0))
            except (UnicodeEncodeError, OverflowError):
                low = _Lowering(packer, _CAREFUL, self._fall_back)
                data = _pack_lowered(packer, low.lower(value, 0))
        except RecursionError:
            raise TooLarge("the value is nested too deeply for this call stack") from None
        except OverflowError:
            raise TooLarge("4 GiB or more in one value") from None
        return data, list(dict.fromkeys(low.references))

    def _fall_back(self, low: _Lowering, value: object) -> ExtType:
        """Return the part for a value that only its own language knows, or refuse it."""
        raise NotImplementedError

    def decode(self, packed: Packed) -> Any:
        """Return the value of what `encode` made.

        Raises BadEncoding for anything else, Denied for a pickle where none is allowed, and
        whatever the class of a pickled object raises.
        """
        kind = _kind_of(packed)
        if kind is bytes:
            return self.load(cast("bytes", packed))
        if kind is list:
            data, _ = _with_references(packed)
            return self.load(data)
        if kind in _SCALARS:
            return packed
        raise BadEncoding(f"a value does not travel as {kind.__name__}")

    def load(self, data: bytes) -> Any:
        """Return the value that `data` holds.

        Raises BadEncoding for bytes that are no value, Denied for a pickle where none is allowed,
        and whatever the class of a pickled object raises.
        """
        size = len(data)
        try:
            if size <= _SMALL or (
                size <= _MEDIUM and size - len(data.translate(None, _HEADERS)) <= MAX_ENCODE_DEPTH
            ):
                return unpack(
                    data, ext_hook=self._hook, object_pairs_hook=self.pairs, strict_map_key=False
                )
            reader = _CarefulReader(self)
            value = reader.load(data)
            if reader.doubt and _too_deep(value, MAX_DECODE_DEPTH):
                raise BadEncoding(f"nested more than {MAX_DECODE_DEPTH} levels deep")
            return value
        except BadEncoding:
            raise
        except _InsideError as inside:
            raise inside.error from None
        except (ValueError, TypeError, OverflowError) as error:
            raise BadEncoding(f"not one well-formed value: {error}") from None
        except RecursionError:
            raise BadEncoding("nested too deeply for this call stack") from None


def _pack_lowered(packer: Packer, lowered: Any) -> bytes:
    if type(lowered) is ExtType and len(lowered.data) > _LARGE:
        return pack_ext(lowered.code, lowered.data)
    try:
        return packer.pack(lowered)
    except UnicodeEncodeError:
        raise
    except ValueError as error:
        raise TooLarge(f"beyond the limits of msgpack: {error}") from None


def _large_bytes(value: bytes) -> bytes:
    """Encode with one copy where the packer makes two."""
    try:
        return b"".join((b"\xc6", len(value).to_bytes(4, "big"), value))
    except OverflowError:
        raise TooLarge("4 GiB or more in one value") from None


def _short(value: str) -> bool:
    """Tell whether `value` may travel as itself: valid and within the limit as UTF-8."""
    try:
        return len(value.encode()) <= MAX_SCALAR_STR
    except UnicodeEncodeError:
        return False


class ValueCodec(_Base):
    """The client's codec: Python values of any kind to bytes and back, with their exact types.

    `refer` is asked for each value of an unknown type: the object id and type name make it a
    reference. `resolve` turns these two back into a proxy; without it references stay `ExtType`.
    `dumps` pickles, in place of pickle's own; what it raises is passed on as it is. `gather` runs
    what pickles, and returns with the pickle the ids of the objects that it refers to.
    With `strict`, a map in which a key comes twice is refused, which costs 20 to 40 % of the speed.
    """

    def __init__(
        self,
        *,
        allow_pickle: bool,
        refer: Refer | None = None,
        resolve: Resolve | None = None,
        dumps: Callable[[object], bytes] | None = None,
        gather: Gather | None = None,
        strict: bool = False,
    ) -> None:
        self.allow_pickle = allow_pickle
        self.resolve = resolve
        self.quick = True
        self.strict = strict
        self.table = _READ_ALL
        self.pairs = _unique if strict else None
        self._refer = refer
        self._dumps = dumps
        self._gather = gather
        super().__init__()

    def _fall_back(self, low: _Lowering, value: object) -> ExtType:
        if self._refer is not None:
            found = self._refer(value)
            if found is not None:
                low.references.append(found[0])
                return ext(REFERENCE, low.packer.pack([*found]))
        kind = _kind_of(value)
        if value is MISSING:
            # Its pickle would be MISSING again: a key that is there, whose value says it is not.
            raise TypeError(
                "cannot send MISSING: it means that nothing is there, and is no value. To remove a "
                "key, delete it; compare_and_set() of a key takes MISSING on either side"
            )
        if kind is memoryview:
            raise TypeError("cannot send a memoryview: it is a window on memory; send bytes(view)")
        name = f"{kind.__module__}.{kind.__qualname__}"
        if not self.allow_pickle:
            raise TypeError(
                f"cannot send a {name}: it takes pickle, which is off here; pass "
                "allow_pickle=True on a connection that you trust, or send plain data"
            )
        if self._dumps is not None:
            return self._opaque(low, partial(self._dumps, value))
        try:
            return self._opaque(low, partial(_pickled, value))
        except RecursionError:
            raise TooLarge(f"cannot send a {name}: it is nested too deeply to pickle") from None
        except Exception as error:
            raise TypeError(
                f"cannot send a {name}: pickling it failed ({type(error).__name__}: {error}); "
                "send plain data, or give the class a __reduce__ method"
            ) from error

    def _opaque(self, low: _Lowering, pickle: Callable[[], bytes]) -> ExtType:
        data, references = (pickle(), []) if self._gather is None else self._gather(pickle)
        if not references:
            return ext(OPAQUE, low.packer.pack(["py", "pickle", data]))
        low.references += references
        return ext(OPAQUE, low.packer.pack(["py", "pickle", data, references]))


def _pickled(value: object) -> bytes:
    import pickle

    return pickle.dumps(value, 5)


class NeutralCodec(_Base):
    """The server's codec, which `Stored` opens values with.

    It knows the neutral types alone: pickles, references, typed arrays and unknown parts stay
    `ExtType`, and go out as they came in.
    """

    def __init__(self) -> None:
        self.allow_pickle = False
        self.resolve = None
        self.quick = False  # the packer would let references pass uncounted
        self.strict = True
        self.table = _READ
        self.pairs = _unique_unharmful
        super().__init__()

    def open(self, data: bytes, /) -> Any:
        """Return the value that `data` holds; raises BadEncoding."""
        return self.load(data)

    def pack(self, value: Any, references: list[int] | None, /) -> Packed:
        """Return `value` as it travels; the references are those that it holds now.

        Raises NeedsNeutralValue for a Python object that is no neutral value, TooLarge beyond a
        limit of size or depth.
        """
        return self.encode(value)

    def equal(self, left: Packed, right: Packed, /) -> bool:
        """Tell whether two values are equal as Python compares them.

        Raises NeedsNeutralValue when that hangs on a part that only clients can open, BadEncoding
        for bytes that are no value.
        """
        if type(left) is list:
            left = cast("bytes", left[0])
        if type(right) is list:
            right = cast("bytes", right[0])
        if type(left) is bytes:
            if type(right) is bytes and left == right:
                return not self._may_be_nan(left) or self._equals_itself(left)
            left = self.load(left)
        if type(right) is bytes:
            right = self.load(right)
        answer = _equal(left, right)
        if answer is None:
            raise NeedsNeutralValue(
                "the server cannot compare values that hold Python objects, arrays or references"
            )
        return answer

    @staticmethod
    def _may_be_nan(data: bytes) -> bool:
        """Tell whether this is a Decimal or a complex number."""
        head = data[:4]
        at = 1 if b"\xd4" <= head[:1] <= b"\xd8" else {b"\xc7": 2, b"\xc8": 3}.get(head[:1], 0)
        return 0 < at < len(head) and head[at] in (DECIMAL, COMPLEX)

    def _equals_itself(self, data: bytes) -> bool:
        value = self.load(data)
        try:
            return bool(value == value)
        except ArithmeticError:  # a signalling NaN
            return False

    def array(self, part: Any, /) -> Any:
        """Return a typed array of one dimension as an array.array, anything else as it is.

        Raises BadEncoding for a typed array that is malformed.
        """
        if _kind_of(part) is not ExtType or part.code != ARRAY:
            return part
        dtype, shape, _, hint, start = array_header(part.data)
        if len(shape) != 1 or dtype not in _TYPECODES:
            return part
        return _make_array(dtype, hint, part.data, start)

    def _fall_back(self, low: _Lowering, value: object) -> ExtType:
        raise NeedsNeutralValue(f"the server cannot keep a {type(value).__qualname__} as a value")


def _equal(left: Any, right: Any) -> bool | None:
    """Compare as Python does; None where the answer hangs on a part that stays closed."""
    try:
        if left == right:
            return True
    except ArithmeticError:  # a signalling NaN, which equals nothing
        return False
    if not _closed(left) and not _closed(right):
        return False
    kind = _kind_of(left)
    if kind is ExtType or type(right) is ExtType:
        if kind is type(right) and left.code == right.code == REFERENCE:
            return bool(reference_of(left.data)[0] == reference_of(right.data)[0])
        other = right if kind is ExtType else left
        part = left if kind is ExtType else right
        # A reference equals nothing but references and what only a client can open.
        if part.code == REFERENCE and not _closed(other):
            return False
        return None
    if kind in _SETS and type(right) in _SETS:
        return False if len(left) != len(right) else None
    if kind is not type(right):
        return False
    if kind is dict:
        if len(left) != len(right):
            return False
        if any(_closed(key) for key in left) or any(_closed(key) for key in right):
            return None
        if left.keys() != right.keys():
            return False
        return _all_equal((item, right[key]) for key, item in left.items())
    if len(left) != len(right):
        return False
    return _all_equal(zip(left, right, strict=True))


def _all_equal(pairs: Iterable[tuple[Any, Any]]) -> bool | None:
    answer: bool | None = True
    for left, right in pairs:
        one = True if left is right else _equal(left, right)
        if one is False:
            return False
        if one is None:
            answer = None
    return answer


_SETS: Final[frozenset[type]] = frozenset({set, frozenset})


def _closed(value: Any) -> bool:
    """Tell whether a part of `value` is one that only clients can open."""
    kind = _kind_of(value)
    if kind is ExtType:
        return True
    if kind is dict:
        return any(map(_closed, value)) or any(map(_closed, value.values()))
    return kind in _CONTAINERS and any(map(_closed, value))


def _with_references(packed: Any) -> tuple[bytes, list[int]]:
    if len(packed) != 2 or _kind_of(packed[0]) is not bytes or _kind_of(packed[1]) is not list:
        raise BadEncoding("a value with references is bytes and a list of object ids")
    return packed[0], packed[1]


def check_packed(wire: object) -> None:
    """Check the shape of a value that came in, without opening it.

    Raises BadEncoding unless it is a scalar, bytes, or bytes with the ids of referred objects.
    """
    kind = _kind_of(wire)
    data = wire
    if kind is list:
        data, references = _with_references(wire)
        for object_id in references:
            if _kind_of(object_id) is not int or object_id < 0:
                raise BadEncoding("an object id is an integer from zero")
    elif kind not in _SCALARS:
        raise BadEncoding(f"a value does not travel as {kind.__name__}")
    if data == b"":
        raise BadEncoding("no bytes are no value")
