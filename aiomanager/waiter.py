"""Results that come later: waiters, the fair queues that hold them, and who is calling.

A waiter is the one way in which a shared object makes somebody wait, and the one way in which it
hands out what can be taken back: a queue item, a lock. There is no task, thread, loop or clock
here; the session that carries the call arms the deadline and says when a result was kept.

    parked ----> granted ----> kept          it outlives the receiver's session
       |            +--------> undone        cancelled, or its session ended before that
       +-------> ended                       a timeout's answer or an error: nothing to undo
       +-------> withdrawn                   cancelled, or its session ended, while waiting
"""

from collections.abc import Callable, Hashable, Iterator
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar

from aiomanager.deadlock import Deadlocks

__all__ = ("ANYBODY", "Alarm", "Caller", "Holder", "Later", "WaitQueue", "Waiter")

R = TypeVar("R")
T = TypeVar("T")

PARKED: Final = "parked"
GRANTED: Final = "granted"
KEPT: Final = "kept"
UNDONE: Final = "undone"
ENDED: Final = "ended"
WITHDRAWN: Final = "withdrawn"

ANYBODY: Final = ""
"""An owner that is everybody, for what one acquires and another releases: it stays acquired when
its acquirer ends in good order, and is given back when the acquirer dies."""


class Alarm(Protocol):
    """Something that is to happen later."""

    def cancel(self) -> object:
        """Have it not happen."""
        ...


Later: TypeAlias = Callable[[float, Callable[[], None]], Alarm]


class Waiter(Generic[R]):
    """One call's result: still to come, or come and not yet kept by its receiver."""

    __slots__ = (
        "_on_timeout",
        "_queue",
        "error",
        "listener",
        "request",
        "state",
        "ticket",
        "timeout",
        "undo",
        "value",
    )

    value: R

    def __init__(self) -> None:
        self.state = PARKED
        self.error: Exception | None = None
        self.timeout: float | None = None
        """Seconds after which the session calls `expire`; None waits for ever."""
        self.listener: Callable[[Waiter[R]], None] | None = None
        """Told once, when a parked waiter is granted or ended."""
        self.ticket = 0
        self.request: Any = None
        """What is waited for, as the object that parked it wants it."""
        self._queue: WaitQueue[R] | None = None
        self.undo: Callable[[], None] | None = None
        """What takes the result back, if something does."""
        self._on_timeout: Callable[[], R] | None = None

    @staticmethod
    def granted(value: T, undo: Callable[[], None]) -> "Waiter[T]":
        """Return a result that is there at once, and that `undo` takes back until it is kept."""
        # Without __init__: what concerns waiting is never asked for.
        waiter: Waiter[T] = Waiter.__new__(Waiter)  # pyright: ignore[reportUnknownVariableType]
        waiter.value = value
        waiter.state = GRANTED
        waiter.error = waiter.listener = waiter.timeout = waiter._queue = None
        waiter.undo = undo
        return waiter

    @property
    def settled(self) -> bool:
        """Whether the result, or an error, is there."""
        return self.state is not PARKED

    @property
    def undoable(self) -> bool:
        """Whether there is something to take back as long as the result is not kept."""
        return self.undo is not None

    def grant(self, value: R, undo: Callable[[], None] | None = None) -> None:
        """Give a parked waiter its result; its queue must have let go of it."""
        self.value = value
        self.undo = undo
        self._settle(GRANTED if undo is not None else ENDED)

    def fail(self, error: Exception) -> None:
        """End a parked waiter with an error."""
        self._leave()
        self.error = error
        self._settle(ENDED)

    def expire(self) -> None:
        """End a parked waiter because its time is over; any other state stays as it is."""
        if self.state is not PARKED:
            return
        self._leave()
        try:
            if self._on_timeout is None:
                raise TimeoutError("the wait took longer than its timeout")
            self.value = self._on_timeout()
        except Exception as error:
            self.error = error
        self._settle(ENDED)

    def keep(self) -> None:
        """Take note that the receiver has the result: the end of its session leaves it there.

        It can still be cancelled: by a receiver that was interrupted while it said so.
        """
        if self.state is GRANTED:
            self.state = KEPT

    def cancel(self) -> bool:
        """Take the call back; return whether it now counts as never made."""
        if self.state is PARKED:
            self.state = WITHDRAWN
            self._leave()
            return True
        if (self.state is GRANTED or self.state is KEPT) and self.undo is not None:
            self.state = UNDONE
            undo, self.undo = self.undo, None
            undo()
            return True
        return False

    def retract(self) -> bool | None:
        """Take the call back at its caller's wish; return as `cancel`.

        None: that takes a while, in which the call waits on; the listener is told at its end. A
        kind of waiter whose caller must have something again before it goes on (a lock that it
        gave up) answers so.
        """
        return self.cancel()

    def suspend(self) -> None:
        """Pass this waiter over while its session has no connection; it keeps its place."""
        if self._queue is not None:
            self._queue.suspend(self)

    def resume(self) -> None:
        """Consider this waiter again, at its old place."""
        if self._queue is not None:
            self._queue.resume(self)

    def _leave(self) -> None:
        if self._queue is not None:
            self._queue.discard(self)

    def _settle(self, state: str) -> None:
        self.state = state
        self._on_timeout = None
        listener, self.listener = self.listener, None
        if listener is not None:
            listener(self)


