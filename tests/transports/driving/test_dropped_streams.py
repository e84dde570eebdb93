"""Streams that nobody closes: who lets go of their connections, when, and what is said of it."""

from __future__ import annotations

import asyncio
import gc
import time
import warnings

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from flowmaestro import AsyncFlowMaestroClient
from flowmaestro.testing import AsyncMemoryTransport
from flowmaestro_transports import AiohttpTransport
from tests.harness.transports.quiet_streams import (
    BACKENDS,
    is_paused,
    quiet_async_stream,
    read_until_paused_async,
    released,
    released_meanwhile,
)
from tests.harness.transports.slow_to_close import SlowToClose

pytestmark = pytest.mark.usefixtures("little_to_collect")


def collect():
    """Collect all garbage: what a finalizer touches is left for the next collection."""
    while gc.collect():
        pass


@pytest.fixture
def collected_when_asked():
    """Garbage that holds itself is collected only by `gc.collect`, which must warn of nothing."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("collected_when_asked")
@pytest.mark.parametrize("elsewhere", [False, True])
def test_an_async_stream_in_a_cycle_is_released_without_a_warning(fake, run_async, elsewhere):
    async def main(client):
        stream = await quiet_async_stream(client)
        await stream.__anext__()
        stream.itself = stream
        del stream
        assert fake.open_streams
        if elsewhere:
            await anyio.to_thread.run_sync(collect)
        else:
            collect()
        assert await released_meanwhile(fake)

    run_async(main)


def test_a_break_releases_without_a_word_async(fake, run_async):
    async def main(client):
        for _ in range(3):
            async for event in await quiet_async_stream(client):
                if is_paused(event):
                    break
            assert await released_meanwhile(fake)

    run_async(main)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_break_releases_in_memory_too(fake, backend):
    async def main():
        async with AsyncFlowMaestroClient(
            fake.api_key, transport=AsyncMemoryTransport(fake)
        ) as client:
            async for _ in client.executions.stream("exec_xyz789"):
                assert fake.open_streams == 1
                break
            assert fake.open_streams == 0

    anyio.run(main, backend=backend)


class OnAnyLoop:
    """A transport of an event loop that is neither asyncio's nor trio's."""

    def __init__(self, body):
        self.send, self.open = body.send, body.open
        self.sleep, self.close = body.sleep, body.close
        self.now = time.monotonic


class ReleasableBody(SlowToClose):
    def release(self):
        self.state = "released"


async def drop(coroutine):
    """Begin to carry out a coroutine, and drop it where it waits."""
    coroutine.send(None)
    await asyncio.sleep(0)
    coroutine.close()


async def waits(item):
    await asyncio.sleep(3600)


async def second_event(stream):
    await stream.__anext__()
    return await stream.__anext__()


@pytest.mark.parametrize(
    "step",
    [
        lambda client: client.workflows.run("wf"),
        lambda client: client.workflows.run("wf", on_event=waits),
        lambda client: second_event(client.executions.stream("e")),
    ],
    ids=["a run that reads", "a run's callback", "a stream that reads"],
)
def test_a_coroutine_that_is_dropped_where_it_waits_releases_its_body(step):
    async def main():
        body = SlowToClose()
        await drop(step(AsyncFlowMaestroClient("key", transport=body)))
        assert await body.is_closed()

    asyncio.run(main())


def test_collected_in_another_loop_it_is_handed_to_its_own(fake, run_async):
    async def drop(held):
        held.clear()
        await anyio.lowlevel.checkpoint()

    async def main(client):
        held = [await quiet_async_stream(client)]
        await read_until_paused_async(held[0])
        for backend in BACKENDS:
            await anyio.to_thread.run_sync(lambda: anyio.run(drop, held, backend=backend))  # noqa: B023
        assert await released_meanwhile(fake)

    run_async(main)


def test_collected_after_its_loop_it_warns_once(fake, url, run_async):
    if run_async.make is AiohttpTransport:
        pytest.skip("aiohttp warns of its session, too, which belongs to that loop")

    async def main():
        client = AsyncFlowMaestroClient(fake.api_key, base_url=url, transport=run_async.make())
        stream = await quiet_async_stream(client)
        await read_until_paused_async(stream)
        return client, [stream]

    client, held = anyio.run(main, backend=run_async.backend)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        held.clear()
        gc.collect()
    assert [(w.category, "dropped" in str(w.message)) for w in seen] == [(ResourceWarning, True)]
    assert released(fake)
    anyio.run(client.close, backend=run_async.backend)


@pytest.mark.parametrize("is_releasable", [True, False])
def test_stream_of_another_event_loop_releases_its_body_if_that_needs_no_loop(is_releasable):
    """Such as curio: its loop can be asked for nothing."""
    body = ReleasableBody() if is_releasable else SlowToClose()
    stream = AsyncFlowMaestroClient("key", transport=OnAnyLoop(body)).executions.stream("e")
    with pytest.raises(StopIteration):
        stream.__anext__().send(None)
    with pytest.warns(ResourceWarning, match="was dropped"):
        del stream
    assert body.state == ("released" if is_releasable else "read")
