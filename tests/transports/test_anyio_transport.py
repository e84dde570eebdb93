"""`AnyioTransport` over real loopback sockets, on asyncio and trio."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import math
import socket
import ssl
import threading
import time
import warnings
import zlib
from typing import Any, Awaitable, Callable

import anyio
import pytest
from anyio.lowlevel import checkpoint

from flowmaestro_core.http import Headers, Phase, Request, Response, TransportFailure
from flowmaestro_transports.anyio_connect import _interleave
from flowmaestro_transports.anyio_pool import IDLE_SECONDS
from flowmaestro_transports.anyio_transport import AnyioTransport
from flowmaestro_transports.contract import AsyncTransport
from flowmaestro_transports.tls import tls_context

Scenario = Callable[[AnyioTransport], Awaitable[Any]]
Play = Callable[..., Any]


@pytest.fixture(params=["asyncio", "trio"])
def play(request: pytest.FixtureRequest) -> Play:
    """Runs a scenario with a transport, on either event loop."""

    def run(scenario: Scenario, **options: Any) -> Any:
        async def main() -> Any:
            transport = AnyioTransport(**options)
            try:
                return await scenario(transport)
            finally:
                await transport.close()

        return anyio.run(main, backend=request.param)

    run.backend = request.param
    return run


def get(server: Any, path: str = "/") -> Request:
    return Request("GET", server.url + path, Headers())


def post(server: Any, body: bytes) -> Request:
    return Request("POST", server.url + "/", Headers(), body)


async def failure(awaitable: Awaitable[Any]) -> TransportFailure:
    with pytest.raises(TransportFailure) as caught:
        await awaitable
    return caught.value


async def read_all(body: Any, patience: float = 5) -> bytes:
    parts = []
    while True:
        data = await body.read(patience)
        assert data is not None
        if not data:
            return b"".join(parts)
        parts.append(data)


def replies(data: bytes) -> Callable[[Any], None]:
    """A handler that answers every request with `data`."""

    def handler(peer: Any) -> None:
        while peer.read_request():
            peer.send(data)

    return handler


def replies_once(data: bytes) -> Callable[[Any], None]:
    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(data)

    return handler


def silent(peer: Any) -> None:
    """Reads and never answers."""
    peer.wait_closed()


# --- Requests and replies -------------------------------------------------------------------


def test_it_is_an_async_transport() -> None:
    assert isinstance(AnyioTransport(), AsyncTransport)


def test_the_request_goes_out_as_it_is(play: Play, scripted: Any) -> None:
    request_headers = Headers([("X-One", "1"), ("accept", "text/plain"), ("X-One", "2")])

    async def scenario(transport: AnyioTransport) -> None:
        url = f"{server.url}/a%20b?q=1#gone"
        reply = await transport.send(Request("PUT", url, request_headers, b"\x00\xffdata"), 5)
        assert reply == Response(200, reply.headers, b"\x00\xffdata")

    with scripted.ScriptedServer(scripted.echo) as server:
        play(scenario)
    [request] = server.requests
    assert (request.method, request.target) == ("PUT", "/a%20b?q=1")
    assert request.headers == [
        ("Host", f"127.0.0.1:{server.port}"),
        *request_headers.pairs,
        ("Content-Length", "6"),
    ]


def test_each_request_has_its_own_headers(play: Play, scripted: Any) -> None:
    values = ["a", "a", "b", "a"]

    async def scenario(transport: AnyioTransport) -> None:
        for value in values:
            await transport.send(Request("GET", server.url, Headers([("X-Value", value)])), 5)

    with scripted.ScriptedServer(scripted.echo) as server:
        play(scenario)
    assert [request["x-value"] for request in server.requests] == values
    assert server.connections == 1


def test_what_the_caller_gives_of_host_and_length_stands(play: Play, scripted: Any) -> None:
    given = Headers([("host", "api.example"), ("Content-Length", "2")])
    with scripted.ScriptedServer(scripted.echo) as server:
        play(lambda t: t.send(Request("POST", server.url, given, b"ab"), 5))
    assert server.requests[0].headers == list(given.pairs)


@pytest.mark.parametrize(
    ("suffix", "target"), [("", "/"), ("?q=1", "/?q=1"), ("/x?y=/z", "/x?y=/z")]
)
def test_the_target(play: Play, scripted: Any, suffix: str, target: str) -> None:
    with scripted.ScriptedServer(scripted.echo) as server:
        play(lambda t: t.send(Request("GET", server.url + suffix, Headers()), 5))
    assert server.requests[0].target == target
    assert "content-length" not in server.requests[0]


def test_a_post_without_body_says_so(play: Play, scripted: Any) -> None:
    with scripted.ScriptedServer(scripted.echo) as server:
        play(lambda t: t.send(post(server, b""), 5))
    assert server.requests[0]["content-length"] == "0"


def test_head_and_body_leave_in_one_write(play: Play, scripted: Any) -> None:
    first = []

    def handler(peer: Any) -> None:
        first.append(peer.sock.recv(65536))
        peer.send(scripted.reply())

    with scripted.ScriptedServer(handler) as server:
        play(lambda t: t.send(post(server, b"x" * 1000), 5))
    assert first[0].endswith(b"\r\n\r\n" + b"x" * 1000)


def test_repeated_headers_keep_order_and_case(play: Play, scripted: Any) -> None:
    fields = [("Set-Cookie", "a=1"), ("x-MiXed", "caf\xe9"), ("Set-Cookie", "b=2")]
    with scripted.ScriptedServer(replies(scripted.reply(headers=fields))) as server:
        reply = play(lambda t: t.send(get(server), 5))
    assert list(reply.headers.pairs)[:3] == fields
    assert reply.headers.get_list("set-cookie") == ["a=1", "b=2"]


def test_no_cookie_is_kept_and_no_redirect_followed(play: Play, scripted: Any) -> None:
    fields = [("Location", "/elsewhere"), ("Set-Cookie", "a=1")]
    answer = scripted.reply(status="302 Found", headers=fields)

    async def scenario(transport: AnyioTransport) -> None:
        for _ in range(2):
            assert (await transport.send(get(server), 5)).status == 302

    with scripted.ScriptedServer(replies(answer)) as server:
        play(scenario)
    assert len(server.requests) == 2
    assert all("cookie" not in request for request in server.requests)


@pytest.mark.parametrize("method", ["send", "open"])
@pytest.mark.parametrize(
    ("verb", "status", "fields"),
    [
        ("HEAD", "200 OK", [("Content-Length", "999"), ("Content-Encoding", "gzip")]),
        ("GET", "204 No Content", []),
        ("GET", "304 Not Modified", [("Content-Length", "999")]),
    ],
)
def test_replies_without_body(
    play: Play, scripted: Any, method: str, verb: str, status: str, fields: Any
) -> None:
    answer = scripted.reply(status=status, headers=fields, length=False)

    async def scenario(transport: AnyioTransport) -> None:
        for _ in range(2):
            request = Request(verb, server.url, Headers())
            if method == "send":
                assert (await transport.send(request, 5)).body == b""
            else:
                assert await read_all(await transport.open(request, 5)) == b""

    with scripted.ScriptedServer(replies(answer)) as server:
        play(scenario)
    assert server.connections == 1


def test_informational_replies_are_skipped(play: Play, scripted: Any) -> None:
    answer = (
        b"HTTP/1.1 100 Continue\r\n\r\n"
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + scripted.reply(b"real")
    )
    with scripted.ScriptedServer(replies(answer)) as server:
        reply = play(lambda t: t.send(get(server), 5))
    assert (reply.status, reply.body) == (200, b"real")


def test_chunks_with_extensions_and_trailers(play: Play, scripted: Any) -> None:
    answer = scripted.reply(headers=[scripted.CHUNKED], length=False)
    answer += b'5;name="v"\r\nhello\r\n6\r\n world\r\n0\r\nX-Trailer: 1\r\n\r\n'

    async def scenario(transport: AnyioTransport) -> None:
        for _ in range(2):
            assert (await transport.send(get(server), 5)).body == b"hello world"

    with scripted.ScriptedServer(replies(answer)) as server:
        play(scenario)
    assert server.connections == 1


def test_a_head_as_long_as_allowed(play: Play, scripted: Any) -> None:
    fields = [(f"X-{n}", "v") for n in range(89)] + [("X-Long", "x" * 60_000)]
    with scripted.ScriptedServer(replies(scripted.reply(b"ok", headers=fields))) as server:
        reply = play(lambda t: t.send(get(server), 5))
    assert reply.body == b"ok"
    assert len(reply.headers["x-long"]) == 60_000


@pytest.mark.parametrize("pause_after", [0, 100, 100_000])
def test_a_head_that_is_too_long(play: Play, scripted: Any, pause_after: int) -> None:
    answer = scripted.reply(headers=[("X-Long", "x" * 131_072)])

    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(answer[:pause_after])
        time.sleep(0.02)
        peer.send(answer[pause_after:])
        peer.wait_closed()

    with scripted.ScriptedServer(handler) as server:
        error = play(lambda t: failure(t.send(get(server), 5)))
    assert error.phase is Phase.REPLY_BROKEN
    assert not error.timed_out


@pytest.mark.parametrize("method", ["send", "open"])
@pytest.mark.parametrize("coding", ["gzip", "X-GZIP", "deflate"])
def test_content_codings_are_undone(play: Play, scripted: Any, method: str, coding: str) -> None:
    plain = b"compress me " * 1000
    packed = zlib.compress(plain) if coding == "deflate" else gzip.compress(plain)
    answer = scripted.reply(packed, headers=[("Content-Encoding", coding), ("X-Kept", "1")])

    async def scenario(transport: AnyioTransport) -> None:
        if method == "send":
            reply: Any = await transport.send(get(server), 5)
            body = reply.body
        else:
            reply = await transport.open(get(server), 5)
            body = await read_all(reply)
        assert body == plain
        assert "content-encoding" not in reply.headers
        assert reply.headers["x-kept"] == "1"

    with scripted.ScriptedServer(replies(answer)) as server:
        play(scenario)


def test_an_unknown_coding_is_refused(play: Play, scripted: Any) -> None:
    answer = scripted.reply(b"\x01\x02", headers=[("Content-Encoding", "br")])

    async def scenario(transport: AnyioTransport) -> None:
        error = await failure(transport.send(get(server), 5))
        assert error.phase is Phase.REPLY_BROKEN
        assert "'br' cannot be undone" in error.message

    with scripted.ScriptedServer(replies(answer)) as server:
        play(scenario)


@pytest.mark.parametrize(
    "packed", [gzip.compress(b"x" * 999)[:-4], b"not gzip at all"], ids=["cut", "plain"]
)
def test_a_damaged_coding(play: Play, scripted: Any, packed: bytes) -> None:
    answer = scripted.reply(packed, headers=[("Content-Encoding", "gzip")])

    async def scenario(transport: AnyioTransport) -> None:
        error = await failure(transport.send(get(server), 5))
        assert error.phase is Phase.REPLY_BROKEN
        assert isinstance(error.__cause__, ValueError)

    with scripted.ScriptedServer(replies(answer)) as server:
        play(scenario)


@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_a_body_beyond_the_cap(
    play: Play, scripted: Any, coding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowmaestro_transports.anyio_body.MAX_BODY", 100_000)
    body = b"x" * 100_001
    packed = gzip.compress(body) if coding == "gzip" else body
    answer = scripted.reply(packed, headers=[("Content-Encoding", coding)])
    with scripted.ScriptedServer(replies(answer)) as server:
        error = play(lambda t: failure(t.send(get(server), 5)))
    assert error.phase is Phase.REPLY_BROKEN
    assert "100000 bytes" in error.message


def test_20_megabytes_both_ways(play: Play, scripted: Any) -> None:
    body = bytes(range(256)) * 81920
    with scripted.ScriptedServer(scripted.echo) as server:
        reply = play(lambda t: t.send(post(server, body), 20))
    assert reply.body == body


def test_a_reply_before_the_request_was_read(play: Play, scripted: Any) -> None:
    def handler(peer: Any) -> None:
        peer.sock.recv(1000)
        peer.send(scripted.reply(b"too large", status="413 Payload Too Large"))
        peer.sock.shutdown(socket.SHUT_RD)
        time.sleep(0.05)
        peer.reset()

    async def scenario(transport: AnyioTransport) -> Response:
        return await transport.send(post(server, b"x" * 20_000_000), 5)

    with scripted.ScriptedServer(handler) as server:
        assert play(scenario).status == 413


# --- Keep-alive -------------------------------------------------------------------------------


def test_a_connection_is_used_again(play: Play, scripted: Any) -> None:
    async def scenario(transport: AnyioTransport) -> None:
        for n in range(5):
            assert (await transport.send(post(server, b"%d" % n), 5)).body == b"%d" % n
        body = await transport.open(post(server, b"open"), 5)
        assert await read_all(body) == b"open"
        await transport.send(get(server), 5)
        body = await transport.open(post(server, b"seen whole"), 5)
        assert await body.read(5) == b"seen whole"
        await body.close()
        await transport.send(get(server), 5)

    with scripted.ScriptedServer(scripted.echo) as server:
        play(scenario)
    assert server.connections == 1


def test_a_connection_reset_in_the_very_moment(
    play: Play, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing could be sent, so nothing was processed."""
    monkeypatch.setattr("flowmaestro_transports.anyio_socket.Socket.dropped", lambda self: False)

    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(scripted.reply())
        time.sleep(0.02)
        peer.reset()

    async def scenario(transport: AnyioTransport) -> None:
        await transport.send(get(server), 5)
        await anyio.sleep(0.1)
        error = await failure(transport.send(post(server, b"2"), 5))
        assert error.phase is Phase.NOT_SENT
        assert not error.timed_out

    with scripted.ScriptedServer(handler) as server:
        play(scenario)


