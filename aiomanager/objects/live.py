"""Live nodes: what a live view returns for the dicts and lists inside a shared object.

A node is a real dict or list that holds what it stood for when it was read, with the nodes inside
it. Reading it asks nobody. Changing it is one atomic operation on the server, along the path at
which the node stands, and then the same change of what the node holds. What others change
meanwhile is seen by reading it out of its object again.

A node stands for a place, not for what was there once. One that its own parent node holds no
longer (it was deleted, popped, replaced) stands nowhere: it is a plain dict or list from then on.
Copies are plain; a pickled node stands at its place wherever it is unpickled.
"""

import copy
from collections.abc import Callable, Iterable
from operator import index as whole
from typing import Any, Self, SupportsIndex, TypeAlias, cast

from aiomanager.proxy import SyncProxy
from aiomanager.stored import MISSING

__all__ = ("LiveDict", "LiveList", "assigned_back", "planted")

Path: TypeAlias = tuple[Any, ...]


class Origin:
    """Where a tree of nodes hangs: a path in a shared object."""

    __slots__ = ("path", "proxy")

    def __init__(self, proxy: Any, path: Path) -> None:
        self.proxy = proxy
        self.path = path


class LiveDict(dict[Any, Any]):
    """A dict inside a shared object: its changes are made there."""

    __slots__ = ("_augmented", "_parent", "_step")

    _parent: "LiveDict | LiveList | Origin | None"
    _step: Any
    """The key, or a position at which it was once, in its parent."""
    _augmented: bool
    """Whether an operator such as |= has just changed it: Python assigns it to its place next."""

    def _step_of(self, child: "Node") -> Any:
        """Return the key of a node, MISSING if it is here no longer."""
        step = child._step  # pyright: ignore[reportPrivateUsage]
        return step if self.get(step) is child else MISSING

    def _take(self, key: Any, value: Any) -> None:
        super().__setitem__(key, _node(value, self, key))

    def __setitem__(self, key: Any, value: Any) -> None:
        if _has_changed(value) and self.get(key) is value:
            return
        proxy, path = _place(self)
        if proxy is None:
            super().__setitem__(key, value)
        else:
            proxy.update_nested((*path, key), value)
            self._take(key, value)

    def __delitem__(self, key: Any) -> None:
        proxy, path = _place(self)
        if proxy is None:
            super().__delitem__(key)
        else:
            proxy.delete_nested((*path, key))
            super().pop(key, None)

    def update(self, *given: Any, **more: Any) -> None:
        items: dict[Any, Any] = {}
        items.update(*given, **more)
        proxy, path = _place(self)
        if proxy is None:
            super().update(items)
        else:
            proxy.mutate_nested(path, "update", (items,))
            for key, value in items.items():
                self._take(key, value)

    def setdefault(self, key: Any, default: Any = None, /) -> Any:
        proxy, path = _place(self)
        if proxy is None:
            return super().setdefault(key, default)
        value = proxy.setdefault_nested((*path, key), default)
        if key not in self or _plain(self[key]) != value:  # else a node that is here stays
            self._take(key, value)
        return self[key]

    def pop(self, key: Any, *default: Any) -> Any:
        proxy, path = _place(self)
        if proxy is None:
            return super().pop(key, *default)
        value = proxy.pop_nested((*path, key), *default)
        super().pop(key, None)
        return value

    def popitem(self) -> tuple[Any, Any]:
        proxy, path = _place(self)
        if proxy is None:
            return super().popitem()
        key, value = proxy.mutate_nested(path, "popitem")
        super().pop(key, None)
        return key, value

    def clear(self) -> None:
        proxy, path = _place(self)
        if proxy is not None:
            proxy.mutate_nested(path, "clear")
        super().clear()

    def __ior__(self, other: Any) -> Self:  # type: ignore[misc]
        self.update(other)
        self._augmented = True
        return self

    def __copy__(self) -> dict[Any, Any]:
        return dict(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[Any, Any]:
        return {copy.deepcopy(key, memo): copy.deepcopy(value, memo) for key, value in self.items()}

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        return _reduced(self)


class LiveList(list[Any]):
    """A list inside a shared object: its changes are made there."""

    __slots__ = ("_augmented", "_parent", "_step")

    _parent: "LiveDict | LiveList | Origin | None"
    _step: Any
    _augmented: bool

    def _step_of(self, child: "Node") -> Any:
        """Return the position of a node, MISSING if it is here no longer."""
        # What moves the items moves the nodes with them: they are looked for when it matters.
        for position in (child._step, *range(len(self))):
            if position < len(self) and self[position] is child:
                child._step = position
                return position
        return MISSING

    def _taken(self, items: Iterable[Any]) -> list[Any]:
        """Return items in which dicts and lists are nodes of this list."""
        return [_node(item, self, position) for position, item in enumerate(items)]

    def _fill(self, items: Iterable[Any]) -> None:
        super().extend(self._taken(items))

    def _change(self, verb: str, *arguments: Any) -> Any:
        """Carry out a verb of `mutate_nested`, unless it stands nowhere."""
        proxy, path = _place(self)
        return None if proxy is None else proxy.mutate_nested(path, verb, arguments)

    def __setitem__(self, index: Any, value: Any) -> None:
        if type(index) is slice:
            items = list(value)
            if _place(self)[0] is None:
                super().__setitem__(index, items)
                return
            self._change("set_slice", *_bounds(index), items)
            _as_far_as_it_goes(super().__setitem__, index, self._taken(items))
            return
        index = whole(index)
        if _has_changed(value) and index < len(self) and self[index] is value:
            return
        proxy, path = _place(self)
        if proxy is None:
            super().__setitem__(index, value)
        else:
            proxy.update_nested((*path, index), value)
            # Counted from the end it would be another position as soon as the length changes.
            node = _node(value, self, index + len(self) if index < 0 else index)
            _as_far_as_it_goes(super().__setitem__, index, node)

    def __delitem__(self, index: Any) -> None:
        if type(index) is slice:
            self._change("delete_slice", *_bounds(index))
            super().__delitem__(index)
            return
        index = whole(index)
        proxy, path = _place(self)
        if proxy is None:
            super().__delitem__(index)
        else:
            proxy.delete_nested((*path, index))
            _as_far_as_it_goes(super().__delitem__, index)

    def append(self, value: Any, /) -> None:
        self._change("append", value)
        super().append(_node(value, self, len(self)))

    def extend(self, items: Iterable[Any], /) -> None:
        items = list(items)
        self._change("extend", items)
        self._fill(items)

    def insert(self, index: SupportsIndex, value: Any, /) -> None:
        self._change("insert", whole(index), value)
        super().insert(index, _node(value, self, 0))

    def pop(self, index: SupportsIndex = -1, /) -> Any:
        if _place(self)[0] is None:
            return super().pop(index)
        value = self._change("pop", whole(index))
        _as_far_as_it_goes(super().pop, index)
        return value

    def remove(self, value: Any, /) -> None:
        if _place(self)[0] is None:
            super().remove(value)
            return
        self._change("remove", value)
        _as_far_as_it_goes(super().remove, value)

    def clear(self) -> None:
        self._change("clear")
        super().clear()

    def reverse(self) -> None:
        self._change("reverse")
        super().reverse()

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        proxy, path = _place(self)
        if proxy is None:
            super().sort(key=key, reverse=reverse)
            return

        def in_order(items: Any) -> list[Any]:
            if not isinstance(items, list):
                raise TypeError(f"path {path!r}: is no list but a {type(items).__name__}")
            return sorted(cast("list[Any]", items), key=key, reverse=reverse)

        try:
            if key is not None:
                raise TypeError  # only a client can call it
            proxy.mutate_nested(path, "sort", (bool(reverse),))
        except TypeError:
            # Values that only a client can open may have an order here.
            proxy.change_nested(path, in_order)
        _as_far_as_it_goes(super().sort, key=key, reverse=reverse)

    def __iadd__(self, items: Iterable[Any]) -> Self:  # type: ignore[misc]
        self.extend(items)
        self._augmented = True
        return self

    def __imul__(self, count: SupportsIndex) -> Self:
        count = whole(count)
        once = list(self)
        self._change("multiply", count)
        if count < 1:
            super().clear()
        for _ in range(count - 1):
            self._fill(once)
        self._augmented = True
        return self

    def __copy__(self) -> list[Any]:
        return list(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        return [copy.deepcopy(item, memo) for item in self]

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        return _reduced(self)


Node: TypeAlias = LiveDict | LiveList


def _node(value: Any, parent: Node | Origin, step: Any) -> Any:
    """Return a dict or list as a new node, with nodes inside; anything else as it is."""
    kind = cast("Any", type(value))
    if kind is dict or kind is LiveDict:
        node: Any = LiveDict()
        for key, item in value.items():
            node._take(key, item)
    elif kind is list or kind is LiveList:
        node = LiveList()
        node._fill(value)
    else:
        return value
    node._parent, node._step, node._augmented = parent, step, False
    return node


def planted(proxy: SyncProxy, path: Path, value: Any) -> Any:
    """Return a dict or list that stands at `path` of an object as a live node."""
    return _node(value, Origin(proxy, path), None)


def _plain(value: Any) -> Any:
    """Return a copy in which no node stands for a place."""
    if isinstance(value, LiveDict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, LiveList):
        return [_plain(item) for item in value]
    return value


def _place(node: Any) -> tuple[Any, Path]:
    """Return the proxy of a node's object and the path there; None where it stands nowhere."""
    node._augmented = False
    steps: list[Any] = []
    while True:
        # One that the program made itself, by the class of another, has no parent.
        parent: Any = getattr(node, "_parent", None)
        if parent is None:
            return None, ()
        if type(parent) is Origin:
            return parent.proxy, (*parent.path, *reversed(steps))
        step = parent._step_of(node)
        if step is MISSING:
            return None, ()
        steps.append(step)
        node = parent


def _reduced(node: Node) -> tuple[Any, ...]:
    proxy, path = _place(node)
    if proxy is None:
        return (dict if isinstance(node, LiveDict) else list), (_plain(node),)
    return planted, (proxy, path, _plain(node))


def _has_changed(value: Any) -> bool:
    """Tell whether this is the second half of `parent[step] |= more`: the change was made."""
    return isinstance(value, LiveDict | LiveList) and getattr(value, "_augmented", False)


def assigned_back(value: Any, proxy: SyncProxy, *path: Any) -> bool:
    """Tell whether an operator such as |= has changed a node that Python puts back to its place.

    To store it again would undo what others have changed meanwhile.
    """
    if not _has_changed(value):
        return False
    origin = value._parent
    if type(origin) is not Origin or len(origin.path) != len(path):
        return False
    same = origin.proxy._reference is proxy._reference  # pyright: ignore[reportPrivateUsage]
    # A list's position may have been counted from the end.
    value._augmented = False
    return same and (origin.path == path or (type(path[0]) is int and path[0] < 0))


def _bounds(part: Any) -> list[int | None]:
    return [None if one is None else whole(one) for one in (part.start, part.stop, part.step)]


def _as_far_as_it_goes(change: Callable[..., Any], *given: Any, **named: Any) -> None:
    """Change what a node holds as the server's value was; others may have changed that."""
    try:
        change(*given, **named)
    except (IndexError, ValueError, TypeError):
        pass
