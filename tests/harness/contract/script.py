"""A service by script: each request gets the next reply that was written for it.

It answers in memory, and over real sockets as a server that keeps the bytes of every request.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from typing import Any, Dict, List, Sequence, Tuple
from urllib.parse import urlsplit

from flowmaestro.testing import FakeFlowMaestro, FakeReply
from flowmaestro.testing.conformance.scripted_server import Peer, ScriptedServer, reply
from flowmaestro_core.http.messages import Headers, Request, Response


@dataclass(frozen=True)
class Line:
    """One line of a script: what is asked, and the reply to it."""

    asked: str
    status: int
    body: bytes
    headers: Tuple[Tuple[str, str], ...]


def line(asked: str, status: int, body: Any = None, **headers: str) -> Line:
    """`asked` is method, a space and target below the API root; `body` becomes JSON."""
    pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
    if body is None:
        return Line(asked, status, b"", tuple(pairs))
    pairs.append(("Content-Type", "application/json"))
    return Line(asked, status, json.dumps(body).encode(), tuple(pairs))


def stream(asked: str, *events: Dict[str, Any]) -> Line:
    text = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
    return Line(asked, 200, text.encode(), (("Content-Type", "text/event-stream"),))


class Script:
    """Gives out its replies in order, and keeps what was asked as bytes."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self._lines = iter(lines)
        self.received: List[bytes] = []

    def answer(self, received: bytes) -> Line:
        self.received.append(received)
        found = next(self._lines)
        method, target, _ = received.partition(b"\r\n")[0].decode().split(" ")
        assert f"{method} {target}" == found.asked.replace(" /", " /api/v1/", 1)
        return found

    def respond(self, request: Request) -> Response:
        """Answer without a wire, as a function from request to response."""
        found = self.answer(as_bytes(request))
        return Response(found.status, Headers(found.headers), found.body)


class ScriptedFake(FakeFlowMaestro):
    """A fake that answers by script; its world never begins."""

    def __init__(self, script: Script) -> None:
        super().__init__()
        self._script = script

    def handle(self, request: Request, now: float) -> FakeReply:
        response = self._script.respond(request)
        answer = FakeReply()
        answer.complete(response.status, response.headers, body=response.body)
        return answer


def as_bytes(request: Request) -> bytes:
    """A request as HTTP/1.1 has it, without the fields that are a transport's own."""
    url = urlsplit(request.url)
    target = f"{url.path}?{url.query}" if url.query else url.path
    lines = [f"{request.method} {target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request.headers.pairs]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + request.body


def scripted_server(script: Script) -> ScriptedServer:
    """Play `script` on a loopback socket, in a `with` block, which raises what went wrong."""
    turn = threading.Lock()

    def handler(peer: Peer) -> None:
        while True:
            request = peer.read_request()
            if request is None:
                return
            assert "transfer-encoding" not in request
            with turn:
                found = script.answer(request.head + b"\r\n\r\n" + request.body)
                status = f"{found.status} Scripted"
                counted = found.status != 204
                peer.send(reply(found.body, status=status, headers=found.headers, length=counted))

    return ScriptedServer(handler)
