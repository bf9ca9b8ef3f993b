"""The store: names, and references that are counted for clients, names and values."""

import gc
from typing import Any

import msgpack
import pytest

from aiomanager.errors import NeedsNeutralValue, ObjectGone
from aiomanager.objects import TYPES
from aiomanager.objects.dict import Dict
from aiomanager.objects.list import List
from aiomanager.objects.queue import Queue
from aiomanager.objects.value import Value
from aiomanager.protocol.keys import KeyCodec
from aiomanager.protocol.messages import BYE, ERROR, HOLD, POST, RELEASE, encode
from aiomanager.protocol.values import ValueCodec
from aiomanager.sessions.plans import Leaves, Plans
from aiomanager.sessions.server import LINGER
from aiomanager.sessions.store import MANAGER, Manager, Store

from .test_server import GRACE, Line, World


class Ref:
    """A proxy, as far as values are concerned."""

    def __init__(self, object_id: int) -> None:
        self.object_id = object_id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ref) and other.object_id == self.object_id

    __hash__ = None  # type: ignore[assignment]


_values = ValueCodec(
    allow_pickle=False,
    refer=lambda value: (value.object_id, "dict") if isinstance(value, Ref) else None,
    resolve=lambda object_id, _: Ref(object_id),
)
_keys = KeyCodec(_values)
_plans = Plans(Leaves(_keys.encode, _values.encode, _keys.decode, _values.decode, _keys.decode))


