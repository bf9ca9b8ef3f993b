"""Connections that are cut while clients count, queue, lock and wait: on unix sockets and TCP.

Blocking threads and tasks on asyncio and trio work through a proxy that cuts at any byte, by a
reset or in one direction only, stalls, and passes bytes on in pieces. None of them is told of it.
"""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from random import Random
from typing import Any

import anyio
from client.chaos import Chaos

import aiomanager.sync
from aiomanager.errors import ConnectionLost, Empty, Full
from aiomanager.protocol.address import Address
from aiomanager.server.process import PrivateServer

from .campaign import SECONDS, Report, until

__all__ = ("KEY", "connect_at_last", "connect_at_last_async", "cuts", "servers")

KEY = b"the key of the campaign of cuts"
PERMITS = 2


def servers() -> "Sequence[Callable[[], tuple[PrivateServer, bytes | None]]]":
    """Return what starts a server on a unix socket, and on TCP, with its key."""

    def unix() -> tuple[PrivateServer, None]:
        return PrivateServer(), None

    def tcp() -> tuple[PrivateServer, bytes]:
        address = Address("tcp", host="127.0.0.1", port=0)
        return PrivateServer(address, key=KEY, explicit_key=True), KEY

    return unix, tcp


def connect_at_last(url: str, key: bytes | None) -> aiomanager.sync.Manager:
    """Connect; a first connection that is cut is nothing that could be resumed."""
    while True:
        with suppress(ConnectionLost):
            return aiomanager.sync.connect(url, authkey=key)


async def connect_at_last_async(url: str, key: bytes | None) -> aiomanager.Manager:
    """Connect as `connect_at_last`."""
    while True:
        with suppress(ConnectionLost):
            return await aiomanager.connect(url, authkey=key).start()


class _Books:
    """What all workers were told."""

    def __init__(self) -> None:
        self.totals: list[int] = []
        self.guarded: list[int] = []
        self.put: list[list[int]] = []
        self.got: list[list[int]] = []
        self.claims: Counter[int] = Counter()
        self.inside = Counter[str]()
        self.problems: list[str] = []
        self.calls = Counter[str]()
        self.ended: list[str] = []
        self._mutex = threading.Lock()

    def enter(self, what: str, most: int) -> None:
        with self._mutex:
            self.inside[what] += 1
            if self.inside[what] > most:
                self.problems.append(f"{self.inside[what]} hold the {what} at once")

    def leave(self, what: str) -> None:
        with self._mutex:
            self.inside[what] -= 1


NAMES = {"counts": "dict", "q": "Queue", "lock": "Lock", "rlock": "RLock", "permits": "Semaphore"}
MADE_WITH: dict[str, tuple[Any, ...]] = {
    "counts": ({"total": 0, "guarded": 0},), "q": (20,), "permits": (PERMITS,),
}  # fmt: skip


def _work(books: _Books, it: dict[str, Any], number: int, random: Random) -> Any:
    """Do one thing: a generator that yields calls and is sent their results.

    Blocking threads and tasks run the same one.
    """
    counts, q = it["counts"], it["q"]
    what = random.choice(("count", "guard", "nest", "put", "get", "permit", "claim"))
    books.calls[what] += 1
    if what == "count":
        books.totals.append((yield counts.increment("total")))
    elif what in ("guard", "nest"):
        # Not atomic: only the lock keeps the sum right.
        lock = it["lock" if what == "guard" else "rlock"]
        key = "guarded" if what == "guard" else "nested"
        yield lock.acquire()
        if what == "nest":
            yield lock.acquire()
        books.enter(what, 1)
        value = yield counts.get(key, 0)
        yield counts.set(key, value + 1)
        books.guarded.append(what == "guard")
        books.leave(what)
        yield lock.release()
        if what == "nest":
            yield lock.release()
    elif what == "put":
        item = [number, books.calls[f"puts of {number}"]]
        books.calls[f"puts of {number}"] += 1
        try:
            yield q.put(item, timeout=random.choice((0.0, 0.002, 0.1)))
            books.put.append(item)
        except Full:
            books.calls["timeouts"] += 1
    elif what == "get":
        try:
            books.got.append((yield q.get(timeout=random.choice((0.0, 0.002, 0.1)))))
        except Empty:
            books.calls["timeouts"] += 1
    elif what == "permit":
        yield it["permits"].acquire()
        books.enter("permit", PERMITS)
        yield counts.get("total")
        books.leave("permit")
        yield it["permits"].release()
    else:
        at = random.randrange(10_000)
        if (yield counts.compare_and_set(("claim", at), aiomanager.MISSING, number)):
            books.claims[at] += 1


def _find(manager: aiomanager.sync.Manager) -> dict[str, Any]:
    """Find or make the shared objects."""
    return {
        name: getattr(manager.named, kind)(name, *MADE_WITH.get(name, ()))
        for name, kind in NAMES.items()
    }


def _blocking(
    url: str, key: bytes | None, books: _Books, over: threading.Event, seed: int, number: int
) -> None:
    try:
        with connect_at_last(url, key) as manager:
            it = _find(manager)
            random = Random(f"{seed} {number}")
            while not over.is_set():
                # A blocking call is made where the generator makes it.
                _drive(_work(books, _Faces(it), number, random))
    except Exception as error:
        books.problems.append(f"blocking worker {number}: {type(error).__name__}: {error}")
    books.ended.append(f"blocking {number}")


class _Faces(dict[str, Any]):
    """Proxies whose calls are put off until the generator has yielded them."""

    def __getitem__(self, name: str) -> Any:
        return _Later(super().__getitem__(name))


