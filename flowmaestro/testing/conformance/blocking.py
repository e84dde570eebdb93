"""Makes a sync transport look like an awaiting one, so that each check is written once.

Nothing in it ever waits for an event loop: a coroutine over it runs to its end in one go.
"""

from __future__ import annotations

from typing import Any, Coroutine, Optional

from flowmaestro.testing.conformance.check import CheckFailed
from flowmaestro_core.http.messages import Headers, Request, Response
from flowmaestro_transports.contract import AsyncOpenResponse, OpenResponse, Transport


class Disguised:
    """A sync transport as an `AsyncTransport` that blocks."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def send(self, request: Request, timeout: float) -> Response:
        return self._transport.send(request, timeout)

    async def open(self, request: Request, timeout: float) -> AsyncOpenResponse:
        return _Body(self._transport.open(request, timeout))

    async def sleep(self, seconds: float) -> None:
        self._transport.sleep(seconds)

    def now(self) -> float:
        return self._transport.now()

    async def close(self) -> None:
        self._transport.close()


class _Body:
    def __init__(self, body: OpenResponse) -> None:
        self._body = body

    @property
    def status(self) -> int:
        return self._body.status

    @property
    def headers(self) -> Headers:
        return self._body.headers

    async def read(self, patience: float) -> Optional[bytes]:
        return self._body.read(patience)

    async def close(self) -> None:
        self._body.close()


def run_to_its_end(steps: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns that waits for nothing but sync calls."""
    try:
        steps.send(None)
    except StopIteration as end:
        return end.value
    raise CheckFailed("the transport is blocking, and yet something in it awaits")
