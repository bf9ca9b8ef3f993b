"""The real server beside the model: what the model says will happen is done to `ServerCore`.

A `Twin` carries each message by hand, at the moment at which the model has it read. Then it looks
at what everybody can see: what each session is told and has not heard, and who has what.
"""

from typing import Any

from aiomanager.errors import SessionLost
from aiomanager.objects import TYPES
from aiomanager.protocol.frames import FrameBuffer, frame
from aiomanager.protocol.handshake import Hello, Resume
from aiomanager.protocol.messages import (
    CALL,
    CANCEL,
    CANCELLED,
    ERROR,
    KEEP,
    RESULT,
    decode,
    encode,
)
from aiomanager.sessions.server import ServerCore, ServerSession
from aiomanager.sessions.store import Store
from aiomanager.waiter import Alarm

from .search import Step
from .world import GONE, Bounds, Kind, Link, Message, Op, State, Thing, Told

GRACE = 10.0
"""The grace of session 0; the next one's is a second longer, so that each has an alarm to know."""
TIMEOUT = 1000.0
"""The timeout of call 0; the next one's is a second longer."""
OBSERVER = 99
"""A client that looks."""

MADE = {
    Thing.SEMAPHORE: "Semaphore",
    Thing.BOUNDED: "BoundedSemaphore",
    Thing.RLOCK: "RLock",
    Thing.CONDITION: "Condition",
    Thing.BARRIER: "Barrier",
}


class Different(AssertionError):
    """The server does not do what the model does."""


class Ring:
    """An alarm that rings when it is told to."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Hands:
    """What the core needs of the world, in which no time passes."""

    def __init__(self) -> None:
        self.rings: dict[float, Ring] = {}
        self.ids = 0

    def call_later(self, seconds: float, function: Any, /) -> Alarm:
        ring = self.rings[seconds] = Ring(function)
        return ring

    def now(self) -> float:
        return 0.0

    def new_id(self) -> bytes:
        self.ids += 1
        return self.ids.to_bytes(16, "big")

    def report(self, message: str, error: BaseException, /) -> None:
        raise AssertionError(f"the server reports a fault: {message}") from error

    def ring(self, seconds: float) -> None:
        ring = self.rings.pop(seconds)
        if not ring.cancelled:
            ring.function()


class End:
    """A client's end of one session."""

    def __init__(self, core: ServerCore, client: int, number: int) -> None:
        self.core = core
        self.client = client
        self.grace = GRACE + number
        self.received = 0
        self.attachment = 0
        self.up: list[bytes] = []
        self.session = self._open(None)
        self._attach()

    def _open(self, resume: Resume | None) -> ServerSession:
        client = self.client.to_bytes(16, "big")
        hello = Hello((1,), ("peer",), b"n" * 32, "", client, self.client, "", resume, ())
        return self.core.session_of(hello, "peer:0", f"client {self.client}", self.grace)

    def _attach(self) -> None:
        self.session.attach(lambda data: None, lambda: None, self.received)

    def resume(self) -> None:
        self.attachment += 1
        resume = Resume(self.session.session_id, self.received, self.attachment)
        assert self._open(resume) is self.session
        self._attach()

    def unheard(self) -> list[list[Any]]:
        """All messages that the server has made and this end has not taken."""
        frames = [data for number, data in self.session.stream.kept if number > self.received]
        return [decode(payload) for payload in FrameBuffer(1 << 20).feed(b"".join(frames))]

    def say(self, kind: int, *rest: Any) -> None:
        self.up.append(frame(encode([kind, self.received, *rest])))


