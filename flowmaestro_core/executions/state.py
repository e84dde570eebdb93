"""What a batch knows of all its rows, and what each thing that happens means for them."""

from __future__ import annotations

from collections import deque
from typing import Any, Deque, Optional, Tuple, Union

from flowmaestro_core.actions import Done, Fail
from flowmaestro_core.errors import (
    AuthenticationError,
    AuthorizationError,
    FlowMaestroError,
    InsufficientCreditsError,
    JournalError,
    TimeoutError,
)
from flowmaestro_core.executions.in_flight import InFlight, refused_for
from flowmaestro_core.executions.intake import Intake
from flowmaestro_core.executions.ledger import Ledger
from flowmaestro_core.executions.operation import Batch
from flowmaestro_core.executions.outcome import Outbox, RunOutcome
from flowmaestro_core.executions.rows import Row, RowSource
from flowmaestro_core.executions.settling import Doubts, LookUp, settle
from flowmaestro_core.executions.starts import (
    PAUSE_AFTER_REFUSAL,
    POINTLESS,
    Starts,
    may_have_acted,
)
from flowmaestro_core.executions.wait import NO_TIME_FOR_PAUSE
from flowmaestro_core.http.scrub import SecretScrubber
from flowmaestro_core.machine import Machine
from flowmaestro_core.payloads.json_values import text_or_empty
from flowmaestro_core.payloads.reply import Reply, asks_for_tomorrow, no_usable_id
from flowmaestro_core.policy.polling import poll_delay
from flowmaestro_core.records import JournalPlan, JournalRow, Recalled
from flowmaestro_core.types import Execution

NO_CREDITS = "Insufficient credits"
"""How the error of an execution begins that failed for a lack of credits (`api.md`)."""


