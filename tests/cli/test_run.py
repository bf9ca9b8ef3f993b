"""Tests of `aiomanager run`: what the command is given, which signals reach it, how it all ends."""

import os
import pty
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from aiomanager.protocol.address import parse_address

from .helpers import HERE, Terminal, wait_for_end

KEY = "a key of more than sixteen bytes"
TALKER = (sys.executable, str(HERE / "talker.py"))


def talk(terminal: Terminal, *names: str) -> "tuple[subprocess.Popen[str], str]":
    """Start the talker by `run`; return the process of `run` and the server's URL."""
    process = terminal.start("run", "--", *TALKER, *names)
    ready, parent, url = process.stdout.readline().split()
    assert (ready, parent) == ("ready", str(process.pid))
    return process, url


def test_the_command_joins_the_server(terminal: Terminal) -> None:
    script = (
        "import aiomanager.sync, os\n"
        "with aiomanager.sync.connect() as manager:\n"
        "    shared = manager.named.dict('shared', {'a': 1})\n"
        "    print(shared['a'], os.environ['AIOMANAGER_URL'] == manager.url)\n"
        "    print(os.environ.get('AIOMANAGER_AUTHKEY'))\n"
    )
    code, output, errors = terminal.call("run", "--", sys.executable, "-c", script)
    assert (code, output, errors) == (0, "1 True\nNone\n", "")
    assert list(terminal.directory.iterdir()) == []  # nor a socket or its directory


@pytest.mark.parametrize("given", [None, KEY])
def test_with_a_key(terminal: Terminal, given: str | None) -> None:
    script = (
        "import aiomanager.sync, os\n"
        "with aiomanager.sync.connect() as manager:\n"
        "    print(manager.names(), manager.url)\n"
        "    print(os.environ['AIOMANAGER_AUTHKEY'])\n"
    )
    environment = {} if given is None else {"AIOMANAGER_AUTHKEY": given}
    options = ("--url", "tcp://127.0.0.1:0") if given is None else ()
    code, output, errors = terminal.call(
        "run", *options, "--", sys.executable, "-c", script, environment=environment
    )
    assert (code, errors) == (0, "")
    first, key = output.splitlines()
    if given is None:
        assert first.startswith("{} tcp://127.0.0.1:")
        assert len(key) == 64
    else:
        assert first.startswith("{} unix:///")
        assert key == given


def test_types_of_users(terminal: Terminal) -> None:
    script = (
        "import aiomanager.sync, counters\n"
        "from aiomanager.proxy import sync_face\n"
        "with aiomanager.sync.connect(types=[counters.Counter]) as manager:\n"
        "    print(manager.create(sync_face(counters.Counter), 5).add())\n"
    )
    code, output, errors = terminal.call(
        "run", "--types", "counters", "--", sys.executable, "-c", script
    )
    assert (code, output, errors) == (0, "6\n", "")


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)],
)
def test_the_exit_code_is_that_of_the_command(terminal: Terminal, script: str, code: int) -> None:
    assert terminal.call("run", "--", "sh", "-c", script) == (code, "", "")


def test_arguments_reach_the_command_as_they_are(terminal: Terminal) -> None:
    words = ["--types", "--", "-h", "", "a b"]
    script = "import sys; print(sys.argv[1:])"
    for separator in ([], ["--"]):
        code, output, errors = terminal.call(
            "run", *separator, sys.executable, "-c", script, *words
        )
        assert (code, output, errors) == (0, f"{words}\n", "")


def test_the_command_reads_what_run_is_given(terminal: Terminal) -> None:
    process = terminal.start("run", "--", "cat")
    assert process.communicate("some words") == ("some words", "")


def test_the_command_starts_with_the_signals_of_others(terminal: Terminal) -> None:
    def blocked_and_ignored(status: str) -> list[int]:
        numbers = [int(line.split()[1], 16) for line in status.splitlines()]
        return [number & 0x7FFF_FFFF for number in numbers]  # behind it: the C library's own

    command = ("grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status")
    alone = subprocess.run(command, capture_output=True, text=True, check=True)
    code, output, errors = terminal.call("run", "--", *command)
    assert (code, errors) == (0, "")
    assert blocked_and_ignored(output) == blocked_and_ignored(alone.stdout)


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (("no-such-command",), 127, "no command 'no-such-command' on PATH"),
        (("/no/such/command",), 127, "no command '/no/such/command'"),
        (("/dev/null",), 126, "chmod +x /dev/null"),
        (("{directory}/script",), 127, "the interpreter that its first line names is missing"),
        (("{directory}/empty",), 126, "Exec format error"),
        ((), 2, "aiomanager run -- python app.py"),
        (("--url", "nowhere", "--", "true"), 2, "write unix:///path"),
        (("--url", "tcp://0.0.0.0:0", "--", "true"), 2, "--allow-plaintext"),
        (("--url", "unix:///dev/null", "--", "true"), 1, "cannot listen on unix:///dev/null"),
        (("--types", "nonexistent", "--", "true"), 2, "there is no module 'nonexistent'"),
    ],
)
def test_mistakes(terminal: Terminal, command: tuple[str, ...], code: int, said: str) -> None:
    for name, content in (("script", "#!/no/such/interpreter\n"), ("empty", "\0")):
        file = terminal.directory / name
        file.write_text(content)
        file.chmod(0o700)
    words = [word.format(directory=terminal.directory) for word in command]
    ended, output, errors = terminal.call("run", *words)
    assert (ended, output) == (code, "")
    assert errors.startswith("aiomanager run: ")
    assert said in errors
    assert "Traceback" not in errors


