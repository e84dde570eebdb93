"""Following an event stream to its end. One method decides what to do next, whatever happened.

Each event updates the parts. Then `_next` picks the action. The first rule that applies counts:

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
from typing import Any, Dict, Union, cast

from flowmaestro_core.actions import LEAST_PATIENCE, Action, Emit, Fail, Read, Wait
from flowmaestro_core.errors import StreamError
from flowmaestro_core.http.messages import TransportFailure
from flowmaestro_core.machine import event
from flowmaestro_core.payloads.shapes import is_terminal
from flowmaestro_core.streams.events import event_from_sse
from flowmaestro_core.streams.stream import StreamMachine

DRAIN_IDLE = 0.02
"""Seconds without a byte after which the drained body of what has ended is closed."""


class EventStreamMachine(StreamMachine):
    """Emits events until a terminal one; otherwise it ends with an error.

    A lost connection is made again.
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
        try:
            decoded = self._connection.decoder.feed(data)
        except StreamError as error:
            self._ending, self._drains = self._ending or Fail(error), 0
            return self._next(now, jitter)
        if not decoded:
            self._monitor.on_bytes(now)
        for sse in decoded:
            if self._ending is None or self._drains:
                event = event_from_sse(sse)
                if self._history is not None:
                    self._history.note(event, sse)
                if self._take(event):
                    self._connection.progressed()
                    self._monitor.on_event(now)
                else:
                    self._monitor.on_bytes(now)
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
    def transport_failed(self, failure: TransportFailure, now: float, jitter: float) -> Action:
        return self._lose(failure, now, jitter)

    @event
    def emitted(self, now: float, jitter: float) -> Action:
        if self.state == "ending":
            return self._done(cast("Emit", self._ending).item)
        self._monitor.resume(now)
        return self._next(now, jitter)

    def _take(self, item: Dict[str, Any]) -> bool:
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
        if self._ending is None and (now >= self._deadline or now >= monitor.give_up_at):
            self._run_out()
            return self._next(now, jitter)
        if self._ending is not None:
            return self._end(self._ending)
        if not self._connection.is_open:
            return self._reconnect(now, jitter)
        if now >= monitor.dead_at:
            return self._close_then(self._closed)
        probe_at = monitor.probe_at
        if now >= probe_at:
            return self._probe(now, jitter)
        self.state = "streaming"
        left = min(monitor.dead_at, monitor.give_up_at, self._deadline) - now
        return Read(min(left, probe_at - now), min(left, LEAST_PATIENCE))

    def _end(self, ending: Union[Emit, Fail]) -> Action:
        if self._connection.is_open and self._drains:
            self.state = "draining"
            return Read(DRAIN_IDLE)
        if self._connection.is_open:
            return self._close_then(self._closed)
        if isinstance(ending, Fail):
            return self._fail(ending.error)
        if self._history is not None and not self._history.ended:
            self._history.note(ending.item)  # a probe told it
        self.state = "ending"
        return ending

    def _reconnect(self, now: float, jitter: float) -> Action:
        connection, monitor = self._connection, self._monitor
        reopen_at = max(now, connection.reopen_at)
        if not monitor.lets_open(reopen_at):
            reopen_at = math.inf
        if now >= reopen_at:
            return self._open(now, jitter)
        if now >= connection.give_up_at:
            return self._give_up(connection.absent(self.scrubber), now, jitter)
        if now >= monitor.probe_at:
            return self._probe(now, jitter)
        self.state = "backing off"
        until = min(reopen_at, connection.give_up_at, monitor.probe_at)
        until = min(until, monitor.give_up_at, self._deadline)
        return Wait(until - now, connection.report(), reconnects=True)

    def _closed(self, now: float, jitter: float) -> Action:
        return self._lose(None, now, jitter)
