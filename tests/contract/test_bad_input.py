"""Bad input is a clear `ValueError` or `TypeError` at the call that made it; nothing is sent."""

from __future__ import annotations

import inspect
import math
import re
from operator import attrgetter
from typing import Any, Callable, List, Tuple, Type

import pytest

from flowmaestro.testing import AsyncMemoryTransport, FakeFlowMaestro, MemoryTransport
from flowmaestro_core.resources import (
    Agents,
    Executions,
    KnowledgeBases,
    Threads,
    Triggers,
    Webhooks,
    Workflows,
)
from tests.harness.contract.clients import KEY, KINDS, ask, nothing_is_sent

RESOURCES = {
    "agents": Agents,
    "executions": Executions,
    "knowledge_bases": KnowledgeBases,
    "threads": Threads,
    "triggers": Triggers,
    "webhooks": Webhooks,
    "workflows": Workflows,
}
PLAUSIBLE = {
    "content": "Hello",
    "query": "how",
    "name": "n",
    "url": "https://hooks.example.com",
    "events": ["execution.completed"],
    "working_memory": "m",
}
"""A value for each argument that is required and is no id."""


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delenv("FLOWMAESTRO_API_KEY", raising=False)
    monkeypatch.delenv("FLOWMAESTRO_BASE_URL", raising=False)
    return KINDS[request.param]


@pytest.fixture
def client(make: Any) -> Any:
    return make(KEY, transport=nothing_is_sent)


def methods() -> List[Tuple[str, str, List[str]]]:
    """Every method of every resource, with its required parameters."""
    found = []
    for resource, kind in RESOURCES.items():
        for name in (name for name in vars(kind) if not name.startswith("_")):
            parameters = inspect.signature(getattr(kind, name)).parameters.values()
            required = [p.name for p in parameters if p.default is p.empty]
            found.append((resource, name, required))
    return found


METHODS = methods()


def test_there_are_methods_to_try() -> None:
    assert len(METHODS) > 40


# Making a client.


def test_no_key(make: Any) -> None:
    with pytest.raises(ValueError, match="FLOWMAESTRO_API_KEY"):
        make()


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("", ValueError),
        (" ", ValueError),
        ("fm_live_\nX-Injected: 1", ValueError),
        ("fm_live_k\r\n", ValueError),
        ("fm_live_ü", ValueError),
        (b"fm_live_k", TypeError),
        (7, TypeError),
    ],
)
def test_bad_key(make: Any, key: Any, kind: Type[Exception]) -> None:
    with pytest.raises(kind, match="api_key") as caught:
        make(key)
    assert "fm_live" not in str(caught.value)


