"""Shared Python objects for many processes: the async names, loaded when they are first used.

`aiomanager.sync` has the same names for blocking code, `aiomanager.multiprocessing` those of the
standard library.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiomanager import multiprocessing as multiprocessing
    from aiomanager import sync as sync
    from aiomanager.errors import AuthenticationFailed as AuthenticationFailed
    from aiomanager.errors import BrokenBarrierError as BrokenBarrierError
    from aiomanager.errors import CallError as CallError
    from aiomanager.errors import ConnectionLost as ConnectionLost
    from aiomanager.errors import DeadlockDetected as DeadlockDetected
    from aiomanager.errors import Empty as Empty
    from aiomanager.errors import Full as Full
    from aiomanager.errors import ManagerError as ManagerError
    from aiomanager.errors import NameConflict as NameConflict
    from aiomanager.errors import NotOwner as NotOwner
    from aiomanager.errors import ObjectGone as ObjectGone
    from aiomanager.errors import SessionLost as SessionLost
    from aiomanager.errors import ShutDown as ShutDown
    from aiomanager.errors import WorkerLost as WorkerLost
    from aiomanager.manager import Manager as Manager
    from aiomanager.manager import connect as connect
    from aiomanager.objects.array import ArrayProxy as ArrayProxy
    from aiomanager.objects.array import SyncArrayProxy as SyncArrayProxy
    from aiomanager.objects.barrier import BarrierProxy as BarrierProxy
    from aiomanager.objects.barrier import SyncBarrierProxy as SyncBarrierProxy
    from aiomanager.objects.condition import ConditionProxy as ConditionProxy
    from aiomanager.objects.condition import SyncConditionProxy as SyncConditionProxy
    from aiomanager.objects.dict import DictProxy as DictProxy
    from aiomanager.objects.dict import SyncDictProxy as SyncDictProxy
    from aiomanager.objects.event import EventProxy as EventProxy
    from aiomanager.objects.event import SyncEventProxy as SyncEventProxy
    from aiomanager.objects.jobs import JobProxy as JobProxy
    from aiomanager.objects.jobs import SyncJobProxy as SyncJobProxy
    from aiomanager.objects.list import ListProxy as ListProxy
    from aiomanager.objects.list import SyncListProxy as SyncListProxy
    from aiomanager.objects.lock import LockProxy as LockProxy
    from aiomanager.objects.lock import SyncLockProxy as SyncLockProxy
    from aiomanager.objects.lock_table import LockTableProxy as LockTableProxy
    from aiomanager.objects.lock_table import SyncLockTableProxy as SyncLockTableProxy
    from aiomanager.objects.namespace import NamespaceProxy as NamespaceProxy
    from aiomanager.objects.namespace import SyncNamespaceOperations as SyncNamespaceOperations
    from aiomanager.objects.namespace import SyncNamespaceProxy as SyncNamespaceProxy
    from aiomanager.objects.pool import PoolProxy as PoolProxy
    from aiomanager.objects.pool import SyncPoolProxy as SyncPoolProxy
    from aiomanager.objects.queue import JoinableQueueProxy as JoinableQueueProxy
    from aiomanager.objects.queue import QueueProxy as QueueProxy
    from aiomanager.objects.queue import SyncJoinableQueueProxy as SyncJoinableQueueProxy
    from aiomanager.objects.queue import SyncQueueProxy as SyncQueueProxy
    from aiomanager.objects.rlock import RLockProxy as RLockProxy
    from aiomanager.objects.rlock import SyncRLockProxy as SyncRLockProxy
    from aiomanager.objects.semaphore import BoundedSemaphoreProxy as BoundedSemaphoreProxy
    from aiomanager.objects.semaphore import SemaphoreProxy as SemaphoreProxy
    from aiomanager.objects.semaphore import SyncBoundedSemaphoreProxy as SyncBoundedSemaphoreProxy
    from aiomanager.objects.semaphore import SyncSemaphoreProxy as SyncSemaphoreProxy
    from aiomanager.objects.set import SetProxy as SetProxy
    from aiomanager.objects.set import SyncSetProxy as SyncSetProxy
    from aiomanager.objects.value import SyncValueProxy as SyncValueProxy
    from aiomanager.objects.value import ValueProxy as ValueProxy
    from aiomanager.objects.views import PlaceView as PlaceView
    from aiomanager.objects.views import SyncPlaceView as SyncPlaceView
    from aiomanager.operation import SharedObject as SharedObject
    from aiomanager.operation import acquires as acquires
    from aiomanager.operation import composite as composite
    from aiomanager.operation import owned as owned
    from aiomanager.operation import reads as reads
    from aiomanager.operation import waits as waits
    from aiomanager.operation import writes as writes
    from aiomanager.proxy import AsyncProxy as AsyncProxy
    from aiomanager.proxy import SyncProxy as SyncProxy
    from aiomanager.stored import MISSING as MISSING
    from aiomanager.waiter import Caller as Caller
    from aiomanager.waiter import Waiter as Waiter
    from aiomanager.waiter import WaitQueue as WaitQueue

# Blocking clients must not load asyncio, so that nothing is imported before it is asked for.
_HOMES = {
    name: f"aiomanager.{home}"
    for home, names in {
        "errors": (
            "AuthenticationFailed BrokenBarrierError CallError ConnectionLost DeadlockDetected "
            "Empty Full ManagerError NameConflict "
            "NotOwner ObjectGone SessionLost ShutDown WorkerLost"
        ),
        "manager": "Manager connect",
        "objects.array": "ArrayProxy SyncArrayProxy",
        "objects.dict": "DictProxy SyncDictProxy",
        "objects.event": "EventProxy SyncEventProxy",
        "objects.jobs": "JobProxy SyncJobProxy",
        "objects.list": "ListProxy SyncListProxy",
        "objects.lock": "LockProxy SyncLockProxy",
        "objects.namespace": "NamespaceProxy SyncNamespaceOperations SyncNamespaceProxy",
        "objects.pool": "PoolProxy SyncPoolProxy",
        "objects.queue": "JoinableQueueProxy QueueProxy SyncJoinableQueueProxy SyncQueueProxy",
        "objects.set": "SetProxy SyncSetProxy",
        "objects.rlock": "RLockProxy SyncRLockProxy",
        "objects.semaphore": (
            "BoundedSemaphoreProxy SyncBoundedSemaphoreProxy SemaphoreProxy SyncSemaphoreProxy"
        ),
        "objects.condition": "ConditionProxy SyncConditionProxy",
        "objects.barrier": "BarrierProxy SyncBarrierProxy",
        "objects.lock_table": "LockTableProxy SyncLockTableProxy",
        "objects.value": "ValueProxy SyncValueProxy",
        "objects.views": "PlaceView SyncPlaceView",
        "operation": "SharedObject acquires composite owned reads waits writes",
        "proxy": "AsyncProxy SyncProxy",
        "stored": "MISSING",
        "waiter": "Caller WaitQueue Waiter",
    }.items()
    for name in names.split()
}

_MODULES = ("multiprocessing", "sync")

__version__ = "0.1.0"

if not TYPE_CHECKING:  # type checkers know the names from above
    # Without the modules: a star import must not put our `multiprocessing` in the stdlib's place.
    __all__ = (*sorted(_HOMES),)


def __getattr__(name: str) -> Any:
    import importlib

    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    own = (name for name in globals() if name.startswith("__"))
    return sorted({*own, *_HOMES, *_MODULES})
