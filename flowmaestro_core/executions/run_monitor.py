"""The idle clocks of a run: while no events flow, probes are due as in a wait."""

from __future__ import annotations

from flowmaestro_core.policy.polling import PollSchedule
from flowmaestro_core.policy.stream_times import StreamTimes
from flowmaestro_core.streams.probe import IdleMonitor

RUN_PATIENCE = 2.0
"""The least seconds that an answer may take in a run."""


class RunMonitor(IdleMonitor):
    """Probes on `schedule`, until the connection has brought an event.

    An opening is not to make a probe late. Only the first one has a whole interval.
    """

    in_run = True

    def __init__(self, times: StreamTimes, schedule: PollSchedule) -> None:
        super().__init__(times, can_probe=True)
        self._schedule = schedule
        self._live = False
        """Whether this connection has brought an event."""

    def lets_open(self, at: float) -> bool:
        return at + min(self._timeout.took, 0.9 * self._schedule.interval) <= self.probe_at

    def opening_until(self, now: float, *, again: bool) -> float:
        return self.probe_at if again else max(self.probe_at, now + self._schedule.interval)

    def on_event(self, now: float) -> None:
        super().on_event(now)
        self._live = True
        self._schedule.answered(now)

    def on_opened(self, now: float) -> None:
        self.on_bytes(now)

    def on_lost(self, now: float) -> None:
        self._live = False
        self._due_at = self._schedule.next_at

    def probe_sent(self, now: float) -> float:
        return max(super().probe_sent(now), RUN_PATIENCE)

    def _rest(self, now: float) -> None:
        super()._rest(now)
        self._schedule.answered(now)
        if not self._live:
            self._due_at = self._schedule.next_at
