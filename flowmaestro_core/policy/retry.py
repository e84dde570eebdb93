"""Pure decisions: whether to retry a call, and after which delay."""

from __future__ import annotations

import math
from typing import NamedTuple, Optional, Tuple, Union

from flowmaestro_core.actions import Wait
from flowmaestro_core.errors import (
    Attempt,
    ConnectionError,
    FlowMaestroError,
    NotFoundError,
    RateLimitError,
    ServerError,
    TimeoutError,
)
from flowmaestro_core.http.messages import Phase, TransportFailure
from flowmaestro_core.payloads.reply import NonJsonBody

UNSENT_MAX_DELAY = 5.0
"""Longest delay, in seconds, between two attempts to send a start that was not sent yet. So a batch
continues within 5 s after the server is back, as an event stream does."""
LAST_ATTEMPT_TIMEOUT = 1.0
"""Seconds before the deadline at which the last attempt to send such a start is made."""

RETRYABLE_STATUSES = frozenset({408, 429, 500, 502, 503, 504})


def is_rejected_unprocessed(error: FlowMaestroError, status: int) -> bool:
    """Return whether the server rejected the request without processing it.

    It does so with a 429, or with a 503 with `Retry-After`.
    """
    return status == 429 or (status == 503 and error.retry_after is not None)


class GiveUp(NamedTuple):
    """The decision not to retry, because of `reason`."""

    reason: str


class RetryPolicy(NamedTuple):
    """How often and how soon a call may be retried.

    Attributes:
        max_retries: retries after the first attempt.
        base_delay: seconds; the upper bound of the first random delay. The bound doubles each time.
        throttled_base_delay: used instead of `base_delay` after a 429.
        max_delay: seconds; no random delay is longer.
        max_retry_after: seconds; if the server asks for a longer delay, the call fails at once.

    """

    max_retries: int = 3
    base_delay: float = 0.5
    throttled_base_delay: float = 1.0
    max_delay: float = 20.0
    max_retry_after: float = 60.0

    def decide(
        self,
        retries: int,
        jitter: float,
        *,
        throttled: bool = False,
        retry_after: Optional[float] = None,
        remaining: float = math.inf,
    ) -> Union[float, GiveUp]:
        """Return the seconds until the next attempt, or a `GiveUp` with the reason.

        The delay is drawn with full jitter from `[0, min(max_delay, base * 2**retries))`. It is
        never shorter than the `retry_after` of the server. There is no retry after `max_retries`
        retries, if `retry_after` is longer than `max_retry_after`, or if the delay would not end
        before the deadline.

        Args:
            retries: how many retries were made already.
            jitter: a random number in [0, 1).
            throttled: whether the attempt failed with a 429. Then `base` is
                `throttled_base_delay`, else `base_delay`.
            retry_after: seconds that the server asked to wait, if it did.
            remaining: seconds that are left until the deadline.

        """
        if retries >= self.max_retries:
            return GiveUp(f"max_retries={self.max_retries} is used up")
        if retry_after is not None and retry_after > self.max_retry_after:
            return GiveUp(
                f"the server asks to wait {retry_after:g} s, longer than {self.max_retry_after:g} s"
            )
        delay = max(self._bound(retries, throttled) * jitter, retry_after or 0.0)
        if delay >= remaining:
            return GiveUp(f"a retry in {delay:.3g} s would come after the deadline")
        return delay

    def _bound(self, retries: int, throttled: bool) -> float:
        base = self.throttled_base_delay if throttled else self.base_delay
        return min(self.max_delay, base * 2.0 ** min(retries, 64))


class RetryBudget:
    """Tokens that a client's calls share, so that an outage is not multiplied by retries.

    A retry after a 429 costs 5 tokens, a retry after any other failure 14. A call that succeeds
    gives back what its last retry cost, or 1 token if it had no retry. When too few tokens are
    left, calls fail without a retry.

    Threads may share a budget without a lock: `tokens` stays between 0 and `CAPACITY`. When two
    threads change it at the same moment, one of the changes may be lost.
    """

    CAPACITY = 500
    TRANSIENT, THROTTLED, FIRST_TRY = 14, 5, 1

    def __init__(self) -> None:
        self.tokens: int = self.CAPACITY

    def spend(self, cost: int) -> bool:
        """Take `cost` tokens. Return False, and take none, if fewer are left."""
        left = self.tokens - cost  # Read it once: another thread may change it.
        if left < 0:
            return False
        self.tokens = left
        return True

    def give_back(self, tokens: int) -> None:
        """Return tokens to the budget, up to its capacity."""
        self.tokens = min(self.CAPACITY, self.tokens + tokens)


