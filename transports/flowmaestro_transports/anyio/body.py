"""The open body of a reply on an anyio connection, read in pieces."""

from __future__ import annotations

from typing import Optional

import anyio
from anyio.lowlevel import checkpoint

from flowmaestro_core.http.messages import Headers, Phase
from flowmaestro_transports.anyio.pool import Pool
from flowmaestro_transports.anyio.steps import NETWORK_ERRORS
from flowmaestro_transports.driving.fork_guard import of_the_parent
from flowmaestro_transports.http11.connection import Connection, receive
from flowmaestro_transports.http11.exchange import Exchange
from flowmaestro_transports.http11.failures import closed, network_failure


class AnyioOpenResponse:
    """A reply whose body is still open: an `AsyncOpenResponse`.

    It holds its connection, and no slot for calls. One task reads at a time; another one may
    close the body meanwhile, and the read then raises `TransportFailure`. A body that is
    dropped unclosed releases its connection when it is collected, on any thread.
    """

    def __init__(self, connection: Connection, exchange: Exchange, pool: Pool) -> None:
        head = exchange.final_head
        self.status: int = head.status
        self.headers: Headers = head.headers
        self._connection = connection
        self._exchange = exchange
        self._pool = pool
        self._open = True
        self._ended = False
        self._reading = False
        self._patience: Optional[anyio.CancelScope] = None
        pool.bodies.add(self)
        pool.streaming.add(connection)

    async def read(self, patience: float) -> Optional[bytes]:
        """Some bytes of the body, all that have arrived up to about 64 KiB.

        `b""` at its end, None when nothing came within `patience` seconds. A read that is
        cancelled has lost nothing: the next one gets the bytes. Raises `TransportFailure`, and
        `RuntimeError` while another task is reading.
        """
        if self._ended:
            return b""
        if not self._open:
            raise closed(Phase.REPLY_BROKEN)
        if self._reading:
            raise RuntimeError("another task is reading this body")
        if self._pool.process.forked:
            raise of_the_parent()
        self._reading = True
        try:
            data = await self._next(patience)
        except NETWORK_ERRORS as error:
            self._open = False
            raise network_failure(Phase.REPLY_BROKEN, error) from error
        finally:
            self._reading = False
            if not self._open:
                self._close_connection()
        if not self._open:
            raise closed(Phase.REPLY_BROKEN)
        if data == b"":
            self._ended = True
            self.release()
        return data

    async def _next(self, patience: float) -> Optional[bytes]:
        wire, exchange = self._connection.wire, self._exchange
        if patience <= 0:
            await checkpoint()
            receive(wire, exchange)
        data = exchange.take()
        if data is None and patience > 0:
            with anyio.move_on_after(patience) as self._patience:
                while data is None:
                    await anyio.wait_readable(wire.sock)
                    receive(wire, exchange)
                    data = exchange.take()
            self._patience = None
        return data

    async def close(self) -> None:
        """Release the connection at once, in a cancelled task too: nothing is awaited.

        It is kept for the next call if the body has been read to its end.
        """
        self.release()

    def release(self) -> None:
        """`close`, without awaiting."""
        if not self._open:
            return
        self._open = False
        if not self._reading:
            self._pool.streaming.discard(self._connection)
            self._pool.give_back([self._connection], self._exchange)
        elif self._patience is not None:
            self._patience.cancel()  # the reader wakes, and closes the connection itself

    def __del__(self) -> None:
        if self._open:
            self._close_connection()

    def _close_connection(self) -> None:
        self._pool.streaming.discard(self._connection)
        self._connection.close()
