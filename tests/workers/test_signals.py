"""A signal handler may raise in a blocking call, or make calls itself, at any moment.

AIOMANAGER_INTERRUPTS says how many interrupts each test makes; every delay comes from one seed.
"""

import asyncio
import gc
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

import aiomanager.sync

from .helpers import SECONDS, until

INTERRUPTS = int(os.environ.get("AIOMANAGER_INTERRUPTS", "300"))
NOTHING: Any = object()

pytestmark = [
    # pytest-timeout's own way is the very signal that is used here.
    pytest.mark.timeout(60 + INTERRUPTS // 10, method="thread"),
    # Who is interrupted while closing a socket leaves that to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


class Interrupt(Exception):
    """Raised by the handler."""


class Alarm:
    """Raises at random moments, while it is armed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.raises: type[BaseException] = Interrupt
        self.shots = 1
        """How often the handler raises, one time after another, until it is disarmed."""
        self.left = 0
        self.count = 0
        self.error: BaseException | None = None

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if self.left > 0:
            self.left -= 1
            self.count += 1
            raise self.raises

    def arm(self, longest: float) -> None:
        self.left = self.shots
        delay = self.random.uniform(1e-6, longest)
        # The next one comes when the first is being dealt with.
        again = self.random.uniform(2e-5, 8e-4) if self.shots > 1 else 0
        signal.setitimer(signal.ITIMER_REAL, delay, again)

    def during(self, call: Callable[[], Any], longest: float = 3e-4) -> Any:
        """Return the result of a call, or NOTHING if it was interrupted."""
        result = NOTHING
        self.error = None
        try:
            self.arm(longest)
            result = call()
            # Between the return and here nothing is called, so that no handler runs.
            self.left = 0
        except self.raises as error:
            self.left = 0
            self.error = error
        signal.setitimer(signal.ITIMER_REAL, 0)
        return result


@pytest.fixture
def alarm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Alarm]:
    # What is raised in a finalizer goes nowhere, and pytest's own hook must not be interrupted.
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: None)
    alarm = Alarm(seed=20250)
    before = signal.signal(signal.SIGALRM, alarm)
    yield alarm
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    alarm.error = None
    gc.collect()  # while nobody minds what is left to finalizers


@pytest.fixture(params=["implicit keep", "a KEEP for each item"])
def keeping(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions in which the next call keeps an item, or as they are over TCP."""
    if request.param != "implicit keep":
        monkeypatch.setattr(
            "aiomanager.client._blocking.IMPLICIT_KEEP", "a capability of no server"
        )


@pytest.fixture(params=[1, 3], ids=["once", "again and again"])
def interrupt(request: pytest.FixtureRequest, alarm: Alarm) -> Alarm:
    """An alarm that raises once in each call, or also while the first one is being dealt with."""
    alarm.shots = request.param
    alarm.raises = Interrupt if alarm.shots == 1 else KeyboardInterrupt
    return alarm


@pytest.fixture
def other(manager: aiomanager.sync.Manager) -> Iterator[aiomanager.sync.Manager]:
    """A manager with sessions of its own, as another process has them."""
    with aiomanager.sync.connect(manager.url) as other:
        yield other


@pytest.mark.usefixtures("keeping")
def test_get_loses_nothing(manager: aiomanager.sync.Manager, interrupt: Alarm) -> None:
    q, d = manager.Queue(), manager.dict()
    put = 0
    got: list[int] = []
    while interrupt.count < INTERRUPTS:
        if put == len(got):
            q.put(put)
            put += 1
        item = interrupt.during(q.get)
        if item is not NOTHING:
            got.append(item)
        # The next calls get their own answers.
        d["put"] = put
        assert d["put"] == put
        assert q.qsize() == put - len(got)
    got += [q.get(timeout=SECONDS) for _ in range(q.qsize())]
    assert got == list(range(put))


@pytest.mark.usefixtures("keeping")
def test_get_that_waits_loses_nothing(
    manager: aiomanager.sync.Manager, other: aiomanager.sync.Manager, interrupt: Alarm
) -> None:
    q = manager.named.Queue("q")
    theirs = other.named.Queue("q")
    wanted, stop = threading.Semaphore(0), threading.Event()
    put = 0

    def feed() -> None:
        # In a thread: Python runs its signal handlers in the main one.
        nonlocal put
        pause = random.Random(1)
        while wanted.acquire(timeout=SECONDS) and not stop.wait(pause.uniform(0, 2e-4)):
            theirs.put(put)
            put += 1

    feeder = threading.Thread(target=feed)
    feeder.start()
    got: list[int] = []
    asked = 0
    try:
        while interrupt.count < INTERRUPTS:
            if asked == len(got):
                wanted.release()
                asked += 1
            item = interrupt.during(q.get, 5e-4)
            if item is not NOTHING:
                got.append(item)
        until(lambda: put == asked, "the feeder stopped")
    finally:
        stop.set()
        wanted.release()
        feeder.join(SECONDS)
    got += [q.get(timeout=SECONDS) for _ in range(put - len(got))]
    assert got == list(range(put))
    assert q.empty()


def test_put_is_done_once_or_not_at_all(manager: aiomanager.sync.Manager, interrupt: Alarm) -> None:
    q = manager.Queue()
    done: list[int] = []
    number = 0
    while interrupt.count < INTERRUPTS:
        number += 1
        if interrupt.during(lambda n=number: q.put(n)) is not NOTHING:  # type: ignore[misc]
            done.append(number)
    found = q.get_many(number)
    assert found == sorted(set(found))
    assert set(done) <= set(found)
    assert q.empty()


def test_acquire_leaves_the_lock(manager: aiomanager.sync.Manager, interrupt: Alarm) -> None:
    lock = manager.Lock()
    while interrupt.count < INTERRUPTS:
        if interrupt.during(lock.acquire) is NOTHING:
            assert not lock.locked()
        else:
            lock.release()


def test_acquire_that_waits_leaves_the_lock(
    manager: aiomanager.sync.Manager, other: aiomanager.sync.Manager, interrupt: Alarm
) -> None:
    lock, theirs = manager.named.Lock("lock"), other.named.Lock("lock")
    held, released, stop = threading.Semaphore(0), threading.Semaphore(0), threading.Event()
    go = threading.Semaphore(0)

    def hold() -> None:
        pause = random.Random(2)
        while go.acquire() and not stop.is_set():
            assert theirs.acquire(timeout=SECONDS)
            held.release()
            stop.wait(pause.uniform(0, 2e-4))
            theirs.release()
            released.release()

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        while interrupt.count < INTERRUPTS:
            go.release()
            held.acquire()
            acquired = interrupt.during(lock.acquire, 4e-4)
            released.acquire()
            if acquired is NOTHING:
                assert not lock.locked()
            else:
                assert acquired is True
                lock.release()
    finally:
        stop.set()
        go.release()
        holder.join(SECONDS)


def test_changes_are_made_once_or_not_at_all(
    manager: aiomanager.sync.Manager, interrupt: Alarm
) -> None:
    d: Any = manager.dict({"n": 0, "k": 0})
    number, low, high = 0, 0, 0
    while interrupt.count < INTERRUPTS:
        number += 1
        old = d["k"]
        finished = interrupt.during(lambda n=number: d.set("k", n)) is not NOTHING  # type: ignore[misc]
        assert d["k"] in ((number,) if finished else (old, number))
        total = interrupt.during(lambda: d.increment("n"))
        high += 1
        if total is not NOTHING:
            low += 1
            assert low <= total <= high
            low = high = total
        assert low <= d["n"] <= high
        low = high = d["n"]


def test_large_values(manager: aiomanager.sync.Manager, interrupt: Alarm) -> None:
    d: Any = manager.dict()
    values = {n: bytes([n]) * (100_000 + 50_000 * n) for n in range(4)}
    d.update(values)
    while interrupt.count < INTERRUPTS // 3:
        n = interrupt.random.randrange(4)
        found = interrupt.during(lambda n=n: d[n], 1.5e-3)  # type: ignore[misc]
        assert found is NOTHING or found == values[n]
        values[n] = bytes([interrupt.random.randrange(256)]) * len(values[n])
        interrupt.during(lambda n=n: d.set(n, values[n]), 1.5e-3)  # type: ignore[misc]
        values[n] = d[n]
        assert len(values[n]) == 100_000 + 50_000 * n
        assert len(set(values[n])) == 1


def test_get_of_items_that_take_long_to_open(
    manager: aiomanager.sync.Manager, interrupt: Alarm
) -> None:
    q = manager.Queue()
    rest = [[n, str(n)] for n in range(3000)]
    put = got = 0
    while interrupt.count < INTERRUPTS // 3:
        if put == got:
            q.put([put, *rest])
            put += 1
        item = interrupt.during(q.get, 2e-3)
        if item is not NOTHING:
            assert item == [got, *rest]
            got += 1
        assert q.qsize() == put - got


def test_an_interrupt_while_another_is_dealt_with(
    manager: aiomanager.sync.Manager, alarm: Alarm
) -> None:
    """The tests above come to this point; were it never reached, they would not test it."""
    q = manager.Queue()
    alarm.shots = 3
    alarm.raises = KeyboardInterrupt
    twice = 0
    for _ in range(INTERRUPTS):
        assert alarm.during(q.get) is NOTHING
        assert alarm.error is not None
        twice += isinstance(alarm.error.__context__, KeyboardInterrupt)
        assert q.empty()
        q.put("item")
        assert q.get() == "item"
    assert twice >= INTERRUPTS // 30


def test_a_handler_that_calls(manager: aiomanager.sync.Manager) -> None:
    d: Any = manager.dict()
    # Two locks: a handler that waits for what it has interrupted waits for ever, as anywhere.
    mine, handlers, q = manager.Lock(), manager.Lock(), manager.Queue()
    totals: list[int] = []

    def handler(signum: int, frame: FrameType | None) -> None:
        # Handlers interrupt one another.
        total = d.increment("handled")
        totals.append(total)
        if handlers.acquire(False):
            q.put(total)
            handlers.release()
        else:
            q.put(total)

    before = signal.signal(signal.SIGALRM, handler)
    choose = random.Random(3)
    number = 0
    try:
        while len(totals) < INTERRUPTS:
            signal.setitimer(signal.ITIMER_REAL, choose.uniform(1e-6, 3e-4))
            number += 1
            d["k"] = number
            assert d["k"] == number
            assert d.increment("n") == number
            q.put(-number)
            with mine:
                assert d["k"] == number
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert sorted(totals) == list(range(1, len(totals) + 1))
    items = q.get_many(10 * (number + len(totals)))
    assert sorted(item for item in items if item > 0) == sorted(totals)
    assert [-item for item in items if item < 0] == list(range(1, number + 1))
    assert d["handled"] == len(totals)
    assert not mine.locked()
    assert not handlers.locked()
    # One for each depth of handlers.
    assert manager.statistics()["sessions"] <= 5


def test_a_handler_that_calls_and_raises(manager: aiomanager.sync.Manager, alarm: Alarm) -> None:
    d: Any = manager.dict({"handled": 0})
    q = manager.Queue()

    def handler(signum: int, frame: FrameType | None) -> None:
        if alarm.left:
            d.increment("handled")
        alarm(signum, frame)

    signal.signal(signal.SIGALRM, handler)
    put, got = 0, 0
    while alarm.count < INTERRUPTS:
        if put == got:
            q.put(put)
            put += 1
        item = alarm.during(q.get)
        if item is not NOTHING:
            assert item == got
            got += 1
        assert q.qsize() == put - got
    assert d["handled"] == alarm.count


def test_the_handler_sees_what_the_interrupted_call_waits_for(
    manager: aiomanager.sync.Manager,
) -> None:
    """A handler may put up the very event that the call under way waits for."""
    event = manager.Event()
    before = signal.signal(signal.SIGALRM, lambda signum, frame: event.set())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        assert event.wait(SECONDS)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_interrupts_beside_asyncio(manager: aiomanager.sync.Manager, alarm: Alarm) -> None:
    """Blocking calls of a coroutine are interrupted; the async ones beside them go on."""

    async def main() -> None:
        d: Any = manager.dict({"async": 0})
        q = manager.Queue()
        counted = 0
        stop = False

        async def count() -> None:
            nonlocal counted
            while not stop:
                counted += 1
                assert await d.aio.increment("async") == counted

        counting = [asyncio.create_task(count())]
        put = got = 0
        while alarm.count < INTERRUPTS // 3:
            if put == got:
                await q.aio.put(put)
                put += 1
            item = alarm.during(q.get)
            if item is not NOTHING:
                assert item == got
                got += 1
            assert await q.aio.qsize() == put - got
        stop = True
        await asyncio.gather(*counting)
        assert d["async"] == counted > 0

    asyncio.run(main())