@pytest.mark.parametrize("how", ["close", "reset", "speak"])
def test_a_stale_connection_is_not_used(play: Play, scripted: Any, how: str) -> None:
    gone = threading.Event()

    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(scripted.reply(b"%d" % peer.number))
        if peer.number == 0:
            if how == "speak":
                peer.send(scripted.reply(b"unasked", status="408 Request Timeout"))
            else:
                getattr(peer, how)()
            gone.set()
        peer.wait_closed()

    async def scenario(transport: AnyioTransport) -> None:
        assert (await transport.send(post(server, b"1"), 5)).body == b"0"
        gone.wait(5)
        await anyio.sleep(0.05)
        assert (await transport.send(post(server, b"2"), 5)).body == b"1"

    with scripted.ScriptedServer(handler) as server:
        play(scenario)
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more",
    ],
)
def test_what_may_not_be_used_again(play: Play, scripted: Any, answer: bytes) -> None:
    async def scenario(transport: AnyioTransport) -> None:
        for _ in range(2):
            assert (await transport.send(get(server), 5)).body == b"ok"

    with scripted.ScriptedServer(replies(answer)) as server:
        play(scenario)
    assert server.connections == 2


def test_a_body_ended_by_the_connection(play: Play, scripted: Any) -> None:
    with scripted.ScriptedServer(replies_once(b"HTTP/1.0 200 OK\r\n\r\nall of it")) as server:
        reply = play(lambda t: t.send(get(server), 5))
    assert reply.body == b"all of it"


