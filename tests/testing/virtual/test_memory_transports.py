"""The in-memory transports: time passes at once, on no event loop, asyncio and trio."""

from __future__ import annotations

import json

import anyio
import pytest

from flowmaestro.testing import (
    AsyncMemoryTransport,
    FakeFlowMaestro,
    MemoryTransport,
)
from flowmaestro_core.http.messages import Headers, Phase, Request, TransportFailure
from tests.harness.testing.side_by_side import BACKENDS


def request(fake, method, path, body=None):
    headers = [("X-API-Key", fake.api_key), ("Content-Type", "application/json")]
    payload = json.dumps(body or {}).encode()
    return Request(method, f"https://h/api/v1{path}", Headers(headers), payload)


def message(fake, **options):
    return request(fake, "POST", "/threads/thread_xyz789/messages", {"content": "Hi", **options})


def test_an_answer_takes_its_time():
    fake = FakeFlowMaestro()
    transport = MemoryTransport(fake)
    assert transport.send(message(fake), 30).status == 200
    assert transport.now() == pytest.approx(0.4)


def test_a_call_times_out_in_virtual_time():
    fake = FakeFlowMaestro()
    transport = MemoryTransport(fake)
    with pytest.raises(TransportFailure) as caught:
        transport.send(message(fake), 0.1)
    assert (caught.value.phase, caught.value.timed_out) == (Phase.MAYBE_PROCESSED, True)
    assert transport.now() == pytest.approx(0.1)
    transport.sleep(1)
    thread = transport.send(request(fake, "GET", "/threads/thread_xyz789/messages"), 1)
    assert len(json.loads(thread.body)["data"]["messages"]) == 4, "the fake went on"


def test_quiet_body_returns_none_after_patience():
    fake = FakeFlowMaestro(events="silent")
    transport = MemoryTransport(fake)
    stream = transport.open(request(fake, "GET", "/executions/exec_xyz789/events"), 5)
    assert stream.status == 200
    assert stream.read(1).startswith(b"event: connected")
    assert stream.read(10) is None
    assert transport.now() == pytest.approx(10)
    assert stream.read(25) == b": keepalive\n\n"
    assert transport.now() == pytest.approx(30)
    stream.close()
    stream.close()
    with pytest.raises(TransportFailure):
        stream.read(1)
    assert fake.open_streams == 0


def test_a_stream_to_its_end():
    fake = FakeFlowMaestro()
    transport = MemoryTransport(fake)
    stream = transport.open(request(fake, "GET", "/executions/exec_xyz789/events"), 5)
    pieces = []
    while True:
        piece = stream.read(60)
        if not piece:
            break
        pieces.append(piece)
    assert piece == b""
    assert stream.read(60) == b""
    assert b"execution:completed" in pieces[-1]
    assert transport.now() == pytest.approx(3.1)


def test_a_stream_read_whole():
    fake = FakeFlowMaestro()
    transport = MemoryTransport(fake)
    events = request(fake, "GET", "/executions/exec_xyz789/events")
    assert b"execution:completed" in transport.send(events, 5).body
    late = transport.open(request(fake, "GET", "/workflows"), 5)
    assert late.read(1).startswith(b"{")
    assert late.read(1) == b""

    fake = FakeFlowMaestro(events="silent")
    transport = MemoryTransport(fake)
    with pytest.raises(TransportFailure) as caught:
        transport.send(request(fake, "GET", "/executions/exec_xyz789/events"), 100)
    assert (caught.value.phase, caught.value.timed_out) == (Phase.REPLY_BROKEN, True)
    assert fake.open_streams == 0


def test_webhooks_are_delivered_on_the_way():
    fake = FakeFlowMaestro()
    transport = MemoryTransport(fake)
    transport.send(request(fake, "POST", "/workflows/wf_123/execute"), 1)
    transport.sleep(1)
    (delivery,) = fake.deliveries
    assert (delivery.event, delivery.status_code) == ("execution.completed", 200)
    assert delivery.created_at == pytest.approx(0.35)
    tested = transport.send(request(fake, "POST", "/webhooks/wh_abc123/test"), 1)
    assert json.loads(tested.body)["data"]["success"] is True


def test_closed_transport_ends_its_bodies():
    fake = FakeFlowMaestro()
    transport = MemoryTransport(fake)
    stream = transport.open(request(fake, "GET", "/executions/exec_xyz789/events"), 5)
    transport.close()
    transport.close()
    assert fake.open_streams == 0
    with pytest.raises(TransportFailure):
        stream.read(1)
    for call in (transport.send, transport.open):
        with pytest.raises(RuntimeError, match="closed"):
            call(message(fake), 1)


def test_the_one_clock_is_the_fake_s():
    fake = FakeFlowMaestro()
    first, second = MemoryTransport(fake), AsyncMemoryTransport(fake)
    fake.clock.advance(100)
    first.send(message(fake), 1)
    assert second.now() == first.now() == fake.clock.now == pytest.approx(100.4)


def test_a_transport_catches_up_with_another_driver():
    fake = FakeFlowMaestro()
    fake.handle(message(fake), 1000.0)
    transport = MemoryTransport(fake)
    assert transport.send(message(fake), 1).status == 200
    assert transport.now() == pytest.approx(1000.4)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_time_to_wait_for(seconds):
    fake = FakeFlowMaestro()
    for wait in (fake.clock.advance, MemoryTransport(fake).sleep):
        with pytest.raises(ValueError, match="seconds must be a finite number of at least 0"):
            wait(seconds)
    with pytest.raises(ValueError, match="must end"):
        MemoryTransport(fake).send(message(fake), float("inf"))


@BACKENDS
def test_a_cancelled_task_asks_for_nothing(backend):
    fake = FakeFlowMaestro()

    async def main():
        with anyio.CancelScope() as scope:
            scope.cancel()
            await AsyncMemoryTransport(fake).send(message(fake), 30)
        assert scope.cancelled_caught

    anyio.run(main, backend=backend)
    assert fake.requests == []
