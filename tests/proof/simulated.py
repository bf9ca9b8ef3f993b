"""The simulated network, seed after seed, until so many things have gone wrong in it.

What goes wrong: a connection is cut, a client is killed, a session expires, a call is cancelled.
Everything is decided by the seed; a broken promise is found again with it alone. Now and then it
tells on the error output how far it is, and from where it could go on.
"""

import sys
import time
from collections import Counter

from sessions.simulation import simulate

from .campaign import Report

__all__ = ("simulation",)

FAULTS = ("cuts", "killed", "sessions lost", "undone", "completed", "never")
"""The last three are calls that were cancelled: in time, too late, before they were sent."""
EVERY = 20.0
"""Seconds between two lines of progress."""


def simulation(count: int, seed: int) -> Report:
    """Simulate until so many faults have happened; the seeds are `seed` and those behind it."""
    report = Report("simulation", count, seed)
    facts: Counter[str] = Counter()
    faults, first, told = 0, seed, time.monotonic()
    with report.watched():
        while faults < count:
            try:
                facts.update(simulate(seed))
            except Exception as error:
                notes = " ".join(getattr(error, "__notes__", ()))
                report.violations.append(f"seed {seed}: {type(error).__name__}: {error} {notes}")
                _tell(report.violations[-1])
                if len(report.violations) > 100:
                    break
            seed += 1
            faults = sum(facts[fault] for fault in FAULTS)
            if time.monotonic() - told > EVERY:
                told = time.monotonic()
                broken = len(report.violations)
                _tell(f"{faults:,} of {count:,} faults, {broken} violations; next seed {seed}")
    report.done = facts
    report.figures["faults"] = faults
    report.figures["seeds"] = f"{first} to {seed - 1}"
    return report


def _tell(what: str) -> None:
    print(f"simulation: {what}", file=sys.stderr, flush=True)