def test_an_idle_connection_expires(
    play: Play, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(transport: AnyioTransport) -> None:
        await transport.send(get(server), 5)
        monkeypatch.setattr(time, "monotonic", lambda: real() + IDLE_SECONDS + 1)
        await transport.send(get(server), 5)

    real = time.monotonic
    with scripted.ScriptedServer(scripted.echo) as server:
        play(scenario)
    assert server.connections == 2


def test_idle_connections_are_bounded(play: Play, scripted: Any) -> None:
    async def scenario(transport: AnyioTransport) -> None:
        bodies = [await transport.open(post(server, b"x"), 5) for _ in range(5)]
        for body in bodies:
            await read_all(body)
        assert transport._pool is not None
        assert transport._pool.idle_count == 2

    with scripted.ScriptedServer(scripted.echo) as server:
        play(scenario, max_connections=2)


# --- Open bodies ------------------------------------------------------------------------------


def test_a_quiet_body_goes_on(play: Play, scripted: Any) -> None:
    """Patience runs out between chunks, inside a chunk header, inside a chunk and its end."""
    pieces = [b"5\r", b"\nhe", b"llo", b"\r", b"\n3;x", b"=y\r\nabc\r\n", b"0\r\n", b"\r\n"]
    go = threading.Semaphore(0)

    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(scripted.reply(headers=[scripted.CHUNKED], length=False))
        for piece in pieces:
            assert go.acquire(timeout=5)
            peer.send(piece)

    async def scenario(transport: AnyioTransport) -> None:
        body = await transport.open(get(server), 5)
        assert body.status == 200
        seen = []
        assert await body.read(0) is None
        for _ in pieces:
            assert await body.read(0.02) is None
            go.release()
            await anyio.sleep(0.02)
            seen.append(await body.read(0.02))
        assert seen == [None, b"he", b"llo", None, None, b"abc", None, b""]
        assert await body.read(1) == b""

    with scripted.ScriptedServer(handler) as server:
        play(scenario)


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


def test_what_has_arrived_comes_in_one_piece(play: Play, scripted: Any) -> None:
    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(scripted.reply(headers=[scripted.CHUNKED], length=False))
        sent.wait(5)
        peer.send(b"".join(scripted.chunk(b"event %d\n" % n) for n in range(100)))
        peer.wait_closed()

    sent = threading.Event()

    async def scenario(transport: AnyioTransport) -> None:
        body = await transport.open(get(server), 5)
        assert await body.read(0.01) is None
        sent.set()
        await anyio.sleep(0.05)
        data = await body.read(5)
        assert data is not None
        assert data.count(b"\n") == 100
        await body.close()

    with scripted.ScriptedServer(handler) as server:
        play(scenario)


def test_closing_a_body_hangs_up(play: Play, scripted: Any) -> None:
    hung_up = threading.Event()

    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(scripted.reply(headers=[scripted.CHUNKED], length=False))
        peer.wait_closed()
        hung_up.set()

    async def scenario(transport: AnyioTransport) -> None:
        body = await transport.open(get(server), 5)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await body.close()  # in a cancelled task
        assert hung_up.wait(2)
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


def test_a_dropped_body_hangs_up(play: Play, scripted: Any) -> None:
    hung_up = threading.Event()

    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(scripted.reply(headers=[scripted.CHUNKED], length=False))
        peer.wait_closed()
        hung_up.set()

    async def scenario(transport: AnyioTransport) -> None:
        body = await transport.open(get(server), 5)
        await body.read(0)
        await checkpoint()  # until then, the event loop still holds the cancellation and its frames
        del body
        gc.collect()
        assert hung_up.wait(2)

    with scripted.ScriptedServer(handler) as server:
        play(scenario)


# --- Failures and their phases ----------------------------------------------------------------


def test_refused(play: Play) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    request = Request("GET", f"http://127.0.0.1:{port}/", Headers())
    error = play(lambda t: failure(t.send(request, 5)))
    assert error.phase is Phase.NOT_SENT
    assert isinstance(error.__cause__, ConnectionRefusedError)


def test_unknown_host(play: Play) -> None:
    request = Request("GET", "http://no-such-host.invalid/", Headers())
    error = play(lambda t: failure(t.send(request, 5)))
    assert error.phase is Phase.NOT_SENT
    assert isinstance(error.__cause__, OSError)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1/",
        "http://",
        "http:///x",
        "http://127.0.0.1:port/",
        "http://127.0.0.1:99999/",
        "http://me:secret@127.0.0.1/",
        "http://" + "x" * 64 + ".example/",
        "/relative",
    ],
)
def test_bad_urls(play: Play, url: str) -> None:
    error = play(lambda t: failure(t.send(Request("GET", url, Headers()), 5)))
    assert error.phase is Phase.NOT_SENT
    assert "secret" not in f"{error}{error.__cause__}"


