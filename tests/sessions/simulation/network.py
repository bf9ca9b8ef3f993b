"""The network: connections whose bytes arrive late, in any pieces, or not at all.

A `Link` joins an app to the server; a cut lets any part of what is in flight arrive, and each end
notices it in its own time. Here are also the clock's `Timer`s and what the server is given in
place of a loop.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from aiomanager.errors import SessionLost
from aiomanager.protocol.frames import FrameBuffer, frame
from aiomanager.protocol.handshake import Hello
from aiomanager.protocol.messages import FIRST_UNSEQUENCED
from aiomanager.sessions.server import ServerSession

if TYPE_CHECKING:
    from .clients import App
    from .world import World

__all__ = ("GRACE", "Broken", "Hands", "Link", "Pipe", "Timer", "Welcome")

GRACE = 3.0
"""Seconds for which the server keeps a session without connection."""


class Broken(AssertionError):
    """A promise of the protocol was broken."""


class Timer:
    """Something that is to happen, unless it is cancelled."""

    __slots__ = ("cancelled", "function", "of_core")

    def __init__(self, function: Callable[[], None], of_core: bool) -> None:
        self.function = function
        self.of_core = of_core
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Hands:
    """What the server core is given in place of a loop."""

    def __init__(self, world: "World") -> None:
        self.world = world

    def call_later(self, seconds: float, function: Callable[[], None], /) -> Timer:
        return self.world.later(seconds, function, of_core=True)

    def now(self) -> float:
        return self.world.clock

    def new_id(self) -> bytes:
        return self.world.random.randbytes(16)

    def report(self, message: str, error: BaseException, /) -> None:
        raise Broken(f"the server reports a fault: {message}") from error


class Welcome(NamedTuple):
    """The server's answer to a handshake; a session of None says that it knows it no more."""

    session: bytes | None
    received: int


class Pipe:
    """One direction of a connection: a first message of the handshake, then bytes."""

    def __init__(
        self,
        world: "World",
        sink: Callable[[Any], None],
        end: Callable[[], None],
        notice: Callable[[], float],
    ) -> None:
        self.world = world
        self.sink = sink
        self.end = end
        self.notice = notice
        """How long the receiver takes to see that nothing comes any more."""
        self.first: Any = None
        self.flying = b""
        self.written = 0
        """How many bytes were written."""
        self.ends: deque[int] = deque(maxlen=8)
        """After how many bytes the last writes ended."""
        self.closed = False
        self.moving = False

    def start(self, first: Any) -> None:
        if not self.closed:
            self.first = first
            self._move()

    def write(self, data: bytes) -> None:
        if not self.closed:
            self.flying += data
            self.written += len(data)
            self.ends.append(self.written)
            self._move()

    def _move(self) -> None:
        if not self.moving:
            self.moving = True
            self.world.later(self.world.delay(), self._arrive)

    def _arrive(self) -> None:
        self.moving = False
        random = self.world.random
        if self.first is not None:
            first, self.first = self.first, None
            self.sink(first)
        elif self.flying:
            size = len(self.flying) if random.random() < 0.5 else random.randint(1, 40)
            data, self.flying = self.flying[:size], self.flying[size:]
            self.sink(data)
        if self.first is not None or self.flying:
            self._move()
        elif self.closed:
            self._finish()

    def _finish(self) -> None:
        self.world.later(self.notice(), self.end)

    def close(self) -> None:
        """Take no more; what is in flight still arrives."""
        if not self.closed:
            self.closed = True
            if not self.moving:
                self._finish()

    def cut(self) -> None:
        """Break: any part of what is in flight arrives."""
        if self.closed:
            return
        random = self.world.random
        if self.first is not None:
            if random.random() < 0.5:
                self.first, self.flying = None, b""
            else:
                self.flying = b""
        whole = len(self.flying)
        begin = self.written - whole
        between = [end - begin for end in self.ends if begin < end < self.written] or [0]
        size = random.choice((0, whole, random.randint(0, whole), random.choice(between)))
        self.world.facts["bytes lost"] += len(self.flying) > size
        self.flying = self.flying[:size]
        self.close()


class Link:
    """A connection, with what stands for the server's shell at one end of it."""

    def __init__(self, world: "World", app: "App") -> None:
        self.world = world
        self.app = app
        self.session: ServerSession | None = None
        self.written = 0
        self.received = 0
        """How many messages the session had received when it was attached, if it was resumed."""
        self.has_read_all = False
        """Whether the app had read all that was written, when it died."""
        self.up = Pipe(world, self._server_receives, self._server_notices, world.late_notice)
        self.down = Pipe(
            world, partial(app.receives, self), partial(app.notices, self), world.notice
        )

    def _server_receives(self, data: Any) -> None:
        world = self.world
        if isinstance(data, Hello):
            self._welcome(data)
        elif self.session is not None:
            self.session.receive_data(data)
            if self.session is not None and self.session.ended:
                self.session = None
                self.down.close()
        else:
            world.facts["old bytes discarded"] += 1

    def _welcome(self, hello: Hello) -> None:
        core = self.world.core
        try:
            session = core.session_of(hello, "peer:0", f"pid {hello.pid}", GRACE)
        except SessionLost:
            self.down.start(Welcome(None, 0))
            return
        if session.attached:
            self.world.facts["resumed before the server noticed"] += 1
        if hello.resume is not None:
            self.world.facts["resumed"] += 1
        self.down.start(Welcome(session.session_id, session.stream.received))
        received = 0 if hello.resume is None else hello.resume.received
        self.session = session
        self.written = received
        self.received = -1 if hello.resume is None else session.stream.received
        session.attach(
            partial(self._write, session),
            self._close,
            received,
            implicit_keep=self.app.implicit,
        )

    def _write(self, session: ServerSession, data: bytes) -> None:
        """Carry what the server writes; its frames must be all that it keeps, in order."""
        self.has_read_all = False
        kept = session.stream.kept
        for payload in FrameBuffer(1 << 30).feed(data):
            if payload[1] < FIRST_UNSEQUENCED:
                self.written += 1
                number, message = kept[self.written - kept[0][0]]
                if number != self.written or message != frame(bytes(payload)):
                    raise Broken(f"message {number} of the server was overtaken")
        self.down.write(data)

    def _close(self) -> None:
        self.session = None
        self.down.close()

    def _server_notices(self) -> None:
        session, self.session = self.session, None
        if session is not None:
            if self.has_read_all:
                self.app.had(session, said=session.stream.received > self.received)
                session.answers_read(session.written)
            session.detach()
            self.world.core.flush()
        self.down.close()
        if not self.app.alive:
            self.app.is_gone()

    @property
    def busy(self) -> bool:
        """Whether something is on its way."""
        return bool(self.up.flying or self.down.flying)

    def die(self) -> None:
        """Break, since the app has died."""
        down = self.down
        # What was lost in a cut before is not in flight any more, and was not read either.
        self.has_read_all = self.app.implicit and not (down.closed or down.flying or down.first)
        self.cut()

    def cut(self) -> None:
        if self.app.implicit:
            self.up.close()  # on a unix socket what was written arrives, whoever closes it or dies
        else:
            self.up.cut()
        self.down.cut()
