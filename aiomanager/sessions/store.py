"""The store: the shared objects, their names, and who refers to them.

It makes objects, finds them and frees them. It neither reads messages nor waits.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Any, Final, NoReturn, cast

from aiomanager.deadlock import Deadlocks
from aiomanager.errors import (
    BadEncoding,
    BadParameters,
    Denied,
    LimitReached,
    NameConflict,
    ObjectGone,
)
from aiomanager.operation import Raw, SharedObject, owned, reads, writes
from aiomanager.protocol.keys import KeyCodec, check_key, wire_key
from aiomanager.protocol.values import MAX_SCALAR_STR, NeutralCodec, check_packed, reference
from aiomanager.sessions.plans import Leaves, Plan, Plans
from aiomanager.stored import Packed, Path, References, Stored
from aiomanager.waiter import Caller

__all__ = ("MANAGER", "Client", "Manager", "Store")

MANAGER: Final = 0
"""The object id of the manager itself."""

_INT_LOW, _INT_HIGH = -(1 << 63), (1 << 64) - 1


class Client:
    """One client process as the server knows it: its references, its sessions."""

    __slots__ = (
        "description",
        "gone",
        "id",
        "pid",
        "principal",
        "references",
        "sessions",
        "stop_forgetting",
    )

    def __init__(self, client_id: bytes, principal: str, pid: int, description: str) -> None:
        self.id = client_id
        self.principal = principal
        self.pid = pid
        self.description = description
        self.references: Counter[int] = Counter()
        self.sessions: set[bytes] = set()
        self.gone = False
        """Whether it said that it will not come back, and has nothing on its way."""
        self.stop_forgetting: Callable[[], object] | None = None
        """Keeps its references from being forgotten, while it has no session."""


class Entry:
    """One object in the store."""

    __slots__ = ("handlers", "name", "object", "object_id", "references")

    def __init__(self, object_id: int, shared: SharedObject, handlers: dict[str, Plan]) -> None:
        self.object_id = object_id
        self.object = shared
        self.handlers = handlers
        """The plan of each operation, by its name."""
        self.references = 0
        """How many clients, containers and names refer to it."""
        self.name: str | None = None


def _by_name(types: Iterable[type[SharedObject]]) -> dict[str, type[SharedObject]]:
    """Return types by their names; raise ValueError when two share one."""
    found: dict[str, type[SharedObject]] = {}
    for kind in types:
        other = found.setdefault(kind.type_name, kind)
        if other is not kind:
            raise ValueError(
                f"two shared types are named {kind.type_name!r}: {_place(other)} and "
                f"{_place(kind)}. Give one of them another name: class X(SharedObject, name='...')"
            )
    return found


def _place(kind: type[SharedObject]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


class NoLauncher:
    """What a server has that starts no worker processes."""

    processors = 1

    def start(self, pool_id: int, number: int, on_end: Callable[[str, bool], None], /) -> NoReturn:
        """Raise Denied."""
        raise Denied(
            "this server starts no worker processes, which would run whatever code a client "
            "sends. A private server does, and one on a unix socket"
        )


class Store:
    """All shared objects of one server."""

    def __init__(
        self,
        types: Iterable[type[SharedObject]],
        *,
        first_fence: int = 1,
        first_id: int = 1,
        max_objects: int = 10**7,
    ) -> None:
        self.types = _by_name(types)
        self.entries: dict[int, Entry] = {}
        self.names: dict[str, int] = {}
        self.fences: Iterator[int] = count(first_fence)
        self.deadlocks = Deadlocks()
        self.max_objects = max_objects
        self.handed_out: list[int] = []
        """The references in what was encoded last: the session counts them for its client."""
        self.launcher: Any = NoLauncher()
        """What starts the worker processes of pools."""
        self.on_gone: Callable[[int], None] = lambda object_id: None
        """Told when an object that somebody may still wait for is deleted."""
        self.statistics: Callable[[], dict[str, int]] = self.count
        """What `manager.statistics()` returns; the server adds what it knows."""
        self._of_type: Counter[str] = Counter()
        self._first_id = first_id
        self._ids = count(first_id)
        self._freed: list[Entry] = []
        self._freeing = False
        self._codec = NeutralCodec()
        self._keys = KeyCodec(self._codec)
        # A class of its own, so that each stored value knows its store without a word of memory.
        store = self

        class CountedReferences(References):
            __slots__ = ()

            def __init__(self, ids: list[int]) -> None:
                # Those that are gone (deleted by name) are not counted, now or ever.
                super().__init__([one for one in ids if one in store.entries])
                for object_id in self.ids:
                    store.entries[object_id].references += 1

            def add(self, ids: list[int]) -> None:
                for object_id in ids:
                    entry = store.entries.get(object_id)
                    if entry is not None:
                        entry.references += 1
                        self.ids.append(object_id)

            def __del__(self) -> None:
                for object_id in self.ids:
                    store.release(object_id)

        self.stored = cast(
            "type[Stored]",
            type(
                "Stored",
                (Stored,),
                {"__slots__": (), "codec": self._codec, "refer": CountedReferences},
            ),
        )
        self.plans = Plans(
            Leaves(
                wire_key,
                self._encode,
                check_key,
                self._decode,
                self._decode_path,
                decode_object=self._decode_object,
            )
        )
        self._handlers: dict[type[SharedObject], dict[str, Plan]] = {}
        self._makers: dict[type[SharedObject], Plan] = {}
        self._fixed = 0
        self.adopt(Manager(self), MANAGER).references = 1

    # Values

    def _encode(self, value: Any) -> Packed:
        kind = type(value)  # pyright: ignore[reportUnknownVariableType]
        if kind is self.stored:
            packed: Packed = value.packed()
        else:
            if kind is int:
                if _INT_LOW <= value <= _INT_HIGH:
                    return value  # type: ignore[no-any-return]
            elif kind is str:
                if value.isascii() and len(value) <= MAX_SCALAR_STR:
                    return value  # type: ignore[no-any-return]
            elif value is None or kind is bool or kind is float:
                return value  # type: ignore[no-any-return]
            packed = self._codec.pack(value, None)
        if type(packed) is list:
            self.handed_out.extend(cast("list[int]", packed[1]))
        return packed

    def held(self, packed: Any) -> Any:
        """Return a value that travelled in the form in which objects hold it; raise ObjectGone."""
        return self._decode(packed)

    def _decode(self, packed: Any) -> Any:
        kind = type(packed)  # pyright: ignore[reportUnknownVariableType]
        if kind is int:
            return packed
        if kind is bytes and packed:
            return self.stored(packed)
        if kind is list:
            check_packed(packed)
            for object_id in packed[1]:
                self.entry(object_id)
            return self.stored(packed[0], self.stored.refer(packed[1]))
        if kind is str or packed is None or kind is bool or kind is float:
            return packed
        raise BadEncoding(f"{packed!r:.40} is no value on the wire")

    def _decode_object(self, wire: Any) -> SharedObject:
        # Who gets it keeps the object itself: that it has no name and no references any more
        # is the business of those who would call it.
        if type(wire) is not int:
            raise BadParameters(f"expected the id of a shared object, not {wire!r:.40}")
        return self.entry(wire).object

    def _decode_path(self, wire: Any) -> Path:
        if type(wire) is not list:
            raise BadParameters("a path must be an array of steps")
        keys = [check_key(step) for step in cast("list[Any]", wire)]
        path = Path(self._keys.decode(wire_key(key)) for key in keys)
        path.stored = self.stored
        if keys:
            path.key = keys[0]
        return path

    # Objects

    def entry(self, object_id: int) -> Entry:
        """Return an object's entry; raise ObjectGone."""
        entry = self.entries.get(object_id)
        if entry is None and object_id < self._first_id:
            raise ObjectGone(
                f"object {object_id} is gone: it belonged to an earlier server at this address, "
                "and ended with it. Get a new proxy from the manager"
            )
        if entry is None:
            raise ObjectGone(
                f"object {object_id} is gone: nobody referred to it any more, or its name was "
                "deleted. Keep a proxy of it, or use a named object"
            )
        return entry

    def handlers(self, kind: type[SharedObject]) -> dict[str, Plan]:
        """Return the plans of a type's operations."""
        handlers = self._handlers.get(kind)
        if handlers is None:
            handlers = {name: self.plans.of(op) for name, op in kind.operations.items()}
            self._handlers[kind] = handlers
        return handlers

    def _add(self, shared: SharedObject, object_id: int) -> Entry:
        entry = self.entries[object_id] = Entry(object_id, shared, self.handlers(type(shared)))
        self._of_type[shared.type_name] += 1
        try:
            shared._moved_in(self, object_id)  # pyright: ignore[reportPrivateUsage]
        except BaseException:
            self._take_out(object_id)
            raise
        return entry

    def share(self, shared: SharedObject) -> Stored:
        """Take in an object that another one has made; return a value that refers to it.

        Raises:
            LimitReached: there are as many objects as there may be.
        """
        self._check_room()
        entry = self.adopt(shared)
        data, ids = cast(
            "tuple[bytes, list[int]]",
            self._codec.encode(reference(entry.object_id, shared.type_name)),
        )
        return self.stored(data, self.stored.refer(ids))

    def name_of(self, object_id: int) -> str | None:
        """Return the name of an object, if it is there and has one."""
        entry = self.entries.get(object_id)
        return None if entry is None else entry.name

    def retain(self, object_id: int) -> None:
        """Count one reference more, until `release`, of an object that is there."""
        self.entries[object_id].references += 1

    def _check_room(self) -> None:
        if len(self.entries) >= self.max_objects:
            raise LimitReached(f"the server holds {self.max_objects} objects, its limit")

    def _take_out(self, object_id: int) -> Entry:
        entry = self.entries.pop(object_id)
        self._of_type[entry.object.type_name] -= 1
        return entry

    def adopt(self, shared: SharedObject, object_id: int | None = None) -> Entry:
        """Take in an object that was made elsewhere; somebody must soon refer to it.

        One with an id of its own belongs to the server, and is not counted.
        """
        if object_id is None:
            return self._add(shared, next(self._ids))
        self._fixed += 1
        self._of_type[shared.type_name] -= 1
        return self._add(shared, object_id)

    def make(self, type_name: str, arguments: list[Any]) -> Entry:
        """Make an object; somebody must refer to it before the next call.

        Raises:
            NameConflict: there is no such type.
            BadParameters: its arguments do not fit.
            LimitReached: there are as many objects as there may be.
        """
        kind = self.types.get(type_name)
        if kind is None:
            raise NameConflict(
                f"there is no shared type {type_name!r} on this server; it knows "
                f"{', '.join(sorted(self.types))}. Give your own with Manager(types=[...]) or "
                "'aiomanager serve --types MODULE'"
            )
        self._check_room()
        plan = self._makers.get(kind)
        if plan is None:
            plan = self._makers[kind] = self.plans.made(kind.maker)
        return self._add(kind(*plan.decode(arguments)), next(self._ids))

    def named(self, type_name: str, name: str, arguments: list[Any]) -> Entry:
        """Find or make the object of a name.

        Raises:
            NameConflict: the name has an object of another type, or of other limits.
        """
        object_id = self.names.get(name)
        if object_id is None:
            entry = self.make(type_name, arguments)
            entry.references = 1  # held by its name
            entry.name = name
            self.names[name] = entry.object_id
            return entry
        entry = self.entries[object_id]
        kind = type(entry.object)
        if kind.type_name != type_name:
            raise NameConflict(
                f"the name {name!r} belongs to a {kind.type_name}, not to a {type_name}; "
                "use another name, or delete it first"
            )
        conflict = entry.object._conflict(*self._makers[kind].decode(arguments))  # pyright: ignore[reportPrivateUsage]
        if conflict:
            raise NameConflict(f"the {type_name} named {name!r} {conflict}")
        return entry

    def delete(self, name: str) -> None:
        """Delete the object of a name; raise KeyError."""
        object_id = self.names.pop(name)
        entry = self._take_out(object_id)
        self.on_gone(object_id)
        entry.object._moved_out()  # pyright: ignore[reportPrivateUsage]

    def count(self) -> dict[str, int]:
        """Return the numbers of objects and of names."""
        return {"objects": len(self.entries) - self._fixed, "names": len(self.names)}

    def count_types(self) -> dict[str, int]:
        """Return the number of objects of each type that there are any of."""
        return {f"objects.{name}": n for name, n in sorted(self._of_type.items()) if n > 0}

    # References

    def hold(self, client: Client, object_id: int) -> None:
        """Count one more reference of `client`; raise ObjectGone."""
        self.entry(object_id).references += 1
        client.references[object_id] += 1

    def let_go(self, client: Client, object_id: int) -> None:
        """Count one reference of `client` less; one too many is ignored."""
        if client.references[object_id] > 0:
            client.references[object_id] -= 1
            self.release(object_id)
        if not client.references[object_id]:
            del client.references[object_id]

    def forget(self, client: Client) -> None:
        """Let go of everything that `client` refers to."""
        held, client.references = client.references, Counter()
        for object_id, times in held.items():
            for _ in range(times):
                self.release(object_id)

    def release(self, object_id: int) -> None:
        """Count one reference less, of whomever, and free the object after the last one."""
        entry = self.entries.get(object_id)
        if entry is not None:
            entry.references -= 1
            if entry.references <= 0:
                # An object may hold the last references to others in turn. They are freed one
                # after another: a long chain must not recurse.
                self._freed.append(self._take_out(object_id))
                del entry
                self._free()

    def _free(self) -> None:
        if not self._freeing:
            self._freeing = True
            try:
                while self._freed:
                    self._freed.pop().object._moved_out()  # pyright: ignore[reportPrivateUsage]
            finally:
                self._freeing = False

    def collect(self) -> int:
        """Free the objects that are reachable only from each other; return how many there were."""
        held = {
            object_id: list(_references_of(entry.object))
            for object_id, entry in self.entries.items()
        }
        every = {id(one): one for found in held.values() for one in found}
        inside = Counter(object_id for one in every.values() for object_id in one.ids)
        # What is referred to by more than what the objects hold is reachable: by a client, by its
        # name, by a value on its way. So is what nobody has had the time to refer to.
        reached = [
            object_id
            for object_id, entry in self.entries.items()
            if entry.references > inside[object_id] or entry.references <= 0
        ]
        found = set(reached)
        while reached:
            for one in held[reached.pop()]:
                for object_id in one.ids:
                    if object_id not in found and object_id in held:
                        found.add(object_id)
                        reached.append(object_id)
        gone = [object_id for object_id in held if object_id not in found]
        held.clear()
        every.clear()
        self._freed += [self._take_out(object_id) for object_id in gone]
        self._free()
        return len(gone)


