"""When a lost event stream is connected anew, and how often: pure decisions with a count."""

from __future__ import annotations

from typing import Optional

from flowmaestro_core.errors import Attempt, FlowMaestroError, RateLimitError
from flowmaestro_core.executions.wait import asked_pause
from flowmaestro_core.http.messages import Phase
from flowmaestro_core.policy.retry import GiveUp, RetryPolicy
from flowmaestro_core.policy.stream_times import StreamTimes

LONGEST_PAUSE = 600.0
"""Seconds; a server that asks to reconnect later than that is not waited for."""


class Reconnections:
    """At most `max_retries` connections in a row that bring nothing new, ever later.

    Attributes:
        due_at: when the next one is to be made.
        lost: the attempt that failed, until who watches has been told (`tell`).

    """

    def __init__(self, times: StreamTimes, policy: RetryPolicy) -> None:
        self.due_at = 0.0
        self.lost: Optional[Attempt] = None
        self._failures = 0
        self._policy = policy._replace(
            base_delay=times.reconnect_base, max_delay=times.reconnect_max
        )

    @property
    def are_used_up(self) -> bool:
        """Whether they were made, and none is left."""
        return 0 < self._policy.max_retries <= self._failures

    def bore_fruit(self) -> None:
        """There was progress: the count begins anew."""
        self._failures = 0

    def plan(
        self,
        cause: Optional[Exception],
        *,
        retry: Optional[int],
        remaining: float,
        now: float,
        jitter: float,
    ) -> Optional[str]:
        """Set the time of the next one; or say why there is none.

        `retry` is what the stream itself said of it, in milliseconds; `remaining` is what is left
        until a deadline, in seconds.
        """
        throttled = isinstance(cause, RateLimitError)
        policy = self._policy if throttled else self._policy._replace(max_retry_after=LONGEST_PAUSE)
        verdict = policy.decide(
            self._failures,
            jitter,
            throttled=throttled,
            retry_after=max(asked_pause(cause), (retry or 0) / 1000),
            remaining=remaining,
        )
        if isinstance(verdict, GiveUp):
            return verdict.reason
        self._failures += 1
        self.put_off(verdict.delay, cause, now)
        return None

    def put_off(self, seconds: float, cause: Optional[BaseException], now: float) -> None:
        """The next one is made after so long, because of `cause`."""
        self.due_at = now + seconds
        self.lost = Attempt(self._failures or 1, Phase.REPLY_BROKEN, delay=seconds)
        if isinstance(cause, FlowMaestroError) and cause.attempts:
            refused = cause.attempts[-1]
            self.lost = self.lost._replace(outcome=refused.outcome, code=refused.code)

    def tell(self) -> Optional[Attempt]:
        """The attempt that failed, once."""
        lost, self.lost = self.lost, None
        return lost
