"""How often to ask: pure functions of what is known."""

from __future__ import annotations

from flowmaestro_core.reply import RateLimit

FIRST_POLL = 0.15
RAMP = 0.35
NEARLY_SPENT = 0.1


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
    return max(delay, limit.reset_after / (limit.remaining + 1))
