"""Checks of valid responses: whole, in pieces, without a body, compressed, late.

A transport must decode the content codings that it requests. A body in which no data comes for a
while is neither an end nor a failure. A transport that cannot read on after that declares
`patient = False`. A read in which no data comes may then fail, but must neither return `b""` nor
hang. An event stream reconnects after such a failure.
"""

from __future__ import annotations

import contextlib
import gzip
import threading
import time
import zlib
from dataclasses import replace
from typing import List, Optional, Sequence, Tuple

from flowmaestro.testing.conformance.check import check, checks_of, live_body
from flowmaestro.testing.conformance.expectations import (
    HOSTILE,
    IMMEDIATE,
    LIMIT,
    STREAMS,
    WIRE,
    CheckFailed,
    NotOffered,
    ask,
    echo_body,
    expect,
    expect_echo,
    expect_end,
    expect_piece,
    expect_reply,
    read_out,
    whole,
)
from flowmaestro.testing.conformance.phases import expect_broken
from flowmaestro.testing.conformance.runner import Runner
from flowmaestro.testing.conformance.scripted_server import (
    CHUNKED,
    HEAD_CHUNKED,
    PATIENCE,
    Peer,
    answering,
    chunk,
    echo,
    reply,
)
from flowmaestro.testing.conformance.site import LiveReply
from flowmaestro_core.http.messages import Headers, Phase, Response, TransportFailure
from flowmaestro_transports.contract import AsyncOpenResponse

_TEXT = b"hello world, " * 20
_UNCOMPRESSED = "responses are not compressed, and therefore larger"


@check(why="The core decides what a 404 or a 429 means, so it must get the whole response.")
async def whole_reply(runner: Runner) -> None:
    """`send` returns status, all header fields and the whole body, also with status 4xx and 5xx."""
    headers = [("Link", "a"), ("X-Mark", "a b"), ("Link", "b")]
    url = runner.site(lambda request: Response(201, headers, request.body))
    request = ask(url, method="POST", body=_TEXT)
    response = await expect_reply(runner.transport(), request, _TEXT, 201)
    expect(response.headers.get("x-mark") == "a b", "a header field of the response was lost")
    # Two fields, or one with both values: they mean the same (RFC 9110, 5.3).
    links = ", ".join(response.headers.get_list("link"))
    expect(links == "a, b", f"of a field that occurs twice, the values were {links!r}")
    url = runner.site(lambda request: Response(int(request.url[-3:]), {}, b"no"))
    transport = runner.transport()
    for status in (400, 401, 404, 429, 500, 503):
        await expect_reply(transport, ask(url, f"/{status}"), b"no", status)


@check(STREAMS, why="Events would come late, or all at once when the stream ends.")
async def pieces_come_as_they_are_sent(runner: Runner) -> None:
    """`read` returns bytes as soon as there are any, and at the end `b""`, again and again."""
    live, body = await live_body(runner)
    expect(body.status == 200, f"the status was {body.status}, not 200")
    for piece in (b"one", b"two", b"three"):
        await runner.start(expect_piece, body, piece, live).outcome()
    live.end()
    for _ in range(2):  # A caller that reads again must not get bytes of another response.
        await expect_end(body)
    await body.close()


@check(why="The call would wait for a body until it times out.")
async def replies_without_a_body(runner: Runner) -> None:
    """A response to HEAD, or with status 204 or 304, has no body."""
    replies = {
        "HEAD": Response(200, {}, _TEXT),
        "DELETE": Response(204, {}),
        "GET": Response(304, {"ETag": '"x"'}),
    }
    url = runner.site(lambda request: replies.get(request.method) or echo_body(request))
    transport = runner.transport()
    for method, given in replies.items():
        for _ in range(2):
            await expect_reply(transport, ask(url, method=method), b"", given.status)
            await expect_echo(transport, url, b"next")


