"""Views of shared objects: `live()`, `at(*path)` and `cached()`, for every type with paths.

A view of a whole object is a proxy of the same class whose channel does something on the way. It
shares the object's reference, and is pickled with its proxy. Nothing here sends or waits itself.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from itertools import count
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from aiomanager.objects.live import planted
from aiomanager.operation import (
    Awaited,
    Composite,
    Number,
    Operation,
    SharedObject,
    composite,
    named_as,
)
from aiomanager.proxy import AsyncProxy, Channel, Proxy, SyncProxy, shared_type_of
from aiomanager.stored import MISSING, Missing

if TYPE_CHECKING:
    from typing import Never

    from typing_extensions import TypeVar as DefaultTypeVar

    D = DefaultTypeVar("D", default=Never)
    NO_DEFAULT: Never = cast("Never", MISSING)
else:
    D = TypeVar("D")
    NO_DEFAULT = MISSING

__all__ = ("AsyncViews", "PlaceView", "SyncPlaceView", "SyncViews")

P = TypeVar("P", bound=Proxy)


class View(Channel):
    """The channel of a view: it hands on whatever the view does not do itself."""

    def __init__(self, inner: Proxy) -> None:
        self.inner: Any = inner
        """The proxy behind the view. It may change its channel; the view keeps its own."""

    def call(
        self, proxy: Proxy, operation: Operation[..., Any], arguments: tuple[Any, ...],
        owner: int = 0,
    ) -> Any:  # fmt: skip
        """Carry out one operation on the proxy behind the view."""
        inner = self.inner
        return inner._call(inner, operation, arguments, owner)

    def post(
        self, proxy: Proxy, operation: Operation[..., Any], arguments: tuple[Any, ...],
        owner: int = 0,
    ) -> None:  # fmt: skip
        """Send one operation without waiting for its answer."""
        self.inner._channel.post(self.inner, operation, arguments, owner)

    def owner(self) -> int:
        """Return the token of the running task or thread."""
        return cast("int", self.inner._channel.owner())

    def reduce(self, proxy: Proxy) -> tuple[Any, ...]:
        """Return how to pickle the view: with the proxy behind it."""
        raise NotImplementedError

    def other_face(self, proxy: Proxy, face: type[Proxy]) -> Proxy:
        """Return the other face of the view."""
        raise NotImplementedError

    def describe(self) -> str:
        """Return the server's URL."""
        return cast("str", self.inner._channel.describe())

    def now(self) -> float:
        """Return the seconds of a clock that never goes back."""
        return cast("float", self.inner._channel.now())


def _seen(proxy: P, view: View) -> P:
    """Return another proxy of the same object, with a view as its channel."""
    return type(proxy)(view, proxy._reference)  # pyright: ignore[reportPrivateUsage]


# live()


class LiveView(View):
    """Makes live nodes of the dicts and lists that an object's operations return."""

    def call(
        self, proxy: Proxy, operation: Operation[..., Any], arguments: tuple[Any, ...],
        owner: int = 0,
    ) -> Any:  # fmt: skip
        """Carry out one operation; what it returns is live where it stands in the object."""
        if operation.live_side is None:
            return super().call(proxy, operation, arguments, owner)
        return operation.live_side(self.inner, self._put, *arguments)

    def _put(self, path: tuple[Any, ...], value: Any) -> Any:
        return planted(self.inner, path, value)

    def reduce(self, proxy: Proxy) -> tuple[Any, ...]:
        """Return how to pickle the view: with the proxy behind it."""
        return _live, (self.inner,)

    def other_face(self, proxy: Proxy, face: type[Proxy]) -> Proxy:
        """Return the async proxy behind it: its changes are awaited, and no view writes them."""
        return cast("Proxy", self.inner.aio)


def _live(proxy: P) -> P:
    return _seen(proxy, LiveView(proxy))


# cached()


