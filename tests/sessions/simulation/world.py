"""The world: the clock, the server, the clients and what goes wrong between them.

Nothing here is random but by `World.random`, and nothing is slow: a second of the virtual clock
takes no time.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Hashable
from functools import partial
from random import Random
from typing import Any

from aiomanager.deadlock import Deadlocks
from aiomanager.errors import DeadlockDetected
from aiomanager.objects import TYPES
from aiomanager.protocol import stream
from aiomanager.sessions import server as server_room
from aiomanager.sessions.plans import Plan
from aiomanager.sessions.server import ServerCore, ServerSession
from aiomanager.sessions.store import MANAGER, Store
from aiomanager.waiter import Waiter

from . import circles
from .books import Books
from .clients import App, Steps, Task
from .locks import Leases, Locks, Tables
from .meetings import Meetings
from .network import GRACE, Broken, Hands, Timer
from .pools import Pools
from .queues import PlainQueue, WorkQueues
from .references import References
from .values import Cells, Containers, Tree

__all__ = ("WatchedSession", "World")

ROOMS = (
    Containers, Cells, Tree, PlainQueue, WorkQueues, Locks, Leases, Tables, Meetings, References,
    Pools,
)  # fmt: skip

CHAOS = 20.0
"""Seconds after which nothing fails any more."""
ROUNDS = 6
"""Half seconds of rest within which a circle of waits is to be found."""


class WatchedSession(ServerSession):
    """A server's session that tells what it ends: its results, and waits that are refused."""

    __slots__ = ("parked_at",)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.parked_at: dict[int, float] = {}
        """By call: when it began to wait."""

    def finish(self) -> None:
        if not self.ended:
            world: World = self._core.hands.world  # type: ignore[attr-defined]
            mine = {(self.session_id, call_id) for call_id in self._calls}
            world.unkept |= mine - world.read_by_the_dead
        super().finish()

    def _wait(self, call_id: int, object_id: int, plan: Plan, waiter: Waiter[Any]) -> None:
        if not waiter.settled:
            self.parked_at[call_id] = self.now()
        super()._wait(call_id, object_id, plan, waiter)

    def _settled(self, call_id: int, waiter: Waiter[Any]) -> None:
        if isinstance(waiter.error, DeadlockDetected):
            world: World = self._core.hands.world  # type: ignore[attr-defined]
            claim: Any = waiter.request or waiter
            number = world.circle.get(claim.caller.identity)
            numbers = list(world.circle.values())
            world.judge(self.now() - self.parked_at[call_id], number, numbers)
        super()._settled(call_id, waiter)

    def _work_off(self) -> None:
        waiting = len(self._inbox)
        super()._work_off()
        world: World = self._core.hands.world  # type: ignore[attr-defined]
        world.facts["executed late"] += waiting > len(self._inbox)


