"""The connections that wait for their next exchange: newest first, none kept for long.

A connection moves from one list to another in a single step of C, so an exception that a signal
handler raises never loses one between the two: it stays where it was, or has arrived.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Dict, Hashable, List, Optional, TypeVar

from flowmaestro_transports.contract import IDLE_SECONDS
from flowmaestro_transports.http11.connection import Connection

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
    """At most `limit` connections, each for up to `IDLE_SECONDS`. Threads may share them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._by_key: Dict[Hashable, List[Connection]] = {}

    def __len__(self) -> int:
        return sum(map(len, list(self._by_key.values())))

    def take(self, key: Hashable, now: float, into: List[Connection]) -> Optional[Connection]:
        """The connection for `key` that was used last, if one is still good; it is in `into`."""
        stack = self._by_key.get(key)
        while stack and move_last(stack, into):
            connection = into[-1]
            if now - connection.idle_since <= IDLE_SECONDS and not connection.dropped():
                return connection
            connection.close()
            into.pop()
        return None

    def keep(self, held: List[Connection], now: float) -> None:
        """Keep the last of `held`, whose user is done with it."""
        if len(self) >= self._limit:
            self._close_oldest()
        connection = held[-1]
        connection.idle_since = now
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
