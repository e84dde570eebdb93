"""Every endpoint: the exact request, asked of the class, without a client."""

from __future__ import annotations

import inspect
import json
from typing import Any, Callable, Dict, List, NamedTuple, Optional

import pytest

from flowmaestro_core import resources
from flowmaestro_core.calls.call import Call
from flowmaestro_core.http.messages import Request
from flowmaestro_core.http.urls import Path
from flowmaestro_core.operation import _Endpoint, iterating_endpoint
from flowmaestro_core.options import ClientOptions
from flowmaestro_core.resources import (
    Agents,
    Executions,
    KnowledgeBases,
    Threads,
    Triggers,
    Webhooks,
    Workflows,
)

KEY = "fm_live_0123456789"
OPTIONS = ClientOptions(KEY)
ROOT = "https://api.flowmaestro.io/api/v1"


def request(call: Call[Any], token: str = "token") -> Request:
    return call.request(OPTIONS, token)


class Row(NamedTuple):
    """One call and the request it stands for."""

    builder: Callable[..., Any]
    call: Call[Any]
    method: str
    path: str
    body: Optional[Dict[str, Any]] = None
    repeatable: bool = True


PAGE = {"page": 2, "per_page": 50}
QUERY = "?page=2&per_page=50"

TABLE: List[Row] = [
    Row(Workflows.list, Workflows.list(**PAGE), "GET", "/workflows" + QUERY),
    Row(Workflows.get, Workflows.get("w"), "GET", "/workflows/w"),
    Row(
        Workflows.execute,
        Workflows.execute("w", inputs={"a": 1}),
        "POST",
        "/workflows/w/execute",
        {"inputs": {"a": 1}},
        repeatable=False,
    ),
    Row(
        Executions.list,
        Executions.list(**PAGE, workflow_id="w", status="failed"),
        "GET",
        "/executions" + QUERY + "&workflow_id=w&status=failed",
    ),
    Row(Executions.get, Executions.get("e"), "GET", "/executions/e"),
    Row(Executions.cancel, Executions.cancel("e"), "POST", "/executions/e/cancel"),
    Row(Executions.stream, Executions.stream("e").source, "GET", "/executions/e/events"),
    Row(Agents.list, Agents.list(**PAGE), "GET", "/agents" + QUERY),
    Row(Agents.get, Agents.get("a"), "GET", "/agents/a"),
    Row(
        Agents.create_thread,
        Agents.create_thread("a", metadata={"user_id": "u"}),
        "POST",
        "/agents/a/threads",
        {"metadata": {"user_id": "u"}},
        repeatable=False,
    ),
    Row(Agents.list_memory, Agents.list_memory("a", **PAGE), "GET", "/agents/a/memory" + QUERY),
    Row(Agents.get_memory, Agents.get_memory("a", "u"), "GET", "/agents/a/memory/u"),
    Row(
        Agents.update_memory,
        Agents.update_memory("a", "u", working_memory="m", metadata={"k": 1}),
        "PUT",
        "/agents/a/memory/u",
        {"working_memory": "m", "metadata": {"k": 1}},
    ),
    Row(Agents.delete_memory, Agents.delete_memory("a", "u"), "DELETE", "/agents/a/memory/u"),
    Row(
        Agents.search_memory,
        Agents.search_memory("a", "q", top_k=3, similarity_threshold=0.5, user_id="u"),
        "POST",
        "/agents/a/memory/search",
        {"query": "q", "top_k": 3, "similarity_threshold": 0.5, "user_id": "u"},
    ),
    Row(Agents.memory_stats, Agents.memory_stats("a"), "GET", "/agents/a/memory/stats"),
    Row(Threads.get, Threads.get("t"), "GET", "/threads/t"),
    Row(
        Threads.list_messages,
        Threads.list_messages("t", **PAGE),
        "GET",
        "/threads/t/messages" + QUERY,
    ),
    Row(
        Threads.send_message,
        Threads.send_message("t", "Hi"),
        "POST",
        "/threads/t/messages",
        {"content": "Hi", "stream": False},
        repeatable=False,
    ),
    Row(
        Threads.send_message_stream,
        Threads.send_message_stream("t", "Hi").streaming,
        "POST",
        "/threads/t/messages",
        {"content": "Hi", "stream": True},
        repeatable=False,
    ),
    Row(Threads.stream, Threads.stream("t").source, "GET", "/threads/t/events"),
    Row(Threads.delete, Threads.delete("t"), "DELETE", "/threads/t"),
    Row(
        Triggers.list,
        Triggers.list(workflow_id="w", **PAGE),
        "GET",
        "/triggers" + QUERY + "&workflow_id=w",
    ),
    Row(
        Triggers.execute,
        Triggers.execute("t", inputs={"a": 1}),
        "POST",
        "/triggers/t/execute",
        {"inputs": {"a": 1}},
        repeatable=False,
    ),
    Row(KnowledgeBases.list, KnowledgeBases.list(**PAGE), "GET", "/knowledge-bases" + QUERY),
    Row(KnowledgeBases.get, KnowledgeBases.get("k"), "GET", "/knowledge-bases/k"),
    Row(
        KnowledgeBases.query,
        KnowledgeBases.query("k", "q", top_k=5),
        "POST",
        "/knowledge-bases/k/query",
        {"query": "q", "top_k": 5},
    ),
    Row(Webhooks.list, Webhooks.list(**PAGE), "GET", "/webhooks" + QUERY),
    Row(Webhooks.get, Webhooks.get("w"), "GET", "/webhooks/w"),
    Row(
        Webhooks.create,
        Webhooks.create(name="n", url="https://u", events=["test"], headers={"A": "b"}),
        "POST",
        "/webhooks",
        {"name": "n", "url": "https://u", "events": ["test"], "headers": {"A": "b"}},
        repeatable=False,
    ),
    Row(
        Webhooks.update,
        Webhooks.update("w", name="n", url="u", events=("test",), headers={}, is_active=False),
        "PATCH",
        "/webhooks/w",
        {"name": "n", "url": "u", "events": ["test"], "headers": {}, "is_active": False},
    ),
    Row(Webhooks.delete, Webhooks.delete("w"), "DELETE", "/webhooks/w"),
    Row(Webhooks.test, Webhooks.test("w"), "POST", "/webhooks/w/test", repeatable=False),
    Row(
        Webhooks.list_deliveries,
        Webhooks.list_deliveries("w", **PAGE),
        "GET",
        "/webhooks/w/deliveries" + QUERY,
    ),
]
NAMES = [row.builder.__qualname__ for row in TABLE]


