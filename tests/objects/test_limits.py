"""What one small call could make endless is refused, and what is refused is called by its name."""

import math
from collections import Counter, OrderedDict, defaultdict
from decimal import Decimal
from enum import IntEnum
from typing import Any

import pytest

from aiomanager.errors import TooLarge
from aiomanager.objects.array import Array
from aiomanager.objects.dict import Dict
from aiomanager.objects.list import List
from aiomanager.objects.value import Value

from .rigs import PureRig, Rig, SessionRig


@pytest.fixture(params=[PureRig, SessionRig])
def rig(request: pytest.FixtureRequest) -> Rig:
    return request.param()  # type: ignore[no-any-return]


# Repetition


@pytest.mark.parametrize(
    ("items", "count"),
    [([0], 2 * 10**8), ([0], 2**63 - 1), ([(1, 2)], 2 * 10**6), ([[1], 2], 2 * 10**6)],
    ids=str,
)
@pytest.mark.timeout(20)
def test_a_list_is_not_repeated_without_end(rig: Rig, items: list[Any], count: int) -> None:
    flat, d = rig.make(List, items), rig.make(Dict, rows=items, x=1)
    for multiply in (
        flat.multiply,
        lambda n: flat.__imul__(n),
        lambda n: d.mutate_nested(("rows",), "multiply", [n]),
        lambda n: d.live()["rows"].__imul__(n),
    ):
        with pytest.raises(TooLarge, match="cannot be repeated"):
            multiply(count)
    assert flat.copy() == d.get("rows") == items


def test_nor_by_bytes() -> None:
    rig = SessionRig()
    text = "x" * 1000
    flat = rig.make(List, [text * 2, text])
    d = rig.make(Dict, rows=[[text], text], deep=[[[text] * 1000]])
    for multiply in (
        flat.multiply,
        lambda n: d.mutate_nested(("rows",), "multiply", [n]),
        lambda n: d.mutate_nested(("deep",), "multiply", [n]),
    ):
        with pytest.raises(TooLarge, match="bytes"):
            multiply(200_000)
    flat.multiply(3)
    assert flat.copy() == [text * 2, text] * 3
    d.mutate_nested(("rows",), "multiply", [2])
    d.update_nested(("rows", 0, 0), "changed")
    assert d.get("rows") == [["changed"], text, [text], text]


def test_a_large_list_is_repeated_once_and_an_empty_one_at_once(rig: Rig) -> None:
    flat, d = rig.make(List, [0]), rig.make(Dict, rows=[], full=[0])
    flat.multiply(6 * 10**6)
    flat.multiply(1)
    assert flat.length() == 6 * 10**6
    with pytest.raises(TooLarge):
        flat.multiply(2)
    flat.multiply(0)
    flat.multiply(10**12)
    d.mutate_nested(("rows",), "multiply", [10**12])
    d.mutate_nested(("full",), "multiply", [3])
    assert (flat.copy(), d.get("rows"), d.get("full")) == ([], [], [0, 0, 0])
    d.mutate_nested(("full",), "multiply", [-(2**70)])
    assert d.get("full") == []


def test_other_operations_take_any_number(rig: Rig) -> None:
    d = rig.make(Dict, rows=[1, 2])
    d.mutate_nested(("rows",), "insert", [2**70, 3])
    with pytest.raises(IndexError):
        d.mutate_nested(("rows",), "pop", [2**70])
    d.mutate_nested(("rows",), "delete_slice", [2**70, None, None])
    d.mutate_nested(("rows",), "set_slice", [-(2**70), 1, None, [0]])
    assert d.get("rows") == [0, 2, 3]
    for verb, arguments in (
        ("insert", ["x", 1]),
        ("pop", [None]),
        ("multiply", ["x" * 5000]),
        ("delete_slice", [[1], None, None]),
    ):
        with pytest.raises(TypeError, match="expected an int, not a value of type"):
            d.mutate_nested(("rows",), verb, arguments)
    with pytest.raises(TooLarge, match="made from a size"):
        rig.make(Array, "i", 10**12)


# Positions beyond 64 bits


def test_positions_that_no_list_has(rig: Rig) -> None:
    plain = [1, 2, 3]
    for proxy in (rig.make(List, plain), rig.make(Array, "i", plain)):
        for far in (2**70, -(2**70), 2**63, 2**64):
            with pytest.raises(IndexError, match="out of range"):
                proxy[far]
            with pytest.raises(IndexError, match="out of range"):
                proxy[far] = 1
            assert list(proxy[far:]) == plain[far:]
            assert list(proxy[:far]) == plain[:far]
            assert list(proxy[::far]) == plain[::far]
        proxy[2**70 :] = proxy[2**70 :]
    items = rig.make(List, plain)
    with pytest.raises(IndexError):
        del items[2**70]
    del items[2**70 :]
    assert items.copy() == plain
    del items[-(2**70) : 2**70]
    assert items.copy() == []


# What only clients can open


class One(IntEnum):
    ONE = 1


@pytest.fixture
def closed() -> Any:
    d = SessionRig().make(
        Dict,
        counter=Counter("aab"),
        lists=defaultdict(list, {"a": [1]}),
        one=One.ONE,
        row={"counter": Counter("aab"), "items": [One.ONE], "rows": OrderedDict(a=1)},
    )
    return d


def test_what_only_clients_can_open_is_called_so(closed: Any) -> None:
    d = closed
    before = d.copy()
    said = r"a Python object that only clients can open .*update_item or change_nested"
    for call in (
        lambda: d.increment("one"),
        lambda: d.increment_many({"one": 1}),
        lambda: d.increment_nested(("counter", "a")),
        lambda: d.increment_nested(("row", "items", 0)),
        lambda: d.get_nested(("row", "counter", "a")),
        lambda: d.update_nested(("row", "rows", "a"), 3),
        lambda: d.append_nested(("lists",), 2),
        lambda: d.append_nested(("lists", "a"), 2),
        lambda: d.append_nested(("row", "rows"), 2),
        lambda: d.length_nested(("row", "rows")),
        lambda: d.length_nested(("counter",)),
        lambda: d.mutate_nested(("row", "counter"), "update", [{"b": 1}]),
        lambda: d.mutate_nested(("row",), "update", [OrderedDict(b=1)]),
        lambda: d.extend_many({"lists": [1]}),
        lambda: d.extend_many({"new": defaultdict(list)}),
        lambda: SessionRig().make(Value, "i", One.ONE).increment(),
    ):
        with pytest.raises(TypeError, match=said) as caught:
            call()
        assert "Ext" not in str(caught.value)
    assert d.copy() == before
    assert d.update_item("one", lambda old: old + 1) == 2
    d.change_nested(("row", "counter"), lambda counter: counter + Counter("b"))
    assert d.get("row")["counter"] == Counter("aabb")


# Numbers that equal nothing


@pytest.mark.parametrize(
    ("one", "same"),
    [
        (Decimal("NaN"), False), (Decimal("-NaN12"), False), (Decimal("sNaN"), False),
        (complex(0, math.nan), False), (Decimal("1.0"), True), (Decimal("1" * 300), True),
        (1j, True), ("x" * 2000, True), (b"\xd4\x06", True), ([1], True),
    ],
)  # fmt: skip
def test_a_nan_does_not_equal_itself(one: Any, same: bool) -> None:
    rig = SessionRig()
    d = rig.make(Dict, k=one, row={"k": one})
    assert d.compare_and_set_nested(("row", "k"), one, 0) is same
    assert d.compare_and_set("k", one, 0) is same
    assert rig.make(List, [one]).contains(one) is same
