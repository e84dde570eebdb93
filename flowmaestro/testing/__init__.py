"""The testing kit: a fake FlowMaestro, in memory on a virtual clock or over real sockets.

    from flowmaestro import FlowMaestroClient
    from flowmaestro.testing import FakeFlowMaestro

    with FakeFlowMaestro() as fake, fake.installed():
        fake.workflow("wf_invoice", outputs={"total": 7})
        client = FlowMaestroClient()

`fake/` is the service, in memory or on a port. `virtual/` has the transports in memory and their
clocks, `cassettes/` the recordings, `conformance/` the checks of what others write. `crashes/`
kills a task of the user at every step.

The names for cassettes, stores, crashes and the server are imported on first use, the other names
together with this module. Of these imports, only that of the server loads an HTTP stack or an event
loop.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from flowmaestro.testing.fake.checkpoints import MemoryCheckpoint
from flowmaestro.testing.fake.fake_flowmaestro import FakeFlowMaestro
from flowmaestro.testing.fake.model.dialects import Events, MessageAnswers, Shapes
from flowmaestro.testing.fake.model.executions import Execution, InputField
from flowmaestro.testing.fake.model.faults import Fault
from flowmaestro.testing.fake.model.plans import Node, ScriptedEvent
from flowmaestro.testing.fake.model.replies import EventStream, FakeReply
from flowmaestro.testing.fake.model.requests import RecordedRequest
from flowmaestro.testing.fake.model.webhooks import Delivery
from flowmaestro.testing.fake.scripting import UnusedScriptWarning
from flowmaestro.testing.virtual.clock import VirtualClock
from flowmaestro.testing.virtual.memory import AsyncMemoryTransport, MemoryTransport
from flowmaestro.testing.virtual.playback import Quiet
from flowmaestro.testing.virtual.scripted import AsyncScriptedTransport, ScriptedTransport

if TYPE_CHECKING:
    from flowmaestro.testing.cassettes import Cassette, CassetteError, CassetteMismatch
    from flowmaestro.testing.conformance.drivers import check_driver
    from flowmaestro.testing.conformance.stores import check_async_store, check_store
    from flowmaestro.testing.crashes.effects import Effect
    from flowmaestro.testing.crashes.exploration import every_crash
    from flowmaestro.testing.crashes.report import CrashFinding, CrashReport
    from flowmaestro.testing.crashes.steps import ProcessDied
    from flowmaestro.testing.fake.server.serve import running_server, serve

__all__ = [
    "AsyncMemoryTransport",
    "AsyncScriptedTransport",
    "Cassette",
    "CassetteError",
    "CassetteMismatch",
    "CrashFinding",
    "CrashReport",
    "Delivery",
    "Effect",
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
    "ProcessDied",
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
    "every_crash",
    "running_server",
    "serve",
]


_LATER = {
    "CrashFinding": "crashes.report",
    "CrashReport": "crashes.report",
    "Effect": "crashes.effects",
    "ProcessDied": "crashes.steps",
    "every_crash": "crashes.exploration",
    "Cassette": "cassettes",
    "CassetteError": "cassettes",
    "CassetteMismatch": "cassettes",
    "check_async_store": "conformance.stores",
    "check_driver": "conformance.drivers",
    "check_store": "conformance.stores",
    "running_server": "fake.server.serve",
    "serve": "fake.server.serve",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    return found


def __dir__() -> list[str]:
    return __all__
