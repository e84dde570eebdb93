"""Checks of content codings: what a transport asks for it has to undo."""

from __future__ import annotations

import gzip
import zlib

from flowmaestro.testing.conformance.check import WIRE, NotOffered, check, expect
from flowmaestro.testing.conformance.expectations import LIMIT, ask, whole
from flowmaestro.testing.conformance.failing import expect_broken
from flowmaestro.testing.conformance.runner import Runner
from flowmaestro.testing.conformance.scripted_server import CHUNKED, answering, chunk, echo, reply
from flowmaestro_core.http.messages import Headers

_TEXT = b"hello world, " * 20


@check(WIRE, why="JSON that is still compressed cannot be read.")
async def gzip_is_undone(runner: Runner) -> None:
    """A body that was compressed with gzip comes inflated, and without Content-Encoding."""
    await _expect_inflated(runner, "gzip", gzip.compress(_TEXT))


@check(WIRE, why="JSON that is still compressed cannot be read.")
async def deflate_is_undone(runner: Runner) -> None:
    """A body that was compressed with deflate comes inflated, and without Content-Encoding."""
    await _expect_inflated(runner, "deflate", zlib.compress(_TEXT))


async def _expect_inflated(runner: Runner, coding: str, packed: bytes) -> None:
    await refuse_unless_asked_for(runner, coding)
    pieces = [packed[at : at + 7] for at in range(0, len(packed), 7)]
    head = reply(headers=[CHUNKED, ("Content-Encoding", coding)], length=False)
    data = head + b"".join(map(chunk, [*pieces, b""]))
    server = runner.server(answering(data, data))
    transport = runner.transport()
    response = await transport.send(ask(server.url), LIMIT)
    _expect_plain(response.headers, response.body)
    body = await transport.open(ask(server.url), LIMIT)
    _expect_plain(body.headers, await whole(body))


def _expect_plain(headers: Headers, content: bytes) -> None:
    expect(content == _TEXT, f"the body was {content[:20]!r}..., not the text that was compressed")
    expect("content-encoding" not in headers, "Content-Encoding is still there, though undone")


@check(WIRE, why="A body cut short that passes for a whole one is half a result, taken for true.")
async def truncated_coded_body(runner: Runner) -> None:
    """A compressed body that was cut off before it was framed is a failure (*reply broken*)."""
    await refuse_unless_asked_for(runner, "gzip")
    cut = gzip.compress(_TEXT)[:-6]
    fields = [("Content-Encoding", "gzip"), ("Connection", "close")]
    await expect_broken(runner, reply(cut, headers=fields))


async def refuse_unless_asked_for(runner: Runner, coding: str) -> None:
    """Raise `NotOffered` for a transport that does not pass this coding on to the server."""
    server = runner.server(echo)
    await runner.transport().send(ask(server.url), LIMIT)
    (request,) = server.requests
    if "accept-encoding" not in request or coding not in request["accept-encoding"]:
        raise NotOffered(coding, "replies come uncompressed, and are larger")
