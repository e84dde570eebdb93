"""Bad input to an endpoint is refused by name, at the call that made it."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import Any, Callable, List

import pytest

from flowmaestro_core.checkpoint import Checkpoint
from flowmaestro_core.operation import Operation
from flowmaestro_core.resources import (
    Agents,
    Executions,
    KnowledgeBases,
    Threads,
    Triggers,
    Webhooks,
    Workflows,
)

BY_ID: List[Callable[[Any], Any]] = [
    *(Workflows.get, Workflows.execute, Workflows.run, Workflows.run_many),
    *(Executions.get, Executions.cancel, Executions.stream, Executions.wait_for_completion),
    *(Agents.get, Agents.create_thread, Agents.list_memory, Agents.iterate_memory),
    *(Agents.get_memory, Agents.update_memory, Agents.delete_memory),
    *(Agents.memory_stats, Agents.search_memory),
    *(Threads.get, Threads.delete, Threads.list_messages, Threads.iterate_messages),
    *(Threads.send_message, Threads.send_message_stream, Threads.stream),
    *(Triggers.execute, KnowledgeBases.get, KnowledgeBases.query),
    *(Webhooks.get, Webhooks.update, Webhooks.delete, Webhooks.test),
    *(Webhooks.list_deliveries, Webhooks.iterate_deliveries),
]
SECOND = {"user_id": "u", "query": "q", "content": "c", "inputs": []}


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
    ],
)
def test_argument_that_json_cannot_express_is_named(build: Callable[..., Any], name: str) -> None:
    for bad in ({"a": float("nan")}, {"a": float("inf")}):
        with pytest.raises(ValueError, match=rf"{name}\['a'\]"):
            build(bad)
    for wrong in ({"a": {1}}, {"a": {5: 1}}, {5: 1}, [1], "text", 0):
        with pytest.raises(TypeError, match=name):
            build(wrong)


@pytest.mark.parametrize(
    "build",
    [
        lambda headers: Webhooks.create("n", "u", [], headers=headers),
        lambda headers: Webhooks.update("w", headers=headers),
    ],
)
def test_headers_of_deliveries_are_header_fields(build: Callable[..., Any]) -> None:
    for bad in ({"a": "b\r\nc: d"}, {"a b": "c"}, {"": "c"}, {"Content-Length": "3"}):
        with pytest.raises(ValueError, match="headers: "):
            build(bad)
    for wrong in ({"a": 1}, {5: "b"}, [1], "text"):
        with pytest.raises(TypeError, match="headers"):
            build(wrong)


WRONG = {
    "a str": (5, b"x", ["x"]),
    "a str, not": (None, 5, b"x", ["x"]),  # A text that may not be left out.
    "a bool": ("yes", "no", 0, 1),
    "an int": ("5", 5.0, True),
    "a number": ("0.5", True, [0.5]),
    "a function": (60,),
    "a list": ("execution.completed",),
}


@pytest.mark.parametrize(
    ("build", "name", "kind"),
    [
        (lambda it: Threads.send_message("t", it), "content", "a str, not"),
        (lambda it: Threads.send_message_stream("t", it), "content", "a str, not"),
        (lambda it: KnowledgeBases.query("k", it), "query", "a str, not"),
        (lambda it: Agents.search_memory("a", it), "query", "a str, not"),
        (lambda it: Webhooks.create(it, "u", []), "name", "a str, not"),
        (lambda it: Webhooks.create("n", it, []), "url", "a str, not"),
        (lambda it: Webhooks.create("n", "u", [it]), "an event of events", "a str, not"),
        (lambda it: Webhooks.update("w", name=it), "name", "a str"),
        (lambda it: Webhooks.update("w", url=it), "url", "a str"),
        (lambda it: Agents.update_memory("a", "u", working_memory=it), "working_memory", "a str"),
        (lambda it: Agents.search_memory("a", "q", user_id=it), "user_id", "a str"),
        (lambda it: Workflows.execute("w", idempotency_key=it), "idempotency_key", "a str"),
        (lambda it: Threads.send_message("t", "c", stream=it), "stream", "a bool"),
        (lambda it: Webhooks.update("w", is_active=it), "is_active", "a bool"),
        (lambda it: KnowledgeBases.query("k", "q", top_k=it), "top_k", "an int"),
        (lambda it: Agents.search_memory("a", "q", top_k=it), "top_k", "an int"),
        (
            lambda it: Agents.search_memory("a", "q", similarity_threshold=it),
            "similarity_threshold",
            "a number",
        ),
        (lambda it: Webhooks.create("n", "u", it), "events", "a list"),
        (lambda it: Webhooks.update("w", events=it), "events", "a list"),
        (lambda it: Workflows.run("w", {}, it), "on_event", "a function"),
        (lambda it: Workflows.run_many("w", [], progress=it), "progress", "a function"),
        (lambda it: Workflows.run_many("w", [], on_start=it), "on_start", "a function"),
        (lambda it: Workflows.run_many("w", [], journal="j", key=it), "key", "a function"),
        (lambda it: Executions.wait_many(["e"], progress=it), "progress", "a function"),
        (lambda it: Executions.wait_for_completion("e", on_poll=it), "on_poll", "a function"),
    ],
)
def test_an_argument_of_another_type_is_refused_by_name(
    build: Callable[..., Any], name: str, kind: str
) -> None:
    """`TABLE` in test_resources.py has the right ones."""
    for value in WRONG[kind]:
        with pytest.raises(TypeError, match=f"^{name} must be {kind}"):
            build(value)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: KnowledgeBases.query("k", "q", top_k=0), "top_k must be at least 1"),
        (lambda: Agents.search_memory("a", "q", top_k=0), "top_k must be at least 1"),
        (
            lambda: Agents.search_memory("a", "q", similarity_threshold=math.nan),
            "similarity_threshold is nan",
        ),
        (lambda: Workflows.execute("w", idempotency_key=""), "idempotency_key must not be empty"),
        (lambda: Workflows.execute("w", idempotency_key="a\r\nX: y"), "of visible ASCII"),
        (lambda: Workflows.execute("w", idempotency_key="\u00fc"), "of visible ASCII"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(build: Callable[..., Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        build()


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_times_are_positive_and_finite(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"^timeout must be"):
        Executions.wait_for_completion("e", timeout=seconds)
    with pytest.raises(ValueError, match=r"^timeout must be"):
        Executions.stream("e", timeout=seconds)
    with pytest.raises(ValueError, match=r"^poll_interval must be"):
        Executions.wait_for_completion("e", poll_interval=seconds)
    with pytest.raises(ValueError, match=r"^timeout must be"):
        Workflows.run("w", timeout=seconds)


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"ordered": 1}, TypeError, "ordered must be a bool, not int"),
        ({"journal": object()}, TypeError, "not object: it has no method load()"),
        ({"journal": 7}, TypeError, "journal must be a path or a store, not int"),
        ({"journal": dict}, TypeError, "not the class dict"),
        ({"journal": Checkpoint(dict, print)}, TypeError, "a Checkpoint is for one run"),
        ({"key": len}, ValueError, "are for a journal; pass journal="),
        ({"rerun": ["failed"]}, ValueError, "are for a journal; pass journal="),
        ({"redo": [0]}, ValueError, "are for a journal; pass journal="),
        ({"journal": "j", "redo": 0}, TypeError, "redo must be a list or another iterable of ind"),
        ({"journal": "j", "redo": ["a"]}, TypeError, "each index in redo must be an int, not str"),
        ({"journal": "j", "redo": [-1]}, ValueError, "each index in redo must be at least 0, not"),
        ({"journal": "j", "redo": [3]}, ValueError, "redo holds 3, but inputs ends at index -1"),
        ({"on_unknown": "start"}, ValueError, "are for a journal; pass journal="),
        ({"settle_after": 5}, ValueError, "settle_after are for a journal; pass journal="),
        ({"journal": "j", "on_unknown": "stop"}, ValueError, '"error" or "start", not \'stop\''),
        ({"journal": "j", "rerun": ["completed"]}, ValueError, '"cancelled" only, not'),
        ({"journal": "j", "rerun": "failed"}, TypeError, "rerun must be a list"),
        ({"journal": "j", "settle_after": 0}, ValueError, "settle_after must be"),
        ({"journal": ""}, ValueError, "journal must not be empty"),
        ({"journal": Path("a\0b")}, ValueError, "journal must not hold a null"),
        ({"journal": "a" * 10**6}, ValueError, "at most 32767 characters, not 1000000"),
        ({"journal": b"a"}, TypeError, "journal must be a path, not bytes"),
    ],
)
def test_batch_names_invalid_argument(given: Any, kind: Any, message: str) -> None:
    with pytest.raises(kind, match=message):
        Workflows.run_many("w", [], **given)


def test_batch_without_a_journal_takes_empty_lists_for_it() -> None:
    assert Workflows.run_many("w", [{}], rerun=[], redo=[]).journal is None


class TestDataFrames:
    @pytest.mark.parametrize(
        ("method", "line"),
        [("to_dict", 'inputs.to_dict(orient="records")'), ("to_dicts", "inputs.to_dicts()")],
    )
    def test_data_frame_is_refused_with_the_line_to_write(self, method: str, line: str) -> None:
        members = {method: None, "__iter__": lambda self: iter(["name"])}
        frame: Any = type("DataFrame", (), members)()
        with pytest.raises(TypeError) as caught:
            Workflows.run_many("w", frame)
        assert str(caught.value).endswith(f"of dicts, not DataFrame; pass {line}")

    def test_line_for_pandas_gives_rows(self) -> None:
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame({"name": ["Ada"], "visits": [3]})
        with pytest.raises(TypeError, match="not DataFrame; pass"):
            Workflows.run_many("w", frame)
        rows = frame.to_dict(orient="records")
        batch = Workflows.run_many("w", rows)
        assert batch.encode is not None
        assert batch.encode(rows[0]) == b'{"inputs":{"name":"Ada","visits":3}}'
