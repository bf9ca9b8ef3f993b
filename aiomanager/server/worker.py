"""The worker program of a pool: a blocking client that takes tasks and carries them out.

It ends with the server, however that ends, and ignores Ctrl-C: that is for the program.
"""

import contextlib
import os
import pickle
import select
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing import process as _process
from multiprocessing import spawn as _spawn
from multiprocessing.pool import ExceptionWithTraceback, MaybeEncodingError  # type: ignore[attr-defined]  # pyright: ignore
from types import TracebackType
from typing import Any, Final, cast

from aiomanager.client._blocking import BlockingChannel
from aiomanager.client._channel import Endpoint, remember_channel
from aiomanager.errors import ConnectionLost, ObjectGone, WorkerLost
from aiomanager.objects.jobs import ALL, CALL, EACH, EACH_STAR, LOST
from aiomanager.objects.pool import Pool, SyncPoolProxy
from aiomanager.protocol.address import parse_address
from aiomanager.server.process import load_types

__all__ = ("end_with", "main", "work")

TOLD: Final = 3000
"""Characters of a traceback that a pool gives as the reason why it cannot work."""
_PR_SET_PDEATHSIG: Final = 1


def main(config: dict[str, Any]) -> None:
    """Be a worker in a fresh interpreter, as `config` says."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with(config["parent"])
    key = config["key"]
    endpoint = Endpoint(
        parse_address(config["address"]), None if key is None else bytes.fromhex(key), True
    )
    channel = BlockingChannel(endpoint)
    for kind in load_types(config["types"]):
        channel.types[kind.type_name] = kind
    sys.exit(work(channel, config["pool"], config["number"], fresh=True))


def end_with(parent: int) -> None:
    """Have this process killed when the server's process `parent` ends."""
    if os.getppid() == parent:
        with contextlib.suppress(OSError, AttributeError, ImportError):
            import ctypes

            if ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0:
                if os.getppid() != parent:  # it ended before it could be watched
                    os._exit(1)
                return
    import threading

    try:
        pidfd = os.pidfd_open(parent)
    except OSError:
        os._exit(1)

    def watch() -> None:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.poll()
        os._exit(1)

    threading.Thread(target=watch, name="watches the server", daemon=True).start()


def work(channel: BlockingChannel, pool_id: int, number: int, *, fresh: bool) -> int:
    """Carry out the tasks of a pool until there are no more; return the exit code.

    A `fresh` interpreter is made like the program that made the pool first.
    """
    remember_channel(channel)
    channel.leave_packed(Pool.enlist)
    channel.leave_packed(Pool.take)
    try:
        channel.open()
        # Not counted by the server, since a pool that nobody else refers to is to end.
        pool = SyncPoolProxy(channel, channel.counted(pool_id))
        try:
            limit = _begin(channel, pool, number, fresh=fresh)
        except (ConnectionLost, ObjectGone):
            raise
        except BaseException:
            pool.unfit(number, traceback.format_exc()[-TOLD:])
            return 1
        done = 0
        while limit is None or done < limit:
            assignment: Any = pool.take(number)
            if assignment is None:
                break
            _carry_out(channel, pool, *assignment)
            done += 1
            del assignment
    except (ConnectionLost, ObjectGone):
        pass  # the server has ended, or the pool
    return 0


def _begin(
    channel: BlockingChannel, pool: SyncPoolProxy, number: int, *, fresh: bool
) -> int | None:
    """Become like the program that made the pool; return how many tasks are to be done."""
    packed: Any = pool.enlist()
    program, initializer, limit = packed
    if fresh:
        process = _process.current_process()
        process._inheriting = True  # type: ignore[attr-defined]  # pyright: ignore
        try:
            name = f"PoolWorker-{number}"
            _spawn.prepare({"name": name, **(channel.decode_value(program) or {})})
        finally:
            del process._inheriting  # type: ignore[attr-defined]  # pyright: ignore
    start = channel.decode_value(initializer)
    if start is not None:
        function, arguments = start
        function(*arguments)
    return cast("int | None", limit)


def _carry_out(
    channel: BlockingChannel, pool: SyncPoolProxy, task: int, kind: str, function: Any, values: Any
) -> None:
    if kind in (CALL, EACH, EACH_STAR):
        well, result, leave = _outcome(channel, kind, function, values)
        _report(pool, task, well, result)
        if leave is not None:
            raise leave
        return
    try:
        opened = [channel.decode_value(value) for value in values]
        channel.decode_value(function)(_argument(kind, opened))
    except Exception:
        # There is nobody else to be told.
        print("a callback of a pool failed:", file=sys.stderr)
        traceback.print_exc()
    finally:
        pool.finish(task, True, None)


def _argument(kind: str, values: list[Any]) -> Any:
    """Return what a callback is called with."""
    if kind == LOST:
        return WorkerLost(values[0])
    return [item for part in values for item in part] if kind == ALL else values[0]


def _outcome(
    channel: BlockingChannel, kind: str, function: Any, values: list[Any]
) -> tuple[bool, Any, BaseException | None]:
    """Call a function; return whether that went well, what came of it, and what is to be raised."""
    try:
        value = channel.decode_value(values[0])
        call: Callable[..., Any] = channel.decode_value(function)
        if kind == CALL:
            args, kwds = value
            return True, call(*args, **kwds), None
        if kind == EACH:
            return True, [call(item) for item in value], None
        return True, [call(*item) for item in value], None
    except Exception as error:
        return False, _sendable(error), None
    except BaseException as error:
        lost = WorkerLost(f"the task ended its worker by {type(error).__name__}({error})")
        return False, _with_traceback(lost, error), error


def _sendable(error: Exception) -> Any:
    """Return an exception, with its traceback, that its receiver can open."""
    wrapped = _with_traceback(error, error)
    try:
        # As multiprocessing does not: its callers wait for ever for one that cannot be opened.
        pickle.loads(pickle.dumps(wrapped))
    except Exception as why:
        return _with_traceback(_unsendable(why, error), error)
    return wrapped


def _unsendable(why: Exception, what: Any) -> Exception:
    """Return the exception of the standard library that says so."""
    return cast("Any", MaybeEncodingError)(why, what)  # type: ignore[no-any-return]


def _with_traceback(error: Exception, origin: BaseException) -> Any:
    trace = origin.__traceback__
    while trace is not None and trace.tb_next is not None and _is_here(trace):
        trace = trace.tb_next
    return cast("Any", ExceptionWithTraceback)(error, trace)


def _is_here(trace: TracebackType) -> bool:
    return trace.tb_frame.f_code.co_filename == __file__


def _report(pool: SyncPoolProxy, task: int, well: bool, result: Any) -> None:
    try:
        _finish(pool, task, well, result)
    except (ConnectionLost, ObjectGone):
        raise
    except Exception as error:
        _finish(pool, task, False, _with_traceback(_unsendable(error, result), error))


def _finish(pool: SyncPoolProxy, task: int, well: bool, result: Any) -> None:
    # Without waiting for the answer: the next task is asked for at once.
    pool._post(Pool.finish, task, well, result)  # pyright: ignore[reportPrivateUsage]
