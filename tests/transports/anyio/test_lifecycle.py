"""Many calls at once on `AnyioTransport`, calls cancelled, closing, event loops that change."""

from __future__ import annotations

import contextlib
import queue
import random
import threading
import time
from typing import Any, Callable, Iterator, List

import anyio
import anyio.to_thread
import pytest

from flowmaestro_core.http.messages import (
    Phase,
    Request,
    TransportClosedError,
    TransportFailure,
)
from flowmaestro_core.timeouts import Timeout
from flowmaestro_transports.anyio.transport import AnyioPool, AnyioTransport
from tests.harness.patience import given_time
from tests.harness.runners import get, post
from tests.harness.transports.anyio_scenes import Play, failure, read_all

# --- Cancelling -----------------------------------------------------------------------------


def test_a_cancelled_task_sends_nothing(play: Play, scripted: Any) -> None:
    async def scenario(transport: AnyioTransport) -> None:
        await transport.send(get(server), 5)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await transport.send(post(server, b""), 5)

    with scripted.ScriptedServer(scripted.echo) as server:
        play(scenario)
    assert len(server.requests) == 1


@pytest.fixture
def once_connected(monkeypatch: pytest.MonkeyPatch) -> List[Callable[[], Any]]:
    """Functions to call at the end of the wait for a connection, before its task goes on."""
    functions: List[Callable[[], Any]] = []

    async def wait(sock: Any) -> None:
        await real(sock)
        for function in functions:
            function()

    real = anyio.wait_writable
    monkeypatch.setattr(anyio, "wait_writable", wait)
    return functions


@pytest.fixture
def arrived(scripted: Any) -> Iterator[Any]:
    """A server, and a queue of what it receives on each connection until the client closes it."""
    received: queue.Queue[bytes] = queue.Queue()

    def handler(peer: Any) -> None:
        data = b""
        with contextlib.suppress(ConnectionError):
            while piece := peer.sock.recv(65536):
                data += piece
        received.put(data)

    with scripted.ScriptedServer(handler) as server:
        yield server, received


@pytest.mark.parametrize("is_closed", [False, True], ids=["cancelled", "closed"])
def test_call_ended_in_the_turn_in_which_it_connects_sends_nothing(
    play: Play, arrived: Any, once_connected: List[Callable[[], Any]], is_closed: bool
) -> None:
    server, received = arrived

    async def scenario(transport: AnyioTransport) -> None:
        if is_closed:
            once_connected.append(lambda: transport._pool and transport._pool.close())
            with pytest.raises(TransportClosedError):
                await transport.send(post(server, b""), 60)
            return
        with anyio.CancelScope() as scope:
            once_connected.append(scope.cancel)
            await transport.send(post(server, b""), 60)
        assert scope.cancelled_caught

    play(scenario)
    assert received.get(timeout=60) == b""


@pytest.mark.parametrize(
    "timeout", [0.2, Timeout(60, connect=0.2)], ids=["whole attempt", "connect"]
)
def test_call_whose_loop_is_held_up_while_it_connects_is_not_sent_late(
    play: Play, arrived: Any, once_connected: List[Callable[[], Any]], timeout: float
) -> None:
    server, received = arrived
    once_connected.append(lambda: time.sleep(0.3))
    failed = play(lambda t: failure(t.send(post(server, b""), timeout)))
    assert received.get(timeout=60) == b""
    assert (failed.phase, failed.timed_out) == (Phase.NOT_SENT, True)


def test_call_whose_loop_is_held_up_while_it_waits_for_a_slot_is_not_sent_late(
    play: Play, scripted: Any
) -> None:
    failed: List[TransportFailure] = []

    async def scenario(transport: AnyioTransport) -> None:
        async def second() -> None:
            failed.append(await failure(transport.send(post(server, b"second"), 0.2)))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(second)
            await transport.send(post(server, b"first"), 60)
            time.sleep(0.3)  # noqa: ASYNC251 - it holds the loop up

    with scripted.ScriptedServer(scripted.echo) as server:
        play(scenario, max_connections=1)
    assert (failed[0].phase, failed[0].timed_out) == (Phase.NOT_SENT, True)
    assert [request.body for request in server.requests] == [b"first"]


@pytest.mark.parametrize("seed", range(3))
def test_cancelled_at_any_moment(play: Play, scripted: Any, seed: int) -> None:
    """Whenever calls and reads are given up, no slot and no connection is lost."""
    rng = random.Random(seed)

    def handler(peer: Any) -> None:
        while True:
            request = peer.read_request()
            if request is None:
                return
            answer = scripted.reply(headers=[scripted.CHUNKED], length=False)
            for piece in (answer[:9], answer[9:], scripted.chunk(request.body)):
                peer.send(piece)
                time.sleep(0.002)
            peer.send(scripted.chunk(b""))

    async def scenario(transport: AnyioTransport) -> None:
        async def call(n: int, moment: float) -> None:
            body = b"%d" % n * 100
            with anyio.move_on_after(moment):
                if n % 2:
                    assert (await transport.send(post(server, body), 30)).body == body
                else:
                    opened = await transport.open(post(server, body), 30)
                    try:
                        assert await read_all(opened) == body
                    finally:
                        await opened.close()

        async with anyio.create_task_group() as tasks:
            for n in range(100):
                tasks.start_soon(call, n, rng.uniform(0, 0.1))
        pool = transport._pool
        assert pool is not None
        assert pool.slots.value == 5
        assert not pool.calls
        assert len(pool.idle) <= 5
        for n in range(10):
            await call(n, 30)

    with scripted.ScriptedServer(handler) as server:
        play(scenario, max_connections=5)


