"""The value codec: exact round trips, hostile bytes, what the server compares."""

import array
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import gc
import json
import math
import pathlib
import pickle
import random
import re
import subprocess
import sys
import threading
import time
import tracemalloc
import uuid
import zoneinfo
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiomanager.errors import BadEncoding, Denied, NeedsNeutralValue, TooLarge
from aiomanager.protocol import values
from aiomanager.protocol.values import NeutralCodec, ValueCodec, check_packed
from aiomanager.stored import MISSING

VECTORS = pathlib.Path(__file__).parents[2] / "protocol" / "vectors"

client = ValueCodec(allow_pickle=True)
plain_client = ValueCodec(allow_pickle=False, strict=True)
server = NeutralCodec()
pack = msgpack.Packer(strict_types=True).pack
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


def named(value: object) -> str:
    """Return the name of a case: the same one in every process that collects it."""
    return re.sub(r" at 0x\w+|(?<=object) at .*", "", repr(value))


def same(left: Any, right: Any) -> bool:
    """Compare deeply, with exact types, signs of zero, folds, zones and NaN payloads."""
    kind = type(left)
    if kind is not type(right):
        return False
    if kind is float:
        return math.isnan(left) == math.isnan(right) and (
            math.isnan(left)
            or (left == right and math.copysign(1, left) == math.copysign(1, right))
        )
    if kind is complex:
        return same(left.real, right.real) and same(left.imag, right.imag)
    if kind in (list, tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if kind is dict:
        return len(left) == len(right) and all(
            same(a, c) and same(b, d)
            for (a, b), (c, d) in zip(left.items(), right.items(), strict=True)
        )
    if kind in (set, frozenset):
        rest = list(right)
        for item in left:
            found = next((i for i, other in enumerate(rest) if same(item, other)), None)
            if found is None:
                return False
            del rest[found]
        return not rest
    if kind is decimal.Decimal:
        return left.as_tuple() == right.as_tuple()
    if kind in (datetime.datetime, datetime.time):
        return (
            left.replace(tzinfo=None, fold=0) == right.replace(tzinfo=None, fold=0)
            and left.fold == right.fold
            and same_zone(left.tzinfo, right.tzinfo)
        )
    if kind is array.array:
        return left.typecode == right.typecode and left.tobytes() == right.tobytes()
    if kind.__name__ == "ndarray":
        return (left.dtype, left.shape, left.tobytes()) == (
            right.dtype,
            right.shape,
            right.tobytes(),
        )
    if kind is msgpack.Timestamp:
        return (left.seconds, left.nanoseconds) == (right.seconds, right.nanoseconds)
    return bool(left == right)


def same_zone(left: Any, right: Any) -> bool:
    return type(left) is type(right) and repr(left) == repr(right)


# --- strategies -------------------------------------------------------------------------------

surrogates = st.text(st.characters(min_codepoint=0xD7F0, max_codepoint=0xE010), max_size=6)
zones = st.one_of(
    st.none(),
    st.just(datetime.UTC),
    st.integers(-86_399, 86_399).map(
        lambda seconds: datetime.timezone(datetime.timedelta(seconds=seconds))
    ),
    st.sampled_from(["Europe/Berlin", "America/New_York", "UTC", "Pacific/Apia"]).map(
        zoneinfo.ZoneInfo
    ),
)


@st.composite
def datetimes(draw: st.DrawFn) -> datetime.datetime:
    # Next to the ends of time, no offset can be computed.
    value = draw(st.datetimes(datetime.datetime(1, 1, 2), datetime.datetime(9999, 12, 30)))
    return value.replace(tzinfo=draw(zones), fold=draw(st.integers(0, 1)))


@st.composite
def times(draw: st.DrawFn) -> datetime.time:
    return draw(st.times()).replace(tzinfo=draw(zones), fold=draw(st.integers(0, 1)))


hashable_leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(1 << 70), 1 << 70),
    st.integers(0, 300).map(lambda n: 1 << n),
    st.floats(),
    st.text(max_size=40),
    surrogates,
    st.binary(max_size=40),
    st.complex_numbers(),
    st.decimals().filter(lambda d: not d.is_snan()),
    st.fractions(),
    st.uuids(),
    datetimes(),
    st.dates(),
    times(),
    st.timedeltas(),
)


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    kind = draw(st.sampled_from("bBhHiIlLqQfd"))
    if kind in "fd":
        return array.array(kind, draw(st.lists(st.floats(width=32), max_size=5)))
    return array.array(kind, draw(st.lists(st.integers(0, 100), max_size=5)))


leaves = st.one_of(
    hashable_leaves,
    st.just(decimal.Decimal("sNaN123")),
    st.just(decimal.Decimal("-NaN0")),
    st.binary(max_size=40).map(bytearray),
    arrays(),
    st.text(min_size=200, max_size=1100),
    st.builds(msgpack.ExtType, st.integers(32, 127), st.binary(max_size=20)),
    st.builds(msgpack.ExtType, st.sampled_from([0, 15, 18, 19, 20, 31]), st.binary(max_size=20)),
    st.builds(msgpack.Timestamp, st.integers(-(1 << 60), 1 << 60), st.integers(0, 999_999_999)),
)


def as_dict(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """Return a dict that can be encoded: a NaN in a key makes two of what is one on the wire."""
    by_encoding = {pack(plain_client.encode(key)): (key, item) for key, item in pairs}
    return dict(by_encoding.values())


hashables = st.recursive(
    hashable_leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(tuple), st.lists(inner, max_size=4).map(frozenset)
    ),
    max_leaves=6,
)
anything = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=5).map(tuple),
        st.lists(st.tuples(hashables, inner), max_size=5).map(as_dict),
        st.lists(hashables, max_size=4).map(set),
        st.lists(hashables, max_size=4).map(frozenset),
    ),
    max_leaves=25,
)