class WaitQueue(Generic[R]):
    """Those who wait for one thing, first come, first served.

    `serve` is the object's own function that hands out whatever it has to whoever is first. It
    is called here when that may have changed by itself: a waiter left, or came back.
    """

    __slots__ = ("_next_ticket", "_serve", "_sorted", "_suspended", "ready")

    def __init__(self, serve: Callable[[], None]) -> None:
        self._serve = serve
        self.ready: dict[Waiter[R], None] = {}
        """Those who can be served now, in order if `_sorted`."""
        self._suspended: dict[Waiter[R], None] = {}
        self._next_ticket = 0
        self._sorted = True

    def __len__(self) -> int:
        return len(self.ready) + len(self._suspended)

    def park(
        self,
        timeout: float | None = None,
        on_timeout: Callable[[], R] | None = None,
        request: Any = None,
    ) -> Waiter[R]:
        """Return a new waiter at the end of the queue.

        When its `timeout` (seconds) is over, `on_timeout` returns its result or raises.
        """
        waiter: Waiter[R] = Waiter()
        waiter.request = request
        waiter.timeout = timeout
        waiter._on_timeout = on_timeout  # pyright: ignore[reportPrivateUsage]
        self.enter(waiter)
        return waiter

    def enter(self, waiter: Waiter[R]) -> None:
        """Put a waiter, which is in no queue, at the end of this one."""
        self._next_ticket += 1
        waiter.ticket = self._next_ticket
        waiter._queue = self  # pyright: ignore[reportPrivateUsage]
        self.ready[waiter] = None

    def first(self, *, suspended: bool = False) -> Waiter[R] | None:
        """Return who is to be served next, or None.

        With `suspended`, one that is suspended is returned when there is no other.
        """
        if not self._sorted:
            self.ready = dict.fromkeys(sorted(self.ready, key=lambda waiter: waiter.ticket))
            self._sorted = True
        found = next(iter(self.ready), None)
        if found is None and suspended:
            found = min(self._suspended, key=lambda waiter: waiter.ticket, default=None)
        return found

    def hand_over(
        self, waiter: Waiter[R], to: "WaitQueue[Any]", *, ticket: int | None = None
    ) -> None:
        """Have `waiter` wait at the end of another queue; it stays suspended if it is.

        With the `ticket` that it had there, it is back at its old place.
        """
        suspended = waiter in self._suspended
        self.ready.pop(waiter, None)
        self._suspended.pop(waiter, None)
        to.enter(waiter)
        if ticket is not None:
            waiter.ticket = ticket
            to._sorted = False
        if suspended:
            to.suspend(waiter)

    def pop(self, *, suspended: bool = False) -> Waiter[R] | None:
        """Let go of who is to be served next and return it, or None; as `first`."""
        waiter = self.first(suspended=suspended)
        if waiter is not None:
            self.ready.pop(waiter, None)
            self._suspended.pop(waiter, None)
            waiter._queue = None  # pyright: ignore[reportPrivateUsage]
        return waiter

    def everybody(self) -> "list[Waiter[R]]":
        """Return all in order, also those who are suspended."""
        return sorted((*self.ready, *self._suspended), key=lambda waiter: waiter.ticket)

    def pop_all(self) -> "list[Waiter[R]]":
        """Let go of all, in order, also of those who are suspended."""
        everybody = self.everybody()
        self.ready.clear()
        self._suspended.clear()
        for waiter in everybody:
            waiter._queue = None  # pyright: ignore[reportPrivateUsage]
        return everybody

    def discard(self, waiter: Waiter[R]) -> None:
        """Forget a waiter that no longer waits."""
        self.ready.pop(waiter, None)
        self._suspended.pop(waiter, None)
        waiter._queue = None  # pyright: ignore[reportPrivateUsage]
        self._serve()

    def suspend(self, waiter: Waiter[R]) -> None:
        """Pass over `waiter` until it resumes."""
        if waiter in self.ready:
            del self.ready[waiter]
            self._suspended[waiter] = None

    def resume(self, waiter: Waiter[R]) -> None:
        """Consider `waiter` again, at its old place."""
        if waiter in self._suspended:
            del self._suspended[waiter]
            self.ready[waiter] = None
            self._sorted = False
            self._serve()


