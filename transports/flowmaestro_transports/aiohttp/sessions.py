"""The sessions of ours that carry the calls, on one event loop after another."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
import weakref
from typing import Any, AsyncGenerator, Dict, Optional, Tuple

import aiohttp
from yarl import URL

from flowmaestro_core.http.messages import Phase, TransportFailure
from flowmaestro_transports.aiohttp.body import Body
from flowmaestro_transports.aiohttp.exchange import NO_ROUTE, Route
from flowmaestro_transports.aiohttp.limits import watch_connections
from flowmaestro_transports.driving.fork_guard import cut_off
from flowmaestro_transports.http11.proxies import Proxies

_MAX_ORIGINS = 256
_TURNS = 5
"""Of the event loop, in which it sees that a socket has failed, and closes it."""


class OwnSessions:
    """One session for calls, at most `max_connections` at once, and one for open bodies."""

    def __init__(self, context: ssl.SSLContext, proxies: Proxies, max_connections: int) -> None:
        self._context = context
        self._proxies = proxies
        self._max_connections = max_connections
        self._routes: Dict[str, Route] = {}
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._sessions: Dict[int, aiohttp.ClientSession] = {}
        self._keeper: Optional[AsyncGenerator[None, None]] = None
        self.bodies: weakref.WeakSet[Body] = weakref.WeakSet()
        """Those that are open on that loop."""
        self._loop_sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        """Those that were opened on that loop."""
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        """Those that were opened on any."""
        self._left_alone: Tuple[object, ...] = ()
        """What would be finished by an event loop that stands still, or is a parent's, if it were
        collected: to ask those for anything is to disturb them."""

    @property
    def holds_connections(self) -> bool:
        """Whether a session is open."""
        return not all(session.closed for session in self._sessions.values())

    async def session(
        self, loop: asyncio.AbstractEventLoop, *, for_calls: bool
    ) -> aiohttp.ClientSession:
        """The session for calls, or the one for open bodies, on the event loop that runs."""
        if loop is not self._loop:
            await self._move_to(loop)
        connections = self._max_connections if for_calls else 0  # which is any number
        session = self._sessions.get(connections)
        if session is None:
            connector = aiohttp.TCPConnector(
                limit=connections, ssl=self._context, socket_factory=self._open_socket
            )
            session = self._sessions[connections] = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                trace_configs=[watch_connections()],
            )
        return session

    def route(self, url: str) -> Route:
        """The proxy for the origin of `url`. Raises `TransportFailure` for what is no URL."""
        origin = "/".join(url.split("/", 3)[:3])
        route = self._routes.get(origin)
        if route is None:
            if len(self._routes) >= _MAX_ORIGINS:
                self._routes.clear()
            route = self._routes[origin] = self._new_route(origin)
        return route

    async def close(self) -> None:
        """Close every connection. It can be called again when it was cancelled."""
        await _close(self._sessions, self._loop_sockets)
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            await keeper.aclose()

    def leave_to_parent(self) -> None:
        """In a child: do nothing to the connections of the parent."""
        cut_off(self._sockets)
        for body in self.bodies:
            body.leave_to_parent()
        for session in self._sessions.values():
            _drop(session)
        self._left_alone += (self._keeper, self._loop, self._sessions)
        self._keeper = self._loop = None
        self._sessions, self.bodies = {}, weakref.WeakSet()

    async def _move_to(self, loop: asyncio.AbstractEventLoop) -> None:
        left, keeper, sessions = self._loop, self._keeper, self._sessions
        if left is not None and left.is_running():
            raise RuntimeError(
                "this transport is in use on another event loop that is running: make one for each"
            )
        self._loop, self._sessions, self.bodies = loop, {}, weakref.WeakSet()
        self._loop_sockets = weakref.WeakSet()
        self._keeper = _keep(self._sessions, self.bodies, self._loop_sockets)
        await self._keeper.__anext__()
        for session in sessions.values():
            _drop(session)
        self._left_alone += (keeper, left)

    def _open_socket(self, address: Any) -> socket.socket:
        family, kind, protocol, *_ = address
        opened = socket.socket(family, kind, protocol)
        self._sockets.add(opened)
        self._loop_sockets.add(opened)
        return opened

    def _new_route(self, origin: str) -> Route:
        try:
            address = URL(origin)
            proxy = self._proxies.proxy_for(address.scheme, address.host or "", address.port or 0)
        except ValueError:
            raise TransportFailure(Phase.NOT_SENT, "the URL is not valid") from None
        if proxy is None:
            return NO_ROUTE
        fields = {}
        if proxy.authorization is not None:
            fields = {"Proxy-Authorization": proxy.authorization}
        if address.scheme == "http":  # the proxy gets the request itself
            return Route(list(fields.items()), {"proxy": proxy.url})
        if proxy.url.startswith("https:") and sys.version_info < (3, 11):
            raise TransportFailure(
                Phase.NOT_SENT,
                "asyncio before Python 3.11 has no TLS within TLS, which an https:// proxy needs "
                "for https:// origins; AnyioTransport has it",
                permanent=True,
            )
        return Route([], {"proxy": proxy.url, "proxy_headers": fields})


async def _keep(
    sessions: Dict[int, aiohttp.ClientSession],
    bodies: weakref.WeakSet[Body],
    sockets: weakref.WeakSet[socket.socket],
) -> AsyncGenerator[None, None]:
    """Closes bodies and sessions when it is closed, at the latest before its event loop is.

    An event loop that is shut down properly, as by `asyncio.run`, closes the asynchronous
    generators that were begun on it (PEP 525). So nothing outlives it, and the next loop has
    nothing of a dead one's to touch.
    """
    try:
        yield
    finally:
        for body in list(bodies):
            body.release()
        await _close(sessions, sockets)


async def _close(
    sessions: Dict[int, aiohttp.ClientSession], sockets: weakref.WeakSet[socket.socket]
) -> None:
    """Close the sessions, and the connections whose peer does not take what is still to be sent.

    asyncio keeps those until it has, unless their socket fails.
    """
    for session in sessions.values():
        await session.close()
    for sock in list(sockets):
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
    for _ in range(_TURNS):
        if all(sock.fileno() < 0 for sock in list(sockets)):
            break
        await asyncio.sleep(0)


def _drop(session: aiohttp.ClientSession) -> None:
    """Drop its connections, without waiting for an event loop that does not run."""
    if session.connector is not None:
        closing = session.connector.close(abort_ssl=True).__await__()
        with contextlib.suppress(StopIteration, RuntimeError):
            next(closing)
        closing.close()
