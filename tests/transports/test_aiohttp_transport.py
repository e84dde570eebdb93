from __future__ import annotations

import asyncio
import functools
import gc
import gzip
import socket
import ssl
import threading
import time
from contextlib import asynccontextmanager, contextmanager
from typing import Any, AsyncIterator, Callable, Iterator

import aiohttp
import pytest
import trio

from flowmaestro_core.http.messages import Headers, Phase, Request, TransportFailure
from flowmaestro_transports.aiohttp.transport import AiohttpTransport
from flowmaestro_transports.contract import AsyncOpenResponse, AsyncTransport
from flowmaestro_transports.http11 import content_coding

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
async def serving(
    scripted: Any, handler: Any, tls: Any = None, **options: Any
) -> AsyncIterator[Any]:
    """A scripted server and a transport beside it."""
    with scripted.ScriptedServer(handler, tls=tls) as server:
        made = AiohttpTransport(**options)
        try:
            yield server, made
        finally:
            await made.close()
            if tls:  # the server must not shut down a TLS socket that its handler still reads
                await asyncio.get_running_loop().run_in_executor(None, join_handlers, server)


def join_handlers(server: Any) -> None:
    for thread in list(server._peers.values()):
        thread.join(5.0)


@contextmanager
def fails(phase: Phase, text: str = "", timed_out: bool = False) -> Iterator[None]:
    with pytest.raises(TransportFailure, match=text or None) as caught:
        yield
    assert (caught.value.phase, caught.value.timed_out) == (phase, timed_out)


async def whole(body: AsyncOpenResponse) -> bytes:
    pieces = []
    while True:
        piece = await body.read(5.0)
        assert piece is not None
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)


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
async def test_it_is_a_transport() -> None:
    made = AiohttpTransport()
    assert isinstance(made, AsyncTransport)
    begun = made.now()
    await made.sleep(0.01)
    assert made.now() - begun >= 0.009
    await made.close()


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


@pytest.mark.parametrize(
    "ending",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\n\r\nok",
    ],
)
@on_asyncio
async def test_a_connection_that_ends_with_its_reply_is_not_used_again(
    scripted: Any, ending: bytes
) -> None:
    async with serving(scripted, scripts(ending, close=True)) as (server, made):
        for _ in range(2):
            assert (await made.send(get(server.url), 5.0)).body == b"ok"
        assert server.connections == 2


@on_asyncio
async def test_a_connection_closed_while_idle_is_noticed(scripted: Any) -> None:
    async with serving(scripted, scripts(scripted.reply(b"ok"), close=True)) as (server, made):
        for _ in range(3):
            assert (await made.send(post(server.url), 5.0)).body == b"ok"
            await asyncio.sleep(0.05)  # the server's goodbye has to arrive


BODIES = {
    "counted": b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world",
    "chunked": HEAD_CHUNKED + b"6;x=y\r\nhello \r\n5\r\nworld\r\n0\r\nT: x\r\n\r\n",
    "until close": b"HTTP/1.1 200 OK\r\n\r\nhello world",
}


@pytest.mark.parametrize("kind", ["counted", "chunked"])
@on_asyncio
async def test_a_body_that_breaks_off_is_never_a_result(scripted: Any, kind: str) -> None:
    data = BODIES[kind]
    for end in range(data.index(b"\r\n\r\n") + 4, len(data), 5):
        async with serving(scripted, scripts(data[:end], close=True)) as (server, made):
            with fails(Phase.REPLY_BROKEN):
                await made.send(get(server.url), 5.0)


@on_asyncio
async def test_a_head_that_breaks_off_is_never_a_result(scripted: Any) -> None:
    head = b"HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 0\r\n\r\n"
    for end in range(1, len(head)):
        async with serving(scripted, scripts(head[:end], close=True)) as (server, made):
            with pytest.raises(TransportFailure) as caught:
                await made.send(get(server.url), 5.0)
            assert caught.value.phase is not Phase.NOT_SENT
            assert "<" not in caught.value.message


