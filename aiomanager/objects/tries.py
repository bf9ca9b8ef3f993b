"""How often a change that is worked out in the client is tried again, when others were faster."""

from aiomanager.errors import VersionConflict

__all__ = ("Tries",)


class Tries:
    """Counts the tries of one call that stores only what was made from the present value.

    Each that fails means that somebody else has changed that very value: all together get ahead.
    One alone may not: others write the value faster than it is made, or the function that makes
    it writes there itself. That has to end by an error, not to go on in silence.
    """

    __slots__ = ("_left", "_most", "_what", "_why")

    def __init__(self, what: str, why: str = "the value had changed", most: int = 1000) -> None:
        self._what = what
        self._why = why
        self._most = self._left = most

    def again(self) -> None:
        """Count one that failed.

        Raises:
            VersionConflict: it was the last one.
        """
        self._left -= 1
        if self._left <= 0:
            raise VersionConflict(
                f"{self._what} was tried {self._most} times in vain: each time {self._why} before "
                "it was done. Others write there all the time, or the function that was passed in "
                "does. Use an operation that is one step on the server, such as increment or "
                "update_nested, or let all who write there hold a Lock"
            )
