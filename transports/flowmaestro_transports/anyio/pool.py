"""What calls on one event loop share: slots that bound them, and connections kept alive.

A connection in use belongs to its user alone, who either gives it back or closes it; so the
pool does nothing with any but the idle ones.
"""

from __future__ import annotations

import time
from typing import Dict, Hashable, List, Optional, Set
from weakref import WeakSet

import anyio

from flowmaestro_transports.anyio.connection import Connection
from flowmaestro_transports.contract import IDLE_SECONDS, Releasable
from flowmaestro_transports.driving.fork_guard import ForkGuard


class Pool:
    """At most `max_connections` calls at once, and at most as many idle connections.

    `loop` is the event loop it belongs to, whatever anyio's backend takes for one.
    """

    def __init__(self, loop: object, max_connections: int) -> None:
        self.process = ForkGuard()
        self._loop = loop
        self.slots = anyio.Semaphore(max_connections, fast_acquire=True)
        self.calls: Set[anyio.CancelScope] = set()
        """The scopes of the calls in flight, and of pauses; `close` cancels them."""
        self.bodies: WeakSet[Releasable] = WeakSet()
        """The bodies that are open; `close` releases them."""
        self.streaming: Set[Connection] = set()
        """Their connections. They would else be garbage together with a body that nobody closed,
        and their sockets would warn before it is collected."""
        self.closed = False
        self._max_idle = max_connections
        self._idle: Dict[Hashable, List[Connection]] = {}

    def serves(self, loop: object) -> bool:
        """Whether it belongs to `loop`, and to this process."""
        return self._loop is loop and not self.process.forked

    @property
    def idle_count(self) -> int:
        """How many connections are idle."""
        return sum(map(len, self._idle.values()))

    def take(self, key: Hashable) -> Optional[Connection]:
        """The idle connection for `key` that was used last, if one is still good."""
        stack = self._idle.get(key)
        while stack:
            connection = stack.pop()
            expired = time.monotonic() - connection.idle_since > IDLE_SECONDS
            if not expired and not connection.dropped():
                return connection
            connection.close()
        return None

    def give_back(self, connection: Connection) -> None:
        """Keep a connection whose user is done with it, or close it if it cannot be reused."""
        if self.closed or not connection.complete or not connection.recycle():
            connection.close()
            return
        if self.idle_count >= self._max_idle:
            self._close_oldest()
        connection.idle_since = time.monotonic()
        self._idle.setdefault(connection.key, []).append(connection)

    def _close_oldest(self) -> None:
        oldest = min((stack for stack in self._idle.values() if stack), key=_age_of_first)
        oldest.pop(0).close()

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
        for stack in self._idle.values():
            for connection in stack:
                connection.close()
        self._idle.clear()


def _age_of_first(stack: List[Connection]) -> float:
    return stack[0].idle_since
