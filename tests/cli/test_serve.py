"""Tests of `aiomanager serve`: where it listens, whom it lets in, how it starts and ends."""

import errno
import multiprocessing
import os
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import aiomanager.sync
from aiomanager.cli import UserError, serve
from aiomanager.protocol.address import parse_address
from aiomanager.server.listener import _listen_unix

from .helpers import HERE, Terminal

KEY = "a key of more than sixteen bytes"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIOMANAGER_URL", raising=False)
    monkeypatch.delenv("AIOMANAGER_AUTHKEY", raising=False)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_told_to_end(terminal: Terminal, number: signal.Signals) -> None:
    server = terminal.serve()
    path = Path(parse_address(server.url).path)
    assert path == terminal.directory / "aiomanager" / "default.sock"
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    with aiomanager.sync.connect(server.url) as manager:
        manager.named.dict("votes")["yes"] = 1
    with aiomanager.sync.connect(server.url) as manager:
        assert manager.named.dict("votes")["yes"] == 1
        server.send_signal(number)
        output, errors = server.communicate()
    assert (server.returncode, output) == (0, "")
    assert f"AIOMANAGER_URL={server.url}" in errors
    assert "Traceback" not in errors
    assert not path.exists()


def test_its_clients_see_it_end(terminal: Terminal) -> None:
    server = terminal.serve()
    with aiomanager.sync.connect(server.url) as manager:
        shared = manager.dict()
        server.terminate()
        assert server.wait() == 0
        with pytest.raises(aiomanager.sync.ManagerError):
            shared["key"] = 1


def test_a_second_server_is_refused(terminal: Terminal) -> None:
    server = terminal.serve()
    code, output, errors = terminal.call("serve")
    assert (code, output) == (1, "")
    assert errors.startswith(f"aiomanager serve: something listens on {server.url} already: ")
    with aiomanager.sync.connect(server.url) as manager:
        assert manager.names() == {}


def test_the_socket_of_a_killed_server_is_replaced(terminal: Terminal) -> None:
    server = terminal.serve()
    server.kill()
    server.wait()
    assert Path(parse_address(server.url).path).is_socket()
    again = terminal.serve()
    assert again.url == server.url
    with aiomanager.sync.connect(again.url) as manager:
        assert manager.names() == {}


def _try_to_listen(barrier: Any, pipe: Any) -> None:
    barrier.wait()
    try:
        sock, _ = _listen_unix(pipe.recv())
    except OSError as error:
        pipe.send(error.errno)
        sock = None
    else:
        pipe.send(0)
    pipe.recv()  # until all have tried
    if sock is not None:
        sock.close()


def test_of_two_that_find_a_stale_socket_one_gets_it(terminal: Terminal) -> None:
    context = multiprocessing.get_context("forkserver")
    name = str(terminal.directory / "s")
    barrier = context.Barrier(4)
    pipes, processes = [], []
    for _ in range(4):
        here, there = context.Pipe()
        process = context.Process(target=_try_to_listen, args=(barrier, there))
        process.start()
        pipes.append(here)
        processes.append(process)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(name)
    for pipe in pipes:
        pipe.send(name)
    found = [pipe.recv() for pipe in pipes]
    for pipe, process in zip(pipes, processes, strict=True):
        pipe.send(None)
        pipe.close()
        process.join()
    assert sorted(found) == [0, *[errno.EADDRINUSE] * 3]


def test_tcp_needs_a_key(terminal: Terminal) -> None:
    code, output, errors = terminal.call("serve", "tcp://127.0.0.1:0")
    assert (code, output) == (2, "")
    assert "needs a key" in errors
    assert "export AIOMANAGER_AUTHKEY=" in errors


def test_tcp_with_a_key_starts_again_at_once_on_the_same_port(terminal: Terminal) -> None:
    environment = {"AIOMANAGER_AUTHKEY": KEY}
    url = "tcp://127.0.0.1:0"
    for _ in range(3):
        server = terminal.serve(url, environment=environment)
        url = server.url
        assert not url.endswith(":0")
        manager = aiomanager.sync.connect(url, authkey=KEY.encode())
        assert manager.names() == {}
        # The server closes first: its end of the connection lingers in the system.
        server.terminate()
        assert server.wait() == 0
        manager.close()


