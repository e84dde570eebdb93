"""What most checks have in common: requests as the core makes them, and bodies read out."""

from __future__ import annotations

from typing import Any, Callable, List, Union

from flowmaestro.testing.conformance.check import CheckFailed, expect
from flowmaestro.testing.conformance.site import LiveReply
from flowmaestro_core.http.messages import Headers, Request, Response
from flowmaestro_transports.contract import AsyncOpenResponse, AsyncTransport

KEY = "fm_live_conformance"
"""The key of every request."""
LIMIT = 10.0
"""Seconds: the time limit, or the patience, of what is not about time."""


def ask(
    url: str, path: str = "/", method: str = "GET", body: bytes = b"", **headers: str
) -> Request:
    """A request such as the core makes."""
    fields = {
        "X-API-Key": KEY,
        "User-Agent": "conformance/1",
        "Accept": "*/*",
        "Accept-Encoding": "gzip, deflate",
        **headers,
    }
    return Request(method, url + path, Headers(fields), body)


def echo(request: Request) -> Response:
    """What a site answers that gives each request its own body back."""
    return Response(200, {}, request.body)


def beside(live: LiveReply) -> Callable[[Request], Union[Response, LiveReply]]:
    """What a site answers that gives `live` to GET, and any other request its own body back."""
    return lambda request: live if request.method == "GET" else echo(request)


async def expect_reply(
    transport: AsyncTransport, request: Request, body: bytes, status: int = 200
) -> Response:
    """A call gets this reply."""
    reply = await transport.send(request, LIMIT)
    expect(reply.status == status, f"the reply was {reply}, not one with status {status}")
    expect(reply.body == body, f"the reply was {reply.body[:40]!r}, not {body[:40]!r}")
    return reply


async def expect_echo(transport: AsyncTransport, url: str, body: bytes) -> None:
    """A call gets its own body back."""
    await expect_reply(transport, ask(url, method="POST", body=body), body)


async def read_out(transport: AsyncTransport, request: Request, timeout: float = LIMIT) -> bytes:
    """The body of a reply, read piece by piece to its end."""
    body = await transport.open(request, timeout)
    try:
        return await whole(body)
    finally:
        await body.close()


async def whole(body: AsyncOpenResponse) -> bytes:
    """The rest of a body, read to its end."""
    pieces: List[bytes] = []
    while True:
        piece = await body.read(LIMIT)
        if piece is None:
            raise CheckFailed("a body that was all there came to a halt")
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)


async def expect_piece(body: AsyncOpenResponse, wanted: bytes, live: LiveReply) -> None:
    """What `live` sends now is what comes."""
    live.send(wanted)
    await expect_bytes(body, wanted)


async def expect_bytes(body: AsyncOpenResponse, wanted: bytes) -> None:
    """These bytes of a body come, in however many pieces."""
    got = b""
    while len(got) < len(wanted):
        piece = await body.read(LIMIT)
        if not piece:
            raise CheckFailed(f"{piece!r} came behind {got!r}, instead of bytes that were there")
        got += piece
    expect(got == wanted, f"{got!r} came instead of {wanted!r}")


async def expect_end(body: AsyncOpenResponse) -> None:
    """The body has come to its end."""
    data: Any = await body.read(LIMIT)
    expect(data == b"", f"{data!r} came where the body ends")
