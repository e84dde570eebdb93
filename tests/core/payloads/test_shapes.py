"""What the contract reads is there whichever server answered, and nothing is lost."""

from __future__ import annotations

import copy
import json
import pickle
from functools import partial
from typing import Any, Callable, Dict, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmaestro_core.payloads import shapes
from flowmaestro_core.types import CancelledExecution

Body = Dict[str, Any]


def shaped(shape: Callable[[Body], None], data: Any, **envelope: Any) -> Any:
    body = {"data": data, **envelope}
    shape(body)
    return body["data"]


def said(data: Any) -> Any:
    """What of shaped data is more than a key to read."""
    return {key: value for key, value in data.items() if value is not None}


# One shape after the other


def test_a_started_execution_gets_its_execution_id() -> None:
    documented = {"execution_id": "exec_1", "workflow_id": "wf_1", "status": "pending"}
    for shape in (shapes.started_execution, shapes.fired_trigger):
        assert said(shaped(shape, dict(documented))) == documented
        started = shaped(shape, {"id": "exec_1"})
        assert said(started) == {"id": "exec_1", "execution_id": "exec_1"}
        assert started["status"] is None


def test_a_workflow_of_the_deployed_server_has_an_input_schema() -> None:
    inputs = {
        "name": {"type": "text", "label": "Name", "required": True, "description": "Who"},
        "age": {"type": "number", "required": False},
        "odd": {"type": "signature", "label": None},
        "none": None,
    }
    assert said(shaped(shapes.workflow, {"inputs": copy.deepcopy(inputs)})) == {
        "inputs": inputs,
        "input_schema": {
            "type": "object",
            "properties": {
                "name": {"title": "Name", "description": "Who", "type": "string"},
                "age": {"type": "number"},
                "odd": {},
                "none": {},
            },
            "required": ["name"],
            "x-unverified": True,
        },
    }


@pytest.mark.parametrize(
    ("declared", "json_type"),
    [
        *(("string", "string"), ("text", "string"), ("number", "number"), ("integer", "integer")),
        *(("boolean", "boolean"), ("object", "object"), ("json", "object"), ("array", "array")),
    ],
)
def test_types_of_inputs(declared: str, json_type: str) -> None:
    schema = shaped(shapes.workflow, {"inputs": {"x": {"type": declared}}})["input_schema"]
    assert schema["properties"] == {"x": {"type": json_type}}


@pytest.mark.parametrize("nonsense", [["string"], {"type": "string"}, 5, None, True])
def test_a_type_that_is_no_name_is_left_out(nonsense: Any) -> None:
    schema = shaped(shapes.workflow, {"inputs": {"x": {"type": nonsense}}})["input_schema"]
    assert schema["properties"] == {"x": {}}


def test_a_workflow_of_the_documented_server_keeps_its_schema() -> None:
    schema = {"type": "object", "properties": {"x": {"type": "string"}}}
    workflow = shaped(shapes.workflow, {"input_schema": schema})
    assert said(workflow) == {"input_schema": schema}
    assert workflow["inputs"] is None


def test_a_workflow_without_inputs_has_no_made_up_schema() -> None:
    for data in ({}, {"inputs": None}):
        workflow = shaped(shapes.workflow, dict(data))
        assert (workflow["inputs"], workflow["input_schema"]) == (None, None)


@pytest.mark.parametrize("sent", [{}, {"outputs": None}])
def test_a_completed_execution_without_outputs_has_empty_ones(sent: Body) -> None:
    assert shaped(shapes.execution, {"status": "completed", **sent})["outputs"] == {}


@pytest.mark.parametrize(
    "status", ["pending", "running", "failed", "cancelled", None, ["completed"]]
)
def test_outputs_of_an_execution_that_did_not_complete_stay_none(status: Any) -> None:
    assert shaped(shapes.execution, {"status": status})["outputs"] is None


