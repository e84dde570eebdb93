"""The clocks of an event stream, in virtual time: when it doubts, asks, and gives up."""

from __future__ import annotations

from typing import Any

import pytest

from flowmaestro_core.actions import Close, Done, Emit, Fail, Open, Read, Send, Wait
from flowmaestro_core.errors import AuthenticationError, NotFoundError, StreamError, TimeoutError
from flowmaestro_core.http.messages import Phase, Response
from flowmaestro_core.policy.stream_times import StreamTimes
from flowmaestro_core.streams.event_stream import DRAIN_IDLE
from tests.harness.core.followed import (
    COMPLETED,
    CONNECTED,
    RUNNING,
    THREAD,
    asked_after,
    kinds,
    opened,
    reconnected,
    streaming,
)
from tests.harness.core.stepping import (
    KEEPALIVE,
    Report,
    Stepper,
    a_response,
    an_envelope,
    sse,
)

# The two clocks


SPENT = {
    "X-RateLimit-Limit": "60",
    "X-RateLimit-Remaining": "0",
    "X-RateLimit-Reset": "784111837",
    "Date": "Sun, 06 Nov 1994 08:49:37 GMT",
}
"""A window that ends in a minute."""


@pytest.mark.parametrize("name", StreamTimes.__dataclass_fields__)
def test_invalid_stream_times_are_refused(name: str) -> None:
    for seconds, error in ((1e-9, ValueError), (float("nan"), ValueError), ("5", TypeError)):
        with pytest.raises(error, match=name):
            StreamTimes(**{name: seconds})  # type: ignore[arg-type]


def test_a_quiet_stream_polls_the_execution_less_and_less_often() -> None:
    stream = opened()
    pauses = []
    for _ in range(7):
        pauses.append(asked_after(stream))
        assert stream.sent[-1].url.endswith("/executions/ex_1")
        assert isinstance(stream.replies(200, RUNNING), Read)
        stream.receives(KEEPALIVE)
    assert pauses == pytest.approx([5.0, 7.5, 11.25, 16.875, 25.3125, 30.0, 30.0])


def test_a_live_event_restarts_the_quiet_period() -> None:
    stream = opened()
    for _ in range(5):
        asked_after(stream)
        stream.replies(200, RUNNING)
        stream.receives(KEEPALIVE)
    stream.receives(sse("node:started"))
    stream.takes()
    assert asked_after(stream) == 5.0


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_a_probe_that_finds_the_end_emits_the_terminal_event(status: str) -> None:
    stream = opened()
    asked_after(stream)
    ended = {"id": "ex_1", "status": status, "outputs": [1], "error": "why", "completed_at": "t"}
    stream.replies(200, an_envelope(ended))
    assert stream.stays_quiet() == Close()
    stream.closes()
    expected = {"type": f"execution:{status}", "execution_id": "ex_1", "polled": True, **ended}
    del expected["id"]
    assert stream.items == [expected]
    assert isinstance(stream.takes(), Done)
    assert stream.machine.last_seen["status"] == status  # type: ignore[attr-defined]


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_transient_failure_of_a_probe_does_not_end_the_stream(status: int) -> None:
    stream = opened()
    asked_after(stream)
    assert isinstance(stream.replies(status), Read)
    assert asked_after(stream) == 7.5
    assert isinstance(stream.fails(), Read)


@pytest.mark.parametrize(("status", "kind"), [(401, AuthenticationError), (404, NotFoundError)])
def test_a_permanent_refusal_of_a_probe_closes_the_stream(status: int, kind: Any) -> None:
    stream = opened()
    asked_after(stream)
    assert stream.replies(status) == Close()
    stream.closes()
    assert isinstance(stream.error, kind)


@pytest.mark.parametrize(
    "page",
    [
        a_response(200, raw=b"<html>Back soon</html>"),
        a_response(200, an_envelope(None)),
        a_response(302, headers={"Location": "https://login.test/"}),
    ],
)
def test_an_unreadable_answer_to_a_probe_does_not_end_an_open_stream(page: Response) -> None:
    stream = opened()
    asked_after(stream)
    assert stream.report(Report("response_received", (page,))) == Read(7.5)
    stream.receives(COMPLETED)
    stream.closes()
    assert kinds(stream) == ["execution:completed"]


