"""The declaration of operations: one method of a shared class is all that is written of each.

From the declaration follow the server's dispatch, the methods of both proxies, their static types
and `protocol/operations.json`. Nothing here encodes, sends or waits.

The decorator says the kind of an operation:

    @reads      answers at once and changes nothing
    @writes     answers at once and may change the object
    @waits      may answer later (`R | Waiter[R]`)
    @consumes   as waits, and what it hands out can be taken back until its caller has kept it
    @owned      as writes, and is told who calls (`caller: Caller` first, unseen by clients)
    @acquires   as consumes, and is told who calls
    @delegates  as waits, and is told who calls; what was begun goes on when the caller has left
"""

import functools
import types
import typing
from collections.abc import (
    Callable,
    Coroutine,
    Generator,
    Hashable,
    Iterable,
    Mapping,
    Sequence,
)
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Concatenate,
    Final,
    Generic,
    NamedTuple,
    Never,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypeVar,
    cast,
    overload,
)

from aiomanager.stored import ABSENT, Missing
from aiomanager.waiter import Caller, Waiter

__all__ = (
    "REQUIRED",
    "Awaited",
    "Composite",
    "Declared",
    "Driven",
    "Elements",
    "Home",
    "K",
    "Number",
    "Opaque",
    "Operation",
    "Parameter",
    "Raw",
    "Shape",
    "Shared",
    "SharedObject",
    "Step",
    "V",
    "acquires",
    "begin",
    "bind",
    "composite",
    "consumes",
    "delegates",
    "drive",
    "drive_blocking",
    "fresh",
    "named_as",
    "owned",
    "plain_copy",
    "reads",
    "regains",
    "signature_of",
    "waits",
    "writes",
)

K = TypeVar("K")
"""A key: canonical bytes on the server."""
V = TypeVar("V")
"""A value: encoded on the server, opened only by bodies that look inside."""
Step: TypeAlias = Annotated[Hashable, "step"]
"""One step of a path inside a value: a dict key or a list position."""
Opaque: TypeAlias = Annotated[Any, "opaque"]
"""Any value: one that lies inside another, so that V does not describe it."""

if TYPE_CHECKING:
    from decimal import Decimal
    from fractions import Fraction

    Number: TypeAlias = int | float | Decimal | Fraction
else:
    Number = Annotated[Any, "number"]
"""A number that is to be added: an int of any size, a float, a Decimal or a Fraction, as itself."""

Shared: TypeAlias = Annotated[Any, "object"]
"""A shared object: a client gives a proxy, and the body gets the object itself."""

Raw: TypeAlias = Annotated[Any, "raw"]
"""What is passed on as it travels, unread."""

Elements: TypeAlias = Annotated[Iterable[K], "set"]
"""The elements of a set, from anything that can be iterated, a string too."""

P = ParamSpec("P")
R = TypeVar("R")
Q = ParamSpec("Q")
S = TypeVar("S")


class Shape(NamedTuple):
    """What an annotation means on the wire: a kind, and the shapes of its parts."""

    kind: str
    parts: tuple["Shape", ...] = ()

    def __str__(self) -> str:
        if self.kind == "optional":
            return f"{self.parts[0]} | nil"
        if self.kind == "path":
            return f"path[{', '.join(map(str, self.parts))}]"
        if not self.parts:
            return self.kind
        return f"{self.kind}[{', '.join(map(str, self.parts))}]"


class Parameter(NamedTuple):
    """One parameter of an operation."""

    name: str
    shape: Shape
    default: object
    """The declared default; REQUIRED when there is none."""
    positional_only: bool = False


class _Required:
    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED = _Required()

