"""The shared Namespace holds what attributes hold, on plain values and through a session."""

import types
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from aiomanager.objects.namespace import Namespace, NamespaceProxy, operations
from aiomanager.proxy import Reference
from aiomanager.stored import MISSING

from .machines import NestedMachine, amounts
from .reference import Nest, add
from .rigs import PureRig, Rig, SessionRig
from .twins import Twins, values, with_points

# Among them what a proxy has as an attribute or method itself.
names = st.sampled_from(["a", "b", "get", "sync", "shared_type", "\N{SNOWMAN}", ""])

Model = types.SimpleNamespace


def increment(model: Model, name: str, amount: Any) -> Any:
    setattr(model, name, add(getattr(model, name), amount) if hasattr(model, name) else amount)
    return getattr(model, name)


def compare_and_set(model: Model, name: str, expected: Any, value: Any) -> bool:
    if not hasattr(model, name) or getattr(model, name) != expected:
        return False
    setattr(model, name, value)
    return True


def set_missing(model: Model, name: str, value: Any) -> bool:
    if hasattr(model, name):
        return False
    setattr(model, name, value)
    return True


class Names(Nest):
    """A dict whose keys are names."""

    def _end(self, path: tuple[Any, ...]) -> tuple[Any, Any]:
        if path and not isinstance(path[0], str):
            raise TypeError(path)
        return super()._end(path)


class NamespaceMachine(NestedMachine):
    def nest(self, model: Any) -> Nest:
        return Names(vars(model))

    @initialize(start=st.dictionaries(names, values, max_size=3))
    def make(self, start: dict[str, Any]) -> None:
        self.twins = Twins(Namespace, types.SimpleNamespace(**start), **start)
        self.attributes = self.twins.proxies
        self.methods = [operations(proxy) for proxy in self.attributes]
        self.twins.proxies = self.methods

    def by_attribute(self, act: Any, *arguments: Any) -> None:
        """Do the same to the attributes of all."""
        self.twins.proxies = self.attributes
        self.twins.check(act, act, *arguments)
        self.twins.proxies = self.methods

    @invariant()
    def same(self) -> None:
        self.twins.check("items", lambda m: list(vars(m).items()))

    @rule()
    def look(self) -> None:
        self.twins.check("copy", lambda m: dict(vars(m)))
        self.twins.check("names", lambda m: list(vars(m)))

    @rule(name=names)
    def get_attribute(self, name: str) -> None:
        self.by_attribute(getattr, name)

    @rule(name=names, default=with_points)
    def get_attribute_or_default(self, name: str, default: Any) -> None:
        self.by_attribute(getattr, name, default)

    @rule(name=names, value=with_points)
    def set_attribute(self, name: str, value: Any) -> None:
        self.by_attribute(setattr, name, value)

    @rule(name=names)
    def delete_attribute(self, name: str) -> None:
        self.by_attribute(delattr, name)

    @rule(name=names)
    def has_attribute(self, name: str) -> None:
        self.by_attribute(hasattr, name)

    @rule(name=names)
    def get(self, name: str) -> None:
        self.twins.check("get", getattr, name)

    @rule(name=names, default=with_points)
    def get_or_default(self, name: str, default: Any) -> None:
        self.twins.check("get", getattr, name, default)

    @rule(name=names, value=with_points)
    def set(self, name: str, value: Any) -> None:
        self.twins.check("set", setattr, name, value)

    @rule(name=names)
    def delete(self, name: str) -> None:
        self.twins.check("delete", delattr, name)

    @rule(name=names)
    def contains(self, name: str) -> None:
        self.twins.check("contains", hasattr, name)

    @rule(some=st.dictionaries(names, values, max_size=2), named=st.booleans())
    def update(self, some: dict[str, Any], named: bool) -> None:
        self.twins.check(
            lambda proxy, s: proxy.update(**s) if named else proxy.update(s),
            lambda m, s: vars(m).update(s),
            some,
        )

    @rule()
    def clear(self) -> None:
        self.twins.check("clear", lambda m: vars(m).clear())

    @rule(name=names, amount=amounts)
    def increment(self, name: str, amount: Any) -> None:
        self.twins.check("increment", increment, name, amount)

    @rule(name=names, expected=with_points, value=with_points, from_there=st.booleans())
    def compare_and_set(self, name: str, expected: Any, value: Any, from_there: bool) -> None:
        if from_there:
            expected = getattr(self.twins.model, name, expected)
        self.twins.check("compare_and_set", compare_and_set, name, expected, value)

    @rule(name=names, value=with_points)
    def set_missing(self, name: str, value: Any) -> None:
        self.twins.check(
            lambda proxy, n, v: proxy.compare_and_set(n, MISSING, v), set_missing, name, value
        )

    @rule(name=names)
    def remove_as_it_is(self, name: str) -> None:
        if hasattr(self.twins.model, name):
            self.twins.check(
                lambda proxy, n, e: proxy.compare_and_set(n, e, MISSING),
                lambda m, n, e: delattr(m, n) or True,
                name,
                getattr(self.twins.model, name),
            )

    @rule(name=names, value=values)
    def update_item(self, name: str, value: Any) -> None:
        self.twins.check(
            lambda proxy, n, v: proxy.update_item(n, lambda old: [old, v], "new"),
            lambda m, n, v: setattr(m, n, [getattr(m, n, "new"), v]) or getattr(m, n),
            name,
            value,
        )


TestNamespace = NamespaceMachine.TestCase
TestNamespace.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


@pytest.fixture(params=[PureRig, SessionRig])
def rig(request: pytest.FixtureRequest) -> Rig:
    return request.param()  # type: ignore[no-any-return]


def test_names_with_an_underscore_belong_to_the_proxy(rig: Rig) -> None:
    one = rig.make(Namespace, x=1)
    one._own = "own"
    assert one._own == "own"
    assert operations(one).names() == ["x"]
    del one._own
    with pytest.raises(AttributeError):
        _ = one._own


def test_what_is_missing_is_said_as_python_says_it(rig: Rig) -> None:
    one = rig.make(Namespace)
    for miss in (lambda: one.x, lambda: delattr(one, "x"), lambda: operations(one).get("x")):
        with pytest.raises(AttributeError, match=r"^'Namespace' object has no attribute 'x'$"):
            miss()


def test_a_path_begins_with_a_name(rig: Rig) -> None:
    one = operations(rig.make(Namespace, x={}))
    with pytest.raises(TypeError, match=r"step 1 \(7\): the name of an attribute is a str"):
        one.get_nested((7,))
    with pytest.raises(KeyError, match=r"step 1 .*there is no such attribute"):
        one.update_nested(("y", "z"), 1)


def test_a_name_is_a_string(rig: Rig) -> None:
    with pytest.raises(TypeError):
        operations(SessionRig().make(Namespace)).set(1, 1)


def test_the_async_proxy_names_the_fix() -> None:
    rig = PureRig()
    one: Any = NamespaceProxy(rig, Reference(rig, 0, 0))
    with pytest.raises(AttributeError, match=r"'await namespace\.get\('x'\)'"):
        _ = one.x
    with pytest.raises(TypeError, match=r"'await namespace\.set\('x', \.\.\.\)'"):
        one.x = 1
    with pytest.raises(TypeError, match=r"'await namespace\.delete\('x'\)'"):
        del one.x
    one._own = 1
    del one._own
    with pytest.raises(AttributeError, match="no attribute '_own'"):
        _ = one._own
