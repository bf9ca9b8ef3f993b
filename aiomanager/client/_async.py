"""What both async shells share: calls and how they end, and a session that outlives connections.

A shell adds one library's connections, tasks and way to wait. Nothing here is of one library,
except that anyio's sleep and shield work under each of them.
"""

from collections.abc import Callable, Generator
from time import monotonic
from typing import Any, ClassVar, Final, Protocol, cast
from weakref import WeakKeyDictionary

import anyio

from aiomanager.client._channel import (
    ChannelBase,
    Endpoint,
    remember_channel,
    remembered_channel,
    running_loop,
)
from aiomanager.client._process import owners
from aiomanager.errors import (
    AuthenticationFailed,
    ConnectionLost,
    NeedsNeutralValue,
    ProtocolError,
    SessionLost,
)
from aiomanager.operation import Operation, drive
from aiomanager.protocol.handshake import ClientHandshake, Resume
from aiomanager.protocol.messages import ERROR
from aiomanager.proxy import AsyncProxy, Proxy, Reference
from aiomanager.sessions.client import ClientSession, error_of
from aiomanager.sessions.plans import Plan
from aiomanager.sessions.store import Manager
from aiomanager.stored import ABSENT

__all__ = ("CLOSE_SECONDS", "CONNECT_SECONDS", "Answer", "AsyncChannel", "AsyncConnection")

CONNECT_SECONDS: Final = 10.0
"""How long a server may take to accept a connection and finish the handshake."""
CLOSE_SECONDS: Final = 1.0
"""How long a server may take to see that a session ends in good order."""

_DETACHED: Final[list[Any]] = []
"""Answers a cancelled call whose connection is lost: it is taken back when the session resumes,
or the session ends and everything with it."""
_MAKERS: Final = (Manager.create, Manager.named)
"""Their result is the id of an object that the server has counted for this client."""


class Answer(Protocol):
    """What one task waits for: asyncio's future, or what another library has in its place."""

    def done(self) -> bool: ...
    def set_result(self, result: Any, /) -> None: ...
    def set_exception(self, exception: BaseException, /) -> None: ...
    def exception(self) -> BaseException | None: ...
    def __await__(self) -> Generator[Any, Any, Any]: ...


class _Discarded:
    """Takes the answer of a cancelled call, which nobody waits for any more."""

    __slots__ = ("_discard",)

    def __init__(self, discard: Callable[[list[Any]], None]) -> None:
        self._discard = discard

    def done(self) -> bool:
        return False

    def set_result(self, result: Any, /) -> None:
        self._discard(result)

    def set_exception(self, exception: BaseException, /) -> None:
        """Nothing was handed out."""

    def exception(self) -> BaseException | None:
        return None

    def __await__(self) -> Generator[Any, Any, Any]:
        raise NotImplementedError


class AsyncConnection(Protocol):
    """One connection as the channel sees it."""

    handshake: ClientHandshake | None
    """Until the connection carries a session."""
    lost: bool

    def abort(self) -> None:
        """Close it at once."""
        ...


class AsyncChannel(ChannelBase):
    """The way from async proxies to a server, on one loop of one library."""

    proxies_are = AsyncProxy

    _here: ClassVar[Callable[[], object]] = staticmethod(running_loop)
    """Returns the running loop, or what stands for it."""
    _cancelled: ClassVar[type[BaseException]] = BaseException
    _new_answer: Callable[[], Answer]
    _schedule: Callable[[Callable[[], None]], object]
    """Has a function called when the tasks of this tick have run."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self.loop: Any = None
        self._session: ClientSession[Answer] | None = None
        self._connection: Any = None
        self._flush_scheduled = False
        self._owners: WeakKeyDictionary[object, int] = WeakKeyDictionary()
        self._grace = 0.0

    # What a shell adds

    def _task(self) -> object | None:
        """Return the running task, if one is."""
        raise NotImplementedError

    def _bind(self, loop: Any) -> None:
        """Belong to a loop, which is the running one."""
        self.loop = loop
        self._flush_scheduled = False
        self._owners.clear()

    async def _connected(self) -> None:
        """Wait until a session is open; open it unless somebody does."""
        raise NotImplementedError

    async def _connect(self, resume: Resume | None) -> AsyncConnection:
        """Return a connection whose handshake is done.

        Raises:
            ConnectionLost, AuthenticationFailed, SessionLost, ProtocolError: there is none.
        """
        raise NotImplementedError

    async def _settled(self, outcome: Answer) -> BaseException | None:
        """Wait for an answer, whatever happens; return a cancellation that came meanwhile."""
        raise NotImplementedError

    def _flush(self) -> None:
        """Write what there is to write."""
        raise NotImplementedError

    # Calls

    def owner(self) -> int:
        """Return the token of the running task."""
        task = self._task()
        if task is None:
            return 0
        token = self._owners.get(task)
        if token is None:
            token = self._owners[task] = next(owners)
        return token

    async def call(
        self, proxy: Proxy, operation: Operation[..., Any], arguments: tuple[Any, ...],
        owner: int = 0,
    ) -> Any:  # fmt: skip
        """Carry out one operation; see the operation's own docstring."""
        session = self._session
        if session is None or self._here() is not self.loop:
            session = await self._open()
        plan = self._plan_of(operation) or self._plans.of(operation)
        wire = plan.encoders[len(arguments)](arguments)
        reference = proxy._reference  # pyright: ignore[reportPrivateUsage]
        if reference.epoch != self.book.epoch:
            self.count(reference)
        if session.losses:
            loss = session.losses.pop(reference.object_id, None)
            if loss is not None:
                raise loss
        answer = self._new_answer()
        call_id = session.call(answer, reference.object_id, operation.name, wire, owner)
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._schedule(self._flush)
        try:
            message = await answer
        except Exception:
            raise  # the session was lost
        except GeneratorExit:
            self._take_back(session, call_id, answer, plan)
            raise
        except BaseException:
            later = await self._cancel(session, call_id, answer, plan)
            if later is not None:
                raise later from None
            raise
        if message[0] == ERROR:
            error = error_of(message, self.decode_key)
            if isinstance(error, NeedsNeutralValue) and operation.client_side is not None:
                steps = operation.client_side(proxy, *arguments)
                return await drive(steps, next(steps))
            raise error
        if operation.waits:
            return await self._keep(session, call_id, plan, message)
        result = plan.decode_result(message[3])
        if result is ABSENT:
            return arguments[cast("int", operation.default_index)]
        return result
