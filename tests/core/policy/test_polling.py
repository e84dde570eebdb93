from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmaestro_core.policy.polling import PollSchedule, poll_delay


@pytest.mark.parametrize(
    ("elapsed", "delay"),
    [(0.0, 0.15), (0.3, 0.15), (1.0, 0.35), (2.0, 0.7), (4.0, 1.0), (300, 1.0)],
)
def test_poll_delay_grows_with_elapsed_time(elapsed: float, delay: float) -> None:
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


# The schedule of one wait


def test_a_wait_polls_at_once_and_then_after_each_answer() -> None:
    schedule, asked = PollSchedule(0.0, 1.0), []
    while schedule.next_at < 1.5:
        asked.append(schedule.next_at)
        pause = schedule.answered(asked[-1] + 0.1)
        assert schedule.next_at == pytest.approx(asked[-1] + 0.1 + pause)
    assert asked == pytest.approx([0.0, 0.25, 0.5, 0.81, 1.2285])
