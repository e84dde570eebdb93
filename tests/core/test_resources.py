"""Every endpoint: the exact request, asked of the class, without a client."""

from __future__ import annotations

import inspect
import json
from typing import Any, Callable, Dict, List, NamedTuple, Optional

import pytest

from flowmaestro_core import resources
from flowmaestro_core.call import Call, Proof
from flowmaestro_core.context import Context
from flowmaestro_core.event_stream import Events
from flowmaestro_core.events import EXECUTION_TERMINAL
from flowmaestro_core.http import Headers, Request, Response
from flowmaestro_core.message_stream import MessageStream
from flowmaestro_core.operation import Operation, _Endpoint, iterating_endpoint
from flowmaestro_core.options import ClientOptions
from flowmaestro_core.pages import Pages
from flowmaestro_core.resources import (
    Agents,
    Executions,
    KnowledgeBases,
    Threads,
    Triggers,
    Webhooks,
    Workflows,
)
from flowmaestro_core.run import Run
from flowmaestro_core.wait import Waiting

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
def test_the_request(row: Row) -> None:
    sent = request(row.call)
    assert (sent.method, sent.url) == (row.method, ROOT + row.path)
    assert (json.loads(sent.body) if sent.body else None) == row.body
    assert sent.headers["X-API-Key"] == KEY
    assert sent.headers["Authorization"] == f"Bearer {KEY}"
    assert sent.headers.get("Content-Type") == (None if row.body is None else "application/json")
    assert sent.headers.get("Idempotency-Key") == ("token" if row.method == "POST" else None)
    assert row.call.repeatable is row.repeatable


def test_the_table_is_whole() -> None:
    """34 calls; what else there is walks pages, waits or runs."""
    assert len(TABLE) == 34
    assert len(set(NAMES)) == 34
    builders = {
        value._build.__qualname__
        for name in resources.__all__
        for value in vars(getattr(resources, name)).values()
        if isinstance(value, _Endpoint)
    }
    assert builders - set(NAMES) == {
        "Workflows.iterate",
        "Workflows.run",
        "Executions.iterate",
        "Executions.wait_for_completion",
        "Agents.iterate",
        "Agents.iterate_memory",
        "Threads.iterate_messages",
        "Triggers.iterate",
        "KnowledgeBases.iterate",
        "Webhooks.iterate",
        "Webhooks.iterate_deliveries",
    }


def test_every_builder_has_a_docstring_and_what_iterates_is_marked() -> None:
    for name in resources.__all__:
        for what, value in vars(getattr(resources, name)).items():
            if isinstance(value, _Endpoint):
                assert value.__doc__, what
                returned = inspect.signature(value._build).return_annotation
                iterates = returned.startswith(("Pages", "Events", "MessageStream"))
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
def test_what_was_left_out_is_not_sent(call: Call[Any], path: str, body: bytes) -> None:
    sent = request(call)
    assert (sent.url, sent.body) == (ROOT + path, body)


def test_ids_are_one_segment_each() -> None:
    assert request(Agents.get_memory("a/b", "u?v")).url == ROOT + "/agents/a%2Fb/memory/u%3Fv"
    assert request(KnowledgeBases.get("../x")).url == ROOT + "/knowledge-bases/..%2Fx"


# Bad input, at the call that made it

BY_ID: List[Callable[[Any], Any]] = [
    *(Workflows.get, Workflows.execute, Workflows.run),
    *(Executions.get, Executions.cancel, Executions.stream, Executions.wait_for_completion),
    *(Agents.get, Agents.create_thread, Agents.list_memory, Agents.iterate_memory),
    *(Agents.update_memory, Agents.memory_stats, Agents.search_memory),
    *(Threads.get, Threads.delete, Threads.list_messages, Threads.iterate_messages),
    *(Threads.send_message, Threads.send_message_stream, Threads.stream),
    *(Triggers.execute, KnowledgeBases.get, KnowledgeBases.query),
    *(Webhooks.get, Webhooks.update, Webhooks.delete, Webhooks.test),
    *(Webhooks.list_deliveries, Webhooks.iterate_deliveries),
]
SECOND = {"user_id": "u", "query": "q", "content": "c"}


def with_id(build: Callable[..., Any], resource_id: Any) -> Any:
    _, *others = inspect.signature(build).parameters.values()
    needed = {
        parameter.name: SECOND[parameter.name]
        for parameter in others
        if parameter.default is parameter.empty
    }
    return build(resource_id, **needed)


