"""What the stream of an execution remembers for its timeline."""

from __future__ import annotations

import json
from typing import Any
from unittest import mock

from flowmaestro_core.streams.events import event_from_sse
from flowmaestro_core.streams.history import MOST_REMEMBERED, SHORT_EVENT, History
from flowmaestro_core.streams.sse import ServerSentEvent
from tests.harness.core.followed import (
    COMPLETED,
    CONNECTED,
    THREAD,
    opened,
    reconnected,
)
from tests.harness.core.stepping import Stepper, sse


def remembered(stream: Stepper) -> Any:
    machine: Any = stream.machine
    return machine.seen_events


def test_it_keeps_the_last_ones_that_a_timeline_needs() -> None:
    history = History()
    for number in range(MOST_REMEMBERED + 5):
        history.note({"type": "node:stream", "node_id": "a"})
        history.note({"type": "node:started", "node_id": str(number), "outputs": {"x": 1}})
    assert len(history.events) == MOST_REMEMBERED
    assert history.events[0] == {"type": "node:started", "node_id": "5"}


def test_events_may_come_while_they_are_read() -> None:
    history = History()
    came = ServerSentEvent("node:started", "{}")
    history.note({"type": "node:started"}, came)

    def read(sse: ServerSentEvent) -> Any:
        history.note({"type": "node:completed"})
        return event_from_sse(sse)

    with mock.patch("flowmaestro_core.streams.history.event_from_sse", read):
        assert history.events == ({"type": "node:started"},)
    assert len(history.events) == 2


def test_it_keeps_little_of_each() -> None:
    history = History()
    large = {"a": "x" * 10**6}
    history.note({"type": "node:completed", "node_name": large, "duration_ms": 1})
    assert len(json.dumps(history.events)) < 300


def test_the_stream_of_an_execution_remembers_its_events() -> None:
    stream = opened()
    stream.receives(CONNECTED + sse("node:started", {"nodeId": "a"}))
    stream.takes_all()
    reconnected(stream)
    stream.receives(sse("node:completed", {"output": "x" * SHORT_EVENT}) + COMPLETED)
    assert remembered(stream) == (
        {"type": "connected", "status": "running"},
        {"type": "node:started", "node_id": "a"},
        {"type": "stream:reconnected"},
        {"type": "node:completed"},
        {"type": "execution:completed"},
    )


def test_the_stream_of_a_thread_remembers_nothing() -> None:
    stream: Any = opened(THREAD)
    stream.receives(sse("message:started"))
    assert stream.machine.seen_events is None
