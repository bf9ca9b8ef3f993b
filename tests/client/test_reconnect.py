"""Connections that break at any byte: each call takes effect once, no item and no lock is lost.

AIOMANAGER_CUTS says how many connections are cut on each kind of socket, and AIOMANAGER_SEED
where; the message of a failed test holds the seed.
"""

import os
from collections.abc import AsyncIterator, Iterator
from functools import partial
from random import Random

import anyio
import pytest

import aiomanager
from aiomanager.errors import SessionLost
from aiomanager.protocol.address import Address
from aiomanager.server.process import PrivateServer

from .chaos import Chaos, Fate
from .helpers import SECONDS, start, until, waiting

CUTS = int(os.environ.get("AIOMANAGER_CUTS", "100"))
SEED = int(os.environ.get("AIOMANAGER_SEED", "1"))
KEY = b"the key of the reconnect tests"

Manager = aiomanager.Manager


@pytest.fixture(scope="module", params=["unix", "tcp"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def tcp_server() -> Iterator[PrivateServer]:
    server = PrivateServer(Address("tcp", host="127.0.0.1", port=0), key=KEY, explicit_key=True)
    yield server
    server.stop()


@pytest.fixture
def chaos(scheme: str, server: PrivateServer, tcp_server: PrivateServer) -> Iterator[Chaos]:
    target = server if scheme == "unix" else tcp_server
    with Chaos(target.address, SEED) as chaos:
        yield chaos


@pytest.fixture
async def broken(chaos: Chaos) -> AsyncIterator[Manager]:
    """A manager whose connection goes through `chaos`."""
    key = KEY if chaos.address.scheme == "tcp" else None
    async with aiomanager.connect(chaos.url, authkey=key) as manager:
        yield manager
        chaos.calm()


@pytest.mark.timeout(600)
async def test_nothing_is_lost_and_nothing_happens_twice(broken: Manager, chaos: Chaos) -> None:
    counts = await broken.dict(total=0, guarded=0)
    q = await broken.Queue()
    results = await broken.list()
    lock = await broken.Lock()
    event = await broken.Event()
    over = anyio.Event()
    returned: list[int] = []
    guarded = 0
    inside = 0
    sent: dict[int, int] = {}
    got: list[tuple[int, int]] = []

    async def count() -> None:
        while not over.is_set():
            returned.append(await counts.increment("total"))

    async def guard() -> None:
        nonlocal guarded, inside
        while not over.is_set():
            async with lock:
                inside += 1
                assert inside == 1, "two tasks hold the lock"
                # Not atomic: only the lock keeps the sum right.
                value = await counts.get_item("guarded")
                await counts.set("guarded", value + 1)
                guarded += 1
                inside -= 1

    async def produce(number: int) -> None:
        sent[number] = 0
        while not over.is_set():
            await q.put((number, sent[number]))
            sent[number] += 1

    async def consume() -> None:
        async for item in q:
            got.append(item)
            await results.append(item)

    async def give_up() -> None:
        """Waits that run out of time or are cancelled, while all the rest goes on."""
        while not over.is_set():
            assert not await event.wait(timeout=0.001)
            with anyio.move_on_after(0.001):
                await event.wait()
            with anyio.move_on_after(0.002):
                # What it gets is got by nobody else.
                got.append(await q.get())

    async with anyio.create_task_group() as group:
        consumers = [start(group, consume) for _ in range(2)]
        async with anyio.create_task_group() as work:
            for _ in range(3):
                work.start_soon(count)
                work.start_soon(guard)
            for number in range(2):
                work.start_soon(produce, number)
            work.start_soon(give_up)
            chaos.rage()
            with anyio.fail_after(500):
                while chaos.cuts < CUTS:  # noqa: ASYNC110
                    await anyio.sleep(0.01)
            chaos.calm()
            over.set()
        await q.shutdown()
        for consumer in consumers:
            await consumer.result()
    seed = f"AIOMANAGER_SEED={SEED}"
    assert sorted(returned) == list(range(1, len(returned) + 1)), seed
    assert await counts.get("total") == len(returned), seed
    assert await counts.get("guarded") == guarded, seed
    assert sorted(got) == sorted((n, i) for n in sent for i in range(sent[n])), seed
    assert not await lock.locked(), seed
    await waiting(broken, 0)
    # There was something to lose.
    assert min(len(returned), guarded, *sent.values()) > CUTS / 4


async def test_items_of_one_producer_keep_their_order(broken: Manager, chaos: Chaos) -> None:
    q = await broken.Queue(5)
    got: list[int] = []

    async def produce() -> None:
        for number in range(150):
            await q.put(number)

    chaos.rage()
    async with anyio.create_task_group() as group:
        group.start_soon(produce)
        for _ in range(150):
            got.append(await q.get())  # noqa: PERF401
    assert got == list(range(150))
    assert chaos.cuts > 0


class _Cut(Fate):
    """Cut after so many bytes."""

    def __init__(self, after: int | None, piece: int = 1 << 16) -> None:
        super().__init__(Random(0), 1)
        self.cut_after = after
        self.piece = piece
        self.stall = 0.0
        self.half = False


async def test_cut_at_one_byte_after_another(broken: Manager, chaos: Chaos) -> None:
    """A connection that resumes breaks in its handshake, then in each of the calls behind it."""
    counts = await broken.dict(n=0)
    q = await broken.Queue()
    for after in range(1, 3000, 1 if CUTS > 1000 else 17):
        fates = iter([_Cut(after)])
        chaos.fate = partial(next, fates, _Cut(None))
        before, cuts = await counts.get_item("n"), chaos.cuts
        chaos.raging = True
        chaos.cut()
        assert await counts.increment("n") == before + 1
        await q.put(after)
        assert await q.get() == after
        chaos.calm()
        if chaos.cuts == cuts:
            break  # all of that is shorter
    else:
        raise AssertionError("the calls did not come to their end")
    assert chaos.cuts > 500 / (1 if CUTS > 1000 else 17)


async def test_bytes_that_come_one_by_one(broken: Manager, chaos: Chaos) -> None:
    chaos.fate = lambda: _Cut(None, piece=1)
    d = await broken.dict()
    chaos.rage()
    value = ["text" * 500, {"deep": [1.5, None]}]
    await d.set("k", value)
    assert await d.get("k") == value
    # A new connection, whose handshake comes byte by byte as well.
    chaos.cut()
    assert await d.get("k") == value


async def test_a_large_value_over_connections_that_break(broken: Manager, chaos: Chaos) -> None:
    """What is sent again after each cut still arrives in the end."""
    d = await broken.dict()
    large = Random(SEED).randbytes(3 << 20)
    rests = iter([_Cut(1 << 20), _Cut(2 << 20), _Cut(5 << 20)])
    chaos.fate = lambda: next(rests, _Cut(None))
    chaos.rage()
    await d.set("k", large)
    assert await d.get("k") == large
    assert chaos.cuts == 3


async def test_a_connection_that_stalls_and_then_breaks(broken: Manager, chaos: Chaos) -> None:
    d = await broken.dict(n=0)
    async with anyio.create_task_group() as group:
        chaos.hold(True)
        task = start(group, partial(d.increment, "n"))
        with anyio.move_on_after(0.05):
            await task.over.wait()
        assert not task.over.is_set()
        chaos.cut()
        assert await task.result() == 1
    assert await d.get("n") == 1


async def test_a_cancelled_call_does_not_wait_for_a_new_connection(
    broken: Manager, chaos: Chaos, server: PrivateServer, tcp_server: PrivateServer
) -> None:
    q = await broken.Queue()
    async with anyio.create_task_group() as group:
        task = start(group, q.get)
        await waiting(broken, 1)
        chaos.hold(True)
        task.cancel()
        # It waits to hear how that went; the connection is gone before.
        chaos.cut()
        with anyio.fail_after(SECONDS):
            await task.over.wait()
    assert task.cancelled
    await waiting(broken, 0)
    await q.put("item")
    assert await q.get_nowait() == "item"


async def test_parked_calls_keep_their_places(broken: Manager, chaos: Chaos) -> None:
    q = await broken.Queue()
    async with anyio.create_task_group() as group:
        first = start(group, q.get)
        await waiting(broken, 1)
        second = start(group, q.get)
        await waiting(broken, 2)
        for _ in range(5):
            chaos.cut()
            await waiting(broken, 2)
        await q.put("one")
        await q.put("two")
        assert await first.result() == "one"
        assert await second.result() == "two"


async def test_a_lock_is_kept_while_its_connection_is_away(
    broken: Manager, chaos: Chaos, scheme: str, server: PrivateServer, tcp_server: PrivateServer
) -> None:
    direct = server if scheme == "unix" else tcp_server
    lock = await broken.named.Lock("kept")
    async with aiomanager.connect(
        direct.address.url, authkey=KEY if scheme == "tcp" else None
    ) as other:
        theirs = await other.named.Lock("kept")
        async with lock:
            chaos.cut()
            assert not await theirs.acquire(blocking=False)
            assert await lock.locked()
        await lock.locked()

        async def free() -> bool:
            return await theirs.acquire(blocking=False)

        await until(free, "the lock should be free")
        await theirs.release()
    await broken.delete("kept")


async def test_a_server_that_shuts_down_is_not_asked_again() -> None:
    server = PrivateServer()
    try:
        with Chaos(server.address) as chaos:
            async with aiomanager.connect(chaos.url) as manager:
                q = await manager.Queue()
                async with anyio.create_task_group() as group:
                    task = start(group, q.get)
                    await waiting(manager, 1)
                    await anyio.to_thread.run_sync(server.stop)
                    with pytest.raises(SessionLost, match="shuts down"):
                        await task.result()
                assert chaos.connections == 1
    finally:
        server.stop()


async def test_a_session_that_the_server_forgot(tmp_path: object) -> None:
    """The server is another one; the calls that were under way end, the next ones connect."""
    first, second = PrivateServer(), PrivateServer()
    try:
        with Chaos(first.address) as chaos:
            async with aiomanager.connect(chaos.url) as manager:
                q = await manager.Queue()
                async with anyio.create_task_group() as group:
                    task = start(group, q.get)
                    await waiting(manager, 1)
                    chaos._target = second.address
                    chaos.cut()
                    with pytest.raises(SessionLost, match="may or may not"):
                        await task.result()
                assert await manager.names() == {}
                assert (await manager.statistics())["sessions"] == 1
    finally:
        first.stop()
        second.stop()
