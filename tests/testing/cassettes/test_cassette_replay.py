"""One cassette, replayed in memory and over sockets: the same results, the same exchanges."""

from __future__ import annotations

import contextlib
import socket
import threading
from functools import partial
from urllib.parse import urlsplit

import anyio
import pytest

from flowmaestro import (
    AsyncFlowMaestroClient,
    ConnectionError,
    FlowMaestroClient,
    FlowMaestroError,
    TimeoutError,
)
from flowmaestro.testing import (
    Cassette,
    CassetteError,
    CassetteMismatch,
    FakeFlowMaestro,
    MemoryTransport,
    Quiet,
    ScriptedTransport,
    running_server,
)
from flowmaestro.testing.cassettes import jsonlines
from flowmaestro.testing.conformance.runner import run_to_its_end
from flowmaestro_core.http.messages import Phase, Request, Response, ResponseHead, TransportFailure
from flowmaestro_transports import (
    AiohttpTransport,
    RequestsTransport,
    SocketTransport,
)
from tests.harness.runners import IN_MEMORY, RUNNERS
from tests.harness.testing.one_face import Awaited

KEY = "fm_live_never_seen"
SPEED = 50.0
TEXT = "Tell me a story about a bicycle"


async def story(client):
    """Calls, pages, an error, a retry, a lost and a whole stream, a message token by token."""
    run = (await client.workflows.execute("wf_123", inputs={"name": "Grüße"}))["data"]
    async with client.executions.stream(run["execution_id"]) as stream:
        events = [event async for event in stream]
    done = await client.executions.wait_for_completion(run["execution_id"])
    names = [item["name"] async for item in client.workflows.iterate(per_page=1)]
    agent = await client.agents.get("agent_abc123")
    async with client.threads.send_message_stream("thread_xyz789", TEXT) as stream:
        tokens = [event async for event in stream]
    hook = await client.webhooks.create(
        name="Hook", url="https://example.com", events=["execution.completed"]
    )
    with pytest.raises(FlowMaestroError) as caught:
        await client.workflows.get("wf_none")
    hook["data"].pop("secret")  # the one thing that is not replayed
    return run, events, done, names, agent, agent.attempts, tokens, hook, str(caught.value)


def scene():
    """A fake on whose way not all goes well."""
    fake = FakeFlowMaestro("documented")
    fake.drop_connection(after_events=2, path="/executions/*/events")
    fake.fail_next(path="/agents/agent_abc123", retry_after=0.001)
    return fake


def record_in_memory(path):
    fake = scene()
    with Cassette(path) as cassette:
        transport = cassette.transport(MemoryTransport(fake))
        with FlowMaestroClient(fake.api_key, transport=transport) as client:
            return run_to_its_end(story(Awaited(client)))


def record_over_sockets(path):
    async def main(url, key):
        with Cassette(path) as cassette:
            transport = cassette.async_transport(AiohttpTransport())
            async with AsyncFlowMaestroClient(key, base_url=url, transport=transport) as client:
                return await story(client)

    fake = scene()
    with running_server(fake, speed=20) as url:
        return anyio.run(main, url, fake.api_key)


FEW = [RUNNERS[name] for name in ("requests", "aiohttp", "anyio-trio")]
RECORDED = {
    "in-memory": (record_in_memory, [*IN_MEMORY, *RUNNERS.values()]),
    "over-sockets": (record_over_sockets, [IN_MEMORY[0], IN_MEMORY[2], *FEW]),
}


@pytest.fixture(scope="module")
def told(request, tmp_path_factory):
    """A cassette, and the results that it was recorded with."""
    path = tmp_path_factory.mktemp("told") / f"{request.param}.jsonl"
    return path, RECORDED[request.param][0](path)


def replayed(runner, cassette, again):
    """What a client does on a runner that replays `cassette`, recorded once more to `again`."""
    if not runner.wired:
        through = cassette.async_transport if runner.backend else cassette.transport
        return told_again(runner, through, again, story)
    with cassette.server(SPEED) as url:
        return told_again(runner, runner.make, again, story, base_url=url)


def told_again(runner, through, again, story, **options):
    async def main():
        with Cassette(again) as second:
            options["transport"] = second.async_transport(through())
            async with AsyncFlowMaestroClient(KEY, **options) as client:
                return await story(client)

    if runner.backend is not None:
        return anyio.run(main, backend=runner.backend)
    with Cassette(again) as second:
        options["transport"] = second.transport(through())
        with FlowMaestroClient(KEY, **options) as client:
            return run_to_its_end(story(Awaited(client)))


