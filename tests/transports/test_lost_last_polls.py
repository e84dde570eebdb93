"""A batch on real sockets in virtual time: the server answers neither the list nor one execution.

trio's clock jumps to the next deadline once nothing has happened for `STILL` seconds. The server
runs on the same event loop, and loopback delivers while a byte is sent. So a jump never overtakes
a response, however busy the machine is.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any, Callable, List, Optional, Tuple

import h11
import trio
from trio.testing import MockClock

from flowmaestro import AsyncFlowMaestroClient
from flowmaestro.errors import TimeoutError
from flowmaestro.testing import FakeFlowMaestro, Node
from flowmaestro_core.executions.wait import LAST_POLL_TIMEOUT
from flowmaestro_core.executions.watch import LOST_BEFORE_GIVING_UP
from flowmaestro_core.http.messages import Headers, Request
from flowmaestro_transports import AnyioTransport

STILL = 0.02
"""Seconds of real time. A test takes about twenty of them."""
ROWS, TIMEOUT = 6, 4.0


class Server:
    """A fake behind sockets. It never answers a request for which `is_lost` returns True."""

    def __init__(self, fake: FakeFlowMaestro, is_lost: Callable[[Server, Request], bool]) -> None:
        self.started: List[str] = []
        """The ids of the executions that were started."""
        self.lost: List[float] = []
        """When each request came that was not answered. The clock begins at 0."""
        self._fake, self._is_lost = fake, is_lost

    async def serve(self, stream: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER)
        async with stream:
            while (request := await _received(stream, connection)) is not None:
                if self._is_lost(self, request):
                    self.lost.append(trio.current_time())
                    await trio.sleep_forever()
                reply = self._fake.handle(request, trio.current_time())
                assert reply.ready
                if request.method == "POST":
                    self.started.append(json.loads(reply.body)["data"]["execution_id"])
                head = h11.Response(
                    status_code=reply.status,
                    headers=[*reply.headers.pairs, ("Content-Length", str(len(reply.body)))],
                )
                for event in (head, h11.Data(reply.body), h11.EndOfMessage()):
                    await stream.send_all(connection.send(event) or b"")
                connection.start_next_cycle()


async def _received(stream: trio.SocketStream, connection: h11.Connection) -> Optional[Request]:
    """Return the next request; `None` if the client has left."""
    head: Any = None
    body = b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some())
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            pairs = [(name.decode(), value.decode()) for name, value in head.headers]
            url = f"http://127.0.0.1{head.target.decode()}"
            return Request(head.method.decode(), url, Headers(pairs), body)
        else:
            return None


async def run_rows(fake: FakeFlowMaestro, server: Server, outcomes: List[Any]) -> float:
    """Run a batch of `ROWS`, each of 3 s. Append its outcomes. Return the seconds that it took."""
    workflow = fake.workflow(nodes=[Node("work", seconds=3.0)])
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, server.serve, 0, host="127.0.0.1")
        (listener,) = await nursery.start(serve)
        port = listener.socket.getsockname()[1]
        async with AsyncFlowMaestroClient(
            api_key=fake.api_key, base_url=f"http://127.0.0.1:{port}", transport=AnyioTransport()
        ) as client:
            began = trio.current_time()
            batch = client.workflows.run_many(
                workflow, [{}] * ROWS, concurrency=ROWS, timeout=TIMEOUT
            )
            outcomes.extend([outcome async for outcome in batch])
            took = trio.current_time() - began
        nursery.cancel_scope.cancel()
    return took


def play(is_lost: Callable[[Server, Request], bool]) -> Tuple[List[Any], Server, float]:
    """Return the outcomes, the server, and the seconds that the batch took."""
    outcomes: List[Any] = []
    with FakeFlowMaestro() as fake:
        server = Server(fake, is_lost)
        took = trio.run(run_rows, fake, server, outcomes, clock=MockClock(autojump_threshold=STILL))
    return outcomes, server, took


def test_lost_last_poll_gives_up_no_other_row() -> None:
    def is_lost(server: Server, request: Request) -> bool:
        is_list = request.method == "GET" and "?" in request.url
        return bool(server.started) and (is_list or request.url.endswith(server.started[0]))

    outcomes, server, _ = play(is_lost)
    failed = {outcome.execution_id: outcome.error for outcome in outcomes if not outcome.ok}
    assert len(outcomes) == ROWS
    assert [*failed] == server.started[:1]
    assert isinstance(failed[server.started[0]], TimeoutError)
    assert any(came >= TIMEOUT for came in server.lost)


def test_server_that_answers_no_poll_gets_three_after_the_deadline() -> None:
    def is_lost(server: Server, request: Request) -> bool:
        return bool(server.started) and request.method == "GET"

    outcomes, server, took = play(is_lost)
    assert [outcome.ok for outcome in outcomes] == [False] * ROWS
    assert sum(came >= TIMEOUT for came in server.lost) == LOST_BEFORE_GIVING_UP == 3
    assert TIMEOUT <= took <= TIMEOUT + LOST_BEFORE_GIVING_UP * LAST_POLL_TIMEOUT
