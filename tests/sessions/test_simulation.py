"""Sessions keep their promises on a network that fails, for hundreds of seeds.

AIOMANAGER_SEEDS chooses how many seeds are tried, 400 by default; AIOMANAGER_SEED tries one alone.
"""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from .simulation import simulate

SEEDS = int(os.environ.get("AIOMANAGER_SEEDS", "400"))
ONLY = os.environ.get("AIOMANAGER_SEED")
CHUNK = 100

TESTS = Path(__file__).parent.parent


def run(seed: int) -> Counter[str]:
    try:
        return simulate(seed)
    except Exception as error:
        pytest.fail(
            f"seed {seed}: {error!r}; {' '.join(getattr(error, '__notes__', ()))}\n"
            f"Repeat it with AIOMANAGER_SEED={seed} pytest tests/sessions/test_simulation.py"
        )


@pytest.mark.skipif(ONLY is None, reason="AIOMANAGER_SEED names a seed")
def test_one_seed() -> None:
    simulate(int(ONLY or 0))


@pytest.mark.skipif(ONLY is not None, reason="AIOMANAGER_SEED names a seed")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_sessions_keep_their_promises(first: int) -> None:
    for seed in range(first, min(first + CHUNK, SEEDS)):
        run(seed)


@pytest.mark.skipif(ONLY is not None, reason="AIOMANAGER_SEED names a seed")
def test_the_simulation_meets_everything_that_can_happen() -> None:
    facts: Counter[str] = Counter()
    for seed in range(150, 300):
        facts += run(seed)
    for fact, least in {
        "done": 10_000,
        "failed": 100,
        "undone": 100,
        "completed": 100,
        "never": 10,
        "lost": 100,
        "cuts": 500,
        "bytes lost": 100,
        "resumed": 300,
        "resumed before the server noticed": 100,
        "old bytes discarded": 50,
        "killed": 100,
        "sessions lost": 30,
        "redelivered": 10,
        "held back": 100,
        "executed late": 10,
        "kept without a word": 1_000,
        "died with all read": 3,
        "swapped": 200,
        "picked": 100,
        "put back": 100,
        "got many": 20,
        "joined": 200,
        "shut down": 50,
        "keys held": 500,
        "deadlocks refused": 3,
        "leases ended": 50,
        "jobs done": 200,
        "results taken": 500,
        "parts done again": 5,
        "callbacks": 50,
    }.items():
        assert facts[fact] >= least, (fact, facts[fact])


def test_a_seed_always_does_the_same() -> None:
    program = "from sessions.simulation import simulate; print(sorted(simulate(11).items()))"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=TESTS,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(TESTS.parent)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert "'done'" in outputs.pop()