@on_asyncio
async def test_a_head_that_breaks_off_is_a_broken_reply(scripted: Any) -> None:
    data = b"HTTP/1.1 200 OK\r\nSet-Cookie: hush\r\nX"
    async with serving(scripted, scripts(data, close=True)) as (server, made):
        with fails(Phase.REPLY_BROKEN, "closed the connection$"):
            await made.send(get(server.url), 5.0)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nSet-Cookie: hu\x00sh\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nSet Cookie: hush\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nSet-Cookie: " + b"hush" * 50_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nSet-Cookie: hush\r\nContent-Length: 9\r\n\r\nbody",
        HEAD_CHUNKED + b"9\r\nhush",
        b"HTTP/1.1 200 " + b"hush" * 50_000 + b"\r\n\r\n",
    ],
    ids=["value", "name", "long", "counted", "chunked", "reason"],
)
@on_asyncio
async def test_a_failure_says_in_one_line_what_is_broken(scripted: Any, data: bytes) -> None:
    async with serving(scripted, scripts(data, close=True)) as (server, made):
        with pytest.raises(TransportFailure) as caught:
            await made.send(get(server.url), 5.0)
    assert caught.value.phase is Phase.REPLY_BROKEN
    assert len(caught.value.message) > 10
    for quoted in ("\n", "<", "hush", "'"):
        assert quoted not in caught.value.message


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
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon here\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2x\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 131_072 + b"\r\n\r\n",
        HEAD_CHUNKED + b"nonsense\r\n",
    ],
    ids=["not HTTP", "no colon", "content length", "long line", "chunk header"],
)
@on_asyncio
async def test_garbage_is_refused(scripted: Any, data: bytes) -> None:
    async with serving(scripted, scripts(data)) as (server, made):
        with fails(Phase.REPLY_BROKEN):
            await made.send(get(server.url), 5.0)


@on_asyncio
async def test_generous_heads(scripted: Any) -> None:
    lines = [(f"X-{number}", "x") for number in range(88)] + [("X-Long", "x" * 60_000)]
    async with serving(scripted, scripts(scripted.reply(b"ok", headers=lines))) as (server, made):
        response = await made.send(get(server.url), 5.0)
    assert response.headers.pairs[:-1] == tuple(lines)


@on_asyncio
async def test_informational_replies_are_skipped(scripted: Any) -> None:
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    data = early + early + scripted.reply(b"ok", status="201 Created")
    async with serving(scripted, scripts(data, data)) as (server, made):
        for _ in range(2):
            response = await made.send(get(server.url), 5.0)
            assert (response.status, response.body) == (201, b"ok")
            assert "Link" not in response.headers
        assert server.connections == 1


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 x")]
)
@on_asyncio
async def test_replies_without_a_body(scripted: Any, method: str, status: str) -> None:
    data = f"HTTP/1.1 {status}\r\nContent-Encoding: br\r\n\r\n".encode()
    async with serving(scripted, scripts(data, data)) as (server, made):
        for _ in range(2):
            assert (await made.send(Request(method, server.url, SENT), 5.0)).body == b""


@pytest.mark.parametrize("cut", [1, 10, 10_000])
@on_asyncio
async def test_gzip_is_undone(scripted: Any, cut: int) -> None:
    coded = gzip.compress(b"hello world")
    chunks = [coded[at : at + cut] for at in range(0, len(coded), cut)]
    data = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n"
        + b"".join(map(scripted.chunk, [*chunks, b""]))
    )
    async with serving(scripted, scripts(data, data)) as (server, made):
        response = await made.send(get(server.url), 5.0)
        assert response.body == b"hello world"
        assert "content-encoding" not in response.headers
        body = await made.open(get(server.url), 5.0)
        assert "content-encoding" not in body.headers
        assert await whole(body) == b"hello world"


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
        body = await made.open(get(server.url), 5.0)
        with fails(Phase.REPLY_BROKEN):
            await whole(body)
        with fails(Phase.REPLY_BROKEN):
            await whole(body)


