"""The shared Semaphore and BoundedSemaphore: their operations, proxies and factories.

Both stand in one file, since they differ in one rule only: whether there may be more permits than
there were at first.
"""

from collections.abc import Coroutine
from functools import partial
from math import isfinite
from typing import Any, Final, NoReturn

from aiomanager.errors import NotOwner
from aiomanager.operation import SharedObject, acquires, owned, reads
from aiomanager.proxy import AsyncFactory, AsyncProxy, SyncFactory, SyncProxy
from aiomanager.waiter import ANYBODY, Alarm, Caller, Waiter, WaitQueue

__all__ = (
    "BoundedSemaphore",
    "BoundedSemaphoreProxy",
    "Semaphore",
    "SemaphoreProxy",
    "SyncBoundedSemaphoreProxy",
    "SyncSemaphoreProxy",
)


REMEMBERED: Final = 10_000
"""How many ended leases are remembered whose holders have not said a word since: permits may be
taken for a while and never be released, to limit a rate."""


class _Permit:
    """One permit that is out: who has it, and when it comes back by itself."""

    __slots__ = ("alarm", "caller", "lapsed", "since", "tracked")

    def __init__(self, caller: Caller, *, tracked: bool) -> None:
        self.caller = caller
        self.since = caller.holder.now()
        self.tracked = tracked
        """Whether it comes back when its session or its lease ends; a signal does not."""
        self.alarm: Alarm | None = None
        self.lapsed: float | None = None
        """When its lease ended, with nobody having released it."""


def _check_lease(lease: float | None) -> None:
    if lease is not None and not (lease > 0 and isfinite(lease)):
        raise ValueError(f"a lease is a positive number of seconds, not {lease}")


