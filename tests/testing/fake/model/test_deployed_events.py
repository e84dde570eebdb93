"""The fake against `deployed_events.json`: what the deployed server sent, event by event.

The recording has ten scenarios. Each has the reply to the start and, but for the one that was
refused, a live stream, what `GET` showed after the end, and a stream that was opened then. The fake
runs a workflow of the same nodes and must send the same.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from flowmaestro.testing import Node
from flowmaestro_core.payloads.shapes import snake_case_keys

HERE = Path(__file__)
CAPTURE = json.loads(HERE.with_name("deployed_events.json").read_text(encoding="utf-8"))
RUNS = {name: it for name, it in CAPTURE.items() if "live" in it}
TABLE = json.loads(HERE.with_name("api_replies.json").read_text(encoding="utf-8"))["events"]
GUIDE = HERE.parents[4] / "docs" / "streaming.md"
PER_RUN = ("timestamp", "duration", "actualWaitDuration")
"""Fields that differ from run to run."""
TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
NOT_EVENTS = ("HEAD", "EOF", "TIMEOUT")
BY_SETTINGS = ("conditional", "transform")
"""Types of nodes whose output depends on settings of the node, which the fake does not have."""


class Sent(NamedTuple):
    name: str
    seconds: float
    data: Any


def events_of(stream):
    return [Sent(*it) for it in stream if it[0] not in NOT_EVENTS]


def comparable(value, run):
    """The value with placeholders for ids, times and the fields that differ from run to run."""
    if isinstance(value, dict):
        kept = {key: it for key, it in value.items() if key != "workflow_id"}
        if value.get("nodeType") in BY_SETTINGS and "output" in kept:
            kept["output"] = "<by settings>"
        return {
            key: type(it).__name__ if key in PER_RUN else comparable(it, run)
            for key, it in kept.items()
        }
    if value == run:
        return "<run>"
    if isinstance(value, str) and TIME.fullmatch(value):
        return "<time>"
    return value


def nodes_of(live):
    """The nodes of a recorded execution, with a tuple for those that ran at the same time."""
    ended = {it.data["nodeId"]: it for it in live if it.name in ("node:completed", "node:failed")}
    steps, now, total = [], [], 0
    for event in live:
        if event.name == "node:started":
            id = event.data["nodeId"]
            end = ended.get(id)
            failed = end is not None and end.name == "node:failed"
            # A node that fails takes 3 s for its pauses, and its seconds three times.
            seconds = float("inf") if end is None else round(end.seconds - event.seconds, 2)
            seconds = (seconds - 3) / 3 if failed else seconds
            error = "connect ECONNREFUSED" if failed else None
            name, kind = event.data["nodeName"], event.data["nodeType"]
            now.append(Node(id, name, kind, seconds, error))
        elif now and event.name.startswith("execution:"):
            steps.append(tuple(now))
            total, now = total + len(now), []
            if event.name == "execution:progress":
                over = round(event.data["percentage"] * event.data["total"] / 100)
                skipped = range(total, 0 if failed else over)
                steps += [Node(f"skipped {number}", skipped=True) for number in skipped]
                total += len(skipped)
    steps += [tuple(now)] if now else []
    planned = live[1].data["totalNodes"] - total - len(now)
    return steps + [Node(f"not reached {number}") for number in range(planned)]


@pytest.fixture(params=RUNS.values(), ids=list(RUNS))
def deployed(request):
    return request.param


@pytest.fixture
def ran(deployed, make_caller):
    """The fake's own run of the recorded workflow: the caller, its id, and what was sent live."""
    caller, live = make_caller("deployed"), events_of(deployed["live"])
    shown = deployed["get"][1]["data"]
    made = {"outputs": shown["outputs"]} if shown["outputs"] else {}
    workflow = caller.fake.workflow(nodes=nodes_of(live), name=live[1].data["workflowName"], **made)
    start = {"inputs": shown["inputs"]}
    run = caller.data("POST", f"/workflows/{workflow}/execute", start)["execution_id"]
    stream = caller.start_call("GET", f"/executions/{run}/events")
    if shown["status"] == "cancelled":
        events = caller.events(stream, until=1.0)
        reply = caller.call("POST", f"/executions/{run}/cancel")
        assert reply.status == deployed["cancel"][0]
        events += [it for it in caller.events(stream, until=20) if it[2]]
    else:
        events = caller.events(stream, until=20)
    return caller, run, stream, [Sent(name, at, data) for at, name, data in events]


