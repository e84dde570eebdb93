"""A transport that cannot wait for a quiet body: its streams reconnect, and end with the truth."""

from __future__ import annotations

from typing import Any, Optional

import anyio
import pytest

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient
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
    fake.workflow("wf_slow", nodes=[Node("work", seconds=60.0)])
    return fake


def test_a_blocking_stream_reconnects() -> None:
    fake = slow_workflow()
    with FlowMaestroClient(fake.api_key, transport=ImpatientMemory(fake)) as client:
        run = client.workflows.execute("wf_slow")["data"]
        with client.executions.stream(run["execution_id"]) as stream:
            events = [event["type"] for event in stream]
        assert events[-1] == "execution:completed"
        assert stream.reconnects > 0


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_awaiting_stream_reconnects(backend: str) -> None:
    async def main() -> None:
        fake = slow_workflow()
        transport = AsyncImpatientMemory(fake)
        async with AsyncFlowMaestroClient(fake.api_key, transport=transport) as client:
            run = (await client.workflows.execute("wf_slow"))["data"]
            async with client.executions.stream(run["execution_id"]) as stream:
                events = [event["type"] async for event in stream]
            assert events[-1] == "execution:completed"
            assert stream.reconnects > 0

    anyio.run(main, backend=backend)
