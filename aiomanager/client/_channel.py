"""What the channels of all three shells share: where the server is, the codecs, references.

Nothing here connects, sends or waits.
"""

import errno
import math
import os
import socket
import struct
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, NamedTuple, TypeVar, cast
from weakref import WeakValueDictionary

from aiomanager.client._process import AGENT, Forkable, epochs, host, watch_fork
from aiomanager.errors import (
    AuthenticationFailed,
    ConnectionLost,
    ProtocolError,
    ResultTimeout,
    VersionMismatch,
)
from aiomanager.objects import TYPES
from aiomanager.operation import Operation, SharedObject
from aiomanager.protocol.address import Address, parse_address
from aiomanager.protocol.handshake import ClientHandshake, Resume
from aiomanager.protocol.keys import KeyCodec
from aiomanager.protocol.values import ValueCodec
from aiomanager.proxy import (
    AsyncProxy,
    Channel,
    Proxy,
    Reference,
    async_face,
    shared_type_of,
    sync_face,
)
from aiomanager.sessions.plans import Leaves, Plan, Plans
from aiomanager.sessions.store import Manager

__all__ = (
    "LENT",
    "READ",
    "Book",
    "ChannelBase",
    "Endpoint",
    "Ways",
    "endpoint_of",
    "environment_key",
    "handshake_for",
    "raised",
    "refused",
    "remember_channel",
    "remembered_channel",
    "remembered_key",
    "running_loop",
    "trio_here",
)

LENT: Final = 300.0
"""Seconds for which a process keeps the object of a proxy that it pickled, or had as it forked."""
READ: Final = 1 << 16
"""How many bytes are read at a time, into a buffer that is made for each read: in some programs
glibc maps and unmaps one of more than 128 kB anew each time."""
MIN_KEY: Final = 16
_MAKERS: Final = (Manager.create, Manager.named)
"""Their result is the id of an object, which the server has counted for this client."""

T = TypeVar("T")


class Endpoint(NamedTuple):
    """A server as a client finds it."""

    address: Address
    key: bytes | None
    """An explicit key; None: the same user needs none, else this process's own key is taken."""
    allow_pickle: bool

    def name(self) -> tuple[Address, bytes | None, bool]:
        """Return what two equal ways to one server have in common."""
        return (self.address, self.key, self.allow_pickle)


def endpoint_of(
    url: Any = None, *, authkey: bytes | None = None, allow_pickle: bool | None = None
) -> Endpoint:
    """Return the endpoint of a URL or stdlib address; None stands for $AIOMANAGER_URL.

    Raises:
        ValueError: no or a malformed URL, or a key that is too short.
        TypeError: the key is no bytes.
    """
    if url is None:
        url = os.environ.get("AIOMANAGER_URL")
        if not url:
            raise ValueError(
                "there is no server to connect to: pass a url, or set AIOMANAGER_URL. "
                "Start a server with 'aiomanager serve', or your program by "
                "'aiomanager run -- COMMAND', which sets it"
            )
    address = parse_address(url)
    key = authkey if authkey is not None else environment_key()
    check_key_length(key)
    if allow_pickle is None:
        allow_pickle = address.scheme == "unix"
    return Endpoint(address, key, allow_pickle)


def check_key_length(key: bytes | None) -> None:
    """Raise TypeError or ValueError for a key that does not protect anything."""
    if key is None:
        return
    if not isinstance(key, bytes):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"authkey must be bytes, not {type(key).__name__}")
    if len(key) < MIN_KEY:
        raise ValueError(
            f"the authkey has {len(key)} bytes and can be guessed; use at least {MIN_KEY} "
            "random ones, such as secrets.token_bytes(32)"
        )


def environment_key() -> bytes | None:
    """Return the key of $AIOMANAGER_AUTHKEY, the very bytes that stand there."""
    text = os.environ.get("AIOMANAGER_AUTHKEY")
    return os.fsencode(text) if text else None


def _process_key() -> bytes | None:
    """Return the key that multiprocessing gave this process, which its children inherit."""
    from multiprocessing import current_process

    return bytes(current_process().authkey)


class Peer(NamedTuple):
    """Who is at the other end of a unix socket."""

    pid: int
    uid: int


