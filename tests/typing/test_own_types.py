"""A new shared type is one class in one file: used here through both kinds of manager."""

import multiprocessing
import sys
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest

import aiomanager
import aiomanager.sync

sys.path.insert(0, str(Path(__file__).parent))  # the server finds the module as this process does

from tally import SyncTallyProxy, Tally, TallyProxy


async def test_async() -> None:
    async with aiomanager.Manager(types=[Tally]) as manager:
        tally = await manager.create(TallyProxy, ["ann", "bob"])
        assert type(tally) is TallyProxy
        assert await tally.vote("bob") == 1
        assert await tally.vote("bob", owner="somebody else") == 2
        with pytest.raises(ValueError, match="has voted before"):
            await tally.vote("ann")
        with pytest.raises(KeyError):
            await tally.vote("nobody", owner="third")
        await tally.nominate("cid")
        assert await tally.votes() == {"ann": 0, "bob": 2, "cid": 0}
        assert await tally.winner() == "bob"


async def test_async_waits_and_is_cancelled() -> None:
    async with aiomanager.Manager(types=[Tally]) as manager:
        tally = await manager.create(TallyProxy, ["ann"], seats=2)
        assert await tally.wait(1, timeout=0.01) == -1
        with anyio.move_on_after(0.01) as scope:
            await tally.wait(1)
        assert scope.cancelled_caught
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tally.wait, 1)
            await anyio.sleep(0.01)
            await tally.vote("ann")
        assert await tally.take_seat()
        assert await tally.seats() == 1


async def test_named_and_joined() -> None:
    async with (
        aiomanager.Manager(types=[Tally]) as manager,
        aiomanager.connect(manager.url, types=[Tally]) as other,
    ):
        first = await manager.named.create(TallyProxy, "election", ["ann"])
        second = await other.named.create(TallyProxy, "election", ["somebody else"])
        await first.vote("ann")
        assert await second.votes() == {"ann": 1}
        assert await manager.names() == {"election": "Tally"}
        # As a value inside another object, it comes back as its own proxy.
        shared = await manager.dict({"tally": first})
        found = await (await other.list([await shared.get_item("tally")])).get_item(0)
        assert type(found) is TallyProxy
        assert await found.votes() == {"ann": 1}


def _vote(tally: SyncTallyProxy, name: str) -> bool:
    return tally.vote(name) > 0 and tally.take_seat()


def test_sync_and_other_processes() -> None:
    with aiomanager.sync.Manager(types=[Tally]) as manager:
        tally = manager.create(SyncTallyProxy, ["ann", "bob"], seats=9)
        assert tally.vote("ann") == 1
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            # Each process is another voter, and may vote once.
            assert pool.apply(_vote, (tally, "bob"))
        assert len(tally) == 2
        assert tally.wait(2) == 2
        for _ in range(200):
            if tally.seats() == 9:
                break
            anyio.run(anyio.sleep, 0.01)
        assert tally.seats() == 9, "the seat of a process that ended is free again"


def test_what_only_its_caller_may_release_is_free_when_his_thread_has_ended() -> None:
    with aiomanager.sync.Manager(types=[Tally]) as manager:
        tally = manager.create(SyncTallyProxy, [], seats=1)

        def come_and_go() -> None:
            assert tally.take_seat()
            tally.leave_seat()

        for work in (come_and_go, come_and_go, tally.take_seat):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            for _ in range(200):
                if tally.seats():
                    break
                anyio.run(anyio.sleep, 0.01)
            assert tally.seats() == 1
            # Only who leaves while he holds something takes his session with him.
            handed_on = work is come_and_go
            assert (manager.statistics()["sessions"] == 2) is handed_on


def test_the_faces_know_each_other() -> None:
    with aiomanager.sync.Manager(types=[Tally]) as manager:
        tally = manager.create(SyncTallyProxy, ["ann"])
        assert type(tally.aio) is TallyProxy
        assert type(tally.aio.sync) is SyncTallyProxy
        with pytest.raises(TypeError, match="This kind of object does not offer it"):
            tally.aio["ann"]  # type: ignore[index]  # pyright: ignore


async def test_create_says_what_it_takes() -> None:
    wrong: list[Any] = [dict, "Tally", None, aiomanager.AsyncProxy, aiomanager.SyncProxy, 3]
    async with aiomanager.Manager(types=[Tally]) as manager:
        blocking = aiomanager.sync.connect(manager.url, types=[Tally])
        for face in wrong:
            with pytest.raises(TypeError, match=r"takes a class of async .*\(AsyncProxy, Tally\)"):
                await manager.create(face)
            with pytest.raises(TypeError, match=r"takes a class of async .* not "):
                await manager.named.create(face, "name")
            with pytest.raises(
                TypeError, match=r"takes a class of blocking .*\(SyncProxy, Tally\)"
            ):
                blocking.create(face)
            with pytest.raises(TypeError, match=r"takes a class of blocking .* not "):
                blocking.named.create(face, "name")
        faces: list[Any] = [Tally, SyncTallyProxy]
        for face in faces:
            with pytest.raises(TypeError, match=f"not {face.__name__}; here that is TallyProxy"):
                await manager.create(face, ["ann"])
        faces = [Tally, TallyProxy]
        for face in faces:
            with pytest.raises(
                TypeError, match=f"not {face.__name__}; here that is SyncTallyProxy"
            ):
                blocking.create(face, ["ann"])
        assert await manager.names() == {}
        blocking.close()


def test_an_undeclared_public_method_is_refused() -> None:
    with pytest.raises(TypeError, match="must be declared"):

        class Careless(aiomanager.SharedObject):  # pyright: ignore[reportUnusedClass]
            def forgotten(self) -> None: ...


def test_a_type_of_the_main_program_is_refused() -> None:
    kind = type("Homeless", (aiomanager.SharedObject,), {"__module__": "__main__"})
    with pytest.raises(ValueError, match="module of its own"):
        aiomanager.sync.Manager(types=[kind])


def test_a_server_without_the_type_says_so() -> None:
    with (
        aiomanager.sync.Manager() as manager,
        pytest.raises(aiomanager.NameConflict, match="no shared type 'Tally'"),
    ):
        manager.create(SyncTallyProxy, [])
