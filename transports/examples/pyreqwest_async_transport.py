"""pyreqwest, a client in Rust (Python 3.11+), for async clients on asyncio."""

from __future__ import annotations

import asyncio
import time
from typing import Any, List, Set

from patient_body import PatientBody
from pyreqwest.client import Client
from pyreqwest_attempt import asked, begun, pieces
from shortfalls import ASYNC_PYREQWEST
from whole_reply import whole_reply

from flowmaestro_transports import Headers, Request, Response, TransportClosedError


class AsyncPyreqwestTransport:
    """Two clients of the caller's, for calls and for open bodies, which take no place of calls."""

    known_failures = ASYNC_PYREQWEST

    def __init__(self, calls: Client, streams: Client) -> None:
        self._calls, self._streams, self._closed = calls, streams, False
        self._bodies: Set[PatientBody] = set()

    async def send(self, request: Request, timeout: float) -> Response:
        end = self.now() + timeout
        return await whole_reply(await self._begin(self._calls, request, timeout), end, self.now)

    async def open(self, request: Request, timeout: float) -> PatientBody:
        return await self._begin(self._streams, request, timeout)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def now(self) -> float:
        return time.monotonic()

    async def close(self) -> None:
        self._closed = True
        left: List[Any] = [*self._bodies, self._calls, self._streams]
        for each in left:
            await each.close()

    async def _begin(self, client: Client, request: Request, timeout: float) -> PatientBody:
        if self._closed:
            raise TransportClosedError
        stream = asked(client, request).streamed_read_buffer_limit(0).build_streamed()
        reply = await begun(stream, timeout)

        async def release() -> None:
            if body in self._bodies:
                self._bodies.remove(body)
                await stream.__aexit__(None, None, None)

        body = PatientBody(reply.status, Headers(reply.headers.items()), pieces(reply), release)
        self._bodies.add(body)
        return body
