"""The shared dict: its operations, its two proxies and its factories."""

from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
)
from typing import TYPE_CHECKING, Any, Generic, Self, cast, overload

from aiomanager.errors import VersionConflict
from aiomanager.objects.live import assigned_back
from aiomanager.objects.nested import Nested, Place, Put, add, check_path, walk_into
from aiomanager.objects.tries import Tries
from aiomanager.objects.views import AsyncViews, SyncViews
from aiomanager.operation import K, Number, V, composite, fresh, plain_copy, reads, writes
from aiomanager.proxy import AsyncFactory, SyncFactory
from aiomanager.stored import MISSING, Missing, Stored, first_key, kind_of, opened, version_of

if TYPE_CHECKING:
    from typing import Never

    from typing_extensions import TypeVar

    D = TypeVar("D", default=None)
    N = TypeVar("N", default=Never)
    NO_DEFAULT: Never = cast("Never", MISSING)
else:
    from typing import TypeVar

    D = TypeVar("D")
    N = TypeVar("N")
    NO_DEFAULT = MISSING

__all__ = ("Dict", "DictProxy", "SyncDictProxy")


def _list_in(value: Any) -> list[Any]:
    """Return the list that a value is, to be changed in place; raise TypeError."""
    held = value.change() if isinstance(value, Stored) else value
    if type(held) is not list:
        raise TypeError(f"extend_many: expected a list, not {kind_of(held)}")
    return cast("list[Any]", held)


