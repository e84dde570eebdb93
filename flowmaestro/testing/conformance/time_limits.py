"""Checks of time limits: each call ends in time, and its failure has the correct phase.

The limits are short. A check that waits for its limit is repeated with a longer one if its outcome
is not the expected one, so that a busy machine does not decide. A server that sends data endlessly
must delay neither a timeout nor an event loop.
"""

from __future__ import annotations

import contextlib
import gzip
import socket
import time
from typing import Callable, NamedTuple

from flowmaestro.testing.conformance.check import check, checks_of
from flowmaestro.testing.conformance.expectations import (
    CANCELLATION,
    HOSTILE,
    IMMEDIATE,
    LIMIT,
    NO_HEAD,
    STREAMS,
    TIME_LIMITS,
    WIRE,
    ask,
    echo_body,
    expect,
    expect_end,
    expect_piece,
)
from flowmaestro.testing.conformance.phases import expect_in_time
from flowmaestro.testing.conformance.responses import refuse_unless_asked_for
from flowmaestro.testing.conformance.runner import TOO_LONG, Runner
from flowmaestro.testing.conformance.scripted_server import (
    HEAD_CHUNKED,
    Handler,
    Peer,
    chunk,
)
from flowmaestro.testing.conformance.site import LiveReply
from flowmaestro_core.http.messages import Phase, TransportFailure

_HANGS = "A call would hang although its user has said how long it may take."


@check(why="Retries, polls and deadlines depend on this clock.")
async def clock(runner: Runner) -> None:
    """A `sleep` takes the given number of seconds, measured with `now` of the transport."""
    runner.site(echo_body)  # The transport may use the clock of the site.
    transport = runner.transport()
    begun = transport.now()
    await transport.sleep(0.05)
    passed = transport.now() - begun
    expect(0.04 <= passed <= 0.05 + IMMEDIATE, f"a sleep of 0.05 s took {passed} s")


