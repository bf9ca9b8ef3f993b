"""The shared Value: one value, its operations, its two proxies and its factories."""

from collections.abc import Coroutine, Generator
from typing import TYPE_CHECKING, Any, Generic, cast

from aiomanager.errors import VersionConflict
from aiomanager.objects.live import assigned_back
from aiomanager.objects.nested import Nested, Place, Put, add, check_path, walk_into
from aiomanager.objects.tries import Tries
from aiomanager.objects.views import AsyncViews, SyncViews
from aiomanager.operation import Number, V, composite, fresh, reads, writes
from aiomanager.proxy import AsyncFactory, SyncFactory, unawaitable_attribute
from aiomanager.stored import Stored, version_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("SyncValueProxy", "Value", "ValueProxy")


class Value(Nested, Generic[V]):
    """One value; the type code is kept for the stdlib's sake and means nothing."""

    def __init__(self, typecode: object, value: V, lock: object = True, /) -> None:
        del lock
        self._typecode = typecode
        self._value = value

    def _place(self, path: tuple[Any, ...], *, change: bool) -> Place:
        check_path(path)
        return walk_into(self._value, path, 0, change=change)

    def _found(self, path: tuple[Any, ...], *, change: bool) -> tuple[Any, Stored | None, int]:
        return super()._found(path, change=change) if path else (self._value, None, 0)

    def _part(self, path: tuple[Any, ...], *, change: bool) -> list[Any]:
        return super()._part(path, change=change) if path else [self._value]

    def _replace(self, path: tuple[Any, ...], value: Any) -> None:
        if path:
            super()._replace(path, value)
        else:
            self._value = value

    @reads
    def typecode(self) -> object:
        """Return the type code that the value was made with."""
        return self._typecode

    @reads
    def get(self) -> V:
        """Return the value."""
        return self._value

    @writes
    def set(self, value: V) -> None:
        """Replace the value."""
        self._value = value

    @writes
    def exchange(self, value: V) -> V:
        """Replace the value and return the old one."""
        old, self._value = self._value, value
        return old

    @writes
    def increment(self, amount: Number = 1) -> V:
        """Add `amount` to the value and return the sum.

        Raises:
            TypeError: the value is not a number.
        """
        self._value = add(self._value, amount, "increment")
        return self._value

    @writes
    def compare_and_set(self, expected: V, value: V) -> bool:
        """Replace the value if it equals `expected`; tell whether it was replaced."""
        if expected != self._value:
            return False
        self._value = value
        return True

    @compare_and_set.fallback
    def _compare_and_set(self, expected: Any, value: Any) -> Generator[Any, Any, bool]:
        tries = Tries("compare_and_set")
        while True:
            version, current = yield self.get_versioned()
            if current != expected:
                return False
            try:
                yield self.set_versioned(value, version)
            except VersionConflict:
                tries.again()
            else:
                return True

    @fresh
    @reads
    def get_versioned(self) -> tuple[bytes, V]:
        """Return the value's version and the value.

        Equal versions are those of equal values: one that was changed and changed back has its old
        version again.
        """
        return version_of(self._value), self._value

    @writes
    def set_versioned(self, value: V, version: bytes) -> None:
        """Replace the value if it still has this version.

        Raises:
            VersionConflict: the value has changed since.
        """
        if version != version_of(self._value):
            raise VersionConflict("the value has changed since it had this version")
        self._value = value

    @composite
    def update(self, change: "Callable[[V], V]") -> Generator[Any, Any, V]:
        """Replace the value by `change(value)` and return that.

        `change` is called in the client, again whenever the value was changed meanwhile. It must
        not set the value itself.

        Raises:
            VersionConflict: that happened a thousand times in a row.
        """
        tries = Tries("update")
        while True:
            version, current = yield self.get_versioned()
            value = change(current)
            try:
                yield self.set_versioned(value, version)
            except VersionConflict:
                tries.again()
            else:
                return value

    @reads
    def get_state(self, version: int = -1) -> tuple[int, list[object] | None]:
        """Return the version, and a list of type code and value; None if it has `version`."""
        return self.version, None if version == self.version else [self._typecode, self._value]

    def _set_state(self, state: list[Any]) -> None:
        """Be what `get_state` returned."""
        self._typecode, self._value = state

    @get.live
    def _live_get(self, put: Put) -> Any:
        return put((), self.get())

    @set.live
    def _live_set(self, put: Put, value: Any) -> None:
        if not assigned_back(value, cast("Any", self)):
            self.set(value)


class ValueProxy(AsyncViews, Value[V]):
    """A shared value for async code."""

    sync: "SyncValueProxy[V]"

    if not TYPE_CHECKING:  # type checkers find the mistake without it
        value = unawaitable_attribute("value", "get()", "set(...)")


class SyncValueProxy(SyncViews, Value[V]):
    """A shared value for blocking code."""

    aio: "ValueProxy[V]"

    @property
    def value(self) -> V:
        """The value; setting it sets the shared one."""
        return self.get()

    @value.setter
    def value(self, value: V) -> None:
        self.set(value)


class ValueFactory(AsyncFactory):
    """Makes anonymous values for async code."""

    def Value(  # noqa: N802
        self, typecode: object, value: V, lock: object = True
    ) -> Coroutine[Any, Any, ValueProxy[V]]:
        """Make a shared value; `typecode` and `lock` mean nothing, as in the stdlib."""
        return self._make(ValueProxy, None, (typecode, value), {})


class NamedValueFactory(AsyncFactory):
    """Finds or makes named values for async code."""

    def Value(  # noqa: N802
        self, name: str, /, typecode: object, value: V, lock: object = True
    ) -> Coroutine[Any, Any, ValueProxy[V]]:
        """Find or make the shared value of this name; `value` counts for its maker only."""
        return self._make(ValueProxy, name, (typecode, value), {})


class SyncValueFactory(SyncFactory):
    """Makes anonymous values for blocking code."""

    def Value(  # noqa: N802
        self, typecode: object, value: V, lock: object = True
    ) -> SyncValueProxy[V]:
        """Make a shared value; `typecode` and `lock` mean nothing, as in the stdlib."""
        return self._make(SyncValueProxy, None, (typecode, value), {})  # type: ignore[no-any-return]


class SyncNamedValueFactory(SyncFactory):
    """Finds or makes named values for blocking code."""

    def Value(  # noqa: N802
        self, name: str, /, typecode: object, value: V, lock: object = True
    ) -> SyncValueProxy[V]:
        """Find or make the shared value of this name; `value` counts for its maker only."""
        return self._make(SyncValueProxy, name, (typecode, value), {})  # type: ignore[no-any-return]
