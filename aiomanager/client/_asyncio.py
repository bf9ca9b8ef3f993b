"""The asyncio client: one connection, any number of tasks, one future for each call.

All calls of one tick of the loop leave in one write. A cancelled call is taken back on the
server, and its task goes on when the server has said how that went.
"""

import asyncio
import os
import socket
from asyncio import events
from collections.abc import AsyncGenerator, Callable
from time import monotonic
from typing import Any, cast

import anyio

from aiomanager.client._async import CLOSE_SECONDS, CONNECT_SECONDS, Answer, AsyncChannel, Carrier
from aiomanager.client._channel import Endpoint, handshake_for, refused, tune, unreachable
from aiomanager.errors import ConnectionLost, ManagerError
from aiomanager.protocol.address import Address
from aiomanager.protocol.handshake import ClientHandshake, Resume
from aiomanager.sessions.client import ClientSession

__all__ = ("AsyncioChannel", "close_descriptor", "when_done")

_inherited: list[Any] = []
"""What a forked child must neither use nor finalize: it belongs to a loop of its parent."""


class _Connection(asyncio.Protocol):
    """One connection: the handshake, then bytes for the channel's session."""

    def __init__(self, channel: "AsyncioChannel", handshake: ClientHandshake) -> None:
        self.channel = channel
        self.handshake: ClientHandshake | None = handshake
        self.transport: asyncio.Transport = cast("Any", None)
        self.lost = False
        self.ready: asyncio.Future[None] = channel.loop.create_future()
        self.closed: asyncio.Future[None] = channel.loop.create_future()

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
            self._fail(error)
            return
        if reply:
            self.transport.write(reply)
        if self.handshake.welcome is not None and not self.ready.done():
            self.ready.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if not self.closed.done():
            self.closed.set_result(None)
        if self.handshake is None:
            self.channel.connection_lost(self)
            return
        try:
            self.handshake.receive_eof()
            error: Exception = ConnectionLost("the connection broke")
        except Exception as why:
            error = why
        self._fail(exc or error)

    def _fail(self, error: Exception) -> None:
        if not self.ready.done():
            self.ready.set_exception(error)
            self.ready.exception()
        self.transport.close()

    def abort(self) -> None:
        self.transport.abort()

    def finish(self, last_words: bytes) -> None:
        """Write the last bytes; the server closes the connection when it has read them."""
        transport = self.transport
        transport.write(last_words)
        if transport.can_write_eof() and not transport.is_closing():
            try:
                transport.write_eof()
            except OSError:
                transport.abort()  # it broke at this moment: nobody reads the last words
        else:
            transport.close()


