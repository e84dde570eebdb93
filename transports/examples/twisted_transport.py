"""Twisted's HTTP client: coroutines that await Deferreds, on Twisted's reactor."""

from __future__ import annotations

import io
import weakref
from typing import Any, Optional

from bodies import read_response
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web import client
from twisted.web.http_headers import Headers as TwistedHeaders

from flowmaestro_transports import (
    Headers,
    Phase,
    Request,
    Response,
    TransportClosedError,
    TransportFailure,
)

_SENT = (client.RequestGenerationFailed, client.RequestTransmissionFailed, client.ResponseFailed)
_AS_IF_SENT = "It fails as if the request had been sent, so a POST is not retried."


class TwistedTransport:
    """Made of an `Agent` with your TLS settings. It uses a connection for each request."""

    known_failures = {
        **dict.fromkeys(
            (
                "a-stranger-is-refused",
                "a-failed-handshake",
            ),
            _AS_IF_SENT,
        ),
        "no-secret-is-reachable-from-a-failure": "The stack's own exception has the request.",
    }

    def __init__(self, agent: client.Agent, reactor: Any) -> None:
        self._agent, self._reactor, self._closed = agent, reactor, False
        self._bodies: weakref.WeakSet[TwistedBody] = weakref.WeakSet()

    async def send(self, request: Request, timeout: float) -> Response:
        end = self.now() + timeout
        return await read_response(await self.open(request, timeout), end, self.now)

    async def open(self, request: Request, timeout: float) -> TwistedBody:
        if self._closed:
            raise TransportClosedError
        response = await _request(self._agent, request, timeout, self._reactor)
        body = TwistedBody(response, self._reactor)
        self._bodies.add(body)
        if self._closed:  # Another coroutine closed the transport while the request began.
            await body.close()
        return body

    async def sleep(self, seconds: float) -> None:
        await deferLater(self._reactor, seconds)

    def now(self) -> float:
        return float(self._reactor.seconds())

    async def close(self) -> None:
        self._closed = True
        for body in list(self._bodies):
            await body.close()


class TwistedBody(Protocol):
    """The protocol that a response is delivered to.

    It is patient, because Twisted delivers bytes whether a coroutine waits or not. If the body has
    no length, its end and its truncation look the same.
    """

    transport: Any = None

    def __init__(self, response: Any, reactor: Any) -> None:
        fields = response.headers.getAllRawHeaders()
        pairs = [(name.decode(), text.decode("latin-1")) for name, each in fields for text in each]
        self.status, self.headers = response.code, Headers(pairs)
        self._reactor, self._data = reactor, bytearray()
        self._end: Any = None
        self._waiting: Optional[Deferred[None]] = None
        response.deliverBody(self)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        self._data += data
        self._wake()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        self._end = self._end or reason
        self._wake()

    async def read(self, patience: float) -> Optional[bytes]:
        if not self._data and self._end is None:
            waiting = self._waiting = Deferred()
            alarm = self._reactor.callLater(max(0, patience), self._wake)
            await waiting
            if alarm.active():
                alarm.cancel()
        if self._data or self._end is None:
            data, self._data = bytes(self._data), bytearray()
            return data or None
        if self._end.check(client.ResponseDone):
            return b""
        raise TransportFailure(Phase.REPLY_BROKEN, "the body broke off") from self._end.value

    async def close(self) -> None:
        if self._end is None:
            self._data.clear()
            self.connectionLost(connectionDone)
            self.transport.loseConnection()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.called:
            self._waiting.callback(None)


async def _request(agent: client.Agent, request: Request, timeout: float, reactor: Any) -> Any:
    """Send a request. Return the `IResponse` once its head is there.

    Twisted reports a failed TLS handshake as a request that was sent.
    """
    end = reactor.seconds() + timeout
    fields = {**request.headers, "accept-encoding": "identity"}
    headers = TwistedHeaders({name: [text] for name, text in fields.items()})
    producer: Any = client.FileBodyProducer
    body = producer(io.BytesIO(request.body)) if request.body else None
    try:
        response = agent.request(request.method.encode(), request.url.encode(), headers, body)
        return await response.addTimeout(timeout, reactor)
    except Exception as error:
        phase = Phase.MAYBE_PROCESSED if isinstance(error, _SENT) else Phase.NOT_SENT
        late = reactor.seconds() >= end
        raise TransportFailure(phase, "no reply", timed_out=late) from error
