"""The blocking manager: the names of `aiomanager`, for threads, Pool workers and scripts."""

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from aiomanager.client._blocking import BlockingChannel
from aiomanager.client._channel import endpoint_of, remember_channel
from aiomanager.errors import (
    AuthenticationFailed,
    BrokenBarrierError,
    CallError,
    ConnectionLost,
    DeadlockDetected,
    Empty,
    Full,
    ManagerError,
    NameConflict,
    NotOwner,
    ObjectGone,
    SessionLost,
    ShutDown,
    WorkerLost,
)
from aiomanager.objects import SyncFactories, SyncNamedFactories
from aiomanager.objects.array import SyncArrayProxy
from aiomanager.objects.barrier import SyncBarrierProxy
from aiomanager.objects.condition import SyncConditionProxy
from aiomanager.objects.dict import SyncDictProxy
from aiomanager.objects.event import SyncEventProxy
from aiomanager.objects.jobs import SyncJobProxy
from aiomanager.objects.list import SyncListProxy
from aiomanager.objects.lock import SyncLockProxy
from aiomanager.objects.lock_table import SyncLockTableProxy
from aiomanager.objects.namespace import SyncNamespaceOperations, SyncNamespaceProxy, operations
from aiomanager.objects.pool import SyncPoolProxy
from aiomanager.objects.queue import SyncJoinableQueueProxy, SyncQueueProxy
from aiomanager.objects.rlock import SyncRLockProxy
from aiomanager.objects.semaphore import SyncBoundedSemaphoreProxy, SyncSemaphoreProxy
from aiomanager.objects.set import SyncSetProxy
from aiomanager.objects.value import SyncValueProxy
from aiomanager.objects.views import SyncPlaceView
from aiomanager.operation import (
    SharedObject,
    acquires,
    bind,
    composite,
    owned,
    reads,
    waits,
    writes,
)
from aiomanager.proxy import Reference, SyncProxy, made_by
from aiomanager.sessions.store import MANAGER
from aiomanager.sessions.store import Manager as SharedManager
from aiomanager.stored import MISSING
from aiomanager.waiter import Caller, Waiter, WaitQueue

__all__ = (
    "MISSING",
    "AuthenticationFailed",
    "BrokenBarrierError",
    "CallError",
    "Caller",
    "ConnectionLost",
    "DeadlockDetected",
    "Empty",
    "Full",
    "Manager",
    "ManagerError",
    "NameConflict",
    "NotOwner",
    "ObjectGone",
    "SessionLost",
    "SharedObject",
    "ShutDown",
    "SyncArrayProxy",
    "SyncBarrierProxy",
    "SyncBoundedSemaphoreProxy",
    "SyncConditionProxy",
    "SyncDictProxy",
    "SyncEventProxy",
    "SyncJobProxy",
    "SyncJoinableQueueProxy",
    "SyncListProxy",
    "SyncLockProxy",
    "SyncLockTableProxy",
    "SyncNamespaceOperations",
    "SyncNamespaceProxy",
    "SyncPlaceView",
    "SyncPoolProxy",
    "SyncProxy",
    "SyncQueueProxy",
    "SyncRLockProxy",
    "SyncSemaphoreProxy",
    "SyncSetProxy",
    "SyncValueProxy",
    "WaitQueue",
    "Waiter",
    "WorkerLost",
    "acquires",
    "composite",
    "connect",
    "operations",
    "owned",
    "reads",
    "waits",
    "writes",
)

P = TypeVar("P", bound=SyncProxy)


class ManagerProxy(SyncProxy, SharedManager):
    """The server's own object, for blocking code."""


class Named(SyncNamedFactories):
    """Finds or makes named objects: they live until `manager.delete(name)`."""

    def __init__(self, manager: "Manager") -> None:
        self._manager = manager

    def create(self, face: type[P], name: str, /, *given: Any, **named: Any) -> P:
        """Find or make the object of this name, of the type behind a proxy class."""
        return cast("P", self._make(face, name, given, named))

    def _make(
        self, face: type[Any], name: str | None, given: tuple[Any, ...], named: dict[str, Any]
    ) -> Any:
        if name is None:  # such as an environment variable that is not set
            raise TypeError("the name must be a str, not None")
        return self._manager._make(face, name, given, named)  # pyright: ignore[reportPrivateUsage]