@pytest.mark.parametrize("build", BY_ID, ids=lambda build: build.__qualname__)
def test_a_bad_id_is_refused_by_name(build: Callable[..., Any]) -> None:
    name = next(iter(inspect.signature(build).parameters))
    assert name.endswith("_id")
    for bad in ("", ".", ".."):
        with pytest.raises(ValueError, match=name):
            with_id(build, bad)
    for wrong in (None, 5, b"x"):
        with pytest.raises(TypeError, match=name):
            with_id(build, wrong)
    assert isinstance(with_id(build, "fine"), Operation)


@pytest.mark.parametrize("user_id", ["", "..", None, 5])
def test_a_bad_second_id_is_refused_by_name(user_id: Any) -> None:
    for build in (Agents.get_memory, Agents.update_memory, Agents.delete_memory):
        with pytest.raises((TypeError, ValueError), match="user_id"):
            build("a", user_id)


LISTS: List[Callable[..., Any]] = [
    *(Workflows.list, Executions.list, Agents.list, Triggers.list, KnowledgeBases.list),
    *(Webhooks.list, lambda **page: Threads.list_messages("t", **page)),
    *(lambda **page: Agents.list_memory("a", **page),),
    *(lambda **page: Webhooks.list_deliveries("w", **page),),
]
WALKS: List[Callable[..., Any]] = [
    *(Workflows.iterate, Executions.iterate, Agents.iterate, Triggers.iterate),
    *(KnowledgeBases.iterate, Webhooks.iterate),
    *(lambda **page: Threads.iterate_messages("t", **page),),
    *(lambda **page: Agents.iterate_memory("a", **page),),
    *(lambda **page: Webhooks.iterate_deliveries("w", **page),),
]


@pytest.mark.parametrize("build", [*LISTS, *WALKS])
def test_a_page_is_a_number_from_one(build: Callable[..., Any]) -> None:
    names = ["per_page"] if build in WALKS else ["page", "per_page"]
    for name in names:
        for bad in (0, -1):
            with pytest.raises(ValueError, match=f"^{name} must be at least 1"):
                build(**{name: bad})
        for wrong in ("2", 2.0, True, [1]):
            with pytest.raises(TypeError, match=f"^{name} must be an int"):
                build(**{name: wrong})


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (Executions.list, "workflow_id"),
        (Executions.list, "status"),
        (Executions.iterate, "workflow_id"),
        (Executions.iterate, "status"),
        (Triggers.list, "workflow_id"),
        (Triggers.iterate, "workflow_id"),
    ],
)
def test_a_filter_that_would_not_filter_is_refused_by_name(
    build: Callable[..., Any], name: str
) -> None:
    with pytest.raises(ValueError, match=f"{name} must not be empty"):
        build(**{name: ""})
    with pytest.raises(TypeError, match=f"{name} must be a str"):
        build(**{name: 5})


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda inputs: Workflows.execute("w", inputs=inputs), "inputs"),
        (lambda inputs: Workflows.run("w", inputs), "inputs"),
        (lambda inputs: Triggers.execute("t", inputs=inputs), "inputs"),
        (lambda metadata: Agents.create_thread("a", metadata=metadata), "metadata"),
        (lambda metadata: Agents.update_memory("a", "u", metadata=metadata), "metadata"),
        (lambda headers: Webhooks.create("n", "u", [], headers=headers), "headers"),
        (lambda headers: Webhooks.update("w", headers=headers), "headers"),
    ],
)
def test_what_json_cannot_express_is_refused_by_name(build: Callable[..., Any], name: str) -> None:
    for bad in ({"a": float("nan")}, {"a": float("inf")}):
        with pytest.raises(ValueError, match=rf"{name}\['a'\]"):
            build(bad)
    for wrong in ({"a": {1}}, {"a": {5: 1}}, {5: 1}, [1], "text", 0):
        with pytest.raises(TypeError, match=name):
            build(wrong)


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda value: Threads.send_message("t", value), "content"),
        (lambda value: Threads.send_message_stream("t", value), "content"),
        (lambda value: KnowledgeBases.query("k", value), "query"),
        (lambda value: Agents.search_memory("a", value), "query"),
        (lambda value: Webhooks.create(value, "u", []), "name"),
        (lambda value: Webhooks.create("n", value, []), "url"),
    ],
)
@pytest.mark.parametrize("value", [None, 5, b"x", ["x"]])
def test_text_is_text(build: Callable[..., Any], name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"{name} must be a str"):
        build(value)


