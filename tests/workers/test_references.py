"""Objects live as long as somebody can reach them, and sessions are used again."""

import asyncio
import gc
import multiprocessing
import os
import pickle
import threading
from typing import Any

import pytest

import aiomanager.sync
from aiomanager.client import _channel

from . import tasks
from .helpers import FORKING, SECONDS, output_of, until

pytestmark = pytest.mark.filterwarnings(FORKING)


def objects(manager: aiomanager.sync.Manager) -> int:
    gc.collect()
    manager.names()  # a call takes along what was dropped
    return manager.statistics()["objects"]


def test_dropped_proxies_are_released(manager: aiomanager.sync.Manager) -> None:
    before = objects(manager)
    proxies: list[Any] = [manager.dict() for _ in range(50)]
    proxies += [manager.Queue(), manager.Lock(), manager.Event(), manager.Value("i", 0)]
    assert objects(manager) == before + 54
    proxies.clear()
    assert objects(manager) == before


def test_several_proxies_of_one_object(manager: aiomanager.sync.Manager) -> None:
    before = objects(manager)
    outer: Any = manager.dict()
    outer["inner"] = manager.list([1])
    first, second = outer["inner"], outer["inner"]
    del first
    assert second[:] == [1]
    assert objects(manager) == before + 2
    del outer
    assert objects(manager) == before + 1
    del second
    assert objects(manager) == before


def test_nested_objects_go_with_the_outer_one(manager: aiomanager.sync.Manager) -> None:
    before = objects(manager)
    outer: Any = manager.list()
    for _ in range(20):
        outer.append({"deep": [manager.dict()]})
    assert objects(manager) == before + 21
    del outer[5:]
    assert objects(manager) == before + 6
    del outer
    assert objects(manager) == before


def test_an_item_with_a_proxy(manager: aiomanager.sync.Manager) -> None:
    before = objects(manager)
    q: Any = manager.Queue()
    q.put(manager.dict({"in": "the queue"}))
    assert objects(manager) == before + 2
    item = q.get()
    assert item["in"] == "the queue"
    del item
    assert objects(manager) == before + 1


def test_both_faces_are_one_reference(manager: aiomanager.sync.Manager) -> None:
    before = objects(manager)
    d: Any = manager.dict({"n": 1})
    other = d.aio
    del d
    assert asyncio.run(other.get("n")) == 1
    assert objects(manager) == before + 1
    back = other.sync
    del other
    assert back["n"] == 1
    del back
    assert objects(manager) == before


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_worker_keeps_an_object_alive(
    method: str, manager: aiomanager.sync.Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_channel, "LENT", 0.0)
    before = objects(manager)
    d: Any = manager.dict(a=1, b=2)
    with multiprocessing.get_context(method).Pool(1) as pool:
        pool.apply(tasks.keep_one, (d,))
        pool.apply(tasks.kept_length, (0,))  # the worker has told the server
        del d
        pickle.dumps(manager.list())  # this process no longer lends what it lent before
        assert pool.apply(tasks.kept_length, (0,)) == 2
        assert objects(manager) >= before + 1


def test_a_proxy_that_is_dropped_at_once(manager: aiomanager.sync.Manager) -> None:
    with multiprocessing.get_context("fork").Pool(1) as pool:
        results = [pool.apply_async(tasks.length, (manager.dict({i: i}),)) for i in range(20)]
        gc.collect()
        assert [result.get(SECONDS) for result in results] == [1] * 20


def nothing() -> None:
    pass


def forked() -> None:
    """Fork once."""
    process = multiprocessing.get_context("fork").Process(target=nothing)
    process.start()
    process.join(SECONDS)


def use_later(go: int, q: Any, done: Any) -> None:
    os.read(go, 1)
    q.put(1)
    done.put(q.get())


def test_what_a_child_was_forked_with_lives_though_its_parent_forgets_it(
    manager: aiomanager.sync.Manager,
) -> None:
    done: Any = manager.Queue()
    gate, go = os.pipe()
    try:
        # Its start() forgets the arguments, which are nowhere else.
        process = multiprocessing.get_context("fork").Process(
            target=use_later, args=(gate, manager.Queue(), done)
        )
        process.start()
        objects(manager)
        os.write(go, b"!")
        assert done.get(timeout=SECONDS) == 1
        process.join(SECONDS)
        assert process.exitcode == 0
    finally:
        os.close(gate)
        os.close(go)


def test_what_is_made_after_a_fork_is_released_at_once(manager: aiomanager.sync.Manager) -> None:
    forked()
    before = objects(manager)
    d: Any = manager.dict()
    del d
    assert objects(manager) == before


def test_what_was_there_at_a_fork_is_not_kept_for_ever(
    manager: aiomanager.sync.Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = objects(manager)
    first, second = manager.dict(), manager.dict()
    forked()
    del first
    assert objects(manager) == before + 2
    monkeypatch.setattr(_channel, "LENT", 0.0)
    del second  # the fork was long ago now
    assert objects(manager) == before


def test_making_an_object_is_enough_to_let_go_of_others(
    manager: aiomanager.sync.Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = objects(manager)
    first = manager.dict()
    forked()
    del first
    assert objects(manager) == before + 1
    monkeypatch.setattr(_channel, "LENT", 0.0)
    assert objects(manager) == before + 1
    second = manager.dict()
    assert objects(manager) == before + 1
    del second


AN_ORPHAN = """
import os, sys, aiomanager.sync
manager = aiomanager.sync.connect(sys.argv[1])
d = manager.dict(n=1)
ended, ends = os.pipe()
if os.fork():
    sys.exit()
os.close(ends)
os.read(ended, 1)
print(d.increment("n"), flush=True)
os._exit(0)
"""


def test_a_child_outlives_the_parent_that_it_was_forked_by(
    manager: aiomanager.sync.Manager,
) -> None:
    assert output_of(AN_ORPHAN, manager.url) == "2\n"


def test_a_proxy_whose_sender_ended(manager: aiomanager.sync.Manager) -> None:
    with multiprocessing.get_context("fork").Pool(1) as pool:
        d: Any = pool.apply(tasks.make_and_return, (manager.url,))
        pool.terminate()
        pool.join()
    until(lambda: manager.statistics()["sessions"] == 1, "the dead worker's session is there")
    assert d.copy() == {"made": "there"}


def test_short_threads_share_sessions(manager: aiomanager.sync.Manager) -> None:
    d: Any = manager.dict()
    for _ in range(100):
        threads = [threading.Thread(target=d.increment, args=("n",)) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
    assert d["n"] == 2000
    # As many as there were at a time, at most.
    assert manager.statistics()["sessions"] <= 21
    assert manager.statistics()["clients"] == 1


def test_a_proxy_inside_a_pickled_object(manager: aiomanager.sync.Manager) -> None:
    d: Any = manager.dict()
    d["holder"] = tasks.Holder(manager.dict({"a": 1}))
    objects(manager)  # what was dropped is told
    assert d["holder"].proxy["a"] == 1
