"""The drop-in's server: the shared objects of aiomanager, and those of the program's own classes.

It runs in a process that a manager starts, or in the program's own (`get_server()`).
"""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import threading
from collections.abc import Mapping
from multiprocessing.process import AuthenticationString  # type: ignore[attr-defined]  # pyright: ignore
from multiprocessing.process import current_process as current_process
from pathlib import Path
from queue import Queue
from typing import Any, cast

from aiomanager.client._channel import Endpoint, remember_channel
from aiomanager.client._process import Forkable, watch_fork
from aiomanager.multiprocessing.addresses import parsed, shown
from aiomanager.multiprocessing.adopted import adopt
from aiomanager.multiprocessing.channel import DropInChannel
from aiomanager.multiprocessing.faces import QueueProxy, native_face
from aiomanager.multiprocessing.hosting import WORKSHOP, Entry, Home, Registry, Workshop
from aiomanager.multiprocessing.proxies import proxy_name
from aiomanager.multiprocessing.workers import Children
from aiomanager.objects import TYPES
from aiomanager.protocol.address import Address
from aiomanager.server.launcher import Launcher
from aiomanager.server.listener import Server as Listener
from aiomanager.server.process import keep_memory, private_directory

__all__ = ("Server",)

SWITCH: float = 0.0005
"""Seconds after which a thread that runs a program's code lets the loop go on."""


class _Stop(threading.Event):
    """The event that ends a server, as programs know it from the standard library."""

    def __init__(self, server: "Server") -> None:
        super().__init__()
        self._server = server

    def set(self) -> None:
        """End the server."""
        super().set()
        self._server.stop()


class _Listening:
    """What programs do with the listener of a standard library's server."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self.address = server.address

    def close(self) -> None:
        """Listen no more."""
        self._server.close()


class _Sockets(Forkable):
    """The server's descriptors: in a forked child, such as a worker of a pool, they lead nowhere.

    Else a client would not see that the server ended before all of its children have.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        watch_fork(self)

    def after_fork(self) -> None:
        """Let go of the descriptors without closing them: their objects believe them open."""
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in self._listener.descriptors():
            with contextlib.suppress(OSError):
                os.dup2(null, descriptor, inheritable=False)
        os.close(null)
        if threading.current_thread() is threading.main_thread():
            # The loop has it written into a socket that parent and child share.
            signal.set_wakeup_fd(-1)


class Server:
    """A server of a manager's registry, which listens from the moment it is made."""

    def __init__(
        self,
        registry: Registry,
        address: Any,
        authkey: bytes,
        serializer: str = "pickle",
        *,
        explicit_key: bool = True,
        allow_plaintext: bool = False,
        parent: int | None = None,
    ) -> None:
        """Listen on `address`, by default on a socket in a directory of its own.

        Raises:
            TypeError: the key is no bytes.
            ValueError, OSError: the address cannot be had.
        """
        if not isinstance(authkey, bytes):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"Authkey {authkey!r} is type {type(authkey)!s}, not bytes")
        self.registry = registry
        self.authkey: bytes = AuthenticationString(authkey)
        self.serializer = serializer
        self._directory = private_directory() if address is None else None
        where = parsed(f"{self._directory}/s" if address is None else address)
        if where.path.startswith("/") and not Path(where.path).parent.is_dir():
            raise FileNotFoundError(
                f"cannot listen on {where.path}: there is no directory {Path(where.path).parent}"
            )
        self._key = bytes(authkey)
        self._explicit = explicit_key
        self._loop = _new_loop()
        self._closed = False
        self._stopping = asyncio.Event()
        try:
            self._listener = self._loop.run_until_complete(self._listen(where, allow_plaintext))
        except BaseException:
            self._loop.close()
            self._remove_directory()
            raise
        bound = self._listener.address
        self.address = self._listener.bound_address() or shown(bound)
        self.stop_event = _Stop(self)
        self.listener = _Listening(self)
        self._channel = DropInChannel(
            Endpoint(bound, self._key if explicit_key else None, allow_pickle=True)
        )
        self._sockets = _Sockets(self._listener)
        core = self._listener.core
        self._launcher = core.store.launcher = Launcher(
            self._loop, Children(self._channel.endpoint), core.flush
        )
        self._add_workshop()
        if parent is not None:
            pidfd = os.pidfd_open(parent)
            self._loop.add_reader(pidfd, self._stopping.set)

    async def _listen(self, where: Address, allow_plaintext: bool) -> Listener:
        listener = Listener(types=TYPES, key=self._key, explicit_key=self._explicit)
        await listener.listen(where, allow_plaintext=allow_plaintext)
        return listener

    def _add_workshop(self) -> None:
        core = self._listener.core
        channel = self._channel
        home = Home(
            store=core.store,
            soon=self._loop.call_soon_threadsafe,
            flush=core.flush,
            decode=channel.opened,
            encode=channel.packed,
            native=self._native,
            adopt=self._adopt,
            face=proxy_name,
            stop=self.stop,
        )
        self._workshop = Workshop(self.registry, home)
        core.store.adopt(self._workshop, WORKSHOP).references = 1

    def _native(self, entry: Entry, given: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        face = native_face(entry.callable, entry.proxytype, entry.exposed, entry.method_to_typeid)
        return None if face is None else self._channel.make(face, given, named)

    def _adopt(self, queue: "Queue[Any]") -> Any:
        """Return the shared queue that does the work of a program's own from now on."""
        return adopt(queue, self._channel.make(QueueProxy, (queue.maxsize,), {}))

    def serve_forever(self) -> None:
        """Serve until `stop_event` is set, a client shuts the server down, or on Ctrl-C; then exit.

        Raises:
            SystemExit: always, with code 0, as the standard library's server does.
        """
        current_process()._manager_server = self  # type: ignore[attr-defined]  # pyright: ignore
        remember_channel(self._channel)
        sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH))
        with contextlib.suppress(KeyboardInterrupt, SystemExit):
            self._loop.run_until_complete(self._serve())
        sys.exit(0)

    async def _serve(self) -> None:
        await self._stopping.wait()
        self._closed = True
        await self._listener.close()
        self._launcher.close()
        self._workshop._close()  # pyright: ignore[reportPrivateUsage]
        self._remove_directory()

    def stop(self) -> None:
        """Have `serve_forever` return; called from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed already
            self._loop.call_soon_threadsafe(self._stopping.set)

    def close(self) -> None:
        """Listen no more, without having served."""
        if not self._closed and not self._loop.is_running():
            self._closed = True
            self._loop.run_until_complete(self._listener.close())
            self._workshop._close()  # pyright: ignore[reportPrivateUsage]
            self._remove_directory()

    def _remove_directory(self) -> None:
        if self._directory is not None and Path(self._directory).exists():
            shutil.rmtree(self._directory, ignore_errors=True)

    def __del__(self) -> None:
        if getattr(self, "_closed", True) is False and not self._loop.is_running():
            with contextlib.suppress(Exception):
                self.close()
                self._loop.close()


def _new_loop() -> asyncio.AbstractEventLoop:
    keep_memory()
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return cast("asyncio.AbstractEventLoop", uvloop.new_event_loop())
