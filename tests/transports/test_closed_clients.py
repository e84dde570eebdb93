"""A client that is closed while somebody still reads: an error of ours, never the stack's."""

import threading

import anyio
import pytest

from flowmaestro import (
    AsyncFlowMaestroClient,
    ClientClosedError,
    FlowMaestroClient,
    FlowMaestroError,
    StreamTimes,
)
from flowmaestro.testing import (
    AsyncMemoryTransport,
    FakeFlowMaestro,
    MemoryTransport,
    running_server,
)
from flowmaestro_transports import AiohttpTransport, AnyioTransport, TransportClosedError

SOON = StreamTimes(reconnect_base=0.01, reconnect_max=0.01)


@pytest.fixture(scope="module")
def served():
    fake = FakeFlowMaestro(events="silent")
    with running_server(fake) as url:
        yield {"api_key": fake.api_key, "base_url": url, "stream_times": SOON}


def test_closing_the_client_wakes_a_blocking_reader(served):
    client = FlowMaestroClient(**served)
    events = client.executions.stream("exec_xyz789")
    assert next(events)["type"] == "connected"
    raised = []

    def read():
        try:
            next(events)
        except FlowMaestroError as error:
            raised.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    client.close()
    reader.join(60)
    assert isinstance(raised[0], ClientClosedError)
    assert isinstance(raised[0].__cause__, TransportClosedError)


def test_a_run_is_named_whose_client_was_closed():
    fake = FakeFlowMaestro()
    workflow = fake.workflow("Slow", hangs_at="work")
    client = FlowMaestroClient(fake.api_key, transport=MemoryTransport(fake))
    with pytest.raises(ClientClosedError) as closed:
        client.workflows.run(workflow, on_event=lambda event: client.close())
    (execution,) = fake.executions
    assert closed.value.execution_id == execution.id


@pytest.mark.parametrize(
    ("make", "backend"),
    [(AiohttpTransport, "asyncio"), (AnyioTransport, "asyncio"), (AnyioTransport, "trio")],
)
def test_closing_the_client_wakes_an_awaiting_reader(served, make, backend):
    async def main():
        client = AsyncFlowMaestroClient(transport=make(), **served)
        events = client.executions.stream("exec_xyz789")
        assert (await events.__anext__())["type"] == "connected"

        async def read():
            with pytest.raises(ClientClosedError):
                await events.__anext__()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await anyio.lowlevel.checkpoint()
            await client.close()

    anyio.run(main, backend=backend)


def test_borrowed_transport_stays_open_for_other_clients():
    fake = FakeFlowMaestro()
    transport = MemoryTransport(fake)
    for _ in range(2):
        with FlowMaestroClient(fake.api_key, transport=transport, owns_transport=False) as client:
            assert client.workflows.get("wf_123")["data"]["id"] == "wf_123"
        with pytest.raises(ClientClosedError, match="This client is closed"):
            client.workflows.get("wf_123")
    transport.close()


def test_borrowed_async_transport_stays_open_for_other_clients():
    fake = FakeFlowMaestro()

    async def main():
        transport = AsyncMemoryTransport(fake)
        for _ in range(2):
            async with AsyncFlowMaestroClient(
                fake.api_key, transport=transport, owns_transport=False
            ) as client:
                assert (await client.workflows.get("wf_123"))["data"]["id"] == "wf_123"
        await transport.close()

    anyio.run(main)


def test_client_whose_transport_another_closed_says_so():
    fake = FakeFlowMaestro()
    transport = MemoryTransport(fake)
    open_client = FlowMaestroClient(fake.api_key, transport=transport)
    FlowMaestroClient(fake.api_key, transport=transport).close()
    with pytest.raises(ClientClosedError, match="closed by another client or by its owner"):
        open_client.workflows.get("wf_123")


def test_client_must_own_the_transport_that_it_makes():
    with pytest.raises(ValueError, match="owns_transport=False needs a transport="):
        FlowMaestroClient("fm_live_key", owns_transport=False)
