"""The channels that proxies share: this process's way to a server, found or made for each kind.

It stands above the shells, and imports each when it is first needed: a blocking program loads no
asyncio, a trio program no loop of asyncio's.
"""

from typing import TYPE_CHECKING, Any, cast

from aiomanager.client._channel import (
    ChannelBase,
    Endpoint,
    Ways,
    environment_key,
    remember_channel,
    remembered_channel,
    remembered_key,
    running_loop,
    trio_here,
)
from aiomanager.operation import Operation
from aiomanager.protocol.address import parse_address
from aiomanager.proxy import AsyncProxy, Proxy, SyncProxy, shared_type_of

if TYPE_CHECKING:
    from aiomanager.client._async import AsyncChannel

__all__ = ("LateChannel", "async_channel", "blocking_channel", "channel_for", "new_async_channel")


def blocking_channel(endpoint: Endpoint) -> ChannelBase:
    """Return this process's blocking channel to a server."""
    channel = remembered_channel(SyncProxy, endpoint)
    if channel is None:
        from aiomanager.client._blocking import BlockingChannel

        channel = BlockingChannel(endpoint)
        remember_channel(channel)
    return channel


class LateChannel(ChannelBase):
    """Stands for an async channel where no loop runs: proxies leave it when one first uses them."""

    proxies_are = AsyncProxy

    _latest: ChannelBase | None = None
    """The channel that it stood for last: the owner that this one has named is to call there."""

    def _real(self) -> "AsyncChannel":
        channel = self._latest = async_channel(self.endpoint)
        channel.types.update(self.types)
        channel.server = channel.server or self.server
        return cast("AsyncChannel", channel)

    async def call(
        self, proxy: Proxy, operation: Operation[..., Any], arguments: tuple[Any, ...],
        owner: int = 0,
    ) -> Any:  # fmt: skip
        """Carry out one operation over the running loop's channel, which the proxy has then."""
        channel = self._real()
        object.__setattr__(proxy, "_channel", channel)
        object.__setattr__(proxy, "_call", channel.call)
        return await channel.call(proxy, operation, arguments, owner)

    def post(
        self, proxy: Proxy, operation: Operation[..., Any], arguments: tuple[Any, ...],
        owner: int = 0,
    ) -> None:  # fmt: skip
        """Send one operation over the running loop's channel."""
        self._real().post(proxy, operation, arguments, owner)

    def owner(self) -> int:
        """Return the token of the running task."""
        return 0 if running_loop() is None else self._real().owner()

    def after_fork(self) -> None:
        """Stand for a channel of the child's own."""
        self._latest = None


def new_async_channel(endpoint: Endpoint) -> "AsyncChannel":
    """Return a new channel for the async library that runs here."""
    if trio_here() is not None:
        from aiomanager.client._anyio import AnyioChannel

        return AnyioChannel(endpoint)
    from aiomanager.client._asyncio import AsyncioChannel

    return AsyncioChannel(endpoint)


def async_channel(endpoint: Endpoint) -> ChannelBase:
    """Return an async channel to a server: an open manager's of the running loop, or a new one."""
    loop = running_loop()
    place = 0 if loop is None else id(loop)
    channel = remembered_channel(AsyncProxy, endpoint, place)
    if loop is None:
        channel = channel or LateChannel(endpoint)
        remember_channel(channel)
    elif channel is None or not cast("AsyncChannel", channel).fits(loop):
        channel = new_async_channel(endpoint)
        channel.place = place
        remember_channel(channel)
    return channel


def channel_for(endpoint: Endpoint, kind: type[Proxy]) -> ChannelBase:
    """Return this process's channel to a server for proxies of a class."""
    return blocking_channel(endpoint) if issubclass(kind, SyncProxy) else async_channel(endpoint)


def _rebuild(
    url: str, key: bytes | None, allow_pickle: bool, object_id: int, kind: type[Proxy]
) -> Proxy:
    """Make a proxy from its pickle, without I/O: it connects when it is first used."""
    key = remembered_key(url, key)
    if key is None:
        key = environment_key()
    endpoint = Endpoint(parse_address(url), key, allow_pickle)
    channel = channel_for(endpoint, kind)
    channel.types.setdefault(shared_type_of(kind).type_name, shared_type_of(kind))
    return kind(channel, channel.book.reference(object_id))


ChannelBase.ways = Ways(channel_for, _rebuild)