@pytest.mark.parametrize("key", ["", "fm_live_k\n"])
def test_bad_key_in_the_environment(make: Any, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWMAESTRO_API_KEY", key)
    with pytest.raises(ValueError, match="api_key, from FLOWMAESTRO_API_KEY,") as caught:
        make()
    assert "fm_live" not in str(caught.value)


def test_bad_base_url_in_the_environment(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWMAESTRO_BASE_URL", "api.flowmaestro.io")
    with pytest.raises(ValueError, match="FLOWMAESTRO_BASE_URL: base_url must be"):
        make(KEY)
    assert "https://host" in repr(make(KEY, base_url="https://host"))


def test_an_empty_base_url_in_the_environment_is_none(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWMAESTRO_BASE_URL", "")
    assert "https://api.flowmaestro.io" in repr(make(KEY))


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("api.flowmaestro.io", ValueError),
        ("ftp://api.flowmaestro.io", ValueError),
        ("", ValueError),
        ("https://", ValueError),
        ("https://host/?a=1", ValueError),
        ("https://host/#top", ValueError),
        ("https://ho st", ValueError),
        ("https://host/a\nb", ValueError),
        ("https://host:port", ValueError),
        ("https://user:secret@host", ValueError),
        (b"https://host", TypeError),
        (7, TypeError),
    ],
)
def test_bad_base_url(make: Any, url: Any, kind: Type[Exception]) -> None:
    with pytest.raises(kind, match="base_url") as caught:
        make(KEY, base_url=url)
    assert "secret" not in str(caught.value)


SECONDS = [
    (0, ValueError),
    (-1.0, ValueError),
    (math.nan, ValueError),
    (math.inf, ValueError),
    ("5", TypeError),
    (True, TypeError),
]


@pytest.mark.parametrize(("timeout", "kind"), SECONDS)
def test_bad_timeout(make: Any, client: Any, timeout: Any, kind: Type[Exception]) -> None:
    with pytest.raises(kind, match="timeout"):
        make(KEY, timeout=timeout)
    with pytest.raises(kind, match="timeout"):
        client.with_options(timeout=timeout)


@pytest.mark.parametrize(
    ("retries", "kind"), [(-1, ValueError), (1.5, TypeError), ("3", TypeError), (True, TypeError)]
)
def test_bad_max_retries(make: Any, client: Any, retries: Any, kind: Type[Exception]) -> None:
    with pytest.raises(kind, match="max_retries"):
        make(KEY, max_retries=retries)
    with pytest.raises(kind, match="max_retries"):
        client.with_options(max_retries=retries)


@pytest.mark.parametrize(
    ("headers", "kind"),
    [
        ({"X-A\r\nX-B": "1"}, ValueError),
        ({"X-A": "1\r\nX-B: 2"}, ValueError),
        ({"X-A": "1\n2"}, ValueError),
        ({"X-A": "1\x00"}, ValueError),
        ({"": "1"}, ValueError),
        ({"X A": "1"}, ValueError),
        ({"X-A:": "1"}, ValueError),
        ({"X-A": "snow ☃"}, ValueError),
        ({"X-A": 1}, TypeError),
        ({1: "1"}, TypeError),
        ([("X-A", "1")], TypeError),
        ("X-A: 1", TypeError),
    ],
)
def test_bad_headers(make: Any, client: Any, headers: Any, kind: Type[Exception]) -> None:
    with pytest.raises(kind, match="headers"):
        make(KEY, headers=headers)
    with pytest.raises(kind, match="headers"):
        client.with_options(headers=headers)


@pytest.mark.parametrize(
    "transport", [7, "requests", object(), MemoryTransport, AsyncMemoryTransport]
)
def test_bad_transport(make: Any, transport: Any) -> None:
    with pytest.raises(TypeError, match="transport"):
        make(KEY, transport=transport)


def test_a_transport_of_the_other_kind() -> None:
    async def coroutine_function(request: Any) -> Any:
        raise NotImplementedError

    fake = FakeFlowMaestro()
    for wrong in (AsyncMemoryTransport(fake), coroutine_function):
        with pytest.raises(TypeError, match="transport"):
            KINDS["blocking"](KEY, transport=wrong)
    with pytest.raises(TypeError, match="transport"):
        KINDS["awaiting"](KEY, transport=MemoryTransport(fake))


# Calling it.


@pytest.mark.parametrize(
    ("resource", "method", "required"), METHODS, ids=[".".join(row[:2]) for row in METHODS]
)
def test_bad_ids_and_page_numbers(
    client: Any, resource: str, method: str, required: List[str]
) -> None:
    """All that is refused is in `tests/core/resources`; nothing of it reaches a transport."""
    good = {name: PLAUSIBLE.get(name, "an_id") for name in required}
    bad: List[Tuple[str, Any, Type[Exception]]] = []
    for name in filter(lambda name: name.endswith("_id"), required):
        bad += [(name, "", ValueError), (name, ["wf_1"], TypeError)]
    if method.startswith(("list", "iterate")):
        bad += [("per_page", 0, ValueError), ("per_page", "1", TypeError)]
    if method.startswith("list"):
        bad += [("page", 0, ValueError), ("page", True, TypeError)]
    call = attrgetter(f"{resource}.{method}")
    for name, value, kind in bad:
        given = {**good, name: value}
        with pytest.raises(kind, match=rf"\b{name}\b"):
            ask(client, lambda client, given=given: call(client)(**given))


def _itself() -> List[Any]:
    holds: List[Any] = []
    holds.append(holds)
    return holds


INEXPRESSIBLE = [
    ({"x": math.nan}, ValueError),
    ({"x": [math.inf]}, ValueError),
    ({"x": {"y": -math.inf}}, ValueError),
    ({"x": {1, 2}}, TypeError),
    ({"x": b"bytes"}, TypeError),
    ({"x": object()}, TypeError),
    ({1: "x"}, TypeError),
    ({"x": {None: 1}}, TypeError),
    ({"x": _itself()}, ValueError),
    ({"x": "\ud800"}, ValueError),
    ({"\ud800": "x"}, ValueError),
]
TAKES_JSON = {
    "workflows.execute": lambda client, value: client.workflows.execute("wf_1", inputs=value),
    "workflows.run": lambda client, value: client.workflows.run("wf_1", inputs=value),
    "triggers.execute": lambda client, value: client.triggers.execute("t_1", inputs=value),
    "agents.create_thread": lambda client, value: client.agents.create_thread(
        "a_1", metadata=value
    ),
    "agents.update_memory": lambda client, value: client.agents.update_memory(
        "a_1", "u_1", working_memory="m", metadata=value
    ),
    "request": lambda client, value: client.request("POST", "/x", json=value),
}


@pytest.mark.parametrize(("value", "kind"), INEXPRESSIBLE, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("name", TAKES_JSON)
def test_what_json_cannot_express(
    client: Any, name: str, value: Any, kind: Type[Exception]
) -> None:
    words = "inputs" if "execute" in name or "run" in name else "metadata|json"
    with pytest.raises(kind, match=words):
        ask(client, lambda client: TAKES_JSON[name](client, value))


@pytest.mark.parametrize("value", ["text", 7, [("a", 1)]])
@pytest.mark.parametrize("name", [name for name in TAKES_JSON if name != "request"])
def test_inputs_that_are_no_dict(client: Any, name: str, value: Any) -> None:
    with pytest.raises(TypeError, match="must be a dict"):
        ask(client, lambda client: TAKES_JSON[name](client, value))


@pytest.mark.parametrize(("seconds", "kind"), SECONDS)
def test_bad_waits(client: Any, seconds: Any, kind: Type[Exception]) -> None:
    for name in ("poll_interval", "timeout"):
        with pytest.raises(kind, match=name):
            ask(client, lambda c, n=name: c.executions.wait_for_completion("e", **{n: seconds}))
    with pytest.raises(kind, match="timeout"):
        ask(client, lambda client: client.workflows.run("wf_1", timeout=seconds))


WRONG_TYPES: List[Tuple[str, Callable[[Any], Any]]] = [
    ("content", lambda client: client.threads.send_message("t_1", None)),
    ("content", lambda client: client.threads.send_message_stream("t_1", b"Hello")),
    ("events", lambda client: client.webhooks.create("n", "https://h", "execution.completed")),
    ("events", lambda client: client.webhooks.update("wh_1", events="execution.completed")),
    ("headers", lambda client: client.webhooks.create("n", "https://h", [], headers="X: 1")),
]


@pytest.mark.parametrize(("name", "do"), WRONG_TYPES)
def test_wrong_types(client: Any, name: str, do: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=name):
        ask(client, do)


@pytest.mark.parametrize("key", ["", "a\r\nX-Injected: 1", "ü☃", 7])
def test_bad_idempotency_key(client: Any, key: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="idempotency_key"):
        ask(client, lambda client: client.workflows.execute("wf_1", idempotency_key=key))


@pytest.mark.parametrize(
    ("method", "path", "options"),
    [
        ("", "/x", {}),
        ("GET /y HTTP/1.1\r\n", "/x", {}),
        (None, "/x", {}),
        ("GET", "", {}),
        ("GET", "x", {}),
        ("GET", "https://elsewhere.example.com/x", {}),
        ("GET", "/../admin", {}),
        ("GET", "/%2e%2E/admin", {}),
        ("GET", "/a b", {}),
        ("GET", "/a?b=c", {}),
        ("GET", "/a#b", {}),
        ("GET", "/a\r\n", {}),
        ("GET", "/ü", {}),
        ("GET", 7, {}),
        ("GET", "/x", {"params": "a=1"}),
        ("GET", "/x", {"params": [("a", 1)]}),
    ],
)
def test_bad_raw_requests(client: Any, method: Any, path: Any, options: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"method|path|params"):
        ask(client, lambda client: client.request(method, path, **options))


def test_the_place_in_the_input_is_named(client: Any) -> None:
    inputs = {"people": [{"age": 1}, {"age": math.nan}]}
    with pytest.raises(ValueError, match=re.escape("inputs['people'][1]['age'] is nan")):
        ask(client, lambda client: client.workflows.execute("wf_1", inputs=inputs))


def test_iterating_calls_fail_before_they_are_iterated(client: Any) -> None:
    """`for` is often far from the call; the mistake is told where it was made."""
    for call in (
        client.executions.stream,
        client.threads.stream,
        client.threads.iterate_messages,
        client.webhooks.iterate_deliveries,
    ):
        with pytest.raises(ValueError, match="_id"):
            call("")
    with pytest.raises(ValueError, match="per_page"):
        client.workflows.iterate(per_page=0)
