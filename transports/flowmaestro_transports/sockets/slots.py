"""How many calls may be under way at once, and which is next.

Built without a lock, as an exception that a signal handler raises may come between any two
bytecodes: one that a lock's owner dies of would stop all others for good. A slot is always in one
of two lists, the free ones or its step's own, and moves between them in one step of C.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import List

from flowmaestro_transports.http11.pool import move_last
from flowmaestro_transports.sockets.steps import Step

_LOOK_AGAIN = 0.5
"""Seconds after which a waiting step looks by itself, should nobody have woken it."""


class Slots:
    """So many slots, first come, first served."""

    def __init__(self, count: int) -> None:
        self._free: List[object] = [None] * count
        self._waiting: List[Step] = []

    def take(self, step: Step, until: float) -> bool:
        """Wait for a slot; False at the time `until`. `give_back` it even then.

        Raises `StepCut`.
        """
        if not self._waiting and move_last(self._free, step.slot):
            return True
        step.get_ready_to_wait()
        self._waiting.append(step)
        while self._waiting[0] is not step or not move_last(self._free, step.slot):
            if time.monotonic() >= until:
                return False
            step.wait(min(until, time.monotonic() + _LOOK_AGAIN))
        self._leave_queue(step)
        return True

    def give_back(self, step: Step) -> None:
        """Release the step's slot, or its place in the queue. Twice is harmless."""
        move_last(step.slot, self._free)
        if self._waiting:
            self._leave_queue(step)

    def _leave_queue(self, step: Step) -> None:
        with suppress(ValueError):
            self._waiting.remove(step)
        for first in self._waiting[:1]:  # it looks whether there is another free one
            first.wake()
