"""Objects of a program's own classes: what was registered, where it runs, what goes wrong."""

import gc
import multiprocessing
import os
import pickle
import queue
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing.managers import State
from typing import Any, cast

import pytest

import aiomanager.multiprocessing as ours
from aiomanager.multiprocessing.managers import (
    BaseManager,
    DictProxy,
    ListProxy,
    RemoteError,
    SyncManager,
)
from tests.dropin import things
from tests.dropin.helpers import SECONDS


@pytest.fixture(scope="module")
def manager() -> Iterator[Any]:
    """A manager whose server was forked: it knows lambdas."""
    manager = things.ThingManager(ctx=multiprocessing.get_context("fork"))
    manager.start()
    yield manager
    manager.shutdown()


def test_methods_run_in_the_server(manager: Any) -> None:
    thing = manager.Thing(3, colour="red")
    assert thing.add(4) == 7
    assert thing.add(2, times=3) == 13
    assert thing.pid() == manager._process.pid != os.getpid()
    assert isinstance(str(thing), str)
    assert repr(thing).startswith("<AutoProxy[Thing] object, typeid 'Thing' at 0x")
    assert not hasattr(thing, "_hidden")
    assert not hasattr(thing, "number")
    assert callable(thing.Nested)


def test_what_is_exposed(manager: Any) -> None:
    some = manager.Some()
    assert some._hidden() == "found"
    assert not hasattr(some, "pid")
    with pytest.raises(RemoteError, match=r"'pid' .* is not in exposed="):
        some._callmethod("pid")
    made = manager.Made(1)
    assert type(made) is things.ThingProxy
    assert (made.add(), made._hidden()) == (2, "found")
    assert manager.Own(5).twice() == (7, manager._process.pid)
    assert not hasattr(manager, "hidden")
    token, exposed = manager._create("hidden", 4)
    assert (token.typeid, "add" in exposed) == ("hidden", True)


def test_errors_of_methods(manager: Any) -> None:
    thing = manager.Thing()
    with pytest.raises(LookupError) as caught:
        thing.fails("plain")
    assert caught.value.args == ("as expected", 7)
    with pytest.raises(StopIteration, match="value"):
        thing.fails("stop")
    for kind, said in (
        ("awkward", "1 and 2"),
        ("closed", "cannot be sent"),
        ("exit", "SystemExit: 3"),
        ("interrupt", "KeyboardInterrupt"),
        ("result", "cannot pickle"),
    ):
        with pytest.raises(RemoteError, match=said):
            thing.fails(kind)
        assert thing.add(0) == 0, "the connection is well"
    with pytest.raises(TypeError, match="takes"):
        thing.add(1, 2, 3)
    with pytest.raises(RemoteError, match="-1 is negative"):
        manager.Thing(-1)
    with pytest.raises(TypeError, match="cannot pickle"):
        thing.add(threading.Lock())


def test_errors_leave_no_circles(manager: Any) -> None:
    thing = manager.Thing()
    gc.collect()
    gc.disable()
    try:
        for kind in ("plain", "awkward"):
            with pytest.raises((LookupError, RemoteError)) as caught:
                thing.fails(kind)
            del caught
        assert not [found for found in gc.get_objects() if isinstance(found, RemoteError)]
    finally:
        gc.enable()


def test_coroutine_methods(manager: Any) -> None:
    thing = manager.Thing()
    assert [thing.later(number) for number in range(3)] == [1, 2, 3]
    with pytest.raises(LookupError, match="later"):
        thing.fails_later()


def test_one_thread_for_each_of_the_clients(manager: Any) -> None:
    thing = manager.Thing()
    assert thing.acquire()
    assert thing.acquire(), "the lock belongs to the thread that serves this one"
    here = thing.thread()
    assert thing.thread() == here
    there: list[Any] = []
    thread = threading.Thread(target=lambda: there.extend((thing.acquire(), thing.thread())))
    thread.start()
    thread.join()
    assert there[0] is False
    assert there[1] != here
    thing.release()
    thing.release()


def test_a_method_that_blocks_holds_up_nobody(manager: Any) -> None:
    thing = manager.Thing()
    with ours.Manager() as other:
        event = other.Event()
        answers: list[bool] = []
        threads = [
            threading.Thread(target=lambda: answers.append(thing.block(event))) for _ in range(5)
        ]
        for thread in threads:
            thread.start()
        assert thing.add(1) == 1  # its own thread here, while the others wait
        d = manager.dict(a=1)
        assert d["a"] == 1
        event.set()
        for thread in threads:
            thread.join(SECONDS)
        assert answers == [True] * 5


