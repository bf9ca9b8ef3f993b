"""A simulated network between real sessions: one process, a virtual clock, every fault by seed.

A `World` holds one server (`ServerCore` over a `Store`) and several `App`s, of which each has a
`ClientSession` and some tasks; some are sessions of one client process, with which they die. They
are joined by `Link`s. Apps are killed, their sessions expire, their calls are cancelled and run
out of time. The tasks use shared objects as a program would, and `Books` note what each of them
was promised, to compare with what the server holds in the end.

    network    connections, and how they fail
    clients    what is at one end of them
    world      the server at the other end, the clock, and what goes wrong
    books      what the programs of all rooms below share
    values, queues, locks, meetings, pools, references    the programs and their books, by type
    circles    a second opinion on deadlocks
"""

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from aiomanager.protocol import stream
from aiomanager.sessions import server as server_room

from .world import WatchedSession, World

__all__ = ("World", "narrow_limits", "simulate")

NARROW = {"calls": 10, "window": 700, "frame": 1 << 16}


@contextmanager
def narrow_limits() -> Iterator[dict[str, int]]:
    """Make the limits of what is on its way so small that they are met all the time."""
    saved = [
        (room, name, getattr(room, name))
        for room, name in (
            (stream, "ACK_BYTES"),
            (stream, "ACK_FRAMES"),
            (server_room, "ACK_BYTES"),
            (server_room, "ACK_FRAMES"),
            (server_room, "OUTPUT"),
        )
    ]
    for room, name, _ in saved:
        setattr(room, name, {"ACK_BYTES": 300, "ACK_FRAMES": 8, "OUTPUT": 400}[name])
    try:
        yield NARROW
    finally:
        for room, name, value in saved:
            setattr(room, name, value)


def simulate(seed: int) -> Counter[str]:
    """Run the simulation of a seed; return how often what happened, or raise."""
    if seed % 2:
        with narrow_limits() as limits:
            return _run(seed, limits)
    return _run(seed, None)


def _run(seed: int, limits: dict[str, int] | None) -> Counter[str]:
    original, server_room.ServerSession = server_room.ServerSession, WatchedSession  # type: ignore[assignment,misc]
    # What a world leaves behind is collected once, when it has ended: that takes a sixth less time.
    collects = gc.isenabled()
    gc.disable()
    world = World(seed, limits)
    try:
        world.run()
    except Exception as error:
        error.add_note(f"at {world.clock:.3f} s; so far: {dict(world.facts)}")
        raise
    finally:
        if collects:
            gc.enable()
        server_room.ServerSession = original  # type: ignore[misc]
    return world.facts
