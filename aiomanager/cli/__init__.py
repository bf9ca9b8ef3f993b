"""The command `aiomanager`: it reads the command line and hands over to one file per subcommand.

Nothing but argparse is imported before a subcommand is chosen, so that help is quick.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, Final, cast

__all__ = ("UserError", "main")

# Each lives in the file of its name, which has add_arguments(parser) and execute(options).
_COMMANDS: Final = {
    "serve": "run a server here, until SIGTERM or Ctrl-C",
    "run": "run a command with a server of its own",
    "bench": "measure the speed against the stdlib's Manager",
    "operations": "print all operations of the shared types as JSON",
}


class UserError(Exception):
    """What the user can put right: the message says what happened, why, and what to do now."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code
        """The command's exit code: 2 when it was called wrongly."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command line; return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    chosen = next((word for word in given if not word.startswith("-")), None)
    command: list[str] | None = None
    if chosen == "run" and "--" in given:
        # What follows is not ours to read; argparse's own "--" differs between its versions.
        end = given.index("--")
        given, command = given[:end], given[end + 1 :]
    options = _parser(chosen).parse_args(given)
    if command is not None:
        if options.command:  # it began before: the "--" is its own
            command = [*options.command, "--", *command]
        options.command = command
    try:
        code = cast("int", options.execute(options))
        sys.stdout.flush()
        return code
    except UserError as error:
        print(f"aiomanager {chosen}: {error}", file=sys.stderr)
        return error.code
    except BrokenPipeError:
        # Whoever read our output has left; nothing may be flushed to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="aiomanager",
        description="Shared Python objects for many processes.",
        epilog="'aiomanager COMMAND --help' says more about a command.",
    )
    parser.add_argument("--version", action="version", version=f"aiomanager {_version()}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, summary in _COMMANDS.items():
        if name != chosen:
            commands.add_parser(name, help=summary)
            continue
        module: Any = importlib.import_module(f"aiomanager.cli.{name}")
        subparser = commands.add_parser(
            name,
            help=summary,
            description=module.DESCRIPTION,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(subparser)
        subparser.set_defaults(execute=module.execute)
    return parser


def _version() -> str:
    from aiomanager import __version__

    return __version__
