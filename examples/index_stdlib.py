"""Index the standard library: worker processes fill shared objects while the parent watches.

    python examples/index_stdlib.py [--workers N] [--tests] [--limit FILES] [--report PATH]

Every source file of the running interpreter's library is a task in a shared queue. Workers take
tasks, count the identifiers of a file, and merge them into two shared dicts, one call per file and
dict: `index` (word -> numbers of the files that use it) and `counts` (word -> occurrences). Under a
shared lock they also append to one report file. Nobody reads, changes and writes back: the server
does each merge in one step.

In the end the parent counts a sample again, alone and without shared objects, and compares. The
exit code is 0 only if all of it agrees.
"""

import argparse
import asyncio
import keyword
import multiprocessing
import os
import re
import signal
import sys
import sysconfig
import tempfile
import time
import tokenize
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import aiomanager
from aiomanager import (
    DictProxy,
    QueueProxy,
    SyncDictProxy,
    SyncLockProxy,
    SyncQueueProxy,
    SyncValueProxy,
    ValueProxy,
)

TESTS = {"test", "tests", "idle_test"}
OTHERS = {"site-packages", "dist-packages", "__pycache__"}


@dataclass(frozen=True)
class Shared:
    """What a worker gets: blocking proxies, which pickle into any process."""

    tasks: SyncQueueProxy[tuple[int, str]]
    index: SyncDictProxy[str, list[int]]
    counts: SyncDictProxy[str, int]
    totals: SyncDictProxy[str, int]
    current: SyncValueProxy[str]
    lock: SyncLockProxy


@dataclass(frozen=True)
class Words:
    """What one source file holds."""

    counts: Counter[str]
    lines: int


def read_words(path: Path) -> Words | None:
    """Count the identifiers of a source file; None if Python cannot read it."""
    counts: Counter[str] = Counter()
    lines = 0
    try:
        with tokenize.open(path) as file:
            for token in tokenize.generate_tokens(file.readline):
                lines = token.end[0]
                if token.type == tokenize.NAME and not keyword.iskeyword(token.string):
                    counts[token.string] += 1
    except (SyntaxError, UnicodeDecodeError, tokenize.TokenError):
        return None
    return Words(counts, lines)


def library_files(root: Path, *, tests: bool) -> list[str]:
    """Return the library's source files, relative to `root`."""
    skipped = OTHERS if tests else OTHERS | TESTS
    files: list[str] = []
    for directory, names, found in os.walk(root):
        names[:] = sorted(set(names) - skipped)
        here = Path(directory).relative_to(root)
        files += [str(here / name) for name in sorted(found) if name.endswith(".py")]
    return files


# The workers


def work(shared: Shared, root: Path, report: Path) -> None:
    """Be a worker: take files from the queue until it is shut down and empty."""
    try:
        for number, name in shared.tasks:
            shared.current.set(name)
            words = read_words(root / name)
            if words is None:
                shared.totals.increment("unreadable")
            else:
                shared.index.extend_many({word: [number] for word in words.counts})
                shared.counts.increment_many(words.counts)
                shared.totals.increment_many(
                    {"files": 1, "lines": words.lines, "words": words.counts.total()}
                )
            add_to_report(shared.lock, report, name, words)
            shared.tasks.task_done()
    except aiomanager.ConnectionLost:
        sys.exit(1)  # the parent was killed, and its server ended with it: so do we


def add_to_report(lock: SyncLockProxy, report: Path, name: str, words: Words | None) -> None:
    """Append a block to the report, in two writes that only the lock keeps together."""
    summary = f"{words.lines} lines, {words.counts.total()} words" if words else "unreadable"
    with lock, report.open("a") as file:
        file.write(f"{name}: begin {lock.fence}\n")
        file.flush()
        file.write(f"  {summary}\n")
        file.write(f"{name}: end {lock.fence}\n")


