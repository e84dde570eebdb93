"""The life of a stream handle: who lets go of its connection, when, and what its reader hears."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from queue import LifoQueue

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import requests
import requests.adapters

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient, StreamError
from flowmaestro.testing import (
    AsyncMemoryTransport,
    FakeFlowMaestro,
    MemoryTransport,
    running_server,
    seeds,
)
from flowmaestro_core.actions import Done, Emit, Fail, Open, Read, Send, Wait
from flowmaestro_core.http import Headers, Phase, Request, Response, TransportFailure
from flowmaestro_transports import AiohttpTransport, AnyioTransport, RequestsTransport
from flowmaestro_transports.streams import AwaitingIteration, BlockingIteration

REQUEST = Request("GET", "http://localhost/x", Headers())
PROMPT = 2.0
"""Seconds within which a reader must have been woken, and the server have seen a hang-up."""

STACKS = [
    pytest.param((AiohttpTransport, "asyncio"), id="aiohttp"),
    pytest.param((AnyioTransport, "asyncio"), id="anyio-asyncio"),
    pytest.param((AnyioTransport, "trio"), id="anyio-trio"),
]
BACKENDS = ["asyncio", "trio"]


@pytest.fixture
def fake():
    return FakeFlowMaestro()


@pytest.fixture
def url(fake):
    with running_server(fake, speed=10) as url:
        yield url


@pytest.fixture
def client(fake, url):
    with FlowMaestroClient(fake.api_key, base_url=url) as client:
        yield client


@pytest.fixture(params=STACKS)
def run_async(request, fake, url):
    """Run `main(client)` on one of the awaiting stacks."""
    make, backend = request.param

    def run(main):
        async def with_client():
            transport = make()
            async with AsyncFlowMaestroClient(fake.api_key, base_url=url, transport=transport) as c:
                return await main(c)

        return anyio.run(with_client, backend=backend)

    run.make, run.backend = make, backend
    return run


def released(fake):
    """Whether the server has seen every reader hang up."""
    end = time.monotonic() + PROMPT
    while fake.open_streams and time.monotonic() < end:
        time.sleep(0.005)
    return not fake.open_streams


async def released_meanwhile(fake):
    return await anyio.to_thread.run_sync(released, fake)


def quiet_stream(client):
    """A stream that says how it waits for a human, and then nothing more."""
    run = client.workflows.execute(seeds.PAUSING_WORKFLOW_ID)
    return client.executions.stream(run["data"]["execution_id"])


async def quiet_async_stream(client):
    run = await client.workflows.execute(seeds.PAUSING_WORKFLOW_ID)
    return client.executions.stream(run["data"]["execution_id"])


def refuses(code="stream_closed"):
    return pytest.raises(StreamError, match=rf"\[{code}\]")


def is_paused(event):
    """Whether it says that the human is awaited, be it because the subscription came later."""
    return event["type"] == "user:input:required" or event.get("status") == "paused"


def read_until_paused(stream):
    for event in stream:
        if is_paused(event):
            return


async def read_until_paused_async(stream):
    async for event in stream:
        if is_paused(event):
            return


# To the end


def test_the_connection_is_gone_before_the_last_event_is_handed_over(fake, client):
    stream = client.executions.stream("exec_xyz789")
    seen = []
    for event in stream:
        seen.append(event["type"])
        if event["type"] == "execution:completed":
            assert released(fake)
            break
    assert seen[-1] == "execution:completed"


def test_the_connection_is_gone_before_the_last_event_is_handed_over_async(fake, run_async):
    async def main(client):
        stream = client.executions.stream("exec_xyz789")
        async for event in stream:
            if event["type"] == "execution:completed":
                assert await released_meanwhile(fake)
                return stream
        raise AssertionError("the stream ended without its terminal event")

    run_async(main)


def test_what_is_exhausted_stays_so_and_is_not_begun_again(fake):
    with FlowMaestroClient(fake.api_key, transport=MemoryTransport(fake)) as client:
        stream = client.executions.stream("exec_xyz789")
        assert list(stream)[-1]["type"] == "execution:completed"
        assert next(stream, "nothing") == "nothing"
        with refuses():
            list(stream)
        stream.close()
        assert next(stream, "nothing") == "nothing"
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
def test_what_is_exhausted_stays_so_and_is_not_begun_again_async(fake, backend):
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


def test_closing_and_leaving_with_release_at_once(fake, client):
    with quiet_stream(client) as stream:
        next(stream)
        assert fake.open_streams == 1
        assert stream.request_id is None
        assert (stream.last_event_id, stream.reconnects) == ("", 0)
    assert released(fake)
    stream.close()
    with refuses():
        next(stream)
    with refuses():
        iter(stream)


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


def test_a_stream_that_was_never_begun_can_be_closed(client):
    stream = quiet_stream(client)
    stream.close()
    with refuses():
        next(stream)


def test_closing_from_another_thread_wakes_the_reader(fake, client):
    stream = quiet_stream(client)
    read_until_paused(stream)
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(next, stream)
        time.sleep(0.1)  # let it get to the socket
        assert not reader.done()
        with refuses("stream_busy"):
            next(stream)
        began = time.monotonic()
        stream.close()
        with refuses():
            reader.result(PROMPT)
        assert time.monotonic() - began < 1
    assert released(fake)
    assert stream.reconnects == 0


def test_closing_from_another_task_wakes_the_reader(fake, run_async):
    async def main(client):
        stream = await quiet_async_stream(client)
        await read_until_paused_async(stream)

        async def read():
            with refuses():
                await stream.__anext__()

        with anyio.fail_after(PROMPT):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read)
                await anyio.sleep(0.1)
                with refuses("stream_busy"):
                    await stream.__anext__()
                await stream.close()
        assert await released_meanwhile(fake)
        assert stream.reconnects == 0

    run_async(main)


def test_closing_while_it_connects_wakes_the_reader(scripted_server, run_async):
    asked = threading.Event()

    def never_answers(peer):
        peer.read_request()
        asked.set()
        peer.wait_closed()

    async def main(_):
        with scripted_server(never_answers) as server:
            async with AsyncFlowMaestroClient(
                "fm_live_x", base_url=server.url, transport=run_async.make()
            ) as client:
                stream = client.executions.stream("exec_xyz789")

                async def read():
                    with refuses():
                        await stream.__anext__()

                with anyio.fail_after(PROMPT):
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(read)
                        await anyio.to_thread.run_sync(asked.wait, PROMPT)
                        await stream.close()

    run_async(main)


# Cancelling


def test_cancelling_the_reader_releases_at_once(fake, run_async):
    async def main(client):
        stream = await quiet_async_stream(client)
        await read_until_paused_async(stream)
        with anyio.move_on_after(0.05) as scope:
            await stream.__anext__()
        assert scope.cancelled_caught
        assert await released_meanwhile(fake)
        with refuses():
            await stream.__anext__()

    run_async(main)


def test_a_timeout_of_asyncios_own_releases_too(fake, url):
    async def main():
        async with AsyncFlowMaestroClient(fake.api_key, base_url=url) as client:
            stream = await quiet_async_stream(client)
            await read_until_paused_async(stream)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(stream.__anext__(), 0.05)
            assert await released_meanwhile(fake)

    asyncio.run(main())


# Dropping


def test_a_break_releases_without_a_word(fake, client):
    for event in quiet_stream(client):
        if is_paused(event):
            break
    assert released(fake)


def test_a_break_returns_the_place_in_a_pool_that_blocks(fake, url):
    with requests.Session() as session:
        session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=1, pool_block=True))
        with FlowMaestroClient(
            fake.api_key, base_url=url, timeout=PROMPT, transport=RequestsTransport(session)
        ) as client:
            for _ in range(3):
                for _ in quiet_stream(client):
                    break
                assert released(fake)


@pytest.fixture
def collected_when_asked():
    """Garbage that holds itself is collected only by `gc.collect`, which must warn of nothing."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("collected_when_asked")