@pytest.mark.parametrize("value", ["se\r\ncret", "se\u2028cret"])
def test_a_header_that_cannot_be_sent(play: Play, scripted: Any, value: str) -> None:
    async def scenario(transport: AnyioTransport) -> None:
        request = Request("GET", server.url, Headers([("X-API-Key", value)]))
        error = await failure(transport.send(request, 5))
        assert error.phase is Phase.NOT_SENT
        assert error.__cause__ is None
        assert error.__suppress_context__
        assert "cret" not in str(error)

    with scripted.ScriptedServer(scripted.echo) as server:
        play(scenario)


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("method", ["send", "open"])
@pytest.mark.parametrize(
    ("sent", "phase"),
    [
        (b"", Phase.MAYBE_PROCESSED),
        (b"H", Phase.REPLY_BROKEN),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", Phase.REPLY_BROKEN),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n1234", Phase.REPLY_BROKEN),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", Phase.REPLY_BROKEN),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", Phase.REPLY_BROKEN),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", Phase.REPLY_BROKEN),
        (b"\x16\x03\x01 this is not HTTP\r\n\r\n", Phase.REPLY_BROKEN),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", Phase.REPLY_BROKEN),
    ],
)
def test_a_reply_that_breaks_off(
    play: Play, scripted: Any, how: str, method: str, sent: bytes, phase: Phase
) -> None:
    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(sent)
        time.sleep(0.02)
        getattr(peer, how)()

    async def scenario(transport: AnyioTransport) -> None:
        async def attempt() -> None:
            if method == "send":
                await transport.send(get(server), 5)
            else:
                await read_all(await transport.open(get(server), 5))

        error = await failure(attempt())
        assert error.phase is phase
        assert not error.timed_out
        assert error.__cause__ is not None

    with scripted.ScriptedServer(handler) as server:
        play(scenario)


