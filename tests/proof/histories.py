"""Recorded histories: real clients of every kind against a real server, checked to be linearizable.

Each history has one shared object and seven callers: two processes whose blocking calls signals
interrupt, a process with threads, one with tasks on asyncio or trio. Connections are cut, waits run
out of time, calls are cancelled, and in some histories a process is killed in the middle.

Each is accepted or rejected. A search that is given up, because too many calls were cancelled while
a connection was down, breaks the promise as well; the notes of such a history are kept.
"""

import json
import os
import tempfile
import time
from collections.abc import Sequence
from math import inf
from pathlib import Path
from random import Random
from typing import Any

from client.chaos import Chaos

import aiomanager.sync
from aiomanager.protocol.address import Address
from aiomanager.server.process import PrivateServer

from . import players
from .campaign import SECONDS, Report, fork_server, until
from .linear import (
    CANCELLED,
    RETURNED,
    UNKNOWN,
    Call,
    Mutex,
    Object,
    Queue,
    Register,
    Semaphore,
    check,
)

__all__ = ("histories",)

CALLS = 300
"""About so many are made in each history."""
LIMIT = 500_000
"""States after which a search is given up: about a minute. Few take more than a twentieth."""
KEY = b"the key of recorded histories"
LAST = "Z"
"""Who asks at the end what is left."""

OBJECTS: dict[str, Object] = {
    "register": Register(0),
    "cas": Register(0),
    "queue": Queue(4),
    "lock": Mutex(),
    "rlock": Mutex(reentrant=True),
    "semaphore": Semaphore(2),
}

context = fork_server()


