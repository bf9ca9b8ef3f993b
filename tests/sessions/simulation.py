"""A simulated network between real sessions: one process, a virtual clock, every fault by seed.

A `World` holds one server (`ServerCore` over a `Store`) and several `App`s, of which each has a
`ClientSession` and some tasks; some are sessions of one client process, with which they die. They
are joined by `Link`s, connections whose
bytes arrive late, in any pieces, or not at all: a cut lets any part of what is in flight arrive,
and each end notices it in its own time. Apps are killed, their sessions expire, their calls are
cancelled and run out of time. The tasks use shared objects as a program would, and `Books` notes
what each of them was promised, to compare with what the server holds in the end.

Nothing here is random but by `World.random`, and nothing is slow: a second of the virtual clock
takes no time. What an App does stands for the shells, which are not part of the simulation.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import Any, NamedTuple, TypeAlias

from aiomanager.errors import BrokenBarrierError, Empty, Full, ObjectGone, SessionLost
from aiomanager.objects import TYPES
from aiomanager.objects.barrier import Barrier
from aiomanager.objects.condition import Condition
from aiomanager.objects.dict import Dict
from aiomanager.objects.event import Event
from aiomanager.objects.list import List
from aiomanager.objects.lock import Lock
from aiomanager.objects.queue import Queue
from aiomanager.objects.rlock import RLock
from aiomanager.objects.semaphore import BoundedSemaphore, Semaphore
from aiomanager.objects.set import Set
from aiomanager.operation import Operation
from aiomanager.protocol import stream
from aiomanager.protocol.frames import FrameBuffer, frame
from aiomanager.protocol.handshake import Hello
from aiomanager.protocol.keys import KeyCodec
from aiomanager.protocol.messages import CANCELLED, ERROR, FIRST_UNSEQUENCED
from aiomanager.protocol.values import ValueCodec
from aiomanager.sessions import server as server_room
from aiomanager.sessions.client import ClientSession, error_of
from aiomanager.sessions.plans import Leaves, Plans
from aiomanager.sessions.server import ServerCore, ServerSession
from aiomanager.sessions.store import MANAGER, Manager, Store
from aiomanager.stored import ABSENT, MISSING

__all__ = ("World", "narrow_limits", "simulate")

GRACE = 3.0
"""Seconds for which the server keeps a session without connection."""
CHAOS = 12.0
"""Seconds after which nothing fails any more."""
PERMITS = 2
PARTIES = 3
FILLER = "filler"
"""What the janitor puts into a queue for those who wait on an empty one."""

NARROW = {"calls": 10, "window": 700, "frame": 1 << 16}


@contextmanager
def narrow_limits() -> Iterator[dict[str, int]]:
    """Make the limits of what is on its way so small that they are met all the time."""
    saved = [
        (room, name, getattr(room, name))
        for room, name in (
            (stream, "ACK_BYTES"),
            (stream, "ACK_FRAMES"),
            (server_room, "ACK_BYTES"),
            (server_room, "ACK_FRAMES"),
            (server_room, "OUTPUT"),
        )
    ]
    for room, name, _ in saved:
        setattr(room, name, {"ACK_BYTES": 300, "ACK_FRAMES": 8, "OUTPUT": 400}[name])
    try:
        yield NARROW
    finally:
        for room, name, value in saved:
            setattr(room, name, value)


class Broken(AssertionError):
    """A promise of the protocol was broken."""


# --- time ---------------------------------------------------------------------------------------


class Timer:
    """Something that is to happen, unless it is cancelled."""

    __slots__ = ("cancelled", "function", "of_core")

    def __init__(self, function: Callable[[], None], of_core: bool) -> None:
        self.function = function
        self.of_core = of_core
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class WatchedSession(ServerSession):
    """A server's session that tells which of its results were not kept when it ended."""

    __slots__ = ()

    def finish(self) -> None:
        if not self.ended:
            world: World = self._core.hands.world  # type: ignore[attr-defined]
            world.unkept |= {(self.session_id, call_id) for call_id in self._calls}
        super().finish()

    def _work_off(self) -> None:
        waiting = len(self._inbox)
        super()._work_off()
        world: World = self._core.hands.world  # type: ignore[attr-defined]
        world.facts["executed late"] += waiting > len(self._inbox)


class Hands:
    """What the server core is given in place of a loop."""

    def __init__(self, world: "World") -> None:
        self.world = world

    def call_later(self, seconds: float, function: Callable[[], None], /) -> Timer:
        return self.world.later(seconds, function, of_core=True)

    def now(self) -> float:
        return self.world.clock

    def new_id(self) -> bytes:
        return self.world.random.randbytes(16)

    def report(self, message: str, error: BaseException, /) -> None:
        raise Broken(f"the server reports a fault: {message}") from error


# --- connections --------------------------------------------------------------------------------


class Welcome(NamedTuple):
    """The server's answer to a handshake; a session of None says that it knows it no more."""

    session: bytes | None
    received: int