def test_an_upgrade_is_no_reply(play: Play, scripted: Any) -> None:
    asked = Headers([("Connection", "upgrade"), ("Upgrade", "x")])
    answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
    with scripted.ScriptedServer(replies(answer)) as server:
        error = play(lambda t: failure(t.send(Request("GET", server.url, asked), 5)))
    assert error.phase is Phase.REPLY_BROKEN


def test_bytes_before_a_break_are_handed_over(play: Play, scripted: Any) -> None:
    broken = scripted.reply(headers=[scripted.CHUNKED], length=False)
    broken += scripted.chunk(b"good") + b"garbage\r\n"

    async def scenario(transport: AnyioTransport) -> None:
        body = await transport.open(get(server), 5)
        assert await body.read(5) == b"good"
        assert (await failure(body.read(5))).phase is Phase.REPLY_BROKEN
        assert (await failure(body.read(5))).phase is Phase.REPLY_BROKEN

    with scripted.ScriptedServer(replies(broken)) as server:
        play(scenario)


# --- Time limits ------------------------------------------------------------------------------


def dribble(peer: Any, data: bytes) -> None:
    for n in range(len(data)):
        peer.send(data[n : n + 1])
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("sent", "phase"),
    [
        (b"", Phase.MAYBE_PROCESSED),
        (b"HTTP/1.1 2", Phase.REPLY_BROKEN),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n12345", Phase.REPLY_BROKEN),
    ],
)
def test_too_slow(play: Play, scripted: Any, sent: bytes, phase: Phase) -> None:
    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(sent)
        peer.wait_closed()

    async def scenario(transport: AnyioTransport) -> None:
        start = transport.now()
        error = await failure(transport.send(get(server), 0.1))
        assert 0.09 < transport.now() - start < 2
        assert error.phase is phase
        assert error.timed_out

    with scripted.ScriptedServer(handler) as server:
        play(scenario)


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"])
def test_dribbling_does_not_stretch_the_limit(play: Play, scripted: Any, start: bytes) -> None:
    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(start)
        dribble(peer, b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 100)

    async def scenario(transport: AnyioTransport) -> None:
        start = transport.now()
        error = await failure(transport.send(get(server), 0.1))
        assert transport.now() - start < 1
        assert error.timed_out
        assert error.phase is Phase.REPLY_BROKEN

    with scripted.ScriptedServer(handler) as server:
        play(scenario)


def test_a_request_that_is_not_read_times_out(play: Play, scripted: Any) -> None:
    release = threading.Event()

    async def scenario(transport: AnyioTransport) -> None:
        error = await failure(transport.send(post(server, b"x" * 20_000_000), 0.1))
        release.set()
        assert error.timed_out
        assert error.phase is Phase.MAYBE_PROCESSED

    with scripted.ScriptedServer(lambda peer: release.wait(5)) as server:
        play(scenario)


