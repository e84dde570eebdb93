"""The fake and the types against `api_replies.json`: every endpoint, dialect and field."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest

from flowmaestro import types
from flowmaestro.testing.fake.model import dispatch, seeds
from flowmaestro.testing.fake.model.endpoints import ROUTES
from flowmaestro.testing.fake.model.routing import find_route
from flowmaestro_core.http.messages import Headers, Request
from flowmaestro_core.operation import iterating_endpoint
from flowmaestro_core.payloads import shapes as reconciled
from tests.harness.house.pages import script

TABLE = json.loads(Path(__file__).with_name("api_replies.json").read_text(encoding="utf-8"))
ROWS = TABLE["rows"]
META = {"request_id": "string", "timestamp": "string"}
PAGINATION = {
    "deployed": {
        "page": "number",
        "per_page": "number",
        "total_count": "number",
        "total_pages": "number",
        "has_next": "boolean",
        "has_prev": "boolean",
    },
    "documented": {
        "page": "number",
        "per_page": "number",
        "total_count": "number",
        "has_more": "boolean",
    },
}
ERROR = {"code": "string", "message": "string"}
USER = "0fa11000-0000-4000-8000-0000000000aa"


def expected(row, dialect):
    """The row as one dialect has it."""
    changes = dict(row.get("documented", {})) if dialect == "documented" else {}
    if isinstance(changes.get("data"), dict) and not {"+", "-"}.isdisjoint(changes["data"]):
        changes["data"] = changed(row["data"], changes["data"])
    return {**row, **changes}


def changed(data, changes):
    if isinstance(data, list):
        return [changed(row, changes) for row in data]
    kept = {key: it for key, it in data.items() if key not in changes.get("-", ())}
    return {**kept, **changes.get("+", {})}


def body_of(row, dialect):
    """Types for values of a whole JSON body."""
    if row["status"] >= 400:
        if row.get("error") == "framework":
            keys = {"statusCode": "number", "error": "string", "message": "string"}
            return keys if row["code"] is None else {**keys, "code": "string"}
        details = row.get("details")
        more = {} if details is None else {"details": dict.fromkeys(details, "string")}
        return {"error": {**ERROR, **more}, "meta": META}
    body = {"data": row["data"], "meta": META}
    return {**body, "pagination": PAGINATION[dialect]} if row.get("list") else body


def differences(wanted, value, where="reply"):
    """Where a value is not what is wanted; an object whose keys are not told may have any."""
    if isinstance(wanted, dict) and isinstance(value, dict):
        found = [
            f"{where} lacks {key}" if key in wanted else f"{where} invents {key}"
            for key in sorted(wanted.keys() ^ value.keys())
        ]
        for key in wanted.keys() & value.keys():
            found += differences(wanted[key], value[key], f"{where}.{key}")
        return found
    if isinstance(wanted, list) and isinstance(value, list):
        if bool(wanted) != bool(value):
            return [f"{where} has {len(value)} rows"]
        return [it for row in value[:1] for it in differences(wanted[0], row, f"{where}[0]")]
    kind = type_of(value)
    return [] if kind == wanted else [f"{where} is {kind}, not {wanted}"]


def type_of(value):
    if isinstance(value, bool):
        return "boolean"
    names = {str: "string", int: "number", float: "number", dict: "object", list: "array"}
    return names.get(type(value), "null")


class Asked:
    """A fake prepared for the questions of the table, which are put in their order."""

    def __init__(self, caller):
        self.caller, api = caller, caller.fake
        agent = api.agent("agent_asked", "Hello to you.", seconds=3.0)
        memory = {"working_memory": "x"}
        hook = {"name": "n", "url": "http://127.0.0.1:9/", "events": ["execution.cancelled"]}
        tested = caller.data("POST", "/webhooks", hook)["id"]
        hook["events"] = ["execution.completed"]
        told = caller.data("POST", "/webhooks", hook)["id"]
        ended = caller.data("POST", "/workflows/wf_123/execute", {})["execution_id"]
        caller.call("PUT", f"/agents/{agent}/memory/{USER}", memory)
        workflow = api.workflow("wf_asked", inputs={"name": types_of_input()}, outputs={"a": 1})
        thread = caller.data("POST", f"/agents/{agent}/threads", {})["id"]
        caller.call("POST", f"/threads/{thread}/messages", {"content": "x"})
        caller.pass_time(1)
        caller.answer_deliveries(500)
        caller.pass_time(1)
        caller.answer_deliveries(200)
        api.trigger("trigger_asked", workflow=workflow)
        slow = api.workflow("wf_slow", nodes=["a", "b"], hangs_at="b", outputs=None)
        running = caller.data("POST", f"/workflows/{slow}/execute", {})["execution_id"]
        caller.pass_time(1)
        self.ids = {
            "workflow_id": workflow,
            "execution_id": ended,
            "running_id": running,
            "agent_id": agent,
            "user_id": USER,
            "thread_id": thread,
            "trigger_id": "trigger_asked",
            "knowledge_base_id": "kb_abc123",
            "webhook_id": tested,
            "other_webhook_id": told,
        }

    def path(self, row):
        return row["path"].format(**self.ids)

    def request(self, row):
        asked = self.caller.request(row["method"], self.path(row), row.get("body"))
        headers, body = asked.headers, asked.body
        if "key" in row:
            headers = Headers({} if row["key"] is None else {"X-API-Key": row["key"]})
        if "text" in row:
            headers = Headers([*headers.pairs, ("Content-Type", "text/plain")])
            body = row["text"].encode()
        return Request(asked.method, asked.url, headers, body)

    def ask(self, row):
        """The whole reply; a test of a webhook is not answered."""
        reply = self.caller.fake.handle(self.request(row), self.caller.now)
        while not reply.ready:
            for delivery in self.caller.fake.due(self.caller.now):
                status = None if delivery.event == "test" else 503
                self.caller.fake.delivered(delivery, status, self.caller.now)
            if not reply.ready:
                self.caller.now = self.caller.fake.next_time()
        return reply


def types_of_input():
    from flowmaestro.testing import InputField

    return InputField(label="Name")


def test_the_fake_answers_as_the_table_says(make_caller, shapes):
    refused = {"messages": "refused"} if shapes == "deployed" else {}
    asked, wrong = Asked(make_caller(shapes, **refused)), []
    for row in ROWS:
        wanted, reply = expected(row, shapes), asked.ask(row)
        found = [] if reply.status == wanted["status"] else [f"status {reply.status}"]
        if wanted.get("stream"):
            found += [] if reply.stream is not None else ["no stream"]
        elif row["method"] == "HEAD" or wanted["status"] == 204:
            found += [] if reply.body == b"" else ["a body"]
        elif not found and "left_out" not in row:
            said = json.loads(reply.body)
            found += differences(body_of(wanted, shapes), said)
            if reply.status >= 400:
                found += wrong_words(wanted, said)
        if found and "left_out" not in row:
            wrong.append((row["method"], asked.path(row), row.get("body"), *found))
    places = (
        "the fake (routes in flowmaestro/testing/fake/model/endpoints/, fields in "
        "flowmaestro/testing/fake/model/dialects.py) and "
        "tests/testing/fake/model/api_replies.json differ; "
        "see the recipe *Add an endpoint* in CONTRIBUTING.md"
    )
    assert not wrong, "\n".join([places, *map(str, wrong)])


def wrong_words(wanted, said):
    error = said if "statusCode" in said else said["error"]
    pattern = re.escape(wanted["message"]).replace("<id>", "[^/' ]+").replace("<rest>", ".+")
    found = [] if error.get("code") == wanted["code"] else [f"code {error.get('code')}"]
    if not re.fullmatch(pattern, error["message"]):
        found.append(f"message {error['message']}")
    return found


def test_the_table_has_every_endpoint():
    asked = [row for row in ROWS if row["status"] < 300]
    routes = [find_route(ROUTES, row["method"], "http://h/api/v1" + row["path"]) for row in asked]
    found = {route for route, _ in filter(None, routes)}
    lacking = [
        f"{route.method} {route.template}"
        for route in ROUTES
        if route not in found and route.template != "/threads/{id}/events"
    ]
    assert not lacking, (
        f"tests/testing/fake/model/api_replies.json has no row for {lacking}; "
        "see the recipe *Add an endpoint* in CONTRIBUTING.md"
    )


def test_the_events_are_those_of_the_table(make_caller, shapes):
    seen = {}
    for workflow in ("wf_123", seeds.FAILING_WORKFLOW_ID, seeds.PAUSING_WORKFLOW_ID):
        caller = make_caller(shapes)
        run = caller.data("POST", f"/workflows/{workflow}/execute", {})["execution_id"]
        stream = caller.start_call("GET", f"/executions/{run}/events")
        seen.update({name: data for _, name, data in caller.events(stream, until=20) if data})
    wrong = [
        (name, *differences(wanted[shapes], seen.get(name, {}), name))
        for name, wanted in TABLE["events"].items()
    ]
    places = (
        "flowmaestro/testing/fake/model/dialects.py and "
        "tests/testing/fake/model/api_replies.json differ; "
        "see the recipe *Add an event type* in CONTRIBUTING.md"
    )
    assert seen.keys() == TABLE["events"].keys(), places
    assert [it for it in wrong if len(it) > 1] == [], places


REFERENCE = script("reference")


def type_of_reply(build):
    """Return the type that a builder declares for `data`, or for a row of it; `None` for none."""
    (reply,) = get_args(get_type_hints(build)["return"]) or (None,)
    data = next(iter(get_args(reply)), None)
    return get_args(data)[0] if get_origin(data) is list else data


def types_of_replies():
    """Return the declared type by the request of its builder, with `*` for each id."""
    found = {}
    for resource in REFERENCE.resources().values():
        for name, entry in REFERENCE.methods_of(resource):
            if not isinstance(entry, iterating_endpoint):
                build = getattr(resource, name)
                request = re.search(r"^Request: `([A-Z]+ /\S*)`", REFERENCE.request(build))
                if request is not None:
                    key = re.sub(r"\{\w+\}", "*", request[1])
                    found[key] = type_of_reply(build)
    return found


KINDS = types_of_replies()
NOT_DECLARED = {
    "trigger_id",
    "duration_ms",
    "workflow_name",
    "SendMessageResponse.id",
    "DeletedResource.agent_id",
    "DeletedResource.user_id",
}
"""Keys that no type has. The first three are in the reference only, neither in the contract nor on
the deployed server. The SDK returns the `id` of a sent message as `message_id`. The docstring of
`agents.delete_memory` names the last two."""


LIST_OF_INPUTS = next(row for row in ROWS if row.get("body") == {"inputs": [1]})
"""The SDK refuses inputs that are no mapping."""


def kind_of(row):
    path = re.sub(r"\{\w+\}", "*", row["path"].partition("?")[0]).rstrip("/")
    return KINDS.get(f"{row['method']} {path}")


@pytest.mark.parametrize("dialect", ["deployed", "documented"])
def test_the_types_declare_what_the_servers_send(dialect):
    wrong = set()
    for row in ROWS:
        wanted, kind = expected(row, dialect), kind_of(row)
        if kind is None or not wanted.get("data") or "left_out" in row or row is LIST_OF_INPUTS:
            continue
        data = wanted["data"]
        if kind is types.ThreadMessage and isinstance(data, dict):
            data = data["messages"]
        rows = data if isinstance(data, list) else [data]
        name = getattr(kind, "__name__", str(kind))
        wrong |= {it for each in rows[:1] for it in undeclared(each, kind, name)}
    places = (
        "flowmaestro_core/types/resources.py lacks what "
        "tests/testing/fake/model/api_replies.json has; "
        "see the recipe *Add an endpoint* in CONTRIBUTING.md"
    )
    assert not wrong, "\n".join([places, *sorted(wrong)])


@pytest.mark.parametrize("dialect", ["deployed", "documented"])
def test_the_types_declare_every_field_of_the_events(dialect):
    kinds = {get_args(get_type_hints(it)["type"])[0]: it for it in get_args(types.ExecutionEvent)}
    for name, shapes in TABLE["events"].items():
        event = dict(shapes[dialect])
        sent = set(event)
        reconciled.snake_case_keys(event)
        added = {key for key in event if key == key.lower()} - {"duration", "output", "percentage"}
        places = (
            "flowmaestro_core/types/events.py lacks what "
            "tests/testing/fake/model/api_replies.json has; "
            "see the recipe *Add an event type* in CONTRIBUTING.md"
        )
        declared = get_type_hints(kinds[name]).keys()
        assert added <= declared, (places, name, sent)
        if name.endswith(":failed"):  # No server sends these with a failure.
            assert declared.isdisjoint({"duration_ms", "failed_node", "failed_node_name"}), name


def undeclared(shape, kind, where):
    """Where a shape of the table does not fit an annotation."""
    options = get_args(kind) if get_origin(kind) is Union else (kind,)
    found = [list(misfits(shape, option, where)) for option in options]
    return min(found, key=len)


def misfits(shape, kind, where):
    origin = get_origin(kind)
    if kind is Any:
        return
    if isinstance(shape, dict) and hasattr(kind, "__total__"):
        hints = get_type_hints(kind)
        for key, value in shape.items():
            if key in hints:
                yield from undeclared(value, hints[key], f"{where}.{key}")
            elif NOT_DECLARED.isdisjoint((key, f"{where}.{key}")):
                yield f"{where}.{key} is not declared"
        return
    if isinstance(shape, list) and origin is list:
        for row in shape:
            yield from undeclared(row, get_args(kind)[0], f"{where}[]")
        return
    if origin is Literal:
        kind, origin = type(get_args(kind)[0]), None
    fits = {
        "string": (str,),
        "number": (int, float),
        "boolean": (bool,),
        "null": (type(None),),
        "object": (dict,),
    }
    wanted = (dict,) if isinstance(shape, dict) else fits.get(str(shape), ())
    if (origin or kind) not in wanted and not (shape == "object" and hasattr(kind, "__total__")):
        yield f"{where} is {shape} and not {kind}"


@pytest.mark.parametrize(
    ("sent", "came"),
    [
        ("12345678901234567890", 12345678901234567000),
        ("1.0", 1),
        ("-0.0", 0),
        ("0.1", 0.1),
        ("1e21", 1e21),
        ("1e20", 10**20),
        ("1e999", None),
        ("9007199254740993", 9007199254740992),
        ("123", 123),
    ],
)
def test_numbers_pass_through_javascript(caller, sent, came):
    asked = caller.request("POST", "/workflows/wf_123/execute", {})
    body = b'{"inputs": {"n": %s}}' % sent.encode()
    request = Request(asked.method, asked.url, asked.headers, body)
    reply = caller.fake.handle(request, caller.now)
    got = json.loads(reply.body)["data"]["inputs"]["n"]
    assert (got, type(got)) == (came, type(came))


def test_only_numbers_beyond_doubles_are_converted_by_decimal(caller, monkeypatch):
    """`Decimal` is slow: 500,000 numbers in a body of 1 MiB held the server up for 0.4 s."""
    converted = []
    monkeypatch.setattr(
        dispatch, "Decimal", lambda digits: converted.append(digits) or Decimal(digits)
    )
    numbers = [9007199254740993, *range(-500, 500), *map(float, range(500))]
    asked = caller.request("POST", "/workflows/wf_123/execute", {})
    body = json.dumps({"inputs": {"numbers": numbers}}).encode()
    request = Request(asked.method, asked.url, asked.headers, body)
    reply = caller.fake.handle(request, caller.now)
    got = json.loads(reply.body)["data"]["inputs"]["numbers"]
    assert got == [9007199254740992, *numbers[1:]]
    assert converted == ["9007199254740992.0"]


@pytest.mark.parametrize(
    "path",
    [
        "/workflows/wf_123",
        "/executions/exec_123",
        "/agents/agent_123",
        "/agents/agent_123/memory/user_456",
        "/threads/thread_123",
        "/threads/thread_123/messages",
        "/knowledge-bases/kb_123",
        "/webhooks/wh_123",
    ],
)
def test_the_ids_of_the_first_version_s_documentation_are_there(caller, path):
    assert caller.call("GET", path).status == 200
    assert caller.call("POST", "/triggers/trigger_123/execute", {}).status == 202
