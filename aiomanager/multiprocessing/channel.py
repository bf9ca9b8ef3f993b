"""The drop-in's way to a server: blocking, with its own proxies, for keys of any kind.

When a process ends in good order so do its sessions, and what it acquired stays acquired.
"""

import os
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing import parent_process
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from multiprocessing.util import Finalize
from types import FrameType
from typing import Any, ClassVar, Final, cast
from weakref import WeakSet

from aiomanager.client._blocking import BlockingChannel
from aiomanager.client._channel import (
    Endpoint,
    remember_channel,
    remembered_channel,
    remembered_key,
)
from aiomanager.operation import SharedObject, bind
from aiomanager.protocol.address import Address, parse_address
from aiomanager.proxy import Proxy, Reference, SyncProxy, shared_type_of, sync_face
from aiomanager.sessions.store import MANAGER
from aiomanager.sessions.store import Manager as SharedManager

__all__ = ("DropInChannel", "DropInProxy", "NarrowChannel", "channel_to")

_HOSTED: Final = "hosted "
"""How the type name of a reference to a hosted object begins."""


def _dumps(value: object) -> bytes:
    """Pickle as multiprocessing does: with what was registered for it."""
    try:
        return bytes(ForkingPickler.dumps(value))
    except Exception as error:
        error.of_pickle = True  # type: ignore[attr-defined]  # pyright: ignore
        raise


class DropInProxy(SyncProxy):
    """What marks the proxies of the drop-in."""

    def _described(self) -> str:
        """Return what to know of a proxy of a hosted object to make another; "" for native ones."""
        return ""


