"""What both httpx transports share: the request as httpx sends it, and how far it has come."""

from __future__ import annotations

from typing import Any, Mapping

import anyio
import httpx

from flowmaestro_transports import Phase, Request, TransportFailure

ERRORS = (httpx.HTTPError, httpx.StreamError, TimeoutError)
"""All that comes out of httpx, or of a time limit around it."""


_LATE = (httpx.TimeoutException, TimeoutError)
_PHASES = {
    "send_request_headers.started": Phase.MAYBE_PROCESSED,
    "receive_response_headers.complete": Phase.REPLY_BROKEN,
}


class Attempt:
    """One attempt. httpx tells it by its extension `trace` how far it has come."""

    phase = Phase.NOT_SENT
    _connection: Any = None

    def trace(self, event: str, _: object) -> None:
        self.phase = _PHASES.get(event.partition(".")[2], self.phase)  # behind http11 or http2

    async def async_trace(self, event: str, info: Mapping[str, Any]) -> None:
        self.trace(event, info)
        if event == "connection.connect_tcp.complete":
            self._connection = info["return_value"]
        elif event == "connection.start_tls.failed":  # if by cancellation, httpx leaves it open
            with anyio.CancelScope(shield=True):
                await self._connection.aclose()

    def request(self, request: Request, trace: Any, limits: Mapping[str, float]) -> httpx.Request:
        """The request for httpx, which would not notice where a compressed body is cut off."""
        return httpx.Request(
            request.method,
            request.url,
            headers={**request.headers, "accept-encoding": "identity"},
            content=request.body or None,
            extensions={"trace": trace, "timeout": limits},
        )

    def failure(self, error: BaseException) -> TransportFailure:
        late = isinstance(error, _LATE)
        return TransportFailure(self.phase, str(error) or type(error).__name__, timed_out=late)
