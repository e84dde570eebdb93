"""The fake against `deployed_events.json`: what the deployed server sent, event by event.

The capture holds four executions: one completes, one fails, one pauses, one has no input node. For
each it has the live stream, a stream that was opened after the end, and what `GET` showed then. The
fake runs a workflow of the same nodes and must send the same.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from flowmaestro import types
from flowmaestro.testing import Node
from flowmaestro_core.payloads.shapes import snake_case_keys

HERE = Path(__file__)
CAPTURE = json.loads(HERE.with_name("deployed_events.json").read_text(encoding="utf-8"))
TABLE = json.loads(HERE.with_name("api_replies.json").read_text(encoding="utf-8"))["events"]
GUIDE = HERE.parents[3] / "docs" / "streaming.md"
PER_RUN = ("timestamp", "duration", "output", "variableName")
"""Fields that differ from run to run or by definition, and one in which the fake differs."""
TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def comparable(value, run):
    """The value with placeholders for ids, times and the fields that differ from run to run."""
    if isinstance(value, dict):
        return {
            key: type(it).__name__ if key in PER_RUN else comparable(it, run)
            for key, it in value.items()
            if key != "workflow_id"
        }
    if value == run:
        return "<run>"
    if isinstance(value, str) and TIME.fullmatch(value):
        return "<time>"
    return value


@pytest.fixture(params=CAPTURE)
def deployed(request):
    return CAPTURE[request.param]


@pytest.fixture
def ran(deployed, make_caller):
    """The fake's own run of the captured workflow: what was sent live, and the run's id."""
    caller, live = make_caller("deployed"), deployed["live"]
    errors = {
        it["data"]["nodeId"]: it["data"]["error"] for it in live if it["event"] == "node:failed"
    }
    begun = [it["data"] for it in live if it["event"] == "node:started"]
    nodes = [
        Node(it["nodeId"], it["nodeName"], it["nodeType"], error=errors.get(it["nodeId"]))
        for it in begun
    ]
    total = live[1]["data"]["totalNodes"]
    nodes += [Node(f"not reached {number}") for number in range(total - len(nodes))]
    made = {"outputs": deployed["get"]["outputs"]} if deployed["get"]["outputs"] else {}
    workflow = caller.fake.workflow(nodes=nodes, name=live[1]["data"]["workflowName"], **made)
    inputs = {"inputs": deployed["get"]["inputs"]}
    run = caller.data("POST", f"/workflows/{workflow}/execute", inputs)["execution_id"]
    stream = caller.start_call("GET", f"/executions/{run}/events")
    return caller, run, caller.events(stream, until=20)


def test_a_live_stream_is_the_same(deployed, ran):
    _, run, events = ran
    sent = [(name, comparable(data, run)) for _, name, data in events]
    theirs = deployed["get"]["id"]
    assert sent == [(it["event"], comparable(it["data"], theirs)) for it in deployed["live"]]


def test_a_stream_opened_after_the_end_is_the_same(deployed, ran):
    caller, run, _ = ran
    stream = caller.start_call("GET", f"/executions/{run}/events")
    events = caller.events(stream, until=caller.now + 1)
    sent = [(name, comparable(data, run)) for _, name, data in events]
    later, theirs = deployed["opened after the end"], deployed["get"]["id"]
    assert sent == [(it["event"], comparable(it["data"], theirs)) for it in later]


def test_the_execution_itself_is_the_same(deployed, ran):
    caller, run, _ = ran
    shown = caller.data("GET", f"/executions/{run}")
    assert comparable(shown, run) == comparable(deployed["get"], deployed["get"]["id"])


def test_a_paused_execution_refuses_to_be_cancelled(ran, deployed):
    if "cancel" not in deployed:
        pytest.skip("this one was not cancelled")
    caller, run, _ = ran
    reply = caller.call("POST", f"/executions/{run}/cancel")
    status, body = deployed["cancel"]
    assert (reply.status, json.loads(reply.body)["error"]) == (status, body["error"])


def sent_fields():
    """The fields of each event that the deployed server sent live."""
    fields = {}
    for scenario in CAPTURE.values():
        for event in scenario["live"]:
            fields.setdefault(event["event"], set()).update(event["data"])
    return fields


def as_the_sdk_names_them(event, fields):
    data = dict.fromkeys(fields, "")
    data["type"] = event
    snake_case_keys(data)
    return {key for key in data if key == key.lower()} - {"duration", "output", "percentage"}


def test_the_table_of_events_is_the_capture():
    assert {name: set(TABLE[name]["deployed"]) for name in TABLE} == sent_fields()


def test_the_types_declare_all_that_was_sent_and_nothing_that_was_not():
    kinds = {get_args(get_type_hints(it)["type"])[0]: it for it in get_args(types.ExecutionEvent)}
    for event, fields in sent_fields().items():
        declared = get_type_hints(kinds[event]).keys()
        assert as_the_sdk_names_them(event, fields) <= declared
        if event.endswith(":failed"):
            invented = {"duration_ms", "failed_node", "failed_node_name"}
            assert invented.isdisjoint(declared), event


def test_the_guide_names_the_fields_that_are_sent():
    """The table in `docs/streaming.md`: the type in its first column, fields in its second."""
    rows = re.findall(
        r"^\| `([\w:]+)` \| (.+?) \|$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE
    )
    told = {name: set(re.findall(r"`(\w+)`", fields)) for name, fields in rows}
    common = {"type", "timestamp", "execution_id"}
    sent = {
        name: as_the_sdk_names_them(name, fields) - common
        for name, fields in sent_fields().items()
        if name != "connected"
    }
    assert told == {**sent, "connected": {"status"}}