def test_one_in_a_cycle_is_released_without_a_word(fake, client):
    stream = quiet_stream(client)
    next(stream)
    stream.itself = stream
    del stream
    assert fake.open_streams
    gc.collect()
    assert released(fake)


@pytest.mark.usefixtures("collected_when_asked")
@pytest.mark.parametrize("elsewhere", [False, True])
def test_one_in_a_cycle_is_released_without_a_word_async(fake, run_async, elsewhere):
    async def main(client):
        stream = await quiet_async_stream(client)
        await stream.__anext__()
        stream.itself = stream
        del stream
        assert fake.open_streams
        if elsewhere:
            await anyio.to_thread.run_sync(gc.collect)
        else:
            gc.collect()
        assert await released_meanwhile(fake)

    run_async(main)


@pytest.mark.parametrize("step", ["_put", "_get"])
def test_one_collected_within_its_own_pool_returns_its_place_there(fake, url, step, monkeypatch):
    """Where `queue.LifoQueue` holds its lock, which is not re-entrant."""
    collected = []

    def step_and_collect(queue, *args):
        if abandoned.is_set():
            abandoned.clear()
            collected.append(gc.collect())
        return ordinary(queue, *args)

    abandoned = threading.Event()
    ordinary = getattr(LifoQueue, step)
    monkeypatch.setattr(LifoQueue, step, step_and_collect)

    def life():
        with requests.Session() as session:
            adapter = requests.adapters.HTTPAdapter(pool_maxsize=2, pool_block=True)
            session.mount("http://", adapter)
            with FlowMaestroClient(
                fake.api_key, base_url=url, timeout=PROMPT, transport=RequestsTransport(session)
            ) as client:
                for _ in range(3):
                    stream = quiet_stream(client)
                    next(stream)
                    stream.itself = stream
                    del stream
                    abandoned.set()
                    client.workflows.get("wf_123")
                    assert released(fake)
                both = [quiet_stream(client), quiet_stream(client)]
                for stream in both:
                    next(stream)
                    stream.close()
        lived.set()

    lived = threading.Event()
    gc.disable()
    try:
        threading.Thread(target=life, daemon=True).start()
        assert lived.wait(5 * PROMPT)
    finally:
        gc.enable()
    assert len(collected) == 3


