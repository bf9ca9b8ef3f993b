"""The jobs of a pool: their parts, what became of each, and how the results are fetched.

Nothing here knows workers: the pool says what became of a part, and is told what is to be done.
"""

# A pool and its jobs know each other.
# pyright: reportPrivateUsage=false

from collections.abc import Callable, Generator, Iterable
from functools import partial
from typing import Any, Final, Generic, Protocol, TypeVar, cast

from aiomanager.errors import ResultTimeout, TooLarge, WorkerLost
from aiomanager.operation import (
    Opaque,
    Raw,
    SharedObject,
    composite,
    consumes,
    reads,
    waits,
    writes,
)
from aiomanager.proxy import AsyncProxy, SyncProxy
from aiomanager.waiter import Waiter, WaitQueue

__all__ = (
    "ALL",
    "CALL",
    "EACH",
    "EACH_STAR",
    "GIVEN_UP",
    "LOST",
    "ONE",
    "RAISED",
    "RETURNED",
    "Job",
    "JobProxy",
    "Order",
    "Results",
    "SyncJobProxy",
    "Work",
    "raise_first",
)

R = TypeVar("R")

WINDOW: Final = 4
"""Tasks for each worker that an iterator without length is read ahead of its consumer."""

# What a worker does with a function and the values of a task
CALL: Final = "call"
"""One value, `(args, kwds)`: call the function with them."""
EACH: Final = "each"
"""One value, a list: call the function with each item, and return the list of what it returns."""
EACH_STAR: Final = "each*"
"""As EACH; each item holds the positional arguments."""
ONE: Final = "one"
"""A callback: one value, which is its argument."""
ALL: Final = "all"
"""A callback: values that are lists, whose items in one list are its argument."""
LOST: Final = "lost"
"""A callback: one value, the text of the WorkerLost that is its argument."""

# What became of a part
RETURNED: Final = 0
RAISED: Final = 1
GIVEN_UP: Final = 2


class Crew(Protocol):
    """The pool, as its jobs see it."""

    _size: int

    def _enqueue(
        self, work: "Work", index: int, kind: str, values: list[Any], *, first: bool = False
    ) -> None:
        """Have a part done; `first`: before all that is not begun."""
        ...

    def _drop_tasks(self, work: "Work") -> None:
        """Forget what was not begun of a job."""
        ...

    def _work_over(self, work: "Work") -> None:
        """Know that a job is done."""
        ...

    def _serve(self) -> None:
        """Give what was enqueued to workers."""
        ...


class Work:
    """What a pool is to do: the parts of it that are not done yet."""

    _pool: Crew
    _function: Any

    def _part_done(self, index: int, outcome: int, value: Any) -> None:
        """Take the outcome of a part."""
        raise NotImplementedError

    def _give_up(self, why: str) -> None:
        """End the whole without success."""
        raise NotImplementedError


class Order:
    """What only a pool can make its jobs from."""

    def __init__(self, pool: Crew, kind: str, function: Any, callbacks: tuple[Any, Any]) -> None:
        self.pool = pool
        self.kind = kind
        self.function = function
        self.callback, self.error_callback = callbacks


def _checked(order: Any) -> Order:
    if not isinstance(order, Order):
        raise TypeError("jobs are made by the methods of a pool: apply_async, map_async, imap ...")
    return order


def _late(timeout: float | None) -> Callable[[], Any]:
    def expire() -> Any:
        raise ResultTimeout(f"the result was not there within {timeout} s")

    return expire


