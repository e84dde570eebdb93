"""The life of a client: threads, tasks, loops one after another, copies, pickles, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import pickle
import socket
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from flowmaestro import AsyncFlowMaestroClient, ClientClosedError, FlowMaestroClient
from flowmaestro.testing import (
    AsyncMemoryTransport,
    FakeFlowMaestro,
    MemoryTransport,
    running_server,
)
from flowmaestro_transports import (
    AiohttpTransport,
    AnyioTransport,
    RequestsTransport,
    Response,
    SocketTransport,
)
from flowmaestro_transports.functions import AsyncFunctionTransport, FunctionTransport
from tests.harness.contract.worlds import in_loop

DEFAULT = pytest.param(lambda: None, id="default")
BLOCKING = [SocketTransport, RequestsTransport, DEFAULT]
ON_ANYIO = [
    pytest.param(AnyioTransport, "asyncio", id="anyio-asyncio"),
    pytest.param(AnyioTransport, "trio", id="anyio-trio"),
    pytest.param(lambda: None, "asyncio", id="default-asyncio"),
    pytest.param(lambda: None, "trio", id="default-trio"),
]
AT_ONCE = 50


@pytest.fixture(scope="module")
def server():
    fake = FakeFlowMaestro()
    with running_server(fake) as url:
        yield {"api_key": fake.api_key, "base_url": url, "timeout": 60.0}


@pytest.fixture
def collected():
    """Warnings of what is collected from here on, and only of that."""

    def collect(act):
        gc.collect()
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            act()
            gc.collect()
        return [(warning.category, str(warning.message).split()[0]) for warning in seen]

    return collect


def named(number):
    """A POST whose reply says which it answers."""
    return {"name": f"n{number}", "url": "https://example.com", "events": ["execution.completed"]}


@pytest.mark.parametrize("transport", BLOCKING)
def test_threads_share_a_client(server, transport):
    together = threading.Barrier(AT_ONCE)

    def create(number):
        together.wait(60)
        return [client.webhooks.create(**named(number))["data"]["name"] for _ in range(3)]

    client = FlowMaestroClient(transport=transport(), **server)
    with client, ThreadPoolExecutor(AT_ONCE) as pool:
        names = list(pool.map(create, range(AT_ONCE)))
    assert names == [[f"n{number}"] * 3 for number in range(AT_ONCE)]


class TestDroppedWithoutClose:
    @pytest.mark.xfail(
        not getattr(sys, "_is_gil_enabled", lambda: True)(),
        reason="Without the GIL, a socket may be finalized before the waker that closes it.",
        strict=False,
    )
    def test_a_blocking_client_that_never_got_a_connection(self, collected):
        def use_and_drop():
            with socket.create_server(("127.0.0.1", 0)) as gone:
                port = gone.getsockname()[1]
            client = FlowMaestroClient(
                "fm_live_x", base_url=f"http://127.0.0.1:{port}", max_retries=0
            )
            with pytest.raises(ConnectionError):
                client.workflows.list()

        assert collected(use_and_drop) == []

    @pytest.mark.parametrize("transport", [SocketTransport, DEFAULT])
    def test_a_sync_client_warns_of_unclosed_connections(self, server, transport, collected):
        def use_and_drop():
            FlowMaestroClient(transport=transport(), **server).workflows.list()

        assert collected(use_and_drop) == [(ResourceWarning, "unclosed")]

    @pytest.mark.parametrize(("transport", "backend"), ON_ANYIO)
    def test_an_async_client_warns_once_and_disturbs_no_other_loop(
        self, server, transport, backend, collected
    ):
        troubles = []

        async def use(client):
            await client.workflows.list()

        async def drop(clients):
            asyncio.get_running_loop().set_exception_handler(
                lambda loop, context: troubles.append(context)
            )
            clients.clear()
            gc.collect()
            await asyncio.sleep(0.01)

        def use_and_drop():
            clients = [AsyncFlowMaestroClient(transport=transport(), **server)]
            in_loop(backend, use, clients[0])
            asyncio.run(drop(clients))

        assert collected(use_and_drop) == [(ResourceWarning, "unclosed")]
        assert troubles == []

    @pytest.mark.parametrize("transport", [*BLOCKING, lambda: MemoryTransport(FakeFlowMaestro())])
    def test_unused_client_dropped_without_close_does_not_warn(self, transport, collected):
        assert collected(lambda: FlowMaestroClient("key", transport=transport())) == []


def test_an_async_client_is_closed_by_aclosing():
    async def main():
        async with contextlib.AsyncExitStack() as stack:
            client = AsyncFlowMaestroClient("key", transport=lambda request: None)
            stack.push_async_callback(client.aclose)
        with pytest.raises(ClientClosedError):
            await client.workflows.list()

    asyncio.run(main())


def holders():
    """What holds connections: both clients, every transport, and handles of open streams."""
    fake = FakeFlowMaestro()
    blocking = FlowMaestroClient(fake.api_key, transport=MemoryTransport(fake))
    awaiting = AsyncFlowMaestroClient(fake.api_key, transport=AsyncMemoryTransport(fake))
    found = [blocking, awaiting, blocking.workflows, blocking.with_options(timeout=1)]
    for client in (blocking, awaiting):
        found += [client.executions.stream("e"), client.workflows.iterate()]
        found.append(client.threads.send_message_stream("t", "hello"))
    found += [SocketTransport(), RequestsTransport(), AiohttpTransport(), AnyioTransport()]
    found += [MemoryTransport(fake), AsyncMemoryTransport(fake)]
    found += [FunctionTransport(print), AsyncFunctionTransport(print)]
    return found


@pytest.mark.parametrize("holder", holders(), ids=lambda holder: type(holder).__name__)
def test_clients_and_transports_cannot_be_pickled(holder):
    refused = [pickle.dumps]
    if not isinstance(holder, (FlowMaestroClient, AsyncFlowMaestroClient)):
        refused.append(copy.deepcopy)
    for attempt in refused:
        with pytest.raises(TypeError, match="cannot duplicate; make one in each process"):
            attempt(holder)


@pytest.mark.parametrize(
    "copying",
    [copy.copy, copy.deepcopy, lambda client: client.with_options(timeout=3)],
    ids=["copy", "deepcopy", "with_options"],
)
@pytest.mark.parametrize("client", [FlowMaestroClient, AsyncFlowMaestroClient])
def test_a_copied_client_is_a_derived_one(client, copying):
    class Own(client):
        mine = None

    parent = Own("key", transport=lambda request: Response(200, {}, b'{"data": {}}'))
    parent.mine = "kept"
    own = parent.workflows
    twin = copying(parent)
    assert type(twin) is Own
    assert twin.mine == "kept"
    assert parent.workflows is own is not twin.workflows
    assert twin.workflows.executor is twin._executor is not parent._executor
    if client is FlowMaestroClient:
        twin.close()
        assert parent.workflows.get("w")["data"]["id"] is None