def test_an_exception_in_the_loop_releases(fake, client):
    def follow():
        for event in quiet_stream(client):
            raise ZeroDivisionError(event)

    with pytest.raises(ZeroDivisionError):
        follow()
    gc.collect()
    assert released(fake)


def test_a_callback_that_raises_releases(fake, client):
    def hear(event):
        raise LookupError(event)

    with pytest.raises(LookupError):
        client.workflows.run(seeds.PAUSING_WORKFLOW_ID, on_event=hear)
    assert released(fake)


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_a_callback_that_raises_releases_async(fake, run_async, kind):
    def plain(event):
        raise LookupError(event)

    async def coroutine(event):
        await anyio.lowlevel.checkpoint()
        raise LookupError(event)

    async def main(client):
        hear = plain if kind == "plain" else coroutine
        with pytest.raises(LookupError):
            await client.workflows.run(seeds.PAUSING_WORKFLOW_ID, on_event=hear)
        assert await released_meanwhile(fake)

    run_async(main)


def test_a_run_that_is_cancelled_releases_and_the_execution_goes_on(fake, run_async):
    async def main(client):
        with anyio.move_on_after(0.2) as scope:
            await client.workflows.run(seeds.PAUSING_WORKFLOW_ID)
        assert scope.cancelled_caught
        assert await released_meanwhile(fake)
        newest = (await client.executions.list(workflow_id=seeds.PAUSING_WORKFLOW_ID))["data"][0]
        assert newest["status"] in ("pending", "running", "paused")

    run_async(main)


def test_a_break_releases_without_a_word_async(fake, run_async):
    async def main(client):
        for _ in range(3):
            async for event in await quiet_async_stream(client):
                if is_paused(event):
                    break
            assert await released_meanwhile(fake)

    run_async(main)


def test_an_exception_in_the_loop_releases_async(fake, run_async):
    async def follow(client):
        async for event in await quiet_async_stream(client):
            raise ZeroDivisionError(event)

    async def main(client):
        with pytest.raises(ZeroDivisionError):
            await follow(client)
        gc.collect()
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


