"""The README is true: its programs run and print what their comments say, its commands exist."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

import aiomanager

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
PROGRAMS = [text for language, file, text in BLOCKS if language == "python" and not file]
COMMANDS = [
    line for language, _, text in BLOCKS if language == "bash" for line in text.splitlines()
]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(aiomanager.__file__).parents[1])}


def heading_of(program: str) -> str:
    """Return the heading that a block stands under, to name its test."""
    return re.findall(r"^## (.*)$", README[: README.index(program)], re.MULTILINE)[-1]


@pytest.mark.parametrize("program", PROGRAMS, ids=map(heading_of, PROGRAMS))
def test_program_prints_what_its_comments_say(program: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "-W", "error", "program.py"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    said = re.findall(r"^ *print\(.*\) +# (.*)$", program, re.MULTILINE)
    assert len(said) == program.count("print("), "each print says in a comment what it prints"
    expected = [line for comment in said for line in comment.split(" / ")]
    assert done.stdout.splitlines() == expected


def test_setup_commands() -> None:
    main_job, tests = COMMANDS[:2]
    assert main_job.endswith("examples/index_stdlib.py")
    assert (ROOT / "examples" / "index_stdlib.py").exists()
    assert tests in (ROOT / ".ci" / "run").read_text()


def test_links() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_web_workers_share_what_they_count(tmp_path: Path) -> None:
    ((file, app),) = [(file, text) for language, file, text in BLOCKS if file]
    (tmp_path / file).write_text(app)
    (line,) = [line for line in COMMANDS if line.startswith("aiomanager run")]
    words = shlex.split(line)
    assert words[:4] == ["aiomanager", "run", "--", "uvicorn"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    python = [sys.executable, "-m"]
    command = [*python, "aiomanager", "run", "--", *python, *words[3:], "--port", str(port)]
    with subprocess.Popen(
        command, cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
    ) as program:
        try:
            counts = Counter(_fetch(port, program) for _ in range(40))
        finally:
            program.send_signal(signal.SIGTERM)
            try:
                _, log = program.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                program.kill()
                raise
    assert counts == Counter(range(1, 41)), log
    assert log.count("Application startup complete") == 4


def _fetch(port: int, program: "subprocess.Popen[str]") -> int:
    deadline = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/page", timeout=5) as answer:
                return int(answer.read())
        except (urllib.error.URLError, ConnectionError):
            assert program.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
