"""The shared Barrier: its operations, its two proxies and its factories.

Without an action, the last party's call lets everybody through in one step. With one, that call
is told to run it, in its own client, and the others stay until it says that this is done: the
server never runs what its clients bring.

    filling ----the last party----> acting ----pass_on----> filling
       |  <----it takes its call back----+
       +----deadline, abort----> broken <----the action fails, or who runs it dies
"""

from collections.abc import Callable, Coroutine, Generator, Hashable
from functools import partial
from typing import Any, Final, cast

from aiomanager.errors import BrokenBarrierError, ManagerError
from aiomanager.operation import Opaque, SharedObject, acquires, composite, reads, writes
from aiomanager.proxy import AsyncFactory, AsyncProxy, SyncFactory, SyncProxy
from aiomanager.stored import opened
from aiomanager.waiter import Caller, Holder, Waiter, WaitQueue

__all__ = ("Barrier", "BarrierProxy", "SyncBarrierProxy")

NOBODY: Final = 0
"""The turn of an answer to who has no action to run."""


class _Seat(Waiter[Any]):
    """One party that waits."""

    __slots__ = ("barrier", "caller", "overdue", "place")

    def __init__(self, barrier: "Barrier", caller: Caller, timeout: float | None) -> None:
        super().__init__()
        self.barrier = barrier
        self.caller = caller
        self.timeout = timeout
        self.overdue = False
        self.place = 0
        """Its ticket among those who wait for more parties."""

    def expire(self) -> None:
        """Break the barrier, unless this party is through but for the action."""
        if not self.settled:
            self.overdue = True
            self.barrier._look_at_overdue()  # pyright: ignore[reportPrivateUsage]


