"""A model of a session that survives its connections, and a search through all of its states.

Two clients want one unit: a queue item or a lock. Each has a session with the server, and each
session has a stream of counted frames in either direction. Connections are cut at any moment,
with any part of the bytes in flight arrived; a process may be killed; a caller may be cancelled;
the server may let a session that has lost its connection expire. The search takes every order of
these events, within `Bounds`, and stops at the first state that breaks a promise (`Fault`).

How the model is cut up:

- A `Side` is one client, its session in the server, and the bytes between them. A `Move` is one
  thing that can happen to a side. A move depends on nothing but its own side, so the moves of a
  side are worked out once, however many states that side appears in.
- A `State` is two sides, the unit, and the queue of those who wait for it. The sides meet there
  alone: a move says what it does to the unit, and `Model.steps` does it.
- A rule of the protocol that the search shall prove necessary is a field of `Rules`.

Some of what a side records is known to no program: `ran` and `holds` exist only so that a fault
can be seen. The numbers of frames and connections are counted from the oldest that still matters;
nothing in the protocol looks at more than their differences, and fewer states are left.

Left out: several waits of one session at a time, the place to which an item goes back, a restart
of the server, and how long anything takes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import NamedTuple

from .search import AnyExcuse, AnyFault, Report, Step, search


class Resource(StrEnum):
    """What the unit is."""

    ITEM = "item"  # gone once it is kept, unless its taker puts it back
    LOCK = "lock"  # held once it is kept, until it is released or its holder's session expires


class FullBuffer(StrEnum):
    """What a side does that keeps as much unacknowledged output as it may."""

    HOLD = "hold"  # it executes nothing, but reads on, and takes the counts from what it reads
    STOP_READING = "stop reading"  # it looks at one frame, and reads on if its count makes room
    EVICT = "evict"  # it goes on, and forgets its oldest output


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The rules of the protocol, each of which can be broken alone."""

    # The stream.
    requests_kept: bool = True  # the client keeps its output until it is acknowledged
    answers_kept: bool = True  # the server keeps its output until it is acknowledged
    old_bytes_discarded: bool = True  # nothing sent on an older attachment is read
    client_trims: bool = True  # on resume the client drops what the server has received
    server_trims: bool = True  # on resume the server drops what the client has received
    trims_exactly: bool = True  # broken: on resume both drop one frame more
    full_buffer: FullBuffer = FullBuffer.HOLD
    acks_alone: bool = True  # counts also travel without a frame that wants to be sent

    # Calls, grants, cancels.
    answers_by_id: bool = True  # broken: an answer belongs to the call that waits
    keep_at_handover: bool = True  # broken: KEEP is sent when the library receives the result
    cancel_sent_detached: bool = True  # broken: a cancel without a connection is not recorded
    cancel_undoes: bool = True  # a cancelled grant gives the unit back
    cancel_withdraws: bool = True  # a cancelled call leaves the queue
    refusal_settles: bool = True  # a cancelled call that timed out before ends with that answer

    # Losing the connection and the session.
    grants_survive_cut: bool = True  # broken: a lost connection takes grants back at once
    resume_serves: bool = True  # a resumed waiter gets a unit that is free already
    expiry_undoes: bool = True  # an expired session gives back what it was granted or holds
    expiry_detached_only: bool = True  # a session whose connection stands does not expire
    kept_item_stays_taken: bool = True  # broken: an expired session's kept item comes back
    returned_item_marked: bool = True  # an item that comes back at expiry is marked redelivered

    # Sessions without KEEP: of clients that make one call at a time, on sockets whose end tells
    # the server whether a process that died had read everything.
    implicit: bool = False
    call_keeps: bool = True  # the next call keeps what was granted before
    read_is_kept: bool = True  # who dies having read the grant keeps it
    unread_is_undone: bool = True  # who dies without having read it does not
    drop_is_no_death: bool = True  # a connection that a live client gave up says nothing
    resumed_first_heard: bool = True  # a resumed client that dies before it says something too


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How often things may happen: `acquires` for each client, the rest for both together."""

    acquires: int
    cuts: int = 0
    crashes: int = 0
    cancels: int = 0
    timeouts: int = 0
    buffer: int = 0  # frames that either end may keep; 0: no limit, and counts need no own frames


class Scarce(IntEnum):
    """What happens a bounded number of times; its place in a budget."""

    CUT = 0
    CRASH = 1
    CANCEL = 2
    TIMEOUT = 3


class Fault(AnyFault):
    """A broken promise."""

    TWO_HOLDERS = "two applications have the unit"
    OWNED = "a call was answered as undone, and the server still knows it"
    FALSE_OUTCOME = "a cancelled caller was told a wrong outcome"
    TWICE = "a call was executed twice"
    OUT_OF_ORDER = "a cancel overtook its call"
    FOREIGN_RELEASE = "a release of a unit that the client does not hold"
    WRONG_ANSWER = "a call got the answer of another call"
    LOST_UNIT = "the unit is taken, and no application has it"
    STUCK = "a connected client waits for a free unit"
    UNANSWERED = "a call will never be answered"
    UNDELIVERED = "a frame will never be delivered"
    GAP = "a count lies outside of what was sent and kept"


class Excuse(AnyExcuse):
    """A reason for which two applications may have the unit."""

    HOLDER_NOT_TOLD = "the session of one expired, and its application does not know it yet"
    TAKER_CRASHED = "redelivered: one was killed before its KEEP arrived"
    TAKER_EXPIRED = "redelivered: the session of one expired before its KEEP arrived"


class Phase(StrEnum):
    """Where the application and its library are."""

    IDLE = "idle"
    WAITING = "waiting"  # for the unit
    READY = "ready"  # the library has the result, the task has not taken it yet
    CANCELLING = "cancelling"  # the task was cancelled: the library waits for the outcome
    RELEASING = "releasing"
    RELEASE_CANCELLED = "release cancelled"
    LOST = "lost"  # told that the session is no more
    DEAD = "dead"  # killed


class Holds(StrEnum):
    """Whether the application has the unit: what a watcher of the program would say."""

    NOTHING = "nothing"
    UNIT = "unit"
    RETURNING = "returning"  # it let go, the server has not heard it yet


class Line(StrEnum):
    """The client's view of its connection."""

    OFF = "off"
    HELLO = "hello"  # opened, the server has not answered yet
    WELCOMED = "welcomed"  # resumed, and what was not confirmed is not sent again yet
    ON = "on"


