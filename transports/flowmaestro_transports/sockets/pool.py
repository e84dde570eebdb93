"""The state that the calls of one transport share in one process.

The state consists of slots (permits for calls in flight), wakers (which end the wait of a thread),
connections, and running operations. There is no lock, because a signal handler may raise an
exception between any two bytecodes. If that happened to a thread that holds a lock, all other
threads would wait for ever. What is in use is counted by what is alive (`Claims`).
"""

from __future__ import annotations

import sys
from typing import List, Optional

from flowmaestro_core.http.messages import TransportClosedError
from flowmaestro_transports.http11.pool import ConnectionPool
from flowmaestro_transports.http11.round_trip import RoundTrip
from flowmaestro_transports.primitives.claims import Claims
from flowmaestro_transports.primitives.slots import InFlight, Slots
from flowmaestro_transports.sockets.blocking import BlockingOp, Waker

_FREE_WAKERS = 32
"""How many unused wakers `end_op` leaves for reuse. Each has two open file descriptors, and many
systems allow a process 256 or 1,024 of them. To make a waker costs some system calls."""


class SocketPool(ConnectionPool):
    """At most `max_connections` calls at once, and at most as many idle connections.

    An idle connection may be reused for `expiry` seconds. Each call and each pause is registered
    from `begin` to `end_op`, so that `close` can interrupt it. A read is not: `close` releases its
    body.
    """

    def __init__(self, max_connections: int, expiry: float) -> None:
        super().__init__(max_connections, expiry)
        self.slots: Slots[BlockingOp] = Slots(max_connections)
        self.wakers: List[Waker] = []
        """The wakers that no operation uses."""
        self._pauses: Claims[InFlight[BlockingOp]] = Claims(sys.maxsize)

    def begin(self, flight: InFlight[BlockingOp], trip: Optional[RoundTrip] = None) -> None:
        """Register a pause, or a call, which has a `trip` and queues for a slot.

        Raises `TransportClosedError` if the pool is closed. Call `end_op` afterwards, also if this
        raises.
        """
        flight.op.free_wakers = self.wakers
        if trip is None:
            self._pauses.enter(flight)
        else:
            flight.waits_for_slot = not self.slots.enter(flight)
        # Check after registering the operation: a `close` in another thread must not miss it.
        if self.closed:
            raise TransportClosedError

    def end_op(self, flight: InFlight[BlockingOp], trip: Optional[RoundTrip] = None) -> None:
        """Release the slot and the waker of a call or a pause, successful or not.

        Also end `trip`, its round trip, if there is one.
        """
        if trip is None:
            self._pauses.leave(flight)
        else:
            self.end(trip)
            self.slots.give_back(flight)
        flight.op.return_waker()
        del self.wakers[0 if self.closed else _FREE_WAKERS :]

    def close(self) -> None:
        """Close idle connections and open bodies, and interrupt the registered operations.

        A name resolution is not interrupted. Its operation is interrupted once it has resolved.
        """
        self.closed = True
        for flight in (*self.slots.claimants(), *self._pauses.claimants()):
            flight.op.interrupt()
        super().close()
        self.wakers.clear()