def test_a_connection_without_a_byte_for_90_seconds_is_lost() -> None:
    stream = streaming(THREAD)
    stream.start()
    assert stream.opens() == Read(90.0)
    stream.receives(KEEPALIVE, after=89.0)
    assert stream.action == Read(90.0)
    assert stream.stays_quiet() == Close()
    assert stream.closes() == Wait(0.375)
    stream.waits()
    stream.opens()
    assert kinds(stream) == ["stream:reconnected"]


def test_a_dead_connection_is_lost_although_probes_are_answered() -> None:
    stream = opened()
    while not isinstance(stream.action, Close):
        asked = isinstance(stream.action, Send)
        stream.replies(200, RUNNING) if asked else stream.stays_quiet()
    assert stream.now == 1090.0


def test_time_of_a_probe_does_not_count_as_silence() -> None:
    stream = opened()
    stream.stays_quiet()
    stream.fails(after=86.0)
    assert isinstance(stream.action, Read)
    assert stream.action.patience > 0
    assert isinstance(stream.receives(sse("node:started")), Emit)


def test_a_stream_quiet_event_that_comes_too_early_is_harmless() -> None:
    stream = opened()
    assert stream.stays_quiet(after=4.0) == Read(1.0)


# The event-idle clock runs on


def test_the_idle_time_continues_over_connections_without_events() -> None:
    stream = opened(options={"max_retries": 10})
    stream.receives(CONNECTED)
    stream.takes()
    reconnected(stream)
    stream.receives(CONNECTED)
    assert stream.action == Read(4.625)


def test_a_due_probe_waits_for_the_missed_events_after_a_reconnection() -> None:
    stream = opened()
    stream.ends(after=4.9)
    assert stream.waits() == Open(stream.action.request, 1.0, 1)  # type: ignore[union-attr]
    stream.opens(after=0.5)
    assert stream.takes() == Read(pytest.approx(0.125))
    assert isinstance(stream.stays_quiet(), Send)


def test_only_the_first_wait_of_a_pause_has_the_loss_as_because() -> None:
    stream = opened()
    stream.receives(b"retry: 7000\n\n")
    stream.ends()
    assert isinstance(stream.action, Wait)
    assert stream.action.because is not None
    assert stream.action.because.delay == 7.0
    stream.waits()
    stream.replies(200, RUNNING)
    assert isinstance(stream.action, Wait)
    assert stream.action.because is None


@pytest.mark.parametrize("status", [401, 404])
def test_a_permanent_refusal_of_a_probe_ends_a_lost_stream(status: int) -> None:
    stream = opened()
    stream.ends(after=4.9)
    stream.waits()
    stream.fails(timed_out=True, after=1.0)
    stream.replies(status)
    assert isinstance(stream.error, (AuthenticationError, NotFoundError))


# A question does not hold the stream up


def test_a_hanging_probe_times_out_early_and_the_next_one_later() -> None:
    stream = opened()
    timeouts = []
    for _ in range(7):
        asked_after(stream)
        assert isinstance(stream.action, Send)
        timeouts.append(stream.action.timeout)
        stream.fails(timed_out=True, after=stream.action.timeout)
        stream.receives(KEEPALIVE)
    assert timeouts == pytest.approx([1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0])
    asked_after(stream)
    stream.replies(200, RUNNING)
    asked_after(stream)
    assert isinstance(stream.action, Send)
    assert stream.action.timeout == pytest.approx(1.0)


def test_events_do_not_shorten_the_retry_after_of_a_probe() -> None:
    stream = opened()
    asked_after(stream)
    stream.replies(429, headers={"Retry-After": "50"})
    stream.receives(sse("node:started"), after=1.0)
    stream.takes()
    assert asked_after(stream) == 49.0


def test_events_do_not_hasten_a_probe_in_a_used_up_rate_limit() -> None:
    stream = opened()
    asked_after(stream)
    stream.replies(200, RUNNING, SPENT)
    stream.receives(sse("node:started"), after=6.0)
    stream.takes()
    assert asked_after(stream) == 54.0


