"""Programs for the standard library print the same when nothing but their imports is changed."""

import functools
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from .helpers import METHODS, SECONDS, environment

PROGRAMS = Path(__file__).parent / "programs"
SINGLE = sorted(path.stem for path in PROGRAMS.glob("*.py"))
# A directory holds a server and its clients, each a program of its own.
SERVERS = {"cache_server": ("server", "first", "second"), "queues_over_tcp": ("master", "worker")}

GUARD = '\nif __name__ == "__main__":\n'
# Where it matters that the fork server is a third process; it is slow for all.
WITH_FORKSERVER = frozenset(
    {"nested_proxies", "own_class", "joinable_queue", "executor", "keys_of_the_main_script"}
)
PORT = "50000"


def source(name: str) -> str:
    return (PROGRAMS / f"{name}.py").read_text(encoding="utf-8")


def changed(code: str) -> str:
    """Return a program with its imports changed, and nothing else."""
    code, first = re.subn(
        r"^import multiprocessing( as \w+)?$",
        lambda found: f"import aiomanager.multiprocessing{found[1] or ' as multiprocessing'}",
        code,
        flags=re.MULTILINE,
    )
    code, second = re.subn(
        r"^from multiprocessing(\.managers)? import",
        r"from aiomanager.multiprocessing\1 import",
        code,
        flags=re.MULTILINE,
    )
    assert first + second
    return code


def written(where: Path, code: str, method: str) -> list[str]:
    """Write a program for one start method; return the command that runs it."""
    # Set explicitly, since the default is another one from Python 3.14 on.
    setting = f"__import__('multiprocessing').set_start_method({method!r})"
    before, guard, after = code.partition(GUARD)
    code = f"{before}{guard}    {setting}\n{after}" if guard else f"{setting}\n{code}"
    path = where / "program.py"
    path.write_text(code, encoding="utf-8")
    return [sys.executable, str(path)]


def run(where: Path, code: str, method: str) -> str:
    done = subprocess.run(
        written(where, code, method),
        capture_output=True,
        text=True,
        env=environment(),
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


@functools.cache
def expected(where: Path, name: str) -> str:
    """Return what the standard library makes of a program."""
    return run(where, source(name), "fork")


@pytest.fixture(scope="module")
def standard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("standard")


def test_there_are_programs() -> None:
    assert len(SINGLE) >= 42
    assert {path.parent.name for path in PROGRAMS.glob("*/*.py")} == set(SERVERS)


def methods_of(name: str) -> list[str]:
    if GUARD not in source(name):
        return ["fork"]
    return [method for method in METHODS if method != "forkserver" or name in WITH_FORKSERVER]


CASES = [
    pytest.param(name, method, id=f"{name}-{method}")
    for name in SINGLE
    for method in methods_of(name)
]


@pytest.mark.parametrize(("name", "method"), CASES)
def test_it_prints_the_same(name: str, method: str, standard: Path, tmp_path: Path) -> None:
    judge = expected(standard, name)
    assert judge.strip()
    assert run(tmp_path, changed(source(name)), method) == judge


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return str(listener.getsockname()[1])


def run_servers(where: Path, codes: list[str]) -> list[str]:
    """Run a server, and when it is ready its clients in turn; return what each printed."""
    port = free_port()
    commands: list[list[str]] = []
    for place, code in enumerate(codes):
        assert code.count(PORT) in {1, 2}
        (where / str(place)).mkdir()
        commands.append(written(where / str(place), code.replace(PORT, port), "fork"))
    with subprocess.Popen(
        commands[0],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
    ) as server:
        try:
            assert server.stdout is not None
            outputs = [server.stdout.readline()]
            assert outputs[0].startswith("ready"), outputs[0] + server.stdout.read()
            for command in commands[1:]:
                done = subprocess.run(
                    command,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    env=environment(),
                    timeout=SECONDS,
                    check=False,
                )
                outputs.append(done.stdout)
                assert done.returncode == 0, outputs
            if len(set(codes)) < len(codes):  # this server ends by itself when all is done
                outputs[0] += server.communicate(timeout=SECONDS)[0]
        finally:
            server.kill()
    return outputs


@pytest.mark.parametrize("name", SERVERS)
def test_programs_that_meet_over_tcp(name: str, tmp_path: Path) -> None:
    codes = [source(f"{name}/{part}") for part in SERVERS[name]]
    if name == "queues_over_tcp":
        codes.append(codes[-1])  # two workers
    (tmp_path / "standard").mkdir()
    (tmp_path / "ours").mkdir()
    judge = run_servers(tmp_path / "standard", codes)
    assert run_servers(tmp_path / "ours", [changed(code) for code in codes]) == judge


def test_the_import_lines_are_all_that_changes() -> None:
    for name in SINGLE:
        code = source(name)
        pairs = zip(code.splitlines(), changed(code).splitlines(), strict=True)
        lines = [before for before, after in pairs if before != after]
        assert lines
        assert all("import" in line for line in lines), lines
