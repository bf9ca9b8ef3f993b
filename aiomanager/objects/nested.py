"""Operations that reach inside a value along a path, shared by dict, list and Value.

A path is a tuple of steps: keys of dicts and positions in lists, never an attribute. Each
operation walks and changes in one step on the server, so nobody has to read, change and write
back. A failed step changes nothing and is named in the error.
"""

from typing import TYPE_CHECKING, Any, NoReturn, cast

from aiomanager.errors import TooLarge
from aiomanager.operation import Opaque, SharedObject, Step, reads, writes
from aiomanager.stored import MISSING, Missing, Stored, as_held, opened

if TYPE_CHECKING:
    from typing import Never

    from typing_extensions import TypeVar

    D = TypeVar("D", default=Never)
    NO_DEFAULT: Never = cast("Never", MISSING)
else:
    from typing import TypeVar

    D = TypeVar("D")
    NO_DEFAULT = MISSING

__all__ = ("MAX_STEPS", "Nested", "Place", "add", "check_path", "walk", "walk_into")

MAX_STEPS = 64
MAX_LEVELS = 100
"""How deep the containers of one value may be nested; the codec of values takes no more."""


class Place:
    """Where a path leads: a container, the last step, and the stored value around both."""

    __slots__ = ("container", "level", "path", "root", "step")

    def __init__(
        self,
        container: Any,
        step: Any,
        root: Stored | None,
        path: tuple[Any, ...],
        level: int = 0,
    ) -> None:
        self.container = container
        self.step = step
        self.root = root
        """The stored value that the container lies in; None: the shared object itself."""
        self.path = path
        self.level = level
        """How many containers there are from the stored value down to this one, it included."""

    def get(self) -> Any:
        try:
            return self.container[self.step]
        except (KeyError, IndexError):
            _missing(self.path, len(self.path) - 1, self.container)

    def there(self) -> bool:
        if isinstance(self.container, dict):
            return self.step in self.container  # pyright: ignore[reportUnknownMemberType]
        return -len(self.container) <= self.step < len(self.container)  # type: ignore[no-any-return]

    def put(self, value: Any) -> None:
        value = self.adopted(value, self.level)
        try:
            self.container[self.step] = value
        except IndexError:
            _missing(self.path, len(self.path) - 1, self.container)

    def adopted(self, value: Any, level: int) -> Any:
        """Return `value` as what `level` containers of the stored value can take in."""
        if self.root is None:
            return value
        part = self.root.adopt(value)
        if _deeper(part, MAX_LEVELS - level):
            raise TooLarge(f"the value would be nested more than {MAX_LEVELS} levels deep")
        return part

    def delete(self) -> None:
        try:
            del self.container[self.step]
        except (KeyError, IndexError):
            _missing(self.path, len(self.path) - 1, self.container)


_CONTAINERS = frozenset({dict, list, tuple, set, frozenset})


def _deeper(value: Any, levels: int) -> bool:
    """Tell whether containers are nested in `value` more than `levels` deep."""
    kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
    if kind not in _CONTAINERS:
        return False
    if levels <= 0:
        return True
    items = (*value, *value.values()) if kind is dict else value
    return any(_deeper(item, levels - 1) for item in items)


def _missing(path: tuple[Any, ...], position: int, container: Any) -> NoReturn:
    where = f"path {tuple(path)!r}, step {position + 1} ({path[position]!r})"
    if isinstance(container, dict):
        raise KeyError(f"{where}: there is no such key")
    raise IndexError(f"{where}: the list has {len(container)} items")


def _check(container: Any, path: tuple[Any, ...], position: int) -> None:
    """Raise TypeError unless `container` can be reached into by the step at `position`."""
    step = path[position]
    where = f"path {tuple(path)!r}, step {position + 1} ({step!r})"
    if type(container) is list:
        if type(step) is not int:
            raise TypeError(f"{where}: a list position must be an int, not {type(step).__name__}")
    elif type(container) is not dict:
        raise TypeError(
            f"{where}: reaches into a value of type {type(container).__name__}; "
            "a path leads through dicts and lists only"
        )


def walk(container: Any, path: tuple[Any, ...], start: int, root: Stored | None) -> Place:
    """Follow `path` from its step number `start` on and return where it ends."""
    last = len(path) - 1
    for position in range(start, last):
        _check(container, path, position)
        try:
            container = container[path[position]]
        except (KeyError, IndexError):
            _missing(path, position, container)
    _check(container, path, last)
    return Place(container, path[last], root, path, last - start + 1)


def walk_into(value: Any, path: tuple[Any, ...], start: int, *, change: bool) -> Place:
    """Open a held value and follow the rest of a path inside it."""
    if isinstance(value, Stored):
        return walk(value.change() if change else value.open(), path, start, value)
    return walk(value, path, start, None)


def add(current: Any, amount: float, where: str) -> Any:
    """Return the sum; raise TypeError when `current` is not a number."""
    value = opened(current)
    if isinstance(value, (str, bytes, list, tuple, dict, set, frozenset)) or value is None:
        raise TypeError(f"{where}: cannot add to a value of type {type(value).__name__}")  # pyright: ignore[reportUnknownArgumentType]
    return value + amount


