"""The starts of a batch that wait for their turn: their queue, and the time of the next one."""

from __future__ import annotations

import math
from collections import deque
from typing import Callable, Deque, List, Optional

from flowmaestro_core.calls.call import CallMachine
from flowmaestro_core.errors import FlowMaestroError, RateLimitError, ValidationError
from flowmaestro_core.executions.ledger import Ledger
from flowmaestro_core.executions.operation import Batch
from flowmaestro_core.executions.row_reader import RowReader
from flowmaestro_core.executions.rows import Row
from flowmaestro_core.executions.saved_states import journal_unusable
from flowmaestro_core.executions.sending import Sender
from flowmaestro_core.executions.start import SENT
from flowmaestro_core.executions.watch import Watch
from flowmaestro_core.http.messages import Phase
from flowmaestro_core.policy.retry import (
    BASE_DELAY,
    LAST_ATTEMPT_TIMEOUT,
    MAX_DELAY,
    THROTTLED_BASE_DELAY,
)
from flowmaestro_core.records import JournalPlan

PAUSE_AFTER_REFUSAL = THROTTLED_BASE_DELAY
"""Least time in seconds until a new call is made for a start whose call has failed with a 429."""
STARTS_PER_SAVE = 16
"""The most rows that one save notes as `starting`. Each such save waits for the disk, some
milliseconds: shared by 16 rows, that is little beside their requests. If the process dies, as many
rows are in doubt, so they are not more."""


