"""What all tests share: the loops that async tests run on, a server, a manager connected to it.

Async tests run by anyio's pytest plugin, once on each loop of `anyio_backend`.
"""

import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import settings

import aiomanager
from aiomanager.server.process import PrivateServer

# A shell lets its background jobs ignore these, and they all their children: tests send them.
for number, usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGQUIT, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)

# How long a case takes says nothing: other tests run beside it.
settings.register_profile("aiomanager", deadline=None)
settings.load_profile("aiomanager")

LOOPS = {
    "asyncio": ("asyncio", {"use_uvloop": False}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}


@pytest.fixture(scope="module", params=[pytest.param(LOOPS[name], id=name) for name in LOOPS])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def server() -> Iterator[PrivateServer]:
    """A server process of the tests of one module."""
    server = PrivateServer()
    yield server
    server.stop()


@pytest.fixture
async def manager(server: PrivateServer) -> AsyncIterator[aiomanager.Manager]:
    """An async manager, connected to `server`."""
    async with aiomanager.connect(server.address.url) as manager:
        yield manager
