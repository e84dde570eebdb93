"""Many executions at once, each handed over as it ends, by one machine and without threads."""

from __future__ import annotations

import math
from typing import Any, Callable, List, NamedTuple, Optional, Tuple, Union, cast

from flowmaestro_core.actions import Action, Done, Emit, Fail, Record, Wait
from flowmaestro_core.calls.call import CallMachine
from flowmaestro_core.context import Context
from flowmaestro_core.errors import FlowMaestroError
from flowmaestro_core.executions.in_flight import refused_for
from flowmaestro_core.executions.operation import Batch
from flowmaestro_core.executions.outcome import BatchProgress, RunOutcome
from flowmaestro_core.executions.pace import Pace
from flowmaestro_core.executions.rows import Row
from flowmaestro_core.executions.settling import LookUpMachine, PageOf
from flowmaestro_core.executions.state import BatchState
from flowmaestro_core.machine import Machine, event
from flowmaestro_core.payloads.json_values import object_or_empty, text_or_empty
from flowmaestro_core.payloads.reply import Reply
from flowmaestro_core.policy.polling import paced
from flowmaestro_core.policy.retry import ONCE
from flowmaestro_core.records import Recalled


class RunStarted(NamedTuple):
    """Emitted as soon as an execution has an id, for the callback alone."""

    outcome: RunOutcome


_ON = ("recording", "starting", "polling", "pausing", "emitting")
"""Where a batch may be after nearly everything that happens."""


class _ReportingBatch(Machine[None]):
    """The parts of a batch, and what it reports to its handle."""

    def __init__(self, batch: Batch, context: Context, token: str) -> None:
        super().__init__(context, token)
        self._batch = batch
        self._known = BatchState(batch, context.scrubber)
        self._pace = Pace()

    @property
    def in_flight(self) -> Tuple[RunOutcome, ...]:
        """What runs, or has ended and was not handed over."""
        flights = self._known.flights.flights.values()
        kept = (it for it in self._known.outbox.kept if it.execution_id is not None)
        return (*(flight.row.outcome() for flight in flights), *kept)

    @property
    def total(self) -> Optional[int]:
        """How many rows there are, where that is known."""
        return self._batch.total

    def heard(self, item: Any) -> Optional[Tuple[Callable[[Any], Any], Any]]:
        """The callback that is to hear of an item, and with what argument."""
        if isinstance(item, RunStarted):
            return None if self._batch.on_start is None else (self._batch.on_start, item.outcome)
        return None if self._batch.progress is None else (self._batch.progress, self.progress)

    @property
    def progress(self) -> BatchProgress:
        """How far it has come."""
        outbox, total = self._known.outbox, self._batch.total
        left = None if total is None else total - outbox.done
        flying, seconds = len(self._known.flights), self._pace.seconds_for(left)
        return BatchProgress(outbox.done, outbox.failed, flying, total, seconds)

    def last_record(self) -> Optional[Record]:
        """Free the rows that were announced and not sent; the one under way stays in doubt."""
        starts = self._known.starts
        under_way = starts.row if self.state == "starting" else None
        rows = (row.record("open") for row in starts.unsent if row is not under_way)
        return Record(tuple(rows))


