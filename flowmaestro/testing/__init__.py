"""The testing kit: an embedded FlowMaestro, in memory on a virtual clock or over real sockets.

    from flowmaestro import FlowMaestroClient
    from flowmaestro.testing import FakeFlowMaestro, MemoryTransport

    fake = FakeFlowMaestro()
    client = FlowMaestroClient(api_key=fake.api_key, transport=MemoryTransport(fake))

The server is imported when it is asked for; the rest loads no HTTP stack and no event loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowmaestro.testing.clock import VirtualClock
from flowmaestro.testing.dialect import Events, MessageAnswers, Shapes
from flowmaestro.testing.executions import InputField, Node
from flowmaestro.testing.fake import FakeFlowMaestro
from flowmaestro.testing.memory import AsyncMemoryTransport, MemoryTransport
from flowmaestro.testing.replies import EventStream, FakeReply, StreamChunk
from flowmaestro.testing.webhooks import Delivery

if TYPE_CHECKING:
    from flowmaestro.testing.server import running_server, serve

__all__ = [
    "AsyncMemoryTransport",
    "Delivery",
    "EventStream",
    "Events",
    "FakeFlowMaestro",
    "FakeReply",
    "InputField",
    "MemoryTransport",
    "MessageAnswers",
    "Node",
    "Shapes",
    "StreamChunk",
    "VirtualClock",
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
