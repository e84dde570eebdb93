"""An async transport for one stream, whose operations another task can interrupt."""

from __future__ import annotations

from typing import Any, Awaitable, Callable, Optional, TypeVar

from flowmaestro_core.http.messages import Request, Response
from flowmaestro_transports.contract import AsyncOpenResponse, AsyncTransport
from flowmaestro_transports.driving.drivers import handle_closed
from flowmaestro_transports.driving.event_loops import current_task

T = TypeVar("T")


class AsyncInterruptibleTransport:
    """A view of an `AsyncTransport` for one stream. It has no `close`.

    Another task can interrupt `send`, `open` and `sleep`. One task at a time uses it. Reads of an
    open body are not interrupted here, because closing the body wakes its reader anyway. On an
    event loop other than those of asyncio and trio, an operation in flight is not interrupted, only
    every later one.
    """

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport
        self._cut: Optional[Callable[[], object]] = None
        self._interrupted = False
        self.now: Callable[[], float] = transport.now  # each item asks for it
        """Returns the time of the transport's monotonic clock, in seconds."""

    def interrupt(self) -> None:
        """Interrupt the operation in flight, and every later one. May be called twice.

        The operation in flight raises `StreamError`, unless it has ended just before. A later
        operation raises `StreamError` at once.
        """
        self._interrupted = True
        if self._cut is not None:
            self._cut()

    async def send(self, request: Request, timeout: float) -> Response:
        """Send the request and receive the whole response, all within `timeout` seconds.

        Raises what the inner transport raises, and `StreamError` if interrupted.
        """
        return await self._until_interrupted(self._transport.send, request, timeout)

    async def open(self, request: Request, timeout: float) -> AsyncOpenResponse:
        """Send the request and receive the head of the response within `timeout` seconds.

        `timeout` does not bound the body. Raises what the inner transport raises, and `StreamError`
        if interrupted.
        """
        return await self._until_interrupted(self._transport.open, request, timeout)

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds`.

        Raises what the inner transport raises, and `StreamError` if interrupted.
        """
        await self._until_interrupted(self._transport.sleep, seconds)

    async def _until_interrupted(self, begin: Callable[..., Awaitable[T]], *args: Any) -> T:
        if not self._interrupted:
            if current_task() is None:
                return await begin(*args)
            from anyio import CancelScope

            with CancelScope() as scope:
                self._cut = scope.cancel
                try:
                    return await begin(*args)
                finally:
                    self._cut = None
        raise handle_closed("stream")  # Its driver is closed, and raises its own instead.
