"""The transport on aiohttp, for asyncio. It sends through `ClientSession.request`.

The session's connector, proxy and trace configs take part. The header fields that the session or
its environment would add are removed again just before the request is sent. Failures are raised by
the rule of `http11/failures.py`: no local variable in their tracebacks shows a secret.

May touch: the network, by way of the session; the variables that name proxies; the file `.netrc`,
which aiohttp reads if the session trusts the environment.
"""

from __future__ import annotations

import asyncio
import io
import sys
import time
import weakref
from functools import partial
from http.cookies import SimpleCookie
from typing import Any, List, Mapping, Optional, Set
from urllib.request import getproxies

import aiohttp
import anyio
from yarl import URL

from flowmaestro_core.http.messages import (
    Headers,
    Phase,
    Request,
    Response,
    TransportClosedError,
    TransportFailure,
)
from flowmaestro_transports.aiohttp.body import AiohttpBody
from flowmaestro_transports.aiohttp.failures import ERRORS, AfterSendError, failure_of
from flowmaestro_transports.aiohttp.limits import Limits, deadline
from flowmaestro_transports.contract import AsyncOpenResponse
from flowmaestro_transports.http11.content_coding import MAX_BODY
from flowmaestro_transports.http11.exchange import ANY_HOST, RequestWriter
from flowmaestro_transports.http11.failures import closed, too_slow
from flowmaestro_transports.http11.hosts import with_ascii_host
from flowmaestro_transports.http11.proxies import Proxies, credentials
from flowmaestro_transports.primitives.checks import check_session
from flowmaestro_transports.primitives.fork_guard import NotPicklable
from flowmaestro_transports.primitives.slots import calls_at_once

_LONGEST_LINE = 64 * 1024
"""Bytes that one line in the head of a response may have. aiohttp's own limit, 8190 bytes, is less
than some gateways send in a cookie or a policy."""

_AUTO_HEADERS = ("Accept", "Accept-Encoding", "User-Agent")
"""The header fields that aiohttp would add to any request."""

_LARGE_BODY = 2**20
"""Bytes of a request beyond which aiohttp warns if it gets them as `bytes`. A program that turns
warnings into errors could not send them."""


