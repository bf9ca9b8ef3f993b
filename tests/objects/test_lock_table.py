"""The shared LockTable gives all keys or none, in order, and never closes a circle."""

import asyncio
import random
import threading
from dataclasses import dataclass, field
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

import aiomanager
import aiomanager.sync
from aiomanager.deadlock import PATIENCE
from aiomanager.errors import DeadlockDetected, NotOwner
from aiomanager.objects.lock_table import LockTable

from .rigs import PureRig, Rig, SessionRig
from .twins import Model, PatientTwins, Wait

sessions = st.integers(0, 2)
owners = st.integers(1, 2)
keys = st.lists(st.sampled_from("abcd"), max_size=3)
names = st.sampled_from([None, None, None, "job"])


@dataclass(eq=False)
class Has:
    """Keys that somebody has."""

    identity: Any
    session: int
    keys: list[str]
    fence: int = field(default=0)


class TableModel(Model):
    """A table of locks in the plainest words."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[Has] = []
        self.fence = 0

    def serve(self) -> None:
        taken = {key for has in self.held for key in has.keys}
        for wait in list(self.waits):
            if not taken.intersection(wait.request.keys):
                self.answer(wait, lambda wait=wait: self.take(wait.request))
            taken.update(wait.request.keys)

    def take(self, has: Has) -> int:
        self.fence += 1
        has.fence = self.fence
        self.held.append(has)
        return self.fence

    def in_front(self, wait: Wait) -> list[Any]:
        wanted = set(wait.request.keys)
        before = self.waits[: self.waits.index(wait)]
        return [has.identity for has in self.held if wanted.intersection(has.keys)] + [
            # Others may pass who leaves in time, or can release what he has.
            one.acting
            for one in before
            if one.number and wanted.intersection(one.request.keys)
        ]

    def identity_of(self, wait: Wait) -> Any:
        return wait.request.identity

    def acquire_keys(self, keys: list[str], timeout: float | None, name: str | None) -> Any:
        if not keys or (timeout is not None and timeout < 0):
            raise ValueError(keys)
        has = Has(self.acting if name is None else name, self.acting[0], list(dict.fromkeys(keys)))

        def too_late() -> None:
            raise TimeoutError

        parked = self.park("keys", timeout, too_late, has)
        wait = self.waits[-1]
        self.serve()
        if timeout == 0 and not parked.done:
            self.answer(wait, too_late)
        return parked

    def release_keys(self, keys: list[str], name: str | None) -> None:
        identity = self.acting if name is None else name
        found = [next((has for has in self.held if key in has.keys), None) for key in keys]
        if any(has is None or has.identity != identity for has in found):
            raise RuntimeError("not held by the caller")
        for has in self.held:
            has.keys = [key for key in has.keys if key not in keys]
        self.held = [has for has in self.held if has.keys]
        self.serve()

    def late(self, wait: Wait) -> None:
        super().late(wait)
        self.serve()

    def end(self, session: int, *, well: bool = True) -> None:
        super().end(session, well=well)
        self.serve()
        # The fences of those who come next depend on the order in which it is given back.
        for has in [has for has in reversed(self.held) if has.session == session]:
            self.held.remove(has)
            self.serve()


class TableMachine(RuleBasedStateMachine):
    @initialize()
    def make(self) -> None:
        self.twins = PatientTwins(LockTable, TableModel())

    @invariant()
    def same(self) -> None:
        self.twins.compare()
        self.twins.check("waiting", lambda m: len(m.waits))
        self.twins.check(
            lambda p: sorted(p.holders()), lambda m: sorted(k for h in m.held for k in h.keys)
        )
        lines = self.twins.rigs[0].objects[0]._lines
        model = self.twins.model
        wanted = {key for wait in model.waits for key in wait.request.keys}
        assert set(lines) == wanted | {key for has in model.held for key in has.keys}

    @rule(
        session=sessions,
        owner=owners,
        keys=keys,
        timeout=st.sampled_from([None, None, None, 0, 1.25, 2.75, -1]),
        name=names,
    )
    def acquire(self, session: int, owner: int, keys: Any, timeout: Any, name: Any) -> None:
        self.twins.act(session, owner, "acquire_keys", TableModel.acquire_keys, keys, timeout, name)

    @rule(session=sessions, owner=owners, keys=keys, name=names)
    def release(self, session: int, owner: int, keys: Any, name: Any) -> None:
        self.twins.act(session, owner, "release_keys", TableModel.release_keys, keys, name)

    @precondition(lambda self: self.twins.model.held)
    @rule(position=st.integers(0, 5), some=st.booleans())
    def release_as_holder(self, position: int, some: bool) -> None:
        held = self.twins.model.held
        has = held[position % len(held)]
        named = isinstance(has.identity, str)
        owner, name = (1, has.identity) if named else (has.identity[1], None)
        keys = has.keys[:1] if some else list(has.keys)
        self.twins.act(has.session, owner, "release_keys", TableModel.release_keys, keys, name)

    @rule(seconds=st.sampled_from([0.5, 1, 2]))
    def advance(self, seconds: float) -> None:
        self.twins.advance(seconds)

    @precondition(lambda self: self.twins.waiting)
    @rule(position=st.integers(0, 9))
    def cancel(self, position: int) -> None:
        self.twins.cancel(position)

    @rule(session=sessions, well=st.booleans())
    def end(self, session: int, well: bool) -> None:
        self.twins.end(session, well=well)


TestTable = TableMachine.TestCase
TestTable.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


@pytest.fixture(params=[PureRig, SessionRig])
def rig(request: pytest.FixtureRequest) -> Rig:
    return request.param()  # type: ignore[no-any-return]


def test_a_session_that_ends_gives_its_keys_to_the_next(rig: Rig) -> None:
    table = rig.make(LockTable)
    with rig.as_(1):
        assert table.acquire("a", "b")
    with rig.as_(2):
        both, one = table.acquire_keys(["b", "a"]), table.acquire_keys(["c"])
    assert not both.done
    assert one == 2
    rig.end(1, well=False)
    assert both.result() == 3
    rig.end(2, well=False)
    assert table.holders() == {}


def test_a_cancelled_claim_lets_the_next_have_its_keys(rig: Rig) -> None:
    table = rig.make(LockTable)
    rig.keeps = False
    first = table.acquire_keys(["a", "b"])
    with rig.as_(1):
        second = table.acquire_keys(["b", "c"])
    with rig.as_(2):
        third = table.acquire_keys(["c"])
    assert (second.done, third.done) == (False, False)
    assert second.take_back()
    assert third.result() == 2
    assert first.take_back()
    assert [*table.holders()] == ["c"]


def test_who_has_no_connection_lets_others_pass_and_is_next_when_back() -> None:
    rig = PureRig()
    table = rig.make(LockTable)
    with rig.as_(0):
        table.acquire("a", "b")
    with rig.as_(1):
        first = table.acquire_keys(["a", "b"])
    with rig.as_(2, 1):
        second = table.acquire_keys(["a"])
    with rig.as_(2, 2):
        third = table.acquire_keys(["b"])
    away = rig.parked[1][1]
    away.suspend()
    table.release("a")
    assert second.done
    away.resume()
    table.release("b")
    assert not third.done
    with rig.as_(2, 1):
        table.release("a")
    assert first.done
    assert not third.done
    with rig.as_(1):
        table.release("a", "b")
    assert third.done


def test_who_has_no_connection_makes_no_way_for_himself() -> None:
    rig = SessionRig()
    table = rig.make(LockTable)
    with rig.as_(0):
        table.acquire("b")
    with rig.as_(1, 1):
        both = table.acquire_keys(["a", "b"])
    with rig.as_(1, 2):
        one = table.acquire_keys(["a"])
    rig.servers[1].detach()
    assert not rig.store.entries[table._reference.object_id].object.locked("a")
    rig.servers[1].attach(rig.ways[1].append, lambda: None, rig.clients[1].stream.received)
    rig.pump()
    assert (both.done, one.done) == (False, False)
    with rig.as_(0):
        table.release("b")
    assert both.done
    assert not one.done


def test_what_would_close_a_circle_is_refused(rig: Rig) -> None:
    table = rig.make(LockTable)
    with rig.as_(1):
        table.acquire("a")
    with rig.as_(2):
        table.acquire("b")
        waiting = table.acquire_keys(["a"])
    with rig.as_(1):
        closing = table.acquire_keys(["b"])
    rig.clock.advance(PATIENCE)
    rig.pump()
    with pytest.raises(DeadlockDetected, match=r"key 1 of 1 of LockTable \d+, which session 2"):
        closing.result()
    with rig.as_(1):
        again = table.acquire_keys(["a"])
    rig.clock.advance(PATIENCE)
    rig.pump()
    with pytest.raises(DeadlockDetected):
        again.result()
    with rig.as_(1):
        assert not table.acquire("b", timeout=0)
        table.release("a")
    assert waiting.done


def test_errors_name_the_holder(rig: Rig) -> None:
    table = rig.make(LockTable)
    with rig.as_(1, 7):
        table.acquire("a")
    rig.clock.advance(2)
    with pytest.raises(NotOwner, match=r"session 1, task or thread 7 since 2\.000 s"):
        table.release("a")
    with pytest.raises(TimeoutError, match=r"key 2 of 2 is held by session 1, task or thread 7"):
        table.acquire_keys(["b", "a"], 0)
    assert not table.locked("b")


def test_a_hundred_thousand_keys_leave_nothing() -> None:
    rig = PureRig()
    table = rig.make(LockTable)
    for number in range(0, 100_000, 100):
        keys = list(range(number, number + 100))
        table.acquire(*keys)
        table.release(*keys)
    shared = rig.objects[0]
    assert (shared._lines, len(rig.deadlocks), rig.holders[0]._held) == ({}, 0, {})  # type: ignore[attr-defined]


def test_blocking_and_async_users_exclude_each_other() -> None:
    busy: set[int] = set()

    def enter(keys: list[int]) -> None:
        assert not busy.intersection(keys)
        busy.update(keys)

    async def main(url: str) -> None:
        async with aiomanager.connect(url) as manager:
            table = await manager.named.LockTable("table")

            async def use(seed: int) -> None:
                chance = random.Random(seed)
                for _ in range(20):
                    keys = chance.sample(range(5), chance.randint(1, 3))
                    async with table(*keys, timeout=60):
                        enter(keys)
                        await asyncio.sleep(0)
                        busy.difference_update(keys)

            await asyncio.gather(*map(use, range(10)))

    with aiomanager.sync.Manager() as manager:
        table = manager.named.LockTable("table")
        faults: list[BaseException] = []

        def use(seed: int) -> None:
            chance = random.Random(seed)
            try:
                for _ in range(100):
                    keys = chance.sample(range(5), chance.randint(1, 3))
                    with table(*keys, timeout=60) as held:
                        assert held.fence
                        enter(keys)
                        busy.difference_update(keys)
            except BaseException as error:
                faults.append(error)

        threads = [threading.Thread(target=use, args=(seed,), daemon=True) for seed in range(3)]
        for thread in threads:
            thread.start()
        asyncio.run(main(manager.url))
        for thread in threads:
            thread.join(60)
        assert faults == []
        assert table.acquire(*range(5), timeout=30)
        assert len(table.holders()) == 5
