"""Checks of letting go: of a body, of a transport, early, twice, and while others are at it."""

from __future__ import annotations

import threading
from typing import Any, Tuple

from flowmaestro.testing.conformance.check import (
    CANCELLATION,
    STREAMS,
    WIRE,
    CheckFailed,
    NotOffered,
    check,
    expect,
    expect_failure,
)
from flowmaestro.testing.conformance.expectations import (
    LIMIT,
    ask,
    beside,
    echo,
    expect_bytes,
    expect_echo,
    expect_piece,
)
from flowmaestro.testing.conformance.runner import Job, Runner
from flowmaestro.testing.conformance.scripted_server import (
    CHUNKED,
    PATIENCE,
    Peer,
    answering,
    chunk,
    reply,
)
from flowmaestro.testing.conformance.scripted_server import echo as echoing
from flowmaestro.testing.conformance.site import LiveReply
from flowmaestro_core.http.messages import (
    Phase,
    Request,
    Response,
    TransportClosedError,
    TransportFailure,
)
from flowmaestro_transports.contract import AsyncOpenResponse, AsyncTransport


@check(STREAMS, why="A loop over events that ends with `break` would hold a connection for good.")
async def early_close(runner: Runner) -> None:
    """A body that is closed before its end lets its connection go; the server sees it."""
    live = LiveReply()
    url = runner.site(beside(live))
    transport = runner.narrow_transport()
    body = await transport.open(ask(url), LIMIT)
    await expect_piece(body, b"one", live)
    await body.close()
    await runner.expect_left(live.hung_up.is_set)
    await expect_echo(transport, url, b"on")


@check(WIRE, STREAMS, why="A loop over events that ends with `break` would hold a connection.")
async def early_close_over_tls(runner: Runner) -> None:
    """A body under TLS that is closed before its end lets its connection go, too."""
    data = reply(headers=[CHUNKED], length=False) + chunk(b"one")
    server = runner.server(answering(data), tls=runner.authority.server_context())
    body = await runner.transport(verify=runner.authority.file).open(ask(server.url), LIMIT)
    await expect_bytes(body, b"one")
    await body.close()
    await runner.expect_left(server.is_left)


@check(WIRE, why="Sockets of clients that are long closed add up.")
async def close_frees_every_connection(runner: Runner) -> None:
    """A transport that was closed has no connection left: no idle one, and none of a call."""
    go_on = threading.Event()

    def handler(peer: Peer) -> None:
        while (request := peer.read_request()) is not None:
            if request.method == "GET":
                go_on.wait(PATIENCE)
            peer.send(reply(b"ok"))

    server = runner.server(handler)
    transport = runner.transport()
    await transport.send(ask(server.url, method="POST"), LIMIT)
    job = runner.start(_reply_or_failure, transport, ask(server.url))
    await runner.until(lambda: len(server.requests) == 2)
    await transport.close()
    go_on.set()
    await job.outcome()
    left = await runner.until(server.is_left)
    expect(left, f"{server.open_connections} connections were still open")


@check(why="`with` blocks, collectors and users all close; the last one must not fail.")
async def close_twice(runner: Runner) -> None:
    """Closing a body twice, or a transport, is harmless."""
    url = runner.site(echo)
    transport = runner.transport()
    body = await transport.open(ask(url, method="POST", body=b"x"), LIMIT)
    for _ in range(2):
        await body.close()
    for _ in range(2):
        await transport.close()


@check(WIRE, CANCELLATION, why="Time limits cancel; sockets left open then would add up.")
async def a_cancelled_close_can_be_repeated(runner: Runner) -> None:
    """A close of a transport that is cancelled, wherever it is, is finished by another close."""
    for turns in range(8):
        server = runner.server(echoing, tls=runner.authority.server_context())
        transport = runner.transport(verify=runner.authority.file)
        body = await transport.open(ask(server.url, method="POST", body=b"x"), LIMIT)
        await transport.send(ask(server.url), LIMIT)  # leaves another connection, which is idle
        job = runner.start(transport.close)
        for _ in range(turns):
            await runner.pause(0)
        job.cancel()
        expect(await runner.until(lambda job=job: job.done), "a cancelled close went on")  # type: ignore[misc]
        await runner.start(transport.close).outcome()
        await body.close()
        left = await runner.until(server.is_left)
        expect(left, f"{server.open_connections} connections left after a cancel in turn {turns}")