class Grant(StrEnum):
    """The server's view of a call that wants the unit."""

    PARKED = "parked"
    GRANTED = "granted"  # can be undone
    KEPT = "kept"


class Unit(StrEnum):
    """The server's view of the unit."""

    FREE = "free"
    TAKEN = "taken"
    CONSUMED = "consumed"


class Kind(StrEnum):
    """What a message says."""

    # From the client.
    CALL = "CALL"
    RELEASE = "RELEASE"
    CANCEL = "CANCEL"
    KEEP = "KEEP"
    # From the server.
    RESULT = "RESULT"
    CANCELLED = "CANCELLED"
    # Not counted.
    HELLO = "HELLO"
    WELCOME = "WELCOME"
    ACK = "ACK"


class Message(NamedTuple):
    """What one end tells the other."""

    kind: Kind
    call: int = 0
    # Of a cancel: 0 undone or never happened, 1 answered before. Of a result: 1 timed out.
    outcome: int = 0


class Frame(NamedTuple):
    """A message on its way: counted frames bear no number, their receiver counts them."""

    connection: int
    ack: int
    message: Message


class End(NamedTuple):
    """One end of a stream."""

    sent: int = 0
    received: int = 0
    unacked: tuple[Message, ...] = ()

    @property
    def acked(self) -> int:
        return self.sent - len(self.unacked)

    def trimmed(self, count: int) -> "End":
        """Forget the output that the other end has received."""
        known = count - self.acked
        return self._replace(unacked=self.unacked[known:]) if known > 0 else self


