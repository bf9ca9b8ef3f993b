"""The drop-in's managers: they start or join a server and make shared objects in it."""

import contextlib
import os
import queue
import shutil
import signal
import sys
import threading
import traceback
import warnings
from array import array
from collections.abc import Callable, Iterable, Mapping
from multiprocessing import ProcessError, get_context, util
from multiprocessing import managers as _managers
from multiprocessing.managers import Namespace as Namespace
from multiprocessing.managers import SharedMemoryManager as SharedMemoryManager
from multiprocessing.process import AuthenticationString  # type: ignore[attr-defined]  # pyright: ignore
from multiprocessing.process import current_process as current_process
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, TypeVar, cast, overload

from aiomanager.client._channel import Endpoint, remember_channel
from aiomanager.errors import ConnectionLost, ObjectGone, SessionLost
from aiomanager.multiprocessing.addresses import parsed
from aiomanager.multiprocessing.channel import DropInChannel, NarrowChannel
from aiomanager.multiprocessing.faces import (
    AcquirerProxy,
    ArrayProxy,
    BarrierProxy,
    BoundedSemaphoreProxy,
    ConditionProxy,
    DictProxy,
    EventProxy,
    IteratorProxy,
    JoinableQueueProxy,
    ListProxy,
    LockProxy,
    NamespaceProxy,
    PoolProxy,
    QueueProxy,
    RLockProxy,
    SemaphoreProxy,
    SetProxy,
    ValueProxy,
)
from aiomanager.multiprocessing.hosting import WORKSHOP, Entry, Workshop
from aiomanager.multiprocessing.proxies import (
    AutoProxy,
    BaseProxy,
    MakeProxyType,
    RemoteError,
    Token,
    handed_out,
    proxy_of,
)
from aiomanager.multiprocessing.serializers import SERIALIZERS
from aiomanager.objects.submitting import pool_arguments
from aiomanager.operation import K, V, plain_copy
from aiomanager.protocol.address import Address, is_loopback
from aiomanager.proxy import Reference, sync_face

if TYPE_CHECKING:
    from aiomanager.multiprocessing.server import Server as Server

__all__ = (
    "AcquirerProxy",
    "ArrayProxy",
    "AutoProxy",
    "BarrierProxy",
    "BaseManager",
    "BaseProxy",
    "ConditionProxy",
    "DictProxy",
    "EventProxy",
    "IteratorProxy",
    "ListProxy",
    "MakeProxyType",
    "Namespace",
    "NamespaceProxy",
    "PoolProxy",
    "RemoteError",
    "SetProxy",
    "SharedMemoryManager",
    "SyncManager",
    "Token",
    "ValueProxy",
)

P = TypeVar("P", bound=BaseProxy)


# Names of the standard library's that programs use, though nothing says that they may.
BaseListProxy = ListProxy
BasePoolProxy = PoolProxy
_standard: Any = _managers
Array = _standard.Array
Value = _standard.Value
all_methods = _standard.all_methods
dispatch = _standard.dispatch
public_methods = _standard.public_methods


def RebuildProxy(  # noqa: N802
    func: Callable[..., P], token: Token, serializer: str, kwds: dict[str, Any]
) -> P:
    """Make a proxy of the object that a token names, as a pickle of one says."""
    return func(token, serializer, **kwds)


class State:
    """What a manager is in: its value is one of the three."""

    __slots__ = ("value",)
    INITIAL: Final = 0
    STARTED: Final = 1
    SHUTDOWN: Final = 2

    def __init__(self) -> None:
        self.value = self.INITIAL


def __getattr__(name: str) -> Any:
    if name == "Server":
        from aiomanager.multiprocessing.server import Server

        return Server
    try:
        return getattr(_managers, name)  # what it imports, say
    except AttributeError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


