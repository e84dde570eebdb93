"""The open body of a response on a socket. One thread reads it, any thread may close it."""

from __future__ import annotations

import time
from typing import List, Optional

from flowmaestro_core.http.messages import Phase
from flowmaestro_transports.http11.body import BodyState, OpenBody
from flowmaestro_transports.http11.failures import NETWORK_ERRORS, closed
from flowmaestro_transports.http11.round_trip import Connection, RoundTrip, receive
from flowmaestro_transports.sockets.blocking import BlockingOp, Interrupted
from flowmaestro_transports.sockets.pool import SocketPool


class SocketOpenResponse(OpenBody):
    """A response whose body is still open: an `OpenResponse`.

    One thread reads at a time; any thread may close it.
    """

    def __init__(self, pool: SocketPool, trip: RoundTrip, early: List[bytes]) -> None:
        self._op = BlockingOp()
        self._op.free_wakers = pool.wakers
        super().__init__(pool, trip, early)

    def read(self, patience: float) -> Optional[bytes]:
        """Return the next bytes of the body; `b""` at its end.

        Return `None` if there were none within `patience` seconds. Raises `TransportFailure` if the
        body is malformed, truncated or closed, and `RuntimeError` while another thread is reading.
        After an exception from a signal handler, such as `KeyboardInterrupt`, close the body: bytes
        that were received may be lost.
        """
        connection = self._begin_read()
        if connection is None:
            return b""
        try:
            return self._read(patience, connection)
        except BaseException:
            self.release()
            raise
        finally:
            self._end_read(connection)

    def close(self) -> None:
        """Release the connection, at the end of the body or before.

        A `read` that waits in another thread wakes, releases the connection itself, and raises
        `TransportFailure`.
        """
        self.release()

    def _read(self, patience: float, connection: Connection) -> Optional[bytes]:
        wire, exchange = connection.wire, self._exchange
        until = time.monotonic() + patience
        try:
            data = self._take()
            late = False  # After `until`, take what has arrived once more, without waiting.
            while data is None and not late and self._op.wait(until, (wire.sock,)):
                late = time.monotonic() >= until
                receive(wire, exchange)
                data = exchange.take()
            if data == b"":
                self._state = BodyState.ENDED
            return data
        except Interrupted:
            raise closed(Phase.REPLY_BROKEN) from None
        except NETWORK_ERRORS as error:
            if self._op.wait_failed:
                raise
            raise self._broken(error) from error
        finally:
            self._op.return_waker()
            # The pool may have been closed, and its wakers cleared, before this one was returned.
            if self._pool.closed and self._state is not BodyState.OPEN:
                self._op.free_wakers.clear()

    def _wake_reader(self) -> None:
        self._op.interrupt()
