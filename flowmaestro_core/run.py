"""Running a workflow from start to end: execute, follow the events, give back the execution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Coroutine, Optional, Union

from flowmaestro_core.actions import Action, Done, Fail
from flowmaestro_core.call import Call
from flowmaestro_core.context import Context
from flowmaestro_core.errors import FlowMaestroError
from flowmaestro_core.event_stream import Events, EventStreamMachine
from flowmaestro_core.machine import Machine, event
from flowmaestro_core.operation import Operation
from flowmaestro_core.types import Execution, ExecutionEvent
from flowmaestro_core.wait import Waiting, WaitMachine


@dataclass(frozen=True)
class Run(Operation[Execution, Coroutine[Any, Any, Execution]]):
    """One run of a workflow, followed to its end within `timeout` seconds.

    `events` and `waiting` build, for an execution's id, what follows it.
    """

    execute: Call[Any]
    events: Callable[[str], Events[ExecutionEvent]]
    waiting: Callable[[str], Waiting]
    timeout: float
    listener: Optional[Callable[[ExecutionEvent], Any]] = None

    def machine(self, context: Context, token: str) -> RunMachine:
        """A machine that ends with the execution."""
        return RunMachine(self, context, token)


class RunMachine(Machine[Execution]):
    """Executes, follows the events while they come, and asks for the ended execution.

    The last word has the execution itself: when the stream ends, in truth or in trouble, a
    `WaitMachine` takes over with what is left of the time. A failure after the start carries
    the `execution_id`; the execution is never cancelled.
    """

    TRANSITIONS = {
        "ready": {"start": ("executing",)},
        "executing": {
            "response_received": ("executing", "following", "failed"),
            "transport_failed": ("executing", "failed"),
            "waited": ("executing",),
        },
        "following": {
            "stream_opened": ("following", "waiting"),
            "bytes_received": ("following", "waiting"),
            "stream_quiet": ("following", "waiting"),
            "stream_ended": ("following", "waiting"),
            "stream_closed": ("following", "waiting"),
            "transport_failed": ("following", "waiting"),
            "response_received": ("following", "waiting"),
            "waited": ("following",),
            "emitted": ("following", "waiting", "done"),
        },
        "waiting": {
            "response_received": ("waiting", "done", "failed"),
            "transport_failed": ("waiting", "failed"),
            "waited": ("waiting",),
        },
    }

    def __init__(self, run: Run, context: Context, token: str) -> None:
        super().__init__()
        self._run = run
        self._context = context
        self._token = token
        self._started = 0.0
        self._execution_id = ""
        self._following: Optional[EventStreamMachine] = None

    @event
    def start(self, now: float, jitter: float) -> Action:
        self._started = now
        self.state = "executing"
        return self._delegate(self._run.execute.machine(self._context, self._token), now, jitter)

    def _inner_ended(self, outcome: Union[Done, Fail], now: float, jitter: float) -> Action:
        if self.state == "executing":
            if isinstance(outcome, Fail):
                return self._fail(outcome.error)
            return self._follow(outcome.value["data"], now, jitter)
        if self.state == "following":
            execution = self._following.execution if self._following else None
            if execution is not None:
                return self._done(execution)  # type: ignore[arg-type]
            return self._wait(now, jitter)
        if isinstance(outcome, Fail):
            if isinstance(outcome.error, FlowMaestroError):
                outcome.error.execution_id = self._execution_id
            return self._fail(outcome.error)
        return self._done(outcome.value)

    def _follow(self, started: Any, now: float, jitter: float) -> Action:
        self.state = "following"
        self._execution_id = started["execution_id"]
        waiting = self._run.waiting(self._execution_id)
        self._following = EventStreamMachine(
            self._run.events(self._execution_id),
            self._context,
            self._token,
            deadline=self._started + self._run.timeout,
            silent_poll=waiting.poll_interval,
        )
        return self._delegate(self._following, now, jitter)

    def _wait(self, now: float, jitter: float) -> Action:
        self.state = "waiting"
        waiting = self._run.waiting(self._execution_id)
        machine = WaitMachine(waiting, self._context, self._token, started=self._started)
        return self._delegate(machine, now, jitter)
