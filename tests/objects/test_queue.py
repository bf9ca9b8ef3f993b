"""The shared Queue does what queue.Queue does, fairly, and puts back what nobody came to have."""

import queue
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from aiomanager.errors import Empty, Full, ShutDown
from aiomanager.objects.queue import JoinableQueue, Queue

from .rigs import PureRig, Rig, SessionRig
from .twins import Model, PatientTwins, values

sessions = st.integers(0, 2)
timeouts = st.sampled_from([None, None, 0, 1, 2.5, -1])


def empty() -> Any:
    raise Empty


def full() -> Any:
    raise Full


def too_late() -> Any:
    raise TimeoutError


def shut_down() -> Any:
    raise ShutDown


def is_short(block: bool, timeout: float | None) -> bool:
    return not block or (timeout is not None and timeout <= 0)


class QueueModel(Model):
    """Python's own queue, in front of which calls wait in the order in which they came."""

    def __init__(self, maxsize: int) -> None:
        super().__init__()
        self.queue: queue.Queue[Any] = queue.Queue(maxsize)
        self.is_shut_down = False

    def serve(self) -> None:
        while True:
            getter, putter = self.first("get"), self.first("put")
            if getter is not None and not self.queue.empty():
                self.answer(getter, getter.request)
            elif putter is not None and not self.queue.full():
                self.queue.put_nowait(putter.request)
                self.answer(putter, lambda: None)
            else:
                break
        if self.is_shut_down and self.queue.empty():
            while getter := self.first("get"):
                self.answer(getter, shut_down)
        if not self.queue.unfinished_tasks:
            while joining := self.first("join"):
                self.answer(joining, lambda: None)

    def end(self, session: int, *, well: bool = True) -> None:
        super().end(session, well=well)
        self.serve()

    def put(self, item: Any, block: bool = True, timeout: Any = None) -> Any:
        if self.is_shut_down:
            raise ShutDown
        if self.queue.full() and not is_short(block, timeout):
            return self.park("put", timeout, full, item)
        self.queue.put(item, block, timeout)
        return self.serve()

    def put_many(self, items: list[Any]) -> None:
        if self.is_shut_down:
            raise ShutDown
        if 0 < self.queue.maxsize < self.queue.qsize() + len(items):
            raise Full
        for item in items:
            self.queue.put_nowait(item)
        self.serve()

    def _get(self, take: Callable[[], Any], block: bool, timeout: Any) -> Any:
        if self.is_shut_down and self.queue.empty():
            raise ShutDown
        if not self.queue.empty():
            if block and timeout is not None and timeout < 0:
                raise ValueError
            result = take()
            self.serve()
            return result
        if is_short(block, timeout):
            return self.queue.get(block, timeout)
        return self.park("get", timeout, empty, take)

    def get(self, block: bool = True, timeout: Any = None) -> Any:
        return self._get(self.queue.get_nowait, block, timeout)

    def get_delivery(self, block: bool = True, timeout: Any = None) -> Any:
        return self._get(lambda: (self.queue.get_nowait(), False), block, timeout)

    def get_many(self, limit: int, block: bool = True, timeout: Any = None) -> Any:
        if limit < 1:
            raise ValueError

        def take() -> list[Any]:
            return [self.queue.get_nowait() for _ in range(min(limit, self.queue.qsize()))]

        return self._get(take, block, timeout)

    def task_done(self) -> None:
        self.queue.task_done()
        self.serve()

    def join(self, timeout: Any = None) -> Any:
        if self.queue.unfinished_tasks:
            if timeout is not None and timeout < 0:
                raise ValueError
            return self.park("join", timeout, too_late)
        return None

    def shutdown(self, immediate: bool) -> None:
        self.is_shut_down = True
        if immediate:
            while not self.queue.empty():
                self.queue.get_nowait()
                if self.queue.unfinished_tasks:
                    self.queue.unfinished_tasks -= 1
        while putter := self.first("put"):
            self.answer(putter, shut_down)
        self.serve()