# --- round trips ------------------------------------------------------------------------------


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(anything)
def test_every_value_comes_back_with_its_exact_types(value: Any) -> None:
    packed = plain_client.encode(value)
    check_packed(packed)
    assert same(plain_client.decode(packed), value)
    assert same(client.decode(client.encode(value)), value)
    # On the wire it is one msgpack value, and the encoding is deterministic.
    assert msgpack.unpackb(msgpack.packb(packed), strict_map_key=False) == packed or value != value
    assert plain_client.encode(plain_client.decode(packed)) == packed or value != value
    assert opaque_parts(packed) == 0


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(anything)
def test_the_server_opens_and_packs_without_a_change(value: Any) -> None:
    packed = client.encode(value)
    # A NaN is equal to nothing: a float, which travels as itself, a complex number, a Decimal.
    assert server.equal(packed, packed) or (
        value.is_nan() if isinstance(value, decimal.Decimal) else value != value
    )
    if type(packed) is bytes:
        tree = server.open(packed)
        again = server.pack(tree, None)
        assert again == (packed if type(again) is bytes else tree) or tree != tree


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(anything, anything)
def test_the_server_compares_as_python_does(left: Any, right: Any) -> None:
    a, b = client.encode(left), client.encode(right)
    try:
        answer = server.equal(a, b)
    except NeedsNeutralValue:
        assert any(isinstance(part, array.array | msgpack.ExtType) for part in parts([left, right]))
        return
    if answer and a == b:
        return
    try:
        # As what arrives: an object is equal to itself in a container, though it is a NaN.
        expected = left == client.decode(b)
    except decimal.InvalidOperation:
        expected = False
    assert answer == expected


def parts(value: Any) -> Any:
    yield value
    if isinstance(value, dict):
        for key, item in value.items():
            yield from parts(key)
            yield from parts(item)
    elif type(value) in (list, tuple, set, frozenset):
        for item in value:
            yield from parts(item)


def opaque_parts(packed: Any) -> int:
    found = 0

    def part(code: int, data: bytes) -> Any:
        nonlocal found
        found += code == values.OPAQUE
        if code in (values.TUPLE, values.SET, values.FROZENSET):
            msgpack.unpackb(data, ext_hook=part, strict_map_key=False)
        return (code, data)

    if isinstance(packed, list):
        packed = packed[0]
    if isinstance(packed, bytes):
        msgpack.unpackb(packed, ext_hook=part, strict_map_key=False)
    return found


SCALARS: list[Any] = [
    None, True, False, 0, 1, -1, (1 << 64) - 1, -(1 << 63), 0.0, -0.0, 1.5, math.inf, -math.inf,
    "", "a", "é", "x" * 1024, "é" * 512, "\0", "e\u0301", "\U0001f600",
]  # fmt: skip


@pytest.mark.parametrize("value", SCALARS, ids=named)
def test_scalars_travel_as_themselves(value: Any) -> None:
    assert same(client.encode(value), value)
    assert same(client.decode(client.encode(value)), value)
    assert type(client.encode([value])) is bytes


@pytest.mark.parametrize(
    "value",
    [
        "x" * 1025, "é" * 513, "\ud800", "a\udfff\ud800", 1 << 64, -(1 << 63) - 1, b"", b"x", [],
        {}, (), set(), frozenset(), bytearray(), 0j, decimal.Decimal(0),
    ],
    ids=named,
)  # fmt: skip
def test_everything_else_travels_as_bytes(value: Any) -> None:
    packed = client.encode(value)
    assert type(packed) is bytes
    assert same(client.decode(packed), value)


# "u" is deprecated since Python 3.13.
TEXT = "w" if "w" in array.typecodes else "u"

MORE: list[Any] = [
    [True, 1, 1.0, -0.0, 0],
    {"a": ({"b": ({"c": ()},)},)},
    {1: "int", "1": "str", b"1": "bytes", (1,): "tuple", None: "none", frozenset({1}): "set"},
    {frozenset({frozenset({frozenset()})})},
    [bytearray(b"x"), b"x", "x"],
    [decimal.Decimal(text) for text in ("-0", "-0.00", "1E+9", "NaN", "sNaN7", "-Infinity")],
    [decimal.Decimal("1E+999999999999999999"), decimal.Decimal("1E-999999999999999999")],
    [(1 << 65535) - 1, -(1 << 65535), 1 << 64, -(1 << 63) - 1],
    [datetime.datetime.min, datetime.datetime.max, datetime.date.min, datetime.date.max],
    [datetime.time.min, datetime.time.max, datetime.time(1, tzinfo=BERLIN, fold=1)],
    [datetime.timedelta.min, datetime.timedelta.max, datetime.timedelta.resolution],
    [datetime.timedelta(microseconds=(1 << 63) - 1), datetime.timedelta(microseconds=-(1 << 63))],
    [datetime.timedelta(microseconds=1 << 63), datetime.timedelta(microseconds=-(1 << 63) - 1)],
    [datetime.datetime(2025, 10, 26, 2, 30, tzinfo=BERLIN, fold=fold) for fold in (0, 1)],
    [datetime.datetime(2025, 3, 30, 2, 30, tzinfo=BERLIN)],  # a time that never was
    [datetime.datetime(2025, 1, 1, tzinfo=zoneinfo.ZoneInfo("UTC"))],
    [datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)],
    [array.array(TEXT, "aé€"), array.array("d", [0.1]), array.array("b"), array.array("L", [1])],
    [fractions.Fraction(1, 3), fractions.Fraction(1 << 100, 3), fractions.Fraction(-7)],
    [complex(-0.0, -0.0), complex(math.inf, math.nan)],
    ["\ud83d\ude00", "\U0001f600"],  # two surrogates are not the character that they encode
    [msgpack.ExtType(0, b""), msgpack.ExtType(31, b"x"), msgpack.ExtType(127, b"y" * 300)],
    [msgpack.Timestamp(0, 0), msgpack.Timestamp(1 << 40, 5), msgpack.Timestamp(-1, 999_999_999)],
    [b"x" * size for size in (0, 255, 256, 65535, 65536)],
    [tuple(range(size)) for size in (0, 15, 16, 300, 70_000)],
    b"x" * 100_000,
    ["x" * 100_000, b"y" * 100_000, bytearray(100_000)],
    {"rows": [{"id": i, "at": (i, i + 0.5), "name": f"ä{i}"} for i in range(3_000)]},
]  # fmt: skip