@check(WIRE, HOSTILE, why="The call would wait for a body that a 304 never has.")
async def reply_304_with_a_length(runner: Runner) -> None:
    """A response with status 304 has no body even if it has a Content-Length."""
    data = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"
    server = runner.server(answering(data, data))
    transport = runner.transport()
    for _ in range(2):
        await expect_reply(transport, ask(server.url), b"", 304)


@check(why="Documents are uploaded and results downloaded whole, whatever their size.")
async def twenty_megabytes(runner: Runner) -> None:
    """20 MB are sent and come back unchanged, read whole and in pieces."""
    content = bytes(range(256)) * 4096 * 20
    url = runner.site(echo_body)
    transport = runner.transport()
    request = ask(url, method="POST", body=content)
    response = await transport.send(request, 6 * LIMIT)
    expect(response.body == content, f"`send` returned {len(response.body)} bytes, or other ones")
    pieces = await read_out(transport, request, 6 * LIMIT)
    expect(pieces == content, "the bytes read in pieces differ")


@check(WIRE, why="A reply that is too large would take as much memory as it has, or more.")
async def a_reply_beyond_its_limit(runner: Runner) -> None:
    """`send` stops to read a body that has more than `max_reply_size` bytes, decompressed."""
    transport = runner.transport()
    if not runner.bounds_replies:
        raise NotOffered("bounds_replies", "a large reply takes as much memory as it has")
    limit, content = 100_000, bytes(20_000_000)
    for headers, data in ((), content), ([("Content-Encoding", "gzip")], gzip.compress(content)):
        server = runner.server(answering(reply(data, headers=headers)))
        request = replace(ask(server.url), max_reply_size=limit)
        got = len((await transport.send(request, LIMIT)).body)
        expect(limit < got <= limit + 2**20, f"of {len(content)} bytes, `send` returned {got}")


@check(WIRE, HOSTILE, why="Networks may split a response at any byte.")
async def counted_body(runner: Runner) -> None:
    """A body with Content-Length is read whole, even if it comes byte by byte."""
    await _expect_text(runner, reply(b"hello world"))


@check(
    WIRE,
    HOSTILE,
    why="Event streams are chunked, and chunks may have both (RFC 9112, 7.1).",
)
async def chunks_with_extensions_and_trailers(runner: Runner) -> None:
    """A chunked body that comes byte by byte is read whole, without its extensions and trailers."""
    await _expect_text(
        runner, HEAD_CHUNKED + b"6;x=y\r\nhello \r\n5;z\r\nworld\r\n0\r\nT: x\r\nU: y\r\n\r\n"
    )


@check(WIRE, HOSTILE, why="Old proxies end a body by closing its connection (RFC 9112, 6.3).")
async def body_until_the_connection_ends(runner: Runner) -> None:
    """A body without a length ends when the connection is closed."""
    await _expect_text(runner, b"HTTP/1.1 200 OK\r\n\r\nhello world", then_close=True)


async def _expect_text(runner: Runner, data: bytes, *, then_close: bool = False) -> None:
    def dribble(peer: Peer) -> None:
        while peer.read_request() is not None:
            for byte in data:
                peer.send(bytes([byte]))
                time.sleep(0.0005)  # So that they do not arrive together.
            if then_close:
                return

    server = runner.server(dribble)
    transport = runner.transport()
    await expect_reply(transport, ask(server.url), b"hello world")
    pieces = await read_out(transport, ask(server.url))
    expect(pieces == b"hello world", f"read in pieces, it was {pieces!r}")


@check(WIRE, HOSTILE, why="A 103 that is taken for the response would be an empty result.")
async def informational_replies(runner: Runner) -> None:
    """A 100 and a 103 before the final response are skipped, and so are their header fields."""
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    data = early + early + reply(b"ok", status="201 Created")
    server = runner.server(answering(data, data))
    transport = runner.transport()
    for _ in range(2):
        response = await expect_reply(transport, ask(server.url), b"ok", 201)
        expect("link" not in response.headers, "a field of the 103 is among those of the response")


