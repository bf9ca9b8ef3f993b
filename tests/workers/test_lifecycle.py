"""A private server lives exactly as long as it should, wherever its manager was started."""

import asyncio
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import aiomanager.multiprocessing
import aiomanager.sync
from aiomanager.client._blocking import _Connection

from . import tasks
from .helpers import FORKING, METHODS, SECONDS, alive, environment, script, until

STARTS = {
    "native": "from aiomanager.sync import Manager",
    "drop-in": "from aiomanager.multiprocessing import Manager",
}
START = """
manager = Manager()
d = manager.dict(a=1)
# The pid of the server, and where its socket is; the drop-in's is a process of multiprocessing.
if hasattr(manager, '_process'):
    print(manager._process.pid, manager.address)
else:
    print(manager._server.pid, manager._server.address.path)
"""
ENDS = {
    "normally": "",
    "by sys.exit": "sys.exit(3)",
    "by an exception": "raise SystemExit('the end')",
    "by os._exit": "os._exit(0)",
    "by SIGKILL": "os.kill(os.getpid(), signal.SIGKILL)",
    "by SIGTERM": "os.kill(os.getpid(), signal.SIGTERM)",
}
FORK = """
child = os.fork()
if not child:
    d['child'] = 1  # it has a connection of its own
    while True:
        signal.pause()
while 'child' not in d:
    pass
print(child)
"""


@pytest.fixture
def run() -> Iterator[Any]:
    """Start scripts; end them, and whatever they named, whatever happens."""
    scripts: list[subprocess.Popen[str]] = []

    def start(*code: str) -> "subprocess.Popen[str]":
        scripts.append(script("\n".join(["import os, signal, sys", *code])))
        return scripts[-1]

    yield start
    for one in scripts:
        one.kill()
        one.communicate(timeout=SECONDS)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("start", STARTS)
def test_the_server_ends_with_its_parent(start: str, end: str, run: Any) -> None:
    parent = run(STARTS[start], START, "sys.stdin.readline()", ENDS[end])
    pid, path = parent.stdout.readline().split()
    assert alive(int(pid))
    assert Path(path).exists()
    parent.stdin.write("\n")
    parent.stdin.flush()
    until(lambda: not alive(int(pid)), "the server is still there")
    if start == "native":
        assert not Path(path).parent.exists()


@pytest.mark.parametrize("end", ["normally", "by SIGKILL"])
def test_forked_children_live_on(end: str, run: Any) -> None:
    parent = run(STARTS["native"], START, FORK, ENDS[end])
    pid, _ = parent.stdout.readline().split()
    child = int(parent.stdout.readline())
    try:
        until(lambda: not alive(int(pid)), "the server is still there")
        assert alive(child)
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("start", STARTS)
def test_control_c(start: str, run: Any) -> None:
    program = run(
        STARTS[start],
        START,
        "try:\n    print('waiting'); signal.pause()",
        "except KeyboardInterrupt:\n    d['b'] = 2; print(sorted(d.items()))",
        "sys.stdin.readline()",
        "d['c'] = 3; manager.shutdown() if hasattr(manager, 'shutdown') else manager.close()",
        "print('well')",
    )
    pid = int(program.stdout.readline().split()[0])
    assert program.stdout.readline() == "waiting\n"
    os.killpg(program.pid, signal.SIGINT)
    assert program.stdout.readline() == "[('a', 1), ('b', 2)]\n"
    os.kill(pid, signal.SIGINT)
    program.stdin.write("\n")
    program.stdin.flush()
    assert program.stdout.readline() == "well\n"
    until(lambda: not alive(pid), "the server is still there")
    assert program.wait(SECONDS) == 0


@pytest.mark.filterwarnings(FORKING)
@pytest.mark.parametrize("method", METHODS)
def test_a_manager_in_a_daemonic_worker(method: str) -> None:
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(tasks.manager_in_worker, ("native",)) == [True, 2]


@pytest.mark.parametrize("start", [aiomanager.sync.Manager, aiomanager.multiprocessing.Manager])
def test_a_manager_started_in_a_thread(start: Any) -> None:
    made: list[Any] = []

    def make() -> None:
        manager = start()
        made.extend([manager, manager.dict(n=1)])

    thread = threading.Thread(target=make)
    thread.start()
    thread.join(SECONDS)
    manager, d = made
    with manager:
        assert d.increment("n") == 2
        # The server watches the process, not the thread that started it.
        assert alive(pid_of(manager))


def pid_of(manager: Any) -> int:
    """Return the process id of a manager's server."""
    return int((manager._process if hasattr(manager, "_process") else manager._server).pid)


