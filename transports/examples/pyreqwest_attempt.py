"""A request as pyreqwest takes it, and what its exceptions say of how far that had come."""

from __future__ import annotations

import asyncio
from typing import Any, AsyncIterator

import anyio.lowlevel
from pyreqwest.exceptions import DecodeError, PoolTimeoutError, ReadError, RequestError

from flowmaestro_transports import Phase, Request, TransportFailure

_NOT_CONNECTED = ("tcp connect error", "dns error")


def asked(client: Any, request: Request) -> Any:
    """The builder of the request; the stack adds nothing that it would have to undo."""
    fields = {**request.headers, "accept-encoding": "identity"}
    builder = client.request(request.method, request.url).headers(fields)
    return builder.body_bytes(request.body) if request.body else builder


async def begun(streamed: Any, timeout: float) -> Any:
    """The reply to a request whose body is read piece by piece, when its head has come."""
    try:
        return await asyncio.wait_for(streamed.__aenter__(), timeout)
    except asyncio.CancelledError:  # it is pyreqwest's own: anyio's comes with the next step
        await anyio.lowlevel.checkpoint_if_cancelled()
        raise
    except Exception as error:
        raise failure_of(error, Phase.MAYBE_PROCESSED) from error


async def pieces(reply: Any) -> AsyncIterator[bytes]:
    """Those of its body, as they come."""
    while piece := await reply.body_reader.read_chunk():
        yield bytes(piece)


def failure_of(error: Exception, phase: Phase) -> TransportFailure:
    """The failure; `phase` is how far the request had come if the exception does not tell.

    A `ConnectError` or a `ConnectTimeoutError` may come after the request went out, too: only
    its causes tell.
    """
    details: Any = error.details if isinstance(error, RequestError) else None
    causes = [cause["message"] for cause in (details or {}).get("causes") or ()]
    if isinstance(error, PoolTimeoutError) or any(it.startswith(_NOT_CONNECTED) for it in causes):
        phase = Phase.NOT_SENT
    elif isinstance(error, (DecodeError, ReadError)) or "response body" in str(error):
        phase = Phase.REPLY_BROKEN
    text = str(error.args[0]) if error.args else type(error).__name__
    return TransportFailure(phase, text, timed_out=isinstance(error, TimeoutError))
