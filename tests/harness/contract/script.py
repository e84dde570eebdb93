"""A service by script: each request gets the next reply that was written for it.

The server keeps the bytes of every request.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from typing import Any, Dict, List, Sequence, Tuple

from flowmaestro.testing.conformance.scripted_server import Peer, ScriptedServer, reply


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
