"""What a batch writes to its journal and reads from it: the machine's side of it, no file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import List, Optional, Tuple

from flowmaestro_core.actions import Record
from flowmaestro_core.errors import JournalError, ValidationError
from flowmaestro_core.executions.rows import Row, RowSource
from flowmaestro_core.records import JournalPlan, JournalRow, Recalled

CHUNK = 256
"""Rows that are read, and looked up in the journal, at a time."""


class Ledger:
    """Collects what is to be recorded, and looks up the rows that are read.

    Rows of a sequence are all compared with the journal before anything is started
    (`checking`); those of an iterator as they are read. Without a `plan` there is no journal, and
    nothing to record.

    Attributes:
        checking: the source of the rows that are still to be compared; `None` when all are.
        lacks_anchor: whether the journal is new, and no execution is known that is older.

    """

    def __init__(self, plan: Optional[JournalPlan], source: RowSource) -> None:
        self.plan = plan
        self.lacks_anchor = False
        self.checking: Optional[RowSource] = None
        if plan is not None and isinstance(source.inputs, Sequence):
            self.checking = RowSource(source.inputs, source.build, plan.key)
        self._digests_rows = plan is not None and self.checking is None
        self._source = source
        self._known: Optional[int] = None
        self._met = 0
        self._chunk: List[Row] = []
        self._pending: List[JournalRow] = []
        self._anchor: Optional[str] = None

    def note(self, *rows: JournalRow) -> None:
        """Have this recorded before anything else happens."""
        if self.plan is not None:
            self._pending += rows

    def anchor(self, execution_id: Optional[str]) -> None:
        """Have it recorded that this execution, if there is one, is older than the batch."""
        self._anchor, self.lacks_anchor = execution_id, False

    @property
    def replaying(self) -> bool:
        """Whether the journal holds rows that were not met yet."""
        return self._known is not None and self._met < self._known and not self._source.exhausted

    def record(self) -> Optional[Record]:
        """What there is to record, or to look up."""
        if not (self._pending or self._chunk or self._anchor):
            return None
        rows, keys = tuple(self._pending), tuple(row.key for row in self._chunk)
        durable = any(row.state == "starting" for row in rows)
        action = Record(rows, durable, keys, self.checking is not None, anchor=self._anchor)
        self._pending, self._anchor = [], None
        return action

    def read(self) -> None:
        """Read the next rows, to be looked up."""
        self._read(self._source, digested=self._digests_rows)
        if not self._chunk:
            self._refuse_missing(self._source)

    def check(self, source: RowSource) -> None:
        """Read the next rows of a sequence, to be compared."""
        self._read(source, digested=True)
        if source.broken is not None:
            self._chunk = []
            self._source.broken, self._source.exhausted = source.broken, True
        if not self._chunk:
            self.checking = None
            self._refuse_missing(source)

    def recalled(self, recalled: Recalled) -> List[Tuple[Row, Optional[JournalRow]]]:
        """The rows that were looked up, each with what the journal holds of it.

        Rows that are only compared are left out. Raises `JournalError` for one that has other
        contents than it had.
        """
        if self._known is None:
            self.lacks_anchor = recalled.known == 0 and recalled.anchor is None
            if recalled.known == 0 and self.plan is not None and self.plan.key is None:
                self.checking = None
            self._known = recalled.known
        if not self._chunk:
            return []
        chunk, self._chunk = self._chunk, []
        found = {row.key: row for row in recalled.rows}
        for row in chunk:
            known = found.get(row.key)
            if known is None or known.state == "open":
                continue
            if row.digest not in (b"", known.digest):
                raise _mismatch(f"inputs[{row.index}] is not what the journal has{_of(row)}")
        if self.checking is not None:
            return []
        if self._source.exhausted:
            self._refuse_missing(self._source)
        self._met += len(chunk if self.plan and self.plan.key is None else found)
        return [(row, found.get(row.key)) for row in chunk]

    def _read(self, source: RowSource, *, digested: bool) -> None:
        while len(self._chunk) < CHUNK:
            row = source.next()
            if row is None:
                return
            self._chunk.append(row)
            if digested:
                try:
                    source.prepare(row)
                except ValidationError:  # told when it is this row's turn
                    row.digest = b"bad"
                row.call = None

    def _refuse_missing(self, source: RowSource) -> None:
        """The rows are at their end: so must be the journal."""
        known, read = self._known or 0, source.read
        by_index = self.plan is not None and self.plan.key is None
        if by_index and read < known and source.broken is None:
            end = f"these rows end with inputs[{read - 1}]" if read else "there are no rows"
            raise _mismatch(f"it has inputs[{known - 1}], and {end}")


def _of(row: Row) -> str:
    return "" if row.key == row.index else f" under the key {row.key!r}"


def _mismatch(what: str) -> JournalError:
    return JournalError(f"The journal belongs to other rows: {what}", "journal_mismatch")
