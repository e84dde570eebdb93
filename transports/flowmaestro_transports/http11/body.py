"""The open body of a reply, but for the waiting.

May touch: the socket of its connection.
"""

from __future__ import annotations

from weakref import ref

from flowmaestro_core.http.messages import Headers, Phase, TransportFailure
from flowmaestro_transports.driving.fork_guard import of_the_parent, quiet_at_exit
from flowmaestro_transports.driving.ownership import Owned
from flowmaestro_transports.http11.failures import closed, network_failure
from flowmaestro_transports.http11.pool import ConnectionPool
from flowmaestro_transports.http11.round_trip import Connection, RoundTrip


class OpenBody:
    """A reply whose body is still open. It takes over the connection of the round trip.

    One reads at a time; it may be closed meanwhile. The connection is in `_resting` while nobody
    reads. What moves it out of there owns it: a read until it is over, or else `release`.
    """

    def __init__(self, pool: ConnectionPool, trip: RoundTrip) -> None:
        head = trip.exchange.final_head
        self.status: int = head.status
        self.headers: Headers = head.headers
        self._pool = pool
        self._exchange = trip.exchange
        self._resting: Owned[Connection] = Owned()
        self._over = False  # it has ended, is broken, or was closed
        self._ended = False
        self._failure = closed(Phase.REPLY_BROKEN).message
        pool.bodies[id(self)] = ref(self), self._resting
        trip.connections.move_to(self._resting)
        if pool.closed:  # only now: what is noted later, no `close` closes
            self.release()
            raise closed(Phase.REPLY_BROKEN)

    def release(self) -> None:
        """Close it without waiting. A read that is under way wakes, and lets go by itself.

        The connection is kept for the next call if the body has been read to its end.
        """
        self._over = True
        held: Owned[Connection] = Owned()
        try:
            if not self._pool.process.forked:
                self._wake_reader()
            self._resting.move_to(held)
        finally:
            self._let_go(held)

    @quiet_at_exit
    def __del__(self) -> None:
        pool = getattr(self, "_pool", None)  # unset if an interrupt came before
        # An interrupt may have left the body in the pool, with a connection or without one.
        if pool is not None and id(self) in pool.bodies:
            self.release()

    def _wake_reader(self) -> None:
        raise NotImplementedError

    def _pick_up(self, held: Owned[Connection]) -> None:
        """Begin to read with what is then `held`; with nothing if the body has ended.

        Raises `TransportFailure`, and `RuntimeError` while another read is under way.
        """
        if self._pool.process.forked:
            raise of_the_parent()
        if self._resting.move_to(held) or self._ended:
            return
        if not self._over:
            raise RuntimeError("another task or another thread is reading this body")
        raise TransportFailure(Phase.REPLY_BROKEN, self._failure)

    def _broken(self, error: BaseException) -> TransportFailure:
        """The failure for one of `NETWORK_ERRORS`, of this read and of later ones."""
        failure = network_failure(Phase.REPLY_BROKEN, error)
        self._over = True
        self._failure = failure.message
        return failure

    def _put_down(self, held: Owned[Connection]) -> None:
        """The end of a read. Twice is harmless."""
        if held:
            if not self._over:
                held.move_to(self._resting)
            if self._over:  # `release` may have come in between, and found nothing
                self._resting.move_to(held)
                self._let_go(held)

    def _let_go(self, held: Owned[Connection]) -> None:
        pool = self._pool
        pool.give_back(held, self._exchange.reusable and not pool.process.forked)
        pool.bodies.pop(id(self), None)
