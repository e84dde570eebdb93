"""Waits that end before their next poll give its turn back to others of the same client."""

import anyio
import pytest

from flowmaestro import AsyncFlowMaestroClient
from flowmaestro.testing import AsyncMemoryTransport, FakeFlowMaestro, Node

MANY = 60
"""So many waits have turns far ahead on a key of 300 requests a minute, and leave some of these."""


def a_fake(events, seconds):
    fake = FakeFlowMaestro(events=events)
    fake.workflow("wf_many", nodes=[Node("work", seconds=seconds)])
    fake.workflow("wf_short", nodes=[Node("work", seconds=2.0)])
    fake.rate_limit(per_minute=300)
    return fake


async def seconds_of_a_wait(client, fake):
    """Return how long a wait for an execution of 2 s takes."""
    begun = fake.clock.now
    started = await client.workflows.execute("wf_short")
    await client.executions.wait_for_completion(started["data"]["execution_id"])
    return fake.clock.now - begun


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("method", ["run", "wait_for_completion"])
def test_a_wait_is_not_delayed_by_cancelled_ones(backend, method):
    async def main():
        fake = a_fake("silent", seconds=600.0)
        transport = AsyncMemoryTransport(fake)
        async with AsyncFlowMaestroClient(fake.api_key, transport=transport) as client:

            async def wait():
                if method == "run":
                    await client.workflows.run("wf_many")
                started = await client.workflows.execute("wf_many")
                await client.executions.wait_for_completion(started["data"]["execution_id"])

            async with anyio.create_task_group() as tasks:
                for _ in range(MANY):
                    tasks.start_soon(wait)
                await transport.sleep(1.0)
                tasks.cancel_scope.cancel()
            assert await seconds_of_a_wait(client, fake) < 4.0

    anyio.run(main, backend=backend)


def test_a_wait_is_not_delayed_by_runs_that_events_have_ended():
    async def main():
        fake = a_fake("live", seconds=1.0)
        transport = AsyncMemoryTransport(fake)
        async with AsyncFlowMaestroClient(fake.api_key, transport=transport) as client:
            async with anyio.create_task_group() as tasks:
                for _ in range(MANY):
                    tasks.start_soon(client.workflows.run, "wf_many")
            assert await seconds_of_a_wait(client, fake) < 4.0

    anyio.run(main)
