"""A stream handle that is used: read to its end, closed, or cancelled, from wherever."""

from __future__ import annotations

import gc
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import anyio
import pytest

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient, StreamError
from flowmaestro.testing import AsyncMemoryTransport, MemoryTransport
from flowmaestro_core.executions.outcome import BatchProgress
from tests.harness.transports.quiet_streams import (
    BACKENDS,
    PROMPT,
    quiet_async_stream,
    quiet_stream,
    read_until_paused,
    refuses,
    released,
    released_meanwhile,
)

# To the end


def test_exhausted_stream_stays_exhausted(fake):
    with FlowMaestroClient(fake.api_key, transport=MemoryTransport(fake)) as client:
        stream = client.executions.stream("exec_xyz789")
        assert list(stream)[-1]["type"] == "execution:completed"
        assert next(stream, "nothing") == "nothing"
        with refuses():
            list(stream)
        stream.close()
        assert next(stream, "nothing") == "nothing"
        left_at_its_end = client.executions.stream("exec_xyz789")
        while next(left_at_its_end)["type"] != "execution:completed":
            pass
        with refuses():
            iter(left_at_its_end)
        pages = client.workflows.iterate()
        assert list(pages)
        assert list(pages) == []
        pages.close()
        assert list(pages) == []
        left = client.workflows.iterate()
        next(left)
        left.close()
        with refuses():
            list(left)


@pytest.mark.parametrize("backend", BACKENDS)
def test_exhausted_async_stream_stays_exhausted(fake, backend):
    async def main():
        async with AsyncFlowMaestroClient(
            fake.api_key, transport=AsyncMemoryTransport(fake)
        ) as client:
            stream = client.executions.stream("exec_xyz789")
            assert [e async for e in stream][-1]["type"] == "execution:completed"
            with pytest.raises(StopAsyncIteration):
                await stream.__anext__()
            with refuses():
                [e async for e in stream]
            pages = client.workflows.iterate()
            assert [page async for page in pages]
            assert [page async for page in pages] == []

    anyio.run(main, backend=backend)


# Closing


def test_closing_and_leaving_with_release_at_once_async(fake, run_async):
    async def main(client):
        async with await quiet_async_stream(client) as stream:
            await stream.__anext__()
            assert fake.open_streams == 1
            assert (stream.last_event_id, stream.reconnects, stream.request_id) == ("", 0, None)
        assert await released_meanwhile(fake)
        await stream.close()
        with refuses():
            await stream.__anext__()
        with refuses():
            stream.__aiter__()

    run_async(main)


@pytest.mark.parametrize(
    ("kind", "transport"),
    [(FlowMaestroClient, MemoryTransport), (AsyncFlowMaestroClient, AsyncMemoryTransport)],
)
def test_a_stream_that_could_not_be_made_is_collected_without_a_word(fake, kind, transport):
    without_jitter = transport(fake)
    without_jitter.random = SimpleNamespace(getrandbits=lambda bits: 0)
    client = kind(fake.api_key, transport=without_jitter)
    with pytest.raises(AttributeError, match="random"):
        client.executions.stream("exec_xyz789")
    gc.collect()


def test_a_stream_does_not_keep_what_it_has_handed_over(fake):
    with FlowMaestroClient(fake.api_key, transport=MemoryTransport(fake)) as client:
        stream = client.executions.stream("exec_xyz789")
        event = next(stream)
        holders = gc.get_referrers(event)
        assert not any(it is stream or it is vars(stream) for it in holders)
        stream.close()


def test_closing_from_another_thread_wakes_the_reader(fake, client):
    stream = quiet_stream(client)
    read_until_paused(stream)
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(next, stream)
        while not len(stream._readers):
            time.sleep(0.001)
        assert not reader.done()
        with refuses("stream_busy"):
            next(stream)
        stream.close()
        with refuses():
            reader.result(PROMPT)
    assert released(fake)
    assert stream.reconnects == 0


# Kinds of handles


OF_EVENTS = {"last_event_id", "last_seen", "reconnects", "request_id", "seen_events"}
OF_HANDLES = {
    "Items": set(),
    "EventStream": OF_EVENTS,
    "MessageEventStream": OF_EVENTS | {"message", "text"},
    "RunOutcomes": {"in_flight", "progress"},
}


def handles(client):
    """One handle of each kind, by the name that the documentation has for it."""
    return {
        "Items": client.workflows.iterate(),
        "EventStream": client.executions.stream("exec_xyz789"),
        "MessageEventStream": client.threads.send_message_stream("thread_abc123", "Hello"),
        "RunOutcomes": client.workflows.run_many("wf_123", [{}, {}]),
    }


def public_names(handle):
    return {name for name in dir(handle) if not name.startswith("_")}


@pytest.mark.parametrize("kind", OF_HANDLES)
def test_a_handle_has_the_attributes_of_its_kind_only(fake, kind):
    with FlowMaestroClient(fake.api_key, transport=MemoryTransport(fake)) as client:
        handle = handles(client)[kind]
        assert type(handle).__name__ == ("SyncItems" if kind == "Items" else kind)
        assert public_names(handle) == OF_HANDLES[kind] | {"close"}
    for name in {"text", "message", "last_event_id", "progress"} - OF_HANDLES[kind]:
        with pytest.raises(AttributeError, match=type(handle).__name__):
            getattr(handle, name)


@pytest.mark.parametrize("kind", OF_HANDLES)
def test_an_async_handle_has_the_attributes_of_its_kind_only(fake, kind):
    client = AsyncFlowMaestroClient(fake.api_key, transport=AsyncMemoryTransport(fake))
    handle = handles(client)[kind]
    assert type(handle).__name__ == f"Async{kind}"
    assert public_names(handle) == OF_HANDLES[kind] | {"aclose", "close"}


@pytest.mark.parametrize(
    ("kind", "noun"),
    [
        ("Items", "list"),
        ("EventStream", "stream"),
        ("MessageEventStream", "stream"),
        ("RunOutcomes", "batch"),
    ],
)
def test_a_closed_handle_is_called_by_its_name(fake, kind, noun):
    with FlowMaestroClient(fake.api_key, transport=MemoryTransport(fake)) as client:
        handle = handles(client)[kind]
        handle.close()
        for use in (next, iter):
            with pytest.raises(StreamError, match=f"This {noun} is closed") as caught:
                use(handle)
            assert caught.value.code == "stream_closed"


def test_the_progress_of_a_batch_can_be_read_at_any_time(fake):
    with FlowMaestroClient(fake.api_key, transport=MemoryTransport(fake)) as client:
        batch = client.workflows.run_many("wf_123", [{}, {"name": object()}], ordered=True)
        assert (batch.progress.done, batch.progress.total) == (0, 2)
        assert repr(batch) == "<RunOutcomes: ready, 0 of 2 done>"
        next(batch)
        assert isinstance(batch.progress, BatchProgress)
        assert (batch.progress.done, batch.progress.failed) == (1, 0)
        list(batch)
        assert (batch.progress.done, batch.progress.failed) == (2, 1)
        assert repr(batch) == "<RunOutcomes: ended, 2 of 2 done, 1 failed>"
