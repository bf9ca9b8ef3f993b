"""A server in the same process as its clients, whose bytes take one tick of the loop for each hop.

No socket and no process: what happens when is up to the test, tick by tick, so it can do something
at each of them. The channels are the real ones, but for their connections; so are both ends of
the sessions.
"""

from collections.abc import Callable
from itertools import count
from types import SimpleNamespace
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from aiomanager.client._anyio import AnyioChannel
from aiomanager.client._anyio import _Connection as AnyioConnection
from aiomanager.client._async import AsyncChannel
from aiomanager.client._asyncio import AsyncioChannel
from aiomanager.client._channel import Endpoint, running_loop
from aiomanager.errors import ConnectionLost
from aiomanager.objects import TYPES
from aiomanager.operation import SharedObject, bind
from aiomanager.protocol.address import Address
from aiomanager.protocol.handshake import Hello, Resume, Welcome
from aiomanager.proxy import Reference, async_face
from aiomanager.sessions.server import ServerCore, ServerSession
from aiomanager.sessions.store import MANAGER, Manager, Store

__all__ = ("Client", "Memory", "ticks")

_numbers = count(1)


async def ticks(number: int) -> None:
    """Let all other tasks run so many times."""
    for _ in range(number):
        await checkpoint()


class _Hands:
    """The server's hands; its time stands still, and a fault is the test's."""

    def __init__(self) -> None:
        self.faults: list[BaseException] = []

    def call_later(self, _seconds: float, _function: Callable[[], None], /) -> Any:
        return SimpleNamespace(cancel=lambda: None)

    def now(self) -> float:
        return 0.0

    def new_id(self) -> bytes:
        return next(_numbers).to_bytes(16, "big")

    def report(self, message: str, error: BaseException, /) -> None:
        self.faults.append(error)


class Memory:
    """A server, and the wires to it."""

    def __init__(self) -> None:
        self.hands = _Hands()
        self.core = ServerCore(Store(TYPES), self.hands)
        self.address = Address("unix", path=f"/memory/{next(_numbers)}")
        self.up = True
        """Whether the server takes connections."""
        self.stillborn = 0
        """How many of the next connections are lost as soon as they are made."""

    def client(self) -> "Client":
        """Return a new client process, so to speak."""
        return Client(self)

    def open(self, client: bytes, resume: Resume | None) -> tuple[ServerSession, Any]:
        """Return the session for a connection, and what stands for its finished handshake."""
        if not self.up:
            raise ConnectionLost("the server is down") from FileNotFoundError()
        hello = Hello((1,), ("peer",), b"n" * 32, "test", client, 1, "", resume, ())
        session = self.core.session_of(hello, "peer:0", "pid 1", 5.0)
        welcome = Welcome(
            "peer", b"s" * 16, session.session_id, session.stream.received, resume is not None,
            5.0, self.core.limits, "test", 1, (),
        )  # fmt: skip
        return session, SimpleNamespace(welcome=welcome, trailing=b"")


class Wire:
    """One connection, seen from both ends: each write arrives a tick later, unless it is cut."""

    def __init__(self, session: ServerSession, handshake: Any) -> None:
        self.session = session
        self.handshake = handshake
        self.lost = False
        self.transport = self
        self.closed: Any = None
        self.soon = soon()
        self.to_client: Callable[[bytes], None] = lambda data: None
        self.end: Callable[[], None] = lambda: None
        self.cut_up = self.cut_down = False

    def attach(self, memory: Memory, resume: Resume | None) -> None:
        received = resume.received if resume else 0
        self.session.attach(self._down, self._server_closes, received)
        if memory.stillborn:
            memory.stillborn -= 1
            self.abort()

    def _down(self, data: bytes) -> None:
        def arrive() -> None:
            if not self.cut_down:
                self.to_client(data)

        self.soon(arrive)

    def write(self, data: bytes) -> None:
        def arrive() -> None:
            if not self.cut_up:
                self.session.receive_data(data)

        self.soon(arrive)

    def _server_closes(self) -> None:
        def arrive() -> None:
            if not self.cut_down:
                self.abort()

        self.soon(arrive)

    def cut(self, up: bool, down: bool) -> None:
        """Break; what is under way in a direction arrives, or not."""
        self.cut_up, self.cut_down = not up, not down
        # Behind what arrives still.
        self.soon(lambda: self.soon(self.abort))

    def abort(self) -> None:
        if self.lost:
            return
        self.lost = self.cut_up = self.cut_down = True
        self.session.detach()
        self.session._core.flush()
        self.end()

    def finish(self, last_words: bytes) -> None:
        self.write(last_words)
        self.soon(lambda: self.soon(self.abort))


