"""Checks of floods: a server that sends without end holds up neither a time limit nor a loop.

Each flood is one that is cheap for the server and long for a naive reader: no byte of content
comes of it, or one at a time. It lasts longer than the check waits; a reader that never looks at
its clock comes back when the flood ends.
"""

from __future__ import annotations

import contextlib
import gzip
import time
from typing import Callable

from flowmaestro.testing.conformance.check import (
    CANCELLATION,
    STREAMS,
    TIME_LIMITS,
    WIRE,
    check,
    expect,
    expect_failure,
)
from flowmaestro.testing.conformance.expectations import LIMIT, ask
from flowmaestro.testing.conformance.reading import refuse_unless_asked_for
from flowmaestro.testing.conformance.runner import TOO_LONG, Runner
from flowmaestro.testing.conformance.scripted_server import CHUNKED, Handler, Peer, chunk, reply
from flowmaestro_core.http.messages import Phase, TransportFailure

_BLOCK = 65536
_CODED = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"
_CHUNKED = reply(headers=[CHUNKED], length=False)
_EMPTY_MEMBERS = (_CODED, gzip.compress(b""))
_SMALL_MEMBERS = (_CODED, gzip.compress(b"x"))
_SMALL_CHUNKS = (_CHUNKED, chunk(b"x"))
_TRAILERS = (_CHUNKED + b"0\r\n", b"T: x\r\n")
_EARLY_REPLIES = (b"", b"HTTP/1.1 100 Continue\r\n\r\n")

_HANGS = "One hostile or broken server would hold a call up for good, whatever its `timeout`."
_HANGS_IN_READ = "One hostile or broken server would hold a stream up; nobody could close it."


