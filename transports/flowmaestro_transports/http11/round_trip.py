"""One request and its response on a connection. Nothing here waits for the network.

May touch: the sockets of the connection; with the first TLS, all that the module `tls` lists.
"""

from __future__ import annotations

import errno
import math
import socket
from contextlib import contextmanager
from typing import Any, Callable, Generator, Hashable, List, Optional, Sequence, cast

from flowmaestro_core.http.messages import (
    Headers,
    Phase,
    Request,
    Response,
    ResponseHead,
    TransportFailure,
)
from flowmaestro_core.timeouts import Timeout
from flowmaestro_transports.http11.content_coding import MAX_BODY
from flowmaestro_transports.http11.dialing import connect_any
from flowmaestro_transports.http11.exchange import Exchange, ExchangeState, RequestWriter
from flowmaestro_transports.http11.failures import ReplyError
from flowmaestro_transports.http11.routes import Route
from flowmaestro_transports.http11.tls import TlsContext
from flowmaestro_transports.http11.wire import TURN, IOSteps, IOWait, Readiness, Wire

LATE_STEPS = 128
"""The most steps of a `LastLook`. They read 8 MiB, more than a socket buffers."""
LATE_SECONDS = 0.1
"""The most seconds of a `LastLook`. A server may send what is slow to read, and never stop: 8 MiB
in tiny members of gzip take seconds. 8 MiB of plain bytes are read within this time."""
UNREAD_SECONDS = 1.0
"""Seconds for which a server that has sent its whole response may leave the rest of a request
unread, until no more of it is sent. A server that still reads does so within a round trip."""


class Connection:
    """A connection that carries one exchange after another.

    A round trip, an open body or the pool has it, and the code that takes it from there is then its
    only owner. If an exception from a signal handler comes at that moment, the connection is
    garbage. So it is closed, and never reused.

    Attributes:
        wire: sends and receives its bytes.
        key: which requests it may carry (`Route.key`).
        idle_since: when it was last stored as idle, in Unix seconds; 0 before that.

    """

    __slots__ = ("idle_since", "key", "wire")

    def __init__(self, wire: Wire, key: Hashable) -> None:
        self.wire: Wire = wire
        self.key: Hashable = key
        self.idle_since: float = 0.0

    def close(self) -> None:
        """Close at once. Closing twice is harmless."""
        self.wire.close()


class AttemptDeadline:
    """The deadline of an attempt that begins now on `clock`. A phase may have an earlier deadline.

    `timeout` is a number of seconds or a `Timeout`. Call `connected` and `received` when a phase
    ends: the next one then begins.
    """

    __slots__ = ("_whole", "at", "clock", "phases", "seconds")

    def __init__(self, timeout: float, clock: Callable[[], float]) -> None:
        self.clock: Callable[[], float] = clock
        self.phases: Optional[Timeout] = timeout if isinstance(timeout, Timeout) else None
        self.at: float = clock() + timeout
        """When the current phase must end, by the clock."""
        self.seconds: float = float(timeout)
        """The limit that ends first, of the phase or of the attempt, in seconds. The error of a
        timeout shows it."""
        self._whole = self.at, self.seconds
        if self.phases is not None:
            self._begin_phase(self.phases.connect)

    def connected(self) -> None:
        """Report that the connection was made or reused.

        The limit for the head begins, if the timeout has one.
        """
        if self.phases is not None:
            self._begin_phase(self.phases.head)

    def received(self) -> None:
        """Report that the head or a piece of the response's body was received.

        If the response begins before all of the request is sent, report each further piece of the
        request that is sent, too. Each report restarts the limit for the next piece (`read`), if
        the timeout has one.
        """
        if self.phases is not None:
            self._begin_phase(self.phases.read)

    def _begin_phase(self, seconds: Optional[float]) -> None:
        limits = [self._whole]
        if seconds is not None:
            limits.append((self.clock() + seconds, seconds))
        self.at, self.seconds = min(limits)


class LastLook:
    """Bounds what an attempt may still read, without waiting, once its deadline has passed.

    The process may have been stopped, or its event loop blocked, while the response arrived.
    """

    __slots__ = ("_steps", "_until")

    def __init__(self) -> None:
        self._steps = 0
        self._until = 0.0  # set by the first step

    def goes_on(self, now: float) -> bool:
        """Return whether there may be another step at the time `now`. Each call is a step."""
        if not self._steps:
            self._until = now + LATE_SECONDS
        self._steps += 1
        return self._steps <= LATE_STEPS and now <= self._until


