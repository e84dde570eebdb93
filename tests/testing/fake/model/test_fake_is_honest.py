"""One contract, put to the fake in memory, and to a true service.

The last one is where `FLOWMAESTRO_TEST_BASE_URL` says, with the key `FLOWMAESTRO_TEST_API_KEY`.
What is run there is only what it is told to run: `FLOWMAESTRO_TEST_WORKFLOW`, `_AGENT` and
`_KNOWLEDGE_BASE` are ids. The assertions are the same everywhere, and those on raw replies do
not go through the SDK's reconciling of shapes.
"""

from __future__ import annotations

import os
import re
from typing import Any, NamedTuple, Optional

import pytest

from flowmaestro import (
    AuthenticationError,
    FlowMaestroClient,
    FlowMaestroError,
    NotFoundError,
    ServerError,
    ValidationError,
)
from flowmaestro.testing import FakeFlowMaestro

NOBODY = "11111111-2222-4333-8444-555555555555"
LISTS = ("workflows", "executions", "agents", "triggers", "knowledge_bases", "webhooks")
PAGINATION = {
    "documented": {"page", "per_page", "total_count", "has_more"},
    "deployed": {"page", "per_page", "total_count", "total_pages", "has_next", "has_prev"},
}
TERMINAL = ("completed", "failed", "cancelled")


class Place(NamedTuple):
    """Where a service is reached, and what may be used there; `None` for nothing."""

    key: str
    reached_by: Any
    workflow: Optional[str] = "wf_123"
    agent: Optional[str] = "agent_abc123"
    knowledge_base: Optional[str] = "kb_abc123"

    def client(self, key=None):
        return FlowMaestroClient(key or self.key, **self.reached_by())


SERVICE = os.environ.get("FLOWMAESTRO_TEST_BASE_URL")
PLACES = ["deployed", "documented", *(["service"] if SERVICE else [])]


@pytest.fixture(params=PLACES)
def place(request):
    if request.param == "service":
        told = [
            os.environ.get(f"FLOWMAESTRO_TEST_{what}")
            for what in ("WORKFLOW", "AGENT", "KNOWLEDGE_BASE")
        ]
        return Place(os.environ["FLOWMAESTRO_TEST_API_KEY"], lambda: {"base_url": SERVICE}, *told)
    fake = FakeFlowMaestro(request.param)
    return Place(fake.api_key, lambda: {"transport": fake.transport()})


@pytest.fixture
def client(place):
    with place.client() as client:
        yield client


def usable(id):
    if id is None:
        pytest.skip("nothing may be used here for this: see the top of the file")
    return id


@pytest.fixture
def workflow(place):
    return usable(place.workflow)


@pytest.fixture
def thread(place, client):
    thread = client.agents.create_thread(usable(place.agent))["data"]["id"]
    yield thread
    client.threads.delete(thread)


@pytest.mark.skipif(not SERVICE, reason="FLOWMAESTRO_TEST_BASE_URL is NOT SET")
def test_a_true_service_is_asked():
    """For the summary, which tells when it was not."""
    assert PLACES[-1] == "service"


def is_time(text):
    return re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)", text) is not None


def dialect_of(client):
    """Which of the two descriptions of the API is spoken here."""
    keys = set(client.request("GET", "/workflows")["pagination"])
    (found,) = [name for name, wanted in PAGINATION.items() if wanted == keys]
    return found


