"""The client for trio: one connection, any number of tasks, one event for each call.

It is written on anyio's streams and primitives, so it works on every library that anyio knows.
A background task carries the session: a system task on trio, so that a manager needs no nursery.
All calls that tasks make before that task runs again leave in one write.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Generator
from math import inf
from typing import Any, cast

import anyio
from anyio.abc import ByteStream, SocketAttribute

from aiomanager.client._async import CLOSE_SECONDS, CONNECT_SECONDS, Answer, AsyncChannel, Carrier
from aiomanager.client._asyncio import close_descriptor, when_done
from aiomanager.client._channel import (
    READ,
    Endpoint,
    handshake_for,
    refused,
    running_loop,
    trio_here,
    tune,
    unreachable,
)
from aiomanager.errors import ConnectionLost, ManagerError
from aiomanager.protocol.address import Address
from aiomanager.protocol.handshake import ClientHandshake, Resume
from aiomanager.sessions.client import ClientSession

__all__ = ("AnyioChannel",)

log = logging.getLogger("aiomanager.client")

_GONE = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)


class _Answer:
    """What one task waits for."""

    __slots__ = ("_error", "_event", "_result")

    def __init__(self) -> None:
        self._event = anyio.Event()
        self._result: Any = None
        self._error: BaseException | None = None

    def done(self) -> bool:
        return self._event.is_set()

    def set_result(self, result: Any, /) -> None:
        self._result = result
        self._event.set()

    def set_exception(self, exception: BaseException, /) -> None:
        self._error = exception
        self._event.set()

    def exception(self) -> BaseException | None:
        return self._error

    def result(self) -> Any:
        return self._result

    def __await__(self) -> Generator[Any, Any, Any]:
        yield from self._event.wait().__await__()
        if self._error is not None:
            raise self._error
        return self._result


class _Connection:
    """One connection: the handshake, then bytes for the channel's session."""

    def __init__(self, stream: ByteStream, sock: socket.socket, handshake: ClientHandshake) -> None:
        self.stream = stream
        self.sock = sock
        # Elsewhere the stream may hold back bytes of its own.
        self._direct = trio_here() is not None
        self.handshake: ClientHandshake | None = handshake
        self.lost = False
        self.scope = anyio.CancelScope()
        self.last_words: bytes | None = None
        """What is to be written before the end."""
        self.in_a_write = False

    def abort(self) -> None:
        self.scope.cancel()

    async def send(self, data: bytes) -> None:
        """Write all bytes."""
        sent = 0
        if self._direct:
            # Without a checkpoint, where the end of the loop could raise and leave open what is
            # written and what not.
            try:
                sent = self.sock.send(data)
            except BlockingIOError:
                pass
        if sent < len(data):
            self.in_a_write = True
            await self.stream.send(data[sent:] if sent else data)
            self.in_a_write = False

    async def shake(self) -> None:
        """Carry out the handshake."""
        handshake = cast("ClientHandshake", self.handshake)
        await self.stream.send(handshake.start())
        while handshake.welcome is None:
            try:
                data = await self.stream.receive(READ)
            except anyio.EndOfStream:
                handshake.receive_eof()
                raise ConnectionLost("the server closed the connection") from None
            reply = handshake.receive_data(data)
            if reply:
                await self.stream.send(reply)


class _Ends:
    """What is to be called when tasks of trio end: an instrument, which trio tells of that."""

    def __init__(self) -> None:
        self.functions: dict[Any, Callable[[], None]] = {}

    def task_exited(self, task: Any) -> None:
        """Called by trio; an error in it would be the last that it hears of."""
        function = self.functions.pop(task, None)
        if function is not None:
            function()


