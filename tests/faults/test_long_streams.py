"""Thousands of events leave nothing behind, and a huge one passes through few hands."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any, Callable, Iterator, List

import pytest

from flowmaestro import StreamTimes
from tests.harness.faults.cells import EVERY
from tests.harness.faults.clients import KEY, all_at_once, client_over
from tests.harness.faults.endurance_sources import BATCH, Events, HugeEvent
from tests.harness.runners import RUNNERS, Runner

EVENTS = 10_000 if EVERY == 1 else 1_000
MEASURED = EVENTS // 10
"""Events between two looks at the memory in use."""
GROWTH = 32 * 1024
HUGE = 8 * 1024 * 1024
LARGE = 512 * 1024
UNHURRIED = StreamTimes(event_idle=300.0, event_idle_max=300.0)
"""The server knows nothing but events."""

HUNG = 300.0
"""Ten thousand events may take a minute on a busy machine."""

ON_EVERY_TRANSPORT = pytest.mark.parametrize("runner", RUNNERS.values(), ids=str)
Hear = Callable[[Any], None]


def follow(runner: Runner, url: str, hear: Hear) -> None:
    """Call `hear` with every event of a stream; no event is kept beside it."""

    async def listen(transport: Any, _: None) -> None:
        client = client_over(runner, transport, api_key=KEY, base_url=url, stream_times=UNHURRIED)
        async for event in client.executions.stream("exec"):
            hear(event)

    all_at_once(runner, listen, [None], 1, HUNG)


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
def test_many_events_leave_nothing_behind(runner: Runner, traced: None) -> None:
    last = 0
    early: List[int] = []
    late: List[int] = []

    def hear(event: Any) -> None:
        nonlocal last
        if event["type"] != "node:stream":
            return
        assert event["number"] == last + 1
        last = event["number"]
        if last % MEASURED == 0:
            (early if last <= EVENTS // 2 else late).append(memory_in_use())
        if last % BATCH == 0:
            server.more()

    server = Events(EVENTS)
    server.more()
    with server:
        follow(runner, server.url, hear)
    assert last == EVENTS
    # What is under way at one point comes and goes; what is left behind is there at every point.
    assert min(late) - min(early) < GROWTH


@ON_EVERY_TRANSPORT
@pytest.mark.parametrize("unit", ["x", "é", "🦆"], ids=["ASCII", "two bytes", "four bytes"])
def test_a_huge_event_is_copied_little(runner: Runner, unit: str) -> None:
    """Not so with one astral character in megabytes of ASCII: a text of Python's then takes four
    bytes for each character, and JSON is read from one text into another.
    """
    assert peak_of(runner, HugeEvent(HUGE, unit)) <= 5 * HUGE


@ON_EVERY_TRANSPORT
def test_a_large_event_in_small_pieces_is_copied_little(runner: Runner) -> None:
    assert peak_of(runner, HugeEvent(LARGE, piece=64)) <= 5 * LARGE


@pytest.mark.parametrize("line", ["data: ", "data:"])
def test_a_large_event_of_many_lines_is_copied_little(line: str) -> None:
    size = 4 * LARGE  # beside what the lines take by themselves
    assert peak_of(RUNNERS["sockets"], HugeEvent(size, line=line)) <= 5 * size


def peak_of(runner: Runner, server: HugeEvent) -> int:
    """How many bytes were in use at most, while the event came."""
    lengths: List[int] = []

    def hear(event: Any) -> None:
        if event["type"] == "node:stream":
            lengths.append(len(event["output"]))

    with HugeEvent(1000) as first:  # what is loaded at the first use is no part of it
        follow(runner, first.url, str)
    with server:
        tracemalloc.start()
        try:
            follow(runner, server.url, hear)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert lengths == [server.length]
    return peak
