"""The drop-in's managers: they start or join a server and make shared objects in it."""

import os
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping
from multiprocessing import ProcessError
from multiprocessing.context import BaseContext
from multiprocessing.managers import SharedMemoryManager as SharedMemoryManager
from multiprocessing.process import AuthenticationString  # type: ignore[attr-defined]  # pyright: ignore
from multiprocessing.process import current_process as current_process
from types import TracebackType
from typing import Any, Final, NoReturn, Self, TypeVar, cast

from aiomanager.client._channel import Endpoint, remember_channel
from aiomanager.errors import ConnectionLost
from aiomanager.multiprocessing.channel import DropInChannel
from aiomanager.multiprocessing.proxies import (
    AcquirerProxy,
    BaseProxy,
    DictProxy,
    EventProxy,
    ListProxy,
    QueueProxy,
    RemoteError,
    ValueProxy,
)
from aiomanager.operation import K, V, bind
from aiomanager.protocol.address import Address, is_loopback, parse_address
from aiomanager.proxy import Reference, sync_face
from aiomanager.sessions.store import MANAGER
from aiomanager.sessions.store import Manager as SharedManager

__all__ = (
    "AcquirerProxy",
    "BaseManager",
    "BaseProxy",
    "DictProxy",
    "EventProxy",
    "ListProxy",
    "RemoteError",
    "SharedMemoryManager",
    "SyncManager",
    "ValueProxy",
)

P = TypeVar("P", bound=BaseProxy)

INITIAL: Final = "initial"
STARTED: Final = "started"
SHUTDOWN: Final = "shut down"

_LATER: Final = frozenset(
    {
        "ArrayProxy", "AutoProxy", "BarrierProxy", "ConditionProxy", "IteratorProxy",
        "MakeProxyType", "Namespace", "NamespaceProxy", "PoolProxy", "Server", "Token",
    }
)  # fmt: skip


def _not_yet(what: str) -> NotImplementedError:
    return NotImplementedError(
        f"{what} is not there yet: this version of aiomanager.multiprocessing shares dict, list, "
        "Value, Event, Lock and Queue. Use the standard library's manager for it meanwhile"
    )


def __getattr__(name: str) -> NoReturn:
    if name in _LATER:
        raise _not_yet(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class BaseManager:
    """A manager that has no types of its own: the states, the server, the key.

    Its private server is a fresh interpreter, whatever the start method of `ctx`.
    """

    def __init__(
        self,
        address: Any = None,
        authkey: bytes | None = None,
        serializer: str = "pickle",
        ctx: BaseContext | None = None,
        *,
        shutdown_timeout: float = 1.0,
    ) -> None:
        """Make a manager in its initial state: `start()` or `connect()` comes next.

        Raises:
            TypeError: the authkey is no bytes.
        """
        if not isinstance(authkey, bytes | bytearray | memoryview | None):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"authkey must be bytes, not {type(authkey).__name__}")
        if serializer != "pickle":
            raise _not_yet(f"the serializer {serializer!r}")
        self._address = address
        self._explicit = authkey is not None
        self._authkey: bytes = AuthenticationString(
            current_process().authkey if authkey is None else authkey
        )
        self._ctx = ctx
        self._shutdown_timeout = shutdown_timeout
        self._state = INITIAL
        self._server: Any = None
        self._channel: DropInChannel = cast("Any", None)
        self._root: Any = None

    def _check_initial(self) -> None:
        if self._state == STARTED:
            raise ProcessError("Already started server")
        if self._state == SHUTDOWN:
            raise ProcessError("Manager has shut down")

    @property
    def address(self) -> Any:
        """The server's address: a pair of host and port, or a path; as given before the start."""
        return self._address

    def start(
        self, initializer: Callable[..., object] | None = None, initargs: Iterable[Any] = ()
    ) -> None:
        """Start a private server, which ends with this process at the latest.

        Raises:
            ProcessError: the manager was started before.
            ValueError: nothing can listen on the address.
        """
        from aiomanager.server.process import PrivateServer

        self._check_initial()
        if initializer is not None:
            if not callable(initializer):
                raise TypeError("initializer must be a callable")
            raise _not_yet("an initializer of the server")
        where = None if self._address is None else _parsed(self._address)
        network = where is not None and where.scheme != "unix"
        server = PrivateServer(
            where,
            key=bytes(self._authkey) if self._explicit or network else None,
            explicit_key=self._explicit,
            allow_plaintext=network and self._allows_plaintext(cast("Address", where)),
        )
        try:
            self._open(server.address)
        except BaseException:
            server.stop()
            raise
        # The server ends when neither the manager nor a proxy can reach it any more.
        self._server = self._channel.server = server
        self._address = _shown(server.address)

    def _allows_plaintext(self, where: Address) -> bool:
        if is_loopback(where) or not self._explicit:
            return False
        warnings.warn(
            f"{where.url} is reachable from other machines and the connection is not encrypted: "
            "whoever reads it reads the values, and the authkey alone keeps others out",
            RuntimeWarning,
            stacklevel=4,
        )
        return True

    def connect(self) -> None:
        """Join the server at the address that the manager was made with.

        Raises:
            AuthenticationError: the server has another key.
            ConnectionRefusedError, FileNotFoundError: nobody answers there.
            ValueError: there is no address.
        """
        try:
            self._open(_parsed(self._address))
        except ConnectionLost as error:
            if isinstance(error.__cause__, OSError):
                raise error.__cause__ from None
            raise

    def _open(self, address: Address) -> None:
        key = bytes(self._authkey) if self._explicit else None
        channel = DropInChannel(Endpoint(address, key, allow_pickle=True))
        channel.open()
        remember_channel(channel)
        self._channel = channel
        self._root = sync_face(SharedManager)(
            channel, Reference(channel.book, MANAGER, channel.book.epoch)
        )
        self._state = STARTED

    @property
    def shutdown(self) -> Callable[[], None]:
        """The method that ends the private server; a manager that started none lacks it."""
        if self._server is None:
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute 'shutdown': it started no server"
            )
        return self._shut_down

    def _shut_down(self) -> None:
        if self._state == STARTED:
            self._state = SHUTDOWN
            self._channel.close()
            self._server.stop(self._shutdown_timeout)

    def __enter__(self) -> Self:
        if self._state == INITIAL:
            self.start()
        if self._state != STARTED:
            raise ProcessError("Manager has shut down")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown()

    def _create(self, face: type[P], given: tuple[Any, ...], named: Mapping[str, Any]) -> P:
        """Make a shared object and return its proxy.

        Raises:
            RemoteError: the arguments do not fit.
        """
        assert self._state == STARTED, "server not yet started"
        channel, shared = self._channel, face.shared_type
        try:
            arguments = bind(shared.type_name, shared.maker, given, dict(named))
            wire = channel.maker_plan(shared).encode(arguments)
            object_id = self._root.create(shared.type_name, wire)
        except ConnectionLost:
            raise
        except Exception as error:
            raise RemoteError(traceback.format_exc()) from error
        return face(channel, channel.counted(object_id))

    def join(self, timeout: float | None = None) -> None:
        """Wait until the private server has ended, at most `timeout` seconds.

        Raises:
            AttributeError: the manager has started none.
        """
        if self._server is None:
            raise AttributeError(f"this {type(self).__name__} has started no server")
        self._server.wait(timeout)

    def _number_of_objects(self) -> int:
        """Return the number of shared objects."""
        self._root.names()  # a call takes along what was dropped before it
        return cast("int", self._root.statistics()["objects"])

    def _debug_info(self) -> str:
        """Return what the server counts, as text."""
        return "\n".join(f"{what}: {number}" for what, number in self._root.statistics().items())

    @classmethod
    def register(cls, typeid: str, *_given: Any, **_named: Any) -> NoReturn:
        """Refuse: types of the program's own come with a later version."""
        raise _not_yet(f"{cls.__name__}.register({typeid!r}, ...)")

    def get_server(self) -> NoReturn:
        """Refuse: servers in the program's own process come with a later version."""
        raise _not_yet(f"{type(self).__name__}.get_server()")


