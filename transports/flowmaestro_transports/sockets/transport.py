"""`SocketTransport`: HTTP/1.1 for threads, each call in a step of its caller's.

May touch: the network. It starts no thread, follows no redirects, keeps no cookies and reads no
credentials; of the environment, only what `tls` and `proxies` name counts.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from typing import Any, Callable, Dict, Optional, TypeVar

from flowmaestro_core.http.messages import Phase, Request, Response, TransportClosedError
from flowmaestro_transports.arguments import NetworkTransport
from flowmaestro_transports.contract import (
    InterruptibleTransport,
    OpenResponse,
    Transport,
    random_source_of,
)
from flowmaestro_transports.driving.fork_guard import quiet_at_exit, warn_unclosed
from flowmaestro_transports.http11.content_coding import MAX_BODY
from flowmaestro_transports.http11.dialing import literal
from flowmaestro_transports.http11.exchange import Exchange
from flowmaestro_transports.http11.failures import (
    NETWORK_ERRORS,
    closed,
    network_failure,
    too_slow,
)
from flowmaestro_transports.http11.round_trip import RoundTrip, blaming_the_proxy
from flowmaestro_transports.sockets.body import SocketOpenResponse
from flowmaestro_transports.sockets.pool import Pool
from flowmaestro_transports.sockets.steps import Step, StepCut, TimeUp

T = TypeVar("T")
_Conclude = Callable[[Pool, Step, RoundTrip], T]


class SocketTransport(NetworkTransport):
    """A `Transport` on plain sockets. Safe to use from several threads.

    At most `max_connections` calls are on their way at once, and others wait within their own time
    limits; a body that `open` has returned does not count. At most as many idle connections are
    kept, for 50 seconds each.

    `verify` and `client_cert` are what `tls_when_needed` takes: whom to trust, and what to show.
    `proxy` is the URL of a proxy for every call, `http://user:password@host:3128` or
    `https://...`; without it, the environment names the proxies, as `Proxies` says. With
    `trust_env=False` nothing of the environment counts, for certificates either. All of it is
    settled here, once, but for the certificates that the environment names: they are looked at when
    TLS is first needed. No time limit cuts short the lookup of a name: it is one call of the
    operating system, in the caller's thread.

    A child after `os.fork` makes connections of its own, and leaves its parent's alone. An
    exception that a signal handler raises, `KeyboardInterrupt` for one, ends a call and breaks
    nothing.

    Raises `ValueError` for a `max_connections` below 1, `TypeError` for one that is no `int`,
    and what `tls_when_needed` and `Proxies` raise.
    """

    _at_hand: Optional[threading.local] = None

    def _settle(self) -> None:
        self._pools: Dict[int, Pool] = {}

    def send(self, request: Request, timeout: float) -> Response:
        """As `Transport.send`. A body of more than 64 MiB, inflated, is a failure."""
        return self._round_trip(request, timeout, MAX_BODY, _whole)

    def open(self, request: Request, timeout: float) -> SocketOpenResponse:
        """As `Transport.open`."""
        return self._round_trip(request, timeout, sys.maxsize, _opened)

    def sleep(self, seconds: float) -> None:
        """As `Transport.sleep`. Raises `TransportClosedError` as soon as somebody closes."""
        step, pool, until = self._next_step(), self._pool(), time.monotonic() + seconds
        try:
            try:
                pool.begin(step)
                while step.wait(until):
                    pass
            except StepCut:
                if pool.closed:
                    raise TransportClosedError from None
            finally:
                pool.end_step(step)
        finally:
            pool.end_step(step)  # once more: an exception may have come into the first time

    now = staticmethod(time.monotonic)
    """As `Transport.now`."""

    def interruptible(self) -> InterruptibleTransport:
        """As `Interruptible.interruptible`. Nothing cuts short the lookup of a name."""
        # Of several threads that make it at once, all get the same.
        return InterruptibleSockets(self, vars(self).setdefault("_at_hand", threading.local()))

    def close(self) -> None:
        """As `Transport.close`. All that is under way wakes, but for the lookup of a name."""
        self._closed = True
        self._pool().close()

    def _round_trip(
        self, request: Request, timeout: float, limit: int, conclude: _Conclude[T]
    ) -> T:
        step, pool = self._next_step(), self._pool()
        route, target = self._routes.find(request.url)
        exchange = Exchange(route.writer, request, target, limit)
        trip = RoundTrip(route, exchange, timeout, time.monotonic)
        try:
            try:
                pool.begin(step)
                self._prepare(pool, step, trip)
                return conclude(pool, step, trip)
            except StepCut:
                if pool.closed and exchange.phase is Phase.NOT_SENT:
                    raise TransportClosedError from None
                raise closed(exchange.phase) from None
            except TimeUp:
                raise too_slow(exchange.phase, trip.deadline.seconds) from None
            except NETWORK_ERRORS as error:
                raise network_failure(exchange.phase, error) from error
            finally:
                pool.end_step(step, trip)
        finally:
            pool.end_step(step, trip)  # once more: an exception may have come into the first time

    def _prepare(self, pool: Pool, step: Step, trip: RoundTrip) -> None:
        """Wait for a slot and a connection."""
        route, deadline = trip.route, trip.deadline
        if not pool.slots.take(step, deadline.at):
            raise TimeUp
        if step.was_cut or pool.closed:  # before it was this step's turn to be cut
            raise StepCut
        if not pool.idle.take(route.key, trip.connections):
            _, host, port = route.first_hop
            with blaming_the_proxy(route):
                # Without names of parameters, which what others put in its place may not have.
                found = literal(host, port) or socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
            step.carry_out(trip.connect(found, self._tls), deadline)
        if time.monotonic() >= deadline.at:  # a kept connection has made nobody wait
            raise TimeUp

    def _next_step(self) -> Step:
        at_hand = self._at_hand
        step: Optional[Step] = getattr(at_hand, "step", None)
        if at_hand is not None:
            at_hand.step = None  # what a signal handler begins meanwhile is a step of its own
        return step or Step()

    def _pool(self) -> Pool:
        """The pool of this process: a child after `os.fork` has one of its own."""
        number = os.getpid()
        pool = self._pools.get(number)
        if pool is None:
            for other, inherited in list(self._pools.items()):
                if other != number:
                    inherited.idle.close()
                    self._pools.pop(other, None)  # another thread may have been faster
            pool = Pool(self._max_connections)
            pool.closed = self._closed  # before a `close` in another thread can find it
            pool = self._pools.setdefault(number, pool)
        return pool

    @quiet_at_exit
    def __del__(self) -> None:
        for number, pool in getattr(self, "_pools", {}).items():
            holds_connections = len(pool.idle)
            pool.idle.close()
            if holds_connections and number == os.getpid():
                warn_unclosed(self)


def _whole(_pool: Pool, step: Step, trip: RoundTrip) -> Response:
    return step.carry_out(trip.bring_reply(), trip.deadline)


def _opened(pool: Pool, step: Step, trip: RoundTrip) -> SocketOpenResponse:
    step.carry_out(trip.reach_head(), trip.deadline)
    return SocketOpenResponse(pool, trip)


class InterruptibleSockets:
    """A `SocketTransport` for one user: see `InterruptibleTransport`.

    It goes by the methods of the transport, which a subclass may have overridden. What they begin
    is begun in the step that this thread has `at_hand`.
    """

    def __init__(self, transport: Transport, at_hand: threading.local) -> None:
        self.now = transport.now
        """As `Transport.now`."""
        self.close = transport.close
        """As `Transport.close`."""
        self.random = random_source_of(transport)
        self._transport = transport
        self._at_hand = at_hand
        self._step = Step()

    def interrupt(self) -> None:
        """As `InterruptibleTransport.interrupt`."""
        self._step.cut()

    def send(self, request: Request, timeout: float) -> Response:
        """As `Transport.send`."""
        return self._interruptibly(self._transport.send, request, timeout)

    def open(self, request: Request, timeout: float) -> OpenResponse:
        """As `Transport.open`."""
        return self._interruptibly(self._transport.open, request, timeout)

    def sleep(self, seconds: float) -> None:
        """As `Transport.sleep`."""
        self._interruptibly(self._transport.sleep, seconds)

    def _interruptibly(self, begin: Callable[..., T], *args: Any) -> T:
        at_hand = self._at_hand
        try:
            try:
                at_hand.step = self._step
                return begin(*args)
            finally:
                at_hand.step = None
        finally:
            at_hand.step = None  # once more: an exception may have come into the first time