class Semaphore(SharedObject):
    """A number of permits, each for one at a time, first come, first served.

    The server knows who has the permits. Those of a session that ends come back, and those whose
    lease ends. A release takes the caller's own permit back, else one of its session's, else the
    oldest that is out: one may acquire, and another release. A release while no permit is out
    adds one: from then on permits are signals, which are used up, and do not come back by
    themselves unless they have a lease.
    """

    def __init__(self, value: int = 1) -> None:
        if value < 0:
            raise ValueError(f"the number of permits must be 0 or more, not {value}")
        self._value = value
        self._initial = value
        self._signals = False
        """Whether permits were added: they are not given back by those who are gone."""
        self._out: dict[_Permit, None] = {}
        """The permits that are out, the oldest first."""
        self._lapsed: dict[_Permit, None] = {}
        """Those whose lease has ended, until their holder takes notice or is gone."""
        self._waiting = WaitQueue[bool](self._serve)

    def _conflict(self, *arguments: Any) -> str | None:
        asked = arguments[0] if arguments else 1
        if asked != self._initial:
            return f"was made with {self._initial} permits, not {asked}"
        return None

    def _take(self, caller: Caller, lease: float | None) -> _Permit:
        self._value -= 1
        permit = _Permit(caller, tracked=not self._signals or lease is not None)
        if permit.tracked:
            self._out[permit] = None
            stays = caller.owner == ANYBODY
            caller.holder.hold(permit, partial(self._lost, permit), stays=stays)
            self._let(permit, lease)
        return permit

    def _let(self, permit: _Permit, lease: float | None) -> None:
        """Begin a lease; the one before it no longer counts."""
        if permit.alarm is not None:
            permit.alarm.cancel()
        permit.alarm = None
        if lease is not None:
            permit.alarm = permit.caller.holder.later(lease, partial(self._lapse, permit))

    def _forget(self, permit: _Permit) -> None:
        del self._out[permit]
        permit.caller.holder.let_go(permit)
        self._let(permit, None)

    def _give_back(self) -> None:
        self._value += 1
        self._serve()

    def _lost(self, permit: _Permit) -> None:
        """The session that has the permit is gone."""
        self._lapsed.pop(permit, None)
        if permit in self._out:
            self._forget(permit)
            self._give_back()

    def _lapse(self, permit: _Permit) -> None:
        if permit in self._out:
            del self._out[permit]
            permit.alarm = None
            permit.lapsed = permit.caller.holder.now()
            # Who has it does not know, and will release it: that must not give back another.
            self._lapsed[permit] = None
            if len(self._lapsed) > REMEMBERED:
                self._let_lapsed_go(next(iter(self._lapsed)))
            self._give_back()

    def _let_lapsed_go(self, permit: _Permit) -> None:
        del self._lapsed[permit]
        permit.caller.holder.let_go(permit)

    def _undo(self, permit: _Permit) -> None:
        if permit in self._out:
            self._forget(permit)
            self._give_back()
        elif permit in self._lapsed:
            self._let_lapsed_go(permit)
        elif not permit.tracked:
            self._give_back()
        # else another released it

    def _serve(self) -> None:
        while self._value > 0 and (waiter := self._waiting.pop()) is not None:
            permit = self._take(*waiter.request)
            waiter.grant(True, partial(self._undo, permit))

    def _own(self, caller: Caller) -> _Permit | None:
        """Return the permit that a release of `caller` gives back."""
        identity, holder = caller.identity, caller.holder
        for permit in self._out:
            if permit.caller.identity == identity:
                return permit
        for permit in self._lapsed:
            if permit.caller.identity == identity:
                self._let_lapsed_go(permit)
                self._say_lapsed(permit, caller)
        for permit in self._out:
            if permit.caller.holder is holder:
                return permit
        return None if self._signals else next(iter(self._out), None)

    def _say_lapsed(self, permit: _Permit, caller: Caller) -> NoReturn:
        ago = caller.now - (permit.lapsed or 0.0)
        raise NotOwner(
            f"the lease of this permit ended {ago:.3f} s ago, and others may have it since; "
            "renew(lease) in time, or acquire with a longer lease"
        )

    @acquires
    def acquire(
        self,
        caller: Caller,
        blocking: bool = True,
        timeout: float | None = None,
        lease: float | None = None,
        owner: str | None = None,
    ) -> bool | Waiter[bool]:
        """Take a permit, once there is one; tell whether that was within `timeout` seconds.

        Does not wait at all unless `blocking`. With a `lease` the permit comes back by itself
        after so many seconds, unless it is renewed. It belongs to the calling task or thread,
        or to `owner`.

        Raises:
            ValueError: a timeout for a call that does not block, or a lease that is not positive.
        """
        if not blocking and timeout is not None:
            raise ValueError("can't specify timeout for non-blocking acquire")
        _check_lease(lease)
        caller = caller.named(owner)
        if self._value > 0:
            return Waiter.granted(True, partial(self._undo, self._take(caller, lease)))
        if not blocking or (timeout is not None and timeout <= 0):
            return False
        return self._waiting.park(timeout, lambda: False, (caller, lease))

    @owned
    def release(self, caller: Caller, owner: str | None = None) -> None:
        """Give a permit back, to the longest waiting caller: one's own, else as the type says.

        Raises:
            NotOwner: the lease of the caller's permit has ended, and it came back by itself.
            ValueError: of a BoundedSemaphore, when no permit is out.
        """
        permit = self._own(caller.named(owner))
        if permit is not None:
            self._forget(permit)
        else:
            self._add()
        self._give_back()

    def _add(self) -> None:
        """Take note of a permit that comes on top of those that there were."""
        self._signals = True

    @owned
    def renew(self, caller: Caller, lease: float, owner: str | None = None) -> None:
        """Have the caller's permits come back by themselves after `lease` seconds from now on.

        Raises:
            NotOwner: the caller has no permit, or its lease has ended.
            ValueError: a lease that is not positive.
        """
        _check_lease(lease)
        caller = caller.named(owner)
        mine = [permit for permit in self._out if permit.caller.identity == caller.identity]
        if not mine:
            for permit in self._lapsed:
                if permit.caller.identity == caller.identity:
                    self._say_lapsed(permit, caller)
            raise NotOwner(f"{caller} has no permit that could be renewed")
        for permit in mine:
            self._let(permit, lease)

    @reads
    def value(self) -> int:
        """Return how many permits there are to take now."""
        return self._value

    @reads
    def locked(self) -> bool:
        """Tell whether there is no permit to take now."""
        return self._value == 0

    @owned
    def holders(self, caller: Caller) -> list[tuple[str, float]]:
        """Return who has the permits that are out, each since how many seconds."""
        return [(str(permit.caller), caller.now - permit.since) for permit in self._out]

    @reads
    def waiting(self) -> int:
        """Return how many wait for a permit."""
        return len(self._waiting)


class BoundedSemaphore(Semaphore):
    """A semaphore that never has more permits than it was made with.

    A release too many raises ValueError. All else is as with a Semaphore.
    """

    def _add(self) -> None:
        raise ValueError(
            f"semaphore released too many times: all of its {self._initial} permits are there"
        )


class SemaphoreProxy(AsyncProxy, Semaphore):
    """A shared semaphore for async code: `async with semaphore`."""

    sync: "SyncSemaphoreProxy"

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(self, *_error: object) -> None:
        self._post(Semaphore.release)


