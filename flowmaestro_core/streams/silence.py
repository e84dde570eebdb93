"""When a stream that says nothing is doubted: the clocks of an event stream."""

from __future__ import annotations

import math
from typing import Optional

from flowmaestro_core.errors import FlowMaestroError, TimeoutError
from flowmaestro_core.executions.wait import asked_pause
from flowmaestro_core.payloads.reply import RateLimit, asks_for_tomorrow
from flowmaestro_core.policy.polling import AdaptiveTimeout, PollSchedule, paced
from flowmaestro_core.policy.stream_times import StreamTimes

RECONCILE_BACKOFF = 1.5
UNASKED = 10
"""After so many times `event_idle_max` the execution is asked for, whatever comes: events may be
no more than a heartbeat, or the same one again on each connection."""
SPENT_DAY_PAUSE = 3600.0
"""Seconds without a question once a key's day is spent, if the server does not say how many."""
REOPEN_PATIENCE = 1.0
"""Seconds that a reconnection has to be made, even if a question is due earlier."""


class Silence:
    """Two clocks that doubt a quiet stream, and what they know of the answers to questions.

    *Bytes-idle* (`dead_at`): not even a keepalive, so the connection is dead. *Event-idle*
    (`question_at`): no event for a while, so the execution is asked for, ever less often, and
    never sooner than the server allows; at long last, even though events come. This clock runs
    on while a connection is made anew.

    With a `schedule` (of `workflows.run`) a connection is asked about on the schedule of a wait
    until it brings a live event. Nothing else may then be under way when a question is due: an
    opening gets the time up to it, and is not begun where that will not do; nor is a question in
    between.

    All times are in seconds, those called `..._at` and `now` on the clock of the machine.
    """

    def __init__(
        self, times: StreamTimes, *, can_ask: bool = True, schedule: Optional[PollSchedule] = None
    ) -> None:
        self.dead_at = 0.0
        self._times = times
        self._can_ask = can_ask
        self._schedule = schedule
        self._live = False
        self._doubts = 0
        self._patience = AdaptiveTimeout(0.0 if schedule is None else schedule.took)
        self._needs = 0.0
        self._at_once = False
        self._idle_until = 0.0
        self._unasked_until = math.inf
        self._not_before = -math.inf
        self._asked_at = self._opening_at = 0.0

    @property
    def question_at(self) -> float:
        """When the execution is asked for next; never, where nothing can be asked."""
        if not self._can_ask:
            return math.inf
        if self._at_once:
            return self._not_before
        if self._schedule is not None and not self._live:
            due = self._schedule.next_at
        else:
            due = min(self._idle_until, self._unasked_until)
        return max(due, self._not_before)

    def forbids_asking(self, now: float) -> bool:
        """Whether the server wants no question now."""
        return now < self._not_before

    # What comes

    def begins(self, now: float) -> None:
        """The stream begins: nothing is doubted yet."""
        self._doubts = 0
        self.dead_at = now + self._times.bytes_idle
        self._doubt_later(now)
        if self._unasked_until == math.inf:
            self._ask_at_long_last(now)

    def broken_by_bytes(self, now: float) -> None:
        """Something came, if only a keepalive."""
        self.dead_at = now + self._times.bytes_idle

    def broken_by_event(self, now: float) -> None:
        """A live event came."""
        self._live = True
        self.begins(now)

    def unheard(self, seconds: float) -> None:
        """The caller was busy for so long, and nobody listened."""
        self.dead_at += seconds
        self._idle_until += seconds
        self._unasked_until += seconds

    def ask_at_once(self, now: float) -> None:
        """There is reason to believe that the execution has ended."""
        self._at_once = self.lets_ask(now)

    def lets_ask(self, now: float) -> bool:
        """Whether a question now would put off none that is due."""
        return self._schedule is None or self._live or self._schedule.is_free(now)

    # Questions

    def asks(self, now: float) -> float:
        """A question is asked: give back how many seconds it may take while a stream waits."""
        self._asked_at = now
        self._at_once = False
        return self._patience.seconds()

    def answered(self, limit: RateLimit, now: float) -> None:
        """The execution runs on, or has ended."""
        self._patience.answered(now - self._asked_at)
        self._settled(now)
        self._not_before = now + paced(0.0, limit)

    def not_answered(self, error: FlowMaestroError, now: float) -> None:
        """There was no answer, for now."""
        if isinstance(error, TimeoutError):
            self._patience.ran_out()
        self._settled(now)
        pause = asked_pause(error)
        if asks_for_tomorrow(error):
            pause = pause or SPENT_DAY_PAUSE
        self._not_before = now + pause

    def _settled(self, now: float) -> None:
        self._doubts += 1
        self.dead_at += now - self._asked_at  # nobody listened meanwhile
        self._doubt_later(now)
        self._ask_at_long_last(now)
        if self._schedule is not None:
            self._schedule.answered(self._asked_at, now)

    def _doubt_later(self, now: float) -> None:
        times = self._times
        delay = times.event_idle * RECONCILE_BACKOFF ** min(self._doubts, 64)
        self._idle_until = now + min(delay, times.event_idle_max)

    def _ask_at_long_last(self, now: float) -> None:
        self._unasked_until = now + UNASKED * self._times.event_idle_max

    # Connections

    def lost(self, now: float) -> None:
        """The connection is gone, and a new one has brought nothing yet."""
        if self._live and self._schedule is not None:
            self._schedule.catch_up(now)
        self._live = False

    def lets_open(self, at: float) -> bool:
        """Whether a connection that is due at that time is made before the next question.

        It brings the events in between, too; but a run's questions wait for nothing.
        """
        if self._schedule is None:
            return at <= self.question_at + self._reopen_patience
        needs = min(max(self._patience.took, self._needs), 0.9 * self._schedule.interval)
        return at + needs <= self.question_at

    def opens(self, now: float) -> float:
        """An opening begins: give back by when it has to be done."""
        self._opening_at = now
        if self._schedule is not None:
            return self.question_at
        return max(self.question_at, now + REOPEN_PATIENCE)

    def not_opened(self, error: FlowMaestroError, now: float) -> None:
        """The opening failed; where its time was too short, the next one takes more."""
        if isinstance(error, TimeoutError):
            self._needs = 2 * (now - self._opening_at)

    def opened(self, now: float, *, again: bool) -> None:
        """The connection stands; `again` if it was made anew, and may bring what was missed."""
        self._needs = now - self._opening_at
        self.dead_at = now + self._times.bytes_idle
        if not again:
            self._doubt_later(now)
        else:
            self._idle_until = max(self._idle_until, now + self._reopen_patience)
        if self._schedule is not None:
            self._schedule.guess_less(self._needs, now)

    @property
    def _reopen_patience(self) -> float:
        """Seconds by which a question is late so that a reconnection can bring what was missed."""
        return min(REOPEN_PATIENCE, self._times.event_idle)
