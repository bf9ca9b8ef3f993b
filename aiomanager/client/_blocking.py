"""The blocking client: a plain socket and a session of its own for each thread.

No thread, no loop, no lock on the path of a call. A connection is dirty from before a call is
sent until its answer is in the caller's hands. Whoever finds it dirty (a signal handler raised)
drops the connection, resumes the session on a new one and takes the interrupted call back, so
that it loses nothing and the next call gets its own answer.
"""

import atexit
import os
import signal
import socket
import threading
import time
import weakref
from collections import deque
from contextlib import suppress
from typing import Any, Final, cast
from weakref import WeakSet

from aiomanager.client._channel import (
    READ,
    ChannelBase,
    Endpoint,
    handshake_for,
    raised,
    refused,
    tune,
    unreachable,
)
from aiomanager.client._locks import count_locks
from aiomanager.client._process import owners
from aiomanager.client._waiting import Wait, leave_it, waiting_for
from aiomanager.errors import (
    AuthenticationFailed,
    ConnectionLost,
    ManagerError,
    NeedsNeutralValue,
    ProtocolError,
    ServerBusy,
    SessionLost,
)
from aiomanager.operation import Operation, drive_blocking
from aiomanager.protocol.address import is_loopback
from aiomanager.protocol.handshake import IMPLICIT_KEEP, Resume, Welcome
from aiomanager.protocol.messages import ERROR, RESULT
from aiomanager.proxy import Proxy, Reference, SyncProxy
from aiomanager.sessions.client import ClientSession, error_of
from aiomanager.sessions.plans import Plan
from aiomanager.stored import ABSENT

__all__ = ("BlockingChannel",)

CLEAN: Final = 0
"""Nothing is under way on a connection."""
SENDING: Final = 1
"""A call is, and what was written last may not have been written whole."""
SENT: Final = 2
"""A call is, and the connection stands between two frames."""
PAGE: Final = 4096
"""So many bytes a unix socket takes as a whole or not at all."""


