"""Objects live as long as somebody can reach them, and sessions are used again."""

import asyncio
import gc
import multiprocessing
import pickle
import threading
from typing import Any

import pytest

import aiomanager.sync
from aiomanager.client import _channel

from . import tasks
from .helpers import SECONDS, until


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
