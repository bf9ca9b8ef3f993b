"""The shared Namespace: its operations, its proxies and its factories.

The blocking proxy is the one proxy without public methods: each public name on it is an attribute
of the shared object. `operations(namespace)` gives the methods.
"""

from collections.abc import Coroutine, Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, cast

from aiomanager.errors import VersionConflict
from aiomanager.objects.live import assigned_back
from aiomanager.objects.nested import Nested, Place, Put, add, check_path, walk_into
from aiomanager.objects.tries import Tries
from aiomanager.objects.views import AsyncViews, SyncViews
from aiomanager.operation import Number, Opaque, composite, fresh, reads, writes
from aiomanager.proxy import AsyncFactory, CannotBeAwaited, SyncFactory, SyncProxy
from aiomanager.stored import MISSING, Missing, version_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Never

    from typing_extensions import TypeVar

    D = TypeVar("D", default=Never)
    NO_DEFAULT: Never = cast("Never", MISSING)
else:
    from typing import TypeVar

    D = TypeVar("D")
    NO_DEFAULT = MISSING

__all__ = (
    "Namespace",
    "NamespaceProxy",
    "SyncNamespaceOperations",
    "SyncNamespaceProxy",
    "operations",
)


class Namespace(Nested):
    """Values under the names of attributes."""

    def __init__(
        self, values: Mapping[str, Opaque] | Iterable[tuple[str, Opaque]] = (), /, **more: Opaque
    ) -> None:
        self._values: dict[str, Any] = {**dict(values), **more}

    def _place(self, path: tuple[Any, ...], *, change: bool) -> Place:
        check_path(path)
        name = path[0]
        if not isinstance(name, str):
            raise TypeError(
                f"path {tuple(path)!r}, step 1 ({name!r}): the name of an attribute is a str, "
                f"not {type(name).__name__}"
            )
        if len(path) == 1:
            return Place(self._values, name, None, path)
        if name not in self._values:
            raise KeyError(f"path {tuple(path)!r}, step 1 ({name!r}): there is no such attribute")
        return walk_into(self._values[name], path, 1, change=change)

    @reads
    def get(self, name: str, default: D = NO_DEFAULT) -> Opaque | D:
        """Return the value of an attribute, or `default`, when given, if it is not there.

        Raises:
            AttributeError: it is not there and no default was given.
        """
        if name not in self._values and default is MISSING:
            raise _missing(name)
        return self._values.get(name, default)

    @writes
    def set(self, name: str, value: Opaque) -> None:
        """Set an attribute."""
        self._values[name] = value

    @writes
    def delete(self, name: str) -> None:
        """Remove an attribute.

        Raises:
            AttributeError: it is not there.
        """
        if name not in self._values:
            raise _missing(name)
        del self._values[name]

    @reads
    def contains(self, name: str) -> bool:
        """Tell whether there is such an attribute."""
        return name in self._values

    @reads
    def names(self) -> list[str]:
        """Return the names of all attributes, in the order in which they were first set."""
        return list(self._values)

    @reads
    def items(self) -> list[tuple[str, Opaque]]:
        """Return all pairs of name and value, in the order of the names."""
        return list(self._values.items())

    @reads
    def copy(self) -> dict[str, Opaque]:
        """Return a plain dict of all attributes."""
        return dict(self._values)

    @writes
    def update(
        self, values: Mapping[str, Opaque] | Iterable[tuple[str, Opaque]] = (), /, **more: Opaque
    ) -> None:
        """Set many attributes in one step, from a mapping or pairs, and from named arguments."""
        self._values.update(values)
        self._values.update(more)

    @writes
    def clear(self) -> None:
        """Remove all attributes."""
        self._values.clear()

    @writes
    def increment(self, name: str, amount: Number = 1) -> Opaque:
        """Add `amount` to a number and return the sum; a missing attribute counts as 0.

        Raises:
            TypeError: the value is not a number.
        """
        values = self._values
        total: Any = add(values[name], amount, "increment") if name in values else amount
        values[name] = total
        return total

    @writes
    def compare_and_set(
        self, name: str, expected: Opaque | Missing, value: Opaque | Missing
    ) -> bool:
        """Set an attribute to `value` if its value equals `expected`; tell whether it was set.

        MISSING as `expected` means that it is not there; as `value` it removes the attribute.
        """
        values = self._values
        if name in values:
            if isinstance(expected, Missing) or expected != values[name]:
                return False
        elif not isinstance(expected, Missing):
            return False
        if not isinstance(value, Missing):
            values[name] = value
        else:
            values.pop(name, None)
        return True

    @compare_and_set.fallback
    def _compare_and_set(self, name: str, expected: Any, value: Any) -> Generator[Any, Any, bool]:
        tries = Tries("compare_and_set")
        while True:
            version, found = yield self.get_versioned(name)
            if not found or found[0] != expected:
                return False
            try:
                yield self.set_versioned(name, value, version)
            except VersionConflict:
                tries.again()
            else:
                return True

    @fresh
    @reads
    def get_versioned(self, name: str) -> tuple[bytes, list[Opaque]]:
        """Return the version of an attribute's value, and the value in a list.

        The version is empty, and the list, if there is no such attribute. Equal versions are those
        of equal values: one that was changed and changed back has its old version again.
        """
        values = self._values
        return (version_of(values[name]), [values[name]]) if name in values else (b"", [])

    @writes
    def set_versioned(self, name: str, value: Opaque | Missing, version: bytes) -> None:
        """Set an attribute, or remove it for MISSING, if its value still has this version.

        Raises:
            VersionConflict: the value has changed since; other attributes do not matter.
        """
        values = self._values
        if version != (version_of(values[name]) if name in values else b""):
            raise VersionConflict("the attribute has changed since it had this version")
        if isinstance(value, Missing):
            values.pop(name, None)
        else:
            values[name] = value

    @composite
    def update_item(
        self, name: str, change: "Callable[[Any], Any]", default: Any = None
    ) -> Generator[Any, Any, Any]:
        """Set an attribute to `change(its value)` and return that; `default` is a missing one's.

        `change` is called in the client, again whenever this very attribute was changed meanwhile.
        It may use the namespace, but not set this attribute itself.

        Raises:
            VersionConflict: that happened a thousand times in a row.
        """
        tries = Tries("update_item")
        while True:
            version, found = yield self.get_versioned(name)
            value = change(found[0] if found else default)
            try:
                yield self.set_versioned(name, value, version)
            except VersionConflict:
                tries.again()
            else:
                return value

    @reads
    def get_state(self, version: int = -1) -> tuple[int, list[tuple[str, Opaque]] | None]:
        """Return the version and all attributes; None for them if it still has `version`."""
        return self.version, None if version == self.version else list(self._values.items())

    def _set_state(self, values: list[tuple[str, Any]]) -> None:
        """Be what `get_state` returned."""
        self._values = dict(values)

    # What stands where, for live views

    @get.live
    def _live_get(self, put: Put, name: str, *default: Any) -> Any:
        value: Any = self.get(name, *default)
        return value if default and value is default[0] else put((name,), value)

    @items.live
    def _live_items(self, put: Put) -> list[Any]:
        return [(name, put((name,), value)) for name, value in self.items()]

    @copy.live
    def _live_copy(self, put: Put) -> dict[str, Any]:
        return {name: put((name,), value) for name, value in self.items()}

    @set.live
    def _live_set(self, put: Put, name: str, value: Any) -> None:
        if not assigned_back(value, cast("Any", self), name):
            self.set(name, value)


