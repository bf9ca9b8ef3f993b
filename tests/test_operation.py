"""Declarations: what may be declared, how arguments are bound, and what proxies make of it."""

import asyncio
import gc
import inspect
import pydoc
import typing
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Hashable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any, Generic, TypeVar
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomanager.operation import (
    REQUIRED,
    Composite,
    Elements,
    K,
    Number,
    Opaque,
    Operation,
    Raw,
    SharedObject,
    Step,
    V,
    acquires,
    begin,
    bind,
    composite,
    consumes,
    owned,
    reads,
    signature_of,
    waits,
    writes,
)
from aiomanager.proxy import AsyncProxy, Proxy, Reference, SyncProxy
from aiomanager.stored import ABSENT, MISSING, Missing
from aiomanager.waiter import Caller, Waiter

D = TypeVar("D")


class Channel:
    """A channel that notes each call and returns its arguments, or what `answers` has."""

    epoch = 0

    def __init__(self, *, asynchronous: bool = False) -> None:
        self.asynchronous = asynchronous
        self.calls: list[tuple[str, tuple[Any, ...], int]] = []
        self.answers: list[Any] = []
        self.task = 1

    def call(
        self,
        proxy: Proxy,
        operation: Operation[..., Any],
        arguments: tuple[Any, ...],
        owner: int = 0,
    ) -> Any:
        self.calls.append((operation.name, arguments, owner))
        answer = self.answers.pop(0) if self.answers else arguments
        return self._later(answer) if self.asynchronous else self._now(answer)

    @staticmethod
    def _now(answer: Any) -> Any:
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def _later(self, answer: Any) -> Any:
        return self._now(answer)

    def owner(self) -> int:
        return self.task

    forks = 0

    def post(self, *call: Any) -> None: ...
    def drop(self, reference: Reference) -> None: ...
    def reduce(self, proxy: Proxy) -> tuple[Any, ...]: ...
    def other_face(self, proxy: Proxy, face: type[Proxy]) -> Proxy: ...
    def describe(self) -> str:
        return "test://"


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never has to wait."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("the coroutine waits")


def proxy_of(kind: type[SharedObject], base: type[Proxy]) -> tuple[Any, Channel]:
    channel = Channel(asynchronous=base is AsyncProxy)
    face = type("Face", (base, kind), {})
    return face(channel, Reference(channel, 1, 0)), channel


# What may be declared


@pytest.mark.parametrize(
    ("annotation", "shape"),
    [
        (None, "nil"),
        (bool, "bool"),
        (int, "int"),
        (float, "float"),
        (str, "str"),
        (bytes, "bytes"),
        (K, "key"),
        (V, "value"),
        (object, "value"),
        (Opaque, "value"),
        (Step, "step"),
        (Raw, "raw"),
        (int | float, "float"),
        (Number, "number"),
        (int | None, "int | nil"),
        (float | None, "float | nil"),
        (V | None, "value"),
        (V | Missing, "value_or_missing"),
        (Opaque | Missing, "value_or_missing"),
        (list[V], "list[value]"),
        (Sequence[str], "list[str]"),
        (Iterable[K], "list[key]"),
        (list[list[int]], "list[list[int]]"),
        (set[K], "set[key]"),
        (Elements[K], "set[key]"),
        (Iterable[Elements[K]], "list[set[key]]"),
        (dict[K, V], "pairs[key, value]"),
        (dict[str, int], "pairs[str, int]"),
        (Mapping[K, V] | Iterable[tuple[K, V]], "pairs[key, value]"),
        (Iterable[tuple[K, V]], "pairs[key, value]"),
        (list[tuple[K, V]], "list[tuple[key, value]]"),
        (tuple[int, V], "tuple[int, value]"),
        (tuple[str, float, int] | None, "tuple[str, float, int] | nil"),
        (tuple[int, ...], "list[int]"),
        (tuple[Step, ...], "path[step]"),
        (tuple[K, *tuple[Step, ...]], "path[key, step]"),
    ],
    ids=str,
)
def test_an_annotation_has_a_shape(annotation: Any, shape: str) -> None:
    def body(self: Any, one: annotation) -> annotation: ...  # type: ignore[valid-type]

    signature = signature_of(body)
    assert str(signature.parameters[0].shape) == shape
    assert str(signature.result) == shape


