"""Lists, what is not there or not allowed, agents, knowledge bases and webhooks."""

from __future__ import annotations

from typing import Dict, List, Optional, Tuple, Type

import pytest

from flowmaestro import (
    AuthenticationError,
    AuthorizationError,
    NotFoundError,
    ServerError,
    StreamError,
    TimeoutError,
    webhooks,
)
from flowmaestro.testing.fake.model import seeds
from tests.harness.testing.scenarios import a_workflow, everything, method, one_call, scenario

LISTS = {
    "workflows": 5,
    "executions": 27,
    "agents": 3,
    "triggers": 4,
    "knowledge_bases": 2,
    "webhooks": 2,
}


@scenario(resource=LISTS, per_page=[1, 7, 100])
async def a_list_is_walked_through(world, resource, per_page):
    client = world.client()
    found = await everything(getattr(client, resource).iterate(per_page=per_page))
    assert len({item["id"] for item in found}) == len(found) == LISTS[resource]
    world.fake.assert_called("GET", params={"page": 1, "per_page": per_page}, times=1)


@scenario(fault=["status", "lost"], page=[1, 2])
async def a_list_is_walked_through_with_a_failure(world, fault, page):
    fake, client = world.fake, world.client()
    found: List[str] = []
    async for item in client.executions.iterate(per_page=9):
        if len(found) == 9 * page - 1:
            fake.fail_next(2) if fault == "status" else fake.drop_connection(times=2)
        found.append(item["id"])
    assert len(set(found)) == len(found) == 27


@scenario(
    workflow=["wf_123", "wf_abc123", None], status=["completed", "running"], per_page=[2, 100]
)
async def executions_in_one_state_are_all_found(world, workflow, status, per_page):
    client = world.client()
    every = await everything(client.executions.iterate(workflow_id=workflow))
    found = client.executions.iterate(workflow_id=workflow, status=status, per_page=per_page)
    wanted = [execution["id"] for execution in every if execution["status"] == status]
    assert [execution["id"] for execution in await everything(found)] == wanted
    assert wanted or status == "running"


@scenario(
    call=[
        "workflows.get",
        "workflows.execute",
        "executions.get",
        "executions.cancel",
        "agents.get",
        "agents.create_thread",
        "threads.get",
        "triggers.execute",
        "knowledge_bases.get",
        "webhooks.get",
        "webhooks.delete",
    ]
)
async def what_is_not_there_is_not_found(world, call):
    fake, client = world.fake, world.client()
    with pytest.raises(NotFoundError):
        await method(client, call)("11111111-2222-4333-8444-555555555555")
    assert len(fake.requests) == 1


@scenario(key=[seeds.EXPIRED_KEY, seeds.REVOKED_KEY, "fm_live_unknown"])
async def a_bad_key_is_refused(world, key):
    with pytest.raises(AuthenticationError) as caught:
        await world.client(key).workflows.list()
    assert caught.value.code.endswith("api_key")
    assert key not in str(caught.value)


@scenario(call=["workflows.execute", "triggers.execute", "webhooks.delete"])
async def a_key_that_may_only_read_may_not_act(world, call):
    client = world.client(seeds.READ_ONLY_KEY)
    with pytest.raises(AuthorizationError):
        await one_call(client, call)
    assert (world.fake.executions, len(world.fake.requests)) == ([], 1)
    assert await everything(method(client, call.partition(".")[0] + ".iterate")())


REPLIES = {
    "text": "All is well.",
    "tokens": ["Al", "l is ", "well."],
    "function": lambda text: "All is well." if text == "How?" else "What?",
    "unicode": "Größe \u2028 \U0001f600 ok",
    "empty": "",
}


