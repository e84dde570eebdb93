"""What is special about the transport on aiohttp: the front door, and event loops that change."""

from __future__ import annotations

import asyncio
import functools
import gc
import gzip
import threading
from contextlib import asynccontextmanager
from typing import Any, AsyncIterator, Callable, List

import aiohttp
import pytest
import trio

from flowmaestro_core.http.messages import Headers, Phase, Request, TransportFailure
from flowmaestro_transports import AiohttpTransport
from flowmaestro_transports.http11 import content_coding
from tests.harness.runners import fails

SENT = Headers(
    [("X-API-Key", "k"), ("accept", "*/*"), ("Accept-Encoding", "gzip"), ("User-Agent", "test/1")]
)
HEAD_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def get(url: str, path: str = "/") -> Request:
    return Request("GET", url + path, SENT)


def post(url: str, body: bytes = b"{}") -> Request:
    return Request("POST", url + "/things", SENT, body)


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


def scripts(*replies: bytes, close: bool = False) -> Any:
    """A handler that answers one request after another, then waits for the client to leave."""

    def handler(peer: Any) -> None:
        for data in replies:
            if peer.read_request() is None:
                return
            peer.send(data)
        if not close:
            peer.wait_closed()

    return handler


@on_asyncio
async def test_the_request_goes_out_as_it_is(scripted: Any) -> None:
    received = []

    def handler(peer: Any) -> None:
        data = b""
        while b'{"a":1}' not in data:
            data += peer.sock.recv(65536)
        received.append(data)
        peer.send(scripted.reply())

    async with serving(scripted, handler) as (server, made):
        headers = Headers([("X-b", "1"), ("x-A", "2"), ("Content-Type", "application/json")])
        url = f"{server.url}/a%2Fb/%C3%A9?q=%20x&y=a+b"
        await made.send(Request("PUT", url, headers, b'{"a":1}'), 5.0)
    assert received == [
        b"PUT /a%2Fb/%C3%A9?q=%20x&y=a+b HTTP/1.1\r\n"
        + f"Host: 127.0.0.1:{server.port}\r\n".encode()
        + b"X-b: 1\r\nx-A: 2\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n"
        b'{"a":1}'
    ]


@on_asyncio
async def test_a_connection_is_kept_and_used_again(scripted: Any) -> None:
    async with serving(scripted, scripted.echo) as (server, made):
        for number in range(5):
            response = await made.send(post(server.url, b"%d" % number), 5.0)
            assert response.body == b"%d" % number
        assert server.connections == 1


@on_asyncio
async def test_a_finished_stream_gives_its_connection_back(scripted: Any) -> None:
    data = scripted.reply(b"ok")
    async with serving(scripted, scripts(data, data)) as (server, made):
        for _ in range(2):
            body = await made.open(get(server.url), 5.0)
            assert (await body.read(5.0), await body.read(5.0)) == (b"ok", b"")
            await body.close()
        assert server.connections == 1


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
    async with serving(scripted, scripts(data, close=True)) as (server, made):
        with pytest.raises(TransportFailure) as caught:
            await made.send(get(server.url), 5.0)
    assert caught.value.phase is Phase.REPLY_BROKEN
    assert len(caught.value.message) > 10
    for quoted in ("\n", "<", "hush", "'"):
        assert quoted not in f"{caught.value.message} {caught.value.__cause__}"


@on_asyncio
async def test_a_large_body_goes_out_whole(scripted: Any) -> None:
    data = bytes(range(256)) * 8192
    async with serving(scripted, scripted.echo) as (server, made):
        assert (await made.send(post(server.url, data), 5.0)).body == data
    received = server.requests[0]
    assert received["content-length"] == str(len(data))
    assert "content-type" not in received
    assert "content-disposition" not in received


@pytest.mark.parametrize(
    ("coding", "content"),
    [("gzip", gzip.compress(b"hello")[:-3]), ("gzip", b"plain"), ("br", b"x"), ("gzip, br", b"x")],
    ids=["cut off", "not gzip", "unknown", "two"],
)
@on_asyncio
async def test_what_cannot_be_inflated_is_no_result(
    scripted: Any, coding: str, content: bytes
) -> None:
    data = scripted.reply(content, headers=[("Content-Encoding", coding)])
    async with serving(scripted, scripts(data, data)) as (server, made):
        with fails(Phase.REPLY_BROKEN):
            await made.send(get(server.url), 5.0)


