"""A service by script: each request gets the next reply that was written for it.

It answers in memory, and over real sockets as a server that keeps the bytes of every request.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Sequence, Tuple
from urllib.parse import urlsplit

from flowmaestro.testing import FakeFlowMaestro, FakeReply
from flowmaestro_core.http import Headers, Request, Response

PATIENCE = 10.0
"""Seconds after which the server gives up on its client."""


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
        reply = FakeReply()
        reply.settle(response.status, response.headers, body=response.body)
        return reply


def as_bytes(request: Request) -> bytes:
    """A request as HTTP/1.1 has it, without the fields that are a transport's own."""
    url = urlsplit(request.url)
    target = f"{url.path}?{url.query}" if url.query else url.path
    lines = [f"{request.method} {target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request.headers.pairs]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + request.body


@contextlib.contextmanager
def scripted_server(script: Script) -> Iterator[str]:
    """Play `script` on a loopback socket; gives the URL, and raises what went wrong."""
    server = _Server(script)
    try:
        yield server.url
    finally:
        server.stop()
    if server.errors:
        raise server.errors[0]


class _Server:
    """One thread that accepts, one for each connection; replies come one at a time."""

    def __init__(self, script: Script) -> None:
        self.errors: List[BaseException] = []
        self._script = script
        self._turn = threading.Lock()
        self._connections: List[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(PATIENCE)
        self._listener.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(PATIENCE)
            self._connections.append(connection)
            self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as reader:
                while True:
                    received = _whole_request(reader)
                    if not received:
                        return
                    with self._turn:
                        connection.sendall(_on_the_wire(self._script.answer(received)))
        except ConnectionError:
            pass
        except BaseException as error:
            self.errors.append(error)


def _whole_request(reader: Any) -> bytes:
    """The bytes of the next request; none when the client has hung up."""
    head: List[bytes] = []
    length = 0
    while not head or head[-1] != b"\r\n":
        text = reader.readline()
        if not text:
            return b""
        head.append(text)
        name, _, value = text.partition(b":")
        assert name.lower() != b"transfer-encoding"
        if name.lower() == b"content-length":
            length = int(value)
    received: bytes = b"".join(head) + reader.read(length)
    return received


def _on_the_wire(found: Line) -> bytes:
    fields = [*found.headers, ("Content-Length", str(len(found.body)))]
    head = "".join(f"{name}: {value}\r\n" for name, value in fields if found.status != 204)
    return f"HTTP/1.1 {found.status} Scripted\r\n{head}\r\n".encode() + found.body
