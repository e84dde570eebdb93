"""A journal in memory, that outlives the machines that write to it."""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, List, Optional, Tuple, Type

from flowmaestro_core.actions import Action, Record
from flowmaestro_core.machines import machine_for
from flowmaestro_core.records import JournalRow, Key, Recalled
from flowmaestro_core.resources.workflows import Workflows
from tests.harness.core.batch_steps import BatchStepper
from tests.harness.core.stepping import Possibilities, Report, Stepper, a_context


class MemoryJournal:
    """Does what `Record` asks, as the journal on disk does."""

    def __init__(self, clock: Callable[[], float], *, keyed: bool = False) -> None:
        self.rows: Dict[Key, JournalRow] = {}
        self.orders: Dict[str, int] = {}
        self._clock = clock
        self._keyed = keyed
        self._begun_at = clock()

    @property
    def known(self) -> int:
        if self._keyed:
            return len(self.rows)
        return max((int(key) + 1 for key in self.rows), default=0)

    def keep(self, record: Record) -> Recalled:
        known = self.known
        last_order = max([0, *self.orders.values(), *(row.order for row in self.rows.values())])
        for row in record.rows:
            self._put(row)
        rows = tuple(self.rows[key] for key in record.keys if key in self.rows)
        orders = tuple((it, self.orders[it]) for it in record.execution_ids if it in self.orders)
        has_baseline = 0 in self.orders.values()
        age = math.inf if has_baseline else self._clock() - self._begun_at
        return Recalled(rows, orders, known, last_order, age)

    def _put(self, row: JournalRow) -> None:
        before = self.rows.get(row.key)
        if row.state == "starting":
            self.rows[row.key] = row
        elif before is not None:
            self.rows[row.key] = before._replace(
                state=row.state,
                execution_id=row.execution_id,
                execution=row.execution,
                harmless_failure=row.harmless_failure,
            )
        if row.state == "started":
            self.orders[str(row.execution_id)] = row.order


class Journaled:
    """The possibilities of a world in which batches keep a journal, and sometimes die."""

    durations = Possibilities(()).durations

    def __init__(self, responses: Any) -> None:
        self._world = Possibilities(responses)
        self._journal: MemoryJournal
        self._left = 0
        self.foreign: Tuple[Type[Exception], ...] = ()

    def journaling(self, rows: List[Any], **more: Any) -> Stepper:
        """A batch; two of three go on where the one before was left."""
        arguments: Any = {"journal": "unused", "timeout": 20.0, "concurrency": 2, **more}
        batch = Workflows.run_many("w", rows, **arguments)
        stepper = BatchStepper(machine_for(batch, a_context(), "token"))
        stepper.foreign = self.foreign
        if self._left % 3 == 0:
            self._journal = MemoryJournal(lambda: stepper.now, keyed="key" in more)
        self._journal._clock = lambda: stepper.now
        self._left += 1
        return stepper

    def after(self, action: Optional[Action]) -> List[Report]:
        if isinstance(action, Record):
            return [Report("recorded", (self._journal.keep(action),))]
        return self._world.after(action)
