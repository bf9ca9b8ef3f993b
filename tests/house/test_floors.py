"""The house: imports go down only, neighbours do not meet, and the outside stays outside.

Every import of every file counts, wherever it stands in it.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parent.parent.parent / "aiomanager"

FLOORS = {
    "errors": 0, "stored": 0, "deadlock": 0, "waiter": 0, "operation": 0, "proxy": 0,
    "protocol": 1, "objects": 1,
    "sessions": 2,
    "client": 3, "server": 3,
    "manager": 4, "sync": 4, "multiprocessing": 4, "cli": 4,
    "__init__": 5, "__main__": 5,
}  # fmt: skip
"""The floor of each room. The words on floor 0 are one room; the doors stand above the faces."""

KNOWN = {("server", "client"), ("cli", "sync"), ("cli", "__init__")}
"""Neighbours that do meet, and a face that goes through the door. There should be none."""

OUTSIDE = {
    "asyncio", "anyio", "trio", "uvloop", "socket", "ssl", "select", "selectors", "signal",
    "threading", "_thread", "concurrent", "multiprocessing", "subprocess",
}  # fmt: skip
"""What only floors 3 and 4 may touch."""
WORDS = {("errors", "threading")}
"""Where only the class of an error is taken from: users catch it."""
WORLD = {"time", "random", "secrets", "logging"}
"""What the floors below them have no business with either: time and chance come in by hand."""


class Import(NamedTuple):
    """One import: where it stands and what it names."""

    room: str
    where: str
    name: str

    @property
    def target(self) -> str | None:
        """The room of this package that is imported, if it is one."""
        parts = self.name.split(".")
        if parts[0] != "aiomanager":
            return None
        return parts[1] if len(parts) > 1 and parts[1] in FLOORS else "__init__"


def imports_of(path: Path, source: str) -> Iterator[Import]:
    """Find the imports in the source of a file, given its path within the package."""
    room = path.parts[0] if len(path.parts) > 1 else path.stem
    package = ["aiomanager", *path.parts[:-1]]
    for node in ast.walk(ast.parse(source)):
        where = f"{path}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(room, where, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package[: len(package) - node.level + 1]
                base = ".".join([*above, *filter(None, [base])])
            if base == "aiomanager":
                for alias in node.names:
                    yield Import(room, where, f"aiomanager.{alias.name}")
            else:
                yield Import(room, where, base)


def files() -> list[Path]:
    return sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def all_imports() -> list[Import]:
    return [
        one
        for path in files()
        for one in imports_of(path, (PACKAGE / path).read_text(encoding="utf-8"))
    ]


def climbs(one: Import) -> bool:
    """Tell whether an import goes up, or to a neighbour."""
    target = one.target
    if target is None or target == one.room:
        return False
    here, there = FLOORS[one.room], FLOORS[target]
    return there > here or (there == here and here != 0)


def strays(one: Import) -> bool:
    """Tell whether an import reaches for what its floor must not touch."""
    top = one.name.split(".")[0]
    if top == "msgpack":
        return not one.where.startswith(str(Path("protocol", "_msgpack.py")))
    if (one.room, one.name) in WORDS:
        return False
    return FLOORS[one.room] < 3 and top in OUTSIDE | WORLD


def test_every_room_has_a_floor() -> None:
    rooms = {path.parts[0].removesuffix(".py") for path in files()}
    assert rooms == set(FLOORS)


def test_imports_go_down_only() -> None:
    found = [one for one in all_imports() if climbs(one)]
    assert [one for one in found if (one.room, one.target) not in KNOWN] == []
    assert {(one.room, one.target) for one in found} == KNOWN, "what is no more need not be known"


def test_the_outside_stays_outside() -> None:
    assert [one for one in all_imports() if strays(one)] == []


def test_all_imports_were_seen() -> None:
    seen = all_imports()
    assert len(seen) > 200
    assert {"msgpack", "asyncio", "socket"} <= {one.name for one in seen}


@pytest.mark.parametrize(
    ("path", "source", "climbing", "straying"),
    [
        ("waiter.py", "from aiomanager.stored import Key", False, False),
        ("waiter.py", "import aiomanager.objects.dict", True, False),
        ("objects/dict.py", "from aiomanager.protocol.keys import KeyCodec", True, False),
        ("objects/dict.py", "def f():\n    from ..protocol import keys", True, False),
        ("objects/dict.py", "from .nested import Nested", False, False),
        ("objects/dict.py", "from aiomanager import protocol", True, False),
        ("objects/dict.py", "from aiomanager import connect", True, False),
        ("protocol/keys.py", "from ..errors import BadKey", False, False),
        ("sessions/store.py", "from aiomanager.objects import TYPES", False, False),
        ("sessions/store.py", "if TYPE_CHECKING:\n    import aiomanager.client", True, False),
        ("sessions/store.py", "def f():\n    import asyncio.events", False, True),
        ("sessions/store.py", "from time import monotonic", False, True),
        ("sessions/store.py", "import msgpack", False, True),
        ("client/_asyncio.py", "import msgpack", False, True),
        ("client/_asyncio.py", "import asyncio, socket, time", False, False),
        ("protocol/_msgpack.py", "import msgpack", False, False),
        ("server/listener.py", "from aiomanager.manager import Manager", True, False),
        ("__main__.py", "from aiomanager.cli import main", False, False),
    ],
)
def test_a_breach_would_be_seen(path: str, source: str, climbing: bool, straying: bool) -> None:
    found = list(imports_of(Path(path), source))
    assert any(map(climbs, found)) == climbing
    assert any(map(strays, found)) == straying
