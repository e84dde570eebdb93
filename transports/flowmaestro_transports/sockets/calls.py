"""The calls of a transport on sockets, each in a step of its caller's.

May touch: the network.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Callable, Dict, TypeVar

from flowmaestro_core.http.messages import Phase, Request, Response, TransportClosedError
from flowmaestro_transports.http11.content_coding import MAX_BODY
from flowmaestro_transports.http11.exchange import Exchange
from flowmaestro_transports.http11.failures import (
    NETWORK_ERRORS,
    UNSENDABLE,
    closed,
    network_failure,
    too_slow,
    unsendable,
)
from flowmaestro_transports.http11.routes import Routes
from flowmaestro_transports.http11.tls import TlsContext
from flowmaestro_transports.sockets.attempt import Attempt
from flowmaestro_transports.sockets.body import SocketOpenResponse
from flowmaestro_transports.sockets.pool import Pool
from flowmaestro_transports.sockets.steps import Step, StepCut, TimeUp

T = TypeVar("T")
_Conclude = Callable[[Pool, Step, Attempt, Exchange], T]


class Calls:
    """Calls with one set of options, over a pool of the process that makes them."""

    def __init__(self, max_connections: int, tls: TlsContext, routes: Routes) -> None:
        self._max_connections = max_connections
        self._tls = tls
        self._routes = routes
        self._pools: Dict[int, Pool] = {}
        self._closed = False

    def send(self, step: Step, request: Request, timeout: float) -> Response:
        """As `Transport.send`."""
        return self._attempt(step, request, timeout, MAX_BODY, _whole)

    def open(self, step: Step, request: Request, timeout: float) -> SocketOpenResponse:
        """As `Transport.open`."""
        return self._attempt(step, request, timeout, sys.maxsize, _opened)

    def sleep(self, step: Step, seconds: float) -> None:
        """As `Transport.sleep`; returns early when the step is cut short."""
        pool, until = self._pool(), time.monotonic() + seconds
        try:
            try:
                pool.begin(step)
                while step.wait(until):
                    pass
            except StepCut:
                if pool.closed:
                    raise TransportClosedError from None
            finally:
                pool.end(step)
        finally:
            pool.end(step)  # once more: an exception may have come into the first time

    def close(self) -> None:
        """As `Transport.close`."""
        self._closed = True
        self._pool().close()

    def abandon(self) -> bool:
        """Close what is idle; whether this process had anything. For a transport that is gone."""
        holds_connections = False
        for number, pool in self._pools.items():
            if number == os.getpid() and len(pool.idle):
                holds_connections = True
            pool.idle.close()
        return holds_connections

    def _attempt(
        self, step: Step, request: Request, timeout: float, limit: int, conclude: _Conclude[T]
    ) -> T:
        pool = self._pool()
        attempt = Attempt(pool, step, timeout)
        try:
            try:
                pool.begin(step)
                route, target = self._routes.find(request.url)
                exchange = attempt.reach_head(route, request, target, limit, self._tls)
                return conclude(pool, step, attempt, exchange)
            except StepCut:
                if pool.closed and attempt.phase is Phase.NOT_SENT:
                    raise TransportClosedError from None
                raise closed(attempt.phase) from None
            except TimeUp:
                raise too_slow(attempt.phase, attempt.limit) from None
            except NETWORK_ERRORS as error:
                raise network_failure(attempt.phase, error) from error
            except UNSENDABLE:
                raise unsendable() from None
            finally:
                pool.end(step)
        finally:
            pool.end(step)  # once more: an exception may have come into the first time

    def _pool(self) -> Pool:
        """The pool of this process: a child after `os.fork` has one of its own."""
        number = os.getpid()
        pool = self._pools.get(number)
        if pool is None:
            for other in list(self._pools):
                if other != number:
                    self._pools.pop(other).idle.close()
            pool = self._pools.setdefault(number, Pool(self._max_connections))
            pool.closed = self._closed
        return pool


def _whole(_pool: Pool, _step: Step, attempt: Attempt, exchange: Exchange) -> Response:
    content = attempt.body(exchange)
    return Response(exchange.final_head.status, exchange.final_head.headers, content)


def _opened(pool: Pool, step: Step, _attempt: Attempt, exchange: Exchange) -> SocketOpenResponse:
    body = SocketOpenResponse(pool, step, exchange)
    if pool.closed:  # at the very moment when the head came
        raise StepCut
    return body
