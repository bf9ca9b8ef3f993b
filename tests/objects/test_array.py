"""The shared Array does what array.array does, on plain values and through a session."""

from array import array, typecodes
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aiomanager.errors import TooLarge
from aiomanager.objects.array import Array

from .reference import add
from .rigs import PureRig, Rig, SessionRig
from .twins import Twins

codes = "bBhHiIlLqQfd"
small = st.integers(0, 100)
# What fits everywhere, what is at an edge or beyond one, and what is no number.
items = st.one_of(
    small,
    st.sampled_from([-1, 127, 128, 255, 256, -(2**31), 2**31, 2**32 - 1, 2**63, 2**64, -(2**70)]),
    st.sampled_from([0.5, -0.0, 1e300, True, None, "x", b"x", [1]]),
)
indices = st.integers(-4, 4)
bounds = st.none() | st.integers(-4, 4)


class Ordinal:
    """A number that only the client can open, as those of numpy are."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


def compare_and_set(model: "array[Any]", index: int, expected: Any, value: Any) -> bool:
    if model[index] != expected:
        return False
    model[index] = value
    return True


def increment(model: "array[Any]", index: int, amount: Any) -> Any:
    model[index] = add(model[index], amount)
    return model[index]


def fill(model: "array[Any]", value: Any, start: Any = None, stop: Any = None) -> None:
    array(model.typecode, [value])  # refused also if there is nothing to fill
    for position in range(*slice(start, stop).indices(len(model))):
        model[position] = value


def assign(model: "array[Any]", some: Any, *where: Any) -> None:
    model[slice(*where)] = some if isinstance(some, array) else array(model.typecode, some)


class ArrayMachine(RuleBasedStateMachine):
    @initialize(
        code=st.sampled_from(codes), start=st.lists(small, max_size=4), as_array=st.booleans()
    )
    def make(self, code: str, start: list[int], as_array: bool) -> None:
        given = array(code, start)
        self.twins = Twins(Array, given, code, given[:] if as_array else start)

    @invariant()
    def same(self) -> None:
        self.twins.check("copy", lambda m: m[:])

    @rule()
    def look(self) -> None:
        self.twins.check("length", len)
        self.twins.check("typecode", lambda m: m.typecode)
        self.twins.check(len, len)

    @rule(index=indices)
    def get_item(self, index: int) -> None:
        self.twins.check("get_item", lambda m, i: m[i], index)
        self.twins.check(lambda p, i: p[i], lambda m, i: m[i], index)

    @rule(start=bounds, stop=bounds, step=bounds)
    def get_slice(self, start: Any, stop: Any, step: Any) -> None:
        self.twins.check(lambda p, *s: p[slice(*s)], lambda m, *s: m[slice(*s)], start, stop, step)

    @rule(index=indices, value=items)
    def set(self, index: int, value: Any) -> None:
        self.twins.check("set", array.__setitem__, index, value)
        self.twins.check(lambda p, i, v: p.__setitem__(i, v), array.__setitem__, index, value)

    @rule(index=indices, value=st.builds(Ordinal, st.sampled_from([7, 2**80])))
    def set_what_only_the_client_opens(self, index: int, value: Any) -> None:
        self.twins.check("set", array.__setitem__, index, value)

    @rule(some=st.lists(small, max_size=3), start=bounds, stop=bounds, step=bounds)
    def set_slice(self, some: list[int], start: Any, stop: Any, step: Any) -> None:
        some_array = array(self.twins.model.typecode, some)
        self.twins.check("set_slice", assign, some_array, start, stop, step)

    @rule(some=st.lists(items, max_size=3), start=bounds, stop=bounds)
    def set_slice_to_a_list(self, some: list[Any], start: Any, stop: Any) -> None:
        self.twins.check("set_slice", assign, some, start, stop)

    @rule(code=st.sampled_from(codes), some=st.lists(small, max_size=2))
    def set_slice_to_another_type_code(self, code: str, some: list[int]) -> None:
        self.twins.check(
            lambda p, s: p.__setitem__(slice(0, 1), s),
            lambda m, s: m.__setitem__(slice(0, 1), s),
            array(code, some),
        )

    @rule()
    def set_slice_to_what_only_the_client_opens(self) -> None:
        self.twins.check("set_slice", assign, [Ordinal(3), 4], 0, 2)

    @rule(value=items, start=bounds, stop=bounds)
    def fill(self, value: Any, start: Any, stop: Any) -> None:
        self.twins.check("fill", fill, value, start, stop)

    @rule(value=st.builds(Ordinal, small))
    def fill_all(self, value: Any) -> None:
        self.twins.check("fill", fill, value)

    @rule(index=indices, amount=st.sampled_from([1, -2, 0.5, 2**31, -(2**63)]))
    def increment(self, index: int, amount: Any) -> None:
        self.twins.check("increment", increment, index, amount)

    @rule(index=indices, expected=items, value=items, from_there=st.booleans())
    def compare_and_set(self, index: int, expected: Any, value: Any, from_there: bool) -> None:
        model = self.twins.model
        if from_there and -len(model) <= index < len(model):
            expected = model[index]
        self.twins.check("compare_and_set", compare_and_set, index, expected, value)

    @precondition(lambda self: len(self.twins.model))
    @rule(value=st.builds(Ordinal, small))
    def compare_and_set_what_only_the_client_opens(self, value: Any) -> None:
        expected = self.twins.model[0]
        self.twins.check("compare_and_set", compare_and_set, 0, expected, value)

    @rule()
    def iterate(self) -> None:
        self.twins.check(list, list)


TestArray = ArrayMachine.TestCase
TestArray.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)


@pytest.fixture(params=[PureRig, SessionRig])
def rig(request: pytest.FixtureRequest) -> Rig:
    return request.param()  # type: ignore[no-any-return]


@pytest.mark.parametrize("code", codes)
def test_an_array_of_a_size_holds_zeros(rig: Rig, code: str) -> None:
    assert rig.make(Array, code, 3).copy() == array(code, [0, 0, 0])


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (("k", [1]), ValueError),
        (("k", 1), ValueError),
        (("ii", [1]), TypeError),
        (("i", [1.5]), TypeError),
        (("i", -1), ValueError),
        (("b", [128]), OverflowError),
        (("d", 1 << 60), TooLarge),
        (("d", None), TypeError),
    ],
)
def test_what_makes_no_array(rig: Rig, given: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        rig.make(Array, *given)


def test_messages_are_those_of_python(rig: Rig) -> None:
    shared, plain = rig.make(Array, "b", [1]), array("b", [1])
    for act in (
        lambda a: a[5],
        lambda a: a.__setitem__(5, 1),
        lambda a: a.__setitem__(0, 128),
        lambda a: a.__setitem__(0, "x"),
        lambda a: a.__setitem__(0, 0.5),
    ):
        errors = []
        for one in (plain, shared):
            with pytest.raises((IndexError, OverflowError, TypeError)) as caught:
                act(one)
            errors.append((caught.type, str(caught.value)))
        assert errors[0] == errors[1]


def test_characters(rig: Rig) -> None:
    code = "w" if "w" in typecodes else "u"
    shared = rig.make(Array, code, array(code, "a\N{SNOWMAN}c"))
    shared[0] = "x"
    shared.fill("z", 2)
    assert shared[:] == array(code, "x\N{SNOWMAN}z")
    for act in (lambda: shared.set(0, "xy"), lambda: shared.set(0, 5), lambda: shared.increment(0)):
        with pytest.raises(TypeError):
            act()


def test_iteration_sees_what_changes_meanwhile(rig: Rig) -> None:
    shared = rig.make(Array, "i", [1, 2, 3])
    seen = []
    for item in shared:
        seen.append(item)
        shared[2] = 9
    assert seen == [1, 2, 9]
