"""A signal handler that raises behind a call leaves what was got or acquired with somebody.

The interpreter runs handlers where a function begins, behind a call of what is not written in
Python, and behind a call with `*arguments`. So a signal that is pending when the channel returns
shows whether any of these stands between it and the caller.
"""

import _thread
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import aiomanager.multiprocessing as multiprocessing
import aiomanager.sync
from aiomanager.multiprocessing.managers import BaseProxy
from aiomanager.multiprocessing.proxies import forwarding
from aiomanager.objects.lock_table import SyncLockTableProxy

# The classes of the proxies themselves, to derive others from.
from aiomanager.multiprocessing.faces import LockProxy, QueueProxy  # isort: skip


class Interrupt(Exception):
    """What the handler raises."""


def handler(_number: int, _frame: Any) -> None:
    raise Interrupt


class Pending:
    """Has a signal pending, by an operator: behind a call its handler would run at once."""

    __add__ = staticmethod(_thread.interrupt_main)


PENDING: Any = Pending()


class DerivedQueue(QueueProxy[Any]):
    """A program's own proxy of a queue."""

    def get(self, *args: Any, **kwds: Any) -> Any:
        return self._callmethod("get", args, kwds)


class ForwardedQueue(QueueProxy[Any]):
    """As MakeProxyType would make it."""

    get = forwarding("get")


class DerivedLock(LockProxy):
    """A program's own proxy of a lock."""

    def acquire(self, *args: Any, **kwds: Any) -> Any:
        return self._callmethod("acquire", args, kwds)


def made_of(kind: type[BaseProxy], proxy: Any) -> Any:
    return kind(proxy._channel, proxy._reference)


@pytest.fixture(scope="module")
def manager() -> Iterator[Any]:
    with multiprocessing.Manager() as manager:
        yield manager


def interrupted(proxy: Any, act: Callable[[], Any]) -> list[Any]:
    """Call `act` with a signal pending when the channel returns to it; return what it got."""
    channel = proxy._channel
    channel_call = channel.call
    got: list[Any] = []

    def call(proxy: Any, operation: Any, arguments: Any, owner: int = 0) -> Any:
        result = channel_call(proxy, operation, arguments, owner)
        PENDING + signal.SIGUSR1
        return result

    def let_handlers_in() -> None:
        """Begin: an append is no call to every interpreter."""

    before = signal.signal(signal.SIGUSR1, handler)
    object.__setattr__(proxy, "_call", call)
    channel.call = call
    try:
        with pytest.raises(Interrupt):  # noqa: PT012
            got.append(act())
            let_handlers_in()
    finally:
        del channel.call
        object.__setattr__(proxy, "_call", channel_call)
        signal.signal(signal.SIGUSR1, before)
    return got


GETS: dict[str, Callable[[Any], Any]] = {
    "get": lambda q: q.get(),
    "with a timeout": lambda q: q.get(timeout=5),
    "_callmethod": lambda q: q._callmethod("get"),
    "_callmethod with arguments": lambda q: q._callmethod("get", (True, 5)),
    "_callmethod with names": lambda q: q._callmethod("get", (), {"timeout": 5}),
    "_callmethod of get_nowait": lambda q: q._callmethod("get_nowait"),
}


@pytest.mark.parametrize("kind", [None, DerivedQueue, ForwardedQueue])
@pytest.mark.parametrize("get", GETS.values(), ids=GETS)
def test_an_item_is_its_getters(manager: Any, get: Callable[[Any], Any], kind: Any) -> None:
    q = manager.Queue()
    q.put("item")
    proxy = q if kind is None else made_of(kind, q)
    assert interrupted(proxy, lambda: get(proxy)) == ["item"]


ACQUIRES: dict[str, Callable[[Any], Any]] = {
    "acquire": lambda lock: lock.acquire(),
    "with a timeout": lambda lock: lock.acquire(timeout=5),
    "with": lambda lock: lock.__enter__(),
    "_callmethod": lambda lock: lock._callmethod("acquire"),
    "_callmethod with arguments": lambda lock: lock._callmethod("acquire", (True, 5)),
    "_callmethod with names": lambda lock: lock._callmethod("acquire", (), {"timeout": 5}),
}


@pytest.mark.parametrize("made", ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition"])
@pytest.mark.parametrize("acquire", ACQUIRES.values(), ids=ACQUIRES)
def test_a_lock_is_its_acquirers(manager: Any, acquire: Callable[[Any], Any], made: str) -> None:
    lock = getattr(manager, made)()
    assert interrupted(lock, lambda: acquire(lock)) == [True]
    lock.release()


@pytest.mark.parametrize("acquire", ACQUIRES.values(), ids=ACQUIRES)
def test_a_lock_of_a_programs_own_class_is_its_acquirers(
    manager: Any, acquire: Callable[[Any], Any]
) -> None:
    lock = made_of(DerivedLock, manager.Lock())
    assert interrupted(lock, lambda: acquire(lock)) == [True]
    lock.release()


def test_keys_of_a_table_are_their_acquirers() -> None:
    with aiomanager.sync.Manager() as manager:
        table: Any = manager.create(SyncLockTableProxy)
        keys = table("a", "b", timeout=5)
        assert interrupted(table, lambda: keys.__enter__()) == [keys]
        assert keys.fence > 0
        keys.__exit__()
        assert table.holders() == {}


def test_names_reach_every_kind_of_method(manager: Any) -> None:
    items = manager.list([3, 1, 2])
    items._callmethod("sort", (), {"reverse": True})
    assert items.copy() == [3, 2, 1]
    counts = manager.dict(a=1)
    counts._callmethod("update", ({"b": 2},), {"c": 3})
    assert counts.copy() == {"a": 1, "b": 2, "c": 3}
    assert counts._callmethod("setdefault", ("d",), {"default": 4}) == 4
    with pytest.raises(TypeError):
        manager.Lock()._callmethod("acquire", (), {"nothing": 1})
    with pytest.raises(TypeError):
        manager.Queue()._callmethod("get", (), {"nothing": 1})
    with pytest.raises(TypeError):
        manager.Queue()._callmethod("get", (1, 2, 3, 4, 5))
