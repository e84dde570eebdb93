"""The pace of polls: a window that is nearly spent, and the turns of polls."""

from __future__ import annotations

from typing import List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmaestro_core.actions import Emit, Send, Wait
from flowmaestro_core.context import Context
from flowmaestro_core.machines import machine_for
from flowmaestro_core.payloads.reply import RateLimit
from flowmaestro_core.policy.pace import EXPECTED_WITHIN, FEW, LEAD, Pace
from flowmaestro_core.resources.executions import Executions
from flowmaestro_core.resources.workflows import Workflows
from flowmaestro_core.streams.events import EXECUTION_TERMINAL
from tests.harness.core.followed import COMPLETED, CONNECTED, RUNNING, opened
from tests.harness.core.stepping import Stepper, a_context, an_envelope


def paced(remaining: int = 200, reset_after: float = 60.0, limit: int = 300) -> Pace:
    pace = Pace()
    pace.replied(RateLimit(limit, remaining, reset_after), 0.0)
    return pace


def test_without_limits_every_poll_comes_when_it_is_wanted() -> None:
    pace = Pace()
    assert [pace.plan(0.5, 0.0, many=True) for _ in range(50)] == [0.5] * 50
    pace.replied(RateLimit(), 0.0)
    pace.replied(RateLimit(limit=60), 0.0)
    assert pace.plan(0.5, 0.0, many=True) == 0.5


# A window that is nearly spent


def test_a_window_that_is_nearly_spent_is_spread_to_its_end() -> None:
    assert paced(5, 30.0, limit=60).plan(1.0, 0.0) == 5.0
    assert paced(0, 30.0, limit=60).plan(1.0, 0.0) == 30.0
    assert paced(6, 30.0, limit=60).plan(1.0, 0.0) == pytest.approx(30 / 7)
    assert paced(5, 30.0, limit=60).plan(9.0, 0.0) == 9.0


def test_a_window_with_enough_left_delays_nothing() -> None:
    pace = paced(7, 30.0, limit=60)
    assert pace.pause(0.0) == 0.0
    assert pace.plan(1.0, 0.0) == 1.0


def test_nothing_is_spread_beyond_the_end_of_the_window() -> None:
    pace = paced(5, 30.0, limit=60)
    assert pace.pause(28.0) == 2.0
    assert pace.pause(31.0) == 0.0


def test_no_window_is_longer_than_a_minute() -> None:
    """As of a server whose `X-RateLimit-Reset` is in milliseconds."""
    assert paced(0, 1.7e12, limit=60).pause(0.0) == 60.0


def test_a_spent_window_without_a_known_end_delays_nothing() -> None:
    pace = Pace()
    pace.replied(RateLimit(limit=60, remaining=0), 0.0)
    assert pace.pause(0.0) == 0.0
    assert pace.plan(1.0, 0.0) == 1.0


def test_a_reply_that_shows_enough_left_ends_the_pause() -> None:
    pace = paced(0, 30.0, limit=60)
    pace.replied(RateLimit(60, 59, 60.0), 1.0)
    assert pace.pause(1.0) == 0.0


# Turns


def test_few_machines_have_no_turns() -> None:
    pace = paced()
    delays = [pace.plan(0.5, 0.0) for _ in range(FEW + 2)]
    assert delays[:FEW] == [0.5] * FEW
    assert delays[FEW + 1] > delays[FEW] > 0.5


def test_machines_whose_polls_have_passed_are_forgotten() -> None:
    pace = paced()
    for _ in range(FEW):
        pace.plan(0.5, 0.0)
    assert pace.plan(0.5, 1.0) == 0.5


def test_turns_that_are_given_back_are_given_again() -> None:
    pace = paced()
    at = turns(pace, 100)
    for index in (99, 50, 98, 97):
        pace.cancel(at[index])
    pace.cancel(at[98])  # Not planned any more.
    assert at[96] < pace.plan(0.0, 0.0, many=True) < at[98]
    for each in at[:97]:
        pace.cancel(each)
    pace.cancel(at[97])
    assert pace.plan(0.0, 0.0) == 0.0


def test_one_machine_that_waits_for_many_has_turns_from_the_beginning() -> None:
    pace = paced(remaining=20, reset_after=60.0)
    assert pace.plan(0.0, 0.0, many=True) == pytest.approx(6.0)


def test_a_poll_that_is_wanted_later_than_its_turn_is_not_delayed() -> None:
    pace = paced()
    assert pace.plan(30.0, 0.0, many=True) == 30.0
    assert pace.plan(0.0, 0.0, many=True) < 2.0


def turns(pace: Pace, machines: int) -> List[float]:
    return [pace.plan(0.0, 0.0, many=True) for _ in range(machines)]


def test_turns_use_half_of_what_is_left_at_each_moment() -> None:
    """100 of 200 requests take the first three quarters of the window."""
    given_out = turns(paced(), 100)
    assert given_out == sorted(given_out)
    assert given_out[-1] == pytest.approx(45.0, abs=1.5)


