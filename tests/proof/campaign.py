"""What a campaign reports: what was done, what was measured, and every promise that was broken."""

import json
import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

__all__ = ("SECONDS", "Report", "fork_server", "percentiles", "until")

SECONDS = 60.0
"""How long anything may take before it counts as stuck; nothing comes near when all is well."""
SHOWN = 20


class Report:
    """The result of one campaign."""

    def __init__(self, campaign: str, count: int, seed: int) -> None:
        self.campaign = campaign
        self.count = count
        self.seed = seed
        self.done: Counter[str] = Counter()
        """How often what was done: a campaign in which nothing happens proves nothing."""
        self.figures: dict[str, Any] = {}
        self.violations: list[str] = []
        self.seconds = 0.0

    @contextmanager
    def watched(self) -> Iterator["Report"]:
        """Take the time, and take an exception for a violation."""
        began = time.monotonic()
        try:
            yield self
        except Exception as error:
            self.violations.append(f"{type(error).__name__}: {error}")
            error.add_note(f"campaign {self.campaign}, seed {self.seed}")
            raise
        finally:
            self.seconds = time.monotonic() - began

    def expect(self, held: object, broken: str) -> bool:
        """Note a broken promise unless `held`; return whether it was kept."""
        if not held:
            self.violations.append(broken)
        return bool(held)

    def check_items(self, put: Sequence[Any], got: Sequence[Any]) -> None:
        """Expect that everything that was put was got, once."""
        sent, received = Counter(put), Counter(got)
        lost, twice = sent - received, received - sent
        self.figures["lost"] = self.figures.get("lost", 0) + lost.total()
        self.figures["twice"] = self.figures.get("twice", 0) + twice.total()
        self.expect(not lost, f"lost: {sorted(lost)[:SHOWN]}")
        self.expect(not twice, f"twice: {sorted(twice)[:SHOWN]}")

    def as_json(self) -> str:
        """Return everything in one line."""
        return json.dumps(
            {
                "campaign": self.campaign,
                "count": self.count,
                "seed": self.seed,
                "ok": not self.violations,
                "seconds": round(self.seconds, 1),
                "done": dict(sorted(self.done.items())),
                "figures": self.figures,
                "violations": self.violations[:SHOWN],
            }
        )

    def __str__(self) -> str:
        done = ", ".join(f"{count:,} {what}" for what, count in sorted(self.done.items()))
        figures = ", ".join(f"{what} {value}" for what, value in self.figures.items())
        how = "ok" if not self.violations else f"{len(self.violations)} VIOLATIONS"
        lines = [
            f"{self.campaign}: {how} in {self.seconds:.1f} s, seed {self.seed}: {done}",
            *([f"  {figures}"] if figures else []),
            *(f"  ! {violation}" for violation in self.violations[:SHOWN]),
        ]
        return "\n".join(lines)


def percentiles(values: Sequence[float], digits: int = 1) -> dict[str, float]:
    """Return how values are distributed."""
    if not values:
        return {}
    ordered = sorted(values)

    def at(part: float) -> float:
        return round(ordered[min(int(part * len(ordered)), len(ordered) - 1)], digits)

    return {"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": at(1.0)}


def until(condition: Callable[[], object], what: str, seconds: float = SECONDS) -> None:
    """Wait until `condition` holds.

    Raises:
        AssertionError: that takes too long.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"stuck: after {seconds} s {what}")
        time.sleep(0.002)


def fork_server() -> Any:
    """Return the context of child processes: forks of a process that has imported aiomanager."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["aiomanager", "aiomanager.sync"])
    return context