_PLAIN: dict[object, Shape] = {
    None: Shape("nil"),
    type(None): Shape("nil"),
    bool: Shape("bool"),
    int: Shape("int"),
    float: Shape("float"),
    str: Shape("str"),
    bytes: Shape("bytes"),
    object: Shape("value"),
    Step: Shape("step"),
    Opaque: Shape("value"),
    Number: Shape("number"),
    Raw: Shape("raw"),
    Shared: Shape("object"),
    K: Shape("key"),
    V: Shape("value"),
    Elements: Shape("set", (Shape("key"),)),
}


def _shape(annotation: Any, where: str) -> Shape:
    """Return the shape of an annotation; raise TypeError when it cannot travel."""
    try:
        known = _PLAIN.get(annotation)
    except TypeError:  # unhashable
        known = None
    if known is not None:
        return known
    if isinstance(annotation, TypeVar):
        # Neither K nor V: a default, which stays with the caller.
        return Shape("default")
    origin: Any = typing.get_origin(annotation)
    arguments: tuple[Any, ...] = typing.get_args(annotation)
    if origin in (types.UnionType, typing.Union):
        parts = [
            Shape("missing") if part is Missing else _shape(part, where)
            for part in arguments
            if not _is_waiter(part)
        ]
        return _union(parts, where)
    if origin in (list, Sequence) and len(arguments) == 1:
        return Shape("list", (_shape(arguments[0], where),))
    if origin is Iterable or origin is typing.get_origin(Iterable[Any]):
        inner = _shape(arguments[0], where)
        if inner.kind == "tuple" and len(inner.parts) == 2:
            return Shape("pairs", inner.parts)
        return Shape("list", (inner,))
    if origin in (dict, Mapping) and len(arguments) == 2:
        return Shape("pairs", tuple(_shape(part, where) for part in arguments))
    if origin is set:
        return Shape("set", (_shape(arguments[0], where),))
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            inner = _shape(arguments[0], where)
            return Shape("path", (inner,)) if inner.kind == "step" else Shape("list", (inner,))
        if len(arguments) == 2 and getattr(arguments[1], "__unpacked__", False):
            return Shape("path", (_shape(arguments[0], where), Shape("step")))
        return Shape("tuple", tuple(_shape(part, where) for part in arguments))
    raise TypeError(
        f"{where}: {annotation!r} cannot travel. Use K, V, Step, Opaque, or a plain type: "
        "None, bool, int, float, str, bytes, and list, tuple, set, dict or | of these."
    )


def _is_waiter(annotation: Any) -> bool:
    return annotation is Waiter or typing.get_origin(annotation) is Waiter


def _union(parts: list[Shape], where: str) -> Shape:
    kinds = {part.kind for part in parts}
    if len(parts) == 1:
        return parts[0]
    if kinds == {"int", "float"}:
        return Shape("float")
    if kinds == {"pairs"}:  # a mapping or an iterable of pairs: one form on the wire
        return parts[0]
    if kinds == {"value", "default"}:
        return Shape("value_or_absent")
    if kinds == {"value", "missing"}:
        return Shape("value_or_missing")
    if "nil" in kinds:
        rest = _union([part for part in parts if part.kind != "nil"], where)
        return rest if rest.kind in ("value", "value_or_absent") else Shape("optional", (rest,))
    raise TypeError(f"{where}: a union of {', '.join(map(str, parts))} cannot travel")


def _check_whole(shape: Shape, where: str) -> None:
    """Raise TypeError when a part of what travels is typed by a type variable of a default."""
    if shape.kind == "default":
        raise TypeError(
            f"{where}: only K and V travel; another type variable stands for a default, which "
            "stays with the caller"
        )
    for part in shape.parts:
        _check_whole(part, where)


class Signature(NamedTuple):
    """What the wire knows of a callable: its parameters in order, and its result."""

    parameters: tuple[Parameter, ...]
    keywords: bool
    """Whether named items may join the pairs of the first parameter."""
    result: Shape
    required: int
    """The number of leading parameters that must be given."""


_COROUTINE: Final = 0x80 | 0x200
"""The flags of the code of an `async def`, without and with `yield`."""
_GENERATOR: Final = 0x20


