"""Every iteration can be closed, under the names that Python's own generators have.

Once it is closed, nothing more is sent for it.
"""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Dict, List

import anyio
import pytest

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient, Hooks, StreamError
from flowmaestro.testing import AsyncMemoryTransport, FakeFlowMaestro, MemoryTransport
from flowmaestro_core.http.messages import Request, Response
from flowmaestro_transports.driving.interrupt import AsyncInterruptibleTransport
from flowmaestro_transports.functions import AsyncFunctionTransport

ITERATIONS: Dict[str, Callable[[Any], Any]] = {
    "stream": lambda client: client.executions.stream("exec_xyz789"),
    "iterate": lambda client: client.workflows.iterate(),
    "wait_many": lambda client: client.executions.wait_many(["exec_xyz789"]),
    "run_many": lambda client: client.workflows.run_many("wf_123", [{"name": "John"}] * 2),
    "text": lambda client: client.threads.send_message_stream("thread_xyz789", "Hi").text(),
}
EACH = pytest.mark.parametrize("iteration", ITERATIONS)


@EACH
def test_a_sync_iteration_has_close(iteration: str) -> None:
    fake = FakeFlowMaestro()
    with FlowMaestroClient(fake.api_key, transport=MemoryTransport(fake)) as client:
        with contextlib.closing(ITERATIONS[iteration](client)) as items:
            assert next(items)
        with pytest.raises(StreamError) as caught:
            next(items)
        assert caught.value.code == "stream_closed"


@EACH
@pytest.mark.skipif(not hasattr(contextlib, "aclosing"), reason="aclosing came with Python 3.10")
def test_an_async_iteration_has_aclose(iteration: str) -> None:
    async def main() -> None:
        fake = FakeFlowMaestro()
        transport = AsyncMemoryTransport(fake)
        async with AsyncFlowMaestroClient(fake.api_key, transport=transport) as client:
            async with contextlib.aclosing(ITERATIONS[iteration](client)) as items:
                assert await items.__anext__()
            with pytest.raises(StreamError) as caught:
                await items.__anext__()
            assert caught.value.code == "stream_closed"

    anyio.run(main)


STARTS = pytest.mark.parametrize(
    "start",
    [
        lambda client: client.workflows.run_many("wf_123", [{}]),
        lambda client: client.threads.send_message_stream("thread_xyz789", "Hi"),
    ],
    ids=["run_many", "send_message_stream"],
)
UNAVAILABLE = Response(503, {"Retry-After": "60"}, b"{}")


@STARTS
def test_hook_that_closes_a_sync_iteration_lets_nothing_be_sent(start: Any) -> None:
    sent: List[Request] = []
    hooks = Hooks(request=lambda _: items.close())
    client = FlowMaestroClient("fm_live_key", transport=sent.append, hooks=hooks)  # type: ignore[arg-type]
    items = start(client)
    with pytest.raises(StreamError) as caught:
        next(items)
    assert caught.value.code == "stream_closed"
    assert not sent


@STARTS
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("hook", ["request", "retry"])
def test_async_iteration_closed_during_a_hook_sends_nothing_more(
    start: Any, backend: str, hook: str
) -> None:
    """Nor does it wait for the pause before the retry."""
    sent: List[Request] = []

    def respond(request: Request) -> Response:
        sent.append(request)
        return UNAVAILABLE

    async def main() -> None:
        entered, go = anyio.Event(), anyio.Event()

        async def wait(_: Any) -> None:
            entered.set()
            await go.wait()

        async def read() -> None:
            with pytest.raises(StreamError) as caught:
                await items.__anext__()
            assert caught.value.code == "stream_closed"

        hooks = Hooks(**{hook: wait})
        client = AsyncFlowMaestroClient("fm_live_key", transport=respond, hooks=hooks)
        items = start(client)
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read)
                await entered.wait()
                await items.close()
                before = len(sent)
                go.set()
        assert len(sent) == before == (hook == "retry")

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_async_view_begins_no_operation_once_interrupted(backend: str) -> None:
    sent: List[Request] = []
    request = Request("POST", "https://api.example/", {}, b"{}")

    async def main() -> None:
        view = AsyncInterruptibleTransport(AsyncFunctionTransport(sent.append))
        view.interrupt()
        for begin in (
            lambda: view.send(request, 5.0),
            lambda: view.open(request, 5.0),
            lambda: view.sleep(600.0),
        ):
            with pytest.raises(StreamError), anyio.fail_after(30):
                await begin()
        assert not sent

    anyio.run(main, backend=backend)