class _Connection:
    """One session and the socket that carries it; used by one thread at a time."""

    def __init__(self, channel: "BlockingChannel") -> None:
        # Weak: the channel has the connection, and is gone at once when nobody else has it.
        self._channel = cast("BlockingChannel", weakref.proxy(channel))
        self._socket: socket.socket | None = None
        self._wait: Wait = leave_it
        self._dirty = CLEAN
        """Whether a call did not come to its end, and if so, how far it came."""
        self._interrupted_call: tuple[int, Plan | None] = (0, None)
        """The last call that was interrupted, and its plan."""
        self._before = 0
        """The id of the last call that came to its end, while the connection is dirty."""
        self.busy = False
        """Whether a call is under way, on this thread's stack."""
        self.posts = 0
        """How many posts have begun."""
        self.held: dict[int, int] = {}
        """What this thread has that only it may release: how many times over, by the object."""
        self._nested: _Connection | None = None
        self._pending = b""
        """What came behind the handshake: it belongs to the session."""
        self._connect_seconds = 10.0
        self._implicit = False
        """Whether the next call keeps what this one is granted, and the kernel tells the server
        of a process that died whether it had read its answers."""
        self._process = os.getpid()
        welcome = self._first_welcome()
        self._grace = welcome.grace
        self.session: ClientSession[bool] = ClientSession(welcome.session, welcome.limits)
        channel.book.join(welcome.server, welcome.session)
        self.lost: Exception | None = None

    # Calls

    def call(self, plan: Plan, object_id: int, wire: list[Any], owner: int) -> Any:
        """Carry out one call and return its result, or raise its error."""
        session = self.session
        result: Any = None
        error: Exception | None = None
        self.busy = True
        try:
            if self._dirty:
                self._recover()
            self._before = session.last_id
            self._dirty = SENDING
            lone = session.lone_call(True, object_id, plan.name, wire, owner)
            if lone is None:
                session.call(True, object_id, plan.name, wire, owner)
                self._send()
                data = self._read()
            else:
                sock: Any = self._socket  # the one that waits, also if a handler replaces it
                try:
                    sock.sendall(lone)
                    self._dirty = SENT
                    self._wait()
                    data = (self._pending and self._read()) or sock.recv(plan.ahead) or self._read()
                except (OSError, AttributeError) as broken:
                    _check_broken(sock, broken)
                    self._resume()
                    data = self._read()
            message = session.lone_answer(data)
            if message is None:
                if len(data) == plan.ahead:
                    plan.ahead = READ
                message = self._answer(data)
                if message[0] == ERROR:
                    error = raised(error_of(message, self._channel.decode_key))
            if error is None:
                result = plan.decode_result(message[3])
                if not plan.at_once:
                    if plan.consumes and not self._implicit:
                        session.keep(message[2])
                        if not plan.owned:
                            # An item is the caller's when this returns. A lock needs no message
                            # of its own: it dies with the session, and the next call confirms it.
                            self._send()
                    if plan.owned:
                        count_locks(self.held, plan, object_id, wire, result)
        except BaseException:
            try:
                self._interrupted(plan)
            finally:
                self.busy = False
            raise
        # Nothing is called from here on until the result is the caller's, so that no signal
        # handler runs in between: the interpreter lets them in at calls.
        self.busy = False
        self._dirty = CLEAN
        if error is not None:
            try:
                raise error
            finally:
                del error  # else it and this frame keep each other alive
        return result

    def post(self, plan: Plan, object_id: int, wire: list[Any], owner: int) -> None:
        """Send one call without waiting for its answer.

        It is sent also if a signal handler raises meanwhile: a lock must not stay with who thinks
        that he has released it.
        """
        session = self.session
        call_id = 0
        self.busy = True
        try:
            self.posts += 1
            if self._dirty:
                self._recover()
            call_id = session.last_id + 1
            self._post(plan, object_id, wire, owner)
        except BaseException as error:
            try:
                self.posts += 1
                posted = call_id > 0 and (self._before >= call_id or session.has_posted(call_id))
                if posted:
                    self._before = session.last_id
                self._interrupted()
                if not (posted or self._dirty or isinstance(error, ManagerError)):
                    self._post(plan, object_id, wire, owner)
                    self._dirty = CLEAN
            finally:
                self.busy = False
            raise
        self.busy = False
        self._dirty = CLEAN

    def _post(self, plan: Plan, object_id: int, wire: list[Any], owner: int) -> None:
        session = self.session
        self._before = session.last_id
        self._dirty = SENDING
        session.post(object_id, plan.name, wire, owner)
        self._before = session.last_id  # it is not taken back
        self._send()
        count_locks(self.held, plan, object_id, wire, None)

    def nested(self) -> "_Connection":
        """Return the connection for calls out of a signal handler or finalizer in a call here."""
        if self._nested is None or self._nested.lost is not None:
            self._nested = self._channel.new_connection()
        return self._nested.nested() if self._nested.busy else self._nested

    def _send(self) -> None:
        frames = self.session.data_to_send()
        if not frames:
            return
        self._write(frames[0] if len(frames) == 1 else b"".join(frames))

    def _write(self, data: bytes) -> None:
        if len(data) > PAGE:
            self._dirty = SENDING
        sock: Any = self._socket
        try:
            sock.sendall(data)
        except (OSError, AttributeError) as error:
            _check_broken(sock, error)
            self._resume()
        self._dirty = SENT

    def _answer(self, data: bytes) -> list[Any]:
        """Read on behind `data` until the one call under way is answered."""
        while True:
            for _, message in self._take(data):
                if self.session.stream.ack_due:
                    self._send()  # the server keeps a large answer until it is confirmed
                return message
            if self.session.has_output:
                self._send()
            data = self._read()

    def _take(self, data: bytes) -> list[tuple[bool, list[Any]]]:
        """Return the answers in bytes of the session.

        Raises:
            SessionLost: the server broke the protocol, and would again.
        """
        try:
            return self.session.receive_data(data)
        except ProtocolError as error:
            raise self._lose(SessionLost(f"the server broke the protocol: {error}")) from None

    def _read(self) -> bytes:
        """Return more bytes of the session; resumes it when the connection breaks."""
        while True:
            if self._pending:
                data, self._pending = self._pending, b""
                return data
            sock: Any = self._socket
            try:
                self._wait()
                data = sock.recv(READ)
            except (OSError, AttributeError) as error:
                _check_broken(sock, error)
                data = b""
            if data:
                return data
            self._resume()

    # What went wrong

    def _interrupted(self, plan: Plan | None = None) -> None:
        """Leave the connection well after an exception, of whatever origin, in a call."""
        self._interrupted_call = (self.session.last_id, plan)
        try:
            if self._dirty and self.lost is None:
                self._recover()
        except Exception:
            # The first exception is the one to be raised. The connection is still dirty, or the
            # session lost: the next call finds out.
            pass

    def _recover(self) -> None:
        """Take back whatever was under way, on a connection that nothing is left over from.

        If this is interrupted in turn, the next call finds the connection dirty and begins again.
        """
        session = self.session
        if self.lost is not None:
            raise self.lost
        under_way = {*session.calls, *session.cancelling}
        if session.last_id != self._before:
            # Its answer may have been read, but it has not reached its caller.
            under_way.add(session.last_id)
            session.unkeep(session.last_id)
        self._say_it_goes_on()
        self._resume()
        call_id, plan = self._interrupted_call
        for number in under_way:
            session.cancel(number, True)
            if number == call_id and plan is not None:
                session.calls[number] = True  # what its answer hands out is let go of
        self._send()
        while session.cancelling:
            for _, message in self._take(self._read()):
                if plan is not None and message[0] == RESULT:
                    self._channel.discard(plan, message[3])
        self._dirty = CLEAN

    def _say_it_goes_on(self) -> None:
        """Leave the connection behind one byte of a frame, if it stands between two frames.

        If the server sees its end only when this process has died, that is no sign that what was
        granted was had. Within a frame, of a call that was not answered yet, nothing was granted;
        and the byte would be one of the call's.
        """
        sock = self._socket
        if self._dirty == SENT and self._implicit and sock is not None:
            # Once: four of these bytes are a frame. No handler runs between the two lines.
            self._dirty = SENDING
            try:
                sock.send(b"\0", socket.MSG_DONTWAIT)
            except OSError as error:
                _check_broken(sock, error)

    def _resume(self) -> None:
        """Go on over a new connection.

        Raises:
            SessionLost: the server has forgotten the session, or is gone.
        """
        session = self.session
        goaway = session.goaway
        self._drop()
        if self.lost is not None:
            raise self.lost  # another thread has closed the manager
        if isinstance(goaway, SessionLost):
            raise self._lose(goaway)
        deadline = time.monotonic() + max(self._grace, 1.0)
        pause = 0.005
        while True:
            try:
                welcome = self._connect(session.resumption())
                break
            except (SessionLost, AuthenticationFailed, ProtocolError) as error:
                raise self._lose(error) from None
            except ConnectionLost as error:
                gone = isinstance(error.__cause__, ConnectionRefusedError | FileNotFoundError)
                if time.monotonic() + pause > deadline or (
                    gone and self._channel.endpoint.address.scheme == "unix"
                ):
                    raise self._lose(error) from None
            time.sleep(pause)
            pause = min(pause * 2, 0.5)
        try:
            session.attach(welcome.received)
        except ProtocolError as error:
            raise self._lose(error) from None
        self._dirty = SENT
        self._send()

    def _lose(self, error: Exception) -> SessionLost:
        self.session.end()
        self._drop()
        self.lost = SessionLost(
            "the session was lost during the call, which may or may not have been executed; "
            f"locks that it held are released. {error}"
        )
        self._channel.session_lost(self)
        return self.lost

    # The socket

    def _first_welcome(self) -> Welcome:
        deadline = time.monotonic() + self._connect_seconds
        pause = 0.005
        while True:
            try:
                return self._connect(None)
            except ServerBusy:
                if time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            pause = min(pause * 2, 0.5)

    def _connect(self, resume: Resume | None) -> Welcome:
        endpoint = self._channel.endpoint
        address = endpoint.address
        deadline = time.monotonic() + self._connect_seconds
        try:
            sock = _connected(address, deadline)
        except OSError as error:
            if _is_foreign(error):
                raise
            raise unreachable(address, error) from error
        try:
            sock.settimeout(self._connect_seconds)
            tune(sock, address)
            handshake = handshake_for(endpoint, sock, resume, capabilities=(IMPLICIT_KEEP,))
            sock.sendall(handshake.start())
            while handshake.welcome is None:
                data = sock.recv(4096)
                if not data:
                    handshake.receive_eof()
                    raise ConnectionResetError("the server closed the connection")
                reply = handshake.receive_data(data)
                if reply:
                    sock.sendall(reply)
            sock.settimeout(None)
        except ManagerError as error:
            sock.close()
            raise refused(address, error) from None
        except OSError as error:
            sock.close()
            if _is_foreign(error):
                raise
            raise unreachable(address, error) from error
        except BaseException:
            sock.close()
            raise
        self._implicit = IMPLICIT_KEEP in handshake.welcome.capabilities
        self._pending = handshake.trailing
        near = is_loopback(address)
        self._wait = waiting_for(sock, self._channel.used) if near else leave_it
        self._socket = sock
        return handshake.welcome

    def _drop(self) -> None:
        sock, self._socket = self._socket, None
        self._pending = b""
        if hasattr(self, "session"):
            self.session.detach()
        if sock is not None:
            sock.close()

    def close(self, *, for_good: bool = False) -> None:
        """End the session in good order; what was interrupted is taken back before.

        `for_good`: the process will not come back, and nobody is on the way to what it refers to.
        """
        try:
            if self._dirty and not self.busy and self.lost is None:
                self._recover()
            self._say_bye(1.0, for_good=for_good)
        except (OSError, ManagerError):
            pass  # there is nobody who would hear it
        if self.busy:
            self.lost = self.lost or ConnectionLost(
                "the manager was closed during the call, which may or may not have been executed"
            )
            sock = self._socket
            if sock is not None:
                # The thread that waits there sees the end and cleans up: closing would not wake it.
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        else:
            self.lost = self.lost or ConnectionLost("the manager was closed")
            self._drop()
        self._channel.session_lost(self)

    def _say_bye(self, seconds: float, *, for_good: bool = False) -> None:
        if self._socket is not None and not self._dirty and self.lost is None:
            self.session.bye(for_good=for_good)
            self._socket.settimeout(seconds)
            self._socket.sendall(b"".join(self.session.data_to_send()))

    def thread_ended(self) -> bool:
        """End the session if the thread had locks, which nobody could release any more.

        Returns whether another thread may have the session.
        """
        # A fork ends the other threads too, in the child: in the parent they live on.
        if not self.held or self.lost is not None or self._process != os.getpid():
            return True
        with suppress(Exception):
            self._say_bye(0.0)
        self.lost = ConnectionLost("the thread of this session has ended")
        self._drop()
        with suppress(ReferenceError):  # the channel may be gone
            self._channel.session_lost(self)
        return False

    def abandon(self) -> None:
        """Close the descriptor without a word; after a fork, the parent goes on to use it."""
        sock, self._socket = self._socket, None
        self.lost = SessionLost("the session was left to itself, or to the parent process")
        if sock is not None:
            sock.close()

    def __del__(self) -> None:
        # Nobody closed it, and the last proxy is gone. Its end is said if that takes no time, or
        # the server would give the last item to somebody else: a lost connection proves nothing.
        sock = getattr(self, "_socket", None)
        if sock is not None:
            if self._process == os.getpid():
                with suppress(Exception):
                    self._say_bye(0.0)
                with suppress(Exception):
                    self._channel.book.leave(self.session.session_id)
            sock.close()


