"""Each campaign keeps its promises in a small count, and does something worth the name."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .campaign import Report, percentiles
from .command import CAMPAIGNS

SMALL = {
    "simulation": (3_000, {"cuts": 500, "killed": 100, "undone": 100, "met": 20, "notified": 20}),
    "cuts": (120, {"unix cuts": 60, "tcp cuts": 60, "calls": 200}),
    "kills": (40, {"killed workers": 20, "killed holders: socket": 1}),
    "cancels": (2_000, {"cancelled by task": 200, "cancelled step by step": 60}),
    "signals": (500, {"get": 50, "hold": 50, "sleep": 50}),
    "histories": (12, {"accepted": 12, "calls returned": 2000, "calls cancelled": 50}),
    "soak": (6, {"calls": 20, "clients killed": 1}),
}
"""How much of each, and what it must at least have done."""

pytestmark = [
    pytest.mark.timeout(180),
    # Signals interrupt what closes sockets; that is left to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


def test_none_is_left_out() -> None:
    assert set(SMALL) == set(CAMPAIGNS)


@pytest.mark.parametrize("name", SMALL)
def test_campaign(name: str) -> None:
    count, least = SMALL[name]
    report = CAMPAIGNS[name].run(count, 1)
    assert not report.violations, str(report)
    for what, number in least.items():
        assert report.done[what] >= number, str(report)


def test_the_command() -> None:
    """It prints one line for programs, and some for people; it fails when a promise is broken."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.proof", "--campaign", "cuts", "--count", "4"],
        cwd=Path(__file__).parent.parent.parent,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    first, text = done.stdout.split("\n", 1)
    found = json.loads(first)
    assert (found["campaign"], found["ok"], found["seed"]) == ("cuts", True, 1)
    assert found["done"]["calls"] > 0
    assert text.startswith("cuts: ok in ")


def test_what_is_lost_or_twice_is_told() -> None:
    report = Report("test", 3, 7)
    report.check_items([1, 2, 3], [2, 3, 3])
    report.expect(False, "another one")
    assert report.violations == ["lost: [1]", "twice: [3]", "another one"]
    assert report.figures == {"lost": 1, "twice": 1}
    assert "3 VIOLATIONS" in str(report)
    assert not json.loads(report.as_json())["ok"]


def test_a_campaign_that_fails_says_with_which_seed() -> None:
    report = Report("test", 3, 7)
    with pytest.raises(RuntimeError) as caught, report.watched():
        raise RuntimeError("no server")
    assert report.violations == ["RuntimeError: no server"]
    assert caught.value.__notes__ == ["campaign test, seed 7"]


def test_percentiles() -> None:
    assert percentiles([]) == {}
    assert percentiles(range(1, 101)) == {"p50": 51, "p90": 91, "p99": 100, "max": 100}