@on_asyncio
async def test_a_reply_is_bounded(scripted: Any) -> None:
    limit = content_coding.MAX_BODY
    data = scripted.reply(
        gzip.compress(bytes(limit + 1), 1), headers=[("Content-Encoding", "gzip")]
    )
    async with serving(scripted, scripts(data)) as (server, made):
        with fails(Phase.REPLY_BROKEN, f"more than {limit} bytes"):
            await made.send(get(server.url), 20.0)


@pytest.mark.parametrize(
    "url", ["http://no-such-host.invalid", "ftp://127.0.0.1/a", "a", "http://[::"]
)
@on_asyncio
async def test_what_leads_nowhere_is_not_sent(url: str) -> None:
    made = AiohttpTransport()
    with fails(Phase.NOT_SENT):
        await made.open(get(url), 5.0)
    with fails(Phase.NOT_SENT, timed_out=True):
        await made.send(get(url), 0.0)
    await made.close()


@on_asyncio
async def test_garbage_that_nobody_waits_for_breaks_the_reply(scripted: Any) -> None:
    broken = threading.Event()

    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(HEAD_CHUNKED + b"5\r\nhello\r\n")
        broken.wait(5.0)
        peer.send(b"no length\r\n")
        peer.wait_closed()

    async with serving(scripted, handler) as (server, made):
        body = await made.open(get(server.url), 5.0)
        assert await body.read(5.0) == b"hello"
        broken.set()
        await asyncio.sleep(0.1)  # until it has arrived
        for _ in range(2):
            with fails(Phase.REPLY_BROKEN):
                await body.read(5.0)
        await body.close()


@on_asyncio
async def test_cancelling_a_read_loses_nothing(scripted: Any) -> None:
    go_on = threading.Event()

    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(HEAD_CHUNKED)
        go_on.wait(5.0)
        peer.send(b"5\r\nhello\r\n0\r\n\r\n")
        peer.wait_closed()

    async with serving(scripted, handler) as (server, made):
        body = await made.open(get(server.url), 5.0)
        reader = asyncio.ensure_future(body.read(30.0))
        await asyncio.sleep(0.05)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        go_on.set()
        assert await body.read(5.0) == b"hello"


@on_asyncio
async def test_a_close_that_was_cancelled_can_be_repeated(scripted: Any, server_tls: Any) -> None:
    """Over TLS, closing takes its time: a peer may never say goodbye."""
    let_on = threading.Event()

    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(scripted.reply(b"ok"))
        let_on.wait(5.0)
        peer.wait_closed()

    with scripted.ScriptedServer(handler, tls=server_tls) as server:
        made = AiohttpTransport(verify=False)
        await made.send(get(server.url), 5.0)
        await made.open(get(server.url), 5.0)
        closing = asyncio.ensure_future(made.close())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        let_on.set()
        await made.close()
        for _ in range(100):
            if not server.open_connections:
                break
            await asyncio.sleep(0.05)
        assert not server.open_connections


# A session of the caller's


@on_asyncio
async def test_connector_and_traces_of_the_session_count(scripted: Any) -> None:
    heard: List[str] = []

    async def begun(_session: object, _context: object, params: Any) -> None:
        heard.append(params.method)
        params.headers["traceparent"] = "00-1-2-01"  # as instrumentations do

    watch = aiohttp.TraceConfig()
    watch.on_request_start.append(begun)
    handler = scripts(scripted.reply(b"ok"), scripted.reply(b"open"), HEAD_CHUNKED + b"1\r\nx\r\n")
    connector = aiohttp.TCPConnector(limit=1)
    async with (
        aiohttp.ClientSession(connector=connector, trace_configs=[watch]) as session,
        serving(scripted, handler, session=session) as (server, made),
    ):
        assert (await made.send(post(server.url), 5.0)).body == b"ok"
        assert server.requests[0]["traceparent"] == "00-1-2-01"
        await made.close()
        async with session.get(server.url) as reply:
            assert await reply.read() == b"open"
        again = AiohttpTransport(session)
        body = await again.open(get(server.url), 5.0)
        assert await body.read(5.0) == b"x"
        assert await body.read(0.05) is None
        await again.close()
        assert not session.closed
        assert server.connections == 1
    assert heard == ["POST", "GET", "GET"]


@on_asyncio
async def test_the_session_adds_nothing(scripted: Any) -> None:
    async with (
        aiohttp.ClientSession(headers={"X-Mine": "session"}) as session,
        serving(scripted, scripted.echo, session=session) as (server, made),
    ):
        await made.send(post(server.url), 5.0)
    names = [name for name, _ in server.requests[0].headers]
    assert names == ["Host", *(name for name, _ in SENT.pairs), "Content-Length"]