class BatchMachine(_ReportingBatch):
    """Starts executions while there is room, polls each in its turn, emits what has ended.

    Events update what is known (`BatchState`), and `_next` alone decides: record what is to be
    recorded; else emit; else read rows; else start or poll what is due; else wait for it; at last
    settle the rows in doubt, and end.

    Requests go out one after another, so that a key's rate limit is spent in one place: its
    headers stretch the pauses, and a 429 holds everything back, but for the last poll of
    an execution, which comes at its deadline. A start that was refused with a 429 has started
    nothing and is tried again; after any other failure it is not. A start that is to be tried
    again is parked, and holds nobody up.

    One row's error never ends the others. What makes going on pointless stops new starts; what
    is in flight is followed to its end, and then the error is raised.
    """

    TRANSITIONS = {
        "ready": {"start": ("recording", "starting", "polling", "emitting", "done", "failed")},
        "recording": {"recorded": (*_ON, "anchoring", "dating", "done", "failed")},
        "anchoring": {
            "response_received": ("anchoring", "recording", "pausing"),
            "transport_failed": ("recording",),
        },
        "starting": {
            "response_received": (*_ON, "dating", "failed"),
            "transport_failed": ("recording", "polling", "pausing", "emitting", "dating"),
        },
        "polling": {"response_received": _ON, "transport_failed": _ON},
        "pausing": {"waited": (*_ON, "anchoring", "looking")},
        "emitting": {"emitted": (*_ON, "anchoring", "dating", "done", "failed")},
        "dating": {"recorded": ("pausing", "looking")},
        "looking": {
            "response_received": ("looking", "recording", "pausing", "emitting"),
            "transport_failed": ("looking", "recording", "pausing", "emitting"),
            "waited": ("looking",),
            "recorded": ("looking", "recording", "pausing", "emitting"),
        },
    }

    def __init__(self, batch: Batch, context: Context, token: str) -> None:
        super().__init__(batch, context, token)
        self.runs_callers_code = batch.runs_callers_code
        self._page_of = cast("PageOf", batch.page_of)

    # What happens

    @event
    def start(self, now: float, jitter: float) -> Action:
        self._pace.begin(now)
        for index, execution_id in enumerate(self._batch.execution_ids):
            row = Row(index, None, index)
            row.execution_id = execution_id
            self._known.follow(row, now, now)
        if self._batch.journal is not None:
            self.state = "recording"
            return Record()
        return self._next(now, jitter)

    @event
    def recorded(self, recalled: Recalled, now: float, jitter: float) -> Action:
        if self.state == "dating":
            self._known.doubts.dated(recalled, now)
        else:
            self._known.recalled(recalled, now)
        return self._next(now, jitter)

    def _inner_waits(self, wait: Wait, now: float, jitter: float) -> Action:
        if self.state != "starting":
            return wait
        throttled = wait.because is not None and wait.because.outcome == 429
        self._known.put_off(self._park(), wait.seconds, now, throttled=throttled)
        self.state = "pausing"
        return Wait(max(min(self._known.due()) - now, 0.0), wait.because)

    def _inner_ended(self, outcome: Union[Done, Fail], now: float, jitter: float) -> Action:
        known, reply = self._known, _reply_of(outcome)
        if reply is not None:
            limit = reply.rate_limit
            self._pace.replied(limit, now)
            known.flights.hold(paced(0.0, limit), now)
        if self.state == "polling":
            known.answered(outcome, now)
        elif self.state == "looking":
            known.looked_up(outcome, now)
        elif self.state == "anchoring" and not _is_refused(outcome):
            known.ledger.anchor(_first_id(reply))
        elif isinstance(outcome, Done):
            known.started(outcome.value, now)
        else:
            known.not_started(outcome.error, now)
        return self._next(now, jitter)

    # What to do next

    def _next(self, now: float, jitter: float) -> Action:
        known = self._known
        while True:
            record = known.ledger.record()
            if record is not None:
                self.state = "recording"
                return record
            if known.begun:
                return self._emit(RunStarted(known.begun.popleft()))
            outcome = known.outbox.take()
            if outcome is not None:
                return self._hand_over(outcome, now)
            if not known.read_on():
                break
        known.take_turn(now)
        start_at, poll_at = known.due()
        if min(start_at, poll_at) == math.inf:
            return self._settle_or_end(now, jitter)
        if min(start_at, poll_at) > now:
            self.state = "pausing"
            return Wait(min(start_at, poll_at) - now)
        return self._begin(now, jitter) if start_at <= now else self._poll(now, jitter)

    def _hand_over(self, outcome: RunOutcome, now: float) -> Action:
        if not outcome.replayed:
            self._pace.ended(now)
        return self._emit(outcome)

    def _emit(self, item: Union[RunStarted, RunOutcome]) -> Action:
        self.state = "emitting"
        return Emit(item)

    def _seek_anchor(self, now: float, jitter: float) -> Action:
        """Get the newest execution: all that are started from now on come before it."""
        self.state = "anchoring"
        call = CallMachine(self._page_of(1, 1), self._context, self._token, policy=ONCE)
        return self._delegate(call, now, jitter)

    def _begin(self, now: float, jitter: float) -> Action:
        known, starts = self._known, self._known.starts
        row, parked = starts.row, starts.parked
        if row is None or row.call is None or now >= starts.until:
            known.out_of_time()
            return self._next(now, jitter)
        if known.ledger.lacks_anchor:
            return self._seek_anchor(now, jitter)
        if known.intake.record_starts(now):
            return self._next(now, jitter)
        self.state = "starting"
        if parked is not None:
            starts.parked = None
            return self._resume(parked, now, jitter)
        token = f"{self._token}-{row.token}"
        call = CallMachine(row.call, self._context, token, deadline=starts.until)
        return self._delegate(call, now, jitter)

    def _poll(self, now: float, jitter: float) -> Action:
        known = self._known
        alone = not known.starts.pending
        call = known.flights.poll(self._context, self._token, now, alone=alone)
        if call is None:
            known.answered(None, now)
            return self._next(now, jitter)
        self.state = "polling"
        return self._delegate(call, now, jitter)

    def _settle_or_end(self, now: float, jitter: float) -> Action:
        known, doubts = self._known, self._known.doubts
        if doubts.rows and known.ending is None:
            if doubts.since is None:
                self.state = "dating"
                return Record(keys=tuple(row.key for row in doubts.rows))
            if doubts.due > now:
                self.state = "pausing"
                return Wait(doubts.due - now)
            self.state = "looking"
            look_up = LookUpMachine(self._page_of, doubts.since, self._context, self._token)
            return self._delegate(look_up, now, jitter)
        outcome = known.outbox.take(all_have_come=True)
        if outcome is not None:
            return self._hand_over(outcome, now)
        ending = known.ending or known.source.broken
        if ending is None:
            return self._done(None)
        if isinstance(ending, FlowMaestroError):
            return self._fail(ending)
        self.state = "failed"
        return Fail(cast("Any", ending))  # the caller's own


def _is_refused(outcome: Union[Done, Fail]) -> bool:
    """Whether a call has ended with a 429, which is about the key: the others would, too."""
    return isinstance(outcome, Fail) and refused_for(outcome.error) is not None


def _reply_of(outcome: Union[Done, Fail]) -> Optional[Reply[Any]]:
    """The reply that a call has ended with, if it has."""
    if isinstance(outcome, Done) and isinstance(outcome.value, Reply):
        reply: Reply[Any] = outcome.value  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return reply
    return None


def _first_id(page: Optional[Reply[Any]]) -> Optional[str]:
    """The id of the first row of a page, if there is one."""
    rows: List[Any] = [] if page is None else page["data"]
    return (text_or_empty(object_or_empty(rows[0]).get("id")) or None) if rows else None
