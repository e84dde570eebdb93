"""What the SDK returns is what its types say, in both of the server's dialects."""

from __future__ import annotations

import typing
from typing import Any, Callable, Dict, Iterable, Iterator, List

import pytest

from flowmaestro import FlowMaestroClient, types
from flowmaestro.testing import FakeFlowMaestro, MemoryTransport

SHAPES = ("deployed", "documented")


def wrong(kind: Any, value: Any, where: str) -> Iterator[str]:
    """Where `value` is not a `kind`: a required key is missing, or a value is of another type."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return
    if origin is typing.Union:
        if not any(not list(wrong(one, value, where)) for one in inner):
            yield from wrong(inner[0], value, where)
    elif origin is typing.Literal:
        if value not in inner:
            yield f"{where} is {value!r}"
    elif not isinstance(value, (float, int) if kind is float else _runtime(kind, origin)):
        yield f"{where} is {value!r}"
    elif origin is list:
        for row in value:
            yield from wrong(inner[0], row, where + "[]")
    elif hasattr(kind, "__required_keys__"):
        for key, declared in typing.get_type_hints(kind).items():
            if key in value:
                yield from wrong(declared, value[key], f"{where}.{key}")
            elif key in kind.__required_keys__:
                yield f"{where}.{key} is missing"


def _runtime(kind: Any, origin: Any) -> Any:
    return dict if hasattr(kind, "__required_keys__") else origin or kind


@pytest.fixture(params=SHAPES)
def client(request: pytest.FixtureRequest) -> Iterator[FlowMaestroClient]:
    fake = FakeFlowMaestro(shapes=request.param)
    with FlowMaestroClient(fake.api_key, transport=MemoryTransport(fake)) as client:
        yield client


def replies(client: FlowMaestroClient) -> Iterable[Any]:
    """A reply of every endpoint, with the type of its `data`."""
    workflow = client.workflows.list()["data"][0]["id"]
    agent = client.agents.list()["data"][0]["id"]
    base = client.knowledge_bases.list()["data"][0]["id"]
    trigger = client.triggers.list()["data"][0]["id"]

    def execute() -> Any:
        return client.workflows.execute(workflow, inputs={"name": "x"})

    yield List[types.Workflow], client.workflows.list()
    yield types.Workflow, client.workflows.get(workflow)
    yield types.ExecuteWorkflowResponse, execute()
    ended = client.executions.wait_for_completion(execute()["data"]["execution_id"])
    yield types.Execution, {"data": ended}
    yield types.Execution, client.executions.get(ended["id"])
    yield List[types.Execution], client.executions.list()
    running = execute()["data"]["execution_id"]
    yield types.CancelledExecution, client.executions.cancel(running)

    yield List[types.Agent], client.agents.list()
    yield types.Agent, client.agents.get(agent)
    yield types.Memory, client.agents.update_memory(agent, USER, working_memory="likes tea")
    yield List[types.Memory], client.agents.list_memory(agent)
    yield types.Memory, client.agents.get_memory(agent, USER)
    yield types.MemorySearch, client.agents.search_memory(agent, "tea")
    yield types.MemoryStats, client.agents.memory_stats(agent)
    yield types.DeletedResource, client.agents.delete_memory(agent, USER)

    made = client.agents.create_thread(agent)
    thread = made["data"]["id"]
    yield types.Thread, made
    yield types.Thread, client.threads.get(thread)
    yield types.SendMessageResponse, client.threads.send_message(thread, "hi")
    yield List[types.ThreadMessage], client.threads.list_messages(thread)
    yield types.DeletedResource, client.threads.delete(thread)

    yield List[types.Trigger], client.triggers.list()
    yield types.ExecuteTriggerResponse, client.triggers.execute(trigger)
    yield List[types.KnowledgeBase], client.knowledge_bases.list()
    yield types.KnowledgeBase, client.knowledge_bases.get(base)
    found = client.knowledge_bases.query(base, "reset password")
    yield types.QueryKnowledgeBaseResponse, found

    created = client.webhooks.create("n", "https://example.com", ["execution.completed"])
    webhook = created["data"]["id"]
    yield types.WebhookWithSecret, created
    yield List[types.Webhook], client.webhooks.list()
    yield types.Webhook, client.webhooks.get(webhook)
    yield types.Webhook, client.webhooks.update(webhook, name="z")
    yield types.TestWebhookResponse, client.webhooks.test(webhook)
    yield List[types.WebhookDelivery], client.webhooks.list_deliveries("wh_abc123")
    yield types.DeletedResource, client.webhooks.delete(webhook)


USER = "0fa11000-0000-4000-8000-0000000000aa"


def test_replies_are_what_their_types_say(client: FlowMaestroClient) -> None:
    complaints: List[str] = []
    for number, (kind, reply) in enumerate(replies(client)):
        about = f"{number}: {kind}"
        complaints += wrong(kind, reply["data"], about)
        if isinstance(reply["data"], list):
            assert reply["data"], about
            complaints += wrong(types.PaginationInfo, reply["pagination"], about)
        complaints += wrong(types.ResponseMeta, reply.get("meta", META), about)
    assert complaints == []


META = {"request_id": "req_1", "timestamp": "now"}
"""Where a whole wait gives back an execution without its envelope."""


def by_name(union: Any) -> Dict[str, Any]:
    kinds = typing.get_args(union)
    return {typing.get_args(typing.get_type_hints(kind)["type"])[0]: kind for kind in kinds}


def executing(client: FlowMaestroClient) -> Iterable[Any]:
    workflow = client.workflows.list()["data"][0]["id"]
    started = client.workflows.execute(workflow, inputs={"name": "x"})
    return client.executions.stream(started["data"]["execution_id"])


def answering(client: FlowMaestroClient) -> Iterable[Any]:
    agent = client.agents.list()["data"][0]["id"]
    thread = client.agents.create_thread(agent)["data"]["id"]
    return client.threads.send_message_stream(thread, "hello")


@pytest.mark.parametrize(
    ("union", "stream"),
    [(types.ExecutionEvent, executing), (types.ThreadEvent, answering)],
    ids=["execution", "message"],
)
def test_events_are_what_their_types_say(
    client: FlowMaestroClient, union: Any, stream: Callable[[FlowMaestroClient], Iterable[Any]]
) -> None:
    kinds = by_name(union)
    events = list(stream(client))
    complaints = [wrong(kinds[event["type"]], event, event["type"]) for event in events]
    assert len(events) > 2
    assert [text for found in complaints for text in found] == []


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (types.PaginationInfo, {"page": 1}),
        (List[types.DeletedResource], [{"id": 1, "deleted": True}]),
        (types.DeletedResource, []),
        (types.ExecutionStatus, "ended"),
        (typing.Optional[int], "1"),
    ],
)
def test_the_walk_sees_what_is_wrong(kind: Any, value: Any) -> None:
    assert list(wrong(kind, value, "here"))
