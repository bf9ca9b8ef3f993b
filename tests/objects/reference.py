"""What the operations along a path must do, written down as plain Python on plain values."""

from typing import Any

__all__ = ("Nest",)

MISSING: Any = object()


def _enter(container: Any, step: Any) -> None:
    if type(container) is list:
        if type(step) is not int:
            raise TypeError(step)
    elif type(container) is not dict:
        raise TypeError(container)


def _is_there(container: Any, step: Any) -> bool:
    if type(container) is dict:
        return step in container
    return -len(container) <= step < len(container)


class Nest:
    """A value with the operations of `Nested` on it."""

    def __init__(self, root: Any) -> None:
        self.root = root

    def _end(self, path: tuple[Any, ...]) -> tuple[Any, Any]:
        if not path:
            raise ValueError(path)
        container = self.root
        for step in path[:-1]:
            _enter(container, step)
            container = container[step]
        _enter(container, path[-1])
        return container, path[-1]

    def get(self, path: Any, *default: Any) -> Any:
        try:
            container, step = self._end(path)
            return container[step]
        except (KeyError, IndexError):
            if default:
                return default[0]
            raise

    def contains(self, path: Any) -> bool:
        try:
            return _is_there(*self._end(path))
        except (KeyError, IndexError):
            return False

    def update(self, path: Any, value: Any) -> None:
        container, step = self._end(path)
        container[step] = value

    def setdefault(self, path: Any, value: Any) -> Any:
        container, step = self._end(path)
        if not _is_there(container, step):
            container[step] = value
        return container[step]

    def delete(self, path: Any) -> None:
        container, step = self._end(path)
        del container[step]

    def pop(self, path: Any, *default: Any) -> Any:
        try:
            container, step = self._end(path)
            return container.pop(step)
        except (KeyError, IndexError):
            if default:
                return default[0]
            raise

    def increment(self, path: Any, amount: Any) -> Any:
        container, step = self._end(path)
        if type(container) is dict and step not in container:
            container[step] = amount
        else:
            container[step] = add(container[step], amount)
        return container[step]

    def append(self, path: Any, value: Any) -> int:
        container, step = self._end(path)
        if type(container) is dict and step not in container:
            container[step] = []
        if type(container[step]) is not list:
            raise TypeError(path)
        container[step].append(value)
        return len(container[step])

    def compare_and_set(self, path: Any, expected: Any, value: Any) -> bool:
        container, step = self._end(path)
        if _is_there(container, step):
            if expected is MISSING or container[step] != expected:
                return False
            if value is MISSING:
                del container[step]
                return True
        elif expected is not MISSING:
            return False
        if value is not MISSING:
            container[step] = value
        return True


def add(number: Any, amount: Any) -> Any:
    """Add as `increment` does: numbers alone have a sum."""
    if number is None or isinstance(number, str | bytes | list | tuple | dict | set | frozenset):
        raise TypeError(number)
    return number + amount
