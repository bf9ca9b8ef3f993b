"""The client's end of a session: calls become frames, frames become answers.

The three shells share it. It outlives its connections: what is not confirmed is sent again on
the next one. There is no socket, clock, loop or thread here.
"""

from collections import deque
from typing import Any, Final, Generic, TypeVar, cast

from aiomanager.errors import (
    BadEncoding,
    ConnectionLost,
    ProtocolError,
    SessionLost,
    TooLarge,
    exception_of,
)
from aiomanager.protocol._msgpack import unpack_message
from aiomanager.protocol.frames import HEADERS, SHORT, FrameBuffer, frame
from aiomanager.protocol.handshake import Resume
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
from aiomanager.protocol.stream import BATCH, LIGHT, Stream

__all__ = ("ClientSession", "error_of")

_LONE_RESULTS: Final = tuple(header + bytes((0x94, RESULT)) for header in HEADERS)
"""How short frames with a result begin, by the size of their payload."""
_LIGHT_FRAME: Final = 8 * LIGHT
"""With a smaller limit of frames each call is looked at alone: it might be too large."""

W = TypeVar("W")

SHUTTING_DOWN: Final = 110
WINDOW: Final = 1 << 22
"""The bytes that may be unconfirmed when the server does not say how many."""


class ClientSession(Generic[W]):
    """One ordered stream of calls; `W` is whatever the shell keeps for who waits for an answer."""

    def __init__(self, session_id: bytes, limits: dict[str, int]) -> None:
        self.session_id = session_id
        self.stream = Stream()
        self.calls: dict[int, W] = {}
        """Who waits for the answer of which call."""
        self.cancelling: dict[int, W] = {}
        """Who waits to hear how the cancellation of a call went."""
        self.posted: dict[int, int] = {}
        """The object of each call that was posted and not yet confirmed."""
        self.losses: dict[int, Exception] = {}
        """By object: how a posted call failed. Its next call raises that."""
        self.goaway: Exception | None = None
        """Why the server ended the connection, if it said so; after a SessionLost there is nothing
        to resume."""
        self._largest = limits["frame"]
        self._most = limits["calls"]
        self._window = limits.get("window", WINDOW)
        self._frames = FrameBuffer(limits["frame"])
        self._broken: ProtocolError | None = None
        self._whole = True
        """Whether what comes in next is the beginning of a message, and may be one."""
        self._attachment = 0
        self._clear = True
        """Whether a call that is made now can leave at once: nothing is to be sent before it. Set
        when all was sent, and unset before anything is added."""
        self.last_id = 0
        """The id of the last call."""
        self.output: list[bytes] = []
        """The frames that wait to be written."""
        self._batch: list[list[Any]] = []
        """Light calls that leave in one message."""
        self._held: deque[tuple[int, bytes]] = deque()
        self._kept: list[int] = []
        self._taken: list[int] = []
        self._dropped: list[int] = []
        self._posting = (0, b"")
        """The last call that was to be posted, and its payload."""

    # What goes out

    def call(
        self,
        waiting: W,
        object_id: int,
        name: str,
        arguments: list[Any],
        owner: int,
        *,
        free: bool = False,
    ) -> int:
        """Add a call to the output; return its id, under which `waiting` is answered.

        `free` says that the owner does not wait for the answer himself, or not for ever.
        """
        self.last_id = call_id = self.last_id + 1
        stream = self.stream
        light = not (
            self._held
            or self._taken
            or stream.kept_bytes >= self._window
            or len(stream.kept) >= self._most
            or self._largest < _LIGHT_FRAME
        )
        size = 0
        for argument in arguments:
            kind = type(argument)  # pyright: ignore[reportUnknownVariableType]
            if kind is list:
                light = False
            elif kind is bytes or kind is str:
                size += len(argument)
        if size >= LIGHT:
            light = False
        self._clear = False
        if light:
            self.calls[call_id] = waiting
            item: list[Any] = [call_id, object_id, name, arguments, owner]
            if free:
                item.append(True)
            self._batch.append(item)
            if len(self._batch) == BATCH:
                self._send_batch()
        else:
            message = [CALL, stream.received, call_id, object_id, name, arguments, owner]
            if free:
                message.append(True)
            payload = encode(message)
            self.calls[call_id] = waiting
            self._add(call_id, payload)
        return call_id

    def lone_call(
        self, waiting: W, object_id: int, name: str, arguments: list[Any], owner: int
    ) -> bytes | None:
        """Return the frame of a call when nothing else is to be sent; None: use `call`.

        The quick way of a client that makes one call at a time; its id is `last_id`.
        """
        stream = self.stream
        call_id = self.last_id + 1
        payload = encode([CALL, stream.received, call_id, object_id, name, arguments, owner])
        size = len(payload)
        if not self._clear or size > self._largest:
            return None
        self.last_id = call_id
        self.calls[call_id] = waiting
        message = (HEADERS[size] if size <= SHORT else size.to_bytes(4, "big")) + payload
        # As stream.send(), without the call.
        number = stream.sent + 1
        stream.kept.append((number, message))
        stream.sent = number
        stream.kept_bytes += size + 4
        stream.told = stream.received
        stream.unsaid = 0
        return message

    def lone_answer(self, data: bytes) -> list[Any] | None:
        """Return the RESULT of the last call if `data` is just that; None: use `receive_data`."""
        size = len(data) - 4
        if size > SHORT or data[:6] != _LONE_RESULTS[size] or not self._whole:
            return None
        try:
            message: list[Any] = unpack_message(data[4:])
            _, ack, call_id, _ = message
        except (ValueError, TypeError):
            return None
        stream = self.stream
        if call_id != self.last_id or ack != stream.sent or self.calls.pop(call_id, None) is None:
            return None
        # As stream.receive(), without the call: everything sent is confirmed.
        stream.acknowledged = ack
        stream.kept.clear()
        stream.kept_bytes = 0
        stream.received += 1
        stream.unsaid += size
        return message

    def post(self, object_id: int, name: str, arguments: list[Any], owner: int) -> None:
        """Add a call to the output that is answered only if it fails."""
        self.last_id = call_id = self.last_id + 1
        payload = encode([POST, self.stream.received, call_id, object_id, name, arguments, owner])
        self._posting = call_id, payload
        self._add(call_id, payload)
        self.posted[call_id] = object_id
        if len(self.posted) > 1024:
            # Silence means that it went well.
            del self.posted[next(iter(self.posted))]

    def has_posted(self, call_id: int) -> bool:
        """Tell whether `post`, which was interrupted, has made this call one that will be sent."""
        number, payload = self._posting
        return number == call_id and (
            any(message.endswith(payload) for _, message in self.stream.kept)
            or any(held_id == call_id for held_id, _ in self._held)
        )

    def cancel(self, call_id: int, waiting: W) -> bool:
        """Take a call back; return False when it was never sent, so that there is no answer.

        Otherwise `waiting` gets the CANCELLED message, and an answer of the call is dropped.
        """
        self.calls.pop(call_id, None)
        for position, item in enumerate(self._batch):
            if item[0] == call_id:
                del self._batch[position]
                return False
        for position, (held_id, _) in enumerate(self._held):
            if held_id == call_id:
                del self._held[position]
                return False
        self.cancelling[call_id] = waiting
        self._send(encode([CANCEL, self.stream.received, call_id]))
        return True

    def keep(self, call_id: int) -> None:
        """Say that what a call was granted has reached the application."""
        self._clear = False
        self._kept.append(call_id)

    def unkeep(self, call_id: int) -> None:
        """Take back `keep`, if nobody was told yet: the caller was interrupted."""
        if call_id in self._kept:
            self._kept.remove(call_id)

    def hold(self, object_ids: list[int]) -> None:
        """Count a reference to each of these objects, before the next call."""
        self._clear = False
        self._taken.extend(object_ids)

    def release(self, object_ids: list[int]) -> None:
        """Count a reference to each of these objects less."""
        self._clear = False
        self._dropped.extend(object_ids)

    def bye(self, *, for_good: bool = False) -> None:
        """Add the end of the session to the output; see M-14 for what `for_good` says."""
        self._send_notes()
        message: list[Any] = [BYE, self.stream.received]
        self._send(encode([*message, True] if for_good else message))

    def _add(self, call_id: int, payload: bytes) -> None:
        self._clear = False
        if len(payload) > self._largest:
            self.calls.pop(call_id, None)
            raise TooLarge(
                f"the call is {len(payload)} bytes long and the server takes at most "
                f"{self._largest}: send it in parts"
            )
        if self._batch:
            self._send_batch()
        if self._kept:
            self._send_kept()
        if self._taken:
            self._send_taken()
        if self._held or not self._room():
            self._held.append((call_id, payload))
        else:
            self._send(payload)

    def _room(self) -> bool:
        # What is on its way is looked at, not what is to follow: less than these limits may stay
        # unconfirmed for ever, since the server has nothing to say, and must hold up nobody.
        stream = self.stream
        return stream.unacknowledged < self._most and stream.kept_bytes < self._window

    def _send_held(self) -> None:
        if not self._held:
            return
        if self.stream.ack_due:
            # Before them: their own counts are old, and a server that is waiting for a newer one
            # may only take in so much.
            self.output.append(frame(encode([ACK, self.stream.tell()])))
        while self._held and self._room():
            message = frame(self._held.popleft()[1])
            self.stream.send_late(message)
            self.output.append(message)

    def _send_batch(self) -> None:
        """Put the light calls so far into one message: the server gets them in their order."""
        if self._kept:
            self._send_kept()
        batch, self._batch = self._batch, []
        received = self.stream.received
        payload = encode([CALLS, received, batch])
        if len(batch) == 1 or len(payload) > self._largest:
            for item in batch:
                self._send(encode([CALL, received, *item]))
        else:
            self._send(payload)

    def _send(self, payload: bytes) -> None:
        self._clear = False
        if self._batch:
            self._send_batch()
        message = frame(payload)
        self.stream.send(message)
        self.output.append(message)

    @property
    def has_output(self) -> bool:
        """Whether there is something to write."""
        return bool(
            self.output
            or self._batch
            or self._kept
            or self._taken
            or self._dropped
            or self.stream.ack_due
        )

    def data_to_send(self) -> list[bytes]:
        """Return what is to be written now, and forget it."""
        if self._batch:
            self._send_batch()
        if self._kept or self._taken or self._dropped:
            self._send_notes()
        # Also behind other output: that may have been made before the bytes came that are now due.
        if self.stream.ack_due:
            self._clear = False
            self.output.append(frame(encode([ACK, self.stream.tell()])))
        output, self.output = self.output, []
        self._clear = not (self._held or self._dropped)
        return output

    def _send_notes(self) -> None:
        if self._kept:
            self._send_kept()
        if self._taken:
            self._send_taken()
        if self._dropped and self._room():
            self._send_dropped()

    # A signal handler may raise between any two steps, and what was noted must not be lost. A KEEP
    # or HOLD that is sent twice does no harm, so each is forgotten when it is in the stream.

    def _send_kept(self) -> None:
        # Ahead of all calls: what a caller does with an item must not arrive without the KEEP, or
        # another would get what was worked off. (Not by _send(), which sends the batch first.)
        message = frame(encode([KEEP, self.stream.received, self._kept]))
        self.stream.send(message)
        self._kept = []
        self.output.append(message)

    def _send_taken(self) -> None:
        self._send(encode([HOLD, self.stream.received, self._taken]))
        self._taken = []

    def _send_dropped(self) -> None:
        # One RELEASE too many would free what is in use; one that is lost is only a leak.
        if self._batch:
            self._send_batch()
        stream = self.stream
        message = frame(encode([RELEASE, stream.received, self._dropped]))
        number = stream.sent + 1
        self._dropped = []
        # As stream.send(), without the call: no handler runs before the frame is kept.
        stream.kept.append((number, message))
        stream.sent = number
        stream.kept_bytes += len(message)
        stream.told = stream.received
        stream.unsaid = 0
        self.output.append(message)

    # What comes in

    def receive_data(self, data: bytes) -> list[tuple[W, list[Any]]]:
        """Take bytes of the connection; return who is answered, and with which message.

        Raises:
            ProtocolError: the connection must be closed; the session may be resumed. Raised by
                the next call, when there is somebody to be answered before.
        """
        if self._broken is not None:
            raise self._broken
        self._whole = False
        answered: list[tuple[W, list[Any]]] = []
        stream = self.stream
        calls = self.calls
        ack = 0
        try:
            for payload in self._frames.feed(data):
                message = decode(payload)
                kind = message[0]
                if kind >= FIRST_UNSEQUENCED:
                    stream.acknowledge(message[1])
                    if kind == GOAWAY and len(message) >= 4 and type(message[2]) is int:
                        self.goaway = _end_of(message[2], str(message[3]))
                    continue
                # As stream.receive(), without the call; the acks rise, and the last one counts.
                if message[1] > stream.sent:
                    raise ProtocolError("a message was acknowledged that was not sent")
                ack = message[1]
                stream.received += 1
                stream.unsaid += len(payload)
                if kind == RESULTS:
                    for item in _items(message):
                        waiting = calls.pop(item[0], None)
                        if waiting is not None:
                            # As the RESULT that it would be alone.
                            answered.append((waiting, [RESULT, ack, *item]))
                    continue
                if len(message) < 4 or type(message[2]) is not int:
                    raise BadEncoding("an answer must name its call")
                call_id = message[2]
                if kind == RESULT and call_id in calls:
                    answered.append((calls.pop(call_id), message))
                elif kind in (RESULT, ERROR):
                    if kind == ERROR and (len(message) < 6 or type(message[3]) is not int):
                        raise BadEncoding("an error has a code, a message and data")
                    waiting = self.calls.pop(call_id, None)
                    if waiting is not None:
                        answered.append((waiting, message))
                    elif kind == ERROR and call_id in self.posted:
                        self.losses[self.posted.pop(call_id)] = error_of(message)
                elif kind == CANCELLED:
                    self.calls.pop(call_id, None)  # who was to drop its answer
                    waiting = self.cancelling.pop(call_id, None)
                    if waiting is not None:
                        answered.append((waiting, message))
                else:
                    raise ProtocolError(f"a server sends no message of type {kind}")
        except ProtocolError as error:
            if not answered:
                raise
            # What came before is counted and does not come again: it must be told first.
            self._broken = error
        else:
            self._whole = not (self._frames.rest or self._frames.missing)
        stream.acknowledge(ack)
        self._send_held()
        return answered

    # Connections

    def resumption(self) -> Resume:
        """Return what the next attempt to resume says of this session."""
        self._attachment = attachment = self._attachment + 1
        return Resume(self.session_id, self.stream.received, attachment)

    def detach(self) -> None:
        """Lose the connection."""
        self.output.clear()
        self._frames = FrameBuffer(self._largest)
        self._broken = None
        self._whole = True
        self.goaway = None

    def attach(self, received: int) -> None:
        """Go on over a new connection, whose server has received so many messages.

        Raises:
            ProtocolError: the count cannot be right.
        """
        self._clear = False
        self.output = self.stream.resume(received)
        self._send_held()

    def end(self) -> list[W]:
        """Forget everything, as the server has; return who waits for answers in vain."""
        waiting = [*self.calls.values(), *self.cancelling.values()]
        self.calls.clear()
        self.cancelling.clear()
        self._batch.clear()
        self._held.clear()
        self.output.clear()
        return waiting


def _items(message: list[Any]) -> list[list[Any]]:
    items: list[Any] = cast("Any", message[2] if len(message) > 2 else None)
    if type(items) is not list or not all(
        type(item) is list and len(item) >= 2 and type(item[0]) is int for item in items
    ):
        raise BadEncoding("results are an array of pairs of call id and result")
    return items


def _end_of(code: int, text: str) -> Exception:
    """Return what a GOAWAY stands for: a ConnectionLost, or a SessionLost."""
    error = exception_of(code, text)
    if code == SHUTTING_DOWN or not isinstance(error, ConnectionLost):
        return SessionLost(text)
    return error


def error_of(message: list[Any], decode_key: Any = None) -> Exception:
    """Return the exception that an ERROR message stands for."""
    code, text, data = message[3:6]
    error = exception_of(cast("int", code), str(text))
    if data is not None and isinstance(error, KeyError) and decode_key is not None:
        try:
            error.args = (decode_key(data),)
        except Exception:
            pass  # a key that cannot be opened here: the text says enough
    elif not text:
        error.args = ()
    return error
