"""Locks, permits and keys: never more holders than there may be, and nothing stays held.

A circle of waits is refused, at the call that closed it, and nothing else ever is.
"""

from collections.abc import Generator, Iterable
from typing import Any, TypeAlias

from aiomanager.errors import DeadlockDetected, NotOwner
from aiomanager.objects.condition import Condition
from aiomanager.objects.lock import Lock
from aiomanager.objects.lock_table import LockTable
from aiomanager.objects.rlock import RLock
from aiomanager.objects.semaphore import BoundedSemaphore, Semaphore

from .books import Book, Books, Held, Holders, Program, not_failed
from .clients import Pause, Reply, Request, Steps, Task
from .network import Broken

__all__ = ("Leases", "Locks", "Tables")

PERMITS = 2
KEYS = 5
PATIENCE = 1.0
"""Seconds for which they must have waited for each other before one is refused."""

Acquiring: TypeAlias = Generator[Any, Any, Held | None]


class Locking(Book):
    """What books of locks have in common: who holds what, how it is acquired and released."""

    def __init__(self, books: Books) -> None:
        super().__init__(books)
        self.holders = Holders(self.world)

    def acquire(
        self,
        task: Task,
        it: int,
        kind: Any,
        timeouts: tuple[float | None, ...] = (None, None, 0.1, 1.0),
        *errors: type[Exception],
    ) -> Acquiring:
        """Acquire a lock or a permit; None if it was not to be had."""
        timeout = self.random.choice(timeouts)
        fenced = "acquire_fenced" in kind.operations
        name = "acquire_fenced" if fenced else "acquire"
        reply: Reply = yield Request(it, kind.operations[name], (True, timeout))
        _check(reply, timeout, *errors)
        if reply.how != "done" or not reply.value:
            return None
        assert reply.call is not None
        held = Held(reply.value if fenced else 0, reply.session, reply.call.session, task.app)
        self.holders.add(task, it, held, 1 if fenced else PERMITS)
        return held

    def release(self, task: Task, it: int, kind: Any, held: Held, *, last: bool = True) -> Steps:
        """Give back what the task holds, unless its session is lost, and that with it."""
        if last:
            self.holders.forget(task, it)
        yield from self.give(task, it, kind.operations["release"], held)

    def give(self, task: Task, it: int, operation: Any, held: Held, *arguments: Any) -> Steps:
        """Release something, with an answer or without one."""
        app = task.app
        if held.lost:
            return
        if self.random.random() < 0.5:
            app.post(task, it, operation, *arguments)
            return
        reply: Reply = yield Request(it, operation, arguments)
        if not held.lost:
            if reply.how == "failed":
                raise Broken(f"object {it} could not be released by its owner: {reply.value}")
            if reply.how == "never":
                app.post(task, it, operation, *arguments)


def _check(reply: Reply, timeout: float | None, *errors: type[Exception]) -> None:
    not_failed(reply, *errors)
    if reply.how == "completed" and timeout is None and not errors:
        raise Broken("an acquire without timeout was cancelled too late")


