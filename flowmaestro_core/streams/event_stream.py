"""Following an event stream to its true end."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any, Deque, Dict, FrozenSet, Generic, Optional, Tuple, TypeVar, Union, cast

from flowmaestro_core.actions import LEAST_PATIENCE, Action, Close, Done, Emit, Fail, Read, Wait
from flowmaestro_core.calls.call import Call, CallMachine
from flowmaestro_core.context import Context
from flowmaestro_core.errors import FlowMaestroError, RateLimitError, StreamError, TimeoutError
from flowmaestro_core.executions.wait import ONCE, is_terminal, may_pass
from flowmaestro_core.http.messages import ResponseHead, TransportFailure
from flowmaestro_core.machine import Machine, event
from flowmaestro_core.operation import Operation
from flowmaestro_core.payloads.reply import Reply, asks_for_tomorrow, shown_request_id
from flowmaestro_core.policy.polling import PollSchedule
from flowmaestro_core.streams.connection import Connection, is_refusal
from flowmaestro_core.streams.events import event_from_sse, is_garbled_end, terminal_event
from flowmaestro_core.streams.handles import AsyncEventStream, EventStream
from flowmaestro_core.streams.probe import IdleMonitor

DRAIN_IDLE = 0.02
"""Seconds of silence after which the stream of what has ended is believed to have said all."""
DRAIN_MAX = 1.0
"""Seconds after which it is believed to have, even if more comes."""

E = TypeVar("E")


@dataclass(frozen=True)
class Events(Operation[EventStream[E], AsyncEventStream[E]], Generic[E]):
    """The events of one execution or thread.

    Attributes:
        source: the call that opens the stream.
        terminal: the types of the events after which there is none.
        reconcile: the call that tells whether the execution has ended, where there is one.
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


@dataclass
class Ending:
    """What a stream ends with: its last event or an error.

    What an open body still says before is handed over, up to the time `drain_until`.
    """

    action: Union[Emit, Fail]
    drain_until: float = -math.inf

    @property
    def may_change(self) -> bool:
        """Whether the open body may still bring a better one."""
        return self.drain_until > -math.inf


