"""Following an event stream: opening it, and its plain course to a true end."""

from __future__ import annotations

from typing import Any

import pytest

from flowmaestro_core.actions import Close, Done, Emit, Open, Read, Send, Wait
from flowmaestro_core.errors import (
    AuthenticationError,
    AuthorizationError,
    ConnectionError,
    NotFoundError,
    StreamError,
)
from flowmaestro_core.machines import machine_for
from flowmaestro_core.streams.event_stream import MOST_REMEMBERED, SHORT_EVENT
from flowmaestro_core.streams.events import EXECUTION_TERMINAL
from tests.harness.core.followed import (
    COMPLETED,
    CONNECTED,
    ENDED,
    EVENTS,
    RUNNING,
    THREAD,
    kinds,
    opened,
    reconnected,
    streaming,
)
from tests.harness.core.stepping import Stepper, a_context, sse

# The plain course


def test_events_are_emitted_in_order_up_to_the_terminal_one() -> None:
    stream = streaming()
    action = stream.start()
    assert isinstance(action, Open)
    assert action.request.url.endswith("/executions/ex_1/events")
    assert "last-event-id" not in action.request.headers
    assert isinstance(stream.opens(), Read)
    stream.receives(CONNECTED + sse("node:started", {"nodeId": "n1"})[:20])
    assert stream.takes_all() == Read(5.0)
    stream.receives(sse("node:started", {"nodeId": "n1"})[20:])
    stream.takes()
    assert stream.receives(COMPLETED) == Close()
    action = stream.closes()
    assert isinstance(action, Emit)
    assert action.items[0]["outputs"] == {"a": 1}
    assert isinstance(stream.takes(), Done)
    assert kinds(stream) == ["connected", "node:started", "execution:completed"]
    assert stream.items[1]["node_id"] == "n1"


@pytest.mark.parametrize("kind", sorted(EXECUTION_TERMINAL))
def test_each_terminal_event_closes_before_it_is_handed_over(kind: str) -> None:
    stream = opened()
    assert stream.receives(sse(kind) + sse("node:started")) == Close()
    action = stream.closes()
    assert isinstance(action, Emit)
    assert {"outputs", "error"} <= set(action.items[0])
    assert isinstance(stream.takes(), Done)
    assert kinds(stream) == [kind]


def test_machine_for_makes_an_event_stream_machine() -> None:
    stream = Stepper(machine_for(EVENTS, a_context(), "token"), terminal=EXECUTION_TERMINAL)
    assert isinstance(stream.start(), Open)


def test_request_id_is_that_of_the_last_opening() -> None:
    assert opened().machine.request_id == "req_7"  # type: ignore[attr-defined]


# What it remembers


def test_stream_of_an_execution_keeps_its_events() -> None:
    stream: Any = opened()
    stream.receives(CONNECTED + sse("node:started", {"nodeId": "a", "outputs": {"x": 1}}))
    stream.takes_all()
    reconnected(stream)
    long = sse("node:completed", {"output": "x" * SHORT_EVENT})
    stream.receives(sse("node:stream") + long + COMPLETED)
    stream.takes_all()
    stream.closes()
    assert stream.machine.seen_events == (
        {"type": "connected", "status": "running"},
        {"type": "node:started", "node_id": "a"},
        {"type": "stream:reconnected"},
        {"type": "node:completed"},
        {"type": "execution:completed"},
    )


def test_only_the_last_thousand_events_are_kept() -> None:
    stream: Any = opened()
    for number in range(MOST_REMEMBERED + 5):
        stream.receives(sse("node:started", {"node_id": str(number)}))
        stream.takes()
    assert len(stream.machine.seen_events) == MOST_REMEMBERED
    assert stream.machine.seen_events[0] == {"type": "node:started", "node_id": "5"}
    stream.receives(COMPLETED)
    stream.closes()
    assert len(stream.machine.seen_events) == MOST_REMEMBERED
    assert stream.machine.seen_events[-1] == {"type": "execution:completed"}


def test_stream_of_a_thread_keeps_no_events() -> None:
    stream: Any = opened(THREAD)
    stream.receives(CONNECTED)
    assert stream.machine.seen_events is None


# Opening


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, AuthenticationError), (403, AuthorizationError), (404, NotFoundError)],
)
@pytest.mark.parametrize("again", [False, True])
def test_refusals_map_to_their_classes_on_opening_and_on_reconnecting(
    status: int, kind: Any, again: bool
) -> None:
    stream = opened() if again else streaming()
    stream.waits() if stream.action and stream.ends() else stream.start()
    stream.opens(status, "application/json")
    stream.receives(b'{"error": {"code": "refused", "message": "no"}}')
    stream.ends()
    assert type(stream.error) is kind
    assert stream.error.code == "refused"


def test_opening_is_retried_like_any_call() -> None:
    stream = streaming()
    stream.start()
    for _ in range(3):
        assert isinstance(stream.fails(), Wait)
        stream.waits()
    assert isinstance(stream.fails(), Send)
    stream.replies(200, RUNNING)
    assert isinstance(stream.error, ConnectionError)
    assert len(stream.error.attempts) == 4


def test_the_execution_is_polled_if_no_stream_can_be_opened() -> None:
    stream = streaming(options={"max_retries": 0})
    stream.start()
    assert isinstance(stream.fails(timed_out=True, after=30.0), Send)
    assert isinstance(stream.replies(200, ENDED), Emit)
    assert isinstance(stream.takes(), Done)


def test_json_is_not_taken_for_a_stream() -> None:
    stream = streaming()
    stream.start()
    stream.opens(200, "application/json", {"X-Request-ID": "req_9"})
    stream.receives(b'{"data": {}}')
    assert isinstance(stream.ends(), Send)
    stream.replies(200, RUNNING)
    assert isinstance(stream.error, StreamError)
    assert (stream.error.status_code, stream.error.request_id) == (200, "req_9")


# 204: nothing to stream


def refused_with_204(stream: Stepper) -> Stepper:
    stream.opens(204, "")
    stream.ends()
    return stream


@pytest.mark.parametrize("again", [False, True])
def test_a_204_for_a_running_execution_is_an_error(again: bool) -> None:
    stream = opened() if again else streaming()
    stream.waits() if stream.action and stream.ends() else stream.start()
    refused_with_204(stream)
    stream.replies(200, RUNNING)
    assert isinstance(stream.error, StreamError)
    assert "204" in stream.error.message