class Job(SharedObject, Work, Generic[R], name="pool.job"):
    """A call of a function by the workers of a pool, or several in one: the result to come.

    It is done when all its calls are, and its callback. As long as somebody refers to it the
    result can be had again.
    """

    def __init__(self, order: Raw) -> None:
        order = _checked(order)
        self._pool = order.pool
        self._kind: str = order.kind
        self._function = order.function
        self._callback, self._error_callback = order.callback, order.error_callback
        self._values: list[Any] = []
        self._left = 0
        self._whole = False
        self._raised: list[Any] = []
        """The first exception of a part."""
        self._given_up = ""
        self._calling_back = False
        self._over = False
        self._waiting = WaitQueue[Any](lambda: None)

    # What the pool says

    def _add(self, parts: Iterable[Any], whole: bool) -> None:
        self._whole = whole
        for part in parts:
            self._left += 1
            self._values.append(None)
            self._pool._enqueue(self, len(self._values) - 1, self._kind, [part])
        if whole and not self._left:
            self._end_of_parts()

    def _part_done(self, index: int, outcome: int, value: Any) -> None:
        if self._over:
            return
        if self._calling_back:
            self._finish()
            return
        self._left -= 1
        if outcome == RETURNED:
            self._values[index] = value
        elif outcome == GIVEN_UP:
            self._given_up = self._given_up or value
        elif not self._raised:
            self._raised.append(value)
        if self._whole and not self._left:
            self._end_of_parts()

    def _end_of_parts(self) -> None:
        kind, values = self._outcome()
        if self._given_up:
            kind, values = LOST, [self._given_up]
        failed = bool(self._given_up or self._raised)
        self._function = self._error_callback if failed else self._callback
        if self._function is None:
            self._finish()
        else:
            self._calling_back = True
            self._pool._enqueue(self, 0, kind, values, first=True)

    def _give_up(self, why: str) -> None:
        self._given_up = self._given_up or why
        self._finish()

    def _finish(self) -> None:
        if self._over:
            return
        self._over = True
        self._function = self._callback = self._error_callback = None
        if self._given_up or self._raised:
            self._values.clear()
        for waiter in self._waiting.pop_all():
            if waiter.request:
                waiter.grant(True)
            elif self._given_up:
                waiter.fail(WorkerLost(self._given_up))
            else:
                waiter.grant(self._result())
        self._pool._work_over(self)

    def _outcome(self) -> tuple[str, list[Any]]:
        if self._raised:
            return ONE, self._raised
        return (ONE if self._kind == CALL else ALL), self._values

    def _result(self) -> tuple[bool, bool, list[Any]]:
        kind, values = self._outcome()
        return not self._raised, kind == ONE, list(values)

    def _moved_out(self) -> None:
        if not self._whole:
            # Whoever was to add the rest has left.
            self._pool._drop_tasks(self)
            self._give_up("nobody refers to the job any more")

    # Operations

    @writes
    def add(self, parts: list[Opaque], whole: bool) -> None:
        """Add parts to a job that was submitted before it was whole.

        Raises:
            ValueError: it is whole.
            WorkerLost: the pool was terminated, or its workers cannot start.
        """
        if self._given_up:
            raise WorkerLost(self._given_up)
        if self._whole:
            raise ValueError("the job is whole already")
        self._add(parts, whole)
        self._pool._serve()

    @waits
    def outcome(
        self, timeout: float | None = None
    ) -> tuple[bool, bool, list[Opaque]] | Waiter[tuple[bool, bool, list[Opaque]]]:
        """Wait until the job is done; return whether it went well, and what came of it.

        That is one value, as the second part tells, or lists of values which make one together.
        If it did not go well it is the exception that came first.

        Raises:
            multiprocessing.TimeoutError: that took longer than `timeout` seconds.
            WorkerLost: a task killed its workers, or the pool ended before the job was done.
        """
        if self._over:
            if self._given_up:
                raise WorkerLost(self._given_up)
            return self._result()
        return self._waiting.park(timeout, _late(timeout), False)

    @waits
    def wait(self, timeout: float | None = None) -> bool | Waiter[bool]:
        """Wait until the job is done, at most `timeout` seconds; return whether it is."""
        if self._over:
            return True
        if timeout is not None and timeout <= 0:
            return False
        return self._waiting.park(timeout, lambda: False, True)

    @reads
    def ready(self) -> bool:
        """Tell whether the job is done."""
        return self._over

    @reads
    def successful(self) -> bool:
        """Tell whether the job, which must be done, went without an exception.

        Raises:
            ValueError: it is not done yet.
        """
        if not self._over:
            raise ValueError("the job is not ready")
        return not (self._given_up or self._raised)

    @reads
    def parts(self) -> int:
        """Return how many parts there are so far."""
        return len(self._values)

    @reads
    def part(self, index: int) -> Opaque:
        """Return what one part of a job that went well came to: all at once may be too large.

        Raises:
            ValueError: the job is not done, or did not go well.
            IndexError: there is no such part.
        """
        if not self._over or self._given_up or self._raised:
            raise ValueError("the job is not ready, or did not go well")
        return self._values[index]

    @composite
    def get(self, timeout: float | None = None) -> Generator[Any, Any, R]:
        """Wait until the job is done; return its result, or raise the exception it ended with.

        The exception has the worker's traceback as its cause.

        Raises:
            multiprocessing.TimeoutError: that took longer than `timeout` seconds.
            WorkerLost: a task killed its workers, or the pool ended before the job was done.
        """
        values: list[Any]
        try:
            well, one, values = yield self.outcome(timeout)
        except TooLarge:
            number: int = yield self.parts()
            if number < 2:
                raise
            well, one, values = True, False, []
            for index in range(number):
                values.append((yield self.part(index)))
        if well:
            return cast("R", _joined(one, values))
        return cast("R", raise_first(values))


def _joined(one: bool, values: list[Any]) -> Any:
    return values[0] if one else [item for part in values for item in part]