@pytest.mark.parametrize(
    "annotation",
    [
        frozenset[int],
        complex,
        Any,
        Callable[[], int],
        Hashable,
        type,
        Missing,
        list[Missing],
        int | str,
        int | Missing,
        V | int,
        list,
        dict,
        tuple[frozenset[int], int],
        dict[str, complex],
        Iterable[Any],
        [int],
        "int | str",
        Waiter[int],
        list[D],
        dict[str, D],
        tuple[D, int],
    ],
    ids=str,
)
def test_what_cannot_travel_is_refused_when_the_class_is_made(annotation: Any) -> None:
    def parameter(self: Any, one: annotation) -> None: ...  # type: ignore[valid-type]
    def result(self: Any) -> annotation: ...  # type: ignore[valid-type]

    for body in (parameter, result):
        with pytest.raises(TypeError, match=r"parameter\(\)|result\(\)"):
            type("Kind", (SharedObject,), {body.__name__: reads(body)})
        with pytest.raises(TypeError):
            waits(body)


def test_an_error_of_a_declaration_says_where_and_what_to_use() -> None:
    def put(self: Any, item: complex) -> None: ...

    with pytest.raises(TypeError, match=r"put\(\), parameter 'item': .*complex.* Use K, V, Step"):
        writes(put)


def test_a_parameter_needs_an_annotation() -> None:
    def put(self: Any, item) -> None: ...  # type: ignore[no-untyped-def]

    with pytest.raises(TypeError, match="parameter 'item' needs an annotation"):
        writes(put)


def test_a_result_needs_an_annotation_too() -> None:
    def put(self: Any, item: int):  # type: ignore[no-untyped-def]
        return item + 1

    def release(self: Any, caller: Caller):  # type: ignore[no-untyped-def]
        return caller

    for decorator, body in ((reads, put), (writes, put), (waits, put), (owned, release)):
        # Without, the result would be lost without a word.
        with pytest.raises(TypeError, match=r"needs an annotation of its result.*'-> None'"):
            decorator(body)

    class Kind(SharedObject):
        def __init__(self, size: int): ...  # type: ignore[no-untyped-def]

    assert [one.name for one in Kind.maker.parameters] == ["size"]


def test_a_parameter_of_init_needs_an_annotation() -> None:
    with pytest.raises(TypeError, match=r"__init__\(\): parameter 'size' needs an annotation"):

        class Kind(SharedObject):
            def __init__(self, size) -> None: ...  # type: ignore[no-untyped-def]


def test_an_operation_is_a_plain_function() -> None:
    async def put(self: Any, item: int) -> int:
        return item

    async def put_all(self: Any, item: int) -> AsyncIterator[int]:
        yield item

    def get_all(self: Any) -> Iterator[int]:
        yield 1

    for decorator in (reads, writes, waits, consumes):
        for body in (put, put_all):
            with pytest.raises(
                TypeError, match=r"put\w*\(\): an operation is a plain 'def'.*@waits"
            ):
                decorator(body)
        with pytest.raises(TypeError, match=r"get_all\(\): .* yields none: return a list"):
            decorator(get_all)
    for body in (put, put_all):
        with pytest.raises(TypeError, match=r"put\w*\(\): a composite is a generator"):
            composite(body)  # type: ignore[arg-type]


def test_the_first_parameters_are_the_objects_own() -> None:
    def alone() -> int: ...
    def unknown(self: Any, item: int) -> int: ...

    with pytest.raises(TypeError, match=r"alone\(\): its first parameter is self"):
        reads(alone)  # type: ignore[arg-type]
    for decorator in (owned, acquires):
        for body in (alone, unknown):
            # The caller would have been taken for the first argument.
            with pytest.raises(TypeError, match=r"its first parameters are 'self, caller: Caller'"):
                decorator(body)


def test_parameters_that_have_no_place_on_the_wire_are_refused() -> None:
    def many(self: Any, *items: int) -> None: ...
    def named(self: Any, *, item: int = 0) -> None: ...
    def more(self: Any, item: int, **more: int) -> None: ...
    def alone(self: Any, **more: int) -> None: ...

    for body, reason in (
        (many, r"no \*args"),
        (named, "no keyword-only"),
        (more, r"\*\*more needs a first parameter of pairs"),
        (alone, r"\*\*more needs a first parameter of pairs"),
    ):
        with pytest.raises(TypeError, match=reason):
            writes(body)


