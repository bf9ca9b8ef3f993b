"""The listener: sockets, time and process deaths for the server core. No operation runs here."""

import asyncio
import contextlib
import errno
import logging
import os
import socket
import stat
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any, cast

from aiomanager.client._channel import peer_of, tune
from aiomanager.client._process import AGENT, same_host
from aiomanager.errors import ManagerError, ProtocolError, SessionLost
from aiomanager.operation import SharedObject
from aiomanager.protocol.address import Address, is_loopback
from aiomanager.protocol.handshake import IMPLICIT_KEEP, ServerHandshake, refuse
from aiomanager.server.peer import can_tell, ending, pending, pidfd_of, read_all, socket_pidfd
from aiomanager.sessions.server import OUTPUT, ServerCore, ServerSession
from aiomanager.sessions.store import Store

__all__ = ("Server",)

log = logging.getLogger("aiomanager.server")

LOCAL_GRACE = 5.0
"""Seconds for which a session outlives its connection when the client is on this machine."""
REMOTE_GRACE = 30.0
FIRST_BYTE_SECONDS = 2.0
HANDSHAKE_SECONDS = 5.0
PENDING = 128
"""Connections that may be in the handshake at a time; as many more are told to come again."""
TURNED_AWAY = 1024
BACKLOG = 1024
LAST_WORDS_SECONDS = 5.0
"""How long a client may take to read what was written before its connection was closed."""
SETTLE_SECONDS = 0.5
"""How long what a dead process wrote last may take to be read."""
EPOCH_2025 = 1_735_689_600