@contextlib.contextmanager
def full_listener() -> Any:
    """An address that neither accepts nor refuses a connection: its backlog is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        time.sleep(0.05)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"


def test_connecting_is_bounded(play: Play) -> None:
    with full_listener() as url:
        error = play(lambda t: failure(t.send(Request("POST", url, Headers()), 0.1)))
    assert error.timed_out
    assert error.phase is Phase.NOT_SENT


def test_a_tls_handshake_is_bounded(play: Play, scripted: Any) -> None:
    async def scenario(transport: AnyioTransport) -> None:
        url = server.url.replace("http:", "https:")
        error = await failure(transport.send(Request("GET", url, Headers()), 0.1))
        assert error.timed_out
        assert error.phase is Phase.NOT_SENT

    with scripted.ScriptedServer(silent) as server:
        play(scenario, verify=False)


def test_no_time_at_all_sends_nothing(play: Play, scripted: Any) -> None:
    async def scenario(transport: AnyioTransport) -> None:
        await transport.send(get(server), 5)
        error = await failure(transport.send(post(server, b""), 0))
        assert error.timed_out
        assert error.phase is Phase.NOT_SENT

    with scripted.ScriptedServer(scripted.echo) as server:
        play(scenario)
    assert len(server.requests) == 1


# --- Slots ------------------------------------------------------------------------------------


def test_calls_in_flight_are_bounded(play: Play, scripted: Any) -> None:
    lock = threading.Lock()
    busy = most = 0

    def handler(peer: Any) -> None:
        nonlocal busy, most
        while True:
            request = peer.read_request()
            if request is None:
                return
            with lock:
                busy += 1
                most = max(most, busy)
            time.sleep(0.01)
            with lock:
                busy -= 1
            peer.send(scripted.reply(request.body))

    async def scenario(transport: AnyioTransport) -> None:
        async def call(n: int) -> None:
            body = b"%d" % n
            assert (await transport.send(post(server, body), 5)).body == body

        async with anyio.create_task_group() as tasks:
            for n in range(10):
                tasks.start_soon(call, n)

    with scripted.ScriptedServer(handler) as server:
        play(scenario, max_connections=2)
    assert most == 2
    assert server.connections == 2


def test_open_bodies_take_no_slot(play: Play, scripted: Any) -> None:
    def handler(peer: Any) -> None:
        request = peer.read_request()
        if request.target == "/events":
            peer.send(scripted.reply(headers=[scripted.CHUNKED], length=False))
            peer.wait_closed()
        else:
            peer.send(scripted.reply(b"call"))

    async def scenario(transport: AnyioTransport) -> None:
        bodies = [await transport.open(get(server, "/events"), 5) for _ in range(5)]
        assert (await transport.send(get(server), 5)).body == b"call"
        for body in bodies:
            assert await body.read(0) is None
            await body.close()

    with scripted.ScriptedServer(handler) as server:
        play(scenario, max_connections=2)


def test_waiting_for_a_slot_counts(play: Play, scripted: Any) -> None:
    async def scenario(transport: AnyioTransport) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(transport.send, get(server), 60)
            await anyio.sleep(0.02)
            error = await failure(transport.send(get(server), 0.05))
            assert error.timed_out
            assert error.phase is Phase.NOT_SENT
            tasks.cancel_scope.cancel()

    with scripted.ScriptedServer(silent) as server:
        play(scenario, max_connections=1)


# --- Cancelling -------------------------------------------------------------------------------


async def start_and_cancel(call: Callable[..., Awaitable[Any]], *args: Any) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call, *args)
        await anyio.sleep(0.03)
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("method", ["send", "open"])
@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"])
def test_cancelled_while_waiting_for_the_reply(
    play: Play, scripted: Any, method: str, sent: bytes
) -> None:
    hung_up = threading.Event()

    def handler(peer: Any) -> None:
        request = peer.read_request()
        if request.target == "/stuck":
            peer.send(sent)
            peer.wait_closed()
            hung_up.set()
        else:
            peer.send(scripted.reply(b"fine"))

    async def scenario(transport: AnyioTransport) -> None:
        await start_and_cancel(getattr(transport, method), get(server, "/stuck"), 60)
        assert hung_up.wait(2)
        assert (await transport.send(get(server), 5)).body == b"fine"

    with scripted.ScriptedServer(handler) as server:
        play(scenario, max_connections=1)


def test_cancelled_in_the_body(play: Play, scripted: Any) -> None:
    def handler(peer: Any) -> None:
        request = peer.read_request()
        peer.send(scripted.reply(b"fine")[: -1 if request.target == "/stuck" else None])
        peer.wait_closed()

    async def scenario(transport: AnyioTransport) -> None:
        await start_and_cancel(transport.send, get(server, "/stuck"), 60)
        assert (await transport.send(get(server), 5)).body == b"fine"

    with scripted.ScriptedServer(handler) as server:
        play(scenario, max_connections=1)


def test_cancelled_while_sending(play: Play, scripted: Any) -> None:
    release = threading.Event()

    def handler(peer: Any) -> None:
        if peer.number == 0:
            release.wait(5)
        else:
            peer.read_request()
            peer.send(scripted.reply(b"fine"))

    async def scenario(transport: AnyioTransport) -> None:
        await start_and_cancel(transport.send, post(server, b"x" * 20_000_000), 60)
        release.set()
        assert (await transport.send(get(server), 5)).body == b"fine"

    with scripted.ScriptedServer(handler) as server:
        play(scenario, max_connections=1)


def test_cancelled_while_connecting(play: Play, scripted: Any) -> None:
    async def scenario(transport: AnyioTransport) -> None:
        await start_and_cancel(transport.send, Request("GET", url, Headers()), 60)
        tls = Request("GET", server.url.replace("http:", "https:"), Headers())
        await start_and_cancel(transport.send, tls, 60)
        assert (await transport.send(post(other, b"fine"), 5)).body == b"fine"

    silence, echo = scripted.ScriptedServer(silent), scripted.ScriptedServer(scripted.echo)
    with full_listener() as url, silence as server, echo as other:
        play(scenario, max_connections=1, verify=False)


def test_cancelled_while_waiting_for_a_slot(play: Play, scripted: Any) -> None:
    release = threading.Event()

    def handler(peer: Any) -> None:
        while peer.read_request():
            assert release.wait(5)
            peer.send(scripted.reply(b"fine"))

    async def scenario(transport: AnyioTransport) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(transport.send, get(server), 60)
            await anyio.sleep(0.02)
            await start_and_cancel(transport.send, get(server), 60)
            release.set()
        assert (await transport.send(get(server), 5)).body == b"fine"

    with scripted.ScriptedServer(handler) as server:
        play(scenario, max_connections=1)
    assert len(server.requests) == 2


@pytest.mark.parametrize("method", ["send", "open"])
def test_cancelled_the_asyncio_way(scripted: Any, method: str) -> None:
    def handler(peer: Any) -> None:
        request = peer.read_request()
        if request.target == "/":
            peer.send(scripted.reply(b"fine"))
        peer.wait_closed()

    async def main() -> None:
        transport = AnyioTransport(max_connections=1)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(getattr(transport, method)(get(server, "/stuck"), 60), 0.03)
        assert (await transport.send(get(server), 5)).body == b"fine"
        await transport.close()

    with scripted.ScriptedServer(handler) as server:
        asyncio.run(main())


def test_a_cancelled_task_sends_nothing(play: Play, scripted: Any) -> None:
    async def scenario(transport: AnyioTransport) -> None:
        await transport.send(get(server), 5)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await transport.send(post(server, b""), 5)

    with scripted.ScriptedServer(scripted.echo) as server:
        play(scenario)
    assert len(server.requests) == 1


# --- Lifecycle --------------------------------------------------------------------------------


def test_closed_is_closed(play: Play, scripted: Any) -> None:
    async def scenario(transport: AnyioTransport) -> None:
        await transport.send(get(server), 5)
        await transport.close()
        await transport.close()
        for call in (transport.send, transport.open):
            with pytest.raises(RuntimeError, match="closed"):
                await call(get(server), 5)

    with scripted.ScriptedServer(scripted.echo) as server:
        play(scenario)


def test_close_while_calls_are_in_flight(play: Play, scripted: Any) -> None:
    async def scenario(transport: AnyioTransport) -> None:
        errors = []

        async def call(request: Request) -> None:
            errors.append(await failure(transport.send(request, 60)))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, Request("GET", url, Headers()))  # connecting
            await anyio.sleep(0.02)
            tasks.start_soon(call, get(server))  # waiting for the head
            await anyio.sleep(0.05)
            tasks.start_soon(call, get(server))  # waiting for a slot
            await anyio.sleep(0.02)
            await transport.close()
        assert sorted(error.phase.value for error in errors) == [
            "maybe processed",
            "not sent",
            "not sent",
        ]
        assert not any(error.timed_out for error in errors)

    with full_listener() as url, scripted.ScriptedServer(silent) as server:
        play(scenario, max_connections=2)


@pytest.mark.parametrize("second", ["asyncio", "trio"])
def test_one_event_loop_after_the_other(play: Play, scripted: Any, second: str) -> None:
    transport = AnyioTransport()
    kept = []

    async def use() -> None:
        assert (await transport.send(post(server, b"x"), 5)).body == b"x"
        kept.append(await transport.open(post(server, b"left open"), 5))

    with scripted.ScriptedServer(scripted.echo) as server:
        anyio.run(use, backend=play.backend)  # type: ignore[attr-defined]
        anyio.run(use, backend=second)
        kept.clear()
        anyio.run(transport.close, backend=second)
    assert server.connections == 2


def test_closed_from_another_event_loop(play: Play, scripted: Any) -> None:
    transport = AnyioTransport()
    with scripted.ScriptedServer(scripted.echo) as server:
        anyio.run(transport.send, get(server), 5, backend=play.backend)  # type: ignore[attr-defined]
        anyio.run(transport.close, backend="asyncio")


def test_collected_without_close(play: Play, scripted: Any) -> None:
    async def use() -> None:
        await AnyioTransport().send(get(server), 5)

    recording = warnings.catch_warnings(record=True)
    with scripted.ScriptedServer(scripted.echo) as server, recording as caught:
        warnings.simplefilter("always")
        anyio.run(use, backend=play.backend)  # type: ignore[attr-defined]
        gc.collect()
    assert [warning.category for warning in caught] == [ResourceWarning]


def test_the_clock_and_sleep(play: Play) -> None:
    async def scenario(transport: AnyioTransport) -> None:
        start = transport.now()
        await transport.sleep(0.02)
        assert 0.015 < transport.now() - start < 1

    play(scenario)


@pytest.mark.parametrize("number", [0, -1])
def test_bad_options(number: int) -> None:
    with pytest.raises(ValueError, match="max_connections"):
        AnyioTransport(max_connections=number)
    with pytest.raises(FileNotFoundError):
        AnyioTransport(verify="/no/such/file.pem")
    with pytest.raises(TypeError):
        AnyioTransport(verify=None)  # type: ignore[arg-type]


def test_500_tasks_without_cross_talk(play: Play, scripted: Any) -> None:
    async def scenario(transport: AnyioTransport) -> None:
        async def call(n: int) -> None:
            body = b"%d" % n
            assert (await transport.send(post(server, body), 30)).body == body

        async with anyio.create_task_group() as tasks:
            for n in range(500):
                tasks.start_soon(call, n)

    with scripted.ScriptedServer(scripted.echo) as server:
        play(scenario, max_connections=20)
    assert server.connections <= 20


# --- TLS and addresses ------------------------------------------------------------------------


@pytest.fixture
def server_tls(authority: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "::1", "localhost").configure_cert(context)
    return context


@pytest.fixture
def ca_file(authority: Any, tmp_path: Any) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.mark.parametrize("trust", ["file", "context", "environment", "none"])
def test_tls(
    play: Play,
    scripted: Any,
    server_tls: ssl.SSLContext,
    ca_file: str,
    trust: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    verify: Any = {"file": ca_file, "environment": True, "none": False}.get(trust)
    if trust == "context":
        verify = ssl.create_default_context(cafile=ca_file)
    if trust == "environment":
        monkeypatch.setenv("SSL_CERT_FILE", ca_file)
    big = b"x" * 1_000_000

    async def scenario(transport: AnyioTransport) -> None:
        for _ in range(3):
            assert (await transport.send(post(server, b"small"), 5)).body == b"small"
        assert (await transport.send(post(server, big), 10)).body == big
        body = await transport.open(post(server, big), 5)
        assert await read_all(body) == big

    with scripted.ScriptedServer(scripted.echo, tls=server_tls) as server:
        play(scenario, verify=verify)
    assert server.connections == 1


def test_an_unknown_authority_is_refused(
    play: Play, scripted: Any, server_tls: ssl.SSLContext
) -> None:
    with scripted.ScriptedServer(scripted.echo, tls=server_tls) as server:
        error = play(lambda t: failure(t.send(get(server), 5)))
    assert error.phase is Phase.NOT_SENT
    assert isinstance(error.__cause__, ssl.SSLCertVerificationError)
    assert server.requests == []


def test_a_wrong_host_is_refused(play: Play, scripted: Any, authority: Any, ca_file: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("elsewhere.example").configure_cert(context)
    with scripted.ScriptedServer(scripted.echo, tls=context) as server:
        error = play(lambda t: failure(t.send(get(server), 5)), verify=ca_file)
    assert error.phase is Phase.NOT_SENT
    assert isinstance(error.__cause__, ssl.SSLCertVerificationError)


def test_tls_patience_and_stale_connections(
    play: Play, scripted: Any, server_tls: ssl.SSLContext, ca_file: str
) -> None:
    go = threading.Event()

    def handler(peer: Any) -> None:
        peer.read_request()
        if peer.number == 0:
            peer.send(scripted.reply(headers=[scripted.CHUNKED], length=False))
            peer.send(b"4")
            assert go.wait(5)
            peer.send(b"\r\nab")
            peer.send(b"cd\r\n0\r\n\r\n")
        else:
            peer.send(scripted.reply(b"fine"))

    async def scenario(transport: AnyioTransport) -> None:
        body = await transport.open(get(server), 5)
        assert await body.read(0.03) is None
        go.set()
        assert await read_all(body) == b"abcd"
        await anyio.sleep(0.05)  # the server hangs up
        assert (await transport.send(get(server), 5)).body == b"fine"

    with scripted.ScriptedServer(handler, tls=server_tls) as server:
        play(scenario, verify=ca_file)


def test_a_tls_body_cut_short(
    play: Play, scripted: Any, server_tls: ssl.SSLContext, ca_file: str
) -> None:
    """Without TLS's own goodbye, the end of the connection is not the end of a body."""

    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nsome of it")
        raw = peer.sock.detach()
        socket.close(raw)

    with scripted.ScriptedServer(handler, tls=server_tls) as server:
        error = play(lambda t: failure(t.send(get(server), 5)), verify=ca_file)
    assert error.phase is Phase.REPLY_BROKEN


