"""The clocks of a quiet stream, apart from the stream."""

from __future__ import annotations

import math
from typing import List

import pytest

from flowmaestro_core.errors import ServerError, TimeoutError
from flowmaestro_core.executions.run import RunMonitor
from flowmaestro_core.payloads.reply import RateLimit
from flowmaestro_core.policy.polling import LEAST_TIMEOUT, PollSchedule
from flowmaestro_core.policy.stream_times import StreamTimes
from flowmaestro_core.streams.probe import GRACE, IdleMonitor

SPENT = RateLimit(limit=60, remaining=0, reset_after=40.0)


def begun(clocks: IdleMonitor) -> IdleMonitor:
    clocks.begin(0.0)
    return clocks


def monitor(*, can_probe: bool = True) -> IdleMonitor:
    return begun(IdleMonitor(StreamTimes(), can_probe=can_probe))


def probe(clocks: IdleMonitor, at: float, *, took: float = 0.0) -> float:
    """Probe, hear that nothing has ended, and give back how long the answer might have taken."""
    patience = clocks.probe_sent(at)
    clocks.probe_answered(RateLimit(), at + took)
    return patience


def test_any_byte_keeps_a_connection_alive() -> None:
    clocks = monitor()
    assert clocks.dead_at == 90.0
    clocks.on_bytes(50.0)
    assert (clocks.dead_at, clocks.probe_at) == (140.0, 5.0)


def test_while_nobody_listens_no_time_counts() -> None:
    clocks = begun(IdleMonitor(StreamTimes(), can_probe=True, patience=130.0))
    clocks.away_at = 1.0
    clocks.resume(8.0)
    assert (clocks.dead_at, clocks.probe_at, clocks.give_up_at) == (97.0, 12.0, 137.0)
    probe(clocks, 12.0, took=2.0)
    assert clocks.dead_at == 99.0


def test_probes_come_ever_less_often_until_there_is_an_event() -> None:
    clocks = monitor()
    times: List[float] = []
    for _ in range(7):
        times.append(clocks.probe_at)
        probe(clocks, times[-1])
    gaps = [later - earlier for earlier, later in zip(times, times[1:])]
    assert gaps == [7.5, 11.25, 16.875, 25.3125, 30.0, 30.0]
    clocks.on_event(200.0)
    assert clocks.probe_at == 205.0


def test_at_long_last_there_is_a_probe_whatever_comes() -> None:
    clocks = monitor()
    probes = []
    for now in range(0, 900, 4):
        if now >= clocks.probe_at:
            probe(clocks, now)
            probes.append(now)
        clocks.on_event(now)
    assert probes == [300, 600]


def test_where_nothing_can_be_asked_nothing_is() -> None:
    clocks = monitor(can_probe=False)
    clocks.suspect()
    assert clocks.probe_at == math.inf


def test_a_suspicion_is_a_probe_at_once_and_only_one() -> None:
    clocks = monitor()
    clocks.suspect()
    assert clocks.probe_at <= 1.0
    probe(clocks, 1.0)
    assert clocks.probe_at == 8.5
    clocks.suspect()
    clocks.on_event(2.0)
    assert clocks.probe_at == 7.0


def test_the_server_says_when_it_may_be_asked() -> None:
    clocks = monitor()
    clocks.probe_sent(5.0)
    clocks.probe_answered(SPENT, 5.0)
    clocks.suspect()
    assert clocks.probe_at == 45.0


def test_a_pause_that_was_asked_for_is_kept() -> None:
    clocks = monitor()
    error = ServerError("no")
    error.retry_after = 50.0
    clocks.probe_sent(5.0)
    clocks.probe_failed(error, 5.0)
    assert clocks.probe_at == 55.0
    assert clocks.probe_sent(55.0) == LEAST_TIMEOUT  # the server has answered in time


def test_the_time_for_an_answer_grows_while_answers_stay_out() -> None:
    clocks = monitor()
    for doubled in (1, 2, 4):
        assert clocks.probe_sent(5.0) == LEAST_TIMEOUT * doubled
        clocks.probe_failed(TimeoutError("slow"), 5.0 + doubled)
    assert probe(clocks, 50.0, took=6.0) == 8 * LEAST_TIMEOUT
    assert probe(clocks, 100.0, took=0.1) == 12.0
    assert clocks.probe_sent(150.0) == LEAST_TIMEOUT


def test_a_reconnection_has_some_time_to_bring_what_was_missed() -> None:
    clocks = monitor()
    assert clocks.opening_until(1.0, again=False) == math.inf
    assert clocks.opening_until(1.0, again=True) == 5.0
    clocks.on_lost(4.9, first=True)
    assert clocks.probe_at == 4.9 + GRACE
    assert clocks.opening_until(5.5, again=True) == 5.5 + GRACE
    clocks.on_opened(5.8, again=True)
    assert (clocks.probe_at, clocks.dead_at) == (4.9 + GRACE, 95.8)
    clocks.on_lost(5.85, first=False)
    assert clocks.probe_at == 4.9 + GRACE


def test_the_first_connection_may_take_its_time() -> None:
    clocks = monitor()
    clocks.on_opened(8.0, again=False)
    assert clocks.probe_at == 8.0 + 5.0


def test_a_probe_that_is_overdue_is_not_put_off() -> None:
    """As over a transport that is read for longer, and loses the quiet connection by that."""
    clocks = monitor()
    clocks.on_lost(45.0, first=True)
    clocks.on_opened(45.2, again=True)
    assert clocks.probe_at == 5.0


def test_in_a_run_probes_come_as_in_a_wait_until_there_is_an_event() -> None:
    clocks = begun(RunMonitor(StreamTimes(), PollSchedule(0.0, 1.0)))
    assert clocks.probe_at == 0.15
    assert clocks.opening_until(0.0, again=False) == 1.0
    assert clocks.opening_until(0.0, again=True) == 0.15
    probe(clocks, 0.25, took=0.1)
    assert clocks.probe_at == 0.5
    assert clocks.opening_at(0.4) == 0.4
    assert clocks.opening_at(0.41) == math.inf
    clocks.on_event(0.4)
    assert clocks.probe_at == 5.4
    clocks.on_lost(1.0, first=True)
    assert clocks.probe_at == pytest.approx(0.55)


def test_a_network_slower_than_a_poll_interval_does_not_keep_a_run_from_its_events() -> None:
    clocks = begun(RunMonitor(StreamTimes(), PollSchedule(0.0, 1.0)))
    probe(clocks, 10.0, took=1.5)
    assert clocks.probe_at == 12.5
    assert clocks.opening_at(11.5) == 11.5


def test_where_only_probes_can_tell_the_first_is_due_at_once() -> None:
    clocks = begun(IdleMonitor(StreamTimes(), can_probe=True, patience=130.0))
    clocks.on_event(10.0)
    clocks.poll(20.0)
    assert (clocks.probe_at, clocks.give_up_at) == (20.0, 150.0)
    probe(clocks, 20.0)
    assert clocks.probe_at == 20.225
