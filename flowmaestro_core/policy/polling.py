"""When to poll an execution, and how long one poll may take. Reads no clock."""

from __future__ import annotations

DEFAULT_POLL_INTERVAL = 1.0
"""Seconds: the contract's value."""
FIRST_POLL = 0.15
"""Seconds until the first poll. The shortest executions end within some tenths of a second."""
RAMP = 0.35
"""The delay of a poll, as a share of the time that the wait has lasted. So an end is noticed late
by at most this share of the execution's time. A run of 2 s then costs eight polls. With half of the
share it would cost twelve, and with 0.5 seven: little is won there."""
LEAST_TIMEOUT = 1.0
"""The shortest timeout that `AdaptiveTimeout` sets for a poll, in seconds. A new connection with
TLS to another continent takes about half of it."""
MOST_DOUBLINGS = 3
"""Eight times the time of a successful poll. An execution that needs more has a poll that hangs."""


def poll_delay(elapsed: float, poll_interval: float) -> float:
    """Return the seconds until the next poll of a wait that has lasted `elapsed` seconds.

    The delay is about a third of `elapsed`, at least 0.15 s, but never more than `poll_interval`.
    So the end of a short run is noticed soon.
    """
    return min(poll_interval, max(FIRST_POLL, RAMP * elapsed))


class AdaptiveTimeout:
    """The timeout of polls that delay other requests, or the reading of a stream.

    It is twice the time that the last successful poll took, but at least `LEAST_TIMEOUT` seconds.
    It is doubled for each poll that has timed out since. Timeouts of the polled execution count up
    to `MOST_DOUBLINGS`, timeouts of all executions together up to 64. The greater number is used.
    """

    def __init__(self) -> None:
        self.took: float = 0.0
        self.unanswered: int = 0

    def seconds(self, unanswered: int = 0) -> float:
        """Return the timeout of the next poll, in seconds: see the class.

        `unanswered` is how many polls of the same execution have timed out since its last
        successful one.
        """
        # Why 64: see `retry_delay`.
        doublings = max(min(unanswered, MOST_DOUBLINGS), min(self.unanswered, 64))
        return max(LEAST_TIMEOUT, 2 * self.took) * 2.0**doublings

    def record_latency(self, took: float) -> None:
        """Record that a poll has succeeded, after `took` seconds."""
        self.took = took
        self.unanswered = 0

    def record_timeout(self) -> None:
        """Record that a poll timed out."""
        self.unanswered += 1


class PollSchedule:
    """The schedule of a wait's polls: soon after `started`, then less and less often.

    With `exact`, all polls are `poll_interval` apart instead. `next_at` is when the next poll is
    due.
    """

    def __init__(self, started: float, poll_interval: float, *, exact: bool = False) -> None:
        self.next_at: float = started
        self.interval = poll_interval
        self._started = started
        self._exact = exact

    def answered(self, now: float) -> float:
        """Schedule the next poll. Return the seconds until then."""
        delay = self.interval if self._exact else poll_delay(now - self._started, self.interval)
        self.next_at = now + delay
        return delay
