"""Spellings of plain objects that async proxies cannot have: each error says what to write."""

import asyncio
from collections.abc import Coroutine
from typing import Any
from unittest import mock

import pytest

import aiomanager
import aiomanager.sync
from aiomanager.operation import K, SharedObject, V, reads
from aiomanager.proxy import AsyncProxy, Proxy, Reference, SyncProxy


class Channel:
    """A channel whose calls answer with a list of what was asked for."""

    epoch = 0
    forks = 0

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer

    async def call(self, _proxy: Proxy, operation: Any, *_arguments: Any) -> Any:
        return [operation.name] if self.answer is None else self.answer

    def drop(self, reference: Reference) -> None: ...

    def owner(self) -> int:
        return 1


def made(kind: type[Proxy], answer: Any = None) -> Any:
    channel: Any = Channel(answer)
    return kind(channel, Reference(channel, 1, 0))


d = made(aiomanager.DictProxy)
items = made(aiomanager.ListProxy)
s = made(aiomanager.SetProxy)
v = made(aiomanager.ValueProxy)
n = made(aiomanager.NamespaceProxy)
lock = made(aiomanager.LockProxy)
q = made(aiomanager.QueueProxy)

SPELLINGS = {
    "d['k']": r"'await d\.get_item\(k\)'",
    "d.__setitem__('k', 1)": r"'await d\.set\(k, v\)'",
    "len(d)": r"'await d\.length\(\)'",
    "list(d)": "'async for k in d'",
    "dict(d)": r"'await d\.copy\(\)', or 'dict\(d\.sync\)'",
    "dict(**d)": r"'await d\.copy\(\)', or 'dict\(d\.sync\)'",
    "{**d}": r"'await d\.copy\(\)', or 'dict\(d\.sync\)'",
    "list(d.keys())": r"'await d\.keys\(\)'",
    "reversed(d)": r"'reversed\(await d\.copy\(\)\)', or 'reversed\(d\.sync\)'",
    "reversed(q)": "does not offer it",
    "d | {}": r"'await x\.copy\(\) \| y', or 'x\.sync \| y'",
    "{} | d": r"'x \| await y\.copy\(\)', or 'x \| y\.sync'",
    "d.__ior__({})": r"x \|= y cannot .* Use 'await x\.update\(y\)'",
    "d | d": r"'await x\.copy\(\) \| y'",
    "items + [1]": r"'await x\.copy\(\) \+ y', or 'x\.sync \+ y'",
    "[1] + items": r"Use 'x \+ await y\.copy\(\)'\.",
    "items * 2": r"'await x\.copy\(\) \* y', or 'x\.sync \* y'",
    "2 * items": r"'x \* await y\.copy\(\)', or 'x \* y\.sync'",
    "items.__iadd__([1])": r"'await x\.extend\(y\)'",
    "items.__imul__(2)": r"'await x\.multiply\(y\)'",
    "s & {1}": r"'await x\.copy\(\) & y', or 'x\.sync & y'",
    "{1} - s": r"'x - await y\.copy\(\)', or 'x - y\.sync'",
    "s ^ s": r"'x\.sync \^ y'",
    "s.__isub__({1})": r"'await x\.difference_update\(y\)'",
    "s <= {1}": r"'await x\.copy\(\) <= y', or 'x\.sync <= y'",
    "{1} < s": r"'await x\.copy\(\) > y', or 'x\.sync > y'",
    "v.value": r"'await x\.get\(\)', or 'x\.sync\.value'",
    "setattr(v, 'value', 5)": r"'await x\.set\(\.\.\.\)', or 'x\.sync\.value = \.\.\.'",
    "n.hits": r"'await namespace\.get\('hits'\)'",
    "setattr(n, 'hits', 5)": r"'await namespace\.set\('hits', \.\.\.\)'",
    "lock.__enter__()": "'async with x'",
    "aiomanager.Manager().__enter__()": r"'async with aiomanager\.Manager\(\)'",
    "aiomanager.connect('unix:///s').__enter__()": r"'async with aiomanager\.connect\(\)'",
    # What the blocking proxy has not either is left to Python.
    "d + {}": "unsupported operand",
    "d < d": "not supported between instances",
    "items | [1]": "unsupported operand",
    "lock | 1": "unsupported operand",
    "n | {}": "unsupported operand",
    "lock <= lock": "not supported between instances",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_what_cannot_be_awaited_says_what_to_write(spelling: str) -> None:
    # A coroutine that was left behind would warn, which is an error.
    with pytest.raises(TypeError, match=SPELLINGS[spelling]):
        eval(spelling)


def test_a_with_statement_reaches_the_hint() -> None:
    with pytest.raises(TypeError, match=r"aiomanager\.sync\.Manager"), aiomanager.Manager():
        pass


def test_what_is_no_attribute_is_none_for_those_who_look() -> None:
    assert not hasattr(v, "value")
    assert not hasattr(n, "hits")
    assert mock.Mock(spec=v).get is not None  # looks at every attribute that dir() lists
    assert d != {}


def test_keys_of_a_dict_are_awaited_in_every_way() -> None:
    async def main() -> None:
        assert await asyncio.create_task(d.keys()) == ["keys"]
        assert await asyncio.gather(d.keys(), d.keys()) == [["keys"], ["keys"]]
        assert await asyncio.wait_for(d.keys(), 1) == ["keys"]
        task = asyncio.create_task(d.keys())
        task.cancel()  # before it begins
        with pytest.raises(asyncio.CancelledError):
            await task

    later = d.keys()
    assert isinstance(later, Coroutine)
    later.close()
    asyncio.run(main())


# Attributes


@pytest.mark.parametrize("proxy", [d, items, s, v, lock, q], ids=lambda one: type(one).__name__)
def test_what_is_set_on_a_proxy_is_not_swallowed(proxy: Any) -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'colour' to be set.*not shared"):
        proxy.colour = 5
    proxy._own = 5  # Python's own word for what is nobody else's


def test_a_lock_keeps_its_fence_and_a_test_may_replace_a_method() -> None:
    one = made(aiomanager.LockProxy, 7)
    assert asyncio.run(one.acquire())
    assert one.fence == 7
    one.locked = lambda: True
    assert one.locked()


def test_a_class_of_ones_own_may_have_attributes_of_its_own() -> None:
    class Named(aiomanager.DictProxy[Any, Any]):
        def rename(self, name: str) -> None:
            self.name = name

    one = made(Named)
    one.rename("ann")
    assert one.name == "ann"
    with pytest.raises(TypeError, match="async proxy"):
        len(one)


def test_a_face_that_nobody_wrote_has_none() -> None:
    class Kind(SharedObject):
        @reads
        def get(self) -> int: ...

    from aiomanager.proxy import async_face

    with pytest.raises(AttributeError, match="KindProxy has no attribute"):
        made(async_face(Kind)).colour = 1


def test_operators_of_ones_own_blocking_proxy_have_their_hint() -> None:
    class Kind(SharedObject):
        @reads
        def get(self, key: K) -> V: ...

    class KindProxy(AsyncProxy, Kind): ...

    class SyncKindProxy(SyncProxy, Kind):
        def __and__(self, other: int) -> int: ...

    del SyncKindProxy
    with pytest.raises(TypeError, match=r"Use 'x\.sync & y'\."):
        made(KindProxy) & 1
    with pytest.raises(TypeError, match="Use the blocking proxy"):
        1 & made(KindProxy)
    with pytest.raises(TypeError, match="unsupported operand"):
        made(KindProxy) | 1