def test_a_live_stream_is_the_same(deployed, ran):
    _, run, _, events = ran
    theirs = deployed["get"][1]["data"]["id"]
    assert [(it.name, comparable(it.data, run)) for it in events] == [
        (it.name, comparable(it.data, theirs)) for it in events_of(deployed["live"])
    ]


def test_a_failed_node_takes_its_attempts(make_caller):
    caller = make_caller("deployed")
    workflow = caller.fake.workflow(nodes=[Node("call", seconds=0.1, error="lost")])
    run = caller.data("POST", f"/workflows/{workflow}/execute", {})["execution_id"]
    events = caller.events(caller.start_call("GET", f"/executions/{run}/events"))
    at = {name: seconds for seconds, name, _ in events}
    recorded = {it.name: it.seconds for it in events_of(RUNS["fails"]["live"])}
    took = recorded["node:failed"] - recorded["node:started"]
    # The recording has only one `node:started` after that of the input node.
    assert at["node:failed"] - at["node:started"] == pytest.approx(took, abs=0.1)


@pytest.mark.parametrize("when", ["live", "after"])
def test_the_head_of_a_stream_is_the_same(deployed, ran, when):
    caller, run, stream, _ = ran
    if when == "after":
        stream = caller.start_call("GET", f"/executions/{run}/events")
    _, status, headers = deployed[when][0]
    framing = {"transfer-encoding": "chunked"}  # of the socket, not of the fake in memory
    ours = {name.lower(): value for name, value in stream.headers.pairs}
    assert (stream.status, {**ours, **framing}.items() >= headers.items()) == (status, True)


def test_a_stream_opened_after_the_end_is_the_same(deployed, ran):
    caller, run, _, _ = ran
    stream = caller.start_call("GET", f"/executions/{run}/events")
    events = caller.events(stream, until=caller.now + 1)
    theirs = deployed["get"][1]["data"]["id"]
    assert [(name, comparable(data, run)) for _, name, data in events] == [
        (it.name, comparable(it.data, theirs)) for it in events_of(deployed["after"])
    ]


def test_the_execution_itself_is_the_same(deployed, ran):
    caller, run, _, _ = ran
    shown, theirs = caller.data("GET", f"/executions/{run}"), deployed["get"][1]["data"]
    assert comparable(shown, run) == comparable(theirs, theirs["id"])


@pytest.mark.parametrize("deployed", [RUNS["pauses"]], indirect=True, ids=["pauses"])
def test_a_paused_execution_refuses_to_be_cancelled(ran, deployed):
    caller, run, _, _ = ran
    reply = caller.call("POST", f"/executions/{run}/cancel")
    status, body = deployed["cancel"]
    assert (reply.status, json.loads(reply.body)["error"]) == (status, body["error"])


def sent_fields():
    """The fields of each event that the deployed server sent live."""
    fields = {}
    for scenario in RUNS.values():
        for event in events_of(scenario["live"]):
            fields.setdefault(event.name, set()).update(event.data)
    return fields


def as_the_sdk_names_them(event, fields):
    data = dict.fromkeys(fields, "")
    data["type"] = event
    snake_case_keys(data)
    return {key for key in data if key == key.lower()} - {"duration", "output", "percentage"}


def test_the_table_of_events_is_the_capture():
    assert {name: set(TABLE[name]["deployed"]) for name in TABLE} == sent_fields()


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
