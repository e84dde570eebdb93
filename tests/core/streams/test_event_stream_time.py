"""How long an event stream is followed: through an outage, and no longer than the caller says."""

from __future__ import annotations

from typing import Any, Optional

import pytest

from flowmaestro_core.actions import (
    LEAST_PATIENCE,
    Action,
    Close,
    Emit,
    Fail,
    Open,
    Read,
    Send,
    Wait,
)
from flowmaestro_core.errors import StreamError, TimeoutError
from flowmaestro_core.http.messages import Phase
from flowmaestro_core.streams.event_stream import DRAIN_OVERTIME
from flowmaestro_core.streams.first_event import WAITS
from tests.harness.core.followed import (
    COMPLETED,
    CONNECTED,
    ENDED,
    EVENTS,
    RUNNING,
    THREAD,
    kinds,
    opened,
    streaming,
)
from tests.harness.core.stepping import KEEPALIVE, Stepper, an_envelope, sse

# While the server is absent


def outage(stream: Stepper, *, until: float) -> None:
    """The open stream breaks, and nobody answers before that time."""
    stream.fails(Phase.REPLY_BROKEN)
    while stream.now < until and stream.machine.state != "failed":
        if isinstance(stream.action, Wait):
            stream.waits()
        else:
            assert isinstance(stream.action, (Open, Send))
            stream.fails(Phase.NOT_SENT)


@pytest.mark.parametrize("events", [EVENTS, THREAD])
def test_a_longer_outage_ends_it(events: Any) -> None:
    stream = opened(events)
    outage(stream, until=2000.0)
    assert isinstance(stream.error, StreamError)
    assert "60 s" in stream.error.message
    assert stream.error.execution_id == events.execution_id
    assert stream.now == pytest.approx(1060.0)
    openings = sum(isinstance(action, Open) for action in stream.trace)
    assert 15 <= openings <= 25


def test_stream_with_hanging_connections_ends_at_its_timeout() -> None:
    """The last of them begins when the time is up, however long the one before took."""
    stream = opened(THREAD)
    stream.fails(Phase.REPLY_BROKEN)
    while stream.now < 1059.0 or not isinstance(stream.action, Open):
        if isinstance(stream.action, Open):
            stream.fails(timed_out=True, after=stream.action.timeout)
        else:
            stream.waits()
    assert isinstance(stream.opens(), Emit)


def outage_with_pause(seconds: float, **more: Any) -> Stepper:
    """A minute after its loss. The server asked for a pause that ends in `seconds`."""
    stream = opened(**more)
    stream.fails(Phase.REPLY_BROKEN)
    while stream.now < 1060.0:
        if isinstance(stream.action, Wait):
            stream.waits()
        elif isinstance(stream.action, Open) or stream.now < 1030.0:
            stream.fails(Phase.NOT_SENT)
        else:
            stream.replies(503, headers={"Retry-After": str(1060.0 - stream.now + seconds)})
    stream.fails(Phase.NOT_SENT)  # The last opening.
    return stream


@pytest.mark.parametrize(
    ("reply", "ended"), [(ENDED, True), (RUNNING, False)], ids=["ended", "running"]
)
def test_last_probe_of_a_lost_stream_is_sent_after_the_pause_that_the_server_asked_for(
    reply: Any, ended: bool
) -> None:
    stream = outage_with_pause(10)
    assert stream.action == Wait(pytest.approx(10.0))
    assert isinstance(stream.waits(), Send)
    if ended:
        assert isinstance(stream.replies(200, reply), Emit)
    else:
        assert stream.replies(200, reply) == Wait(0.0)  # It reports the last failure.
        assert isinstance(stream.waits(), Open)


def test_lost_stream_fails_after_one_last_probe() -> None:
    stream = outage_with_pause(10)
    stream.waits()
    stream.replies(503, headers={"Retry-After": "10"})
    assert isinstance(stream.error, StreamError)
    assert stream.now == pytest.approx(1070.0)


def test_lost_stream_does_not_wait_for_a_probe_that_is_far_away() -> None:
    stream = outage_with_pause(601)
    assert isinstance(stream.error, StreamError)
    assert stream.now == pytest.approx(1060.0)


def test_lost_stream_does_not_wait_for_a_probe_after_its_deadline() -> None:
    stream = outage_with_pause(10, deadline=1065.0)
    assert isinstance(stream.error, StreamError)
    assert stream.now == pytest.approx(1060.0)


# As long as the caller wants


def ran_out(stream: Stepper) -> None:
    assert isinstance(stream.error, TimeoutError)
    assert stream.error.execution_id == "ex_1"
    assert "ex_1" in stream.error.message


def test_a_stream_that_takes_too_long_is_closed_and_its_error_names_the_execution() -> None:
    stream = opened(deadline=1007.0)
    stream.receives(sse("node:started"), after=3.0)
    stream.takes()
    assert stream.action == Read(4.0)
    assert stream.stays_quiet() == Close()
    stream.closes()
    ran_out(stream)
    assert kinds(stream) == ["node:started"]