def signature_of(body: Callable[..., Any], skip: int = 1) -> Signature:
    """Read the signature of a body without its first `skip` parameters (self, caller).

    Raises:
        TypeError: a parameter or the result has no annotation, or one that cannot travel, or the
            body is no plain function.
    """
    # By hand: `inspect` takes longer to import than the whole blocking client.
    code = cast("types.FunctionType", body).__code__
    annotations = body.__annotations__
    if any(isinstance(annotation, str) for annotation in annotations.values()):
        # `from __future__ import annotations`, or quotes.
        annotations = typing.get_type_hints(body, include_extras=True)
    defaults = cast("types.FunctionType", body).__defaults__ or ()
    where = f"{body.__qualname__}()"
    names = code.co_varnames[: code.co_argcount]
    if code.co_flags & _COROUTINE:
        raise TypeError(
            f"{where}: an operation is a plain 'def', which the server runs to its end before the "
            "next one begins. What has to wait is declared with @waits and returns a Waiter; "
            "what calls other operations is a @composite, in the client"
        )
    if code.co_flags & _GENERATOR:
        raise TypeError(f"{where}: an operation returns its result, it yields none: return a list")
    if skip > len(names) or (skip > 1 and annotations.get(names[1]) is not Caller):
        first = "parameter is self" if skip == 1 else "parameters are 'self, caller: Caller'"
        raise TypeError(f"{where}: its first {first}")
    if code.co_kwonlyargcount or code.co_flags & 0x04:
        raise TypeError(f"{where}: an operation takes no *args and no keyword-only parameters")
    first_default = code.co_argcount - len(defaults)
    parameters: list[Parameter] = []
    for position, name in enumerate(names[skip:], skip):
        if name not in annotations:
            raise TypeError(f"{where}: parameter {name!r} needs an annotation")
        shape = _shape(annotations[name], f"{where}, parameter {name!r}")
        default = defaults[position - first_default] if position >= first_default else REQUIRED
        if shape.kind != "default" or default is REQUIRED:
            _check_whole(shape, f"{where}, parameter {name!r}")
        parameters.append(Parameter(name, shape, default, position < code.co_posonlyargcount))
    keywords = bool(code.co_flags & 0x08)
    if keywords and (not parameters or parameters[0].shape.kind != "pairs"):
        raise TypeError(f"{where}: **more needs a first parameter of pairs, which it joins")
    if "return" not in annotations and body.__name__ != "__init__":
        raise TypeError(
            f"{where} needs an annotation of its result, which would not travel without: "
            "'-> None' if it has none"
        )
    result = _shape(annotations.get("return"), f"{where}, result")
    _check_whole(result, f"{where}, result")
    required = sum(parameter.default is REQUIRED for parameter in parameters)
    return Signature(tuple(parameters), keywords, result, required)


def plain_copy(items: Any) -> Any:
    """Return a plain copy, made in one call, of what a blocking proxy stands for; else `items`.

    So a proxy can be given wherever items of its kind can, and what arrives is of one moment.

    Raises:
        TypeError: `items` is an async proxy, whose copy has to be awaited.
    """
    copied = getattr(cast("Any", type(items)), "_plain_copy", None)
    return items if copied is None else copied(items)


