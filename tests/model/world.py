"""The tasks, sessions and calls in the model of owners, whatever the thing is that they share.

`model.py` shows that the stream of a session brings each message once and in order, or that the
session ends. The model of owners begins there. A few tasks, each an owner of its own, share one
thing. Each has a session, alone or with another task; a client has one session or two. Calls,
cancels, grants and timeouts cross on the wire in every order; sessions lose their connection and
are resumed, or expire; clients are killed. The search takes all orders within `Bounds` and stops
at the first state that breaks a promise (`Fault`).

How the model is cut up:

- A `State` is everything at one moment. A `World` is a state taken apart, in which one thing
  happens: what tasks do and what the server does with their messages.
- `owners.py` has worlds with one thing in them each, and puts the states together.
- A rule of the design that the search shall prove necessary is a field of `Rules`.

A detached session is frozen: what was written before is as good as read before, since nobody but
its own two ends would know the difference. Some of what is recorded is known to no program, and is
there so that a fault can be seen: `Task.holds`, and all in `Ghost`.

Left out: leases, owners that are everybody, deadlocks, a BYE, several calls of one task at a time,
cancels of what does not wait, and how long anything takes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple

from .search import AnyExcuse, AnyFault


class Thing(StrEnum):
    """What the tasks share."""

    SEMAPHORE = "semaphore"  # with no permits of its own it is a signal
    BOUNDED = "bounded semaphore"
    RLOCK = "rlock"
    CONDITION = "condition"
    BARRIER = "barrier"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The rules of the design, each of which can be broken alone."""

    # Whoever waits, whatever for.
    absent_passed_over: bool = True  # a session without connection is served after all others
    place_kept: bool = True  # who is back has the place that it had
    resume_serves: bool = True  # who is back gets what is free already
    cancel_withdraws: bool = True  # a cancelled call waits no more
    cancel_undoes: bool = True  # a cancelled grant is taken back
    kept_undone: bool = True  # also one that was kept, until the next call
    end_withdraws: bool = True  # an ended session waits no more
    end_gives_back: bool = True  # what an ended session holds passes on
    waits_end_first: bool = True  # broken: it may pass on to a call of the same session
    death_ends_all: bool = True  # broken: a death ends one session of the client alone

    # Semaphores.
    own_permit_first: bool = True  # a release gives back the caller's own permit if it has one
    bounded_refuses: bool = True  # a bounded semaphore has no more permits than at first
    signals_used_up: bool = True  # permits that were added do not come back by themselves

    # Locks.
    owner_is_task: bool = True  # broken: all tasks of a session are one owner
    again_at_once: bool = True  # its owner may have a lock again without waiting
    levels_counted: bool = True  # broken: one release frees the lock
    levels_by_session: bool = True  # broken: the end of one session frees a named owner's lock
    undo_by_level: bool = True  # broken: a grant that is undone frees the lock
    undo_by_fence: bool = True  # broken: it is undone though the lock has changed hands since
    fence_at_grant: bool = True  # broken: a fence is drawn when the wait begins

    # Conditions.
    gives_up_all: bool = True  # who waits gives up all of its levels
    levels_restored: bool = True  # and has them all again before it is told
    late_has_lock: bool = True  # also when its time is over
    cancelled_has_lock: bool = True  # also when it is cancelled
    notified_stays: bool = True  # who was notified is not too late any more
    cancel_passes_on: bool = True  # a cancelled call passes on what it was notified of
    undo_passes_on: bool = True  # also one that was answered already
    end_passes_on: bool = True  # so does the end of the session

    # Barriers.
    late_breaks: bool = True  # a party whose time is over breaks the barrier
    inside_not_late: bool = True  # not one that waits for the action alone
    absent_counted: bool = True  # parties without connection count
    broken_refuses: bool = True  # nobody may wait at a broken barrier
    reset_ends_waits: bool = True  # a reset sends away whoever waits
    reset_ends_action: bool = True  # and who runs the action
    pass_on_by_actor: bool = True  # only who runs the action lets the others through
    actor_gone_breaks: bool = True  # who dies while it runs the action breaks the barrier
    actor_undone_returns: bool = True  # before it has begun, the others wait for another party