def soon() -> Callable[[Callable[[], None]], Any]:
    """Return what calls a function in the next tick."""
    loop: Any = running_loop()
    return loop.run_sync_soon if hasattr(loop, "run_sync_soon") else loop.call_soon


class _AsyncioChannel(AsyncioChannel):
    client: "Client"

    async def _connect(self, resume: Resume | None) -> Any:
        await checkpoint()
        session, handshake = self.client.memory.open(self.client.id, resume)
        wire = self.client.wire = Wire(session, handshake)
        wire.closed = self.loop.create_future()
        wire.to_client = lambda data: self.data_received(wire, data)

        def end() -> None:
            wire.closed.set_result(None)
            self.connection_lost(wire)

        wire.end = end
        wire.attach(self.client.memory, resume)
        return wire


class _Stream:
    """The client's end of a wire, as a stream."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._give, self._take = anyio.create_memory_object_stream[bytes](10000)
        wire.to_client = self._give.send_nowait
        wire.end = self._give.close

    async def receive(self, _limit: int) -> bytes:
        return await self._take.receive()

    async def send(self, data: bytes) -> None:
        await checkpoint()
        self._wire.write(data)

    async def send_eof(self) -> None:
        self._wire.finish(b"")

    async def aclose(self) -> None:
        self._wire.abort()
        self._give.close()
        self._take.close()


class _Socket:
    """What is written without a checkpoint."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def send(self, data: bytes) -> int:
        self._wire.write(data)
        return len(data)


class _AnyioChannel(AnyioChannel):
    client: "Client"

    async def _connect(self, resume: Resume | None) -> Any:
        await checkpoint()
        session, handshake = self.client.memory.open(self.client.id, resume)
        wire = self.client.wire = Wire(session, handshake)
        stream: Any = _Stream(wire)
        sock: Any = _Socket(wire)
        self._latest = AnyioConnection(stream, sock, handshake)
        wire.attach(self.client.memory, resume)
        return self._latest


class Client:
    """A client with a channel of the running loop's kind; its `wire` can be cut."""

    wire: Wire

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.id = next(_numbers).to_bytes(16, "big")
        on_trio = hasattr(running_loop(), "run_sync_soon")
        endpoint = Endpoint(memory.address, b"k" * 16, True)
        self.channel: AsyncChannel = (_AnyioChannel if on_trio else _AsyncioChannel)(endpoint)
        self.channel.client = self  # type: ignore[attr-defined]
        # One book for each, as if each were a process of its own.
        self.channel.book = type(self.channel.book)()

    async def __aenter__(self) -> "Client":
        await self.channel.open()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.channel.aclose()

    async def make(self, kind: type[SharedObject], *given: Any) -> Any:
        """Make an object and return its proxy."""
        root: Any = async_face(Manager)(
            self.channel, Reference(self.channel.book, MANAGER, self.channel.book.epoch)
        )
        wire = self.channel.maker_plan(kind).encode(bind("make", kind.maker, given, {}))
        return self.adopt(kind, await root.create(kind.type_name, wire))

    def adopt(self, kind: type[SharedObject], object_id: int) -> Any:
        """Return a proxy of an object that the server has counted for this client."""
        return async_face(kind)(self.channel, self.channel.counted(object_id))

    def same(self, proxy: Any) -> Any:
        """Return a proxy of another client's object."""
        reference = Reference(self.channel.book, proxy._reference.object_id, 0)
        return type(proxy)(self.channel, reference)

    def waiting(self) -> int:
        """Return how many calls of all clients wait, or hold what is not confirmed."""
        return self.memory.core.count()["waiting"]
