"""Server processes: run one, or start a private one that ends with this process."""

import asyncio
import contextlib
import importlib
import json
import logging
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from threading import Thread
from typing import Any, Final, cast

from aiomanager.objects import TYPES
from aiomanager.operation import SharedObject
from aiomanager.protocol.address import Address, parse_address
from aiomanager.server.launcher import Interpreters, Launcher
from aiomanager.server.listener import Server

__all__ = ("PrivateServer", "load_types", "main", "run_server")

log = logging.getLogger("aiomanager.server")

STUCK_SECONDS: Final = 2.0
"""How long a private server may take to end when its parent has."""
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEPT = 1 << 28
"""Bytes of freed memory that a server keeps."""
_FILES = 1 << 16
"""Open files that are enough: some programs that workers start close all that there may be."""

_BOOT = (
    "import sys, json; c = json.loads(sys.stdin.readline()); sys.path[:] = c['path']; "
    "from aiomanager.server.process import main; main(c)"
)


_loading: list[str] = []
"""The types whose modules this process imports at the moment, as a server."""


def load_types(names: Iterable[str]) -> list[type[SharedObject]]:
    """Import shared types by "module" (all that it defines) or "module:Class".

    Raises:
        ValueError: a name that leads to no shared type.
    """
    found: list[type[SharedObject]] = []
    for name in names:
        module_name, _, wanted = name.partition(":")
        _loading.append(name)
        try:
            module = importlib.import_module(module_name)
        finally:
            _loading.pop()
        members = [getattr(module, wanted, None)] if wanted else list(vars(module).values())
        kinds = [
            member
            for member in members
            if isinstance(member, type)
            and issubclass(member, SharedObject)
            and member.operations
            and not getattr(member, "_is_proxy", False)
            and (wanted or member.__module__ == module_name)
        ]
        if not kinds:
            raise ValueError(f"{name!r} holds no shared type: a class derived from SharedObject")
        found.extend(kinds)
    return found


async def serve(
    address: Address,
    *,
    key: bytes | None,
    explicit_key: bool,
    types: Sequence[type[SharedObject]],
    allow_plaintext: bool = False,
    parent: int | None = None,
    on_ready: Callable[[Address], None],
) -> None:
    """Serve until SIGTERM or SIGINT, or until the process `parent` ends.

    Clients may have worker processes started if they are the program that started the server, or
    reach it through a unix socket.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    server = Server(types=(*TYPES, *types), key=key, explicit_key=explicit_key)
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    if parent is None:
        loop.add_signal_handler(signal.SIGINT, stop.set)
    else:
        pidfd = os.pidfd_open(parent)
        loop.add_reader(pidfd, stop.set)
        if os.getppid() != parent:  # it ended before it could be watched
            return
        Thread(target=_end_if_stuck, args=(pidfd,), name="watches the parent", daemon=True).start()
    bound = await server.listen(address, allow_plaintext=allow_plaintext)
    core = server.core
    if parent is not None or bound.scheme == "unix":
        start = Interpreters(bound, key if explicit_key or bound.scheme != "unix" else None, types)
        launcher = core.store.launcher = Launcher(loop, start, core.flush)
    else:
        launcher = None
    on_ready(bound)
    await stop.wait()
    await server.close()
    if launcher is not None:
        launcher.close()


def _end_if_stuck(parent: int) -> None:
    """End this process if it is still there a while after its parent, whose pidfd this is.

    An operation of a user's type may never end, and then the loop sees nothing.
    """
    poll = select.poll()
    poll.register(parent, select.POLLIN)
    poll.poll()
    time.sleep(STUCK_SECONDS)
    os._exit(1)


def private_directory() -> str:
    """Make a directory for a socket that only this user can reach."""
    # Short whatever TMPDIR is: the system allows 107 bytes for a socket's path.
    base = tempfile.gettempdir()
    return tempfile.mkdtemp(prefix="aiomanager-", dir="/tmp" if len(base) > 60 else base)


def keep_memory() -> None:
    """Have the C library keep memory that large values used: fresh pages cost more than copies."""
    try:
        import ctypes

        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, _KEPT)
    except (OSError, AttributeError):
        pass  # another C library: only slower


def allow_files() -> None:
    """Allow this process as many open files as it may have: each connection is one.

    Sessions of a shell or a service begin with 1024, whatever the system could do.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def run_server(main: Any) -> None:
    """Run a server's coroutine on uvloop, where there is one."""
    allow_files()
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)


