"""The body of a reply on an anyio connection: inflated, and read whole or in pieces."""

from __future__ import annotations

import sys
from typing import List, Optional

import anyio
from anyio.lowlevel import checkpoint

from flowmaestro_core.http import Headers, Phase, Response, ResponseHead, TransportFailure
from flowmaestro_core.inflate import Inflater
from flowmaestro_transports.anyio_connection import Connection
from flowmaestro_transports.anyio_failures import NETWORK_ERRORS, closed, network_failure
from flowmaestro_transports.anyio_pool import Pool

MAX_BODY = 64 * 1024 * 1024
"""Bytes of a whole reply's body, inflated: beyond that the reply is refused."""


class _Body:
    """The body behind `head` on `connection`, inflated to at most `limit` bytes.

    A content coding that we do not know is left alone, and its header field with it.
    """

    __slots__ = ("_connection", "_inflater", "headers")

    def __init__(self, connection: Connection, head: ResponseHead, limit: int) -> None:
        self.headers = head.headers
        self._connection = connection
        self._inflater: Optional[Inflater] = None
        coding = head.headers.get("content-encoding", "").strip()
        if Inflater.supports(coding):
            self._inflater = Inflater(coding, limit)
            self.headers = Headers(
                pair for pair in head.headers.pairs if pair[0].lower() != "content-encoding"
            )

    def take(self) -> Optional[bytes]:
        """As `Connection.take`; raises `InflateError` besides."""
        if self._inflater is None:
            return self._connection.take()
        while True:
            raw = self._connection.take()
            if raw is None:
                return None
            data = self._inflater.feed(raw) if raw else self._inflater.finish()
            if data or not raw:
                return data


async def read_whole(connection: Connection, head: ResponseHead) -> Response:
    """The reply behind `head`, its body read to the end.

    Raises `TransportFailure` for a body of more than `MAX_BODY` bytes, otherwise what
    `Connection.take` raises, or `InflateError`.
    """
    body = _Body(connection, head, MAX_BODY)
    parts: List[bytes] = []
    room = MAX_BODY
    while True:
        data = body.take()
        if data is None:
            await connection.ready()
            continue
        if not data:
            return Response(head.status, body.headers, b"".join(parts))
        room -= len(data)
        if room < 0:
            raise TransportFailure(
                Phase.REPLY_BROKEN, f"the body of the reply is longer than {MAX_BODY} bytes"
            )
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
        self._reading = True
        try:
            data = await self._next(patience)
        except NETWORK_ERRORS as error:
            self._open = False
            raise network_failure(Phase.REPLY_BROKEN, error) from error
        finally:
            self._reading = False
            if not self._open:
                self._connection.close()
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
            self._pool.give_back(self._connection)
        elif self._patience is not None:
            self._patience.cancel()  # the reader wakes, and closes the connection itself

    def __del__(self) -> None:
        if self._open:
            self._connection.close()
