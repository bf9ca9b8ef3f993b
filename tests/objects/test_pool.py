"""The shared Pool gives each part of a job to one worker at a time, whoever dies meanwhile."""

from random import Random
from typing import Any

import pytest

from aiomanager.errors import Denied, NameConflict, ResultTimeout, WorkerLost
from aiomanager.objects.jobs import Job, Results
from aiomanager.objects.pool import Pool
from aiomanager.sessions.store import Store

from .rigs import NoProcess, NoProcesses, Parked, PureRig, Rig, SessionRig

RIGS = [PureRig, SessionRig]
on_both = pytest.mark.parametrize("kind", RIGS)
WORKERS = (1, 2)
"""The sessions of workers; 0 is the client's."""


class Processes(NoProcesses):
    """Counts what was started, and ends it on demand."""

    processors = 3

    def __init__(self) -> None:
        self.started: dict[int, NoProcess] = {}
        self.flush: Any = lambda: None

    def start(self, pool_id: int, number: int, on_end: Any, /) -> NoProcess:
        def end(how: str, killed: bool) -> None:
            if self.started.pop(number, None) is not None:
                on_end(how, killed)
                self.flush()

        self.started[number] = NoProcess(end)
        return self.started[number]


def rig_of(kind: Any) -> tuple[Any, Processes]:
    rig = kind()
    launcher = Processes()
    if isinstance(rig, SessionRig):
        rig.store.launcher = launcher
        launcher.flush = rig.core.flush
    else:
        rig.launcher = launcher
    return rig, launcher


def value(made: Any) -> Any:
    return made.result() if isinstance(made, Parked) else made


class Worker:
    """A worker of a pool, played by hand."""

    def __init__(self, rig: Rig, pool: Any, session: int, number: int = 1) -> None:
        self.rig, self.pool, self.session, self.number = rig, pool, session, number
        self.waiting: Parked | None = None
        self.task: Any = None

    def ask(self) -> None:
        """Ask for a task, unless that was done; take it if it is there."""
        if self.waiting is None and self.task is None:
            with self.rig.as_(self.session):
                made = self.pool.take(self.number)
            if isinstance(made, Parked):
                self.waiting = made
            else:
                self.task = made
        self.look()

    def look(self) -> None:
        """See whether a task has come."""
        if self.waiting is not None and self.waiting.done:
            self.task, self.waiting = self.waiting.result(), None

    def finish(self, result: Any, *, well: bool = True) -> None:
        """Report the task."""
        with self.rig.as_(self.session):
            self.pool.finish(self.task[0], well, result)
        self.task = None

    def die(self) -> None:
        """Die, and be another one."""
        self.rig.end(self.session, well=False)
        self.waiting = self.task = None


@on_both
def test_parts_come_in_order_and_results_together(kind: Any) -> None:
    rig, _ = rig_of(kind)
    pool = rig.make(Pool, 1)
    job = pool.submit("each", "double", [[1, 2], [3]])
    worker = Worker(rig, pool, 1)
    for _ in range(2):
        worker.ask()
        _, what, function, (items,) = worker.task
        assert (what, function) == ("each", "double")
        assert not job.ready()
        worker.finish([2 * item for item in items])
    assert job.ready()
    assert job.successful()
    assert job.get() == [2, 4, 6]
    assert job.get(timeout=0) == [2, 4, 6]
    assert pool.statistics()["completed"] == 2


@on_both
def test_a_job_ends_with_its_first_exception_when_all_is_done(kind: Any) -> None:
    rig, _ = rig_of(kind)
    pool = rig.make(Pool, 2)
    job = pool.submit("call", "f", [((), {}), ((), {}), ((), {})])
    one, two = Worker(rig, pool, 1), Worker(rig, pool, 2)
    one.ask()
    two.ask()
    two.finish(KeyError("first"), well=False)
    one.finish(KeyError("second"), well=False)
    assert not job.ready()
    one.ask()
    one.finish("well")
    assert job.ready()
    assert not job.successful()
    with pytest.raises(KeyError, match="first"):
        job.get()
    with pytest.raises(KeyError, match="first"):
        job.get()


@on_both
def test_a_dead_workers_task_comes_first_again(kind: Any) -> None:
    rig, _ = rig_of(kind)
    pool = rig.make(Pool, 1)
    job = pool.submit("each", "f", [["a"], ["b"], ["c"]])
    one, two = Worker(rig, pool, 1), Worker(rig, pool, 2)
    one.ask()
    two.ask()
    assert (one.task[3], two.task[3]) == ([["a"]], [["b"]])
    two.die()
    one.die()
    for expected in "abc":
        two.ask()
        assert two.task[3] == [[expected]]
        two.finish([expected.upper()])
    assert job.get() == ["A", "B", "C"]