def bind(
    callee: str, signature: Signature, given: tuple[object, ...], named: dict[str, Any]
) -> tuple[Any, ...]:
    """Return the arguments in order, up to the last one that was given.

    ABSENT stands for a positional argument that was not given.

    Raises:
        TypeError: as a plain Python function with this signature would.
    """
    parameters, keywords, _, required = signature
    if len(given) > len(parameters):
        raise TypeError(f"{callee}() takes {len(parameters)} arguments but {len(given)} were given")
    values: list[Any] = list(given)
    while values and values[-1] is ABSENT:
        values.pop()
    more: dict[str, Any] = {}
    if named:
        positions = {p.name: i for i, p in enumerate(parameters) if not p.positional_only}
        for name, value in named.items():
            position = positions.get(name)
            if position is None:
                if not keywords:
                    raise TypeError(f"{callee}() got an unexpected argument {name!r}")
                more[name] = value
                continue
            while len(values) <= position:
                values.append(ABSENT)
            if values[position] is not ABSENT:
                raise TypeError(f"{callee}() got multiple values for argument {name!r}")
            values[position] = value
    missing = [p.name for p, value in zip(parameters, values, strict=False) if value is ABSENT] + [
        p.name for p in parameters[len(values) :]
    ]
    lacking = [name for name in missing if name in {p.name for p in parameters[:required]}]
    if lacking:
        raise TypeError(f"{callee}() is missing: {', '.join(map(repr, lacking))}")
    for position, value in enumerate(values):
        if value is ABSENT:
            values[position] = parameters[position].default
    if more:
        # Named items join the pairs that come first: one form on the wire.
        values[:1] = [{**dict(plain_copy(values[0]) if values else ()), **more}]
    return tuple(values)


class Declared:
    """What `inspect` and `help()` find behind a method that was made of a declaration.

    They see the parameters of the body, without the caller that the server adds, and what a call
    results in. None of it is worked out before they ask.
    """

    __slots__ = ("__wrapped__", "_hidden")

    def __init__(self, member: "Operation[..., Any] | Composite[..., Any]") -> None:
        self.__wrapped__ = member.body
        self._hidden = 1 if isinstance(member, Operation) and member.owned else 0

    @property
    def __signature__(self) -> Any:
        import inspect

        signature = inspect.signature(self.__wrapped__)
        first, *others = signature.parameters.values()
        return signature.replace(
            parameters=[first, *others[self._hidden :]],
            return_annotation=_outcome(self.__wrapped__, signature.return_annotation),
        )


def _outcome(body: Callable[..., Any], result: Any) -> Any:
    """Return what a call results in: not the wait for it, nor the steps on the way."""
    if isinstance(result, str):
        try:
            result = typing.get_type_hints(body, include_extras=True)["return"]
        except Exception:  # a name that only type checkers know
            return result
    parts = typing.get_args(result)
    if typing.get_origin(result) is Generator:
        return parts[2]
    if any(map(_is_waiter, parts)):
        first, *rest = [part for part in parts if not _is_waiter(part)]
        result = functools.reduce(lambda left, right: left | right, rest, first)
    return None if result is types.NoneType else result


def named_as(
    method: Any, member: "Operation[..., Any] | Composite[..., Any]", owner: type, name: str
) -> Any:
    """Have a method look like what it was made of, with all that `inspect` and `help()` show."""
    method.__name__ = name
    method.__qualname__ = f"{owner.__qualname__}.{name}"
    method.__doc__ = member.__doc__
    method.__module__ = owner.__module__
    method.__annotations__ = {}  # its own would say nothing
    method.__wrapped__ = Declared(member)
    return method


class Awaited:
    """The base of all proxies whose operations are coroutines; to type checkers that is its use."""