class Pipe:
    """One direction of a connection: a first message of the handshake, then bytes."""

    def __init__(
        self,
        world: "World",
        sink: Callable[[Any], None],
        end: Callable[[], None],
        notice: Callable[[], float],
    ) -> None:
        self.world = world
        self.sink = sink
        self.end = end
        self.notice = notice
        """How long the receiver takes to see that nothing comes any more."""
        self.first: Any = None
        self.flying = b""
        self.closed = False
        self.moving = False

    def start(self, first: Any) -> None:
        if not self.closed:
            self.first = first
            self._move()

    def write(self, data: bytes) -> None:
        if not self.closed:
            self.flying += data
            self._move()

    def _move(self) -> None:
        if not self.moving:
            self.moving = True
            self.world.later(self.world.delay(), self._arrive)

    def _arrive(self) -> None:
        self.moving = False
        random = self.world.random
        if self.first is not None:
            first, self.first = self.first, None
            self.sink(first)
        elif self.flying:
            size = len(self.flying) if random.random() < 0.5 else random.randint(1, 40)
            data, self.flying = self.flying[:size], self.flying[size:]
            self.sink(data)
        if self.first is not None or self.flying:
            self._move()
        elif self.closed:
            self._finish()

    def _finish(self) -> None:
        self.world.later(self.notice(), self.end)

    def close(self) -> None:
        """Take no more; what is in flight still arrives."""
        if not self.closed:
            self.closed = True
            if not self.moving:
                self._finish()

    def cut(self) -> None:
        """Break: any part of what is in flight arrives."""
        if self.closed:
            return
        random = self.world.random
        if self.first is not None:
            if random.random() < 0.5:
                self.first, self.flying = None, b""
            else:
                self.flying = b""
        size = random.choice((0, len(self.flying), random.randint(0, len(self.flying))))
        self.world.facts["bytes lost"] += len(self.flying) > size
        self.flying = self.flying[:size]
        self.close()


class Link:
    """A connection, with what stands for the server's shell at one end of it."""

    def __init__(self, world: "World", app: "App") -> None:
        self.world = world
        self.app = app
        self.session: ServerSession | None = None
        self.written = 0
        self.up = Pipe(world, self._server_receives, self._server_notices, world.late_notice)
        self.down = Pipe(
            world, partial(app.receives, self), partial(app.notices, self), world.notice
        )

    def _server_receives(self, data: Any) -> None:
        world = self.world
        if isinstance(data, Hello):
            self._welcome(data)
        elif self.session is not None:
            self.session.receive_data(data)
            if self.session is not None and self.session.ended:
                self.session = None
                self.down.close()
        else:
            world.facts["old bytes discarded"] += 1

    def _welcome(self, hello: Hello) -> None:
        core = self.world.core
        try:
            session = core.session_of(hello, "peer:0", f"pid {hello.pid}", GRACE)
        except SessionLost:
            self.down.start(Welcome(None, 0))
            return
        if session.attached:
            self.world.facts["resumed before the server noticed"] += 1
        if hello.resume is not None:
            self.world.facts["resumed"] += 1
        self.down.start(Welcome(session.session_id, session.stream.received))
        received = 0 if hello.resume is None else hello.resume.received
        self.session = session
        self.written = received
        session.attach(partial(self._write, session), self._close, received)

    def _write(self, session: ServerSession, data: bytes) -> None:
        """Carry what the server writes; its frames must be all that it keeps, in order."""
        kept = session.stream.kept
        for payload in FrameBuffer(1 << 30).feed(data):
            if payload[1] < FIRST_UNSEQUENCED:
                self.written += 1
                number, message = kept[self.written - kept[0][0]]
                if number != self.written or message != frame(payload):
                    raise Broken(f"message {number} of the server was overtaken")
        self.down.write(data)

    def _close(self) -> None:
        self.session = None
        self.down.close()

    def _server_notices(self) -> None:
        session, self.session = self.session, None
        if session is not None:
            session.detach()
            self.world.core.flush()
        self.down.close()

    def cut(self) -> None:
        self.up.cut()
        self.down.cut()


# --- client processes ---------------------------------------------------------------------------


class Request(NamedTuple):
    """What a task asks for by `yield`: one call of an operation."""

    object_id: int
    operation: Operation[..., Any]
    arguments: tuple[Any, ...]
    cancel: bool = True
    """Whether it may be cancelled."""


class Pause(NamedTuple):
    """What a task asks for by `yield` to do something else for a while."""

    seconds: float


class Call:
    """One call of a task, and where it is: waiting, ready, cancelling or over."""

    __slots__ = ("call_id", "message", "request", "session", "state", "task")

    def __init__(self, task: "Task", request: Request, session: ClientSession["Call"]) -> None:
        self.task = task
        self.request = request
        self.session = session
        self.state = "waiting"
        self.call_id = 0
        self.message: list[Any] = []

    def name(self) -> tuple[bytes, int]:
        """Return what no other call has."""
        return self.session.session_id, self.call_id


class Reply(NamedTuple):
    """How a call ended, as far as its task knows.

    done: it has a result. failed: it ended with an error. undone: it was cancelled and never
    happened. never: it was cancelled before it was sent. completed: it was cancelled too late.
    lost: the session was lost, nobody knows.
    """

    how: str
    value: Any = None
    call: Call | None = None
    session: ServerSession | None = None
    """The server's end of the call's session, if that has not ended."""

    @property
    def happened(self) -> bool | None:
        """Whether an operation that does not wait took effect; None: unknown."""
        return {"done": True, "failed": False, "undone": False, "never": False,
                "completed": True}.get(self.how)  # fmt: skip


Steps: TypeAlias = Generator[Any, Any, None]


class Task:
    """One task of an app."""

    def __init__(self, app: "App", steps: Callable[["Task"], Steps]) -> None:
        self.app = app
        self.owner = next(app.world.owners)
        self.call: Call | None = None
        self.steps = steps(self)
        self.name = steps.__name__

    def advance(self, reply: Any) -> None:
        """Go on with what the task was waiting for."""
        app = self.app
        if not app.alive:
            return
        self.call = None
        try:
            request = self.steps.send(reply)
        except StopIteration:
            app.tasks.remove(self)
            return
        if isinstance(request, Pause):
            app.world.later(request.seconds, partial(self.advance, None))
        else:
            app.issue(self, request)


class Ref:
    """A reference to a shared object, as it stands in a value."""

    def __init__(self, object_id: int) -> None:
        self.object_id = object_id


def _refer(value: object) -> tuple[int, str] | None:
    return (value.object_id, "dict") if isinstance(value, Ref) else None


