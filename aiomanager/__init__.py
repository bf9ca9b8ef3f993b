"""Shared Python objects for many processes: the async names, loaded when they are first used.

`aiomanager.sync` has the same names for blocking code, `aiomanager.multiprocessing` those of the
standard library.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiomanager.errors import ManagerError as ManagerError
    from aiomanager.manager import Manager as Manager
    from aiomanager.manager import connect as connect
    from aiomanager.stored import MISSING as MISSING

# Blocking clients must not load asyncio, so that nothing is imported before it is asked for.
_HOMES = {
    "Manager": "aiomanager.manager",
    "connect": "aiomanager.manager",
    "MISSING": "aiomanager.stored",
    "ManagerError": "aiomanager.errors",
}

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value