class Dict(Nested, Generic[K, V], name="dict"):
    """A mapping of keys to values, in the order in which the keys were first set."""

    def __init__(self, items: Mapping[K, V] | Iterable[tuple[K, V]] = (), /, **more: V) -> None:
        self._items: dict[K, V] = dict(items)
        self._items.update(more)  # type: ignore[arg-type]  # pyright: ignore

    def _place(self, path: tuple[Any, ...], *, change: bool) -> Place:
        check_path(path)
        key = first_key(path)
        if len(path) == 1:
            return Place(self._items, key, None, path)
        if key not in self._items:
            raise KeyError(f"path {tuple(path)!r}, step 1 ({path[0]!r}): there is no such key")
        return walk_into(self._items[key], path, 1, change=change)

    @reads
    def get(self, key: K, default: D = None) -> V | D:  # type: ignore[assignment]
        """Return the value of `key`, or `default` if it is not there."""
        return self._items.get(key, default)

    @reads
    def get_item(self, key: K) -> V:
        """Return the value of `key`.

        Raises:
            KeyError: the key is not there.
        """
        return self._items[key]

    @writes
    def set(self, key: K, value: V) -> None:
        """Store `value` under `key`."""
        self._items[key] = value

    @writes
    def delete(self, key: K) -> None:
        """Remove `key`.

        Raises:
            KeyError: the key is not there.
        """
        del self._items[key]

    @reads
    def contains(self, key: K) -> bool:
        """Tell whether `key` is there."""
        return key in self._items

    @reads
    def length(self) -> int:
        """Return the number of keys."""
        return len(self._items)

    @reads
    def keys(self) -> list[K]:
        """Return all keys, in order."""
        return list(self._items)

    @reads
    def values(self) -> list[V]:
        """Return all values, in the order of the keys."""
        return list(self._items.values())

    @reads
    def items(self) -> list[tuple[K, V]]:
        """Return all pairs of key and value, in order."""
        return list(self._items.items())

    @reads
    def copy(self) -> dict[K, V]:
        """Return a plain dict with the same items."""
        return dict(self._items)

    @writes
    def pop(self, key: K, default: N = NO_DEFAULT) -> V | N:
        """Remove `key` and return its value, or `default` if it is given and `key` not there.

        Raises:
            KeyError: the key is not there and no default was given.
        """
        if default is MISSING:
            return self._items.pop(key)
        return self._items.pop(key, default)

    @pop.put_back
    def _put_back(self, value: V, key: K, _default: Any = None) -> None:
        self._items[key] = value

    @writes
    def popitem(self) -> tuple[K, V]:
        """Remove the key that was set last and return it with its value.

        Raises:
            KeyError: the dict is empty.
        """
        return self._items.popitem()

    @popitem.put_back
    def _put_item_back(self, item: tuple[K, V]) -> None:
        key, value = item
        self._items[key] = value

    @writes
    def setdefault(self, key: K, default: V = None) -> V:  # type: ignore[assignment]
        """Return the value of `key`, which is set to `default` first if it is not there."""
        return self._items.setdefault(key, default)

    @writes
    def update(self, items: Mapping[K, V] | Iterable[tuple[K, V]] = (), /, **more: V) -> None:
        """Set many keys at once, from a mapping or pairs, and from named arguments."""
        self._items.update(items)
        self._items.update(more)  # type: ignore[arg-type]  # pyright: ignore

    @writes
    def clear(self) -> None:
        """Remove all keys."""
        self._items.clear()

    @reads
    def get_many(self, keys: Iterable[K]) -> dict[K, V]:
        """Return those of `keys` that are there, with their values."""
        items = self._items
        return {key: items[key] for key in keys if key in items}

    @writes
    def delete_many(self, keys: Iterable[K]) -> int:
        """Remove those of `keys` that are there and return how many there were."""
        items = self._items
        before = len(items)
        for key in keys:
            items.pop(key, None)
        return before - len(items)

    @writes
    def pop_many(self, keys: Iterable[K]) -> dict[K, V]:
        """Remove those of `keys` that are there and return them with their values."""
        items = self._items
        return {key: items.pop(key) for key in keys if key in items}

    @pop_many.put_back
    def _put_many_back(self, found: dict[K, V], _keys: Iterable[K]) -> None:
        self._items.update(found)

    @writes
    def increment(self, key: K, amount: Number = 1) -> V:
        """Add `amount` to the number under `key` and return the sum; a missing key counts as 0.

        Raises:
            TypeError: the value is not a number.
        """
        items: dict[Any, Any] = self._items
        total: Any = add(items[key], amount, "increment") if key in items else amount
        items[key] = total
        return total  # type: ignore[no-any-return]

    @writes
    def increment_many(self, amounts: Mapping[K, Number]) -> dict[K, V]:
        """Add to the numbers under many keys in one step and return the sums; see `increment`.

        Raises:
            TypeError: one of the values is not a number; nothing was changed.
        """
        items: dict[K, Any] = self._items
        totals: dict[K, Any] = {
            key: add(items[key], amount, "increment_many") if key in items else amount
            for key, amount in amounts.items()
        }
        items.update(totals)
        return totals

    @writes
    def extend_many(self, lists: Mapping[K, V]) -> None:
        """Extend the lists under many keys in one step; a missing key gets the given list.

        Raises:
            TypeError: one of the values, there or given, is no list; nothing was changed.
        """
        items: dict[K, Any] = self._items
        held = {key: (items[key], _list_in(items[key])) for key in lists if key in items}
        for more in lists.values():
            _list_in(more)
        for key, more in lists.items():
            if key in held:
                root, target = held[key]
                target.extend(root.adopt(more) if isinstance(root, Stored) else opened(more))
            else:
                items[key] = more

    @writes
    def compare_and_set(self, key: K, expected: V | Missing, value: V | Missing) -> bool:
        """Set `key` to `value` if its value equals `expected`; tell whether it was set.

        MISSING as `expected` means that the key is not there; as `value` it removes the key.
        """
        items = self._items
        if key in items:
            if isinstance(expected, Missing) or expected != items[key]:
                return False
        elif not isinstance(expected, Missing):
            return False
        if not isinstance(value, Missing):
            items[key] = value
        else:
            items.pop(key, None)
        return True

    @compare_and_set.fallback
    def _compare_and_set(self, key: K, expected: Any, value: Any) -> Generator[Any, Any, bool]:
        tries = Tries("compare_and_set")
        while True:
            version, found = yield self.get_versioned(key)
            if not found or found[0] != expected:
                return False
            try:
                yield self.set_versioned(key, value, version)
            except VersionConflict:
                tries.again()
            else:
                return True

    @fresh
    @reads
    def get_versioned(self, key: K) -> tuple[bytes, list[V]]:
        """Return the version of the value of `key`, and the value in a list.

        The version is empty, and the list, if the key is not there. Equal versions are those of
        equal values: one that was changed and changed back has its old version again.
        """
        items = self._items
        return (version_of(items[key]), [items[key]]) if key in items else (b"", [])

    @writes
    def set_versioned(self, key: K, value: V | Missing, version: bytes) -> None:
        """Set `key`, or remove it for MISSING, if its value still has this version.

        Raises:
            VersionConflict: the value has changed since; other keys do not matter.
        """
        items = self._items
        if version != (version_of(items[key]) if key in items else b""):
            raise VersionConflict("the value of the key has changed since it had this version")
        if isinstance(value, Missing):
            items.pop(key, None)
        else:
            items[key] = value

    @composite
    def update_item(
        self, key: K, change: Callable[[V], V], default: V = None,  # type: ignore[assignment]
    ) -> Generator[Any, Any, V]:  # fmt: skip
        """Set `key` to `change(its value)` and return that; `default` stands for a missing one.

        `change` is called in the client, again whenever the value of this very key was changed
        meanwhile. It may use the dict, but not write to this key itself.

        Raises:
            VersionConflict: that happened a thousand times in a row.
        """
        tries = Tries("update_item")
        while True:
            version, found = yield self.get_versioned(key)
            value = change(found[0] if found else default)
            try:
                yield self.set_versioned(key, value, version)
            except VersionConflict:
                tries.again()
            else:
                return value

    @reads
    def get_state(self, version: int = -1) -> tuple[int, list[tuple[K, V]] | None]:
        """Return the dict's version and all items; None for them if it still has `version`."""
        return self.version, None if version == self.version else list(self._items.items())

    def _set_state(self, items: list[tuple[K, V]]) -> None:
        """Be what `get_state` returned."""
        self._items = dict(items)

    # What stands where, for live views

    @get_item.live
    def _live_get_item(self, put: Put, key: Any) -> Any:
        return put((key,), self.get_item(key))

    @get.live
    def _live_get(self, put: Put, key: Any, default: Any = None) -> Any:
        value: Any = self.get(key, default)
        return value if value is default else put((key,), value)

    @setdefault.live
    def _live_setdefault(self, put: Put, key: Any, default: Any = None) -> Any:
        return put((key,), self.setdefault(key, default))

    @items.live
    def _live_items(self, put: Put) -> list[Any]:
        return [(key, put((key,), value)) for key, value in self.items()]

    @values.live
    def _live_values(self, put: Put) -> list[Any]:
        return [put((key,), value) for key, value in self.items()]

    @copy.live
    def _live_copy(self, put: Put) -> dict[Any, Any]:
        return {key: put((key,), value) for key, value in self.items()}

    @get_many.live
    def _live_get_many(self, put: Put, keys: Iterable[Any]) -> dict[Any, Any]:
        return {key: put((key,), value) for key, value in self.get_many(keys).items()}

    @set.live
    def _live_set(self, put: Put, key: Any, value: Any) -> None:
        if not assigned_back(value, cast("Any", self), key):
            self.set(key, value)


