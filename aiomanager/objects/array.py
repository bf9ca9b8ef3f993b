"""The shared Array: numbers of one type code, its operations, its two proxies and its factories."""

from array import array
from collections.abc import AsyncIterator, Coroutine, Generator, Iterable, Iterator
from typing import Any, overload

from aiomanager.errors import TooLarge
from aiomanager.objects.nested import add, bounds_of, index_of
from aiomanager.operation import Number, Opaque, SharedObject, plain_copy, reads, writes
from aiomanager.proxy import AsyncFactory, AsyncProxy, SyncFactory, SyncProxy
from aiomanager.stored import opened_numbers

__all__ = ("Array", "ArrayProxy", "SyncArrayProxy")

MAX_BYTES = 1 << 28
"""How large an array may be that is made from its size alone; others came in a message."""


class Array(SharedObject):
    """An `array.array` on the server: its type codes, its conversions and its errors.

    Positions count from 0, negative ones from the end.
    """

    def __init__(self, typecode: str, items: Opaque) -> None:
        items = opened_numbers(items)
        if isinstance(items, int):
            size = items * array(typecode).itemsize
            if size > MAX_BYTES:
                raise TooLarge(
                    f"an array of {size} bytes; at most {MAX_BYTES} are made from a size"
                )
            items = bytes(size)
        self._items: array[Any] = array(typecode, items)

    def _conflict(self, *arguments: Any) -> str | None:
        if arguments[0] != self._items.typecode:
            return f"has type code {self._items.typecode!r}, not {arguments[0]!r}"
        return None

    def _converted(self, items: Any) -> "array[Any]":
        """Return what is to replace a slice as an array of the same type code."""
        items = opened_numbers(items)
        typecode: Any = getattr(items, "typecode", None)
        if typecode is None:
            return array(self._items.typecode, items)
        if typecode != self._items.typecode:
            raise TypeError(
                f"an array of type code {typecode!r} cannot replace items of type code "
                f"{self._items.typecode!r}; convert it: array({self._items.typecode!r}, items)"
            )
        return items  # type: ignore[no-any-return]

    @reads
    def typecode(self) -> str:
        """Return the type code, such as 'i' or 'd'; see the module `array`."""
        return self._items.typecode

    @reads
    def length(self) -> int:
        """Return the number of items."""
        return len(self._items)

    @reads
    def get_item(self, index: int) -> Opaque:
        """Return the item at `index`.

        Raises:
            IndexError: the array is shorter.
        """
        return self._items[index]

    @reads
    def get_slice(
        self, start: int | None = None, stop: int | None = None, step: int | None = None
    ) -> Opaque:
        """Return an `array.array` of the items in a slice.

        Raises:
            ValueError: `step` is 0.
        """
        return self._items[start:stop:step]

    @reads
    def copy(self) -> Opaque:
        """Return an `array.array` of all items."""
        return self._items[:]

    @writes
    def set(self, index: int, value: Opaque) -> None:
        """Replace the item at `index`.

        Raises:
            IndexError: the array is shorter.
            TypeError: the type code does not take such a value.
            OverflowError: the value is out of the type code's range.
        """
        self._items[index] = opened_numbers(value)

    @set.fallback
    def _set(self, index: int, value: Any) -> Generator[Any, Any, None]:
        yield self.set(index, _number(value))

    @writes
    def set_slice(
        self, items: Opaque, start: int | None = None, stop: int | None = None,
        step: int | None = None,
    ) -> None:  # fmt: skip
        """Replace the items in a slice by an `array.array` of the same type code, or by a list.

        Raises:
            TypeError: an array of another type code, or an item that the type code does not take.
            OverflowError: an item is out of the type code's range.
            ValueError: `step` is not 1 and the sizes differ.
        """
        self._items[start:stop:step] = self._converted(items)

    @set_slice.fallback
    def _set_slice(self, items: Any, *where: Any) -> Generator[Any, Any, None]:
        typecode: str = yield self.typecode()
        yield self.set_slice(array(typecode, plain_copy(items)), *where)

    @writes
    def fill(self, value: Opaque, start: int | None = None, stop: int | None = None) -> None:
        """Set all items, or those from `start` to before `stop`, to `value`.

        Raises:
            TypeError, OverflowError: as set.
        """
        count = len(range(*slice(start, stop).indices(len(self._items))))
        one = array(self._items.typecode, [opened_numbers(value)])
        if count:
            self._items[start:stop] = one * count

    @fill.fallback
    def _fill(self, value: Any, *where: Any) -> Generator[Any, Any, None]:
        yield self.fill(_number(value), *where)

    @writes
    def increment(self, index: int, amount: Number = 1) -> Opaque:
        """Add `amount` to the item at `index` and return the sum.

        Raises:
            IndexError: the array is shorter.
            TypeError: the type code does not take the sum: it is of characters, or of integers
                and `amount` is a float.
            OverflowError: the sum is out of the type code's range.
        """
        self._items[index] = add(self._items[index], amount, "increment")
        return self._items[index]

    @writes
    def compare_and_set(self, index: int, expected: Opaque, value: Opaque) -> bool:
        """Replace the item at `index` if it equals `expected`; tell whether it was replaced.

        Raises:
            IndexError, TypeError, OverflowError: as set.
        """
        expected, value = opened_numbers(expected), opened_numbers(value)
        if self._items[index] != expected:
            return False
        self._items[index] = value
        return True

    @compare_and_set.fallback
    def _compare_and_set(self, index: int, expected: Any, value: Any) -> Generator[Any, Any, bool]:
        return (yield self.compare_and_set(index, _number(expected), _number(value)))  # type: ignore[no-any-return]


