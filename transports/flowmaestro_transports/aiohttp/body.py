"""The body of a reply that aiohttp has brought, read with patience."""

from __future__ import annotations

import asyncio
from typing import Any, Optional

import aiohttp

from flowmaestro_core.http.messages import Headers, Phase, TransportFailure
from flowmaestro_transports.aiohttp.exchange import Limits, timeout_at
from flowmaestro_transports.aiohttp.failure import ERRORS, failure_of
from flowmaestro_transports.driving.fork_guard import ForkGuard, of_the_parent
from flowmaestro_transports.http11.content_coding import ContentDecoder
from flowmaestro_transports.http11.failures import closed


class Body:
    """A reply whose body is still open. `limit` is the most bytes that it may have, inflated."""

    __slots__ = (
        *("__weakref__", "_closed", "_coding", "_process", "_response"),
        *("headers", "status"),
    )

    def __init__(self, response: aiohttp.ClientResponse, limit: int) -> None:
        self.status = response.status
        self._response = response
        self._process = ForkGuard()
        self._closed = False
        given = Headers(
            [
                (n.decode("latin-1"), v.decode("latin-1").strip(" \t"))
                for n, v in response.raw_headers
            ]
        )
        self._coding = ContentDecoder(given, limit)
        self.headers = self._coding.headers
        if self.status < 200:
            refusal = f"an informational reply ({self.status}) came as the final one"
        elif given.get("transfer-encoding", "chunked").lower() != "chunked":
            refusal = "the transfer coding of the reply is not chunked"
        else:
            return
        self.release()
        raise TransportFailure(Phase.REPLY_BROKEN, refusal)

    async def read(self, patience: float) -> Optional[bytes]:
        """As `AsyncOpenResponse.read`. Another task's `close` wakes it, and it raises."""
        if self._process.forked:
            raise of_the_parent()
        if self._closed:
            raise closed(Phase.REPLY_BROKEN)
        try:
            try:
                arrived = self._arrived()  # spares the timer
                if arrived:
                    return arrived
                async with timeout_at(asyncio.get_running_loop().time() + patience):
                    return await self._next()
            except asyncio.TimeoutError:
                # Giving up the wait loses no bytes; those of a busy event loop came just before.
                return self._arrived() or None
        except ERRORS as error:
            failure = failure_of(error, head_came=True)
        whole = self._before_the_break()
        if whole:
            return whole
        if self._closed:
            raise closed(Phase.REPLY_BROKEN)
        self.release()
        raise failure

    async def read_whole(self, limits: Limits) -> bytes:
        """The rest of the body. Raises what aiohttp does, and `ValueError`."""
        content = bytearray()
        while True:
            async with timeout_at(limits.piece):
                piece = await self._next()
            if not piece:
                return bytes(content)
            content += piece

    async def close(self) -> None:
        """As `AsyncOpenResponse.close`."""
        self.release()

    def release(self) -> None:
        """As `Releasable.release`: aiohttp needs not wait to drop a connection."""
        self._closed = True
        if self._process.forked:
            return
        connection = self._response.connection
        if connection is not None and connection.transport is not None:
            connection.transport.abort()  # whose TLS would wait for a goodbye
        self._response.close()

    def _arrived(self) -> bytes:
        content = self._coding.feed(b"") if self._coding.pending else b""
        if not content:
            arrived = self._response.content.read_nowait()
            content = self._coding.feed(arrived) if arrived else b""
        return content

    def _before_the_break(self) -> bytes:
        """What aiohttp has, and gives nobody once the connection is lost."""
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
        """Some content as soon as there is any; `b""` is the end."""
        stream = self._response.content
        while True:
            content = self._arrived()  # spares a coroutine
            if content:
                return content
            if stream.at_eof():
                return self._coding.finish()
            try:
                data = await stream.readany()
            except RuntimeError as error:
                # aiohttp gave the connection up, over garbage in it, and told nobody why
                raise aiohttp.ClientPayloadError(
                    "the connection was lost within the reply"
                ) from error
            content = self._coding.feed(data) if data else b""
            if content:
                return content
