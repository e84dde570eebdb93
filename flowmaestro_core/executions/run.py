"""Running a workflow from start to end: execute, follow the events, return the execution."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Dict, Mapping, Optional, Tuple, Union, cast

from flowmaestro_core.actions import Action, Done, Fail
from flowmaestro_core.calls.call import CallMachine
from flowmaestro_core.context import Context
from flowmaestro_core.errors import FlowMaestroError, TimeoutError
from flowmaestro_core.executions.operation import DurableStart, Poll, Run
from flowmaestro_core.executions.outcome import EndedExecution, ended
from flowmaestro_core.executions.wait import PollState, WaitMachine, last_poll_until
from flowmaestro_core.machine import Machine, State, Transitions, event
from flowmaestro_core.payloads import shapes
from flowmaestro_core.payloads.reply import Reply, missing_id_error
from flowmaestro_core.payloads.shapes import is_terminal
from flowmaestro_core.policy.polling import PollSchedule
from flowmaestro_core.streams.event_stream import EventStreamMachine
from flowmaestro_core.streams.run_polls import RunPolls
from flowmaestro_core.types import Execution

if TYPE_CHECKING:
    from flowmaestro_core.executions.durable_start import DurableStartMachine

FINAL_POLL_TIMEOUT = 3.0
"""The longest time in seconds for the poll after a terminal event. It is short, because the event
has the outcome already. A new connection whose first packet is lost fits in: TCP sends it again
after 1 s."""
OVERTIME = 0.1
"""Seconds after its deadline within which a run ends, if its start was done before the deadline. A
start with a checkpoint may take longer."""


class RunState(State):
    """The states of `RunMachine`."""

    READY = "ready"
    EXECUTING = "executing"
    """The execution is started, if it was not."""
    FOLLOWING = "following"
    """Its events are followed. The probes of the stream are the polls of the run."""
    POLLING = "polling"
    """The execution is polled once, after its terminal event."""
    WAITING = "waiting"
    """The stream has failed, or did not tell the outcome: the execution is polled until it ends."""
    DONE = "done"
    FAILED = "failed"


_S = RunState  # Short, for the table.


class RunMachine(Machine[EndedExecution]):
    """Executes, follows the events while they come, and polls the ended execution.

    If a probe of the stream has shown the ended execution, that is the result. Otherwise, after a
    terminal event with the outcome, the machine polls once. If this poll does not show the end yet,
    the fields of the event replace those of the polled execution. If the poll fails, the result has
    the id and the fields of the event, and `None` for all other keys. If the stream ends otherwise,
    a `WaitMachine` takes over for the rest of the time. An error has the `execution_id` if that is
    known. The execution is never cancelled.

    Before the first event of each connection, and without a connection, the machine polls on the
    schedule of a wait. The first opening of the stream may delay a poll by at most one
    `poll_interval`. A transport that cannot read on after a quiet read (`Read.impatient`) may delay
    it by more. On any other transport, a run without events ends at most one poll interval and one
    round trip later than `wait_for_completion` would.
    """

    execution_id: Optional[str]
    state: str
    TRANSITIONS: ClassVar[Transitions] = {
        _S.READY: {"start": (_S.EXECUTING,)},
        _S.EXECUTING: {
            "response_received": (_S.EXECUTING, _S.FOLLOWING, _S.WAITING, _S.DONE, _S.FAILED),
            "transport_failed": (_S.EXECUTING, _S.FAILED),
            "waited": (_S.EXECUTING, _S.FAILED),
            "loaded": (_S.EXECUTING, _S.FAILED),
            "saved": (_S.EXECUTING, _S.FOLLOWING, _S.WAITING, _S.FAILED),
            "store_failed": (_S.EXECUTING, _S.FAILED),
        },
        _S.FOLLOWING: {
            "stream_opened": (_S.FOLLOWING,),
            "bytes_received": (_S.FOLLOWING,),
            "stream_quiet": (_S.FOLLOWING,),
            "stream_ended": (_S.FOLLOWING, _S.WAITING),
            "stream_closed": (_S.FOLLOWING, _S.WAITING),
            "transport_failed": (_S.FOLLOWING, _S.WAITING),
            "response_received": (_S.FOLLOWING, _S.WAITING),
            "waited": (_S.FOLLOWING, _S.WAITING),
            "emitted": (_S.FOLLOWING, _S.POLLING, _S.WAITING, _S.DONE),
        },
        _S.POLLING: {
            "response_received": (_S.POLLING, _S.DONE),
            "transport_failed": (_S.DONE,),
        },
        _S.WAITING: {
            "response_received": (_S.WAITING, _S.DONE, _S.FAILED),
            "transport_failed": (_S.WAITING, _S.FAILED),
            "waited": (_S.WAITING,),
        },
    }

    def __init__(self, run: Run, context: Context, token: str) -> None:
        super().__init__(context, token)
        self._run = run
        self._started = 0.0
        """When the run began. The timeout counts from then."""
        self.runs_callers_code: bool = run.checkpoint is not None
        self._durable: Optional[DurableStartMachine] = None
        """The machine that starts the execution, if the run has a checkpoint."""
        self._waiting: Poll
        """The operation that polls the started execution."""
        self._following: Optional[EventStreamMachine] = None
        """The stream of events; `None` before it is followed."""
        self._terminal: Dict[str, Any]
        """The terminal event, until the ended execution is known."""

    @event
    def start(self, now: float, jitter: float) -> Action:
        self._started = now
        self._context.pace.run_begins(now)
        self.state = RunState.EXECUTING
        deadline = now + self._run.timeout
        execute = self._run.execute
        if isinstance(execute, DurableStart):
            from flowmaestro_core.executions.durable_start import DurableStartMachine

            self._durable = DurableStartMachine(execute, self._context, self._token, deadline)
            return self._delegate(self._durable, now, jitter)
        call = CallMachine(execute, self._context, self._token, deadline=deadline, until_sent=True)
        return self._delegate(call, now, jitter)

    def _inner_ended(self, outcome: Union[Done, Fail], now: float, jitter: float) -> Action:
        if self.state == RunState.FOLLOWING:
            return self._followed(outcome, now, jitter)
        if self.state == RunState.POLLING:
            return self._polled(outcome)
        if isinstance(outcome, Fail):
            return self._fail(outcome.error)
        if self.state == RunState.EXECUTING:
            return self._follow(outcome.value, now, jitter)
        return self._ended(outcome.value)

    def _follow(self, started: Reply[Any], now: float, jitter: float) -> Action:
        attached = None if self._durable is None else self._durable.attached
        if attached is not None and is_terminal(attached):
            return self._ended(attached)
        try:
            execution_id: str = started["data"].get("execution_id")
            events, waiting = self._run.events(execution_id), self._run.waiting(execution_id)
        except (TypeError, ValueError) as cause:
            return self._fail(missing_id_error(started, cause))
        self.execution_id = execution_id
        self._waiting = waiting
        self._context.pace.replied(started.rate_limit, now)
        self._context.pace.request_made(told=True)
        left = self._started + self._run.timeout - now
        if left <= 0:  # A start with a checkpoint may have waited for `settle_after`.
            return self._wait(attached, now, jitter, overtime=None)
        self.state = RunState.FOLLOWING
        schedule = PollSchedule(now, waiting.poll_interval)
        events = replace(events, timeout=left)
        polls = RunPolls(schedule, self._context.pace)
        self._following = EventStreamMachine(events, self._context, self._token, polls)
        return self._delegate(self._following, now, jitter)

    def _followed(self, outcome: Union[Done, Fail], now: float, jitter: float) -> Action:
        following = cast("EventStreamMachine", self._following)
        following.abandon()  # Its next poll is not sent.
        execution = cast("Execution", following.last_seen)
        # A probe has returned the ended execution already: no further request is needed.
        if isinstance(outcome, Done) and is_terminal(execution):
            return self._ended(execution)
        if isinstance(outcome, Done) and _has_outcome(outcome.value, self.execution_id):
            self.state = RunState.POLLING
            self._terminal = outcome.value
            end = self._started + self._run.timeout
            deadline = min(now + FINAL_POLL_TIMEOUT, last_poll_until(end, now, OVERTIME))
            call = CallMachine(
                self._waiting.call, self._context, self._token, max_retries=0, deadline=deadline
            )
            return self._delegate(call, now, jitter)
        # The stream has failed, or its terminal event does not tell the outcome: poll for it.
        return self._wait(execution, now, jitter, overtime=OVERTIME)

    def _wait(
        self, seen: Optional[Execution], now: float, jitter: float, *, overtime: Optional[float]
    ) -> Action:
        """Poll until the execution has ended, the run times out, or a poll fails for good.

        `seen` is the execution as it was last polled, or `None`. `overtime` is how many seconds a
        poll may still take after the deadline of the run. If it is `None`, a poll may last until
        the deadline; one that begins shortly before or after the deadline may last
        `LAST_POLL_TIMEOUT` seconds.
        """
        self.state = RunState.WAITING
        known = PollState(self._waiting, self._started, seen, overtime=overtime)
        wait = WaitMachine(self._waiting, self._context, self._token, known)
        return self._delegate(wait, now, jitter)

    def _polled(self, outcome: Union[Done, Fail]) -> Action:
        execution: Any = outcome.value["data"] if isinstance(outcome, Done) else {}
        # The poll failed, or does not show the end yet. The event has the outcome.
        if not is_terminal(execution):
            execution.update(_fields_of_terminal(self._terminal), id=self.execution_id)
            shapes.execution({"data": execution})
        return self._ended(execution)

    def _ended(self, execution: Execution) -> Action:
        return self._done(ended(cast("Dict[str, Any]", execution), self._seen_events))

    def _fail(self, error: FlowMaestroError) -> Action:
        if isinstance(error, TimeoutError):
            error.seen_events = self._seen_events
        return super()._fail(error)

    @property
    def _seen_events(self) -> Optional[Tuple[Mapping[str, Any], ...]]:
        return None if self._following is None else self._following.seen_events


def _has_outcome(terminal: Dict[str, Any], execution_id: Optional[str]) -> bool:
    """Return whether the event `terminal` is of this execution and tells how the execution ended.

    `execution:completed` must have outputs, `execution:failed` an error. An event without an
    execution id counts as one of this execution.
    """
    if (terminal.get("execution_id") or execution_id) != execution_id:
        return False
    kept = {"execution:completed": "outputs", "execution:failed": "error"}
    return terminal["type"] not in kept or terminal[kept[terminal["type"]]] is not None


def _fields_of_terminal(terminal: Dict[str, Any]) -> Dict[str, Any]:
    """Return the status, outputs, error and `completed_at` that a terminal event tells.

    Missing ones are `None`.
    """
    told = {key: terminal.get(key) for key in ("outputs", "error", "completed_at")}
    return {"status": terminal["type"].partition(":")[2], **told}
