"""A reply read whole, for an async transport that can read it piece by piece."""

from __future__ import annotations

from typing import Callable

from flowmaestro_transports import AsyncOpenResponse, Phase, Response, TransportFailure


async def whole_reply(body: AsyncOpenResponse, end: float, now: Callable[[], float]) -> Response:
    """The reply, if its body has come to its end when the clock `now` shows `end`."""
    content = bytearray()
    try:
        while piece := await body.read(max(0.0, end - now())):
            content += piece
    finally:
        await body.close()
    if piece is None:
        raise TransportFailure(Phase.REPLY_BROKEN, "the reply did not end in time", timed_out=True)
    return Response(body.status, body.headers, bytes(content))