def peer_of(sock: Any) -> Peer | None:
    """Return who is at the other end of a unix socket, or None if the system does not say."""
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except (AttributeError, OSError):
        return None
    pid, uid, _ = struct.unpack("3i", raw)
    return Peer(pid, uid)


def handshake_for(
    endpoint: Endpoint, sock: Any, resume: Resume | None, *, capabilities: tuple[str, ...] = ()
) -> ClientHandshake:
    """Return the client's end of a handshake on a connected socket."""
    trusted = False
    if endpoint.address.scheme == "unix":
        peer = peer_of(sock)
        trusted = peer is not None and peer.uid == os.geteuid()
    key, hint = endpoint.key, "the explicit key was used"
    offer_peer = trusted and key is None
    if key is None and (not offer_peer or "multiprocessing.process" in sys.modules):
        key, hint = _process_key(), "this process's own key was used; pass authkey="
    return ClientHandshake(
        nonce=os.urandom(32),
        client=_book_of(endpoint.address).client,
        pid=os.getpid(),
        host=host(),
        agent=AGENT,
        key=key,
        offer_peer=offer_peer,
        peer_trusted=trusted,
        resume=resume,
        capabilities=capabilities,
        hint=hint,
    )


def raised(error: Exception) -> Exception:
    """Return the error of a call as the class that callers of the stdlib catch."""
    if isinstance(error, ResultTimeout):
        from aiomanager.client._refused import JobTimeoutError

        return JobTimeoutError(str(error))
    return error


def refused(address: Address, error: Exception) -> Exception:
    """Return the error of a failed handshake, of the class that callers of the stdlib catch."""
    if isinstance(error, AuthenticationFailed):
        from aiomanager.client._refused import AuthenticationError

        return AuthenticationError(str(error))
    if isinstance(error, ProtocolError) and not isinstance(error, VersionMismatch):
        return type(error)(f"what answers at {address.url} is no aiomanager server: {error}")
    return error


def unreachable(address: Address, error: BaseException) -> ConnectionLost:
    """Return the error for a server that nobody can connect to."""
    why = str(error) or str(error.__cause__ or "") or type(error).__name__
    if isinstance(error, PermissionError):
        hint = "Only the user who started a server may use its unix socket"
    elif isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        hint = "This process has too many open files: see 'ulimit -n'"
    elif isinstance(error, ConnectionResetError | BrokenPipeError):
        hint = "It closed the connection at once: its log may say why, such as too many open files"
    else:
        hint = "Is it running? Start one with 'aiomanager serve', or check the URL"
    return ConnectionLost(f"no server answers at {address.url} ({why}). {hint}")


def tune(sock: socket.socket, address: Address) -> None:
    """Set a connected socket's options: no delay, and the kernel watches a silent peer."""
    if address.scheme != "unix":
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4)):
            if hasattr(socket, option):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


