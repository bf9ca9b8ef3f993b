"""A blocking client loads little: its import must stay quick, since every worker pays for it."""

import pickle

import pytest

import aiomanager.sync

from .helpers import output_of

HEAVY = (
    "asyncio", "inspect", "dataclasses", "typing_extensions", "anyio", "multiprocessing", "uvloop",
    "concurrent", "logging", "subprocess", "ssl",
)  # fmt: skip

SHOW = f"import sys; print(*[name for name in {HEAVY!r} if name in sys.modules])"


def test_the_names_are_right() -> None:
    code = f"import {', '.join(HEAVY)}; {SHOW}"
    assert output_of(code).split() == list(HEAVY)


@pytest.mark.parametrize("module", ["aiomanager", "aiomanager.sync"])
def test_the_import_loads_little(module: str) -> None:
    assert output_of(f"import {module}; {SHOW}").split() == []


def test_calls_load_no_more(manager: aiomanager.sync.Manager) -> None:
    d = manager.named.dict("d", {"n": 1})
    lock, q = manager.named.Lock("lock"), manager.named.Queue("q")
    code = """
import aiomanager.sync, sys
with aiomanager.sync.connect(sys.argv[1]) as manager:
    d, lock, q = manager.named.dict("d"), manager.named.Lock("lock"), manager.named.Queue("q")
    with lock:
        d["n"] = d["n"] + 1
    q.put(["item", d])
"""
    assert output_of(code + SHOW, manager.url).split() == []
    assert d["n"] == 2
    assert not lock.locked()
    assert q.get()[0] == "item"


def test_proxies_from_elsewhere_load_no_more(manager: aiomanager.sync.Manager) -> None:
    d = manager.dict({"n": 1})
    code = "import pickle, sys; pickle.loads(bytes.fromhex(sys.argv[1])).increment('n');"
    assert output_of(code + SHOW, pickle.dumps(d).hex()).split() == []
    assert d["n"] == 2