def test_the_deployed_servers_messages_are_unwrapped() -> None:
    answer = {"role": "assistant", "content": "Hello"}
    messages = [{"role": "user", "content": "Hi"}, dict(answer)]
    body: Body = {"data": {"messages": messages, "cursor": "c", "meta": 1}, "meta": {"x": 2}}
    shapes.thread_messages(body)
    shapes.pagination(body)
    assert body["data"] == messages
    assert [said(row) for row in messages] == [{"role": "user", "content": "Hi"}, answer]
    assert body["cursor"] == "c"
    assert said(body["meta"]) == {"x": 2}
    assert body["pagination"] == {
        "page": 1,
        "per_page": 2,
        "total_count": 2,
        "total_pages": 1,
        "has_next": False,
        "has_more": False,
        "has_prev": False,
    }


def test_a_pagination_in_the_wrapper_is_the_servers_own() -> None:
    wrapper = {"messages": [{}], "pagination": {"page": 1, "per_page": 1, "total_count": 9}}
    body: Body = {"data": wrapper}
    shapes.thread_messages(body)
    shapes.pagination(body)
    assert body["pagination"]["has_next"] is True


@pytest.mark.parametrize("wrapped", [True, False])
def test_the_list_of_messages_gives_itself_for_messages(wrapped: bool) -> None:
    sent: List[Any] = [{"id": "1"}, {"id": "2"}]
    body: Body = {"data": {"messages": sent} if wrapped else sent}
    shapes.thread_messages(body)
    data = body["data"]
    assert data["messages"] is data
    assert (data[0]["id"], [row["id"] for row in data[-1:]]) == ("1", ["2"])
    assert data == list(data) == json.loads(json.dumps(data)) == pickle.loads(pickle.dumps(data))
    assert pickle.loads(pickle.dumps(data))["messages"] == data
    with pytest.raises(TypeError):
        data["others"]


def test_a_sent_message_of_each_server() -> None:
    documented = shaped(
        shapes.sent_message,
        {"id": "m", "role": "assistant", "content": "Hi", "usage": {"total_tokens": 7}},
    )
    assert documented["content"] == "Hi"
    assert documented["message_id"] == "m"
    assert documented["usage"] == {
        "prompt_tokens": None,
        "completion_tokens": None,
        "total_tokens": 7,
    }
    message = {"role": "assistant", "content": "Hi", "tool_calls": [], "created_at": "now"}
    deployed = shaped(shapes.sent_message, {"status": "completed", "message": dict(message)})
    assert {key: deployed[key] for key in message} == message
    assert deployed["message"] == message
    assert deployed["usage"]["total_tokens"] is None
    assert deployed["message_id"] is None
    for data in (
        {"status": "processing", "message": None},
        {"message_id": "m", "status": "pending"},
    ):
        older = shaped(shapes.sent_message, dict(data))
        assert (older["content"], older["role"]) == (None, None)
        assert set(older["usage"].values()) == {None}


def test_a_null_is_filled_from_where_the_other_server_has_the_value() -> None:
    nested = {"role": "assistant", "content": "Hi"}
    sent = shaped(shapes.sent_message, {"content": None, "role": None, "message": nested})
    assert (sent["content"], sent["role"]) == ("Hi", "assistant")
    assert (
        shaped(shapes.started_execution, {"execution_id": None, "id": "x"})["execution_id"] == "x"
    )
    declared = {"input_schema": None, "inputs": {"a": {"type": "text"}}}
    assert shaped(shapes.workflow, declared)["input_schema"]["properties"] == {
        "a": {"type": "string"}
    }