@on_both
def test_what_a_dead_worker_says_is_not_heard(kind: Any) -> None:
    rig, _ = rig_of(kind)
    pool = rig.make(Pool, 1)
    job = pool.submit("call", "f", [((), {})])
    one, two = Worker(rig, pool, 1), Worker(rig, pool, 2)
    one.ask()
    late = one.task[0]
    one.die()
    two.ask()
    with rig.as_(1):
        pool.finish(late, True, "of the dead")
        pool.finish(two.task[0], True, "of somebody else")
    assert not job.ready()
    two.finish("of the living")
    assert job.get() == "of the living"


@on_both
def test_a_task_that_kills_its_workers_is_given_up(kind: Any) -> None:
    rig, _ = rig_of(kind)
    pool = rig.make(Pool, 1)
    job = pool.submit("call", "deadly", [((), {})], True, None, "error callback")
    other = pool.submit("call", "harmless", [((), {})])
    worker = Worker(rig, pool, 1)
    for _ in range(3):
        worker.ask()
        assert worker.task[2] == "deadly"
        worker.die()
    worker.ask()
    # Its callback comes before all that is not begun.
    assert worker.task[1:3] == ("lost", "error callback")
    assert "3 workers died" in worker.task[3][0]
    worker.finish(None)
    with pytest.raises(WorkerLost, match="3 workers died"):
        job.get()
    assert not job.successful()
    worker.ask()
    assert worker.task[2] == "harmless"
    worker.finish(1)
    assert other.get() == 1


@on_both
def test_a_callback_goes_to_who_waits(kind: Any) -> None:
    """Who reports the last part may be at the end of its tasks, and never ask for another."""
    rig, _ = rig_of(kind)
    pool = rig.make(Pool, 2)
    one, two = Worker(rig, pool, 1), Worker(rig, pool, 2)
    one.ask()
    two.ask()
    job = pool.submit("call", "f", [((), {})], True, "callback")
    one.look()
    one.finish(5)
    two.look()
    assert two.task[1:4] == ("one", "callback", [5])
    two.finish(None)
    assert job.get() == 5


@on_both
def test_a_job_is_ready_when_its_callback_has_run(kind: Any) -> None:
    rig, _ = rig_of(kind)
    pool = rig.make(Pool, 1)
    worker = Worker(rig, pool, 1)
    for parts, what, values in ([[["a"]], "all", [["A"]]], [[["a"]], "one", ["wrong"]]):
        job = pool.submit("each", "f", parts, True, "callback", "error callback")
        worker.ask()
        well = what == "all"
        worker.finish(["A"] if well else "wrong", well=well)
        assert not job.ready()
        worker.ask()
        function = "callback" if well else "error callback"
        assert worker.task[1:] == (what, function, values)
        worker.die()  # it is called again
        worker.ask()
        assert worker.task[1:] == (what, function, values)
        worker.finish(None)
        assert job.ready()


@on_both
def test_waiting_has_an_end(kind: Any) -> None:
    rig, _ = rig_of(kind)
    pool = rig.make(Pool, 1)
    job = pool.submit("call", "f", [((), {})])
    late, there, ever = job.outcome(2.0), job.wait(2.0), job.wait()
    rig.clock.advance(3.0)
    rig.pump()
    with pytest.raises(ResultTimeout, match=r"within 2\.0 s"):
        late.result()
    assert there.result() is False
    worker = Worker(rig, pool, 1)
    worker.ask()
    worker.finish(5)
    assert value(ever) is True


@on_both
def test_results_in_order_and_as_they_come(kind: Any) -> None:
    rig, _ = rig_of(kind)
    pool = rig.make(Pool, 2)
    one, two = Worker(rig, pool, 1), Worker(rig, pool, 2)
    for ordered in (True, False):
        parts = [((number,), {}) for number in range(2)]
        results = pool.submit_each("call", "f", parts, True, ordered)
        one.ask()
        two.ask()
        two.finish("second")
        early = results.take(9)
        assert isinstance(early, Parked) is ordered
        one.finish(ValueError("first"), well=False)
        found = [*value(early), *([] if ordered else results.take(9))]
        codes = [(code, str(what)) for code, what in found]
        expected = [(1, "first"), (0, "second")]
        assert codes == (expected if ordered else expected[::-1])
        assert results.take(1) == []


@on_both
def test_a_result_that_did_not_arrive_comes_again(kind: Any) -> None:
    rig, _ = rig_of(kind)
    pool = rig.make(Pool, 1)
    results = pool.submit_each("call", "f", [((number,), {}) for number in range(3)], True, True)
    worker = Worker(rig, pool, 1)
    for number in range(3):
        worker.ask()
        worker.finish(number)
    rig.keeps = False
    taken = results.take(2)
    assert taken.result() == [(0, 0), (0, 1)]
    rig.pump()
    assert taken.take_back()
    rig.keeps = True
    assert results.take(9) == [(0, 0), (0, 1), (0, 2)]


