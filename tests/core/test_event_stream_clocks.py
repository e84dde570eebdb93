"""The clocks of an event stream, in virtual time: when it doubts, asks, and gives up."""

from __future__ import annotations

from typing import Any

import pytest
from followed import CONNECTED, RUNNING, THREAD, asked_after, kinds, opened, streaming
from stepping import KEEPALIVE, an_envelope, sse

from flowmaestro_core.actions import Close, Done, Emit, Read, Send, Wait
from flowmaestro_core.errors import AuthenticationError, NotFoundError, StreamError, TimeoutError
from flowmaestro_core.http import Phase
from flowmaestro_core.stream_times import StreamTimes

# The two clocks


def test_the_default_times() -> None:
    assert StreamTimes() == StreamTimes(event_idle=5.0, event_idle_max=30.0, bytes_idle=90.0)


def test_a_quiet_stream_asks_for_the_execution_and_ever_less_often() -> None:
    stream = opened()
    pauses = []
    for _ in range(7):
        pauses.append(asked_after(stream))
        assert stream.sent[-1].url.endswith("/executions/ex_1")
        assert isinstance(stream.replies(200, RUNNING), Read)
        stream.receives(KEEPALIVE)
    assert pauses == pytest.approx([5.0, 7.5, 11.25, 16.875, 25.3125, 30.0, 30.0])


def test_a_live_event_makes_it_patient_again() -> None:
    stream = opened()
    for _ in range(5):
        asked_after(stream)
        stream.replies(200, RUNNING)
        stream.receives(KEEPALIVE)
    stream.receives(sse("node:started"))
    stream.takes()
    assert asked_after(stream) == 5.0


def test_connected_and_keepalives_are_no_events() -> None:
    stream = opened()
    stream.receives(CONNECTED)
    stream.takes()
    stream.receives(KEEPALIVE, after=4.0)
    assert stream.action == Read(1.0)
    assert isinstance(stream.stays_quiet(), Send)


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_an_execution_that_ended_in_silence_gets_its_event(status: str) -> None:
    stream = opened()
    asked_after(stream)
    ended = {"id": "ex_1", "status": status, "outputs": None, "error": "why", "completed_at": "t"}
    assert stream.replies(200, an_envelope(ended)) == Close()
    stream.closes()
    expected = {"type": f"execution:{status}", "execution_id": "ex_1", **ended}
    del expected["id"]
    assert stream.items == [expected]
    assert isinstance(stream.takes(), Done)
    assert stream.machine.execution["status"] == status  # type: ignore[attr-defined]


def test_ten_silent_minutes_miss_no_cancellation_by_more_than_30_seconds() -> None:
    stream = opened()
    while stream.now < 1600.0:
        action = stream.action
        if isinstance(action, Send):
            stream.replies(200, RUNNING)
        elif stream.now + 1.0 > 1000.0 and int(stream.now) % 30 == 29:
            stream.receives(KEEPALIVE, after=1.0)
        else:
            assert isinstance(action, Read)
            stream.stays_quiet(after=min(action.patience, 1.0))
    cancelled_at = stream.now
    asked_after(stream)
    stream.replies(200, an_envelope({"status": "cancelled"}))
    assert stream.now - cancelled_at <= 30.0
    stream.closes()
    assert kinds(stream) == ["execution:cancelled"]


def test_a_nearly_spent_window_stretches_the_questions() -> None:
    stream = opened()
    asked_after(stream)
    spent = {
        "X-RateLimit-Limit": "60",
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": "784111837",
        "Date": "Sun, 06 Nov 1994 08:49:37 GMT",
    }
    stream.replies(200, RUNNING, spent)
    stream.receives(KEEPALIVE)
    assert stream.action == Read(60.0)


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_question_that_fails_for_now_does_not_end_the_stream(status: int) -> None:
    stream = opened()
    asked_after(stream)
    assert isinstance(stream.replies(status), Read)
    assert asked_after(stream) == 7.5
    assert isinstance(stream.fails(), Read)


