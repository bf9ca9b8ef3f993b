"""Keys and their canonical bytes, as protocol/keys.md describes them; it never unpickles.

Two keys are equal exactly when their canonical bytes are, so the server looks nothing up by a
Python object: no hash of a client's choosing, and the same answer for every language.
"""

import datetime
import struct
import sys
from collections.abc import Callable, Iterable
from itertools import pairwise
from math import gcd
from types import FunctionType
from typing import Any, Final, TypeAlias, cast

from aiomanager.errors import BadEncoding, BadKey, TooLarge
from aiomanager.stored import SpelledKey

from ._msgpack import ExtType, new_packer, pack_ext
from .values import (
    BIG_INT,
    COMPLEX,
    DATE,
    DATETIME,
    DECIMAL,
    FRACTION,
    FROZENSET,
    MAX_BIG_INT,
    MAX_DECIMAL,
    MAX_INT,
    MIN_INT,
    NAIVE,
    STR,
    TIME,
    TIMEDELTA,
    TUPLE,
    UUID,
    NeutralCodec,
    ValueCodec,
    array_of,
    big_int,
    check_packed,
    date_payload,
    exact_decimals,
    time_of_day,
    timedelta_payload,
    wall_microseconds,
)

__all__ = ("KeyCodec", "check_key", "wire_key")

ENUM: Final = 18
DATACLASS: Final = 19
PICKLED: Final = 20
FIRST_USER: Final = 32

MAX_KEY: Final = 1 << 16
MAX_KEY_DEPTH: Final = 8
# Every integer below 10 ** 19728 has less than 64 Kibit; larger Decimals are no keys.
MAX_MAGNITUDE: Final = 19728

_LANGUAGE: Final = "py"
_INSTANT: Final = struct.Struct(">qiB")
_COMPLEX: Final = struct.Struct(">dd")
_FLOAT: Final = struct.Struct(">d")
_DAY: Final = 86_400_000_000
_FIRST_DAY: Final = 1 - 719163
_LAST_DAY: Final = 3652059 - 719163
_MAX_TIMEDELTA: Final = 999_999_999 * _DAY + _DAY - 1
_SECOND: Final = datetime.timedelta(seconds=1)
_MICROSECOND: Final = datetime.timedelta(microseconds=1)

# Only strings, bytes and numbers go through it, so it is never entered twice.
_pack = new_packer().pack
_kind_of = cast("Callable[[object], type[Any]]", type)

Canonical: TypeAlias = tuple[bytes, bool]
"""The canonical bytes, and whether they decode to the very key that was spelled."""

_Spell: TypeAlias = Callable[["KeyCodec", Any, int], Canonical]


# --- from a key to its bytes --------------------------------------------------------------------


def _none(codec: "KeyCodec", key: None, depth: int) -> Canonical:
    return b"\xc0", True


def _bool(codec: "KeyCodec", key: bool, depth: int) -> Canonical:
    return b"\1" if key else b"\0", False


def _int(codec: "KeyCodec", key: int, depth: int) -> Canonical:
    return _int_bytes(key), True


def _int_bytes(key: int) -> bytes:
    if MIN_INT <= key <= MAX_INT:
        return _pack(key)
    return pack_ext(BIG_INT, big_int(key))


def _float(codec: "KeyCodec", key: float, depth: int) -> Canonical:
    if key != key:
        raise BadKey("NaN cannot be a key: it is not even equal to itself")
    if key.is_integer():
        return _int_bytes(int(key)), False
    return _pack(key), True


def _complex(codec: "KeyCodec", key: complex, depth: int) -> Canonical:
    real, imag = key.real, key.imag
    if real != real or imag != imag:
        raise BadKey("NaN cannot be a key: it is not even equal to itself")
    if not imag:
        return _float(codec, real, depth)[0], False
    payload = _COMPLEX.pack(real, imag)
    canonical = _COMPLEX.pack(real + 0.0, imag)  # -0.0 becomes 0.0
    return pack_ext(COMPLEX, canonical), canonical == payload


def _str(codec: "KeyCodec", key: str, depth: int) -> Canonical:
    try:
        return _pack(key), True
    except UnicodeEncodeError:
        return pack_ext(STR, key.encode("utf-8", "surrogatepass")), True


def _bytes(codec: "KeyCodec", key: bytes, depth: int) -> Canonical:
    return _pack(key), True


