"""The command `python -m tests.proof`: it runs campaigns and prints a line of results for each.

Exit code 1 says that a promise was broken. What the machine decides (which call is under way when
a signal comes) is not the same again with the same seed; the simulation is, to the last byte.
"""

import argparse
import importlib
import sys
from collections.abc import Callable
from typing import NamedTuple

from .campaign import Report

__all__ = ("CAMPAIGNS", "Campaign", "main")


class Campaign(NamedTuple):
    """A campaign, what is counted in it, and how much of it is large."""

    module: str
    unit: str
    large: int

    @property
    def run(self) -> Callable[[int, int], Report]:
        """The function that runs it; a campaign loads what it needs when it is run."""
        module, _, name = self.module.partition(":")
        return getattr(importlib.import_module(f".{module}", __package__), name)  # type: ignore[no-any-return]


CAMPAIGNS = {
    "simulation": Campaign("simulated:simulation", "simulated fault events", 1_000_000),
    "cuts": Campaign("cuts:cuts", "real connections cut", 10_000),
    "kills": Campaign("kills:kills", "clients and workers killed", 2_000),
    "cancels": Campaign("cancels:cancels", "cancelled waiting calls", 100_000),
    "signals": Campaign("signals:signals", "signal handlers that raise in a call", 10_000),
    "histories": Campaign("histories:histories", "recorded histories", 1_000),
    "soak": Campaign("soak:soak", "seconds, with 64 clients", 1_800),
}


def main(arguments: list[str] | None = None) -> int:
    """Run what is asked for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof", description=__doc__)
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--campaign", choices=CAMPAIGNS, action="append")
    chosen.add_argument("--all", action="store_true", help="every campaign, in its large count")
    chosen.add_argument("--list", action="store_true", help="say what is counted in each")
    parser.add_argument("--count", type=int, help="how many; the large count by default")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    if given.list:
        for name, campaign in CAMPAIGNS.items():
            print(f"{name}: {campaign.large:,} {campaign.unit}")
        return 0
    broken = 0
    for name in given.campaign or CAMPAIGNS:
        campaign = CAMPAIGNS[name]
        count = campaign.large if given.count is None else given.count
        try:
            report = campaign.run(count, given.seed)
        except Exception as error:
            print(f"{name}: seed {given.seed}: {type(error).__name__}: {error}", flush=True)
            sys.excepthook(type(error), error, error.__traceback__)
            broken += 1
            continue
        print(report.as_json())
        print(report, flush=True)
        broken += bool(report.violations)
    return 1 if broken else 0
