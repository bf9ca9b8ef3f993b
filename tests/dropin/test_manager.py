"""A manager's states, its address and its key are those of the standard library's."""

import asyncio
import multiprocessing
import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import trio

import aiomanager.multiprocessing
import aiomanager.sync
from aiomanager.multiprocessing.managers import SyncManager


@pytest.fixture
def new(package: Any) -> Any:
    """Make a manager that is not started."""

    def new(*given: Any, **named: Any) -> Any:
        return package.managers.SyncManager(*given, ctx=package.get_context("fork"), **named)

    return new


def test_states(package: Any, new: Any) -> None:
    manager = new()
    assert manager.address is None
    assert not hasattr(manager, "shutdown")
    with pytest.raises(AssertionError, match="server not yet started"):
        manager.dict()
    manager.start()
    assert manager.dict(a=1).copy() == {"a": 1}
    with pytest.raises(package.ProcessError, match="Already started server"):
        manager.start()
    assert manager.shutdown() is None
    assert manager.shutdown() is None
    with pytest.raises(package.ProcessError, match="Manager has shut down"):
        manager.start()
    with pytest.raises(package.ProcessError, match="Manager has shut down"), manager:
        pass
    with pytest.raises(AssertionError, match="server not yet started"):
        manager.dict()


def test_context_manager(package: Any, new: Any) -> None:
    with new() as manager:
        assert manager.list([1])[:] == [1]
        path = manager.address
        assert Path(path).exists()
    with pytest.raises(package.ProcessError):
        manager.start()
    assert not Path(path).exists()
    started = new()
    started.start()
    with started as same:
        assert same is started
        assert same.list([2])[:] == [2]
    assert issubclass(package.managers.SyncManager, package.managers.BaseManager)


def test_proxies_of_a_manager_that_has_shut_down(new: Any) -> None:
    manager = new()
    manager.start()
    d = manager.dict(a=1)
    manager.shutdown()
    with pytest.raises((ConnectionError, EOFError, FileNotFoundError)):
        d.copy()
    assert str(d).endswith("; '__str__()' failed>")
    assert repr(d).startswith("<DictProxy object, typeid 'dict' at 0x")


def test_initializer(new: Any) -> None:
    with pytest.raises(TypeError, match="initializer must be a callable"):
        new().start(1)


