"""The shared types: one file each, and the list of them here."""

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
from aiomanager.objects.queue import (
    NamedQueueFactory,
    Queue,
    QueueFactory,
    SyncNamedQueueFactory,
    SyncQueueFactory,
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

TYPES: tuple[type[SharedObject], ...] = (Dict, List, Value, Event, Lock, Queue)


class Factories(DictFactory, ListFactory, ValueFactory, EventFactory, LockFactory, QueueFactory):
    """The methods of an async manager that make anonymous objects."""


class NamedFactories(
    NamedDictFactory,
    NamedListFactory,
    NamedValueFactory,
    NamedEventFactory,
    NamedLockFactory,
    NamedQueueFactory,
):
    """The methods of `manager.named` that find or make named objects."""


class SyncFactories(
    SyncDictFactory,
    SyncListFactory,
    SyncValueFactory,
    SyncEventFactory,
    SyncLockFactory,
    SyncQueueFactory,
):
    """The methods of a blocking manager that make anonymous objects."""


class SyncNamedFactories(
    SyncNamedDictFactory,
    SyncNamedListFactory,
    SyncNamedValueFactory,
    SyncNamedEventFactory,
    SyncNamedLockFactory,
    SyncNamedQueueFactory,
):
    """The methods of a blocking manager's `named` that find or make named objects."""