def test_time_of_a_slow_caller_does_not_count_as_silence() -> None:
    stream = opened()
    stream.receives(sse("node:started") + sse("node:completed"))
    assert stream.takes(after=1000.0) == Read(5.0)


# What a run asks for: a deadline, and questions on the schedule of a wait


def test_events_that_came_before_the_deadline_are_delivered_after_it() -> None:
    stream = opened(deadline=1003.0)
    late = stream.receives(sse("node:started") + sse("node:completed"), after=9.0)
    assert isinstance(late, Emit)
    assert [event["type"] for event in late.items] == ["node:started", "node:completed"]
    assert stream.takes(after=9.0) == Close()
    stream.closes()
    assert isinstance(stream.error, TimeoutError)


def test_a_deadline_is_kept_while_events_flow() -> None:
    stream = opened(deadline=1003.0)
    stream.receives(sse("node:started"))
    assert stream.takes(after=3.0) == Read(DRAIN_IDLE)
    assert stream.stays_quiet() == Close()


def test_a_deadline_during_a_probe_closes_the_stream() -> None:
    stream = opened(deadline=1007.0)
    asked_after(stream)
    assert stream.fails(after=2.0) == Read(DRAIN_IDLE)
    assert stream.stays_quiet() == Close()


def test_run_polls_as_wait_does_until_a_live_event_comes() -> None:
    stream = opened(silent_poll=1.0)
    stream.receives(CONNECTED)
    stream.takes()
    pauses = []
    for _ in range(12):
        pauses.append(asked_after(stream))
        stream.replies(200, RUNNING)
    assert pauses[0] == pytest.approx(0.15)
    assert pauses[-1] == pytest.approx(1.0)
    stream.receives(sse("node:started"))
    stream.takes()
    assert asked_after(stream) == 5.0


@pytest.mark.parametrize("trouble", ["hangs", "unavailable", "put off", "cut", "slow to retry"])
def test_failures_of_the_stream_do_not_delay_the_polls_of_a_run(trouble: str) -> None:
    stream = streaming(deadline=1300.0, silent_poll=1.0)
    stream.start()
    last = stream.now
    while stream.now < 1030.0 and not isinstance(stream.action, Fail):
        if isinstance(stream.action, Send):
            assert stream.now - last <= max(0.35 * (stream.now - 1000.0), 0.15) + 1.0
            last = stream.now
            stream.replies(200, RUNNING)
        elif isinstance(stream.action, Open):
            meet(stream, trouble)
        elif isinstance(stream.action, Wait):
            stream.waits()
        elif isinstance(stream.action, Emit):
            stream.takes()
        else:
            stream.fails(Phase.REPLY_BROKEN, after=0.05)
    assert stream.now - last <= 2.0
    assert not isinstance(stream.action, Fail) or isinstance(stream.error, StreamError)


def meet(stream: Stepper, trouble: str) -> None:
    """What opening the stream comes to."""
    assert isinstance(stream.action, Open)
    if trouble == "hangs":
        assert stream.action.timeout <= 1.0 + 1e-6
        stream.fails(timed_out=True, after=stream.action.timeout)
    elif trouble in ("unavailable", "put off"):
        stream.opens(503, "text/html", {"Retry-After": "50"} if trouble == "put off" else {})
        stream.ends()
    else:
        stream.opens()
        if isinstance(stream.action, Read) and trouble == "slow to retry":
            stream.receives(b"retry: 30000\n\n")


def test_a_new_connection_of_a_run_is_silent_until_its_first_event() -> None:
    stream = opened(deadline=1300.0, silent_poll=1.0)
    stream.receives(sse("node:started"), after=0.1)
    stream.takes()
    assert stream.action == Read(5.0)
    assert isinstance(stream.ends(after=1.0), Send)
    stream.replies(200, RUNNING)
    assert isinstance(stream.waits(), Open)
    stream.opens()
    stream.takes()
    asked_after(stream)
    assert stream.now == pytest.approx(1001.1 + 0.35 * 1.1)
