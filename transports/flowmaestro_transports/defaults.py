"""The transports of clients created without one. Each is made at the first call."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Optional, Tuple

from flowmaestro_core.http.messages import Request, Response, TransportClosedError
from flowmaestro_transports.contract import (
    AsyncOpenResponse,
    InterruptibleTransport,
    OpenResponse,
)
from flowmaestro_transports.driving.fork_guard import ForkGuard, NotPicklable

if TYPE_CHECKING:
    from flowmaestro_transports.anyio.transport import AnyioTransport
    from flowmaestro_transports.sockets.transport import SocketTransport


class DefaultTransport(NotPicklable):
    """A `SocketTransport`, imported at the first call."""

    def __init__(self) -> None:
        self._chosen: Optional[SocketTransport] = None
        self._closed = False
        self._settle()

    def send(self, request: Request, timeout: float) -> Response:
        """As `Transport.send`."""
        return self._choose().send(request, timeout)

    def open(self, request: Request, timeout: float) -> OpenResponse:
        """As `Transport.open`."""
        return self._choose().open(request, timeout)

    def sleep(self, seconds: float) -> None:
        """As `Transport.sleep`."""
        self._choose().sleep(seconds)

    def now(self) -> float:
        """Seconds on the monotonic clock."""
        return time.monotonic()

    def interruptible(self) -> InterruptibleTransport:
        """As `Interruptible.interruptible`; this, too, has it import the transport."""
        return self._choose().interruptible()

    @property
    def secrets(self) -> Tuple[str, ...]:
        """Those of the transport; this, too, has it imported."""
        return () if self._closed and self._chosen is None else self._choose().secrets

    def close(self) -> None:
        """As `Transport.close`; possibly before the first call."""
        with self._lock_of_this_process():
            self._closed = True
        if self._chosen is not None:
            self._chosen.close()

    def _settle(self) -> None:
        """Begin with a lock that nobody holds."""
        self._lock = threading.Lock()
        self._process = ForkGuard()

    def _lock_of_this_process(self) -> threading.Lock:
        if self._process.forked:
            self._settle()
        return self._lock

    def _choose(self) -> SocketTransport:
        if self._chosen is None:
            with self._lock_of_this_process():
                if self._closed:
                    raise TransportClosedError
                if self._chosen is None:
                    from flowmaestro_transports.sockets.transport import SocketTransport

                    self._chosen = SocketTransport()
        return self._chosen


class DefaultAsyncTransport(NotPicklable):
    """An `AnyioTransport`, on asyncio and trio, imported at the first call."""

    def __init__(self) -> None:
        self._chosen: Optional[AnyioTransport] = None
        self._closed = False

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
