"""A plain function as a transport, and what is not taken for one."""

import asyncio
import socket

import anyio
import pytest
import requests

from flowmaestro import (
    AsyncFlowMaestroClient,
    FlowMaestroClient,
)
from flowmaestro.testing import AsyncMemoryTransport, FakeFlowMaestro, MemoryTransport
from flowmaestro_transports import (
    AnyioTransport,
    Headers,
    Phase,
    Request,
    Response,
    SocketTransport,
    TransportFailure,
)
from flowmaestro_transports.functions import (
    AsyncFunctionTransport,
    FunctionTransport,
    as_async_transport,
    as_transport,
)

SEEN = b'event: execution:completed\ndata: {"outputs": {"n": 1}}\n\n'


def answer(request: Request) -> Response:
    if request.url.endswith("/events"):
        return Response(200, Headers({"Content-Type": "text/event-stream"}), SEEN)
    return Response(200, Headers(), b'{"data": {"status": "running"}}')


async def answer_later(request: Request) -> Response:
    await anyio.lowlevel.checkpoint()
    return answer(request)


class Object:
    def __call__(self, request: Request) -> Response:
        return answer(request)


@pytest.mark.parametrize("function", [answer, Object()])
def test_a_function_serves_a_blocking_client(function):
    with FlowMaestroClient("key", transport=function) as client:
        assert client.executions.get("exec_1")["data"]["status"] == "running"
        events = list(client.executions.stream("exec_1"))
    assert [event["outputs"] for event in events] == [{"n": 1}]


@pytest.mark.parametrize("function", [answer, answer_later, Object()])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_function_serves_an_awaiting_client(function, backend):
    async def main():
        async with AsyncFlowMaestroClient("key", transport=function) as client:
            assert (await client.executions.get("exec_1"))["data"]["status"] == "running"
            return [event async for event in client.executions.stream("exec_1")]

    assert anyio.run(main, backend=backend)[0]["outputs"] == {"n": 1}


def test_a_function_that_returns_something_else_is_told():
    with pytest.raises(TypeError, match="must return a Response, not None"):
        FlowMaestroClient("key", transport=lambda request: None).workflows.list()


@pytest.mark.parametrize(
    ("raised", "timed_out"),
    [
        (ConnectionResetError(104, "Connection reset by peer"), False),
        (TimeoutError(), True),
        (socket.timeout("timed out"), True),
        (asyncio.TimeoutError(), True),
        (requests.ConnectionError("Connection reset by peer"), False),
    ],
)
def test_an_operating_system_s_error_is_a_failure_of_the_network(raised, timed_out):
    def fail(request):
        raise raised

    async def send():
        await AsyncFunctionTransport(fail).send(Request("GET", "https://api.example/", {}), 1.0)

    for attempt in (
        lambda: FunctionTransport(fail).send(Request("GET", "https://api.example/", {}), 1.0),
        lambda: anyio.run(send),
    ):
        with pytest.raises(
            TransportFailure, match="no response was received" if timed_out else "Connection reset"
        ) as caught:
            attempt()
        assert caught.value.phase is Phase.MAYBE_PROCESSED
        assert caught.value.timed_out is timed_out
        assert caught.value.__cause__ is raised


@pytest.mark.parametrize("raised", [ZeroDivisionError(), TransportFailure(Phase.NOT_SENT, "no")])
def test_any_other_error_is_the_caller_s(raised):
    def fail(request):
        raise raised

    with pytest.raises(type(raised)) as caught:
        FunctionTransport(fail).send(Request("GET", "https://api.example/", {}), 1.0)
    assert caught.value is raised


@pytest.mark.parametrize("wrong", [answer_later, 3, AsyncFunctionTransport(answer)])
def test_sync_client_refuses_invalid_transport(wrong):
    with pytest.raises(TypeError, match="transport must be a Transport or a function"):
        FlowMaestroClient("key", transport=wrong)


@pytest.mark.parametrize("wrong", [3, FunctionTransport(answer)])
def test_async_client_refuses_invalid_transport(wrong):
    with pytest.raises(TypeError, match="transport must be an AsyncTransport"):
        AsyncFlowMaestroClient("key", transport=wrong)


def test_transports_are_taken_as_they_are():
    fake = FakeFlowMaestro()
    with pytest.raises(TypeError):
        FlowMaestroClient("key", transport=AsyncMemoryTransport(fake))
    with pytest.raises(TypeError):
        AsyncFlowMaestroClient("key", transport=MemoryTransport(fake))
    FlowMaestroClient("key", transport=MemoryTransport(fake)).close()


@pytest.mark.parametrize("client", [FlowMaestroClient, AsyncFlowMaestroClient])
def test_a_class_instead_of_an_instance(client):
    with pytest.raises(
        TypeError, match=r"an instance: FunctionTransport\(\), not FunctionTransport"
    ):
        client("key", transport=FunctionTransport)


def test_a_function_transport_uses_the_real_clock():
    transport = FunctionTransport(answer)
    before = transport.now()
    transport.sleep(0.001)
    assert transport.now() > before

    async def main():
        awaiting = AsyncFunctionTransport(answer)
        await awaiting.sleep(0.001)
        assert awaiting.now() > before

    anyio.run(main)
    anyio.run(main, backend="trio")


class PassingOn:
    """A transport that stands on another one, and passes on whatever it is asked."""

    def __init__(self, transport):
        self._transport = transport

    def __getattr__(self, name):
        return getattr(self._transport, name)


def test_a_transport_may_pass_all_on_to_another():
    with FakeFlowMaestro() as fake:
        client = FlowMaestroClient(fake.api_key, transport=PassingOn(fake.transport()))
        assert client.workflows.list()["data"]

        async def main():
            transport = PassingOn(fake.async_transport())
            return await AsyncFlowMaestroClient(fake.api_key, transport=transport).workflows.list()

        assert asyncio.run(main())["data"]


@pytest.mark.parametrize("make_client", [FlowMaestroClient, AsyncFlowMaestroClient])
def test_missing_methods_of_transport_are_named(make_client):
    class Half:
        def send(self, request, timeout): ...
        def open(self, request, timeout): ...
        def now(self): ...

    with pytest.raises(TypeError, match="which lacks sleep, close"):
        make_client("key", transport=Half())


class Client:
    """As if it was httpx's."""

    __module__ = "httpx"

    def send(self):
        """Send nothing."""


@pytest.mark.parametrize(
    ("make", "given", "text"),
    [
        (as_transport, AnyioTransport(), "it is for AsyncFlowMaestroClient: see docs/"),
        (as_async_transport, SocketTransport(), "it is for FlowMaestroClient: see docs/"),
        (as_transport, Client(), "has the adapter for httpx"),
    ],
    ids=["async", "sync", "httpx"],
)
def test_wrong_kind_of_transport_is_told_what_it_is_for(make, given, text):
    with pytest.raises(TypeError, match=text):
        make(given)
