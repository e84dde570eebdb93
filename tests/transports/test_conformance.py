"""Every transport of ours through the conformance kit. The grid is printed at the end."""

from __future__ import annotations

import contextlib
import ssl
from typing import Any, Callable, Generator, List, Optional, Union

import pytest

from flowmaestro.testing import AsyncMemoryTransport, FakeFlowMaestro, MemoryTransport
from flowmaestro.testing.conformance import (
    AsyncTransportConformance,
    LiveReply,
    NotOffered,
    TransportConformance,
)
from flowmaestro.testing.fake.model.replies import FakeReply
from flowmaestro_core.http.messages import Headers, Request, Response
from flowmaestro_transports import (
    AiohttpTransport,
    AnyioTransport,
    RequestsTransport,
    SocketTransport,
)
from tests.harness.runners import OnAiohttp, on_requests

Respond = Callable[[Request], Union[Response, LiveReply]]


class OffersEverything:
    """Of a transport of ours nothing may be missing."""

    def not_offered(self, error: NotOffered) -> None:
        pytest.fail(f"not offered: {error}")


class TestRequests(TransportConformance):
    known_failures = RequestsTransport.known_failures

    def make_transport(
        self, verify: Any = True, client_cert: Any = None, max_connections: Optional[int] = None
    ) -> RequestsTransport:
        if verify is True and client_cert is None:
            return RequestsTransport(max_connections=max_connections)
        if isinstance(verify, ssl.SSLContext):
            raise NotOffered("verify=", "requests takes a context by a mounted adapter alone")
        return on_requests(verify, client_cert)


class TestSockets(OffersEverything, TransportConformance):
    hostile = True
    make_transport = SocketTransport


class TestAiohttp(AsyncTransportConformance):
    backends = ("asyncio",)

    def make_transport(
        self, verify: Any = True, client_cert: Any = None, max_connections: Optional[int] = None
    ) -> AiohttpTransport:
        if verify is True and client_cert is None:
            return AiohttpTransport(max_connections=max_connections)
        return OnAiohttp(verify, client_cert)


class TestAnyio(OffersEverything, AsyncTransportConformance):
    hostile = True
    make_transport = AnyioTransport


class Respondent(FakeFlowMaestro):
    """A fake that answers as the kit says; its world never begins."""

    def __init__(self, respond: Respond) -> None:
        super().__init__()
        self._respond = respond

    def handle(self, request: Request, now: float) -> FakeReply:
        given = self._respond(request)
        if not isinstance(given, Response):
            return Ongoing(given)
        reply = FakeReply()
        body = b"" if request.method == "HEAD" else given.body
        reply.complete(given.status, given.headers, body=body)
        return reply


class Ongoing(FakeReply):
    """A reply that goes on as the kit says: the fake's reply, and its stream in one."""

    def __init__(self, live: LiveReply) -> None:
        super().__init__()
        self.closed = False
        self._live = live
        self._ended = False
        live.woken = self._look
        self._look()

    def _look(self) -> None:
        if self._live.begun.is_set() and not self.ready:
            self.complete(200, Headers(), stream=self)
        self.wake()

    def poll(self, now: float) -> Optional[bytes]:
        pieces: List[bytes] = []
        while not (self._ended or self._live.pieces.empty()):
            pieces.append(self._live.pieces.get())
            self._ended = not pieces[-1]
        data = b"".join(pieces)
        return data if data or self._ended else None

    def close(self) -> None:
        if not self._ended:
            self._live.hung_up.set()

    def abandon(self) -> None:
        self._live.hung_up.set()


class InMemory(OffersEverything):
    wire = False
    fake: Optional[FakeFlowMaestro] = None

    @contextlib.contextmanager
    def serve_site(self, respond: Respond) -> Generator[str, None, None]:
        self.fake = Respondent(respond)
        yield "http://memory.invalid"

    def world(self) -> FakeFlowMaestro:
        return self.fake or FakeFlowMaestro()


class TestMemory(InMemory, TransportConformance):
    def make_transport(self) -> MemoryTransport:
        return MemoryTransport(self.world())


class TestAsyncMemory(InMemory, AsyncTransportConformance):
    def make_transport(self) -> AsyncMemoryTransport:
        return AsyncMemoryTransport(self.world())
