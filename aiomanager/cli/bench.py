"""The command `aiomanager bench`: this package against the stdlib's Manager, side by side.

Both sides do the same things with the same keys and values. Each round starts both sides anew,
warms them up, and lets them work in turns, so that what else the machine does meets both. What
is reported are medians over the rounds, and the smallest and the largest ratio of a round.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import fmean, median
from typing import Any, Final, NamedTuple, TypeAlias, cast

from aiomanager.cli import UserError

__all__ = ("DESCRIPTION", "WORKLOADS", "add_arguments", "execute")

DESCRIPTION: Final = """\
Measure the speed beside that of the stdlib's Manager: both do the same, in turns,
on this machine and at this moment. The ratios say more than the numbers, and the
smallest and largest ratio of a round say how much the ratios say. The second table
is what it costs that a session survives its connections."""

PROCESSES: Final = 8
TASKS: Final = 100
TURNS: Final = 8
"""How often the two sides take turns in a round, on one core."""
LONG_TURNS: Final = 2
"""How often they do on several cores."""
LONGER: Final = 8
"""How much longer a round is on several cores: the scheduler needs the better part of a second to
spread processes that wake each other over the cores. Until then all of them share one."""
WARM_UP: Final = 0.1
"""Seconds of work before a round counts."""
MOST_KEPT: Final = 0.05
"""What the bookkeeping of sessions may cost, as a share of the speed without it."""


class Done(NamedTuple):
    """What one side did in one turn."""

    operations: int
    seconds: float
    latencies: list[float]
    """The microseconds of each operation, where those are what is measured."""


Work: TypeAlias = Callable[[float], Done]
"""Works for so many seconds."""
Start: TypeAlias = Callable[[], AbstractContextManager[Any]]
"""Starts a server and returns its blocking manager, as a context manager."""


class Workload(NamedTuple):
    """What is measured, on which two sides, and what is wanted."""

    name: str
    title: str
    unit: str
    """Either "us" for each operation, of which less is better, or "ops/s"."""
    pinned: bool
    """Whether client and server share one core: a wake-up on another one costs more than a call,
    and whether it does is the scheduler's mood. Operations are then counted per second of that
    core's time, as other programs may use it too."""
    sides: tuple[str, str]
    starts: tuple[Start, Start]
    works: tuple[Callable[[Any], AbstractContextManager[Work]], ...]
    floor: float | None
    """The speed of the first side, over that of the second, that is wanted at least."""


# What is started: servers with a blocking manager


def _ours() -> AbstractContextManager[Any]:
    from aiomanager import sync

    return sync.Manager()


def _theirs() -> AbstractContextManager[Any]:
    return multiprocessing.Manager()


@contextmanager
def _keeping() -> Generator[Any]:
    """Start a server by a fork; otherwise as `_ours`."""
    from aiomanager import sync  # not before what `_forgetting` does

    there, here = multiprocessing.Pipe()
    process = _fork().Process(target=_serve, args=(there, os.getpid()))
    process.start()
    try:
        with sync.connect(here.recv()) as manager:
            yield manager
    finally:
        process.terminate()
        process.join()


@contextmanager
def _forgetting() -> Generator[Any]:
    """As `_keeping`, but neither side of a session counts or keeps anything."""
    from aiomanager.cli.forgetful import forget_everything

    forget_everything()
    with _keeping() as manager:
        yield manager


def _serve(pipe: "Connection[str, None]", parent: int) -> None:
    import tempfile

    from aiomanager.protocol.address import Address
    from aiomanager.server.process import run_server, serve

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with tempfile.TemporaryDirectory(prefix="aiomanager-bench-") as directory:
        run_server(
            serve(
                Address("unix", path=f"{directory}/s"),
                key=None,
                explicit_key=False,
                types=(),
                parent=parent,
                on_ready=lambda address: pipe.send(address.url),
            )
        )


