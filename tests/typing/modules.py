"""Programs that import the package alone, and use its modules; never run."""

from typing import assert_type

import aiomanager


def blocking() -> None:
    with aiomanager.sync.Manager() as manager:
        assert_type(manager, aiomanager.sync.Manager)
        d: aiomanager.sync.SyncDictProxy[str, int] = manager.dict()
        assert_type(d, aiomanager.SyncDictProxy[str, int])
        try:
            manager.Queue().get_nowait()
        except aiomanager.sync.Empty:
            pass


def drop_in() -> None:
    with aiomanager.multiprocessing.Manager() as manager:
        manager.dict()