@check(WIRE, HOSTILE, why="Gateways add dozens of header lines.")
async def ninety_header_lines(runner: Runner) -> None:
    """A head of 90 header lines is accepted, none of them lost."""
    await _expect_fields(runner, [(f"X-{number}", str(number)) for number in range(89)])


@check(WIRE, HOSTILE, why="Cookies, policies and tokens make lines of tens of kilobytes.")
async def a_header_line_of_60000_bytes(runner: Runner) -> None:
    """A header line of 60,000 bytes is accepted."""
    await _expect_fields(runner, [("X-Long", "x" * (60_000 - len("X-Long: \r\n")))])


async def _expect_fields(runner: Runner, fields: List[Tuple[str, str]]) -> None:
    server = runner.server(answering(reply(b"ok", headers=fields)))
    response = await expect_reply(runner.transport(), ask(server.url), b"ok")
    lost = [name for name, value in fields if response.headers.get(name) != value]
    expect(not lost, f"lost or changed: {', '.join(lost)}")


@check(WIRE, why="JSON that is still compressed cannot be read.")
async def a_compressed_body(runner: Runner) -> None:
    """A body in gzip or deflate is decompressed, if requested, and its Content-Encoding removed."""
    packed = {"gzip": gzip.compress(_TEXT), "deflate": zlib.compress(_TEXT)}
    requested = await _requested_codings(runner)
    if not any(coding in requested for coding in packed):
        raise NotOffered("gzip", _UNCOMPRESSED)
    for coding, data in packed.items():
        if coding in requested:
            await _expect_decompressed(runner, coding, data)


async def _expect_decompressed(runner: Runner, coding: str, packed: bytes) -> None:
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
    expect(
        "content-encoding" not in headers,
        "Content-Encoding was not removed although the body was decoded",
    )


@check(WIRE, HOSTILE, why="A truncated result would look complete.")
async def truncated_coded_body(runner: Runner) -> None:
    """A truncated compressed body is a failure (*reply broken*), even with a matching length."""
    await refuse_unless_asked_for(runner, "gzip")
    cut = gzip.compress(_TEXT)[:-6]
    fields = [("Content-Encoding", "gzip"), ("Connection", "close")]
    await expect_broken(runner, reply(cut, headers=fields))


async def refuse_unless_asked_for(runner: Runner, coding: str) -> None:
    """Raise `NotOffered` if the transport does not send `coding` in `Accept-Encoding`."""
    if coding not in await _requested_codings(runner):
        raise NotOffered(coding, _UNCOMPRESSED)


async def _requested_codings(runner: Runner) -> str:
    """Return the `Accept-Encoding` that the transport sends, `""` for none."""
    server = runner.server(echo)
    await runner.transport().send(ask(server.url), LIMIT)
    (request,) = server.requests
    if "accept-encoding" not in request:
        return ""
    return request["accept-encoding"]


_QUIET = 0.05
"""The usual patience, in seconds, of reads that may get no data."""

_IMPATIENT = "every quiet spell costs a reconnection, and events may be lost meanwhile"
_QUIET_WHY = "Streams are quiet while a workflow works; that must neither end nor break them."


async def _read_or_quiet(
    runner: Runner, body: AsyncOpenResponse, patience: float
) -> Optional[bytes]:
    """Return the data of one `read`; `None` if none came within its patience.

    The check fails if the `read` fails, returns `b""` (the end of the body), or returns more than
    `immediate` seconds after its patience. But if the `read` fails as *reply broken* on a transport
    that declares `patient = False`, this raises `NotOffered`.
    """
    begun, within = time.monotonic(), patience + runner.immediate
    try:
        data: Optional[bytes] = await runner.start(body.read, patience).outcome(within)
    except TransportFailure as failure:
        if runner.patient:
            raise CheckFailed(f"a quiet read failed: {failure}") from failure
        expect(
            failure.phase is Phase.REPLY_BROKEN,
            f"the phase of a quiet read was *{failure.phase.value}*",
        )
        raise NotOffered("patience", _IMPATIENT) from failure
    seconds = time.monotonic() - begun  # one that held up the event loop has ended, but late
    expect(seconds <= within, f"a read with {patience} s of patience took {seconds:.1f} s")
    expect(data != b"", 'a quiet read returned b"", the end, although the body goes on')
    return data


