"""Argument plans: what travels, and what is refused before it does."""

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from aiomanager.errors import BadParameters, TooLarge
from aiomanager.operation import K, Number, Opaque, Operation, Step, V, reads
from aiomanager.protocol.keys import KeyCodec
from aiomanager.protocol.values import ValueCodec
from aiomanager.sessions.plans import Leaves, Plan, Plans
from aiomanager.stored import ABSENT, MISSING, Missing

_values = ValueCodec(allow_pickle=False)
_keys = KeyCodec(_values)
plans = Plans(Leaves(_keys.encode, _values.encode, _keys.decode, _values.decode, lambda wire: wire))


def named(value: object) -> str:
    """Return the name of a case: the same one in every process that collects it."""
    text = hex(value) if type(value) is int and value >> 64 else str(value)
    return re.sub(r" at 0x\w+|(?<=object) at .*", "", text)[:99]


def plan_of(annotation: Any) -> Plan:
    def body(self: Any, one: annotation, two: int = 5) -> annotation: ...  # type: ignore[valid-type]

    return plans.made(reads(body).signature)


class Whole(int):
    """A number of a class of its own."""


class Index:
    """What may stand for a position."""

    def __index__(self) -> int:
        return 3


class Half:
    """A number that is a float exactly, as those of numpy are."""

    def __float__(self) -> float:
        return 0.5

    def __eq__(self, other: object) -> bool:
        return other == 0.5

    __hash__ = None  # type: ignore[assignment]


class Third:
    """A number that is near a float."""

    def __float__(self) -> float:
        return 1 / 3


class Mapped:
    """What dict() takes for a mapping."""

    def keys(self) -> list[str]:
        return ["a"]

    def __getitem__(self, key: str) -> int:
        return 1


@pytest.mark.parametrize(
    ("annotation", "given", "wire"),
    [
        (int, 5, 5),
        (int, Whole(5), 5),
        (int, True, 1),
        (int, Index(), 3),
        (bool, True, True),
        (bool, 1, True),
        (float, 5, 5),
        (float, 0.5, 0.5),
        (float, True, 1),
        (int | float, 2**63, 2**63),
        (float, Decimal("0.5"), 0.5),
        (float, Fraction(1, 3), 1 / 3),
        (Number, 5, 5),
        (Number, 0.5, 0.5),
        (Number, True, 1),
        (Number, Whole(5), 5),
        (Number, Whole(2**64), _values.encode(2**64)),
        (Number, Index(), 3),
        (Number, Half(), 0.5),
        (Number, 2**64 - 1, 2**64 - 1),
        (Number, 2**64, _values.encode(2**64)),
        (Number, Decimal("0.10"), _values.encode(Decimal("0.10"))),
        (Number, Fraction(1, 3), _values.encode(Fraction(1, 3))),
        (str, "text", "text"),
        (bytes, b"bytes", b"bytes"),
        (float | None, None, None),
        (float | None, 1.5, 1.5),
        (K, "k", b"\xa1k"),
        (K, True, [b"\x01", True]),
        (V, "v", "v"),
        (V, None, None),
        (V, (1,), _values.encode((1,))),
        (V | Missing, MISSING, []),
        (V | Missing, 1, 1),
        (Iterable[V], "ab", ["a", "b"]),
        (Iterable[V], (one for one in (1, 2)), [1, 2]),
        (list[K], {"a": 1}, [b"\xa1a"]),
        (Mapping[K, V] | Iterable[tuple[K, V]], {"a": 1}, [[b"\xa1a", 1]]),
        (Mapping[K, V] | Iterable[tuple[K, V]], [("a", 1), "bc"], [[b"\xa1a", 1], [b"\xa1b", "c"]]),
        (Mapping[K, V] | Iterable[tuple[K, V]], Mapped(), [[b"\xa1a", 1]]),
        (tuple[int, V], (1, "v"), [1, "v"]),
        (tuple[Step, ...], ("row", 7), [b"\xa3row", b"\x07"]),
        (Opaque, 5, 5),
    ],
    ids=named,
)
def test_an_argument_travels(annotation: Any, given: Any, wire: Any) -> None:
    assert plan_of(annotation).encode((given,)) == [wire]
    assert plan_of(annotation).encode_result is not None