class BatchState:
    """All that a batch knows. Its methods take in what has happened, and decide nothing.

    Attributes:
        source: where rows come from.
        intake: reads them, and announces those that are to be started.
        starts: those that are to be started.
        flights: those that run.
        doubts: those of which it is not known.
        outbox: the outcomes to hand over.
        begun: executions that got an id, for the callback.
        ledger: what is to be recorded.
        ending: what the batch ends with, once nothing is in flight.

    """

    def __init__(self, batch: Batch, scrubber: SecretScrubber) -> None:
        self._batch = batch
        self._scrubber = scrubber
        self._plan = batch.journal or JournalPlan("", "")
        self.source = RowSource(batch.inputs, batch.build, self._plan.key)
        self.starts = Starts()
        self.flights = InFlight()
        self.doubts = Doubts(self._plan.settle_after)
        self.outbox = Outbox(batch.ordered)
        self.begun: Deque[RunOutcome] = deque()
        self.ledger = Ledger(batch.journal, self.source)
        self.intake = Intake(batch, self.source, self.ledger, self.starts, self.outbox)
        self.ending: Optional[FlowMaestroError] = None

    # Rows are read

    def read_on(self) -> bool:
        """Read rows, if there is a reason to; whether anything came of it."""
        try:
            return self.ending is None and self.intake.read_on(has_room=self._has_room)
        except JournalError as error:
            self.stop(error)
            return True

    @property
    def _has_room(self) -> bool:
        return len(self.flights) < self._batch.concurrency

    def recalled(self, recalled: Recalled, now: float) -> None:
        """The journal has answered."""
        try:
            for row, known in self.ledger.recalled(recalled):
                self._met(row, known, now)
        except JournalError as error:
            self.stop(error)

    def _met(self, row: Row, known: Optional[JournalRow], now: float) -> None:
        """A row was read that the journal knows."""
        if known is None:
            self.starts.backlog.append(row)
            return
        row.reruns, row.digest = known.reruns, row.digest or known.digest
        if known.state == "open":
            self.starts.backlog.append(row)
        elif known.state == "starting":
            self.doubts.add(row)
        elif known.state == "started":
            row.execution_id = known.execution_id
            self.follow(row, now, now)
        elif known.execution["status"] in self._plan.rerun:
            row.reruns += 1
            self.starts.backlog.append(row)
        else:
            row.execution_id = known.execution_id
            self.outbox.put(row.outcome(known.execution, replayed=True))

    # Rows are started

    def take_turn(self, now: float) -> None:
        """If there is room, it is the next row's turn; its time counts from now."""
        if self._has_room:
            self.starts.take_turn(now + self._batch.timeout)

    def due(self) -> Tuple[float, float]:
        """When a start and a poll are due; never, if there is none."""
        return self.starts.due(self.flights.not_before), self.flights.due()

    def put_off(
        self, call: Optional[Machine[Any]], seconds: float, now: float, *, throttled: bool
    ) -> None:
        """A start is to be tried again later: with `call`, or from the beginning."""
        self.starts.park(call, seconds, now)
        if throttled:
            self.flights.hold(seconds, now)

    def started(self, reply: Reply[Any], now: float) -> None:
        """A start was accepted."""
        row = self.starts.end()
        execution_id: Any = reply["data"].get("execution_id")
        try:
            waiting = self._batch.waiting(execution_id)
        except (TypeError, ValueError) as cause:
            error = self._scrubber.clean(no_usable_id(reply, cause))
            self.starts.failed(error, now)
            self._lost(row, error)
        else:
            self.starts.succeeded()
            row.execution_id = execution_id
            self.ledger.note(row.record("started"))
            self.follow(row, now, now + poll_delay(0.0, waiting.poll_interval))

    def not_started(self, error: FlowMaestroError, now: float) -> None:
        """A start has failed, and its call would try it no more."""
        self.starts.failed(error, now)
        refused = refused_for(error)
        if refused is not None:
            pause = max(refused, PAUSE_AFTER_REFUSAL)
            if now + pause < self.starts.until:
                self.put_off(None, pause, now, throttled=True)
                return
            error.gave_up = error.gave_up if asks_for_tomorrow(error) else NO_TIME_FOR_PAUSE
        row = self.starts.end()
        if refused is not None or isinstance(error, POINTLESS):
            self.ledger.note(row.record("open"))
            self.stop(error)
        elif may_have_acted(error):
            self._lost(row, error)
        else:
            self._refused(row, error)

    def out_of_time(self) -> None:
        """The time of the start whose turn it is has passed, and it was not made."""
        message = f"The execution could not be started within {self._batch.timeout:g}s, and was not"
        self._refused(self.starts.end(), TimeoutError(message))

    def _refused(self, row: Row, error: FlowMaestroError) -> None:
        self.ledger.note(row.record("open"))
        self.outbox.put(row.outcome(error=error))

    def _lost(self, row: Row, error: FlowMaestroError) -> None:
        """The server may have started this row."""
        if self.ledger.plan is None:
            self.outbox.put(row.outcome(error=error))
        else:
            self.doubts.add(row)

    def looked_up(self, outcome: Union[Done, Fail], now: float) -> None:
        """The rows in doubt were looked up."""
        found: Optional[LookUp] = outcome.value if isinstance(outcome, Done) else None
        start = self._plan.on_unknown == "start"
        for row, execution_id, unknown in settle(self.doubts.take(), found, start_unknown=start):
            if unknown is not None:
                unknown.__cause__ = outcome.error if isinstance(outcome, Fail) else None
                self.outbox.put(row.outcome(error=unknown))
            elif execution_id is None:
                self.starts.backlog.append(row)
            else:
                row.execution_id = execution_id
                self.ledger.note(row.record("started"))
                self.follow(row, now, now)

    # Executions end

    def follow(self, row: Row, now: float, poll_at: float) -> None:
        """A row's execution runs; its time counts from now."""
        self.flights.follow(row, self._batch.waiting(row.execution_id or ""), now, poll_at)
        if self._batch.on_start is not None:
            self.begun.append(row.outcome())

    def answered(self, answer: Optional[Union[Done, Fail]], now: float) -> None:
        """An execution was polled, or needs not be."""
        row, verdict = self.flights.answered(answer, now)
        if isinstance(verdict, Done):
            self._ended(row, verdict.value)
        elif isinstance(verdict, Fail):
            self._missed(row, verdict.error)
            for other, failure in self.flights.without_time(verdict.error, now):
                self._missed(other, failure.error)

    def _missed(self, row: Row, error: FlowMaestroError) -> None:
        self.outbox.put(row.outcome(error=error))
        too_long = (refused_for(error) or 0.0) > self._batch.timeout
        if too_long or isinstance(error, (AuthenticationError, AuthorizationError)):
            self.stop(error)

    def _ended(self, row: Row, execution: Execution) -> None:
        error = _lack_of_credits(execution, row.execution_id)
        if error is not None:
            self.ledger.note(row.record("open"))
            self.outbox.put(row.outcome(execution, error))
            self.stop(error)
        else:
            self.ledger.note(row.record("ended", execution))
            self.outbox.put(row.outcome(execution))

    def stop(self, error: FlowMaestroError) -> None:
        """Start no more; what is in flight arrives, then this error is raised.

        Where there is nothing to start, each execution has an outcome, and nothing is raised.
        """
        if self._batch.build is None:
            return
        self.ending = self.ending or error
        for row in self.starts.abandon():
            self.ledger.note(row.record("open"))
        self.source.exhausted = True


def _lack_of_credits(
    execution: Execution, execution_id: Optional[str]
) -> Optional[InsufficientCreditsError]:
    """What an execution has failed for, if that is a lack of credits."""
    reason = text_or_empty(execution["error"])
    if execution["status"] != "failed" or not reason.startswith(NO_CREDITS):
        return None
    error = InsufficientCreditsError(reason)
    error.status_code, error.execution_id = None, execution_id
    return error
