"""The process at the other end of a socket, as the kernel tells of it: who, alive, what it read."""

import os
import select
import socket
import struct
from functools import cache
from typing import Any, Final, cast

__all__ = ("can_tell", "ending", "pending", "pidfd_of", "read_all", "socket_pidfd")

SO_PEERPIDFD: Final = 77
EXITING: Final = 0x4
"""PF_EXITING: set before the kernel closes the files of a process that ends."""


def socket_pidfd(sock: Any, pid: int) -> int:
    """Return a descriptor of the peer's process, or -1; the kernel's own knows no reuse."""
    try:
        return cast("int", sock.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD))
    except OSError:
        return pidfd_of(pid)


def pidfd_of(pid: int) -> int:
    """Return a descriptor of a process, or -1."""
    try:
        return os.pidfd_open(pid) if pid > 0 else -1
    except (OSError, AttributeError):
        return -1


def ending(pid: int) -> bool:
    """Tell whether a process has ended, or is being ended: nothing of its own runs any more."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return True
    except OSError:
        return False
    return fields[0] in b"ZX" or bool(int(fields[6]) & EXITING)


def pending(descriptor: int) -> bool:
    """Tell whether there is something to read, be it the end; takes nothing, not even an error."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def read_all(descriptor: int) -> bool:
    """Tell whether the other end of a unix socket has read all that was written to this one.

    A socket that is closed with bytes in it makes the other end fail, and one that another
    process still holds keeps them. Takes nothing, not even an error.
    """
    import fcntl
    import termios

    poll = select.poll()
    poll.register(descriptor, 0)
    if any(event & select.POLLERR for _, event in poll.poll(0)):
        return False
    (unread,) = struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)))
    return bool(unread == 0)


@cache
def can_tell() -> bool:
    """Tell whether this system tells the truth in all of the above: it is tried."""
    try:
        return _told_of(read=True) == (True, True) and _told_of(read=False) == (False, False)
    except (OSError, AttributeError, ImportError, IndexError, ValueError):
        return False


def _told_of(*, read: bool) -> tuple[bool, bool]:
    """Return what is told of one byte, before and after its receiver closes its socket."""
    if ending(os.getpid()) or not ending(0):
        raise OSError("there is no /proc, or it says something else")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours:
        with theirs:
            ours.send(b"x")
            if read:
                theirs.recv(1)
            before = read_all(ours.fileno())
        if not pending(ours.fileno()):
            raise OSError("the end of a stream cannot be seen")
        return before, read_all(ours.fileno())
