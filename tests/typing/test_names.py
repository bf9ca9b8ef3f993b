"""The public names of the package: all are there, and type checkers know the same ones."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import aiomanager
from aiomanager.operation import Awaited


def declared() -> set[str]:
    """Return the names that the package declares for type checkers."""
    tree = ast.parse(Path(aiomanager.__file__).read_text())
    (block,) = [
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    return {alias.name for node in block.body for alias in getattr(node, "names", ())}


MODULES = {"multiprocessing", "sync"}


def test_every_declared_name_is_there() -> None:
    assert set(aiomanager.__all__) == declared() - MODULES
    names = {name for name in dir(aiomanager) if not name.startswith("__")}
    assert names == declared()
    assert {name for name in names if isinstance(getattr(aiomanager, name), ModuleType)} == MODULES


def test_a_star_import_brings_the_names_and_nothing_else() -> None:
    before: dict[str, object] = {"multiprocessing": "the standard library's"}
    namespace = dict(before)
    exec("from aiomanager import *", namespace)
    assert namespace.keys() - {"__builtins__"} == {*aiomanager.__all__, "multiprocessing"}
    assert namespace["multiprocessing"] == before["multiprocessing"]


@pytest.mark.parametrize("name", ["sync.Manager", "multiprocessing.Manager", "sync.Empty"])
def test_the_modules_are_loaded_when_they_are_asked_for(name: str) -> None:
    program = (
        "import sys, aiomanager; loaded = {'aiomanager.sync', 'aiomanager.multiprocessing'};"
        f"assert not loaded & sys.modules.keys(); aiomanager.{name};"
        "assert len(loaded & sys.modules.keys()) == 1"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_blocking_code_finds_all_that_is_not_async() -> None:
    blocking = aiomanager.sync
    common = set(aiomanager.__all__) - {"Manager", "connect"}
    asynchronous = {
        name
        for name in common
        if isinstance(kind := getattr(aiomanager, name), type) and issubclass(kind, Awaited)
    }
    assert "DictProxy" in asynchronous
    assert set(blocking.__all__) == common - asynchronous | {"Manager", "connect", "operations"}
    for name in common - asynchronous:
        assert getattr(blocking, name) is getattr(aiomanager, name)
    for name in asynchronous - {"AsyncProxy"}:
        assert f"Sync{name}" in blocking.__all__


def test_methods_show_the_parameters_that_they_take() -> None:
    seen = 0
    for proxy in (getattr(aiomanager, name) for name in aiomanager.__all__):
        if not isinstance(proxy, type) or not proxy.__name__.endswith(("Proxy", "View")):
            continue
        for name, method in inspect.getmembers(proxy, inspect.isfunction):
            if not name.startswith("_"):
                shown = str(inspect.signature(method))
                assert not re.search(r"ABSENT|\*given|Waiter|caller|Generator", shown), method
                seen += 1
    assert seen > 500


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
