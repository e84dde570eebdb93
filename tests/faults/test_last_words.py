"""What a server says before it tells of the end reaches the caller first, over sockets, too."""

from __future__ import annotations

import json
from typing import Any, Dict, List

import anyio
import pytest

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient, StreamTimes
from flowmaestro.testing.conformance.scripted_server import (
    CHUNKED,
    Peer,
    ScriptedServer,
    chunk,
    reply,
)
from tests.harness.faults.clients import KEY
from tests.harness.runners import RUNNERS, Runner

TIMES = StreamTimes(event_idle=0.05, event_idle_max=0.05, bytes_idle=5.0)
LAST_WORDS = b'event: node:completed\ndata: {"nodeId": "n"}\n\n'


def converse(peer: Peer) -> None:
    """An event stream that is silent until somebody asks for the execution, on another line."""
    server: Any = peer.server
    while (request := peer.read_request()) is not None:
        if request.target.endswith("/events"):
            server.stream = peer
            headers = [("Content-Type", "text/event-stream"), CHUNKED]
            peer.send(reply(headers=headers, length=False))
            peer.wait_closed()
            return
        server.stream.send(chunk(LAST_WORDS))
        ended: Dict[str, Any] = {"id": "ex_1", "status": "completed", "outputs": {"a": 1}}
        peer.send(reply(json.dumps({"data": ended}).encode()))


def events_by(runner: Runner, url: str) -> List[Any]:
    options: Dict[str, Any] = {"api_key": KEY, "base_url": url, "stream_times": TIMES}
    if runner.backend is None:
        with FlowMaestroClient(transport=runner.make(), **options) as client:
            return list(client.executions.stream("ex_1"))

    async def main() -> List[Any]:
        async with AsyncFlowMaestroClient(transport=runner.make(), **options) as client:
            return [event async for event in client.executions.stream("ex_1")]

    return anyio.run(main, backend=runner.backend)


PATIENT = [runner for runner in RUNNERS.values() if runner.name != "requests"]
"""Those that can read a quiet body again, and so ask meanwhile."""


@pytest.mark.parametrize("runner", PATIENT, ids=str)
def test_what_was_said_before_the_answer_comes_before_the_end(runner: Runner) -> None:
    with ScriptedServer(converse) as server:
        events = events_by(runner, server.url)
    assert [event["type"] for event in events] == ["node:completed", "execution:completed"]
    assert events[-1]["outputs"] == {"a": 1}
