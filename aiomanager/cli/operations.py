"""The command `aiomanager operations`: the table of all operations, from their declarations.

`protocol/operations.json` is its output: what a client in another language needs to know. The
order is that of the declarations, so that two runs print the same.
"""

import argparse
import json
from collections.abc import Iterable
from inspect import cleandoc
from typing import Any, Final

from aiomanager.cli.serve import add_types_argument, types_of
from aiomanager.objects import TYPES
from aiomanager.operation import REQUIRED, Operation, Parameter, SharedObject
from aiomanager.sessions.store import MANAGER, Manager

__all__ = ("DESCRIPTION", "add_arguments", "execute", "table")

DESCRIPTION: Final = """\
Print the types that a server shares and their operations, as JSON: the file
protocol/operations.json, which clients in other languages are made from."""

_NOTHING: Final = object()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    add_types_argument(parser)


def execute(options: argparse.Namespace) -> int:
    """Print the table."""
    print(table(types_of(options)))
    return 0


def table(types: Iterable[type[SharedObject]] = ()) -> str:
    """Return the table of the built-in types and of `types` as JSON text, without a last newline.

    A parameter without `default` and not `required` has one that means "not given".
    """
    every: list[type[SharedObject]] = [Manager, *TYPES, *types]
    kinds = [_type(kind) for kind in every]
    return json.dumps({"types": kinds}, indent=2, ensure_ascii=False)


def _type(kind: type[SharedObject]) -> dict[str, Any]:
    found: dict[str, Any] = {"name": kind.type_name, "doc": cleandoc(kind.__doc__ or "")}
    if kind is Manager:
        found["object_id"] = MANAGER  # always there: nobody makes it
    else:
        found["parameters"] = [_parameter(one) for one in kind.maker.parameters]
    found["operations"] = [_operation(one) for one in kind.operations.values()]
    return found


def _operation(operation: Operation[..., Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": operation.name,
        "kind": _kind(operation),
        "parameters": [_parameter(one) for one in operation.parameters],
        "result": str(operation.signature.result),
    }
    if operation.client_side is not None:
        found["fallback"] = True
    found["doc"] = cleandoc(operation.__doc__ or "")
    return found


def _kind(operation: Operation[..., Any]) -> str:
    if operation.waits:
        return "acquires" if operation.owned else "consumes" if operation.consumes else "waits"
    if operation.owned:
        return "owned"
    return "writes" if operation.writes else "reads"


def _parameter(parameter: Parameter) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": parameter.name,
        "shape": str(parameter.shape),
        "required": parameter.default is REQUIRED,
    }
    default = _expressible(parameter.default)
    if default is not _NOTHING:
        found["default"] = default
    return found


def _expressible(value: object) -> object:
    """Return a default as JSON has it, or _NOTHING: a default that stays with the client, say."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) in (tuple, list):
        items = [_expressible(item) for item in value]  # type: ignore[attr-defined]  # pyright: ignore
        return items if _NOTHING not in items else _NOTHING
    return _NOTHING
