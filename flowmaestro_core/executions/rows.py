"""The rows of a batch: as they are read, and as its journal knows them."""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, Deque, Dict, Iterable, Iterator, List, Optional, Tuple, cast

from flowmaestro_core.errors import FlowMaestroError, JournalError, ValidationError
from flowmaestro_core.executions.operation import Batch, Encode
from flowmaestro_core.executions.outcome import RunOutcome
from flowmaestro_core.executions.outcome_queue import OutcomeQueue
from flowmaestro_core.records import JournalPlan, JournalRow, Key, RowState, digest_of
from flowmaestro_core.types import Execution

CHUNK = 256
"""Rows that are read, and looked up in the journal, at a time."""
LOOK_AHEAD = 4
"""Of an ordered batch: how many rows per place in flight may be ahead of the one awaited."""
MAX_BACKLOG = 1024
"""Of an iterator: rows to be started that are kept while those that the journal knows are read."""


@dataclass(eq=False)
class Row:
    """One row, and what is known of its execution.

    Attributes:
        body: of the request that starts it, while that is to be made.
        digest: of its inputs, once its body was made or the journal has told.
        order: of its last start among all starts, as the journal has it.
        settled: how often it was in doubt and a look-up did not find it.
        failure: how its last start lost its reply, if this batch made it.
        from_earlier_call: whether an earlier call with this journal started its execution.
        refusal: `refusal_of` the server error that was shown to start nothing for this row.

    """

    index: int
    inputs: Any
    key: Key
    body: bytes = b""
    digest: bytes = b""
    reruns: int = 0
    order: int = 0
    execution_id: Optional[str] = None
    settled: int = 0
    failure: Optional[FlowMaestroError] = None
    from_earlier_call: bool = False
    refusal: bytes = b""

    def outcome(
        self,
        execution: Optional[Execution] = None,
        error: Optional[FlowMaestroError] = None,
        *,
        replayed: bool = False,
    ) -> RunOutcome:
        """What became of it."""
        return RunOutcome(self.index, self.inputs, self.execution_id, execution, error, replayed)

    def record(self, state: RowState, execution: Optional[Execution] = None) -> JournalRow:
        """What a journal is to keep of it."""
        found = self.execution_id if state in ("started", "ended") else None
        return JournalRow(
            self.key,
            self.digest,
            state,
            self.reruns,
            self.order,
            found,
            execution,
            self.refusal,
        )

    def rerun(self) -> None:
        """Forget the ended execution, so that the row is started again under another token."""
        self.reruns += 1
        self.execution_id, self.from_earlier_call = None, False

    def token(self, batch: str) -> str:
        """What tells its start from all others, made of the token of its batch."""
        name = str(self.key)
        if isinstance(self.key, str):
            name = hashlib.blake2b(name.encode(), digest_size=12).hexdigest()
        return f"{batch}-{name}-{self.reruns}" if self.reruns else f"{batch}-{name}"


class PendingRecords:
    """What the journal is to keep next. Where there is none, nothing is noted."""

    def __init__(self, *, journaled: bool) -> None:
        self.journaled = journaled
        self._rows: List[JournalRow] = []

    def add(self, row: Row, state: RowState, execution: Optional[Execution] = None) -> None:
        """Have this recorded before anything else happens."""
        if self.journaled:
            self._rows.append(row.record(state, execution))

    def drain(self) -> Tuple[JournalRow, ...]:
        """All that was noted."""
        rows, self._rows = tuple(self._rows), []
        return rows


