"""Following an event stream to its end. One method decides what to do next, whatever happened.

Each event updates the parts. Then `_next` picks the action. The first rule that applies counts:

1. The queue is not empty: emit.
2. The time is up: that is an ending, an error.
3. The ending is known. A body is open: drain it, close it. The ending is an error and a probe may
   find a better one: probe until the time is up. Else end.
4. A body is open. It is dead: close it and count it as lost. A probe is due: probe. Else read until
   the first of these times.
5. No body is open. Reopening is due: open. A probe is due: probe. Else wait for the first of these
   times.

A stream that cannot be opened, or whose server has been away for too long, has an ending: an error,
unless a probe tells more.

Openings and probes are calls, each a `CallMachine` that the stream owns.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any, Deque, Dict, Mapping, Optional, Tuple, Union, cast

from flowmaestro_core.actions import LEAST_PATIENCE, Action, Done, Emit, Fail, Read, Wait
from flowmaestro_core.calls.call import Call, CallMachine
from flowmaestro_core.context import Context
from flowmaestro_core.errors import FlowMaestroError, RateLimitError, StreamError, TimeoutError
from flowmaestro_core.http.messages import ResponseHead, TransportFailure
from flowmaestro_core.machine import Machine, event
from flowmaestro_core.payloads.reply import Reply, asks_for_tomorrow, shown_request_id
from flowmaestro_core.payloads.shapes import is_terminal
from flowmaestro_core.policy.retry import ONCE, may_pass
from flowmaestro_core.streams.connection import Connection, not_resumed
from flowmaestro_core.streams.events import (
    REMEMBERED,
    event_from_sse,
    terminal_event,
    timeline_part,
)
from flowmaestro_core.streams.operation import Events
from flowmaestro_core.streams.probe import IdleMonitor
from flowmaestro_core.streams.sse import ServerSentEvent

DRAIN_IDLE = 0.02
"""Seconds without a byte after which the drained body of what has ended is closed."""
DRAIN_READS = 100
"""How many pieces are read of an open body whose execution has ended."""
MOST_REMEMBERED = 1000
SHORT_EVENT = 1000
"""Characters of an event that is remembered as it came."""


class StreamMachine(Machine[Any]):
    """Opens connections, sends probes, and keeps what an event stream knows.

    Its parts are the queue of events to emit, the connection, the idle clocks, and the ending: the
    last event or an error. Two things may follow although the ending is known: while `_drains`
    reads are left, an open body may bring more events, and of a stream that cannot be opened
    (`_is_pending`) a probe may find the true ending. `last_seen` is the execution as the last
    probe returned it.
    """

    def __init__(
        self,
        events: Events[Any],
        context: Context,
        token: str,
        monitor: Optional[IdleMonitor] = None,
    ) -> None:
        """`monitor`: the idle clocks, if they are not those of any stream."""
        super().__init__(context, token)
        times = context.stream_times
        self._queue: Deque[Dict[str, Any]] = deque()
        self._connection = Connection(times)
        self._monitor = monitor or IdleMonitor(times, can_probe=events.reconcile is not None)
        self._ending: Union[Emit, Fail, None] = None
        self._is_pending = False
        self._drains = 0
        self._events = events
        self._seen: Deque[Union[ServerSentEvent, Dict[str, Any]]] = deque(maxlen=MOST_REMEMBERED)
        self.execution_id = events.execution_id
        self.request_id: Optional[str] = None
        self.last_seen: Optional[Dict[str, Any]] = None

    @property
    def reconnects(self) -> int:
        """How many connections were made after the first."""
        return max(self._connection.openings - 1, 0)

    @property
    def seen_events(self) -> Optional[Tuple[Mapping[str, Any], ...]]:
        """What a timeline needs of the last 1,000 events; `None` unless they are an execution's."""
        if self.execution_id is None:
            return None
        seen = self._seen.copy()  # another thread may read the stream
        if self.finished and isinstance(self._ending, Emit):
            seen.append(self._ending.item)
        return tuple(map(timeline_part, seen))

    # Opening

    def _open(self, now: float, jitter: float) -> Action:
        self.state = "opening"
        again = self._connection.reopen_at > -math.inf
        until = self._monitor.opening_until(now, again=again)
        call = CallMachine(
            self._events.source,
            self._context,
            self._token,
            stream=True,
            policy=ONCE if again or self._monitor.in_run else None,
            deadline=min(self._monitor.give_up_at, until),
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
        return self._replied(outcome.value, now, jitter)

    def _opened(self, head: ResponseHead, now: float, jitter: float) -> Action:
        self.request_id = shown_request_id(None, head.headers, self.scrubber)
        self._connection.opened(now)
        self._monitor.on_opened(now, again=self.reconnects > 0)
        if self.reconnects:
            item = {"type": "stream:reconnected", "attempt": self.reconnects}
            self._queue.append(item)
            self._seen.append(timeline_part(item))
        return self._next(now, jitter)

    def _replied(self, reply: Reply[Any], now: float, jitter: float) -> Action:
        """The server has no event stream, and says so with a reply that is no error."""
        error = StreamError(
            f"The server answered with status {reply.status_code} and no event stream",
            status_code=reply.status_code,
            request_id=reply.request_id,
        )
        self._give_up(error, now)
        return self._next(now, jitter)

    def _not_opened(self, error: FlowMaestroError, now: float, jitter: float) -> Action:
        if now < self._monitor.give_up_at:
            if self._may_reopen(error):
                return self._lose(error, now, jitter)
            if self._may_pass(error) and not isinstance(error, RateLimitError):
                self._give_up(error, now)
            else:
                self._ending = Fail(error)
        return self._next(now, jitter)

    def _may_reopen(self, error: FlowMaestroError) -> bool:
        again = self._monitor.in_run or self._connection.openings > 0
        return again and self._may_pass(error) and not asks_for_tomorrow(error)

    def _may_pass(self, error: FlowMaestroError) -> bool:
        return may_pass(error, known=self._connection.openings > 0)

    def _lose(self, cause: Optional[Exception], now: float, jitter: float) -> Action:
        """No body is open any more, or none could be opened."""
        connection = self._connection
        if self._ending is not None:
            connection.is_open = False
            return self._next(now, jitter)
        self._monitor.on_lost(now, first=connection.give_up_at == math.inf)
        connection.plan(cause, now, jitter)
        if connection.given_up:
            reason = f"no progress for {self._context.stream_times.reconnect_for:g} s"
            self._give_up(not_resumed(reason, cause, self.scrubber), now)
        return self._next(now, jitter)

    def _give_up(self, error: FlowMaestroError, now: float) -> None:
        """Open no more connections: the stream ends in `error`, unless a probe finds its ending."""
        self._ending, self._is_pending = Fail(error), self._monitor.can_probe
        self._monitor.poll(now)

    # Probing

    def _probe(self, now: float, jitter: float) -> Action:
        self.state = "probing"
        until = min(now + self._monitor.probe_sent(now), self._monitor.give_up_at)
        return self._delegate(self._inquiry(until), now, jitter)

    def _inquiry(self, until: float) -> Machine[Any]:
        """The machine of a probe, whose answer may take up to the time `until`."""
        call = cast("Call[Any]", self._events.reconcile)
        return CallMachine(call, self._context, self._token, policy=ONCE, deadline=until)

    def _probed(self, outcome: Union[Done, Fail], now: float, jitter: float) -> Action:
        if isinstance(outcome, Fail):
            self._monitor.probe_failed(outcome.error, now)
            if not self._may_pass(outcome.error):
                self._probe_refused(outcome.error)
        else:
            self._monitor.probe_answered(outcome.value.rate_limit, now)
            self._learn(outcome.value["data"])
            self._connection.answered(now)
        return self._next(now, jitter)

    def _probe_refused(self, error: FlowMaestroError) -> None:
        """No probe will be answered."""
        self._ending = Fail(error)

    def _learn(self, data: Any) -> None:
        """Use the answer to a probe: the execution."""
        self.last_seen = data
        if is_terminal(data):
            self._ending, self._drains = Emit(terminal_event(data)), DRAIN_READS
        elif self._connection.given_up:
            self._ending, self._is_pending = None, False

    # Errors

    def _fail(self, error: FlowMaestroError) -> Action:
        error.request_id = error.request_id or self.request_id
        return super()._fail(error)

    def _too_late(self) -> FlowMaestroError:
        """The error of a stream whose time is up."""
        whose = f" of execution {self.execution_id}" if self.execution_id else ""
        return TimeoutError(f"The event stream{whose} did not end in time")


class EventStreamMachine(StreamMachine):
    """Emits events until a terminal one; otherwise it ends with an error.

    A lost connection is made again. The table is also that of the stream of an answer, which may
    begin by sending a message and end while it opens.
    """

    _AFTER_PROBE = ("opening", "backing off", "streaming", "closing", "failed")
    TRANSITIONS = {
        "ready": {"start": ("opening", "failed")},
        "opening": {
            "response_received": ("opening", "emitting", "failed"),
            "stream_opened": ("opening", "streaming", "emitting", "probing", "closing"),
            "transport_failed": ("opening", "probing", "backing off", "failed"),
            "waited": ("opening",),
            "bytes_received": ("opening",),
            "stream_quiet": ("opening",),
            "stream_ended": ("opening", "emitting", "probing", "backing off", "failed"),
            "stream_closed": ("opening", "probing", "backing off", "failed"),
        },
        "streaming": {
            "bytes_received": ("streaming", "emitting", "probing", "closing"),
            "stream_quiet": ("streaming", "probing", "closing"),
            "stream_ended": ("probing", "backing off", "failed"),
            "transport_failed": ("probing", "backing off", "failed"),
        },
        "emitting": {
            "emitted": ("emitting", "streaming", "draining", "probing", "closing", "ending"),
        },
        "draining": {
            "bytes_received": ("draining", "emitting", "closing"),
            "stream_quiet": ("closing",),
            "stream_ended": ("ending",),
            "transport_failed": ("ending",),
        },
        "probing": {
            "response_received": (*_AFTER_PROBE, "probing", "draining", "emitting", "ending"),
            "transport_failed": _AFTER_PROBE,
        },
        "closing": {"stream_closed": ("ending", "probing", "backing off", "failed")},
        "backing off": {"waited": ("opening", "probing", "backing off", "failed")},
        "ending": {"emitted": ("done",)},
    }

    @property
    def last_event_id(self) -> str:
        """The id that a reconnection resumes from; `""` when the server sends none."""
        return self._connection.decoder.last_event_id

    @property
    def finished(self) -> bool:
        """Whether the terminal event has been emitted."""
        return self.state in ("ending", "done")

    @event
    def start(self, now: float, jitter: float) -> Action:
        self._monitor.begin(now, self._events.timeout)
        return self._next(now, jitter)

    @event
    def bytes_received(self, data: bytes, now: float, jitter: float) -> Action:
        self._monitor.on_bytes(now)
        try:
            decoded = self._connection.decoder.feed(data)
        except StreamError as error:
            self._ending, self._drains = self._ending or Fail(error), 0
            return self._next(now, jitter)
        for sse in decoded:
            if self._ending is None or self._drains:
                item = event_from_sse(sse)
                if item["type"] in REMEMBERED:  # reading it later costs less than a part now
                    self._seen.append(sse if len(sse.data) <= SHORT_EVENT else timeline_part(item))
                if self._take(item, now):
                    self._connection.progressed()
                    self._monitor.on_event(now)
        if self._drains:
            self._drains -= 1
        return self._next(now, jitter)

    @event
    def stream_quiet(self, now: float, jitter: float) -> Action:
        self._drains = 0
        return self._next(now, jitter)

    @event
    def stream_ended(self, now: float, jitter: float) -> Action:
        return self._lose(None, now, jitter)

    @event
    def stream_closed(self, now: float, jitter: float) -> Action:
        return self._lose(None, now, jitter)

    @event
    def transport_failed(self, failure: TransportFailure, now: float, jitter: float) -> Action:
        return self._lose(failure, now, jitter)

    @event
    def emitted(self, now: float, jitter: float) -> Action:
        if self.state == "ending":
            return self._done(cast("Emit", self._ending).item)
        self._monitor.resume(now)
        return self._next(now, jitter)

    def _take(self, item: Dict[str, Any], now: float) -> bool:
        """Queue an event, or make it the ending. Returns whether it shows progress."""
        kind = item["type"]
        if kind == "connected":
            if is_terminal(item):
                self._monitor.suspect()
            if not self.reconnects:
                self._queue.append(item)
            return False
        if kind in self._events.terminal:
            self._ending, self._drains = Emit(item), 0
        else:
            self._queue.append(item)
        return True

    # The one decision

    def _next(self, now: float, jitter: float) -> Action:
        if self._queue:
            self.state = "emitting"
            self._monitor.away_at = now
            return Emit(self._queue.popleft())
        monitor = self._monitor
        if self._ending is None and now >= monitor.give_up_at:
            self._ending = Fail(self._too_late())
        if self._ending is not None:
            return self._end(self._ending, now, jitter)
        if not self._connection.is_open:
            return self._reconnect(now, jitter)
        left = min(monitor.dead_at, monitor.give_up_at) - now
        if left <= 0:
            return self._close()
        quiet = monitor.probe_at - now
        if quiet <= 0:
            return self._probe(now, jitter)
        self.state = "streaming"
        return Read(min(left, quiet), min(left, LEAST_PATIENCE))

    def _end(self, ending: Union[Emit, Fail], now: float, jitter: float) -> Action:
        monitor = self._monitor
        if self._connection.is_open and self._drains:
            self.state = "draining"
            return Read(DRAIN_IDLE)
        if self._connection.is_open:
            return self._close()
        if isinstance(ending, Emit):
            self.state = "ending"
            return Emit(dict(ending.item))  # the caller may change it
        if self._is_pending and now < monitor.give_up_at:
            if now >= monitor.probe_at:
                return self._probe(now, jitter)
            if monitor.patience:
                self.state = "backing off"
                return Wait(min(monitor.probe_at, monitor.give_up_at) - now)
        return self._fail(ending.error)

    def _reconnect(self, now: float, jitter: float) -> Action:
        connection, monitor = self._connection, self._monitor
        reopen_at = monitor.opening_at(max(now, connection.reopen_at))
        if now >= reopen_at:
            return self._open(now, jitter)
        if now >= monitor.probe_at:
            return self._probe(now, jitter)
        self.state = "backing off"
        until = min(reopen_at, monitor.probe_at, monitor.give_up_at)
        lost, connection.lost = connection.lost, None
        return Wait(until - now, lost, reconnects=True)
