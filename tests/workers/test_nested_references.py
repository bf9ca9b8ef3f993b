"""Proxies inside values: live at any depth, in every process, for as long as the value is there."""

import dataclasses
import gc
import multiprocessing
import os
import signal
from typing import Any

import pytest

import aiomanager
import aiomanager.multiprocessing
import aiomanager.sync
from aiomanager.client import _channel

from . import tasks
from .helpers import FORKING, METHODS, SECONDS, script, until
from .test_references import objects

pytestmark = pytest.mark.filterwarnings(FORKING)

ROUNDS = 1_000_000 if os.environ.get("AIOMANAGER_LONG") else 1_000


@dataclasses.dataclass
class Record:
    """A value that travels as a pickle."""

    name: str
    inner: Any


@pytest.mark.parametrize("method", METHODS)
def test_at_any_depth_in_every_process(method: str, manager: aiomanager.sync.Manager) -> None:
    outer: Any = manager.dict()
    outer["tuple"] = ({"deep": [manager.list([1])]}, 2)
    outer["record"] = Record("one", manager.list([2]))
    outer["pair"] = [Record("two", {"in": (manager.list([3]),)})]
    outer["dict"] = {"a": manager.dict({"b": manager.list([4])})}
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(tasks.append_everywhere, (outer,)) == [1, 2, 3, 4]
    gc.collect()
    assert outer["tuple"][0]["deep"][0].copy() == [1, "there"]
    assert outer["record"].inner.copy() == [2, "there"]
    assert outer["pair"][0].inner["in"][0].copy() == [3, "there"]
    assert outer["dict"]["a"]["b"].copy() == [4, "there"]


def test_a_pickle_keeps_what_it_refers_to(
    manager: aiomanager.sync.Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_channel, "LENT", 0.0)  # nothing lives on because it was lent
    before = objects(manager)
    outer: Any = manager.dict()
    outer["record"] = Record("one", manager.dict({"n": 1}))
    manager.list()
    assert objects(manager) == before + 2
    record = outer["record"]
    assert record.inner["n"] == 1
    del outer["record"]
    assert objects(manager) == before + 2  # the record here is a proxy's holder as any
    assert record.inner.increment("n") == 2
    del record
    assert objects(manager) == before + 1
    # Also where the server has opened the value around the pickle.
    outer["row"] = {"record": Record("two", manager.dict({"n": 1})), "n": 0}
    outer.increment_nested(("row", "n"))
    assert objects(manager) == before + 2
    assert outer["row"]["record"].inner["n"] == 1
    outer.delete_nested(("row", "record"))
    assert objects(manager) == before + 1


async def test_a_pickle_with_proxies_of_either_face() -> None:
    async with aiomanager.Manager() as manager:
        outer = await manager.dict()
        await outer.set("record", Record("one", await manager.dict({"n": 1})))
        record = await outer.get("record")
        await outer.delete("record")
        assert await record.inner.increment("n") == 2
        await outer.set("other", Record("two", record.inner.sync))
        del record
        assert (await outer.get("other")).inner["n"] == 2


def test_a_list_that_contains_itself(manager: aiomanager.sync.Manager) -> None:
    before = objects(manager)
    rows: Any = manager.list([1])
    rows.append(rows)
    assert rows[1][1][1][0] == 1
    rows[1].append(2)
    assert (len(rows), rows[2]) == (3, 2)
    assert manager.collect() == 0
    del rows
    assert objects(manager) == before + 1
    assert manager.collect() == 1
    assert objects(manager) == before


def test_a_cycle_that_a_process_holds(manager: aiomanager.sync.Manager) -> None:
    before = objects(manager)
    one: Any = manager.dict()
    other: Any = manager.dict({"one": one})
    one["other"] = [other]
    del other
    assert manager.collect() == 0
    assert one["other"][0]["one"]["other"][0].keys() == ["one"]
    del one
    assert manager.collect() == 2
    assert objects(manager) == before


async def test_collect_for_async_code() -> None:
    async with aiomanager.Manager() as manager:
        rows = await manager.list()
        await rows.append([rows])
        assert await manager.collect() == 0
        del rows
        gc.collect()
        await manager.names()
        assert await manager.collect() == 1


