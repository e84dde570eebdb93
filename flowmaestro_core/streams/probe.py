"""The deadlines of a quiet stream.

They are: when its connection counts as lost, when to ask the server whether the execution or the
answer has ended (a *probe*), and when the stream times out.
"""

from __future__ import annotations

import math

from flowmaestro_core.errors import FlowMaestroError, TimeoutError
from flowmaestro_core.payloads.reply import RateLimit
from flowmaestro_core.policy.polling import FIRST_POLL, AdaptiveTimeout, slowed_by_rate_limit
from flowmaestro_core.policy.retry import retry_after_of
from flowmaestro_core.policy.stream_times import StreamTimes

PROBE_BACKOFF = 1.5
MAX_INTERVALS_WITHOUT_PROBE = 10
"""A probe is due after this many times `event_idle_max`, even while events come. These events may
be a mere heartbeat, or the same event on each connection."""
RECONNECT_GRACE = 1.0
"""Seconds for which a new connection may deliver the missed events, before a probe ends the
stream."""


class IdleMonitor:
    """The clocks of a stream, and when its next probe is due.

    A connection without a byte for `bytes_idle` seconds is dead (`dead_at`). Without an event for
    `event_idle` seconds a probe is due (`probe_at`). The probe finds out whether the execution or
    the answer has ended. The time between probes grows until an event comes, and is never shorter
    than the server allows.

    `stream_deadline` is when the stream must end. It is fixed from the beginning, or moves with
    each event (`allow_silence`).

    `paused_at` is when the machine last stopped reading, to emit an event or to send a probe.

    All times are in seconds, those called `..._at` and `now` on the clock of the machine.
    """

    def __init__(self, times: StreamTimes, *, can_probe: bool) -> None:
        self.can_probe = can_probe
        self.dead_at: float = math.inf
        self.stream_deadline: float = math.inf
        self.paused_at: float = 0.0
        self._times = times
        self._bytes_idle = times.bytes_idle
        self._idle, self._longest_idle = times.event_idle, times.event_idle_max
        """The interval between probes in seconds, and the longest that it grows to."""
        self._due_at = self._latest_at = math.inf
        """When the next probe is due, and when it is due even if events come."""
        self._not_before = -math.inf
        """No probe is sent before this time, because of the key's rate limit or a `Retry-After`."""
        self._silence = 0.0
        """Seconds without an event after which the stream must end; 0 if its deadline is fixed."""
        self._timeout = AdaptiveTimeout()

    @property
    def probe_at(self) -> float:
        """When the next probe is due; infinity if there is nothing to poll."""
        if not self.can_probe:
            return math.inf
        return max(min(self._due_at, self._latest_at), self._not_before)

    @property
    def polls_until_deadline(self) -> bool:
        """Whether a stream that opens no more connections is probed until its deadline.

        If not, it is probed once.
        """
        return self._silence > 0

    def opening_at(self, at: float) -> float:
        """Return when the stream may be opened again, if that is planned for `at`: here, `at`.

        `RunMonitor` returns infinity if a connection at that time would delay its next poll.
        """
        return at

    def opening_until(self, now: float, *, again: bool) -> float:
        """Return the deadline of an opening that begins now, so that it does not delay a probe.

        A reconnection (`again`) has until the next probe, but at least `RECONNECT_GRACE` seconds,
        since the new connection may deliver the terminal event. For the first opening, the result
        is infinity: only the timeout of the call limits it.
        """
        return max(self.probe_at, now + RECONNECT_GRACE) if again else math.inf

    def begin(self, now: float, timeout: float = math.inf) -> None:
        """Set all deadlines of a stream that begins now and may last for `timeout` seconds."""
        self.stream_deadline = now + timeout
        self._start_clocks(now)

    def allow_silence(self, now: float, seconds: float) -> None:
        """Start the clocks again; the stream is given up after `seconds` without an event."""
        self._silence = seconds
        self._bytes_idle = max(self._bytes_idle, seconds)
        self.stream_deadline = now + seconds
        self._start_clocks(now)

    def _start_clocks(self, now: float) -> None:
        self._latest_at = now + MAX_INTERVALS_WITHOUT_PROBE * self._times.event_idle_max
        self.on_bytes(now)
        self._schedule_probe(now)

    def begin_final_probes(self, now: float) -> None:
        """Make a probe due now, because the stream opens no more connections.

        If `polls_until_deadline` is True, further probes follow at short intervals, and the time
        allowed without an event starts again.
        """
        self._due_at = now
        if self._silence:
            self._idle, self._longest_idle = FIRST_POLL, self._times.event_idle
            self.stream_deadline = now + self._silence

    def on_bytes(self, now: float) -> None:
        """Restart the clock that finds a dead connection: bytes came, perhaps only a keepalive."""
        self.dead_at = now + self._bytes_idle

    def on_event(self, now: float) -> None:
        """Restart the clocks: an event was received that is neither a keepalive nor `connected`."""
        self._idle = self._times.event_idle
        self._due_at = now + self._idle
        if self._silence:
            self.stream_deadline = now + self._silence

    def probe_now(self) -> None:
        """Make a probe due at once. An event that comes before the probe postpones it."""
        self._due_at = -math.inf

    def on_opened(self, now: float, *, again: bool) -> None:
        """Restart the clocks on a new connection; `again` if it is not the first."""
        self.on_bytes(now)
        if not again:
            self._schedule_probe(now)

    def on_lost(self, now: float, *, first: bool) -> None:
        """Delay a probe that would be due soon, so that a new connection can deliver events.

        A loss does so only if it is the `first` one since the stream last progressed.
        A probe that is due already is not delayed.
        """
        if first and now < self._due_at:
            self._due_at = max(self._due_at, now + RECONNECT_GRACE)

    def resume(self, now: float) -> None:
        """Postpone the next probe and the limits of silence by the time that the caller took.

        The caller had an event meanwhile, and the stream was not read.
        """
        away = now - self.paused_at
        self.dead_at += away
        self._due_at += away
        self._latest_at += away
        if self._silence:
            self.stream_deadline += away

    # Probes

    def probe_sent(self, now: float) -> float:
        """Record that a probe is sent. Return its timeout in seconds."""
        self.paused_at = now
        return self._timeout.seconds()

    def probe_answered(self, limit: RateLimit, now: float) -> None:
        """Schedule the next probe. `limit` is the rate limit in the response."""
        self._timeout.record_latency(now - self.paused_at)
        self._not_before = now + slowed_by_rate_limit(0.0, limit)
        self._probed(now)

    def probe_failed(self, error: FlowMaestroError, now: float) -> None:
        """Schedule the next probe after one that failed with `error`."""
        if isinstance(error, TimeoutError):
            self._timeout.record_timeout()
        self._not_before = now + retry_after_of(error)
        self._probed(now)

    def _probed(self, now: float) -> None:
        self._idle = min(self._idle * PROBE_BACKOFF, self._longest_idle)
        self._latest_at = now + MAX_INTERVALS_WITHOUT_PROBE * self._times.event_idle_max
        self.dead_at += now - self.paused_at
        self._schedule_probe(now)

    def _schedule_probe(self, now: float) -> None:
        self._due_at = now + self._idle
