"""The key codec: keys are equal where Python says so, and nothing hostile gets in."""

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import json
import math
import os
import pathlib
import random
import sys
import time
import types
import uuid
import zoneinfo
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from aiomanager.errors import BadEncoding, BadKey, Denied, TooLarge
from aiomanager.protocol.keys import MAX_KEY, KeyCodec, check_key, wire_key
from aiomanager.protocol.values import NeutralCodec, ValueCodec, big_int
from aiomanager.stored import SpelledKey

from .test_values import VECTORS, Proxy, datetimes, linked, same, surrogates, times, untag

values = ValueCodec(allow_pickle=True)
codec = KeyCodec(values)
pickling = KeyCodec(values, pickled_keys=True)
pack = msgpack.Packer(strict_types=True).pack
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
Decimal = decimal.Decimal
Fraction = fractions.Fraction


# The vectors name these classes, so they stand in a module of that name.
class Color(enum.Enum):
    __module__ = "example"
    RED = 1
    GREEN = "g"


class Size(enum.IntEnum):
    __module__ = "example"
    SMALL = 1


class Mode(enum.Flag):
    __module__ = "example"
    READ = 1
    WRITE = 2


class Name(enum.StrEnum):
    __module__ = "example"
    ANNA = "anna"


@dataclasses.dataclass(frozen=True)
class Place:
    row: int
    seat: Any = None
    note: str = dataclasses.field(default="", compare=False)
    __module__ = "example"


@dataclasses.dataclass(frozen=True)
class Other:
    row: int
    seat: Any = None


Other.__module__ = Place.__module__ = "example"
Point = collections.namedtuple("Point", "x y")
example = types.ModuleType("example")
for kind in (Color, Size, Mode, Name, Place, Other):
    setattr(example, kind.__name__, kind)
sys.modules["example"] = example


class Text(str):
    pass


class Shout(str):
    """Compares in its own way."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self.lower() == other.lower()

    def __hash__(self) -> int:
        return hash(self.lower())


class Liar(str):
    """Only its own methods differ: it is compared and hashed as a str."""

    def __str__(self) -> str:
        return "lie"

    def encode(self, *_: Any) -> bytes:
        return b"lie"


def canonical(key: Any, codec: KeyCodec = codec) -> bytes:
    """Return the key's canonical bytes, after the whole way there and back."""
    wire = codec.encode(key)
    checked = check_key(wire)
    assert wire_key(checked) == wire
    assert (type(checked) is SpelledKey) is (type(wire) is list)
    back = codec.decode(wire)
    assert same(back, key) or back == key
    assert type(back) is type(key)
    return bytes(checked)


# --- equality ---------------------------------------------------------------------------------

numbers = st.one_of(
    st.booleans(),
    st.integers(),
    st.integers(-3, 3),
    st.integers(-(1 << 70), 1 << 70),
    st.integers(0, 90).map(lambda n: 1 << n),
    st.floats(allow_nan=False),
    st.integers(-3, 3).map(float),
    st.floats(-4, 4, width=16),
    st.complex_numbers(allow_nan=False),
    st.integers(-3, 3).map(complex),
    st.decimals(allow_nan=False),
    st.decimals(-3, 3, places=2),
    st.fractions(),
    st.fractions(-2, 2, max_denominator=10),
    st.sampled_from([Size.SMALL, Decimal("0.1"), Fraction(1, 10), 0.1, -0.0, 1e300, 10**30, 1e30]),
    st.floats(allow_nan=False, allow_infinity=False).map(Fraction),
    st.floats(allow_nan=False).map(Decimal),
)
others = st.one_of(
    st.none(),
    st.text(max_size=3),
    surrogates,
    st.text(max_size=3).map(Text),
    st.text("anx", max_size=4),
    st.binary(max_size=3),
    st.uuids(),
    # Two exceptions of keys.md: times that a zone's clocks skip or repeat, in other zones.
    datetimes().filter(lambda when: not isinstance(when.tzinfo, zoneinfo.ZoneInfo)),
    times(),
    st.dates(),
    st.timedeltas(),
    st.sampled_from(
        [Color.RED, Color.GREEN, Name.ANNA, Mode.READ, Mode.READ | Mode.WRITE, Mode(0)]
    ),
)
keys = st.recursive(
    st.one_of(numbers, numbers, others),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple),
        st.lists(inner, max_size=3).map(frozenset),
        st.tuples(inner, inner).map(lambda pair: Point(*pair)),
        st.builds(Place, inner, inner, st.text(max_size=2)),
        st.builds(Other, inner, inner),
    ),
    max_leaves=5,
)


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(keys)
def test_every_key_comes_back_as_it_was_spelled(key: Any) -> None:
    assume(depth(key) <= 8)
    canonical(key)
    hash(key)