def _fork() -> Any:
    return multiprocessing.get_context("fork")


# What is done: the same words for both sides where the API has them


@contextmanager
def _latency(manager: Any) -> Generator[Work]:
    """Set and get one key of a dict, and time each pair."""
    shared = manager.dict()
    numbers = count()

    def work(seconds: float) -> Done:
        clock = time.perf_counter
        found: list[float] = []
        begin = before = clock()
        end = before + seconds
        while before < end:
            shared["k"] = next(numbers)
            shared.get("k")
            after = clock()
            found.append((after - before) * 5e5)
            before = after
        return Done(len(found) * 2, before - begin, found)

    yield work


@contextmanager
def _queue(manager: Any) -> Generator[Work]:
    """Put an item in a queue and get it."""
    shared = manager.Queue()
    numbers = count()

    def work(seconds: float) -> Done:
        clock = time.perf_counter
        done = 0
        begin = now = clock()
        end = begin + seconds
        while now < end:
            shared.put(next(numbers))
            shared.get()
            done += 2
            now = clock()
        return Done(done, now - begin, [])

    yield work


@contextmanager
def _processes(manager: Any) -> Generator[Work]:
    """Set and get a key of one dict, a key for each process, by several processes at a time."""
    shared = manager.dict()
    context = _fork()
    with ExitStack() as stack:
        pipes: list[Connection[Any, Any]] = []
        for number in range(PROCESSES):
            here, there = context.Pipe()
            process = context.Process(target=_one_of_many, args=(here, there, shared, f"k{number}"))
            process.start()
            there.close()
            stack.callback(process.join)
            stack.callback(_tell, here, None)
            pipes.append(here)

        def work(seconds: float) -> Done:
            begin = time.monotonic() + 0.01
            for pipe in pipes:
                _tell(pipe, (begin, seconds))
            found: list[Done] = [_received(pipe) for pipe in pipes]
            operations, took, _ = zip(*found, strict=True)
            return Done(sum(operations), fmean(took), [])

        yield work


def _one_of_many(
    others: "Connection[Any, Any]", pipe: "Connection[Any, Any]", shared: Any, key: str
) -> None:
    others.close()  # else the end of the others would not be seen here
    numbers = count()
    clock = time.monotonic  # one clock for all processes
    try:
        for begin, seconds in _orders(pipe):
            shared.get(key)  # connects the first time
            time.sleep(max(begin - clock(), 0))
            done = 0
            end = begin + seconds
            while (now := clock()) < end:
                shared[key] = next(numbers)
                shared.get(key)
                done += 2
            _tell(pipe, Done(done, now - begin, []))
    except Exception as error:
        _tell(pipe, error)


@contextmanager
def _tasks_of_ours(manager: Any) -> Generator[Work]:
    """Set and get a key of one dict, a key for each task, by many tasks on one connection."""
    import aiomanager
    from aiomanager.objects.dict import DictProxy

    numbers = count()
    with _loop() as loop:
        joined = aiomanager.connect(manager.url)
        loop.run_until_complete(joined.start())
        shared: DictProxy[str, int] = loop.run_until_complete(joined.dict())

        async def task(key: str, end: float) -> int:
            done = 0
            while time.perf_counter() < end:
                await shared.set(key, next(numbers))
                await shared.get(key)
                done += 2
            return done

        yield lambda seconds: _run_tasks(loop, task, seconds)
        loop.run_until_complete(joined.aclose())


@contextmanager
def _tasks_of_theirs(manager: Any) -> Generator[Work]:
    """Set and get a key of one dict, a key for each task, as async code does with the stdlib:
    in the loop's own threads. A pool of more of them was slower, as was one of 100."""
    shared = manager.dict()
    numbers = count()

    async def task(key: str, end: float) -> int:
        done = 0
        while time.perf_counter() < end:
            await asyncio.to_thread(shared.__setitem__, key, next(numbers))
            await asyncio.to_thread(shared.get, key)
            done += 2
        return done

    with _loop() as loop:
        yield lambda seconds: _run_tasks(loop, task, seconds)


