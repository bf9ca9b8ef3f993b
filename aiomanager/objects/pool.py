"""The shared Pool: how workers are given tasks and replaced, its proxies and its factories.

The server never opens what passes through: functions, arguments, results and exceptions are
values that clients packed and workers open. What starts a worker process is handed in.
"""

# A pool and its jobs know each other.
# pyright: reportPrivateUsage=false

from bisect import insort
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping
from functools import partial
from typing import Any, Final, Protocol, TypeAlias, TypeVar, cast

from aiomanager.errors import SessionLost, WorkerLost
from aiomanager.objects.jobs import (
    CALL,
    EACH,
    EACH_STAR,
    GIVEN_UP,
    RAISED,
    RETURNED,
    Job,
    JobProxy,
    Order,
    Results,
    SyncJobProxy,
    Work,
)
from aiomanager.objects.submitting import (
    AsyncResults,
    Submitter,
    SyncResults,
    call_part,
    get_call,
    get_map,
    pool_arguments,
    submit,
    submit_map,
)
from aiomanager.operation import (
    Home,
    Opaque,
    SharedObject,
    acquires,
    begin,
    drive_blocking,
    owned,
    reads,
    waits,
    writes,
)
from aiomanager.proxy import AsyncFactory, AsyncProxy, SyncFactory, SyncProxy
from aiomanager.waiter import Caller, Waiter, WaitQueue

__all__ = ("Launcher", "Pool", "PoolProxy", "SyncPoolProxy", "WorkerProcess")

R = TypeVar("R")

MAX_DEATHS: Final = 3
"""A task that was under way when so many workers died is not given to another one."""
MAX_FAILURES: Final = 3
"""So many workers in a row that end by themselves before their first task are the pool's end."""
MAX_KILLED: Final = 30
"""The same for those that somebody kills, who may stop at some time, as the kernel may that is
short of memory."""


class WorkerProcess(Protocol):
    """A process that was started, or is about to be."""

    @property
    def pid(self) -> int:
        """Its process id; 0 before it is started."""
        ...

    def end(self) -> None:
        """End it; what it was doing is not finished."""
        ...


class Launcher(Protocol):
    """What starts worker processes for a server."""

    processors: int
    """How many processors there are."""

    def start(
        self, pool_id: int, number: int, on_end: Callable[[str, bool], None], /
    ) -> WorkerProcess:
        """Start a process that works for a pool; `on_end` is told when there is none any more.

        It gets how it ended, in words that follow its name, and whether somebody has killed it.

        Raises:
            Denied: this server starts no processes.
        """
        ...


class _Worker:
    """One worker process, as its pool knows it."""

    __slots__ = ("begun", "process")

    def __init__(self) -> None:
        self.process: WorkerProcess | None = None
        self.begun = False
        """Whether it has asked for a task: its initializer went well."""


class _Task:
    """One part of a job, or the callback at the job's end."""

    __slots__ = ("attempt", "deaths", "holder", "index", "kind", "number", "values", "work")

    def __init__(self, number: int, work: "Work", index: int, kind: str, values: Any) -> None:
        self.number = number
        """Its place in the queue, to which it returns when its worker dies; a callback's is 0."""
        self.work = work
        self.index = index
        self.kind = kind
        self.values: list[Any] = values
        self.attempt = 0
        self.deaths = 0
        self.holder: Any = None
        """The session of the worker that has it."""


def _place(task: _Task) -> int:
    return task.number


Assignment: TypeAlias = tuple[int, str, Opaque, list[Opaque]]
"""What a worker gets: an id, what to do, the function, the values."""


RUNNING: Final = "running"
CLOSED: Final = "closed"
ENDED: Final = "ended"


