"""What the tests of workers share: deadlines, scripts in processes of their own, process states."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import aiomanager

METHODS = ("fork", "spawn", "forkserver")
SECONDS = 30.0
"""How long anything may take before a test fails."""
ROOT = Path(aiomanager.__file__).parent.parent

# Since Python 3.12 a fork in a process with threads warns, whatever the child does.
FORKING = "ignore:.*multi-threaded.*:DeprecationWarning"


def until(condition: Callable[[], object], what: str, seconds: float = SECONDS) -> None:
    """Wait until `condition` holds; fail when that takes too long."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds} s: {what}")
        time.sleep(0.005)


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and waits for its parent does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment in which a script finds aiomanager and the tests."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return {**os.environ, "PYTHONPATH": path, **(more or {})}


def script(code: str, *arguments: str) -> "subprocess.Popen[str]":
    """Start a Python script in a session of its own; its output comes line by line."""
    return subprocess.Popen(
        [sys.executable, "-u", "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )


def output_of(code: str, *arguments: str) -> str:
    """Run a script to its end and return what it printed."""
    return output_of_python("-c", code, *arguments)


def output_of_python(*arguments: str) -> str:
    """Run Python with these arguments to its end and return what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=2 * SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
