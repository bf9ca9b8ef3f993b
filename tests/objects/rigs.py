"""Two rigs on which the same scenario runs: pure bodies on plain values, and a pair of sessions.

Each is a channel for blocking proxies. A call that has to wait returns a `Parked` instead of a
result. `PureRig` calls the bodies of shared objects on Python's own values; `SessionRig` sends
encoded arguments from a `ClientSession` to a `ServerCore` and decodes what comes back.
"""

import copy
import heapq
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from aiomanager.deadlock import Deadlocks
from aiomanager.errors import NeedsNeutralValue
from aiomanager.objects import TYPES
from aiomanager.operation import Operation, SharedObject, bind, drive_blocking
from aiomanager.protocol.handshake import Hello
from aiomanager.protocol.keys import KeyCodec
from aiomanager.protocol.messages import CANCELLED, ERROR
from aiomanager.protocol.values import ValueCodec
from aiomanager.proxy import Proxy, Reference, sync_face
from aiomanager.sessions.client import ClientSession, error_of
from aiomanager.sessions.plans import Leaves, Plans
from aiomanager.sessions.server import ServerCore, ServerSession
from aiomanager.sessions.store import MANAGER, Manager, Store
from aiomanager.stored import ABSENT
from aiomanager.waiter import Caller, Holder, Waiter

__all__ = ("NoProcesses", "Parked", "PureRig", "Rig", "SessionRig")

SESSIONS = 3


class Timer:
    """One thing that is to happen later."""

    def __init__(self, when: float, number: int, function: Callable[[], None]) -> None:
        self.when = when
        self.number = number
        self.function = function
        self.cancelled = False

    def __lt__(self, other: "Timer") -> bool:
        return (self.when, self.number) < (other.when, other.number)

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """Virtual time, and the hands that a server core asks for."""

    def __init__(self) -> None:
        self.time = 0.0
        self._timers: list[Timer] = []
        self._numbers = count()

    def call_later(self, seconds: float, function: Callable[[], None], /) -> Timer:
        timer = Timer(self.time + seconds, next(self._numbers), function)
        heapq.heappush(self._timers, timer)
        return timer

    def now(self) -> float:
        return self.time

    def new_id(self) -> bytes:
        return next(self._numbers).to_bytes(16, "big")

    def report(self, message: str, error: BaseException, /) -> None:
        raise AssertionError(f"the server reports a fault: {message}") from error

    def advance(self, seconds: float) -> None:
        """Let time pass, and what is due happen."""
        end = self.time + seconds
        while self._timers and self._timers[0].when <= end:
            timer = heapq.heappop(self._timers)
            self.time = max(self.time, timer.when)
            if not timer.cancelled:
                timer.function()
        self.time = end

    @property
    def running(self) -> int:
        """How many timers are to fire."""
        return sum(not timer.cancelled for timer in self._timers)


class NoProcess:
    """A worker process of a pool that is only said to be there."""

    pid = 0

    def __init__(self, on_end: Callable[[str, bool], None]) -> None:
        self._on_end = on_end

    def end(self, how: str = "was ended", killed: bool = False) -> None:
        self._on_end(how, killed)


class NoProcesses:
    """Starts the workers of pools, but no processes."""

    processors = 1

    def start(self, pool_id: int, number: int, on_end: Callable[[str, bool], None], /) -> NoProcess:
        return NoProcess(on_end)


class Parked:
    """A call that is not answered yet, or was not when it returned."""

    def __init__(self) -> None:
        self.done = False
        self._value: Any = None
        self._error: Exception | None = None
        self.take_back: Callable[[], bool] = lambda: False
        """Cancels the call; returns whether it never happened."""

    def answer(self, value: Any, error: Exception | None = None) -> None:
        assert not self.done, "a call is answered twice"
        self.done = True
        self._value, self._error = value, error

    def result(self) -> Any:
        """Return the result, or raise the error; the call must be done."""
        assert self.done, "the call still waits"
        if self._error is not None:
            raise self._error
        return self._value


