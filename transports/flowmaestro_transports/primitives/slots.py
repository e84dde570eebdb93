"""Slots: permits for calls in flight, of which a transport has a limited number.

This is the queue of threads. There is no lock, because a signal handler may raise an exception
between any two bytecodes. If that happened to a thread that holds a lock, all other threads would
wait for ever.

May touch: the monotonic clock.
"""

from __future__ import annotations

import sys
import time
from typing import Generic, Optional, Protocol, TypeVar

from flowmaestro_core.arguments import check_count
from flowmaestro_transports.primitives.claims import Claims

MAX_CONNECTIONS = 100
"""The calls that a transport has in flight at once, if its user says nothing else. Many systems
allow a process 256 or 1,024 open files, and a proxy a few hundred connections of one client."""
RECHECK_INTERVAL = 0.5
"""Seconds between the checks of an operation that waits without a waker, or for a slot. Long enough
to cost nothing, and short enough that a person who closes a client does not notice it."""


class Op(Protocol):
    """An operation of a thread that can wait, and that other threads can wake."""

    def acquire_waker(self) -> None:
        """Prepare to wait: a `wake` after this ends the next `wait`."""
        ...

    def wait(self, until: float) -> object:
        """Wait until `wake` is called, or until the time `until` of `time.monotonic`.

        May return early. Raises an exception if the operation must end.
        """
        ...

    def wake(self) -> None:
        """Wake the thread of this operation. Any thread may call this."""
        ...


P = TypeVar("P", bound=Op)


class InFlight(Generic[P]):
    """A call or a pause that is in flight, and its operation: a local variable of its method.

    With the method ends its claim on a slot, also if an exception from a signal handler has come
    before the `finally` that returns the slot.
    """

    __slots__ = ("__weakref__", "op", "waits_for_slot")

    def __init__(self, op: P) -> None:
        self.op: P = op
        self.waits_for_slot: bool = False
        """Whether all slots were in use when it queued, and it has not got one since."""


class Slots(Claims[InFlight[P]]):
    """The slots for calls in flight: first come, first served.

    Queue with `enter`. If that returns False, set `waits_for_slot`, and wait with `take`. Call
    `give_back` in any case.
    """

    def take(self, flight: InFlight[P], until: float) -> bool:
        """Wait for the slot of a call that waits for one. Return False at the time `until`.

        `until` is a time of `time.monotonic`. Raises what the operation raises while it waits.
        """
        flight.op.acquire_waker()
        # Check after both: from now on, the call that gives its slot back wakes this thread.
        while not self.holds(flight):
            if time.monotonic() >= until:
                return False
            flight.op.wait(min(until, time.monotonic() + RECHECK_INTERVAL))
        flight.waits_for_slot = False
        return True

    def give_back(self, flight: InFlight[P]) -> None:
        """Release the slot of a call, or its place in the queue."""
        if self.leave(flight):
            for other in self.holders():
                if other.waits_for_slot:
                    other.op.wake()


def calls_at_once(max_connections: Optional[int], session: Optional[object]) -> int:
    """Return how many calls a transport on `session`, or on one of its own, has in flight at most.

    Raises `TypeError` or `ValueError` for a `max_connections` that is not a count.
    """
    if max_connections is not None:
        check_count("max_connections", max_connections)
        return max_connections
    return MAX_CONNECTIONS if session is None else sys.maxsize
