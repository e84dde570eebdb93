"""Lost connections: made anew, resumed, marked, bounded."""

from __future__ import annotations

import json
from typing import Any, Optional

import pytest

from flowmaestro_core.actions import Close, Fail, Open, Read, Send, Wait
from flowmaestro_core.errors import (
    Attempt,
    AuthorizationError,
    ConnectionError,
    FlowMaestroError,
    RateLimitError,
    ServerError,
    StreamError,
)
from flowmaestro_core.http.messages import Phase, TransportFailure
from flowmaestro_core.policy.stream_times import StreamTimes
from flowmaestro_core.streams.sse import MAX_EVENT_SIZE
from tests.harness.core.followed import (
    CONNECTED,
    EVENTS,
    RUNNING,
    THREAD,
    kinds,
    opened,
    reconnected,
    streaming,
)
from tests.harness.core.stepping import KEEPALIVE, an_error, sse

CONNECTED_ENDED = sse("connected", {"execution_id": "ex_1", "status": "completed"})


@pytest.mark.parametrize("clean", [False, True])
def test_a_lost_connection_is_replaced_and_stream_reconnected_is_emitted(clean: bool) -> None:
    stream = opened()
    stream.receives(CONNECTED)
    stream.takes()
    lost = stream.ends() if clean else stream.fails(Phase.REPLY_BROKEN)
    assert lost == Wait(0.375)
    assert isinstance(stream.waits(), Open)
    stream.opens()
    assert stream.items[-1] == {"type": "stream:reconnected", "attempt": 1}
    assert stream.machine.reconnects == 1  # type: ignore[attr-defined]
    stream.takes()
    assert isinstance(stream.receives(CONNECTED), Read)
    assert kinds(stream) == ["connected", "stream:reconnected"]


def test_connected_is_emitted_once_though_the_first_connection_was_lost_before_it() -> None:
    stream = opened()
    for _ in range(2):
        reconnected(stream)
        stream.receives(CONNECTED)
        stream.takes_all()
    assert kinds(stream) == ["stream:reconnected", "connected", "stream:reconnected"]


def test_a_permanent_failure_ends_the_stream_at_once() -> None:
    stream = opened()
    stream.fails(Phase.REPLY_BROKEN)
    stream.waits()
    assert isinstance(stream.fails(Phase.NOT_SENT, permanent=True), Fail)
    assert isinstance(stream.error, ConnectionError)
    assert stream.error.execution_id == "ex_1"


@pytest.mark.parametrize(
    ("status", "outcome", "code"), [(None, Phase.NOT_SENT, "connection_error"), (503, 503, "busy")]
)
def test_the_wait_before_a_reconnection_names_the_loss(
    status: Optional[int], outcome: Any, code: str
) -> None:
    stream = opened()
    lost = stream.fails(Phase.REPLY_BROKEN)
    assert isinstance(lost, Wait)
    assert lost.reconnects
    assert lost.because == Attempt(1, Phase.REPLY_BROKEN, None, lost.seconds)
    stream.waits()
    if status is None:
        refused = stream.fails(Phase.NOT_SENT)
    else:
        stream.opens(status, "application/json")
        stream.receives(json.dumps(an_error("busy")).encode())
        refused = stream.ends()
    assert isinstance(refused, Wait)
    assert refused.reconnects
    assert refused.because == Attempt(2, outcome, code, refused.seconds)


@pytest.mark.parametrize("answered", [True, False])
@pytest.mark.parametrize(("took", "left"), [(2.0, 0.0), (0.25, 0.125)])
def test_a_loss_is_reported_after_a_probe_with_what_is_left_of_the_pause(
    took: float, left: float, answered: bool
) -> None:
    stream = opened()
    assert isinstance(stream.ends(after=5.0), Send)  # The probe was due when the loss came.
    reported = stream.replies(body=RUNNING, after=took) if answered else stream.fails(after=took)
    assert isinstance(reported, Wait)
    assert (reported.seconds, reported.reconnects) == (left, True)
    assert reported.because == Attempt(1, Phase.REPLY_BROKEN, None, left)
    assert isinstance(stream.waits(), Open)


