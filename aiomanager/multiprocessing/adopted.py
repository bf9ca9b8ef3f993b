"""A program's own `queue.Queue`, whose work a shared queue does from the moment it is shared.

So what waits in it has the guarantees of a shared queue: a getter that is killed loses nothing.
The program's own threads use it as before, and do what the clients do.
"""

import threading
from collections.abc import Callable
from queue import Queue
from typing import Any, Final

__all__ = ("adopt",)

_METHODS: Final = (
    "empty", "full", "get", "get_nowait", "join", "put", "put_nowait", "qsize", "shutdown",
    "task_done",
)  # fmt: skip


def adopt(queue: "Queue[Any]", shared: Any) -> Any:
    """Move what is in `queue` to a shared one, whose proxy is returned, and pass all calls on."""
    with queue.mutex:
        # Before anybody else can put something there, which would take the room of these.
        items = list(queue.queue)
        for _ in range(queue.unfinished_tasks - len(items)):  # taken out, and not done yet
            shared.put(None)
            shared.get()
        for item in items:
            shared.put(item)
        queue.queue.clear()
        for name in _METHODS:
            if hasattr(queue, name):
                setattr(queue, name, getattr(shared, name))
        # Those who wait inside of the queue's own methods already do not see the new ones.
        queue._put = shared.put  # type: ignore[method-assign]
        queue.not_full.notify_all()
        getters = _waiting(queue.not_empty)
        joiners = _waiting(queue.all_tasks_done)
    for _ in range(getters):
        _start(_serve_getter, queue, shared)
    if joiners:
        _start(_serve_joiners, queue, shared)
    return shared


def _waiting(condition: threading.Condition) -> int:
    return len(getattr(condition, "_waiters", ()))


def _start(function: Callable[..., None], *arguments: Any) -> None:
    threading.Thread(target=function, args=arguments, name=function.__name__, daemon=True).start()


def _serve_getter(queue: "Queue[Any]", shared: Any) -> None:
    item = shared.get()
    with queue.mutex:
        if _waiting(queue.not_empty):
            queue.queue.append(item)
            queue.not_empty.notify()
            return
    shared.put(item)  # it has given up
    shared.task_done()  # the item counts once


def _serve_joiners(queue: "Queue[Any]", shared: Any) -> None:
    shared.join()
    with queue.mutex:
        queue.unfinished_tasks = 0
        queue.all_tasks_done.notify_all()
