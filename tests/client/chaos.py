"""A proxy for real sockets that cuts, stalls, splits and half-closes what passes through it.

It runs in a thread of its own, so that clients on any loop, and blocking ones, can use it. What
it does to a connection follows from its seed and the number of the connection.
"""

import asyncio
import contextlib
import socket
import struct
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Self

from aiomanager.protocol.address import Address

__all__ = ("Chaos", "Fate")


class Fate:
    """What happens to one connection: drawn from a seed, or set by a test."""

    def __init__(self, random: Random, longest: int) -> None:
        self.cut_after: int | None = 1 + int(random.random() ** 2 * longest)
        """How many bytes pass, of both directions together, before the connection is cut."""
        self.reset = random.random() < 0.5
        """Whether it ends by a reset, so that what is not read yet is lost as well."""
        self.piece = random.choice([1, 7, 100, 1 << 16])
        """The largest piece in which bytes are passed on."""
        self.stall = random.choice([0.0, 0.0, 0.0, 0.02])
        """Seconds for which nothing passes before the cut."""
        self.half = random.random() < 0.2
        """Whether only the direction of the last byte ends then; the other one goes on, until
        its receiver closes or a while is over."""


class Chaos:
    """Listens beside a server and passes bytes on to it, as long as it likes."""

    def __init__(self, target: Address, seed: int = 0, longest: int = 3000) -> None:
        self._target = target
        self._random = Random(seed)
        self._longest = longest
        self.raging = False
        """Whether connections are cut; those of before are when this is set by `rage`."""
        self.cuts = 0
        self.half_closed = 0
        self.connections = 0
        self.fate: Callable[[], Fate] = lambda: Fate(self._random, self._longest)
        self._carried: set[_Carried] = set()
        self._directory = tempfile.TemporaryDirectory(prefix="chaos-")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="chaos")
        started: Future[Address] = Future()
        self._stop = asyncio.Event()
        self._main = self._serve(started)
        self._thread.start()
        self.address = started.result(10)

    @property
    def url(self) -> str:
        return self.address.url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._directory.cleanup()

    def rage(self) -> None:
        """Begin to cut connections, those that are there as well."""
        self.raging = True
        self._each(lambda carried: carried.doom(self.fate()))

    def calm(self) -> None:
        """Cut nothing any more."""
        self.raging = False
        self._each(lambda carried: carried.doom(None))

    def cut(self) -> None:
        """Cut what is there, now."""
        self._each(lambda carried: carried.cut(reset=False))

    def hold(self, held: bool) -> None:
        """Pass nothing on, or go on."""
        self._each(lambda carried: carried.hold(held))

    def _each(self, function: "Callable[[_Carried], None]") -> None:
        def run() -> None:
            for carried in list(self._carried):
                function(carried)

        async def call() -> None:
            run()

        asyncio.run_coroutine_threadsafe(call(), self._loop).result(10)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._main)
        finally:
            self._loop.close()

    async def _serve(self, started: "Future[Address]") -> None:
        if self._target.scheme == "unix":
            address = Address("unix", path=str(Path(self._directory.name) / "s"))
            server: Any = await asyncio.start_unix_server(self._accepted, address.path)
        else:
            server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            address = Address(self._target.scheme, host="127.0.0.1", port=port)
        started.set_result(address)
        await self._stop.wait()
        server.close()
        for carried in list(self._carried):
            carried.cut(reset=False)
        while self._carried:  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            if self._target.scheme == "unix":
                up = await asyncio.open_unix_connection(self._target.path)
            else:
                up = await asyncio.open_connection(self._target.host, self._target.port)
        except OSError:
            writer.close()
            return
        carried = _Carried(self, (reader, writer), up)
        self._carried.add(carried)
        if self.raging:
            carried.doom(self.fate())
        try:
            await carried.run()
        finally:
            self._carried.discard(carried)


class _Carried:
    """One connection through the proxy."""

    def __init__(self, chaos: Chaos, down: Any, up: Any) -> None:
        self._chaos = chaos
        self._down = down
        self._up = up
        self._fate: Fate | None = None
        self._passed = 0
        self._open = asyncio.Event()
        self._open.set()
        self._over = asyncio.Event()

    def doom(self, fate: Fate | None) -> None:
        self._fate = fate
        self._passed = 0

    def hold(self, held: bool) -> None:
        if held:
            self._open.clear()
        else:
            self._open.set()

    def cut(self, *, reset: bool) -> None:
        for _, writer in (self._down, self._up):
            sock = writer.get_extra_info("socket")
            if reset and sock is not None and sock.family != socket.AF_UNIX:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        self._over.set()

    async def run(self) -> None:
        pumps = [
            asyncio.ensure_future(self._pump(self._down[0], self._up[1])),
            asyncio.ensure_future(self._pump(self._up[0], self._down[1])),
        ]
        over = asyncio.ensure_future(self._over.wait())
        await asyncio.wait([*pumps, over], return_when=asyncio.FIRST_COMPLETED)
        if not self._over.is_set():
            # One end has said its last word; the other one may have more to say.
            await asyncio.wait([*pumps, over], timeout=1)
        for task in (*pumps, over):
            task.cancel()
        await asyncio.wait([*pumps, over])
        for _, writer in (self._down, self._up):
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                if not await self._pass(writer, data):
                    break
            await self._open.wait()
            writer.write_eof()
        except OSError:
            self._over.set()

    async def _pass(self, writer: asyncio.StreamWriter, data: bytes) -> bool:
        """Pass bytes on; return whether this direction is still open."""
        while data:
            await self._open.wait()
            fate = self._fate
            piece = data if fate is None else data[: fate.piece]
            if fate is not None and fate.cut_after is not None:
                piece = piece[: fate.cut_after - self._passed]
            self._passed += len(piece)
            data = data[len(piece) :]
            writer.write(piece)
            await writer.drain()
            if fate is not None and fate.cut_after is not None and self._passed >= fate.cut_after:
                await asyncio.sleep(fate.stall)
                if not self._over.is_set():
                    self._chaos.cuts += 1
                    if fate.half:
                        self._chaos.half_closed += 1
                        self.doom(None)
                        return False
                    self.cut(reset=fate.reset)
                raise ConnectionResetError
        return True
