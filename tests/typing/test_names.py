"""The public names of the package: all are there, and type checkers know the same ones."""

import ast
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import aiomanager


def declared() -> set[str]:
    """Return the names that the package declares for type checkers."""
    tree = ast.parse(Path(aiomanager.__file__).read_text())
    (block,) = [
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    return {alias.name for node in block.body for alias in getattr(node, "names", ())}


def test_every_declared_name_is_there() -> None:
    names = {name for name in dir(aiomanager) if not name.startswith("_")}
    modules = {name for name in names if isinstance(getattr(aiomanager, name), ModuleType)}
    assert names - modules - {"TYPE_CHECKING", "Any"} == declared()


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Mangler'"):
        _ = aiomanager.Mangler


def test_what_is_imported() -> None:
    program = (
        "import sys, aiomanager; assert 'aiomanager.manager' not in sys.modules;"
        "import aiomanager.sync; slow = {'asyncio', 'anyio', 'trio', 'inspect', 'uvloop'};"
        "sys.exit(', '.join(slow & sys.modules.keys()) or None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"a blocking client loads {done.stderr}"
