"""How a connection is made of a socket, and carries one exchange after another.

Each function gives the steps of its work: the driver waits for what a step says, and goes on. May
touch: the socket that it is given.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Generator, Hashable

from flowmaestro_core.http.messages import Headers, Request
from flowmaestro_transports.http11.exchange import Exchange, RequestWriter
from flowmaestro_transports.http11.routes import Route
from flowmaestro_transports.http11.tls import TlsContext
from flowmaestro_transports.http11.wire import Steps, TcpWire, Want, Wire


class Connection:
    """A connection for whatever has the `key`. It belongs to one user at a time.

    Attributes:
        wire: what moves its bytes.
        key: which requests it may carry (`Route.key`).
        idle_since: when it was put aside, on the clock of its pool.

    """

    __slots__ = ("idle_since", "key", "wire")

    def __init__(self, wire: Wire, key: Hashable) -> None:
        self.wire = wire
        self.key = key
        self.idle_since = 0.0

    def dropped(self) -> bool:
        """Of an idle one: whether the server has closed it, or spoken out of turn."""
        try:
            return self.wire.receive() is not None
        except OSError:
            return True

    def close(self) -> None:
        """Close at once. Closing twice is harmless."""
        self.wire.close()


@contextmanager
def blaming_the_proxy(route: Route) -> Generator[None, None, None]:
    """What goes wrong in this block is the fault of the route's proxy, if it has one."""
    try:
        yield
    except (OSError, ValueError) as error:
        if route.proxy is None:
            raise
        raise ConnectionError(f"proxy {route.proxy.url}: {error}") from error


def establish(wire: TcpWire, route: Route, tls: TlsContext) -> Generator[Want, None, Connection]:
    """A connection for requests on `route`, made of a socket that has reached `route.first_hop`.

    Raises `OSError` (`ssl.SSLError` is one, and a tunnel that the proxy refuses), and `ValueError`
    for a name that cannot be one, or a proxy that does not speak HTTP.
    """
    hop: Wire = wire
    scheme, host, _ = route.first_hop
    with blaming_the_proxy(route):
        if scheme == "https":
            hop = yield from _start_tls(hop, tls, host)
        if route.is_tunnel:
            yield from _open_tunnel(hop, route)
    if route.is_tunnel:
        hop = yield from _start_tls(hop, tls, route.origin.host)
    return Connection(hop, route.key)


def exchange_heads(wire: Wire, exchange: Exchange) -> Steps:
    """Send the request, and receive until the head of the reply is there.

    Raises `OSError`, and `ReplyError` for a head that is none.
    """
    while exchange.unsent:
        count, early = 0, None
        try:
            count = wire.send(exchange.unsent)
        except OSError:
            # A server may answer and hang up before it has read a long request to its end.
            early = wire.receive()
            if not early:
                raise
        if early:  # read here, so that no frame that holds it comes along with a `ReplyError`
            exchange.bytes_received(early)
            break
        exchange.bytes_sent(count)
        if not count:
            yield Want.EITHER if exchange.head is None else Want.WRITABLE
            if exchange.head is None:
                receive(wire, exchange)
            if exchange.head is not None and exchange.head.status >= 300:
                return  # the rest is not wanted (RFC 9112, 9.3)
    while exchange.head is None:
        yield Want.READABLE
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


def _start_tls(outer: Wire, tls: TlsContext, host: str) -> Generator[Want, None, Wire]:
    from flowmaestro_transports.http11.tls_wire import TlsWire

    wire = TlsWire(outer, tls(), host)
    yield from wire.handshake()
    return wire


def _open_tunnel(wire: Wire, route: Route) -> Steps:
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
