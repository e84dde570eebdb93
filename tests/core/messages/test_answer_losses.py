"""Following one answer whose stream is lost, cannot be opened, or stays silent."""

from __future__ import annotations

from dataclasses import replace
from typing import Dict

import pytest

from flowmaestro_core.actions import Close, Read, Send, Wait
from flowmaestro_core.errors import (
    FlowMaestroError,
    StreamError,
    TimeoutError,
)
from flowmaestro_core.http.messages import Phase
from flowmaestro_core.policy.stream_times import StreamTimes
from flowmaestro_core.streams.event_stream import DRAIN_IDLE
from tests.harness.core.answers import (
    NOT_YET,
    STARTED,
    WRITTEN,
    completed,
    finishes,
    own,
    started,
    token,
)
from tests.harness.core.stepping import (
    KEEPALIVE,
    a_context,
    sse,
)


def test_the_rest_of_a_lost_answer_is_in_the_messages() -> None:
    stream = own()
    stream.receives(STARTED + token("Hello"))
    stream.takes_all()
    stream.fails(Phase.REPLY_BROKEN)
    stream.replies(200, NOT_YET)
    assert stream.action == Wait(pytest.approx(0.225))
    stream.waits()
    stream.replies(200, WRITTEN)
    finishes(stream, "message:started", "Hello", " you", "message:completed")


def test_the_first_error_is_raised_if_the_messages_never_have_the_answer() -> None:
    stream = own()
    stream.receives(STARTED)
    stream.takes_all()
    stream.ends()
    begun = stream.now
    while isinstance(stream.action, (Send, Wait)):
        stream.waits() if isinstance(stream.action, Wait) else stream.replies(200, NOT_YET)
    assert isinstance(stream.error, StreamError)
    assert stream.now == pytest.approx(begun + 130)


@pytest.mark.parametrize("status", [404, 401])
def test_the_first_error_is_raised_if_the_messages_cannot_be_read(status: int) -> None:
    stream = own()
    stream.receives(STARTED)
    stream.takes_all()
    stream.ends()
    stream.replies(status)
    assert isinstance(stream.error, StreamError)
    assert isinstance(stream.error.__context__, FlowMaestroError)
    assert stream.error.__context__.status_code == status


def test_without_a_message_id_the_messages_are_not_read() -> None:
    stream = own()
    stream.receives(sse("message:token", {"token": "Hel"}))
    stream.takes()
    stream.ends()
    assert isinstance(stream.error, StreamError)
    assert len(stream.sent) == 1


def test_keepalives_do_not_extend_the_stream_of_the_post() -> None:
    stream = own()
    assert stream.action == Read(130.0)
    assert stream.receives(KEEPALIVE, after=80.0) == Read(50.0)
    assert stream.receives(KEEPALIVE, after=50.0) == Read(DRAIN_IDLE)
    assert stream.stays_quiet() == Close()
    stream.closes()
    assert isinstance(stream.error, TimeoutError)


def test_event_that_arrived_during_a_hanging_poll_keeps_the_answer_alive() -> None:
    """The silence is over while the poll hangs, but the agent has spoken meanwhile."""
    stream = started(a_context(timeout_override=30.0))
    stream.opens()
    stream.receives(STARTED)
    stream.takes()
    while stream.now < 1030.0:
        if isinstance(stream.action, Send):
            stream.fails(timed_out=True, after=stream.action.timeout)
        else:
            stream.stays_quiet()
    assert stream.action == Read(DRAIN_IDLE)
    stream.receives(token("Hello"))  # It came at 1028.
    assert stream.takes() == Read(5.0)
    assert isinstance(stream.stays_quiet(), Send)
    stream.replies(200, NOT_YET)
    stream.receives(token(" you") + completed(), after=10.0)
    finishes(stream, "message:started", "Hello", " you", "message:completed")


def test_at_the_deadline_reading_stops_at_the_terminal_event() -> None:
    stream = own()
    stream.receives(KEEPALIVE, after=80.0)
    assert stream.receives(KEEPALIVE, after=50.0) == Read(DRAIN_IDLE)
    assert stream.receives(completed("") + token("late")) == Close()
    finishes(stream, "message:completed")


def test_a_silent_stream_of_the_post_is_probed_once_the_message_id_is_known() -> None:
    stream = own()
    stream.receives(STARTED)
    assert stream.takes() == Read(5.0)
    assert isinstance(stream.receives(KEEPALIVE, after=5.0), Send)
    stream.replies(200, WRITTEN)
    finishes(stream, "message:started", "Hello you", "message:completed")


@pytest.mark.parametrize(
    ("options", "bytes_idle", "limit"),
    [
        ({}, 0.5, 130.0),
        ({}, 200.0, 130.0),
        ({"timeout": 300.0}, 90.0, 300.0),
        ({"timeout_override": 10.0}, 90.0, 10.0),
        ({"timeout_override": 10.0}, 5.0, 10.0),
        ({"timeout_override": 150.0}, 90.0, 150.0),
    ],
)
def test_a_stream_of_an_answer_may_be_quiet_as_long_as_the_call(
    options: Dict[str, float], bytes_idle: float, limit: float
) -> None:
    times = StreamTimes(bytes_idle=bytes_idle)
    context = replace(a_context(**options), stream_times=times)
    stream = started(context)
    assert stream.opens() == Read(limit)
    assert stream.stays_quiet() == Close()
    stream.closes()
    assert isinstance(stream.error, TimeoutError)
    assert len(stream.sent) == 1
