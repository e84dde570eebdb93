"""The starts of a batch: the queue of rows, the time of the next start, and failed starts."""

from __future__ import annotations

import hashlib
import math
from collections import deque
from typing import Deque, Optional, cast

from flowmaestro_core.calls.call import CallMachine
from flowmaestro_core.errors import (
    AuthenticationError,
    AuthorizationError,
    FlowMaestroError,
    InsufficientCreditsError,
    JournalError,
    NotFoundError,
    RateLimitError,
    ServerError,
    ValidationError,
)
from flowmaestro_core.executions.ledger import Ledger
from flowmaestro_core.executions.operation import Batch
from flowmaestro_core.executions.rows import Row, RowReader, unknown
from flowmaestro_core.executions.watch import Watch
from flowmaestro_core.http.messages import Phase
from flowmaestro_core.payloads.reply import NonJsonBody
from flowmaestro_core.policy.retry import (
    BASE_DELAY,
    LAST_ATTEMPT_TIMEOUT,
    MAX_DELAY,
    THROTTLED_BASE_DELAY,
    is_rejected_unprocessed,
)
from flowmaestro_core.records import JournalPlan

PAUSE_AFTER_REFUSAL = THROTTLED_BASE_DELAY
"""Least time in seconds until a new call is made for a start whose call has failed with a 429."""
STARTS_PER_SAVE = 16
"""The most rows that one save notes as `starting`. Each such save waits for the disk."""
LEAST_TIMEOUT = 1.0
"""A start that would have less than these seconds for its response is announced again first. Else,
a start that the server accepts could be in doubt, and cost a wait of `settle_after`. With a short
`settle_after`, a quarter of it takes the place of this constant."""
MAX_SLOW_SAVES = 3
"""So many announcements one after another that took too long to save end a batch or a run."""
KEY_ERRORS = (AuthenticationError, AuthorizationError, InsufficientCreditsError)
FATAL_ERRORS = (*KEY_ERRORS, NotFoundError)
"""Errors that every further start would fail with as well."""


INVALID_WORKFLOW = "Workflow validation failed"
"""The beginning of the message of a 400 for an invalid workflow, which refuses every start
(`docs/api-facts.md`). Every other 400 is about the inputs of one row."""


class Starts:
    """The queue of rows to start. `take_turn` makes the first one the current start.

    Attributes:
        queue: the rows to start, in their order. With a journal, one save notes all of them as
            `starting`.
        parked: the call of the current start, while it waits for a retry.
        deadline: when the current start times out; infinity if no start is current. The timeout
            counts from the time at which the row is the first one and may begin, so that no row
            times out in the queue. There is one exception, an outage: see `failed`.
        outage: the error of the last start that was not sent in all of its time; `None` if a later
            start was sent.
        send_before: before this time, an announced start must be sent, and its response received:
            half of `settle_after` after its announcement. So another process that has taken over
            finds the execution in the list after `settle_after`. Infinity without a journal, and
            with one that is locked against other processes.

    """

    def __init__(self, batch: Batch, reader: RowReader, active: Watch, ledger: Ledger) -> None:
        self.queue: Deque[Row] = deque()
        self.parked: Optional[CallMachine] = None
        self.deadline: float = math.inf
        self.send_before: float = math.inf
        self._batch = batch
        self._reader = reader
        self._active = active
        self._ledger = ledger
        self._announced = False
        """Whether the state `starting` of the queued rows was noted for the journal."""
        self._unsent_announcements = 0
        """How many announcements were made since a start was sent. More than one: the saves took so
        long that the starts could not be sent in time."""
        self._not_before = -math.inf
        """No start is sent before this time, because of the back-off, a retry delay, or a 429."""
        self._failures = 0
        """How many starts have failed since the last success, for the back-off: see `failed`."""
        self.outage: Optional[FlowMaestroError] = None
        self._waited_together = 0
        """How many of the next rows have waited through the outage together with the last one."""

    @property
    def _room(self) -> int:
        """How many rows may be started now."""
        return self._batch.concurrency - len(self._active)

    def enqueue(self) -> bool:
        """Read the next rows into the queue, if it is empty: no more than may be started now.

        A row that is announced and must wait would be in doubt if the process died. Return False if
        nothing was read. A row that cannot be prepared gets its outcome at once: a
        `ValidationError`, or, if it is unsettled, a `StartUnknownError`. Raises what
        `RowReader.take` raises.
        """
        if self.queue or self._room <= 0:
            return False
        taken = 0
        most = min(self._room, STARTS_PER_SAVE) if self._ledger.has_store else 1
        for row in self._reader.take(most):
            taken += 1
            try:
                self._reader.source.prepare(row)
            except ValidationError as error:
                # An earlier start of an unsettled row may have been processed.
                told = unknown(row, (), error) if row.is_unsettled else error
                self._reader.outcomes.put(row.outcome(error=told))
            else:
                # A lookup must go back to the first start that may have been processed.
                if not row.is_unsettled:
                    row.number = self._ledger.next_number()
                self.queue.append(row)
        self._announced = False
        return taken > 0

    def take_turn(self, now: float) -> None:
        """Make the first row of the queue the current start, and set its deadline.

        Do nothing if a start is current, if the queue is empty, or if as many executions as
        `concurrency` allows are in flight.
        """
        if self.queue and self.deadline == math.inf and self._room > 0:
            self.deadline = now if self._waited_together else now + self._batch.timeout
            self._waited_together = max(self._waited_together - 1, 0)

    def due(self) -> float:
        """Return when the current start may be sent, or its deadline if that is earlier.

        Infinity if no start is current.
        """
        if self.deadline == math.inf:
            return math.inf
        return min(max(self._not_before, self._active.not_before), self.deadline)

    def announce(self, now: float) -> bool:
        """Note the state `starting` of each queued row for the next `Save`.

        Return False if there is no journal, or if these states were noted before and there is time
        to send the current start. Raises `JournalError` after `MAX_SLOW_SAVES`.
        """
        if not self._ledger.has_store or (self._announced and self._has_time(now)):
            return False
        if self._unsent_announcements == MAX_SLOW_SAVES:
            raise JournalError(
                "The journal cannot be used: save took longer than half of settle_after, "
                f"{MAX_SLOW_SAVES} times"
            )
        plan = cast("JournalPlan", self._batch.journal)
        self._announced = True
        self._unsent_announcements += 1
        self.send_before = math.inf if plan.is_locked else now + plan.settle_after / 2
        for row in self.queue:
            self._ledger.add(row, "starting")
        return True

    def _has_time(self, now: float) -> bool:
        """Return whether enough time is left to send the start without another announcement."""
        plan = cast("JournalPlan", self._batch.journal)
        return now + min(LEAST_TIMEOUT, plan.settle_after / 4) <= self.send_before

    def sent(self) -> Optional[CallMachine]:
        """Note that the current start is sent now. Return its call, if it was postponed."""
        self._unsent_announcements = 0
        parked, self.parked = self.parked, None
        if parked is not None:
            parked.send_before = self.send_before
        return parked

    def postpone(
        self, call: Optional[CallMachine], seconds: float, now: float, *, throttled: bool
    ) -> None:
        """Delay the current start by `seconds`.

        `call` is the suspended machine of its call, which continues after the delay; if it is
        `None`, a new call is made then. If `throttled`, the polls are delayed as well, because a
        429 limits the API key, not one request.
        """
        self.parked = call
        self._not_before = now + seconds
        if throttled:
            self._active.hold(seconds, now)

    def pop(self) -> Row:
        """Remove the first row from the queue and return it. No start is current afterwards."""
        self.parked = None
        self.deadline = math.inf
        row = self.queue.popleft()
        row.body = b""
        return row

    def succeeded(self) -> None:
        """Reset the back-off after an accepted start."""
        self._failures, self._waited_together, self.outage = 0, 0, None

    def failed(self, error: FlowMaestroError, now: float) -> None:
        """Delay the next start, twice as long after each consecutive failure, up to `MAX_DELAY`.

        A 400, 422 or 429 neither delays it nor counts as a failure.

        In an outage, a start is certainly not sent in all of its time. All rows that could have
        been started then have waited as long, while this one has tried for them. So the next ones
        time out at once, without an attempt: one after another, they would take `timeout` each.
        """
        is_unsent = bool(error.attempts) and error.attempts[-1].outcome is Phase.NOT_SENT
        # The last attempt ends so soon before the deadline, because a retry would come after it.
        at_the_end = min(LAST_ATTEMPT_TIMEOUT, self._batch.timeout / 2)
        if is_unsent and now >= self.deadline - at_the_end:
            self.outage, self._waited_together = error, self._room - 1
        else:
            self.outage, self._waited_together = None, 0
        if not isinstance(error, (RateLimitError, ValidationError)):
            bound = BASE_DELAY * 2.0 ** min(self._failures, 64)
            self._failures += 1
            self._not_before = now + min(bound, MAX_DELAY)