class BaseManager:
    """A manager of the types that a program registers: the states, the server, the key."""

    _registry: ClassVar[dict[str, Entry]] = {}

    def __init__(
        self,
        address: Any = None,
        authkey: bytes | None = None,
        serializer: str = "pickle",
        ctx: Any = None,
        *,
        shutdown_timeout: float = 1.0,
    ) -> None:
        """Make a manager in its initial state: `start()` or `connect()` comes next.

        Raises:
            TypeError: the authkey is no bytes.
            KeyError: there is no such serializer.
        """
        if not isinstance(authkey, bytes | bytearray | memoryview | None):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"authkey must be bytes, not {type(authkey).__name__}")
        self._address = address
        self._explicit = authkey is not None
        self._authkey: bytes = AuthenticationString(
            current_process().authkey if authkey is None else authkey
        )
        self._serializer = serializer
        self._narrow = SERIALIZERS[serializer]
        self._ctx: Any = get_context() if ctx is None else ctx
        self._shutdown_timeout = shutdown_timeout
        self._state = State()
        self._channel: DropInChannel = cast("Any", None)
        self._workshop: Any = None

    def _check_initial(self) -> None:
        if self._state.value == State.STARTED:
            raise ProcessError("Already started server")
        if self._state.value == State.SHUTDOWN:
            raise ProcessError("Manager has shut down")

    @property
    def address(self) -> Any:
        """The server's address: a pair of host and port, or a path; as given before the start."""
        return self._address

    def get_server(self) -> "Server":
        """Return a server that listens already; its `serve_forever()` runs it in this process.

        Raises:
            ProcessError: the manager was started before.
            ValueError, OSError: nothing can listen on the address.
        """
        from aiomanager.multiprocessing.server import Server

        self._check_initial()
        return Server(
            self._registry,
            self._address,
            bytes(self._authkey),
            self._serializer,
            explicit_key=self._explicit,
            allow_plaintext=self._allows_plaintext(),
        )

    def start(
        self, initializer: Callable[..., object] | None = None, initargs: Iterable[Any] = ()
    ) -> None:
        """Start a private server, which ends with this process at the latest.

        It calls `initializer(*initargs)` before it makes anything.

        Raises:
            ProcessError: the manager was started before.
            TypeError: the initializer cannot be called.
            EOFError: the server could not start; its error output says why.
        """
        self._check_initial()
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        options = {
            "explicit_key": self._explicit,
            "allow_plaintext": self._allows_plaintext(),
            "parent": os.getpid(),
        }
        reader, writer = self._ctx.Pipe(duplex=False)
        process = self._process = self._ctx.Process(
            target=type(self)._run_server,
            args=(
                self._registry,
                self._address,
                self._authkey,
                self._serializer,
                writer,
                initializer,
                tuple(initargs),
                options,
            ),
        )
        identity = ":".join(map(str, process._identity))
        process.name = f"{type(self).__name__}-{identity}"
        process.start()
        writer.close()
        try:
            answer = reader.recv()
        except EOFError:
            process.join()
            raise EOFError(
                f"the server process ended with code {process.exitcode} before it listened; "
                "its error output says why"
            ) from None
        finally:
            reader.close()
        if isinstance(answer, Exception):
            process.join()
            raise answer
        # The server makes a directory for its socket and removes it, unless it is killed.
        directory = os.path.dirname(answer) if self._address is None else None  # noqa: PTH120
        self._address = answer
        self._open(parsed(self._address))
        # The server ends when neither the manager nor a proxy can reach it any more.
        anchor = self._channel.server = _Anchor()
        self.shutdown = util.Finalize(
            anchor,
            type(self)._finalize_manager,
            args=(
                process,
                self._channel.endpoint,
                self._state,
                self._shutdown_timeout,
                directory,
                os.getpid(),
            ),
            exitpriority=0,
        )

    @classmethod
    def _run_server(
        cls,
        registry: Mapping[str, Entry],
        address: Any,
        authkey: bytes,
        serializer: str,
        writer: Any,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        options: dict[str, Any],
    ) -> None:
        """Be the server's process: tell `writer` the address and serve."""
        from aiomanager.multiprocessing.server import Server

        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if initializer is not None:
            initializer(*initargs)
        try:
            server = Server(registry, address, bytes(authkey), serializer, **options)
        except Exception as error:
            writer.send(error)  # whoever starts the manager raises it
            raise SystemExit(1) from None
        writer.send(server.address)
        writer.close()
        util.info("manager serving at %r", server.address)
        server.serve_forever()

    @staticmethod
    def _finalize_manager(
        process: Any,
        endpoint: Endpoint,
        state: State,
        timeout: float,
        directory: str | None,
        owner: int,
    ) -> None:
        """End the server: ask it, and wait; then less and less politely."""
        if os.getpid() != owner:
            return
        state.value = State.SHUTDOWN
        if process.is_alive():
            with contextlib.suppress(Exception):
                channel = DropInChannel(endpoint)
                _workshop_of(channel).shutdown()
                channel.close()
            process.join(timeout=timeout)
            if process.is_alive():
                process.terminate()
                process.join(timeout=timeout)
                if process.is_alive():
                    process.kill()
                    process.join()
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)

    def _allows_plaintext(self) -> bool:
        where = None if self._address is None else parsed(self._address)
        if where is None or where.scheme == "unix" or is_loopback(where) or not self._explicit:
            return False
        warnings.warn(
            f"{where.url} is reachable from other machines and the connection is not encrypted: "
            "whoever reads it reads the values, and the authkey alone keeps others out",
            RuntimeWarning,
            stacklevel=_frames_of_ours(),
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
            self._open(parsed(self._address))
        except ConnectionLost as error:
            if isinstance(error.__cause__, OSError):
                raise error.__cause__ from None
            raise

    def _open(self, address: Address) -> None:
        key = bytes(self._authkey) if self._explicit else None
        endpoint = Endpoint(address, key, allow_pickle=True)
        narrow = self._narrow
        channel = DropInChannel(endpoint) if narrow is None else NarrowChannel(endpoint, narrow)
        channel.open()
        remember_channel(channel)
        self._channel = channel
        self._state.value = State.STARTED

    def __enter__(self) -> Self:
        if self._state.value == State.INITIAL:
            self.start()
        if self._state.value != State.STARTED:
            raise ProcessError("Manager has shut down")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown()

    def _check_started(self) -> None:
        if self._state.value != State.STARTED:
            raise AssertionError("server not yet started")

    def _make(
        self,
        face: type[P],
        given: tuple[Any, ...] | Callable[[], tuple[Any, ...]],
        named: Mapping[str, Any],
    ) -> P:
        """Make a shared object of one of our own types and return its proxy.

        `given` are its arguments, or what returns them.

        Raises:
            RemoteError: the arguments do not fit.
        """
        self._check_started()
        try:
            arguments = given() if callable(given) else given
            try:
                return cast("P", self._channel.make(face, arguments, named))
            except SessionLost:
                # With a successor of the server, perhaps. What was made before dies unseen.
                return cast("P", self._channel.make(face, arguments, named))
        except ConnectionLost:
            raise
        except Exception as error:
            if getattr(error, "of_pickle", False):
                raise
            raise RemoteError(traceback.format_exc()) from error

    def _create(self, typeid: str, /, *given: Any, **named: Any) -> tuple[Token, tuple[str, ...]]:
        """Have the server make an object of a registered type; return its token and methods.

        Raises:
            RemoteError: it is not registered there, or what is registered raised.
        """
        self._check_started()
        token, _, exposed = self._created(typeid, given, named)
        return token, exposed

    def _created(
        self, typeid: str, given: tuple[Any, ...], named: Mapping[str, Any]
    ) -> tuple[Token, str, tuple[str, ...]]:
        channel = self._channel
        if self._workshop is None:
            self._workshop = _workshop_of(channel)
        arguments = (typeid, (given, dict(named)))
        try:
            try:
                answer = self._workshop.create(*arguments)
            except SessionLost:
                # With a successor of the server, perhaps. What was made before dies unseen.
                answer = self._workshop.create(*arguments)
        except ObjectGone:
            raise RemoteError(
                f"KeyError: {typeid!r}: the server at {channel.endpoint.address.url} has only "
                "aiomanager's own types, since no manager of this package started it\n"
            ) from None
        return handed_out(channel, answer)

    def join(self, timeout: float | None = None) -> None:
        """Wait until the private server has ended, at most `timeout` seconds.

        Raises:
            AttributeError: the manager has started none.
        """
        if not hasattr(self, "_process"):
            raise AttributeError(f"this {type(self).__name__} has started no server")
        if self._process is not None:
            self._process.join(timeout)
            if not self._process.is_alive():
                self._process = None

    def _number_of_objects(self) -> int:
        """Return the number of shared objects."""
        self._channel.root.collect()  # also those that refer to each other only
        return cast("int", self._channel.root.statistics()["objects"])

    def _debug_info(self) -> str:
        """Return what the server counts, as text."""
        counted = self._channel.root.statistics()
        return "\n".join(f"{what}: {number}" for what, number in counted.items())

    @classmethod
    def register(
        cls,
        typeid: str,
        callable: Callable[..., Any] | None = None,
        proxytype: Any = None,
        exposed: Iterable[str] | None = None,
        method_to_typeid: Mapping[str, str] | None = None,
        create_method: bool = True,
    ) -> None:
        """Register a type, before the server starts: what makes its objects, and their proxies.

        Args:
            typeid: the name of the type, and of the manager's method that makes an object.
            callable: makes an object, in the server; a client of a server elsewhere needs none.
            proxytype: the class of proxies; by default one with all public methods.
            exposed: the methods that may be called; else the proxy class's `_exposed_`, or all
                public ones.
            method_to_typeid: the typeid of what these methods return a proxy of.
            create_method: whether the manager gets a method named `typeid`.
        """
        if "_registry" not in cls.__dict__:
            cls._registry = cls._registry.copy()
        if proxytype is None:
            proxytype = AutoProxy
        exposed = exposed or getattr(proxytype, "_exposed_", None)
        method_to_typeid = method_to_typeid or getattr(proxytype, "_method_to_typeid_", None)
        if method_to_typeid:
            for name, returned in list(method_to_typeid.items()):
                assert type(name) is str, f"{name!r} is not a string"
                assert type(returned) is str, f"{returned!r} is not a string"
        cls._registry[typeid] = Entry(
            callable, None if exposed is None else tuple(exposed), method_to_typeid, proxytype
        )
        if create_method:

            def make(self: BaseManager, /, *args: Any, **kwds: Any) -> Any:
                util.debug("requesting creation of a shared %r object", typeid)
                self._check_started()
                token, _, methods = self._created(typeid, args, kwds)
                return proxy_of(token, proxytype, methods or None, self)

            make.__name__ = typeid
            setattr(cls, typeid, make)


def _frames_of_ours() -> int:
    """Return the stack level of whoever called this package, for who calls this to warn there."""
    level = 1
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame.f_back is not None and frame.f_globals["__name__"].startswith("aiomanager."):
        level, frame = level + 1, frame.f_back
    return level


def _workshop_of(channel: DropInChannel) -> Any:
    return sync_face(Workshop)(channel, Reference(channel.book, WORKSHOP, channel.book.epoch))


class _Anchor:
    """Lives as long as a channel does: the server that the channel leads to ends with it."""


class SyncManager(BaseManager):
    """The manager that `Manager()` returns: it makes all the shared types."""

    def Value(  # noqa: N802
        self, typecode: Any, value: V, lock: bool = True
    ) -> ValueProxy[V]:
        """Make a shared value; `typecode` and `lock` mean nothing."""
        return self._make(ValueProxy, (typecode, value, lock), {})  # pyright: ignore[reportUnknownVariableType]

    def Event(self) -> EventProxy:  # noqa: N802
        """Make a shared event, its flag down."""
        return self._make(EventProxy, (), {})

    def Lock(self) -> LockProxy:  # noqa: N802
        """Make a shared lock, which one may acquire and another release."""
        return self._make(LockProxy, (), {})

    def RLock(self) -> RLockProxy:  # noqa: N802
        """Make a shared lock that belongs to a thread, which may acquire it again."""
        return self._make(RLockProxy, (), {})

    def Semaphore(self, value: int = 1) -> SemaphoreProxy:  # noqa: N802
        """Make a shared semaphore with so many permits."""
        return self._make(SemaphoreProxy, (value,), {})

    def BoundedSemaphore(self, value: int = 1) -> BoundedSemaphoreProxy:  # noqa: N802
        """Make a shared semaphore that never has more permits than these."""
        return self._make(BoundedSemaphoreProxy, (value,), {})

    def Condition(self, lock: LockProxy | RLockProxy | None = None) -> ConditionProxy:  # noqa: N802
        """Make a shared condition over a shared lock, or one of its own."""
        return self._make(ConditionProxy, (lock,), {})

    def Barrier(  # noqa: N802
        self, parties: int, action: Callable[[], Any] | None = None, timeout: float | None = None
    ) -> BarrierProxy:
        """Make a shared barrier; `action` runs in one of the parties each time."""
        return self._make(BarrierProxy, (parties, action, timeout), {})

    def Queue(self, maxsize: int = 0) -> QueueProxy[Any]:  # noqa: N802
        """Make a shared queue with room for `maxsize` items, without limit for 0."""
        return self._make(QueueProxy, (maxsize,), {})  # pyright: ignore[reportUnknownVariableType]

    def JoinableQueue(self, maxsize: int = 0) -> JoinableQueueProxy[Any]:  # noqa: N802
        """Make a shared joinable queue with room for `maxsize` items, without limit for 0."""
        return self._make(JoinableQueueProxy, (maxsize,), {})  # pyright: ignore[reportUnknownVariableType]

    def Array(  # noqa: N802
        self, typecode: str, sequence: Any, lock: bool = True
    ) -> ArrayProxy:
        """Make a shared array of numbers, as `array.array(typecode, sequence)` has them.

        `lock` means nothing.
        """

        def numbers() -> tuple[str, Any]:
            return typecode, array(typecode, plain_copy(sequence))

        return self._make(ArrayProxy, numbers, {})

    def Namespace(self, /, *given: Any, **values: Any) -> NamespaceProxy:  # noqa: N802
        """Make a shared namespace with these attributes; they must be named."""
        if given:
            raise RemoteError(
                f"TypeError: Namespace() takes named values only, not {given!r:.80}\n"
            )
        return self._make(NamespaceProxy, (), values)

    @overload
    def list(self, /) -> ListProxy[Any]: ...
    @overload
    def list(self, items: Iterable[V], /) -> ListProxy[V]: ...
    def list(self, items: Iterable[Any] = (), /) -> ListProxy[Any]:
        """Make a shared list."""
        return self._make(ListProxy, (items,), {})  # pyright: ignore[reportUnknownVariableType]

    @overload
    def set(self, /) -> SetProxy[Any]: ...
    @overload
    def set(self, elements: Iterable[K], /) -> SetProxy[K]: ...
    def set(self, elements: Iterable[Any] = (), /) -> SetProxy[Any]:
        """Make a shared set."""
        return self._make(SetProxy, (elements,), {})  # pyright: ignore[reportUnknownVariableType]

    @overload
    def dict(self, /) -> DictProxy[Any, Any]: ...
    @overload
    def dict(self, /, **more: V) -> DictProxy[str, V]: ...
    @overload
    def dict(
        self, items: Mapping[K, V] | Iterable[tuple[K, V]], /, **more: V
    ) -> DictProxy[K, V]: ...
    def dict(
        self, items: Mapping[Any, Any] | Iterable[tuple[Any, Any]] = (), /, **more: Any
    ) -> DictProxy[Any, Any]:
        """Make a shared dict."""
        return self._make(DictProxy, (items,), more)  # pyright: ignore[reportUnknownVariableType]

    def Pool(  # noqa: N802
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
    ) -> PoolProxy:
        """Start a pool of worker processes beside the server, by default one for each processor.

        They are the server's children, by its start method.

        Raises:
            RemoteError: the arguments do not fit.
        """
        try:
            made = pool_arguments(processes, initializer, initargs, maxtasksperchild)
        except Exception as error:
            raise RemoteError(traceback.format_exc()) from error
        return self._make(PoolProxy, made, {})


# What `method_to_typeid` may name, and clients that know a typeid only.
_built_in: tuple[tuple[str, Any, Any], ...] = (
    ("Queue", queue.Queue, None),
    ("JoinableQueue", queue.Queue, None),
    ("Event", threading.Event, EventProxy),
    ("Lock", threading.Lock, AcquirerProxy),
    ("RLock", threading.RLock, AcquirerProxy),
    ("Semaphore", threading.Semaphore, AcquirerProxy),
    ("BoundedSemaphore", threading.BoundedSemaphore, AcquirerProxy),
    ("Condition", threading.Condition, ConditionProxy),
    ("Barrier", threading.Barrier, BarrierProxy),
    ("Pool", _standard.pool.Pool, PoolProxy),
    ("list", list, ListProxy),
    ("dict", dict, DictProxy),
    ("set", set, SetProxy),
    ("Value", Value, ValueProxy),
    ("Array", Array, ArrayProxy),
    ("Namespace", Namespace, NamespaceProxy),
)
for _typeid, _callable, _face in _built_in:
    SyncManager.register(_typeid, _callable, _face, create_method=False)
SyncManager.register("AsyncResult", create_method=False)
SyncManager.register("Iterator", proxytype=IteratorProxy, create_method=False)
