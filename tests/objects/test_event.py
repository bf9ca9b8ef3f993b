"""The shared Event does what threading.Event does, on plain values and through a session."""

import threading
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from aiomanager.objects.event import Event

from .twins import Model, PatientTwins

sessions = st.integers(0, 2)


class EventModel(Model):
    """Python's own event, and those who wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.event = threading.Event()

    def serve(self) -> None:
        while self.event.is_set() and (waiting := self.first("wait")):
            self.answer(waiting, lambda: True)

    def set(self) -> None:
        self.event.set()
        self.serve()

    def wait(self, timeout: Any = None) -> Any:
        if self.event.is_set() or (timeout is not None and timeout <= 0):
            return self.event.wait(timeout)
        return self.park("wait", timeout, lambda: False)


class EventMachine(RuleBasedStateMachine):
    @initialize()
    def make(self) -> None:
        self.twins = PatientTwins(Event, EventModel())

    @invariant()
    def same(self) -> None:
        self.twins.compare()
        self.twins.check("is_set", lambda m: m.event.is_set())

    @rule()
    def set(self) -> None:
        self.twins.check("set", EventModel.set)

    @rule()
    def clear(self) -> None:
        self.twins.check("clear", lambda m: m.event.clear())

    @rule(session=sessions, timeout=st.sampled_from([None, None, 1, 2.5, 0, -1]))
    def wait(self, session: int, timeout: Any) -> None:
        self.twins.act(session, 1, "wait", EventModel.wait, timeout)

    @rule(session=sessions)
    def wait_for_ever(self, session: int) -> None:
        self.twins.act(session, 1, "wait", EventModel.wait)

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


TestEvent = EventMachine.TestCase
TestEvent.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