class TestEnvelopes:
    def test_list_has_data_pagination_and_meta(self, client):
        raw = client.request("GET", "/workflows", params={"per_page": 1})
        assert {"data", "pagination", "meta"} <= set(raw)
        assert isinstance(raw["data"], list)
        assert len(raw["data"]) <= 1
        assert set(raw["pagination"]) in PAGINATION.values()
        assert (raw["pagination"]["page"], raw["pagination"]["per_page"]) == (1, 1)
        assert isinstance(raw["meta"]["request_id"], str)
        assert is_time(raw["meta"]["timestamp"])

    def test_resource_has_data_and_meta(self, client):
        for listed in client.request("GET", "/workflows")["data"][:3]:
            raw = client.request("GET", f"/workflows/{listed['id']}")
            assert {"data", "meta"} <= set(raw)
            assert raw["data"]["id"] == listed["id"]
            assert raw["data"]["name"] == listed["name"]
            assert "inputs" in raw["data"] or "input_schema" in raw["data"]

    def test_response_has_the_documented_headers(self, client):
        reply = client.request("GET", "/workflows")
        assert reply.headers["content-type"].startswith("application/json")
        assert reply.headers["x-request-id"]
        for name in ("Limit", "Remaining", "Reset"):
            assert int(reply.headers[f"x-ratelimit-{name}"]) >= 0
        assert 0 <= reply.rate_limit.remaining <= reply.rate_limit.limit

    def test_error_has_code_and_message(self, client):
        with pytest.raises(FlowMaestroError) as caught:
            client.request("POST", "/webhooks", json={})
        error = caught.value
        assert (error.status_code, error.code) == (400, "validation_error")
        assert error.message
        assert error.request_id

    def test_unknown_route_is_not_found(self, client):
        with pytest.raises(NotFoundError) as caught:
            client.request("GET", "/no-such-thing")
        assert caught.value.status_code == 404


class TestLists:
    @pytest.mark.parametrize("resource", LISTS)
    def test_page_has_at_most_per_page_items(self, client, resource):
        page = getattr(client, resource).list(page=1, per_page=2)
        assert len(page["data"]) <= 2
        assert all(item["id"] for item in page["data"])
        assert PAGINATION["documented"] | PAGINATION["deployed"] <= set(page["pagination"])

    @pytest.mark.parametrize("resource", LISTS)
    def test_a_walk_meets_each_item_once(self, client, resource):
        ids = []
        for item in getattr(client, resource).iterate(per_page=10):
            ids.append(item["id"])
            if len(ids) == 30:
                break
        assert len(set(ids)) == len(ids)

    @pytest.mark.parametrize(
        ("asked", "given"),
        [("0", {1, 20}), ("1000", {100}), ("x", {20})],
        ids=["none", "too-many", "no-number"],
    )
    def test_odd_sizes_of_a_page_are_put_right(self, client, asked, given):
        raw = client.request("GET", "/workflows", params={"per_page": asked})
        assert raw["pagination"]["per_page"] in given

    def test_behind_the_last_page_there_is_nothing(self, client):
        assert client.workflows.list(page=1000)["data"] == []


class TestRefusals:
    @pytest.mark.parametrize(
        ("resource", "method"),
        [
            ("workflows", "get"),
            ("workflows", "execute"),
            ("executions", "get"),
            ("executions", "cancel"),
            ("agents", "get"),
            ("agents", "create_thread"),
            ("threads", "get"),
            ("triggers", "execute"),
            ("knowledge_bases", "get"),
            ("webhooks", "get"),
        ],
    )
    def test_unknown_id_is_not_found(self, client, resource, method):
        with pytest.raises(NotFoundError):
            getattr(getattr(client, resource), method)(NOBODY)

    def test_an_id_that_is_none(self, client):
        with pytest.raises(NotFoundError) as caught:
            client.workflows.get("no-uuid")
        assert caught.value.status_code == (404 if dialect_of(client) == "documented" else 500)

    def test_the_stream_of_an_execution_that_is_not_there(self, client):
        with pytest.raises(NotFoundError):
            next(client.executions.stream(NOBODY))

    @pytest.mark.parametrize("key", ["fm_live_nobody", "nonsense"])
    def test_a_key_that_nobody_has(self, place, key):
        with place.client(key) as client, pytest.raises(AuthenticationError) as caught:
            client.workflows.list()
        assert (caught.value.status_code, caught.value.code) == (401, "invalid_api_key")