class Barrier(SharedObject):
    """A place where a number of parties wait until all of them are there, again and again.

    A party whose call is taken back, or whose session ends while it waits, gives up its seat.
    """

    def __init__(self, parties: int, action: Opaque = None, timeout: float | None = None) -> None:
        if parties < 1:
            raise ValueError(f"the number of parties must be 1 or more, not {parties}")
        self._parties = parties
        self._action = action
        self._has_action = opened(action) is not None
        self._timeout = timeout
        self._broken = False
        self._seats = WaitQueue[Any](self._nothing)
        self._inside = WaitQueue[Any](self._nothing)
        """Those who are through but for the action."""
        self._turn = NOBODY
        """The number of the action that runs now."""
        self._last_turn = NOBODY
        self._acting: Holder | None = None
        """The session that runs it."""
        self._acting_for: Hashable | None = None
        """The task or thread that does, if it is known."""

    def _nothing(self) -> None:
        """Nobody is let through because somebody has left."""

    def _conflict(self, *arguments: Any) -> str | None:
        if arguments[0] != self._parties:
            return f"has {self._parties} parties, not {arguments[0]}"
        return None

    def _serve(self) -> None:
        while not self._turn and len(self._seats) >= self._parties:
            # Those without a connection too: they are told when they are back.
            while len(self._inside) < self._parties:
                seat = cast("_Seat", self._seats.first(suspended=True))
                seat.place = seat.ticket
                self._seats.hand_over(seat, self._inside)
            if self._has_action:
                self._begin(cast("_Seat", self._inside.pop(suspended=True)))
            else:
                self._let_through()

    def _begin(self, seat: _Seat) -> None:
        """Have a party run the action; its call is the first that is answered."""
        self._last_turn += 1
        self._turn = self._last_turn
        self._acting = seat.caller.holder
        self._acting_for = seat.caller.blocked
        self._acting.hold(self, partial(self._broke_off, self._turn))
        seat.grant((0, self._turn, self._action), partial(self._take_back, self._turn))

    def _end(self) -> None:
        self._turn = NOBODY
        if self._acting is not None:
            self._acting.let_go(self)
            self._acting = self._acting_for = None

    def _let_through(self) -> None:
        first = 1 if self._turn else 0
        self._end()
        for index, seat in enumerate(self._inside.pop_all(), first):
            seat.grant((index, NOBODY, None))

    def _take_back(self, turn: int) -> None:
        """The action was not begun: the others wait for another party."""
        if self._turn == turn:
            self._end()
            while (seat := self._inside.first(suspended=True)) is not None:
                self._inside.hand_over(seat, self._seats, ticket=cast("_Seat", seat).place)
            self._serve()
            self._look_at_overdue()

    def _broke_off(self, turn: int) -> None:
        if self._turn == turn:
            self._break("the party that ran its action is gone")

    def _break(self, why: str) -> None:
        self._broken = True
        self._fail_all(f"the barrier was broken while the call waited: {why}")

    def _fail_all(self, why: str) -> None:
        self._end()
        for seat in [*self._inside.pop_all(), *self._seats.pop_all()]:
            seat.fail(BrokenBarrierError(why))

    def _look_at_overdue(self) -> None:
        """Break the barrier if the time of a party is over that still needs others."""
        if self._turn:
            return
        if any(cast("_Seat", seat).overdue for seat in self._seats.everybody()):
            self._break("a party waited longer than its timeout")

    @acquires
    def arrive(
        self, caller: Caller, timeout: float | None = None
    ) -> tuple[int, int, Opaque] | Waiter[tuple[int, int, Opaque]]:
        """Wait for all parties; return this one's index, the turn, and the action.

        A turn other than 0 is the caller's to run the action in, and then to `pass_on`, or to
        `fail`: until then the others wait, whatever their timeouts. Who comes again without having
        said either has failed. `wait` does all that. The default timeout is the barrier's own.

        Raises:
            threading.BrokenBarrierError: the barrier is broken, or was meanwhile, or reset.
        """
        if self._acting_for is not None and self._acting_for == caller.blocked:
            self._break("the party that was to run its action has come back without")
        if self._broken:
            raise BrokenBarrierError("the barrier is broken; reset() makes it usable again")
        if timeout is None:
            timeout = self._timeout
        if timeout is not None and timeout != timeout:
            raise ValueError("a timeout must be a number of seconds, not NaN")
        seat = _Seat(self, caller, timeout)
        self._seats.enter(seat)
        self._serve()
        if timeout is not None and timeout <= 0:
            seat.expire()
        return seat

    @writes
    def pass_on(self, turn: int) -> None:
        """Let the others through: the action of this turn is done.

        Raises:
            threading.BrokenBarrierError: the barrier was broken, or reset, during the action.
        """
        if turn == NOBODY or turn != self._turn:
            raise BrokenBarrierError("the barrier was broken or reset during its action")
        self._let_through()
        self._serve()
        self._look_at_overdue()

    @writes
    def fail(self, turn: int) -> None:
        """Break the barrier: the action of this turn has failed.

        Nothing happens if the barrier was broken or reset meanwhile: others have begun anew.
        """
        if turn != NOBODY and turn == self._turn:
            self._break("its action failed")

    @writes
    def reset(self) -> None:
        """Make the barrier empty and whole; whoever waits gets BrokenBarrierError."""
        self._broken = False
        self._fail_all("the barrier was reset while the call waited")

    @writes
    def abort(self) -> None:
        """Break the barrier: whoever waits, or comes, gets BrokenBarrierError until `reset`."""
        self._break("it was aborted")

    @reads
    def parties(self) -> int:
        """Return how many parties it takes."""
        return self._parties

    @reads
    def n_waiting(self) -> int:
        """Return how many parties wait now."""
        return len(self._seats) + len(self._inside) + bool(self._turn)

    @reads
    def broken(self) -> bool:
        """Tell whether the barrier is broken."""
        return self._broken

    @composite
    def wait(self, timeout: float | None = None) -> Generator[Any, Any, int]:
        """Wait until all parties are there; return a number that each party gets another of.

        The barrier's action, if it has one, runs in one of them before any is let through. When
        the `timeout` (seconds; default: the barrier's own) is over, the barrier is broken.

        Raises:
            threading.BrokenBarrierError: the barrier is broken, or was meanwhile, or reset.
        """
        turn = NOBODY
        try:
            index, turn, action = yield self.arrive(timeout)
            if turn:
                result = action()
                if hasattr(result, "__await__"):
                    yield result
                yield self.pass_on(turn)
        except BaseException:
            if turn:
                self._say_failed(turn)
            raise
        return cast("int", index)

    def _say_failed(self, turn: int) -> None:
        """Have a client break the barrier, unless it has passed its turn on."""
        # Posted: who is cancelled cannot wait, and what he would wait for might never be sent.
        try:
            cast("Any", self)._post(Barrier.fail, turn)
        except ManagerError:
            pass  # the session is lost, which breaks the barrier as well