class _Hands:
    """What the core asks of the world: timers, a clock, ids, a log."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.call_later = loop.call_later
        self.now = monotonic

    def new_id(self) -> bytes:
        return os.urandom(16)

    def report(self, message: str, error: BaseException) -> None:
        log.error("%s", message, exc_info=error)


class _Connection(asyncio.Protocol):
    """One accepted connection: the handshake, then frames for a session."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._transport: asyncio.Transport = cast("Any", None)
        self._handshake: ServerHandshake | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._session: ServerSession | None = None
        self._spoke = False
        """Whether a byte has come."""
        self._full = False
        """Whether much of what was written waits to be read."""
        self._pid = 0
        self._pidfd = -1
        self._read_to = 0
        """The last answer that the client had read when it closed the connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        server = self._server
        if len(server.pending) >= PENDING:
            self._turn_away()
            return
        server.pending.add(self)
        peer_uid = None
        sock = transport.get_extra_info("socket")
        if server.address.scheme == "unix":
            peer = peer_of(sock)
            if peer is not None:
                self._pid = peer.pid
                self._pidfd = socket_pidfd(sock, peer.pid)
                if peer.uid == os.geteuid() and not server.explicit_key:
                    peer_uid = peer.uid
        else:
            tune(sock, server.address)
        # Whoever dies leaves it to the kernel to say what was read, which takes a unix socket.
        told = server.address.scheme == "unix" and self._pidfd >= 0 and can_tell()
        self._handshake = ServerHandshake(
            nonce=os.urandom(32),
            server=server.server_id,
            key=server.key,
            peer_uid=peer_uid,
            capabilities=(IMPLICIT_KEEP,) if told else (),
        )
        self._timer = server.loop.call_later(FIRST_BYTE_SECONDS, self._transport.abort)

    def _turn_away(self) -> None:
        """Say that too many are here, and close when the client has spoken, or has no time to."""
        server = self._server
        if len(server.turned_away) >= TURNED_AWAY:
            self._transport.abort()
            return
        server.turned_away.add(self)
        self._transport.write(
            refuse(106, f"{PENDING} others are connecting at this moment; try again")
        )
        self._timer = server.loop.call_later(FIRST_BYTE_SECONDS, self._transport.abort)

    def _too_slow(self) -> None:
        if self._handshake is not None:
            seconds = HANDSHAKE_SECONDS
            self._refuse(self._handshake.refuse(105, f"the handshake took more than {seconds} s"))

    def descriptor(self) -> int:
        """Return the socket's descriptor; -1 when it is closed."""
        sock = self._transport.get_extra_info("socket")
        return -1 if sock is None else cast("int", sock.fileno())

    def data_received(self, data: bytes) -> None:
        session = self._session
        if session is None:
            self._shake(data)
            return
        try:
            session.receive_data(data)
        except Exception as error:
            self._give_up(session, error)

    def pause_writing(self) -> None:
        """Have nothing more executed for a client that does not read its answers."""
        self._full = True
        if self._session is not None:
            self._session.hold_back()

    def resume_writing(self) -> None:
        """Go on with what has come meanwhile."""
        self._full = False
        session = self._session
        if session is None:
            return
        try:
            session.go_on()
        except Exception as error:
            self._give_up(session, error)

    def _give_up(self, session: ServerSession, error: Exception) -> None:
        """End a session because of an error in it."""
        if isinstance(error, ProtocolError):
            log.warning("closing a connection of %s: %s", session.description, error)
            self._end(session, error.code, str(error))
        else:
            log.error("closing a connection of %s", session.description, exc_info=error)
            self._end(session, SessionLost.code, "the server failed; its log says more")

    def _end(self, session: ServerSession, code: int, message: str) -> None:
        """End a session in which one of the two sides is out of order."""
        session.close(code, message)
        session.finish()
        self._server.core.flush()

    def _shake(self, data: bytes) -> None:
        handshake = self._handshake
        if handshake is None:
            self._transport.close()  # it was turned away, or refused
            return
        if self._timer is not None and not self._spoke:
            self._timer.cancel()
            self._timer = self._server.loop.call_later(HANDSHAKE_SECONDS, self._too_slow)
        self._spoke = True
        try:
            reply = handshake.receive_data(data)
        except ManagerError as error:
            log.info("refused a connection: %s", error)
            self._refuse(handshake.refusal)
            return
        if reply:
            self._transport.write(reply)
        if handshake.authenticated:
            self._open(handshake)

    def _refuse(self, reply: bytes) -> None:
        self._handshake = None
        if reply:
            self._transport.write(reply)
        self._transport.close()

    def _open(self, handshake: ServerHandshake) -> None:
        server = self._server
        hello = handshake.hello
        assert hello is not None
        self._done()
        if self._pid == 0 and same_host(hello.host):
            # Over loopback the client says who it is, which is believed once it is authenticated.
            self._pid = hello.pid
            self._pidfd = pidfd_of(hello.pid)
        if hello.pid != self._pid or not same_host(hello.host):
            handshake.capabilities = ()  # something in between reads, or it is seen otherwise
        grace = LOCAL_GRACE if self._pid else REMOTE_GRACE
        try:
            session = server.core.session_of(
                hello, handshake.principal, f"pid {self._pid or hello.pid}", grace
            )
            resumed = hello.resume is not None
            received = session.stream.received
            welcome = handshake.welcome(
                session=session.session_id,
                received=received,
                resumed=resumed,
                grace=grace,
                limits=server.core.limits,
                agent=AGENT,
            )
        except ManagerError as error:
            log.info("refused to resume a session: %s", error)
            self._refuse(handshake.refuse(error.code, str(error)))
            return
        self._handshake = None
        agreed = handshake.agreed
        # A client that reads never has more to read than the session keeps for it.
        self._transport.set_write_buffer_limits(high=OUTPUT)
        self._transport.write(welcome)
        try:
            session.attach(
                self._transport.write,
                self._close,
                hello.resume.received if hello.resume else 0,
                implicit_keep=IMPLICIT_KEEP in agreed,
            )
        except ProtocolError as error:
            log.warning("refused to resume a session of %s: %s", session.description, error)
            self._transport.close()
            return
        self._session = session
        if self._full:  # what was sent again was that much
            session.hold_back()
        server.carriers.add(self)
        if self._pidfd >= 0:
            server.watch_client(hello.client, self._pidfd)
            self._pidfd = -1

    def _close(self) -> None:
        """Let go of the session and of the connection, once what was written is out."""
        self._session = None
        self._handshake = None
        self._server.carriers.discard(self)
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self._server.loop.call_later(LAST_WORDS_SECONDS, self._transport.abort)

    def _done(self) -> None:
        self._server.pending.discard(self)
        self._server.turned_away.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def eof_received(self) -> None:
        # What is answered from here on reaches nobody, though the transport takes it.
        session = self._session
        if session is not None and session.unconfirmed and self._has_read_all():
            self._read_to = session.written

    def _has_read_all(self) -> bool:
        """Tell whether the client has read all that was ever written to it, and kept it."""
        transport, session = self._transport, self._session
        if transport.get_write_buffer_size() or (session is not None and session.taken_back):
            return False
        return read_all(self.descriptor())

    def belongs_to(self, client_id: bytes) -> bool:
        """Tell whether it carries a session of this client."""
        return self._session is not None and self._session.client.id == client_id

    def has_more(self) -> bool:
        """Tell whether something has come in that was not read yet, be it the end."""
        return pending(self.descriptor())

    def outlives_its_client(self) -> None:
        """Know that the client has died, and that a process that it forked holds the socket."""
        if self._session is not None and self._session.unconfirmed and self._has_read_all():
            self._session.answers_read(self._session.written)

    def connection_lost(self, exc: Exception | None) -> None:
        self._done()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        session, self._session = self._session, None
        if session is not None:
            self._server.carriers.discard(self)
            # A client that lives on may have been interrupted, and will take its call back.
            if exc is None and session.unconfirmed and ending(self._pid):
                session.answers_read(self._read_to)
            session.detach()
            self._server.core.flush()


