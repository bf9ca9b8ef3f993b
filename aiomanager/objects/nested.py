"""Operations that reach inside a value along a path, shared by dict, list and Value.

A path is a tuple of steps: keys of dicts and positions in lists, never an attribute. Each
operation walks and changes in one step on the server, so nobody has to read, change and write
back. A failed step changes nothing and is named in the error.
"""

import copy
from collections.abc import Callable, Generator, Sequence, Sized
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias, cast

from aiomanager.errors import TooLarge, VersionConflict
from aiomanager.objects.tries import Tries
from aiomanager.operation import Number, Opaque, SharedObject, Step, composite, fresh, reads, writes
from aiomanager.stored import (
    MISSING,
    Missing,
    Path,
    Stored,
    as_held,
    comparable,
    is_closed,
    kind_of,
    may_refer,
    opened,
    size_of,
    version_of,
)

if TYPE_CHECKING:
    from typing import Never

    from typing_extensions import TypeVar

    D = TypeVar("D", default=Never)
    NO_DEFAULT: Never = cast("Never", MISSING)
else:
    from typing import TypeVar

    D = TypeVar("D")
    NO_DEFAULT = MISSING

__all__ = (
    "MAX_STEPS",
    "Nested",
    "Place",
    "Put",
    "add",
    "bounds_of",
    "check_path",
    "check_repetition",
    "index_of",
    "walk",
    "walk_into",
)

Put: TypeAlias = Callable[[tuple[Any, ...], Any], Any]
"""Makes a value that stands at a path a live node, if it is a dict or list."""

MAX_STEPS = 64
MAX_ITEMS = 10_000_000
"""How many items a list may be repeated to. One that has to be copied counts as ten."""
MAX_BYTES = 1 << 28
"""How many bytes a list may be repeated to, as it travels: more could not be read again."""
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
        lets_go = self.root is not None and self.there() and may_refer(self.get())
        try:
            self.container[self.step] = value
        except IndexError:
            _missing(self.path, len(self.path) - 1, self.container)
        if lets_go:
            cast("Stored", self.root).settle()

    def adopted(self, value: Any, level: int) -> Any:
        """Return `value` as what `level` containers of the stored value can take in."""
        if self.root is None:
            return value
        part = self.root.adopt(value)
        if _deeper(part, MAX_LEVELS - level):
            raise TooLarge(f"the value would be nested more than {MAX_LEVELS} levels deep")
        return part

    def delete(self) -> None:
        old = self.get()
        del self.container[self.step]
        if self.root is not None and may_refer(old):
            self.root.settle()


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
            f"{where}: a path leads through dicts and lists only, but this is {kind_of(container)}"
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


MAX_BITS = 1 << 16
"""How long the integers of a sum may be; the codec of values takes no longer ones."""
MAX_DIGITS = 4000
"""How many digits a decimal sum may have."""


def add(current: Any, amount: Any, where: str) -> Any:
    """Return the exact sum of a value and a number; but floats round, as they do.

    Raises:
        TypeError: `current` is not a number, or none that the other can be added to.
        OverflowError: the sum is larger, or longer, than a number may be.
        ValueError: there is no sum, as of two infinities.
    """
    if type(current) is int and type(amount) is int:
        total = current + amount
        if -(1 << 63) <= total < 1 << 63:
            return total
    value = opened(current)
    if isinstance(value, (str, bytes, list, tuple, dict, set, frozenset)) or value is None:
        raise TypeError(f"{where}: cannot add to {kind_of(value)}")
    if _is_decimal(value) or _is_decimal(amount):
        return _decimal_sum(value, amount, where)
    try:
        total = value + amount
    except TypeError:
        raise TypeError(
            f"{where}: cannot add a {type(amount).__name__} to a {type(value).__name__}"
        ) from None
    if type(total) is float:
        return total
    for part in (getattr(total, "numerator", 0), getattr(total, "denominator", 1)):
        if part.bit_length() > MAX_BITS:
            raise OverflowError(f"{where}: the sum has more than {MAX_BITS} bits")
    return total