class SyncSemaphoreProxy(SyncProxy, Semaphore):
    """A shared semaphore for blocking code: `with semaphore`."""

    aio: "SemaphoreProxy"

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_error: object) -> None:
        self._post(Semaphore.release)


class BoundedSemaphoreProxy(SemaphoreProxy, BoundedSemaphore):
    """A shared bounded semaphore for async code: `async with semaphore`."""

    sync: "SyncBoundedSemaphoreProxy"  # pyright: ignore[reportIncompatibleVariableOverride]


class SyncBoundedSemaphoreProxy(SyncSemaphoreProxy, BoundedSemaphore):
    """A shared bounded semaphore for blocking code: `with semaphore`."""

    aio: "BoundedSemaphoreProxy"  # pyright: ignore[reportIncompatibleVariableOverride]


class SemaphoreFactory(AsyncFactory):
    """Makes anonymous semaphores for async code."""

    def Semaphore(self, value: int = 1) -> Coroutine[Any, Any, SemaphoreProxy]:  # noqa: N802
        """Make a shared semaphore with so many permits; raise ValueError for less than 0."""
        return self._make(SemaphoreProxy, None, (value,), {})


class NamedSemaphoreFactory(AsyncFactory):
    """Finds or makes named semaphores for async code."""

    def Semaphore(  # noqa: N802
        self, name: str, /, value: int = 1
    ) -> Coroutine[Any, Any, SemaphoreProxy]:
        """Find or make the shared semaphore of this name.

        Raises:
            NameConflict: it was made with another number of permits.
            ValueError: `value` is less than 0.
        """
        return self._make(SemaphoreProxy, name, (value,), {})


class SyncSemaphoreFactory(SyncFactory):
    """Makes anonymous semaphores for blocking code."""

    def Semaphore(self, value: int = 1) -> SyncSemaphoreProxy:  # noqa: N802
        """Make a shared semaphore with so many permits; raise ValueError for less than 0."""
        return self._make(SyncSemaphoreProxy, None, (value,), {})  # type: ignore[no-any-return]


class SyncNamedSemaphoreFactory(SyncFactory):
    """Finds or makes named semaphores for blocking code."""

    def Semaphore(self, name: str, /, value: int = 1) -> SyncSemaphoreProxy:  # noqa: N802
        """Find or make the shared semaphore of this name.

        Raises:
            NameConflict: it was made with another number of permits.
            ValueError: `value` is less than 0.
        """
        return self._make(SyncSemaphoreProxy, name, (value,), {})  # type: ignore[no-any-return]


class BoundedSemaphoreFactory(AsyncFactory):
    """Makes anonymous bounded semaphores for async code."""

    def BoundedSemaphore(  # noqa: N802
        self, value: int = 1
    ) -> Coroutine[Any, Any, BoundedSemaphoreProxy]:
        """Make a shared semaphore of at most so many permits; raise ValueError for less than 0."""
        return self._make(BoundedSemaphoreProxy, None, (value,), {})


class NamedBoundedSemaphoreFactory(AsyncFactory):
    """Finds or makes named bounded semaphores for async code."""

    def BoundedSemaphore(  # noqa: N802
        self, name: str, /, value: int = 1
    ) -> Coroutine[Any, Any, BoundedSemaphoreProxy]:
        """Find or make the shared bounded semaphore of this name.

        Raises:
            NameConflict: it was made with another number of permits.
            ValueError: `value` is less than 0.
        """
        return self._make(BoundedSemaphoreProxy, name, (value,), {})


class SyncBoundedSemaphoreFactory(SyncFactory):
    """Makes anonymous bounded semaphores for blocking code."""

    def BoundedSemaphore(self, value: int = 1) -> SyncBoundedSemaphoreProxy:  # noqa: N802
        """Make a shared semaphore of at most so many permits; raise ValueError for less than 0."""
        return self._make(SyncBoundedSemaphoreProxy, None, (value,), {})  # type: ignore[no-any-return]


class SyncNamedBoundedSemaphoreFactory(SyncFactory):
    """Finds or makes named bounded semaphores for blocking code."""

    def BoundedSemaphore(  # noqa: N802
        self, name: str, /, value: int = 1
    ) -> SyncBoundedSemaphoreProxy:
        """Find or make the shared bounded semaphore of this name.

        Raises:
            NameConflict: it was made with another number of permits.
            ValueError: `value` is less than 0.
        """
        return self._make(SyncBoundedSemaphoreProxy, name, (value,), {})  # type: ignore[no-any-return]
