"""Bad input is a clear `ValueError` or `TypeError` at the call that made it; nothing is sent."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest
import requests

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient
from tests.harness.contract.clients import KEY, KINDS, Listener, nothing_is_sent


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest) -> Any:
    return KINDS[request.param]


@pytest.fixture
def client(make: Any) -> Any:
    return make(KEY, transport=nothing_is_sent)


# Making a client.


def test_client_without_key_names_environment_variable(make: Any) -> None:
    with pytest.raises(ValueError, match="FLOWMAESTRO_API_KEY"):
        make()


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
    ("name", "value"),
    [("base_url", "ftp://host"), ("timeout", 0), ("max_retries", -1), ("headers", {"X A": "1"})],
)
def test_client_names_invalid_option(make: Any, client: Any, name: str, value: Any) -> None:
    """All that is refused is in `tests/core/test_options.py`; a client refuses it at once."""
    with pytest.raises(ValueError, match=name):
        make(KEY, **{name: value})
    if name != "base_url":
        with pytest.raises(ValueError, match=name):
            client.with_options(**{name: value})


# Calling it.


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


class Httpx:
    """Stands for `httpx.Timeout`, without the library."""

    Timeout = type("Timeout", (), {"__module__": "httpx._config"})


@pytest.mark.parametrize("kind", [FlowMaestroClient, AsyncFlowMaestroClient])
def test_a_timeout_of_another_library_is_told_apart_from_ours(kind: Any) -> None:
    for make in (
        lambda: kind("k", timeout=Httpx.Timeout()),
        lambda: kind("k").with_options(timeout=Httpx.Timeout()),
    ):
        with pytest.raises(TypeError, match=r"flowmaestro\.Timeout, not httpx\.Timeout"):
            make()


@pytest.mark.parametrize("kind", [FlowMaestroClient, AsyncFlowMaestroClient])
def test_a_session_as_transport_is_answered_with_its_adapter(kind: Any) -> None:
    class Mine(requests.Session):
        pass

    for session in (requests.Session(), Mine()):
        with pytest.raises(TypeError, match=r"; pass RequestsTransport\(session\)"):
            kind("k", transport=session)


def test_an_aiohttp_session_as_transport_is_answered_with_its_adapter() -> None:
    async def main() -> None:
        async with aiohttp.ClientSession() as session:
            with pytest.raises(TypeError, match=r"; pass AiohttpTransport\(session\)"):
                AsyncFlowMaestroClient("k", transport=session)  # type: ignore[arg-type]

    asyncio.run(main())


def test_inputs_may_be_passed_by_position() -> None:
    listener = Listener(b'{"data": {"execution_id": "exec_1"}}')
    with FlowMaestroClient("k", transport=listener) as client:
        client.workflows.execute("wf_1", {"a": 1})
        client.triggers.execute("trg_1", {"a": 1})
    assert [json.loads(sent.body) for sent in listener.requests] == [{"inputs": {"a": 1}}] * 2