def depth(key: Any) -> int:
    if isinstance(key, Place | Other):
        return 1 + max(depth(key.row), depth(key.seat))
    if isinstance(key, tuple | frozenset):
        return 1 + max(map(depth, key), default=0)
    return 0


@settings(max_examples=700, deadline=None, suppress_health_check=list(HealthCheck))
@given(keys, keys)
def test_equal_keys_have_equal_bytes_and_others_not(left: Any, right: Any) -> None:
    assume(depth(left) <= 8 and depth(right) <= 8)
    assert (canonical(left) == canonical(right)) is (left == right and hash(left) == hash(right))


@settings(max_examples=700, deadline=None)
@given(numbers, numbers)
def test_equal_numbers_have_equal_bytes_and_others_not(left: Any, right: Any) -> None:
    assert (canonical(left) == canonical(right)) is (left == right and hash(left) == hash(right))


@settings(max_examples=300, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_one_number_in_many_spellings(number: float) -> None:
    spellings = [number, Decimal(number), Fraction(number), complex(number)]
    assert len({canonical(spelling) for spelling in spellings}) == 1
    above = Decimal(number).next_plus(decimal.Context(prec=1200, Emin=-9999, Emax=9999))
    assert canonical(above) != canonical(number)


@settings(max_examples=200, deadline=None)
@given(st.integers(), st.integers(0, 12), st.integers(0, 12))
def test_decimals_and_fractions_meet(number: int, twos: int, fives: int) -> None:
    fraction = Fraction(number, 2**twos * 5**fives)
    exact = decimal.Context(prec=200).divide(Decimal(number), Decimal(2**twos * 5**fives))
    assert fraction == exact
    assert canonical(fraction) == canonical(exact)


CLASSES: list[list[Any]] = [
    [1, True, 1.0, Decimal(1), Decimal("1.000"), Fraction(1), 1 + 0j, complex(1, -0.0), Size.SMALL],
    [0, False, 0.0, -0.0, Decimal("-0.0"), 0j, complex(-0.0, -0.0)],
    [1.5, Decimal("1.5"), Fraction(3, 2), 1.5 + 0j],
    [Decimal("0.1"), Fraction(1, 10), Decimal("0.100")],
    [0.1, Decimal(0.1), Fraction(0.1)],
    [Fraction(1, 3)],
    [Decimal("1E-400"), Fraction(1, 10**400)],
    [2**53, float(2**53)],
    [2**53 + 1],
    [2**64, float(2**64), Decimal(2**64)],
    [2**64 - 1],
    [-(2**63)],
    [-(2**63) - 1],
    [10**30, Decimal("1E+30"), Fraction(10**30)],
    [1e300, int(1e300), Decimal(1e300)],
    [math.inf, Decimal("Infinity"), complex(math.inf, 0)],
    [-math.inf, Decimal("-Infinity")],
    [complex(0.0, 2), complex(-0.0, 2)],
    [complex(math.inf, 1)],
    [5e-324, Decimal(5e-324), Fraction(5e-324)],
    ["", Text("")],
    ["1"],
    [b"1"],
    [b""],
    ["anna", Name.ANNA, Text("anna"), Liar("anna")],
    ["é"],
    ["e\u0301"],
    ["\0"],
    ["\ud800"],
    ["\ud83d\ude00"],
    ["\U0001f600"],
    ["x" * 31],
    ["x" * 32],
    ["x" * 255],
    ["x" * 256],
    ["x" * 65_000],
    [None],
    [()],
    [(1, 2), Point(1, 2), Point(True, 2.0), (1.0, Decimal(2))],
    [((),)],
    [("a", (1, frozenset({2}))), ("a", (True, frozenset({2.0})))],
    [frozenset()],
    [frozenset({1, 2}), frozenset({2.0, True})],
    [frozenset({"a", "b", None})],
    [tuple(range(20)), tuple(map(float, range(20)))],
    [Color.RED],
    [Color.GREEN],
    [Mode.READ],
    [Mode.READ | Mode.WRITE],
    [Mode(0)],
    [Place(1), Place(1, None), Place(True, note="x")],
    [Other(1)],
    [Place(1, (2, Color.RED)), Place(1.0, (2.0, Color.RED))],
    [uuid.UUID(int=1)],
    [datetime.date(2025, 1, 1)],
    [datetime.datetime(2025, 1, 1), datetime.datetime(2025, 1, 1, fold=1)],
    [
        datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC),
        datetime.datetime(2025, 1, 1, 1, tzinfo=BERLIN),
        datetime.datetime(2025, 1, 1, 5, tzinfo=datetime.timezone(datetime.timedelta(hours=5))),
    ],
    [datetime.datetime(2025, 10, 26, 2, 30, tzinfo=BERLIN, fold=fold) for fold in (0, 1)],
    [datetime.datetime.min],
    [datetime.datetime.max],
    [datetime.datetime.min.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=23)))],
    [datetime.time(1), datetime.time(1, fold=1), datetime.time(1, tzinfo=BERLIN)],
    [
        datetime.time(1, tzinfo=datetime.UTC),
        datetime.time(2, tzinfo=datetime.timezone(datetime.timedelta(hours=1))),
    ],
    [datetime.time(0, tzinfo=datetime.timezone(datetime.timedelta(hours=1)))],
    [datetime.time(23, tzinfo=datetime.UTC)],
    [datetime.timedelta(1), datetime.timedelta(hours=24)],
    [datetime.timedelta(0)],
    [datetime.timedelta.max],
    [datetime.timedelta.min],
    [msgpack.ExtType(40, b"x")],
]