def test_events_are_a_list_of_names() -> None:
    events: Any = "execution.completed"
    for build in (
        lambda: Webhooks.create("n", "u", events),
        lambda: Webhooks.update("w", events=events),
    ):
        with pytest.raises(TypeError, match="events must be a list of event names, not the str"):
            build()


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_times_are_positive_and_finite(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"^timeout must be"):
        Executions.wait_for_completion("e", timeout=seconds)
    with pytest.raises(ValueError, match=r"^poll_interval must be"):
        Executions.wait_for_completion("e", poll_interval=seconds)
    with pytest.raises(ValueError, match=r"^timeout must be"):
        Workflows.run("w", timeout=seconds)


# Headers


def test_a_stream_is_asked_for_uncompressed_and_fresh() -> None:
    sent = Executions.stream("e").source.request(
        OPTIONS, "token", ("Last-Event-ID", "7"), stream=True
    )
    assert sent.headers["Accept"] == "text/event-stream"
    assert sent.headers["Accept-Encoding"] == "identity"
    assert sent.headers["Cache-Control"] == "no-store"
    assert sent.headers["Last-Event-ID"] == "7"


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


# What else a call knows


def test_sending_a_message_waits_for_the_agent() -> None:
    call = Threads.send_message("t", "c")
    assert call.minimum_timeout == 130.0
    assert OPTIONS.timeout_for(call.minimum_timeout) == 130.0
    assert OPTIONS.with_changes(timeout=5).timeout_for(call.minimum_timeout) == 5
    assert request(Threads.send_message("t", "c", stream=True)).body == (
        b'{"content":"c","stream":true}'
    )
    assert Workflows.execute("w").minimum_timeout == 0.0


def test_a_refused_repeat_can_prove_that_it_worked() -> None:
    assert Threads.delete("t").proof == Proof(404)
    assert Webhooks.delete("w").proof == Proof(404)
    proof = Executions.cancel("e").proof
    assert proof is not None
    assert proof.refusal == 400
    assert proof.ask is not None
    assert request(proof.ask).url == ROOT + "/executions/e"
    assert proof.confirms({"data": {"status": "cancelled"}})
    assert not proof.confirms({"data": {"status": "completed"}})


def test_operations_that_are_more_than_a_call() -> None:
    waiting = Executions.wait_for_completion("e", poll_interval=2.0, timeout=9.0, on_poll=print)
    assert waiting == Waiting("e", waiting.ask, 2.0, 9.0, print)
    assert request(waiting.ask).url == ROOT + "/executions/e"
    defaults = Executions.wait_for_completion("e")
    assert (defaults.poll_interval, defaults.timeout, defaults.listener) == (1.0, 300.0, None)
    events = Executions.stream("e")
    assert isinstance(events, Events)
    assert (events.terminal, events.resumable) == (EXECUTION_TERMINAL, True)
    assert events.reconcile is not None
    assert request(events.reconcile).url == ROOT + "/executions/e"
    endless = Threads.stream("t")
    assert (endless.terminal, endless.reconcile) == (frozenset(), None)
    message = Threads.send_message_stream("t", "c")
    assert isinstance(message, MessageStream)
    assert request(message.whole).body == b'{"content":"c","stream":false}'
    assert request(message.events).url == ROOT + "/threads/t/events"


def test_a_run_is_made_of_its_parts() -> None:
    run = Workflows.run("w", {"a": 1}, print, 9.0)
    assert isinstance(run, Run)
    assert request(run.execute).body == b'{"inputs":{"a":1}}'
    assert (run.timeout, run.listener) == (9.0, print)
    assert request(run.events("e").source).url == ROOT + "/executions/e/events"
    waiting = run.waiting("e")
    assert (waiting.execution_id, waiting.timeout, waiting.listener) == ("e", 9.0, None)


@pytest.mark.parametrize(
    ("pages", "path"),
    [
        (Workflows.iterate(per_page=5), "/workflows?page=3&per_page=5"),
        (Workflows.iterate(), "/workflows?page=3"),
        (Agents.iterate(), "/agents?page=3"),
        (Agents.iterate_memory("a"), "/agents/a/memory?page=3"),
        (Threads.iterate_messages("t"), "/threads/t/messages?page=3"),
        (KnowledgeBases.iterate(), "/knowledge-bases?page=3"),
        (Webhooks.iterate(), "/webhooks?page=3"),
        (Webhooks.iterate_deliveries("w"), "/webhooks/w/deliveries?page=3"),
        (Triggers.iterate(workflow_id="w"), "/triggers?page=3&workflow_id=w"),
        (
            Executions.iterate(workflow_id="w", status="failed", per_page=5),
            "/executions?page=3&per_page=5&workflow_id=w&status=failed",
        ),
    ],
)
def test_a_walk_asks_for_page_after_page(pages: Pages[Any], path: str) -> None:
    assert request(pages.page(3)).url == ROOT + path
    assert pages.cursor() is not pages.cursor()
    assert pages.cursor().page == 1


