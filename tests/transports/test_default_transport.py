"""Clients that were given no transport: which one they take, and when."""

import asyncio
import os
import subprocess
import sys

import pytest
import trio

from flowmaestro import (
    AsyncFlowMaestroClient,
    ClientClosedError,
    FlowMaestroClient,
)
from flowmaestro.testing import FakeFlowMaestro, running_server
from flowmaestro_transports import AnyioTransport, SocketTransport
from flowmaestro_transports.defaults import DefaultAsyncTransport, DefaultTransport


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


def test_one_client_in_asyncio_and_then_in_trio(server):
    client = AsyncFlowMaestroClient()

    async def names():
        return [workflow["name"] async for workflow in client.workflows.iterate()]

    async def names_and_close():
        found = await names()
        await client.close()
        return found

    assert asyncio.run(names()) == trio.run(names_and_close)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_that_was_forked_off_during_the_first_call():
    scene = """if 1:
        import os, signal
        from flowmaestro_transports.defaults import DefaultTransport
        transport = DefaultTransport()
        transport._lock.acquire()  # as another thread does that makes the first call
        child = os.fork()
        if not child:
            signal.alarm(20)
            transport.sleep(0)
            transport.close()
            os._exit(0)
        raise SystemExit(os.waitpid(child, 0)[1])
    """
    subprocess.run([sys.executable, "-c", scene], check=True, timeout=60)


def test_closing_one_that_was_never_used():
    DefaultTransport().close()
    asyncio.run(DefaultAsyncTransport().close())


@pytest.mark.parametrize("used", [True, False])
def test_a_walk_of_a_closed_client_goes_no_further(server, used):
    client = FlowMaestroClient()
    pages, stream = client.workflows.iterate(), client.executions.stream("exec_xyz789")
    if used:
        client.workflows.list()
    client.close()
    for steps in (pages, stream):
        with pytest.raises(ClientClosedError):
            next(steps)


@pytest.mark.parametrize("used", [True, False])
@pytest.mark.parametrize("run", [asyncio.run, trio.run], ids=["asyncio", "trio"])
def test_a_walk_of_a_closed_awaiting_client_goes_no_further(server, run, used):
    async def main():
        client = AsyncFlowMaestroClient()
        pages, stream = client.workflows.iterate(), client.executions.stream("exec_xyz789")
        if used:
            await client.workflows.list()
        await client.close()
        await client.close()
        for steps in (pages, stream):
            with pytest.raises(ClientClosedError):
                await steps.__anext__()

    run(main() if run is asyncio.run else main)


def _noting(made, what, original):
    def init(self, *args, **kwargs):
        made.append(what)
        original(self, *args, **kwargs)

    return init
