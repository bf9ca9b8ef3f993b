"""The shared list: its operations, its two proxies and its factories."""

from collections.abc import (
    AsyncIterator,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    MutableSequence,
)
from itertools import count
from operator import itemgetter
from typing import Any, Generic, Self, cast, overload

from aiomanager.errors import VersionConflict
from aiomanager.objects.live import assigned_back
from aiomanager.objects.nested import (
    Nested,
    Place,
    Put,
    add,
    bounds_of,
    check_path,
    check_repetition,
    index_of,
    walk_into,
)
from aiomanager.objects.tries import Tries
from aiomanager.objects.views import AsyncViews, SyncViews
from aiomanager.operation import Number, V, composite, fresh, plain_copy, reads, writes
from aiomanager.proxy import AsyncFactory, SyncFactory
from aiomanager.stored import Stored, apart, comparable, opened, version_of

__all__ = ("List", "ListProxy", "SyncListProxy")


class List(Nested, Generic[V], name="list"):
    """A sequence of values; positions count from 0, negative ones from the end."""

    def __init__(self, items: Iterable[V] = (), /) -> None:
        self._items: list[V] = list(items)

    def _place(self, path: tuple[Any, ...], *, change: bool) -> Place:
        check_path(path)
        index = path[0]
        if type(index) is not int:
            raise TypeError(
                f"path {tuple(path)!r}, step 1 ({index!r}): a list position must be an int, "
                f"not {type(index).__name__}"
            )
        if len(path) == 1:
            return Place(self._items, index, None, path)
        if not -len(self._items) <= index < len(self._items):
            raise IndexError(
                f"path {tuple(path)!r}, step 1 ({index}): the list has {len(self._items)} items"
            )
        return walk_into(self._items[index], path, 1, change=change)

    @reads
    def get_item(self, index: int) -> V:
        """Return the value at `index`.

        Raises:
            IndexError: the list is shorter.
        """
        return self._items[index]

    @reads
    def get_slice(
        self, start: int | None = None, stop: int | None = None, step: int | None = None
    ) -> list[V]:
        """Return a plain list of the values in a slice.

        Raises:
            ValueError: `step` is 0.
        """
        return self._items[start:stop:step]

    @writes
    def set(self, index: int, value: V) -> None:
        """Replace the value at `index`.

        Raises:
            IndexError: the list is shorter.
        """
        self._items[index] = value

    @writes
    def set_slice(
        self, items: Iterable[V], start: int | None = None, stop: int | None = None,
        step: int | None = None,
    ) -> None:  # fmt: skip
        """Replace the values in a slice by `items`.

        Raises:
            ValueError: `step` is not 1 and the sizes differ.
        """
        self._items[start:stop:step] = items

    @writes
    def delete(self, index: int) -> None:
        """Remove the value at `index`.

        Raises:
            IndexError: the list is shorter.
        """
        del self._items[index]

    @writes
    def delete_slice(
        self, start: int | None = None, stop: int | None = None, step: int | None = None
    ) -> None:
        """Remove the values in a slice."""
        del self._items[start:stop:step]

    @writes
    def append(self, value: V) -> None:
        """Add `value` at the end."""
        self._items.append(value)

    @writes
    def extend(self, items: Iterable[V]) -> None:
        """Add all `items` at the end, in one step."""
        self._items.extend(items)

    @writes
    def insert(self, index: int, value: V) -> None:
        """Insert `value` before `index`."""
        self._items.insert(index, value)

    @writes
    def pop(self, index: int = -1) -> V:
        """Remove the value at `index`, the last one by default, and return it.

        Raises:
            IndexError: the list is shorter, or empty.
        """
        return self._items.pop(index)

    @pop.put_back
    def _put_back(self, value: V, index: int = -1) -> None:
        self._items.insert(index if index >= 0 else len(self._items) + 1 + index, value)

    @reads
    def length(self) -> int:
        """Return the number of values."""
        return len(self._items)

    @reads
    def copy(self) -> list[V]:
        """Return a plain list with the same values."""
        return list(self._items)

    @writes
    def clear(self) -> None:
        """Remove all values."""
        self._items.clear()

    @writes
    def reverse(self) -> None:
        """Reverse the order of the values in place."""
        self._items.reverse()

    @writes
    def multiply(self, count: int) -> None:
        """Repeat the values `count` times in place, as `*=` does; each is a value of its own.

        Raises:
            TooLarge: the list would become too large by this one step.
        """
        items = self._items
        check_repetition(items, count, "multiply")
        if count > 1 and any(isinstance(item, Stored) for item in items):
            items += [apart(item) for _ in range(count - 1) for item in items]
        else:
            items *= count

    @reads
    def contains(self, value: V) -> bool:
        """Tell whether a value of the list equals `value`."""
        return any(value == item for item in self._items)

    @reads
    def index(self, value: V, start: int = 0, stop: int | None = None) -> int:
        """Return the first position of `value` in a slice.

        Raises:
            ValueError: no value there equals it.
        """
        for position in range(*slice(start, stop).indices(len(self._items))):
            if value == self._items[position]:
                return position
        raise ValueError(f"{opened(value)!r:.200} is not in list")

    @reads
    def count(self, value: V) -> int:
        """Return how many values equal `value`."""
        return sum(value == item for item in self._items)

    @writes
    def remove(self, value: V) -> None:
        """Remove the first value that equals `value`.

        Raises:
            ValueError: no value equals it.
        """
        for position, item in enumerate(self._items):
            if value == item:
                del self._items[position]
                return
        raise ValueError("list.remove(x): x not in list")

    @contains.fallback
    def _contains(self, value: Any) -> Generator[Any, Any, bool]:
        return value in (yield self.copy())

    @index.fallback
    def _index(
        self, value: Any, start: int = 0, stop: int | None = None
    ) -> Generator[Any, Any, int]:
        items = yield self.copy()
        return items.index(value, *slice(start, stop).indices(len(items))[:2])  # type: ignore[no-any-return]

    @count.fallback
    def _count(self, value: Any) -> Generator[Any, Any, int]:
        return (yield self.copy()).count(value)  # type: ignore[no-any-return]

    @remove.fallback
    def _remove(self, value: Any) -> Generator[Any, Any, None]:
        for _ in range(_QUICK):
            whole, items = yield self.copy_versioned()
            if value not in items:
                raise ValueError("list.remove(x): x not in list")
            order = list(range(len(items)))
            del order[items.index(value)]
            try:
                yield self.rearrange(order, whole)
            except VersionConflict:
                continue
            return
        tries = Tries("remove", "values had come in that were never seen", 100)
        equal: dict[bytes, bool] = {}
        while True:
            unknown = yield self.remove_known(equal)
            if not unknown:
                return
            tries.again()
            for version, item in unknown.items():
                equal[version] = bool(item == value)

    @writes
    def remove_known(self, equal: Mapping[bytes, bool]) -> dict[bytes, V]:
        """Remove the first value of which `equal`, by its version, says that it is meant.

        Versions are those of get_versioned. If `equal` says nothing of one that comes before, or
        of one when there is none that is meant, nothing is removed; those of which it says nothing
        are returned by their versions. What is appended or removed meanwhile, and not new, does
        not matter.

        Raises:
            ValueError: it says of all of them that they are not meant.
        """
        unknown: dict[bytes, V] = {}
        for position, item in enumerate(self._items):
            version = version_of(item)
            meant = equal.get(version)
            if meant is None:
                unknown[version] = item
            elif meant:
                if not unknown:
                    del self._items[position]
                return unknown
        if not unknown:
            raise ValueError("list.remove(x): x not in list")
        return unknown

    @writes
    def sort_values(self, reverse: bool = False) -> None:
        """Sort the values in place, by their natural order; equal ones keep theirs.

        Raises:
            TypeError: two values have no order.
        """
        # Not in place: an error in the middle must change nothing.
        self._items[:] = sorted(self._items, key=comparable, reverse=reverse)

    @composite
    def sort(self, *, key: Any = None, reverse: bool = False) -> Generator[Any, Any, None]:
        """Sort the values in place; a `key` function is called in the client.

        The server puts its own values in the order that the client found for them, in one step. If
        the list was changed meanwhile, the client tries again, from the third time on by the
        values: then it is asked only for those that have come in and were never seen, and who
        appends, removes or moves known values does not hold a sort up.

        Raises:
            TypeError: two values have no order.
            VersionConflict: values came in that were never seen, a hundred times in a row, each
                time before those of the last time had been looked at.
        """
        if key is None:
            try:
                yield self.sort_values(reverse)
            except TypeError:
                pass  # values that only the client can open may still have an order there
            else:
                return
        for _ in range(_QUICK):
            whole, items = yield self.copy_versioned()
            keys = items if key is None else [key(item) for item in items]
            order = sorted(range(len(items)), key=keys.__getitem__, reverse=reverse)
            try:
                yield self.rearrange(order, whole)
            except VersionConflict:
                continue
            return
        tries = Tries("sort", "values had come in that were never seen", 100)
        keyed: list[tuple[bytes, Any]] = []
        while True:
            unranked = yield self.sort_ranked(_ranks(keyed), reverse)
            if not unranked:
                return
            tries.again()
            keyed += [(at, value if key is None else key(value)) for at, value in unranked]

    @fresh
    @reads
    def copy_versioned(self) -> tuple[int, list[V]]:
        """Return the version of the list, that of get_version, and its values."""
        return self.version, list(self._items)

    @writes
    def rearrange(self, order: list[int], version: int) -> None:
        """Keep the values at these positions, in this order, if the list still has this version.

        Raises:
            VersionConflict: the list has changed since it had this version, that of get_version.
            ValueError: a position is not there, or comes twice.
        """
        if version != self.version:
            raise VersionConflict(f"the list is at version {self.version}, not {version}")
        items = self._items
        if len(set(order)) < len(order) or (
            order and not 0 <= min(order) <= max(order) < len(items)
        ):
            raise ValueError("each position must be there, and come once")
        items[:] = [items[position] for position in order]

    @writes
    def sort_ranked(
        self, ranks: Mapping[bytes, int], reverse: bool = False
    ) -> list[tuple[bytes, V]]:
        """Sort the values in place by the ranks of their versions; equal ranks keep their order.

        Versions are those of get_versioned. If some have no rank, nothing is changed and these are
        returned, each with its version. So who ranks them by itself is asked again only for what
        was never seen: what others append or remove meanwhile does not matter if it is not new.
        """
        items = self._items
        versions = [version_of(item) for item in items]
        unranked = [pair for pair in zip(versions, items, strict=True) if pair[0] not in ranks]
        if not unranked:
            order = sorted(range(len(items)), key=lambda at: ranks[versions[at]], reverse=reverse)
            items[:] = [items[at] for at in order]
        return unranked

    @writes
    def increment(self, index: int, amount: Number = 1) -> V:
        """Add `amount` to the number at `index` and return the sum.

        Raises:
            IndexError: the list is shorter.
            TypeError: the value is not a number.
        """
        items: list[Any] = self._items
        total = items[index] = add(items[index], amount, "increment")
        return total  # type: ignore[no-any-return]

    @writes
    def compare_and_set(self, index: int, expected: V, value: V) -> bool:
        """Replace the value at `index` if it equals `expected`; tell whether it was replaced.

        Raises:
            IndexError: the list is shorter.
        """
        if expected != self._items[index]:
            return False
        self._items[index] = value
        return True

    @compare_and_set.fallback
    def _compare_and_set(self, index: int, expected: Any, value: Any) -> Generator[Any, Any, bool]:
        tries = Tries("compare_and_set")
        while True:
            version, current = yield self.get_versioned(index)
            if current != expected:
                return False
            try:
                yield self.set_versioned(index, value, version)
            except VersionConflict:
                tries.again()
            else:
                return True

    @fresh
    @reads
    def get_versioned(self, index: int) -> tuple[bytes, V]:
        """Return the version of the value at `index`, and the value.

        Equal versions are those of equal values: one that was changed and changed back has its old
        version again.

        Raises:
            IndexError: the list is shorter.
        """
        value = self._items[index]
        return version_of(value), value

    @writes
    def set_versioned(self, index: int, value: V, version: bytes) -> None:
        """Replace the value at `index` if the one that is there has this version.

        Raises:
            VersionConflict: another one is there; the rest of the list does not matter.
            IndexError: the list is shorter.
        """
        if version != version_of(self._items[index]):
            raise VersionConflict("the value at the index has not this version any more")
        self._items[index] = value

    @reads
    def get_placed(self, index: int) -> tuple[int, V]:
        """Return the position of `index` as it counts from 0, and the value there.

        Raises:
            IndexError: the list is shorter.
        """
        value = self._items[index]
        return index % len(self._items), value

    @reads
    def get_state(self, version: int = -1) -> tuple[int, list[V] | None]:
        """Return the list's version and all values; None for them if it still has `version`."""
        return self.version, None if version == self.version else list(self._items)

    def _set_state(self, items: list[V]) -> None:
        """Be what `get_state` returned."""
        self._items = items

    # What stands where, for live views

    @get_item.live
    def _live_get_item(self, put: Put, index: int) -> Any:
        position, value = self.get_placed(index)
        return put((position,), value)

    @get_slice.live
    def _live_get_slice(
        self, put: Put, start: int | None = None, stop: int | None = None, step: int | None = None
    ) -> list[Any]:
        part = slice(start, stop, step)
        if (start or 0) >= 0 and (stop or 0) >= 0 and (step or 1) > 0:
            places: Iterable[int] = count(start or 0, step or 1)
            values = self.get_slice(start, stop, step)
        else:
            items = self.copy()
            places, values = range(len(items))[part], items[part]
        return [put((place,), value) for place, value in zip(places, values, strict=False)]

    @copy.live
    def _live_copy(self, put: Put) -> list[Any]:
        return [put((place,), value) for place, value in enumerate(self.copy())]

    @set.live
    def _live_set(self, put: Put, index: int, value: Any) -> None:
        if not assigned_back(value, cast("Any", self), index):
            self.set(index, value)


