"""How often to poll: pure functions of what is known, and the schedule of one wait."""

from __future__ import annotations

from flowmaestro_core.payloads.reply import RateLimit

FIRST_POLL = 0.15
RAMP = 0.35
NEARLY_SPENT = 0.1
LONGEST_WINDOW = 86_400.0
"""Seconds after which any window of a key has ended, whatever `X-RateLimit-Reset` says."""
LEAST_TIMEOUT = 1.0
"""Seconds for an answer that something else waits for, at least."""
MOST_DOUBLINGS = 3


def poll_delay(elapsed: float, poll_interval: float) -> float:
    """Seconds until the next poll of a wait that has lasted `elapsed` seconds.

    Short runs are seen early: the delay grows with the wait, so that an ending is noticed at
    most about a third of the run late, until it reaches `poll_interval`.
    """
    return min(poll_interval, max(FIRST_POLL, RAMP * elapsed))


def paced(delay: float, limit: RateLimit) -> float:
    """`delay`, stretched when the key's window is nearly spent.

    Once less than a tenth of the window is left, what is left is spread over the time to its
    end (`X-RateLimit-Remaining`, `-Limit`, `-Reset`).
    """
    if limit.remaining is None or limit.limit is None or limit.reset_after is None:
        return delay
    if limit.remaining > NEARLY_SPENT * limit.limit:
        return delay
    return max(delay, min(limit.reset_after, LONGEST_WINDOW) / (limit.remaining + 1))


class AdaptiveTimeout:
    """How long an answer may take where something else waits for it meanwhile.

    Twice as long as the last answer took, at least `LEAST_TIMEOUT`; and twice that each time
    that an answer stays out, for one of several executions at most `MOST_DOUBLINGS` times. Where no
    poll at all is answered, there is no such bound.
    """

    def __init__(self) -> None:
        self.took = 0.0
        self.unanswered = 0

    def seconds(self, unanswered: int = 0) -> float:
        """For a poll of what was polled in vain `unanswered` times in a row."""
        doublings = max(min(unanswered, MOST_DOUBLINGS), min(self.unanswered, 64))
        return max(LEAST_TIMEOUT, 2 * self.took) * 2.0**doublings

    def answered(self, took: float) -> None:
        """An answer took so many seconds."""
        self.took = took
        self.unanswered = 0

    def ran_out(self) -> None:
        """A poll was given up."""
        self.unanswered += 1


class PollSchedule:
    """When a wait that began at `started` polls: soon, and then less and less often.

    `next_at` is when the next poll is due.
    """

    def __init__(self, started: float, poll_interval: float) -> None:
        self.next_at = started
        self.interval = poll_interval
        self._started = started

    def answered(self, now: float) -> float:
        """Something told that the execution runs on: seconds until the next poll."""
        delay = poll_delay(now - self._started, self.interval)
        self.next_at = now + delay
        return delay