class CachedView(View):
    """Keeps a copy of the whole object, and reads from it while it is known to be good."""

    def __init__(self, inner: Proxy, seconds: float | None) -> None:
        super().__init__(inner)
        self._seconds = seconds
        # There is no lock on this floor. Threads add copies and take older ones out, and each of
        # these steps is one of Python's own; the newest copy only is ever shown.
        self._copies: dict[int, SharedObject] = {}
        """The object as it was at some versions: its own class, on plain values."""
        self._numbers = count()
        self._changes = next(self._numbers)
        """Another number after each beginning and each end of a change by this view."""
        self._good: tuple[int, float] = (self._changes, float("-inf"))
        """Until when the newest copy is good, and after which change."""

    def call(
        self, proxy: Proxy, operation: Operation[..., Any], arguments: tuple[Any, ...],
        owner: int = 0,
    ) -> Any:  # fmt: skip
        """Carry out one operation: on the copy, if it only reads."""
        return self.inner._driven(self._steps(operation, arguments, owner))

    def _steps(
        self, operation: Operation[..., Any], arguments: tuple[Any, ...], owner: int
    ) -> Generator[Any, Any, Any]:
        if operation.fresh:
            return (yield self.inner._call(self.inner, operation, arguments, owner))
        if operation.writes:
            self._changes = next(self._numbers)
            try:
                return (yield self.inner._call(self.inner, operation, arguments, owner))
            finally:
                self._changes = next(self._numbers)
        changes, until = self._good
        if self._seconds is None or changes != self._changes or self.now() >= until:
            yield from self._look()
        copies = self._copies.copy()
        result = operation.body(copies[max(copies)], *arguments)
        # A default is the caller's own.
        return result if any(result is one for one in arguments) else _apart(result)

    def _look(self) -> Generator[Any, Any, None]:
        """Have the newest copy confirmed, or get a newer one."""
        changes = self._changes
        asked = 0.0 if self._seconds is None else self.now()
        version, state = yield self.inner.get_state(max(self._copies.copy(), default=-1))
        if state is not None:
            known = object.__new__(cast("Any", shared_type_of(cast("Any", type(self.inner)))))
            known._set_state(state)
            known.version = version
            self._copies[version] = known
            for older in sorted(self._copies.copy())[:-1]:
                self._copies.pop(older, None)
        if self._seconds is not None:
            self._good = (changes, asked + self._seconds)

    def reduce(self, proxy: Proxy) -> tuple[Any, ...]:
        """Return how to pickle the view: with the proxy behind it, without the copy."""
        return _cached, (self.inner, self._seconds)

    def other_face(self, proxy: Proxy, face: type[Proxy]) -> Proxy:
        """Return a cached view of the other face, with a copy of its own."""
        other = self.inner.sync if issubclass(face, SyncProxy) else self.inner.aio
        return _cached(cast("Proxy", other), self._seconds)