def test_a_question_put_off_by_the_server_is_put_off() -> None:
    stream = opened()
    asked_after(stream)
    stream.replies(429, headers={"Retry-After": "40"})
    assert asked_after(stream) == 40.0


@pytest.mark.parametrize(("status", "kind"), [(401, AuthenticationError), (404, NotFoundError)])
def test_a_question_refused_for_good_closes_the_stream(status: int, kind: Any) -> None:
    stream = opened()
    asked_after(stream)
    assert stream.replies(status) == Close()
    stream.closes()
    assert isinstance(stream.error, kind)


@pytest.mark.parametrize("data", [None, [], 1])
def test_an_answer_that_is_no_execution_closes_the_stream(data: Any) -> None:
    stream = opened()
    asked_after(stream)
    stream.replies(200, an_envelope(data))
    stream.closes()
    assert stream.error.code == "invalid_response"


def test_a_redirected_question_is_followed() -> None:
    stream = opened()
    asked_after(stream)
    assert isinstance(stream.replies(302, headers={"Location": "/x"}), Send)


def test_a_connection_without_a_byte_for_90_seconds_is_dead() -> None:
    stream = streaming(THREAD)
    stream.start()
    assert stream.opens() == Read(90.0)
    stream.receives(KEEPALIVE, after=89.0)
    assert stream.action == Read(90.0)
    assert stream.stays_quiet() == Close()
    assert stream.closes() == Wait(0.25)
    stream.waits()
    stream.opens()
    assert kinds(stream) == ["stream:reconnected"]


def test_dead_even_while_the_execution_answers() -> None:
    stream = opened()
    while not isinstance(stream.action, Close):
        asked = isinstance(stream.action, Send)
        stream.replies(200, RUNNING) if asked else stream.stays_quiet()
    assert stream.now == 1090.0


def test_while_it_asks_nobody_listens_so_that_time_is_not_held_against_the_stream() -> None:
    stream = opened()
    stream.stays_quiet()
    stream.fails(after=86.0)
    assert isinstance(stream.action, Read)
    assert stream.action.patience > 0
    assert isinstance(stream.receives(sse("node:started")), Emit)


def test_a_quiet_report_that_comes_too_early_is_no_harm() -> None:
    stream = opened()
    assert stream.stays_quiet(after=4.0) == Read(1.0)


def test_a_slow_caller_is_not_held_against_the_stream() -> None:
    stream = opened()
    stream.receives(sse("node:started") + sse("node:completed"))
    assert isinstance(stream.takes(after=500.0), Emit)
    assert stream.takes(after=500.0) == Read(5.0)


# What a run asks for: a deadline, and questions on the ramp of a wait


def test_a_deadline_closes_the_stream() -> None:
    stream = opened(deadline=1003.0)
    assert stream.action == Read(3.0)
    assert stream.stays_quiet() == Close()
    stream.closes()
    assert isinstance(stream.error, TimeoutError)


def test_a_deadline_is_kept_while_events_flow() -> None:
    stream = opened(deadline=1003.0)
    stream.receives(sse("node:started"))
    assert stream.takes(after=3.0) == Close()


def test_a_deadline_met_while_opening_closes_the_stream() -> None:
    stream = streaming(deadline=1003.0)
    stream.start()
    assert stream.opens(after=3.0) == Close()


def test_a_deadline_met_while_asking_closes_the_stream() -> None:
    stream = opened(deadline=1007.0)
    asked_after(stream)
    assert stream.fails(after=2.0) == Close()


def test_no_reconnection_comes_after_the_deadline() -> None:
    stream = opened(deadline=1003.0)
    stream.fails(Phase.REPLY_BROKEN, after=2.9)
    assert isinstance(stream.error, StreamError)
    assert "deadline" in stream.error.message


def test_until_a_live_event_comes_it_asks_on_the_ramp_of_a_wait() -> None:
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
