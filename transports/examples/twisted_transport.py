"""Twisted's HTTP client: coroutines that await Deferreds, on Twisted's reactor."""

from __future__ import annotations

import weakref
from typing import Any

from shortfalls import TWISTED
from twisted.internet.task import deferLater
from twisted.web.client import Agent
from twisted_body import TwistedBody
from twisted_request import head_of_reply
from whole_reply import whole_reply

from flowmaestro_transports import Request, Response, TransportClosedError


class TwistedTransport:
    """Asks an `Agent` of the caller's, which says whom to trust; a connection for each request."""

    known_failures = TWISTED

    def __init__(self, agent: Agent, reactor: Any) -> None:
        self._agent, self._reactor, self._closed = agent, reactor, False
        self._bodies: weakref.WeakSet[TwistedBody] = weakref.WeakSet()

    async def send(self, request: Request, timeout: float) -> Response:
        end = self.now() + timeout
        return await whole_reply(await self.open(request, timeout), end, self.now)

    async def open(self, request: Request, timeout: float) -> TwistedBody:
        if self._closed:
            raise TransportClosedError
        reply = await head_of_reply(self._agent, request, timeout, self._reactor)
        body = TwistedBody(reply, self._reactor)
        self._bodies.add(body)
        if self._closed:  # meanwhile
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