@scenario(messages=["refused", "sse"], reply=REPLIES)
async def an_answer_is_streamed(world, messages, reply):
    fake, client = world.fake, world.client()
    agent = fake.agent("agent_mine", REPLIES[reply])
    thread = (await client.agents.create_thread(agent))["data"]["id"]
    events = await everything(client.threads.send_message_stream(thread, "How?"))
    wanted = {"unicode": REPLIES["unicode"], "empty": ""}.get(reply, "All is well.")
    tokens = [event["token"] for event in events if event["type"] == "message:token"]
    assert ("".join(tokens), events[-1]["content"]) == (wanted, wanted)
    assert events[-1]["type"] == "message:completed"
    if messages == "sse" and reply == "tokens":
        assert tokens == REPLIES["tokens"]


@scenario(messages=["sse", "refused"], whole=[True, False])
async def an_agent_cannot_answer(world, messages, whole):
    fake, client = world.fake, world.client()
    agent = fake.agent("agent_mine", ValueError("odd"), "Well.")
    thread = (await client.agents.create_thread(agent))["data"]["id"]
    if whole:
        asked = client.threads.send_message
    else:
        asked = lambda *it: everything(client.threads.send_message_stream(*it).text())  # noqa: E731
    kinds: Tuple[Type[Exception], ...]
    if "deployed" in repr(fake) and (whole or messages == "refused"):
        kinds, message = (TimeoutError,), "did not complete"
    else:
        kinds, message = (ServerError, StreamError), "ValueError: odd"
    with pytest.raises(kinds, match=message):
        await asked(thread, "How?")
    assert "Well." in str(await client.threads.send_message(thread, "How?"))


@scenario(seconds=[0.0, 40.0, 110.0])
async def an_agent_takes_its_time(world, seconds):
    fake, client = world.fake, world.client()
    thread = await client.agents.create_thread(fake.agent("agent_mine", "Well.", seconds=seconds))
    before = fake.clock.now
    answer = await client.threads.send_message(thread["data"]["id"], "How?")
    assert answer["data"]["content"] == "Well."
    assert fake.clock.now - before == pytest.approx(seconds)
    messages = (await client.threads.list_messages(thread["data"]["id"]))["data"]
    assert [message["role"] for message in messages] == ["user", "assistant"]


@scenario(top_k=[1, 2, 5])
async def a_knowledge_base_is_asked(world, top_k):
    fake, client = world.fake, world.client()
    fake.knowledge_base("kb_mine", texts={"pets": "Cats purr.\n\nCats sleep.\n\nCats eat."})
    found = (await client.knowledge_bases.query("kb_mine", "cats", top_k=top_k))["data"]["results"]
    assert len(found) == min(top_k, 3)
    assert {result["document_name"] for result in found} == {"pets"}
    assert all(result["similarity"] == result["score"] for result in found)


RECEIVERS: Dict[str, Tuple[List[Optional[int]], str]] = {
    "good": ([200], "delivered"),
    "late": ([500, 200], "delivered"),
    "mute": ([None, None, 204], "delivered"),
    "dead": ([503], "failed"),
}


@scenario(end=["completed", "failed"], receiver=RECEIVERS)
async def a_webhook_is_told(world, end, receiver):
    fake, client, received = world.fake, world.client(), []
    answers, state = RECEIVERS[receiver]

    def receive(request):
        if request.url != "https://example.com/hook":
            return 200
        received.append(request)
        return answers[min(len(received), len(answers)) - 1]

    fake.receive_webhooks(receive)
    for running in ("exec_xyz789", "exec_123"):
        await client.executions.cancel(running)
    created = await client.webhooks.create(
        name="Mine", url="https://example.com/hook", events=[f"execution.{end}"]
    )
    await client.workflows.run(a_workflow(fake, end), {"n": 21})
    fake.clock.advance(3600)
    tried = [it for it in fake.deliveries if it.webhook_id == created["data"]["id"]]
    assert [it.state for it in tried] == [state]
    assert len({request.body for request in received[1:]}) <= 1
    signature = received[-1].headers["x-flowmaestro-signature"]
    event = webhooks.parse(received[-1].body, signature, created["data"]["secret"])
    assert event["event"] == f"execution.{end}"
