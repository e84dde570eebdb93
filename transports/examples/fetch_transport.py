"""`fetch`, as browsers have it, for async clients on asyncio: in Pyodide, say."""

from __future__ import annotations

import asyncio
import time
import weakref

from fetch_request import JavaScript, fetch_body
from patient_body import PatientBody
from shortfalls import FETCH
from whole_reply import whole_reply

from flowmaestro_transports import Request, Response, TransportClosedError


class FetchTransport:
    """Its connections, TLS, and whom it may ask at all (CORS) are the browser's affair."""

    known_failures = FETCH

    def __init__(self, js: JavaScript) -> None:
        self._js, self._closed = js, False
        self._bodies: weakref.WeakSet[PatientBody] = weakref.WeakSet()

    async def send(self, request: Request, timeout: float) -> Response:
        end = self.now() + timeout
        return await whole_reply(await self.open(request, timeout), end, self.now)

    async def open(self, request: Request, timeout: float) -> PatientBody:
        if self._closed:
            raise TransportClosedError
        body = await fetch_body(self._js, request, timeout)
        self._bodies.add(body)
        if self._closed:  # meanwhile
            await body.close()
        return body

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def now(self) -> float:
        return time.monotonic()

    async def close(self) -> None:
        self._closed = True
        for body in list(self._bodies):
            await body.close()
