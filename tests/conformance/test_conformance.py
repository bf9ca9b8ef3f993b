"""The scenario on each rig: objects alone, both ends of a session, and the three clients."""

from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from objects.rigs import PureRig, SessionRig

import aiomanager
import aiomanager.sync
from aiomanager.objects import TYPES
from aiomanager.operation import Operation
from aiomanager.proxy import Proxy
from aiomanager.server.process import PrivateServer

from .rigs import AsyncRig, BlockingRig, MemoryRig, run
from .scenario import SCENARIOS

everything = pytest.mark.parametrize("name", SCENARIOS)


@everything
def test_on_the_objects_themselves(name: str) -> None:
    run(SCENARIOS[name](MemoryRig(PureRig())))


@everything
def test_on_a_pair_of_sessions(name: str) -> None:
    run(SCENARIOS[name](MemoryRig(SessionRig())))


@pytest.fixture(scope="module")
def blocking(server: PrivateServer) -> Iterator[aiomanager.sync.Manager]:
    with aiomanager.sync.connect(server.address.url) as manager:
        yield manager


@everything
def test_on_the_blocking_client(name: str, blocking: aiomanager.sync.Manager) -> None:
    run(SCENARIOS[name](BlockingRig(blocking)))


@everything
async def test_on_the_async_clients(name: str, manager: aiomanager.Manager) -> None:
    async with anyio.create_task_group() as group:
        await SCENARIOS[name](AsyncRig(manager, group))


class _Recorder(PureRig):
    """Notes which operations are called."""

    def __init__(self, called: set[Operation[..., Any]]) -> None:
        super().__init__()
        self._called = called

    def call(
        self,
        proxy: Proxy,
        operation: Operation[..., Any],
        arguments: tuple[Any, ...],
        owner: int = 0,
    ) -> Any:
        self._called.add(operation)
        return super().call(proxy, operation, arguments, owner)


def test_the_scenario_leaves_no_operation_out() -> None:
    called: set[Operation[..., Any]] = set()
    for function in SCENARIOS.values():
        run(function(MemoryRig(_Recorder(called))))
    # An operation that several types have from one base counts once.
    declared = {operation for kind in TYPES for operation in kind.operations.values()}
    assert declared - called == set()
