"""`list`, `get` and `query`."""

from __future__ import annotations

import json

import pytest

from flowmaestro import FlowMaestroClient

KB = "0fa33000-0000-4000-8000-000000000001"
LISTED = ["workflows", "executions", "agents", "knowledge-bases", "triggers", "webhooks"]


@pytest.mark.parametrize("resource", LISTED)
def test_every_resource_is_listed_as_a_table_and_as_json(command, resource):
    command("run", "wf_123", "--detach")
    listed = json.loads(command("list", resource, "--json").out)
    table = command("list", resource).out.splitlines()
    assert table == [] if not listed else table[0].startswith("id ")
    assert len(table) == len(listed) + bool(listed)


def test_an_empty_list_prints_none_on_stderr_or_an_empty_array(command):
    which = ["list", "executions", "--status", "paused"]
    assert command(*which, "--json").out == "[]\n"
    done = command(*which)
    assert (done.status, done.out, done.err) == (0, "", "none\n")


def test_limit_and_all_decide_how_long_a_list_is(command):
    for _ in range(25):
        command("run", "wf_123", "--detach")
    done = command("list", "executions")
    assert len(done.out.splitlines()) == 21
    assert done.err == "the first 20; --all shows all\n"
    done = command("list", "executions", "--limit", "2")
    assert len(done.out.splitlines()) == 3
    assert done.err == ""
    assert len(json.loads(command("list", "executions", "--all", "--json").out)) > 25


def test_list_filters_executions_by_workflow_and_status(command):
    command("run", "wf_123", "--detach")
    filters = ["--workflow", "wf_123", "--status", "completed", "--all"]
    listed = json.loads(command("list", "executions", *filters, "--json").out)
    assert {(row["workflow_id"], row["status"]) for row in listed} == {("wf_123", "completed")}


def test_only_get_offers_threads(command):
    assert "threads" not in command("list", "--help").out
    assert "threads" in command("get", "--help").out


@pytest.mark.parametrize(
    ("resource", "id"),
    [
        ("workflows", "wf_123"),
        ("agents", "agent_abc123"),
        ("knowledge-bases", "kb_abc123"),
        ("triggers", "trigger_123"),
    ],
)
def test_get_prints_the_fields_or_the_json_of_a_resource(command, resource, id):
    assert f" {id}\n" in command("get", resource, id).out
    assert json.loads(command("get", resource, id, "--json").out)["id"] == id


def test_threads_and_executions_are_shown_and_unknown_triggers_are_not_found(command, fake):
    execution_id = command("run", "wf_123", "--detach").out.strip()
    assert json.loads(command("get", "executions", execution_id, "--json").out)["id"]
    with FlowMaestroClient() as client:
        thread_id = client.agents.create_thread("agent_abc123")["data"]["id"]
    assert json.loads(command("get", "threads", thread_id, "--json").out)["id"] == thread_id
    done = command("get", "triggers", "trigger_0")
    assert (done.status, done.out) == (3, "")
    assert "`flowmaestro list triggers` shows all" in done.err


@pytest.mark.parametrize("length", [80, 81, 3000])
def test_a_malformed_id_of_any_length_is_named_without_words_of_the_database(command, length):
    id = "x" * length
    done = command("get", "executions", id)
    said = f'there is no id "{id if length == 80 else id[:77] + "..."}"; check the id'
    assert done.status == 3
    assert done.err == f"flowmaestro get: {said}; `flowmaestro list executions` shows all\n"


def test_a_webhooks_secret_header_is_not_shown(command, fake):
    with FlowMaestroClient() as client:
        created = client.webhooks.create(
            name="Mine",
            url="https://example.com/hook",
            events=["execution.completed"],
            headers={"Authorization": "Bearer swordfish"},
        )
    shown = command("get", "webhooks", created["data"]["id"])
    assert "Mine" in shown.out
    assert created["data"]["secret"] not in shown.out
    assert "swordfish" not in shown.out


def test_a_knowledge_base_is_searched(command):
    done = command("query", "kb_abc123", "How do I reset my password?", "--top-k", "1")
    assert done.out.splitlines()[0].endswith("passwords.md")
    (result,) = json.loads(
        command("query", "kb_abc123", "How do I reset my password?", "--top-k", "1", "--json").out
    )
    assert result["document_name"] == "passwords.md"


WORKFLOW = "0fa11000-0000-4000-8000-000000000001"
RESULTS = [{}, *({"results": each} for each in ({}, "", 0, None, [None]))]


@pytest.mark.parametrize(
    ("words", "body", "name"),
    [
        (["list", "workflows"], {"data": [None]}, "data"),
        (["list", "executions", "--since", "1h"], {"data": [1]}, "data"),
        (["get", "triggers", "trigger_123"], {"data": [None]}, "data"),
        (["run", "Hello"], {"data": ["Hello"]}, "data"),
        (["watch", "--workflow", WORKFLOW], {"data": [None]}, "data"),
        *((["query", KB, "x"], {"data": data}, "results") for data in RESULTS),
    ],
)
def test_a_list_without_objects_is_an_unusable_response(command, answer_with, words, body, name):
    answer_with(body)
    done = command(*words)
    said = f'The server\'s response has no list of dicts as its "{name}"'
    said += "; this API does not send such responses"
    assert (done.status, done.out) == (1, "")
    assert done.err == f"flowmaestro {words[0]}: [invalid_response] {said}\n"


@pytest.mark.parametrize("similarity", ["0.9", [1], {"a": 1}, pytest.param(10**400, id="huge")])
def test_a_similarity_that_is_not_a_number_is_an_unusable_response(
    command, answer_with, similarity
):
    answer_with({"data": {"results": [{"content": "text", "similarity": similarity}]}})
    done = command("query", KB, "x")
    said = 'The server\'s response has no number as the "similarity" of a result'
    said += "; this API does not send such responses"
    assert (done.status, done.out) == (1, "")
    assert done.err == f"flowmaestro query: [invalid_response] {said}\n"
    assert command("query", KB, "x", "--json").status == 0


def test_nothing_found_is_said_on_stderr(command):
    done = command("query", "kb_abc123", "zzz")
    assert (done.status, done.out, done.err) == (0, "", "none\n")


def test_a_knowledge_base_and_a_trigger_are_named_by_their_names(command, fake):
    fake.knowledge_base("kb_notes", name="Field notes", texts=["Bees dance."])
    done = command("query", "Field n", "Do bees dance?")
    assert (done.status, done.err) == (0, "Field notes is kb_notes\n")
    done = command("query", "Help center", "x")
    assert (done.status, "2 knowledge bases fit" in done.err) == (2, True)
    done = command("fire", "Order placed")
    assert (done.status, done.err) == (0, "Order placed is trigger_123\n")
    for words, kind in ((["query", "Nothing", "x"], "knowledge-base"), (["fire", "x"], "trigger")):
        done = command(*words)
        assert done.status == 3
        assert f"`flowmaestro list {kind}s` shows all" in done.err
