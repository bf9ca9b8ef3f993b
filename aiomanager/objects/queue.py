"""The shared Queue and JoinableQueue: their operations, their proxies and their factories."""

from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Generic, NamedTuple, TypeAlias, cast

from aiomanager.errors import Empty, Full, ShutDown
from aiomanager.operation import SharedObject, V, consumes, reads, waits, writes
from aiomanager.proxy import AsyncFactory, AsyncProxy, SyncFactory, SyncProxy
from aiomanager.waiter import Waiter, WaitQueue

__all__ = (
    "JoinableQueue",
    "JoinableQueueProxy",
    "Queue",
    "QueueProxy",
    "SyncJoinableQueueProxy",
    "SyncQueueProxy",
)


_Item: TypeAlias = tuple[int, Any]
"""One item behind its number: where it goes back to when its delivery is undone."""


class _Get(NamedTuple):
    """What a parked getter wants: at most so many items, in this form."""

    limit: int
    form: Callable[[list[Any], bool], Any]
    """Gets the items, and whether the first one was on its way to somebody before."""


def _one(values: list[Any], _redelivered: bool) -> Any:
    return values[0]


_GET = _Get(1, _one)


def _delivery(values: list[Any], redelivered: bool) -> Any:
    return values[0], redelivered


def _many(values: list[Any], _redelivered: bool) -> Any:
    return values


def _empty() -> Any:
    raise Empty


def _full() -> Any:
    raise Full


def _seconds(block: bool, timeout: float | None) -> float | None:
    """Return how long to wait: None for ever, 0 not at all."""
    if not block:
        return 0.0
    if timeout is not None and timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")
    return timeout


