"""Signal handlers that raise inside blocking calls: nothing is lost, and each answer is one's own.

The interpreter runs handlers in the main thread, so this campaign runs there. Rivals in another
thread, with a session of their own, put items and release locks while the main thread waits.
"""

import gc
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from types import FrameType
from typing import Any

import aiomanager.sync
from aiomanager.errors import Empty

from .campaign import SECONDS, Report, until

__all__ = ("signals",)

NOTHING: Any = object()
"""Stands for the result of a call that was interrupted."""
PERMITS = 1


class Interrupt(Exception):
    """What the handler raises, once for each time it is armed, or KeyboardInterrupt, again."""


class _Alarm:
    """Interrupts calls at random moments."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._left = 0
        self._raises: type[BaseException] = Interrupt
        self.count = 0

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if self._left > 0:
            self._left -= 1
            self.count += 1
            raise self._raises

    def during(self, call: Callable[[], Any], longest: float = 4e-4) -> Any:
        """Return the result of a call, or NOTHING if it was interrupted."""
        # The next one comes while the first is being dealt with.
        again = self._random.random() < 0.3
        self._raises = KeyboardInterrupt if again else Interrupt
        result = NOTHING
        try:
            self._left = 3 if again else 1
            signal.setitimer(
                signal.ITIMER_REAL,
                self._random.uniform(1e-6, longest),
                self._random.uniform(2e-5, 8e-4) if again else 0,
            )
            result = call()
            # Between the return and here nothing is called, so that no handler runs.
            self._left = 0
        except (Interrupt, KeyboardInterrupt):
            self._left = 0
        signal.setitimer(signal.ITIMER_REAL, 0)
        return result


@contextmanager
def _armed(random: Random) -> Iterator[_Alarm]:
    alarm = _Alarm(random)
    hook, sys.unraisablehook = sys.unraisablehook, lambda unraisable: None
    handler = signal.signal(signal.SIGALRM, alarm)
    try:
        yield alarm
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        gc.collect()  # while nobody minds what interrupts left to finalizers
        sys.unraisablehook = hook


class _Rival:
    """Uses the same objects, from another thread."""

    def __init__(self, url: str, seed: int) -> None:
        self._random = Random(f"{seed} rival")
        self._over = threading.Event()
        self.put: list[int] = []
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(url,))
        self._thread.start()

    def _run(self, url: str) -> None:
        try:
            with aiomanager.sync.connect(url) as manager:
                it = _find(manager)
                while not self._over.wait(self._random.uniform(0.0, 4e-4)):
                    if it["q"].qsize() < 3:
                        self.put.append(len(self.put))
                        it["q"].put(self.put[-1])
                    for name in ("lock", "rlock", "permits"):
                        if it[name].acquire(False):
                            self._over.wait(self._random.uniform(0.0, 3e-4))
                            it[name].release()
                    if it["condition"].acquire(False):
                        it["condition"].notify_all()
                        it["condition"].release()
                    it["event"].set()
                    it["event"].clear()
        except Exception as error:
            self.error = error

    def stop(self) -> bool:
        """End it; return whether it came to its end."""
        self._over.set()
        self._thread.join(SECONDS)
        return not self._thread.is_alive()


def _find(manager: aiomanager.sync.Manager) -> dict[str, Any]:
    named = manager.named
    return {
        "q": named.Queue("q"), "d": named.dict("d"), "lock": named.Lock("lock"),
        "rlock": named.RLock("rlock"), "permits": named.Semaphore("permits", PERMITS),
        "condition": named.Condition("condition"), "event": named.Event("event"),
    }  # fmt: skip


class _Program:
    """What the main thread does, and what it was told."""

    def __init__(self, report: Report, it: dict[str, Any], alarm: _Alarm, random: Random) -> None:
        self.report = report
        self.it = it
        self.alarm = alarm
        self.random = random
        self.got: list[int] = []
        self.number = 0
        self.low = self.high = 0

    def step(self) -> None:
        """Have one call interrupted, and make others, whose answers must be their own."""
        what = self.random.choice(
            (self.get, self.count, self.hold, self.sleep, self.wait, self.set_item)
        )
        what()
        self.number += 1
        self.it["d"]["k"] = self.number
        found = self.it["d"]["k"]
        self.report.expect(found == self.number, f"{found} is the answer of another call")
        self.report.done[what.__name__] += 1

    def get(self) -> None:
        item = self.alarm.during(self.it["q"].get, 6e-4)
        if item is not NOTHING:
            if not self.report.expect(isinstance(item, int), f"{item!r} is no item"):
                return
            self.got.append(item)

    def count(self) -> None:
        total = self.alarm.during(lambda: self.it["d"].increment("n"))
        self.high += 1
        if total is NOTHING:
            total = self.it["d"].get("n", 0)
        else:
            self.low += 1
        right = self.low <= total <= self.high
        self.report.expect(right, f"{self.low} to {self.high} increments came to {total}")
        self.low = self.high = total

    def hold(self) -> None:
        name = self.random.choice(("lock", "rlock", "permits"))
        it = self.it[name]
        if self.alarm.during(it.acquire) is NOTHING:
            # Had it been left with this thread, the rival would never have it again.
            if not self.report.expect(it.acquire(timeout=SECONDS), f"leaked: {name}"):
                return
            self.report.done["interrupted while acquiring"] += 1
        it.release()

    def sleep(self) -> None:
        condition = self.it["condition"]
        with condition:
            self.alarm.during(condition.wait)
            # It is held again, however the wait ended: else this raises, and so does its exit.
            condition.notify()

    def wait(self) -> None:
        found = self.alarm.during(self.it["event"].wait)
        self.report.expect(found in (True, NOTHING), f"{found!r} is no answer of a wait")

    def set_item(self) -> None:
        d, old, new = self.it["d"], self.it["d"].get("s"), f"value {self.number}"
        done = self.alarm.during(lambda: d.set("s", new)) is not NOTHING
        found = d["s"] if done else d.get("s")
        self.report.expect(found == new or (not done and found == old), f"{found!r} was not set")


def signals(count: int, seed: int) -> Report:
    """Interrupt at least so many calls; returns when the handler has raised so often."""
    report = Report("signals", count, seed)
    random = Random(seed)
    with report.watched(), aiomanager.sync.Manager() as manager, _armed(random) as alarm:
        it = _find(manager)
        program = _Program(report, it, alarm, random)
        rival = _Rival(manager.url, seed)
        try:
            while alarm.count < count and not report.violations and rival.error is None:
                program.step()
        finally:
            ended = rival.stop()
        report.expect(ended, "stuck: the rival")
        report.expect(rival.error is None, f"the rival: {rival.error!r}")
        report.figures["handlers that raised"] = alarm.count
        rest: list[int] = []
        try:
            while True:
                rest.append(it["q"].get(timeout=0.0))
        except Empty:
            pass
        report.check_items(rival.put, [*program.got, *rest])
        # Where an item that was taken back came in again, it came before those put later.
        in_order = [*program.got, *rest] == rival.put
        report.expect(in_order, "items are not at their old places")
        leaked = [name for name in ("lock", "rlock", "condition") if it[name].locked()]
        leaked += ["permits"] * (it["permits"].value() != PERMITS)
        report.figures["leaked"] = len(leaked)
        report.expect(not leaked, f"leaked: {leaked}")
        until(lambda: manager.statistics()["waiting"] == 0, "calls wait that nobody makes")
    return report