def test_a_stream_in_a_task_that_is_cancelled_between_events_is_released(fake, run_async):
    async def main(client):
        async def follow():
            async for event in await quiet_async_stream(client):
                if is_paused(event):
                    await anyio.sleep_forever()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            await anyio.sleep(0.2)
            assert fake.open_streams == 1
            tasks.cancel_scope.cancel()
        assert await released_meanwhile(fake)

    run_async(main)


def test_collected_in_another_thread_it_is_handed_to_its_loop(fake, run_async):
    async def main(client):
        held = [await quiet_async_stream(client)]
        await read_until_paused_async(held[0])
        await anyio.to_thread.run_sync(held.clear)
        assert await released_meanwhile(fake)

    run_async(main)


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


def test_collected_while_its_loop_rests_it_is_released_when_that_goes_on(fake, url):
    loop = asyncio.new_event_loop()

    async def begin(client):
        stream = await quiet_async_stream(client)
        await read_until_paused_async(stream)
        return [stream]

    client = AsyncFlowMaestroClient(fake.api_key, base_url=url)
    held = loop.run_until_complete(begin(client))
    held.clear()
    loop.run_until_complete(asyncio.sleep(0))
    assert loop.run_until_complete(released_meanwhile(fake))
    loop.run_until_complete(client.close())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


# The steps one by one, on transports that do as they are told


class Scripted:
    """A machine that asks for what it is told to ask for."""

    finished = False

    def __init__(self, *actions):
        self.actions = list(actions)

    def __getattr__(self, event):
        if event.startswith("_") or event in ("last_event_id", "reconnects", "request_id"):
            raise AttributeError(event)
        return lambda *args: self.actions.pop(0)


class Gate:
    """A blocking transport whose steps last until `let_go` is set."""

    def __init__(self):
        self.entered = threading.Event()
        self.let_go = threading.Event()
        self.bodies = 0

    def pass_through(self):
        self.entered.set()
        assert self.let_go.wait(10)

    def send(self, request, timeout):
        self.pass_through()
        return Response(200, Headers())

    def open(self, request, timeout):
        self.pass_through()
        self.bodies += 1
        return GateBody(self)

    def sleep(self, seconds):
        self.pass_through()

    def now(self):
        return 7.0


class GateBody:
    status, headers = 200, Headers()

    def __init__(self, gate):
        self.gate = gate

    def read(self, patience):
        self.gate.pass_through()
        raise ValueError("I/O operation on closed file")  # as a careless stack would

    def close(self):
        self.gate.bodies -= 1


STEPS = [Send(REQUEST, 9), Open(REQUEST, 9), Wait(9)]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
def test_a_step_that_cannot_be_cut_short_ends_in_the_error_when_it_ends(step):
    gate = Gate()
    stream = BlockingIteration(Scripted(step, Emit("lost")), gate)
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(next, stream)
        assert gate.entered.wait(PROMPT)
        stream.close()
        gate.let_go.set()
        with refuses():
            reader.result(PROMPT)
    assert gate.bodies == 0


def test_whatever_a_careless_stack_raises_under_a_close_is_the_closing():
    class Closing(Gate):
        def pass_through(self):
            if self.bodies:
                stream.close()

    stream = BlockingIteration(Scripted(Open(REQUEST, 9), Read(9), Emit("lost")), Closing())
    with refuses():
        next(stream)


class AsyncGate:
    """An awaiting transport whose steps never end; its bodies wait to be closed."""

    def __init__(self):
        self.entered = anyio.Event()

    async def send(self, request, timeout):
        self.entered.set()
        await anyio.sleep_forever()

    open = send

    async def sleep(self, seconds):
        await self.send(None, seconds)

    def now(self):
        return 7.0


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
def test_a_step_is_cut_short(step, backend):
    async def main():
        gate = AsyncGate()
        stream = AwaitingIteration(Scripted(step), gate)

        async def read():
            with refuses():
                await stream.__anext__()

        with anyio.fail_after(PROMPT):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read)
                await gate.entered.wait()
                await stream.close()
        with refuses():
            await stream.__anext__()

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_cancellation_from_outside_is_not_taken_for_a_close(backend):
    async def main():
        gate = AsyncGate()
        stream = AwaitingIteration(Scripted(Wait(9)), gate)
        with anyio.move_on_after(0.01) as scope:
            await stream.__anext__()
        assert scope.cancelled_caught

    anyio.run(main, backend=backend)


