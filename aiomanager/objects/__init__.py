"""The shared types: one file each, and the list of them here."""

from aiomanager.objects.array import (
    Array,
    ArrayFactory,
    NamedArrayFactory,
    SyncArrayFactory,
    SyncNamedArrayFactory,
)
from aiomanager.objects.barrier import (
    Barrier,
    BarrierFactory,
    NamedBarrierFactory,
    SyncBarrierFactory,
    SyncNamedBarrierFactory,
)
from aiomanager.objects.condition import (
    Condition,
    ConditionFactory,
    NamedConditionFactory,
    SyncConditionFactory,
    SyncNamedConditionFactory,
)
from aiomanager.objects.dict import (
    Dict,
    DictFactory,
    NamedDictFactory,
    SyncDictFactory,
    SyncNamedDictFactory,
)
from aiomanager.objects.event import (
    Event,
    EventFactory,
    NamedEventFactory,
    SyncEventFactory,
    SyncNamedEventFactory,
)
from aiomanager.objects.jobs import Job, Results
from aiomanager.objects.list import (
    List,
    ListFactory,
    NamedListFactory,
    SyncListFactory,
    SyncNamedListFactory,
)
from aiomanager.objects.lock import (
    Lock,
    LockFactory,
    NamedLockFactory,
    SyncLockFactory,
    SyncNamedLockFactory,
)
from aiomanager.objects.lock_table import (
    LockTable,
    LockTableFactory,
    NamedLockTableFactory,
    SyncLockTableFactory,
    SyncNamedLockTableFactory,
)
from aiomanager.objects.namespace import (
    NamedNamespaceFactory,
    Namespace,
    NamespaceFactory,
    SyncNamedNamespaceFactory,
    SyncNamespaceFactory,
)
from aiomanager.objects.pool import (
    NamedPoolFactory,
    Pool,
    PoolFactory,
    SyncNamedPoolFactory,
    SyncPoolFactory,
)
from aiomanager.objects.queue import (
    JoinableQueue,
    NamedQueueFactory,
    Queue,
    QueueFactory,
    SyncNamedQueueFactory,
    SyncQueueFactory,
)
from aiomanager.objects.rlock import (
    NamedRLockFactory,
    RLock,
    RLockFactory,
    SyncNamedRLockFactory,
    SyncRLockFactory,
)
from aiomanager.objects.semaphore import (
    BoundedSemaphore,
    BoundedSemaphoreFactory,
    NamedBoundedSemaphoreFactory,
    NamedSemaphoreFactory,
    Semaphore,
    SemaphoreFactory,
    SyncBoundedSemaphoreFactory,
    SyncNamedBoundedSemaphoreFactory,
    SyncNamedSemaphoreFactory,
    SyncSemaphoreFactory,
)
from aiomanager.objects.set import (
    NamedSetFactory,
    Set,
    SetFactory,
    SyncNamedSetFactory,
    SyncSetFactory,
)
from aiomanager.objects.value import (
    NamedValueFactory,
    SyncNamedValueFactory,
    SyncValueFactory,
    Value,
    ValueFactory,
)
from aiomanager.operation import SharedObject

__all__ = (
    "TYPES",
    "Factories",
    "NamedFactories",
    "SyncFactories",
    "SyncNamedFactories",
)

TYPES: tuple[type[SharedObject], ...] = (
    Dict,
    List,
    Set,
    Namespace,
    Value,
    Array,
    Event,
    Lock,
    Queue,
    JoinableQueue,
    RLock,
    BoundedSemaphore,
    Semaphore,
    Condition,
    Barrier,
    LockTable,
    Pool,
    Job,
    Results,
)


class Factories(
    DictFactory,
    ListFactory,
    SetFactory,
    NamespaceFactory,
    ValueFactory,
    ArrayFactory,
    EventFactory,
    LockFactory,
    QueueFactory,
    PoolFactory,
    RLockFactory,
    BoundedSemaphoreFactory,
    SemaphoreFactory,
    ConditionFactory,
    BarrierFactory,
    LockTableFactory,
):
    """The methods of an async manager that make anonymous objects."""


class NamedFactories(
    NamedDictFactory,
    NamedListFactory,
    NamedSetFactory,
    NamedNamespaceFactory,
    NamedValueFactory,
    NamedArrayFactory,
    NamedEventFactory,
    NamedLockFactory,
    NamedQueueFactory,
    NamedPoolFactory,
    NamedRLockFactory,
    NamedBoundedSemaphoreFactory,
    NamedSemaphoreFactory,
    NamedConditionFactory,
    NamedBarrierFactory,
    NamedLockTableFactory,
):
    """The methods of `manager.named` that find or make named objects."""


class SyncFactories(
    SyncDictFactory,
    SyncListFactory,
    SyncSetFactory,
    SyncNamespaceFactory,
    SyncValueFactory,
    SyncArrayFactory,
    SyncEventFactory,
    SyncLockFactory,
    SyncQueueFactory,
    SyncPoolFactory,
    SyncRLockFactory,
    SyncBoundedSemaphoreFactory,
    SyncSemaphoreFactory,
    SyncConditionFactory,
    SyncBarrierFactory,
    SyncLockTableFactory,
):
    """The methods of a blocking manager that make anonymous objects."""


class SyncNamedFactories(
    SyncNamedDictFactory,
    SyncNamedListFactory,
    SyncNamedSetFactory,
    SyncNamedNamespaceFactory,
    SyncNamedValueFactory,
    SyncNamedArrayFactory,
    SyncNamedEventFactory,
    SyncNamedLockFactory,
    SyncNamedQueueFactory,
    SyncNamedPoolFactory,
    SyncNamedRLockFactory,
    SyncNamedBoundedSemaphoreFactory,
    SyncNamedSemaphoreFactory,
    SyncNamedConditionFactory,
    SyncNamedBarrierFactory,
    SyncNamedLockTableFactory,
):
    """The methods of a blocking manager's `named` that find or make named objects."""
