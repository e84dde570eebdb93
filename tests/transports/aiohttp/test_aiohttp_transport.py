"""What is special about the transport on aiohttp: the front door, and event loops that change."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import gzip
import socket
import sys
import threading
import traceback
from contextlib import asynccontextmanager
from typing import Any, AsyncIterator, Callable, List, Type

import aiohttp
import pytest
import trio

from flowmaestro.testing.conformance.runner import AsyncRunner
from flowmaestro.testing.conformance.site import loopback_site
from flowmaestro_core.http.messages import Headers, Phase, Request, TransportFailure
from flowmaestro_core.timeouts import Timeout
from flowmaestro_transports import AiohttpTransport
from flowmaestro_transports.http11.content_coding import MAX_PIECE
from tests.harness.runners import OnAiohttp, fails, full_listener, get, post
from tests.harness.testing.broken_transports import CHECKS

HEAD_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def on_asyncio(test: Callable[..., Any]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: Any, **fixtures: Any) -> None:
        asyncio.run(test(*args, **fixtures))

    return run


@asynccontextmanager
async def serving(scripted: Any, handler: Any, **options: Any) -> AsyncIterator[Any]:
    """A scripted server and a transport beside it."""
    with scripted.ScriptedServer(handler) as server:
        made = AiohttpTransport(**options)
        try:
            yield server, made
        finally:
            await made.close()


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nSet-Cookie: hu\x00sh\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nSet Cookie: hush\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nSet-Cookie: " + b"hush" * 50_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nSet-Cookie: hush\r\nContent-Length: 9\r\n\r\nbody",
        HEAD_CHUNKED + b"9\r\nhush",
        b"HTTP/1.1 200 " + b"hush" * 50_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nSet-Cookie: hush\r\nX",
    ],
    ids=["value", "name", "long", "counted", "chunked", "reason", "cut off"],
)
@on_asyncio
async def test_a_failure_says_in_one_line_what_is_broken(scripted: Any, data: bytes) -> None:
    async with serving(scripted, scripted.answering(data, then=scripted.Peer.close)) as (
        server,
        made,
    ):
        with pytest.raises(TransportFailure) as caught:
            await made.send(get(server), 5.0)
    assert caught.value.phase is Phase.REPLY_BROKEN
    assert len(caught.value.message) > 10
    for quoted in ("\n", "<", "hush", "'"):
        assert quoted not in f"{caught.value.message} {caught.value.__cause__}"


def test_cancelled_close_can_be_repeated() -> None:
    check = CHECKS["a-cancelled-close-can-be-repeated"]
    AsyncRunner(OnAiohttp, loopback_site, "asyncio").run(check.run, check.needs)


# A session of the caller's


@on_asyncio
async def test_connector_and_traces_of_the_session_count(scripted: Any) -> None:
    heard: List[str] = []

    async def begun(_session: object, _context: object, params: Any) -> None:
        heard.append(params.method)
        params.headers["traceparent"] = "00-1-2-01"  # as instrumentations do

    watch = aiohttp.TraceConfig()
    watch.on_request_start.append(begun)
    handler = scripted.answering(
        scripted.reply(b"ok"), scripted.reply(b"open"), HEAD_CHUNKED + b"1\r\nx\r\n"
    )
    connector = aiohttp.TCPConnector(limit=1)
    async with (
        aiohttp.ClientSession(connector=connector, trace_configs=[watch]) as session,
        serving(scripted, handler, session=session) as (server, made),
    ):
        assert (await made.send(post(server), 5.0)).body == b"ok"
        assert server.requests[0]["traceparent"] == "00-1-2-01"
        await made.close()
        async with session.get(server.url) as reply:
            assert await reply.read() == b"open"
        again = AiohttpTransport(session)
        body = await again.open(get(server), 5.0)
        assert await body.read(5.0) == b"x"
        assert await body.read(0.05) is None
        await again.close()
        assert not session.closed
        assert server.connections == 1
    assert heard == ["POST", "GET", "GET"]


@pytest.mark.parametrize(
    ("moment", "raised", "phase"),
    [
        ("on_request_start", ValueError, Phase.NOT_SENT),
        ("on_request_headers_sent", ValueError, Phase.MAYBE_PROCESSED),
        ("on_request_headers_sent", StopIteration, Phase.MAYBE_PROCESSED),
        ("on_request_end", ValueError, Phase.REPLY_BROKEN),
    ],
)
@on_asyncio
async def test_a_trace_config_that_raises(
    scripted: Any, moment: str, raised: Type[Exception], phase: Phase
) -> None:
    """Only before the request left is it certain that it did not.

    After a `StopIteration`, a coroutine fails as aiohttp does if a host has no address.
    """

    async def failing(*_: object) -> None:
        raise raised("not sent")

    watch = aiohttp.TraceConfig()
    getattr(watch, moment).append(failing)
    async with (
        aiohttp.ClientSession(trace_configs=[watch]) as session,
        serving(scripted, scripted.answering(scripted.reply(b"ok")), session=session) as (
            server,
            made,
        ),
    ):
        with fails(phase):
            await made.send(post(server), 5.0)


@pytest.mark.parametrize("moment", ["on_request_headers_sent", "on_request_end"])
@on_asyncio
async def test_no_frame_of_ours_shows_the_key_when_a_trace_config_raises(
    scripted: Any, moment: str
) -> None:
    """An error of the caller's own keeps its traceback, so that the caller finds the place."""
    key = "fm_live_0123456789abcdef"

    async def failing(*_: object) -> None:
        raise ZeroDivisionError

    watch = aiohttp.TraceConfig()
    getattr(watch, moment).append(failing)
    handler = scripted.answering(scripted.reply(b"ok"))
    async with (
        aiohttp.ClientSession(trace_configs=[watch]) as session,
        serving(scripted, handler, session=session) as (server, made),
    ):
        with pytest.raises(ZeroDivisionError) as caught:
            await made.send(Request("GET", server.url, Headers({"X-API-Key": key})), 5.0)
    ours = {
        f"{name} in {frame.f_code.co_name}"
        for frame, _ in traceback.walk_tb(caught.value.__traceback__)
        if "flowmaestro_transports" in frame.f_code.co_filename
        for name, value in frame.f_locals.items()
        if key in repr(value)
    }
    assert ours == set()


