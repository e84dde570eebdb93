"""The awaiting transport on aiohttp, for asyncio."""

from __future__ import annotations

import asyncio
import io
import math
import re
import ssl
import sys
import time
import weakref
from typing import (
    TYPE_CHECKING,
    Any,
    AsyncContextManager,
    AsyncGenerator,
    Dict,
    List,
    Optional,
    Union,
)

import aiohttp
from aiohttp.http import HttpProcessingError
from yarl import URL

from flowmaestro_core.http import (
    Headers,
    Phase,
    Request,
    Response,
    TransportClosedError,
    TransportFailure,
)
from flowmaestro_transports.content_coding import MAX_BODY, ContentDecoder
from flowmaestro_transports.contract import AsyncOpenResponse
from flowmaestro_transports.tls import tls_context

if sys.version_info >= (3, 11):
    from asyncio import timeout_at
elif TYPE_CHECKING:

    def timeout_at(when: float) -> AsyncContextManager[object]: ...  # noqa: D103

else:
    from async_timeout import timeout_at  # a dependency of aiohttp's own there

_LONGEST_LINE = 64 * 1024
"""Bytes that one line in the head of a reply may have."""

_MARGIN = 0.005
"""Seconds by which connecting must end before the attempt as a whole. If both limits ran out
together, one could not tell whether the request had left."""

_LARGE_BODY = 2**20
"""Bytes of a request beyond which aiohttp warns that one write of them blocks the event loop."""

_AFTER_THE_REASON = re.compile(r":?\s*\n|: (?=<|b?['\"])")
"""Where aiohttp's messages go on to quote the reply, or to show an object."""

_AUTO_HEADERS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""What aiohttp would add; a `Content-Type` even to a POST without a body."""

_SETTINGS: Dict[str, Any] = {
    "auto_decompress": False,  # ours is bounded
    "max_line_size": _LONGEST_LINE,
    "max_field_size": _LONGEST_LINE,
}
"""What a session of ours is made with, and a request on another's is told."""

_ERRORS = (aiohttp.ClientError, HttpProcessingError, asyncio.TimeoutError, OSError)
_NOT_SENT = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientHttpProxyError,
    aiohttp.InvalidURL,
    aiohttp.ServerTimeoutError,  # no limit but that for connecting is left to aiohttp
)


