"""A model of what sessions own: permits, levels of a lock, sleeps in a condition, barrier seats.

`world.py` tells what the model is about, and has all that does not depend on the thing shared.
Here are the things, one by one, and the steps from each state to the next.
"""

from collections.abc import Callable, Iterator
from typing import TypeAlias

from .search import AnyExcuse, AnyFault, Report, Step, search
from .world import (
    GONE,
    NO_CALL,
    WAITS,
    Bounds,
    Call,
    Excuse,
    Fault,
    Ghost,
    Link,
    Op,
    Phase,
    Rules,
    Scarce,
    Session,
    Stage,
    State,
    Task,
    Thing,
    Told,
    World,
)


class Semaphore(World):
    """Permits: of a bounded semaphore, or of one that begins with none and has signals added."""

    bounded = False

    @property
    def signals(self) -> bool:
        return not self.bounds.permits

    def wishes(self, number: int, task: Task) -> Iterator[tuple[Op, Scarce | None]]:
        if task.left:
            yield Op.ACQUIRE, None
        if self.signals:
            yield Op.ADD, Scarce.EXTRA
        elif task.holds:
            yield Op.RELEASE, None
        elif self.bounded and not any(
            one.left or one.holds or one.phase not in (Phase.IDLE, *GONE) for one in self.tasks
        ):
            yield Op.ADD, Scarce.EXTRA

    def execute(self, number: int, op: Op) -> None:
        if op is Op.ACQUIRE:
            self.park(number, self.line, op=op)
            self.serve()
            return
        mine = number in self.out and self.rules.own_permit_first
        if self.out and not self.signals:
            self.out.remove(number if mine else self.out[0])
        elif self.bounded and self.rules.bounded_refuses:
            self.answer(number, Told.REFUSED)
            return
        else:
            self.note(added=self.ghost.added + self.signals)
        self.free += 1
        self.serve()
        self.answer(number, Told.DONE)

    def serve(self) -> None:
        while self.free and (number := self.first(self.line)) is not None:
            self.leave(number)
            self.free -= 1
            self.out.append(number)
            self.grant(number, Told.GRANTED)

    def undo(self, number: int, call: Call) -> None:
        if number in self.out:  # else another one released it
            self.out.remove(number)
            self.free += 1
            self.serve()

    def give_back(self, tasks: list[int], calls: list[Call]) -> None:
        for number in tasks:
            granted = calls[number].stage is Stage.GRANTED
            count = self.out.count(number) if self.rules.end_gives_back else 0
            if self.signals and self.rules.signals_used_up:
                count = int(granted)
            for _ in range(count):
                self.out.remove(number)
            self.free += count
            if self.signals and granted:
                self.note(again=True)
        self.serve()

    def judge(self) -> Iterator[Fault | Excuse]:
        units = self.bounds.permits + self.ghost.added
        if self.free + len(self.out) != units:
            yield Fault.LOST if self.free + len(self.out) < units else Fault.TOO_MANY
        told = [
            task.holds
            for task, place in zip(self.tasks, self.places, strict=True)
            if self.signals or self.sessions[place.session].link is not Link.ENDED
        ]
        if sum(told) > units:
            yield Excuse.TAKER_GONE if self.ghost.again else Fault.TOO_MANY
        elif sum(task.holds for task in self.tasks) > units:
            yield Excuse.HOLDER_NOT_TOLD
        if self.free and any(self.attached(number) for number in self.line):
            yield Fault.STUCK
        yield from self._judge_owners()


class BoundedSemaphore(Semaphore):
    """Permits of which there are never more than at first."""

    bounded = True


