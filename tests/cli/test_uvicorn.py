"""A test of what `run` is for: the workers of a web server share a counter, and all end well."""

import http.client
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .helpers import Terminal, wait_for_end

WORKERS = 3
THREADS = 8
REQUESTS = 100
"""Of each thread, at least."""


class Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self.path))


def ask(path: Path) -> tuple[int, int]:
    """Make one request; return the number and the worker's process id."""
    connection = Connection(path)  # a new one each time, for any worker
    try:
        connection.request("GET", "/")
        response = connection.getresponse()
        assert response.status == 200
        number, worker = response.read().split()
        return int(number), int(worker)
    finally:
        connection.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_workers_share_a_counter(terminal: Terminal, number: signal.Signals) -> None:
    pytest.importorskip("uvicorn")
    path = terminal.directory / "web"
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen(1024)  # so that requests wait until the workers are there
    log = (terminal.directory / "log").open("w+")
    process = terminal.start(
        "run", "--", sys.executable, "-m", "uvicorn", "counting_app:application",
        "--workers", str(WORKERS), "--fd", str(listening.fileno()), "--no-access-log",
        stdout=log, stderr=log, pass_fds=[listening.fileno()],
    )  # fmt: skip
    listening.close()
    with ThreadPoolExecutor(THREADS) as threads:
        answers = list(threads.map(ask, [path] * REQUESTS * THREADS))
        while len({worker for _, worker in answers}) < WORKERS:
            answers.extend(threads.map(ask, [path] * THREADS))
    assert sorted(hits for hits, _ in answers) == list(range(1, len(answers) + 1))
    processes = terminal.processes()
    # run, its server, uvicorn's supervisor (and what the stdlib starts beside it), the workers
    assert len(processes) >= 3 + WORKERS
    process.send_signal(number)
    code = process.wait()
    log.seek(0)
    said = log.read()
    log.close()
    assert code in (0, 128 + number), said
    assert said.count("Finished server process") == WORKERS
    assert "Traceback" not in said
    wait_for_end(processes)