def check_path(path: tuple[Any, ...]) -> None:
    """Raise ValueError or TooLarge for a path that leads nowhere or too deep."""
    if not path:
        raise ValueError("the path is empty: give at least one step, such as ('row', 7)")
    if len(path) > MAX_STEPS:
        raise TooLarge(f"the path has {len(path)} steps; at most {MAX_STEPS} are allowed")


class Nested(SharedObject):
    """The operations along a path, for every type that holds values."""

    def _place(self, path: tuple[Any, ...], *, change: bool) -> Place:
        """Return where `path` leads in this object."""
        raise NotImplementedError

    @reads
    def get_nested(self, path: tuple[Step, ...], default: D = NO_DEFAULT) -> Opaque | D:
        """Return the value at `path`, or `default`, when given, if a step is missing.

        Raises:
            KeyError, IndexError: a step is not there; the message names it.
            TypeError: a step reaches into something that is no dict or list.
        """
        try:
            return self._place(path, change=False).get()
        except (KeyError, IndexError):
            if default is MISSING:
                raise
            return default

    @reads
    def contains_nested(self, path: tuple[Step, ...]) -> bool:
        """Tell whether `path` leads to a value."""
        try:
            return self._place(path, change=False).there()
        except (KeyError, IndexError):
            return False

    @writes
    def update_nested(self, path: tuple[Step, ...], value: Opaque) -> None:
        """Set the value at `path`; all steps but the last must be there.

        Raises:
            KeyError, IndexError: a step on the way is not there; the message names it.
            TypeError: a step reaches into something that is no dict or list.
        """
        self._place(path, change=True).put(value)

    @writes
    def setdefault_nested(self, path: tuple[Step, ...], value: Opaque) -> Opaque:
        """Return the value at `path`, which is set to `value` first if the last step is missing.

        Raises:
            KeyError, IndexError, TypeError: as update_nested.
        """
        place = self._place(path, change=True)
        if not place.there():
            place.put(value)
        return place.get()

    @writes
    def delete_nested(self, path: tuple[Step, ...]) -> None:
        """Remove the key or list position at `path`.

        Raises:
            KeyError, IndexError, TypeError: as get_nested.
        """
        self._place(path, change=True).delete()

    @writes
    def pop_nested(self, path: tuple[Step, ...], default: D = NO_DEFAULT) -> Opaque | D:
        """Remove the key or list position at `path` and return its value, else `default`.

        Raises:
            KeyError, IndexError, TypeError: as get_nested.
        """
        try:
            place = self._place(path, change=True)
            value = place.get()
        except (KeyError, IndexError):
            if default is MISSING:
                raise
            return default
        # Packed before it leaves its root, which holds what it refers to.
        place.delete()
        return value

    @writes
    def increment_nested(self, path: tuple[Step, ...], amount: int | float = 1) -> Opaque:
        """Add `amount` to the number at `path` and return the sum; a missing key counts as 0.

        Raises:
            KeyError, IndexError, TypeError: as update_nested; TypeError also for no number.
        """
        place = self._place(path, change=True)
        if isinstance(place.container, dict) and not place.there():
            total: Any = amount
        else:
            total = add(place.get(), amount, f"path {tuple(path)!r}")
        place.put(total)
        return total

    @writes
    def append_nested(self, path: tuple[Step, ...], value: Opaque) -> int:
        """Append `value` to the list at `path` and return the list's new length.

        A missing last key becomes a new list.

        Raises:
            KeyError, IndexError, TypeError: as update_nested; TypeError also for no list.
        """
        place = inner = self._place(path, change=True)
        missing = isinstance(place.container, dict) and not place.there()
        if missing:
            held: Any = [] if place.root is not None else as_held([], path)
        else:
            held = place.get()
        target = held
        if isinstance(held, Stored):
            target = held.change()
            inner = Place(target, None, held, path)
        if type(target) is not list:
            raise TypeError(f"path {tuple(path)!r}: is no list but a {type(target).__name__}")
        target.append(inner.adopted(value, inner.level + 1))  # pyright: ignore[reportUnknownMemberType]
        if missing:
            place.container[place.step] = held  # pyright: ignore[reportUnknownMemberType]
        return len(target)  # pyright: ignore[reportUnknownArgumentType]

    @writes
    def compare_and_set_nested(
        self, path: tuple[Step, ...], expected: Opaque | Missing, value: Opaque | Missing
    ) -> bool:
        """Set the value at `path` if it equals `expected`; tell whether it was set.

        MISSING as `expected` means that the last step is not there; as `value` it deletes.

        Raises:
            KeyError, IndexError, TypeError: as update_nested.
        """
        place = self._place(path, change=True)
        if not place.there():
            if expected is not MISSING:
                return False
        elif expected is MISSING or expected != place.get():
            return False
        if value is not MISSING:
            place.put(value)
        elif place.there():
            place.delete()
        return True
