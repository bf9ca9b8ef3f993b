"""How clients hand work to a pool: parts made of arguments, iterables read as far as is needed.

Each function is the steps of a method of both proxies, as those of a composite.
"""

# What belongs to a pool's proxy is asked of it.
# pyright: reportPrivateUsage=false

import os
import sys
from collections import deque
from collections.abc import (
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any, Final, Generic, TypeVar, cast
from weakref import WeakSet

from aiomanager.errors import TooLarge, WorkerLost
from aiomanager.objects.jobs import CALL, EACH, EACH_STAR, GIVEN_UP, RETURNED, raise_first
from aiomanager.operation import begin, drive_blocking, plain_copy

__all__ = (
    "AsyncResults",
    "Submitter",
    "SyncResults",
    "call_part",
    "get_call",
    "get_map",
    "pool_arguments",
    "submit",
    "submit_map",
)

R = TypeVar("R")

FETCH: Final = 64
"""Parts, or results, that travel in one call for an iterator."""


def _program() -> dict[str, Any]:
    """Return what a worker needs to find the modules and the main module of this program."""
    here = os.getcwd()  # noqa: PTH109
    found: dict[str, Any] = {
        "sys_path": [here if place == "" else place for place in sys.path],
        "sys_argv": [str(argument) for argument in sys.argv],
        "dir": here,
    }
    main = sys.modules["__main__"]
    # What workers call it: classes of the main program come back under this name.
    sys.modules.setdefault("__mp_main__", main)
    name = getattr(getattr(main, "__spec__", None), "name", None)
    file = getattr(main, "__file__", None)
    if name is not None:
        found["init_main_from_name"] = name
    elif file is not None:
        found["init_main_from_path"] = os.path.normpath(os.path.join(here, file))  # noqa: PTH118
    return found


def pool_arguments(
    processes: int | None,
    initializer: Callable[..., object] | None,
    initargs: Iterable[Any],
    maxtasksperchild: int | None,
) -> tuple[Any, ...]:
    """Return what a new pool is made from; raise TypeError for an initializer that is none."""
    if initializer is not None and not callable(initializer):
        raise TypeError("initializer must be a callable")
    start = None if initializer is None else (initializer, tuple(initargs))
    return (processes, start, maxtasksperchild, _program())


def call_part(args: Iterable[Any], kwds: Mapping[str, Any]) -> list[Any]:
    return [(tuple(args), dict(kwds))]


def _chunks(items: Sequence[Any], size: int) -> list[list[Any]]:
    return [list(items[start : start + size]) for start in range(0, len(items), size)]


def _check_chunksize(chunksize: int | None) -> None:
    if chunksize is not None and chunksize < 1:
        raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")


def submit(
    pool: Any,
    kind: str,
    function: Any,
    parts: list[Any],
    callback: Any = None,
    error_callback: Any = None,
) -> Generator[Any, Any, Any]:
    """Submit a job, in one call unless that is too large for one."""
    try:
        return (yield pool.submit(kind, function, parts, True, callback, error_callback))
    except TooLarge:
        if len(parts) < 2:
            raise
    job = yield pool.submit(kind, function, [], False, callback, error_callback)
    halves = [parts]
    while halves:
        some = halves.pop()
        try:
            yield job.add(some, not halves)
        except TooLarge:
            if len(some) < 2:
                raise
            middle = len(some) // 2
            halves += [some[middle:], some[:middle]]
    return job


def submit_map(
    pool: Any,
    kind: str,
    function: Any,
    iterable: Iterable[Any],
    chunksize: int | None,
    callback: Any = None,
    error_callback: Any = None,
) -> Generator[Any, Any, Any]:
    _check_chunksize(chunksize)
    iterable = plain_copy(iterable)
    items: Any = iterable if isinstance(iterable, list | tuple | range) else list(iterable)
    if chunksize is None and pool._known_size == 0:
        object.__setattr__(pool, "_known_size", (yield pool.processes()))
    size = chunksize or max(1, -(-len(items) // (4 * pool._known_size)))
    if kind == EACH_STAR:
        items = [tuple(item) for item in items]
    parts = _chunks(items, size)
    del items, iterable
    return (yield from submit(pool, kind, function, parts, callback, error_callback))


def get_map(pool: Any, *given: Any) -> Generator[Any, Any, Any]:
    job = yield from submit_map(pool, *given)
    return (yield job.get())


def get_call(pool: Any, function: Any, args: Any, kwds: Any) -> Generator[Any, Any, Any]:
    job = yield from submit(pool, CALL, function, call_part(args, kwds))
    return (yield job.get())


_NO_MORE: Final = object()


class Imap:
    """The results of imap for one iterable: it is read here, and no further than is needed.

    One that has a length lies in memory anyway: its items are all sent at once.
    """

    def __init__(
        self, pool: Any, function: Any, iterable: Iterable[Any], chunksize: int, ordered: bool
    ) -> None:
        _check_chunksize(chunksize)
        iterable = plain_copy(iterable)
        self._pool: Any = pool
        self._function = function
        self._ordered = ordered
        self._chunksize = chunksize
        self._lazy = not hasattr(iterable, "__len__")
        self._source = iter(iterable)
        self._error: BaseException | None = None
        """What the iterable raised; raised here behind the results of what came before."""
        self._whole = False
        self._room = 0
        self._got: deque[tuple[int, Any]] = deque()
        self._results: Any = None
        pool._open_imaps().add(self)

    def __reduce__(self) -> Any:
        raise TypeError("the iterator of imap belongs to its process: it reads the iterable there")

    def _parts(self, number: int) -> list[Any]:
        """Read as many parts from the iterable, fewer at its end."""
        parts: list[Any] = []
        while len(parts) < number and not self._whole:
            chunk: list[Any] = []
            try:
                for item in self._source:
                    chunk.append(item)
                    if len(chunk) == self._chunksize:
                        break
                else:
                    self._whole = True
            except Exception as error:
                self._whole = True
                self._error = error
            if chunk:
                parts.append(((chunk[0],), {}) if self._chunksize == 1 else chunk)
        return parts

    def feed(self, everything: bool = False) -> Generator[Any, Any, None]:
        """Send as much as is welcome, or all that there is."""
        if self._results is None:
            kind = CALL if self._chunksize == 1 else EACH
            parts = [] if self._lazy else self._parts(FETCH)
            self._results = yield self._pool.submit_each(
                kind, self._function, parts, self._whole, self._ordered
            )
            self._function = None
            if self._lazy:
                self._room = yield self._results.room()
        everything = everything or not self._lazy
        while not self._whole and (everything or self._room):
            parts = self._parts(FETCH if everything else self._room)
            self._room = yield self._results.feed(parts, self._whole)
        if self._whole:
            self._pool._open_imaps().discard(self)
            self._pool = None

    def step(self, timeout: float | None) -> Generator[Any, Any, Any]:
        """Return the next result, or _NO_MORE."""
        if not self._got:
            if not self._whole or self._results is None:
                yield from self.feed()
            results: Any = self._results
            try:
                found = yield results.take(FETCH, timeout)
            except TooLarge:  # for one answer
                found = yield results.take(1, timeout)
            if not found:
                error, self._error = self._error, None
                if error is not None:
                    raise error
                return _NO_MORE
            self._room += len(found)
            for outcome, value in found:
                if outcome == RETURNED and self._chunksize > 1:
                    self._got.extend((RETURNED, item) for item in value)
                else:
                    self._got.append((outcome, value))
        outcome, value = self._got.popleft()
        if outcome == RETURNED:
            return value
        if outcome == GIVEN_UP:
            raise WorkerLost(value)
        return raise_first([value])


class AsyncResults(Imap, Generic[R]):
    """The results of `pool.imap`, for `async for`."""

    def __aiter__(self) -> AsyncIterator[R]:
        return self

    async def __anext__(self) -> R:
        return await self.next()

    async def next(self, timeout: float | None = None) -> R:
        """Return the next result.

        Raises:
            StopAsyncIteration: there are no more.
            multiprocessing.TimeoutError: it was not there within `timeout` seconds.
        """
        found = await begin(self.step(timeout))
        if found is _NO_MORE:
            raise StopAsyncIteration
        return cast("R", found)


class SyncResults(Imap, Generic[R]):
    """The results of `pool.imap`, an iterator."""

    def __iter__(self) -> Iterator[R]:
        return self

    def __next__(self) -> R:
        return self.next()

    def next(self, timeout: float | None = None) -> R:
        """Return the next result.

        Raises:
            StopIteration: there are no more.
            multiprocessing.TimeoutError: it was not there within `timeout` seconds.
        """
        found = drive_blocking(self.step(timeout))
        if found is _NO_MORE:
            raise StopIteration
        return cast("R", found)


class Submitter:
    """What both proxies of a pool remember."""

    _known_size = 0
    """The number of workers, once it was asked for."""
    _imaps: "WeakSet[Imap] | None" = None

    def _open_imaps(self) -> "WeakSet[Imap]":
        """Return the iterators of imap whose iterables are not read to their ends."""
        if self._imaps is None:
            object.__setattr__(self, "_imaps", WeakSet())
        return cast("WeakSet[Imap]", self._imaps)