class Locks(Locking):
    """Lock, RLock, Condition, and the two semaphores."""

    objects = (
        ("lock", "Lock", []),
        ("rlock", "RLock", []),
        ("permits", "Semaphore", [PERMITS]),
        ("bounded", "BoundedSemaphore", [PERMITS]),
        ("condition", "Condition", []),
    )
    lock = rlock = permits = bounded = condition = 0

    def programs(self) -> Iterable[Program]:
        return self.critical_section, self.nested_section, self.take_permit, self.use_condition

    def critical_section(self, task: Task) -> Steps:
        held = yield from self.acquire(task, self.lock, Lock)
        if held is None:
            return
        yield from self.books.dwell(task)
        yield from self.release(task, self.lock, Lock, held)

    def nested_section(self, task: Task) -> Steps:
        """Acquire a lock within itself."""
        held = yield from self.acquire(task, self.rlock, RLock)
        if held is None:
            return
        again: Reply = yield Request(self.rlock, RLock.operations["acquire_fenced"], (False,))
        if held.lost:
            self.holders.forget(task, self.rlock)
            return
        not_failed(again)
        if again.how == "done":
            if not again.value:
                raise Broken("an RLock was refused to its owner")
            if again.value != held.fence:
                raise Broken(f"an RLock's fence changed within: {held.fence}, {again.value}")
            yield from self.books.dwell(task)
            yield from self.release(task, self.rlock, RLock, held, last=False)
        if not held.lost:
            yield from self.release(task, self.rlock, RLock, held)
        else:
            self.holders.forget(task, self.rlock)

    def take_permit(self, task: Task) -> Steps:
        it, kind = self.random.choice(((self.permits, Semaphore), (self.bounded, BoundedSemaphore)))
        held = yield from self.acquire(task, it, kind)
        if held is None:
            return
        yield from self.books.dwell(task)
        yield from self.release(task, it, kind, held)

    def use_condition(self, task: Task) -> Steps:
        """Wait on a condition, or notify those who do."""
        it, kind = self.condition, Condition
        held = yield from self.acquire(task, it, kind)
        if held is None:
            return
        if self.random.random() < 0.6:
            # While it sleeps, it has not got the lock; however that ends, it has it again.
            self.holders.forget(task, it)
            timeout = self.random.choice((None, 0.05, 1.0))
            reply: Reply = yield Request(it, kind.operations["wait_fenced"], (timeout,))
            if held.lost:
                return
            not_failed(reply)
            # It has acquired it anew. Who took the call back is not told the fence.
            notified, fence = reply.value if reply.how == "done" else (False, 0)
            if reply.how == "done" and not notified and timeout is None:
                raise Broken("a wait without timeout ended without being notified")
            self.facts["notified"] += notified
            self.holders.add(task, it, Held(fence, reply.session, None, task.app))
        else:
            name = self.random.choice(("notify", "notify_all"))
            reply = yield Request(it, kind.operations[name], ())
            if not held.lost:
                not_failed(reply)
        yield from self.release(task, it, kind, held)

    def is_there(self, it: Any, name: str, waiter: Any) -> object:
        if name == "acquire_fenced":
            return it._mutex.owner is None
        if name == "acquire":
            return it._value > 0
        return (
            name == "wait_fenced"
            and isinstance(it, Condition)
            and it._mutex.owner is None
            and it._mutex.waiting.first()
        )

    def help(self, task: Task, waits: set[str]) -> Steps:
        if "wait_fenced" in waits:
            acquire = Condition.operations["acquire_fenced"]
            reply = yield Request(self.condition, acquire, (False,))
            if reply.value:
                yield Request(self.condition, Condition.operations["notify_all"], ())
                yield Request(self.condition, Condition.operations["release"], ())

    def close(self, task: Task) -> Steps:
        yield from self.read(
            task,
            ("lock", Lock, "locked"),
            ("rlock", RLock, "locked"),
            ("condition", Condition, "locked"),
            ("permits", Semaphore, "value"),
            ("bounded", BoundedSemaphore, "value"),
        )

    def check(self) -> None:
        for name in ("lock", "rlock", "condition"):
            if self.final[name]:
                raise Broken(f"the {name} is held by nobody")
        for name in ("permits", "bounded"):
            if self.final[name] != PERMITS:
                raise Broken(f"{self.final[name]} {name} are there of {PERMITS}")


class Leases(Locking):
    """Permits that come back by themselves: those who have them may keep them for good."""

    objects = (
        ("leased", "Semaphore", [PERMITS]),
        ("let", "BoundedSemaphore", [PERMITS]),
    )
    leased = let = 0

    def programs(self) -> Iterable[Program]:
        return (self.lease,)

    def lease(self, task: Task) -> Steps:
        random = self.random
        it, kind = random.choice(((self.leased, Semaphore), (self.let, BoundedSemaphore)))
        timeout, seconds = random.choice((None, 0.1, 1.0)), random.choice((0.05, 0.5, 2.0))
        began = self.world.clock
        operation = kind.operations["acquire"]
        reply: Reply = yield Request(it, operation, (True, timeout, seconds))
        _check(reply, timeout)
        if reply.how != "done" or not reply.value:
            return
        assert reply.call is not None
        # A grant that took long to come may have had its time already; this one says the least.
        held = Held(0, reply.session, reply.call.session, task.app, began + seconds)
        self.holders.add(task, it, held, PERMITS)
        yield Pause(random.choice((0.0, 0.02, 0.3, 1.0)))
        if random.random() < 0.3 and not held.lost:
            began = self.world.clock
            reply = yield Request(it, kind.operations["renew"], (seconds,))
            if held.lost:
                return
            self.ended(reply, held)
            if reply.how == "done":
                # What is held is what was held all the time, so nobody else came in between.
                held = held._replace(until=began + seconds)
                self.holders.add(task, it, held, PERMITS)
            yield Pause(random.choice((0.0, 0.3)))
        if random.random() < 0.4:
            return  # it never releases the permit, which comes back
        self.holders.forget(task, it)
        if held.lost:
            return
        reply = yield Request(it, kind.operations["release"], ())
        if not held.lost:
            self.ended(reply, held)

    def ended(self, reply: Reply, held: Held) -> None:
        """Raise if a permit was taken back before its time."""
        not_failed(reply, NotOwner)
        if reply.how == "failed":
            self.facts["leases ended"] += 1
            if held.until is not None and self.world.clock < held.until:
                raise Broken(f"a lease until {held.until:.3f} ended before that")

    def is_there(self, it: Any, name: str, waiter: Any) -> object:
        return name == "acquire" and it._value > 0

    def close(self, task: Task) -> Steps:
        yield from self.read(task, ("leased", Semaphore, "value"), ("let", Semaphore, "value"))

    def check(self) -> None:
        for name, value in self.final.items():
            if value != PERMITS:
                raise Broken(f"{value} permits are {name}, of {PERMITS}: not all came back")


