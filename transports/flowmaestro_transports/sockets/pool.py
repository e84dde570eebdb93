"""What the calls of one process share: slots, idle connections, and the steps under way."""

from __future__ import annotations

import time
from typing import Dict, List, Optional, Protocol, Set, Tuple, TypeVar
from weakref import ReferenceType

from flowmaestro_core.http.messages import TransportClosedError
from flowmaestro_transports.driving.fork_guard import ForkGuard
from flowmaestro_transports.http11.connection import Connection
from flowmaestro_transports.http11.exchange import Exchange
from flowmaestro_transports.http11.pool import IdleConnections
from flowmaestro_transports.sockets.slots import Slots
from flowmaestro_transports.sockets.steps import Step, Waker


class Pool:
    """At most `max_connections` calls at once, and at most as many idle connections.

    There is no lock. Whatever a thread is at is a `Step`, which `begin` notes and `end` clears.
    """

    def __init__(self, max_connections: int) -> None:
        self.process = ForkGuard()
        self.slots = Slots(max_connections)
        self.idle = IdleConnections(max_connections)
        self.wakers: List[Waker] = []
        """Those that no step uses just now."""
        self.bodies: Dict[int, Tuple[ReferenceType[Closable], List[Connection]]] = {}
        """The bodies that are open, by `id`; `close` closes them. With their connections: these
        would else be garbage together with a body that nobody closed, and their sockets would
        warn before it is collected."""
        self.closed = False
        self._steps: Set[Step] = set()

    def begin(self, step: Step) -> None:
        """A thread begins a step. Raises `TransportClosedError`."""
        step.free_wakers = self.wakers
        step.exchange = None
        self._steps.add(step)
        if self.closed:  # only now: what is noted later, no `close` cuts short
            raise TransportClosedError

    def end(self, step: Step) -> None:
        """A step is over, whether it did what it should or not. Twice is harmless."""
        if step not in self._steps:
            return
        self.give_back(step.connections, step.exchange)
        _close_all(step.sockets)
        self.slots.give_back(step)
        step.let_go_of_waker()
        if self.closed:
            self.wakers.clear()
        self._steps.discard(step)

    def give_back(self, held: List[Connection], exchange: Optional[Exchange]) -> None:
        """Keep the connection that is held if its last exchange allows that; else close it."""
        if held and exchange is not None and exchange.reusable and not self.process.forked:
            self.idle.keep(held, time.monotonic())
            if self.closed:
                self.idle.close()
        _close_all(held)

    def close(self) -> None:
        """Close what is idle or open, and cut short every step."""
        self.closed = True
        for step in list(self._steps):
            step.cut()
        for reference, _ in list(self.bodies.values()):
            body = reference()
            if body is not None:
                body.close()
        self.idle.close()
        self.wakers.clear()


class Closable(Protocol):
    """What `Pool` closes."""

    def close(self) -> None: ...


C = TypeVar("C", bound=Closable)


def _close_all(owned: List[C]) -> None:
    while owned:
        owned[-1].close()
        owned.pop()
