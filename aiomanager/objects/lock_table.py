"""The shared LockTable: its operations, its two proxies and its factories.

A claim stands in the line of each of its keys, from one moment on; who is first in all of them
has them. So of two claims that share a key, the one that came first is first in every line that
both stand in, and no circle of claims can come about, unless an owner claims more while he has
some, of this table or another lock: such a circle is found.
"""

from bisect import bisect_left
from collections.abc import Coroutine, Hashable, Iterable, Iterator
from functools import partial
from typing import Any, Generic, cast

from aiomanager.deadlock import Notes
from aiomanager.errors import NotOwner
from aiomanager.objects.locking import Place
from aiomanager.operation import Home, K, SharedObject, acquires, owned, reads
from aiomanager.proxy import AsyncFactory, AsyncProxy, SyncFactory, SyncProxy
from aiomanager.waiter import ANYBODY, Caller, Waiter

__all__ = ("LockTable", "LockTableProxy", "SyncLockTableProxy")


class _Claim(Waiter[int]):
    """Keys that somebody has, or waits for."""

    __slots__ = ("aside", "behind", "caller", "fence", "keys", "since", "table")

    def __init__(self, table: "LockTable[Any]", caller: Caller, keys: list[Any]) -> None:
        super().__init__()
        self.table = table
        self.caller = caller
        self.keys: dict[Any, None] = dict.fromkeys(keys)
        self.behind = 0
        """In how many lines somebody stands before it; 0: it has its keys."""
        self.aside = False
        """Whether it lets others pass: its session has no connection."""
        self.fence = 0
        self.since = 0.0

    def expire(self) -> None:
        """End with an error that names who has the keys."""
        if not self.settled:
            self.fail(TimeoutError(self.table._late(self)))  # pyright: ignore[reportPrivateUsage]

    def suspend(self) -> None:
        """Let others pass until it resumes."""
        if not self.settled and not self.aside:
            self.aside = True
            self.caller.holder.deadlocks.remove(self)
            self.table._step_out([(self, key) for key in self.keys])  # pyright: ignore[reportPrivateUsage]

    def resume(self) -> None:
        """Stand in line again, at the old place."""
        if not self.settled and self.aside:
            self.aside = False
            self.look_out(again=True)
            self.table._step_in(self, again=True)  # pyright: ignore[reportPrivateUsage]

    def look_out(self, *, again: bool = False) -> None:
        """Have it found if the wait that begins is one in a circle."""
        if self.timeout is None:
            self.caller.holder.deadlocks.add(self, self.caller, self, again=again)

    @property
    def identity(self) -> Hashable:
        """Who has the keys, as ownership is compared."""
        return self.caller.identity

    def in_front(self, notes: Notes) -> Iterator[Iterator[Hashable]]:
        """Return who must let go before the keys are free: who has them, or comes before."""
        lines = self.table._lines  # pyright: ignore[reportPrivateUsage]
        for key in self.keys:
            first = next(iter(lines.get(key, ())), None)
            if first is not None and first.settled:
                yield iter((first.identity,))
        for key in self.keys:
            # Who wants this key alone waits for whoever has it, as this claim does.
            wide = notes.get((self.table, key))
            if wide is None:
                wide = [one for one in lines.get(key, ()) if len(one.keys) > 1 and not one.settled]
                notes[self.table, key] = wide
            at = bisect_left(wide, self.ticket, key=lambda one: one.ticket)
            yield (wide[i].caller.blocked for i in range(at - 1, -1, -1))

    def tell(self, whom: Hashable, now: float) -> str:
        """Return which key is waited for, and since when who comes before has it."""
        where = self.table._place or "a LockTable"  # pyright: ignore[reportPrivateUsage]
        for position, other in self.table._before(self):  # pyright: ignore[reportPrivateUsage]
            if whom in (other.identity, other.caller.blocked):
                has = f"holds since {now - other.since:.3f} s" if other.settled else "wanted before"
                return f"key {position} of {len(self.keys)} of {where}, which {other.caller} {has}"
        return f"keys of {where}"

    def _leave(self) -> None:
        self.table._forget(self)  # pyright: ignore[reportPrivateUsage]


