"""The drop-in offers all that `multiprocessing` offers, under the same names."""

import importlib
import multiprocessing
import multiprocessing.managers
import pkgutil
import subprocess
import sys
from typing import Any

import pytest

import aiomanager.multiprocessing as ours
import aiomanager.multiprocessing.context
import aiomanager.multiprocessing.managers

from .helpers import METHODS, SECONDS, environment

CHANGED = {"Manager", "get_context", "context", "managers"}
SUBMODULES = sorted(
    module.name
    for module in pkgutil.iter_modules(multiprocessing.__path__)
    if not module.name.endswith("win32")
)


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, env=environment(), timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all() -> None:
    assert sorted(ours.__all__) == sorted(multiprocessing.__all__)
    for name in ours.__all__:
        if name not in CHANGED:
            assert getattr(ours, name) is getattr(multiprocessing, name), name


@pytest.mark.parametrize("name", sorted(set(dir(multiprocessing)) - CHANGED))
def test_names(name: str) -> None:
    if not name.startswith("_"):
        assert getattr(ours, name) is getattr(multiprocessing, name)


def test_names_of_managers() -> None:
    standard, module = multiprocessing.managers, aiomanager.multiprocessing.managers
    assert [name for name in dir(standard) if not hasattr(module, name)] == []
    assert not hasattr(module, "no_such_name")
    assert set(module.SyncManager._registry) >= set(standard.SyncManager._registry)  # type: ignore[attr-defined]


def test_what_programs_take_from_a_proxy(ours: Any) -> None:
    """`_serializer`, `_token` and `RebuildProxy`, as those do that send proxies their own way."""
    module = aiomanager.multiprocessing.managers
    d = ours.dict(a=1)
    state = {"exposed": d._exposed_, "authkey": None}
    again = module.RebuildProxy(module.DictProxy, d._token, d._serializer, state)
    assert type(again) is type(d)
    assert again["a"] == 1
    pool = ours._create("Pool", 1)
    assert pool[0].typeid == "Pool"


@pytest.mark.parametrize("name", SUBMODULES)
def test_submodules(name: str) -> None:
    standard = importlib.import_module(f"multiprocessing.{name}")
    module = importlib.import_module(f"{ours.__name__}.{name}")
    assert getattr(ours, name) is module
    if name not in CHANGED:
        assert module is standard
        assert standard.__name__ == f"multiprocessing.{name}"
        assert standard.__spec__ is not None
        assert standard.__spec__.name == f"multiprocessing.{name}"


@pytest.mark.parametrize("name", SUBMODULES)
def test_submodules_are_imported_when_named(name: str) -> None:
    code = f"import aiomanager.multiprocessing as m; print(m.{name}.__name__)"
    assert python(code).strip() in (f"multiprocessing.{name}", f"{ours.__name__}.{name}")


def test_forms_of_import() -> None:
    code = """
import aiomanager.multiprocessing.pool
import aiomanager.multiprocessing.connection as connection
from aiomanager.multiprocessing import queues, shared_memory, Pool, Manager
from aiomanager.multiprocessing.synchronize import Lock
from aiomanager.multiprocessing.managers import BaseManager, SyncManager, BaseProxy
from aiomanager.multiprocessing.dummy.connection import Pipe
import multiprocessing
print(aiomanager.multiprocessing.pool is multiprocessing.pool, connection.Client.__module__,
      queues.Queue.__module__, shared_memory.SharedMemory.__module__, Lock.__module__)
"""
    assert python(code).split() == [
        "True", "multiprocessing.connection", "multiprocessing.queues",
        "multiprocessing.shared_memory", "multiprocessing.synchronize",
    ]  # fmt: skip


def test_star() -> None:
    code = "from aiomanager.multiprocessing import *; print(Pool, Manager.__module__, get_context)"
    assert "aiomanager.multiprocessing.context" in python(code)


@pytest.mark.parametrize("name", ["nothing", "_nothing", "__nothing__"])
def test_what_is_not_there(name: str) -> None:
    with pytest.raises(AttributeError, match=name):
        getattr(ours, name)
    with pytest.raises(ImportError):
        importlib.import_module(f"{ours.__name__}.{name}")


@pytest.mark.parametrize("method", METHODS)
def test_contexts(method: str) -> None:
    context: Any = ours.get_context(method)
    standard = multiprocessing.get_context(method)
    assert isinstance(context, type(standard))
    assert context.get_start_method() == method
    assert context.get_context() is context
    assert context.get_context("spawn") is ours.get_context("spawn")
    assert context.Process is standard.Process
    with context.Manager() as manager:
        assert type(manager) is aiomanager.multiprocessing.managers.SyncManager
        assert manager._ctx is context


def test_unknown_context() -> None:
    with pytest.raises(ValueError, match="steam"):
        ours.get_context("steam")


def test_the_start_method_is_one_for_both() -> None:
    code = """
import multiprocessing, aiomanager.multiprocessing as ours
{}.set_start_method("spawn")
print(ours.get_start_method(), multiprocessing.get_start_method(), ours.get_context()._name)
"""
    assert python(code.format("ours")).split() == ["spawn"] * 3
    assert python(code.format("multiprocessing")).split() == ["spawn"] * 3


def test_managers() -> None:
    managers = aiomanager.multiprocessing.managers
    assert issubclass(managers.SyncManager, managers.BaseManager)
    assert managers.SharedMemoryManager is multiprocessing.managers.SharedMemoryManager
    assert managers.SyncManager is not multiprocessing.managers.SyncManager
    for name in ("DictProxy", "ListProxy", "ValueProxy", "EventProxy", "AcquirerProxy"):
        assert issubclass(getattr(managers, name), managers.BaseProxy)
    for name in managers.__all__:
        assert hasattr(managers, name)
