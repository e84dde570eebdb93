"""What a client is to its user: where it gets its settings, whom it shares with, when it ends."""

from __future__ import annotations

from typing import Any, Callable, Dict, Tuple
from unittest.mock import MagicMock

import pytest

from flowmaestro import (
    AsyncFlowMaestroClient,
    ClientClosedError,
    FlowMaestroClient,
    FlowMaestroError,
    StreamTimes,
    resources,
)
from flowmaestro.testing import (
    AsyncMemoryTransport,
    FakeFlowMaestro,
    MemoryTransport,
    Node,
    running_server,
)
from tests.harness.contract.clients import KEY, KINDS, Listener, ask, nothing_is_sent
from tests.harness.contract.worlds import KEY as SEEDED_KEY
from tests.harness.contract.worlds import World, in_loop
from tests.harness.runners import RUNNERS


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest) -> Any:
    return KINDS[request.param]


def closing(client: Any) -> None:
    ask(client, lambda client: client.close())


def served() -> FakeFlowMaestro:
    fake = FakeFlowMaestro()
    fake.add_key(KEY)
    fake.workflow("wf_1")
    return fake


class Closable(MemoryTransport):
    """A transport that says how often it was closed."""

    closed = 0

    def close(self) -> None:
        self.closed += 1
        super().close()


class AsyncClosable(AsyncMemoryTransport):
    closed = 0

    async def close(self) -> None:
        self.closed += 1
        await super().close()


def closable(make: Any) -> Any:
    return (Closable if make is FlowMaestroClient else AsyncClosable)(served())


# Settings.


