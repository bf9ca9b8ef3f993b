"""Eight processes count to an exact total, by every atomic operation.

AIOMANAGER_LONG=1 has each of them count 10,000 times.
"""

import multiprocessing
import os
from typing import Any

import pytest

import aiomanager.sync

from . import tasks
from .helpers import SECONDS

PROCESSES = 8
TIMES = 10_000 if os.environ.get("AIOMANAGER_LONG") == "1" else 500

pytestmark = pytest.mark.timeout(60 if TIMES < 10_000 else 600)


@pytest.mark.parametrize(
    ("work", "times", "start", "end"),
    [
        (tasks.count, TIMES, {}, {"hits": PROCESSES * TIMES}),
        (
            tasks.count_nested,
            TIMES,
            {"stats": {"hits": [0, "untouched"]}},
            {"stats": {"hits": [PROCESSES * TIMES, "untouched"]}},
        ),
        (
            tasks.count_comparing,
            TIMES // 4,
            {"compared": 0},
            {"compared": PROCESSES * (TIMES // 4)},
        ),
    ],
    ids=["increment", "increment_nested", "compare_and_set"],
)
def test_exact_totals(
    work: Any,
    times: int,
    start: dict[str, Any],
    end: dict[str, Any],
    manager: aiomanager.sync.Manager,
) -> None:
    d: Any = manager.dict(start)
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=work, args=(d, times)) for _ in range(PROCESSES)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20 * SECONDS)
    assert [worker.exitcode for worker in workers] == [0] * PROCESSES
    assert d.copy() == end
