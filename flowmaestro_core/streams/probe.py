"""The idle clocks: when a quiet stream is dead, when a probe is due, and when the time is up."""

from __future__ import annotations

import math

from flowmaestro_core.errors import FlowMaestroError, TimeoutError
from flowmaestro_core.payloads.reply import RateLimit
from flowmaestro_core.policy.polling import FIRST_POLL, AdaptiveTimeout, paced
from flowmaestro_core.policy.retry import asked_pause
from flowmaestro_core.policy.stream_times import StreamTimes

PROBE_BACKOFF = 1.5
UNPROBED = 10
"""A probe is due after this many times `event_idle_max` even while events come: they may be only a
heartbeat, or the same event on each connection."""
GRACE = 1.0
"""Seconds that a new connection has to bring what was missed, before a probe ends the stream."""


class IdleMonitor:
    """The clocks of a stream, and when its next probe is due.

    A connection without a byte for `bytes_idle` seconds is dead (`dead_at`). Without an event for
    `event_idle` seconds a probe is due (`probe_at`), which asks whether the stream's subject has
    ended. The time between probes grows until there is an event, and is never shorter than the
    server allows. At `give_up_at` the time is up: `patience` seconds after the last event or,
    without a patience, at the stream's deadline.

    `away_at` is when the machine last stopped reading, to emit an event or to send a probe.

    All times are in seconds, those called `..._at` and `now` on the clock of the machine.
    """

    in_run = False
    """Whether the stream is part of a run, whose first opening is not retried either."""

    def __init__(self, times: StreamTimes, *, can_probe: bool, patience: float = 0.0) -> None:
        self.can_probe = can_probe
        self.dead_at = self.give_up_at = math.inf
        self.patience = patience
        self._times = times
        self._idle, self._longest_idle = times.event_idle, times.event_idle_max
        """Seconds from now to the next probe, and the most that they grow to."""
        self._due_at = self._latest_at = math.inf
        """When the next probe is due, and when it is due even if events come."""
        self._not_before = -math.inf
        self.away_at = -math.inf
        self._timeout = AdaptiveTimeout()

    @property
    def probe_at(self) -> float:
        """When the next probe is due; infinity if there is nothing to poll."""
        if not self.can_probe:
            return math.inf
        return max(min(self._due_at, self._latest_at), self._not_before)

    def opening_at(self, at: float) -> float:
        """`at`, or infinity if an opening at that time makes the next probe late."""
        return at

    def opening_until(self, now: float, *, again: bool) -> float:
        """When an opening that begins now is given up, so that a probe does not wait for it.

        It has `GRACE`, since it may bring what the probe would tell. The first one may take as long
        as any call, unless `again` is true.
        """
        return max(self.probe_at, now + GRACE) if again else math.inf

    def begin(self, now: float, timeout: float = math.inf) -> None:
        """The stream begins. It may last for `timeout` seconds, if it has no patience."""
        self._latest_at = now + UNPROBED * self._times.event_idle_max
        self.give_up_at = now + (self.patience or timeout)
        self.on_bytes(now)
        self._rest(now)

    def poll(self, now: float) -> None:
        """There will be no connection. One probe is due now, and more while there is patience."""
        self._due_at = now
        if self.patience:
            self._idle, self._longest_idle = FIRST_POLL, self._times.event_idle
            self.give_up_at = now + self.patience

    def on_bytes(self, now: float) -> None:
        """Something came, if only a keepalive."""
        self.dead_at = now + self._times.bytes_idle

    def on_event(self, now: float) -> None:
        """An event came that is more than a keepalive or `connected`."""
        self._idle = self._times.event_idle
        self._due_at = now + self._idle
        if self.patience:
            self.give_up_at = now + self.patience

    def suspect(self) -> None:
        """The subject may have ended: a probe is due at once, unless an event comes before."""
        self._due_at = -math.inf

    def on_opened(self, now: float, *, again: bool) -> None:
        """The connection stands; `again` if it is not the first."""
        self.on_bytes(now)
        if not again:
            self._rest(now)

    def on_lost(self, now: float, *, first: bool) -> None:
        """There is no connection; `first` if an event or an answer came since the last loss."""
        if first and now < self._due_at:
            self._due_at = max(self._due_at, now + GRACE)

    def resume(self, now: float) -> None:
        """The caller listens again; the clocks stood still meanwhile."""
        away = now - self.away_at
        self.dead_at += away
        self._due_at += away
        self._latest_at += away
        if self.patience:
            self.give_up_at += away

    # Probes

    def probe_sent(self, now: float) -> float:
        """A probe is sent. Returns how many seconds its answer may take."""
        self.away_at = now
        return self._timeout.seconds()

    def probe_answered(self, limit: RateLimit, now: float) -> None:
        """The probe was answered; `limit` is what the answer said of the key."""
        self._timeout.answered(now - self.away_at)
        self._not_before = now + paced(0.0, limit)
        self._probed(now)

    def probe_failed(self, error: FlowMaestroError, now: float) -> None:
        """The probe was not answered."""
        if isinstance(error, TimeoutError):
            self._timeout.ran_out()
        self._not_before = now + asked_pause(error)
        self._probed(now)

    def _probed(self, now: float) -> None:
        self._idle = min(self._idle * PROBE_BACKOFF, self._longest_idle)
        self._latest_at = now + UNPROBED * self._times.event_idle_max
        self.dead_at += now - self.away_at
        self._rest(now)

    def _rest(self, now: float) -> None:
        """Put the next probe off."""
        self._due_at = now + self._idle
