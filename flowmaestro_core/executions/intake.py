"""Reading the rows of a batch: only as many as there is room for."""

from __future__ import annotations

import math
from collections.abc import Sequence

from flowmaestro_core.errors import ValidationError
from flowmaestro_core.executions.ledger import Ledger
from flowmaestro_core.executions.operation import Batch
from flowmaestro_core.executions.outcome import Outbox
from flowmaestro_core.executions.rows import RowSource
from flowmaestro_core.executions.settling import fresh_for
from flowmaestro_core.executions.starts import Starts

AHEAD = 16
"""Rows that are recorded as `starting` at a time: each such record waits for the disk."""
LOOK_AHEAD = 4
"""Of an ordered batch: how many rows per place in flight may be ahead of the one awaited."""
LARGEST_BACKLOG = 1024
"""Of an iterator: rows to be started that are kept while those that the journal knows are read."""


class Intake:
    """Reads rows, and announces those that are to be started."""

    def __init__(
        self, batch: Batch, source: RowSource, ledger: Ledger, starts: Starts, outbox: Outbox
    ) -> None:
        self._fresh_for = fresh_for(batch.journal.settle_after) if batch.journal else 0.0
        self._look_ahead = LOOK_AHEAD * batch.concurrency if batch.ordered else None
        self._most = math.inf if isinstance(batch.inputs, Sequence) else LARGEST_BACKLOG
        self._source = source
        self._ledger = ledger
        self._starts = starts
        self._outbox = outbox

    def read_on(self, *, has_room: bool) -> bool:
        """Read rows, if there is a reason to; whether anything came of it.

        Raises `JournalError` for rows that are not those of the journal.
        """
        ledger = self._ledger
        if ledger.checking is not None:
            ledger.check(ledger.checking)
            return True
        if ledger.replaying and self._may_read():
            ledger.read()
            return True
        return has_room and not self._starts.pending and self._announce()

    def record_starts(self, now: float) -> bool:
        """Have the announced rows recorded, unless they were lately; whether that is to be done."""
        starts = self._starts
        if self._ledger.plan is None or now - starts.recorded_at <= self._fresh_for:
            return False
        starts.recorded_at = now
        self._ledger.note(*(row.record("starting") for row in starts.unsent))
        return True

    def _may_read(self) -> bool:
        ahead = self._source.read - self._outbox.next_index
        near = self._look_ahead is None or ahead < self._look_ahead
        return near and len(self._starts.backlog) < self._most

    def _announce(self) -> bool:
        """Make the next rows ready to be started; whether there were any."""
        many = 1 if self._ledger.plan is None else AHEAD
        backlog = self._starts.backlog
        while len(backlog) < many and self._may_read() and not self._ledger.replaying:
            row = self._source.next()
            if row is None:
                break
            backlog.append(row)
        rows = [backlog.popleft() for _ in range(min(many, len(backlog)))]
        for row in rows:
            try:
                self._source.prepare(row)
            except ValidationError as error:
                self._outbox.put(row.outcome(error=error))
            else:
                self._starts.announce(row)
        return bool(rows)
