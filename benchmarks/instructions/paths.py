"""The hot paths, stepped as a driver steps them: `python paths.py PATH ROUNDS`.

`call` and `event` are the core's. `driver` is a whole call over a function, `unhooked` the same as
a client makes it when it has no hooks, and `otel` with OpenTelemetryHooks and no provider.

`get` and `stream` are what a user pays: a call and an event of a client, from end to end over a
socket. Their server is another process, which is not counted.
"""

from __future__ import annotations

import gc
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Dict, Generator, Optional

from flowmaestro import FlowMaestroClient
from flowmaestro_core.actions import Done, Emit, Open, Read, Send
from flowmaestro_core.context import Context
from flowmaestro_core.http.messages import Response, ResponseHead
from flowmaestro_core.machines import machine_for
from flowmaestro_core.options import ClientOptions
from flowmaestro_core.resources import Executions, Workflows
from flowmaestro_transports.driving.drivers import SyncDriver
from flowmaestro_transports.functions import as_transport
from flowmaestro_transports.observing.observers import Observers

CONTEXT = Context(ClientOptions("fm_live_0123456789abcdef"))
JSON = {"Content-Type": "application/json", "X-RateLimit-Remaining": "59"}
STARTED = Response(
    202,
    JSON,
    b'{"data":{"execution_id":"9b025244","workflow_id":"wf_1","status":"pending"},'
    b'"meta":{"request_id":"req_1","timestamp":"2026-01-01T00:00:00Z"}}',
)
FOUND = Response(200, JSON, b'{"data":{"id":"wf_1","name":"Hello"},"meta":{}}')
EVENTS = ResponseHead(200, {"Content-Type": "text/event-stream"})
EVENT = (
    b"event: node:completed\n"
    b'data: {"type":"node:completed","executionId":"9b025244","nodeId":"n1","duration":12}\n\n'
)


def call(rounds: int) -> None:
    """Build a call, make its request, read its reply."""
    for _ in range(rounds):
        machine = machine_for(Workflows.execute("wf_1", inputs={"name": "Ada"}), CONTEXT, "token")
        action = machine.start(0.0, 0.5)
        assert isinstance(action, Send)
        action = machine.response_received(STARTED, 0.1, 0.5)
        assert isinstance(action, Done)


def event(rounds: int) -> None:
    """Read one event, a chunk each, from an open stream."""
    machine = machine_for(Executions.stream("9b025244"), CONTEXT, "token")
    action = machine.start(0.0, 0.5)
    assert isinstance(action, Open)
    action = machine.stream_opened(EVENTS, 0.1, 0.5)
    for _ in range(rounds):
        assert isinstance(action, Read)
        action = machine.bytes_received(EVENT, 0.2, 0.5)
        assert isinstance(action, Emit)
        action = machine.emitted(0.2, 0.5)


def driver(rounds: int, observers: Optional[Observers] = None) -> None:
    """Carry out a call over a function."""
    transport = as_transport(lambda _: FOUND)
    for _ in range(rounds):
        machine = machine_for(Workflows.get("wf_1"), CONTEXT, "token")
        assert isinstance(SyncDriver(machine, transport, None, observers).advance(), Done)


def unhooked(rounds: int) -> None:
    """Prepare the same for a client that may have hooks and has none."""
    driver(rounds, Observers())


def otel(rounds: int) -> None:
    """Prepare the same with OpenTelemetryHooks, without a provider."""
    from flowmaestro.opentelemetry import OpenTelemetryHooks

    driver(rounds, Observers(OpenTelemetryHooks()))


@contextmanager
def client() -> Generator[FlowMaestroClient, None, None]:
    """Yield a client of the benchmarks' server."""
    command = [sys.executable, "-m", "benchmarks.server"]
    root = Path(__file__).parents[2]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=root, stdin=pipe, stdout=pipe, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        with FlowMaestroClient("fm_live_0123456789abcdef", base_url=url) as made:
            yield made
        server.stdin.close()


def get(rounds: int) -> None:
    """Make a call over a socket."""
    with client() as made:
        for _ in range(rounds):
            made.workflows.get("wf_1")


def stream(rounds: int) -> None:
    """Read events over a socket, each in a chunk of its own: ten in a round."""
    with client() as made:
        for _ in made.executions.stream(f"events-{10 * rounds}"):
            pass


PATHS: Dict[str, Callable[[int], None]] = {
    path.__name__: path for path in (call, event, driver, unhooked, otel, get, stream)
}

if __name__ == "__main__":
    gc.freeze()  # so that a full collection, which may or may not fall into the rounds, is cheap
    PATHS[sys.argv[1]](int(sys.argv[2]))
