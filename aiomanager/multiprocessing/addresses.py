"""Addresses as the standard library writes them, and as this package does."""

import os
from typing import Any

from aiomanager.protocol.address import Address, parse_address

__all__ = ("parsed", "shown")


def parsed(address: Any) -> Address:
    """Return a standard library's address as ours; raise ValueError for anything else."""
    if isinstance(address, str) and "://" not in address and not address.startswith("\0"):
        address = os.path.abspath(address)  # noqa: PTH100
    try:
        return parse_address(address)
    except TypeError as error:
        raise ValueError(f"address type of {address!r} unrecognized: {error}") from None


def shown(address: Address) -> Any:
    """Return an address as the standard library writes it."""
    if address.path.startswith("\0"):
        return os.fsencode(address.path)  # as the system says an abstract name
    return address.path if address.scheme == "unix" else (address.host, address.port)