# Signals


@pytest.mark.parametrize(
    "name",
    ["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR2", "SIGWINCH", "SIGTTIN", "SIGTTOU"],
)
def test_signals_are_passed_on(terminal: Terminal, name: str) -> None:
    process, _ = talk(terminal, name)
    for _ in range(2):
        process.send_signal(getattr(signal, name))
        assert process.stdout.readline() == f"{name}\n"
    process.send_signal(signal.SIGUSR1)
    assert process.wait() == 2


def test_a_signal_that_kills_the_command(terminal: Terminal) -> None:
    process, url = talk(terminal)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM
    assert not Path(parse_address(url).path).exists()


def test_what_is_ignored_stays_ignored(terminal: Terminal) -> None:
    start = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); "
    process = terminal.start(
        "-m", "aiomanager", "run", "--", *TALKER, "SIGTERM",
        program=("-c", start + "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"),
    )  # fmt: skip
    assert process.stdout.readline().startswith("ready")
    process.send_signal(signal.SIGHUP)  # as nohup has it
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "SIGTERM\n"
    process.send_signal(signal.SIGUSR1)
    assert process.wait() == 1


class Screen:
    """A terminal in which a job runs."""

    def __init__(self, terminal: Terminal, *names: str) -> None:
        self.keyboard, slave = pty.openpty()
        self.job = terminal.start(
            sys.executable, "-m", "aiomanager", "run", "--", *TALKER, *names,
            program=(str(HERE / "job.py"),), stdin=slave, start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        ready, parent, self.url = self.line().split()
        assert ready == "ready"
        self.run = int(parent)

    def line(self) -> str:
        return self.job.stdout.readline().strip()

    def press(self, key: bytes) -> None:
        os.write(self.keyboard, key)


@pytest.mark.parametrize(("key", "name"), [(b"\x03", "SIGINT"), (b"\x1c", "SIGQUIT")])
def test_a_key_of_the_terminal_reaches_the_command_once(
    terminal: Terminal, key: bytes, name: str
) -> None:
    screen = Screen(terminal, name)
    screen.press(key)
    assert screen.line() == name
    # A second one would be passed on before this: signals are taken by their numbers.
    os.kill(screen.run, signal.SIGUSR1)
    assert screen.line() == "ended with 1"
    os.close(screen.keyboard)


def test_the_job_stops_and_continues(terminal: Terminal) -> None:
    screen = Screen(terminal, "SIGCONT")

    def line() -> str:
        # SIGCONT reaches the command by its group, and is passed on as well.
        while (line := screen.line()) == "SIGCONT":
            pass
        return line

    for _ in range(2):
        screen.press(b"\x1a")
        assert line() == "stopped by SIGTSTP"
        assert screen.line() == "SIGCONT"
    os.kill(screen.run, signal.SIGUSR1)
    assert line().startswith("ended with ")
    os.close(screen.keyboard)


def test_the_server_is_out_of_the_terminals_reach(terminal: Terminal) -> None:
    screen = Screen(terminal, "SIGINT")
    screen.press(b"\x03")
    assert screen.line() == "SIGINT"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(parse_address(screen.url).path)
    os.kill(screen.run, signal.SIGUSR1)
    assert screen.line() == "ended with 1"
    os.close(screen.keyboard)


# How it ends


def server_of(url: str) -> int:
    """Return the process id of the server."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(parse_address(url).path)
        peer = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", peer)[0])


def test_the_server_ends_with_run_however_it_ends(terminal: Terminal) -> None:
    process, url = talk(terminal)
    server = server_of(url)
    pidfd = os.pidfd_open(server)
    command = set(terminal.processes()) - {process.pid, server}
    process.kill()
    wait_for_end({server: pidfd})
    assert not Path(parse_address(url).path).exists()
    for pid in command:
        os.kill(pid, signal.SIGUSR1)


def test_nothing_is_left_behind(terminal: Terminal) -> None:
    process, _ = talk(terminal)
    processes = terminal.processes()
    assert len(processes) == 3
    process.send_signal(signal.SIGUSR1)
    assert process.wait() == 0
    wait_for_end(processes)


def test_the_end_of_the_server_is_told(terminal: Terminal) -> None:
    process, url = talk(terminal)
    os.kill(server_of(url), signal.SIGKILL)
    assert "the server has ended" in process.stderr.readline()
    process.send_signal(signal.SIGUSR1)
    assert process.wait() == 0
    assert list(terminal.directory.iterdir()) == []