class LockTable(SharedObject, Generic[K]):
    """Locks by key, of which one call acquires several at once: all, or none.

    Whoever shares a key comes in the order of arrival. A key that nobody has or wants takes no
    memory. When the session of an owner ends, his keys pass on.
    """

    def __init__(self) -> None:
        self._lines: dict[Any, dict[_Claim, None]] = {}
        """By key: who has it, and then who waits for it."""
        self._next_ticket = 0
        self._place: Place | None = None
        self._parked = 0

    def _moved_in(self, home: Home, object_id: int) -> None:
        self._place = Place(home, self.type_name, object_id)

    # Lines

    def _step_in(self, claim: _Claim, *, again: bool = False) -> None:
        """Have a claim stand in its lines, behind those that came before it."""
        claim.behind = 0
        for key in claim.keys:
            line = self._lines.setdefault(key, {})
            later = [one for one in line if again and not one.settled and one.ticket > claim.ticket]
            if later and next(iter(line)) is later[0]:
                later[0].behind += 1
            else:
                claim.behind += bool(line)
            for other in later:
                del line[other]
            line[claim] = None
            line.update(dict.fromkeys(later))
        self._give_if_first(claim)

    def _step_out(self, places: Iterable[tuple[_Claim, Any]]) -> None:
        """Have claims leave the lines of keys; who is first everywhere then is served in order."""
        ready: list[_Claim] = []
        for claim, key in places:
            line = self._lines[key]
            was_first = next(iter(line)) is claim
            del line[claim]
            if not line:
                del self._lines[key]
            elif was_first:
                first = next(iter(line))
                first.behind -= 1
                if not first.behind:
                    ready.append(first)
        for one in sorted(ready, key=lambda claim: claim.ticket):
            self._give_if_first(one)

    def _give_if_first(self, claim: _Claim) -> None:
        holder = claim.caller.holder
        if claim.behind or claim.settled or holder.away:  # who is away is about to step aside
            return
        claim.since = holder.now()
        claim.fence = next(holder.fences)
        holder.hold(claim, partial(self._drop, claim), stays=claim.caller.owner == ANYBODY)
        self._parked -= 1
        holder.deadlocks.remove(claim)
        holder.deadlocks.given_to(claim.caller)
        claim.grant(claim.fence, partial(self._drop, claim))

    def _forget(self, claim: _Claim) -> None:
        """Have a claim that waited wait no more."""
        self._parked -= 1
        claim.caller.holder.deadlocks.remove(claim)
        if not claim.aside:
            self._step_out([(claim, key) for key in claim.keys])

    def _drop(self, claim: _Claim) -> None:
        """Take all keys from who has them."""
        if claim.keys:
            keys, claim.keys = claim.keys, {}
            claim.caller.holder.let_go(claim)
            self._step_out([(claim, key) for key in keys])

    def _before(self, claim: _Claim) -> Iterator[tuple[int, _Claim]]:
        """Return who stands before a claim, and in the line of which of its keys."""
        for position, key in enumerate(claim.keys, 1):
            for other in self._lines.get(key, ()):
                if other is claim:
                    break
                yield position, other

    def _late(self, claim: _Claim) -> str:
        held = [
            f"key {position} of {len(claim.keys)} is held by {other.caller} since "
            f"{claim.caller.holder.now() - other.since:.3f} s"
            for position, other in self._before(claim)
            if other.settled
        ]
        return "the keys were not free in time: " + (
            "; ".join(held) or "others wanted them before this call"
        )

    # Operations

    @acquires
    def acquire_keys(
        self,
        caller: Caller,
        keys: list[K],
        timeout: float | None = None,
        owner: str | None = None,
    ) -> int | Waiter[int]:
        """Acquire all `keys` at once and return a fence, a token that only rises.

        Waits at most `timeout` seconds, for ever by default. The keys belong to the calling
        task or thread, or to `owner`.

        Raises:
            TimeoutError: the keys were not free in time; the message names who has them.
            ValueError: no keys, or a negative timeout.
            DeadlockDetected: a wait without a timeout would never end: for a second, those who
                have what is waited for have waited for each other, and this call came last.
        """
        if not keys:
            raise ValueError("there must be at least one key to acquire")
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"a timeout is a number of seconds from 0 on, not {timeout}")
        claim = _Claim(self, caller.named(owner), keys)
        claim.timeout = timeout
        self._next_ticket += 1
        claim.ticket = self._next_ticket
        self._parked += 1
        self._step_in(claim)
        if timeout == 0:
            claim.expire()
        elif not claim.settled:
            claim.look_out()
        return claim

    @acquire_keys.released_by
    @owned
    def release_keys(self, caller: Caller, keys: list[K], owner: str | None = None) -> None:
        """Release `keys`, all or some of those that the caller has, as `owner` if named.

        Raises:
            NotOwner: a key belongs to somebody else, whom the message names.
            RuntimeError: a key is not held.
        """
        caller = caller.named(owner)
        claims: list[tuple[_Claim, K]] = []
        for position, key in enumerate(dict.fromkeys(keys), 1):
            first = next(iter(self._lines.get(key, ())), None)
            if first is None or not first.settled:
                raise RuntimeError(f"release of a key that is not held: number {position}")
            if first.caller.identity != caller.identity:
                raise NotOwner(
                    f"key {position} is held by {first.caller} since "
                    f"{caller.now - first.since:.3f} s, and only its owner may release it; "
                    f"this is {caller}"
                )
            claims.append((first, key))
        for claim, key in claims:
            del claim.keys[key]
            if not claim.keys:
                claim.caller.holder.let_go(claim)
        self._step_out(claims)

    @reads
    def locked(self, key: K) -> bool:
        """Tell whether somebody has the key."""
        return self._holder(key) is not None

    def _holder(self, key: Any) -> _Claim | None:
        first = next(iter(self._lines.get(key, ())), None)
        return first if first is not None and first.settled else None

    @owned
    def holders(self, caller: Caller) -> dict[K, tuple[str, float, int]]:
        """Return, by key, who has it, since how many seconds, and the fence."""
        return {
            key: (str(claim.caller), caller.now - claim.since, claim.fence)
            for key in self._lines
            if (claim := self._holder(key)) is not None
        }

    @reads
    def waiting(self) -> int:
        """Return how many calls wait for keys."""
        return self._parked


