"""Checks of closing bodies, calls and transports: early, twice, and while others use them.

A call that is cancelled in any phase must release its connection at once, and leave the transport
usable.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Any, Callable, Optional, Tuple

from flowmaestro.testing.conformance.check import check
from flowmaestro.testing.conformance.expectations import (
    CANCELLATION,
    HOSTILE,
    LIMIT,
    STREAMS,
    WIRE,
    CheckFailed,
    NotOffered,
    ask,
    echo_body,
    expect,
    expect_bytes,
    expect_echo,
    expect_failure,
    expect_piece,
    live_on_get,
)
from flowmaestro.testing.conformance.runner import Job, JobFunction, Runner
from flowmaestro.testing.conformance.scripted_server import (
    HEAD_CHUNKED,
    PATIENCE,
    Peer,
    ScriptedServer,
    answering,
    chunk,
    echo,
    reply,
)
from flowmaestro.testing.conformance.site import LiveReply
from flowmaestro_core.http.messages import (
    Phase,
    Request,
    Response,
    TransportClosedError,
    TransportFailure,
)
from flowmaestro_transports.contract import AsyncOpenResponse, AsyncTransport

_CANCELS = (
    "Time limits and Ctrl-C cancel calls; losing a connection each time would use up the pool."
)


async def _begun(runner: Runner) -> Tuple[LiveReply, AsyncTransport, str, AsyncOpenResponse]:
    """Open a body on a new `narrow_transport`, and read the first piece of the body.

    Return the response that the check controls, the transport, the URL and the open body.
    """
    live = LiveReply()
    url = runner.site(live_on_get(live))
    transport = runner.narrow_transport()
    body = await transport.open(ask(url), LIMIT)
    await expect_piece(body, b"one", live)
    return live, transport, url, body


@check(STREAMS, why="A loop over events that ends with `break` would leak a connection.")
async def early_close(runner: Runner) -> None:
    """A body that is closed before its end closes its connection, also over TLS; calls go on."""
    live, transport, url, body = await _begun(runner)
    await body.close()
    await runner.expect_left(live.hung_up.is_set)
    await expect_echo(transport, url, b"on")
    with contextlib.suppress(NotOffered):
        await _expect_early_close_over_tls(runner)


async def _expect_early_close_over_tls(runner: Runner) -> None:
    # The client must not wait for the `close_notify` of the server, which never comes.
    handler = answering(HEAD_CHUNKED + chunk(b"one"))
    server = runner.server(handler, tls=runner.authority.server_context())
    body = await runner.transport(verify=runner.authority.file).open(ask(server.url), LIMIT)
    await expect_bytes(body, b"one")
    await body.close()
    await runner.expect_left(server.is_left)


@check(WIRE, why="Sockets of closed clients would accumulate.")
async def close_frees_every_connection(runner: Runner) -> None:
    """A closed transport has no connection left: neither an idle one nor one of a call."""
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


@check(
    WIRE,
    HOSTILE,
    CANCELLATION,
    why="Timeouts cancel calls; sockets left open then would accumulate.",
)
async def a_cancelled_close_can_be_repeated(runner: Runner) -> None:
    """If `close` of a transport is cancelled at any point, another `close` completes it."""
    for turns in range(8):
        server = runner.server(echo, tls=runner.authority.server_context())
        transport = runner.transport(verify=runner.authority.file)
        body = await transport.open(ask(server.url, method="POST", body=b"x"), LIMIT)
        await transport.send(ask(server.url), LIMIT)  # This leaves an idle connection.
        job = runner.start(transport.close)
        for _ in range(turns):
            await runner.pause(0)
        job.cancel()
        expect(await runner.until(lambda job=job: job.done), "a cancelled close continued")  # type: ignore[misc]
        await runner.start(transport.close).outcome()
        await body.close()
        left = await runner.until(server.is_left)
        expect(
            left,
            f"{server.open_connections} connections were open after a cancellation in turn {turns}",
        )


@check(why="Using a closed transport is a mistake, which must raise, not leak a connection.")
async def use_after_close(runner: Runner) -> None:
    """Bodies and transports can be closed twice; then calls raise `TransportClosedError`."""
    url = runner.site(echo_body)
    transport = runner.transport()
    body = await transport.open(ask(url, method="POST", body=b"x"), LIMIT)
    # `with` blocks, the garbage collector and users may all close them.
    for close in (body.close, body.close, transport.close, transport.close):
        await close()
    for use in (transport.send, transport.open):
        try:
            given: Any = await use(ask(url), LIMIT)
        except TransportClosedError:
            continue
        except Exception as error:
            raise CheckFailed(f"the call raised {type(error).__name__}: {error}") from error
        raise CheckFailed(f"a call after the close returned {given!r}")
    expect(len(runner.asked) == 1, "a request was sent after the close")


@check(STREAMS, why="A program that shuts down would hang in its streams.")
async def close_while_reading(runner: Runner) -> None:
    """Closing a body or its transport wakes a reader, or a call in its body, which then fails."""
    for closes_transport in (False, True):
        live, transport, _, body = await _begun(runner)
        reader = runner.start(_read_on, body)
        await runner.pause(0.1)  # Give the reader time to wait.
        await (transport if closes_transport else body).close()
        await expect_failure(reader.outcome(), Phase.REPLY_BROKEN)
        await runner.expect_left(live.hung_up.is_set)
        # A truncated body must not look complete.
        await expect_failure(body.read(0.5), Phase.REPLY_BROKEN)
    await _expect_woken(runner, b"one")


async def _read_on(body: AsyncOpenResponse) -> Any:
    while True:  # In virtual time, a quiet read returns at once.
        data = await body.read(LIMIT)
        if data is not None:
            return data


# Apart from `close_while_reading`: a library may show its socket only once the head has come. A
# transport on it then wakes reads, but no call that waits for its head (`RequestsTransport`).
@check(STREAMS, why="A program that shuts down would hang in its calls until they time out.")
async def close_wakes_a_call(runner: Runner) -> None:
    """Closing a transport wakes a call that waits for its head, and that call fails."""
    await _expect_woken(runner, b"")


async def _expect_woken(runner: Runner, begun: bytes) -> None:
    live = LiveReply(held=not begun)
    if begun:
        live.send(begun)
    transport, job = await _under_way(runner, live)
    await runner.pause(0.1)  # Give the reader time to wait.
    await transport.close()
    # Sooner than the call times out by itself, which is no wake.
    within = min(runner.immediate, LIMIT / 2, runner.too_long / 2)
    if not await runner.until(lambda: job.done, within):
        live.begin()
        live.end()
        await job.outcome()
        raise NotOffered(
            "a close that wakes calls",
            "closing waits until the calls in flight have ended, or leaves them alone",
        )
    given = await job.outcome()
    expect(
        not isinstance(given, Response),
        f"a call that was closed returned a truncated response: {given}",
    )


async def _under_way(runner: Runner, live: LiveReply) -> Tuple[AsyncTransport, Job]:
    """Return a transport, and the job of its call in flight.

    The server has received the request and answers it with `live`.
    """
    url = runner.site(lambda _: live)
    transport = runner.transport()
    job = runner.start(_reply_or_failure, transport, ask(url))
    await runner.until(live.asked.is_set)
    return transport, job


async def _reply_or_failure(transport: AsyncTransport, request: Request) -> Any:
    try:
        return await transport.send(request, LIMIT)
    except (TransportFailure, TransportClosedError) as ended:
        return ended


async def _expect_cancelled(runner: Runner, job: Job) -> None:
    job.cancel()
    expect(await runner.until(lambda: job.done), "the cancelled call continued")
    expect(
        job.cancelled,
        f"the cancellation was swallowed; the outcome was {job.error or job.value!r}",
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
    """Check that a cancelled call closes its connection, and that the next call succeeds.

    This cancels the call once `begun()` returns a true value, and sets `cancelled` once the call
    has ended.
    """
    url = runner.site(echo_body)
    transport = runner.narrow_transport()
    job = runner.start(transport.send, request, LIMIT)
    expect(await runner.until(begun, LIMIT), "no byte of the call arrived")
    await runner.pause(0.1)  # Give the reader time to wait.
    await _expect_cancelled(runner, job)
    if cancelled is not None:
        cancelled.set()
    await runner.expect_left(server.is_left)
    await _expect_usable(runner, transport, url)


@check(CANCELLATION, why=_CANCELS)
async def cancelled_in_any_phase(runner: Runner) -> None:
    """A call cancelled while it connects, sends, waits or receives frees connection and slot."""
    await _expect_cancelled_before_the_head(runner)
    if runner.wire:  # A transport in memory has no other phases.
        await _expect_cancelled_while_connecting(runner)
        await _expect_cancelled_while_sending(runner)
        await _expect_cancelled_while_receiving(runner)


async def _expect_cancelled_before_the_head(runner: Runner) -> None:
    live = LiveReply(held=True)
    url = runner.site(live_on_get(live))
    transport = runner.narrow_transport()
    for use in (transport.send, transport.open):
        live.asked.clear()
        live.hung_up.clear()
        job = runner.start(_insist, use, ask(url))
        expect(await runner.until(live.asked.is_set, LIMIT), "no request arrived")
        await _expect_cancelled(runner, job)
        await runner.expect_left(live.hung_up.is_set)
        await _expect_usable(runner, transport, url)


async def _insist(use: JobFunction, request: Request) -> Any:
    while True:
        try:
            return await use(request, LIMIT)
        except TransportFailure as failure:  # In virtual time, the wait ends at once.
            if not failure.timed_out:
                raise


async def _expect_cancelled_while_receiving(runner: Runner) -> None:
    server = runner.server(answering(HEAD_CHUNKED + chunk(b"one")))
    await _expect_call_cancelled(runner, ask(server.url), server, lambda: server.requests)


async def _expect_cancelled_while_connecting(runner: Runner) -> None:
    server = runner.server(Peer.wait_closed)  # It never completes a handshake.
    request = ask(server.url.replace("http:", "https:"))
    await _expect_call_cancelled(runner, request, server, lambda: server.connections)


async def _expect_cancelled_while_sending(runner: Runner) -> None:
    reached, cancelled = threading.Event(), threading.Event()

    def handler(peer: Peer) -> None:
        peer.sock.recv(1000)
        reached.set()
        cancelled.wait(PATIENCE)
        peer.wait_closed()

    server = runner.server(handler)
    request = ask(server.url, method="POST", body=bytes(20_000_000))
    await _expect_call_cancelled(runner, request, server, reached.is_set, cancelled)


# Apart from `cancelled_in_any_phase`: a function has no open bodies, and a library that cannot
# cancel a call may still cancel a read (`AsyncPyreqwestTransport`).
@check(CANCELLATION, STREAMS, why="A reader with a timeout of its own cancels the read.")
async def cancelled_read(runner: Runner) -> None:
    """A body whose `read` was cancelled can be closed, and then releases its connection."""
    live, transport, url, body = await _begun(runner)
    job = runner.start(_read_on, body)
    await runner.pause(0.05)  # Give the read time to wait.
    await _expect_cancelled(runner, job)
    await body.close()
    await runner.expect_left(live.hung_up.is_set)
    await _expect_usable(runner, transport, url)
