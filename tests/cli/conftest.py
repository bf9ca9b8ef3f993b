"""What the tests of the command start from."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .helpers import Terminal


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    # Not tmp_path: the path of a socket must be short.
    directory = Path(tempfile.mkdtemp(prefix="cli-"))
    terminal = Terminal(directory)
    yield terminal
    terminal.close()
    shutil.rmtree(directory)
