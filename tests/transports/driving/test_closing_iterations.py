"""Every iteration can be closed under the names that Python's own generators have."""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Dict

import anyio
import pytest

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient, StreamError
from flowmaestro.testing import AsyncMemoryTransport, FakeFlowMaestro, MemoryTransport

ITERATIONS: Dict[str, Callable[[Any], Any]] = {
    "stream": lambda client: client.executions.stream("exec_xyz789"),
    "iterate": lambda client: client.workflows.iterate(),
    "wait_many": lambda client: client.executions.wait_many(["exec_xyz789"]),
    "run_many": lambda client: client.workflows.run_many("wf_123", [{"name": "John"}] * 2),
    "text": lambda client: client.threads.send_message_stream("thread_xyz789", "Hi").text(),
}
EACH = pytest.mark.parametrize("iteration", ITERATIONS)


@EACH
def test_a_sync_iteration_has_close(iteration: str) -> None:
    fake = FakeFlowMaestro()
    with FlowMaestroClient(fake.api_key, transport=MemoryTransport(fake)) as client:
        with contextlib.closing(ITERATIONS[iteration](client)) as items:
            assert next(items)
        with pytest.raises(StreamError) as caught:
            next(items)
        assert caught.value.code == "stream_closed"


@EACH
@pytest.mark.skipif(not hasattr(contextlib, "aclosing"), reason="aclosing came with Python 3.10")
def test_an_async_iteration_has_aclose(iteration: str) -> None:
    async def main() -> None:
        fake = FakeFlowMaestro()
        transport = AsyncMemoryTransport(fake)
        async with AsyncFlowMaestroClient(fake.api_key, transport=transport) as client:
            async with contextlib.aclosing(ITERATIONS[iteration](client)) as items:
                assert await items.__anext__()
            with pytest.raises(StreamError) as caught:
                await items.__anext__()
            assert caught.value.code == "stream_closed"

    anyio.run(main)
