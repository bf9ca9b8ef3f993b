"""Pools: each part of a job is done, by another worker if one dies, and told exactly once."""

from collections import Counter
from collections.abc import Callable, Generator, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from aiomanager.errors import ResultTimeout, WorkerLost
from aiomanager.objects.jobs import ALL, CALL, EACH, ONE, RAISED, RETURNED, Job, Results
from aiomanager.objects.pool import MAX_DEATHS, Pool

from .books import Book, Books, Program, not_failed
from .clients import App, Pause, Ref, Reply, Request, Steps, Task
from .network import Broken

if TYPE_CHECKING:
    from .world import World

__all__ = ("Pools",)

SIZE = 2
RAISES = 7
"""The function raises for what can be divided by this."""


def _returned(items: list[int]) -> list[int]:
    return [3 * item for item in items]


def _raised(items: list[int]) -> str:
    return f"cannot do {items}"


def _outcome(items: list[int]) -> tuple[int, Any]:
    """Return what the workers' function does to a part, and the value of that."""
    if items[0] % RAISES:
        return RETURNED, _returned(items)
    return RAISED, _raised(items)


class Process:
    """A worker process: an app that dies when it is told to, and tells when it is no more."""

    def __init__(self, world: "World", begin: Callable[[], App]) -> None:
        self.world = world
        self.pid = 0
        self.app: App | None = None
        self.ended = False
        self._begin = begin

    def begin(self) -> None:
        if not self.ended:
            self.app = self._begin()
            self.pid = self.app.number

    def end(self) -> None:
        self.ended = True
        if self.app is not None and self.app.alive:
            self.app.kill()


class Launcher:
    """Starts the workers of the simulation's pools."""

    processors = SIZE

    def __init__(self, pools: "Pools") -> None:
        self.pools = pools

    def start(self, pool_id: int, number: int, on_end: Callable[[str, bool], None], /) -> Process:
        pools, world = self.pools, self.pools.world

        def begin() -> App:
            app = world.new_app(implicit=world.random.random() < 0.5)
            world.workers.append(app)
            app.on_end = lambda: world.later(world.notice(), ended)
            app.spawn(partial(pools.work, pool_id, number))
            return app

        def ended() -> None:
            world.workers = [app for app in world.workers if app is not process.app]
            on_end("was killed", True)
            world.core.flush()

        process = Process(world, begin)
        world.later(world.random.choice((0.0, 0.01, 0.3)), process.begin)
        return process


