"""References: an object lives as long as somebody refers to it, and no longer."""

from collections.abc import Iterable

from aiomanager.errors import ObjectGone
from aiomanager.objects.dict import Dict
from aiomanager.sessions.store import MANAGER, Manager

from .books import Book, Program, not_failed
from .clients import Pause, Ref, Reply, Request, Steps, Task
from .network import Broken

__all__ = ("References",)


class References(Book):
    """Objects that are lent to others over a shelf."""

    objects = (("lending", "dict", []),)
    lending = 0

    def programs(self) -> Iterable[Program]:
        return (self.lend,)

    def lend(self, task: Task) -> Steps:
        """Make an object, put a reference to it on the shelf, let go of it, and find it again."""
        app = task.app
        reply: Reply = yield Request(MANAGER, Manager.operations["create"], ("dict", []), False)
        if reply.how != "done":
            return
        made = Ref(reply.value)
        key = f"lent {made.object_id}"
        yield from self.use(task, made)
        reply = yield Request(self.lending, Dict.operations["set"], (key, made), False)
        if reply.how != "done":
            return
        app.let_go(made)
        yield Pause(self.random.choice((0.0, 0.1)))
        name = self.random.choice(("get_item", "pop"))
        reply = yield Request(self.lending, Dict.operations[name], (key,), False)
        not_failed(reply)
        if reply.how == "done":
            yield from self.use(task, reply.value)
            app.let_go(made)

    def use(self, task: Task, it: Ref) -> Steps:
        operation = Dict.operations["increment"]
        reply: Reply = yield Request(it.object_id, operation, ("n",), False)
        if isinstance(reply.value, ObjectGone):
            raise Broken(f"object {it.object_id} is gone while somebody refers to it")
