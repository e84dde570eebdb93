"""What most checks have in common: requests as the core makes them, and bodies read out."""

from __future__ import annotations

from typing import Any, List

from flowmaestro.testing.conformance.check import CheckFailed, expect
from flowmaestro_core.http.messages import Headers, Request, Response
from flowmaestro_transports.contract import AsyncOpenResponse

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


async def some(body: AsyncOpenResponse, length: int) -> bytes:
    """So many bytes of a body, in however many pieces."""
    got = b""
    while len(got) < length:
        piece = await body.read(LIMIT)
        if not piece:
            raise CheckFailed(f"{piece!r} came instead of bytes that were there")
        got += piece
    return got


async def expect_end(body: AsyncOpenResponse) -> None:
    """The body has come to its end."""
    data: Any = await body.read(LIMIT)
    expect(data == b"", f"{data!r} came where the body ends")