class SlowToClose:
    """An awaiting transport whose bodies offer no `release`, and take their time to close."""

    status, headers = 200, Headers()

    def __init__(self):
        self.closed = []

    async def open(self, request, timeout):
        return self

    async def sleep(self, seconds):
        pass

    def now(self):
        return 7.0

    async def close(self):
        await anyio.lowlevel.checkpoint()
        self.closed.pop().set()
        raise OSError("nobody is left to hear of this")


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_release_the_body_is_closed_by_a_task(backend):
    async def main():
        transport = SlowToClose()
        transport.closed = [anyio.Event(), anyio.Event()]
        first, second = transport.closed

        def begin():
            return AwaitingIteration(Scripted(Open(REQUEST, 9), Emit("item")), transport)

        with anyio.fail_after(PROMPT):
            async for _ in begin():
                break
            await second.wait()
            held = [begin()]
            assert await held[0].__anext__() == "item"
            await anyio.to_thread.run_sync(held.clear)
            await first.wait()

    anyio.run(main, backend=backend)


def test_outside_of_asyncio_and_trio_it_works_and_a_drop_is_told():
    actions = Wait(1), Open(REQUEST, 9), Emit("item")
    held = [AwaitingIteration(Scripted(*actions), SlowToClose())]
    with pytest.raises(StopIteration) as returned:
        held[0].__anext__().send(None)
    assert returned.value.value == "item"
    with pytest.warns(ResourceWarning, match="dropped"):
        held.clear()


def test_after_an_error_the_stream_never_ends_in_silence():
    stream = BlockingIteration(Scripted(Fail(ValueError("no"))), Gate())
    with pytest.raises(ValueError, match="no"):
        next(stream)
    with refuses():
        next(stream)


def test_a_stray_stop_of_the_transport_is_no_end():
    class Mock(Gate):
        def send(self, request, timeout):
            return next(iter(()))

    with pytest.raises(RuntimeError, match="raised StopIteration"):
        list(BlockingIteration(Scripted(Send(REQUEST, 9)), Mock()))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_stray_stop_of_the_transport_is_no_end_async(backend):
    class Mock(AsyncGate):
        async def send(self, request, timeout):
            raise StopAsyncIteration

    async def main():
        with pytest.raises(RuntimeError, match="raised StopAsyncIteration"):
            [e async for e in AwaitingIteration(Scripted(Send(REQUEST, 9)), Mock())]

    anyio.run(main, backend=backend)


def test_a_lost_connection_beside_a_close_is_not_made_anew():
    class Lost(Gate):
        def pass_through(self):
            if self.bodies:
                stream.close()
                raise TransportFailure(Phase.REPLY_BROKEN, "the stream was closed")

    lost = Lost()
    stream = BlockingIteration(Scripted(Open(REQUEST, 9), Read(9), Open(REQUEST, 9)), lost)
    with refuses():
        next(stream)
    assert lost.bodies == 0


def test_done_ends_the_handle():
    with contextlib.closing(BlockingIteration(Scripted(Emit(1), Done(None)), Gate())) as stream:
        assert list(stream) == [1]


ENDINGS = [
    lambda client: client.executions.stream("exec_xyz789"),
    lambda client: client.threads.send_message_stream("thread_xyz789", "Hello"),
]


@pytest.mark.parametrize("shapes", ["deployed", "documented"])
@pytest.mark.parametrize("messages", [None, "two-connection"])
@pytest.mark.parametrize("begin", ENDINGS)
def test_a_stream_left_at_its_end_is_not_begun_again(shapes, messages, begin):
    fake = FakeFlowMaestro(shapes, messages=messages)
    with FlowMaestroClient(fake.api_key, transport=MemoryTransport(fake)) as client:
        stream = begin(client)
        for event in stream:
            if event["type"].endswith(":completed") and not event["type"].startswith("node"):
                break
        with refuses():
            iter(stream)
