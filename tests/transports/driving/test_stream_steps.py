"""The steps of a stream handle one by one, on transports that do as they are told."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from flowmaestro_core.actions import Emit, Fail, Open, Read, Send, Wait
from flowmaestro_core.http.messages import Headers, Request, Response
from flowmaestro_transports.driving.iterators import AsyncItems, SyncItems
from tests.harness.transports.quiet_streams import PROMPT, refuses
from tests.harness.transports.scripted_machine import Scripted

pytestmark = pytest.mark.anyio

REQUEST = Request("GET", "http://localhost/x", Headers())


class Gate:
    """A sync transport whose steps last until `let_go` is set."""

    def __init__(self):
        self.entered = threading.Event()
        self.let_go = threading.Event()
        self.bodies = 0

    def pass_through(self):
        self.entered.set()
        assert self.let_go.wait(60)

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
    stream = SyncItems(Scripted(step, Emit(["lost"])), gate)
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(next, stream)
        assert gate.entered.wait(PROMPT)
        stream.close()
        gate.let_go.set()
        with refuses():
            reader.result(PROMPT)
    assert gate.bodies == 0


def test_an_error_of_the_stack_during_a_close_becomes_stream_closed():
    class Closing(Gate):
        def pass_through(self):
            if self.bodies:
                stream.close()

    stream = SyncItems(Scripted(Open(REQUEST, 9), Read(9), Emit(["lost"])), Closing())
    with refuses():
        next(stream)


class AsyncGate:
    """An async transport whose steps never end; its bodies wait to be closed."""

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


@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
async def test_a_step_is_cut_short(step):
    gate = AsyncGate()
    stream = AsyncItems(Scripted(step), gate)

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


class SlowToClose:
    """An async transport whose bodies offer no `release`, and take their time to close."""

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


async def test_without_release_the_body_is_closed_by_a_task():
    transport = SlowToClose()
    transport.closed = [anyio.Event(), anyio.Event()]
    first, second = transport.closed

    def begin():
        return AsyncItems(Scripted(Open(REQUEST, 9), Emit(["item"])), transport)

    with anyio.fail_after(PROMPT):
        async for _ in begin():
            break
        await second.wait()
        held = [begin()]
        assert await held[0].__anext__() == "item"
        await anyio.to_thread.run_sync(held.clear)
        await first.wait()


def test_after_an_error_the_stream_never_ends_in_silence():
    stream = SyncItems(Scripted(Fail(ValueError("no"))), Gate())
    with pytest.raises(ValueError, match="no"):
        next(stream)
    with refuses():
        next(stream)


def test_a_stray_stop_of_the_transport_is_no_end():
    class Mock(Gate):
        def send(self, request, timeout):
            return next(iter(()))

    with pytest.raises(RuntimeError, match="raised StopIteration"):
        list(SyncItems(Scripted(Send(REQUEST, 9)), Mock()))


async def test_a_stray_stop_of_the_transport_is_no_end_async():
    class Mock(AsyncGate):
        async def send(self, request, timeout):
            raise StopAsyncIteration

    with pytest.raises(RuntimeError, match="raised StopAsyncIteration"):
        [e async for e in AsyncItems(Scripted(Send(REQUEST, 9)), Mock())]