def trace(path, *, pieces):
    """Each exchange without what a run has of its own: times, host, keys that are drawn.

    Unless `pieces`, pieces in a row count as one: how a socket's reader gets them is its affair.
    """
    entries = []
    for exchange in jsonlines.read("x", path.read_bytes()):
        request = exchange.request
        url = urlsplit(request.url)
        fields = [pair for pair in request.headers.pairs if pair[0] != "Idempotency-Key"]
        steps = []
        for step in exchange.steps:
            if isinstance(step, TransportFailure):
                steps.append((step.phase, step.timed_out))
            elif isinstance(step, ResponseHead):
                steps.append((step.status, step.headers.pairs))
            elif isinstance(step, Quiet):
                steps += ["silence"] if step == Quiet() else []
            elif not pieces and isinstance(steps[-1], bytes):
                steps[-1] += step
            else:
                steps.append(step)
        entries.append((request.method, url.path, url.query, fields, request.body, steps))
    return entries


def seconds(path):
    """How long each exchange took."""
    return [
        sum(step.seconds for step in it.steps if isinstance(step, Quiet) and step != Quiet())
        for it in jsonlines.read("x", path.read_bytes())
    ]


@pytest.mark.parametrize(
    ("told", "runner"),
    [
        pytest.param(how, runner, id=f"{how}-{runner}")
        for how, (_, runners) in RECORDED.items()
        for runner in runners
    ],
    indirect=["told"],
)
def test_it_replays_identically(runner, told, tmp_path):
    path, results = told
    again = tmp_path / "again.jsonl"
    with Cassette(path, mode="none", strict=True) as cassette:
        assert replayed(runner, cassette, again) == results
    in_pieces = not runner.wired
    assert trace(again, pieces=in_pieces) == trace(path, pieces=in_pieces)
    assert len(trace(path, pieces=True)) > 8
    if not runner.wired:
        assert seconds(again) == pytest.approx(seconds(path), abs=1e-3)


def test_the_story_holds_what_it_should(tmp_path):
    path = tmp_path / "a.jsonl"
    results = record_in_memory(path)
    entries = trace(path, pieces=True)
    ends = [entry[-1][-1] for entry in entries]
    assert (Phase.REPLY_BROKEN, False) in ends, "a lost stream"
    assert "silence" in ends, "a stream that was let go of at its terminal event"
    assert {entry[-1][0][0] for entry in entries if entry[-1]} >= {200, 404, 503}
    assert results[5] == 2, "one attempt failed"
    assert max(len(entry[-1]) for entry in entries) > 5, "many pieces"


def test_installed_it_records_through_the_default_transports(tmp_path):
    path, fake = tmp_path / "a.jsonl", FakeFlowMaestro()
    options = {"api_key": fake.api_key, "max_retries": 0}

    async def main(**where):
        async with AsyncFlowMaestroClient(**where) as client:
            return await client.workflows.get("wf_123")

    def ask(**where):
        with FlowMaestroClient(**where) as client:
            found = [client.workflows.get("wf_123")]
        found.append(anyio.run(partial(main, **where)))
        found.append(anyio.run(partial(main, **where), backend="trio"))
        return found

    with running_server(fake) as url, Cassette(path) as cassette, cassette.installed():
        recorded = ask(base_url=url, **options)
    with Cassette(path, mode="none", strict=True) as cassette, cassette.installed():
        assert ask() == recorded
    assert fake.api_key not in path.read_text(encoding="utf-8")


def test_the_boundaries_of_pieces_are_those_of_chunks(tmp_path):
    path = tmp_path / "a.jsonl"
    steps = [ResponseHead(200, {"A": "b"}), b"ab", Quiet(0.2), b"c", b"def"]
    with Cassette(path) as cassette:
        transport = cassette.transport(ScriptedTransport([steps]))
        transport.send(Request("GET", "https://h/api/v1/x", {}), 5)
        transport = cassette.transport(ScriptedTransport([steps]))
        body = transport.open(Request("GET", "https://h/api/v1/y", {}), 5)
        while body.read(5):
            pass
    with Cassette(path) as cassette, cassette.server(SPEED) as url:
        host = urlsplit(url)
        with socket.create_connection((host.hostname, host.port), timeout=30) as sock:
            sock.sendall(b"GET /api/v1/x HTTP/1.1\r\nHost: h\r\n\r\n")
            found = b""
            while not found.endswith(b"0\r\n\r\n"):
                found += sock.recv(65536)
            sock.sendall(b"GET /api/v1/y HTTP/1.1\r\nHost: h\r\n\r\n")
            open_found = b""
            while not open_found.endswith(b"0\r\n\r\n"):
                open_found += sock.recv(65536)
    head = b"HTTP/1.1 200 Recorded\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert found == head + b"6\r\nabcdef\r\n0\r\n\r\n"
    assert open_found == head + b"2\r\nab\r\n1\r\nc\r\n3\r\ndef\r\n0\r\n\r\n"