class Retries:
    """The attempts of one call. They are limited by a policy and by the client's retry budget."""

    def __init__(self, policy: RetryPolicy, budget: RetryBudget) -> None:
        self._policy = policy
        self._budget = budget
        self._failures: Tuple[Attempt, ...] = ()
        self._unlimited = 0
        """How many of the failures do not count against `max_retries`."""
        self._cost = RetryBudget.FIRST_TRY

    @property
    def attempt(self) -> int:
        """The number of the present attempt, from 1."""
        return len(self._failures) + 1

    def succeeded(self) -> None:
        """Record that the call succeeded: return tokens to the client's retry budget.

        These are the tokens that its last retry cost, or 1 if there was no retry.
        """
        self._budget.give_back(self._cost)

    def after(
        self,
        error: FlowMaestroError,
        outcome: Union[int, Phase],
        remaining: float,
        jitter: float,
    ) -> Union[Wait, GiveUp]:
        """Return the wait before the next attempt, or a `GiveUp`, after a failed attempt.

        Args:
            error: the error of the present attempt. It is one that may be retried.
            outcome: the HTTP status of the attempt, or the phase in which the network failed.
            remaining: seconds until the deadline of the call; infinity if it has none.
            jitter: a random number in [0, 1).

        """
        throttled = isinstance(error, RateLimitError)
        delay = self._policy.decide(
            len(self._failures) - self._unlimited,
            jitter,
            throttled=throttled,
            retry_after=error.retry_after,
            remaining=remaining,
        )
        if isinstance(delay, GiveUp):
            return delay
        cost = RetryBudget.THROTTLED if throttled else RetryBudget.TRANSIENT
        if not self._budget.spend(cost):
            return GiveUp("the client's retry budget is spent")
        self._cost = cost
        return self._wait(error, outcome, delay)

    def unlimited_after(
        self, error: FlowMaestroError, outcome: Phase, remaining: float, jitter: float
    ) -> Union[Wait, GiveUp]:
        """Return the wait before another attempt for a start that was certainly not sent.

        Return a `GiveUp` if the deadline leaves no time. `outcome` is the phase in which the
        network failed, `jitter` a random number in [0, 1).

        Neither `max_retries` nor the budget limits these attempts, only `remaining`, the seconds
        until the deadline. The delays are drawn between half and the whole of a bound that doubles
        up to `UNSENT_MAX_DELAY`, so that a refused connection does not make a tight loop.
        """
        bound = min(self._policy.base_delay * 2.0 ** min(self._unlimited, 64), UNSENT_MAX_DELAY)
        delay = bound * (1.0 + jitter) / 2.0
        if remaining > LAST_ATTEMPT_TIMEOUT:
            delay = min(delay, remaining - LAST_ATTEMPT_TIMEOUT)
        elif delay >= remaining:
            return GiveUp(f"a retry in {delay:.3g} s would come after the deadline")
        self._unlimited += 1
        return self._wait(error, outcome, delay)

    def _wait(self, error: FlowMaestroError, outcome: Union[int, Phase], delay: float) -> Wait:
        attempt = Attempt(self.attempt, outcome, error.code, delay)
        self._failures += (attempt,)
        return Wait(delay, attempt)

    def attempts_with(
        self, error: FlowMaestroError, outcome: Union[int, Phase]
    ) -> Tuple[Attempt, ...]:
        """Return all attempts. The present one is the last and failed with `error`."""
        return (*self._failures, Attempt(self.attempt, outcome, error.code, None))


NO_RETRIES = RetryPolicy(max_retries=0)
"""The policy of polls and probes. They need no retries, because another one follows."""


def is_transient(error: Exception, *, server_known: bool = False) -> bool:
    """Return whether a later attempt may well succeed.

    A response that this API does not send, and a refused redirect, are signs of a wrong base URL,
    so they are permanent. With `server_known`, the server has sent responses of this API before.
    Then such responses come from a proxy, and are transient. A failure that a transport calls
    permanent is not transient.
    """
    cause = error.__cause__
    if isinstance(cause, TransportFailure) and cause.permanent:
        return False
    if isinstance(error, FlowMaestroError) and 300 <= (error.status_code or 0) < 400:
        return server_known
    if isinstance(error, NotFoundError):
        return server_known and isinstance(error.details, NonJsonBody)
    if isinstance(error, ServerError):
        return error.status_code != 501 and (server_known or error.code != "invalid_response")
    return isinstance(error, (ConnectionError, TimeoutError, RateLimitError))


def retry_after_of(error: Optional[Exception]) -> float:
    """Return the seconds that the server asked to wait before the next attempt, else 0."""
    return (isinstance(error, FlowMaestroError) and error.retry_after) or 0.0
