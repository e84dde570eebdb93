"""The clocks that doubt a silence, apart from the stream they belong to."""

from __future__ import annotations

import math
from typing import Any, Optional

import pytest
from stepping import an_error

from flowmaestro_core.errors import RateLimitError, ServerError, TimeoutError
from flowmaestro_core.payloads.reply import RateLimit
from flowmaestro_core.policy.polling import QUESTION_PATIENCE, PollSchedule
from flowmaestro_core.policy.stream_times import StreamTimes
from flowmaestro_core.streams.silence import REOPEN_PATIENCE, SPENT_DAY_PAUSE, Silence

UNLIMITED = RateLimit()
SPENT = RateLimit(limit=60, remaining=0, reset_after=40.0)


def silence(schedule: Optional[PollSchedule] = None, **more: Any) -> Silence:
    clocks = Silence(StreamTimes(), schedule=schedule, **more)
    clocks.begins(0.0)
    return clocks


def in_a_run(interval: float = 1.0, took: float = 0.1) -> Silence:
    return silence(PollSchedule(0.0, interval, took))


def ask(clocks: Silence, at: float, *, took: float = 0.0) -> float:
    """Ask, hear that it runs on, and give back how long the answer might have taken."""
    patience = clocks.asks(at)
    clocks.answered(UNLIMITED, at + took)
    return patience


# Bytes-idle


def test_any_byte_keeps_a_connection_alive() -> None:
    clocks = silence()
    assert clocks.dead_at == 90.0
    clocks.broken_by_bytes(50.0)
    assert (clocks.dead_at, clocks.question_at) == (140.0, 5.0)


def test_while_nobody_listens_nothing_is_held_against_it() -> None:
    clocks = silence()
    clocks.unheard(7.0)
    assert (clocks.dead_at, clocks.question_at) == (97.0, 12.0)
    ask(clocks, 12.0, took=2.0)
    assert clocks.dead_at == 99.0


# Event-idle


def test_questions_come_ever_less_often_until_there_is_an_event() -> None:
    clocks = silence()
    times = []
    for _ in range(7):
        times.append(clocks.question_at)
        ask(clocks, times[-1])
    pauses = [later - earlier for earlier, later in zip(times, times[1:])]
    assert pauses == [7.5, 11.25, 16.875, 25.3125, 30.0, 30.0]
    clocks.broken_by_event(200.0)
    assert clocks.question_at == 205.0


def test_at_long_last_there_is_a_question_whatever_comes() -> None:
    clocks = silence()
    times = [float(at) for at in range(0, 900, 4)]
    asked = []
    for now in times:
        if now >= clocks.question_at:
            ask(clocks, now)
            asked.append(now)
        clocks.broken_by_event(now)
    assert asked == [300.0, 600.0]
    clocks.unheard(1000.0)
    clocks.broken_by_event(1890.0)
    assert clocks.question_at == 1895.0


def test_where_nothing_can_be_asked_nothing_is() -> None:
    clocks = silence(can_ask=False)
    clocks.ask_at_once(1.0)
    assert clocks.question_at == math.inf


def test_reason_to_believe_in_an_end_is_a_question_at_once_and_only_one() -> None:
    clocks = silence()
    clocks.ask_at_once(1.0)
    assert clocks.question_at <= 1.0
    ask(clocks, 1.0)
    assert clocks.question_at == 8.5


def test_the_server_says_when_it_may_be_asked() -> None:
    clocks = silence()
    clocks.asks(5.0)
    clocks.answered(SPENT, 5.0)
    clocks.ask_at_once(6.0)
    assert clocks.question_at == 45.0
    assert clocks.forbids_asking(44.0)
    assert not clocks.forbids_asking(45.0)


