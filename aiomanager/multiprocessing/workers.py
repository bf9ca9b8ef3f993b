"""The workers of a drop-in server's pools: children of the server, by its start method.

So a forked one has the main module and what the program registered, as in the standard library.
"""

import asyncio
import os
import signal
from multiprocessing import get_context
from typing import Any

from aiomanager.client._channel import Endpoint
from aiomanager.multiprocessing import faces as faces  # the proxies that its channel makes
from aiomanager.multiprocessing.channel import DropInChannel
from aiomanager.server.worker import end_with, work

__all__ = ("Children",)


class _Child:
    """One child of the server."""

    def __init__(self, process: Any) -> None:
        self._process = process
        self.pid: int = process.pid

    def poll(self) -> int | None:
        """Return its exit code, a negative one for a signal; None if it is not known."""
        # Takes the child off the list of active ones, too.
        return None if self._process.is_alive() else self._process.exitcode


class Children:
    """Starts workers that are processes of multiprocessing."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def __call__(self, pool_id: int, number: int) -> _Child:
        """Start one."""
        process: Any = get_context().Process(
            target=_work,
            args=(self._endpoint, pool_id, number, os.getpid()),
            name=f"PoolWorker-{number}",
            daemon=True,
        )
        process.start()
        return _Child(process)


def _work(endpoint: Endpoint, pool_id: int, number: int, server: int) -> None:
    """Be a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with(server)
    # A forked child stands inside of the server's loop, which it does not run.
    asyncio._set_running_loop(None)
    code = work(DropInChannel(endpoint), pool_id, number, fresh=False)
    if code:
        raise SystemExit(code)
