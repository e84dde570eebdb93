"""What an event stream sends: requests that open a connection, and probes.

Both go through a `CallMachine`. Each result updates the parts, and `_next` decides.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any, Deque, Dict, Mapping, Optional, Tuple, Union, cast

from flowmaestro_core.actions import Action, Done, Emit, Fail
from flowmaestro_core.calls.call import Call, CallMachine
from flowmaestro_core.context import Context
from flowmaestro_core.errors import FlowMaestroError, RateLimitError, StreamError, TimeoutError
from flowmaestro_core.http.messages import ResponseHead
from flowmaestro_core.machine import Machine
from flowmaestro_core.payloads.reply import Reply, asks_for_tomorrow, shown_request_id
from flowmaestro_core.payloads.shapes import is_terminal
from flowmaestro_core.policy.retry import ONCE, may_pass
from flowmaestro_core.streams.connection import Connection
from flowmaestro_core.streams.events import terminal_event
from flowmaestro_core.streams.history import History
from flowmaestro_core.streams.operation import Events
from flowmaestro_core.streams.probe import IdleMonitor

DRAIN_READS = 100
"""How many pieces are read of an open body whose execution has ended."""


class StreamMachine(Machine[Any]):
    """Opens connections, sends probes, and keeps what an event stream knows.

    Its parts are the queue of events to emit, the connection, the idle clocks, and the ending: the
    last event or an error. While `_drains` reads are left, an open body may bring more events
    although the ending is known. An error is not final before the last probe has been answered.
    There is none after an error that cannot pass, a 429, or an event that is too large.

    `last_seen` is the execution as the last probe returned it. The stream of an execution
    remembers its events (`seen_events`).
    """

    def __init__(
        self,
        events: Events[Any],
        context: Context,
        token: str,
        *,
        opened: bool = False,
        monitor: Optional[IdleMonitor] = None,
        in_run: bool = False,
    ) -> None:
        """`opened`: the body is open already. `in_run`: the first opening is not retried, either.

        `monitor`: the idle clocks, if they are not those of any stream.
        """
        super().__init__(context, token)
        times = context.stream_times
        self._queue: Deque[Dict[str, Any]] = deque()
        self._connection = Connection(times, opened=opened)
        self._monitor = monitor or IdleMonitor(times, can_probe=events.reconcile is not None)
        self._ending: Union[Emit, Fail, None] = None
        self._drains = 0
        self._deadline = math.inf
        self._events = events
        self._in_run = in_run
        self._history = None if events.execution_id is None else History()
        self.execution_id = events.execution_id
        self.request_id: Optional[str] = None
        self.last_seen: Optional[Dict[str, Any]] = None

    @property
    def seen_events(self) -> Optional[Tuple[Mapping[str, Any], ...]]:
        """What an execution's stream remembers of its events (`History`); `None` of another."""
        return None if self._history is None else self._history.events

    # Opening

    def _open(self, now: float, jitter: float) -> Action:
        self.state = "opening"
        in_passing = self._in_run or self._connection.openings > 0
        again = self._connection.reopen_at > -math.inf
        until = self._monitor.opening_until(now, again=again) if in_passing else math.inf
        call = CallMachine(
            self._events.source,
            self._context,
            self._token,
            stream=True,
            policy=ONCE if in_passing else None,
            deadline=min(self._deadline, until),
            headers=self._connection.headers,
        )
        return self._delegate(call, now, jitter)

    def _inner_ended(self, outcome: Union[Done, Fail], now: float, jitter: float) -> Action:
        if self.state == "probing":
            return self._probed(outcome, now, jitter)
        if isinstance(outcome, Fail):
            return self._not_opened(outcome.error, now, jitter)
        if isinstance(outcome.value, ResponseHead):
            return self._opened(outcome.value, now, jitter)
        self._connection.abandon()
        return self._give_up(_not_offered(outcome.value), now, jitter)

    def _opened(self, head: ResponseHead, now: float, jitter: float) -> Action:
        self.request_id = shown_request_id(None, head.headers, self._context.scrubber)
        self._connection.opened(now)
        self._monitor.on_opened(now, again=self._connection.openings > 1)
        if self._connection.openings > 1:
            attempt = self._connection.openings - 1
            event = {"type": "stream:reconnected", "attempt": attempt}
            self._queue.append(event)
            if self._history is not None:
                self._history.note(event)
        return self._next(now, jitter)

    def _not_opened(self, error: FlowMaestroError, now: float, jitter: float) -> Action:
        if now >= self._deadline:
            return self._next(now, jitter)
        passes = self._may_pass(error) and not asks_for_tomorrow(error)
        if passes and (self._in_run or self._connection.openings):
            return self._lose(error, now, jitter)
        self._connection.abandon()
        return self._give_up(error, now, jitter)

    def _may_pass(self, error: FlowMaestroError) -> bool:
        known = self._connection.openings > 0 or self.last_seen is not None
        return may_pass(error, known=known)

    def _lose(self, cause: Optional[Exception], now: float, jitter: float) -> Action:
        """No body is open any more, or none could be opened."""
        if self._connection.is_open:
            self._monitor.on_lost(now)
        self._connection.plan(cause, now, jitter)
        if self._ending is None and not self._events.resumable:
            self._connection.abandon()
            error = self._connection.broken("it cannot be opened twice", self.scrubber)
            return self._give_up(error, now, jitter)
        return self._next(now, jitter)

    def _give_up(self, error: FlowMaestroError, now: float, jitter: float) -> Action:
        """End with `error`, unless it may pass and a last probe changes that."""
        self._ending = Fail(error)
        passes = isinstance(error, StreamError) or self._may_pass(error)
        refused = isinstance(error, RateLimitError)
        if passes and not refused and self._monitor.allows_probe(now):
            return self._probe(now, jitter)
        return self._next(now, jitter)

    # Probing

    def _probe(self, now: float, jitter: float) -> Action:
        self.state = "probing"
        until = now + self._monitor.probe_sent(now)
        if self._ending is not None:
            until = math.inf
        return self._delegate(self._inquiry(min(until, self._deadline)), now, jitter)

    def _inquiry(self, until: float) -> Machine[Any]:
        """The machine of a probe, whose answer may take up to the time `until`."""
        call = cast("Call[Any]", self._events.reconcile)
        return CallMachine(call, self._context, self._token, policy=ONCE, deadline=until)

    def _probed(self, outcome: Union[Done, Fail], now: float, jitter: float) -> Action:
        if isinstance(outcome, Fail):
            self._monitor.probe_failed(outcome.error, now)
            if self._ending is None and not self._may_pass(outcome.error):
                self._probe_refused(outcome.error)
        else:
            self._monitor.probe_answered(outcome.value.rate_limit, now)
            self._connection.progressed()
            self._learn(outcome.value["data"])
        return self._next(now, jitter)

    def _probe_refused(self, error: FlowMaestroError) -> None:
        """No probe will be answered."""
        self._ending = Fail(error)

    def _learn(self, data: Any) -> None:
        """Use the answer to a probe: the execution."""
        self.last_seen = data
        if is_terminal(data):
            self._ending, self._drains = Emit(terminal_event(data)), DRAIN_READS
        elif self._connection.reopen_at < math.inf:
            self._ending = None

    # Errors

    def _fail(self, error: FlowMaestroError) -> Action:
        error.request_id = error.request_id or self.request_id
        return super()._fail(error)

    def _run_out(self) -> None:
        """The time is up: set the ending."""
        whose = f" of execution {self.execution_id}" if self.execution_id else ""
        self._ending = Fail(TimeoutError(f"The event stream{whose} did not end in time"))


def _not_offered(reply: Reply[Any]) -> StreamError:
    return StreamError(
        f"The server answered with status {reply.status_code} and no event stream",
        status_code=reply.status_code,
        request_id=reply.request_id,
    )
