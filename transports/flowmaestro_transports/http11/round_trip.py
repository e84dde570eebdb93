"""One request and its reply on a connection. Nothing here waits.

May touch: the sockets of the connection.
"""

from __future__ import annotations

import errno
import socket
from contextlib import contextmanager
from typing import Any, Callable, Generator, Hashable, List, Optional, Sequence

from flowmaestro_core.http.messages import Headers, Phase, Request, Response, TransportFailure
from flowmaestro_core.timeouts import Timeout
from flowmaestro_transports.driving.ownership import Owned
from flowmaestro_transports.http11.dialing import connect_any
from flowmaestro_transports.http11.exchange import Exchange, RequestWriter
from flowmaestro_transports.http11.routes import Route
from flowmaestro_transports.http11.tls import TlsContext
from flowmaestro_transports.http11.wire import TURN, IOSteps, IOWait, Readiness, Wire


class Connection:
    """A connection that carries one exchange after another. It belongs to one user at a time.

    Attributes:
        wire: what moves its bytes.
        key: which requests it may carry (`Route.key`).
        idle_since: when it was put aside, in Unix seconds.

    """

    __slots__ = ("idle_since", "key", "wire")

    def __init__(self, wire: Wire, key: Hashable) -> None:
        self.wire = wire
        self.key = key
        self.idle_since = 0.0

    def close(self) -> None:
        """Close at once. Closing twice is harmless."""
        self.wire.close()


