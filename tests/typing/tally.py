"""A user's own shared type, in a module of its own: nothing in the package knows it."""

from collections.abc import Callable, Generator
from typing import Any

from aiomanager import (
    AsyncProxy,
    Caller,
    SharedObject,
    SyncProxy,
    Waiter,
    WaitQueue,
    acquires,
    composite,
    owned,
    reads,
    waits,
    writes,
)


class Tally(SharedObject):
    """Votes for names, each voter having one; whoever likes waits for a number of votes."""

    def __init__(self, names: list[str], seats: int = 1) -> None:
        self._votes = dict.fromkeys(names, 0)
        self._voters: set[Any] = set()
        self._waiting = WaitQueue[int](self._serve)
        self._seats = seats
        self._taken: dict[Callable[[], None], Any] = {}
        """Who has a seat, by what gives it back."""

    def _serve(self) -> None:
        while (first := self._waiting.first()) is not None and first.request <= len(self._voters):
            self._waiting.pop()
            first.grant(len(self._voters))

    @owned
    def vote(self, caller: Caller, name: str, owner: str | None = None) -> int:
        """Vote for `name` and return its votes.

        Raises:
            KeyError: nobody has that name.
            ValueError: the caller has voted before.
        """
        voter = caller.named(owner).identity
        if voter in self._voters:
            raise ValueError(f"{caller} has voted before")
        self._votes[name] += 1
        self._voters.add(voter)
        self._serve()
        return self._votes[name]

    @writes
    def nominate(self, name: str) -> None:
        """Let people vote for `name`."""
        self._votes.setdefault(name, 0)

    @reads
    def votes(self) -> dict[str, int]:
        """Return the votes for each name."""
        return dict(self._votes)

    @waits
    def wait(self, votes: int, timeout: float | None = None) -> int | Waiter[int]:
        """Wait until so many have voted; return how many have, -1 if not in time."""
        if votes <= len(self._voters):
            return len(self._voters)
        return self._waiting.park(timeout, lambda: -1, votes)

    @acquires
    def take_seat(self, caller: Caller) -> bool | Waiter[bool]:
        """Take a seat while there is one; it is free again when the caller's session ends."""
        if not self._seats:
            return False
        self._seats -= 1

        def give_back() -> None:
            del self._taken[give_back]
            caller.holder.let_go(give_back)
            self._seats += 1

        self._taken[give_back] = caller.identity
        caller.holder.hold(give_back, give_back)
        return Waiter.granted(True, give_back)

    @take_seat.released_by
    @owned
    def leave_seat(self, caller: Caller) -> None:
        """Leave a seat, as only who has taken it may.

        Raises:
            RuntimeError: the caller has no seat.
        """
        for give_back, who in self._taken.items():
            if who == caller.identity:
                give_back()
                return
        raise RuntimeError(f"{caller} has no seat")

    @reads
    def seats(self) -> int:
        """Return how many seats are free."""
        return self._seats

    @composite
    def winner(self) -> Generator[Any, Any, str]:
        """Return who has most votes; worked out in the client."""
        votes: dict[str, int] = yield self.votes()
        return max(votes, key=lambda name: votes[name])


class TallyProxy(AsyncProxy, Tally):
    """A tally for async code."""

    sync: "SyncTallyProxy"


class SyncTallyProxy(SyncProxy, Tally):
    """A tally for blocking code."""

    aio: TallyProxy

    def __len__(self) -> int:
        return sum(self.votes().values())
