"""The pace of a client's polls: what the replies say of the key's rate limits, and who polls when.

Three times delay a poll, and the latest of them wins:

* when its machine wants it: the schedule of a wait, or the interval between rounds of a batch;
* when the pace of the client allows it: the rules below;
* when the pause is over that a 429 has asked for (`Retry-After`). It holds for the machine that got
  the 429.

The deadline of a wait wins over all three: its last poll is sent then.

Rules of the pace:

1. *Nearly spent*: once at most `NEARLY_SPENT` of a window is left, requests are as far apart as the
   requests that are left, spread over the time to its end. This delays the starts of a batch, too.
2. *Few*: apart from that, up to `FEW` machines that wait for one or two executions each poll when
   they want to.
3. *Turns*: machines that wait for three or more executions, and all machines once more than `FEW`
   wait, poll in turn. Each poll gets the next free turn. The turns of a window use at most `SHARE`
   of what is left of it then, so that starts and other calls always find some of it. Starts have no
   turns.
4. If no turn is taken, the first one comes after `LEAD` of the time in which each machine has one:
   who polls at its very beginning learns nothing, and waits for its next turn for all that time.
5. Without rate-limit headers, the pace delays nothing. Without the end of the window, rule 1 delays
   nothing.

The day never slows a poll: the server does not say when the day ends.

Replies of other processes with the same key show up in what is left of the window, but their turns
are not known here. A wait that is cancelled gives its turn back (`cancel`). A batch, and a wait
whose driver does not call `abandon`, keep the next one until its time has passed.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from typing import List, Optional

from flowmaestro_core.payloads.reply import RateLimit

FEW = 10
"""So many machines, at one poll a second each, make twice as many requests as a pro key has. But
their waits are short as a rule, and a wait for one execution must not be slower than before."""
SHARE = 0.5
"""The share of what is left of a window that polls may use. The other half is for starts."""
NEARLY_SPENT = 0.1
"""See rule 1. A tenth of a pro key's 300 requests are 30: enough for the calls that do not poll
until the window ends."""
LEAD = 0.15
"""See rule 4. Of 100 runs of 20 s on a key of 300 requests a minute, each is back at most 41 s
after its end with this value."""
EXPECTED_WITHIN = 30.0
"""Seconds after which a request that a run was to make is not expected any more: the run has ended
otherwise. This is the default timeout of a call."""
MINUTE = 60.0
"""The window of the rate limit, in seconds (`docs/api-facts.md`). One that seems to end later
ends after this time; for turns, so does one whose end is unknown."""


class Pace:
    """The key's rate limits, as replies tell them, and the turns of the polls.

    All machines of a client with one key share it, in any thread, without a lock: a change that is
    lost costs a turn, not more.

    Attributes:
        remaining_day: the requests that the key has left today; `None` if no reply has said so.
        limit_day: the requests that the key has a day; `None` if no reply has said so.

    """

    def __init__(self) -> None:
        self.remaining_day: Optional[int] = None
        self.limit_day: Optional[int] = None
        self._limit = 0
        """The requests that the key has in one window; 0 if no reply has said so."""
        self._remaining = 0
        """The requests that were left of the window at the last reply."""
        self._resets_at = -math.inf
        """When that window ends."""
        self._spread = 0.0
        """The seconds between two requests, if the window is nearly spent; else 0."""
        self._turn_at = -math.inf
        """The last turn that was given."""
        self._planned: List[float] = []
        """The times of the planned polls, sorted. Those that have passed are dropped, whether they
        were sent or not: so a machine that was abandoned is forgotten."""
        self._expected: List[float] = []
        """For each request that a run makes before its first poll: when it is given up, sorted."""

    def replied(self, limit: RateLimit, now: float) -> None:
        """Take over the limits that a reply of this key has shown."""
        if limit.limit_day is not None and limit.remaining_day is not None:
            self.limit_day, self.remaining_day = limit.limit_day, limit.remaining_day
        if limit.limit and limit.remaining is not None:
            left = MINUTE if limit.reset_after is None else min(limit.reset_after, MINUTE)
            self._limit, self._remaining = limit.limit, limit.remaining
            self._resets_at = now + left
            # The server always says when a window ends. A gateway may say in every reply that 0
            # requests are left, without an end. That must not slow polls to one a minute.
            has_end = limit.reset_after is not None
            is_nearly_spent = has_end and limit.remaining <= NEARLY_SPENT * limit.limit
            self._spread = left / (limit.remaining + 1) if is_nearly_spent else 0.0

    def pause(self, now: float) -> float:
        """Return the seconds until a request may be sent: 0, unless the window is nearly spent."""
        return max(min(self._spread, self._resets_at - now), 0.0)

    def run_begins(self, now: float) -> None:
        """Expect the two requests that a run makes before it polls: its start, and its stream."""
        for _ in range(2):
            insort(self._expected, now + EXPECTED_WITHIN)

    def request_made(self, *, told: bool) -> None:
        """Note that one of these requests was made. `told` says that its reply showed the limits.

        The head of a stream shows none.
        """
        if self._expected:
            self._expected.pop()
        if not told:
            self._remaining -= 1

    def plan(self, delay: float, now: float, *, many: bool = False) -> float:
        """Plan the next poll of a machine, which wants it in `delay` seconds.

        Return in how many seconds it may be sent: `delay`, or later. `many` says that the machine
        waits for three or more executions.
        """
        delay = max(delay, self.pause(now))
        planned = self._planned
        del planned[: bisect_right(planned, now)]
        del self._expected[: bisect_right(self._expected, now)]
        # A run that has planned its first poll may still expect one request, its stream. A run
        # that has not planned one expects two.
        others = len(planned) + max(0, len(self._expected) - len(planned)) // 2
        if self._limit and (many or others >= FEW):
            last = self._turn_at if self._turn_at > now else now + LEAD * others * self._gap(now)
            self._turn_at = last + self._gap(last)
            delay = max(delay, self._turn_at - now)
        insort(planned, now + delay)
        return delay

    def cancel(self, at: float) -> None:
        """Give back the turn of a poll that is planned for the time `at`, if there is one.

        Turns are given in order, so the next one follows the last poll that is left.
        """
        planned = self._planned
        place = bisect_left(planned, at)
        if planned[place : place + 1] == [at]:
            del planned[place]
            self._turn_at = min(self._turn_at, planned[-1] if planned else -math.inf)

    def _gap(self, last: float) -> float:
        """Return the seconds from the turn at `last` to the next one."""
        if last >= self._resets_at:  # The window after that which the last reply has shown.
            return MINUTE / (SHARE * self._limit)
        # The planned polls are not sent yet, so what is left at their time is less.
        left = self._remaining - bisect_right(self._planned, self._resets_at) - len(self._expected)
        return (self._resets_at - last) / max(SHARE * left, 1.0)