def _decimal(codec: "KeyCodec", key: Any, depth: int) -> Canonical:
    if key.is_nan():
        raise BadKey("NaN cannot be a key: it is not even equal to itself")
    if key.is_infinite():
        return _pack(float(key)), False
    if not key:
        return b"\0", False
    if key.adjusted() >= MAX_MAGNITUDE:
        raise TooLarge(f"a Decimal of 1E+{MAX_MAGNITUDE} or more cannot be a key")
    exact = exact_decimals()
    number = exact.normalize(key)
    if number.as_tuple().exponent >= 0:
        return _int_bytes(int(number)), False
    near = float(number)
    if not exact.compare(exact.create_decimal_from_float(near), number):
        return _pack(near), False
    text: str = exact.to_sci_string(number)
    if len(text) > MAX_DECIMAL:
        raise TooLarge(f"a Decimal of {len(text)} characters; the limit is {MAX_DECIMAL}")
    return pack_ext(DECIMAL, text.encode("ascii")), text == exact.to_sci_string(key)


def _fraction(codec: "KeyCodec", key: Any, depth: int) -> Canonical:
    numerator: int = key.numerator
    denominator: int = key.denominator
    if denominator == 1:
        return _int_bytes(numerator), False
    near = _near(numerator, denominator)
    if near is not None:
        return _pack(near), False
    if _is_decimal(denominator):
        import decimal

        exact = exact_decimals()
        number = exact.divide(decimal.Decimal(numerator), decimal.Decimal(denominator))
        return _decimal(codec, number, depth)[0], False
    items = [_int_bytes(numerator), _int_bytes(denominator)]
    return pack_ext(FRACTION, array_of(items)), True


def _near(numerator: int, denominator: int) -> float | None:
    """Return the float that is exactly this fraction; None when there is none."""
    try:
        near = numerator / denominator
    except OverflowError:
        return None
    return near if near.as_integer_ratio() == (numerator, denominator) else None


def _is_decimal(denominator: int) -> bool:
    """Tell whether a fraction in lowest terms has finitely many decimal places."""
    return pow(10, denominator.bit_length(), denominator) == 0


def _uuid(codec: "KeyCodec", key: Any, depth: int) -> Canonical:
    return pack_ext(UUID, key.bytes), True


def _tuple(codec: "KeyCodec", key: tuple[Any, ...], depth: int) -> Canonical:
    items, exact = _elements(codec, key, depth)
    return pack_ext(TUPLE, array_of(items)), exact


def _frozenset(codec: "KeyCodec", key: frozenset[Any], depth: int) -> Canonical:
    items, exact = _elements(codec, key, depth)
    return pack_ext(FROZENSET, array_of(sorted(set(items)))), exact


def _elements(codec: "KeyCodec", key: Iterable[Any], depth: int) -> tuple[list[bytes], bool]:
    if depth >= MAX_KEY_DEPTH:
        raise BadKey(f"a key is nested more than {MAX_KEY_DEPTH} levels deep")
    items: list[bytes] = []
    all_exact = True
    for element in key:
        data, exact = codec.canonical(element, depth + 1)
        items.append(data)
        all_exact = all_exact and exact
    return items, all_exact


def _seconds(offset: datetime.timedelta) -> int:
    if offset.microseconds:
        raise BadKey("a UTC offset with fractions of a second cannot be in a key")
    return offset // _SECOND


