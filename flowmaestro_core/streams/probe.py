"""When a quiet stream is dead, and when the server is asked about it: the idle clocks."""

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
"""After so many times `event_idle_max` there is a probe even while events come: they may be no
more than a heartbeat, or the same one again on each connection."""
SPENT_DAY_PAUSE = 3600.0
"""Seconds without a probe once a key's day is spent, if the server does not say how many."""
RUN_PATIENCE = 2.0
"""Seconds for an answer in a run at least."""
GRACE = 1.0
"""Seconds by which a probe is late, so that a new connection can bring what was missed."""


class IdleMonitor:
    """The clocks of a stream, and what answers to probes have told about probing.

    A connection without a byte for `bytes_idle` seconds is dead (`dead_at`). Without an event for
    `event_idle` seconds a probe is due (`probe_at`): a question whether the stream's subject has
    ended. Probes come ever less often until there is an event, and no sooner than the server
    allows. With `give_up_after`, a stream without an event for so long is given up (`give_up_at`).

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
        self._schedule = schedule
        self._give_up_after = give_up_after
        self._live = False
        """Whether this connection has brought an event: then the schedule does not count."""
        self._suspects = False
        """Whether there is reason to believe that the end has been."""
        self._probes = 0
        """How many there have been since the last event."""
        self._idle_at = self._latest_at = math.inf
        """When the next probe is due, and when it is due even if events come."""
        self._not_before = self._away_at = -math.inf
        self._timeout = AdaptiveTimeout()

    @property
    def probe_at(self) -> float:
        """When the next probe is due; infinity where nothing can be asked."""
        if not self.can_probe:
            return math.inf
        if self._suspects:
            return self._not_before
        if self._schedule is not None and not self._live:
            return max(self._schedule.next_at, self._not_before)
        return max(min(self._idle_at, self._latest_at), self._not_before)

    def allows_probe(self, now: float) -> bool:
        """Whether something can be asked, and the server does not forbid it now."""
        return self.can_probe and now >= self._not_before

    def lets_open(self, at: float) -> bool:
        """Whether there is time for an opening at that time before the next probe of a run."""
        if self._schedule is None:
            return True
        return at + min(self._timeout.took, 0.9 * self._schedule.interval) <= self.probe_at

    def opening_until(self, now: float, *, again: bool) -> float:
        """By when an opening that begins now must be done, lest a probe wait for it.

        Outside a run it has `GRACE`, since it may bring what the probe would tell. The first one
        of a run has a whole interval.
        """
        if self._schedule is None:
            return max(self.probe_at, now + GRACE)
        return self.probe_at if again else max(self.probe_at, now + self._schedule.interval)

    def begin(self, now: float) -> None:
        """The stream begins."""
        self._latest_at = now + UNPROBED * self._times.event_idle_max
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
        self.on_bytes(now)
        self._runs_on(now)

    def suspect(self, suspects: bool = True) -> None:
        """There is reason to believe that the end has been: a probe is due at once. Or not."""
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
        """There will be no connection: from now on only probes can tell."""
        self._schedule, self._live = schedule, False
        self.give_up_at = now + self._give_up_after

    def leave(self, now: float) -> None:
        """Nobody listens from now on; `discount` follows."""
        self._away_at = now

    def discount(self, now: float) -> float:
        """Somebody listens again: how many seconds that do not count have passed."""
        away = now - self._away_at
        self.dead_at += away
        self.give_up_at += away
        self._idle_at += away
        self._latest_at += away
        return away

    # Probes

    def probe_sent(self, now: float) -> float:
        """A probe goes out: how many seconds its answer may take while a stream waits."""
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
        self._runs_on(now)

    def _runs_on(self, now: float) -> None:
        self._wait_for_event(now)
        if self._schedule is not None:
            self._schedule.answered(now)

    def _wait_for_event(self, now: float) -> None:
        times = self._times
        delay = times.event_idle * PROBE_BACKOFF ** min(self._probes, 64)
        self._idle_at = now + min(delay, times.event_idle_max)

    def _hold(self, now: float) -> None:
        """Put off a probe that is not due yet."""
        if now < self._idle_at:
            self._idle_at = max(self._idle_at, now + min(GRACE, self._times.event_idle))
