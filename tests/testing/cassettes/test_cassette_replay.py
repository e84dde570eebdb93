"""A cassette recorded in memory or over sockets replays the same results and exchanges."""

from __future__ import annotations

from functools import partial
from urllib.parse import urlsplit

import anyio
import pytest

from flowmaestro import (
    AsyncFlowMaestroClient,
    FlowMaestroClient,
    FlowMaestroError,
)
from flowmaestro.testing import (
    Cassette,
    FakeFlowMaestro,
    MemoryTransport,
    Quiet,
    running_server,
)
from flowmaestro.testing.cassettes import jsonlines
from flowmaestro.testing.conformance.runner import run_to_its_end
from flowmaestro_core.http.messages import ResponseHead, TransportFailure
from flowmaestro_transports import (
    AiohttpTransport,
)
from tests.harness.runners import IN_MEMORY
from tests.harness.testing.one_face import Awaited

KEY = "fm_live_never_seen"
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


RECORDED = {"in-memory": record_in_memory, "over-sockets": record_over_sockets}


@pytest.fixture(scope="module")
def told(request, tmp_path_factory):
    """A cassette, and the results that it was recorded with."""
    path = tmp_path_factory.mktemp("told") / f"{request.param}.jsonl"
    return path, RECORDED[request.param](path)


def replayed(runner, cassette, again, story, **options):
    """What a client does on a runner that replays `cassette`, recorded once more to `again`."""

    async def main():
        with Cassette(again) as second:
            transport = second.async_transport(cassette.async_transport())
            async with AsyncFlowMaestroClient(KEY, transport=transport, **options) as client:
                return await story(client)

    if runner.backend is not None:
        return anyio.run(main, backend=runner.backend)
    with Cassette(again) as second:
        transport = second.transport(cassette.transport())
        with FlowMaestroClient(KEY, transport=transport, **options) as client:
            return run_to_its_end(story(Awaited(client)))


def trace(path):
    """Each exchange without what a run has of its own: times, host, keys that are drawn."""
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


@pytest.mark.parametrize("told", RECORDED, indirect=True)
@pytest.mark.parametrize("runner", IN_MEMORY, ids=str)
def test_a_recorded_story_replays_with_the_same_results(runner, told, tmp_path):
    path, results = told
    again = tmp_path / "again.jsonl"
    with Cassette(path, mode="none", strict=True) as cassette:
        assert replayed(runner, cassette, again, story) == results
    assert trace(again) == trace(path)
    assert len(trace(path)) > 8
    assert seconds(again) == pytest.approx(seconds(path), abs=1e-3)


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


@pytest.mark.parametrize("key", [None, "replayed", "delivery"])
def test_a_body_that_holds_the_word_that_is_the_key_is_replayed(tmp_path, key, fake):
    def execute(client):
        with client:
            note = "the delivery was replayed, fm_live_replayed"
            return client.workflows.execute("wf_123", inputs={"note": note})["data"]["execution_id"]

    with Cassette(tmp_path / "c.jsonl") as cassette:
        transport = cassette.transport(MemoryTransport(fake))
        recorded = execute(FlowMaestroClient(fake.api_key, transport=transport))
    with Cassette(tmp_path / "c.jsonl", mode="none") as cassette, cassette.installed():
        assert execute(FlowMaestroClient(key)) == recorded
