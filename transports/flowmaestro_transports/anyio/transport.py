"""`AnyioTransport`: HTTP/1.1 for asyncio and trio alike.

May touch: the network, certificate files. It follows no redirects, keeps no cookies and reads no
`.netrc`. Of the environment it reads only what the modules `tls` and `proxies` list.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Callable, List, Optional, Set, TypeVar

import anyio
from anyio.lowlevel import checkpoint_if_cancelled, current_token

from flowmaestro_core.http.messages import Phase, Request, Response, TransportClosedError
from flowmaestro_transports.anyio.body import AnyioOpenResponse
from flowmaestro_transports.anyio.waiting import NETWORK_ERRORS, carry_out, carry_out_late, look_up
from flowmaestro_transports.http11.content_coding import MAX_BODY
from flowmaestro_transports.http11.exchange import Exchange
from flowmaestro_transports.http11.failures import closed, network_failure, too_slow
from flowmaestro_transports.http11.pool import ConnectionPool
from flowmaestro_transports.http11.round_trip import RoundTrip, proxy_errors
from flowmaestro_transports.http11.wire import IOSteps
from flowmaestro_transports.network import NetworkTransport
from flowmaestro_transports.primitives.fork_guard import quiet_at_exit, warn_unclosed

__tracebackhide__ = True  # pytest shows the lines of the test instead.

R = TypeVar("R")
T = TypeVar("T")


class AnyioPool(ConnectionPool):
    """The connections of one event loop: at most `max_connections` calls at once.

    At most as many connections are kept idle, each for `expiry` seconds. `loop` is the event loop:
    the native token of anyio's backend.
    """

    def __init__(self, loop: object, max_connections: int, expiry: float) -> None:
        super().__init__(max_connections, expiry)
        self.slots: anyio.Semaphore = anyio.Semaphore(max_connections, fast_acquire=True)
        self.calls: Set[anyio.CancelScope] = set()
        """The scopes of calls and pauses in flight. `close` cancels them."""
        self._loop = loop

    def serves(self, loop: object) -> bool:
        """Return whether this pool was made for `loop` in this process."""
        return self._loop is loop and not self.process.forked

    def close(self) -> None:
        """Close idle connections and open bodies, and cancel the calls and pauses in flight.

        Each cancelled call closes its own connection.
        """
        super().close()
        for scope in list(self.calls):
            scope.cancel()

    def abandon(self) -> None:
        """Close idle connections without touching the event loop, which may have ended.

        If it has not ended, its calls and bodies go on.
        """
        self.retired = True
        self.idle.close()


class AnyioTransport(NetworkTransport):
    """An `AsyncTransport` with a pool of its own, for asyncio and trio.

    `max_connections` bounds the calls in flight, and the idle connections. One that was idle for
    more than `keepalive_expiry` seconds is not reused. `verify`, `client_cert`, `proxy` and
    `trust_env` choose certificates and proxies. `SocketTransport` describes the arguments and their
    errors.

    It serves one event loop at a time. If a call runs on another loop than the last call
    (`asyncio.run` twice), the idle connections of the old loop are closed. A child process after
    `os.fork` makes its own connections, and leaves those of its parent alone. On Windows, prefer
    trio or asyncio's selector loop: under the proactor loop, anyio waits for sockets in a thread.
    """

    _pool: Optional[AnyioPool] = None

    async def send(self, request: Request, timeout: float) -> Response:
        """Send the request and receive the whole response, all within `timeout` seconds.

        Raises `TransportFailure`. A body of more than `max_reply_size` bytes, decoded, is
        returned in part; without this limit, one of more than 64 MiB is a failure (*reply broken*).
        """
        return await self._round_trip(request, timeout, MAX_BODY, RoundTrip.read_response, _whole)

    async def open(self, request: Request, timeout: float) -> AnyioOpenResponse:
        """Send the request and receive the head of the response within `timeout` seconds.

        `timeout` does not bound the body. Raises `TransportFailure`.
        """
        return await self._round_trip(request, timeout, sys.maxsize, RoundTrip.read_head, _opened)

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds`.

        Raises `TransportClosedError` if the transport is closed before or meanwhile.
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

    if TYPE_CHECKING:  # As an attribute, it would not have the type of the protocol's method.

        def now(self) -> float:
            """Return the time of the event loop in seconds. Call it from inside the loop."""
            ...
    else:
        now = staticmethod(anyio.current_time)  # A function of ours would cost each event more.

    async def close(self) -> None:
        """Close every connection. Later calls raise `TransportClosedError`.

        Calls and pauses in flight wake, and raise as `AsyncTransport.close` says. On another event
        loop than that of the last call, only idle connections are closed.
        """
        self._closed = True
        pool, self._pool = self._pool, None
        if pool is None:
            return
        if pool.serves(current_token().native_token):
            pool.close()
        else:
            pool.closed = True
            pool.abandon()

    @quiet_at_exit
    def __del__(self) -> None:
        pool = self._pool
        if pool is not None and len(pool.idle):
            pool.abandon()
            if not pool.process.forked:
                warn_unclosed(self)

    async def _round_trip(
        self,
        request: Request,
        timeout: float,
        limit: int,
        read: Callable[[RoundTrip], IOSteps[R]],
        conclude: Callable[[AnyioPool, RoundTrip, R], T],
    ) -> T:
        pool = self._pool_of_this_loop()
        route, target = self._routes.find(request.url)
        exchange = Exchange(route.writer, request, target, limit)
        trip = RoundTrip(route, exchange, timeout, anyio.current_time)
        steps = read(trip)
        try:
            while True:
                with anyio.CancelScope(deadline=trip.deadline.at) as scope:
                    pool.calls.add(scope)
                    try:
                        async with pool.slots:
                            if trip.connection is None:
                                await self._prepare(pool, trip, scope)
                            return conclude(
                                pool, trip, await carry_out(steps, trip.deadline, scope)
                            )
                    finally:
                        pool.calls.discard(scope)
                if pool.closed or exchange.phase is Phase.NOT_SENT:
                    break
                # The event loop may have been blocked while the response arrived.
                for result in await carry_out_late(steps, trip.deadline):
                    return conclude(pool, trip, result)
                if anyio.current_time() >= trip.deadline.at:
                    break
        except NETWORK_ERRORS as error:
            raise network_failure(exchange.phase, error) from error
        finally:
            pool.end(trip)
        if not pool.closed:
            raise too_slow(exchange.phase, trip.deadline.seconds)
        if exchange.phase is Phase.NOT_SENT:
            raise TransportClosedError
        raise closed(exchange.phase)

    async def _prepare(self, pool: AnyioPool, trip: RoundTrip, scope: anyio.CancelScope) -> None:
        """Give `trip` a connection: an idle one, or a new one once connected."""
        route = trip.route
        trip.connection = pool.idle.take(route.key)
        if trip.connection is None:
            _, host, port = route.first_hop
            with proxy_errors(route):
                found = await look_up(host, port)
            await carry_out(trip.connect(found, self._tls), trip.deadline, scope)
        # A task whose wait is over goes on to its next wait, even if it was cancelled or its
        # deadline has passed meanwhile. Until then it would send the request.
        await checkpoint_if_cancelled()
        if anyio.current_time() >= trip.deadline.at:
            raise too_slow(Phase.NOT_SENT, trip.deadline.seconds)

    def _pool_of_this_loop(self) -> AnyioPool:
        if self._closed:
            raise TransportClosedError
        loop = current_token().native_token
        pool = self._pool
        if pool is not None and pool.serves(loop):
            return pool
        made = AnyioPool(loop, self._max_connections, self._keepalive_expiry)
        pool, self._pool = self._pool, made  # in one step, since another thread may do so, too
        if pool is not None:
            pool.abandon()
        return made


def _whole(_pool: AnyioPool, _trip: RoundTrip, response: Response) -> Response:
    return response


def _opened(pool: AnyioPool, trip: RoundTrip, early: List[bytes]) -> AnyioOpenResponse:
    return AnyioOpenResponse(pool, trip, early)
