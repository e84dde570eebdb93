"""Checks of connections: reuse, closing, limits, and no mixed-up responses."""

from __future__ import annotations

import threading
import time

from flowmaestro.testing.conformance.check import check
from flowmaestro.testing.conformance.expectations import (
    HOSTILE,
    IMMEDIATE,
    LIMIT,
    STREAMS,
    WIRE,
    CheckFailed,
    ask,
    echo_body,
    expect,
    expect_echo,
    expect_failure,
    expect_piece,
    expect_reply,
    live_on_get,
)
from flowmaestro.testing.conformance.runner import Runner
from flowmaestro.testing.conformance.scripted_server import Handler, Peer, answering, reply
from flowmaestro.testing.conformance.site import LiveReply
from flowmaestro_core.http.messages import Phase, Response
from flowmaestro_transports.contract import AsyncTransport

BOUND = 10
"""The limit of connections in the check of many calls."""


@check(WIRE, why="A POST on a dead connection cannot be retried, so the user gets an error.")
async def stale_connection(runner: Runner) -> None:
    """An idle connection that the server has closed or reset is not used again."""
    for leave in (Peer.close, Peer.reset):
        await _expect_echoes(runner, leave)


@check(WIRE, HOSTILE, why="A caller would get the response to another caller's request.")
async def unsolicited_response(runner: Runner) -> None:
    """Bytes received on an idle connection are not used as the response to the next request."""
    await _expect_echoes(runner, _reply_unasked)


@check(
    WIRE,
    HOSTILE,
    why="A program that computes between its calls reads no sockets meanwhile.",
)
async def stale_bytes_after_cpu_work(runner: Runner) -> None:
    """Bytes received on an idle connection while the program was busy prevent its reuse."""
    for farewell in (_reply_unasked, Peer.close):
        await _expect_echoes(runner, farewell, busy=True)


def _reply_unasked(peer: Peer) -> None:
    peer.send(reply(b"unasked"))


async def _expect_echoes(runner: Runner, farewell: Handler, *, busy: bool = False) -> None:
    """Check that each of two POST requests gets a response with the body that it sent.

    The server calls `farewell` after each response, while the connection is idle. With `busy`, the
    check blocks its thread between the two calls, so the client cannot read its sockets then.
    """
    returned, came = threading.Event(), threading.Semaphore(0)

    def handler(peer: Peer) -> None:
        while (request := peer.read_request()) is not None:
            peer.send(reply(request.body))
            # The farewell must not come together with the response that the client receives.
            while not returned.wait(0.05) and not peer.server.leaving:
                pass
            time.sleep(0.1)  # Until then, the connection is idle.
            farewell(peer)
            came.release()

    server = runner.server(handler)
    transport = runner.transport()
    await expect_echo(transport, server.url, b"first")
    returned.set()
    if busy:
        came.acquire(timeout=IMMEDIATE)  # This blocks the event loop, if there is one.
        time.sleep(0.05)  # noqa: ASYNC251 - nor while it arrives
    else:
        await runner.until(lambda: came.acquire(blocking=False))
        await runner.pause(0.05)  # The bytes must arrive first.
    await expect_echo(transport, server.url, b"second")


@check(WIRE, HOSTILE, why="The next call would fail on a connection that the server closes.")
async def connection_close(runner: Runner) -> None:
    """After a response with `Connection: close`, the connection is not used again."""
    await _expect_not_kept(runner, reply(b"ok", headers=[("Connection", "close")]))


@check(WIRE, HOSTILE, why="HTTP/1.0 servers close the connection afterwards (RFC 9112, 9.3).")
async def http_1_0_reply(runner: Runner) -> None:
    """A response in HTTP/1.0 is read, and its connection is not used again."""
    await _expect_not_kept(runner, b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")


async def _expect_not_kept(runner: Runner, data: bytes) -> None:
    """Check that the client does not reuse a connection after the response `data`.

    The server leaves the connection open.
    """
    server = runner.server(answering(data, data))
    transport = runner.transport()
    for number in range(1, 3):
        await expect_reply(transport, ask(server.url), b"ok")
        expect(server.connections == number, "the connection was used again")


@check(why="A response that reaches the wrong caller is worse than none.")
async def many_at_once(runner: Runner) -> None:
    """If 50 threads or 200 tasks call at the same time, each gets its own response."""
    url = runner.site(echo_body)
    await _expect_a_crowd_answered(runner, runner.transport(), url)


async def _expect_a_crowd_answered(runner: Runner, transport: AsyncTransport, url: str) -> None:
    jobs = [
        runner.start(transport.send, ask(url, method="POST", body=b"%d" % number), 6 * LIMIT)
        for number in range(runner.crowd)
    ]
    within = min(6 * LIMIT, 0.8 * runner.too_long)
    if not await runner.until(lambda: all(job.done for job in jobs), within):
        answered = sum(job.done for job in jobs)
        raise CheckFailed(
            f"{answered} of {len(jobs)} calls had ended after {within:g} s: they hang, or the "
            "machine is busy"
        )
    for number, job in enumerate(jobs):
        response = await job.outcome()
        expect(response.body == b"%d" % number, f"call {number} got {response.body!r}")


@check(WIRE, STREAMS, why="Many calls would exhaust all sockets; a few streams would block calls.")
async def bounded_connections(runner: Runner) -> None:
    """At most `max_connections` calls, not counting bodies, are in flight; waiting is timed."""
    await _expect_call_beside_a_body(runner)
    await _expect_wait_in_time(runner)
    lock = threading.Lock()
    full, beyond = threading.Event(), threading.Event()
    busy = most = 0

    def handler(peer: Peer) -> None:
        nonlocal busy, most
        while (request := peer.read_request()) is not None:
            with lock:
                busy += 1
                most = max(most, busy)
            if most > BOUND:
                beyond.set()
            first = not full.is_set()
            if most >= BOUND:
                full.set()
            full.wait(IMMEDIATE)
            beyond.wait(0.25 if first else 0.01)  # The first ones wait for a call beyond the limit.
            with lock:
                busy -= 1
            peer.send(reply(request.body))

    server = runner.server(handler)
    await _expect_a_crowd_answered(runner, runner.transport(max_connections=BOUND), server.url)
    expect(most <= BOUND, f"{most} calls were in flight at the same time")
    # A connection that is being closed may overlap with its successor.
    expect(
        server.most_open <= 2 * BOUND, f"{server.most_open} connections were open at the same time"
    )


async def _expect_call_beside_a_body(runner: Runner) -> None:
    live = LiveReply()
    url = runner.site(live_on_get(live))
    transport = runner.transport(max_connections=1)
    body = await transport.open(ask(url), LIMIT)
    await expect_piece(body, b"x", live)
    await runner.start(expect_echo, transport, url, b"beside").outcome()
    await body.close()


async def _expect_wait_in_time(runner: Runner) -> None:
    """Check that a call which waits longer than its `timeout` fails as *not sent*."""
    live = LiveReply(held=True)
    url = runner.site(lambda _: live)
    transport = runner.transport(max_connections=1)
    holder = runner.start(transport.send, ask(url), LIMIT)
    await runner.until(live.asked.is_set)
    await expect_failure(
        transport.send(ask(url), 0.3), Phase.NOT_SENT, timed_out=True, within=0.3 + IMMEDIATE
    )
    live.begin()
    live.end()
    response: Response = await holder.outcome()
    expect(response.status == 200, f"the call with the connection got {response}")
