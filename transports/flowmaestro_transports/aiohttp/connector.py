"""aiohttp's sessions and connector, mended: what connects, and what is known about it."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import ssl
import sys
import weakref
from typing import Any, Dict, Optional, cast

import aiohttp
from aiohttp.http import HttpProcessingError

from flowmaestro_transports.aiohttp.failure import NotConnectedError, reason_of
from flowmaestro_transports.aiohttp.limits import Attempt
from flowmaestro_transports.driving.fork_guard import ForkGuard, cut_off

_LONGEST_LINE = 64 * 1024
"""Bytes that one line in the head of a reply may have."""

SETTINGS: Dict[str, Any] = {
    "auto_decompress": False,  # ours is bounded
    "max_line_size": _LONGEST_LINE,
    "max_field_size": _LONGEST_LINE,
}
"""How replies are read: what a session of ours is made with, and each request is told."""


def new_session(context: ssl.SSLContext, connections: int) -> aiohttp.ClientSession:
    """A session with so many `connections` at once (0 is any number), and nothing of its own."""
    session = aiohttp.ClientSession(
        connector=Connector(connections, context),
        cookie_jar=aiohttp.DummyCookieJar(),
        **SETTINGS,
    )
    if hasattr(session, "_retry_connection"):
        # aiohttp would repeat a GET, PUT or DELETE on its own; no public switch turns that off.
        session._retry_connection = False  # pyright: ignore[reportPrivateUsage]
    return session


class Connector(aiohttp.TCPConnector):
    """aiohttp's, but it says when it has connected, and of all else that nothing was sent.

    A connection that is not kept goes at once. A forked child can leave it all to its parent.
    """

    def __init__(self, connections: int, context: ssl.SSLContext) -> None:
        self._made_in = ForkGuard()
        self._opened: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._kept: Optional[weakref.WeakSet[Any]] = None
        cast("Any", super()).__init__(
            limit=connections, ssl=context, socket_factory=self._open_socket
        )

    async def connect(self, req: Any, traces: Any, timeout: Any) -> Any:
        """Called for each request.

        A kept connection on which something came unasked is given up, even if the event loop has
        not looked since: aiohttp would take that for the reply to the next request.
        """
        try:
            connection: Any = await super().connect(req, traces, timeout)
            while connection.protocol.should_close or self._has_news(connection.protocol):
                connection.close()
                connection = await super().connect(req, traces, timeout)
        except asyncio.TimeoutError:  # told from others by whether it was still connecting
            raise
        except (aiohttp.ClientError, HttpProcessingError, OSError, UnicodeError) as error:
            by_proxy = f"proxy {req.proxy}: " if req.proxy else ""
            raise NotConnectedError(by_proxy + reason_of(error)) from error
        if isinstance(timeout, Attempt):
            timeout.connected()
        return connection

    def _has_news(self, protocol: Any) -> bool:
        # Of a new connection nothing follows from that: TLS sends session tickets unasked.
        kept = self._kept is not None and protocol in self._kept
        return kept and _readable(protocol.transport.get_extra_info("socket"))

    def _warn_about_tls_in_tls(self, underlying_transport: Any, req: Any) -> None:
        # Called by aiohttp when a proxy is reached over TLS. Before Python 3.11, asyncio does TLS
        # within TLS only if it is told of the outer one that this can bear it, which it can.
        with contextlib.suppress(AttributeError):  # uvloop needs not be told
            underlying_transport._start_tls_compatible = True

    def _release(self, key: Any, protocol: Any, *, should_close: bool = False) -> None:
        # Called by aiohttp, which would close it in good order: write what is buffered, and have
        # TLS say goodbye, to a peer who may neither read nor answer, while the event loop ends.
        if protocol.transport is not None and (should_close or protocol.should_close):
            protocol.transport.abort()
        if self._kept is None:
            self._kept = weakref.WeakSet()
        self._kept.add(protocol)
        cast("Any", super())._release(key, protocol, should_close=should_close)

    def _open_socket(self, address: Any) -> socket.socket:
        family, kind, protocol, *_ = address
        opened = socket.socket(family, kind, protocol)
        self._opened.add(opened)
        return opened

    def abandon(self) -> None:
        """Drop all connections at once, where no event loop is there to wait for their ends."""
        super()._close()  # aiohttp's own `close` waits for what this gives back

    def leave_to_parent(self) -> None:
        """In a child: do nothing to the connections from here on, not when collected either."""
        cut_off(self._opened)

    def __del__(self, *args: Any) -> None:
        if not self._made_in.forked:
            super().__del__(*args)


def _readable(sock: Any) -> bool:
    """Whether the operating system has something of the peer's for us, be it the end."""
    if sys.platform == "win32":
        return bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()  # unlike select, it takes more than 1024 descriptors
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))
