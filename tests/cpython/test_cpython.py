"""CPython's tests of managers hold through aiomanager.multiprocessing, and the judge is just.

One start method here; `python -m tests.cpython` runs all.
"""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .differences import DIFFERENCES

OURS = "aiomanager.multiprocessing"
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("test._test_multiprocessing") is None,
    reason="this interpreter was installed without its own tests",
)


def run(module: str, *arguments: str, judged: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"tests.cpython{module}", *arguments],
        cwd=ROOT,
        env={**os.environ, "AIOMANAGER_JUDGED": judged},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.mark.timeout(600)
def test_they_hold() -> None:
    done = run("", "--start-method", "fork", judged=OURS)
    assert done.returncode == 0, done.stdout
    public, private = re.findall(r"^fork, (?:public|private): (\d+) passed", done.stdout, re.M)
    assert int(public) > 70, done.stdout
    assert int(private) > 3, done.stdout


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("judged", [OURS, "multiprocessing"])
def test_children_use_the_judged_package(judged: str, method: str) -> None:
    done = run(".probe", method, judged=judged)
    assert done.stdout.split() == [judged, f"{judged}.managers"]


def test_the_standard_library_passes() -> None:
    names = ("WithManagerTestContainers", "WithManagerTestMyManager", "TestInitializers")
    done = run("", "--package", "multiprocessing", "--start-method", "spawn", *names, judged=OURS)
    assert done.returncode == 0, done.stdout
    assert "spawn, public: 10 passed\nspawn, private: 3 passed" in done.stdout


def test_a_name_that_is_no_test_is_refused() -> None:
    arguments = ("--package", "multiprocessing", "--start-method", "fork", "test_nothing")
    done = run("", *arguments, judged=OURS)
    assert done.returncode == 2
    assert "no test is called test_nothing" in done.stdout


def test_differences_have_reasons() -> None:
    for name, difference in DIFFERENCES.items():
        assert re.fullmatch(r"\w+\.test_\w+", name)
        assert len(difference.reason.split()) > 5
        assert difference.start_methods <= {"fork", "spawn", "forkserver"}