class WatchedDeadlocks(Deadlocks):
    """The server's search for circles, with a second opinion noted before each is broken."""

    __slots__ = ("world",)

    def __init__(self, world: "World") -> None:
        super().__init__()
        self.world = world

    def _break_circle(self, wait: Any) -> None:
        found = circles.find(self.world)
        self.world.circle = {
            one: self._waits[waiter].number
            for one, waiter in found.items()
            if waiter in self._waits
        }
        super()._break_circle(wait)
        self.world.circle = {}


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
        self.read_by_the_dead: set[tuple[bytes, int]] = set()
        """Those whose client had read the results when it died, and the server was told."""
        self.answered: dict[bytes, int] = {}
        """By session: the last call that was answered."""
        self.circle: dict[Hashable, int] = {}
        """While the server breaks a circle of waits: who is in one, and which wait it was."""
        self.judge: Callable[..., None] = lambda _waited, _number, _numbers: None
        """Told when the server refuses a wait as a deadlock."""
        self.store = Store(TYPES)
        self.store.deadlocks = WatchedDeadlocks(self)
        self.core = ServerCore(self.store, Hands(self), limits=limits)
        self.books = Books(self, ROOMS)
        self._next_app = 0
        self.apps: list[App] = []
        self.workers: list[App] = []
        """The apps that work for pools: they end when those do."""
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

    def pick(self, *options: float) -> float:
        """Return one of some numbers, as `random.choice` does in twice the time."""
        return options[int(self.random.random() * len(options))]

    def delay(self) -> float:
        """How long some bytes are on their way."""
        return 0.001 if self.calm else self.pick(0.0, 0.001, 0.002, 0.01, 0.3)

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

    def new_app(self, client: int = 0, *, implicit: bool = False) -> App:
        self._next_app += 1
        return App(self, self._next_app, client or self._next_app, implicit=implicit)

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
        for app in self.apps:
            app.close()
        self.settle()
        self.forward(2 * server_room.LINGER)
        self.ask(books.leave)
        self.janitor.close()
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
        if self.random.random() < 0.35:
            self.apps.append(self.new_app(implicit=True))
            self.apps[-1].spawn(self.books.program)
            return
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
        self.check_parked()
        random = self.random
        apps = [app for app in self.apps + self.workers if app.alive]
        # The more is on its way, the more can go wrong.
        busy = [app for app in apps if app.link is not None and app.link.busy]
        app = random.choice(busy if busy and random.random() < 0.5 else apps or self.apps)
        if not app.alive:
            return
        if random.random() < 0.85:
            if app.link is not None:
                self.facts["cuts"] += 1
                app.link.cut()
                if random.random() < 0.3:
                    app.notices(app.link)
            return
        self.kill(app)

    def trouble(self, app: App, chance: float) -> None:
        """Have an app die at a bad moment, at times."""
        if not self.calm and self.random.random() < chance:
            self.later(self.pick(0.0, 0.001, 0.002), partial(self.kill, app))

    def kill(self, app: App) -> None:
        """End a client process; at times another one comes."""
        if self.calm or not app.alive:
            return
        random = self.random
        for other in [other for other in self.apps + self.workers if other.id == app.id]:
            other.kill()
        self.apps = [other for other in self.apps if other.id != app.id]
        if random.random() < 0.6 and not app.implicit:
            self.later(self.notice(), partial(self.core.client_died, app.id))
        if random.random() < 0.7 and app not in self.workers:
            self.start_app()

    def end_waits(self) -> None:
        """Give everybody who waits what it waits for, and see that everybody gets it."""
        circling: dict[Any, int] = {}
        for _ in range(2000):
            self.settle()
            self.check_parked()
            waiting = [task for app in self.apps for task in app.tasks]
            if not waiting:
                return
            for task in waiting:
                self.check_waits(task)
            # A wait may be in one new circle after the other, of which each is broken in time.
            found = circles.find(self, ROUNDS / 2)
            circling = {one: circling.get(one, 0) + 1 for one in found.values()}
            if max(circling.values(), default=0) > ROUNDS:
                raise Broken("they wait for each other, and nobody is refused")
            self.ask(self.books.help)
            self.forward(0.5)
        raise Broken("not everybody comes to an end")

    def check_waits(self, task: Task) -> None:
        """Raise unless a task waits in a call, and the server knows of it."""
        call = task.call
        if call is None:
            raise Broken(f"{task.name} waits for no call")
        name = call.request.operation.name
        where = f"{name} of app {task.app.number}, call {call.call_id} ({call.state})"
        if call.request.object_id not in self.store.entries:
            raise Broken(f"{where} waits for an object that is gone")
        session = self.core.sessions.get(call.session.session_id)
        parked = None if session is None else session._calls.get(call.call_id)
        # Who comes back from a condition, also early, waits until he has its lock again.
        early = call.state == "cancelling" and call.request.operation.regains
        if not ((call.state == "waiting" and call.request.operation.waits) or early):
            raise Broken(f"{where} is never answered")
        if parked is None or parked.waiter.settled or bool(parked.cancels) != early:
            raise Broken(f"{where} is forgotten")

    def check_parked(self) -> None:
        """Raise if somebody who is connected waits for what is there."""
        self.books.check_now()
        for session in self.core.sessions.values():
            if not session.attached:
                continue
            for call_id, call in session._calls.items():
                if call.waiter.settled:
                    continue
                it = self.store.entries[call.object_id].object
                if self.books.is_there(it, call.plan.name, call.waiter):
                    what = f"{type(it).type_name}.{call.plan.name}"
                    who = f"{session.description}, call {call_id}"
                    raise Broken(f"{what} of {who} waits for what is there")

    def check_quiet(self, app: App) -> None:
        """Raise if a session that rests still has something under way."""
        session = app.session
        if not app.connected or session is None:
            raise Broken(f"app {app.number} has no connection")
        other = self.core.sessions[session.session_id]
        # What was granted last without a KEEP is confirmed by the next call.
        calls = [one for one in other._calls.values() if not (app.implicit and one.waiter.settled)]
        for what, amount in (
            ("calls", session.calls),
            ("cancels", session.cancelling),
            ("held calls", session._held),
            ("losses", session.losses),
            ("server's calls", calls),
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
