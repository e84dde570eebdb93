"""The body of a reply on an anyio connection: inflated, and read whole or in pieces."""

from __future__ import annotations

import sys
from typing import List, Optional

import anyio
from anyio.lowlevel import checkpoint

from flowmaestro_core.http.messages import Headers, Phase, Response, ResponseHead
from flowmaestro_transports.anyio.connection import Connection
from flowmaestro_transports.anyio.failures import NETWORK_ERRORS, closed, network_failure
from flowmaestro_transports.anyio.limits import PhaseLimits
from flowmaestro_transports.anyio.pool import Pool
from flowmaestro_transports.driving.fork_guard import of_the_parent
from flowmaestro_transports.http11.content_coding import MAX_BODY, ContentDecoder


class _Body:
    """The body behind `head` on `connection`, its content coding undone, up to `limit` bytes."""

    __slots__ = ("_coding", "_connection", "headers")

    def __init__(self, connection: Connection, head: ResponseHead, limit: int) -> None:
        self._connection = connection
        self._coding = ContentDecoder(head.headers, limit)
        self.headers = self._coding.headers

    def take(self) -> Optional[bytes]:
        """As `Connection.take`; raises `InflateError` besides."""
        while True:
            raw = self._connection.take()
            if raw is None:
                return None
            data = self._coding.feed(raw) if raw else self._coding.finish()
            if data or not raw:
                return data


async def read_whole(
    connection: Connection, head: ResponseHead, limits: Optional[PhaseLimits]
) -> Response:
    """The reply behind `head`, its body read to the end and within `limits`.

    Raises what `Connection.take` raises, and `InflateError`, for a body of more than `MAX_BODY`
    bytes too.
    """
    body = _Body(connection, head, MAX_BODY)
    parts: List[bytes] = []
    if limits is not None:
        limits.received()
    while True:
        data = body.take()
        if data is None:
            await connection.ready()
            if limits is not None:
                limits.received()
            continue
        if not data:
            return Response(head.status, body.headers, b"".join(parts))
        parts.append(data)
        if not connection.complete:
            await checkpoint()  # a fast server must not keep other tasks from their turn


class AnyioOpenResponse:
    """A reply whose body is still open: an `AsyncOpenResponse`.

    It holds its connection, and no slot for calls. One task reads at a time; another one may
    close the body meanwhile, and the read then raises `TransportFailure`. A body that is
    dropped unclosed lets go of its connection when it is collected, on whatever thread.
    """

    def __init__(self, connection: Connection, head: ResponseHead, pool: Pool) -> None:
        self._body = _Body(connection, head, sys.maxsize)
        self._connection = connection
        self._pool = pool
        self._open = True
        self._ended = False
        self._taken: Optional[bytes] = None
        self._reading = False
        self._patience: Optional[anyio.CancelScope] = None
        self.status: int = head.status
        self.headers: Headers = self._body.headers
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
        data = self._body.take() if self._taken is None else self._taken
        if data is None:
            return await self._wait(patience)
        self._taken = data
        await checkpoint()  # a fast server must not keep other tasks from their turn
        self._taken = None
        return data

    async def _wait(self, patience: float) -> Optional[bytes]:
        data = None
        with anyio.move_on_after(patience) as self._patience:
            while data is None:
                await self._connection.ready()
                data = self._body.take()
        self._patience = None
        return data

    async def close(self) -> None:
        """Let go of the connection at once, in a cancelled task too: nothing is awaited.

        It is kept for the next call if the body has been read to its end.
        """
        self.release()

    def release(self) -> None:
        """`close`, for those who cannot await."""
        if not self._open:
            return
        self._open = False
        if not self._reading:
            self._pool.streaming.discard(self._connection)
            self._pool.give_back(self._connection)
        elif self._patience is not None:
            self._patience.cancel()  # the reader wakes, and closes the connection itself

    def __del__(self) -> None:
        if self._open:
            self._close_connection()

    def _close_connection(self) -> None:
        self._pool.streaming.discard(self._connection)
        self._connection.close()
