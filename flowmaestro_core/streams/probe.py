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
"""How much longer each interval between the probes of a quiet stream is than the last one. With the
default `StreamTimes` these are 5, 7.5, 11, 17, 25 and then 30 s: a silence of a minute costs five
probes, one of an hour about 120."""
MAX_INTERVALS_WITHOUT_PROBE = 10
"""A probe is due after this many times `event_idle_max`, even while events come. These events may
be a mere heartbeat, or the same event on each connection. Ten are five minutes by default: a
probe every five minutes costs a key little."""
RECONNECT_GRACE = 1.0
"""Seconds for which a new connection may deliver the missed events, before a probe ends the
stream."""


class IdleMonitor:
    """The clocks of a stream, and when its next probe is due.

    A connection without a byte for `bytes_idle` seconds is dead (`dead_at`). Without an event for
    `event_idle` seconds a probe is due (`probe_at`). The probe finds out whether the execution or
    the answer has ended. The time between probes grows up to `event_idle_max`, until an event
    comes, and is never shorter than the server allows.

    `stream_deadline` is when the stream must end. It is fixed from the beginning, or, after
    `allow_silence`, moves with the events.

    The clocks stand still while the caller has an event (`on_emit` to `on_emitted`), and that of
    `dead_at` during a probe, too: the machine does not read meanwhile. A `stream_deadline` that is
    fixed does not move.

    All times are in seconds. Points in time are on the clock that gives `now`.
    """

    def __init__(self, times: StreamTimes, *, can_probe: bool) -> None:
        self.dead_at: float = math.inf
        self.stream_deadline: float = math.inf
        self._times = times
        self._can_probe = can_probe
        """Whether there is something to poll."""
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
        """The timeout of the next probe."""
        self._emitting_since = 0.0
        """When the caller got the last event. Counts only until it wants the next one."""
        self._probe_sent_at = 0.0
        """When the last probe was sent. Counts only until it has ended."""

    @property
    def probe_at(self) -> float:
        """When the next probe is due; infinity if none may be sent."""
        if not self._can_probe:
            return math.inf
        return max(min(self._due_at, self._latest_at), self._not_before)

    @property
    def polls_until_deadline(self) -> bool:
        """Whether a stream that opens no more connections is probed until its deadline.

        If not, it is probed at most once.
        """
        return self._can_probe and self._silence > 0

    def opening_at(self, at: float) -> float:
        """Return when the stream may be opened again, if that is planned for `at`: here, `at`.

        `RunMonitor` returns infinity if a connection at that time would delay its next poll.
        """
        return at

    def opening_until(self, now: float, *, reopening: bool) -> float:
        """Return the deadline of an opening that begins now.

        The first opening may take as long as any call: infinity. With `reopening`, an earlier
        connection was lost or set aside, or could not be made. Such an opening must not delay a
        probe for longer than `RECONNECT_GRACE`, in which the new connection may deliver the
        terminal event. `RunMonitor` overrides this with earlier deadlines.
        """
        return max(self.probe_at, now + RECONNECT_GRACE) if reopening else math.inf

    def begin(self, now: float, timeout: float = math.inf) -> None:
        """Set all deadlines of a stream that begins now and may last for `timeout` seconds."""
        self.stream_deadline = now + timeout
        self._start_clocks(now)

    def allow_silence(self, now: float, seconds: float) -> None:
        """Restart all clocks. Let the stream time out after `seconds` without an event.

        Its connection may then be without a byte for that long, too, before it counts as dead.
        """
        self._silence = seconds
        self._bytes_idle = max(self._bytes_idle, seconds)
        self.stream_deadline = now + seconds
        self._start_clocks(now)

    def _start_clocks(self, now: float) -> None:
        self._latest_at = now + MAX_INTERVALS_WITHOUT_PROBE * self._times.event_idle_max
        self.on_bytes(now)
        self._schedule_probe(now)

    def begin_final_probes(self, now: float) -> None:
        """Make a probe due as soon as the server allows it: no connection is open or planned.

        If `self.polls_until_deadline` is True, further probes follow at short intervals, and the
        time that the stream may be without an event is counted from `now`.
        """
        self._due_at = now
        if self._silence:
            self._idle, self._longest_idle = FIRST_POLL, self._times.event_idle
            self.stream_deadline = now + self._silence

    def on_bytes(self, now: float) -> None:
        """Restart the clock that finds a dead connection: bytes came, perhaps only a keepalive."""
        self.dead_at = now + self._bytes_idle

    def on_event(self, now: float) -> None:
        """Restart the clocks that count from an event. Keepalives and `connected` do not count."""
        self._idle = self._times.event_idle
        self._due_at = now + self._idle
        if self._silence:
            self.stream_deadline = now + self._silence

    def probe_now(self) -> None:
        """Make a probe due as soon as the server allows it. An event that comes first delays it."""
        # Not `now`: then it would no longer be due after `on_emitted` has moved it.
        self._due_at = -math.inf

    def on_opened(self, now: float, *, is_first: bool) -> None:
        """Restart the clock that finds a dead connection, because a new connection was made.

        The first connection also plans the next probe anew.
        """
        self.on_bytes(now)
        if is_first:
            self._schedule_probe(now)

    def on_lost(self, now: float, *, had_progress: bool) -> None:
        """Move a probe that is due within `RECONNECT_GRACE` to the end of that time.

        A new connection may deliver events meanwhile. A probe that is due already is not delayed.
        Nothing is delayed if there was no progress (no event, no answer to a probe) since the loss
        before this one. Otherwise connections that are lost again and again would delay all probes.

        `RunMonitor` overrides this: its polls never wait for a reconnection.
        """
        if had_progress and now < self._due_at:
            self._due_at = max(self._due_at, now + RECONNECT_GRACE)

    def on_emit(self, now: float) -> None:
        """Stop the clocks of silence: the caller gets an event, and nothing is read meanwhile."""
        self._emitting_since = now

    def on_emitted(self, now: float) -> None:
        """Continue the clocks that `on_emit` has stopped: the caller wants the next event."""
        away = now - self._emitting_since
        self.dead_at += away
        self._due_at += away
        self._latest_at += away
        if self._silence:
            self.stream_deadline += away

    # Probes

    def enable_probes(self) -> None:
        """Permit probes from now on. Before that, no probe is due.

        The stream of a message calls this once the answer's id is known, because a probe looks for
        that id.
        """
        self._can_probe = True

    def disable_probes(self) -> None:
        """Send no more probes, because each would be refused."""
        self._can_probe = False

    def probe_sent(self, now: float) -> float:
        """Record that a probe is sent. Return its timeout in seconds."""
        self._probe_sent_at = now
        return self._timeout.seconds()

    def probe_answered(self, limit: RateLimit, now: float) -> None:
        """Schedule the next probe after a successful one, which showed the rate limit `limit`."""
        self._timeout.record_latency(now - self._probe_sent_at)
        self._not_before = now + slowed_by_rate_limit(0.0, limit)
        self._probed(now)

    def probe_failed(self, error: FlowMaestroError, now: float) -> None:
        """Schedule the next probe after one that failed with `error`.

        The next probe is not sent before the `Retry-After` of `error` is over, if `error` has one.
        If the failed probe timed out, the next one gets more time.
        """
        if isinstance(error, TimeoutError):
            self._timeout.record_timeout()
        self._not_before = now + retry_after_of(error)
        self._probed(now)

    def _probed(self, now: float) -> None:
        self._idle = min(self._idle * PROBE_BACKOFF, self._longest_idle)
        self._latest_at = now + MAX_INTERVALS_WITHOUT_PROBE * self._times.event_idle_max
        self.dead_at += now - self._probe_sent_at
        self._schedule_probe(now)

    def _schedule_probe(self, now: float) -> None:
        self._due_at = now + self._idle