@pytest.mark.parametrize("value", MORE, ids=range(len(MORE)))
def test_exact_round_trips(value: Any) -> None:
    packed = plain_client.encode(value)
    assert same(plain_client.decode(packed), value)
    assert same(plain_client.decode(plain_client.encode((value,))), (value,))
    assert opaque_parts(packed) == 0


def test_no_neutral_value_is_pickled() -> None:
    assert sum(opaque_parts(client.encode(value)) for value in [*SCALARS, *MORE]) == 0
    assert opaque_parts(client.encode([object])) == 1


def test_dict_order_is_kept_and_sets_are_sorted() -> None:
    assert list(client.decode(client.encode({"b": 1, "a": 2}))) == ["b", "a"]
    letters = [chr(97 + i) for i in range(26)]
    random.shuffle(letters)
    other = set[str]()
    for letter in sorted(letters):
        other.add(letter)
    assert client.encode(set(letters)) == client.encode(other)
    data = client.encode({"b", "a", 7})
    assert isinstance(data, bytes)
    assert data.index(b"\7") < data.index(b"\xa1a") < data.index(b"\xa1b")


# --- what only pickle carries -----------------------------------------------------------------


class Color(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


class Point(collections.namedtuple("Point", "x y")):
    __slots__ = ()


class Text(str):
    pass


class Whole(int):
    pass


class Items(list[Any]):
    pass


@dataclasses.dataclass
class Record:
    name: str
    tags: list[str]


class Wednesday(datetime.tzinfo):
    def utcoffset(self, when: datetime.datetime | None) -> datetime.timedelta:
        return datetime.timedelta(seconds=1, microseconds=5)


FOREIGN: list[Any] = [
    Color.RED, Level.LOW, Point(1, 2), Text("x"), Whole(5), Items([1]), Record("a", ["b"]),
    collections.OrderedDict(a=1), collections.defaultdict(int, a=1), collections.Counter("aab"),
    collections.deque([1]), range(3), slice(1, 2), Ellipsis, object, len, ValueError,
    pathlib.PurePosixPath("/a"), datetime.datetime(2025, 1, 1, tzinfo=datetime.timezone(
        datetime.timedelta(hours=1), "named")),
]  # fmt: skip


@pytest.mark.parametrize("value", FOREIGN, ids=named)
def test_other_classes_come_back_as_what_they_were(value: Any) -> None:
    for wrap in (lambda x: x, lambda x: [x], lambda x: {"a": (x, 1)}):
        packed = client.encode(wrap(value))
        back = client.decode(packed)
        assert back == wrap(value)
        assert repr(back) == repr(wrap(value))
        assert opaque_parts(packed) == 1
    data = client.encode(value)
    assert isinstance(data, bytes)
    with pytest.raises(Denied, match="allow_pickle"):
        plain_client.decode(data)
    with pytest.raises(TypeError, match=rf"{type(value).__name__}.*allow_pickle=True"):
        plain_client.encode([value])
    part = server.open(data)
    assert type(part) is msgpack.ExtType
    assert part.code == 14
    assert server.pack([part], None) == client.encode([value])


def test_offsets_with_fractions_of_a_second_are_kept() -> None:
    value = datetime.datetime(
        2025, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(microseconds=5))
    )
    assert opaque_parts(client.encode(value)) == 1
    assert same(client.decode(client.encode(value)), value)
    at = datetime.time(1, tzinfo=Wednesday())
    assert opaque_parts(client.encode(at)) == 1


def test_an_exception_comes_back() -> None:
    back = client.decode(client.encode(ValueError("x", 1)))
    assert type(back) is ValueError
    assert back.args == ("x", 1)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (memoryview(b"abc"), r"memoryview.*bytes\(view\)"),
        (lambda: 0, "function.*pickling it failed"),
        (threading.Lock(), r"lock.*pickling it failed"),
        ((i for i in ()), "generator"),
        (sys, "module"),
        (MISSING, "MISSING.* delete it; compare_and_set"),
    ],
    ids=["memoryview", "lambda", "lock", "generator", "module", "MISSING"],
)
def test_what_cannot_be_sent_is_named(value: Any, says: str) -> None:
    for wrap in (lambda x: x, lambda x: [x], lambda x: {"a": x}, lambda x: {"a": (x,)}):
        with pytest.raises(TypeError, match=says):
            client.encode(wrap(value))
    assert client.encode([1]) == b"\x91\x01"


def test_a_memoryview_is_never_taken_for_bytes() -> None:
    for view in (memoryview(b"abc"), memoryview(b"abc")[::2]):
        for value in ([view], {"a": view}, {view.tobytes(): view}, [[b"x", view]]):
            with pytest.raises(TypeError, match="memoryview"):
                client.encode(value)
    with pytest.raises(TypeError, match="memoryview"):
        client.encode({memoryview(b"abc"): 1})