class Side(NamedTuple):
    """One client, its session in the server, and the bytes between them."""

    # The client.
    phase: Phase = Phase.IDLE
    call: int = 0  # the number of its latest call
    acquires: int = 0  # how many of its calls wanted the unit
    holds: Holds = Holds.NOTHING
    line: Line = Line.ON
    connection: int = 0  # its latest connection
    client: End = End()

    # The session.
    alive: bool = True
    attached: bool = True
    attachment: int = 0  # the connection that it is, or was, attached to
    server: End = End()
    grants: tuple[tuple[int, Grant], ...] = ()
    ran: int = 0  # the latest call that was executed
    read: bool = False  # its client died, and had read everything
    heard: bool = True  # a counted frame has come on this attachment, or it was the first

    # The bytes in flight; those to the client belong to its latest connection.
    up: tuple[Frame, ...] = ()
    down: tuple[Frame, ...] = ()

    @property
    def joined(self) -> bool:
        """Both ends believe in the same connection."""
        return self.attached and self.line is not Line.OFF and self.attachment == self.connection

    @property
    def over(self) -> bool:
        return self.phase in (Phase.LOST, Phase.DEAD)


class Move(NamedTuple):
    """Something that can happen to a side, and what it does to all that the sides share."""

    name: str
    side: Side
    optional: bool = False  # it may never happen: a state with no other moves is at rest
    costs: Scarce | None = None
    unit: Unit | None = None
    returned: bool = False  # the unit is an item that is now marked redelivered
    joins: int = 0  # the call that enters the queue
    leaves: tuple[int, ...] = ()  # the calls that leave it
    serves: bool = False  # the queue is looked at again
    fault: Fault | None = None


class State(NamedTuple):
    """Two sides, by their numbers in the model's table, and what they share."""

    left: int
    right: int
    unit: Unit
    returned: bool
    queue: tuple[tuple[int, int], ...]  # (0 for left or 1 for right, call), first come first
    budget: tuple[int, ...]  # how often each `Scarce` move may still happen


class _Known(NamedTuple):
    """What can be said of a side by itself."""

    side: Side
    moves: tuple[tuple[Move, int], ...]  # a move, and the number of the side after it
    at_rest: bool
    gap: bool