def _is_decimal(value: Any) -> bool:
    # By its own method: to import the module takes longer than to start the blocking client.
    return hasattr(value, "as_tuple")


def _decimal_sum(value: Any, amount: Any, where: str) -> Any:
    """Add as Decimal does, but without rounding to the server's idea of a good precision."""
    from decimal import MAX_EMAX, MIN_EMIN, Context, Inexact, InvalidOperation, Overflow

    exact = Context(
        prec=MAX_DIGITS, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[Inexact, InvalidOperation, Overflow]
    )
    try:
        return exact.add(value, amount)
    except (Inexact, Overflow):
        raise OverflowError(f"{where}: the sum has more than {MAX_DIGITS} digits") from None
    except InvalidOperation:
        raise ValueError(f"{where}: {value} and {amount} have no sum") from None
    except TypeError:
        raise TypeError(
            f"{where}: cannot add a {type(amount).__name__} to a {type(value).__name__}"
        ) from None


def index_of(index: Any, kind: str) -> int:
    """Return a position as an int; raise TypeError or IndexError as a plain sequence does."""
    if type(index) is not int:
        if not hasattr(index, "__index__"):
            raise TypeError(
                f"{kind} indices must be integers or slices, not {type(index).__name__}"
            )
        index = int(index.__index__())
    if -_FAR <= index <= _FAR:
        return cast("int", index)
    raise IndexError(f"{kind} index out of range")


_FAR = (1 << 63) - 1
"""Beyond the end of every sequence, and the last that travels as an int."""


def bounds_of(part: slice) -> tuple[Any, Any, Any]:
    """Return the start, stop and step of a slice, where what is too far to travel is just far."""
    return _near(part.start), _near(part.stop), _near(part.step)


def _near(bound: Any) -> Any:
    if not hasattr(bound, "__index__"):
        return bound
    return max(-_FAR, min(bound.__index__(), _FAR))


def check_repetition(items: list[Any], count: int, where: str) -> None:
    """Raise TooLarge if a list that is repeated would take too much memory, or time.

    Everything else that grows has come in a message, which has a limit of its own.
    """
    if count > 1 and (
        _weight(items) * count > MAX_ITEMS or sum(map(size_of, items)) * count > MAX_BYTES
    ):
        raise TooLarge(
            f"{where}: {len(items)} items cannot be repeated {count} times: a list is repeated to "
            f"at most {MAX_ITEMS} numbers, a tenth of that of other values, and {MAX_BYTES} bytes"
        )


def _weight(items: Any) -> int:
    """Return how many items there are on all levels, in which what must be copied counts as ten."""
    if type(items) is dict:
        items = cast("dict[Any, Any]", items).values()
    return len(items) + sum(
        9 + (_weight(one) if type(one) in _CONTAINERS else 0)
        for one in items
        if type(one) not in _SCALARS
    )


_SCALARS = frozenset({type(None), bool, int, float, str, bytes})


def check_path(path: tuple[Any, ...]) -> None:
    """Raise ValueError or TooLarge for a path that leads nowhere or too deep."""
    if not path:
        raise ValueError("the path is empty: give at least one step, such as ('row', 7)")
    if len(path) > MAX_STEPS:
        raise TooLarge(f"the path has {len(path)} steps; at most {MAX_STEPS} are allowed")