def test_what_a_class_raises_passes_through() -> None:
    class Own(ValueError):
        pass

    def fail() -> None:
        raise Own

    Broken.fail = fail
    packed = client.encode([Broken()])
    with pytest.raises(Own) as caught:
        client.decode(packed)
    assert "while a stored value was unpickled" in caught.value.__notes__[0]
    bad = ValueCodec(allow_pickle=True)
    with pytest.raises(BadEncoding):
        bad.decode(pack(msgpack.ExtType(14, pack(["py", "pickle", b"\x80\x05K"]))))


class Broken:
    fail: Any = None

    def __reduce__(self) -> Any:
        return (run, ())


def run() -> None:
    Broken.fail()


def test_another_pickler_may_be_handed_in() -> None:
    codec = ValueCodec(allow_pickle=True, dumps=lambda value: pickle.dumps(("seen", value)))
    assert codec.decode(codec.encode(range(3))) == ("seen", range(3))


def test_opaque_parts_of_other_languages_are_handed_on() -> None:
    data = pack(msgpack.ExtType(14, pack(["js", "structured", b"x"])))
    part = plain_client.decode(data)
    assert type(part) is msgpack.ExtType
    assert plain_client.encode(part) == data


# --- references -------------------------------------------------------------------------------


class Proxy:
    def __init__(self, object_id: int, name: str = "Dict") -> None:
        self.object_id = object_id
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Proxy) and other.object_id == self.object_id

    def __hash__(self) -> int:
        return hash(self.object_id)


def refer(value: object) -> tuple[int, str] | None:
    return (value.object_id, value.name) if isinstance(value, Proxy) else None


linked = ValueCodec(allow_pickle=False, refer=refer, resolve=Proxy)


def test_references_travel_beside_the_bytes() -> None:
    packed = linked.encode({"a": Proxy(7), "b": [Proxy(9), (Proxy(7), Proxy(1 << 63))]})
    assert isinstance(packed, list)
    assert packed[1] == [7, 9, 1 << 63]
    check_packed(packed)
    back = linked.decode(packed)
    assert back["b"][1][1].object_id == 1 << 63
    assert back["a"].name == "Dict"
    assert linked.encode({Proxy(1): 2, (Proxy(3),): {Proxy(4)}})[1] == [1, 3, 4]  # type: ignore
    assert linked.encode(Proxy(5)) == [pack(msgpack.ExtType(13, pack([5, "Dict"]))), [5]]
    with pytest.raises(TypeError, match="Point"):
        linked.encode(Point(1, 2))


def test_the_server_counts_the_references_anew() -> None:
    packed = linked.encode([Proxy(7), {"b": (Proxy(9),)}])
    assert isinstance(packed, list)
    tree = server.open(packed[0])
    assert server.pack(tree, packed[1]) == packed
    del tree[1]
    assert server.pack(tree, packed[1]) == [pack([msgpack.ExtType(13, pack([7, "Dict"]))]), [7]]
    del tree[0]
    assert server.pack(tree, packed[1]) == b"\x90"
    assert server.pack({"n": 1}["n"], None) == 1
    assert server.pack("x" * 2000, None) == pack("x" * 2000)


def test_without_a_resolver_a_reference_is_handed_on_and_counted() -> None:
    packed = linked.encode([Proxy(7)])
    codec = ValueCodec(allow_pickle=False)
    assert codec.encode(codec.decode(packed)) == packed
    assert codec.encode({"deep": codec.decode(packed)})[1] == [7]  # type: ignore


def test_what_resolve_raises_passes_through() -> None:
    def resolve(object_id: int, name: str) -> object:
        raise ValueError("no such type")

    codec = ValueCodec(allow_pickle=False, resolve=resolve)
    with pytest.raises(ValueError, match="no such type") as caught:
        codec.decode(linked.encode([Proxy(7)]))
    assert not isinstance(caught.value, BadEncoding)


# --- limits -----------------------------------------------------------------------------------


def nest(levels: int, wrap: Any) -> Any:
    value: Any = wrap(None)
    for _ in range(levels - 1):
        value = wrap(value)
    return value


WRAPS = {
    "list": lambda x: [x],
    "dict": lambda x: {"a": x},
    "tuple": lambda x: (x,),
    "frozenset": lambda x: frozenset((x,)),
    "padded": lambda x: ["y" * 60, x],
    "padded tuple": lambda x: ("y" * 60, x),
    "mixed": lambda x: [(x,)],
    "floats": lambda x: [2.718281828 / 3, x],
}


