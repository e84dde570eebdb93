"""Checks of failures: each is raised, never returned as a result, with the correct phase.

Whether the core may retry a call depends on the phase (`Phase`): *not sent*, *maybe processed* or
*reply broken*.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from functools import partial
from typing import Optional, Sequence

from flowmaestro.testing.conformance.check import check
from flowmaestro.testing.conformance.expectations import (
    HOSTILE,
    LIMIT,
    NO_HEAD,
    STREAMS,
    TIME_LIMITS,
    WIRE,
    CheckFailed,
    ask,
    expect,
    expect_bytes,
    expect_failure,
    expect_reply,
    read_out,
)
from flowmaestro.testing.conformance.runner import Runner
from flowmaestro.testing.conformance.scripted_server import (
    HEAD_CHUNKED,
    PATIENCE,
    Peer,
    answering,
    chunk,
    reply,
)
from flowmaestro_core.http.messages import Phase, Request, TransportFailure
from flowmaestro_transports.contract import AsyncTransport

_TRUNCATED = "Half of a result would be taken for all of it."
_UNCHAINED = (
    "the library's own exception is not chained: chain it, or one with its text only if its "
    "attributes or frames lead to the key"
)
_PHASE = "A wrong phase makes the core retry what has run, or not retry what has not."


@check(WIRE, why=_TRUNCATED)
async def a_truncated_body(runner: Runner) -> None:
    """A body that ends before its Content-Length or its last chunk fails as *reply broken*."""
    await expect_broken(runner, b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello")
    await expect_broken(runner, b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n")
    for body in (b"", b"5", b"5\r\nhel", b"5\r\nhello", b"5\r\nhello\r\n"):
        await expect_broken(runner, HEAD_CHUNKED + body)


@check(WIRE, HOSTILE, why=_TRUNCATED)
async def a_last_chunk_cut_short(runner: Runner) -> None:
    """A chunked body that is truncated within its last chunk is a failure (RFC 9112, 7.1)."""
    for end in (b"0", b"0\r\n", b"0\r\n\r"):
        await expect_broken(runner, HEAD_CHUNKED + b"5\r\nhello\r\n" + end)


async def expect_broken(runner: Runner, data: bytes) -> None:
    """Check that a response fails if the server sends `data` and then closes the connection.

    `send` must fail, and so must either `open` or a read of its body: all as *reply broken*.
    """
    server = runner.server(answering(data, then=Peer.close))
    await _expect_failures(runner.transport(), ask(server.url), Phase.REPLY_BROKEN)


async def _expect_failures(transport: AsyncTransport, request: Request, *phases: Phase) -> None:
    """Send `request` twice: with `send`, and with `open` and reads to the end. Both must fail.

    `phases` are the correct phases; the failure must not be a timeout. It must have the library's
    own exception as its cause, unless *reply broken* is the only correct phase.
    """
    for use in (transport.send, partial(read_out, transport)):
        failure = await expect_failure(use(request, LIMIT), *phases, timed_out=False)
        chained = phases == (Phase.REPLY_BROKEN,) or failure.__cause__ is not None
        expect(chained, _UNCHAINED)


@check(WIRE, HOSTILE, why=_TRUNCATED)
async def a_body_cut_off_under_tls(runner: Runner) -> None:
    """Under TLS, a body without a length is complete after `close_notify`, else a failure."""

    def handler(peer: Peer) -> None:
        request = peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
        if request and request.target == "/whole":
            peer.close()
        else:
            # Without `close_notify`, as an attacker between client and server can do.
            socket.socket.shutdown(peer.sock, socket.SHUT_RDWR)

    url = runner.server(handler, tls=runner.authority.server_context()).url
    verify = runner.authority.file
    await expect_reply(runner.transport(verify=verify), ask(url, "/whole"), b"hello")
    await _expect_failures(runner.transport(verify=verify), ask(url, "/half"), Phase.REPLY_BROKEN)


@check(WIRE, why=_PHASE)
async def refused_connection(runner: Runner) -> None:
    """A refused connection fails as *not sent*, with its cause chained."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        await _expect_failures(runner.transport(), ask(url), Phase.NOT_SENT)


