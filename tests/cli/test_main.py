"""Tests of what all subcommands share: help, version, wrong calls."""

import subprocess
import sys

import pytest

import aiomanager
from aiomanager.cli import main

from .helpers import Terminal


def test_version(terminal: Terminal) -> None:
    assert terminal.call("--version") == (0, f"aiomanager {aiomanager.__version__}\n", "")


def test_the_entry_point_is_the_module(terminal: Terminal) -> None:
    script = "import sys; from aiomanager.cli import main; sys.exit(main())"
    assert terminal.call("--help", program=("-c", script)) == terminal.call("--help")


def test_help_names_the_commands(terminal: Terminal) -> None:
    code, output, errors = terminal.call("--help")
    assert (code, errors) == (0, "")
    for command in ("serve", "run", "bench", "operations"):
        assert command in output


@pytest.mark.parametrize("command", ["serve", "run", "bench", "operations"])
def test_help_of_a_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"usage: aiomanager {command}" in capsys.readouterr().out


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from aiomanager.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'asyncio', 'anyio', 'uvloop', 'msgpack', 'multiprocessing', 'socket'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "COMMAND"),
        (["paint"], "invalid choice"),
        (["serve", "--colour"], "unrecognized arguments: --colour"),
        (["bench", "--rounds", "0"], "0 is not above 0"),
        (["bench", "--only", "nothing"], "invalid choice"),
    ],
)
def test_a_wrong_call(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_reader_that_leaves_is_no_error(terminal: Terminal) -> None:
    process = terminal.start("operations")
    process.stdout.read(1)
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() in (0, 1)  # the rest may have fitted into the pipe
