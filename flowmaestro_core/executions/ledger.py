"""What a batch has still to save: the header of its store, and the states of rows."""

from __future__ import annotations

import math
from collections import deque
from typing import Any, Collection, Deque, Dict, Optional, Set

from flowmaestro_core.actions import Load, Save
from flowmaestro_core.executions.rows import Row
from flowmaestro_core.executions.saved_states import BatchIdentity, Header, read_header
from flowmaestro_core.executions.start import UNKNOWN
from flowmaestro_core.records import JournalPlan
from flowmaestro_core.store import HEADER_KEY, Loaded


class Ledger:
    """The header of the journal, and the states of rows that the next `Save` will keep.

    Without a journal, there are no such states.

    Attributes:
        has_store: whether there is a journal.
        header: the header as it was loaded or saved last, with the changes to save.
        loaded_number: the `last_number` of the header that was loaded.
        oldest: when the journal was created, on the clock of `now`: no start in doubt is older.
            Minus infinity if that does not matter, because the baseline is known, or is not known,
            because the wall clock was set back to a time before the journal was created.

    """

    def __init__(self, plan: Optional[JournalPlan], api_root: str, token: str) -> None:
        self.has_store: bool = plan is not None
        self.header: Header = Header(token, 0.0)
        self.loaded_number: int = 0
        self._created_at = -math.inf
        self._noted: Deque[Dict[str, Any]] = deque()
        self._was_processed = False
        """Whether a start of the journal was processed. Those of earlier calls count as such."""
        self._starting: Set[str] = set()
        """The keys of the rows whose state `starting` was the last one that this call has saved."""
        self._plan = plan
        if plan is not None:
            self._identity = BatchIdentity(api_root, plan.workflow_id, plan.key is not None)

    def open(self) -> Load:
        """Return the action that loads the header."""
        return Load((HEADER_KEY,))

    def opened(self, loaded: Loaded, now: float) -> Save:
        """Take over the header that was loaded. Return the action that saves it.

        That save is the fence: no process that has loaded the header before can save any more.
        Raises `JournalError` if the header is malformed or belongs to another batch.
        """
        known = read_header(loaded, self._identity)
        self.header = known or self.header._replace(at=loaded.wall_time)
        self.loaded_number = self.header.last_number
        self._was_processed = self.loaded_number > 0
        age = loaded.wall_time - self.header.at
        # If the clock was set back, starts of the batch would seem older than the journal.
        self._created_at = now - age if age >= 0 else -math.inf
        return self._save_with(())

    @property
    def oldest(self) -> float:
        # The order of the list cannot be wrong as a clock can, so with a baseline it alone counts.
        return -math.inf if self.header.after is not None else self._created_at

    def next_number(self) -> int:
        """Return the number of the next start."""
        number = self.header.last_number + 1
        self.header = self.header._replace(last_number=number)
        return number

    def add(self, row: Row, outcome: Optional[Dict[str, Any]] = None) -> None:
        """Note the state of a row, with the ended execution if there is one.

        Without a journal, do nothing.
        """
        if not self.has_store:
            return
        self._noted.append(row.saved(outcome))
        rows = row.index + 1 if isinstance(row.key, int) else self.header.rows + 1
        if not row.is_saved and rows > self.header.rows:
            self.header = self.header._replace(rows=rows)
        row.is_saved = True

    def update(self, row: Row) -> None:
        """Note the state of a row, unless the journal has it, or has no state of the row."""
        if row.is_saved and row.state is not UNKNOWN:
            self.add(row)

    @property
    def may_send(self) -> bool:
        """Whether a request may be sent before the next `Save`.

        Only states `started` may be saved after it. Until then, the journal has `starting`, so a
        process that takes over finds the execution in the server's list.
        """
        return all(state["state"] == "started" for state in self._noted)

    def save(self) -> Optional[Save]:
        """Return the action that saves what was noted; `None` if nothing was.

        Of each row, the last state is saved. But a store must have known every id, so a state that
        has none does not replace one that has: it is saved by the next action.
        """
        states: Dict[str, Dict[str, Any]] = {}
        while self._noted:
            state = self._noted[0]
            before = states.get(state["key"], state)["execution_id"]
            if before not in (None, state["execution_id"]):
                break
            states[state["key"]] = self._noted.popleft()
        return self._save_with(states.values()) if states else None

    def _save_with(self, rows: Collection[Dict[str, Any]]) -> Save:
        """Return the action that saves the header and the states of `rows`.

        While no start of the journal was processed, or may have been, the header has no baseline,
        so that the next call reads it. This call may have the key of another workspace, and so a
        baseline of that one's list: its starts are refused, or not sent.
        """
        for row in rows:
            if row["state"] == "starting":
                self._starting.add(row["key"])
            else:
                self._starting.discard(row["key"])
                # A server error that counts as a refusal comes from the workflow, too.
                self._was_processed |= row["state"] != "open" or row["refusal"] != ""
        saved = self.header = self.header._replace(serial=self.header.serial + 1)
        if not (self._starting or self._was_processed):
            saved = saved._replace(after=None, last_number=0)
        return Save((saved.as_dict(self._identity), *rows))