class Model:
    """All states of two sides under some rules, and the steps from one to the next."""

    def __init__(self, resource: Resource, rules: Rules, bounds: Bounds) -> None:
        self.resource = resource
        self.rules = rules
        self.bounds = bounds
        self._sides: list[Side] = []
        self._numbers: dict[Side, int] = {}
        self._known: dict[int, _Known] = {}
        self._granted: dict[tuple[int, int], int] = {}

    # The two sides together.

    def start(self) -> State:
        side = self._number(Side())
        bounds = self.bounds
        budget = bounds.cuts, bounds.crashes, bounds.cancels, bounds.timeouts
        return State(side, side, Unit.FREE, False, (), budget)

    def steps(self, state: State) -> Iterator[Step[State]]:
        """All that can happen next."""
        for who, number in enumerate((state.left, state.right)):
            for move, after in self.known(number).moves:
                if move.costs is None or state.budget[move.costs]:
                    yield Step(move.name, who, self._after(state, who, move, after), move.fault)

    def _after(self, state: State, who: int, move: Move, number: int) -> State:
        sides = [state.left, state.right]
        sides[who] = number
        unit = state.unit if move.unit is None else move.unit
        queue = state.queue
        if move.leaves:
            left = {(who, call) for call in move.leaves}
            queue = tuple(entry for entry in queue if entry not in left)
        if move.joins:
            queue += ((who, move.joins),)
        if move.serves and unit is Unit.FREE:
            for entry in queue:
                waiter, call = entry
                if self._sides[sides[waiter]].attached:  # others keep their place, and wait on
                    sides[waiter] = self._grant(sides[waiter], call)
                    queue = tuple(other for other in queue if other != entry)
                    unit = Unit.TAKEN
                    break
        budget = state.budget
        if move.costs is not None:
            budget = tuple(n - (move.costs == place) for place, n in enumerate(budget))
        returned = state.returned or move.returned
        return State(sides[0], sides[1], unit, returned, queue, budget)

    def _grant(self, number: int, call: int) -> int:
        key = number, call
        if key not in self._granted:
            side = self._sides[number]
            grants = (*_without(side, call).grants, (call, Grant.GRANTED))
            side = self._answer(side._replace(grants=grants), Message(Kind.RESULT, call))
            self._granted[key] = self._number(side)
        return self._granted[key]

    def canonical(self, state: State) -> State:
        """The same state with the clients in the order of their numbers: neither is special."""
        if state.left < state.right:
            return state
        queue = tuple((1 - who, call) for who, call in state.queue)
        if state.left == state.right and state.queue <= queue:
            return state
        return state._replace(left=state.right, right=state.left, queue=queue)

    def at_rest(self, state: State) -> bool:
        return self.known(state.left).at_rest and self.known(state.right).at_rest

    def judge(self, state: State) -> Iterator[Fault | Excuse]:
        """The promises that a state breaks, and why it does not break one that it seems to."""
        left, right = self.known(state.left), self.known(state.right)
        if left.gap or right.gap:
            yield Fault.GAP
        if left.side.holds is Holds.UNIT and right.side.holds is Holds.UNIT:
            yield self._excuse(state, left.side, right.side) or Fault.TWO_HOLDERS
        if left.at_rest and right.at_rest:
            fault = self._judge_rest(state, left.side, right.side)
            if fault:
                yield fault

    def _excuse(self, state: State, *sides: Side) -> Excuse | None:
        for side in sides:
            # A session that expires while it is attached excuses nothing.
            if side.alive or side.attached:
                continue
            if self.resource is Resource.LOCK:
                return Excuse.HOLDER_NOT_TOLD
            if state.returned:
                crashed = side.phase is Phase.DEAD
                return Excuse.TAKER_CRASHED if crashed else Excuse.TAKER_EXPIRED
        return None

    def _judge_rest(self, state: State, *sides: Side) -> Fault | None:
        """The fault of a state in which nothing happens unless somebody wants something."""
        kept = 0
        for side in sides:
            if side.over:
                continue
            if side.up or side.down:
                return Fault.UNDELIVERED
            if side.phase not in (Phase.IDLE, Phase.WAITING):
                return Fault.UNANSWERED
            for call, grant in side.grants:
                held = grant is Grant.KEPT or (self.rules.implicit and grant is Grant.GRANTED)
                if grant is Grant.PARKED and (side.phase, side.call) == (Phase.WAITING, call):
                    if state.unit is Unit.FREE:
                        return Fault.STUCK
                elif held and side.holds is Holds.UNIT:
                    kept += 1
                else:
                    return Fault.LOST_UNIT
            if side.phase is Phase.WAITING and not side.grants:
                return Fault.UNANSWERED
            client, server = side.client, side.server
            if client.received < server.sent or server.received < client.sent:
                return Fault.UNDELIVERED
        if state.unit is Unit.TAKEN and kept != 1:
            return Fault.LOST_UNIT
        if state.unit is Unit.CONSUMED and all(side.holds is Holds.NOTHING for side in sides):
            return Fault.LOST_UNIT
        return None

    # One side.

    def known(self, number: int) -> _Known:
        known = self._known.get(number)
        if known is None:
            side = self._sides[number]
            moves = tuple((move, self._number(move.side)) for move in self._moves(side))
            known = self._known[number] = _Known(
                side, moves, all(move.optional for move, _ in moves), self._has_gap(side)
            )
        return known

    def _number(self, side: Side) -> int:
        side = _normal(side)
        number = self._numbers.setdefault(side, len(self._sides))
        if number == len(self._sides):
            self._sides.append(side)
        return number

    def _has_gap(self, side: Side) -> bool:
        if side.phase is Phase.DEAD or not side.alive:
            return False
        client, server = side.client, side.server
        return not (
            client.acked <= server.received <= client.sent
            and server.acked <= client.received <= server.sent
        )

    def _moves(self, side: Side) -> Iterator[Move]:
        if not side.over:
            yield from self._application_moves(side)
            yield from self._client_moves(side)
        if side.alive:
            yield from self._server_moves(side)
        yield from self._arrivals(side)
        if self.bounds.buffer:
            yield from self._count_moves(side)

    def _full(self, end: End) -> bool:
        limit = self.bounds.buffer
        evicts = self.rules.full_buffer is FullBuffer.EVICT
        return bool(limit) and len(end.unacked) >= limit and not evicts

    def _kept(self, end: End, message: Message, kept: bool) -> End:
        unacked = (*end.unacked, message) if kept else ()
        if self.bounds.buffer and self.rules.full_buffer is FullBuffer.EVICT:
            unacked = unacked[-self.bounds.buffer :]
        return end._replace(sent=end.sent + 1, unacked=unacked)

    # The application: everything but taking a result is its own will.

    def _application_moves(self, side: Side) -> Iterator[Move]:
        phase = side.phase
        room = not self._full(side.client)  # a new call waits for room, KEEP and CANCEL do not
        if phase is Phase.IDLE and side.holds is Holds.UNIT and room:
            after = side._replace(phase=Phase.RELEASING, call=side.call + 1, holds=Holds.RETURNING)
            yield Move("release", self._request(after, Kind.RELEASE), optional=True)
        elif phase is Phase.IDLE and side.acquires < self.bounds.acquires and room:
            after = side._replace(
                phase=Phase.WAITING, call=side.call + 1, acquires=side.acquires + 1
            )
            yield Move("acquire", self._request(after, Kind.CALL), optional=True)
        if phase is Phase.READY:
            after = side._replace(phase=Phase.IDLE, holds=Holds.UNIT)
            if self.rules.keep_at_handover and not self.rules.implicit:
                after = self._request(after, Kind.KEEP)
            yield Move("take", after)
        if phase in (Phase.WAITING, Phase.READY, Phase.RELEASING):
            if self.rules.implicit:
                if phase is Phase.READY:  # read, and never handed on
                    side = side._replace(holds=Holds.NOTHING)
                side = self._dropped(side)  # who is interrupted knows not what it has read
            if side.line is Line.ON or self.rules.cancel_sent_detached:
                releasing = phase is Phase.RELEASING
                cancelled = Phase.RELEASE_CANCELLED if releasing else Phase.CANCELLING
                after = self._request(side._replace(phase=cancelled), Kind.CANCEL)
            else:
                after = side._replace(phase=Phase.IDLE)
            yield Move("cancel", after, optional=True, costs=Scarce.CANCEL)
        if phase in (Phase.CANCELLING, Phase.RELEASE_CANCELLED) and side.line is not Line.ON:
            # The recorded CANCEL, or the end of the session, will undo what can be undone.
            yield Move("return detached", side._replace(phase=Phase.IDLE), optional=True)

    # The client's library and its connection.

    def _client_moves(self, side: Side) -> Iterator[Move]:
        gone = self._dropped(side)
        if side.line is Line.OFF:
            hello = Frame(side.connection + 1, side.client.received, Message(Kind.HELLO))
            after = side._replace(
                line=Line.HELLO, connection=hello.connection, up=(*side.up, hello)
            )
            yield Move("connect", after)
        else:
            yield Move("lose connection", gone, optional=True, costs=Scarce.CUT)
            greeting = any(frame.connection > side.attachment for frame in side.up)
            if not side.joined and not greeting:
                yield Move("notice cut", gone)
        read = side.joined and not side.down
        if side.line is Line.WELCOMED:
            yield Move("resend", self._send_up(side._replace(line=Line.ON), *side.client.unacked))
        killed = gone._replace(
            phase=Phase.DEAD,
            read=gone.read or (self.rules.implicit and (read or not self.rules.unread_is_undone)),
        )
        if self.resource is Resource.LOCK:  # an item that it took is delivered all the same
            killed = killed._replace(holds=Holds.NOTHING)
        yield Move("be killed", killed, optional=True, costs=Scarce.CRASH)
        if side.down:
            yield self._client_receives(side._replace(down=side.down[1:]), side.down[0])

    def _dropped(self, side: Side) -> Side:
        """The side after its client has closed its socket."""
        taken_for_death = side.joined and not side.down and not self.rules.drop_is_no_death
        return side._replace(line=Line.OFF, down=(), read=side.read or taken_for_death)

    def _request(self, side: Side, kind: Kind) -> Side:
        """Send a message of the client: recorded always, on its way if there is a connection."""
        message = Message(kind, side.call)
        client = self._kept(side.client, message, self.rules.requests_kept)
        side = side._replace(client=client)
        return self._send_up(side, message) if side.line is Line.ON else side

    def _send_up(self, side: Side, *messages: Message) -> Side:
        if not side.joined:  # the server has given this connection up
            return side
        ack = side.client.received
        frames = (Frame(side.connection, ack, message) for message in messages)
        return side._replace(up=(*side.up, *frames))

    def _client_receives(self, side: Side, frame: Frame) -> Move:
        _, ack, message = frame
        name = f"receive {_words(message)}"
        if message.kind is Kind.WELCOME:
            client = self._trimmed_on_resume(side.client, ack, self.rules.client_trims)
            side = side._replace(line=Line.ON, client=client)
            if self.rules.implicit:  # in between it may be killed
                return Move(name, side._replace(line=Line.WELCOMED))
            return Move(name, self._send_up(side, *client.unacked))
        client = side.client.trimmed(ack)
        if message.kind is Kind.ACK:
            return Move(name, side._replace(client=client))
        side = side._replace(client=client._replace(received=client.received + 1))
        own = message.call == side.call
        if self.rules.answers_by_id and not own:
            return Move(name, side)  # its caller was cancelled and returned
        fault = None if own else Fault.WRONG_ANSWER
        settled = side._replace(phase=Phase.IDLE)
        match side.phase, message.kind:
            case Phase.WAITING, Kind.RESULT if message.outcome == 0:
                side = side._replace(phase=Phase.READY)
                if self.rules.implicit:  # who reads it may have handed it on
                    side = side._replace(holds=Holds.UNIT)
                elif not self.rules.keep_at_handover:
                    side = self._request(side, Kind.KEEP)
            case ((Phase.WAITING | Phase.RELEASING), Kind.RESULT):
                side = settled
            case Phase.CANCELLING, Kind.RESULT if message.outcome == 1:
                # CANCELLED will say 1, for this answer came first: nothing that stands.
                side = settled if self.rules.refusal_settles else side
                fault = None
            case ((Phase.CANCELLING | Phase.RELEASE_CANCELLED), Kind.CANCELLED):
                if own and side.alive:
                    fault = _outcome_fault(side, message.outcome)
                side = settled
            case _:  # the other answer of a cancelled call
                fault = None
        return Move(name, side, fault=fault)

    # The server and its end of the connection.

    def _server_moves(self, side: Side) -> Iterator[Move]:
        if side.attached:
            cut = side.joined
            undone = () if self.rules.grants_survive_cut else _calls(side, Grant.GRANTED)
            after = side._replace(
                attached=False,
                grants=_without(side, *undone).grants,
                up=tuple(frame for frame in side.up if frame.connection != side.attachment),
                read=side.read and not _unheard(side),
            )
            yield Move(
                "server loses connection" if cut else "server notices cut",
                after,
                optional=cut,
                costs=Scarce.CUT if cut else None,
                unit=Unit.FREE if undone else None,
                serves=bool(undone),
            )
        if not side.attached or not self.rules.expiry_detached_only:
            yield self._expire(side)
        for call in _calls(side, Grant.PARKED):
            after = _without(side, call)
            after = self._answer(after, Message(Kind.RESULT, call, 1))
            yield Move("time out", after, optional=True, costs=Scarce.TIMEOUT, leaves=(call,))

    def _expire(self, side: Side) -> Move:
        unit = None
        returned = False
        granted, kept = _calls(side, Grant.GRANTED), _calls(side, Grant.KEPT)
        heard = side.heard or not self.rules.resumed_first_heard
        if side.read and heard and not _unheard(side) and self.rules.read_is_kept:
            granted, kept = (), granted + kept
        if kept and self.resource is Resource.ITEM and self.rules.kept_item_stays_taken:
            unit = Unit.CONSUMED
        elif (granted or kept) and self.rules.expiry_undoes:
            unit = Unit.FREE
            returned = (
                bool(granted) and self.resource is Resource.ITEM and self.rules.returned_item_marked
            )
        return Move(
            "session expires",
            side._replace(
                alive=False,
                grants=(),
                up=tuple(frame for frame in side.up if frame.message.kind is Kind.HELLO),
            ),
            optional=side.phase is not Phase.DEAD,  # a death is noticed, a silence may end
            unit=unit,
            returned=returned,
            leaves=tuple(call for call, _ in side.grants),
            serves=True,
        )

    def _arrivals(self, side: Side) -> Iterator[Move]:
        """The server reads the next frame of any connection."""
        heard: set[int] = set()
        for place, frame in enumerate(side.up):
            if frame.connection in heard:
                continue
            heard.add(frame.connection)
            after = side._replace(up=side.up[:place] + side.up[place + 1 :])
            if frame.message.kind is Kind.HELLO:
                yield self._attach(after, frame)
            elif side.alive and side.attached:
                server = side.server.trimmed(frame.ack)
                if frame.message.kind is Kind.ACK or not self._full(server):
                    yield self._execute(after._replace(server=server), frame)

    def _attach(self, side: Side, frame: Frame) -> Move:
        name = "server reads HELLO"
        waits = side.line is Line.HELLO and frame.connection == side.connection
        if not side.alive:
            if not waits:
                return Move(name, side)
            side = side._replace(phase=Phase.LOST, line=Line.OFF, down=())
            if self.resource is Resource.LOCK:  # nobody can be told to forget an item
                side = side._replace(holds=Holds.NOTHING)
            return Move("learn that the session is lost", side)
        server = self._trimmed_on_resume(side.server, frame.ack, self.rules.server_trims)
        side = side._replace(
            attached=True,
            attachment=frame.connection,
            server=server,
            read=False,
            heard=not self.rules.implicit,
        )
        if self.rules.old_bytes_discarded:
            # An older HELLO too: it would move the session back to a connection that is dead.
            side = side._replace(
                up=tuple(other for other in side.up if other.connection > frame.connection)
            )
        if waits:
            side = self._send_down(side, Message(Kind.WELCOME), *server.unacked)
        return Move(name, side, serves=self.rules.resume_serves)

    def _trimmed_on_resume(self, end: End, count: int, trims: bool) -> End:
        if not trims:
            return end
        return end.trimmed(count if self.rules.trims_exactly else count + 1)

    def _answer(self, side: Side, message: Message) -> Side:
        server = self._kept(side.server, message, self.rules.answers_kept)
        # Nobody reads what is written after a death.
        return self._send_down(side._replace(server=server, read=False), message)

    def _send_down(self, side: Side, *messages: Message) -> Side:
        if not side.joined:  # sent into a connection that the client has given up
            return side
        ack = side.server.received
        frames = (Frame(side.connection, ack, message) for message in messages)
        return side._replace(down=(*side.down, *frames))

    def _execute(self, side: Side, frame: Frame) -> Move:
        message = frame.message
        kind, call, _ = message
        name = f"server reads {_words(message)}"
        if kind is Kind.ACK:
            return Move(name, side)
        server = side.server
        side = side._replace(server=server._replace(received=server.received + 1), heard=True)
        grants = dict(side.grants)
        if kind is Kind.KEEP:
            if grants.get(call) is Grant.GRANTED:
                grants[call] = Grant.KEPT
            return Move(name, side._replace(grants=tuple(grants.items())))
        if kind is Kind.CANCEL:
            return self._cancel(side, call, name)
        fault = Fault.TWICE if call <= side.ran else None
        side = side._replace(ran=max(call, side.ran))
        if self.rules.implicit and self.rules.call_keeps:
            side = side._replace(
                grants=tuple(
                    (one, Grant.KEPT if grant is Grant.GRANTED else grant)
                    for one, grant in side.grants
                )
            )
        if kind is Kind.CALL:
            side = side._replace(grants=(*side.grants, (call, Grant.PARKED)))
            return Move(name, side, joins=call, serves=True, fault=fault)
        kept = _calls(side, Grant.KEPT)
        if not kept:
            fault = fault or Fault.FOREIGN_RELEASE
        side = _without(side, *kept)
        if side.holds is Holds.RETURNING:
            side = side._replace(holds=Holds.NOTHING)
        side = self._answer(side, Message(Kind.RESULT, call))
        return Move(name, side, unit=Unit.FREE, serves=True, fault=fault)

    def _cancel(self, side: Side, call: int, name: str) -> Move:
        grant = dict(side.grants).get(call)
        if grant is None or grant is Grant.KEPT:
            fault = Fault.OUT_OF_ORDER if call > side.ran else None
            return Move(name, self._answer(side, Message(Kind.CANCELLED, call, 1)), fault=fault)
        if grant is Grant.PARKED or self.rules.cancel_undoes:
            side = _without(side, call)
        side = self._answer(side, Message(Kind.CANCELLED, call, 0))
        if grant is Grant.PARKED:
            return Move(name, side, leaves=(call,) if self.rules.cancel_withdraws else ())
        if not self.rules.cancel_undoes:
            return Move(name, side)
        return Move(name, side, unit=Unit.FREE, serves=True)

    # Counts that travel without a frame that wants to be sent: they matter to a full buffer only.

    def _count_moves(self, side: Side) -> Iterator[Move]:
        if not side.joined or not side.alive:
            return
        client, server = side.client, side.server
        on_way_up = [frame.ack for frame in side.up if frame.connection == side.connection]
        on_way_down = [frame.ack for frame in side.down]
        if self.rules.acks_alone:
            if side.line is Line.ON and client.received > max((server.acked, *on_way_up)):
                yield Move("acknowledge", self._send_up(side, Message(Kind.ACK)))
            if server.received > max((client.acked, *on_way_down)):
                yield Move("server acknowledges", self._send_down(side, Message(Kind.ACK)))
        if self.rules.full_buffer is FullBuffer.HOLD and self._full(server):
            for ack in sorted(set(on_way_up)):
                if ack > server.acked:
                    yield Move("server reads ahead", side._replace(server=server.trimmed(ack)))