class Worker:
    """A child process that plays one part in history after history, until it is killed."""

    def __init__(self, label: str, style: str) -> None:
        self.label = label
        self.style = style
        self._start()

    def _start(self) -> None:
        self._pipe, theirs = context.Pipe()
        self.process = context.Process(target=players.obey, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def give(self, job: players.Job) -> None:
        self._pipe.send(job)

    def wait(self) -> str | None:
        """Return what went wrong in a job."""
        if not self._pipe.poll(SECONDS):
            self.replace()
            return f"stuck: {self.label} ({self.style}) did not come to an end"
        try:
            return self._pipe.recv()  # type: ignore[no-any-return]
        except EOFError:
            self.replace()
            return f"{self.label} ({self.style}) ended by itself"

    def kill(self) -> None:
        self.process.kill()
        self.process.join(SECONDS)

    def replace(self) -> None:
        """Start another process instead of this one."""
        self.kill()
        self._pipe.close()
        self._start()

    def end(self) -> None:
        self.kill()
        self._pipe.close()


def read(path: str, killed: Sequence[str]) -> list[Call]:
    """Return the calls that were noted in a file, and the ends of sessions that were lost."""
    calls: list[Call] = []
    under_way: dict[str, dict[str, Any]] = {}
    last_known: dict[str, float] = {}
    lost: set[str] = set()
    settled: dict[str, list[float]] = {}
    notes = [json.loads(line) for line in Path(path).read_text().splitlines()]
    for note in notes:
        if note.get("outcome") == RETURNED:
            settled.setdefault(note["who"], []).append(note["time"])
    for note in notes:
        who, now = note["who"], note["time"]
        if "name" in note:
            under_way[who] = note
            continue
        begun = under_way.pop(who)
        outcome = note["outcome"]
        end = now
        if outcome == CANCELLED:
            # It is taken back before the next call of the same caller is carried out.
            end = next((time for time in settled.get(who, ()) if time > now), inf)
        elif outcome == UNKNOWN:
            end = inf
            lost.add(who.partition(".")[0])
        result = note["result"]
        result = tuple(result) if isinstance(result, list) else result
        calls.append(
            Call(who, begun["name"], tuple(begun["arguments"]), begun["time"], end, result, outcome)
        )
        if outcome == RETURNED:
            last_known[who] = now
    for who, begun in under_way.items():
        calls.append(
            Call(who, begun["name"], tuple(begun["arguments"]), begun["time"], outcome=UNKNOWN)
        )
    for who, since in last_known.items():
        if who.partition(".")[0] in {*killed, *lost}:
            calls.append(Call(who, "expire", (), since, outcome=UNKNOWN))
    return calls


def _last_calls(kind: str, proxy: Any, notes: players.Notes) -> str | None:
    """Ask what is left, as one more caller; return what is wrong with it."""
    job = players.Job(LAST, "solo", kind, "", "", None, "", 0, 0, 1, "")
    player = players.Player(job, LAST)

    def ask(name: str, seconds: float, *arguments: Any) -> Any:
        result: Any
        notes.begin(LAST, name, arguments)
        try:
            result = players.bound(kind, name, arguments, seconds)(proxy)
        except Exception as error:
            _, result = players.told(error)
        notes.end(LAST, "returned", result)
        player.learn(name, result)
        return result

    if kind in ("register", "cas"):
        ask("read", 0.0)
    elif kind == "queue":
        while ask("get", 0.0) != "Empty":
            pass
    else:
        for _ in range(2 if kind == "semaphore" else 1):
            if not ask("acquire", SECONDS / 2):
                return f"leaked: the {kind} is still held"
        while player.held:
            ask("release", 0.0)
    return None


class _World:
    """A server, the chaos before it, and the workers."""

    def __init__(self, seed: int) -> None:
        scheme = ("unix", "tcp")[seed % 2]
        self.key = None if scheme == "unix" else KEY
        address = None if scheme == "unix" else Address("tcp", host="127.0.0.1", port=0)
        self.server = PrivateServer(address, key=self.key, explicit_key=self.key is not None)
        self.chaos = Chaos(self.server.address, seed)
        self.manager = aiomanager.sync.connect(self.server.address.url, authkey=self.key)
        styles = {"A": "solo", "B": "solo", "C": "threads", "D": "async"}
        self.workers = [Worker(label, style) for label, style in styles.items()]

    def end(self) -> None:
        for worker in self.workers:
            worker.end()
        self.manager.close()
        self.chaos.__exit__(None, None, None)
        self.server.stop()

    def record(self, report: Report, seed: int, path: str) -> Sequence[str]:
        """Record the history of a seed; return the labels of who was killed."""
        random = Random(seed)
        kind = players.KINDS[seed % len(players.KINDS)]
        name = f"{kind} {seed}"
        proxy = players.find(self.manager, kind, name)
        victim = random.choice(self.workers[:2]) if random.random() < 0.3 else None
        if random.random() < 0.7:
            self.chaos.rage()
        cuts = self.chaos.cuts
        for worker in self.workers:
            # Of one that is killed behind the chaos the server learns too late.
            through = worker.label != "A" and worker is not victim
            address = self.chaos.address if through else self.server.address
            many = {"solo": 1, "threads": 2, "async": 3}[worker.style]
            worker.give(
                players.Job(
                    worker.label, worker.style, kind, name, address.url, self.key, path, seed,
                    CALLS // 7, many, random.choice(("asyncio", "trio")),
                )
            )  # fmt: skip
        killed: list[str] = []
        if victim is not None:
            time.sleep(random.uniform(0.002, 0.05))
            victim.replace()
            killed.append(victim.label)
            report.done["killed"] += 1
        for worker in self.workers:
            if worker is not victim and (wrong := worker.wait()):
                report.violations.append(f"seed {seed}, {kind}: {wrong}")
        self.chaos.calm()
        report.done["cuts"] += self.chaos.cuts - cuts
        # What waits for a connection that will not come back is gone.
        until(lambda: self.manager.statistics()["waiting"] == 0, f"seed {seed}: calls wait")
        notes = players.Notes(path)
        wrong = _last_calls(kind, proxy, notes)
        report.expect(wrong is None, f"seed {seed}: {wrong}")
        notes.close()
        del proxy
        self.manager.delete(name)
        return killed


def histories(count: int, seed: int) -> Report:
    """Record and check so many histories."""
    report = Report("histories", count, seed)
    states: list[int] = []
    undecided: list[int] = []
    with report.watched(), tempfile.TemporaryDirectory(prefix="histories-") as directory:
        world = _World(seed)
        try:
            for number in range(seed, seed + count):
                path = os.path.join(directory, str(number))  # noqa: PTH118
                killed = world.record(report, number, path)
                calls = read(path, killed)
                kind = players.KINDS[number % len(players.KINDS)]
                verdict = check(calls, OBJECTS[kind], LIMIT)
                accepted = verdict.linearizable is True
                report.expect(accepted, f"seed {number}, {kind}: {verdict}")
                report.done["accepted"] += accepted
                if verdict.linearizable is None:
                    undecided.append(number)
                states.append(verdict.states)
                report.done[f"histories of a {kind}"] += 1
                for call in calls:
                    report.done[f"calls {call.outcome}" if call.name != "expire" else "ended"] += 1
                if accepted:
                    Path(path).unlink()
                else:
                    kept = Path(tempfile.gettempdir()) / f"history-{number}.json"
                    Path(path).rename(kept)
                    report.violations.append(f"the notes of seed {number} are in {kept}")
        finally:
            world.end()
        report.figures["rejected"] = count - report.done["accepted"] - len(undecided)
        report.figures["undecided"] = undecided
        report.figures["states of the largest search"] = max(states, default=0)
    return report
