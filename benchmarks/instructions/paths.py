"""The core's hot paths, stepped as a driver steps them: `python paths.py PATH ROUNDS`."""

from __future__ import annotations

import gc
import sys
from typing import Callable, Dict

from flowmaestro_core.actions import Done, Emit, Open, Read, Send
from flowmaestro_core.context import Context
from flowmaestro_core.http.messages import Response, ResponseHead
from flowmaestro_core.options import ClientOptions
from flowmaestro_core.resources import Executions, Workflows

CONTEXT = Context(ClientOptions("fm_live_0123456789abcdef"))
JSON = {"Content-Type": "application/json", "X-RateLimit-Remaining": "59"}
STARTED = Response(
    202,
    JSON,
    b'{"data":{"execution_id":"9b025244","workflow_id":"wf_1","status":"pending"},'
    b'"meta":{"request_id":"req_1","timestamp":"2026-01-01T00:00:00Z"}}',
)
EVENTS = ResponseHead(200, {"Content-Type": "text/event-stream"})
EVENT = (
    b"event: node:completed\n"
    b'data: {"type":"node:completed","executionId":"9b025244","nodeId":"n1","duration":12}\n\n'
)


def call(rounds: int) -> None:
    """Build a call, make its request, read its reply."""
    for _ in range(rounds):
        machine = Workflows.execute("wf_1", inputs={"name": "Ada"}).machine(CONTEXT, "token")
        action = machine.start(0.0, 0.5)
        assert isinstance(action, Send)
        action = machine.response_received(STARTED, 0.1, 0.5)
        assert isinstance(action, Done)


def event(rounds: int) -> None:
    """Read one event, a chunk each, from an open stream."""
    machine = Executions.stream("9b025244").machine(CONTEXT, "token")
    action = machine.start(0.0, 0.5)
    assert isinstance(action, Open)
    action = machine.stream_opened(EVENTS, 0.1, 0.5)
    for _ in range(rounds):
        assert isinstance(action, Read)
        action = machine.bytes_received(EVENT, 0.2, 0.5)
        assert isinstance(action, Emit)
        action = machine.emitted(0.2, 0.5)


PATHS: Dict[str, Callable[[int], None]] = {"call": call, "event": event}

if __name__ == "__main__":
    gc.freeze()  # so that a full collection, which may or may not fall into the rounds, is cheap
    PATHS[sys.argv[1]](int(sys.argv[2]))
