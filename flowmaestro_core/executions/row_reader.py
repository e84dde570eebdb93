"""Reading the rows of a batch as far as there is room, in the order in which they are needed."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Deque, Iterator, List, Mapping, Optional, Tuple, cast

from flowmaestro_core.errors import ValidationError
from flowmaestro_core.executions.comparison import Comparison
from flowmaestro_core.executions.operation import Batch
from flowmaestro_core.executions.outcome_queue import OutcomeQueue
from flowmaestro_core.executions.rows import Row, RowIterator
from flowmaestro_core.executions.saved_states import SavedRow
from flowmaestro_core.records import JournalPlan
from flowmaestro_core.store import MAX_KEYS

LOOK_AHEAD = 4
"""With `ordered`: this number times `concurrency` rows may be read ahead of the next outcome. So
the others wait for a slow row only if it takes about four times as long as they do. A lookup in the
journal may exceed this by up to `MAX_KEYS` rows."""
MAX_BACKLOG = 1024
"""With an iterator as input: how many rows may wait for their start while rows that the journal
knows are still being read: those of four lookups, since an iterator may be endless and its rows are
kept in memory. A lookup in the journal may exceed this by up to `MAX_KEYS` rows."""


class RowReader:
    """Reads rows as long as there is room for them, and compares them with the journal.

    There is no room while `MAX_BACKLOG` rows of an iterator wait for their start. In an ordered
    batch, there is also no room for a row that is `LOOK_AHEAD` times the concurrency ahead of the
    next outcome. A lookup in the journal reads up to `MAX_KEYS` rows, and checks only before the
    first one whether there is room.

    A sequence is read twice if the journal holds rows, or if `key=` is used: all of its rows are
    compared before anything is started (`unchecked`). Then they are read again, as far as there is
    room. The rows of any other input are compared as they are read. Without a journal there is
    nothing to compare.

    Attributes:
        source: the reader of the rows that are started or replayed.
        unchecked: the first reader of a sequence that is read twice, until all rows are compared;
            else `None`.
        to_look_up: rows that were read; what the journal holds of them is read next.
        to_start: rows that were looked up in the journal and must be started, or started again.
        outcomes: the outcomes of the batch.

    """

    def __init__(self, batch: Batch, plan: JournalPlan, outcomes: OutcomeQueue) -> None:
        self._new_source = partial(RowIterator, batch.inputs, batch.encode, plan.key)
        self.source: RowIterator = self._new_source()
        self.to_start: Deque[Row] = deque()
        self.to_look_up: List[Row] = []
        self.unchecked: Optional[RowIterator] = None
        self._is_sequence = isinstance(batch.inputs, Sequence)
        # A sequence is in memory anyway. An iterator may be endless, so few of its rows are kept.
        self._most = math.inf if self._is_sequence else MAX_BACKLOG
        self._look_ahead = LOOK_AHEAD * batch.concurrency if batch.ordered else math.inf
        self._redo = plan.redo
        self._comparison = Comparison(plan, batch.total)
        self._is_keyed = plan.key is not None
        self.outcomes = outcomes

    def opened(self, known: int) -> None:
        """Set `known`, the number of rows that the journal holds: see `Comparison`.

        If the input is a sequence that is read twice, `look_up` begins with the first of the two
        readings.
        """
        self._comparison.known = known
        if self._is_sequence and (known or self._is_keyed):
            self.unchecked = self._new_source()

    def look_up(self) -> bool:
        """Read the next rows from the inputs into `to_look_up`, for a lookup in the journal.

        Return False, without reading, if the journal need not be searched for more rows, or if
        there is no room for more rows (see the class). At the end of the inputs, leave `to_look_up`
        empty and return True. Raises what `RowIterator.next` raises, and `JournalError` if, without
        `key=`, the journal holds rows beyond the end of the inputs.
        """
        source = self.unchecked or self.source
        if self.unchecked is None and not (self._replaying and self._may_read):
            return False
        while len(self.to_look_up) < MAX_KEYS:
            row = source.next()
            if row is None:
                break
            self.to_look_up.append(row)
            is_first_reading = source is self.unchecked or not self._is_sequence
            if is_first_reading or row.index in self._redo:
                with suppress(ValidationError):  # The error is reported when the row is started.
                    source.prepare(row)
                row.body = b""
        # The reading has ended. If it was the first of two, all rows are compared now.
        if not self.to_look_up:
            self._comparison.check_end(source.read)
            self.unchecked = None
        return True

    def looked_up(self, in_journal: Mapping[str, SavedRow]) -> Iterator[Tuple[Row, SavedRow]]:
        """Yield the rows that need not be started, each with its state in the journal.

        The other rows are queued to be started. A row whose outcome the store has left out is
        looked up again. During the first reading of a sequence, rows are only compared: none is
        yielded or queued.

        Raises `JournalError` if a row differs from its record and `redo` does not allow that, or
        if, without `key=`, the journal holds rows beyond the end of the inputs.
        """
        rows, self.to_look_up = self.to_look_up, []
        comparison = self._comparison
        for row in rows:
            had = in_journal.get(row.saved_key)
            if had is not None:
                comparison.check(row, had)
        if self.unchecked is not None or not rows:
            return
        if self.source.exhausted:
            comparison.check_end(self.source.read)
        for row in rows:
            had = in_journal.get(row.saved_key)
            if had is not None and had.state == "ended" and had.outcome is None:
                self.to_look_up.append(row)
            elif comparison.restore(row, had):
                yield row, cast("SavedRow", had)
            else:
                self.to_start.append(row)

    def take(self, most: int) -> Iterator[Row]:
        """Yield up to `most` rows to start: first those in `to_start`, then rows from the inputs.

        Rows are read from the inputs here only after `look_up` has read all that the journal holds,
        and not while an ordered batch is too far ahead of its next outcome (see the class). Raises
        what `RowIterator.next` raises. Prepare each row before taking the next one: the caller's
        iterator may yield the same dict again and again, with other contents.
        """
        for _ in range(most):
            if self.to_start:
                yield self.to_start.popleft()
                continue
            row = self.source.next() if self._may_read and not self._replaying else None
            if row is None:
                return
            yield row

    @property
    def _replaying(self) -> bool:
        """Whether the inputs may have more rows that the journal holds."""
        return not (self._comparison.is_complete or self.source.exhausted)

    @property
    def _may_read(self) -> bool:
        ahead = self.source.read - self.outcomes.next_index
        return ahead < self._look_ahead and len(self.to_start) < self._most