def _parsed(address: Any) -> Address:
    """Return a standard library's address as ours; raise ValueError for anything else."""
    if isinstance(address, str) and "://" not in address and not address.startswith("\0"):
        address = os.path.abspath(address)  # noqa: PTH100
    try:
        return parse_address(address)
    except TypeError as error:
        raise ValueError(f"address type of {address!r} unrecognized: {error}") from None


def _shown(address: Address) -> Any:
    """Return an address as the standard library writes it."""
    return address.path if address.scheme == "unix" else (address.host, address.port)


def _later(name: str) -> Callable[..., NoReturn]:
    def method(self: BaseManager, *_given: Any, **_named: Any) -> NoReturn:
        """Refuse: this type comes with a later version."""
        raise _not_yet(f"{type(self).__name__}.{name}()")

    method.__name__ = name
    return method


class SyncManager(BaseManager):
    """The manager that `Manager()` returns: it makes dicts, lists, values, events, locks, queues.

    For anything that needs `register` see BaseManager.
    """

    Array = _later("Array")
    Barrier = _later("Barrier")
    BoundedSemaphore = _later("BoundedSemaphore")
    Condition = _later("Condition")
    JoinableQueue = _later("JoinableQueue")
    Namespace = _later("Namespace")
    Pool = _later("Pool")
    RLock = _later("RLock")
    Semaphore = _later("Semaphore")

    def Value(  # noqa: N802
        self, typecode: Any, value: V, lock: bool = True
    ) -> ValueProxy[V]:
        """Make a shared value; `typecode` and `lock` mean nothing."""
        return self._create(ValueProxy, (typecode, value, lock), {})  # pyright: ignore[reportUnknownVariableType]

    def Event(self) -> EventProxy:  # noqa: N802
        """Make a shared event, its flag down."""
        return self._create(EventProxy, (), {})

    def Lock(self) -> AcquirerProxy:  # noqa: N802
        """Make a shared lock."""
        return self._create(AcquirerProxy, (), {})

    def Queue(self, maxsize: int = 0) -> QueueProxy[Any]:  # noqa: N802
        """Make a shared queue with room for `maxsize` items, without limit for 0."""
        return self._create(QueueProxy, (maxsize,), {})  # pyright: ignore[reportUnknownVariableType]

    def list(self, items: Iterable[V] = (), /) -> ListProxy[V]:
        """Make a shared list."""
        return self._create(ListProxy, (items,), {})  # pyright: ignore[reportUnknownVariableType]

    def dict(
        self, items: Mapping[K, V] | Iterable[tuple[K, V]] = (), /, **more: V
    ) -> DictProxy[K, V]:
        """Make a shared dict."""
        return self._create(DictProxy, (items,), more)  # pyright: ignore[reportUnknownVariableType]
