"""Tools that know requests see the calls of `RequestsTransport`: it goes by the front door."""

from __future__ import annotations

from typing import Any, Callable

import pytest
import requests

from flowmaestro import ConnectionError, FlowMaestroClient
from flowmaestro_transports import RequestsTransport

URL = "https://api.flowmaestro.test"
WORKFLOW = {"data": {"id": "wf_1", "name": "Found"}}


@pytest.fixture(params=["own", "session"])
def make_client(request: pytest.FixtureRequest) -> Any:
    def make(url: str = URL) -> FlowMaestroClient:
        session = requests.Session() if request.param == "session" else None
        return FlowMaestroClient(
            "fm_live_x", base_url=url, transport=RequestsTransport(session), max_retries=0
        )

    return make


def test_unmatched_url_of_the_responses_library_stays_in_the_message(
    make_client: Callable[..., FlowMaestroClient],
) -> None:
    responses = pytest.importorskip("responses")
    unmatched = pytest.raises(ConnectionError, match="doesn't match any registered mock")
    with responses.RequestsMock(), make_client() as client, unmatched:
        client.workflows.list()


def test_responses_library_mocks_requests(make_client: Callable[..., FlowMaestroClient]) -> None:
    responses = pytest.importorskip("responses")
    with responses.RequestsMock() as mocked, make_client() as client:
        mocked.get(f"{URL}/api/v1/workflows/wf_1", json=WORKFLOW)
        assert client.workflows.get("wf_1")["data"]["name"] == "Found"
        (call,) = mocked.calls
        assert call.request.headers["X-API-Key"] == "fm_live_x"


def test_requests_mock_mocks_requests(make_client: Callable[..., FlowMaestroClient]) -> None:
    requests_mock = pytest.importorskip("requests_mock")
    with requests_mock.Mocker() as mocked, make_client() as client:
        mocked.get(f"{URL}/api/v1/workflows/wf_1", json=WORKFLOW)
        assert client.workflows.get("wf_1")["data"]["name"] == "Found"
        assert mocked.last_request.headers["X-API-Key"] == "fm_live_x"


def test_opentelemetry_instrumentation_sees_requests(
    make_client: Callable[..., FlowMaestroClient], scripted: Any
) -> None:
    instrumentation = pytest.importorskip("opentelemetry.instrumentation.requests")
    trace = pytest.importorskip("opentelemetry.sdk.trace")
    export = pytest.importorskip("opentelemetry.sdk.trace.export")
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    exporter, provider = memory.InMemorySpanExporter(), trace.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))
    instrumentor = instrumentation.RequestsInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    try:
        handler = scripted.answering(scripted.reply(b'{"data": {"id": "wf_1"}}'))
        with scripted.ScriptedServer(handler) as server, make_client(server.url) as client:
            client.workflows.get("wf_1")
    finally:
        instrumentor.uninstrument()
    (span,) = exporter.get_finished_spans()
    assert span.name == "GET"
    assert "traceparent" in server.requests[0]