@pytest.mark.parametrize("world", ["hangs", "refuses"])
def test_a_stream_that_cannot_be_reopened_times_out(world: str) -> None:
    stream = opened(deadline=1007.0)
    stream.fails(Phase.REPLY_BROKEN)
    while stream.machine.state != "failed":
        if isinstance(stream.action, Wait):
            stream.waits()
        else:
            assert isinstance(stream.action, (Open, Send))
            hangs = world == "hangs"
            stream.fails(timed_out=hangs, after=stream.action.timeout if hangs else 0.0)
    ran_out(stream)
    assert stream.now == pytest.approx(1007.0)


def test_a_stream_whose_first_connection_hangs_times_out() -> None:
    stream = streaming(deadline=1007.0)
    action = stream.start()
    assert isinstance(action, Open)
    assert action.timeout == 7.0
    stream.fails(timed_out=True, after=7.0)
    ran_out(stream)


def test_no_probe_goes_out_when_the_time_is_up() -> None:
    stream = streaming(deadline=1007.0)
    stream.start()
    stream.opens(204)
    assert isinstance(stream.ends(after=7.0), Fail)


def test_a_probe_takes_no_longer_than_is_left() -> None:
    stream = opened(deadline=1005.5)
    probe = stream.stays_quiet()
    assert isinstance(probe, Send)
    assert probe.timeout == pytest.approx(0.5)


# Over a transport that loses a body by a read that times out


def test_an_impatient_transport_reads_for_45_seconds_but_not_to_drain() -> None:
    stream = opened(deadline=1052.0)
    stream.receives(sse("node:started"), after=2.0)
    action = stream.takes()
    assert isinstance(action, Read)
    assert (action.patience, action.impatient) == (5.0, LEAST_PATIENCE)
    assert isinstance(stream.receives(KEEPALIVE, after=30.0), Send)
    action = stream.replies(200, RUNNING)
    assert isinstance(action, Read)
    assert action.impatient == 20.0
    stream.receives(KEEPALIVE, after=10.0)
    action = stream.replies(200, ENDED)
    assert isinstance(action, Read)
    assert action.impatient == 0.0


def waits_in_vain(stream: Stepper) -> Action:
    """An impatient transport reads until it loses the quiet body."""
    assert isinstance(stream.action, Read)
    waited = stream.action.impatient or stream.action.patience
    return stream.fails(Phase.REPLY_BROKEN, timed_out=True, after=waited)


@pytest.mark.parametrize("silent_poll", [None, 2.0])
def test_an_impatient_transport_waits_longer_and_longer_for_the_first_event(
    silent_poll: Optional[float],
) -> None:
    """The deployed server may bring no event; between its silences the execution is polled."""
    stream = streaming(silent_poll=silent_poll)
    stream.start()
    waits = []
    for wait in WAITS:
        action = stream.opens()
        if silent_poll is not None and isinstance(action, Send):
            action = stream.replies(200, RUNNING)
        assert isinstance(action, Read)
        waits.append(action.impatient)
        stream.receives(CONNECTED)
        stream.takes_all()
        assert isinstance(waits_in_vain(stream), Send), wait
        assert isinstance(stream.replies(200, RUNNING), Open), wait
    action = stream.opens()
    assert isinstance(action, Read)
    assert (tuple(waits), action.impatient) == (WAITS, LEAST_PATIENCE)
    assert kinds(stream) == ["connected"]
    assert stream.machine.reconnects == 0  # type: ignore[attr-defined]


def test_events_after_a_quiet_body_was_closed_follow_stream_reconnected() -> None:
    """The server may have sent others while no body was open."""
    stream: Any = opened()
    for _ in range(2):
        stream.receives(CONNECTED)
        stream.takes_all()
        waits_in_vain(stream)
        stream.replies(200, RUNNING)
        stream.opens()
    stream.receives(CONNECTED + sse("node:started"))
    stream.takes_all()
    stream.receives(sse("node:completed"))
    stream.takes_all()
    told = ["stream:reconnected", "node:started", "node:completed"]
    assert kinds(stream) == ["connected", *told]
    assert stream.items[1]["attempt"] == stream.machine.reconnects == 1
    assert [event["type"] for event in stream.machine.seen_events][-3:] == told


def test_an_end_after_a_quiet_body_was_closed_follows_stream_reconnected() -> None:
    stream = opened()
    waits_in_vain(stream)
    stream.replies(200, RUNNING)
    stream.opens()
    stream.receives(COMPLETED)
    stream.takes_all()
    stream.closes()
    stream.takes()
    assert kinds(stream) == ["stream:reconnected", "execution:completed"]


def test_a_loss_after_a_quiet_body_was_closed_is_told_once() -> None:
    stream = opened()
    waits_in_vain(stream)
    stream.replies(200, RUNNING)
    stream.fails(Phase.NOT_SENT)
    stream.waits()
    stream.opens()
    stream.takes_all()
    stream.receives(sse("node:started"))
    stream.takes_all()
    assert kinds(stream) == ["stream:reconnected", "node:started"]