class RoundTrip:
    """One request and its response, on a new connection or a reused one.

    A transport that has no idle connection resolves the host of the first hop, and carries out
    `connect`. Then the transport carries out `read_response`, or `read_head` if the body stays
    open. The transport must stop at the `deadline`. These three methods raise `NETWORK_ERRORS`.
    `connect` also raises `TransportFailure`, if the environment names certificates that cannot be
    read.

    Attributes:
        route: the way to the server.
        exchange: the request and its response. The exchange is made first, so that a request that
            cannot be sent makes no connection.
        deadline: when the round trip must end.
        connection: the connection that the round trip owns, if any.
        sockets: the sockets of a connection that is not ready yet.

    """

    __slots__ = ("connection", "deadline", "exchange", "route", "sockets")

    def __init__(
        self, route: Route, exchange: Exchange, timeout: float, clock: Callable[[], float]
    ) -> None:
        self.route: Route = route
        self.exchange: Exchange = exchange
        self.deadline: AttemptDeadline = AttemptDeadline(timeout, clock)
        self.connection: Optional[Connection] = None
        self.sockets: List[socket.socket] = []

    def connect(self, addresses: Sequence[Any], tls: TlsContext) -> IOSteps[None]:
        """Connect to one of `addresses`, those of the proxy if there is one, else of the server.

        Then do the TLS handshakes and open the proxy's tunnel, as the route needs.
        """
        route = self.route
        scheme, host, _ = route.first_hop
        with proxy_errors(route):
            wire = Wire((yield from connect_any(addresses, self.sockets)))
            if scheme == "https":
                wire = yield from _start_tls(wire, tls, host)
            if route.is_tunnel:
                yield from _open_tunnel(wire, route)
        if route.is_tunnel:
            wire = yield from _start_tls(wire, tls, route.origin.host)
        self.connection = Connection(wire, route.key)
        self.sockets.clear()

    def read_head(self) -> IOSteps[List[bytes]]:
        """Send the request, and receive the head of the response.

        Return the pieces of the body that were received before all of the request was sent, usually
        none: see `exchange_heads`.
        """
        self.deadline.connected()  # Once the steps begin, not when they are made.
        wire = cast("Connection", self.connection).wire
        return (yield from exchange_heads(wire, self.exchange, self.deadline))

    def read_response(self) -> IOSteps[Response]:
        """Send the request, and receive the whole response.

        If the body has more than `max_reply_size` bytes, return it as far as it was received then.
        """
        wire, exchange = cast("Connection", self.connection).wire, self.exchange
        has_phases = self.deadline.phases is not None
        if has_phases:
            self.deadline.connected()
        parts = yield from exchange_heads(wire, exchange, self.deadline)
        if has_phases:
            self.deadline.received()
        room = exchange.max_reply_size - sum(map(len, parts))
        while room >= 0:
            data = exchange.take()
            if data is None:
                yield wire.readable
                if receive(wire, exchange):
                    self.deadline.received()
                continue
            if not data:
                break
            parts.append(data)
            room -= len(data)
            if exchange.has_more:
                yield TURN
            elif exchange.state is ExchangeState.COMPLETE:
                break
        head = cast("ResponseHead", exchange.head)
        return Response(head.status, head.headers, b"".join(parts))


