"""Clients that were given no transport: which one they take, and when."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest
import trio

from flowmaestro import (
    AsyncFlowMaestroClient,
    ClientClosedError,
    FlowMaestroClient,
    FlowMaestroError,
    Hooks,
)
from flowmaestro.testing import FakeFlowMaestro, running_server
from flowmaestro_transports import AnyioTransport, SocketTransport
from flowmaestro_transports.driving.executors import ClientTransport


@pytest.fixture
def server(monkeypatch):
    fake = FakeFlowMaestro()
    with running_server(fake) as url:
        monkeypatch.setenv("FLOWMAESTRO_API_KEY", fake.api_key)
        monkeypatch.setenv("FLOWMAESTRO_BASE_URL", url)
        yield url


def test_sockets_are_the_default_of_the_sync_client(server, monkeypatch):
    made = []
    monkeypatch.setattr(
        SocketTransport, "__init__", _noting(made, "sockets", SocketTransport.__init__)
    )
    with FlowMaestroClient() as client:
        assert made == []
        client.workflows.list()
        client.workflows.list()
    assert made == ["sockets"]


@pytest.mark.parametrize("run", [asyncio.run, None], ids=["asyncio", "trio"])
def test_anyio_is_the_default_of_the_async_client(server, monkeypatch, run):
    made = []
    monkeypatch.setattr(AnyioTransport, "__init__", _noting(made, "anyio", AnyioTransport.__init__))

    async def main():
        async with AsyncFlowMaestroClient() as client:
            await client.workflows.list()
            events = [event async for event in client.executions.stream("exec_xyz789")]
            assert events[-1]["type"] == "execution:completed"

    run(main()) if run else trio.run(main)
    assert made == ["anyio"]


def test_threads_that_make_the_first_call_at_once_get_one_transport():
    made = threading.Barrier(8)

    def make():
        made.wait()
        return object()

    transport = ClientTransport(None, make)
    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(lambda _: transport.get(), range(8)))) == 1


def test_a_client_that_is_closed_while_its_transport_is_made_sends_nothing(server, monkeypatch):
    client = FlowMaestroClient()

    def closing(*args, **kwargs):
        client.close()
        return SocketTransport(*args, **kwargs)

    monkeypatch.setattr("flowmaestro_transports.sockets.transport.SocketTransport", closing)
    with pytest.raises(ClientClosedError):
        client.workflows.list()


def test_closing_one_that_was_never_used(server):
    FlowMaestroClient().close()
    asyncio.run(AsyncFlowMaestroClient().close())


def test_a_handle_that_cannot_be_made_leaves_nothing_behind(monkeypatch, tmp_path):
    monkeypatch.setenv("ALL_PROXY", "ftp://proxy.example")
    client = FlowMaestroClient("fm_live_x")
    rows = [{"name": "Ada"}]
    for _ in range(2):
        with pytest.raises(ValueError, match="ALL_PROXY"):
            client.executions.stream("exec_1")
        with pytest.raises(ValueError, match="ALL_PROXY"):  # and not that the journal is in use
            client.workflows.run_many("wf_1", rows, journal=tmp_path / "batch")
    client.close()


@pytest.mark.parametrize("backend", ["sync", "asyncio", "trio"])
def test_a_proxys_password_is_shown_to_nobody_though_a_hook_sees_the_request_first(
    scripted, monkeypatch, backend
):
    def echo_password(peer):
        sent = peer.read_request()["proxy-authorization"].encode()
        peer.send(scripted.reply(b"you sent " + sent, status="502 Bad Gateway"))

    options = {"base_url": "http://api.test.invalid", "max_retries": 0}
    options["hooks"] = Hooks(request=lambda info: None)

    def call():
        with FlowMaestroClient("fm_live_x", **options) as client:
            client.workflows.get("wf_1")

    async def call_async():
        async with AsyncFlowMaestroClient("fm_live_x", **options) as client:
            await client.workflows.get("wf_1")

    with scripted.ScriptedServer(echo_password) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("://", "://user:password@"))
        with pytest.raises(FlowMaestroError) as caught:
            call() if backend == "sync" else anyio.run(call_async, backend=backend)
    assert caught.value.details == "you sent ***"


def _noting(made, what, original):
    def init(self, *args, **kwargs):
        made.append(what)
        original(self, *args, **kwargs)

    return init
