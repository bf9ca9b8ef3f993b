"""The asyncio client: one connection, any number of tasks, one future for each call.

All calls of one tick of the loop leave in one write. A cancelled call is taken back on the
server, and its task goes on when the server has said how that went.
"""

import asyncio
import socket
from asyncio import events
from typing import Any, cast
from weakref import WeakKeyDictionary

from aiomanager.client._channel import (
    ChannelBase,
    Endpoint,
    handshake_for,
    refused,
    tune,
    unreachable,
)
from aiomanager.client._process import owners
from aiomanager.errors import (
    AuthenticationFailed,
    ConnectionLost,
    ManagerError,
    NeedsNeutralValue,
    ProtocolError,
    SessionLost,
)
from aiomanager.operation import Operation, drive
from aiomanager.protocol.handshake import ClientHandshake, Resume
from aiomanager.protocol.messages import ERROR
from aiomanager.proxy import AsyncProxy, Proxy, Reference
from aiomanager.sessions.client import ClientSession, error_of
from aiomanager.stored import ABSENT

__all__ = ("AsyncioChannel",)

_DETACHED: list[Any] = []
"""Answers a cancelled call whose connection is lost: it is taken back when it resumes, or the
session ends and everything with it."""


class _Connection(asyncio.Protocol):
    """One connection: the handshake, then bytes for the channel's session."""

    def __init__(self, channel: "AsyncioChannel", handshake: ClientHandshake) -> None:
        self.channel = channel
        self.handshake: ClientHandshake | None = handshake
        self.transport: asyncio.Transport | None = None
        self.ready: asyncio.Future[None] = channel.loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        if self.handshake is not None:
            self.transport.write(self.handshake.start())

    def data_received(self, data: bytes) -> None:
        if self.handshake is None:
            self.channel.data_received(self, data)
            return
        try:
            reply = self.handshake.receive_data(data)
        except Exception as error:
            self._end(error)
            return
        if reply and self.transport is not None:
            self.transport.write(reply)
        if self.handshake.welcome is not None and not self.ready.done():
            self.ready.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.handshake is not None:
            self._end(exc or ConnectionResetError("the server closed the connection"))
        self.channel.connection_lost(self)

    def _end(self, error: Exception) -> None:
        if not self.ready.done():
            self.ready.set_exception(error)
            self.ready.exception()
        if self.transport is not None:
            self.transport.close()


