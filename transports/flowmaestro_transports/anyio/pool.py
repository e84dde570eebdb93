"""What calls on one event loop share: slots that bound them, and connections kept alive."""

from __future__ import annotations

from typing import Set

import anyio

from flowmaestro_transports.http11.pool import ConnectionPool


class Pool(ConnectionPool):
    """At most `max_connections` calls at once, and at most as many idle connections.

    `loop` is the event loop it belongs to, whatever anyio's backend takes for one.
    """

    def __init__(self, loop: object, max_connections: int) -> None:
        super().__init__(max_connections)
        self.slots = anyio.Semaphore(max_connections, fast_acquire=True)
        self.calls: Set[anyio.CancelScope] = set()
        """The scopes of the calls in flight, and of pauses; `close` cancels them."""
        self._loop = loop

    def serves(self, loop: object) -> bool:
        """Whether it belongs to `loop`, and to this process."""
        return self._loop is loop and not self.process.forked

    def close(self) -> None:
        """Close what is idle or open, and wake the calls, to close what they use."""
        super().close()
        for scope in list(self.calls):
            scope.cancel()

    def abandon(self) -> None:
        """Close what is idle without touching the event loop, which may be gone or another's."""
        self.closed = True
        self.idle.close()