def main(config: dict[str, Any]) -> None:
    """Be a private server: serve as `config` says, tell the URL on stdout, end with the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_memory()
    logging.basicConfig(format="%(name)s: %(message)s", level=logging.WARNING)
    address = parse_address(config["address"])
    listening = False

    def tell(line: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        # The parent may end without reading any more. What workers print is for its own output.
        output = config["output"]
        if output is None:
            output = os.open(os.devnull, os.O_RDWR)
        os.dup2(output, 1)
        os.close(output)

    def ready(bound: Address) -> None:
        nonlocal listening
        listening = True
        tell(bound.url)

    key = config["key"]
    try:
        run_server(
            serve(
                address,
                key=bytes.fromhex(key) if key is not None else None,
                explicit_key=config["explicit_key"],
                types=load_types(config["types"]),
                allow_plaintext=config["allow_plaintext"],
                parent=config["parent"],
                on_ready=ready,
            )
        )
    except (OSError, ValueError) as error:
        if listening:
            raise
        # The parent raises it.
        tell(json.dumps([isinstance(error, ValueError), str(error)]))
        sys.exit(1)
    finally:
        if address.scheme == "unix" and config["own_directory"]:
            with contextlib.suppress(OSError):
                Path(address.path).parent.rmdir()


class PrivateServer:
    """A server in a process of its own, a fresh interpreter, that ends with this process."""

    def __init__(
        self,
        address: Address | None = None,
        *,
        key: bytes | None = None,
        explicit_key: bool = False,
        types: Sequence[type[SharedObject] | str] = (),
        allow_plaintext: bool = False,
    ) -> None:
        """Start it, and return when it listens.

        Raises:
            ValueError: the address or the key is not usable.
            RuntimeError: it could not start.
        """
        if _loading:
            raise RuntimeError(
                f"a manager was to be started while a server imports {_loading[-1]!r}. Servers "
                "would start servers without end: make the manager in a function, or in another "
                "module than the shared type"
            )
        if not sys.executable:
            raise RuntimeError("cannot start a server: this program does not know its interpreter")
        names = [_type_name(kind) for kind in types]
        self._directory: Path | None = None
        """The directory of the socket, when it was made for it."""
        if address is None:
            self._directory = Path(private_directory())
            address = Address("unix", path=f"{self._directory}/s")
        config = {
            "address": address.url,
            "allow_plaintext": allow_plaintext,
            "explicit_key": explicit_key,
            "key": None if key is None else key.hex(),
            "own_directory": self._directory is not None,
            "parent": os.getpid(),
            "path": sys.path,
            "types": names,
        }
        self._owner = os.getpid()
        try:
            self.address = self._start(config)
        except BaseException:
            self._remove_directory()
            raise

    def _start(self, config: dict[str, Any]) -> Address:
        """Start the process; return where it listens."""
        try:
            config["output"] = output = os.dup(1)
        except OSError:
            config["output"] = output = None  # the program has closed it
        # The key goes through the pipe: arguments and environment can be read by others.
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BOOT],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None,
                pass_fds=() if output is None else (output,),
                process_group=0,  # Ctrl-C in the terminal is for the program, not for its server
            )
        finally:
            if output is not None:
                os.close(output)
        stdin, stdout = cast("Any", self._process.stdin), cast("Any", self._process.stdout)
        try:
            with contextlib.suppress(BrokenPipeError):
                stdin.write(json.dumps(config).encode() + b"\n")
                stdin.close()
            answer = stdout.readline().decode().strip()
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            stdout.close()
            with contextlib.suppress(BrokenPipeError):
                stdin.close()
        if answer.startswith("["):
            self._process.wait()
            unusable, message = json.loads(answer)
            if unusable:
                raise ValueError(message)
            raise RuntimeError(f"the server cannot listen on {config['address']}: {message}")
        if not answer:
            code = self._process.wait()
            raise RuntimeError(
                f"the server process ended with code {code} before it listened on "
                f"{config['address']}; its error output says why"
            )
        return parse_address(answer)

    def _remove_directory(self) -> None:
        """Remove what the server removes itself, unless it was killed."""
        if self._directory is not None:
            with contextlib.suppress(OSError):
                (self._directory / "s").unlink(missing_ok=True)
                self._directory.rmdir()

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process has not ended yet."""
        return self._process.poll() is None

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the process has ended, at most `timeout` seconds; tell whether it has."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self, timeout: float = 5.0) -> None:
        """End the server and wait until its process is gone; harmless when it is."""
        if os.getpid() != self._owner:
            return  # a forked child holds a copy: the server is its parent's
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._remove_directory()

    def __del__(self) -> None:
        # Dropped without stop(), or in a forked child: no warning, but no zombie either.
        process = getattr(self, "_process", None)
        if process is not None:
            if os.getpid() == self._owner and process.poll() is None:
                process.terminate()
            process.returncode = process.returncode if process.returncode is not None else 0


def _type_name(kind: type[SharedObject] | str) -> str:
    if isinstance(kind, str):
        return kind
    if kind.__module__ == "__main__":
        raise ValueError(
            f"{kind.__qualname__} is defined in the main program, which the server does not "
            "import; move it to a module of its own"
        )
    return f"{kind.__module__}:{kind.__qualname__}"