def _listen_unix(name: str) -> tuple[socket.socket, Callable[[], None]]:
    """Listen on a socket that only this user can use; return it and what removes its file."""
    if name.startswith("\0"):  # no file, and nobody's: the handshake refuses other users
        return _listen_abstract(name), lambda: None
    path = Path(name)
    path.parent.mkdir(mode=0o700, exist_ok=True)  # one level: a mistyped path makes no trees
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Between bind and listen a socket looks like one left by a server that was killed.
        with _alone_in(path.parent):
            if path.exists():
                _remove_stale(path)
            mask = os.umask(0o177)
            try:
                sock.bind(name)
            finally:
                os.umask(mask)
            sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    mine = path.stat().st_ino

    def remove() -> None:
        with contextlib.suppress(OSError):
            if path.stat().st_ino == mine:
                path.unlink()

    return sock, remove


def _listen_abstract(name: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(os.fsencode(name))
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_stale(path: Path) -> None:
    """Remove the socket of a server that was killed; raise OSError for anything else."""
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise FileExistsError(errno.EEXIST, "exists and is no socket", str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except BlockingIOError:
            pass  # it listens, and many wait for it
    raise OSError(errno.EADDRINUSE, "a server listens there already", str(path))


@contextlib.contextmanager
def _alone_in(directory: Path) -> Generator[None]:
    """Keep other servers that start in the same directory waiting.

    For a second at most: whoever can read the directory could hold this lock for ever.
    """
    import fcntl

    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        yield
        return
    try:
        deadline = monotonic() + 1.0
        while monotonic() < deadline:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                sleep(0.005)
        yield
    finally:
        os.close(descriptor)


class Server:
    """A server on one address: its store, its core, its sockets."""

    def __init__(
        self,
        *,
        types: Iterable[type[SharedObject]],
        key: bytes | None = None,
        explicit_key: bool = False,
        limits: dict[str, int] | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.key = key
        self.explicit_key = explicit_key
        self.server_id = os.urandom(16)
        # Fences rise across restarts, and ids of objects are not used again: both begin at the
        # time, in a unit, about a microsecond, that none outruns.
        start = int(max(time() - EPOCH_2025, 0.0) * (1 << 20))
        store = Store(types, first_fence=start, first_id=start + 1)
        self.core = ServerCore(store, _Hands(self.loop), limits=limits)
        self.core.on_left = self._unwatch_client
        self.address: Address = cast("Any", None)
        self.pending: set[_Connection] = set()
        self.turned_away: set[_Connection] = set()
        self.carriers: set[_Connection] = set()
        """The connections that carry a session."""
        self._watched: dict[bytes, int] = {}
        self._listening: asyncio.Server | None = None
        self._remove: Callable[[], None] = lambda: None

    async def listen(self, address: Address, *, allow_plaintext: bool = False) -> Address:
        """Listen on `address`; return it with the port that was chosen.

        Raises:
            ValueError: TCP beyond loopback without `allow_plaintext`, or without a key.
            OSError: the address is in use or cannot be had.
        """
        self.address = address
        if address.scheme == "unix":
            self._listening = await self._listen_unix(address.path)
            return address
        if address.scheme != "tcp":
            raise ValueError(f"this version serves unix:// and tcp:// addresses, not {address.url}")
        if self.key is None:
            raise ValueError(
                f"a server on {address.url} needs a key: pass authkey=, or set AIOMANAGER_AUTHKEY"
            )
        if not is_loopback(address) and not allow_plaintext:
            raise ValueError(
                f"{address.url} is reachable from other machines and the connection is not "
                "encrypted; use a loopback address, or allow it explicitly (--allow-plaintext)"
            )
        self._listening = await self.loop.create_server(
            lambda: _Connection(self),
            address.host,
            address.port,
            backlog=BACKLOG,
            reuse_address=True,
        )
        port = self._listening.sockets[0].getsockname()[1]
        self.address = address._replace(port=port)
        return self.address

    async def _listen_unix(self, name: str) -> asyncio.Server:
        sock, self._remove = _listen_unix(name)
        return await self.loop.create_unix_server(
            lambda: _Connection(self), sock=sock, backlog=BACKLOG
        )

    def watch_client(self, client_id: bytes, pidfd: int) -> None:
        """Have a client's sessions end when its process does; it has at least one."""
        if client_id in self._watched:
            os.close(pidfd)
            return
        self._watched[client_id] = pidfd
        self.loop.add_reader(pidfd, self._client_died, client_id)

    def _client_died(self, client_id: bytes) -> None:
        self._unwatch_client(client_id)
        self._bury(client_id, self.loop.time() + SETTLE_SECONDS)

    def _bury(self, client_id: bytes, deadline: float) -> None:
        """End the sessions of a client that died, once its last bytes are read."""
        carriers = [one for one in self.carriers if one.belongs_to(client_id)]
        if self.loop.time() < deadline and any(one.has_more() for one in carriers):
            self.loop.call_later(0.001, self._bury, client_id, deadline)
            return
        for one in carriers:
            one.outlives_its_client()
        self.core.client_died(client_id)

    def _unwatch_client(self, client_id: bytes) -> None:
        pidfd = self._watched.pop(client_id, -1)
        if pidfd >= 0:
            self.loop.remove_reader(pidfd)
            os.close(pidfd)

    def bound_address(self) -> tuple[str, int] | None:
        """Return the host and port of the listening socket, as numbers; None if it is no TCP."""
        if self._listening is None or self.address.scheme == "unix":
            return None
        host, port = self._listening.sockets[0].getsockname()[:2]
        return host, port

    def descriptors(self) -> list[int]:
        """Return the descriptors of all sockets: a forked child must not keep them open."""
        listening = () if self._listening is None else self._listening.sockets
        connections = (*self.pending, *self.carriers)
        found = [s.fileno() for s in listening] + [c.descriptor() for c in connections]
        return [descriptor for descriptor in found if descriptor >= 0]

    async def close(self) -> None:
        """Stop listening, tell all clients, and close their connections."""
        if self._listening is not None:
            self._listening.close()
        self._remove()
        for connection in [*self.pending, *self.turned_away]:
            connection._transport.abort()  # pyright: ignore[reportPrivateUsage]
        for session in list(self.core.sessions.values()):
            session.close(110, "the server shuts down")
            session.finish()
        # One turn of the loop for what was written.
        await asyncio.sleep(0)
        for pidfd in self._watched.values():
            self.loop.remove_reader(pidfd)
            os.close(pidfd)
        self._watched.clear()
