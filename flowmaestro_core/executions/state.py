"""The state of a batch: its rows in all stages, and how each event changes them."""

from __future__ import annotations

import math
from collections import deque
from typing import Any, Deque, List, Optional, cast

from flowmaestro_core.actions import Done, Load
from flowmaestro_core.errors import (
    FlowMaestroError,
    InsufficientCreditsError,
    JournalError,
    RateLimitError,
)
from flowmaestro_core.executions.ledger import Ledger
from flowmaestro_core.executions.operation import Batch
from flowmaestro_core.executions.outcome import EndedExecution, RunOutcome, ended
from flowmaestro_core.executions.outcome_queue import OutcomeQueue
from flowmaestro_core.executions.row_reader import RowReader
from flowmaestro_core.executions.rows import Row
from flowmaestro_core.executions.saved_states import read_rows
from flowmaestro_core.executions.settling import LookupResult, baseline_of, settle, shows_all
from flowmaestro_core.executions.start import (
    IN_DOUBT,
    KEY_ERRORS,
    NEW,
    STARTED,
    is_fatal,
)
from flowmaestro_core.executions.start_queue import PAUSE_AFTER_REFUSAL, StartQueue
from flowmaestro_core.executions.wait import NO_TIME_FOR_PAUSE
from flowmaestro_core.executions.watch import Ended, Watch, rate_limit_pause
from flowmaestro_core.http.scrub import SecretScrubber
from flowmaestro_core.payloads.json_values import text_or_empty
from flowmaestro_core.payloads.reply import RateLimit, Reply, is_daily_quota_error
from flowmaestro_core.policy.pace import Pace
from flowmaestro_core.records import JournalPlan
from flowmaestro_core.store import Loaded
from flowmaestro_core.types import Execution

NO_CREDITS = "Insufficient credits"
"""The beginning of the error of an execution that failed for a lack of credits
(`docs/api-facts.md`)."""


