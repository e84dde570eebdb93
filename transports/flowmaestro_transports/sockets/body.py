"""The open body of a reply on a socket: read with patience, closed by any thread."""

from __future__ import annotations

import time
from typing import List, Optional
from weakref import ref

from flowmaestro_core.http.messages import Headers, Phase, TransportFailure
from flowmaestro_transports.driving.fork_guard import of_the_parent
from flowmaestro_transports.http11.connection import Connection, receive
from flowmaestro_transports.http11.exchange import Exchange
from flowmaestro_transports.http11.failures import NETWORK_ERRORS, closed, network_failure
from flowmaestro_transports.http11.pool import move_last
from flowmaestro_transports.sockets.pool import Pool
from flowmaestro_transports.sockets.steps import Step, StepCut


class SocketOpenResponse:
    """A reply whose body is still open: an `OpenResponse`. It takes over the step's connection.

    One thread reads at a time; any thread may close it. The connection is in `_resting` while
    nobody reads. The thread that moves it out of there owns it: a reader until it has read, or
    the thread that closes the body.
    """

    def __init__(self, pool: Pool, opening: Step, exchange: Exchange) -> None:
        self.status: int = exchange.final_head.status
        self.headers: Headers = exchange.final_head.headers
        self._pool = pool
        self._step = Step()
        self._step.free_wakers = pool.wakers
        self._exchange = exchange
        self._resting: List[Connection] = []
        self._over = False  # it has ended, is broken, or was closed
        self._ended = False
        self._failure = ""
        pool.bodies[id(self)] = ref(self), self._resting
        move_last(opening.connections, self._resting)
        if pool.closed:  # only now: what is noted later, no `close` closes
            self.close()

    def read(self, patience: float) -> Optional[bytes]:
        """As `OpenResponse.read`. Raises `RuntimeError` while another thread is reading.

        After an exception other than `TransportFailure`, such as `KeyboardInterrupt`, the body
        is closed, since bytes of it may be lost.
        """
        if self._pool.process.forked:
            raise of_the_parent()
        held: List[Connection] = []
        try:
            try:
                return self._read(patience, held)
            finally:
                self._put_down(held)
        finally:
            self._put_down(held)  # once more: an exception may have come into the first time

    def close(self) -> None:
        """As `OpenResponse.close`."""
        self._over = True
        held: List[Connection] = []
        try:
            if not self._pool.process.forked:
                self._step.cut()  # a reader lets go by itself
            move_last(self._resting, held)
        finally:
            self._let_go(held)

    def __del__(self) -> None:
        if getattr(self, "_resting", None):
            self.close()

    def _read(self, patience: float, held: List[Connection]) -> Optional[bytes]:
        if not move_last(self._resting, held):
            return self._without_connection()
        wire, exchange = held[0].wire, self._exchange
        until = time.monotonic() + patience
        over = True
        try:
            data = exchange.take()
            if data is None and patience <= 0:
                receive(wire, exchange)
                data = exchange.take()
            while data is None and self._step.wait(until, wire.sock):
                receive(wire, exchange)
                data = exchange.take()
            over = self._ended = data == b""
        except StepCut:
            raise closed(Phase.REPLY_BROKEN) from None
        except NETWORK_ERRORS as error:
            failure = network_failure(Phase.REPLY_BROKEN, error)
            self._failure = failure.message
            raise failure from error
        finally:
            self._over = self._over or over
        return data

    def _without_connection(self) -> bytes:
        if self._ended:
            return b""
        if not self._over:
            raise RuntimeError("another thread is reading this body")
        if self._failure:
            raise TransportFailure(Phase.REPLY_BROKEN, self._failure)
        raise closed(Phase.REPLY_BROKEN)

    def _put_down(self, held: List[Connection]) -> None:
        """The end of a read that may hold the connection."""
        if held:
            self._step.let_go_of_waker()
            if not self._over:
                move_last(held, self._resting)
            if self._over:  # `close` may have come in between, and found nothing
                move_last(self._resting, held)
                self._let_go(held)

    def _let_go(self, held: List[Connection]) -> None:
        self._pool.give_back(held, self._exchange)
        self._pool.bodies.pop(id(self), None)
