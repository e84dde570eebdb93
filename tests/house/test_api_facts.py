"""Each API method and event has its place in the fake, the tables and the guides."""

from __future__ import annotations

import json
import re
from typing import get_args

import pytest

from flowmaestro.testing.fake.model.endpoints import ROUTES
from flowmaestro.types import ExecutionEventType
from flowmaestro_core.operation import iterating_endpoint
from tests.harness.house.pages import ROOT, script

RECIPE = "see the recipe *Add an endpoint* in CONTRIBUTING.md"
EVENT_RECIPE = "see the recipe *Add an event type* in CONTRIBUTING.md"
FACTS = ROOT / "docs" / "api-facts.md"
REPLIES = ROOT / "tests" / "testing" / "fake" / "model" / "api_replies.json"
_ROW = re.compile(
    r"^\| `(?P<name>\w+\.\w+)` \| `(?P<request>[A-Z]+ [^`]+)` \| [^|]* \| (?P<status>[\d, ]+) "
    r"\| (?P<scopes>[^|]+) \| (?P<repeatable>yes|no) \|$",
    re.MULTILINE,
)
ROWS = {row["name"]: row for row in _ROW.finditer(FACTS.read_text(encoding="utf-8"))}
REFERENCE = script("reference")
BUILDERS = {
    f"{name}.{method}": (getattr(resource, method), entry)
    for name, resource in REFERENCE.resources().items()
    for method, entry in REFERENCE.methods_of(resource)
}
STREAMS = {"executions.stream", "threads.stream", "threads.send_message_stream"}
NOT_SENT = {
    "execution:resumed",
    "execution:cancelled",
    "node:retry",
    "node:stream",
    "user:input:required",
    "user:input:response",
    "stream:reconnected",
}
"""Events that the deployed server has not been seen to send, and the one of the SDK itself."""
COMBINED = {"executions.wait_for_completion", "executions.wait_many", "workflows.run"}
"""Methods that are made of other calls."""
DIRECT = [
    name
    for name, (_, entry) in BUILDERS.items()
    if name in STREAMS or not (name in COMBINED or isinstance(entry, iterating_endpoint))
]


def first_request(name):
    """Return the method and the path of the first request, with `{}` for each id."""
    sent = re.search(r"`([A-Z]+ /\S*)`", REFERENCE.request(BUILDERS[name][0]))
    return sent and re.sub(r"{\w+}", "{}", sent[1])


def routes():
    return {f"{it.method} {re.sub(r'{[a-z_]+}', '{}', it.template)}": it for it in ROUTES}


@pytest.mark.parametrize("name", BUILDERS)
def test_each_method_has_a_route_in_the_fake(name):
    request = first_request(name)
    if request is not None:  # `wait_many` begins without one
        where = "flowmaestro/testing/fake/model/endpoints/"
        assert request in routes(), f"{where} has no route for {name}, `{request}`; {RECIPE}"


@pytest.mark.parametrize("name", BUILDERS)
def test_each_method_has_an_example(name):
    examples = REFERENCE.examples_by_name()
    assert name in examples, f"docs/method_examples.py has no part `# {name}`; {RECIPE}"


@pytest.mark.parametrize("name", DIRECT)
def test_the_facts_are_those_of_the_method_and_of_the_fake(name):
    place = f"docs/api-facts.md: {name}"
    assert name in ROWS, f"{place} has no row in the table of endpoints; {RECIPE}"
    row, route = ROWS[name], routes()[first_request(name)]
    assert re.sub(r"{\w+}", "{}", row["request"]) == first_request(name), place
    assert set(re.findall(r"`(.*?)`", row["scopes"])) == set(route.scopes), place
    build, _ = BUILDERS[name]
    safe = REFERENCE.request(build).endswith(REFERENCE.SAFE)
    assert row["repeatable"] == ("yes" if safe else "no"), place


def test_no_row_is_left_of_a_method_that_is_gone():
    gone = set(ROWS) - set(DIRECT)
    assert gone == set(), "docs/api-facts.md has rows of methods that do not exist: remove them"


@pytest.mark.parametrize("event", get_args(ExecutionEventType))
def test_each_event_has_its_fields_in_the_table_of_replies(event):
    events = json.loads(REPLIES.read_text(encoding="utf-8"))["events"]
    place = "tests/testing/fake/model/api_replies.json has no fields of the event"
    hint = "an event that no server has sent is in NOT_SENT of tests/house/test_api_facts.py"
    assert (event in events) is not (event in NOT_SENT), f"{place} {event}; {EVENT_RECIPE}; {hint}"


@pytest.mark.parametrize("event", sorted({*get_args(ExecutionEventType)} - NOT_SENT))
def test_each_event_that_a_server_sends_has_a_row_in_the_guide(event):
    guide = (ROOT / "docs" / "streaming.md").read_text(encoding="utf-8")
    assert f"\n| `{event}` | " in guide, f"docs/streaming.md has no row `{event}`; {EVENT_RECIPE}"


def test_the_statuses_are_those_that_the_deployed_server_sent():
    """Of each method that the table of replies has, one reply had the status of the facts."""
    replies = json.loads(REPLIES.read_text(encoding="utf-8"))["rows"]
    sent = {}
    for reply in replies:
        path = re.sub(r"{\w+}", "{}", reply["path"].partition("?")[0])
        sent.setdefault(f"{reply['method']} {path}", set()).add(reply["status"])
    compared = 0
    for name, row in ROWS.items():
        statuses = sent.get(first_request(name))
        if statuses and name not in STREAMS:
            assert {int(it) for it in row["status"].split(", ")} <= statuses, name
            compared += 1
    assert compared > 25
