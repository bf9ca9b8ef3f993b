"""What child processes do in recorded histories: they call, and note what they were told.

A note is one write to a file that all of them append to, so that one who is killed leaves all
that it was told. Times are of the clock that all processes of the machine have in common.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from random import Random
from types import FrameType
from typing import Any, NamedTuple

import anyio

import aiomanager
import aiomanager.sync
from aiomanager.errors import ConnectionLost, Empty, Full, NotOwner

__all__ = ("KINDS", "Job", "Notes", "Player", "bound", "find", "obey", "told")

KINDS = ("register", "cas", "queue", "lock", "rlock", "semaphore")


class Job(NamedTuple):
    """What one process is to do in one history."""

    label: str
    style: str
    """solo: one thread, which signals interrupt. threads: some. async: some tasks."""
    kind: str
    name: str
    url: str
    key: bytes | None
    path: str
    seed: int
    calls: int
    """How many calls each thread or task makes."""
    many: int
    backend: str


class Interrupt(Exception):
    """Raised by a signal handler inside a blocking call."""


class Notes:
    """The file of one history."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def begin(self, who: str, name: str, arguments: tuple[Any, ...]) -> None:
        self._write({"who": who, "name": name, "arguments": arguments})

    def end(self, who: str, outcome: str, result: Any = None) -> None:
        self._write({"who": who, "outcome": outcome, "result": result})

    def _write(self, note: dict[str, Any]) -> None:
        # Before a call the time is taken late and behind it early: no call seems shorter than it
        # was only if it is the other way round, so the note of a beginning is written before the
        # call, and that of an end after it.
        note["time"] = time.monotonic_ns()
        os.write(self._file, json.dumps(note).encode() + b"\n")

    def close(self) -> None:
        os.close(self._file)


class Player:
    """One thread or task: it decides what to call next, out of what it knows."""

    def __init__(self, job: Job, who: str) -> None:
        self.who = who
        self.kind = job.kind
        self.random = Random(f"{job.seed} {who}")
        self.held = 0
        self._number = 0

    def next(self) -> tuple[str, tuple[Any, ...]]:
        """Return a call as the checker names it."""
        dice = self.random.random()
        if self.kind == "register":
            return ("read", ()) if dice < 0.5 else ("write", (self.fresh(),))
        if self.kind == "cas":
            few = self.random.randrange(4), self.random.randrange(4)
            return ("read", ()) if dice < 0.2 else ("add", (1,)) if dice < 0.4 else ("cas", few)
        if self.kind == "queue":
            return ("put", (self.fresh(),)) if dice < 0.45 else ("get", ())
        if self.kind == "semaphore" and dice < 0.1:
            return "value", ()
        if self.kind != "semaphore" and dice < 0.1:
            return "locked", ()
        deep = self.held > (0 if self.kind == "lock" else 1)
        if deep or (self.held and dice < 0.6):
            return "release", ()
        return "acquire", ()

    def fresh(self) -> str:
        self._number += 1
        return f"{self.who}{self._number}"

    def learn(self, name: str, result: Any) -> None:
        """Take note of an answer."""
        if name == "acquire" and result:
            self.held += 1
        elif name == "release":
            self.held -= 1

    def certain(self, name: str) -> bool:
        """Tell whether a call must not be interrupted: who does not know whether a permit of his
        was released would release another's with the next call."""
        return self.kind == "semaphore" and name == "release"

    def last(self) -> list[tuple[str, tuple[Any, ...]]]:
        """Return the last calls: what is held is released, and what was cancelled is settled."""
        asks = {"queue": "size", "semaphore": "value", "lock": "locked", "rlock": "locked"}
        return [("release", ())] * self.held + [(asks.get(self.kind, "read"), ())]


def bound(kind: str, name: str, arguments: tuple[Any, ...], seconds: float | None) -> Any:
    """Return a function that makes a call on a proxy, of whichever face."""
    if kind in ("register", "cas"):
        method = {"read": "get", "write": "set", "cas": "compare_and_set", "add": "increment"}
        return lambda proxy: getattr(proxy, method[name])("k", *arguments)
    if kind == "queue":
        if name == "size":
            return lambda proxy: proxy.qsize()
        if name == "put":
            return lambda proxy: proxy.put(arguments[0], True, seconds)
        # Not by *arguments: behind such a call the interpreter lets signal handlers in, and what
        # the call has returned is lost if one of them raises.
        return lambda proxy: proxy.get_delivery(True, seconds)
    if name == "acquire" and kind != "semaphore":
        return lambda proxy: proxy.acquire_fenced(True, seconds)
    if name == "acquire":
        return lambda proxy: proxy.acquire(True, seconds)
    return lambda proxy: getattr(proxy, name)()


REFUSED: dict[type[Exception], str] = {
    Empty: "Empty",
    Full: "Full",
    NotOwner: "NotOwner",
    RuntimeError: "RuntimeError",
    ValueError: "ValueError",
}


def told(error: Exception) -> tuple[str, str | None]:
    """Return how a call ended that raised: its outcome, and the answer if it is one."""
    if isinstance(error, ConnectionLost):
        return "unknown", None
    for kind, name in REFUSED.items():
        if type(error) is kind:
            return "returned", name
    raise error