class RLock(World):
    """A lock that its owner may have several times over."""

    levels = 2

    def wishes(self, number: int, task: Task) -> Iterator[tuple[Op, Scarce | None]]:
        mates = [self.tasks[one] for one in self.namesakes(number)]
        if any(mate.op is Op.RELEASE and mate.phase is Phase.WAITING for mate in mates):
            return  # namesakes agree who releases what
        if task.left and task.holds < self.levels:
            yield Op.ACQUIRE, None
        all_idle = all(mate.phase is Phase.IDLE for mate in mates)
        if task.holds or (all_idle and any(mate.holds for mate in mates)):
            yield Op.RELEASE, None

    def execute(self, number: int, op: Op) -> None:
        if op is Op.ACQUIRE:
            if self.out and self.same_owner(number) and self.rules.again_at_once:
                self.out.append(number)
                self.mark(number, op=op)
                self.grant(number, Told.GRANTED, self.fence)
            else:
                early = 0 if self.rules.fence_at_grant else self._new_fence()
                self.park(number, self.line, op=op, fence=early)
                self.serve()
        elif not self.same_owner(number):
            self.answer(number, Told.REFUSED)
        else:
            self._release(number)
            self.answer(number, Told.DONE)

    def _new_fence(self) -> int:
        self.fence += 1
        return self.fence

    def _release(self, number: int) -> None:
        if number not in self.out:  # it belongs to a namesake, who is taken to know
            other = self.out[0]
            task = self.tasks[other]
            self.tasks[other] = task._replace(holds=max(task.holds - 1, 0))
        self._rise(number)

    def _rise(self, number: int) -> None:
        """Take one level back, of this session's if it has one."""
        self.out.remove(number if number in self.out else self.out[0])
        if not self.rules.levels_counted:
            self.out.clear()
        self.serve()

    def serve(self) -> None:
        while not self.out and (number := self.first(self.line)) is not None:
            self.leave(number)
            call = self.calls[number]
            self.out += [number] * call.levels
            fence = self._new_fence() if self.rules.fence_at_grant else call.fence
            if call.stage is Stage.COMING_BACK:
                self.calls[number] = NO_CALL
                self._tell_back(number)
            elif call.op is Op.WAIT:
                self.grant(number, Told.NOTIFIED if call.notified else Told.NOT_NOTIFIED)
            else:
                self.grant(number, Told.GRANTED, fence)

    def undo(self, number: int, call: Call) -> None:
        if self.out and (call.fence == self.fence or not self.rules.undo_by_fence):
            if not self.rules.undo_by_level:
                self.out.clear()
                self.serve()
            else:
                self._rise(number)

    def give_back(self, tasks: list[int], calls: list[Call]) -> None:
        if not self.rules.end_gives_back:
            return
        if not self.rules.levels_by_session and any(number in self.out for number in tasks):
            self.out.clear()
        self.out = [number for number in self.out if number not in tasks]
        self.serve()

    def judge(self) -> Iterator[Fault | Excuse]:
        told: set[object] = set()
        known: set[object] = set()
        for number, (task, place) in enumerate(zip(self.tasks, self.places, strict=True)):
            if task.holds:
                mine = number if place.name is None else f"named {place.name}"
                told.add(mine)
                if self.sessions[place.session].link is not Link.ENDED:
                    known.add(mine)
        if len(known) > 1:
            yield Fault.TOO_MANY
        elif len(told) > 1:
            yield Excuse.HOLDER_NOT_TOLD
        # A namesake of the owner who came to wait before him waits on, as anybody.
        if any(self.attached(one) and (not self.out or one in self.out) for one in self.line):
            yield Fault.STUCK
        yield from self._judge_owners()


