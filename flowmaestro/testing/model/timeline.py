"""The model's time: the driver's clock, the wall clock derived from it, and what happens when.

Pure but for a lock: nothing here reads a clock. The driver says what time it is; whatever was
planned up to then happens in order, each step at its own time.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from datetime import datetime, timezone
from typing import Callable, List, Optional, Tuple

from flowmaestro_core.http.dates import http_date

Step = Callable[[], None]

GRACE = 1e-6
"""Seconds by which a step may run early: a driver that sleeps until the very time it was told
adds and subtracts floats, and must not find that it woke a rounding error too soon."""


class Timeline:
    """An agenda of steps on a clock that only drivers move.

    Model times (`now`, delays) are seconds since the first request, so that a world can be
    filled before anyone says what time it is; driver times are whatever monotonic clock the
    driver has. `epoch` is the wall clock, in Unix seconds, when a driver first showed its time.
    `lock` guards the whole model.
    """

    def __init__(self, epoch: float) -> None:
        self.now = 0.0
        self.lock = threading.RLock()
        self._epoch = epoch
        self._first_seen: Optional[float] = None
        self._zero: Optional[float] = None
        self._agenda: List[Tuple[float, int, Step]] = []
        self._order = itertools.count()

    def observe(self, driver_now: float) -> None:
        """Tie the wall clock to the driver's, if nobody has yet; the world does not begin."""
        if self._first_seen is None:
            self._first_seen = driver_now

    def begin(self, driver_now: float) -> None:
        """A request has come: start the world with the first one, then let time pass."""
        self.observe(driver_now)
        if self._zero is None:
            self._zero = driver_now
        self.advance(driver_now)

    def advance(self, driver_now: float) -> None:
        """Let time pass until `driver_now`. Time never runs backwards; that is ignored."""
        self.observe(driver_now)
        if self._zero is None:
            return
        until = driver_now - self._zero
        while self._agenda and self._agenda[0][0] <= until + GRACE:
            time, _, step = heapq.heappop(self._agenda)
            self.now = max(self.now, time)
            step()
        self.now = max(self.now, until)

    def schedule(self, delay: float, step: Step) -> None:
        """Plan `step` for `delay` seconds from now."""
        heapq.heappush(self._agenda, (self.now + delay, next(self._order), step))

    def next_time(self) -> Optional[float]:
        """The driver's time of the next step; `None` when nothing is planned or begun."""
        if self._zero is None or not self._agenda:
            return None
        return self._zero + self._agenda[0][0]

    def driver_now(self) -> float:
        """Where the driver's clock was when time last passed; 0.0 before that."""
        return (self._zero or 0.0) + self.now

    def wall(self, time: Optional[float] = None) -> float:
        """Unix seconds at a model time, by default now."""
        idle = (self._zero or 0.0) - (self._first_seen or 0.0)
        return self._epoch + idle + (self.now if time is None else time)

    def iso(self, time: Optional[float] = None) -> str:
        """A model time as the API writes it: ISO 8601 in UTC with milliseconds."""
        moment = datetime.fromtimestamp(self.wall(time), timezone.utc)
        return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"

    def http_date(self) -> str:
        """Now as a `Date` field has it (RFC 9110, 5.6.7)."""
        return http_date(self.wall())
