"""What the serializers of a manager let through: all of pickle's types, or few."""

from collections.abc import Callable
from typing import Any, Final

__all__ = ("SERIALIZERS",)


def _narrow(value: Any) -> Any:
    """Return what XML-RPC makes of a value: a list of a tuple, say; raise for what it lacks."""
    from xmlrpc.client import dumps, loads

    text = dumps((value,), methodresponse=True, allow_none=True)
    ((result,), _) = loads(text)
    return result


SERIALIZERS: Final[dict[str, Callable[[Any], Any] | None]] = {
    "pickle": None,
    "xmlrpclib": _narrow,
}
"""How each makes an argument or a result narrower, if it does."""
