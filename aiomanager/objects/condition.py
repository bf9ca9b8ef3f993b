"""The shared Condition: its operations, its two proxies and its factories.

A call of `wait` gives the lock up entirely, sleeps, and is answered when it has the lock again:
notified or too late, and also when its caller takes it back. So whoever comes out of a `wait`,
whichever way, holds the lock as before; only with its session does a wait end without it. What
a caller who took it back, or died, was notified of goes to the next who sleeps.

    asleep ----notify, deadline, cancel----> in line for the lock ----> answered, with the lock
"""

from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, TypeVar, cast, overload

from aiomanager.objects.locking import (
    Claim,
    Lockable,
    LockableProxy,
    Mutex,
    SyncLockableProxy,
)
from aiomanager.operation import Shared, acquires, composite, owned, reads, regains
from aiomanager.proxy import AsyncFactory, SyncFactory
from aiomanager.waiter import ANYBODY, Caller, Waiter, WaitQueue

__all__ = ("Condition", "ConditionProxy", "SyncConditionProxy")

T = TypeVar("T")


class _Sleeper(Waiter[Any]):
    """One call of `wait`."""

    __slots__ = ("asleep", "caller", "condition", "depth", "form", "notified")

    def __init__(
        self,
        condition: "Condition",
        caller: Caller,
        timeout: float | None,
        form: Callable[[bool, int], Any],
    ) -> None:
        super().__init__()
        self.timeout = timeout
        self.condition = condition
        self.caller = caller
        self.depth = 0
        """How many times over it held the lock."""
        self.form = form
        """Makes the answer out of whether it was notified, and the lock's fence."""
        self.asleep = True
        self.notified = False

    def grant(self, value: Any, undo: Callable[[], None] | None = None) -> None:
        """Answer: the lock is there. To take that back leaves the lock with its caller."""
        super().grant(self.form(self.notified, value), self.pass_on)

    def pass_on(self) -> None:
        """Notify another one of what this one was notified of."""
        if self.notified:
            self.notified = False
            self.condition._notify(1)  # pyright: ignore[reportPrivateUsage]

    def expire(self) -> None:
        """Wake up because the time is over; it may take longer to have the lock again."""
        if not self.settled and self.asleep:
            self.condition._wake(self)  # pyright: ignore[reportPrivateUsage]

    def retract(self) -> bool | None:
        """Come back with the lock, as if the call had never been made."""
        if self.settled:
            return self.cancel()
        self.pass_on()
        if self.asleep:
            self.condition._wake(self)  # pyright: ignore[reportPrivateUsage]
        return None

    def cancel(self) -> bool:
        """End: its session does, and whatever that has."""
        waited = not self.settled
        cancelled = super().cancel()
        if waited:
            self.pass_on()
        return cancelled


