"""How long an event stream is followed: through an outage, and no longer than the caller says."""

from __future__ import annotations

from typing import Any

import pytest

from flowmaestro_core.actions import LEAST_PATIENCE, Close, Emit, Fail, Open, Read, Send, Wait
from flowmaestro_core.errors import StreamError, TimeoutError
from flowmaestro_core.http.messages import Phase
from flowmaestro_core.policy.stream_times import StreamTimes
from flowmaestro_core.resources.executions import Executions
from tests.harness.core.followed import ENDED, EVENTS, RUNNING, THREAD, kinds, streaming
from tests.harness.core.stepping import KEEPALIVE, Stepper, sse

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
@pytest.mark.parametrize("max_retries", [0, 3])
def test_a_rolling_deploy_does_not_end_a_stream(events: Any, max_retries: int) -> None:
    stream = streaming(events, options={"max_retries": max_retries})
    stream.start()
    stream.opens()
    outage(stream, until=1059.0)
    while not isinstance(stream.action, Open):
        if isinstance(stream.action, Send):
            stream.fails(Phase.NOT_SENT)
        else:
            stream.waits()
    assert stream.now <= 1060.0
    assert isinstance(stream.opens(), Emit)
    assert kinds(stream) == ["stream:reconnected"]


@pytest.mark.parametrize("events", [EVENTS, THREAD])
def test_nor_does_one_in_which_connections_hang(events: Any) -> None:
    """The last of them begins when the time is up, however long the one before took."""
    stream = streaming(events)
    stream.start()
    stream.opens()
    stream.fails(Phase.REPLY_BROKEN)
    while stream.now < 1059.0:
        if isinstance(stream.action, Wait):
            stream.waits()
        else:
            assert isinstance(stream.action, (Open, Send))
            stream.fails(timed_out=True, after=stream.action.timeout)
    while not isinstance(stream.action, Open):
        stream.replies(200, RUNNING) if isinstance(stream.action, Send) else stream.waits()
    assert isinstance(stream.opens(), Emit)


@pytest.mark.parametrize("events", [EVENTS, THREAD])
def test_a_longer_outage_ends_it(events: Any) -> None:
    stream = streaming(events)
    stream.start()
    stream.opens()
    outage(stream, until=2000.0)
    assert isinstance(stream.error, StreamError)
    assert "60 s" in stream.error.message
    assert stream.error.execution_id == events.execution_id
    assert stream.now == pytest.approx(1060.0)
    openings = sum(isinstance(action, Open) for action in stream.trace)
    assert 8 <= openings <= 15


def test_so_does_one_in_which_every_request_hangs() -> None:
    stream = streaming()
    stream.start()
    stream.opens()
    stream.fails(Phase.REPLY_BROKEN)
    while stream.machine.state != "failed":
        action = stream.action
        if isinstance(action, Wait):
            stream.waits()
        else:
            assert isinstance(action, (Open, Send))
            stream.fails(timed_out=True, after=action.timeout)
    assert isinstance(stream.error, StreamError)
    assert 1060.0 <= stream.now <= 1060.0 + 4 * 30.0  # two openings and two probes more


def test_the_times_say_for_how_long_it_is_tried() -> None:
    stream = streaming(THREAD, times=StreamTimes(reconnect_for=7.0))
    stream.start()
    stream.opens()
    outage(stream, until=2000.0)
    assert stream.now == pytest.approx(1007.0)
    assert isinstance(stream.error, StreamError)


def test_while_the_execution_is_known_to_run_it_is_tried_for_ever() -> None:
    stream = streaming()
    stream.start()
    stream.opens()
    stream.fails(Phase.REPLY_BROKEN)
    while stream.now < 3000.0:
        if isinstance(stream.action, Send):
            stream.replies(200, RUNNING)
        elif isinstance(stream.action, Open):
            stream.fails(Phase.NOT_SENT)
        else:
            stream.waits()
    openings = sum(isinstance(action, Open) for action in stream.trace)
    assert 100 <= openings <= 300


# As long as the caller wants


def limited(timeout: float, **more: Any) -> Stepper:
    return streaming(Executions.stream("ex_1", timeout=timeout), **more)


def ran_out(stream: Stepper) -> None:
    assert isinstance(stream.error, TimeoutError)
    assert stream.error.execution_id == "ex_1"
    assert "ex_1" in stream.error.message


def test_a_stream_that_takes_too_long_is_closed_and_its_error_names_the_execution() -> None:
    stream = limited(7.0)
    stream.start()
    stream.opens()
    stream.receives(sse("node:started"), after=3.0)
    stream.takes()
    assert stream.action == Read(4.0)
    assert stream.stays_quiet() == Close()
    stream.closes()
    ran_out(stream)
    assert kinds(stream) == ["node:started"]


@pytest.mark.parametrize("world", ["hangs", "refuses"])
def test_so_is_one_that_cannot_be_opened_again(world: str) -> None:
    stream = limited(7.0)
    stream.start()
    stream.opens()
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


def test_so_is_one_whose_first_connection_hangs() -> None:
    stream = limited(7.0)
    action = stream.start()
    assert isinstance(action, Open)
    assert action.timeout == 7.0
    stream.fails(timed_out=True, after=7.0)
    ran_out(stream)


def test_no_probe_goes_out_when_the_time_is_up() -> None:
    stream = limited(7.0)
    stream.start()
    stream.opens(204)
    assert isinstance(stream.ends(after=7.0), Fail)


def test_a_probe_takes_no_longer_than_is_left() -> None:
    stream = limited(5.5)
    stream.start()
    stream.opens()
    probe = stream.stays_quiet()
    assert isinstance(probe, Send)
    assert probe.timeout == pytest.approx(0.5)


def test_so_is_one_that_only_says_that_it_lives() -> None:
    stream = limited(100.0)
    stream.start()
    stream.opens()
    while not isinstance(stream.action, Close):
        if isinstance(stream.action, Send):
            stream.replies(200, RUNNING)
        else:
            assert isinstance(stream.action, Read)
            stream.receives(KEEPALIVE, after=min(stream.action.patience, 30.0))
    stream.closes()
    ran_out(stream)
    assert stream.now == pytest.approx(1100.0)


def test_an_end_that_comes_in_time_is_one() -> None:
    stream = limited(7.0)
    stream.start()
    stream.opens()
    stream.stays_quiet()
    stream.replies(200, ENDED, after=1.0)
    stream.stays_quiet()
    stream.closes()
    assert kinds(stream) == ["execution:completed"]


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan"), "5", True])
def test_a_timeout_that_is_none_is_refused(timeout: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="timeout must be"):
        Executions.stream("ex_1", timeout=timeout)


# Over a transport that loses a body by a read that times out


def test_an_impatient_transport_is_given_the_time_of_a_keepalive_but_not_to_drain() -> None:
    stream = limited(50.0)
    stream.start()
    action = stream.opens()
    assert isinstance(action, Read)
    assert (action.patience, action.least) == (5.0, LEAST_PATIENCE)
    assert isinstance(stream.receives(KEEPALIVE, after=30.0), Send)
    action = stream.replies(200, RUNNING)
    assert isinstance(action, Read)
    assert action.least == 20.0
    stream.receives(KEEPALIVE, after=10.0)
    action = stream.replies(200, ENDED)
    assert isinstance(action, Read)
    assert action.least == 0.0
