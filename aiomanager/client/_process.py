"""What this process is to a server: its id, its machine, and what must happen after a fork."""

import os
import sys
from collections.abc import Callable
from itertools import count
from typing import Final
from weakref import WeakSet

__all__ = (
    "AGENT",
    "Forkable",
    "epochs",
    "host",
    "owners",
    "same_host",
    "watch_fork",
)

AGENT: Final = f"aiomanager/0.1 python/{sys.version_info[0]}.{sys.version_info[1]}"

epochs: Final = count(1)
"""Numbers for the times in which a channel's references are counted: never reused."""
owners: Final = count(1)
"""Tokens of tasks and threads: never reused."""

_host: str | None = None


def host() -> str:
    """Return what names this boot of this machine and the namespace of its process ids.

    Two processes for which it is equal see each other's process ids; "" when unknown.
    """
    global _host
    if _host is None:
        try:
            with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:  # noqa: PTH123
                boot = file.read().strip()
            _host = f"{boot}/{os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115
        except OSError:
            _host = ""
    return _host


def same_host(other: str) -> bool:
    """Tell whether `other`, a peer's `host()`, is this machine and namespace."""
    return bool(other) and other == host()


class Forkable:
    """What holds sockets that a forked child must not share with its parent."""

    def after_fork(self) -> None:
        """Let go of everything inherited; called in the child."""
        raise NotImplementedError


_forkables: WeakSet[Forkable] = WeakSet()
watch_fork: Callable[[Forkable], None] = _forkables.add


def _after_fork() -> None:
    for forkable in list(_forkables):
        forkable.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