class AiohttpTransport:
    """An `AsyncTransport` on aiohttp, for asyncio. Elsewhere its calls raise `RuntimeError`.

    Without a `session`, it keeps connections of its own, made with the first call: `verify`
    is True for the system's trust store, the path of CA certificates, an `ssl.SSLContext`, or
    False; at most `max_connections` calls are on their way at once, and others wait within
    their own time limits. Open streams do not count. Used from one event loop after another,
    it makes new connections; from two that run at once, it raises `RuntimeError`.

    With a `session`, that one is used as it is and never closed: its connector bounds calls
    and streams alike, its own headers and cookies go out as well, and aiohttp by itself
    repeats a GET, PUT or DELETE once when a kept connection turns out to be dead. A `verify`
    beside it is a `ValueError`: that belongs to its connector.
    """

    def __init__(
        self,
        session: Optional[aiohttp.ClientSession] = None,
        *,
        verify: Union[bool, str, ssl.SSLContext] = True,
        max_connections: int = 100,
    ) -> None:
        if session is not None and verify is not True:
            raise ValueError("verify belongs to the session's connector")
        if max_connections < 1:
            raise ValueError("max_connections must be at least 1")
        self._callers_session = session
        self._context = tls_context(verify) if session is None else None
        self._max_connections = max_connections
        self._limits: Dict[float, aiohttp.ClientTimeout] = {}  # the last: they seldom change
        self._options = {} if session is None else {**_SETTINGS}
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._sessions: Dict[int, aiohttp.ClientSession] = {}
        self._keeper: Optional[AsyncGenerator[None, None]] = None
        self._streams: weakref.WeakSet[_Body] = weakref.WeakSet()
        self._closed = False

    async def send(self, request: Request, timeout: float) -> Response:
        """As `AsyncTransport.send`. A body of more than 64 MiB is a failure (*reply broken*)."""
        loop = _running_loop()
        session = await self._session(loop, self._max_connections)
        body: Optional[_Body] = None
        try:
            async with timeout_at(loop.time() + timeout):
                body = await self._begin(session, request, timeout, MAX_BODY)
                return Response(body.status, body.headers, await body.read_whole())
        except BaseException as error:
            if body is not None:
                body.release()
            if isinstance(error, _ERRORS):
                raise _failure(error, head_came=body is not None) from error
            raise

    async def open(self, request: Request, timeout: float) -> AsyncOpenResponse:
        """As `AsyncTransport.open`."""
        loop = _running_loop()
        session = await self._session(loop, 0)
        try:
            async with timeout_at(loop.time() + timeout):
                body = await self._begin(session, request, timeout, sys.maxsize)
        except _ERRORS as error:
            raise _failure(error, head_came=False) from error
        self._streams.add(body)
        return body

    async def sleep(self, seconds: float) -> None:
        """As `AsyncTransport.sleep`."""
        await asyncio.sleep(seconds)

    def now(self) -> float:
        """As `AsyncTransport.now`."""
        return time.monotonic()

    async def close(self) -> None:
        """As `AsyncTransport.close`. A session of the caller's stays open; its streams end."""
        self._closed = True
        for stream in list(self._streams):  # those of a caller's session, too
            stream.release()
        await self._let_sessions_go()

    async def _begin(
        self, session: aiohttp.ClientSession, request: Request, timeout: float, limit: int
    ) -> _Body:
        """Sends, and gives the reply as soon as its head is there."""
        if timeout <= 0:
            raise TransportFailure(Phase.NOT_SENT, "no time left to connect", timed_out=True)
        headers = request.headers
        if timeout not in self._limits:
            connect = max(timeout - _MARGIN, timeout / 2)
            limits = aiohttp.ClientTimeout(connect=connect, ceil_threshold=math.inf)
            self._limits = {timeout: limits}
        response = await session.request(
            request.method,
            URL(request.url, encoded=True),
            data=_sendable(request.body),
            headers=headers.pairs,
            skip_auto_headers=[name for name in _AUTO_HEADERS if name not in headers] or None,
            allow_redirects=False,
            raise_for_status=False,
            timeout=self._limits[timeout],
            **self._options,
        )
        return _Body(response, limit)

    async def _session(
        self, loop: asyncio.AbstractEventLoop, connections: int
    ) -> aiohttp.ClientSession:
        """The session with so many connections at once; 0 is any number."""
        if self._closed:
            raise TransportClosedError
        if self._callers_session is not None:
            return self._callers_session
        if loop is not self._loop:
            await self._move_to(loop)
        session = self._sessions.get(connections)
        if session is None:
            session = self._sessions[connections] = _new_session(self._context, connections)
        return session

    async def _move_to(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not None and self._loop.is_running():
            raise RuntimeError(
                "this transport is in use on another event loop that is running: make one for each"
            )
        await self._let_sessions_go()
        self._loop = loop
        self._sessions = {}
        self._keeper = _keep(self._sessions, self._streams)
        await self._keeper.__anext__()

    async def _let_sessions_go(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            await keeper.aclose()


async def _keep(
    sessions: Dict[int, aiohttp.ClientSession], streams: weakref.WeakSet[_Body]
) -> AsyncGenerator[None, None]:
    """Closes streams and sessions when it is closed, at the latest before its event loop is.

    An event loop that ends in good order, as `asyncio.run` sees to, closes the asynchronous
    generators that were begun on it (PEP 525). So nothing outlives it, and the next loop has
    nothing of a dead one's to touch.
    """
    try:
        yield
    finally:
        for stream in list(streams):
            stream.release()
        for session in sessions.values():
            await session.close()


def _new_session(context: Optional[ssl.SSLContext], connections: int) -> aiohttp.ClientSession:
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, ssl=context or True),
        cookie_jar=aiohttp.DummyCookieJar(),
        **_SETTINGS,
    )
    if hasattr(session, "_retry_connection"):
        # aiohttp would repeat a GET, PUT or DELETE on its own; no public switch turns that off.
        session._retry_connection = False  # pyright: ignore[reportPrivateUsage]
    return session


