"""What the workers of shared pools do in tests: functions that they can import."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import aiomanager.sync

STARTED: list[Any] = []


def square(number: int) -> int:
    return number * number


def square_slowly(number: int) -> int:
    time.sleep(0.001)
    return number * number


def pid() -> int:
    return os.getpid()


def pid_of(_item: object) -> int:
    return os.getpid()


def fail(message: str) -> None:
    raise KeyError(message)


def find(name: str) -> Any:
    return getattr(sys.modules[__name__], name)


def unsendable() -> Any:
    return lambda: None


class Unopenable(Exception):
    """Its pickle cannot be opened: the stdlib's pool waits for ever."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__("two arguments")


def fail_unopenably() -> None:
    raise Unopenable(1, 2)


def leave(code: int) -> None:
    sys.exit(code)


def kill_myself(deaths: Any, times: int) -> str:
    """Die so many times in all, then return."""
    if deaths.increment("n") <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def count(shared: Any, key: str) -> int:
    return int(shared.increment(key))


def wait_for(gate: Any) -> int:
    """Say who is here and wait at a gate, which is a shared event beside a shared list."""
    event, here = gate
    here.append(os.getpid())
    event.wait()
    return os.getpid()


def hold(lock: Any, here: Any) -> None:
    lock.acquire()
    here.append(os.getpid())
    time.sleep(3600)


def ignore_signals(here: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    here.append(os.getpid())
    time.sleep(3600)


def initialize(*arguments: Any) -> None:
    STARTED.extend(arguments)


def started() -> list[Any]:
    return STARTED


def fail_to_start() -> None:
    raise OSError("there is no database")


def die_at_start() -> None:
    os._exit(7)


def touch(path: str) -> None:
    Path(path).write_text(str(os.getpid()))


def kind_of(value: object) -> str:
    return type(value).__name__


def total_of(shared: Any) -> int:
    return sum(shared)


def join(url: str) -> int:
    """Join the server once more, as any other program may."""
    with aiomanager.sync.connect(url) as manager:
        return manager.statistics()["objects"]
