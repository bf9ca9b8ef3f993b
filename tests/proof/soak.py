"""A soak: many clients come and go, are killed and cut, and nothing grows that should not.

Each client is a process. The memory, descriptors and threads of the server, and of one client that
stays all the time, are sampled; so are the tasks of that client, and what the server counts. What
they come to is a slope over the second half, when caches and pools are warm.
"""

import time
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from client.chaos import Chaos

import aiomanager.sync

from . import tenants
from .campaign import SECONDS, Report, fork_server, until

__all__ = ("soak",)

CLIENTS = 64
FEW = 6
"""In a soak of less than a minute."""
LINGER = 60.0
"""Seconds for which the server keeps what a dead client referred to."""
SLACK = {"KiB": 3072, "descriptors": 8, "threads": 1, "tasks": 4}
"""By how much the last quarter may be above the one before it, beside a twentieth of that."""

context = fork_server()


class _Client:
    """A process, and the pipe on which it says how much it did."""

    def __init__(self, target: Any, *arguments: Any) -> None:
        self._pipe, theirs = context.Pipe(duplex=False)
        self.process = context.Process(target=target, args=(theirs, *arguments), daemon=True)
        self.process.start()
        theirs.close()
        self.spoke = False
        """Whether it has done something."""

    def said(self) -> list[Any]:
        """Return all that it has said since."""
        found: list[Any] = []
        try:
            while self._pipe.poll():
                found.append(self._pipe.recv())
        except (EOFError, OSError):
            pass  # it was killed while it wrote
        return found

    def end(self) -> None:
        self.process.kill()
        self.process.join(SECONDS)
        self._pipe.close()


def _sample(pid: int) -> dict[str, float]:
    """Return what a process has now."""
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return {
        "KiB": float(fields["VmRSS"].split()[0]),
        "threads": float(fields["Threads"]),
        "descriptors": float(len(list(Path(f"/proc/{pid}/fd").iterdir()))),
    }


def _slope(samples: list[tuple[float, float]]) -> float:
    """Return how much a value grows in a minute: the straight line through the second half."""
    half = samples[len(samples) // 2 :]
    if len(half) < 3:
        return 0.0
    middle = sum(when for when, _ in half) / len(half)
    mean = sum(value for _, value in half) / len(half)
    spread = sum((when - middle) ** 2 for when, _ in half)
    return 60 * sum((when - middle) * (value - mean) for when, value in half) / spread


class _Samples:
    """What was sampled, by whose it is and what."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._samples: dict[str, list[tuple[float, float]]] = {}

    def add(self, whose: str, values: dict[str, float]) -> None:
        now = time.monotonic() - self._began
        for what, value in values.items():
            self._samples.setdefault(f"{whose} {what}", []).append((now, value))

    def judge(self, report: Report) -> None:
        for name, samples in self._samples.items():
            values = [value for _, value in samples]
            quarter = max(len(values) // 4, 1)
            third, fourth = (
                median(values[-2 * quarter : -quarter] or values),
                median(values[-quarter:]),
            )
            report.figures[name] = {
                "first": values[0], "third quarter": third, "last": fourth, "most": max(values),
                "slope per minute": round(_slope(samples), 2),
            }  # fmt: skip
            slack = SLACK.get(name.rpartition(" ")[2])
            if slack is not None and len(values) >= 8:
                grows = fourth > 1.05 * third + slack
                report.expect(not grows, f"{name} grows: from {third} to {fourth}")


def soak(count: int, seed: int) -> Report:
    """Let clients come and go for so many seconds: 64, or a few if that is less than a minute."""
    report = Report("soak", count, seed)
    random = Random(seed)
    long = count >= 60
    number = CLIENTS if long else FEW
    clients: list[_Client] = []
    with (
        report.watched(),
        aiomanager.sync.Manager() as manager,
        aiomanager.sync.connect(manager.url) as outside,
        Chaos(manager._channel.endpoint.address, seed, longest=200_000) as chaos,
    ):
        pid = manager._server.pid
        named = outside.named
        kept: list[Any] = [
            named.dict("d"), named.Queue("q", tenants.ROOM), named.Lock("lock"),
            named.Semaphore("permits", 3), named.Event("event"),
        ]  # fmt: skip
        before = _sample(pid)
        samples = _Samples()
        watched = _Client(tenants.watched, manager.url)

        def start(n: int) -> _Client:
            url = manager.url if n % 4 == 0 else chaos.url
            return _Client(tenants.dwell, url, n, f"{seed} {time.monotonic()}")

        def listen(client: _Client) -> None:
            for said in client.said():
                if isinstance(said, str):
                    report.violations.append(said)
                else:
                    report.done["calls"] += said
                    client.spoke = True

        def late(end: float) -> bool:
            return time.monotonic() > end + SECONDS

        try:
            until(lambda: watched.said(), "the watched client does not begin")
            clients += [start(n) for n in range(number)]
            chaos.rage()
            end = time.monotonic() + count
            pause = 1.0 if long else 0.25
            while not report.violations and (
                # On a busy machine it takes a while until somebody has done something.
                time.monotonic() < end or not (report.done["clients killed"] or late(end))
            ):
                at = random.randrange(number)
                listen(clients[at])
                if clients[at].spoke:
                    clients[at].end()
                    clients[at] = start(at)
                    report.done["clients killed"] += 1
                time.sleep(pause)
                for client in clients:
                    listen(client)
                tasks = watched.said()
                report.violations += [said for said in tasks if isinstance(said, str)]
                samples.add("server", _sample(pid))
                samples.add("client", _sample(watched.process.pid or 0))
                if tasks and not report.violations:
                    samples.add("client", {"tasks": float(tasks[-1])})
                found = outside.statistics()
                samples.add(
                    "server's", {what: found[what] for what in ("sessions", "objects", "waiting")}
                )
            chaos.calm()
        finally:
            for client in (*clients, watched):
                client.end()
        report.done["cuts"] = chaos.cuts
        samples.judge(report)
        # All that the dead had is given back, and what they referred to a while later.
        ours = 2
        until(lambda: outside.statistics()["sessions"] <= ours, "sessions of the dead are left")
        leaked = ["lock"] * kept[2].locked()
        leaked += ["permits"] * (kept[3].value() != 3)
        waiting = outside.statistics()["waiting"]
        leaked += [f"{waiting} calls wait"] * bool(waiting)
        if long:
            until(
                lambda: outside.statistics()["objects"] <= len(kept),
                f"{outside.statistics()['objects'] - len(kept)} objects are left", 2 * LINGER,
            )  # fmt: skip
        after = _sample(pid)
        # uvloop keeps a few of its own.
        if after["descriptors"] > before["descriptors"] + 4:
            leaked.append(f"descriptors: {before['descriptors']} and then {after['descriptors']}")
        report.figures["descriptors at last"] = after["descriptors"]
        report.expect(not leaked, f"leaked: {leaked}")
        report.expect(report.done["calls"] > 0, "the clients did nothing")
    return report
