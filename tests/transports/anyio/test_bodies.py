"""Bodies that `AnyioTransport.open` leaves open: patience, closing, dropping."""

from __future__ import annotations

import gc
import gzip
import math
import threading
import time
import zlib
from typing import Any, Callable, List, Optional, Tuple

import anyio
import pytest
from anyio.lowlevel import checkpoint

from flowmaestro_core.http.messages import Phase
from flowmaestro_transports.anyio.transport import AnyioTransport
from flowmaestro_transports.http11.content_coding import MAX_PIECE
from flowmaestro_transports.http11.exchange import Exchange
from tests.harness.runners import get
from tests.harness.transports.anyio_scenes import Play, failure


def test_a_cancelled_read_loses_nothing(play: Play, scripted: Any) -> None:
    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(scripted.reply(headers=[scripted.CHUNKED], length=False))
        for n in range(200):
            peer.send(scripted.chunk(b"%03d " % n))
            time.sleep(0.0005)
        peer.send(scripted.chunk(b""))

    async def scenario(transport: AnyioTransport) -> bytes:
        body = await transport.open(get(server), 5)
        seen = []
        while True:
            data = None
            with anyio.move_on_after(0.0007):
                data = await body.read(math.inf)
            if data == b"":
                return b"".join(seen)
            if data is None:
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    data = await body.read(5)
            seen.append(data or b"")

    with scripted.ScriptedServer(handler) as server:
        assert play(scenario) == b"".join(b"%03d " % n for n in range(200))


def test_buffered_bytes_are_read_in_one_piece(play: Play, scripted: Any) -> None:
    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(scripted.reply(headers=[scripted.CHUNKED], length=False))
        go.wait(60)
        peer.send(b"".join(scripted.chunk(b"event %d\n" % n) for n in range(100)))
        there.set()
        peer.wait_closed()

    go, there = threading.Event(), threading.Event()

    async def scenario(transport: AnyioTransport) -> None:
        body = await transport.open(get(server), 5)
        assert await body.read(0.01) is None
        go.set()
        there.wait(60)
        data = await body.read(5)
        assert data is not None
        assert data.count(b"\n") == 100
        await body.close()

    with scripted.ScriptedServer(handler) as server:
        play(scenario)


@pytest.mark.parametrize("patience", [0.0, 5.0])
def test_each_piece_of_a_gzip_bomb_gives_other_tasks_a_turn(
    play: Play, scripted: Any, patience: float
) -> None:
    """60 MiB of blank lines arrive as 61 KB."""
    bomb = gzip.compress(b"\n" * 60 * 1024 * 1024)

    def handler(peer: Any) -> None:
        peer.read_request()
        fields = [scripted.CHUNKED, ("Content-Encoding", "gzip")]
        peer.send(scripted.reply(headers=fields, length=False) + scripted.chunk(bomb))
        peer.send(scripted.chunk(b""))

    turns = 0

    async def scenario(transport: AnyioTransport) -> None:
        body = await transport.open(get(server), 5)

        async def count_turns() -> None:
            nonlocal turns
            while True:
                turns += 1
                await checkpoint()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(count_turns)
            await checkpoint()
            size = reads = 0
            while True:
                data = await body.read(patience)
                if data == b"":
                    break
                reads += 1
                assert turns >= reads  # trio runs the tasks of one turn in any order
                size += len(data or b"")
                assert len(data or b"") <= MAX_PIECE
            assert size == 60 * 1024 * 1024
            tasks.cancel_scope.cancel()

    with scripted.ScriptedServer(handler) as server:
        play(scenario)


def test_send_can_be_cancelled_between_pieces_of_a_gzip_bomb(
    play: Play, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deadline is a cancellation, too."""
    body = gzip.compress(b"\n" * 32 * MAX_PIECE)

    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(scripted.reply(body, headers=[("Content-Encoding", "gzip")]))

    pieces = 0
    scopes = []

    def take_and_cancel(exchange: Exchange) -> Optional[bytes]:
        nonlocal pieces
        pieces += 1
        if pieces == 3:
            scopes[0].cancel()
        return take(exchange)

    take = Exchange.take
    monkeypatch.setattr(Exchange, "take", take_and_cancel)

    async def scenario(transport: AnyioTransport) -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await transport.send(get(server), 60)
        assert scope.cancelled_caught
        assert pieces == 3

    with scripted.ScriptedServer(handler) as server:
        play(scenario)


def until_hung_up(scripted: Any) -> Tuple[Callable[[Any], None], threading.Event]:
    """A handler that begins a body and notices when its client leaves."""
    hung_up = threading.Event()

    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(scripted.reply(headers=[scripted.CHUNKED], length=False))
        peer.wait_closed()
        hung_up.set()

    return handler, hung_up


def test_closing_a_body_hangs_up(play: Play, scripted: Any) -> None:
    handler, hung_up = until_hung_up(scripted)

    async def scenario(transport: AnyioTransport) -> None:
        body = await transport.open(get(server), 5)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await body.close()  # in a cancelled task
        assert hung_up.wait(60)
        await body.close()
        error = await failure(body.read(1))
        assert error.phase is Phase.REPLY_BROKEN

    with scripted.ScriptedServer(handler) as server:
        play(scenario)


@pytest.mark.parametrize("closed_by", ["body", "transport"])
def test_closing_wakes_a_reader(play: Play, scripted: Any, closed_by: str) -> None:
    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(scripted.reply(headers=[scripted.CHUNKED], length=False))
        peer.wait_closed()

    async def scenario(transport: AnyioTransport) -> None:
        body = await transport.open(get(server), 5)

        async def closer() -> None:
            await anyio.sleep(0.02)
            with pytest.raises(RuntimeError, match="another task"):
                await body.read(1)
            await (body if closed_by == "body" else transport).close()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(closer)
            error = await failure(body.read(math.inf))
        assert error.phase is Phase.REPLY_BROKEN
        assert not error.timed_out

    with scripted.ScriptedServer(handler) as server:
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
    handler, hung_up = until_hung_up(scripted)

    async def scenario(transport: AnyioTransport) -> None:
        body = await transport.open(get(server), 5)
        await body.read(0)
        await checkpoint()  # until then, the event loop still holds the cancellation and its frames
        del body
        gc.collect()
        assert hung_up.wait(60)

    with scripted.ScriptedServer(handler) as server:
        play(scenario)