class Queue(SharedObject, Generic[V]):
    """A first-in first-out queue; an item is its getter's once the getter has it.

    A getter that is cancelled, times out or dies before that leaves the item at its old place.
    Until a getter has confirmed its item, a full queue may hold more than `maxsize` for a moment.
    """

    def __init__(self, maxsize: int = 0) -> None:
        self._maxsize = maxsize
        self._items: deque[_Item] = deque()
        self._put = 0
        """How many items were ever put: the number of the last one."""
        self._finished = 0
        """How many of them are worked off, or of no use any more."""
        self._redelivered: set[int] = set()
        """The numbers of the items here that were on their way to somebody before."""
        self._shut_down = False
        self._drained = False
        """Shut down in such a way that items are of no use any more."""
        self._getters = WaitQueue[Any](self._serve)
        self._putters = WaitQueue[None](self._serve)
        self._joining = WaitQueue[None](self._serve_joining)

    def _held(self) -> Iterable[Any]:
        return [value for _, value in self._items]

    def _moved_out(self) -> None:
        # The lines and the queue refer to each other: what it holds would wait for a collection.
        self._items.clear()

    def _conflict(self, *arguments: Any) -> str | None:
        asked = arguments[0] if arguments else 0
        if max(asked, 0) != max(self._maxsize, 0):
            return f"has maxsize {self._maxsize}, not {asked}"
        return None

    # What moves items

    def _room(self) -> bool:
        return self._maxsize <= 0 or len(self._items) < self._maxsize

    @property
    def _unfinished(self) -> int:
        return self._put - self._finished

    def _append(self, value: Any) -> None:
        self._put = number = self._put + 1
        self._items.append((number, value))

    def _take(self, get: _Get) -> tuple[Any, Callable[[], None]]:
        """Take items off and return the getter's result, and what puts them back."""
        items = [self._items.popleft() for _ in range(min(get.limit, len(self._items)))]
        redelivered = items[0][0] in self._redelivered
        self._redelivered.difference_update(number for number, _ in items)
        result = get.form([value for _, value in items], redelivered)
        return result, partial(self._put_back, items)

    def _put_back(self, items: Sequence[_Item]) -> None:
        if self._drained:
            self._finish(len(items))
            self._serve_joining()
            return
        for item in reversed(items):
            self._redelivered.add(item[0])
            place = 0
            for number, _ in self._items:
                if number > item[0]:
                    break
                place += 1
            self._items.insert(place, item)
        self._serve()

    def _finish(self, count: int) -> None:
        """Expect no `task_done` for so many items."""
        self._finished = min(self._finished + count, self._put)

    def _serve(self) -> None:
        """Hand items to getters and room to putters until one of each pair is used up."""
        while True:
            if self._items and (getter := self._getters.pop()) is not None:
                getter.grant(*self._take(getter.request))
            elif self._room() and (putter := self._putters.pop()) is not None:
                self._append(putter.request)
                putter.grant(None)
            else:
                break
        if self._shut_down and not self._items:
            for getter in self._getters.pop_all():
                getter.fail(ShutDown())

    def _serve_joining(self) -> None:
        if not self._unfinished:
            for waiter in self._joining.pop_all():
                waiter.grant(None)

    def _get(self, get: _Get, block: bool, timeout: float | None) -> Any:
        if self._shut_down and not self._items:
            raise ShutDown
        seconds = _seconds(block, timeout)
        if self._items:
            result, undo = self._take(get)
            waiter = Waiter.granted(result, undo)
            if self._putters.ready:
                self._serve()
            return waiter
        if seconds == 0:
            raise Empty
        return self._getters.park(seconds, _empty, get)

    # Operations

    @waits
    def put(self, item: V, block: bool = True, timeout: float | None = None) -> Waiter[None] | None:
        """Put `item` at the end, once there is room.

        Waits at most `timeout` seconds, for ever by default, not at all unless `block`.

        Raises:
            queue.Full: there was no room in time.
            queue.ShutDown: the queue is shut down (aiomanager.ShutDown before Python 3.13).
            ValueError: a negative timeout.
        """
        if self._shut_down:
            raise ShutDown
        # As in the stdlib, the timeout of a queue without limit is not looked at.
        seconds = _seconds(block, timeout) if self._maxsize > 0 else None
        if self._maxsize <= 0 or self._room():
            self._append(item)
            if self._getters.ready:
                self._serve()
            return None
        if seconds == 0:
            raise Full
        return self._putters.park(seconds, _full, item)

    @writes
    def put_nowait(self, item: V) -> None:
        """Put `item` at the end, if there is room now.

        Raises:
            queue.Full: there is no room.
            queue.ShutDown: the queue is shut down.
        """
        self.put_many((item,))

    @writes
    def put_many(self, items: Iterable[V]) -> None:
        """Put all `items` at the end in one step, if there is room for all of them now.

        Raises:
            queue.Full: there is no room for all; none was put.
            queue.ShutDown: the queue is shut down.
        """
        if self._shut_down:
            raise ShutDown
        everything = list(items)
        if self._maxsize > 0 and len(self._items) + len(everything) > self._maxsize:
            raise Full
        for item in everything:
            self._append(item)
        if self._getters.ready:
            self._serve()

    @consumes
    def get(self, block: bool = True, timeout: float | None = None) -> V | Waiter[V]:
        """Remove the first item and return it, once there is one.

        Waits at most `timeout` seconds, for ever by default, not at all unless `block`.

        Raises:
            queue.Empty: there was no item in time.
            queue.ShutDown: the queue is empty and shut down.
            ValueError: a negative timeout.
        """
        items = self._items
        if items and timeout is None and not self._putters.ready:
            # As _get(), for what is asked for most.
            item = items.popleft()
            number, value = item
            if self._redelivered:
                self._redelivered.discard(number)
            return Waiter.granted(value, partial(self._put_back, (item,)))
        return cast("V", self._get(_GET, block, timeout))

    @consumes
    def get_nowait(self) -> V | Waiter[V]:
        """Remove the first item and return it, if there is one now.

        Raises:
            queue.Empty: there is no item.
            queue.ShutDown: the queue is empty and shut down.
        """
        return cast("V", self._get(_GET, False, None))

    @consumes
    def get_delivery(
        self, block: bool = True, timeout: float | None = None
    ) -> tuple[V, bool] | Waiter[tuple[V, bool]]:
        """Get an item as `get`, and whether it was on its way to somebody before.

        A redelivered item may have been worked on: its getter died before it confirmed.

        Raises:
            queue.Empty, queue.ShutDown, ValueError: as get.
        """
        return cast("tuple[V, bool]", self._get(_Get(1, _delivery), block, timeout))

    @consumes
    def get_many(
        self, limit: int, block: bool = True, timeout: float | None = None
    ) -> list[V] | Waiter[list[V]]:
        """Get up to `limit` items, at least one, in one step.

        Raises:
            queue.Empty, queue.ShutDown: as get.
            ValueError: `limit` is less than 1, or a negative timeout.
        """
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        return cast("list[V]", self._get(_Get(limit, _many), block, timeout))

    @reads
    def qsize(self) -> int:
        """Return the number of items."""
        return len(self._items)

    @reads
    def empty(self) -> bool:
        """Tell whether there is no item now."""
        return not self._items

    @reads
    def full(self) -> bool:
        """Tell whether there is no room now."""
        return not self._room()

    @reads
    def maxsize(self) -> int:
        """Return how many items the queue has room for; 0 or less: no limit."""
        return self._maxsize

    @writes
    def task_done(self) -> None:
        """Say that an item that was got is worked off.

        Raises:
            ValueError: called more often than items were put.
        """
        if self._unfinished <= 0:
            raise ValueError("task_done() called too many times")
        self._finished += 1
        self._serve_joining()

    @waits
    def join(self, timeout: float | None = None) -> Waiter[None] | None:
        """Wait until `task_done` was called for every item that was put.

        Raises:
            TimeoutError: that took longer than `timeout` seconds.
        """
        if not self._unfinished:
            return None
        return self._joining.park(_seconds(True, timeout))

    @writes
    def shutdown(self, immediate: bool = False) -> None:
        """Let no more items in; getters get the remaining ones, unless `immediate`.

        All who wait to put, and on an empty queue all who wait to get, get queue.ShutDown.
        """
        self._shut_down = True
        if immediate:
            self._drained = True
            self._finish(len(self._items))
            self._items.clear()
            self._redelivered.clear()
            self._serve_joining()
        for putter in self._putters.pop_all():
            putter.fail(ShutDown())
        self._serve()

    @reads
    def is_shut_down(self) -> bool:
        """Tell whether the queue is shut down."""
        return self._shut_down


