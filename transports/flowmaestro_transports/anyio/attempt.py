"""One attempt: a connection, the request out and the reply in, all within one cancel scope.

May touch: the network.
"""

from __future__ import annotations

import time
from typing import List, Optional

import anyio

from flowmaestro_core.http.messages import Phase, Request
from flowmaestro_core.timeouts import Timeout
from flowmaestro_transports.anyio.dialing import dial
from flowmaestro_transports.anyio.pool import Pool
from flowmaestro_transports.anyio.steps import carry_out
from flowmaestro_transports.http11.connection import (
    Connection,
    blaming_the_proxy,
    establish,
    exchange_heads,
    receive,
)
from flowmaestro_transports.http11.deadline import AttemptDeadline
from flowmaestro_transports.http11.exchange import Exchange
from flowmaestro_transports.http11.routes import Route
from flowmaestro_transports.http11.tls import TlsContext
from flowmaestro_transports.http11.wire import TcpWire


class Attempt:
    """An attempt that begins now.

    Attributes:
        held: the connection that it uses, until it is given away.
        exchange: what goes on on the connection.
        scope: cancels it at its deadline.

    """

    def __init__(self, pool: Pool, timeout: float) -> None:
        self.held: List[Connection] = []
        self.exchange: Optional[Exchange] = None
        self._pool = pool
        self._deadline = AttemptDeadline(timeout, anyio.current_time())
        self.scope = anyio.CancelScope(deadline=self._deadline.at)
        self._has_phases = isinstance(timeout, Timeout)

    @property
    def phase(self) -> Phase:
        """How far it has come."""
        return Phase.NOT_SENT if self.exchange is None else self.exchange.phase

    @property
    def limit(self) -> float:
        """The seconds after which the scope cancels."""
        return self._deadline.seconds

    async def reach_head(
        self, route: Route, request: Request, target: str, limit: int, tls: TlsContext
    ) -> Exchange:
        """Send the request, and receive the head of its reply.

        Raises `NETWORK_ERRORS` and `UNSENDABLE`, as `body` does.
        """
        connection = self._pool.idle.take(route.key, time.monotonic(), self.held)
        if connection is None:
            connection = await self._connect(route, tls)
        if self._has_phases:
            self._deadline.connected(anyio.current_time())
            self.scope.deadline = self._deadline.at
        self.exchange = exchange = Exchange(route.writer, request, target, limit)
        await carry_out(exchange_heads(connection.wire, exchange), connection.wire.sock)
        return exchange

    async def body(self, exchange: Exchange) -> bytes:
        """The body behind the head, read to its end."""
        wire = self.held[0].wire
        parts: List[bytes] = []
        while True:
            data = exchange.take()
            if data is None:
                if self._has_phases:
                    self._deadline.received(anyio.current_time())
                    self.scope.deadline = self._deadline.at
                await anyio.wait_readable(wire.sock)  # which lets other tasks run
                receive(wire, exchange)
            elif data:
                parts.append(data)
            else:
                return b"".join(parts)

    async def _connect(self, route: Route, tls: TlsContext) -> Connection:
        _, host, port = route.first_hop
        with blaming_the_proxy(route):
            wire = TcpWire(await dial(host, port))
        try:
            connection = await carry_out(establish(wire, route, tls), wire.sock)
        except BaseException:
            wire.close()
            raise
        self.held.append(connection)
        return connection