class QueueMachine(RuleBasedStateMachine):
    @initialize(maxsize=st.sampled_from([0, -1, 1, 2, 3]))
    def make(self, maxsize: int) -> None:
        self.twins = PatientTwins(Queue, QueueModel(maxsize), maxsize)

    @invariant()
    def same(self) -> None:
        self.twins.compare()
        self.twins.check("qsize", lambda m: m.queue.qsize())

    @rule()
    def look(self) -> None:
        self.twins.check("empty", lambda m: m.queue.empty())
        self.twins.check("full", lambda m: m.queue.full())
        self.twins.check("maxsize", lambda m: m.queue.maxsize)
        self.twins.check("is_shut_down", lambda m: m.is_shut_down)

    @rule(session=sessions, item=values, block=st.booleans(), timeout=timeouts)
    def put(self, session: int, item: Any, block: bool, timeout: Any) -> None:
        self.twins.act(session, 1, "put", QueueModel.put, item, block, timeout)

    @rule(session=sessions, item=values)
    def put_for_ever(self, session: int, item: Any) -> None:
        self.twins.act(session, 1, "put", QueueModel.put, item)

    @rule(item=values)
    def put_nowait(self, item: Any) -> None:
        self.twins.check("put_nowait", lambda m, i: m.put(i, False), item)

    @rule(items=st.lists(values, max_size=3))
    def put_many(self, items: Any) -> None:
        self.twins.check("put_many", QueueModel.put_many, items)

    @rule(session=sessions, block=st.booleans(), timeout=timeouts)
    def get(self, session: int, block: bool, timeout: Any) -> None:
        self.twins.act(session, 1, "get", QueueModel.get, block, timeout)

    @rule(session=sessions)
    def get_for_ever(self, session: int) -> None:
        self.twins.act(session, 1, "get", QueueModel.get)

    @rule()
    def get_nowait(self) -> None:
        self.twins.check("get_nowait", lambda m: m.get(False))

    @rule(session=sessions, timeout=timeouts)
    def get_delivery(self, session: int, timeout: Any) -> None:
        self.twins.act(session, 1, "get_delivery", QueueModel.get_delivery, True, timeout)

    @rule(session=sessions, limit=st.integers(0, 3), block=st.booleans(), timeout=timeouts)
    def get_many(self, session: int, limit: int, block: bool, timeout: Any) -> None:
        self.twins.act(session, 1, "get_many", QueueModel.get_many, limit, block, timeout)

    @rule()
    def task_done(self) -> None:
        self.twins.check("task_done", QueueModel.task_done)

    @rule(session=sessions, timeout=timeouts)
    def join(self, session: int, timeout: Any) -> None:
        if timeout != 0:  # which says at once what takes a moment here
            self.twins.act(session, 1, "join", QueueModel.join, timeout)

    @rule(seconds=st.sampled_from([0.5, 1, 2]))
    def advance(self, seconds: float) -> None:
        self.twins.advance(seconds)

    @precondition(lambda self: self.twins.waiting)
    @rule(position=st.integers(0, 9))
    def cancel(self, position: int) -> None:
        self.twins.cancel(position)

    @rule(session=sessions)
    def end(self, session: int) -> None:
        self.twins.end(session)

    @precondition(lambda self: len(self.twins.waiting) > 2)
    @rule(immediate=st.booleans())
    def shutdown(self, immediate: bool) -> None:
        self.twins.check("shutdown", QueueModel.shutdown, immediate)


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)


# What a getter was given and never came to have


@pytest.fixture(params=[PureRig, SessionRig])
def rig(request: pytest.FixtureRequest) -> Rig:
    return request.param()  # type: ignore[no-any-return]


def deliveries(q: Any) -> list[tuple[Any, bool]]:
    found = []
    while not q.empty():
        found.append(q.get_delivery(False))
    return found


def granted(rig: Rig, q: Any, session: int, name: str = "get", *arguments: Any) -> Any:
    """Get items without a word that they arrived."""
    rig.keeps = False
    with rig.as_(session):
        parked = getattr(q, name)(*arguments)
    rig.keeps = True
    assert parked.done
    return parked


def test_a_cancelled_getter_leaves_its_item_at_its_old_place(rig: Rig) -> None:
    q = rig.make(Queue)
    q.put_many([1, 2, 3])
    first, second = granted(rig, q, 1), granted(rig, q, 2)
    assert (first.result(), second.result()) == (1, 2)
    assert second.take_back()
    assert first.take_back()
    assert deliveries(q) == [(1, True), (2, True), (3, False)]


