"""Ten thousand events leave nothing behind, and a huge one passes through few hands."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any, Callable, Iterator, List

import anyio
import pytest
from endurance_sources import BATCH, Events, HugeEvent
from fault_cells import TRANSPORTS
from fault_clients import AWAITING, KEY

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient

EVENTS = 10_000
WARMED_UP = 1_000
GROWTH = 64 * 1024
HUGE = 8 * 1024 * 1024

ON_EVERY_TRANSPORT = pytest.mark.parametrize("transport", TRANSPORTS)
Hear = Callable[[Any], None]


def follow(transport: str, url: str, hear: Hear) -> None:
    """Call `hear` with every event of a stream; no event is kept beside it."""
    if transport == "requests":
        with FlowMaestroClient(KEY, base_url=url) as client:
            for event in client.executions.stream("exec"):
                hear(event)
        return

    make_transport, backend = AWAITING[transport]

    async def awaiting() -> None:
        async with AsyncFlowMaestroClient(KEY, base_url=url, transport=make_transport()) as client:
            async for event in client.executions.stream("exec"):
                hear(event)

    anyio.run(awaiting, backend=backend)


@pytest.fixture
def traced() -> Iterator[None]:
    gc.collect()
    tracemalloc.start()
    yield
    tracemalloc.stop()


def memory_in_use() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@ON_EVERY_TRANSPORT
def test_many_events_leave_nothing_behind(transport: str, traced: None) -> None:
    last = warm = full = 0

    def hear(event: Any) -> None:
        nonlocal last, warm, full
        if event["type"] != "node:stream":
            return
        assert event["number"] == last + 1
        last = event["number"]
        if last == WARMED_UP:
            warm = memory_in_use()
        if last == EVENTS:
            full = memory_in_use()
        if last % BATCH == 0:
            server.more()

    server = Events(EVENTS)
    server.more()
    with server:
        follow(transport, server.url, hear)
    assert last == EVENTS
    assert full - warm < GROWTH


@ON_EVERY_TRANSPORT
def test_a_huge_event_is_copied_little(transport: str) -> None:
    lengths: List[int] = []

    def hear(event: Any) -> None:
        if event["type"] == "node:stream":
            lengths.append(len(event["output"]))

    server = HugeEvent(HUGE)
    with server:
        tracemalloc.start()
        try:
            follow(transport, server.url, hear)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert lengths == [server.text_length]
    assert peak <= 5 * HUGE