@pytest.mark.parametrize(
    ("annotation", "given", "error"),
    [
        (int, "5", BadParameters),
        (int, 5.0, BadParameters),
        (int, None, BadParameters),
        (int, 2**64, OverflowError),
        (float, 2**64, OverflowError),
        (float, "1", BadParameters),
        (Number, "1", BadParameters),
        (Number, None, BadParameters),
        (Number, 1j, BadParameters),
        (Number, Third(), BadParameters),
        (Number, 1 << 70000, TooLarge),
        (float, 1j, BadParameters),
        (float | None, "1", BadParameters),
        (bool, 2, BadParameters),
        (bool, None, BadParameters),
        (str, b"text", BadParameters),
        (str, "\udc80", UnicodeEncodeError),
        (bytes, "bytes", BadParameters),
        (bytes, bytearray(b"b"), BadParameters),
        (K, [], TypeError),
        (K, float("nan"), TypeError),
        (V, object(), TypeError),
        (list[K], "keys", TypeError),
        (list[K], b"keys", TypeError),
        (list[K], 5, TypeError),
        (Iterable[V], 5, TypeError),
        (tuple[Step, ...], "row", TypeError),
        (Mapping[K, V] | Iterable[tuple[K, V]], 5, TypeError),
        (Mapping[K, V] | Iterable[tuple[K, V]], [5], TypeError),
        (Mapping[K, V] | Iterable[tuple[K, V]], ["abc"], ValueError),
    ],
    ids=named,
)
def test_what_does_not_fit_is_refused_before_it_is_sent(
    annotation: Any, given: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        plan_of(annotation).encode((given,))


@pytest.mark.parametrize(
    ("annotation", "wire", "value"),
    [
        (int, 5, 5),
        (float, 5, 5),
        (Number, 5, 5),
        (Number, 0.5, 0.5),
        (Number, _values.encode(2**64), 2**64),
        (Number, _values.encode(Decimal("1.50")), Decimal("1.50")),
        (Number, _values.encode(Fraction(1, 3)), Fraction(1, 3)),
        (bool, False, False),
        (float | None, None, None),
        (K, b"\xa1k", "k"),
        (K, [b"\x01", True], True),
        (V, "v", "v"),
        (V | Missing, [], MISSING),
        (list[V], [1, None], [1, None]),
        (dict[K, V], [[b"\xa1a", 1]], {"a": 1}),
        (tuple[int, V], [1, "v"], (1, "v")),
    ],
    ids=named,
)
def test_what_comes_is_decoded(annotation: Any, wire: Any, value: Any) -> None:
    plan = plan_of(annotation)
    assert plan.decode([wire]) == (value,)
    assert plan.decode_result(wire) == value
    assert plan.decode([wire, 6]) == (value, 6)


@pytest.mark.parametrize(
    ("annotation", "wire"),
    [
        (int, "5"), (int, 5.0), (int, None), (int, [5]), (bool, 2), (str, b"s"), (bytes, "b"),
        (float, "1"), (Number, "1"), (Number, True), (Number, None),
        (Number, _values.encode((1,))), (Number, _values.encode(1j)), (float | None, []),
        (list[V], None), (list[V], {}), (list[int], ["a"]),
        (dict[K, V], [[b"\xa1a"]]), (dict[K, V], [5]), (dict[K, V], {}), (tuple[int, V], [1]),
        (tuple[int, V], [1, 2, 3]), (tuple[int, V], 5), (tuple[int, V], ["a", 1]),
    ],
    ids=named,
)  # fmt: skip
def test_what_comes_and_does_not_fit_is_refused(annotation: Any, wire: Any) -> None:
    with pytest.raises(BadParameters, match=r"expected .*, not \w+"):
        plan_of(annotation).decode([wire])


@pytest.mark.parametrize(
    ("annotation", "given", "expected"),
    [
        (int, "5", "int, not str"), (int, None, "int, not NoneType"), (bool, 2, "bool, not int"),
        (float | None, "1", "a number, not str"), (Number, "1", "a number, not str"),
        (str, b"s", "str, not bytes"), (list[int], ["a"], "int, not str"),
    ],
    ids=named,
)  # fmt: skip
def test_what_is_given_and_does_not_fit_is_named(
    annotation: Any, given: Any, expected: str
) -> None:
    with pytest.raises(BadParameters, match=f"^one: expected {expected}$"):
        plan_of(annotation).encode((given,))
    with pytest.raises(BadParameters, match=r"^two: expected int, not float$"):
        plan_of(K).encode(("key", 1.5))


def test_the_number_of_arguments_is_checked() -> None:
    plan = plan_of(int)
    for wire in ([], [1, 2, 3]):
        with pytest.raises(BadParameters, match=f"takes 1 to 2 arguments, not {len(wire)}"):
            plan.decode(wire)

    def none(self: Any) -> None: ...

    with pytest.raises(BadParameters, match="takes 0 arguments, not 1"):
        plans.made(reads(none).signature).decode([1])


def test_a_default_of_the_callers_stays_there() -> None:
    from aiomanager.objects.dict import Dict

    plan = plans.of(Dict.operations["get"])
    assert plan.encode(("k", object())) == [b"\xa1k", None]
    assert plan.decode([b"\xa1k", None]) == ("k", ABSENT)
    assert plan.encode_result(ABSENT) == []
    assert plan.decode_result([]) is ABSENT


def test_a_plan_is_made_once() -> None:
    def body(self: Any) -> int: ...

    operation: Operation[..., Any] = reads(body)
    assert plans.of(operation) is plans.of(operation)
    assert plans.of(operation).operation is operation
