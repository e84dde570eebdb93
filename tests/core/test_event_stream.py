"""Following an event stream to its true end, in virtual time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, Optional, Tuple

import pytest
from hypothesis import strategies as st
from properties import MachineProperties, collected, json_values, responses
from stepping import (
    KEEPALIVE,
    Possibilities,
    Stepper,
    a_context,
    a_response,
    an_envelope,
    an_error,
    assert_table_is_true,
    sse,
    wander,
)

from flowmaestro_core.actions import Close, Done, Emit, Open, Read, Send, Wait
from flowmaestro_core.errors import (
    AuthenticationError,
    AuthorizationError,
    ConnectionError,
    NotFoundError,
    RateLimitError,
    ServerError,
    StreamError,
    TimeoutError,
)
from flowmaestro_core.event_stream import REMEMBERED_IDS, EventStreamMachine
from flowmaestro_core.events import EXECUTION_TERMINAL
from flowmaestro_core.http import Headers, Phase, ResponseHead
from flowmaestro_core.resources.executions import Executions
from flowmaestro_core.resources.threads import Threads
from flowmaestro_core.sse import MAX_EVENT_SIZE
from flowmaestro_core.stream_times import StreamTimes

EVENTS = Executions.stream("ex_1")
THREAD = Threads.stream("th_1")
CONNECTED = sse("connected", {"execution_id": "ex_1", "status": "running"})
COMPLETED = sse("execution:completed", {"outputs": {"a": 1}})
RUNNING = an_envelope({"id": "ex_1", "status": "running"})
ENDED = an_envelope({"id": "ex_1", "status": "completed", "outputs": {"a": 1}})


def streaming(
    events: Any = EVENTS, options: Optional[Dict[str, Any]] = None, **more: Any
) -> Stepper:
    machine = EventStreamMachine(events, a_context(**(options or {})), "token", **more)
    return Stepper(machine, body_open=more.get("opened", False), terminal=events.terminal)


def opened(events: Any = EVENTS, **more: Any) -> Stepper:
    """A stream whose connection stands and has brought nothing yet."""
    stepper = streaming(events, **more)
    stepper.start()
    stepper.opens(headers={"X-Request-ID": "req_7"})
    return stepper


def reconnected(stepper: Stepper) -> Stepper:
    """The same stream after a clean loss and a new connection, with the mark taken."""
    stepper.ends()
    stepper.waits()
    stepper.opens()
    stepper.takes()
    return stepper


def kinds(stepper: Stepper) -> Any:
    return [item["type"] for item in stepper.items]


# The plain course


def test_events_come_as_they_come_and_the_last_one_ends_the_stream() -> None:
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
    assert action.item["outputs"] == {"a": 1}
    assert isinstance(stream.takes(), Done)
    assert kinds(stream) == ["connected", "node:started", "execution:completed"]
    assert stream.items[1]["node_id"] == "n1"


@pytest.mark.parametrize("kind", sorted(EXECUTION_TERMINAL))
def test_each_terminal_event_closes_before_it_is_handed_over(kind: str) -> None:
    stream = opened()
    assert stream.receives(sse(kind) + sse("node:started")) == Close()
    action = stream.closes()
    assert isinstance(action, Emit)
    assert {"outputs", "error"} <= set(action.item)
    assert isinstance(stream.takes(), Done)
    assert kinds(stream) == [kind]


def test_what_came_before_the_end_is_handed_over_first() -> None:
    stream = opened()
    stream.receives(sse("node:started") + sse("node:completed") + COMPLETED)
    assert stream.takes_all() == Close()
    stream.closes()
    stream.takes()
    assert kinds(stream) == ["node:started", "node:completed", "execution:completed"]


def test_data_that_is_no_json_does_not_end_the_stream() -> None:
    stream = opened()
    stream.receives(b"event: node:stream\ndata: not json\n\n")
    assert stream.items == [{"type": "node:stream", "data": "not json"}]
    stream.takes()
    stream.receives(b"data: " + b"[" * 100_000 + b"\n\n")
    assert stream.items[1]["type"] == "message"


def test_the_operation_makes_the_machine() -> None:
    stream = Stepper(EVENTS.machine(a_context(), "token"), terminal=EXECUTION_TERMINAL)
    assert isinstance(stream.start(), Open)


def test_the_handle_knows_its_request_id() -> None:
    assert opened().machine.request_id == "req_7"  # type: ignore[attr-defined]


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


def test_opening_is_tried_again_like_any_call() -> None:
    stream = streaming()
    stream.start()
    for _ in range(3):
        assert isinstance(stream.fails(), Wait)
        stream.waits()
    stream.fails()
    assert isinstance(stream.error, ConnectionError)
    assert len(stream.error.attempts) == 4


def test_a_page_of_a_proxy_is_no_stream() -> None:
    stream = streaming()
    stream.start()
    stream.opens(200, "text/html")
    stream.receives(b"<html>")
    stream.ends()
    assert stream.error.code == "invalid_response"


def test_json_is_no_stream() -> None:
    stream = streaming()
    stream.start()
    stream.opens(200, "application/json", {"X-Request-ID": "req_9"})
    stream.receives(b'{"data": {}}')
    stream.ends()
    assert isinstance(stream.error, StreamError)
    assert (stream.error.status_code, stream.error.request_id) == (200, "req_9")


def test_a_reply_that_never_ends_is_closed_and_asked_for_again() -> None:
    stream = streaming()
    stream.start()
    stream.opens(200, "text/html")
    assert stream.stays_quiet() == Close()
    assert isinstance(stream.closes(), Wait)
    stream.waits()
    stream.opens(401, "text/html")
    stream.stays_quiet()
    stream.closes()
    assert isinstance(stream.error, AuthenticationError)


def test_a_redirect_is_followed() -> None:
    stream = streaming()
    stream.start()
    stream.opens(302, "text/html", {"Location": "/x"})
    assert isinstance(stream.ends(), Open)


# 204: nothing to stream


def refused_with_204(stream: Stepper) -> Stepper:
    stream.opens(204, "")
    stream.ends()
    return stream


def test_after_a_204_the_execution_is_asked() -> None:
    stream = streaming()
    stream.start()
    refused_with_204(stream)
    assert isinstance(stream.action, Send)
    assert isinstance(stream.replies(200, ENDED), Emit)
    assert isinstance(stream.takes(), Done)
    assert kinds(stream) == ["execution:completed"]


@pytest.mark.parametrize("again", [False, True])
def test_a_204_for_an_execution_that_runs_on_is_an_error(again: bool) -> None:
    stream = opened() if again else streaming()
    stream.waits() if stream.action and stream.ends() else stream.start()
    refused_with_204(stream)
    stream.replies(200, RUNNING)
    assert isinstance(stream.error, StreamError)
    assert "runs on" in stream.error.message


def test_after_a_204_the_question_survives_an_outage() -> None:
    stream = streaming()
    stream.start()
    refused_with_204(stream)
    stream.replies(503)
    stream.waits()
    stream.fails()
    stream.waits()
    stream.replies(200, ENDED)
    stream.takes()
    assert kinds(stream) == ["execution:completed"]


def test_after_a_204_a_question_that_fails_for_good_is_the_error() -> None:
    stream = streaming(options={"max_retries": 0})
    stream.start()
    refused_with_204(stream)
    stream.replies(503)
    assert isinstance(stream.error, ServerError)


def test_a_204_where_nothing_can_be_asked_is_an_error() -> None:
    stream = streaming(THREAD)
    stream.start()
    refused_with_204(stream)
    assert isinstance(stream.error, StreamError)
    assert stream.error.status_code == 204


# Lost connections


@pytest.mark.parametrize("clean", [False, True])
def test_a_lost_connection_is_made_anew_and_the_gap_is_marked(clean: bool) -> None:
    stream = opened()
    stream.receives(CONNECTED)
    stream.takes()
    lost = stream.ends() if clean else stream.fails(Phase.REPLY_BROKEN)
    assert lost == Wait(0.25)
    assert isinstance(stream.waits(), Open)
    stream.opens()
    assert stream.items[-1] == {"type": "stream:reconnected", "attempt": 1}
    assert stream.machine.reconnects == 1  # type: ignore[attr-defined]
    stream.takes()
    assert isinstance(stream.receives(CONNECTED), Read)
    assert kinds(stream) == ["connected", "stream:reconnected"]


def test_it_resumes_from_the_last_id_and_repeats_nothing() -> None:
    stream = opened()
    stream.receives(sse("node:started", id="1") + sse("node:completed", id="2") + b"id: 3\n")
    stream.takes_all()
    assert stream.machine.last_event_id == "2"  # type: ignore[attr-defined]
    stream.ends()
    stream.waits()
    assert stream.sent[-1].headers["last-event-id"] == "2"
    stream.opens()
    stream.takes()
    assert isinstance(stream.receives(sse("node:completed", id="2")), Read)
    stream.receives(sse("node:retry", id="3"))
    assert kinds(stream) == ["node:started", "node:completed", "stream:reconnected", "node:retry"]


def test_what_an_unfinished_event_began_is_forgotten() -> None:
    stream = opened()
    stream.receives(b"event: execution:comp")
    reconnected(stream)
    stream.receives(b"leted\ndata: {}\n\n")
    assert stream.items[-1]["type"] == "message"


def test_the_memory_of_ids_is_bounded() -> None:
    stream = opened()
    stream.receives(b"".join(sse("node:stream", id=str(n)) for n in range(REMEMBERED_IDS + 1)))
    stream.takes_all()
    stream.receives(sse("node:stream", id=str(REMEMBERED_IDS)))
    assert len(stream.items) == REMEMBERED_IDS + 1
    stream.receives(sse("node:stream", id="0"))
    assert len(stream.items) == REMEMBERED_IDS + 2


def test_reconnections_without_progress_are_bounded() -> None:
    stream = opened()
    for _ in range(3):
        assert isinstance(stream.ends(), Wait)
        stream.waits()
        stream.opens()
        stream.takes()
        stream.receives(CONNECTED + KEEPALIVE)
        stream.takes_all()
    stream.fails(Phase.REPLY_BROKEN)
    assert isinstance(stream.error, StreamError)
    assert isinstance(stream.error.__cause__, Exception)
    assert "max_retries=3" in stream.error.message
    assert stream.error.request_id is None
    assert stream.waited_for == [0.25, 0.5, 1.0]


def test_a_live_event_is_progress() -> None:
    stream = opened()
    for _ in range(20):
        reconnected(stream)
        stream.receives(sse("node:stream"))
        stream.takes()
    assert set(stream.waited_for) == {0.25}


def test_an_answered_question_is_progress() -> None:
    stream = opened()
    for _ in range(20):
        reconnected(stream)
        stream.stays_quiet()
        stream.replies(200, RUNNING)
    assert set(stream.waited_for) == {0.25}


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_server_in_trouble_is_tried_again(status: int) -> None:
    stream = opened()
    stream.ends()
    for _ in range(2):
        stream.waits()
        stream.opens(status, "text/html")
        assert isinstance(stream.ends(), Wait)
    stream.waits()
    stream.opens(status, "text/html")
    stream.ends()
    assert isinstance(stream.error, RateLimitError if status == 429 else StreamError)


def test_a_reconnection_is_no_call_with_retries_of_its_own() -> None:
    stream = opened()
    stream.ends()
    for _ in range(2):
        stream.waits()
        stream.fails()
    stream.waits()
    stream.fails()
    assert isinstance(stream.error, StreamError)
    assert len(stream.sent) == 4
    assert isinstance(stream.error.__cause__, ConnectionError)


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured_when_reconnecting(status: int) -> None:
    stream = opened()
    stream.ends()
    stream.waits()
    stream.opens(status, "text/html", {"Retry-After": "42"})
    assert stream.ends() == Wait(42.0)


def test_a_pause_too_long_is_raised_with_its_value() -> None:
    stream = opened()
    stream.ends()
    stream.waits()
    stream.opens(429, "text/html", {"Retry-After": "61"})
    stream.ends()
    assert isinstance(stream.error, RateLimitError)
    assert stream.error.retry_after == 61.0
    assert "61 s" in str(stream.error.gave_up)


def test_a_spent_day_ends_the_stream() -> None:
    stream = opened()
    stream.ends()
    stream.waits()
    stream.opens(429, "application/json")
    stream.receives(b'{"error": {"code": "rate_limit_exceeded", "details": {"window": "day"}}}')
    stream.ends()
    assert isinstance(stream.error, RateLimitError)


def test_the_servers_own_reconnection_time_is_a_floor() -> None:
    stream = opened()
    stream.receives(b"retry: 7000\n\n")
    assert stream.ends() == Wait(7.0)
    stream.waits()
    stream.opens()
    stream.takes()
    assert stream.ends() == Wait(7.0)


@pytest.mark.parametrize("retry", [b"soon", b"-1", b"\xef\xbc\x97"])
def test_a_garbled_reconnection_time_is_ignored(retry: bytes) -> None:
    stream = opened()
    stream.receives(b"retry: " + retry + b"\n\n")
    assert stream.ends() == Wait(0.25)


def test_an_endless_reconnection_time_is_not_waited_out() -> None:
    stream = opened()
    stream.receives(b"retry: 99999999999999999\n\n")
    stream.ends()
    assert isinstance(stream.error, StreamError)


def test_no_retries_means_none() -> None:
    stream = streaming(options={"max_retries": 0})
    stream.start()
    stream.opens()
    stream.ends()
    assert isinstance(stream.error, StreamError)


def test_a_stream_that_cannot_be_opened_twice_is_not() -> None:
    stream = streaming(replace(THREAD, resumable=False), opened=True)
    assert stream.start() == Read(90.0)
    stream.fails(Phase.REPLY_BROKEN)
    assert isinstance(stream.error, StreamError)
    assert len(stream.sent) == 0


def test_an_event_too_large_closes_the_stream_with_a_typed_error() -> None:
    stream = opened()
    assert stream.receives(b"data: " + b"x" * MAX_EVENT_SIZE) == Close()
    stream.closes()
    assert (type(stream.error), stream.error.code) == (StreamError, "event_too_large")


# The two clocks


def asked_after(stream: Stepper) -> float:
    """Seconds until the stream asks for the execution, with keepalives every 30 s."""
    begun = stream.now
    while not isinstance(stream.action, Send):
        assert isinstance(stream.action, Read)
        stream.stays_quiet()
    return stream.now - begun


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


# All of it

SSE_HEAD = ResponseHead(200, Headers({"Content-Type": "text/event-stream"}))
HEADS = (
    SSE_HEAD,
    SSE_HEAD,
    ResponseHead(204, Headers()),
    ResponseHead(302, Headers({"Location": "/x"})),
    ResponseHead(401, Headers()),
    ResponseHead(429, Headers({"Retry-After": "1"})),
    ResponseHead(200, Headers({"Content-Type": "application/json"})),
)
REPLIES = (
    a_response(200, RUNNING),
    a_response(200, RUNNING),
    a_response(200, ENDED),
    a_response(302, headers={"Location": "/x"}),
    a_response(404),
    a_response(503),
)
STARTED = sse("node:started")
CHUNKS = (KEEPALIVE, CONNECTED, STARTED, STARTED + STARTED, STARTED + COMPLETED, COMPLETED)


def test_the_table_is_true() -> None:
    world = Possibilities(REPLIES, HEADS, CHUNKS)
    taken = wander(streaming, world, walks=1500)
    taken |= wander(lambda: streaming(deadline=1060.0), world, walks=1500)
    taken |= wander(
        lambda: streaming(replace(EVENTS, resumable=False), opened=True), world, walks=200
    )
    assert_table_is_true(EventStreamMachine, taken)


event_blocks = st.builds(
    sse,
    st.sampled_from(
        ["connected", "node:started", "node:stream", "execution:completed", "execution:failed", ""]
    ),
    json_values,
    id=st.one_of(st.none(), st.sampled_from(["", "1", "2", "3"])),
)
sse_bytes = st.one_of(
    event_blocks,
    event_blocks.map(lambda block: block[:-1]),
    event_blocks.flatmap(lambda block: st.integers(1, len(block)).map(lambda n: block[:n])),
    st.just(KEEPALIVE),
    st.sampled_from([b"retry: 100\n\n", b"retry: 99999999\n\n", b"\n\n", b"\r", b"data:\xff\n\n"]),
    st.binary(min_size=1, max_size=20),
)
executions = st.one_of(
    st.sampled_from([a_response(body=RUNNING).body, a_response(body=ENDED).body]),
    json_values.map(lambda status: a_response(body=an_envelope({"status": status})).body),
    json_values.map(lambda data: a_response(body=an_envelope(data)).body),
    json_values.map(lambda error: a_response(body=an_error("x", y=error)).body),
)


class EventStreamProperties(MachineProperties):
    chunks = sse_bytes
    responses = responses(executions)
    more: Tuple[Any, Dict[str, Any]] = (EVENTS, {})

    def make(self) -> Stepper:
        events, more = self.more
        return streaming(events, **more)

    def check(self) -> None:
        """A silent end is impossible; so is asking in a circle, and more retries than allowed."""
        stepper = self.stepper
        if isinstance(stepper.action, Done):
            assert stepper.ended_by in self.more[0].terminal
        if isinstance(stepper.action, Read):
            assert stepper.action.patience <= 90.0 + 1e-6
        without_progress = 0
        for action in stepper.trace:
            without_progress += isinstance(action, Open)
            if isinstance(action, (Emit, Send)):
                without_progress = 0
        assert without_progress <= 4 * 6

    def teardown(self) -> None:
        marks = [item for item in self.stepper.items if item["type"] == "stream:reconnected"]
        assert [mark["attempt"] for mark in marks] == list(range(1, len(marks) + 1))
        connected = [item for item in self.stepper.items if item["type"] == "connected"]
        assert len(connected) <= 1


class DeadlineProperties(EventStreamProperties):
    more = (EVENTS, {"deadline": 1060.0, "silent_poll": 1.0})


class UnresumableProperties(EventStreamProperties):
    more = (replace(EVENTS, resumable=False), {"opened": True})


class ThreadProperties(EventStreamProperties):
    more = (THREAD, {})


TestEventStreamProperties = collected(EventStreamProperties)
TestDeadlineProperties = collected(DeadlineProperties)
TestUnresumableProperties = collected(UnresumableProperties)
TestThreadProperties = collected(ThreadProperties)
