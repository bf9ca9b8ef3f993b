"""A server that is killed and started again at the same address: its clients come back."""

import asyncio
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import aiomanager.sync
from aiomanager.errors import ConnectionLost, ObjectGone, SessionLost

from .helpers import SECONDS, environment, until

KEY = "the key of the restarted server"


class Restarted:
    """A server in a process of its own, at one address."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "aiomanager", "serve", self.address],
            stdout=subprocess.PIPE,
            text=True,
            env=environment({"AIOMANAGER_AUTHKEY": KEY}),
        )
        assert self.process.stdout is not None
        # With the port that was chosen, which is then taken again.
        self.address = self.process.stdout.readline().strip()

    def stop(self, how: str) -> None:
        if how == "kill":
            self.process.kill()
        else:
            self.process.terminate()
        self.process.wait(SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(params=["unix", "tcp"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Restarted]:
    address = f"unix://{tmp_path}/s" if request.param == "unix" else "tcp://127.0.0.1:0"
    server = Restarted(address)
    yield server
    server.stop("kill")


def connected(server: Restarted) -> aiomanager.sync.Manager:
    return aiomanager.sync.connect(server.address, authkey=KEY.encode())


@pytest.mark.parametrize("how", ["kill", "terminate"])
def test_a_blocking_client_comes_back(server: Restarted, how: str) -> None:
    with connected(server) as manager:
        votes = manager.named.dict("votes")
        votes["yes"] = 1
        q = manager.named.Queue("q")
        ended: list[Any] = []

        def get() -> None:
            try:
                q.get()
            except Exception as error:
                ended.append(error)

        getter = threading.Thread(target=get)
        getter.start()
        until(lambda: manager.statistics()["waiting"] == 1, "the getter does not wait")
        server.stop(how)
        server.start()
        getter.join(SECONDS)
        assert type(ended[0]) is SessionLost
        assert "may or may not have been executed" in str(ended[0])
        # What this thread learns first is that its own session is lost.
        with pytest.raises(SessionLost):
            manager.statistics()
        again = manager.named.dict("votes")
        assert again.copy() == {}
        again["yes"] = 2
        assert again["yes"] == 2
        # The old proxy names an object of the old server, and no other one.
        with pytest.raises(ObjectGone):
            votes["yes"]


def test_each_release_of_a_lost_lock_has_a_traceback_of_its_own(server: Restarted) -> None:
    with connected(server) as manager:
        lock = manager.Lock()
        lock.acquire()
        server.stop("kill")
        with pytest.raises(SessionLost):
            manager.statistics()
        errors: list[SessionLost] = []
        for _ in range(2):
            with pytest.raises(SessionLost) as caught:
                lock.__exit__()
            errors.append(caught.value)
        depths = [len(list(traceback.walk_tb(error.__traceback__))) for error in errors]
        assert depths[0] == depths[1] < 6


@pytest.mark.parametrize("how", ["kill", "terminate"])
def test_an_async_client_comes_back(server: Restarted, how: str) -> None:
    async def main() -> None:
        async with aiomanager.connect(server.address, authkey=KEY.encode()) as manager:
            votes = await manager.named.dict("votes")
            await votes.set("yes", 1)
            q = await manager.named.Queue("q")
            getters = [asyncio.create_task(q.get()) for _ in range(3)]
            while (await manager.statistics())["waiting"] < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.002)
            server.stop(how)
            server.start()
            ended = await asyncio.wait_for(
                asyncio.gather(*getters, return_exceptions=True), SECONDS
            )
            assert [type(error) for error in ended] == [SessionLost] * 3
            assert "may or may not have been executed" in str(ended[0])
            again = await manager.named.dict("votes")
            await again.set("yes", 2)
            assert await again.copy() == {"yes": 2}
            with pytest.raises(ObjectGone):
                await votes.get("yes")

    asyncio.run(main())


def test_while_it_is_away_calls_say_so(server: Restarted) -> None:
    if server.address.startswith("tcp"):
        pytest.skip("a server of another machine is given time to come back")
    with connected(server) as manager:
        manager.named.dict("votes")
        server.stop("kill")
        with pytest.raises(SessionLost, match="no server answers"):
            manager.names()
        with pytest.raises(ConnectionLost, match="no server answers"):
            manager.names()
        server.start()
        assert manager.names() == {}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("how", ["kill", "terminate"])
def test_a_hundred_tasks_in_the_middle_of_calls(server: Restarted, how: str, backend: str) -> None:
    """Each call ends with its own answer, or with an error that says what is not known."""

    async def main() -> None:
        ended: list[Exception] = []
        counts = [0] * 100

        async def count(votes: Any, number: int) -> None:
            try:
                while True:
                    answer = await votes.increment(f"task {number}")
                    counts[number] += 1
                    assert answer == counts[number], "another call's answer"
            except ConnectionLost as error:
                ended.append(error)

        async def wait(lock: Any) -> None:
            try:
                await lock.acquire()
            except ConnectionLost as error:
                ended.append(error)

        async with aiomanager.connect(server.address, authkey=KEY.encode()) as manager:
            votes = await manager.named.dict("votes")
            lock = await manager.named.Lock("lock")
            await lock.acquire()
            with anyio.fail_after(2 * SECONDS):
                async with anyio.create_task_group() as group:
                    for number in range(100):
                        group.start_soon(count, votes, number)
                    for _ in range(10):
                        group.start_soon(wait, lock)
                    while min(counts) < 3 or await lock.waiting() < 10:  # noqa: ASYNC110
                        await anyio.sleep(0.001)
                    server.stop(how)
                    server.start()
                assert len(ended) == 110
                lost = [error for error in ended if isinstance(error, SessionLost)]
                assert all("may or may not have been executed" in str(error) for error in lost)
                # The rest were never sent: there was nobody to send them to.
                assert len(lost) >= 10
                # This task goes on with what it finds now; an old proxy is of no use.
                with pytest.raises(ObjectGone, match="an earlier server at this address"):
                    await votes.increment("task 0")
                again = await manager.named.dict("votes")
                assert await again.increment("task 0") == 1
                assert not await (await manager.named.Lock("lock")).locked()

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_call_while_the_session_is_resumed_in_vain(server: Restarted, backend: str) -> None:
    """It ends, and so does the first call of the next session."""

    async def main() -> None:
        async with aiomanager.connect(server.address, authkey=KEY.encode()) as manager:
            votes = await manager.named.dict("votes")
            channel: Any = votes._channel
            server.stop("kill")
            server.start()
            with anyio.fail_after(SECONDS):
                while channel._connection is not None:
                    await anyio.lowlevel.checkpoint()
                with pytest.raises(SessionLost):
                    await votes.increment("yes")
                again = await manager.named.dict("votes")
                assert await again.increment("yes") == 1

    anyio.run(main, backend=backend)


def test_threads_in_the_middle_of_calls(server: Restarted) -> None:
    ended: list[Any] = []
    counts = [0] * 8
    with connected(server) as manager:
        votes = manager.named.dict("votes")

        def count(number: int) -> None:
            try:
                while True:
                    answer = votes.increment(f"thread {number}")
                    counts[number] += 1
                    assert answer == counts[number], "another call's answer"
            except Exception as error:
                ended.append(error)

        threads = [threading.Thread(target=count, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        until(lambda: min(counts) > 3, "the threads do not count")
        server.stop("kill")
        server.start()
        for thread in threads:
            thread.join(SECONDS)
        assert [type(error) for error in ended] == [SessionLost] * 8
        assert all("may or may not have been executed" in str(error) for error in ended)


def test_fences_rise_over_restarts(server: Restarted) -> None:
    fences: list[int] = []
    for how in ("kill", "terminate", "kill"):
        with connected(server) as manager:
            for kind in (manager.named.Lock, manager.named.RLock):
                with (lock := kind(f"{kind.__name__} {len(fences)}")):
                    fences.append(lock.fence)
            keys = manager.named.LockTable("keys")("a", "b")
            with keys:
                fences.append(keys.fence)
        server.stop(how)
        server.start()
    assert fences == sorted(set(fences))
    assert len(fences) == 9
    assert fences[0] > 0


def test_a_lock_that_was_held_when_the_server_ended(server: Restarted) -> None:
    """Its holder is told: at the end of the block, or by the next call on the lock."""
    with connected(server) as manager:
        lock = manager.named.Lock("lock")

        def use() -> None:
            with lock:
                server.stop("kill")
                server.start()
            lock.locked()

        with pytest.raises((SessionLost, ObjectGone)):
            use()
