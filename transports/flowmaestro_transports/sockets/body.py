"""The open body of a reply on a socket: read with patience, closed by any thread."""

from __future__ import annotations

import time
from typing import Optional

from flowmaestro_core.http.messages import Phase
from flowmaestro_transports.driving.ownership import Owned
from flowmaestro_transports.http11.body import OpenBody
from flowmaestro_transports.http11.failures import NETWORK_ERRORS, closed
from flowmaestro_transports.http11.round_trip import Connection, RoundTrip, receive
from flowmaestro_transports.sockets.pool import Pool
from flowmaestro_transports.sockets.steps import Step, StepCut


class SocketOpenResponse(OpenBody):
    """A reply whose body is still open: an `OpenResponse`.

    One thread reads at a time; any thread may close it.
    """

    def __init__(self, pool: Pool, trip: RoundTrip) -> None:
        self._step = Step()
        self._step.free_wakers = pool.wakers
        super().__init__(pool, trip)

    def read(self, patience: float) -> Optional[bytes]:
        """As `OpenResponse.read`. Raises `RuntimeError` while another thread is reading.

        After an exception other than `TransportFailure`, such as `KeyboardInterrupt`, the body
        is closed, since bytes of it may be lost.
        """
        held: Owned[Connection] = Owned()
        try:
            try:
                return self._read(patience, held)
            finally:
                self._put_down(held)
        finally:
            self._put_down(held)  # once more: an exception may have come into the first time

    def close(self) -> None:
        """As `OpenResponse.close`."""
        self.release()

    def _read(self, patience: float, held: Owned[Connection]) -> Optional[bytes]:
        self._pick_up(held)
        if not held:
            return b""
        wire, exchange = held[0].wire, self._exchange
        until = time.monotonic() + patience
        over = True
        try:
            data = exchange.take()
            if data is None and patience <= 0:
                receive(wire, exchange)
                data = exchange.take()
            while data is None and self._step.wait(until, (wire.sock,)):
                receive(wire, exchange)
                data = exchange.take()
            over = self._ended = data == b""
        except StepCut:
            raise closed(Phase.REPLY_BROKEN) from None
        except NETWORK_ERRORS as error:
            raise self._broken(error) from error
        finally:
            self._over = self._over or over
            self._step.let_go_of_waker()
            if self._over and self._pool.closed:  # nobody else will clear them
                self._step.free_wakers.clear()
        return data

    def _wake_reader(self) -> None:
        self._step.cut()