def test_a_type_variable_of_ones_own_is_for_defaults_alone() -> None:
    def get(self: Any, key: K, default: D = None) -> V | D: ...  # type: ignore[assignment]
    def put(self: Any, item: D) -> None: ...
    def first(self: Any) -> D: ...  # type: ignore[type-var]

    operation = reads(get)
    assert operation.default_index == 1
    assert [str(one.shape) for one in operation.parameters] == ["key", "default"]
    assert str(operation.signature.result) == "value_or_absent"
    for body in (put, first):
        # Its value would be lost without a word.
        with pytest.raises(TypeError, match="only K and V travel"):
            writes(body)


def test_annotations_may_be_text() -> None:
    namespace: dict[str, Any] = {}
    exec(
        "from __future__ import annotations\n"
        "from aiomanager.operation import V, reads, waits\n"
        "from aiomanager.waiter import Waiter\n"
        "@reads\n"
        "def get(self, key: str, many: list[V] | None = None) -> tuple[int, V]: ...\n"
        "@waits\n"
        "def wait(self, timeout: float | None = None) -> bool | Waiter[bool]: ...\n",
        namespace,
    )
    get, wait = namespace["get"].signature, namespace["wait"].signature
    assert [str(one.shape) for one in get.parameters] == ["str", "list[value] | nil"]
    assert (str(get.result), str(wait.result)) == ("tuple[int, value]", "bool")


def test_the_decorator_says_the_kind() -> None:
    def body(self: Any, one: int = 1) -> int: ...
    def waiting(self: Any, one: int = 1) -> int | Waiter[int]: ...
    def known(self: Any, caller: Caller, one: int = 1) -> int: ...

    kinds = {
        reads: (body, (False, False, False, False)),
        writes: (body, (True, False, False, False)),
        waits: (waiting, (True, True, False, False)),
        consumes: (waiting, (True, True, True, False)),
        owned: (known, (True, False, False, True)),
        acquires: (known, (True, True, True, True)),
    }
    for decorator, (function, kind) in kinds.items():
        operation = decorator(function)
        assert (
            operation.writes, operation.waits, operation.consumes, operation.owned
        ) == kind, decorator  # fmt: skip
        assert [one.name for one in operation.parameters] == ["one"]
        assert operation.signature.required == 0


def test_a_release_belongs_to_what_it_releases() -> None:
    def known(self: Any, caller: Caller) -> int: ...

    take, leave, other = acquires(known), owned(known), owned(known)
    assert take.released_by(leave) is leave
    assert (take.holds, leave.holds, other.holds) == (1, -1, 0)


# Shared classes


class Shelf(SharedObject, Generic[K, V]):
    """Something with operations of all arities."""

    def __init__(self, items: Mapping[K, V] | Iterable[tuple[K, V]] = (), /, **more: V) -> None:
        self._items = dict(items, **more)  # type: ignore[call-overload]

    @reads
    def none(self) -> int:
        """Take nothing."""
        return 0

    @reads
    def one(self, a: int) -> int: ...
    @reads
    def one_more(self, a: int = 7) -> int: ...
    @writes
    def two(self, a: int, b: int = 8) -> int: ...
    @writes
    def three(self, a: int, b: int = 8, c: int = 9) -> int: ...
    @writes
    def four(self, a: int, b: int = 8, c: int = 9, d: int = 10) -> int: ...
    @writes
    def update(self, items: Mapping[K, V] | Iterable[tuple[K, V]] = (), /, **more: V) -> None: ...
    @owned
    def release(self, caller: Caller, name: str | None = None) -> None: ...

    @composite
    def both(self, x: int, y: int = 2) -> Generator[Any, Any, tuple[Any, Any]]:
        """Call two operations."""
        first = yield self.one(x)
        second = yield self.one(y)
        return first, second

    @composite
    def neither(self, x: int) -> Generator[Any, Any, str]:
        if x:
            yield self.none()
        return f"nothing for {x}"

    @composite
    def careful(self) -> Generator[Any, Any, str]:
        try:
            yield self.none()
        except KeyError:
            return "not there"
        return "there"

    @composite
    def released(self) -> Generator[Any, Any, Any]:
        return (yield self.release())

    def _kept_on_the_server(self) -> None: ...


