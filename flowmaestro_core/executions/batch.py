"""`wait_many` and `run_many`: many executions at once, by one machine and without threads."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, ClassVar, Optional, Tuple, Union, cast

from flowmaestro_core.actions import Action, Done, Emit, Fail, Save, Wait
from flowmaestro_core.calls.call import CallMachine
from flowmaestro_core.context import Context
from flowmaestro_core.errors import CheckpointConflict, FlowMaestroError, JournalError
from flowmaestro_core.executions.ledger import Ledger
from flowmaestro_core.executions.operation import Batch, PageOf, Start
from flowmaestro_core.executions.outcome import BatchProgress, RunOutcome
from flowmaestro_core.executions.rows import Row
from flowmaestro_core.executions.settling import TOLD_EVERY, LookupMachine, WalkEnd
from flowmaestro_core.executions.start_queue import is_unsent
from flowmaestro_core.executions.state import BatchState
from flowmaestro_core.executions.watch import rate_limit_pause
from flowmaestro_core.machine import Machine, State, Transitions, event
from flowmaestro_core.store import Loaded


class BatchTask(State):
    """The tasks of `BatchMachine`: its states."""

    READY = "ready"
    OPENING = "opening"
    """The header of the journal is loaded."""
    TAKING_OVER = "taking over"
    """It is saved, so that no other process can save any more."""
    SAVING = "saving"
    LOADING = "loading"
    EMITTING = "emitting"
    READING_BASELINE = "reading baseline"
    STARTING = "starting"
    POLLING = "polling"
    PAUSING = "pausing"
    LOOKING_UP = "looking up"
    DONE = "done"
    FAILED = "failed"


_S = BatchTask  # Short, for the table.
_ANY = (
    _S.SAVING,
    _S.LOADING,
    _S.EMITTING,
    _S.READING_BASELINE,
    _S.STARTING,
    _S.POLLING,
    _S.PAUSING,
    _S.LOOKING_UP,
    _S.DONE,
    _S.FAILED,
)
"""The states of all tasks, and the two final states. Any of them may follow any event."""


class BatchMachine(Machine[None]):
    """A scheduler: starts executions, polls each in its turn, and emits outcomes.

    Events update what is known (`BatchState`), and `_next` decides. It takes the first of these
    tasks for which there is something to do:

    1. *saving*: save what was noted in the journal, so that each fact is in the journal before the
       SDK acts on it. Else *loading*: load the states of the rows that were just read. There is one
       exception. If a start was accepted, and another request is due, that goes out first (4, 5).
       So the ids of several starts, or an id and the end of another execution, are saved at once.
    2. *emitting*: emit the outcome of an execution that got its id, which still runs, for
       `on_start`; else an outcome to yield.
    3. Read the next rows, if they may be looked up in the journal or started now; then begin again
       at 1.
    4. *starting*: send the start whose turn it is, if it is due. No start has its turn while as
       many executions as `concurrency` allows are in flight. Before the first start of a new
       journal: *reading baseline*, the newest execution of the workflow. Every execution of the
       batch is newer, so no later lookup has to go back further. The rows that wait for their turn
       are announced first, and again if half of `settle_after` has passed since, unless the journal
       is locked against other processes.
    5. *polling*: poll the execution that is due.
    6. *pausing*: wait until the next start or poll is due.
    7. Nothing is in flight any more. If rows are in doubt and no error has stopped the batch, wait
       until the server's list must hold all of their executions (*pausing*), then find out which
       were started (*looking up*). That may bring rows to start or to follow, so begin again at 1.
    8. Yield the outcomes that are left of an ordered batch. Then end; if an error has stopped the
       batch, end with that error.

    `TRANSITIONS` constrains little: which event each task takes, and that the journal is opened
    first (*opening*: its header is loaded; *taking over*: it is saved, so that no other process can
    save any more). Any task may follow any event. The order above is the rule. These promises
    follow from it:

    * While a noted change is not yet in the journal, nothing is sent, with the exception above: a
      row whose id is not saved is `starting` in the journal, and so can be settled. What follows
      an id is saved with it: at most `STARTS_PER_SAVE` starts, and a poll.
    * The baseline is read only before the first start of a new journal.
    * A lookup begins only when no execution runs and no start waits.
    * The batch is done only when no row waits, runs, is in doubt, or has an outcome to deliver.

    Requests go out one after another, so that the rate limit of the key is spent in one place. If
    a response shows that little of the rate limit is left, the pauses are longer. A 429 delays
    every request except the last poll of an execution, which comes at its deadline. While a start
    waits for its retry, polls continue, unless the start got a 429. A start that may have been
    processed is not retried.

    An error of one row does not end the others, except a 429 that lasts beyond their deadlines. An
    error that every further start would fail with stops new starts. Executions in flight are
    followed to their end, then the error is raised.
    """

    state: str
    TRANSITIONS: ClassVar[Transitions] = {
        _S.READY: {"start": (_S.OPENING, *_ANY)},
        _S.OPENING: {"loaded": (_S.TAKING_OVER, _S.FAILED), "store_failed": (_S.FAILED,)},
        _S.TAKING_OVER: {"saved": _ANY, "store_failed": (_S.FAILED,)},
        _S.SAVING: {"saved": _ANY, "store_failed": (_S.FAILED,)},
        _S.LOADING: {"loaded": _ANY, "store_failed": (_S.FAILED,)},
        _S.READING_BASELINE: {
            "response_received": _ANY,
            "transport_failed": _ANY,
            "waited": (_S.READING_BASELINE,),
        },
        _S.STARTING: {"response_received": _ANY, "transport_failed": _ANY},
        _S.POLLING: {"response_received": _ANY, "transport_failed": _ANY},
        _S.PAUSING: {"waited": _ANY},
        _S.EMITTING: {"emitted": _ANY},
        _S.LOOKING_UP: {
            "response_received": _ANY,
            "transport_failed": _ANY,
            "waited": _ANY,
            "loaded": _ANY,
            "store_failed": (_S.FAILED,),
            "emitted": (_S.LOOKING_UP,),
        },
    }

    def __init__(self, batch: Batch, context: Context, token: str) -> None:
        super().__init__(context, token)
        self.batch = batch
        plan = batch.journal
        runs_code = plan is not None and not (plan.is_locked and plan.key is None)
        self.runs_callers_code: bool = runs_code or not isinstance(batch.inputs, (list, tuple))
        ledger = Ledger(plan, context.options.api_root, token)
        self._rows = BatchState(batch, ledger, context.scrubber, context.pace)
        self._told_at = -math.inf
        """When `progress` was last called, or would have been."""
        self._pause: Optional[Wait] = None
        """The delay of a start, if something must be saved before it."""
        self._settles_in: Optional[float] = None
        """The seconds until rows in doubt may be settled, while nothing else is left to do."""

    # What the handle of the batch reads

    @property
    def in_flight(self) -> Tuple[RunOutcome, ...]:
        """The executions that run, and those whose outcomes were not delivered, as outcomes."""
        active = tuple(self._rows.active.by_row.values())  # Another thread may change it.
        undelivered = self._rows.outcomes.undelivered
        ended = (outcome for outcome in undelivered if outcome.execution_id is not None)
        return (*(execution.row.outcome() for execution in active), *ended)

    @property
    def progress(self) -> BatchProgress:
        """The present progress of the batch."""
        rows, total = self._rows, self.batch.total
        seconds = rows.outcomes.seconds_for(None if total is None else total - rows.outcomes.done)
        if self._settles_in is not None:
            seconds = max(seconds or 0.0, self._settles_in)
        running = len(rows.active)
        started = running if self.batch.start is not None else 0
        return BatchProgress(
            rows.outcomes.done,
            rows.outcomes.failed,
            running,
            total,
            seconds,
            len(rows.in_doubt),
            rows.outcomes.day_ends_after(total, started, self.batch.concurrency),
        )

    def last_save(self) -> Optional[Save]:
        """Return the action that notes each queued row as not started; `None` if there is none.

        A later call may then start these rows. A row whose start is in flight stays `starting`: the
        server may start it. So does a row with an earlier start that may have been processed. The
        batch must not advance afterwards.

        Nothing is saved after a save that failed, or that was interrupted: another process may have
        saved first, and the next serial number would be the one after its own.
        """
        if self.state in (BatchTask.SAVING, BatchTask.TAKING_OVER, BatchTask.FAILED):
            return None
        self._rows.withdraw_unsent()
        return self._rows.ledger.save()

    # Events

    @event
    def start(self, now: float, jitter: float) -> Action:
        self._rows.outcomes.begin(now)
        for index, execution_id in enumerate(self.batch.execution_ids):
            row = Row(index, None, index)
            row.restore("started", execution_id, 0)
            self._rows.follow(row, now)
        if self.batch.journal is not None:
            self.state = BatchTask.OPENING
            return self._rows.ledger.open()
        return self._next(now, jitter)

    @event
    def loaded(self, loaded: Loaded, now: float, jitter: float) -> Action:
        try:
            if self.state == BatchTask.OPENING:
                save = self._rows.ledger.opened(loaded, now)
                self.state, self._token = BatchTask.TAKING_OVER, self._rows.ledger.header.token
                return save
            self._rows.loaded(loaded, now)
        except JournalError as error:  # The store returned garbage.
            return self._fail(error)
        return self._next(now, jitter)

    @event
    def saved(self, now: float, jitter: float) -> Action:
        if self.state == BatchTask.TAKING_OVER:
            self._rows.opened(now)
        pause, self._pause = self._pause, None
        if pause is not None:
            self.state = BatchTask.PAUSING
            return pause
        return self._next(now, jitter)

    @event
    def store_failed(self, error: FlowMaestroError, now: float, jitter: float) -> Action:
        return self._store_failed(error)

    def _store_failed(self, error: FlowMaestroError) -> Action:
        """Fail at once: nothing may be sent that the journal does not hold.

        If another process has saved first, it continues the batch, and settles what this one sent.
        """
        if isinstance(error, CheckpointConflict):
            busy = JournalError(
                "The journal is in use by another process, which has saved to it and continues "
                "the batch",
                "journal_busy",
            )
            busy.__cause__ = error
            error = busy
        return self._fail(error)

    def _inner_waits(self, wait: Wait, now: float, jitter: float) -> Action:
        # Only a start is parked. Polls have no retries, and a lookup runs when nothing else can.
        if self.state != BatchTask.STARTING:
            return wait
        starts, active = self._rows.starts, self._rows.active
        throttled = wait.because is not None and wait.because.outcome == 429
        call = cast("CallMachine", self._park())
        starts.postpone(call, wait.seconds, now, throttled=throttled)
        pause = Wait(max(min(starts.due(), active.due()) - now, 0.0), wait.because)
        save = self._rows.ledger.save()
        if save is not None:
            self.state, self._pause = BatchTask.SAVING, pause
            return save
        self.state = BatchTask.PAUSING
        return pause

    def _inner_ended(self, outcome: Union[Done, Fail], now: float, jitter: float) -> Action:
        rows = self._rows
        if self.state == BatchTask.LOOKING_UP:
            if isinstance(outcome, Fail):  # The journal could not be read.
                return self._store_failed(outcome.error)
            self._settles_in = None
            rows.looked_up(outcome.value, now)
            return self._next(now, jitter)
        if isinstance(outcome, Done):
            rows.replied(outcome.value.rate_limit, now)
        if self.state == BatchTask.POLLING:
            rows.ended(rows.active.answered(outcome, now, jitter))
        elif isinstance(outcome, Fail):
            # A 429 on reading the baseline is about the key; if it is not sent, that is about the
            # network. The start would fail so, too, and the next one reads the baseline again.
            error = outcome.error
            is_alike = is_unsent(error) or rate_limit_pause(error) is not None
            if self.state == BatchTask.STARTING or is_alike:
                rows.not_started(error, now)
            else:
                rows.set_baseline(None)
        elif self.state == BatchTask.READING_BASELINE:
            rows.set_baseline(outcome.value)
        else:
            rows.started(outcome.value, now)
            if rows.may_save_later(now):
                return self._next_request(now, jitter)
        return self._next(now, jitter)

    # The decision

    def _next(self, now: float, jitter: float) -> Action:
        rows = self._rows
        while True:
            save = rows.ledger.save()
            if save is not None:
                self.state = BatchTask.SAVING
                return save
            load = rows.load()
            if load is not None:
                self.state = BatchTask.LOADING
                return load
            if rows.started_outcomes:
                self.state = BatchTask.EMITTING
                return Emit([rows.started_outcomes.popleft()])
            outcome = rows.outcomes.get(now)
            if outcome is not None:
                return self._emit(outcome, now)
            if not rows.read_on():
                break
        return self._next_request(now, jitter)

    def _next_request(self, now: float, jitter: float) -> Action:
        rows = self._rows
        rows.starts.take_turn(now)
        start_at, poll_at = rows.starts.due(), rows.active.due()
        if min(start_at, poll_at) == math.inf:
            return self._settle_or_end(now, jitter)
        if min(start_at, poll_at) > now:
            self.state = BatchTask.PAUSING
            return Wait(min(start_at, poll_at) - now)
        return self._begin(now, jitter) if start_at <= now else self._poll(now, jitter)

    def _emit(self, item: Union[RunOutcome, BatchProgress], now: float) -> Action:
        """Emit an outcome, or the progress. `progress` is called for both."""
        self.state, self._told_at = BatchTask.EMITTING, now
        return Emit([item])

    @property
    def starting_row(self) -> Optional[int]:
        """The index of the row whose start is in flight, for observers; `None` if none is."""
        return self._rows.starts.queue[0].index if self.state == BatchTask.STARTING else None

    def _begin(self, now: float, jitter: float) -> Action:
        rows, starts = self._rows, self._rows.starts
        if now >= starts.deadline:
            rows.out_of_time()
            return self._next(now, jitter)
        if rows.needs_baseline:
            self.state = BatchTask.READING_BASELINE
            newest = cast("PageOf", self.batch.page_of)(1, 1)
            deadline = starts.deadline
            call = CallMachine(
                newest, self._context, self._token, deadline=deadline, until_sent=True
            )
            return self._request(call, now, jitter)
        # `starting` must be in the journal before the request is sent.
        try:
            if starts.announce(now):
                return self._next(now, jitter)
        except JournalError as error:
            return self._fail(error)
        self.state = BatchTask.STARTING
        return self._request(starts.send(self._start_call), now, jitter)

    def _start_call(self) -> CallMachine:
        """Return the call of the current start."""
        starts = self._rows.starts
        row = starts.queue[0]
        return CallMachine(
            cast("Start", self.batch.start)(row.body),
            self._context,
            row.token(self._token),
            deadline=starts.deadline,
            until_sent=True,
        )

    def _poll(self, now: float, jitter: float) -> Action:
        rows = self._rows
        alone = not rows.starts.queue
        found = rows.active.next(self._context, self._token, now, jitter, alone=alone)
        if isinstance(found, list):
            rows.ended(found)
            return self._next(now, jitter)
        self.state = BatchTask.POLLING
        return self._request(found, now, jitter)

    def _request(self, machine: Machine[Any], now: float, jitter: float) -> Action:
        """Own the machine of a request, and return its first action.

        The assertions check two promises that follow from the order of the tasks (see the class).
        """
        rows = self._rows
        assert rows.ledger.may_send, "noted, and not in the journal"  # noqa: S101
        if self.state == BatchTask.LOOKING_UP:
            is_idle = not rows.active.by_row and not rows.starts.queue
            assert is_idle, "a lookup while executions run or rows wait"  # noqa: S101
        return self._delegate(machine, now, jitter)

    def _settle_or_end(self, now: float, jitter: float) -> Action:
        rows = self._rows
        if rows.in_doubt and rows.stop_error is None:
            is_told = self.batch.progress is not None
            tell_at = self._told_at + TOLD_EVERY if is_told else math.inf
            self._settles_in = max(rows.settles_at - now, 0.0)
            if rows.settles_at > now:
                if tell_at <= now:
                    return self._emit(self.progress, now)
                self.state = BatchTask.PAUSING
                return Wait(min(rows.settles_at, tell_at) - now)
            self.state = BatchTask.LOOKING_UP
            return self._request(self._lookup_machine(tell_at), now, jitter)
        outcome = rows.outcomes.get(now, final=True)
        if outcome is not None:
            return self._emit(outcome, now)
        if rows.stop_error is None:
            return self._done(None)
        if isinstance(rows.stop_error, FlowMaestroError):
            return self._fail(rows.stop_error)
        self.state = BatchTask.FAILED
        # An exception of the caller's iterator or key function is raised as it is.
        return Fail(cast("Any", rows.stop_error))

    def _lookup_machine(self, tell_at: float) -> LookupMachine:
        ledger, in_doubt = self._rows.ledger, self._rows.in_doubt
        since = min(row.number for row in in_doubt)
        digests = Counter(row.digest for row in in_doubt)
        page_of = cast("PageOf", self.batch.page_of)
        end = WalkEnd(ledger.header.after or None, ledger.oldest, since)
        return LookupMachine(
            page_of,
            end,
            digests,
            self._context,
            self._token,
            has_known=True,
            tell_at=tell_at,
            news=lambda: self.progress,
        )