def test_a_pause_that_was_asked_for_is_kept_and_a_spent_day_is_waited_for() -> None:
    clocks = silence()
    clocks.asks(5.0)
    error = ServerError("no")
    error.retry_after = 50.0
    clocks.not_answered(error, 5.0)
    assert clocks.question_at == 55.0
    clocks.asks(55.0)
    details = an_error("rate_limit_exceeded", window="day")["error"]["details"]
    spent = RateLimitError("no", details=details)
    clocks.not_answered(spent, 55.0)
    assert clocks.question_at == 55.0 + SPENT_DAY_PAUSE
    spent.retry_after = 7200.0
    clocks.asks(4000.0)
    clocks.not_answered(spent, 4000.0)
    assert clocks.question_at == 11_200.0


def test_patience_grows_while_answers_stay_out_and_with_the_time_that_they_take() -> None:
    clocks = silence()
    for doubled in (1, 2, 4):
        assert clocks.asks(5.0) == QUESTION_PATIENCE * doubled
        clocks.not_answered(TimeoutError("slow"), 5.0 + doubled)
    assert ask(clocks, 50.0, took=6.0) == 8 * QUESTION_PATIENCE
    assert ask(clocks, 100.0, took=0.1) == 12.0
    assert clocks.asks(150.0) == QUESTION_PATIENCE


# Connections


def test_a_reconnection_has_some_time_even_if_a_question_is_due() -> None:
    clocks = silence()
    assert clocks.lets_open(5.0 + REOPEN_PATIENCE)
    assert not clocks.lets_open(5.1 + REOPEN_PATIENCE)
    assert clocks.opens(1.0) == 5.0
    assert clocks.opens(4.9) == 4.9 + REOPEN_PATIENCE


def test_the_clock_runs_on_over_a_new_connection_but_lets_it_speak_first() -> None:
    clocks = silence()
    clocks.opens(0.1)
    clocks.opened(0.2, again=False)
    assert clocks.question_at == 5.2
    clocks.lost(4.0)
    clocks.opens(4.9)
    clocks.opened(5.0, again=True)
    assert (clocks.question_at, clocks.dead_at) == (5.0 + REOPEN_PATIENCE, 95.0)


# In a run


def test_in_a_run_questions_come_as_in_a_wait_until_there_is_an_event() -> None:
    clocks = in_a_run()
    assert clocks.question_at == 0.25
    ask(clocks, 0.25, took=0.1)
    assert clocks.question_at == pytest.approx(0.5)
    clocks.broken_by_event(0.4)
    assert clocks.question_at == 5.4
    clocks.lost(1.0)
    assert clocks.question_at == pytest.approx(1.2285)


def test_in_a_run_an_opening_ends_when_a_question_is_due() -> None:
    clocks = in_a_run()
    assert clocks.opens(0.1) == 0.25
    clocks.opened(0.24, again=True)
    assert clocks.question_at == 0.25


def test_in_a_run_an_opening_that_would_not_be_done_is_not_begun() -> None:
    clocks = in_a_run()
    assert clocks.lets_open(0.1)
    assert not clocks.lets_open(0.2)
    clocks.opens(0.0)
    clocks.not_opened(TimeoutError("slow"), 0.25)
    ask(clocks, 0.25, took=0.1)
    assert not clocks.lets_open(0.35)
    while clocks.question_at < 2.0:
        ask(clocks, clocks.question_at, took=0.1)
    assert clocks.lets_open(clocks.question_at - 0.5)
    assert not clocks.lets_open(clocks.question_at - 0.4)


def test_in_a_run_whose_questions_are_close_an_opening_takes_what_there_is() -> None:
    clocks = in_a_run(interval=0.1)
    clocks.opens(0.0)
    clocks.not_opened(TimeoutError("slow"), 0.2)
    ask(clocks, 0.2, took=0.1)
    assert clocks.lets_open(clocks.question_at - 0.095)


def test_in_a_run_a_quick_opening_tells_that_questions_are_quick() -> None:
    clocks = in_a_run(took=0.9)
    clocks.opens(0.0)
    clocks.opened(0.2, again=False)
    assert clocks.question_at == pytest.approx(0.35)


def test_in_a_run_no_question_in_between_puts_one_off_that_is_due() -> None:
    clocks = in_a_run()
    clocks.ask_at_once(0.2)
    assert clocks.question_at == 0.25
    clocks.ask_at_once(0.1)
    assert clocks.question_at <= 0.1