_values = ValueCodec(allow_pickle=False, refer=_refer, resolve=lambda object_id, _: Ref(object_id))
_keys = KeyCodec(_values)
_plans = Plans(Leaves(_keys.encode, _values.encode, _keys.decode, _values.decode, _keys.decode))


class App:
    """A session of a client process: what the shells do, in little."""

    def __init__(self, world: "World", number: int, client: int) -> None:
        self.world = world
        self.id = client.to_bytes(16, "big")
        """The process: others with the same one are sessions of it as well."""
        self.number = number
        self.alive = True
        self.closing = False
        self.tasks: list[Task] = []
        self.link: Link | None = None
        self.connected = False
        self.session: ClientSession[Call] | None = None
        self.waiting_for_session: list[tuple[Task, Request]] = []
        self.flushing = False
        self.connect()

    def spawn(self, steps: Callable[[Task], Steps]) -> None:
        task = Task(self, steps)
        self.tasks.append(task)
        self.world.later(0.0, partial(task.advance, None))

    # Connections

    def connect(self) -> None:
        if not self.alive or self.link is not None:
            return
        self.link = link = Link(self.world, self)
        session = self.session
        resume = None if session is None else session.resumption()
        link.up.start(
            Hello((1,), ("peer",), b"n" * 32, "sim", self.id, self.number, "", resume, ())
        )

    def receives(self, link: Link, data: Any) -> None:
        """Take what arrives on a connection."""
        if link is not self.link or not self.alive:
            return
        if isinstance(data, Welcome):
            self._welcomed(data)
            return
        session = self.session
        assert session is not None
        for call, message in session.receive_data(data):
            call.message = message
            call.state = "ready"
            # A task takes its answer when the loop comes round to it.
            self.world.later(self.world.random.choice((0.0, 0.0, 0.02)), partial(self.take, call))
        if session.has_output:
            self.flush_soon()

    def _welcomed(self, welcome: Welcome) -> None:
        if welcome.session is None:
            self.drop_link()
            self.lose()
            self.world.later(0.01, self.connect)
            return
        self.connected = True
        if self.session is None:
            self.session = ClientSession(welcome.session, self.world.core.limits)
            waiting, self.waiting_for_session = self.waiting_for_session, []
            for task, request in waiting:
                self.issue(task, request)
        else:
            self.session.attach(welcome.received)
        self.flush()

    def notices(self, link: Link) -> None:
        """See that a connection is broken."""
        if link is not self.link or not self.alive or self.closing:
            return
        self.drop_link()
        self.world.later(self.world.away(), self.connect)

    def drop_link(self) -> None:
        """Let go of the connection."""
        if self.link is not None:
            self.link.cut()
        self.link = None
        self.connected = False
        if self.session is not None:
            self.session.detach()

    def lose(self) -> None:
        """Know that the session is no more."""
        session, self.session = self.session, None
        if session is not None:
            self.world.facts["sessions lost"] += 1
            for call in session.end():
                call.state = "over"
                self.world.later(0.0, partial(call.task.advance, self.reply(call, "lost")))

    def kill(self) -> None:
        """Die in the middle of everything."""
        self.alive = False
        self.world.facts["killed"] += 1
        if self.link is not None:
            self.link.cut()
        for task in self.tasks:
            if task.call is not None and task.call.request.operation.name == "arrive":
                self.world.books.seats_unknown += 1
            task.steps.close()
        self.tasks.clear()

    def close(self) -> None:
        """End in good order."""
        self.closing = True
        session = self.session
        if session is not None and self.connected and self.link is not None:
            session.bye()
            self.flush()
            self.link.up.close()
        self.alive = False

    # Calls

    def issue(self, task: Task, request: Request) -> None:
        """Send a call of a task."""
        session = self.session
        if session is None:
            self.waiting_for_session.append((task, request))
            return
        call = task.call = Call(task, request, session)
        name = request.operation.name
        wire = _plans.of(request.operation).encode(request.arguments)
        call.call_id = session.call(call, request.object_id, name, wire, task.owner)
        self.flush_soon()
        self.world.facts["held back"] += bool(session._held)
        random = self.world.random
        if request.cancel and random.random() < self.world.cancels:
            delay = random.choice((0.0, 0.003, 0.03, 0.3))
            self.world.later(delay, partial(self.cancel, call))

    def post(self, task: Task, object_id: int, operation: Operation[..., Any]) -> None:
        """Send a call that is answered only if it fails."""
        if self.session is not None:
            self.session.post(object_id, operation.name, [], task.owner)
            self.flush_soon()

    def flush_soon(self) -> None:
        if not self.flushing:
            self.flushing = True
            self.world.later(self.world.random.choice((0.0, 0.0, 0.001)), self.flush)

    def flush(self) -> None:
        self.flushing = False
        if self.alive and self.session is not None and self.connected and self.link is not None:
            self.link.up.write(b"".join(self.session.data_to_send()))

    def reply(self, call: Call, how: str, value: Any = None) -> Reply:
        self.world.facts[how] += 1
        sessions = self.world.core.sessions
        return Reply(how, value, call, sessions.get(call.session.session_id))

    def take(self, call: Call) -> None:
        """Give a task the answer of its call."""
        if call.state != "ready" or not self.alive:
            return
        call.state = "over"
        message = call.message
        operation = call.request.operation
        if message[0] == CANCELLED:
            how = "completed" if message[3] else "undone"
            call.task.advance(self.reply(call, how))
            return
        if message[0] == ERROR:
            call.task.advance(self.reply(call, "failed", error_of(message, _keys.decode)))
            return
        if operation.consumes:
            call.session.keep(call.call_id)
            self.flush_soon()
        result = _plans.of(operation).decode_result(message[3])
        call.task.advance(self.reply(call, "done", result))

    def cancel(self, call: Call) -> None:
        """Take a call back, wherever it is."""
        if not self.alive or call.session is not self.session:
            return
        if call.state == "ready":
            if call.message[0] == CANCELLED:
                return
            if not call.request.operation.consumes:
                call.state = "over"
                call.task.advance(self.reply(call, "completed"))
                return
            if call.message[0] == ERROR:
                self.world.facts["cancelled with an error ready"] += 1
        elif call.state != "waiting":
            return
        if call.session.cancel(call.call_id, call):
            call.state = "cancelling"
            self.flush_soon()
        else:
            call.state = "over"
            call.task.advance(self.reply(call, "never"))