class RowIterator:
    """Reads rows one after another.

    Attributes:
        read: how many rows were read.
        exhausted: whether there are no more.

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
        self.read = 0
        self.exhausted = False

    def next(self) -> Optional[Row]:
        """The next row, if there is one.

        Raises what the caller's iterator or key function raises, and `JournalError` for a key
        that is there twice.
        """
        for inputs in self._iterator:
            index = self.read
            key = index if self._key is None else self._key_of(index, inputs, self._key)
            self.read += 1
            return Row(index, inputs, key)
        self.exhausted = True
        return None

    def prepare(self, row: Row) -> None:
        """Make a row's body and its digest.

        Raises `ValidationError` (code `invalid_input`), naming the row. Its digest then equals
        that of no row that can be sent.
        """
        read, row.digest = row.digest, b"cannot be sent"
        try:
            body = cast("Encode", self._encode)(row.inputs)
            digest = digest_of(body)
        except Exception as cause:  # of a mapping of the caller's own, too
            said = cause if isinstance(cause, (TypeError, ValueError)) else repr(cause)
            raise _unsendable(row, said) from cause
        if read not in (b"", digest):
            raise _unsendable(row, "it has changed since it was read")
        row.body, row.digest = body, digest

    def _key_of(self, index: int, inputs: Any, key: Callable[[Any], Key]) -> Key:
        made = key(inputs)
        if isinstance(made, bool) or not isinstance(made, (int, str)):
            kind = type(made).__name__  # pyright: ignore[reportUnreachable]
            raise TypeError(f"key must make a str or an int of inputs[{index}], not {kind}")
        text = str(made)
        try:
            text.encode()
        except UnicodeEncodeError:
            said = f"the key of inputs[{index}] holds a lone surrogate, which UTF-8 cannot express"
            raise ValueError(said) from None
        if text in self._seen:
            raise JournalError(
                f"inputs[{self._seen[text]}] and inputs[{index}] have the same key {text!r}",
                "duplicate_key",
            )
        self._seen[text] = index
        return text


class RowReader:
    """Reads rows, no more than there is room for, and compares them with the journal.

    Rows of a sequence are all compared before anything is started (`unchecked`); those of an
    iterator as they are read. Without a journal there is nothing to compare.

    Attributes:
        source: where the rows come from.
        to_start: rows of which it is known that they are to be started.
        to_look_up: rows that are read and are to be looked up in the journal.
        outcomes: the outcomes of the batch.
        unchecked: a second source of the rows, which are still to be compared; `None` when all are.

    """

    def __init__(self, batch: Batch, plan: JournalPlan, outcomes: OutcomeQueue) -> None:
        self._new_source = partial(RowIterator, batch.inputs, batch.encode, plan.key)
        self.source = self._new_source()
        self.to_start: Deque[Row] = deque()
        self.to_look_up: List[Row] = []
        self.unchecked: Optional[RowIterator] = None
        self._is_sequence = isinstance(batch.inputs, Sequence)
        self._most = math.inf if self._is_sequence else MAX_BACKLOG
        self._look_ahead = LOOK_AHEAD * batch.concurrency if batch.ordered else math.inf
        self._by_index = plan.key is None
        self._rerun = plan.rerun
        self._redo = plan.redo
        self._known = self._matched = 0
        self.outcomes = outcomes

    def opened(self, known: int) -> None:
        """The journal tells how many rows it holds, or up to which index."""
        self._known = known
        if self._is_sequence and (known or not self._by_index):
            self.unchecked = self._new_source()

    def look_up(self) -> bool:
        """Read the rows that are to be looked up next, if there are any; whether it read.

        Raises `JournalError` for rows that are not those of the journal.
        """
        source = self.unchecked or self.source
        if self.unchecked is None and not (self._replaying and self._may_read):
            return False
        while len(self.to_look_up) < CHUNK:
            row = source.next()
            if row is None:
                break
            self.to_look_up.append(row)
            is_first_reading = source is self.unchecked or not self._is_sequence
            if is_first_reading or row.index in self._redo:
                with suppress(ValidationError):  # told when it is this row's turn
                    source.prepare(row)
                row.body = b""
        if not self.to_look_up:
            self._refuse_missing(source)
            self.unchecked = None
        return True

    def looked_up(self, found: Iterable[JournalRow]) -> Iterator[Tuple[Row, JournalRow]]:
        """The rows that are not to be started, with what the journal holds of them.

        Raises `JournalError` for a row that has other contents than it had.
        """
        rows, self.to_look_up = self.to_look_up, []
        in_journal = {row.key: row for row in found}
        for row in rows:
            had = in_journal.get(row.key)
            if had is not None and _has_changed(row, had):
                self._check_change(row, had)
        if self.unchecked is not None or not rows:
            return
        if self.source.exhausted:
            self._refuse_missing(self.source)
        self._matched += len(rows if self._by_index else in_journal)
        for row in rows:
            had = in_journal.get(row.key)
            if had is not None and self._restore(row, had):
                yield row, had
            else:
                self.to_start.append(row)

    def _check_change(self, row: Row, had: JournalRow) -> None:
        """Raise `JournalError` unless `redo` allows to start this changed row again."""
        if row.index not in self._redo:
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

    def _restore(self, row: Row, had: JournalRow) -> bool:
        """Take in what the journal holds of a row; whether it is not to be started."""
        row.reruns, row.order, row.refusal = had.reruns, had.order, had.refusal
        is_to_rerun = had.state == "ended" and had.execution["status"] in self._rerun
        if is_to_rerun or _has_changed(row, had):
            row.rerun()
            return False
        row.execution_id = had.execution_id
        if had.state == "open":
            return False
        row.from_earlier_call = True
        row.digest = row.digest or had.digest
        return True

    def take(self, most: int) -> Iterator[Row]:
        """The next rows that are to be started, as far as they may be read.

        Prepare each before the next one: the caller's iterator may fill one dict again and again.
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
        """Whether the journal holds rows that were not met yet."""
        return self._matched < self._known and not self.source.exhausted

    @property
    def _may_read(self) -> bool:
        ahead = self.source.read - self.outcomes.next_index
        return ahead < self._look_ahead and len(self.to_start) < self._most

    def _refuse_missing(self, source: RowIterator) -> None:
        """The rows are at their end: so must be the journal."""
        known, read = self._known, source.read
        if self._by_index and read < known:
            end = f"these rows end with inputs[{read - 1}]" if read else "there are no rows"
            raise _mismatch(f"it has inputs[{known - 1}], and {end}")


def _has_changed(row: Row, had: JournalRow) -> bool:
    """Return whether a row that was started before has other inputs now."""
    return had.state != "open" and row.digest not in (b"", had.digest)


def _unsendable(row: Row, why: object) -> ValidationError:
    error = ValidationError(f"inputs[{row.index}] cannot be sent: {why}", "invalid_input")
    error.status_code = None  # nothing was sent, so nobody answered
    return error


def _mismatch(what: str) -> JournalError:
    return JournalError(f"The journal belongs to other rows: {what}", "journal_mismatch")