class Operation(Generic[P, R]):
    """One declared operation: its body, its kind, and its signature on the wire."""

    def __init__(
        self,
        body: Callable[..., Any],
        *,
        writes: bool = True,
        waits: bool = False,
        consumes: bool = False,
        owned: bool = False,
    ) -> None:
        self.body = body
        self.name = body.__name__
        self.writes = writes
        self.waits = waits
        self.consumes = consumes
        self.owned = owned
        self.__doc__ = body.__doc__
        self.client_side: Callable[..., Generator[Any, Any, R]] | None = None
        """What the client does instead when the server cannot look into a value."""
        self.undo: Callable[..., None] | None = None
        """What puts everything back when the answer is too large to be sent."""
        self.live_side: Callable[..., Any] | None = None
        """What a live view does instead: its result holds live nodes."""
        self.fresh = False
        """Whether a view that keeps a copy has to ask the server: the answer is about the bytes
        that are stored there."""
        self.regains = False
        """Whether its caller, cancelled or not, goes on only when he has something again."""
        self.holds = 0
        """1: what it gives is for its caller alone to release. -1: it releases that."""
        self.signature = signature_of(body, 2 if owned else 1)
        parameters = self.signature.parameters
        self.parameters = parameters
        self.default_index = next(
            (i for i, parameter in enumerate(parameters) if parameter.shape.kind == "default"),
            None,
        )
        """The position of the default that stays with the caller, or None."""
        self.owner_index = next(
            (i for i, parameter in enumerate(parameters) if parameter.name == "owner"), None
        )
        """The position of the name of an owner who is not the calling task or thread, or None."""
        self.keyed = bool(parameters) and parameters[0].shape == Shape("list", (Shape("key"),))
        """Whether the operation is one for each key of a list."""

    def __repr__(self) -> str:
        return f"<operation {self.body.__qualname__}>"

    @overload
    def __get__(self, instance: None, owner: Any, /) -> "Operation[P, R]": ...
    @overload  # Never and object: with Any, mypy takes gather(d.get(k), queue.get()) for Any
    def __get__(
        self, instance: "Awaited", owner: Any, /
    ) -> Callable[P, Coroutine[Never, object, R]]: ...
    @overload
    def __get__(self, instance: object, owner: Any, /) -> Callable[P, R]: ...
    def __get__(self, instance: Any, owner: Any, /) -> Any:
        # Reached by shared objects only: proxies get real functions when their class is made.
        return self if instance is None else types.MethodType(self.body, instance)

    def fallback(
        self, body: Callable[..., Generator[Any, Any, Any]]
    ) -> Callable[..., Generator[Any, Any, Any]]:
        """Declare what the client does when the server answers NeedsNeutralValue."""
        self.client_side = body
        return body

    def put_back(self, body: Callable[..., None]) -> Callable[..., None]:
        """Declare how what the operation removed is put back when it cannot be sent.

        `body` is called in the server with the result and the arguments, at once.
        """
        self.undo = body
        return body

    def live(self, body: Callable[..., Any]) -> Callable[..., Any]:
        """Declare what a live view does instead.

        `body` is called with the blocking proxy behind the view, with `put(path, value)`, which
        returns a dict or list that stands at `path` as a live node, and with the arguments.
        """
        self.live_side = body
        return body

    def released_by(self, release: "Operation[Q, S]") -> "Operation[Q, S]":
        """Declare that what this one gives must be released by its caller, and by which operation.

        Nobody else could: it is free when the thread of a blocking caller has ended. Not so what
        is for a named `owner`, if the operation has that parameter.
        """
        self.holds, release.holds = 1, -1
        return release


class Composite(Generic[P, R]):
    """Several operations in a row, run by the client: one generator serves both kinds of proxy.

    The generator yields what an operation of its own proxy returns and is sent the result. It
    runs up to its first operation when it is called, so that the owner of a lock is whoever
    called, not the task that awaits.
    """

    def __init__(self, body: Callable[..., Generator[Any, Any, R]]) -> None:
        self.body = body
        self.name = body.__name__
        self.__doc__ = body.__doc__

    @overload
    def __get__(self, instance: None, owner: Any, /) -> "Composite[P, R]": ...
    @overload
    def __get__(
        self, instance: "Awaited", owner: Any, /
    ) -> Callable[P, Coroutine[Never, object, R]]: ...
    @overload
    def __get__(self, instance: object, owner: Any, /) -> Callable[P, R]: ...
    def __get__(self, instance: Any, owner: Any, /) -> Any:
        return self if instance is None else types.MethodType(self.blocking(), instance)

    def blocking(self) -> Callable[..., R]:
        """Return the method for a proxy whose operations return their results."""
        body = self.body

        def method(*given: Any, **named: Any) -> R:
            return drive_blocking(body(*given, **named))

        return method

    def asynchronous(self) -> Callable[..., Coroutine[Any, Any, R]]:
        """Return the method for a proxy whose operations return coroutines."""
        body = self.body

        def method(*given: Any, **named: Any) -> Coroutine[Any, Any, R]:
            return begin(body(*given, **named))

        return method