class Target:
    """A dict or list at the end of a path, to be changed in place as a whole."""

    __slots__ = ("items", "level", "path", "root")

    def __init__(
        self, items: Any, path: tuple[Any, ...], root: Stored | None = None, level: int = 0
    ) -> None:
        self.items = items
        self.path = path
        self.root = root
        """The stored value that it lies in; None: values are Python's own here."""
        self.level = level
        """How many containers of the stored value are around it."""

    def __str__(self) -> str:
        return f"path {tuple(self.path)!r}"

    def taken(self, value: Any) -> Any:
        """Return a value to be put into it."""
        return Place(None, None, self.root, self.path).adopted(value, self.level + 1)

    def all_taken(self, values: Any) -> Any:
        """Return the items of a value that is a container like this one, to be put into it."""
        kind = cast("Any", type(self.items))
        items = opened(values) if self.root is None else self.root.adopt(values)
        if type(items) is not kind:
            raise TypeError(f"{self}: expected a {kind.__name__}, not {kind_of(items)}")
        if _deeper(items, MAX_LEVELS - self.level):
            raise TooLarge(f"the value would be nested more than {MAX_LEVELS} levels deep")
        return items

    def cut(self, value: Any) -> Any:
        """Return a value that is to leave it."""
        return value if self.root is None else self.root.cut(value)


def _update(target: Target, items: Any) -> None:
    target.items.update(target.all_taken(items))


def _popitem(target: Target) -> Any:
    if not target.items:
        raise KeyError(f"{target}: the dict is empty")
    key = next(reversed(target.items))
    pair = target.cut((key, target.items[key]))
    del target.items[key]
    return pair


def _clear(target: Target) -> None:
    target.items.clear()


def _append(target: Target, value: Any) -> None:
    target.items.append(target.taken(value))


def _extend(target: Target, items: Any) -> None:
    target.items.extend(target.all_taken(items))


def _insert(target: Target, index: Any, value: Any) -> None:
    target.items.insert(_whole(target, index), target.taken(value))


def _whole(target: Target, number: Any) -> int:
    value = opened(number)
    if type(value) is int or type(value) is bool:
        return cast("int", _near(value))
    raise TypeError(f"{target}: expected an int, not {kind_of(value)}")


def _pop(target: Target, index: Any = -1) -> Any:
    index = _whole(target, index)
    try:
        value = target.cut(target.items[index])
    except IndexError:
        raise IndexError(
            f"{target}: cannot pop position {index} of a list with {len(target.items)} items"
        ) from None
    del target.items[index]
    return value


def _remove(target: Target, value: Any) -> None:
    # As a stored value it is compared with care for what only clients can open.
    wanted = value if isinstance(value, Stored) else as_held(value, target.path)
    for position, item in enumerate(target.items):
        if wanted == item:
            del target.items[position]
            return
    raise ValueError(f"{target}: the value is not in the list")


def _sort(target: Target, reverse: Any = False) -> None:
    # Not in place: an error in the middle must change nothing.
    key = comparable if isinstance(target.path, Path) else None
    target.items[:] = sorted(target.items, key=key, reverse=reverse)


def _reverse(target: Target) -> None:
    target.items.reverse()


def _multiply(target: Target, count: Any) -> None:
    count = _whole(target, count)
    items = target.items
    check_repetition(items, count, str(target))
    if _SCALARS.issuperset(map(type, items)):
        items *= count
        return
    if target.root is not None and count > 1:
        size = size_of(target.root.of(items))
        if size * count > MAX_BYTES:
            raise TooLarge(
                f"{target}: {size} bytes cannot be repeated {count} times: a list is repeated to "
                f"at most {MAX_BYTES} bytes"
            )
    once = list(items)
    items *= min(count, 1)
    for _ in range(count - 1):
        items += copy.deepcopy(once)


def _set_slice(target: Target, start: Any, stop: Any, step: Any, items: Any) -> None:
    target.items[_part_of(target, start, stop, step)] = target.all_taken(items)


def _delete_slice(target: Target, start: Any, stop: Any, step: Any) -> None:
    del target.items[_part_of(target, start, stop, step)]


def _part_of(target: Target, *bounds: Any) -> slice:
    return slice(*(None if one is None else _whole(target, one) for one in bounds))