@check(STREAMS, why="Half of a body must not look like all of it.")
async def read_after_close(runner: Runner) -> None:
    """A body that was closed before its end cannot be read: that is a failure, not an end."""
    live = LiveReply()
    url = runner.site(lambda _: live)
    body = await runner.transport().open(ask(url), LIMIT)
    await body.close()
    await expect_failure(body.read(0.5), Phase.REPLY_BROKEN)


@check(why="A transport that is used by mistake must say so, not connect again and leak.")
async def use_after_close(runner: Runner) -> None:
    """A transport that was closed raises `TransportClosedError`, and asks for nothing."""
    url = runner.site(echo)
    transport = runner.transport()
    await transport.close()
    for use in (transport.send, transport.open):
        try:
            given: Any = await use(ask(url), LIMIT)
        except TransportClosedError:
            continue
        except Exception as error:
            raise CheckFailed(f"{type(error).__name__} came out: {error}") from error
        raise CheckFailed(f"it was used after its close, and gave {given!r}")
    expect(not runner.asked, "a request went out after the close")


@check(STREAMS, why="A stream that somebody closes would hang until its next event.")
async def close_while_reading(runner: Runner) -> None:
    """Closing a body wakes its reader, and that read fails."""
    await _expect_woken(runner, closes="body")


@check(STREAMS, why="A program that shuts down would hang in its streams.")
async def close_of_the_transport_while_reading(runner: Runner) -> None:
    """Closing a transport wakes the reader of its body, and that read fails."""
    await _expect_woken(runner, closes="transport")


async def _expect_woken(runner: Runner, closes: str) -> None:
    live = LiveReply()
    url = runner.site(lambda _: live)
    transport = runner.transport()
    body = await transport.open(ask(url), LIMIT)
    await expect_piece(body, b"one", live)
    reader = runner.start(_read_on, body)
    await runner.pause(0.1)  # let it wait
    closer: Any = body if closes == "body" else transport
    await closer.close()
    await expect_failure(reader.outcome(), Phase.REPLY_BROKEN)
    await runner.expect_left(live.hung_up.is_set)


async def _read_on(body: AsyncOpenResponse) -> Any:
    while True:  # where time is virtual, a quiet read takes none
        data = await body.read(LIMIT)
        if data is not None:
            return data


@check(why="A program that shuts down would hang in its calls, or leave a connection behind.")
async def close_in_flight(runner: Runner) -> None:
    """A call under way when its transport is closed ends: with its reply, or with a failure."""
    live = LiveReply(held=True)
    transport, job = await _under_way(runner, live)
    await transport.close()
    live.begin()
    live.end()
    await job.outcome()


@check(STREAMS, why="A program that shuts down would hang in its calls until their time is up.")
async def close_wakes_a_call(runner: Runner) -> None:
    """Closing a transport wakes a call that waits for a reply, and that call fails."""
    await _expect_cut_short(runner, LiveReply(held=True))


@check(STREAMS, why="A program that shuts down would hang in its calls until their time is up.")
async def close_wakes_a_call_in_its_body(runner: Runner) -> None:
    """Closing a transport wakes a call that waits for the rest of a reply, which fails."""
    live = LiveReply()
    live.send(b"one")
    await _expect_cut_short(runner, live)


async def _under_way(runner: Runner, live: LiveReply) -> Tuple[AsyncTransport, Job]:
    """A transport, and a call of its that the server answers with `live`, once it was asked."""
    url = runner.site(lambda _: live)
    transport = runner.transport()
    job = runner.start(_reply_or_failure, transport, ask(url))
    await runner.until(live.asked.is_set)
    return transport, job


async def _expect_cut_short(runner: Runner, live: LiveReply) -> None:
    transport, job = await _under_way(runner, live)
    await runner.pause(0.1)  # let it wait
    await transport.close()
    if not await runner.until(lambda: job.done):
        live.begin()
        live.end()
        await job.outcome()
        raise NotOffered(
            "a close that wakes calls",
            "closing has to wait until the calls under way have ended",
        )
    given = await job.outcome()
    expect(not isinstance(given, Response), f"half a reply passed for a whole one: {given}")


async def _reply_or_failure(transport: AsyncTransport, request: Request) -> Any:
    try:
        return await transport.send(request, LIMIT)
    except (TransportFailure, TransportClosedError) as ended:
        return ended