class Place(NamedTuple):
    """Where a task is: the numbers of its client, its session, and of the owner that it names."""

    client: int
    session: int
    name: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Who there is, and how often things may happen."""

    places: tuple[Place, ...]
    calls: tuple[int, ...]  # of each task, those that may wait and those that notify
    permits: int = 0
    parties: int = 2
    action: bool = False
    cuts: int = 0
    crashes: int = 0
    cancels: int = 0
    timeouts: int = 0
    extras: int = 0  # releases without a permit; resets and failures of a barrier


class Scarce(IntEnum):
    """What happens a bounded number of times; its place in a budget."""

    CUT = 0
    CRASH = 1
    CANCEL = 2
    TIMEOUT = 3
    EXTRA = 4


class Fault(AnyFault):
    """A broken promise."""

    TOO_MANY = "more have a unit than there are"
    LOST = "a unit is taken, and nobody has it"
    OWNED = "the server and a task that waits for nothing do not agree what it has"
    STUCK = "a connected session waits for what is there"
    UNANSWERED = "a call will never be answered"
    ABSENT_FIRST = "a session without connection was served before one that has one"
    OUT_OF_TURN = "who came later was served before"
    FALSE_OUTCOME = "a caller was told a wrong outcome"
    FENCE = "a fence did not rise"
    LEVELS = "a wait ended without the levels that were given up for it, or did not give them up"
    NOTIFICATION_LOST = "a notification reached nobody, and somebody sleeps"
    MIXED = "parties of different turns, or too few of them, passed together"
    DIVIDED = "one party of a turn was told its end, and others wait on or were told another"
    PASSED_BROKEN = "a broken barrier let somebody through"
    EARLY = "the parties passed before the action was done"


class Excuse(AnyExcuse):
    """A reason for which more may have a unit than there are."""

    HOLDER_NOT_TOLD = "the session of one expired, and its task does not know it yet"
    TAKER_GONE = "the session of one ended before it could say that it has the signal"


class Phase(StrEnum):
    """Where a task is."""

    IDLE = "idle"
    WAITING = "waiting"  # for an answer
    CANCELLING = "cancelling"  # it was cancelled: its library waits for the outcome
    ACTING = "acting"  # it runs the barrier's action
    LOST = "lost"  # told that its session is no more
    DEAD = "dead"


class Op(StrEnum):
    """What a task may call."""

    NOTHING = ""
    ACQUIRE = "acquire"
    RELEASE = "release"
    ADD = "release too many"
    WAIT = "wait"
    NOTIFY = "notify"
    ARRIVE = "arrive"
    PASS_ON = "pass_on"
    ABORT = "abort"
    RESET = "reset"


WAITS = frozenset({Op.ACQUIRE, Op.WAIT, Op.ARRIVE})


class Link(StrEnum):
    """The server's view of a session."""

    ATTACHED = "attached"
    DETACHED = "detached"
    ENDED = "ended"


class Stage(StrEnum):
    """The server's view of a call."""

    DONE = "done"
    PARKED = "parked"
    GRANTED = "granted"  # can be undone
    KEPT = "kept"  # can be undone until the next call
    COMING_BACK = "coming back"  # cancelled: it waits for the lock that its caller gave up


class Kind(StrEnum):
    """What a message is."""

    CALL = "CALL"
    KEEP = "KEEP"
    CANCEL = "CANCEL"
    RESULT = "RESULT"
    CANCELLED = "CANCELLED"


class Told(StrEnum):
    """What a RESULT or a CANCELLED says."""

    NOTHING = ""
    DONE = "done"
    REFUSED = "refused"
    GRANTED = "granted"
    LATE = "late"  # the time was over first
    NOTIFIED = "notified"
    NOT_NOTIFIED = "not notified"
    ACT = "act"  # run the action
    PASSED = "passed"
    BROKEN = "broken"
    UNDONE = "undone"  # the outcome 0
    STANDS = "stands"  # the outcome 1