def _missing(name: str) -> AttributeError:
    return AttributeError(f"'Namespace' object has no attribute {name!r}")


class NamespaceProxy(AsyncViews, Namespace):
    """A shared namespace for async code: `await namespace.get("x")`."""

    sync: "SyncNamespaceProxy"

    if not TYPE_CHECKING:  # type checkers find the mistake without these

        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("_"):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            raise CannotBeAwaited(
                f"namespace.{name} cannot be awaited, and {type(self).__name__} is an async proxy. "
                f"Use 'await namespace.get({name!r})', or 'namespace.sync.{name}'"
            )

        def __setattr__(self, name: str, value: object) -> None:
            if name.startswith("_"):
                return object.__setattr__(self, name, value)
            raise TypeError(
                f"namespace.{name} = ... cannot be awaited, and {type(self).__name__} is an async "
                f"proxy. Use 'await namespace.set({name!r}, ...)', or 'namespace.sync.{name} = ...'"
            )

        def __delattr__(self, name: str) -> None:
            if name.startswith("_"):
                return object.__delattr__(self, name)
            raise TypeError(
                f"del namespace.{name} cannot be awaited, and {type(self).__name__} is an async "
                f"proxy. Use 'await namespace.delete({name!r})', or 'del namespace.sync.{name}'"
            )


class SyncNamespaceProxy(SyncProxy, shared=Namespace):
    """A shared namespace for blocking code: `namespace.x = 1`.

    Every public name is an attribute of the shared namespace, so there are no methods: see
    `operations`. Names that begin with an underscore belong to the proxy itself.
    """

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_"):
            return object.__getattribute__(self, name)
        return self._call(self, Namespace.get, (name,))

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            object.__setattr__(self, name, value)
        else:
            self._call(self, Namespace.set, (name, value))

    def __delattr__(self, name: str) -> None:
        if name.startswith("_"):
            object.__delattr__(self, name)
        else:
            self._call(self, Namespace.delete, (name,))


class SyncNamespaceOperations(SyncViews, Namespace):
    """The operations of a shared namespace for blocking code, as plain methods."""

    aio: "NamespaceProxy"


def operations(namespace: SyncNamespaceProxy, /) -> SyncNamespaceOperations:
    """Return what has the operations of `namespace` as methods, without I/O.

    A blocking namespace has attributes only: `namespace.increment` would be one, so it is
    `operations(namespace).increment("hits")`.
    """
    return SyncNamespaceOperations(namespace._channel, namespace._reference)  # pyright: ignore[reportPrivateUsage]


class NamespaceFactory(AsyncFactory):
    """Makes anonymous namespaces for async code."""

    def Namespace(self, /, **values: Any) -> Coroutine[Any, Any, NamespaceProxy]:  # noqa: N802
        """Make a shared namespace with these attributes."""
        return self._make(NamespaceProxy, None, (), values)


class NamedNamespaceFactory(AsyncFactory):
    """Finds or makes named namespaces for async code."""

    def Namespace(  # noqa: N802
        self, name: str, /, **values: Any
    ) -> Coroutine[Any, Any, NamespaceProxy]:
        """Find or make the shared namespace of this name; the values count for its maker only."""
        return self._make(NamespaceProxy, name, (), values)


class SyncNamespaceFactory(SyncFactory):
    """Makes anonymous namespaces for blocking code."""

    def Namespace(self, /, **values: Any) -> SyncNamespaceProxy:  # noqa: N802
        """Make a shared namespace with these attributes."""
        return self._make(SyncNamespaceProxy, None, (), values)  # type: ignore[no-any-return]


class SyncNamedNamespaceFactory(SyncFactory):
    """Finds or makes named namespaces for blocking code."""

    def Namespace(self, name: str, /, **values: Any) -> SyncNamespaceProxy:  # noqa: N802
        """Find or make the shared namespace of this name; the values count for its maker only."""
        return self._make(SyncNamespaceProxy, name, (), values)  # type: ignore[no-any-return]
