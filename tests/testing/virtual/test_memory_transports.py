"""What the conformance kit does not ask of the transports in memory."""

from __future__ import annotations

import json

import anyio
import pytest

from flowmaestro.testing import AsyncMemoryTransport, FakeFlowMaestro, MemoryTransport
from flowmaestro_core.http.messages import Headers, Phase, Request, TransportFailure
from tests.harness.testing.side_by_side import BACKENDS


def request(fake, method, path, body=None):
    headers = [("X-API-Key", fake.api_key), ("Content-Type", "application/json")]
    payload = json.dumps(body or {}).encode()
    return Request(method, f"https://h/api/v1{path}", Headers(headers), payload)


def message(fake):
    return request(fake, "POST", "/threads/thread_xyz789/messages", {"content": "Hi"})


def test_time_limits_are_kept_to_exactly():
    fake = FakeFlowMaestro(events="silent")
    transport = MemoryTransport(fake)
    with pytest.raises(TransportFailure):
        transport.send(message(fake), 0.1)
    assert transport.now() == pytest.approx(0.1)
    stream = transport.open(request(fake, "GET", "/executions/exec_xyz789/events"), 5)
    assert stream.read(1).startswith(b"event: connected")
    assert (stream.read(10), transport.now()) == (None, pytest.approx(10.1))


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


def test_a_transport_catches_up_with_another_driver(fake):
    fake.handle(message(fake), 1000.0)
    transport = MemoryTransport(fake)
    assert transport.send(message(fake), 1).status == 200
    assert transport.now() == pytest.approx(1000.4)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_time_to_wait_for(seconds, fake):
    for wait in (fake.clock.advance, MemoryTransport(fake).sleep):
        with pytest.raises(ValueError, match="seconds must be a finite number of at least 0"):
            wait(seconds)
    with pytest.raises(ValueError, match="must end"):
        MemoryTransport(fake).send(message(fake), float("inf"))


@BACKENDS
def test_a_cancelled_task_asks_for_nothing(backend, fake):

    async def main():
        with anyio.CancelScope() as scope:
            scope.cancel()
            await AsyncMemoryTransport(fake).send(message(fake), 30)
        assert scope.cancelled_caught

    anyio.run(main, backend=backend)
    assert fake.requests == []
