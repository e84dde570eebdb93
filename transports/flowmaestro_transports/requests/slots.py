"""How many calls may be under way at once, without a lock.

A call counts while its `Slot` lives. An exception of a signal handler can strike between any two
bytecodes, so nothing here relies on a release: a slot that nobody holds any more is found dead
by the next call that has to wait. Every step on the line is one atomic operation of a `dict`.
"""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from typing import Dict, Optional

_LOOK_AGAIN = 0.05
"""Seconds after which a call looks again by itself: the wake-up may have been cut off."""


class Slot:
    """A place in the line."""

    __slots__ = ("__weakref__", "gate", "ref")

    def __init__(self) -> None:
        self.ref = weakref.ref(self)
        self.gate = threading.Lock()
        self.gate.acquire()


class Slots:
    """A line of calls, of which the first `count` are under way. Any thread may use it."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._line: Dict[weakref.ref[Slot], None] = {}
        self._closed = False

    def take(self, deadline: float) -> Optional[Slot]:
        """A slot; None if none came free until `deadline`, on the monotonic clock, or `close`."""
        slot = Slot()
        self._line[slot.ref] = None
        while not self._is_under_way(slot):
            left = deadline - time.monotonic()
            if left <= 0 or self._closed:
                self.free(slot)
                return None
            slot.gate.acquire(timeout=min(left, _LOOK_AGAIN))
        return slot

    def free(self, slot: Slot) -> None:
        """Leave the queue, and wake the next in it. Twice is harmless."""
        self._line.pop(slot.ref, None)
        if len(self._line) >= self._count:
            self._wake(list(self._line)[self._count - 1])

    def close(self) -> None:
        """Let nobody wait any longer."""
        self._closed = True
        for ref in list(self._line):
            self._wake(ref)

    def _is_under_way(self, slot: Slot) -> bool:
        if len(self._line) <= self._count:
            return True
        for ref in list(self._line):
            if ref() is None:  # its call was cut off before it could free it
                self._line.pop(ref, None)
        return slot.ref in list(self._line)[: self._count]

    def _wake(self, ref: weakref.ref[Slot]) -> None:
        slot = ref()
        if slot is not None:
            with contextlib.suppress(RuntimeError):  # somebody else has just opened it
                slot.gate.release()
