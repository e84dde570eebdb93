"""`SocketTransport`: HTTP/1.1 for threads.

May touch: the network. It starts no thread, follows no redirects, keeps no cookies and reads no
credentials; of the environment, only what `tls` and `proxies` name counts.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Callable, Optional, TypeVar

from flowmaestro_core.http.messages import Request, Response
from flowmaestro_transports.arguments import network_options
from flowmaestro_transports.contract import (
    InterruptibleTransport,
    OpenResponse,
    Transport,
    dice_of,
)
from flowmaestro_transports.driving.fork_guard import NotPicklable, warn_unclosed
from flowmaestro_transports.http11.routes import Routes
from flowmaestro_transports.http11.tls import ClientCert, Verify
from flowmaestro_transports.sockets.body import SocketOpenResponse
from flowmaestro_transports.sockets.calls import Calls
from flowmaestro_transports.sockets.steps import Step

T = TypeVar("T")


class SocketTransport(NotPicklable):
    """A `Transport` on plain sockets. Safe to use from several threads.

    At most `max_connections` calls are on their way at once, and others wait within their own time
    limits; a body that `open` has returned does not count. At most as many idle connections are
    kept, for 50 seconds each.

    `verify` and `client_cert` are what `tls_context` takes: whom to trust, and what to show.
    `proxy` is the URL of a proxy for every call, `http://user:password@host:3128` or
    `https://...`; without it, the environment names the proxies, as `Proxies` says. With
    `trust_env=False` nothing of the environment counts, for certificates either. All of it is
    settled here, once. No time limit cuts short the lookup of a name: it is one call of the
    operating system, in the caller's thread.

    A child after `os.fork` makes connections of its own, and leaves its parent's alone. An
    exception that a signal handler raises, `KeyboardInterrupt` for one, ends a call and breaks
    nothing.

    Raises `ValueError` for a `max_connections` below 1, `TypeError` for one that is no `int`,
    and what `tls_context` and `Proxies` raise.
    """

    def __init__(
        self,
        *,
        verify: Verify = True,
        client_cert: Optional[ClientCert] = None,
        proxy: Optional[str] = None,
        trust_env: bool = True,
        max_connections: int = 100,
    ) -> None:
        tls, proxies = network_options(verify, client_cert, proxy, trust_env, max_connections)
        self.secrets = proxies.secrets
        """What it sends to its proxies, which nobody is to see."""
        self._calls = Calls(max_connections, tls, Routes(proxies))
        self._at_hand = threading.local()

    def send(self, request: Request, timeout: float) -> Response:
        """As `Transport.send`. A body of more than 64 MiB, inflated, is a failure."""
        return self._calls.send(self._next_step(), request, timeout)

    def open(self, request: Request, timeout: float) -> SocketOpenResponse:
        """As `Transport.open`."""
        return self._calls.open(self._next_step(), request, timeout)

    def sleep(self, seconds: float) -> None:
        """As `Transport.sleep`. Raises `TransportClosedError` as soon as somebody closes."""
        self._calls.sleep(self._next_step(), seconds)

    def now(self) -> float:
        """As `Transport.now`."""
        return time.monotonic()

    def interruptible(self) -> InterruptibleTransport:
        """As `Interruptible.interruptible`. Nothing cuts short the lookup of a name."""
        return InterruptibleSockets(self, self._at_hand)

    def close(self) -> None:
        """As `Transport.close`. All that is under way wakes, but for the lookup of a name."""
        self._calls.close()

    def _next_step(self) -> Step:
        step: Optional[Step] = getattr(self._at_hand, "step", None)
        self._at_hand.step = None  # what a signal handler begins meanwhile is a step of its own
        return step or Step()

    def __del__(self) -> None:
        calls: Optional[Calls] = getattr(self, "_calls", None)
        if calls is not None and calls.abandon():
            warn_unclosed(self)


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
        self.random = dice_of(transport)
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
