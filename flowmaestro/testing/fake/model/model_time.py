"""The model's time: a clock that the model's driver moves, its dates, and planned callbacks.

Pure except for a lock: nothing here reads a clock. The driver passes the time. Callbacks that are
due by then are called in order, each at its own time. A callback that was due before the first
request is called at the time of that request. Dates are counted from a given start.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from datetime import datetime, timezone
from typing import Callable, List, Optional, Tuple

from flowmaestro_core.http.dates import http_date

Callback = Callable[[], None]


class ModelTime:
    """Planned callbacks on a clock that only drivers move.

    All times are seconds on the clock of the driver. Its 0.0 is `epoch` on the wall clock, in Unix
    seconds. `lock` guards the whole model.
    """

    def __init__(self, epoch: float) -> None:
        self.now: float = 0.0
        self.lock: threading.RLock = threading.RLock()
        self._epoch = epoch
        self._begun = False
        self._agenda: List[Tuple[float, int, Callback]] = []
        self._order = itertools.count()

    def begin(self, now: float) -> None:
        """Advance time to `now` for a request, and call the callbacks that are due.

        Before the first `begin`, `advance` calls no callback. That `begin` calls at `now` those
        that were due before.
        """
        self.advance(now)
        self._begun = True
        self.advance(now)

    def advance(self, until: float) -> None:
        """Advance time to `until`, and call the callbacks that are due.

        An earlier time is ignored. Before `begin`, no callback is called.
        """
        while self._begun and self._agenda and self._agenda[0][0] <= until:
            time, _, callback = heapq.heappop(self._agenda)
            self.now = max(self.now, time)
            callback()
        self.now = max(self.now, until)

    def schedule(self, delay: float, callback: Callback) -> None:
        """Plan `callback` for `delay` seconds from now."""
        heapq.heappush(self._agenda, (self.now + delay, next(self._order), callback))

    def next_time(self) -> Optional[float]:
        """Return the time of the next callback; `None` before `begin` or if none is planned."""
        return self._agenda[0][0] if self._begun and self._agenda else None

    def wall(self, time: Optional[float] = None) -> float:
        """Return the Unix seconds at `time` of the driver's clock; by default, the present ones."""
        return self._epoch + (self.now if time is None else time)

    def iso(self, time: Optional[float] = None) -> str:
        """Return a time, by default now, as the API writes it: ISO 8601 in UTC with milliseconds.

        `time` is in seconds on the clock of the driver.
        """
        moment = datetime.fromtimestamp(self.wall(time), timezone.utc)
        return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"

    def http_date(self) -> str:
        """Return the time now as a `Date` field has it (RFC 9110, 5.6.7)."""
        return http_date(self.wall())