class Pool(SharedObject):
    """A pool of worker processes beside the server.

    A task whose worker dies is given to another worker; the third one that dies ends the job with
    WorkerLost. So do an initializer that fails, and workers that cannot start.
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Opaque = None,
        maxtasksperchild: int | None = None,
        program: Opaque = None,
    ) -> None:
        if processes is not None and processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None and maxtasksperchild < 1:
            raise ValueError("maxtasksperchild must be a positive int or None")
        self._asked = processes
        self._size = processes or 1
        self._initializer = initializer
        self._limit = maxtasksperchild
        self._program = program
        self._state = RUNNING
        self._why = ""
        self._failed = False
        """Whether the workers ended the pool, rather than who used it."""
        """Why the pool can do nothing any more, if it cannot."""
        self._home: Home | None = None
        self._launcher: Launcher | None = None
        self._object_id = 0
        self._first: list[_Task] = []
        """What comes before the queue: callbacks, and what came back from workers that died."""
        self._queue: deque[_Task] = deque()
        self._running: dict[int, _Task] = {}
        """What workers do, by the number that they know it by."""
        self._works: set[Work] = set()
        """The jobs that are not done."""
        self._workers: dict[int, _Worker] = {}
        self._failures = 0
        """How many workers in a row ended before their first task, by themselves."""
        self._killed = 0
        self._completed = 0
        self._replaced = 0
        self._last_task = 0
        self._last_assignment = 0
        self._last_worker = 0
        self._takers = WaitQueue[Any](self._serve)
        self._joining = WaitQueue[None](self._serve_joining)

    def _conflict(self, *arguments: Any) -> str | None:
        asked = arguments[0] if arguments else None
        if asked is not None and asked != self._size:
            return f"has {self._size} processes, not {asked}"
        return None

    # Its place in the server

    def _moved_in(self, home: Home, object_id: int) -> None:
        self._home, self._object_id = home, object_id
        self._launcher = cast("Launcher", home.launcher)
        if self._asked is None:
            self._size = max(1, self._launcher.processors)
        for _ in range(self._size):
            self._start_worker()

    def _moved_out(self) -> None:
        # Nobody refers to it, or its name was deleted.
        self._end("the pool was deleted, or nobody referred to it any more")

    def _start_worker(self) -> None:
        if self._launcher is None:
            return
        self._last_worker = number = self._last_worker + 1
        worker = self._workers[number] = _Worker()
        try:
            worker.process = self._launcher.start(
                self._object_id, number, partial(self._worker_ended, number)
            )
        except BaseException:
            del self._workers[number]
            raise

    def _worker_ended(self, number: int, how: str, killed: bool) -> None:
        """Know that a worker's process is gone."""
        worker = self._workers.pop(number, None)
        if worker is None:
            return
        if self._state == ENDED or (self._state == CLOSED and not self._works):
            self._serve_joining()
            return
        if not worker.begun:
            self._killed += killed
            self._failures += not killed
            if self._failures >= MAX_FAILURES or self._killed >= MAX_KILLED:
                self._end(
                    f"{self._failures + self._killed} workers in a row ended before their first "
                    "task; the last "
                    f"one {how}. The error output of the server says more"
                )
                return
        self._replaced += 1
        self._start_worker()

    def _end(self, why: str, failed: bool = True) -> None:
        """Give up all jobs and end all workers."""
        if self._state != ENDED:
            self._state = ENDED
            self._why = why
            self._failed = failed
        for task in self._running.values():
            task.holder.let_go(task)
        self._running.clear()
        self._first.clear()
        self._queue.clear()
        for work in list(self._works):
            work._give_up(self._why)
        for worker in list(self._workers.values()):
            if worker.process is not None:
                worker.process.end()
        for waiter in self._takers.pop_all():
            waiter.grant(None)
        self._serve_joining()

    # Tasks

    def _accept(self, work: Work) -> Any:
        """Take a job in; return what refers to it."""
        if not self._works and self._home is not None:
            # The pool stays for as long as it has something to do.
            self._home.retain(self._object_id)
        self._works.add(work)
        shared = cast("SharedObject", work)
        return shared if self._home is None else self._home.share(shared)

    def _work_over(self, work: Work) -> None:
        """Know that a job is done."""
        if work not in self._works:
            return
        self._works.discard(work)
        if not self._works:
            self._serve()
            if self._home is not None:
                self._home.release(self._object_id)

    def _enqueue(
        self, work: Work, index: int, kind: str, values: list[Any], *, first: bool = False
    ) -> None:
        if first:
            insort(self._first, _Task(0, work, index, kind, values), key=_place)
        else:
            self._last_task += 1
            self._queue.append(_Task(self._last_task, work, index, kind, values))

    def _drop_tasks(self, work: Work) -> None:
        """Forget what was not begun of a job."""
        self._first = [task for task in self._first if task.work is not work]
        self._queue = deque(task for task in self._queue if task.work is not work)

    def _next_task(self) -> _Task | None:
        if self._first:
            return self._first.pop(0)
        return self._queue.popleft() if self._queue else None

    def _assign(self, task: _Task, caller: Caller) -> tuple[Assignment, Callable[[], None]]:
        self._last_assignment = task.attempt = self._last_assignment + 1
        self._running[task.attempt] = task
        task.holder = caller.holder
        give_back = partial(self._give_back, task, task.attempt)
        caller.holder.hold(task, give_back)
        assignment = (task.attempt, task.kind, task.work._function, list(task.values))
        return assignment, give_back

    def _give_back(self, task: _Task, attempt: int) -> None:
        """Take a task back from a worker that died, or never got it."""
        if self._running.pop(attempt, None) is None:
            return
        task.holder.let_go(task)
        task.deaths += 1
        if task.deaths < MAX_DEATHS:
            insort(self._first, task, key=_place)
        else:
            why = (
                f"{task.deaths} workers died one after the other while they had the same task, "
                "which is not tried again. It may crash the interpreter or be killed for the "
                "memory that it takes"
            )
            task.work._part_done(task.index, GIVEN_UP, why)
        self._serve()

    def _serve(self) -> None:
        """Give tasks to those who wait for them; send them home if there is nothing to come."""
        while (self._first or self._queue) and (taker := self._takers.pop()) is not None:
            taker.grant(*self._assign(cast("_Task", self._next_task()), taker.request))
        if self._state != RUNNING and not self._works:
            for taker in self._takers.pop_all():
                taker.grant(None)
            self._serve_joining()

    def _serve_joining(self) -> None:
        if self._state != RUNNING and not self._works and not self._workers:
            for waiter in self._joining.pop_all():
                waiter.grant(None)

    # Operations of clients

    def _check_running(self) -> None:
        if self._failed:
            raise WorkerLost(self._why)
        if self._state != RUNNING:
            raise ValueError("Pool not running")

    @writes
    def submit(
        self,
        kind: str,
        function: Opaque,
        parts: list[Opaque],
        whole: bool = True,
        callback: Opaque = None,
        error_callback: Opaque = None,
    ) -> Opaque:
        """Have `function` called for each of `parts`; return the job.

        The kinds of parts: "call", `(args, kwds)`; "each", a list whose items are one argument
        each; "each*", a list whose items hold the arguments. More parts can be added unless it is
        `whole`. When all are done a worker calls `callback` with the result, or `error_callback`
        with the exception, if there is one.

        Raises:
            ValueError: the pool was closed or terminated, or there is no such kind.
            WorkerLost: its workers cannot start.
        """
        self._check_running()
        _check_kind(kind)
        job: Job[Any] = Job(Order(self, kind, function, (callback, error_callback)))
        found = self._accept(job)
        job._add(parts, whole)
        self._serve()
        return found

    @writes
    def submit_each(
        self, kind: str, function: Opaque, parts: list[Opaque], whole: bool, ordered: bool
    ) -> Opaque:
        """As `submit`; return the results, which can be taken as they come or in order.

        Raises:
            ValueError, WorkerLost: as submit.
        """
        self._check_running()
        _check_kind(kind)
        results = Results(Order(self, kind, function, (None, None)), ordered)
        found = self._accept(results)
        results._add(parts, whole)
        self._serve()
        return found

    @writes
    def close(self) -> None:
        """Let no more jobs in; the workers end when all jobs are done."""
        if self._state == RUNNING:
            self._state = CLOSED
            self._serve()

    @writes
    def terminate(self) -> None:
        """End the workers at once; whoever waits for a job gets WorkerLost."""
        self._end("the pool was terminated before the job was done", failed=False)

    @waits
    def join(self, timeout: float | None = None) -> Waiter[None] | None:
        """Wait until all workers have ended; the pool must be closed or terminated.

        Raises:
            ValueError: it is neither.
            TimeoutError: that took longer than `timeout` seconds.
        """
        if self._state == RUNNING:
            raise ValueError("Pool is still running")
        if not self._works and not self._workers:
            return None
        return self._joining.park(timeout)

    @reads
    def processes(self) -> int:
        """Return the number of workers that there are to be."""
        return self._size

    @reads
    def pids(self) -> list[int]:
        """Return the process ids of the workers."""
        workers = self._workers.values()
        return [one.process.pid for one in workers if one.process is not None and one.process.pid]

    @reads
    def statistics(self) -> dict[str, int]:
        """Return what the pool counts now.

        `processes` that there are to be; `workers` that there are, and how many were `replaced`;
        `jobs` that are not done; their tasks that are `queued` and `running`; tasks `completed`.
        """
        return {
            "processes": self._size,
            "workers": len(self._workers),
            "replaced": self._replaced,
            "jobs": len(self._works),
            "queued": len(self._first) + len(self._queue),
            "running": len(self._running),
            "completed": self._completed,
        }

    # Operations of workers

    @reads
    def enlist(self) -> tuple[Opaque, Opaque, int | None]:
        """Return what a worker begins with: the program, the initializer, how many tasks it does.

        The program says what its main module is, and where its modules are found. The initializer
        is None, or a function and its arguments.
        """
        return self._program, self._initializer, self._limit

    @acquires
    def take(self, caller: Caller, number: int) -> Assignment | Waiter[Assignment | None] | None:
        """Wait for a task, as the worker of this number; None: there is nothing more to do.

        Returns an id, what to do, the function, and the values that it is for. If the worker's
        session ends before `finish`, another worker gets the task.
        """
        worker = self._workers.get(number)
        if worker is not None:
            worker.begun = True
            self._failures = self._killed = 0
        task = self._next_task()
        if task is not None:
            return Waiter.granted(*self._assign(task, caller))
        if self._state != RUNNING and not self._works:
            return None
        return self._takers.park(request=caller)

    @owned
    def finish(self, caller: Caller, task: int, well: bool, value: Opaque) -> None:
        """Say what a task returned, or raised."""
        found = self._running.get(task)
        if found is None or found.holder is not caller.holder:
            return  # it was taken back
        del self._running[task]
        found.holder.let_go(found)
        self._completed += 1
        found.work._part_done(found.index, RETURNED if well else RAISED, value)
        # A callback may be next: whoever waits has it sooner than who may have done its last task.
        self._serve()

    @writes
    def unfit(self, number: int, why: str) -> None:
        """Say that a worker cannot begin, and that no other one could: all jobs are given up."""
        if number in self._workers and self._state != ENDED:
            self._end(f"the workers cannot begin: {why}")