class Condition(RLock):
    """A lock whose owner may sleep until another one who holds it notifies him."""

    def wishes(self, number: int, task: Task) -> Iterator[tuple[Op, Scarce | None]]:
        yield from super().wishes(number, task)
        if task.left and task.holds:
            yield Op.WAIT, None
            yield Op.NOTIFY, None

    def state(self) -> State:
        if not self.asleep:  # whoever came to sleep later is owed nothing
            self.note(owed=self._notified())
        return super().state()

    def _notified(self) -> int:
        return sum(
            call.notified and call.stage in (Stage.PARKED, Stage.GRANTED) for call in self.calls
        )

    def execute(self, number: int, op: Op) -> None:
        if op not in (Op.WAIT, Op.NOTIFY):
            super().execute(number, op)
        elif not self.same_owner(number):
            self.answer(number, Told.REFUSED)
        elif op is Op.NOTIFY:
            self.note(owed=self.ghost.owed + bool(self.asleep))
            self._notify()
            self.answer(number, Told.DONE)
        else:
            levels = len(self.out) if self.rules.levels_restored else 1
            self.park(number, self.asleep, op=op, levels=levels)
            if self.rules.gives_up_all:
                self.out.clear()
            else:
                self.out.pop()
            self.serve()

    def _notify(self) -> None:
        # Those without a connection too, but last.
        number = self.first(self.asleep, absent=True)
        if number is not None:
            self.mark(number, notified=True)
            self._wake(number)

    def _wake(self, number: int) -> None:
        """Have one who sleeps stand in line for the lock."""
        self.leave(number)
        self.line.append(number)
        self.order.append(number)
        self.serve()

    def retract(self, number: int) -> None:
        call = self.calls[number]
        if call.op is not Op.WAIT or not self.rules.cancelled_has_lock:
            super().retract(number)
            return
        self.mark(number, stage=Stage.COMING_BACK, notified=False)
        if call.notified and self.rules.cancel_passes_on:
            self._notify()
        if number in self.asleep:
            self._wake(number)

    def undo(self, number: int, call: Call) -> None:
        if call.op is not Op.WAIT:
            super().undo(number, call)
        elif call.notified and self.rules.undo_passes_on:
            self._notify()

    def may_be_late(self, number: int) -> bool:
        call = self.calls[number]
        waits = call.op is Op.ACQUIRE or number in self.asleep or call.notified
        return call.stage is Stage.PARKED and waits

    def time_out(self, number: int) -> None:
        if self.calls[number].op is Op.ACQUIRE:
            super().time_out(number)
        elif not self.rules.late_has_lock:
            self.leave(number)
            self.answer(number, Told.NOT_NOTIFIED)
        elif number in self.asleep:
            self._wake(number)
        elif not self.rules.notified_stays:
            self.mark(number, notified=False)

    def give_back(self, tasks: list[int], calls: list[Call]) -> None:
        for number in tasks:
            call = calls[number]
            kept = call.stage is Stage.KEPT
            if call.notified and not kept and self.rules.end_passes_on:
                self._notify()
        super().give_back(tasks, calls)

    def judge(self) -> Iterator[Fault | Excuse]:
        if any(number in self.out for number in self.asleep):
            yield Fault.LEVELS
        if self.asleep and self.ghost.owed > self._notified():
            yield Fault.NOTIFICATION_LOST
        yield from super().judge()