GONE = frozenset({Phase.LOST, Phase.DEAD})
FINAL = frozenset({Told.DONE, Told.REFUSED, Told.LATE, Told.PASSED, Told.BROKEN})
"""What cannot be undone."""


class Message(NamedTuple):
    """What one end of a session tells the other."""

    kind: Kind
    task: int
    op: Op = Op.NOTHING
    told: Told = Told.NOTHING
    number: int = 0  # of a lock: the fence; of a barrier: the index


class Task(NamedTuple):
    """One task of an application, with what its library knows."""

    left: int  # how many calls it may still begin
    phase: Phase = Phase.IDLE
    op: Op = Op.NOTHING  # its call; of an idle task the one that can still be taken back
    holds: int = 0  # permits or levels that it has
    gave_up: int = 0  # levels
    final: bool = False  # it was cancelled, and the answer that came first cannot be undone


class Session(NamedTuple):
    """One session: its connection, and what was said and is not heard yet."""

    link: Link = Link.ATTACHED
    up: tuple[Message, ...] = ()
    down: tuple[Message, ...] = ()


class Call(NamedTuple):
    """What the server knows of the latest call of a task."""

    stage: Stage = Stage.DONE
    op: Op = Op.NOTHING
    fence: int = 0
    levels: int = 1  # those that a grant is to bring
    notified: bool = False
    late: bool = False
    age: int = 0  # of a seat at a barrier: of so many turns before this one it is


NO_CALL = Call()


class Ghost(NamedTuple):
    """What nobody knows, and what shows a fault."""

    order: tuple[int, ...] = ()  # the tasks that wait, in the order in which they began
    seen: int = 0  # the highest fence that a task was told
    owed: int = 0  # notifications that somebody was sent, and has not taken yet
    added: int = 0  # signals
    again: bool = False  # one of them was taken back from who may have it
    absent: int = 0  # parties that went away during the action


class State(NamedTuple):
    """Everything at one moment."""

    tasks: tuple[Task, ...]
    sessions: tuple[Session, ...]
    calls: tuple[Call, ...]
    out: tuple[int, ...]  # who has a permit, or a level: once for each, the oldest first
    free: int  # permits that nobody has
    fence: int  # the last that was given
    line: tuple[int, ...]  # who waits for a permit, a lock, or the action to be done
    asleep: tuple[int, ...]  # who waits to be notified, or for more parties
    actor: int | None
    broken: bool
    ghost: Ghost
    budget: tuple[int, ...]