# --- the world ----------------------------------------------------------------------------------


class World:
    """The clock, the server, the clients and what goes wrong between them."""

    def __init__(self, seed: int, limits: dict[str, int] | None = None) -> None:
        self.random = random = Random(seed)
        self.clock = 0.0
        self.facts: Counter[str] = Counter()
        """How often what happened: a simulation in which nothing happens proves nothing."""
        self._agenda: list[tuple[float, int, Timer]] = []
        self._number = 0
        self._busy = 0
        self.calm = False
        self.owners = iter(range(1, 1 << 30))
        self.cancels = random.choice((0.0, 0.1, 0.3))
        self.pauses = random.choice((0.0, 0.3, 0.8))
        self.faults = random.choice((0.3, 1.0, 3.0))
        """How many things break in a second."""
        self.unkept: set[tuple[bytes, int]] = set()
        """The calls whose results were not kept when their session ended."""
        self.store = Store(TYPES)
        self.core = ServerCore(self.store, Hands(self), limits=limits)
        self.books = Books(self)
        self._next_app = 0
        self.apps: list[App] = []
        self.janitor = self.new_app()

    # Time

    def later(
        self, seconds: float, function: Callable[[], None], *, of_core: bool = False
    ) -> Timer:
        self._number += 1
        timer = Timer(function, of_core)
        self._busy += not of_core
        heapq.heappush(self._agenda, (self.clock + seconds, self._number, timer))
        return timer

    def step(self) -> None:
        """Let the next thing happen."""
        when, _, timer = heapq.heappop(self._agenda)
        self._busy -= not timer.of_core
        if not timer.cancelled:
            self.clock = max(self.clock, when)
            timer.function()

    def settle(self) -> None:
        """Let everything happen that comes without the core's timers."""
        steps = 0
        while self._busy:
            self.step()
            steps += 1
            if steps > 200_000:
                raise Broken("the simulation does not come to rest")

    def forward(self, seconds: float) -> None:
        """Let everything happen that is due within so many seconds."""
        end = self.clock + seconds
        while self._agenda and self._agenda[0][0] <= end:
            self.step()
        self.clock = end

    @property
    def timers(self) -> int:
        """How many timers of the core are running."""
        return sum(timer.of_core and not timer.cancelled for _, _, timer in self._agenda)

    def delay(self) -> float:
        """How long some bytes are on their way."""
        if self.calm:
            return 0.001
        return self.random.choice((0.0, 0.001, 0.002, 0.01, 0.3))

    def notice(self) -> float:
        """How long a client takes to see that its connection is broken."""
        return 0.001 if self.calm else self.random.choice((0.0, 0.01, 0.1))

    def late_notice(self) -> float:
        """How long the server takes to."""
        return 0.001 if self.calm else self.random.choice((0.0, 0.01, 0.3, 2.0, 4.0))

    def away(self) -> float:
        """How long a client takes to connect again: at times longer than the server waits."""
        return 0.01 if self.calm else self.random.choice((0.0, 0.01, 0.05, 0.5, 2.0, 8.0))

    # What happens

    def new_app(self, client: int = 0) -> App:
        self._next_app += 1
        return App(self, self._next_app, client or self._next_app)

    def run(self) -> None:
        """Run the whole simulation and check what it came to."""
        books = self.books
        self.ask(books.open)
        for _ in range(self.random.randint(2, 4)):
            self.start_app()
        time = 0.0
        while time < CHAOS:
            time += self.random.expovariate(self.faults)
            self.later(time, self.break_something)
        self.forward(CHAOS)
        self.calm = True
        self.settle()
        self.end_waits()
        self.forward(10 * GRACE)
        self.ask(books.close)
        books.check()
        for app in (*self.apps, self.janitor):
            self.check_quiet(app)
        for app in (*self.apps, self.janitor):
            app.close()
        self.settle()
        self.check_empty()

    def ask(self, steps: Callable[[Task], Steps]) -> None:
        """Have the janitor, to whom nothing bad happens, carry out some steps."""
        self.janitor.spawn(steps)
        calm, self.calm = self.calm, True
        cancels, self.cancels = self.cancels, 0.0
        self.settle()
        self.calm, self.cancels = calm, cancels
        if self.janitor.tasks:
            raise Broken(f"{steps.__name__} of the janitor is stuck")

    def start_app(self) -> None:
        """Start a client process, with a session or two."""
        first = self.new_app()
        for _ in range(self.random.choice((0, 0, 1, 2))):
            self.apps.append(self.new_app(first.number))
            self.facts["sessions of one client"] += 1
            self.apps[-1].spawn(self.books.program)
        self.apps.append(first)
        for _ in range(self.random.choice((1, 3, 8))):
            first.spawn(self.books.program)

    def break_something(self) -> None:
        if self.calm or not self.apps:
            return
        random = self.random
        app = random.choice(self.apps)
        if not app.alive:
            return
        if random.random() < 0.85:
            if app.link is not None:
                self.facts["cuts"] += 1
                app.link.cut()
                if random.random() < 0.3:
                    app.notices(app.link)
            return
        for other in [other for other in self.apps if other.id == app.id]:
            other.kill()
            self.apps.remove(other)
        if random.random() < 0.6:
            self.later(self.notice(), partial(self.core.client_died, app.id))
        if random.random() < 0.7:
            self.start_app()

    def end_waits(self) -> None:
        """Give everybody who waits what it waits for, and see that everybody gets it."""
        for _ in range(2000):
            self.settle()
            waiting = [task for app in self.apps for task in app.tasks]
            if not waiting:
                return
            for task in waiting:
                self.check_waits(task)
            self.ask(self.books.help)
            self.forward(0.5)
        raise Broken("not everybody comes to an end")

    def check_waits(self, task: Task) -> None:
        """Raise unless what a task waits for is not there."""
        call = task.call
        if call is None:
            raise Broken(f"{task.name} waits for no call")
        name = call.request.operation.name
        where = f"{name} of app {task.app.number}, call {call.call_id} ({call.state})"
        entry = self.store.entries.get(call.request.object_id)
        if entry is None:
            raise Broken(f"{where} waits for an object that is gone")
        it: Any = entry.object
        if call.state != "waiting" or not call.request.operation.waits:
            raise Broken(f"{where} is never answered")
        there = {
            "get_delivery": lambda: it._items,
            "put": lambda: it._room(),
            "acquire_fenced": lambda: it._mutex.owner is None,
            "acquire": lambda: it._value > 0,
            "arrive": lambda: it._broken or len(it._seats) >= PARTIES,
            "wait": lambda: it._flag if isinstance(it, Event) else it._mutex.waiting.first() and (
                it._mutex.owner is None
            ),
        }[name]()  # fmt: skip
        if there:
            raise Broken(f"{where} waits for what is there")

    def check_quiet(self, app: App) -> None:
        """Raise if a session that rests still has something under way."""
        session = app.session
        if not app.connected or session is None:
            raise Broken(f"app {app.number} has no connection")
        other = self.core.sessions[session.session_id]
        for what, amount in (
            ("calls", session.calls),
            ("cancels", session.cancelling),
            ("held calls", session._held),
            ("losses", session.losses),
            ("server's calls", other._calls),
            ("server's inbox", other._inbox),
            ("server's output", other._output),
        ):
            if amount:
                raise Broken(f"app {app.number} rests and has {what}: {amount}")
        if session.stream.received != other.stream.sent:
            raise Broken(f"app {app.number} has not received all that was sent")
        if session.stream.sent != other.stream.received:
            raise Broken(f"the server has not received all that app {app.number} sent")
        for end in (session.stream, other.stream):
            if end.kept_bytes != sum(len(message) for _, message in end.kept):
                raise Broken(f"app {app.number}: {end.kept_bytes} are not the bytes kept")
            if end.unacknowledged > stream.ACK_FRAMES or end.kept_bytes > 2 * stream.ACK_BYTES:
                raise Broken(f"app {app.number}: {end.unacknowledged} messages stay unconfirmed")

    def check_empty(self) -> None:
        """Raise if anything is left after everybody has left."""
        self.forward(2 * server_room.LINGER)
        store, core = self.store, self.core
        for what, left in (
            ("sessions", core.sessions),
            ("clients", core.clients),
            ("names", store.names),
            ("handed out", store.handed_out),
            ("dirty", core.dirty),
            ("objects", set(store.entries) - {MANAGER}),
            ("timers", self.timers),
        ):
            if left:
                raise Broken(f"at the end there are {what}: {left}")


