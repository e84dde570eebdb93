"""The transport on aiohttp, for asyncio: through its front door, `ClientSession.request`."""

from __future__ import annotations

import asyncio
import sys
import time
import weakref
from typing import Any, ClassVar, Mapping, Optional, Set
from urllib.request import getproxies

import aiohttp

from flowmaestro_core.http.messages import (
    Phase,
    Request,
    Response,
    TransportClosedError,
    TransportFailure,
)
from flowmaestro_transports.aiohttp.body import Body
from flowmaestro_transports.aiohttp.exchange import Limits, head_of, timeout_at
from flowmaestro_transports.aiohttp.failure import ERRORS, failure_of
from flowmaestro_transports.arguments import check_session
from flowmaestro_transports.contract import AsyncOpenResponse
from flowmaestro_transports.driving.fork_guard import NotPicklable
from flowmaestro_transports.http11.content_coding import MAX_BODY
from flowmaestro_transports.http11.exchange import ANY_HOST, RequestWriter
from flowmaestro_transports.http11.failures import closed


class AiohttpTransport(NotPicklable):
    """An `AsyncTransport` on an `aiohttp.ClientSession`, for asyncio.

    The session's connector, proxy and trace configs are used; its headers, cookies, auth and
    middlewares are not. It is never closed, and its connector bounds calls and streams alike.
    Without a `session`, the first call makes one, with the defaults of aiohttp but for two: proxies
    of the environment count, and any number of connections may be open. That one is closed with the
    transport. Neither keeps the cookies that a reply sets.

    It belongs to the event loop of its first call, as the session does. Calls on another one, a
    child's after `os.fork` for example, raise `RuntimeError`; so do calls outside of asyncio.

    The `head` of a `Timeout` is counted from when its `connect` would run out. `known_failures`
    lists the conformance checks that it fails.

    Raises `TypeError` for a `session` of another type.
    """

    known_failures: ClassVar[Mapping[str, str]] = {
        "a-body-cut-off-under-tls": "aiohttp takes any end of a connection for that of the body",
        "a-busy-program-looks-first": "aiohttp uses a kept connection without a look at it",
        "an-unasked-reply": "aiohttp takes for a reply what came before on a kept connection",
        "reset-within-the-body": "aiohttp takes any end of a connection for that of the body",
        "what-is-whole-comes-before-a-failure": "aiohttp gives nothing of what a break came with",
    }
    """The conformance checks that it fails, each with its consequence for users."""

    def __init__(self, session: Optional[aiohttp.ClientSession] = None) -> None:
        if session is not None:
            check_session(session, aiohttp.ClientSession)
        self.secrets: Set[str] = set()
        """What it has sent to proxies, which nobody is to see."""
        self._session = session
        self._owns_session = session is None
        self._closing: Optional[asyncio.Future[None]] = None
        """Has a result when `close` is called, on the event loop of the first call."""
        self._bodies: weakref.WeakSet[Body] = weakref.WeakSet()
        self._writer = RequestWriter(ANY_HOST)
        self._closed = False

    async def send(self, request: Request, timeout: float) -> Response:
        """As `AsyncTransport.send`. A body of more than 64 MiB is a failure (*reply broken*)."""
        answer: Response = await self._attempt(request, timeout, whole=True)
        return answer

    async def open(self, request: Request, timeout: float) -> AsyncOpenResponse:
        """As `AsyncTransport.open`."""
        body: Body = await self._attempt(request, timeout, whole=False)
        return body

    async def sleep(self, seconds: float) -> None:
        """As `AsyncTransport.sleep`. Raises `TransportClosedError` as soon as somebody closes."""
        if self._closed:
            raise TransportClosedError
        await asyncio.wait((self._home(),), timeout=seconds)
        if self._closed:
            raise TransportClosedError

    def now(self) -> float:
        """As `AsyncTransport.now`."""
        return time.monotonic()

    async def close(self) -> None:
        """As `AsyncTransport.close`: every read of a body and every pause wakes.

        So does every call on a session of its own, once it is connected. A close that was
        cancelled can be repeated.
        """
        self._closed = True
        if self._closing is not None and not self._home().done():
            self._closing.set_result(None)
        for body in list(self._bodies):
            body.release()
        if self._owns_session and self._session is not None:
            if self._session.connector is not None:  # whose TLS would wait for a goodbye
                await self._session.connector.close(abort_ssl=True)
            await self._session.close()
            await asyncio.sleep(0)  # in which asyncio closes the sockets

    def _home(self) -> asyncio.Future[None]:
        """`_closing`, if the event loop that runs is the one that this transport belongs to."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                "AiohttpTransport runs on asyncio, and no asyncio event loop is running; "
                "AnyioTransport runs on trio, too"
            ) from None
        if self._closing is None:
            self._closing = loop.create_future()
        if self._closing.get_loop() is not loop:
            raise RuntimeError(
                "this transport belongs to another event loop, that of its first call: make one "
                "for each"
            )
        return self._closing

    async def _attempt(self, request: Request, timeout: float, *, whole: bool) -> Any:
        """The whole reply, or its body as soon as the head is there."""
        self._home()
        if self._closed:
            raise TransportClosedError
        self._writer.check(request)
        if timeout <= 0:
            raise TransportFailure(Phase.NOT_SENT, "no time left to connect", timed_out=True)
        if self._session is None:
            # before Python 3.11, nothing else ends the wait for a goodbye under TLS
            abort_later = sys.version_info < (3, 11)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, enable_cleanup_closed=abort_later),
                trust_env=bool(getproxies()),  # with it, each call reads the .netrc from disk
            )
        limits = Limits(timeout)
        body = None
        try:
            async with timeout_at(limits.end):
                async with timeout_at(limits.head):
                    body = Body(  # no local variable for the reply, whose repr has its fields
                        await head_of(self._session, request, limits, self.secrets),
                        MAX_BODY if whole else sys.maxsize,
                    )
                self._bodies.add(body)
                if whole:
                    content = await body.read_whole(limits)
                    return Response(body.status, body.headers, content)
        except BaseException as error:
            if body is not None:
                body.release()
            if isinstance(error, TransportFailure) or not isinstance(error, Exception):
                # A refusal or a cancellation, without the frames below, which hold the headers.
                raise error.with_traceback(None)  # noqa: B904
            if not isinstance(error, ERRORS):
                raise
            failure = failure_of(error, head_came=body is not None)
        else:
            if self._closed:  # at the very moment when the head came
                body.release()
                raise closed(Phase.REPLY_BROKEN)
            return body
        if self._closed and failure.phase is Phase.NOT_SENT:
            raise TransportClosedError
        raise closed(failure.phase) if self._closed else failure