class AiohttpTransport(NotPicklable):
    """An `AsyncTransport` on an `aiohttp.ClientSession`, for asyncio.

    The session's connector, proxy and trace configs are used; its headers, cookies, auth and
    middlewares are not. A given session is never closed. Its connector limits the connections of
    calls and streams together. Without a `session`, the first call makes one, which is closed with
    the transport. Unlike aiohttp's default, that session uses the proxies of the environment. No
    cookie of a response is kept, neither in a given session nor in the transport's own.

    At most `max_connections` calls are in flight at once. Others wait for them, within their own
    time limits. An open body is not a call in flight. The default is 100 without a `session`, and
    no limit with one, whose connector has a limit of its own.

    The transport belongs to the event loop of its first call, as the session does. Calls on another
    event loop raise `RuntimeError`, for example in a child process after `os.fork`. So do calls
    outside of asyncio.

    With a `Timeout` that has a `head`, the head of a response must arrive within `connect` + `head`
    seconds of the start, however soon the connection was made; without `connect`, within `head`
    seconds. What a malformed, truncated or endless response means, and when an idle connection is
    used again, is decided as aiohttp does it. For example, a connection that is lost while a proxy
    opens its tunnel is a failure *maybe processed*. If a malformed chunk arrives together with the
    head, `open` fails, and the content between them is lost.

    Raises `TypeError` for a `session` of another type, or a `max_connections` that is not an
    integer, and `ValueError` for one below 1.
    """

    bounds_replies = True

    def __init__(
        self,
        session: Optional[aiohttp.ClientSession] = None,
        *,
        max_connections: Optional[int] = None,
    ) -> None:
        if session is not None:
            check_session(session, aiohttp.ClientSession)
        self._max_connections = calls_at_once(max_connections, session)
        self.secrets: Set[str] = set()
        """The credentials that were sent to proxies."""
        self._session = session
        self._owns_session = session is None
        self._closing: Optional[asyncio.Future[None]] = None
        """A future that has a result once `close` was called. It belongs to the event loop of the
        first call."""
        self._slots: anyio.Semaphore
        """The slots for calls in flight. They are made with `_closing`."""
        self._bodies: weakref.WeakSet[AiohttpBody] = weakref.WeakSet()
        # It only checks requests, so it has no host of its own. For a malformed field, aiohttp
        # would raise other exceptions.
        self._writer = RequestWriter(ANY_HOST)
        self._closed = False

    async def send(self, request: Request, timeout: float) -> Response:
        """Send the request and receive the whole response, all within `timeout` seconds.

        Raises `TransportFailure`. A body of more than `max_reply_size` bytes, decoded, is
        returned in part; without this limit, one of more than 64 MiB is a failure (*reply broken*).
        """
        response: Response = await self._attempt(request, timeout, whole=True)
        return response

    async def open(self, request: Request, timeout: float) -> AsyncOpenResponse:
        """Send the request and receive the head of the response within `timeout` seconds.

        `timeout` does not bound the body. Raises `TransportFailure`.
        """
        body: AiohttpBody = await self._attempt(request, timeout, whole=False)
        return body

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds`. Raises `TransportClosedError` once the transport is closed."""
        if self._closed:
            raise TransportClosedError
        await asyncio.wait((self._closing_here(),), timeout=seconds)
        if self._closed:
            raise TransportClosedError

    def now(self) -> float:
        """Return the time of the monotonic clock in seconds."""
        return time.monotonic()

    async def close(self) -> None:
        """Close the open bodies, and the session if the transport made it.

        Later calls raise `TransportClosedError`. Every read of a body, every pause and every wait
        for other calls wakes. If the transport made the session, every call that has connected
        wakes, too. If the task that closes is cancelled, `close` can be called again. Raises
        `RuntimeError` on another event loop than that of the first call.
        """
        self._closed = True
        if self._closing is not None and not self._closing_here().done():
            self._closing.set_result(None)
            self._slots.release()  # Each call that this wakes wakes the next one.
        for body in list(self._bodies):
            body.release()
        if self._owns_session and self._session is not None:
            if self._session.connector is not None:
                # Under TLS, an orderly close would wait for the close_notify of the server.
                await self._session.connector.close(abort_ssl=True)
            await self._session.close()
            await asyncio.sleep(0)  # In this turn, asyncio closes the sockets.

    def _closing_here(self) -> asyncio.Future[None]:
        """Return the future that `close` sets, to wake pauses.

        It is made at the first call. Raises `RuntimeError` on another event loop than that of the
        first call, and outside of asyncio.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                "AiohttpTransport runs on asyncio, and no asyncio event loop is running; "
                "AnyioTransport runs on trio, too"
            ) from None
        if self._closing is None:
            self._closing = loop.create_future()
            # Not asyncio's: in Python 3.9, and from 3.10.4 to 3.10.7, it may give no slot any more
            # after a cancelled wait (https://github.com/python/cpython/issues/90155).
            self._slots = anyio.Semaphore(self._max_connections, fast_acquire=True)
        if self._closing.get_loop() is not loop:
            raise RuntimeError(
                "this transport belongs to another event loop, that of its first call: make one "
                "for each"
            )
        return self._closing

    async def _attempt(self, request: Request, timeout: float, *, whole: bool) -> Any:
        """Send the request. Return the response if `whole`, else its open body after the head.

        Raises `TransportFailure` if that fails or takes more than `timeout` seconds, and
        `TransportClosedError` if the transport was closed before the request was sent.
        """
        self._closing_here()
        if self._closed:
            raise TransportClosedError
        self._writer.check(request)
        if timeout <= 0:
            raise TransportFailure(Phase.NOT_SENT, "no time left to connect", timed_out=True)
        limits = Limits(timeout)
        await self._take_slot(limits)
        try:
            return await self._attempt_now(request, limits, whole=whole)
        finally:
            self._slots.release()

    async def _take_slot(self, limits: Limits) -> None:
        """Wait for a slot. Release it afterwards, unless this raises.

        Raises `TransportFailure` if there is none in the time for connecting, and
        `TransportClosedError` if the transport is closed meanwhile.
        """
        waits = self._slots.value == 0
        try:
            async with deadline(limits.connect if waits else None):
                await self._slots.acquire()
        except asyncio.TimeoutError:
            late = True
        else:
            late = waits and limits.connect <= asyncio.get_running_loop().time()
            if late or self._closed:
                self._slots.release()
        if self._closed:
            raise TransportClosedError
        if late:
            raise too_slow(Phase.NOT_SENT, limits.connecting)

    async def _attempt_now(self, request: Request, limits: Limits, *, whole: bool) -> Any:
        """Do what `_attempt` says, in a slot."""
        if self._session is None:
            # Before Python 3.11, nothing else ends the wait for a close_notify under TLS.
            abort_later = sys.version_info < (3, 11)
            self._session = aiohttp.ClientSession(
                # The slots bound the calls. A limit of the connector would count streams, too.
                connector=aiohttp.TCPConnector(limit=0, enable_cleanup_closed=abort_later),
                trust_env=bool(getproxies()),  # With it, each call reads the .netrc from disk.
            )
        bound = request.max_reply_size
        most = MAX_BODY if whole and bound is None else sys.maxsize
        body = None
        try:
            async with deadline(limits.end):
                async with deadline(limits.head):
                    # No local variable holds the response: its repr has the header fields.
                    body = AiohttpBody(
                        await _response_to(self._session, request, limits, self.secrets), most
                    )
                self._bodies.add(body)
                if whole:
                    content = await body.read_whole(limits, sys.maxsize if bound is None else bound)
                    return Response(body.status, body.headers, content)
        except BaseException as error:
            if body is not None:
                body.release()
            if isinstance(error, TransportFailure) or not isinstance(error, Exception):
                raise error.with_traceback(None)  # noqa: B904 - a refusal or a cancellation
            if not isinstance(error, ERRORS):
                raise  # The fault of a trace config or a connector, which is not ours to hide.
            failure = failure_of(error, head_came=body is not None)
        else:
            if self._closed:  # It was closed at the very moment when the head came.
                body.release()
                raise closed(Phase.REPLY_BROKEN)
            return body
        # Raised outside of `except`. If the transport is closed, that is what broke the attempt.
        if self._closed and failure.phase is Phase.NOT_SENT:
            raise TransportClosedError
        raise closed(failure.phase) if self._closed else failure


def _refuse_unused_proxy(url: URL, *, used: Optional[URL]) -> None:
    """Raise `TransportFailure` if the environment names a proxy that aiohttp would not use.

    `used` is the proxy that it uses. It ignores `ALL_PROXY`, and proxies with TLS or SOCKS: the
    request, with its key, would go to the server directly.
    """
    if used is not None and not used.scheme.startswith("socks"):
        return
    found = Proxies().proxy_for(url.scheme, url.host or "", url.port or 0)
    if found is not None and (found.scheme == "https" or not getproxies().get(url.scheme)):
        raise TransportFailure(
            Phase.NOT_SENT,
            f"aiohttp does not use the proxy {found.url} of the environment; "
            "pass AiohttpTransport(ClientSession(proxy=...)), or use AnyioTransport",
            permanent=True,
        )


async def _response_to(
    session: aiohttp.ClientSession, request: Request, limits: Limits, secrets: Set[str]
) -> aiohttp.ClientResponse:
    """Send a request. Return the response once its head has come.

    Raises what aiohttp raises, or an `AfterSendError` around that, or `TransportFailure` for a
    proxy that is not used. If credentials are sent to a proxy, adds them to `secrets`.
    """
    given, body = request.headers, request.body
    # Has the response once its head has come. A trace config of the caller may raise after that.
    came: List[aiohttp.ClientResponse] = []
    try:
        return await session.request(
            request.method,
            URL(with_ascii_host(request.url), encoded=True),
            data=io.BytesIO(body) if len(body) > _LARGE_BODY else body or None,
            # Beside an Authorization header, aiohttp would refuse the session's credentials.
            headers=[pair for pair in given.pairs if pair[0].lower() != "authorization"],
            skip_auto_headers=_unwanted(request),
            allow_redirects=False,
            raise_for_status=False,
            timeout=limits.for_aiohttp(),
            middlewares=(partial(_send_once, given, session, came, secrets),),
            auto_decompress=False,  # Ours is bounded.
            max_line_size=_LONGEST_LINE,
            max_field_size=_LONGEST_LINE,
        )
    except BaseException as error:
        for response in came:
            response.close()
        if not came or not isinstance(error, ERRORS):
            raise
        raise AfterSendError(error, head_came=True) from error


async def _send_once(
    given: Headers,
    session: aiohttp.ClientSession,
    came: List[aiohttp.ClientResponse],
    secrets: Set[str],
    request: aiohttp.ClientRequest,
    handler: aiohttp.ClientHandlerType,
) -> aiohttp.ClientResponse:
    """Send the request as it was given, once. This is a middleware of aiohttp.

    `given` are the header fields to send. Those that the `session` adds are removed again.
    `handler` sends the request. Appends the response to `came`. If credentials are
    sent to a proxy, adds them to `secrets`. Raises `AfterSendError` in place of an error after
    which aiohttp might send the request again, and of a `ValueError`, since one that is raised
    before `handler` was called is *not sent*.
    """
    _restore_headers(request, given, session.headers)
    if session.trust_env:
        _refuse_unused_proxy(request.url, used=request.proxy)
    if request.proxy is not None:
        auth: Any = request.proxy_auth  # A named tuple, whose parts have no types.
        user, password = auth[:2] if auth else (request.proxy.user, request.proxy.password)
        if user or password:
            secrets.update(credentials(user or "", password or ""))
    try:
        response = await handler(request)
    except RuntimeError as error:
        if not isinstance(error.__cause__, StopIteration):
            raise
        # aiohttp raises this after a resolver that returns no address. A trace config may raise it
        # once the request was sent.
        no_address = ValueError("the host has no address")
        if session.trace_configs:
            raise AfterSendError(no_address, head_came=False) from error
        raise no_address from error
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError, ValueError) as error:
        if isinstance(error, (aiohttp.ClientConnectorError, aiohttp.InvalidURL)):
            raise  # Nothing was sent, and aiohttp does not try again.
        # After the original exception, aiohttp would send a GET or a DELETE again.
        raise AfterSendError(error, head_came=False) from error
    came.append(response)
    if "Set-Cookie" in response.headers:
        response.cookies = SimpleCookie()  # Otherwise the session would keep them.
    return response


def _restore_headers(
    request: aiohttp.ClientRequest, given: Headers, of_session: Mapping[str, str]
) -> None:
    """Undo what the session or its environment has changed in the header fields of `request`.

    `given` are the fields of our request; `of_session` are the default fields of the session. This
    is a function of its own, so that the frame with `fields`, which are printed with their values,
    has ended when a request fails.
    """
    fields = request.headers
    for name in ("Authorization", "Cookie", *of_session):
        if name not in given:
            fields.popall(name, None)
    if "authorization" in given:
        fields["Authorization"] = given["authorization"]
    if "cookie" in given:
        fields["Cookie"] = given["cookie"]


def _unwanted(request: Request) -> Optional[List[str]]:
    """Return the names of the header fields that aiohttp must not add; `None` if there are none."""
    given = request.headers
    names = [name for name in _AUTO_HEADERS if name not in given]
    if (request.method != "GET" or request.body) and "Content-Type" not in given:
        names.append("Content-Type")  # aiohttp adds it to a POST even if it has no body.
    return names or None
