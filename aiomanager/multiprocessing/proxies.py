"""The base of the drop-in's proxies: tokens, methods called by their names, proxy classes made.

A proxy's object is a native one, of aiomanager's own types, or a hosted one, of a program's own
class. What differs is behind `_callmethod`.
"""

# Proxy classes are made and called by functions outside of them.
# pyright: reportPrivateUsage=false

import contextlib
import importlib
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from multiprocessing import managers as _managers
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from aiomanager.errors import ObjectGone
from aiomanager.multiprocessing.addresses import shown
from aiomanager.multiprocessing.channel import DropInChannel, DropInProxy, channel_to
from aiomanager.multiprocessing.hosting import (
    ERROR,
    RETURN,
    TRACEBACK,
    UNSERIALIZABLE,
    Hosted,
)
from aiomanager.operation import Operation, SharedObject, bind
from aiomanager.protocol.address import parse_address
from aiomanager.proxy import Reference, shared_type_of

__all__ = (
    "AutoProxy",
    "BaseProxy",
    "MakeProxyType",
    "NativeProxy",
    "RemoteError",
    "Token",
    "forwarding",
    "handed_out",
    "proxy_name",
    "proxy_of",
)

Self = TypeVar("Self", bound="BaseProxy")


class RemoteError(Exception):
    """What went wrong on the way to a method, rather than in it; it holds the traceback's text."""

    def __str__(self) -> str:
        line = "-" * 75
        return f"\n{line}\n{self.args[0]}{line}"


RemoteError.__module__ = "aiomanager.multiprocessing.managers"  # where programs know it from


class RemoteTraceback(Exception):
    """The cause of an exception that a method raised in the server: where that was."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class Token:
    """Names a shared object: its typeid, its server's address and its id there."""

    __slots__ = ("address", "channel", "id", "reference", "shared", "typeid")

    def __init__(self, typeid: str, address: Any, id: str, shared: str = "") -> None:
        self.typeid = typeid
        self.address = address
        self.id = id
        self.shared = shared
        """The name of its shared type, if it is one of our own types."""
        self.channel: DropInChannel | None = None
        self.reference: Reference | None = None

    @classmethod
    def of(
        cls, channel: DropInChannel, reference: Reference, typeid: str, shared: str = ""
    ) -> "Token":
        """Return the token of an object that a reference already counts."""
        token = cls(typeid, shown(channel.endpoint.address), f"{reference.object_id:x}", shared)
        token.channel, token.reference = channel, reference
        return token

    def bound(self, authkey: bytes | None) -> tuple[DropInChannel, Reference]:
        """Return the way to the object and a reference to it."""
        if self.channel is not None and self.reference is not None:
            return self.channel, self.reference
        channel = channel_to(parse_address(self.address), authkey)
        return channel, Reference(channel.book, int(self.id, 16), 0)

    def __getstate__(self) -> tuple[str, Any, str, str]:
        return (self.typeid, self.address, self.id, self.shared)

    def __setstate__(self, state: tuple[str, Any, str, str]) -> None:
        self.typeid, self.address, self.id, self.shared = state
        self.channel = self.reference = None

    def __repr__(self) -> str:
        return f"Token(typeid={self.typeid!r}, address={self.address!r}, id={self.id!r})"


