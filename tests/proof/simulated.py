"""The simulated network, seed after seed, until so many things have gone wrong in it.

What goes wrong: a connection is cut, a client is killed, a session expires, a call is cancelled.
Everything is decided by the seed; a broken promise is found again with it alone.
"""

from collections import Counter

from sessions.simulation import simulate

from .campaign import Report

__all__ = ("simulation",)

FAULTS = ("cuts", "killed", "sessions lost", "undone", "completed", "never")
"""The last three are calls that were cancelled: in time, too late, before they were sent."""


def simulation(count: int, seed: int) -> Report:
    """Simulate until so many faults have happened; the seeds are `seed` and those behind it."""
    report = Report("simulation", count, seed)
    facts: Counter[str] = Counter()
    first = seed
    with report.watched():
        while sum(facts[fault] for fault in FAULTS) < count:
            try:
                facts += simulate(seed)
            except Exception as error:
                notes = " ".join(getattr(error, "__notes__", ()))
                report.violations.append(f"seed {seed}: {type(error).__name__}: {error} {notes}")
                if len(report.violations) > 100:
                    break
            seed += 1
    report.done = facts
    report.figures["faults"] = sum(facts[fault] for fault in FAULTS)
    report.figures["seeds"] = f"{first} to {seed - 1}"
    return report