_QUICK = 2
"""How often a list is guarded as a whole, which is quick, before its values are one by one."""


def _ranks(keyed: list[tuple[bytes, Any]]) -> dict[bytes, int]:
    """Return by version where values stand in the order of their keys; those of equal keys share.

    Raises:
        TypeError: two keys have no order.
    """
    ranks: dict[bytes, int] = {}
    rank = -1
    last: Any = None
    for version, key in sorted(keyed, key=itemgetter(1)):
        if rank < 0 or last < key:
            rank += 1
        ranks[version] = rank
        last = key
    return ranks


class ListProxy(AsyncViews, List[V]):
    """A shared list for async code."""

    sync: "SyncListProxy[V]"

    async def __aiter__(self) -> AsyncIterator[V]:
        """Iterate over the values by position, so that it sees what changes meanwhile."""
        position = 0
        while True:
            part = await self.get_slice(position, position + 1)
            if not part:
                return
            yield part[0]
            position += 1


class SyncListProxy(SyncViews, List[V]):
    """A shared list for blocking code, with the spelling of a plain one."""

    aio: "ListProxy[V]"

    @overload
    def __getitem__(self, index: int) -> V: ...
    @overload
    def __getitem__(self, index: slice) -> list[V]: ...
    def __getitem__(self, index: int | slice) -> V | list[V]:
        if isinstance(index, slice):
            return self.get_slice(*bounds_of(index))
        return self.get_item(index_of(index, "list"))

    @overload
    def __setitem__(self, index: int, value: V) -> None: ...
    @overload
    def __setitem__(self, index: slice, value: Iterable[V]) -> None: ...
    def __setitem__(self, index: int | slice, value: Any) -> None:
        if isinstance(index, slice):
            self.set_slice(value, *bounds_of(index))
        else:
            self.set(index_of(index, "list"), value)

    def __delitem__(self, index: int | slice) -> None:
        if isinstance(index, slice):
            self.delete_slice(*bounds_of(index))
        else:
            self.delete(index_of(index, "list"))

    def __contains__(self, value: V) -> bool:
        return self.contains(value)

    def __len__(self) -> int:
        return self.length()

    def __iter__(self) -> Iterator[V]:
        position = 0
        while True:
            try:
                value = self.get_item(position)
            except IndexError:
                return
            yield value
            position += 1

    def __reversed__(self) -> Iterator[V]:
        return reversed(self.copy())

    def __add__(self, other: "list[V] | SyncListProxy[V]") -> list[V]:
        return self.copy() + cast("list[V]", plain_copy(other))

    def __mul__(self, count: int) -> list[V]:
        return self.copy() * count

    __rmul__ = __mul__

    def __iadd__(self, items: Iterable[V]) -> Self:
        self.extend(items)
        return self

    def __imul__(self, count: int) -> Self:
        self.multiply(count)
        return self


