from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmaestro_core.payloads.json_values import LONGEST_NAME
from flowmaestro_core.streams.events import (
    EXECUTION_TERMINAL,
    MESSAGE_TERMINAL,
    event_from_sse,
    timeline_part,
)
from flowmaestro_core.streams.sse import ServerSentEvent


def event(kind: str, data: Any) -> Any:
    text = data if isinstance(data, str) else json.dumps(data)
    return event_from_sse(ServerSentEvent(kind, text))


def test_sse_field_wins_over_the_json_type_unless_it_is_message() -> None:
    assert event("node:started", {"type": "other"})["type"] == "node:started"
    assert event("message", {"type": "other"})["type"] == "other"
    assert event("message", {})["type"] == "message"
    for nonsense in (None, 5, ["x"], {}):
        assert event("message", {"type": nonsense})["type"] == "message"


def test_a_live_event_is_readable_under_the_documented_names() -> None:
    live = event(
        "node:completed",
        {"executionId": "e", "nodeId": "n", "output": {"userKey": 1}, "duration": 5},
    )
    assert (live["execution_id"], live["node_id"], live["duration_ms"]) == ("e", "n", 5)
    assert live["outputs"] == {"userKey": 1}
    assert live["executionId"] == "e"


@pytest.mark.parametrize("kind", sorted(EXECUTION_TERMINAL))
def test_outputs_and_error_are_readable_on_a_terminal_event(kind: str) -> None:
    unset = {"outputs": None, "error": None, "completed_at": None}
    assert event(kind, {}) == {"type": kind, **unset}
    assert event("message", {"type": kind})["outputs"] is None
    assert event(kind, {"output": 1, "error": "x"})["outputs"] == 1
    assert event(kind, {"outputs": None, "output": 1})["outputs"] == 1


def test_a_completed_message_has_a_content() -> None:
    assert event("message:completed", {})["content"] is None
    assert event("message:completed", {"content": "Hi"})["content"] == "Hi"
    for usage in ({}, {"usage": None}, {"usage": {"total_tokens": None}}):
        told = event("message:completed", usage)["usage"]
        assert told == {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None}
    assert {"message:completed", "message:failed"} == MESSAGE_TERMINAL


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("plain words", "plain words"),
        ("", ""),
        ("{broken", "{broken"),
        ("[1,2]", [1, 2]),
        ('"quoted"', "quoted"),
        ("5", 5),
        ("null", None),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_data_that_is_no_object_is_in_the_key_data(text: str, data: Any) -> None:
    assert event("node:stream", text) == {"type": "node:stream", "data": data}
    assert event("message", text) == {"type": "message", "data": data}


@given(kind=st.text(min_size=1, max_size=8), text=st.text())
def test_every_event_is_a_dict_with_a_type(kind: str, text: str) -> None:
    for data in (text, json.dumps({text: text}), json.dumps({"type": text})):
        found = event(kind, data)
        assert isinstance(found, dict)
        assert isinstance(found["type"], str)
        assert kind in ("message", found["type"])


def test_brief_events_keep_what_a_timeline_needs() -> None:
    large = {"a": "x" * 10**6}
    part = timeline_part({"type": "node:completed", "node_name": large, "duration_ms": 1, "x": 2})
    assert sorted(part) == ["duration_ms", "node_name", "type"]
    assert len(json.dumps(part)) < 300
    came = ServerSentEvent("node:started", '{"nodeId": "a"}')
    assert timeline_part(came) == {"type": "node:started", "node_id": "a"}


def test_brief_events_keep_the_error_of_a_node_if_there_is_one() -> None:
    failed = {"type": "node:failed", "node_id": "a", "error": "x" * 1000}
    assert timeline_part(failed) == {**failed, "error": "x" * LONGEST_NAME}
    ended = ServerSentEvent("execution:completed", "{}")
    assert timeline_part(ended) == {"type": "execution:completed"}


def test_the_part_for_a_timeline_says_that_a_node_waits() -> None:
    waiting = {"type": "node:completed", "node_id": "a", "outputs": {"prompt": "?"}}
    paused = {"paused": True}
    assert timeline_part({**waiting, "metadata": {**paused, "x": 1}})["metadata"] == paused
    assert "metadata" not in timeline_part({**waiting, "metadata": {"x": 1}})
