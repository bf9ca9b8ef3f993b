"""Both type checkers read `examples.py` as it says, with every check that they have."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

CHECKERS = {
    "mypy": ["mypy", "--no-error-summary"],
    "pyright": ["pyright", "--pythonpath", sys.executable],
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("checker", CHECKERS)
def test_examples(checker: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *CHECKERS[checker], "tests/typing"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
