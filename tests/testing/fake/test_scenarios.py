"""What a user's application may go through, in memory, in virtual time, in every kind of client.

Each is a script and what must come of it, on a sync client against both descriptions of the
API, and on asyncio and on trio against one of them. None looks up an address, touches a socket,
sleeps or sets a timer, and every script must be used.
"""

from __future__ import annotations

import functools

import anyio
import pytest

from flowmaestro import (
    AsyncFlowMaestroClient,
    FlowMaestroClient,
    ServerError,
    StreamError,
    TimeoutError,
)
from flowmaestro.testing import FakeFlowMaestro, Node
from flowmaestro.testing.conformance.runner import run_to_its_end
from tests.harness.runners import IN_MEMORY
from tests.harness.testing.one_face import Awaited
from tests.harness.testing.stillness import watch_timers

SERVED = [
    pytest.param((shapes, runner), id=f"{shapes}-{runner}")
    for shapes, loop in (("deployed", "asyncio"), ("documented", "trio"))
    for runner in IN_MEMORY
    if runner.backend in (None, loop)
]
"""Which description is served where: what an event loop does cannot depend on it."""
OF_THE_FAKE = ("events", "messages")
"""What a scenario says of the fake itself."""
ENDS = ("completed", "failed", "raises", "cancelled")


@pytest.fixture(autouse=True)
def still(monkeypatch, flowmaestro_no_network):
    """Nobody sleeps, sets a timer or uses the network."""
    timers = watch_timers(monkeypatch)
    yield
    assert timers == []


def scenario(names, *cases):
    """Make a test of a coroutine function, which gets a fake, a client and the values of a case."""

    def make(act):
        @functools.wraps(act)
        def test(world, **given):
            shapes, runner = world
            arranged = {name: given[name] for name in OF_THE_FAKE if name in given}
            with FakeFlowMaestro(shapes, strict=True, **arranged) as fake:
                transport = runner.make(fake)
                if runner.backend is None:
                    client = Awaited(FlowMaestroClient(fake.api_key, transport=transport))
                    run_to_its_end(act((fake, client), **given))
                else:
                    client = AsyncFlowMaestroClient(fake.api_key, transport=transport)
                    anyio.run(
                        functools.partial(act, (fake, client), **given), backend=runner.backend
                    )

        served = pytest.mark.parametrize("world", SERVED)
        return served(pytest.mark.parametrize(names, cases)(test))

    return make


async def everything(iterator):
    return [item async for item in iterator]


def a_workflow(fake, end, seconds=2.0):
    """A workflow of two nodes that takes `seconds` and ends like that, unless it is cancelled."""

    def outputs(inputs):
        if end == "raises":
            raise KeyError("rate")
        return {"doubled": 2 * inputs["n"]}

    nodes = [Node("fetch", seconds=seconds / 2), Node("write", seconds=seconds / 2)]
    ending = {"fails_at": "write", "error": "Broke"} if end == "failed" else {"outputs": outputs}
    if end == "cancelled":

        def cancel():
            client = FlowMaestroClient(fake.api_key, transport=fake.transport())
            client.executions.cancel(fake.executions[-1].id)

        fake.clock.call_later(seconds / 2, cancel)
    return fake.workflow("wf_mine", nodes=nodes, **ending)


def check_end(execution, end):
    """The execution says how it ended, whatever it is asked by."""
    assert execution["status"] == ("failed" if end == "raises" else end)
    assert execution["outputs"] == ({"doubled": 42} if end == "completed" else None)
    if end == "failed":  # The deployed server loses the text of the node.
        texts = [f'{{"write":"{it}"}}' for it in ("Broke", "Activity task failed")]
        assert execution["error"] in [
            f"Workflow completed with 1 failed nodes: {it}" for it in texts
        ]
    else:
        assert execution["error"] == ("KeyError: 'rate'" if end == "raises" else None)


@scenario(
    ("end", "seconds", "poll_interval"), *zip(ENDS, (0.4, 4.0, 60.0, 0.4), (1.0, 10.0, 1.0, 10.0))
)
async def test_an_execution_is_waited_for(world, end, seconds, poll_interval):
    fake, client = world
    started = await client.workflows.execute(a_workflow(fake, end, seconds), inputs={"n": 21})
    execution = await client.executions.wait_for_completion(
        started["data"]["execution_id"], poll_interval=poll_interval, timeout=1000.0
    )
    check_end(execution, end)
    (seen,) = fake.executions
    assert -1e-6 <= fake.clock.now - seen.completed_at <= poll_interval
    took = seconds if end == "cancelled" else seen.duration
    assert len(fake.requests) <= 18 + took / poll_interval
    fake.assert_executed("wf_mine", inputs={"n": 21}, times=1)


@scenario(
    ("end", "events", "listened"),
    *zip(ENDS, ("live", "silent", "live", "silent"), (True, False, False, True)),
)
async def test_a_workflow_is_run(world, end, events, listened):
    (fake, client), heard = world, []
    workflow = a_workflow(fake, end)
    options = {"on_event": heard.append} if listened else {}
    check_end(await client.workflows.run(workflow, {"n": 21}, **options), end)
    if listened:
        assert heard[-1]["type"] == f"execution:{'failed' if end == 'raises' else end}"
        assert ("node:started" in [event["type"] for event in heard]) is (events == "live")
    fake.assert_executed(workflow, inputs={"n": 21}, times=1)


@scenario(
    ("end", "after_events", "times"), ("completed", 0, 1), ("failed", 1, 2), ("completed", 3, 1)
)
async def test_a_stream_is_lost(world, end, after_events, times):
    fake, client = world
    started = await client.workflows.execute(a_workflow(fake, end, 60.0), inputs={"n": 21})
    fake.drop_connection(after_events, times=times)
    events = await everything(client.executions.stream(started["data"]["execution_id"]))
    names = [event["type"] for event in events]
    ends = ("execution:completed", "execution:failed")
    assert [name for name in names if name in ends] == names[-1:] == [f"execution:{end}"]
    assert "stream:reconnected" in names or after_events == 0


@scenario(("messages", "whole"), ("sse", True), ("refused", False))
async def test_an_agent_cannot_answer(world, messages, whole):
    fake, client = world
    agent = fake.agent("agent_mine", ValueError("odd"), "Well.")
    thread = (await client.agents.create_thread(agent))["data"]["id"]
    if whole:
        asked = client.threads.send_message
    else:
        asked = lambda *it: everything(client.threads.send_message_stream(*it).text())  # noqa: E731
    if "deployed" in repr(fake) and (whole or messages == "refused"):
        kinds, message = (TimeoutError,), "did not complete"
    else:
        kinds, message = (ServerError, StreamError), "ValueError: odd"
    with pytest.raises(kinds, match=message):
        await asked(thread, "How?")
    assert "Well." in str(await client.threads.send_message(thread, "How?"))


@scenario("seconds", 0.0, 40.0, 110.0)
async def test_an_agent_takes_its_time(world, seconds):
    fake, client = world
    thread = await client.agents.create_thread(fake.agent("agent_mine", "Well.", seconds=seconds))
    before = fake.clock.now
    answer = await client.threads.send_message(thread["data"]["id"], "How?")
    assert answer["data"]["content"] == "Well."
    assert fake.clock.now - before == pytest.approx(seconds)
    messages = (await client.threads.list_messages(thread["data"]["id"]))["data"]
    assert [message["role"] for message in messages] == ["user", "assistant"]