def _flooding(
    begin: bytes, piece: bytes, seconds: float, clock: Callable[[], float] = time.monotonic
) -> Handler:
    block = piece * (_BLOCK // len(piece))

    def handler(peer: Peer) -> None:
        peer.read_request()
        peer.send(begin)
        end = clock() + seconds
        while clock() < end and not peer.server.leaving:
            peer.send(block)

    return handler


@check(WIRE, TIME_LIMITS, why=_HANGS)
async def a_flood_of_empty_gzip_members(runner: Runner) -> None:
    """A body of endless empty gzip members ends with the time limit, or sooner."""
    await refuse_unless_asked_for(runner, "gzip")
    await _expect_call_in_time(runner, *_EMPTY_MEMBERS)


@check(WIRE, TIME_LIMITS, why=_HANGS)
async def a_flood_of_small_gzip_members(runner: Runner) -> None:
    """A body of endless gzip members of one byte each ends with the time limit, or sooner."""
    await refuse_unless_asked_for(runner, "gzip")
    await _expect_call_in_time(runner, *_SMALL_MEMBERS)


@check(WIRE, TIME_LIMITS, why=_HANGS)
async def a_flood_of_small_chunks(runner: Runner) -> None:
    """A body of endless chunks of one byte each ends with the time limit, or sooner."""
    await _expect_call_in_time(runner, *_SMALL_CHUNKS)


@check(WIRE, TIME_LIMITS, why=_HANGS)
async def a_flood_of_trailers(runner: Runner) -> None:
    """Endless trailers behind a body end with the time limit, or sooner."""
    await _expect_call_in_time(runner, *_TRAILERS)


@check(WIRE, TIME_LIMITS, why=_HANGS)
async def a_flood_of_informational_replies(runner: Runner) -> None:
    """Endless replies of 1xx before the reply end with the time limit, or sooner."""
    await _expect_call_in_time(runner, *_EARLY_REPLIES)
    await _expect_call_in_time(runner, *_EARLY_REPLIES, opens=True)


async def _expect_call_in_time(
    runner: Runner, begin: bytes, piece: bytes, *, opens: bool = False
) -> None:
    within = runner.limit + runner.margin
    server = runner.server(_flooding(begin, piece, within + 1))
    transport = runner.transport()
    job = runner.start(transport.open if opens else transport.send, ask(server.url), runner.limit)
    await expect_failure(
        job.outcome(within), Phase.REPLY_BROKEN, Phase.MAYBE_PROCESSED, within=within
    )


@check(WIRE, STREAMS, why=_HANGS_IN_READ)
async def a_stream_flooded_with_empty_gzip_members(runner: Runner) -> None:
    """A read of a body of endless empty gzip members comes back within its patience."""
    await refuse_unless_asked_for(runner, "gzip")
    await _expect_reads_in_time(runner, *_EMPTY_MEMBERS)


@check(WIRE, STREAMS, why=_HANGS_IN_READ)
async def a_stream_flooded_with_small_gzip_members(runner: Runner) -> None:
    """A read of a body of endless gzip members of one byte comes back within its patience."""
    await refuse_unless_asked_for(runner, "gzip")
    await _expect_reads_in_time(runner, *_SMALL_MEMBERS)


@check(WIRE, STREAMS, why=_HANGS_IN_READ)
async def a_stream_flooded_with_small_chunks(runner: Runner) -> None:
    """A read of a body of endless chunks of one byte comes back within its patience."""
    await _expect_reads_in_time(runner, *_SMALL_CHUNKS)


@check(WIRE, STREAMS, why=_HANGS_IN_READ)
async def a_stream_flooded_with_trailers(runner: Runner) -> None:
    """A read that meets endless trailers comes back within its patience."""
    await _expect_reads_in_time(runner, *_TRAILERS)


async def _expect_reads_in_time(runner: Runner, begin: bytes, piece: bytes) -> None:
    patience, within = runner.limit, runner.limit + runner.margin
    server = runner.server(_flooding(begin, piece, LIMIT))
    with contextlib.suppress(TransportFailure):  # a flood may be refused
        body = await runner.transport().open(ask(server.url), LIMIT)
        for _ in range(2):
            begun = time.monotonic()
            await runner.start(body.read, patience).outcome(within)
            seconds = time.monotonic() - begun
            text = f"a read with {patience} s of patience took {seconds:.1f} s"
            expect(seconds <= within, text)
        await body.close()


_FROZEN = "Nothing else in the program would run, its time limits included."


@check(WIRE, CANCELLATION, why=_FROZEN)
async def floods_of_gzip_members_leave_the_event_loop_free(runner: Runner) -> None:
    """While a call reads endless gzip members, other tasks run, and the call can be cancelled."""
    await refuse_unless_asked_for(runner, "gzip")
    await _expect_turns(runner, *_EMPTY_MEMBERS)
    await _expect_turns(runner, *_SMALL_MEMBERS)


@check(WIRE, CANCELLATION, why=_FROZEN)
async def floods_of_framing_leave_the_event_loop_free(runner: Runner) -> None:
    """While a call reads endless chunks or trailers, other tasks run, and it can be cancelled."""
    await _expect_turns(runner, *_SMALL_CHUNKS)
    await _expect_turns(runner, *_TRAILERS)


@check(WIRE, CANCELLATION, why=_FROZEN)
async def floods_of_informational_replies_leave_the_event_loop_free(runner: Runner) -> None:
    """While a call reads endless replies of 1xx, other tasks run, and it can be cancelled."""
    await _expect_turns(runner, *_EARLY_REPLIES)


async def _expect_turns(runner: Runner, begin: bytes, piece: bytes) -> None:
    # In seconds of this process's work, so that what else the machine does counts for nothing.
    work = 6 * runner.margin
    server = runner.server(_flooding(begin, piece, work + 0.5, time.process_time))
    job = runner.start(runner.transport().send, ask(server.url), TOO_LONG)
    begun = time.process_time()
    for turns in range(1, 4):
        await runner.pause(0.01)
        seconds = time.process_time() - begun
        expect(seconds <= work, f"{turns} turns beside {piece!r}... took {seconds:.1f} s of work")
    if job.done:  # it was refused
        expect(isinstance(job.error, TransportFailure), f"{job.error or job.value!r} came of it")
        return
    job.cancel()
    ended = await runner.until(lambda: job.done, TOO_LONG / 4)
    expect(ended, f"what was cancelled went on for {TOO_LONG / 4:.0f} s")
