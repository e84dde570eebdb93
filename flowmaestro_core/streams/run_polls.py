"""The polls of a run, which the probes of its stream are."""

from __future__ import annotations

import math

from flowmaestro_core.policy.pace import Pace
from flowmaestro_core.policy.polling import PollSchedule


class RunPolls:
    """The polls of a run: on the schedule of a wait, and in turn with others of the client.

    Once the present connection has brought an event, a probe is due after `event_idle` seconds
    without one, as for other streams. Before that, and while there is no connection, the schedule
    sets the times. So a run without events ends as soon as `wait_for_completion` would.
    """

    def __init__(self, schedule: PollSchedule, pace: Pace) -> None:
        self._schedule = schedule
        self._pace = pace
        """Gives the poll its turn: many runs of the client may wait."""
        self._planned_at = -math.inf
        """The time for which the pace has the next poll, on the clock of `now`."""

    @property
    def due_at(self) -> float:
        """When the next poll is due."""
        return self._schedule.next_at

    @property
    def interval(self) -> float:
        """The longest time between two polls, in seconds."""
        return self._schedule.interval

    def plan(self, now: float) -> float:
        """Plan the next poll. Return the time of its turn, before which it must not be sent."""
        wanted = self._schedule.answered(now)
        delay = self._pace.plan(wanted, now)
        self._planned_at = now + delay
        return now + delay if delay > wanted else now

    def abandon(self) -> None:
        """Give back the turn of the next poll, which is not sent."""
        self._pace.cancel(self._planned_at)

    def event_came(self, now: float) -> None:
        """Plan the poll that is due if the connection is lost now."""
        self._schedule.answered(now)

    def opened(self) -> None:
        """Record that the stream of the run was opened, which is one of the requests expected."""
        self._pace.request_made(told=False)
