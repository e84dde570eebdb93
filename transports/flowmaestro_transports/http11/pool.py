"""The idle connections and open bodies of one transport in one process.

May touch: sockets, the wall clock.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Dict, Hashable, List, Optional, Tuple
from weakref import ReferenceType

from flowmaestro_transports.contract import Releasable
from flowmaestro_transports.http11.round_trip import Connection, RoundTrip
from flowmaestro_transports.primitives.fork_guard import ForkGuard


class IdleConnections:
    """A pool of at most `limit` idle connections. Safe to use from several threads.

    A connection that was idle for more than `expiry` seconds is not reused. No timer closes it. It
    is closed when `take` finds it, when it is the oldest one and the pool gets one too many, or
    with the pool.

    The idle time is measured by the wall clock. Other clocks stand still while the computer sleeps,
    and servers close connections meanwhile.
    """

    def __init__(self, limit: int, expiry: float) -> None:
        self._limit = limit
        self._expiry = expiry
        self._by_key: Dict[Hashable, List[Connection]] = {}

    def __len__(self) -> int:
        return sum(map(len, list(self._by_key.values())))

    def take(self, key: Hashable) -> Optional[Connection]:
        """Return a connection for `key`. Return None if none can be reused.

        The connection that was stored last is tried first. If it is too old, or the server has
        closed it or sent bytes on it, it is closed, and the one before it is tried.
        """
        stack = self._by_key.get(key, [])
        while True:
            try:
                connection = stack.pop()
            except IndexError:
                return None
            fresh = 0 <= time.time() - connection.idle_since <= self._expiry
            if fresh and connection.wire.is_silent():
                return connection
            connection.close()

    def keep(self, connection: Connection) -> None:
        """Store a connection for reuse.

        If there are then more than `limit`, close those that were idle for longest.
        """
        connection.idle_since = time.time()
        self._by_key.setdefault(connection.key, []).append(connection)
        # Check after storing it: other threads may have stored theirs since the last check.
        while len(self) > self._limit:
            self._close_oldest()

    def close(self) -> None:
        """Close all idle connections."""
        for stack in list(self._by_key.values()):
            with suppress(IndexError):
                while True:
                    stack.pop().close()

    def _close_oldest(self) -> None:
        with suppress(IndexError, ValueError):  # Another thread took the last one.
            stacks = [stack for stack in self._by_key.values() if stack]
            min(stacks, key=lambda stack: stack[0].idle_since).pop(0).close()


class ConnectionPool:
    """At most `max_connections` idle connections, each for `expiry` seconds, and all open bodies.

    A round trip or a body owns its connection, and gives it back to the pool.
    """

    def __init__(self, max_connections: int, expiry: float) -> None:
        self.process: ForkGuard = ForkGuard()
        self.idle: IdleConnections = IdleConnections(max_connections, expiry)
        self.bodies: Dict[int, Tuple[ReferenceType[Releasable], List[Connection]]] = {}
        """The open bodies, by `id`, with their connections. Without this reference, a body that
        nobody closed would be garbage together with its connection, and the socket might be
        collected first, with a warning."""
        self.closed: bool = False
        self.retired: bool = False
        """Whether it stores no idle connections any more, although its calls go on."""

    def end(self, trip: RoundTrip) -> None:
        """Store the connection of a round trip for reuse, or close it: see `give_back`.

        Also close the sockets of a connection that is not ready yet. Call this whether the round
        trip succeeded or not; a second call has no effect.
        """
        connection, trip.connection = trip.connection, None
        if connection is not None:
            self.give_back(connection, trip.exchange.reusable)
        for sock in trip.sockets:
            sock.close()
        trip.sockets.clear()

    def give_back(self, connection: Connection, reusable: bool) -> None:
        """Store the connection for reuse, if it is `reusable` and the pool stores connections.

        Otherwise close it. A pool that is closed or retired stores none.
        """
        if not reusable:
            connection.close()
            return
        self.idle.keep(connection)
        if self.closed or self.retired:
            self.idle.close()

    def close(self) -> None:
        """Close idle connections and open bodies."""
        self.closed = True
        for reference, _ in list(self.bodies.values()):
            body = reference()
            if body is not None:
                body.release()
        self.idle.close()
