"""The comparison of the rows of a batch with what its journal holds of them."""

from __future__ import annotations

from typing import Optional

from flowmaestro_core.errors import JournalError
from flowmaestro_core.executions.rows import Row
from flowmaestro_core.executions.saved_states import SavedRow
from flowmaestro_core.executions.start import NEW
from flowmaestro_core.records import JournalPlan


class Comparison:
    """Checks that rows have the inputs that the journal has for their keys, and restores them.

    Without `key=`, it also checks that the journal has no rows beyond the end of the inputs.

    Attributes:
        known: how many rows the journal holds. Without `key=`, it is the index after the last one,
            even if the journal lacks some rows before it.

    """

    def __init__(self, plan: JournalPlan, total: Optional[int]) -> None:
        """`total` is the number of rows of the batch; `None` if it is not known."""
        self.known: int = 0
        self._by_index = plan.key is None
        self._total = total
        self._rerun = plan.rerun
        self._redo = plan.redo
        self._met = 0
        """How many rows were restored so far; with `key=`, only those that the journal holds."""

    @property
    def is_complete(self) -> bool:
        """Whether all rows that the journal holds were restored."""
        return self._met >= self.known

    def check(self, row: Row, had: SavedRow) -> None:
        """Raise `JournalError` if a row has changed, unless it may be started again.

        It may if the caller listed it in `redo`, and its last execution, of which the journal has
        the record `had`, can no longer be running.
        """
        if not _has_changed(row, had):
            return
        if row.index not in self._redo:
            if self._by_index and self._total is not None and self._total < self.known:
                # A row was removed, so those after it seem to have changed.
                more = f"which has more rows, up to inputs[{self.known - 1}]"
                raise _mismatch(f"inputs[{row.index}] is not what the journal has, {more}")
            under = "" if self._by_index else f" under the key {row.key!r}"
            keyed = ", or use key= from the first call on if rows move" if self._by_index else ""
            raise _mismatch(
                f"inputs[{row.index}] is not what the journal has{under}; "
                f"pass redo=[{row.index}] to start the changed row again{keyed}"
            )
        if had.state == "started":
            raise JournalError(
                f"inputs[{row.index}] has changed, but its execution {had.execution_id} may still "
                "run; make the call with the old row first, which follows it to its end",
                "journal_mismatch",
            )
        if had.state == "starting":
            raise JournalError(
                f"inputs[{row.index}] has changed, but its last start is in doubt; make the call "
                "with the old row first, which settles it",
                "journal_mismatch",
            )

    def restore(self, row: Row, had: Optional[SavedRow]) -> bool:
        """Restore the state of a row from `had`, its state in the journal.

        Return False if the row must be started.
        """
        if had is None:
            self._met += self._by_index
            return False
        self._met += 1
        row.is_saved = True
        row.number, row.refusal = had.number, had.refusal
        row.restore(had.state, had.execution_id, had.reruns)
        is_to_rerun = had.outcome is not None and had.outcome["status"] in self._rerun
        if is_to_rerun or _has_changed(row, had):
            row.rerun()
        if row.state is NEW:
            return False
        row.digest = row.digest or had.digest
        return True

    def check_end(self, read: int) -> None:
        """Raise `JournalError` if the inputs end after `read` rows, and the journal has more."""
        if self._by_index and read < self.known:
            end = f"these rows end with inputs[{read - 1}]" if read else "there are no rows"
            raise _mismatch(f"it has inputs[{self.known - 1}], and {end}")


def _has_changed(row: Row, had: SavedRow) -> bool:
    """Return whether a row that was started before has other inputs now.

    Return False if the row is `open` in the journal, or if its digest is not known yet.
    """
    return had.state != "open" and row.digest not in ("", had.digest)


def _mismatch(what: str) -> JournalError:
    return JournalError(f"The journal belongs to other rows: {what}", "journal_mismatch")
