"""Raises in any line of the package, as a signal handler may."""

import linecache
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

QUIET = ("self.busy = False", "self._dirty = CLEAN")
"""The end of a call: in front of these lines nothing is called, and no handler runs."""


class Interrupt(BaseException):
    """What the handler raises."""


def interrupted(number: int, function: Callable[[], object], inside: str = "") -> bool:
    """Call a function and raise in its line of this number; return False if it has fewer.

    Only lines of the package count, and if `inside` names a function, those below it.
    """
    left = number
    depth = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left, depth
        if "/aiomanager/" not in frame.f_code.co_filename:
            return None
        entered = frame.f_code.co_qualname == inside
        if event == "call":
            depth += entered
        elif event == "return":
            depth -= entered
        elif event == "line" and (depth or not inside):
            line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
            left -= line.strip() not in QUIET
            if left == 0:
                sys.settrace(None)
                raise Interrupt
        return trace

    before = sys.gettrace()
    try:
        sys.settrace(trace)
        function()
    except Interrupt:
        return True
    finally:
        sys.settrace(before)
    return False