@contextmanager
def proxy_errors(route: Route) -> Generator[None, None, None]:
    """Replace an `OSError` or `ValueError` of a `with` block by a `ConnectionError`.

    The `ConnectionError` names the route's proxy. If the route has none, the error is not replaced.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        if route.proxy is None:
            raise
        raise ConnectionError(f"proxy {route.proxy.url}: {error}") from error


def exchange_heads(
    wire: Wire, exchange: Exchange, deadline: Optional[AttemptDeadline] = None
) -> IOSteps[List[bytes]]:
    """Send the request, and receive until the head of the response is complete.

    Return the pieces of the body that were received before all of the request was sent, usually
    none. Raises `OSError`, and `ReplyError` for a head that is refused or not complete. Raises
    `ReplyError` also if the body breaks while these pieces are received, or if they have more than
    `MAX_BODY` bytes. While the rest of the request is sent after the head, report the progress to
    `deadline`.
    """
    early: List[bytes] = []
    yield from _send_request(wire, exchange, early, deadline)
    while exchange.head is None:
        yield wire.readable
        receive(wire, exchange)
    return early


def _send_request(
    wire: Wire, exchange: Exchange, early: List[bytes], deadline: Optional[AttemptDeadline]
) -> IOSteps[None]:
    """Send the request, or as much of it as the server wants.

    Receive meanwhile, and append what arrives of the body to `early`, if the status is below 300. A
    server that responds while it reads stops reading if its response is not received, so both sides
    would wait for ever.

    A server that has sent its whole response may read no more. So sending then ends once nothing
    can be sent for `UNREAD_SECONDS`, or for half of the time until the deadline if that is less.
    """
    size = 0
    stops_at: Optional[float] = None
    while exchange.unsent:
        count, failure = 0, None
        try:
            count = wire.send(exchange.unsent)
        except OSError as error:
            failure = error.with_traceback(None)
        # Outside of `except`: the frames of a context would hold what the server has sent.
        if failure is not None:
            # A server may respond and close before it has read all of a long request.
            if exchange.finished:
                return
            received = wire.receive()
            if received:
                exchange.bytes_received(received)
                return
            try:
                raise failure
            finally:
                del failure  # Its traceback refers to this frame: a cycle.
        # Also if no byte was counted: TLS may have sent a part of a record.
        exchange.bytes_sent(count)
        if count:
            stops_at = None
            continue
        if exchange.finished:
            seconds = math.inf
            if deadline is not None:
                now = deadline.clock()
                stops_at = stops_at or now + min(UNREAD_SECONDS, (deadline.at - now) / 2)
                if now >= stops_at:
                    return
                seconds = stops_at - now
            # The connection may have ended, and would then always be readable.
            yield IOWait(Readiness.WRITABLE, (wire.sock,), seconds)
        else:
            yield IOWait(Readiness.EITHER, (wire.sock,))
            receive(wire, exchange)
        if exchange.head is None:
            continue
        if exchange.head.status >= 300:
            return  # The server does not want the rest (RFC 9112, 9.5).
        if deadline is not None:
            # The limit for the head is over. That for the next piece begins again with each piece,
            # sent or received, because the server may respond only to what it has read.
            deadline.received()
        # Take the body at once, so that it is decoded in pieces and that its size is bounded.
        while piece := exchange.take():
            early.append(piece)
            size += len(piece)
            if size > exchange.max_reply_size:
                return  # The caller can use no more, and closes the connection.
            if size > MAX_BODY:
                raise ReplyError(f"more than {MAX_BODY} bytes came before the request was sent")
            if exchange.has_more:
                yield TURN


def receive(wire: Wire, exchange: Exchange) -> bool:
    """Pass what has arrived to `exchange`: bytes, the end of the connection, both, or neither.

    Return whether bytes have arrived. Raises `OSError`, and `ReplyError` for a head that is refused
    or not complete.
    """
    data = wire.receive()
    if data:
        exchange.bytes_received(data)
    end = wire.end
    if end is not None or data == b"":
        exchange.connection_ended(None if end is None else end.failure)
    return bool(data)


def _start_tls(outer: Wire, tls: TlsContext, host: str) -> IOSteps[Wire]:
    from flowmaestro_transports.http11.tls_wire import TlsWire

    try:
        context = tls()
    except OSError as error:  # The environment names a file that cannot be read.
        number = getattr(error.__cause__ or error, "errno", None)
        permanent = number not in (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
        raise TransportFailure(Phase.NOT_SENT, str(error), permanent=permanent) from error
    wire = TlsWire(outer, context, host)
    yield from wire.handshake()
    return wire


def _open_tunnel(wire: Wire, route: Route) -> IOSteps[None]:
    """Have the proxy connect us to the origin (CONNECT, RFC 9110, 9.3.6).

    Only the proxy gets the proxy's credentials. Raises `TransportFailure` if it refuses them: to
    repeat them may lock an account. Raises `ConnectionRefusedError` if the status of
    its response is not 2xx, and what `exchange_heads` raises.
    """
    target = route.origin.host_and_port
    fields = Headers((("Host", target), *route.credentials.pairs))
    exchange = Exchange(RequestWriter(fields), Request("CONNECT", "", Headers()), target)
    yield from exchange_heads(wire, exchange)
    head = exchange.head
    if head is not None and head.status == 407 and route.proxy is not None:
        raise TransportFailure(
            Phase.NOT_SENT,
            f"proxy {route.proxy.url}: CONNECT was answered with status 407: "
            "the proxy refuses these credentials, or needs some",
            permanent=True,
        ) from ConnectionRefusedError(f"CONNECT was answered with status {head.status}")
    if head is None or not 200 <= head.status < 300:
        raise ConnectionRefusedError(f"CONNECT was answered with status {head and head.status}")
