"""Shared dicts, lists and values behave as the standard library's, which runs the same tests."""

import copy
import gc
import json
import queue
import re
import weakref
from collections.abc import Callable
from typing import Any

import pytest


class Point:
    """A value that only Python knows."""

    def __init__(self, x: int) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and other.x == self.x

    def __hash__(self) -> int:
        return hash(self.x)

    def __repr__(self) -> str:
        return f"Point({self.x})"


VALUES: list[Any] = [
    None, True, False, 0, -1, 1 << 100, 1.5, float("inf"), "", "é\ud800", b"", b"\0\xff", (),
    (1, [2]), [], [[1], {"a": ()}], {}, {1: {2: 3}}, {1, 2}, frozenset({3}), 1j, range(3), Point(4),
    bytearray(b"x"), slice(1, 2), Ellipsis, int, len,
]  # fmt: skip
KEYS: list[Any] = [1, "1", 0.25, None, True, (1, "a"), b"k", frozenset({1}), 1 << 80, Point(5), int]


# Dict


def test_dict_is_made_as_a_plain_one(manager: Any) -> None:
    assert manager.dict().copy() == {}
    assert manager.dict({1: 2}).copy() == {1: 2}
    assert manager.dict([(1, 2), ("a", 3)]).copy() == {1: 2, "a": 3}
    assert manager.dict(a=1, live=True, name="x").copy() == {"a": 1, "live": True, "name": "x"}
    assert manager.dict({"a": 0}, a=1).copy() == {"a": 1}
    assert manager.dict(manager.dict(a=1)).copy() == {"a": 1}


def test_dict_methods(manager: Any) -> None:
    d = manager.dict({65: "A"})
    d[66] = "B"
    assert d[65] == "A"
    assert len(d) == 2
    assert 66 in d
    assert 67 not in d
    assert d.get(67) is None
    assert d.get(67, "C") == "C"
    assert d.pop(65) == "A"
    assert d.pop(65, None) is None
    assert d.setdefault(65, "a") == "a"
    assert d.setdefault(65, "b") == "a"
    d.update({67: "C"}, key="value")
    d.update([(68, "D")])
    assert d.copy() == {66: "B", 65: "a", 67: "C", "key": "value", 68: "D"}
    assert d.popitem() == (68, "D")
    del d["key"]
    for answer, expected in (
        (d.keys(), [66, 65, 67]),
        (d.values(), ["B", "a", "C"]),
        (d.items(), [(66, "B"), (65, "a"), (67, "C")]),
    ):
        assert answer == expected
        assert type(answer) is list
    assert d.clear() is None
    assert d.copy() == {}
    assert type(d.copy()) is dict


def test_dict_errors(manager: Any) -> None:
    d = manager.dict(a=1)
    for call in (lambda: d["b"], lambda: d.pop("b"), lambda: d.__delitem__("b")):
        with pytest.raises(KeyError) as caught:
            call()
        assert caught.value.args == ("b",)
    with pytest.raises(TypeError):
        d[[1]] = 2
    d.clear()
    with pytest.raises(KeyError):
        d.popitem()


def test_dict_iteration(manager: Any) -> None:
    d = manager.dict({n: str(n) for n in range(5)})
    assert list(d) == [0, 1, 2, 3, 4]
    assert sorted(d, reverse=True) == [4, 3, 2, 1, 0]
    assert dict(d) == d.copy()
    assert {**d} == d.copy()
    iterator = iter(d)
    assert list(iterator) == [0, 1, 2, 3, 4]
    assert list(iterator) == []
    for key in d:
        d[key] = "changed"
    assert set(d.values()) == {"changed"}


def test_dict_that_changes_size_while_it_is_iterated_over(manager: Any) -> None:
    d = manager.dict({n: n for n in range(5)})
    iterator = iter(d)
    assert next(iterator) == 0
    d.clear()
    with pytest.raises(RuntimeError, match="changed size"):
        next(iterator)
    d.update(a=1)
    iterator = iter(d)
    d["b"] = 2
    with pytest.raises(RuntimeError, match="changed size"):
        next(iterator)
    iterator = iter(d)
    assert [next(iterator), next(iterator)] == ["a", "b"]
    d["c"] = 3
    with pytest.raises(RuntimeError, match="changed size"):
        next(iterator)


@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_keys(key: Any, manager: Any) -> None:
    d = manager.dict()
    d[key] = "value"
    assert d[key] == "value"
    assert key in d
    assert d.keys() == [key]
    assert type(d.keys()[0]) is type(key)
    assert d.pop(key) == "value"
    assert len(d) == 0


def test_keys_that_are_equal(manager: Any) -> None:
    d = manager.dict()
    d[1] = "int"
    d[1.0] = "float"
    d[True] = "bool"
    assert d.items() == [(1, "bool")]
    assert type(d.keys()[0]) is int


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values(value: Any, manager: Any) -> None:
    d = manager.dict(key=value)
    assert d["key"] == value
    assert type(d["key"]) is type(value)
    shared = manager.list([value])
    assert shared[0] == value
    assert value in shared
    assert shared.index(value) == 0
    number = manager.Value("i", value)
    assert number.value == value


