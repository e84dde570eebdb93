"""The async transport on aiohttp, for asyncio."""

from __future__ import annotations

import asyncio
import sys
import time
import weakref
from typing import Any, AsyncGenerator, Dict, Optional, Set, Tuple

import aiohttp
from yarl import URL

from flowmaestro_core.http.messages import (
    Phase,
    Request,
    Response,
    TransportClosedError,
    TransportFailure,
)
from flowmaestro_transports.aiohttp.body import Body
from flowmaestro_transports.aiohttp.connector import Connector, new_session
from flowmaestro_transports.aiohttp.exchange import Fields, Route, by_session, own_exchange
from flowmaestro_transports.aiohttp.failure import ERRORS, closed, failure_of
from flowmaestro_transports.aiohttp.limits import Attempt, timeout_at
from flowmaestro_transports.arguments import check_max_connections, check_session
from flowmaestro_transports.contract import AsyncOpenResponse
from flowmaestro_transports.driving.fork_guard import ForkGuard, NotPicklable, warn_unclosed
from flowmaestro_transports.http11.content_coding import MAX_BODY
from flowmaestro_transports.http11.proxies import Proxies
from flowmaestro_transports.http11.tls import ClientCert, Verify, tls_context

_MAX_ORIGINS = 256

_NO_ROUTE = Route((), {})


