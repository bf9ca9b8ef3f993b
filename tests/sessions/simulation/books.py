"""What the programs of all types share: each room's `Book`, and the `Books` that are all of them.

A book has shared objects, the programs that use them, and what those were told. It says whether
what a parked call waits for is there, gives those who wait in the end what they wait for, and
compares at last what is there with what was promised.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeAlias

from aiomanager.operation import SharedObject
from aiomanager.sessions.client import ClientSession
from aiomanager.sessions.server import ServerSession
from aiomanager.sessions.store import MANAGER, Manager

from .clients import App, Call, Pause, Reply, Request, Steps, Task
from .network import Broken

if TYPE_CHECKING:
    from .world import World

__all__ = ("Book", "Books", "Fates", "Held", "Holders", "Program", "not_failed")

Program: TypeAlias = Callable[[Task], Steps]

Fates: TypeAlias = dict[int, bool | None]
"""What became of each thing: True it happened, False it did not, None nobody knows."""


def not_failed(reply: Reply, *errors: type[Exception]) -> None:
    """Raise if a call failed otherwise than with one of these errors."""
    if reply.how == "failed" and not isinstance(reply.value, errors):
        raise Broken(f"a call failed: {reply.value!r}") from reply.value


class Book:
    """Shared objects, what the programs do with them, and what these were told."""

    objects: ClassVar[tuple[tuple[str, str, list[Any]], ...]] = ()
    """Name, type and arguments; an attribute of that name is the object's id."""

    def __init__(self, books: "Books") -> None:
        self.books = books
        self.world = books.world
        self.random = books.world.random
        self.facts = books.world.facts
        self.final: dict[str, Any] = {}
        """What was read at the end."""

    def programs(self) -> Iterable[Program]:
        """Return what tasks do."""
        return ()

    def kinds(self) -> Iterable[tuple[str, str, list[Any]]]:
        """Return the objects that are made; as `objects`."""
        return self.objects

    def start(self, task: Task) -> Steps:
        """Have the janitor do what must be done before the others come."""
        yield from ()

    def is_there(self, it: Any, name: str, waiter: Any) -> object:
        """Tell whether what is waited for is there, though there is a waiter."""
        return False

    def check_now(self) -> None:
        """Raise if something is wrong while all this goes on."""

    def help(self, task: Task, waits: set[str]) -> Steps:
        """Have the janitor give those who wait in these operations what they wait for."""
        yield from ()

    def perish(self, call: Call) -> None:
        """Know that a call was under way when its app died."""

    def close(self, task: Task) -> Steps:
        """Have the janitor read all that is left."""
        yield from ()

    def check(self) -> None:
        """Compare what is there with what everybody was told."""

    def leave(self, task: Task) -> Steps:
        """Have the janitor do what is to be done when everybody has left."""
        yield from ()

    def read(self, task: Task, *reads: tuple[str, type[SharedObject], str]) -> Steps:
        """Have the janitor ask what is left: attribute, type and operation."""
        for name, kind, operation in reads:
            reply = yield Request(getattr(self, name), kind.operations[operation], ())
            self.final[name] = reply.value


class Held(NamedTuple):
    """A lock as its holder sees it."""

    fence: int
    session: ServerSession | None
    """The server's end of the session that holds it."""
    through: ClientSession[Call] | None
    app: App
    until: float | None = None
    """When its lease may end."""

    @property
    def lost(self) -> bool:
        """Whether its holder knows that the session is lost."""
        return self.app.session is not self.through


class Holders:
    """Who has each lock, permit or key, as far as its holders know."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self._of: dict[Hashable, dict[Task, Held]] = {}
        self._highest: Counter[Hashable] = Counter()

    def add(self, task: Task, it: Hashable, held: Held, most: int = 1) -> None:
        """Count a task among the holders; raise if there are too many, or an old fence."""
        holders = self._of.setdefault(it, {})
        if held.session is None:
            self.world.facts["locks held after expiry"] += 1
        else:
            others = sum(
                other.app.alive
                and one.session is not None
                and not one.session.ended
                and (one.until is None or one.until > self.world.clock)
                for other, one in holders.items()
                if other is not task
            )
            mine = held.until is None or held.until > self.world.clock
            if mine and others >= most:
                raise Broken(f"{others + 1} hold {it}, one with fence {held.fence}")
            if held.fence:
                if held.fence <= self._highest[it]:
                    raise Broken(f"fence {held.fence} came after {self._highest[it]}")
                self._highest[it] = held.fence
        holders[task] = held

    def forget(self, task: Task, it: Hashable) -> None:
        """Count a task no more among the holders."""
        self._of[it].pop(task, None)


class Books:
    """All shared objects of a simulation, its programs, and what those were told."""

    def __init__(self, world: "World", rooms: Iterable[Callable[["Books"], Book]]) -> None:
        self.world = world
        self._number = 0
        self.dwell: Program = _rest
        """What a task does while it holds something."""
        self.rooms = [room(self) for room in rooms]
        # Each seed has its own habits: what is rare among all of them is common for some.
        liked: dict[Program, int] = {}
        self.open_rooms: list[Book] = []
        for room in self.rooms:
            likes = {one: world.random.choice((0, 0, 1, 1, 5)) for one in room.programs()}
            if any(likes.values()):
                self.open_rooms.append(room)
                liked |= {one: like for one, like in likes.items() if like}
        self.programs, self.weights = list(liked), list(liked.values())

    def number(self) -> int:
        """Return a number that nothing else has."""
        self._number += 1
        return self._number

    # The janitor's part

    def open(self, task: Task) -> Steps:
        """Make the shared objects."""
        for room in self.open_rooms:
            for name, kind, arguments in room.kinds():
                reply = yield Request(MANAGER, Manager.operations["named"], (kind, name, arguments))
                if reply.how != "done":
                    raise Broken(f"the {name} could not be made: {reply.value!r}")
                setattr(room, name, reply.value)
            yield from room.start(task)

    def is_there(self, it: Any, name: str, waiter: Any) -> object:
        """Tell whether what is waited for is there."""
        return any(room.is_there(it, name, waiter) for room in self.open_rooms)

    def check_now(self) -> None:
        """Raise if something is wrong while all this goes on."""
        for room in self.open_rooms:
            room.check_now()

    def help(self, task: Task) -> Steps:
        """Give those who wait what they wait for."""
        waits = {
            other.call.request.operation.name
            for app in self.world.apps
            for other in app.tasks
            if other.call is not None
        }
        for room in self.open_rooms:
            yield from room.help(task, waits)

    def perish(self, call: Call) -> None:
        """Know that a call was under way when its app died."""
        for room in self.open_rooms:
            room.perish(call)

    def close(self, task: Task) -> Steps:
        """Read all that is left."""
        for room in self.open_rooms:
            yield from room.close(task)

    def check(self) -> None:
        """Compare what the server holds with what everybody was told."""
        for room in self.open_rooms:
            room.check()

    def leave(self, task: Task) -> Steps:
        """Delete the objects, now that everybody has left."""
        for room in self.open_rooms:
            yield from room.leave(task)
            for name, _, _ in room.kinds():
                yield Request(MANAGER, Manager.operations["delete"], (name,))

    # The programs

    def program(self, task: Task) -> Steps:
        """Do this and that."""
        random = self.world.random
        for part in random.choices(self.programs, self.weights, k=random.randint(8, 25)):
            yield from part(task)
            if random.random() < self.world.pauses:
                yield Pause(random.choice((0.01, 0.2, 1.0)))


def _rest(_task: Task) -> Steps:
    yield Pause(0.0)
