from __future__ import annotations

from typing import List, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmaestro_core.payloads.reply import RateLimit
from flowmaestro_core.policy.polling import FIRST_POLL, PollSchedule, paced, poll_delay

COUNTS = st.none() | st.integers(0, 10_000)


@pytest.mark.parametrize(
    ("elapsed", "delay"),
    [(0.0, 0.15), (0.3, 0.15), (1.0, 0.35), (2.0, 0.7), (4.0, 1.0), (300, 1.0)],
)
def test_the_ramp(elapsed: float, delay: float) -> None:
    assert poll_delay(elapsed, 1.0) == pytest.approx(delay)


@given(elapsed=st.floats(0, 1e6), interval=st.floats(1e-3, 1e4))
def test_a_poll_is_never_later_than_the_interval(elapsed: float, interval: float) -> None:
    assert 0 < poll_delay(elapsed, interval) <= interval


@given(run=st.floats(0.3, 20.0))
def test_short_runs_are_seen_soon_with_few_questions(run: float) -> None:
    """At most 40 % of the run and 50 ms late, in at most 10 questions for 2.2 s."""
    now, questions = 0.0, 1
    while now < run:
        now += poll_delay(now, 1.0)
        questions += 1
    assert now - run <= 0.4 * run + 0.05
    assert now - run <= 1.0
    assert run > 2.2 or questions <= 10


def test_a_window_that_is_nearly_spent_is_spread_to_its_end() -> None:
    assert paced(1.0, RateLimit(limit=60, remaining=5, reset_after=30.0)) == 5.0
    assert paced(1.0, RateLimit(limit=60, remaining=0, reset_after=30.0)) == 30.0
    assert paced(1.0, RateLimit(limit=60, remaining=6, reset_after=30.0)) == pytest.approx(30 / 7)
    assert paced(9.0, RateLimit(limit=60, remaining=5, reset_after=30.0)) == 9.0


def test_no_window_is_longer_than_a_day() -> None:
    """As of a server whose `X-RateLimit-Reset` is in milliseconds."""
    assert paced(1.0, RateLimit(limit=60, remaining=0, reset_after=1.7e12)) == 86_400.0


def test_a_window_with_enough_left_changes_nothing() -> None:
    assert paced(1.0, RateLimit(limit=60, remaining=7, reset_after=30.0)) == 1.0


@given(
    delay=st.floats(0, 100),
    limit=COUNTS,
    remaining=COUNTS,
    reset_after=st.none() | st.floats(0, 86400),
)
def test_pacing_only_stretches_and_not_past_the_end_of_the_window(
    delay: float, limit: Optional[int], remaining: Optional[int], reset_after: Optional[float]
) -> None:
    stretched = paced(delay, RateLimit(limit=limit, remaining=remaining, reset_after=reset_after))
    assert delay <= stretched <= max(delay, reset_after or 0.0)
    if None in (limit, remaining, reset_after):
        assert stretched == delay


# The schedule of one wait


def asked(schedule: PollSchedule, took: float, *, until: float) -> List[float]:
    """When a wait on the schedule asks, up to a time, if each answer takes `took` seconds."""
    times = []
    while schedule.next_at <= until:
        times.append(schedule.next_at)
        schedule.answered(schedule.next_at, schedule.next_at + took)
    return times


def test_a_wait_asks_at_once_and_then_after_each_answer() -> None:
    assert asked(PollSchedule(0.0, 1.0), 0.1, until=1.5) == pytest.approx(
        [0.0, 0.25, 0.5, 0.81, 1.2285]
    )


@given(
    took=st.floats(0, 2),
    interval=st.floats(0.01, 10),
    left=st.floats(0, 100),
    start=st.floats(0, 1e6),
)
def test_who_catches_up_asks_when_the_wait_does(
    took: float, interval: float, left: float, start: float
) -> None:
    schedule = PollSchedule(start, interval, took)
    schedule.catch_up(start + left)
    wait = asked(PollSchedule(start, interval), took, until=schedule.next_at + 1e-6)
    assert wait[-1] == pytest.approx(schedule.next_at, abs=1e-6)
    assert len(wait) == 1 or wait[-2] <= start + left + 1e-6


@given(
    now=st.floats(0, 1e9),
    took=st.floats(0, 1e3),
    interval=st.floats(5e-324, 1e9),
)
def test_catching_up_comes_to_an_end(now: float, took: float, interval: float) -> None:
    schedule = PollSchedule(0.0, interval, took)
    schedule.catch_up(now)
    assert now <= schedule.next_at <= now + took + interval + FIRST_POLL


def test_the_first_answer_mends_the_guess() -> None:
    schedule = PollSchedule(0.0, 1.0, 0.9)
    assert schedule.next_at == pytest.approx(0.9 + 0.35 * 0.9)
    schedule.answered(1.215, 1.315)
    assert schedule.next_at in [
        pytest.approx(at) for at in asked(PollSchedule(0.0, 1.0), 0.1, until=2.0)
    ]
    assert schedule.next_at > 1.315 - FIRST_POLL
    schedule.answered(schedule.next_at, schedule.next_at + 0.5)
    assert schedule.took == pytest.approx(0.5)


def test_a_guess_may_be_too_long_but_a_measured_time_is_not() -> None:
    schedule = PollSchedule(0.0, 1.0, 0.9)
    schedule.guess_less(1.0, 1.0)
    assert schedule.took == 0.9
    schedule.guess_less(0.2, 0.2)
    assert schedule.next_at == pytest.approx(0.35)
    schedule.answered(0.35, 0.65)
    schedule.guess_less(0.1, 0.7)
    assert schedule.took == pytest.approx(0.3)


def test_an_early_question_puts_off_none() -> None:
    schedule = PollSchedule(0.0, 1.0, 0.1)
    schedule.answered(0.25, 0.35)
    assert schedule.next_at == pytest.approx(0.5)
    assert schedule.answered(0.36, 0.46) == pytest.approx(0.04)
    assert schedule.answered(0.48, 0.6) == 0.0
    assert schedule.next_at == pytest.approx(0.5)


def test_who_is_behind_is_put_where_the_wait_is() -> None:
    schedule = PollSchedule(0.0, 1.0, 0.25)
    assert schedule.next_at == 0.4
    assert schedule.answered(0.4, 0.9) == 0.0
    assert schedule.next_at == pytest.approx(0.675)
    schedule.answered(0.9, 1.4)
    assert schedule.next_at == pytest.approx(asked(PollSchedule(0.0, 1.0), 0.5, until=2.0)[-1])
    assert schedule.next_at > 1.4


def test_an_early_first_question_puts_off_none() -> None:
    schedule = PollSchedule(0.0, 1.0, 0.0)
    assert schedule.answered(0.125, 0.125) == pytest.approx(0.025)


def test_a_question_just_before_one_that_is_due_is_not_taken_for_it() -> None:
    schedule = PollSchedule(0.0, 1.0, 0.0)
    assert [schedule.is_free(now) for now in (0.12, 0.135, 0.149, 0.15)] == [
        True,
        False,
        False,
        True,
    ]


def test_a_question_between_two_must_be_answered_before_the_second() -> None:
    schedule = PollSchedule(0.0, 1.0, 0.1)
    assert schedule.next_at == 0.25
    assert [schedule.is_free(now) for now in (0.0, 0.1, 0.2, 0.25, 0.3)] == [
        True,
        True,
        False,
        True,
        True,
    ]
