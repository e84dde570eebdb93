"""Calls on sockets take turns, where there are more of them than connections."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any, List

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


def test_a_transport_that_is_closed_as_its_pool_is_made_stays_closed(monkeypatch: Any) -> None:
    transport = SocketTransport()

    class LatePool(Pool):
        def __setattr__(self, name: str, value: Any) -> None:
            if name == "closed" and not value and "wakers" in vars(self):  # by the transport
                transport.close()  # as another thread might just now
            super().__setattr__(name, value)

    monkeypatch.setattr("flowmaestro_transports.sockets.transport.Pool", LatePool)
    for _ in range(2):
        with pytest.raises(TransportClosedError):
            transport.sleep(0)


def test_threads_of_a_child_may_leave_the_pool_of_the_parent_at_once(monkeypatch: Any) -> None:
    transport = SocketTransport()
    transport.sleep(0)
    others = [transport.sleep]

    class Number(int):
        def __ne__(self, number: object) -> bool:
            while others:
                others.pop()(0)  # as another thread might just now
            return super().__ne__(number)

    number = Number(os.getpid() + 1)
    monkeypatch.setattr(os, "getpid", lambda: number)
    transport.sleep(0)
    assert not others


def test_a_pause_needs_no_file(monkeypatch: Any) -> None:
    """A process that has run out of them is told so by its calls, after their retries."""
    tried: List[object] = []

    def socketpair() -> None:
        tried.append(None)
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "socketpair", socketpair)
    transport = SocketTransport()
    began = transport.now()
    transport.sleep(0.01)
    assert tried
    assert transport.now() - began >= 0.01