class JoinableQueue(Queue[V]):
    """A queue of another name: every shared queue counts its unfinished tasks, as in the stdlib."""


class QueueProxy(AsyncProxy, Queue[V]):
    """A shared queue for async code."""

    sync: "SyncQueueProxy[V]"

    async def __aiter__(self) -> AsyncIterator[V]:
        """Get items until the queue is shut down and empty."""
        while True:
            try:
                item = await self.get()
            except ShutDown:
                return
            yield item


class SyncQueueProxy(SyncProxy, Queue[V]):
    """A shared queue for blocking code."""

    aio: "QueueProxy[V]"

    def __iter__(self) -> Iterator[V]:
        """Get items until the queue is shut down and empty."""
        while True:
            try:
                item = self.get()
            except ShutDown:
                return
            yield item


class JoinableQueueProxy(QueueProxy[V], JoinableQueue[V]):
    """A shared joinable queue for async code."""

    sync: "SyncJoinableQueueProxy[V]"  # pyright: ignore[reportIncompatibleVariableOverride]


class SyncJoinableQueueProxy(SyncQueueProxy[V], JoinableQueue[V]):
    """A shared joinable queue for blocking code."""

    aio: "JoinableQueueProxy[V]"  # pyright: ignore[reportIncompatibleVariableOverride]


class QueueFactory(AsyncFactory):
    """Makes anonymous queues for async code."""

    def Queue(self, maxsize: int = 0) -> Coroutine[Any, Any, QueueProxy[Any]]:  # noqa: N802
        """Make a shared queue with room for `maxsize` items, without limit for 0."""
        return self._make(QueueProxy, None, (maxsize,), {})

    def JoinableQueue(  # noqa: N802
        self, maxsize: int = 0
    ) -> Coroutine[Any, Any, JoinableQueueProxy[Any]]:
        """Make a shared joinable queue with room for `maxsize` items, without limit for 0."""
        return self._make(JoinableQueueProxy, None, (maxsize,), {})


class NamedQueueFactory(AsyncFactory):
    """Finds or makes named queues for async code."""

    def Queue(  # noqa: N802
        self, name: str, /, maxsize: int = 0
    ) -> Coroutine[Any, Any, QueueProxy[Any]]:
        """Find or make the shared queue of this name.

        Raises:
            NameConflict: it exists with another `maxsize`.
        """
        return self._make(QueueProxy, name, (maxsize,), {})

    def JoinableQueue(  # noqa: N802
        self, name: str, /, maxsize: int = 0
    ) -> Coroutine[Any, Any, JoinableQueueProxy[Any]]:
        """Find or make the shared joinable queue of this name.

        Raises:
            NameConflict: it exists with another `maxsize`.
        """
        return self._make(JoinableQueueProxy, name, (maxsize,), {})


class SyncQueueFactory(SyncFactory):
    """Makes anonymous queues for blocking code."""

    def Queue(self, maxsize: int = 0) -> SyncQueueProxy[Any]:  # noqa: N802
        """Make a shared queue with room for `maxsize` items, without limit for 0."""
        return self._make(SyncQueueProxy, None, (maxsize,), {})  # type: ignore[no-any-return]

    def JoinableQueue(self, maxsize: int = 0) -> SyncJoinableQueueProxy[Any]:  # noqa: N802
        """Make a shared joinable queue with room for `maxsize` items, without limit for 0."""
        return self._make(SyncJoinableQueueProxy, None, (maxsize,), {})  # type: ignore[no-any-return]


class SyncNamedQueueFactory(SyncFactory):
    """Finds or makes named queues for blocking code."""

    def Queue(self, name: str, /, maxsize: int = 0) -> SyncQueueProxy[Any]:  # noqa: N802
        """Find or make the shared queue of this name.

        Raises:
            NameConflict: it exists with another `maxsize`.
        """
        return self._make(SyncQueueProxy, name, (maxsize,), {})  # type: ignore[no-any-return]

    def JoinableQueue(  # noqa: N802
        self, name: str, /, maxsize: int = 0
    ) -> SyncJoinableQueueProxy[Any]:
        """Find or make the shared joinable queue of this name.

        Raises:
            NameConflict: it exists with another `maxsize`.
        """
        return self._make(SyncJoinableQueueProxy, name, (maxsize,), {})  # type: ignore[no-any-return]