def test_what_is_read_is_a_copy(manager: Any) -> None:
    d = manager.dict(row={"a": 1})
    d["row"]["b"] = 2
    assert d["row"] == {"a": 1}
    row = d["row"]
    row["b"] = 2
    d["row"] = row
    assert d["row"] == {"a": 1, "b": 2}
    outer = manager.list([[1]])
    outer[0].append(2)
    assert outer[0] == [1]
    assert type(outer[0]) is list


def test_json(manager: Any) -> None:
    assert json.dumps(manager.dict(a=[1, None]).copy()) == '{"a": [1, null]}'
    with pytest.raises(TypeError):
        json.dumps(manager.dict(a=1))


# List


def test_list_methods(manager: Any) -> None:
    a = manager.list(range(10))
    b = manager.list()
    b.extend(range(5))
    assert a[:] == list(range(10))
    assert b[2] == 2
    assert b[-1] == 4
    assert b[2:10] == [2, 3, 4]
    b *= 2
    assert b[:] == [0, 1, 2, 3, 4] * 2
    assert b + [5, 6] == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5, 6]  # noqa: RUF005
    same = b
    b += [7]
    assert b is same
    assert b[-1] == 7
    assert type(b).__name__ == "ListProxy"
    assert b.pop() == 7
    assert b.pop(0) == 0
    b.insert(0, "first")
    b.remove(1)
    b.reverse()
    assert b[:] == [4, 3, 2, 1, 0, 4, 3, 2, "first"]
    assert b.count(4) == 2
    assert b.index(4) == 0
    assert b.index(4, 1) == 5
    assert b.index(4, 1, 6) == 5
    del b[-1]
    b.sort()
    assert b[:] == [0, 1, 2, 2, 3, 3, 4, 4]
    b.sort(reverse=True)
    assert b[0] == 4
    b.sort(key=abs)
    assert b[0] == 0
    assert len(b) == 8
    assert 3 in b
    assert "x" not in b
    assert 2 * a == a * 2 == list(range(10)) * 2
    assert list(reversed(a)) == list(range(9, -1, -1))


def test_list_slices(manager: Any) -> None:
    a: Any = manager.list(range(10))
    plain: Any = list(range(10))
    for part in (slice(2, 4), slice(None), slice(None, None, 3), slice(8, 2, -2), slice(-3, 99)):
        assert a[part] == plain[part]
        assert type(a[part]) is list
    for container in (a, plain):
        container[2:4] = ["x", "y", "z"]
        container[::4] = [0] * len(container[::4])
        del container[1:3]
        container[len(container) :] = [99]
        container[0:0] = [-1]
    assert a[:] == plain
    with pytest.raises(ValueError, match="size"):
        a[::2] = [1]
    with pytest.raises(ValueError, match="zero"):
        a[::0]