def test_one_object_is_one_object(manager: Any) -> None:
    first, second = manager.one(), manager.one()
    assert first._id == second._id
    before = first.number if hasattr(first, "number") else first.add(0)
    second.add(5)
    assert first.add(0) == before + 5
    del first, second
    assert manager.one().add(0) == before + 5, "it outlives its proxies"


def test_what_methods_return_as_proxies(manager: Any) -> None:
    lister = manager.Lister(8)
    items = lister.items()
    assert isinstance(items, ListProxy)
    items.append(9)
    assert list(items) == [8, 9]
    same = lister.itself()
    assert same.add(1) == lister.add(0) == 9
    assert len(lister.view()) == 1
    assert manager.Thing().view() == [("a", 1)]


def test_native_types_that_are_registered(manager: Any) -> None:
    d, l = manager.dict({"a": 1}, b=2), manager.list([3])  # noqa: E741
    assert type(d) is DictProxy
    assert type(l) is ListProxy
    d["l"] = l
    d["l"].append(4)
    assert l._getvalue() == [3, 4]
    hosted = manager.defaultdict(list)
    assert isinstance(hosted, DictProxy)
    assert hosted["new"] == []
    assert "defaultdict" in str(hosted)
    assert len(hosted) == 1
    assert list(hosted) == ["new"]
    assert hosted.copy() == {"new": []}


def test_iterators(manager: Any) -> None:
    iterator = manager.squares(4)
    assert next(iterator) == 0
    assert list(iterator) == [1, 4, 9]
    with pytest.raises(StopIteration):
        next(iterator)


def test_attributes(manager: Any) -> None:
    config = manager.Config()
    assert (config.name, config.limit, config.describe()) == ("x", 3, "x 3")
    config.limit = 5
    assert config.describe() == "x 5"
    del config.name
    with pytest.raises(AttributeError):
        config.name  # noqa: B018
    config._own = 1
    assert not hasattr(manager.Config(), "_own")


def test_a_class_derived_from_a_proxy_of_ours() -> None:
    class Derived(SyncManager):
        """Makes dicts with another proxy."""

    Derived.register("dict", dict, things.CountingProxy)
    assert SyncManager._registry["dict"].proxytype is DictProxy
    with Derived() as manager:
        d = manager.dict(a=1)
        things.CountingProxy.count = 0
        d["b"] = 2
        assert things.CountingProxy.count == 1
        assert d._getvalue() == {"a": 1, "b": 2}
        assert sorted(d.keys()) == ["a", "b"]
        assert manager.list([1])._getvalue() == [1]


def test_proxies_go_in(manager: Any) -> None:
    thing, d = manager.Thing(), manager.dict()
    thing.put(d, "k", 1)
    assert d["k"] == 1
    thing.put(manager.defaultdict(int), "k", 1)
    kept = manager.dict(x=1)
    thing.keep(kept)
    del kept
    gc.collect()
    assert d.copy() == {"k": 1}
    assert thing.use() == {"x": 1}, "what a method keeps stays"
    thing.keep(thing)
    del thing


def test_proxies_inside_values(manager: Any) -> None:
    d = manager.dict()
    d["thing"] = manager.Thing(5)
    d["own"] = {"deep": [manager.Own(1)]}
    gc.collect()
    assert d["thing"].add(1) == 6
    assert type(d["own"]["deep"][0]) is things.OwnProxy
    assert d["own"]["deep"][0].twice()[0] == 3
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(_add_in_a_child, (d,)) == 7
    assert d["thing"].add(0) == 7


def _add_in_a_child(d: Any) -> Any:
    return d["thing"].add(1)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_in_children(manager: Any, method: str) -> None:
    context = ours.get_context(method)
    thing, lister, config = manager.Thing(), manager.Lister(1), manager.Config()
    with context.Pool(2) as pool:
        assert sorted(pool.map(_times, [thing] * 4)) == [1, 2, 3, 4]
        assert pool.apply(_items_of, (lister,)) == [1, 2]
        assert pool.apply(_name_of, (config,)) == "x"
    copy = pickle.loads(pickle.dumps(thing))
    assert copy.add(0) == 4


def _times(thing: Any) -> Any:
    return thing.add(1)


def _items_of(lister: Any) -> Any:
    items = lister.items()
    items.append(2)
    return list(items)


def _name_of(config: Any) -> Any:
    return config.name


