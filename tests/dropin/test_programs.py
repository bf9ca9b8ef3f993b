"""Programs for the standard library print the same when nothing but their import is changed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from .helpers import ROOT, SECONDS, environment

PROGRAMS = sorted((Path(__file__).parent / "programs").glob("*.py"))


def run(code: str) -> str:
    # Without a main guard a program runs under fork only, which is no longer the default on 3.14.
    code = f"import multiprocessing as m; m.set_start_method('fork')\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(),
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


def changed(code: str) -> str:
    """Return a program with its import changed, and nothing else."""
    code, first = re.subn(
        r"^import multiprocessing( as \w+)?$",
        lambda found: f"import aiomanager.multiprocessing{found[1] or ' as multiprocessing'}",
        code,
        flags=re.MULTILINE,
    )
    code, second = re.subn(
        r"^from multiprocessing import", "from aiomanager.multiprocessing import", code,
        flags=re.MULTILINE,
    )  # fmt: skip
    assert first + second == 1
    return code


def test_there_are_programs() -> None:
    assert len(PROGRAMS) == 9


@pytest.mark.parametrize("program", PROGRAMS, ids=[program.stem for program in PROGRAMS])
def test_it_prints_the_same(program: Path) -> None:
    code = program.read_text(encoding="utf-8")
    expected = run(code)
    assert expected.strip()
    assert run(changed(code)) == expected
