"""The bases of proxies: what a client holds in place of a shared object.

A proxy class names its shared class as a base; its methods are made from the declared operations
when the class is made. A proxy only hands calls to its channel: it never sends or waits itself.
"""

# The methods of proxies are made by functions outside of their classes.
# pyright: reportPrivateUsage=false

from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Protocol, cast

from aiomanager.operation import (
    Awaited,
    Composite,
    Driven,
    Operation,
    SharedObject,
    begin,
    bind,
    drive_blocking,
    named_as,
)
from aiomanager.stored import ABSENT

__all__ = (
    "AsyncFactory",
    "AsyncProxy",
    "CannotBeAwaited",
    "Channel",
    "Proxy",
    "Reference",
    "ReferenceBook",
    "SyncFactory",
    "SyncProxy",
    "async_face",
    "made_by",
    "shared_type_of",
    "sync_face",
    "unawaitable_attribute",
)


class Channel(Protocol):
    """The way from a proxy to the server; a client's shell provides it."""

    def call(
        self,
        proxy: "Proxy",
        operation: Operation[..., Any],
        arguments: tuple[Any, ...],
        owner: int = 0,
        /,
    ) -> Any:
        """Carry out one operation: return its result, or a coroutine that does."""
        ...

    def post(
        self,
        proxy: "Proxy",
        operation: Operation[..., Any],
        arguments: tuple[Any, ...],
        owner: int = 0,
        /,
    ) -> None:
        """Send one operation without waiting for its answer.

        An error that it ends with is raised by the session's next call on the same object.
        """
        ...

    def owner(self) -> int:
        """Return the token of the running task or thread."""
        ...

    def reduce(self, proxy: "Proxy", /) -> tuple[Any, ...]:
        """Return how to pickle `proxy`, and keep its object alive for a while."""
        ...

    def other_face(self, proxy: "Proxy", face: "type[Proxy]", /) -> "Proxy":
        """Return the blocking proxy of an async one, or the other way round."""
        ...

    def describe(self) -> str:
        """Return the server's URL."""
        ...

    def now(self) -> float:
        """Return the seconds of a clock that never goes back."""
        ...


class ReferenceBook(Protocol):
    """What this process knows of the references that one server counts for it."""

    epoch: int
    """Changes when the server no longer counts what it counted before: after a fork, say."""
    forks: int
    """How often this process has forked: a child has the references of before, too."""

    def drop(self, reference: "Reference", /) -> None:
        """Tell the server with a later call that a reference is gone; called by finalizers."""
        ...


class Reference:
    """One counted reference to an object on the server: while it lives, so does the object."""

    __slots__ = ("__weakref__", "book", "epoch", "forks", "object_id")

    def __init__(self, book: ReferenceBook, object_id: int, epoch: int) -> None:
        self.book = book
        self.object_id = object_id
        self.forks = book.forks
        self.epoch = epoch
        """The book's epoch in which the server counted this reference; 0: not yet."""

    def __del__(self) -> None:
        if self.epoch:
            self.book.drop(self)