def test_each_reconnection_is_reported_once_even_if_a_last_probe_permits_it() -> None:
    stream = opened(times=StreamTimes(reconnect_for=1.0))
    reports = [stream.fails()]
    for _ in range(2):
        assert isinstance(stream.waits(), Open)
        reports.append(stream.fails(Phase.NOT_SENT))
    # The server was away for too long, so this probe is the last one.
    assert isinstance(reports.pop(), Send)
    reports.append(stream.replies(body=RUNNING, after=0.5))
    assert [report.because for report in reports if isinstance(report, Wait)] == [
        Attempt(1, Phase.REPLY_BROKEN, None, 0.375),
        Attempt(2, Phase.NOT_SENT, "connection_error", 0.625),
        Attempt(3, Phase.NOT_SENT, "connection_error", 0.0),
    ]
    assert isinstance(stream.waits(), Open)
    stream.opens()
    assert kinds(stream) == ["stream:reconnected"]


def test_a_reconnection_resumes_from_the_last_id() -> None:
    stream = opened()
    stream.receives(sse("node:started", id="1") + sse("node:completed", id="2") + b"id: 3\n")
    stream.takes_all()
    assert stream.machine.last_event_id == "2"  # type: ignore[attr-defined]
    stream.ends()
    stream.waits()
    assert stream.sent[-1].headers["last-event-id"] == "2"
    stream.opens()
    stream.takes()
    stream.receives(sse("node:retry", id="3"))
    assert kinds(stream) == ["node:started", "node:completed", "stream:reconnected", "node:retry"]


def test_incomplete_event_is_dropped_at_reconnection() -> None:
    stream = opened()
    stream.receives(b"event: execution:comp")
    reconnected(stream)
    stream.receives(b"leted\ndata: {}\n\n")
    assert stream.items[-1]["type"] == "message"


def test_reconnections_without_progress_are_bounded() -> None:
    stream = opened(THREAD)
    stream.ends()
    while isinstance(stream.action, Wait):
        stream.waits()
        stream.opens()
        stream.takes()
        stream.receives(CONNECTED + KEEPALIVE)
        stream.takes_all()
        stream.fails(Phase.REPLY_BROKEN)
    assert isinstance(stream.error, StreamError)
    assert isinstance(stream.error.__cause__, TransportFailure)
    assert f"60 s; the last failure: {stream.error.__cause__.message}" in stream.error.message
    assert stream.error.request_id is None
    assert stream.waited_for == [0.375, 0.75, 1.5, 3.0, *[3.75] * 14, 1.875]


@pytest.mark.parametrize("events", [EVENTS, THREAD])
def test_one_event_per_connection_does_not_shorten_the_pauses(events: Any) -> None:
    """As with a gateway that breaks each reply after its first event."""
    stream = opened(events)
    for _ in range(40):
        reconnected(stream)
        stream.receives(sse("node:stream"))
        stream.takes()
    assert stream.waited_for == [0.375, 0.75, 1.5, 3.0, *[3.75] * 36]


@pytest.mark.parametrize(("held", "pause"), [(2.0, 3.0), (2.1, 0.375)])
def test_only_a_connection_that_outlasts_the_last_pauses_bound_begins_them_again(
    held: float, pause: float
) -> None:
    """The bound is 2 s; the pause itself was 1.5 s."""
    stream = opened(THREAD)
    for _ in range(3):
        reconnected(stream)
    stream.receives(KEEPALIVE, after=held)
    assert stream.ends() == Wait(pause)


def test_an_answered_probe_keeps_a_lost_stream_alive() -> None:
    """Such as one whose `connected` says each time that the execution, which runs, has ended."""
    stream = opened()
    for _ in range(20):
        reconnected(stream)
        stream.receives(CONNECTED_ENDED)
        assert isinstance(stream.takes_all(), Send)
        stream.replies(200, RUNNING)
    assert stream.waited_for == [0.375, 0.75, 1.5, 3.0, *[3.75] * 16]
    stream.receives(sse("node:stream"))
    stream.takes()
    assert stream.ends() == Wait(3.75)


