"""Reach the fake without a network, in virtual time: see `virtual/transport.py` for how."""

from __future__ import annotations

from flowmaestro.testing.fake import FakeFlowMaestro
from flowmaestro.testing.virtual.transport import AsyncWire, SyncWire


class MemoryTransport(SyncWire):
    """A sync transport whose server is `fake`, and whose time is the fake's `clock`.

    `random` are the dice for a client that wants its jitter repeatable. Webhook deliveries that
    come due while time passes are made to the fake's receiver; find them in `fake.deliveries`.
    """

    def __init__(self, fake: FakeFlowMaestro) -> None:
        super().__init__(fake, fake.seed)
        self.fake = fake


class AsyncMemoryTransport(AsyncWire):
    """`MemoryTransport` for an async client, on asyncio and trio alike.

    Every call lets the event loop run other tasks once, and none really waits.
    """

    def __init__(self, fake: FakeFlowMaestro) -> None:
        super().__init__(fake, fake.seed)
        self.fake = fake
