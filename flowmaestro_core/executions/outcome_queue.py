"""Handing over the outcomes of a batch: in which order, how many so far, and how fast."""

from __future__ import annotations

from collections import OrderedDict
from typing import Optional, Tuple

from flowmaestro_core.executions.outcome import RunOutcome
from flowmaestro_core.payloads.reply import RateLimit

MINUTE, DAY = 60.0, 86_400.0


class OutcomeQueue:
    """Outcomes that have come, until they are handed over: as they come, or `ordered`.

    Attributes:
        next_index: of an ordered batch, which row is handed over next.
        done, failed: how many were handed over.

    """

    def __init__(self, ordered: bool) -> None:
        self.next_index = 0
        self.done = 0
        self.failed = 0
        self._ordered = ordered
        self._waiting: OrderedDict[int, RunOutcome] = OrderedDict()
        self._begun_at = self._now = 0.0
        self._not_replayed = 0
        """How many were handed over that are not from the journal."""
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

    def put(self, outcome: RunOutcome) -> None:
        """An outcome has come."""
        self._waiting[outcome.index] = outcome

    def get(self, now: float, *, final: bool = False) -> Optional[RunOutcome]:
        """The next one to hand over, if it is there.

        When `final`, rows without an outcome are passed over.
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
        self.failed += not outcome.ok
        if not outcome.replayed:
            self._now = now
            self._not_replayed += 1
        return outcome

    @property
    def undelivered(self) -> Tuple[RunOutcome, ...]:
        """Those that have not been handed over."""
        return tuple(self._waiting.values())

    def seconds_for(self, rows: Optional[int]) -> Optional[float]:
        """An estimate of the seconds that so many further rows take; `None` for no idea.

        They take as long as those before them, and longer where the requests that they need are
        more than the key's windows allow.
        """
        if rows is None or not self._not_replayed:
            return None
        at_this_pace = rows * (self._now - self._begun_at) / self._not_replayed
        return max(
            at_this_pace, _seconds_for(rows * self._requests / self._not_replayed, self._limit)
        )


def _seconds_for(requests: float, limit: RateLimit) -> float:
    """How long a key's windows make so many requests take."""
    seconds = 0.0
    if limit.limit and limit.remaining is not None and requests > limit.remaining:
        left = MINUTE if limit.reset_after is None else limit.reset_after
        windows = (requests - limit.remaining) / limit.limit
        seconds = left + (windows - 1) * MINUTE if windows > 1 else left
    if limit.limit_day and limit.remaining_day is not None and requests > limit.remaining_day:
        seconds = max(seconds, (requests - limit.remaining_day) / limit.limit_day * DAY)
    return seconds