class BaseProxy(DropInProxy):
    """The base of the drop-in's proxies, and of a program's own.

    A class derived from it lists in `_exposed_` what it calls by `_callmethod`.
    """

    _exposed_: ClassVar[tuple[str, ...]] = ()
    """The methods of the shared object that clients may call."""
    _method_to_typeid_: ClassVar[Mapping[str, str]] = {}
    """The typeid of what these methods return a proxy of."""
    _typeid: str = ""
    _manager: Any = None
    _isauto: bool = False
    _shared: str = ""
    """The name of the shared type behind the proxy; "" when its object is a hosted one."""
    _authkey: bytes | None = None

    def __init__(
        self,
        token: Any,
        serializer: Any = "pickle",
        manager: Any = None,
        authkey: bytes | None = None,
        exposed: Any = None,
        incref: bool = True,
        manager_owned: bool = False,
    ) -> None:
        """Make a proxy from a token; `incref` and `manager_owned` mean nothing here."""
        if isinstance(token, Token):
            channel, reference = token.bound(authkey)
            super().__init__(channel, reference)
            put = object.__setattr__
            put(self, "_typeid", token.typeid)
            put(self, "_shared", token.shared)
            put(self, "_manager", manager)
            if exposed is not None:
                put(self, "_exposed_", tuple(exposed))
        else:
            # As all proxies of this package are made: from a channel and a reference.
            super().__init__(token, serializer)

    @property
    def _token(self) -> Token:
        channel = cast("DropInChannel", self._channel)
        return Token.of(channel, self._reference, self._typeid, self._shared)

    @property
    def _serializer(self) -> str:
        return cast("DropInChannel", self._channel).serializer

    @property
    def _id(self) -> str:
        return f"{self._reference.object_id:x}"

    if not TYPE_CHECKING:

        @property
        def aio(self):
            """The async proxy of the same object; one of a program's own class has none."""
            face = type(self)
            if not _is_native(face):
                raise AttributeError(
                    f"{face.__name__!r} object has no attribute 'aio': a hosted object is called "
                    "from threads; in async code use asyncio.to_thread(proxy.method)"
                )
            return super().aio

    def _described(self) -> str:
        """Return what to know of a proxy of a hosted object to make another; "" for native ones."""
        if self._shared or _is_native(type(self)):
            return ""
        face = "" if self._isauto else proxy_name(type(self))
        return f"{self._typeid} {face or '-'} {' '.join(self._exposed_)}"

    def _shown(self) -> str:
        """Return the representation of the shared object."""
        return cast("str", self._callmethod("__repr__"))

    def _getvalue(self) -> Any:
        """Return a copy of the shared object.

        Raises:
            RemoteError: it cannot be copied.
        """
        return self._callmethod("#GETVALUE")

    def _callmethod(
        self, methodname: str, args: tuple[Any, ...] = (), kwds: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a method of the shared object by its name, and return what it returns.

        Raises:
            RemoteError: there is no such method, or its result cannot be sent.
            Exception: whatever the method raised.
        """
        channel = cast("DropInChannel", self._channel)
        if self._shared:
            face = channel.face(channel.shared_type(self._shared))
            native = face(channel, self._reference)
            return native._callmethod(methodname, args, kwds)  # type: ignore[attr-defined]  # pyright: ignore
        given = (methodname, (tuple(args), dict(kwds or {})))
        try:
            answer = channel.call(self, Hosted.call, given, channel.owner())
        except ObjectGone as error:
            raise RemoteError(f"{error}\n") from None
        if answer[0] == RETURN and channel.serializer == "pickle":
            return answer[1]  # as `taken`, without a call in which a signal handler could raise
        return taken(channel, answer, self._manager)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} object, typeid {self._typeid!r} at {id(self):#x}>"

    def __str__(self) -> str:
        try:
            return self._shown()
        except Exception:
            return repr(self)[:-1] + "; '__str__()' failed>"

    def __copy__(self: Self) -> Self:
        made = type(self)(self._channel, self._reference)
        for name in ("_typeid", "_shared", "_manager", "_exposed_", "_isauto"):
            object.__setattr__(made, name, getattr(self, name))
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self._getvalue()


def taken(channel: DropInChannel, answer: Any, manager: Any) -> Any:
    """Return what a call's answer holds: a result, or the proxy of a new reference.

    Raises:
        RemoteError: it says what went wrong on the way to the method.
        Exception: whatever the method raised.
    """
    kind, value = answer[:2]
    if kind == RETURN:
        try:
            return channel.narrowed(value)
        except Exception as why:
            raise RemoteError(
                f"Unserializable message: {value!r}\n{type(why).__name__}: {why}\n"
            ) from None
    if kind == ERROR:
        error, text = value
        error.__cause__ = RemoteTraceback(text)
        try:
            raise error
        finally:
            del error, value, answer  # else they and this frame keep each other alive
    token, face, exposed = handed_out(channel, answer)
    return proxy_of(token, face, exposed, manager)


def handed_out(channel: DropInChannel, answer: Any) -> tuple[Token, str, tuple[str, ...]]:
    """Return the token of a new reference, the name of its proxy class, and its methods.

    Raises:
        RemoteError: the answer says why there is none.
    """
    kind, value, object_id, shared, exposed = answer
    if kind == UNSERIALIZABLE:
        raise RemoteError(f"Unserializable message: {value}")
    if kind == TRACEBACK:
        raise RemoteError(value)
    typeid, face = value
    token = Token.of(channel, channel.counted(object_id), typeid, shared)
    return token, face, tuple(exposed)


def proxy_of(token: Token, face: Any, exposed: Any, manager: Any = None) -> Any:
    """Return the proxy of an object, by the class or the name of one that was registered for it."""
    channel, reference = cast("Any", token.channel), cast("Any", token.reference)
    made = _found(face) if isinstance(face, str) else face
    if token.shared:
        native = channel.face(channel.shared_type(token.shared))
        if made is None or made is AutoProxy or made is native:
            proxy = native(channel, reference)
            object.__setattr__(proxy, "_typeid", token.typeid)
            return proxy
    elif made is None:
        made = AutoProxy
    elif isinstance(made, type) and issubclass(made, BaseProxy):
        made = _twin(made)
    authkey = channel.endpoint.key
    return made(token, "pickle", manager=manager, authkey=authkey, exposed=exposed)


def proxy_name(face: Any) -> str:
    """Return the name under which `face`, a proxy class or function, is found anywhere."""
    face = _twins_of.get(face, face)
    if face is None or face is AutoProxy or not hasattr(face, "__qualname__"):
        return ""
    name = f"{face.__module__}:{face.__qualname__}"
    return name if _found(name) is face else ""


def _found(name: str) -> Any:
    module, _, path = name.partition(":")
    try:
        found: Any = sys.modules.get(module) or importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError):
        return None
    return found


def forwarding(name: str) -> Callable[..., Any]:
    """Return the method of a proxy that calls the shared object's of this name."""

    def method(self: BaseProxy, /, *args: Any, **kwds: Any) -> Any:
        return self._callmethod(name, args, kwds)

    def in_place(self: BaseProxy, /, *args: Any, **kwds: Any) -> Any:
        self._callmethod(name, args, kwds)
        return self

    chosen = in_place if name in _IN_PLACE else method
    chosen.__name__ = chosen.__qualname__ = name
    return chosen


_IN_PLACE = frozenset({"__iadd__", "__imul__", "__ior__", "__iand__", "__isub__", "__ixor__"})

_made: dict[tuple[str, tuple[str, ...]], type[BaseProxy]] = {}


def MakeProxyType(  # noqa: N802
    name: str, exposed: Iterable[str], _cache: object = None
) -> type[BaseProxy]:
    """Return a proxy class with methods of these names, which call those of the shared object."""
    methods = tuple(exposed)
    found = _made.get((name, methods))
    if found is None:
        members: dict[str, Any] = {method: forwarding(method) for method in methods}
        members["_exposed_"] = methods
        found = _made[name, methods] = type(name, (BaseProxy,), members)
    return found


def AutoProxy(  # noqa: N802
    token: Token,
    serializer: Any = "pickle",
    manager: Any = None,
    authkey: bytes | None = None,
    exposed: Any = None,
    incref: bool = True,
    manager_owned: bool = False,
) -> Any:
    """Return a proxy with all public methods of the object that a token names."""
    channel, reference = token.bound(authkey)
    if token.shared:
        native = channel.face(channel.shared_type(token.shared))
        return native(channel, reference)
    if exposed is None:
        probe = BaseProxy(channel, reference)
        exposed = channel.call(probe, Hosted.methods, ())
    kind = MakeProxyType(f"AutoProxy[{token.typeid}]", exposed)
    proxy = kind(token, serializer, manager=manager, authkey=authkey)
    proxy._isauto = True
    return proxy


_standard = cast("Any", _managers)
_twins: dict[type[BaseProxy], type[BaseProxy]] = {}
_twins_of: dict[Any, Any] = {}


def _is_native(face: type[BaseProxy]) -> bool:
    """Tell whether proxies of a class stand for objects of our own types."""
    return shared_type_of(face) is not SharedObject and face not in _twins_of


def _twin(face: type[BaseProxy]) -> type[BaseProxy]:
    """Return what a proxy class of our own types, or one derived from it, is for hosted objects.

    Below the program's class stands one that calls by name, where `super()` finds it.
    """
    native = next((kind for kind in face.__mro__ if kind in DropInChannel.faces.values()), None)
    if native is None:
        return face
    twin = _twins.get(face)
    if twin is None:
        by_name = cast("type[BaseProxy]", native)
        bases = (by_name,) if face is native else (face, _twin(by_name))
        members = _members_by_name(by_name) if face is native else {}
        members.update(__module__=face.__module__, __qualname__=face.__qualname__)
        twin = _twins[face] = type(face.__name__, bases, members)
        _twins_of[twin] = face
    return twin


def _members_by_name(native: type[BaseProxy]) -> dict[str, Any]:
    """Return what makes of a native proxy class one that calls by name: all of its methods.

    They are those of the standard library's class of this name, where it has one, and those that
    the class exposes; a hosted object has none of the others.
    """
    found: dict[str, Any] = {}
    for kind in native.__mro__:
        if kind not in BaseProxy.__mro__:
            found.update(dict.fromkeys(kind.__dict__))
    members: dict[str, Any] = {
        name: _Hidden()
        for name in found
        if not name.startswith("_") and not hasattr(BaseProxy, name)
    }
    members.update({name: _unsupported for name in _OPERATORS if name in found})
    if "__iter__" in found:
        members["__iter__"] = _iterate
    members.update({name: forwarding(name) for name in native._exposed_ if name in found})
    for kind in reversed(getattr(_standard, native.__name__, object).__mro__):
        if issubclass(kind, _standard.BaseProxy) and kind is not _standard.BaseProxy:
            written = kind.__dict__.items()
            members.update((n, m) for n, m in written if isinstance(m, FunctionType | property))
    for name in ("_shown", "_getvalue", "_callmethod"):
        members[name] = BaseProxy.__dict__[name]
    return members


class _Hidden:
    """A method of our own types only: a hosted object has none of this name."""

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._name = name

    def __get__(self, proxy: object, kind: type[Any]) -> Any:
        raise AttributeError(f"{kind.__name__!r} object has no attribute {self._name!r}")


_OPERATORS = ("__or__", "__ror__", "__ior__")


def _unsupported(self: BaseProxy, other: object) -> Any:
    return NotImplemented


def _iterate(self: Any) -> Iterator[Any]:
    """Iterate by index, as Python does where there is no `__iter__`."""
    with contextlib.suppress(IndexError):
        for index in itertools.count():
            yield self[index]


def _hosted_proxy(channel: DropInChannel, reference: Reference, description: str) -> Any:
    """Make the proxy of a hosted object from what `_described` said of another one."""
    typeid, face, *exposed = description.split(" ")
    token = Token.of(channel, reference, typeid)
    return proxy_of(token, face, exposed)


class NativeProxy(BaseProxy):
    """The base of proxies of our own types: their methods are declared operations."""

    def _shown(self) -> str:
        raise NotImplementedError

    def _getvalue(self) -> Any:
        raise RemoteError(f"Unserializable message: a shared {self._typeid} cannot be copied\n")

    def _callmethod(
        self, methodname: str, args: tuple[Any, ...] = (), kwds: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a method of the shared object by its name, and return what it returns.

        Raises:
            RemoteError: there is no such method.
        """
        # The program may have derived a class whose methods call this one: its own are passed by.
        channel = cast("DropInChannel", self._channel)
        face = cast("type[NativeProxy]", channel.face(shared_type_of(type(self))))
        if methodname == "#GETVALUE":
            return face._getvalue(self)
        if methodname in ("__str__", "__repr__"):
            return face._shown(self)
        if methodname not in face._exposed_:
            raise RemoteError(
                f"AttributeError: method {methodname!r} of a shared {self._typeid} "
                f"is not in exposed={face._exposed_!r}\n"
            )
        method = getattr(face, methodname)
        if kwds:
            operation = shared_type_of(face).operations.get(methodname)
            args, kwds = _by_place(method, operation, self, args, kwds)
        # Behind a call with `*args` the interpreter lets signal handlers in, and what was got or
        # acquired would be nobody's.
        number = -1 if kwds else len(args)
        if number == 0:
            return method(self)
        if number == 1:
            return method(self, args[0])
        if number == 2:
            return method(self, args[0], args[1])
        if number == 3:
            return method(self, args[0], args[1], args[2])
        if number == 4:
            return method(self, args[0], args[1], args[2], args[3])
        return method(self, *args, **(kwds or {}))


def _by_place(
    method: Callable[..., Any],
    operation: Operation[..., Any] | None,
    proxy: BaseProxy,
    args: tuple[Any, ...],
    kwds: Mapping[str, Any],
) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Return the same arguments with as many of them as can be by their places."""
    import inspect  # which takes longer to import than all calls without names

    kinds = {one.kind for one in inspect.signature(method).parameters.values()}
    if kinds <= {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY}:
        bound = inspect.signature(method).bind(proxy, *args, **kwds)
        bound.apply_defaults()
        return bound.args[1:], {}
    if operation is not None and inspect.Parameter.VAR_KEYWORD in kinds:
        return bind(operation.name, operation.signature, args, dict(kwds)), {}  # as it does
    return args, kwds


DropInChannel.hosted = staticmethod(_hosted_proxy)