@contextmanager
def crew(
    size: int, shared: Shared, root: Path, report: Path
) -> Generator[list[BaseProcess], None, None]:
    """Start workers; whatever happens, none is left when the block ends."""
    # A fresh interpreter each: forking a program that runs an event loop is asking for trouble.
    spawn = multiprocessing.get_context("spawn")
    workers: list[BaseProcess] = [
        spawn.Process(target=work, args=(shared, root, report), daemon=True) for _ in range(size)
    ]
    try:
        # Ctrl-C is for the parent, which ends them: they ignore it from their first moment.
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            for worker in workers:
                worker.start()
        finally:
            signal.signal(signal.SIGINT, previous)
        yield workers
    finally:
        for worker in workers:
            if worker.pid is not None:
                worker.terminate()
                worker.join()


# The parent


class WorkerFailed(Exception):
    """A worker process ended before its work was done."""


async def show_progress(
    totals: DictProxy[str, int], current: ValueProxy[str], workers: list[BaseProcess], files: int
) -> None:
    """Show how far the workers are, for ever; raise WorkerFailed when one has failed."""
    live = sys.stderr.isatty()
    begin = time.monotonic()
    while True:
        await asyncio.sleep(0.2 if live else 1.0)
        if any(worker.exitcode for worker in workers):
            raise WorkerFailed("a worker process failed")
        now, name = await asyncio.gather(totals.copy(), current.get())
        rate = now["files"] / (time.monotonic() - begin)
        line = f"{now['files']}/{files} files, {rate:.0f}/s, {now['words']} words, {name}"
        print(f"\r{line:.78}\x1b[K" if live else line, end="" if live else "\n", file=sys.stderr)


@dataclass(frozen=True)
class Result:
    """What the shared objects hold in the end."""

    index: dict[str, list[int]]
    counts: dict[str, int]
    totals: dict[str, int]


