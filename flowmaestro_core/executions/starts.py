"""The starts of a batch: which row is started next, when, and what a failed start means."""

from __future__ import annotations

import math
from collections import deque
from typing import Any, Deque, List, Optional

from flowmaestro_core.errors import (
    AuthenticationError,
    AuthorizationError,
    FlowMaestroError,
    InsufficientCreditsError,
    NotFoundError,
    RateLimitError,
    ValidationError,
)
from flowmaestro_core.executions.rows import Row
from flowmaestro_core.http.messages import Phase
from flowmaestro_core.machine import Machine
from flowmaestro_core.policy.retry import RetryPolicy, turned_away

PAUSE_AFTER_REFUSAL = RetryPolicy().throttled_base_delay
"""Seconds until a start that was refused with a 429 is tried again, at least."""
POINTLESS = (
    AuthenticationError,
    AuthorizationError,
    InsufficientCreditsError,
    NotFoundError,
)
"""What a start is refused with that every other start would be refused with, too."""


class Starts:
    """Rows that are to be started, one after another.

    Attributes:
        backlog: rows of which it is known that they are to be started.
        announced: those whose turn comes next; a journal records all of them at once.
        row: the one under way, until its call has ended.
        parked: its call, if it is to be tried again later.
        not_before: when the next request may go out.
        until: when the time of the one under way is up.
        recorded_at: when the announced ones were last recorded as `starting`.

    """

    def __init__(self) -> None:
        self.backlog: Deque[Row] = deque()
        self.announced: Deque[Row] = deque()
        self.row: Optional[Row] = None
        self.parked: Optional[Machine[Any]] = None
        self.not_before = -math.inf
        self.until = math.inf
        self.recorded_at = -math.inf
        self._failures = 0

    @property
    def pending(self) -> bool:
        """Whether a start is to be made, or made again."""
        return self.row is not None or bool(self.announced)

    def due(self, not_before: float) -> float:
        """When the start whose turn it is is due: no later than its time is up."""
        if self.row is None:
            return math.inf
        return min(max(self.not_before, not_before), self.until)

    def announce(self, row: Row) -> None:
        """One more is to be started; that is not recorded yet."""
        self.announced.append(row)
        self.recorded_at = -math.inf

    def take_turn(self, until: float) -> None:
        """It is the next row's turn, up to that time."""
        if self.row is None and self.announced:
            self.row = self.announced.popleft()
            self.until = until

    def park(self, call: Optional[Machine[Any]], seconds: float, now: float) -> None:
        """The row under way is to be tried again: with `call`, or from the beginning."""
        self.parked = call
        self.not_before = max(self.not_before, now + seconds)

    def end(self) -> Row:
        """The row under way is started, or will not be; which it was."""
        row, self.row, self.parked = self.row, None, None
        self.until = math.inf
        assert row is not None  # noqa: S101 - for type checkers
        return row

    def succeeded(self) -> None:
        """The server accepted a start."""
        self._failures = 0

    def failed(self, error: FlowMaestroError, now: float) -> None:
        """Nothing was achieved: the more often in a row, the longer the pause before the next."""
        if not isinstance(error, (RateLimitError, ValidationError)):
            bound = RetryPolicy().base_delay * 2.0 ** min(self._failures, 64)
            self._failures += 1
            self.not_before = max(self.not_before, now + min(bound, RetryPolicy().max_delay))

    @property
    def unsent(self) -> List[Row]:
        """The row whose turn it is, and those that are announced, in the order of their turns."""
        return [*([] if self.row is None else [self.row]), *self.announced]

    def abandon(self) -> List[Row]:
        """Start no more; the rows that were announced for nothing."""
        rows = self.unsent
        self.backlog.clear()
        self.announced.clear()
        if self.row is not None:
            self.end()
        return rows


def may_have_acted(error: FlowMaestroError) -> bool:
    """Whether the server may have started an execution, although the start failed.

    It inserts the execution before it starts the engine, so a 5xx tells nothing; but for a 503
    that says when to come again, with which it turns a request away.
    """
    outcome = error.attempts[-1].outcome
    if isinstance(outcome, Phase):
        return outcome is not Phase.NOT_SENT
    if isinstance(error, NotFoundError) or turned_away(error, outcome):
        return False
    return outcome >= 500 or outcome == 408 or outcome < 300