def test_classes_of_equality() -> None:
    seen: dict[bytes, int] = {}
    for number, spellings in enumerate(CLASSES):
        found = {canonical(spelling) for spelling in spellings}
        assert len(found) == 1, spellings
        data = found.pop()
        assert data not in seen, (spellings, CLASSES[seen[data]])
        seen[data] = number
        if not isinstance(spellings[0], datetime.time):
            assert len(set(spellings)) == 1


def test_the_first_spelling_of_a_class_needs_no_spelling_of_its_own() -> None:
    for key in (1, 0, 1.5, Fraction(1, 3), "a", b"a", None, (1, "a"), frozenset({1}), 1 << 70):
        assert type(codec.encode(key)) is bytes
    for key in (Decimal("0.1"), math.inf, 2j, "\ud800", uuid.UUID(int=1), datetime.date.min):
        assert type(codec.encode(key)) is bytes
    for key in (datetime.datetime(2025, 1, 1), datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)):
        assert type(codec.encode(key)) is bytes
    for key in (True, 1.0, -0.0, Decimal(1), (1.0,), frozenset({True}), Color.RED, Text("a"), 0j):
        wire = codec.encode(key)
        assert type(wire) is list
        assert type(check_key(wire)) is SpelledKey


def test_a_canonical_key_is_its_own_value() -> None:
    """Foreign clients decode canonical bytes as they decode any value."""
    for key, *_ in CLASSES:
        wire = codec.encode(key)
        if type(wire) is bytes:
            assert same(values.load(wire), key)
            assert wire == values.encode((key,))[-len(wire) :]  # type: ignore[index]


def test_spellings_travel_as_values_do() -> None:
    assert codec.encode(True) == [b"\1", True]
    assert codec.encode(1.0) == [b"\1", 1.0]
    assert codec.encode(Decimal(1)) == [b"\1", pack(msgpack.ExtType(6, b"1"))]
    assert codec.encode((True,)) == [
        pack(msgpack.ExtType(1, b"\x91\1")), pack(msgpack.ExtType(1, b"\x91\xc3"))
    ]  # fmt: skip
    key = check_key([b"\1", True])
    assert isinstance(key, SpelledKey)
    assert key == b"\1"
    assert hash(key) == hash(b"\1")
    assert {b"\1": "first"}[key] == "first"
    assert key.spelling is True


# --- what is no key ---------------------------------------------------------------------------


@dataclasses.dataclass
class Mutable:
    x: int


@dataclasses.dataclass(frozen=True, eq=False)
class ByIdentity:
    x: int


@dataclasses.dataclass(unsafe_hash=True)
class Unsafe:
    x: int


@dataclasses.dataclass(frozen=True)
class OwnEquality:
    x: int

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


