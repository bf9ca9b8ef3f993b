"""The command `aiomanager`: reads the command line and hands over to one file per subcommand.

Nothing but argparse is imported before a subcommand is chosen.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

__all__ = ("UserError", "main")

# Each lives in the file of its name, with add_arguments(parser) and execute(options).
_COMMANDS: Final = {
    "serve": "run a server here, until SIGTERM or Ctrl-C",
    "run": "run a command with a server of its own",
    "bench": "measure the speed against the stdlib's Manager",
    "operations": "print the table of all operations as JSON",
}


class UserError(Exception):
    """What the user can change: the message says what happened, why, and what to do now."""


class _Parser(argparse.ArgumentParser):
    """Loads a subcommand's options when it is chosen."""

    command: str | None = None

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]  # pyright: ignore
        if self.command is not None:
            module = importlib.import_module(f"aiomanager.cli.{self.command}")
            module.add_arguments(self)
            self.set_defaults(execute=module.execute)
            self.command = None
        return super().parse_known_args(args, namespace)  # pyright: ignore