def test_the_environment_fills_the_gaps(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWMAESTRO_API_KEY", "fm_live_from_outside")
    monkeypatch.setenv("FLOWMAESTRO_BASE_URL", "https://host.example.com/flow/")
    listener = Listener()
    ask(make(transport=listener), lambda client: client.workflows.get("wf_1"))
    assert listener.last.url == "https://host.example.com/flow/api/v1/workflows/wf_1"
    assert listener.last.headers["X-API-Key"] == "fm_live_from_outside"
    assert listener.last.headers["Authorization"] == "Bearer fm_live_from_outside"


def test_arguments_come_before_the_environment(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWMAESTRO_API_KEY", "fm_live_from_outside")
    monkeypatch.setenv("FLOWMAESTRO_BASE_URL", "https://host.example.com")
    listener = Listener()
    client = make(KEY, base_url="https://api.flowmaestro.ai/v1", transport=listener)
    ask(client, lambda client: client.workflows.get("wf_1"))
    assert listener.last.url == "https://api.flowmaestro.ai/v1/workflows/wf_1"
    assert listener.last.headers["X-API-Key"] == KEY


def test_none_means_the_default(make: Any) -> None:
    client = make(KEY, base_url=None, timeout=None, max_retries=None, headers=None, transport=None)
    assert "https://api.flowmaestro.io" in repr(client)


def test_the_key_is_not_shown(make: Any) -> None:
    client = make(KEY, headers={"X-Secret": "hush"}, transport=nothing_is_sent)
    assert KEY not in repr(client)
    assert "hush" not in repr(client)


# The end of a client.

USES: Dict[str, Callable[[Any], Any]] = {
    "a call": lambda client: client.workflows.get("wf_1"),
    "a wait": lambda client: client.executions.wait_for_completion("e_1"),
    "a run": lambda client: client.workflows.run("wf_1"),
    "a stream": lambda client: client.executions.stream("e_1"),
    "a walk": lambda client: client.workflows.iterate(),
    "a raw request": lambda client: client.request("GET", "/workflows"),
}


@pytest.mark.parametrize("use", USES)
def test_a_closed_client_says_so(make: Any, use: str) -> None:
    client = make(KEY, transport=nothing_is_sent)
    closing(client)
    closing(client)  # harmless
    with pytest.raises(ClientClosedError, match="closed") as caught:
        ask(client, USES[use])
    assert isinstance(caught.value, FlowMaestroError)


@pytest.mark.parametrize("use", ["a stream", "a walk"])
def test_a_handle_made_before_the_close_says_so(make: Any, use: str) -> None:
    client = make(KEY, transport=nothing_is_sent)
    begun = USES[use](client)
    closing(client)
    with pytest.raises(ClientClosedError):
        ask(client, lambda _: begun)


def test_leaving_a_with_block_closes_the_client(make: Any) -> None:
    transport = closable(make)
    client = make(KEY, transport=transport)
    if isinstance(client, FlowMaestroClient):
        with client as entered:
            assert entered is client
    else:

        async def main() -> None:
            async with client as entered:
                assert entered is client

        in_loop("asyncio", main)
    assert transport.closed == 1
    with pytest.raises(ClientClosedError):
        ask(client, USES["a call"])


# Derived clients.


def test_a_derived_client_shares_the_transport(make: Any) -> None:
    transport = closable(make)
    parent = make(KEY, transport=transport)
    child = parent.with_options(timeout=3)
    assert type(child) is make
    closing(child)
    assert transport.closed == 0
    ask(parent, USES["a call"])
    with pytest.raises(ClientClosedError):
        ask(child, USES["a call"])
    sibling = parent.with_options(max_retries=0)
    closing(parent)
    assert transport.closed == 1
    for use in USES.values():
        with pytest.raises(ClientClosedError):
            ask(sibling, use)


@pytest.mark.parametrize("name", resources.__all__)
def test_the_resources_are_what_their_types_say(name: str) -> None:
    kind = getattr(resources, name)
    make: Any = FlowMaestroClient if name.startswith("Sync") else AsyncFlowMaestroClient
    client = make(KEY, transport=nothing_is_sent)
    held = [getattr(client, attribute) for attribute in dir(client)]
    assert sum(isinstance(one, kind) for one in held) == 1
    mock = MagicMock(spec=kind)
    assert isinstance(mock, kind)
    with pytest.raises(AttributeError):
        mock.no_such_method()


def test_stream_times_are_those_of_the_client_and_of_derived_ones(make: Any) -> None:
    """Of a silent stream, the execution is polled each second: by default, three times in 18 s."""
    fake = FakeFlowMaestro(events="silent")
    transport: Any = MemoryTransport if make is FlowMaestroClient else AsyncMemoryTransport
    times = StreamTimes(event_idle=1.0, event_idle_max=1.0)
    client = make(fake.api_key, transport=transport(fake), stream_times=times)
    for each in (client, client.with_options(timeout=1.0)):
        run = fake.workflow(nodes=[Node("work", seconds=18)])
        started = ask(each, lambda client, run=run: client.workflows.execute(run))
        before = len(fake.requests)
        ask(each, lambda client: client.executions.stream(started["data"]["execution_id"]))  # noqa: B023
        assert len(fake.requests) - before >= 15


def test_a_derived_client_sends_another_key(make: Any) -> None:
    listener = Listener()
    parent = make(KEY, transport=listener)
    other = "fm_live_" + "9" * 40
    for client, key in ((parent.with_options(api_key=other), other), (parent, KEY)):
        ask(client, USES["a call"])
        sent = listener.last.headers
        assert (sent["X-API-Key"], sent["Authorization"]) == (key, f"Bearer {key}")
    with pytest.raises(ValueError, match="api_key"):
        parent.with_options(api_key="")


# Endpoints that have no method yet.


def test_request_sends_method_path_query_and_json(make: Any) -> None:
    """What may be given is in `tests/core/calls/test_raw.py`."""
    listener = Listener(b'{"anything": 1}', status=201)
    reply = ask(
        make(KEY, transport=listener),
        lambda client: client.request("patch", "/new", params={"page": 2}, json={"x": None}),
    )
    assert (reply, reply.status_code) == ({"anything": 1}, 201)
    sent = listener.last
    assert (sent.method, sent.body) == ("PATCH", b'{"x":null}')
    assert sent.url == "https://api.flowmaestro.io/api/v1/new?page=2"


# Event loops.


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_blocking_client_works_inside_a_running_loop(backend: str) -> None:
    async def main(client: FlowMaestroClient) -> None:
        assert client.workflows.list()["data"][0]["id"] == "wf_123"
        events = [event["type"] for event in client.executions.stream("exec_xyz789")]
        assert events[-1] == "execution:completed"

    fake = FakeFlowMaestro()
    with FlowMaestroClient(SEEDED_KEY, transport=MemoryTransport(fake)) as client:
        in_loop(backend, main, client)
    with World(RUNNERS["requests"], FakeFlowMaestro()) as world:
        in_loop(backend, main, world.client(SEEDED_KEY))


async def use(client: AsyncFlowMaestroClient) -> None:
    """A call, and a stream that is left early; the second time, on what the first has left."""
    for _ in range(2):
        assert (await client.workflows.list())["data"][0]["id"] == "wf_123"
        async with client.executions.stream("exec_xyz789") as events:
            # On a busy machine the execution may end before its stream is opened.
            assert (await events.__anext__())["type"] in ("connected", "execution:completed")


@pytest.mark.parametrize("backends", [("asyncio", "asyncio"), ("asyncio", "trio", "asyncio")])
def test_an_awaiting_client_works_in_one_loop_after_another(backends: Tuple[str, ...]) -> None:
    with running_server(FakeFlowMaestro()) as url:
        client = AsyncFlowMaestroClient(SEEDED_KEY, base_url=url)
        for backend in backends:
            in_loop(backend, use, client)
        in_loop(backends[-1], client.close)