class DictProxy(AsyncViews, Dict[K, V]):
    """A shared dict for async code."""

    sync: "SyncDictProxy[K, V]"

    async def __aiter__(self) -> AsyncIterator[K]:
        """Iterate over the keys that are there when the iteration starts."""
        for key in await self.keys():
            yield key


class SyncDictProxy(SyncViews, Dict[K, V]):
    """A shared dict for blocking code, with the spelling of a plain one."""

    aio: "DictProxy[K, V]"

    if TYPE_CHECKING:
        # Said again as a method, for dict(d) and {**d}: pyright takes no operation for one there.
        def keys(self) -> list[K]: ...  # pyright: ignore[reportIncompatibleVariableOverride]

    def __getitem__(self, key: K) -> V:
        return self.get_item(key)

    def __setitem__(self, key: K, value: V) -> None:
        self.set(key, value)

    def __delitem__(self, key: K) -> None:
        self.delete(key)

    def __contains__(self, key: K) -> bool:
        return self.contains(key)

    def __len__(self) -> int:
        return self.length()

    def __iter__(self) -> Iterator[K]:
        return iter(self.keys())

    def __reversed__(self) -> Iterator[K]:
        return reversed(self.keys())

    def __or__(self, other: "dict[K, V] | SyncDictProxy[K, V]") -> dict[K, V]:
        return self.copy().__or__(plain_copy(other))

    def __ror__(self, other: dict[K, V]) -> dict[K, V]:
        return self.copy().__ror__(other)

    def __ior__(self, other: "Mapping[K, V] | SyncDictProxy[K, V] | Iterable[tuple[K, V]]") -> Self:
        self.update(cast("Mapping[K, V]", other))
        return self

    @staticmethod
    def fromkeys(keys: Iterable[K], value: Any = None, /) -> dict[K, Any]:
        """Return a plain dict of `keys`, each with `value`, as `dict.fromkeys`."""
        return dict.fromkeys(keys, value)


