"""Argument plans: how the arguments and the result of each operation travel.

A plan is made from an operation's declared shapes when a type is first used, out of plain
closures, one for each number of arguments. The two sides differ only in their leaves: what they
do with a key and a value. Nothing is sent here.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias, cast

from aiomanager.errors import BadParameters
from aiomanager.operation import Operation, Shape, Signature, plain_copy
from aiomanager.stored import ABSENT, MISSING, opened

__all__ = ("Leaves", "Plan", "Plans")

Convert: TypeAlias = Callable[[Any], Any]
Run: TypeAlias = Callable[..., Any]

AHEAD: Final = 479
"""The size up to which Python has a bytes object at hand. It gets a larger one from the C library,
which takes longer than all the rest of reading a short answer."""
NOT_THERE: Final[list[Any]] = []
"""The wire form of ABSENT and MISSING: no value looks like it."""


def _one_way(value: Any) -> Any:
    raise BadParameters("a shared object is an argument; a result refers to one inside a value")


class Leaves(NamedTuple):
    """What one side does with keys, values, paths and shared objects."""

    encode_key: Convert
    encode_value: Convert
    decode_key: Convert
    decode_value: Convert
    decode_path: Convert
    encode_object: Convert = _one_way
    decode_object: Convert = _one_way


class Plan:
    """How one operation travels, for one side."""

    __slots__ = (
        "ahead",
        "at_once",
        "consumes",
        "decode_result",
        "decoders",
        "encode_result",
        "encoders",
        "name",
        "operation",
        "owned",
        "runners",
        "undo",
        "waits",
        "writes",
    )

    def __init__(
        self,
        operation: Operation[..., Any] | None,
        decoders: dict[int, Convert],
        runners: dict[int, Run],
        encoders: dict[int, Convert],
        decode_result: Convert,
        encode_result: Convert,
    ) -> None:
        self.operation = operation
        # The operation's own, one step nearer.
        self.name = "" if operation is None else operation.name
        self.owned = operation is not None and operation.owned
        self.waits = operation is not None and operation.waits
        self.consumes = operation is not None and operation.consumes
        self.writes = operation is not None and operation.writes
        self.undo = None if operation is None else operation.undo
        self.at_once = operation is not None and not (operation.owned or operation.waits)
        """Whether the operation need not know its caller, and answers at once."""
        self.ahead = AHEAD
        """How many bytes of an answer a client reads at first; more once that was too little."""
        self.decoders = decoders
        """How the arguments are decoded, by their number."""
        self.runners = runners
        """What carries the operation out, by the number of arguments: it takes the object, its
        caller if the operation is owned, and the arguments as they came. If the operation can be
        undone, it leaves the decoded ones in their place: to undo it takes the same."""
        self.encoders = encoders
        """How the arguments are encoded, by their number."""
        self.decode_result = decode_result
        self.encode_result = encode_result

    def encode(self, arguments: tuple[Any, ...]) -> list[Any]:
        """Return arguments as they travel.

        Raises:
            TypeError, ValueError: one of them cannot.
        """
        return cast("list[Any]", self.encoders[len(arguments)](arguments))

    def decode(self, arguments: list[Any]) -> tuple[Any, ...]:
        """Return the arguments that came.

        Raises:
            BadParameters: their number or types are not those that were declared.
        """
        decode = self.decoders.get(len(arguments))
        if decode is None:
            raise self._miscounted(arguments)
        return cast("tuple[Any, ...]", decode(arguments))

    def runner(self, arguments: list[Any]) -> Run:
        """Return what carries the operation out with these arguments, of `runners`.

        Raises:
            BadParameters: there are too few of them, or too many.
        """
        run = self.runners.get(len(arguments))
        if run is None:
            raise self._miscounted(arguments)
        return run

    def _miscounted(self, arguments: list[Any]) -> BadParameters:
        low, high = min(self.decoders), max(self.decoders)
        expected = str(low) if low == high else f"{low} to {high}"
        return BadParameters(f"takes {expected} arguments, not {len(arguments)}")


class Plans:
    """The plans of one side, made on first use."""

    def __init__(self, leaves: Leaves) -> None:
        self._leaves = leaves
        self.made_already: dict[Operation[..., Any], Plan] = {}

    def of(self, operation: Operation[..., Any]) -> Plan:
        """Return the plan of an operation."""
        plan = self.made_already.get(operation)
        if plan is None:
            plan = self.made_already[operation] = self.made(operation.signature, operation)
        return plan

    def made(self, signature: Signature, operation: Operation[..., Any] | None = None) -> Plan:
        """Make the plan of a signature."""
        parameters = signature.parameters
        shapes = [parameter.shape for parameter in parameters]
        decode = [self._decoder(shape) for shape in shapes]
        encode = [self._encoder(parameter.shape, parameter.name) for parameter in parameters]
        counts = range(signature.required, len(shapes) + 1)
        return Plan(
            operation,
            {count: _spread_tuple(decode[:count]) for count in counts},
            {} if operation is None else {n: _runner(operation, decode[:n]) for n in counts},
            {count: _spread_list(encode[:count]) for count in counts},
            self._decoder(signature.result),
            self._encoder(signature.result, "the result"),
        )

    def _encoder(self, shape: Shape, name: str) -> Convert:
        kind, parts = shape
        if kind == "key":
            return self._leaves.encode_key
        if kind in ("value", "value_or_absent", "value_or_missing"):
            return _or_not_there(self._leaves.encode_value) if kind != "value" else (
                self._leaves.encode_value
            )  # fmt: skip
        if kind == "step":
            return self._leaves.encode_key
        if kind == "object":
            return self._leaves.encode_object
        if kind == "default":
            return _nothing
        if kind == "number":
            return _given_number(self._leaves.encode_value, name)
        if kind == "optional":
            return _optional(self._encoder(parts[0], name))
        if kind in ("list", "path"):
            # A string of keys or steps is a mistake; one of values is what Python takes it for.
            return _encode_list(self._encoder(parts[0], name), strings=parts[0].kind == "value")
        if kind == "set":
            return _encode_list(self._encoder(parts[0], name), strings=True)
        if kind == "tuple":
            return _encode_tuple([self._encoder(part, name) for part in parts])
        if kind == "pairs":
            return _encode_pairs(self._encoder(parts[0], name), self._encoder(parts[1], name))
        return _checked(kind, name)

    def _decoder(self, shape: Shape) -> Convert:
        kind, parts = shape
        if kind == "key":
            return self._leaves.decode_key
        if kind == "value":
            return self._leaves.decode_value
        if kind == "value_or_absent":
            return _or(self._leaves.decode_value, ABSENT)
        if kind == "value_or_missing":
            return _or(self._leaves.decode_value, MISSING)
        if kind == "object":
            return self._leaves.decode_object
        if kind == "default":
            return _absent
        if kind == "number":
            return _number(self._leaves.decode_value)
        if kind == "optional":
            return _optional(self._decoder(parts[0]))
        if kind == "path":
            return self._leaves.decode_path
        if kind == "list":
            return _decode_list(self._decoder(parts[0]))
        if kind == "set":
            return _decode_set(self._decoder(parts[0]))
        if kind == "tuple":
            return _decode_tuple([self._decoder(part) for part in parts])
        if kind == "pairs":
            return _decode_pairs(self._decoder(parts[0]), self._decoder(parts[1]))
        return _strict(kind)


def _spread_tuple(convert: list[Convert]) -> Convert:
    if not convert:
        return lambda values: ()
    if len(convert) == 1:
        (one,) = convert
        return lambda values: (one(values[0]),)
    if len(convert) == 2:
        one, two = convert
        return lambda values: (one(values[0]), two(values[1]))
    return lambda values: tuple([f(value) for f, value in zip(convert, values, strict=True)])


def _spread_list(convert: list[Convert]) -> Convert:
    if not convert:
        return lambda values: []
    if len(convert) == 1:
        (one,) = convert
        return lambda values: [one(values[0])]
    if len(convert) == 2:
        one, two = convert
        return lambda values: [one(values[0]), two(values[1])]
    return lambda values: [f(value) for f, value in zip(convert, values, strict=True)]


# One call from the session to the body, as a rule without a tuple of arguments in between.


def _runner(operation: Operation[..., Any], convert: list[Convert]) -> Run:
    if operation.undo is not None:
        return _undoable_runner(operation.body, convert)
    if operation.owned:
        return _owned_runner(operation.body, convert)
    return _plain_runner(operation.body, convert)


def _plain_runner(body: Run, convert: list[Convert]) -> Callable[[Any, list[Any]], Any]:
    if not convert:
        return lambda target, values: body(target)
    if len(convert) == 1:
        (one,) = convert
        return lambda target, values: body(target, one(values[0]))
    if len(convert) == 2:
        one, two = convert
        return lambda target, values: body(target, one(values[0]), two(values[1]))
    spread = _spread_tuple(convert)
    return lambda target, values: body(target, *spread(values))


def _owned_runner(body: Run, convert: list[Convert]) -> Callable[[Any, Any, list[Any]], Any]:
    if not convert:
        return lambda target, caller, values: body(target, caller)
    if len(convert) == 1:
        (one,) = convert
        return lambda target, caller, values: body(target, caller, one(values[0]))
    if len(convert) == 2:
        one, two = convert
        return lambda target, caller, values: body(target, caller, one(values[0]), two(values[1]))
    spread = _spread_tuple(convert)
    return lambda target, caller, values: body(target, caller, *spread(values))


def _undoable_runner(body: Run, convert: list[Convert]) -> Run:
    spread = _spread_tuple(convert)

    def run(*given: Any) -> Any:
        *before, values = given
        values[:] = spread(values)
        return body(*before, *values)

    return run


def _nothing(_value: Any) -> None:
    """Encode a default that stays with the caller."""


def _absent(_value: Any) -> Any:
    return ABSENT


def _or_not_there(encode: Convert) -> Convert:
    return lambda value: NOT_THERE if value is MISSING or value is ABSENT else encode(value)


def _or(decode: Convert, stand_in: object) -> Convert:
    return lambda wire: stand_in if type(wire) is list and not wire else decode(wire)


def _optional(convert: Convert) -> Convert:
    return lambda value: None if value is None else convert(value)


def _encode_list(encode: Convert, *, strings: bool) -> Convert:
    def run(items: Any) -> list[Any]:
        if not strings and isinstance(items, str | bytes):
            raise TypeError(f"expected a list or tuple of items, not {type(items).__name__}")
        return [encode(item) for item in plain_copy(items)]

    return run


def _decode_list(decode: Convert) -> Convert:
    def run(items: Any) -> list[Any]:
        if type(items) is not list:
            raise BadParameters(f"expected an array, not {_name(items)}")
        return [decode(item) for item in cast("list[Any]", items)]

    return run


def _decode_set(decode: Convert) -> Convert:
    items_of = _decode_list(decode)
    return lambda items: set(items_of(items))


def _encode_tuple(encoders: list[Convert]) -> Convert:
    return lambda items: [f(item) for f, item in zip(encoders, items, strict=True)]


def _decode_tuple(decoders: list[Convert]) -> Convert:
    def run(items: Any) -> tuple[Any, ...]:
        if type(items) is not list or len(cast("list[Any]", items)) != len(decoders):
            raise BadParameters(f"expected an array of {len(decoders)}, not {_name(items)}")
        return tuple([f(item) for f, item in zip(decoders, cast("list[Any]", items), strict=True)])

    return run


def _encode_pairs(key: Convert, value: Convert) -> Convert:
    def run(items: Any) -> list[list[Any]]:
        items = plain_copy(items)
        pairs: Any = items.items() if isinstance(items, Mapping) else _pairs_of(items)  # pyright: ignore[reportUnknownVariableType]
        return [[key(k), value(v)] for k, v in pairs]

    return run


def _pairs_of(items: Any) -> Any:
    # As dict() does: whatever has keys() is a mapping.
    if not isinstance(items, type) and callable(getattr(items, "keys", None)):
        return dict(items).items()
    return items


def _decode_pairs(key: Convert, value: Convert) -> Convert:
    def run(items: Any) -> dict[Any, Any]:
        if type(items) is not list:
            raise BadParameters(f"expected an array of pairs, not {_name(items)}")
        found: dict[Any, Any] = {}
        for pair in cast("list[Any]", items):
            if type(pair) is not list or len(cast("list[Any]", pair)) != 2:
                raise BadParameters(f"expected a pair, not {_name(pair)}")
            found[key(pair[0])] = value(pair[1])
        return found

    return run


_TYPES: dict[str, tuple[type, ...]] = {
    "nil": (type(None),),
    "bool": (bool,),
    "int": (int,),
    "float": (float, int),
    "str": (str,),
    "bytes": (bytes,),
}


def _strict(kind: str) -> Convert:
    """Return what lets exactly what travels as a plain type pass: 1 is no bool, true no integer."""
    if kind == "raw":
        return lambda value: value
    if kind == "nil":
        return lambda value: None
    types = _TYPES[kind]
    expected = "a number" if kind == "float" else kind

    def check(value: Any) -> Any:
        if type(value) in types:
            return value
        raise BadParameters(f"expected {expected}, not {_name(value)}")

    return check


def _checked(kind: str, name: str) -> Convert:
    """Return what makes a plain value of the right type, or one that stands for it, travel.

    What is refused is called by its `name`: the caller wrote several arguments.
    """
    if kind == "raw":
        return lambda value: value
    if kind == "nil":
        return lambda value: None
    types = _TYPES[kind]
    if len(types) == 1:
        (only,) = types

        def check(value: Any) -> Any:
            return value if type(value) is only else _coerced(value, types, kind, name)

        if kind == "int":
            return lambda value: _whole(check(value))
        if kind == "str":
            return lambda value: _text(check(value))
        return check

    def check_any(value: Any) -> Any:
        given = type(value)  # pyright: ignore[reportUnknownVariableType]
        if given is float:
            return value
        return _whole(value) if given is int else _coerced(value, types, kind, name)

    return check_any


def _number(decode: Convert) -> Convert:
    """Return what opens a number: an int of any size, a float, a Decimal or a Fraction."""

    def check(wire: Any) -> Any:
        kind = type(wire)  # pyright: ignore[reportUnknownVariableType]
        if kind is int or kind is float:
            return wire
        value = opened(decode(wire))
        if _is_number(cast("Any", type(value))):
            return value
        raise BadParameters(f"expected a number, not {_name(value)}")

    return check


def _given_number(encode: Convert, name: str) -> Convert:
    """Return what makes a number travel as exactly what it is."""

    def convert(value: Any) -> Any:
        kind = type(value)  # pyright: ignore[reportUnknownVariableType]
        if kind is float or (kind is int and -(1 << 63) <= value < 1 << 64):
            return value
        return encode(value if _is_number(cast("Any", kind)) else _exact(value, name))

    return convert


_NUMBERS: Final = frozenset({("decimal", "Decimal"), ("fractions", "Fraction")})


def _is_number(kind: type) -> bool:
    # By name: who uses none of the two does not import their modules.
    return kind is int or kind is float or (kind.__module__, kind.__qualname__) in _NUMBERS


def _exact(value: Any, name: str) -> int | float:
    """Return the plain number that a value of another class is; none that is merely near it."""
    for plain in (int, float):
        if isinstance(value, plain):
            return plain(value)
    given = cast("Any", type(value))
    if hasattr(given, "__index__"):
        return int(value.__index__())
    if hasattr(given, "__float__"):
        number = float(value)
        if number == value or number != number:
            return number
        raise BadParameters(
            f"{name}: {value!r:.40} is no float exactly; pass the one that you mean, or an int, "
            "Decimal or Fraction"
        )
    raise BadParameters(f"{name}: expected a number, not {given.__name__}")


def _whole(value: int) -> int:
    # Larger ones cannot be packed, which must be found out before calls are put together.
    if -(1 << 63) <= value < 1 << 64:
        return value
    raise OverflowError("an integer argument must fit 64 bits")


def _text(value: str) -> str:
    if not value.isascii():
        value.encode()  # lone surrogates cannot be packed
    return value


def _coerced(value: Any, types: tuple[type, ...], kind: str, name: str) -> Any:
    """Return a subclass's value as the plain type; numbers may come as what they stand for."""
    given = cast("Any", type(value))
    if kind == "bool" and given is int and value in (0, 1):
        return bool(value)
    if kind == "int" and hasattr(given, "__index__"):
        return int(value.__index__())
    for plain in types:
        if isinstance(value, plain):
            return plain(value)
    if kind == "float" and hasattr(given, "__float__"):
        return float(value)
    expected = "a number" if kind == "float" else kind
    raise BadParameters(f"{name}: expected {expected}, not {given.__name__}")


def _name(value: Any) -> str:
    return "nil" if value is None else type(value).__name__