class _Held:
    """What `with table(...)` needs to know."""

    def __init__(
        self, table: Any, keys: tuple[Any, ...], timeout: float | None, owner: str | None
    ) -> None:
        self._table = table
        self._keys = list(keys)
        self._timeout = timeout
        self._owner = owner
        self.fence: int = 0
        """The token of this acquisition, to pass on to what the keys protect."""

    def _release(self) -> None:
        operation = cast("Any", LockTable).release_keys
        self._table._post(operation, self._keys, self._owner)


class KeysOfTable(_Held):
    """Keys of a table, for `async with`; it may be used again, but not inside of itself."""

    async def __aenter__(self) -> "KeysOfTable":
        self.fence = await self._table.acquire_keys(self._keys, self._timeout, self._owner)
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._release()


class SyncKeysOfTable(_Held):
    """Keys of a table, for `with`; it may be used again, but not inside of itself."""

    def __enter__(self) -> "SyncKeysOfTable":
        # Nothing is called behind it: a signal handler could raise there. Nor with `*arguments`,
        # for which the interpreter lets handlers in behind the call itself.
        self.fence = self._table.acquire_keys(self._keys, self._timeout, self._owner)
        return self

    def __exit__(self, *_error: object) -> None:
        self._release()


class LockTableProxy(AsyncProxy, LockTable[K]):
    """A shared table of locks for async code: `async with table("a", "b")`."""

    sync: "SyncLockTableProxy[K]"

    def __call__(
        self, *keys: K, timeout: float | None = None, owner: str | None = None
    ) -> KeysOfTable:
        """Return what acquires the keys, all at once, in an `async with`.

        Entering raises TimeoutError, which names who has the keys, when the `timeout` is over.
        """
        return KeysOfTable(self, keys, timeout, owner)

    def acquire(
        self, *keys: K, timeout: float | None = None, owner: str | None = None
    ) -> Coroutine[Any, Any, bool]:
        """Acquire all keys at once; tell whether that was within `timeout` seconds.

        Raises:
            ValueError, RuntimeError: as acquire_keys.
        """
        # Called here: the owner is who calls, not a task that awaits.
        return _in_time(self.acquire_keys(list(keys), timeout, owner))

    def release(self, *keys: K, owner: str | None = None) -> Coroutine[Any, Any, None]:
        """Release keys; raise NotOwner or RuntimeError, as release_keys."""
        return self.release_keys(list(keys), owner)