def begin(steps: Generator[Any, Any, R]) -> Coroutine[Any, Any, R]:
    """Run the steps of a composite up to its first operation; return what does the rest."""
    try:
        first = next(steps)
    except StopIteration as stop:
        return _done(stop.value)
    except Exception as error:
        return _failed(error)
    return Driven(drive(steps, first), first)


class Driven(Coroutine[Any, Any, R]):
    """The rest of a composite, whose first step is a coroutine already.

    A task that is cancelled before it begins would leave that one behind, never awaited.
    """

    __slots__ = ("_first", "_rest")

    def __init__(
        self, rest: Coroutine[Any, Any, R], first: Coroutine[Any, Any, Any] | None
    ) -> None:
        self._rest = rest
        self._first = first

    def __await__(self) -> Generator[Any, Any, R]:
        self._first = None
        return self._rest.__await__()

    def send(self, value: Any, /) -> Any:
        self._first = None
        return self._rest.send(value)

    def throw(self, *error: Any) -> Any:
        self._let_go()
        return self._rest.throw(*error)

    def close(self) -> None:
        self._let_go()
        self._rest.close()

    def _let_go(self) -> None:
        if self._first is not None:
            self._first.close()
            self._first = None


async def _done(result: R) -> R:
    return result


async def _failed(error: Exception) -> Any:
    try:
        raise error
    finally:
        del error  # else it and this frame keep each other alive


def drive_blocking(steps: Generator[Any, Any, R]) -> R:
    """Run the steps of a composite whose operations return their results."""
    try:
        result = next(steps)
        while True:
            result = steps.send(result)
    except StopIteration as stop:
        return cast("R", stop.value)


async def drive(steps: Generator[Any, Any, R], step: Coroutine[Any, Any, Any]) -> R:
    """Run the steps of a composite from its first one on, whose operations are coroutines."""
    try:
        while True:
            try:
                result = await step
            except BaseException as error:
                step = steps.throw(error)
            else:
                step = steps.send(result)
    except StopIteration as stop:
        return cast("R", stop.value)


def composite(body: Callable[Concatenate[Any, P], Generator[Any, Any, R]]) -> Composite[P, R]:
    """Declare a method that the client carries out by several operations.

    Raises:
        TypeError: the body is an `async def`, which a blocking proxy could not run.
    """
    if cast("types.FunctionType", body).__code__.co_flags & _COROUTINE:
        raise TypeError(
            f"{body.__qualname__}(): a composite is a generator, for blocking and async proxies "
            "alike: write 'def', and 'yield' in place of 'await'"
        )
    return Composite(body)


def reads(body: Callable[Concatenate[Any, P], R]) -> Operation[P, R]:
    """Declare an operation that answers at once and changes nothing."""
    return Operation(body, writes=False)


def writes(body: Callable[Concatenate[Any, P], R]) -> Operation[P, R]:
    """Declare an operation that answers at once and may change the object."""
    return Operation(body)


def waits(body: Callable[Concatenate[Any, P], R | Waiter[R]]) -> Operation[P, R]:
    """Declare an operation that may answer later."""
    return Operation(body, waits=True)


def consumes(body: Callable[Concatenate[Any, P], R | Waiter[R]]) -> Operation[P, R]:
    """Declare an operation that may answer later, and can be taken back until it is kept."""
    return Operation(body, waits=True, consumes=True)


