"""A successful call of each route of the fake, in both dialects."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flowmaestro.testing.fake.model import seeds
from flowmaestro.testing.fake.model.endpoints import ROUTES
from flowmaestro.testing.fake.model.routing import find_route
from flowmaestro_core.http.messages import Headers, Request

TABLE = json.loads(Path(__file__).with_name("api_replies.json").read_text(encoding="utf-8"))
IDS = {
    "workflow_id": "wf_123",
    "execution_id": "exec_xyz789",
    "running_id": "exec_xyz789",
    "agent_id": "agent_abc123",
    "user_id": "user_456",
    "thread_id": "thread_xyz789",
    "trigger_id": "trigger_abc123",
    "knowledge_base_id": "kb_abc123",
    "webhook_id": "wh_abc123",
    "other_webhook_id": "wh_abc123",
}
"""Resources that every fake has, for the ids in the paths of the table of replies."""


def calls_of_table():
    """Return a successful call of each route: method, path and body.

    It is the first row of the route in the table of replies that succeeds in one of the dialects.
    """
    calls = {}
    for row in TABLE["rows"]:
        statuses = (row["status"], row.get("documented", {}).get("status", row["status"]))
        path = row["path"].partition("?")[0].format(**IDS)
        found = find_route(ROUTES, row["method"], f"/v1{path}")
        is_special = not {"key", "text", "left_out"}.isdisjoint(row)
        if found is not None and not is_special and min(statuses) < 300:
            calls.setdefault(found[0], (row["method"], path, row.get("body")))
    return list(calls.values())


CALLS = calls_of_table()


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
def test_every_call_needs_its_scopes(caller, method, path, body):
    caller.key = caller.fake.add_key(scopes=[])
    reply = caller.call(method, path, body)
    error = json.loads(reply.body)["error"]
    assert (reply.status, error["code"]) == (403, "insufficient_scope")
    assert error["details"]["missing_scopes"] == error["details"]["required_scopes"] != []


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [row for row in CALLS if any(mark in row[1] for mark in ("_123", "_abc", "_xyz"))],
)
def test_every_resource_can_be_unknown(caller, shapes, unknown_uuid, method, path, body):
    known = path.split("/")[2]
    reply = caller.call(method, path.replace(known, unknown_uuid), body)
    assert reply.status == 404
    if (shapes, path) == ("deployed", "/threads/thread_xyz789/events"):
        assert json.loads(reply.body)["message"].startswith("Route GET:/api/v1/threads/")
        return
    assert json.loads(reply.body)["error"]["code"] == "resource_not_found"

    reply = caller.call(method, path.replace(known, "no_such_id"), body)
    said = json.loads(reply.body)
    if shapes == "documented":
        assert reply.status == 404
        assert said["error"]["details"]["id"] == "no_such_id"
    elif path.startswith("/workflows/wf_123/execute") or path.endswith("/cancel"):
        code = "internal_error" if path.endswith("/cancel") else "execution_failed"
        assert (reply.status, said["error"]["code"]) == (500, code)
        assert "invalid input syntax for type uuid" in said["error"]["message"]
    else:
        assert (reply.status, said["statusCode"], said["code"]) == (500, 500, "22P02")
        assert said["message"] == 'invalid input syntax for type uuid: "no_such_id"'


def test_workflow_declares_its_inputs(caller, shapes):
    workflow = caller.data("GET", "/workflows/wf_abc123")
    if shapes == "deployed":
        about = workflow["inputs"]["input1"]
        assert (about["label"], about["description"]) == ("Email", "Where to write to.")
        failing = caller.data("GET", f"/workflows/{seeds.FAILING_WORKFLOW_ID}")
        assert failing["inputs"] is None
    else:
        names = {"customer_email", "customer_name", "name"}
        assert set(workflow["input_schema"]["properties"]) == names


def test_a_failing_a_pausing_and_a_strict_workflow(caller, shapes):
    def run(workflow_id):
        return caller.data("POST", f"/workflows/{workflow_id}/execute", {})["execution_id"]

    failing, pausing = run(seeds.FAILING_WORKFLOW_ID), run(seeds.PAUSING_WORKFLOW_ID)
    caller.pass_time(60)
    failed = caller.data("GET", f"/executions/{failing}")
    told = "Activity task failed" if shapes == "deployed" else "Service answered 503"
    error = f'Workflow completed with 1 failed nodes: {{"call":"{told}"}}'
    assert (failed["status"], failed["error"]) == ("failed", error)
    assert caller.data("GET", f"/executions/{pausing}")["status"] == "paused"
    assert caller.call("POST", f"/executions/{pausing}/cancel").status == 400

    started = caller.call("POST", f"/workflows/{seeds.STRICT_WORKFLOW_ID}/execute", {})
    if shapes == "deployed":
        assert started.status == 202
    else:
        assert started.status == 400
        assert json.loads(started.body)["error"]["details"] == {"email": "is required"}


def test_failed_executions_of_a_new_fake_have_the_errors_of_their_nodes(caller, shapes):
    told = "Activity task failed" if shapes == "deployed" else "Service answered 503"
    listed = caller.data("GET", "/executions?status=failed&per_page=100")
    found = [caller.fake.find_execution(each["id"]).failed_nodes for each in listed]
    assert found == [{"call": told}] * 8


def test_a_message_and_its_thread(caller, shapes):
    answer = caller.data("POST", "/threads/thread_xyz789/messages", {"content": "My order?"})
    text = "Your order has shipped and should arrive on Thursday."
    if shapes == "deployed":
        assert answer["message"]["content"] == text
    else:
        assert (answer["content"], answer["usage"]["total_tokens"]) == (text, 11)
    assert caller.now == pytest.approx(0.4)

    listed = caller.json("GET", "/threads/thread_xyz789/messages?per_page=1")
    if shapes == "deployed":  # It ignores the page.
        roles = [message["role"] for message in listed["data"]["messages"]]
        assert roles == ["user", "assistant", "user", "assistant"]
    else:
        assert (len(listed["data"]), listed["pagination"]["total_count"]) == (1, 4)


def test_a_message_may_take_too_long_and_goes_on(caller):
    reply = caller.call(
        "POST", "/threads/thread_xyz789/messages", {"content": "Hi", "timeout": 100}
    )
    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (408, "timeout")
    assert caller.now == pytest.approx(0.1)
    caller.pass_time(1)
    messages = caller.data("GET", "/threads/thread_xyz789/messages")
    assert len(messages["messages"] if isinstance(messages, dict) else messages) == 4


def test_a_message_that_fails(caller, shapes):
    def fail(text):
        raise RuntimeError("no tokens left")

    agent = caller.fake.agent(None, fail)
    thread = caller.data("POST", f"/agents/{agent}/threads")["id"]
    reply = caller.call("POST", f"/threads/{thread}/messages", {"content": "Hi"})
    error = json.loads(reply.body)["error"]
    messages = caller.data("GET", f"/threads/{thread}/messages")
    if shapes == "deployed":
        assert (reply.status, error["code"]) == (408, "timeout")
        assert caller.now == pytest.approx(120.0)
        assert messages == {"messages": []}, "not even the user's message is stored"
    else:
        assert (reply.status, error["code"]) == (500, "execution_failed")
        assert error["message"] == "RuntimeError: no tokens left"
        assert [message["content"] for message in messages] == ["Hi"]


@pytest.mark.parametrize("shapes", ["documented"])
def test_a_thread_keeps_its_metadata(caller):
    body = {"metadata": {"user_id": "user_456"}}
    thread = caller.data("POST", "/agents/agent_abc123/threads", body)
    assert thread["metadata"] == body["metadata"]


def test_knowledge_query_finds_paragraphs(caller):
    asked = {"query": "How do I reset my password?", "top_k": 5}
    results = caller.data("POST", "/knowledge-bases/kb_abc123/query", asked)["results"]
    assert results[0]["document_name"] == "passwords.md"
    assert "reset" in results[0]["content"]
    assert 1 > results[0]["score"] >= results[-1]["score"] > 0
    assert caller.data("GET", "/knowledge-bases")[0]["document_count"] == 3


@pytest.mark.parametrize("top_k", [0, -1, 1.5, "5", True, [], {}, 10**400, 1e300, "1e999"])
def test_a_bad_top_k(caller, shapes, top_k):
    body = {"query": "password", "top_k": top_k}
    status = caller.call("POST", "/knowledge-bases/kb_abc123/query", body).status
    if shapes == "documented":
        assert status == (200 if top_k in (10**400, 1e300) else 400)
    else:
        assert status == (500 if top_k in (-1, 1.5, "1e999") else 200)


def test_triggers_are_filtered_where_documented_and_may_be_disabled(caller, shapes):
    rows = caller.data("GET", "/triggers?workflow_id=wf_abc123")
    assert len(rows) == (4 if shapes == "deployed" else 1)
    disabled = f"/triggers/{seeds.DISABLED_TRIGGER_ID}/execute"
    assert caller.call("POST", disabled, {}).status == 400


def test_metadata_of_a_memory_is_added(caller):
    base, user = "/agents/agent_abc123/memory", "0fa11000-0000-4000-8000-0000000000aa"
    body = {"working_memory": "Likes tea", "metadata": {"a": 1}}
    caller.call("PUT", f"{base}/{user}", body)
    caller.call("PUT", f"{base}/{user}", {"working_memory": "Likes tea", "metadata": {"b": 2}})
    memory = caller.data("GET", f"{base}/{user}")
    assert (memory["working_memory"], memory["metadata"]) == ("Likes tea", {"a": 1, "b": 2})
    assert caller.data("GET", f"{base}/stats")["working_memory_count"] == 3


def test_a_search_of_memory_finds_what_was_said(caller):
    path = "/agents/agent_abc123/memory/search"
    found = caller.data("POST", path, {"query": "the bicycle", "top_k": 1})
    (hit,) = found["results"]
    assert (hit["content"], hit["role"]) == ("Hello, I ordered a bicycle last week.", "user")
    assert [it["message_index"] for it in hit["context_after"]] == [1]
    for narrowing in ({"similarity_threshold": 0.99}, {"user_id": "user_456"}):
        found = caller.data("POST", path, {"query": "bicycle", **narrowing})
        assert (found["results"], found["result_count"]) == ([], 0)


def test_only_pages_before_the_last_have_more(caller):
    for page, rows in ((2, 4), (3, 1)):
        listed = caller.json("GET", f"/executions?workflow_id=wf_123&per_page=4&page={page}")
        pagination = listed["pagination"]
        assert (len(listed["data"]), pagination["total_count"]) == (rows, 9)
        assert pagination.get("total_pages", 3) == 3
        assert pagination.get("has_next", pagination.get("has_more")) == (page == 2)


@pytest.mark.parametrize(
    ("query", "page", "per_page"),
    [
        ("", 1, 20),
        ("?page=0&per_page=0", 1, 1),
        ("?page=x&per_page=", 1, 20),
        ("?page=-3&per_page=1000", 1, 100),
        ("?page=2&per_page=3.5", 2, 20),
    ],
)
def test_bad_numbers_are_mended_silently(caller, query, page, per_page):
    pagination = caller.json("GET", f"/workflows{query}")["pagination"]
    assert (pagination["page"], pagination["per_page"]) == (page, per_page)


@pytest.mark.parametrize("inputs", ["x", 5, True])
def test_inputs_that_are_not_an_object_break_the_list_where_deployed(caller, shapes, inputs):
    path = "/executions?workflow_id=wf_123"
    refused = caller.call("POST", "/workflows/wf_123/execute", {"inputs": inputs})
    assert refused.status == (500 if shapes == "deployed" else 400)
    for _ in range(2):
        listed = caller.call("GET", path)
        assert listed.status == (500 if shapes == "deployed" else 200)
        assert shapes != "deployed" or b"is not valid JSON" in listed.body
        caller.call("POST", "/workflows/wf_123/execute", {"inputs": {}})
    assert caller.call("GET", "/executions?workflow_id=wf_abc123").status == 200


@pytest.mark.parametrize("shapes", ["deployed"])
def test_bad_inputs_break_only_the_page_that_they_are_on(caller, shapes):
    caller.call("POST", "/workflows/wf_123/execute", {"inputs": "x"})
    for _ in range(3):
        caller.call("POST", "/workflows/wf_123/execute", {"inputs": {}})

    def status(page, per_page):
        query = f"workflow_id=wf_123&page={page}&per_page={per_page}"
        return caller.call("GET", f"/executions?{query}").status

    assert [status(1, 3), status(2, 3), status(1, 4)] == [200, 500, 500]


def test_executions_of_one_moment_are_listed_with_the_newest_first(caller):
    started = [
        caller.json("POST", "/workflows/wf_123/execute", {})["data"]["execution_id"]
        for _ in range(3)
    ]
    listed = caller.json("GET", "/executions?workflow_id=wf_123&per_page=3")["data"]
    assert [row["id"] for row in listed] == started[::-1]


@pytest.mark.parametrize("shapes", ["deployed"])
def test_deployed_executions_count_oddly(caller):
    unfiltered = caller.json("GET", "/executions?per_page=10")["pagination"]
    assert (unfiltered["has_next"], unfiltered["total_count"]) == (False, 10)
    second = caller.json("GET", "/executions?per_page=10&page=2")
    assert len(second["data"]) == 10
    # Without a workflow, what is filtered is as many rows as the pages so far would hold.
    some = caller.json("GET", "/executions?status=running&per_page=4&page=2")
    assert (some["data"], some["pagination"]["total_count"]) == ([], 2)
    # With one, `status` is looked at after the cut, and the count is that of this page alone.
    page = caller.json("GET", "/executions?workflow_id=wf_abc123&status=running&per_page=4")
    assert len(page["data"]) == 2
    assert (page["pagination"]["has_next"], page["pagination"]["total_count"]) == (False, 2)


def test_replies_have_a_date_and_streams_no_rate_limit(caller):
    assert "Date" in caller.call("GET", "/workflows").headers
    reply = caller.call("GET", "/threads/thread_xyz789/events")  # not a route where deployed
    assert "X-RateLimit-Limit" not in reply.headers


def test_request_ids_are_in_header_and_body(caller, shapes):
    reply = caller.call("GET", "/workflows", headers=[("x-request-id", "mine")])
    assert reply.headers["X-Request-ID"] == "mine"
    request_id = json.loads(reply.body)["meta"]["request_id"]
    assert request_id != "mine"
    assert request_id.startswith("req_") == (shapes == "documented")
    assert caller.call("GET", "/workflows").headers["X-Request-ID"] != request_id


def raw(caller, method, path, body=b"", content_type=None, root="https://h/api/v1"):
    headers = [("X-API-Key", caller.key)]
    if content_type is not None:
        headers.append(("Content-Type", content_type))
    reply = caller.fake.handle(Request(method, root + path, Headers(headers), body), caller.now)
    return reply.status, json.loads(reply.body)


def test_framework_refuses_what_it_cannot_read(caller):
    cases = [
        (("GET", "/workflows//"), 404),
        (("POST", "/workflows/wf_123/execute", b"{", "application/json"), 500),
        (("POST", "/workflows/wf_123/execute", b'{"a": NaN}', "application/json"), 500),
        (("POST", "/workflows/wf_123/execute", b"\xff\xfe\xfd", "application/json"), 500),
        (("POST", "/workflows/wf_123/execute", b"a=1", "application/x-www-form-urlencoded"), 415),
        (("POST", "/workflows/wf_123/execute", b" " * 1048577, "application/json"), 413),
    ]
    for arguments, status in cases:
        got, said = raw(caller, *arguments)
        assert (got, said["statusCode"]) == (status, status)
        assert {"error", "message"} <= set(said)


def test_bodies_are_checked_as_by_the_server(caller, shapes):
    path = "/workflows/wf_123/execute"
    assert raw(caller, "POST", path)[0] == 202
    assert raw(caller, "POST", path, b"", "application/json")[0] == (
        202 if shapes == "deployed" else 400
    )
    assert raw(caller, "POST", path, b"{}", "application/json; charset=utf-8")[0] == 202
    for odd in (b"[]", b'{"inputs": []}'):
        status = raw(caller, "POST", path, odd, "application/json")[0]
        assert status == (202 if shapes == "deployed" else 400)
    status, said = raw(caller, "POST", path, rb'{"inputs": {"name": "\ud800"}}', "application/json")
    assert (status, said["data"]["inputs"]) == (202, {"name": "\ud800"})


def test_the_api_root_may_be_elsewhere(caller):
    for root in ("http://h/v1", "http://h:1/flow/api/v1", "http://[::1]/api/v1"):
        assert raw(caller, "GET", "/workflows/wf_123", root=root)[0] == 200


def test_start_without_credits_is_refused(caller, shapes):
    caller.fake.set_credits(1)
    assert caller.call("POST", "/workflows/wf_123/execute", {}).status == 202
    unpaid = caller.json("POST", "/workflows/wf_123/execute", {})
    if shapes == "documented":
        details = {"required": 1, "available": 0}
        assert unpaid == {"success": False, "error": "Insufficient credits", "details": details}
        return
    caller.pass_time(1)
    run = caller.data("GET", f"/executions/{unpaid['data']['execution_id']}")
    assert (run["status"], run["outputs"]) == ("failed", None)
    assert run["error"] == (
        "Insufficient credits for workflow execution. Estimated need: 1 credits"
    )


def test_the_same_seed_gives_the_same_service(make_caller):
    def transcript(seed):
        caller = make_caller(seed=seed)
        return [caller.call(*row).body for row in CALLS]

    assert transcript(1) == transcript(1)
    assert transcript(1) != transcript(2)
