"""httpx for async clients, on asyncio."""

from __future__ import annotations

import asyncio
import time

import anyio
import httpx
from httpx_attempt import ERRORS, Attempt
from patient_body import PatientBody
from shortfalls import ASYNC_HTTPX

from flowmaestro_transports import Headers, Request, Response, TransportClosedError


class AsyncHttpxTransport:
    """Two clients of the caller's, for calls and for open bodies, which take no place of calls."""

    known_failures = ASYNC_HTTPX

    def __init__(self, calls: httpx.AsyncClient, streams: httpx.AsyncClient) -> None:
        self._calls, self._streams = calls, streams

    async def send(self, request: Request, timeout: float) -> Response:
        reply = await _reply(self._calls, request, timeout, stream=False)
        return Response(reply.status_code, reply.headers.multi_items(), reply.content)

    async def open(self, request: Request, timeout: float) -> PatientBody:
        reply = await _reply(self._streams, request, timeout, stream=True)
        headers = Headers(reply.headers.multi_items())
        return PatientBody(reply.status_code, headers, reply.aiter_bytes(), reply.aclose)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def now(self) -> float:
        return time.monotonic()

    async def close(self) -> None:
        await self._calls.aclose()
        await self._streams.aclose()


async def _reply(
    client: httpx.AsyncClient, request: Request, timeout: float, *, stream: bool
) -> httpx.Response:
    if client.is_closed:
        raise TransportClosedError
    attempt = Attempt()
    sent = attempt.request(request, attempt.async_trace, {})
    try:
        with anyio.fail_after(timeout):
            return await client.send(sent, stream=stream, auth=None, follow_redirects=False)
    except ERRORS as error:
        raise attempt.failure(error) from error
