"""How fast a batch goes, and how long it will take: an estimate."""

from __future__ import annotations

from typing import Optional

from flowmaestro_core.payloads.reply import RateLimit

MINUTE, DAY = 60.0, 86_400.0


class Pace:
    """Counts what was done and what that took, in time and in requests."""

    def __init__(self) -> None:
        self._begun_at = self._now = 0.0
        self._ended = 0
        self._requests = 0
        self._limit = RateLimit()

    def begin(self, now: float) -> None:
        """The batch begins."""
        self._begun_at = self._now = now

    def replied(self, limit: RateLimit, now: float) -> None:
        """A request was answered, with what the key is allowed."""
        self._now = now
        self._requests += 1
        self._limit = limit

    def ended(self, now: float) -> None:
        """One more row has its outcome, and not from the journal."""
        self._now = now
        self._ended += 1

    def seconds_for(self, rows: Optional[int]) -> Optional[float]:
        """An estimate of the seconds that so many further rows take; `None` for no idea.

        They take as long as those before them, and longer where the requests that they need are
        more than the key's windows allow.
        """
        if rows is None or not self._ended:
            return None
        at_this_pace = rows * (self._now - self._begun_at) / self._ended
        return max(at_this_pace, self._seconds_allowed(rows * self._requests / self._ended))

    def _seconds_allowed(self, requests: float) -> float:
        limit, seconds = self._limit, 0.0
        if limit.limit and limit.remaining is not None and requests > limit.remaining:
            left = MINUTE if limit.reset_after is None else limit.reset_after
            windows = (requests - limit.remaining) / limit.limit
            seconds = left + (windows - 1) * MINUTE if windows > 1 else left
        if limit.limit_day and limit.remaining_day is not None and requests > limit.remaining_day:
            seconds = max(seconds, (requests - limit.remaining_day) / limit.limit_day * DAY)
        return seconds