@check(WIRE, TIME_LIMITS, why=_HANGS)
async def connect_timeout(runner: Runner) -> None:
    """If connecting times out, the call fails as *not sent*."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(3)]
        try:
            for (
                each
            ) in waiting:  # They fill the queue of the kernel, so the next one gets no answer.
                each.setblocking(False)
                each.connect_ex(address)
            request = ask(f"http://127.0.0.1:{address[1]}", method="POST", body=b"{}")
            await expect_in_time(runner, request, Phase.NOT_SENT)
        finally:
            for each in waiting:
                each.close()


@check(TIME_LIMITS, why=_HANGS)
async def call_timeout(runner: Runner) -> None:
    """A call times out as *maybe processed* before the head, as *reply broken* within the body."""
    url = runner.site(lambda _: LiveReply(held=True))
    await expect_in_time(runner, ask(url, method="POST", body=b"{}"), Phase.MAYBE_PROCESSED)

    live = LiveReply()
    live.send(b"a part")
    url = runner.site(lambda _: live)
    await expect_in_time(runner, ask(url), Phase.REPLY_BROKEN, uses=("send",))


@check(WIRE, HOSTILE, TIME_LIMITS, why="A slow server would delay a call for hours.")
async def a_head_that_dribbles(runner: Runner) -> None:
    """The time limit applies to the whole head, even if the head comes one byte at a time."""
    server = runner.server(Flood(b"HTTP/1.1 200 OK\r\nX: ", b"x").dribbled)
    await expect_in_time(runner, ask(server.url), *NO_HEAD)


@check(WIRE, HOSTILE, TIME_LIMITS, why="A slow server would delay a call for hours.")
async def a_body_that_dribbles(runner: Runner) -> None:
    """The time limit applies to the whole body, even if the body comes one byte at a time."""
    counted = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
    for begin in (counted, HEAD_CHUNKED + b"1;"):
        server = runner.server(Flood(begin, b"x").dribbled)
        await expect_in_time(runner, ask(server.url), Phase.REPLY_BROKEN, uses=("send",))


@check(
    STREAMS, TIME_LIMITS, why="Streams last for hours; the timeout of their call must not end them."
)
async def an_open_body_outlives_the_limit(runner: Runner) -> None:
    """`timeout` bounds `open` up to the head, but not the body."""
    live = LiveReply()
    url = runner.site(lambda _: live)
    transport = runner.transport()
    body = await transport.open(ask(url), runner.limit)
    await transport.sleep(runner.limit * 1.2)
    await expect_piece(body, b"late", live)
    live.end()
    await expect_end(body)
    await body.close()


class Flood(NamedTuple):
    """Endless bytes of a server: a beginning, and a piece that is repeated.

    They are cheap to send and slow to read: a piece yields at most one byte of content. A flood
    lasts longer than the check waits, so a reader that ignores its timeout returns only when the
    flood ends.
    """

    begin: bytes
    piece: bytes

    def sent(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> Handler:
        """Return a handler that sends the flood for this many seconds, measured with `clock`."""
        block = self.piece * (65536 // len(self.piece))

        def handler(peer: Peer) -> None:
            peer.read_request()
            peer.send(self.begin)
            end = clock() + seconds
            while clock() < end and not peer.server.leaving:
                peer.send(block)

        return handler

    def dribbled(self, peer: Peer) -> None:
        """Send the flood to `peer`, at most fifty pieces a second, until either side ends it."""
        peer.read_request()
        peer.send(self.begin)
        while not peer.server.leaving:
            peer.send(self.piece)
            time.sleep(0.02)


_CODED = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"
_BODIES = {
    "empty gzip members": Flood(_CODED, gzip.compress(b"")),
    "small gzip members": Flood(_CODED, gzip.compress(b"x")),
    "small chunks": Flood(HEAD_CHUNKED, chunk(b"x")),
    "trailers": Flood(HEAD_CHUNKED + b"0\r\n", b"T: x\r\n"),
}
_FLOODS = {
    **_BODIES,
    "informational replies": Flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}


async def _refuse_unasked(runner: Runner, flood: Flood) -> None:
    """Raise `NotOffered` if `flood` is a body in gzip and the transport does not request gzip."""
    if flood.begin == _CODED:
        await refuse_unless_asked_for(runner, "gzip")


@checks_of(
    _FLOODS,
    WIRE,
    HOSTILE,
    TIME_LIMITS,
    why="One hostile or broken server could block a call forever, whatever its `timeout`.",
)
async def a_flood_of(runner: Runner, flood: Flood) -> None:
    """A call that receives endless {} fails by the end of its time limit."""
    await _refuse_unasked(runner, flood)
    # As long as in `a_stream_flooded_with`, for the same reason.
    server = runner.server(flood.sent(2 * (runner.limit + runner.margin) + 1))
    # `open` waits only for the head, so it is tried only with floods within the head.
    uses = ("send",) if flood.begin else ("send", "open")
    await expect_in_time(runner, ask(server.url), *NO_HEAD, uses=uses, timed_out=None)


@checks_of(
    _BODIES,
    WIRE,
    HOSTILE,
    STREAMS,
    why="One hostile or broken server could block a stream, which could not be closed.",
)
async def a_stream_flooded_with(runner: Runner, flood: Flood) -> None:
    """A read of a body with endless {} returns or fails within its patience."""
    await _refuse_unasked(runner, flood)
    patience, within = runner.limit, runner.limit + runner.margin
    # A flood that ended sooner would let a read that ignores its patience return in time.
    server = runner.server(flood.sent(2 * within + 1))
    with contextlib.suppress(TransportFailure):  # A transport may refuse a flood.
        body = await runner.transport().open(ask(server.url), LIMIT)
        for _ in range(2):
            begun = time.monotonic()
            await runner.start(body.read, patience).outcome(within)
            seconds = time.monotonic() - begun
            text = f"a read with {patience} s of patience took {seconds:.1f} s"
            expect(seconds <= within, text)
        await body.close()


@checks_of(
    _FLOODS,
    WIRE,
    HOSTILE,
    CANCELLATION,
    why="No other task of the program would run, not even its timeouts.",
)
async def other_tasks_run_beside(runner: Runner, flood: Flood) -> None:
    """While a call reads endless {}, other tasks run, and the call can be cancelled."""
    await _refuse_unasked(runner, flood)
    # Processor time of this process, so that other work of the machine does not count.
    work = 6 * runner.margin
    server = runner.server(flood.sent(work + 0.5, time.process_time))
    job = runner.start(runner.transport().send, ask(server.url), TOO_LONG)
    begun = time.process_time()
    for turns in range(1, 4):
        await runner.pause(0.01)
        seconds = time.process_time() - begun
        expect(seconds <= work, f"{turns} turns beside the flood took {seconds:.1f} s of work")
    if job.done:  # The transport has refused the flood.
        expect(
            isinstance(job.error, TransportFailure), f"the outcome was {job.error or job.value!r}"
        )
        return
    job.cancel()
    ended = await runner.until(lambda: job.done, TOO_LONG / 4)
    expect(ended, f"the cancelled call continued for {TOO_LONG / 4:.0f} s")
