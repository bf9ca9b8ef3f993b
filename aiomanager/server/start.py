"""Start a private server for a manager, and say how to reach it; import it only for that."""

import sys
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
        RuntimeError: it could not start, or this process only imports its main module so far.
    """
    _check_not_importing_main()
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


def _check_not_importing_main() -> None:
    """Raise RuntimeError in a child process that runs the main program by importing it."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None and getattr(process.current_process(), "_inheriting", False):
        raise RuntimeError(
            "a manager was to be started while this process, a child of the program, imports the "
            "program's main module. Children would start children without end: put what the "
            'program does under\n\n    if __name__ == "__main__":\n\nso that it can be imported '
            "without doing it"
        )
