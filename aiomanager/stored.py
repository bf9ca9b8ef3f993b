"""What the server holds in place of Python objects: keys by their bytes, values still encoded.

Nothing here encodes or decodes: the codec is handed in by the floor that owns it. The bodies of
shared objects also run on plain Python values, so `opened` and `equal` take both.
"""

from typing import Any, ClassVar, Final, Protocol, TypeAlias, cast, final

from aiomanager.errors import NeedsNeutralValue

__all__ = (
    "ABSENT",
    "MISSING",
    "Absent",
    "Codec",
    "Key",
    "Missing",
    "Packed",
    "Path",
    "References",
    "SpelledKey",
    "Stored",
    "apart",
    "as_held",
    "comparable",
    "first_key",
    "is_closed",
    "kind_of",
    "may_refer",
    "opened",
    "opened_numbers",
    "size_of",
    "version_of",
)

Key: TypeAlias = bytes
"""The canonical bytes of a key: two keys are equal exactly when their bytes are."""

Packed: TypeAlias = "bool | int | float | str | bytes | list[Any] | None"
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


class Path(tuple[Any, ...]):
    """A path as the server holds it: its steps opened, its first step also as a key."""

    key: Key
    stored: "type[Stored]"


def first_key(path: tuple[Any, ...]) -> Any:
    """Return the first step of a path in the form in which a dict holds its keys."""
    return path.key if isinstance(path, Path) else path[0]


def as_held(value: Any, path: tuple[Any, ...]) -> Any:
    """Return a new value in the form in which the object that `path` came to holds its values."""
    return path.stored.of(value) if isinstance(path, Path) else value


class References:
    """The objects that a stored value refers to; whoever keeps this keeps them alive."""

    __slots__ = ("__weakref__", "ids")

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids

    def add(self, ids: list[int]) -> None:
        """Keep these alive as well."""
        self.ids.extend(ids)


class Codec(Protocol):
    """How stored bytes become Python objects and back; handed to `Stored` by floor 2."""

    def open(self, data: bytes, /) -> Any: ...
    def pack(self, value: Any, references: list[int] | None, /) -> Packed: ...
    def equal(self, left: Packed, right: Packed, /) -> bool: ...
    def array(self, part: Any, /) -> Any: ...


class Stored:
    """A value as it came, opened only when an operation looks inside.

    While operations change it in place it stays open; the next reader gets it packed again.
    """

    __slots__ = ("_data", "_references", "_tree")

    codec: ClassVar[Codec]
    refer: ClassVar[type[References]] = References
    """Makes the references of a value count; a store has its own."""

    def __init__(self, data: bytes, references: References | None = None) -> None:
        self._data: bytes | None = data
        self._tree: Any = None
        self._references: References | None = references

    @classmethod
    def of(cls, value: Any) -> "Stored":
        """Return `value`, which refers to nothing, as a stored one that is open."""
        made = cls(b"")
        made._data = None
        made._tree = value
        return made

    def copy(self) -> "Stored":
        """Return another stored value, equal to this one now."""
        packed = self.packed()
        if type(packed) is bytes:
            return type(self)(packed)
        if type(packed) is list:
            return type(self)(cast("bytes", packed[0]), self.refer(list(packed[1])))
        return self.of(packed)

    def open(self) -> Any:
        """Return the value, for reading only."""
        return self._tree if self._data is None else self.codec.open(self._data)

    def change(self) -> Any:
        """Return the value, to be changed in place."""
        if self._data is not None:
            self._tree = self.codec.open(self._data)
            self._data = None
        return self._tree

    def adopt(self, part: object) -> Any:
        """Return `part` opened, to be put inside this value, and keep what it refers to."""
        if not isinstance(part, Stored):
            return part
        added = part._references
        if added is not None:
            if self._references is None:
                self._references = self.refer(list(added.ids))
            else:
                self._references.add(added.ids)
        return part.open()

    def cut(self, part: Any) -> Any:
        """Return a part of this open value, which is to be taken out of it.

        It keeps what it refers to by itself: this value may let go of that.
        """
        if self._references is None:
            return part
        piece = self.of(part)
        piece.packed()
        return piece

    def settle(self) -> None:
        """Let go of what this value refers to no longer, after parts were taken out of it."""
        if self._references is not None:
            self.packed()

    def packed(self) -> Packed:
        """Return the value as it travels."""
        if self._data is None:
            packed = self.codec.pack(self._tree, None)
            if type(packed) is list:
                self._data = cast("bytes", packed[0])
                self._references = self.refer(packed[1])
            elif type(packed) is bytes:
                self._data = packed
                self._references = None
            else:
                return packed
            self._tree = None
        references = self._references
        return self._data if references is None else [self._data, references.ids]

    def __eq__(self, other: object) -> bool:
        right = other.packed() if isinstance(other, Stored) else self.codec.pack(other, None)
        return self.codec.equal(self.packed(), right)

    __hash__ = None  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]