# As the standard library does from 3.14 on.
MutableSequence.register(SyncListProxy)  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue]


class ListFactory(AsyncFactory):
    """Makes anonymous lists for async code."""

    @overload
    def list(self, /) -> Coroutine[Any, Any, ListProxy[Any]]: ...
    @overload
    def list(self, items: Iterable[V], /) -> Coroutine[Any, Any, ListProxy[V]]: ...
    def list(self, items: Iterable[Any] = (), /) -> Coroutine[Any, Any, ListProxy[Any]]:
        """Make a shared list."""
        return self._make(ListProxy, None, (items,), {})


class NamedListFactory(AsyncFactory):
    """Finds or makes named lists for async code."""

    @overload
    def list(self, name: str, /) -> Coroutine[Any, Any, ListProxy[Any]]: ...
    @overload
    def list(self, name: str, items: Iterable[V], /) -> Coroutine[Any, Any, ListProxy[V]]: ...
    def list(self, name: str, items: Iterable[Any] = (), /) -> Coroutine[Any, Any, ListProxy[Any]]:
        """Find or make the shared list of this name; the items count for its maker only."""
        return self._make(ListProxy, name, (items,), {})


class SyncListFactory(SyncFactory):
    """Makes anonymous lists for blocking code."""

    @overload
    def list(self, /) -> SyncListProxy[Any]: ...
    @overload
    def list(self, items: Iterable[V], /) -> SyncListProxy[V]: ...
    def list(self, items: Iterable[Any] = (), /) -> SyncListProxy[Any]:
        """Make a shared list."""
        return self._make(SyncListProxy, None, (items,), {})  # type: ignore[no-any-return]


class SyncNamedListFactory(SyncFactory):
    """Finds or makes named lists for blocking code."""

    @overload
    def list(self, name: str, /) -> SyncListProxy[Any]: ...
    @overload
    def list(self, name: str, items: Iterable[V], /) -> SyncListProxy[V]: ...
    def list(self, name: str, items: Iterable[Any] = (), /) -> SyncListProxy[Any]:
        """Find or make the shared list of this name; the items count for its maker only."""
        return self._make(SyncListProxy, name, (items,), {})  # type: ignore[no-any-return]