class Rig:
    """What both rigs share: who acts, time, and the shape of a channel."""

    epoch = forks = 0

    def __init__(self) -> None:
        self.clock = Clock()
        self.acting = (0, 1)
        """The session that acts, and the task or thread in it."""
        self.free = False
        """Whether that task or thread does not wait for its calls itself."""
        self.keeps = True
        """Whether what a call is granted is confirmed at once."""

    @contextmanager
    def as_(self, session: int, owner: int = 1, *, free: bool = False) -> Iterator[None]:
        """Act as a task of another session for a while."""
        before = self.acting, self.free
        self.acting, self.free = (session, owner), free
        try:
            yield
        finally:
            self.acting, self.free = before

    def owner(self) -> int:
        return self.acting[1]

    def drop(self, reference: Reference, /) -> None:
        raise NotImplementedError

    def post(
        self,
        proxy: Proxy,
        operation: Operation[..., Any],
        arguments: tuple[Any, ...],
        owner: int = 0,
    ) -> None:
        raise NotImplementedError

    def reduce(self, proxy: Proxy, /) -> tuple[Any, ...]:
        raise NotImplementedError

    def other_face(self, proxy: Proxy, face: type[Proxy], /) -> Proxy:
        raise NotImplementedError

    def describe(self) -> str:
        return "rig://"

    def now(self) -> float:
        return self.clock.now()

    def make(self, kind: type[SharedObject], *given: Any, **named: Any) -> Any:
        """Make an object and return a blocking proxy of it."""
        raise NotImplementedError

    def end(self, session: int, *, well: bool = True) -> None:
        """End a session, in good order or not; another one takes its place."""
        raise NotImplementedError

    def pump(self) -> None:
        """Let everything that is under way arrive."""

    def _proxy(self, kind: type[SharedObject], object_id: int) -> Any:
        return sync_face(kind)(self, Reference(self, object_id, 0))


class PureRig(Rig):
    """Calls the bodies themselves, on plain Python values."""

    def __init__(self) -> None:
        super().__init__()
        self.objects: list[SharedObject] = []
        self.launcher = NoProcesses()
        self.fences = count(1)
        self.deadlocks = Deadlocks()
        self.holders = [self._holder(number) for number in range(SESSIONS)]
        self.parked: list[tuple[int, Waiter[Any]]] = []

    def make(self, kind: type[SharedObject], *given: Any, **named: Any) -> Any:
        arguments = bind(kind.__name__, kind.maker, self._plain(given), self._plain(named))
        return self.share(kind(*arguments))

    def share(self, shared: SharedObject) -> Any:
        """Take in an object; return a proxy of it."""
        self.objects.append(shared)
        shared._moved_in(self, len(self.objects) - 1)
        return self._proxy(type(shared), len(self.objects) - 1)

    def name_of(self, object_id: int) -> None:
        """Nothing is named here."""

    def retain(self, object_id: int) -> None:
        """Nothing is ever freed here."""

    def release(self, object_id: int) -> None:
        """Nothing is ever freed here."""

    def call(
        self,
        proxy: Proxy,
        operation: Operation[..., Any],
        arguments: tuple[Any, ...],
        owner: int = 0,
    ) -> Any:
        target = self.objects[proxy._reference.object_id]
        # A value that is stored is a copy, as on a server.
        arguments = copy.deepcopy(arguments)
        session = self.acting[0]
        caller = Caller(self.holders[session], owner, self.clock.now())
        if self.free:
            caller = caller.free()
        who = (caller,) if operation.owned else ()
        result = operation.body(target, *who, *arguments)
        target.version += operation.writes
        if isinstance(result, Proxy):
            return result
        if not isinstance(result, Waiter):
            return copy.deepcopy(result)
        parked = Parked()
        parked.take_back = lambda: self._take_back(result)
        self.parked.append((session, result))
        if result.state != "parked":
            self._settled(parked, result)
            return copy.deepcopy(parked.result()) if self.keeps else parked
        result.listener = lambda waiter: self._settled(parked, waiter)
        if result.timeout is not None:
            self.clock.call_later(result.timeout, result.expire)
        return parked

    def _take_back(self, waiter: Waiter[Any]) -> bool:
        waiter.listener = None
        outcome = waiter.retract()
        return True if outcome is None else outcome  # None: it will be

    def _settled(self, parked: Parked, waiter: Waiter[Any]) -> None:
        if self.keeps:
            waiter.keep()
        parked.answer(None if waiter.error else waiter.value, waiter.error)

    def end(self, session: int, *, well: bool = True) -> None:
        mine = [
            waiter for number, waiter in self.parked if number == session and waiter.state != "kept"
        ]
        self.holders[session].away = True
        for waiter in mine:
            waiter.listener = None
            waiter.suspend()
        # Those who wait before those who have something to give back, as a session does it.
        for waiter in sorted(mine, key=lambda waiter: waiter.undoable):
            waiter.cancel()
        self.parked = [one for one in self.parked if one[0] != session]
        self.holders[session].in_good_order = well
        self.holders[session].end()
        self.holders[session] = self._holder(session)

    def _plain(self, given: Any) -> Any:
        """Copy arguments; a proxy stands for its object."""
        if isinstance(given, tuple):
            return tuple(map(self._plain, given))
        if isinstance(given, dict):
            return {key: self._plain(value) for key, value in given.items()}
        if isinstance(given, Proxy):
            return self.objects[given._reference.object_id]
        return copy.deepcopy(given)

    def _holder(self, session: int) -> Holder:
        clock = self.clock
        return Holder(
            f"session {session}", self.fences, clock.now, clock.call_later, self.deadlocks
        )