def test_a_class_has_the_operations_that_it_declares() -> None:
    assert list(Shelf.operations) == [
        "none", "one", "one_more", "two", "three", "four", "update", "release",
    ]  # fmt: skip
    assert Shelf.type_name == "Shelf"
    assert isinstance(Shelf.both, Composite)
    assert Shelf.none.__doc__ == "Take nothing."
    assert repr(Shelf.none) == "<operation Shelf.none>"
    assert [str(one.shape) for one in Shelf.maker.parameters] == ["pairs[key, value]"]
    assert Shelf.maker.keywords
    assert Shelf().none() == 0


def test_a_public_method_must_be_declared() -> None:
    with pytest.raises(TypeError, match=r"Kind\.forgotten: a public method .* must be declared"):

        class Kind(SharedObject):
            def forgotten(self) -> None: ...


def test_a_class_has_a_name_of_its_own_and_no_more_than_its_init() -> None:
    class Kind(SharedObject, name="kind"):
        pass

    class Other(Kind):
        def __init__(self, size: int, /, limit: int = 5) -> None: ...

    assert (Kind.type_name, Other.type_name) == ("kind", "Other")
    assert (Kind.maker.parameters, Kind.maker.required) == ((), 0)
    assert [one.name for one in Other.maker.parameters] == ["size", "limit"]
    assert Other.maker.required == 1
    assert Other.maker.parameters[0].default is REQUIRED


def test_operations_are_inherited_from_every_base_and_overridden() -> None:
    class Left(SharedObject):
        @reads
        def left(self) -> int: ...
        @reads
        def both(self) -> int: ...

    class Right(SharedObject):
        @reads
        def right(self) -> int: ...
        @reads
        def both(self) -> str: ...

    class Kind(Left, Right):
        @writes
        def right(self) -> int: ...

    assert set(Kind.operations) == {"left", "right", "both"}
    assert Kind.operations["both"] is Left.operations["both"]
    assert Kind.operations["right"] is Kind.__dict__["right"]
    assert Right.operations["right"] is not Kind.operations["right"]


# Binding


def declared_two(self: Any, a: int, b: int = 8) -> None: ...
def declared_four(self: Any, a: int, b: int = 8, c: int = 9, d: int = 10) -> None: ...
def declared_positional(self: Any, a: int, /, b: int = 8) -> None: ...
def declared_none(self: Any) -> None: ...


PLAIN: list[tuple[Callable[..., Any], Callable[..., Any]]] = [
    (lambda a, b=8: (a, b), declared_two),
    (lambda a, b=8, c=9, d=10: (a, b, c, d), declared_four),
    (lambda a, /, b=8: (a, b), declared_positional),
    (lambda: (), declared_none),
]

arguments = st.lists(st.integers(), max_size=5)
named = st.dictionaries(st.sampled_from("abcdx"), st.integers(), max_size=3)


@given(st.sampled_from(PLAIN), arguments, named)
def test_arguments_are_bound_as_python_does(
    pair: tuple[Callable[..., Any], Callable[..., Any]], given: list[int], named: dict[str, int]
) -> None:
    plain, declared = pair
    signature = signature_of(declared)
    try:
        expected = plain(*given, **named)
    except TypeError:
        with pytest.raises(TypeError):
            bind("call", signature, tuple(given), named)
        return
    bound = bind("call", signature, tuple(given), named)
    defaults = tuple(one.default for one in signature.parameters)
    assert bound + defaults[len(bound) :] == expected


def test_arguments_behind_the_last_one_given_do_not_travel() -> None:
    signature = signature_of(declared_four)
    assert bind("call", signature, (1,), {}) == (1,)
    assert bind("call", signature, (1, ABSENT, ABSENT), {}) == (1,)
    assert bind("call", signature, (1,), {"c": 3}) == (1, 8, 3)


def test_named_items_join_the_pairs() -> None:
    signature = Shelf.maker
    assert bind("Shelf", signature, (), {}) == ()
    assert bind("Shelf", signature, ({"a": 1},), {}) == ({"a": 1},)
    assert bind("Shelf", signature, ({"a": 1},), {"b": 2, "a": 3}) == ({"a": 3, "b": 2},)
    assert bind("Shelf", signature, ([("a", 1)],), {"b": 2}) == ({"a": 1, "b": 2},)
    # The first parameter is positional only, so its name is free.
    assert bind("Shelf", signature, (), {"items": 2}) == ({"items": 2},)
    with pytest.raises(TypeError):
        bind("Shelf", signature, (1, 2), {})


