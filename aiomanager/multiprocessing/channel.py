"""The drop-in's way to a server: blocking, with its own proxies, for keys of any kind.

When a process ends in good order so do its sessions, and what it acquired stays acquired.
"""

import os
from multiprocessing.util import Finalize
from typing import Any
from weakref import WeakSet

from aiomanager.client._blocking import BlockingChannel
from aiomanager.client._channel import (
    Endpoint,
    remember_channel,
    remembered_channel,
    remembered_key,
)
from aiomanager.multiprocessing.proxies import FACES, BaseProxy
from aiomanager.operation import SharedObject
from aiomanager.protocol.address import parse_address
from aiomanager.proxy import Proxy, Reference

__all__ = ("DropInChannel",)


class DropInChannel(BlockingChannel):
    """The way from the drop-in's proxies to a server, from any number of threads."""

    proxies_are = BaseProxy
    pickled_keys = True

    def face(self, shared: type[SharedObject]) -> type[Proxy]:
        """Return the drop-in's proxy class of a shared type."""
        return FACES.get(shared) or super().face(shared)

    def reduce(self, proxy: Proxy) -> tuple[Any, ...]:
        """Return how to pickle a proxy; its object is kept for a while."""
        _, state = super().reduce(proxy)
        return _rebuild, state

    def open(self) -> Any:
        """Return this thread's connection, as the blocking channel does."""
        connection = super().open()
        _leave_at_exit(self)
        return connection


_channels: WeakSet[DropInChannel] = WeakSet()
_process = 0


def _leave_at_exit(channel: DropInChannel) -> None:
    global _process
    _channels.add(channel)
    if _process != os.getpid():
        _process = os.getpid()
        # Processes of multiprocessing end by os._exit, and run these only. Last of all, since
        # others may still need the server.
        Finalize(None, _leave, exitpriority=-100)


def _leave() -> None:
    for channel in list(_channels):
        channel.leave()


def _rebuild(
    url: str, key: bytes | None, allow_pickle: bool, object_id: int, kind: type[Proxy]
) -> Proxy:
    """Make a proxy from its pickle, without I/O: it connects when it is first used."""
    endpoint = Endpoint(parse_address(url), remembered_key(url, key), allow_pickle)
    channel = remembered_channel(BaseProxy, endpoint)
    if channel is None:
        channel = DropInChannel(endpoint)
        remember_channel(channel)
    return kind(channel, Reference(channel.book, object_id, 0))
