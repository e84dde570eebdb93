"""Closed from another thread, a sync stream wakes its reader, whatever that waits for."""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import Future
from typing import Any

import pytest

from flowmaestro import FlowMaestroClient, StreamError, StreamTimes
from flowmaestro.testing import FakeFlowMaestro, MemoryTransport
from flowmaestro_core.http.messages import Headers, Phase, Request, TransportFailure
from flowmaestro_transports import RequestsTransport, SocketTransport
from flowmaestro_transports.contract import Interruptible
from tests.harness.runners import full_listener

PROMPT = 30.0
"""Seconds within which a reader must have been woken; what it waits for takes longer."""
IMPATIENT = StreamTimes(event_idle=0.01, event_idle_max=0.01)
KEY = "fm_live_x"


@pytest.fixture
def stream_head(scripted: Any) -> bytes:
    head = scripted.reply(
        headers=[("Content-Type", "text/event-stream"), scripted.CHUNKED], length=False
    )
    return bytes(head + scripted.chunk(b"event: connected\ndata: {}\n\n"))


class Scene:
    """A server whose handlers say when the reader has got to where it is to be woken."""

    def __init__(self, scripted: Any) -> None:
        self.scripted = scripted
        self.there = threading.Event()

    def closing_wakes(self, handler: Any, *, seen: int = 0, **options: Any) -> None:
        """Read `seen` events, wait for the next one, and close when the handler has said so."""
        transport = options.pop("transport", None) or SocketTransport()
        with self.scripted.ScriptedServer(handler) as server, contextlib.closing(transport):
            client = FlowMaestroClient(KEY, base_url=server.url, transport=transport, **options)
            stream = client.executions.stream("exec_1")
            for _ in range(seen):
                next(stream)
            self.close_while_reading(stream)

    def close_while_reading(self, stream: Any) -> None:
        outcome: Future[Any] = Future()

        def read() -> None:
            try:
                outcome.set_result(next(stream))
            except Exception as error:
                outcome.set_exception(error)

        threading.Thread(target=read, daemon=True).start()
        assert self.there.wait(PROMPT)
        time.sleep(0.05)  # let it get to where it waits
        assert not outcome.done()
        stream.close()
        with pytest.raises(StreamError, match="stream_closed"):
            outcome.result(PROMPT)


@pytest.fixture
def scene(scripted: Any) -> Scene:
    return Scene(scripted)


def test_a_pause_before_the_next_attempt(scene: Scene) -> None:
    def handler(peer: Any) -> None:
        peer.read_request()
        status, soon = "503 Service Unavailable", ("Retry-After", "50")
        peer.send(scene.scripted.reply(status=status, headers=[soon]))
        scene.there.set()
        peer.wait_closed()

    scene.closing_wakes(handler)


def test_the_way_to_the_head_of_the_stream(scene: Scene) -> None:
    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nConte")
        scene.there.set()
        peer.wait_closed()

    scene.closing_wakes(handler)


@pytest.mark.parametrize(
    "begun", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"], ids=["head", "body"]
)
def test_a_question_about_the_execution(scene: Scene, stream_head: bytes, begun: bytes) -> None:
    def handler(peer: Any) -> None:
        if peer.read_request().target.endswith("/events"):
            peer.send(stream_head)
        else:
            peer.send(begun)
            scene.there.set()
        peer.wait_closed()

    scene.closing_wakes(handler, seen=1, stream_times=IMPATIENT)


def test_a_question_on_a_kept_connection(scene: Scene, stream_head: bytes) -> None:
    def handler(peer: Any) -> None:
        if peer.read_request().target.endswith("/events"):
            peer.send(stream_head)
            peer.wait_closed()
            return
        peer.send(scene.scripted.reply(b'{"data": {"id": "exec_1", "status": "running"}}'))
        peer.read_request()
        assert peer.server.connections == 2
        scene.there.set()
        peer.wait_closed()

    scene.closing_wakes(handler, seen=1, stream_times=IMPATIENT)


def test_a_tls_handshake_is_interrupted(scene: Scene) -> None:
    def never_shakes_hands(peer: Any) -> None:
        assert peer.sock.recv(1)
        scene.there.set()
        peer.wait_closed()

    transport = SocketTransport(verify=False)
    with scene.scripted.ScriptedServer(never_shakes_hands) as server:
        url = server.url.replace("http:", "https:")
        with contextlib.closing(transport):
            client = FlowMaestroClient(KEY, base_url=url, transport=transport)
            scene.close_while_reading(client.executions.stream("exec_1"))


def test_interrupt_wakes_a_connecting_call(scene: Scene) -> None:
    with (
        full_listener() as url,
        FlowMaestroClient(KEY, base_url=url, transport=SocketTransport()) as client,
    ):
        scene.there.set()
        threads = threading.active_count()
        scene.close_while_reading(client.executions.stream("exec_1"))
        assert threading.active_count() <= threads + 1


def test_interrupt_spares_a_released_connection(scene: Scene, stream_head: bytes) -> None:
    """The connection of an answered question serves calls that have nothing to do with it."""

    def handler(peer: Any) -> None:
        while (request := peer.read_request()) is not None:
            if request.target.endswith("/events"):
                peer.send(stream_head)
                peer.wait_closed()
                return
            peer.send(scene.scripted.reply(b'{"data": {"id": "exec_1", "status": "running"}}'))
            scene.there.set()

    with scene.scripted.ScriptedServer(handler) as server:
        times = StreamTimes(event_idle=1.0)  # long before the second question
        own = SocketTransport()
        with FlowMaestroClient(
            KEY, base_url=server.url, transport=own, stream_times=times
        ) as client:
            stream = client.executions.stream("exec_1")
            next(stream)
            scene.close_while_reading(stream)
            assert client.executions.get("exec_1").attempts == 1
        assert server.connections == 2


def test_an_interrupted_view_begins_nothing_more(scripted: Any) -> None:
    request = Request("GET", "", Headers())
    with scripted.ScriptedServer(scripted.echo) as server:
        transport = SocketTransport()
        view = transport.interruptible()
        request = Request("GET", server.url, Headers())
        assert view.send(request, 5.0).status == 200
        view.interrupt()
        for step in (view.send, view.open):
            with pytest.raises(TransportFailure) as caught:
                step(request, 5.0)
            assert caught.value.phase in (Phase.NOT_SENT, Phase.MAYBE_PROCESSED)
        assert transport.interruptible().send(request, 5.0).status == 200
        assert view.now() == pytest.approx(transport.now(), abs=PROMPT)
        view.close()
        assert len(server.requests) == 2


@pytest.mark.parametrize("kind", [SocketTransport, RequestsTransport])
def test_stream_uses_overridden_methods_of_subclass(kind: Any) -> None:
    class Noting(kind):
        pauses: Any = ()

        def send(self, request: Request, timeout: float) -> Any:
            raise TransportFailure(Phase.NOT_SENT, "not today")

        open = send

        def sleep(self, seconds: float) -> None:
            self.pauses += (seconds,)

    transport = Noting()
    client = FlowMaestroClient(KEY, transport=transport, max_retries=2)
    with contextlib.closing(client), pytest.raises(ConnectionError, match="not today"):
        next(client.executions.stream("exec_1"))
    assert len(transport.pauses) == 2


def test_only_the_socket_transport_is_interruptible() -> None:
    assert isinstance(SocketTransport(), Interruptible)
    assert not isinstance(RequestsTransport(), Interruptible)
    assert not isinstance(MemoryTransport(FakeFlowMaestro()), Interruptible)