class _Later:
    def __init__(self, proxy: Any) -> None:
        self._proxy = proxy

    def __getattr__(self, name: str) -> Any:
        return lambda *given, **named: partial(getattr(self._proxy, name), *given, **named)


def _drive(steps: Any) -> None:
    try:
        call = next(steps)
        while True:
            try:
                result = call()
            except (Empty, Full) as error:
                call = steps.throw(error)
            else:
                call = steps.send(result)
    except StopIteration:
        pass


async def _drive_async(steps: Any) -> None:
    try:
        call = next(steps)
        while True:
            try:
                result = await call()
            except (Empty, Full) as error:
                call = steps.throw(error)
            else:
                call = steps.send(result)
    except StopIteration:
        pass


async def _async(
    url: str, key: bytes | None, books: _Books, over: threading.Event, seed: int, number: int
) -> None:
    try:
        async with await connect_at_last_async(url, key) as manager:
            it = {
                name: await getattr(manager.named, kind)(name, *MADE_WITH.get(name, ()))
                for name, kind in NAMES.items()
            }

            async def task(mine: int) -> None:
                random = Random(f"{seed} {mine}")
                while not over.is_set():
                    await _drive_async(_work(books, _Faces(it), mine, random))

            async with anyio.create_task_group() as group:
                for n in range(3):
                    group.start_soon(task, number + n)
    except Exception as error:
        books.problems.append(f"async worker {number}: {type(error).__name__}: {error}")
    books.ended.append(f"async {number}")


def _round(report: Report, start: Any, cut: int, seed: int) -> None:
    """Cut so many connections to one server, and see what came of it."""
    server, key = start()
    books, over = _Books(), threading.Event()
    try:
        with (
            aiomanager.sync.connect(server.address.url, authkey=key) as manager,
            Chaos(server.address, seed) as chaos,
        ):
            scheme = server.address.scheme
            given = (chaos.url, key, books, over, seed)
            threads = [
                threading.Thread(target=_blocking, args=(*given, number), daemon=True)
                for number in range(3)
            ] + [
                threading.Thread(
                    target=partial(anyio.run, _async, *given, number, backend=backend), daemon=True
                )
                for backend, number in (("asyncio", 10), ("trio", 20))
            ]
            chaos.rage()
            for thread in threads:
                thread.start()
            try:
                while chaos.cuts < cut and not books.problems:
                    # A minute in which nobody gets on is for ever.
                    enough = min(chaos.cuts + 20, cut)
                    until(lambda n=enough: chaos.cuts >= n or books.problems, "nobody gets on")  # type: ignore[misc]
            finally:
                chaos.calm()
                over.set()
            for thread in threads:
                thread.join(SECONDS)
            stuck = sum(thread.is_alive() for thread in threads)
            report.figures["stuck"] = report.figures.get("stuck", 0) + stuck
            report.expect(not stuck, f"{scheme}: {stuck} stuck; these ended: {books.ended}")
            report.violations += [f"{scheme}: {problem}" for problem in books.problems]
            report.done[f"{scheme} cuts"] += chaos.cuts
            report.done[f"{scheme} half-closed"] += chaos.half_closed
            report.done[f"{scheme} connections"] += chaos.connections
            report.done["calls"] += sum(
                count for what, count in books.calls.items() if not what.startswith("puts of")
            )
            if not stuck and not books.problems:
                _compare(report, manager, books)
    finally:
        server.stop()


def _compare(report: Report, manager: aiomanager.sync.Manager, books: _Books) -> None:
    """Compare what the server holds with what everybody was told."""
    it = _find(manager)
    counts, q = it["counts"], it["q"]
    totals = sorted(books.totals)
    wrong = len(totals) != counts["total"] or totals != list(range(1, len(totals) + 1))
    report.expect(not wrong, f"{len(totals)} increments came to {counts['total']}")
    for key, number in (
        ("guarded", sum(books.guarded)), ("nested", len(books.guarded) - sum(books.guarded)),
    ):  # fmt: skip
        found = counts.get(key, 0)
        report.expect(found == number, f"{number} guarded increments came to {found}")
    got = [*books.got, *(q.get(timeout=SECONDS) for _ in range(q.qsize()))]
    report.check_items([tuple(item) for item in books.put], [tuple(item) for item in got])
    winners = {at: wins for at, wins in books.claims.items() if wins}
    report.expect(set(winners.values()) <= {1}, "two won one claim")
    claimed = sum(isinstance(key, tuple) for key in counts)
    report.expect(claimed == len(winners), f"{claimed} claims have {len(winners)} winners")
    # What nobody has any more must be free.
    leaked = [name for name in ("lock", "rlock") if it[name].locked()]
    if it["permits"].value() != PERMITS:
        leaked.append("permits")
    until(lambda: manager.statistics()["sessions"] == 1, "sessions are left")
    found = manager.statistics()
    if found["waiting"]:
        leaked.append(f"{found['waiting']} calls wait")
    if found["objects"] != len(NAMES):
        leaked.append(f"{found['objects'] - len(NAMES)} objects")
    report.figures["leaked"] = report.figures.get("leaked", 0) + len(leaked)
    report.expect(not leaked, f"leaked: {leaked}")


def cuts(count: int, seed: int) -> Report:
    """Cut so many connections, one half of them unix sockets, the other TCP."""
    report = Report("cuts", count, seed)
    with report.watched():
        for number, start in enumerate(servers()):
            _round(report, start, (count + 1) // 2, seed + number)
    return report
