"""A second opinion on deadlocks: who waits for whom, found anew from what the objects hold.

It follows every wait of everybody, where the server looks at few; both must come to the same.
"""

from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .world import World

__all__ = ("find",)


def _line(it: Any, waiter: Any) -> Iterator[Any]:
    """Return who stands before one who waits for a lock, or for keys of a table."""
    if hasattr(it, "_lines"):
        for key in waiter.keys:
            for other in it._lines[key]:
                if other is waiter:
                    break
                yield other.caller
    elif it._mutex.owner is not None:
        yield it._mutex.owner


def _of(it: Any, waiter: Any) -> Any:
    """Return who waits, if it is for a lock or keys and without an end; else None."""
    if waiter.timeout is not None or getattr(waiter, "asleep", False):
        return None
    if hasattr(it, "_lines"):
        return waiter.caller
    return waiter.request.caller if hasattr(it, "_mutex") else None


def _waits(world: "World", since: float) -> dict[Hashable, tuple[Any, Any]]:
    """Return what each of those who are connected waits for without an end, since some time."""
    found: dict[Hashable, tuple[Any, Any]] = {}
    for session in world.core.sessions.values():
        if not session.attached:
            continue
        for call_id, call in session._calls.items():
            if not call.waiter.settled and session.parked_at[call_id] <= since:
                it = world.store.entries[call.object_id].object
                if (caller := _of(it, call.waiter)) is not None:
                    found[caller.identity] = it, call.waiter
    return found


def _leads_back(waits: dict[Hashable, tuple[Any, Any]], start: Hashable) -> bool:
    seen: set[Hashable] = set()
    ahead = list(_line(*waits[start]))
    while ahead:
        identity = ahead.pop().identity
        if identity == start:
            return True
        if identity in waits and identity not in seen:
            seen.add(identity)
            ahead += _line(*waits[identity])
    return False


def find(world: "World", patience: float = 0.0) -> dict[Hashable, Any]:
    """Return the identities and the waiters of all who have waited for themselves for so long."""
    waits = _waits(world, world.clock - patience)
    return {
        identity: waiter for identity, (_, waiter) in waits.items() if _leads_back(waits, identity)
    }
