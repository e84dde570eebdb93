"""A response of aiohttp whose body is still open.

May touch: the network, by way of the connection that aiohttp has for the response.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any, List, Optional

import aiohttp

from flowmaestro_core.http.messages import Headers, Phase, TransportFailure
from flowmaestro_transports.aiohttp.failures import ERRORS, failure_of
from flowmaestro_transports.aiohttp.limits import Limits, deadline
from flowmaestro_transports.http11.content_coding import MAX_PIECE, ContentDecoder
from flowmaestro_transports.http11.failures import closed
from flowmaestro_transports.primitives.fork_guard import ForkGuard, of_the_parent


class AiohttpBody:
    """A response whose body is still open.

    `limit` is the most bytes that the decoded body may have. Raises `TransportFailure` for an
    informational response.
    """

    __slots__ = (
        "__weakref__",
        "_closed",
        "_coding",
        "_owes_turn",
        "_process",
        "_response",
        "headers",
        "status",
    )

    def __init__(self, response: aiohttp.ClientResponse, limit: int) -> None:
        self.status: int = response.status
        self._response = response
        self._process = ForkGuard()
        self._closed = False
        self._owes_turn = False
        """Whether the next read must let other tasks run first. Data that has already arrived is
        read without an `await`, so a long body would block the event loop."""
        given = Headers(
            (name.decode("latin-1"), value.decode("latin-1").strip(" \t"))
            for name, value in response.raw_headers
        )
        self._coding = ContentDecoder(given, limit)
        self.headers: Headers = self._coding.headers
        if self.status < 200:
            self.release()
            reason = f"an informational reply ({self.status}) came as the final one"
            raise TransportFailure(Phase.REPLY_BROKEN, reason)

    async def read(self, patience: float) -> Optional[bytes]:
        """Return the next bytes of the body; `b""` at its end.

        Return `None` if none came within `patience` seconds. Raises `TransportFailure` if aiohttp
        finds the body truncated or malformed, if it cannot be decoded, or if it was closed.
        """
        # Before a piece is taken: a task that is cancelled here loses no bytes.
        if self._owes_turn:
            self._owes_turn = False
            await asyncio.sleep(0)
        if self._process.forked:
            raise of_the_parent()
        if self._closed:
            raise closed(Phase.REPLY_BROKEN)
        try:
            try:
                arrived = self._arrived()  # This saves the timer.
                if arrived:
                    return arrived
                async with deadline(asyncio.get_running_loop().time() + patience):
                    return await self._next()
            except asyncio.TimeoutError:
                # aiohttp keeps bytes that arrive when no read waits. On a busy event loop, some may
                # have arrived just before the end of this wait.
                return self._arrived() or None
        except ERRORS as error:
            failure = failure_of(error, head_came=True)
        buffered = self._drain_buffer()
        if buffered:
            return buffered
        if self._closed:
            raise closed(Phase.REPLY_BROKEN)
        self.release()
        raise failure

    async def read_whole(self, limits: Limits, enough: int = sys.maxsize) -> bytes:
        """Return the rest of the body, decoded. Release a body of more than `enough` bytes early.

        Raises what aiohttp raises, `CodingError` if the body cannot be decoded or is too long, and
        `asyncio.TimeoutError` if a piece does not come in time.
        """
        content: List[bytes] = []
        size = 0
        while True:
            if self._owes_turn:
                self._owes_turn = False
                await asyncio.sleep(0)  # The time limits are looked at here, too.
            async with deadline(limits.piece):
                piece = await self._next()
            content.append(piece)
            size += len(piece)
            if size > enough:
                self.release()
            if not piece or size > enough:
                return b"".join(content)

    async def close(self) -> None:
        """Release the connection now, at the end of the body or before.

        A `read` in another task wakes and raises `TransportFailure`.
        """
        self.release()

    def release(self) -> None:
        """Release the connection without waiting: `close` as a plain method."""
        self._closed = True
        if self._process.forked:
            return
        connection = self._response.connection
        if connection is not None and connection.transport is not None:
            # Under TLS, an orderly close would wait for the close_notify of the server.
            connection.transport.abort()
        self._response.close()

    def _arrived(self) -> bytes:
        """Return at most `MAX_PIECE` bytes of the content that has arrived, or `b""`."""
        content = self._coding.feed(b"") if self._coding.pending else b""
        if not content:
            arrived = self._response.content.read_nowait(MAX_PIECE)
            content = self._coding.feed(arrived) if arrived else b""
        self._owes_turn = self._coding.pending or len(content) >= MAX_PIECE
        return content

    def _drain_buffer(self) -> bytes:
        """Return content that aiohttp has buffered, once the connection is lost; `b""` for none.

        aiohttp itself no longer returns this content then. It may be the last events of a stream,
        which the server does not send again. A body has one reader, so none waits, which
        `set_exception(None)` would wake.
        """
        stream: Any = self._response.content
        lost = stream.exception()
        if lost is None or self._closed:
            return b""
        stream.set_exception(None)
        try:
            return self._arrived()
        except ERRORS:
            return b""
        finally:
            stream.set_exception(lost)

    async def _next(self) -> bytes:
        """Return some content as soon as it is received; `b""` at the end of the body."""
        stream = self._response.content
        while True:
            content = self._arrived()  # This saves a coroutine.
            if content:
                return content
            if stream.at_eof():
                return self._coding.finish()
            try:
                data = await stream.read(MAX_PIECE)
            except RuntimeError as error:
                # aiohttp closed the connection because of malformed data, and does not say so.
                raise aiohttp.ClientPayloadError(
                    "the connection was lost within the response"
                ) from error
            content = self._coding.feed(data) if data else b""
            if content:
                self._owes_turn = self._coding.pending or len(content) >= MAX_PIECE
                return content