def test_items_go_back_to_their_places_among_others(rig: Rig) -> None:
    q = rig.make(Queue)
    q.put_many([1, 2, 3, 4, 5])
    some = granted(rig, q, 1, "get_many", 2)
    q.get()
    other = granted(rig, q, 2)
    q.put(6)
    assert other.take_back()
    assert some.take_back()
    assert deliveries(q) == [(1, True), (2, True), (4, True), (5, False), (6, False)]


def test_what_a_session_did_not_confirm_passes_on_when_it_ends(rig: Rig) -> None:
    q = rig.make(Queue)
    q.put(1)
    granted(rig, q, 1)
    with rig.as_(2):
        waiting = q.get_delivery()
    assert not waiting.done
    rig.end(1)
    assert waiting.result() == (1, True)


def test_what_was_confirmed_does_not_come_back(rig: Rig) -> None:
    q = rig.make(Queue)
    q.put(1)
    with rig.as_(1):
        assert q.get() == 1
    rig.end(1)
    assert q.empty()


def test_no_item_passes_from_one_call_of_an_ending_session_to_another(rig: Rig) -> None:
    q = rig.make(Queue)
    q.put(1)
    granted(rig, q, 1)
    with rig.as_(1):
        parked = [q.get_delivery(), q.get_delivery()]
    rig.end(1)
    assert not any(one.done for one in parked)
    assert deliveries(q) == [(1, True)]


def test_an_item_comes_back_to_a_full_queue(rig: Rig) -> None:
    q = rig.make(Queue, 1)
    q.put(1)
    one = granted(rig, q, 1)
    q.put(2)
    assert one.take_back()
    assert q.qsize() == 2
    with pytest.raises(Full):
        q.put(3, False)
    assert deliveries(q) == [(1, True), (2, False)]


def test_a_task_that_waits_to_put_has_its_turn_when_an_item_is_taken(rig: Rig) -> None:
    q = rig.make(Queue, 1)
    q.put(1)
    with rig.as_(1):
        putting = q.put(2)
    assert not putting.done
    assert q.get() == 1
    assert putting.done
    assert deliveries(q) == [(2, False)]


def test_an_item_that_comes_back_after_an_immediate_shutdown_is_dropped(rig: Rig) -> None:
    q = rig.make(Queue)
    q.put_many([1, 2])
    one = granted(rig, q, 1)
    with rig.as_(2):
        joining = q.join()
    q.shutdown(immediate=True)
    assert not joining.done
    assert one.take_back()
    assert joining.done
    with pytest.raises(ShutDown):
        q.get(False)


def test_an_item_that_comes_back_after_a_shutdown_can_be_got(rig: Rig) -> None:
    q = rig.make(Queue)
    q.put(1)
    one = granted(rig, q, 1)
    q.shutdown()
    assert one.take_back()
    assert deliveries(q) == [(1, True)]
    with pytest.raises(ShutDown):
        q.get()


@pytest.mark.parametrize("taking", ["get", "get_many", "shutdown"])
def test_items_that_came_back_leave_nothing_when_they_are_gone(taking: str) -> None:
    rig = PureRig()
    q = rig.make(Queue)
    rig.keeps = False
    q.put_many(range(3))
    assert q.get_many(3).take_back()
    shared: Any = rig.objects[0]
    assert len(shared._redelivered) == 3
    if taking == "get":
        for _ in range(3):
            q.get()
    elif taking == "get_many":
        q.get_many(3)
    else:
        q.shutdown(immediate=True)
    assert not shared._redelivered


# A joinable queue is a queue


def test_a_joinable_queue_has_the_operations_of_a_queue() -> None:
    assert JoinableQueue.operations == Queue.operations


def test_an_item_that_comes_back_is_one_unfinished_task(rig: Rig) -> None:
    q = rig.make(JoinableQueue)
    q.put(1)
    granted(rig, q, 1)
    with rig.as_(2):
        joining = q.join()
    rig.end(1, well=False)
    assert not joining.done
    assert q.get() == 1
    q.task_done()
    assert joining.done
    with pytest.raises(ValueError, match=r"^task_done\(\) called too many times$"):
        q.task_done()
