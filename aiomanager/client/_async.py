"""What both async shells share: calls and how they end, and a session that outlives connections.

A shell adds one library's connections, tasks and way to wait. Nothing here is of one library:
anyio's sleep and shield work under each of them.
"""

from collections.abc import Callable, Generator
from functools import partial
from time import monotonic
from typing import Any, Final, Protocol, cast
from weakref import WeakKeyDictionary

import anyio

from aiomanager.client._channel import (
    ChannelBase,
    Endpoint,
    raised,
    remember_channel,
    remembered_channel,
)
from aiomanager.client._locks import count_locks
from aiomanager.client._process import owners
from aiomanager.errors import (
    AuthenticationFailed,
    ConnectionLost,
    ManagerError,
    NeedsNeutralValue,
    ProtocolError,
    ServerBusy,
    SessionLost,
)
from aiomanager.operation import Operation, drive
from aiomanager.protocol.handshake import ClientHandshake, Resume
from aiomanager.protocol.messages import ERROR
from aiomanager.proxy import AsyncProxy, Proxy, Reference
from aiomanager.sessions.client import ClientSession, error_of
from aiomanager.sessions.plans import Plan
from aiomanager.sessions.store import MANAGER, Manager
from aiomanager.stored import ABSENT

__all__ = ("CLOSE_SECONDS", "CONNECT_SECONDS", "Answer", "AsyncChannel", "Carrier")

CONNECT_SECONDS: Final = 10.0
"""How long a server may take to accept a connection and to finish the handshake."""
CLOSE_SECONDS: Final = 1.0
"""How long a server may take to see that a session ended in good order."""
SILENCE: Final = 1.0
"""How long a cancelled call waits for a server that does not say how that went."""

_DETACHED: Final[list[Any]] = []
"""Answers a cancelled call whose connection is lost: it is taken back when the session resumes,
or the session ends and everything with it."""


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
        """The session ended, and with it whatever the call was handed."""

    def exception(self) -> BaseException | None:
        return None

    def __await__(self) -> Generator[Any, Any, Any]:
        raise NotImplementedError


class Carrier(Protocol):
    """One connection, as the channel sees it."""

    handshake: ClientHandshake | None
    """None once the connection carries a session."""
    lost: bool

    def abort(self) -> None:
        """Close it at once."""
        ...