def _apart(value: Any) -> Any:
    """Return a value that may be changed without changing this one."""
    kind = cast("Any", type(value))
    if kind is dict:
        return {key: _apart(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return cast("Any", kind(map(_apart, value)))
    return cast("Any", kind(value)) if kind is set or kind is bytearray else value


def _cached(proxy: P, seconds: float | None) -> P:
    channel = proxy._channel  # pyright: ignore[reportPrivateUsage]
    if isinstance(channel, LiveView):  # what is live is written to, and shown by the copy
        return _live(_cached(cast("P", channel.inner), seconds))
    return _seen(proxy, CachedView(proxy, seconds))


# at()


class PlaceMethods:
    """What both kinds of place can do; every method is one atomic operation on the server."""

    __slots__ = ("_path", "_proxy")

    def __init__(self, proxy: Any, path: tuple[Any, ...]) -> None:
        self._proxy = proxy
        self._path = path

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        for name, member in PlaceMethods.__dict__.items():
            if isinstance(member, Composite):
                made = member.asynchronous() if issubclass(cls, Awaited) else member.blocking()
                setattr(cls, name, named_as(made, cast("Any", member), cls, name))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._path!r} in {self._proxy!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._proxy, self._path)

    @property
    def path(self) -> tuple[Any, ...]:
        """The steps from the object to this place."""
        return self._path

    def at(self, *path: Any) -> Self:
        """Return a place further inside."""
        return type(self)(self._proxy, (*self._path, *path))

    @composite
    def get(self, default: D = NO_DEFAULT) -> Generator[Any, Any, Any | D]:
        """Return the value at this place, or `default`, when given, if a step is missing.

        Raises:
            KeyError, IndexError: a step is not there; the message names it.
            TypeError: a step reaches into something that is no dict or list.
        """
        return (yield self._proxy.get_nested(self._path, *_given(default)))

    @composite
    def exists(self) -> Generator[Any, Any, bool]:
        """Tell whether there is a value at this place."""
        return (yield self._proxy.contains_nested(self._path))  # type: ignore[no-any-return]

    @composite
    def length(self) -> Generator[Any, Any, int]:
        """Return the number of items of the container at this place.

        Raises:
            KeyError, IndexError, TypeError: as get; TypeError also for no container.
        """
        return (yield self._proxy.length_nested(self._path))  # type: ignore[no-any-return]

    @composite
    def set(self, value: Any) -> Generator[Any, Any, None]:
        """Set the value at this place; all steps but the last must be there.

        Raises:
            KeyError, IndexError, TypeError: as get.
        """
        yield self._proxy.update_nested(self._path, value)

    @composite
    def setdefault(self, value: Any) -> Generator[Any, Any, Any]:
        """Return the value at this place, set to `value` first if the last step is missing.

        Raises:
            KeyError, IndexError, TypeError: as get.
        """
        return (yield self._proxy.setdefault_nested(self._path, value))

    @composite
    def delete(self) -> Generator[Any, Any, None]:
        """Remove this key or list position.

        Raises:
            KeyError, IndexError, TypeError: as get.
        """
        yield self._proxy.delete_nested(self._path)

    @composite
    def pop(self, default: D = NO_DEFAULT) -> Generator[Any, Any, Any | D]:
        """Remove this key or list position and return its value, else `default`.

        Raises:
            KeyError, IndexError, TypeError: as get.
        """
        return (yield self._proxy.pop_nested(self._path, *_given(default)))

    @composite
    def increment(self, amount: Number = 1) -> Generator[Any, Any, Any]:
        """Add `amount` to the number at this place and return the sum; a missing key counts as 0.

        Raises:
            KeyError, IndexError, TypeError: as get; TypeError also for no number.
        """
        return (yield self._proxy.increment_nested(self._path, amount))

    @composite
    def compare_and_set(
        self, expected: Any | Missing, value: Any | Missing
    ) -> Generator[Any, Any, bool]:
        """Set the value at this place if it equals `expected`; tell whether it was set.

        MISSING as `expected` means that the last step is not there; as `value` it deletes.

        Raises:
            KeyError, IndexError, TypeError: as get.
        """
        return (yield self._proxy.compare_and_set_nested(self._path, expected, value))  # type: ignore[no-any-return]

    @composite
    def change(self, change: Callable[[Any], Any]) -> Generator[Any, Any, Any]:
        """Set the value at this place to `change(the value there)` and return that.

        `change` is called in the client, again whenever the value at this very place was changed
        meanwhile. It must not write there itself.

        Raises:
            KeyError, IndexError, TypeError: as get; and whatever `change` raises.
            VersionConflict: that happened a thousand times in a row.
        """
        return (yield self._proxy.change_nested(self._path, change))

    @composite
    def update(self, items: Mapping[Any, Any]) -> Generator[Any, Any, None]:
        """Set many keys of the dict at this place at once.

        Raises:
            KeyError, IndexError, TypeError: as get; TypeError also for no dict.
        """
        yield self._proxy.mutate_nested(self._path, "update", (dict(items),))

    @composite
    def append(self, value: Any) -> Generator[Any, Any, int]:
        """Append `value` to the list at this place, made if its key is missing; return its length.

        Raises:
            KeyError, IndexError, TypeError: as get; TypeError also for no list.
        """
        return (yield self._proxy.append_nested(self._path, value))  # type: ignore[no-any-return]

    @composite
    def extend(self, items: Iterable[Any]) -> Generator[Any, Any, None]:
        """Append all `items` to the list at this place, in one step.

        Raises:
            KeyError, IndexError, TypeError: as get; TypeError also for no list.
        """
        yield self._proxy.mutate_nested(self._path, "extend", (list(items),))

    @composite
    def insert(self, index: int, value: Any) -> Generator[Any, Any, None]:
        """Insert `value` before `index` into the list at this place.

        Raises:
            KeyError, IndexError, TypeError: as get; TypeError also for no list.
        """
        yield self._proxy.mutate_nested(self._path, "insert", (index, value))

    @composite
    def remove(self, value: Any) -> Generator[Any, Any, None]:
        """Remove the first item that equals `value` from the list at this place.

        Raises:
            ValueError: none equals it.
            KeyError, IndexError, TypeError: as get; TypeError also for no list.
        """
        yield self._proxy.mutate_nested(self._path, "remove", (value,))

    @composite
    def clear(self) -> Generator[Any, Any, None]:
        """Remove all items of the dict or list at this place.

        Raises:
            KeyError, IndexError, TypeError: as get; TypeError also for anything else.
        """
        yield self._proxy.mutate_nested(self._path, "clear")


def _given(default: Any) -> tuple[Any, ...]:
    return () if default is MISSING else (default,)


class PlaceView(Awaited, PlaceMethods):
    """A place inside a shared object, for async code: a path of dict keys and list positions."""

    __slots__ = ()

    @property
    def sync(self) -> "SyncPlaceView":
        """The same place for blocking code."""
        return SyncPlaceView(self._proxy.sync, self._path)

    @property
    def aio(self) -> Self:
        """This place."""
        return self


class SyncPlaceView(PlaceMethods):
    """A place inside a shared object, for blocking code, with the spelling of a dict or list."""

    __slots__ = ()

    @property
    def sync(self) -> Self:
        """This place."""
        return self

    @property
    def aio(self) -> PlaceView:
        """The same place for async code."""
        return PlaceView(self._proxy.aio, self._path)

    def __getitem__(self, step: Any) -> Any:
        return self.at(step).get()

    def __setitem__(self, step: Any, value: Any) -> None:
        self.at(step).set(value)

    def __delitem__(self, step: Any) -> None:
        self.at(step).delete()

    def __contains__(self, item: Any) -> bool:
        return item in self.get()

    def __len__(self) -> int:
        return self.length()

    def __bool__(self) -> bool:
        return True  # a place is no container: what is there may be anything, or nothing

    def __iter__(self) -> Iterator[Any]:
        return iter(self.get())


def _path_of(path: tuple[Any, ...]) -> tuple[Any, ...]:
    if not path:
        raise ValueError("at() needs at least one step: a dict key or a list position")
    return path


# The methods of proxies that make views


class _Views(Proxy):
    """The view of either kind of proxy that is one of the same kind."""

    def cached(self, seconds: float | None = None) -> Self:
        """Return a view that reads from a copy of the whole object; made without I/O.

        Each read first asks the server whether the object has changed, and gets it whole if so:
        for what is read often, changed seldom and not too large. With `seconds` nobody is asked
        while the copy is younger: a change by others may be seen so much later. What was shown
        is never older than what was shown before, and changes by this view are seen at once.
        """
        return _cached(self, seconds)


class AsyncViews(_Views, AsyncProxy):
    """The views of an async proxy."""

    def at(self, *path: Any) -> PlaceView:
        """Return a view of one place inside the object, made without I/O.

        `path` is a dict key or list position for each step. The view reads and changes the value
        there by one atomic operation each; errors name the step that is not there.
        """
        return PlaceView(self, _path_of(path))

    if not TYPE_CHECKING:
        # For type checkers it is not there: they find the mistake before it runs.
        def live(self):
            """Refuse: an assignment cannot be awaited."""
            raise TypeError(
                "a live view writes by statements such as d['a']['b'] = 1, which cannot be "
                "awaited, and this is an async proxy. Use 'await d.at('a', 'b').set(1)', or "
                "'d.sync.live()'"
            )


class SyncViews(_Views, SyncProxy):
    """The views of a blocking proxy."""

    def live(self) -> Self:
        """Return a view whose dicts and lists are live: changing one changes the shared object.

        `d.live()["rows"][0]["n"] = 1` is one atomic operation on the server, as is every other
        method that changes a dict or list (update, append, sort, +=, slices). What is read is a
        real dict or list that holds what was there when it was read out of the view. Sets, tuples
        and instances of other classes are copies.
        """
        channel = self._channel
        return self if isinstance(channel, LiveView) else _live(self)

    def at(self, *path: Any) -> SyncPlaceView:
        """Return a view of one place inside the object, made without I/O.

        `path` is a dict key or list position for each step. The view reads and changes the value
        there by one atomic operation each; errors name the step that is not there.
        """
        return SyncPlaceView(self, _path_of(path))