class AiohttpTransport(NotPicklable):
    """An `AsyncTransport` on aiohttp, for asyncio. Elsewhere its calls raise `RuntimeError`.

    Without a `session`, it keeps connections of its own, made with the first call. At most
    `max_connections` calls are on their way at once, and others wait within their own time
    limits; a body that `open` has returned does not count. Used from one event loop after
    another, it makes new connections; from two that run at once, it raises `RuntimeError`.

    `verify` and `client_cert` are what `tls_context` takes: whom to trust, and what to show.
    `proxy` is the URL of a proxy for every call, `http://user:password@host:3128` or
    `https://...`; without it, the environment names the proxies, as `Proxies` says. With
    `trust_env=False` nothing of the environment counts, for certificates either. All of it is
    settled here, once.

    With a `session`, that one is used as it is and never closed. Its connector bounds calls and
    streams alike; its own headers and cookies go out as well, its middlewares are left out; with
    `trust_env`, a key beside an entry of `.netrc` for the host is a failure (*not sent*). By
    itself aiohttp repeats a GET, PUT or DELETE once when a kept connection turns out to be dead.
    A garbled reply of a proxy is not told from one of the server, and the `head` of a `Timeout`
    is counted from when its `connect` would run out.

    Raises `ValueError` for a `max_connections` below 1, for a `verify`, `client_cert`,
    `trust_env` or `proxy` beside a session, which has its own, and for a session with an `auth`,
    which would displace the key; `TypeError` for a `session` or `max_connections` of another
    type; and what `tls_context` and `Proxies` raise.
    """

    def __init__(
        self,
        session: Optional[aiohttp.ClientSession] = None,
        *,
        verify: Verify = True,
        client_cert: Optional[ClientCert] = None,
        trust_env: bool = True,
        proxy: Optional[str] = None,
        max_connections: int = 100,
    ) -> None:
        check_session(session, aiohttp.ClientSession)
        check_max_connections(max_connections)
        if session is None:
            self._context = tls_context(verify, client_cert, trust_env=trust_env)
            self._proxies = Proxies(proxy, trust_env=trust_env)
        elif (verify, client_cert, trust_env, proxy) != (True, None, True, None):
            raise ValueError("verify, client_cert, trust_env and proxy belong to the session")
        elif session.auth is not None:
            raise ValueError("the session has an auth of its own, which would displace the key")
        self._callers_session = session
        self._exchange = own_exchange() if session is None else by_session
        self._max_connections = max_connections
        self._routes: Dict[str, Route] = {}
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._sessions: Dict[int, aiohttp.ClientSession] = {}
        self._keeper: Optional[AsyncGenerator[None, None]] = None
        self._streams: weakref.WeakSet[Body] = weakref.WeakSet()
        self._attempts: Set[Attempt] = set()
        self._pauses: Set[asyncio.Future[None]] = set()
        self._process = ForkGuard()
        self._left_alone: Tuple[object, ...] = ()
        """What would be finished by an event loop that stands still, or is a parent's, if it were
        collected: to ask those for anything is to disturb them."""
        self._closed = False

    async def send(self, request: Request, timeout: float) -> Response:
        """As `AsyncTransport.send`. A body of more than 64 MiB is a failure (*reply broken*)."""
        session = await self._session(_running_loop(), self._max_connections)
        attempt = Attempt(timeout, watched=session is not self._callers_session)
        self._attempts.add(attempt)
        body: Optional[Body] = None
        try:
            async with timeout_at(attempt.end) as attempt.timer:
                way = self._way(session, request, timeout, attempt)
                response = await self._exchange(session, request, way, attempt)
                body = _body_of(response, MAX_BODY, self._process)
                return Response(body.status, body.headers, await body.read_whole(attempt))
        except BaseException as error:
            if body is not None:
                body.release()
            if isinstance(error, ERRORS) or attempt.was_cut_by(error):
                raise _failure(attempt, error, head_came=body is not None) from error
            raise
        finally:
            self._attempts.discard(attempt)

    async def open(self, request: Request, timeout: float) -> AsyncOpenResponse:
        """As `AsyncTransport.open`."""
        session = await self._session(_running_loop(), 0)
        attempt = Attempt(timeout, watched=session is not self._callers_session)
        self._attempts.add(attempt)
        try:
            async with timeout_at(attempt.end) as attempt.timer:
                way = self._way(session, request, timeout, attempt)
                response = await self._exchange(session, request, way, attempt)
                body = _body_of(response, sys.maxsize, self._process)
        except BaseException as error:
            if isinstance(error, ERRORS) or attempt.was_cut_by(error):
                raise _failure(attempt, error, head_came=False) from error
            raise
        finally:
            self._attempts.discard(attempt)
        if self._closed:  # at the very moment when the head came
            body.release()
            raise closed(connecting=False, head_came=True)
        self._streams.add(body)
        return body

    async def sleep(self, seconds: float) -> None:
        """As `AsyncTransport.sleep`. Raises `TransportClosedError` as soon as somebody closes."""
        if self._closed:
            raise TransportClosedError
        loop = _running_loop()
        pause: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _end, pause)
        self._pauses.add(pause)
        try:
            await pause
        finally:
            timer.cancel()
            self._pauses.discard(pause)
        if self._closed:
            raise TransportClosedError

    def now(self) -> float:
        """As `AsyncTransport.now`."""
        return time.monotonic()

    async def close(self) -> None:
        """As `AsyncTransport.close`: whoever is at a call, a read or a pause wakes.

        A session of the caller's stays open; its streams end.
        """
        self._closed = True
        if self._process.forked:
            self._leave_to_parent()
        for attempt in self._attempts:
            attempt.cut()
        for pause in self._pauses:
            if pause.get_loop() is asyncio.get_running_loop():
                _end(pause)
        for stream in list(self._streams):  # those of a caller's session, too
            stream.release()
        await self._let_sessions_go()

    def __del__(self) -> None:
        sessions = getattr(self, "_sessions", {}).values()
        if not all(session.closed for session in sessions) and not self._process.forked:
            warn_unclosed(self)  # the loop that they belong to closes them

    def _way(
        self, session: aiohttp.ClientSession, request: Request, timeout: float, attempt: Attempt
    ) -> Route:
        if timeout <= 0:
            raise TransportFailure(Phase.NOT_SENT, "no time left to connect", timed_out=True)
        if session is not self._callers_session:
            return self._route(request.url)
        attempt.connecting_unseen()
        return _NO_ROUTE

    def _route(self, url: str) -> Route:
        origin = "/".join(url.split("/", 3)[:3])
        route = self._routes.get(origin)
        if route is None:
            if len(self._routes) >= _MAX_ORIGINS:
                self._routes.clear()
            route = self._routes[origin] = _new_route(origin, self._proxies)
        return route

    async def _session(
        self, loop: asyncio.AbstractEventLoop, connections: int
    ) -> aiohttp.ClientSession:
        """The session with so many connections at once; 0 is any number."""
        if self._closed:
            raise TransportClosedError
        if self._process.forked:
            self._leave_to_parent()
        if self._callers_session is not None:
            return self._callers_session
        if loop is not self._loop:
            await self._move_to(loop)
            if self._closed:  # meanwhile
                raise TransportClosedError
        session = self._sessions.get(connections)
        if session is None:
            session = self._sessions[connections] = new_session(self._context, connections)
        return session

    async def _move_to(self, loop: asyncio.AbstractEventLoop) -> None:
        left, keeper, sessions = self._loop, self._keeper, self._sessions
        if left is not None and left.is_running():
            raise RuntimeError(
                "this transport is in use on another event loop that is running: make one for each"
            )
        self._loop, self._sessions, self._streams = loop, {}, weakref.WeakSet()
        self._keeper = _keep(self._sessions, self._streams)
        await self._keeper.__anext__()
        if left is None or keeper is None:
            return
        if left.is_closed():
            await keeper.aclose()
            return
        for session in sessions.values():
            if isinstance(session.connector, Connector):
                session.connector.abandon()
            session.detach()
        self._left_alone += (keeper, left)

    def _leave_to_parent(self) -> None:
        for session in self._sessions.values():
            if isinstance(session.connector, Connector):
                session.connector.leave_to_parent()
            session.detach()
        self._left_alone += (self._keeper, self._loop)
        self._keeper = self._loop = None
        self._sessions = {}
        self._streams = weakref.WeakSet()
        self._attempts = set()
        self._pauses = set()
        self._process = ForkGuard()

    async def _let_sessions_go(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            await keeper.aclose()


async def _keep(
    sessions: Dict[int, aiohttp.ClientSession], streams: weakref.WeakSet[Body]
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


def _body_of(response: aiohttp.ClientResponse, limit: int, process: ForkGuard) -> Body:
    """The body behind a head, which aiohttp lets pass even if no reply can begin so."""
    refusal = ""
    if response.status < 200:
        refusal = f"an informational reply ({response.status}) came as the final one"
    codings = response.headers.getall("Transfer-Encoding", None)
    if codings and (len(codings) > 1 or codings[0].lower() != "chunked"):  # none is undone
        refusal = "the transfer coding is not supported"
    if refusal:
        response.close()
        raise TransportFailure(Phase.REPLY_BROKEN, refusal)
    return Body(response, limit, process)


def _end(pause: asyncio.Future[None]) -> None:
    if not pause.done():
        pause.set_result(None)


def _failure(attempt: Attempt, error: BaseException, *, head_came: bool) -> Exception:
    if attempt.cut_short:
        return closed(connecting=attempt.connecting, head_came=head_came)
    return failure_of(error, connecting=attempt.connecting, head_came=head_came)


def _new_route(origin: str, proxies: Proxies) -> Route:
    try:
        address = URL(origin)
        if address.scheme not in ("http", "https") or address.raw_user or address.raw_password:
            raise ValueError  # aiohttp would have credentials there take the place of the key
        proxy = proxies.proxy_for(address.scheme, address.host or "", address.port or 0)
    except ValueError:
        raise TransportFailure(Phase.NOT_SENT, "the URL is not valid") from None
    if proxy is None:
        return _NO_ROUTE
    options: Dict[str, Any] = {"proxy": URL(proxy.url)}
    fields: Fields = ()
    if proxy.authorization is not None:
        fields = (("Proxy-Authorization", proxy.authorization),)
    if address.scheme == "http":  # the proxy gets the request itself
        return Route(fields, options)
    return Route((), {**options, "proxy_headers": dict(fields)})


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "AiohttpTransport runs on asyncio, and no asyncio event loop is running; "
            "AnyioTransport runs on trio, too"
        ) from None
