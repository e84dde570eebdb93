"""The transport on aiohttp, for asyncio: through its front door, `ClientSession.request`."""

from __future__ import annotations

import asyncio
import sys
import time
import weakref
from typing import Any, ClassVar, Mapping, Optional, Set, Tuple

import aiohttp

from flowmaestro_core.http.messages import (
    Phase,
    Request,
    Response,
    TransportClosedError,
    TransportFailure,
)
from flowmaestro_transports.aiohttp.body import Body
from flowmaestro_transports.aiohttp.exchange import NO_ROUTE, Route, head_of
from flowmaestro_transports.aiohttp.failure import ERRORS, closed, failure_of
from flowmaestro_transports.aiohttp.limits import Attempt, timeout_at
from flowmaestro_transports.aiohttp.sessions import OwnSessions
from flowmaestro_transports.arguments import check_session, network_options
from flowmaestro_transports.contract import AsyncOpenResponse
from flowmaestro_transports.driving.fork_guard import ForkGuard, NotPicklable, warn_unclosed
from flowmaestro_transports.http11.content_coding import MAX_BODY
from flowmaestro_transports.http11.tls import ClientCert, Verify


class AiohttpTransport(NotPicklable):
    """An `AsyncTransport` on aiohttp, for asyncio. Elsewhere its calls raise `RuntimeError`.

    With a `session`, its connector, proxy and trace configs are used; its headers, cookies, auth
    and middlewares are not. It is never closed, and its connector bounds calls and streams alike.

    Without one, it keeps connections of its own, made with the first call. At most
    `max_connections` calls are on their way at once, and others wait within their own time
    limits; a body that `open` has returned does not count. `verify` and `client_cert` are what
    `tls_context` takes: whom to trust, and what to show. `proxy` is the URL of a proxy for every
    call, `http://user:password@host:3128` or `https://...`; without it, the environment names the
    proxies, as `Proxies` says. With `trust_env=False` nothing of the environment counts, for
    certificates either. Used from one event loop after another, it makes new connections; from
    two that run at once, it raises `RuntimeError`.

    The `head` of a `Timeout` is counted from when its `connect` would run out. What else it falls
    short of, `falls_short` says.

    Raises `ValueError` for a `max_connections` below 1, and for a `verify`, `client_cert`,
    `trust_env` or `proxy` beside a session, which has its own; `TypeError` for a `session` or
    `max_connections` of another type; and what `tls_context` and `Proxies` raise.
    """

    falls_short: ClassVar[Mapping[str, str]] = {
        "a-body-cut-off-under-tls": "aiohttp takes any end of a connection for that of the body",
        "a-busy-program-looks-first": "aiohttp uses a kept connection without a look at it",
        "an-unasked-reply": "aiohttp takes for a reply what came before on a kept connection",
        "reset-within-the-body": "aiohttp takes any end of a connection for that of the body",
        "what-is-whole-comes-before-a-failure": "aiohttp gives nothing of what a break came with",
    }
    """Checks of the conformance kit that it does not pass, and what that means to users."""

    def __init__(
        self,
        session: Optional[aiohttp.ClientSession] = None,
        *,
        verify: Verify = True,
        client_cert: Optional[ClientCert] = None,
        proxy: Optional[str] = None,
        trust_env: bool = True,
        max_connections: int = 100,
    ) -> None:
        self._own: Optional[OwnSessions] = None
        self.secrets: Tuple[str, ...] = ()
        """What it sends to its proxies, which nobody is to see."""
        if session is None:
            tls, proxies = network_options(verify, client_cert, proxy, trust_env, max_connections)
            self.secrets = proxies.secrets
            self._own = OwnSessions(tls(), proxies, max_connections)
        else:
            others = verify, client_cert, proxy, trust_env
            check_session(session, aiohttp.ClientSession, max_connections, *others)
        self._callers_session = session
        self._settle()
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
        self._refuse_if_closed()
        loop = _running_loop()
        pause: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _end, pause)
        self._pauses.add(pause)
        try:
            await pause
        finally:
            timer.cancel()
            self._pauses.discard(pause)
        self._refuse_if_closed()

    def now(self) -> float:
        """As `AsyncTransport.now`."""
        return time.monotonic()

    async def close(self) -> None:
        """As `AsyncTransport.close`: every call, read and pause wakes.

        A session of the caller's stays open. A close that was cancelled can be repeated.
        """
        self._settle_if_forked()
        self._closed = True
        for attempt in self._attempts:
            attempt.cut()
        for pause in self._pauses:
            if pause.get_loop() is asyncio.get_running_loop():
                _end(pause)
        for body in list(self._bodies if self._own is None else self._own.bodies):
            body.release()
        if self._own is not None:
            await self._own.close()

    def __del__(self) -> None:
        own = getattr(self, "_own", None)
        if own is not None and own.holds_connections and not self._process.forked:
            warn_unclosed(self)  # the loop that they belong to closes them

    def _settle(self) -> None:
        self._bodies: weakref.WeakSet[Body] = weakref.WeakSet()
        self._attempts: Set[Attempt] = set()
        self._pauses: Set[asyncio.Future[None]] = set()
        self._process = ForkGuard()

    def _settle_if_forked(self) -> None:
        if self._process.forked:
            if self._own is not None:
                self._own.leave_to_parent()
            self._settle()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise TransportClosedError

    async def _attempt(self, request: Request, timeout: float, *, whole: bool) -> Any:
        """The whole reply, or its body as soon as the head is there."""
        loop = _running_loop()
        self._refuse_if_closed()
        self._settle_if_forked()
        if timeout <= 0:
            raise TransportFailure(Phase.NOT_SENT, "no time left to connect", timed_out=True)
        session: Any = self._callers_session
        route = NO_ROUTE
        if self._own is not None:
            route = self._own.route(request.url)
            session = await self._own.session(loop, for_calls=whole)
            self._refuse_if_closed()  # meanwhile
        attempt = Attempt(timeout, watched=self._own is not None)
        self._attempts.add(attempt)
        body = None
        try:
            async with timeout_at(attempt.end) as attempt.timer:
                attempt.begins()
                response = await head_of(session, request, route, attempt)
                body = Body(response, MAX_BODY if whole else sys.maxsize, self._process)
                if not whole:
                    if self._closed:  # at the very moment when the head came
                        raise closed(connecting=False, head_came=True)
                    bodies = self._bodies if self._own is None else self._own.bodies
                    bodies.add(body)
                    return body
                content = await body.read_whole(attempt)
                return Response(body.status, body.headers, content)
        except BaseException as error:
            if body is not None:
                body.release()
            if not isinstance(error, ERRORS) and not attempt.was_cut_by(error):
                raise
            failure = _failure(attempt, error, route, head_came=body is not None)
        finally:
            self._attempts.discard(attempt)
        raise failure


def _failure(attempt: Attempt, error: BaseException, route: Route, *, head_came: bool) -> Exception:
    if attempt.cut_short:
        return closed(connecting=attempt.connecting, head_came=head_came)
    proxy = route.options.get("proxy")
    return failure_of(error, connecting=attempt.connecting, head_came=head_came, proxy=proxy)


def _end(pause: asyncio.Future[None]) -> None:
    if not pause.done():
        pause.set_result(None)


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "AiohttpTransport runs on asyncio, and no asyncio event loop is running; "
            "AnyioTransport runs on trio, too"
        ) from None
