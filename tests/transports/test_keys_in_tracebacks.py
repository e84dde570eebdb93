"""A traceback printed with its locals, as `pytest -l` prints it, shows no API key.

Those of broken replies, on every transport: `test_secrets_in_failures.py`.
"""

from __future__ import annotations

from typing import Any, Callable, Dict

import anyio
import pytest

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient
from flowmaestro.testing import AsyncScriptedTransport, ScriptedTransport
from flowmaestro.testing.conformance.security import leaking_frame
from flowmaestro_core.http.messages import (
    Headers,
    Phase,
    Request,
    Response,
    ResponseHead,
    TransportFailure,
)

KEY = "fm_live_0123456789abcdef"
HEADERS = {"Authorization": f"Bearer {KEY}"}
ERROR = b'{"error": {"code": "boom", "message": "no"}}'


def refused(request: Request) -> Response:
    raise TransportFailure(Phase.NOT_SENT, f"refused: {request.headers['x-api-key']}")


def surprised(request: Request) -> Response:
    raise OSError("lost")


def broken(request: Request) -> Response:
    raise ZeroDivisionError


def failing(request: Request) -> Response:
    return Response(500, {}, ERROR)


CALLS: Dict[str, Callable[[Any], Any]] = {
    "a call": lambda client: client.workflows.get("wf_123"),
    "a start": lambda client: client.workflows.execute("wf_123", inputs={"a": 1}),
    "a run": lambda client: client.workflows.run("wf_123", inputs={"a": 1}),
    "pages": lambda client: list(client.workflows.iterate()),
    "a stream": lambda client: list(client.executions.stream("exec_123")),
}


def expect_no_key(call: Callable[[], Any]) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        call()
    assert leaking_frame(caught.value, KEY) is None


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("function", [refused, surprised, broken, failing])
def test_function_transport_hides_key(name: str, function: Callable[[Request], Response]) -> None:
    with FlowMaestroClient(KEY, transport=function, max_retries=0) as client:
        expect_no_key(lambda: CALLS[name](client))


@pytest.mark.parametrize("function", [refused, surprised, broken, failing])
def test_no_frame_holds_the_arguments_of_a_call(function: Callable[[Request], Response]) -> None:
    """Such as the credential that a webhook is to send."""

    async def main() -> None:
        async with AsyncFlowMaestroClient(KEY, transport=function, max_retries=0) as client:
            await client.webhooks.create("n", "https://x.test", [], headers=dict(HEADERS))

    with FlowMaestroClient(KEY, transport=function, max_retries=0) as client:
        expect_no_key(
            lambda: client.webhooks.create("n", "https://x.test", [], headers=dict(HEADERS))
        )
    expect_no_key(lambda: anyio.run(main))


BROKEN_STREAM = [
    ResponseHead(200, Headers({"Content-Type": "text/event-stream"})),
    f'event: node:started\ndata: {{"node_id": "{KEY}"'.encode(),
    TransportFailure(Phase.REPLY_BROKEN, "reset"),
]
REFUSED = TransportFailure(Phase.NOT_SENT, "not trusted", permanent=True)


def test_no_frame_holds_the_last_piece_of_a_stream() -> None:
    with FlowMaestroClient("k", transport=ScriptedTransport([BROKEN_STREAM, REFUSED])) as client:
        events = client.executions.stream("exec_1")
        expect_no_key(lambda: list(events))


def test_no_frame_holds_the_last_piece_of_an_async_stream() -> None:
    async def main() -> None:
        transport = AsyncScriptedTransport([BROKEN_STREAM, REFUSED])
        async with AsyncFlowMaestroClient("k", transport=transport) as client:
            async for _ in client.executions.stream("exec_1"):
                pass

    expect_no_key(lambda: anyio.run(main))


def test_a_key_in_a_local_would_be_seen() -> None:
    def shown(request: Request) -> Response:
        raise ZeroDivisionError

    with (
        pytest.raises(ZeroDivisionError) as caught,
        FlowMaestroClient(KEY, transport=shown, max_retries=0) as client,
    ):
        client.workflows.get(KEY)
    assert leaking_frame(caught.value, KEY) is not None
