"""Start a private server for a manager, and say how to reach it; import it only for that."""

from collections.abc import Sequence
from typing import Any

from aiomanager.client._channel import Endpoint, endpoint_of
from aiomanager.operation import SharedObject
from aiomanager.protocol.address import parse_address
from aiomanager.server.process import PrivateServer

__all__ = ("start_server",)


def start_server(
    address: Any,
    *,
    authkey: bytes | None,
    types: Sequence[type[SharedObject] | str],
    allow_pickle: bool | None,
    allow_plaintext: bool,
) -> tuple[PrivateServer, Endpoint]:
    """Start a private server; return it and its endpoint.

    Raises:
        ValueError, TypeError: the address or the key is not usable.
        RuntimeError: it could not start.
    """
    where = None if address is None else parse_address(address)
    key = endpoint_of("unix:///unused", authkey=authkey).key
    explicit = key is not None
    if key is None and where is not None and where.scheme != "unix":
        from multiprocessing import current_process

        key = bytes(current_process().authkey)
    server = PrivateServer(
        where, key=key, explicit_key=explicit, types=types, allow_plaintext=allow_plaintext
    )
    return server, Endpoint(
        server.address, key if explicit else None, True if allow_pickle is None else allow_pickle
    )
