"""Checks of cancellation: in every phase it is quick, and leaves the transport usable."""

from __future__ import annotations

import threading
from typing import Any, Callable, Optional

from flowmaestro.testing.conformance.check import CANCELLATION, STREAMS, WIRE, check, expect
from flowmaestro.testing.conformance.expectations import (
    LIMIT,
    ask,
    beside,
    echo,
    expect_echo,
    expect_piece,
)
from flowmaestro.testing.conformance.runner import Job, Runner, Step
from flowmaestro.testing.conformance.scripted_server import (
    CHUNKED,
    PATIENCE,
    Peer,
    ScriptedServer,
    answering,
    chunk,
    reply,
)
from flowmaestro.testing.conformance.site import LiveReply
from flowmaestro_core.http.messages import Request, TransportFailure
from flowmaestro_transports.contract import AsyncTransport

_WHY = "Time limits and Ctrl-C cancel; a connection lost with each would use up the pool."


async def _expect_cancelled(runner: Runner, job: Job) -> None:
    job.cancel()
    expect(await runner.until(lambda: job.done), "what was cancelled went on")
    expect(
        job.cancelled,
        f"the cancellation was swallowed; {job.error or job.value!r} came instead",
    )


async def _expect_usable(runner: Runner, transport: AsyncTransport, url: str) -> None:
    await runner.start(expect_echo, transport, url, b"on").outcome()


async def _expect_call_cancelled(
    runner: Runner,
    request: Request,
    server: ScriptedServer,
    begun: Callable[[], Any],
    cancelled: Optional[threading.Event] = None,
) -> None:
    """A call that is cancelled once it has `begun` leaves its server, and another one succeeds."""
    url = runner.site(echo)
    transport = runner.narrow_transport()
    job = runner.start(transport.send, request, LIMIT)
    expect(await runner.until(begun, LIMIT), "nothing of the call came")
    await runner.pause(0.1)  # let it wait
    await _expect_cancelled(runner, job)
    if cancelled is not None:
        cancelled.set()
    await runner.expect_left(server.is_left)
    await _expect_usable(runner, transport, url)


@check(WIRE, CANCELLATION, why=_WHY)
async def cancelled_while_connecting(runner: Runner) -> None:
    """A call cancelled while it connects releases the connection and its slot."""
    server = runner.server(Peer.wait_closed)  # no handshake comes of it
    request = ask(server.url.replace("http:", "https:"))
    await _expect_call_cancelled(runner, request, server, lambda: server.connections)


@check(WIRE, CANCELLATION, why=_WHY)
async def cancelled_while_sending(runner: Runner) -> None:
    """A call cancelled while its body goes out releases the connection and its slot."""
    reached, cancelled = threading.Event(), threading.Event()

    def handler(peer: Peer) -> None:
        peer.sock.recv(1000)
        reached.set()
        cancelled.wait(PATIENCE)
        peer.wait_closed()

    server = runner.server(handler)
    request = ask(server.url, method="POST", body=bytes(20_000_000))
    await _expect_call_cancelled(runner, request, server, reached.is_set, cancelled)


@check(CANCELLATION, why=_WHY)
async def cancelled_before_the_head(runner: Runner) -> None:
    """A call cancelled while it waits for its reply releases the connection."""
    live = LiveReply(held=True)
    url = runner.site(beside(live))
    transport = runner.narrow_transport()
    for use in (transport.send, transport.open):
        live.asked.clear()
        live.hung_up.clear()
        job = runner.start(_insist, use, ask(url))
        expect(await runner.until(live.asked.is_set, LIMIT), "no request came")
        await _expect_cancelled(runner, job)
        await runner.expect_left(live.hung_up.is_set)
        await _expect_usable(runner, transport, url)


async def _insist(use: Step, request: Request) -> Any:
    while True:
        try:
            return await use(request, LIMIT)
        except TransportFailure as failure:  # where time is virtual, waiting takes none
            if not failure.timed_out:
                raise


@check(WIRE, CANCELLATION, why=_WHY)
async def cancelled_within_the_head(runner: Runner) -> None:
    """A call cancelled while the head comes in releases the connection."""
    await _expect_let_go(runner, b"HTTP/1.1 200 OK\r\nX: ")


@check(WIRE, CANCELLATION, why=_WHY)
async def cancelled_within_the_body(runner: Runner) -> None:
    """A call cancelled while the body comes in releases the connection."""
    await _expect_let_go(runner, reply(headers=[CHUNKED], length=False) + chunk(b"one"))


async def _expect_let_go(runner: Runner, begin_with: bytes) -> None:
    server = runner.server(answering(begin_with))
    await _expect_call_cancelled(runner, ask(server.url), server, lambda: server.requests)


@check(CANCELLATION, STREAMS, why="A reader with a time limit of its own cancels.")
async def cancelled_read(runner: Runner) -> None:
    """A body whose `read` was cancelled can be closed, and then lets its connection go."""
    live = LiveReply()
    url = runner.site(beside(live))
    transport = runner.narrow_transport()
    body = await transport.open(ask(url), LIMIT)
    await expect_piece(body, b"one", live)

    async def read_on() -> None:
        while await body.read(LIMIT) is None:
            pass

    job = runner.start(read_on)
    await runner.pause(0.05)  # let it wait
    await _expect_cancelled(runner, job)
    await body.close()
    await runner.expect_left(live.hung_up.is_set)
    await _expect_usable(runner, transport, url)
