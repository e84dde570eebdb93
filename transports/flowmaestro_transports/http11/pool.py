"""What the round trips of one process share: idle connections, and bodies that are open.

Each connection has one owner at any moment (`Owned`). May touch: sockets, the wall clock.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Dict, Hashable, Tuple
from weakref import ReferenceType

from flowmaestro_transports.contract import IDLE_SECONDS, Releasable
from flowmaestro_transports.driving.fork_guard import ForkGuard
from flowmaestro_transports.driving.ownership import Owned
from flowmaestro_transports.http11.round_trip import Connection, RoundTrip


class IdleConnections:
    """At most `limit` connections that wait for their next exchange, each for `IDLE_SECONDS`.

    The wall clock counts: others stand still while the computer sleeps, and servers do not. Threads
    may share them.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._by_key: Dict[Hashable, Owned[Connection]] = {}

    def __len__(self) -> int:
        return sum(map(len, list(self._by_key.values())))

    def take(self, key: Hashable, into: Owned[Connection]) -> bool:
        """Move the connection for `key` that was used last, if one is still good."""
        stack = self._by_key.get(key)
        while stack and stack.move_to(into):
            connection = into[-1]
            fresh = 0 <= time.time() - connection.idle_since <= IDLE_SECONDS
            if fresh and connection.wire.is_silent():
                return True
            connection.close()
            into.pop()
        return False

    def keep(self, held: Owned[Connection]) -> None:
        """Keep the last of `held`, whose user is done with it."""
        if len(self) >= self._limit:
            self._close_oldest()
        connection = held[-1]
        connection.idle_since = time.time()
        held.move_to(self._by_key.setdefault(connection.key, Owned()))

    def close(self) -> None:
        """Close them all."""
        for stack in list(self._by_key.values()):
            taken: Owned[Connection] = Owned()
            while stack.move_to(taken):
                taken.close_all()

    def _close_oldest(self) -> None:
        taken: Owned[Connection] = Owned()
        with suppress(IndexError, ValueError):  # another thread took the last one
            stacks = [stack for stack in self._by_key.values() if stack]
            min(stacks, key=lambda stack: stack[0].idle_since).move_to(taken, 0)
        taken.close_all()


class ConnectionPool:
    """At most `max_connections` idle connections, and all bodies that are open.

    A connection in use belongs to its user, which gives it back.
    """

    def __init__(self, max_connections: int) -> None:
        self.process = ForkGuard()
        self.idle = IdleConnections(max_connections)
        self.bodies: Dict[int, Tuple[ReferenceType[Releasable], Owned[Connection]]] = {}
        """The bodies that are open, by `id`, with their connections: these would else be garbage
        together with a body that nobody closed, and their sockets would warn before it is
        collected."""
        self.closed = False

    def end(self, trip: RoundTrip) -> None:
        """A round trip is over, whether it brought a reply or not. Twice is harmless."""
        self.give_back(trip.connections, trip.exchange.reusable)
        trip.sockets.close_all()

    def give_back(self, held: Owned[Connection], reusable: bool) -> None:
        """Keep the connection that is held if it may be used again; else close it."""
        if held and reusable:
            self.idle.keep(held)
            if self.closed:
                self.idle.close()
        held.close_all()

    def close(self) -> None:
        """Close what is idle or open."""
        self.closed = True
        for reference, _ in list(self.bodies.values()):
            body = reference()
            if body is not None:
                body.release()
        self.idle.close()
