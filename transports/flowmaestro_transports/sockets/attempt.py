"""One attempt: a slot, a connection, the request out and the reply in, all before one deadline.

May touch: the network, the monotonic clock.
"""

from __future__ import annotations

import socket
import time
from typing import Generator, List, TypeVar

from flowmaestro_core.http.messages import Phase, Request
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
from flowmaestro_transports.http11.wire import TcpWire, Want
from flowmaestro_transports.sockets.dialing import dial
from flowmaestro_transports.sockets.pool import Pool
from flowmaestro_transports.sockets.steps import Step, StepCut, TimeUp

T = TypeVar("T")


class Attempt:
    """An attempt that begins now. What it holds is in `step`, for `Pool.end` to release."""

    def __init__(self, pool: Pool, step: Step, timeout: float) -> None:
        self._pool = pool
        self._step = step
        self._deadline = AttemptDeadline(timeout, time.monotonic())

    @property
    def phase(self) -> Phase:
        """How far it has come."""
        exchange = self._step.exchange
        return Phase.NOT_SENT if exchange is None else exchange.phase

    @property
    def limit(self) -> float:
        """The seconds after which `TimeUp` is raised."""
        return self._deadline.seconds

    def reach_head(
        self, route: Route, request: Request, target: str, limit: int, tls: TlsContext
    ) -> Exchange:
        """Send the request, and receive the head of its reply.

        Raises `NETWORK_ERRORS`, `UNSENDABLE`, `StepCut` and `TimeUp`, as `body` does.
        """
        step, deadline = self._step, self._deadline
        if not self._pool.slots.take(step, deadline.at):
            raise TimeUp
        if step.was_cut or self._pool.closed:  # before it was this step's turn to be cut
            raise StepCut
        connection = self._pool.idle.take(route.key, time.monotonic(), step.connections)
        if connection is None:
            connection = self._connect(route, tls)
        now = time.monotonic()
        if now >= deadline.at:  # a kept connection has made nobody wait
            raise TimeUp
        deadline.connected(now)
        step.exchange = exchange = Exchange(route.writer, request, target, limit)
        self._drive(connection.wire.sock, exchange_heads(connection.wire, exchange))
        return exchange

    def body(self, exchange: Exchange) -> bytes:
        """The body behind the head, read to its end."""
        wire, deadline = self._step.connections[0].wire, self._deadline
        parts: List[bytes] = []
        deadline.received(time.monotonic())
        while True:
            data = exchange.take()
            if data is None:
                self._wait(wire.sock, Want.READABLE)
                receive(wire, exchange)
                deadline.received(time.monotonic())
            elif data:
                parts.append(data)
            else:
                return b"".join(parts)

    def _connect(self, route: Route, tls: TlsContext) -> Connection:
        step = self._step
        _, host, port = route.first_hop
        with blaming_the_proxy(route):
            sock = dial(step, host, port, self._deadline.at)
        connection = self._drive(sock, establish(TcpWire(sock), route, tls))
        step.connections.append(connection)
        step.sockets.clear()
        return connection

    def _drive(self, sock: socket.socket, steps: Generator[Want, None, T]) -> T:
        """Carry out steps on a socket, waiting as they say."""
        try:
            while True:
                self._wait(sock, next(steps))
        except StopIteration as end:
            result: T = end.value
            return result

    def _wait(self, sock: socket.socket, want: Want) -> None:
        if self._step.wait(self._deadline.at, sock, want=want) is None:
            raise TimeUp