@pytest.mark.parametrize("row", TABLE, ids=NAMES)
def test_method_builds_the_documented_request(row: Row) -> None:
    sent = request(row.call)
    assert (sent.method, sent.url) == (row.method, ROOT + row.path)
    assert (json.loads(sent.body) if sent.body else None) == row.body
    assert sent.headers["X-API-Key"] == KEY
    assert sent.headers["Authorization"] == f"Bearer {KEY}"
    assert sent.headers.get("Content-Type") == (None if row.body is None else "application/json")
    assert sent.headers.get("Idempotency-Key") == ("token" if row.method == "POST" else None)
    assert row.call.repeatable is row.repeatable
    if isinstance(row.call.path, Path):
        route, ids = row.call.path.route, row.call.path.ids
        assert route.format_map(ids) == row.path.partition("?")[0]


def test_the_table_is_whole() -> None:
    """The other builders walk pages, wait or run."""
    assert len(set(NAMES)) == len(TABLE)
    builders = {
        value._build.__qualname__
        for name in resources.__all__
        for value in vars(getattr(resources, name)).values()
        if isinstance(value, _Endpoint)
        and not inspect.signature(value._build).return_annotation.startswith(
            ("Pages", "Run", "Poll", "Batch")
        )
    }
    rows = "TABLE in tests/core/resources/test_resources.py"
    recipe = "see the recipe *Add an endpoint* in CONTRIBUTING.md"
    assert builders == set(NAMES), f"{rows} has no row for these; {recipe}"


def test_every_builder_has_a_docstring_and_what_iterates_is_marked() -> None:
    for name in resources.__all__:
        for what, value in vars(getattr(resources, name)).items():
            if isinstance(value, _Endpoint):
                assert value.__doc__, what
                returned = inspect.signature(value._build).return_annotation
                iterates = returned.startswith(("Pages", "Events", "MessageStream", "Batch"))
                assert isinstance(value, iterating_endpoint) is iterates, what


# What was left out is left out


@pytest.mark.parametrize(
    ("call", "path", "body"),
    [
        (Workflows.list(), "/workflows", b""),
        (Executions.list(), "/executions", b""),
        (Triggers.list(), "/triggers", b""),
        (Workflows.execute("w"), "/workflows/w/execute", b'{"inputs":{}}'),
        (Workflows.execute("w", inputs={}), "/workflows/w/execute", b'{"inputs":{}}'),
        (Triggers.execute("t"), "/triggers/t/execute", b'{"inputs":{}}'),
        (Agents.create_thread("a"), "/agents/a/threads", b'{"metadata":{}}'),
        (Agents.update_memory("a", "u"), "/agents/a/memory/u", b"{}"),
        (Agents.search_memory("a", "q"), "/agents/a/memory/search", b'{"query":"q"}'),
        (KnowledgeBases.query("k", "q"), "/knowledge-bases/k/query", b'{"query":"q"}'),
        (Webhooks.update("w"), "/webhooks/w", b"{}"),
        (
            Webhooks.create("n", "u", []),
            "/webhooks",
            b'{"name":"n","url":"u","events":[]}',
        ),
    ],
)
def test_omitted_arguments_are_not_sent(call: Call[Any], path: str, body: bytes) -> None:
    sent = request(call)
    assert (sent.url, sent.body) == (ROOT + path, body)


# Headers


def test_a_reply_may_be_compressed() -> None:
    headers = request(Workflows.list()).headers
    assert headers["Accept"] == "application/json"
    assert headers["Accept-Encoding"] == "gzip, deflate"


POSTS: List[Callable[[str], Any]] = [
    lambda key: Workflows.execute("w", idempotency_key=key),
    lambda key: Workflows.run("w", idempotency_key=key).execute,
    lambda key: Executions.cancel("e", idempotency_key=key),
    lambda key: Agents.create_thread("a", idempotency_key=key),
    lambda key: Agents.search_memory("a", "q", idempotency_key=key),
    lambda key: Threads.send_message("t", "c", idempotency_key=key),
    lambda key: Threads.send_message_stream("t", "c", idempotency_key=key).streaming,
    lambda key: Triggers.execute("t", idempotency_key=key),
    lambda key: KnowledgeBases.query("k", "q", idempotency_key=key),
    lambda key: Webhooks.create("n", "u", [], idempotency_key=key),
    lambda key: Webhooks.test("w", idempotency_key=key),
]


@pytest.mark.parametrize("build", POSTS)
def test_every_post_takes_a_key_of_the_callers(build: Callable[[str], Call[Any]]) -> None:
    assert request(build("mine")).headers.get_list("Idempotency-Key") == ["mine"]


def test_a_resource_is_imported_when_it_is_first_read() -> None:
    assert dir(resources) == resources.__all__
    for name in resources.__all__:
        assert getattr(resources, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'Robots'"):
        resources.Robots  # noqa: B018  # type: ignore[attr-defined]