@pytest.mark.parametrize("wrap", WRAPS)
def test_depth(wrap: str) -> None:
    step = 2 if wrap == "mixed" else 1
    value = nest(100 // step, WRAPS[wrap])
    packed = client.encode(value)
    assert repr(client.decode(packed)) == repr(value)
    assert repr(server.open(packed)) == repr(value)  # type: ignore[arg-type]
    for levels in (101, 102, 150, 300):
        with pytest.raises(TooLarge, match="100 levels"):
            client.encode(nest(levels // step + 1, WRAPS[wrap]))


def test_the_depth_of_keys_counts() -> None:
    key = nest(99, WRAPS["tuple"])
    assert client.decode(client.encode({key: 1})) == {key: 1}
    with pytest.raises(TooLarge, match="100 levels"):
        client.encode({(key,): 1})
    with pytest.raises(TooLarge, match="100 levels"):
        client.encode([{"x" * 3000: {key: 1}}])


@pytest.mark.parametrize("wrap", sorted({*WRAPS} - {"frozenset"}))
def test_what_contains_itself_is_refused(wrap: str) -> None:
    value: list[Any] = []
    value.append(WRAPS[wrap](value))
    with pytest.raises(TooLarge, match="contains itself"):
        client.encode(value)
    with pytest.raises(TooLarge, match="contains itself"):
        client.encode({"x": value})


@pytest.mark.parametrize("pad", [b"", b"\xa1x" * 3, b"\xd9\xff" + b"y" * 255], ids=len)
@pytest.mark.parametrize("kind", ["list", "map", "tuple", "frozenset", "mixed", "long list"])
def test_decoding_stops_at_128_levels(kind: str, pad: bytes) -> None:
    items = {b"": 0, b"\xa1x" * 3: 3}.get(pad, 1)

    def around(data: bytes, level: int) -> bytes:
        match kind:
            case "list":
                return bytes((0x91 + items,)) + pad + data
            case "long list":
                return b"\xdc\x00" + bytes((1 + items,)) + pad + data
            case "map":
                return b"\x81\xa1k" + data
            case "tuple":
                return pack(msgpack.ExtType(1, bytes((0x91 + items,)) + pad + data))
            case "frozenset":
                return pack(msgpack.ExtType(3, b"\x91" + data))
            case _:
                if level % 3:
                    return b"\x91" + data
                return pack(msgpack.ExtType(1, bytes((0x91 + items,)) + pad + data))

    data = b"\xc0"
    for level in range(1, 400):
        data = around(data, level)
        if level <= 100:
            client.decode(data)
            server.open(data)
        if level > 128:
            for codec in (client, server):
                with pytest.raises(BadEncoding):
                    codec.load(data)
    assert 100 < depth_that_opens(around) <= 128


def depth_that_opens(around: Any) -> int:
    data, level = b"\xc0", 0
    while True:
        data = around(data, level + 1)
        try:
            client.load(data)
        except BadEncoding:
            return level
        level += 1


@pytest.mark.parametrize(
    "value",
    [
        1 << 65536, -(1 << 65536), [1 << 70000], decimal.Decimal("1" * 4097),
        fractions.Fraction(1, 3 << 65536),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_numbers_beyond_the_limits(value: Any) -> None:
    with pytest.raises(TooLarge):
        client.encode(value)


def test_much_data_deep_in_tuples_is_refused_on_both_sides() -> None:
    data: Any = "x" * 200_000
    assert client.decode(client.encode(nested := nest_around(data, 16))) == nested
    with pytest.raises(TooLarge, match="flatten"):
        client.encode(nest_around(data, 20))
    raw = pack(data)
    for _ in range(20):
        raw = pack(msgpack.ExtType(1, b"\x91" + raw))
    with pytest.raises(BadEncoding):
        client.decode(raw)


def nest_around(value: Any, levels: int) -> Any:
    for _ in range(levels):
        value = (value,)
    return value


def test_two_keys_that_would_become_one() -> None:
    class Twin:
        def __reduce__(self) -> Any:
            return (object, ())

    with pytest.raises(TypeError, match="same encoding"):
        client.encode({Twin(): 1, Twin(): 2})


def test_own_codes_cannot_be_forged_by_hand() -> None:
    with pytest.raises(TypeError, match="aiomanager's own"):
        client.encode((msgpack.ExtType(1, b"\x90"), [()]))
    with pytest.raises(TypeError, match="not an object reference"):
        client.encode(msgpack.ExtType(13, b"\x90"))


# --- hostile bytes ----------------------------------------------------------------------------


@settings(max_examples=800, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_a_clean_error(data: bytes) -> None:
    for codec in (plain_client, server):
        try:
            value = codec.load(data)
        except (BadEncoding, Denied):
            continue
        codec.encode(value)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    data = bytearray(pack(client.encode(draw(anything)))[1:])
    packed = client.encode([draw(anything), draw(anything)])
    data = bytearray(packed) if isinstance(packed, bytes) else data
    for _ in range(draw(st.integers(1, 3))):
        if data:
            at = draw(st.integers(0, len(data) - 1))
            data[at] = draw(st.integers(0, 255))
    return bytes(data)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(damaged())
def test_damaged_values_give_a_value_or_a_clean_error(data: bytes) -> None:
    for codec in (plain_client, server):
        try:
            codec.load(data)
        except (BadEncoding, Denied):
            pass


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(anything)
def test_every_truncation_is_noticed(value: Any) -> None:
    packed = client.encode([value])
    assert isinstance(packed, bytes)
    step = 1 + len(packed) // 300
    for end in range(0, len(packed), step):
        for codec in (plain_client, server):
            with pytest.raises(BadEncoding):
                codec.load(packed[:end])
    with pytest.raises(BadEncoding):
        plain_client.load(packed + b"\xc0")


BOMBS = {
    "array 32 of 4G": b"\xdd\xff\xff\xff\xff",
    "map 32 of 4G": b"\xdf\xff\xff\xff\xff",
    "bin of 4G": b"\xc6\xff\xff\xff\xff",
    "ext of 4G": b"\xc9\xff\xff\xff\xff\x01",
    "array 16, nested": b"\xdc\xff\xff" * 20_000,
    "array 32, nested": b"\xdd\x00\x00\xff\xff" * 20_000,
    "array 32, nested, short": b"\xdd\x00\x00\x01\xf0" * 100,
    "array 32, nested, medium": b"\xdd\x00\x00\x07\xf0" * 400,
    "array 32, nested, in part": b"\xc8\x13\x88\x01" + b"\xdd\x00\x00\x12\xf0" * 1000,
    "map 16, nested": b"\xde\x7f\xff" * 20_000,
    "map 32, nested": b"\xdf\x00\x00\x7f\xff" * 20_000,
    "fixarray, nested": b"\x9f" * 60_000,
    "fixmap, nested": b"\x8f" * 60_000,
    "one in one": b"\x91" * 60_000 + b"\xc0",
    "map keys": b"\x81" * 60_000 + b"\xc0",
    "many long arrays": b"\x92" * 900 + (b"\xdc\xf0\x00" + b"\xc0" * 40) * 1400,
}


def nested_parts(code: int, size: int) -> bytes:
    data = b"\xc0"
    while len(data) < size:
        data = pack(msgpack.ExtType(code, b"\x91" + data))
    return data


BOMBS["tuples"] = nested_parts(1, 64_000)
BOMBS["frozensets"] = nested_parts(3, 64_000)


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_cost_neither_time_nor_memory(name: str) -> None:
    data = BOMBS[name]
    for codec in (client, server):
        began = time.perf_counter()
        with pytest.raises(BadEncoding):
            codec.load(data)
        assert time.perf_counter() - began < 0.5
        gc.collect()
        tracemalloc.start()
        try:
            with pytest.raises(BadEncoding):
                codec.load(data)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak <= 8 * len(data) + (1 << 20)


def test_much_in_deep_parts_keeps_its_memory_bound() -> None:
    data = pack("x" * 1_000_000)
    for _ in range(60):
        data = pack(msgpack.ExtType(1, b"\x91" + data))
    tracemalloc.start()
    try:
        with pytest.raises(BadEncoding):
            client.load(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= (values.FREE_NESTING + 2) * len(data)


def test_a_deep_stack_gives_no_recursion_error() -> None:
    data = b"\x90"
    value: Any = ("y" * 50,)
    for _ in range(98):
        value = ("y" * 50, value)
    data = client.encode(value)

    def deeper(levels: int) -> list[Any]:
        if levels:
            return deeper(levels - 1)
        results: list[Any] = []
        for call, argument in ((client.decode, data), (client.encode, value)):
            try:
                results.append(call(argument))
            except (BadEncoding, TooLarge) as error:
                results.append(error)
        return results

    seen = 0
    for levels in range(0, sys.getrecursionlimit(), 23):
        try:
            results = deeper(levels)
        except RecursionError:
            break  # the stack was full before the codec began
        seen += any(isinstance(result, Exception) for result in results)
    assert seen


def test_keys_that_share_a_hash_do_not_stall_the_server() -> None:
    prime = (1 << 61) - 1
    flood = [k * prime for k in range(1, 2_000)]
    assert len(set(map(hash, flood))) == 1
    entries = b"".join(pack(lower(k)) + b"\xc0" for k in flood)
    data = b"\xde" + len(flood).to_bytes(2, "big") + entries
    with pytest.raises(BadEncoding, match="collide"):
        server.open(data)
    body = b"\xdc" + len(flood).to_bytes(2, "big") + b"".join(pack(lower(k)) for k in flood)
    for code in (2, 3):
        with pytest.raises(BadEncoding, match="collide"):
            server.open(pack(msgpack.ExtType(code, body)))
    assert len(server.open(client.encode(dict.fromkeys(range(2000), 1)))) == 2_000  # type: ignore


def lower(number: int) -> Any:
    return number if number < 1 << 64 else msgpack.ExtType(4, values.big_int(number))


@pytest.mark.parametrize(
    "wire",
    [
        b"", [], [b"\xc0"], [b"\xc0", 1], [1, [1]], [b"\xc0", [-1]], [b"\xc0", [True]],
        [b"\xc0", ["1"]], [b"\xc0", [1.0]], [b"", [1]], {}, (b"\xc0", [1]), object(),
        msgpack.ExtType(1, b""), bytearray(b"\xc0"),
    ],
    ids=named,
)  # fmt: skip
def test_wires_of_the_wrong_shape(wire: Any) -> None:
    with pytest.raises(BadEncoding):
        check_packed(wire)


def test_wires_of_the_right_shape() -> None:
    for wire in (
        None,
        True,
        1,
        1.5,
        "",
        "x" * 5000,
        b"\xc1",
        [b"\xc1", []],
        [b"\xc1", [0, 1 << 63]],
    ):
        check_packed(wire)
    for wire in ([b"\xc0"], (1,), object(), [[], b""]):
        with pytest.raises(BadEncoding):
            client.decode(wire)  # type: ignore[arg-type]


def test_duplicate_keys() -> None:
    data = bytes.fromhex("8201c0 01c3")
    for codec in (server, plain_client):
        with pytest.raises(BadEncoding, match="twice"):
            codec.load(data)
    assert client.load(data) == {1: True}  # the client's quick way: the last one counts
    for same_key in ("8201c0 c3c0", "8200c0 cb8000000000000000 c0"):
        with pytest.raises(BadEncoding, match="twice"):
            server.open(bytes.fromhex(same_key))


# --- what the server compares -----------------------------------------------------------------

NAN = math.nan


@pytest.mark.parametrize(
    ("left", "right", "answer"),
    [
        (1, 1.0, True),
        (1, True, True),
        ([1, 2.0, True], [True, 2, 1.0], True),
        ({"a": 1, "b": 2}, {"b": 2.0, "a": True}, True),
        ({1, 2}, frozenset({2.0, True}), True),
        ((1, 2), [1, 2], False),
        (b"x", bytearray(b"x"), True),
        (b"x", "x", False),
        (decimal.Decimal("1.50"), 1.5, True),
        (decimal.Decimal("sNaN"), 1, False),
        ([decimal.Decimal("sNaN")], [1], False),
        (fractions.Fraction(1, 10), decimal.Decimal("0.1"), True),
        (1 << 70, float(1 << 70), True),
        (NAN, NAN, False),
        ([NAN], [NAN], True),  # one encoding: as one object inside two lists
        (None, 0, False),
        (Color.RED, Color.RED, True),
        ([Color.RED, 1], [Color.RED, 1.0], True),
        (Color.RED, 1, None),
        (Color.RED, None, None),
        ([Level.LOW], [1], None),
        ([Level.LOW, 1], [1, 2], False),
        ([Level.LOW], [1, 2], False),
        ({"a": Level.LOW}, {"a": 1}, None),
        ({"a": Level.LOW}, {"b": 1}, False),
        ({"a": Level.LOW}, {"a": 1, "b": 2}, False),
        ({"a": Level.LOW, "b": 1}, {"a": 1, "b": 2}, False),
        ({Level.LOW: 1}, {1: 1}, None),
        ({Level.LOW}, {1}, None),
        ({Level.LOW}, {1, 2}, False),
        ({Level.LOW}, [1], False),
        ((Level.LOW,), [Level.LOW], False),
        (array.array("i", [1]), array.array("i", [1]), True),
        (array.array("i", [1]), array.array("d", [1]), None),
        (msgpack.ExtType(99, b"a"), msgpack.ExtType(99, b"b"), None),
        (datetime.datetime(2025, 1, 1), datetime.date(2025, 1, 1), False),
        (
            datetime.datetime(2025, 1, 1, 12, tzinfo=datetime.UTC),
            datetime.datetime(2025, 1, 1, 13, tzinfo=BERLIN),
            True,
        ),
    ],
    ids=named,
)
def test_equal(left: Any, right: Any, answer: bool | None) -> None:
    for a, b in ((left, right), (right, left)):
        if answer is None:
            with pytest.raises(NeedsNeutralValue):
                server.equal(client.encode(a), client.encode(b))
        else:
            assert server.equal(client.encode(a), client.encode(b)) is answer


def test_references_are_equal_by_their_object() -> None:
    one, other = linked.encode([Proxy(1)]), linked.encode([Proxy(2)])
    assert server.equal(one, linked.encode([Proxy(1, "AnotherFace")]))
    assert not server.equal(one, other)
    assert not server.equal(one, client.encode([1]))
    with pytest.raises(NeedsNeutralValue):
        server.equal(one, client.encode([Color.RED]))


# --- typed arrays -----------------------------------------------------------------------------


def test_numpy() -> None:
    np = pytest.importorskip("numpy")
    for dtype in (
        "?",
        "i1",
        "i2",
        "i4",
        "i8",
        "u1",
        "u2",
        "u4",
        "u8",
        "f2",
        "f4",
        "f8",
        "c8",
        "c16",
    ):
        for shape in ((), (0,), (3,), (2, 3), (2, 0, 4), (1, 2, 3)):
            size = math.prod(shape)
            one = np.arange(size).astype(dtype).reshape(shape)
            for value in (one, np.asfortranarray(one), one.T, one[..., ::2] if shape else one):
                packed = plain_client.encode(value)
                assert opaque_parts(packed) == 0
                back = plain_client.decode(packed)
                assert type(back) is np.ndarray
                assert back.dtype == value.dtype
                assert back.shape == value.shape
                assert back.tobytes() == value.tobytes()
                assert back.flags.writeable
                contiguous = value.flags.f_contiguous and not value.flags.c_contiguous
                assert back.flags.f_contiguous or not contiguous
    other = [
        np.array(["a", "b"]), np.array([1, "x", None], dtype=object), np.arange(3, dtype=">i4"),
        np.array(["2025-01-01"], dtype="M8[D]"), np.zeros(2, dtype=[("a", "i4")]), np.float64(1.5),
    ]  # fmt: skip
    for value in other:
        assert opaque_parts(client.encode(value)) == 1
        back = client.decode(client.encode(value))
        assert type(back) is type(value)
        assert back.dtype == value.dtype
        assert back.tolist() == value.tolist()
        with pytest.raises(TypeError, match="numpy"):
            plain_client.encode(value)
    bad = msgpack.ExtType(12, pack(["b1", [1], "C", "numpy"]) + b"\2")
    with pytest.raises(BadEncoding):
        client.decode(pack(bad))


def test_an_array_without_numpy_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    data = pack(msgpack.ExtType(12, pack(["f8", [1, 1], "C", "numpy"]) + bytes(8)))
    part = client.decode(data)
    assert type(part) is msgpack.ExtType
    assert client.encode(part) == data


def test_arrays_of_other_makers() -> None:
    data = pack(["i4", [2], "C", ""]) + bytes(8)
    assert same(client.decode(pack(msgpack.ExtType(12, data))), array.array("i", [0, 0]))
    # A C long has 4 bytes elsewhere: the numbers count, not the letter.
    data = pack(["i4", [2], "C", "array:l"]) + bytes(8)
    back = client.decode(pack(msgpack.ExtType(12, data)))
    assert back.itemsize == 4
    assert back.tolist() == [0, 0]
    text = pack(["u4", [2], "C", "array:w"])
    back = client.decode(pack(msgpack.ExtType(12, text + "aé".encode("utf-32-le"))))
    assert same(back, array.array(TEXT, "aé"))
    with pytest.raises(BadEncoding):
        client.decode(pack(msgpack.ExtType(12, text + b"\xff" * 8)))
    # A character of another platform has 2 bytes.
    data = pack(["u2", [1], "C", f"array:{TEXT}"]) + b"a\0"
    assert same(client.decode(pack(msgpack.ExtType(12, data))), array.array("H", [97]))


BAD_ARRAYS = [
    ["O8", [1], "C", ""], ["i8", [-1], "C", ""], ["i8", [1 << 61], "C", ""], ["i8", [2], "C", ""],
    ["i8", [True], "C", ""], ["i8", 1, "C", ""], ["i8", [1], "X", ""], ["i8", [1], "C", 1],
    ["i8", [1], "C"], ["i8", [1.0], "C", ""], [8, [1], "C", ""], ["i8", [1 << 32] * 2, "C", ""],
    ["i8", [1] * 33, "C", ""], ["i8", [1], "C", "x" * 2000], ["i8", [0], "C", ""], "i8", None,
    ["i8", [(1 << 64) - 1], "C", ""], ["i8", [1], ["C"], ""], [["i8"], [1], "C", ""],
]  # fmt: skip


@pytest.mark.parametrize("head", BAD_ARRAYS, ids=lambda head: repr(head)[:40])
def test_bad_arrays(head: Any) -> None:
    for hint in ("", "numpy", "array:q"):
        if isinstance(head, list) and len(head) == 4 and head[3] == "":
            head[3] = hint
        with pytest.raises(BadEncoding):
            client.decode(pack(msgpack.ExtType(12, pack(head) + bytes(8))))


# --- vectors ----------------------------------------------------------------------------------


def untag(tagged: Any) -> Any:
    """Return the value that a vector describes; values.md tells what the tags mean."""
    if tagged is None or isinstance(tagged, bool | str):
        return tagged
    ((tag, body),) = tagged.items()
    match tag:
        case "int":
            return int(body)
        case "float":
            return float(body)
        case "bytes":
            return bytes.fromhex(body)
        case "list":
            return [untag(item) for item in body]
        case "map":
            return {untag(key): untag(item) for key, item in body}
        case "tuple":
            return tuple(untag(item) for item in body)
        case "set":
            return {untag(item) for item in body}
        case "frozenset":
            return frozenset(untag(item) for item in body)
        case "complex":
            return complex(float(body[0]), float(body[1]))
        case "decimal":
            return decimal.Decimal(body)
        case "fraction":
            return fractions.Fraction(int(body[0]), int(body[1]))
        case "uuid":
            return uuid.UUID(body)
        case "datetime":
            value = datetime.datetime.fromisoformat(body["wall"])
            return value.replace(tzinfo=zone_of(body), fold=body["fold"])
        case "date":
            return datetime.date.fromisoformat(body)
        case "time":
            value = datetime.time.fromisoformat(body["wall"])
            return value.replace(tzinfo=zone_of(body), fold=body["fold"])
        case "timedelta":
            return datetime.timedelta(microseconds=1) * int(body)
        case "array":
            if body["hint"] == "numpy":
                np = pytest.importorskip("numpy")
                flat = np.frombuffer(bytes.fromhex(body["data"]), np.dtype("<" + body["dtype"]))
                return flat.reshape(body["shape"], order=body["order"])
            result = array.array(body["hint"].removeprefix("array:"))
            result.frombytes(bytes.fromhex(body["data"]))
            return result
        case "reference":
            return Proxy(int(body[0]), body[1])
        case "opaque":
            return msgpack.ExtType(14, pack([body[0], body[1], bytes.fromhex(body[2])]))
        case "str":
            return bytes.fromhex(body).decode("utf-8", "surrogatepass")
        case "bytearray":
            return bytearray.fromhex(body)
        case "ext":
            return msgpack.ExtType(body[0], bytes.fromhex(body[1]))
        case "timestamp":
            return msgpack.Timestamp(int(body[0]), body[1])
        case _:
            raise AssertionError(tag)


def zone_of(body: Any) -> Any:
    if body["zone"]:
        return zoneinfo.ZoneInfo(body["zone"])
    if body["offset"] is None:
        return None
    return datetime.timezone(datetime.timedelta(seconds=body["offset"]))


def vectors(name: str) -> Any:
    return [
        pytest.param(vector, id=vector["id"])
        for vector in json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize("vector", vectors("values"))
def test_vectors(vector: Any) -> None:
    data = bytes.fromhex(vector["hex"])
    value = untag(vector["value"])
    assert same(linked.load(data), value)
    server.open(data)
    if vector["form"] == "decode":
        return  # others may write so; we write it in another way
    packed = linked.encode(value)
    match vector["form"]:
        case "scalar":
            assert type(packed) is not bytes
            assert msgpack.packb(packed) == data
        case "bytes":
            assert packed == data
        case "references":
            assert packed == [data, vector["references"]]
    if type(packed) is bytes:
        assert server.pack(server.open(data), None) == packed


@pytest.mark.parametrize(
    "vector", [vector for vector in vectors("reject") if vector.values[0]["what"] == "value"]
)
def test_rejected_vectors(vector: Any) -> None:
    data = bytes.fromhex(vector["hex"])
    with pytest.raises(BadEncoding):
        ValueCodec(allow_pickle=True, resolve=Proxy, strict=True).load(data)
    if vector["by"] == "server":
        with pytest.raises(BadEncoding):
            server.open(data)
    else:
        server.open(data)  # it stays closed there


# --- the house --------------------------------------------------------------------------------


def test_a_codec_may_be_entered_while_it_works() -> None:
    """A finalizer that runs inside of the packer may encode, too."""
    codec = ValueCodec(allow_pickle=True)

    class Nested:
        def __reduce__(self) -> Any:
            assert codec.encode({"inner": [1, 2]}) == client.encode({"inner": [1, 2]})
            return (str, ("x",))

    assert codec.decode(codec.encode({"a": 1, "b": (Nested(), 2)})) == {"a": 1, "b": ("x", 2)}


def test_threads_share_a_codec() -> None:
    failures: list[Any] = []

    def work(seed: int) -> None:
        value = {"seed": seed, "rows": [(seed, i, str(i)) for i in range(200)]}
        for _ in range(30):
            back = client.decode(client.encode(value))
            failures.extend([seed] * (back != value))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_the_import_is_light() -> None:
    code = (
        "import sys, aiomanager.protocol.keys as keys\n"
        "from aiomanager.protocol.values import ValueCodec\n"
        "values = ValueCodec(allow_pickle=False)\n"
        "values.decode(values.encode([1, ('a', 2.5)]))\n"
        "keys.KeyCodec(values).encode(('a', 1))\n"
        "heavy = {'asyncio', 'dataclasses', 'decimal', 'inspect', 'numpy', 'pickle', 'uuid',\n"
        "         'zoneinfo', 'fractions', 'typing_extensions'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", done.stdout
