"""The command run as a user runs it, and what it left behind."""

import contextlib
import os
import select
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
MARK = "AIOMANAGER_TEST_MARK"


class Terminal:
    """Runs `python -m aiomanager` as a user would, each test with directories of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.mark = uuid.uuid4().hex
        kept = {name: text for name, text in os.environ.items() if "AIOMANAGER" not in name}
        self.environment = {
            **kept,
            MARK: self.mark,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}",
            "TMPDIR": str(directory),
            "XDG_RUNTIME_DIR": str(directory),
        }
        self._started: list[subprocess.Popen[str]] = []

    def start(
        self, *arguments: str, program: tuple[str, ...] = ("-m", "aiomanager"), **more: Any
    ) -> "subprocess.Popen[str]":
        """Start the command and return its process, with pipes for its output."""
        environment = {**self.environment, **more.pop("environment", {})}
        process = subprocess.Popen(
            [sys.executable, *program, *arguments],
            env=environment,
            text=True,
            **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            | more,
        )
        self._started.append(process)
        return process

    def serve(self, *arguments: str, **more: Any) -> "subprocess.Popen[str]":
        """Start a server and return when it is ready; its URL becomes the attribute `url`."""
        process = self.start("serve", *arguments, **more)
        process.url = process.stdout.readline().strip()
        if not process.url:
            pytest.fail(process.communicate()[1])
        return process

    def call(self, *arguments: str, **more: Any) -> tuple[int, str, str]:
        """Run the command to its end; return its exit code and what it printed."""
        process = self.start(*arguments, **more)
        output, errors = process.communicate()
        return process.returncode, output, errors

    def close(self) -> None:
        """End what still runs."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()

    def processes(self) -> dict[int, int]:
        """Return a pidfd of each process that this test has caused, by its process id."""
        found: dict[int, int] = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                descriptor = os.pidfd_open(int(entry.name))
            except OSError:
                continue
            try:
                marked = f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes()
            except OSError:
                marked = False
            if marked:
                found[int(entry.name)] = descriptor
            else:
                os.close(descriptor)
        return found


def wait_for_end(pidfds: dict[int, int], seconds: float = 20) -> None:
    """Return when all these processes have ended; fail when they do not."""
    for pid, descriptor in pidfds.items():
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        ended = poll.poll(seconds * 1000)
        os.close(descriptor)
        assert ended, f"process {pid} still runs: {Path(f'/proc/{pid}/cmdline').read_bytes()!r}"
