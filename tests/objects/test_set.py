"""The shared set does what Python's own does, on plain values and through a session."""

import operator
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from aiomanager.objects.set import Set

from .rigs import PureRig, Rig, SessionRig
from .twins import Twins, exact, keys, outcome

some = st.lists(keys, max_size=3)
iterables = st.one_of(
    some,
    st.sets(keys, max_size=3),
    st.sets(keys, max_size=3).map(frozenset),
    st.sampled_from(["ab", "", b"a", {"a": 1}]),
)
sets = st.sets(keys, max_size=3) | st.sets(keys, max_size=3).map(frozenset)
COMPARISONS = [operator.le, operator.lt, operator.ge, operator.gt]


def intersection(model: set[Any], *others: Any) -> set[Any]:
    """As Python's own, which may spell an element as the others do."""
    held = [set(other) for other in others]
    common = {one for one in model if all(one in other for other in held)}
    assert common == model.intersection(*others)
    return common


def intersection_update(model: set[Any], *others: Any) -> None:
    model -= model - intersection(model, *others)


def add_new(model: set[Any], element: Any) -> bool:
    found = element not in model
    model.add(element)
    return found


class SetMachine(RuleBasedStateMachine):
    @initialize(elements=iterables)
    def make(self, elements: Any) -> None:
        self.twins = Twins(Set, set(elements), elements)

    @invariant()
    def same(self) -> None:
        self.twins.check("copy", set)

    @rule(element=keys)
    def look(self, element: Any) -> None:
        self.twins.check("length", len)
        self.twins.check(len, len)
        self.twins.check("contains", set.__contains__, element)
        self.twins.check(lambda p, e: e in p, set.__contains__, element)
        self.twins.check(set, set)

    @rule(element=keys)
    def add(self, element: Any) -> None:
        self.twins.check("add", set.add, element)

    @rule(element=keys)
    def add_new(self, element: Any) -> None:
        self.twins.check("add_new", add_new, element)

    @rule(element=keys)
    def remove(self, element: Any) -> None:
        self.twins.check("remove", set.remove, element)

    @rule(element=keys)
    def discard(self, element: Any) -> None:
        self.twins.check("discard", set.discard, element)

    @rule()
    def clear(self) -> None:
        self.twins.check("clear", set.clear)

    @rule()
    def pop(self) -> None:
        """Any element may come: all are to lose one that they had, or to say that there is none."""
        model = self.twins.model
        if not model:
            self.twins.check("pop", set.pop)
            return
        for proxy in self.twins.proxies:
            found = proxy.pop()
            assert exact(found) in map(exact, model)
            proxy.add(found)
        # So that they stay the same.
        element = next(iter(model))
        self.twins.check("remove", set.remove, element)

    @rule(others=st.lists(iterables, max_size=3))
    def look_at_several(self, others: Any) -> None:
        for name in ("union", "difference"):
            self.twins.check(name, getattr(set, name), *others)
        self.twins.check("intersection", intersection, *others)

    @rule(other=iterables)
    def look_at_one(self, other: Any) -> None:
        for name in ("isdisjoint", "issubset", "issuperset", "symmetric_difference"):
            self.twins.check(name, getattr(set, name), other)

    @rule(others=st.lists(iterables, max_size=3))
    def update(self, others: Any) -> None:
        self.twins.check("update", set.update, *others)

    @rule(others=st.lists(iterables, max_size=3))
    def difference_update(self, others: Any) -> None:
        self.twins.check("difference_update", set.difference_update, *others)

    @rule(others=st.lists(iterables, max_size=2))
    def intersection_update(self, others: Any) -> None:
        self.twins.check("intersection_update", intersection_update, *others)

    @rule(other=iterables)
    def symmetric_difference_update(self, other: Any) -> None:
        self.twins.check("symmetric_difference_update", set.symmetric_difference_update, other)

    @rule(other=sets)
    def operators(self, other: Any) -> None:
        for act in (operator.or_, operator.sub, operator.xor):
            self.twins.check(act, act, other)
        self.twins.check(operator.and_, intersection, other)
        for act in COMPARISONS:
            self.twins.check(act, act, other)

    @rule(other=sets)
    def reversed_operators(self, other: Any) -> None:
        for act in (operator.or_, operator.sub, operator.xor, operator.and_):
            # What it is spelled like, Python leaves open.
            want = act(other, self.twins.model)
            for proxy in self.twins.proxies:
                found = act(other, proxy)
                assert type(found) is type(want)
                assert found == want
        for act in COMPARISONS:
            self.twins.check(
                lambda p, o, act=act: act(o, p), lambda m, o, act=act: act(o, m), other
            )

    @rule(other=sets)
    def operators_in_place(self, other: Any) -> None:
        self.in_place(operator.ior, set.update, other)
        self.in_place(operator.iand, intersection_update, other)
        self.in_place(operator.ixor, set.symmetric_difference_update, other)
        self.in_place(operator.isub, set.difference_update, other)

    def in_place(self, act: Callable[..., Any], expected: Any, other: Any) -> None:
        """Check that an operator changes the set and returns the proxy."""

        def change(proxy: Any, given: Any) -> None:
            assert act(proxy, given) is proxy

        self.twins.check(change, expected, other)

    @rule(other=iterables)
    def operators_take_sets_alone(self, other: Any) -> None:
        for act in (operator.or_, operator.iand, *COMPARISONS):
            if not isinstance(other, set | frozenset):
                with pytest.raises(TypeError):
                    act(set(self.twins.model), other)
                for proxy in self.twins.proxies:
                    with pytest.raises(TypeError):
                        act(proxy, other)


TestSet = SetMachine.TestCase
TestSet.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)


@pytest.fixture(params=[PureRig, SessionRig])
def rig(request: pytest.FixtureRequest) -> Rig:
    return request.param()  # type: ignore[no-any-return]


def test_a_shared_set_passes_for_a_plain_one() -> None:
    rig = SessionRig()
    one, two = rig.make(Set, [1, 2]), rig.make(Set, [2, 3])
    assert (one | two, one & two, one - two, one ^ two) == ({1, 2, 3}, {2}, {1}, {1, 3})
    assert [act(one, two) for act in COMPARISONS] == [False] * 4
    assert [act(one, one) for act in COMPARISONS] == [True, False, True, False]
    one |= two
    assert one.copy() == {1, 2, 3}
    one -= one
    assert len(one) == 0
    two.update(two, rig.make(Set, "ab"))
    assert set(two) == {2, 3, "a", "b"}


def test_messages_are_those_of_python(rig: Rig) -> None:
    shared, plain = rig.make(Set), set[Any]()
    for act in (lambda s: s.pop(), lambda s: s.remove((1, "x"))):
        assert outcome(lambda act=act: act(shared)) == outcome(lambda act=act: act(plain))
        with pytest.raises(KeyError) as found:
            act(shared)
        with pytest.raises(KeyError) as expected:
            act(plain)
        assert found.value.args == expected.value.args


def test_what_cannot_be_an_element(rig: Rig) -> None:
    shared = rig.make(Set)
    for act in (shared.add, shared.contains, shared.discard, shared.remove):
        with pytest.raises(TypeError):
            act([])
    for make in (lambda: rig.make(Set, [[]]), lambda: rig.make(Set, 5)):
        with pytest.raises(TypeError):
            make()
