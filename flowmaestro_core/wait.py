"""Waiting for an execution to end, by polling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Coroutine, Optional, Union

from flowmaestro_core.actions import Action, Done, Emit, Fail, Wait
from flowmaestro_core.call import Call, CallMachine
from flowmaestro_core.context import Context
from flowmaestro_core.errors import (
    ConnectionError,
    FlowMaestroError,
    RateLimitError,
    ServerError,
    TimeoutError,
)
from flowmaestro_core.json_values import object_or_empty, text_or_empty
from flowmaestro_core.machine import Machine, event
from flowmaestro_core.operation import Operation
from flowmaestro_core.pacing import paced, poll_delay
from flowmaestro_core.reply import RateLimit, asks_for_tomorrow
from flowmaestro_core.retry import RetryPolicy
from flowmaestro_core.shapes import TERMINAL_STATUSES
from flowmaestro_core.types import Execution

ONCE = RetryPolicy(max_retries=0)
"""For questions that are asked again anyway."""

LAST_POLL_TIMEOUT = 1.0
"""Seconds that the last question, asked at the deadline, may still take."""


@dataclass(frozen=True)
class Waiting(Operation[Execution, Coroutine[Any, Any, Execution]]):
    """Poll one execution until it has ended."""

    execution_id: str
    ask: Call[Any]
    poll_interval: float
    timeout: float
    listener: Optional[Callable[[Execution], Any]] = None

    def machine(self, context: Context, token: str) -> WaitMachine:
        """A machine that ends with the execution."""
        return WaitMachine(self, context, token)


class WaitMachine(Machine[Execution]):
    """Asks, and asks again, until the execution has ended or the time is up.

    Failures that may pass (no connection, too slow, 5xx, 429) do not end the wait: they count
    against its deadline. The others do. A `Retry-After` that does not fit into what is left
    raises `RateLimitError` at once.
    """

    TRANSITIONS = {
        "ready": {"start": ("asking",)},
        "asking": {
            "response_received": ("asking", "emitting", "pausing", "done", "failed"),
            "transport_failed": ("pausing", "failed"),
        },
        "emitting": {"emitted": ("pausing", "done", "failed")},
        "pausing": {"waited": ("asking",)},
    }

    def __init__(
        self, waiting: Waiting, context: Context, token: str, *, started: Optional[float] = None
    ) -> None:
        super().__init__()
        self._waiting = waiting
        self._context = context
        self._token = token
        self._started = started
        self._deadline = 0.0
        self._last: Optional[Execution] = None
        self._limit = RateLimit()

    @event
    def start(self, now: float, jitter: float) -> Action:
        if self._started is None:
            self._started = now
        self._deadline = self._started + self._waiting.timeout
        return self._ask(now, jitter)

    @event
    def waited(self, now: float, jitter: float) -> Action:
        return self._ask(now, jitter)

    @event
    def emitted(self, now: float, jitter: float) -> Action:
        return self._go_on(now)

    def _ask(self, now: float, jitter: float) -> Action:
        self.state = "asking"
        deadline = max(self._deadline, now + LAST_POLL_TIMEOUT)
        call = CallMachine(
            self._waiting.ask, self._context, self._token, policy=ONCE, deadline=deadline
        )
        return self._delegate(call, now, jitter)

    def _inner_ended(self, outcome: Union[Done, Fail], now: float, jitter: float) -> Action:
        if isinstance(outcome, Fail):
            return self._failed(outcome.error, now)
        self._last = outcome.value["data"]
        self._limit = outcome.value.rate_limit
        if self._waiting.listener is not None:
            self.state = "emitting"
            return Emit(self._last)
        return self._go_on(now)

    def _go_on(self, now: float) -> Action:
        if is_terminal(self._last):
            return self._done(self._last)  # type: ignore[arg-type]
        return self._pause(now, self._next_delay(now))

    def _failed(self, error: FlowMaestroError, now: float) -> Action:
        if not may_pass(error) or asks_for_tomorrow(error):
            return self._end(error)
        pause = asked_pause(error)
        if isinstance(error, RateLimitError) and pause and now + pause > self._deadline:
            error.gave_up = "the server asks to wait longer than there is time for"
            return self._end(error)
        return self._pause(now, max(pause, self._next_delay(now)), error)

    def _next_delay(self, now: float) -> float:
        elapsed = now - (self._started or 0.0)
        return paced(poll_delay(elapsed, self._waiting.poll_interval), self._limit)

    def _pause(self, now: float, delay: float, cause: Optional[Exception] = None) -> Action:
        remaining = self._deadline - now
        if remaining <= 0:
            error = TimeoutError(
                f"Execution {self._waiting.execution_id} did not complete within "
                f"{self._waiting.timeout:g}s"
            )
            error.__cause__ = cause
            return self._end(error)
        self.state = "pausing"
        return Wait(min(delay, remaining))

    def _end(self, error: FlowMaestroError) -> Action:
        error.execution_id = self._waiting.execution_id
        if isinstance(error, TimeoutError):
            error.last_execution = self._last
        return self._fail(error)


def is_terminal(execution: Any) -> bool:
    """Whether an execution, as the server sent it, has ended."""
    return text_or_empty(object_or_empty(execution).get("status")) in TERMINAL_STATUSES


def may_pass(error: Exception) -> bool:
    """Whether asking again later may well succeed.

    Not what is unlike any reply of this API: that is a wrong base URL, and stays wrong.
    """
    if isinstance(error, ServerError):
        return error.status_code != 501 and error.code != "invalid_response"
    return isinstance(error, (ConnectionError, TimeoutError, RateLimitError))


def asked_pause(error: Optional[Exception]) -> float:
    """Seconds that the server asked to wait before the next attempt; 0 when it did not."""
    return (isinstance(error, FlowMaestroError) and error.retry_after) or 0.0
