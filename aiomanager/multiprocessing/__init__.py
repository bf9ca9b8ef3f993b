"""The standard library's `multiprocessing`, whose `Manager` and `managers` are aiomanager's.

    import aiomanager.multiprocessing as multiprocessing

Everything else (Process, Pool, Queue, ...) is the standard library's own.
"""

import importlib
import multiprocessing as _standard
from multiprocessing import *  # noqa: F403
from multiprocessing import process as process
from multiprocessing import reduction as reduction
from typing import TYPE_CHECKING, Any

from aiomanager.multiprocessing import context as context
from aiomanager.multiprocessing.context import Manager as Manager  # type: ignore[assignment]
from aiomanager.multiprocessing.context import get_context as get_context  # type: ignore[assignment]

if TYPE_CHECKING:
    from multiprocessing import connection as connection
    from multiprocessing import dummy as dummy
    from multiprocessing import pool as pool
    from multiprocessing import queues as queues
    from multiprocessing import shared_memory as shared_memory
    from multiprocessing import sharedctypes as sharedctypes
    from multiprocessing import synchronize as synchronize
    from multiprocessing import util as util

    from aiomanager.multiprocessing import managers as managers

__all__: list[str] = []
__all__ += _standard.__all__


def __getattr__(name: str) -> Any:
    """Import the submodule of this name, or return what else the standard library has."""
    if not name.startswith("_"):
        try:
            return importlib.import_module(f"{__name__}.{name}")
        except ModuleNotFoundError:
            if hasattr(_standard, name):
                return getattr(_standard, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
