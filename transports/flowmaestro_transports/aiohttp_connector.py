"""aiohttp's sessions and connector, mended: what connects, and what is known about it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import weakref
from typing import Any, Dict, cast

import aiohttp
from aiohttp.http import HttpProcessingError

from flowmaestro_transports.aiohttp_failure import NotConnectedError, reason_of
from flowmaestro_transports.aiohttp_limits import Attempt
from flowmaestro_transports.one_process import Process, cut_off

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
        self._made_in = Process()
        self._opened: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        cast("Any", super()).__init__(
            limit=connections, ssl=context, socket_factory=self._open_socket
        )

    async def connect(self, req: Any, traces: Any, timeout: Any) -> Any:
        """Called by a session for each request.

        A kept connection on which something came unasked is given up: aiohttp would take that
        for the reply to the next request.
        """
        try:
            connection: Any = await super().connect(req, traces, timeout)
            while connection.protocol.should_close:
                connection.close()
                connection = await super().connect(req, traces, timeout)
        except asyncio.TimeoutError:  # the session knows what that means
            raise
        except (aiohttp.ClientError, HttpProcessingError, OSError, UnicodeError) as error:
            by_proxy = f"proxy {req.proxy}: " if req.proxy else ""
            raise NotConnectedError(by_proxy + reason_of(error)) from error
        if isinstance(timeout, Attempt):
            timeout.connected()
        return connection

    def _release(self, key: Any, protocol: Any, *, should_close: bool = False) -> None:
        # Called by aiohttp, which would close it in good order: write what is buffered, and have
        # TLS say goodbye, to a peer who may neither read nor answer, while the event loop ends.
        if protocol.transport is not None and (should_close or protocol.should_close):
            protocol.transport.abort()
        cast("Any", super())._release(key, protocol, should_close=should_close)

    def _open_socket(self, address: Any) -> socket.socket:
        family, kind, protocol, *_ = address
        opened = socket.socket(family, kind, protocol)
        self._opened.add(opened)
        return opened

    def leave_to_parent(self) -> None:
        """In a child: do nothing to the connections from here on, not when collected either."""
        cut_off(self._opened)

    def __del__(self, *args: Any) -> None:
        if not self._made_in.forked:
            super().__del__(*args)