class SessionRig(Rig):
    """Sends calls from the client's end of a session to the server's, both of them real."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Store(TYPES)
        self.store.launcher = NoProcesses()
        self.core = ServerCore(self.store, self.clock)
        values = ValueCodec(allow_pickle=True, resolve=self._resolve)
        keys = KeyCodec(values)
        self.decode_key = keys.decode
        self.plans = Plans(
            Leaves(
                keys.encode,
                values.encode,
                keys.decode,
                values.decode,
                keys.decode,
                encode_object=lambda proxy: proxy._reference.object_id,
            )
        )
        self.servers: list[ServerSession] = []
        self.clients: list[ClientSession[tuple[Operation[..., Any], int, Parked]]] = []
        self.ways: list[list[bytes]] = []
        for number in range(SESSIONS):
            self._open(number)

    def _open(self, number: int) -> None:
        name = number.to_bytes(16, "big")
        hello = Hello((1,), ("peer",), b"n" * 32, "rig", name, number, "", None, ())
        server = self.core.session_of(hello, "peer:0", f"session {number}", 5.0)
        down: list[bytes] = []
        server.attach(down.append, lambda: None, 0)
        self.servers[number : number + 1] = [server]
        self.clients[number : number + 1] = [ClientSession(server.session_id, self.core.limits)]
        self.ways[number : number + 1] = [down]

    def make(self, kind: type[SharedObject], *given: Any, **named: Any) -> Any:
        arguments = bind(kind.__name__, kind.maker, given, named)
        wire = self.plans.made(kind.maker).encode(arguments)
        manager = self._proxy(Manager, MANAGER)
        return self._proxy(kind, manager.create(kind.type_name, wire))

    def _resolve(self, object_id: int, type_name: str) -> Proxy:
        return self._proxy(self.store.types[type_name], object_id)  # type: ignore[no-any-return]

    def pump(self) -> None:
        # Bytes go both ways until nobody has any.
        moved = True
        while moved:
            moved = False
            for number, client in enumerate(self.clients):
                down = self.ways[number]
                up = b"".join(client.data_to_send())
                if up:
                    moved = True
                    self.servers[number].receive_data(up)
                if down:
                    moved = True
                    data = b"".join(down)
                    down.clear()
                    for waiting, message in client.receive_data(data):
                        self._answered(number, waiting, message)

    def call(
        self,
        proxy: Proxy,
        operation: Operation[..., Any],
        arguments: tuple[Any, ...],
        owner: int = 0,
    ) -> Any:
        number = self.acting[0]
        client = self.clients[number]
        wire = self.plans.of(operation).encode(arguments)
        parked = Parked()
        object_id = proxy._reference.object_id
        waiting = (operation, 0, parked)
        call_id = client.call(waiting, object_id, operation.name, wire, owner, free=self.free)
        client.calls[call_id] = (operation, call_id, parked)
        parked.take_back = lambda: self._cancel(number, operation, call_id)
        self.pump()
        if not parked.done or (operation.consumes and not self.keeps):
            return parked
        try:
            result = parked.result()
        except NeedsNeutralValue:
            if operation.client_side is None:
                raise
            return drive_blocking(operation.client_side(proxy, *arguments))
        if result is ABSENT:
            assert operation.default_index is not None
            return arguments[operation.default_index]
        return result

    def _answered(
        self, number: int, waiting: tuple[Operation[..., Any], int, Parked], message: list[Any]
    ) -> None:
        operation, call_id, parked = waiting
        if message[0] == CANCELLED:
            parked.answer(message[3])
        elif message[0] == ERROR:
            parked.answer(None, error_of(message, self.decode_key))
        else:
            if operation.consumes and self.keeps:
                self.clients[number].keep(call_id)
            parked.answer(self.plans.of(operation).decode_result(message[3]))

    def _cancel(self, number: int, operation: Operation[..., Any], call_id: int) -> bool:
        outcome = Parked()
        assert self.clients[number].cancel(call_id, (operation, call_id, outcome))
        self.pump()
        return not outcome.done or bool(outcome.result() == 0)  # not done: it will be

    def end(self, session: int, *, well: bool = True) -> None:
        if well:
            self.clients[session].bye()
            self.pump()
        else:
            self.core.client_died(self.servers[session].client.id)
        assert self.servers[session].ended
        self._open(session)
        self.pump()
