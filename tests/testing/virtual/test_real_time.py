"""The fake on the real clock, and loops that would never end on the virtual one."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient
from flowmaestro.testing import FakeFlowMaestro, Node


def started(fake, client, **script):
    return client.workflows.execute(fake.workflow("wf_mine", **script))["data"]["execution_id"]


def connected(fake):
    return FlowMaestroClient(fake.api_key, transport=fake.transport())


@pytest.mark.parametrize("read", ["get", "list"])
def test_a_loop_that_polls_by_itself_is_told_the_way_out(read):
    fake = FakeFlowMaestro()
    client = connected(fake)
    run = started(fake, client, outputs={})
    ask = {"get": lambda: client.executions.get(run), "list": client.executions.list}[read]
    for _ in range(100):
        ask()
        time.sleep(0)
    with pytest.raises(AssertionError, match=r'FakeFlowMaestro\(time="real"\)') as caught:
        ask()
    assert "101 times while virtual time stood still at 0 s" in str(caught.value)
    fake.clock.advance(1)
    ask()


def test_requests_independent_of_time_may_repeat_more_often():
    client = connected(FakeFlowMaestro())
    for _ in range(1000):
        client.workflows.get("wf_123")
    with pytest.raises(AssertionError, match="1001 times"):
        client.workflows.get("wf_123")


def test_a_loop_whose_polls_are_tasks_is_told_the_way_out(fake):
    """As `asyncio.gather` makes them, a web server, and `asyncio.wait_for` before Python 3.12."""

    async def main():
        client = AsyncFlowMaestroClient(fake.api_key, transport=fake.async_transport())
        while True:
            await asyncio.gather(client.executions.get("exec_123"))

    with pytest.raises(AssertionError, match="1001 times while virtual time stood still"):
        asyncio.run(main())


def test_threads_that_follow_each_other_are_told_apart():
    """A new thread may have the number of one that has ended."""
    client = connected(FakeFlowMaestro())
    for _ in range(8):
        with ThreadPoolExecutor(1) as one:
            one.submit(lambda: [client.executions.get("exec_123") for _ in range(30)]).result()


def test_a_loop_that_polls_by_itself_ends_in_real_time():
    fake = FakeFlowMaestro(time="real")
    client = connected(fake)
    run = started(fake, client, nodes=[Node("a", seconds=0.1)], outputs={"total": 7})
    while client.executions.get(run)["data"]["status"] != "completed":
        time.sleep(0.001)
    assert fake.executions[-1].outputs == {"total": 7}
    assert fake.clock.now >= 0.1


def test_sync_calls_take_their_time():
    fake = FakeFlowMaestro(time="real")
    client = connected(fake)
    heard = []
    fake.clock.call_later(0.05, lambda: heard.append(fake.clock.now))
    run = started(fake, client, nodes=[Node("a", seconds=0.1)], outputs={})
    assert list(client.executions.stream(run))[-1]["type"] == "execution:completed"
    assert heard[0] >= 0.05
    assert fake.deliveries[-1].event == "execution.completed"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_time_limit_around_a_stream_works(backend):
    fake = FakeFlowMaestro(time="real")

    async def main():
        client = AsyncFlowMaestroClient(fake.api_key, transport=fake.async_transport())
        workflow = fake.workflow("wf_mine", nodes=["a"], hangs_at="a")
        run = (await client.workflows.execute(workflow))["data"]["execution_id"]
        with anyio.CancelScope() as limit:
            async for event in client.executions.stream(run):
                if event["type"] == "connected":
                    limit.deadline = anyio.current_time() + 0.1
        assert limit.cancelled_caught

    anyio.run(main, backend=backend)
    assert not fake.open_streams


def test_an_event_loop_is_not_held_up():
    fake = FakeFlowMaestro(time="real")

    async def main():
        client = AsyncFlowMaestroClient(fake.api_key, transport=fake.async_transport())
        workflow = fake.workflow("wf_mine", nodes=[Node("a", seconds=0.1)], outputs={})
        runs = [client.workflows.run(workflow) for _ in range(5)]
        return [run["status"] for run in await asyncio.gather(*runs)]

    assert asyncio.run(main()) == ["completed"] * 5


def test_a_call_that_was_given_up_does_not_disturb_the_next_event_loop():
    fake = FakeFlowMaestro(time="real")
    fake.latency(30)  # Longer than a busy machine may take to give the call up.

    async def list_workflows(seconds):
        client = AsyncFlowMaestroClient(fake.api_key, transport=fake.async_transport())
        return await asyncio.wait_for(client.workflows.list(), seconds)

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(list_workflows(0.001))
    fake.latency(0.02)
    assert "data" in asyncio.run(list_workflows(30))


def test_no_cancellation_is_lost():
    """Also one that comes at the very moment when a wait of the fake's is over."""

    async def main():
        fake = FakeFlowMaestro(time="real")
        fake.workflow("wf_stuck", nodes=["think"], hangs_at="think")
        async with AsyncFlowMaestroClient(fake.api_key, transport=fake.async_transport()) as client:
            for step in range(150):
                run = asyncio.ensure_future(client.workflows.run("wf_stuck"))
                await asyncio.sleep(step % 25 * 0.0002)
                run.cancel()
                await asyncio.wait([run], timeout=30.0)
                assert run.cancelled()

    asyncio.run(main())