@on_asyncio
async def test_a_reply_is_bounded(scripted: Any) -> None:
    limit = content_coding.MAX_BODY
    data = scripted.reply(
        gzip.compress(bytes(limit + 1), 1), headers=[("Content-Encoding", "gzip")]
    )
    async with serving(scripted, scripts(data)) as (server, made):
        with fails(Phase.REPLY_BROKEN, f"more than {limit} bytes"):
            await made.send(get(server.url), 20.0)


@on_asyncio
async def test_patience_loses_nothing(scripted: Any) -> None:
    go_on = threading.Semaphore(0)
    # It runs out within a chunk header, within a chunk, within the line end after it.
    pieces = [HEAD_CHUNKED + b"0", b"5;x", b"y\r", b"\nhe", b"llo\r", b"\n0\r\n", b"\r\n"]

    def handler(peer: Any) -> None:
        peer.read_request()
        for piece in pieces:
            peer.send(piece)
            go_on.acquire(timeout=5.0)
        peer.wait_closed()

    async with serving(scripted, handler) as (server, made):
        body = await made.open(get(server.url), 5.0)
        heard = []
        for _ in pieces:
            while True:
                data = await body.read(0.05)
                if data is None:
                    break
                heard.append(data)
                if not data:
                    break
            go_on.release()
        assert b"".join(heard) == b"hello"
        assert heard[-1] == b""
        await body.close()


@on_asyncio
async def test_no_patience_at_all(scripted: Any) -> None:
    async with serving(scripted, scripts(HEAD_CHUNKED)) as (server, made):
        body = await made.open(get(server.url), 5.0)
        assert await body.read(0.0) is None
        assert await body.read(-1.0) is None
        reader = asyncio.ensure_future(body.read(float("inf")))
        await asyncio.sleep(0.05)
        assert not reader.done()
        await body.close()
        with fails(Phase.REPLY_BROKEN):
            await reader


@on_asyncio
async def test_not_sent() -> None:
    made = AiohttpTransport()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with fails(Phase.NOT_SENT, "Cannot connect"):
        await made.send(get(f"http://127.0.0.1:{port}"), 5.0)
    with fails(Phase.NOT_SENT):
        await made.open(get("http://no-such-host.invalid"), 5.0)
    with fails(Phase.NOT_SENT, timed_out=True):
        await made.send(get(f"http://127.0.0.1:{port}"), 0.0)
    await made.close()


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
@on_asyncio
async def test_nothing_is_repeated_on_a_kept_connection(scripted: Any, method: str) -> None:
    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(scripted.reply(b"ok"))
        peer.read_request()
        peer.reset()

    async with serving(scripted, handler) as (server, made):
        await made.send(get(server.url), 5.0)
        with fails(Phase.MAYBE_PROCESSED):
            await made.send(Request(method, server.url, SENT), 5.0)
        assert len(server.requests) == 2


@pytest.mark.parametrize("where", ["head", "body", "chunk header"])
@on_asyncio
async def test_dribbling_bytes_do_not_stretch_the_timeout(scripted: Any, where: str) -> None:
    before = {
        "head": b"HTTP/1.1 200 OK\r\nX: ",
        "body": b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
        "chunk header": HEAD_CHUNKED + b"1;",
    }

    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(before[where])
        while True:
            peer.send(b"x")
            time.sleep(0.02)

    phase = Phase.MAYBE_PROCESSED if where == "head" else Phase.REPLY_BROKEN
    async with serving(scripted, handler) as (server, made):
        begun = time.monotonic()
        with fails(phase, timed_out=True):
            await made.send(get(server.url), 0.3)
        assert time.monotonic() - begun < 1.0


