"""A transport that loses a quiet body: its streams live on keepalives, and end with the truth."""

from __future__ import annotations

import json
import time
from typing import Any, List, Optional

import anyio
import pytest

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient, StreamTimes
from flowmaestro.testing import (
    AsyncMemoryTransport,
    FakeFlowMaestro,
    MemoryTransport,
    Node,
)
from flowmaestro_core.http.messages import (
    Phase,
    Request,
    TransportFailure,
)
from flowmaestro_core.streams import event_stream as stream_module
from flowmaestro_transports import RequestsTransport


def not_quiet(data: Optional[bytes]) -> bytes:
    if data is None:
        raise TransportFailure(Phase.REPLY_BROKEN, "read timed out", timed_out=True)
    return data


class ImpatientMemory(MemoryTransport):
    """A transport for which every quiet read is a failure."""

    patient = False

    def open(self, request: Request, timeout: float) -> Any:
        body = super().open(request, timeout)
        read = body.read

        def impatient(patience: float) -> Optional[bytes]:
            return not_quiet(read(patience))

        body.read = impatient  # type: ignore[method-assign]
        return body


class AsyncImpatientMemory(AsyncMemoryTransport):
    patient = False

    async def open(self, request: Request, timeout: float) -> Any:
        body = await super().open(request, timeout)
        read = body.read

        async def impatient(patience: float) -> Optional[bytes]:
            return not_quiet(await read(patience))

        body.read = impatient  # type: ignore[method-assign]
        return body


def slow_workflow() -> FakeFlowMaestro:
    fake = FakeFlowMaestro()
    fake.workflow("wf_slow", nodes=[Node("work", seconds=3600.0)])
    return fake


def test_a_sync_stream_lives_for_an_hour_on_keepalives_alone() -> None:
    fake = slow_workflow()
    with FlowMaestroClient(fake.api_key, transport=ImpatientMemory(fake)) as client:
        run = client.workflows.execute("wf_slow")["data"]
        with client.executions.stream(run["execution_id"]) as stream:
            events = [event["type"] for event in stream]
        assert events[-1] == "execution:completed"
        assert stream.reconnects == 0


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_async_stream_lives_for_an_hour_on_keepalives_alone(backend: str) -> None:
    async def main() -> None:
        fake = slow_workflow()
        transport = AsyncImpatientMemory(fake)
        async with AsyncFlowMaestroClient(fake.api_key, transport=transport) as client:
            run = (await client.workflows.execute("wf_slow"))["data"]
            async with client.executions.stream(run["execution_id"]) as stream:
                events = [event["type"] async for event in stream]
            assert events[-1] == "execution:completed"
            assert stream.reconnects == 0

    anyio.run(main, backend=backend)


def test_a_cancellation_is_noticed_between_keepalives() -> None:
    fake = slow_workflow()
    transport = ImpatientMemory(fake)
    with FlowMaestroClient(fake.api_key, transport=transport) as client:
        run = client.workflows.execute("wf_slow")["data"]
        with client.executions.stream(run["execution_id"]) as stream:
            assert next(stream)["type"] == "connected"
            client.executions.cancel(run["execution_id"])
            cancelled_at = transport.now()
            events = [event["type"] for event in stream]
        assert events[-1] == "execution:cancelled"
        assert stream.reconnects == 0
        assert transport.now() - cancelled_at <= 45.0


def test_on_requests_a_stream_lives_on_keepalives_and_notices_a_cancellation(
    scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same on sockets, in a hundredth of the time."""
    monkeypatch.setattr(stream_module, "LEAST_PATIENCE", 2.0)
    probes: List[float] = []

    def handler(peer: Any) -> None:
        request = peer.read_request()
        if request.target.endswith("/events"):
            content = ("Content-Type", "text/event-stream")
            peer.send(scripted.reply(headers=[content, scripted.CHUNKED], length=False))
            peer.send(scripted.chunk(b"event: connected\ndata: {}\n\n"))
            while not peer.server.leaving:
                peer.send(scripted.chunk(b": keepalive\n\n"))
                time.sleep(0.1)
            return
        while request is not None:
            probes.append(time.monotonic())
            status = "running" if len(probes) < 5 else "cancelled"
            data = {"data": {"id": "exec_1", "status": status}}
            peer.send(scripted.reply(json.dumps(data).encode()))
            request = peer.read_request()

    times = StreamTimes(event_idle=0.05, event_idle_max=0.05)
    with (
        scripted.ScriptedServer(handler) as server,
        FlowMaestroClient(
            "fm_live_x", base_url=server.url, stream_times=times, transport=RequestsTransport()
        ) as client,
        client.executions.stream("exec_1") as stream,
    ):
        assert [event["type"] for event in stream] == ["connected", "execution:cancelled"]
        assert stream.reconnects == 0
    assert len(probes) == 5
