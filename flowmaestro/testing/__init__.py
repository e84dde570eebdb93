"""The testing kit: an embedded FlowMaestro, in memory on a virtual clock or over real sockets.

    from flowmaestro import FlowMaestroClient
    from flowmaestro.testing import FakeFlowMaestro

    with FakeFlowMaestro() as fake, fake.installed():
        fake.workflow("wf_invoice", outputs={"total": 7})
        client = FlowMaestroClient()

The server is imported when it is asked for; the rest loads no HTTP stack and no event loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowmaestro.testing.cassettes import Cassette, CassetteError, CassetteMismatch
from flowmaestro.testing.clock import VirtualClock
from flowmaestro.testing.dialect import Events, MessageAnswers, Shapes
from flowmaestro.testing.executions import Execution, InputField
from flowmaestro.testing.explain import Explanation, explain
from flowmaestro.testing.fake import FakeFlowMaestro
from flowmaestro.testing.faults import Fault
from flowmaestro.testing.journal import RecordedRequest
from flowmaestro.testing.memory import AsyncMemoryTransport, MemoryTransport
from flowmaestro.testing.plans import Node, ScriptedEvent
from flowmaestro.testing.played import Quiet
from flowmaestro.testing.replies import EventStream, FakeReply, StreamChunk
from flowmaestro.testing.scripted_transport import AsyncScriptedTransport, ScriptedTransport
from flowmaestro.testing.scripting import UnusedScriptWarning
from flowmaestro.testing.webhooks import Delivery

if TYPE_CHECKING:
    from flowmaestro.testing.server import running_server, serve

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
    "Explanation",
    "FakeFlowMaestro",
    "FakeReply",
    "Fault",
    "InputField",
    "MemoryTransport",
    "MessageAnswers",
    "Node",
    "Quiet",
    "RecordedRequest",
    "ScriptedEvent",
    "ScriptedTransport",
    "Shapes",
    "StreamChunk",
    "UnusedScriptWarning",
    "VirtualClock",
    "explain",
    "running_server",
    "serve",
]


def __getattr__(name: str) -> object:
    if name in ("running_server", "serve"):
        from flowmaestro.testing import server

        return getattr(server, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