def test_results_of_a_search_have_both_names_of_everything() -> None:
    data = {"results": [{"score": 0.0, "chunk_id": "c"}, {"similarity": 0.5, "id": "i"}, {}]}
    zero, half, nothing = shaped(shapes.knowledge_search, data)["results"]
    assert (zero["similarity"], zero["score"], zero["id"]) == (0.0, 0.0, "c")
    assert (half["similarity"], half["score"], half["chunk_id"]) == (0.5, 0.5, "i")
    assert (zero["content"], zero["document_name"]) == (None, None)
    assert set(nothing.values()) == {None}
    both = shaped(shapes.memory_search, {"results": [{"score": 0.1, "similarity": 0.2}]})
    assert both["results"][0]["score"] == 0.1
    assert both["results"][0]["similarity"] == 0.2


def test_triggers_have_both_names_of_their_type() -> None:
    rows = shaped(shapes.trigger, [{"type": "webhook"}, {"trigger_type": "cron"}, {}])
    assert [(row["type"], row["trigger_type"]) for row in rows] == [
        ("webhook", "webhook"),
        ("cron", "cron"),
        (None, None),
    ]


@pytest.mark.parametrize(
    ("data", "error_message"),
    [
        ({"success": True, "status_code": 200, "message": "Delivered"}, None),
        ({"success": False, "error": "refused", "message": "Test failed"}, "refused"),
        ({"success": False, "message": "Test failed"}, "Test failed"),
        ({"success": False}, None),
        ({"success": False, "error_message": None, "error": "refused"}, "refused"),
        ({"success": False, "error_message": "own", "error": "x", "response_time_ms": 5}, "own"),
        ({}, None),
    ],
)
def test_a_tested_webhook_has_the_documented_keys(data: Body, error_message: Any) -> None:
    result = shaped(shapes.tested_webhook, dict(data))
    assert result["error_message"] == error_message
    assert result["response_time_ms"] == data.get("response_time_ms")
    assert result["success"] == data.get("success")
    assert {"status_code", "error"} <= set(result)


def test_a_deletion_in_all_its_forms() -> None:
    expected = {"id": "t", "deleted": True}
    for body in (
        {"data": None},
        {},
        {"id": "t", "deleted": True},
        {"data": {"id": "t"}},
        {"data": {**expected}},
    ):
        shapes.deleted("t", body)
        assert body["data"] == expected
        assert body["meta"] == {"request_id": None, "timestamp": None}
    odd: Body = {"id": "other"}
    shapes.deleted("t", odd)
    assert odd["data"] == {"id": "other", "deleted": True}
    assert shaped(partial(shapes.deleted, "t"), {"deleted": False}) == {"id": "t", "deleted": False}


# Pagination


DOCUMENTED = {"page": 2, "per_page": 20, "total_count": 41, "has_more": True}
DEPLOYED = {
    "page": 2,
    "per_page": 20,
    "total_count": 41,
    "total_pages": 3,
    "has_next": True,
    "has_prev": True,
}


@pytest.mark.parametrize("sent", [DOCUMENTED, DEPLOYED])
def test_each_dialects_keys_from_the_others(sent: Body) -> None:
    body: Body = {"data": [], "pagination": dict(sent)}
    shapes.pagination(body)
    assert body["pagination"] == {**DOCUMENTED, **DEPLOYED}


@pytest.mark.parametrize(
    ("info", "more"),
    [
        ({"page": 3, "per_page": 20, "total_count": 41}, False),
        ({"page": 1, "per_page": 20, "total_count": 0}, False),
        ({"page": 1, "total_pages": 2}, True),
        ({"has_next": False, "has_more": None}, False),
        ({"page": 1}, None),
        ({"page": 1, "per_page": 0, "total_count": 5}, None),
        ({"page": "1", "per_page": True, "total_count": -1}, None),
        ({}, None),
    ],
)
def test_whether_there_is_more_is_derived_and_never_made_up(info: Body, more: Any) -> None:
    body: Body = {"data": [], "pagination": dict(info)}
    shapes.pagination(body)
    assert body["pagination"]["has_next"] is more
    assert body["pagination"]["has_more"] is more


