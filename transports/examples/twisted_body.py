"""An open body on Twisted: patient, since Twisted brings bytes whether somebody waits or not."""

from __future__ import annotations

from typing import Any, Optional

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone

from flowmaestro_transports import Headers, Phase, TransportFailure


class TwistedBody(Protocol):
    """What a reply is delivered to. One without a length looks the same ended and cut off."""

    transport: Any = None

    def __init__(self, reply: Any, reactor: Any) -> None:
        fields = reply.headers.getAllRawHeaders()
        pairs = [(name.decode(), text.decode("latin-1")) for name, each in fields for text in each]
        self.status, self.headers = reply.code, Headers(pairs)
        self._reactor, self._data = reactor, bytearray()
        self._end: Any = None
        self._waiting: Optional[Deferred[None]] = None
        reply.deliverBody(self)

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
        if self._end.check(ResponseDone):
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