def test_what_nobody_refers_to_is_gone(manager: Any) -> None:
    before = manager._number_of_objects()
    mortals = [manager.Mortal() for _ in range(10)]
    dead = mortals[0].dead()
    del mortals[1:]
    deadline = time.monotonic() + SECONDS
    while mortals[0].dead() < dead + 9 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert mortals[0].dead() == dead + 9
    assert not mortals[0].in_the_main_thread()
    del mortals
    assert manager._number_of_objects() == before


def test_a_programs_queue(manager: Any) -> None:
    q = manager.queue()
    q.put({"a": 1})
    assert manager.queue().get(timeout=SECONDS) == {"a": 1}
    with pytest.raises(queue.Empty):
        q.get_nowait()
    with pytest.raises(queue.Empty):
        q.get(timeout=0.01)
    q.put(1)
    assert (q.qsize(), q.empty()) == (1, False)
    child = multiprocessing.get_context("fork").Process(target=_get_and_die, args=(q,))
    child.start()
    child.join(SECONDS)
    assert child.exitcode == -signal.SIGKILL
    q.put(2)
    assert q.get(timeout=SECONDS) == 2, "whoever waits and is killed takes nothing along"
    stack = manager.stack()
    for number in range(3):
        stack.put(number)
    assert [stack.get() for _ in range(3)] == [2, 1, 0]


def _get_and_die(q: Any) -> None:
    q.get()
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGKILL)).start()
    q.get()


def test_a_wrapped_argument(manager: Any) -> None:
    assert manager.wrapped("abc").upper() == "ABC"
    with pytest.raises(RemoteError, match="one non-keyword argument"):
        manager.wrapped()


class _Plain(BaseManager):
    """Knows names only."""


_Plain.register("Thing")
_Plain.register("queue")
_Plain.register("unknown")


def test_another_manager_connects(manager: Any) -> None:
    joined = _Plain(manager.address, manager._authkey)
    joined.connect()
    assert not hasattr(joined, "shutdown")
    thing = joined.Thing(1)
    assert thing.add(1) == 2
    assert "fails" in dir(thing)
    with pytest.raises(RemoteError, match="KeyError: 'unknown'"):
        joined.unknown()
    manager.queue().put("x")
    assert joined.queue().get(timeout=SECONDS) == "x"
    with ours.Manager() as other:
        lone = _Plain(other.address)
        lone.connect()
        with pytest.raises(RemoteError, match="Thing"):
            lone.Thing()


def test_registering(manager: Any) -> None:
    class Derived(BaseManager):
        """Has its own registry."""

    Derived.register("Thing", things.Thing)
    assert not hasattr(BaseManager, "Thing")
    instance = Derived()
    instance.register("Late", things.Thing)
    assert hasattr(instance, "Late")
    with instance:
        assert instance.Late(1).add() == 2
        Derived.register("TooLate", things.Thing)
        with pytest.raises(RemoteError, match="TooLate"):
            instance.TooLate()
    with pytest.raises(AssertionError, match="server not yet started"):
        Derived().Thing()


def test_a_server_in_this_process() -> None:
    local: queue.Queue[Any] = queue.Queue()
    local.put("first")

    class Local(BaseManager):
        """Shares what this process has."""

    Local.register("queue", lambda: local)
    Local.register("Thing", things.Thing)
    server = Local(("127.0.0.1", 0), b"abc").get_server()
    thread = threading.Thread(target=_serve, args=(server,))
    waiting: list[Any] = []
    early = threading.Thread(target=lambda: waiting.append(local.get()))
    thread.start()
    try:
        assert local.get() == "first"
        early.start()  # waits inside of the queue's own method when the queue is shared
        joined = _Plain(server.address, b"abc")
        joined.connect()
        assert joined.Thing().pid() == os.getpid()
        shared = joined.queue()
        shared.put("second")
        early.join(SECONDS)
        assert waiting == ["second"]
        local.put("third")
        assert shared.get(timeout=SECONDS) == "third"
        shared.put("fourth")
        assert local.get(timeout=SECONDS) == "fourth"
        with pytest.raises(multiprocessing.AuthenticationError):
            _Plain(server.address, b"abd").connect()
    finally:
        server.stop_event.set()
        thread.join(SECONDS)
    assert not thread.is_alive()
    for other in threading.enumerate():
        if "hosted" in other.name:  # the finalizers' thread ends with its server
            other.join(SECONDS)
            assert not other.is_alive()
    again = Local(server.address, b"abc")
    again.start()  # on the same port, at once
    again.shutdown()


def _serve(server: Any) -> None:
    with pytest.raises(SystemExit) as caught:
        server.serve_forever()
    assert caught.value.code == 0