# --- what the programs do, and what they were promised ------------------------------------------


class Held(NamedTuple):
    """A lock as its holder sees it."""

    fence: int
    session: ServerSession | None
    """The server's end of the session that holds it."""
    through: ClientSession[Call] | None
    app: App

    @property
    def lost(self) -> bool:
        """Whether its holder knows that the session is lost."""
        return self.app.session is not self.through


class Books:
    """The shared objects of a simulation, its programs, and what those were told."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.numbers = iter(range(1, 1 << 30))
        # Each seed has its own habits: what is rare among all of them is common for some.
        self.likes = [world.random.choice((0, 1, 1, 5)) for _ in range(15)] + [1]
        self.log = self.table = self.queue = self.lock = self.event = self.shelf = 0
        self.rlock = self.permits = self.bounded = self.condition = self.barrier = self.members = 0
        self.events_done = 0
        # What became of each: True it happened, False it did not, None nobody knows.
        self.appends: dict[int, bool | None] = {}
        self.append_order: dict[int, list[int]] = {}
        self.hits: Counter[bool | None] = Counter()
        self.claims: dict[int, dict[int, bool | None]] = {}
        self.puts: dict[int, bool | None] = {}
        self.put_order: dict[int, int] = {}
        self.taken: dict[int, list[Call]] = {}
        self.last_taken: dict[tuple[Task, int], int] = {}
        self.holders: dict[int, dict[Task, Held]] = {}
        """Of each lock and semaphore, who has it."""
        self.highest_fence: Counter[int] = Counter()
        self.added: dict[int, bool | None] = {}
        self.seats: Counter[int] = Counter()
        self.seats_unknown = 0
        self.rest: list[int] = []
        self.final: dict[str, Any] = {}

    # The janitor's part

    def open(self, task: Task) -> Steps:
        """Make the shared objects."""
        random = self.world.random
        for name, kind, arguments in (
            ("log", "list", []),
            ("table", "dict", []),
            ("queue", "Queue", [random.choice((0, 1, 3))]),
            ("lock", "Lock", []),
            ("event", "Event", []),
            ("shelf", "dict", []),
            ("rlock", "RLock", []),
            ("permits", "Semaphore", [PERMITS]),
            ("bounded", "BoundedSemaphore", [PERMITS]),
            ("condition", "Condition", []),
            ("barrier", "Barrier", [PARTIES]),
            ("members", "set", []),
        ):
            reply = yield Request(MANAGER, Manager.operations["named"], (kind, name, arguments))
            setattr(self, name, reply.value)

    def help(self, task: Task) -> Steps:
        """Give those who wait what they wait for."""
        waits = {
            other.call.request.operation.name
            for app in self.world.apps
            for other in app.tasks
            if other.call is not None
        }
        if "wait" in waits:
            yield Request(self.event, Event.operations["set"], ())
            acquire = Condition.operations["acquire_fenced"]
            reply = yield Request(self.condition, acquire, (False,))
            if reply.value:
                yield Request(self.condition, Condition.operations["notify_all"], ())
                yield Request(self.condition, Condition.operations["release"], ())
        if "arrive" in waits:
            yield Request(self.barrier, Barrier.operations["reset"], ())
        if "get_delivery" in waits:
            yield Request(self.queue, Queue.operations["put"], (FILLER, False))
        if "put" in waits:
            reply = yield Request(self.queue, Queue.operations["get_delivery"], (False,))
            self.took(task, reply)

    def close(self, task: Task) -> Steps:
        """Read all that is left, and delete the objects."""
        for name, object_id, kind, operation in (
            ("log", self.log, List, "copy"),
            ("table", self.table, Dict, "copy"),
            ("members", self.members, Set, "copy"),
            ("lock", self.lock, Lock, "locked"),
            ("rlock", self.rlock, RLock, "locked"),
            ("condition", self.condition, Condition, "locked"),
            ("permits", self.permits, Semaphore, "value"),
            ("bounded", self.bounded, BoundedSemaphore, "value"),
            ("seats", self.barrier, Barrier, "n_waiting"),
        ):
            reply = yield Request(object_id, kind.operations[operation], ())
            self.final[name] = reply.value
        while True:
            reply = yield Request(self.queue, Queue.operations["get_delivery"], (False,))
            if reply.how != "done":
                break
            self.took(task, reply)
        for name in (
            "log", "table", "queue", "lock", "event", "shelf", "rlock", "permits", "bounded",
            "condition", "barrier", "members",
        ):  # fmt: skip
            yield Request(MANAGER, Manager.operations["delete"], (name,))

    # The programs

    def program(self, task: Task) -> Steps:
        """Do this and that."""
        random = self.world.random
        parts = (
            self.append, self.hit, self.claim, self.put, self.get, self.critical_section,
            self.wait_for_event, self.flip_event, self.lend, self.large, self.join_set,
            self.nested_section, self.take_permit, self.use_condition, self.meet, self.many,
        )  # fmt: skip
        for part in random.choices(parts, self.likes, k=random.randint(5, 15)):
            yield from part(task)
            if random.random() < self.world.pauses:
                yield Pause(random.choice((0.01, 0.2, 1.0)))

    def append(self, task: Task) -> Steps:
        number = next(self.numbers)
        self.appends[number] = None
        self.append_order.setdefault(task.owner, []).append(number)
        reply: Reply = yield Request(self.log, List.operations["append"], (number,))
        self.appends[number] = reply.happened
        self.not_failed(reply)

    def hit(self, task: Task) -> Steps:
        self.hits[None] += 1
        reply: Reply = yield Request(self.table, Dict.operations["increment"], ("hits",))
        self.hits[None] -= 1
        self.hits[reply.happened] += 1
        self.not_failed(reply)

    def claim(self, task: Task) -> Steps:
        number = next(self.numbers)
        key = self.world.random.randint(0, 20)
        mine = self.claims.setdefault(key, {})
        mine[number] = None
        operation = Dict.operations["compare_and_set"]
        reply: Reply = yield Request(self.table, operation, (key, MISSING, number))
        self.not_failed(reply)
        if reply.how == "done":
            mine[number] = reply.value
        elif reply.happened is False:
            mine[number] = False

    def large(self, task: Task) -> Steps:
        """Carry a value that is larger than all limits together, there and back."""
        number = next(self.numbers)
        value = [number] * self.world.random.choice((10, 300, 3000))
        operation = Dict.operations["setdefault"]
        reply: Reply = yield Request(self.shelf, operation, (number, value))
        self.not_failed(reply)
        if reply.how == "done" and reply.value != value:
            raise Broken("an answer belongs to another call")
        reply = yield Request(self.shelf, Dict.operations["pop"], (number, None))
        if reply.how == "done" and reply.value not in (value, ABSENT):
            raise Broken("an answer belongs to another call")

    def many(self, task: Task) -> Steps:
        """Post much at a time, so that calls have to wait until they may be sent."""
        for _ in range(self.world.random.choice((5, 30))):
            task.app.post(task, self.event, Event.operations["clear"])
        yield from self.hit(task)

    def put(self, task: Task) -> Steps:
        number = next(self.numbers)
        self.puts[number] = None
        self.put_order[number] = task.owner
        timeout = self.world.random.choice((None, None, 0.05, 1.0))
        operation = Queue.operations["put"]
        reply: Reply = yield Request(self.queue, operation, (number, True, timeout))
        self.puts[number] = reply.happened
        if reply.how == "completed":
            # It may also have run out of time, which was answered and not looked at.
            self.puts[number] = True if timeout is None else None
        self.not_failed(reply, Full)

    def get(self, task: Task) -> Steps:
        timeout = self.world.random.choice((None, None, 0.05, 1.0))
        reply: Reply = yield Request(self.queue, Queue.operations["get_delivery"], (True, timeout))
        self.not_failed(reply, Empty)
        if reply.how == "completed" and timeout is None:
            raise Broken("a get without timeout was cancelled too late, and has no item")
        self.took(task, reply)

    def took(self, task: Task, reply: Reply) -> None:
        if reply.how != "done":
            return
        item, redelivered = reply.value
        self.world.facts["redelivered"] += redelivered
        if item == FILLER:
            return
        before = self.taken.setdefault(item, [])
        if before:
            self.world.facts["taken twice"] += 1
            if not redelivered:
                raise Broken(f"item {item} was delivered twice without a mark")
            for call in before:
                if call.name() not in self.world.unkept:
                    raise Broken(f"item {item} came again after it was kept")
        assert reply.call is not None
        before.append(reply.call)
        if not redelivered:
            owner = self.put_order[item]
            last = self.last_taken.get((task, owner), 0)
            if item < last:
                raise Broken(f"item {item} came after item {last} of the same task")
            self.last_taken[task, owner] = item

    def critical_section(self, task: Task) -> Steps:
        held = yield from self.acquire(task, self.lock, Lock)
        if held is None:
            return
        yield from self.dwell(task)
        yield from self.release(task, self.lock, Lock, held)

    def nested_section(self, task: Task) -> Steps:
        """Acquire a lock within itself."""
        held = yield from self.acquire(task, self.rlock, RLock)
        if held is None:
            return
        again: Reply = yield Request(self.rlock, RLock.operations["acquire_fenced"], (False,))
        if held.lost:
            self.forget(task, self.rlock)
            return
        self.not_failed(again)
        if again.how == "done":
            if not again.value:
                raise Broken("an RLock was refused to its owner")
            if again.value != held.fence:
                raise Broken(f"an RLock's fence changed within: {held.fence}, {again.value}")
            yield from self.dwell(task)
            yield from self.release(task, self.rlock, RLock, held, last=False)
        if not held.lost:
            yield from self.release(task, self.rlock, RLock, held)
        else:
            self.forget(task, self.rlock)

    def take_permit(self, task: Task) -> Steps:
        random = self.world.random
        it, kind = random.choice(((self.permits, Semaphore), (self.bounded, BoundedSemaphore)))
        held = yield from self.acquire(task, it, kind)
        if held is None:
            return
        yield from self.dwell(task)
        yield from self.release(task, it, kind, held)

    def use_condition(self, task: Task) -> Steps:
        """Wait on a condition, or notify those who do."""
        random = self.world.random
        it, kind = self.condition, Condition
        held = yield from self.acquire(task, it, kind)
        if held is None:
            return
        if random.random() < 0.6:
            # While it sleeps, it has not got the lock; however that ends, it has it again.
            self.forget(task, it)
            timeout = random.choice((None, 0.05, 1.0))
            reply: Reply = yield Request(it, kind.operations["wait"], (timeout,))
            if held.lost:
                return
            self.not_failed(reply)
            if reply.how == "done" and not reply.value and timeout is None:
                raise Broken("a wait without timeout ended without being notified")
            self.world.facts["notified"] += reply.how == "done" and reply.value
            # It has acquired it anew, with a fence that it is not told.
            self.acquired(task, it, 0, reply.session)
        else:
            name = random.choice(("notify", "notify_all"))
            reply = yield Request(it, kind.operations[name], ())
            if not held.lost:
                self.not_failed(reply)
        yield from self.release(task, it, kind, held)

    def acquire(self, task: Task, it: int, kind: Any) -> Generator[Any, Any, "Held | None"]:
        """Acquire a lock or a permit; None if it was not to be had."""
        timeout = self.world.random.choice((None, None, 0.1, 1.0))
        fenced = "acquire_fenced" in kind.operations
        name = "acquire_fenced" if fenced else "acquire"
        reply: Reply = yield Request(it, kind.operations[name], (True, timeout))
        self.not_failed(reply)
        if reply.how == "completed" and timeout is None:
            raise Broken("an acquire without timeout was cancelled too late")
        if reply.how != "done" or not reply.value:
            return None
        assert reply.call is not None
        self.acquired(task, it, reply.value if fenced else 0, reply.session)
        return Held(reply.value, reply.session, reply.call.session, task.app)

    def acquired(self, task: Task, it: int, fence: int, session: ServerSession | None) -> None:
        holders = self.holders.setdefault(it, {})
        if session is None:
            self.world.facts["locks held after expiry"] += 1
        else:
            others = sum(
                other.app.alive and held.session is not None and not held.session.ended
                for other, held in holders.items()
            )
            if others >= (PERMITS if it in (self.permits, self.bounded) else 1):
                raise Broken(f"{others + 1} hold object {it}, one with fence {fence}")
            if fence:
                if fence <= self.highest_fence[it]:
                    raise Broken(f"fence {fence} came after {self.highest_fence[it]}")
                self.highest_fence[it] = fence
        holders[task] = Held(fence, session, None, task.app)

    def forget(self, task: Task, it: int) -> None:
        """Count a task no more among the holders."""
        self.holders[it].pop(task, None)

    def dwell(self, task: Task) -> Steps:
        """Do something while holding something."""
        if self.world.random.random() < 0.5:
            yield from self.append(task)
        else:
            yield Pause(self.world.random.choice((0.0, 0.01, 0.3)))

    def release(self, task: Task, it: int, kind: Any, held: "Held", *, last: bool = True) -> Steps:
        """Give back what the task holds, unless its session is lost, and that with it."""
        app = task.app
        if last:
            self.forget(task, it)
        if held.lost:
            return
        if self.world.random.random() < 0.5:
            app.post(task, it, kind.operations["release"])
            return
        reply: Reply = yield Request(it, kind.operations["release"], ())
        if not held.lost:
            if reply.how == "failed":
                raise Broken(f"object {it} could not be released by its owner: {reply.value}")
            if reply.how == "never":
                app.post(task, it, kind.operations["release"])

    def meet(self, task: Task) -> Steps:
        """Wait for the others at the barrier."""
        timeout = self.world.random.choice((None, 0.3, 3.0))
        reply: Reply = yield Request(self.barrier, Barrier.operations["arrive"], (timeout,))
        self.not_failed(reply, BrokenBarrierError)
        if reply.how == "done":
            index, turn, _ = reply.value
            if turn or index not in range(PARTIES):
                raise Broken(f"a party got the index {index}, and turn {turn}")
            self.seats[index] += 1
            self.world.facts["met"] += 1
        elif reply.how == "failed":
            yield Request(self.barrier, Barrier.operations["reset"], ())
        elif reply.how != "never":
            self.seats_unknown += 1

    def join_set(self, task: Task) -> Steps:
        number = next(self.numbers)
        self.added[number] = None
        reply: Reply = yield Request(self.members, Set.operations["add"], (number,))
        self.added[number] = reply.happened
        self.not_failed(reply)
        found: Reply = yield Request(self.members, Set.operations["contains"], (number,))
        if found.how == "done" and reply.happened is not None and found.value != reply.happened:
            raise Broken(
                f"member {number} was added: {reply.happened}, and is there: {found.value}"
            )

    def wait_for_event(self, task: Task) -> Steps:
        timeout = self.world.random.choice((None, 0.05, 1.0))
        reply: Reply = yield Request(self.event, Event.operations["wait"], (timeout,))
        self.not_failed(reply)
        if reply.how == "done" and not reply.value and timeout is None:
            raise Broken("a wait without timeout ended without the event")

    def flip_event(self, task: Task) -> Steps:
        name = self.world.random.choice(("set", "set", "clear"))
        reply: Reply = yield Request(self.event, Event.operations[name], ())
        self.not_failed(reply)

    def lend(self, task: Task) -> Steps:
        """Make an object, put a reference to it on the shelf, let go of it, and find it again."""
        app = task.app
        reply: Reply = yield Request(MANAGER, Manager.operations["create"], ("dict", []), False)
        if reply.how != "done":
            return
        object_id = reply.value
        key = f"lent {object_id}"
        yield from self.use(task, object_id)
        reply = yield Request(self.shelf, Dict.operations["set"], (key, Ref(object_id)), False)
        if reply.how != "done":
            return
        if app.session is not None:
            app.session.release([object_id])
            app.flush_soon()
        yield Pause(self.world.random.choice((0.0, 0.1)))
        name = self.world.random.choice(("get_item", "pop"))
        reply = yield Request(self.shelf, Dict.operations[name], (key,), False)
        self.not_failed(reply)
        if reply.how == "done":
            yield from self.use(task, reply.value.object_id)
            if app.session is not None:
                app.session.release([object_id])
                app.flush_soon()

    def use(self, task: Task, object_id: int) -> Steps:
        reply: Reply = yield Request(object_id, Dict.operations["increment"], ("n",), False)
        if isinstance(reply.value, ObjectGone):
            raise Broken(f"object {object_id} is gone while somebody refers to it")

    def not_failed(self, reply: Reply, *errors: type[Exception]) -> None:
        if reply.how == "failed" and not isinstance(reply.value, errors):
            raise Broken(f"a call failed: {reply.value!r}") from reply.value

    # What it came to

    def check(self) -> None:
        """Compare what the server holds with what everybody was told."""
        log = self.final["log"]
        times = Counter(log)
        for number, happened in self.appends.items():
            if times[number] > 1:
                raise Broken(f"append {number} was executed {times[number]} times")
            if happened is not None and times[number] != happened:
                raise Broken(f"append {number} was executed {times[number]} times, not {happened}")
        for numbers in self.append_order.values():
            mine = set(numbers)
            if [one for one in log if one in mine] != [one for one in numbers if times[one]]:
                raise Broken("one task's appends changed their order")
        table = self.final["table"]
        hits = table.get("hits", 0)
        if not self.hits[True] <= hits <= self.hits[True] + self.hits[None]:
            raise Broken(f"{hits} increments were executed; their callers were told {self.hits}")
        for key, claims in self.claims.items():
            winners = [number for number, won in claims.items() if won]
            if len(winners) > 1:
                raise Broken(f"{winners} all won {key}")
            if winners and table[key] != winners[0]:
                raise Broken(f"{winners[0]} won {key}, which is {table[key]}")
            if claims.get(table.get(key), False) is False and key in table:
                raise Broken(f"{table[key]} was told that it did not win {key}")
        for number, happened in self.puts.items():
            taken = number in self.taken
            if happened and not taken:
                raise Broken(f"item {number} was put and is lost")
            if happened is False and taken:
                raise Broken(f"item {number} was never put, and was taken")
        for number, happened in self.added.items():
            if happened is not None and (number in self.final["members"]) != happened:
                raise Broken(f"member {number} was added: {happened}; that is not what is there")
        for name in ("lock", "rlock", "condition"):
            if self.final[name]:
                raise Broken(f"the {name} is held by nobody")
        for name in ("permits", "bounded"):
            if self.final[name] != PERMITS:
                raise Broken(f"{self.final[name]} {name} are there of {PERMITS}")
        if self.final["seats"]:
            raise Broken("nobody waits at the barrier, and has a seat there")
        counts = [self.seats[index] for index in range(PARTIES)]
        if max(counts) - min(counts) > self.seats_unknown:
            raise Broken(f"the seats of the barrier were taken {counts} times")


def simulate(seed: int) -> Counter[str]:
    """Run the simulation of a seed; return how often what happened, or raise."""
    if seed % 2:
        with narrow_limits() as limits:
            return _run(seed, limits)
    return _run(seed, None)


def _run(seed: int, limits: dict[str, int] | None) -> Counter[str]:
    original, server_room.ServerSession = server_room.ServerSession, WatchedSession  # type: ignore[misc]
    world = World(seed, limits)
    try:
        world.run()
    except Exception as error:
        error.add_note(f"at {world.clock:.3f} s; so far: {dict(world.facts)}")
        raise
    finally:
        server_room.ServerSession = original  # type: ignore[misc]
    return world.facts