@on_asyncio
async def test_garbage_that_nobody_waits_for_breaks_the_reply(scripted: Any) -> None:
    async with serving(scripted, scripts(HEAD_CHUNKED + b"5\r\nhello\r\n")) as (server, made):
        body = await made.open(get(server.url), 5.0)
        assert await body.read(5.0) == b"hello"
        (peer,) = server._peers
        peer.send(b"no length\r\n")
        await asyncio.get_running_loop().run_in_executor(None, join_handlers, server)
        for _ in range(2):
            with fails(Phase.REPLY_BROKEN):
                await body.read(5.0)
        await body.close()


@pytest.mark.parametrize("what", ["body", "transport"])
@on_asyncio
async def test_close_wakes_a_reader(scripted: Any, what: str) -> None:
    async with serving(scripted, scripts(HEAD_CHUNKED)) as (server, made):
        body = await made.open(get(server.url), 5.0)
        reader = asyncio.ensure_future(body.read(30.0))
        await asyncio.sleep(0.05)
        await (body if what == "body" else made).close()
        with fails(Phase.REPLY_BROKEN, "the stream was closed"):
            await reader


@pytest.mark.parametrize("phase", ["head", "body"])
@on_asyncio
async def test_cancelling_frees_the_connection(scripted: Any, phase: str) -> None:
    closed = threading.Event()

    def handler(peer: Any) -> None:
        request = peer.read_request()
        if request.target == "/next":
            peer.send(scripted.reply(b"ok"))
        elif phase == "body":
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")
        peer.wait_closed()
        closed.set()

    async with serving(scripted, handler, max_connections=1) as (server, made):
        call = asyncio.ensure_future(made.send(get(server.url), 5.0))
        await asyncio.sleep(0.1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await asyncio.get_running_loop().run_in_executor(None, closed.wait, 2.0)
        assert (await made.send(get(server.url, "/next"), 5.0)).body == b"ok"


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
        assert await whole(body) == b"hello"


@on_asyncio
async def test_a_finished_stream_gives_its_connection_back(scripted: Any) -> None:
    data = scripted.reply(b"ok")
    async with serving(scripted, scripts(data, data)) as (server, made):
        for _ in range(2):
            body = await made.open(get(server.url), 5.0)
            assert await whole(body) == b"ok"
            await body.close()
        assert server.connections == 1


@on_asyncio
async def test_calls_are_bounded_and_streams_do_not_count(scripted: Any) -> None:
    lock = threading.Lock()
    now = most = 0

    def handler(peer: Any) -> None:
        nonlocal now, most
        while True:
            request = peer.read_request()
            if request is None:
                return
            if request.target == "/stream":
                peer.send(HEAD_CHUNKED)
                continue
            with lock:
                now += 1
                most = max(most, now)
            time.sleep(0.02)
            with lock:
                now -= 1
            peer.send(scripted.reply(request.target.encode()))

    async with serving(scripted, handler, max_connections=2) as (server, made):
        streams = [await made.open(get(server.url, "/stream"), 5.0) for _ in range(5)]
        answers = await asyncio.gather(
            *(made.send(get(server.url, f"/{number}"), 5.0) for number in range(12))
        )
        assert [answer.body for answer in answers] == [b"/%d" % number for number in range(12)]
        assert most == 2
        assert server.connections == 5 + 2
        for stream in streams:
            await stream.close()


@on_asyncio
async def test_use_after_close(scripted: Any) -> None:
    async with serving(scripted, scripts(HEAD_CHUNKED)) as (server, made):
        body = await made.open(get(server.url), 5.0)
        await made.close()
        await made.close()
        with fails(Phase.REPLY_BROKEN, "closed"):
            await body.read(1.0)
        for use in (made.send, made.open):
            with pytest.raises(RuntimeError, match="closed"):
                await use(get(server.url), 5.0)


def tls_pair(authority: Any, tmp_path: Any, host: str = "127.0.0.1") -> Any:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    return context, str(ca_file)


@on_asyncio
async def test_tls(scripted: Any, authority: Any, tmp_path: Any) -> None:
    context, ca_file = tls_pair(authority, tmp_path)

    def handler(peer: Any) -> None:
        while True:
            request = peer.read_request()
            if request is None:
                return
            peer.send(HEAD_CHUNKED + b"5\r\nhello\r\n")
            if request.method == "POST":
                peer.send(b"0\r\n\r\n")

    async with serving(scripted, handler, context, verify=ca_file) as (server, made):
        for _ in range(2):
            response = await made.send(post(server.url, b"x" * 100_000), 5.0)
            assert response.body == b"hello"
        body = await made.open(get(server.url), 5.0)
        assert await body.read(5.0) == b"hello"
        assert await body.read(0.05) is None
        await body.close()
        assert server.connections == 2


@pytest.mark.parametrize("host", ["127.0.0.1", "example.org"])
@on_asyncio
async def test_tls_is_verified(scripted: Any, authority: Any, tmp_path: Any, host: str) -> None:
    context, ca_file = tls_pair(authority, tmp_path, host)
    verify: Any = True if host == "127.0.0.1" else ca_file
    async with serving(scripted, scripted.echo, context, verify=verify) as (server, made):
        with fails(Phase.NOT_SENT, "(?i)certificate"):
            await made.send(post(server.url), 5.0)
    assert not server.requests


@on_asyncio
async def test_a_callers_session(scripted: Any) -> None:
    data = scripted.reply(b"ok", headers=[("Set-Cookie", "c=d")])
    handler = scripts(data, scripted.reply(b"still open"), HEAD_CHUNKED + b"1\r\nx\r\n")
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session,
        serving(scripted, handler, session=session) as (server, made),
    ):
        response = await made.send(post(server.url), 5.0)
        assert response.body == b"ok"
        received = server.requests[0]
        names = [name for name, _ in received.headers]
        assert names == ["Host", *(name for name, _ in SENT.pairs), "Content-Length"]
        await made.close()
        async with session.get(server.url) as reply:
            assert await reply.read() == b"still open"
        again = AiohttpTransport(session)
        body = await again.open(get(server.url), 5.0)
        assert await body.read(5.0) == b"x"
        assert await body.read(0.05) is None
        await again.close()
        assert not session.closed
        assert server.connections == 1