def _perform(
    proxy: Any, notes: Notes, player: Player, name: str, arguments: Any, interrupts: bool
) -> None:
    """Make one blocking call, which a signal may interrupt, and note it."""
    chance = interrupts and not player.certain(name) and player.random.random() < 0.25
    seconds = player.random.choice((0.0, 0.001, 0.01, 0.05))
    call = bound(player.kind, name, arguments, seconds)
    notes.begin(player.who, name, arguments)
    _once(lambda: call(proxy), notes, player, name, player.random.uniform(1e-5, 3e-3) * chance)


def _once(call: Callable[[], Any], notes: Notes, player: Player, name: str, alarm: float) -> None:
    try:
        try:
            if alarm:
                _alarms.armed = True
                signal.setitimer(signal.ITIMER_REAL, alarm)
            result = call()
            # No call between the return and here: no handler runs there.
            _alarms.armed = False
        finally:
            if alarm:
                _alarms.armed = False
                signal.setitimer(signal.ITIMER_REAL, 0)
    except Interrupt:
        notes.end(player.who, "cancelled")
        return
    except Exception as error:
        outcome, result = told(error)
        if outcome == "unknown":
            notes.end(player.who, outcome)
            player.held = 0
            return
    notes.end(player.who, "returned", result)
    player.learn(name, result)


class _Alarms:
    """The handler: it raises while a call is under way."""

    armed = False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if self.armed:
            self.armed = False
            raise Interrupt


_alarms = _Alarms()
_managers: dict[str, aiomanager.sync.Manager] = {}
FACTORIES = {
    "register": "dict", "cas": "dict", "queue": "Queue", "lock": "Lock", "rlock": "RLock",
    "semaphore": "BoundedSemaphore",
}  # fmt: skip
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "register": ({"k": 0},), "cas": ({"k": 0},), "queue": (4,), "semaphore": (2,),
}  # fmt: skip


def find(manager: Any, kind: str, name: str) -> Any:
    """Find or make the object of a history."""
    return getattr(manager.named, FACTORIES[kind])(name, *ARGUMENTS.get(kind, ()))


def _play_blocking(job: Job, who: str, proxy: Any, notes: Notes) -> None:
    player = Player(job, who)
    for _ in range(job.calls):
        _perform(proxy, notes, player, *player.next(), job.style == "solo")
    for name, arguments in player.last():
        _perform(proxy, notes, player, name, arguments, False)


async def _play_async(job: Job, who: str, proxy: Any, notes: Notes, all_of_them: Any) -> None:
    player = Player(job, who)
    all_of_them.append(player)
    for number in range(job.calls + 1):
        plan = [player.next()] if number < job.calls else player.last()
        for name, arguments in plan:
            limit = player.random.choice((None, None, 0.0, 0.0005, 0.003))
            seconds = player.random.choice((0.0, 0.001, 0.01, 0.05))
            if number == job.calls or player.certain(name):
                limit = None
            elif limit is not None:
                seconds = player.random.choice((None, 0.002))
            notes.begin(who, name, arguments)
            try:
                with anyio.move_on_after(limit) as scope:
                    result = await bound(job.kind, name, arguments, seconds)(proxy)
                if scope.cancelled_caught:
                    notes.end(who, "cancelled")
                    continue
            except Exception as error:
                outcome, result = told(error)
                if outcome == "unknown":
                    notes.end(who, outcome)
                    for other in all_of_them:  # they share the session
                        other.held = 0
                    continue
            notes.end(who, "returned", result)
            player.learn(name, result)


def _connect(job: Job) -> aiomanager.sync.Manager:
    """Connect; a first connection that is cut is nothing that could be resumed."""
    while True:
        with suppress(ConnectionLost):
            return aiomanager.sync.connect(job.url, authkey=job.key)


async def _connect_async(job: Job) -> aiomanager.Manager:
    while True:
        with suppress(ConnectionLost):
            return await aiomanager.connect(job.url, authkey=job.key).start()


async def _all_async(job: Job, notes: Notes) -> None:
    async with await _connect_async(job) as manager:
        proxy = await find(manager, job.kind, job.name)
        players: list[Player] = []
        async with anyio.create_task_group() as group:
            for number in range(job.many):
                who = f"{job.label}.{number}"
                group.start_soon(_play_async, job, who, proxy, notes, players)


def play(job: Job) -> None:
    """Do one job."""
    notes = Notes(job.path)
    try:
        if job.style == "async":
            anyio.run(partial(_all_async, job, notes), backend=job.backend)
            return
        manager = _managers.get(job.url)
        if manager is None:
            manager = _managers[job.url] = _connect(job)
        proxy = find(manager, job.kind, job.name)
        if job.style == "solo":
            _play_blocking(job, f"{job.label}.0", proxy, notes)
            return
        threads = [
            threading.Thread(target=_play_blocking, args=(job, f"{job.label}.{n}", proxy, notes))
            for n in range(job.many)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        notes.close()


def obey(pipe: Any) -> None:
    """Do the jobs that come through a pipe, until it closes."""
    signal.signal(signal.SIGALRM, _alarms)
    sys.unraisablehook = lambda unraisable: None  # an interrupt in a finalizer goes nowhere
    with suppress(EOFError):
        while True:
            job: Job = pipe.recv()
            try:
                play(job)
            except Exception as error:
                pipe.send(f"{job.label} ({job.style}): {type(error).__name__}: {error}")
            else:
                pipe.send(None)