@pytest.mark.parametrize(
    ("given", "named", "said"),
    [
        ((), {}, r"two\(\) is missing: 'a'"),
        ((), {"b": 1}, r"two\(\) is missing: 'a'"),
        ((1, 2, 3), {}, "takes 2 arguments but 3 were given"),
        ((1,), {"a": 2}, "multiple values for argument 'a'"),
        ((1,), {"z": 2}, "unexpected argument 'z'"),
    ],
)
def test_what_does_not_fit_is_said(given: Any, named: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        bind("two", signature_of(declared_two), given, named)


@pytest.mark.parametrize("base", [SyncProxy, AsyncProxy])
@given(
    name=st.sampled_from(["none", "one", "one_more", "two", "three", "four"]),
    given=st.lists(st.integers(), max_size=5),
    named=st.dictionaries(st.sampled_from("abcdx"), st.integers(), max_size=3),
)
def test_methods_of_proxies_bind_as_python_does(
    base: type[Proxy], name: str, given: list[int], named: dict[str, int]
) -> None:
    proxy, channel = proxy_of(Shelf, base)
    plain: dict[str, Callable[..., Any]] = {
        "none": lambda: (),
        "one": lambda a: (a,),
        "one_more": lambda a=7: (a,),
        "two": lambda a, b=8: (a, b),
        "three": lambda a, b=8, c=9: (a, b, c),
        "four": lambda a, b=8, c=9, d=10: (a, b, c, d),
    }
    try:
        expected = plain[name](*given, **named)
    except TypeError:
        with pytest.raises(TypeError):
            getattr(proxy, name)(*given, **named)
        assert channel.calls == []
        return
    result = getattr(proxy, name)(*given, **named)
    if base is AsyncProxy:
        run(result)
    ((called, bound, owner),) = channel.calls
    defaults = tuple(one.default for one in Shelf.operations[name].parameters)
    assert (called, bound + defaults[len(bound) :], owner) == (name, expected, 0)


def test_methods_of_proxies_look_like_what_was_declared() -> None:
    proxy, _ = proxy_of(Shelf, SyncProxy)
    assert proxy.none.__name__ == "none"
    assert type(proxy).none.__qualname__ == "Face.none"
    assert proxy.none.__doc__ == "Take nothing."
    assert type(proxy).both.__doc__ == "Call two operations."
    assert not hasattr(type(proxy), "operations") or "both" not in type(proxy).operations


def test_inspect_and_help_show_what_was_declared() -> None:
    class Kind(Shelf[K, V]):
        @waits
        def wait(self, timeout: float | None = None) -> "bool | Waiter[bool]": ...
        @waits
        def begin(self) -> Waiter[None] | None: ...
        @acquires
        def acquire(self, caller: Caller, blocking: bool = True) -> int | Waiter[int]: ...
        @composite
        def later(self, x: "Unknown") -> "Generator[Any, Any, Unknown]":  # type: ignore  # noqa: F821
            yield

    shown = {
        "none": "(self) -> int",
        "two": "(self, a: int, b: int = 8) -> int",
        "four": "(self, a: int, b: int = 8, c: int = 9, d: int = 10) -> int",
        "release": "(self, name: str | None = None) -> None",
        "both": "(self, x: int, y: int = 2) -> tuple[typing.Any, typing.Any]",
        "neither": "(self, x: int) -> str",
        "wait": "(self, timeout: float | None = None) -> bool",
        "begin": "(self) -> None",
        "acquire": "(self, blocking: bool = True) -> int",
        "later": "(self, x: 'Unknown') -> 'Generator[Any, Any, Unknown]'",
    }
    for base in (AsyncProxy, SyncProxy):
        proxy, _ = proxy_of(Kind, base)
        for name, signature in shown.items():
            assert str(inspect.signature(getattr(type(proxy), name))) == signature
            bound = signature.replace("(self, ", "(").replace("(self)", "()")
            assert str(inspect.signature(getattr(proxy, name))) == bound
        assert typing.get_type_hints(proxy.two) == {}
        assert "Take nothing." in inspect.getsource(proxy.none)
        assert "both(self, x: int, y: int = 2)" in pydoc.render_doc(
            type(proxy), renderer=pydoc.plaintext
        )
        with pytest.raises(TypeError, match="missing a required argument: 'a'"):
            mock.create_autospec(type(proxy), instance=True).two()


def test_a_mapping_with_named_items_is_one_argument() -> None:
    proxy, channel = proxy_of(Shelf, SyncProxy)
    proxy.update({"a": 1}, b=2)
    assert channel.calls == [("update", ({"a": 1, "b": 2},), 0)]


# Composites


@pytest.mark.parametrize("base", [SyncProxy, AsyncProxy])
def test_a_composite_is_several_operations(base: type[Proxy]) -> None:
    proxy, channel = proxy_of(Shelf, base)
    channel.answers = ["first", "second"]
    result = proxy.both(5)
    if base is AsyncProxy:
        result = run(result)
    assert result == ("first", "second")
    assert channel.calls == [("one", (5,), 0), ("one", (2,), 0)]


@pytest.mark.parametrize("base", [SyncProxy, AsyncProxy])
def test_a_composite_may_call_nothing(base: type[Proxy]) -> None:
    proxy, channel = proxy_of(Shelf, base)
    result = proxy.neither(0)
    if base is AsyncProxy:
        result = run(result)
    assert (result, channel.calls) == ("nothing for 0", [])


@pytest.mark.parametrize("base", [SyncProxy, AsyncProxy])
def test_a_composite_sees_the_errors_of_its_operations(base: type[Proxy]) -> None:
    proxy, channel = proxy_of(Shelf, base)
    channel.answers = [KeyError("x"), None, ValueError("y")]
    finish = run if base is AsyncProxy else lambda result: result
    assert finish(proxy.careful()) == "not there"
    assert finish(proxy.careful()) == "there"
    with pytest.raises(ValueError, match="y"):
        finish(proxy.careful())


def test_a_composite_binds_its_arguments_when_it_is_called() -> None:
    proxy, channel = proxy_of(Shelf, AsyncProxy)
    with pytest.raises(TypeError):
        proxy.both()
    with pytest.raises(TypeError):
        proxy.both(1, z=2)
    assert channel.calls == []


def test_the_owner_is_who_calls_not_who_awaits() -> None:
    proxy, channel = proxy_of(Shelf, AsyncProxy)
    channel.task = 5
    simple, through_composite = proxy.release(), proxy.released()
    channel.task = 6
    run(simple)
    run(through_composite)
    assert [owner for _, _, owner in channel.calls] == [5, 5]


def test_a_cancelled_composite_is_cancelled_within() -> None:
    seen: list[type[BaseException]] = []

    class Kind(SharedObject):
        @reads
        def one(self) -> int: ...

        @composite
        def twice(self) -> Generator[Any, Any, None]:
            try:
                yield self.one()
            except BaseException as error:
                seen.append(type(error))
                raise

    class CancelledByTest(BaseException):
        pass

    proxy, channel = proxy_of(Kind, AsyncProxy)
    channel.answers = [CancelledByTest()]
    with pytest.raises(CancelledByTest):
        run(proxy.twice())
    assert seen == [CancelledByTest]


# Fallbacks


def test_a_fallback_stands_beside_its_operation_and_is_no_operation() -> None:
    class Kind(SharedObject):
        @reads
        def contains(self, value: V) -> bool: ...

        @reads
        def copy(self) -> list[V]: ...

        @contains.fallback
        def _contains(self, value: Any) -> Generator[Any, Any, bool]:
            return value in (yield self.copy())

    assert set(Kind.operations) == {"contains", "copy"}
    operation = Kind.operations["contains"]
    assert operation.client_side is Kind.__dict__["_contains"]
    assert Kind.operations["copy"].client_side is None


def test_a_default_that_means_none_given_is_known_by_its_place() -> None:
    def pop(self: Any, key: K, default: D = MISSING) -> V | D: ...  # type: ignore[assignment]

    assert writes(pop).default_index == 1
    assert Shelf.operations["two"].default_index is None


@pytest.mark.parametrize("end", ["throw", "close"])
def test_a_composite_that_never_begins_leaves_no_step_behind(end: str) -> None:
    async def step() -> int:
        return 1

    def steps() -> Generator[Any, Any, int]:
        return (yield step())

    driven = begin(steps())
    if end == "close":
        driven.close()
    else:
        with pytest.raises(KeyError):
            driven.throw(KeyError())
    del driven
    gc.collect()  # a coroutine that was never awaited would warn here, which is an error
    assert asyncio.run(_awaited(begin(steps()))) == 1
    with pytest.raises(StopIteration) as caught:
        begin(steps()).send(None)
    assert caught.value.value == 1


async def _awaited(coroutine: Any) -> Any:
    return await coroutine
