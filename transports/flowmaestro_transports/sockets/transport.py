"""`SocketTransport`: HTTP/1.1 for threads. Each call runs in the thread of its caller.

May touch: the network, certificate files. It starts no thread, follows no redirects, keeps no
cookies and reads no `.netrc`. Of the environment it reads only what the modules `tls` and `proxies`
list.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from typing import TYPE_CHECKING, Callable, Dict, TypeVar, cast

from flowmaestro_core.http.messages import Phase, Request, Response, TransportClosedError
from flowmaestro_transports.contract import (
    InterruptibleTransport,
    OpenResponse,
)
from flowmaestro_transports.http11.content_coding import MAX_BODY
from flowmaestro_transports.http11.dialing import literal
from flowmaestro_transports.http11.exchange import Exchange
from flowmaestro_transports.http11.failures import (
    NETWORK_ERRORS,
    closed,
    network_failure,
    too_slow,
)
from flowmaestro_transports.http11.round_trip import RoundTrip, proxy_errors
from flowmaestro_transports.network import NetworkTransport
from flowmaestro_transports.primitives.fork_guard import quiet_at_exit, warn_unclosed
from flowmaestro_transports.primitives.slots import InFlight
from flowmaestro_transports.sockets.blocking import BlockingOp, DeadlineExceeded, Interrupted
from flowmaestro_transports.sockets.body import SocketOpenResponse
from flowmaestro_transports.sockets.pool import SocketPool

__tracebackhide__ = True  # pytest shows the lines of the test instead.

T = TypeVar("T")
_Conclude = Callable[[SocketPool, BlockingOp, RoundTrip], T]


class SocketTransport(NetworkTransport):
    """A `Transport` on plain sockets. Safe to use from several threads.

    At most `max_connections` calls are in flight at once. Others wait for them, within their own
    time limits. An open body is not a call in flight. At most as many idle connections are stored.
    A connection that was idle for more than `keepalive_expiry` seconds is not reused.

    `verify` and `client_cert` say whom to trust and which certificate to present. `proxy` is the
    URL of a proxy for every call, `http://user:password@host:3128` or `https://...`; without it,
    the environment names the proxies. With `trust_env=False` the environment is ignored, also for
    certificates. For the values of each, see `docs/networks.md`. The proxies and the files of the
    arguments are read when the transport is made. The trust store and the variables for TLS are
    read at the first TLS handshake or, if `verify` or `client_cert` names a file, together with
    this file. No time limit ends a name resolution early, because it is one call of the operating
    system in the thread of the caller.

    A child after `os.fork` makes its own connections, and leaves those of its parent alone. An
    exception that a signal handler raises, such as `KeyboardInterrupt`, ends the call that it
    interrupts, and no other. One case differs: an `OSError`, such as `TimeoutError`, counts as a
    failure of the network if the handler runs while the call does not wait for a socket, such as
    during a name resolution.

    Raises `ValueError` for a `max_connections` below 1 or a `keepalive_expiry` that is not
    positive, and `TypeError` for one that is no number. For another wrong option, raises
    `TypeError` or `ValueError`, and `OSError` for a path that cannot be read as certificates. The
    message names the argument or the variable. If a variable for TLS is read later, with the first
    TLS handshake, the call raises `TransportFailure` instead.
    """

    def _reset(self) -> None:
        self._pools: Dict[int, SocketPool] = {}

    def send(self, request: Request, timeout: float) -> Response:
        """Send the request and receive the whole response, all within `timeout` seconds.

        Raises `TransportFailure`. A body of more than `max_reply_size` bytes, decoded, is
        returned in part; without this limit, one of more than 64 MiB is a failure (*reply broken*).
        """
        return self._round_trip(BlockingOp(), request, timeout, MAX_BODY, _whole)

    def open(self, request: Request, timeout: float) -> SocketOpenResponse:
        """Send the request and receive the head of the response within `timeout` seconds.

        `timeout` does not bound the body. Raises `TransportFailure`.
        """
        return self._round_trip(BlockingOp(), request, timeout, sys.maxsize, _opened)

    def sleep(self, seconds: float) -> None:
        """Wait for `seconds`. Raises `TransportClosedError` once the transport is closed."""
        self.sleep_as(BlockingOp(), seconds)

    def send_as(self, op: BlockingOp, request: Request, timeout: float) -> Response:
        """Do the same as `send`, as an operation that another thread may interrupt."""
        return self._round_trip(op, request, timeout, MAX_BODY, _whole)

    def open_as(self, op: BlockingOp, request: Request, timeout: float) -> SocketOpenResponse:
        """Do the same as `open`, as an operation that another thread may interrupt."""
        return self._round_trip(op, request, timeout, sys.maxsize, _opened)

    def sleep_as(self, op: BlockingOp, seconds: float) -> None:
        """Do the same as `sleep`, as an operation that another thread may interrupt."""
        flight, pool, until = InFlight(op), self._pool(), time.monotonic() + seconds
        try:
            pool.begin(flight)
            while op.wait(until):
                pass
        except Interrupted:
            if pool.closed:
                raise TransportClosedError from None
        finally:
            pool.end_op(flight)

    if TYPE_CHECKING:  # As an attribute, it would not have the type of the protocol's method.

        def now(self) -> float:
            """Return the time of the monotonic clock in seconds."""
            ...
    else:
        now = staticmethod(time.monotonic)  # A function of ours would cost each call more.

    def interruptible(self) -> InterruptibleTransport:
        """Return a view of the transport whose operations another thread can interrupt.

        The view is for one stream, and need not be closed. Its `interrupt` does not end a name
        resolution. A subclass with a `send`, `open` or `sleep` of its own has no view, because its
        methods take no operation to interrupt: this returns the transport itself.
        """
        own, base = type(self), SocketTransport
        if (own.send, own.open, own.sleep) != (base.send, base.open, base.sleep):
            return cast("InterruptibleTransport", self)
        return InterruptibleSockets(self)

    def close(self) -> None:
        """Close every connection. Later calls raise `TransportClosedError`.

        This interrupts all operations in flight, except name resolutions.
        """
        self._closed = True
        self._pool().close()

    def _round_trip(
        self, op: BlockingOp, request: Request, timeout: float, limit: int, conclude: _Conclude[T]
    ) -> T:
        flight, pool = InFlight(op), self._pool()
        route, target = self._routes.find(request.url)
        exchange = Exchange(route.writer, request, target, limit)
        trip = RoundTrip(route, exchange, timeout, time.monotonic)
        try:
            pool.begin(flight, trip)
            self._prepare(pool, flight, trip)
            return conclude(pool, op, trip)
        except Interrupted:
            if pool.closed and exchange.phase is Phase.NOT_SENT:
                raise TransportClosedError from None
            raise closed(exchange.phase) from None
        except DeadlineExceeded:
            raise too_slow(exchange.phase, trip.deadline.seconds) from None
        except NETWORK_ERRORS as error:
            if op.wait_failed:
                raise
            raise network_failure(exchange.phase, error) from error
        finally:
            pool.end_op(flight, trip)

    def _prepare(self, pool: SocketPool, flight: InFlight[BlockingOp], trip: RoundTrip) -> None:
        """Wait for a slot, then give `trip` a connection: an idle one, or a new one once connected.

        Raises `DeadlineExceeded`, `Interrupted`, or the error that connecting raised.
        """
        route, deadline, op = trip.route, trip.deadline, flight.op
        if flight.waits_for_slot and not pool.slots.take(flight, deadline.at):
            raise DeadlineExceeded
        # `close` interrupts one operation after another. This one may have got the slot of an
        # interrupted one before its own turn.
        if op.interrupted or pool.closed:
            raise Interrupted
        trip.connection = pool.idle.take(route.key)
        if trip.connection is None:
            _, host, port = route.first_hop
            with proxy_errors(route):
                # Positional arguments: a function that replaces `getaddrinfo`, as in gevent, may
                # name its parameters otherwise.
                addresses = literal(host, port) or socket.getaddrinfo(
                    host, port, 0, socket.SOCK_STREAM
                )
            op.carry_out(trip.connect(addresses, self._tls), deadline)
        # A reused connection needs no wait that would check the deadline.
        if time.monotonic() >= deadline.at:
            raise DeadlineExceeded

    def _pool(self) -> SocketPool:
        """Return the pool of this process. A child after `os.fork` gets its own."""
        number = os.getpid()
        pool = self._pools.get(number)
        if pool is None:
            for other, inherited in list(self._pools.items()):
                if other != number:
                    inherited.idle.close()
                    self._pools.pop(other, None)  # Another thread may have removed it already.
            pool = SocketPool(self._max_connections, self._keepalive_expiry)
            # Set it before `close` in another thread can find the pool, and close it.
            pool.closed = self._closed
            pool = self._pools.setdefault(number, pool)
        return pool

    @quiet_at_exit
    def __del__(self) -> None:
        for number, pool in getattr(self, "_pools", {}).items():
            holds_connections = len(pool.idle)
            pool.idle.close()
            if holds_connections and number == os.getpid():
                warn_unclosed(self)


def _whole(_pool: SocketPool, op: BlockingOp, trip: RoundTrip) -> Response:
    return op.carry_out(trip.read_response(), trip.deadline)


def _opened(pool: SocketPool, op: BlockingOp, trip: RoundTrip) -> SocketOpenResponse:
    early = op.carry_out(trip.read_head(), trip.deadline)
    return SocketOpenResponse(pool, trip, early)


class InterruptibleSockets:
    """A view of a `SocketTransport` for one stream: see `InterruptibleTransport`."""

    def __init__(self, transport: SocketTransport) -> None:
        self.now: Callable[[], float] = transport.now
        """Returns the time of the transport's monotonic clock, in seconds."""
        self.close: Callable[[], None] = transport.close
        """Closes the transport itself, with every connection."""
        self._transport = transport
        self._op = BlockingOp()

    def interrupt(self) -> None:
        """Interrupt the operation in flight, and every later one. May be called twice.

        `sleep` returns early. `send` and `open` raise `TransportFailure`, or return a response if
        it has been received already. Any thread may call this.
        """
        self._op.interrupt()

    def send(self, request: Request, timeout: float) -> Response:
        """Send the request and receive the whole response, all within `timeout` seconds.

        Raises `TransportFailure` if that fails or is interrupted.
        """
        return self._transport.send_as(self._op, request, timeout)

    def open(self, request: Request, timeout: float) -> OpenResponse:
        """Send the request and receive the head of the response within `timeout` seconds.

        `timeout` does not bound the body. Raises `TransportFailure` if the operation fails or is
        interrupted.
        """
        return self._transport.open_as(self._op, request, timeout)

    def sleep(self, seconds: float) -> None:
        """Wait for `seconds`; return early if interrupted.

        Raises `TransportClosedError` once the transport is closed.
        """
        self._transport.sleep_as(self._op, seconds)
