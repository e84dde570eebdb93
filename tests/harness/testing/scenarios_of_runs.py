"""Executing, waiting and streaming."""

from __future__ import annotations

from typing import Any, List

import pytest

from flowmaestro import (
    TimeoutError,
    ValidationError,
)
from flowmaestro.testing import Node
from tests.harness.testing.scenarios import (
    a_workflow,
    cancel_later,
    check_end,
    everything,
    scenario,
)

ENDS = ("completed", "failed", "raises", "cancelled")


@scenario(end=ENDS, seconds=[0.4, 4.0, 60.0], poll_interval=[1.0, 10.0])
async def an_execution_is_waited_for(world, end, seconds, poll_interval):
    fake, client = world.fake, world.client()
    started = await client.workflows.execute(a_workflow(fake, end, seconds), inputs={"n": 21})
    if end == "cancelled":
        cancel_later(fake, seconds / 2)
    execution = await client.executions.wait_for_completion(
        started["data"]["execution_id"], poll_interval=poll_interval, timeout=1000.0
    )
    check_end(execution, end)
    (seen,) = fake.executions
    assert -1e-6 <= fake.clock.now - seen.completed_at <= poll_interval
    took = seconds if end == "cancelled" else seen.duration
    assert len(fake.requests) <= 18 + took / poll_interval
    fake.assert_executed("wf_mine", inputs={"n": 21}, times=1)


@scenario(stop=["hangs_at", "pauses_at"], timeout=[0.5, 5.0, 60.0], by=["run", "wait"])
async def an_execution_does_not_end_in_time(world, stop, timeout, by):
    fake, client = world.fake, world.client()
    fake.workflow("wf_mine", nodes=["draft", "approve"], **{stop: "approve"})
    if by == "run":
        call = client.workflows.run
        wanted = "wf_mine"
    else:
        call = client.executions.wait_for_completion
        wanted = (await client.workflows.execute("wf_mine"))["data"]["execution_id"]
    with pytest.raises(TimeoutError):
        await call(wanted, timeout=timeout)
    assert timeout <= fake.clock.now <= timeout + 1
    assert fake.executions[-1].status in ("pending", "running", "paused")
    assert not fake.open_streams


@scenario(end=ENDS, events=["live", "silent"])
async def an_execution_is_streamed(world, end, events):
    fake, client = world.fake, world.client()
    started = await client.workflows.execute(a_workflow(fake, end), inputs={"n": 21})
    if end == "cancelled":
        cancel_later(fake, 1.5)
    seen = await everything(client.executions.stream(started["data"]["execution_id"]))
    assert seen[0]["type"] == "connected"
    assert seen[-1]["type"] == f"execution:{'failed' if end == 'raises' else end}"
    nodes = [event["node_id"] for event in seen if event["type"] == "node:started"]
    assert nodes == (["fetch", "write"] if events == "live" else [])
    check_end(fake.executions[-1].__dict__, end)


@scenario(events=["live", "silent"], end=ENDS, listened=[True, False])
async def a_workflow_is_run(world, events, end, listened):
    fake, client = world.fake, world.client()
    heard: List[Any] = []
    if end == "cancelled":
        cancel_later(fake, 1.5)
    workflow = a_workflow(fake, end)
    options = {"on_event": heard.append} if listened else {}
    check_end(await client.workflows.run(workflow, {"n": 21}, **options), end)
    if listened:
        assert heard[-1]["type"] == f"execution:{'failed' if end == 'raises' else end}"
        assert ("node:started" in [event["type"] for event in heard]) is (events == "live")
    fake.assert_executed(workflow, inputs={"n": 21}, times=1)


@scenario(end=["completed", "failed"], after_events=[0, 1, 3], times=[1, 2])
async def a_stream_is_lost(world, end, after_events, times):
    fake, client = world.fake, world.client()
    started = await client.workflows.execute(a_workflow(fake, end, 60.0), inputs={"n": 21})
    fake.drop_connection(after_events, times=times)
    events = await everything(client.executions.stream(started["data"]["execution_id"]))
    names = [event["type"] for event in events]
    assert names[-1] == f"execution:{end}"
    assert [name for name in names if name in ("execution:completed", "execution:failed")] == [
        names[-1]
    ]
    assert "stream:reconnected" in names or after_events == 0


@scenario(count=[1, 3, 10], concurrency=[1, 2, 8])
async def a_workflow_is_run_many_times(world, count, concurrency):
    fake, client = world.fake, world.client()
    tally: List[Any] = []
    fake.workflow("wf_mine", outputs=lambda inputs: {"square": inputs["n"] ** 2})
    inputs = [{"n": number} for number in range(count)]
    outcomes = await everything(
        client.workflows.run_many("wf_mine", inputs, concurrency=concurrency, progress=tally.append)
    )
    assert sorted(it.outputs["square"] for it in outcomes) == [n**2 for n in range(count)]
    assert (tally[-1].done, tally[-1].total) == (count, count)
    fake.assert_executed("wf_mine", times=count)


@scenario(seconds=[[1], [5, 1], [30, 1, 90]])
async def many_are_waited_for(world, seconds):
    fake, client, ids = world.fake, world.client(), {}
    for each in seconds:
        workflow = fake.workflow(nodes=[Node("work", seconds=each)], outputs={})
        ids[(await client.workflows.execute(workflow))["data"]["execution_id"]] = each
    ended = await everything(client.executions.wait_many(list(ids), timeout=1000))
    assert [ids[it.execution_id] for it in ended] == sorted(seconds)
    assert all(it.ok for it in ended)


@scenario(state=["running", "ended"], lost=[False, True])
async def an_execution_is_cancelled(world, state, lost):
    fake, client = world.fake, world.client()
    started = await client.workflows.execute(a_workflow(fake, "completed"), inputs={"n": 1})
    run = started["data"]["execution_id"]
    fake.clock.advance(1.0 if state == "running" else 10.0)
    if lost:
        fake.drop_connection(path="/executions/*/cancel")
    if state == "running":
        assert (await client.executions.cancel(run))["data"]["status"] == "cancelled"
    else:
        with pytest.raises(ValidationError):
            await client.executions.cancel(run)
    check = fake.executions[-1]
    assert check.status == ("cancelled" if state == "running" else "completed")