@check(WIRE, TIME_LIMITS, why=_PHASE)
async def a_failed_handshake(runner: Runner) -> None:
    """A TLS handshake that the server ends early, or that times out, fails as *not sent*."""

    def handler(peer: Peer) -> None:
        peer.sock.recv(100)
        peer.reset()

    url = runner.server(handler).url.replace("http:", "https:")
    await _expect_lost(runner, ask(url, method="POST", body=b"{}"), Phase.NOT_SENT)
    silent = runner.server(Peer.wait_closed).url.replace("http:", "https:")
    await expect_in_time(runner, ask(silent, method="POST", body=b"{}"), Phase.NOT_SENT)


@check(WIRE, TIME_LIMITS, why=_PHASE)
async def a_request_sent_in_part(runner: Runner) -> None:
    """A request that the server resets or stops to read fails in time as *maybe processed*."""

    def handler(peer: Peer) -> None:
        peer.sock.recv(65536)
        peer.reset()

    request = ask(runner.server(handler).url, method="POST", body=bytes(20_000_000))
    await _expect_lost(runner, request, Phase.MAYBE_PROCESSED)
    await _expect_sending_ends(runner)


async def _expect_sending_ends(runner: Runner) -> None:
    """Check that a call whose server does not read the request times out."""
    seen = threading.Event()

    def handler(peer: Peer) -> None:
        seen.wait(PATIENCE)
        peer.reset()

    server = runner.server(handler)
    request = ask(server.url, method="POST", body=bytes(20_000_000))
    try:
        await expect_in_time(runner, request, Phase.MAYBE_PROCESSED, uses=("send",))
    finally:
        seen.set()
    await runner.until(lambda: not server.open_connections)
    await runner.pause(0.05)  # The client may drop its unsent bytes now.


@check(WIRE, why=_PHASE)
async def no_reply(runner: Runner) -> None:
    """A request that gets no response, but a close or a reset, fails as *maybe processed*."""
    for leave in (Peer.close, Peer.reset):
        server = runner.server(answering(b"", then=leave))
        request = ask(server.url, method="POST", body=b"{}")
        await _expect_failures(runner.transport(), request, Phase.MAYBE_PROCESSED)


@check(WIRE, HOSTILE, why=_PHASE)
async def reset_within_the_head(runner: Runner) -> None:
    """A response with a truncated head is a failure, but never *not sent*."""
    server = runner.server(answering(b"HTTP/1.1 200 OK\r\nContent-Le", then=Peer.reset))
    await _expect_lost(runner, ask(server.url), *NO_HEAD)


async def expect_in_time(
    runner: Runner,
    request: Request,
    *phases: Phase,
    uses: Sequence[str] = ("send", "open"),
    timed_out: Optional[bool] = True,
) -> None:
    """Check that concurrent calls, one with each method in `uses`, fail in time.

    A call may take `margin` longer than its time limit. `phases` are the correct phases.
    `timed_out` is the correct value of the attribute of that name; `None` accepts both.
    """
    transport = runner.transport()
    limit, within = runner.limit, runner.limit + runner.margin
    for job in [runner.start(getattr(transport, use), request, limit) for use in uses]:
        await expect_failure(job.outcome(within), *phases, timed_out=timed_out, within=within)


async def _expect_lost(runner: Runner, request: Request, *phases: Phase) -> None:
    await expect_failure(runner.transport().send(request, LIMIT), *phases, timed_out=False)


@check(WIRE, HOSTILE, STREAMS, why=_PHASE)
async def reset_within_the_body(runner: Runner) -> None:
    """A truncated body fails (*reply broken*), and so does every later read."""
    for head in (HEAD_CHUNKED + b"9\r\n", b"HTTP/1.1 200 OK\r\n\r\n"):
        go_on = threading.Event()

        def leave(peer: Peer, go_on: threading.Event = go_on) -> None:
            go_on.wait(PATIENCE)
            peer.reset()

        server = runner.server(answering(head + b"hello", then=leave))
        body = await runner.transport().open(ask(server.url), LIMIT)
        await expect_bytes(body, b"hello")
        go_on.set()
        for _ in range(2):
            await expect_failure(body.read(LIMIT), Phase.REPLY_BROKEN, timed_out=False)
        await body.close()


