"""The shared set: its operations, its two proxies and its factories."""

from collections.abc import AsyncIterator, Coroutine, Generator, Iterable, Iterator, MutableSet
from collections.abc import Set as AbstractSet
from typing import Any, Generic, Self, overload

from aiomanager.operation import Elements, K, SharedObject, composite, plain_copy, reads, writes
from aiomanager.proxy import AsyncFactory, AsyncProxy, SyncFactory, SyncProxy

__all__ = ("Set", "SetProxy", "SyncSetProxy")


class Set(SharedObject, Generic[K], name="set"):
    """Elements that are equal to none of the others; they are keys, as those of a dict."""

    def __init__(self, elements: Elements[K] = (), /) -> None:
        self._elements = set(elements)

    @writes
    def add(self, element: K) -> None:
        """Add `element`, unless it is there."""
        self._elements.add(element)

    @writes
    def add_new(self, element: K) -> bool:
        """Add `element` and tell whether it was not there before: one caller alone gets True."""
        before = len(self._elements)
        self._elements.add(element)
        return len(self._elements) > before

    @writes
    def remove(self, element: K) -> None:
        """Remove `element`.

        Raises:
            KeyError: it is not there.
        """
        self._elements.remove(element)

    @writes
    def discard(self, element: K) -> None:
        """Remove `element`, if it is there."""
        self._elements.discard(element)

    @writes
    def pop(self) -> K:
        """Remove any one element and return it.

        Raises:
            KeyError: the set is empty.
        """
        return self._elements.pop()

    @writes
    def clear(self) -> None:
        """Remove all elements."""
        self._elements.clear()

    @reads
    def contains(self, element: K) -> bool:
        """Tell whether `element` is there."""
        return element in self._elements

    @reads
    def length(self) -> int:
        """Return the number of elements."""
        return len(self._elements)

    @reads
    def copy(self) -> set[K]:
        """Return a plain set of the same elements."""
        return set(self._elements)

    @reads
    def isdisjoint(self, other: Elements[K]) -> bool:
        """Tell whether the set has no element in common with `other`."""
        return self._elements.isdisjoint(other)

    @reads
    def issubset(self, other: Elements[K]) -> bool:
        """Tell whether `other` has all elements of the set."""
        return self._elements.issubset(other)

    @reads
    def issuperset(self, other: Elements[K]) -> bool:
        """Tell whether the set has all elements of `other`."""
        return self._elements.issuperset(other)

    @reads
    def union_all(self, others: Iterable[Elements[K]]) -> set[K]:
        """Return a plain set of the elements of the set and of all others."""
        return self._elements.union(*others)

    @reads
    def intersection_all(self, others: Iterable[Elements[K]]) -> set[K]:
        """Return a plain set of the elements that all others have too."""
        return self._elements & self._common(others)

    @reads
    def difference_all(self, others: Iterable[Elements[K]]) -> set[K]:
        """Return a plain set of the elements that none of the others has."""
        return self._elements.difference(*others)

    @reads
    def symmetric_difference(self, other: Elements[K]) -> set[K]:
        """Return a plain set of the elements that either the set or `other` has, but not both."""
        return self._elements.symmetric_difference(other)

    @writes
    def update_all(self, others: Iterable[Elements[K]]) -> None:
        """Add the elements of all others, in one step."""
        self._elements.update(*others)

    @writes
    def intersection_update_all(self, others: Iterable[Elements[K]]) -> None:
        """Remove the elements that not all others have, in one step."""
        self._elements &= self._common(others)

    @writes
    def difference_update_all(self, others: Iterable[Elements[K]]) -> None:
        """Remove the elements that one of the others has, in one step."""
        self._elements.difference_update(*others)

    @writes
    def symmetric_difference_update(self, other: Elements[K]) -> None:
        """Remove the elements that `other` has too, and add those that it alone has."""
        self._elements.symmetric_difference_update(other)

    def _common(self, others: Iterable[Elements[K]]) -> set[K]:
        """Return the elements that all others have, as this set spells them."""
        held = [set(other) for other in others]
        return {one for one in self._elements if all(one in other for other in held)}

    @composite
    def union(self, *others: Iterable[K]) -> Generator[Any, Any, set[K]]:
        """Return a plain set of the elements of the set and of all others."""
        return (yield self.union_all(others))  # type: ignore[no-any-return]

    @composite
    def intersection(self, *others: Iterable[K]) -> Generator[Any, Any, set[K]]:
        """Return a plain set of the elements that all others have too."""
        return (yield self.intersection_all(others))  # type: ignore[no-any-return]

    @composite
    def difference(self, *others: Iterable[K]) -> Generator[Any, Any, set[K]]:
        """Return a plain set of the elements that none of the others has."""
        return (yield self.difference_all(others))  # type: ignore[no-any-return]

    @composite
    def update(self, *others: Iterable[K]) -> Generator[Any, Any, None]:
        """Add the elements of all others, in one step."""
        yield self.update_all(others)

    @composite
    def intersection_update(self, *others: Iterable[K]) -> Generator[Any, Any, None]:
        """Remove the elements that not all others have, in one step."""
        yield self.intersection_update_all(others)

    @composite
    def difference_update(self, *others: Iterable[K]) -> Generator[Any, Any, None]:
        """Remove the elements that one of the others has, in one step."""
        yield self.difference_update_all(others)


class SetProxy(AsyncProxy, Set[K]):
    """A shared set for async code."""

    sync: "SyncSetProxy[K]"

    async def __aiter__(self) -> AsyncIterator[K]:
        """Iterate over the elements that are there when the iteration starts."""
        for element in await self.copy():
            yield element