def _check_broken(sock: object, error: Exception) -> None:
    """Return if the socket is broken, or gone: another thread has closed the manager.

    Raises:
        OSError, AttributeError: `error`, of a signal handler that ran meanwhile.
    """
    if (sock is None) != isinstance(error, AttributeError) or _is_foreign(error):
        raise error


def _is_foreign(error: Exception) -> bool:
    """Tell whether an error was raised by a signal handler, or thrown into the thread.

    Many a handler raises TimeoutError, which is an OSError, as those of sockets are.
    """
    if not error.args:
        return True  # a socket's own says what happened
    handlers: list[Any] = [signal.getsignal(number) for number in signal.valid_signals()]
    codes = {
        getattr(part, "__code__", None)
        for handler in handlers
        for part in (handler, getattr(handler, "func", None), type(handler).__call__)
    }
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code in codes:
            return True
        traceback = traceback.tb_next
    return False


def _connected(address: Any, deadline: float) -> socket.socket:
    """Return a connected socket; a server that is busy accepting is waited for."""
    if address.scheme != "unix":
        return socket.create_connection(
            (address.host, address.port), timeout=max(deadline - time.monotonic(), 0.1)
        )
    while True:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(address.path)
        except BlockingIOError:
            sock.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        except BaseException:
            sock.close()
            raise
        else:
            return sock