@check(
    WIRE,
    HOSTILE,
    STREAMS,
    why="The last events before it, often the result, would be lost.",
)
async def complete_chunks_before_failure(runner: Runner) -> None:
    """The data before a fault in the chunking are returned first; only then does a read fail."""
    for broken in (b"zz\r\nok\r\n", b"5\r\nhelloX", b"-1\r\n"):
        data = HEAD_CHUNKED + chunk(b"one") + chunk(b"two") + broken
        server = runner.server(answering(data, then=Peer.close))
        body = await runner.transport().open(ask(server.url), LIMIT)
        await expect_bytes(body, b"onetwohello" if broken.startswith(b"5") else b"onetwo")
        await expect_failure(body.read(LIMIT), Phase.REPLY_BROKEN, timed_out=False)
        await body.close()


@check(WIRE, why="A workflow would run twice, and the user would pay for both runs.")
async def nothing_is_sent_twice(runner: Runner) -> None:
    """If a reused connection is lost, the transport does not retry the request, not even a GET."""
    for method in ("GET", "DELETE", "POST"):
        server = runner.server(answering(reply(b"ok"), b"", then=Peer.reset))
        transport = runner.transport()
        await transport.send(ask(server.url, "/first"), LIMIT)
        with contextlib.suppress(TransportFailure):
            await transport.send(ask(server.url, "/second", method), LIMIT)
        times = [request.target for request in server.requests].count("/second")
        expect(times == 1, f"a {method} reached the server {times} times")


@check(WIRE, HOSTILE, why="Arbitrary bytes would become a wrong result.")
async def garbage_instead_of_a_reply(runner: Runner) -> None:
    """A response that is not HTTP is a failure."""
    for data in (b"SSH-2.0-OpenSSH\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\r\n\r\n"):
        await _expect_no_reply(runner, data, data.decode("latin-1"))


@check(WIRE, HOSTILE, why="An attacker can hide a response where two readers parse differently.")
async def a_garbled_status_line(runner: Runner) -> None:
    """A response whose status line has a malformed version or status code is a failure."""
    for line in ("HTTP/1.1 +200 OK", "HTTP/1.1 2_00 OK", "HTTP/1.1 0200 OK", "HTTP/1.x 200 OK"):
        data = line.encode() + b"\r\nContent-Length: 2\r\n\r\nok"
        await _expect_no_reply(runner, data, line)


@check(WIRE, HOSTILE, why="If the end of a response is guessed, a truncated result looks complete.")
async def a_garbled_length(runner: Runner) -> None:
    """A response is a failure if a length in it is malformed, or is given twice and differs."""
    for length in ("+2", "2x", "0x2", "2\r\nContent-Length: 1"):
        data = reply(b"ok").replace(b": 2", f": {length}".encode())
        await _expect_no_reply(runner, data, f"Content-Length: {length}")
    for size in ("+2", "2x", "0x2", ""):
        data = HEAD_CHUNKED + f"{size}\r\nok\r\n0\r\n\r\n".encode()
        await _expect_no_reply(runner, data, size)


async def _expect_no_reply(runner: Runner, data: bytes, line: str) -> None:
    server = runner.server(answering(data, then=Peer.close))
    try:
        await expect_failure(runner.transport().send(ask(server.url), LIMIT), *NO_HEAD)
    except CheckFailed as error:
        raise CheckFailed(f"{error}; the line sent was {line!r}") from error.__cause__


@check(WIRE, HOSTILE, why="A server could fill the memory of its client with one line.")
async def an_endless_header_line(runner: Runner) -> None:
    """A response with a header line of 128 KiB is a failure, even if it comes in two parts."""
    data = reply(b"ok", headers=[("X-Long", "x" * (128 * 1024))])

    def in_two_parts(peer: Peer) -> None:
        peer.read_request()
        peer.send(data[:90_000])
        time.sleep(0.05)  # A reader that counts only unread bytes would accept the second part.
        peer.send(data[90_000:])
        peer.wait_closed()

    for handler in (answering(data), in_two_parts):
        await _expect_lost(runner, ask(runner.server(handler).url), *NO_HEAD)
