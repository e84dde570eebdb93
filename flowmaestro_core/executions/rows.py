"""Reading the rows of a batch, and comparing them with its journal."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import (
    Any,
    Callable,
    Deque,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Tuple,
    cast,
)

from flowmaestro_core.errors import (
    FlowMaestroError,
    JournalError,
    ValidationError,
)
from flowmaestro_core.executions.operation import Batch, Encode
from flowmaestro_core.executions.outcome import EndedExecution, RunOutcome
from flowmaestro_core.executions.outcome_queue import OutcomeQueue
from flowmaestro_core.executions.saved_states import SavedRow
from flowmaestro_core.executions.start import NEW, Start
from flowmaestro_core.records import JournalPlan, Key, digest_of
from flowmaestro_core.store import HEADER_KEY, MAX_KEY_SIZE, MAX_KEYS

LOOK_AHEAD = 4
"""With `ordered`: this number times `concurrency` rows may be read ahead of the next outcome. A
lookup in the journal may exceed this by up to `MAX_KEYS` rows."""
MAX_BACKLOG = 1024
"""With an iterator as input: how many rows may wait for their start while rows that the journal
knows are still being read. A lookup in the journal may exceed this by up to `MAX_KEYS` rows."""


class Row(Start):
    """One element of `inputs`, and its start.

    Attributes:
        index: its position in `inputs`.
        inputs: the element.
        body: the body of the request that starts the row; empty while it is not needed.
        is_saved: whether the journal has a state of the row, or the next `Save` keeps one.

    """

    __slots__ = ("body", "index", "inputs", "is_saved")

    def __init__(self, index: int, inputs: Any, key: Key) -> None:
        """`key` identifies the row in the journal: its index, or what `key=` returns as a text."""
        super().__init__(key)
        self.index: int = index
        self.inputs: Any = inputs
        self.body: bytes = b""
        self.is_saved: bool = False

    @property
    def name(self) -> str:
        return f"inputs[{self.index}]"

    def outcome(
        self,
        execution: Optional[EndedExecution] = None,
        error: Optional[FlowMaestroError] = None,
        *,
        replayed: bool = False,
    ) -> RunOutcome:
        """Return the outcome of this row, with its ended `execution` and the `error` that it met.

        With neither, the execution still runs. `replayed` says that the outcome was read from the
        journal.
        """
        return RunOutcome(self.index, self.inputs, self.execution_id, execution, error, replayed)

    @property
    def saved_key(self) -> str:
        """The key of its state in the journal."""
        return str(self.key)

    def saved(self, outcome: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Return its state, to be saved. `outcome` is its execution if it has ended, else `None`.

        Does not save it.
        """
        stage = self.stage
        found = self.execution_id if stage in ("started", "ended") else None
        return SavedRow(
            self.saved_key,
            stage,
            self.digest,
            self.number,
            self.reruns,
            self.refusal,
            found,
            outcome,
        ).as_dict()


class RowIterator:
    """Reads the inputs one after another, and makes each a `Row` with its index and key.

    Attributes:
        read: how many rows were read.
        exhausted: whether the end of the inputs was reached.

    """

    def __init__(
        self,
        inputs: Iterable[Any],
        encode: Optional[Encode],
        key: Optional[Callable[[Any], Key]] = None,
    ) -> None:
        self._iterator: Iterator[Any] = iter(inputs)
        self._encode = encode
        self._key = key
        self._seen: Dict[str, int] = {}
        """The index of the row with each key, to report a key that occurs twice."""
        self.read: int = 0
        self.exhausted: bool = False

    def next(self) -> Optional[Row]:
        """Return the next row, or `None` at the end.

        Raises the exceptions of the caller's iterator and key function, `TypeError` or `ValueError`
        for a key that cannot be used, and `JournalError` if two rows have the same key.
        """
        for inputs in self._iterator:
            index = self.read
            key = index if self._key is None else self._key_of(index, inputs, self._key)
            self.read += 1
            return Row(index, inputs, key)
        self.exhausted = True
        return None

    def prepare(self, row: Row) -> None:
        """Encode the body of a row, and compute its digest.

        Raises `ValidationError` (code `invalid_input`), which names the row, if the row cannot be
        encoded, or if its digest was known and is another one now. After such an error, the digest
        of the row is equal to that of no row that can be sent.
        """
        read, row.digest = row.digest, "cannot be sent"
        try:
            body = cast("Encode", self._encode)(row.inputs)
            digest = digest_of(body)
        except Exception as cause:  # A mapping class of the caller may raise any exception.
            said = cause if isinstance(cause, (TypeError, ValueError)) else repr(cause)
            raise _unsendable(row, said) from cause
        if read not in ("", digest):
            raise _unsendable(row, "it has changed since it was read")
        row.body, row.digest = body, digest

    def _key_of(self, index: int, inputs: Any, key: Callable[[Any], Key]) -> Key:
        made = key(inputs)
        if isinstance(made, bool) or not isinstance(made, (int, str)):
            kind = type(made).__name__  # pyright: ignore[reportUnreachable]
            raise TypeError(f"key must make a str or an int of inputs[{index}], not {kind}")
        text = str(made)
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            said = f"the key of inputs[{index}] holds a lone surrogate, which UTF-8 cannot express"
            raise ValueError(said) from None
        if size > MAX_KEY_SIZE:
            raise ValueError(
                f"the key of inputs[{index}] has {size} bytes; at most {MAX_KEY_SIZE} are allowed: "
                "pass a digest of it"
            )
        if text == HEADER_KEY:
            raise ValueError(f"the key of inputs[{index}] must not be {text!r}: it is reserved")
        if text in self._seen:
            raise JournalError(
                f"inputs[{self._seen[text]}] and inputs[{index}] have the same key {text!r}",
                "duplicate_key",
            )
        self._seen[text] = index
        return text