def test_true_wins_if_has_next_and_has_more_differ() -> None:
    body: Body = {"pagination": {"has_next": None, "has_more": True}}
    shapes.pagination(body)
    assert body["pagination"]["has_next"] is True
    body = {"pagination": {"has_next": False, "has_more": True}}
    shapes.pagination(body)
    assert body["pagination"]["has_next"] is False, "what the server sent stays"


@pytest.mark.parametrize("body", [{}, {"pagination": None}, {"pagination": {}}])
def test_without_pagination_its_keys_are_there_to_read(body: Body) -> None:
    shapes.pagination(body)
    assert set(body["pagination"]) == {*DOCUMENTED, *DEPLOYED}
    assert set(body["pagination"].values()) == {None}


# Events


def test_documented_keys_beside_camel_case_ones_at_the_top_only() -> None:
    event: Body = {
        "executionId": "e",
        "nodeType": "llm",
        "output": {"innerKey": 1},
        "percentage": 40,
        "duration": 12,
        "currentNode": "n",
        "failedNode": "f",
        "node_id": "x",
    }
    sent = copy.deepcopy(event)
    shapes.snake_case_keys(event)
    assert event == {
        **sent,
        "execution_id": "e",
        "node_type": "llm",
        "outputs": {"innerKey": 1},
        "progress": 40,
        "duration_ms": 12,
        "current_node": "n",
        "failed_node": "f",
    }


def test_a_documented_key_of_the_servers_wins() -> None:
    event: Body = {"output": 1, "outputs": 2, "nodeId": 3, "node_id": 4}
    shapes.snake_case_keys(event)
    assert event == {"output": 1, "outputs": 2, "nodeId": 3, "node_id": 4}


# Whatever the server sent

ALL: List[Callable[[Body], None]] = [
    shapes.started_execution,
    shapes.workflow,
    shapes.execution,
    shapes.thread_messages,
    shapes.sent_message,
    shapes.fired_trigger,
    shapes.knowledge_search,
    shapes.memory_search,
    shapes.resource(CancelledExecution),
    shapes.trigger,
    shapes.tested_webhook,
    shapes.pagination,
    shapes.snake_case_keys,
    partial(shapes.deleted, "id"),
]
ADDING = [shape for shape in ALL if shape not in (shapes.thread_messages, shapes.sent_message)]
KEYS = st.sampled_from(
    [
        *(
            "data",
            "meta",
            "pagination",
            "inputs",
            "input_schema",
            "type",
            "required",
            "label",
            "messages",
        ),
        *("message", "usage", "results", "score", "similarity", "id", "trigger_type", "success"),
        *("error", "page", "per_page", "total_count", "total_pages", "has_next", "has_more", "aB"),
    ]
)
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2, 10**20), st.floats(), KEYS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=15,
)
BODIES = st.dictionaries(KEYS, ANYTHING, max_size=5)


@given(shape=st.sampled_from(ALL), body=BODIES)
def test_no_shape_raises_and_all_leave_json_that_they_do_not_change_again(
    shape: Callable[[Body], None], body: Body
) -> None:
    shape(body)
    json.dumps(body)
    once = repr(body)
    shape(body)
    assert repr(body) == once


def keeps(before: Any, after: Any) -> bool:
    """Whether all that was there still is, under its own name, with keys added at most.

    A `None` says no more than a missing key, so it may have been filled.
    """
    if isinstance(before, dict):
        return isinstance(after, dict) and all(
            key in after and (value is None or keeps(value, after[key]))
            for key, value in before.items()
        )
    if isinstance(before, list):
        return isinstance(after, list) and all(map(keeps, before, after))
    return repr(before) == repr(after)


@given(shape=st.sampled_from(ADDING), body=BODIES)
def test_shapes_only_add(shape: Callable[[Body], None], body: Body) -> None:
    before = copy.deepcopy(body)
    shape(body)
    assert keeps(before, body)
