"""What calls on one event loop share: slots that bound them, and connections kept alive.

A connection in use belongs to its user alone, which either returns or closes it; so the
pool does nothing with any but the idle ones.
"""

from __future__ import annotations

import time
from typing import List, Optional, Set
from weakref import WeakSet

import anyio

from flowmaestro_transports.contract import Releasable
from flowmaestro_transports.driving.fork_guard import ForkGuard
from flowmaestro_transports.http11.connection import Connection
from flowmaestro_transports.http11.exchange import Exchange
from flowmaestro_transports.http11.pool import IdleConnections


class Pool:
    """At most `max_connections` calls at once, and at most as many idle connections.

    `loop` is the event loop it belongs to, whatever anyio's backend takes for one.
    """

    def __init__(self, loop: object, max_connections: int) -> None:
        self.process = ForkGuard()
        self.slots = anyio.Semaphore(max_connections, fast_acquire=True)
        self.idle = IdleConnections(max_connections)
        self.calls: Set[anyio.CancelScope] = set()
        """The scopes of the calls in flight, and of pauses; `close` cancels them."""
        self.bodies: WeakSet[Releasable] = WeakSet()
        """The bodies that are open; `close` releases them."""
        self.streaming: Set[Connection] = set()
        """Their connections. They would else be garbage together with a body that nobody closed,
        and their sockets would warn before it is collected."""
        self.closed = False
        self._loop = loop

    def serves(self, loop: object) -> bool:
        """Whether it belongs to `loop`, and to this process."""
        return self._loop is loop and not self.process.forked

    def give_back(self, held: List[Connection], exchange: Optional[Exchange]) -> None:
        """Keep the connection that is held for the next call, or close it if that cannot be."""
        if held and exchange is not None and exchange.reusable and not self.closed:
            self.idle.keep(held, time.monotonic())
        while held:
            held.pop().close()

    def close(self) -> None:
        """Close what is idle, release the bodies and wake the calls, to close what they use."""
        self.abandon()
        for body in list(self.bodies):
            body.release()
        for scope in list(self.calls):
            scope.cancel()

    def abandon(self) -> None:
        """Close what is idle without touching the event loop, which may be gone or another's."""
        self.closed = True
        self.idle.close()
