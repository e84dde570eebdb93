"""The pool of idle connections, where several threads use it at once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, List

from flowmaestro_transports.http11.pool import IdleConnections


def held_connection(closed: List[int], number: int) -> Any:
    def close() -> None:
        closed.append(number)

    return SimpleNamespace(key="origin", close=close)


def test_two_threads_that_store_a_connection_at_once_keep_to_the_limit() -> None:
    closed: List[int] = []
    others = [held_connection(closed, 2)]

    class Racing(IdleConnections):
        """Another thread stores its connection right after this one has counted them."""

        def __len__(self) -> int:
            count = super().__len__()
            while others:
                self.keep(others.pop())
            return count

    idle = Racing(1, expiry=60.0)
    idle.keep(held_connection(closed, 1))
    assert len(idle) == 1
    assert closed == [1]


def test_full_pool_closes_the_connection_that_was_idle_for_longest() -> None:
    closed: List[int] = []
    idle = IdleConnections(2, expiry=60.0)
    for number in range(4):
        idle.keep(held_connection(closed, number))
    assert len(idle) == 2
    assert closed == [0, 1]