VERBS: Final[dict[type, dict[str, Callable[..., Any]]]] = {
    dict: {"clear": _clear, "popitem": _popitem, "update": _update},
    list: {
        "append": _append, "clear": _clear, "delete_slice": _delete_slice, "extend": _extend,
        "insert": _insert, "multiply": _multiply, "pop": _pop, "remove": _remove,
        "reverse": _reverse, "set_slice": _set_slice, "sort": _sort,
    },
}  # fmt: skip
"""What `mutate_nested` does to a dict and to a list."""

KEEPING: Final = frozenset({"append", "extend", "insert", "reverse", "sort"})
"""The verbs after which everything is there that was there before."""


def _mutate(target: Target, verb: str, arguments: Sequence[Any]) -> Any:
    """Carry out a verb of `mutate_nested`."""
    kind = cast("Any", type(target.items))
    verbs = VERBS.get(kind)
    if verbs is None:
        raise TypeError(
            f"{target}: only dicts and lists are changed in place, not {kind_of(target.items)}"
        )
    if verb not in verbs:
        raise TypeError(
            f"{target}: leads to a {kind.__name__}, which has no {verb!r}; "
            f"it has {', '.join(verbs)}"
        )
    return verbs[verb](target, *arguments)


class Nested(SharedObject):
    """The operations along a path, for every type that holds values."""

    def _found(self, path: tuple[Any, ...], *, change: bool) -> tuple[Any, Stored | None, int]:
        """Return what `path` leads to, the stored value around it, and how deep in that it lies."""
        place = self._place(path, change=change)
        return place.get(), place.root, place.level

    def _target(self, path: tuple[Any, ...], *, change: bool) -> Target:
        """Return what `path` leads to, open."""
        held, root, level = self._found(path, change=change)
        if isinstance(held, Stored):
            return Target(held.change() if change else held.open(), path, held)
        return Target(held, path, root, level)

    def _replace(self, path: tuple[Any, ...], value: Any) -> None:
        """Set the value that `path` leads to, which is there."""
        self._place(path, change=True).put(value)

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
        if place.root is not None:
            value = place.root.cut(value)
        place.delete()
        return value

    @writes
    def increment_nested(self, path: tuple[Step, ...], amount: Number = 1) -> Opaque:
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
            raise TypeError(f"path {tuple(path)!r}: is no list but {kind_of(target)}")
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
        elif expected is MISSING:
            return False
        else:
            # As a stored value it is compared with care for what only clients can open.
            wanted = expected if isinstance(expected, Stored) else as_held(expected, path)
            if wanted != place.get():
                return False
        if value is not MISSING:
            place.put(value)
        elif place.there():
            place.delete()
        return True

    @compare_and_set_nested.fallback
    def _compare_and_set_nested(
        self, path: Any, expected: Any, value: Any
    ) -> Generator[Any, Any, bool]:
        tries = Tries("compare_and_set_nested")
        while True:
            version, found = yield self.get_nested_versioned(path)
            if not found or found[0] != expected:
                return False
            try:
                yield self.update_nested_versioned(path, value, version)
            except VersionConflict:
                tries.again()
            else:
                return True

    @reads
    def length_nested(self, path: tuple[Step, ...]) -> int:
        """Return the number of items of the dict, list or other container at `path`.

        Raises:
            KeyError, IndexError, TypeError: as get_nested; TypeError also for no container.
        """
        target = self._target(path, change=False)
        if not isinstance(target.items, Sized) or is_closed(target.items):
            raise TypeError(f"{target}: there is no length of {kind_of(target.items)}")
        return len(target.items)

    @writes
    def mutate_nested(
        self, path: tuple[Step, ...], verb: str, arguments: Sequence[Opaque] = ()
    ) -> Opaque:
        """Change the dict or list at `path` in place, in one step, and return what that returns.

        The verbs of a dict are clear(), popitem() and update(dict). Those of a list are
        append(value), clear(), delete_slice(start, stop, step), extend(list),
        insert(index, value), multiply(count), pop(index), remove(value), reverse(),
        set_slice(start, stop, step, list) and sort(reverse). What they do is what Python's own
        do; a multiplied list repeats values, not objects.

        Raises:
            KeyError, IndexError: a step of the path is not there, or there is nothing to pop.
            TypeError: something else is there, or the arguments do not fit the verb.
            ValueError: the value to remove is not there, or a slice has another size.
            TooLarge: the list would become too large by being multiplied.
        """
        target = self._target(path, change=True)
        settled = False
        try:
            result = _mutate(target, verb, arguments)
            settled = verb in KEEPING
        finally:
            if not settled and target.root is not None:
                target.root.settle()
        return result

    @mutate_nested.fallback
    def _mutate_nested(
        self, path: Any, verb: str, arguments: Sequence[Any] = ()
    ) -> Generator[Any, Any, Any]:
        tries = Tries(verb)
        while True:
            version, value = yield from self._read_versioned(path)
            result = _mutate(Target(value, path), verb, arguments)
            try:
                yield self.update_nested_versioned(path, value, version)
            except VersionConflict:
                tries.again()
            else:
                return result

    def _part(self, path: tuple[Any, ...], *, change: bool) -> list[Any]:
        """Return the value at `path` as it is held or can be, in a list; empty if it is missing."""
        place = self._place(path, change=change)
        if not place.there():
            return []
        held = place.get()
        return [held if place.root is None or isinstance(held, Stored) else place.root.of(held)]

    @fresh
    @reads
    def get_nested_versioned(self, path: tuple[Step, ...]) -> tuple[bytes, list[Opaque]]:
        """Return the version of the value at `path`, and the value in a list.

        The version is empty, and the list, if the last step is not there. Equal versions are those
        of equal values: one that was changed and changed back has its old version again.

        Raises:
            KeyError, IndexError, TypeError: as update_nested.
        """
        found = self._part(path, change=False)
        return version_of(found[0]) if found else b"", found

    @writes
    def update_nested_versioned(
        self, path: tuple[Step, ...], value: Opaque | Missing, version: bytes
    ) -> None:
        """Set the value at `path`, or remove it for MISSING, if it still has this version.

        Raises:
            VersionConflict: it has changed since; what is elsewhere does not matter.
            KeyError, IndexError, TypeError: as update_nested.
        """
        found = self._part(path, change=True)
        if version != (version_of(found[0]) if found else b""):
            raise VersionConflict("the value at the path has changed since it had this version")
        if value is not MISSING:
            self._replace(path, value)
        elif found:
            self._place(path, change=True).delete()

    def _read_versioned(self, path: Any) -> Generator[Any, Any, tuple[bytes, Any]]:
        """Read the value at `path` and its version, in the client; raise if it is not there."""
        while True:
            version, found = yield self.get_nested_versioned(path)
            if found:
                return version, found[0]
            yield self.get_nested(path)  # raises, and names the step

    @composite
    def change_nested(
        self, path: tuple[Step, ...], change: Callable[[Any], Any]
    ) -> Generator[Any, Any, Any]:
        """Set the value at `path` to `change(the value there)` and return that.

        `change` is called in the client, again whenever the value at this very path was changed
        meanwhile. It may use the object, but not write to this path itself.

        Raises:
            KeyError, IndexError, TypeError: as get_nested; and whatever `change` raises.
            VersionConflict: that happened a thousand times in a row.
        """
        tries = Tries("change_nested")
        while True:
            version, value = yield from self._read_versioned(path)
            value = change(value)
            try:
                yield self.update_nested_versioned(path, value, version)
            except VersionConflict:
                tries.again()
            else:
                return value

    @reads
    def get_version(self) -> int:
        """Return the object's version, which every change raises."""
        return self.version

    @get_nested.live
    def _live_get_nested(self, put: Put, path: Any, *default: Any) -> Any:
        value: Any = self.get_nested(path, *default)
        return value if default and value is default[0] else put(tuple(path), value)

    @setdefault_nested.live
    def _live_setdefault_nested(self, put: Put, path: Any, value: Any) -> Any:
        return put(tuple(path), self.setdefault_nested(path, value))