async def _in_time(acquiring: Coroutine[Any, Any, int]) -> bool:
    try:
        await acquiring
    except TimeoutError:
        return False
    return True


class SyncLockTableProxy(SyncProxy, LockTable[K]):
    """A shared table of locks for blocking code: `with table("a", "b")`."""

    aio: "LockTableProxy[K]"

    def __call__(
        self, *keys: K, timeout: float | None = None, owner: str | None = None
    ) -> SyncKeysOfTable:
        """Return what acquires the keys, all at once, in a `with`.

        Entering raises TimeoutError, which names who has the keys, when the `timeout` is over.
        """
        return SyncKeysOfTable(self, keys, timeout, owner)

    def acquire(self, *keys: K, timeout: float | None = None, owner: str | None = None) -> bool:
        """Acquire all keys at once; tell whether that was within `timeout` seconds.

        Raises:
            ValueError, RuntimeError: as acquire_keys.
        """
        try:
            self.acquire_keys(list(keys), timeout, owner)
        except TimeoutError:
            return False
        return True

    def release(self, *keys: K, owner: str | None = None) -> None:
        """Release keys; raise NotOwner or RuntimeError, as release_keys."""
        self.release_keys(list(keys), owner)


class LockTableFactory(AsyncFactory):
    """Makes anonymous tables of locks for async code."""

    def LockTable(self) -> Coroutine[Any, Any, LockTableProxy[Any]]:  # noqa: N802
        """Make a shared table of locks by key."""
        return self._make(LockTableProxy, None, (), {})


class NamedLockTableFactory(AsyncFactory):
    """Finds or makes named tables of locks for async code."""

    def LockTable(self, name: str, /) -> Coroutine[Any, Any, LockTableProxy[Any]]:  # noqa: N802
        """Find or make the shared table of locks of this name."""
        return self._make(LockTableProxy, name, (), {})


class SyncLockTableFactory(SyncFactory):
    """Makes anonymous tables of locks for blocking code."""

    def LockTable(self) -> SyncLockTableProxy[Any]:  # noqa: N802
        """Make a shared table of locks by key."""
        return self._make(SyncLockTableProxy, None, (), {})  # type: ignore[no-any-return]


class SyncNamedLockTableFactory(SyncFactory):
    """Finds or makes named tables of locks for blocking code."""

    def LockTable(self, name: str, /) -> SyncLockTableProxy[Any]:  # noqa: N802
        """Find or make the shared table of locks of this name."""
        return self._make(SyncLockTableProxy, name, (), {})  # type: ignore[no-any-return]
