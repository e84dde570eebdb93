"""Whether to retry a call, and after which delay. No I/O, no clock, no random numbers."""

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

BASE_DELAY = 0.5
"""Seconds: the upper bound of the first random delay. The bound doubles with each retry. So the
three retries of the default take 1.75 s on average: long enough for a process of the server to be
replaced behind its load balancer, and short for a person who waits."""
THROTTLED_BASE_DELAY = 1.0
"""Used instead of `BASE_DELAY` after a 429, in seconds. A rate limit lasts longer than a lost
connection, and each early retry counts against it."""
MAX_DELAY = 20.0
"""Seconds: no random delay is longer. It is reached at the seventh retry, by callers who set more
than the default. Their server then gets a request every 10 s on average."""
MAX_RETRY_AFTER = 60.0
"""Seconds: if the server asks for a longer delay, the call fails at once, and its error has the
delay. The window of the rate limit is a minute, so a longer one is mostly about the daily quota."""
UNSENT_MAX_DELAY = 5.0
"""Longest delay, in seconds, between two attempts to send a start that was not sent yet. It is
short, so that a batch continues soon after the server is back."""
LAST_ATTEMPT_TIMEOUT = 1.0
"""Seconds. If more are left until the deadline, a delay leaves at least these for the next attempt
to send such a start."""

RETRYABLE_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
"""After these, a later attempt may succeed. Every other status is about the request itself."""


def is_rejected_unprocessed(error: FlowMaestroError, status: int) -> bool:
    """Return whether the server rejected the request without processing it.

    It does so with a 429, or with a 503 with `Retry-After`.
    """
    return status == 429 or (status == 503 and error.retry_after is not None)


def maybe_processed(error: FlowMaestroError) -> bool:
    """Return whether the server may have processed a request that failed, such as a start.

    The last attempt decides: a start is not retried unless the attempts before it have started
    nothing. After a failure of the network, the execution may exist unless the request was not
    sent.

    The server inserts the execution before it starts the engine, so after a 5xx the execution may
    exist. There are two exceptions: a 503 with `Retry-After`, which rejects a request unprocessed,
    and a 5xx for a malformed id (`NotFoundError`).

    The execution may exist after a 303, which redirects to the result of a request that was
    processed, and after a 302, which many servers send in its place. It may also exist after a 408
    and after a 2xx with an unusable body, but not after any other status.
    """
    outcome = error.attempts[-1].outcome
    if isinstance(outcome, Phase):
        return outcome is not Phase.NOT_SENT
    if isinstance(error, NotFoundError) or is_rejected_unprocessed(error, outcome):
        return False
    return outcome >= 500 or outcome < 300 or outcome in (302, 303, 408)


class GiveUp(NamedTuple):
    """The decision not to retry, because of `reason`."""

    reason: str


def retry_delay(
    max_retries: int,
    retries: int,
    jitter: float,
    *,
    throttled: bool = False,
    retry_after: Optional[float] = None,
    remaining: float = math.inf,
) -> Union[float, GiveUp]:
    """Return the seconds until the next attempt, or a `GiveUp` with the reason.

    The delay is drawn with full jitter from 0 up to a bound, which doubles with each retry up to
    `MAX_DELAY`. The delay is never shorter than the `retry_after` of the server. There is no retry
    after `max_retries` retries, if `retry_after` is longer than `MAX_RETRY_AFTER`, or if the delay
    would not end before the deadline.

    Args:
        max_retries: how many retries may be made after the first attempt.
        retries: how many retries were made already.
        jitter: a random number in [0, 1).
        throttled: whether the attempt failed with a 429.
        retry_after: seconds that the server asked to wait, if it did.
        remaining: seconds that are left until the deadline.

    """
    if retries >= max_retries:
        return GiveUp(f"max_retries={max_retries} is used up")
    if retry_after is not None and retry_after > MAX_RETRY_AFTER:
        return GiveUp(
            f"the server asks to wait {retry_after:g} s, longer than {MAX_RETRY_AFTER:g} s"
        )
    base = THROTTLED_BASE_DELAY if throttled else BASE_DELAY
    # 2**64 s are longer than any limit; an exponent of some thousand would be an error.
    bound = min(MAX_DELAY, base * 2.0 ** min(retries, 64))
    delay = max(bound * jitter, retry_after or 0.0)
    if delay >= remaining:
        return GiveUp(f"a retry in {delay:.3g} s would come after the deadline")
    return delay