class AsyncChannel(ChannelBase):
    """The way from async proxies to a server, on one loop of one library."""

    proxies_are = AsyncProxy

    _here: Callable[[], object]
    """Returns the running loop, or what stands for it."""
    _new_answer: Callable[[], Answer]
    _schedule: Callable[[Callable[[], None]], object]
    """Has a function called when the tasks of this tick have run."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self.loop: Any = None
        self._session: ClientSession[Answer] | None = None
        self._connection: Any = None
        self._flush_scheduled = False
        self._owners: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        self._held: dict[int, dict[int, int]] = {}
        """By each owner that has acquired a lock, and whose end is looked out for: what it has."""
        self._grace = 0.0
        self._missed: dict[int, list[Any]] = {}
        """By call: the answer of a task that is being cancelled, and has not taken notice yet."""

    # What a shell adds

    def _task(self) -> object | None:
        """Return the running task, if one is."""
        raise NotImplementedError

    def _at_the_end_of(self, task: Any, function: Callable[[], None]) -> None:
        """Have a function called when a task ends; soon, if it has."""
        raise NotImplementedError

    def _in_use(self) -> bool:
        """Tell whether the loop to which this channel belongs still needs it."""
        raise NotImplementedError

    async def _opened(self) -> None:
        """Wait until a session is open; open one unless that is under way."""
        raise NotImplementedError

    async def _connect(self, resume: Resume | None) -> Carrier:
        """Return a connection whose handshake is done.

        Raises:
            ConnectionLost: there is no server, or it is not ready.
            SessionLost, AuthenticationFailed, ProtocolError: it is of no use to ask again.
        """
        raise NotImplementedError

    async def _settled(self, outcome: Answer, seconds: float | None) -> BaseException | None:
        """Wait for an answer whatever happens, for ever or so many seconds; return a cancellation
        that came meanwhile.
        """
        raise NotImplementedError

    def _message(self, answer: Answer) -> list[Any] | None:
        """Return what an answer holds, None if there is nothing or an error in it."""
        raise NotImplementedError

    def _connection_lost(self, session: ClientSession[Answer]) -> None:
        """Have a session resumed, whose connection is lost."""
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

    def _held_up(self, owner: int) -> bool:
        """Tell whether the owner of a call is the running task, which can do nothing else until
        there is an answer.
        """
        task = self._task()
        return task is not None and self._owners.get(task) == owner

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
        # A call of a lock may be awaited by another task than the one that owns it: under
        # gather() and wait_for(), or because a task was made of it.
        free = bool(owner) and plan.consumes and not self._held_up(owner)
        call_id = session.call(answer, reference.object_id, operation.name, wire, owner, free=free)
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._schedule(self._flush)
        try:
            message = await answer
        except Exception:
            raise  # the session was lost
        except GeneratorExit:
            try:
                self._take_back(session, call_id, answer, plan)
            except RuntimeError:
                pass  # the loop is closed, and the session ends with its connection
            raise
        except BaseException:
            later = await self._cancel(session, call_id, answer, plan)
            if later is not None:
                raise later from None
            raise
        if message[0] == ERROR:
            error = raised(error_of(message, self.decode_key))
            if isinstance(error, NeedsNeutralValue) and operation.client_side is not None:
                steps = operation.client_side(proxy, *arguments)
                return await drive(steps, next(steps))
            raise error
        if not plan.consumes:
            result = plan.decode_result(message[3])
            if plan.owned:
                self._count_locks(owner, plan, reference.object_id, wire, result)
            if result is ABSENT:
                return arguments[cast("int", operation.default_index)]
            return result
        # What was granted is the caller's from here on, or goes back.
        if session is not self._session:
            raise SessionLost(
                "the session was lost before it could confirm what it was granted, which the "
                "server has taken back"
            )
        try:
            result = plan.decode_result(message[3])
        except BaseException:
            await self._cancel(session, call_id, answer, plan)
            raise
        session.keep(call_id)
        self._flush_soon()
        if plan.owned:
            self._count_locks(owner, plan, reference.object_id, wire, result)
        return result

    def _count_locks(
        self, owner: int, plan: Plan, object_id: int, wire: list[Any], result: Any
    ) -> None:
        """Know what locks an owner has, and give them back when its task has ended."""
        held = self._held.get(owner)
        if held is None:
            if plan.operation is None or plan.operation.holds <= 0 or not owner:
                return
            held = self._held[owner] = {}
            count_locks(held, plan, object_id, wire, result)
            ended = partial(self._has_ended, owner)
            task = self._task()
            if self._owners.get(task) != owner:  # another one awaits the call for it
                task = next((task for task, one in self._owners.items() if one == owner), None)
            if task is None:
                ended()
            else:
                self._at_the_end_of(task, ended)
        else:
            count_locks(held, plan, object_id, wire, result)

    def _has_ended(self, owner: int) -> None:
        session = self._session
        if self._held.pop(owner, None) and session is not None:
            session.post(MANAGER, Manager.give_back.name, [], owner)
            self._flush_soon()

    async def _cancel(
        self, session: ClientSession[Answer], call_id: int, answer: Answer, plan: Plan
    ) -> BaseException | None:
        """Take a call back and wait until the server has said how that went."""
        outcome = self._take_back(session, call_id, answer, plan)
        if outcome is None:
            return None
        # The caller is being cancelled already; what it was granted must be known first. A server
        # that is silent (stopped, or far away and gone) holds nobody up for that: whatever the
        # caller sends next is behind what takes the call back.
        later: BaseException | None = None
        forever = plan.operation is not None and plan.operation.regains
        with anyio.CancelScope(shield=True):
            later = await self._settled(outcome, None if forever else SILENCE)
        return later

    def _take_back(
        self, session: ClientSession[Answer], call_id: int, answer: Answer, plan: Plan
    ) -> Answer | None:
        """Take a call back; return what tells how that went, if there is anything to tell."""
        if session is not self._session:
            return None  # it ended, and everything with it
        message = self._missed.pop(call_id, None) or self._message(answer)
        if message is not None:
            self._discard(plan, message)
            if not plan.consumes or message[0] == ERROR:
                return None
        outcome = self._new_answer()
        if not session.cancel(call_id, outcome):
            return None
        if message is None:
            session.calls[call_id] = _Discarded(partial(self._discard, plan))
        self._flush_soon()
        return outcome if self._connection is not None else None

    def _discard(self, plan: Plan, message: list[Any]) -> None:
        if message[0] != ERROR:
            self.discard(plan, message[3])

    def post(
        self, proxy: Proxy, operation: Operation[..., Any], arguments: tuple[Any, ...],
        owner: int = 0,
    ) -> None:  # fmt: skip
        """Send an operation without waiting for its answer."""
        session = self._session
        reference = proxy._reference  # pyright: ignore[reportPrivateUsage]
        if session is None or self._here() is not self.loop:
            raise SessionLost(
                "the session was lost while it held the lock; the server has given it to others"
            )
        loss = session.losses.pop(reference.object_id, None) if session.losses else None
        if loss is not None:
            raise loss
        wire = self._plans.of(operation).encode(arguments)
        session.post(reference.object_id, operation.name, wire, owner)
        self._flush_soon()
        self._count_locks(owner, self._plans.of(operation), reference.object_id, wire, None)

    def count(self, reference: Reference) -> None:
        """Have the server count a reference before it sees the next call."""
        if self._session is not None:
            reference.epoch = self.book.epoch
            self._session.hold([reference.object_id])

    def _flush_soon(self) -> None:
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._schedule(self._flush)

    def _to_write(self, session: ClientSession[Answer]) -> bytes:
        """Return what is to be written now."""
        if self.book.dropped:
            session.release(self.book.take_dropped())
        frames = session.data_to_send()
        return frames[0] if len(frames) == 1 else b"".join(frames)

    # Sessions

    async def open(self) -> None:
        """Connect, unless that is done.

        Raises:
            ConnectionLost: nobody answers at the address.
            AuthenticationFailed: the server refuses the key, or does not know it.
        """
        await self._open()

    async def aclose(self) -> None:
        """End the session in good order and close the connection, for good."""
        raise NotImplementedError

    async def _open(self) -> ClientSession[Answer]:
        if self.closed:
            raise ConnectionLost("the manager was closed; connect again")
        loop = self._here()
        if loop is None:
            raise RuntimeError(
                "this proxy uses asyncio, which does not run here: connect in this loop with "
                "'async with aiomanager.connect(url)', or use 'proxy.sync'"
            )
        if self.loop is not loop:
            if self._in_use():
                raise RuntimeError(
                    "this proxy's connection belongs to another event loop; connect in this "
                    "loop with 'async with aiomanager.connect(url)'"
                )
            self._bind(loop)
        if self._session is None:
            await self._opened()
        session = self._session
        if session is None:
            raise ConnectionLost("the connection was lost as soon as it was open")
        return session

    def _bind(self, loop: Any) -> None:
        """Belong to the running loop."""
        self._forget()
        self.loop = loop
        self.place = id(loop)
        if remembered_channel(AsyncProxy, self.endpoint, self.place) is None:
            remember_channel(self)

    def _forget(self) -> None:
        """Be as new: the loop, or the process, is another one."""
        session, self._session = self._session, None
        if session is not None:
            self.book.leave(session.session_id)
        self._connection = None
        self._flush_scheduled = False
        self._missed.clear()
        self._held.clear()

    def fits(self, loop: object | None) -> bool:
        """Tell whether proxies that are made where `loop` runs may use this channel."""
        return not self.closed and (self.loop is None or self.loop is loop)

    async def _begin(self) -> None:
        """Open a session over a new connection."""
        connection = await self._first_connection()
        welcome = cast("ClientHandshake", connection.handshake).welcome
        assert welcome is not None
        self._grace = welcome.grace
        self._session = ClientSession(welcome.session, welcome.limits)
        self.book.join(welcome.server, welcome.session)
        self._carry(connection, self._session)

    async def _first_connection(self) -> Carrier:
        deadline = monotonic() + CONNECT_SECONDS
        pause = 0.005
        while True:
            try:
                return await self._connect(None)
            except ServerBusy:
                if monotonic() + pause > deadline:
                    raise
            await anyio.sleep(pause)
            pause = min(pause * 2, 0.5)

    def _carry(self, connection: Carrier, session: ClientSession[Answer]) -> None:
        """Have a connection carry the session."""
        self._connection = connection
        handshake, connection.handshake = connection.handshake, None
        if handshake is not None and handshake.trailing:
            self.data_received(connection, handshake.trailing)
        if connection.lost:
            self.connection_lost(connection)  # before it was of any use
        elif session.has_output or self.book.dropped:
            self._flush_soon()

    def data_received(self, connection: Carrier, data: bytes) -> None:
        """Take bytes from the connection that carries the session."""
        session = self._session
        if connection is not self._connection or session is None:
            return  # of an older connection: they are sent again
        try:
            answered = session.receive_data(data)
        except ManagerError as error:
            self._lose(SessionLost(f"the server broke the protocol: {error}"))
            return
        for answer, message in answered:
            if not answer.done():
                answer.set_result(message)
            else:
                self._missed[message[2]] = message
        if session.has_output:
            self._flush_soon()

    def connection_lost(self, connection: Carrier) -> None:
        """Have the session resumed on a new connection, unless this one was given up."""
        session = self._session
        if connection is not self._connection or session is None:
            return
        self._connection = None
        moved = session.goaway
        session.detach()
        for answer in session.cancelling.values():
            if not answer.done():
                answer.set_result(_DETACHED)
        session.cancelling.clear()
        if isinstance(moved, SessionLost):
            self._lose(moved)
        else:
            self._connection_lost(session)

    async def _resume(self, session: ClientSession[Answer]) -> None:
        """Go on over a new connection, or give the session up."""
        deadline = monotonic() + max(self._grace, 1.0)
        pause = 0.005
        while session is self._session:
            try:
                connection = await self._connect(session.resumption())
            except (SessionLost, AuthenticationFailed, ProtocolError) as error:
                self._lose(error)
                return
            except ConnectionLost as error:
                gone = isinstance(error.__cause__, ConnectionRefusedError | FileNotFoundError)
                if monotonic() + pause > deadline or (
                    gone and self.endpoint.address.scheme == "unix"
                ):
                    self._lose(error)
                    return
            except Exception as error:
                self._lose(error)
                raise
            else:
                self._resumed(connection, session)
                return
            await anyio.sleep(pause)
            pause = min(pause * 2, 0.5)

    def _resumed(self, connection: Carrier, session: ClientSession[Answer]) -> None:
        welcome = cast("ClientHandshake", connection.handshake).welcome
        if session is not self._session or welcome is None:
            connection.abort()
            return
        try:
            session.attach(welcome.received)
        except ManagerError as error:
            connection.abort()
            self._lose(error)
            return
        self._carry(connection, session)

    def _lose(self, error: Exception) -> None:
        """Give the session up: the server knows it no more, or cannot be reached."""
        connection = self._end(
            SessionLost(
                "the session was lost during the call, which may or may not have been executed; "
                f"locks that it held are released. {error}"
            )
        )
        if connection is not None:
            connection.abort()

    def _last_words(self, error: Exception) -> bytes:
        """Forget the session as `_end`; return what ends it in good order on the server."""
        session = self._session
        if session is None:
            return b""
        session.bye()
        data = self._to_write(session)
        self._end(error)
        return data

    def _end(self, error: Exception) -> Any:
        """Forget the session, tell all who wait for its answers, and return its connection."""
        session, self._session = self._session, None
        connection, self._connection = self._connection, None
        if session is None:
            return None
        self._missed.clear()
        self._held.clear()
        self.book.leave(session.session_id)
        for answer in session.end():
            if not answer.done():
                answer.set_exception(type(error)(*error.args))
                answer.exception()  # its task may be on its way out already
        return connection
