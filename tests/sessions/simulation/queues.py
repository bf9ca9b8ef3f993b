"""Queues: each item is had once, or again and marked so; joins are exact, a shutdown is final."""

from collections.abc import Generator, Iterable, Iterator
from typing import Any

from aiomanager.errors import Empty, Full, ShutDown
from aiomanager.objects.list import List
from aiomanager.objects.queue import Queue
from aiomanager.protocol.messages import RESULT

from .books import Book, Books, Fates, Program, not_failed
from .clients import Call, Pause, Reply, Request, Steps, Task
from .network import Broken

__all__ = ("PlainQueue", "WorkQueues")

GETS = ("get_delivery", "get_many")


class Ledger:
    """What was put into one queue, and who took it out."""

    def __init__(self, book: Book, maxsize: int) -> None:
        self.book = book
        self.world = book.world
        self.maxsize = maxsize
        self.queue = 0
        self.puts: Fates = {}
        self.put_order: dict[int, int] = {}
        self.together: list[list[int]] = []
        """Items that were put in one step: all or none."""
        self.taken: dict[int, list[Call]] = {}
        self.last_taken: dict[tuple[Task, int], int] = {}
        self.perished: set[int] = set()
        """What a client may have had that died before it did anything with it."""
        self.shutting = False
        """Whether somebody has begun to shut the queue down."""

    def put(self, task: Task) -> Generator[Any, Any, Reply]:
        """Put an item, or several in one step; return the reply, and their numbers."""
        random = self.world.random
        count = random.choice((1, 1, 2, 3))
        numbers = [self.book.books.number() for _ in range(count)]
        self.puts |= dict.fromkeys(numbers)
        self.put_order |= dict.fromkeys(numbers, task.owner)
        timeout = random.choice((None, None, 0.05, 1.0))
        if count > 1:
            self.together.append(numbers)
            request = Request(self.queue, Queue.operations["put_many"], (numbers,))
        else:
            arguments = (numbers[0], True, timeout)
            request = Request(self.queue, Queue.operations["put"], arguments)
        reply: Reply = yield request
        happened = reply.happened
        limited = count > 1 or timeout is not None
        if reply.how == "completed" and (limited or self.shutting):
            # It may also have run out of time or room, which was answered and not looked at.
            happened = None
        self.puts |= dict.fromkeys(numbers, happened)
        return reply

    def get(self, task: Task) -> Generator[Any, Any, tuple[Reply, list[int]]]:
        """Get an item, or several in one step; return the reply, and what was got."""
        random = self.world.random
        timeout = random.choice((None, None, 0.05, 1.0))
        if random.random() < 0.3:
            operation = Queue.operations["get_many"]
            reply: Reply = yield Request(self.queue, operation, (3, True, timeout))
            got = reply.value if reply.how == "done" else []
            self.took(task, reply, got, None)
        else:
            operation = Queue.operations["get_delivery"]
            reply = yield Request(self.queue, operation, (True, timeout))
            got = [reply.value[0]] if reply.how == "done" else []
            self.took(task, reply, got, reply.how == "done" and reply.value[1])
        if reply.how == "completed" and timeout is None and not self.shutting:
            raise Broken("a get without timeout was cancelled too late, and has no item")
        return reply, got

    def fill(self, task: Task) -> Steps:
        """Have the janitor put an item for those who wait on an empty queue."""
        number = self.book.books.number()
        self.put_order[number] = task.owner
        reply: Reply = yield Request(self.queue, Queue.operations["put"], (number, False))
        not_failed(reply, Full, ShutDown)
        self.puts[number] = reply.happened

    def took(self, task: Task, reply: Reply, items: list[Any], redelivered: bool | None) -> None:
        """Note who has items; None: it was not asked whether they are redelivered."""
        self.world.facts["redelivered"] += redelivered is True
        self.world.facts["got many"] += len(items) > 1
        latest: dict[int, int] = {}
        for item in items:
            before = self.taken.setdefault(item, [])
            if before:
                self.world.facts["taken twice"] += 1
                if redelivered is False:
                    raise Broken(f"item {item} was delivered twice without a mark")
                for call in before:
                    if call.name() not in self.world.unkept or call.surely_kept:
                        raise Broken(f"item {item} came again after it was kept")
            assert reply.call is not None
            before.append(reply.call)
            owner = self.put_order[item]
            if redelivered is False and item < self.last_taken.get((task, owner), 0):
                raise Broken(f"item {item} came after a later one of the same task")
            if item < latest.get(owner, 0):
                raise Broken(f"item {item} came behind a later one in one step")
            latest[owner] = item
            if not redelivered:
                self.last_taken[task, owner] = max(
                    item, self.last_taken.get((task, owner), 0) if redelivered is None else 0
                )

    def perish(self, call: Call) -> None:
        """Know that an app died; what it had received it may have kept without a word."""
        if call.task.app.implicit and call.state == "ready" and call.message[0] == RESULT:
            value = call.result()
            self.perished |= set(value if call.request.operation.name == "get_many" else [value[0]])

    def drain(self, task: Task) -> Steps:
        """Have the janitor take all that is left."""
        while True:
            operation = Queue.operations["get_delivery"]
            reply: Reply = yield Request(self.queue, operation, (False,))
            if reply.how != "done":
                not_failed(reply, Empty, ShutDown)
                break
            self.took(task, reply, [reply.value[0]], reply.value[1])

    def entered(self) -> set[int]:
        """Return the items that were put for sure."""
        return {number for number, put in self.puts.items() if put or number in self.taken}

    def check(self, *, emptied: bool = False) -> None:
        """Compare what was taken with what was put; if `emptied`, some may be thrown away."""
        for number, happened in self.puts.items():
            there = number in self.taken or number in self.perished or emptied
            if happened and not there:
                raise Broken(f"item {number} was put and is lost")
            if happened is False and number in self.taken:
                raise Broken(f"item {number} was never put, and was taken")
        for numbers in self.together:
            came = [number in self.taken or number in self.perished for number in numbers]
            if any(came) and not all(came) and not emptied:
                raise Broken(f"of {numbers}, put in one step, some came and some did not")


