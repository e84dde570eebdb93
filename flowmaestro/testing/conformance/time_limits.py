"""Checks of time limits: each ends what it bounds, and says how far things had come.

Limits are short. A check that waits for one has a second try with longer ones when its result
is not the declared one, so that a busy machine does not decide the outcome.
"""

from __future__ import annotations

import socket
import threading
import time

from flowmaestro.testing.conformance.check import (
    AT_ONCE,
    STREAMS,
    TIME_LIMITS,
    WIRE,
    check,
    expect,
    expect_failure,
)
from flowmaestro.testing.conformance.expectations import ask, echo, expect_end, expect_piece
from flowmaestro.testing.conformance.runner import Runner
from flowmaestro.testing.conformance.scripted_server import CHUNKED, PATIENCE, Handler, Peer, reply
from flowmaestro.testing.conformance.site import LiveReply
from flowmaestro_core.http.messages import Phase, Request
from flowmaestro_transports.contract import AsyncTransport

_HANGS = "A call would hang although its user has said how long it may take."


@check(why="Retries, polls and deadlines are measured on it.")
async def clock(runner: Runner) -> None:
    """`sleep` lets as much time pass as `now` then shows."""
    runner.site(echo)  # made before the transport, whose clock may be the site's
    transport = runner.transport()
    begun = transport.now()
    await transport.sleep(0.05)
    passed = transport.now() - begun
    expect(0.04 <= passed <= 0.05 + AT_ONCE, f"a sleep of 0.05 s took {passed} s")


@check(WIRE, TIME_LIMITS, why=_HANGS)
async def connect_timeout(runner: Runner) -> None:
    """When a connection takes too long, nothing was sent."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(3)]
        try:
            for each in waiting:  # the kernel's queue is full: one more gets no answer
                each.setblocking(False)
                each.connect_ex(address)
            await _expect_not_sent(runner, f"http://127.0.0.1:{address[1]}")
        finally:
            for each in waiting:
                each.close()


@check(WIRE, TIME_LIMITS, why=_HANGS)
async def handshake_timeout(runner: Runner) -> None:
    """When a TLS handshake takes too long, nothing was sent."""
    server = runner.server(Peer.wait_closed)
    await _expect_not_sent(runner, server.url.replace("http:", "https:"))


async def _expect_not_sent(runner: Runner, url: str) -> None:
    transport = runner.transport()
    await _expect_both_in_time(
        runner, transport, ask(url, method="POST", body=b"{}"), Phase.NOT_SENT
    )


@check(WIRE, TIME_LIMITS, why=_HANGS)
async def sending_timeout(runner: Runner) -> None:
    """A request that the server does not take in ends in time, *maybe processed*."""
    seen = threading.Event()

    def handler(peer: Peer) -> None:
        seen.wait(PATIENCE)
        peer.reset()

    server = runner.server(handler)
    request = ask(server.url, method="POST", body=bytes(20_000_000))
    try:
        await expect_failure(
            runner.transport().send(request, runner.limit),
            Phase.MAYBE_PROCESSED,
            timed_out=True,
            within=runner.limit + runner.margin,
        )
    finally:
        seen.set()
    await runner.until(lambda: not server.open_connections)
    await runner.pause(0.05)  # a client with unsent bytes can drop them now


@check(TIME_LIMITS, why=_HANGS)
async def head_timeout(runner: Runner) -> None:
    """When no reply comes in time, the request is *maybe processed*."""
    url = runner.site(lambda _: LiveReply(held=True))
    transport = runner.transport()
    await _expect_both_in_time(
        runner, transport, ask(url, method="POST", body=b"{}"), Phase.MAYBE_PROCESSED
    )


@check(TIME_LIMITS, why=_HANGS)
async def body_timeout(runner: Runner) -> None:
    """When the body does not end in time, the reply is *broken*, however much of it came."""
    live = LiveReply()
    live.send(b"a part")
    url = runner.site(lambda _: live)
    await expect_failure(
        runner.transport().send(ask(url), runner.limit),
        Phase.REPLY_BROKEN,
        timed_out=True,
        within=runner.limit + runner.margin,
    )


@check(WIRE, TIME_LIMITS, why="A server that dribbles would keep a call for hours.")
async def a_head_that_dribbles(runner: Runner) -> None:
    """A head that comes one byte at a time is bounded by the whole limit, not by each byte."""
    server = runner.server(_dribbling(b"HTTP/1.1 200 OK\r\nX: "))
    transport = runner.transport()
    await _expect_both_in_time(
        runner, transport, ask(server.url), Phase.MAYBE_PROCESSED, Phase.REPLY_BROKEN
    )


@check(WIRE, TIME_LIMITS, why="A server that dribbles would keep a call for hours.")
async def a_body_that_dribbles(runner: Runner) -> None:
    """A body that comes one byte at a time is bounded by the whole limit, not by each byte."""
    counted = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
    chunked = reply(headers=[CHUNKED], length=False) + b"1;"
    servers = [runner.server(_dribbling(each)) for each in (counted, chunked)]
    transport, within = runner.transport(), runner.limit + runner.margin
    asks = [ask(server.url) for server in servers]
    for job in [runner.start(transport.send, each, runner.limit) for each in asks]:
        await expect_failure(job.outcome(within), Phase.REPLY_BROKEN, timed_out=True, within=within)


async def _expect_both_in_time(
    runner: Runner, transport: AsyncTransport, request: Request, *phases: Phase
) -> None:
    """`send` and `open` both run out of time, side by side."""
    limit, within = runner.limit, runner.limit + runner.margin
    jobs = [runner.start(use, request, limit) for use in (transport.send, transport.open)]
    for job in jobs:
        await expect_failure(job.outcome(within), *phases, timed_out=True, within=within)


def _dribbling(begin_with: bytes) -> Handler:
    def handler(peer: Peer) -> None:
        peer.read_request()
        peer.send(begin_with)
        while not peer.server.leaving:
            peer.send(b"x")
            time.sleep(0.02)

    return handler


@check(STREAMS, TIME_LIMITS, why="Streams last for hours; no limit of a call may end them.")
async def an_open_body_outlives_the_limit(runner: Runner) -> None:
    """`timeout` bounds `open` up to the head, and the body not at all."""
    live = LiveReply()
    url = runner.site(lambda _: live)
    transport = runner.transport()
    body = await transport.open(ask(url), runner.limit)
    await transport.sleep(runner.limit * 1.2)
    await expect_piece(body, b"late", live)
    live.end()
    await expect_end(body)
    await body.close()
