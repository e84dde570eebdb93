"""The limits of a key, which hold for a whole batch: its headers, a 429, and a spent day."""

from __future__ import annotations

from typing import Any, Dict

import pytest

from flowmaestro_core.actions import Done, Fail, Send, Wait
from flowmaestro_core.errors import RateLimitError, TimeoutError
from flowmaestro_core.executions.start_queue import PAUSE_AFTER_REFUSAL
from tests.harness.core.batch_steps import (
    DAY_SPENT,
    EPOCH,
    NEARLY_SPENT,
    asked,
    errors,
    running,
    says,
    starts,
    until_asked,
    waiting,
)
from tests.harness.core.stepping import an_envelope, an_error


def test_429_delays_every_request() -> None:
    wait = waiting("a", "b")
    assert wait.replies(429, headers={"Retry-After": "70"}) == Wait(70.0)
    assert isinstance(wait.waits(), Send)
    assert asked(wait) == "b"


def test_429_beyond_the_deadline_ends_the_executions() -> None:
    wait = waiting("a", "b", "c", timeout=60.0)
    says(wait, "completed")
    wait.takes()
    wait.replies(429, headers={"Retry-After": "61"})
    assert wait.takes_all() == Done(None)
    assert [error.execution_id for error in errors(wait)] == ["b", "c"]
    assert all(isinstance(error, RateLimitError) for error in errors(wait))
    assert all(error.retry_after == 61.0 for error in errors(wait))
    assert len(wait.sent) == 2


def test_execution_that_a_429_has_ended_is_not_polled_in_its_turn() -> None:
    run = running([{}, {}, {}], timeout=60.0)
    starts(run, "a")
    starts(run, "b")
    run.replies(202, an_envelope({"execution_id": "c"}), after=20.0)
    until_asked(run)
    assert asked(run).startswith("executions?")
    run.replies(429, headers={"Retry-After": "49"})
    assert run.takes_all() == Wait(49.0)
    assert [error.execution_id for error in errors(run)] == ["a", "b"]
    run.waits()
    assert asked(run) == "c"


def test_spent_daily_quota_ends_every_wait_at_once() -> None:
    wait = waiting("a", "b", "c")
    wait.replies(429, an_error("rate_limit_exceeded", window="day", retry_after=5))
    assert wait.takes_all() == Done(None)
    assert [error.execution_id for error in errors(wait)] == ["a", "b", "c"]
    assert len({id(error) for error in errors(wait)}) == 3
    assert len(wait.sent) == 1


def test_429_without_retry_after_is_polled_again_in_turn() -> None:
    wait = waiting("a", "b")
    wait.replies(429)
    assert asked(wait) == "b"


def test_a_nearly_spent_window_is_spread_over_all_requests() -> None:
    wait = waiting("a", "b")
    assert says(wait, "running", **NEARLY_SPENT) == Wait(5.0)
    wait.waits()
    assert asked(wait) == "b"
    run = running([{}, {}])
    assert starts(run, "a", **NEARLY_SPENT) == Wait(5.0)
    run.waits()
    assert asked(run) == "execute"


def test_polls_of_three_executions_use_half_of_what_is_left_of_a_window() -> None:
    half = {"X-RateLimit-Limit": "60", "X-RateLimit-Remaining": "30", "Date": EPOCH}
    half["X-RateLimit-Reset"] = str(784111777 + 30)
    wait = waiting("a", "b", "c")
    pauses = []
    for _ in range(6):
        says(wait, "running", **half)
        begun = wait.now
        until_asked(wait)
        pauses.append(wait.now - begun)
    assert pauses == [pytest.approx(2.0)] * 6


def test_batch_ends_without_waiting_for_the_rate_limit() -> None:
    run = running(iter([{}]))
    starts(run, "a")
    until_asked(run)
    says(run, "completed", **NEARLY_SPENT)
    assert run.takes() == Done(None)


def test_early_wake_up_sends_no_poll() -> None:
    wait = waiting("a")
    wait.replies(429, headers={"Retry-After": "9"})
    assert wait.waits(after=4.0) == Wait(5.0)


def test_throttled_start_is_delayed_until_its_deadline() -> None:
    run = running([{}], timeout=200.0)
    assert run.replies(429, headers={"Retry-After": "90"}) == Wait(90.0)
    run.waits()
    assert run.replies(429, headers={"Retry-After": "90"}) == Wait(90.0)
    run.waits()
    run.replies(429, headers={"Retry-After": "90"})
    assert isinstance(run.error, RateLimitError)
    assert len({request.headers["idempotency-key"] for request in run.sent}) == 1


@pytest.mark.parametrize("headers", [{}, {"retry-after-ms": "1"}])
def test_throttled_start_waits_for_at_least_the_back_off(headers: Dict[str, str]) -> None:
    """Without retries, a pause of 1 ms once made 20,000 POSTs in 20 s."""
    run = running([{}], options={"max_retries": 0})
    assert run.replies(429, headers=headers) == Wait(PAUSE_AFTER_REFUSAL)
    run.waits()
    starts(run, "a")
    until_asked(run)
    says(run, "completed")
    assert run.takes() == Done(None)


@pytest.mark.parametrize(
    "refusal", [{"headers": {"Retry-After": "30"}}, {"body": DAY_SPENT}], ids=["pause", "day"]
)
def test_key_refused_for_too_long_stops_new_starts(refusal: Dict[str, Any]) -> None:
    run = running([{}] * 3, timeout=10.0)
    run.replies(429, **refusal)
    assert isinstance(run.error, RateLimitError)
    assert run.error.retry_after in (30.0, 5)
    assert (run.items, len(run.sent)) == ([], 1)


@pytest.mark.parametrize(("seconds", "fits"), [("100", True), ("400", False), ("9" * 10, False)])
def test_long_pause_is_waited_for_if_there_is_time(seconds: str, fits: bool) -> None:
    run = running([{}, {}], timeout=300.0)
    run.replies(429, headers={"Retry-After": seconds})
    if fits:
        assert run.action == Wait(100.0)
    else:
        assert run.error.gave_up == "the server asks to wait longer than there is time for"


def test_spent_window_does_not_delay_a_last_poll() -> None:
    wait = waiting("a", "b", timeout=30.0)
    spent = {"X-RateLimit-Limit": "60", "X-RateLimit-Remaining": "0", "Date": EPOCH}
    spent["X-RateLimit-Reset"] = str(784111777 + 7200)
    wait.plays(lambda: says(wait, "running", **spent))
    assert wait.now == pytest.approx(1030.0)
    assert [type(error) for error in errors(wait)] == [TimeoutError, TimeoutError]


@pytest.mark.parametrize("runs", [1, 2])
def test_429_longer_than_timeout_on_a_poll_stops_new_starts(runs: int) -> None:
    """As a start that is refused so: the refusal is about the key."""
    run = running([{}] * 9, timeout=30.0, concurrency=runs)
    for number in range(runs):
        starts(run, f"ex_{number}")
    until_asked(run)
    run.replies(429, headers={"Retry-After": "3600"})
    assert run.takes_all() == Fail(run.error)
    assert isinstance(run.error, RateLimitError)
    assert run.error.retry_after == 3600.0
    assert len(run.items) == len(errors(run)) == runs
    assert sum(request.method == "POST" for request in run.sent) == runs