def _method(operation: Operation[..., Any]) -> Callable[..., Any]:
    """Return the proxy method of `operation`: a plain closure for its number of parameters."""
    name, signature = operation.name, operation.signature

    def complete(given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        return bind(name, signature, given, named)

    if operation.owned:

        def owned(self: Proxy, /, *given: Any, **named: Any) -> Any:
            channel = self._channel
            # The owner is read before a coroutine is made: wait_for and gather may run it in a
            # task of their own.
            return channel.call(self, operation, complete(given, named), channel.owner())

        return owned
    count = len(operation.parameters)
    required = signature.required
    if signature.keywords or count > 3:

        def general(self: Proxy, /, *given: Any, **named: Any) -> Any:
            return self._call(self, operation, complete(given, named))

        return general
    if count == 0:

        def none(self: Proxy) -> Any:
            return self._call(self, operation, ())

        return none
    if count == 1:

        def one(self: Proxy, a: Any = ABSENT, /, **named: Any) -> Any:
            given = () if a is ABSENT else (a,)
            if named or len(given) < required:
                given = complete(given, named)
            return self._call(self, operation, given)

        return one
    if count == 2:

        def two(self: Proxy, a: Any = ABSENT, b: Any = ABSENT, /, **named: Any) -> Any:
            given = (() if a is ABSENT else (a,)) if b is ABSENT else (a, b)
            if named or len(given) < required:
                given = complete(given, named)
            return self._call(self, operation, given)

        return two

    def three(
        self: Proxy, a: Any = ABSENT, b: Any = ABSENT, c: Any = ABSENT, /, **named: Any
    ) -> Any:
        given: tuple[Any, ...]
        if b is ABSENT:
            given = () if a is ABSENT else (a,)
        else:
            given = (a, b) if c is ABSENT else (a, b, c)
        if named or len(given) < required:
            given = complete(given, named)
        return self._call(self, operation, given)

    return three


class Proxy:
    """What both kinds of proxy share: a channel and a counted reference."""

    _is_proxy: ClassVar[bool] = True
    _shared_type: ClassVar[type[SharedObject]] = SharedObject
    """The declared class behind the proxy."""
    _installs: ClassVar[Callable[[Any], Callable[..., Any]]]

    _channel: Channel
    _reference: Reference
    _call: Callable[..., Any]

    def __init__(self, channel: Channel, reference: Reference) -> None:
        # Proxies of some types turn attributes into calls, hence object's own setter.
        put = object.__setattr__
        put(self, "_channel", channel)
        put(self, "_reference", reference)
        put(self, "_call", channel.call)

    def __init_subclass__(cls, shared: type[SharedObject] | None = None, **more: Any) -> None:
        """Install the operations of the shared class among the bases as methods.

        With `shared`, the class stands for objects of that type without having their methods.
        """
        super().__init_subclass__(**more)
        if shared is not None:
            cls._stand_for(shared)
            return
        shared = next(
            (
                base
                for base in cls.__mro__
                if issubclass(base, SharedObject) and not issubclass(base, Proxy)
            ),
            None,
        )
        if shared is None or shared is SharedObject:
            return
        cls._stand_for(shared)
        for base in reversed(shared.__mro__):
            for name in base.__dict__:
                member = next(kind.__dict__[name] for kind in cls.__mro__ if name in kind.__dict__)
                if isinstance(member, Operation):
                    method = _method(cast("Operation[..., Any]", member))
                elif isinstance(member, Composite):
                    method = cls._installs(member)
                else:
                    continue  # a base's own, or written out in the proxy class
                if name == "keys" and issubclass(cls, AsyncProxy):
                    method = _told(method)
                setattr(cls, name, named_as(method, cast("Any", member), cls, name))

    @classmethod
    def _stand_for(cls, shared: type[SharedObject]) -> None:
        cls._shared_type = shared
        # The first class of each kind is the face that `sync` and `aio` give.
        if issubclass(cls, AsyncProxy):
            _async_faces.setdefault(shared, cls)
        elif issubclass(cls, SyncProxy):
            _sync_faces.setdefault(shared, cls)

    def _post(self, operation: Any, *arguments: Any) -> None:
        """Send an operation that ends a `with` block, without waiting for its answer."""
        self._channel.post(self, operation, arguments, self._channel.owner())

    def __repr__(self) -> str:
        kind = type(self)._shared_type.type_name
        number = self._reference.object_id
        return f"<{type(self).__name__} of {kind} {number} at {self._channel.describe()}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return self._channel.reduce(self)

    # A proxy inherits the shared class for its types only: equality is identity.
    __eq__ = object.__eq__
    __hash__ = object.__hash__


def _unawaitable(said: str, fix: str, operation: str) -> Callable[..., NoReturn]:
    def method(self: Proxy, *_given: Any) -> NoReturn:
        name = type(self).__name__
        known = operation in self._shared_type.operations or operation in dir(type(self))
        advice = f"Use {fix}" if known else "This kind of object does not offer it"
        raise TypeError(f"{said} cannot be awaited, and {name} is an async proxy. {advice}.")

    return method


class CannotBeAwaited(TypeError, AttributeError):
    """An attribute stands for what has to be awaited; for `hasattr()` it is not there."""


def unawaitable_attribute(name: str, get: str, change: str) -> Any:
    """Return an attribute of an async proxy that the blocking one has, and this one cannot have."""

    def refuse(proxy: Proxy, said: str, fix: str) -> NoReturn:
        kind = type(proxy).__name__
        raise CannotBeAwaited(f"{said} cannot be awaited, and {kind} is an async proxy. Use {fix}.")

    def read(self: Proxy) -> NoReturn:
        refuse(self, f"x.{name}", f"'await x.{get}', or 'x.sync.{name}'")

    def assign(self: Proxy, _value: object) -> NoReturn:
        refuse(self, f"x.{name} = ...", f"'await x.{change}', or 'x.sync.{name} = ...'")

    return property(read, assign)


def _unawaitable_operator(said: str, operator: str, *fixes: tuple[str, str]) -> Any:
    """Return what refuses an operator that the blocking proxy has, and leaves any other alone.

    Each fix is a method that it takes, and what to write.
    """

    def method(self: Proxy, _other: object) -> Any:
        # Not by getattr: each class has the operators of classes.
        kinds = sync_face(self._shared_type).__mro__[:-1]
        offered = {name for kind in kinds for name in vars(kind)}
        if operator not in offered:
            return NotImplemented
        ways = [f"'{fix}'" for needed, fix in fixes if needed in offered]
        raise TypeError(
            f"{said} cannot be awaited, and {type(self).__name__} is an async proxy. "
            f"Use {', or '.join(ways) or 'the blocking proxy, x.sync'}."
        )

    return method


class _Keys(Driven[Any]):
    """What the `keys()` of an async proxy returns: dict(d) and {**d} take it for the keys."""

    def __iter__(self) -> Iterator[Any]:
        # Not at once: dict() would put a reason of its own in place of an error from here.
        yield from self._refused()

    def _refused(self) -> list[Any]:
        self.close()
        raise TypeError(
            "keys() of an async proxy has to be awaited. Use 'await d.keys()', and in place of "
            "dict(d) 'await d.copy()', or 'dict(d.sync)'."
        )


def _told(method: Callable[..., Any]) -> Callable[..., Any]:
    def keys(self: Proxy, *given: Any, **named: Any) -> Any:
        return _Keys(method(self, *given, **named), None)

    return keys


class AsyncProxy(Proxy, Awaited):
    """The base of async proxies: every operation is a coroutine."""

    _installs: ClassVar[Callable[[Any], Callable[..., Any]]] = cast("Any", Composite).asynchronous
    _driven = staticmethod(begin)

    def _plain_copy(self) -> NoReturn:
        """Raise TypeError: the copy has to be awaited."""
        known = "copy" in type(self)._shared_type.operations
        raise TypeError(
            f"{type(self).__name__} is an async proxy, and its items have to be awaited: pass "
            + ("'await x.copy()'" if known else "the items")
            + ", or the blocking proxy, 'x.sync'"
        )

    if TYPE_CHECKING:
        sync: Any  # an attribute, so that a proxy class can declare its type in a line
        aio: Any
    else:

        @property
        def sync(self):
            """The blocking proxy of the same object, made without I/O."""
            return self._channel.other_face(self, sync_face(self._shared_type))

        @property
        def aio(self):
            """This proxy."""
            return self

        # For type checkers these are not there at all: they find the mistake before it runs.
        __getitem__ = _unawaitable("d[k]", "'await d.get_item(k)', or 'd.sync[k]'", "get_item")
        __setitem__ = _unawaitable("d[k] = v", "'await d.set(k, v)', or 'd.sync[k] = v'", "set")
        __delitem__ = _unawaitable("del d[k]", "'await d.delete(k)', or 'del d.sync[k]'", "delete")
        __contains__ = _unawaitable("k in d", "'await d.contains(k)', or 'k in d.sync'", "contains")
        __len__ = _unawaitable("len(d)", "'await d.length()', or 'len(d.sync)'", "length")
        __iter__ = _unawaitable(
            "for k in d", "'async for k in d', or 'for k in d.sync'", "__aiter__"
        )
        __bool__ = _unawaitable("bool(d)", "'await d.length()', or compare with None", "length")
        __reversed__ = _unawaitable(
            "reversed(d)", "'reversed(await d.copy())', or 'reversed(d.sync)'", "copy"
        )
        __enter__ = _unawaitable("with x", "'async with x', or 'with x.sync'", "__aenter__")

        def __exit__(self, *_error): ...

        def __setattr__(self, name, value):
            kind = type(self)
            # A program's own class may keep what it likes; what was set on one of ours would be
            # taken for shared.
            if (
                name.startswith("_")
                or hasattr(kind, name)
                or not kind.__module__.startswith("aiomanager.")
            ):
                return object.__setattr__(self, name, value)
            raise AttributeError(
                f"{kind.__name__} has no attribute {name!r} to be set, and what is set on a proxy "
                "is not shared: await one of its methods, such as set()"
            )


def _refuse_operators() -> None:
    for symbol, word in (("<=", "le"), ("<", "lt"), (">=", "ge"), (">", "gt")):
        _refuse_operator(symbol, word)
    for symbol, word, change in (
        ("|", "or", "update"),
        ("&", "and", "intersection_update"),
        ("-", "sub", "difference_update"),
        ("^", "xor", "symmetric_difference_update"),
        ("+", "add", "extend"),
        ("*", "mul", "multiply"),
    ):
        operator = _refuse_operator(symbol, word)
        right = _unawaitable_operator(
            f"x {symbol} y",
            operator,
            ("copy", f"x {symbol} await y.copy()"),
            (f"__r{word}__", f"x {symbol} y.sync"),
        )
        within = _unawaitable_operator(f"x {symbol}= y", operator, (change, f"await x.{change}(y)"))
        setattr(AsyncProxy, f"__r{word}__", right)
        setattr(AsyncProxy, f"__i{word}__", within)


def _refuse_operator(symbol: str, word: str) -> str:
    operator = f"__{word}__"
    left = _unawaitable_operator(
        f"x {symbol} y",
        operator,
        ("copy", f"await x.copy() {symbol} y"),
        (operator, f"x.sync {symbol} y"),
    )
    setattr(AsyncProxy, operator, left)
    return operator


_refuse_operators()


class SyncProxy(Proxy):
    """The base of blocking proxies: every operation returns its result."""

    _installs: ClassVar[Callable[[Any], Callable[..., Any]]] = cast("Any", Composite).blocking
    _driven = staticmethod(drive_blocking)

    def _plain_copy(self) -> Any:
        """Return a plain copy of the object, made in one call; this proxy if it has none."""
        copy = type(self)._shared_type.operations.get("copy")
        # A user's type may mean something else by the word.
        return self if copy is None or copy.parameters else self._call(self, copy, ())

    if TYPE_CHECKING:
        sync: Any
        aio: Any
    else:

        @property
        def sync(self):
            """This proxy."""
            return self

        @property
        def aio(self):
            """The async proxy of the same object, made without I/O."""
            return self._channel.other_face(self, async_face(self._shared_type))


_async_faces: dict[type[SharedObject], type[AsyncProxy]] = {}
_sync_faces: dict[type[SharedObject], type[SyncProxy]] = {}


def shared_type_of(face: "type[Proxy]") -> type[SharedObject]:
    """Return the declared class behind a class of proxies."""
    return face._shared_type


def made_by(face: Any, kind: "type[Proxy]") -> type[SharedObject]:
    """Return the declared class behind what `create()` of a manager was given.

    Raises:
        TypeError: it is no class of proxies of this kind, AsyncProxy or SyncProxy.
    """
    if isinstance(face, type) and issubclass(face, kind) and face._shared_type is not SharedObject:
        return face._shared_type
    asynchronous = kind is AsyncProxy
    said = face.__name__ if isinstance(face, type) else repr(face)
    if isinstance(face, type) and issubclass(face, SharedObject):
        # The shared type itself, or its proxy of the other kind.
        shared = face._shared_type if issubclass(face, Proxy) else face
        known = (_async_faces if asynchronous else _sync_faces).get(shared)
        if known is not None:
            said += f"; here that is {known.__name__}"
    raise TypeError(
        f"create() takes a class of {'async' if asynchronous else 'blocking'} proxies, as made by "
        f"'class TallyProxy({kind.__name__}, Tally)' for a shared type Tally, not {said}"
    )


def async_face(shared: type[SharedObject]) -> type[AsyncProxy]:
    """Return the async proxy class of a shared type; one is made when none was written."""
    if shared not in _async_faces:
        type(f"{shared.__name__}Proxy", (AsyncProxy, shared), {})
    return _async_faces[shared]


def sync_face(shared: type[SharedObject]) -> type[SyncProxy]:
    """Return the blocking proxy class of a shared type; one is made when none was written."""
    if shared not in _sync_faces:
        type(f"Sync{shared.__name__}Proxy", (SyncProxy, shared), {})
    return _sync_faces[shared]


class AsyncFactory:
    """What makes shared objects for async code: a manager, or its `named` view."""

    def _make(
        self, face: type[Any], name: str | None, given: tuple[Any, ...], named: dict[str, Any]
    ) -> Coroutine[Any, Any, Any]:
        raise NotImplementedError


class SyncFactory:
    """What makes shared objects for blocking code: a manager, or its `named` view."""

    def _make(
        self, face: type[Any], name: str | None, given: tuple[Any, ...], named: dict[str, Any]
    ) -> Any:
        raise NotImplementedError