def test_a_proxy_of_another_manager(manager: aiomanager.sync.Manager) -> None:
    with aiomanager.sync.Manager() as other:
        theirs: Any = other.dict({"n": 1})
        mine: Any = manager.dict({"theirs": {"deep": [theirs]}})
        assert mine["theirs"]["deep"][0].increment("n") == 2
        assert theirs["n"] == 2
        # This manager counts nothing there: their own proxies decide how long it lives.
        mine["gone"] = other.named.dict("known")
        other.delete("known")
        with pytest.raises(aiomanager.ObjectGone, match="is gone"):
            mine["gone"].get("x")
        held = mine["theirs"]["deep"][0]
    del theirs
    with pytest.raises(aiomanager.ConnectionLost):
        held.get("n")
    with pytest.raises(aiomanager.ConnectionLost):
        mine["theirs"]["deep"][0].get("n")
    assert list(mine) == ["theirs", "gone"]


@pytest.mark.parametrize("kind", ["plain", "record"])
def test_a_sender_that_drops_the_proxy_at_once(kind: str, manager: aiomanager.sync.Manager) -> None:
    before = objects(manager)
    q: Any = manager.Queue()
    for number in range(100):
        item = manager.list([number])
        q.put(item if kind == "plain" else Record("one", item))
    del item
    assert objects(manager) >= before + 101
    for number in range(100):
        item = q.get()
        assert (item if kind == "plain" else item.inner).copy() == [number]


@pytest.mark.parametrize("kind", ["plain", "record", "nested"])
def test_a_sender_that_is_killed_after_put(kind: str, manager: aiomanager.sync.Manager) -> None:
    q: Any = manager.named.Queue("q")
    for number in range(3):
        sender = script(SENDER, manager.url, kind, str(number))
        assert sender.stdout is not None
        assert sender.stdin is not None
        assert sender.stdout.readline() == "put\n"
        os.kill(sender.pid, signal.SIGKILL)
        sender.wait(SECONDS)
        sender.stdin.close()
        sender.stdout.close()
        until(lambda: manager.statistics()["sessions"] == 1, "the dead sender's session is there")
        item = q.get(timeout=SECONDS)
        inner = item[0]["x"] if kind == "nested" else item.inner if kind == "record" else item
        assert inner.copy() == [number]
        del item
        inner.append("here")
        assert inner[:] == [number, "here"]


SENDER = """
import sys, threading
import aiomanager.sync
from workers.test_nested_references import Record
manager = aiomanager.sync.connect(sys.argv[1])
item = manager.list([int(sys.argv[3])])
wrapped = {"plain": item, "record": Record("one", item), "nested": ({"x": item},)}[sys.argv[2]]
manager.named.Queue("q").put(wrapped)
print("put")
threading.Event().wait()
"""


def test_creations_and_drops_leave_nothing(manager: aiomanager.sync.Manager) -> None:
    before = objects(manager)
    outer: Any = manager.dict({"row": {"list": []}})
    rows: Any = manager.list()
    for number in range(ROUNDS):
        outer["item"] = manager.dict({"n": number})
        outer["item"]["inner"] = manager.list([outer["item"]])
        outer.update_nested(("row", "last"), manager.list())
        rows.append([manager.dict(), number])
        if number % 7 == 6:
            rows.clear()
        outer["item"].clear()
    rows.clear()
    del outer["item"]
    outer.delete_nested(("row", "last"))
    assert objects(manager) == before + 2
    del outer, rows
    assert objects(manager) == before
    assert manager.collect() == 0


def test_workers_that_make_and_drop(manager: aiomanager.sync.Manager) -> None:
    before = objects(manager)
    outer: Any = manager.dict()
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.starmap(tasks.make_and_drop, [(manager.url, outer, i) for i in range(8)])
        pool.close()
        pool.join()
    until(lambda: manager.statistics()["sessions"] == 1, "the workers' sessions are there")
    assert len(outer) == 8
    assert [outer[i].copy() for i in range(8)] == [[i] for i in range(8)]
    outer.clear()
    collected = manager.collect()
    assert collected <= 8
    assert objects(manager) <= before + 1 + 8 * 50  # what the workers' clients linger with


def test_through_the_drop_in() -> None:
    with aiomanager.multiprocessing.Manager() as manager:
        outer: Any = manager.list()
        outer.append(Record("one", manager.dict(n=1)))
        outer.append(outer)
        gc.collect()
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.apply(tasks.read_record, (outer,)) == 1
        assert outer[0].inner["seen"]
        assert outer[1][1][0].name == "one"
