"""The idle clocks: when a quiet stream is dead, and when a probe is due."""

from __future__ import annotations

import math
from typing import Optional

from flowmaestro_core.errors import FlowMaestroError, TimeoutError
from flowmaestro_core.executions.wait import asked_pause
from flowmaestro_core.payloads.reply import RateLimit, asks_for_tomorrow
from flowmaestro_core.policy.polling import AdaptiveTimeout, PollSchedule, paced
from flowmaestro_core.policy.stream_times import StreamTimes

PROBE_BACKOFF = 1.5
UNPROBED = 10
"""A probe is due after this many times `event_idle_max` even while events come: they may be only a
heartbeat, or the same event on each connection."""
SPENT_DAY_PAUSE = 3600.0
"""Seconds without a probe after a key's day is spent, if the server does not say how many."""
RUN_PATIENCE = 2.0
"""The least seconds that an answer may take in a run."""
GRACE = 1.0
"""Seconds by which a probe is late, so that a new connection can bring what was missed."""


class IdleMonitor:
    """The clocks of a stream, and when its next probe is due.

    A connection without a byte for `bytes_idle` seconds is dead (`dead_at`). Without an event for
    `event_idle` seconds a probe is due (`probe_at`), which asks whether the stream's subject has
    ended. The time between probes grows until there is an event, and is never shorter than the
    server allows. A stream without an event for `give_up_after` seconds is given up (`give_up_at`).

    With a `schedule`, probes are due on it while the connection has brought no event.

    All times are in seconds, those called `..._at` and `now` on the clock of the machine.
    """

    def __init__(
        self,
        times: StreamTimes,
        *,
        can_probe: bool,
        schedule: Optional[PollSchedule] = None,
        give_up_after: float = math.inf,
    ) -> None:
        self.can_probe = can_probe
        self.dead_at = self.give_up_at = math.inf
        self._times = times
        self._first_idle = min(times.event_idle, times.event_idle_max)
        self._schedule = schedule
        self._give_up_after = give_up_after
        self._live = False
        """Whether this connection has brought an event: then the schedule does not count."""
        self._suspects = False
        """Whether the subject may have ended."""
        self._probes = 0
        """How many there have been since the last event."""
        self._idle_at = self._latest_at = math.inf
        """When the next probe is due, and when it is due even if events come."""
        self._not_before = self._away_at = -math.inf
        self._timeout = AdaptiveTimeout()

    @property
    def probe_at(self) -> float:
        """When the next probe is due; infinity if there is nothing to poll."""
        if not self.can_probe:
            return math.inf
        if self._suspects:
            return self._not_before
        if self._schedule is not None and not self._live:
            return max(self._schedule.next_at, self._not_before)
        return max(min(self._idle_at, self._latest_at), self._not_before)

    def allows_probe(self, now: float) -> bool:
        """Whether there is something to poll, and the server allows it now."""
        return self.can_probe and now >= self._not_before

    def lets_open(self, at: float) -> bool:
        """Whether there is time for an opening at that time before the next probe of a run."""
        if self._schedule is None:
            return True
        return at + min(self._timeout.took, 0.9 * self._schedule.interval) <= self.probe_at

    def opening_until(self, now: float, *, again: bool) -> float:
        """When an opening that begins now is given up, so that a probe does not wait for it.

        Outside a run it has `GRACE`, since it may bring what the probe would tell. The first one
        of a run has a whole interval.
        """
        if self._schedule is None:
            return max(self.probe_at, now + GRACE)
        return self.probe_at if again else max(self.probe_at, now + self._schedule.interval)

    def begin(self, now: float) -> None:
        """The stream begins."""
        self._latest_at = now + UNPROBED * self._times.event_idle_max
        self.on_bytes(now)
        self.on_event(now)
        self._live = False

    def on_bytes(self, now: float) -> None:
        """Something came, if only a keepalive."""
        self.dead_at = now + self._times.bytes_idle

    def on_event(self, now: float) -> None:
        """An event came that is more than a keepalive or `connected`."""
        self._live = True
        self._probes = 0
        self.give_up_at = now + self._give_up_after
        self._idle_at = now + self._first_idle
        if self._schedule is not None:
            self._schedule.answered(now)

    def suspect(self, suspects: bool = True) -> None:
        """The subject may have ended, so that a probe is due at once; or it has not."""
        self._suspects = suspects

    def on_opened(self, now: float, *, again: bool) -> None:
        """The connection stands; `again` if it may bring what was missed."""
        self.on_bytes(now)
        if again:
            self._hold(now)
        else:
            self._wait_for_event(now)

    def on_lost(self, now: float) -> None:
        """The connection is gone."""
        self._live = False
        self._hold(now)

    def poll(self, schedule: PollSchedule, now: float) -> None:
        """There will be no connection: only probes can bring the ending now."""
        self._schedule, self._live = schedule, False
        self.give_up_at = now + self._give_up_after

    def leave(self, now: float) -> None:
        """The caller has an event and does not listen; call `discount` when it does again."""
        self._away_at = now

    def discount(self, now: float) -> float:
        """The caller listens again. Returns the seconds since `leave`, which do not count."""
        away = now - self._away_at
        self.dead_at += away
        self.give_up_at += away
        self._idle_at += away
        self._latest_at += away
        return away

    # Probes

    def probe_sent(self, now: float) -> float:
        """A probe is sent. Returns how many seconds its answer may take."""
        self._suspects = False
        self._away_at = now
        return max(self._timeout.seconds(), 0.0 if self._schedule is None else RUN_PATIENCE)

    def probe_answered(self, limit: RateLimit, now: float) -> None:
        """The probe was answered; `limit` is what the answer said of the key."""
        self._timeout.answered(now - self._away_at)
        self._not_before = now + paced(0.0, limit)
        self._settle(now)

    def probe_failed(self, error: FlowMaestroError, now: float) -> None:
        """The probe was not answered."""
        if isinstance(error, TimeoutError):
            self._timeout.ran_out()
        pause = asked_pause(error)
        if asks_for_tomorrow(error):
            pause = pause or SPENT_DAY_PAUSE
        self._not_before = now + pause
        self._settle(now)

    def _settle(self, now: float) -> None:
        self._probes += 1
        self.dead_at += now - self._away_at
        self._latest_at = now + UNPROBED * self._times.event_idle_max
        self._wait_for_event(now)
        if self._schedule is not None:
            self._schedule.answered(now)

    def _wait_for_event(self, now: float) -> None:
        delay = self._first_idle * PROBE_BACKOFF ** min(self._probes, 64)
        self._idle_at = now + min(delay, self._times.event_idle_max)

    def _hold(self, now: float) -> None:
        """Put off a probe that is not due yet."""
        if now < self._idle_at:
            self._idle_at = max(self._idle_at, now + min(GRACE, self._times.event_idle))
