"""What an open stream still says once its execution is known to have ended: nothing is lost."""

from __future__ import annotations

from typing import Any

import pytest

from flowmaestro_core.actions import Close, Done, Read
from flowmaestro_core.http.messages import Phase
from flowmaestro_core.showing.timeline import NOT_FOLLOWED, timeline_svg
from flowmaestro_core.streams.event_stream import DRAIN_IDLE, DRAIN_READS
from flowmaestro_core.streams.sse import MAX_EVENT_SIZE
from tests.harness.core.followed import COMPLETED, CONNECTED, ENDED, asked_after, kinds, opened
from tests.harness.core.stepping import KEEPALIVE, Stepper, an_envelope, sse

CONNECTED_ENDED = sse("connected", {"execution_id": "ex_1", "status": "completed"})
NODE = sse("node:completed", {"nodeId": "n"})


def told_that_it_has_ended() -> Stepper:
    """A stream that was quiet, and has asked."""
    stream = opened()
    asked_after(stream)
    assert stream.replies(200, ENDED) == Read(DRAIN_IDLE)
    return stream


def test_events_received_during_the_last_probe_come_before_the_end() -> None:
    stream = told_that_it_has_ended()
    stream.receives(NODE + NODE[:5])
    stream.takes()
    stream.receives(NODE[5:])
    assert stream.takes() == Read(DRAIN_IDLE)
    assert stream.stays_quiet() == Close()
    stream.closes()
    assert isinstance(stream.takes(), Done)
    assert kinds(stream) == ["node:completed", "node:completed", "execution:completed"]


def test_a_received_terminal_event_replaces_the_made_one() -> None:
    stream = told_that_it_has_ended()
    stream.receives(NODE + sse("execution:completed", {"own": True}) + NODE)
    assert stream.takes() == Close()
    stream.closes()
    assert isinstance(stream.takes(), Done)
    assert kinds(stream) == ["node:completed", "execution:completed"]
    assert stream.items[-1]["own"] is True


@pytest.mark.parametrize("last_words", [b"", COMPLETED])
def test_only_one_terminal_event_is_kept(last_words: bytes) -> None:
    stream: Any = told_that_it_has_ended()
    if last_words:
        stream.receives(last_words)
    else:
        stream.stays_quiet()
    stream.closes()
    assert [event["type"] for event in stream.machine.seen_events] == ["execution:completed"]
    assert NOT_FOLLOWED in timeline_svg(stream.machine.seen_events)
    assert "total" not in timeline_svg(stream.machine.seen_events)


def test_no_reconnection_while_a_stream_ends() -> None:
    lost, ended = told_that_it_has_ended(), told_that_it_has_ended()
    lost.fails(Phase.REPLY_BROKEN)
    ended.ends()
    for stream in (lost, ended):
        assert isinstance(stream.takes(), Done)
        assert kinds(stream) == ["execution:completed"]


def test_an_event_too_large_does_not_replace_a_known_ending() -> None:
    stream = told_that_it_has_ended()
    assert stream.receives(b"data: " + b"x" * MAX_EVENT_SIZE) == Close()
    stream.closes()
    assert isinstance(stream.takes(), Done)
    assert kinds(stream) == ["execution:completed"]


def test_a_stream_that_never_stops_is_closed_after_so_many_reads() -> None:
    stream = told_that_it_has_ended()
    for _ in range(DRAIN_READS):
        assert stream.action == Read(DRAIN_IDLE)
        stream.receives(KEEPALIVE)
    assert stream.action == Close()


def test_a_stream_with_an_ending_sends_no_more_probes() -> None:
    stream = opened()
    stream.receives(CONNECTED)
    stream.takes()
    asked_after(stream)
    asked = len(stream.sent)
    stream.replies(200, an_envelope({"status": "cancelled"}))
    stream.receives(CONNECTED_ENDED)
    stream.takes()
    assert stream.stays_quiet() == Close()
    stream.closes()
    assert kinds(stream) == ["connected", "connected", "execution:cancelled"]
    assert len(stream.sent) == asked