def test_after_the_first_event_a_read_that_times_out_is_a_loss() -> None:
    stream = opened()
    stream.receives(sse("node:started"))
    stream.takes()
    assert isinstance(waits_in_vain(stream), Send)
    assert stream.replies(200, RUNNING) == Wait(0.375)
    stream.waits()
    stream.opens()
    assert kinds(stream) == ["node:started", "stream:reconnected"]


def test_a_poll_that_fails_after_the_first_silence_does_not_keep_the_stream_closed() -> None:
    stream = opened()
    waits_in_vain(stream)
    assert isinstance(stream.replies(503), Open)


def test_a_poll_that_the_rate_limit_forbids_is_left_out_between_silences() -> None:
    stream = opened()
    waits_in_vain(stream)
    stream.replies(429, headers={"Retry-After": "30"})
    stream.opens()
    assert isinstance(waits_in_vain(stream), Open)


def test_an_impatient_transport_waits_for_a_threads_first_event_as_long_as_for_any() -> None:
    stream = streaming(THREAD)
    stream.start()
    action = stream.opens()
    assert isinstance(action, Read)
    assert action.impatient == 90.0


# What has arrived when the time is up


def test_an_end_that_arrived_during_a_hanging_poll_is_read_at_the_deadline() -> None:
    stream = opened(deadline=1007.0)
    stream.stays_quiet()
    stream.fails(timed_out=True, after=2.0)
    stream.receives(sse("node:completed") + COMPLETED)
    stream.takes_all()
    assert stream.closes() == Emit([{"type": "execution:completed", **ended_fields()}])
    assert (kinds(stream)[0], stream.now) == ("node:completed", 1007.0)


def ended_fields() -> Any:
    return {"outputs": {"a": 1}, "error": None, "completed_at": None}


@pytest.mark.parametrize("content", [KEEPALIVE, b":", sse("node:stream")])
def test_a_stream_that_drips_ends_soon_after_its_deadline(content: bytes) -> None:
    stream = opened(deadline=1007.0)
    stream.receives(content, after=7.0)
    while not isinstance(stream.action, Close):
        if isinstance(stream.action, Emit):
            stream.takes()
        else:
            stream.receives(content, after=0.019)
    stream.closes()
    ran_out(stream)
    assert stream.now < 1007.0 + DRAIN_OVERTIME + 0.02


def test_a_flood_is_read_no_longer_than_its_deadline() -> None:
    """The deadline is looked at after each piece, though no event comes of it."""
    stream = opened(deadline=1002.0)
    for _ in range(19):
        stream.receives(b"\n" * 65536, after=0.1)
    stream.receives(b"\n" * 65536, after=0.15)
    assert stream.action == Close()


# A pause that the stream does not tell


PAUSED = an_envelope({"id": "ex_1", "status": "paused"})
POLLED = {"type": "execution:paused", "execution_id": "ex_1", "status": "paused", "polled": True}


def probed(stream: Stepper, reply: Any) -> Stepper:
    while not isinstance(stream.action, Send):
        stream.takes() if isinstance(stream.action, Emit) else stream.stays_quiet()
    stream.replies(200, reply)
    return stream


def test_a_pause_found_by_a_probe_is_emitted_once_and_so_is_its_end() -> None:
    stream = opened()
    for reply in (PAUSED, PAUSED, RUNNING, RUNNING, PAUSED):
        probed(stream, reply)
    resumed = {**POLLED, "type": "execution:resumed", "status": "running"}
    assert stream.items == [POLLED, resumed, POLLED]


def test_execution_paused_is_emitted_although_a_probe_found_it_first() -> None:
    stream = opened()
    probed(stream, PAUSED)
    stream.takes()
    stream.receives(sse("execution:paused", {"pauseContext": {"prompt": "Who?"}}))
    probed(stream, PAUSED)
    assert kinds(stream) == ["execution:paused", "execution:paused"]
    assert stream.items[1]["pause_context"] == {"prompt": "Who?"}
    assert "polled" not in stream.items[1]


def test_a_pause_that_the_stream_reported_is_not_emitted_again() -> None:
    stream = opened()
    stream.receives(sse("execution:paused"))
    probed(stream, PAUSED)
    stream.receives(sse("execution:resumed"))
    probed(stream, RUNNING)
    assert kinds(stream) == ["execution:paused", "execution:resumed"]


def test_timeout_error_of_a_stream_has_the_execution_and_says_that_it_is_paused() -> None:
    stream = opened(deadline=1007.0)
    probed(stream, PAUSED)
    stream.takes()
    while not isinstance(stream.action, Close):
        stream.stays_quiet()
    stream.closes()
    assert stream.error.last_execution["status"] == "paused"
    assert "did not end in time; the execution is paused" in str(stream.error)
