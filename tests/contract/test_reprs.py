"""What the objects of a client say of themselves at a prompt."""

from __future__ import annotations

import asyncio

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient
from flowmaestro.testing import FakeFlowMaestro


def test_a_stream_tells_its_state_and_its_last_event(flowmaestro_fake: FakeFlowMaestro) -> None:
    client = FlowMaestroClient()
    execution_id = client.workflows.execute("wf_123", inputs={})["data"]["execution_id"]
    with client.executions.stream(execution_id) as stream:
        assert repr(stream) == "<SyncStream: ready>"
        next(stream)
        assert repr(stream).endswith(", last event connected>")
        list(stream)
        assert repr(stream) == "<SyncStream: ended, last event execution:completed>"


def test_a_stream_that_was_left_is_closed(flowmaestro_fake: FakeFlowMaestro) -> None:
    async def main() -> str:
        async with AsyncFlowMaestroClient() as client:
            started = await client.workflows.execute("wf_123", inputs={})
            async with client.executions.stream(started["data"]["execution_id"]) as stream:
                await stream.__anext__()
            return repr(stream)

    assert asyncio.run(main()) == "<AsyncStream: closed, last event connected>"


def test_reconnections_are_counted(flowmaestro_fake: FakeFlowMaestro) -> None:
    client = FlowMaestroClient()
    execution_id = client.workflows.execute("wf_123", inputs={})["data"]["execution_id"]
    flowmaestro_fake.drop_connection(after_events=1)
    stream = client.executions.stream(execution_id)
    list(stream)
    assert repr(stream) == ("<SyncStream: ended, last event execution:completed, 1 reconnects>")


def test_an_outcome_tells_its_place_and_what_became_of_it(
    flowmaestro_fake: FakeFlowMaestro,
) -> None:
    client = FlowMaestroClient()
    good, bad = client.workflows.run_many("wf_123", [{}, {"name": object()}], ordered=True)
    assert repr(good) == f"<RunOutcome 0: {good.execution_id} completed>"
    assert repr(bad) == "<RunOutcome 1: ValidationError>"


def test_a_resource_names_its_methods() -> None:
    assert repr(FlowMaestroClient("fm_live_x").executions).startswith("<SyncExecutions: cancel, ")