async def _expect_quiet(runner: Runner, body: AsyncOpenResponse, patience: float = _QUIET) -> None:
    """Check that a read without data returns `None`, at most `immediate` s after its patience.

    Raises `NotOffered` if the transport declares `patient = False` and the read fails as *reply
    broken*.
    """
    data = await _read_or_quiet(runner, body, patience)
    expect(data is None, f"a read returned {data!r} although nothing had been sent")


@check(STREAMS, why=_QUIET_WHY)
async def quiet_body(runner: Runner) -> None:
    """Without data, `read` returns None after its patience, even 0 s, and goes on, over TLS too."""
    live, body = await live_body(runner)
    for piece in (b"one", b"two"):
        for _ in range(2):
            await _expect_quiet(runner, body)
        await expect_piece(body, piece, live)
    await _expect_quiet(runner, body)
    await _expect_polled(runner, live, body)
    live.end()
    await expect_end(body)
    await body.close()
    with contextlib.suppress(NotOffered):
        await _expect_resumed(runner, b"5\r\nhe", b"llo\r\n", b"0\r\n\r\n", tls=True)


async def _expect_polled(runner: Runner, live: LiveReply, body: AsyncOpenResponse) -> None:
    """Check that a read with a patience of 0 returns received bytes, or None at once."""
    await _expect_quiet(runner, body, 0.0)
    live.send(b"one")
    got = b""
    deadline = time.monotonic() + IMMEDIATE
    while len(got) < len(b"one") and time.monotonic() < deadline:
        got += await _read_or_quiet(runner, body, 0.0) or b""
        await runner.pause(0.01)
    expect(got == b"one", f"the reads returned {got!r} instead of b'one'")


@checks_of(
    {
        "a chunk header": (b"0", b"5;x", b"=y\r", b"\nhello", b"\r\n0", b"\r\n\r\n"),
        "a chunk": (b"5\r\nhe", b"ll", b"o", b"\r", b"\n0\r\n\r", b"\n"),
    },
    WIRE,
    HOSTILE,
    STREAMS,
    why=_QUIET_WHY,
)
async def quiet_within(runner: Runner, parts: Sequence[bytes]) -> None:
    """No bytes are lost if a read returns None inside {} or inside the CRLF after it."""
    await _expect_resumed(runner, *parts)


async def _expect_resumed(runner: Runner, *parts: bytes, tls: bool = False) -> None:
    go_on = threading.Semaphore(0)

    def handler(peer: Peer) -> None:
        peer.read_request()
        peer.send(HEAD_CHUNKED)
        peer.send(parts[0])
        for part in parts[1:]:
            go_on.acquire(timeout=PATIENCE)
            peer.send(part)
        peer.wait_closed()

    server = runner.server(handler, tls=runner.authority.server_context() if tls else None)
    transport = runner.transport(verify=runner.authority.file) if tls else runner.transport()
    body = await transport.open(ask(server.url), LIMIT)
    try:
        got = b""
        for _ in parts[1:]:
            while (data := await _read_or_quiet(runner, body, _QUIET)) is not None:
                got += data
            go_on.release()
        got += await whole(body)
        expect(got == b"hello", f"the body was {got!r}, not b'hello'")
    finally:
        for _ in parts:
            go_on.release()  # The server must not keep waiting for the client.
        await body.close()
