"""httpx2 or httpx, for sync clients and for async clients on asyncio.

httpx2 continues httpx, needs Python 3.11, and has the same API. Keep the import of the one that you
use.

Its extension `trace` tells how far a request came before it failed.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any, Dict, Mapping

import anyio
from bodies import ImpatientBody, ImpatientTransport, PatientBody

from flowmaestro_transports import (
    Headers,
    Phase,
    Request,
    Response,
    ResponseHead,
    TransportClosedError,
    TransportFailure,
)

if sys.version_info >= (3, 11):
    import httpx2 as httpx
else:
    import httpx

_ERRORS = (httpx.HTTPError, httpx.StreamError, TimeoutError)
"""All exceptions of httpx and of a time limit around it."""

_TIMEOUTS = (httpx.TimeoutException, TimeoutError)
_PHASES = {
    "send_request_headers.started": Phase.MAYBE_PROCESSED,
    "receive_response_headers.complete": Phase.REPLY_BROKEN,
}
_LONGEST_LINE = 100_000
"""The most bytes of a header line. httpx bounds what it holds of a head, not each line of it."""


class _Attempt:
    """One attempt, and how far it has come."""

    phase = Phase.NOT_SENT
    _connection: Any = None

    def trace(self, event: str, _: object) -> None:
        # The name of an event begins with `http11.` or `http2.`.
        self.phase = _PHASES.get(event.partition(".")[2], self.phase)

    async def async_trace(self, event: str, info: Mapping[str, Any]) -> None:
        self.trace(event, info)
        if event == "connection.connect_tcp.complete":
            self._connection = info["return_value"]
        elif event == "connection.start_tls.failed":
            # If a cancellation ended the handshake, httpx leaves the connection open.
            with anyio.CancelScope(shield=True):
                await self._connection.aclose()

    def request(self, request: Request, trace: Any, limits: Mapping[str, float]) -> httpx.Request:
        """Return the request for httpx, which does not notice a truncated compressed body."""
        return httpx.Request(
            request.method,
            request.url,
            headers={**request.headers, "accept-encoding": "identity"},
            content=request.body or None,
            extensions={"trace": trace, "timeout": limits},
        )

    def failure(self, error: BaseException) -> TransportFailure:
        """Return the failure. Raise it outside of `except`, so that `error` is not its context.

        The cause has only the text of `error`, whose attribute `request` has the key.
        """
        late = isinstance(error, _TIMEOUTS)
        text = str(error) or type(error).__name__
        failure = TransportFailure(self.phase, text, timed_out=late)
        failure.__cause__ = Exception(f"{type(error).__name__}: {text}")
        return failure


def _has_long_lines(response: httpx.Response) -> bool:
    return any(len(name) + len(value) > _LONGEST_LINE for name, value in response.headers.raw)


def _too_long() -> TransportFailure:
    return TransportFailure(Phase.REPLY_BROKEN, "a header line of the reply is too long")


class HttpxTransport(ImpatientTransport[httpx.Client]):
    """httpx for sync clients, made of two `httpx.Client`.

    A body keeps the patience of its first read.
    """

    def begin(self, pool: httpx.Client, request: Request, timeout: float) -> ImpatientBody:
        attempt = _Attempt()
        limits = {"pool": timeout, "connect": timeout, "write": timeout, "read": timeout}
        sent = attempt.request(request, attempt.trace, limits)
        try:
            response = pool.send(sent, stream=True, auth=None, follow_redirects=False)
        except _ERRORS as error:
            failure = attempt.failure(error)
        else:
            return self._opened(response, attempt, limits)
        raise failure  # Here, where `error` is not its context.

    def _opened(
        self, response: httpx.Response, attempt: _Attempt, limits: Dict[str, float]
    ) -> ImpatientBody:
        if _has_long_lines(response):
            response.close()
            raise _too_long()
        pieces = response.iter_bytes()

        def read(patience: float) -> bytes:
            limits["read"] = patience
            return next(pieces, b"")

        head = ResponseHead(response.status_code, response.headers.multi_items())
        connection = response.extensions["network_stream"].get_extra_info("socket")
        return ImpatientBody(head, read, attempt.failure, connection, response.close)

    def close_pool(self, pool: httpx.Client) -> None:
        pool.close()


class AsyncHttpxTransport:
    """httpx for async clients, on asyncio, made of two `httpx.AsyncClient`: calls and streams."""

    def __init__(self, calls: httpx.AsyncClient, streams: httpx.AsyncClient) -> None:
        self._calls, self._streams = calls, streams

    async def send(self, request: Request, timeout: float) -> Response:
        response = await _send(self._calls, request, timeout, stream=False)
        return Response(response.status_code, response.headers.multi_items(), response.content)

    async def open(self, request: Request, timeout: float) -> PatientBody:
        response = await _send(self._streams, request, timeout, stream=True)
        headers = Headers(response.headers.multi_items())
        return PatientBody(response.status_code, headers, response.aiter_bytes(), response.aclose)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def now(self) -> float:
        return time.monotonic()

    async def close(self) -> None:
        await self._calls.aclose()
        await self._streams.aclose()


async def _send(
    client: httpx.AsyncClient, request: Request, timeout: float, *, stream: bool
) -> httpx.Response:
    if client.is_closed:
        raise TransportClosedError
    attempt = _Attempt()
    sent = attempt.request(request, attempt.async_trace, {})
    try:
        with anyio.fail_after(timeout):
            response = await client.send(sent, stream=stream, auth=None, follow_redirects=False)
    except _ERRORS as error:
        failure = attempt.failure(error)
    else:
        if _has_long_lines(response):
            await response.aclose()
            raise _too_long()
        return response
    raise failure  # Here, where `error` is not its context.
