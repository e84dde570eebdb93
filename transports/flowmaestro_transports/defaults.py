"""The transports of clients created without one. Each is made at the first call."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Optional, Tuple

from flowmaestro_core.http.messages import Request, Response, TransportClosedError
from flowmaestro_transports.contract import (
    AsyncOpenResponse,
    InterruptibleTransport,
    OpenResponse,
)
from flowmaestro_transports.driving.fork_guard import NotPicklable

if TYPE_CHECKING:
    from flowmaestro_transports.anyio.transport import AnyioTransport
    from flowmaestro_transports.sockets.transport import SocketTransport


class DefaultTransport(NotPicklable):
    """A `SocketTransport`, imported at the first call."""

    _chosen: Optional[SocketTransport] = None
    _closed = False

    def send(self, request: Request, timeout: float) -> Response:
        """As `Transport.send`."""
        return self._choose().send(request, timeout)

    def open(self, request: Request, timeout: float) -> OpenResponse:
        """As `Transport.open`."""
        return self._choose().open(request, timeout)

    def sleep(self, seconds: float) -> None:
        """As `Transport.sleep`."""
        self._choose().sleep(seconds)

    now = staticmethod(time.monotonic)
    """As `Transport.now`."""

    def interruptible(self) -> InterruptibleTransport:
        """As `Interruptible.interruptible`; this, too, has it import the transport."""
        return self._choose().interruptible()

    @property
    def secrets(self) -> Tuple[str, ...]:
        """Those of the transport; this, too, has it imported."""
        return () if self._closed and self._chosen is None else self._choose().secrets

    def close(self) -> None:
        """As `Transport.close`; possibly before the first call."""
        self._closed = True
        if self._chosen is not None:
            self._chosen.close()

    def _choose(self) -> SocketTransport:
        if self._chosen is not None:
            return self._chosen
        if self._closed:
            raise TransportClosedError
        from flowmaestro_transports.sockets.transport import SocketTransport

        # One step of C: of several threads that come here at once, all get the same.
        chosen: SocketTransport = vars(self).setdefault("_chosen", SocketTransport())
        if self._closed:  # meanwhile
            chosen.close()
        return chosen


class DefaultAsyncTransport(NotPicklable):
    """An `AnyioTransport`, on asyncio and trio, imported at the first call."""

    _chosen: Optional[AnyioTransport] = None
    _closed = False

    async def send(self, request: Request, timeout: float) -> Response:
        """As `AsyncTransport.send`."""
        return await self._choose().send(request, timeout)

    async def open(self, request: Request, timeout: float) -> AsyncOpenResponse:
        """As `AsyncTransport.open`."""
        return await self._choose().open(request, timeout)

    async def sleep(self, seconds: float) -> None:
        """As `AsyncTransport.sleep`."""
        await self._choose().sleep(seconds)

    def now(self) -> float:
        """As `AsyncTransport.now`."""
        return self._made().now()

    @property
    def secrets(self) -> Tuple[str, ...]:
        """Those of the transport; this, too, has it imported."""
        return self._made().secrets

    async def close(self) -> None:
        """As `AsyncTransport.close`; possibly before the first call."""
        self._closed = True
        if self._chosen is not None:
            await self._chosen.close()

    def _choose(self) -> AnyioTransport:
        if self._closed:
            raise TransportClosedError
        return self._made()

    def _made(self) -> AnyioTransport:
        if self._chosen is None:
            from flowmaestro_transports.anyio.transport import AnyioTransport

            self._chosen = AnyioTransport()
        return self._chosen
