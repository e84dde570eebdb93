"""An async transport for one stream, whose steps another task can cut short."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any, Awaitable, Callable, Optional, TypeVar

from flowmaestro_core.http.messages import Request, Response
from flowmaestro_transports.contract import (
    AsyncOpenResponse,
    AsyncTransport,
    in_flight_of,
    wall_clock_of,
)
from flowmaestro_transports.driving.drivers import stream_closed
from flowmaestro_transports.driving.event_loops import (
    EventLoop,
    asyncio_task,
    running_loop,
    trio_task,
)

T = TypeVar("T")


class AsyncInterruptibleTransport:
    """An `AsyncTransport` that passes everything on, and keeps an eye on what takes time.

    One task at a time uses it. An open body is none of its business: closing that wakes its
    reader anyway. On an event loop that is neither asyncio's nor trio's no step is cut short.
    """

    def __init__(self, transport: AsyncTransport) -> None:
        self.random = getattr(transport, "random", None)
        self.patient: bool = getattr(transport, "patient", True)
        self.in_flight = in_flight_of(transport)
        self.wall_clock = wall_clock_of(transport)
        self.home: Optional[EventLoop] = None
        """Where the last body was opened."""
        self.now = transport.now
        """As `AsyncTransport.now`."""
        self._transport = transport
        self._cut: Optional[Callable[[], object]] = None

    def interrupt(self) -> None:
        """Cut short what is under way; the task that waits for it gets `StreamError`."""
        cut, self._cut = self._cut, None
        if cut is not None:
            cut()

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
        if trio_task() is None:
            if asyncio_task() is None:
                return await step
            if sys.version_info >= (3, 11):
                return await self._until_cut_on_asyncio(step)
        from anyio import CancelScope

        with CancelScope() as scope:
            self._cut = scope.cancel
            try:
                return await step
            finally:
                self._cut = None
        raise stream_closed()

    async def _until_cut_on_asyncio(self, step: Awaitable[T]) -> T:
        """The same at a fifth of the price, as every stream that is opened comes by here."""
        asyncio: Any = sys.modules["asyncio"]
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._cut = partial(scope.reschedule, 0.0)
                try:
                    return await step
                finally:
                    self._cut = None
        except TimeoutError:
            if scope.expired():
                raise stream_closed() from None
            raise
