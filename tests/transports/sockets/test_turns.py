"""Calls on sockets take turns, where there are more of them than connections."""

from __future__ import annotations

from typing import Any

import pytest

from flowmaestro_core.http.messages import Request, TransportClosedError
from flowmaestro_transports import SocketTransport
from flowmaestro_transports.sockets.pool import Pool, Slots


def test_a_turn_that_comes_while_the_pool_is_closed_is_not_taken(monkeypatch: Any) -> None:
    """`close` cuts one step after another, and another may get what the first one frees."""
    pools = []

    class LateSlots(Slots):
        def take(self, *args: Any) -> bool:
            pools[0].closed = True
            return super().take(*args)

    class NotedPool(Pool):
        def __init__(self, max_connections: int) -> None:
            super().__init__(max_connections)
            self.slots = LateSlots(max_connections)
            pools.append(self)

    monkeypatch.setattr("flowmaestro_transports.sockets.transport.Pool", NotedPool)
    with pytest.raises(TransportClosedError):
        SocketTransport().send(Request("GET", "http://127.0.0.1:9", {}), 5.0)