def test_turns_after_a_spent_window_come_in_the_next_one() -> None:
    pace = paced(remaining=0, reset_after=20.0)
    first, second, third = turns(pace, 3)
    assert first == 20.0
    assert second == pytest.approx(20.4)
    assert third == pytest.approx(20.8)


def test_a_window_without_a_known_end_lasts_a_minute() -> None:
    pace = Pace()
    pace.replied(RateLimit(limit=60, remaining=0), 0.0)
    assert pace.plan(0.0, 0.0, many=True) == 60.0


def test_requests_that_runs_are_about_to_make_are_not_left_for_polls() -> None:
    pace = paced(remaining=300)
    for _ in range(100):
        pace.run_begins(0.0)
    for _ in range(100):
        pace.request_made(told=False)
    # 100 starts and 100 streams: 100 were made, and as many are still to come.
    first = pace.plan(0.0, 0.0, many=True)
    assert first == pytest.approx(60 / 50 * (LEAD * 50 + 1), rel=0.2)


def test_requests_that_do_not_come_are_expected_no_longer_than_a_call_takes() -> None:
    pace = paced(remaining=300)
    for _ in range(100):
        pace.run_begins(0.0)
    assert pace.plan(0.15, EXPECTED_WITHIN) == 0.15


def test_a_request_that_was_not_expected_is_taken_from_what_is_left() -> None:
    pace = paced(remaining=2)
    for _ in range(2):
        pace.request_made(told=False)
    pace.request_made(told=True)
    assert pace.plan(0.0, 0.0, many=True) == 60.0


def test_first_turn_among_many_comes_after_a_part_of_their_cycle() -> None:
    """Else who is polled at its very beginning learns nothing, and waits for a whole cycle."""
    pace = paced()
    for _ in range(FEW):
        pace.plan(0.5, 0.0)
    gap = 60 / (0.5 * (200 - FEW))
    assert pace.plan(0.5, 0.0) == pytest.approx(LEAD * FEW * gap + gap, rel=0.05)


def test_the_day_is_told_and_slows_nothing() -> None:
    pace = Pace()
    pace.replied(RateLimit(limit_day=50_000, remaining_day=3), 0.0)
    assert (pace.limit_day, pace.remaining_day) == (50_000, 3)
    pace.replied(RateLimit(), 1.0)
    assert pace.remaining_day == 3
    assert pace.plan(1.0, 0.0, many=True) == 1.0


@given(
    remaining=st.integers(0, 1000),
    reset_after=st.floats(0.1, 60.0),
    machines=st.integers(1, 300),
)
def test_polls_never_use_up_a_window(remaining: int, reset_after: float, machines: int) -> None:
    given_out = turns(paced(remaining, reset_after, limit=1000), machines)
    within = sum(at < reset_after for at in given_out)
    assert within <= max(remaining - 1, 0)
    assert given_out == sorted(given_out)


# Machines that give their turns back


def first_turn(pace: Pace, now: float = 1000.0) -> float:
    return pace.plan(0.0, now, many=True)


def paced_context() -> Context:
    context = a_context()
    context.pace.replied(RateLimit(300, 200, 60.0), 1000.0)
    return context


@pytest.mark.parametrize("abandons", [False, True])
def test_an_abandoned_wait_gives_its_turn_back(abandons: bool) -> None:
    context, alone = paced_context(), paced_context()
    operation = Executions.wait_for_completion("ex_1")
    wait = Stepper(machine_for(operation, context, "token"))
    wait.start()
    wait.machine.abandon()  # It has no turn yet.
    assert isinstance(wait.replies(200, RUNNING), Wait)
    if abandons:
        wait.machine.abandon()
        wait.machine.abandon()
    assert (first_turn(context.pace) == first_turn(alone.pace)) is abandons


@pytest.mark.parametrize("ends", ["abandoned", "ended", "goes on"])
def test_a_run_whose_stream_needs_no_poll_gives_its_turn_back(ends: str) -> None:
    context, alone = paced_context(), paced_context()
    run = Stepper(machine_for(Workflows.run("wf_1"), context, "token"), terminal=EXECUTION_TERMINAL)
    run.start()
    run.replies(202, an_envelope({"execution_id": "ex_1"}))
    run.opens()
    alone.pace.request_made(told=False)
    if ends == "abandoned":
        run.machine.abandon()
    elif ends == "ended":
        run.receives(COMPLETED)
        run.closes()
        assert isinstance(run.takes(), Send)
    assert (first_turn(context.pace) == first_turn(alone.pace)) is (ends != "goes on")


def test_a_stream_of_no_run_has_no_turn_to_give_back() -> None:
    stream = opened()
    stream.machine.abandon()
    assert isinstance(stream.receives(CONNECTED), Emit)