def _check_kind(kind: str) -> None:
    if kind not in (CALL, EACH, EACH_STAR):
        raise ValueError(f"there is no kind of job {kind!r}")


def _close(pool: Any) -> Generator[Any, Any, None]:
    # What was given to imap before is done, though nobody has asked for its results yet.
    for imap in list(pool._open_imaps()):
        yield from imap.feed(everything=True)
    yield pool._call(pool, Pool.close, ())


class PoolProxy(AsyncProxy, Pool, Submitter):
    """A pool of worker processes for async code.

    Functions, arguments, results and callbacks must be picklable; proxies among them work in the
    workers, where they are blocking ones. Callbacks are called by a worker.
    """

    sync: "SyncPoolProxy"

    async def apply(
        self,
        func: Callable[..., R],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
    ) -> R:
        """Have a worker call `func(*args, **kwds)`; return what it returns, or raise.

        Raises:
            ValueError: the pool is closed.
            WorkerLost: the call killed its workers, or the pool ended before it was done.
        """
        return cast("R", await begin(get_call(self, func, args, kwds)))

    async def apply_async(
        self,
        func: Callable[..., R],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        callback: Callable[[R], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> JobProxy[R]:
        """Have a worker call `func(*args, **kwds)`; return the job at once.

        A worker calls `callback` with the result, or `error_callback` with the exception.

        Raises:
            ValueError: the pool is closed.
        """
        parts = call_part(args, kwds)
        return cast(
            "JobProxy[R]", await begin(submit(self, CALL, func, parts, callback, error_callback))
        )

    async def map(
        self, func: Callable[[Any], R], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[R]:
        """Call `func` with each item, in parallel; return the list of the results.

        Workers get `chunksize` items at a time, by default a quarter of each one's share.

        Raises:
            ValueError: the pool is closed.
            WorkerLost: as apply.
        """
        return cast("list[R]", await begin(get_map(self, EACH, func, iterable, chunksize)))

    async def map_async(
        self,
        func: Callable[[Any], R],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[R]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> JobProxy[list[R]]:
        """As `map`, and return the job at once; callbacks as in `apply_async`."""
        steps = submit_map(self, EACH, func, iterable, chunksize, callback, error_callback)
        return cast("JobProxy[list[R]]", await begin(steps))

    async def starmap(
        self,
        func: Callable[..., R],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
    ) -> list[R]:
        """As `map`, of a function that is called with what each item holds."""
        return cast("list[R]", await begin(get_map(self, EACH_STAR, func, iterable, chunksize)))

    async def starmap_async(
        self,
        func: Callable[..., R],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[R]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> JobProxy[list[R]]:
        """As `starmap`, and return the job at once; callbacks as in `apply_async`."""
        steps = submit_map(self, EACH_STAR, func, iterable, chunksize, callback, error_callback)
        return cast("JobProxy[list[R]]", await begin(steps))

    def imap(
        self, func: Callable[[Any], R], iterable: Iterable[Any], chunksize: int = 1
    ) -> AsyncResults[R]:
        """Return the results of `func` for each item, in order: `async for x in pool.imap(...)`.

        Nothing is sent before the first one is awaited. An iterable without a length is read a
        few items ahead of the results that were taken, to its end when the pool is closed.
        """
        return AsyncResults(self, func, iterable, chunksize, True)

    def imap_unordered(
        self, func: Callable[[Any], R], iterable: Iterable[Any], chunksize: int = 1
    ) -> AsyncResults[R]:
        """As `imap`, each result as soon as it is there."""
        return AsyncResults(self, func, iterable, chunksize, False)

    async def close(self) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Let no more jobs in; the workers end when all jobs are done."""
        await begin(_close(self))

    async def __aenter__(self) -> "PoolProxy":
        return self

    async def __aexit__(self, *_error: object) -> None:
        try:
            self._post(Pool.terminate)  # also where everything that waits is cancelled
        except SessionLost:  # or there was none yet
            await self.terminate()


class SyncPoolProxy(SyncProxy, Pool, Submitter):
    """A pool of worker processes, as multiprocessing.Pool.

    Functions, arguments, results and callbacks must be picklable; proxies among them work in the
    workers. Callbacks are called by a worker.
    """

    aio: "PoolProxy"

    def apply(
        self,
        func: Callable[..., R],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
    ) -> R:
        """Have a worker call `func(*args, **kwds)`; return what it returns, or raise.

        Raises:
            ValueError: the pool is closed.
            WorkerLost: the call killed its workers, or the pool ended before it was done.
        """
        return cast("R", drive_blocking(get_call(self, func, args, kwds)))

    def apply_async(
        self,
        func: Callable[..., R],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        callback: Callable[[R], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> SyncJobProxy[R]:
        """Have a worker call `func(*args, **kwds)`; return the job at once.

        A worker calls `callback` with the result, or `error_callback` with the exception.

        Raises:
            ValueError: the pool is closed.
        """
        parts = call_part(args, kwds)
        return cast(
            "SyncJobProxy[R]",
            drive_blocking(submit(self, CALL, func, parts, callback, error_callback)),
        )

    def map(
        self, func: Callable[[Any], R], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[R]:
        """Call `func` with each item, in parallel; return the list of the results.

        Workers get `chunksize` items at a time, by default a quarter of each one's share.

        Raises:
            ValueError: the pool is closed.
            WorkerLost: as apply.
        """
        return cast("list[R]", drive_blocking(get_map(self, EACH, func, iterable, chunksize)))

    def map_async(
        self,
        func: Callable[[Any], R],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[R]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> SyncJobProxy[list[R]]:
        """As `map`, and return the job at once; callbacks as in `apply_async`."""
        steps = submit_map(self, EACH, func, iterable, chunksize, callback, error_callback)
        return cast("SyncJobProxy[list[R]]", drive_blocking(steps))

    def starmap(
        self,
        func: Callable[..., R],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
    ) -> list[R]:
        """As `map`, of a function that is called with what each item holds."""
        steps = get_map(self, EACH_STAR, func, iterable, chunksize)
        return cast("list[R]", drive_blocking(steps))

    def starmap_async(
        self,
        func: Callable[..., R],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[R]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> SyncJobProxy[list[R]]:
        """As `starmap`, and return the job at once; callbacks as in `apply_async`."""
        steps = submit_map(self, EACH_STAR, func, iterable, chunksize, callback, error_callback)
        return cast("SyncJobProxy[list[R]]", drive_blocking(steps))

    def imap(
        self, func: Callable[[Any], R], iterable: Iterable[Any], chunksize: int = 1
    ) -> SyncResults[R]:
        """Return an iterator over the results of `func` for each item, in order.

        An iterable without a length is read a few items ahead of the results that were taken, to
        its end when the pool is closed.

        Raises:
            ValueError: the pool is closed, or `chunksize` is less than 1.
        """
        return self._imap(func, iterable, chunksize, True)

    def imap_unordered(
        self, func: Callable[[Any], R], iterable: Iterable[Any], chunksize: int = 1
    ) -> SyncResults[R]:
        """As `imap`, each result as soon as it is there."""
        return self._imap(func, iterable, chunksize, False)

    def _imap(
        self, func: Callable[[Any], R], iterable: Iterable[Any], chunksize: int, ordered: bool
    ) -> SyncResults[R]:
        results: SyncResults[R] = SyncResults(self, func, iterable, chunksize, ordered)
        drive_blocking(results.feed())
        return results

    def close(self) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Let no more jobs in; the workers end when all jobs are done."""
        drive_blocking(_close(self))

    def __enter__(self) -> "SyncPoolProxy":
        return self

    def __exit__(self, *_error: object) -> None:
        self.terminate()


class PoolFactory(AsyncFactory):
    """Makes anonymous pools for async code."""

    def Pool(  # noqa: N802
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
    ) -> Coroutine[Any, Any, PoolProxy]:
        """Start a pool of worker processes beside the server, by default one for each processor.

        Each calls `initializer(*initargs)` first, and ends after `maxtasksperchild` tasks, for
        another to take its place.

        Raises:
            ValueError: `processes` or `maxtasksperchild` is less than 1.
            TypeError: the initializer cannot be called.
            Denied: the server starts no processes.
        """
        made = pool_arguments(processes, initializer, initargs, maxtasksperchild)
        return self._make(PoolProxy, None, made, {})


class NamedPoolFactory(AsyncFactory):
    """Finds or makes named pools for async code."""

    def Pool(  # noqa: N802
        self,
        name: str,
        /,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
    ) -> Coroutine[Any, Any, PoolProxy]:
        """Find the pool of this name, or start it; what it does at its start is its maker's.

        Raises:
            NameConflict: it exists with another number of `processes`.
            ValueError, TypeError, Denied: as for an anonymous one.
        """
        made = pool_arguments(processes, initializer, initargs, maxtasksperchild)
        return self._make(PoolProxy, name, made, {})


class SyncPoolFactory(SyncFactory):
    """Makes anonymous pools for blocking code."""

    def Pool(  # noqa: N802
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
    ) -> SyncPoolProxy:
        """Start a pool of worker processes beside the server, by default one for each processor.

        Each calls `initializer(*initargs)` first, and ends after `maxtasksperchild` tasks, for
        another to take its place.

        Raises:
            ValueError: `processes` or `maxtasksperchild` is less than 1.
            TypeError: the initializer cannot be called.
            Denied: the server starts no processes.
        """
        made = pool_arguments(processes, initializer, initargs, maxtasksperchild)
        return self._make(SyncPoolProxy, None, made, {})  # type: ignore[no-any-return]


class SyncNamedPoolFactory(SyncFactory):
    """Finds or makes named pools for blocking code."""

    def Pool(  # noqa: N802
        self,
        name: str,
        /,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
    ) -> SyncPoolProxy:
        """Find the pool of this name, or start it; what it does at its start is its maker's.

        Raises:
            NameConflict: it exists with another number of `processes`.
            ValueError, TypeError, Denied: as for an anonymous one.
        """
        made = pool_arguments(processes, initializer, initargs, maxtasksperchild)
        return self._make(SyncPoolProxy, name, made, {})  # type: ignore[no-any-return]