# As the standard library does from 3.14 on.
MutableMapping.register(SyncDictProxy)  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue]


class DictFactory(AsyncFactory):
    """Makes anonymous dicts for async code."""

    @overload
    def dict(self, /) -> Coroutine[Any, Any, DictProxy[Any, Any]]: ...
    @overload
    def dict(self, /, **more: V) -> Coroutine[Any, Any, DictProxy[str, V]]: ...
    @overload
    def dict(
        self, items: Mapping[K, V] | Iterable[tuple[K, V]], /, **more: V
    ) -> Coroutine[Any, Any, DictProxy[K, V]]: ...
    def dict(
        self, items: Mapping[Any, Any] | Iterable[tuple[Any, Any]] = (), /, **more: Any
    ) -> Coroutine[Any, Any, DictProxy[Any, Any]]:
        """Make a shared dict."""
        return self._make(DictProxy, None, (items,), more)


class NamedDictFactory(AsyncFactory):
    """Finds or makes named dicts for async code."""

    @overload
    def dict(self, name: str, /) -> Coroutine[Any, Any, DictProxy[Any, Any]]: ...
    @overload
    def dict(self, name: str, /, **more: V) -> Coroutine[Any, Any, DictProxy[str, V]]: ...
    @overload
    def dict(
        self, name: str, items: Mapping[K, V] | Iterable[tuple[K, V]], /, **more: V
    ) -> Coroutine[Any, Any, DictProxy[K, V]]: ...
    def dict(
        self, name: str, items: Mapping[Any, Any] | Iterable[tuple[Any, Any]] = (), /, **more: Any
    ) -> Coroutine[Any, Any, DictProxy[Any, Any]]:
        """Find or make the shared dict of this name; the items count for its maker only."""
        return self._make(DictProxy, name, (items,), more)


class SyncDictFactory(SyncFactory):
    """Makes anonymous dicts for blocking code."""

    @overload
    def dict(self, /) -> SyncDictProxy[Any, Any]: ...
    @overload
    def dict(self, /, **more: V) -> SyncDictProxy[str, V]: ...
    @overload
    def dict(
        self, items: Mapping[K, V] | Iterable[tuple[K, V]], /, **more: V
    ) -> SyncDictProxy[K, V]: ...
    def dict(
        self, items: Mapping[Any, Any] | Iterable[tuple[Any, Any]] = (), /, **more: Any
    ) -> SyncDictProxy[Any, Any]:
        """Make a shared dict."""
        return self._make(SyncDictProxy, None, (items,), more)  # type: ignore[no-any-return]


class SyncNamedDictFactory(SyncFactory):
    """Finds or makes named dicts for blocking code."""

    @overload
    def dict(self, name: str, /) -> SyncDictProxy[Any, Any]: ...
    @overload
    def dict(self, name: str, /, **more: V) -> SyncDictProxy[str, V]: ...
    @overload
    def dict(
        self, name: str, items: Mapping[K, V] | Iterable[tuple[K, V]], /, **more: V
    ) -> SyncDictProxy[K, V]: ...
    def dict(
        self, name: str, items: Mapping[Any, Any] | Iterable[tuple[Any, Any]] = (), /, **more: Any
    ) -> SyncDictProxy[Any, Any]:
        """Find or make the shared dict of this name; the items count for its maker only."""
        return self._make(SyncDictProxy, name, (items,), more)  # type: ignore[no-any-return]
