"""What the tests of the async clients share: conditions with a deadline, tasks with results."""

import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

import aiomanager

__all__ = ("SECONDS", "Task", "start", "until", "waiting")

SECONDS = 30.0
"""How long anything may take before a test fails; nothing waits so long when all is well."""

T = TypeVar("T")


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait until `condition` holds; fail when that takes too long."""
    deadline = time.monotonic() + SECONDS
    while not await condition():
        assert time.monotonic() < deadline, f"after {SECONDS} s: {what}"
        await anyio.sleep(0.002)


async def waiting(manager: aiomanager.Manager, count: int) -> None:
    """Wait until so many calls wait on the server, or hold what is not yet confirmed."""
    found = -1

    async def reached() -> bool:
        nonlocal found
        found = (await manager.statistics())["waiting"]
        return found == count

    try:
        await until(reached, f"{count} calls should wait")
    except AssertionError as error:
        raise AssertionError(f"{error}, but {found} do") from None


class Task(Generic[T]):
    """A task whose result can be awaited, on any loop."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.over = anyio.Event()
        self.cancelled = False
        self.value: T
        self.error: Exception | None = None

    async def run(self, function: Callable[[], Coroutine[Any, Any, T]]) -> None:
        try:
            with self.scope:
                self.value = await function()
            self.cancelled = self.scope.cancelled_caught
        except Exception as error:
            self.error = error
        finally:
            self.over.set()

    def cancel(self) -> None:
        self.scope.cancel()

    async def result(self) -> T:
        """Wait for the end of the task and return its result, or raise its error."""
        with anyio.fail_after(SECONDS):
            await self.over.wait()
        if self.error is not None:
            raise self.error
        assert not self.cancelled, "the task was cancelled"
        return self.value

    async def end(self) -> None:
        """Cancel the task and wait for its end; fail if it came to a result before."""
        self.cancel()
        with anyio.fail_after(SECONDS):
            await self.over.wait()
        assert self.cancelled, f"the task was not cancelled: {vars(self)}"


def start(group: TaskGroup, function: Callable[[], Coroutine[Any, Any, T]]) -> Task[T]:
    """Start a task in a group."""
    task: Task[T] = Task()
    group.start_soon(task.run, function)
    return task
