"""What the tests of the drop-in share: scripts in processes of their own."""

import os
from pathlib import Path

import aiomanager

METHODS = ("fork", "spawn", "forkserver")
SECONDS = 30.0
ROOT = Path(aiomanager.__file__).parent.parent


def environment() -> dict[str, str]:
    """Return an environment in which a script finds aiomanager."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}