class Condition(Lockable):
    """A lock whose owner may sleep until another one who holds it notifies him.

    The lock is the one that the condition is made with, a Lock or RLock, or an RLock of its own.
    Whoever sleeps is woken in the order of arrival.
    """

    def __init__(self, lock: Shared | None = None) -> None:
        if lock is not None and not isinstance(lock, Lockable):
            raise TypeError(f"a Condition is made with a Lock or RLock, not {lock!r:.40}")
        self._mutex = Mutex(reentrant=True) if lock is None else lock._mutex
        self._sleeping = WaitQueue[Any](self._nothing)

    def _nothing(self) -> None:
        """Nobody else wakes up because one has left, or is there again."""

    def _conflict(self, *arguments: Any) -> str | None:
        lock = arguments[0] if arguments else None
        if lock is not None and getattr(lock, "_mutex", None) is not self._mutex:
            return "was made with another lock"
        return None

    def _claim(self, caller: Caller, owner: str | None) -> Caller:
        # A lock that belongs to everybody is also the caller's.
        holder = self._mutex.owner
        everybodys = owner is None and holder is not None and holder.identity == ANYBODY
        return caller.named(ANYBODY if everybodys else owner)

    def _check(self, caller: Caller, owner: str | None, what: str) -> Caller:
        """Return as whom `caller` holds the lock.

        Raises:
            NotOwner, RuntimeError: he does not hold it.
        """
        caller = self._claim(caller, owner)
        self._mutex.check(caller, what)
        return caller

    def _sleep(
        self,
        caller: Caller,
        timeout: float | None,
        owner: str | None,
        form: Callable[[bool, int], Any],
    ) -> Waiter[Any]:
        caller = self._check(caller, owner, "wait with")
        if timeout is not None and timeout != timeout:
            raise ValueError("a timeout must be a number of seconds, not NaN")
        sleeper = _Sleeper(self, caller, timeout, form)
        self._sleeping.enter(sleeper)
        sleeper.depth = self._mutex.give_up()
        if timeout is not None and timeout <= 0:
            self._wake(sleeper)
        return sleeper

    def _wake(self, sleeper: _Sleeper) -> None:
        """Have one who sleeps stand in line for the lock."""
        sleeper.asleep = False
        # Whoever comes out of a `wait` has the lock: it cannot be refused.
        sleeper.request = Claim(sleeper.caller, sleeper.depth, deadlock=False)
        self._sleeping.hand_over(sleeper, self._mutex.waiting)
        self._mutex.serve()

    def _notify(self, n: int) -> None:
        # Those without a connection too, but last: if they stay away, they pass it on.
        while n > 0 and (sleeper := self._sleeping.first(suspended=True)) is not None:
            n -= 1
            sleeper = cast("_Sleeper", sleeper)
            sleeper.notified = True
            self._wake(sleeper)

    @regains
    @acquires
    def wait_fenced(
        self, caller: Caller, timeout: float | None = None, owner: str | None = None
    ) -> tuple[bool, int] | Waiter[tuple[bool, int]]:
        """Release the lock, sleep until notified, acquire it again.

        Returns whether it was notified, and the fence that the lock has now: others may have had
        it meanwhile. Sleeps at most `timeout` seconds; having the lock again may take longer. A
        call that is cancelled has it again as well; `holder` tells its fence.

        Raises:
            NotOwner: the lock belongs to somebody else, whom the message names.
            RuntimeError: the lock is not held.
        """
        return self._sleep(caller, timeout, owner, _fenced)

    @regains
    @acquires
    def wait_until(
        self,
        caller: Caller,
        timeout: float | None = None,
        deadline: float | None = None,
        owner: str | None = None,
    ) -> tuple[bool, float | None, int] | Waiter[tuple[bool, float | None, int]]:
        """Wait as `wait_fenced`; return whether it was notified, the deadline, and the fence.

        The deadline is of the server's clock. Several waits have one `timeout` in common so: the
        first one is given that, the others the deadline. This makes `wait_for`.

        Raises:
            NotOwner, RuntimeError: as wait_fenced.
        """
        if deadline is not None:
            timeout = deadline - caller.now
        elif timeout is not None:
            deadline = caller.now + timeout

        def form(notified: bool, fence: int) -> tuple[bool, float | None, int]:
            return notified, deadline, fence

        return self._sleep(caller, timeout, owner, form)

    @owned
    def notify(self, caller: Caller, n: int = 1, owner: str | None = None) -> None:
        """Wake the `n` who sleep longest, or all if there are less.

        Raises:
            NotOwner: the lock belongs to somebody else, whom the message names.
            RuntimeError: the lock is not held.
        """
        self._check(caller, owner, "notify with")
        self._notify(n)

    @owned
    def notify_all(self, caller: Caller, owner: str | None = None) -> None:
        """Wake all who sleep.

        Raises:
            NotOwner, RuntimeError: as notify.
        """
        self._check(caller, owner, "notify with")
        self._notify(len(self._sleeping))

    @reads
    def sleeping(self) -> int:
        """Return how many sleep until they are notified."""
        return len(self._sleeping)

    @composite
    def wait(
        self, timeout: float | None = None, owner: str | None = None
    ) -> Generator[Any, Any, bool]:
        """Wait as `wait_fenced`, keep the fence in `fence`, and tell whether notified.

        Raises:
            NotOwner, RuntimeError: as wait_fenced.
        """
        notified, self.fence = yield self.wait_fenced(timeout, owner)
        return cast("bool", notified)


