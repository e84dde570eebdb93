"""Closed from another thread, a sync stream wakes its reader, whatever that waits for."""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import Future
from typing import Any

import pytest

from flowmaestro import FlowMaestroClient, Hooks, ResponseInfo, StreamError, StreamTimes
from flowmaestro_core.http.messages import Headers, Phase, Request, TransportFailure
from flowmaestro_core.policy import polling
from flowmaestro_transports import RequestsTransport, SocketTransport
from tests.harness.runners import full_listener

PROMPT = 30.0
"""Seconds within which a reader must have been woken; what it waits for takes longer."""
IMPATIENT = StreamTimes(event_idle=0.01, event_idle_max=0.01)
KEY = "fm_live_x"


@pytest.fixture(autouse=True)
def patient_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, a probe takes longer than a second; a lost one needs a connection more."""
    monkeypatch.setattr(polling, "LEAST_TIMEOUT", 60.0)


@pytest.fixture
def stream_head(scripted: Any) -> bytes:
    head = scripted.reply(
        headers=[("Content-Type", "text/event-stream"), scripted.CHUNKED], length=False
    )
    return bytes(head + scripted.chunk(b"event: connected\ndata: {}\n\n"))


def close_while_reading(stream: Any, there: threading.Event) -> None:
    """Wait for the next event in another thread, and close once the server is `there`."""
    outcome: Future[Any] = Future()

    def read() -> None:
        try:
            outcome.set_result(next(stream))
        except Exception as error:
            outcome.set_exception(error)

    threading.Thread(target=read, daemon=True).start()
    assert there.wait(PROMPT)
    time.sleep(0.05)  # let it get to where it waits
    assert not outcome.done()
    stream.close()
    with pytest.raises(StreamError, match="stream_closed"):
        outcome.result(PROMPT)


STATUS = b'{"data": {"id": "exec_1", "status": "running"}}'
BUSY = "503 Service Unavailable"


@pytest.mark.parametrize(
    "wait", ["a pause", "its head", "a poll", "the body of a poll", "a poll on a kept connection"]
)
def test_closing_wakes_a_reader(scripted: Any, stream_head: bytes, wait: str) -> None:
    there = threading.Event()

    def handler(peer: Any) -> None:
        if peer.read_request().target.endswith("/events"):
            if wait == "a pause":
                peer.send(scripted.reply(status=BUSY, headers=[("Retry-After", "50")]))
            else:
                peer.send(b"HTTP/1.1 200 OK\r\nConte" if wait == "its head" else stream_head)
        elif wait == "a poll on a kept connection":
            peer.send(scripted.reply(STATUS))
            peer.read_request()
            assert peer.server.connections == 2
            there.set()
        else:
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{" if "body" in wait else b"")
            there.set()
        if "poll" not in wait:
            there.set()
        peer.wait_closed()

    with (
        scripted.ScriptedServer(handler) as server,
        FlowMaestroClient(KEY, base_url=server.url, stream_times=IMPATIENT) as client,
    ):
        stream = client.executions.stream("exec_1")
        if "poll" in wait:
            next(stream)
        close_while_reading(stream, there)


def test_a_tls_handshake_is_interrupted(scripted: Any) -> None:
    there = threading.Event()

    def never_shakes_hands(peer: Any) -> None:
        assert peer.sock.recv(1)
        there.set()
        peer.wait_closed()

    with scripted.ScriptedServer(never_shakes_hands) as server:
        url = server.url.replace("http:", "https:")
        with FlowMaestroClient(KEY, base_url=url) as client:
            close_while_reading(client.executions.stream("exec_1"), there)


def test_interrupt_wakes_a_connecting_call() -> None:
    there = threading.Event()
    there.set()
    with full_listener() as url, FlowMaestroClient(KEY, base_url=url) as client:
        threads = threading.active_count()
        close_while_reading(client.executions.stream("exec_1"), there)
        assert threading.active_count() <= threads + 1


def test_interrupt_spares_a_released_connection(scripted: Any, stream_head: bytes) -> None:
    """The connection of an answered question serves calls that have nothing to do with it."""
    there = threading.Event()

    def handler(peer: Any) -> None:
        while (request := peer.read_request()) is not None:
            if request.target.endswith("/events"):
                peer.send(stream_head)
                peer.wait_closed()
                return
            peer.send(scripted.reply(STATUS))

    def answered(info: ResponseInfo) -> None:
        if not info.request.url.endswith("/events"):
            there.set()  # The connection of the question has been released.

    options: Any = {
        "stream_times": StreamTimes(event_idle=1.0),  # long before the second question
        "hooks": Hooks(response=answered),
    }
    with scripted.ScriptedServer(handler) as server:
        with FlowMaestroClient(KEY, base_url=server.url, **options) as client:
            stream = client.executions.stream("exec_1")
            next(stream)
            close_while_reading(stream, there)
            assert client.executions.get("exec_1").attempts == 1
        assert server.connections == 2


def test_an_interrupted_view_begins_nothing_more(scripted: Any) -> None:
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