class User:
    """A client that speaks in Python values."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.line: Line = world.line()
        self.client = self.line.session.client

    def call(self, kind: type[Any], object_id: int, name: str, *arguments: Any) -> Any:
        plan = _plans.of(kind.operations[name])
        return plan.decode_result(self.line.value(object_id, name, *plan.encode(arguments)))

    def make(self, kind: str = "dict", *arguments: Any) -> int:
        return self.line.make(kind, *arguments)

    def release(self, *object_ids: int) -> None:
        self.line.send([RELEASE, list(object_ids)])

    def hold(self, *object_ids: int) -> None:
        self.line.send([HOLD, list(object_ids)])

    def leave(self) -> None:
        """End in good order, and be forgotten."""
        self.line.session.finish()
        self.world.clock.advance(LINGER)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def user(world: World) -> User:
    return User(world)


@pytest.fixture
def other(world: World) -> User:
    return User(world)


def objects(world: World) -> set[int]:
    gc.collect()
    return set(world.store.entries) - {MANAGER}


# Clients


def test_an_object_lives_while_its_maker_refers_to_it(world: World, user: User) -> None:
    one, two = user.make(), user.make("Lock")
    assert (one, two) == (1, 2)
    user.release(one)
    assert objects(world) == {two}
    user.release(two, two, two)
    assert objects(world) == set()
    assert not user.client.references


def test_an_object_lives_while_any_client_refers_to_it(
    world: World, user: User, other: User
) -> None:
    table = user.make()
    other.hold(table, table)
    user.release(table)
    user.release(table)
    assert objects(world) == {table}
    other.release(table)
    assert objects(world) == {table}
    other.release(table)
    assert objects(world) == set()


def test_what_is_gone_cannot_be_held(world: World, user: User) -> None:
    user.hold(5, 6)
    assert not user.client.references
    assert user.make() == 1


def test_ids_are_never_used_again(user: User) -> None:
    for number in range(1, 4):
        assert user.make() == number
        user.release(number)


def test_references_outlive_the_last_session_for_a_while(world: World, user: User) -> None:
    table = user.make()
    user.line.session.finish()
    world.clock.advance(LINGER - 1)
    assert objects(world) == {table}
    # Who comes back in time finds everything, for as long as it stays, and as long again after.
    again = Line(world, user.line.name).attach()
    assert again.session.client is user.client
    world.clock.advance(3 * LINGER)
    assert objects(world) == {table}
    again.session.finish()
    world.clock.advance(LINGER - 1)
    assert objects(world) == {table}
    world.clock.advance(1)
    assert objects(world) == set()
    assert world.core.clients == {}
    assert world.clock.running == 0


def test_who_comes_back_after_leaving_for_good_leaves_references_for_a_while(
    world: World, user: User
) -> None:
    table = user.make()
    second = Line(world, user.line.name).attach()
    user.line.send([BYE, True])
    third = Line(world, user.line.name).attach()
    second.session.finish()
    third.session.finish()
    assert objects(world) == {table}
    fourth = Line(world, user.line.name).attach()
    fourth.send([BYE, True])
    assert objects(world) == set()


def test_a_client_with_another_session_keeps_its_references(world: World, user: User) -> None:
    table = user.make()
    second = Line(world, user.line.name).attach()
    user.line.session.finish()
    world.clock.advance(3 * LINGER)
    assert objects(world) == {table}
    assert second.value(table, "length") == 0


def test_a_client_of_another_principal_is_another_client(world: World, user: User) -> None:
    table = user.make()
    session = world.core.session_of(user.line.hello(), "somebody else", "pid 9", GRACE)
    assert session.client is not user.client
    session.finish()
    user.leave()
    assert objects(world) == set()
    assert world.core.clients == {}
    assert table


def test_a_post_that_makes_an_object_leaves_nothing(world: World, user: User) -> None:
    user.line.send([POST, 50, MANAGER, "create", ["dict", [[]]], 0])
    assert world.store.handed_out == []
    assert len(objects(world)) == 1
    user.leave()
    assert objects(world) == set()


# Names


def test_a_named_object_stays_until_it_is_deleted(world: World, user: User, other: User) -> None:
    votes = user.call(Manager, MANAGER, "named", "dict", "votes", [])
    assert other.call(Manager, MANAGER, "named", "dict", "votes", []) == votes
    assert other.call(Manager, MANAGER, "names") == {"votes": "dict"}
    user.release(votes)
    other.leave()
    assert objects(world) == {votes}
    user.call(Manager, MANAGER, "delete", "votes")
    assert objects(world) == set()
    assert user.call(Manager, MANAGER, "names") == {}
    assert isinstance(user.line.error(MANAGER, "delete", "votes"), KeyError)
    assert user.call(Manager, MANAGER, "named", "dict", "votes", []) > votes


def test_items_count_for_the_maker_only(user: User) -> None:
    first = user.call(Manager, MANAGER, "named", "list", "l", [[1, 2]])
    assert user.call(Manager, MANAGER, "named", "list", "l", [[3]]) == first
    assert user.call(List, first, "copy") == [1, 2]


@pytest.mark.parametrize(
    ("kind", "arguments", "said"),
    [("list", [], "belongs to a Queue, not to a list"), ("Queue", [5], "has maxsize 3, not 5")],
)
def test_a_name_belongs_to_one_kind_of_object(
    world: World, user: User, kind: str, arguments: list[Any], said: str
) -> None:
    user.call(Manager, MANAGER, "named", "Queue", "q", [3])
    answer = user.line.call(MANAGER, "named", kind, "q", arguments)
    assert answer[3] == 311
    assert said in answer[4]
    assert world.store.count() == {"objects": 1, "names": 1}


def test_a_named_array_has_one_type_code(user: User) -> None:
    wire = user.line.value(MANAGER, "named", "Array", "a", ["d", 2])
    assert user.line.value(MANAGER, "named", "Array", "a", ["d", 5]) == wire
    answer = user.line.call(MANAGER, "named", "Array", "a", ["i", 2])
    assert answer[3] == 311
    assert "has type code 'd', not 'i'" in answer[4]


@pytest.mark.parametrize("data", [b"", b"junk", b"\x94\xa2i4\x91\x02\xa1C\xa0abcd"])
def test_a_malformed_array_harms_nothing(user: User, data: bytes) -> None:
    numbers = user.line.make("Array", "i", 1)
    value = msgpack.packb(msgpack.ExtType(12, data))
    assert user.line.call(numbers, "set_slice", value)[0] == ERROR
    assert user.line.call(MANAGER, "create", "Array", ["i", value])[0] == ERROR
    assert user.line.value(numbers, "get_item", 0) == 0


def test_arrays_that_the_server_does_not_open(user: User) -> None:
    numbers = user.line.make("Array", "d", 4)
    # Complex numbers; two dimensions.
    for head in (["c8", [1], "C", ""], ["f4", [1, 2], "C", "numpy"]):
        value = msgpack.packb(msgpack.ExtType(12, msgpack.packb(head) + bytes(8)))
        assert user.line.call(numbers, "set_slice", value)[3] == NeedsNeutralValue.code
    assert user.line.value(numbers, "length") == 4


def test_statistics_count_everything(world: World, user: User, other: User) -> None:
    event = user.make("Event")
    user.line.send([0, 50, event, "wait", [], 0])
    other.line.session.detach()
    assert user.call(Manager, MANAGER, "statistics") == {
        "objects": 1, "names": 0, "clients": 2, "sessions": 2, "attached": 1, "waiting": 1,
        "objects.Event": 1,
    }  # fmt: skip


def test_objects_are_counted_by_their_types(world: World, user: User) -> None:
    first, _ = user.make(), user.make()
    user.make("list", [])
    user.call(Manager, MANAGER, "named", "Queue", "q", [])
    assert world.store.count_types() == {"objects.Queue": 1, "objects.dict": 2, "objects.list": 1}
    user.release(first)
    user.call(Manager, MANAGER, "delete", "q")
    assert world.store.count_types() == {"objects.dict": 1, "objects.list": 1}


def test_objects_are_limited(user: User) -> None:
    user.world.store.max_objects = 3
    first = user.make()
    user.make()
    assert user.line.call(MANAGER, "create", "dict", [])[3] == 308
    user.release(first)
    assert user.make() == 3


# Values


def test_a_value_keeps_alive_what_it_refers_to(world: World, user: User, other: User) -> None:
    table, inner = user.make(), user.make("list", [])
    user.call(Dict, table, "set", "k", Ref(inner))
    user.release(inner)
    assert objects(world) == {table, inner}
    other.hold(table)
    user.leave()
    assert other.call(Dict, table, "get_item", "k") == Ref(inner)
    assert other.client.references[inner] == 1
    other.call(Dict, table, "delete", "k")
    assert objects(world) == {table, inner}
    other.release(inner)
    assert objects(world) == {table}
    other.release(table)
    assert objects(world) == set()


@pytest.mark.parametrize("name", ["set", "delete", "clear", "pop", "popitem"])
def test_a_value_that_goes_lets_go(world: World, user: User, name: str) -> None:
    table, inner = user.make(), user.make()
    user.call(Dict, table, "set", "k", [1, Ref(inner)])
    user.release(inner)
    arguments = {"set": ("k", 5), "delete": ("k",), "pop": ("k",)}.get(name, ())
    user.call(Dict, table, name, *arguments)
    user.release(inner)  # which pop and popitem have handed out
    assert objects(world) == {table}


def test_a_chain_of_objects_goes_as_a_whole(world: World, user: User) -> None:
    count = 5000
    chain = [user.make("list", [])]
    for _ in range(count):
        outer = user.make("list", [])
        user.call(List, outer, "append", Ref(chain[-1]))
        user.release(chain[-1])
        chain.append(outer)
    assert len(objects(world)) == count + 1
    user.release(chain[-1])
    assert objects(world) == set()


def test_a_queue_lets_go_of_items_that_nobody_got(world: World, user: User) -> None:
    q, inner = user.make("Queue"), user.make()
    user.call(Queue, q, "put", Ref(inner))
    user.release(inner)
    assert objects(world) == {q, inner}
    user.release(q)
    assert objects(world) == set()


def test_one_value_may_refer_twice_to_one_object(world: World, user: User) -> None:
    table, inner = user.make(), user.make()
    user.call(Dict, table, "set", "k", [Ref(inner), Ref(inner)])
    assert user.call(Dict, table, "get", "k") == [Ref(inner), Ref(inner)]
    # Counted once for the value.
    assert user.client.references[inner] == 2
    user.release(inner, inner)
    assert objects(world) == {table, inner}
    user.call(Dict, table, "clear")
    assert objects(world) == {table}


def test_each_value_of_an_answer_counts(world: World, user: User) -> None:
    table, inner = user.make(), user.make()
    for key in "abc":
        user.call(Dict, table, "set", key, Ref(inner))
    user.call(Dict, table, "values")
    assert user.client.references[inner] == 4


def test_parts_of_a_value_are_counted_when_it_is_changed(world: World, user: User) -> None:
    table, one, two = user.make(), user.make(), user.make()
    user.call(Dict, table, "set", "row", {"one": Ref(one)})
    user.call(Dict, table, "update_nested", ("row", "two"), Ref(two))
    user.release(one, two)
    assert objects(world) == {table, one, two}
    assert user.call(Dict, table, "get", "row") == {"one": Ref(one), "two": Ref(two)}
    user.release(one, two)
    user.call(Dict, table, "delete_nested", ("row", "one"))
    assert objects(world) == {table, two}
    assert user.call(Dict, table, "get", "row") == {"two": Ref(two)}
    user.release(two)
    assert objects(world) == {table, two}
    assert user.call(Dict, table, "pop_nested", ("row", "two")) == Ref(two)
    assert user.client.references[two] == 1
    assert user.call(Dict, table, "get", "row") == {}
    user.release(two)
    assert objects(world) == {table}


def test_a_list_that_an_operation_makes_holds_what_is_appended(world: World, user: User) -> None:
    table, inner = user.make(), user.make()
    assert user.call(Dict, table, "append_nested", ("log",), Ref(inner)) == 1
    assert user.call(Dict, table, "append_nested", ("log",), {"a": [Ref(inner)]}) == 2
    assert user.call(Dict, table, "append_nested", ("plain",), 1) == 1
    assert user.call(Dict, table, "append_nested", ("plain",), {"k": 2}) == 2
    user.release(inner)
    assert objects(world) == {table, inner}
    assert user.call(Dict, table, "copy") == {
        "log": [Ref(inner), {"a": [Ref(inner)]}],
        "plain": [1, {"k": 2}],
    }
    user.call(Dict, table, "update_nested", ("plain", 0), {"deep": []})
    assert user.call(Dict, table, "get", "plain") == [{"deep": []}, {"k": 2}]


def test_a_repeated_value_is_a_value_of_its_own(world: World, user: User) -> None:
    rows, inner = user.make("list", []), user.make()
    user.call(List, rows, "append", {"r": Ref(inner)})
    user.call(List, rows, "append", "x" * 3000)
    user.release(inner)
    user.call(List, rows, "multiply", 2)
    user.call(List, rows, "update_nested", (0, "r"), None)
    assert user.call(List, rows, "copy") == [
        {"r": None}, "x" * 3000, {"r": Ref(inner)}, "x" * 3000,
    ]  # fmt: skip
    user.release(inner)
    assert objects(world) == {rows, inner}
    user.call(List, rows, "multiply", 0)
    assert objects(world) == {rows}


def test_a_reference_to_what_was_deleted_harms_only_who_uses_it(
    world: World, user: User, other: User
) -> None:
    table = user.make()
    votes = user.call(Manager, MANAGER, "named", "dict", "votes", [])
    user.call(Dict, table, "set", "flat", Ref(votes))
    user.call(Dict, table, "set", "deep", {"r": Ref(votes), "n": 1})
    other.call(Manager, MANAGER, "delete", "votes")
    assert user.call(Dict, table, "get", "flat") == Ref(votes)
    assert user.call(Dict, table, "increment_nested", ("deep", "n")) == 2
    assert user.call(Dict, table, "copy") == {"flat": Ref(votes), "deep": {"r": Ref(votes), "n": 2}}
    user.call(Dict, table, "update_nested", ("deep", "more"), [3])
    assert user.call(Dict, table, "get_nested", ("deep", "more")) == [3]
    assert isinstance(user.line.error(votes, "length"), ObjectGone)
    arguments = _plans.of(Dict.operations["set"]).encode(("k", Ref(votes)))
    assert user.line.call(table, "set", *arguments)[3] == 302


@pytest.mark.parametrize("ids", [[999, 1], [1, 999], [2, 1], [1, 1, 999]])
def test_a_value_with_a_reference_to_nothing_takes_nothing_away(
    world: World, user: User, other: User, ids: list[int]
) -> None:
    theirs = other.make()
    assert theirs == 1
    answer = user.line.call(MANAGER, "create", "list", [[[b"\x01", ids]]])
    assert answer[3] == 302
    gc.collect()
    assert objects(world) == {theirs}
    assert world.store.entries[theirs].references == 1
    assert other.make() == 2


def test_a_reference_that_a_client_hides_is_not_counted_and_takes_nothing_away(
    world: World, user: User, other: User
) -> None:
    value = user.make("Value", "i", 0)
    # It refers to an object that will be made later, and says nothing of it beside the bytes.
    packed = _values.encode({"r": Ref(2), "n": 0})
    assert isinstance(packed, list)
    user.line.value(value, "set", packed[0])
    user.call(Value, value, "increment_nested", ("n",))
    assert user.call(Value, value, "get") == {"r": Ref(2), "n": 1}
    assert other.make() == 2
    user.call(Value, value, "set", 0)
    gc.collect()
    assert world.store.entries[2].references == 1


def test_answers_that_nobody_looks_at_are_counted(world: World, user: User) -> None:
    # The spec says so: whoever drops an answer releases what is in it.
    table, inner = user.make(), user.make()
    q = user.make("Queue")
    user.call(Queue, q, "put", Ref(inner))
    user.line.send([0, 50, q, "get", [], 0])
    user.line.send([2, 50])
    assert user.client.references[inner] == 2
    user.release(inner, inner)
    assert objects(world) == {table, inner, q}


# Values that the server must be able to give back


def test_text_that_is_no_utf8_is_handed_out_from_within(user: User) -> None:
    table = user.make()
    name = "caf\udce9.txt"
    user.call(Dict, table, "set", "files", {"name": name, name: [name]})
    assert user.call(Dict, table, "get_nested", ("files", "name")) == name
    assert user.call(Dict, table, "get_nested", ("files", name, 0)) == name
    assert user.call(Dict, table, "pop_nested", ("files", "name")) == name
    user.call(Dict, table, "update_nested", ("files", "more"), name)
    assert user.call(Dict, table, "get", "files") == {name: [name], "more": name}
    long = "\N{SNOWMAN}" * 5000
    user.call(Dict, table, "update_nested", ("files", "long"), long)
    assert user.call(Dict, table, "get_nested", ("files", "long")) == long


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def test_a_value_is_never_nested_deeper_than_it_can_be_read(user: User) -> None:
    table = user.make()
    user.call(Dict, table, "set", "row", {"a": deep(99)})
    for name, path, value in (
        ("update_nested", ("row", "a", *[0] * 50), deep(50)),
        ("update_nested", ("row", "b"), deep(100)),
        ("setdefault_nested", ("row", "b"), deep(100)),
        ("append_nested", ("row", "b"), deep(99)),
        ("append_nested", ("row", "a"), deep(99)),
        ("compare_and_set_nested", ("row", "a", 0), deep(99)),
    ):
        plan = _plans.of(Dict.operations[name])
        arguments = (path, *((deep(98),) if "compare" in name else ()), value)
        answer = user.line.call(table, name, *plan.encode(arguments))
        assert answer[3] == 307, name
        assert user.call(Dict, table, "get", "row") == {"a": deep(99)}
    user.call(Dict, table, "update_nested", ("row", "b"), deep(99))
    assert user.call(Dict, table, "append_nested", ("row", "c"), deep(98)) == 1
    assert user.call(Dict, table, "append_nested", ("row", "c"), {1: deep(97)}) == 2
    assert user.call(Dict, table, "append_nested", ("new",), deep(99)) == 1
    assert user.call(Dict, table, "copy") == {
        "row": {"a": deep(99), "b": deep(99), "c": [deep(98), {1: deep(97)}]},
        "new": [deep(99)],
    }


def test_the_depths_of_both_floors_agree() -> None:
    from aiomanager.objects.nested import MAX_LEVELS
    from aiomanager.protocol.values import MAX_ENCODE_DEPTH

    assert MAX_LEVELS == MAX_ENCODE_DEPTH


def test_a_sort_that_fails_changes_nothing(user: User) -> None:
    rows = user.make("list", [])
    for value in (3, 1, 2, "text", 0):
        user.call(List, rows, "append", value)
    before = user.call(List, rows, "get_state")
    assert isinstance(user.line.error(rows, "sort_values"), TypeError)
    assert user.call(List, rows, "get_state") == before


def test_what_the_server_cannot_open_is_not_put_in_order(user: User) -> None:
    rows = user.make("list", [])
    for value in (Ref(rows), [Ref(rows)], [1, (Ref(rows),)]):
        user.call(List, rows, "append", value)
        user.call(List, rows, "append", value)
        assert user.line.call(rows, "sort_values")[3] == 310
        user.call(List, rows, "clear")


def test_encoded_rubbish_is_an_error_of_who_looks_inside(world: World, user: User) -> None:
    table = user.make()
    user.line.value(table, "set", b"\xa1a", b"\xc1 no value at all")
    plan = _plans.of(Dict.operations["increment_nested"])
    for name in ("increment_nested", "delete_nested"):
        arguments = _plans.of(Dict.operations[name]).encode((("a", "b"),))
        assert user.line.call(table, name, *arguments)[3] == 301
    assert user.line.value(table, "get", b"\xa1a") == b"\xc1 no value at all"
    assert not world.reports
    assert plan


def test_a_store_has_stored_values_of_its_own() -> None:
    one, two = Store(TYPES), Store(TYPES)
    assert one.stored is not two.stored
    assert encode([0]) == b"\x91\x00"


# Cycles


def test_what_is_reachable_only_from_itself(world: World, user: User) -> None:
    table, rows, alone = user.make(), user.make("list"), user.make("list")
    user.call(Dict, table, "set", "rows", {"deep": [Ref(rows)]})
    user.call(List, rows, "append", Ref(table))
    user.call(List, rows, "append", Ref(rows))
    user.call(List, alone, "append", (Ref(alone), Ref(alone)))
    assert world.store.collect() == 0
    user.release(alone)
    assert objects(world) == {table, rows, alone}
    assert world.store.collect() == 1
    user.release(table)
    assert world.store.collect() == 0
    user.release(rows)
    assert user.call(Manager, MANAGER, "collect") == 2
    assert objects(world) == set()
    assert not user.client.references


def test_what_hangs_on_a_cycle_goes_with_it(world: World, user: User) -> None:
    cycle, leaf, kept = user.make("list"), user.make(), user.make()
    user.call(List, cycle, "extend", [Ref(cycle), [Ref(leaf)], Ref(kept)])
    user.release(cycle, leaf)
    assert world.store.collect() == 2
    assert objects(world) == {kept}
    user.release(kept)
    assert objects(world) == set()


@pytest.mark.parametrize("held", ["named", "client", "object", "parked", "granted", "open"])
def test_what_somebody_can_reach_stays(world: World, user: User, held: str) -> None:
    table, rows = user.make(), user.make("list")
    user.call(Dict, table, "set", "rows", [Ref(rows)])
    user.call(List, rows, "append", Ref(table))
    other = user.make("Queue", 1)
    if held == "named":
        name = user.call(Manager, MANAGER, "named", "dict", "known", [])
        user.call(Dict, name, "set", "x", Ref(table))
        user.release(name)
    elif held == "object":
        user.call(Queue, other, "put", Ref(rows))
    elif held == "parked":
        user.call(Queue, other, "put", 1)
        user.line.call(other, "put", *_plans.of(Queue.operations["put"]).encode((Ref(rows),)))
    elif held == "granted":
        user.call(Queue, other, "put", Ref(rows))
        user.line.call(other, "get")
    elif held == "open":
        user.call(Dict, table, "update_nested", ("rows", 0), Ref(rows))
    user.release(rows, *([] if held in ("client", "open") else [table]))
    assert world.store.collect() == 0
    assert {table, rows} <= objects(world)
    assert user.call(Dict, table, "length") == 1


def test_a_cycle_through_a_queue(world: World, user: User) -> None:
    queue = user.make("Queue")
    user.call(Queue, queue, "put", {"me": Ref(queue)})
    assert world.store.collect() == 0
    user.release(queue)
    assert world.store.collect() == 1
    assert objects(world) == set()


# Parts of values


def test_references_inside_pickles_stay_when_the_server_opens_the_value(
    world: World, user: User
) -> None:
    table, inner = user.make(), user.make()
    codec = ValueCodec(allow_pickle=True, gather=lambda pickle: (pickle(), [inner]))
    value = codec.encode({"point": ValueError("refers to it"), "n": 1})
    assert isinstance(value, list)
    user.line.value(table, "set", _keys.encode("row"), value)
    user.release(inner)
    assert user.call(Dict, table, "increment_nested", ("row", "n")) == 2
    assert objects(world) == {table, inner}
    data, ids = user.line.value(table, "get", _keys.encode("row"), [])
    assert (codec.load(data)["n"], ids) == (2, [inner])
    user.release(inner)
    assert objects(world) == {table, inner}
    user.call(Dict, table, "delete_nested", ("row", "point"))
    assert objects(world) == {table}


def test_many_references_come_and_go_inside_one_value(world: World, user: User) -> None:
    table = user.make()
    user.call(Dict, table, "set", "row", {"list": []})
    for _ in range(300):
        inner = user.make()
        user.call(Dict, table, "append_nested", ("row", "list"), Ref(inner))
        user.call(Dict, table, "update_nested", ("row", "last"), Ref(inner))
        user.release(inner)
    assert len(objects(world)) == 301
    user.call(Dict, table, "mutate_nested", ("row", "list"), "clear")
    assert len(objects(world)) == 2
    popped = user.call(Dict, table, "pop_nested", ("row", "last"))
    assert objects(world) == {table, popped.object_id}
    user.release(popped.object_id)
    assert objects(world) == {table}


@pytest.mark.parametrize("kind", ["list", "Queue", "JoinableQueue"])
def test_what_an_object_held_goes_with_it_and_waits_for_no_collection(
    world: World, user: User, kind: str
) -> None:
    inner, outer = user.make(), user.make(kind)
    put = "append" if kind == "list" else "put"
    user.call(world.store.types[kind], outer, put, Ref(inner))
    user.release(inner)
    assert objects(world) == {inner, outer}
    gc.disable()
    try:
        user.release(outer)
        assert inner not in world.store.entries
    finally:
        gc.enable()
