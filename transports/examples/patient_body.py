"""An open body that is patient, around any asynchronous iterator of bytes, on asyncio."""

from __future__ import annotations

import asyncio
from typing import Any, AsyncIterator, Callable, Coroutine, Optional

import anyio

from flowmaestro_transports import Headers, Phase, TransportFailure


class PatientBody:
    """A read that finds nothing in time is kept, for the next one to wait on.

    To cancel it would break the body: most stacks then close the connection. Whatever the
    iterator raises means that the reply broke off. `release` lets the connection go.
    """

    def __init__(
        self,
        status: int,
        headers: Headers,
        pieces: AsyncIterator[bytes],
        release: Callable[[], Coroutine[Any, Any, object]],
    ) -> None:
        self.status, self.headers = status, headers
        self._pieces, self._release = pieces, release
        self._reading: Optional[asyncio.Future[bytes]] = None

    async def read(self, patience: float) -> Optional[bytes]:
        reading = self._reading = self._reading or asyncio.ensure_future(self._piece())
        await asyncio.wait({reading}, timeout=patience)
        if not reading.done():
            return None
        try:
            piece = reading.result()
        except (Exception, asyncio.CancelledError) as error:  # as will every read from now on
            raise TransportFailure(Phase.REPLY_BROKEN, f"the body broke off: {error}") from error
        self._reading = None
        return piece

    async def close(self) -> None:
        with anyio.CancelScope(shield=True):  # it has to succeed in a cancelled task, too
            reading = self._reading = self._reading or asyncio.get_running_loop().create_future()
            reading.cancel()  # which wakes the reader
            await asyncio.wait({reading})
            await self._release()

    async def _piece(self) -> bytes:
        async for piece in self._pieces:
            if piece:
                return piece
        return b""