class BatchState:
    """The rows of a batch in all their stages. Its methods apply events; they choose no action.

    As a rule, a row goes from `reader` to `starts`, then to `active`, then to `outcomes`. A row
    that is refused, or that the journal holds already, skips stages. With a journal, a row that may
    have been started goes to `in_doubt`, and from there to any later stage, or back to be started.

    Attributes:
        ledger: what is to be saved in the journal, if there is one.
        outcomes: the outcomes that are not delivered yet.
        reader, starts, active: the rows that are being read, that wait for their start, and whose
            executions run.
        in_doubt: the rows that may have been started.
        settles_at: when rows in doubt may be settled: from then on, the server surely lists every
            execution that they have started.
        started_outcomes: the outcomes with which `on_start` must still be called. Their executions
            have an id, and may still run.
        needs_baseline: whether the baseline must be read before the next start: the journal holds
            no start, and this call has not tried to read the baseline yet.
        stop_error: the error that has stopped the starts, to be raised once nothing is in flight;
            `None` if there is none.

    """

    def __init__(self, batch: Batch, ledger: Ledger, scrubber: SecretScrubber, pace: Pace) -> None:
        self._batch = batch
        self._pace = pace
        self._scrubber = scrubber
        self._plan = batch.journal or JournalPlan("", "")
        self.ledger = ledger
        self.outcomes: OutcomeQueue = OutcomeQueue(batch.ordered)
        self.reader: RowReader = RowReader(batch, self._plan, self.outcomes)
        self.active: Watch = Watch(batch, pace)
        self.starts: StartQueue = StartQueue(batch, self.reader, self.active, ledger)
        self.in_doubt: List[Row] = []
        self.settles_at: float = -math.inf
        self.started_outcomes: Deque[RunOutcome] = deque()
        self.needs_baseline: bool = False
        self._knows_executions = False
        """Whether this call knows that the server has an execution of the batch."""
        self.stop_error: Optional[Exception] = None

    # The journal

    def opened(self, now: float) -> None:
        """Use what the journal holds, now that it is open.

        Starts of earlier calls were sent before `now`, so `settle_after` counts from now.
        """
        self.settles_at = now + self._plan.settle_after
        header = self.ledger.header
        self.needs_baseline = header.after is None and not header.last_number
        self.reader.opened(header.rows)

    def set_baseline(self, page: Optional[Reply[Any]]) -> None:
        """Set the baseline: the newest execution in `page`, older than every start of the batch.

        It is saved with the first start. `page` is `None` if the list of executions could not be
        read. Without a baseline, a lookup may have to read more of the list, and may not be
        conclusive.
        """
        self.needs_baseline = False
        after = None if page is None else baseline_of(page)
        self.ledger.header = self.ledger.header._replace(after=after)

    def load(self) -> Optional[Load]:
        """Return the action that loads the states of the rows that were read; `None` if none were.

        While the rows of a sequence are compared only, their outcomes are not loaded.
        """
        keys = tuple(row.saved_key for row in self.reader.to_look_up)
        return Load(keys, outcomes=self.reader.unchecked is None) if keys else None

    def loaded(self, loaded: Loaded, now: float) -> None:
        """Use the states of the rows that were looked up in the journal.

        A row that may have been started is put in doubt. The execution of a started row is
        followed. The outcome of an ended row is queued. `RowReader` queues the other rows to be
        started, and ended rows that are started again. While `RowReader` only compares the rows,
        nothing else is done. If it raises `JournalError`, the batch stops.

        Raises `JournalError` if the store returned anything but states of these rows.
        """
        keys = {row.saved_key for row in self.reader.to_look_up}
        found = read_rows(
            loaded,
            keys,
            outcomes=self.reader.unchecked is None,
            last_number=self.ledger.loaded_number,
        )
        self._knows_executions |= any(it.execution_id or it.reruns for it in found.values())
        try:
            for row, known in self.reader.looked_up(found):
                if row.state is IN_DOUBT:
                    self.in_doubt.append(row)
                elif known.outcome is None:
                    self.follow(row, now)
                else:
                    self.outcomes.put(row.outcome(ended(known.outcome), replayed=True))
        except JournalError as error:
            self.stop(error)

    # Rows are read and started

    def read_on(self) -> bool:
        """Read the next rows to look up or to start. Return False if there was nothing to do.

        That is so if no row is left, if there is no room, if rows wait in the queue of `starts`,
        and after `stop`. An exception of the reader, such as one of the caller's iterator or key
        function, stops the batch. Then return True.
        """
        if self.stop_error is not None:
            return False
        try:
            return self.reader.look_up() or self.starts.enqueue()
        except Exception as error:  # An iterator or key function of the caller may raise anything.
            self.stop(error)
            return True

    def replied(self, limit: RateLimit, now: float) -> None:
        """Count a response. Delay polls and starts if the rate limit is nearly spent.

        The last poll of an execution, at its deadline, is not delayed.
        """
        self.outcomes.replied(limit, now)
        self._pace.replied(limit, now)
        self.active.hold(self._pace.pause(now), now)

    def started(self, reply: Reply[Any], now: float) -> None:
        """Follow the execution of the current start, which the server accepted with `reply`.

        If the reply has no usable id, the execution runs but cannot be followed, so the row is put
        in doubt (`_put_in_doubt`).
        """
        self._knows_executions = True
        row = self.starts.pop()
        was_unknown = row.may_run
        row.answer(reply, self._scrubber)
        if row.state is STARTED:
            self.starts.succeeded()
            self._found(row, now, may_be_newer=was_unknown, started_now=True)
        else:
            self.starts.failed(cast("FlowMaestroError", row.error), now)
            self._put_in_doubt(row, now)

    def may_save_later(self, now: float) -> bool:
        """Return whether a request is due after a start, and nothing but a save comes before it.

        Return False without a journal.
        """
        if not self.ledger.has_store or not self.starts.is_full or self.started_outcomes:
            return False
        self.starts.take_turn(now)
        return min(self.starts.due(), self.active.due()) <= now

    def _found(
        self, row: Row, now: float, *, may_be_newer: bool = True, started_now: bool = False
    ) -> None:
        """Note the execution of a row, and follow it: see `follow`.

        It `may_be_newer` than those of starts with a greater number: a lookup has found it, and the
        server may have made it late; or `number` is that of an earlier request. So it gets a later
        one. Else, a walk for another row would end at it, and miss an older execution.
        """
        if may_be_newer:
            row.number = self.ledger.next_number()
        self.ledger.add(row)
        self.follow(row, now, started_now=started_now)

    def not_started(self, error: FlowMaestroError, now: float) -> None:
        """Decide what becomes of the current start, after its call has failed with `error`.

        `error` may also be a 429 of the request for the baseline, or say that this request was not
        sent. In this order: a 429 delays the
        start if there is time. Any other 429, and an error of the key or of the workflow, stops the
        batch; the row gets no outcome. A row that may have been started is put in doubt
        (`_put_in_doubt`). Otherwise, the row was refused (`_refused`).
        """
        self.starts.failed(error, now)
        refused = rate_limit_pause(error)
        if refused is not None:
            pause = max(refused, PAUSE_AFTER_REFUSAL)
            if now + pause < self.starts.deadline:
                self.starts.postpone(None, pause, now, throttled=True)
                return
            error.gave_up = error.gave_up if is_daily_quota_error(error) else NO_TIME_FOR_PAUSE
        row = self.starts.pop()
        row.fail(error)
        if refused is not None or is_fatal(error):
            self.ledger.update(row)
            self.stop(error)
        elif row.state is IN_DOUBT:
            self._put_in_doubt(row, now)
        else:
            self._refused(row)

    def out_of_time(self) -> None:
        """Remove the current row from the queue, and end it: its start has timed out.

        The outcome is a `TimeoutError`, or a `StartUnknownError` if an earlier start may have been
        processed.
        """
        self._refused(self.starts.expire())

    def _refused(self, row: Row) -> None:
        """Queue the outcome of a row that was refused, or is unknown. Save its state."""
        self.ledger.update(row)
        self.outcomes.put(row.outcome(error=row.error))

    def _put_in_doubt(self, row: Row, now: float) -> None:
        """Put a row in doubt: the server may have started it before now.

        Rows in doubt are settled `settle_after` seconds from now, or later. Without a journal, they
        are not, and the failure of the start is the outcome.
        """
        if not self.ledger.has_store:
            self.outcomes.put(row.outcome(error=row.error))
        else:
            self.in_doubt.append(row)
            self.settles_at = now + self._plan.settle_after

    # Rows in doubt

    def looked_up(self, found: LookupResult, now: float) -> None:
        """Settle the rows in doubt by the result of a lookup.

        If the workflow had no execution before the batch, the lookup has read the whole list. But a
        list that is empty, although this call knows executions of the batch, is the wrong one. If
        an earlier call sent a row, and the list is empty, the row is unknown, where a checkpoint
        starts again: a server that does start it would start up to `STARTS_PER_SAVE` rows twice.

        With `on_unknown="start"`, a lookup that failed with a 429 delays starts and polls, too. If
        the 429 lasts longer than a start may take, it stops the batch instead, and the rows stay in
        doubt.
        """
        starts_unknown = self._plan.on_unknown == "start"
        # A 429 is about the key, so starts would get one, too.
        if starts_unknown and isinstance(found.failure, RateLimitError):
            if self._affects_all_starts(found.failure):
                self.stop(found.failure)
                return
            self.active.hold(rate_limit_pause(found.failure) or 0.0, now)
        is_whole = self.ledger.header.after == "" and shows_all(found, "")
        is_whole = is_whole and not (found.is_empty and self._knows_executions)
        rows, self.in_doubt = self.in_doubt, []
        settle(rows, found, is_whole=is_whole, starts_unknown=starts_unknown)
        for row in rows:
            if row.state is STARTED:
                self._found(row, now)
            elif row.state is NEW:
                self.reader.to_start.append(row)
            else:
                self._refused(row)

    # Executions end

    def follow(self, row: Row, now: float, *, started_now: bool = False) -> None:
        """Follow the execution of a row until it ends or times out.

        The timeout of the execution begins at `now`. It is polled at once, unless it is
        `started_now`. If the caller gave `on_start`, also queue the outcome that `on_start` gets.
        """
        self._knows_executions = True
        waiting = self._batch.waiting(row.execution_id or "")
        self.active.follow(row, waiting, now, started_now=started_now)
        if self._batch.on_start is not None:
            self.started_outcomes.append(row.outcome())

    def ended(self, rows: List[Ended]) -> None:
        """Queue the outcomes of the rows whose wait is over.

        It is if the execution has ended, or if waiting for it has failed. If `rerun=` applies to an
        ended execution of an earlier call, its row gets no outcome and is started again. After an
        error that affects all starts, no more rows are started.
        """
        for row, verdict in rows:
            execution: Optional[EndedExecution] = None
            error: Optional[FlowMaestroError] = None
            if isinstance(verdict, Done):
                execution = verdict.value
                error = _lack_of_credits(verdict.value, row.execution_id)
                row.end(error)
                self.ledger.add(row, execution if error is None else None)
                # `rerun=` applies to executions of earlier calls, whether the journal has their end
                # or this call polls it. One call applies `rerun=` to a row at most once.
                if not row.sent_here and error is None and self._is_to_rerun(verdict.value):
                    row.rerun()
                    self.reader.to_start.append(row)
                    continue
            else:
                error = verdict.error
            self.outcomes.put(row.outcome(execution, error))
            if error is not None and self._affects_all_starts(error):
                self.stop(error)

    def _is_to_rerun(self, execution: Execution) -> bool:
        return execution["status"] in self._plan.rerun

    def _affects_all_starts(self, error: FlowMaestroError) -> bool:
        """Return whether every further start would fail with this error of a poll or a lookup.

        That is so for an error of the API key, for a lack of credits, and for a 429 that refuses
        the key for longer than a start may take.
        """
        too_long = (rate_limit_pause(error) or 0.0) > self._batch.timeout
        return too_long or isinstance(error, KEY_ERRORS)

    def stop(self, error: Exception) -> None:
        """Start no more rows. A `run_many` raises the first such error once nothing is in flight.

        A `wait_many` ignores this call, because it starts nothing: it raises no such error, and
        each of its executions gets an outcome.
        """
        if self._batch.start is None:
            return
        self.stop_error = self.stop_error or error
        self.withdraw_unsent()

    def withdraw_unsent(self) -> None:
        """Remove the rows from the queue whose start is not in flight, and note that.

        A later call may then start these rows without a lookup.
        """
        for row in self.starts.take_unsent():
            row.withdraw()
            self.ledger.update(row)


def _lack_of_credits(
    execution: Execution, execution_id: Optional[str]
) -> Optional[InsufficientCreditsError]:
    """Return the error of an execution that failed for a lack of credits; `None` for any other.

    `execution_id` is the id that the error gets.
    """
    reason = text_or_empty(execution["error"])
    if execution["status"] != "failed" or not reason.startswith(NO_CREDITS):
        return None
    error = InsufficientCreditsError(reason)
    error.status_code, error.execution_id = None, execution_id
    return error