def _is_there(it: Any, name: str, waiter: Any) -> object:
    """Tell whether what is waited for is there, of a queue."""
    if not isinstance(it, Queue):
        return False
    if name == "join":
        return not it._unfinished
    if name == "put":
        return it._shut_down or it._room()
    return it._items or it._shut_down


def _check_order(queue: Any) -> None:
    """Raise unless the items of a queue are where they belong, also those that came back."""
    places = [number for number, _ in queue._items]
    if places != sorted(places):
        raise Broken(f"the places of the items in a queue are {places}")


class PlainQueue(Book):
    """A queue that is used all the time."""

    queue = 0

    def __init__(self, books: Books) -> None:
        super().__init__(books)
        self.ledger = Ledger(self, self.random.choice((0, 1, 3)))

    def kinds(self) -> Iterator[tuple[str, str, list[Any]]]:
        yield "queue", "Queue", [self.ledger.maxsize]

    def start(self, task: Task) -> Steps:
        self.ledger.queue = self.queue
        yield from ()

    def programs(self) -> Iterable[Program]:
        return self.put, self.get

    def put(self, task: Task) -> Steps:
        reply = yield from self.ledger.put(task)
        not_failed(reply, Full)

    def get(self, task: Task) -> Steps:
        reply, items = yield from self.ledger.get(task)
        not_failed(reply, Empty)
        if items:
            self.world.trouble(task.app, 0.3 if task.app.implicit else 0.0)
            yield Pause(self.random.choice((0.0, 0.0, 0.3)))

    def is_there(self, it: Any, name: str, waiter: Any) -> object:
        return _is_there(it, name, waiter)

    def check_now(self) -> None:
        _check_order(self.world.store.entries[self.queue].object)

    def help(self, task: Task, waits: set[str]) -> Steps:
        if not waits.isdisjoint(GETS):
            yield from self.ledger.fill(task)
        if "put" in waits:
            reply = yield Request(self.queue, Queue.operations["get_delivery"], (False,))
            if reply.how == "done":
                self.ledger.took(task, reply, [reply.value[0]], reply.value[1])

    def perish(self, call: Call) -> None:
        if call.request.object_id == self.queue and call.request.operation.name in GETS:
            self.ledger.perish(call)

    def close(self, task: Task) -> Steps:
        yield from self.ledger.drain(task)

    def check(self) -> None:
        self.ledger.check()


class Work(Ledger):
    """A queue whose items are worked off, until it is shut down."""

    def __init__(self, book: Book, maxsize: int) -> None:
        super().__init__(book, maxsize)
        self.finished = 0
        """How often `task_done` was called and answered."""
        self.finishing = 0
        """How often it was called, and nobody knows what came of it."""
        self.shut = self.emptied = False
        """Whether it was shut down for sure, and whether somebody wanted to throw all away."""
        self.working = 0
        """How many tasks have items that they are still to work off."""
        self.left = 0
        """How many were unfinished at the end."""