class Book(Forkable):
    """The references that one server counts for this process, whichever session said so.

    What others may be about to count for themselves is kept for a while: what was pickled, and what
    is dropped soon after a fork though it was there before. (A process of multiprocessing that is
    forked gets its arguments as they are, and its parent forgets them.) Nothing wakes up to let go
    of it: whatever is done with references then does so.
    """

    forks: int = 0
    last_fork: float = -math.inf
    """When that was; both are of the process, not of one book."""

    def __init__(self) -> None:
        self.client = os.urandom(16)
        """The id under which the server counts them. There is one for this process, and another
        one when it comes back: the server may count the old ones for a while."""
        self.epoch = next(epochs)
        self.dropped: deque[int] = deque()
        self._server = b""
        self._sessions: set[bytes] = set()
        self._lent: deque[tuple[float, Reference]] = deque()
        self.left: deque[tuple[float, int]] = deque()
        """The objects of references that were dropped after a fork, by the time of that."""
        watch_fork(self)

    def after_fork(self) -> None:
        """Begin anew: the server counts nothing for the child yet."""
        self.client = os.urandom(16)
        self.renew()
        self._lent.clear()
        self._sessions = set()

    def join(self, server: bytes, session: bytes) -> None:
        """Know of a new session with the server of this id."""
        if server != self._server:
            self._server = server
            self.renew()
        self._sessions.add(session)

    def leave(self, session: bytes) -> None:
        """Know that a session has ended: with the last one, the server may forget this process."""
        if session in self._sessions:
            self._sessions.discard(session)
            if not self._sessions:
                self.client = os.urandom(16)
                self.renew()

    def renew(self) -> None:
        """Know that the server counts none of the references so far."""
        self.epoch = next(epochs)
        self.dropped.clear()
        self.left.clear()

    def drop(self, reference: Reference) -> None:
        """Called by finalizers, at any moment: appending is all that is safe."""
        if reference.epoch != self.epoch:
            return
        if reference.forks != self.forks and time.monotonic() - self.last_fork < LENT:
            self.left.append((self.last_fork, reference.object_id))
        else:
            self.dropped.append(reference.object_id)

    def take_dropped(self) -> list[int]:
        """Return the objects of dropped references, once for each."""
        self.take_back()
        found: list[int] = []
        try:
            while True:  # several threads take at a time
                found.append(self.dropped.popleft())
        except IndexError:
            return found

    def reference(self, object_id: int) -> Reference:
        """Return a reference to an object that is named in what this thread decodes or unpickles.

        Usually the server has counted it. Else it does when the reference is first used, and an
        object that is gone by then is said to be.
        """
        counted = _here.counted.get(object_id) if _here.book is self else None
        return counted or Reference(self, object_id, 0)

    def lend(self, reference: Reference) -> None:
        """Keep a reference alive for a while: its proxy was pickled for somebody."""
        self.take_back()
        self._lent.append((time.monotonic(), reference))

    @property
    def lends(self) -> bool:
        """Whether the receiver of a pickled proxy, or a forked child, may still be on its way."""
        self.take_back()
        return bool(self._lent) or time.monotonic() - self.last_fork < LENT

    def take_back(self) -> None:
        """Keep no longer what was kept for others long enough."""
        if self._lent or self.left:
            end = time.monotonic() - LENT
            while _first(self._lent, end) is not None:
                pass
            while (object_id := _first(self.left, end)) is not None:
                self.dropped.append(object_id)


def _first(kept: deque[tuple[float, T]], end: float) -> T | None:
    """Remove what comes first, if it was there before `end`, and return it."""
    try:
        entry = kept[0]
        if entry[0] < end:
            kept.remove(entry)
            return entry[1]
    except (IndexError, ValueError):
        pass  # another thread was here
    return None


def _before_fork() -> None:
    # Before, as other threads of the parent go on while it is forked.
    Book.forks += 1
    Book.last_fork = time.monotonic()


def _after_fork() -> None:
    Book.last_fork = -math.inf  # of the parent


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)


class _Here(threading.local):
    """What a thread is at: the references of the value that it encodes or decodes."""

    book: "Book | None" = None
    counted: Mapping[int, Reference] = {}
    """Those that came with the value, by their object: the server has counted them."""
    channel: "ChannelBase | None" = None
    """The one that a pickle is made for, which is a part of a value."""
    pickled: "list[int]" = []
    """The objects that the pickle refers to."""


_here = _Here()


class Ways(NamedTuple):
    """How proxies come to channels of any kind; the file above the shells knows."""

    channel_for: Callable[[Endpoint, type[Proxy]], "ChannelBase"]
    """Returns this process's channel to a server for proxies of a class."""
    rebuild: Callable[..., Proxy]
    """Makes a proxy from what `ChannelBase.reduce` has pickled."""