def raise_first(values: list[Any]) -> Any:
    try:
        raise values[0]
    finally:
        values.clear()  # else it and this frame keep each other alive


class Results(SharedObject, Work, name="pool.results"):
    """The results of a function for the items of an iterable, each as soon as it is there."""

    def __init__(self, order: Raw, ordered: bool = True) -> None:
        order = _checked(order)
        self._pool = order.pool
        self._kind: str = order.kind
        self._function = order.function
        self._ordered = ordered
        self._fed = 0
        self._done = 0
        self._delivered = 0
        self._whole = False
        self._given_up = ""
        self._ready: list[tuple[int, int, Any]] = []
        """Index, outcome and value of each result that may be handed out, in order."""
        self._early: dict[int, tuple[int, int, Any]] = {}
        """Those that must wait for others before them."""
        self._next = 0
        """The index of the first that may not be handed out yet, if they are in order."""
        self._waiting = WaitQueue[Any](self._serve)

    def _add(self, parts: Iterable[Any], whole: bool) -> None:
        self._whole = whole
        for part in parts:
            self._pool._enqueue(self, self._fed, self._kind, [part])
            self._fed += 1
        if whole:
            self._check_over()

    def _part_done(self, index: int, outcome: int, value: Any) -> None:
        self._done += 1
        if self._ordered:
            self._early[index] = (index, outcome, value)
            while self._next in self._early:
                self._ready.append(self._early.pop(self._next))
                self._next += 1
        else:
            self._ready.append((self._done, outcome, value))
        self._serve()
        self._check_over()

    def _check_over(self) -> None:
        if self._whole and self._done == self._fed:
            self._function = None
            self._serve()
            self._pool._work_over(self)

    def _give_up(self, why: str) -> None:
        self._given_up = why
        self._function = None
        self._serve()
        self._pool._work_over(self)

    def _serve(self) -> None:
        while self._ready and (waiter := self._waiting.pop()) is not None:
            waiter.grant(*self._take(waiter.request))
        if not self._ready and (self._given_up or self._at_end()):
            for waiter in self._waiting.pop_all():
                if self._at_end():
                    waiter.grant([])
                else:
                    waiter.fail(WorkerLost(self._given_up))

    def _at_end(self) -> bool:
        return self._whole and self._delivered == self._fed

    def _take(self, limit: int) -> tuple[Any, Callable[[], None]]:
        taken, self._ready = self._ready[:limit], self._ready[limit:]
        self._delivered += len(taken)
        return [(outcome, value) for _, outcome, value in taken], partial(self._put_back, taken)

    def _put_back(self, taken: list[tuple[int, int, Any]]) -> None:
        self._delivered -= len(taken)
        self._ready = sorted((*taken, *self._ready), key=lambda result: result[0])
        self._serve()

    def _moved_out(self) -> None:
        # Nobody will see the results, or add what was still to come.
        if not self._whole:
            self._pool._drop_tasks(self)
            self._give_up("nobody refers to the results any more")

    # Operations

    @writes
    def feed(self, parts: list[Opaque], whole: bool) -> int:
        """Add parts, the last ones if `whole`; return how many more are welcome now.

        Raises:
            ValueError: the last ones were added before.
            WorkerLost: the pool was terminated, or its workers cannot start.
        """
        if self._given_up:
            raise WorkerLost(self._given_up)
        if self._whole:
            raise ValueError("the results are of a whole iterable already")
        self._add(parts, whole)
        self._pool._serve()
        return self._room()

    def _room(self) -> int:
        return max(0, WINDOW * self._pool._size - (self._fed - self._delivered))

    @reads
    def room(self) -> int:
        """Return how many parts are welcome now."""
        return self._room()

    @consumes
    def take(
        self, limit: int, timeout: float | None = None
    ) -> list[tuple[int, Opaque]] | Waiter[list[tuple[int, Opaque]]]:
        """Take up to `limit` results, at least one; none at all says that there are no more.

        Each is a number and a value: 0 and what was returned, 1 and the exception that was
        raised, 2 and why the part was given up.

        Raises:
            multiprocessing.TimeoutError: none was there within `timeout` seconds.
            WorkerLost: the pool was terminated, or its workers cannot start.
            ValueError: `limit` is less than 1.
        """
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        if self._ready:
            return Waiter.granted(*self._take(limit))
        if self._at_end():
            return []
        if self._given_up:
            raise WorkerLost(self._given_up)
        return self._waiting.park(timeout, _late(timeout), limit)


class JobProxy(AsyncProxy, Job[R]):
    """The result to come of a pool, for async code: `await job.get()`."""

    sync: "SyncJobProxy[R]"


class SyncJobProxy(SyncProxy, Job[R]):
    """The result to come of a pool, as multiprocessing.pool.AsyncResult."""

    aio: "JobProxy[R]"
