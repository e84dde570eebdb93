"""The testing kit: a fake FlowMaestro, in memory on a virtual clock or over real sockets.

    from flowmaestro import FlowMaestroClient
    from flowmaestro.testing import FakeFlowMaestro

    with FakeFlowMaestro() as fake, fake.installed():
        fake.workflow("wf_invoice", outputs={"total": 7})
        client = FlowMaestroClient()

The names for cassettes, stores and the server are imported on first use, the other names together
with this module. Of these imports, only that of the server loads an HTTP stack or an event loop.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from flowmaestro.testing.checkpoints import MemoryCheckpoint
from flowmaestro.testing.fake import FakeFlowMaestro
from flowmaestro.testing.model.dialects import Events, MessageAnswers, Shapes
from flowmaestro.testing.model.executions import Execution, InputField
from flowmaestro.testing.model.faults import Fault
from flowmaestro.testing.model.plans import Node, ScriptedEvent
from flowmaestro.testing.model.replies import EventStream, FakeReply
from flowmaestro.testing.model.requests import RecordedRequest
from flowmaestro.testing.model.webhooks import Delivery
from flowmaestro.testing.scripting import UnusedScriptWarning
from flowmaestro.testing.virtual.clock import VirtualClock
from flowmaestro.testing.virtual.playback import Quiet
from flowmaestro.testing.virtual.scripted import AsyncScriptedTransport, ScriptedTransport
from flowmaestro.testing.virtual.transport import AsyncMemoryTransport, MemoryTransport

if TYPE_CHECKING:
    from flowmaestro.testing.cassettes import Cassette, CassetteError, CassetteMismatch
    from flowmaestro.testing.drivers import check_driver
    from flowmaestro.testing.server.serve import running_server, serve
    from flowmaestro.testing.stores import check_async_store, check_store

__all__ = [
    "AsyncMemoryTransport",
    "AsyncScriptedTransport",
    "Cassette",
    "CassetteError",
    "CassetteMismatch",
    "Delivery",
    "EventStream",
    "Events",
    "Execution",
    "FakeFlowMaestro",
    "FakeReply",
    "Fault",
    "InputField",
    "MemoryCheckpoint",
    "MemoryTransport",
    "MessageAnswers",
    "Node",
    "Quiet",
    "RecordedRequest",
    "ScriptedEvent",
    "ScriptedTransport",
    "Shapes",
    "UnusedScriptWarning",
    "VirtualClock",
    "check_async_store",
    "check_driver",
    "check_store",
    "running_server",
    "serve",
]


_LATER = {
    "Cassette": "cassettes",
    "CassetteError": "cassettes",
    "CassetteMismatch": "cassettes",
    "check_async_store": "stores",
    "check_driver": "drivers",
    "check_store": "stores",
    "running_server": "server.serve",
    "serve": "server.serve",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    return found


def __dir__() -> list[str]:
    return __all__
