from __future__ import annotations

import math
from typing import List, Optional, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmaestro_core.actions import Wait
from flowmaestro_core.errors import ConnectionError
from flowmaestro_core.http.messages import Phase
from flowmaestro_core.policy.retry import (
    BASE_DELAY,
    MAX_DELAY,
    MAX_RETRY_AFTER,
    RETRYABLE_STATUSES,
    THROTTLED_BASE_DELAY,
    GiveUp,
    Retries,
    RetryBudget,
    retry_delay,
)

JITTER = st.floats(0, 1, exclude_max=True)
SECONDS = st.floats(0, 1e6)


def test_delays_are_as_documented() -> None:
    delays = BASE_DELAY, THROTTLED_BASE_DELAY, MAX_DELAY, MAX_RETRY_AFTER
    assert delays == (0.5, 1.0, 20.0, 60.0)
    assert {408, 429, 500, 502, 503, 504} == RETRYABLE_STATUSES


@pytest.mark.parametrize(
    ("retries", "throttled", "bound"),
    [(0, False, 0.5), (1, False, 1), (2, False, 2), (0, True, 1), (1, True, 2), (2, True, 4)],
)
def test_the_delay_is_drawn_from_zero_to_a_bound_that_doubles(
    retries: int, throttled: bool, bound: float
) -> None:
    assert retry_delay(3, retries, 0.0, throttled=throttled) == 0.0
    assert retry_delay(3, retries, 0.5, throttled=throttled) == bound / 2


@given(retries=st.integers(0, 10_000), jitter=JITTER, throttled=st.booleans())
def test_no_delay_is_longer_than_the_longest(retries: int, jitter: float, throttled: bool) -> None:
    verdict = retry_delay(20_000, retries, jitter, throttled=throttled)
    assert isinstance(verdict, float)
    assert 0 <= verdict < 20


@given(
    max_retries=st.integers(0, 5),
    retries=st.integers(0, 10),
    jitter=JITTER,
    throttled=st.booleans(),
    retry_after=st.none() | SECONDS,
    remaining=st.just(math.inf) | st.floats(-100, 1e6),
)
def test_every_decision_keeps_to_its_limits(
    max_retries: int,
    retries: int,
    jitter: float,
    throttled: bool,
    retry_after: Optional[float],
    remaining: float,
) -> None:
    verdict = retry_delay(
        max_retries,
        retries,
        jitter,
        throttled=throttled,
        retry_after=retry_after,
        remaining=remaining,
    )
    if isinstance(verdict, GiveUp):
        assert verdict.reason
        assert (
            retries >= max_retries
            or (retry_after is not None and retry_after > 60)
            or remaining <= max(20, retry_after or 0)
        )
    else:
        assert retries < max_retries
        assert (retry_after or 0) <= verdict <= 60
        assert 0 <= verdict < remaining


def test_the_servers_wish_is_a_floor() -> None:
    assert retry_delay(3, 0, 0.5, retry_after=7.0) == 7.0
    assert retry_delay(3, 2, 0.5, retry_after=0.25) == 1.0
    assert retry_delay(3, 0, 0.5, retry_after=60.0) == 60.0


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [
        (retry_delay(3, 3, 0.5), "max_retries=3"),
        (retry_delay(0, 0, 0.5), "max_retries=0"),
        (retry_delay(3, 0, 0.5, retry_after=60.5), "60.5 s, longer than 60 s"),
        (retry_delay(3, 0, 0.5, remaining=0.25), "after the deadline"),
        (retry_delay(3, 0, 0.5, retry_after=5, remaining=5), "5 s would come after"),
        (retry_delay(3, 0, 0.0, remaining=0.0), "after the deadline"),
        (retry_delay(3, 0, 0.0, remaining=-1.0), "after the deadline"),
    ],
)
def test_giving_up_has_a_reason_in_words(verdict: object, reason: str) -> None:
    assert isinstance(verdict, GiveUp)
    assert reason in verdict.reason


@pytest.mark.parametrize(
    ("remaining", "delay"), [(math.inf, 0.25), (1.2, 0.2), (0.9, 0.25), (0.25, None)]
)
def test_the_wait_for_a_start_leaves_time_for_its_last_attempt(
    remaining: float, delay: Optional[float]
) -> None:
    """The last attempt has a second. If there is none left, the usual delay must fit."""
    verdict = Retries(0, RetryBudget()).unlimited_after(
        ConnectionError("refused"), Phase.NOT_SENT, remaining, 0.0
    )
    if delay is None:
        assert verdict == GiveUp("a retry in 0.25 s would come after the deadline")
    else:
        assert isinstance(verdict, Wait)
        assert verdict.seconds == pytest.approx(delay)


def test_the_budget_stays_within_its_bounds_when_two_threads_spend_at_one_moment() -> None:
    class Shared(RetryBudget):
        left, other = 14, True

        @property  # type: ignore[override]
        def tokens(self) -> int:
            read, meanwhile, self.other = self.left, self.other, False
            if meanwhile:
                self.spend(14)
            return read

        @tokens.setter
        def tokens(self, left: int) -> None:
            self.left = left

    budget = Shared()
    budget.left, budget.other = 14, True
    assert budget.spend(14)
    assert budget.left == 0


def test_the_budget_bounds_the_retries_of_an_outage() -> None:
    budget = RetryBudget()
    assert sum(budget.spend(RetryBudget.TRANSIENT) for _ in range(1000)) == 500 // 14
    assert not budget.spend(RetryBudget.TRANSIENT)
    assert budget.spend(RetryBudget.THROTTLED)
    budget.give_back(RetryBudget.TRANSIENT)
    assert budget.spend(RetryBudget.TRANSIENT)


@given(
    moves=st.lists(st.tuples(st.booleans(), st.sampled_from([1, 5, 14])), max_size=300),
)
def test_the_budget_stays_within_its_bounds(moves: List[Tuple[bool, int]]) -> None:
    budget = RetryBudget()
    for spends, amount in moves:
        before = budget.tokens
        if spends:
            assert budget.spend(amount) is (before >= amount)
        else:
            budget.give_back(amount)
        assert 0 <= budget.tokens <= RetryBudget.CAPACITY