def _fenced(notified: bool, fence: int) -> tuple[bool, int]:
    return notified, fence


class ConditionProxy(LockableProxy, Condition):
    """A shared condition for async code: `async with condition`."""

    sync: "SyncConditionProxy"

    @overload
    def wait_for(
        self, predicate: Callable[[], Awaitable[T]], timeout: float | None = None
    ) -> Coroutine[Any, Any, T]: ...
    @overload
    def wait_for(
        self, predicate: Callable[[], T], timeout: float | None = None
    ) -> Coroutine[Any, Any, T]: ...
    def wait_for(
        self, predicate: Callable[[], Any], timeout: float | None = None
    ) -> Coroutine[Any, Any, Any]:
        """Wait until `predicate()`, called here with the lock held, is true; return its value.

        It may be a plain function or a coroutine function. After `timeout` seconds its last
        value is returned, which is false.

        Raises:
            NotOwner, RuntimeError: as wait.
        """
        # The owner is read here: wait_for() of asyncio runs the coroutine in a task of its own.
        return self._wait_for(self._channel.owner(), predicate, timeout)

    async def _wait_for(
        self, owner: int, predicate: Callable[[], Any], timeout: float | None
    ) -> Any:
        deadline: float | None = None
        in_time = True
        while True:
            result = predicate()
            if hasattr(result, "__await__"):
                result = await result
            if result or not in_time:
                return result
            how = (timeout, deadline)
            in_time, deadline, self.fence = await self._call(self, Condition.wait_until, how, owner)


class SyncConditionProxy(SyncLockableProxy, Condition):  # pyright: ignore[reportIncompatibleVariableOverride]
    """A shared condition for blocking code: `with condition`."""

    aio: "ConditionProxy"

    def wait(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, timeout: float | None = None, owner: str | None = None
    ) -> bool:
        """Wait as `wait_fenced`, keep the fence in `fence`, and tell whether notified.

        Raises:
            NotOwner, RuntimeError: as wait_fenced.
        """
        # Written out, as acquire: no signal handler runs behind the call.
        notified, self.fence = self.wait_fenced(timeout, owner)
        return notified

    def wait_for(self, predicate: Callable[[], T], timeout: float | None = None) -> T:
        """Wait until `predicate()`, called here with the lock held, is true; return its value.

        After `timeout` seconds its last value is returned, which is false.

        Raises:
            NotOwner, RuntimeError: as wait.
        """
        deadline: float | None = None
        in_time = True
        while True:
            result = predicate()
            if result or not in_time:
                return result
            in_time, deadline, self.fence = self.wait_until(timeout, deadline)


class ConditionFactory(AsyncFactory):
    """Makes anonymous conditions for async code."""

    def Condition(  # noqa: N802
        self, lock: Lockable | None = None
    ) -> Coroutine[Any, Any, ConditionProxy]:
        """Make a shared condition over a shared Lock or RLock, or one of its own."""
        return self._make(ConditionProxy, None, (lock,), {})


class NamedConditionFactory(AsyncFactory):
    """Finds or makes named conditions for async code."""

    def Condition(  # noqa: N802
        self, name: str, /, lock: Lockable | None = None
    ) -> Coroutine[Any, Any, ConditionProxy]:
        """Find or make the shared condition of this name.

        Raises:
            NameConflict: it was made with another lock.
        """
        return self._make(ConditionProxy, name, (lock,), {})


class SyncConditionFactory(SyncFactory):
    """Makes anonymous conditions for blocking code."""

    def Condition(self, lock: Lockable | None = None) -> SyncConditionProxy:  # noqa: N802
        """Make a shared condition over a shared Lock or RLock, or one of its own."""
        return self._make(SyncConditionProxy, None, (lock,), {})  # type: ignore[no-any-return]


class SyncNamedConditionFactory(SyncFactory):
    """Finds or makes named conditions for blocking code."""

    def Condition(  # noqa: N802
        self, name: str, /, lock: Lockable | None = None
    ) -> SyncConditionProxy:
        """Find or make the shared condition of this name.

        Raises:
            NameConflict: it was made with another lock.
        """
        return self._make(SyncConditionProxy, name, (lock,), {})  # type: ignore[no-any-return]
