"""What the endpoints' operations know beyond the request, and how they read a reply."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flowmaestro_core.calls.call import Call, Confirmation
from flowmaestro_core.calls.pages import Pages
from flowmaestro_core.checkpoint import Checkpoint
from flowmaestro_core.executions.operation import Batch, Poll, Run
from flowmaestro_core.http.messages import Headers, Request, Response
from flowmaestro_core.messages.operation import MessageStream
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
from flowmaestro_core.streams.events import EXECUTION_TERMINAL
from flowmaestro_core.streams.operation import Events

OPTIONS = ClientOptions("fm_live_0123456789")
ROOT = "https://api.flowmaestro.io/api/v1"


def request(call: Call[Any]) -> Request:
    return call.request(OPTIONS, "token")


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
    assert Threads.delete("t").confirmation == Confirmation(404)
    assert Webhooks.delete("w").confirmation == Confirmation(404)
    assert Agents.delete_memory("a", "u").confirmation == Confirmation(404)
    confirmation = Executions.cancel("e").confirmation
    assert confirmation is not None
    assert confirmation.refusal == 400
    assert confirmation.ask is not None
    assert request(confirmation.ask).url == ROOT + "/executions/e"
    assert confirmation.confirms({"data": {"status": "cancelled"}})
    assert not confirmation.confirms({"data": {"status": "completed"}})


def test_operations_that_are_more_than_a_call() -> None:
    waiting = Executions.wait_for_completion("e", poll_interval=2.0, timeout=9.0, on_poll=print)
    assert waiting == Poll("e", waiting.call, 2.0, 9.0, print, exact=True)
    assert request(waiting.call).url == ROOT + "/executions/e"
    defaults = Executions.wait_for_completion("e")
    assert (defaults.poll_interval, defaults.timeout, defaults.listener) == (1.0, 300.0, None)
    assert not defaults.exact
    events = Executions.stream("e")
    assert isinstance(events, Events)
    assert events.terminal == EXECUTION_TERMINAL
    assert events.reconcile is not None
    assert request(events.reconcile).url == ROOT + "/executions/e"
    assert Executions.stream("e", timeout=9.0).timeout == 9.0
    endless = Threads.stream("t")
    assert (endless.terminal, endless.reconcile) == (frozenset(), None)
    message = Threads.send_message_stream("t", "c")
    assert isinstance(message, MessageStream)
    assert request(message.whole).body == b'{"content":"c","stream":false}'


def test_operations_name_the_callbacks_that_they_were_given() -> None:
    def load() -> None: ...

    def save(state: Any) -> None: ...

    kept = Checkpoint(load, save)
    assert Executions.get("e").callbacks() == {}
    assert Executions.wait_for_completion("e", on_poll=print).callbacks() == {"on_poll": print}
    assert Executions.wait_many(["e"], progress=print).callbacks() == {
        "on_start": None,
        "progress": print,
    }
    assert Workflows.run_many("w", [{}], on_start=print).callbacks() == {
        "on_start": print,
        "progress": None,
    }
    assert Workflows.execute("w").callbacks() == {}
    assert Workflows.execute("w", checkpoint=kept).callbacks() == {"load": load, "save": save}
    assert Workflows.run("w", on_event=print).callbacks() == {"on_event": print}
    assert Workflows.run("w", checkpoint=kept).callbacks() == {
        "on_event": None,
        "load": load,
        "save": save,
    }


def test_a_run_is_made_of_its_parts() -> None:
    run = Workflows.run("w", {"a": 1}, print, 9.0)
    assert isinstance(run, Run)
    assert request(run.execute).body == b'{"inputs":{"a":1}}'
    assert (run.timeout, run.listener) == (9.0, print)
    assert request(run.events("e").source).url == ROOT + "/executions/e/events"
    waiting = run.waiting("e")
    assert (waiting.execution_id, waiting.timeout, waiting.listener) == ("e", 9.0, None)


def test_many_are_made_of_their_parts() -> None:
    many = Executions.wait_many(["e", "f"], poll_interval=2.0, timeout=9.0)
    assert isinstance(many, Batch)
    assert (many.execution_ids, many.timeout, many.total) == (("e", "f"), 9.0, 2)
    assert (many.inputs, many.journal) == ((), None)
    waiting = many.waiting("f")
    assert (waiting.execution_id, waiting.poll_interval, waiting.timeout) == ("f", 2.0, 9.0)
    assert (waiting.exact, many.poll_interval, many.workflow_id) == (True, 2.0, None)
    page = many.listed("w", 2, 50)
    assert request(page).url == ROOT + "/executions?page=2&per_page=50&workflow_id=w"
    many = Workflows.run_many("w", [{"a": 1}, None], concurrency=3, ordered=True)
    bodies = [request(many.start(many.encode(row))).body for row in many.inputs]
    assert bodies == [b'{"inputs":{"a":1}}', b'{"inputs":{}}']
    assert (many.execution_ids, many.concurrency, many.ordered) == ((), 3, True)
    assert request(many.page_of(2, 20)).url == ROOT + "/executions?page=2&per_page=20&workflow_id=w"
    assert (many.waiting("e").poll_interval, many.timeout) == (1.0, 300.0)
    assert (many.waiting("e").exact, many.poll_interval, many.workflow_id) == (False, None, "w")


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
            "/executions?page=3&per_page=5&workflow_id=w",
        ),
        (Executions.iterate(status="failed"), "/executions?page=3"),
    ],
)
def test_a_walk_asks_for_page_after_page(pages: Pages[Any], path: str) -> None:
    assert request(pages.page(3)).url == ROOT + path
    assert pages.cursor() is not pages.cursor()
    assert pages.cursor().page == 1


def test_only_a_walk_over_all_executions_goes_on_until_an_empty_page() -> None:
    last = {"data": [{}] * 19, "pagination": {"has_next": False, "total_count": 19, "per_page": 20}}
    assert Executions.iterate().cursor().advance(last)
    assert Executions.iterate(status="failed").cursor().advance(last)
    assert not Executions.iterate(workflow_id="w").cursor().advance(last)
    assert not Executions.iterate(workflow_id="w", status="failed").cursor().advance(last)
    assert not Workflows.iterate().cursor().advance(last)


# Replies


def answer(call: Call[Any], body: Any) -> Any:
    return call.reply(Response(200, Headers(), json.dumps(body).encode()))


def test_triggers_of_other_workflows_are_left_out() -> None:
    rows = [{"id": 1, "workflow_id": "w"}, {"id": 2, "workflow_id": "v"}, {"id": 3}, "odd"]
    body = {"data": rows, "pagination": {}}
    mine = answer(Triggers.list(workflow_id="w"), body)
    assert [row["id"] for row in mine["data"]] == [1, 3]  # a row that does not say may be ours
    assert mine["data"][0]["type"] is None
    assert len(answer(Triggers.list(), body)["data"]) == 4


def test_executions_in_another_state_are_left_out_of_a_walk() -> None:
    rows = [{"id": 1, "status": "failed"}, {"id": 2, "status": "running"}, {"id": 3}, "odd"]
    body = {"data": rows, "pagination": {}}
    failed = answer(Executions.iterate(workflow_id="w", status="failed").page(1), body)
    assert [row["id"] for row in failed["data"]] == [1]
    assert len(answer(Executions.iterate(workflow_id="w").page(1), body)["data"]) == 4


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