@pytest.mark.parametrize(
    ("events", "status", "seconds"), [(THREAD, 503, 600), (THREAD, 429, 42), (EVENTS, 429, 42)]
)
def test_retry_after_is_honoured_when_reconnecting(events: Any, status: int, seconds: int) -> None:
    """After a 429, no probe comes before, either."""
    stream = opened(events)
    stream.ends()
    stream.waits()
    stream.opens(status, "text/html", {"Retry-After": str(seconds)})
    assert stream.ends() == Wait(seconds)


def test_a_used_up_daily_quota_ends_the_stream() -> None:
    stream = opened()
    stream.ends()
    stream.waits()
    stream.opens(429, "application/json")
    stream.receives(b'{"error": {"code": "rate_limit_exceeded", "details": {"window": "day"}}}')
    stream.ends()
    assert isinstance(stream.error, RateLimitError)


@pytest.mark.parametrize(("retry", "pause"), [(b"61000", 61.0), (b"9" * 17, 600.0)])
def test_a_long_reconnection_time_is_kept_up_to_ten_minutes(retry: bytes, pause: float) -> None:
    stream = opened(THREAD)
    stream.receives(b"retry: " + retry + b"\n\n")
    assert stream.ends() == Wait(pause)


def test_retry_of_the_stream_is_the_shortest_pause() -> None:
    stream = opened(THREAD)
    stream.receives(b"retry: 7000\n\n")
    assert stream.ends() == Wait(7.0)
    stream.waits()
    stream.opens()
    stream.takes()
    assert stream.ends() == Wait(7.0)


def test_html_of_a_proxy_does_not_end_a_lost_stream() -> None:
    stream = opened()
    stream.ends()
    stream.waits()
    stream.opens(200, "text/html")
    stream.receives(b"<html>")
    stream.ends()
    stream.waits()
    assert isinstance(stream.opens(302, "", {"Location": "https://login.test/"}), Read)
    stream.ends()
    stream.waits()
    stream.opens()
    assert kinds(stream) == ["stream:reconnected"]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_refused_probe_does_not_replace_the_error_of_an_opening(status: int) -> None:
    stream = streaming(options={"max_retries": 0})
    stream.start()
    stream.opens(502, "text/html")
    assert isinstance(stream.ends(), Send)
    stream.replies(status)
    assert isinstance(stream.error, ServerError)
    assert stream.error.status_code == 502
    assert isinstance(stream.error.__context__, FlowMaestroError)
    assert stream.error.__context__.status_code == status


def test_refused_probe_does_not_replace_the_error_of_a_lost_stream() -> None:
    stream = opened(times=StreamTimes(event_idle=120, event_idle_max=120))
    stream.ends()
    while not isinstance(stream.action, Send):
        stream.waits()
        if isinstance(stream.action, Open):
            stream.fails(Phase.NOT_SENT)
    stream.replies(403)
    assert type(stream.error) is StreamError
    assert "no progress for 60 s" in stream.error.message
    assert isinstance(stream.error.__context__, AuthorizationError)


@pytest.mark.parametrize(
    ("event_id", "sent"),
    [("a b", "a b"), ("{1}", "{1}"), ("a ", None), ("\u00e9", None), ("a\tb", None)],
    ids=["inner space", "braces", "outer space", "not ASCII", "tab"],
)
def test_last_event_id_is_sent_if_it_is_printable_ascii(event_id: str, sent: Any) -> None:
    stream = opened()
    stream.receives(sse("node:started", id=event_id))
    stream.takes()
    stream.ends()
    stream.waits()
    assert stream.sent[-1].headers.get("last-event-id") == sent


def test_stream_refused_for_its_event_id_reconnects_without_it() -> None:
    stream = opened()
    stream.receives(sse("node:started", {"node_id": "a"}, id="7"))
    stream.takes_all()
    stream.ends()
    stream.waits()
    stream.opens(431, "text/html")
    stream.ends()
    stream.waits()
    assert isinstance(stream.action, Open)
    assert [it.headers.get("last-event-id") for it in stream.sent[-2:]] == ["7", None]


def test_an_event_too_large_closes_the_stream_with_a_typed_error() -> None:
    stream = opened()
    assert stream.receives(b"data: " + b"x" * MAX_EVENT_SIZE) == Close()
    stream.closes()
    assert (type(stream.error), stream.error.code) == (StreamError, "event_too_large")
