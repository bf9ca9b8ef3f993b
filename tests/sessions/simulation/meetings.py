"""An event and a barrier: whoever waits for others is told, and nobody is counted twice."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from aiomanager.errors import BrokenBarrierError
from aiomanager.objects.barrier import Barrier
from aiomanager.objects.event import Event

from .books import Book, Books, Program, not_failed
from .clients import Call, Reply, Request, Steps, Task
from .network import Broken

__all__ = ("Meetings",)

PARTIES = 3


class Meetings(Book):
    """An event and a barrier."""

    objects = (("event", "Event", []), ("barrier", "Barrier", [PARTIES]))
    event = barrier = 0

    def __init__(self, books: Books) -> None:
        super().__init__(books)
        self.seats: Counter[int] = Counter()
        self.seats_unknown = 0

    def programs(self) -> Iterable[Program]:
        return self.wait_for_event, self.flip_event, self.many, self.meet

    def wait_for_event(self, task: Task) -> Steps:
        timeout = self.random.choice((None, 0.05, 1.0))
        reply: Reply = yield Request(self.event, Event.operations["wait"], (timeout,))
        not_failed(reply)
        if reply.how == "done" and not reply.value and timeout is None:
            raise Broken("a wait without timeout ended without the event")

    def flip_event(self, task: Task) -> Steps:
        name = self.random.choice(("set", "set", "clear"))
        reply: Reply = yield Request(self.event, Event.operations[name], ())
        not_failed(reply)

    def many(self, task: Task) -> Steps:
        """Post much at a time, so that calls have to wait until they may be sent."""
        for _ in range(self.random.choice((5, 30))):
            task.app.post(task, self.event, Event.operations["clear"])
        yield from self.flip_event(task)

    def meet(self, task: Task) -> Steps:
        """Wait for the others at the barrier."""
        timeout = self.random.choice((None, 0.3, 3.0))
        reply: Reply = yield Request(self.barrier, Barrier.operations["arrive"], (timeout,))
        not_failed(reply, BrokenBarrierError)
        if reply.how == "done":
            index, turn, _ = reply.value
            if turn or index not in range(PARTIES):
                raise Broken(f"a party got the index {index}, and turn {turn}")
            self.seats[index] += 1
            self.facts["met"] += 1
        elif reply.how == "failed":
            yield Request(self.barrier, Barrier.operations["reset"], ())
        elif reply.how != "never":
            self.seats_unknown += 1

    def is_there(self, it: Any, name: str, waiter: Any) -> object:
        if name == "arrive":
            return it._broken or len(it._seats) >= PARTIES
        return name == "wait" and isinstance(it, Event) and it._flag

    def help(self, task: Task, waits: set[str]) -> Steps:
        if "wait" in waits:
            yield Request(self.event, Event.operations["set"], ())
        if "arrive" in waits:
            yield Request(self.barrier, Barrier.operations["reset"], ())

    def perish(self, call: Call) -> None:
        self.seats_unknown += call.request.operation.name == "arrive"

    def close(self, task: Task) -> Steps:
        yield from self.read(task, ("barrier", Barrier, "n_waiting"))

    def check(self) -> None:
        if self.final["barrier"]:
            raise Broken("nobody waits at the barrier, and has a seat there")
        counts = [self.seats[index] for index in range(PARTIES)]
        if max(counts) - min(counts) > self.seats_unknown:
            raise Broken(f"the seats of the barrier were taken {counts} times")
