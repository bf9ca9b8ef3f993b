"""The standard library's `multiprocessing`, whose `Manager` and `managers` are aiomanager's.

    import aiomanager.multiprocessing as multiprocessing

Everything else (Process, Pool, Queue, ...) is the standard library's own.
"""

import importlib
import multiprocessing as _standard
from multiprocessing import (
    Array,
    AuthenticationError,
    Barrier,
    BoundedSemaphore,
    BufferTooShort,
    Condition,
    Event,
    JoinableQueue,
    Lock,
    Pipe,
    Pool,
    Process,
    ProcessError,
    Queue,
    RawArray,
    RawValue,
    RLock,
    Semaphore,
    SimpleQueue,
    TimeoutError,
    Value,
    active_children,
    allow_connection_pickling,
    cpu_count,
    current_process,
    freeze_support,
    get_all_start_methods,
    get_logger,
    get_start_method,
    log_to_stderr,
    parent_process,
    reducer,
    set_executable,
    set_forkserver_preload,
    set_start_method,
)
from multiprocessing import process as process
from multiprocessing import reduction as reduction
from typing import TYPE_CHECKING, Any

from aiomanager.multiprocessing import context as context
from aiomanager.multiprocessing.context import Manager, get_context

if TYPE_CHECKING:
    # Imported when they are first asked for.
    from multiprocessing import connection as connection
    from multiprocessing import dummy as dummy
    from multiprocessing import pool as pool
    from multiprocessing import queues as queues
    from multiprocessing import shared_memory as shared_memory
    from multiprocessing import sharedctypes as sharedctypes
    from multiprocessing import synchronize as synchronize
    from multiprocessing import util as util

    from aiomanager.multiprocessing import managers as managers

__all__ = [
    "Array",
    "AuthenticationError",
    "Barrier",
    "BoundedSemaphore",
    "BufferTooShort",
    "Condition",
    "Event",
    "JoinableQueue",
    "Lock",
    "Manager",
    "Pipe",
    "Pool",
    "Process",
    "ProcessError",
    "Queue",
    "RLock",
    "RawArray",
    "RawValue",
    "Semaphore",
    "SimpleQueue",
    "TimeoutError",
    "Value",
    "active_children",
    "allow_connection_pickling",
    "cpu_count",
    "current_process",
    "freeze_support",
    "get_all_start_methods",
    "get_context",
    "get_logger",
    "get_start_method",
    "log_to_stderr",
    "parent_process",
    "reducer",
    "set_executable",
    "set_forkserver_preload",
    "set_start_method",
]


def __getattr__(name: str) -> Any:
    """Import the submodule of this name, or return what else the standard library has."""
    if not name.startswith("_"):
        try:
            return importlib.import_module(f"{__name__}.{name}")
        except ModuleNotFoundError:
            if hasattr(_standard, name):
                return getattr(_standard, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