class Pools(Book):
    """A pool, its workers and its jobs."""

    objects = (("pool", "Pool", [SIZE]),)
    pool = 0

    def __init__(self, books: Books) -> None:
        super().__init__(books)
        self.world.store.launcher = Launcher(self)
        self.runs: dict[tuple[int, ...], list[Reply]] = {}
        """By part: the answers that gave it to workers."""
        self.called: Counter[str] = Counter()
        """How often each callback was called."""

    def programs(self) -> Iterable[Program]:
        return self.ask, self.ask_each

    # The workers

    def work(self, pool_id: int, number: int, task: Task) -> Steps:
        """Be a worker."""
        app = task.app
        while True:
            operation = Pool.operations["take"]
            reply: Reply = yield Request(pool_id, operation, (number,), False)
            if reply.how != "done" or reply.value is None:
                break
            attempt, kind, function, values = reply.value
            how, result = self.carry_out(reply, kind, function, values)
            yield Pause(self.random.choice((0.0, 0.0, 0.02, 0.3)))
            assert reply.call is not None
            if app.session is not reply.call.session:
                break
            finish = Pool.operations["finish"]
            app.post(task, pool_id, finish, attempt, how == RETURNED, result)
        app.tasks.remove(task)
        app.close()
        yield Pause(0.0)

    def carry_out(
        self, reply: Reply, kind: str, function: str, values: list[Any]
    ) -> tuple[int, Any]:
        if kind in (ONE, ALL):
            self.called[function] += 1
            self.facts["callbacks"] += 1
            return RETURNED, None
        items: list[int] = values[0][0] if kind == CALL else values[0]
        runs = self.runs.setdefault(tuple(items), [])
        for other in runs:
            self.facts["parts done again"] += 1
            if other.session is not None and not other.session.ended:
                raise Broken(f"{items} are done twice, though no worker has died of it")
        runs.append(reply)
        self.facts["parts done"] += 1
        return _outcome(items)

    # The clients

    def parts(self) -> list[list[int]]:
        return [
            [self.books.number() for _ in range(self.random.choice((1, 2)))]
            for _ in range(self.random.choice((1, 2, 4)))
        ]

    def submit(
        self,
        task: Task,
        name: str,
        arguments: tuple[Any, ...],
        rest: tuple[Any, list[Any]] | None,
        pauses: tuple[float, ...] = (),
    ) -> Generator[Any, Any, Ref | None]:
        """Have something done; return what will tell what comes of it, or None if nothing will.

        `rest`: the operation that adds the parts which `arguments` lack, and these.
        """
        reply: Reply = yield Request(self.pool, Pool.operations[name], arguments, False)
        not_failed(reply)
        if reply.how != "done":
            return None
        made: Ref = reply.value
        if rest is not None:
            operation, parts = rest
            if pauses:
                yield Pause(self.random.choice(pauses))
            reply = yield Request(made.object_id, operation, (parts, True), False)
            not_failed(reply)
            if reply.how != "done":
                task.app.let_go(made)
                return None
        return made

    def ask(self, task: Task) -> Steps:
        """Have something done, and wait for what comes of it."""
        random = self.random
        parts = self.parts()
        kind = random.choice((CALL, EACH))
        if kind == CALL:
            parts = parts[:1]
        wire: list[Any] = [(part, {}) for part in parts] if kind == CALL else [*parts]
        callback = f"after {parts}" if random.random() < 0.3 else None
        whole = kind == CALL or random.random() < 0.7
        arguments = (kind, "f", wire if whole else wire[:1], whole, callback)
        pauses = (0.0, 0.02, 0.3)
        rest = None if whole else (Job.operations["add"], wire[1:])
        job = yield from self.submit(task, "submit", arguments, rest, pauses)
        if job is None:
            return
        for timeout in (random.choice((0.02, 0.3)), random.choice((0.3, None)), None):
            operation = Job.operations["outcome"]
            reply: Reply = yield Request(job.object_id, operation, (timeout,))
            self.check_failed(reply)
            if reply.how == "done":
                self.check_job(kind, parts, callback, *reply.value)
                break
        task.app.let_go(job)

    def check_failed(self, reply: Reply) -> None:
        not_failed(reply, ResultTimeout, WorkerLost)
        if isinstance(reply.value, WorkerLost):
            self.check_given_up()

    def check_given_up(self, what: str = "a part was given up") -> None:
        """Raise unless so many workers were lost that a part, or a callback, was given up."""
        self.facts["parts given up"] += 1
        if self.lost < MAX_DEATHS:
            raise Broken(f"{what}, and {self.lost} workers have died")

    @property
    def lost(self) -> int:
        """How many workers there were that are no more, or whose session has ended."""
        it: Any = self.world.store.entries[self.pool].object
        sessions = self.world.core.sessions
        return int(it._last_worker) - sum(
            app.alive and (app.session is None or app.session.session_id in sessions)
            for app in self.world.workers
        )

    def check_job(
        self,
        kind: str,
        parts: list[list[int]],
        callback: str | None,
        well: bool,
        one: bool,
        values: list[Any],
    ) -> None:
        """Compare what came of a job with what its parts were."""
        raised = [_raised(part) for part in parts if not part[0] % RAISES]
        if well is bool(raised):
            raise Broken(f"{parts} went well: {well}, with {values}")
        if not well:
            if len(values) != 1 or values[0] not in raised:
                raise Broken(f"{parts} came to the exceptions {values}")
            return
        if one is not (kind == CALL) or values != [_returned(part) for part in parts]:
            raise Broken(f"{parts} came to {values}")
        self.facts["jobs done"] += 1
        if callback is not None and not self.called[callback]:
            self.check_given_up(f"{parts} are done, and the callback was not called")

    def ask_each(self, task: Task) -> Steps:
        """Have something done, and take the results as they come."""
        random = self.random
        parts = self.parts()
        ordered, whole = random.random() < 0.5, random.random() < 0.5
        arguments = (EACH, "f", parts if whole else parts[:1], whole, ordered)
        rest = None if whole else (Results.operations["feed"], parts[1:])
        results = yield from self.submit(task, "submit_each", arguments, rest)
        if results is None:
            return
        got: list[tuple[int, Any]] = []
        while True:
            timeout = random.choice((None, 0.05, 0.3))
            operation = Results.operations["take"]
            reply: Reply = yield Request(results.object_id, operation, (2, timeout))
            not_failed(reply, ResultTimeout)
            if reply.how in ("lost", "completed") or (reply.how == "done" and not reply.value):
                break
            if reply.how == "done":
                got += reply.value
        if reply.how == "done":
            self.check_results(parts, got, ordered=ordered)
        task.app.let_go(results)

    def check_results(
        self, parts: list[list[int]], got: list[tuple[int, Any]], *, ordered: bool
    ) -> None:
        """Compare results with what was asked for: each once, and in order if that was wanted."""
        for how, _ in got:
            if how not in (RETURNED, RAISED):
                self.check_given_up()
                return
        wanted = [_outcome(part) for part in parts]
        found = [(how, value) for how, value in got]
        if not ordered:
            wanted, found = sorted(wanted, key=repr), sorted(found, key=repr)
        if wanted != found:
            raise Broken(f"the results of {parts} are {got}")
        self.facts["results taken"] += len(got)

    def is_there(self, it: Any, name: str, waiter: Any) -> object:
        if isinstance(it, Pool):
            return it._first or it._queue or it._state != "running"
        if isinstance(it, Results):
            return it._ready or it._at_end() or it._given_up
        return isinstance(it, Job) and it._over

    def leave(self, task: Task) -> Steps:
        """End the pool, for which nobody has work any more."""
        reply: Reply = yield Request(self.pool, Pool.operations["statistics"], ())
        for what in ("jobs", "queued", "running"):
            if reply.value[what]:
                raise Broken(f"everybody has left, and of the pool's {what} are {reply.value}")
        yield Request(self.pool, Pool.operations["close"], ())
        reply = yield Request(self.pool, Pool.operations["join"], ())
        not_failed(reply)