class EventStreamMachine(Machine[Any]):
    """Emits events until a terminal one, and ends in no other way but an error.

    Each event updates the parts: the queue, the connection, the idle clocks, the ending. Then
    `_next` picks the action, by these rules, of which the first that applies counts:

    1. The queue is not empty: emit.
    2. The ending is known: drain the open body, close it, end.
    3. The time is up: fail.
    4. A body is open. It is dead: close it and count it as lost. A probe is due: probe. Else read
       until the first of these times.
    5. No body is open. Reopening is due: open. The server has been away for too long: probe once
       more, then fail. A probe is due: probe. Else wait for the first of these times.

    A probe while the ending is known is the last one: it may tell better than the error does. No
    last probe follows what it cannot mend: a refusal for good, a 429, an event too large.

    `last_seen` is what the last probe said of the execution.
    """

    _LEFT: Tuple[str, ...] = ("opening", "backing off", "streaming", "closing", "failed")
    TRANSITIONS = {
        "ready": {"start": ("opening", "streaming", "failed")},
        "opening": {
            "stream_opened": ("opening", "streaming", "emitting", "probing", "closing"),
            "transport_failed": ("opening", "probing", "backing off", "failed"),
            "waited": ("opening",),
            "bytes_received": ("opening",),
            "stream_quiet": ("opening",),
            "stream_ended": ("opening", "probing", "backing off", "failed"),
            "stream_closed": ("opening", "probing", "backing off", "failed"),
        },
        "streaming": {
            "bytes_received": ("streaming", "emitting", "probing", "closing"),
            "stream_quiet": ("streaming", "probing", "closing"),
            "stream_ended": ("probing", "backing off", "failed"),
            "transport_failed": ("probing", "backing off", "failed"),
        },
        "emitting": {"emitted": ("emitting", "streaming", "draining", "probing", "closing")},
        "draining": {
            "bytes_received": ("draining", "emitting", "closing"),
            "stream_quiet": ("closing",),
            "stream_ended": ("ending",),
            "transport_failed": ("ending",),
        },
        "probing": {
            "response_received": (*_LEFT, "probing", "draining", "ending"),
            "transport_failed": _LEFT,
        },
        "closing": {"stream_closed": ("ending", "probing", "backing off", "failed")},
        "backing off": {"waited": ("opening", "probing", "backing off", "failed")},
        "ending": {"emitted": ("done",)},
    }

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
        super().__init__()
        self.execution_id = events.execution_id
        self._events = events
        self._context = context
        self._token = token
        self._in_run = schedule is not None
        self._connection = Connection(context.stream_times, opened=opened)
        self._monitor = IdleMonitor(
            context.stream_times, can_probe=events.reconcile is not None, schedule=schedule
        )
        self._queue: Deque[Dict[str, Any]] = deque()
        self._ending: Optional[Ending] = None
        self._deadline = math.inf
        self.request_id: Optional[str] = None
        self.last_seen: Optional[Dict[str, Any]] = None

    @property
    def last_event_id(self) -> str:
        """The id that a reconnection resumes from; `""` when the server sends none."""
        return self._connection.last_event_id

    @property
    def reconnects(self) -> int:
        """How many connections were made after the first."""
        return max(self._connection.openings - 1, 0)

    @property
    def finished(self) -> bool:
        """Whether the terminal event has been emitted."""
        return self.state in ("ending", "done")

    @event
    def start(self, now: float, jitter: float) -> Action:
        self._deadline = now + self._events.timeout
        self._monitor.begin(now)
        return self._next(now, jitter)

    @event
    def bytes_received(self, data: bytes, now: float, jitter: float) -> Action:
        self._monitor.on_bytes(now)
        try:
            decoded = self._connection.feed(data)
        except StreamError as error:
            self._ending = Ending(Fail(error))
            return self._next(now, jitter)
        live = [self._take(event_from_sse(sse)) for sse in decoded]
        if True in live:
            self._connection.progressed()
            self._monitor.on_event(now)
        return self._next(now, jitter)

    @event
    def stream_quiet(self, now: float, jitter: float) -> Action:
        if self._ending is not None:
            self._ending.drain_until = now
        return self._next(now, jitter)

    @event
    def stream_ended(self, now: float, jitter: float) -> Action:
        return self._lose(None, now, jitter)

    @event
    def transport_failed(self, failure: TransportFailure, now: float, jitter: float) -> Action:
        return self._lose(failure, now, jitter)

    @event
    def stream_closed(self, now: float, jitter: float) -> Action:
        return self._lose(None, now, jitter)

    @event
    def waited(self, now: float, jitter: float) -> Action:
        return self._next(now, jitter)

    @event
    def emitted(self, now: float, jitter: float) -> Action:
        if self.finished:
            return self._done(cast("Emit", cast("Ending", self._ending).action).item)
        away = self._monitor.discount(now)
        if self._ending is not None:
            self._ending.drain_until += away
        return self._next(now, jitter)

    def _take(self, item: Dict[str, Any]) -> bool:
        """Queue an event; whether it is a live one."""
        if self._ending is not None and not self._ending.may_change:
            return False  # it came after the last one
        if item["type"] == "connected":
            if is_terminal(item):
                self._monitor.suspect()
            if not self.reconnects:
                self._queue.append(item)
            return False
        if self._events.reconcile is not None and is_garbled_end(item):
            self._monitor.suspect()
            return False
        if item["type"] in self._events.terminal:
            self._ending = Ending(Emit(item))
        else:
            self._queue.append(item)
        return True

    # The one decision

    def _next(self, now: float, jitter: float) -> Action:
        out_of_time = now >= min(self._deadline, self._monitor.give_up_at)
        if out_of_time and not self._queue and self._ending is None:
            self._run_out()
        if self._queue:
            self.state = "emitting"
            self._monitor.leave(now)
            return Emit(self._queue.popleft())
        if self._ending is not None:
            return self._end(self._ending, now)
        if self._connection.is_open:
            return self._listen(now, jitter)
        return self._reconnect(now, jitter)

    def _end(self, ending: Ending, now: float) -> Action:
        if self._connection.is_open and now < ending.drain_until:
            self.state = "draining"
            return Read(min(DRAIN_IDLE, ending.drain_until - now))
        if self._connection.is_open:
            return self._close()
        if isinstance(ending.action, Fail):
            return self._fail(ending.action.error)
        self.state = "ending"
        return ending.action

    def _listen(self, now: float, jitter: float) -> Action:
        monitor = self._monitor
        if now >= monitor.dead_at:
            return self._close()
        if now >= monitor.probe_at:
            return self._probe(now, jitter)
        self.state = "streaming"
        left = min(monitor.dead_at, monitor.give_up_at, self._deadline) - now
        return Read(min(left, monitor.probe_at - now), least=min(left, LEAST_PATIENCE))

    def _reconnect(self, now: float, jitter: float) -> Action:
        connection, monitor = self._connection, self._monitor
        reopen_at = max(now, connection.reopen_at)
        if not monitor.lets_open(reopen_at):
            reopen_at = math.inf
        if now >= reopen_at:
            return self._open(now, jitter)
        if now >= connection.give_up_at:
            return self._give_up(self._absent(), now, jitter)
        if now >= monitor.probe_at:
            return self._probe(now, jitter)
        self.state = "backing off"
        until = min(reopen_at, connection.give_up_at, monitor.probe_at)
        until = min(until, monitor.give_up_at, self._deadline)
        return Wait(until - now, connection.report(), reconnects=True)

    def _close(self) -> Action:
        self.state = "closing"
        return Close()

    # Opening, first and again

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
        offered = outcome.value.status_code != 204
        return self._give_up(self._not_offered(outcome.value), now, jitter, for_now=not offered)

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
        """No body is open any more, or none could be opened."""
        if self._connection.is_open:
            self._monitor.on_lost(now)
        self._connection.plan(cause, now, jitter)
        if self._ending is None and not self._events.resumable:
            self._connection.abandon()
            return self._give_up(self._broken("it cannot be opened twice"), now, jitter)
        return self._next(now, jitter)

    def _give_up(
        self, error: FlowMaestroError, now: float, jitter: float, *, for_now: bool = True
    ) -> Action:
        """Fail with `error`, unless it is so `for_now` and a last probe tells better."""
        self._ending = Ending(Fail(error))
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
        """A probe will never be answered."""
        self._ending = Ending(Fail(error))

    def _learn(self, data: Any, now: float) -> None:
        """Take in the answer to a probe: the execution."""
        self.last_seen = data
        if is_terminal(data):
            self._ending = Ending(Emit(terminal_event(data)), now + DRAIN_MAX)
        elif self._connection.reopen_at < math.inf:
            self._ending = None

    # Errors

    def _fail(self, error: FlowMaestroError) -> Action:
        error.execution_id = self.execution_id
        return super()._fail(error)

    def _run_out(self) -> None:
        """The time is up."""
        whose = f" of execution {self.execution_id}" if self.execution_id else ""
        error = TimeoutError(f"The event stream{whose} did not end in time")
        self._ending = Ending(Fail(error))

    def _absent(self) -> FlowMaestroError:
        reason = f"no progress for {self._context.stream_times.reconnect_for:g} s"
        cause = self._connection.cause
        if isinstance(cause, RateLimitError):
            cause.gave_up = reason
            return cause
        return self._broken(reason)

    def _broken(self, reason: str) -> StreamError:
        error = StreamError(
            f"The event stream was lost before its end and could not be resumed: {reason}",
            request_id=self.request_id,
        )
        error.__cause__ = self._connection.cause
        return error

    def _not_offered(self, reply: Reply[Any]) -> StreamError:
        return StreamError(
            f"The server answered with status {reply.status_code} and no event stream",
            status_code=reply.status_code,
            request_id=reply.request_id,
        )
