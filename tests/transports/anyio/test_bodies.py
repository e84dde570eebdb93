"""Bodies on an event loop: cancelled reads, turns of other tasks, closing."""

from __future__ import annotations

import gc
import gzip
import math
import threading
import time
import zlib
from typing import Any, List

import anyio
import pytest
from anyio.lowlevel import checkpoint

from flowmaestro_core.http.messages import Phase
from flowmaestro_transports.anyio.transport import AnyioTransport
from flowmaestro_transports.http11.content_coding import MAX_PIECE, ContentDecoder
from tests.harness.runners import ASYNC, Runner, get
from tests.harness.transports.anyio_scenes import Play, failure

ON_EACH_STACK = pytest.mark.parametrize("runner", ASYNC, ids=str)


@ON_EACH_STACK
def test_a_cancelled_read_loses_nothing(runner: Runner, scripted: Any) -> None:
    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(scripted.HEAD_CHUNKED)
        for n in range(200):
            peer.send(scripted.chunk(b"%03d " % n))
            time.sleep(0.0005)
        peer.send(scripted.chunk(b""))

    async def main() -> None:
        transport = runner.make()
        body = await transport.open(get(server), 5)
        seen = []
        while True:
            data = None
            with anyio.move_on_after(0.0007):
                data = await body.read(math.inf)
            if data == b"":
                break
            if data is None:
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    data = await body.read(5)
            seen.append(data or b"")
        assert b"".join(seen) == b"".join(b"%03d " % n for n in range(200))
        await transport.close()

    with scripted.ScriptedServer(handler) as server:
        anyio.run(main, backend=runner.backend)


BOMB = 16 * 1024 * 1024
"""Bytes of blank lines; gzip makes 16 KB of them."""


def gzip_bomb(scripted: Any) -> Any:
    body = gzip.compress(b"\n" * BOMB)
    return scripted.answering(scripted.reply(body, headers=[("Content-Encoding", "gzip")]))


@ON_EACH_STACK
@pytest.mark.parametrize("patience", [0.0, 5.0])
def test_each_piece_of_a_gzip_bomb_gives_other_tasks_a_turn(
    runner: Runner, scripted: Any, patience: float
) -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await checkpoint()

    async def main() -> None:
        transport = runner.make()
        body = await transport.open(get(server), 5)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(count_turns)
            await checkpoint()
            size = reads = 0
            while True:
                data = await body.read(patience)
                if data == b"":
                    break
                reads += data is not None
                assert turns >= reads  # trio runs the tasks of one turn in any order
                size += len(data or b"")
                assert len(data or b"") <= MAX_PIECE
            assert size == BOMB
            tasks.cancel_scope.cancel()
        await transport.close()

    with scripted.ScriptedServer(gzip_bomb(scripted)) as server:
        anyio.run(main, backend=runner.backend)


@ON_EACH_STACK
def test_send_can_be_cancelled_between_pieces_of_a_gzip_bomb(
    runner: Runner, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deadline is a cancellation, too."""
    pieces = 0
    scopes: List[anyio.CancelScope] = []

    def feed_and_cancel(decoder: ContentDecoder, data: bytes) -> bytes:
        nonlocal pieces
        pieces += 1
        if pieces == 3:
            scopes[0].cancel()
        return feed(decoder, data)

    feed = ContentDecoder.feed
    monkeypatch.setattr(ContentDecoder, "feed", feed_and_cancel)

    async def main() -> None:
        transport = runner.make()
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await transport.send(get(server), 60)
        assert scope.cancelled_caught
        assert pieces == 3
        await transport.close()

    with scripted.ScriptedServer(gzip_bomb(scripted)) as server:
        anyio.run(main, backend=runner.backend)


def test_closing_a_body_wakes_its_reader_and_no_other_task_may_read(
    play: Play, scripted: Any
) -> None:
    async def scenario(transport: AnyioTransport) -> None:
        body = await transport.open(get(server), 5)

        async def closer() -> None:
            await anyio.sleep(0.02)
            with pytest.raises(RuntimeError, match="another task"):
                await body.read(1)
            with anyio.CancelScope() as scope:
                scope.cancel()
                await body.close()  # in a cancelled task

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(closer)
            error = await failure(body.read(math.inf))
        assert error.phase is Phase.REPLY_BROKEN
        assert not error.timed_out

    with scripted.ScriptedServer(scripted.answering(scripted.HEAD_CHUNKED)) as server:
        play(scenario)


def test_reader_does_not_wait_if_the_body_is_closed_during_its_first_turn(
    play: Play, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The body may have more to decode, so other tasks get a turn first. It has nothing more."""
    coder = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    piece = coder.compress(bytes(MAX_PIECE)) + coder.flush(zlib.Z_SYNC_FLUSH)

    def handler(peer: Any) -> None:
        fields = [scripted.CHUNKED, ("Content-Encoding", "gzip")]
        peer.read_request()
        peer.send(scripted.reply(headers=fields, length=False) + scripted.chunk(piece))
        peer.wait_closed()

    async def scenario(transport: AnyioTransport) -> None:
        body = await transport.open(get(server), 60)
        assert await body.read(60) == bytes(MAX_PIECE)
        turns: List[None] = []

        async def turn() -> None:
            turns.append(await checkpoint())
            await body.close()

        monkeypatch.setattr("flowmaestro_transports.anyio.body.checkpoint", turn)
        monkeypatch.setattr(anyio, "wait_readable", None)
        assert (await failure(body.read(60))).phase is Phase.REPLY_BROKEN
        assert len(turns) == 1

    with scripted.ScriptedServer(handler) as server:
        play(scenario)


def test_a_dropped_body_hangs_up(play: Play, scripted: Any) -> None:
    hung_up = threading.Event()

    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(scripted.HEAD_CHUNKED)
        peer.wait_closed()
        hung_up.set()

    async def scenario(transport: AnyioTransport) -> None:
        body = await transport.open(get(server), 5)
        await body.read(0)
        await checkpoint()  # until then, the event loop still holds the cancellation and its frames
        del body
        gc.collect()
        assert hung_up.wait(60)

    with scripted.ScriptedServer(handler) as server:
        play(scenario)