async def build(files: Sequence[str], root: Path, report: Path, workers: int) -> Result:
    """Index `files` with worker processes."""
    async with aiomanager.Manager() as manager:
        tasks: QueueProxy[tuple[int, str]] = await manager.Queue()
        index: DictProxy[str, list[int]] = await manager.dict()
        counts: DictProxy[str, int] = await manager.dict()
        totals = await manager.dict({"files": 0, "lines": 0, "words": 0, "unreadable": 0})
        current = await manager.Value("u", "")
        lock = await manager.Lock()
        shared = Shared(tasks.sync, index.sync, counts.sync, totals.sync, current.sync, lock.sync)

        await tasks.put_many(enumerate(files))
        await tasks.shutdown()  # no more will come: a worker that finds it empty is done
        with crew(workers, shared, root, report) as processes:
            progress = asyncio.create_task(show_progress(totals, current, processes, len(files)))
            all_done = asyncio.create_task(tasks.join())
            try:
                done, _ = await asyncio.wait(
                    {progress, all_done}, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    task.result()  # raises what went wrong
            finally:
                progress.cancel()
                all_done.cancel()
                if sys.stderr.isatty():
                    print("\r\x1b[K", end="", file=sys.stderr)
            for process in processes:
                await asyncio.to_thread(process.join)
        return Result(await index.copy(), await counts.copy(), await totals.copy())


# The check


def check_report(report: Path, files: set[str]) -> list[str]:
    """Return what is wrong with the report: its blocks must be whole, and in the lock's order."""
    block = re.compile(r"(.+): begin (\d+)\n  [^\n]+\n(.+): end (\d+)\n")
    text = report.read_text() if report.exists() else ""
    blocks = list(block.finditer(text))
    fences = [int(found[2]) for found in blocks]
    faults: list[str] = []
    if sum(len(found[0]) for found in blocks) != len(text):
        faults.append("the report has blocks that other workers wrote into")
    if any(found[1] != found[3] or found[2] != found[4] for found in blocks):
        faults.append("the report has a block with two owners")
    if fences != sorted(set(fences)):
        faults.append("the fences in the report do not rise")
    if len(blocks) != len(files) or {found[1] for found in blocks} != files:
        faults.append(f"the report has {len(blocks)} blocks, and not one for each file")
    return faults


def check_sample(result: Result, files: Sequence[str], root: Path) -> tuple[list[str], int, int]:
    """Count a sample again, in this process alone; return what differs, and the sample's size."""
    index, counts = result.index, result.counts
    faults: list[str] = []
    sample = set(range(0, len(files), max(1, len(files) // 25)))
    rare = sorted(word for word, found in index.items() if len(found) <= 4)
    words = rare[:: max(1, len(rare) // 15)]
    # Whoever uses one of the words has it somewhere in the text: no other file needs a recount.
    texts = ((number, (root / name).read_bytes()) for number, name in enumerate(files))
    needles = [word.encode() for word in words]
    users = {number for number, text in texts if any(needle in text for needle in needles)}
    recount = {number: read_words(root / files[number]) for number in sample | users}

    indexed: dict[int, set[str]] = {number: set() for number in sample}
    for word, numbers in index.items():
        for number in numbers:
            if number in indexed:
                indexed[number].add(word)
    for number in sorted(sample):
        again = recount[number]
        if indexed[number] != set(again.counts if again else ()):
            faults.append(f"the words of {files[number]} differ")
    for word in words:
        found = {
            n: w.counts[word] for n, w in recount.items() if w is not None and word in w.counts
        }
        if sorted(index[word]) != sorted(found) or counts[word] != sum(found.values()):
            faults.append(f"the files of {word!r} differ")
    return faults, len(sample), len(words)


def check(result: Result, files: Sequence[str], root: Path, report: Path) -> tuple[list[str], str]:
    """Return what is wrong with the result, and what was compared."""
    index, counts, totals = result.index, result.counts, result.totals
    faults, sampled, words = check_sample(result, files, root)
    if totals["files"] + totals["unreadable"] != len(files):
        faults.append(f"{len(files)} files, but {totals['files']} indexed")
    if sum(counts.values()) != totals["words"] or counts.keys() != index.keys():
        faults.append("the counts of the words do not add up")
    if any(len(set(numbers)) != len(numbers) for numbers in index.values()):
        faults.append("a file was indexed twice")
    faults += check_report(report, set(files))
    return faults, f"{sampled} files and {words} words counted again, and the report"


def show(result: Result, files: Sequence[str], seconds: float, workers: int) -> None:
    """Print the result."""
    index, counts, totals = result.index, result.counts, result.totals
    print(
        f"{totals['files']} files, {totals['lines']} lines, {totals['words']} words, "
        f"{len(index)} of them distinct"
    )
    if totals["unreadable"]:
        print(f"{totals['unreadable']} files are no valid source and were left out")
    print("the 10 most frequent identifiers:")
    for word, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:10]:
        print(f"{count:9}  {word} (in {len(index[word])} files)")
    word = max(index, key=lambda word: (len(word), word))
    print(f"the longest: {word}, in {', '.join(files[n] for n in sorted(index[word])[:3])}")
    print(f"indexed in {seconds:.1f} s by {workers} worker processes")


def main() -> int:
    parser = argparse.ArgumentParser(description="Index the standard library in shared objects.")
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1))
    parser.add_argument("--tests", action="store_true", help="index the library's tests too")
    parser.add_argument("--limit", type=int, help="index so many files only")
    parser.add_argument("--report", type=Path, help="keep the workers' report at this new file")
    options = parser.parse_args()
    if options.workers < 1:
        parser.error("--workers must be at least 1")
    if options.report is not None and options.report.exists():
        parser.error(f"{options.report} exists already")

    root = Path(sysconfig.get_path("stdlib"))
    files = library_files(root, tests=options.tests)[: options.limit]
    if not files:
        print(f"there are no source files in {root}", file=sys.stderr)
        return 1
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="index-stdlib-") as directory:
        report = (options.report or Path(directory, "report.txt")).absolute()
        try:
            result = asyncio.run(build(files, root, report, options.workers))
        except KeyboardInterrupt:
            print("\ninterrupted: the workers and the server are stopped", file=sys.stderr)
            return 130
        except WorkerFailed as error:
            print(f"{error}: the other workers and the server are stopped", file=sys.stderr)
            return 1
        seconds = time.monotonic() - begin
        show(result, files, seconds, options.workers)
        faults, compared = check(result, files, root, report)
    for fault in faults:
        print(f"check: {fault}", file=sys.stderr)
    print(f"check: {'FAILED' if faults else 'ok'} ({compared})")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
