"""What requests' connections do of their own accord, mended: deadlines, 1xx, broken heads.

`ReplyAdapter` is a `requests` adapter whose connections

* hold one deadline from the first address to the last byte of the head, however slowly the
  bytes dribble in (urllib3 alone bounds each receive, not their sum);
* say of every failure while connecting, TLS handshake and proxy included, that nothing was sent;
* skip informational replies (RFC 9110, 15.2), which http.client gives out as the reply;
* refuse a head that breaks off or holds garbage, which http.client takes for a whole one.
"""

from __future__ import annotations

import http.client
import io
import math
import socket
import ssl
import time
from email.errors import FirstHeaderLineIsContinuationDefect, MissingHeaderBodySeparatorDefect
from typing import Any, Dict, Mapping, Optional, Union, cast
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from flowmaestro_transports.contract import IDLE_SECONDS

_SHORTEST = 0.001
"""Seconds: a socket timeout of zero would mean "do not wait", not "the time is up"."""


class _HeadReader(io.RawIOBase):
    """What http.client reads the head from: the socket, until one deadline for all of it."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        self._sock = sock
        self._raw = raw
        limit = sock.gettimeout()
        self.deadline = None if limit is None else time.monotonic() + limit
        """None once the head is there: the body's reader has clocks of its own."""
        self.ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> Optional[int]:
        if self.deadline is not None:
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise socket.timeout("timed out")
            self._sock.settimeout(max(left, _SHORTEST))
        count = cast("Optional[int]", self._raw.readinto(buffer))
        self.ended = count == 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Reply(http.client.HTTPResponse):
    """A reply whose head is the final one, and whole."""

    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self._reader = _HeadReader(sock, self.fp.detach())
        self.fp = io.BufferedReader(self._reader)

    def begin(self) -> None:
        super().begin()
        while 100 <= self.status < 200 and self.status != http.client.SWITCHING_PROTOCOLS:
            self.headers = self.msg = cast("http.client.HTTPMessage", None)  # begin() anew
            super().begin()
        if self._reader.ended:
            raise http.client.HTTPException("the connection ended within the head of the reply")
        for defect in self.headers.defects:
            if isinstance(
                defect, (MissingHeaderBodySeparatorDefect, FirstHeaderLineIsContinuationDefect)
            ):
                raise http.client.HTTPException("a header line of the reply is garbled")
        self._reader.deadline = None


class _Connection(HTTPConnection):
    response_class = _Reply
    _deadline = 0.0
    idle_since = math.inf
    """When it was put back into its pool."""

    def connect(self) -> None:
        # urllib3 has put into `timeout` what is left of the attempt.
        self._deadline = time.monotonic() + cast("float", self.timeout)
        try:
            super().connect()
        except socket.timeout as error:
            raise ConnectTimeoutError(self, "timed out") from error
        except (OSError, http.client.HTTPException) as error:  # of TLS, or of a proxy's tunnel
            raise NewConnectionError(self, str(error)) from error
        self._limit_to_deadline(self.sock)

    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        self._limit_to_deadline(sock)
        return sock

    def _limit_to_deadline(self, sock: socket.socket) -> None:
        sock.settimeout(max(self._deadline - time.monotonic(), _SHORTEST))


class _TlsConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    """A pool that gives out no connection that was idle for long."""

    ConnectionCls = cast("Any", _Connection)

    def _get_conn(self, timeout: Optional[float] = None) -> Any:
        connection: Any = super()._get_conn(timeout)
        if time.monotonic() - connection.idle_since <= IDLE_SECONDS:
            return connection
        connection.close()
        return self._new_conn()

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.idle_since = time.monotonic()
        super()._put_conn(conn)


class _TlsPool(_Pool, HTTPSConnectionPool):
    ConnectionCls = cast("Any", _TlsConnection)


class ReplyAdapter(HTTPAdapter):
    """Sends with `context` for TLS and keeps at most `connections` idle per origin.

    It answers with a `requests.Response` that carries no more than status and `raw`: no cookie
    is looked at. Nothing is retried.
    """

    def __init__(self, context: ssl.SSLContext, connections: int) -> None:
        self._context = context
        super().__init__(pool_maxsize=connections)

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = False, **options: Any
    ) -> None:
        """Called by requests: makes the pools' manager."""
        cast("Any", super()).init_poolmanager(
            connections, maxsize, block, ssl_context=self._context, **options
        )
        _use_our_pools(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """Called by requests: the manager of the pools behind `proxy`, made once."""
        manager = cast("Any", super()).proxy_manager_for(
            proxy, ssl_context=self._context, **options
        )
        if not proxy.lower().startswith("socks"):
            _use_our_pools(manager)
        return manager

    def get_connection_with_tls_context(
        self,
        request: requests.PreparedRequest,
        verify: Union[bool, str, None],
        proxies: Optional[Mapping[str, str]] = None,
        cert: Any = None,
    ) -> HTTPConnectionPool:
        """Called by requests from 2.32.2 on: the pool for the request's origin."""
        return self.get_connection(request.url or "", proxies)

    def get_connection(
        self, url: Union[str, bytes], proxies: Optional[Mapping[str, str]] = None
    ) -> HTTPConnectionPool:
        """Called by older versions of requests for the same."""
        address = urlsplit(str(url))
        proxy = select_proxy(str(url), dict(proxies or {}))
        manager = self.proxy_manager_for(proxy) if proxy else self.poolmanager
        pool: HTTPConnectionPool = manager.connection_from_host(
            address.hostname, address.port, address.scheme
        )
        return pool

    def close(self) -> None:
        """Closes the connections that are idle."""
        cast("Any", super()).close()

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Called by requests; the context has it all, and is not to be changed."""

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """Called by requests: wraps what urllib3 answered."""
        response = requests.Response()
        response.status_code = resp.status
        response.raw = resp
        response.request = req
        return response


def _use_our_pools(manager: Any) -> None:
    pools: Dict[str, Any] = {"http": _Pool, "https": _TlsPool}
    manager.pool_classes_by_scheme = pools
