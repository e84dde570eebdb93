"""What calls in flight wait for, in the order of their times. Guarded by the clock's lock."""

from __future__ import annotations

import heapq
import itertools
from typing import Callable, Iterator, List, Optional, Tuple

from flowmaestro.testing.virtual.calls import Call


class Alarm:
    """What a call in flight waits for; without a call, something that is to be done at a time."""

    __slots__ = ("at", "blocks", "call", "poke", "rung")

    def __init__(self, at: float, call: Optional[Call], poke: Callable[[], object]) -> None:
        self.at = at
        self.call = call
        self.poke = poke
        self.rung = False
        self.blocks: Optional[int] = None


class Alarms:
    """The alarms that are still to ring; those that were given up are put aside."""

    def __init__(self) -> None:
        self._order = itertools.count()
        self._agenda: List[Tuple[float, int, Alarm]] = []

    def add(self, alarm: Alarm) -> None:
        """One more is to ring."""
        heapq.heappush(self._agenda, (alarm.at, next(self._order), alarm))

    def first(self) -> Optional[Alarm]:
        """The one that is to ring first."""
        while self._agenda and self._agenda[0][2].rung:
            heapq.heappop(self._agenda)
        return self._agenda[0][2] if self._agenda else None

    def due(self, now: float) -> Iterator[Alarm]:
        """Those that are to ring by `now`; each has to ring before the next one is asked for."""
        while True:
            alarm = self.first()
            if alarm is None or alarm.at > now:
                return
            yield alarm

    def waited_for(self) -> Optional[Alarm]:
        """One that a call waits for."""
        alarms = (alarm for _, _, alarm in self._agenda)
        return next((alarm for alarm in alarms if alarm.call and not alarm.rung), None)


def nobody() -> None:
    """Nobody has begun to wait yet."""