class RetryBudget:
    """Tokens that a client's calls share, so that an outage is not multiplied by retries.

    A retry after a 429 costs 5 tokens, a retry after any other failure 14, and one of a start that
    was not sent (`Retries.unlimited_after`) none. A successful response gives back the cost of its
    call's last paid retry, or 1 token if there was none. When too few tokens are left, a call that
    fails is not retried.

    Threads may share a budget without a lock: `tokens` stays between 0 and `CAPACITY`. When two
    threads change it at the same moment, one of the changes may be lost.
    """

    CAPACITY = 500
    TRANSIENT, THROTTLED, FIRST_TRY = 14, 5, 1
    # In an outage, 500 // 14 = 35 retries are made, then one for every 14 calls that succeed at
    # once: retries are at most 7 % of the calls. After a 429 they are at most a fifth, because the
    # server is up, has done nothing, and says when to come back.

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
    """The attempts of one call.

    Its retries are limited by `max_retries` and the client's retry budget, except those that
    `unlimited_after` permits.
    """

    # Most calls succeed at once and change none of these, and each attribute that is set costs
    # every call.
    attempt: int = 1
    """The number of the present attempt, from 1."""
    failures: Tuple[Attempt, ...] = ()
    """The failed attempts that are followed by a retry."""
    _unlimited: int = 0
    """How many of the failures do not count against `max_retries`."""
    _cost: int = RetryBudget.FIRST_TRY
    """The tokens that a success returns to the budget."""

    def __init__(self, max_retries: int, budget: RetryBudget) -> None:
        self._max_retries = max_retries
        self._budget = budget

    def succeeded(self) -> None:
        """Record that the call succeeded: return tokens to the client's retry budget.

        These are the tokens that its last paid retry cost, or 1 if no retry was paid for.
        """
        if self._budget.tokens < RetryBudget.CAPACITY:  # Mostly it is full.
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
        delay = retry_delay(
            self._max_retries,
            len(self.failures) - self._unlimited,
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
        up to `UNSENT_MAX_DELAY`, so that a refused connection does not make a tight loop. They are
        shortened near the deadline: see `LAST_ATTEMPT_TIMEOUT`.
        """
        # Why 64: see `retry_delay`.
        bound = min(BASE_DELAY * 2.0 ** min(self._unlimited, 64), UNSENT_MAX_DELAY)
        delay = bound * (1.0 + jitter) / 2.0
        if remaining > LAST_ATTEMPT_TIMEOUT:
            delay = min(delay, remaining - LAST_ATTEMPT_TIMEOUT)
        elif delay >= remaining:
            return GiveUp(f"a retry in {delay:.3g} s would come after the deadline")
        self._unlimited += 1
        return self._wait(error, outcome, delay)

    def _wait(self, error: FlowMaestroError, outcome: Union[int, Phase], delay: float) -> Wait:
        attempt = Attempt(self.attempt, outcome, error.code, delay)
        self.failures += (attempt,)
        self.attempt += 1
        return Wait(delay, attempt)

    def attempts_with(
        self, error: FlowMaestroError, outcome: Union[int, Phase]
    ) -> Tuple[Attempt, ...]:
        """Return all attempts. The present one is the last and failed with `error`."""
        return (*self.failures, Attempt(self.attempt, outcome, error.code, None))


def is_transient(error: Exception, *, server_known: bool = False) -> bool:
    """Return whether a later attempt may well succeed.

    `ConnectionError`, `TimeoutError`, `RateLimitError` and `ServerError` are transient, except a
    501, and a failure that a transport calls permanent.

    Signs of a wrong base URL are permanent: a 3xx, a 404 whose body is not JSON, and a successful
    response that this API does not send (`invalid_response`). With `server_known`, the server has
    sent responses of this API before. Then these come from a proxy, and are transient.
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