def _number(value: Any) -> Any:
    """Return as a plain number what only the client can open, such as a number of numpy's."""
    if hasattr(value, "__index__"):
        return value.__index__()
    if hasattr(value, "__float__"):
        return float(value)
    if isinstance(value, str):
        return str(value)
    raise TypeError(f"an array item must be a number, not {type(value).__name__}")


def _initial(typecode: str, items: Any) -> Any:
    """Return what an array is made from: a size, or an array made here, with its own errors."""
    return items if isinstance(items, int) else array(typecode, plain_copy(items))


class ArrayProxy(AsyncProxy, Array):
    """A shared array for async code."""

    sync: "SyncArrayProxy"

    async def __aiter__(self) -> AsyncIterator[Any]:
        """Iterate over the items by position, so that it sees what changes meanwhile."""
        position = 0
        while True:
            part: array[Any] = await self.get_slice(position, position + 1)
            if not part:
                return
            yield part[0]
            position += 1


class SyncArrayProxy(SyncProxy, Array):
    """A shared array for blocking code, with the spelling of a plain one."""

    aio: "ArrayProxy"

    def __len__(self) -> int:
        return self.length()

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> "array[Any]": ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self.get_slice(*bounds_of(index))
        return self.get_item(index_of(index, "array"))

    def __setitem__(self, index: int | slice, value: Any) -> None:
        if isinstance(index, slice):
            self.set_slice(value, *bounds_of(index))
        else:
            self.set(index_of(index, "array"), value)

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the items by position, so that it sees what changes meanwhile."""
        position = 0
        while True:
            try:
                value = self.get_item(position)
            except IndexError:
                return
            yield value
            position += 1


class ArrayFactory(AsyncFactory):
    """Makes anonymous arrays for async code."""

    def Array(  # noqa: N802
        self, typecode: str, sequence: Iterable[Any] | int, lock: object = True
    ) -> Coroutine[Any, Any, ArrayProxy]:
        """Make a shared array from items, or of a size with zeros; `lock` means nothing.

        Raises:
            TypeError, ValueError, OverflowError: as `array.array` does.
        """
        return self._make(ArrayProxy, None, (typecode, _initial(typecode, sequence)), {})


class NamedArrayFactory(AsyncFactory):
    """Finds or makes named arrays for async code."""

    def Array(  # noqa: N802
        self, name: str, /, typecode: str, sequence: Iterable[Any] | int, lock: object = True
    ) -> Coroutine[Any, Any, ArrayProxy]:
        """Find or make the shared array of this name; the items count for its maker only.

        Raises:
            NameConflict: it exists with another type code.
            TypeError, ValueError, OverflowError: as `array.array` does.
        """
        return self._make(ArrayProxy, name, (typecode, _initial(typecode, sequence)), {})


class SyncArrayFactory(SyncFactory):
    """Makes anonymous arrays for blocking code."""

    def Array(  # noqa: N802
        self, typecode: str, sequence: Iterable[Any] | int, lock: object = True
    ) -> SyncArrayProxy:
        """Make a shared array from items, or of a size with zeros; `lock` means nothing.

        Raises:
            TypeError, ValueError, OverflowError: as `array.array` does.
        """
        return self._make(SyncArrayProxy, None, (typecode, _initial(typecode, sequence)), {})  # type: ignore[no-any-return]


class SyncNamedArrayFactory(SyncFactory):
    """Finds or makes named arrays for blocking code."""

    def Array(  # noqa: N802
        self, name: str, /, typecode: str, sequence: Iterable[Any] | int, lock: object = True
    ) -> SyncArrayProxy:
        """Find or make the shared array of this name; the items count for its maker only.

        Raises:
            NameConflict: it exists with another type code.
            TypeError, ValueError, OverflowError: as `array.array` does.
        """
        return self._make(SyncArrayProxy, name, (typecode, _initial(typecode, sequence)), {})  # type: ignore[no-any-return]
