"""One object used by its blocking and its async proxy in turn does what Python's own does.

The rules are those of the stateful tests of each type, here over the sockets of a real server.
"""

from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from objects import test_namespace
from objects.rigs import Rig
from objects.test_array import ArrayMachine
from objects.test_dict import DictMachine
from objects.test_list import ListMachine
from objects.test_set import SetMachine
from objects.test_value import ValueMachine
from objects.twins import Twins

import aiomanager.sync
from aiomanager.objects.namespace import SyncNamespaceOperations
from aiomanager.operation import Composite, Operation, SharedObject
from aiomanager.proxy import SyncProxy, sync_face
from aiomanager.server.process import PrivateServer

MACHINES: list[Any] = [
    ArrayMachine,
    DictMachine,
    ListMachine,
    test_namespace.NamespaceMachine,
    SetMachine,
    ValueMachine,
]


class MixedRig(Rig):
    """Makes blocking proxies each second call of which goes through the async one."""

    def __init__(self, manager: aiomanager.sync.Manager, portal: BlockingPortal) -> None:
        super().__init__()
        self._manager = manager
        self._portal = portal
        self.used: set[str] = set()

    def make(self, kind: type[SharedObject], *given: Any, **named: Any) -> Any:
        face = self._mixed(sync_face(kind))
        return self._manager.create(face, *given, **named)

    def methods(self, namespace: Any) -> Any:
        """Return what has the operations of a namespace."""
        return self._mixed(SyncNamespaceOperations)(namespace._channel, namespace._reference)

    def _mixed(self, face: type[SyncProxy]) -> Any:
        names = [
            name
            for base in face.__mro__
            for name, member in base.__dict__.items()
            if isinstance(member, Operation | Composite)
        ]
        members = {name: self._in_turn(getattr(face, name), name) for name in names}
        return type(f"Mixed{face.__name__}", (face,), members)

    def _in_turn(self, blocking: Callable[..., Any], name: str) -> Callable[..., Any]:
        turns = cycle((True, False))
        portal, used = self._portal, self.used

        def method(self: Any, *given: Any, **named: Any) -> Any:
            if next(turns):
                return blocking(self, *given, **named)

            async def run() -> Any:
                return await getattr(aio, name)(*given, **named)

            aio = SyncProxy.aio.fget(self)  # type: ignore[attr-defined]
            used.add(name)
            return portal.call(run)

        return method


@pytest.fixture(scope="module")
def rig(server: PrivateServer) -> Iterator[MixedRig]:
    with (
        start_blocking_portal() as portal,
        aiomanager.sync.connect(server.address.url) as manager,
    ):
        yield MixedRig(manager, portal)


@pytest.mark.parametrize("machine", MACHINES)
def test_both_faces_in_turn(machine: Any, rig: MixedRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Twins, "rig_types", (lambda: rig,))
    monkeypatch.setattr(test_namespace, "operations", rig.methods)
    rig.used.clear()
    few = settings(max_examples=25, stateful_step_count=20, deadline=None, database=None)
    run_state_machine_as_test(machine, settings=few)
    assert len(rig.used) > 5, f"only {rig.used} went through the async proxy"
