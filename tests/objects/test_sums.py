"""Numbers are added as they are: none is turned into a float, rounded or cut short in silence."""

from collections.abc import Callable
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from typing import Any

import pytest

from aiomanager.errors import BadParameters
from aiomanager.objects.array import Array
from aiomanager.objects.dict import Dict
from aiomanager.objects.list import List
from aiomanager.objects.namespace import Namespace, operations
from aiomanager.objects.nested import MAX_BITS
from aiomanager.objects.value import Value
from aiomanager.protocol.values import MAX_BIG_INT

from .rigs import PureRig, Rig, SessionRig
from .twins import exact

Add = Callable[[Any, Any], Any]


def adders(rig: Rig) -> list[Add]:
    """Return every way to add a number to one that is stored, each with what is stored then."""
    d, items = rig.make(Dict, row={}), rig.make(List, [0, [0]])
    value, names = rig.make(Value, "i", 0), operations(rig.make(Namespace))

    def by(put: Callable[[Any], Any], add: Callable[[Any], Any], get: Callable[[], Any]) -> Add:
        def both(start: Any, amount: Any) -> Any:
            put(start)
            total = add(amount)
            assert exact(get()) == exact(total)
            return total

        return both

    return [
        by(lambda x: d.set("k", x), lambda a: d.increment("k", a), lambda: d.get("k")),
        by(lambda x: d.set("k", x), lambda a: d.increment_many({"k": a})["k"], lambda: d.get("k")),
        by(lambda x: d.update_nested(("row", "n"), x),
           lambda a: d.increment_nested(("row", "n"), a), lambda: d.get("row")["n"]),
        by(lambda x: d.at("row", "m").set(x), d.at("row", "m").increment, d.at("row", "m").get),
        by(lambda x: items.set(0, x), lambda a: items.increment(0, a), lambda: items.get_item(0)),
        by(lambda x: items.update_nested((1, 0), x),
           lambda a: items.increment_nested((1, 0), a), lambda: items.get_item(1)[0]),
        by(value.set, value.increment, value.get),
        by(lambda x: names.set("k", x), lambda a: names.increment("k", a), lambda: names.get("k")),
    ]  # fmt: skip


@pytest.fixture(params=[PureRig, SessionRig])
def rig(request: pytest.FixtureRequest) -> Rig:
    return request.param()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("start", "amount", "total"),
    [
        (1, 2, 3),
        (1, 0.5, 1.5),
        (2**64 - 1, 1, 2**64),
        (1, 2**64, 2**64 + 1),
        (-(2**200), 2**200, 0),
        (Decimal("0.10"), Decimal("0.20"), Decimal("0.30")),
        (Decimal("1.50"), 1, Decimal("2.50")),
        (1, Decimal("1.50"), Decimal("2.50")),
        (2**70, Decimal("0.1"), Decimal(2**70) + Decimal("0.1")),
        (Decimal("1E+30"), Decimal("1E-30"), Decimal("1" + "0" * 30 + "." + "0" * 29 + "1")),
        (Fraction(1, 3), Fraction(1, 6), Fraction(1, 2)),
        (1, Fraction(1, 3), Fraction(4, 3)),
        (Fraction(1, 2), 0.25, 0.75),
        (1 + 2j, 1, 2 + 2j),
        (Decimal("Infinity"), 1, Decimal("Infinity")),
        (True, 1, 2),
    ],
    ids=str,
)
def test_a_sum_is_exact(rig: Rig, start: Any, amount: Any, total: Any) -> None:
    for add in adders(rig):
        assert exact(add(start, amount)) == exact(total)


@pytest.mark.parametrize("amount", [Decimal("0.10"), Fraction(1, 3), 2**100, 1, 0.5], ids=str)
def test_a_missing_number_counts_as_zero(rig: Rig, amount: Any) -> None:
    d, names = rig.make(Dict, row={}), operations(rig.make(Namespace))
    assert exact(d.increment("a", amount)) == exact(amount)
    assert exact(d.increment_many({"b": amount})) == exact({"b": amount})
    assert exact(d.increment_nested(("row", "c"), amount)) == exact(amount)
    assert exact(names.increment("d", amount)) == exact(amount)
    want = {"row": {"c": amount}, "a": amount, "b": amount}
    assert exact(d.copy()) == exact(want)
    assert d.compare_and_set("a", amount, 0)  # it is a value as any other
    assert d.update_item("b", lambda old: old + amount) == amount + amount


@pytest.mark.parametrize(
    ("start", "amount", "error", "said"),
    [
        (Decimal(1), 0.5, TypeError, "cannot add a float to a Decimal"),
        (0.5, Decimal(1), TypeError, "cannot add a Decimal to a float"),
        (Fraction(1), Decimal(1), TypeError, "cannot add a Decimal to a Fraction"),
        ("1", 1, TypeError, "cannot add to a value of type str"),
        (Decimal("Infinity"), Decimal("-Infinity"), ValueError, "have no sum"),
        (Decimal("1E+9000"), Decimal(1), OverflowError, "more than 4000 digits"),
        (2**65535, 2**65535, OverflowError, "more than 65536 bits"),
        (Fraction(1, 3**20000), Fraction(1, 2**40000), OverflowError, "more than 65536 bits"),
        (10**400, 0.5, OverflowError, "too large"),
    ],
    ids=["float to Decimal", "Decimal to float", "Decimal to Fraction", "text", "no sum", "digits",
         "bits", "long fractions", "float"],
)  # fmt: skip
def test_what_has_no_sum_says_why_and_changes_nothing(
    rig: Rig, start: Any, amount: Any, error: type[Exception], said: str
) -> None:
    value = rig.make(Value, "i", start)
    with pytest.raises(error, match=said):
        value.increment(amount)
    assert exact(value.get()) == exact(start)


def test_what_is_no_number_is_refused_by_its_name() -> None:
    rig = SessionRig()
    d = rig.make(Dict, row={})
    for amount in ("1", None, [1], 1j, b"1"):
        for add in (
            lambda a: d.increment("k", a),
            lambda a: d.increment_nested(("row", "k"), a),
            lambda a: d.increment_many({"j": 1, "k": a}),
        ):
            with pytest.raises(BadParameters, match=r"^amounts?: expected a number, not "):
                add(amount)
    assert d.copy() == {"row": {}}


def test_numbers_of_other_classes_are_added_as_what_they_are() -> None:
    class Two(IntEnum):
        TWO = 2

    d = SessionRig().make(Dict)
    assert exact(d.increment("k", Two.TWO)) == exact(2)
    assert exact(d.increment("k", True)) == exact(3)
    numpy = pytest.importorskip("numpy")
    assert exact(d.increment("k", numpy.int64(2))) == exact(5)
    assert exact(d.increment("k", numpy.float32(0.5))) == exact(5.5)


def test_items_of_an_array(rig: Rig) -> None:
    whole, floats = rig.make(Array, "i", [1]), rig.make(Array, "d", [1.5])
    assert floats.increment(0, Fraction(1, 2)) == 2.0
    for add, error in (
        (lambda: floats.increment(0, Decimal(1)), TypeError),
        (lambda: whole.increment(0, Decimal(1)), TypeError),
        (lambda: whole.increment(0, 0.5), TypeError),
        (lambda: whole.increment(0, 2**64), OverflowError),
    ):
        with pytest.raises(error):
            add()
    assert (whole.get_item(0), floats.get_item(0)) == (1, 2.0)


def test_the_limits_of_both_floors_agree() -> None:
    assert MAX_BITS == 8 * MAX_BIG_INT