@pytest.mark.parametrize("kind", ["path", "relative path", "tcp", "abstract"])
def test_addresses(kind: str, new: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    address: Any = {
        "path": str(tmp_path / "socket"), "relative path": "socket", "tcp": ("127.0.0.1", 0),
        "abstract": f"\0{tmp_path}",
    }[kind]  # fmt: skip
    manager = new(address, b"key")
    assert manager.address == address
    with manager:
        if kind == "tcp":
            assert manager.address[0] == "127.0.0.1"
            assert manager.address[1] > 0
        elif kind == "abstract":
            assert manager.address == address.encode()
        else:
            assert (tmp_path / manager.address).is_socket()
        other = new(manager.address, authkey=b"key")
        assert other.connect() is None
        assert other.list(range(3))[:] == [0, 1, 2]
        assert not hasattr(other, "shutdown")
        wrong = new(manager.address, authkey=b"another key")
        with pytest.raises(multiprocessing.AuthenticationError):
            wrong.connect()
    gone = new(manager.address, authkey=b"key")
    with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
        gone.connect()


async def use(url: str) -> Any:
    async with aiomanager.connect(url) as manager:
        d = await manager.named.dict("d")
        return await d.increment("n")


def test_an_abstract_address_from_all_sides(tmp_path: Path) -> None:
    address = f"\0{tmp_path}"
    with SyncManager(address) as manager:
        d = manager.dict(n=0)
        assert pickle.loads(pickle.dumps(d))["n"] == 0
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.apply(dict, (d,)) == {"n": 0}
        url = f"unix://%00{tmp_path}"
        assert asyncio.run(use(url)) == 1
        assert trio.run(use, url) == 2
        with aiomanager.sync.connect(manager.address) as other:
            assert other.url == url
            assert other.named.dict("d")["n"] == 2
        with pytest.raises(OSError, match="in use"):
            SyncManager(address).start()
    with SyncManager(address):
        pass


def test_rapid_restart(new: Any) -> None:
    with new(("127.0.0.1", 0), b"key") as manager:
        address = manager.address
        manager.dict()
    with new(address, b"key") as manager:
        assert manager.address == address
        assert manager.dict(a=1)["a"] == 1


@pytest.mark.parametrize("key", [b"", b"k", b"\0" * 3, b"x" * 1000])
def test_keys(key: bytes, new: Any) -> None:
    with new(authkey=key) as manager:
        other = new(manager.address, key)
        other.connect()
        assert other.dict(a=1).copy() == {"a": 1}
        wrong = new(manager.address, key + b"!")
        with pytest.raises(multiprocessing.AuthenticationError):
            wrong.connect()


@pytest.mark.parametrize("key", ["text", bytearray(b"bytes")])
def test_a_key_is_bytes(key: Any, new: Any, package: Any) -> None:
    if isinstance(key, str):
        with pytest.raises(TypeError):
            new(authkey=key)
    elif package is aiomanager.multiprocessing:
        with new(authkey=key) as manager:
            assert not manager.dict()


def test_the_key_is_the_processs_own(new: Any) -> None:
    manager = new(("127.0.0.1", 0))
    with manager:
        other = new(manager.address)
        other.connect()
        assert other.list([1])[:] == [1]
        wrong = new(manager.address, b"another key")
        with pytest.raises(multiprocessing.AuthenticationError):
            wrong.connect()


@pytest.mark.parametrize("address", [5, 1.5, ["127.0.0.1", 5000]])
def test_unusable_addresses(address: Any, new: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="address type of"):
        new(address, authkey=b"key").connect()


def test_a_manager_does_not_pickle(manager: Any) -> None:
    with pytest.raises(TypeError):
        pickle.dumps(manager)


def test_number_of_objects(manager: Any) -> None:
    before = manager._number_of_objects()
    proxies = [manager.dict(), manager.list()]
    assert manager._number_of_objects() == before + 2
    assert isinstance(manager._debug_info(), str)
    proxies.clear()
    assert manager._number_of_objects() == before


def test_join(new: Any) -> None:
    manager = new()
    with pytest.raises(AttributeError):
        manager.join()
    manager.start()
    assert manager.join(0.01) is None
    assert manager.dict(a=1)["a"] == 1
    manager.shutdown()
    assert manager.join() is None
    assert manager.join() is None


def test_beyond_loopback_needs_a_key() -> None:
    with pytest.raises(ValueError, match="other machines"):
        SyncManager(("0.0.0.0", 0)).start()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # A server in this process, of another test, leaves libuv's threads behind.
        warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)
        with SyncManager(("", 0), b"key") as manager:
            assert manager.dict(a=1)["a"] == 1
        started = SyncManager(("", 0), b"key")
        started.start()
        started.shutdown()
        del SyncManager(("", 0), b"key").get_server().listener
    assert [warning.category for warning in caught] == 3 * [RuntimeWarning]
    assert {warning.filename for warning in caught} == {__file__}


def test_the_environments_key_is_not_the_managers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOMANAGER_AUTHKEY", "another key, which is long enough")
    with SyncManager() as manager:
        d = pickle.loads(pickle.dumps(manager.dict(a=1)))
        assert d["a"] == 1
        with multiprocessing.get_context("fork").Pool(1) as pool:
            assert pool.apply(os.getpid) != os.getpid()
            assert pool.apply(dict, (d,)) == {"a": 1}


def test_it_serves_native_clients_too() -> None:
    import aiomanager.sync

    with SyncManager() as manager:
        d = manager.dict(a=1)
        with aiomanager.sync.connect(manager.address) as native:
            shared = native.named.dict("d", {"inner": 2})
            assert shared["inner"] == 2
            d["native"] = native.dict({"x": 1})
        assert d["native"]["x"] == 1
        assert type(d["native"]) is type(d)