def test_one_event_loop_after_another(scripted: Any) -> None:
    made = AiohttpTransport()

    async def call(url: str) -> None:
        assert (await made.send(post(url, b"hello"), 5.0)).body == b"hello"
        body = await made.open(post(url, b"hello"), 5.0)
        assert await whole(body) == b"hello"

    with scripted.ScriptedServer(scripted.echo) as server:
        for _ in range(3):
            asyncio.run(call(server.url))
        assert server.connections == 6
        asyncio.run(made.close())


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


@on_asyncio
async def test_no_stream_is_given_out_by_a_transport_that_was_closed(scripted: Any) -> None:
    async with serving(scripted, scripts(HEAD_CHUNKED)) as (server, made):
        exchange = made._exchange

        async def and_is_closed(*arguments: Any) -> Any:
            response = await exchange(*arguments)
            made._closed = True  # as after `close`, whose cut comes too late for the timer
            return response

        made._exchange = and_is_closed
        with fails(Phase.REPLY_BROKEN, "closed by this side"):
            await made.open(get(server.url), 5.0)


def test_dropped_without_close_it_ends_with_its_loop(
    scripted: Any, authority: Any, tmp_path: Any
) -> None:
    context, ca_file = tls_pair(authority, tmp_path)

    async def call(url: str) -> None:
        made = AiohttpTransport(verify=ca_file)
        await made.send(post(url), 5.0)

    with scripted.ScriptedServer(scripted.echo, tls=context) as server:
        with pytest.warns(ResourceWarning, match="unclosed .*AiohttpTransport"):
            asyncio.run(call(server.url))
        join_handlers(server)
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
