"""The open body of a reply that aiohttp has brought, read with patience."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, List, Optional

import aiohttp

from flowmaestro_core.http.messages import Headers, Phase, TransportFailure
from flowmaestro_transports.aiohttp.failure import ERRORS, reason_of
from flowmaestro_transports.aiohttp.limits import Attempt, timeout_at
from flowmaestro_transports.driving.fork_guard import ForkGuard, of_the_parent
from flowmaestro_transports.http11.content_coding import ContentDecoder


class Body:
    """A reply whose body is still open.

    `limit` is the most bytes that it may have, inflated; it belongs to `process`.
    """

    __slots__ = (
        *("__weakref__", "_closed", "_coding", "_connection_end", "_process", "_response"),
        *("headers", "status"),
    )

    def __init__(self, response: aiohttp.ClientResponse, limit: int, process: ForkGuard) -> None:
        headers = Headers(
            [(n.decode("latin-1"), v.decode("latin-1")) for n, v in response.raw_headers]
        )
        self._coding = ContentDecoder(headers, limit)
        self.status = response.status
        self.headers = self._coding.headers
        self._response = response
        self._connection_end = _connection_end(response)
        self._process = process
        self._closed = False

    async def read(self, patience: float) -> Optional[bytes]:
        """As `AsyncOpenResponse.read`. Another task's `close` wakes it, and it raises."""
        if self._process.forked:
            raise of_the_parent()
        if self._closed:
            raise TransportFailure(Phase.REPLY_BROKEN, "the stream was closed")
        try:
            return self._arrived() or await self._wait(patience)  # the first spares the timer
        except ERRORS as error:
            message = "the stream was closed" if self._closed else reason_of(error)
            self.release()
            raise TransportFailure(Phase.REPLY_BROKEN, message) from error

    async def _wait(self, patience: float) -> Optional[bytes]:
        try:
            async with timeout_at(asyncio.get_running_loop().time() + patience):
                return await self._next()
        except asyncio.TimeoutError:
            # Giving up the wait loses no bytes; those of a busy event loop came just before.
            return self._arrived() or None

    def _arrived(self) -> bytes:
        arrived = self._response.content.read_nowait()
        return self._decode(arrived) if arrived else b""

    async def read_whole(self, attempt: Attempt) -> bytes:
        """The rest of the body. Raises what aiohttp does, and `TransportFailure`."""
        stream = self._response.content
        pieces: List[bytes] = []
        while not stream.is_eof():  # more is to come
            attempt.received()
            data = await self._arriving()
            if data:
                pieces.append(self._decode(data))
        rest = stream.read_nowait()
        if rest:
            pieces.append(self._decode(rest))
        pieces.append(self._decode(b""))
        return b"".join(pieces)

    async def close(self) -> None:
        """As `AsyncOpenResponse.close`."""
        self.release()

    def release(self) -> None:
        """As `Releasable.release`: aiohttp needs not wait to drop a connection."""
        self._closed = True
        if not self._process.forked:
            self._response.close()

    async def _next(self) -> bytes:
        stream = self._response.content
        while True:
            data = stream.read_nowait()  # spares a coroutine
            if not data and not stream.at_eof():
                data = await self._arriving()
            content = self._decode(data)
            if content or not data:
                return content

    async def _arriving(self) -> bytes:
        try:
            return await self._response.content.readany()
        except RuntimeError as error:
            if _is_connected(self._response):
                raise
            # aiohttp gave the connection up, over garbage in it, and told nobody why
            message = "the connection was lost within the reply"
            raise aiohttp.ClientPayloadError(message) from error

    def _decode(self, data: bytes) -> bytes:
        if not data and self._connection_end is not None:
            try:
                self._connection_end.check()
            except OSError as lost:
                self.release()
                raise TransportFailure(Phase.REPLY_BROKEN, str(lost)) from lost
        try:
            return self._coding.feed(data) if data else self._coding.finish()
        except ValueError as error:
            self.release()
            raise TransportFailure(Phase.REPLY_BROKEN, str(error)) from error


class _ConnectionEnd:
    """How a connection ends, for a body that ends with it: there aiohttp takes any end for good."""

    __slots__ = ("_closed", "_tls")

    def __init__(self, protocol: Any) -> None:
        self._tls: Optional[ssl.SSLObject] = protocol.transport.get_extra_info("ssl_object")
        self._closed: Optional[asyncio.Future[None]] = protocol.closed
        if self._closed is not None:
            # or asyncio would report it as never looked at
            self._closed.add_done_callback(_exception)

    def check(self) -> None:
        """Raises `OSError` unless the peer has ended it in good order."""
        lost = _exception(self._closed) if self._closed and self._closed.done() else None
        if lost is not None:
            raise ConnectionResetError(str(lost)) from lost
        if self._tls is not None:
            try:
                self._tls.read(1)
            except ssl.SSLZeroReturnError:  # there was a goodbye
                pass
            except ssl.SSLError as error:  # it would like to have more
                raise ConnectionResetError("TLS ended without a goodbye") from error


def _connection_end(response: aiohttp.ClientResponse) -> Optional[_ConnectionEnd]:
    framed = "Content-Length" in response.headers or "Transfer-Encoding" in response.headers
    connection = response.connection
    if framed or connection is None or connection.transport is None:
        return None
    return _ConnectionEnd(connection.protocol)


def _is_connected(response: aiohttp.ClientResponse) -> bool:
    protocol = response.connection and response.connection.protocol
    return bool(protocol and protocol.connected)


def _exception(ended: asyncio.Future[None]) -> Optional[BaseException]:
    return None if ended.cancelled() else ended.exception()