def _without(side: Side, *calls: int) -> Side:
    return side._replace(grants=tuple(entry for entry in side.grants if entry[0] not in calls))


def _unheard(side: Side) -> bool:
    """Bytes are lost with the connection: it did not end with the death of its client alone."""
    return any(frame.connection == side.attachment for frame in side.up)


def _calls(side: Side, grant: Grant) -> tuple[int, ...]:
    return tuple(call for call, state in side.grants if state is grant)


def _outcome_fault(side: Side, outcome: int) -> Fault | None:
    """Compare what a cancelled caller is told with what the server did."""
    grant = dict(side.grants).get(side.call)
    if side.phase is Phase.RELEASE_CANCELLED:
        happened = side.ran >= side.call
    elif outcome == 0:
        return Fault.OWNED if grant else None
    else:
        happened = grant is Grant.KEPT
    return None if happened == bool(outcome) else Fault.FALSE_OUTCOME


def _words(message: Message) -> str:
    if not message.call:
        return message.kind
    if message.kind is Kind.CANCELLED:
        return f"CANCELLED {message.call} with outcome {message.outcome}"
    refused = ": timed out" if message.outcome else ""
    return f"{message.kind} {message.call}{refused}"


def _normal(side: Side) -> Side:
    """The same side without what can no longer matter, counting from the oldest that still can."""
    if side.over and not side.alive:
        return Side(side.phase, holds=side.holds, line=Line.OFF, alive=False, attached=False)
    if side.phase is Phase.DEAD or not side.alive:
        # No frame will be kept for the other end any more, and no count compared.
        side = side._replace(client=End(), server=End())
    up, down, connection = side.client.acked, side.server.acked, side.attachment
    return side._replace(
        connection=side.connection - connection,
        attachment=0,
        client=_from_zero(side.client, up, down),
        server=_from_zero(side.server, down, up),
        up=tuple(
            Frame(frame.connection - connection, max(frame.ack - down, 0), frame.message)
            for frame in side.up
        ),
        down=tuple(Frame(0, max(frame.ack - up, 0), frame.message) for frame in side.down),
    )


def _from_zero(end: End, sent: int, received: int) -> End:
    return End(end.sent - sent, end.received - received, end.unacked)


def check(
    resource: Resource,
    rules: Rules,
    bounds: Bounds,
    ignored: frozenset[AnyFault] = frozenset(),
) -> Report:
    """Search all states, until none is left or one has a fault not ignored."""
    return search(Model(resource, rules, bounds), ignored)
