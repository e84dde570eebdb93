"""Waiting for an execution to end, by polling."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Mapping, Optional, Union, cast

from flowmaestro_core.actions import Action, Done, Emit, Fail, Wait
from flowmaestro_core.calls.call import CallMachine
from flowmaestro_core.context import Context
from flowmaestro_core.errors import FlowMaestroError, RateLimitError, TimeoutError
from flowmaestro_core.executions.operation import Poll
from flowmaestro_core.executions.outcome import EndedExecution, ended
from flowmaestro_core.machine import Machine, State, Transitions, event
from flowmaestro_core.payloads.json_values import object_or_empty
from flowmaestro_core.payloads.reply import is_daily_quota_error
from flowmaestro_core.payloads.shapes import is_terminal
from flowmaestro_core.policy.polling import PollSchedule
from flowmaestro_core.policy.retry import is_transient, retry_after_of
from flowmaestro_core.types import Execution

LAST_POLL_TIMEOUT = 1.0
"""Seconds that the last poll, at the deadline, may still take if no `overtime` is given. A new
connection with TLS to another continent takes about half of it."""
NO_TIME_FOR_PAUSE = "the server asks to wait longer than there is time for"


def last_poll_until(deadline: float, now: float, overtime: float) -> float:
    """Return when a poll that begins at `now` must end, `overtime` seconds after `deadline`.

    If less than a quarter of the overtime is left, the clock has jumped: the process was stopped,
    or its event loop was blocked. A timer alone is not late by so much. The first poll after a jump
    gets `LAST_POLL_TIMEOUT` seconds.
    """
    until = deadline + overtime
    return until if until - now >= overtime / 4 else now + LAST_POLL_TIMEOUT


class PollState:
    """The state of waiting for one execution. It decides what the outcome of each poll means.

    Transient errors (`is_transient`), such as a lost connection, a timeout or a 503, do not end a
    wait before its deadline. Other errors end it. So do a reply that is too large, a 429 for the
    daily quota, and a 429 that asks for a longer pause than there is time for.
    """

    def __init__(
        self,
        waiting: Poll,
        started: float,
        last: Optional[Execution] = None,
        *,
        overtime: Optional[float] = None,
    ) -> None:
        """Set the deadline and the times of the polls, for a wait that begins at `started`.

        Args:
            waiting: the operation that waits.
            started: when the wait began.
            last: the execution as it was last polled, if it was.
            overtime: every poll times out at the latest this many seconds after the deadline. If it
                is `None`, a poll may last until the deadline; one that begins shortly before or
                after the deadline may last `LAST_POLL_TIMEOUT` seconds.

        """
        self.execution_id: str = waiting.execution_id
        self.started: float = started
        self.deadline: float = started + waiting.timeout
        self._overtime = overtime
        self._waiting = waiting
        self._schedule = PollSchedule(started, waiting.poll_interval, exact=waiting.exact)
        self.unanswered: int = 0
        """How many polls have timed out since the last successful one."""
        self._last = last
        self._sent_at = started
        """When the last poll was sent."""

    def call(
        self, context: Context, token: str, now: float, patience: float = math.inf
    ) -> CallMachine:
        """Return a machine that polls the execution once.

        `patience` is how many seconds the poll may take at most.
        """
        self._sent_at = now
        if self._overtime is None:
            last = max(self.deadline, now + LAST_POLL_TIMEOUT)
        else:
            last = last_poll_until(self.deadline, now, self._overtime)
        deadline = min(last, now + patience)
        return CallMachine(self._waiting.call, context, token, max_retries=0, deadline=deadline)

    def judge(self, answer: Union[Done, Fail], now: float) -> Union[Done, Fail, Wait]:
        """Return what to do after a poll. `answer` is its outcome.

        `Done`: the execution has ended, and is the value. `Fail`: the wait ends with this error.
        `Wait`: poll again after this delay, which ends at the deadline at the latest.
        """
        if isinstance(answer, Done):
            return self.see(answer.value["data"], now)
        cause = answer.error
        if isinstance(cause, TimeoutError):
            self.unanswered += 1
        # A reply that is too large would be so at the next poll as well.
        is_final = cause.code == "reply_too_large" or is_daily_quota_error(cause)
        # Once the server has shown the execution, unexpected responses come from a proxy.
        if is_final or not is_transient(cause, server_known=self._last is not None):
            return self.give_up(cause)
        pause = retry_after_of(cause)
        # The 429 says more than the timeout that would follow.
        if isinstance(cause, RateLimitError) and pause and now + pause > self.deadline:
            cause.gave_up = NO_TIME_FOR_PAUSE
            return self.give_up(cause)
        return self._again(now, max(pause, self._schedule.answered(now)), cause)

    def see(self, execution: Execution, now: float) -> Union[Done, Fail, Wait]:
        """Return what to do now that the server has shown the execution: see `judge`."""
        self.unanswered = 0
        self._last = execution
        if is_terminal(execution):
            return Done(ended(cast("Mapping[str, Any]", execution)))
        return self._again(now, self._schedule.answered(now), None)

    def give_up(self, error: FlowMaestroError) -> Fail:
        """Return a `Fail` with `error`, after setting the error's `execution_id`.

        A `TimeoutError` also gets its `last_execution`.
        """
        error.execution_id = self.execution_id
        if isinstance(error, TimeoutError):
            error.last_execution = self._last
        return Fail(error)

    def _again(
        self, now: float, delay: float, cause: Optional[FlowMaestroError]
    ) -> Union[Fail, Wait]:
        remaining = self.deadline - now
        # No poll that began before the deadline lasts for so long, unless the process or the event
        # loop was held up. The lost poll was not the last one then: send another.
        was_held_up = self._sent_at < self.deadline and remaining < -LAST_POLL_TIMEOUT
        if cause is not None and was_held_up and self._overtime is None:
            return Wait(0.0, cause.attempts[-1])
        if remaining > 0:
            return Wait(min(delay, remaining), cause.attempts[-1] if cause else None)
        return self.time_out(cause)

    def time_out(self, cause: Optional[FlowMaestroError]) -> Fail:
        """Return a `Fail` with a `TimeoutError`: the execution did not end before the deadline.

        `cause` is the error of the last poll, or `None` if that poll succeeded.
        """
        said = f"Execution {self.execution_id} did not complete within {self._waiting.timeout:g}s"
        status = object_or_empty(self._last).get("status")
        if status == "paused":
            said += "; it is paused: it waits for a person"
        elif status in ("pending", "running"):
            said += f"; it is {status}: wait for it again, or cancel it if it never ends"
        error = TimeoutError(said)
        error.__cause__ = cause
        return self.give_up(error)


class WaitState(State):
    """The states of `WaitMachine`."""

    READY = "ready"
    POLLING = "polling"
    """The execution is polled."""
    EMITTING = "emitting"
    """The listener has what the poll returned."""
    PAUSING = "pausing"
    """The time until the next poll."""
    DONE = "done"
    FAILED = "failed"


_S = WaitState  # Short, for the table.


class WaitMachine(Machine[EndedExecution]):
    """Polls one execution until it has ended, or until the wait fails: see `PollState`.

    With a listener, the machine emits a copy of the execution after each successful poll. `known`
    is the state of a wait that this machine continues; with `None`, a new wait begins.
    """

    state: str
    TRANSITIONS: ClassVar[Transitions] = {
        _S.READY: {"start": (_S.POLLING,)},
        _S.POLLING: {
            "response_received": (_S.POLLING, _S.EMITTING, _S.PAUSING, _S.DONE, _S.FAILED),
            "transport_failed": (_S.PAUSING, _S.FAILED),
        },
        _S.EMITTING: {"emitted": (_S.PAUSING, _S.DONE, _S.FAILED)},
        _S.PAUSING: {"waited": (_S.POLLING,)},
    }

    def __init__(
        self,
        waiting: Poll,
        context: Context,
        token: str,
        known: Optional[PollState] = None,
    ) -> None:
        super().__init__(context, token)
        self._waiting = waiting
        self._poll = cast("PollState", known)
        """The state of the wait. It is set by `start` at the latest."""
        self._answer: Union[Done, Fail]
        """The outcome of the last poll, kept while the listener handles it."""
        self._planned_at = -math.inf
        """The time for which the pace has the next poll, on the clock of `now`."""

    @event
    def start(self, now: float, jitter: float) -> Action:
        self._poll = self._poll or PollState(self._waiting, now)
        return self._next(now, jitter)

    @event
    def emitted(self, now: float, jitter: float) -> Action:
        return self._go_on(now)

    def abandon(self) -> None:
        super().abandon()
        self._context.pace.cancel(self._planned_at)

    def _next(self, now: float, jitter: float) -> Action:
        self.state = WaitState.POLLING
        call = self._poll.call(self._context, self._token, now)
        return self._delegate(call, now, jitter)

    def _inner_ended(self, outcome: Union[Done, Fail], now: float, jitter: float) -> Action:
        self._answer = outcome
        if self._waiting.listener is not None and isinstance(outcome, Done):
            self.state = WaitState.EMITTING
            return Emit([dict(outcome.value["data"])])  # the listener may change it
        return self._go_on(now)

    def _go_on(self, now: float) -> Action:
        verdict = self._poll.judge(self._answer, now)
        if isinstance(verdict, Done):
            return self._done(verdict.value)
        if isinstance(verdict, Fail):
            return self._fail(verdict.error)
        self.state = WaitState.PAUSING
        pace = self._context.pace
        if isinstance(self._answer, Done):
            pace.replied(self._answer.value.rate_limit, now)
        delay = pace.plan(verdict.seconds, now)
        self._planned_at = now + delay
        if delay == verdict.seconds:
            return verdict
        # The pace does not delay the last poll.
        return Wait(max(min(delay, self._poll.deadline - now), verdict.seconds), verdict.because)