def test_initializers() -> None:
    class Derived(BaseManager):
        """Asks what the initializer left."""

    Derived.register("known", lambda: os.environ)
    manager = Derived(ctx=multiprocessing.get_context("fork"))
    manager.start(os.environ.__setitem__, ("AIOMANAGER_TEST_INITIALIZER", "ran"))
    with manager:
        assert manager.known().get("AIOMANAGER_TEST_INITIALIZER") == "ran"
    assert "AIOMANAGER_TEST_INITIALIZER" not in os.environ
    with pytest.raises(TypeError, match="callable"):
        Derived().start(initializer=3)  # type: ignore[arg-type]
    failing = Derived(ctx=multiprocessing.get_context("fork"))
    with pytest.raises(EOFError, match="ended with code 1"):
        failing.start(_fail)
    assert failing._state.value == State.INITIAL


def _fail() -> None:
    raise RuntimeError("on purpose")


def test_narrow_serializer() -> None:
    manager = things.ThingManager(serializer="xmlrpclib", ctx=multiprocessing.get_context("fork"))
    with manager:
        q = manager.queue()
        q.put((1, "a", None, True, 2.5, b"bytes"))
        assert q.get() == [1, "a", None, True, 2.5, b"bytes"]
        with pytest.raises(TypeError):
            q.put(time.sleep)
        assert manager.Thing(3).add(1) == 4
    with pytest.raises(KeyError):
        BaseManager(serializer="json")


def test_a_server_whose_manager_is_killed_ends() -> None:
    reader, writer = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_start_and_wait, args=(writer,))
    child.start()
    server, address = reader.recv()
    handle = os.pidfd_open(server)
    try:
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join(SECONDS)
        import select

        assert select.select([handle], [], [], SECONDS)[0], "the server is still there"
    finally:
        os.close(handle)
    assert not os.path.exists(os.path.dirname(address))  # noqa: PTH110, PTH120


def _start_and_wait(writer: Any) -> None:
    manager = things.ThingManager(ctx=multiprocessing.get_context("fork"))
    manager.start()
    writer.send((manager._process.pid, manager.address))
    time.sleep(SECONDS)


def test_an_item_that_goes_to_a_getter_that_has_just_died(manager: Any) -> None:
    """It comes while the server knows of the end of the connection, but not yet of the death."""
    q = manager.queue()
    context = multiprocessing.get_context("fork")
    for number in range(40):
        child = context.Process(target=_get_and_die_at_once, args=(q,))
        child.start()
        q.put("ready?")
        child.join(SECONDS)
        q.put(number)
        assert q.get(timeout=SECONDS) == number


def _get_and_die_at_once(q: Any) -> None:
    q.get()
    threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGKILL)).start()
    q.get()


def test_a_hosted_object_has_no_async_face(manager: Any) -> None:
    for proxy in (manager.Thing(), manager.defaultdict(list)):
        assert not hasattr(proxy, "aio")
        with pytest.raises(AttributeError, match=r"asyncio\.to_thread"):
            proxy.aio  # noqa: B018
    assert manager.dict().aio is not None


def test_an_address_is_that_of_the_socket() -> None:
    with ours.managers.SyncManager(("localhost", 0), b"abc") as manager:
        host, port = manager.address
        assert host in ("127.0.0.1", "::1")
        assert port > 0