@pytest.mark.parametrize(
    "timeout", [30.0, Timeout(30, connect=10, head=10, read=10)], ids=["plain", "phases"]
)
def test_a_call_costs_one_cancel_scope(
    play: Play, scripted: Any, timeout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    scopes = []

    def cancel_scope(**options: Any) -> Any:
        scopes.append(options)
        return real(**options)

    real = anyio.CancelScope
    monkeypatch.setattr(anyio, "CancelScope", cancel_scope)
    monkeypatch.delattr(anyio, "move_on_after")
    with scripted.ScriptedServer(scripted.echo) as server:
        play(lambda t: t.send(get(server), timeout))
    assert len(scopes) == 1


# --- Lifecycle ------------------------------------------------------------------------------


@pytest.mark.parametrize("second", ["asyncio", "trio"])
def test_a_transport_serves_one_event_loop_after_another(
    play: Play, scripted: Any, second: str
) -> None:
    transport = AnyioTransport()
    kept = []

    async def use() -> None:
        assert (await transport.send(post(server, b"x"), 5)).body == b"x"
        kept.append(await transport.open(post(server, b"left open"), 5))

    with scripted.ScriptedServer(scripted.echo) as server:
        anyio.run(use, backend=play.backend)  # type: ignore[attr-defined]
        anyio.run(use, backend=second)
        kept.clear()
        anyio.run(transport.close, backend=second)
    assert server.connections == 2


def test_two_threads_with_event_loops_of_their_own(scripted: Any, monkeypatch: Any) -> None:
    """Each makes a pool at once; none is forgotten with its connections."""
    pools: List[AnyioPool] = []

    class NotedPool(AnyioPool):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            pools.append(self)
            if len(pools) == 1:
                other = threading.Thread(target=anyio.run, args=(send,))
                other.start()
                other.join()

    async def send() -> None:
        await transport.send(get(server), 5)

    async def main() -> None:
        await send()
        await transport.close()

    monkeypatch.setattr("flowmaestro_transports.anyio.transport.AnyioPool", NotedPool)
    transport = AnyioTransport()
    with scripted.ScriptedServer(scripted.echo) as server:
        anyio.run(main)
    assert [len(pool.idle) for pool in pools] == [0, 0]


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "TLS"])
def test_call_on_a_loop_that_another_one_replaced_times_out_as_any_other(
    play: Play, scripted: Any, encrypted: bool
) -> None:
    """It is not said to be closed: nobody has closed it. The server answers no handshake either."""
    phase = Phase.NOT_SENT if encrypted else Phase.MAYBE_PROCESSED

    def attempt(times: float) -> None:
        arrived = threading.Event()
        failed: List[TransportFailure] = []

        def handler(peer: Any) -> None:
            peer.sock.recv(1)
            arrived.set()
            peer.wait_closed()

        async def scenario(transport: AnyioTransport) -> None:
            async def call() -> None:
                url = server.url.replace("http:", "https:") if encrypted else server.url
                request = Request("POST", url, {}, b"{}")
                failed.append(await failure(transport.send(request, 0.5 * times)))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(call)
                await anyio.to_thread.run_sync(arrived.wait, 60)
                await anyio.to_thread.run_sync(anyio.run, transport.send, get(other), 60)

        with scripted.ScriptedServer(handler) as server:
            play(scenario)
        assert [(it.phase, it.timed_out) for it in failed] == [(phase, True)]

    with scripted.ScriptedServer(scripted.echo) as other:
        given_time(attempt)


def test_stream_on_a_loop_that_another_one_replaced_is_opened_and_keeps_no_connection(
    play: Play, scripted: Any
) -> None:
    arrived, go = threading.Event(), threading.Event()

    def handler(peer: Any) -> None:
        if peer.read_request():
            arrived.set()
            assert go.wait(60)
            peer.send(scripted.reply(b"fine"))
            peer.wait_closed()

    async def scenario(transport: AnyioTransport) -> None:
        async def read() -> None:
            body = await transport.open(get(server), 60)
            assert await read_all(body) == b"fine"

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await anyio.to_thread.run_sync(arrived.wait, 60)
            pool = transport._pool
            await anyio.to_thread.run_sync(anyio.run, transport.send, get(other), 60)
            go.set()
        assert pool is not None
        assert not len(pool.idle)

    with (
        scripted.ScriptedServer(handler) as server,
        scripted.ScriptedServer(scripted.echo) as other,
    ):
        play(scenario)