class AnyioChannel(AsyncChannel):
    """The way from async proxies to a server, on one loop of whatever library anyio knows."""

    _here = staticmethod(running_loop)

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._new_answer = _Answer
        self._schedule = self._wake
        self._work: anyio.Event = cast("Any", None)
        """Set when there may be something to write."""
        self._latest: _Connection | None = None
        """A new connection, which the background task must serve and close."""
        self._opening: _Answer | None = None
        self._living: anyio.CancelScope | None = None
        """Around the background task."""
        self._over: anyio.Event = cast("Any", None)
        """Set when the background task has ended."""
        self._background: Any = None
        self._ends: _Ends | None = None

    def _held_up(self, owner: int) -> bool:
        # Inside of a timeout, of which the server knows nothing, a wait ends by itself.
        return super()._held_up(owner) and anyio.current_effective_deadline() == inf

    def _task(self) -> object | None:
        trio = trio_here()
        if trio is not None:
            return cast("object", trio.current_task())
        try:
            return asyncio.current_task()
        except RuntimeError:
            return None

    def _at_the_end_of(self, task: Any, function: Callable[[], None]) -> None:
        trio = trio_here()
        if trio is None:
            when_done(task, function)
        elif task.coro.cr_frame is None:
            function()
        else:
            if self._ends is None:
                self._ends = _Ends()
                trio.add_instrument(self._ends)
            self._ends.functions[task] = function

    # Calls

    def _message(self, answer: Answer) -> list[Any] | None:
        return cast("list[Any] | None", cast("_Answer", answer).result())

    async def _settled(self, outcome: Answer, seconds: float | None) -> BaseException | None:
        later: BaseException | None = None
        with anyio.move_on_after(seconds) as scope:  # the caller shields it
            while not outcome.done():
                try:
                    await outcome
                except Exception:
                    break  # the session was lost
                except asyncio.CancelledError as error:
                    if scope.cancel_called:
                        raise
                    later = error  # by a means of asyncio that knows no shield
        return later

    def _wake(self, _flush: Any) -> None:
        self._work.set()

    # Connections

    def _in_use(self) -> bool:
        return self._living is not None

    def _forget(self) -> None:
        super()._forget()
        self._latest = self._opening = self._living = self._background = self._ends = None

    async def _opened(self) -> None:
        opening = self._opening
        if opening is None:
            opening = self._opening = _Answer()
            self._work, self._over = anyio.Event(), anyio.Event()
            self._flush_scheduled = False  # what an earlier session had to write is of no use
            self._living = anyio.CancelScope()
            self._start(opening, self._living)
        await opening

    def _start(self, opening: _Answer, living: anyio.CancelScope) -> None:
        trio = trio_here()
        if trio is not None:
            trio.spawn_system_task(self._live, opening, living)
        else:
            task = asyncio.get_running_loop().create_task(self._live(opening, living))
            self._background = task

    async def _live(self, opening: _Answer, living: anyio.CancelScope) -> None:
        """Open the session and carry it until it ends: the one background task."""
        error: Exception = ConnectionLost("the manager was closed while it connected")
        over = self._over
        try:
            with living:
                try:
                    await self._begin()
                except Exception as why:
                    error = why
                    return
                finally:
                    self._opening = None
                opening.set_result(None)
                await self._carry_on(living)
        except Exception as why:
            # A fault of ours; on trio it would take the whole program along.
            log.error("the session ends", exc_info=why)
            if living is self._living:
                self._lose(why)
        finally:
            if not opening.done():
                opening.set_exception(error)
            if living is self._living:
                self._say_bye()
                self._living = None
            over.set()

    async def _carry_on(self, living: anyio.CancelScope) -> None:
        connection: _Connection | None
        # While a lost session's connection is closed, another task may open the next session.
        while living is self._living and (connection := self._latest) is not None:
            self._latest = None
            await self._serve(connection)
            if connection is self._connection:
                session = self._session
                self.connection_lost(connection)
                if session is not None and session is self._session:
                    await self._resume(session)

    async def _serve(self, connection: _Connection) -> None:
        """Read and write until the connection is lost."""
        try:
            with connection.scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._write, connection)
                    await self._read(connection)
                    group.cancel_scope.cancel()
        except BaseException:
            self._say_bye()  # the loop ends
            raise
        finally:
            connection.lost = True
            with anyio.CancelScope(shield=True):
                await anyio.aclose_forcefully(connection.stream)

    async def _read(self, connection: _Connection) -> None:
        try:
            while True:
                data = await connection.stream.receive(READ)
                self.data_received(connection, data)
        except _GONE:
            return

    async def _write(self, connection: _Connection) -> None:
        try:
            while True:
                await self._work.wait()
                if connection.last_words is not None:
                    await connection.send(connection.last_words)
                    # The server closes the connection when it has read them.
                    await connection.stream.send_eof()
                    return
                session = self._session
                if session is None or connection is not self._connection:
                    return  # what there is to write is for the next connection
                self._work = anyio.Event()
                self._flush_scheduled = False
                data = self._to_write(session)
                if data:
                    await connection.send(data)
        except _GONE:
            connection.abort()

    async def _connect(self, resume: Resume | None) -> Carrier:
        address = self.endpoint.address
        try:
            with anyio.fail_after(CONNECT_SECONDS):
                stream = await _stream(address)
                try:
                    sock = stream.extra(SocketAttribute.raw_socket)
                    tune(sock, address)
                    connection = _Connection(
                        stream, sock, handshake_for(self.endpoint, sock, resume)
                    )
                    await connection.shake()
                except BaseException:
                    with anyio.CancelScope(shield=True):
                        await anyio.aclose_forcefully(stream)
                    raise
        except ManagerError as error:
            raise refused(address, error) from None
        except TimeoutError:
            late = TimeoutError(f"it said nothing for {CONNECT_SECONDS:.0f} s")
            raise unreachable(address, late) from late
        except _GONE as error:
            raise unreachable(address, error) from error
        self._latest = connection
        return connection

    def _connection_lost(self, session: ClientSession[Answer]) -> None:
        """The background task resumes the session when it sees that."""

    async def aclose(self) -> None:
        """End the session in good order and close the connection, for good."""
        self.closed = True
        connection: _Connection | None = self._connection
        last_words = self._last_words(ConnectionLost("the manager was closed during the call"))
        living, over = self._living, self._over
        if living is None or running_loop() is not self.loop:
            return
        if connection is not None:
            connection.last_words = last_words
            self._work.set()
            with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                await over.wait()
        living.cancel()
        with anyio.CancelScope(shield=True):
            await over.wait()
        trio = trio_here()
        if trio is not None and self._ends is not None:
            trio.remove_instrument(self._ends)
            self._ends = None

    def _say_bye(self) -> None:
        """End the session in good order if the loop ends first: there is no time to wait."""
        connection: _Connection | None = self._connection
        last_words = self._last_words(ConnectionLost("the loop ended during the call"))
        if connection is not None and not connection.in_a_write:
            try:
                os.write(connection.sock.fileno(), last_words)
            except OSError:
                pass  # the connection is lost, or nobody reads

    def after_fork(self) -> None:
        """Close the inherited socket in the child, without a word to the server."""
        connection: _Connection | None = self._connection
        if connection is not None:
            close_descriptor(connection.sock.fileno())
        self._session = None  # the book knows of the fork by itself
        self._forget()
        self.loop = None
        self.place = 0


async def _stream(address: Address) -> Any:
    """Return a connected stream."""
    if address.scheme != "unix":
        return await anyio.connect_tcp(address.host, address.port)
    while True:
        stream = await anyio.connect_unix(address.path)
        try:
            stream.extra(SocketAttribute.raw_socket).getpeername()
            return stream
        except OSError:
            # A server that is busy accepting others looks like one that has accepted.
            await anyio.aclose_forcefully(stream)
        await anyio.sleep(0.005)