def is_fatal(error: FlowMaestroError) -> bool:
    """Return whether every further start would fail with this error as well."""
    if isinstance(error, ValidationError) and error.code == "validation_error":
        return error.message.startswith(INVALID_WORKFLOW)
    return isinstance(error, FATAL_ERRORS)


def failure_digest(error: Optional[FlowMaestroError]) -> str:
    """Return a digest of a 500's code and message in hexadecimal digits, or `""`.

    Return `""` for any other error or `None`, and for a 500 whose body is empty or not JSON: such
    a body comes from a gateway, and says nothing about the row.
    """
    if not isinstance(error, ServerError) or error.status_code != 500:
        return ""
    if isinstance(error.details, NonJsonBody) or error.code == "invalid_response":
        return ""
    if error.body == "":
        return ""
    said = f"{error.code}\n{error.message}"
    return hashlib.blake2b(said.encode("utf-8", "replace"), digest_size=16).hexdigest()


def is_harmless(row: Row, error: FlowMaestroError) -> bool:
    """Return whether it is known that a start of `row` that fails with `error` starts nothing.

    That is known if an earlier start of the row failed with an equal error, and a conclusive lookup
    afterwards found no execution: the server fails on this row before it starts an execution.
    """
    return row.refusal != "" and failure_digest(error) == row.refusal


def may_have_started(error: FlowMaestroError) -> bool:
    """Return whether the server may have started an execution, although the start failed.

    The last attempt decides, because the attempts before it have started nothing. After a failure
    of the network, the execution may exist unless the request was not sent.

    The server inserts the execution before it starts the engine, so after a 5xx the execution may
    exist. There are two exceptions: a 503 with `Retry-After`, which rejects a request unprocessed,
    and a 5xx for a malformed id (`NotFoundError`).

    The execution may exist after a 303, which redirects to the result of a request that was
    processed, and after a 302, which many servers send in its place. It may also exist after a 408
    and after a 2xx with an unusable body, but not after any other status.
    """
    outcome = error.attempts[-1].outcome
    if isinstance(outcome, Phase):
        return outcome is not Phase.NOT_SENT
    if isinstance(error, NotFoundError) or is_rejected_unprocessed(error, outcome):
        return False
    return outcome >= 500 or outcome < 300 or outcome in (302, 303, 408)
