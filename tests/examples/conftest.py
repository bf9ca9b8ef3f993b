"""What tests of examples share."""

import os
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def heed_sigint(
    request: pytest.FixtureRequest, tmp_path_factory: Any, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], list[bool]]:
    """Return what tells which workers of the test's programs heeded Ctrl-C when they began."""
    noted: Path = tmp_path_factory.mktemp("noted")
    rooms: Path = tmp_path_factory.mktemp("rooms")
    # Each interpreter imports it before anything else.
    (rooms / "sitecustomize.py").write_text(
        textwrap.dedent(
            f"""\
            import os, signal, sys

            if any("spawn_main" in argument for argument in sys.orig_argv):
                heeds = signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
                os.mkdir(f"{noted}/{{os.getpid()}} {{heeds}}")
            """
        )
    )
    environment: dict[str, str] = request.module.ENVIRONMENT
    path = os.pathsep.join([str(rooms), environment["PYTHONPATH"]])
    monkeypatch.setitem(environment, "PYTHONPATH", path)
    return lambda: [each.name.endswith("True") for each in noted.iterdir()]
