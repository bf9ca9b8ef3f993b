"""Clients and workers that are killed: what they held is free at once, what they had comes back.

How long a lock stays with the dead is measured from before SIGKILL until the next one has it, in
another process's blocking call, and reported. How long it may take is the machine's affair as
well: what is asserted is a bound that only a lost session's grace would exceed.
"""

import json
import os
import select
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.process import BaseProcess
from random import Random
from typing import Any

import aiomanager.sync

from . import victims
from .campaign import SECONDS, Report, fork_server, percentiles, until

__all__ = ("kills",)

BOUND = 4.0
"""Seconds after which what the dead held must be free; without a watch on its process, a session
is kept for longer."""
AIM = 100.0  # milliseconds, on one machine

context = fork_server()


class _Victim:
    """A process and the pipe on which it says what it does."""

    def __init__(self, target: Any, *arguments: Any) -> None:
        self._reader, writer = context.Pipe(duplex=False)
        self._target = target
        self.process: BaseProcess = context.Process(target=_enter, args=(writer, target, arguments))
        self.process.start()
        writer.close()
        self._rest = b""

    def first(self) -> Any:
        """Return the first thing that it says."""
        deadline = time.monotonic() + SECONDS
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self._reader], [], [], deadline - time.monotonic())
            if not ready:
                raise AssertionError("stuck: a victim does not get ready")
            data = os.read(self._reader.fileno(), 1 << 16)
            if not data:
                raise AssertionError("a victim ended by itself")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)

    def kill(self) -> float:
        """Kill it; return when."""
        now = time.monotonic()
        self.process.kill()
        return now

    def rest(self) -> list[Any]:
        """Return all else that it said, once it is dead."""
        self.process.join(SECONDS)
        while data := os.read(self._reader.fileno(), 1 << 16):
            self._rest += data
        self._reader.close()
        return [json.loads(line) for line in self._rest.splitlines()]


def _enter(writer: Any, target: Any, arguments: tuple[Any, ...]) -> None:
    target(writer.fileno(), *arguments)


class _Next:
    """Who waits for what the victims hold, in a thread with a session of its own."""

    def __init__(self, url: str) -> None:
        self.manager = aiomanager.sync.connect(url)

    def wait(self, kind: str, name: str, then: Callable[[], float]) -> float | None:
        """Wait for something; kill who has it; return after how many seconds it was free."""
        it: Any = getattr(self.manager.named, kind)(name)
        got: list[float] = []

        def acquire() -> None:
            if it.acquire(timeout=BOUND):
                got.append(time.monotonic())
                it.release()

        thread = threading.Thread(target=acquire)
        thread.start()
        until(lambda: it.waiting() == 1 or got, "nobody waits")
        if got:
            return None
        killed = then()
        thread.join(SECONDS)
        return got[0] - killed if got else BOUND

    def close(self) -> None:
        self.manager.close()


def _holders(report: Report, url: str, count: int, random: Random) -> None:
    """Kill those who hold something, also parents and those with children."""
    waiter = _Next(url)
    times: dict[str, list[float]] = {}
    hows = ("alone", "depth", "socket", "parent")
    for number in range(count):
        how, kind = random.choice(hows), random.choice(victims.HOLDS)
        name = f"held {number}"
        if how == "parent":
            victim = _Victim(victims.hold_in_a_child, url, kind, name)
        else:
            victim = _Victim(victims.hold, url, kind, name, how)
        child = victim.first()["child"]
        try:
            seconds = waiter.wait(kind, name, victim.kill)
            if how == "parent":
                theirs = waiter.manager.named.Lock(f"{name}, the child's")
                report.expect(theirs.locked(), f"{name}: a living child's lock is free")
                os.kill(child, signal.SIGKILL)
                report.done["killed children"] += 1
                began = time.monotonic()
                if report.expect(theirs.acquire(timeout=BOUND), f"{name}: the child's is held"):
                    times.setdefault("child", []).append(1000 * (time.monotonic() - began))
                    theirs.release()
        finally:
            if child:
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            victim.kill()
            victim.rest()
        report.done[f"killed holders: {how}"] += 1
        if report.expect(seconds is not None, f"{name}: {kind} was free while its holder lived"):
            assert seconds is not None
            times.setdefault(how, []).append(1000 * seconds)
            report.expect(seconds < BOUND, f"{name}: {kind} stays held ({how})")
        for more in ("", ", the child's", ", ready"):
            with suppress(KeyError):
                waiter.manager.delete(name + more)
    waiter.close()
    everything = sorted(time for some in times.values() for time in some)
    report.figures["milliseconds until free"] = percentiles(everything)
    report.figures["by kind of death"] = {how: percentiles(some) for how, some in times.items()}
    report.figures[f"over {AIM:.0f} ms"] = sum(time > AIM for time in everything)


