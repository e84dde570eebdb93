"""The one decision of an event stream: what to do next, whatever has happened.

Each event updates the parts: the queue, the connection, the idle clocks, the ending. Then `_next`
picks the action, by these rules, of which the first that applies counts:

1. The queue is not empty: emit.
2. The ending is known: drain the open body, close it, end.
3. The time is up: fail.
4. A body is open. It is dead: close it and count it as lost. A probe is due: probe. Else read until
   the first of these times.
5. No body is open. Reopening is due: open. The server has been away for too long: probe once more,
   then fail. A probe is due: probe. Else wait for the first of these times.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any, Deque, Dict, Optional, Union, cast

from flowmaestro_core.actions import LEAST_PATIENCE, Action, Emit, Fail, Read, Wait
from flowmaestro_core.errors import FlowMaestroError, StreamError
from flowmaestro_core.http.messages import TransportFailure
from flowmaestro_core.machine import Machine, event
from flowmaestro_core.streams.connection import Connection
from flowmaestro_core.streams.events import event_from_sse
from flowmaestro_core.streams.probe import IdleMonitor

DRAIN_IDLE = 0.02
"""Seconds without a byte after which the drained body of what has ended is closed."""
DRAIN_MAX = 1.0
"""Seconds after which it is closed even if more comes."""


class StreamMachine(Machine[Any]):
    """Emits the events of a connection that is made again when it is lost.

    It decides; subclasses open connections and probe. The ending is the last event or an error. Up
    to the time `_drain_until` the open body may bring a better one than the one that is known.
    """

    _LEFT = ("opening", "backing off", "streaming", "closing", "failed")
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

    def __init__(self, connection: Connection, monitor: IdleMonitor, timeout: float) -> None:
        super().__init__()
        self._connection = connection
        self._monitor = monitor
        self._queue: Deque[Dict[str, Any]] = deque()
        self._ending: Union[Emit, Fail, None] = None
        self._drain_until = -math.inf
        self._timeout = timeout

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
        self._deadline = now + self._timeout
        self._monitor.begin(now)
        return self._next(now, jitter)

    @event
    def bytes_received(self, data: bytes, now: float, jitter: float) -> Action:
        self._monitor.on_bytes(now)
        try:
            decoded = self._connection.feed(data)
        except StreamError as error:
            self._ending = Fail(error)
            return self._next(now, jitter)
        live = False
        for sse in decoded:
            if self._ending is None or self._drain_until > -math.inf:
                live = self._take(event_from_sse(sse)) or live
        if live:
            self._connection.progressed()
            self._monitor.on_event(now)
        return self._next(now, jitter)

    @event
    def stream_quiet(self, now: float, jitter: float) -> Action:
        self._drain_until = -math.inf
        return self._next(now, jitter)

    @event
    def stream_ended(self, now: float, jitter: float) -> Action:
        return self._lose(None, now, jitter)

    @event
    def transport_failed(self, failure: TransportFailure, now: float, jitter: float) -> Action:
        return self._lose(failure, now, jitter)

    @event
    def waited(self, now: float, jitter: float) -> Action:
        return self._next(now, jitter)

    @event
    def emitted(self, now: float, jitter: float) -> Action:
        if self.state == "ending":
            return self._done(cast("Emit", self._ending).item)
        self._drain_until += self._monitor.discount(now)
        return self._next(now, jitter)

    # The one decision

    def _next(self, now: float, jitter: float) -> Action:
        if self._queue:
            self.state = "emitting"
            self._monitor.leave(now)
            return Emit(self._queue.popleft())
        if self._ending is None and now >= min(self._deadline, self._monitor.give_up_at):
            self._run_out()
            return self._next(now, jitter)
        if self._ending is not None:
            return self._end(self._ending, now)
        if self._connection.is_open:
            return self._listen(now, jitter)
        return self._reconnect(now, jitter)

    def _end(self, ending: Union[Emit, Fail], now: float) -> Action:
        if self._connection.is_open and now < self._drain_until:
            self.state = "draining"
            return Read(min(DRAIN_IDLE, self._drain_until - now))
        if self._connection.is_open:
            return self._close_then(self._closed)
        if isinstance(ending, Fail):
            return self._fail(ending.error)
        self.state = "ending"
        return ending

    def _listen(self, now: float, jitter: float) -> Action:
        monitor = self._monitor
        if now >= monitor.dead_at:
            return self._close_then(self._closed)
        probe_at = monitor.probe_at
        if now >= probe_at:
            return self._probe(now, jitter)
        self.state = "streaming"
        left = min(monitor.dead_at, monitor.give_up_at, self._deadline) - now
        return Read(min(left, probe_at - now), min(left, LEAST_PATIENCE))

    def _reconnect(self, now: float, jitter: float) -> Action:
        connection, monitor = self._connection, self._monitor
        reopen_at = max(now, connection.reopen_at)
        if not monitor.lets_open(reopen_at):
            reopen_at = math.inf
        if now >= reopen_at:
            return self._open(now, jitter)
        if now >= connection.give_up_at:
            return self._give_up(connection.absent(), now, jitter)
        if now >= monitor.probe_at:
            return self._probe(now, jitter)
        self.state = "backing off"
        until = min(reopen_at, connection.give_up_at, monitor.probe_at)
        until = min(until, monitor.give_up_at, self._deadline)
        return Wait(until - now, connection.report(), reconnects=True)

    def _closed(self, now: float, jitter: float) -> Action:
        return self._lose(None, now, jitter)

    # What subclasses do

    def _take(self, item: Dict[str, Any]) -> bool:
        """Queue an event, or make it the ending. Returns whether it shows progress."""
        raise NotImplementedError

    def _open(self, now: float, jitter: float) -> Action:
        """Make a connection."""
        raise NotImplementedError

    def _lose(self, cause: Optional[Exception], now: float, jitter: float) -> Action:
        """No body is open any more, or none could be opened."""
        raise NotImplementedError

    def _give_up(
        self, error: FlowMaestroError, now: float, jitter: float, *, for_now: bool = True
    ) -> Action:
        """End with `error`. If it may pass (`for_now`), a last probe may change that."""
        raise NotImplementedError

    def _probe(self, now: float, jitter: float) -> Action:
        """Ask the server whether the subject of the stream has ended."""
        raise NotImplementedError

    def _run_out(self) -> None:
        """The time is up: set the ending."""
        raise NotImplementedError