class SyncSetProxy(SyncProxy, Set[K]):
    """A shared set for blocking code, with the operators of a plain one.

    An operator takes plain sets and shared ones, and makes a plain set; one that changes the set
    in place returns this proxy. Equality is identity: compare `proxy.copy()`.
    """

    aio: "SetProxy[K]"

    def __contains__(self, element: K) -> bool:
        return self.contains(element)

    def __len__(self) -> int:
        return self.length()

    def __iter__(self) -> Iterator[K]:
        """Iterate over the elements that are there when the iteration starts."""
        return iter(self.copy())

    def __or__(self, other: "Operand[K]") -> set[K]:
        return self.union(other) if _is_set(other) else NotImplemented

    def __and__(self, other: "Operand[K]") -> set[K]:
        return self.intersection(other) if _is_set(other) else NotImplemented

    def __sub__(self, other: "Operand[K]") -> set[K]:
        return self.difference(other) if _is_set(other) else NotImplemented

    def __xor__(self, other: "Operand[K]") -> set[K]:
        return self.symmetric_difference(other) if _is_set(other) else NotImplemented

    # On the left stands a plain set, which says the type of the result.

    def __ror__(self, other: AbstractSet[K]) -> AbstractSet[K]:
        return other | self.copy() if _is_set(other) else NotImplemented

    def __rand__(self, other: AbstractSet[K]) -> AbstractSet[K]:
        return other & self.copy() if _is_set(other) else NotImplemented

    def __rsub__(self, other: AbstractSet[K]) -> AbstractSet[K]:
        return other - self.copy() if _is_set(other) else NotImplemented

    def __rxor__(self, other: AbstractSet[K]) -> AbstractSet[K]:
        return other ^ self.copy() if _is_set(other) else NotImplemented

    def __ior__(self, other: "Operand[K]") -> Self:
        if not _is_set(other):
            return NotImplemented
        self.update(other)
        return self

    def __iand__(self, other: "Operand[K]") -> Self:
        if not _is_set(other):
            return NotImplemented
        self.intersection_update(other)
        return self

    def __isub__(self, other: "Operand[K]") -> Self:
        if not _is_set(other):
            return NotImplemented
        self.difference_update(other)
        return self

    def __ixor__(self, other: "Operand[K]") -> Self:
        if not _is_set(other):
            return NotImplemented
        self.symmetric_difference_update(other)
        return self

    def __le__(self, other: "Operand[K]") -> bool:
        return self.issubset(other) if _is_set(other) else NotImplemented

    def __ge__(self, other: "Operand[K]") -> bool:
        return self.issuperset(other) if _is_set(other) else NotImplemented

    def __lt__(self, other: "Operand[K]") -> bool:
        return self.copy() < plain_copy(other) if _is_set(other) else NotImplemented

    def __gt__(self, other: "Operand[K]") -> bool:
        return self.copy() > plain_copy(other) if _is_set(other) else NotImplemented


# As the standard library does from 3.14 on.
MutableSet.register(SyncSetProxy)  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue]

Operand = AbstractSet[K] | SyncSetProxy[K]
"""What an operator takes: a method takes anything that can be iterated."""


def _is_set(value: object) -> bool:
    return isinstance(value, AbstractSet | SyncSetProxy)


class SetFactory(AsyncFactory):
    """Makes anonymous sets for async code."""

    @overload
    def set(self, /) -> Coroutine[Any, Any, SetProxy[Any]]: ...
    @overload
    def set(self, elements: Iterable[K], /) -> Coroutine[Any, Any, SetProxy[K]]: ...
    def set(self, elements: Iterable[Any] = (), /) -> Coroutine[Any, Any, SetProxy[Any]]:
        """Make a shared set."""
        return self._make(SetProxy, None, (elements,), {})


class NamedSetFactory(AsyncFactory):
    """Finds or makes named sets for async code."""

    @overload
    def set(self, name: str, /) -> Coroutine[Any, Any, SetProxy[Any]]: ...
    @overload
    def set(self, name: str, elements: Iterable[K], /) -> Coroutine[Any, Any, SetProxy[K]]: ...
    def set(self, name: str, elements: Iterable[Any] = (), /) -> Coroutine[Any, Any, SetProxy[Any]]:
        """Find or make the shared set of this name; the elements count for its maker only."""
        return self._make(SetProxy, name, (elements,), {})


class SyncSetFactory(SyncFactory):
    """Makes anonymous sets for blocking code."""

    @overload
    def set(self, /) -> SyncSetProxy[Any]: ...
    @overload
    def set(self, elements: Iterable[K], /) -> SyncSetProxy[K]: ...
    def set(self, elements: Iterable[Any] = (), /) -> SyncSetProxy[Any]:
        """Make a shared set."""
        return self._make(SyncSetProxy, None, (elements,), {})  # type: ignore[no-any-return]


class SyncNamedSetFactory(SyncFactory):
    """Finds or makes named sets for blocking code."""

    @overload
    def set(self, name: str, /) -> SyncSetProxy[Any]: ...
    @overload
    def set(self, name: str, elements: Iterable[K], /) -> SyncSetProxy[K]: ...
    def set(self, name: str, elements: Iterable[Any] = (), /) -> SyncSetProxy[Any]:
        """Find or make the shared set of this name; the elements count for its maker only."""
        return self._make(SyncSetProxy, name, (elements,), {})  # type: ignore[no-any-return]