class AsyncioChannel(AsyncChannel):
    """The way from async proxies to a server, on one asyncio loop."""

    _here = staticmethod(events._get_running_loop)

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._opening: asyncio.Task[None] | None = None
        self._resuming: asyncio.Task[None] | None = None
        self._ending: AsyncGenerator[None, None] | None = None

    def _task(self) -> object | None:
        try:
            return asyncio.current_task()
        except RuntimeError:
            return None  # a coroutine that is made before its loop runs

    def _at_the_end_of(self, task: "asyncio.Task[Any]", function: Callable[[], None]) -> None:
        when_done(task, function)

    # Calls

    def _bind(self, loop: Any) -> None:
        super()._bind(loop)
        self._new_answer = loop.create_future
        self._schedule = loop.call_soon

    def _message(self, answer: Answer) -> list[Any] | None:
        future = cast("asyncio.Future[list[Any]]", answer)
        if not future.done() or future.cancelled() or future.exception() is not None:
            return None
        return future.result()

    async def _settled(self, outcome: Answer, seconds: float | None) -> BaseException | None:
        later: BaseException | None = None
        end = None if seconds is None else monotonic() + seconds
        while not outcome.done():
            left = None if end is None else end - monotonic()
            if left is not None and left <= 0:
                break
            try:
                await asyncio.wait((cast("asyncio.Future[Any]", outcome),), timeout=left)
            except asyncio.CancelledError as error:
                later = error
        return later

    def _flush(self) -> None:
        self._flush_scheduled = False
        session, connection = self._session, self._connection
        if session is not None and connection is not None:
            data = self._to_write(session)
            if data:
                connection.transport.write(data)

    # Connections

    def _in_use(self) -> bool:
        if self.loop is None or self.loop.is_closed():
            return False
        return self._session is not None or self._opening is not None

    def _forget(self) -> None:
        super()._forget()
        self._opening = self._resuming = self._ending = None

    async def _opened(self) -> None:
        opening = self._opening
        if opening is None:
            opening = self._opening = self.loop.create_task(self._begin())
            opening.add_done_callback(self._has_opened)
        # A task of its own: the first caller may be cancelled, and others wait as well.
        await asyncio.shield(opening)

    def _has_opened(self, opening: "asyncio.Task[None]") -> None:
        if opening is self._opening:
            self._opening = None
        if not opening.cancelled():
            opening.exception()  # nobody may be left to see it

    async def _begin(self) -> None:
        try:
            await super()._begin()
        except asyncio.CancelledError:
            raise ConnectionLost("the manager was closed while it connected") from None
        if self._ending is None:
            self._ending = _at_the_end(self)
            await anext(self._ending)

    async def _connect(self, resume: Resume | None) -> Carrier:
        address = self.endpoint.address
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                sock = await self._socket(address)
                try:
                    tune(sock, address)
                    connection = _Connection(self, handshake_for(self.endpoint, sock, resume))
                    await self.loop.create_connection(lambda: connection, sock=sock)
                except BaseException:
                    sock.close()
                    raise
                try:
                    await connection.ready
                except BaseException:
                    connection.abort()
                    raise
        except ManagerError as error:
            raise refused(address, error) from None
        except TimeoutError:
            late = TimeoutError(f"it said nothing for {CONNECT_SECONDS:.0f} s")
            raise unreachable(address, late) from late
        except OSError as error:
            raise unreachable(address, error) from error
        return connection

    async def _socket(self, address: Address) -> socket.socket:
        """Return a connected socket."""
        loop = self.loop
        if address.scheme == "unix":
            while True:
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                sock.setblocking(False)
                try:
                    sock.connect(address.path)  # at once, or not at all
                except BlockingIOError:
                    sock.close()  # the server is busy accepting others
                except BaseException:
                    sock.close()
                    raise
                else:
                    return sock
                await asyncio.sleep(0.005)
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        for position, (family, kind, number, _, where) in enumerate(found, 1):
            sock = socket.socket(family, kind, number)
            sock.setblocking(False)
            try:
                await loop.sock_connect(sock, where)
            except OSError:
                sock.close()
                if position == len(found):
                    raise
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        raise OSError(f"{address.host} has no address")

    def _connection_lost(self, session: ClientSession[Answer]) -> None:
        self._resuming = self.loop.create_task(self._resume(session))

    async def aclose(self) -> None:
        """End the session in good order and close the connection, for good."""
        self.closed = True
        await self._leave()
        ending, self._ending = self._ending, None
        if ending is not None and self.loop is events._get_running_loop():
            await ending.aclose()

    async def _leave(self) -> None:
        connection: _Connection | None = self._connection
        last_words = self._last_words(ConnectionLost("the manager was closed during the call"))
        if self.loop is not events._get_running_loop():
            return  # of a loop that is over, and its connections with it
        waiting: list[asyncio.Future[Any]] = []
        for task in (self._opening, self._resuming):
            if task is not None and not task.done():
                task.cancel()
                waiting.append(task)
        if connection is not None:
            connection.finish(last_words)
            waiting.append(connection.closed)
        try:
            if waiting:
                with anyio.CancelScope(shield=True):
                    await asyncio.wait(waiting, timeout=CLOSE_SECONDS)
        finally:
            if connection is not None:
                connection.abort()

    def after_fork(self) -> None:
        """Close the inherited socket in the child, without a word to the server."""
        connection: _Connection | None = self._connection
        if connection is not None:
            sock = connection.transport.get_extra_info("socket")
            if sock is not None:
                close_descriptor(sock.fileno())
        _inherited.append((self.loop, self._ending, connection))
        self._session = None  # the book knows of the fork by itself
        self._forget()
        self.loop = None
        self.place = 0


async def _at_the_end(channel: AsyncioChannel) -> AsyncGenerator[None, None]:
    """Wait until the loop shuts its generators down, which it does last, and leave the server.

    A proxy that was unpickled connects when it is first used, and nobody is there to close that.
    """
    try:
        yield
    finally:
        if not channel.closed:
            await channel._leave()  # pyright: ignore[reportPrivateUsage]


def when_done(task: "asyncio.Task[Any]", function: Callable[[], None]) -> None:
    """Have a function called when a task ends; soon, if it has."""

    def done(_task: "asyncio.Task[Any]") -> None:
        function()

    task.add_done_callback(done)


def close_descriptor(descriptor: int) -> None:
    """Make an inherited descriptor harmless, but keep its number in use.

    The parent's loop object still names it in the child; closing it would let another file get
    that number and be closed by the loop's finalizer.
    """
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, descriptor)
    os.close(null)