def _workers(report: Report, url: str, count: int, random: Random) -> None:
    """Kill workers that take items from one queue and put results into another."""
    with aiomanager.sync.connect(url) as manager:
        work, results = manager.named.Queue("work"), manager.named.Queue("results")
        put = 0
        pool = [_Victim(victims.use_queues, url, number) for number in range(3)]
        for victim in pool:
            victim.first()
        noted: list[tuple[int, bool]] = []
        done: list[int] = []

        def bury(victim: _Victim) -> None:
            victim.kill()
            noted.extend((item, redelivered) for item, redelivered in victim.rest())
            report.done["killed workers"] += 1

        for number in range(count):
            at = random.randrange(len(pool))
            deadline = time.monotonic() + random.uniform(0.0, 0.02)
            while time.monotonic() < deadline:
                if work.qsize() < 100:
                    work.put_many(range(put, put + 100))
                    put += 100
                if some := results.qsize():
                    done += [item for item, _ in results.get_many(some)]
            bury(pool[at])
            pool[at] = _Victim(victims.use_queues, url, number)
            pool[at].first()
        until(lambda: not work.qsize(), "the last workers do not take what is left")
        until(lambda: manager.statistics()["waiting"] == len(pool), "a worker does not come back")
        for victim in pool:
            bury(victim)
        until(lambda: manager.statistics()["sessions"] <= 2, "the dead have sessions")
        done += [item for item, _ in results.get_many(results.qsize())] if results.qsize() else []
        left = [work.get_delivery(timeout=SECONDS) for _ in range(work.qsize())]
        times = Counter(item for item, _ in [*noted, *left])
        marked = {item for item, redelivered in [*noted, *left] if redelivered}
        again = {item for item, number in times.items() if number > 1}
        report.figures["items"] = put
        report.figures["redelivered"] = len(marked)
        report.figures["worked on twice"] = len(again)
        report.expect(again <= marked, f"twice without a mark: {sorted(again - marked)[:20]}")
        # get() may have returned it, and its process was killed before it could say so: then it
        # is the dead one's, and each of those has one at most.
        missing = set(range(put)) - set(times)
        report.figures["gone with a worker that had it"] = len(missing)
        report.expect(len(missing) <= report.done["killed workers"], f"lost: {len(missing)} items")
        # A result is put after the item was noted; one is on its way at most when its worker dies.
        results_of = Counter(done)
        report.expect(
            all(results_of[item] <= times[item] for item in results_of), "a result came twice"
        )
        unfinished = (Counter([item for item, _ in noted]) - results_of).total()
        report.expect(unfinished <= report.done["killed workers"], f"{unfinished} results are lost")
        report.figures["in work when killed"] = unfinished


def kills(count: int, seed: int) -> Report:
    """Kill so many processes, one half of them holders of something, the other workers."""
    report = Report("kills", count, seed)
    random = Random(seed)
    with report.watched(), aiomanager.sync.Manager() as manager:
        _holders(report, manager.url, (count + 1) // 2, random)
        _workers(report, manager.url, count // 2, random)
        report.expect(manager.statistics()["waiting"] == 0, "somebody still waits")
    return report
