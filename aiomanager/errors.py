"""The errors that aiomanager raises, and their codes on the wire; it raises none itself.

ManagerError
 +-- ProtocolError                 a peer broke the protocol; the connection ends
 |    +-- BadEncoding              bytes that are no message (also ValueError)
 |    +-- FrameTooLarge            a frame beyond the agreed limit
 |    +-- VersionMismatch          no common protocol version
 +-- AuthenticationFailed          the peer does not know the key
 +-- ConnectionLost                no server there, or it went away (also ConnectionError, EOFError)
 |    +-- ServerBusy               too many connect at once: try again
 |    +-- SessionLost              the server no longer knows this session: what it held is released
 |         +-- SessionMoved        a newer connection has taken this session over
 +-- CallError                     one call was refused; nothing was changed
      +-- UnknownOperation         also AttributeError
      +-- BadParameters            also TypeError
      +-- BadKey                   also TypeError: a value that cannot be a key
      +-- ObjectGone               also ReferenceError: freed, or deleted by name
      +-- Denied                   also PermissionError
      +-- TooLarge                 also ValueError: beyond a limit of size or depth
      +-- LimitReached             also MemoryError: too many calls, waits or objects
      +-- NameConflict             also ValueError: the name belongs to another kind of object
      +-- NeedsNeutralValue        also TypeError: the server cannot look into this value
      +-- VersionConflict          the value changed meanwhile: read it again
      +-- ResultTimeout            also TimeoutError, and multiprocessing.TimeoutError
      +-- WorkerLost               also RuntimeError: the workers of a pool cannot do a job
      +-- NotOwner                 also RuntimeError: a lock released by somebody else
      +-- DeadlockDetected         also RuntimeError: the wait for a lock would never end
      +-- ServerError              a fault in the server or in a user's shared type
"""

import sys
from collections.abc import Callable
from queue import Empty, Full
from threading import BrokenBarrierError
from typing import ClassVar

if sys.version_info >= (3, 13):
    from queue import ShutDown
else:

    class ShutDown(Exception):
        """Raised by put and get of a queue that was shut down."""


__all__ = (
    "AuthenticationFailed",
    "BadEncoding",
    "BadKey",
    "BadParameters",
    "BrokenBarrierError",
    "CallError",
    "ConnectionLost",
    "DeadlockDetected",
    "Denied",
    "Empty",
    "FrameTooLarge",
    "Full",
    "LimitReached",
    "ManagerError",
    "NameConflict",
    "NeedsNeutralValue",
    "NotOwner",
    "ObjectGone",
    "ProtocolError",
    "ResultTimeout",
    "ServerBusy",
    "ServerError",
    "SessionLost",
    "SessionMoved",
    "ShutDown",
    "TooLarge",
    "UnknownOperation",
    "VersionConflict",
    "VersionMismatch",
    "WorkerLost",
    "code_of",
    "exception_of",
)


class ManagerError(Exception):
    """The root of aiomanager's own errors."""

    code: ClassVar[int] = 500


class ProtocolError(ManagerError):
    """The peer sent what the protocol does not allow; the connection is closed."""

    code = 100


class FrameTooLarge(ProtocolError):
    """A frame is larger than the limit that both sides agreed on."""

    code = 101


class BadEncoding(ProtocolError, ValueError):
    """The bytes are no complete, well-formed message or value."""

    code = 102


class VersionMismatch(ProtocolError):
    """The two sides have no protocol version in common."""

    code = 103


class AuthenticationFailed(ManagerError):
    """The peer did not prove that it knows the key."""

    code = 104


class ConnectionLost(ManagerError, ConnectionError, EOFError):
    """The server cannot be reached, or went away during a call."""

    code = 105


class ServerBusy(ConnectionLost):
    """Too many clients connect at once; the server takes more in a moment."""

    code = 106


class SessionLost(ConnectionLost):
    """The server no longer knows the session; its locks and waits are released.

    A call that was under way may or may not have been executed.
    """

    code = 200


class SessionMoved(SessionLost):
    """A newer connection carries the session: for this one it is lost."""

    code = 109


class CallError(ManagerError):
    """One call was refused; the connection and all other calls are well."""

    code = 301


class UnknownOperation(CallError, AttributeError):
    """The object has no such operation."""

    code = 300


class BadParameters(CallError, TypeError):
    """The operation was called with parameters that it does not take."""

    code = 301


class ObjectGone(CallError, ReferenceError):
    """The object was freed (nobody referred to it) or deleted by name."""

    code = 302


class Denied(CallError, PermissionError):
    """This client may not do that."""

    code = 304


class TooLarge(CallError, ValueError):
    """A value, path or request is beyond a limit of size or depth."""

    code = 307


class LimitReached(CallError, MemoryError):
    """The server holds as many of these as it may; free some and try again."""

    code = 308


class NeedsNeutralValue(CallError, TypeError):
    """The operation must look into a value that only clients can open."""

    code = 310


class NameConflict(CallError, ValueError):
    """The name is in use for an object of another type or with other limits."""

    code = 311


class NotOwner(CallError, RuntimeError):
    """The lock is not held by the caller; the message names the holder."""

    code = 408


class BadKey(CallError, TypeError):
    """The value cannot be a key: it is unhashable, NaN, or has no identity of its own."""

    code = 410


class VersionConflict(CallError):
    """The value changed since the version that the call was made for; perhaps time and again."""

    code = 411


class ResultTimeout(CallError, TimeoutError):
    """The result of a job was not there in time; also multiprocessing.TimeoutError."""

    code = 416


class WorkerLost(CallError, RuntimeError):
    """The workers of a pool cannot do a job: they died of it, cannot start, or were ended."""

    code = 417


class DeadlockDetected(CallError, RuntimeError):
    """The wait for a lock would never end: its owner waits, at last, for the caller.

    The message names all who wait, for what and since when. Nothing was acquired, and what the
    caller holds it still holds: it should release that, and try again.
    """

    code = 418


class ServerError(CallError):
    """The server failed to carry out the call; its log has the traceback."""

    code = 500


_BUILTIN: dict[int, type[Exception]] = {
    400: KeyError,
    401: IndexError,
    402: ValueError,
    403: TypeError,
    404: AttributeError,
    405: Empty,
    406: Full,
    407: ShutDown,
    409: BrokenBarrierError,
    413: OverflowError,
    414: RuntimeError,
    415: TimeoutError,
}


def _own(root: type[ManagerError]) -> dict[int, type[ManagerError]]:
    """Every class below `root` by its code; a class speaks for the code that it introduced."""
    found: dict[int, type[ManagerError]] = {}
    for kind in root.__subclasses__():
        found.update(_own(kind))
        if kind is not CallError:
            found[kind.code] = kind
    return found


_CLASSES: dict[int, Callable[[str], Exception]] = {
    **dict.fromkeys(range(106, 112), ConnectionLost),  # a server that is busy, or closes down
    **_BUILTIN,
    **_own(ManagerError),
}
_CODES: dict[type[Exception], int] = {kind: code for code, kind in _BUILTIN.items()}


def code_of(error: BaseException) -> int | None:
    """Return the wire code of `error`, of its nearest known class; None when it has none."""
    if isinstance(error, ManagerError):
        return error.code
    for kind in type(error).__mro__:
        if kind in _CODES:
            return _CODES[kind]
    return None


def exception_of(code: int, message: str) -> Exception:
    """Return the exception that `code` stands for; an unknown code is served by its hundred."""
    kind = _CLASSES.get(code)
    if kind is None:
        kind = ProtocolError if code < 200 else SessionLost if code < 300 else CallError
    return kind(message)