LIMITS = [30.0, 0.3, 30.0, 1.0]
"""Seconds for each of four calls: enough for a failure that comes at once, or to be sat out."""


async def failing(client):
    kinds = []
    for number, seconds in enumerate(LIMITS):
        with pytest.raises(FlowMaestroError) as caught:
            await client.with_options(timeout=seconds).workflows.get(f"wf_{number}")
        kinds.append(caught.type)
    return kinds


@pytest.mark.parametrize("runner", FEW, ids=str)
def test_failures_come_to_the_same_over_sockets(runner, tmp_path):
    path, again = tmp_path / "a.jsonl", tmp_path / "again.jsonl"
    script = [
        TransportFailure(Phase.MAYBE_PROCESSED, "lost"),
        TransportFailure(Phase.MAYBE_PROCESSED, "late", timed_out=True),
        TransportFailure(Phase.REPLY_BROKEN, "broken"),
        TransportFailure(Phase.REPLY_BROKEN, "dribbling", timed_out=True),
    ]
    with Cassette(path) as cassette:
        transport = cassette.transport(ScriptedTransport(script))
        with FlowMaestroClient(KEY, transport=transport, max_retries=0) as client:
            kinds = run_to_its_end(failing(Awaited(client)))
    assert kinds == [ConnectionError, TimeoutError, ConnectionError, TimeoutError]
    with Cassette(path, strict=True) as cassette, cassette.server(SPEED) as url:
        options = {"base_url": url, "max_retries": 0}
        found = told_again(runner, runner.make, again, failing, **options)
    assert found == kinds
    assert trace(again, pieces=False) == trace(path, pieces=False)


def test_a_request_that_is_not_in_the_cassette(tmp_path):
    path = tmp_path / "a.jsonl"
    with Cassette(path) as cassette:
        transport = cassette.transport(ScriptedTransport([Response(204, {})]))
        transport.send(Request("GET", "https://h/api/v1/x", {}), 5)
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(Cassette(path).server())
        client = stack.enter_context(FlowMaestroClient(KEY, base_url=url))
        with pytest.raises(FlowMaestroError, match="does not hold this request") as caught:
            client.workflows.get("wf_1")
        assert caught.value.status_code == 501
        with pytest.raises(CassetteMismatch, match="does not hold this request"):
            stack.close()
    with Cassette(path) as cassette, cassette.server() as url:
        transport = RequestsTransport()
        assert transport.send(Request("GET", f"{url}/api/v1/x", {}), 5) == Response(204, {})
        transport.close()


def test_what_no_server_can_do(tmp_path):
    path = tmp_path / "a.jsonl"
    cassette = Cassette(path)
    with pytest.raises(ValueError, match="a server only replays"):
        cassette.server()
    transport = cassette.transport(ScriptedTransport([TransportFailure(Phase.NOT_SENT, "refused")]))
    with pytest.raises(TransportFailure):
        transport.send(Request("GET", "https://h/api/v1/x", {}), 5)
    cassette.close()
    with pytest.raises(CassetteError, match=r"a\.jsonl, line 2: .*never sent"):
        Cassette(path).server()
    with pytest.raises(ValueError, match="speed must be more than 0"):
        Cassette(path).server(0)


def test_a_server_stops_though_a_reply_is_silent(tmp_path):
    path = tmp_path / "a.jsonl"
    with Cassette(path) as cassette:
        transport = cassette.transport(ScriptedTransport([[ResponseHead(200, {}), b"x", Quiet()]]))
        transport.open(Request("GET", "https://h/api/v1/x", {}), 5).read(1)
    with Cassette(path) as cassette:
        with cassette.server() as url:
            transport = SocketTransport()
            body = transport.open(Request("GET", f"{url}/api/v1/x", {}), 5)
            assert body.read(5) == b"x"
            assert body.read(0.05) is None
            before = threading.active_count()
        assert threading.active_count() < before
        with pytest.raises(TransportFailure):
            body.read(5)
        body.close()
        transport.close()
