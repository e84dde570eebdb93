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


class Half:
    """Lacks two methods."""

    def send(self, request, timeout): ...
    def open(self, request, timeout): ...
    def now(self): ...


class Client:
    """As if it was httpx's."""

    __module__ = "httpx"

    def send(self):
        """Send nothing."""


OF_SYNC = "transport must be a Transport or a function"
OF_ASYNC = "transport must be an AsyncTransport"
CLASS = r"an instance: FunctionTransport\(\), not FunctionTransport"
FAKE = FakeFlowMaestro()


@pytest.mark.parametrize(
    ("make", "wrong", "text"),
    [
        (FlowMaestroClient, answer_later, OF_SYNC),
        (FlowMaestroClient, 3, OF_SYNC),
        (FlowMaestroClient, AsyncFunctionTransport(answer), OF_SYNC),
        (FlowMaestroClient, AsyncMemoryTransport(FAKE), "it is for AsyncFlowMaestroClient: see"),
        (FlowMaestroClient, AnyioTransport(), "it is for AsyncFlowMaestroClient: see docs/"),
        (FlowMaestroClient, FunctionTransport, CLASS),
        (FlowMaestroClient, Half(), "which lacks sleep, close"),
        (FlowMaestroClient, Client(), "has the adapter for httpx"),
        (AsyncFlowMaestroClient, 3, OF_ASYNC),
        (AsyncFlowMaestroClient, FunctionTransport(answer), OF_ASYNC),
        (AsyncFlowMaestroClient, MemoryTransport(FAKE), "it is for FlowMaestroClient: see docs/"),
        (AsyncFlowMaestroClient, SocketTransport(), "it is for FlowMaestroClient: see docs/"),
        (AsyncFlowMaestroClient, FunctionTransport, CLASS),
        (AsyncFlowMaestroClient, Half(), "which lacks sleep, close"),
    ],
)
def test_invalid_transport_is_refused_with_what_is_right(make, wrong, text):
    with pytest.raises(TypeError, match=text):
        make("key", transport=wrong)