class Manager(SyncFactories):
    """Shared objects for blocking code: starts a private server at the call, ends with `close()`.

    Options: as `aiomanager.Manager`. Use it as a context manager.
    """

    _server: Any
    """The private server's process, if there is one."""

    def __init__(
        self,
        address: Any = None,
        *,
        authkey: bytes | None = None,
        types: Sequence[type[SharedObject]] = (),
        allow_pickle: bool | None = None,
        allow_plaintext: bool = False,
    ) -> None:
        """Start the server.

        Raises:
            ValueError, TypeError: the address or the key is not usable.
            RuntimeError: the server cannot start.
        """
        from aiomanager.server.start import start_server

        self._server, endpoint = start_server(
            address,
            authkey=authkey,
            types=types,
            allow_pickle=allow_pickle,
            allow_plaintext=allow_plaintext,
        )
        try:
            self._open(endpoint, types)
        except BaseException:
            self._server.stop()
            raise
        # A server that nobody can reach any more ends; a proxy can, without its manager.
        self._channel.server = self._server

    def _open(self, endpoint: Any, types: Iterable[type[SharedObject]]) -> None:
        channel = BlockingChannel(endpoint)
        for kind in types:
            channel.types[kind.type_name] = kind
        channel.open()
        self._channel = channel
        self._root = ManagerProxy(channel, Reference(channel.book, MANAGER, channel.book.epoch))
        remember_channel(channel)

    def __repr__(self) -> str:
        return f"<aiomanager.sync.Manager {self._channel.describe()}>"

    @property
    def named(self) -> Named:
        """The factories of named objects, which are found or made."""
        return Named(self)  # made each time: the manager would be in a cycle, and its server stay

    @property
    def url(self) -> str:
        """The server's URL, for `connect()` in other processes; it holds no secret."""
        return self._channel.endpoint.address.url

    def close(self) -> None:
        """Leave the server; end it if it is private. Harmless when called again."""
        self._channel.close()
        server, self._server = self._server, None
        if server is not None:
            server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def create(self, face: type[P], /, *given: Any, **named: Any) -> P:
        """Make an object of the type behind a proxy class, from the arguments of its `__init__`."""
        return cast("P", self._make(face, None, given, named))

    def _make(
        self, face: type[Any], name: str | None, given: tuple[Any, ...], named: dict[str, Any]
    ) -> Any:
        channel = self._channel
        shared = made_by(face, SyncProxy)
        wire = channel.maker_plan(shared).encode(bind(shared.type_name, shared.maker, given, named))
        if name is None:
            object_id = self._root.create(shared.type_name, wire)
        else:
            object_id = self._root.named(shared.type_name, name, wire)
        return face(channel, channel.counted(object_id))

    def names(self) -> dict[str, str]:
        """Return the names in use, each with the type of its object."""
        return self._root.names()

    def delete(self, name: str) -> None:
        """Delete the object of this name; raise KeyError."""
        self._root.delete(name)

    def collect(self) -> int:
        """Free the objects that are reachable only from each other; return how many there were.

        An object that refers to itself, at whatever remove, is not freed with its last proxy. The
        server looks at every value for it, and does nothing else meanwhile.
        """
        self.names()  # a call takes along what was dropped before it
        return self._root.collect()

    def statistics(self) -> dict[str, int]:
        """Return what the server counts now.

        `objects` and, of each type that there are any of, `objects.dict` and so on; `names` in
        use; `clients`, which are processes, with those that have just left; their `sessions`, and
        how many of these are `attached` to a connection; `waiting` calls.
        """
        return self._root.statistics()


class _Joined(Manager):
    """A blocking manager of a server that runs already."""

    def __init__(self, endpoint: Any, types: Iterable[type[SharedObject]]) -> None:
        self._server = None
        self._open(endpoint, types)


def connect(
    url: Any = None,
    *,
    authkey: bytes | None = None,
    types: Iterable[type[SharedObject]] = (),
    allow_pickle: bool | None = None,
) -> Manager:
    """Join the server at `url`, or at $AIOMANAGER_URL, and return its manager.

    `url` may also be a stdlib address: ('127.0.0.1', 5000) or '/path'.

    Raises:
        ConnectionLost: nobody answers there.
        AuthenticationFailed: the keys differ (also multiprocessing.AuthenticationError).
        ValueError, TypeError: the URL or the key is not usable.
    """
    return _Joined(endpoint_of(url, authkey=authkey, allow_pickle=allow_pickle), types)
