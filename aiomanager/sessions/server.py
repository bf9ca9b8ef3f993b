"""The server's end of sessions: it carries out one client's calls and answers them.

Bytes, time and ids come in through hands; answers go out through them. Every operation runs to
its end before the next begins, so each is atomic. There is no socket, clock or loop here.
"""

# receive_data() unpacks a lone call in a `try`, and looks at the parts only if that went well.
# pyright: reportPossiblyUnboundVariable=false

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol, TypeAlias, cast

from aiomanager.errors import (
    BadEncoding,
    BadParameters,
    LimitReached,
    ObjectGone,
    ProtocolError,
    SessionLost,
    SessionMoved,
    TooLarge,
    UnknownOperation,
    code_of,
)
from aiomanager.protocol._msgpack import unpack_message
from aiomanager.protocol.frames import HEADERS, MAX_FRAME, MIN_FRAME, SHORT, FrameBuffer, frame
from aiomanager.protocol.handshake import Hello
from aiomanager.protocol.keys import wire_key
from aiomanager.protocol.messages import (
    ACK,
    BYE,
    CALL,
    CALLS,
    CANCEL,
    CANCELLED,
    ERROR,
    FIRST_UNSEQUENCED,
    GOAWAY,
    HOLD,
    KEEP,
    POST,
    RELEASE,
    RESULT,
    RESULTS,
    decode,
    encode,
)
from aiomanager.protocol.stream import ACK_BYTES, ACK_FRAMES, BATCH, LIGHT, Stream
from aiomanager.sessions.plans import Plan
from aiomanager.sessions.store import Client, Store
from aiomanager.waiter import Alarm, Caller, Holder, Waiter

__all__ = ("DEFAULT_LIMITS", "Hands", "ServerCore", "ServerSession")

DEFAULT_LIMITS: Final = {
    "frame": 1 << 28,  # the largest payload
    "calls": 1024,  # messages that a client may have sent and not yet seen confirmed
    "window": 1 << 22,  # their bytes; one message may be larger
    "waits": 100_000,  # calls of one session that wait
}
_KEEP: Final = bytes((0x93, KEEP))
"""How the payload of a KEEP begins."""
_LONE_CALLS: Final = tuple(header + bytes((0x97, CALL)) for header in HEADERS)
"""How short frames with a call begin, by the size of their payload."""
OUTPUT: Final = 1 << 23
"""A session with so many bytes of unconfirmed answers executes nothing until some are confirmed.
Nor should one whose connection has so many to write: who confirms answers may not read them."""
MAX_ID: Final = 2**53 - 1
MESSAGE: Final = 4096
"""Characters of an error's message that travel."""
LINGER: Final = 60.0
"""Seconds for which a client's references outlive its last session."""

Write: TypeAlias = Callable[[bytes], None]
Close: TypeAlias = Callable[[], None]


class Hands(Protocol):
    """What a server needs of the world around it."""

    def call_later(self, seconds: float, function: Callable[[], None], /) -> Alarm: ...
    def now(self) -> float:
        """Return the seconds of a clock that never goes back."""
        ...

    def new_id(self) -> bytes:
        """Return 16 random bytes that nobody can guess."""
        ...

    def report(self, message: str, error: BaseException, /) -> None:
        """Log a fault of the server or of a user's type, with its traceback."""
        ...


class _AnswerTooLarge(TooLarge):
    """The operation went well, and its answer cannot be sent."""


class _Call:
    """A call that waits, or whose result its caller has not kept yet."""

    __slots__ = ("answer", "cancels", "object_id", "plan", "timer", "waiter")

    def __init__(self, waiter: Waiter[Any], plan: Plan, object_id: int, answer: int = 0) -> None:
        self.waiter = waiter
        self.plan = plan
        self.object_id = object_id
        self.timer: Alarm | None = None
        self.answer = answer
        """The number of the message that answers it; 0 while it waits."""
        self.cancels = 0
        """How many times its caller wanted it back while that takes a while."""


