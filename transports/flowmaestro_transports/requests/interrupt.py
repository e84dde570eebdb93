"""Cutting short what a thread waits for on requests, from another thread.

A blocked thread is woken by what it blocks on: a pause by its event, an exchange by its
connection, which is shut down, be it connecting, in a TLS handshake or waiting for the head of
the reply. Only looking up a name, and waiting for one of `max_connections`, cannot be cut short.

A stream has a lever of its own; each thread has one for all its other steps. Closing the
transport pulls them all.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import weakref
from typing import Any, Callable, Generator, Optional, Protocol

from flowmaestro_core.http.messages import Request, Response
from flowmaestro_transports.contract import OpenResponse, Transport, wall_clock_of
from flowmaestro_transports.driving.fork_guard import ForkGuard
from flowmaestro_transports.requests.body import shut_down


class _Closable(Protocol):
    def close(self) -> None: ...


class Lever:
    """What another thread pulls to cut short the step that its owner is at, and all later ones."""

    def __init__(self) -> None:
        self._process = ForkGuard()
        self._pulled = False
        self._pause: Optional[threading.Event] = None
        self._holding = threading.RLock()  # what has been let go must not be shut down
        self._line: Any = None
        self._duplicate: Optional[socket.socket] = None
        self._body: Optional[_Closable] = None

    def pull(self) -> None:
        """Cut short. Pulling twice is harmless."""
        self._pulled = True
        if self._pause is not None:
            self._pause.set()
        if self._process.forked:  # the connection is the parent's, and in use
            return
        with self._holding:
            if self._line is not None:
                shut_down(self._line)
            if self._body is not None:
                self._body.close()

    def pause(self, seconds: float) -> None:
        """Let `seconds` pass, unless it is pulled."""
        self._pause = pause = threading.Event()  # before the look: the other side sets first
        if not self._pulled:
            pause.wait(seconds)

    def hold(self, sock: Any) -> None:
        """Reach this connection, until `let_go`. Raises `OSError` once it is pulled.

        The connection is held by a duplicate of its socket, which works beneath TLS that is yet
        to come, and outlives the original.
        """
        self.let_go()
        with self._holding:
            self._refuse_if_pulled()
            self._duplicate = socket.fromfd(sock.fileno(), socket.AF_INET, socket.SOCK_STREAM)
            self._line = self._duplicate

    def hold_kept(self, sock: Any) -> None:
        """As `hold`, but the socket itself, with TLS and all, which spares the duplicate.

        It must not be closed before `let_go`.
        """
        self.let_go()
        with self._holding:
            self._refuse_if_pulled()
            self._line = sock

    def hold_body(self, body: _Closable) -> None:
        """Reach this body, until `let_go`."""
        with self._holding:
            self._body = body
            if self._pulled:
                body.close()

    def let_go(self) -> None:
        """Reach nothing any more: what was held is not the step's own from here on."""
        if self._line is self._body is None:  # spares the lock
            return
        with self._holding:
            duplicate, self._duplicate, self._line, self._body = self._duplicate, None, None, None
        if duplicate is not None:
            duplicate.close()

    def _refuse_if_pulled(self) -> None:
        if self._pulled:
            raise ConnectionAbortedError("closed by this side")


class Levers:
    """All levers of one transport."""

    def __init__(self) -> None:
        self._made: weakref.WeakSet[Lever] = weakref.WeakSet()
        self._lock = threading.Lock()

    def make(self) -> Lever:
        """One more."""
        lever = Lever()
        with self._lock:
            self._made.add(lever)
        return lever

    def pull(self) -> None:
        """Pull each of them."""
        with self._lock:
            made = list(self._made)
        for lever in made:
            lever.pull()


class AtHand(threading.local):
    """The lever of the step that this thread is at: a stream's, or else the thread's own."""

    def __init__(self, make: Callable[[], Lever]) -> None:
        self.own = self.lever = make()


class InterruptibleRequests:
    """A transport on requests for one stream: see `InterruptibleTransport`."""

    def __init__(self, transport: Transport, at_hand: AtHand, lever: Lever) -> None:
        self.random = getattr(transport, "random", None)
        self.wall_clock = wall_clock_of(transport)
        self.now = transport.now
        """As `Transport.now`."""
        self._transport = transport
        self._at_hand = at_hand
        self._lever = lever

    def interrupt(self) -> None:
        """As `InterruptibleTransport.interrupt`."""
        self._lever.pull()

    def send(self, request: Request, timeout: float) -> Response:
        """As `Transport.send`."""
        with self._step():
            return self._transport.send(request, timeout)

    def open(self, request: Request, timeout: float) -> OpenResponse:
        """As `Transport.open`."""
        with self._step():
            return self._transport.open(request, timeout)

    def sleep(self, seconds: float) -> None:
        """As `Transport.sleep`."""
        with self._step():
            self._transport.sleep(seconds)

    def close(self) -> None:
        """As `Transport.close`."""
        self._transport.close()

    @contextlib.contextmanager
    def _step(self) -> Generator[None, None, None]:
        self._at_hand.lever = self._lever
        try:
            yield
        finally:
            self._at_hand.lever = self._at_hand.own
