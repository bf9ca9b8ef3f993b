"""The examples of several programs: a web service whose workers are killed, and work over TCP."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import aiomanager

EXAMPLES = Path(__file__).parents[2] / "examples"
SECONDS = 60.0
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(Path(aiomanager.__file__).parents[1]),
    "AIOMANAGER_AUTHKEY": "a key of the tests of examples",
}


@contextmanager
def started(where: Path, *command: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a program; yield it and the first line that it printed."""
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=where,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as program:
        try:
            assert program.stdout is not None
            yield program, program.stdout.readline()
        except BaseException:
            os.killpg(program.pid, signal.SIGKILL)
            raise


# The web service


@pytest.fixture
def service(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = ("-m", "aiomanager", "run", "--", sys.executable, "-W", "error")
    with started(
        tmp_path, *command, str(EXAMPLES / "web_service.py"), "--port", "0", "--workers", "3"
    ) as (program, line):
        found = re.fullmatch(r"listening on (http://127\.0\.0\.1:\d+)\n", line)
        assert found, line
        yield program, found[1]
        if program.poll() is None:
            os.killpg(program.pid, signal.SIGKILL)


def get(url: str) -> Any:
    """Return the answer to one request, asking again when a worker dies with it."""
    for _ in range(10):
        try:
            with urllib.request.urlopen(url, timeout=SECONDS) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return {"status": error.code, **json.load(error)}
        except (OSError, json.JSONDecodeError):
            continue
    raise AssertionError(f"{url} does not answer")


def stop(program: subprocess.Popen[str]) -> str:
    """End the service as a supervisor of services would; return what it printed."""
    program.send_signal(signal.SIGTERM)
    output, _ = program.communicate(timeout=SECONDS)
    assert program.returncode == 0, output
    assert "Traceback" not in output
    return output


def test_all_workers_share_what_they_count(service: Any) -> None:
    program, url = service
    answers: list[Any] = []
    end = time.monotonic() + SECONDS
    with ThreadPoolExecutor(8) as threads:
        # On a busy machine a worker may begin when others have answered a lot.
        while len({answer["worker"] for answer in answers}) < 2 and time.monotonic() < end:
            answers += threads.map(get, [url] * 200)
        reports = list(threads.map(get, [f"{url}/report"] * 20))
    visits = len(answers)
    assert sorted(answer["visits"] for answer in answers) == list(range(1, visits + 1))
    assert len({answer["worker"] for answer in answers}) > 1
    assert reports == [{"report": [10**13 + 37]}] * 20
    assert get(f"{url}/status") == {"visits": visits, "reports": 1, "jobs done": 0}
    assert get(f"{url}/nothing")["status"] == 404
    assert get(f"{url}/jobs/1")["status"] == 404
    assert get(f"{url}/jobs/new/many")["status"] == 404
    assert stop(program) == ""


def test_a_worker_that_is_killed_loses_nothing(service: Any) -> None:
    program, url = service
    slow = 10**13 + 37  # a prime number: each of these jobs takes a good while
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(get, [f"{url}/jobs/new/{slow}"] * 12))
    jobs = sorted(answer["job"] for answer in made)
    assert jobs == list(range(1, 13))
    victim = get(url)["worker"]
    os.kill(victim, signal.SIGKILL)
    line = program.stdout.readline()
    assert line == f"worker {victim} ended with {-signal.SIGKILL}\n"
    while (status := get(f"{url}/status"))["jobs done"] < len(jobs):
        assert status["jobs"] == len(jobs)
    expected = {"state": "done", "result": [slow]}
    assert [get(f"{url}/jobs/{job}") for job in jobs] == [expected] * len(jobs)
    visits = get(url)["visits"]
    with ThreadPoolExecutor(8) as threads:
        more = list(threads.map(get, [url] * 60))
    assert sorted(each["visits"] for each in more) == list(range(visits + 1, visits + 61))
    workers = {each["worker"] for each in more}
    assert victim not in workers
    assert stop(program) == ""


def test_workers_ignore_ctrl_c_from_their_first_moment(heed_sigint: Any, service: Any) -> None:
    program, _ = service
    while len(heed_sigint()) < 3:
        time.sleep(0.01)
    assert heed_sigint() == [False] * 3
    assert stop(program) == ""


def test_the_web_service_says_how_it_is_started(tmp_path: Path) -> None:
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "AIOMANAGER_URL"}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "web_service.py")],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 2
    assert "aiomanager run -- python examples/web_service.py" in done.stderr


# Master and workers


def test_work_over_tcp_with_a_worker_that_is_killed(tmp_path: Path) -> None:
    master = (str(EXAMPLES / "tcp_master.py"), "--address", "127.0.0.1:0", "--tasks", "60")
    worker = str(EXAMPLES / "tcp_worker.py")
    with started(tmp_path, *master) as (program, line):
        found = re.fullmatch(r"listening on tcp://(127\.0\.0\.1:\d+)\n", line)
        assert found, line
        with started(tmp_path, worker, "--address", found[1]) as (first, done):
            assert done.startswith("task "), done
            first.kill()
            first.communicate(timeout=SECONDS)
        with (
            started(tmp_path, worker, "--address", found[1]) as (second, _),
            started(tmp_path, worker, "--address", found[1]) as (third, _),
        ):
            said = [each.communicate(timeout=SECONDS)[0] for each in (second, third)]
        output, _ = program.communicate(timeout=SECONDS)
    assert program.returncode == 0, output
    assert "check: ok" in output, output
    assert "60 results" in output
    assert "Traceback" not in "".join([*said, output])


def test_work_over_tcp_needs_a_key(tmp_path: Path) -> None:
    environment = {
        name: value for name, value in ENVIRONMENT.items() if name != "AIOMANAGER_AUTHKEY"
    }
    for name in ("tcp_master.py", "tcp_worker.py"):
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / name)],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 2
        assert "AIOMANAGER_AUTHKEY must be set" in done.stderr
