"""Calls on sockets take turns, where there are more of them than connections."""

from __future__ import annotations

import errno
import os
import socket
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, List

import pytest

from flowmaestro_core.http.messages import Request, TransportClosedError, TransportFailure
from flowmaestro_transports import SocketTransport
from flowmaestro_transports.primitives.slots import InFlight, Slots
from flowmaestro_transports.sockets import blocking
from flowmaestro_transports.sockets.blocking import BlockingOp, Interrupted
from flowmaestro_transports.sockets.pool import SocketPool
from tests.harness.runners import get


def test_a_turn_that_comes_while_the_pool_is_closed_is_not_taken(monkeypatch: Any) -> None:
    """`close` cuts one step after another, and another may get what the first one frees."""
    pools = []

    class LateSlots(Slots[BlockingOp]):
        def enter(self, claimant: InFlight[BlockingOp]) -> bool:
            super().enter(claimant)
            return False  # as if all slots were in use

        def take(self, *args: Any) -> bool:
            pools[0].closed = True
            return super().take(*args)

    class NotedPool(SocketPool):
        def __init__(self, max_connections: int, expiry: float) -> None:
            super().__init__(max_connections, expiry)
            self.slots = LateSlots(max_connections)
            pools.append(self)

    monkeypatch.setattr("flowmaestro_transports.sockets.transport.SocketPool", NotedPool)
    with pytest.raises(TransportClosedError):
        SocketTransport().send(Request("GET", "http://127.0.0.1:9", {}), 5.0)


def test_a_transport_that_is_closed_as_its_pool_is_made_stays_closed(monkeypatch: Any) -> None:
    transport = SocketTransport()

    class LatePool(SocketPool):
        def __setattr__(self, name: str, value: Any) -> None:
            if name == "closed" and not value and "wakers" in vars(self):  # by the transport
                transport.close()  # as another thread might just now
            super().__setattr__(name, value)

    monkeypatch.setattr("flowmaestro_transports.sockets.transport.SocketPool", LatePool)
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


@pytest.fixture
def no_file_left(monkeypatch: Any) -> List[object]:
    """No waker can be made; one item for each that was asked for."""
    asked: List[object] = []

    def socketpair() -> None:
        asked.append(None)
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "socketpair", socketpair)
    return asked


def test_pause_may_be_longer_than_one_wait_of_the_system(monkeypatch: Any) -> None:
    waits: List[float] = []

    def ready(*args: Any) -> List[int]:
        waits.append(args[-1])
        return []

    clock = SimpleNamespace(monotonic=lambda: sum(waits))
    monkeypatch.setattr(blocking, "_ready", ready)
    monkeypatch.setattr(blocking, "time", clock)
    monkeypatch.setattr("flowmaestro_transports.sockets.transport.time", clock)
    SocketTransport().sleep(2.5e6)
    assert waits == [1e6, 1e6, 5e5]


def test_waiting_calls_need_no_file_descriptor(scripted: Any, no_file_left: List[object]) -> None:
    transport = SocketTransport(max_connections=1)
    with scripted.ScriptedServer(scripted.echo) as server, ThreadPoolExecutor(4) as threads:
        replies = threads.map(lambda _: transport.send(get(server), 10.0), range(8))
        assert [reply.status for reply in replies] == [200] * 8
        threads.submit(transport.close).result()
    assert len(no_file_left) > 1


def test_a_quiet_body_needs_no_file(scripted: Any, no_file_left: List[object]) -> None:
    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(scripted.reply(length=False))
        peer.wait_closed()

    with scripted.ScriptedServer(handler) as server:
        transport = SocketTransport()
        body = transport.open(get(server), 5.0)
        began = transport.now()
        assert body.read(0.6) is None
        assert transport.now() - began >= 0.6
        threading.Timer(0.05, body.close).start()
        with pytest.raises(TransportFailure):
            body.read(60.0)
        transport.close()
    assert no_file_left


def test_a_crowd_leaves_few_files_open() -> None:
    pool = SocketPool(1, 50.0)
    crowd = [InFlight(BlockingOp()) for _ in range(200)]
    for flight in crowd:
        pool.begin(flight)
        flight.op.acquire_waker()
    for flight in crowd:
        pool.end_op(flight)
    assert 0 < len(pool.wakers) < 50
    pool.begin(flight)
    flight.op.acquire_waker()
    pool.close()
    pool.end_op(flight)
    assert not pool.wakers


def test_any_number_of_turns_takes_little_memory() -> None:
    SocketTransport(max_connections=sys.maxsize).sleep(0)


def test_no_exception_keeps_a_waker() -> None:
    step = BlockingOp()
    step.acquire_waker()
    assert step._waker is not None
    waker = weakref.ref(step._waker)
    other = threading.Timer(0.05, step.interrupt)
    other.start()
    with pytest.raises(Interrupted) as caught:
        step.wait(time.monotonic() + 60.0)
    other.join()  # which holds it as it wakes
    step.return_waker()
    step.free_wakers.clear()
    assert waker() is None
    assert caught.value.__traceback__ is not None


def test_a_call_woken_by_close_leaves_no_file_open(scripted: Any, monkeypatch: Any) -> None:
    waiting, closed = threading.Event(), threading.Event()
    wait, let_go = BlockingOp.wait, BlockingOp.return_waker

    def note_and_wait(step: BlockingOp, *args: Any) -> bool:
        waiting.set()
        return wait(step, *args)

    def let_go_late(step: BlockingOp) -> None:
        closed.wait(60)
        let_go(step)

    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(scripted.reply(length=False))
        peer.wait_closed()

    transport = SocketTransport()
    with scripted.ScriptedServer(handler) as server, ThreadPoolExecutor(1) as threads:
        body = transport.open(get(server), 5.0)
        monkeypatch.setattr(BlockingOp, "wait", note_and_wait)
        monkeypatch.setattr(BlockingOp, "return_waker", let_go_late)
        reading = threads.submit(body.read, 60.0)
        assert waiting.wait(60)
        transport.close()
        closed.set()
        assert isinstance(reading.exception(), TransportFailure)
    assert not transport._pool().wakers