class _Body:
    """A reply whose body is still open."""

    def __init__(self, response: aiohttp.ClientResponse, limit: int) -> None:
        headers = Headers(
            [(n.decode("latin-1"), v.decode("latin-1")) for n, v in response.raw_headers]
        )
        self._coding = ContentDecoder(headers, limit)
        self.status = response.status
        self.headers = self._coding.headers
        self._response = response
        self._connection_end = _connection_end(response)
        self._closed = False

    async def read(self, patience: float) -> Optional[bytes]:
        """As `AsyncOpenResponse.read`. Another task's `close` wakes it, and it raises."""
        if self._closed:
            raise TransportFailure(Phase.REPLY_BROKEN, "the stream was closed")
        stream = self._response.content
        try:
            arrived = stream.read_nowait()  # spares the timer
            if arrived:
                content = self._decode(arrived)
                if content:
                    return content
            async with timeout_at(_running_loop().time() + patience):
                return await self._next()
        except asyncio.TimeoutError:
            return None  # giving up the wait loses no bytes
        except _ERRORS as error:
            message = "the stream was closed" if self._closed else _reason(error)
            self.release()
            raise TransportFailure(Phase.REPLY_BROKEN, message) from error

    async def read_whole(self) -> bytes:
        """The rest of the body. Raises what aiohttp does, and `TransportFailure`."""
        pieces: List[bytes] = []
        while True:
            piece = await self._next()
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)

    async def close(self) -> None:
        """As `AsyncOpenResponse.close`."""
        self.release()

    def release(self) -> None:
        """As `Releasable.release`: aiohttp needs not wait to drop a connection."""
        self._closed = True
        self._response.close()

    async def _next(self) -> bytes:
        while True:
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
        end = self._connection_end
        lost = _exception(end) if not data and end is not None and end.done() else None
        if lost is not None:
            self.release()
            raise TransportFailure(Phase.REPLY_BROKEN, str(lost)) from lost
        try:
            return self._coding.feed(data) if data else self._coding.finish()
        except ValueError as error:
            self.release()
            raise TransportFailure(Phase.REPLY_BROKEN, str(error)) from error


def _sendable(body: bytes) -> Union[bytes, io.BytesIO, None]:
    """The body of a request, so that aiohttp writes a large one piece by piece."""
    return io.BytesIO(body) if len(body) > _LARGE_BODY else body or None


def _connection_end(response: aiohttp.ClientResponse) -> Optional[asyncio.Future[None]]:
    """How the connection ends, for a body that ends with it; None where that does not matter.

    There aiohttp lets a lost connection pass for the end. Before aiohttp 3.12 nothing tells.
    """
    framed = "Content-Length" in response.headers or "Transfer-Encoding" in response.headers
    if framed or response.connection is None:
        return None
    end: Optional[asyncio.Future[None]] = getattr(response.connection.protocol, "closed", None)
    if end is not None:
        end.add_done_callback(_exception)  # or asyncio would report it as never looked at
    return end


def _is_connected(response: aiohttp.ClientResponse) -> bool:
    protocol = response.connection and response.connection.protocol
    return bool(protocol and protocol.connected)


def _exception(ended: asyncio.Future[None]) -> Optional[BaseException]:
    return None if ended.cancelled() else ended.exception()


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "AiohttpTransport runs on asyncio, and no asyncio event loop is running; "
            "AnyioTransport runs on trio, too"
        ) from None


def _failure(error: BaseException, *, head_came: bool) -> TransportFailure:
    """The failure that an `error` of aiohttp means for the attempt."""
    timed_out = isinstance(error, asyncio.TimeoutError)
    if isinstance(error, _NOT_SENT):
        return TransportFailure(
            Phase.NOT_SENT,
            "not connected in time" if timed_out else _reason(error),
            timed_out=timed_out,
        )
    if head_came:
        what = "the reply did not end in time" if timed_out else _reason(error)
        return TransportFailure(Phase.REPLY_BROKEN, what, timed_out=timed_out)
    if timed_out:
        return TransportFailure(Phase.MAYBE_PROCESSED, "no reply in time", timed_out=True)
    if _is_of_the_head(error):
        message = f"the head of the reply is broken: {_reason(error)}"
        return TransportFailure(Phase.REPLY_BROKEN, message)
    return TransportFailure(
        Phase.MAYBE_PROCESSED, f"the connection was lost before the reply: {_reason(error)}"
    )


def _is_of_the_head(error: BaseException) -> bool:
    """Whether a part of the head came: garbage, or the beginning of one that was cut off."""
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return not isinstance(error.message, str)  # but what had come
    return isinstance(error, (aiohttp.ClientResponseError, HttpProcessingError))


def _reason(error: BaseException) -> str:
    """What happened, in one line, without the URL's query or any header's value."""
    if isinstance(error, aiohttp.InvalidURL):
        return "the URL is not valid"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the server closed the connection"
    if isinstance(error, (aiohttp.ClientResponseError, HttpProcessingError)):
        text = error.message
    else:
        text = str(error)
    return _AFTER_THE_REASON.split(text.strip(), maxsplit=1)[0] or type(error).__name__
