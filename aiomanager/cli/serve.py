"""The command `aiomanager serve`: a server in this process, until it is told to end."""

import argparse
import errno
import importlib
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from aiomanager.cli import UserError

if TYPE_CHECKING:
    from aiomanager.operation import SharedObject
    from aiomanager.protocol.address import Address

__all__ = (
    "DESCRIPTION",
    "KEY_ADVICE",
    "add_arguments",
    "add_types_argument",
    "address_of",
    "environment_key",
    "execute",
    "types_of",
)

DESCRIPTION: Final = """\
Run a server in this process, until SIGTERM or Ctrl-C. One line on standard
output, its URL, says that it is ready.

On a unix socket, processes of the same user need no key. With a key, which
AIOMANAGER_AUTHKEY or --authkey-file gives, everybody must prove to know it."""

KEY_ADVICE: Final = (
    "make one with: export AIOMANAGER_AUTHKEY="
    "\"$(python3 -c 'import secrets; print(secrets.token_hex(32))')\""
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument(
        "url",
        nargs="?",
        metavar="URL",
        help="where to listen: unix:///path or tcp://host:port (port 0: any that is free); "
        "default: the socket aiomanager/default.sock in $XDG_RUNTIME_DIR, or in a directory of "
        "your own among the temporary files",
    )
    add_types_argument(parser)
    parser.add_argument(
        "--authkey-file",
        type=Path,
        metavar="FILE",
        help="take the key from this file (a last line break is no part of a key that is text)",
    )
    parser.add_argument(
        "--allow-plaintext",
        action="store_true",
        help="listen on TCP beyond this machine, though what is sent is not encrypted",
    )


def add_types_argument(parser: argparse.ArgumentParser) -> None:
    """Declare the option that several commands have."""
    parser.add_argument(
        "--types",
        nargs="+",
        action="extend",
        default=[],
        metavar="MODULE[:Class]",
        help="your own shared types: all that a module defines, or one of its classes",
    )


def execute(options: argparse.Namespace) -> int:
    """Serve; return 0 when the server was asked to end."""
    from aiomanager.server.process import run_server, serve

    key = _file_key(options.authkey_file) if options.authkey_file else environment_key()
    address = _default_address() if options.url is None else address_of(options.url)
    if address.scheme == "tcp" and key is None:
        raise UserError(
            f"a server on {address.url} needs a key, since any user of the machine or network "
            f"could connect; {KEY_ADVICE}, or use --authkey-file, or a unix socket",
            2,
        )
    types = types_of(options)
    _log_to_stderr()
    try:
        run_server(
            serve(
                address,
                key=key,
                explicit_key=key is not None,
                types=types,
                allow_plaintext=options.allow_plaintext,
                on_ready=lambda bound: _say_ready(bound, key is not None),
            )
        )
    except ValueError as error:
        raise UserError(str(error), 2) from error
    except OSError as error:
        raise UserError(_why_not(address, error)) from error
    return 0


def _say_ready(bound: "Address", keyed: bool) -> None:
    print(bound.url, flush=True)
    setting = f"AIOMANAGER_URL={bound.url}"
    if keyed:
        setting += " and the same AIOMANAGER_AUTHKEY"
    print(
        f"aiomanager: ready. Programs with {setting} in their environment join by "
        "aiomanager.connect(); Ctrl-C ends the server",
        file=sys.stderr,
        flush=True,
    )


def _why_not(address: "Address", error: OSError) -> str:
    url = address.url
    if error.errno == errno.EADDRINUSE:
        return f"something listens on {url} already: use that server, end it, or choose another URL"
    if isinstance(error, FileExistsError):
        file = error.filename or address.path
        return f"cannot listen on {url}: {file} is a file of another kind; choose another path"
    reason = error.strerror or str(error)
    if isinstance(error, PermissionError):
        return f"cannot listen on {url} ({reason}): choose an address that is yours to use"
    return f"cannot listen on {url}: {reason}"


def _log_to_stderr() -> None:
    import logging

    logging.basicConfig(format="%(name)s: %(message)s", level=logging.WARNING)


# What the user said


def address_of(url: str) -> "Address":
    """Return the address of a URL; raise UserError."""
    from aiomanager.protocol.address import parse_address

    try:
        return parse_address(url)
    except ValueError as error:
        raise UserError(str(error), 2) from error


def types_of(options: argparse.Namespace) -> "list[type[SharedObject]]":
    """Import the types that were asked for; raise UserError."""
    names = cast("list[str]", options.types)
    if not names:
        return []
    from aiomanager.server.process import load_types

    # As python -m has it: an installed command has its own directory there.
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    for name in names:
        module = name.partition(":")[0]
        try:
            importlib.import_module(module)
        except Exception as error:
            raise UserError(f"--types {name}: {_why_not_imported(module, error)}", 2) from error
    try:
        return load_types(names)
    except ValueError as error:
        raise UserError(f"--types: {error}", 2) from error


def _why_not_imported(module: str, error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
        return (
            f"there is no module {error.name!r} in this directory or on PYTHONPATH; write it "
            "as for import, package.module"
        )
    trace: Any = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = ""
    if trace is not None:
        where = f" ({trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno})"
    return f"importing it failed: {type(error).__name__}: {error}{where}"


def environment_key() -> bytes | None:
    """Return the key in AIOMANAGER_AUTHKEY, if there is one; raise UserError."""
    text = os.environ.get("AIOMANAGER_AUTHKEY")
    return _checked_key(os.fsencode(text), "AIOMANAGER_AUTHKEY") if text else None


def _file_key(path: Path) -> bytes:
    try:
        key = path.read_bytes()
        mode = path.stat()
    except OSError as error:
        raise UserError(f"cannot read the key in {path}: {error.strerror}", 2) from error
    if mode.st_uid == os.geteuid() and mode.st_mode & stat.S_IROTH:
        print(
            f"aiomanager serve: other users can read the key in {path}; run: chmod 600 {path}",
            file=sys.stderr,
        )
    text = key.rstrip(b"\r\n")
    if text.isascii() and text.decode().isprintable():
        key = text
    return _checked_key(key, f"the key in {path}")


def _checked_key(key: bytes, what: str) -> bytes:
    from aiomanager.client._channel import check_key_length

    try:
        check_key_length(key)
    except ValueError:
        raise UserError(
            f"{what} has {len(key)} bytes and can be guessed; use at least 16 random ones: "
            f"{KEY_ADVICE}",
            2,
        ) from None
    return key


# Where to listen when nothing was said


def _default_address() -> "Address":
    import tempfile

    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/") and Path(runtime).is_dir():
        directory = Path(runtime, "aiomanager")
    else:
        directory = Path(tempfile.gettempdir(), f"aiomanager-{os.geteuid()}")
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        found = directory.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise UserError(
                f"{directory} belongs to somebody else, who could take the server's place; name "
                "a socket in a directory of your own: aiomanager serve unix:///path"
            )
        if stat.S_IMODE(found.st_mode) & 0o077:
            directory.chmod(0o700)
    except OSError as error:
        raise UserError(
            f"cannot use {directory} for the server's socket ({error.strerror}); name another "
            "one: aiomanager serve unix:///path"
        ) from error
    return address_of(str(directory / "default.sock"))
