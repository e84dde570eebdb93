"""What the calls of one process share: slots, wakers, and the steps under way.

There is no lock, as an exception that a signal handler raises may come between any two bytecodes:
a lock whose owner dies of one would stop all others for good.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import List, Optional, Set

from flowmaestro_core.http.messages import TransportClosedError
from flowmaestro_transports.driving.ownership import Owned
from flowmaestro_transports.http11.pool import ConnectionPool
from flowmaestro_transports.http11.round_trip import RoundTrip
from flowmaestro_transports.sockets.steps import LOOK_AGAIN, Step, Waker

_FREE_WAKERS = 32
"""Wakers that are kept for later steps; each has two files open."""

_ALL_THREADS = 2**16
"""More slots than threads are no limit."""


class Slots:
    """How many calls may be under way at once: first come, first served.

    A slot is always in one of two lists, the free ones or its step's own.
    """

    def __init__(self, count: int) -> None:
        self._free: Owned[None] = Owned([None] * min(count, _ALL_THREADS))
        self._waiting: List[Step] = []

    def take(self, step: Step, until: float) -> bool:
        """Wait for a slot; False at the time `until`. `give_back` it even then.

        Raises `StepCut`.
        """
        if not self._waiting and self._free.move_to(step.slot):
            return True
        step.get_ready_to_wait()
        self._waiting.append(step)
        while self._waiting[0] is not step or not self._free.move_to(step.slot):
            if time.monotonic() >= until:
                return False
            step.wait(min(until, time.monotonic() + LOOK_AGAIN))
        self._leave_queue(step)
        return True

    def give_back(self, step: Step) -> None:
        """Release the step's slot, or its place in the queue. Twice is harmless."""
        step.slot.move_to(self._free)
        if self._waiting:
            self._leave_queue(step)

    def _leave_queue(self, step: Step) -> None:
        with suppress(ValueError):
            self._waiting.remove(step)
        for first in self._waiting[:1]:  # it looks whether there is another free one
            first.wake()


class Pool(ConnectionPool):
    """At most `max_connections` calls at once, and at most as many idle connections.

    Whatever a thread is at is a `Step`, which `begin` notes and `end_step` clears.
    """

    def __init__(self, max_connections: int) -> None:
        super().__init__(max_connections)
        self.slots = Slots(max_connections)
        self.wakers: Owned[Waker] = Owned()
        """Those that no step uses just now."""
        self._steps: Set[Step] = set()

    def begin(self, step: Step) -> None:
        """A thread begins a step. Raises `TransportClosedError`."""
        step.free_wakers = self.wakers
        self._steps.add(step)
        if self.closed:  # only now: what is noted later, no `close` cuts short
            raise TransportClosedError

    def end_step(self, step: Step, trip: Optional[RoundTrip] = None) -> None:
        """A step is over, whether it did what it should or not. Twice is harmless."""
        if step not in self._steps:
            return
        if trip is not None:
            self.end(trip)
        self.slots.give_back(step)
        step.let_go_of_waker()
        del self.wakers[0 if self.closed else _FREE_WAKERS :]
        self._steps.discard(step)

    def close(self) -> None:
        """Close what is idle or open, and cut short every step."""
        self.closed = True
        for step in list(self._steps):
            step.cut()
        super().close()
        self.wakers.clear()