class TestExecutions:
    def test_an_execution_starts_ends_and_can_be_read(self, client, workflow):
        started = client.workflows.execute(workflow, inputs={"name": "Ada"})
        assert started.status_code == 202
        assert started["data"]["status"] == "pending"
        run = started["data"]["execution_id"]
        ended = client.executions.wait_for_completion(run)
        assert ended["status"] in TERMINAL
        assert (ended["id"], ended["workflow_id"]) == (run, workflow)
        raw = client.request("GET", f"/executions/{run}")["data"]
        assert {"id", "workflow_id", "status", "outputs", "error"} <= set(raw)
        assert (raw["outputs"] is None) is (raw["status"] != "completed")
        assert is_time(raw["completed_at"])
        assert run in [it["id"] for it in client.executions.list(workflow_id=workflow)["data"]]

    def test_execution_stream_ends_with_one_terminal_event(self, client, workflow):
        run = client.workflows.execute(workflow)["data"]["execution_id"]
        events = [event["type"] for event in client.executions.stream(run)]
        assert "connected" in events or len(events) == 1, "it may have ended before the stream"
        assert events[-1] in [f"execution:{status}" for status in TERMINAL]
        assert sum(name.partition(":")[2] in TERMINAL for name in events if "exec" in name) == 1

    def test_the_events_of_one_that_has_ended(self, client, workflow):
        run = client.workflows.run(workflow)["id"]
        last = list(client.executions.stream(run))[-1]
        assert last["type"] in [f"execution:{status}" for status in TERMINAL]
        assert {"outputs", "error"} <= set(last)

    def test_an_ended_execution_cannot_be_cancelled(self, client, workflow):
        run = client.workflows.run(workflow)["id"]
        with pytest.raises(ValidationError):
            client.executions.cancel(run)


class TestThreads:
    def test_message_is_answered_and_kept(self, client, thread):
        answer = client.threads.send_message(thread, "Hello")["data"]
        assert answer["content"]
        assert answer["role"] == "assistant"
        assert "total_tokens" in answer["usage"]
        messages = client.threads.list_messages(thread)["data"]
        assert [message["role"] for message in messages] == ["user", "assistant"]
        assert messages[0]["content"] == "Hello"

    def test_tokens_of_a_message_add_up_to_its_content(self, client, thread):
        events = list(client.threads.send_message_stream(thread, "Hello"))
        assert events[0]["type"] == "message:started"
        assert events[-1]["type"] == "message:completed"
        tokens = [event["token"] for event in events if event["type"] == "message:token"]
        assert "".join(tokens) == events[-1]["content"]

    def test_the_deployed_server_refuses_to_stream_messages(self, client, thread):
        """The server that answers today refuses, before anything was sent."""
        body = {"content": "Hello", "stream": True}
        if dialect_of(client) == "deployed":
            with pytest.raises(ServerError) as caught:
                client.request("POST", f"/threads/{thread}/messages", json=body)
            assert (caught.value.status_code, caught.value.code) == (501, "not_implemented")
            assert client.threads.list_messages(thread)["data"] == []


class TestKnowledge:
    def test_knowledge_query_returns_results(self, client, place):
        base = usable(place.knowledge_base)
        raw = client.request(
            "POST", f"/knowledge-bases/{base}/query", json={"query": "password", "top_k": 2}
        )["data"]
        assert len(raw["results"]) <= 2
        scores = [result["score"] for result in raw["results"]]
        assert scores == sorted(scores, reverse=True)
        assert all(result["content"] for result in raw["results"])


class TestWebhooks:
    def test_a_webhook_is_created_read_changed_and_deleted(self, client):
        unlikely = "thread.message.failed"  # No event of others is delivered meanwhile.
        made = client.webhooks.create(
            name="Contract", url="https://example.com/hook", events=[unlikely]
        )
        id = made["data"]["id"]
        try:
            assert made.status_code == 201
            assert made["data"]["secret"]
            found = client.request("GET", f"/webhooks/{id}")["data"]
            assert (found["name"], found["url"]) == ("Contract", "https://example.com/hook")
            assert found["events"] == [unlikely]
            assert "secret" not in found
            assert client.webhooks.update(id, name="Renamed")["data"]["name"] == "Renamed"
            assert list(client.webhooks.iterate_deliveries(id)) == []
        finally:
            client.webhooks.delete(id)
        with pytest.raises(NotFoundError):
            client.webhooks.get(id)
