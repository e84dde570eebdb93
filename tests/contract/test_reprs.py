"""What the objects of a client say of themselves at a prompt."""

from __future__ import annotations

import asyncio
import base64
import copy
import re
from typing import Any

import pytest

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient, TimeoutError
from flowmaestro.testing import FakeFlowMaestro, Node
from flowmaestro.timeline import timeline_of


def test_a_stream_tells_its_state_and_its_last_event(flowmaestro_fake: FakeFlowMaestro) -> None:
    client = FlowMaestroClient()
    execution_id = client.workflows.execute("wf_123", inputs={})["data"]["execution_id"]
    with client.executions.stream(execution_id) as stream:
        assert repr(stream) == "<EventStream: ready>"
        next(stream)
        assert repr(stream).endswith(", last event connected>")
        list(stream)
        assert repr(stream) == "<EventStream: ended, last event execution:completed>"


def test_a_stream_that_was_left_is_closed(flowmaestro_fake: FakeFlowMaestro) -> None:
    async def main() -> str:
        async with AsyncFlowMaestroClient() as client:
            started = await client.workflows.execute("wf_123", inputs={})
            async with client.executions.stream(started["data"]["execution_id"]) as stream:
                await stream.__anext__()
            return repr(stream)

    assert asyncio.run(main()) == "<AsyncEventStream: closed, last event connected>"


def test_reconnections_are_counted(flowmaestro_fake: FakeFlowMaestro) -> None:
    client = FlowMaestroClient()
    execution_id = client.workflows.execute("wf_123", inputs={})["data"]["execution_id"]
    flowmaestro_fake.drop_connection(after_events=1)
    stream = client.executions.stream(execution_id)
    list(stream)
    assert repr(stream) == ("<EventStream: ended, last event execution:completed, 1 reconnects>")


def test_a_resource_names_its_methods() -> None:
    assert repr(FlowMaestroClient("fm_live_x").executions).startswith("<SyncExecutions: cancel, ")


@pytest.fixture
def ask(flowmaestro_fake: FakeFlowMaestro) -> Any:
    """Call something of a client; of what is iterated over, the handle after its end."""

    def called(do: Any) -> Any:
        with FlowMaestroClient() as client:
            result = do(client)
            _ = list(result) if hasattr(result, "__next__") else None
            return result

    return called


def shown(thing: Any) -> str:
    """The HTML of a thing, with the text of the picture in it."""
    html: str = thing._repr_html_()
    image = html.partition(";base64,")[2].partition('"')[0]
    return html + base64.b64decode(image).decode()


def test_a_run_shows_its_outputs_and_its_timeline(ask: Any) -> None:
    run = ask(lambda client: client.workflows.run("wf_123", inputs={"name": "Ada"}))
    assert repr(run).endswith("completed in 0.30 s, outputs {'message': 'Hello, Ada!'}>")
    assert "Hello, Ada!" in shown(run)
    assert "Compose greeting" in shown(run)
    assert timeline_of(run, transparent=True) in shown(run)


def test_a_run_remembers_that_its_stream_was_lost(
    ask: Any, flowmaestro_fake: FakeFlowMaestro
) -> None:
    flowmaestro_fake.workflow("wf_123", nodes=[Node("fetch", seconds=2.0)])
    flowmaestro_fake.drop_connection(after_events=2, path="/executions/*/events")
    run = ask(lambda client: client.workflows.run("wf_123", inputs={"name": "Ada"}))
    assert "stream lost and resumed 1 x" in shown(run)


def test_a_stream_shows_the_timeline_up_to_where_it_is(
    ask: Any, flowmaestro_fake: FakeFlowMaestro
) -> None:
    started: Any = FlowMaestroClient().workflows.execute("wf_123", inputs={"name": "Ada"})
    stream = ask(lambda client: client.executions.stream(started["data"]["execution_id"]))
    assert "ended, last event execution:completed" in shown(stream)
    assert "Compose greeting" in shown(stream)
    assert timeline_of(stream, transparent=True) in shown(stream)


def test_timeline_of_a_run_that_timed_out_shows_its_nodes(
    ask: Any, flowmaestro_fake: FakeFlowMaestro
) -> None:
    nodes = [Node("fetch", seconds=1.0), Node("wait", seconds=1000.0)]
    flowmaestro_fake.workflow("wf_123", nodes=nodes)
    with pytest.raises(TimeoutError) as caught:
        ask(lambda client: client.workflows.run("wf_123", inputs={"name": "Ada"}, timeout=9))
    error = copy.copy(caught.value)
    assert re.findall(r"<title>(fetch|wait): (\w+)", timeline_of(error)) == [
        ("fetch", "completed"),
        ("wait", "running"),
    ]
    with pytest.raises(TypeError, match="run must be an execution or its stream, not TimeoutErr"):
        timeline_of(TimeoutError())


@pytest.mark.parametrize("what", ["wait", "get", "list", "row"])
def test_notebook_shows_unfollowed_handle_without_events(
    ask: Any, what: str, flowmaestro_fake: FakeFlowMaestro
) -> None:
    with FlowMaestroClient() as client:
        run: Any = client.workflows.run("wf_123", inputs={"name": "Ada"})
    id = run["id"]
    thing = ask(
        {
            "wait": lambda client: client.executions.wait_for_completion(id),
            "get": lambda client: client.executions.get(id),
            "list": lambda client: client.executions.list(workflow_id="wf_123"),
            "row": lambda client: client.executions.wait_many([id]),
        }[what]
    )
    assert "this server sends no node events" not in shown(thing)
    assert {"list": id, "row": "1 of 1 done, 0 failed, 0 in flight"}.get(
        what, "Hello, Ada!"
    ) in shown(thing)
    if what == "wait":
        assert "0.30 s" in timeline_of(thing)


def test_an_execution_that_was_followed_late_blames_no_server(
    ask: Any, flowmaestro_fake: FakeFlowMaestro
) -> None:
    with FlowMaestroClient() as client:
        run: Any = client.workflows.run("wf_123", inputs={"name": "Ada"})
    stream = ask(lambda client: client.executions.stream(run["id"]))
    assert "its events were not followed" in shown(stream)


def test_other_handles_have_no_picture(ask: Any) -> None:
    assert not hasattr(ask(lambda client: client.workflows.iterate()), "_repr_html_")


def test_a_timeline_is_of_a_run(flowmaestro_client: FlowMaestroClient) -> None:
    page, reply = flowmaestro_client.workflows.list(), {"data": {"id": "wf_123"}}
    handle = flowmaestro_client.workflows.iterate()
    for other in (7, "exec_1", handle, flowmaestro_client, page, reply, {}):
        with pytest.raises(TypeError, match="run must be an execution or its stream, not "):
            timeline_of(other)  # type: ignore[arg-type]


def test_a_reply_with_an_execution_has_its_timeline(flowmaestro_client: FlowMaestroClient) -> None:
    run = flowmaestro_client.workflows.run("wf_123", inputs={"name": "Ada"})
    reply: Any = flowmaestro_client.executions.get(run["id"])
    assert timeline_of(reply) == timeline_of(reply["data"])
    assert "total 0.30 s" in timeline_of(reply)
