"""A web service of several processes that share a counter, a cache, a lock and a queue of jobs.

    aiomanager run -- python examples/web_service.py [--workers N] [--port N]

    curl localhost:8000/              counts the visit
    curl localhost:8000/report        a slow answer: computed by one worker, cached for all
    curl localhost:8000/jobs/new/91   a job for whichever worker is free; says its number
    curl localhost:8000/jobs/1        the job's state, and its result when it is done
    curl localhost:8000/status        what all workers together have counted

`aiomanager run` owns the shared objects, so the workers come and go: kill one of them, and another
one is started, no count is wrong, no job is lost, no lock stays locked. The HTTP is as small as it
can be; under uvicorn or gunicorn each worker would `connect()` in just the same way.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import signal
import socket
import sys
from multiprocessing.context import SpawnProcess
from typing import Any, Self

import aiomanager
from aiomanager import DictProxy, LockProxy, QueueProxy


def factors_of(number: int) -> list[int]:
    """Compute for a while."""
    found: list[int] = []
    candidate = 2
    while candidate * candidate <= number:
        while number % candidate == 0:
            found.append(candidate)
            number //= candidate
        candidate += 1
    return [*found, number] if number > 1 else found


class Service:
    """The part of one worker: answers requests, and does jobs beside them."""

    def __init__(self) -> None:
        self.counters: DictProxy[str, int]
        self.cache: DictProxy[str, Any]
        self.lock: LockProxy
        self.jobs: QueueProxy[int]
        self.numbers: DictProxy[int, int]
        self.owners: DictProxy[int, int | None]
        self.results: DictProxy[int, list[int]]

    @classmethod
    async def join(cls, manager: aiomanager.Manager) -> Self:
        """Find the shared objects by their names, or make them."""
        self = cls()
        self.counters = await manager.named.dict("counters")
        self.cache = await manager.named.dict("cache")
        self.lock = await manager.named.Lock("report")
        self.jobs = await manager.named.Queue("jobs")
        self.numbers = await manager.named.dict("numbers")  # what each job is about
        self.owners = await manager.named.dict("owners")  # the process that does it, or None
        self.results = await manager.named.dict("results")
        return self

    async def answer(self, path: str) -> Any:
        """Return what the client gets as JSON; raise KeyError for a path that is not there."""
        match path.strip("/").split("/"):
            case [""]:
                return {"visits": await self.counters.increment("visits"), "worker": os.getpid()}
            case ["report"]:
                return {"report": await self.report()}
            case ["jobs", "new", number]:
                return {"job": await self.accept(int(number))}
            case ["jobs", job]:
                return await self.state(int(job))
            case ["status"]:
                return {**await self.counters.copy(), "jobs done": await self.results.length()}
            case _:
                raise KeyError(path)

    async def report(self) -> Any:
        """Return the cached report; the first one computes it, and all others wait for that."""
        found = await self.cache.get("report")
        if found is None:
            # Were this worker killed here, the lock would pass on to the next one.
            async with self.lock:
                found = await self.cache.get("report")
                if found is None:
                    found = await asyncio.to_thread(factors_of, 10**13 + 37)
                    await self.counters.increment("reports")
                    await self.cache.set("report", found)
        return found

    async def accept(self, number: int) -> int:
        """Note a job before anybody hears of it; return its own number."""
        job = await self.counters.increment("jobs")
        await self.numbers.set(job, number)
        await self.owners.set(job, None)
        await self.jobs.put(job)
        return job

    async def state(self, job: int) -> Any:
        """Return where a job stands; raise KeyError when there is none of this number."""
        result = await self.results.get(job)
        if result is not None:
            return {"state": "done", "result": result}
        await self.numbers.get_item(job)
        return {"state": "working" if await self.owners.get(job) else "waiting"}

    async def work(self) -> None:
        """Do one job after the other."""
        while True:
            job = await self.jobs.get()
            # One claims it, also when the job was put back and stands in the queue twice.
            if await self.owners.compare_and_set(job, None, os.getpid()):
                number = await self.numbers.get_item(job)
                await self.results.set(job, await asyncio.to_thread(factors_of, number))
                await self.owners.delete(job)

    async def hand_back(self, process: int) -> None:
        """Put back what a dead worker had claimed, or had taken out of the queue."""
        for job, owner in await self.owners.items():
            if owner in (None, process) and await self.owners.compare_and_set(job, owner, None):
                await self.jobs.put(job)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request of HTTP/1.0."""
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            path = request.split()[1].decode("ascii")
            try:
                status, body = "200 OK", await self.answer(path)
            except (KeyError, ValueError) as error:
                status, body = "404 Not Found", {"error": str(error)}
            head = f"HTTP/1.0 {status}\r\nContent-Type: application/json\r\n\r\n"
            writer.write(head.encode() + json.dumps(body).encode() + b"\n")
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client went away, or spoke no HTTP
        finally:
            writer.close()


async def serve(listening: socket.socket) -> None:
    """Be a worker until SIGTERM."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with aiomanager.connect() as manager:
        service = await Service.join(manager)
        server = await asyncio.start_server(service.handle, sock=listening)
        async with server, asyncio.TaskGroup() as tasks:
            working = tasks.create_task(service.work())
            await stopped.wait()
            working.cancel()


def be_worker(listening: socket.socket) -> None:
    """Be the main function of a worker process."""
    asyncio.run(serve(listening))


async def end_of(process: SpawnProcess) -> None:
    """Wait until a process has ended."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(process.sentinel, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(process.sentinel)


async def keep_worker(listening: socket.socket, service: Service) -> None:
    """Start a worker, and another one whenever it has ended, until this is cancelled."""
    context = multiprocessing.get_context("spawn")
    while True:
        process = context.Process(target=be_worker, args=(listening,))
        # Ctrl-C reaches all; the parent ends its workers, which ignore it from their first moment.
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            process.start()
        finally:
            signal.signal(signal.SIGINT, handler)
        assert process.pid is not None
        try:
            await end_of(process)
        finally:
            process.terminate()
            process.join()
        print(f"worker {process.pid} ended with {process.exitcode}", flush=True)
        await service.hand_back(process.pid)


async def supervise(workers: int, port: int) -> None:
    """Listen, and keep the workers running until SIGTERM or Ctrl-C."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    with socket.create_server(("127.0.0.1", port), backlog=128) as listening:
        async with aiomanager.connect() as manager, asyncio.TaskGroup() as tasks:
            service = await Service.join(manager)
            keepers = [tasks.create_task(keep_worker(listening, service)) for _ in range(workers)]
            print(f"listening on http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
            await stopped.wait()
            for keeper in keepers:
                keeper.cancel()


def main() -> int:
    parser = argparse.ArgumentParser(description="A web service of several processes.")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--port", type=int, default=8000, help="0: any that is free")
    options = parser.parse_args()
    if "AIOMANAGER_URL" not in os.environ:
        print("start it as: aiomanager run -- python examples/web_service.py", file=sys.stderr)
        return 2
    asyncio.run(supervise(options.workers, options.port))
    return 0


if __name__ == "__main__":
    sys.exit(main())