class Barrier(World):
    """A place where parties wait for each other: `asleep`, and `line` while the action runs."""

    def wishes(self, number: int, task: Task) -> Iterator[tuple[Op, Scarce | None]]:
        if task.phase is Phase.ACTING:
            yield Op.PASS_ON, None
            yield Op.ABORT, Scarce.EXTRA
        else:
            if task.left:
                yield Op.ARRIVE, None
            yield Op.RESET, Scarce.EXTRA

    def execute(self, number: int, op: Op) -> None:
        if op is Op.ARRIVE:
            if self.broken and self.rules.broken_refuses:
                self.answer(number, Told.BROKEN)
            else:
                self.park(number, self.asleep, op=op)
                self._fill()
        elif op is Op.PASS_ON:
            own = self.actor == number
            if own or (self.actor is not None and not self.rules.pass_on_by_actor):
                self.blame(Fault.EARLY, unless=own)
                self.actor = None
                self._let_through(1)
                self._fill()
                self._look_at_late()
                self.answer(number, Told.DONE)
            else:
                self.answer(number, Told.BROKEN)
        else:
            self.broken = op is Op.ABORT
            self._send_away(reset=op is Op.RESET)
            self.answer(number, Told.DONE)

    def _fill(self) -> None:
        parties = self.bounds.parties
        while self.actor is None and not self.line:
            seats = self.asleep
            if not self.rules.absent_counted:
                seats = [number for number in seats if self.attached(number)]
            if len(seats) < parties:
                break
            while len(self.line) < parties:
                number = self.first(self.asleep, absent=True)
                assert number is not None
                self.asleep.remove(number)
                self.line.append(number)
            self.blame(Fault.MIXED, unless=len({self.calls[one].age for one in self.line}) == 1)
            for number in self.line:
                self.mark(number, age=1)
            self.note(absent=0)
            if self.bounds.action:
                number = self.first(self.line, absent=True)
                assert number is not None
                self.leave(number)
                self.actor = number
                self.grant(number, Told.ACT)
            else:
                self._let_through(0)

    def _let_through(self, first: int) -> None:
        self.blame(Fault.PASSED_BROKEN, unless=not self.broken)
        all_there = all(self.calls[number].stage is Stage.PARKED for number in self.line)
        count = first + len(self.line) + self.ghost.absent
        self.blame(Fault.MIXED, unless=all_there and count == self.bounds.parties)
        self.note(absent=0)
        self._finish(list(self.line), Told.PASSED, first)

    def _finish(self, group: list[int], told: Told, first: int = 0) -> None:
        """Tell some parties of a turn how it ended: they must be all that there are."""
        ages = {self.calls[number].age for number in group}
        for index, number in enumerate(group, first):
            self.leave(number)
            self.answer(number, told, index if told is Told.PASSED else 0)
        left = {self.calls[number].age for number in self.line + self.asleep}
        self.blame(Fault.DIVIDED, unless=not ages & left)

    def _send_away(self, *, reset: bool = False) -> None:
        if not reset or self.rules.reset_ends_action:
            self.actor = None
        if not reset or self.rules.reset_ends_waits:
            self._finish(self.line + self.asleep, Told.BROKEN)
        for number in self.line + self.asleep:
            self.mark(number, age=self.calls[number].age + 1)
        self.note(absent=0)

    def _break(self) -> None:
        self.broken = True
        self._send_away()

    def _take_back(self) -> None:
        """The action was not begun: the others wait for another party, at their old places."""
        self.actor = None
        for number in self.line:
            self.mark(number, age=0)
        self.asleep = sorted(self.line + self.asleep, key=self.order.index)
        self.line.clear()
        self.note(absent=0)
        self._fill()
        self._look_at_late()

    def _look_at_late(self) -> None:
        if self.actor is None and any(self.calls[number].late for number in self.asleep):
            self._break()

    def undo(self, number: int, call: Call) -> None:
        if self.actor == number and self.rules.actor_undone_returns:
            self._take_back()

    def withdraw(self, number: int) -> None:
        self.note(absent=self.ghost.absent + (number in self.line))
        self.leave(number)

    def may_be_late(self, number: int) -> bool:
        return super().may_be_late(number) and not self.calls[number].late

    def time_out(self, number: int) -> None:
        inside = number in self.line and not self.rules.inside_not_late
        if inside or not self.rules.late_breaks:
            self._finish([number], Told.BROKEN)
        else:
            self.mark(number, late=True)
            self._look_at_late()

    def give_back(self, tasks: list[int], calls: list[Call]) -> None:
        if self.actor in tasks:
            if calls[self.actor].stage is Stage.GRANTED:
                if self.rules.actor_undone_returns:
                    self._take_back()
            elif self.rules.actor_gone_breaks:
                self._break()

    def judge_rest(self) -> Iterator[Fault]:
        if self.actor is not None and self.attached(self.actor):
            yield Fault.UNANSWERED
        yield from super().judge_rest()

    def judge(self) -> Iterator[Fault | Excuse]:
        if len(self.asleep) >= self.bounds.parties and self.actor is None:
            yield Fault.STUCK
        actor = None if self.actor is None else self.sessions[self.places[self.actor].session]
        if self.line and (actor is None or actor.link is Link.ENDED):
            yield Fault.UNANSWERED


WORLDS: dict[Thing, type[World]] = {
    Thing.SEMAPHORE: Semaphore,
    Thing.BOUNDED: BoundedSemaphore,
    Thing.RLOCK: RLock,
    Thing.CONDITION: Condition,
    Thing.BARRIER: Barrier,
}


Move: TypeAlias = tuple[int, str, Scarce | None, Callable[[World], None]]
"""Who does or meets something, its name, what it costs, and what it does."""