class OwnColor(enum.Enum):
    RED = 1

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        return True


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ([], "unhashable type: 'list'"),
        ({}, "unhashable type: 'dict'"),
        (set(), "unhashable type: 'set'"),
        (bytearray(), "unhashable type: 'bytearray'"),
        ((1, [2]), "unhashable type: 'list'"),
        (Mutable(1), "unhashable type: 'Mutable'"),
        (math.nan, "NaN"),
        ((1, math.nan), "NaN"),
        (Place(math.nan), "NaN"),
        (Place([1]), "unhashable"),
        (Decimal("NaN"), "NaN"),
        (Decimal("sNaN"), "NaN"),
        (complex(math.nan, 0), "NaN"),
        (complex(1, math.nan), "NaN"),
        (object(), "builtins.object has no identity"),
        (len, "builtin_function_or_method has no identity"),
        (int, "type has no identity"),
        (ByIdentity(1), "ByIdentity has no identity"),
        (Unsafe(1), "Unsafe has no identity"),
        (OwnEquality(1), "OwnEquality has no identity"),
        (OwnColor.RED, "OwnColor has no identity"),
        (Shout("a"), "Shout has no identity"),
        (memoryview(b""), "memoryview"),
        (msgpack.ExtType(5, b""), "code 5"),
        (datetime.time(1, tzinfo=datetime.timezone(datetime.timedelta(microseconds=1))), "offset"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)  # fmt: skip
def test_what_cannot_be_a_key(key: Any, says: str) -> None:
    with pytest.raises(BadKey, match=says):
        codec.encode(key)
    with pytest.raises(TypeError):
        codec.encode((key,))


def test_local_classes_have_no_lasting_name() -> None:
    class Inner(enum.Enum):
        A = 1

    with pytest.raises(BadKey, match="inside a function"):
        codec.encode(Inner.A)


def test_limits() -> None:
    key: Any = 1
    for _ in range(8):
        key = (key,)
    assert codec.decode(codec.encode(key)) == key
    with pytest.raises(BadKey, match="8 levels"):
        codec.encode((key,))
    with pytest.raises(BadKey, match="8 levels"):
        codec.encode(Place(key))
    assert len(codec.encode("x" * (MAX_KEY - 5))) == MAX_KEY - 2
    for big in (
        "x" * MAX_KEY,
        b"x" * MAX_KEY,
        tuple(range(1 << 15)),
        1 << 65536,
        Decimal("1E+19728"),
    ):
        with pytest.raises(TooLarge):
            codec.encode(big)
    with pytest.raises(TooLarge):
        codec.encode(Place(1, note="x" * MAX_KEY))  # only its spelling is too long
    assert codec.encode(Decimal("9E+19727")) == [
        canonical(9 * 10**19727),
        values.encode(Decimal("9E+19727")),
    ]
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(BadKey):
        codec.encode((loop,))


def test_without_pickle_only_neutral_spellings_go() -> None:
    poor = KeyCodec(ValueCodec(allow_pickle=False))
    for key in (1, True, Decimal(1), (1.0, "a"), Fraction(3, 2)):
        assert same(poor.decode(poor.encode(key)), key)
    with pytest.raises(TypeError, match="allow_pickle"):
        poor.encode(Color.RED)
    with pytest.raises(Denied):
        poor.decode(codec.encode(Color.RED))


def test_the_server_reads_paths_with_its_own_codec() -> None:
    reader = KeyCodec(NeutralCodec())
    for key in (1, True, "a", (1, 2.5)):
        assert same(reader.decode(codec.encode(key)), key)
    assert type(reader.decode(codec.encode(Color.RED))) is msgpack.ExtType


def test_proxies_are_no_keys() -> None:
    with pytest.raises(BadKey):
        KeyCodec(linked).encode(Proxy(1))
    with pytest.raises(BadKey, match="reference"):
        KeyCodec(linked, pickled_keys=True).encode(Proxy(1))
    with pytest.raises(BadKey, match="reference"):
        check_key([b"\1", [b"\xc0", [1]]])