class ChannelBase(Forkable, Channel):
    """A way to one server from one process, with the codecs and the references behind it."""

    ways: ClassVar[Ways]
    proxies_are: type[Proxy]
    """The kind of proxy that this channel's values turn into."""
    pickled_keys: ClassVar[bool] = False
    """Whether a key may be any hashable object, known by its pickle."""
    dumps: ClassVar[Any] = None
    """What pickles, if not pickle itself."""
    place: int = 0
    """Names the loop to which the channel belongs, if it does to one."""
    closed: bool = False
    """Whether it was closed on purpose, for good."""
    server: object = None
    """A private server, which lives as long as a proxy can reach it."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Know the way; nothing connects yet.

        Raises:
            ValueError: the URL asks for encryption, which this version does not have.
        """
        if endpoint.address.scheme == "tls":
            raise ValueError(
                f"{endpoint.address.url}: this version does not encrypt connections. Use unix:// "
                "on one machine, or tcp:// through a tunnel that encrypts, such as ssh's"
            )
        self.endpoint = endpoint
        self.book = _book_of(endpoint.address)
        self.types: dict[str, type[SharedObject]] = {kind.type_name: kind for kind in TYPES}
        # Weak: a channel that nobody has any more is gone at once, and its server with it.
        here = cast("ChannelBase", weakref.proxy(self))
        values = ValueCodec(
            allow_pickle=endpoint.allow_pickle,
            refer=lambda value: here._refer(value),
            resolve=lambda object_id, type_name: here._resolve(object_id, type_name),
            dumps=self.dumps,
            gather=lambda pickle: here._gather(pickle),
        )

        def decode(packed: Any) -> Any:
            kind = type(packed)  # pyright: ignore[reportUnknownVariableType]
            if kind is int or kind is str:
                return packed  # as `values.decode`, without the call
            if kind is not list:
                return values.decode(packed)
            # The server has counted each of these once, however often it comes in the value, and
            # whether or not the value can be opened here.
            _, ids = cast("tuple[bytes, list[int]]", packed)
            around = _here.book, _here.counted
            _here.book = here.book
            _here.counted = {object_id: here.counted(object_id) for object_id in ids}
            try:
                return values.decode(cast("list[Any]", packed))
            finally:
                _here.book, _here.counted = around

        def encode_object(value: object) -> int:
            return here._encode_object(value)

        keys = KeyCodec(values, pickled_keys=self.pickled_keys)
        self.decode_key = keys.decode
        self.encode_value = values.encode
        self.decode_value = decode
        self._plans = Plans(
            Leaves(
                keys.encode,
                values.encode,
                keys.decode,
                decode,
                _no_path,
                encode_object=encode_object,
            )
        )
        self._plan_of = self._plans.made_already.get
        self._makers: dict[type[SharedObject], Plan] = {}
        watch_fork(self)

    def leave_packed(self, operation: Operation[..., Any]) -> None:
        """Have the results of an operation stay as they travel: `decode_value` opens their parts.

        For who must go on if a part cannot be opened.
        """
        self._plans.of(operation).decode_result = _as_it_is

    def maker_plan(self, shared: type[SharedObject]) -> Plan:
        """Return how the arguments of a type's `__init__` travel."""
        plan = self._makers.get(shared)
        if plan is None:
            plan = self._makers[shared] = self._plans.made(shared.maker)
        return plan

    # References

    def _refer(self, value: object) -> tuple[int, str] | None:
        """Return what a proxy of this server travels as; None for anything else."""
        if not isinstance(value, Proxy):
            return None
        reference = value._reference  # pyright: ignore[reportPrivateUsage]
        if reference.book is not self.book:
            return None  # of another server: it is pickled with its URL
        if reference.epoch != self.book.epoch:
            self.count(reference)
        return reference.object_id, shared_type_of(type(value)).type_name

    def _encode_object(self, value: object) -> int:
        found = self._refer(value)
        if found is None:
            raise TypeError(
                f"expected a proxy of a shared object of this server, not {type(value).__name__}"
            )
        return found[0]

    def _gather(self, pickle: Callable[[], bytes]) -> tuple[bytes, list[int]]:
        """Make a pickle that is a part of a value; return it and the objects that it refers to."""
        around = _here.channel, _here.pickled
        _here.channel, _here.pickled = self, []
        try:
            return pickle(), list(dict.fromkeys(_here.pickled))
        finally:
            _here.channel, _here.pickled = around

    def count(self, reference: Reference) -> None:
        """Have the server count a reference before it sees the next call."""
        raise NotImplementedError

    def counted(self, object_id: int) -> Reference:
        """Return a reference that the server has counted already."""
        book = self.book
        if book.left:
            book.take_back()
        return Reference(book, object_id, book.epoch)

    def discard(self, plan: Plan, wire: Any) -> None:
        """Let go of the objects in a result that nobody gets: the server has counted them."""
        try:
            result = plan.decode_result(wire)
            if plan.operation in _MAKERS:
                self.counted(result)
        except Exception:
            pass  # it cannot be opened here

    def shared_type(self, type_name: str) -> type[SharedObject]:
        """Return the class of a type's name; raise LookupError."""
        found = self.types.get(type_name)
        if found is None:
            raise LookupError(
                f"this program does not know the shared type {type_name!r}: import it and pass "
                "it in types=[...] when connecting"
            )
        return found

    def _resolve(self, object_id: int, type_name: str) -> Proxy:
        """Return a proxy, of this channel's kind, for a part of a value."""
        return self.face(self.shared_type(type_name))(self, self.book.reference(object_id))

    def face(self, shared: type[SharedObject]) -> type[Proxy]:
        """Return the class of this channel's proxies of a shared type."""
        return async_face(shared) if self.proxies_are is AsyncProxy else sync_face(shared)

    # Proxies elsewhere

    def reduce(self, proxy: Proxy) -> tuple[Any, ...]:
        """Return how to pickle a proxy; its object is kept for a while."""
        reference = proxy._reference  # pyright: ignore[reportPrivateUsage]
        here = _here.channel
        if here is not None and here.book is self.book:
            # It travels beside the value that the pickle is a part of, and is counted.
            if reference.epoch != self.book.epoch:
                here.count(reference)
            _here.pickled.append(reference.object_id)
        else:
            self.book.lend(reference)
        state = (
            self.endpoint.address.url,
            self._travelling_key(),
            self.endpoint.allow_pickle,
            reference.object_id,
            type(proxy),
        )
        return self.ways.rebuild, state

    def _travelling_key(self) -> bytes | None:
        """Return the key to pickle along: only a process that is being started gets it."""
        context = sys.modules.get("multiprocessing.context")
        if context is not None and context.get_spawning_popen() is not None:
            return self.endpoint.key
        return None

    def other_face(self, proxy: Proxy, face: type[Proxy]) -> Proxy:
        """Return a proxy of the other kind for the same object."""
        reference = proxy._reference  # pyright: ignore[reportPrivateUsage]
        channel = self.ways.channel_for(self.endpoint, face)
        channel.server = channel.server or self.server
        return face(channel, reference)

    def describe(self) -> str:
        """Return the server's URL."""
        return self.endpoint.address.url

    def now(self) -> float:
        """Return the seconds of a clock that never goes back."""
        return time.monotonic()


