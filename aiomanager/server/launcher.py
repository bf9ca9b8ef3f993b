"""The launcher: it starts the worker processes of pools, watches them, and ends them.

What they do there is the worker's business (`worker.py`); when to start one is the pool's.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from aiomanager.operation import SharedObject
from aiomanager.protocol.address import Address

__all__ = ("Interpreters", "Launcher", "Process", "processors", "send_signal")

KILL_SECONDS: Final = 5.0
"""How long a worker that was asked to end may take."""

_KILLS: Final = (signal.SIGKILL, signal.SIGTERM)
"""How somebody ends a process: no fault of its own does."""

_BOOT: Final = (
    "import sys, json; c = json.loads(sys.stdin.readline()); sys.path[:] = c['path']; "
    "from aiomanager.server.worker import main; main(c)"
)


class Process(Protocol):
    """A process that was started."""

    pid: int

    def poll(self) -> int | None:
        """Return its exit code, a negative one for a signal; None if it is not known."""
        ...


def processors() -> int:
    """Return how many processors this process may use."""
    count = getattr(os, "process_cpu_count", os.cpu_count)
    return count() or 1


def send_signal(pidfd: int, number: int) -> None:
    """Send a signal to a process, if it is still there."""
    with contextlib.suppress(OSError):
        signal.pidfd_send_signal(pidfd, number)


class _Worker:
    """One worker process: to be started, running, ended."""

    def __init__(
        self,
        launcher: "Launcher",
        start: Callable[[], Process],
        on_end: Callable[[str, bool], None],
    ) -> None:
        self._launcher = launcher
        self._start = start
        self._on_end = on_end
        self._process: Process | None = None
        self._pidfd = -1
        self._unwanted = False
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int:
        """Its process id; 0 before it is started."""
        return 0 if self._process is None else self._process.pid

    def begin(self) -> None:
        """Start it."""
        if self._unwanted:
            self._gone("was not started any more")
            return
        try:
            self._process = self._start()
            self._pidfd = os.pidfd_open(self._process.pid)
        except Exception as error:
            self._gone(f"could not be started: {type(error).__name__}: {error}")
            return
        self._launcher.loop.add_reader(self._pidfd, self._ended)
        self._launcher.running.add(self)

    def end(self) -> None:
        """End it; what it was doing is not finished."""
        self._unwanted = True
        if self._pidfd >= 0:
            send_signal(self._pidfd, signal.SIGTERM)
            if self._alarm is None:
                self._alarm = self._launcher.loop.call_later(KILL_SECONDS, self.kill)

    def kill(self) -> None:
        """End it, whatever it does about that."""
        self._unwanted = True
        if self._pidfd >= 0:
            send_signal(self._pidfd, signal.SIGKILL)

    def _ended(self) -> None:
        self._launcher.loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        self._launcher.running.discard(self)
        if self._alarm is not None:
            self._alarm.cancel()
        code = None if self._process is None else self._process.poll()
        if code is None:
            self._gone("ended")
        elif code >= 0:
            self._gone(f"ended with exit code {code}")
        else:
            self._gone(f"was ended by signal {-code}", -code in _KILLS)

    def _gone(self, how: str, killed: bool = False) -> None:
        try:
            self._on_end(how, killed)
        finally:
            self._launcher.flush()


class Launcher:
    """Starts worker processes, one in each turn of the loop: others are served in between."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        start: Callable[[int, int], Process],
        flush: Callable[[], None],
    ) -> None:
        self.loop = loop
        self.flush = flush
        """Sends what the end of a worker has caused."""
        self.processors = processors()
        self.running: set[_Worker] = set()
        self._start_process = start
        self._to_start: deque[_Worker] = deque()
        self._closed = False

    def start(self, pool_id: int, number: int, on_end: Callable[[str, bool], None], /) -> _Worker:
        """Start a worker for a pool soon; `on_end` is told how it ended, and whether by a kill."""

        def start() -> Process:
            return self._start_process(pool_id, number)

        worker = _Worker(self, start, on_end)
        self._to_start.append(worker)
        if len(self._to_start) == 1:
            self.loop.call_soon(self._begin)
        return worker

    def _begin(self) -> None:
        worker = self._to_start.popleft()
        if self._to_start:
            self.loop.call_soon(self._begin)
        if not self._closed:
            worker.begin()

    def close(self) -> None:
        """End all workers at once: the server ends."""
        self._closed = True
        for worker in self.running:
            worker.kill()


class Interpreters:
    """Starts workers that are fresh interpreters."""

    def __init__(
        self, address: Address, key: bytes | None, types: Iterable[type[SharedObject]]
    ) -> None:
        self._config = {
            "address": address.url,
            "key": None if key is None else key.hex(),
            "parent": os.getpid(),
            "path": sys.path,
            "types": [f"{kind.__module__}:{kind.__qualname__}" for kind in types],
        }

    def __call__(self, pool_id: int, number: int) -> "subprocess.Popen[Any]":
        """Start one."""
        config = {**self._config, "pool": pool_id, "number": number}
        # The key goes through the pipe: arguments and environment can be read by others.
        process = subprocess.Popen([sys.executable, "-c", _BOOT], stdin=subprocess.PIPE)
        assert process.stdin is not None
        with process.stdin as pipe, contextlib.suppress(BrokenPipeError):
            pipe.write(json.dumps(config).encode() + b"\n")
        return process