class WorkQueues(Book):
    """Joinable queues: one after the other is used, and shut down; and a list of work done."""

    worked = 0

    def __init__(self, books: Books) -> None:
        super().__init__(books)
        self.works = [Work(self, self.random.choice((0, 0, 2))) for _ in range(6)]
        self.at = 0

    @property
    def work(self) -> Work:
        """The queue that is used now; at times one that was used before, and is shut down."""
        return self.works[self.at if self.random.random() < 0.8 else max(0, self.at - 1)]

    def kinds(self) -> Iterator[tuple[str, str, list[Any]]]:
        yield "worked", "list", []
        for number, work in enumerate(self.works):
            yield f"work{number}", "JoinableQueue", [work.maxsize]

    def start(self, task: Task) -> Steps:
        for number, work in enumerate(self.works):
            work.queue = getattr(self, f"work{number}")
        yield from ()

    def programs(self) -> Iterable[Program]:
        return self.produce, self.consume, self.join, self.shut_down

    def produce(self, task: Task) -> Steps:
        work = self.work
        shut = work.shut
        reply = yield from work.put(task)
        if reply.how == "done" and shut:
            raise Broken("an item was put into a queue that was shut down")
        not_failed(reply, Full, *((ShutDown,) if work.shutting else ()))

    def consume(self, task: Task) -> Steps:
        """Get what there is, and work it off."""
        work = self.work
        over = work.shut and work.emptied
        reply, items = yield from work.get(task)
        if over and items:
            raise Broken("an item came out of a queue that was emptied for good")
        not_failed(reply, Empty, *((ShutDown,) if work.shutting else ()))
        assert reply.call is not None
        work.working += 1
        try:
            for item in items:
                if self.random.random() < 0.5:
                    yield Pause(self.random.choice((0.0, 0.01, 0.3)))
                if reply.call.session is not task.app.session:
                    break  # it has lost what it got
                self.world.trouble(task.app, 0.1)
                number = work.taken[item].index(reply.call)
                yield Request(self.worked, List.operations["append"], ([item, number],))
                if reply.call.session is task.app.session:
                    yield from self.finish(work)
        finally:
            work.working -= 1

    def finish(self, work: Work) -> Steps:
        work.finishing += 1
        reply: Reply = yield Request(work.queue, Queue.operations["task_done"], ())
        not_failed(reply)
        if reply.happened is not None:
            work.finishing -= 1
            work.finished += reply.happened

    def join(self, task: Task) -> Steps:
        work = self.work
        put = len(work.entered())
        timeout = self.random.choice((None, 0.3, 2.0))
        reply: Reply = yield Request(work.queue, Queue.operations["join"], (timeout,))
        not_failed(reply, TimeoutError)
        if reply.how == "done":
            self.facts["joined"] += 1
            if put > work.finished + work.finishing and not work.emptied:
                raise Broken(f"a join ended: of {put} items {work.finished} are worked off")

    def shut_down(self, task: Task) -> Steps:
        work = self.works[self.at]
        if self.at + 1 == len(self.works):
            return
        self.at += 1
        work.shutting = True
        immediate = self.random.random() < 0.5
        work.emptied = immediate
        self.world.trouble(self.random.choice(self.world.apps), 0.5)
        operation = Queue.operations["shutdown"]
        reply: Reply = yield Request(work.queue, operation, (immediate,))
        not_failed(reply)
        work.shut = reply.happened is True
        if reply.happened is False:
            work.shutting = work.emptied = False
        self.facts["shut down"] += work.shut

    def is_there(self, it: Any, name: str, waiter: Any) -> object:
        return _is_there(it, name, waiter)

    def check_now(self) -> None:
        for work in self.works:
            _check_order(self.world.store.entries[work.queue].object)

    def help(self, task: Task, waits: set[str]) -> Steps:
        for work in self.works:
            if not waits.isdisjoint(GETS):
                yield from work.fill(task)
            elif not work.working:
                yield from work.drain(task)
                while self.orphaned(work):
                    yield from self.finish(work)

    def orphaned(self, work: Work) -> bool:
        """Tell whether nobody is left who would work off what is unfinished."""
        it: Any = self.world.store.entries[work.queue].object
        getting = any(
            task.call is not None
            and task.call.request.object_id == work.queue
            and task.call.request.operation.name in GETS
            for app in self.world.apps
            for task in app.tasks
        )
        # What a dead client had not kept comes back when its session expires.
        granted = any(
            call.object_id == work.queue and call.waiter.undoable
            for session in self.world.core.sessions.values()
            for call in session._calls.values()
        )
        return it._unfinished > 0 and not (it._items or work.working or getting or granted)

    def perish(self, call: Call) -> None:
        for work in self.works:
            if call.request.object_id == work.queue and call.request.operation.name in GETS:
                work.perish(call)

    def close(self, task: Task) -> Steps:
        for work in self.works:
            yield from work.drain(task)
            it: Any = self.world.store.entries[work.queue].object
            work.left = it._unfinished
        yield from self.read(task, ("worked", List, "copy"))

    def check(self) -> None:
        takers = {item: calls for work in self.works for item, calls in work.taken.items()}
        for item, number in self.final["worked"]:
            if number + 1 < len(takers[item]):
                raise Broken(f"item {item} was worked off by one who did not keep it")
        for work in self.works:
            work.check(emptied=work.emptied)
            if work.emptied:
                # What was thrown away is not to be worked off any more.
                most = len(work.taken.keys() | work.perished)
                least = sum(
                    any(call.name() not in self.world.unkept for call in calls)
                    for calls in work.taken.values()
                )
            else:
                least = most = len(work.entered() | work.perished)
            done = work.finished
            if not least - done - work.finishing <= work.left <= most - done:
                raise Broken(
                    f"{work.left} items are unfinished, of {least} to {most}; {done} were worked "
                    f"off, and perhaps {work.finishing} more"
                )
