"""The clients: apps with a session each, whose tasks call operations and are told what came of it.

What an `App` does stands for the shells, which are not part of the simulation.
"""

from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from aiomanager.operation import Operation
from aiomanager.protocol.handshake import Hello
from aiomanager.protocol.keys import KeyCodec
from aiomanager.protocol.messages import CANCELLED, ERROR
from aiomanager.protocol.values import ValueCodec
from aiomanager.sessions.client import ClientSession, error_of
from aiomanager.sessions.plans import Leaves, Plans
from aiomanager.sessions.server import ServerSession

from .network import Link, Welcome

if TYPE_CHECKING:
    from .world import World

__all__ = ("App", "Call", "Pause", "Ref", "Reply", "Request", "Steps", "Task")


class Request(NamedTuple):
    """What a task asks for by `yield`: one call of an operation."""

    object_id: int
    operation: Any
    """An `Operation`."""
    arguments: tuple[Any, ...]
    cancel: bool = True
    """Whether it may be cancelled."""


class Pause(NamedTuple):
    """What a task asks for by `yield` to do something else for a while."""

    seconds: float


class Call:
    """One call of a task, and where it is: waiting, ready, cancelling or over."""

    __slots__ = ("before", "call_id", "issued", "message", "request", "session", "state", "task")

    def __init__(self, task: "Task", request: Request, session: ClientSession["Call"]) -> None:
        self.task = task
        self.request = request
        self.session = session
        self.state = "waiting"
        self.call_id = 0
        self.message: list[Any] = []
        self.issued = task.app.world.clock
        self.before = 0
        """The last call that was made before this one's result was taken."""

    @property
    def surely_kept(self) -> bool:
        """Whether a later call of the session was answered: the server knows of this result."""
        answered = self.task.app.world.answered.get(self.session.session_id, 0)
        return 0 < self.before < answered

    def result(self) -> Any:
        """Return what its answer holds."""
        return _plans.of(self.request.operation).decode_result(self.message[3])

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


INTERRUPTED = 0.03
"""How often a signal handler raises when a blocking client has read an answer."""

Steps: TypeAlias = Generator[Any, Any, None]
"""A program: it yields a `Request` or a `Pause`, and is sent the `Reply`."""


class Task:
    """One task of an app."""

    def __init__(self, app: "App", steps: Callable[["Task"], Steps]) -> None:
        self.app = app
        self.owner = next(app.world.owners)
        self.call: Call | None = None
        self.steps = steps(self)
        self.name: str = getattr(self.steps, "__name__", "")

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
    """A session of a client process: what the shells do, in little.

    One that is `implicit` sends no KEEP: it has one task, and is alone in its process.
    """

    def __init__(self, world: "World", number: int, client: int, *, implicit: bool = False) -> None:
        self.world = world
        self.implicit = implicit
        self.on_end: Callable[[], object] = lambda: None
        """Told when the app has died, or has ended by itself."""
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
        answered = self.world.answered
        for call, message in session.receive_data(data):
            if call.call_id > answered.get(session.session_id, 0):
                answered[session.session_id] = call.call_id
            call.message = message
            call.state = "ready"
            # A task takes its answer when the loop comes round to it.
            self.world.later(self.world.pick(0.0, 0.0, 0.02), partial(self.take, call))
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
            self.link.die()
        for task in self.tasks:
            if task.call is not None:
                self.world.books.perish(task.call)
            task.steps.close()
        self.tasks.clear()
        self.on_end()

    def had(self, session: ServerSession, *, said: bool) -> None:
        """Know that the server learns that this app, which died, had read all its answers.

        It may have resumed the session to take its call back, unless it `said` something since.
        """
        mine = {
            (session.session_id, call_id)
            for call_id, call in session._calls.items()
            if call.waiter.settled
        }
        if said:
            self.world.facts["died with all read"] += bool(mine)
            self.world.read_by_the_dead |= mine
        else:
            self.world.facts["died before it said why it resumed"] += bool(mine)

    def is_gone(self) -> None:
        """Have the server learn that the process is no more: it found its end of the socket."""
        if self.implicit and self.world.random.random() < 0.6:
            self.world.core.client_died(self.id)

    def close(self) -> None:
        """End in good order."""
        self.closing = True
        session = self.session
        if session is not None and self.connected and self.link is not None:
            session.bye()
            self.flush()
            self.link.up.close()
        elif self.link is not None:
            self.link.cut()
        self.alive = False
        self.on_end()

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

    def post(
        self, task: Task, object_id: int, operation: Operation[..., Any], *arguments: Any
    ) -> None:
        """Send a call that is answered only if it fails."""
        if self.session is not None:
            wire = _plans.of(operation).encode(arguments)
            self.session.post(object_id, operation.name, wire, task.owner)
            self.flush_soon()

    def let_go(self, *references: "Ref") -> None:
        """Count a reference to each of these less."""
        if self.session is not None:
            self.session.release([one.object_id for one in references])
            self.flush_soon()

    def flush_soon(self) -> None:
        if not self.flushing:
            self.flushing = True
            self.world.later(self.world.pick(0.0, 0.0, 0.001), self.flush)

    def flush(self) -> None:
        self.flushing = False
        if self.alive and self.session is not None and self.connected and self.link is not None:
            for message in self.session.data_to_send():
                self.link.up.write(message)

    def reply(self, call: Call, how: str, value: Any = None) -> Reply:
        self.world.facts[how] += 1
        sessions = self.world.core.sessions
        return Reply(how, value, call, sessions.get(call.session.session_id))

    def take(self, call: Call) -> None:
        """Give a task the answer of its call."""
        if call.state != "ready" or not self.alive:
            return
        operation = call.request.operation
        interruptible = self.implicit and operation.consumes and call.request.cancel
        if interruptible and self.world.random.random() < INTERRUPTED:
            self.cancel(call)
            if call.state != "ready":
                return
        call.state = "over"
        message = call.message
        if message[0] == CANCELLED:
            how = "completed" if message[3] else "undone"
            call.task.advance(self.reply(call, how))
            return
        if message[0] == ERROR:
            call.task.advance(self.reply(call, "failed", error_of(message, _keys.decode)))
            return
        if operation.consumes:
            call.before = call.session.last_id
            if self.implicit:
                self.world.facts["kept without a word"] += 1
            else:
                call.session.keep(call.call_id)
                self.flush_soon()
        call.task.advance(self.reply(call, "done", call.result()))

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
        if self.implicit and self.connected and self.world.random.random() < 0.5:
            # A blocking client that is interrupted takes a new connection to take a call back.
            self.drop_link()
            self.connect()
            self.world.trouble(self, 0.3)
        if call.session.cancel(call.call_id, call):
            call.state = "cancelling"
            self.flush_soon()
        else:
            call.state = "over"
            call.task.advance(self.reply(call, "never"))