class Model:
    """All states of some tasks that share a thing, and the steps from one to the next."""

    def __init__(self, thing: Thing, rules: Rules, bounds: Bounds) -> None:
        self.rules = rules
        self.bounds = bounds
        self._world = WORLDS[thing]
        places = bounds.places
        self._sessions = sorted({place.session for place in places})
        self._clients = sorted({place.client for place in places})
        self._of_session = [
            next(number for number, place in enumerate(places) if place.session == one)
            for one in self._sessions
        ]
        self._of_client = [
            next(number for number, place in enumerate(places) if place.client == one)
            for one in self._clients
        ]

    def start(self) -> State:
        bounds = self.bounds
        return State(
            tasks=tuple(Task(left) for left in bounds.calls),
            sessions=(Session(),) * len(self._sessions),
            calls=(NO_CALL,) * len(bounds.places),
            out=(),
            free=bounds.permits,
            fence=0,
            line=(),
            asleep=(),
            actor=None,
            broken=False,
            ghost=Ghost(),
            budget=(bounds.cuts, bounds.crashes, bounds.cancels, bounds.timeouts, bounds.extras),
        )

    def world(self, state: State) -> World:
        return self._world(self.rules, self.bounds, state)

    def canonical(self, state: State) -> State:
        return state

    def at_rest(self, state: State) -> bool:
        return self.world(state).at_rest()

    def judge(self, state: State) -> Iterator[AnyFault | AnyExcuse]:
        world = self.world(state)
        yield from world.judge()
        if world.at_rest():
            yield from world.judge_rest()

    def steps(self, state: State) -> Iterator[Step[State]]:
        for who, name, scarce, happen in self._moves(state):
            if scarce is None or state.budget[scarce]:
                world = self.world(state)
                happen(world)
                if scarce is not None:
                    budget = list(world.budget)
                    budget[scarce] -= 1
                    world.budget = tuple(budget)
                yield Step(name, who, world.state(), world.fault)

    def _moves(self, state: State) -> Iterator[Move]:
        world = self.world(state)
        for number, task in enumerate(state.tasks):
            yield from self._task_moves(world, number, task)
        for place, number in zip(self._sessions, self._of_session, strict=True):
            yield from self._session_moves(world, place, number)
        for client, number in zip(self._clients, self._of_client, strict=True):
            yield from self._client_moves(world, client, number)

    def _task_moves(self, world: World, number: int, task: Task) -> Iterator[Move]:
        phase = task.phase
        if phase in (Phase.IDLE, Phase.ACTING):
            for op, scarce in world.wishes(number, task):
                yield number, op, scarce, _calling(number, op)
            if task.op and world.alone(number):
                yield number, "interrupt", Scarce.CANCEL, lambda after: after.cancel(number)
        elif phase is Phase.WAITING and task.op in WAITS:
            yield number, "cancel", Scarce.CANCEL, lambda after: after.cancel(number)
        if world.may_be_late(number):
            yield number, "time out", Scarce.TIMEOUT, lambda after: after.time_out(number)

    def _session_moves(self, world: World, place: int, who: int) -> Iterator[Move]:
        session, phase = world.sessions[place], world.tasks[who].phase
        if session.link is Link.ENDED:
            if phase not in GONE:
                name = "learn that the session is lost"
                yield who, name, None, lambda after: after.learn(place)
        elif session.link is Link.DETACHED:
            if phase is not Phase.DEAD:
                yield who, "resume", None, lambda after: after.resume(place)
            yield who, "session expires", None, lambda after: after.end(place)
        else:
            if session.up:
                said = session.up[0]
                name = f"server reads {said.op or said.kind}"
                yield said.task, name, None, lambda after: after.read(place)
            if session.down:
                heard = session.down[0]
                yield heard.task, f"hear {heard.told}", None, lambda after: after.receive(place)
            yield who, "lose connection", Scarce.CUT, lambda after: after.detach(place)

    def _client_moves(self, world: World, client: int, who: int) -> Iterator[Move]:
        if world.tasks[who].phase is not Phase.DEAD:
            yield who, "be killed", Scarce.CRASH, lambda after: after.kill(client)
        elif world.left_of(client):
            yield who, "server sees the death", None, lambda after: after.see_death(client)


def _calling(number: int, op: Op) -> Callable[[World], None]:
    return lambda world: world.call(number, op)


def check(thing: Thing, rules: Rules, bounds: Bounds) -> Report:
    """Search all states, until none is left or one has a fault."""
    return search(Model(thing, rules, bounds))