@on_both
def test_an_iterable_is_read_only_so_far_ahead(kind: Any) -> None:
    rig, _ = rig_of(kind)
    pool = rig.make(Pool, 2)
    results = pool.submit_each("call", "f", [], False, True)
    room = results.room()
    assert results.feed([((number,), {}) for number in range(room)], False) == 0
    worker = Worker(rig, pool, 1)
    worker.ask()
    worker.finish("x")
    assert results.room() == 0  # nobody has taken it
    assert results.take(1) == [(0, "x")]
    assert results.room() == 1


@on_both
def test_workers_are_replaced_while_there_is_work(kind: Any) -> None:
    rig, processes = rig_of(kind)
    pool = rig.make(Pool)
    assert pool.processes() == 3  # as many as there are processors
    assert sorted(processes.started) == [1, 2, 3]
    worker = Worker(rig, pool, 1, 2)
    pool.submit("call", "f", [((), {})])
    worker.ask()
    processes.started[2].end("was ended by signal 9")
    assert sorted(processes.started) == [1, 3, 4]
    worker.die()
    pool.close()
    processes.started[1].end("ended with exit code 0")
    assert sorted(processes.started) == [3, 4, 5]
    worker.ask()
    worker.finish(1)
    worker.ask()
    assert worker.task is None
    assert worker.waiting is None
    joining = pool.join()
    for number in (3, 4, 5):
        assert not joining.done
        processes.started[number].end("ended with exit code 0")
        rig.pump()
    assert joining.result() is None
    assert processes.started == {}
    assert pool.join() is None


@on_both
def test_workers_that_cannot_begin_are_not_started_for_ever(kind: Any) -> None:
    rig, processes = rig_of(kind)
    pool = rig.make(Pool, 2)
    job = pool.submit("call", "f", [((), {})])
    waiting = job.outcome()
    for _ in range(2):
        processes.started[min(processes.started)].end("ended with exit code 3")
    # One that gets as far as to ask for a task proves that it can be done.
    worker = Worker(rig, pool, 1, max(processes.started))
    worker.ask()
    worker.finish("well")
    assert value(waiting) == (True, True, ["well"])
    job = pool.submit("call", "f", [((), {})])
    for _ in range(3):
        number = max(processes.started)
        processes.started[number].end("ended with exit code 3")
        if number == worker.number:
            processes.started[max(processes.started)].end("ended with exit code 3")
    rig.pump()
    with pytest.raises(WorkerLost, match="exit code 3"):
        job.get()
    assert processes.started == {}
    with pytest.raises(WorkerLost, match="before their first task"):
        pool.submit("call", "f", [])


@on_both
def test_workers_that_are_killed_at_their_start_have_more_patience(kind: Any) -> None:
    rig, processes = rig_of(kind)
    pool = rig.make(Pool, 1)
    for turn in range(2):
        for _ in range(29):
            processes.started[max(processes.started)].end("was ended by signal 9", True)
        Worker(rig, pool, 1, max(processes.started)).ask()
        assert pool.statistics()["replaced"] == 29 * (turn + 1) + turn
        processes.started[max(processes.started)].end("was ended by signal 9", True)
    for _ in range(30):
        assert processes.started
        processes.started[max(processes.started)].end("was ended by signal 9", True)
    assert not processes.started
    with pytest.raises(WorkerLost, match="30 workers in a row"):
        pool.submit("call", "f", [])


@on_both
def test_an_unfit_worker_ends_the_pool(kind: Any) -> None:
    rig, processes = rig_of(kind)
    pool = rig.make(Pool, 2)
    job = pool.submit("call", "f", [((), {})])
    results = pool.submit_each("call", "f", [((), {})], False, True)
    pool.unfit(99, "it is no worker of this pool")
    assert not job.ready()
    pool.unfit(1, "the initializer raised")
    for call in (job.get, lambda: results.take(1), lambda: results.feed([], True)):
        with pytest.raises(WorkerLost, match="the initializer raised"):
            call()
    with pytest.raises(WorkerLost, match="the initializer raised"):
        pool.submit("call", "f", [])
    assert processes.started == {}
    assert pool.join() is None


@on_both
def test_terminate_ends_everything(kind: Any) -> None:
    rig, processes = rig_of(kind)
    pool = rig.make(Pool, 2)
    done = pool.submit("call", "f", [((), {})])
    job = pool.submit("call", "f", [((), {})] * 3)
    one, two = Worker(rig, pool, 1), Worker(rig, pool, 2)
    one.ask()
    one.finish("before")
    one.ask()
    with rig.as_(0):
        waiting = job.outcome()
    pool.terminate()
    rig.pump()
    with pytest.raises(WorkerLost, match="terminated"):
        waiting.result()
    assert done.get() == "before"
    assert processes.started == {}
    one.finish("late")
    two.ask()
    assert two.task is None
    assert pool.join() is None
    assert pool.statistics()["queued"] == pool.statistics()["running"] == 0


