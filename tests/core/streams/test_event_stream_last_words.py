"""What an open stream still says once its execution is known to have ended: nothing is lost."""

from __future__ import annotations

from flowmaestro_core.actions import Close, Done, Read
from flowmaestro_core.http.messages import Phase
from flowmaestro_core.streams.stream import DRAIN_IDLE, DRAIN_MAX
from tests.harness.core.followed import COMPLETED, CONNECTED, ENDED, asked_after, kinds, opened
from tests.harness.core.stepping import KEEPALIVE, Stepper, an_envelope, sse

NODE = sse("node:completed", {"nodeId": "n"})


def told_that_it_has_ended() -> Stepper:
    """A stream that was quiet, and has asked."""
    stream = opened()
    asked_after(stream)
    assert stream.replies(200, ENDED) == Read(DRAIN_IDLE)
    return stream


def test_events_that_came_beside_the_answer_are_handed_over_before_the_end() -> None:
    stream = told_that_it_has_ended()
    stream.receives(NODE + NODE[:5])
    stream.takes()
    stream.receives(NODE[5:])
    assert stream.takes() == Read(DRAIN_IDLE)
    assert stream.stays_quiet() == Close()
    stream.closes()
    assert isinstance(stream.takes(), Done)
    assert kinds(stream) == ["node:completed", "node:completed", "execution:completed"]


def test_the_terminal_event_itself_is_better_than_one_that_is_made() -> None:
    stream = told_that_it_has_ended()
    stream.receives(NODE + sse("execution:completed", {"own": True}) + NODE)
    assert stream.takes() == Close()
    stream.closes()
    assert isinstance(stream.takes(), Done)
    assert kinds(stream) == ["node:completed", "execution:completed"]
    assert stream.items[-1]["own"] is True


def test_a_connection_that_is_lost_meanwhile_is_not_made_anew() -> None:
    lost, ended = told_that_it_has_ended(), told_that_it_has_ended()
    lost.fails(Phase.REPLY_BROKEN)
    ended.ends()
    for stream in (lost, ended):
        assert isinstance(stream.takes(), Done)
        assert kinds(stream) == ["execution:completed"]


def test_a_stream_that_goes_on_for_ever_is_heard_out_for_a_second() -> None:
    stream = told_that_it_has_ended()
    told_at = stream.now
    while isinstance(stream.action, Read):
        stream.receives(KEEPALIVE, after=0.3)
    assert stream.action == Close()
    assert stream.now - told_at <= DRAIN_MAX + 0.3


def test_a_slow_caller_misses_nothing() -> None:
    stream = told_that_it_has_ended()
    stream.receives(NODE)
    assert stream.takes(after=60.0) == Read(DRAIN_IDLE)
    stream.receives(COMPLETED)
    stream.closes()
    assert kinds(stream) == ["node:completed", "execution:completed"]


def test_it_asks_no_more() -> None:
    stream = opened()
    stream.receives(CONNECTED)
    stream.takes()
    asked_after(stream)
    asked = len(stream.sent)
    stream.replies(200, an_envelope({"status": "cancelled"}))
    stream.receives(b'event: execution:completed\ndata: {"outputs\n\n')
    assert stream.stays_quiet() == Close()
    stream.closes()
    assert kinds(stream) == ["connected", "execution:cancelled"]
    assert len(stream.sent) == asked
