"""Every transport of ours behind one blocking face, so that one test can be put to all of them."""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Dict, Iterator, Optional

import pytest
from anyio.from_thread import start_blocking_portal

from flowmaestro_core.http.messages import Headers, Phase, Request, Response, TransportFailure
from flowmaestro_transports import (
    AiohttpTransport,
    AnyioTransport,
    RequestsTransport,
    SocketTransport,
)
from flowmaestro_transports.contract import secrets_of

LANES: Dict[str, Any] = {
    "sockets": (SocketTransport, None),
    "requests": (RequestsTransport, None),
    "aiohttp": (AiohttpTransport, "asyncio"),
    "anyio-asyncio": (AnyioTransport, "asyncio"),
    "anyio-trio": (AnyioTransport, "trio"),
}
"""Name: the transport, and the backend of the event loop that it runs on."""

Call = Callable[..., Any]


def _plainly(call: Call, *args: Any) -> Any:
    return call(*args)


class Body:
    def __init__(self, call: Call, body: Any) -> None:
        self.status, self.headers = body.status, body.headers
        self._call, self._body = call, body

    def read(self, patience: float) -> Optional[bytes]:
        return self._call(self._body.read, patience)

    def read_all(self) -> bytes:
        pieces = []
        while True:
            piece = self.read(5.0)
            assert piece is not None
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)

    def close(self) -> None:
        self._call(self._body.close)


class Driven:
    """A transport whose coroutines, if it has any, run to their end."""

    def __init__(self, call: Call, transport: Any) -> None:
        self._call, self._transport = call, transport
        self.secrets = secrets_of(transport)

    def send(self, request: Request, timeout: float = 5.0) -> Response:
        response: Response = self._call(self._transport.send, request, timeout)
        return response

    def open(self, request: Request, timeout: float = 5.0) -> Body:
        return Body(self._call, self._call(self._transport.open, request, timeout))


class Runner:
    """One way to carry a request: `with lane(**options) as transport: ...`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.transport, self.backend = LANES[name]

    def needs(self, check: str) -> None:
        """Skip a test of what this transport says that it falls short of."""
        declared = getattr(self.transport, "falls_short", {})
        if check in declared:
            pytest.skip(f"{check}: {declared[check]}")

    @contextlib.contextmanager
    def __call__(self, *args: Any, **options: Any) -> Iterator[Driven]:
        made = self.transport(*args, **options)
        with contextlib.ExitStack() as stack:
            call: Call = _plainly
            if self.backend is not None:
                call = stack.enter_context(start_blocking_portal(self.backend)).call
            stack.callback(call, made.close)
            yield Driven(call, made)


@contextlib.contextmanager
def fails(phase: Phase, text: str = "", *, timed_out: bool = False) -> Iterator[Any]:
    with pytest.raises(TransportFailure, match=text or None) as caught:
        yield caught
    assert (caught.value.phase, caught.value.timed_out) == (phase, timed_out), caught.value


def get(server: Any, path: str = "/", **headers: str) -> Request:
    return Request("GET", f"{server.url}{path}", Headers(headers))


def post(server: Any, body: bytes = b"{}", **headers: str) -> Request:
    return Request("POST", f"{server.url}/things", Headers(headers), body)
