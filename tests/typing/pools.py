"""What type checkers know of pools: the result of a function is that of its call in a worker.

A wrong type is an error by `assert_type`, a mistake that goes unnoticed one by its needless ignore.
"""

from typing import assert_type

import aiomanager
import aiomanager.multiprocessing as multiprocessing
import aiomanager.sync
from aiomanager import JobProxy, PoolProxy, SyncJobProxy, SyncPoolProxy


def name_of(number: int, prefix: str = "") -> str:
    return f"{prefix}{number}"


async def pools(m: aiomanager.Manager) -> None:
    pool = await m.Pool(2, print, ("started",), maxtasksperchild=10)
    assert_type(pool, PoolProxy)
    assert_type(await m.named.Pool("workers", 2), PoolProxy)
    assert_type(pool.sync, SyncPoolProxy)
    assert_type(await pool.apply(name_of, (1,), {"prefix": "x"}), str)
    assert_type(await pool.apply_async(name_of, (1,), callback=print), JobProxy[str])
    assert_type(await (await pool.apply_async(name_of, (1,))).get(1.5), str)
    assert_type(await pool.map(name_of, [1, 2], 2), list[str])
    job = await pool.map_async(name_of, [1, 2])
    assert_type(job, JobProxy[list[str]])
    assert_type(await job.get(), list[str])
    assert_type(await job.wait(1), bool)
    assert_type(await job.ready(), bool)
    assert_type(await job.successful(), bool)
    assert_type(await pool.starmap(name_of, [(1, "x")]), list[str])
    async for name in pool.imap(name_of, range(3)):
        assert_type(name, str)
    assert_type(await pool.imap_unordered(name_of, range(3)).next(timeout=1), str)
    assert_type(await pool.pids(), list[int])
    assert_type(await pool.statistics(), dict[str, int])
    assert_type(await pool.close(), None)
    assert_type(await pool.terminate(), None)
    assert_type(await pool.join(), None)
    async with pool as same:
        assert_type(same, PoolProxy)
    with pool:  # type: ignore[attr-defined]  # pyright: ignore
        pass
    await pool.apply("name_of")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def sync_pools(m: aiomanager.sync.Manager) -> None:
    pool = m.Pool()
    assert_type(pool, SyncPoolProxy)
    assert_type(m.named.Pool("workers"), SyncPoolProxy)
    assert_type(pool.aio, PoolProxy)
    assert_type(pool.apply(name_of, (1,)), str)
    assert_type(pool.apply_async(name_of, (1,)), SyncJobProxy[str])
    assert_type(pool.apply_async(name_of, (1,)).get(timeout=1), str)
    assert_type(pool.map(name_of, [1, 2]), list[str])
    assert_type(pool.map_async(name_of, [1, 2]).get(), list[str])
    assert_type(pool.starmap(name_of, [(1, "x")], chunksize=3), list[str])
    assert_type(pool.starmap_async(name_of, [(1, "x")]), SyncJobProxy[list[str]])
    assert_type(list(pool.imap(name_of, range(3), chunksize=2)), list[str])
    assert_type(next(pool.imap_unordered(name_of, range(3))), str)
    assert_type(pool.close(), None)
    with pool as same:
        assert_type(same, SyncPoolProxy)


def dropin_pools() -> None:
    with multiprocessing.Manager() as manager, manager.Pool(2) as pool:
        assert_type(pool.map(name_of, [1, 2]), list[str])
        assert_type(pool.apply_async(name_of, (1,)).get(), str)
