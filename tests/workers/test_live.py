"""Live views in workers: what many processes write into nested values, nobody loses."""

import copy
import json
import multiprocessing
import pickle
import threading
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

import aiomanager.multiprocessing
import aiomanager.sync

from . import tasks
from .helpers import FORKING, METHODS, SECONDS

pytestmark = pytest.mark.filterwarnings(FORKING)


@pytest.mark.parametrize("method", METHODS)
def test_every_entry_is_kept(method: str, manager: aiomanager.sync.Manager) -> None:
    d: Any = manager.dict().live()
    d["test"] = {}
    d["rows"] = [{"tags": []}]
    with multiprocessing.get_context(method).Pool(8) as pool:
        pool.starmap(tasks.write_live, [(d, i) for i in range(64)], chunksize=2)
    assert isinstance(d["test"], dict)
    assert d["test"] == {i: i for i in range(64)}
    assert json.loads(json.dumps(d["test"])) == {str(i): i for i in range(64)}
    row = d["rows"][0]
    assert sorted(row["tags"]) == sorted([*range(64)] * 3)
    assert row["n"] == {f"{i}": i for i in range(64)}
    assert len(d["rows"]) == 1 + 64


@pytest.mark.parametrize("method", METHODS)
def test_a_node_is_live_in_a_worker(method: str, manager: aiomanager.sync.Manager) -> None:
    d: Any = manager.dict({"a": {"rows": [{}, {}]}}).live()
    node = d["a"]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        back = pool.submit(tasks.write_node, node["rows"][1], 7).result(SECONDS)
    assert d["a"] == {"rows": [{}, {"written": 7}]}
    # What the worker returned is live here.
    back["again"] = 8
    assert d["a"]["rows"][1] == {"written": 7, "again": 8}


def test_the_drop_in() -> None:
    with aiomanager.multiprocessing.Manager() as other:
        d: Any = other.dict().live()
        d["test"] = {}
        with multiprocessing.get_context("fork").Pool(4) as pool:
            pool.starmap(tasks.write_item, [(d, i) for i in range(40)])
        assert d["test"] == {i: i for i in range(40)}
        assert type(d) is type(other.dict())
        assert str(d) == str({"test": dict(d["test"])})
        assert type(copy.deepcopy(d["test"])) is dict
        place = pickle.loads(pickle.dumps(d.at("test", 3)))
        assert place.increment() == 4
        assert d.cached(60)["test"][3] == 4
        rows: Any = other.list([[]]).live()
        rows[0] += [1]
        rows[-1].append(2)
        assert rows[0] == [1, 2]


def test_views_in_pickles(manager: aiomanager.sync.Manager) -> None:
    d: Any = manager.dict({"a": {"n": 1}})
    live = pickle.loads(pickle.dumps(d.live()))
    live["a"]["m"] = 2
    assert type(live) is type(d)
    cached = pickle.loads(pickle.dumps(d.cached(60)))
    assert cached["a"] == {"n": 1, "m": 2}
    d["a"] = 0
    assert cached["a"] == {"n": 1, "m": 2}
    assert pickle.loads(pickle.dumps(d.live()["a"])) == 0


def test_a_node_keeps_its_object(manager: aiomanager.sync.Manager) -> None:
    node = manager.dict({"a": {"b": []}}).live()["a"]["b"]
    del node[:]
    node.append(1)
    assert node == [1]


def test_threads_with_one_live_view(manager: aiomanager.sync.Manager) -> None:
    d: Any = manager.dict({"test": {}}).live()
    threads = [
        threading.Thread(target=tasks.write_many, args=(d, range(n, 200, 8))) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert d["test"] == {i: i for i in range(200)}


def test_threads_with_one_cached_view(manager: aiomanager.sync.Manager) -> None:
    d: Any = manager.dict({"a": 0, "b": 0})
    cached = d.cached(0.001)
    wrong: list[Any] = []

    def read() -> None:
        last = 0
        while last < 300:
            now = cached["a"]
            if now < last or cached["b"] < now:
                wrong.append((last, now))
            last = now

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(1, 301):
        d.update(a=number, b=number)
    for thread in threads:
        thread.join(SECONDS)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []
