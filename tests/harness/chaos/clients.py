"""The clients: transports with seeded random sources, and a sync client that can be awaited."""

from __future__ import annotations

import random
from typing import Any

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient, StreamTimes
from tests.harness.runners import Runner
from tests.harness.testing.one_face import Awaited

TIMEOUT = 0.6
"""Seconds that one attempt may take."""

TIMES = StreamTimes(
    event_idle=0.2,
    event_idle_max=0.5,
    bytes_idle=0.8,
    reconnect_base=0.02,
    reconnect_max=0.1,
    reconnect_for=2.0,
)


class QuickDice(random.Random):
    """A random source that makes the pauses before retries a twentieth as long."""

    def random(self) -> float:
        return super().random() / 20


def a_client(runner: Runner, transport: Any, url: str, key: str) -> Any:
    """A client over `transport`, which others share."""
    kind = FlowMaestroClient if runner.backend is None else AsyncFlowMaestroClient
    client = kind(api_key=key, base_url=url, transport=transport, stream_times=TIMES)
    client = client.with_options(timeout=TIMEOUT)
    return Awaited(client) if runner.backend is None else client