def _references_of(shared: SharedObject) -> Iterator[References]:
    """Find what keeps alive the objects that the values in this one refer to.

    What a type keeps elsewhere than in `_held()` counts as reachable, and is never collected.
    """
    rest: list[Any] = list(shared._held())  # pyright: ignore[reportPrivateUsage]
    while rest:
        one = rest.pop()
        if isinstance(one, Stored):
            references = one._references  # pyright: ignore[reportPrivateUsage]
            if references is not None:
                yield references
        elif isinstance(one, dict):
            rest += cast("dict[Any, Any]", one).values()
        elif isinstance(one, list | tuple | deque):
            rest += cast("list[Any]", one)


def _array(arguments: Any) -> list[Any]:
    if type(arguments) is not list:
        raise BadParameters("the arguments of an object must be an array")
    return cast("list[Any]", arguments)


class Manager(SharedObject, name="manager"):
    """The server itself: it makes, names, finds and deletes objects."""

    def __init__(self, store: Raw) -> None:
        self._store: Store = store

    def _hand_out(self, entry: Entry) -> int:
        self._store.handed_out.append(entry.object_id)
        return entry.object_id

    @writes
    def create(self, type_name: str, arguments: Raw) -> int:
        """Make an object and return its id, with one reference for the caller.

        Raises:
            NameConflict: the server knows no such type.
            TypeError, ValueError: the arguments do not fit the type.
        """
        return self._hand_out(self._store.make(type_name, _array(arguments)))

    @writes
    def named(self, type_name: str, name: str, arguments: Raw) -> int:
        """Find or make the object of this name; return its id, with one reference.

        Raises:
            NameConflict: the name has an object of another type, or of other limits.
        """
        return self._hand_out(self._store.named(type_name, name, _array(arguments)))

    @reads
    def names(self) -> dict[str, str]:
        """Return the names in use, each with the type of its object."""
        entries = self._store.entries
        return {
            name: type(entries[object_id].object).type_name
            for name, object_id in self._store.names.items()
        }

    @writes
    def delete(self, name: str) -> None:
        """Delete the object of this name; whoever waits for it gets ObjectGone.

        Raises:
            KeyError: there is no such name.
        """
        try:
            self._store.delete(name)
        except KeyError:
            raise KeyError(f"there is no object named {name!r}") from None

    @writes
    def collect(self) -> int:
        """Free the objects that are reachable only from each other; return how many there were.

        An object that refers to itself, at whatever remove, is not freed with its last proxy. The
        server looks at every value for it, and does nothing else meanwhile.
        """
        return self._store.collect()

    @owned
    def give_back(self, caller: Caller) -> None:
        """Free all locks of the calling task or thread, which has ended: nobody else could.

        What it acquired for a named owner stays, as do permits, which anybody may release.
        """
        caller.holder.give_back(caller.identity)

    @reads
    def statistics(self) -> dict[str, int]:
        """Return what the server counts now.

        `objects` and, of each type that there are any of, `objects.dict` and so on; `names` in
        use; `clients`, which are processes, with those that have just left; their `sessions`, and
        how many of these are `attached` to a connection; `waiting` calls.
        """
        return self._store.statistics()