class ServerSession(Holder):
    """One session: a stream of calls, whoever carries it at the moment."""

    __slots__ = (
        "_calls",
        "_close",
        "_core",
        "_dirty",
        "_entries",
        "_expiry",
        "_frames",
        "_implicit",
        "_inbox",
        "_inbox_bytes",
        "_last_kept",
        "_most",
        "_output",
        "_quiet",
        "_read",
        "_rest",
        "_results",
        "_store",
        "_told",
        "_write",
        "attachment",
        "client",
        "ended",
        "grace",
        "session_id",
        "stream",
    )

    def __init__(self, core: "ServerCore", client: Client, session_id: bytes, grace: float) -> None:
        store = core.store
        super().__init__(
            client.description, store.fences, core.hands.now, core.later, store.deadlocks
        )
        self._core = core
        self._store = core.store
        self._frames = FrameBuffer(core.limits["frame"])
        self._entries = core.store.entries
        self.client = client
        self.session_id = session_id
        self.grace = grace
        self.stream = Stream()
        self.attachment = 0
        """The client's number of the last connection that was let in."""
        self.ended = False
        self._calls: dict[int, _Call] = {}
        self._inbox: deque[tuple[list[Any], int]] = deque()
        """What came while too many answers are unconfirmed; not received yet."""
        self._inbox_bytes = 0
        self._rest: list[Any] = []
        """The calls of a batch that wait until some answers are confirmed."""
        self._results: list[list[Any]] | None = None
        """The results so far, while a batch is carried out."""
        self._last_kept: tuple[int, _Call] | None = None
        """The last call whose result was kept, until the next call: its caller may have been
        interrupted there."""
        self._implicit = False
        """Whether a call keeps what was granted before it, without a KEEP."""
        self._told = -1
        """How many messages had come when the connection began, if it resumed the session."""
        self._read = 0
        """How many messages a client had read that died; its grants in these are kept."""
        self._output: list[bytes] = []
        self._most = OUTPUT
        """It executes as long as no more bytes of answers are unconfirmed; -1: not at all."""
        self._quiet = False
        """Whether a call that comes now can be carried out at once: nothing that came is before it,
        and a connection carries the session. Set by `_look` alone, and unset when that may
        change."""
        self._dirty = False
        self._write: Write | None = None
        self._close: Close | None = None
        self._expiry: Alarm | None = None

    @property
    def attached(self) -> bool:
        """Whether a connection carries the session now."""
        return self._write is not None

    # Connections

    def attach(
        self, write: Write, close: Close, received: int, *, implicit_keep: bool = False
    ) -> None:
        """Go on over a new connection, whose client has received so many messages.

        With `implicit_keep` the client sends no KEEP: its next call stands for it, or
        `answers_read` if it dies before that. An older connection is told and closed; what it
        still brings must be discarded.

        Raises:
            SessionLost: the session has ended.
            ProtocolError: the count cannot be right.
        """
        if self.ended:
            raise SessionLost("the session has ended")
        frames = self.stream.resume(received)
        self._quiet = False
        if self._write is not None and self._close is not None:
            message = "the session continues on another connection"
            self._write(frame(encode([GOAWAY, self.stream.received, 109, message])))
            self._close()
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        self._output.clear()
        self._most = OUTPUT
        self._inbox.clear()
        self._inbox_bytes = 0
        self._frames = FrameBuffer(self._core.limits["frame"])
        self._write, self._close = write, close
        self._implicit = implicit_keep
        self._told = self.stream.received if self.attachment else -1
        self._read = 0
        if frames:
            write(b"".join(frames))
        self.away = False
        for call in list(self._calls.values()):
            call.waiter.resume()
        # The count may have made room for answers, and nothing else may come from the client.
        try:
            self._work_off()
        except ProtocolError as error:
            self.close(error.code, str(error))
            self.finish()
        self._look()
        self._core.flush()

    def detach(self) -> None:
        """Lose the connection; the session waits for its client for `grace` seconds."""
        self._quiet = False
        self._write = self._close = None
        self._output.clear()
        if self.ended or self._expiry is not None:
            return
        self.away = True
        for call in self._calls.values():
            call.waiter.suspend()
        self._expiry = self._core.hands.call_later(self.grace, self._expire)

    def hold_back(self) -> None:
        """Execute nothing more: what was written waits to be read."""
        self._most = -1
        self._quiet = False

    def go_on(self) -> None:
        """Execute again: the most part of what was written is on its way.

        Raises:
            ProtocolError: as `receive_data`.
        """
        self._most = OUTPUT
        if self._write is None:
            return
        try:
            self._work_off()
            if self.stream.ack_due:
                self._put_out(frame(encode([ACK, self.stream.tell()])))
        finally:
            self._look()
            self._core.flush()

    @property
    def unconfirmed(self) -> bool:
        """Whether the session ends differently for a client that has read all its answers."""
        return self._implicit and any(call.answer for call in self._calls.values())

    @property
    def taken_back(self) -> bool:
        """Whether the client has said, by one byte, that it drops the connection and lives on."""
        return self._frames.rest == b"\0"

    @property
    def written(self) -> int:
        """The number of the last answer, if all are written; else 0."""
        return 0 if self._output else self.stream.sent

    def answers_read(self, last: int) -> None:
        """Know that the client died, and had read the answers up to this one."""
        # One that resumed, and died before it said something, may have done so to take its call
        # back: it was interrupted.
        if self._implicit and self.stream.received > self._told:
            self._read = last

    def _expire(self) -> None:
        self.finish()
        self._core.flush()

    def close(self, code: int, message: str) -> None:
        """Tell the client that this connection ends, close it, and detach."""
        if self._write is not None and self._close is not None:
            self._core.flush()
            self._write(frame(encode([GOAWAY, self.stream.received, code, _sendable(message)])))
            self._close()
            self.detach()

    def withdraw(self) -> None:
        """Wait for nothing any more: the session is about to end."""
        self.away = True
        for call in self._calls.values():
            call.waiter.listener = None
            if call.timer is not None:
                call.timer.cancel()
            # No grant may pass from one of its calls to another.
            call.waiter.suspend()
        for call_id, call in list(self._calls.items()):
            if not call.waiter.settled:
                del self._calls[call_id]
                call.waiter.cancel()

    def finish(self) -> None:
        """End the session: its waits end, and what it holds or was granted passes on."""
        if self.ended:
            return
        self.withdraw()
        self.ended = True
        self._quiet = False
        if self._expiry is not None:
            self._expiry.cancel()
        calls, self._calls = self._calls, {}
        self._last_kept = None
        for call in calls.values():
            if not 0 < call.answer <= self._read:
                call.waiter.cancel()
        self.end()
        self._core.forget(self)

    # What comes in

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the connection that carries the session.

        Raises:
            ProtocolError: close the connection, and end the session: its client is out of order.
        """
        # As a rule one call comes alone, and is answered at once. It takes the way below, which
        # does the same as the general one in fewer steps.
        size = len(data) - 4
        if self._quiet and size <= SHORT and data[:6] == _LONE_CALLS[size]:
            stream = self.stream
            try:
                _, ack, call_id, object_id, name, arguments, owner = unpack_message(data[4:])
                entry = self._entries[object_id]
                plan = entry.handlers[name]
                run = plan.runners[len(arguments)]
                quick = (
                    ack == stream.sent
                    # All bits together are in range if each number is, and a float has none. What
                    # is left to tell apart are `true` and 1, `false` and 0.
                    and 0 <= call_id | object_id | owner <= MAX_ID
                    and call_id > 1
                    and type(ack) is type(object_id) is type(owner) is int
                    and type(arguments) is list
                    and call_id not in self._calls
                )
            except Exception:
                quick = False
            if quick:
                self._last_kept = None
                if self._calls and self._implicit:
                    self._confirm(ack)
                # As stream.receive(), without the call: everything sent is confirmed.
                stream.acknowledged = ack
                stream.kept.clear()
                stream.kept_bytes = 0
                stream.received += 1
                stream.unsaid += size
                target = entry.object
                try:
                    if plan.at_once:
                        result = run(target, arguments)
                        if plan.writes:
                            target.version += 1
                    else:
                        if plan.owned:
                            caller = Caller(self, owner, self._core.hands.now())
                            result = run(target, caller, arguments)
                        else:
                            result = run(target, arguments)
                        if plan.writes:
                            target.version += 1
                            if plan.waits and isinstance(result, Waiter):
                                waiter: Waiter[Any] = result  # pyright: ignore[reportUnknownVariableType]
                                if waiter.undo is None:
                                    self._wait(call_id, object_id, plan, waiter)
                                    if stream.ack_due:
                                        self._put_out(frame(encode([ACK, stream.tell()])))
                                    self._core.flush()
                                    return
                                if plan.consumes:
                                    answer = stream.sent + 1
                                    self._calls[call_id] = _Call(waiter, plan, object_id, answer)
                                result = waiter.value
                    wire = None if result is None else plan.encode_result(result)
                    payload = encode([RESULT, stream.received, call_id, wire])
                    size = len(payload)
                    # What the body has caused for other calls of this session goes out first.
                    if size > SHORT or self._output or self._store.handed_out:
                        self._finish_answer(payload)
                        size = 0
                except BaseException as error:  # a user's type may say sys.exit()
                    self._store.handed_out.clear()
                    if plan.undo is not None and type(error) is _AnswerTooLarge:
                        plan.undo(target, result, *arguments)
                    call = self._calls.pop(call_id, None)
                    if call is not None:
                        call.waiter.cancel()
                    self._fail(call_id, error)
                    self._core.flush()
                    return
                if size:
                    message = HEADERS[size] + payload
                    # As stream.send(), without the call.
                    number = stream.sent + 1
                    stream.kept.append((number, message))
                    stream.sent = number
                    stream.kept_bytes = size + 4
                    stream.told = stream.received
                    stream.unsaid = 0
                    self._write(message)  # type: ignore[misc]  # pyright: ignore[reportOptionalCall]
                if self._core.dirty:
                    self._core.flush()
                return
        elif self._quiet and data[4:6] == _KEEP:
            # What a blocking client sends ahead of its next call.
            end = 4 + int.from_bytes(data[:4], "big")
            if 6 < end < len(data):
                self._keep_one(data[4:end])
                data = data[end:]
                if data[4:6] != _KEEP:  # no client sends several: one of many would take a stack
                    self.receive_data(data)
                    return
        self._receive(self._frames.feed(data))

    def _keep_one(self, payload: bytes) -> None:
        """Take a KEEP ahead of other messages: as _receive(), in fewer steps."""
        stream = self.stream
        try:
            _, ack, (call_id,) = unpack_message(payload)
            call = self._calls[call_id]
        except Exception:
            self._receive([payload])
            return
        if type(ack) is not int or ack != stream.sent or not call.waiter.undoable:
            self._receive([payload])
            return
        stream.acknowledge(ack)
        stream.received += 1
        stream.unsaid += len(payload)
        del self._calls[call_id]
        call.waiter.keep()
        self._last_kept = (call_id, call)

    def _receive(self, payloads: Sequence[bytes | bytearray]) -> None:
        if self.ended:
            return
        stream = self.stream
        inbox = self._inbox
        written = stream.sent
        self._dirty = True  # its own output is written at the end here
        try:
            for payload in payloads:
                message = decode(payload)
                kind = message[0]
                ack = message[1]
                if ack > stream.acknowledged:
                    if ack > written:
                        raise ProtocolError(
                            f"message {ack} was acknowledged, only {written} were written"
                        )
                    stream.acknowledge(ack)
                if kind >= FIRST_UNSEQUENCED:
                    self._work_off()
                    continue
                # As stream.receive(), without the call.
                if inbox or self._rest or stream.kept_bytes > self._most:
                    inbox.append((message, len(payload)))
                    self._inbox_bytes += len(payload)
                    self._work_off()
                    self._check_inbox()
                else:
                    stream.received += 1
                    stream.unsaid += len(payload)
                    if kind == CALL:
                        self._call(message)
                    else:
                        self._execute(message)
                if self.ended:
                    return  # type: ignore[unreachable]  # what was executed may have ended it
            # Also behind answers: those may have been made before the last of this came.
            if stream.ack_due:
                self._put_out(frame(encode([ACK, stream.tell()])))
        finally:
            self._look()
            self.flush()
            if self._core.dirty:
                self._core.flush()

    def _work_off(self) -> None:
        # What waits here counts as received when it is executed: only then may the client send
        # more. If the connection is lost before that, it comes again.
        stream = self.stream
        inbox = self._inbox
        while self._rest and stream.kept_bytes <= self._most and not self.ended:
            rest, self._rest = self._rest, []
            self._call_many(rest)
        while inbox and not self._rest and stream.kept_bytes <= self._most and not self.ended:
            message, size = inbox.popleft()
            self._inbox_bytes -= size
            stream.received += 1
            stream.unsaid += size
            self._execute(message)

    def _check_inbox(self) -> None:
        # Only calls count among what a client may have unconfirmed: up to BATCH of them in each
        # message. Each may have a HOLD before it, and a KEEP or a CANCEL behind it, as may those
        # that wait; one may be larger.
        limits = self._core.limits
        if (
            len(self._inbox) > limits["calls"] * BATCH * 2 + len(self._calls) * 2
            or self._inbox_bytes > limits["window"] * 2 + limits["frame"]
        ):
            raise ProtocolError("more was sent than the limits allow before it was confirmed")

    def _execute(self, message: list[Any]) -> None:
        kind = message[0]
        if kind in (CALL, POST):
            self._call(message)
        elif kind == CALLS:
            self._confirm(message[1])
            self._call_many(message[2] if len(message) > 2 else None)
        elif kind == KEEP:
            for call_id in _ids(message):
                call = self._calls.get(call_id)
                if call is not None and call.waiter.undoable:
                    del self._calls[call_id]
                    call.waiter.keep()
                    self._last_kept = (call_id, call)
        elif kind == CANCEL:
            if len(message) < 3 or type(message[2]) is not int or not 0 <= message[2] <= MAX_ID:
                raise BadEncoding("a CANCEL must name a call")
            self._cancel(message[2])
        elif kind == HOLD:
            for object_id in _ids(message):
                if object_id in self._store.entries:
                    self._store.hold(self.client, object_id)
        elif kind == RELEASE:
            for object_id in _ids(message):
                self._store.let_go(self.client, object_id)
        elif kind == BYE:
            self._confirm(message[1])
            self.in_good_order = True
            self.client.gone = len(message) > 2 and message[2] is True
            self.finish()
            self.flush()
            close, self._write, self._close = self._close, None, None
            if close is not None:
                close()
        else:
            raise ProtocolError(f"a client sends no message of type {kind}")

    def _call(self, message: list[Any]) -> None:
        if len(message) < 7:
            raise BadEncoding(f"a call has 7 elements, not {len(message)}")
        self._confirm(message[1])
        self._run(message[0], *message[2:8])

    def _confirm(self, ack: int) -> None:
        """Take a message as the KEEP of what was granted before, in answers that it confirms."""
        if not self._implicit:
            return
        calls = self._calls
        if len(calls) == 1:  # as a rule: the item of the call before
            call_id, call = calls.popitem()
            if 0 < call.answer <= ack:
                call.waiter.keep()
            else:
                calls[call_id] = call
            return
        for call_id, call in list(calls.items()):
            if 0 < call.answer <= ack:
                del calls[call_id]
                call.waiter.keep()

    def _call_many(self, items: Any) -> None:
        if type(items) is not list or len(cast("list[Any]", items)) > BATCH:
            raise BadEncoding(f"a batch is an array of at most {BATCH} calls")
        results: list[list[Any]] = []
        self._results = results
        stream, entries, calls = self.stream, self._entries, self._calls
        handed_out = self._store.handed_out
        self._last_kept = None
        try:
            for number, item in enumerate(cast("list[Any]", items)):
                if stream.kept_bytes > self._most:
                    self._rest = items[number:]
                    break
                # What answers at once is carried out here, in fewer steps than by _run().
                try:
                    call_id, object_id, name, arguments, owner = item
                    target = entries[object_id].object
                    plan = entries[object_id].handlers[name]
                    run = plan.runners[len(arguments)]
                    quick = (
                        plan.at_once
                        and 0 <= call_id | object_id | owner <= MAX_ID
                        and call_id > 1
                        and type(object_id) is type(owner) is int
                        and type(arguments) is list
                        and call_id not in calls
                    )
                except Exception:
                    quick = False
                if not quick:
                    if type(item) is not list or len(cast("list[Any]", item)) < 5:
                        raise BadEncoding("a call in a batch has 5 elements")
                    self._run(CALL, *item[:6])
                    continue
                try:
                    result = run(target, arguments)
                    if plan.writes:
                        target.version += 1
                    wire = None if result is None else plan.encode_result(result)
                    if handed_out or not _is_light(wire):
                        self._finish_answer(encode([RESULT, stream.received, call_id, wire]))
                    else:
                        results.append([call_id, wire])
                except BaseException as error:
                    handed_out.clear()
                    if plan.undo is not None and type(error) is _AnswerTooLarge:
                        plan.undo(target, result, *arguments)
                    self._fail(call_id, error)
        finally:
            self._results = None
            if results:
                payload = encode([RESULTS, self.stream.received, results])
                if len(results) == 1 or len(payload) > self._core.limits["frame"]:
                    for result in results:
                        self._send(encode([RESULT, self.stream.received, *result]))
                else:
                    self._send(payload)

    def _run(
        self,
        kind: int,
        call_id: Any,
        object_id: Any,
        name: Any,
        arguments: Any,
        owner: Any,
        free: Any = False,
    ) -> None:
        self._last_kept = None
        if (
            type(call_id) is not int
            or type(object_id) is not int
            or type(name) is not str
            or type(arguments) is not list
            or type(owner) is not int
            or not 0 <= call_id <= MAX_ID
            or not 0 <= object_id <= MAX_ID
            or not 0 <= owner <= MAX_ID
        ):
            raise BadEncoding("a call names itself, an object, an operation, arguments, an owner")
        if call_id in self._calls:
            raise ProtocolError(f"call {call_id} is under way already")
        try:
            entry = self._entries.get(object_id)
            if entry is None:
                entry = self._store.entry(object_id)
            plan = entry.handlers.get(name)
            if plan is None:
                raise UnknownOperation(
                    f"a {type(entry.object).type_name} has no operation {name!r}"
                )
            run = plan.runner(arguments)  # pyright: ignore[reportUnknownArgumentType]
            target = entry.object
            if plan.owned:
                caller = Caller(self, owner, self._core.hands.now())
                if free is True:
                    caller = caller.free()
                result = run(target, caller, arguments)
            else:
                result = run(target, arguments)
            if plan.writes:
                target.version += 1
                if plan.waits and isinstance(result, Waiter):
                    if kind != CALL:
                        result.retract()
                        raise BadParameters(f"{name} may wait, and must be called, not posted")
                    self._wait(call_id, object_id, plan, cast("Waiter[Any]", result))
                    return
            if kind == CALL:
                self._answer(call_id, plan, result)
            elif self._store.handed_out:
                self._hold_handed_out()
        except _AnswerTooLarge as error:
            self._store.handed_out.clear()
            if plan is not None and plan.undo is not None:
                plan.undo(target, result, *arguments)
            self._fail(call_id, error)
        except BaseException as error:
            self._store.handed_out.clear()
            self._fail(call_id, error)

    def _wait(self, call_id: int, object_id: int, plan: Plan, waiter: Waiter[Any]) -> None:
        if waiter.settled:
            if waiter.error is not None:
                raise waiter.error
            try:
                self._answer(call_id, plan, waiter.value)
            except Exception:
                waiter.cancel()
                raise
            if plan.consumes and waiter.undoable:
                self._calls[call_id] = _Call(waiter, plan, object_id, self.stream.sent)
            return
        timeout = waiter.timeout
        if timeout is not None and timeout != timeout:
            waiter.retract()
            raise ValueError("a timeout must be a number of seconds, not NaN")
        if len(self._calls) >= self._core.limits["waits"]:
            waiter.retract()
            raise LimitReached(f"{len(self._calls)} calls of this session wait, its limit")
        call = self._calls[call_id] = _Call(waiter, plan, object_id)
        waiter.listener = partial(self._settled, call_id)
        if timeout is not None:
            call.timer = self._core.hands.call_later(timeout, partial(self._time_out, call))

    def _time_out(self, call: _Call) -> None:
        call.waiter.expire()
        self._core.flush()

    def _settled(self, call_id: int, waiter: Waiter[Any]) -> None:
        call = self._calls[call_id]
        if call.timer is not None:
            call.timer.cancel()
            call.timer = None
        if not (waiter.undoable and call.plan.consumes):
            del self._calls[call_id]
        if waiter.error is not None:
            self._fail(call_id, waiter.error)
            return
        try:
            self._answer(call_id, call.plan, waiter.value)
            call.answer = self.stream.sent
        except Exception as error:
            self._store.handed_out.clear()
            self._calls.pop(call_id, None)
            waiter.cancel()
            self._fail(call_id, error)

    def _cancel(self, call_id: int) -> None:
        call = self._calls.pop(call_id, None)
        if call is None and self._last_kept is not None and self._last_kept[0] == call_id:
            call = self._last_kept[1]
        self._last_kept = None
        if call is None:
            self._send_cancelled(call_id, 1)
            return
        call.cancels += 1
        if call.cancels > 1:
            self._calls[call_id] = call  # it is on its way back already
            return
        if call.timer is not None:
            call.timer.cancel()
        # Told by a waiter that takes a while, at once or later.
        self._calls[call_id] = call
        call.waiter.listener = partial(self._is_back, call_id)
        outcome = call.waiter.retract()
        if outcome is not None:
            call.waiter.listener = None
            del self._calls[call_id]
            self._send_cancelled(call_id, 0 if outcome else 1)

    def _is_back(self, call_id: int, _waiter: Waiter[Any]) -> None:
        """Answer, now that its caller has again what it must have, who took a call back."""
        for _ in range(self._calls.pop(call_id).cancels):
            self._send_cancelled(call_id, 0)

    def _send_cancelled(self, call_id: int, outcome: int) -> None:
        self._send(encode([CANCELLED, self.stream.received, call_id, outcome]))

    def object_gone(self, object_id: int) -> None:
        """End the waits of this session for an object that was deleted."""
        for call in [call for call in self._calls.values() if call.object_id == object_id]:
            if not call.waiter.undoable:
                call.waiter.fail(ObjectGone("the object was deleted while the call waited for it"))

    # What goes out

    def _answer(self, call_id: int, plan: Plan, result: Any) -> None:
        # What the body itself handed out is noted already.
        wire = None if result is None else plan.encode_result(result)
        alone = plan.consumes and self._implicit  # its number among the answers must be known
        if self._results is not None and _is_light(wire) and not alone:
            if self._store.handed_out:
                self._hold_handed_out()
            self._results.append([call_id, wire])
            return
        payload = encode([RESULT, self.stream.received, call_id, wire])
        self._finish_answer(payload)

    def _finish_answer(self, payload: bytes) -> None:
        if len(payload) > self._core.limits["frame"]:
            raise _AnswerTooLarge(
                f"the answer is {len(payload)} bytes long and the limit is "
                f"{self._core.limits['frame']}: ask for less at a time"
            )
        if self._store.handed_out:
            self._hold_handed_out()
        message = len(payload).to_bytes(4, "big") + payload
        self.stream.send(message)
        if self._dirty:
            self._output.append(message)
        else:
            self._put_out(message)

    def _hold_handed_out(self) -> None:
        """Count the references in an answer for the client that gets them."""
        store = self._store
        for object_id in store.handed_out:
            if object_id in store.entries:  # else deleted by its name: whoever uses it is told
                store.hold(self.client, object_id)
        store.handed_out.clear()

    def _fail(self, call_id: int, error: BaseException) -> None:
        code = code_of(error)
        message = str(error)
        data: Any = None
        if isinstance(error, KeyError):
            what = error.args[0] if error.args else ""
            if isinstance(what, bytes):
                data = wire_key(what)
                message = "the key is not there"
            else:
                message = str(what)
        elif isinstance(error, ProtocolError):
            code = BadParameters.code
        elif code is None or code == 500:
            code = 500
            message = f"{type(error).__name__}: {message}"
            self._core.hands.report(f"call {call_id} of {self.description} failed", error)
        self._send(encode([ERROR, self.stream.received, call_id, code, _sendable(message), data]))

    def _send(self, payload: bytes) -> None:
        message = frame(payload)
        self.stream.send(message)
        self._put_out(message)

    def _put_out(self, message: bytes) -> None:
        if self._write is not None:
            self._output.append(message)
            if not self._dirty:
                self._dirty = True
                self._core.dirty.append(self)

    def flush(self) -> None:
        """Write what is to be written, in one piece."""
        self._dirty = False
        if self._output and self._write is not None:
            output, self._output = self._output, []
            self._write(output[0] if len(output) == 1 else b"".join(output))

    def _look(self) -> None:
        """See whether a call that comes now can be carried out at once."""
        frames = self._frames
        self._quiet = self._write is not None and not (
            frames.rest
            or frames.missing
            or self._inbox
            or self._rest
            or self._most < 0
            or self.ended
        )

    @property
    def waiting(self) -> int:
        """The number of calls that wait or, where that is said, are not kept yet."""
        if self._implicit:
            return sum(not call.answer for call in self._calls.values())
        return len(self._calls)

    @property
    def parked(self) -> int:
        """The number of calls that wait."""
        return sum(not call.waiter.settled for call in self._calls.values())


def _is_light(wire: Any) -> bool:
    """Tell whether a result may travel together with others."""
    kind = cast("Any", type(wire))
    if kind is int or wire is None or kind is bool or kind is float:
        return True
    return (kind is bytes or kind is str) and len(wire) < LIGHT


def _sendable(message: str) -> str:
    """Return a text of any origin as one that can travel."""
    if len(message) > MESSAGE:
        message = message[:MESSAGE] + " ..."
    return message.encode("utf-8", "backslashreplace").decode()


def _ids(message: list[Any]) -> list[int]:
    if len(message) < 3 or type(message[2]) is not list:
        raise BadEncoding("this message needs an array of ids")
    ids = cast("list[Any]", message[2])
    if not all(type(one) is int and 0 <= one <= MAX_ID for one in ids):
        raise BadEncoding("an id is an integer from 0 to 2**53 - 1")
    return ids


class ServerCore:
    """All sessions of a server: it opens, resumes and ends them."""

    def __init__(
        self,
        store: Store,
        hands: Hands,
        *,
        limits: dict[str, int] | None = None,
    ) -> None:
        self.store = store
        self.hands = hands
        self.limits = {**DEFAULT_LIMITS, **(limits or {})}
        if not MIN_FRAME <= self.limits["frame"] <= MAX_FRAME:
            raise ValueError(
                f"a limit of frames must be from {MIN_FRAME} to {MAX_FRAME} bytes, "
                f"not {self.limits['frame']}"
            )
        if self.limits["calls"] < ACK_FRAMES or self.limits["window"] < 2 * ACK_BYTES:
            raise ValueError(
                f"a limit of calls below {ACK_FRAMES}, or of the window below {2 * ACK_BYTES} "
                "bytes, would leave clients waiting for ever for a confirmation"
            )
        self.sessions: dict[bytes, ServerSession] = {}
        self.clients: dict[bytes, Client] = {}
        self.on_left: Callable[[bytes], None] = lambda client_id: None
        """Told when a client's last session has ended."""
        self.dirty: list[ServerSession] = []
        store.on_gone = self._object_gone
        store.statistics = self.count

    def session_of(
        self, hello: Hello, principal: str, description: str, grace: float
    ) -> ServerSession:
        """Return the session that an authenticated client asks for, or a new one.

        Raises:
            SessionLost: it asks for one that is not there, or not its own; SessionMoved: a
                later connection has it.
            ProtocolError: the client cannot have received as many messages as it says.
        """
        resume = hello.resume
        if resume is not None:
            session = self.sessions.get(resume.session)
            if session is None or session.client.principal != principal:
                raise SessionLost(
                    "the server does not know this session any more: its client was away for "
                    "longer than the grace, or the server is a new one"
                )
            if resume.attachment <= session.attachment:
                raise SessionMoved("a later connection of this client has taken the session over")
            session.stream.check(resume.received)
            session.attachment = resume.attachment
            return session
        client = self.clients.get(hello.client)
        if client is None or client.principal != principal:
            client = Client(hello.client, principal, hello.pid, description)
            self.clients[hello.client] = client
        client.gone = False
        if client.stop_forgetting is not None:
            client.stop_forgetting()
            client.stop_forgetting = None
        session = ServerSession(self, client, self.hands.new_id(), grace)
        client.sessions.add(session.session_id)
        self.sessions[session.session_id] = session
        return session

    def forget(self, session: ServerSession) -> None:
        """Called by a session that has ended."""
        self.sessions.pop(session.session_id, None)
        client = session.client
        client.sessions.discard(session.session_id)
        if not client.sessions and client.gone:
            self._forget_client(client)
            self.on_left(client.id)
        elif not client.sessions:
            timer = self.hands.call_later(LINGER, partial(self._forget_client, client))
            client.stop_forgetting = timer.cancel
            self.on_left(client.id)

    def _forget_client(self, client: Client) -> None:
        if self.clients.get(client.id) is client:
            del self.clients[client.id]
        self.store.forget(client)

    def client_died(self, client_id: bytes) -> None:
        """End all sessions of a client whose process is gone."""
        client = self.clients.get(client_id)
        if client is None:
            return
        sessions = [self.sessions[session_id] for session_id in client.sessions]
        for session in sessions:
            session.away = True
        for session in sessions:
            # A child that it forked may still hold the socket.
            session.close(SessionLost.code, "the client's process has ended")
        # Nothing may pass from one of its sessions to another.
        for session in sessions:
            session.withdraw()
        for session in sessions:
            session.finish()
        self.flush()

    def flush(self) -> None:
        """Write what all sessions have to write."""
        while self.dirty:
            dirty, self.dirty = self.dirty, []
            for session in dirty:
                session.flush()

    def later(self, seconds: float, function: Callable[[], None]) -> Alarm:
        """Have an object's function called later; what it causes goes out at once."""

        def run() -> None:
            function()
            self.flush()

        return self.hands.call_later(seconds, run)

    def _object_gone(self, object_id: int) -> None:
        for session in list(self.sessions.values()):
            session.object_gone(object_id)

    def count(self) -> dict[str, int]:
        """Return what `manager.statistics()` does."""
        sessions = self.sessions.values()
        return {
            **self.store.count(),
            "clients": len(self.clients),
            "sessions": len(self.sessions),
            "attached": sum(session.attached for session in sessions),
            "waiting": sum(session.parked for session in sessions),
            **self.store.count_types(),
        }