class RowReader:
    """Reads rows as long as there is room for them, and compares them with the journal.

    There is no room while `MAX_BACKLOG` rows of an iterator wait for their start. In an ordered
    batch, there is also no room for a row that is `LOOK_AHEAD` times the concurrency ahead of the
    next outcome. A lookup in the journal reads up to `MAX_KEYS` rows, and checks only before the
    first one whether there is room.

    To compare is to check that a row has the inputs that the journal has for its key, and that no
    two rows have the same key. A sequence is read twice if the journal holds rows, or if `key=` is
    used: all of its rows are compared before anything is started (`unchecked`). Then they are read
    again, as far as there is room. The rows of any other input are compared as they are read.
    Without a journal there is nothing to compare.

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
        self._by_index = plan.key is None
        self._total = batch.total
        self._rerun = plan.rerun
        self._redo = plan.redo
        self._rows_in_journal = 0
        """How many rows the journal holds; without `key=`, the index after the last one."""
        self._matched = 0
        """How many rows were compared so far; with `key=`, only those that the journal holds."""
        self.outcomes = outcomes

    def opened(self, known: int) -> None:
        """Set `known`, the number of rows that the journal holds.

        Without `key=`, `known` is the index after the last row in the journal, even if the journal
        lacks some rows before it. If the input is a sequence that is read twice, `look_up` begins
        with the first of the two readings.
        """
        self._rows_in_journal = known
        if self._is_sequence and (known or not self._by_index):
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
            self._refuse_missing(source)
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
        for row in rows:
            had = in_journal.get(row.saved_key)
            if had is not None and _has_changed(row, had):
                self._check_change(row, had)
        if self.unchecked is not None or not rows:
            return
        if self.source.exhausted:
            self._refuse_missing(self.source)
        for row in rows:
            had = in_journal.get(row.saved_key)
            if had is not None and had.state == "ended" and had.outcome is None:
                self.to_look_up.append(row)
                continue
            self._matched += 1 if self._by_index or had is not None else 0
            if had is not None and self._restore(row, had):
                yield row, had
            else:
                self.to_start.append(row)

    def _check_change(self, row: Row, had: SavedRow) -> None:
        """Raise `JournalError` unless the changed row may be started again.

        It may if the caller listed it in `redo`, and its last execution, of which the journal has
        the record `had`, can no longer be running.
        """
        if row.index not in self._redo:
            if self._by_index and self._total is not None and self._total < self._rows_in_journal:
                # A row was removed, so those after it seem to have changed.
                more = f"which has more rows, up to inputs[{self._rows_in_journal - 1}]"
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

    def _restore(self, row: Row, had: SavedRow) -> bool:
        """Restore the state of a row from `had`, its state in the journal.

        Return False if the row must be started.
        """
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
        return self._matched < self._rows_in_journal and not self.source.exhausted

    @property
    def _may_read(self) -> bool:
        ahead = self.source.read - self.outcomes.next_index
        return ahead < self._look_ahead and len(self.to_start) < self._most

    def _refuse_missing(self, source: RowIterator) -> None:
        """Raise `JournalError` if, without `key=`, the journal has rows beyond the input's end."""
        known, read = self._rows_in_journal, source.read
        if self._by_index and read < known:
            end = f"these rows end with inputs[{read - 1}]" if read else "there are no rows"
            raise _mismatch(f"it has inputs[{known - 1}], and {end}")


def _has_changed(row: Row, had: SavedRow) -> bool:
    """Return whether a row that was started before has other inputs now.

    Return False if the row is `open` in the journal, or if its digest is not known yet.
    """
    return had.state != "open" and row.digest not in ("", had.digest)


def _unsendable(row: Row, why: object) -> ValidationError:
    error = ValidationError(f"inputs[{row.index}] cannot be sent: {why}", "invalid_input")
    error.status_code = None  # Nothing was sent, so there is no response.
    return error


def _mismatch(what: str) -> JournalError:
    return JournalError(f"The journal belongs to other rows: {what}", "journal_mismatch")