def test_pickled_keys() -> None:
    for key in (int, len, OwnEquality(1), Unsafe(1), Shout("a"), range(3), pickling_target):
        assert canonical(key, pickling)[:3] in (b"\xc7" + canonical(key, pickling)[1:2] + b"\x14",)
    text = "ab"
    one, other = Unsafe((text, text)), Unsafe((text, "".join(["a", "b"])))  # type: ignore[arg-type]
    assert canonical(one, pickling) == canonical(other, pickling)
    with pytest.raises(BadKey, match="unhashable"):
        pickling.encode(Mutable(1))
    with pytest.raises(BadKey, match="pickling it failed"):
        pickling.encode(lambda: 0)
    loop = Unsafe(1)
    loop.x = loop  # type: ignore[assignment]
    with pytest.raises((BadKey, RecursionError)):
        pickling.encode(loop)
    for key in (1, "a", (1, 2), Color.RED, Place(1)):
        assert pickling.encode(key) == codec.encode(key)


def pickling_target() -> None: ...


class Pair:
    """Compares two attributes; has others, and some only after use."""

    def __init__(self, left: Any, right: Any) -> None:
        self.left = left
        self.right = right

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pair) and (self.left, self.right) == (other.left, other.right)

    def __hash__(self) -> int:
        return 0  # whatever is in them

    @functools.cached_property
    def both(self) -> list[Any]:
        return [self.left, self.right]


class Slots:
    __slots__ = ("left", "right")
    left: Any
    right: Any
    __hash__ = None  # type: ignore[assignment]


class SlotPair(Slots):
    __slots__ = ()

    def __init__(self, left: Any, right: Any) -> None:
        self.right = right
        self.left = left

    def __hash__(self) -> int:
        return 0


def other_order(left: Any, right: Any) -> Pair:
    pair = Pair(0, right)
    del pair.left
    pair.left = left
    return pair


def used(pair: Pair) -> Pair:
    assert pair.both
    return pair


def pickled(key: Any) -> bytes:
    wire = pickling.encode(key)
    assert type(wire) is list
    return bytes(check_key(wire))


PATH = pathlib.PurePosixPath("/a")
WORDS = frozenset(["spam", "eggs", "ham", "bacon"])


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (Pair(1, 2), used(Pair(1, 2))),
        (Pair(1, 2), other_order(1, 2)),
        (Pair(1, True), Pair(1.0, Decimal(1))),
        (Pair((1, [2]), 0.5), Pair((1.0, [2.0]), Fraction(1, 2))),
        (Pair(PATH / "b" / "c", 1), Pair(pathlib.PurePosixPath("/a/b/c"), 1)),
        (Pair(WORDS, 1), Pair(frozenset(reversed(list(WORDS))), 1)),
        (Pair(Pair(1, 2), 3), Pair(used(Pair(1.0, 2.0)), 3.0)),
        (SlotPair(1, "a"), SlotPair(1.0, "a")),
        (Pair(math.nan, 1), Pair(math.nan, 1)),
    ],
)
def test_equal_objects_pickle_to_equal_keys(left: Any, right: Any) -> None:
    assert pickled(left) == pickled(right)


def test_other_objects_pickle_to_other_keys() -> None:
    things = [Pair(1, 2), Pair(2, 1), Pair("1", 2), Pair(b"1", 2), Pair((1,), 2), Pair([1], 2)]
    things += [Pair(frozenset([1]), 2), Pair(PATH, 2), Pair("/a", 2), Pair(Pair, 2), Pair(None, 2)]
    things += [Pair(1, 0.5), Pair("number", 2)]
    assert len({pickled(thing) for thing in things}) == len(things)
    assert pickled(SlotPair(1, 2)) != pickled(Pair(1, 2))
    loop = Pair(1, 2)
    loop.left = frozenset([loop])
    with pytest.raises(BadKey):
        pickling.encode(loop)


def test_paths() -> None:
    path, windows = pathlib.PurePosixPath, pathlib.PureWindowsPath
    assert (
        canonical(path("/a") / "b")
        == canonical(path("/a/b"))
        == canonical(pathlib.PosixPath("/a//b/"))
    )
    assert canonical(windows("C:/A") / "b") == canonical(windows("c:\\a\\B"))
    assert canonical(path("a")) != canonical(path("A"))
    assert canonical(path("a")) != canonical(windows("a"))
    assert canonical(path("a")) != canonical("a")
    assert codec.decode(codec.encode(path("/a") / "b")) == path("/a/b")
    surrogate = path(os.fsdecode(b"\xff"))
    assert codec.decode(codec.encode(surrogate)) == surrogate
    for check in (path("/a"), windows("C:\\A"), surrogate):
        assert check_key(codec.encode(check)) == canonical(check)


