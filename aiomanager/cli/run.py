"""The command `aiomanager run`: a command with a server of its own, which ends with it.

The command stays in the process group of `run`, so that the terminal's Ctrl-C and Ctrl-Z reach
it as if it had been called itself. Only what was sent to `run` alone is passed on.
"""

import argparse
import os
import signal
import sys
from typing import Any, Final

from aiomanager.cli import UserError
from aiomanager.cli.serve import add_types_argument, address_of, environment_key, types_of

__all__ = ("DESCRIPTION", "add_arguments", "execute")

DESCRIPTION: Final = """\
Start a private server, run COMMAND with AIOMANAGER_URL (and AIOMANAGER_AUTHKEY,
when a key is in use) in its environment, and exit with its exit code.

    aiomanager run -- uvicorn app:app --workers 4

In the command's processes aiomanager.connect() joins the server, which ends with
the command. Signals are passed on to the command."""

NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
KILLED: Final = 128
"""Added to the number of the signal that a command died of, as shells do."""

_PASSED_ON: Final = (
    "SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGWINCH",
    "SIGCONT", "SIGTSTP", "SIGTTIN", "SIGTTOU",
)  # fmt: skip
_STOPS: Final = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    add_types_argument(parser)
    parser.add_argument(
        "--url",
        metavar="URL",
        help="where the server listens, such as tcp://127.0.0.1:0, for which a key is made "
        "unless AIOMANAGER_AUTHKEY gives one; default: a new unix socket",
    )
    parser.add_argument(
        "--allow-plaintext",
        action="store_true",
        help="listen on TCP beyond this machine, though what is sent is not encrypted",
    )
    parser.add_argument(
        "command",
        nargs=argparse.REMAINDER,
        metavar="-- COMMAND ...",
        help="the command and its arguments",
    )


def execute(options: argparse.Namespace) -> int:
    """Run the command with a server; return its exit code as shells have it."""
    command: list[str] = options.command
    if not command:
        raise UserError("there is no command to run: write it behind --, as in\n"
                        "    aiomanager run -- python app.py", 2)  # fmt: skip
    key = environment_key()
    explicit = key is not None
    address = None if options.url is None else address_of(options.url)
    if address is not None and address.scheme != "unix" and key is None:
        from secrets import token_hex

        key, explicit = token_hex(32).encode(), True
    types_of(options)  # its errors are told better here
    from aiomanager.server.process import PrivateServer

    try:
        server = PrivateServer(
            address,
            key=key,
            explicit_key=explicit,
            types=options.types,
            allow_plaintext=options.allow_plaintext,
        )
    except ValueError as error:
        raise UserError(str(error), 2) from error
    except RuntimeError as error:
        raise UserError(str(error)) from error
    # From here on signals are the command's. One that came before ended us, and the server with us.
    watched = _watched()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    try:
        environment = {**os.environ, "AIOMANAGER_URL": server.address.url}
        if explicit and key is not None:
            environment["AIOMANAGER_AUTHKEY"] = os.fsdecode(key)
        child = _start(command, environment, mask)
        return _supervise(child, server, watched)
    finally:
        server.stop()


def _watched() -> set[signal.Signals]:
    """Return the signals to wait for; those that are ignored, as by nohup, stay so."""
    # Ignored, ended children would vanish without an exit code.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    watched = {getattr(signal, name) for name in _PASSED_ON}
    return {signal.SIGCHLD, *(one for one in watched if signal.getsignal(one) != signal.SIG_IGN)}


def _start(command: list[str], environment: dict[str, str], mask: set[Any]) -> int:
    """Start the command and return its process id; raise UserError."""
    # What Python ignores, other programs expect to end them.
    restored = [signal.SIGPIPE, signal.SIGXFSZ]
    try:
        return os.posix_spawnp(
            command[0], command, environment, setsigmask=mask, setsigdef=restored
        )
    except FileNotFoundError as error:
        from shutil import which

        if which(command[0]) is not None:
            raise UserError(
                f"cannot run {command[0]!r}: the interpreter that its first line names is missing",
                NOT_FOUND,
            ) from error
        raise UserError(
            f"there is no command {command[0]!r}"
            + ("" if "/" in command[0] else " on PATH")
            + "; check its spelling, or install it",
            NOT_FOUND,
        ) from error
    except OSError as error:
        advice = ""
        if isinstance(error, PermissionError):
            advice = f"; make it executable: chmod +x {command[0]}, or call its interpreter"
        raise UserError(
            f"cannot run {command[0]!r}: {error.strerror}{advice}", NOT_EXECUTABLE
        ) from error


def _supervise(child: int, server: Any, watched: set[signal.Signals]) -> int:
    """Pass signals on until the command has ended; return its exit code."""
    while True:
        received: Any = signal.sigwaitinfo(watched)
        number = signal.Signals(received.si_signo)
        if number == signal.SIGCHLD:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else KILLED - code
            server = _check(server)
            continue
        # A positive code means the kernel: the terminal has sent it to the whole group.
        if received.si_code <= 0 or os.getpgid(child) != os.getpgrp():
            os.kill(child, number)
        if number == signal.SIGTSTP or (number in _STOPS and received.si_code > 0):
            _stop_by(number)


def _check(server: Any) -> Any:
    """Say once that the server has ended before its time."""
    if server is None or server.running:
        return server
    print(
        "aiomanager run: the server has ended; its error output says why, and the command's "
        "calls to it fail",
        file=sys.stderr,
    )
    return None


def _stop_by(number: signal.Signals) -> None:
    """Do what the signal does by default: stop, unless nobody could continue us."""
    os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    signal.pthread_sigmask(signal.SIG_BLOCK, {number})
