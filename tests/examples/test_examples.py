"""The examples run as users run them: from any directory, to a checked result, leaving nothing."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import aiomanager

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
# Also when the package is not installed: the one that the tests import.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(aiomanager.__file__).parents[1])}


def command(name: str, *options: str) -> list[str]:
    return [sys.executable, "-W", "error", str(EXAMPLES / name), *options]


def run(where: Path, name: str, *options: str) -> str:
    done = subprocess.run(
        command(name, *options),
        cwd=where,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


SMALL = {
    "async_service.py": ["--requests", "200"],
    "index_stdlib.py": ["--limit", "40", "--workers", "2"],
    "trio_client.py": ["--items", "200"],
}


def test_all_examples_are_tested() -> None:
    served = {"tcp_master.py", "tcp_worker.py", "web_service.py"}  # see test_services.py
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(SMALL) | served


@pytest.mark.parametrize("name", SMALL)
def test_example(name: str, tmp_path: Path) -> None:
    output = run(tmp_path, name, *SMALL[name])
    assert re.search("^check: ok", output, re.MULTILINE), output
    assert "Warning" not in output, output
    assert not list(tmp_path.iterdir())


def test_index_stdlib_says_what_it_found(tmp_path: Path) -> None:
    output = run(tmp_path, "index_stdlib.py", "--limit", "30", "--report", "report.txt")
    assert re.search(r"^30 files, \d+ lines, \d+ words, \d+ of them distinct$", output, re.M)
    assert re.search(r"^ +\d+  self \(in \d+ files\)$", output, re.M)
    assert (tmp_path / "report.txt").read_text().count(": begin ") == 30
    refused = subprocess.run(
        command("index_stdlib.py", "--report", "report.txt"),
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2
    assert "exists already" in refused.stderr


# How it ends when it is stopped


def group_of(pid: int) -> set[int]:
    """Return the processes that have `pid` as an ancestor, and itself."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z":
                parents[int(entry.name)] = int(fields[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found & parents.keys()


def alive(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("stop", ["ctrl-c", "kill parent", "kill worker"])
def test_index_stdlib_leaves_no_process(stop: str, tmp_path: Path) -> None:
    with subprocess.Popen(
        command("index_stdlib.py", "--tests", "--workers", "2"),
        cwd=tmp_path,
        env={**ENVIRONMENT, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # a terminal sends Ctrl-C to a whole process group
        preexec_fn=_default_sigint,
    ) as program:
        try:
            assert program.stdout is not None
            first = program.stdout.readline()  # the progress after a second
            assert re.match(r"\d+/\d+ files", first), first
            everybody = group_of(program.pid)
            workers = [pid for pid in everybody if _runs(pid, "spawn_main")]
            assert len(workers) == 2
            assert len(everybody) >= 4, "the program, its server, two workers"
            if stop == "ctrl-c":
                os.killpg(program.pid, signal.SIGINT)
            else:
                os.kill(program.pid if stop == "kill parent" else workers[0], signal.SIGKILL)
            output, _ = program.communicate(timeout=30)
        finally:
            program.kill()
    expected = {"ctrl-c": 130, "kill parent": -signal.SIGKILL, "kill worker": 1}[stop]
    assert program.returncode == expected, output
    assert "Traceback" not in output, output
    for _ in range(200):
        if not any(map(alive, everybody)):
            break
        time.sleep(0.05)
    assert not [pid for pid in everybody if alive(pid)]
    if stop != "kill parent":
        assert not list(tmp_path.iterdir()), "the temporary files are gone"


def test_workers_ignore_ctrl_c_from_their_first_moment(heed_sigint: Any, tmp_path: Path) -> None:
    """One that still imports would print a traceback."""
    run(tmp_path, "index_stdlib.py", "--limit", "4", "--workers", "2")
    assert heed_sigint() == [False] * 2


def _default_sigint() -> None:
    # A shell in the background hands on that Ctrl-C is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _runs(pid: int, text: str) -> bool:
    try:
        return text in (Path("/proc") / str(pid) / "cmdline").read_text()
    except OSError:
        return False
