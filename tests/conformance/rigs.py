"""The rigs on which the scenario runs; what each of them is made of is tested elsewhere."""

import inspect
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from itertools import count
from typing import Any

import anyio
from anyio.abc import TaskGroup
from objects.rigs import Parked, PureRig, SessionRig

import aiomanager
import aiomanager.sync
from aiomanager.objects.namespace import SyncNamespaceProxy, operations
from aiomanager.operation import SharedObject
from aiomanager.proxy import async_face, sync_face

__all__ = ("AsyncRig", "BlockingRig", "MemoryRig", "run")

SECONDS = 30.0


def run(coroutine: Any) -> None:
    """Run a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("it waits, and no loop is here")


def _methods(proxy: Any) -> Any:
    """Return what the methods of a blocking proxy are called on."""
    return operations(proxy) if isinstance(proxy, SyncNamespaceProxy) else proxy


class _Done:
    """A call that waited, or did not have to."""

    def __init__(self, made: Any) -> None:
        self._made = made

    async def result(self) -> Any:
        if isinstance(self._made, Parked):
            return self._made.result()
        return self._made


class _Failed:
    """A call that ended with an error at once."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def result(self) -> Any:
        raise self._error


class MemoryRig:
    """The shared objects themselves, or both ends of a session: no socket, no task, no time."""

    def __init__(self, inner: PureRig | SessionRig) -> None:
        self.inner = inner
        self._owners = count(100)
        self._started: list[Parked] = []

    async def make(self, kind: type[SharedObject], *given: Any, **named: Any) -> Any:
        return _methods(self.inner.make(kind, *given, **named))

    async def do(self, made: Any) -> Any:
        if not isinstance(made, Parked):
            return made
        if not made.done:
            self.inner.clock.advance(1.0)
            if isinstance(self.inner, SessionRig):
                self.inner.pump()
        return made.result()

    async def start(self, method: Callable[..., Any], *given: Any, **named: Any) -> Any:
        with self.inner.as_(0, next(self._owners)):
            try:
                made = method(*given, **named)
            except Exception as error:
                return _Failed(error)
        if isinstance(made, Parked):
            self._started.append(made)
        return _Done(made)

    async def parked(self, count: int) -> None:
        assert sum(not parked.done for parked in self._started) == count


class _Threaded:
    """A call in a thread of its own, which lives on: what it has acquired is its own."""

    def __init__(self, method: Callable[..., Any], given: Any, named: Any) -> None:
        self._outcome: Future[Any] = Future()
        over = threading.Event()
        weakref.finalize(self, over.set)
        threading.Thread(
            target=_call_and_stay, args=(self._outcome, over, method, given, named), daemon=True
        ).start()

    async def result(self) -> Any:
        return self._outcome.result(SECONDS)


def _call_and_stay(
    outcome: Future[Any], over: threading.Event, method: Callable[..., Any], given: Any, named: Any
) -> None:
    try:
        outcome.set_result(method(*given, **named))
    except Exception as error:
        outcome.set_exception(error)
    over.wait()


class BlockingRig:
    """The blocking client, over a real socket."""

    def __init__(self, manager: aiomanager.sync.Manager) -> None:
        self._manager = manager

    async def make(self, kind: type[SharedObject], *given: Any, **named: Any) -> Any:
        return _methods(self._manager.create(sync_face(kind), *given, **named))

    async def do(self, made: Any) -> Any:
        return made

    async def start(self, method: Callable[..., Any], *given: Any, **named: Any) -> Any:
        return _Threaded(method, given, named)

    async def parked(self, count: int) -> None:
        deadline = time.monotonic() + SECONDS
        while (found := self._manager.statistics()["waiting"]) != count:
            assert time.monotonic() < deadline, f"{found} calls wait, not {count}"
            time.sleep(0.002)  # noqa: ASYNC251


class _Task:
    """A call in a task of its own."""

    def __init__(self) -> None:
        self._over = anyio.Event()
        self._value: Any = None
        self._error: Exception | None = None

    async def run(self, method: Callable[..., Any], given: Any, named: Any) -> None:
        try:
            self._value = await method(*given, **named)
        except Exception as error:
            self._error = error
        finally:
            self._over.set()

    async def result(self) -> Any:
        with anyio.fail_after(SECONDS):
            await self._over.wait()
        if self._error is not None:
            raise self._error
        return self._value


class AsyncRig:
    """An async client, over a real socket."""

    def __init__(self, manager: aiomanager.Manager, group: TaskGroup) -> None:
        self._manager = manager
        self._group = group

    async def make(self, kind: type[SharedObject], *given: Any, **named: Any) -> Any:
        return await self._manager.create(async_face(kind), *given, **named)

    async def do(self, made: Any) -> Any:
        assert inspect.isawaitable(made)
        return await made

    async def start(self, method: Callable[..., Any], *given: Any, **named: Any) -> Any:
        task = _Task()
        self._group.start_soon(task.run, method, given, named)
        return task

    async def parked(self, count: int) -> None:
        with anyio.fail_after(SECONDS):
            while (await self._manager.statistics())["waiting"] != count:  # noqa: ASYNC110
                await anyio.sleep(0.002)