def test_ipv6(play: Play, scripted: Any, server_tls: ssl.SSLContext, ca_file: str) -> None:
    try:
        server = scripted.ScriptedServer(scripted.echo, host="::1", tls=server_tls)
    except OSError:
        pytest.skip("no IPv6 here")
    with server:
        assert play(lambda t: t.send(get(server), 5), verify=ca_file).status == 200
    assert server.requests[0]["host"] == f"[::1]:{server.port}"


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Says which `(host, port)` the name many.example stands for."""

    def stand_for(*addresses: Any) -> None:
        async def getaddrinfo(host: str, port: int, **options: Any) -> Any:
            assert host == "many.example"
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", where) for where in addresses]

        monkeypatch.setattr(anyio, "getaddrinfo", getaddrinfo)

    return stand_for


MANY = Request("GET", "http://many.example/", Headers())


def refused() -> Any:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()


def test_the_next_address_is_tried(play: Play, scripted: Any, resolve: Any) -> None:
    async def scenario(transport: AnyioTransport) -> None:
        start = transport.now()
        assert (await transport.send(MANY, 5)).status == 200
        assert transport.now() - start < 0.2  # a refusal is no reason to wait

    with scripted.ScriptedServer(scripted.echo) as server:
        resolve(refused(), ("127.0.0.1", server.port), refused())
        play(scenario)
    assert server.connections == 1


def test_a_silent_address_gets_a_head_start_only(play: Play, scripted: Any, resolve: Any) -> None:
    async def scenario(transport: AnyioTransport) -> None:
        start = transport.now()
        assert (await transport.send(MANY, 5)).status == 200
        assert 0.2 < transport.now() - start < 1

    with full_listener() as url, scripted.ScriptedServer(scripted.echo) as server:
        resolve(("127.0.0.1", int(url.rsplit(":")[-1][:-1])), ("127.0.0.1", server.port))
        play(scenario)


def test_all_addresses_refuse(play: Play, resolve: Any) -> None:
    resolve(refused(), refused())
    error = play(lambda t: failure(t.send(MANY, 5)))
    assert error.phase is Phase.NOT_SENT
    assert isinstance(error.__cause__, ConnectionRefusedError)


def test_a_race_is_cancelled(play: Play, resolve: Any) -> None:
    async def scenario(transport: AnyioTransport) -> None:
        error = await failure(transport.send(MANY, 0.3))
        assert error.timed_out
        assert error.phase is Phase.NOT_SENT

    with full_listener() as url:
        where = ("127.0.0.1", int(url.rsplit(":")[-1][:-1]))
        resolve(where, where)
        play(scenario)


def test_families_take_turns() -> None:
    six, four = socket.AF_INET6, socket.AF_INET
    given = [(six, 1), (six, 2), (six, 3), (four, 4), (four, 5)]
    assert _interleave(given) == [(six, 1), (four, 4), (six, 2), (four, 5), (six, 3)]
    assert _interleave([]) == []


def test_names_race_their_addresses(play: Play, scripted: Any) -> None:
    """`localhost` may resolve to ::1 first, where nobody listens."""
    with scripted.ScriptedServer(scripted.echo, name="localhost") as server:
        assert play(lambda t: t.send(get(server), 5)).status == 200
    assert server.requests[0]["host"] == f"localhost:{server.port}"


def test_contexts_are_made_once(ca_file: str) -> None:
    assert tls_context() is tls_context(True)
    assert tls_context(ca_file) is tls_context(ca_file)
    assert tls_context(False).verify_mode is ssl.CERT_NONE
    assert tls_context(False) is not tls_context(True)
    own = ssl.create_default_context()
    assert tls_context(own) is own
