"""The async manager: it starts or joins a server, and makes shared objects."""

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar, cast

import anyio

from aiomanager.client._async import AsyncChannel
from aiomanager.client._channel import (
    Endpoint,
    endpoint_of,
    remember_channel,
)
from aiomanager.client._channels import new_async_channel
from aiomanager.objects import Factories, NamedFactories
from aiomanager.operation import SharedObject, bind
from aiomanager.proxy import AsyncProxy, Reference, made_by
from aiomanager.sessions.store import MANAGER
from aiomanager.sessions.store import Manager as SharedManager

__all__ = ("Manager", "connect")

P = TypeVar("P", bound=AsyncProxy)


class ManagerProxy(AsyncProxy, SharedManager):
    """The server's own object, for async code."""


class Named(NamedFactories):
    """Finds or makes named objects: they live until `manager.delete(name)`."""

    def __init__(self, manager: "Manager") -> None:
        self._manager = manager

    async def create(self, face: type[P], name: str, /, *given: Any, **named: Any) -> P:
        """Find or make the object of this name, of the type behind a proxy class."""
        return cast("P", await self._make(face, name, given, named))

    async def _make(
        self, face: type[Any], name: str | None, given: tuple[Any, ...], named: dict[str, Any]
    ) -> Any:
        if name is None:  # such as an environment variable that is not set
            raise TypeError("the name must be a str, not None")
        return await self._manager._make(face, name, given, named)  # pyright: ignore[reportPrivateUsage]


class Manager(Factories):
    """Shared objects for async code; use it as `async with`, or `start()` and `aclose()`.

    `Manager()` starts a private server process, which ends with it. Options: `address` (a URL or
    a stdlib address; a new unix socket by default), `authkey` (bytes, at least 16), `types` (your
    own shared types), `allow_pickle` (whether Python objects that msgpack cannot carry may pass).
    """

    def __init__(
        self,
        address: Any = None,
        *,
        authkey: bytes | None = None,
        types: Sequence[type[SharedObject]] = (),
        allow_pickle: bool | None = None,
        allow_plaintext: bool = False,
    ) -> None:
        self._address = address
        self._authkey = authkey
        self._types = tuple(types)
        self._allow_pickle = allow_pickle
        self._allow_plaintext = allow_plaintext
        self._private = True
        self._server: Any = None
        self._channel: AsyncChannel | None = None
        self._root: ManagerProxy | None = None
        self.named = Named(self)

    def __repr__(self) -> str:
        state = self._channel.describe() if self._channel is not None else "not started"
        return f"<aiomanager.Manager {state}>"

    @property
    def url(self) -> str:
        """The server's URL, for `connect()` in other processes; it holds no secret."""
        return self._open_channel().endpoint.address.url

    def _open_channel(self) -> AsyncChannel:
        if self._channel is None:
            raise RuntimeError(
                "the manager is not started: use 'async with aiomanager.Manager() as manager' "
                "or 'await manager.start()'"
            )
        return self._channel

    async def start(self) -> Self:
        """Start or join the server; return when it answers.

        Raises:
            ConnectionLost: nobody answers at the URL.
            AuthenticationFailed: the keys differ (also multiprocessing.AuthenticationError).
            RuntimeError: the manager was started before, or its server cannot start.
        """
        if self._channel is not None:
            raise RuntimeError("the manager is started already")
        if self._private:
            endpoint = await anyio.to_thread.run_sync(self._start_server)
        else:
            endpoint = endpoint_of(
                self._address, authkey=self._authkey, allow_pickle=self._allow_pickle
            )
        channel = new_async_channel(endpoint)
        for kind in self._types:
            channel.types[kind.type_name] = kind
        try:
            await channel.open()
        except BaseException:
            await channel.aclose()
            await self._stop_server()
            raise
        # A server that nobody can reach any more ends; a proxy can, without its manager.
        channel.server = self._server
        self._channel = channel
        self._root = ManagerProxy(channel, Reference(channel.book, MANAGER, 0))
        self._root._reference.epoch = channel.book.epoch  # pyright: ignore[reportPrivateUsage]
        remember_channel(channel)
        return self

    def _start_server(self) -> Endpoint:
        from aiomanager.server.start import start_server

        self._server, endpoint = start_server(
            self._address,
            authkey=self._authkey,
            types=self._types,
            allow_pickle=self._allow_pickle,
            allow_plaintext=self._allow_plaintext,
        )
        return endpoint

    async def _stop_server(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(server.stop)

    async def aclose(self) -> None:
        """Leave the server; end it if it is private. Harmless when called again."""
        channel, self._channel = self._channel, None
        self._root = None
        try:
            if channel is not None:
                await channel.aclose()
        finally:
            await self._stop_server()

    async def __aenter__(self) -> Self:
        return self if self._channel is not None else await self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    if not TYPE_CHECKING:  # type checkers find the mistake without these

        def __enter__(self) -> NoReturn:
            raise TypeError(
                "'with' cannot start an async manager. Use 'async with aiomanager.Manager()' or "
                "'async with aiomanager.connect()'; in blocking code 'with "
                "aiomanager.sync.Manager()' or 'with aiomanager.sync.connect()'."
            )

        def __exit__(self, *_error: object) -> None: ...

    async def create(self, face: type[P], /, *given: Any, **named: Any) -> P:
        """Make an object of the type behind a proxy class, from the arguments of its `__init__`."""
        return cast("P", await self._make(face, None, given, named))

    async def _make(
        self, face: type[Any], name: str | None, given: tuple[Any, ...], named: dict[str, Any]
    ) -> Any:
        channel = self._open_channel()
        root = cast("ManagerProxy", self._root)
        shared = made_by(face, AsyncProxy)
        wire = channel.maker_plan(shared).encode(bind(shared.type_name, shared.maker, given, named))
        if name is None:
            object_id = await root.create(shared.type_name, wire)
        else:
            object_id = await root.named(shared.type_name, name, wire)
        return face(channel, channel.counted(object_id))

    async def names(self) -> dict[str, str]:
        """Return the names in use, each with the type of its object."""
        self._open_channel()
        return await cast("ManagerProxy", self._root).names()

    async def delete(self, name: str) -> None:
        """Delete the object of this name; raise KeyError."""
        self._open_channel()
        await cast("ManagerProxy", self._root).delete(name)

    async def collect(self) -> int:
        """Free the objects that are reachable only from each other; return how many there were.

        An object that refers to itself, at whatever remove, is not freed with its last proxy. The
        server looks at every value for it, and does nothing else meanwhile.
        """
        await self.names()  # a call takes along what was dropped before it
        return await cast("ManagerProxy", self._root).collect()

    async def statistics(self) -> dict[str, int]:
        """Return what the server counts now.

        `objects` and, of each type that there are any of, `objects.dict` and so on; `names` in
        use; `clients`, which are processes, with those that have just left; their `sessions`, and
        how many of these are `attached` to a connection; `waiting` calls.
        """
        self._open_channel()
        return await cast("ManagerProxy", self._root).statistics()


def connect(
    url: Any = None,
    *,
    authkey: bytes | None = None,
    types: Iterable[type[SharedObject]] = (),
    allow_pickle: bool | None = None,
) -> Manager:
    """Return a manager that joins the server at `url`, or at $AIOMANAGER_URL; not yet started.

    `url` may also be a stdlib address: ('127.0.0.1', 5000) or '/path'.
    """
    manager = Manager(url, authkey=authkey, types=tuple(types), allow_pickle=allow_pickle)
    manager._private = False  # pyright: ignore[reportPrivateUsage]
    return manager