def owned(body: Callable[Concatenate[Any, Caller, P], R]) -> Operation[P, R]:
    """Declare an operation that answers at once, may change the object, and knows its caller."""
    return Operation(body, owned=True)


def acquires(body: Callable[Concatenate[Any, Caller, P], R | Waiter[R]]) -> Operation[P, R]:
    """Declare an operation that knows its caller, may answer later, and can be taken back."""
    return Operation(body, waits=True, consumes=True, owned=True)


def fresh(operation: Operation[P, R]) -> Operation[P, R]:
    """Declare that only the server can carry this out, though it reads: not a view on a copy."""
    operation.fresh = True
    return operation


def regains(operation: Operation[P, R]) -> Operation[P, R]:
    """Declare that a caller who is cancelled must have something again before he goes on."""
    operation.regains = True
    return operation


def delegates(body: Callable[Concatenate[Any, Caller, P], R | Waiter[R]]) -> Operation[P, R]:
    """Declare an operation that somebody else carries out: it may answer later, knows its caller.

    What was begun cannot be taken back; its result is dropped if nobody waits for it any more.
    """
    return Operation(body, waits=True, owned=True)


class Home(Protocol):
    """The server that a shared object lives in, for the few types that ask something of it."""

    launcher: Any
    """What starts worker processes."""

    def name_of(self, object_id: int, /) -> str | None:
        """Return the name of an object, if it has one."""
        ...

    def share(self, shared: "SharedObject", /) -> Any:
        """Take in another object; return what refers to it, for an operation to return."""
        ...

    def retain(self, object_id: int, /) -> None:
        """Count one more reference to an object."""
        ...

    def release(self, object_id: int, /) -> None:
        """Count one reference to an object less."""
        ...


class SharedObject:
    """The base of shared types: the state of one object on the server, and its operations.

    A public method must be declared as an operation. All state starts with an underscore.
    """

    type_name: ClassVar[str] = ""
    """The type's name on the wire."""
    operations: ClassVar[dict[str, Operation[..., Any]]] = {}
    maker: ClassVar[Signature]
    """The signature of `__init__`, which makes an object from a client's arguments."""

    def _conflict(self, *arguments: Any) -> str | None:
        """Say why this object is not what `named` with these arguments asks for, if so."""
        return None

    def _held(self) -> Iterable[Any]:
        """Return the values that this object holds, in dicts and sequences of any depth."""
        return vars(self).values()

    def _moved_in(self, home: Home, object_id: int) -> None:
        """Know of the server that took the object in, and of its id there."""

    def _moved_out(self) -> None:
        """Know that the object is gone: nobody refers to it, or its name was deleted."""

    version: int = 0
    """Rises with every call of an operation that may change the object."""

    def __init_subclass__(cls, name: str | None = None, **more: Any) -> None:
        super().__init_subclass__(**more)
        if cls.__dict__.get("_is_proxy") or any(
            "_is_proxy" in base.__dict__ for base in cls.__mro__
        ):
            return
        cls.type_name = cls.__name__ if name is None else name
        cls.operations = {
            attribute: cast("Operation[..., Any]", getattr(cls, attribute))
            for base in reversed(cls.__mro__)
            for attribute, member in base.__dict__.items()
            if isinstance(member, Operation) and isinstance(getattr(cls, attribute), Operation)
        }
        for attribute, member in cls.__dict__.items():
            if isinstance(member, types.FunctionType) and not attribute.startswith("_"):
                raise TypeError(
                    f"{cls.__name__}.{attribute}: a public method of a shared type must be "
                    "declared with @reads, @writes, @waits, @consumes, @owned, @acquires or "
                    "@composite; "
                    "start its name with an underscore to keep it on the server"
                )
        cls.maker = (
            signature_of(cls.__init__)
            if isinstance(cls.__init__, types.FunctionType)
            else Signature((), False, Shape("nil"), 0)
        )
