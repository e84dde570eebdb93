"""`AnyioTransport`: HTTP/1.1 for asyncio and trio alike, on anyio's sockets and h11.

May touch: the network, by way of anyio. It follows no redirects, keeps no cookies and reads no
credentials; `SSL_CERT_FILE` and `SSL_CERT_DIR` are all of the environment that counts.
"""

from __future__ import annotations

import re
import ssl
import warnings
from typing import Awaitable, Callable, Dict, Optional, Tuple, TypeVar, Union
from urllib.parse import urlsplit

import anyio
from anyio.lowlevel import current_token

from flowmaestro_core.http import (
    Phase,
    Request,
    Response,
    ResponseHead,
    TransportClosedError,
    TransportFailure,
)
from flowmaestro_transports.anyio_body import AnyioOpenResponse, read_whole
from flowmaestro_transports.anyio_connect import connect
from flowmaestro_transports.anyio_connection import Connection
from flowmaestro_transports.anyio_failures import (
    NETWORK_ERRORS,
    UNSENDABLE,
    closed,
    network_failure,
    too_slow,
    unsendable,
)
from flowmaestro_transports.anyio_pool import Pool
from flowmaestro_transports.anyio_socket import Origin
from flowmaestro_transports.tls import tls_context

T = TypeVar("T")

_URL = re.compile(r"(https?://[^/?#]+)([^#]*)", re.IGNORECASE)
_MAX_ORIGINS = 256


class AnyioTransport:
    """An `AsyncTransport` with a pool of its own, for asyncio and trio.

    `max_connections` bounds the calls in flight; a body that `open` has returned does not
    count. At most as many idle connections are kept, for 50 seconds each. `verify` is True for
    the system's trust store, the path of a CA file or directory, an `ssl.SSLContext`, or False,
    which trusts everyone.

    One event loop at a time: when the loop has changed since the last call (`asyncio.run`
    twice), the connections of the old one are closed and new ones made. On Windows, trio or
    asyncio's selector loop are the better company: under the proactor loop, anyio waits for
    sockets in a thread.

    Raises `ValueError` for a `max_connections` below 1, and what `tls_context` raises.
    """

    def __init__(
        self,
        *,
        max_connections: int = 100,
        verify: Union[bool, str, ssl.SSLContext] = True,
    ) -> None:
        if max_connections < 1:
            raise ValueError(f"max_connections must be at least 1, not {max_connections}")
        self._max_connections = max_connections
        self._verify = verify
        if verify is not True:
            tls_context(verify)  # a wrong path is told here; the usual case waits for https
        self._origins: Dict[str, Origin] = {}
        self._pool: Optional[Pool] = None
        self._closed = False

    async def send(self, request: Request, timeout: float) -> Response:
        """Send the request and read the whole reply, all within `timeout` seconds.

        Waiting for one of the `max_connections` slots counts. A reply of more than 64 MiB,
        inflated, is refused. Raises `TransportFailure`, and `RuntimeError` once closed.
        """
        return await self._attempt(request, timeout, _whole)

    async def open(self, request: Request, timeout: float) -> AnyioOpenResponse:
        """Send the request and read the head of the reply within `timeout` seconds.

        Takes a slot only until the head has come. Raises as `send` does.
        """
        return await self._attempt(request, timeout, _opened)

    async def sleep(self, seconds: float) -> None:
        """Let `seconds` pass on the event loop's clock."""
        await anyio.sleep(seconds)

    def now(self) -> float:
        """Seconds on the event loop's clock; call it from inside the loop."""
        return anyio.current_time()

    async def close(self) -> None:
        """Close every connection; calls and reads in flight raise `TransportFailure`.

        Closing twice is harmless; a later call raises `RuntimeError`.
        """
        self._closed = True
        pool, self._pool = self._pool, None
        if pool is None:
            return
        if pool.loop is current_token().native_token:
            pool.close()
        else:
            pool.abandon()

    def __del__(self) -> None:
        pool: Optional[Pool] = getattr(self, "_pool", None)
        if pool is not None and pool.idle_count:
            pool.abandon()
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)

    async def _attempt(
        self,
        request: Request,
        timeout: float,
        conclude: Callable[[Connection, ResponseHead, Pool], Awaitable[T]],
    ) -> T:
        pool = self._pool_of_this_loop()
        origin, target = self._locate(request.url)
        connection: Optional[Connection] = None
        with anyio.move_on_after(timeout) as scope:
            pool.calls.add(scope)
            try:
                async with pool.slots:
                    connection = pool.take(origin)
                    if connection is None:
                        connection = Connection(await connect(origin, self._context), origin)
                    head = await connection.exchange(request, target)
                    return await conclude(connection, head, pool)
            except BaseException as error:
                if connection is not None:
                    connection.close()
                if isinstance(error, NETWORK_ERRORS):
                    raise network_failure(_phase(connection), error) from error
                if isinstance(error, UNSENDABLE):
                    raise unsendable() from None
                raise
            finally:
                pool.calls.discard(scope)
        if pool.closed:
            raise closed(_phase(connection))
        raise too_slow(_phase(connection), timeout)

    def _pool_of_this_loop(self) -> Pool:
        if self._closed:
            raise TransportClosedError
        loop = current_token().native_token
        pool = self._pool
        if pool is None or pool.loop is not loop:
            if pool is not None:
                pool.abandon()
            pool = self._pool = Pool(loop, self._max_connections)
        return pool

    def _locate(self, url: str) -> Tuple[Origin, str]:
        match = _URL.match(url)
        if match is None:
            raise _bad_url()
        prefix, target = match.groups()
        origin = self._origins.get(prefix)
        if origin is None:
            if len(self._origins) >= _MAX_ORIGINS:
                self._origins.clear()
            origin = self._origins[prefix] = _parse_origin(prefix)
        return origin, target if target.startswith("/") else "/" + target

    def _context(self) -> ssl.SSLContext:
        return tls_context(self._verify)


async def _whole(connection: Connection, head: ResponseHead, pool: Pool) -> Response:
    response = await read_whole(connection, head)
    pool.give_back(connection)
    return response


async def _opened(connection: Connection, head: ResponseHead, pool: Pool) -> AnyioOpenResponse:
    if pool.closed:  # at the very moment when the head came
        raise closed(Phase.REPLY_BROKEN)
    return AnyioOpenResponse(connection, head, pool)


def _phase(connection: Optional[Connection]) -> Phase:
    return Phase.NOT_SENT if connection is None else connection.phase


def _parse_origin(prefix: str) -> Origin:
    try:
        parts = urlsplit(prefix)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise _bad_url() from None
    if not parts.hostname or "@" in parts.netloc:
        raise _bad_url()
    return Origin(parts.scheme, parts.hostname, port)


def _bad_url() -> TransportFailure:
    # Without the URL, which may hold a password.
    return TransportFailure(Phase.NOT_SENT, "the URL is not http:// or https:// with a host")
