"""A journal in memory, that outlives the machines that write to it."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional

from flowmaestro_core.actions import Action, Record
from flowmaestro_core.records import JournalRow, Key, Recalled
from flowmaestro_core.resources.workflows import Workflows
from tests.harness.core.stepping import Possibilities, Report, Stepper, a_context


class MemoryJournal:
    """Does what `Record` asks, as the journal on disk does."""

    def __init__(self, clock: Callable[[], float], *, keyed: bool = False) -> None:
        self.rows: Dict[Key, JournalRow] = {}
        self.past: Dict[str, int] = {}
        self.anchor: Optional[str] = None
        self._clock = clock
        self._keyed = keyed
        self._begun_at = clock()
        self._at: Dict[Key, float] = {}
        self._number = 0

    @property
    def known(self) -> int:
        if self._keyed:
            return len(self.rows)
        return max((int(key) + 1 for key in self.rows), default=0)

    def keep(self, record: Record) -> Recalled:
        known = self.known
        for row in record.rows:
            self._put(row)
        if record.anchor is not None:
            self.anchor = record.anchor
        found = [self.rows[key] for key in record.keys if key in self.rows]
        ids = record.execution_ids
        found += [row for row in self.rows.values() if row.execution_id in ids]
        found += [
            JournalRow("", b"", "open", 0, past, None, number)
            for past, number in self.past.items()
            if past in ids
        ]
        now = self._clock()
        rows = tuple(row._replace(age=now - self._at.get(row.key, now)) for row in found)
        return Recalled(rows, known, self.anchor, now - self._begun_at)

    def _put(self, row: JournalRow) -> None:
        before = self.rows.get(row.key)
        if before is None and row.state != "starting":
            return
        if row.state == "starting":
            self._number += 1
            self._at[row.key] = self._clock()
            row = row._replace(order=self._number)
        elif before is not None:
            row = before._replace(
                state=row.state, execution_id=row.execution_id, execution=row.execution
            )
        if before is not None and before.execution_id not in (None, row.execution_id):
            self.past[str(before.execution_id)] = before.order
        self.rows[row.key] = row


class Journaled:
    """The possibilities of a world in which batches keep a journal, and sometimes die."""

    durations = Possibilities(()).durations

    def __init__(self, responses: Any) -> None:
        self._world = Possibilities(responses)
        self._journal: MemoryJournal
        self._left = 0

    def journaling(self, rows: List[Any], **more: Any) -> Stepper:
        """A batch; two of three go on where the one before was left."""
        arguments: Any = {"journal": "unused", "timeout": 20.0, "concurrency": 2, **more}
        batch = Workflows.run_many("w", rows, **arguments)
        stepper = Stepper(batch.machine(a_context(), "token"))
        if self._left % 3 == 0:
            self._journal = MemoryJournal(lambda: stepper.now)
        self._journal._clock = lambda: stepper.now
        self._left += 1
        return stepper

    def after(self, action: Optional[Action]) -> List[Report]:
        if isinstance(action, Record):
            return [Report("recorded", (self._journal.keep(action),))]
        return self._world.after(action)