def test_numpy_scalars() -> None:
    np = pytest.importorskip("numpy")
    for key in (np.int64(3), np.float64(1.5), np.float32(0.1), np.bool_(True), np.str_("a")):
        assert canonical(key) == canonical(key.item())
        assert key == key.item()
    assert canonical((np.int8(1), np.uint64(2))) == canonical((1, 2))
    with pytest.raises(BadKey):
        codec.encode(np.array([1]))
    with pytest.raises(BadKey):
        codec.encode(np.float64("nan"))
    with pytest.raises(BadKey, match="numpy"):
        codec.encode(np.datetime64("2025-01-01"))


def test_keys_chosen_to_collide_do_not() -> None:
    flood = [k * ((1 << 61) - 1) for k in range(1, 20_001)]
    assert len(set(map(hash, flood))) == 1
    stored = [check_key(codec.encode(key)) for key in flood]
    assert len(set(map(hash, stored))) > 19_900
    table = dict.fromkeys(stored)
    assert len(table) == 20_000
    assert all(type(key) is bytes for key in stored)


# --- the server's check -----------------------------------------------------------------------


@settings(max_examples=1500, deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes_are_a_canonical_key_or_refused(data: bytes) -> None:
    accepts(data)


def accepts(data: bytes) -> bool:
    try:
        key = check_key(data)
    except (BadKey, BadEncoding, TooLarge):
        return False
    assert key is data
    try:
        value = values.load(data)
        again = codec.encode(value)
    except (BadEncoding, BadKey):
        # Names of classes, and instants that Python's calendar lacks, come with a spelling only.
        assert any(bytes((code,)) in data for code in (8, 10, 18, 19, 20))
        return True
    assert again == data or contains_own_spelling(data)
    return True


def contains_own_spelling(data: bytes) -> bool:
    return any(bytes((code,)) in data for code in (18, 19, 20))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    key = draw(keys)
    assume(depth(key) <= 8)
    data = bytearray(canonical(key))
    for _ in range(draw(st.integers(1, 2))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(damaged())
def test_damaged_keys_are_canonical_or_refused(data: bytes) -> None:
    accepts(data)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(keys)
def test_every_truncation_is_noticed(key: Any) -> None:
    assume(depth(key) <= 8)
    data = canonical(key)
    for end in range(len(data)):
        with pytest.raises((BadEncoding, BadKey)):
            check_key(data[:end])
    with pytest.raises((BadEncoding, BadKey)):
        check_key(data + b"\0")


def part(code: int, data: bytes) -> bytes:
    return pack(msgpack.ExtType(code, data))


@pytest.mark.parametrize(
    "wire",
    [
        None, 1, True, "a", 1.5, [], [b"\1"], [b"\1", 1, 2], [1, 1], ["a", 1], {}, (b"\1", True),
        [b"\1", {}], [b"\1", b""], [b"\1", [b"", []]], bytearray(b"\1"), [[b"\1"], 1],
    ],
    ids=repr,
)  # fmt: skip
def test_wires_of_the_wrong_shape(wire: Any) -> None:
    with pytest.raises(BadEncoding):
        check_key(wire)


def test_decode_takes_what_encode_makes() -> None:
    for wire in (None, 1, "a", [b"\1"], [b"\1", 1, 2]):
        with pytest.raises(BadEncoding):
            codec.decode(wire)  # type: ignore[arg-type]


def test_headers_must_be_minimal() -> None:
    text, blob = b"x" * 40, b"y" * 40
    good = [b"\xd9\x28" + text, b"\xc4\x28" + blob, b"\xcc\x80", b"\xd0\xdf", b"\xe0", b"\x7f"]
    bad = [
        b"\xda\0\x28" + text, b"\xdb\0\0\0\x28" + text, b"\xd9\x1f" + text[:31],
        b"\xc5\0\x28" + blob, b"\xc6\0\0\0\x28" + blob, b"\xcc\x7f", b"\xcd\0\xff",
        b"\xce\0\0\xff\xff", b"\xd2\xff\xff\x80\0",
        b"\xcf\0\0\0\0\xff\xff\xff\xff", b"\xd0\x01", b"\xd0\xe0", b"\xd1\xff\x80",
        b"\xd3\xff\xff\xff\xff\x80\0\0\0", b"\xd1\1\1", b"\xd2\0\1\1\1", b"\xd3\0\0\0\1\0\0\0\0",
        b"\xc7\1\x28x", b"\xc8\0\3\x28xxx", b"\xc9\0\0\0\3\x28xxx", b"\xc2", b"\xc3", b"\xc1",
        b"\xca\x3f\x80\0\0", b"\xcb" + bytes(8), b"\xd8\1" + b"\xdc\0\2" + bytes(13),
    ]  # fmt: skip
    for data in good:
        assert check_key(data) == data
    for data in bad:
        with pytest.raises(BadEncoding):
            check_key(data)
        with pytest.raises(BadEncoding):
            check_key([data, None])


def test_hostile_keys_cost_little() -> None:
    nested = b"\xc0"
    while len(nested) < 60_000:
        nested = part(1, b"\x91" + nested)
    big = part(4, b"\0\xff" + b"\xff" * 8000)
    rng = random.Random(1)
    hostile = [
        nested,
        part(1, b"\xdd\xff\xff\xff\xff"),
        part(1, b"\xdc\xff\xff" + b"\0" * 60_000),
        part(3, b"\xdc\x75\x30" + b"\0" * 30_000),
        b"\xdb\xff\xff\xff\xffx",
        b"\xc9\xff\xff\xff\xff\1x",
        part(1, b"\xdc\x10\0" + part(6, b"1E+19727") * 4096),
        part(1, b"\xdc\x10\0" + part(6, b"1E-99999999") * 4096),
        part(1, b"\xdc\x10\0" + part(6, b"0.1") * 4096),
        part(21, b"\x92" + big + part(4, b"\0\xff" + rng.randbytes(8000))),
        part(21, b"\x92" + big + part(4, b"\0" + (5**28_000).to_bytes(8127, "big").lstrip(b"\0"))),
    ]  # fmt: skip
    for data in hostile:
        began = time.perf_counter()
        accepts_quickly(data)
        assert time.perf_counter() - began < 0.5, data[:20]


def accepts_quickly(data: bytes) -> None:
    try:
        check_key(data)
    except (BadKey, BadEncoding, TooLarge):
        pass


def test_unpacked_big_numbers_stay_out_of_strings() -> None:
    """CPython refuses to write long integers in decimal; nothing here may try to."""
    for number in (1 << 65535, -(1 << 65535)):
        assert check_key(part(4, big_int(number))) == codec.encode(number)
        assert codec.decode(codec.encode(number)) == number


# --- vectors ----------------------------------------------------------------------------------


def untag_key(tagged: Any) -> Any:
    if isinstance(tagged, dict):
        ((tag, body),) = tagged.items()
        if tag == "enum":
            name, member = body
            kind = getattr(example, name.removeprefix("example."))
            return kind[member] if isinstance(member, str) else kind(member)
        if tag == "dataclass":
            return getattr(example, body[0].removeprefix("example."))(*map(untag_key, body[1]))
        if tag in ("tuple", "frozenset"):
            return {"tuple": tuple, "frozenset": frozenset}[tag](map(untag_key, body))
    return untag(tagged)


def vectors(name: str) -> list[Any]:
    return json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("vector", [pytest.param(v, id=v["id"]) for v in vectors("keys")])
def test_vectors(vector: Any) -> None:
    key = untag_key(vector["value"])
    data = bytes.fromhex(vector["hex"])
    assert canonical(key) == data
    wire = codec.encode(key)
    assert (type(wire) is list) is vector["spelled"]
    if "spelling" in vector:
        assert msgpack.packb(wire[1]) == bytes.fromhex(vector["spelling"])


def test_vectors_of_one_class_and_no_others_are_equal() -> None:
    found: dict[str, set[str]] = {}
    for vector in vectors("keys"):
        found.setdefault(vector["class"], set()).add(vector["hex"])
    assert all(len(same) == 1 for same in found.values())
    assert len({next(iter(same)) for same in found.values()}) == len(found)


@pytest.mark.parametrize(
    "vector", [pytest.param(v, id=v["id"]) for v in vectors("reject") if v["what"] == "key"]
)
def test_rejected_vectors(vector: Any) -> None:
    data = bytes.fromhex(vector["hex"])
    error = {"BadKey": BadKey, "BadEncoding": BadEncoding}[vector["error"]]
    with pytest.raises(error):
        check_key(data)
    with pytest.raises(error):
        check_key([data, None])