class _Mute:
    """Cannot be sent, nor shown."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __repr__(self) -> str:
        raise RuntimeError("no representation")


class _Faces:
    """Shows each client something else."""

    def red(self) -> str:
        return "red"

    def blue(self) -> str:
        return "blue"

    def mute(self) -> _Mute:
        return _Mute()


_FACES = _Faces()
_BOUNDED: "queue.Queue[int]" = queue.Queue(maxsize=300)
_WAITED_FOR: "queue.Queue[int]" = queue.Queue()


class _Shop(BaseManager):
    """What the tests below register."""


_Shop.register("fresh", callable=lambda: queue.Queue())
_Shop.register("red", callable=lambda: _FACES, exposed=["red"])
_Shop.register("blue", callable=lambda: _FACES, exposed=["blue"])
_Shop.register("word", exposed=["upper"])
_Shop.register("worded", lambda: _FACES, exposed=["red"], method_to_typeid={"red": "word"})
_Shop.register("Faces", _Faces)
_Shop.register("bounded", callable=lambda: _BOUNDED)
_Shop.register("waited_for", callable=lambda: _WAITED_FOR)


def _put_many() -> None:
    for number in range(900):
        _BOUNDED.put(number)


def _give_up() -> None:
    with pytest.raises(queue.Empty):
        _WAITED_FOR.get(timeout=1.5)


def _in_the_shop() -> None:
    threading.Thread(target=_put_many, daemon=True).start()
    threading.Thread(target=_give_up, daemon=True).start()
    while not (_BOUNDED.full() and _WAITED_FOR.not_empty._waiters):  # type: ignore[attr-defined]
        time.sleep(0.01)


@pytest.fixture(scope="module")
def shop() -> Iterator[Any]:
    """A manager in whose server threads of the program use queues."""
    shop = _Shop(ctx=multiprocessing.get_context("fork"))
    shop.start(_in_the_shop)
    yield shop
    shop.shutdown()


def test_a_bounded_queue_that_the_program_fills(shop: Any) -> None:
    q = shop.bounded()
    assert [q.get(timeout=SECONDS) for _ in range(900)] == list(range(900))


def test_an_item_for_one_who_gave_up_counts_once(shop: Any) -> None:
    q = shop.waited_for()
    time.sleep(2)
    q.put("late")
    assert q.get(timeout=SECONDS) == "late"
    q.task_done()
    joining = threading.Thread(target=q.join, daemon=True)
    joining.start()
    joining.join(SECONDS)
    assert not joining.is_alive()


def test_queues_that_are_made_anew_are_not_mixed_up(shop: Any) -> None:
    queues = []
    for number in range(50):
        queues.append(shop.fresh())
        queues[-1].put(number)
    assert [q.qsize() for q in queues] == [1] * 50
    before = shop._number_of_objects()
    del queues
    shop.fresh()
    assert shop._number_of_objects() <= before - 49


def test_one_object_that_is_exposed_in_two_ways(shop: Any) -> None:
    red, blue = shop.red(), shop.blue()
    assert (red.red(), blue.blue()) == ("red", "blue")
    with pytest.raises(RemoteError, match="is not in exposed="):
        red._callmethod("blue")
    worded = shop.worded()
    assert worded.red()._callmethod("upper") == "RED"
    assert red.red() == "red"


def test_a_result_that_cannot_even_be_shown(shop: Any) -> None:
    faces = shop.Faces()
    with pytest.raises(RemoteError, match="_Mute object at"):
        faces.mute()
    assert faces.red() == "red", "the session's thread lives on"


class _Maker:
    """Returns what becomes shared objects of the built-in types."""

    def made(self) -> list[int]:
        return [1]


class _Makers(SyncManager):
    """Has the built-in types beside one of its own."""


_Makers.register("Maker", _Maker, method_to_typeid={"made": "list"})


class _Typeids(BaseManager):
    """Knows names only."""


_TYPEIDS: dict[str, tuple[Any, ...]] = {
    "Queue": (3,), "JoinableQueue": (), "Event": (), "Lock": (), "RLock": (), "Semaphore": (2,),
    "BoundedSemaphore": (2,), "Condition": (), "Barrier": (2,), "list": ([1],), "dict": ({"a": 1},),
    "set": ([1],), "Value": ("i", 7), "Array": ("i", [1, 2]), "Namespace": (),
}  # fmt: skip
for _typeid in _TYPEIDS:
    _Typeids.register(_typeid)


def test_the_typeids_of_built_in_types() -> None:
    with _Makers(ctx=multiprocessing.get_context("fork")) as manager:
        shared = cast("Any", manager).Maker().made()
        shared.append(2)
        assert (type(shared), list(shared)) == (ListProxy, [1, 2])
        client = cast("Any", _Typeids(manager.address, manager._authkey))
        client.connect()
        made = {name: getattr(client, name)(*given) for name, given in _TYPEIDS.items()}
        made["Queue"].put(1)
        assert made["Queue"].get(timeout=SECONDS) == 1
        assert made["Lock"].acquire()
        assert made["dict"].copy() == {"a": 1}
        assert made["Value"].get() == 7
        assert made["Array"][1] == 2
        assert not made["Event"].is_set()
        assert manager._create("list", [1])[0].typeid == "list"


def test_what_a_namespace_is_made_from() -> None:
    with ours.Manager() as manager:
        with pytest.raises(RemoteError, match="named values only"):
            manager.Namespace(1)
        assert manager.Namespace(self=1, given=2).given == 2


def test_a_fault_of_the_server_is_loud(monkeypatch: pytest.MonkeyPatch) -> None:
    server = BaseManager().get_server()

    async def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(server, "_serve", fail)
    with pytest.raises(ZeroDivisionError):
        server.serve_forever()
    server.close()