@on_asyncio
async def test_the_session_adds_nothing(scripted: Any) -> None:
    async with (
        aiohttp.ClientSession(headers={"X-Mine": "session"}) as session,
        serving(scripted, scripted.echo, session=session) as (server, made),
    ):
        await made.send(post(server, accept="*/*", **{"X-API-Key": "k"}), 5.0)
    names = [name for name, _ in server.requests[0].headers]
    assert names == ["Host", "accept", "X-API-Key", "Content-Length"]


# Event loops


def test_the_transport_belongs_to_the_event_loop_of_its_first_call(scripted: Any) -> None:
    made = AiohttpTransport()

    async def first(server: Any) -> None:
        await made.send(post(server), 5.0)
        for use in (made.send(post(server), 5.0), made.open(post(server), 5.0), made.sleep(0)):
            outcome = await asyncio.get_running_loop().run_in_executor(None, elsewhere, use)
            assert "another event loop" in outcome
        assert (await made.send(post(server), 5.0)).status == 200
        await made.close()

    def elsewhere(use: Any) -> str:
        with pytest.raises(RuntimeError) as caught:
            asyncio.run(use)
        return str(caught.value)

    with scripted.ScriptedServer(scripted.echo) as server:
        asyncio.run(first(server))
    assert server.connections == 1


def test_without_asyncio_it_says_so() -> None:
    made = AiohttpTransport()

    async def call() -> None:
        with pytest.raises(RuntimeError, match="runs on asyncio"):
            await made.send(Request("GET", "http://127.0.0.1:1", Headers()), 1.0)
        await made.close()

    trio.run(call)


@pytest.mark.parametrize(
    "when",
    [
        "read",
        "closed",
        pytest.param(
            "late",
            marks=pytest.mark.skipif(
                sys.version_info >= (3, 11), reason="asyncio waits 30 s for TLS there"
            ),
        ),
    ],
)
@on_asyncio
async def test_a_missing_close_notify_keeps_no_connection_open(
    scripted: Any, server_tls: Any, ca_file: str, when: str
) -> None:
    """A peer that does not answer the end of TLS holds nothing once the transport has closed."""
    left = threading.Event()

    def silent(peer: Any) -> None:
        peer.read_request()
        if when != "late":
            peer.send(HEAD_CHUNKED)
        with contextlib.suppress(OSError):
            while socket.socket.recv(peer.sock, 1024):  # below TLS, which would answer
                pass
        left.set()

    with scripted.ScriptedServer(silent, tls=server_tls) as server:
        transport = OnAiohttp(verify=ca_file)
        if when == "late":
            with fails(Phase.MAYBE_PROCESSED, timed_out=True):
                await transport.send(get(server), 2.0)  # TLS needs a part of it.
        else:
            body = await transport.open(get(server), 5.0)
            if when == "closed":
                await body.close()
        await transport.close()
        assert await asyncio.get_running_loop().run_in_executor(None, left.wait, 10.0)


@on_asyncio
async def test_reply_of_exactly_max_reply_size_is_read_to_its_end(scripted: Any) -> None:
    truncated = gzip.compress(b"hello")[:-1]  # Only the end of the body shows it.
    data = scripted.reply(truncated, headers=[("Content-Encoding", "gzip")])
    async with serving(scripted, scripted.answering(data)) as (server, made):
        with fails(Phase.REPLY_BROKEN):
            await made.send(dataclasses.replace(get(server), max_reply_size=5), 5.0)


@on_asyncio
async def test_connecting_beyond_a_limit_for_the_head_is_not_sent() -> None:
    """Without `connect`, the limit for the head ends the connecting, too."""
    transport = AiohttpTransport()
    with full_listener() as url, fails(Phase.NOT_SENT, timed_out=True):
        await transport.send(Request("POST", url, Headers()), Timeout(60.0, head=0.4))
    await transport.close()


@on_asyncio
async def test_read_returns_at_most_64_kib_of_a_plain_body(scripted: Any) -> None:
    content = bytes(range(256)) * 4096
    async with serving(scripted, scripted.answering(scripted.reply(content))) as (server, made):
        body = await made.open(get(server), 5.0)
        pieces: List[bytes] = []
        while not pieces or pieces[-1]:
            await asyncio.sleep(0.01)  # More than one piece arrives meanwhile.
            pieces.append(await body.read(5.0))
    assert b"".join(pieces) == content
    assert max(map(len, pieces)) <= MAX_PIECE
