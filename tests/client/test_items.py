"""A proxy given where items are expected: its items, of one moment; never as if it were them."""

import gc
from array import array
from collections.abc import (
    Callable,
    Iterator,
    Mapping,
    MutableMapping,
    MutableSequence,
    MutableSet,
)
from typing import Any

import pytest

import aiomanager
import aiomanager.sync
from aiomanager.objects.namespace import operations
from aiomanager.server.process import PrivateServer
from aiomanager.stored import MISSING


@pytest.fixture
def blocking(server: PrivateServer) -> Iterator[aiomanager.sync.Manager]:
    with aiomanager.sync.connect(server.address.url) as manager:
        yield manager


class Counted:
    """Notes the calls of the proxies that a manager makes from now on."""

    def __init__(self, manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        channel = manager._channel
        call = channel.call

        def counting(proxy: Any, operation: Any, *more: Any) -> Any:
            self.names.append(operation.name)
            return call(proxy, operation, *more)

        monkeypatch.setattr(channel, "call", counting)


def test_a_blocking_proxy_passes_for_its_items(
    blocking: aiomanager.sync.Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(blocking, monkeypatch)
    d, items = blocking.dict(a=1, b=2), blocking.list([3, 4])
    elements, numbers = blocking.set([5, 6]), blocking.Array("i", [7, 8])
    names = blocking.Namespace(x=9)
    made: list[tuple[Callable[[], Any], Any]] = [
        (lambda: blocking.dict(d), {"a": 1, "b": 2}),
        (lambda: blocking.dict(d, c=3), {"a": 1, "b": 2, "c": 3}),
        (lambda: blocking.dict(names), {"x": 9}),
        (lambda: blocking.list(items), [3, 4]),
        (lambda: blocking.list(d), ["a", "b"]),
        (lambda: blocking.list(numbers), [7, 8]),
        (lambda: blocking.set(elements), {5, 6}),
        (lambda: blocking.set(items), {3, 4}),
        (lambda: blocking.Array("d", items), array("d", [3, 4])),
    ]
    for make, expected in made:
        copied = make()
        assert counted.names == ["copy"]
        assert copied.copy() == expected
        counted.names.clear()
    changes: list[tuple[Callable[[], Any], Callable[[], Any], Any]] = [
        (lambda: d.update(d), d.copy, {"a": 1, "b": 2}),
        (lambda: d.update(names, y=0), d.copy, {"a": 1, "b": 2, "x": 9, "y": 0}),
        (lambda: items.extend(items), items.copy, [3, 4, 3, 4]),
        (lambda: items.set_slice(elements, 0, 4), lambda: sorted(items), [5, 6]),
        (lambda: elements.update(items), elements.copy, {5, 6}),
        (lambda: operations(names).update(d), operations(names).copy,
         {"x": 9, "a": 1, "b": 2, "y": 0}),
    ]  # fmt: skip
    for change, look, expected in changes:
        change()
        assert len(counted.names) == 2  # one of them reads
        assert look() == expected
        counted.names.clear()
    numbers[:] = items
    assert numbers.copy() == array("i", [5, 6])


def test_operators_take_proxies(blocking: aiomanager.sync.Manager) -> None:
    d, items = blocking.dict(a=1), blocking.list([1])
    assert d | blocking.dict(b=2) == {"a": 1, "b": 2}
    assert {"a": 0} | d == {"a": 1}
    d |= blocking.dict(b=2)
    d |= [("c", 3)]
    assert d.copy() == {"a": 1, "b": 2, "c": 3}
    assert list(reversed(d)) == ["c", "b", "a"]
    assert items + items == [1, 1]
    items += items
    items *= 2
    assert (items.copy(), 2 * items[:1]) == ([1] * 4, [1, 1])
    for wrong in (lambda: d | [("a", 1)], lambda: [1] | d, lambda: items.__add__((1,))):
        with pytest.raises(TypeError):
            wrong()


def test_what_is_no_set_or_list_is_refused_as_python_does(
    blocking: aiomanager.sync.Manager,
) -> None:
    items = blocking.list([1])
    for act in (
        lambda x: x.remove(5),
        lambda x: x.index(5),
        lambda x: x.pop(9),
        lambda x: x.__add__(()),
    ):
        errors = []
        for one in ([1], items):
            with pytest.raises((ValueError, IndexError, TypeError)) as caught:
                act(one)
            errors.append((caught.type, str(caught.value)))
        assert errors[0] == errors[1]


def test_indices_are_refused_as_python_does(blocking: aiomanager.sync.Manager) -> None:
    items, numbers = blocking.list([1]), blocking.Array("i", [1])
    for act in (lambda x: x["a"], lambda x: x.__setitem__(None, 1), lambda x: x.__delitem__(0.5)):
        with pytest.raises(TypeError) as expected:
            act([1])
        with pytest.raises(TypeError, match=f"^{expected.value}$"):
            act(items)
    with pytest.raises(TypeError, match=r"^array indices must be integers"):
        _ = numbers["a"]
    assert (items[False], numbers[True - 1]) == (1, 1)


def test_blocking_proxies_are_what_314_registers(blocking: aiomanager.sync.Manager) -> None:
    d, items, elements = blocking.dict(a=1, b=2), blocking.list([1, 2]), blocking.set()
    assert isinstance(d, MutableMapping)
    assert isinstance(items, MutableSequence)
    assert isinstance(elements, MutableSet)
    assert not isinstance(d.aio, Mapping)
    match d:
        case {"a": first, **rest}:
            assert (first, rest) == (1, {"b": 2})
        case _:
            raise AssertionError
    match items:
        case [one, *more]:
            assert (one, more) == (1, [2])
        case _:
            raise AssertionError
    assert blocking.dict(d).copy() == {"a": 1, "b": 2}


async def test_names_that_python_uses_itself(manager: aiomanager.Manager) -> None:
    d = await manager.dict(self=1, items=2, name=3, face=4)
    await d.update(self=5, given=6)
    assert await d.copy() == {"self": 5, "items": 2, "name": 3, "face": 4, "given": 6}
    names = await manager.Namespace(self=1, values=2, name=3, face=4)
    await names.update(self=5, given=6)
    assert await names.copy() == {"self": 5, "values": 2, "name": 3, "face": 4, "given": 6}


async def test_an_async_proxy_is_refused_with_the_fix(manager: aiomanager.Manager) -> None:
    d, items, queue = await manager.dict(a=1), await manager.list([1]), await manager.Queue()
    refused: list[Callable[[], Any]] = [
        lambda: manager.dict(d),
        lambda: manager.dict(d, b=2),
        lambda: manager.list(items),
        lambda: manager.set(items),
        lambda: manager.Array("i", items),
        lambda: d.update(d),
        lambda: items.extend(items),
    ]
    for make in refused:
        with pytest.raises(TypeError, match=r"pass 'await x\.copy\(\)', or .*'x\.sync'"):
            await make()
    with pytest.raises(TypeError, match=r"pass the items, or .*'x\.sync'"):
        await items.extend(queue)
    gc.collect()  # a coroutine that nobody awaited would warn
    assert await items.copy() == [1]
    assert await (await manager.dict(await d.copy())).items() == [("a", 1)]


async def test_iteration_of_async_proxies(manager: aiomanager.Manager) -> None:
    d, elements = await manager.dict(a=1, b=2), await manager.set([1])
    assert [key async for key in d] == ["a", "b"]
    assert [one async for one in elements] == [1]
    items = await manager.list([1, 2])
    seen = []
    async for item in items:
        seen.append(item)
        if item == 1:
            await items.append(3)
    assert seen == [1, 2, 3]
    numbers = await manager.Array("i", [1, 2])
    seen.clear()
    async for item in numbers:
        seen.append(item)
        await numbers.set(1, 9)
    assert seen == [1, 9]
    queue = await manager.JoinableQueue()
    await queue.put_many(["x", "y"])
    await queue.shutdown()
    assert [item async for item in queue] == ["x", "y"]


def test_missing_is_no_value(blocking: aiomanager.sync.Manager) -> None:
    d, items, value = blocking.dict(), blocking.list([1]), blocking.Value("i", 1)
    refused: list[Callable[[], Any]] = [
        lambda: d.set("M", MISSING),
        lambda: d.update(M=[MISSING]),
        lambda: d.setdefault("M", MISSING),
        lambda: d.update_nested(("M",), MISSING),
        lambda: items.append(MISSING),
        lambda: items.extend([{"a": (MISSING,)}]),
        lambda: items.compare_and_set(0, 1, MISSING),
        lambda: blocking.Queue().put(MISSING),
        lambda: value.set(MISSING),
        lambda: blocking.Value("i", MISSING),
        lambda: blocking.dict(M=MISSING),
        lambda: setattr(blocking.Namespace(), "x", MISSING),
    ]
    for store in refused:
        with pytest.raises(TypeError, match=r"cannot send MISSING: .* delete it; compare_and_set"):
            store()
    assert (d.copy(), items.copy(), value.get()) == ({}, [1], 1)
    # Where it stands for what is not there, it still does.
    assert d.get("M", MISSING) is MISSING
    assert d.pop("M", MISSING) is MISSING
    assert d.compare_and_set("M", MISSING, 1)
    assert not d.compare_and_set("M", MISSING, 2)
    assert d.compare_and_set("M", 1, MISSING)
    assert d.compare_and_set_nested(("M",), MISSING, {"x": 1})
    assert d.compare_and_set_nested(("M", "x"), 1, MISSING)
    assert d.copy() == {"M": {}}


async def test_a_value_by_the_names_of_its_parameters(manager: aiomanager.Manager) -> None:
    value = await manager.Value(typecode="i", value=3, lock=False)
    assert await value.get() == 3
    numbers = await manager.Array(typecode="i", sequence=[1], lock=False)
    assert await numbers.get_item(0) == 1
    named = await manager.named.Value("by its parameters", typecode="i", value=4)
    assert await named.get() == 4


async def test_both_faces_of_one_namespace(manager: aiomanager.Manager) -> None:
    names = await manager.Namespace(sync=1)
    blocking = names.sync
    blocking.x = [1]
    assert blocking.sync == 1
    assert await names.get("x") == [1]
    assert await names.increment("sync") == 2
    assert operations(blocking).aio is not names
    assert await operations(blocking).aio.get("sync") == 2
