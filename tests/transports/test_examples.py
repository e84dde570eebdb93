"""The worked examples through the conformance kit: each is what it says it is, and no less."""

from __future__ import annotations

import threading
from pathlib import Path
from ssl import SSLContext
from typing import Any, Callable, Coroutine, Dict, Generator, Optional, TypeVar

import httpx_transport
import pytest
import urllib3
from asgi_transport import AsgiTransport, serve_app
from fetch_transport import FetchTransport, JavaScript
from httpx_transport import AsyncHttpxTransport, HttpxTransport
from twisted.internet.defer import Deferred
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.internet.threads import blockingCallFromThread
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS
from twisted_loop import perform
from twisted_transport import TwistedBody, TwistedTransport
from urllib3_transport import Urllib3Transport

from flowmaestro.testing import check_driver
from flowmaestro.testing.conformance import (
    AsyncTransportConformance,
    NotOffered,
    TransportConformance,
)
from flowmaestro.testing.conformance.check import Check
from flowmaestro_transports import Request, Response
from flowmaestro_transports.http11.tls import tls_when_needed
from tests.harness.transports.fake_fetch import AbortController, fake_fetch

EXAMPLES = Path(__file__).parents[2] / "transports" / "examples"
T = TypeVar("T")


class TestTheFunctionOfTheReadme(TransportConformance):
    def make_transport(self) -> Callable[[Request], Response]:
        page = EXAMPLES.with_name("README.md").read_text("utf-8")
        block = page.split("```python\n")[1].partition("\n\n\nwith ")[0]
        namespace: Dict[str, Any] = {}
        exec(block, namespace)
        send: Callable[[Request], Response] = namespace["send"]
        return send


class TestHttpx(TransportConformance):
    def make_transport(
        self, verify: Any = True, client_cert: Any = None, max_connections: int = 100
    ) -> HttpxTransport:
        context = tls_when_needed(verify, client_cert)()
        bound = httpx_transport.httpx.Limits(max_connections=max_connections)
        return HttpxTransport(
            httpx_transport.httpx.Client(verify=context, limits=bound),
            httpx_transport.httpx.Client(verify=context),
        )


class TestAsyncHttpx(AsyncTransportConformance):
    backends = ("asyncio",)

    def make_transport(
        self, verify: Any = True, client_cert: Any = None, max_connections: int = 100
    ) -> AsyncHttpxTransport:
        context = tls_when_needed(verify, client_cert)()
        bound = httpx_transport.httpx.Limits(max_connections=max_connections)
        return AsyncHttpxTransport(
            httpx_transport.httpx.AsyncClient(verify=context, limits=bound),
            httpx_transport.httpx.AsyncClient(verify=context),
        )


class TestUrllib3(TransportConformance):
    known_failures = Urllib3Transport.known_failures

    def make_transport(
        self, verify: Any = True, client_cert: Any = None, max_connections: int = 100
    ) -> Urllib3Transport:
        context = tls_when_needed(verify, client_cert)()
        return Urllib3Transport(
            urllib3.PoolManager(ssl_context=context, maxsize=max_connections, block=True),
            urllib3.PoolManager(ssl_context=context),
        )


class Reactor:
    """Twisted's reactor, at work in a thread; a process has it once, and cannot start it again."""

    def __init__(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self._thread = threading.Thread(target=self.reactor.run, args=(False,), daemon=True)
        self._thread.start()

    def run(self, steps: Coroutine[Any, Any, T]) -> T:
        """What a coroutine returns that awaits Deferreds."""
        return blockingCallFromThread(self.reactor, Deferred.fromCoroutine, steps)

    def stop(self) -> None:
        self.reactor.callFromThread(self.reactor.stop)
        self._thread.join(60)


@pytest.fixture(scope="session")
def reactor() -> Generator[Reactor, None, None]:
    started = Reactor()
    yield started
    started.stop()


class FromOutside:
    """A transport whose coroutines run on the reactor, for the blocking checks of the kit."""

    def __init__(self, transport: TwistedTransport, reactor: Reactor) -> None:
        self._transport, self._run = transport, reactor.run
        self.now = transport.now

    def send(self, request: Request, timeout: float) -> Response:
        return self._run(self._transport.send(request, timeout))

    def open(self, request: Request, timeout: float) -> BodyFromOutside:
        return BodyFromOutside(self._run(self._transport.open(request, timeout)), self._run)

    def sleep(self, seconds: float) -> None:
        self._run(self._transport.sleep(seconds))

    def close(self) -> None:
        self._run(self._transport.close())


class BodyFromOutside:
    def __init__(self, body: TwistedBody, run: Callable[..., Any]) -> None:
        self.status, self.headers = body.status, body.headers
        self._body, self._run = body, run

    def read(self, patience: float) -> Optional[bytes]:
        data: Optional[bytes] = self._run(self._body.read(patience))
        return data

    def close(self) -> None:
        self._run(self._body.close())


class NoFalseSuccess:
    """A failure that is declared excuses no call that succeeds, such as one to a stranger."""

    def expected(self, check: Check, finding: Exception) -> None:
        if "the call returned" in str(finding):
            raise finding
        super().expected(check, finding)  # type: ignore[misc]


class TestTwisted(NoFalseSuccess, TransportConformance):
    known_failures = TwistedTransport.known_failures

    @pytest.fixture(autouse=True)
    def on_a_reactor(self, reactor: Reactor) -> None:
        self.reactor = reactor

    def make_transport(self, verify: Any = True) -> Any:
        if isinstance(verify, SSLContext):  # Twisted's are those of pyOpenSSL
            raise NotOffered("verify=")
        trusted = None
        if verify is not True:
            authority = Certificate.loadPEM(Path(verify).read_bytes())
            trusted = trustRootFromCertificates([authority])
        reactor = self.reactor.reactor
        agent = Agent(reactor, BrowserLikePolicyForHTTPS(trusted))
        return FromOutside(TwistedTransport(agent, reactor), self.reactor)


class TestFetch(NoFalseSuccess, AsyncTransportConformance):
    backends = ("asyncio",)
    known_failures = FetchTransport.known_failures

    def make_transport(self) -> FetchTransport:
        return FetchTransport(JavaScript(fake_fetch, AbortController, dict))


class TestAsgi(AsyncTransportConformance):
    backends = ("asyncio",)
    wire = False
    app: Any = None

    def serve_site(self, respond: Any) -> Any:
        return serve_app(respond, self)

    def make_transport(self) -> AsgiTransport:
        return AsgiTransport(self.app)


def test_the_loop_passes_the_check_of_drivers(reactor: Reactor) -> None:
    transport = TwistedTransport(Agent(reactor.reactor), reactor.reactor)

    def drive(machine: Any, emit: Callable[[Any], object], store: Any) -> Any:
        return reactor.run(perform(machine, transport, emit, store))

    check_driver(drive)
    reactor.run(transport.close())