class Twin:
    """A server core that does what the model does."""

    def __init__(self, thing: Thing, bounds: Bounds) -> None:
        self.thing = thing
        self.places = bounds.places
        self.permits = bounds.permits
        self.hands = Hands()
        self.core = ServerCore(Store(TYPES), self.hands)
        self.observer = End(self.core, OBSERVER, OBSERVER)
        arguments: list[Any] = []
        if thing in (Thing.SEMAPHORE, Thing.BOUNDED):
            arguments = [bounds.permits]
        elif thing is Thing.BARRIER:
            arguments = [bounds.parties, "an action" if bounds.action else None]
        self.object_id = self.ask(0, "create", MADE[thing], arguments)
        clients = {place.session: place.client for place in bounds.places}
        self.ends = [End(self.core, clients[number], number) for number in sorted(clients)]
        self.calls = 0
        self.ops: dict[int, tuple[int, Op]] = {}
        """The task and the operation of each call."""
        self.latest: dict[int, int] = {}
        """The latest call of each task."""
        self.turns: dict[int, int] = {}
        """The turn of each task that was told to act."""
        self.fences: dict[int, int] = {}
        """The real fence of each one in the model."""

    def ask(self, object_id: int, name: str, *arguments: Any) -> Any:
        """Call an operation as one who only looks."""
        end = self.observer
        end.session.receive_data(
            frame(encode([CALL, end.received, 0, object_id, name, list(arguments), 1]))
        )
        (answer,) = end.unheard()
        end.received += 1
        assert answer[0] == RESULT, answer
        return answer[3]

    def follow(self, before: State, step: Step[State]) -> None:
        """Do what the model has done."""
        place = self.places[step.who]
        end = self.ends[place.session]
        match step.name.split()[0], step.name:
            case "server", "server sees the death":
                self.core.client_died(place.client.to_bytes(16, "big"))
            case "server", _:
                end.session.receive_data(end.up.pop(0))
            case "hear", _:
                answer = end.unheard()[0]
                if answer[0] == RESULT and self.ops[answer[2]][1] is Op.ARRIVE and answer[3][1]:
                    self.turns[step.who] = answer[3][1]
                end.received += 1
            case "time", _:
                self.hands.ring(TIMEOUT + self.latest[step.who])
            case "lose", _:
                end.session.detach()
            case "resume", _:
                end.resume()
            case "session", _:
                self.hands.ring(end.grace)
            case "learn", _:
                try:
                    end.resume()
                except SessionLost:
                    pass
                else:
                    raise AssertionError("the session is there")
            case _:  # it is the client's own affair
                pass
        if not step.name.startswith(("server", "session")):
            for session, after in zip(before.sessions, step.state.sessions, strict=True):
                for message in after.up[len(session.up) :]:
                    self._say(message)

    def _say(self, message: Message) -> None:
        task = message.task
        end = self.ends[self.places[task].session]
        if message.kind is Kind.CALL:
            self.calls += 1
            self.latest[task] = self.calls
            self.ops[self.calls] = task, message.op
            name, arguments = self._operation(task, message.op)
            end.say(CALL, self.calls, self.object_id, name, arguments, task + 1)
        elif message.kind is Kind.KEEP:
            end.say(KEEP, [self.latest[task]])
        else:
            end.say(CANCEL, self.latest[task])

    def _operation(self, task: int, op: Op) -> tuple[str, list[Any]]:
        named = self.places[task].name
        owner = None if named is None else f"name {named}"
        timeout = TIMEOUT + self.calls
        match op:
            case Op.ACQUIRE if self.thing in (Thing.SEMAPHORE, Thing.BOUNDED):
                return "acquire", [True, timeout]
            case Op.ACQUIRE:
                return "acquire_fenced", [True, timeout, owner]
            case Op.ADD:
                return "release", []
            case Op.RELEASE:
                return "release", [owner]
            case Op.WAIT:
                return "wait_fenced", [timeout]
            case Op.ARRIVE:
                return op.value, [timeout]
            case Op.PASS_ON:
                return op.value, [self.turns[task]]
            case _:
                return op.value, []

    def told(self, end: End) -> list[tuple[int, Told, int]]:
        """What a session was told and has not heard, in the words of the model."""
        return [self._in_words(*answer[:1], *answer[2:]) for answer in end.unheard()]

    def _in_words(self, kind: int, call: int, value: Any, *_: Any) -> tuple[int, Told, int]:
        task, op = self.ops[call]
        number = 0
        if kind == CANCELLED:
            told = Told.STANDS if value else Told.UNDONE
        elif kind == ERROR:
            told = Told.BROKEN if op in (Op.ARRIVE, Op.PASS_ON) else Told.REFUSED
        elif op is Op.WAIT:
            notified, fence = value
            assert fence == self._see("holder")[2]
            told = Told.NOTIFIED if notified else Told.NOT_NOTIFIED
        elif op is Op.ARRIVE:
            number, turn, _ = value
            told = Told.ACT if turn else Told.PASSED
        elif op is Op.ACQUIRE:
            told = Told.GRANTED if value else Told.LATE
            number = value if value is not True else 0
        else:
            told = Told.DONE
        return task, told, int(number)

    def compare(self, state: State) -> None:
        """Compare what everybody can see; raise Different."""
        try:
            self._compare_sessions(state)
            self._compare_thing(state)
        except AssertionError as error:
            raise Different(str(error)) from error

    def _compare_sessions(self, state: State) -> None:
        for number, (session, end) in enumerate(zip(state.sessions, self.ends, strict=True)):
            task = next(one for one, place in enumerate(self.places) if place.session == number)
            assert end.session.ended == (session.link is Link.ENDED)
            if session.link is not Link.ENDED and state.tasks[task].phase not in GONE:
                assert end.session.attached == (session.link is Link.ATTACHED)
                expected = [(one.task, one.told) for one in session.down]
                told = self.told(end)
                assert [one[:2] for one in told] == expected
                for message, (_, _, number) in zip(session.down, told, strict=True):
                    if self.thing in (Thing.RLOCK, Thing.CONDITION):
                        self._same_fence(message.number, number)
                    else:
                        assert number == message.number

    def _same_fence(self, fence: int, real: int) -> None:
        assert (fence > 0) == (real > 0)
        assert self.fences.setdefault(fence, real) == real
        in_order = [self.fences[one] for one in sorted(self.fences)]
        assert in_order == sorted(set(in_order)), "fences do not rise"

    def _see(self, name: str) -> Any:
        return self.ask(self.object_id, name)

    def _compare_thing(self, state: State) -> None:
        names = [self._name(task) for task in state.out]
        if self.thing is Thing.BARRIER:
            inside = len(state.asleep) + len(state.line) + (state.actor is not None)
            assert (self._see("n_waiting"), self._see("broken")) == (inside, state.broken)
            return
        assert self._see("waiting") == len(state.line)
        if self.thing in (Thing.SEMAPHORE, Thing.BOUNDED):
            assert self._see("value") == state.free
            # Who used up a signal is not known.
            assert [name for name, _ in self._see("holders")] == names * bool(self.permits)
        else:
            holder = self._see("holder")
            assert (holder is not None) == bool(names)
            if holder is not None:
                assert holder[0] in names
                self._same_fence(state.fence, holder[2])
        if self.thing is Thing.CONDITION:
            assert self._see("sleeping") == len(state.asleep)

    def _name(self, task: int) -> str:
        client, _, name = self.places[task]
        who = f"task or thread {task + 1}" if name is None else f"name {name}"
        return f"client {client}, {who}"