def test_a_pool_needs_a_launcher() -> None:
    with pytest.raises(Denied, match="unix socket"):
        Store([Pool]).make("Pool", [2])


def test_nobody_makes_a_job_without_a_pool() -> None:
    for kind in (Job, Results):
        with pytest.raises(TypeError, match="made by"):
            SessionRig().make(kind, None)


def test_a_named_pool_has_one_size() -> None:
    store = Store([Pool])
    store.launcher = Processes()
    assert store.named("Pool", "p", [2]) is store.named("Pool", "p", [None])
    with pytest.raises(NameConflict, match="has 2 processes, not 3"):
        store.named("Pool", "p", [3])


def test_a_pool_lives_as_long_as_it_has_work() -> None:
    rig, processes = rig_of(SessionRig)
    pool = rig.make(Pool, 1)
    job = pool.submit("call", "f", [((), {})])
    number = pool._reference.object_id
    worker = Worker(rig, pool, 1)
    worker.ask()
    client = rig.servers[0].client
    rig.store.let_go(client, number)
    assert number in rig.store.entries
    assert processes.started
    worker.finish("done")
    assert number not in rig.store.entries
    assert processes.started == {}
    assert job.get() == "done"


def test_results_that_nobody_refers_to_are_dropped() -> None:
    rig, _ = rig_of(SessionRig)
    pool = rig.make(Pool, 1)
    before = rig.store.count()["objects"]
    client = rig.servers[0].client
    for whole in (True, False):
        job = pool.submit("call", "f", [((), {})], whole)
        results = pool.submit_each("call", "f", [((), {})], whole, True)
        for proxy in (job, results):
            rig.store.let_go(client, proxy._reference.object_id)
    assert rig.store.count()["objects"] == before
    # What was whole is done all the same; the rest is forgotten.
    assert pool.statistics()["jobs"] == pool.statistics()["queued"] == 2
    worker = Worker(rig, pool, 1)
    for _ in range(2):
        worker.ask()
        worker.finish("for nobody")
    assert pool.statistics()["jobs"] == 0
    pool.close()
    worker.ask()
    assert worker.task is None


@on_both
@pytest.mark.parametrize("seed", range(60))
def test_whoever_dies_every_part_is_done_once(kind: Any, seed: int) -> None:
    """Workers ask, finish and die in any order; no result is lost, doubled or of another part."""
    random = Random(seed)
    rig, _ = rig_of(kind)
    pool = rig.make(Pool, 2)
    workers = [Worker(rig, pool, session) for session in WORKERS]
    jobs: list[tuple[Any, list[str], bool]] = []
    streams: list[tuple[Any, list[str], list[str], bool]] = []
    deaths: dict[str, int] = {}

    def work(worker: Worker) -> None:
        for one in workers:
            one.look()
        action = random.random()
        if worker.task is None:
            if action < 0.15:
                worker.die()
            else:
                worker.ask()
            return
        (name,) = worker.task[3][0]
        if action < 0.3 and deaths.get(name, 0) < 2:
            deaths[name] = deaths.get(name, 0) + 1
            worker.die()
        else:
            worker.finish([f"{name} done"])

    for step in range(120):
        action = random.random()
        if action < 0.1 and step < 80:
            names = [f"{step}.{number}" for number in range(random.randrange(4))]
            job = pool.submit("each", "f", [[name] for name in names])
            jobs.append((job, names, False))
        elif action < 0.15 and step < 80:
            names = [f"{step}.{number}" for number in range(random.randrange(1, 5))]
            ordered = random.random() < 0.5
            results = pool.submit_each("each", "f", [[name] for name in names], True, ordered)
            streams.append((results, names, [], ordered))
        elif action < 0.25 and streams:
            results, names, found, _ = random.choice(streams)
            if len(found) < len(names):
                rig.keeps = random.random() < 0.7
                made = results.take(2)
                if rig.keeps and not isinstance(made, Parked):
                    found += [one for _, (one,) in made]
                else:
                    rig.pump()
                    made.take_back()
                rig.keeps = True
        else:
            work(random.choice(workers))
    for _ in range(1000):
        if not pool.statistics()["jobs"]:
            break
        work(random.choice(workers))
    for job, names, _ in jobs:
        assert job.get() == [f"{name} done" for name in names]
    for results, names, found, ordered in streams:
        while made := results.take(3):
            found += [one for _, (one,) in made]
        expected = [f"{name} done" for name in names]
        assert (found if ordered else sorted(found)) == (expected if ordered else sorted(expected))
    assert pool.statistics()["queued"] == pool.statistics()["running"] == 0
