"""The public names of the package: all are there, and type checkers know the same ones."""

import ast
import subprocess
import sys
from pathlib import Path

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
    assert declared() == set(aiomanager._HOMES)
    assert declared() <= set(dir(aiomanager))
    for name in declared():
        assert getattr(aiomanager, name) is not None


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Mangler'"):
        _ = aiomanager.Mangler


def test_what_is_imported() -> None:
    program = (
        "import sys, aiomanager; assert 'aiomanager.manager' not in sys.modules;"
        "import aiomanager.sync; slow = {'asyncio', 'anyio', 'trio', 'inspect', 'uvloop'};"
        "sys.exit(', '.join(slow & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"a blocking client loads {done.stderr}"