@pytest.mark.parametrize("content", [f"{KEY}\n", KEY, f"{KEY}\r\n"])
def test_the_key_from_a_file(terminal: Terminal, content: str) -> None:
    file = terminal.directory / "key"
    file.write_bytes(content.encode())
    file.chmod(0o600)
    # An explicit key always counts, on a unix socket of the same user as well.
    server = terminal.serve("--authkey-file", str(file))
    with aiomanager.sync.connect(server.url, authkey=KEY.encode()) as manager:
        assert manager.names() == {}
    with pytest.raises(multiprocessing.AuthenticationError):
        aiomanager.sync.connect(server.url, authkey=b"another key of sixteen bytes")
    with pytest.raises(multiprocessing.AuthenticationError):
        aiomanager.sync.connect(server.url)
    server.terminate()
    errors = server.communicate()[1]
    assert "AIOMANAGER_AUTHKEY" in errors
    assert KEY not in errors


def test_a_binary_key_is_taken_as_it_is(terminal: Terminal) -> None:
    key = bytes(range(240, 256)) + b"\n"
    file = terminal.directory / "key"
    file.write_bytes(key)
    file.chmod(0o644)
    server = terminal.serve("--authkey-file", str(file))
    with aiomanager.sync.connect(server.url, authkey=key) as manager:
        assert manager.names() == {}
    server.terminate()
    assert f"chmod 600 {file}" in server.communicate()[1]


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "said"),
    [
        (("nowhere",), {}, 2, "write unix:///path"),
        (("tcp://127.0.0.1",), {}, 2, "lacks a port"),
        (("tls://127.0.0.1:1",), {"AIOMANAGER_AUTHKEY": KEY}, 2, "tls://127.0.0.1:1"),
        (("tcp://0.0.0.0:0",), {"AIOMANAGER_AUTHKEY": KEY}, 2, "--allow-plaintext"),
        (("unix:///dev/null",), {}, 1, "/dev/null is a file of another kind"),
        ((), {"AIOMANAGER_AUTHKEY": "short"}, 2, "has 5 bytes and can be guessed"),
        (("--authkey-file", "/nonexistent/key"), {}, 2, "cannot read the key in"),
        (("--types", "nonexistent"), {}, 2, "there is no module 'nonexistent'"),
        (("--types", "json.decoder"), {}, 2, "'json.decoder' holds no shared type"),
        (("--types", "counters:Nothing"), {}, 2, "'counters:Nothing' holds no shared type"),
        (("--types", "broken"), {}, 2, "ZeroDivisionError: division by zero"),
    ],
)
def test_mistakes(
    terminal: Terminal,
    arguments: tuple[str, ...],
    environment: dict[str, str],
    code: int,
    said: str,
) -> None:
    (terminal.directory / "broken.py").write_text("1 / 0\n")
    ended, output, errors = terminal.call(
        "serve", *arguments, environment=environment, cwd=terminal.directory
    )
    assert (ended, output) == (code, "")
    assert errors.startswith("aiomanager serve: ")
    assert said in errors
    assert "Traceback" not in errors


def test_types_of_users(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE)
    import counters

    from aiomanager.proxy import sync_face

    server = terminal.serve("--types", "counters")
    with aiomanager.sync.connect(server.url, types=[counters.Counter]) as manager:
        counter = manager.create(sync_face(counters.Counter), 5)
        assert counter.add() == 6


# Where it listens when nothing was said


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_without_a_runtime_directory(temporary: Path) -> None:
    address = serve._default_address()
    directory = temporary / f"aiomanager-{os.geteuid()}"
    assert address.path == str(directory / "default.sock")
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    directory.chmod(0o755)
    assert serve._default_address() == address
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_directory_of_somebody_else_is_refused(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    with pytest.raises(UserError, match="belongs to somebody else"):
        serve._default_address()


@pytest.mark.parametrize("kind", ["link", "file"])
def test_something_else_than_a_directory_is_refused(temporary: Path, kind: str) -> None:
    place = temporary / f"aiomanager-{os.geteuid()}"
    if kind == "link":
        (temporary / "elsewhere").mkdir(mode=0o700)
        place.symlink_to(temporary / "elsewhere")
    else:
        place.touch()
    with pytest.raises(UserError, match="name a"):
        serve._default_address()


def test_a_runtime_directory_that_is_not_there(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(temporary / "gone"))
    assert serve._default_address().path.startswith(f"{temporary}/aiomanager-")


def test_a_mistyped_path_makes_no_directories(terminal: Terminal) -> None:
    path = terminal.directory / "no" / "such" / "socket"
    code, _, errors = terminal.call("serve", str(path))
    assert code == 1
    assert str(path.parent) in errors
    assert not path.parent.parent.exists()
