"""The tests of CPython that do not hold here, each with its reason.

The README's table of differences says the same to users: each line is an improvement. A test that
is listed and passes is an error of the run.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Difference:
    """Why a test cannot hold, and under which start methods."""

    reason: str
    start_methods: frozenset[str] = frozenset({"fork", "spawn", "forkserver"})


# The key is "class.test".
DIFFERENCES: dict[str, Difference] = {}
