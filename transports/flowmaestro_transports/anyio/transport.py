"""`AnyioTransport`: HTTP/1.1 for asyncio and trio alike, on anyio's sockets and h11.

May touch: the network, by way of anyio. It follows no redirects, keeps no cookies and reads no
credentials; of the environment, only what `tls.py` and `proxies.py` name counts.
"""

from __future__ import annotations

from typing import Awaitable, Callable, Optional, TypeVar

import anyio
from anyio.lowlevel import current_token

from flowmaestro_core.http.messages import (
    Phase,
    Request,
    Response,
    ResponseHead,
    TransportClosedError,
)
from flowmaestro_core.timeouts import Timeout
from flowmaestro_transports.anyio.body import AnyioOpenResponse, read_whole
from flowmaestro_transports.anyio.connect import connect
from flowmaestro_transports.anyio.connection import Connection
from flowmaestro_transports.anyio.failures import (
    NETWORK_ERRORS,
    UNSENDABLE,
    closed,
    network_failure,
    too_slow,
    unsendable,
)
from flowmaestro_transports.anyio.limits import PhaseLimits
from flowmaestro_transports.anyio.pool import Pool
from flowmaestro_transports.anyio.routes import Routes
from flowmaestro_transports.arguments import check_max_connections
from flowmaestro_transports.driving.fork_guard import NotPicklable, warn_unclosed
from flowmaestro_transports.http11.proxies import Proxies
from flowmaestro_transports.http11.tls import ClientCert, Verify, tls_when_needed

T = TypeVar("T")

_Conclude = Callable[[Connection, ResponseHead, Pool, Optional[PhaseLimits]], Awaitable[T]]


class AnyioTransport(NotPicklable):
    """An `AsyncTransport` with a pool of its own, for asyncio and trio.

    `max_connections` bounds the calls in flight; a body that `open` has returned does not
    count. At most as many idle connections are kept, for 50 seconds each.

    `verify` and `client_cert` are what `tls_context` takes: whom to trust, and what to show.
    `proxy` is the URL of a proxy for every call, `http://user:password@host:3128` or
    `https://...`; without it, the environment names the proxies, as `Proxies` says. With
    `trust_env=False` nothing of the environment counts, for certificates either. All of it is
    settled here, once.

    One event loop at a time: when the loop has changed since the last call (`asyncio.run`
    twice), the connections of the old one are closed and new ones made. A child after `os.fork`
    makes new ones, too, and leaves its parent's alone. On Windows, trio or asyncio's selector
    loop are the better company: under the proactor loop, anyio waits for sockets in a thread.

    Raises `ValueError` for a `max_connections` below 1, `TypeError` for one that is no `int`,
    and what `tls_context` and `Proxies` raise.
    """

    def __init__(
        self,
        *,
        max_connections: int = 100,
        verify: Verify = True,
        client_cert: Optional[ClientCert] = None,
        proxy: Optional[str] = None,
        trust_env: bool = True,
    ) -> None:
        check_max_connections(max_connections)
        self._max_connections = max_connections
        self._tls = tls_when_needed(verify, client_cert, trust_env=trust_env)
        self._routes = Routes(Proxies(proxy, trust_env=trust_env))
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
        """Let `seconds` pass on the event loop's clock.

        Raises `TransportClosedError` as soon as somebody closes.
        """
        pool = self._pool_of_this_loop()
        with anyio.CancelScope() as scope:
            pool.calls.add(scope)
            try:
                await anyio.sleep(seconds)
            finally:
                pool.calls.discard(scope)
        if scope.cancelled_caught:
            raise TransportClosedError

    def now(self) -> float:
        """Seconds on the event loop's clock; call it from inside the loop."""
        return anyio.current_time()

    async def close(self) -> None:
        """Close every connection; calls and reads in flight raise `TransportFailure`.

        Pauses, and calls that have sent nothing yet, raise `TransportClosedError`, as later
        calls do. Closing twice is harmless.
        """
        self._closed = True
        pool, self._pool = self._pool, None
        if pool is None:
            return
        if pool.serves(current_token().native_token):
            pool.close()
        else:
            pool.abandon()

    def __del__(self) -> None:
        pool: Optional[Pool] = getattr(self, "_pool", None)
        if pool is not None and pool.idle_count:
            pool.abandon()
            if not pool.process.forked:
                warn_unclosed(self)

    async def _attempt(self, request: Request, timeout: float, conclude: _Conclude[T]) -> T:
        pool = self._pool_of_this_loop()
        route, target = self._routes.find(request.url)
        connection: Optional[Connection] = None
        limits: Optional[PhaseLimits] = None
        with anyio.move_on_after(timeout) as scope:
            pool.calls.add(scope)
            try:
                if isinstance(timeout, Timeout):
                    limits = PhaseLimits(scope, timeout)
                async with pool.slots:
                    connection = pool.take(route.key)
                    if connection is None:
                        connection = Connection(await connect(route, self._tls), route.key)
                    if limits is not None:
                        limits.connected()
                    head = await connection.exchange(request, target, route.fields)
                    return await conclude(connection, head, pool, limits)
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
            if connection is None:
                raise TransportClosedError
            raise closed(connection.phase)
        raise too_slow(_phase(connection), timeout if limits is None else limits.seconds)

    def _pool_of_this_loop(self) -> Pool:
        if self._closed:
            raise TransportClosedError
        loop = current_token().native_token
        pool = self._pool
        if pool is None or not pool.serves(loop):
            if pool is not None:
                pool.abandon()
            pool = self._pool = Pool(loop, self._max_connections)
        return pool


async def _whole(
    connection: Connection, head: ResponseHead, pool: Pool, limits: Optional[PhaseLimits]
) -> Response:
    response = await read_whole(connection, head, limits)
    pool.give_back(connection)
    return response


async def _opened(
    connection: Connection, head: ResponseHead, pool: Pool, _limits: Optional[PhaseLimits]
) -> AnyioOpenResponse:
    if pool.closed:  # at the very moment when the head came
        raise closed(Phase.REPLY_BROKEN)
    return AnyioOpenResponse(connection, head, pool)


def _phase(connection: Optional[Connection]) -> Phase:
    return Phase.NOT_SENT if connection is None else connection.phase
