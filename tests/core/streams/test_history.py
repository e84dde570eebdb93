"""What the stream of an execution remembers for its timeline."""

from __future__ import annotations

import json
from typing import Any

from flowmaestro_core.streams.history import MOST_REMEMBERED, History
from tests.harness.core.followed import (
    CONNECTED,
    ENDED,
    THREAD,
    asked_after,
    opened,
    reconnected,
)
from tests.harness.core.stepping import Stepper, sse


def remembered(stream: Stepper) -> Any:
    machine: Any = stream.machine
    return [event["type"] for event in machine.seen_events]


def test_it_keeps_the_last_ones_that_a_timeline_needs() -> None:
    history = History()
    for number in range(MOST_REMEMBERED + 5):
        history.note({"type": "node:stream", "node_id": "a"})
        history.note({"type": "node:started", "node_id": str(number), "outputs": {"x": 1}})
    assert len(history.events) == MOST_REMEMBERED
    assert history.events[0] == {"type": "node:started", "node_id": "5"}


def test_it_keeps_little_of_each() -> None:
    history = History()
    large = {"a": "x" * 10**6}
    history.note({"type": "node:completed", "node_name": large, "duration_ms": 1})
    assert len(json.dumps(history.events)) < 300


def test_the_stream_of_an_execution_remembers_what_it_handed_over() -> None:
    stream = opened()
    stream.receives(CONNECTED + sse("node:started") + sse("node:completed"))
    assert remembered(stream) == []
    for _ in range(3):
        stream.takes()
    assert remembered(stream) == ["node:started", "node:completed"]
    reconnected(stream)
    asked_after(stream)
    stream.replies(200, ENDED)
    stream.stays_quiet()
    stream.closes()
    told = ["node:started", "node:completed", "stream:reconnected", "execution:completed"]
    assert remembered(stream) == told


def test_the_stream_of_a_thread_remembers_nothing() -> None:
    stream: Any = opened(THREAD)
    stream.receives(sse("message:started"))
    assert stream.machine.seen_events is None