@pytest.fixture
def no_gc() -> Iterator[None]:
    """No cyclic garbage collection: what nobody has any more is gone at once or never."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


BOTH = pytest.mark.parametrize(
    "start", [aiomanager.sync.Manager, aiomanager.multiprocessing.Manager]
)


@BOTH
def test_a_proxy_keeps_the_server(start: Any, no_gc: None) -> None:
    manager: Any = start()
    pid = pid_of(manager)
    d = manager.dict(n=1, row=[1])
    d.live()["row"].append(2)
    items = manager.list([d])
    assert manager.Pool(1).apply(abs, (-1,)) == 1
    del manager, d
    assert items[0].increment("n") == 2
    assert alive(pid)
    del items
    until(lambda: not alive(pid), "nobody can reach the server, and it is still there")


@BOTH
def test_an_async_face_keeps_the_server(start: Any, no_gc: None) -> None:
    manager: Any = start()
    pid = pid_of(manager)
    d = manager.dict(n=1).aio
    del manager
    assert asyncio.run(use(d)) == 2
    assert alive(pid)
    del d
    gc.collect()  # what is left of a closed loop may be in cycles
    until(lambda: not alive(pid), "nobody can reach the server, and it is still there")


async def use(d: Any) -> int:
    number = await d.increment("n")
    return int(number)


@BOTH
def test_managers_that_functions_leave_behind(start: Any, no_gc: None) -> None:
    def used() -> int:
        manager = start()
        d = manager.dict(a=1)
        with manager.Lock(), pytest.raises(KeyError):
            d["b"]
        d.update(c=[2])
        assert d["c"] == [2]
        return pid_of(manager)

    pids = [used() for _ in range(3)]
    until(lambda: not any(map(alive, pids)), "nobody can reach the servers, and some are there")


@pytest.mark.parametrize("joined", [False, True])
def test_closing_ends_the_calls_of_other_threads(joined: bool) -> None:
    with aiomanager.sync.Manager() as starter:
        manager = aiomanager.sync.connect(starter.url) if joined else starter
        queue = manager.named.Queue("queue")
        waits: list[Any] = [queue.get, manager.Event().wait, manager.Semaphore(0).acquire]
        errors: list[BaseException] = []

        def wait(call: Any) -> None:
            try:
                call()
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=wait, args=(call,), daemon=True) for call in waits]
        for thread in threads:
            thread.start()
        until(lambda: manager.statistics()["waiting"] == 3, "the threads do not wait")
        manager.close()
        for thread in threads:
            thread.join(SECONDS)
        assert [type(error) for error in errors] == [aiomanager.ConnectionLost] * 3
        assert all("was closed during the call" in str(error) for error in errors)
        if joined:
            others = starter.named.Queue("queue")
            others.put("item")  # which nobody waits for any more
            assert others.get(timeout=SECONDS) == "item"


def test_closing_while_a_thread_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    connected, closed = threading.Event(), threading.Event()
    errors: list[BaseException] = []
    first_welcome = _Connection._first_welcome

    def wait_then(connection: Any) -> Any:
        welcome = first_welcome(connection)
        connected.set()
        assert closed.wait(SECONDS)
        return welcome

    def call() -> None:
        try:
            queue.qsize()
        except Exception as error:
            errors.append(error)

    with aiomanager.sync.Manager() as starter:
        assert starter.statistics()["sessions"] == 1
        manager = aiomanager.sync.connect(starter.url)
        queue = manager.named.Queue("queue")
        monkeypatch.setattr(_Connection, "_first_welcome", wait_then)
        thread = threading.Thread(target=call)
        thread.start()
        assert connected.wait(SECONDS)
        manager.close()
        closed.set()
        thread.join(SECONDS)
        assert [type(error) for error in errors] == [aiomanager.ConnectionLost]
        assert "was closed while this thread connected" in str(errors[0])
        until(lambda: starter.statistics()["sessions"] == 1, "a session is left over")


def test_a_forked_child_ends_without_a_warning() -> None:
    code = "\n".join([STARTS["native"], "import os", "manager = Manager()"])
    code += "\nif os.fork():\n    os.wait()\n    manager.close()"
    assert warnings_of(code) == ""


def warnings_of(code: str) -> str:
    """Run a script with all warnings on; return its error output."""
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", code],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=2 * SECONDS,
        check=True,
    )
    return done.stderr


def test_a_type_beside_its_manager_starts_no_servers_without_end(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text(
        "import aiomanager.sync, sys\n"
        "class T(aiomanager.SharedObject):\n"
        "    @aiomanager.writes\n"
        "    def touch(self) -> None: ...\n"
        "print('I am imported', file=sys.stderr)\n"
        "manager = aiomanager.sync.Manager(types=[T])\n"
    )
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import beside"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS
    )
    assert ended.returncode == 1
    assert "a manager was to be started while a server imports 'beside:T'" in ended.stderr
    assert ended.stderr.count("I am imported") == 2


def test_a_server_in_an_operation_without_end_ends_with_its_parent(
    tmp_path: Path, run: Any
) -> None:
    (tmp_path / "endless.py").write_text(
        "import aiomanager, os\n"
        "class T(aiomanager.SharedObject):\n"
        "    @aiomanager.writes\n"
        "    def run(self, descriptor: str) -> None:\n"
        "        with open(descriptor, 'w') as file:\n"
        "            file.write(str(os.getpid()))\n"
        "        while True:\n"
        "            pass\n"
        "class P(aiomanager.SyncProxy, T): ...\n"
    )
    started = tmp_path / "started"
    parent = run(
        f"sys.path.insert(0, {str(tmp_path)!r})",
        "import endless, aiomanager.sync",
        "manager = aiomanager.sync.Manager(types=[endless.T])",
        f"manager.create(endless.P).run({str(started)!r})",
    )
    until(lambda: started.exists() and started.read_text(), "the operation has not begun")
    parent.kill()
    until(lambda: not alive(int(started.read_text())), "the server is still there")
