"""The undelivered outcomes of a batch, their order, and an estimate of the remaining time."""

from __future__ import annotations

from collections import OrderedDict
from typing import Optional, Tuple

from flowmaestro_core.executions.outcome import RunOutcome
from flowmaestro_core.payloads.reply import RateLimit

MINUTE, DAY = 60.0, 86_400.0


class OutcomeQueue:
    """Queue of outcomes: first come, first delivered; or with `ordered`, in the order of the rows.

    Attributes:
        next_index: with `ordered`, the index of the next outcome to deliver.
        done, failed: how many outcomes were delivered, and how many of them are not `ok`.

    """

    def __init__(self, ordered: bool) -> None:
        self.next_index: int = 0
        self.done: int = 0
        self.failed: int = 0
        self._ordered = ordered
        self._waiting: OrderedDict[int, RunOutcome] = OrderedDict()
        """The outcomes by the index of their row, in the order in which they came."""
        self._begun_at = 0.0
        """When the batch began."""
        self._now = 0.0
        """The time of the last response, or delivery of an outcome that is not replayed."""
        self._not_replayed = 0
        """How many outcomes were delivered that are not from the journal."""
        self._requests = 0
        """How many successful responses were counted."""
        self._limit = RateLimit()
        """The rate limit of the key, as the last response has shown it."""

    def begin(self, now: float) -> None:
        """Note that the batch begins at `now`. Its pace, outcomes per second, counts from then."""
        self._begun_at = self._now = now

    def replied(self, limit: RateLimit, now: float) -> None:
        """Count a response, and remember the rate limit that it shows."""
        self._now = now
        self._requests += 1
        self._limit = limit

    def put(self, outcome: RunOutcome) -> None:
        """Add an outcome."""
        self._waiting[outcome.index] = outcome

    def get(self, now: float, *, final: bool = False) -> Optional[RunOutcome]:
        """Remove and return the next outcome to deliver; `None` if there is none.

        With `ordered`, there is none until the outcome of the next row has been added. If `final`,
        no more outcomes will be added, so rows without one are skipped. `now` is the time of the
        delivery; `seconds_for` estimates the remaining time by it.
        """
        if not self._waiting:
            return None
        if self._ordered:
            index = min(self._waiting) if final else self.next_index
            if index not in self._waiting:
                return None
            self.next_index = index + 1
            outcome = self._waiting.pop(index)
        else:
            outcome = self._waiting.popitem(last=False)[1]
        self.done += 1
        if not outcome.ok:
            self.failed += 1
        if not outcome.replayed:
            self._now = now
            self._not_replayed += 1
        return outcome

    @property
    def undelivered(self) -> Tuple[RunOutcome, ...]:
        """The outcomes that were added and are not delivered yet."""
        return tuple(self._waiting.values())

    def day_ends_after(self, total: Optional[int], started: int, fewest: int) -> Optional[int]:
        """Return after how many of `total` rows the key's requests of this day are used up.

        Each row is expected to need as many requests as the rows so far. `started` is how many of
        the rows in flight have had the request that starts them. Return `None` if the requests
        suffice, if that cannot be known, or before `fewest` rows were delivered: until then, the
        first polls of rows in flight make each row look expensive.
        """
        left = self._limit.remaining_day
        if total is None or left is None or self._not_replayed < fewest:
            return None
        queued = len(self._waiting)
        a_row = max(self._requests - started, 1) / (self._not_replayed + queued)
        ends_after = self.done + queued + int((left + started) / a_row)
        return ends_after if ends_after < total else None

    def seconds_for(self, rows: Optional[int]) -> Optional[float]:
        """Return an estimate of the seconds that `rows` more rows take.

        Return `None` if `rows` is `None`, or while no outcome was delivered, except replayed ones.

        Each row is expected to take as long as the rows so far. If the rows need more requests than
        the rate limit of the key allows in that time, the estimate is longer.
        """
        if rows is None or not self._not_replayed:
            return None
        at_this_pace = rows * (self._now - self._begun_at) / self._not_replayed
        return max(
            at_this_pace, _seconds_for(rows * self._requests / self._not_replayed, self._limit)
        )


def _seconds_for(requests: float, limit: RateLimit) -> float:
    """Return an estimate of the seconds in which the key's rate limit allows `requests`."""
    seconds = 0.0
    if limit.limit and limit.remaining is not None and requests > limit.remaining:
        left = MINUTE if limit.reset_after is None else limit.reset_after
        windows = (requests - limit.remaining) / limit.limit
        seconds = left + (windows - 1) * MINUTE if windows > 1 else left
    if limit.limit_day and limit.remaining_day is not None and requests > limit.remaining_day:
        seconds = max(seconds, (requests - limit.remaining_day) / limit.limit_day * DAY)
    return seconds
