"""What the server holds in place of Python objects: keys by their bytes, values still encoded.

Nothing here encodes or decodes: the codec is handed in by the floor that owns it. The bodies of
shared objects also run on plain Python values, so `opened` and `equal` take both.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Final, Protocol, TypeAlias, cast, final

__all__ = (
    "ABSENT",
    "MISSING",
    "Absent",
    "Codec",
    "Key",
    "Missing",
    "Packed",
    "SpelledKey",
    "Stored",
    "change",
    "equal",
    "opened",
    "stored",
)

Key: TypeAlias = bytes
"""The canonical bytes of a key: two keys are equal exactly when their bytes are."""

Packed: TypeAlias = "None | bool | int | float | str | bytes | list[Any]"
"""A value on the wire: a scalar as itself, else `bin`, or `[bin, [object ids]]` with references."""


class SpelledKey(bytes):
    """A key that its maker spelled in another way than its canonical bytes, such as True for 1.

    A dict keeps the key that was stored first, so the first spelling stays.
    """

    spelling: Packed


@final
class Missing:
    """The type of `MISSING`."""

    def __repr__(self) -> str:
        return "aiomanager.MISSING"

    def __reduce__(self) -> str:
        return "MISSING"


MISSING: Final = Missing()
"""Stands for "not there" in `compare_and_set`, on either side."""


@final
class Absent:
    """The type of `ABSENT`."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = Absent()
"""In a body: the caller gave a default, which stays with the caller. Returned: use it."""


class Codec(Protocol):
    """How stored bytes become Python objects and back; handed to `Stored` by floor 2."""

    def open(self, data: bytes, /) -> Any: ...
    def pack(self, value: Any, references: list[int] | None, /) -> Packed: ...
    def equal(self, left: Packed, right: Packed, /) -> bool: ...


class Stored:
    """A value as it came, opened only when an operation looks inside.

    While operations change it in place it stays open; the next reader gets it packed again.
    """

    __slots__ = ("_data", "_tree", "references")

    codec: ClassVar[Codec]

    def __init__(self, data: bytes, references: list[int] | None = None) -> None:
        self._data: bytes | None = data
        self._tree: Any = None
        self.references = references

    def open(self) -> Any:
        """Return the value, for reading only."""
        return self._tree if self._data is None else self.codec.open(self._data)

    def change(self) -> Any:
        """Return the value, to be changed in place."""
        if self._data is not None:
            self._tree = self.codec.open(self._data)
            self._data = None
        return self._tree

    def packed(self) -> Packed:
        """Return the value as it travels."""
        if self._data is None:
            packed = self.codec.pack(self._tree, self.references)
            if type(packed) is list:
                self._data = cast("bytes", packed[0])
            elif type(packed) is bytes:
                self._data = packed
            else:
                return packed
            self._tree = None
        return self._data if self.references is None else [self._data, self.references]

    def __eq__(self, other: object) -> bool:
        left: Packed = self.packed()
        right = other.packed() if isinstance(other, Stored) else cast("Packed", other)
        return self.codec.equal(left, right)

    __hash__ = None  # type: ignore[assignment]


def opened(value: Any) -> Any:
    """Return the Python value of a stored one, for reading only."""
    return value.open() if type(value) is Stored or isinstance(value, Stored) else value


def equal(left: object, right: object) -> bool:
    """Tell whether two values are equal as Python compares them.

    Raises NeedsNeutralValue when that takes opening what only clients can open.
    """
    return bool(left == right)


def stored(value: Any, like: Any) -> Any:
    """Return `value`, computed from `like`, in the form in which `like` is held."""
    raise NotImplementedError


def change(value: Any) -> Any:
    """Return the Python value of a stored one, to be changed in place."""
    return value.change() if isinstance(value, Stored) else value


Opener: TypeAlias = Callable[[bytes], Any]