class Holder:
    """One session as shared objects see it: when it ends, what it holds passes on."""

    __slots__ = (
        "_held",
        "_staying",
        "away",
        "deadlocks",
        "description",
        "fences",
        "in_good_order",
        "later",
        "now",
    )

    def __init__(
        self,
        description: str,
        fences: Iterator[int],
        now: Callable[[], float],
        later: Later,
        deadlocks: Deadlocks,
    ) -> None:
        self.now = now
        """The store's clock, in seconds; it never goes back."""
        self.later = later
        """Has a function called after so many seconds of that clock, also when this session has
        ended by then. It is for what comes back by itself, such as a lease: who waits for it has
        no call of its own that would do it."""
        self.fences = fences
        """The store's fence tokens: each is larger than all before."""
        self.description = description
        """Names the session in messages to people, such as "pid 4182"."""
        self.deadlocks = deadlocks
        """The waits of all sessions of the store in which circles are looked for."""
        self.away = False
        """Whether its client cannot be reached at the moment: it is granted nothing."""
        self.in_good_order = False
        """Whether the client itself ends the session, and has not died."""
        self._held: dict[Hashable, Callable[[], None]] = {}
        self._staying: set[Hashable] = set()

    def hold(self, thing: Hashable, give_back: Callable[[], None], *, stays: bool = False) -> None:
        """Have `give_back` called if the session ends before `let_go(thing)`.

        What `stays` is not given back by a session that ends in good order.
        """
        self._held[thing] = give_back
        if stays:
            self._staying.add(thing)

    def let_go(self, thing: Hashable) -> None:
        """Forget what was given back in good order."""
        self._held.pop(thing, None)
        self._staying.discard(thing)

    def owners(self) -> set[Hashable]:
        """Return the identities of those in this session who hold a lock."""
        return {getattr(thing, "identity", None) for thing in self._held}

    def give_back(self, identity: Hashable) -> None:
        """Give back the locks of an owner in this session, who has ended."""
        mine = [thing for thing in self._held if getattr(thing, "identity", None) == identity]
        for thing in mine:
            # What is given back first may have ended others.
            give_back = self._held.pop(thing, None)
            if give_back is not None:
                give_back()

    def end(self) -> None:
        """Give back everything; the session must wait for nothing any more."""
        while self._held:
            thing, give_back = self._held.popitem()
            if not (self.in_good_order and thing in self._staying):
                give_back()


class Caller:
    """Who calls: a session, the task or thread in it, and the time of the call."""

    __slots__ = ("holder", "identity", "now", "owner")

    def __init__(self, holder: Holder, owner: int | str, now: float) -> None:
        self.holder = holder
        self.owner = owner
        self.identity: Hashable = owner if type(owner) is str else (holder, owner)
        """What ownership compares: an owner that was named by the caller is the same one in
        every session; a task or thread is one of its own session only."""
        self.now = now
        """The time of the call, in seconds of a clock that never goes back."""

    @property
    def blocked(self) -> Hashable | None:
        """The task or thread that can do nothing before the call is answered; None: not known."""
        return self.identity if self.owner else None

    def named(self, owner: str | None) -> "Caller":
        """Return this caller under the owner that it names, if it names one."""
        return self if owner is None else _As(self.holder, owner, self.now, self)

    def free(self) -> "Caller":
        """Return this caller as one whose task does not wait for the call itself."""
        return _As(self.holder, self.owner, self.now, None)

    def waiting_as(self) -> str:
        """Return who waits, in words."""
        return str(self)

    def __str__(self) -> str:
        who = self.owner if type(self.owner) is str else f"task or thread {self.owner}"
        return f"{self.holder.description}, {who}"


class _As(Caller):
    """A caller under a name of its own, or one that is not held up by the call."""

    __slots__ = ("_behind",)

    def __init__(self, holder: Holder, owner: int | str, now: float, behind: Caller | None) -> None:
        super().__init__(holder, owner, now)
        self._behind = behind
        """The task or thread, if it waits for the call."""

    @property
    def blocked(self) -> Hashable | None:
        return None if self._behind is None else self._behind.blocked

    def named(self, owner: str | None) -> Caller:
        return self if owner is None else _As(self.holder, owner, self.now, self._behind)

    def waiting_as(self) -> str:
        return str(self) if self._behind is None else f"{self._behind} (as {self.owner!r})"