def _datetime(codec: "KeyCodec", key: datetime.datetime, depth: int) -> Canonical:
    wall = wall_microseconds(key)
    # Python's own hash looks at the first of two equal wall times only.
    offset = (key.replace(fold=0) if key.fold else key).utcoffset()
    if offset is None:
        return pack_ext(
            DATETIME, _INSTANT.pack(wall, NAIVE, 0)
        ), key.tzinfo is None and not key.fold
    exact = key.tzinfo is datetime.UTC and not key.fold
    return pack_ext(DATETIME, _INSTANT.pack(wall - offset // _MICROSECOND, 0, 0)), exact


def _time(codec: "KeyCodec", key: datetime.time, depth: int) -> Canonical:
    wall = time_of_day(key)
    offset = (key.replace(fold=0) if key.fold else key).utcoffset()
    if offset is None:
        exact = key.tzinfo is None and not key.fold
        return pack_ext(TIME, _INSTANT.pack(wall, NAIVE, 0)), exact
    exact = key.tzinfo is datetime.UTC and not key.fold
    return pack_ext(TIME, _INSTANT.pack(wall - _seconds(offset) * 1_000_000, 0, 0)), exact


def _date(codec: "KeyCodec", key: datetime.date, depth: int) -> Canonical:
    return pack_ext(DATE, date_payload(key)), True


def _timedelta(codec: "KeyCodec", key: datetime.timedelta, depth: int) -> Canonical:
    return pack_ext(TIMEDELTA, timedelta_payload(key)), True


def _ext(codec: "KeyCodec", key: ExtType, depth: int) -> Canonical:
    if key.code < FIRST_USER:
        raise BadKey(f"an extension part of code {key.code} cannot be a key")
    return pack_ext(key.code, key.data), True


def _unhashable(codec: "KeyCodec", key: Any, depth: int) -> Canonical:
    raise BadKey(f"unhashable type: '{type(key).__name__}'")


_SPELL: Final[dict[type, _Spell]] = {
    type(None): _none,
    bool: _bool,
    int: _int,
    float: _float,
    complex: _complex,
    str: _str,
    bytes: _bytes,
    tuple: _tuple,
    frozenset: _frozenset,
    datetime.datetime: _datetime,
    datetime.date: _date,
    datetime.time: _time,
    datetime.timedelta: _timedelta,
    ExtType: _ext,
    list: _unhashable,
    dict: _unhashable,
    set: _unhashable,
    bytearray: _unhashable,
    memoryview: _unhashable,
}

_SPELL_LATER: Final[dict[tuple[str, str], _Spell]] = {
    ("decimal", "Decimal"): _decimal,
    ("fractions", "Fraction"): _fraction,
    ("uuid", "UUID"): _uuid,
}


def _spell_of(kind: type[Any]) -> _Spell | None:
    """Return how an exact type is spelled; None when it is not one that this file knows."""
    spell = _SPELL.get(kind)
    if spell is None:
        spell = _SPELL_LATER.get((kind.__module__, kind.__qualname__))
        if spell is not None:
            if getattr(sys.modules.get(kind.__module__), kind.__name__, None) is not kind:
                return None
            _SPELL[kind] = spell
    return spell


def _same_as(kind: type[Any], base: type[Any]) -> bool:
    """Tell whether instances of `kind` are compared and hashed as those of `base`."""
    return kind.__eq__ is base.__eq__ and kind.__hash__ is base.__hash__


_iterate_tuple = cast("Callable[[Any], Iterable[Any]]", cast("Any", tuple).__iter__)
_iterate_frozenset = cast("Callable[[Any], Iterable[Any]]", cast("Any", frozenset).__iter__)

# A subclass may override anything, so the base's own methods make the plain value.
_UNDRESS: Final[dict[type, Callable[[Any], Any]]] = {
    int: lambda key: int.__index__(key),
    float: lambda key: float.__float__(key),
    complex: lambda key: complex.__pos__(key),
    str: lambda key: str.__str__(key),
    bytes: lambda key: bytes.__getitem__(key, slice(None)),
    tuple: _iterate_tuple,
    frozenset: _iterate_frozenset,
}


def _unknown(codec: "KeyCodec", key: Any, depth: int) -> Canonical:
    """Spell a key whose exact type is not a built-in one."""
    kind = _kind_of(key)
    enum = sys.modules.get("enum")
    if enum is not None and isinstance(key, enum.Enum) and _same_as(kind, enum.Enum):
        member: Any = key
        # Combined flags share names between versions of Python; their value says it all.
        flag = isinstance(key, enum.Flag) and type(member.value) is int
        name: str | int = member.value if flag else member.name
        inner = _int_bytes(name) if isinstance(name, int) else _str(codec, name, 0)[0]
        return pack_ext(ENUM, array_of([_pack(_LANGUAGE), _class_name(kind), inner])), False
    fields = _compared_fields(kind)
    if fields is not None:
        values = [getattr(key, name) for name in fields]
        return _record(codec, _class_name(kind), values, depth), False
    path = _path(codec, key, depth)
    if path is not None:
        return path, False
    for base in kind.__mro__[1:]:
        spell = _spell_of(base)
        if spell is not None and spell is not _unhashable:
            if not _same_as(kind, base):
                break
            undress = _UNDRESS.get(base)
            return spell(codec, key if undress is None else undress(key), depth)[0], False
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(key, numpy.generic):
        plain: Any = key.item()
        if type(plain) in _NUMPY_ITEMS:
            return codec.canonical(plain, depth)[0], False
    try:
        hash(key)
    except TypeError as error:
        raise BadKey(str(error)) from None
    if not codec.pickled_keys:
        raise BadKey(
            f"a {kind.__module__}.{kind.__qualname__} has no identity that other processes know; "
            "use a string, number, tuple, enum member or frozen dataclass as the key"
        )
    return pack_ext(
        PICKLED, array_of([_pack(_LANGUAGE), _pack("pickle"), _pack(_pickle(codec, key))])
    ), (False)


def _record(codec: "KeyCodec", name: bytes, fields: list[Any], depth: int) -> bytes:
    """Return the canonical bytes of a record: the packed name of its class, and its fields."""
    items, _ = _elements(codec, fields, depth)
    return pack_ext(DATACLASS, array_of([_pack(_LANGUAGE), name, array_of(items)]))


def _path(codec: "KeyCodec", key: Any, depth: int) -> bytes | None:
    """Return the canonical bytes of a path of pathlib; None of anything else.

    Equal paths pickle differently, by how they were made, and their classes have moved.
    """
    pathlib = sys.modules.get("pathlib")
    if pathlib is None or not isinstance(key, pathlib.PurePath):
        return None
    for base in (pathlib.PurePosixPath, pathlib.PureWindowsPath):
        if isinstance(key, base) and _same_as(_kind_of(key), base):
            text = str(key) if base is pathlib.PurePosixPath else str(key).lower()
            return _record(codec, _pack(f"pathlib.{base.__name__}"), [text], depth)
    return None


_NUMPY_ITEMS: Final[frozenset[type]] = frozenset({bool, int, float, complex, str, bytes})


def _class_name(kind: type[Any]) -> bytes:
    # What is the main script to its own process is __mp_main__ to the children of multiprocessing.
    module = "__main__" if kind.__module__ == "__mp_main__" else kind.__module__
    name = f"{module}.{kind.__qualname__}"
    if "<locals>" in name:
        raise BadKey(f"{name} cannot be in a key: a class inside a function has no lasting name")
    return _pack(name)


def _compared_fields(kind: type[Any]) -> list[str] | None:
    """Return the names of the fields that a frozen dataclass compares; None for anything else.

    `__eq__` and `__hash__` must be those that the decorator wrote: it compiles them from a string.
    """
    parameters = getattr(kind, "__dataclass_params__", None)
    if parameters is None or not parameters.eq or not parameters.frozen:
        return None
    for method in (kind.__eq__, kind.__hash__):
        code = getattr(method, "__code__", None)
        if code is None or code.co_filename != "<string>":
            return None
    return [field.name for field in sys.modules["dataclasses"].fields(kind) if field.compare]


def _pickle(codec: "KeyCodec", key: object) -> bytes:
    """Pickle a key so that equal ones, in any process, have equal bytes; nobody ever opens them.

    Without a memo: which parts are one object must not show in the bytes.
    """
    import io

    stream = io.BytesIO()
    pickler = _pickler_type()(stream, 5)
    pickler.fast = True
    pickler.codec = codec
    try:
        pickler.dump(key)
    except Exception as error:
        kind = _kind_of(key)
        raise BadKey(
            f"a {kind.__module__}.{kind.__qualname__} cannot be a key: pickling it failed "
            f"({type(error).__name__}: {error})"
        ) from error
    return stream.getvalue()


_picklers: Final[list[Any]] = []


def _pickler_type() -> Any:
    """Return the pickler of keys; who has no such keys does not import pickle for them."""
    if not _picklers:
        import pickle

        class KeyPickler(pickle.Pickler):
            codec: KeyCodec

            def reducer_override(self, obj: Any) -> Any:
                return _reduced(self.codec, obj)

        _picklers.append(KeyPickler)
    return _picklers[0]


_object = cast("Any", object)


def _reduced(codec: "KeyCodec", part: Any) -> Any:
    """Return what a part of a pickled key is taken apart to; NotImplemented: what pickle does."""
    kind: Any = _kind_of(part)
    if isinstance(part, type | FunctionType):
        name: str = part.__qualname__
        if part.__module__ not in ("__main__", "__mp_main__") or "<locals>" in name:
            return NotImplemented
        return _stands_for, (name,)  # the same in the main process and in its children
    path = _path(codec, part, 0)
    if path is not None:
        return _stands_for, (path,)
    if (
        kind.__reduce_ex__ is not _object.__reduce_ex__
        or kind.__reduce__ is not _object.__reduce__
        or kind in sys.modules["copyreg"].dispatch_table
    ):
        return NotImplemented
    make, arguments, *more = part.__reduce_ex__(5)
    if more:
        state: Any = more[0]
        if type(state) is tuple and len(cast("tuple[Any, ...]", state)) == 2:  # with slots
            more[0] = [_attributes(codec, kind, some) for some in cast("tuple[Any, ...]", state)]
        else:
            more[0] = _attributes(codec, kind, state)
    return make, arguments, *more


def _stands_for(name: object) -> object:
    """Stand in the pickle of a key for what would be pickled in several ways."""
    return name


def _attributes(codec: "KeyCodec", kind: type[Any], state: Any) -> Any:
    """Return an object's attributes, in one order, without what its class only remembers."""
    if type(state) is not dict:
        return _comparable(codec, state)
    named = cast("dict[Any, Any]", state)
    return [
        (name, _comparable(codec, named[name]))
        for name in sorted(named, key=str)
        if not _is_remembered(kind, name)
    ]


def _is_remembered(kind: type[Any], name: str) -> bool:
    """Tell whether an attribute is in the place of what computes it: a `cached_property`, say."""
    for base in kind.__mro__:
        if name in base.__dict__:
            member = _kind_of(base.__dict__[name])
            return (
                hasattr(member, "__get__")
                and not hasattr(member, "__set__")
                and member is not FunctionType
            )
    return False


def _comparable(codec: "KeyCodec", value: Any) -> object:
    """Return what is pickled of an attribute's value: one thing for all numbers that are equal."""
    kind: Any = _kind_of(value)
    if kind is tuple or kind is list:
        return cast("object", kind(_comparable(codec, item) for item in value))
    if kind is frozenset or kind is set:
        return "set", sorted(codec.canonical(item, 0)[0] for item in value)
    if kind in (bool, int, float, complex) or _SPELL_LATER.get((kind.__module__, kind.__name__)):
        try:
            return "number", codec.canonical(value, 0)[0]
        except (BadKey, TooLarge):  # NaN, say
            return value
    return value


class KeyCodec:
    """The client's codec of keys.

    `pickled_keys` admits hashable objects of any other class, known by their pickled bytes: only
    the same version of the same program can be sure to make the same bytes again.
    """

    def __init__(self, values: ValueCodec | NeutralCodec, *, pickled_keys: bool = False) -> None:
        self.pickled_keys = pickled_keys
        self._values = values

    def encode(self, key: object) -> bytes | list[Any]:
        """Return `key` as it travels: canonical bytes, with its own spelling where that differs.

        Raises BadKey for what cannot be a key, TooLarge beyond 64 KiB, TypeError where the
        spelling takes pickle and that is off.
        """
        kind = type(key)
        if kind is str:
            try:
                data = _pack(key)
            except UnicodeEncodeError:
                data = _str(self, cast("str", key), 0)[0]
            if len(data) <= MAX_KEY:
                return data
            exact = True
        elif kind is int and MIN_INT <= key <= MAX_INT:  # type: ignore[operator]  # pyright: ignore
            return _pack(key)
        else:
            data, exact = self.canonical(key, 0)
        if len(data) > MAX_KEY:
            raise TooLarge(f"a key of {len(data)} bytes; the limit is {MAX_KEY}")
        if exact:
            return data
        spelling = self._values.encode(key)
        if type(spelling) is list:
            raise BadKey("a reference to a shared object cannot be part of a key")
        if type(spelling) is bytes and len(spelling) > MAX_KEY:
            raise TooLarge(f"a key of {len(spelling)} bytes; the limit is {MAX_KEY}")
        return [data, spelling]

    def canonical(self, key: Any, depth: int) -> Canonical:
        """Return the canonical bytes of `key`, which `depth` tuples or sets are around."""
        kind = _kind_of(key)
        spell = _SPELL.get(kind)
        if spell is None:
            spell = _spell_of(kind) or _unknown
        return spell(self, key, depth)

    def decode(self, wire: bytes | list[Any]) -> Any:
        """Return the key as it was spelled.

        Raises BadEncoding for anything that `encode` does not make, Denied for a pickle where none
        is allowed.
        """
        if type(wire) is bytes:
            return self._values.load(wire)
        if type(wire) is list and len(wire) == 2:
            return self._values.decode(wire[1])
        raise BadEncoding("a key is bytes, or bytes and a spelling")


# --- the server's check -------------------------------------------------------------------------


_SHORT: Final = bytes(
    1 if first < 0x80 or first >= 0xE0 else first - 0x9F if 0xA0 <= first < 0xC0 else 0
    for first in range(256)
)
"""The length of a small integer or a short text, by its first byte; of others 0."""


def check_key(wire: object) -> bytes:
    """Return the key that came in: its canonical bytes, as a `SpelledKey` when it has a spelling.

    Raises BadEncoding for bytes that are not the canonical form of anything, BadKey for a value
    that cannot be a key, TooLarge beyond the limits.
    """
    if type(wire) is bytes:
        try:
            if len(wire) == _SHORT[wire[0]]:
                wire[1:].decode()
                return wire
            if wire[0] == 0xD9 and len(wire) == wire[1] + 2 > 33:
                wire[2:].decode()
                return wire
        except (IndexError, UnicodeDecodeError):
            pass
        _check(wire)
        return wire
    parts: Any = wire
    if _kind_of(wire) is not list or len(parts) != 2 or _kind_of(parts[0]) is not bytes:
        raise BadEncoding("a key is bytes, or bytes and a spelling")
    data, spelling = parts
    _check(data)
    check_packed(spelling)
    if type(spelling) is list:
        raise BadKey("a reference to a shared object cannot be part of a key")
    if type(spelling) is bytes and len(spelling) > MAX_KEY:
        raise TooLarge(f"the spelling of a key takes {len(spelling)} bytes; limit {MAX_KEY}")
    key = SpelledKey(data)
    key.spelling = spelling
    return key


def wire_key(key: bytes) -> bytes | list[Any]:
    """Return a key that `check_key` accepted in the form in which it travels."""
    if type(key) is SpelledKey:
        return [bytes(key), key.spelling]
    return key


def _check(data: bytes) -> None:
    if len(data) > MAX_KEY:
        raise TooLarge(f"a key of {len(data)} bytes; the limit is {MAX_KEY}")
    try:
        end = _element(data, 0, 0)
    except (IndexError, struct.error):
        raise BadEncoding("a key that ends too early") from None
    except UnicodeError:
        raise BadEncoding("a key with a malformed string") from None
    if end != len(data):
        raise BadEncoding("bytes after the end of a key")


def _head(data: bytes, at: int, width: int, least: int) -> tuple[int, int]:
    """Return the length that a header of `width` bytes gives, and where the body begins."""
    start = at + width
    if start > len(data):
        raise IndexError
    size = int.from_bytes(data[at:start], "big")
    if size < least:
        raise BadEncoding("a header in a key that is longer than it must be")
    return size, start


def _end(data: bytes, start: int, size: int) -> int:
    if start + size > len(data):
        raise IndexError
    return start + size


def _element(data: bytes, at: int, depth: int) -> int:
    """Check the canonical value at `at` and return where it ends."""
    first = data[at]
    at += 1
    if first < 0x80 or first >= 0xE0 or first == 0xC0:
        return at
    if 0xA0 <= first <= 0xBF:
        end = _end(data, at, first - 0xA0)
        data[at:end].decode()
        return end
    if first in _STRINGS:
        size, at = _head(data, at, *_STRINGS[first])
        end = _end(data, at, size)
        data[at:end].decode()
        return end
    if first in _BINS:
        size, at = _head(data, at, *_BINS[first])
        return _end(data, at, size)
    if first in _INTS:
        width, low, high, signed = _INTS[first]
        end = _end(data, at, width)
        if low <= int.from_bytes(data[at:end], "big", signed=signed) <= high:
            return end
        raise BadEncoding("an integer in a key that is longer than it must be")
    if first == 0xCB:
        number: float = _FLOAT.unpack_from(data, at)[0]
        if number != number:
            raise BadKey("NaN cannot be a key: it is not even equal to itself")
        if number.is_integer():
            raise BadEncoding("an integral float in a key: it must be an integer")
        return at + 8
    if first in _FIXEXTS:
        size = _FIXEXTS[first]
    elif first in _EXTS:
        size, at = _head(data, at, *_EXTS[first])
        if size in _FIXED_SIZES:
            raise BadEncoding("a header in a key that is longer than it must be")
    elif first in (0xC1, 0xC2, 0xC3, 0xCA):
        raise BadEncoding("a form that is not canonical in a key")
    else:
        raise BadKey("an array or a map cannot be a key")
    code = data[at]
    at += 1
    end = _end(data, at, size)
    check = _PARTS.get(code)
    if check is not None:
        check(data[at:end], depth)
    elif not FIRST_USER <= code < 0x80:
        raise BadKey(f"an extension part of code {code} cannot be a key")
    return end


_STRINGS: Final = {0xD9: (1, 32), 0xDA: (2, 1 << 8), 0xDB: (4, 1 << 16)}
_BINS: Final = {0xC4: (1, 0), 0xC5: (2, 1 << 8), 0xC6: (4, 1 << 16)}
_EXTS: Final = {0xC7: (1, 0), 0xC8: (2, 1 << 8), 0xC9: (4, 1 << 16)}
_FIXEXTS: Final = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_FIXED_SIZES: Final = frozenset(_FIXEXTS.values())
_INTS: Final = {
    0xCC: (1, 128, MAX_INT, False),
    0xCD: (2, 1 << 8, MAX_INT, False),
    0xCE: (4, 1 << 16, MAX_INT, False),
    0xCF: (8, 1 << 32, MAX_INT, False),
    0xD0: (1, MIN_INT, -33, True),
    0xD1: (2, MIN_INT, -(1 << 7) - 1, True),
    0xD2: (4, MIN_INT, -(1 << 15) - 1, True),
    0xD3: (8, MIN_INT, -(1 << 31) - 1, True),
}


def _array(data: bytes, at: int) -> tuple[int, int]:
    """Return the number of items of the array at `at`, and where they begin."""
    first = data[at]
    if 0x90 <= first <= 0x9F:
        return first - 0x90, at + 1
    if first == 0xDC:
        return _head(data, at + 1, 2, 16)
    if first == 0xDD:
        return _head(data, at + 1, 4, 1 << 16)
    raise BadEncoding("a part of a key that must hold an array")


def _sequence(data: bytes, at: int, depth: int) -> list[bytes]:
    """Check the array of canonical elements that fills `data` from `at`; return their bytes."""
    if depth >= MAX_KEY_DEPTH:
        raise BadKey(f"a key is nested more than {MAX_KEY_DEPTH} levels deep")
    size, at = _array(data, at)
    items: list[bytes] = []
    for _ in range(size):
        end = _element(data, at, depth + 1)
        items.append(data[at:end])
        at = end
    if at != len(data):
        raise BadEncoding("bytes after the end of a part of a key")
    return items


def _check_tuple(data: bytes, depth: int) -> None:
    _sequence(data, 0, depth)


def _check_frozenset(data: bytes, depth: int) -> None:
    items = _sequence(data, 0, depth)
    if any(left >= right for left, right in pairwise(items)):
        raise BadEncoding("the elements of a set in a key must rise")


def _big_int(data: bytes) -> int:
    if not 9 <= len(data) <= MAX_BIG_INT + 1 or data[0] > 1 or not data[1]:
        raise BadEncoding("not a minimal big integer")
    number = int.from_bytes(data[1:], "big")
    number = -number if data[0] else number
    if MIN_INT <= number <= MAX_INT:
        raise BadEncoding("a big integer that msgpack could carry")
    return number


def _check_big_int(data: bytes, depth: int) -> None:
    _big_int(data)


def _check_complex(data: bytes, depth: int) -> None:
    if len(data) != 16:
        raise BadEncoding("a complex number takes 16 bytes")
    real, imag = _COMPLEX.unpack(data)
    if real != real or imag != imag:
        raise BadKey("NaN cannot be a key: it is not even equal to itself")
    if not imag or _COMPLEX.pack(real + 0.0, imag) != data:
        raise BadEncoding("a complex number in a key that is not canonical")


def _check_decimal(data: bytes, depth: int) -> None:
    if len(data) > MAX_DECIMAL:
        raise BadEncoding("a Decimal is too long")
    import decimal

    exact = exact_decimals()
    text = data.decode("ascii")
    try:
        number = decimal.Decimal(text, exact)
    except decimal.InvalidOperation:
        raise BadEncoding("not a Decimal") from None
    if number.is_nan():
        raise BadKey("NaN cannot be a key: it is not even equal to itself")
    # A Decimal of its own is finite, not integral, and no float.
    if number.is_finite() and number and number.adjusted() < MAX_MAGNITUDE:
        normal = exact.normalize(number)
        if (
            normal.as_tuple().exponent < 0
            and exact.to_sci_string(normal) == text
            and exact.compare(exact.create_decimal_from_float(float(normal)), normal)
        ):
            return
    raise BadEncoding("a Decimal in a key that is not canonical")


def _check_uuid(data: bytes, depth: int) -> None:
    if len(data) != 16:
        raise BadEncoding("a UUID takes 16 bytes")


def _instant(data: bytes) -> tuple[int, bool]:
    """Return the microseconds of a datetime or time, and whether it is naive."""
    if len(data) != 13:
        raise BadEncoding("a datetime or time in a key takes 13 bytes")
    wall, offset, fold = _INSTANT.unpack(data)
    if fold or offset not in (0, NAIVE):
        raise BadEncoding("a datetime or time in a key is in UTC or naive, without a fold")
    return wall, offset == NAIVE


def _check_datetime(data: bytes, depth: int) -> None:
    wall, naive = _instant(data)
    slack = 0 if naive else _DAY
    if not _FIRST_DAY * _DAY - slack <= wall < (_LAST_DAY + 1) * _DAY + slack:
        raise BadEncoding("a datetime outside the years 1 to 9999")


def _check_time(data: bytes, depth: int) -> None:
    wall, naive = _instant(data)
    slack = 0 if naive else _DAY
    if not -slack <= wall < _DAY + slack:
        raise BadEncoding("a time beyond its day")


def _check_date(data: bytes, depth: int) -> None:
    if len(data) != 4:
        raise BadEncoding("a date takes 4 bytes")
    if not _FIRST_DAY <= int.from_bytes(data, "big", signed=True) <= _LAST_DAY:
        raise BadEncoding("a date outside the years 1 to 9999")


def _check_timedelta(data: bytes, depth: int) -> None:
    number = int.from_bytes(data, "big", signed=True)
    if len(data) != 8 and (len(data) != 16 or -(1 << 63) <= number < 1 << 63):
        raise BadEncoding("a timedelta takes 8 bytes, or 16 when it must")
    if not -999_999_999 * _DAY <= number <= _MAX_TIMEDELTA:
        raise BadEncoding("a timedelta beyond 999999999 days")


def _check_str(data: bytes, depth: int) -> None:
    text = data.decode("utf-8", "surrogatepass")
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    raise BadEncoding("a string that msgpack could carry")


def _named(data: bytes) -> int:
    """Check that a part begins as an array of three with two strings; return where they end."""
    size, at = _array(data, 0)
    if size != 3:
        raise BadEncoding("a part of a key that must hold three items")
    for _ in range(2):
        if not (0xA0 <= data[at] <= 0xBF or data[at] in _STRINGS):
            raise BadEncoding("a part of a key that must begin with two strings")
        at = _element(data, at, 0)
    return at


def _check_enum(data: bytes, depth: int) -> None:
    at = _named(data)
    first = data[at]
    if first in (0xC0, 0xCB) or first in _BINS:
        raise BadEncoding("an enum member is known by a string or an integer")
    if first in _FIXEXTS or first in _EXTS:
        code = data[at + (1 if first in _FIXEXTS else 1 + _EXTS[first][0])]
        if code not in (BIG_INT, STR):
            raise BadEncoding("an enum member is known by a string or an integer")
    if _element(data, at, 0) != len(data):
        raise BadEncoding("bytes after the end of a part of a key")


def _check_dataclass(data: bytes, depth: int) -> None:
    _sequence(data, _named(data), depth)


def _check_pickled(data: bytes, depth: int) -> None:
    at = _named(data)
    if data[at] not in _BINS or _element(data, at, 0) != len(data):
        raise BadEncoding("a pickled key is a language, a codec and bytes")


def _check_fraction(data: bytes, depth: int) -> None:
    size, at = _array(data, 0)
    if size != 2:
        raise BadEncoding("a fraction is two integers")
    numbers: list[int] = []
    for _ in range(2):
        end = _element(data, at, 0)
        numbers.append(_integer(data[at:end]))
        at = end
    numerator, denominator = numbers
    if at != len(data) or denominator < 2 or gcd(numerator, denominator) != 1:
        raise BadEncoding("not a fraction in lowest terms")
    if _near(numerator, denominator) is not None or _is_decimal(denominator):
        raise BadEncoding("a fraction that a float or a Decimal could carry")


def _integer(data: bytes) -> int:
    """Return the integer that an element holds."""
    first = data[0]
    if first < 0x80:
        return first
    if first >= 0xE0:
        return first - 0x100
    if first in _INTS:
        return int.from_bytes(data[1:], "big", signed=_INTS[first][3])
    if first in _EXTS:
        at = 1 + _EXTS[first][0]
        if data[at] == BIG_INT:
            return _big_int(data[at + 1 :])
    elif first in _FIXEXTS and data[1] == BIG_INT:
        return _big_int(data[2:])
    raise BadEncoding("a part of a key that must hold integers")


_PARTS: Final[dict[int, Callable[[bytes, int], None]]] = {
    TUPLE: _check_tuple,
    FROZENSET: _check_frozenset,
    BIG_INT: _check_big_int,
    COMPLEX: _check_complex,
    DECIMAL: _check_decimal,
    UUID: _check_uuid,
    DATETIME: _check_datetime,
    DATE: _check_date,
    TIME: _check_time,
    TIMEDELTA: _check_timedelta,
    STR: _check_str,
    ENUM: _check_enum,
    DATACLASS: _check_dataclass,
    PICKLED: _check_pickled,
    FRACTION: _check_fraction,
}
