"""What the round trips of one process share: idle connections, and bodies that are open.

A connection moves from one list to another in a single step of C, so an exception that a signal
handler raises never loses one between the two: it stays where it was, or has arrived. May touch:
sockets, the wall clock.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Dict, Hashable, List, Tuple, TypeVar
from weakref import ReferenceType

from flowmaestro_transports.contract import IDLE_SECONDS, Releasable
from flowmaestro_transports.driving.fork_guard import ForkGuard
from flowmaestro_transports.http11.round_trip import Connection, RoundTrip

T = TypeVar("T")


def move_last(source: List[T], to: List[T]) -> bool:
    """Move the last item of `source` to the end of `to`; False if there is none.

    No other thread and no signal handler sees it in both, or in neither.
    """
    try:
        to.extend(map(source.pop, (-1,)))
    except IndexError:
        return False
    return True


class IdleConnections:
    """At most `limit` connections that wait for their next exchange, each for `IDLE_SECONDS`.

    The wall clock counts: others stand still while the computer sleeps, and servers do not. Threads
    may share them.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._by_key: Dict[Hashable, List[Connection]] = {}

    def __len__(self) -> int:
        return sum(map(len, list(self._by_key.values())))

    def take(self, key: Hashable, into: List[Connection]) -> bool:
        """Move the connection for `key` that was used last, if one is still good."""
        stack = self._by_key.get(key)
        while stack and move_last(stack, into):
            connection = into[-1]
            fresh = 0 <= time.time() - connection.idle_since <= IDLE_SECONDS
            if fresh and connection.wire.is_silent():
                return True
            connection.close()
            into.pop()
        return False

    def keep(self, held: List[Connection]) -> None:
        """Keep the last of `held`, whose user is done with it."""
        if len(self) >= self._limit:
            self._close_oldest()
        connection = held[-1]
        connection.idle_since = time.time()
        move_last(held, self._by_key.setdefault(connection.key, []))

    def close(self) -> None:
        """Close them all."""
        for stack in list(self._by_key.values()):
            taken: List[Connection] = []
            while move_last(stack, taken):
                taken.pop().close()

    def _close_oldest(self) -> None:
        taken: List[Connection] = []
        with suppress(IndexError, ValueError):  # another thread took the last one
            stacks = [stack for stack in self._by_key.values() if stack]
            oldest = min(stacks, key=lambda stack: stack[0].idle_since)
            taken.extend(map(oldest.pop, (0,)))
        for connection in taken:
            connection.close()


class ConnectionPool:
    """At most `max_connections` idle connections, and all bodies that are open.

    A connection in use belongs to its user, which gives it back.
    """

    def __init__(self, max_connections: int) -> None:
        self.process = ForkGuard()
        self.idle = IdleConnections(max_connections)
        self.bodies: Dict[int, Tuple[ReferenceType[Releasable], List[Connection]]] = {}
        """The bodies that are open, by `id`, with their connections: these would else be garbage
        together with a body that nobody closed, and their sockets would warn before it is
        collected."""
        self.closed = False

    def end(self, trip: RoundTrip) -> None:
        """A round trip is over, whether it brought a reply or not. Twice is harmless."""
        self.give_back(trip.connections, trip.exchange.reusable)
        while trip.sockets:
            trip.sockets[-1].close()
            trip.sockets.pop()

    def give_back(self, held: List[Connection], reusable: bool) -> None:
        """Keep the connection that is held if it may be used again; else close it."""
        if held and reusable:
            self.idle.keep(held)
            if self.closed:
                self.idle.close()
        while held:
            held[-1].close()
            held.pop()

    def close(self) -> None:
        """Close what is idle or open."""
        self.closed = True
        for reference, _ in list(self.bodies.values()):
            body = reference()
            if body is not None:
                body.release()
        self.idle.close()