# Event loops


def test_one_event_loop_after_another(scripted: Any) -> None:
    made = AiohttpTransport()

    async def call(url: str) -> None:
        assert (await made.send(post(url, b"hello"), 5.0)).body == b"hello"
        body = await made.open(post(url, b"hello"), 5.0)
        assert await body.read(5.0) == b"hello"
        await body.close()

    with scripted.ScriptedServer(scripted.echo) as server:
        for _ in range(3):
            asyncio.run(call(server.url))
        assert server.connections == 6
        asyncio.run(made.close())


def test_a_loop_that_is_shut_down_late_closes_nothing_of_the_next(scripted: Any) -> None:
    more = threading.Event()

    def handler(peer: Any) -> None:
        if peer.read_request().method == "POST":
            peer.send(scripted.reply(b"ok"))
        else:
            peer.send(HEAD_CHUNKED + b"2\r\nhe\r\n")
            assert more.wait(10)
            peer.send(b"3\r\nllo\r\n0\r\n\r\n")
        peer.wait_closed()

    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    with scripted.ScriptedServer(handler) as server:
        made = AiohttpTransport()
        first.run_until_complete(made.send(post(server.url), 5.0))
        body = second.run_until_complete(made.open(get(server.url), 5.0))
        assert second.run_until_complete(body.read(5.0)) == b"he"
        first.run_until_complete(first.shutdown_asyncgens())
        first.close()
        more.set()
        assert second.run_until_complete(body.read(5.0)) == b"llo"
        second.run_until_complete(made.close())
        second.run_until_complete(second.shutdown_asyncgens())
        second.close()


def test_a_loop_closed_in_bad_order_is_left_alone(scripted: Any) -> None:
    made = AiohttpTransport()
    refused = AiohttpTransport()

    async def call(transport: AiohttpTransport, url: str) -> None:
        await transport.send(post(url), 5.0)

    handler = scripts(scripted.reply(headers=[("Connection", "close")]))
    with scripted.ScriptedServer(handler) as server:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(call(made, server.url))
        loop.run_until_complete(asyncio.sleep(0.05))
        loop.close()
        asyncio.run(call(made, server.url))
        asyncio.run(made.close())
        asyncio.run(refused.close())


def test_a_loop_that_stands_still_is_left_alone(scripted: Any) -> None:
    made = AiohttpTransport()
    loops = [asyncio.new_event_loop() for _ in range(3)]
    with scripted.ScriptedServer(scripted.echo) as server:
        for loop in loops:
            reply = loop.run_until_complete(made.send(post(server.url), 5.0))
            assert reply.status == 200
        loops[-1].run_until_complete(made.close())
        for loop in loops:
            loop.run_until_complete(asyncio.sleep(0))  # what had been asked of it is done now
            loop.close()


def test_dropped_without_close_it_ends_with_its_loop(scripted: Any) -> None:
    async def call(url: str) -> None:
        made = AiohttpTransport()
        await made.send(post(url), 5.0)

    with (
        scripted.ScriptedServer(scripted.echo) as server,
        pytest.warns(ResourceWarning, match="unclosed .*AiohttpTransport"),
    ):
        asyncio.run(call(server.url))
    gc.collect()


def test_two_running_loops_are_refused(scripted: Any) -> None:
    made = AiohttpTransport()

    async def first(url: str) -> None:
        await made.send(post(url), 5.0)
        outcome = await asyncio.get_running_loop().run_in_executor(None, second, url)
        assert "another event loop" in outcome
        await made.close()

    def second(url: str) -> str:
        with pytest.raises(RuntimeError) as caught:
            asyncio.run(made.send(post(url), 5.0))
        return str(caught.value)

    with scripted.ScriptedServer(scripted.echo) as server:
        asyncio.run(first(server.url))


def test_without_asyncio_it_says_so() -> None:
    made = AiohttpTransport()

    async def call() -> None:
        with pytest.raises(RuntimeError, match="runs on asyncio"):
            await made.send(get("http://127.0.0.1:1"), 1.0)
        await made.close()

    trio.run(call)


@pytest.mark.parametrize(
    "option",
    [{"verify": False}, {"client_cert": "me.pem"}, {"trust_env": False}, {"proxy": "http://p"}],
    ids=lambda option: next(iter(option)),
)
@on_asyncio
async def test_what_belongs_to_a_session(option: Any) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(ValueError, match="belong to the session"):
            AiohttpTransport(session, **option)


def test_bad_options() -> None:
    with pytest.raises(ValueError, match="max_connections"):
        AiohttpTransport(max_connections=0)
