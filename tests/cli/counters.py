"""A shared type as users write them, for the option --types."""

from aiomanager.operation import SharedObject, writes


class Counter(SharedObject):
    """A number that only rises."""

    def __init__(self, begin: int = 0) -> None:
        self._number = begin

    @writes
    def add(self, amount: int = 1) -> int:
        """Add to the number, and return it."""
        self._number += amount
        return self._number
