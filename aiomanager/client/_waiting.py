"""How a thread waits for the answer of a server on this machine. Nothing is read here.

A core that sleeps takes several times as long to wake up as a server takes to answer. So the
thread stays awake for a moment, and lets others go first who want its core. Where that takes long,
because they do or because other threads of this process have the interpreter, it is not tried for
some time.
"""

import os
import select
import socket
import time
from collections.abc import Callable, Sized
from typing import Final, TypeAlias

__all__ = ("AWAKE", "TOO_LONG", "UNTRIED", "Wait", "leave_it", "waiting_for")

AWAKE: Final = 50e-6
"""Seconds for which a thread looks for its answer before it sleeps."""
TOO_LONG: Final = 1e-3
"""Seconds that are far more than that."""
UNTRIED: Final = 1000
"""How many calls then go without."""

Wait: TypeAlias = Callable[[], None]
"""Returns when there is something to read, or an end or error to be met there; or before, if the
one who reads is to wait."""


def leave_it() -> None:
    """Leave the waiting to the one who reads: another machine is far."""


def waiting_for(sock: socket.socket, used: Sized) -> Wait:
    """Return what waits until a socket has something to read.

    `used` are the connections of all threads. Where there are several, each of them is left to
    recv(), which takes the interpreter back only once.
    """
    if not hasattr(select, "poll"):
        return leave_it  # eventlet takes it away, and lets its other threads run in recv()
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    look, let_others, clock = poll.poll, os.sched_yield, time.monotonic
    untried = 0

    def wait() -> None:
        nonlocal untried
        if len(used) > 1:
            return
        if untried:
            untried -= 1
            return
        if look(0):
            return
        now = begin = clock()
        found = False
        while not found and now - begin < AWAKE:
            let_others()
            found = bool(look(0))
            now = clock()
        if now - begin > TOO_LONG:
            untried = UNTRIED
        if not found:
            # Not in recv(): Linux wakes a thread there also when the other side of a unix socket
            # has read what was sent; it finds nothing, and sleeps again.
            look()

    return wait
