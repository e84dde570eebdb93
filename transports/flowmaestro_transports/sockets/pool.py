"""The state that the calls of one transport share in one process.

The state consists of slots (permits for calls in flight), wakers (which end the wait of a thread),
connections, and running operations. There is no lock, because a signal handler may raise an
exception between any two bytecodes. If that happened to a thread that holds a lock, all other
threads would wait for ever. See `Owned`.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import List, Optional, Set

from flowmaestro_core.http.messages import TransportClosedError
from flowmaestro_transports.http11.pool import ConnectionPool
from flowmaestro_transports.http11.round_trip import RoundTrip
from flowmaestro_transports.primitives.ownership import Owned
from flowmaestro_transports.sockets.blocking import RECHECK_INTERVAL, BlockingOp, Waker

_FREE_WAKERS = 32
"""How many unused wakers `end_op` leaves for reuse. Each has two open file descriptors."""

_ALL_THREADS = 2**16
"""How many slots are made at most. More slots than threads would not be a limit."""


class Slots:
    """The slots for calls in flight: first come, first served.

    This object owns the free slots. A slot that is taken is owned by its operation.
    """

    def __init__(self, count: int) -> None:
        self._free: Owned[None] = Owned([None] * min(count, _ALL_THREADS))
        self._waiting: List[BlockingOp] = []

    def take(self, op: BlockingOp, until: float) -> bool:
        """Wait for a slot. Return False if there was none until the time `until`.

        `until` is a time of `time.monotonic`. Raises `Interrupted` if `op` is interrupted while it
        waits. Call `give_back` afterwards, whatever this returns or raises.
        """
        # No lock is needed: at worst, this thread overtakes one that has just begun to wait.
        if not self._waiting and self._free.move_to(op.slot):
            return True
        op.acquire_waker()
        self._waiting.append(op)
        while self._waiting[0] is not op or not self._free.move_to(op.slot):
            if time.monotonic() >= until:
                return False
            op.wait(min(until, time.monotonic() + RECHECK_INTERVAL))
        self._leave_queue(op)
        self._wake_first()  # There may be another free slot.
        return True

    def give_back(self, op: BlockingOp) -> None:
        """Release the slot of `op`, or its place in the queue. May be called twice."""
        op.slot.move_to(self._free)
        if self._waiting:
            self._leave_queue(op)
            self._wake_first()

    def _leave_queue(self, op: BlockingOp) -> None:
        with suppress(ValueError):  # It does not wait, or has left already.
            self._waiting.remove(op)

    def _wake_first(self) -> None:
        for first in self._waiting[:1]:
            first.wake()


class SocketPool(ConnectionPool):
    """At most `max_connections` calls at once, and at most as many idle connections.

    Each call and each pause is registered from `begin` to `end_op`, so that `close` can interrupt
    it. A read is not: `close` releases its body.
    """

    def __init__(self, max_connections: int) -> None:
        super().__init__(max_connections)
        self.slots: Slots = Slots(max_connections)
        self.wakers: Owned[Waker] = Owned()
        """The wakers that no operation uses."""
        self._ops: Set[BlockingOp] = set()

    def begin(self, op: BlockingOp) -> None:
        """Register an operation. Raises `TransportClosedError` if the pool is closed.

        Call `end_op` afterwards, also if this raises.
        """
        op.free_wakers = self.wakers
        self._ops.add(op)
        # Check after registering the operation: a `close` in another thread must not miss it.
        if self.closed:
            raise TransportClosedError

    def end_op(self, op: BlockingOp, trip: Optional[RoundTrip] = None) -> None:
        """Release the slot and the waker of an operation, successful or not.

        Also end `trip`, its round trip, if there is one. May be called twice.
        """
        if op not in self._ops:
            return
        if trip is not None:
            self.end(trip)
        self.slots.give_back(op)
        op.return_waker()
        del self.wakers[0 if self.closed else _FREE_WAKERS :]
        self._ops.discard(op)

    def close(self) -> None:
        """Close idle connections and open bodies, and interrupt the registered operations.

        A name resolution is not interrupted. Its operation is interrupted once it has resolved.
        """
        self.closed = True
        for op in list(self._ops):
            op.interrupt()
        super().close()
        self.wakers.clear()