class AsyncioChannel(ChannelBase):
    """The way from async proxies to a server, on one asyncio loop."""

    proxies_are = AsyncProxy

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self.loop: asyncio.AbstractEventLoop = cast("Any", None)
        self._session: ClientSession[asyncio.Future[Any]] | None = None
        self._connection: _Connection | None = None
        self._opening: asyncio.Task[None] | None = None
        self._resuming: asyncio.Task[None] | None = None
        self._flush_scheduled = False
        self._owners: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()
        self._grace = 0.0

    # Calls

    def owner(self) -> int:
        """Return the token of the running task."""
        task = asyncio.current_task()
        if task is None:
            return 0
        token = self._owners.get(task)
        if token is None:
            token = self._owners[task] = next(owners)
        return token

    async def call(
        self, proxy: Proxy, operation: Operation[..., Any], arguments: tuple[Any, ...],
        owner: int = 0,
    ) -> Any:  # fmt: skip
        """Carry out one operation; see the operation's own docstring."""
        session = self._session
        if session is None or events._get_running_loop() is not self.loop:
            session = await self._open()
        plan = self._plans.of(operation)
        wire = plan.encode(arguments)
        reference = proxy._reference  # pyright: ignore[reportPrivateUsage]
        if reference.epoch != self.book.epoch:
            self.count(reference)
        if session.losses:
            loss = session.losses.pop(reference.object_id, None)
            if loss is not None:
                raise loss
        future: asyncio.Future[Any] = self.loop.create_future()
        call_id = session.call(future, reference.object_id, operation.name, wire, owner)
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self.loop.call_soon(self._flush)
        try:
            message = await future
        except asyncio.CancelledError:
            if operation.waits or not future.done():
                await self._cancel(session, call_id)
            raise
        if operation.waits:
            session.keep(call_id)
            self._flush_soon()
        if message[0] == ERROR:
            error = error_of(message, self.decode_key)
            if isinstance(error, NeedsNeutralValue) and operation.client_side is not None:
                steps = operation.client_side(proxy, *arguments)
                return await drive(steps, next(steps))
            raise error
        result = plan.decode_result(message[3])
        if result is ABSENT:
            return arguments[cast("int", operation.default_index)]
        return result

    async def _cancel(self, session: ClientSession[Any], call_id: int) -> None:
        """Take a call back, and wait until the server has said how that went."""
        if session is not self._session:
            return
        outcome: asyncio.Future[Any] = self.loop.create_future()
        if not session.cancel(call_id, outcome) or self._connection is None:
            return
        self._flush_soon()
        while not outcome.done():
            try:
                await asyncio.wait((outcome,))
            except asyncio.CancelledError:
                # The caller is being cancelled already; what it was granted must be known first.
                continue

    def post(
        self, proxy: Proxy, operation: Operation[..., Any], arguments: tuple[Any, ...],
        owner: int = 0,
    ) -> None:  # fmt: skip
        """Send an operation without waiting for its answer."""
        session = self._session
        reference = proxy._reference  # pyright: ignore[reportPrivateUsage]
        if session is None:
            raise SessionLost(
                "the session was lost while it held the lock; the server has given it to others"
            )
        loss = session.losses.pop(reference.object_id, None) if session.losses else None
        if loss is not None:
            raise loss
        wire = self._plans.of(operation).encode(arguments)
        session.post(reference.object_id, operation.name, wire, owner)
        self._flush_soon()

    def count(self, reference: Reference) -> None:
        """Have the server count a reference before it sees the next call."""
        if self._session is not None:
            reference.epoch = self.book.epoch
            self._session.hold([reference.object_id])

    def _flush_soon(self) -> None:
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        session, connection = self._session, self._connection
        if session is None or connection is None:
            return
        if self.book.dropped:
            session.release(self.book.take_dropped())
        frames = session.data_to_send()
        if frames and connection.transport is not None:
            connection.transport.write(frames[0] if len(frames) == 1 else b"".join(frames))

    # Connections

    async def open(self) -> None:
        """Connect, unless that is done.

        Raises:
            ConnectionLost: nobody answers at the address.
            AuthenticationFailed: the server refuses the key, or does not know it.
        """
        await self._open()

    async def _open(self) -> ClientSession[asyncio.Future[Any]]:
        loop = asyncio.get_running_loop()
        if self.loop is not loop:
            if self.loop is not None and not self.loop.is_closed() and self._session is not None:
                raise RuntimeError(
                    "this proxy's connection belongs to another event loop; connect in this "
                    "loop with 'async with aiomanager.connect(url)'"
                )
            self._reset()
            self.loop = loop
        if self._session is None:
            if self._opening is None:
                self._opening = loop.create_task(self._open_session())
            try:
                await asyncio.shield(self._opening)
            finally:
                if self._opening is not None and self._opening.done():
                    self._opening = None
        assert self._session is not None
        return self._session

    def _reset(self) -> None:
        """Forget a session and all that belonged to its loop."""
        self._session = None
        self._connection = None
        self._opening = self._resuming = None
        self._flush_scheduled = False
        self._owners.clear()
        self.book.renew()

    async def _open_session(self) -> None:
        connection = await self._connect(None)
        handshake, connection.handshake = connection.handshake, None
        welcome = handshake.welcome if handshake is not None else None
        if handshake is None or welcome is None:
            raise ConnectionLost("the server closed the connection")
        self._grace = welcome.grace
        self._session = ClientSession(welcome.session, welcome.limits)
        self._connection = connection
        if handshake.trailing:
            self.data_received(connection, handshake.trailing)
        self._flush_soon()

    async def _connect(self, resume: Resume | None) -> _Connection:
        """Return a connection whose handshake is done."""
        address = self.endpoint.address
        loop = self.loop
        sock: socket.socket | None = None
        try:
            if address.scheme == "unix":
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                sock.setblocking(False)
                await loop.sock_connect(sock, address.path)
            else:
                family, kind, number, _, where = (
                    await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
                )[0]
                sock = socket.socket(family, kind, number)
                sock.setblocking(False)
                await loop.sock_connect(sock, where)
            tune(sock, address)
            handshake = handshake_for(self.endpoint, sock, resume)
        except OSError as error:
            if sock is not None:
                sock.close()
            raise unreachable(address, error) from error
        except BaseException:
            if sock is not None:
                sock.close()
            raise
        connection = _Connection(self, handshake)
        await loop.create_connection(lambda: connection, sock=sock)
        try:
            await connection.ready
        except BaseException as error:
            if connection.transport is not None:
                connection.transport.abort()
            if isinstance(error, OSError) and not isinstance(error, ManagerError):
                raise unreachable(address, error) from error
            if isinstance(error, Exception):
                raise refused(error) from None
            raise
        return connection

    def data_received(self, connection: _Connection, data: bytes) -> None:
        """Take bytes from the connection that carries the session."""
        session = self._session
        if connection is not self._connection or session is None:
            return  # of an older connection: they are sent again
        try:
            answered = session.receive_data(data)
        except ManagerError as error:
            if connection.transport is not None:
                connection.transport.abort()
            self._lose(SessionLost(f"the server broke the protocol: {error}"))
            return
        for future, message in answered:
            if not future.done():
                future.set_result(message)
        if session.has_output:
            self._flush_soon()

    def connection_lost(self, connection: _Connection) -> None:
        """Resume the session on a new connection, unless it was closed on purpose."""
        session = self._session
        if connection is not self._connection or session is None:
            return
        self._connection = None
        moved = session.goaway
        session.detach()
        for future in session.cancelling.values():
            if not future.done():
                future.set_result(_DETACHED)
        session.cancelling.clear()
        if isinstance(moved, SessionLost):
            self._lose(moved)
            return
        self._resuming = self.loop.create_task(self._resume(session))

    async def _resume(self, session: ClientSession[Any]) -> None:
        deadline = self.loop.time() + max(self._grace, 1.0)
        pause = 0.005
        while True:
            try:
                connection = await self._connect(session.resumption())
                break
            except (SessionLost, AuthenticationFailed, ProtocolError) as error:
                self._lose(error)
                return
            except ManagerError as error:
                gone = isinstance(error.__cause__, ConnectionRefusedError | FileNotFoundError)
                if self.loop.time() + pause > deadline or (
                    gone and self.endpoint.address.scheme == "unix"
                ):
                    self._lose(error)
                    return
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.5)
        handshake, connection.handshake = connection.handshake, None
        welcome = handshake.welcome if handshake is not None else None
        if session is not self._session or handshake is None or welcome is None:
            if connection.transport is not None:
                connection.transport.abort()
            return
        self._connection = connection
        try:
            session.attach(welcome.received)
        except ManagerError as error:
            self._lose(error)
            return
        if handshake.trailing:
            self.data_received(connection, handshake.trailing)
        self._flush()

    def _lose(self, error: Exception) -> None:
        """Give the session up: the server knows it no more, or cannot be reached."""
        session, self._session = self._session, None
        connection, self._connection = self._connection, None
        self.book.renew()
        if connection is not None and connection.transport is not None:
            connection.transport.abort()
        if session is None:
            return
        for future in session.end():
            if not future.done():
                lost = SessionLost(
                    f"the session was lost during the call, which may or may not have been "
                    f"executed; locks that it held are released. {error}"
                )
                future.set_exception(lost)
                # Its task may be on its way out already.
                future.exception()

    async def aclose(self) -> None:
        """End the session in good order and close the connection."""
        for task in (self._opening, self._resuming):
            if task is not None and not task.done():
                task.cancel()
                await asyncio.wait((task,))
        session, connection = self._session, self._connection
        self._session = self._connection = None
        self.book.renew()
        if session is None:
            return
        if connection is not None and connection.transport is not None:
            session.bye()
            for frame in session.data_to_send():
                connection.transport.write(frame)
            connection.transport.close()
        for future in session.end():
            if not future.done():
                future.set_exception(ConnectionLost("the manager was closed during the call"))
                future.exception()

    def after_fork(self) -> None:
        """Close the inherited socket in the child, without a word to the server."""
        connection = self._connection
        if connection is not None and connection.transport is not None:
            sock = connection.transport.get_extra_info("socket")
            if sock is not None:
                close_descriptor(sock.fileno())
        self._session = self._connection = None
        self._opening = self._resuming = None
        self.loop = cast("Any", None)
        self._flush_scheduled = False
        self._owners = WeakKeyDictionary()


def close_descriptor(descriptor: int) -> None:
    """Make an inherited descriptor harmless, but keep its number in use.

    The parent's loop object still names it in the child; closing it would let another file get
    that number and be closed by the loop's finalizer.
    """
    import os

    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, descriptor)
    os.close(null)
