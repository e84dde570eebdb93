"""When a lost event stream is reconnected, and for how long: pure decisions."""

from __future__ import annotations

import math
from typing import Optional

from flowmaestro_core.errors import Attempt, FlowMaestroError, RateLimitError
from flowmaestro_core.executions.wait import asked_pause
from flowmaestro_core.http.messages import Phase
from flowmaestro_core.policy.stream_times import StreamTimes

LONGEST_PAUSE = 600.0
"""Seconds; a server that asks to reconnect later than that is not waited for."""
LONGEST_REFUSAL = 60.0
"""The same for a 429."""
LEAST_JITTER = 0.1
"""An unlucky draw does not make a tight loop of reconnecting."""


class Reconnections:
    """Ever later, until `reconnect_for` seconds have passed without progress.

    Reconnecting is not retrying a call: `max_retries` does not count here.

    Attributes:
        due_at: when the next one is to be made.
        lost: the attempt that failed, until who watches has been told (`tell`).

    """

    def __init__(self, times: StreamTimes) -> None:
        self.due_at = 0.0
        self.lost: Optional[Attempt] = None
        self.used_up = False
        """Whether `reconnect_for` is over."""
        self._failures = 0
        self._until = math.inf
        self._times = times

    def bore_fruit(self) -> None:
        """There was progress: the count and the time begin again."""
        self._failures = 0
        self.server_answers()

    def server_answers(self) -> None:
        """The server is there: the time begins again."""
        self.used_up = False
        self._until = math.inf

    def plan(
        self,
        cause: Optional[Exception],
        *,
        retry: Optional[int],
        now: float,
        jitter: float,
    ) -> Optional[str]:
        """Set the time of the next one; or say why there is none.

        `retry` is what the stream itself said of it, in milliseconds.
        """
        lasts = self._times.reconnect_for
        self._until = min(self._until, now + lasts)
        self.used_up = now >= self._until
        if self.used_up:
            return f"the server has not answered for {lasts:g} s"
        asked = max(asked_pause(cause), (retry or 0) / 1000)
        longest = LONGEST_REFUSAL if isinstance(cause, RateLimitError) else LONGEST_PAUSE
        if asked > longest:
            return f"the server asks to wait {asked:g} s, longer than {longest:g} s"
        bound = self._times.reconnect_base * 2.0 ** min(self._failures, 64)
        drawn = min(bound, self._times.reconnect_max) * max(jitter, LEAST_JITTER)
        self._failures += 1
        self.put_off(max(min(drawn, self._until - now), asked), cause, now)
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
