"""The standard library's contexts, whose `Manager` is aiomanager's."""

import multiprocessing
import multiprocessing.context as _standard
from multiprocessing import reduction as reduction
from multiprocessing.context import AuthenticationError as AuthenticationError
from multiprocessing.context import BaseContext as BaseContext
from multiprocessing.context import BufferTooShort as BufferTooShort
from multiprocessing.context import DefaultContext as DefaultContext
from multiprocessing.context import Process as Process
from multiprocessing.context import ProcessError as ProcessError
from multiprocessing.context import TimeoutError as TimeoutError
from multiprocessing.context import assert_spawning as assert_spawning
from multiprocessing.context import get_spawning_popen as get_spawning_popen
from multiprocessing.context import set_spawning_popen as set_spawning_popen
from typing import TYPE_CHECKING, Any, Literal, overload

if TYPE_CHECKING:
    from aiomanager.multiprocessing.managers import SyncManager

__all__ = ()


class _Context(BaseContext):
    """What our contexts have in place of the standard library's."""

    def Manager(self) -> "SyncManager":  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]  # noqa: N802
        """Start a server, and return the manager that makes objects in it."""
        from aiomanager.multiprocessing.managers import SyncManager

        manager = SyncManager(ctx=self)
        manager.start()
        return manager

    def get_context(self, method: str | None = None) -> Any:
        """Return the context of a start method, by default this one."""
        return self if method is None else get_context(method)


class ForkContext(_Context, _standard.ForkContext):  # pyright: ignore[reportIncompatibleMethodOverride]
    """The context whose processes are forked."""


class SpawnContext(_Context, _standard.SpawnContext):  # pyright: ignore[reportIncompatibleMethodOverride]
    """The context whose processes are fresh interpreters."""


class ForkServerContext(_Context, _standard.ForkServerContext):  # pyright: ignore[reportIncompatibleMethodOverride]
    """The context whose processes are forked from a server without threads."""


_contexts: dict[str, ForkContext | SpawnContext | ForkServerContext] = {
    "fork": ForkContext(),
    "spawn": SpawnContext(),
    "forkserver": ForkServerContext(),
}


@overload
def get_context(method: Literal["fork"]) -> ForkContext: ...
@overload
def get_context(method: Literal["spawn"]) -> SpawnContext: ...
@overload
def get_context(method: Literal["forkserver"]) -> ForkServerContext: ...
@overload
def get_context(method: str | None = None) -> ForkContext | SpawnContext | ForkServerContext: ...
def get_context(method: str | None = None) -> ForkContext | SpawnContext | ForkServerContext:
    """Return the context of a start method, by default of the one that is set.

    Raises:
        ValueError: there is no such start method.
    """
    # The standard library keeps the default, for both.
    standard = multiprocessing.get_context(method)
    return _contexts[standard.get_start_method()]


def Manager() -> "SyncManager":  # noqa: N802
    """Start a server, and return the manager that makes objects in it."""
    return get_context().Manager()


def __getattr__(name: str) -> Any:
    return getattr(_standard, name)