class _Slot(threading.local):
    """A thread's connection and token.

    When the thread ends its session is handed on, or ended if the thread had locks.
    """

    connection: _Connection | None = None
    token = 0
    keeper: Any = None


class _Keeper:
    """Dies with its thread."""

    def __init__(
        self, connection: _Connection, free: deque[_Connection], used: set[_Connection]
    ) -> None:
        self._connection = connection
        self._free = free
        self._used = used
        used.add(connection)

    def __del__(self) -> None:
        self._used.discard(self._connection)
        if self._connection.thread_ended():
            self._free.append(self._connection)


class BlockingChannel(ChannelBase):
    """The way from blocking proxies to a server, from any number of threads."""

    proxies_are = SyncProxy
    dies: bool = False
    """Whether the process is ending badly, so that nothing it acquired is for others to release."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._slot = _Slot()
        self._free: deque[_Connection] = deque()
        self._all: set[_Connection] = set()
        self.used: set[_Connection] = set()
        """One connection for each thread that has called and lives."""
        self.closed = False
        _channels.add(self)

    def owner(self) -> int:
        """Return the token of this thread."""
        slot = self._slot
        if not slot.token:
            slot.token = next(owners)
        return slot.token

    def call(
        self,
        proxy: Proxy,
        operation: Operation[..., Any],
        arguments: tuple[Any, ...],
        owner: int = 0,
    ) -> Any:
        """Carry out one operation; see the operation's own docstring."""
        connection = self._slot.connection
        if connection is None or connection.lost is not None:
            connection = self.open()
        if connection.busy:
            connection = connection.nested()
        plan = self._plan_of(operation) or self._plans.of(operation)
        wire = plan.encoders[len(arguments)](arguments)
        reference = proxy._reference  # pyright: ignore[reportPrivateUsage]
        book = self.book
        if reference.epoch != book.epoch:
            self.count(reference)
        session = connection.session
        if book.dropped:
            session.release(book.take_dropped())
        if session.losses:
            loss = session.losses.pop(reference.object_id, None)
            if loss is not None:
                raise loss
        try:
            result = connection.call(plan, reference.object_id, wire, owner)
        except NeedsNeutralValue:
            if operation.client_side is None:
                raise
            return drive_blocking(operation.client_side(proxy, *arguments))
        if result is ABSENT:
            return arguments[operation.default_index]  # type: ignore[index]  # pyright: ignore
        return result

    def post(
        self,
        proxy: Proxy,
        operation: Operation[..., Any],
        arguments: tuple[Any, ...],
        owner: int = 0,
    ) -> None:
        """Send one operation without waiting for its answer."""
        connection = self._slot.connection
        if connection is None:
            raise SessionLost(
                "the session was lost while it held the lock; the server has given it to others"
            )
        lost = connection.lost
        if lost is not None:
            raise type(lost)(*lost.args)  # the one that was raised has a traceback of its own
        reference = proxy._reference  # pyright: ignore[reportPrivateUsage]
        losses = connection.session.losses
        loss = losses.pop(reference.object_id, None) if losses else None
        if loss is not None:
            raise loss
        if connection.busy:
            connection = connection.nested()
        begun = connection.posts
        try:
            self._post(connection, reference, operation, arguments, owner)
        except BaseException as error:
            # As in `_Connection.post`, which has not begun.
            if connection.posts == begun and not isinstance(error, ManagerError):
                self._post(connection, reference, operation, arguments, owner)
            raise

    def _post(
        self,
        connection: _Connection,
        reference: Reference,
        operation: Operation[..., Any],
        arguments: tuple[Any, ...],
        owner: int,
    ) -> None:
        plan = self._plan_of(operation) or self._plans.of(operation)
        wire = plan.encoders[len(arguments)](arguments)
        connection.post(plan, reference.object_id, wire, owner)

    def count(self, reference: Reference) -> None:
        """Have the server count a reference before it sees this thread's next call."""
        connection = self._slot.connection
        if connection is not None:
            if connection.busy:
                connection = connection.nested()
            # In this order: counted twice is better than never, if a signal handler raises.
            connection.session.hold([reference.object_id])
            reference.epoch = self.book.epoch

    def open(self) -> _Connection:
        """Return this thread's connection; connect unless a session of an ended thread is free.

        Raises:
            ConnectionLost: nobody answers at the address, or the manager was closed.
            AuthenticationFailed: the server refuses the key, or does not know it.
        """
        if self.closed:
            raise ConnectionLost("the manager was closed; connect again")
        slot = self._slot
        connection: _Connection | None = None
        try:
            while self._free and connection is None:
                candidate = self._free.popleft()
                if candidate.lost is None:
                    connection = candidate
            if connection is None:
                connection = self.new_connection()
            slot.keeper = None
            slot.keeper = _Keeper(connection, self._free, self.used)
            slot.connection = connection
        except BaseException:
            slot.keeper = None  # which hands it on, if it has it
            if connection is not None and connection not in self._free:
                self._free.append(connection)
            raise
        return connection

    def new_connection(self) -> _Connection:
        """Return a connection with a session of its own."""
        connection = _Connection(self)
        self._all.add(connection)
        if self.closed:  # by another thread, meanwhile
            connection.close()
            raise ConnectionLost("the manager was closed while this thread connected to it")
        return connection

    def session_lost(self, connection: _Connection) -> None:
        """Know that the session of a connection has ended."""
        self._all.discard(connection)
        self.book.leave(connection.session.session_id)

    def close(self) -> None:
        """End all sessions of this process in good order."""
        self.closed = True
        for connection in list(self._all):
            connection.close()
        self._free.clear()
        self._slot = _Slot()

    def leave(self) -> None:
        """End this process's sessions in good order, as it ends; without a word if it dies."""
        if self.dies:
            self.abandon()
            return
        for_good = not self.book.lends
        for connection in list(self._all):
            if not connection.busy:  # a daemon thread is in a call
                connection.close(for_good=for_good)

    def after_fork(self) -> None:
        """Close the inherited sockets in the child; it connects anew when it calls."""
        self.abandon()

    def abandon(self) -> None:
        """Close all connections without a word, as the end of a process does that was killed."""
        for connection in list(self._all):
            connection.abandon()
        self._all = set()
        self._free = deque()
        self.used = set()
        self._slot = _Slot()


_channels: WeakSet[BlockingChannel] = WeakSet()


@atexit.register
def _leave_all() -> None:
    """Say that the program has ended, before the interpreter closes its files in any order."""
    for channel in list(_channels):
        channel.leave()