class Tables(Locking):
    """A table of locks; and locks and keys that are taken in any order, one inside the other."""

    objects = (
        ("table_of_locks", "LockTable", []),
        ("left", "Lock", []),
        ("right", "RLock", []),
    )
    table_of_locks = left = right = 0

    def __init__(self, books: Books) -> None:
        super().__init__(books)
        self.world.judge = self.judge

    def programs(self) -> Iterable[Program]:
        return self.hold_keys, self.cross

    def acquire_keys(
        self, task: Task, keys: list[int], timeout: float | None, *errors: type[Exception]
    ) -> Acquiring:
        """Acquire keys, all or none."""
        it, operation = self.table_of_locks, LockTable.operations["acquire_keys"]
        reply: Reply = yield Request(it, operation, (keys, timeout))
        _check(reply, timeout, *errors, *(() if timeout is None else (TimeoutError,)))
        if reply.how != "done":
            return None
        assert reply.call is not None
        held = Held(reply.value, reply.session, reply.call.session, task.app)
        for key in set(keys):
            self.holders.add(task, (it, key), held)
        return held

    def release_keys(self, task: Task, keys: list[int], held: Held) -> Steps:
        operation = LockTable.operations["release_keys"]
        for key in set(keys):
            self.holders.forget(task, (self.table_of_locks, key))
        yield from self.give(task, self.table_of_locks, operation, held, keys)

    def hold_keys(self, task: Task) -> Steps:
        """Hold several keys, and release them together or one after the other."""
        random = self.random
        keys = random.sample(range(KEYS), random.choice((1, 2, 3)))
        # Who wants several keys stands in the way of others, though he has none yet.
        errors = (DeadlockDetected,) if len(keys) > 1 else ()
        timeout = random.choice((None, None, 0.1, 1.0))
        held = yield from self.acquire_keys(task, keys, timeout, *errors)
        if held is None:
            return
        self.facts["keys held"] += len(keys)
        yield from self.books.dwell(task)
        if random.random() < 0.5:
            yield from self.release_keys(task, keys[:1], held)
            keys = keys[1:]
        if keys:
            yield from self.release_keys(task, keys, held)

    def cross(self, task: Task) -> Steps:
        """Take two things, one inside the other, in any order: a circle of waits is refused."""
        random = self.random
        first, second = random.sample(("left", "right", "a key", "keys"), 2)
        keys = random.sample(range(KEYS), 3)
        held = yield from self.take(task, first, keys[:1], None)
        if held is None:
            return
        if random.random() < 0.7:
            yield Pause(random.choice((0.01, 0.3)))
        if not held.lost:
            timeout = None if random.random() < 0.8 else 3.0
            inner = yield from self.take(task, second, keys[1:], timeout, DeadlockDetected)
            if inner is not None:
                yield from self.books.dwell(task)
                yield from self.let_go(task, second, keys[1:], inner)
        yield from self.let_go(task, first, keys[:1], held)

    def take(
        self,
        task: Task,
        what: str,
        keys: list[int],
        timeout: float | None,
        *errors: type[Exception],
    ) -> Acquiring:
        if "key" in what:
            return (yield from self.acquire_keys(task, keys, timeout, *errors))
        it, kind = (self.left, Lock) if what == "left" else (self.right, RLock)
        return (yield from self.acquire(task, it, kind, (timeout,), *errors))

    def let_go(self, task: Task, what: str, keys: list[int], held: Held) -> Steps:
        if "key" in what:
            yield from self.release_keys(task, keys, held)
        else:
            it, kind = (self.left, Lock) if what == "left" else (self.right, RLock)
            yield from self.release(task, it, kind, held)

    def judge(self, waited: float, number: int | None, numbers: list[int]) -> None:
        """Know that the server refuses a wait: one in a circle, not a new one, nor the oldest.

        The numbers say in which order the waits of those in circles began.
        """
        self.facts["deadlocks refused"] += 1
        if number is None:
            raise Broken("a wait was refused as a deadlock, and there is no circle")
        if number == min(numbers):
            raise Broken("of those who wait for each other, the first was refused")
        if waited < PATIENCE - 1e-6:
            raise Broken(f"a wait was refused as a deadlock after {waited:.3f} s")

    def is_there(self, it: Any, name: str, waiter: Any) -> object:
        if name == "acquire_keys":
            return not waiter.aside and all(
                next(iter(it._lines[key])) is waiter for key in waiter.keys
            )
        return name == "acquire_fenced" and it._mutex.owner is None

    def close(self, task: Task) -> Steps:
        yield from self.read(
            task,
            ("table_of_locks", LockTable, "holders"),
            ("left", Lock, "locked"),
            ("right", RLock, "locked"),
        )
        it: Any = self.world.store.entries[self.table_of_locks].object
        self.final["lines"] = dict(it._lines)
        self.final["parked"] = it._parked

    def check(self) -> None:
        for name, left in self.final.items():
            if left:
                raise Broken(f"nobody has or wants a lock, and of {name} there is {left}")
        if len(self.world.store.deadlocks):
            raise Broken("nobody waits, and the search for deadlocks knows some who do")
