"""An awaiting transport for one stream, whose steps another task can cut short."""

from __future__ import annotations

from typing import TYPE_CHECKING, Awaitable, Optional, TypeVar

from flowmaestro_core.http import Request, Response
from flowmaestro_transports.contract import AsyncOpenResponse, AsyncTransport
from flowmaestro_transports.drivers import dice_of, in_flight_of, stream_closed
from flowmaestro_transports.event_loops import EventLoop, current_task, running_loop

if TYPE_CHECKING:
    from anyio import CancelScope

T = TypeVar("T")


class AsyncInterruptibleTransport:
    """An `AsyncTransport` that passes everything on, and keeps an eye on what takes time.

    One task at a time uses it. An open body is none of its business: closing that wakes its
    reader anyway. On an event loop that is neither asyncio's nor trio's no step is cut short.
    """

    def __init__(self, transport: AsyncTransport) -> None:
        self.random = dice_of(transport)
        self.in_flight = in_flight_of(transport)
        self.home: Optional[EventLoop] = None
        """Where the last body was opened."""
        self.now = transport.now
        """As `AsyncTransport.now`."""
        self._transport = transport
        self._step: Optional[CancelScope] = None

    def interrupt(self) -> None:
        """Cut short what is under way; whoever waits for it gets `StreamError`."""
        if self._step is not None:
            self._step.cancel()

    async def send(self, request: Request, timeout: float) -> Response:
        """As `AsyncTransport.send`."""
        return await self._until_interrupted(self._transport.send(request, timeout))

    async def open(self, request: Request, timeout: float) -> AsyncOpenResponse:
        """As `AsyncTransport.open`."""
        self.home = running_loop()
        return await self._until_interrupted(self._transport.open(request, timeout))

    async def sleep(self, seconds: float) -> None:
        """As `AsyncTransport.sleep`."""
        await self._until_interrupted(self._transport.sleep(seconds))

    async def close(self) -> None:
        """As `AsyncTransport.close`."""
        await self._transport.close()

    async def _until_interrupted(self, step: Awaitable[T]) -> T:
        if current_task() is None:
            return await step
        from anyio import CancelScope

        with CancelScope() as self._step:
            try:
                return await step
            finally:
                self._step = None
        raise stream_closed()