@contextmanager
def _loop() -> Generator[asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        loop = asyncio.new_event_loop()
    else:
        loop = uvloop.new_event_loop()
    try:
        yield loop
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def _run_tasks(
    loop: asyncio.AbstractEventLoop,
    task: Callable[[str, float], Coroutine[Any, Any, int]],
    seconds: float,
) -> Done:
    async def run() -> Done:
        begin = time.perf_counter()
        done = await asyncio.gather(
            *(task(f"k{number}", begin + seconds) for number in range(TASKS))
        )
        return Done(sum(done), time.perf_counter() - begin, [])

    return loop.run_until_complete(run())


_PEERS = ("aiomanager", "multiprocessing")
_KEPT = ("with", "without")
WORKLOADS: Final = (
    Workload(
        "client",
        "one blocking client: set and get, p50, on one core",
        "us",
        True,
        _PEERS,
        (_ours, _theirs),
        (_latency, _latency),
        1.35,
    ),
    Workload(
        "client-anywhere",
        "one blocking client: set and get, p50, on whatever cores",
        "us",
        False,
        _PEERS,
        (_ours, _theirs),
        (_latency, _latency),
        None,  # where the scheduler puts the two is its mood
    ),
    Workload(
        "processes",
        f"{PROCESSES} blocking processes: set and get",
        "ops/s",
        False,
        _PEERS,
        (_ours, _theirs),
        (_processes, _processes),
        1.8,
    ),
    Workload(
        "tasks",
        f"{TASKS} tasks of one async client: set and get",
        "ops/s",
        False,
        _PEERS,
        (_ours, _theirs),
        (_tasks_of_ours, _tasks_of_theirs),
        10.0,
    ),
    Workload(
        "queue",
        "one blocking client: put and get of a queue, on one core",
        "ops/s",
        True,
        _PEERS,
        (_ours, _theirs),
        (_queue, _queue),
        1.4,
    ),
    Workload(
        "kept-client",
        "bookkeeping: one blocking client, p50, on one core",
        "us",
        True,
        _KEPT,
        (_keeping, _forgetting),
        (_latency, _latency),
        1 - MOST_KEPT,
    ),
    Workload(
        "kept-processes",
        f"bookkeeping: {PROCESSES} blocking processes, on one core",
        "ops/s",
        True,
        _KEPT,
        (_keeping, _forgetting),
        (_processes, _processes),
        1 - MOST_KEPT,
    ),
    Workload(
        "kept-tasks",
        f"bookkeeping: {TASKS} tasks of one async client, on one core",
        "ops/s",
        True,
        _KEPT,
        (_keeping, _forgetting),
        (_tasks_of_ours, _tasks_of_ours),
        1 - MOST_KEPT,
    ),
    Workload(
        "kept-queue",
        "bookkeeping: a queue, whose items are confirmed one by one",
        "ops/s",
        True,
        _KEPT,
        (_keeping, _forgetting),
        (_queue, _queue),
        None,
    ),
)


# How it is measured


class _Side:
    """One side of a round: a process of its own that works when it is told to."""

    def __init__(self, workload: Workload, number: int) -> None:
        context = _fork()
        self._pipe, there = cast("tuple[Connection[Any, Any], Any]", context.Pipe())
        self._process = context.Process(target=_be_side, args=(self._pipe, there, workload, number))
        self._process.start()
        there.close()

    def work(self, seconds: float) -> list[float]:
        """Have it work for so long; return what it measured, in the workload's unit."""
        _tell(self._pipe, seconds)
        return cast("list[float]", _received(self._pipe))

    def end(self) -> None:
        """Let it end with all that it started."""
        _tell(self._pipe, None)
        self._process.join()


def _be_side(
    others: "Connection[Any, Any]", pipe: "Connection[Any, Any]", workload: Workload, number: int
) -> None:
    others.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent, and that this
    if workload.pinned and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # what it starts inherits that
    try:
        with (
            workload.starts[number]() as manager,
            workload.works[number](manager) as work,
        ):
            for seconds in _orders(pipe):
                before = _core_time() if workload.pinned else 0.0
                done = work(seconds)
                after = _core_time() if before else 0.0
                spent = after - before if after else done.seconds
                _tell(pipe, done.latencies or [done.operations / spent])
    except Exception as error:
        _tell(pipe, error)


def _core_time() -> float:
    """Return the seconds for which this process and all that it started have run, 0 if unknown.

    All others must be waiting: what they run at the moment is not counted yet.
    """
    try:
        others = sum(_run_time(pid) for pid in _descendants(os.getpid()))
    except OSError:
        return 0.0
    return time.process_time() + others / 1e9


def _descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield int(child)
            yield from _descendants(int(child))


def _run_time(pid: int) -> int:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


# A process of the benchmark is told what to do through a pipe, None at the end. It also ends when
# the process at the other end does, however that happens.


def _orders(pipe: "Connection[Any, Any]") -> Iterator[Any]:
    while True:
        try:
            order = pipe.recv()
        except (EOFError, OSError):
            return
        if order is None:
            return
        yield order


def _tell(pipe: "Connection[Any, Any]", what: object) -> None:
    try:
        pipe.send(what)
    except OSError:
        pass


def _received(pipe: "Connection[Any, Any]") -> Any:
    try:
        answer = pipe.recv()
    except (EOFError, OSError):
        raise UserError(
            "a process of the benchmark ended early; its error output says why"
        ) from None
    if isinstance(answer, Exception):
        raise UserError(f"the benchmark failed: {type(answer).__name__}: {answer}")
    return answer


def _round(workload: Workload, seconds: float) -> tuple[float, float]:
    """Return what both sides reached, in the workload's unit."""
    with ExitStack() as stack:
        sides: list[_Side] = []
        for number in (0, 1):
            side = _Side(workload, number)
            stack.callback(side.end)
            sides.append(side)
        for side in sides:
            side.work(min(WARM_UP, seconds))
        found: tuple[list[float], list[float]] = ([], [])
        turns = TURNS if workload.pinned else LONG_TURNS
        length = seconds / turns * (1 if workload.pinned else LONGER)
        for turn in range(turns):
            for number in (0, 1) if turn % 2 == 0 else (1, 0):
                found[number].extend(sides[number].work(length))
    # Of the calls, or of the turns: what else the machine does comes in bursts.
    return median(found[0]), median(found[1])


def _measured(workload: Workload, rounds: int, seconds: float) -> dict[str, Any]:
    results = [_round(workload, seconds) for _ in range(rounds)]
    ratios = [
        second / first if workload.unit == "us" else first / second for first, second in results
    ]
    ratio = median(ratios)
    return {
        "name": workload.name,
        "title": workload.title,
        "unit": workload.unit,
        "pinned": workload.pinned,
        "sides": dict(
            zip(workload.sides, (median(side) for side in zip(*results, strict=True)), strict=True)
        ),
        "ratio": ratio,
        "spread": [min(ratios), max(ratios)],
        "floor": workload.floor,
        "reached": None if workload.floor is None else ratio >= workload.floor,
        "rounds": [list(result) for result in results],
    }


def _machine() -> dict[str, Any]:
    from importlib.metadata import PackageNotFoundError, version

    def of(package: str) -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:
            return None

    import aiomanager

    return {
        "cpus": os.cpu_count(),
        "usable_cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "load": os.getloadavg()[0],
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "aiomanager": aiomanager.__version__,
        "uvloop": of("uvloop"),
        "msgpack": of("msgpack"),
    }


# How it is said


def _number(value: float, unit: str) -> str:
    return f"{value:.1f} us" if unit == "us" else f"{value:,.0f}/s"


def _table(machine: dict[str, Any], results: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield (
        f"{machine['python']}, uvloop {machine['uvloop'] or 'not installed'}, "
        f"msgpack {machine['msgpack']}, {machine['system']}, {machine['usable_cpus']} of "
        f"{machine['cpus']} CPUs, load {machine['load']:.1f} before"
    )
    if machine["load"] > (machine["usable_cpus"] or 1) / 2:
        yield "The machine was busy with something else: what needs several CPUs says little."
    for sides, heads in ((_PEERS, ("aiomanager", "stdlib", "faster")), (_KEPT, (*_KEPT, "cost"))):
        rows = [result for result in results if tuple(result["sides"]) == sides]
        if not rows:
            continue
        width = max(len(row["title"]) for row in rows)
        yield ""
        yield f"{'':{width}}  {heads[0]:>12} {heads[1]:>12} {heads[2]:>8}  {'rounds':^15}  wanted"
        for row in rows:
            first, second = (_number(row["sides"][side], row["unit"]) for side in sides)
            low, high = row["spread"]
            if sides is _PEERS:
                ratio, spread = f"{row['ratio']:.2f}x", f"{low:.2f} .. {high:.2f}"
                wanted = "" if row["floor"] is None else f">= {row['floor']:g}x"
            else:
                ratio = f"{_cost(row['ratio']):.1f} %"
                spread = f"{_cost(high):.1f} .. {_cost(low):.1f}"
                wanted = "" if row["floor"] is None else f"<= {_cost(row['floor']):g} %"
            missed = "  MISSED" if row["reached"] is False else ""
            yield (
                f"{row['title']:{width}}  {first:>12} {second:>12} {ratio:>8}  {spread:^15}  "
                f"{wanted}{missed}"
            )


def _cost(ratio: float) -> float:
    return round((1 - ratio) * 100, 6)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument(
        "--seconds",
        type=_positive(float),
        default=0.3,
        metavar="S",
        help="how long each side works in a round of a workload on one core, and "
        f"{LONGER} times as long on several (default: 0.3)",
    )
    parser.add_argument(
        "--rounds",
        type=_positive(int),
        default=5,
        metavar="N",
        help="rounds of each workload, each with new servers (default: 5)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, no table")
    parser.add_argument(
        "--only",
        action="extend",
        nargs="+",
        default=[],
        metavar="WORKLOAD",
        choices=[workload.name for workload in WORKLOADS],
        help="measure only these: " + ", ".join(workload.name for workload in WORKLOADS),
    )
    parser.add_argument(
        "--check", action="store_true", help="exit with code 1 if less is reached than is wanted"
    )


def _positive(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        value = kind(text)
        if not 0 < value < 1e6:
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    parse.__name__ = "number"
    return parse


def execute(options: argparse.Namespace) -> int:
    """Measure, print, and return the exit code."""
    if "fork" not in multiprocessing.get_all_start_methods():
        raise UserError("the benchmark needs os.fork(), which this system does not have")
    chosen = [w for w in WORKLOADS if not options.only or w.name in options.only]
    machine = _machine()
    results: list[dict[str, Any]] = []
    for workload in chosen:
        if sys.stderr.isatty():
            print(f"\r\x1b[K{workload.title} ...", end="", file=sys.stderr, flush=True)
        results.append(_measured(workload, options.rounds, options.seconds))
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    if options.json:
        settings = {"rounds": options.rounds, "seconds": options.seconds}
        print(
            json.dumps({"machine": machine, "settings": settings, "workloads": results}, indent=2)
        )
    else:
        print("\n".join(_table(machine, results)))
    missed = [result["name"] for result in results if result["reached"] is False]
    if options.check and missed:
        print(f"aiomanager bench: missed what is wanted: {', '.join(missed)}", file=sys.stderr)
        return 1
    return 0
