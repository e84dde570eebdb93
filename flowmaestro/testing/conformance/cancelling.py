"""Checks of cancellation: in every phase it is quick, and leaves the transport usable."""

from __future__ import annotations

import threading
from typing import Any

from flowmaestro.testing.conformance.check import CANCELLATION, STREAMS, WIRE, check, expect
from flowmaestro.testing.conformance.exchange import LIMIT, ask, echo, some
from flowmaestro.testing.conformance.runner import Job, Runner, Step
from flowmaestro.testing.conformance.scripted_server import (
    CHUNKED,
    PATIENCE,
    Handler,
    Peer,
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
    job = runner.start(transport.send, ask(url, method="POST", body=b"on"), LIMIT)
    response = await job.outcome()
    expect(response.body == b"on", f"the next call got {response}")


@check(WIRE, CANCELLATION, why=_WHY)
async def cancelled_while_connecting(runner: Runner) -> None:
    """A call cancelled while it connects releases the connection and its slot."""
    begun, gone = threading.Event(), threading.Event()

    def handler(peer: Peer) -> None:
        begun.set()
        peer.wait_closed()
        gone.set()

    url = runner.site(echo)
    server = runner.server(handler)  # no handshake comes of it
    transport = runner.narrow_transport()
    job = runner.start(transport.send, ask(server.url.replace("http:", "https:")), LIMIT)
    expect(await runner.until(begun.is_set, LIMIT), "no connection came")
    await _expect_cancelled(runner, job)
    expect(await runner.until(gone.is_set), "the server still had its client")
    await _expect_usable(runner, transport, url)


@check(WIRE, CANCELLATION, why=_WHY)
async def cancelled_while_sending(runner: Runner) -> None:
    """A call cancelled while its body goes out releases the connection and its slot."""

    def handler(peer: Peer) -> None:
        peer.sock.recv(1000)
        reached.set()
        let_on.wait(PATIENCE)
        peer.wait_closed()
        gone.set()

    reached, let_on, gone = threading.Event(), threading.Event(), threading.Event()
    request = ask(runner.server(handler).url, method="POST", body=bytes(20_000_000))
    url = runner.site(echo)
    transport = runner.narrow_transport()
    job = runner.start(transport.send, request, LIMIT)
    expect(await runner.until(reached.is_set, LIMIT), "no request came")
    await runner.pause(0.1)  # fill what lies between
    await _expect_cancelled(runner, job)
    let_on.set()
    expect(await runner.until(gone.is_set), "the server still had its client")
    await _expect_usable(runner, transport, url)


@check(CANCELLATION, why=_WHY)
async def cancelled_before_the_head(runner: Runner) -> None:
    """A call cancelled while it waits for its reply releases the connection."""
    live = LiveReply(held=True)
    asked = threading.Event()

    def respond(request: Request) -> object:
        if request.method == "POST":
            return echo(request)
        asked.set()
        return live

    url = runner.site(respond)  # type: ignore[arg-type]
    transport = runner.narrow_transport()
    for use in (transport.send, transport.open):
        asked.clear()
        live.hung_up.clear()
        job = runner.start(_insist, use, ask(url))
        expect(await runner.until(asked.is_set, LIMIT), "no request came")
        await _expect_cancelled(runner, job)
        expect(await runner.until(live.hung_up.is_set), "the server still had its client")
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
    begun, gone = threading.Event(), threading.Event()

    def handler(peer: Peer) -> None:
        peer.read_request()
        peer.send(begin_with)
        begun.set()
        peer.wait_closed()
        gone.set()

    halting: Handler = handler
    server = runner.server(halting)
    url = runner.site(echo)
    transport = runner.narrow_transport()
    job = runner.start(transport.send, ask(server.url), LIMIT)
    expect(await runner.until(begun.is_set, LIMIT), "no request came")
    await runner.pause(0.05)  # let it arrive
    await _expect_cancelled(runner, job)
    expect(await runner.until(gone.is_set), "the server still had its client")
    await _expect_usable(runner, transport, url)


@check(CANCELLATION, STREAMS, why="A reader with a time limit of its own cancels.")
async def cancelled_read(runner: Runner) -> None:
    """A body whose `read` was cancelled can be closed, and then lets its connection go."""
    live = LiveReply()
    url = runner.site(lambda request: live if request.method == "GET" else echo(request))
    transport = runner.narrow_transport()
    body = await transport.open(ask(url), LIMIT)
    live.send(b"one")
    await some(body, 3)

    async def read_on() -> None:
        while await body.read(LIMIT) is None:
            pass

    job = runner.start(read_on)
    await runner.pause(0.05)  # let it wait
    await _expect_cancelled(runner, job)
    await body.close()
    expect(await runner.until(live.hung_up.is_set), "the server still had its client")
    await _expect_usable(runner, transport, url)