class BarrierProxy(AsyncProxy, Barrier):
    """A shared barrier for async code."""

    sync: "SyncBarrierProxy"


class SyncBarrierProxy(SyncProxy, Barrier):
    """A shared barrier for blocking code; `parties`, `n_waiting`, `broken` are properties."""

    aio: "BarrierProxy"

    def wait(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, timeout: float | None = None
    ) -> int:
        """Wait until all parties are there; return a number that each party gets another of.

        The barrier's action, if it has one, runs in one of them before any is let through. When
        the `timeout` (seconds; default: the barrier's own) is over, the barrier is broken.

        Raises:
            threading.BrokenBarrierError: the barrier is broken, or was meanwhile, or reset.
        """
        turn = NOBODY
        try:
            # Written out: behind the call nothing runs in which a signal handler could raise
            # before the turn is known here.
            index, turn, action = self.arrive(timeout)
            if turn:
                result = action()
                if hasattr(result, "__await__"):
                    result.close()
                    raise TypeError(
                        "the barrier's action is a coroutine function, and the party whose turn "
                        "it is to run it is a blocking one"
                    )
                self.pass_on(turn)
        except BaseException:
            if turn:
                try:
                    self._say_failed(turn)
                except BaseException:  # interrupted once more
                    self._say_failed(turn)
                    raise
            raise
        return index

    @property
    def parties(self) -> int:  # type: ignore[override]  # pyright: ignore
        """How many parties it takes."""
        return cast("int", self._call(self, Barrier.parties, ()))

    @property
    def n_waiting(self) -> int:  # type: ignore[override]  # pyright: ignore
        """How many parties wait now."""
        return cast("int", self._call(self, Barrier.n_waiting, ()))

    @property
    def broken(self) -> bool:  # type: ignore[override]  # pyright: ignore
        """Whether the barrier is broken."""
        return cast("bool", self._call(self, Barrier.broken, ()))


class BarrierFactory(AsyncFactory):
    """Makes anonymous barriers for async code."""

    def Barrier(  # noqa: N802
        self, parties: int, action: Callable[[], Any] | None = None, timeout: float | None = None
    ) -> Coroutine[Any, Any, BarrierProxy]:
        """Make a shared barrier for so many parties.

        `action`, a function or coroutine function that can be pickled, runs in the client of
        one of them each time; `timeout` is the default of `wait`.
        """
        return self._make(BarrierProxy, None, (parties, action, timeout), {})


class NamedBarrierFactory(AsyncFactory):
    """Finds or makes named barriers for async code."""

    def Barrier(  # noqa: N802
        self,
        name: str,
        /,
        parties: int,
        action: Callable[[], Any] | None = None,
        timeout: float | None = None,
    ) -> Coroutine[Any, Any, BarrierProxy]:
        """Find or make the shared barrier of this name; `action` counts for its maker only.

        Raises:
            NameConflict: it was made for another number of parties.
        """
        return self._make(BarrierProxy, name, (parties, action, timeout), {})


class SyncBarrierFactory(SyncFactory):
    """Makes anonymous barriers for blocking code."""

    def Barrier(  # noqa: N802
        self, parties: int, action: Callable[[], Any] | None = None, timeout: float | None = None
    ) -> SyncBarrierProxy:
        """Make a shared barrier for so many parties.

        `action`, a function that can be pickled, runs in the client of one of them each time;
        `timeout` is the default of `wait`.
        """
        return self._make(SyncBarrierProxy, None, (parties, action, timeout), {})  # type: ignore[no-any-return]


class SyncNamedBarrierFactory(SyncFactory):
    """Finds or makes named barriers for blocking code."""

    def Barrier(  # noqa: N802
        self,
        name: str,
        /,
        parties: int,
        action: Callable[[], Any] | None = None,
        timeout: float | None = None,
    ) -> SyncBarrierProxy:
        """Find or make the shared barrier of this name; `action` counts for its maker only.

        Raises:
            NameConflict: it was made for another number of parties.
        """
        return self._make(SyncBarrierProxy, name, (parties, action, timeout), {})  # type: ignore[no-any-return]