class DropInChannel(BlockingChannel):
    """The way from the drop-in's proxies to a server, from any number of threads."""

    proxies_are = DropInProxy
    pickled_keys = True
    serializer = "pickle"
    dumps = staticmethod(_dumps)
    faces: ClassVar[dict[type[SharedObject], type[Proxy]]] = {}
    """The drop-in's proxy class of each shared type."""
    hosted: ClassVar[Callable[["DropInChannel", Reference, str], Proxy]]
    """Makes the proxy of a hosted object from its description."""

    @property
    def root(self) -> Any:
        """A proxy of the server itself."""
        return sync_face(SharedManager)(self, Reference(self.book, MANAGER, self.book.epoch))

    def face(self, shared: type[SharedObject]) -> type[Proxy]:
        """Return the drop-in's proxy class of a shared type."""
        return self.faces.get(shared) or super().face(shared)

    def make(self, face: type[Any], given: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        """Make a shared object of one of our own types and return its proxy."""
        shared = shared_type_of(face)
        arguments = bind(shared.type_name, shared.maker, given, dict(named))
        wire = self.maker_plan(shared).encode(arguments)
        return face(self, self.counted(self.root.create(shared.type_name, wire)))

    # What a server does with what its clients sent to a program's own classes

    def opened(self, packed: Any) -> Any:
        """Return a value that another client sent; what it refers to counts for this one too."""
        if type(packed) is list:
            # It lives at least as long as the call that brought the value.
            connection = self._slot.connection or self.open()
            connection.session.hold(list(cast("list[int]", packed[1])))
            self.root.names()  # any call takes the word along
        return self.decode_value(packed)

    def packed(self, value: Any) -> Any:
        """Return a value as it travels."""
        return self.encode_value(value)

    def narrowed(self, value: Any) -> Any:
        """Return what the serializer makes of a result; raise what it raises."""
        return value

    # Proxies inside values and in pickles

    def _refer(self, value: object) -> tuple[int, str] | None:
        known = super()._refer(value)
        if known is not None and isinstance(value, DropInProxy):
            description = value._described()  # pyright: ignore[reportPrivateUsage]
            if description:
                return known[0], _HOSTED + description
        return known

    def _resolve(self, object_id: int, type_name: str) -> Proxy:
        if not type_name.startswith(_HOSTED):
            return super()._resolve(object_id, type_name)
        return type(self).hosted(
            self, self.book.reference(object_id), type_name.removeprefix(_HOSTED)
        )

    def reduce(self, proxy: Proxy) -> tuple[Any, ...]:
        """Return how to pickle a proxy; its object is kept for a while."""
        _, state = super().reduce(proxy)
        description = ""
        if isinstance(proxy, DropInProxy):
            description = proxy._described()  # pyright: ignore[reportPrivateUsage]
        return (_rebuild, (*state[:4], type(proxy))) if not description else (
            _rebuild_hosted, (*state[:4], description)
        )  # fmt: skip

    # Its end

    def open(self) -> Any:
        """Return this thread's connection, as the blocking channel does."""
        connection = super().open()
        _leave_at_exit(self)
        return connection


class NarrowChannel(DropInChannel):
    """The way to a server for a serializer that knows few types, which all that passes becomes."""

    serializer = "xmlrpclib"

    def __init__(self, endpoint: Endpoint, narrow: Callable[[Any], Any]) -> None:
        super().__init__(endpoint)
        self._narrow = narrow

    def make(self, face: type[Any], given: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        """Make a shared object of one of our own types and return its proxy."""
        narrow = self._narrow
        return super().make(
            face, tuple(map(narrow, given)), {name: narrow(value) for name, value in named.items()}
        )

    def call(self, proxy: Proxy, operation: Any, arguments: tuple[Any, ...], owner: int = 0) -> Any:
        """Carry out one operation; see the operation's own docstring."""
        shared = shared_type_of(type(proxy))
        if shared is SharedManager:  # what the program does not see
            return super().call(proxy, operation, arguments, owner)
        result = super().call(proxy, operation, tuple(map(self._narrow, arguments)), owner)
        if isinstance(proxy, DropInProxy) and shared.operations.get(operation.name) is operation:
            # What somebody without a serializer has put there is better wide than lost.
            with suppress(Exception):
                return self._narrow(result)
        return result

    def narrowed(self, value: Any) -> Any:
        """Return what the serializer makes of a result; raise what it raises."""
        return self._narrow(value)


_channels: WeakSet[DropInChannel] = WeakSet()
_process = 0
_BOOTSTRAP: Final = BaseProcess._bootstrap.__code__  # type: ignore[attr-defined]  # pyright: ignore


def _leave_at_exit(channel: DropInChannel) -> None:
    global _process
    _channels.add(channel)
    if _process != os.getpid():
        _process = os.getpid()
        # Processes of multiprocessing end by os._exit, and run these only. Last of all, since
        # others may still need the server.
        Finalize(None, _leave, exitpriority=-100)
        if sys.version_info >= (3, 13) and parent_process() is not None:
            with suppress(RuntimeError):  # it is ending already
                threading._register_atexit(_look_how_it_ends)  # type: ignore[attr-defined]  # pyright: ignore


def _leave() -> None:
    dies = _is_bad(sys.exc_info()[1]) or _is_bad(getattr(sys, "last_value", None))
    for channel in list(_channels):
        channel.dies = channel.dies or dies
        channel.leave()


def _is_bad(error: BaseException | None) -> bool:
    """Tell whether who ends by this exception has died: what it acquired is freed.

    So has who says sys.exit(1) in a handler of SIGTERM, say. What was acquired stays for others to
    release only when the end is a good one.
    """
    return error is not None and (not isinstance(error, SystemExit) or bool(error.code))


def _look_how_it_ends() -> None:
    """Look at the code with which this child of multiprocessing ends.

    From Python 3.13 on, what is called at its end does not see the exception any more.
    """
    frame: FrameType | None = sys._getframe()  # pyright: ignore[reportPrivateUsage]
    while frame is not None and frame.f_code is not _BOOTSTRAP:
        frame = frame.f_back
    if frame is not None and frame.f_locals.get("exitcode", 0) != 0:
        for channel in list(_channels):
            channel.dies = True


def channel_to(
    address: Address, key: bytes | None = None, *, allow_pickle: bool = True
) -> DropInChannel:
    """Return this process's channel to a server; it connects when it is first used."""
    endpoint = Endpoint(address, remembered_key(address.url, key), allow_pickle)
    channel = remembered_channel(DropInProxy, endpoint)
    if channel is None:
        channel = DropInChannel(endpoint)
        remember_channel(channel)
    return cast("DropInChannel", channel)


def _rebuild(
    url: str, key: bytes | None, allow_pickle: bool, object_id: int, kind: type[Proxy]
) -> Proxy:
    """Make a proxy from its pickle, without I/O."""
    channel = channel_to(parse_address(url), key, allow_pickle=allow_pickle)
    return kind(channel, channel.book.reference(object_id))


def _rebuild_hosted(
    url: str, key: bytes | None, allow_pickle: bool, object_id: int, description: str
) -> Proxy:
    """Make the proxy of a hosted object from its pickle, without I/O."""
    channel = channel_to(parse_address(url), key, allow_pickle=allow_pickle)
    return DropInChannel.hosted(channel, channel.book.reference(object_id), description)