def apart(value: Any) -> Any:
    """Return an equal stored value that changes on its own."""
    return value.copy() if isinstance(value, Stored) else value


def comparable(value: Any) -> Any:
    """Return the Python value of a stored one, to be put in order.

    Raises:
        NeedsNeutralValue: a part of it is one that only clients can open.
    """
    if isinstance(value, Stored):
        value = value.open()
    if _closed(value):
        raise NeedsNeutralValue(
            "the server cannot put values in order that hold Python objects, arrays or references"
        )
    return value


def _closed(value: Any) -> bool:
    if is_closed(value):
        return True
    return isinstance(value, (list, tuple)) and any(map(_closed, value))  # pyright: ignore


def is_closed(value: Any) -> bool:
    """Tell whether this is a part of an open value that only clients can open."""
    # What a codec leaves closed has a class of its own below tuple.
    return isinstance(value, tuple) and type(value) is not tuple  # pyright: ignore


_CLOSED: Final = {
    12: "a typed array",
    13: "a reference to a shared object",
    14: "a Python object that only clients can open (of a class of its own: a subclass, an enum, a "
    "dataclass). Store plain dicts, lists and numbers to change them on the server, or use "
    "update_item or change_nested, which call a function of yours in the client",
}
"""By their codes as extension types: see protocol/values.md."""


def kind_of(value: Any) -> str:
    """Return what an error calls a value of the wrong kind, and what to do if it is a closed one.

    This stands at the end of the error.
    """
    if is_closed(value) and getattr(value, "code", None) in _CLOSED:
        return _CLOSED[value.code]
    return f"a value of type {type(value).__name__}"


def size_of(value: Any) -> int:
    """Return about how many bytes a held value takes as it travels."""
    packed = value.packed() if isinstance(value, Stored) else value
    if type(packed) is list:
        packed = packed[0]  # pyright: ignore[reportUnknownVariableType]
    return 9 + (len(packed) if isinstance(packed, (str, bytes)) else 0)


def version_of(value: Any) -> bytes:
    """Return what tells a value that is held from any other that may take its place.

    It is made of the stored bytes alone, so that nothing has to be kept for it. A value that was
    changed and changed back has its old version again. None is empty, which stands for no value.
    """
    data: Any = value.packed() if isinstance(value, Stored) else None
    if type(data) is list:
        data = cast("bytes", data[0])  # its references are in there
    if type(data) is not bytes:  # a number or a text as itself
        data = _spelled(value.open() if isinstance(value, Stored) else value)
    if len(data) <= _SHORT:
        return cast("bytes", data)
    return b"\xc1\xc1" + _digest(data)


def _digest(data: bytes) -> bytes:
    from hashlib import blake2b  # only who makes versions pays for it

    return blake2b(data, digest_size=16).digest()


_SHORT: Final = 64
"""Up to this size a version is the bytes themselves. No value begins with c1, as others do."""


def _spelled(value: Any) -> bytes:
    """Return what tells a value that has no bytes from others of any type."""
    kind = type(value)  # pyright: ignore[reportUnknownVariableType]
    if kind is int:
        return b"\xc1%x" % value
    if kind is not bool and hasattr(value, "denominator"):
        # Decimal notation takes long for large ones, and Python limits it.
        return b"\xc1%x/%x" % (value.numerator, value.denominator)
    return b"\xc1" + repr(value).encode()


def may_refer(value: Any) -> bool:
    """Tell whether a part of an open value may refer to an object."""
    if isinstance(value, dict):
        # Keys refer to nothing.
        return any(map(may_refer, cast("dict[Any, Any]", value).values()))
    if isinstance(value, (set, frozenset)):
        return any(map(may_refer, cast("set[Any]", value)))
    return _closed(value) or (isinstance(value, (list, tuple)) and any(map(may_refer, value)))  # pyright: ignore


def opened(value: Any) -> Any:
    """Return the Python value of a stored one, for reading only."""
    return value.open() if isinstance(value, Stored) else value


def opened_numbers(value: Any) -> Any:
    """As `opened`, and a typed array of one dimension as an array.array.

    Raises:
        NeedsNeutralValue: a part of it is one that only clients can open.
    """
    if isinstance(value, Stored):
        value = value.codec.array(value.open())
    if _closed(value):
        raise NeedsNeutralValue("the server cannot look into Python objects or references")
    return value
