"""Tests of `aiomanager bench`: that it runs and what it prints, never how fast anything is."""

import json
import os
import re
import signal

import pytest

from aiomanager.cli import bench
from aiomanager.cli.bench import PROCESSES, WORKLOADS, Workload

from .helpers import Terminal, wait_for_end

TINY = ("--rounds", "1", "--seconds", "0.02")


def test_json(terminal: Terminal) -> None:
    code, output, errors = terminal.call("bench", "--json", *TINY)
    assert (code, errors) == (0, "")
    found = json.loads(output)
    assert found["settings"] == {"rounds": 1, "seconds": 0.02}
    assert {"cpus", "python", "uvloop", "msgpack", "load"} <= set(found["machine"])
    assert [one["name"] for one in found["workloads"]] == [one.name for one in WORKLOADS]
    for result, workload in zip(found["workloads"], WORKLOADS, strict=True):
        assert tuple(result["sides"]) == workload.sides
        assert (result["unit"], result["pinned"]) == (workload.unit, workload.pinned)
        assert all(value > 0 for value in result["sides"].values())
        assert result["spread"] == [result["ratio"]] * 2
        assert len(result["rounds"]) == 1
        assert result["floor"] == workload.floor
        assert result["reached"] in (None, True, False)


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: str(workload.name))
def test_turns_are_long_where_several_cores_are_used(
    workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[float] = []

    class Side:
        def __init__(self, *_: object) -> None: ...
        def end(self) -> None: ...
        def work(self, seconds: float) -> list[float]:
            turns.append(seconds)
            return [1.0]

    monkeypatch.setattr(bench, "_Side", Side)
    assert bench._round(workload, 0.4) == (1.0, 1.0)
    # The first two warm up.
    assert turns[2:] == pytest.approx([0.05] * 16 if workload.pinned else [1.6] * 4)


def test_what_is_wanted() -> None:
    floors = {workload.name: workload.floor for workload in WORKLOADS}
    assert floors == {
        "client": 1.35,
        "client-anywhere": None,
        "processes": 1.8,
        "tasks": 10,
        "queue": 1.4,
        "kept-client": 0.95,
        "kept-processes": 0.95,
        "kept-tasks": 0.95,
        "kept-queue": None,
    }


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("queue", r"queue, on one core +[\d,]+/s +[\d,]+/s +[\d.]+x +[\d.]+ \.\. [\d.]+ +>= 1.4x"),
        ("client-anywhere", r"cores +[\d.]+ us +[\d.]+ us +[\d.]+x +[\d.]+ \.\. [\d.]+ *\n"),
        ("kept-client", r"p50, on one core +[\d.]+ us +[\d.]+ us +[-\d.]+ % .* +<= 5 %"),
    ],
)
def test_the_table(terminal: Terminal, name: str, row: str) -> None:
    code, output, errors = terminal.call("bench", "--only", name, "--check", *TINY)
    assert re.search(row, output), output
    missed = "MISSED" in output
    assert code == missed
    assert errors == (f"aiomanager bench: missed what is wanted: {name}\n" if missed else "")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_nothing_is_left_behind(terminal: Terminal, name: str) -> None:
    process = terminal.start("bench", "--only", "processes", "--rounds", "1", "--seconds", "9")
    processes: dict[int, int] = {}
    # itself, two sides, their servers, eight processes of each
    while len(processes) < 1 + 2 * (1 + 1 + PROCESSES):
        for pidfd in processes.values():
            os.close(pidfd)
        if process.poll() is not None:
            pytest.fail(process.communicate()[1])
        processes = terminal.processes()
    process.send_signal(getattr(signal, name))
    output, errors = process.communicate()
    assert process.returncode == {"SIGINT": 130}.get(name, -getattr(signal, name))
    assert (output, errors) == ("", "")
    wait_for_end(processes)