def test_list_errors(manager: Any) -> None:
    a = manager.list([1])
    calls: list[Callable[[], Any]] = [
        lambda: a[1], lambda: a[-2], lambda: a.pop(5), lambda: a.__setitem__(1, 0),
        lambda: a.__delitem__(1), lambda: manager.list().pop(),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(IndexError):
            call()
    with pytest.raises(ValueError, match="not in"):
        a.remove(7)
    with pytest.raises(ValueError, match="not in"):
        a.index(7)
    with pytest.raises(TypeError):
        manager.list([1, "a"]).sort()
    with pytest.raises(TypeError):
        a["x"]
    assert a[:] == [1]


def test_list_iteration_sees_changes(manager: Any) -> None:
    a = manager.list(range(10))
    assert list(a) == list(range(10))
    seen = []
    for item in a:
        seen.append(item)
        if item == 4:
            a.append("new")
    assert seen == [*range(10), "new"]
    iterator = iter(manager.list(range(3)))
    assert list(iterator) == [0, 1, 2]
    assert list(iterator) == []


def test_list_from_proxies(manager: Any) -> None:
    a = manager.list([1, 2])
    assert manager.list(a)[:] == [1, 2]
    a.extend(manager.list([3]))
    assert a[:] == [1, 2, 3]
    a += manager.list([4])
    assert a[:] == [1, 2, 3, 4]
    assert a + a[:] == [1, 2, 3, 4] * 2


# Nesting


def test_nested_proxies(manager: Any) -> None:
    inner = manager.dict(a=1)
    outer = manager.list([inner, [inner], {"deep": (inner,)}, {"plain": 1}])
    inner["b"] = 2
    for found in (outer[0], outer[1][0], outer[2]["deep"][0]):
        assert type(found) is type(inner)
        assert found.copy() == {"a": 1, "b": 2}
    assert type(outer[3]) is dict
    outer[0]["c"] = 3
    assert inner["c"] == 3
    del outer, found
    assert inner.copy() == {"a": 1, "b": 2, "c": 3}


def test_nested_proxies_outlive_the_outer_one(manager: Any) -> None:
    outer = manager.dict()
    outer["inner"] = manager.list([1])
    inner = outer["inner"]
    del outer
    inner.append(2)
    assert inner[:] == [1, 2]


def test_a_list_in_itself(manager: Any) -> None:
    a = manager.list()
    a.append(a)
    a.append("x")
    assert a[0][0][0][1] == "x"
    assert len(a[0]) == 2
    a.clear() if hasattr(a, "clear") else a.__delitem__(slice(None))


def test_a_proxy_of_another_manager(manager: Any, package: Any) -> None:
    with package.get_context("fork").Manager() as other:
        d = manager.dict(theirs=other.list([1]))
        d["theirs"].append(2)
        assert d["theirs"][:] == [1, 2]
        del d["theirs"]


def test_locks_and_queues_in_containers(manager: Any) -> None:
    d = manager.dict(lock=manager.Lock(), queue=manager.Queue(), event=manager.Event())
    with d["lock"]:
        assert not d["lock"].acquire(False)
    d["queue"].put(d["event"])
    d["queue"].get().set()
    assert d["event"].is_set()


# What proxies look like


def test_looks(manager: Any) -> None:
    d, a = manager.dict(a=[1]), manager.list(["x"])
    assert str(d) == f"{d}" == "{'a': [1]}"
    assert str(a) == "['x']"
    assert str(manager.Value("d", 3.5)) == "Value('d', 3.5)"
    assert repr(d) == f"<DictProxy object, typeid 'dict' at {id(d):#x}>"
    assert repr(a) == f"<ListProxy object, typeid 'list' at {id(a):#x}>"
    names = {
        "Event": "EventProxy", "Lock": "AcquirerProxy", "Queue": "AutoProxy[Queue]",
    }  # fmt: skip
    for typeid, name in names.items():
        made = getattr(manager, typeid)()
        assert type(made).__name__ == name
        assert repr(made) == f"<{name} object, typeid {typeid!r} at {id(made):#x}>"
        assert str(made) != repr(made)
    # The shared object holds proxies, not what they stand for.
    assert re.fullmatch(
        r"\[<DictProxy object, typeid 'dict' at 0x[0-9a-f]+>\]", str(manager.list([d]))
    )


def test_equality_is_identity(manager: Any) -> None:
    d = manager.dict(a=1)
    assert d == d
    assert d != {"a": 1}
    assert d != manager.dict(a=1)
    assert hash(d) != hash(manager.dict(a=1))
    assert not isinstance(d, dict)
    assert bool(d) is bool(manager.list([1])) is True
    assert bool(manager.dict()) is False


def test_copies(manager: Any) -> None:
    d, a = manager.dict(a=[1]), manager.list([1, [2]])
    for proxy in (d, a):
        other = copy.copy(proxy)
        assert type(other) is type(proxy)
        assert other is not proxy
        deep = copy.deepcopy(proxy)
        assert deep == proxy._getvalue() == proxy.copy() if proxy is d else deep == a[:]
        assert type(deep) in (dict, list)
    copy.copy(d)["b"] = 2
    assert d["b"] == 2


def test_callmethod(manager: Any, package: Any) -> None:
    d = manager.dict(a=1)
    assert d._callmethod("__getitem__", ("a",)) == 1
    assert d._callmethod("keys") == ["a"]
    assert d._callmethod("update", (), {"b": 2}) is None
    assert d._callmethod("copy") == {"a": 1, "b": 2}
    with pytest.raises(package.managers.RemoteError) as caught:
        d._callmethod("__class__")
    assert "'__class__'" in str(caught.value)
    with pytest.raises(KeyError):
        d._callmethod("__getitem__", ("x",))
    with pytest.raises(AttributeError):
        d.nothing()


def test_what_cannot_be_made(manager: Any, package: Any) -> None:
    for call in (lambda: manager.list(1), lambda: manager.dict(1), lambda: manager.dict(1, 2)):
        with pytest.raises((package.managers.RemoteError, TypeError)) as caught:
            call()
        assert "TypeError" in f"{type(caught.value).__name__} {caught.value}"


def test_values_are_set(manager: Any) -> None:
    number = manager.Value("i", 5)
    number.value = 6
    assert number.value == number.get() == 6
    assert number.set("anything") is None
    assert number.value == "anything"
    assert manager.Value("i", 1, lock=False).value == 1
    assert manager.Value(typecode="i", value=1).value == 1


def test_exceptions_make_no_cycles(ours: Any) -> None:
    q = ours.Queue()
    gone: Any = None
    gc.collect()
    gc.disable()
    try:
        try:
            q.get_nowait()
        except queue.Empty as error:
            gone = weakref.ref(error)
        assert gone() is None
    finally:
        gc.enable()