def _as_it_is(wire: Any) -> Any:
    return wire


def _no_path(_wire: Any) -> Any:
    raise TypeError("no result is a path")


# The channels of this process: proxies that are unpickled share them.

_channels: "WeakValueDictionary[Any, ChannelBase]" = WeakValueDictionary()
_keys: dict[str, bytes] = {}
_books: "WeakValueDictionary[Address, Book]" = WeakValueDictionary()


def _book_of(address: Address) -> Book:
    """Return this process's book of the references to objects of one server."""
    return _books.setdefault(address, Book())


def remember_channel(channel: ChannelBase) -> None:
    """Have proxies of the same server and kind use this channel."""
    _channels[channel.proxies_are, channel.endpoint.name(), channel.place] = channel
    if channel.endpoint.key is not None:
        _keys[channel.endpoint.address.url] = channel.endpoint.key


def remembered_channel(
    proxies_are: type[Proxy], endpoint: Endpoint, place: int = 0
) -> ChannelBase | None:
    """Return this process's channel to a server for proxies of a kind, if it has one."""
    channel = _channels.get((proxies_are, endpoint.name(), place))
    return None if channel is None or channel.closed else channel


def remembered_key(url: str, travelled: bytes | None) -> bytes | None:
    """Return the key for a server: the one that travelled with a proxy, else one used before."""
    if travelled is None:
        return _keys.get(url)
    _keys[url] = travelled
    return travelled


def running_loop() -> object | None:
    """Return the asyncio loop that runs in this thread, or what stands for trio's; else None."""
    trio = trio_here()
    if trio is not None:
        return cast("object", trio.current_trio_token())
    get_loop = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
    return None if get_loop is None else cast("object", get_loop())


def trio_here() -> Any:
    """Return `trio.lowlevel` if a task of trio runs in this thread, else None."""
    # What was never imported does not run here, nor what another thread is just importing.
    lowlevel = getattr(sys.modules.get("trio"), "lowlevel", None)
    return lowlevel if lowlevel is not None and lowlevel.in_trio_task() else None
