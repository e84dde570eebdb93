"""Checks of reading with patience: a quiet body is neither an end nor a failure.

A transport that cannot do that declares `patient = False`. Then a quiet read has to be a failure:
never an end, and never a hang. An event stream reconnects upon it.
"""

from __future__ import annotations

import threading
import time
from typing import Optional

from flowmaestro.testing.conformance.check import (
    AT_ONCE,
    STREAMS,
    WIRE,
    CheckFailed,
    NotOffered,
    check,
    expect,
)
from flowmaestro.testing.conformance.expectations import LIMIT, ask, expect_end, expect_piece, whole
from flowmaestro.testing.conformance.runner import Runner
from flowmaestro.testing.conformance.scripted_server import CHUNKED, PATIENCE, Peer, reply
from flowmaestro.testing.conformance.site import LiveReply
from flowmaestro_core.http.messages import Phase, TransportFailure
from flowmaestro_transports.contract import AsyncOpenResponse

QUIET = 0.05
"""Seconds that a quiet body is waited for."""

_IMPATIENT = "every quiet spell costs a reconnection, and events may be lost meanwhile"
_WHY = "Streams are quiet while a workflow works; that must neither end nor break them."


async def read_or_quiet(
    runner: Runner, body: AsyncOpenResponse, patience: float
) -> Optional[bytes]:
    """What `read` gives; raises `NotOffered` if the transport takes quiet for a failure."""
    begun = time.monotonic()
    try:
        data = await body.read(patience)
    except TransportFailure as failure:
        if runner.patient:
            raise CheckFailed(f"a quiet read failed: {failure}") from failure
        expect(failure.phase is Phase.REPLY_BROKEN, f"a quiet read said *{failure.phase.value}*")
        raise NotOffered("patience", _IMPATIENT) from failure
    seconds = time.monotonic() - begun
    expect(data != b"", 'a quiet read gave b"", which is the end, though the body goes on')
    expect(seconds <= patience + AT_ONCE, f"a read with {patience} s of patience took {seconds} s")
    return data


async def expect_quiet(runner: Runner, body: AsyncOpenResponse, patience: float = QUIET) -> None:
    """Nothing comes within `patience` seconds."""
    data = await read_or_quiet(runner, body, patience)
    expect(data is None, f"{data!r} came of a body that was quiet")


@check(STREAMS, why=_WHY)
async def quiet_body(runner: Runner) -> None:
    """Where nothing comes within the time, `read` gives None, and the body can be read on."""
    live = LiveReply()
    url = runner.site(lambda _: live)
    body = await runner.transport().open(ask(url), LIMIT)
    for piece in (b"one", b"two"):
        for _ in range(2):
            await expect_quiet(runner, body)
        await expect_piece(body, piece, live)
    await expect_quiet(runner, body)
    live.end()
    await expect_end(body)
    await body.close()


@check(STREAMS, why="A time limit of zero that means none would hang.")
async def no_patience_at_all(runner: Runner) -> None:
    """With a patience of 0, `read` gives what there is, or None at once."""
    live = LiveReply()
    url = runner.site(lambda _: live)
    body = await runner.transport().open(ask(url), LIMIT)
    await expect_quiet(runner, body, 0.0)
    live.send(b"one")
    got = b""
    deadline = time.monotonic() + AT_ONCE
    while len(got) < len(b"one") and time.monotonic() < deadline:
        got += await read_or_quiet(runner, body, 0.0) or b""
        await runner.pause(0.01)
    expect(got == b"one", f"{got!r} came instead of b'one'")
    await body.close()


@check(WIRE, STREAMS, why=_WHY)
async def quiet_within_a_chunk_header(runner: Runner) -> None:
    """Patience that runs out inside a chunk's header loses none of it."""
    await _expect_resumed(runner, b"0", b"5;x", b"=y\r", b"\nhello", b"\r\n0", b"\r\n\r\n")


@check(WIRE, STREAMS, why=_WHY)
async def quiet_within_a_chunk(runner: Runner) -> None:
    """Patience that runs out inside a chunk, or at the line end behind it, loses none of it."""
    await _expect_resumed(runner, b"5\r\nhe", b"ll", b"o", b"\r", b"\n0\r\n\r", b"\n")


@check(WIRE, STREAMS, why=_WHY)
async def quiet_over_tls(runner: Runner) -> None:
    """Patience is no less over TLS, where bytes may lie ready behind a quiet socket."""
    await _expect_resumed(runner, b"5\r\nhe", b"llo\r\n", b"0\r\n\r\n", tls=True)


async def _expect_resumed(runner: Runner, *parts: bytes, tls: bool = False) -> None:
    go_on = threading.Semaphore(0)

    def handler(peer: Peer) -> None:
        peer.read_request()
        peer.send(reply(headers=[CHUNKED], length=False))
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
            while (data := await read_or_quiet(runner, body, QUIET)) is not None:
                got += data
            go_on.release()
        got += await whole(body)
        expect(got == b"hello", f"the body was {got!r}, not b'hello'")
    finally:
        for _ in parts:
            go_on.release()  # the server must not wait for us
        await body.close()