def test_a_walk_over_executions_does_not_believe_in_the_last_page() -> None:
    last = {"data": [{}] * 20, "pagination": {"has_next": False, "total_count": 20, "per_page": 20}}
    assert Executions.iterate().cursor().advance(last)
    assert not Executions.iterate(workflow_id="w").cursor().advance(last)
    assert not Workflows.iterate().cursor().advance(last)
    filtered: Any = {"data": [], "pagination": {"total_count": 99, "per_page": 20}}
    assert Executions.iterate(workflow_id="w", status="failed").cursor().advance(filtered)
    assert not Executions.iterate(status="failed").cursor().advance(filtered)
    assert not Executions.iterate(workflow_id="w").cursor().advance(filtered)


# Replies


def answer(call: Call[Any], body: Any) -> Any:
    return call.reply(Response(200, Headers(), json.dumps(body).encode()))


def test_triggers_of_other_workflows_are_left_out() -> None:
    rows = [{"id": 1, "workflow_id": "w"}, {"id": 2, "workflow_id": "v"}, {"id": 3}, "odd"]
    body = {"data": rows, "pagination": {}}
    mine = answer(Triggers.list(workflow_id="w"), body)
    assert [row["id"] for row in mine["data"]] == [1]
    assert mine["data"][0]["type"] is None
    assert len(answer(Triggers.list(), body)["data"]) == 4


ONE: Dict[str, Any] = {"data": {"id": "x"}}
MANY: Dict[str, Any] = {"data": [{"id": "x"}], "pagination": {"page": 1}}


@pytest.mark.parametrize(
    ("call", "body", "keys"),
    [
        (Workflows.get("w"), ONE, {"inputs", "input_schema"}),
        (Workflows.execute("w"), ONE, {"execution_id", "status"}),
        (Triggers.execute("t"), ONE, {"execution_id", "status"}),
        (Executions.get("e"), ONE, {"status", "outputs", "error"}),
        (Executions.cancel("e"), ONE, {"status"}),
        (Threads.send_message("t", "c"), ONE, {"role", "content", "usage", "tool_calls"}),
        (Webhooks.test("w"), ONE, {"success", "response_time_ms", "error_message"}),
        (Workflows.list(), MANY, {"inputs", "input_schema"}),
        (Executions.list(), MANY, {"status", "outputs", "error"}),
        (Triggers.list(), MANY, {"type", "trigger_type"}),
    ],
)
def test_what_the_contract_reads_is_there(call: Call[Any], body: Any, keys: set[str]) -> None:
    reply = answer(call, body)
    row = reply["data"][0] if isinstance(reply["data"], list) else reply["data"]
    assert keys <= set(row)
    assert row["id"] == "x"
    if body is MANY:
        assert {"page", "per_page", "total_count", "has_more", "has_next"} <= set(
            reply["pagination"]
        )


@pytest.mark.parametrize(
    ("call", "deleted"),
    [
        (Threads.delete("t"), "t"),
        (Webhooks.delete("w"), "w"),
        (Agents.delete_memory("a", "u"), "u"),
    ],
)
def test_a_deletion_without_words_is_one(call: Call[Any], deleted: str) -> None:
    reply = call.reply(Response(204, Headers()))
    assert reply["data"] == {"id": deleted, "deleted": True}


def test_search_results_have_both_names() -> None:
    body = {"data": {"results": [{"score": 0.5, "content": "c"}]}}
    for call in (KnowledgeBases.query("k", "q"), Agents.search_memory("a", "q")):
        assert answer(call, body)["data"]["results"][0]["similarity"] == 0.5


def test_the_deployed_servers_messages_are_a_list() -> None:
    body = {"data": {"messages": [{"role": "user", "content": "Hi"}]}}
    reply = answer(Threads.list_messages("t"), body)
    assert reply["data"] == [{"role": "user", "content": "Hi"}]
    assert reply["pagination"]["total_count"] == 1


@pytest.mark.parametrize("row", TABLE, ids=NAMES)
def test_every_call_makes_a_machine(row: Row) -> None:
    action: Any = row.call.machine(Context(OPTIONS), "token").start(0.0, 0.5)
    assert action.request.url == ROOT + row.path