class StartQueue:
    """The queue of rows to start. `take_turn` makes the first one the current start.

    Attributes:
        queue: the rows to start, in their order. With a journal, one save notes all of them as
            `starting`.
        has_turn: whether the first row is the current start; else no start is current.
        deadline: when the current start times out. The timeout counts from the time at which the
            row is the first one and may begin, so that no row times out in the queue. There is one
            exception, an outage: see `failed`.
        outage: the error of the last start that was not sent in all of its time; `None` if a later
            start was sent.

    """

    def __init__(self, batch: Batch, reader: RowReader, active: Watch, ledger: Ledger) -> None:
        self.queue: Deque[Row] = deque()
        self.has_turn: bool = False
        self.deadline: float = math.inf
        plan = batch.journal or JournalPlan("", "")
        self._sender = Sender(plan.settle_after, journal_unusable, is_locked=plan.is_locked)
        self._batch = batch
        self._reader = reader
        self._active = active
        self._ledger = ledger
        self._not_before = -math.inf
        """No start is sent before this time, because of the back-off, a retry delay, or a 429."""
        self._failures = 0
        """How many starts have failed since the last success, for the back-off: see `failed`."""
        self.outage: Optional[FlowMaestroError] = None
        self._rows_of_outage = 0
        """In an outage: how many of the next rows have waited through it, and time out at once."""

    @property
    def _room(self) -> int:
        """The number of rows that may be started now."""
        return self._batch.concurrency - len(self._active)

    @property
    def is_full(self) -> bool:
        """Whether rows wait in the queue, or none may be started now. Then none is read."""
        return bool(self.queue) or self._room <= 0

    def enqueue(self) -> bool:
        """Read the next rows into the queue, if it is empty: no more than may be started now.

        A row that is announced and must wait would be in doubt if the process died. Return False if
        nothing was read. A row that cannot be prepared is refused, and gets its outcome at once.
        Raises what `RowReader.take` raises.
        """
        if self.is_full:
            return False
        taken = 0
        most = min(self._room, STARTS_PER_SAVE) if self._ledger.has_store else 1
        for row in self._reader.take(most):
            taken += 1
            try:
                self._reader.source.prepare(row)
            except ValidationError as error:
                row.refuse(error)
                self._reader.outcomes.put(row.outcome(error=row.error))
            else:
                # A lookup must go back to the first start that may have been processed.
                if not row.may_run:
                    row.number = self._ledger.next_number()
                self.queue.append(row)
        return taken > 0

    def take_turn(self, now: float) -> None:
        """Make the first row of the queue the current start, and set its deadline.

        Do nothing if a start is current, if the queue is empty, or if as many executions as
        `concurrency` allows are in flight.
        """
        if self.queue and not self.has_turn and self._room > 0:
            self.has_turn = True
            self.deadline = now if self._rows_of_outage else now + self._batch.timeout
            self._rows_of_outage = max(self._rows_of_outage - 1, 0)

    def due(self) -> float:
        """Return when the current start may be sent, or its deadline if that is earlier.

        Infinity if no start is current.
        """
        if not self.has_turn:
            return math.inf
        return min(max(self._not_before, self._active.not_before), self.deadline)

    def announce(self, now: float) -> bool:
        """Note the state `starting` of each queued row for the next `Save`.

        Return False if there is no need, and raise `JournalError` for slow saves: see `Sender`.
        """
        is_due = self._sender.announce(self.queue, now)
        if is_due:
            for row in self.queue:
                self._ledger.add(row)
        return is_due

    def send(self, make: Callable[[], CallMachine]) -> CallMachine:
        """Note that the current start is sent now. Return its call: see `Sender`."""
        return self._sender.send(self.queue[0], make)

    def postpone(
        self, call: Optional[CallMachine], seconds: float, now: float, *, throttled: bool
    ) -> None:
        """Delay the current start by `seconds`.

        `call` is the suspended machine of its call, which continues after the delay; if it is
        `None`, a new call is made then. If `throttled`, the polls are delayed as well, because a
        429 limits the API key, not one request.
        """
        if self.queue[0].state is SENT:  # It is new if the baseline could not be read.
            self._sender.hold_up(self.queue[0], call)
        self._not_before = now + seconds
        if throttled:
            self._active.hold(seconds, now)

    def pop(self) -> Row:
        """Remove the first row from the queue and return it. No start is current afterwards."""
        self._sender.parked, self.has_turn = None, False
        row = self.queue.popleft()
        row.body = b""
        return row

    def expire(self) -> Row:
        """Refuse the current start, which was not accepted in time. Remove its row; return it."""
        self._sender.expire(self.queue[0], self.outage)
        return self.pop()

    def take_unsent(self) -> List[Row]:
        """Remove the rows whose request is not in flight, and return them."""
        unsent = [row for row in self.queue if row.state is not SENT]
        if len(unsent) == len(self.queue):
            self._sender.parked, self.has_turn = None, False
        self.queue = deque(row for row in self.queue if row.state is SENT)
        return unsent

    def succeeded(self) -> None:
        """Reset the back-off after an accepted start."""
        self._failures, self._rows_of_outage, self.outage = 0, 0, None

    def failed(self, error: FlowMaestroError, now: float) -> None:
        """Delay the next start, twice as long after each consecutive failure, up to `MAX_DELAY`.

        A 400, 422 or 429 neither delays it nor counts as a failure.

        In an outage, a start is certainly not sent in all of its time. All rows that could have
        been started then have waited as long, while this one has tried for them. So the next ones
        time out at once, without an attempt: one after another, they would take `timeout` each.
        """
        # The last attempt ends so soon before the deadline, because a retry would come after it.
        at_the_end = min(LAST_ATTEMPT_TIMEOUT, self._batch.timeout / 2)
        if is_unsent(error) and now >= self.deadline - at_the_end:
            self.outage, self._rows_of_outage = error, self._room - 1
        else:
            self.outage, self._rows_of_outage = None, 0
        if not isinstance(error, (RateLimitError, ValidationError)):
            # Why 64: see `retry_delay`.
            bound = BASE_DELAY * 2.0 ** min(self._failures, 64)
            self._failures += 1
            self._not_before = now + min(bound, MAX_DELAY)


def is_unsent(error: FlowMaestroError) -> bool:
    """Return whether the last attempt of a request certainly did not reach the server."""
    return bool(error.attempts) and error.attempts[-1].outcome is Phase.NOT_SENT
