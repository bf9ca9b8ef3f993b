"""How a thread stays awake for the answer of a server on this machine. Nothing is read here.

A core that sleeps takes several times as long to wake up as a server takes to answer. And Linux
wakes who sleeps in recv() on a unix socket also when the other side has read what was sent; he
finds nothing, and sleeps again. So before it sleeps there, a thread looks for its answer for a
moment, and lets others go first who want its core. Where that takes long, because they do or
because other threads of this process have the interpreter, it is not tried for some time.
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
"""Returns soon, as a rule when there is something to read. Else who reads waits: recv() goes on
rightly after a signal whose handler has closed the socket, or has forked."""


def leave_it() -> None:
    """Leave the waiting to the one who reads: another machine is far."""


def waiting_for(sock: socket.socket, used: Sized) -> Wait:
    """Return what waits a moment for something to read.

    `used` are the connections of all threads. Where there are several, each of them is left to
    recv(), which takes the interpreter back only once.
    """
    if not hasattr(select, "poll"):
        return leave_it  # eventlet takes it away, and lets its other threads run in recv()
    if hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) == 1:
        return leave_it  # it would hold up the server, which has the same core
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
        while now - begin < AWAKE:
            let_others()
            found = look(0)
            now = clock()
            if found:
                break
        if now - begin > TOO_LONG:
            untried = UNTRIED

    return wait
