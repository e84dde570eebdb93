"""Following an event stream to its terminal event."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Dict, FrozenSet, Generic, Optional, TypeVar, Union, cast

from flowmaestro_core.actions import Action, Done, Emit, Fail
from flowmaestro_core.calls.call import Call, CallMachine
from flowmaestro_core.context import Context
from flowmaestro_core.errors import FlowMaestroError, RateLimitError, StreamError, TimeoutError
from flowmaestro_core.executions.wait import ONCE, is_terminal, may_pass
from flowmaestro_core.http.messages import ResponseHead
from flowmaestro_core.machine import Machine
from flowmaestro_core.operation import Operation
from flowmaestro_core.payloads.reply import Reply, asks_for_tomorrow, shown_request_id
from flowmaestro_core.policy.polling import PollSchedule
from flowmaestro_core.streams.connection import Connection, is_refusal
from flowmaestro_core.streams.events import is_garbled_end, terminal_event
from flowmaestro_core.streams.handles import AsyncEventStream, EventStream
from flowmaestro_core.streams.probe import IdleMonitor
from flowmaestro_core.streams.stream import DRAIN_MAX, StreamMachine

E = TypeVar("E")


@dataclass(frozen=True)
class Events(Operation[EventStream[E], AsyncEventStream[E]], Generic[E]):
    """The events of one execution or thread.

    Attributes:
        source: the call that opens the stream.
        terminal: the types of the events that end the stream.
        reconcile: the call that polls the execution, if there is one.
        resumable: whether opening the source again does no harm.
        execution_id: the execution whose events they are; an error names it.
        timeout: seconds from the first request to the end of the stream.

    """

    source: Call[Any]
    terminal: FrozenSet[str] = frozenset()
    reconcile: Optional[Call[Any]] = None
    resumable: bool = True
    execution_id: Optional[str] = None
    timeout: float = math.inf

    def machine(self, context: Context, token: str) -> EventStreamMachine:
        """A machine that emits the events."""
        return EventStreamMachine(self, context, token)


class EventStreamMachine(StreamMachine):
    """Emits events until a terminal one; otherwise it ends with an error.

    It opens the connections and sends the probes, which poll the execution. A probe while the
    ending is known is the last one: it may bring a terminal event in place of an error. There is no
    last probe after an error that cannot pass, a 429, or an event that is too large.

    `last_seen` is the execution as the last probe returned it.
    """

    def __init__(
        self,
        events: Events[Any],
        context: Context,
        token: str,
        *,
        opened: bool = False,
        schedule: Optional[PollSchedule] = None,
    ) -> None:
        """`opened`: the body is open already. `schedule`: that of a run; see `IdleMonitor`."""
        times, can_probe = context.stream_times, events.reconcile is not None
        monitor = IdleMonitor(times, can_probe=can_probe, schedule=schedule)
        super().__init__(Connection(times, opened=opened), monitor, events.timeout)
        self.execution_id = events.execution_id
        self._events = events
        self._context = context
        self._token = token
        self._in_run = schedule is not None
        self.request_id: Optional[str] = None
        self.last_seen: Optional[Dict[str, Any]] = None

    def _take(self, item: Dict[str, Any]) -> bool:
        kind = item["type"]
        if kind == "connected":
            if is_terminal(item):
                self._monitor.suspect()
            if not self.reconnects:
                self._queue.append(item)
            return False
        if kind not in self._events.terminal:
            self._queue.append(item)
        elif self._events.reconcile is not None and is_garbled_end(item):
            self._monitor.suspect()
            return False
        else:
            self._ending, self._drain_until = Emit(item), -math.inf
        return True

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
        ended = outcome.value.status_code == 204
        return self._give_up(_not_offered(outcome.value), now, jitter, for_now=ended)

    def _opened(self, head: ResponseHead, now: float, jitter: float) -> Action:
        self.request_id = shown_request_id(None, head.headers, self._context.scrubber)
        self._connection.opened()
        self._monitor.on_opened(now, again=self.reconnects > 0)
        if self.reconnects:
            self._queue.append({"type": "stream:reconnected", "attempt": self.reconnects})
        return self._next(now, jitter)

    def _not_opened(self, error: FlowMaestroError, now: float, jitter: float) -> Action:
        if now >= self._deadline:
            return self._next(now, jitter)
        passes = self._may_pass(error) and not asks_for_tomorrow(error) and not is_refusal(error)
        if passes and (self._in_run or self._connection.openings):
            return self._lose(error, now, jitter)
        self._connection.abandon()
        return self._give_up(error, now, jitter, for_now=passes)

    def _may_pass(self, error: FlowMaestroError) -> bool:
        known = self._connection.openings > 0 or self.last_seen is not None
        return may_pass(error, known=known)

    def _lose(self, cause: Optional[Exception], now: float, jitter: float) -> Action:
        if self._connection.is_open:
            self._monitor.on_lost(now)
        self._connection.plan(cause, now, jitter)
        if self._ending is None and not self._events.resumable:
            self._connection.abandon()
            error = self._connection.broken("it cannot be opened twice")
            return self._give_up(error, now, jitter)
        return self._next(now, jitter)

    def _give_up(
        self, error: FlowMaestroError, now: float, jitter: float, *, for_now: bool = True
    ) -> Action:
        self._ending = Fail(error)
        mends = for_now and not isinstance(error, RateLimitError)
        if mends and self._monitor.allows_probe(now):
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
            if self._connection.is_open:
                self._connection.progressed()
            self._connection.answered()
            self._learn(outcome.value["data"], now)
        return self._next(now, jitter)

    def _probe_refused(self, error: FlowMaestroError) -> None:
        """No probe will be answered."""
        self._ending = Fail(error)

    def _learn(self, data: Any, now: float) -> None:
        """Use the answer to a probe: the execution."""
        self.last_seen = data
        if is_terminal(data):
            self._ending, self._drain_until = Emit(terminal_event(data)), now + DRAIN_MAX
        elif self._connection.reopen_at < math.inf:
            self._ending = None

    # Errors

    def _fail(self, error: FlowMaestroError) -> Action:
        error.execution_id = self.execution_id
        error.request_id = error.request_id or self.request_id
        return super()._fail(error)

    def _run_out(self) -> None:
        whose = f" of execution {self.execution_id}" if self.execution_id else ""
        self._ending = Fail(TimeoutError(f"The event stream{whose} did not end in time"))


def _not_offered(reply: Reply[Any]) -> StreamError:
    return StreamError(
        f"The server answered with status {reply.status_code} and no event stream",
        status_code=reply.status_code,
        request_id=reply.request_id,
    )
