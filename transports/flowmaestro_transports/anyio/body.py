"""The open body of a response on asyncio or trio, read in pieces."""

from __future__ import annotations

from typing import Optional

import anyio
from anyio.lowlevel import checkpoint

from flowmaestro_core.http.messages import Phase
from flowmaestro_transports.anyio.waiting import NETWORK_ERRORS
from flowmaestro_transports.http11.body import BodyState, OpenBody
from flowmaestro_transports.http11.failures import closed
from flowmaestro_transports.http11.round_trip import receive
from flowmaestro_transports.http11.wire import Wire


class AnyioOpenResponse(OpenBody):
    """A response whose body is still open: an `AsyncOpenResponse`.

    It holds its connection, but does not count against `max_connections`. One task reads at a time.
    Another task may close the body meanwhile, and the read then raises `TransportFailure`. A body
    that is dropped unclosed releases its connection when it is collected, in any thread.
    """

    _waiting: Optional[anyio.CancelScope] = None  # The scope of the read that waits.

    async def read(self, patience: float) -> Optional[bytes]:
        """Return some bytes of the body as soon as there are any.

        `b""` is the end of a complete body. `None` means that there were none within `patience`
        seconds. A read that is cancelled loses nothing: the next one returns the bytes.
        Raises `TransportFailure` if the body is truncated or malformed, or was closed, and
        `RuntimeError` while another task is reading.
        """
        connection = self._begin_read()
        if connection is None:
            return b""
        try:
            data = await self._next(connection.wire, patience)
            if self._state is BodyState.CLOSED:
                raise closed(Phase.REPLY_BROKEN)
            if data == b"":
                self._state = BodyState.ENDED
        except NETWORK_ERRORS as error:
            raise self._broken(error) from error
        finally:
            self._end_read(connection)
        return data

    async def close(self) -> None:
        """Release the connection now, at the end of the body or before.

        A `read` in another task wakes and raises `TransportFailure`.
        """
        self.release()

    async def _next(self, wire: Wire, patience: float) -> Optional[bytes]:
        exchange = self._exchange
        if patience <= 0 or self._early or exchange.has_more:
            # Other tasks get a turn for each piece, also when no piece has to be waited for: a
            # few kilobytes may decompress to gigabytes.
            await checkpoint()
            # If it was closed meanwhile, there was no wait to cancel.
            if self._state is BodyState.CLOSED:
                raise closed(Phase.REPLY_BROKEN)
        data = self._take()
        if data is None and patience > 0:
            try:
                with anyio.move_on_after(patience) as self._waiting:
                    while data is None:
                        await anyio.wait_readable(wire.sock)
                        receive(wire, exchange)
                        data = self._take()
            finally:
                self._waiting = None
        if data is None and self._state is not BodyState.CLOSED:
            # Look once more: the event loop may have been blocked while bytes arrived.
            receive(wire, exchange)
            data = self._take()
        return data

    def _wake_reader(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