class AttemptDeadline:
    """The deadline of an attempt that begins now on `clock`; phases may bring it on.

    `timeout` is a number of seconds or a `Timeout`. Tell it of each phase as it begins.
    """

    __slots__ = ("_clock", "_whole", "at", "phases", "seconds")

    def __init__(self, timeout: float, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.phases = timeout if isinstance(timeout, Timeout) else None
        self.at: float = clock() + timeout
        """When the phase under way has to end."""
        self.seconds: float = float(timeout)
        """The limit that runs out then, for the error."""
        self._whole = self.at, self.seconds
        if self.phases is not None:
            self._begin_phase(self.phases.connect)

    def connected(self) -> None:
        """There is a connection."""
        if self.phases is not None:
            self._begin_phase(self.phases.head)

    def received(self) -> None:
        """The head has come, or a piece of the body."""
        if self.phases is not None:
            self._begin_phase(self.phases.read)

    def _begin_phase(self, seconds: Optional[float]) -> None:
        limits = [self._whole]
        if seconds is not None:
            limits.append((self._clock() + seconds, seconds))
        self.at, self.seconds = min(limits)


class RoundTrip:
    """A request on its way to the server, and the reply on its way back.

    If the driver has no connection for it in `connections`, it looks up the host that comes first
    on the route, and carries out `connect`. Then it carries out `read_response`, or `read_head` if
    the body is to stay open, until the time of the `deadline`. They raise `NETWORK_ERRORS`.

    Attributes:
        route: how it gets to the server.
        exchange: what it says there and hears; made before, so nothing connects for a request
            that cannot be sent.
        deadline: when it must be back.
        connections: the connection that it uses, until that is given away.
        sockets: those that are connecting.

    """

    __slots__ = ("connections", "deadline", "exchange", "route", "sockets")

    def __init__(
        self, route: Route, exchange: Exchange, timeout: float, clock: Callable[[], float]
    ) -> None:
        self.route = route
        self.exchange = exchange
        self.deadline = AttemptDeadline(timeout, clock)
        self.connections: Owned[Connection] = Owned()
        self.sockets: Owned[socket.socket] = Owned()

    def connect(self, found: Sequence[Any], tls: TlsContext) -> IOSteps[None]:
        """Connect to one of the addresses that the lookup has found."""
        route = self.route
        scheme, host, _ = route.first_hop
        with proxy_errors(route):
            wire = Wire((yield from connect_any(found, self.sockets)))
            if scheme == "https":
                wire = yield from _start_tls(wire, tls, host)
            if route.is_tunnel:
                yield from _open_tunnel(wire, route)
        if route.is_tunnel:
            wire = yield from _start_tls(wire, tls, route.origin.host)
        self.connections.append(Connection(wire, route.key))
        self.sockets.clear()

    def read_head(self) -> IOSteps[None]:
        """Send the request, and receive the head of its reply."""
        self.deadline.connected()
        return exchange_heads(self.connections[0].wire, self.exchange)

    def read_response(self) -> IOSteps[Response]:
        """Send the request, and receive the whole reply."""
        yield from self.read_head()
        wire, exchange = self.connections[0].wire, self.exchange
        parts: List[bytes] = []
        while True:
            data = exchange.take()
            if data is None:
                self.deadline.received()
                yield wire.readable
                receive(wire, exchange)
            elif data:
                parts.append(data)
                if exchange.has_more:
                    yield TURN
            else:
                head = exchange.final_head
                return Response(head.status, head.headers, b"".join(parts))


@contextmanager
def proxy_errors(route: Route) -> Generator[None, None, None]:
    """What goes wrong in this block is the fault of the route's proxy, if it has one."""
    try:
        yield
    except (OSError, ValueError) as error:
        if route.proxy is None:
            raise
        raise ConnectionError(f"proxy {route.proxy.url}: {error}") from error


def exchange_heads(wire: Wire, exchange: Exchange) -> IOSteps[None]:
    """Send the request, and receive until the head of the reply is there.

    Raises `OSError`, and `ReplyError` for a head that is none.
    """
    while exchange.unsent:
        count, early = 0, None
        try:
            count = wire.send(exchange.unsent)
        except OSError:
            # A server may answer and hang up before it has read a long request to its end.
            if exchange.finished:
                return
            early = wire.receive()
            if not early:
                raise
        if early:  # read here, so that no frame that holds it comes along with a `ReplyError`
            exchange.bytes_received(early)
            break
        exchange.bytes_sent(count)
        if not count:
            if exchange.head is None:
                yield IOWait(Readiness.EITHER, (wire.sock,))
                receive(wire, exchange)
            else:
                yield wire.writable
            if exchange.head is not None and exchange.head.status >= 300:
                return  # the rest is not wanted (RFC 9112, 9.3)
    while exchange.head is None:
        yield wire.readable
        receive(wire, exchange)


def receive(wire: Wire, exchange: Exchange) -> None:
    """Pass on to `exchange` what has arrived, if anything has.

    Raises `OSError`, and `ReplyError` for a head that is none.
    """
    data = wire.receive()
    if data:
        exchange.bytes_received(data)
    if wire.end is not None or data == b"":
        exchange.connection_ended(wire.end or "")


def _start_tls(outer: Wire, tls: TlsContext, host: str) -> IOSteps[Wire]:
    from flowmaestro_transports.http11.tls_wire import TlsWire

    try:
        context = tls()
    except OSError as error:  # the environment names a file that cannot be read
        number = getattr(error.__cause__ or error, "errno", None)
        permanent = number not in (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
        raise TransportFailure(Phase.NOT_SENT, str(error), permanent=permanent) from error
    wire = TlsWire(outer, context, host)
    yield from wire.handshake()
    return wire


def _open_tunnel(wire: Wire, route: Route) -> IOSteps[None]:
    """Have the proxy connect us to the origin (CONNECT, RFC 9110, 9.3.6).

    Only the proxy sees its credentials.
    """
    target = route.origin.host_and_port
    fields = Headers((("Host", target), *route.credentials.pairs))
    exchange = Exchange(RequestWriter(fields), Request("CONNECT", "", Headers()), target)
    yield from exchange_heads(wire, exchange)
    head = exchange.head
    if head is None or not 200 <= head.status < 300:
        raise ConnectionRefusedError(f"CONNECT was answered with status {head and head.status}")
