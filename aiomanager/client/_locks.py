"""Which locks a task or thread has that only it may release. Nothing is sent here."""

from typing import Any

from aiomanager.sessions.plans import Plan

__all__ = ("count_locks",)


def count_locks(
    held: dict[int, int], plan: Plan, object_id: int, wire: list[Any], result: Any
) -> None:
    """Count in `held`, by object, what a call has acquired or released.

    One too many is little harm: what is given back in vain costs little. With one too few, a lock
    would be nobody's to release. What was acquired for a named owner is anybody's who names it.
    """
    operation = plan.operation
    if operation is None or not operation.holds:
        return
    named = operation.owner_index
    if named is not None and len(wire) > named and wire[named] is not None:
        return
    number = 1
    if operation.keyed:  # a key is its bytes, or comes with its spelling
        number = len({key if type(key) is bytes else key[0] for key in wire[0]})
    if operation.holds < 0:
        left = held.pop(object_id, 0) - number
    else:
        left = held.get(object_id, 0) + (number if result else 0)
    if left > 0:
        held[object_id] = left