class World:
    """A state taken apart, in which something happens."""

    def __init__(self, rules: Rules, bounds: Bounds, state: State) -> None:
        self.rules = rules
        self.bounds = bounds
        self.places = bounds.places
        self.tasks = list(state.tasks)
        self.sessions = list(state.sessions)
        self.calls = list(state.calls)
        self.out = list(state.out)
        self.free = state.free
        self.fence: int = state.fence
        self.line = list(state.line)
        self.asleep = list(state.asleep)
        self.actor = state.actor
        self.broken = state.broken
        self.ghost = state.ghost
        self.order = list(state.ghost.order)
        self.budget = state.budget
        self.fault: Fault | None = None

    def state(self) -> State:
        return State(
            tuple(self.tasks),
            tuple(self.sessions),
            tuple(self.calls),
            tuple(self.out),
            self.free,
            self.fence,
            tuple(self.line),
            tuple(self.asleep),
            self.actor,
            self.broken,
            self.ghost._replace(order=tuple(self.order)),
            self.budget,
        )

    def blame(self, fault: Fault, unless: bool = False) -> None:
        if not unless and self.fault is None:
            self.fault = fault

    def note(self, **changes: Any) -> None:
        self.ghost = self.ghost._replace(**changes)

    def mark(self, number: int, **changes: Any) -> None:
        self.calls[number] = self.calls[number]._replace(**changes)

    def attached(self, number: int) -> bool:
        return self.sessions[self.places[number].session].link is Link.ATTACHED

    def identity(self, number: int) -> object:
        """Whoever has the same one is the same owner."""
        _, session, name = self.places[number]
        if not self.rules.owner_is_task:
            return session
        return number if name is None else f"named {name}"

    def same_owner(self, number: int) -> bool:
        """Whether the lock is this task's."""
        return bool(self.out) and self.identity(self.out[0]) == self.identity(number)

    # What the tasks do.

    def wishes(self, number: int, task: Task) -> Iterator[tuple[Op, Scarce | None]]:
        """What an idle task may call."""
        raise NotImplementedError

    def _say(self, number: int, kind: Kind, op: Op = Op.NOTHING) -> None:
        place = self.places[number].session
        session = self.sessions[place]
        if session.link is not Link.ENDED:  # else nobody will hear it
            message = Message(kind, number, op)
            self.sessions[place] = session._replace(up=(*session.up, message))

    def call(self, number: int, op: Op) -> None:
        self._say(number, Kind.CALL, op)
        task = self.tasks[number]
        left, holds, gave_up = task.left, task.holds, 0
        if op in WAITS or op is Op.NOTIFY:
            left -= 1
        if op is Op.WAIT:
            holds, gave_up = 0, holds
        elif op is Op.RELEASE and holds:  # who lets go does so before the server hears of it
            holds -= 1
        self.tasks[number] = Task(left, Phase.WAITING, op, holds, gave_up)

    def namesakes(self, number: int) -> list[int]:
        """All tasks that are the same owner, and know of no end of their session."""
        mine = self.identity(number)
        return [
            one
            for one, task in enumerate(self.tasks)
            if self.identity(one) == mine and task.phase not in GONE
        ]

    def cancel(self, number: int) -> None:
        """Cancel the call that is under way, or take back what it has just brought."""
        self._say(number, Kind.CANCEL)
        task = self.tasks[number]
        holds, gave_up = task.holds, task.gave_up
        if task.phase is Phase.IDLE and task.op is Op.WAIT:
            holds, gave_up = 0, holds
        elif task.phase is Phase.IDLE:
            holds = max(holds - 1, 0)  # a namesake may have released it
        self.tasks[number] = Task(task.left, Phase.CANCELLING, task.op, holds, gave_up)

    def receive(self, place: int) -> None:
        session = self.sessions[place]
        message, *down = session.down
        self.sessions[place] = session._replace(down=tuple(down))
        number, told = message.task, message.told
        task = self.tasks[number]
        if message.kind is Kind.CANCELLED:
            self.blame(Fault.FALSE_OUTCOME, unless=(told is Told.STANDS) == task.final)
            self._settle(number, task.op is Op.WAIT)
        elif task.phase is Phase.CANCELLING:
            self.tasks[number] = task._replace(final=told in FINAL)
        elif told is Told.ACT:
            self._say(number, Kind.KEEP)
            self.tasks[number] = task._replace(phase=Phase.ACTING)
        elif told in FINAL:
            # A namesake may have released the lock first, or its end may have.
            refusable = task.op is Op.ADD or self.places[number].name is not None
            self.blame(Fault.FALSE_OUTCOME, unless=told is not Told.REFUSED or refusable)
            self._settle(number, False)
        else:
            self._say(number, Kind.KEEP)
            if told is Told.GRANTED:
                self._take(number, message.number)
            self._settle(number, task.op is Op.WAIT, task.op)

    def _take(self, number: int, fence: int) -> None:
        task = self.tasks[number]
        if fence:
            rises = fence > self.ghost.seen or (
                fence == self.ghost.seen
                and (task.holds > 0 or self.places[number].name is not None)
            )
            self.blame(Fault.FENCE, unless=rises)
            self.note(seen=fence)
        self.tasks[number] = task._replace(holds=task.holds + 1)

    def _settle(self, number: int, back: bool, op: Op = Op.NOTHING) -> None:
        """End a call; `back`: with the levels that were given up for it."""
        task = self.tasks[number]
        holds = task.gave_up if back else task.holds
        if back:
            self.blame(Fault.LEVELS, unless=self.out.count(number) == holds)
        fresh = op if self.bounds.cancels and self.alone(number) else Op.NOTHING
        self.tasks[number] = Task(task.left, op=fresh, holds=holds)

    def alone(self, number: int) -> bool:
        """Whether no other task has this one's session: it makes one call at a time."""
        return sum(place.session == self.places[number].session for place in self.places) == 1

    def learn(self, place: int) -> None:
        self._stop(Phase.LOST, lambda one: one.session == place)

    def kill(self, client: int) -> None:
        self._stop(Phase.DEAD, lambda one: one.client == client)
        for place in {one.session for one in self.places if one.client == client}:
            self.sessions[place] = self.sessions[place]._replace(down=())

    def _stop(self, phase: Phase, which: Callable[[Place], bool]) -> None:
        for number, place in enumerate(self.places):
            if which(place):
                holds = self.tasks[number].holds if self.signals else 0
                self.tasks[number] = Task(0, phase, holds=holds)

    # What the server does, whatever the thing is.

    @property
    def signals(self) -> bool:
        """Whether units are used up by those who take them."""
        return False

    def _tell(self, number: int, told: Told, fence: int = 0, kind: Kind = Kind.RESULT) -> None:
        place = self.places[number].session
        session = self.sessions[place]
        message = Message(kind, number, Op.NOTHING, told, fence)
        if session.link is not Link.ENDED and self.tasks[number].phase is not Phase.DEAD:
            self.sessions[place] = session._replace(down=(*session.down, message))

    def _tell_back(self, number: int, told: Told = Told.UNDONE) -> None:
        self._tell(number, told, kind=Kind.CANCELLED)

    def grant(self, number: int, told: Told, fence: int = 0) -> None:
        self.mark(number, stage=Stage.GRANTED, fence=fence)
        self._tell(number, told, fence)

    def answer(self, number: int, told: Told, index: int = 0) -> None:
        """Say what cannot be undone."""
        self.calls[number] = NO_CALL
        self._tell(number, told, index)

    def park(self, number: int, queue: list[int], **call: Any) -> None:
        self.calls[number] = Call(Stage.PARKED, **call)
        queue.append(number)
        self.order.append(number)

    def leave(self, number: int) -> None:
        for queue in (self.line, self.asleep, self.order):
            if number in queue:
                queue.remove(number)

    def first(self, queue: list[int], *, absent: bool = False) -> int | None:
        """Who is to be served next; with `absent` one without connection if there is no other."""
        ready = [number for number in queue if self.attached(number)]
        chosen = ready if self.rules.absent_passed_over else queue
        if not chosen and absent:
            chosen = queue
        if not chosen:
            return None
        number = chosen[0]
        self.blame(Fault.ABSENT_FIRST, unless=not ready or number in ready)
        earlier = self.order[: self.order.index(number)] if number in self.order else []
        if self.attached(number):
            self.blame(Fault.OUT_OF_TURN, unless=not any(one in ready for one in earlier))
        return number

    def read(self, place: int) -> None:
        session = self.sessions[place]
        message, *up = session.up
        self.sessions[place] = session._replace(up=tuple(up))
        number = message.task
        call = self.calls[number]
        if message.kind is Kind.CALL:
            self.calls[number] = NO_CALL
            self.execute(number, message.op)
        elif message.kind is Kind.KEEP:
            self.note(owed=self.ghost.owed - call.notified)
            if self.bounds.cancels and self.alone(number):
                self.mark(number, stage=Stage.KEPT)
            else:
                self.calls[number] = NO_CALL
        elif call.stage is Stage.PARKED:
            self.retract(number)
        elif call.stage is Stage.DONE or (call.stage is Stage.KEPT and not self.rules.kept_undone):
            self._tell_back(number, Told.STANDS)
        else:
            if call.stage is Stage.KEPT:
                self.note(owed=self.ghost.owed + call.notified)
            self.calls[number] = NO_CALL
            if self.rules.cancel_undoes:
                self.undo(number, call)
            self._tell_back(number)

    def execute(self, number: int, op: Op) -> None:
        raise NotImplementedError

    def retract(self, number: int) -> None:
        """Take back a call that waits."""
        self.calls[number] = NO_CALL
        if self.rules.cancel_withdraws:
            self.withdraw(number)
        self.serve()
        self._tell_back(number)

    def undo(self, number: int, call: Call) -> None:
        """Take back what a call was granted."""
        raise NotImplementedError

    def serve(self) -> None:
        """Hand out what is there."""

    def may_be_late(self, number: int) -> bool:
        return self.calls[number].stage is Stage.PARKED

    def time_out(self, number: int) -> None:
        self.leave(number)
        self.answer(number, Told.LATE)

    def detach(self, place: int) -> None:
        self.sessions[place] = self.sessions[place]._replace(link=Link.DETACHED)

    def resume(self, place: int) -> None:
        self.sessions[place] = self.sessions[place]._replace(link=Link.ATTACHED)
        if not self.rules.place_kept:
            self.line.sort(key=lambda number: self.places[number].session == place)
        if self.rules.resume_serves:
            self.serve()

    def end(self, *places: int) -> None:
        """End sessions: their waits, then their grants, then what they hold."""
        tasks = [number for number, one in enumerate(self.places) if one.session in places]
        before = list(self.calls)
        if not self.rules.waits_end_first:
            self.give_back(tasks, before)
        for place in places:
            self.sessions[place] = Session(Link.ENDED)
        for number in tasks:
            self.calls[number] = NO_CALL
            if self.rules.end_withdraws:
                self.withdraw(number)
        if self.rules.waits_end_first:
            self.give_back(tasks, before)

    def withdraw(self, number: int) -> None:
        self.leave(number)

    def give_back(self, tasks: list[int], calls: list[Call]) -> None:
        """Pass on what an ended session has, whose calls were so."""
        raise NotImplementedError

    def see_death(self, client: int) -> None:
        self.end(*self.left_of(client))

    def left_of(self, client: int) -> list[int]:
        """The sessions that end when the server sees that the client is dead."""
        places = sorted({one.session for one in self.places if one.client == client})
        if not self.rules.death_ends_all:
            del places[1:]
        return [place for place in places if self.sessions[place].link is not Link.ENDED]

    # What must be true at any moment.

    def judge(self) -> Iterator[Fault | Excuse]:
        raise NotImplementedError

    def _judge_owners(self) -> Iterator[Fault]:
        """The server and those who wait for nothing agree about what they have."""
        for number, place in enumerate(self.places):
            count = self.out.count(number)
            if self.sessions[place.session].link is Link.ENDED:
                if count and not self.signals:
                    yield Fault.LOST
                continue
            group = [
                one
                for one in self.namesakes(number)
                if self.sessions[self.places[one].session].link is not Link.ENDED
            ]
            tasks = [self.tasks[one] for one in group]
            if group and group[0] == number and all(task.phase is Phase.IDLE for task in tasks):
                has = sum(self.out.count(one) for one in group)
                if has != sum(task.holds for task in tasks):
                    yield Fault.OWNED

    def at_rest(self) -> bool:
        """Whether nothing happens unless somebody wants something."""
        for number, (client, place, _) in enumerate(self.places):
            session, phase = self.sessions[place], self.tasks[number].phase
            if session.link is Link.ENDED:
                if phase not in GONE:
                    return False
            elif phase is Phase.DEAD:
                if self.left_of(client):
                    return False
            elif phase is Phase.ACTING or (
                session.link is Link.ATTACHED and (session.up or session.down)
            ):
                return False
        return True

    def judge_rest(self) -> Iterator[Fault]:
        for number, task in enumerate(self.tasks):
            call = self.calls[number]
            if task.phase is Phase.DEAD and number in self.out and not self.signals:
                yield Fault.LOST
            if not self.attached(number):
                continue
            waits = call.stage is Stage.PARKED and number in self.order
            if (task.phase is Phase.WAITING and not waits) or (
                task.phase is Phase.CANCELLING and call.stage is not Stage.COMING_BACK
            ):
                yield Fault.UNANSWERED
