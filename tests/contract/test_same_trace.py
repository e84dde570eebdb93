"""One scenario over every transport on a socket: the same results, the same bytes at the server.

The bytes may differ in Host, User-Agent and the fields that belong to the connection.
"""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from typing import Any, AsyncIterator, Callable, Dict, Iterator, List, Optional, Tuple

import pytest

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient, FlowMaestroError
from flowmaestro_transports import (
    AiohttpTransport,
    AnyioTransport,
    RequestsTransport,
    SocketTransport,
)
from tests.harness.contract.script import Line, Script, line, scripted_server, stream
from tests.harness.contract.worlds import KEY, Hurried, HurriedAsync, in_loop

A_TRANSPORTS_OWN = {b"host", b"user-agent", b"connection", b"keep-alive", b"content-length"}


def event(name: str, **data: Any) -> Any:
    return {"type": name, "executionId": "exec_1", **data}


@dataclass(frozen=True)
class Step:
    """Something that a program does, and the lines of the script that it meets."""

    name: str
    do: Callable[[Any], Any]
    lines: Tuple[Line, ...]


PAGE = {"data": [{"id": "wf_1", "name": "One"}], "pagination": {"page": 1, "per_page": 20}}
STARTED = {"data": {"execution_id": "exec_1", "status": "pending"}}
BUSY = {"error": {"code": "service_unavailable", "message": "Try again"}}
MISSING = {
    "error": {"code": "resource_not_found", "message": "No such workflow"},
    "meta": {"request_id": "req_1"},
}

SCENARIO = (
    Step(
        "list",
        lambda client: client.workflows.list(page=1, per_page=20),
        (line("GET /workflows?page=1&per_page=20", 200, PAGE),),
    ),
    Step(
        "execute",
        lambda client: client.workflows.execute("wf_1", inputs={"name": "Jürgen", "n": [1, 2.5]}),
        (line("POST /workflows/wf_1/execute", 202, STARTED),),
    ),
    Step(
        "stream",
        lambda client: client.executions.stream("exec_1"),
        (
            stream(
                "GET /executions/exec_1/events",
                event("connected", status="running"),
                event("node:started", nodeId="n_1"),
                event("execution:completed", outputs={"greeting": "Grüß Gott"}),
            ),
        ),
    ),
    Step(
        "retry after a 503",
        lambda client: client.agents.get("an agent/1"),
        (
            line("GET /agents/an%20agent%2F1", 503, BUSY),
            line("GET /agents/an%20agent%2F1", 503, BUSY, Retry_After="3"),
            line("GET /agents/an%20agent%2F1", 200, {"data": {"id": "an agent/1"}}),
        ),
    ),
    Step(
        "an error",
        lambda client: client.workflows.get("wf_none"),
        (line("GET /workflows/wf_none", 404, MISSING),),
    ),
    Step(
        "put",
        lambda client: client.agents.update_memory("a_1", "u_1", working_memory="Ω"),
        (line("PUT /agents/a_1/memory/u_1", 200, {"data": {"user_id": "u_1"}}),),
    ),
    Step(
        "patch",
        lambda client: client.webhooks.update("wh_1", is_active=False),
        (line("PATCH /webhooks/wh_1", 200, {"data": {"id": "wh_1"}}),),
    ),
    Step(
        "delete",
        lambda client: client.webhooks.delete("wh_1"),
        (line("DELETE /webhooks/wh_1", 204),),
    ),
    Step(
        "post without a body",
        lambda client: client.executions.cancel("exec_1"),
        (line("POST /executions/exec_1/cancel", 200, {"data": {"status": "cancelled"}}),),
    ),
)

SPEED = 100.0
"""The retries' pauses of 4 s in all take 40 ms."""


def described(error: FlowMaestroError) -> Tuple[Any, ...]:
    return type(error).__name__, str(error), error.status_code, error.attempts, error.gave_up


def drive(client: FlowMaestroClient, transport: Hurried) -> Iterator[Any]:
    for step in SCENARIO:
        transport.random.seed(step.name)
        try:
            value = step.do(client)
            yield list(value) if hasattr(value, "__next__") else value
        except FlowMaestroError as error:
            yield described(error)


async def drive_awaiting(
    client: AsyncFlowMaestroClient, transport: HurriedAsync
) -> AsyncIterator[Any]:
    for step in SCENARIO:
        transport.random.seed(step.name)
        try:
            value = step.do(client)
            yield await value if inspect.isawaitable(value) else [item async for item in value]
        except FlowMaestroError as error:
            yield described(error)


WAYS: Dict[str, Tuple[Callable[[], Any], Optional[str]]] = {
    "sockets": (SocketTransport, None),
    "requests": (RequestsTransport, None),
    "aiohttp": (AiohttpTransport, "asyncio"),
    "anyio/asyncio": (AnyioTransport, "asyncio"),
    "anyio/trio": (AnyioTransport, "trio"),
}


def play(way: str) -> Tuple[List[Any], List[bytes]]:
    """Act the scenario out on one transport; its results, and the requests as received."""
    make, backend = WAYS[way]
    script = Script([line for step in SCENARIO for line in step.lines])
    with scripted_server(script) as server:
        headers = {"X-Custom-Header": "value"}
        options: Any = {"base_url": server.url, "headers": headers, "timeout": 7.0}
        if backend is None:
            transport = Hurried(make(), SPEED)
            with FlowMaestroClient(KEY, transport=transport, **options) as client:
                results = list(drive(client, transport))
        else:

            async def main() -> List[Any]:
                transport = HurriedAsync(make(), SPEED)
                async with AsyncFlowMaestroClient(KEY, transport=transport, **options) as client:
                    return [result async for result in drive_awaiting(client, transport)]

            results = in_loop(backend, main)
    return results, [but_for_its_own(request) for request in script.received]


def but_for_its_own(request: bytes) -> bytes:
    """A request without the fields that a transport may word for itself, the others sorted.

    The order of fields with different names means nothing (RFC 9110, 5.3).
    """
    head, blank, body = request.partition(b"\r\n\r\n")
    first, *fields = head.split(b"\r\n")
    kept = [field for field in fields if field.partition(b":")[0].lower() not in A_TRANSPORTS_OWN]
    return b"\r\n".join([first, *sorted(kept)]) + blank + body


@functools.lru_cache(maxsize=1)
def reference() -> Tuple[List[Any], List[bytes]]:
    return play("sockets")


@pytest.mark.parametrize("way", [way for way in WAYS if way != "sockets"])
def test_every_transport_does_the_same(way: str) -> None:
    results, requests = play(way)
    wanted_results, wanted_requests = reference()
    assert requests == wanted_requests
    assert results == wanted_results


def test_the_reference_is_right() -> None:
    """Lest it be the same everywhere and yet wrong."""
    results, requests = reference()
    assert len(requests) == sum(len(step.lines) for step in SCENARIO)
    ended = dict(zip((step.name for step in SCENARIO), results))
    assert ended["stream"][-1]["type"] == "execution:completed"
    assert ended["retry after a 503"].attempts == 3
    assert ended["an error"][:3] == (
        "NotFoundError",
        "[resource_not_found] No such workflow (workflow_id='wf_none') (request_id: req_1)",
        404,
    )
